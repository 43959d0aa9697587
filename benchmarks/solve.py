"""Kernel regression at scale: Cholesky, conjugate gradients on stored tiles, EigenPro.

``python -m benchmarks.solve [--n N] [--method NAME …]``; each method is merged into
``results/solve.json``. Inputs: the handwritten digits of scikit-learn, shifted by up to a pixel and
with noise, until there are N; float32, NTK of a ReLU network of depth 3; ten one-hot targets.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import kadanoff as kd
from kadanoff.data import load
from kadanoff.files import atomic_write, write_json
from kadanoff.kernels import kernel, solve
from kadanoff.kernels.storage import stream

RESULTS = Path(__file__).parent / "results"
REGULARISER = 1e-3
METHODS = ("cholesky", "pcg", "eigenpro")


def digits(N: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """N training images made of three quarters of the digits; the last quarter as they are."""
    batch = load("digits", batch=None)
    images, labels = batch.inputs.reshape(-1, 8, 8).float(), batch.targets
    images = (images - images.mean()) / images.std()
    g = torch.Generator().manual_seed(0)
    order = torch.randperm(len(images), generator=g)
    train, test = order[: 3 * len(order) // 4], order[3 * len(order) // 4 :]
    index = train[torch.randint(len(train), (N,), generator=g)]
    X = images[index]
    for axis in (1, 2):
        shift = torch.randint(-1, 2, (N,), generator=g)
        X = torch.stack([x.roll(int(s), axis - 1) for x, s in zip(X, shift)])
    X = X + 0.1 * torch.randn(X.shape, generator=g)
    return X.flatten(1), labels[index], images[test].flatten(1), labels[test]


def one_hot(labels: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.one_hot(labels.long(), 10).double() - 0.1


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(method: str, N: int) -> dict[str, Any]:
    X, labels, X_test, truth = digits(N)
    ours = kernel(kd.MLP(64, [1, 1], 1, "relu", C_W=2.0, C_b=0.0, lambda_b=0.0, lambda_W=2.0))
    Y = one_hot(labels)
    row: dict[str, Any] = {"method": method, "N": N, "threads": torch.get_num_threads()}
    marks: list[tuple[float, int, float]] = []

    def note(done: int, total: int, residual: float = float("nan")) -> None:
        marks.append((time.perf_counter(), done, residual))

    scale = float(ours.diagonal(X[:64], get="ntk").mean())
    options: dict[str, Any] = {"regulariser": REGULARISER * scale, "progress": note}
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        if method == "pcg":
            K = stream(ours, X, Path(folder) / "gram.npy")
            row["gram_seconds"] = time.perf_counter() - start
            row["gigabytes"] = K.nbytes / 1e9
            middle = time.perf_counter()
            found = solve(K, Y, method="pcg", tolerance=1e-6, rank=1000, **options)
        elif method == "eigenpro":
            middle = time.perf_counter()
            found = solve(
                ours, Y, X=X, method="eigenpro", tolerance=3e-2, rank=2000, iterations=100,
                **options,
            )  # fmt: skip
        else:
            K = ours(X, get="ntk")
            row["gram_seconds"] = time.perf_counter() - start
            row["gigabytes"] = K.numel() * K.element_size() / 1e9
            middle = time.perf_counter()
            found = solve(K, Y, method="cholesky", **options)
        row["solve_seconds"] = time.perf_counter() - middle
    if len(marks) > 1:
        steps = marks[-1][1] - marks[0][1]
        row["step_seconds"] = (marks[-1][0] - marks[0][0]) / max(1, steps)
    alpha = found.alpha.float()
    guess = torch.zeros(len(X_test), 10)
    for at in range(0, N, 4096):
        part = slice(at, at + 4096)
        guess += ours(X_test, X[part], get="ntk") @ alpha[part]
    row |= {"residual": found.residual, "iterations": found.iterations, "peak_mb": peak_mb(),
            "test_error": float((guess.argmax(1) != truth).float().mean()),
            "load": os.getloadavg()[0]}  # fmt: skip
    return row


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "### Kernel regression at scale", "",
        "`python -m benchmarks.solve`", "",
        "(K + λ) α = y for ten outputs: NTK of a ReLU network of depth 3, float32, digits shifted "
        f"and with noise, λ = {REGULARISER:g} of the diagonal. Cholesky in memory (float32 factor, "
        "float64 refinement), conjugate gradients on a memory-mapped file with a Nyström "
        "preconditioner, EigenPro recomputing every entry in every epoch. A step is an iteration "
        "or an epoch; test error on the digits left out. Two cores.", "",
        "| method | N | K, s | K, GB | solve, s | steps | s a step | residual | peak MB | "
        "test error |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for r in rows:
        lines.append(
            f"| {r['method']} | {r['N']} | {_or(r, 'gram_seconds', '.0f')} | "
            f"{_or(r, 'gigabytes', '.1f')} | {r['solve_seconds']:.0f} | {r['iterations']} | "
            f"{_or(r, 'step_seconds', '.2f')} | {r['residual']:.0e} | {r['peak_mb']:.0f} | "
            f"{100 * r['test_error']:.1f}% |"
        )
    return "\n".join(lines) + "\n"


def _or(row: dict[str, Any], key: str, form: str) -> str:
    return format(row[key], form) if key in row else "–"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=50_000)
    parser.add_argument("--method", action="append", choices=METHODS)
    options = parser.parse_args()
    path = RESULTS / "solve.json"
    for method in options.method or METHODS:
        row = run(method, options.n)
        print(json.dumps(row), flush=True)
        rows = json.loads(path.read_text()) if path.exists() else []
        rows = [r for r in rows if (r["method"], r["N"]) != (method, options.n)] + [row]
        rows.sort(key=lambda r: (r["N"], METHODS.index(r["method"])))
        write_json(path, rows)
        atomic_write(RESULTS / "solve.md", table(rows))


if __name__ == "__main__":
    main()

"""Order 1/n at the end of training, predicted and measured on trained networks.

Mean and covariance; three widths, extrapolated; each term of the prediction on its own. Run with
``python -m benchmarks.finite_width`` (minutes a case; ``--quick`` for a twentieth of the networks,
``--case K`` for one case only). Networks are trained in eight batches a width, each stored as it
ends, so that a stopped run goes on where it was; stored cases are left alone unless named.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch

from kadanoff.architecture import MLP
from kadanoff.files import atomic_open, atomic_write, write_json
from kadanoff.learning import predict
from kadanoff.learning.correction import MeasuredCorrection, extrapolate, measure_correction
from kadanoff.learning.finite_width import TERMS
from kadanoff.learning.finite_width_cov import COV_TERMS
from kadanoff.rgflow import flow
from kadanoff.style.numbers import uncertain

X = torch.tensor([[1.2, 0.3], [-0.5, 1.1], [0.6, 1.0]], dtype=torch.float64)
Y = 2 * torch.tensor([[1.0, -0.7], [0.4, 0.8]], dtype=torch.float64).mT
SETUP = {"C_b": 0.3, "C_W": 1.5, "lambda_b": 0.3, "lambda_W": 0.9}
# hidden layers, activation, algorithm, eta x largest eigenvalue, widths, trained pairs, networks
# of which only the NTK is evaluated
CASES = [
    (1, "tanh", "descent", 0.5, (96, 192, 384), 60_000, 120_000),
    (2, "tanh", "descent", 0.5, (64, 128, 256), 12_000, 80_000),
    (1, "tanh", "descent", 1.2, (96, 192, 384), 60_000, 120_000),
    (1, "tanh", "flow", 0.5, (96, 192, 384), 20_000, 60_000),
    (1, "tanh", "giant_leap", 0.5, (96, 192, 384), 120_000, 240_000),
    (1, "gelu", "descent", 0.5, (96, 192, 384), 200_000, 500_000),
]
BATCHES = 8
RESULTS = Path(__file__).parent / "results"
PARTS = RESULTS / "finite_width.parts"


def run(index: int, quick: bool) -> dict:
    """One case: prediction, three widths, extrapolation."""
    hidden, act, algorithm, edge, widths, pairs, linear = CASES[index]
    size = 20 if quick else BATCHES
    pairs, linear = pairs // size, linear // size
    batches = 1 if quick else BATCHES
    probe = MLP(2, [16] * hidden, 2, act, **SETUP)
    kernels = flow(probe, X)
    K, theta = kernels.K[-1], kernels.Theta[-1]
    eta = edge / float(torch.linalg.eigvalsh(theta[:2, :2])[-1])
    found = predict(
        probe, X[:2], Y, X[2:], order=1,
        eta=None if algorithm == "flow" else eta,
        algorithm="giant_leap" if algorithm == "giant_leap" else "gradient",
    )  # fmt: skip
    terms = {k: 16 * found.terms[k][0] for k in TERMS}
    cov_terms = {k: 16 * found.terms[f"cov_{k}"][:, :, 0, 0] for k in COV_TERMS}
    measured, seconds = [], 0.0
    for n in widths:
        arch = MLP(2, [n] * hidden, 2, act, **SETUP)
        parts = []
        for batch in range(batches):
            store = PARTS / f"{index}-{n}-{batch}-{pairs}-{linear}.pt"
            if not store.exists():
                start = time.perf_counter()
                m = measure_correction(
                    arch, K, theta, X[:2], Y, X[2:], eta=eta, pairs=pairs, linear=linear,
                    seed=BATCHES * (1000 * index + n) + batch, dtype=torch.float32,
                    tolerance=5e-6, block=256, algorithm=algorithm,
                )  # fmt: skip
                store.parent.mkdir(exist_ok=True)
                with atomic_open(store, "wb") as file:
                    torch.save({**vars(m), "seconds": time.perf_counter() - start}, file)
            parts.append(torch.load(store))
            seconds += parts[-1].pop("seconds")
        m = _pooled(parts)
        measured.append(m)
        print(
            f"  L={hidden + 1} {act} {algorithm} n={n}: {m.value[0].tolist()} ± "
            f"{m.stderr[0].tolist()}",
            flush=True,
        )
    row = {
        "case": index,
        "L": hidden + 1,
        "activation": act,
        "algorithm": algorithm,
        "eta_lambda_max": edge,
        "widths": widths,
        "pairs": pairs * batches,
        "linear": linear * batches,
        "terms": terms,
        "cov_terms": cov_terms,
        "mean": _compare(
            widths,
            torch.stack(list(terms.values())).sum(0),
            [m.value[0] for m in measured],
            [m.stderr[0] for m in measured],
        ),
        "cov": _compare(
            widths,
            torch.stack(list(cov_terms.values())).sum(0),
            [m.cov[:, :, 0, 0] for m in measured],
            [m.cov_stderr[:, :, 0, 0] for m in measured],
        ),
        "infinite_width_variance": float(found.terms["cov_infinite_width"][0, 0]),
        "residual": max(m.residual for m in measured),
        "seconds": seconds,
    }
    return row


def _pooled(parts: list[dict]) -> MeasuredCorrection:
    """Mean of independent measurements with equal numbers of networks."""

    def mean(name):
        return torch.stack([p[name] for p in parts]).mean(0)

    def error(name):
        return torch.stack([p[name] for p in parts]).pow(2).sum(0).sqrt() / len(parts)

    pairs = sum(p["pairs"] for p in parts)
    residual = max(p["residual"] for p in parts)
    return MeasuredCorrection(
        parts[0]["n"], mean("value"), error("stderr"), mean("cov"), error("cov_stderr"),
        pairs, residual,
    )  # fmt: skip


def _compare(widths, predicted, values, errors) -> dict:
    value, stderr, chi2 = extrapolate(widths, torch.stack(values), torch.stack(errors))
    return {
        "predicted": predicted,
        "measured": value,
        "stderr": stderr,
        "z": (value - predicted) / stderr,
        "chi2_per_dof": chi2,
        "values": values,
        "stderrs": errors,
    }


def main(quick: bool = False, only: int | None = None) -> None:
    """Run the cases that are not stored yet and write the table after each."""
    torch.set_num_threads(1)
    store = RESULTS / "finite_width.json"
    rows = json.loads(store.read_text())["rows"] if store.exists() else []
    for index in range(len(CASES)):
        stored = any(r["case"] == index for r in rows)
        if (only is not None and index != only) or (only is None and stored and not quick):
            continue
        row = run(index, quick)
        print(row)
        if not quick:
            # others may run other cases at the same time
            rows = json.loads(store.read_text())["rows"] if store.exists() else []
            rows = sorted([r for r in rows if r["case"] != index] + [row], key=lambda r: r["case"])
            write_json(store, {"torch": torch.__version__, "rows": rows})
            rows = json.loads(store.read_text())["rows"]
            atomic_write(RESULTS / "finite_width.md", _table(rows))


def _table(rows: list[dict]) -> str:
    lines = [
        "### The trained network at order 1/n",
        "",
        "Two training points, one test point, two outputs, trained to the end. Entries are",
        "n (trained - infinite width) at the test point: of the mean of each output, and of the",
        "covariance of outputs i and j over initialisations. Measured: networks in float32,",
        "trained to |z - y| < 5e-6, pairs with opposite readouts, empirical-NTK control variate,",
        "linear fit in 1/n at three widths. `error` is the statistical error over the size of the",
        "measured correction (its largest entry).",
        "",
        "| L | activation | algorithm | η λmax | widths | quantity | predicted | measured | z "
        "| error | χ²/dof |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        head = f"| {row['L']} | {row['activation']} | {row['algorithm'].replace('_', ' ')} | "
        head += f"{row['eta_lambda_max']} | {', '.join(str(n) for n in row['widths'])} | "
        for kind, entries in (
            ("mean", [(i,) for i in range(2)]),
            ("cov", [(0, 0), (1, 1), (0, 1)]),
        ):
            r = {k: torch.tensor(v, dtype=torch.float64) for k, v in row[kind].items()}
            size = float(r["measured"].abs().max())
            for at in entries:
                lines.append(
                    head + f"{kind} {' '.join(str(i + 1) for i in at)} | "
                    f"{float(r['predicted'][at]):.4f} | "
                    f"{uncertain(float(r['measured'][at]), float(r['stderr'][at]))} | "
                    f"{float(r['z'][at]):+.1f} | {float(r['stderr'][at]) / size:.1%} | "
                    f"{float(r['chi2_per_dof'][at]):.1f} |"
                )
    lines += ["", "Terms of the predicted coefficients:", ""]
    lines += [
        "| L | activation | algorithm | η λmax | quantity | terms |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        head = f"| {row['L']} | {row['activation']} | {row['algorithm'].replace('_', ' ')} | "
        head += f"{row['eta_lambda_max']} | "
        for i in range(2):
            t = ", ".join(f"{k} {v[i]:.4f}" for k, v in row["terms"].items())
            lines.append(f"{head}mean {i + 1} | {t} |")
        for i, j in ((0, 0), (1, 1), (0, 1)):
            t = ", ".join(f"{k} {v[i][j]:.4f}" for k, v in row["cov_terms"].items())
            lines.append(f"{head}cov {i + 1} {j + 1} | {t} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    chosen = int(sys.argv[sys.argv.index("--case") + 1]) if "--case" in sys.argv else None
    main("--quick" in sys.argv, chosen)

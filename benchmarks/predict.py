"""Infinite-width predictions beside neural-tangents 0.6.5: agreement and time.

Mean and covariance at the test points, of the ensemble trained by gradient flow and of the Bayesian
posterior. Set KADANOFF_NT_PYTHON to an interpreter with ``neural-tangents==0.6.5 jax==0.4.38``. Run
with ``python -m benchmarks.predict`` (a minute on one core; ``--quick`` for the smallest case).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kadanoff.architecture import MLP
from kadanoff.errors import UsageError
from kadanoff.files import atomic_write, write_json
from kadanoff.learning import predict

# activation, hidden layers, training points, test points, and what is predicted: a time of gradient
# flow, its end, or the posterior with label noise
CASES = [
    ("relu", 2, 200, 50, "end"),
    ("relu", 2, 200, 50, 1.0),
    ("relu", 2, 200, 50, "posterior"),
    ("relu", 2, 1000, 100, "end"),
    ("relu", 2, 1000, 100, 1.0),
    ("relu", 2, 1000, 100, "posterior"),
    ("erf", 4, 1000, 100, "end"),
    ("erf", 4, 1000, 100, 1.0),
    ("erf", 4, 1000, 100, "posterior"),
]
C_B, N_IN, NOISE = 0.1, 64, 0.1
RESULTS = Path(__file__).parent / "results"
_NAMES = {"end": "t = ∞", "posterior": "posterior"}


def main(quick: bool = False) -> None:
    """Run all cases and write the table."""
    torch.set_num_threads(1)
    peer = os.environ.get("KADANOFF_NT_PYTHON")
    if not peer:
        raise UsageError(
            "KADANOFF_NT_PYTHON is not set.",
            "Point it to a Python with neural-tangents==0.6.5 and jax==0.4.38.",
        )
    rows = [_row(peer, *case) for case in (CASES[:3] if quick else CASES)]
    for row in rows:
        print(row)
    if not quick:
        write_json(RESULTS / "predict.json", {"torch": torch.__version__, "rows": rows})
        atomic_write(RESULTS / "predict.md", _table(rows))


def _row(peer: str, activation: str, hidden: int, train: int, test: int, what: float | str) -> Any:
    g = torch.Generator().manual_seed(train + hidden)
    X = torch.randn(train + test, N_IN, generator=g, dtype=torch.float64)
    y = torch.sin(X[:train, :2] * 2) + 0.1 * torch.randn(train, 2, generator=g, dtype=torch.float64)
    c_w = 2.0 if activation == "relu" else 1.5
    arch = MLP(N_IN, [256] * hidden, 2, activation, C_b=C_B, C_W=c_w, lambda_b=C_B, lambda_W=c_w)
    bayes = what == "posterior"
    t = what if isinstance(what, float) else None

    def once():
        if bayes:
            return predict(arch, X[:train], y, X[train:], method="bayes", noise=NOISE)
        return predict(arch, X[:train], y, X[train:], t=float("inf") if t is None else t)

    start = time.process_time()
    once()
    first, seconds = time.process_time() - start, 1e9
    for _ in range(3):
        start = time.process_time()
        ours = once()
        seconds = min(seconds, time.process_time() - start)
    with tempfile.TemporaryDirectory() as folder:
        data, out, spec = (str(Path(folder) / n) for n in ("in.npz", "out.npz", "case.json"))
        np.savez(data, x=X[:train].numpy(), y=y.numpy(), x_test=X[train:].numpy())
        case = {
            "activation": activation, "hidden": hidden, "C_W": c_w, "C_b": C_B, "t": t,
            "noise": NOISE if bayes else None, "file": data, "out": out, "repeats": 3,
        }  # fmt: skip
        Path(spec).write_text(json.dumps(case))
        environment = {
            **os.environ,
            "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
            "OMP_NUM_THREADS": "1",
        }
        run = subprocess.run(
            [peer, str(Path(__file__).parent / "predict_peer.py"), spec],
            capture_output=True, text=True, check=True, env=environment,
        )  # fmt: skip
        theirs = json.loads(run.stdout.splitlines()[-1])
        found = np.load(out)
    mean, cov = torch.tensor(found["mean"]), torch.tensor(found["cov"])
    return {
        "activation": activation,
        "hidden": hidden,
        "train": train,
        "test": test,
        "what": what,
        "mean_difference": float((mean - ours.mean).abs().max() / ours.mean.abs().max()),
        "cov_difference": float((cov - ours.cov).abs().max() / ours.cov.abs().max()),
        "seconds": seconds,
        "first": first,
        "nt_seconds": theirs["seconds"],
        "nt_first": theirs["first"],
    }


def _table(rows: list[dict]) -> str:
    lines = [
        "### Trained ensembles and posteriors at infinite width, beside neural-tangents 0.6.5",
        "",
        "Mean and covariance at the test points, float64, one thread, 64 features, two outputs: of",
        "networks trained by gradient flow to time t (∞: the end), and of the Bayesian posterior",
        f"with label noise {NOISE}. Largest difference over largest entry; processor seconds of",
        "a call: the best of three, in brackets the first (compilation included).",
        "",
        "| activation | hidden layers | N + M | prediction | mean differs | covariance differs "
        "| kadanoff | neural-tangents | ratio |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['activation']} | {r['hidden']} | {r['train']} + {r['test']} | "
        f"{_NAMES.get(r['what']) or 't = ' + str(r['what'])} | {r['mean_difference']:.0e} | "
        f"{r['cov_difference']:.0e} | {r['seconds']:.3f} ({r['first']:.3f}) | "
        f"{r['nt_seconds']:.3f} ({r['nt_first']:.2f}) | {r['nt_seconds'] / r['seconds']:.1f} |"
        for r in rows
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main("--quick" in sys.argv)

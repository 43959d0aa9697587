"""The predicted largest stable step of plain SGD beside Lightning's learning-rate finder.

Regression with ``nn.MSELoss`` and mini-batches, PyTorch parametrisation. The prediction uses the
infinite-width NTK and the batch size, and no training: the edge of mean-square stability, of which
half is suggested. What is true is measured: a sweep of steps, each trained from the same start;
the largest that never exceeds ten times the first loss is the measured edge. Set
KADANOFF_LIGHTNING_PYTHON to an interpreter with ``lightning==2.6.6``. Run with
``python -m benchmarks.lr_finder`` (two minutes on one core; stored cases are kept, ``--again``
runs them anew).
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
from torch import Tensor

from kadanoff.architecture import MLP
from kadanoff.data import load
from kadanoff.errors import UsageError
from kadanoff.files import atomic_write, write_json
from kadanoff.learning import largest_stable_rate, torch_rate
from kadanoff.learning.prediction import blocks

# data, activation, hidden layers, width, batch
CASES = [
    ("sine", "tanh", 1, 256, 16),
    ("sine", "relu", 2, 256, 16),
    ("diabetes", "relu", 2, 256, 16),
    ("diabetes", "tanh", 3, 512, 32),
    ("sine", "relu", 4, 512, 128),
]
POINTS, STEPS, SEEDS = 128, 300, 3
RESULTS = Path(__file__).parent / "results"


def main(quick: bool = False, again: bool = False) -> None:
    """Run the cases that are not stored yet (or all of them again) and write the table."""
    torch.set_num_threads(1)
    peer = os.environ.get("KADANOFF_LIGHTNING_PYTHON")
    if not peer:
        raise UsageError(
            "KADANOFF_LIGHTNING_PYTHON is not set.", "Point it to a Python with lightning==2.6.6."
        )
    store = RESULTS / "lr_finder.json"
    names = ("data", "activation", "hidden", "width", "batch")
    rows = json.loads(store.read_text())["rows"] if store.exists() and not (quick or again) else []
    done = [tuple(row[name] for name in names) for row in rows]
    for case in CASES[:1] if quick else [c for c in CASES if c not in done]:
        rows.append(_row(peer, *case))
        print(rows[-1], flush=True)
        if not quick:
            write_json(store, {"torch": torch.__version__, "rows": rows})
            atomic_write(RESULTS / "lr_finder.md", _table(rows))


def problem(data: str) -> tuple[Tensor, Tensor]:
    """Inputs and one standardised target."""
    if data == "sine":
        g = torch.Generator().manual_seed(0)
        X = torch.rand(POINTS, 2, generator=g) * 2 - 1
        y = torch.sin(3 * X[:, :1]) + X[:, 1:] + 0.1 * torch.randn(POINTS, 1, generator=g)
    else:
        batch = load(data, batch=POINTS, seed=0)
        X, y = batch.inputs.float(), batch.targets.float().reshape(POINTS, -1)
    return X, (y - y.mean(0)) / y.std(0)


def _row(peer: str, data: str, activation: str, hidden: int, width: int, batch: int) -> Any:
    X, y = problem(data)
    c_w = 2.0 if activation == "relu" else 1.0
    sizes = [X.shape[1], *[width] * hidden]
    # one step for all parameters: lambda_W / n is 1 for each weight, lambda_b is 1
    arch = MLP(
        sizes[0], sizes[1:], 1, activation, C_b=0.0, C_W=c_w,
        lambda_W=[float(n) for n in sizes], lambda_b=1.0,
    )  # fmt: skip
    start = time.perf_counter()
    theta = blocks(arch, X.double(), y.double(), X[:1].double()).Theta_AA
    edge = torch_rate(largest_stable_rate(theta, batch, reduction="mean"), 1)
    seconds = time.perf_counter() - start
    grid = edge * 2.0 ** torch.arange(-3, 3.5, 0.5).double()
    measured, finder, losses, theirs = [], [], [], []
    search = 0.0
    for seed in range(SEEDS):
        weights = arch.draw(torch.Generator().manual_seed(seed), torch.float32)
        fine = [r for r in grid.tolist() if descend(weights, activation, X, y, r, batch, seed)[0]]
        measured.append(max(fine) if fine else float("nan"))
        found = _lightning(peer, weights, activation, X, y, batch, seed)
        finder.append(found["suggestion"])
        search += found["seconds"]
        losses.append(descend(weights, activation, X, y, 0.5 * edge, batch, seed)[1])
        # the finder may give no suggestion
        lr = found["suggestion"] or float("nan")
        finder[-1] = lr
        theirs.append(
            descend(weights, activation, X, y, lr, batch, seed)[1] if lr == lr else float("nan")
        )
    return {
        "data": data, "activation": activation, "hidden": hidden, "width": width, "batch": batch,
        "predicted_edge": edge, "measured_edge": measured, "seconds": seconds,
        "lightning": finder, "lightning_seconds": search / SEEDS,
        "loss_at_half_edge": losses, "loss_at_lightning": theirs,
    }  # fmt: skip


def descend(
    weights: list[tuple[Tensor, Tensor]],
    activation: str,
    X: Tensor,
    y: Tensor,
    lr: float,
    batch: int,
    seed: int,
) -> tuple[bool, float]:
    """Plain SGD: (the loss stayed below ten times the first, loss at the end over the first)."""
    act = {"tanh": torch.tanh, "relu": torch.relu}[activation]
    parameters = [p.clone().requires_grad_() for pair in weights for p in pair]

    def loss(rows):
        z = X[rows]
        for l in range(0, len(parameters), 2):
            z = z @ parameters[l].mT + parameters[l + 1]
            z = act(z) if l < len(parameters) - 2 else z
        return torch.nn.functional.mse_loss(z, y[rows])

    optimizer = torch.optim.SGD(parameters, lr=lr)
    g = torch.Generator().manual_seed(seed)
    everything = torch.arange(len(X))
    first = float(loss(everything).detach())
    for step in range(STEPS):
        value = loss(torch.randperm(len(X), generator=g)[:batch])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        if step % 10 == 0:
            now = float(loss(everything).detach())
            if not now < 10 * first:
                return False, float("inf")
    return True, float(loss(everything).detach()) / first


def _lightning(peer, weights, activation, X, y, batch, seed) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        data, spec = Path(folder) / "in.npz", Path(folder) / "case.json"
        arrays = {f"W{k}": W.numpy() for k, (W, _) in enumerate(weights)}
        arrays |= {f"b{k}": b.numpy() for k, (_, b) in enumerate(weights)}
        np.savez(data, x=X.numpy(), y=y.numpy(), **arrays)
        case = {
            "file": str(data), "layers": len(weights), "activation": activation, "batch": batch,
            "seed": seed,
        }  # fmt: skip
        spec.write_text(json.dumps(case))
        run = subprocess.run(
            [peer, str(Path(__file__).parent / "lr_finder_peer.py"), str(spec)],
            capture_output=True, text=True, check=True, cwd=folder,
        )  # fmt: skip
    return json.loads(run.stdout.strip().splitlines()[-1])


def _table(rows: list[dict]) -> str:
    def spread(values):
        values = [float("nan") if v is None else v for v in values]
        finite = [v for v in values if np.isfinite(v)]
        words = f"{np.mean(finite):.2g} ({min(finite):.2g} to {max(finite):.2g})" if finite else ""
        for word, count in (
            ("diverges", sum(v == float("inf") for v in values)),
            ("none", sum(v != v for v in values)),
        ):
            words += f"{', ' if words else ''}{word} {count} of {len(values)}" if count else ""
        return words

    lines = [
        "### The largest stable step, beside Lightning's learning-rate finder",
        "",
        f"Plain SGD on `nn.MSELoss`, {POINTS} points, {STEPS} steps, {SEEDS} seeds (mean,",
        "smallest to largest). Predicted: edge of mean-square stability at infinite width, before",
        "any training. Measured: largest step of a grid of ratio √2, up to 8 × the prediction, at",
        "which the loss never exceeds ten times the first. Losses: after the last step, over the",
        "first, at half the predicted edge and at what Lightning 2.6.6 suggests (defaults). Deep",
        "and ReLU networks outlive the edge of their first NTK: the loss grows, the NTK shrinks,",
        "and training settles where the step is stable (the catapult).",
        "",
        "| data | activation | hidden | width | batch | predicted edge | measured edge | Lightning "
        "| loss, half edge | loss, Lightning | seconds, ours / Lightning |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['data']} | {r['activation']} | {r['hidden']} | {r['width']} | {r['batch']} | "
        f"{r['predicted_edge']:.2g} | {spread(r['measured_edge'])} | {spread(r['lightning'])} | "
        f"{spread(r['loss_at_half_edge'])} | {spread(r['loss_at_lightning'])} | "
        f"{r['seconds']:.2f} / {r['lightning_seconds']:.1f} |"
        for r in rows
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main("--quick" in sys.argv, "--again" in sys.argv)

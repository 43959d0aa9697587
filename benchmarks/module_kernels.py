"""Kernels of convolutional, residual and attentive modules beside neural-tangents 0.6.5.

One run, the same inputs, one thread each, float64, NNGP and NTK together. Time and memory of an
entry: a distinct pair of inputs. Set KADANOFF_NT_PYTHON to an interpreter with
``neural-tangents==0.6.5 jax==0.4.38``; ``python -m benchmarks.module_kernels`` takes some minutes.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

import kadanoff as kd
from kadanoff.files import atomic_write, write_json
from kadanoff.program import Law

RESULTS = Path(__file__).parent / "results"
WIDTH, C_W, C_B = 8, 2.0, 0.01
# inputs of ours, and of theirs: the count that is fastest an entry is theirs
COUNTS = {"cnn": (6, (2, 4)), "wide resnet": (6, (2, 4)), "attention": (24, (4, 12, 24))}
REPEATS = 2


class Residual(nn.Module):
    """x or a projection of it, plus a branch."""

    def __init__(self, *branch: nn.Module, short: nn.Module | None = None) -> None:
        super().__init__()
        self.branch, self.short = nn.Sequential(*branch), short or nn.Identity()

    def forward(self, x):
        return self.short(x) + self.branch(x)


class Strided(nn.Module):
    """A convolution of stride 2 that pads behind, as TensorFlow's SAME does."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(WIDTH, WIDTH, 3, 2)

    def forward(self, x):
        return self.inner(nn.functional.pad(x, (0, 1, 0, 1)))


class Attention(nn.Module):
    """Softmax of q·k/d with q = k, what neural-tangents solves."""

    def __init__(self) -> None:
        super().__init__()
        self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(3))

    def forward(self, x):
        key = self.key(x)
        weights = (key @ key.mT / key.shape[-1]).softmax(-1)
        return self.out(weights @ self.value(x))


class Mean(nn.Module):
    """Mean over tokens."""

    def forward(self, x):
        return x.mean(1)


def conv(channels: int = WIDTH, stride: int = 1) -> nn.Module:
    return Strided() if stride == 2 else nn.Conv2d(channels, WIDTH, 3, padding=1)


def network(name: str) -> nn.Module:
    """The modules that benchmarks.module_kernels_peer has as stax networks."""
    if name == "attention":
        layers: list[nn.Module] = [nn.Linear(16, WIDTH)]
        for _ in range(2):
            layers.append(Residual(Attention()))
            layers.append(Residual(nn.ReLU(), nn.Linear(WIDTH, WIDTH)))
        return nn.Sequential(*layers, Mean(), nn.Linear(WIDTH, 1))
    if name == "cnn":
        layers = [conv(3), nn.ReLU(), conv(), nn.ReLU(), conv(), nn.ReLU()]
    else:
        layers = [conv(3)]
        for stride in (1, 2, 2):
            layers.append(Residual(nn.ReLU(), conv(stride=stride), nn.ReLU(), conv(),
                                   short=conv(stride=stride)))  # fmt: skip
        layers.append(nn.ReLU())
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTH, 1))


def laws(model: nn.Module) -> dict[str, Law]:
    """C_W = 2 and C_b = 0.01; attention's matrices C_W = 1."""
    found = {}
    for name, p in model.named_parameters():
        attentive = any(word in name for word in ("key", "value", "out"))
        C = 1.0 if attentive else C_W
        found[name] = Law(std=(C / p[0].numel()) ** 0.5 if p.ndim > 1 else C_B**0.5)
    return found


def inputs(name: str) -> torch.Tensor:
    g = torch.Generator().manual_seed(0)
    shape = (64, 16) if name == "attention" else (3, 32, 32)
    return torch.randn(COUNTS[name][0], *shape, generator=g, dtype=torch.float64)


def ours(name: str) -> dict:
    """In a process of its own: memory is its growth."""
    torch.set_num_threads(1)
    X, model = inputs(name), network(name)
    kernel = kd.kernel(model, parametrization="ntk", laws=laws(model), heads="infinite")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    gram = kernel(X)
    first, seconds = time.process_time() - start, 1e9
    for _ in range(REPEATS):
        start = time.process_time()
        gram = kernel(X)
        seconds = min(seconds, time.process_time() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    n = len(X)
    return {"each": seconds / (n * (n + 1) / 2), "first": first, "mb": peak / 1e3, "count": n,
            "ntk": gram.ntk.tolist(), "nngp": gram.nngp.tolist()}  # fmt: skip


def row(name: str, peer: str | None) -> dict:
    """Ours, theirs, and the largest difference."""
    environment = {
        **os.environ,
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "benchmarks.module_kernels", "--ours", name]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    mine = json.loads(run.stdout.splitlines()[-1])
    found = {"name": name, "each": mine["each"], "first": mine["first"], "mb": mine["mb"],
             "count": mine["count"], "load": os.getloadavg()[0]}  # fmt: skip
    if peer is None:
        return found
    with tempfile.TemporaryDirectory() as folder:
        case = {"name": name, "file": f"{folder}/x.npy", "out": f"{folder}/out.npz",
                "counts": COUNTS[name][1], "repeats": REPEATS}  # fmt: skip
        X = inputs(name)
        X = X if name == "attention" else X.permute(0, 2, 3, 1).contiguous()
        np.save(case["file"], X.numpy())
        script = str(Path(__file__).with_name("module_kernels_peer.py"))
        run = subprocess.run([peer, script, json.dumps(case)], capture_output=True, text=True,
                             env=environment)  # fmt: skip
        lines = [line for line in run.stdout.splitlines() if line.startswith("RESULT ")]
        if not lines:
            found["failed"] = (run.stderr.strip().splitlines() or ["killed"])[-1][:120]
            return found
        theirs, arrays = json.loads(lines[0][7:]), np.load(case["out"])
        for which in ("nngp", "ntk"):
            a = arrays[which]
            b = np.asarray(mine[which])[: len(a), : len(a)]
            gap = float(np.abs(a - b).max() / np.abs(a).max())
            found["difference"] = max(found.get("difference", 0.0), gap)
    found["peer"] = theirs
    return found


def table(rows: list[dict]) -> str:
    lines = [
        "### Kernels of modules, beside neural-tangents 0.6.5",
        "",
        "NNGP and NTK together, float64, one thread and processor seconds each, in one run. *An",
        "entry* is a distinct pair; theirs is the batch that is fastest an entry. *First*: the",
        "call that traces and compiles. Memory: growth beyond imports and inputs.",
        "*Load*: the machine's load average meanwhile (2 cores).",
        "",
        "| network | ours, s an entry | its | faster | first, s | its first | MB | its MB | "
        "differs | load |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        theirs = r.get("peer", {})
        each = theirs.get("each")
        ratio = f"{each / r['each']:.1f}×" if each else r.get("failed", "–")
        lines.append(
            f"| {r['name']} | {r['each']:.4f} | {each or float('nan'):.4f} | {ratio} | "
            f"{r['first']:.1f} | {theirs.get('first', float('nan')):.1f} | {r['mb']:.0f} | "
            f"{theirs.get('mb', float('nan')):.0f} | {r.get('difference', float('nan')):.0e} | "
            f"{r['load']:.0f} |"
        )
    lines += [
        "",
        "cnn: three 3×3 convolutions, ReLU, global pooling, 32×32×3. wide resnet: three",
        "pre-activation blocks at strides 1, 2, 2 with projections, 32×32×3. attention: two",
        "residual blocks of tied softmax attention and ReLU layers on 64 tokens.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    if "--ours" in sys.argv:
        print(json.dumps(ours(sys.argv[sys.argv.index("--ours") + 1])))
        return
    peer = os.environ.get("KADANOFF_NT_PYTHON")
    rows = []
    for name in COUNTS:
        rows.append(row(name, peer))
        print(rows[-1], flush=True)
    write_json(RESULTS / "module_kernels.json", {"torch": torch.__version__, "rows": rows})
    atomic_write(RESULTS / "module_kernels.md", table(rows))


if __name__ == "__main__":
    main()

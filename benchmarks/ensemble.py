"""Cost of a simulated network: no weights drawn, weights drawn in batches, and the usual ways.

Run: ``python -m benchmarks.ensemble``. One thread, one process; every line of a table is timed in
turn with the others, several rounds, best of each, so that other load hits all of them. What is
computed per network is the same in a table: the preactivations of all layers and the NTK of one
output at the last layer.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import kadanoff as kd
from kadanoff.ensembles.normals import Normals
from kadanoff.ensembles.tangent import ntk, pull_node
from kadanoff.ensembles.trunk import draw_matrix, forward, maps
from kadanoff.files import atomic_write, write_json

RESULTS = Path(__file__).parent / "results"
CASES = [  # network, width, depth, inputs, networks a run: exact, weights, vmap, one at a time
    ("plain", 64, 6, 1, 2048, 256, 256, 32),
    ("plain", 64, 6, 3, 1024, 256, 128, 32),
    ("plain", 512, 20, 1, 1024, 8, 8, 4),
    ("plain", 512, 20, 3, 256, 8, 4, 4),
    ("residual", 64, 6, 1, 2048, 256, 256, 32),
    ("residual", 512, 20, 1, 512, 8, 8, 4),
    ("orthogonal", 64, 6, 1, 2048, 256, 256, 32),
    ("orthogonal", 512, 20, 1, 512, 4, 4, 4),
]
KEYS = ("network", "width", "depth", "inputs")
SKIP = 0.7


def sampler(arch: Any, X: torch.Tensor, implicit: bool, piece: int) -> Callable[[int], Any]:
    """NTK of one output by our samplers, in pieces that stay in cache."""

    def run(networks: int) -> torch.Tensor:
        normals = Normals(0, 0)
        found = []
        for at in range(0, networks, piece):
            S = min(piece, networks - at)
            trunk = forward(arch, X, S, normals, implicit, arch.L)
            start = torch.ones(S, 1, 1, dtype=X.dtype)
            samples = [*range(len(X))]
            deltas = pull_node(trunk, arch.L - 1, start, [0] * len(X), samples)
            found.append(ntk(trunk, deltas, samples))
        return torch.cat(found)

    return run


def stateless(arch: Any):
    """The network as a function of its parameters, for torch.func."""

    def f(parameters: list, x: torch.Tensor) -> torch.Tensor:
        z = x @ parameters[0].T
        for W, gamma in zip(parameters[1:], arch.gamma[1:], strict=True):
            z = torch.tanh(z) @ W.T + (gamma * z if gamma else 0.0)
        return z

    return f


def rates(arch: Any) -> list[float]:
    return [1 / n for n in arch.n[:-1]]


def vmapped(arch: Any, X: torch.Tensor, chunk: int) -> Callable[[int], Any]:
    """torch.func.vmap over networks of jacrev over parameters."""
    f = stateless(arch)

    def one(parameters: list) -> torch.Tensor:
        jacobians = torch.func.jacrev(lambda p: f(p, X)[:, 0])(parameters)
        total = torch.zeros(len(X), len(X), dtype=X.dtype)
        for J, rate in zip(jacobians, rates(arch), strict=True):
            J = J.flatten(1)
            total = total + rate * J @ J.T
        return total

    def run(networks: int) -> torch.Tensor:
        g, normals = torch.Generator().manual_seed(0), Normals(0, 0)

        def draw(m: Any, S: int) -> torch.Tensor:
            if arch.init == "orthogonal":
                return draw_matrix(m, arch.init, S, normals)[0]
            W = torch.randn(S, m.n_out, m.n_in, generator=g, dtype=X.dtype)
            return W * (m.C_W / m.n_in) ** 0.5

        out = []
        for at in range(0, networks, chunk):
            S = min(chunk, networks - at)
            parameters = [draw(m, S) for m in maps(arch)]
            out.append(torch.func.vmap(one)(parameters))
        return torch.cat(out)

    return run


def one_at_a_time(arch: Any, X: torch.Tensor) -> Callable[[int], Any]:
    """A fresh nn.Module for every network, and autograd."""

    def run(networks: int) -> torch.Tensor:
        out = []
        for _ in range(networks):
            layers: list[Any] = []
            for m, n, c in zip(arch.n[1:], arch.n[:-1], arch.C_W, strict=True):
                linear = torch.nn.Linear(n, m, bias=False, dtype=X.dtype)
                if arch.init == "orthogonal":
                    gain = (c * max(m, n) / n) ** 0.5
                    torch.nn.init.orthogonal_(linear.weight, gain=gain)
                else:
                    torch.nn.init.normal_(linear.weight, std=(c / n) ** 0.5)
                layers.append(linear)
            z = layers[0](X)
            for linear, gamma in zip(layers[1:], arch.gamma[1:], strict=True):
                z = linear(torch.tanh(z)) + (gamma * z if gamma else 0.0)
            weights = [linear.weight for linear in layers]
            rows = [torch.autograd.grad(v, weights, retain_graph=True) for v in z[:, 0]]
            total = torch.zeros(len(X), len(X), dtype=X.dtype)
            for i, rate in enumerate(rates(arch)):
                J = torch.stack([row[i].flatten() for row in rows])
                total += rate * J @ J.T
            out.append(total)
        return torch.stack(out)

    return run


def network(kind: str, width: int, depth: int) -> Any:
    if kind == "residual":
        return kd.Residual(32, width, depth - 2, 1, "tanh", gamma=SKIP, C_W=1.1, lambda_b=0.0)
    init = "orthogonal" if kind == "orthogonal" else "gaussian"
    return kd.MLP(32, [width] * (depth - 1), 1, "tanh", C_W=1.1, lambda_b=0.0, init=init)


def case(kind: str, width: int, depth: int, inputs: int):
    arch = network(kind, width, depth)
    g = torch.Generator().manual_seed(1)
    X = torch.randn(inputs, 32, generator=g, dtype=torch.float64)
    exact_piece = max(32, min(512, 2**17 // (width * inputs)))
    drawn_piece = max(4, min(128, 2**21 // (width * width * depth)))
    return {
        "exact": sampler(arch, X, True, exact_piece),
        "weights": sampler(arch, X, False, drawn_piece),
        "torch.func.vmap": vmapped(arch, X, drawn_piece),
        "one nn.Module at a time": one_at_a_time(arch, X),
    }


def peak_megabytes(
    kind: str, width: int, depth: int, inputs: int, name: str, networks: int
) -> float:
    """Peak memory above a process that has everything imported, measured in a fresh process."""
    # ru_maxrss of a child starts at its parent's, so the kernel's own mark is reset and read
    code = (
        "import re, torch; torch.set_num_threads(1)\n"
        "from benchmarks.ensemble import case\n"
        "def kilobytes(key):\n"
        "    return int(re.search(key + r':\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
        f"case({kind!r}, 8, 3, {inputs})[{name!r}](8)\n"
        f"run = case({kind!r}, {width}, {depth}, {inputs})[{name!r}]\n"
        "open('/proc/self/clear_refs', 'w').write('5')\n"
        "before = kilobytes('VmRSS')\n"
        f"run({networks})\n"
        "print((kilobytes('VmHWM') - before) / 1024)\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(out.stdout)


def phases(width: int, depth: int, networks: int) -> dict[str, float]:
    """Where the exact sampler's time goes: normal numbers, tanh, the rest (fractions)."""
    arch = kd.MLP(32, [width] * (depth - 1), 1, "tanh", C_W=1.1)
    X = torch.ones(1, 32, dtype=torch.float64)
    run = sampler(arch, X, True, 256)
    numbers = Normals(0, 0)
    block = torch.ones(256, 1, width, dtype=torch.float64)
    rounds = networks * (depth - 1) // 256
    clock: dict[str, float] = {}
    for _ in range(3):
        for name, work in {
            "all": lambda: run(networks),
            "normal": lambda: [numbers.normal(256, 1, width) for _ in range(2 * rounds)],
            "tanh": lambda: [torch.tanh(block) for _ in range(2 * rounds)],
        }.items():
            start = time.perf_counter()
            work()
            clock[name] = min(clock.get(name, 1e9), time.perf_counter() - start)
    return {name: clock[name] / clock["all"] for name in ("normal", "tanh")}


def measure(index: int, rounds: int = 3) -> list[dict[str, Any]]:
    """Rows of one case, methods in turn."""
    kind, width, depth, inputs, *counts = CASES[index]
    runs = case(kind, width, depth, inputs)
    best = dict.fromkeys(runs, float("inf"))
    means: dict[str, float] = {}
    for _ in range(rounds):
        for (name, run), networks in zip(runs.items(), counts, strict=True):
            start = time.perf_counter()
            found = run(networks)
            best[name] = min(best[name], (time.perf_counter() - start) / networks)
            means[name] = float(found[:, 0, 0].mean())
    rows = []
    for (name, seconds), networks in zip(best.items(), counts, strict=True):
        rows.append(
            {
                "network": kind, "width": width, "depth": depth, "inputs": inputs, "method": name,
                "microseconds": seconds * 1e6, "ratio": seconds / best["exact"],
                "megabytes": peak_megabytes(kind, width, depth, inputs, name, networks),
                "mean_ntk": means[name],
            }
        )  # fmt: skip
        print(line(rows[-1]), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", type=int, action="append", help="only this row group, from 0")
    chosen = parser.parse_args().case
    torch.set_num_threads(1)
    path = RESULTS / "ensemble.json"
    held = json.loads(path.read_text())["table"] if path.exists() and chosen else []
    for index in chosen or range(len(CASES)):
        mine = CASES[index][:4]
        held = [r for r in held if tuple(r[key] for key in KEYS) != mine]
        held += measure(index)
    order = [c[:4] for c in CASES]
    held.sort(key=lambda r: order.index(tuple(r[key] for key in KEYS)))
    share = phases(512, 20, 512)
    versions = {"torch": torch.__version__, "kadanoff": kd.__version__}
    versions |= {"python": platform.python_version(), "numpy": importlib.metadata.version("numpy")}
    result = {"versions": versions, "table": held, "exact_share_512x20": share}
    write_json(path, result)
    atomic_write(RESULTS / "ensemble.md", markdown(result))
    print(f"normal numbers {share['normal']:.0%}, tanh {share['tanh']:.0%} of the exact sampler")


def line(row: dict[str, Any]) -> str:
    memory = "-" if row["megabytes"] is None else f"{row['megabytes']:.0f}"
    return (
        f"| {row['network']} | {row['width']} | {row['depth']} | {row['inputs']} | {row['method']} "
        f"| {row['microseconds']:.4g} | {row['ratio']:.3g}x | {memory} |"
    )


def markdown(result: dict[str, Any]) -> str:
    share = result["exact_share_512x20"]
    versions = ", ".join(f"{k} {v}" for k, v in result["versions"].items())
    head = [
        "### Ensembles of networks (`python -m benchmarks.ensemble`)",
        "",
        "Preactivations of every layer and the NTK of one output at the last layer, tanh, double",
        f"precision, one thread ({versions}). Ratios are times of a method over `exact`; memory is",
        f"the peak above a warm process. Residual: γ = {SKIP} around every hidden map; orthogonal:",
        "matrices drawn by QR where they are drawn.",
        "",
        "| network | width | depth | inputs | method | µs a network | over exact | MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    tail = [
        "",
        f"What limits `exact` at width 512, depth 20: drawing two normal numbers a neuron takes "
        f"{share['normal']:.0%} of its time, tanh {share['tanh']:.0%}, passes over memory in cache "
        "the rest; it costs O(n) a layer where drawn weights cost O(n²).",
        "",
    ]
    return "\n".join([*head, *(line(row) for row in result["table"]), *tail])


if __name__ == "__main__":
    main()

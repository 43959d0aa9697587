"""Everything that wants a GPU, in one command of at most eight minutes.

    python -m benchmarks.gpu                       on the first CUDA device
    python -m benchmarks.gpu --device cpu --small  the same parts, small, on the processor

Each part runs in a process of its own with a share of the time, and its row is written as soon as
it is known: a run that is cut off has kept what came before. A part whose packages are absent says
which; PyTorch alone is enough to start. Figures are the time on the device beside that on the
processor in the same run.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parents[1]
LIMIT = 480.0

# name -> (packages beside PyTorch, largest share of the time limit)
PARTS: dict[str, tuple[tuple[str, ...], float]] = {
    "ensemble": (("numpy", "joblib"), 0.12),
    "module_ensemble": (("numpy", "joblib"), 0.12),
    "kernel": (("numpy",), 0.12),
    "empirical_ntk": (("numpy",), 0.1),
    "sparse_blocks": (("triton",), 0.1),
    "diagnose": (("numpy",), 0.2),
    "tune": (("numpy",), 0.14),
    "tests": (("pytest", "hypothesis"), 0.3),
}


def timed(function: Callable[[], Any], device: torch.device) -> float:
    """Seconds of the second of two calls, the device drained before and after."""

    def drained() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    function()
    drained()
    start = time.perf_counter()
    function()
    drained()
    return time.perf_counter() - start


def transformer(width: int, layers: int, vocabulary: int = 512) -> torch.nn.Module:
    """A pre-norm encoder with a readout; 1.0e9 parameters at width 2048 and 20 layers."""
    nn = torch.nn
    block = nn.TransformerEncoderLayer(
        width, max(1, width // 64), 4 * width, dropout=0.0, batch_first=True, norm_first=True
    )
    return nn.Sequential(
        nn.Embedding(vocabulary, width),
        nn.TransformerEncoder(block, layers, enable_nested_tensor=False),
        nn.LayerNorm(width),
        nn.Linear(width, vocabulary),
    )


def tokens(rows: int, length: int, device: torch.device) -> torch.Tensor:
    return torch.randint(
        512, (rows, length), device=device, generator=torch.Generator(device).manual_seed(0)
    )


def ensemble(device: torch.device, small: bool) -> dict[str, float]:
    """Exact sampled networks a second: width 512, depth 20, two inputs, K, V and Θ."""
    import kadanoff as kd

    X = torch.randn(2, 64, generator=torch.Generator().manual_seed(0)).double()
    width, depth, count = (64, 4, 64) if small else (512, 20, 4096)
    arch = kd.MLP(64, [width] * depth, 8, "tanh", C_W=1.0)

    def run(where: str) -> Callable[[], Any]:
        return lambda: kd.ensemble(arch, X, n_networks=count, device=where, n_jobs=1)

    return _beside(run, device, small)


def module_ensemble(device: torch.device, small: bool) -> dict[str, float]:
    """Weightless random Transformers: signal, gradients and loss, without drawing a weight."""
    import kadanoff as kd

    width, layers, count = (64, 2, 4) if small else (1024, 12, 16)

    def run(where: str) -> Callable[[], Any]:
        there = torch.device(where)
        model, ids = transformer(width, layers).to(there), tokens(2, 32, there)
        return lambda: kd.ensemble(model, (ids, ids), n_networks=count, device=where)

    return _beside(run, device, small)


def kernel(device: torch.device, small: bool) -> dict[str, float]:
    """NNGP and NTK of ReLU networks of depth 10, float64."""
    import kadanoff as kd

    points = 200 if small else 8_000
    arch = kd.MLP(64, [1] * 9, 1, "relu", C_W=2.0)

    def run(where: str) -> Callable[[], Any]:
        there = torch.device(where)
        X = torch.randn(points, 64, generator=torch.Generator().manual_seed(0)).double().to(there)
        return lambda: kd.kernel(arch, device=where)(X, get=("nngp", "ntk"))

    return _beside(run, device, small)


def empirical_ntk(device: torch.device, small: bool) -> dict[str, float]:
    """The full empirical NTK of an MLP 512×4, 64 inputs, 10 outputs."""
    import kadanoff as kd

    nn, width = torch.nn, 32 if small else 512
    layers: list[torch.nn.Module] = [nn.Linear(64, width), nn.ReLU()]
    for _ in range(3):
        layers += [nn.Linear(width, width), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(width, 10))
    X = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))

    def run(where: str) -> Callable[[], Any]:
        there = model.to(where)
        inputs = X.to(where)
        return lambda: kd.empirical_ntk(there, inputs, outputs="full")

    return _beside(run, device, small)


def sparse_blocks(device: torch.device, small: bool) -> dict[str, float]:
    """A ReLU block of d = 4096 with Top-k 5 %, one token, beside the dense block."""
    import kadanoff as kd

    nn, d = torch.nn, 128 if small else 4096
    dense = nn.Sequential(nn.Linear(d, 4 * d), nn.ReLU(), nn.Linear(4 * d, d)).to(device).eval()
    x = torch.randn(1, d, device=device, generator=torch.Generator(device).manual_seed(0))
    sparse = kd.sparsity.sparsify(dense, method="topk", target=0.95, data=x)
    fast = kd.sparsity.accelerate(sparse)
    with torch.no_grad():
        before, after = timed(lambda: dense(x), device), timed(lambda: fast(x), device)
    return {"device_seconds": after, "dense_seconds": before, "ratio": before / after}


def diagnose(device: torch.device, small: bool) -> dict[str, float]:
    """``diagnose`` of a Transformer of 1.0e9 parameters: seconds, passes, memory."""
    import kadanoff as kd

    model = transformer(64, 2) if small else transformer(2048, 20)
    model, ids = model.to(device), tokens(4, 64, device)

    def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    def once() -> None:
        model.zero_grad()
        loss(model(ids), ids).backward()

    one = timed(once, device)
    model.zero_grad()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    start = time.perf_counter()
    found = kd.diagnose(model, (ids, ids), loss=loss)
    seconds = time.perf_counter() - start
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    return {
        "parameters": float(sum(p.numel() for p in model.parameters())),
        "device_seconds": seconds,
        "passes": seconds / one,
        "peak_gigabytes": peak / 1e9,
        "findings": float(len(found.findings)),
    }


def tune(device: torch.device, small: bool) -> dict[str, float]:
    """``tune`` of a small Transformer for AdamW, by the theory alone."""
    import kadanoff as kd

    model = transformer(64 if small else 512, 2 if small else 8).to(device)
    ids = tokens(8, 32, device)
    start = time.perf_counter()
    kd.tune(model, (ids, ids), optimizer="adamw", race=False)
    return {"device_seconds": time.perf_counter() - start}


def tests(device: torch.device, small: bool) -> dict[str, float]:
    """The tests marked ``gpu`` (small: they are collected, and skip)."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "tests"]
    if small:
        command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "--collect-only", "tests"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    print(done.stdout[-4000:], file=sys.stderr)
    # 5: no test was collected
    return {"exit_code": float(done.returncode)}


def _beside(
    run: Callable[[str], Callable[[], Any]], device: torch.device, small: bool
) -> dict[str, float]:
    here = timed(run(str(device)), device)
    if device.type == "cpu":
        return {"device_seconds": here}
    cpu = timed(run("cpu"), torch.device("cpu"))
    return {"device_seconds": here, "cpu_seconds": cpu, "ratio": cpu / here}


def one_part(name: str, device: str, small: bool) -> None:
    """Run one part in this process and print its row as JSON."""
    print(json.dumps(globals()[name](torch.device(device), small)))


def row_of(name: str, device: str, small: bool, seconds: float) -> dict[str, Any]:
    """Run one part in a process of its own, at most ``seconds``."""
    packages = PARTS[name][0]
    absent = [package for package in packages if importlib.util.find_spec(package) is None]
    if absent:
        return {"part": name, "skipped": f"needs {', '.join(absent)}"}
    command = [sys.executable, "-m", "benchmarks.gpu", "--part", name, "--device", device]
    start = time.perf_counter()
    try:
        done = subprocess.run(
            [*command, *(["--small"] if small else [])],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"},
            capture_output=True,
            text=True,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return {"part": name, "failed": f"longer than its {seconds:.0f} s"}
    took = time.perf_counter() - start
    if done.returncode:
        return {"part": name, "failed": done.stderr.strip().splitlines()[-1][:300], "took": took}
    return {"part": name, **json.loads(done.stdout.strip().splitlines()[-1]), "took": took}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds for all parts together")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/gpu.json on CUDA")
    parser.add_argument("--only", nargs="*", choices=[*PARTS], default=[*PARTS])
    parser.add_argument("--part", choices=[*PARTS], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        one_part(arguments.part, arguments.device, arguments.small)
        return 0
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        print("error: PyTorch sees no CUDA device. Try --device cpu --small.", file=sys.stderr)
        return 2
    name = "processor"
    if arguments.device.startswith("cuda"):
        name = torch.cuda.get_device_name(arguments.device)
    out = arguments.out or (RESULTS / "gpu.json" if arguments.device.startswith("cuda") else None)
    report: dict[str, Any] = {"device": name, "torch": torch.__version__, "rows": []}
    end = time.perf_counter() + arguments.limit
    for part in arguments.only:
        left = end - time.perf_counter()
        share = min(left, PARTS[part][1] * arguments.limit)
        row = (
            row_of(part, arguments.device, arguments.small, share)
            if left > 1
            else {"part": part, "skipped": "no time left"}
        )
        report["rows"].append(row)
        print(json.dumps(row), flush=True)
        if out is not None:
            # whole at every moment: a run that is cut off keeps its rows
            draft = out.with_suffix(".part")
            draft.write_text(json.dumps(report, indent=1) + "\n")
            draft.replace(out)
    return int(any("failed" in row for row in report["rows"]))


if __name__ == "__main__":
    sys.exit(main())

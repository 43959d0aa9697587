"""Kernels of data sets beside neural-tangents and beside the plain matrix product X Yᵀ.

``KADANOFF_NT_PYTHON=/path/to/python python -m benchmarks.kernels``; without the variable, our own
figures only. That interpreter needs jax 0.4.38 and neural-tangents 0.6.5.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

import kadanoff as kd
from kadanoff.kernels import (
    Act,
    Conv,
    ConvNet,
    Dense,
    GlobalAvgPool,
    empirical_ntk,
    kernel,
)

RESULTS = Path(__file__).parent / "results"
PEER = os.environ.get("KADANOFF_NT_PYTHON")
VARIANCE = {"relu": 2.0, "erf": math.pi / 4, "gelu": 1.983, "tanh": 1.0}


def clock(function, repeats=3):
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


class Peak:
    """Growth of this process's resident memory while the block runs, sampled every 5 ms."""

    def __enter__(self):
        self.page = os.sysconf("SC_PAGE_SIZE")
        self.start = self.most = self._now()
        self.on = True
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def _now(self):
        return int(Path("/proc/self/statm").read_text().split()[1]) * self.page

    def _watch(self):
        while self.on:
            self.most = max(self.most, self._now())
            time.sleep(0.005)

    def __exit__(self, *rest):
        self.on = False
        self.thread.join()
        self.mb = (self.most - self.start) / 1e6


def peer(case, arrays=None):
    """Run a case in the other interpreter; None if there is none or it failed."""
    if PEER is None:
        return None, None
    with tempfile.TemporaryDirectory() as folder:
        for name, array in (arrays or {}).items():
            case[name] = (
                f"{folder}/{name}.npy" if not isinstance(array, dict) else (f"{folder}/{name}.npz")
            )
            if isinstance(array, dict):
                np.savez(case[name], **array)
            else:
                np.save(case[name], array)
        case["out"] = f"{folder}/out.npz"
        try:
            run = subprocess.run(
                [PEER, str(Path(__file__).with_name("kernels_peer.py")), json.dumps(case)],
                capture_output=True, text=True, timeout=400,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return {"failed": "over 400 s"}, None
        lines = [l for l in run.stdout.splitlines() if l.startswith("RESULT ")]
        if not lines:
            return {"failed": (run.stderr.strip().splitlines() or ["killed"])[-1][:120]}, None
        return json.loads(lines[0][7:]), dict(np.load(case["out"]))


def gram_rows(N, quick):
    rows = []
    g = torch.Generator().manual_seed(0)
    X = torch.randn(N, 784, dtype=torch.float64, generator=g)
    Y = torch.randn(N, 784, dtype=torch.float64, generator=g)
    equal = X / X.norm(dim=1, keepdim=True) * 28
    for norm, data in (("equal", equal), ("unequal", X)):
        for name, C_W in VARIANCE.items():
            for depth in (3, 10, 30):
                if norm == "unequal" and depth == 30 and quick:
                    continue
                arch = kd.MLP(784, [1] * (depth - 1), 1, name, C_W=C_W, lambda_b=0.0, lambda_W=C_W)
                compiled = kernel(arch)
                start = time.perf_counter()
                compiled(data[:8])
                first = time.perf_counter() - start
                # interleaved, so that a busy machine slows both alike
                ratios, ours = [], []
                for _ in range(2 if quick else 4):
                    start = time.perf_counter()
                    data @ Y.T
                    product = time.perf_counter() - start
                    start = time.perf_counter()
                    gram = compiled(data)
                    ours.append(time.perf_counter() - start)
                    ratios.append(ours[-1] / product)
                with Peak() as peak:
                    gram = compiled(data)
                row = {"norm": norm, "activation": name, "depth": depth, "N": N,
                       "seconds": min(ours), "ratio": float(np.median(ratios)), "compile": first,
                       "method": gram.method, "checked": gram.error, "mb": peak.mb}  # fmt: skip
                if (
                    norm == "equal"
                    and not (name == "tanh" and depth > 3)
                    and not (quick and name != "relu")
                ):
                    small = N if name != "tanh" else 300
                    case = {"kind": "gram", "activation": name, "depth": depth, "C_W": C_W}
                    theirs, arrays = peer(case, {"file": data[:small].numpy()})
                    if theirs:
                        row["peer"] = theirs | {"N": small}
                    if arrays:
                        row["difference"] = max(
                            float(np.abs(arrays[n] - getattr(gram, n)[:50, :50].numpy()).max()
                                  / np.abs(arrays[n]).max())
                            for n in ("nngp", "ntk")
                        )  # fmt: skip
                        # per entry: the peer's tanh does not fit at this N
                        row["faster"] = theirs["seconds"] / small**2 / (min(ours) / N**2)
                del gram
                rows.append(row)
                print(json.dumps(row), flush=True)
    return rows


def empirical_rows():
    rows = []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        mlp = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(),
                            nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))  # fmt: skip
        cnn = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1),
                            nn.ReLU(), nn.Flatten(), nn.Linear(32 * 64, 10))  # fmt: skip
        inputs = {"mlp": torch.randn(64, 512), "cnn": torch.randn(16, 3, 32, 32)}
    for name, model in (("mlp", mlp), ("cnn", cnn)):
        X = inputs[name]
        ours = clock(lambda m=model, X=X: empirical_ntk(m, X, None, "full"), 5)
        recipe = clock(lambda m=model, X=X: _recipe(m, X), 2)
        parameters = [p.detach().numpy() for p in model.parameters()]
        weights = {f"{'wb'[i % 2]}{i // 2}": p for i, p in enumerate(parameters)}
        case = {"kind": "empirical", "model": name}
        theirs, arrays = peer(case, {"file": X.numpy(), "weights": weights})
        row = {"case": name, "seconds": ours, "recipe": recipe, "peer": theirs}
        if arrays:
            full = empirical_ntk(model, X, None, "full").numpy()
            row["difference"] = float(np.abs(arrays["ntk"] - full).max() / np.abs(full).max())
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def _recipe(model, X):
    """The contraction of explicit Jacobians that torch.func's tutorial recommends."""
    from torch.func import functional_call, jacrev, vmap

    values = {k: p.detach() for k, p in model.named_parameters()}

    def f(p, x):
        return functional_call(model, p, (x[None],))[0]

    J = vmap(jacrev(f), (None, 0))(values, X)
    return sum(torch.einsum("aop,bqp->aboq", j.flatten(2), j.flatten(2)) for j in J.values())


def conv_rows():
    g = torch.Generator().manual_seed(0)
    X = torch.randn(16, 3, 32, 32, dtype=torch.float64, generator=g)
    layers = []
    for _ in range(3):
        layers += [Conv(3, C_W=2.0, lambda_b=0.0, lambda_W=2.0), Act("relu")]
    net = ConvNet([*layers, GlobalAvgPool(), Dense(lambda_b=0.0)])
    with Peak() as peak:
        start = time.perf_counter()
        gram = kernel(net)(X)
        ours = time.perf_counter() - start
    small = X[:4].permute(0, 2, 3, 1).contiguous().numpy()
    theirs, arrays = peer({"kind": "cntk"}, {"file": small})
    row = {"images": 16, "seconds": ours, "per_entry": ours / 136, "mb": peak.mb, "peer": theirs}
    if arrays:
        row["difference"] = float(
            np.abs(arrays["ntk"] - gram.ntk[:4, :4].numpy()).max() / arrays["ntk"].max()
        )
        row["peer_per_entry"] = theirs["seconds"] / 10
    print(json.dumps(row), flush=True)
    return [row]


def table(results):
    lines = ["### Kernels of data sets", "",
             f"{results['threads']} threads, float64, d = 784; ratios to X Yᵀ taken in turns in "
             "one process. `faster` is per entry against neural-tangents 0.6.5 (tanh there: "
             "numerical, N = 300).", "",
             "| norms | activation | depth | N | s | × X Yᵀ | peak MB | method | faster | "
             "differs |", "|---|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for r in results["gram"]:
        faster = f"{r['faster']:.1f}×" if "faster" in r else "–"
        differs = f"{r['difference']:.0e}" if "difference" in r else "–"
        lines.append(
            f"| {r['norm']} | {r['activation']} | {r['depth']} | {r['N']} | {r['seconds']:.3f} | "
            f"{r['ratio']:.2f} | {r['mb']:.0f} | {r['method']} | {faster} | {differs} |"
        )
    lines += ["", "| empirical NTK, full, 10 outputs | ours s | neural-tangents structured s | "
              "torch.func recipe s | differs |", "|---|---|---|---|---|"]  # fmt: skip
    for r in results["empirical"]:
        theirs = r["peer"].get("seconds", float("nan")) if r["peer"] else float("nan")
        lines.append(f"| {r['case']} | {r['seconds']:.4f} | {theirs:.4f} | {r['recipe']:.3f} | "
                     f"{r.get('difference', float('nan')):.0e} |")  # fmt: skip
    lines += ["", "| CNTK 32×32×3, 3 conv + global pooling | s | s per pair | peak MB | "
              "neural-tangents s per pair (4 images) | differs |",
              "|---|---|---|---|---|---|"]  # fmt: skip
    for r in results["conv"]:
        lines.append(f"| {r['images']} images | {r['seconds']:.1f} | {r['per_entry']:.3f} | "
                     f"{r['mb']:.0f} | {r.get('peer_per_entry', float('nan')):.3f} | "
                     f"{r.get('difference', float('nan')):.0e} |")  # fmt: skip
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=4000)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    results = {"threads": torch.get_num_threads(), "torch": torch.__version__,
               "python": sys.version.split()[0], "empirical": empirical_rows(),
               "conv": conv_rows(), "gram": gram_rows(options.n, options.quick)}  # fmt: skip
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "kernels.json").write_text(json.dumps(results, indent=1) + "\n")
    (RESULTS / "kernels.md").write_text(table(results))
    print(table(results))


if __name__ == "__main__":
    main()

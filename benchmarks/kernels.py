"""Kernels of data sets beside neural-tangents and beside the plain matrix product X Yᵀ.

``KADANOFF_NT_PYTHON=/path/to/python python -m benchmarks.kernels [--section NAME …]``; without the
variable, our own figures only. That interpreter needs jax 0.4.38 and neural-tangents 0.6.5. Each
section takes a minute or two and is merged into ``results/kernels.json``.
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
DEPTHS = (3, 10, 30)
INPUTS = {
    "equal": "random, equal norms",
    "unequal": "random, unequal norms",
    "biases": "random, unequal norms, C_b = 0.1",
    "clusters": "eight clusters, equal norms, ρ up to 1",
}
SECTIONS = [*INPUTS, "peer-relu", "peer-smooth", "peer-tanh", "peer-float32", "empirical", "conv"]
REPEATS = 7


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


def timed(function):
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def cpu(function):
    """Processor seconds of all threads: what a busy machine disturbs least."""
    start = time.process_time()
    function()
    return time.process_time() - start


def peer(case, arrays):
    """Run a case in the other interpreter; ({}, {}) without one, {"failed": …} if it failed."""
    if PEER is None:
        return {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for name, array in arrays.items():
            if isinstance(array, dict):
                case[name] = f"{folder}/{name}.npz"
                np.savez(case[name], **array)
            else:
                case[name] = f"{folder}/{name}.npy"
                np.save(case[name], array)
        case["out"] = f"{folder}/out.npz"
        try:
            run = subprocess.run(
                [PEER, str(Path(__file__).with_name("kernels_peer.py")), json.dumps(case)],
                capture_output=True, text=True, timeout=600,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return {"failed": "over 600 s"}, {}
        lines = [l for l in run.stdout.splitlines() if l.startswith("RESULT ")]
        if not lines:
            return {"failed": (run.stderr.strip().splitlines() or ["killed"])[-1][:120]}, {}
        return json.loads(lines[0][7:]), dict(np.load(case["out"]))


def inputs(name, N):
    g = torch.Generator().manual_seed(0)
    X = torch.randn(N, 784, dtype=torch.float64, generator=g)
    if name == "clusters":
        centres = torch.randn(8, 784, dtype=torch.float64, generator=g)
        strength = 1 + 2 * torch.rand(N, 1, dtype=torch.float64, generator=g)
        X = X + strength * centres[torch.randint(8, (N,), generator=g)]
    if name in ("equal", "clusters"):
        X = X / X.norm(dim=1, keepdim=True) * 28
    return X


def network(name, depth, C_b=0.0):
    C_W = VARIANCE[name]
    return kd.MLP(784, [1] * (depth - 1), 1, name, C_b=C_b, C_W=C_W, lambda_b=0.0, lambda_W=C_W)


def gram_rows(which, N, names):
    X = inputs(which, N)
    Y = torch.randn(N, 784, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    rows = []
    for name in names:
        for depth in DEPTHS:
            compiled = kernel(network(name, depth, 0.1 if which == "biases" else 0.0))
            first, gram = timed(lambda compiled=compiled: compiled(X))
            ratios, ours, product = [], [], []
            # in turns, so that a busy machine slows both alike
            for _ in range(REPEATS):
                product.append(timed(lambda: X @ Y.T)[0])
                ours.append(timed(lambda compiled=compiled: compiled(X))[0])
                ratios.append(ours[-1] / product[-1])
            work = cpu(lambda compiled=compiled: compiled(X)) / cpu(lambda: X @ Y.T)
            rows.append(
                {"activation": name, "depth": depth, "N": N, "seconds": float(np.median(ours)),
                 "product": float(np.median(product)), "ratio": float(np.median(ratios)),
                 "spread": [min(ratios), max(ratios)], "cpu": work,
                 "threads": torch.get_num_threads(), "load": os.getloadavg()[0], "first": first,
                 "method": gram.method, "checked": gram.error}
            )  # fmt: skip
            del gram
            print(json.dumps(rows[-1]), flush=True)
    return rows


def peer_rows(names, N, depths=DEPTHS, dtype=torch.float64):
    """Both in one run on the same inputs: times, peak memory and the largest difference."""
    rows = []
    X = inputs("equal", N).to(dtype)
    for name in names:
        for depth in depths:
            compiled = kernel(network(name, depth))
            compiled(X)
            with Peak() as peak:
                seconds, gram = timed(lambda compiled=compiled: compiled(X))
            case = {"kind": "gram", "activation": name, "depth": depth, "C_W": VARIANCE[name]}
            theirs, arrays = peer(case, {"file": X.numpy()})
            row = {"activation": name, "depth": depth, "N": N, "dtype": str(dtype).split(".")[-1],
                   "seconds": seconds, "mb": peak.mb, "peer": theirs}  # fmt: skip
            if arrays:
                row["difference"] = max(
                    float(np.abs(arrays[n] - getattr(gram, n)[:50, :50].numpy()).max()
                          / np.abs(arrays[n]).max())
                    for n in ("nngp", "ntk")
                )  # fmt: skip
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
        wide = nn.Sequential(nn.Conv2d(3, 64, 3, 1, 1), nn.ReLU(), nn.Conv2d(64, 64, 3, 2, 1),
                             nn.ReLU(), nn.Conv2d(64, 64, 3, 2, 1), nn.ReLU(), nn.Flatten(),
                             nn.Linear(64 * 64, 10))  # fmt: skip
        images = torch.randn(16, 3, 32, 32)
        data = {"mlp": torch.randn(64, 512), "cnn": images, "cnn, 64 channels": images}
    for name, model in (("mlp", mlp), ("cnn", cnn), ("cnn, 64 channels", wide)):
        X = data[name]
        parameters = [p.detach().numpy() for p in model.parameters()]
        weights = {f"{'wb'[i % 2]}{i // 2}": p for i, p in enumerate(parameters)}
        for outputs in ("full", "trace"):
            empirical_ntk(model, X, None, outputs)
            runs = [timed(lambda m=model, X=X, o=outputs: empirical_ntk(m, X, None, o))
                    for _ in range(7)]  # fmt: skip
            recipe = [timed(lambda m=model, X=X, o=outputs: _recipe(m, X, o))[0] for _ in range(2)]
            case = {"kind": "empirical", "model": name, "outputs": outputs}
            theirs, arrays = peer(case, {"file": X.numpy(), "weights": weights})
            row = {"case": name, "outputs": outputs, "peer": theirs, "recipe": min(recipe),
                   "seconds": float(np.median([seconds for seconds, _ in runs]))}  # fmt: skip
            if name != "mlp":
                row["floor"] = _floor(model, X, outputs)
            if arrays:
                found = runs[0][1].numpy()
                row["difference"] = float(np.abs(arrays["ntk"] - found).max() / np.abs(found).max())
            rows.append(row)
            print(json.dumps(row), flush=True)
    return rows


def _floor(model, X, outputs):
    """Seconds of one large product with as many multiply-adds as explicit Jacobians take.

    For every output the convolutions backwards, but for the first one to its inputs; and inner
    products of their Jacobians. Dense layers need none: they stay products.
    """
    counts, parameters, x, n_out = [], 0, X, int(model(X[:1]).numel())
    for layer in model:
        x = layer(x)
        if isinstance(layer, nn.Conv2d):
            counts.append(x.numel() * layer.weight[0].numel())
            parameters += layer.weight.numel()
    rows = len(X) * n_out
    total = n_out * (2 * sum(counts) - counts[0])
    total += parameters * (rows * rows if outputs == "full" else rows * len(X))
    A = torch.randn(1024, 1024)
    return total / 1024**3 * min(timed(lambda: A @ A)[0] for _ in range(20))


def _recipe(model, X, outputs):
    """The contraction of explicit Jacobians that torch.func's tutorial recommends."""
    from torch.func import functional_call, jacrev, vmap

    values = {k: p.detach() for k, p in model.named_parameters()}

    def f(p, x):
        return functional_call(model, p, (x[None],))[0]

    J = vmap(jacrev(f), (None, 0))(values, X)
    equation = {"full": "aop,bqp->aboq", "trace": "aop,bop->ab"}[outputs]
    return sum(torch.einsum(equation, j.flatten(2), j.flatten(2)) for j in J.values())


def conv_rows():
    g = torch.Generator().manual_seed(0)
    X = torch.randn(16, 3, 32, 32, dtype=torch.float64, generator=g)
    layers = []
    for _ in range(3):
        layers += [Conv(3, C_W=2.0, lambda_b=0.0, lambda_W=2.0), Act("relu")]
    compiled = kernel(ConvNet([*layers, GlobalAvgPool(), Dense(lambda_b=0.0)]))
    with Peak() as peak:
        seconds, gram = timed(lambda: compiled(X))
    small = X[:4].permute(0, 2, 3, 1).contiguous().numpy()
    theirs, arrays = peer({"kind": "cntk"}, {"file": small})
    # distinct pairs, which is what both compute
    row = {"images": 16, "seconds": seconds, "per_entry": seconds / 136, "mb": peak.mb,
           "peer": theirs}  # fmt: skip
    if arrays:
        row["difference"] = float(
            np.abs(arrays["ntk"] - gram.ntk[:4, :4].numpy()).max() / arrays["ntk"].max()
        )
        row["peer_per_entry"] = theirs["seconds"] / 10
    print(json.dumps(row), flush=True)
    return [row]


def run(section, N, names):
    if section in INPUTS:
        return gram_rows(section, N, names)
    return {
        "peer-relu": lambda: peer_rows(["relu"], N),
        "peer-smooth": lambda: peer_rows(["erf", "gelu"], 2000, (10, 30)),
        "peer-tanh": lambda: peer_rows(["tanh"], 2000, (3, 10)),
        "peer-float32": lambda: peer_rows(["relu"], N, (10,), torch.float32),
        "empirical": empirical_rows,
        "conv": conv_rows,
    }[section]()


def _number(value, form):
    return "–" if value is None else format(value, form)


def table(results):
    lines = ["### Kernels of data sets", "",
             "float64, d = 784, NNGP and NTK together. The ratio is "
             f"that of the times of the Gram matrices and of the general product X Yᵀ, taken in "
             f"turns in one process: median (least – largest) of {REPEATS}. *First* is the first "
             "call, which compiles the map; *checked* the largest deviation from the recursion "
             "on sampled entries, relative to the largest of them. *CPU* is the same ratio in "
             "processor time. *Load*: the threads used, and the machine's load average meanwhile "
             "(2 cores); above 2 the times are too long and the ratios noisy."]  # fmt: skip
    for which, title in INPUTS.items():
        if which not in results:
            continue
        lines += ["", f"**{title}**, N = {results[which][0]['N']}", "",
                  "| activation | depth | s | × X Yᵀ | CPU | first, s | method | checked | load |",
                  "|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
        lines += [
            f"| {r['activation']} | {r['depth']} | {r['seconds']:.3f} | {r['ratio']:.2f} "
            f"({r['spread'][0]:.2f} – {r['spread'][1]:.2f}) | {r['cpu']:.2f} | {r['first']:.2f} | "
            f"{r['method']} | {r['checked']:.0e} | {r['threads']}, {r['load']:.0f} |"
            for r in results[which]
        ]
    beside = [r for name in SECTIONS if name.startswith("peer-") for r in results.get(name, [])]
    if beside:
        lines += ["", "**Beside neural-tangents 0.6.5** (`stax.repeat`, jitted; tanh: numerical, "
                  "in tiles of 250 as it would not fit otherwise), the same inputs of equal norm "
                  "in one run; peak memory above the inputs", "",
                  "| activation | depth | N | dtype | ours, s | its, s | faster | ours, MB | "
                  "its, MB | differs |", "|---|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for r in beside:
        theirs = r["peer"].get("seconds")
        lines.append(
            f"| {r['activation']} | {r['depth']} | {r['N']} | {r['dtype']} | {r['seconds']:.3f} | "
            f"{_number(theirs, '.2f')} | "
            f"{_number(theirs and theirs / r['seconds'], '.1f')}× | {r['mb']:.0f} | "
            f"{_number(theirs and r['peer']['peak_kb'] / 1e3, '.0f')} | "
            f"{_number(r.get('difference'), '.0e')} |"
        )
    if "empirical" in results:
        lines += ["", "**Empirical NTK**, float32, 10 outputs: MLP of width 512 and depth 4, batch "
                  "64; small CNNs, batch 16. *Floor*: one large matrix product with as many "
                  "multiply-adds as the explicit Jacobians of the convolutions take", "",
                  "| model | outputs | ours, s | neural-tangents structured, s | torch.func "
                  "recipe, s | floor, s | differs |", "|---|---|---|---|---|---|---|"]  # fmt: skip
        lines += [
            f"| {r['case']} | {r['outputs']} | {r['seconds']:.4f} | "
            f"{_number(r['peer'].get('seconds'), '.4f')} | {r['recipe']:.3f} | "
            f"{_number(r.get('floor'), '.4f')} | {_number(r.get('difference'), '.0e')} |"
            for r in results["empirical"]
        ]
    if "conv" in results:
        lines += ["", "**CNTK**, 32×32×3, three 3×3 convolutions, ReLU, global average pooling; "
                  "neural-tangents with 4 images", "",
                  "| images | s | s a pair | peak MB | its s a pair | its peak MB | differs |",
                  "|---|---|---|---|---|---|---|"]  # fmt: skip
        lines += [
            f"| {r['images']} | {r['seconds']:.1f} | {r['per_entry']:.3f} | {r['mb']:.0f} | "
            f"{_number(r.get('peer_per_entry'), '.3f')} | "
            f"{_number(r['peer'].get('peak_kb', 0) / 1e3 or None, '.0f')} | "
            f"{_number(r.get('difference'), '.0e')} |"
            for r in results["conv"]
        ]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=4000)
    parser.add_argument("--section", action="append", choices=SECTIONS)
    parser.add_argument("--activation", action="append", choices=list(VARIANCE))
    options = parser.parse_args()
    stored = RESULTS / "kernels.json"
    for section in options.section or SECTIONS:
        rows = run(section, options.n, options.activation or list(VARIANCE))
        RESULTS.mkdir(exist_ok=True)
        results = json.loads(stored.read_text()) if stored.exists() else {}
        if section in INPUTS:
            # a part of the activations replaces its own rows only
            fresh = {r["activation"] for r in rows}
            rows += [r for r in results.get(section, []) if r["activation"] not in fresh]
            rows.sort(key=lambda r: (list(VARIANCE).index(r["activation"]), r["depth"]))
        results |= {section: rows, "threads": torch.get_num_threads(),
                    "torch": torch.__version__, "python": sys.version.split()[0]}  # fmt: skip
        stored.write_text(json.dumps(results, indent=1) + "\n")
        (RESULTS / "kernels.md").write_text(table(results))
    print((RESULTS / "kernels.md").read_text())


if __name__ == "__main__":
    main()

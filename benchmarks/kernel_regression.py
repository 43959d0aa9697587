"""Regression with the NTK of a ConvNet and of a Transformer, beside the trained networks and RBF.

Digits (scikit-learn's, 8 × 8) with a small ConvNet, and windows of Python's documentation
(``pydoc_data.topics``: which topic is it from?) with a small Transformer encoder. Gaussian
processes with the kernel of the infinite network (NTK, NNGP) and with an RBF kernel; amplitude,
noise and the RBF's width by the evidence. The networks: Adam, cross entropy, an ensemble of three
seeds. ``python -m benchmarks.kernel_regression`` takes some minutes.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import kadanoff as kd
from kadanoff.errors import KadanoffError
from kadanoff.files import atomic_write, write_json
from kadanoff.learning import posterior

RESULTS = Path(__file__).parent / "results"
TOPICS = ("compound", "specialnames", "types", "formatstrings", "string-methods", "debugger")
WORDS, VOCABULARY = 12, 300
NOISES = (1e-4, 1e-3, 1e-2, 0.03, 0.1, 0.3)


class ConvNet(nn.Module):
    """Three convolutions, a pooling, global average, readout."""

    def __init__(self, n: int = 64, classes: int = 10) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(c, n, 3, padding=1) for c in (1, n, n))
        self.out = nn.Linear(n, classes)

    def forward(self, x: Tensor) -> Tensor:
        for i, conv in enumerate(self.convs):
            x = F.relu(conv(x))
            x = F.avg_pool2d(x, 2) if i == 1 else x
        return self.out(x.mean((2, 3)))


class Encoder(nn.Module):
    """One pre-norm block of attention and MLP, mean over words."""

    def __init__(self, n: int = 64, heads: int = 8, classes: int = len(TOPICS)) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(VOCABULARY, n), nn.Embedding(WORDS, n)
        self.block = nn.TransformerEncoderLayer(
            n, heads, 2 * n, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.norm, self.out = nn.LayerNorm(n), nn.Linear(n, classes)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x) + 0.3 * self.place(torch.arange(x.shape[1]))
        return self.out(self.norm(self.block(h)).mean(1))


def digits(train: int, test: int) -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    found = load_digits()
    order = torch.randperm(len(found.target), generator=torch.Generator().manual_seed(0))
    at = order[: train + test]
    x = torch.tensor(found.images)[at, None] / 16 - 0.3
    return x.double(), torch.tensor(found.target)[at].long()


def windows(train: int, test: int) -> tuple[Tensor, Tensor]:
    """Windows of words; those of the test come from the last third of each topic."""
    from pydoc_data.topics import topics

    words = {t: re.findall(r"[a-z_]+|[^\sa-z_]", topics[t].lower()) for t in TOPICS}
    counts = Counter(w for t in TOPICS for w in words[t][: 2 * len(words[t]) // 3])
    known = {w: i + 1 for i, (w, _) in enumerate(counts.most_common(VOCABULARY - 1))}
    g = torch.Generator().manual_seed(0)
    x, y = [], []
    for k in range(train + test):
        c = int(torch.randint(len(TOPICS), (1,), generator=g))
        line = words[TOPICS[c]]
        cut = 2 * len(line) // 3
        low, high = (0, cut - WORDS) if k < train else (cut, len(line) - WORDS)
        start = int(torch.randint(low, high, (1,), generator=g))
        x.append([known.get(w, 0) for w in line[start : start + WORDS]])
        y.append(c)
    return torch.tensor(x), torch.tensor(y)


def probabilities(mean: Tensor, variance: Tensor) -> Tensor:
    """P(an output is the largest), outputs independent Gaussians."""
    g = torch.Generator().manual_seed(0)
    noise = torch.randn(400, *mean.shape, generator=g, dtype=mean.dtype)
    top = (mean + noise * variance.clamp_min(0).sqrt()[:, None]).argmax(-1)
    found = F.one_hot(top, mean.shape[1]).double().mean(0)
    return (found + 1e-3) / (1 + 1e-3 * mean.shape[1])


def judged(p: Tensor, y: Tensor) -> dict[str, float]:
    """Accuracy, negative log likelihood, and calibration error in ten bins."""
    sure, guess = p.max(1)
    right = (guess == y).double()
    error = 0.0
    for k in range(10):
        inside = (sure > k / 10) & (sure <= (k + 1) / 10)
        if bool(inside.any()):
            error += float(inside.double().mean()) * abs(
                float(sure[inside].mean() - right[inside].mean())
            )
    return {"accuracy": float(right.mean()), "calibration": error,
            "nll": float(-p.gather(1, y[:, None]).log().mean())}  # fmt: skip


def process(grams: list[Tensor], y: Tensor, n: int, classes: int) -> dict[str, float]:
    """The Gaussian process whose kernel and noise have the largest evidence."""
    targets = F.one_hot(y[:n], classes).double() - 1 / classes
    best, kept = -float("inf"), None
    for K in grams:
        K = K / K[:n, :n].diagonal().mean()
        for noise in NOISES:
            try:
                found = posterior(K, targets, noise=noise)
            except KadanoffError:
                continue
            # the best amplitude a for both: a = y (K + s²)⁻¹ y / (N outputs), in closed form
            inverse = torch.linalg.inv(K[:n, :n] + noise * torch.eye(n, dtype=K.dtype))
            size = float((targets * (inverse @ targets)).sum()) / targets.numel()
            logdet = float(torch.linalg.slogdet(inverse)[1])
            evidence = -0.5 * targets.numel() * torch.tensor(size).log().item()
            evidence += 0.5 * classes * logdet
            if evidence > best:
                best, kept = evidence, (found, size)
    assert kept is not None
    found, size = kept
    p = probabilities(found.mean, size * found.cov.diagonal())
    return judged(p, y[n:])


def trained(
    make: Callable[[], nn.Module], x: Tensor, y: Tensor, n: int, steps: int
) -> list[Tensor]:
    """Probabilities of three networks at the test points."""
    found = []
    for seed in range(3):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = make()
            inputs = x.float() if x.is_floating_point() else x
            optimizer = torch.optim.Adam(model.parameters(), 2e-3)
            for _ in range(steps):
                batch = torch.randint(n, (64,))
                loss = F.cross_entropy(model(inputs[batch]), y[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            model.eval()
            with torch.no_grad():
                found.append(model(inputs[n:]).double().softmax(1))
    return found


def timed(function: Callable) -> tuple[float, object]:
    start = time.process_time()
    found = function()
    return time.process_time() - start, found


def task(name: str, make: Callable[[], nn.Module], x: Tensor, y: Tensor, n: int,
         classes: int, features: Tensor, steps: int) -> list[dict]:  # fmt: skip
    """Rows of one task."""
    rows = []
    kernel = kd.kernel(make(), laws=kd.program.laws(make), draws=8)
    seconds, gram = timed(lambda: kernel(x))
    for which in ("ntk", "nngp"):
        more, found = timed(lambda w=which: process([getattr(gram, w).double()], y, n, classes))
        rows.append({"task": name, "method": f"{which.upper()} of the network at infinite width",
                     "seconds": seconds + more, **found})  # fmt: skip
    distance = torch.cdist(features, features) ** 2
    middle = float(distance[:n, :n].median())
    more, found = timed(lambda: process(
        [torch.exp(-distance / (2 * s * middle)) for s in (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)],
        y, n, classes))  # fmt: skip
    rows.append({"task": name, "method": "RBF, width by the evidence", "seconds": more, **found})
    more, every = timed(lambda: trained(make, x, y, n, steps))
    single = [judged(p, y[n:]) for p in every]
    mean = {k: sum(s[k] for s in single) / len(single) for k in single[0]}
    rows.append({"task": name, "method": "trained network (mean of 3)", "seconds": more / 3,
                 **mean})  # fmt: skip
    rows.append({"task": name, "method": "trained, ensemble of 3", "seconds": more,
                 **judged(torch.stack(every).mean(0), y[n:])})  # fmt: skip
    for row in rows:
        print(row, flush=True)
    return rows


def table(rows: list[dict]) -> str:
    lines = [
        "### Regression with kernels of modules, beside the trained networks",
        "",
        "Digits: 200 images for training, 200 for the test, ConvNet of three convolutions. Topics:",
        f"which of {len(TOPICS)} topics of Python's documentation {WORDS} words are from, 120",
        "windows for training, 80 for the test (last third of each topic), Transformer encoder of",
        "one block, its heads sampled. Calibration: expected error of ten bins; nll: negative log",
        "likelihood a test point. Processor seconds of one thread; a kernel's are for both. With",
        "200 and 80 test points the accuracy has a standard error of about 2 % and 5 %.",
        "",
        "| task | method | accuracy | calibration | nll | s |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['task']} | {r['method']} | {r['accuracy']:.1%} | {r['calibration']:.3f} | "
        f"{r['nll']:.2f} | {r['seconds']:.1f} |"
        for r in rows
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    torch.set_num_threads(1)
    x, y = windows(120, 80)
    bags = torch.stack([torch.bincount(line, minlength=VOCABULARY) for line in x]).double()
    rows = task("topics", Encoder, x, y, 120, len(TOPICS), bags, 300)
    x, y = digits(200, 200)
    rows += task("digits", ConvNet, x, y, 200, 10, x.flatten(1), 400)
    write_json(RESULTS / "kernel_regression.json", {"torch": torch.__version__, "rows": rows})
    atomic_write(RESULTS / "kernel_regression.md", table(rows))


if __name__ == "__main__":
    main()

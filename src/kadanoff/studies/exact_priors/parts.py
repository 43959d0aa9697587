"""What is computed: plain values in and out, so that each part survives a kill."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

__all__ = [
    "BINS",
    "accuracy",
    "drawn",
    "histogram",
    "mixtures_of",
    "radial",
    "radial_edges",
    "speed",
]

# bins of |h| up to 5
BINS = 100


def histogram(widths: list[int], activation: str, samples: int, seed: int) -> list[float]:
    """Density of h by samples of the reduced law, |h| in bins up to 5."""
    from kadanoff import priors

    prior, edges = priors.exact(widths, activation), np.linspace(0, 5, BINS + 1)
    count, size = np.zeros(BINS), min(samples, 1_000_000)
    blocks = samples // size
    for block in range(blocks):
        h = prior.rvs(size, np.random.default_rng([seed, block]))
        count += np.histogram(np.abs(h[h != 0]), edges)[0]
    return list(count / (blocks * size) / np.diff(edges) / 2)


def radial(widths: list[int], activation: str, m: int, samples: int, seed: int) -> list[float]:
    """Density of ±|h| of networks with drawn weights and m outputs, |h| in bins up to its tail."""
    rng, edges = np.random.default_rng(seed), radial_edges(m)
    count = np.zeros(BINS)
    for start in range(0, samples, 20_000):
        norms = np.linalg.norm(
            _outputs(widths, activation, m, min(20_000, samples - start), rng), axis=1
        )
        count += np.histogram(norms[norms > 0], edges)[0]
    return list(count / samples / np.diff(edges) / 2)


def radial_edges(m: int) -> np.ndarray:
    """Bins of |h| for m outputs of unit variance."""
    return np.linspace(0, 5 * math.sqrt(m), BINS + 1)


def _outputs(
    widths: list[int], activation: str, m: int, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Outputs of networks with explicit weight matrices, unit variance, shape (count, m)."""
    from kadanoff import priors

    h = np.ones((count, 1))
    for n in widths:
        h = np.einsum("sij,sj->si", rng.standard_normal((len(h), n, h.shape[1])), h)
        if activation == "relu":
            h = np.maximum(h, 0)
    h = np.einsum("sij,sj->si", rng.standard_normal((len(h), m, h.shape[1])), h)
    return priors.exact(widths, activation, n_out=m).kappa * h


def drawn(widths: list[int], activation: str, m: int, samples: int, seed: int) -> list[float]:
    """Drawn weight matrices: √N × Kolmogorov distance, and z-scores of atom and variance."""
    from kadanoff import priors

    prior, rng, norms = priors.exact(widths, activation, n_out=m), np.random.default_rng(seed), []
    for start in range(0, samples, 20_000):
        h = _outputs(widths, activation, m, min(20_000, samples - start), rng)
        norms.append(np.linalg.norm(h, axis=1))
    r = np.sort(np.concatenate(norms))
    zeros = float((r == 0).mean())
    points = np.unique(np.quantile(r[r > 0], np.linspace(0.001, 0.999, 400)))
    law = 2 * prior.cdf(points) - 1 if m == 1 else prior.cdf(points)
    distance = np.abs(np.searchsorted(r, points, side="right") / len(r) - law).max()
    spread = math.sqrt(prior.atom * (1 - prior.atom) / len(r))
    square = r**2 / m
    error = square.std() / math.sqrt(len(r))
    return [
        float(distance) * math.sqrt(len(r)),
        (zeros - prior.atom) / spread if spread else 0.0,
        float(square.mean() - prior.var()) / error,
    ]


def mixture(widths: list[int]) -> float:
    """Largest relative difference of the ReLU density to its mixture of linear densities."""
    import itertools

    from kadanoff import priors

    h = np.geomspace(1e-3, 30, 40)
    relu, total = priors.exact(widths, "relu"), np.zeros(len(h))
    for on in itertools.product(*(range(1, n + 1) for n in widths)):
        weight = math.prod(math.comb(n, k) / 2**n for n, k in zip(widths, on))
        total += weight * priors.exact(on, "linear", kappa=relu.kappa).pdf(h)
    return float(np.abs(relu.pdf(h) / total - 1).max())


def accuracy(points: list[float]) -> list[list[Any]]:
    """ln p, and the relative error of p against mpmath's Meijer function, out to deep tails."""
    import mpmath

    from kadanoff import priors

    rows = []
    for widths in ((1,), (5,), (5, 5), (2, 7, 4), (100, 50, 100)):
        prior, d = priors.exact(widths, "linear"), len(widths) + 1
        for h in points:
            with mpmath.workdps(40):
                kappa = mpmath.mpf(prior.kappa)
                z = mpmath.mpf(h) ** 2 / (2**d * kappa**2)
                g = mpmath.meijerg([[], []], [[0] + [mpmath.mpf(n - 1) / 2 for n in widths], []], z)
                front = (2**d * mpmath.pi * kappa**2) ** -mpmath.mpf("0.5")
                gammas = mpmath.fprod(mpmath.gamma(mpmath.mpf(n) / 2) for n in widths)
                expected = mpmath.log(front * g / gammas)
                gap = float(mpmath.mpf(float(prior.logpdf(h))) - expected)
            rows.append([list(widths), h, float(expected), abs(gap)])
    return rows


def speed(width: int, repeats: int) -> list[float]:
    """CPU seconds for 100 points: ours, and the mixture of Meijer functions (part of it timed)."""
    import itertools
    import time

    import mpmath

    from kadanoff import priors

    widths, h = (width,) * 3, np.linspace(0.05, 5, 100)
    ours = []
    for _ in range(5):
        start = time.process_time()
        kappa = priors.exact(widths, "relu").kappa
        priors.exact(widths, "relu").pdf(h)
        ours.append(time.process_time() - start)
    terms = list(itertools.product(range(1, width + 1), repeat=3))
    rng, spent = np.random.default_rng(0), []
    for _ in range(repeats):
        on, x = terms[rng.integers(len(terms))], float(h[rng.integers(len(h))])
        start = time.process_time()
        z = x**2 / (16 * kappa**2)
        mpmath.meijerg([[], []], [[0] + [(k - 1) / 2 for k in on], []], z)
        spent.append(time.process_time() - start)
    mean = float(np.mean(spent))
    return [
        float(np.median(ours)),
        mean * len(terms) * len(h),
        float(np.std(spent)) / math.sqrt(repeats) / mean,
    ]


def mixtures_of(cases: list[list[int]]) -> list[float]:
    """The mixture checked for several width sequences."""
    return [mixture(widths) for widths in cases]

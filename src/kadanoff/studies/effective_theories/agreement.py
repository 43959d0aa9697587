"""Sums of diagrams beside every other route to the same numbers: how far apart they are."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import torch

from kadanoff.activations import activation
from kadanoff.architecture import MLP
from kadanoff.critical import criticality
from kadanoff.diagrams.criticality import condition, universal_ratio
from kadanoff.diagrams.evaluation import correlators
from kadanoff.gaussian import pair
from kadanoff.rgflow.double_scaling import exponential_functional
from kadanoff.rgflow.single import exact_chain, moment_series

__all__ = [
    "RATIOS",
    "along_depth",
    "chain_gaps",
    "condition_gaps",
    "double_scaling_rows",
    "product_gap",
    "series_gap",
]

# (k, loops) of the ratios that grow as powers of depth: 4-, 6-, 8-point function, mean
RATIOS = ((2, 0), (3, 0), (4, 0), (1, 1))


def series_gap(order: int) -> float:
    """Largest relative difference of diagrams to the any-order moment series."""
    worst = 0.0
    for widths, name, C_W, C_b in (
        ([50] * 12, "tanh", 1.0, 0.0),
        ([40, 80, 20, 60], "swish", 1.7, 0.2),
        ([30, 10, 70], "elu", 1.3, 0.1),
        ([20, 40, 10], "gelu", 1.9, 0.05),
    ):
        arch = MLP(1, widths, 1, name, C_W=C_W, C_b=C_b)
        ours = correlators(arch, [[1.0]], order)
        theirs = moment_series(arch, [[1.0]], order)
        for k in range(1, order + 2):
            series = theirs.cumulant_series(k)
            for loops in range(order + 2 - k):
                gap = np.abs(ours.coefficient(k, loops) - series[:, k - 1 + loops]).max()
                worst = max(worst, float(gap / np.abs(series[:, k - 1 + loops]).max()))
    return worst


def chain_gaps(
    n: int, hidden: int, C_W: float, C_b: float, grid: int, nodes: int
) -> dict[str, Any]:
    """|sum of diagrams / exact − 1| of κ_1 … κ_4 at the last layer, order by order."""
    arch = MLP(1, [n] * hidden, 1, "tanh", C_W=C_W, C_b=C_b)
    exact = exact_chain(arch, [[1.0]], grid=grid, nodes=nodes)
    found = correlators(arch, [[1.0]], 5)
    gaps = {}
    for k in (1, 2, 3, 4):
        value = exact.cumulants[-1, k - 1]
        sums = [found.cumulant(k, order=p)[-1] for p in range(max(k - 1, 1), 6)]
        gaps[str(k)] = [abs(s / value - 1) for s in sums]
    return {"gaps": gaps, "error": (exact.error[-1] / np.abs(exact.cumulants[-1])).tolist()}


def along_depth(activation: str, C_W: float, depth: int, every: int) -> dict[str, Any]:
    """K and the coefficients of κ_k along the layers, every so many."""
    arch = MLP(1, [64] * (depth - 1), 1, activation, C_W=C_W)
    found = correlators(arch, [[1.0 / math.sqrt(C_W)]], 3)
    at = sorted({*range(every, depth + 1, every), *(depth // 2**i for i in range(4))})
    names = [(1, 0), *RATIOS]
    return {
        "layers": at,
        "values": {
            f"{k},{loops}": [float(found.coefficient(k, loops)[l - 1]) for l in at]
            for k, loops in names
        },
    }


def product_gap(order: int) -> float:
    """Scale-invariant activations: κ_2 of diagrams against the exact product over layers."""
    worst = 0.0
    for name in ("relu", "linear", "leaky_relu(0.3)"):
        point = criticality(name)
        for widths in ([30] * 3, [30, 60, 20, 10]):
            found = correlators(MLP(1, widths, 1, name, C_W=point.C_W), [[1.0]], order)
            exact = found.K[-1, 0, 0] ** 2 * (math.prod(1 + point.nu / n for n in widths) - 1)
            worst = max(worst, abs(found.cumulant(2)[-1] / exact - 1))
    return worst


def condition_gaps(trials: int, seed: int) -> list[float]:
    """Eigenvalues of the linear response against χ∥ and C_W⟨σ'σ'⟩; J ⊗ J ⊗ J against cubes."""
    rng, worst, cubes = np.random.default_rng(seed), 0.0, 0.0
    for trial in range(trials):
        act, C_W = activation(("tanh", "swish", "erf")[trial % 3]), float(rng.uniform(0.8, 2.5))
        N = 2 + trial % 2
        root = rng.standard_normal((N, N + 2))
        K = torch.from_numpy(root @ root.T / (N + 2))
        found = condition(act, K, C_W)
        expected = []
        for a, b in itertools.combinations_with_replacement(range(N), 2):
            value = float(pair(act, K[a, a], K[a, b], K[b, b], 1, 1).value)
            if a == b:
                value += float(pair(act, K[a, a], K[a, a], K[a, a], 0, 2).value)
            expected.append(C_W * value)
        gap = np.abs(np.sort(np.real(found.eigenvalues)) - np.sort(expected)).max()
        worst = max(worst, float(gap))
        if N == 2:
            third = np.einsum("ap,bq,cr->abcpqr", *[found.J] * 3).reshape(27, 27)
            largest = np.abs(np.linalg.eigvals(third)).max()
            cubes = max(cubes, abs(largest / found.growth(3) - 1))
    return [worst, cubes]


def double_scaling_rows(r: float, samples: int, seed: int) -> list[list[float]]:
    """Cumulants of Yor's functional at ℓ/n = r: [measured, error, all loops known, leading]."""
    law, rows = exponential_functional(r, n_samples=samples, seed=seed), []
    for k in (1, 2, 3):
        loops = range(int(k == 1), 6 - k)
        terms = [float(universal_ratio(k, a)) * r ** (k - 1 + a) for a in loops]
        rows.append(
            [
                float(law.cumulants[k - 1]),
                float(law.stderr[k - 1]),
                float(k == 1) + sum(terms),
                float(k == 1) + terms[0],
                abs(terms[-1]),
            ]
        )
    return rows

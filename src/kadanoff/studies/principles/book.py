"""Further results of the book as parts: two inputs, Bayes at 1/n, information, residual networks.

Networks are drawn from their exact law: given a layer's metric its neurons are independent
Gaussians, so that no weights are needed.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

import kadanoff as kd
from kadanoff.ensembles import scaling
from kadanoff.learning.depth import drawn_metrics
from kadanoff.rgflow.information import mutual_information, optimal_gamma
from kadanoff.studies.principles.parts import step_size, task, trained

__all__ = [
    "bayes",
    "giant_leap",
    "leap_prediction",
    "optimal_skip",
    "residual_ensemble",
    "residual_growth",
    "shared_information",
    "two_inputs",
]

_BATCHES = 20


def two_inputs(kind: str, widths: list[int], layers: int, networks: int, seed: int) -> Any:
    """Growth a layer of a small difference of two inputs, tanh at C_W = 1.5, C_b = 0.05.

    Returns the predicted χ, and for each width the measured rate with its standard error.
    """
    scales = kd.critical.depth_scales("tanh", 0.05, 1.5)
    K, first = scales.K_star, 2
    out = []
    for n in widths:
        rng, ratios = np.random.default_rng([seed, n]), []
        for _ in range(_BATCHES):
            count = networks // _BATCHES
            if kind == "parallel":
                a, b, c = K * 1.05**2, K, K * 1.05
            else:
                a, b, c = K, K, K * (1 - 0.05**2 / 2)
            G = np.broadcast_to([a, b, c], (count, 3)).copy()
            size = []
            for _ in range(layers):
                z1 = rng.standard_normal((count, n))
                z2 = rng.standard_normal((count, n))
                root = np.sqrt(G[:, 0])[:, None]
                slope = (G[:, 2] / G[:, 0])[:, None]
                rest = np.sqrt(np.maximum(G[:, 1] - G[:, 2] ** 2 / G[:, 0], 0))[:, None]
                s, t = np.tanh(root * z1), np.tanh(slope * root * z1 + rest * z2)
                G = 0.05 + 1.5 * np.stack([(s * s).mean(1), (t * t).mean(1), (s * t).mean(1)], 1)
                gap = G[:, 0] - G[:, 1]
                size.append((gap if kind == "parallel" else gap + 2 * (G[:, 1] - G[:, 2])).mean())
            ratios.append((size[-1] / size[first]) ** (1 / (layers - 1 - first)))
        out.append([float(np.mean(ratios)), float(np.std(ratios, ddof=1) / _BATCHES**0.5)])
    chi = scales.chi_parallel if kind == "parallel" else scales.chi_perp
    return [float(chi), out]


def bayes(width: int, draws: int, seed: int) -> list[float]:
    """n × (posterior mean at finite width − kernel's) at the test point, its error, prediction.

    Every network drawn from the prior is weighed with its evidence, which is exact.
    """
    noise = 0.05
    arch = kd.MLP(2, [width, width], 1, "tanh", C_b=0.3, C_W=1.5)
    _, X, y, X_test = task(8)
    y = y[:, :1]
    every = torch.cat([X, X_test])
    leading = kd.predict(arch, X, y, X_test, method="bayes", noise=noise)
    first = kd.predict(arch, X, y, X_test, method="bayes", noise=noise, order=1)
    generator = torch.Generator().manual_seed(seed)
    values = []
    for _ in range(_BATCHES):
        weight_sum, total = torch.zeros(()), torch.zeros(())
        for _ in range(max(1, draws // _BATCHES // 5000)):
            G = drawn_metrics(arch, every, 5000, generator)
            A = G[:, :2, :2] + noise * torch.eye(2, dtype=G.dtype)
            pull = torch.linalg.solve(A, y.expand(len(G), -1, -1))
            fit = (y * pull).sum((1, 2))
            weight = (-0.5 * fit - 0.5 * torch.logdet(A)).exp()
            weight_sum = weight_sum + weight.sum()
            total = total + (weight * (G[:, 2:, :2] @ pull)[:, 0, 0]).sum()
        values.append(float(total / weight_sum))
    shift = width * (np.array(values) - float(leading.mean))
    predicted = width * float(first.mean - leading.mean)
    return [float(shift.mean()), float(shift.std(ddof=1) / _BATCHES**0.5), predicted]


def giant_leap(width: int, pairs: int, seed: int) -> Any:
    """n (mean output after one giant leap and small steps − infinite width), both outputs."""
    return trained(width, pairs, seed, "giant_leap")


def leap_prediction() -> Any:
    """The same by theory."""
    width = 1000
    arch, X, y, X_test = task(width)
    eta = step_size()
    leap = kd.predict(arch, X, y, X_test, order=1, eta=eta, algorithm="giant_leap")
    leading = kd.predict(arch, X, y, X_test, order=0, eta=eta)
    return (leap.mean - leading.mean)[0] * width


def shared_information(width: int, depth: int, draws: int, seed: int) -> list[float]:
    """Information (nats) of two output neurons of a ReLU network, its error, v, the formula."""
    arch = kd.MLP(1, [width] * depth, 2, "relu", C_W=2.0)
    x = torch.full((1, 1), 2**-0.5, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    values = []
    for _ in range(_BATCHES):
        G = drawn_metrics(arch, x, draws // _BATCHES, generator)[:, 0, 0].numpy()
        values.append(2 * _entropy(G, 1) - _entropy(G, 2))
    v = (1 + 5 / width) ** depth - 1
    error = float(np.std(values, ddof=1) / _BATCHES**0.5)
    return [float(np.mean(values)), error, v, mutual_information(1, 1, v)]


def _entropy(G: np.ndarray, m: int) -> float:
    """Entropy of m neurons that are N(0, G) given G, for samples of G; by radial quadrature."""
    nodes, weights = np.polynomial.legendre.leggauss(300)
    reach = 9 * math.sqrt(np.quantile(G, 0.999))
    r = reach * (nodes + 1) / 2
    density = np.zeros(len(r))
    for part in np.array_split(G, max(1, len(G) // 2000)):
        each = np.exp(-(r**2) / (2 * part[:, None])) / (2 * math.pi * part[:, None]) ** (m / 2)
        density += each.sum(0)
    density /= len(G)
    area = 2.0 if m == 1 else 2 * math.pi * r
    # far out the density underflows, and p ln p with it
    inside = area * density * np.log(np.maximum(density, 1e-300))
    return -float(reach / 2 * (weights @ inside))


def residual_growth(gamma: float, depth: int) -> list[float]:
    """V/K² of critical tanh with skips at a quarter, half and the whole depth: the recursion."""
    point = kd.criticality("tanh", gamma=gamma)
    arch = kd.Residual(1, 64, depth, 1, "tanh", gamma=gamma, C_W=_inner(point.C_W, depth))
    flow = kd.flow(arch, torch.ones(1, 1, dtype=torch.float64), order=1)
    ratio = (flow.require("V").flatten() / flow.K.flatten() ** 2).tolist()
    return [ratio[depth // 4], ratio[depth // 2], ratio[depth]]


def _inner(C_W: float, depth: int) -> list[float]:
    """C_W of the blocks; the map of the inputs and the readout have none to share with a skip."""
    return [1.0, *[C_W] * depth, 1.0]


def residual_ensemble(
    gamma: float, depth: int, widths: list[int], networks: int, seed: int
) -> list[float]:
    """V/K² a block of linear networks with skips: extrapolated in width, its error, remainder."""
    point = kd.criticality("linear", gamma=gamma)
    arch = kd.Residual(1, widths[0], depth, 1, "linear", gamma=gamma, C_W=_inner(point.C_W, depth))
    X = torch.ones(1, 1, dtype=torch.float64)
    K = kd.flow(arch, X).K.flatten()
    found = scaling(arch, X, widths, networks, seed=seed, observables=["V"])
    # layer depth + 1 is the last of the stream
    limit, scale = found.limit["V"], float(K[depth]) ** 2 * depth
    return [
        float(limit.value.flatten()[depth]) / scale,
        float(limit.stderr.flatten()[depth]) / scale,
        float(found.remainder["V"].flatten()[depth]) / scale,
    ]


def optimal_skip(width: int, depth: int, networks: int, seed: int) -> list[float]:
    """V/nK² of linear networks with the optimal skip, its error, and the skip."""
    gamma = optimal_gamma("linear", width, depth)
    point = kd.criticality("linear", gamma=gamma)
    arch = kd.Residual(1, width, depth, 1, "linear", gamma=gamma, C_W=_inner(point.C_W, depth))
    X = torch.ones(1, 1, dtype=torch.float64)
    found = kd.ensemble(arch, X, networks, seed=seed, observables=["V"])
    scale = width * float(kd.flow(arch, X).K.flatten()[depth]) ** 2
    V = found.V
    return [
        float(V.value.flatten()[depth]) / scale,
        float(V.stderr.flatten()[depth]) / scale,
        gamma,
    ]

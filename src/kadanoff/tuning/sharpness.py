"""The edge of stability: the largest rate at which steps along steep valleys still shrink.

On a quadratic of curvature λ, gradient descent with momentum β (steps ``v = β v + g``) shrinks as
long as the rate is below 2 (1 + β) / λ; with the average ``m = β m + (1 - β) g`` that Adam takes,
below 2 (1 + β) / ((1 - β) λ), which is 38 / λ for β = 0.9. Adam's curvature is that of
D H D with D the inverse root of its denominator sqrt(v) + ε: the preconditioned sharpness (Cohen
et al. 2022). Curvatures are measured by a few differences of gradients on one batch, in a Lanczos
recursion that begins with the step the optimiser is about to take.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kadanoff.errors import AnalysisError
from kadanoff.tuning.trials import Contender, Trials

__all__ = ["WARM", "Edge", "edge", "largest_curvature", "stable_rate"]

Vector = list[Tensor]
# steps of the warm-up, and products with the Hessian: four come within a factor 1.5 of twelve
WARM, PRODUCTS = 20, 4
# root mean square motion of a parameter in a difference of gradients
NUDGE = 3e-4


@dataclass(frozen=True)
class Edge:
    """The edge of stability after a short warm-up.

    Attributes
    ----------
    size : float
        What the rates handed over may be multiplied by, at most; inf where nothing curves upwards.
    sharpness : float
        The largest curvature of the loss, preconditioned as the optimiser does it.
    gradients : int
        What it cost, in gradients.
    """

    size: float
    sharpness: float
    gradients: int


def stable_rate(kind: str, sharpness: float, momentum: float) -> float:
    """The edge for a curvature: 2 (1 + β) / λ for SGD, and over 1 - β where steps are averages.

    Parameters
    ----------
    kind : {"sgd", "adam", "muon"}
    sharpness : float
        The largest curvature λ, preconditioned; inf comes back where it is not positive.
    momentum : float
        β.
    """
    if not sharpness > 0:
        return math.inf
    top = 2 * (1 + momentum) / sharpness
    return top if kind == "sgd" else top / (1 - momentum)


def edge(
    trials: Trials,
    relative: Mapping[str, float],
    *,
    warm: int = WARM,
    products: int = PRODUCTS,
    contender: Contender | None = None,
) -> Edge:
    """Train ``warm`` steps at ``relative`` times the user's rate, then measure the edge.

    Inside ``trials.running()``. Hidden matrices under Muon take a step of fixed spectral norm
    along the polar factor of the momentum: it preconditions them like Adam's denominator, and the
    root of M Mᵀ stands in its place.

    Parameters
    ----------
    trials : Trials
    relative : dict
        Rate of each parameter over one size for all.
    warm, products : int
        Steps of the warm-up, and differences of gradients.
    contender : Contender, optional
        Who takes the steps, from where it stands; without it one at the user's rate.

    Returns
    -------
    Edge

    Raises
    ------
    AnalysisError
        The loss is not finite in the warm-up, or parameters are in half precision.
    """
    maker, before = trials.maker, trials.steps
    if any(p.dtype in (torch.float16, torch.bfloat16) for p in trials.parameters.values()):
        raise AnalysisError(
            "In half precision a difference of gradients is rounding.",
            "Tune the model in float32, or pass base=.",
        )
    if contender is None:
        rates = {n: maker.rate * r for n, r in relative.items()}
        contender = Contender("warm-up", rates)
    trials.train(contender, warm)
    if contender.diverged:
        raise AnalysisError("The loss is not finite within the warm-up.", "Lower lr=.")
    optimizers = trials.enter(contender)
    states = {
        id(p): (o.state[p], g) for o in optimizers for g in o.param_groups for p in g["params"]
    }
    start = _gradients(trials, warm)
    live = [n for n, g in start.items() if g is not None]
    gradient = [g for g in start.values() if g is not None]
    roots, steps, momenta = [], [], []
    for name, g in zip(live, gradient, strict=True):
        state, group = states.get(id(trials.parameters[name]), ({}, {}))
        root, momentum = _preconditioner(state, group, g, maker.kind)
        roots.append(_scaled(root, math.sqrt(relative[name])))
        steps.append(_momentum_of(state, g))
        momenta.append(momentum)
    parameters = [trials.parameters[n] for n in live]

    def product(vector: Vector) -> Vector:
        """D H D times a vector, by a difference of gradients on the same batch."""
        along = [root(v) for root, v in zip(roots, vector, strict=True)]
        count = sum(v.numel() for v in along)
        step = NUDGE / max(math.sqrt(_dot(along, along) / count), 1e-30)
        with torch.no_grad():
            for p, v in zip(parameters, along, strict=True):
                p.add_(v.to(p.dtype), alpha=step)
        there = _gradients(trials, warm)
        with torch.no_grad():
            for p, v in zip(parameters, along, strict=True):
                p.sub_(v.to(p.dtype), alpha=step)
        moved = [there[n] for n in live]
        gaps = [
            torch.zeros_like(g) if m is None else (m - g) / step
            for m, g in zip(moved, gradient, strict=True)
        ]
        return [root(v) for root, v in zip(roots, gaps, strict=True)]

    first = [root(m) for root, m in zip(roots, steps, strict=True)]
    sharpness = largest_curvature(product, first, products)
    limit = stable_rate(maker.kind, sharpness, max(momenta, default=0.0))
    return Edge(limit, sharpness, trials.steps - before)


def largest_curvature(product: Callable[[Vector], Vector], first: Vector, products: int) -> float:
    """Largest eigenvalue of a symmetric map, by Lanczos with full reorthogonalisation.

    Parameters
    ----------
    product : callable
        The map, on lists of tensors.
    first : list of Tensor
        Where it begins; random if it is zero.
    products : int
        How often the map is used.
    """
    norm = math.sqrt(_dot(first, first))
    if not (norm > 0 and math.isfinite(norm)):
        generator = torch.Generator().manual_seed(0)
        first = [torch.randn(v.shape, generator=generator).to(v) for v in first]
        norm = math.sqrt(_dot(first, first))
    basis = [[v / norm for v in first]]
    diagonal: list[float] = []
    beside: list[float] = []
    while True:
        image = product(basis[-1])
        diagonal.append(_dot(image, basis[-1]))
        for earlier in basis:
            overlap = _dot(image, earlier)
            image = [v - overlap * e for v, e in zip(image, earlier, strict=True)]
        norm = math.sqrt(_dot(image, image))
        if len(diagonal) == products or not norm > 1e-12:
            break
        beside.append(norm)
        basis.append([v / norm for v in image])
    n = len(diagonal)
    small = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    for k in range(n - 1):
        small[k, k + 1] = small[k + 1, k] = beside[k]
    return float(torch.linalg.eigvalsh(small)[-1])


def _dot(a: Vector, b: Vector) -> float:
    return sum(float((x.double() * y.double()).sum()) for x, y in zip(a, b, strict=True))


def _gradients(trials: Trials, step: int) -> dict[str, Tensor | None]:
    trials.model.zero_grad(set_to_none=True)
    trials.gradient(step)
    named = trials.parameters.items()
    return {n: None if p.grad is None else p.grad.detach().clone() for n, p in named}


Root = Callable[[Tensor], Tensor]


def _preconditioner(
    state: Mapping[str, Any], group: Mapping[str, Any], g: Tensor, kind: str
) -> tuple[Root, float]:
    """The root of what an optimiser multiplies a gradient with, and its momentum."""
    if kind == "sgd":
        return (lambda v: v), float(group.get("momentum") or 0.0)
    if "momentum_buffer" in state and g.ndim == 2:
        return _polar_root(state["momentum_buffer"]), 0.0
    betas = group.get("betas") or (0.9, 0.999)
    v = state.get("exp_avg_sq")
    if v is None:
        v = g.square()
        correction = 1.0
    else:
        correction = 1 - float(betas[1]) ** float(state.get("step", 1))
    size = (v / correction).sqrt() + float(group.get("eps") or 1e-8)
    # what has never had a gradient has no curvature either
    inverse = torch.where(v > 0, size.rsqrt(), torch.zeros_like(size))
    return (lambda u: u * inverse), float(betas[0])


def _polar_root(momentum: Tensor) -> Root:
    """(M Mᵀ)^(-1/4) from the left, or (Mᵀ M)^(-1/4) from the right: the smaller of the two."""
    m = momentum.double()
    left = m.shape[0] <= m.shape[1]
    gram = m @ m.mT if left else m.mT @ m
    values, vectors = torch.linalg.eigh(gram)
    # singular values below a hundredth of the largest are what Newton-Schulz leaves small too
    floor = 1e-4 * values[-1].clamp_min(1e-30)
    root = (vectors * values.clamp_min(floor) ** -0.25) @ vectors.mT

    def apply(u: Tensor) -> Tensor:
        out = root @ u.double() if left else u.double() @ root
        return out.to(u.dtype)

    return apply


def _scaled(root: Root, factor: float) -> Root:
    return lambda v: factor * root(v)


def _momentum_of(state: Mapping[str, Any], g: Tensor) -> Tensor:
    for name in ("exp_avg", "momentum_buffer"):
        if state.get(name) is not None:
            return state[name]
    return g

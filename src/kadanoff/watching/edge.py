r"""Sharpness against the largest stable rate of the optimiser that is really used.

One step of plain descent is stable along a direction of curvature λ while :math:`\eta\lambda < 2`;
with momentum β, :math:`\eta\lambda < 2(1+\beta)` (with Nesterov's,
:math:`2(1+\beta)/(1+2\beta)`). Adam and its like descend in the metric of their preconditioner P:
with the largest eigenvalue of :math:`P^{-1/2} H P^{-1/2}` for λ, the edge is
:math:`\eta\lambda = 2(1+\beta_1)/(1-\beta_1)` (Cohen et al. 2022, arXiv:2207.14484).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Edge", "Rule", "Sharpness", "rule_of"]


@dataclass(frozen=True)
class Rule:
    """How an optimiser turns gradients into steps, as far as stability goes.

    Attributes
    ----------
    name : str
        ``"sgd"``, ``"adam"``, ``"rmsprop"``, ``"adagrad"``.
    limit : float
        Of rate × curvature.
    rate : float
        Of the first group.
    roots : tuple of (Tensor or float)
        For each parameter, :math:`\\sqrt{\\eta_p / \\eta}\\,P_p^{-1/2}`.
    """

    name: str
    limit: float
    rate: float
    roots: tuple[Tensor | float, ...]


@dataclass(frozen=True)
class Sharpness:
    """The largest curvature met, and the one at which the optimiser becomes unstable.

    Attributes
    ----------
    value : float
        A lower bound of the largest eigenvalue, nearer with every look: power iteration goes on
        from where it was, shifted where negative curvature is larger.
    edge : float
        The optimiser's limit over its rate; NaN if it is not known.
    """

    value: float
    edge: float = math.nan


def rule_of(optimizers: Sequence[Any], parameters: Sequence[nn.Parameter]) -> Rule | None:
    """The rule of the optimisers that hold these parameters; None if it has no known edge.

    Parameters
    ----------
    optimizers : sequence of Optimizer
    parameters : sequence of Parameter
    """
    held: dict[int, tuple[Any, dict[str, Any]]] = {}
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            held |= {id(p): (optimizer, group) for p in group["params"]}
    if not parameters or any(id(p) not in held for p in parameters):
        return None
    kinds = {_kind(optimizer) for optimizer, _ in held.values()}
    if len(kinds) != 1 or None in kinds:
        return None
    (kind,) = kinds
    assert kind is not None
    first = held[id(parameters[0])][1]
    rate = max(float(group["lr"]) for _, group in held.values())
    if not rate > 0:
        return None
    roots = tuple(_root(kind, *held[id(p)], p, rate) for p in parameters)
    return Rule(kind, _limit(kind, first), rate, roots)


def _kind(optimizer: Any) -> str | None:
    group = optimizer.param_groups[0]
    title = str(getattr(optimizer, "name", None) or type(optimizer).__name__).lower()
    if "betas" in group and "adam" in title:
        return "adam"
    if "alpha" in group and "rmsprop" in title:
        return "rmsprop"
    if "adagrad" in title:
        return "adagrad"
    return "sgd" if "sgd" in title else None


def _limit(kind: str, group: dict[str, Any]) -> float:
    if kind == "adam":
        beta = float(group["betas"][0])
        return 2 * (1 + beta) / (1 - beta)
    beta = float(group.get("momentum") or 0.0)
    if group.get("nesterov"):
        return 2 * (1 + beta) / (1 + 2 * beta)
    return 2 * (1 + beta)


def _root(
    kind: str, optimizer: Any, group: dict[str, Any], parameter: nn.Parameter, rate: float
) -> Tensor | float:
    own = math.sqrt(float(group["lr"]) / rate)
    if kind == "sgd":
        return own
    state = optimizer.state.get(parameter, {})
    names = {"adam": "exp_avg_sq", "rmsprop": "square_avg", "adagrad": "sum"}
    square = state.get("max_exp_avg_sq", state.get(names[kind]))
    if square is None:
        return own
    if kind == "adam":
        square = square / (1 - float(group["betas"][1]) ** float(state.get("step", 1)))
    return own / (square.sqrt() + float(group.get("eps", 1e-8))).sqrt()


class Edge:
    """Power iteration that is carried on from look to look.

    Parameters
    ----------
    seed : int
        Of the first direction.
    """

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._direction: list[Tensor] | None = None
        self._shift = 0.0

    def measure(
        self,
        value: Callable[[], Tensor],
        parameters: Sequence[nn.Parameter],
        rule: Rule | None,
        iterations: int = 1,
    ) -> Sharpness | None:
        """One or more products with the Hessian; None if it does not exist.

        Parameters
        ----------
        value : callable
            Computes the loss, attached to ``parameters``.
        parameters : sequence of Parameter
        rule : Rule or None
            Without one, the plain Hessian is looked at, and there is no edge.
        iterations : int
            Products with the Hessian; each costs about two backward passes.
        """
        with _differentiable_twice():
            gradients = torch.autograd.grad(
                value(), parameters, create_graph=True, allow_unused=True
            )
            kept = [i for i, g in enumerate(gradients) if g is not None and g.requires_grad]
            if not kept:
                return None
            found = [gradients[i] for i in kept]
            used = [parameters[i] for i in kept]
            roots: list[Tensor | float] = [1.0 if rule is None else rule.roots[i] for i in kept]
            direction, top = self._start(used), 0.0
            for _ in range(iterations):
                turned = _product(found, used, roots, direction)
                top = float(_dot(turned, direction))
                if top < -0.5 * self._shift:
                    # the most negative curvature was met: shift it away, and begin anew
                    self._shift = 2 * abs(top)
                    self._direction = None
                    direction, top = self._start(used), 0.0
                    continue
                turned = [t + self._shift * d for t, d in zip(turned, direction)]
                size = math.sqrt(float(_dot(turned, turned)))
                if not size > 0 or not math.isfinite(size):
                    self._direction = None
                    break
                direction = [t / size for t in turned]
                self._direction = direction
        if not math.isfinite(top) or top == 0:
            return None
        return Sharpness(top, math.nan if rule is None else rule.limit / rule.rate)

    def _start(self, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
        shapes = [p.shape for p in parameters]
        if self._direction is None or [d.shape for d in self._direction] != shapes:
            generator = torch.Generator().manual_seed(self._seed)
            drawn = [torch.randn(p.shape, generator=generator).to(p) for p in parameters]
            size = math.sqrt(float(_dot(drawn, drawn)))
            self._direction = [d / size for d in drawn]
        return self._direction


def _dot(left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
    return torch.stack([torch.sum(a * b).float() for a, b in zip(left, right)]).sum()


def _product(
    gradients: Sequence[Tensor],
    parameters: Sequence[nn.Parameter],
    roots: Sequence[Tensor | float],
    direction: Sequence[Tensor],
) -> list[Tensor]:
    """D^½ H D^½ v, with D the diagonal whose root is given."""
    scaled = [d * root for d, root in zip(direction, roots)]
    slope = torch.stack([torch.sum(g * d).float() for g, d in zip(gradients, scaled)]).sum()
    found = torch.autograd.grad(slope, parameters, retain_graph=True, allow_unused=True)
    zero = [torch.zeros_like(d) if h is None else h for h, d in zip(found, direction)]
    return [h * root for h, root in zip(zero, roots)]


@contextlib.contextmanager
def _differentiable_twice() -> Iterator[None]:
    """Kernels whose gradient has a gradient: fused attention and fused recurrences have none."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel(SDPBackend.MATH), torch.backends.cudnn.flags(enabled=False):
        yield

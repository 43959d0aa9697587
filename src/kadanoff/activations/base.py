"""The type: a function of one variable, its derivatives, and where they jump."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from kadanoff.errors import DomainError

__all__ = ["Activation", "autodiff"]

Function = Callable[[Tensor], Tensor]
ClosedForm = Callable[[int, int, Tensor, Tensor, Tensor], "Tensor | None"]

# a kink's one-sided limits are read this far to either side
_BESIDE = 1e-11
# smaller jumps are the rounding of the one-sided limits
_SMALLEST_JUMP = 1e-8


def autodiff(f: Function, k: int) -> Function:
    """The k-th derivative of an elementwise function, by automatic differentiation."""
    if k == 0:
        return f

    def derivative(z: Tensor) -> Tensor:
        with torch.enable_grad():
            z0 = z.detach().requires_grad_(True)
            value = f(z0)
            for _ in range(k):
                if not value.requires_grad:
                    return torch.zeros_like(z)
                (value,) = torch.autograd.grad(
                    value.sum(), z0, create_graph=True, materialize_grads=True
                )
        return value.detach()

    return derivative


@dataclass(frozen=True, eq=False)
class Activation:
    """An elementwise activation function σ.

    Attributes
    ----------
    name : str
        As in the registry, parameters included, e.g. ``"leaky_relu(0.1)"``.
    f : callable
        σ itself, elementwise on a tensor of any floating dtype.
    derivatives : tuple of callables
        σ', σ'', … where known explicitly; the rest comes by automatic differentiation. Pointwise:
        delta functions at kinks are not included (see :func:`kadanoff.gaussian.pair`).
    kinks : tuple of float
        Where σ or one of its first three derivatives jumps.
    slopes : (float, float) or None
        (a₋, a₊) if σ(z) = a₋ z for z < 0 and a₊ z for z > 0: the scale-invariant activations.
    odd : bool
        σ(−z) = −σ(z).
    closed_form : callable or None
        ``(k1, k2, K11, K12, K22) -> ⟨σ⁽ᵏ¹⁾ σ⁽ᵏ²⁾⟩`` or None for the orders it does not cover.
    """

    name: str
    f: Function
    derivatives: tuple[Function, ...] = ()
    kinks: tuple[float, ...] = ()
    slopes: tuple[float, float] | None = None
    odd: bool = False
    closed_form: ClosedForm | None = None

    def __call__(self, z: Tensor) -> Tensor:
        return self.f(z)

    def __repr__(self) -> str:
        return f"activation({self.name!r})"

    def derivative(self, k: int) -> Function:
        """σ⁽ᵏ⁾ pointwise, k ≥ 0, as a function of a tensor."""
        if k < 0:
            raise DomainError(f"The order of a derivative must be >= 0, got {k}.")
        if k == 0:
            return self.f
        if k <= len(self.derivatives):
            return self.derivatives[k - 1]
        known = len(self.derivatives)
        return autodiff(self.derivatives[-1], k - known) if known else autodiff(self.f, k)

    @property
    def smooth(self) -> bool:
        """No kinks: all derivatives exist everywhere."""
        return not self.kinks

    @cached_property
    def _jumps(self) -> dict[tuple[int, float], float]:
        jumps = {}
        for kink in self.kinks:
            beside = _BESIDE * max(1.0, abs(kink))
            sides = torch.tensor([kink - beside, kink + beside], dtype=torch.float64)
            for k in range(4):
                low, high = self.derivative(k)(sides).tolist()
                jump = high - low
                jumps[k, kink] = jump if abs(jump) > _SMALLEST_JUMP * (1 + abs(high)) else 0.0
        return jumps

    def jump(self, k: int, kink: float) -> float:
        """σ⁽ᵏ⁾(kink + 0) − σ⁽ᵏ⁾(kink − 0), for k = 0 … 3."""
        return self._jumps[k, kink]

    def closed(self, k1: int, k2: int, K11: Tensor, K12: Tensor, K22: Tensor) -> Tensor | None:
        """Closed form of ⟨σ⁽ᵏ¹⁾(z₁) σ⁽ᵏ²⁾(z₂)⟩, or None if there is none."""
        return self.closed_form(k1, k2, K11, K12, K22) if self.closed_form else None

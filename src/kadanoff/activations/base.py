"""The type: a function of one variable, its derivatives, and where they jump."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from kadanoff.activations.derivatives import autodiff
from kadanoff.activations.kinks import one_sided, significant_jump
from kadanoff.errors import DomainError

__all__ = ["Activation", "Function", "wide_probe"]

Function = Callable[[Tensor], Tensor]
Recipe = tuple[str, tuple[float, ...], tuple[tuple[str, float], ...]]
ClosedForm = Callable[[int, int, Tensor, Tensor, Tensor], "Tensor | None"]


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
    taken_from : str
        What it was found from where a callable was given, e.g. "recognised as relu by its values".
    source : callable or None
        The callable it was made from, if it is none of the registered activations.
    recipe : (str, tuple, tuple) or None
        Of a registered one: its name, arguments and keyword arguments, to make it again.
    """

    name: str
    f: Function
    derivatives: tuple[Function, ...] = ()
    kinks: tuple[float, ...] = ()
    slopes: tuple[float, float] | None = None
    odd: bool = False
    closed_form: ClosedForm | None = None
    taken_from: str = ""
    source: Callable[..., Tensor] | None = None
    recipe: Recipe | None = None

    def __call__(self, z: Tensor) -> Tensor:
        return self.f(z)

    def __repr__(self) -> str:
        return f"activation({self.name!r})"

    def __eq__(self, other: object) -> bool:
        # functions are equal if they are one; registered activations if they are made alike
        if not isinstance(other, Activation):
            return NotImplemented
        return self is other or (self.recipe is not None and self.recipe == other.recipe)

    def __hash__(self) -> int:
        return id(self) if self.recipe is None else hash(self.recipe)

    def __copy__(self) -> Activation:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Activation:
        # nothing in it changes, and functions are not copied
        return self

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
        return {
            (k, kink): significant_jump(self.derivative(k), kink, self.kinks)
            for kink in self.kinks
            for k in range(4)
        }

    def jump(self, k: int, kink: float) -> float:
        """σ⁽ᵏ⁾(kink + 0) − σ⁽ᵏ⁾(kink − 0), for k = 0 … 3; 0 where it does not jump."""
        return self._jumps[k, kink]

    def limits(self, k: int, place: float) -> tuple[float, float]:
        """σ⁽ᵏ⁾(place − 0) and σ⁽ᵏ⁾(place + 0)."""
        return one_sided(self.derivative(k), place, self.kinks)

    def fingerprint(self) -> bytes:
        """Differs for activations that differ anywhere on |z| ≤ 1e6, as far as a grid can see."""
        digest = hashlib.sha256(repr((self.kinks, self.slopes)).encode())
        digest.update(self.f(wide_probe()).double().numpy().tobytes())
        return digest.digest()

    def closed(self, k1: int, k2: int, K11: Tensor, K12: Tensor, K22: Tensor) -> Tensor | None:
        """Closed form of ⟨σ⁽ᵏ¹⁾(z₁) σ⁽ᵏ²⁾(z₂)⟩, or None if there is none.

        Parameters
        ----------
        k1, k2 : int
            Orders of the derivatives.
        K11, K12, K22 : Tensor, one shape
            Covariance of (z₁, z₂), entry by entry.
        """
        return self.closed_form(k1, k2, K11, K12, K22) if self.closed_form else None


def wide_probe() -> Tensor:
    """Points on which activations are told apart: |z| from 1e-6 to 1e6, denser below 13."""
    near = torch.linspace(-12.3, 12.7, 401, dtype=torch.float64)
    far = torch.logspace(-6, 6, 361, dtype=torch.float64)
    return torch.cat([near, far, -far])

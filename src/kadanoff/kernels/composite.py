"""The whole network as one function of the correlation ρ, compiled into polynomials.

Where the kernels of layer L depend on one variable only (all inputs of one norm, or homogeneous
activations without bias), they are interpolated once, in the angle θ = arccos ρ, which removes the
square-root singularities at ρ = ±1. Blocks of the Gram matrix then use the cheapest equivalent
polynomial on the interval of ρ that they really cover: in ρ itself, in √(1−ρ), or in θ.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from kadanoff.errors import ConvergenceError
from kadanoff.kernels.polynomials import (
    Polynomials,
    chebyshev_coefficients,
    chebyshev_nodes,
    chebyshev_values,
)

__all__ = ["Compiled", "Piece"]

_COUNTS = (16, 32, 64, 128, 256, 512)
_GRID = 16
# nanoseconds an element: of the change of variable, and of one degree of one polynomial
_COST = {"rho": 0.3, "root": 3.0, "angle": 6.5}
_COST_DEGREE, _COST_GIANT = 0.24, 0.22


class Compiled:
    """P functions of ρ on [−1, 1], as polynomials to a stated accuracy.

    Parameters
    ----------
    function : callable
        Takes ρ (n,) float64 to values (P, n).
    accuracy : float
        Relative to the largest value of each function.
    first : int
        Nodes to try first: 16, 32, … 512.
    limit : float
        Largest ρ; beyond it the functions need not be smooth.

    Raises
    ------
    ConvergenceError
        512 nodes are not enough (deep chaotic networks): evaluate layer by layer instead.
    """

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        accuracy: float = 1e-10,
        first: int = _COUNTS[0],
        limit: float = 1.0,
    ) -> None:
        self.accuracy, self.limit = accuracy, limit
        self.nearest = math.acos(limit)
        for count in _COUNTS[_COUNTS.index(first) :]:
            values = function(torch.cos(self._angles(chebyshev_nodes(count))))
            coefficients = chebyshev_coefficients(values)
            self.scale = values.abs().amax(1).clamp_min(1e-300)
            tail = coefficients[:, -max(4, count // 8) :].abs().amax(1) / self.scale
            if bool((tail < accuracy / 100).all()):
                break
        else:
            raise ConvergenceError(
                f"The kernel map is not a polynomial of degree {_COUNTS[-1]} in the angle to "
                f"{accuracy:.0e} (its tail is {float(tail.max()):.1e}).",
                "Evaluate it layer by layer.",
            )
        self.root = coefficients
        self.at_one = function(torch.full((1,), limit, dtype=torch.float64))[:, 0]
        self.nodes = count
        # an independent look: points between the nodes, crowded at both ends
        between = self._angles(-torch.cos(torch.linspace(0.01, math.pi - 0.01, 7).double()))
        wrong = function(torch.cos(between)) - self.values(torch.cos(between))
        self.error = float((wrong.abs() / self.scale[:, None]).max())
        self._pieces: dict[tuple, Piece] = {}

    def values(self, rho: Tensor) -> Tensor:
        """The functions at ρ (…), float64, straight from the interpolant: (P, …)."""
        angle = torch.acos(rho.double().clamp(-1, self.limit)) - self.nearest
        return chebyshev_values(self.root, 2 * angle / (math.pi - self.nearest) - 1)

    def _angles(self, x: Tensor) -> Tensor:
        return self.nearest + (x + 1) * ((math.pi - self.nearest) / 2)

    def piece(
        self, low: float, high: float, dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> Piece:
        """The cheapest polynomials that hold for low <= ρ <= high.

        Parameters
        ----------
        low, high : float
            Range of the correlation ρ.
        dtype : torch.dtype
        device : torch.device or str
            Of the coefficients.
        """
        low = min(max(-1.0, math.floor(low * _GRID) / _GRID), 1 - 1 / _GRID)
        # towards 1 the grid is one of √(1−ρ), where things happen
        root = math.floor(math.sqrt(max(0.0, 1 - high)) * 2 * _GRID) / (2 * _GRID)
        key = (low, root, dtype, str(device))
        if key not in self._pieces:
            found = [
                piece
                for kind in ("rho", "root", "angle")
                if (
                    piece := self._build(
                        kind, low, max(low + 1 / _GRID, 1 - root**2), dtype, device
                    )
                )
            ]
            self._pieces[key] = min(found, key=lambda piece: piece.cost)
        return self._pieces[key]

    def series(self, low: float, high: float) -> Piece:
        """As :meth:`piece`, for who only wants the variable and the Chebyshev coefficients."""
        return self.piece(low, high, torch.float64)

    def _build(
        self, kind: str, low: float, high: float, dtype: torch.dtype, device: torch.device | str
    ) -> Piece | None:
        high = min(high, self.limit)
        if (kind == "rho" and high > 0.9) or (kind != "angle" and low < -0.9):
            return None
        ends = {
            "rho": (low, high),
            "root": (math.sqrt(1 - high), math.sqrt(1 - low)),
            "angle": (math.acos(high), math.acos(low)),
        }[kind]
        centre, half = (ends[0] + ends[1]) / 2, (ends[1] - ends[0]) / 2
        # float32 cannot resolve more than this
        accuracy = self.accuracy / 10 if dtype == torch.float64 else max(2e-9, self.accuracy)
        for count in _COUNTS[1:]:
            variable = centre + half * chebyshev_nodes(count)
            rho = {"rho": lambda v: v, "root": lambda v: 1 - v * v, "angle": torch.cos}[kind](
                variable
            )
            coefficients = chebyshev_coefficients(self.values(rho))
            # what all degrees from k on may add up to
            tail = (coefficients.abs() / self.scale[:, None]).flip(1).cumsum(1).flip(1)
            kept = (tail > accuracy).any(0).nonzero()
            n = int(kept.max()) + 1 if len(kept) else 1
            if n < count - 3:
                series = coefficients[:, :n].clone()
                if high == 1.0:
                    # the next layer takes √(1−ρ): coincident inputs must stay so exactly
                    signs = 1.0 - 2.0 * (torch.arange(n, dtype=torch.float64) % 2)
                    series[:, 0] += self.at_one - series @ signs
                return Piece(kind, centre, half, series, dtype, device)
        return None


class Piece:
    """Polynomials in one of the three variables, applied to blocks of ρ = α + β s."""

    def __init__(
        self,
        kind: str,
        centre: float,
        half: float,
        coefficients: Tensor,
        dtype: torch.dtype,
        device: torch.device | str,
    ) -> None:
        self.kind, self.centre, self.half = kind, centre, half
        self.coefficients = coefficients
        self.polynomials = p = Polynomials(coefficients, dtype, device)
        rate = _COST_GIANT if p.baby else _COST_DEGREE
        self.cost = _COST[kind] + p.count * p.degree * rate + (5 if p.baby else 0)

    def __call__(self, s: Tensor, alpha: float, beta: float, out: Tensor) -> None:
        """Overwrites the block ``s`` (r, c); results go to ``out`` (P, r, c)."""
        self.polynomials(self.variable(s, alpha, beta), out)

    def variable(self, s: Tensor, alpha: float, beta: float) -> Tensor:
        """The variable of the polynomials at ρ = α + β s, in the place of ``s``.

        Parameters
        ----------
        s : Tensor
            Overwritten.
        alpha, beta : float
        """
        h, c = self.half, self.centre
        if self.kind == "rho":
            return s.mul_(beta / h).add_((alpha - c) / h)
        if self.kind == "root":
            return s.mul_(-beta / h**2).add_((1 - alpha) / h**2).clamp_min_(0).sqrt_().sub_(c / h)
        return s.mul_(beta).add_(alpha).clamp_(-1, 1).acos_().sub_(c).mul_(1 / h)

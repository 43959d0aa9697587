"""The fully trained network at order 1/n: nearly-kernel prediction with all its terms.

At finite width the NTK differs between networks (A, B), moves during training (dNTK: P, Q) and its
motion moves (ddNTKs: R, S, T, U). In the eigenbasis of the training NTK every sum over training
time is a rational function of three eigenvalues, so that nothing bigger than a four-index tensor
is ever needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kadanoff.learning.response import Modes3, Response, prepare, responses

__all__ = ["TERMS", "FiniteWidth", "MeanSum", "end_of_training"]

TERMS = ("Delta_H", "dH", "ddI", "ddII", "H1")


@dataclass(frozen=True)
class FiniteWidth:
    """Mean of the trained networks: infinite width plus the coefficients of 1/n.

    Attributes
    ----------
    kernel : Tensor, shape (M, n_L)
        Infinite-width mean Theta_BA Theta_AA^{-1} y.
    terms : dict of Tensor, shape (M, n_L) each
        Coefficients of 1/n, projected off the training points: ``Delta_H`` (the NTK's spread over
        networks), ``dH`` (its motion), ``ddI`` and ``ddII`` (the motion of its motion), ``H1``
        (the shift of its mean).
    """

    kernel: Tensor
    terms: dict[str, Tensor]

    @property
    def coefficient(self) -> Tensor:
        """Sum of the terms, shape (M, n_L): n (mean - kernel) as n grows."""
        return torch.stack(list(self.terms.values())).sum(0)

    def mean(self, n: int) -> Tensor:
        """Mean at last hidden width ``n``."""
        return self.kernel + self.coefficient / n


def end_of_training(
    tensors: Any,
    y: Tensor,
    *,
    eta: float | None = None,
    algorithm: str = "gradient",
    block: int | None = None,
) -> FiniteWidth:
    r"""Mean of the networks trained to the end, to order 1/n, each term on its own.

    Parameters
    ----------
    tensors : any object with these attributes
        ``K``, ``Theta``, ``H1`` (N+M, N+M) and the four-index tensors (N+M,)*4 of the output
        layer, slots as in :mod:`kadanoff.rgflow`. Of the latter only entries with at most one test
        index are read. No 1/n in them; training points first.
    y : Tensor, shape (N, n_L)
    eta : float, optional
        Step of full-batch descent on ``sum (z - y)^2 / 2``; None is gradient flow.
    algorithm : {"gradient", "giant_leap"}
        ``giant_leap``: one Newton-like step in function space, then small steps.
    block : int, optional
        Points treated at a time; by default so many that a block takes about 256 MiB.

    Returns
    -------
    FiniteWidth

    Raises
    ------
    UsageError
        Unknown algorithm, or ``eta`` not stable.
    DataError
        Singular training NTK.

    Notes
    -----
    Source: Roberts, Yaida and Hanin (2022), the last chapter; here every projector of the
    algorithm is diagonal in the eigenbasis of the training NTK. Outputs share one NTK at leading
    order; the initial outputs are averaged over.
    Tested by: tests/learning/test_finite_width.py (three converged values, trained networks).
    """
    m = prepare(tensors, y, eta, algorithm)
    found = MeanSum(m)
    for part in responses(tensors, m, block):
        found.add(part)
    return FiniteWidth(-m.project[:, : m.n_train] @ y, found.terms())


class MeanSum:
    """Contracts the pieces with the labels and the second moments of the initial outputs."""

    def __init__(self, m: Modes3) -> None:
        self._m = m
        self._gamma = (
            torch.einsum("ai,bc->iabc", m.y, m.y @ m.y.mT + m.n_out * m.K)
            + torch.einsum("bi,ac->iabc", m.y, m.K)
            + torch.einsum("ci,ab->iabc", m.y, m.K)
        )
        self._parts: dict[str, list[Tensor]] = {name: [] for name in TERMS}

    def add(self, part: Response) -> None:
        """The next points, in order."""
        for name, matrix in part.linear:
            self._parts[name].append(matrix @ self._m.y)
        for name, weights in part.cubic:
            self._parts[name].append(torch.einsum("dabc,iabc->di", weights, self._gamma))

    def terms(self) -> dict[str, Tensor]:
        """Coefficients of 1/n at the test points, (M, n_L) each."""
        return {name: self._m.project @ torch.cat(parts) for name, parts in self._parts.items()}

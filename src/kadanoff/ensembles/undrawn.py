r"""The law of a matrix of independent normal entries, given what it has answered so far.

Let W have entries :math:`N(0, \sigma^2)`. Rows q that were asked for :math:`W q` and rows p that
were asked for :math:`W^T p` are kept orthonormal, with their answers, as the rows of Q, Y and P, Z.
Then W is still Gaussian,

.. math:: W = Y^T Q + P^T Z\,(1 - Q^T Q) + (1 - P^T P)\,\sigma G\,(1 - Q^T Q),

with G standard normal and independent of all answers. So a new question splits into what known
questions answer, what the other side has fixed, and a fresh part: one normal vector a direction.

Everything works on the last two axes (rows, numbers); axes before them count networks. ``mean``
averages a product over a wide axis over replicas that run side by side (see
:mod:`kadanoff.program.pool`); without replicas it changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["Known", "answered", "fresh_part", "remembered", "residue"]

Known = tuple[Tensor, Tensor]
"""Orthonormal questions to one side (..., k, n) and their answers (..., k, n')."""

Mean = Callable[[Tensor], Tensor]

# squared, what is left of a row after known directions are taken out, beside the row: rounding
_ROUNDING = 1e-24


def _itself(product: Tensor) -> Tensor:
    return product


def residue(
    X: Tensor, Q: Tensor, rounding: float = _ROUNDING, mean: Mean = _itself
) -> tuple[Tensor, Tensor, Tensor]:
    """What the known directions leave of X, X's share of them, and what counts as nothing.

    Parameters
    ----------
    X : Tensor, shape (..., m, n)
    Q : Tensor, shape (..., k, n)
        Orthonormal rows.
    rounding : float
        Share of a row's squared length below which what is left of it is rounding.
    mean : callable

    Returns
    -------
    rest : Tensor, shape (..., m, n)
    share : Tensor, shape (..., m, k)
        X = share Q + rest.
    floor : Tensor, shape (..., m)
        Squared lengths of ``rest`` that count as zero.
    """
    floor = rounding * (X * X).sum(-1)
    share = mean(X @ Q.mT)
    rest = X - share @ Q
    if Q.shape[-2] > 1:
        # once more: what is left may be small beside what was taken out
        again = mean(rest @ Q.mT)
        rest, share = rest - again @ Q, share + again
    return rest, share, mean(floor)


def fresh_part(noise: Tensor, other: Known | None, mean: Mean = _itself) -> Tensor:
    """σ G without the directions P that the other side has fixed.

    Parameters
    ----------
    noise : Tensor, shape (..., r, n')
        N(0, σ²), a row for each new orthonormal question.
    other : Known or None
        P and Z.
    mean : callable
    """
    if other is None:
        return noise
    P = other[0]
    return noise - mean(noise @ P.mT) @ P


def answered(rows: Tensor, fresh: Tensor, other: Known | None, mean: Mean = _itself) -> Tensor:
    """The answers to ``rows``, which known questions of their own side say nothing about.

    Parameters
    ----------
    rows : Tensor, shape (..., m, n)
    fresh : Tensor, shape (..., m, n')
        Their part of :func:`fresh_part`, combined as the rows are of orthonormal ones.
    other : Known or None
        P and Z: the other side fixes Pᵀ Z of W.
    mean : callable
    """
    if other is None:
        return fresh
    P, Z = other
    return fresh + mean(rows @ Z.mT) @ P


def remembered(
    known: Known | None, basis: Tensor, fresh: Tensor, other: Known | None, mean: Mean = _itself
) -> Known:
    """What is known of one side after new orthonormal questions.

    Parameters
    ----------
    known : Known or None
        Before.
    basis : Tensor, shape (..., r, n)
        The new questions, orthonormal to the known ones.
    fresh : Tensor, shape (..., r, n')
        As :func:`fresh_part` gives it.
    other : Known or None
    mean : callable
    """
    answers = answered(basis, fresh, other, mean)
    if known is None:
        return basis, answers
    return torch.cat([known[0], basis], -2), torch.cat([known[1], answers], -2)

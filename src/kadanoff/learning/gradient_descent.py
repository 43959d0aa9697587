"""The ensemble of networks trained by gradient flow or descent, at infinite width.

At infinite width the NTK does not move during training, so that a network trained on
squared error is the network at initialisation plus a fixed linear map of its first error. Over
initialisations it is a Gaussian process with a mean and a covariance at each time.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kadanoff.learning.dynamics import Blocks, Whitening

__all__ = ["expected_loss", "trained_covariance", "trained_mean"]


def trained_mean(blocks: Blocks, t: float = math.inf, eta: float | None = None) -> Tensor:
    r"""Mean output of the trained networks at the test points.

    .. math:: m_\beta = \Theta_{\beta A}\,\tilde\Theta^{-1}[1-(1-\eta\tilde\Theta)^t]\,y

    Parameters
    ----------
    blocks : Blocks
    t : float
        Steps (``eta`` given), time of gradient flow (``eta`` None), or ``math.inf``.
    eta : float, optional
        Step for the loss ``sum (z - y)^2 / 2``.

    Returns
    -------
    Tensor, shape (M, n_L)

    Raises
    ------
    UsageError
        ``eta`` is not stable.
    AnalysisError, DataError
        The kernel is singular and the labels cannot be fitted.

    Notes
    -----
    Source: Roberts, Yaida and Hanin (2022), chapter 10.
    """
    whole = _whole(blocks, t, eta)
    if whole is not None:
        return blocks.Theta_BA @ whole.solve(blocks.y)
    _, vectors = blocks.modes
    weights = blocks.filter(t, eta)[:, None] * (vectors.mT @ blocks.y)
    return blocks.Theta_BA @ (vectors @ weights)


def _whole(blocks: Blocks, t: float, eta: float | None) -> Whitening | None:
    """The factorisation, where flow goes on to the end and leaves no mode over."""
    return blocks.whitening if math.isinf(t) and t > 0 and eta is None else None


def trained_covariance(blocks: Blocks, t: float = math.inf, eta: float | None = None) -> Tensor:
    r"""Covariance, over initialisations, of the trained outputs at the test points.

    The same for each output; different outputs are independent at infinite width.

    .. math:: K_{BB} - T K_{AB} - K_{BA} T^\top + T K_{AA} T^\top,\quad
        T = \Theta_{BA}\,\tilde\Theta^{-1}[1-(1-\eta\tilde\Theta)^t]

    Parameters
    ----------
    blocks : Blocks
    t : float
        Steps, or time of gradient flow.
    eta : float, optional
        Step size; None is gradient flow.

    Returns
    -------
    Tensor, shape (M, M)
    """
    whole = _whole(blocks, t, eta)
    if whole is not None:
        transfer = (blocks.Theta_BA @ whole.W.mT) @ whole.W
    else:
        _, vectors = blocks.modes
        transfer = ((blocks.Theta_BA @ vectors) * blocks.filter(t, eta)) @ vectors.mT
    cross = transfer @ blocks.K_BA.mT
    cov = blocks.K_BB - cross - cross.mT + transfer @ blocks.K_AA @ transfer.mT
    return 0.5 * (cov + cov.mT)


def expected_loss(blocks: Blocks, times: Tensor, eta: float | None = None) -> Tensor:
    r"""Ensemble mean of the training loss, ``sum (z - y)^2 / 2`` over points and outputs.

    Each mode a of the training NTK starts with :math:`y_a^2 + n_L K_{aa}` and shrinks on its own.

    Parameters
    ----------
    times : Tensor, shape (T,)
        Steps or times, as in :func:`trained_mean`.

    Returns
    -------
    Tensor, shape (T,)
    """
    values, vectors = blocks.modes
    start = (vectors.mT @ blocks.y) ** 2
    spread = (vectors * (blocks.K_AA @ vectors)).sum(0) * blocks.y.shape[1]
    power = start.sum(1) + spread
    losses = []
    for t in times.tolist():
        # with a ridge the error settles at ridge / (eigenvalue + ridge), not at zero
        left = 1 - values * blocks.filter(t, eta)
        losses.append(0.5 * (left**2 * power).sum())
    return torch.stack(losses)

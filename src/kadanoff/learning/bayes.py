"""Bayesian inference with the network as prior, at infinite width and at order 1/n.

At infinite width the prior over functions is Gaussian with kernel K. At order 1/n it is a mixture
of Gaussians whose kernel (the stochastic metric) has mean K + G1/n and covariance V/n, from which
everything here follows by expanding in 1/n.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kadanoff.errors import AnalysisError, DataError, DomainError, UsageError
from kadanoff.learning.dynamics import Whitening, duplicates, eigenbasis, whitening_of
from kadanoff.learning.terms import PosteriorTerms

__all__ = [
    "LeaveOneOut",
    "Posterior",
    "Selection",
    "best_noise",
    "hebbian_variance",
    "leave_one_out",
    "left_out_of",
    "log_evidence",
    "posterior",
    "select",
]


@dataclass(frozen=True)
class Posterior:
    """Posterior over the outputs at the test points.

    Attributes
    ----------
    mean : Tensor, shape (M, n_L)
    cov : Tensor, shape (M, M)
        Covariance of one output at infinite width, or the mean of it over outputs at order 1/n.
    log_evidence : float
        log p(y), natural logarithm, all outputs together.
    terms : PosteriorTerms
        The pieces, with the 1/n in them.
    """

    mean: Tensor
    cov: Tensor
    log_evidence: float
    terms: PosteriorTerms


@dataclass(frozen=True)
class LeaveOneOut:
    """Errors on each training point when it alone is left out, without retraining.

    Attributes
    ----------
    mean : Tensor, shape (N, n_L)
        Prediction for each point from the others.
    variance : Tensor, shape (N,)
        Predictive variance (a Bayesian notion; of the label, noise included).
    error : Tensor, shape (N, n_L)
        Label minus prediction.
    mean_squared_error, log_predictive : float
    """

    mean: Tensor
    variance: Tensor
    error: Tensor
    mean_squared_error: float
    log_predictive: float


@dataclass(frozen=True)
class Selection:
    """Candidates ranked by evidence: ``best`` is the index of the winner."""

    best: int
    log_evidence: tuple[float, ...]
    noise: tuple[float, ...]
    candidates: tuple[Any, ...]

    @property
    def winner(self) -> Any:
        return self.candidates[self.best]


def _inverse(K_AA: Tensor, y: Tensor, noise: float) -> tuple[Tensor, float]:
    """Inverse of the noisy training kernel and its log determinant."""
    if noise < 0 or not math.isfinite(noise):
        raise DomainError(f"noise = {noise} is not a variance.", "Pass a number >= 0.")
    quick = whitening_of(K_AA, noise)
    if quick is not None:
        return quick.inverse, quick.logdet
    values, vectors = eigenbasis(K_AA, "training kernel")
    values = values + noise
    if float(values.min()) <= float(values.max()) * values.shape[0] * 1e-15:
        pair = duplicates(K_AA, y)
        if pair is not None:
            i, j = pair
            raise DataError(
                f"Training points {i} and {j} are the same to the network but have different "
                f"labels, {y[i].tolist()} and {y[j].tolist()}: their evidence is zero.",
                "Remove one of them, or pass noise > 0.",
            )
        raise AnalysisError(
            f"The kernel of the {values.shape[0]} training points is singular (eigenvalues "
            f"{float(values.min()):.3g} to {float(values.max()):.3g}): noiseless inference has "
            "no posterior there.",
            "Pass noise > 0, or remove duplicate points.",
        )
    return (vectors / values) @ vectors.mT, float(values.log().sum())


def log_evidence(K_AA: Tensor, y: Tensor, noise: float = 0.0) -> float:
    r"""log p(y) under the infinite-width prior, all outputs together.

    .. math:: -\tfrac12 \sum_i y_i^\top (K+s^2)^{-1} y_i - \tfrac{n_L}{2}\log|2\pi(K+s^2)|

    Parameters
    ----------
    K_AA : Tensor, shape (N, N)
        Kernel of the training points.
    y : Tensor, shape (N, n_L)
    noise : float
        Variance s² of the label noise.
    """
    inverse, logdet = _inverse(K_AA, y, noise)
    n_points, n_out = y.shape
    fit = float((y * (inverse @ y)).sum())
    return -0.5 * fit - 0.5 * n_out * (logdet + n_points * math.log(2 * math.pi))


def best_noise(K_AA: Tensor, y: Tensor) -> tuple[float, float]:
    """Noise variance that maximises the evidence, and that evidence.

    One eigendecomposition, then a bounded search in the logarithm of the noise.
    """
    from scipy.optimize import minimize_scalar

    values, vectors = eigenbasis(K_AA, "training kernel")
    power = ((vectors.mT @ y) ** 2).sum(1)
    n_points, n_out = y.shape

    def loss(log_noise: float) -> float:
        total = values + math.exp(log_noise)
        return float(
            0.5 * (power / total).sum()
            + 0.5 * n_out * (total.log().sum() + n_points * math.log(2 * math.pi))
        )

    # the evidence need not have one maximum: bracket on a grid first
    scale = math.log(max(float(values.mean()), float(y.var(correction=0)), 1e-12))
    grid = torch.linspace(scale - 18.0, scale + 4.0, 45).tolist()
    losses = [loss(g) for g in grid]
    k = min(range(len(grid)), key=losses.__getitem__)
    bounds = (grid[max(k - 1, 0)], grid[min(k + 1, len(grid) - 1)])
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return math.exp(float(found.x)), -float(found.fun)


def select(
    candidates: Sequence[Any],
    kernel_of: Callable[[Any], Tensor],
    y: Tensor,
    noise: float | None = None,
) -> Selection:
    """Rank hyperparameters by evidence.

    Parameters
    ----------
    candidates : sequence
        Anything ``kernel_of`` understands: architectures of different depth, C_b, C_W, say.
    kernel_of : callable
        Candidate -> training kernel, shape (N, N).
    noise : float, optional
        Fixed noise variance; None optimises it for each candidate.

    Returns
    -------
    Selection
    """
    if not candidates:
        raise UsageError("There are no candidates to select from.", "Pass at least one.")
    evidences, noises = [], []
    for candidate in candidates:
        kernel = kernel_of(candidate)
        if noise is None:
            s2, value = best_noise(kernel, y)
        else:
            s2, value = noise, log_evidence(kernel, y, noise)
        evidences.append(value)
        noises.append(s2)
    best = max(range(len(evidences)), key=evidences.__getitem__)
    return Selection(best, tuple(evidences), tuple(noises), tuple(candidates))


def leave_one_out(
    kernel: Tensor,
    y: Tensor,
    noise: float = 0.0,
    *,
    G1: Tensor | None = None,
    V: Tensor | None = None,
    n: int | None = None,
) -> LeaveOneOut:
    r"""Leave-one-out predictions, in closed form at infinite width.

    .. math:: y_a - m_a = \tilde y_a / K^{aa},\quad \tilde y = (K + s^2)^{-1} y

    With the NTK in place of K and a ridge in place of the noise the mean and the error are those
    of the networks trained to the end; the variance then has no Bayesian meaning.

    Parameters
    ----------
    kernel : Tensor, shape (N, N)
        Of the training points.
    y : Tensor, shape (N, n_L)
    noise : float
        Variance of the label noise, or the ridge.
    G1 : Tensor, shape (N, N), V : Tensor, shape (N,)*4, n : int
        Order 1/n, as for :func:`posterior`: each point is predicted from the others at that
        order, and the variance is the mean over outputs.

    Returns
    -------
    LeaveOneOut
    """
    inverse = _inverse(kernel, y, noise)[0]
    start = left_out_of(inverse.diagonal(), inverse @ y, y)
    variance, error, log_predictive = start.variance, start.error, start.log_predictive
    if V is not None and G1 is not None and n is not None:
        N = y.shape[0]
        if N < 2:
            raise UsageError("With one training point nothing is left to predict it from.")
        whole = posterior(kernel, y, noise=noise, G1=G1, V=V, n=n).terms["log_evidence_1"]
        for i in range(N):
            rest = [j for j in range(N) if j != i]
            at = torch.tensor([*rest, i])
            part = V
            for axis in range(4):
                part = part.index_select(axis, at)
            found = posterior(
                kernel[at][:, at], y[rest], noise=noise, G1=G1[at][:, at], V=part, n=n
            )
            error[i] -= torch.as_tensor(found.terms["mean_1"])[0]
            variance[i] += torch.as_tensor(found.terms["cov_1"])[0, 0]
            # p(y_i | the others) is a ratio of evidences
            log_predictive += float(whole) - float(found.terms["log_evidence_1"])
    return LeaveOneOut(y - error, variance, error, float((error**2).mean()), log_predictive)


def left_out_of(diagonal: Tensor, tilde: Tensor, y: Tensor) -> LeaveOneOut:
    """Leave-one-out predictions from the inverse of the training kernel, noise included.

    Parameters
    ----------
    diagonal : Tensor, shape (N,)
        Of the inverse.
    tilde : Tensor, shape (N, n_L)
        The inverse times y.
    y : Tensor, shape (N, n_L)
    """
    variance = 1 / diagonal
    error = tilde * variance[:, None]
    logs = -0.5 * error**2 / variance[:, None] - 0.5 * (2 * math.pi * variance[:, None]).log()
    return LeaveOneOut(y - error, variance, error, float((error**2).mean()), float(logs.sum()))


def posterior(
    K: Tensor,
    y: Tensor,
    *,
    noise: float = 0.0,
    G1: Tensor | None = None,
    V: Tensor | None = None,
    n: int | None = None,
    known: Whitening | None = None,
) -> Posterior:
    r"""Posterior of the outputs at the test points, at infinite width or at order 1/n.

    Parameters
    ----------
    K : Tensor, shape (N+M, N+M)
        Kernel of the output layer; training points first.
    y : Tensor, shape (N, n_L)
    noise : float
        Variance of Gaussian label noise.
    G1 : Tensor, shape (N+M, N+M), V : Tensor, shape (N+M,)*4, n : int
        Order 1/n: correction of the mean metric, four-point vertex, both of the output layer and
        without the 1/n; width of the last hidden layer.
    known : Whitening, optional
        Of the noisy training kernel, where it has been factorised already.

    Returns
    -------
    Posterior

    Raises
    ------
    AnalysisError, DataError
        The training kernel is singular and there is no noise.

    Notes
    -----
    With P = (-K_BA (K_AA + s^2)^{-1}, 1) the projector off the training points, the metric's first
    and second variations of m = K_BA (K_AA + s^2)^{-1} y and of the Schur complement, weighted
    with those of the likelihood, give every term.
    Source: Roberts, Yaida and Hanin (2022), chapter 6 for the mean; the covariance is ours.
    Tested by: tests/learning/test_bayes.py (importance-weighted networks).
    """
    n_train, n_out = y.shape
    A, B = slice(0, n_train), slice(n_train, K.shape[0])
    known = known or (whitening_of(K[A, A], noise) if noise >= 0 else None)
    if known is None:
        inverse, logdet = _inverse(K[A, A], y, noise)
        tilde = inverse @ y
        cov_0 = K[B, B] - K[B, A] @ inverse @ K[A, B]
    else:
        inverse, logdet, tilde = None, known.logdet, known.solve(y)
        reach = K[B, A] @ known.W.mT
        cov_0 = K[B, B] - reach @ reach.mT
    mean_0 = K[B, A] @ tilde
    fit = float((y * tilde).sum())
    evidence_0 = -0.5 * fit - 0.5 * n_out * (logdet + n_train * math.log(2 * math.pi))
    if V is None or G1 is None or n is None:
        return Posterior(mean_0, cov_0, evidence_0, PosteriorTerms(mean_0, cov_0, evidence_0))

    if inverse is None:
        assert known is not None
        inverse = known.inverse
    W = tilde @ tilde.mT - n_out * inverse
    project = torch.cat([-K[B, A] @ inverse, torch.eye(K.shape[0] - n_train, dtype=K.dtype)], 1)
    V_AA = V[:, :, A, A]
    pull = 0.5 * torch.einsum("abde,de->ab", V_AA, W)
    shift = (G1 + pull) / n
    # training index c next to any a: V_(ac)(de) K^{cd}
    bend = torch.einsum("acde,cd->ae", V[:, A, A, A], inverse)
    mean_1 = project @ ((G1 + pull)[:, A] @ tilde - bend @ tilde) / n
    fold = torch.einsum("acbd,cd->ab", V[:, A, :, A], inverse)
    cov_1 = project @ (G1 + pull - fold) @ project.mT / n
    rotated = torch.einsum("acbe,ci,ej->ijab", V[:, A, :, A], tilde, tilde)
    hebbian = torch.einsum("xa,ijab,yb->ijxy", project, rotated, project) / n
    V_A = V[A, A, A, A]
    evidence_1 = (
        0.5 * (W * G1[A, A]).sum()
        + 0.25 * n_out * torch.einsum("abcd,ad,bc->", V_A, inverse, inverse)
        - 0.5 * torch.einsum("abcd,ai,bc,di->", V_A, tilde, inverse, tilde)
        + 0.125 * torch.einsum("abcd,ab,cd->", V_A, W, W)
    ) / n
    same = torch.einsum("iixy->xy", hebbian) / n_out
    terms = PosteriorTerms(
        mean_0=mean_0,
        mean_1=mean_1,
        cov_0=cov_0,
        cov_1=cov_1 + same,
        log_evidence_0=evidence_0,
        log_evidence_1=float(evidence_1),
        kernel_shift=shift,
        hebbian=hebbian,
    )
    return Posterior(mean_0 + mean_1, cov_0 + cov_1 + same, evidence_0 + float(evidence_1), terms)


def hebbian_variance(z1: Tensor | float, G: float, V: float, n: int) -> Tensor:
    """E[z_2^2 | z_1]: how one neuron's square answers to another's, same layer, one input.

    ``G`` is the metric with its 1/n correction, ``V`` the vertex without the 1/n. V > 0 makes
    neurons fire together.

    Parameters
    ----------
    z1 : Tensor or float
        Preactivation of the first neuron.
    G, V : float
        Metric and vertex of one input.
    n : int
        Width of the layer before.
    """
    z = torch.as_tensor(z1, dtype=torch.float64)
    return G + V / (2 * n * G**2) * (z**2 - G)

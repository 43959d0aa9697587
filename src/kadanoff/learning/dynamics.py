"""Kernel dynamics in the eigenbasis: what all infinite-width predictions have in common."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from kadanoff.errors import AnalysisError, DataError, DomainError, UsageError

__all__ = [
    "Blocks",
    "Targets",
    "Whitening",
    "as_targets",
    "duplicates",
    "eigenbasis",
    "whitening_of",
]

# up to here (in the 1-norm) both factorisations give the same digits
_CHOLESKY_CONDITION = 1e10


@dataclass(frozen=True)
class Targets:
    """Labels as the theory wants them.

    Attributes
    ----------
    y : Tensor, shape (N, n_L)
        Regression targets, or one-hot rows for classes.
    classes : Tensor or None, shape (n_L,)
        The class that each output stands for; None for regression.
    """

    y: Tensor
    classes: Tensor | None = None


def as_targets(y: Tensor, n_points: int, n_outputs: int | None = None) -> Targets:
    """Real targets pass through; integer or boolean ones become one-hot rows.

    Parameters
    ----------
    y : Tensor, shape (N,) or (N, n_L)
    n_points : int
        How many rows there must be.
    n_outputs : int, optional
        Classes 0 ... n_outputs - 1 keep their numbers.

    Raises
    ------
    DataError
        Wrong number of rows or outputs, complex or non-finite values, or an empty set.
    """
    try:
        y = torch.as_tensor(y)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"Targets cannot be made a tensor: {error}.") from None
    if n_points == 0 or y.numel() == 0:
        raise DataError(
            f"There are no training points: the targets have shape {tuple(y.shape)}.",
            "Pass at least one training point.",
        )
    rows = y.shape[0] if y.ndim else 0
    if rows != n_points:
        raise DataError(
            f"There are {n_points} training inputs and {rows} targets (of shape {tuple(y.shape)}).",
            "Pass one target (row) a training input.",
        )
    if y.is_complex():
        raise DataError(f"Targets have dtype {y.dtype}.", "Pass real numbers or integer classes.")
    if y.dtype.is_floating_point:
        y = y.to(torch.float64).reshape(n_points, -1)
        classes = None
        bad = (~torch.isfinite(y)).any(dim=1).nonzero().flatten().tolist()
        if bad:
            raise DataError(
                f"{len(bad)} targets are not finite, the first at row {bad[0]}.",
                "Remove or repair these rows.",
            )
    else:
        if y.ndim > 1 and y.shape[1] != 1:
            raise DataError(
                f"Integer targets of shape {tuple(y.shape)} are neither classes nor numbers.",
                "Pass classes of shape (N,), or convert the targets to floats.",
            )
        labels = y.reshape(n_points).long()
        if n_outputs is not None and int(labels.min()) >= 0 and int(labels.max()) < n_outputs:
            classes = torch.arange(n_outputs)
        else:
            classes = labels.unique()
        y = (labels[:, None] == classes[None, :]).to(torch.float64)
    if n_outputs is not None and y.shape[1] != n_outputs:
        raise DataError(
            f"The targets have {y.shape[1]} columns and the network {n_outputs} outputs.",
            "Give the architecture as many outputs as there are targets (or classes).",
        )
    return Targets(y, classes)


def duplicates(kernel: Tensor, y: Tensor) -> tuple[int, int] | None:
    """The first pair of training points that no kernel tells apart and whose labels differ."""
    scale = kernel.diagonal()
    distance = scale[:, None] + scale[None, :] - 2 * kernel
    same = distance <= 1e-12 * (scale[:, None] + scale[None, :])
    differs = (y[:, None, :] - y[None, :, :]).abs().amax(-1) > 1e-12 * (1 + y.abs().max())
    pairs = torch.triu(same & differs, diagonal=1).nonzero()
    return None if not len(pairs) else (int(pairs[0, 0]), int(pairs[0, 1]))


def eigenbasis(kernel: Tensor, name: str = "kernel") -> tuple[Tensor, Tensor]:
    """Eigenvalues (ascending, negatives from rounding set to 0) and eigenvectors.

    Raises
    ------
    DataError
        The kernel is not square, or not finite.
    AnalysisError
        It has negative eigenvalues beyond rounding.
    """
    if kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1]:
        raise DataError(f"The {name} has shape {tuple(kernel.shape)}.", "Pass a square matrix.")
    if not bool(torch.isfinite(kernel).all()):
        raise DataError(
            f"The {name} has entries that are not finite.",
            "Scale the inputs, or choose C_W so that the kernel does not grow with depth.",
        )
    values, vectors = torch.linalg.eigh(0.5 * (kernel + kernel.mT))
    floor = float(values.abs().max()) * kernel.shape[0] * 1e-12
    if float(values.min()) < -max(floor, 1e-300) * 1e2:
        raise AnalysisError(
            f"The {name} is not positive: its smallest eigenvalue is {float(values.min()):.3g}.",
            "Check that it is the kernel of one set of inputs with itself.",
        )
    return values.clamp_min(0), vectors


@dataclass(frozen=True)
class Whitening:
    """W with Wᵀ W = (kernel + shift)⁻¹: the inverse of its Cholesky factor.

    Attributes
    ----------
    W : Tensor, shape (N, N)
    logdet : float
        Of kernel + shift.
    """

    W: Tensor
    logdet: float

    def solve(self, y: Tensor) -> Tensor:
        """(kernel + shift)⁻¹ y."""
        return self.W.mT @ (self.W @ y)

    @property
    def inverse(self) -> Tensor:
        """(kernel + shift)⁻¹."""
        return self.W.mT @ self.W

    @property
    def diagonal(self) -> Tensor:
        """The diagonal of the inverse, (N,)."""
        return self.W.square().sum(0)


def whitening_of(kernel: Tensor, shift: float = 0.0) -> Whitening | None:
    """One factorisation of kernel + shift, by Cholesky; None where it is ill-conditioned.

    Then, or where the kernel is not one, the eigenvalues have to be looked at
    (:func:`eigenbasis`), which takes some ten times longer.
    """
    if kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1]:
        return None
    whole = kernel.clone()
    whole.diagonal().add_(shift)
    factor, failed = torch.linalg.cholesky_ex(whole)
    if int(failed):
        return None
    # LAPACK's: torch would solve for N right-hand sides, at three times the price
    from scipy.linalg import lapack

    dpocon: Any = getattr(lapack, "dpocon")  # noqa: B009 (unknown to type checkers)
    dtrtri: Any = getattr(lapack, "dtrtri")  # noqa: B009
    upper = factor.cpu().numpy().T
    reciprocal, _ = dpocon(upper, float(torch.linalg.matrix_norm(whole, 1)))
    if not reciprocal * _CHOLESKY_CONDITION > 1:
        return None
    W = torch.from_numpy(dtrtri(upper)[0].T).to(kernel.device)
    return Whitening(W, 2 * float(factor.diagonal().log().sum()))


@dataclass(frozen=True)
class Blocks:
    """Kernels of training (A) and test (B) points and the targets.

    Attributes
    ----------
    K_AA, K_BA, K_BB : Tensor
        Preactivation kernel of the output layer, shapes (N, N), (M, N), (M, M).
    Theta_AA, Theta_BA : Tensor
        Mean NTK at infinite width with the learning-rate tensor included.
    y : Tensor, shape (N, n_L)
    ridge : float
        Weight mu of the penalty (mu/2) |theta - theta(0)|^2 in the metric of the learning-rate
        tensor. It stops the fit short of the labels.
    """

    K_AA: Tensor
    K_BA: Tensor
    K_BB: Tensor
    Theta_AA: Tensor
    Theta_BA: Tensor
    y: Tensor
    ridge: float = 0.0

    def __post_init__(self) -> None:
        if self.ridge < 0 or not math.isfinite(self.ridge):
            raise DomainError(f"ridge = {self.ridge} is not a penalty.", "Pass a number >= 0.")
        if self.K_AA.shape != self.Theta_AA.shape or self.y.shape[0] != self.K_AA.shape[0]:
            raise DataError(
                f"Shapes differ: K {tuple(self.K_AA.shape)}, Theta {tuple(self.Theta_AA.shape)}, "
                f"targets {tuple(self.y.shape)}.",
                "Pass kernels and targets of the same training points.",
            )

    @cached_property
    def modes(self) -> tuple[Tensor, Tensor]:
        """Eigenvalues (N,) and eigenvectors (N, N) of the training NTK."""
        return eigenbasis(self.Theta_AA, "training NTK")

    @cached_property
    def whitening(self) -> Whitening | None:
        """One factorisation of the training NTK + ridge; None where its null space matters."""
        return whitening_of(self.Theta_AA, self.ridge)

    @property
    def rank_floor(self) -> float:
        """Eigenvalues up to here count as zero."""
        values = self.modes[0]
        return float(values.max()) * values.shape[0] * 1e-14

    def decay(self, t: float, eta: float | None) -> Tensor:
        """Factor (N,) by which each mode of the error has shrunk after ``t``.

        ``t`` counts time under gradient flow (``eta`` None) and steps under descent.
        """
        if isinstance(t, complex) or math.isnan(t) or t < 0:
            raise DomainError(f"t = {t} is not a time.", "Pass t >= 0, or math.inf for the end.")
        rates = self.modes[0] + self.ridge
        if eta is None:
            if math.isinf(t):
                return (rates <= self.rank_floor).to(rates.dtype)
            return torch.exp(-rates * t)
        check_step(eta, float(rates.max()))
        if math.isinf(t):
            return (rates <= self.rank_floor).to(rates.dtype)
        if t != int(t):
            raise DomainError(
                f"t = {t} is not a number of steps.", "Pass a whole number with eta= given."
            )
        return (1 - eta * rates) ** int(t)

    def filter(self, t: float, eta: float | None) -> Tensor:
        """(1 - decay) / (eigenvalue + ridge): what takes the place of the inverse at time t."""
        rates = self.modes[0] + self.ridge
        decay = self.decay(t, eta)
        zero = rates <= self.rank_floor
        if not bool(zero.any()):
            return (1 - decay) / rates
        if math.isinf(t):
            # the null space of the training kernel moves no prediction: pseudo-inverse
            self._check_fit(zero)
            slope = torch.zeros_like(rates)
        else:
            slope = torch.full_like(rates, float(t) * (1.0 if eta is None else eta))
        return torch.where(zero, slope, (1 - decay) / torch.where(zero, 1.0, rates))

    def _check_fit(self, zero: Tensor) -> None:
        _, vectors = self.modes
        stuck = (vectors[:, zero].mT @ self.y).norm()
        if float(stuck) <= 1e-6 * float(self.y.norm() + 1e-300):
            return
        pair = duplicates(self.Theta_AA, self.y)
        if pair is not None:
            i, j = pair
            raise DataError(
                f"Training points {i} and {j} are the same to the network but have different "
                f"labels, {self.y[i].tolist()} and {self.y[j].tolist()}: no network fits both.",
                "Remove one of them, average their labels, or pass ridge > 0.",
            )
        rank = int((~zero).sum())
        raise AnalysisError(
            f"The NTK of the {zero.shape[0]} training points is singular (rank {rank}), and the "
            "labels do not lie in its range: they are never fitted.",
            "Pass ridge > 0, a finite t, fewer points, or a nonlinear activation with biases.",
        )


def check_step(eta: float, largest: float) -> None:
    """Refuse a step that gradient descent on MSE does not survive.

    Raises
    ------
    DomainError
        ``eta`` is not positive and finite.
    UsageError
        ``eta`` is at or above 2 / largest.
    """
    if not (eta > 0 and math.isfinite(eta)):
        raise DomainError(
            f"eta = {eta} is not a step size.", "Pass a number > 0, or None for flow."
        )
    if eta * largest >= 2:
        raise UsageError(
            f"eta = {eta:.6g} is not stable: the largest eigenvalue of the training NTK is "
            f"{largest:.6g}, so that descent diverges from eta = {2 / largest:.6g} on.",
            f"Pass eta < {2 / largest:.4g}, or None for gradient flow.",
        )

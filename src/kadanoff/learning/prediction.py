"""`predict`: from an architecture and data to the ensemble of trained networks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from kadanoff.errors import AnalysisError, DataError, UsageError
from kadanoff.learning.bayes import Posterior, posterior
from kadanoff.learning.dynamics import Blocks, as_targets
from kadanoff.learning.finite_width import end_of_training
from kadanoff.learning.gradient_descent import trained_covariance, trained_mean

__all__ = ["MAX_TRAIN_ORDER_1", "Prediction", "blocks", "predict"]

MAX_TRAIN_ORDER_1 = 64
_RANK_4 = ("A", "B", "P", "Q", "R", "S", "T", "U")
_NEED = {"gradient": ("H1", *_RANK_4), "bayes": ("G1", "V")}


@dataclass(frozen=True)
class Prediction:
    """What an ensemble of networks predicts at the test points.

    Attributes
    ----------
    mean : Tensor, shape (M, n_L)
        Mean over initialisations (or the posterior mean).
    cov : Tensor, shape (M, M)
        Covariance over initialisations (or of the posterior), the same for each output. At
        ``order=1`` with ``method="gradient"`` it is still that of infinite width (see ``notes``).
    terms : dict
        Each contribution, 1/n included, that the mean is the sum of; more for ``"bayes"``.
    order, method, t, eta
        As asked for.
    classes : Tensor or None
        What each output stands for, if the labels were classes.
    log_evidence : float or None
        Of the training labels, for ``method="bayes"``.
    notes : tuple of str
        What the reader must know of the validity of these numbers.
    """

    mean: Tensor
    cov: Tensor
    order: int
    method: str
    t: float
    eta: float | None
    terms: dict[str, Any] = field(default_factory=dict)
    classes: Tensor | None = None
    log_evidence: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def std(self) -> Tensor:
        """Standard deviation at each test point, shape (M,)."""
        return self.cov.diagonal().clamp_min(0).sqrt()

    @property
    def labels(self) -> Tensor:
        """Class with the largest mean output, shape (M,).

        Raises
        ------
        UsageError
            The targets were not classes.
        """
        if self.classes is None:
            raise UsageError(
                "These are predictions of a regression; they have no classes.",
                "Pass integer labels to predict classes.",
            )
        return self.classes[self.mean.argmax(1)]

    def expected_error(self, y: Tensor) -> tuple[float, float]:
        """(bias^2, variance): their sum is the expected squared error per point and output."""
        bias = float(((self.mean - y.reshape(self.mean.shape)) ** 2).mean())
        return bias, float(self.cov.diagonal().mean())


def blocks(arch: Any, X_train: Tensor, y: Tensor, X_test: Tensor, ridge: float = 0.0) -> Blocks:
    """Infinite-width kernels of the output layer for training and test points.

    Returns
    -------
    Blocks
        In float64, whatever the inputs' dtype.
    """
    from kadanoff.rgflow import flow

    n = X_train.shape[0]
    result = flow(arch, torch.cat([X_train, X_test]), order=0)
    K, Theta = result.K[-1], result.Theta[-1]
    K_AA, K_BA, K_BB = K[:n, :n], K[n:, :n], K[n:, n:]
    Theta_AA, Theta_BA = Theta[:n, :n], Theta[n:, :n]
    return Blocks(K_AA, K_BA, K_BB, Theta_AA, Theta_BA, y, ridge)


def predict(
    arch: Any,
    X_train: Tensor,
    y_train: Tensor,
    X_test: Tensor,
    *,
    order: int = 0,
    t: float = math.inf,
    eta: float | None = None,
    method: str = "gradient",
    noise: float = 0.0,
    ridge: float = 0.0,
    algorithm: str = "gradient",
) -> Prediction:
    r"""Predict the ensemble of trained networks at the test points.

    Parameters
    ----------
    arch : MLP or Residual
    X_train : Tensor, shape (N, n_0), X_test : Tensor, shape (M, n_0)
    y_train : Tensor
        Floats (N,) or (N, n_L): regression. Integers (N,): classes, fitted as one-hot rows.
    order : {0, 1}
        0: infinite width. 1: with the correction of order 1/n, where n is the width of the last
        hidden layer (N at most 64; smooth activations for ``method="gradient"``).
    t : float
        Steps of descent (``eta`` given), time of gradient flow, or ``math.inf``.
    eta : float, optional
        Step of full-batch descent on the loss ``sum (z - y)^2 / 2``; None is gradient flow. The
        step of each parameter is ``eta`` times its entry of the learning-rate tensor.
    method : {"gradient", "bayes"}
        Networks trained by gradient, or the posterior with the network as prior.
    noise : float
        Variance of the label noise, for ``"bayes"``.
    ridge : float
        Penalty on the distance from the start, for ``"gradient"`` at order 0.
    algorithm : {"gradient", "giant_leap"}
        At order 1 the end of training depends on the way there.

    Returns
    -------
    Prediction

    Raises
    ------
    UsageError
        Contradictory or unknown options; a step that is not stable.
    DataError
        Empty, misshapen or non-finite data; equal points with different labels.
    AnalysisError
        A singular training kernel, or more memory needed than there is.

    Examples
    --------
    >>> import torch, kadanoff as kd
    >>> arch = kd.MLP(2, [256] * 2, 1, "relu", C_W=2.0)
    >>> X = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> round(float(kd.predict(arch, X, torch.tensor([1.0, -1.0, 0.5]), X[:1]).mean), 6)
    1.0
    """
    if order not in (0, 1):
        raise UsageError(f"order = {order} is not available.", "Choose 0 or 1.")
    if method not in _NEED:
        raise UsageError(f"Unknown method {method!r}.", "Choose 'gradient' or 'bayes'.")
    if method == "bayes" and (eta is not None or not math.isinf(t) or ridge):
        raise UsageError(
            "The posterior knows neither time, step nor ridge.",
            "Leave t, eta and ridge out, or use method='gradient'.",
        )
    if method == "gradient" and noise:
        raise UsageError(
            f"noise = {noise} belongs to method='bayes'.", "Use ridge= to regularise a descent."
        )
    X_train, X_test = _points(arch, X_train, "training"), _points(arch, X_test, "test")
    targets = as_targets(y_train, X_train.shape[0], arch.n_out)
    y = targets.y
    if order == 1:
        out = _order_1(arch, X_train, y, X_test, t, eta, method, noise, ridge, algorithm)
    else:
        b = blocks(arch, X_train, y, X_test, ridge)
        if method == "bayes":
            joint = torch.cat([torch.cat([b.K_AA, b.K_BA.mT], 1), torch.cat([b.K_BA, b.K_BB], 1)])
            out = _from_posterior(posterior(joint, y, noise=noise), 0)
        else:
            mean = trained_mean(b, t, eta)
            terms = {"infinite_width": mean}
            out = Prediction(mean, trained_covariance(b, t, eta), 0, method, t, eta, terms)
    return replace(out, classes=targets.classes)


def _points(arch: Any, X: Tensor, name: str) -> Tensor:
    X = torch.as_tensor(X)
    if X.shape[0] == 0:
        raise DataError(f"There are no {name} points.", f"Pass at least one {name} point.")
    if X.is_complex() or X.dtype == torch.bool:
        raise DataError(f"The {name} inputs have dtype {X.dtype}.", "Pass real numbers.")
    return arch.inputs(X)


def _from_posterior(post: Posterior, order: int) -> Prediction:
    return Prediction(
        post.mean,
        post.cov,
        order,
        "bayes",
        math.inf,
        None,
        dict(post.terms),
        log_evidence=post.log_evidence,
    )


def _order_1(
    arch: Any,
    X_train: Tensor,
    y: Tensor,
    X_test: Tensor,
    t: float,
    eta: float | None,
    method: str,
    noise: float,
    ridge: float,
    algorithm: str,
) -> Prediction:
    if not math.isinf(t) or ridge:
        raise UsageError(
            "At order 1 the end of training without ridge is predicted, not other times.",
            "Leave t and ridge out, or use order=0.",
        )
    if y.shape[0] > MAX_TRAIN_ORDER_1:
        raise UsageError(
            f"order=1 with {y.shape[0]} training points: its tensors have N^4 entries.",
            f"Use at most {MAX_TRAIN_ORDER_1} training points, or order=0.",
        )
    if arch.L < 2:
        raise UsageError("A linear map has no hidden layer and no order 1/n.", "Use order=0.")
    n = arch.n[-2]
    if method == "bayes":
        tensors = _tensors(arch, torch.cat([X_train, X_test]), method)
        post = posterior(tensors.K, y, noise=noise, G1=tensors.G1, V=tensors.V, n=n)
        return _from_posterior(post, 1)
    b = blocks(arch, X_train, y, X_test)
    means, terms = [], []
    for rows in _test_blocks(y.shape[0], X_test.shape[0]):
        tensors = _tensors(arch, torch.cat([X_train, X_test[rows]]), method)
        found = end_of_training(tensors, y, eta=eta, algorithm=algorithm)
        means.append(found.kernel)
        terms.append(found.terms)
    kernel_mean = torch.cat(means)
    parts = {name: torch.cat([part[name] for part in terms]) / n for name in terms[0]}
    mean = kernel_mean + torch.stack(list(parts.values())).sum(0)
    notes = ["The covariance is that of infinite width; its order 1/n is not derived here."]
    ratio = float((mean - kernel_mean).norm() / kernel_mean.norm().clamp_min(1e-300))
    if ratio > 0.3:
        notes.append(f"The order 1/n is {ratio:.0%} of the mean: higher orders matter at n = {n}.")
    return Prediction(
        mean,
        trained_covariance(b, math.inf, eta),
        1,
        method,
        math.inf,
        eta,
        {"infinite_width": kernel_mean, **parts},
        notes=tuple(notes),
    )


def _test_blocks(n_train: int, n_test: int) -> Iterator[slice]:
    """Test points in blocks, so that the joint tensors stay close to the training ones."""
    size = max(8, n_train // 4)
    for start in range(0, n_test, size):
        yield slice(start, min(start + size, n_test))


def _tensors(arch: Any, X: Tensor, method: str) -> SimpleNamespace:
    """Tensors of the output layer from the flow at order 1."""
    from kadanoff.rgflow import flow

    names = _NEED[method]
    needed = 8 * X.shape[0] ** 4 * 14 * 2
    free = _free_memory()
    if free is not None and needed > free:
        raise AnalysisError(
            f"order=1 for {X.shape[0]} points at a time needs about {needed:,} bytes; "
            f"{free:,} are free.",
            "Use fewer training points, or order=0.",
        )
    result = flow(arch, X, order=1)
    found = {name: getattr(result, name)[-1] for name in ("K", "Theta", *names)}
    return SimpleNamespace(**found)


def _free_memory() -> int | None:
    import os

    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None

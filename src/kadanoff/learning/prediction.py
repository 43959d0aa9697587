"""`predict`: from an architecture and data to the ensemble of trained networks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from kadanoff.architecture import Network
from kadanoff.devices import chosen
from kadanoff.errors import AnalysisError, DataError, UsageError
from kadanoff.kernels.direct import direct_kernels, is_direct
from kadanoff.kernels.gram import Kernel
from kadanoff.learning.bayes import (
    LeaveOneOut,
    Posterior,
    leave_one_out,
    left_out_of,
    posterior,
)
from kadanoff.learning.corrections import OTHER_BLOCKS, first_order
from kadanoff.learning.dynamics import Blocks, Whitening, as_targets, whitening_of
from kadanoff.learning.gradient_descent import trained_covariance, trained_mean
from kadanoff.learning.inference import first_order_posterior
from kadanoff.learning.response import ALGORITHMS
from kadanoff.learning.terms import GradientTerms, PosteriorTerms
from kadanoff.results import Result, Table
from kadanoff.rgflow import flow
from kadanoff.rgflow.validity import MOST_SHIFT, warn_beyond

__all__ = ["MAX_TRAIN_ORDER_1", "Prediction", "blocks", "predict"]

MAX_TRAIN_ORDER_1 = 64
# below, layer by layer is faster than compiling the composite map
_FEW = 16
_METHODS = ("gradient", "bayes")


@dataclass(frozen=True, repr=False)
class Prediction(Result):
    """What an ensemble of networks predicts at the test points.

    Attributes
    ----------
    mean : Tensor, shape (M, n_L)
        Mean over initialisations (or the posterior mean).
    cov : Tensor, shape (M, M)
        Covariance over initialisations (or of the posterior). At order 0 it is the same for each
        output; at order 1 it differs, and this is its average over outputs.
    output_cov : Tensor or None, shape (n_L, n_L, M, M)
        At order 1: covariance of outputs i and j at points a and b. The shared features correlate
        the outputs of a network through the labels.
    terms : GradientTerms or PosteriorTerms
        Each contribution, 1/n included, that the mean is the sum of, and (``cov_*``) each that
        ``output_cov`` is the sum of; more for ``"bayes"``. At order 1 also ``quadrature_error``
        (M, n_L), the numerical error of the mean's correction (distance of two levels of the
        rule), the same for each term (``quadrature_error_*``), and ``cov_quadrature_error``.
        Read them as attributes or by name, as of a dict.
    order, method, t, eta
        As asked for.
    classes : Tensor or None
        What each output stands for, if the labels were classes.
    log_evidence : float or None
        Of the training labels, for ``method="bayes"``.
    notes : tuple of str
        What the reader must know of the validity of these numbers.
    leave_one_out : LeaveOneOut or None
        Prediction of each training point from the others: of the posterior at the order asked
        for; of networks trained to the end at infinite width, where their kernel is regular.
    """

    mean: Tensor
    cov: Tensor
    order: int
    method: str
    t: float
    eta: float | None
    terms: GradientTerms | PosteriorTerms
    classes: Tensor | None = None
    log_evidence: float | None = None
    notes: tuple[str, ...] = ()
    output_cov: Tensor | None = None
    leave_one_out: LeaveOneOut | None = None

    @property
    def std(self) -> Tensor:
        """Standard deviation at each test point, shape (M,); at order 1 averaged over outputs."""
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

    def headline(self) -> str:
        """Test points, method, order and time in a few words."""
        points, outputs = self.mean.shape
        when = "" if self.method == "bayes" else f", t = {self.t:g}"
        return f"{points} test points, {outputs} outputs, {self.method}, order {self.order}{when}"

    def table(self) -> Table:
        """A row for each test point and output: mean and standard deviation."""
        rows: list[tuple[Any, ...]] = []
        for point, (means, std) in enumerate(zip(self.mean, self.std, strict=True)):
            label = self.labels[point].item() if self.classes is not None else None
            rows += [(point, i, float(mean), float(std), label) for i, mean in enumerate(means)]
        return Table(("point", "output", "mean", "std", "label"), rows, self.headline())

    def expected_error(self, y: Tensor) -> tuple[float, float]:
        """(bias^2, variance): their sum is the expected squared error per point and output."""
        bias = float(((self.mean - y.reshape(self.mean.shape)) ** 2).mean())
        return bias, float(self.cov.diagonal().mean())


def blocks(arch: Network, X_train: Tensor, y: Tensor, X_test: Tensor, ridge: float = 0.0) -> Blocks:
    """Infinite-width kernels of the output layer for training and test points.

    Parameters
    ----------
    arch : Network
    X_train : Tensor, shape (N, n_0), X_test : Tensor, shape (M, n_0)
    y : Tensor, shape (N, n_L)
    ridge : float
        Added to the diagonal of the training NTK.

    Returns
    -------
    Blocks
        In float64, whatever the inputs' dtype.
    """
    n = X_train.shape[0]
    K, Theta = _kernels(arch, torch.cat([X_train, X_test]))
    K_AA, K_BA, K_BB = K[:n, :n], K[n:, :n], K[n:, n:]
    Theta_AA, Theta_BA = Theta[:n, :n], Theta[n:, :n]
    return Blocks(K_AA, K_BA, K_BB, Theta_AA, Theta_BA, y, ridge)


def _kernels(arch: Any, X: Tensor) -> tuple[Tensor, Tensor]:
    if _is_kernel(arch):
        K, Theta = arch(X, None, get=("nngp", "ntk"))
        return K.double(), Theta.double()
    if X.shape[0] <= _FEW:
        from kadanoff.rgflow import flow

        result = flow(arch, X, order=0)
        return result.K[-1], result.Theta[-1]
    if is_direct(arch, len(X)):
        return direct_kernels(arch, X)
    K, Theta = _kernel_of(arch)(X, None, get=("nngp", "ntk"))
    return K, Theta


@lru_cache(maxsize=8)
def _kernel_of(arch: Network) -> Kernel:
    """The kernel of an architecture, with the maps it has compiled in earlier calls."""
    return Kernel(arch)


def _is_kernel(arch: Any) -> bool:
    """Whether it is a kernel itself, of a module or a description."""
    return hasattr(arch, "prepare") and callable(arch)


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
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Prediction:
    r"""Predict the ensemble of trained networks at the test points.

    Parameters
    ----------
    arch : MLP, Residual, or a kernel
        What ``kadanoff.kernel`` returns will do at order 0, and keeps what it has compiled.
    X_train : Tensor, shape (N, n_0), X_test : Tensor, shape (M, n_0)
    y_train : Tensor
        Floats (N,) or (N, n_L): regression. Integers (N,): classes, fitted as one-hot rows.
    order : {0, 1}
        0: infinite width. 1: with the correction of order 1/n, where n is the width of the last
        hidden layer (N at most 64; smooth activations for ``method="gradient"``, and for
        ``"bayes"`` with more than 16 points).
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
    device : str
        Where the averages over neurons are taken at order 1 with more than ten inputs.
    progress : callable, optional
        ``progress(done, total)`` at order 1, which takes minutes for dozens of points.

    Returns
    -------
    Prediction

    Raises
    ------
    UsageError
        Contradictory or unknown options; a step that is not stable; no such device.
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
        raise UsageError(f"order = {order!r} is not available.", "Choose 0 or 1.")
    if method not in _METHODS:
        raise UsageError(f"Unknown method {method!r}.", "Choose 'gradient' or 'bayes'.")
    for name, value in {"t": t, "eta": eta, "noise": noise, "ridge": ridge}.items():
        if value is not None and not isinstance(value, (int, float)):
            raise UsageError(f"{name} must be a number, got {value!r}.")
    if method == "bayes" and (eta is not None or not math.isinf(t) or ridge):
        raise UsageError(
            "The posterior knows neither time, step nor ridge.",
            "Leave t, eta and ridge out, or use method='gradient'.",
        )
    if method == "gradient" and noise:
        raise UsageError(
            f"noise = {noise} belongs to method='bayes'.", "Use ridge= to regularise a descent."
        )
    if _is_kernel(arch) and order == 1:
        raise UsageError(
            "A kernel alone knows nothing of the order 1/n.",
            "Use order=0, or pass the description itself (kadanoff.MLP).",
        )
    if not hasattr(arch, "metric") and not _is_kernel(arch):
        raise UsageError(
            f"{str(arch)[:80]!r} is not an architecture.",
            "Pass kadanoff.MLP, kadanoff.Residual, or a torch module to kadanoff.predict.",
        )
    chosen(device)
    X_train, X_test = _points(arch, X_train, "training"), _points(arch, X_test, "test")
    n_out = getattr(arch, "n_out", None)
    targets = as_targets(y_train, X_train.shape[0], n_out)
    y = targets.y
    if order == 1:
        out = _order_1(
            arch,
            X_train,
            y,
            X_test,
            t,
            eta,
            method,
            noise,
            ridge,
            algorithm,
            device,
            progress,
        )
    else:
        if method == "bayes":
            out = _posterior(arch, X_train, y, X_test, noise)
        else:
            b = blocks(arch, X_train, y, X_test, ridge)
            mean = trained_mean(b, t, eta)
            terms = GradientTerms(infinite_width=mean)
            left_out = _left_out(b.Theta_AA, y, ridge, b.whitening) if math.isinf(t) else None
            cov = trained_covariance(b, t, eta)
            out = Prediction(mean, cov, 0, method, t, eta, terms, leave_one_out=left_out)
    return replace(out, classes=targets.classes)


def _posterior(arch: Any, X_train: Tensor, y: Tensor, X_test: Tensor, noise: float) -> Prediction:
    n = len(X_train)
    K = _kernels(arch, torch.cat([X_train, X_test]))[0]
    # one factorisation for the posterior and for what is left out
    known = whitening_of(K[:n, :n], noise) if noise >= 0 and math.isfinite(noise) else None
    out = _from_posterior(posterior(K, y, noise=noise, known=known), 0)
    return replace(out, leave_one_out=_left_out(K[:n, :n], y, noise, known))


def _warn_strong(arch: Network, correction: Tensor, mean: Tensor, notes: list[str]) -> None:
    """Warn and note where the order 1/n is too large for higher ones to be small."""
    shift = float(correction.norm() / mean.norm().clamp_min(1e-300))
    if shift > MOST_SHIFT:
        notes.append(
            f"The order 1/n is {shift:.0%} of the mean: higher orders matter at n = {arch.n[-2]}."
        )
    # the caller of predict, beyond this function and _order_1
    warn_beyond("A prediction at order 1", arch, shift=shift)


def _left_out(
    kernel: Tensor, y: Tensor, noise: float, known: Whitening | None = None
) -> LeaveOneOut | None:
    if y.shape[0] < 2:
        return None
    if known is not None:
        return left_out_of(known.diagonal, known.solve(y), y)
    try:
        return leave_one_out(kernel, y, noise)
    except (AnalysisError, DataError):
        return None


def _points(arch: Any, X: Tensor, name: str) -> Tensor:
    try:
        X = torch.as_tensor(X)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"The {name} inputs cannot be made a tensor: {error}.") from None
    if X.ndim and X.shape[0] == 0:
        raise DataError(f"There are no {name} points.", f"Pass at least one {name} point.")
    if X.is_complex() or X.dtype == torch.bool:
        raise DataError(f"The {name} inputs have dtype {X.dtype}.", "Pass real numbers.")
    return arch.check(X) if _is_kernel(arch) else arch.inputs(X)


def _from_posterior(post: Posterior, order: int) -> Prediction:
    return Prediction(
        post.mean,
        post.cov,
        order,
        "bayes",
        math.inf,
        None,
        post.terms,
        log_evidence=post.log_evidence,
    )


def _order_1(
    arch: Network,
    X_train: Tensor,
    y: Tensor,
    X_test: Tensor,
    t: float,
    eta: float | None,
    method: str,
    noise: float,
    ridge: float,
    algorithm: str,
    device: str,
    progress: Callable[[int, int], None] | None,
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
    if algorithm not in ALGORITHMS:
        raise UsageError(
            f"There is no algorithm {algorithm!r}.", f"Choose {' or '.join(ALGORITHMS)}."
        )
    if method == "gradient" and any(activation.kinks for activation in arch.activations):
        # one input tells at once what all of them would after minutes
        flow(arch, X_train[:1], order=1).require("R")
    n = arch.n[-2]
    if method == "bayes":
        K = _kernels(arch, torch.cat([X_train, X_test]))[0]
        post, left_out, notes = first_order_posterior(
            arch, X_train, y, X_test, K, noise=noise, device=device, progress=progress
        )
        mean = post.terms.mean_0
        _warn_strong(arch, post.mean - mean, mean, notes)
        return replace(_from_posterior(post, 1), leave_one_out=left_out, notes=tuple(notes))
    b = blocks(arch, X_train, y, X_test)
    kernel_mean, kernel_cov = trained_mean(b, math.inf, eta), trained_covariance(b, math.inf, eta)
    found = first_order(
        arch, X_train, y, X_test, eta=eta, algorithm=algorithm, device=device, progress=progress
    )
    mean = kernel_mean + torch.stack(list(found.mean.values())).sum(0)
    eye = torch.eye(y.shape[1], dtype=y.dtype)
    output_cov = torch.einsum("ij,ab->ijab", eye, kernel_cov)
    output_cov = output_cov + torch.stack(list(found.cov.values())).sum(0)
    cov = torch.einsum("iiab->ab", output_cov) / y.shape[1]
    notes = []
    if not bool(found.together.all()):
        notes.append(OTHER_BLOCKS)
    _warn_strong(arch, mean - kernel_mean, kernel_mean, notes)
    size = float((mean - kernel_mean).abs().max())
    error = float(found.mean_error.max())
    if error > 0.1 * size:
        notes.append(
            f"The numerical error of the order 1/n is up to {error:.2g}, its size up to "
            f"{size:.2g}: the NTK of these points is nearly singular; leave out near duplicates."
        )
    if float(cov.diagonal().min()) < -1e-9 * float(kernel_cov.diagonal().abs().max()):
        notes.append(
            f"A variance is negative at n = {n}: the order 1/n exceeds the infinite-width one."
        )
    terms = GradientTerms(
        infinite_width=kernel_mean,
        **found.mean,
        cov_infinite_width=kernel_cov,
        **{f"cov_{name}": value for name, value in found.cov.items()},
        quadrature_error=found.mean_error,
        cov_quadrature_error=found.cov_error,
        **{f"quadrature_error_{name}": error for name, error in found.term_errors.items()},
    )
    return Prediction(
        mean,
        cov,
        1,
        method,
        math.inf,
        eta,
        terms,
        notes=tuple(notes),
        output_cov=output_cov,
        leave_one_out=_left_out(b.Theta_AA, y, 0.0, b.whitening),
    )

"""One name for described networks and modules: ensembles, kernels, predictions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, overload

from torch import nn

from kadanoff.ensembles.comparison import compare as compare_described
from kadanoff.ensembles.run import ensemble as ensemble_described
from kadanoff.errors import UsageError
from kadanoff.kernels.gram import kernel as kernel_described
from kadanoff.learning.prediction import predict as predict_described

if TYPE_CHECKING:
    from kadanoff.architecture.network import Network
    from kadanoff.ensembles.comparison import Comparison
    from kadanoff.ensembles.result import Ensemble
    from kadanoff.ensembles.widths import Scaling
    from kadanoff.kernels.gram import Kernel
    from kadanoff.learning.prediction import Prediction
    from kadanoff.program.comparison import ModuleComparison
    from kadanoff.program.module_kernel import ModuleKernel
    from kadanoff.program.result import ModuleEnsemble
    from kadanoff.rgflow.run import Flow

__all__ = ["compare", "ensemble", "kernel", "predict"]

# arguments that only ensembles of described networks, or of a factory by seed, know
_DESCRIBED = {"observables", "layers", "rows", "width", "rates", "batch"}


@overload
def ensemble(
    model: nn.Module, X: Any, n_networks: int | None = None, **options: Any
) -> ModuleEnsemble: ...


@overload
def ensemble(
    model: Network, X: Any, n_networks: int | None = None, *args: Any, **options: Any
) -> Ensemble: ...


@overload
def ensemble(
    model: Callable[..., Any], X: Any, n_networks: int | None = None, *args: Any, **options: Any
) -> Any: ...


def ensemble(model: Any, X: Any, n_networks: int | None = None, *args: Any, **options: Any) -> Any:
    """Statistics of an ensemble of random networks, with standard errors.

    Parameters
    ----------
    model : Network, nn.Module, or callable
        A description (:func:`kadanoff.MLP`, :func:`kadanoff.Residual`): kernels and vertices under
        the names of :class:`kadanoff.Flow`, see :func:`kadanoff.ensembles.ensemble`. A module, or
        a factory without arguments: every call of it, and every gradient, on one batch, see
        :func:`kadanoff.program.module_ensemble`. A factory ``factory(seed)``: statistics of its
        outputs and their NTK, see :mod:`kadanoff.ensembles.module`.
    X : array, tensor, mapping or (inputs, targets)
    n_networks : int, optional
        Default: 10 000 described networks, 64 of a module.
    *args, **options
        As those functions take them.

    Returns
    -------
    Ensemble or ModuleEnsemble

    Raises
    ------
    UsageError

    Examples
    --------
    >>> import torch, kadanoff as kd
    >>> ens = kd.ensemble(torch.nn.Linear(100, 50), torch.ones(3, 100), 8)
    >>> ens["" ]["second_moment"].value > 0
    True
    """
    from kadanoff.program.run import module_ensemble, takes_nothing

    network: Any = model
    described = hasattr(model, "activations") and not isinstance(model, nn.Module)
    by_seed = callable(model) and not isinstance(model, nn.Module) and not takes_nothing(model)
    if described or by_seed or (options.keys() & _DESCRIBED and not isinstance(model, nn.Module)):
        n = 10_000 if n_networks is None else n_networks
        return ensemble_described(network, X, n, *args, **options)
    if args:
        raise UsageError("Pass the options of a module's ensemble by name.")
    return module_ensemble(network, X, 64 if n_networks is None else n_networks, **options)


@overload
def compare(
    first: ModuleEnsemble, second: ModuleEnsemble, *, level: float = 4.5
) -> ModuleComparison: ...


@overload
def compare(
    first: Flow,
    second: Ensemble | Scaling,
    wider: Ensemble | None = None,
    *,
    level: float = 4.0,
) -> Comparison: ...


def compare(first: Any, second: Any, *args: Any, **options: Any) -> Comparison | ModuleComparison:
    """Predicted against measured, with z-scores.

    Parameters
    ----------
    first, second
        A :class:`kadanoff.Flow` and an ensemble, see :func:`kadanoff.ensembles.compare`; or two
        ensembles of modules, see :func:`kadanoff.program.comparison.compare_modules`.

    Returns
    -------
    Comparison or ModuleComparison
    """
    from kadanoff.program.comparison import compare_modules
    from kadanoff.program.result import ModuleEnsemble

    if isinstance(first, ModuleEnsemble) or isinstance(second, ModuleEnsemble):
        return compare_modules(first, second, *args, **options)
    return compare_described(first, second, *args, **options)


@overload
def kernel(model: nn.Module, **options: Any) -> ModuleKernel: ...


@overload
def kernel(model: Network, **options: Any) -> Kernel: ...


@overload
def kernel(model: Any, **options: Any) -> Any: ...


def kernel(model: Any, **options: Any) -> Any:
    """The NNGP and NTK at infinite width, as a function of two data sets.

    Parameters
    ----------
    model : nn.Module, Network or ConvNet
        Any module: its forward is run on kernels, see
        :class:`kadanoff.program.module_kernel.ModuleKernel`. A description: see
        :func:`kadanoff.kernels.kernel`.
    **options
        As those take them.

    Returns
    -------
    ModuleKernel, Kernel or ConvKernel
        Call it as ``kernel(model)(X1, X2, get=("nngp", "ntk"))``.

    Raises
    ------
    UsageError

    Examples
    --------
    >>> import torch, kadanoff as kd
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1))
    >>> gram = kd.kernel(model)(torch.eye(3))
    >>> gram.ntk.shape
    torch.Size([3, 3])
    """
    if isinstance(model, nn.Module):
        from kadanoff.program.module_kernel import ModuleKernel

        return ModuleKernel(model, **options)
    return kernel_described(model, **options)


def predict(
    model: Any, X_train: Any, y_train: Any, X_test: Any, *, kernel: Any = None, **options: Any
) -> Prediction:
    """What an ensemble of trained networks predicts at the test points.

    Parameters
    ----------
    model : Network, nn.Module, or a kernel
        A described network: see :func:`kadanoff.learning.predict`. A module, or what
        ``kadanoff.kernel`` made of one: its infinite-width kernels, order 0. Pass the kernel
        itself to keep what it has compiled from one call to the next.
    X_train, X_test : array (N, …), (M, …)
    y_train : array (N,) or (N, outputs)
        Floats: regression. Integers (N,): classes, fitted as one-hot rows.
    kernel : mapping, optional
        Options of the module's kernel, such as ``{"parametrization": "ntk"}``.
    **options
        ``t``, ``eta``, ``method``, ``noise``, ``ridge``, as :func:`kadanoff.learning.predict`.

    Returns
    -------
    Prediction

    Raises
    ------
    UsageError, DataError, AnalysisError
    """
    if isinstance(model, nn.Module):
        from kadanoff.program.module_kernel import ModuleKernel

        model = ModuleKernel(model, **(kernel or {}))
    elif kernel is not None:
        raise UsageError("kernel= holds the options of a module's kernel.", "Leave it out.")
    return predict_described(model, X_train, y_train, X_test, **options)

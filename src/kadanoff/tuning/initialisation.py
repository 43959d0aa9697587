"""Bringing a model's initial weights to criticality, in place."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from kadanoff.activations import Activation
from kadanoff.architecture import Network
from kadanoff.critical import Criticality
from kadanoff.data import example
from kadanoff.errors import DataError, DescribeError, UsageError
from kadanoff.program import looks_trained
from kadanoff.tuning.gains import SAME, Change, Initialisation, gain_of, set_gain, unscaled
from kadanoff.tuning.numerical import tune_numerically

__all__ = [
    "arguments",
    "initialise",
]

# critical C_W of activations without a factor inside lie between 0.48 (SELU) and 2 (ReLU); with a
# factor w they are multiplied by w^-2
PREFACTOR = 5.0


def initialise(
    model: nn.Module,
    sample: Any,
    *,
    seed: int = 0,
    tolerance: float = 0.05,
    probes: int = 4,
    progress: Callable[..., None] | None = None,
    trained: bool = False,
) -> Initialisation:
    """Rescale a model's weights in place so that signals and gradients survive its depth.

    Parameters
    ----------
    model : nn.Module
        Its weights keep their random directions, dtype and device; only scales change. Biases of
        rescaled layers become zero, or get the critical variance C_b where that is positive.
    sample : Tensor, (inputs, targets), dict, Batch, or iterable of batches
        A batch as in :func:`kadanoff.data.forms.example`; targets are not looked at.
    seed : int
        Seed of the random probes, and of weights or biases that must be drawn because they are
        all zero.
    tolerance : float
        Accepted |χ − 1| of a partial Jacobian's squared norm, where it is tuned numerically.
    probes : int
        Random vectors per measurement.
    progress : callable, optional
        ``progress(done, total)``.
    trained : bool
        Rescale also a model that looks trained (:func:`kadanoff.program.looks_trained`),
        which is otherwise left alone.

    Returns
    -------
    Initialisation
        What was changed. Calling again changes nothing.

    Notes
    -----
    A Sequential that :func:`kadanoff.describe` covers is set in closed form: every layer gets the
    critical C_W and C_b of the activation before it, and the first one the weights that bring the
    sample to the fixed point K* (to 1 where every or no K is one). Any other model is tuned layer
    by layer until χ = (1/n')|∂z'/∂z|² is 1 between successive layers. Layers that a normalisation
    makes independent of their weights' scale, residual blocks that contain one, embeddings and
    weights tied to them are left alone. Where branches of several lengths meet (skips that are
    concatenated), each map is made to give its outputs the mean square that its inputs had before
    their activation. Never touched: what does not require gradients, what is zero at the start
    while other weights are not, a first layer whose activation is periodic or has a factor before
    it, and a first layer that reads inputs far from unit size (``notes`` then say so).

    Raises
    ------
    DataError
        The sample is empty, not finite, or does not fit.
    AnalysisError
        The tolerance was not reached; the weights are then as they were before.
    """
    if not isinstance(model, nn.Module):
        raise UsageError(f"tune needs a torch.nn.Module, got {type(model).__name__}.")
    if not any(True for _ in model.parameters()):
        raise UsageError("The model has no parameters: there is nothing to tune.")
    args, kwargs = arguments(model, sample)
    evidence = None if trained else looks_trained(model)
    if evidence:
        note = f"{evidence} Its weights were left as they are."
        return Initialisation("untouched", (), (), 0, 0.0, (note,))
    if not any(p.requires_grad for p in model.parameters()):
        note = "No parameter requires a gradient: nothing may be changed."
        return Initialisation("untouched", (), (), 0, 0.0, (note,))
    with _restored_on_error(model):
        plan = _closed_form(model, args, seed) if not kwargs and len(args) == 1 else None
        if plan is not None:
            return plan
        return tune_numerically(
            model, args, kwargs, seed=seed, tolerance=tolerance, probes=probes, progress=progress
        )


def arguments(model: nn.Module, sample: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments that a sample stands for; checks its tensors."""
    from kadanoff.data.batch import check_inputs

    found = example(sample, model).without_labels(model)
    for tensor in found.tensors:
        check_inputs(tensor, "The sample")
    if not found.tensors:
        raise DataError(
            f"The sample is a {type(sample).__name__} without a tensor.",
            "Give a batch as the model is called with.",
        )
    return found.args, found.kwargs


@contextmanager
def _restored_on_error(model: nn.Module) -> Iterator[None]:
    before = [(p, p.detach().clone()) for p in model.parameters()]
    try:
        yield
    except BaseException:
        with torch.no_grad():
            for parameter, value in before:
                parameter.copy_(value)
        raise


def _closed_form(model: nn.Module, args: tuple[Any, ...], seed: int) -> Initialisation | None:
    """Critical C_W and C_b where the theory has them for the whole model, else None."""
    arch = _described(model)
    x = args[0]
    layers = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear)]
    if arch is None or not isinstance(x, Tensor) or not _plain(model, layers, arch):
        return None
    if not x.is_floating_point() or x[0].numel() != arch.n[0]:
        raise DataError(
            f"The sample of shape {tuple(x.shape)} ({str(x.dtype)[6:]}) does not fit a model of "
            f"{arch.n[0]} inputs.",
            f"Give real numbers of shape (samples, {arch.n[0]}).",
        )
    points = _critical_points(arch)
    if points is None:
        return None
    if any(p.C_b > 0 for p in points) and any(m.bias is None for _, m in layers[:-1]):
        return None  # this fixed point needs biases
    moment = float(x.detach().double().square().mean())
    if moment == 0:
        raise DataError("The sample is zero everywhere.", "Give typical inputs.")
    fixed = next((p.K_star for p in points if p.K_star > 0), 1.0)
    C_b = [points[0].C_b if points else 0.0, *(p.C_b for p in points)]
    C_W = [(fixed - C_b[0]) / moment, *(p.C_W for p in points)]
    generator = torch.Generator().manual_seed(seed)
    changes, off = [], unscaled(args)
    for (name, layer), gain, variance in zip(layers, C_W, C_b, strict=True):
        before = gain_of(layer.weight, layer.in_features)
        if off and layer is layers[0][1]:
            continue
        set_gain(layer.weight, layer.in_features, gain, generator)
        if layer.bias is not None:
            _set_bias(layer.bias, variance, generator)
        after = gain_of(layer.weight, layer.in_features)
        weight = f"{name}.weight" if name else "weight"
        changes.append(Change(weight, before, after, math.nan, "critical C_W of its activation"))
    first = f"{layers[0][0]}.weight".removeprefix(".")
    left = (f"{first}: the inputs are not standardised: mend them, not the weights",) if off else ()
    return Initialisation("closed form", tuple(changes), left, notes=(off,) if off else ())


def _described(model: nn.Module) -> Network | None:
    """The description of a model, read in eval mode: dropout is no obstacle."""
    from kadanoff.architecture import describe

    training = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in training:
            module.training = False
        return describe(model)
    except DescribeError:
        return None
    finally:
        for module, flag in training:
            module.training = flag


def _plain(model: nn.Module, layers: list[tuple[str, nn.Linear]], arch: Network) -> bool:
    """Whether every layer has one place in the net, is trained, and is not zero on purpose."""
    if len(layers) != arch.L or not all(p.requires_grad for p in model.parameters()):
        return False
    zero = [not bool(m.weight.detach().any()) for _, m in layers]
    return all(zero) or not any(zero)


def _critical_points(arch: Network) -> list[Criticality] | None:
    """The critical point of each activation; None where no one point serves them all."""
    from kadanoff.critical import criticality

    points = [criticality(act) for act in arch.activations]
    if not all(p.exists for p in points):
        return None
    if not all(1 / PREFACTOR < p.C_W < PREFACTOR for p in points):
        return None  # a factor inside an activation: the size of the first layer is a frequency
    if any(_oscillates(act) for act in arch.activations):
        return None
    at_a_size = any(p.K_star > 0 for p in points)
    if at_a_size and len({p.activation for p in points}) > 1:
        return None
    return points


def _oscillates(activation: Activation) -> bool:
    """Whether an activation goes up and down for ever: its argument is then an angle."""
    far = torch.linspace(5, 200, 4000, dtype=torch.float64)
    steps = activation(far).diff()
    steps = steps[steps.abs() > 1e-6]  # where it is flat, its rounding goes up and down too
    return int((steps.sign().diff() != 0).sum()) > 10


@torch.no_grad()
def _set_bias(bias: Tensor, variance: float, generator: torch.Generator) -> None:
    if variance <= 0:
        bias.zero_()
        return
    now = float(bias.double().square().mean())
    # a single bias that is not zero says too little of its scale to be kept
    if now == 0:
        drawn = torch.randn(bias.shape, generator=generator, dtype=torch.float64)
        drawn *= math.sqrt(variance / float(drawn.square().mean()))
        bias.copy_(drawn)
    elif abs(now / variance - 1) >= SAME.get(bias.dtype, 1e-5):
        bias.mul_(math.sqrt(variance / now))

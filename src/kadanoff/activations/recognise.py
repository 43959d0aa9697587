"""Recognising the registered activations: by what a module or function is, or by its values."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kadanoff.activations.base import Activation, Function, wide_probe
from kadanoff.activations.library import FACTORIES, homogeneous
from kadanoff.errors import UsageError

__all__ = ["by_identity", "by_values"]


def _prelu(module: nn.PReLU) -> Activation:
    slopes = module.weight.detach().double().unique()
    if len(slopes) > 1:
        raise UsageError(
            f"This PReLU has {len(slopes)} different slopes, one a channel: it is not one "
            "function of one variable.",
            "Pass activation('leaky_relu', slope=…) with the slope of one channel.",
        )
    # float32 gives the slope to seven digits; write down what was meant
    return FACTORIES["leaky_relu"](float(f"{float(slopes[0]):.7g}"))


def _rrelu(module: nn.RReLU) -> Activation:
    if module.training:
        raise UsageError(
            "RReLU draws its slope anew for every value while it trains: it is not one function.",
            "Call .eval() on it: then the slope is the mean of both bounds.",
        )
    return FACTORIES["leaky_relu"]((module.lower + module.upper) / 2)


def _plain(name: str) -> Callable[[Any], Activation]:
    return lambda module: FACTORIES[name]()


# PyTorch's modules, with their arguments
_MODULES: dict[type[nn.Module], Callable[[Any], Activation]] = {
    nn.Identity: _plain("linear"),
    nn.ReLU: _plain("relu"),
    nn.LeakyReLU: lambda m: FACTORIES["leaky_relu"](m.negative_slope),
    nn.PReLU: _prelu,
    nn.RReLU: _rrelu,
    nn.ReLU6: lambda m: FACTORIES["hard_tanh"](0.0, 6.0),
    nn.Hardtanh: lambda m: FACTORIES["hard_tanh"](m.min_val, m.max_val),
    nn.Tanh: _plain("tanh"),
    nn.GELU: lambda m: FACTORIES["gelu_tanh" if m.approximate == "tanh" else "gelu"](),
    nn.SiLU: _plain("swish"),
    nn.Mish: _plain("mish"),
    nn.Sigmoid: _plain("sigmoid"),
    nn.LogSigmoid: _plain("log_sigmoid"),
    nn.Softplus: lambda m: FACTORIES["softplus"](m.beta),
    nn.ELU: lambda m: FACTORIES["elu"](m.alpha),
    nn.CELU: lambda m: FACTORIES["celu"](m.alpha),
    nn.SELU: _plain("selu"),
    nn.Softsign: _plain("softsign"),
    nn.Tanhshrink: _plain("tanh_shrink"),
    nn.Softshrink: lambda m: FACTORIES["soft_shrink"](m.lambd),
    nn.Hardshrink: lambda m: FACTORIES["hard_shrink"](m.lambd),
    nn.Hardsigmoid: _plain("hard_sigmoid"),
    nn.Hardswish: _plain("hard_swish"),
    nn.Threshold: lambda m: FACTORIES["threshold"](m.threshold, m.value),
}

# PyTorch's functions, with their default arguments
_FUNCTIONS: dict[Any, str] = {
    **dict.fromkeys((torch.relu, F.relu, torch.Tensor.relu), "relu"),
    **dict.fromkeys((torch.tanh, F.tanh, torch.Tensor.tanh), "tanh"),
    **dict.fromkeys(
        (torch.sigmoid, F.sigmoid, torch.Tensor.sigmoid, torch.special.expit), "sigmoid"
    ),
    **dict.fromkeys((torch.sin, torch.Tensor.sin), "sin"),
    **dict.fromkeys((torch.cos, torch.Tensor.cos), "cos"),
    **dict.fromkeys((torch.erf, torch.Tensor.erf, torch.special.erf), "erf"),
    **dict.fromkeys((torch.abs, torch.absolute, torch.Tensor.abs), "abs"),
    **dict.fromkeys((torch.sign, torch.sgn, torch.Tensor.sign), "sign"),
    **dict.fromkeys((F.gelu,), "gelu"),
    **dict.fromkeys((F.silu,), "swish"),
    **dict.fromkeys((F.mish,), "mish"),
    **dict.fromkeys((F.elu,), "elu"),
    **dict.fromkeys((F.selu, torch.selu), "selu"),
    **dict.fromkeys((F.celu, torch.celu), "celu"),
    **dict.fromkeys((F.leaky_relu,), "leaky_relu"),
    **dict.fromkeys((F.relu6,), "hard_tanh(0, 6)"),
    **dict.fromkeys((F.hardtanh,), "hard_tanh"),
    **dict.fromkeys((F.softplus,), "softplus"),
    **dict.fromkeys((F.softsign,), "softsign"),
    **dict.fromkeys((F.logsigmoid,), "log_sigmoid"),
    **dict.fromkeys((F.tanhshrink,), "tanh_shrink"),
    **dict.fromkeys((F.softshrink,), "soft_shrink"),
    **dict.fromkeys((F.hardshrink, torch.hardshrink), "hard_shrink"),
    **dict.fromkeys((F.hardsigmoid,), "hard_sigmoid"),
    **dict.fromkeys((F.hardswish,), "hard_swish"),
    **dict.fromkeys((torch.square, torch.Tensor.square), "monomial(2)"),
}


def by_identity(function: Any) -> Activation | str | None:
    """The activation a module of PyTorch is, the name of one a function of PyTorch is, or None.

    Raises
    ------
    UsageError
        A module that is not one function of one variable (RReLU in training, PReLU by channel).
    """
    if type(function) in _MODULES:
        return _MODULES[type(function)](function)
    try:
        return _FUNCTIONS.get(function)
    except TypeError:  # not hashable
        return None


def by_values(f: Function, kinks: tuple[float, ...]) -> Activation | None:
    """A registered activation with the same kinks and, from |z| = 1e-6 to 1e6, the same values.

    Parameters
    ----------
    f : callable
        Elementwise function of a float64 tensor.
    kinks : tuple of float
        All its kinks (:func:`kadanoff.activations.kinks.find_kinks`): where they agree, no other
        formula can hide between two points that were compared.
    """
    probe = wide_probe()
    values = f(probe)
    for known in _candidates(f, kinks):
        if known.kinks == kinks and _equal(known(probe), values):
            return _labelled(known)
    return None


def _equal(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-10, atol=1e-11)


def _candidates(f: Function, kinks: tuple[float, ...]) -> list[Activation]:
    """Registered activations, and members of the families with parameters that could fit."""
    fits: list[Activation] = [*_registered()]
    low, high = f(torch.tensor([-1e6, 1e6], dtype=torch.float64)).tolist()
    minus, plus = -low / 1e6, high / 1e6
    if kinks in ((), (0.0,)) and (minus or plus):
        # float32 parameters give a slope to seven digits; write down what was meant
        minus, plus = (float(f"{slope:.7g}") for slope in (minus, plus))
        leaky = plus == 1.0 and minus not in (0.0, 1.0)
        fits.append(
            FACTORIES["leaky_relu"](minus) if leaky else homogeneous("user function", minus, plus)
        )
    if kinks == (0.0,) and -1e3 < low < 0:
        fits += [FACTORIES["elu"](-low), FACTORIES["celu"](-low)]
    if len(kinks) == 2 and kinks == (low, high):
        fits.append(FACTORIES["hard_tanh"](low, high))
    return fits


@lru_cache(maxsize=1)
def _registered() -> tuple[Activation, ...]:
    return (*(factory() for factory in FACTORIES.values()), FACTORIES["monomial"](3))


@lru_cache(maxsize=256)
def _labelled(known: Activation) -> Activation:
    """The same object each time for a registered one, so that what was cached for it is found."""
    return dataclasses.replace(known, taken_from=f"recognised as {known.name} by its values")

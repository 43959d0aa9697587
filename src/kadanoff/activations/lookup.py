"""Finding an activation from what users write: a name, a torch module, a function, a lambda."""

from __future__ import annotations

import difflib
import re
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from kadanoff.activations.base import Activation, Function, autodiff
from kadanoff.activations.library import FACTORIES, homogeneous
from kadanoff.errors import DomainError, UsageError

__all__ = ["activation", "names"]

_SYNONYMS = {
    "silu": "swish",
    "identity": "linear",
    "id": "linear",
    "leaky": "leaky_relu",
    "relu2": "relu_squared",
    "square": "monomial",
    "hardtanh": "hard_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}
# |z| over which a callable is examined, and the spacing
_SCAN, _STEP = 40.0, 1 / 64


def names() -> list[str]:
    """Names that :func:`activation` knows."""
    return list(FACTORIES)


def activation(spec: Any, **parameters: float) -> Activation:
    """The :class:`Activation` meant by ``spec``.

    Parameters
    ----------
    spec : str, callable, torch module or Activation
        ``"tanh"``, ``"leaky_relu(0.2)"``, ``torch.nn.GELU()``, ``torch.tanh``, or any elementwise
        function of a tensor. A function that equals a registered one is recognised by its values
        and gets its closed forms; for any other, derivatives come by automatic differentiation
        and kinks are searched for on |z| < 40.
    **parameters
        Of a named activation, e.g. ``slope=0.2``, ``power=3``.

    Raises
    ------
    UsageError
        Unknown name, or a callable that is not an elementwise function of one tensor.

    Examples
    --------
    >>> import torch
    >>> activation("leaky_relu", slope=0.2).slopes
    (0.2, 1.0)
    >>> activation(lambda z: torch.relu(z)).name
    'relu'
    """
    if isinstance(spec, Activation):
        return spec
    if isinstance(spec, str):
        return _by_name(spec, parameters)
    if not callable(spec):
        raise UsageError(
            f"An activation must be a name or a callable, got {spec!r}.",
            f"Names: {', '.join(FACTORIES)}.",
        )
    return _by_value(spec)


def _by_name(text: str, parameters: dict[str, float]) -> Activation:
    match = re.fullmatch(r"\s*([A-Za-z_][\w]*)\s*(?:[(:]\s*([^)]*?)\s*\)?)?\s*", text)
    name = match.group(1).lower() if match else text
    name = _SYNONYMS.get(name, name)
    if match is None or name not in FACTORIES:
        close = difflib.get_close_matches(name, [*FACTORIES, *_SYNONYMS], n=1)
        hint = f"Did you mean {close[0]!r}? " if close else ""
        raise UsageError(
            f"Unknown activation {text!r}.", f"{hint}Names: {', '.join(FACTORIES)}; or a callable."
        )
    try:
        numbers = [float(part) for part in (match.group(2) or "").split(",") if part.strip()]
        if name == "monomial":
            numbers = [int(number) for number in numbers]
            parameters = {key: int(value) for key, value in parameters.items()}
        return FACTORIES[name](*numbers, **parameters)
    except (TypeError, ValueError) as error:
        raise UsageError(f"Wrong parameters for the activation {text!r}: {error}.") from None


def _by_value(function: Any) -> Activation:
    f = _elementwise(function)
    probe = _probe()
    values = f(probe)
    for known in _known():
        if torch.allclose(known(probe), values, rtol=1e-10, atol=1e-11):
            return known
    name = getattr(function, "__name__", type(function).__name__)
    name = name if name != "<lambda>" else "user function"
    found = _homogeneous(name, probe, values) or _parametrised(f, probe, values)
    if found is not None:
        return found
    odd = bool(torch.allclose(f(-probe), -values, rtol=1e-10, atol=1e-12))
    return Activation(name, f, (), _find_kinks(f), odd=odd)


def _parametrised(f: Function, probe: Tensor, values: Tensor) -> Activation | None:
    """Parametrised families that keep their explicit derivatives: ELU(alpha), Hardtanh(a, b)."""
    ends = f(torch.tensor([-1e4, 1e4], dtype=torch.float64)).tolist()
    guesses: list[Activation] = []
    if ends[0] < 0 and ends[0] > -1e3:
        guesses.append(FACTORIES["elu"](-ends[0]))
    if ends[0] < ends[1] < 1e3 and ends[0] > -1e3:
        guesses.append(FACTORIES["hard_tanh"](*ends))
    for guess in guesses:
        if torch.allclose(guess(probe), values, rtol=1e-10, atol=1e-11):
            return guess
    return None


def _elementwise(function: Any) -> Function:
    """``function`` in float64, whatever the dtype of a module's own parameters."""

    def f(z: Tensor) -> Tensor:
        try:
            return function(z)
        except RuntimeError:
            # a module with float32 parameters (PReLU) refuses float64 input
            return function(z.float()).to(z.dtype)

    z = torch.tensor([-1.0, 0.25, 2.0], dtype=torch.float64)
    try:
        # in-place modules must not touch their caller's tensor
        value = f(z.clone())
        single = torch.stack([f(part.clone().reshape(1))[0] for part in z])
    except Exception as error:
        raise UsageError(
            f"The activation {function!r} cannot be applied to a tensor: {error}.",
            "Pass an elementwise function of one tensor.",
        ) from None
    if not isinstance(value, Tensor) or value.shape != z.shape:
        raise UsageError(
            f"The activation {function!r} does not return a tensor of its input's shape.",
            "Pass an elementwise function of one tensor.",
        )
    if not torch.allclose(value.double(), single.double(), rtol=1e-6, atol=1e-7):
        raise UsageError(
            f"{function!r} is not elementwise: its value at one position depends on the others.",
            "Softmax, normalisations and gates are not activations in this sense.",
        )
    return lambda z: f(z.clone()).detach() if not z.requires_grad else f(z.clone())


@lru_cache(maxsize=1)
def _probe() -> Tensor:
    return torch.linspace(-12.3, 12.7, 401, dtype=torch.float64)


@lru_cache(maxsize=1)
def _known() -> tuple[Activation, ...]:
    return (*(factory() for factory in FACTORIES.values()), FACTORIES["monomial"](3))


def _homogeneous(name: str, probe: Tensor, values: Tensor) -> Activation | None:
    minus, plus = float(values[0] / probe[0]), float(values[-1] / probe[-1])
    if not torch.allclose(torch.where(probe > 0, plus * probe, minus * probe), values, atol=1e-6):
        return None
    # float32 parameters give the slope to seven digits; write down what was meant
    minus, plus = (float(f"{slope:.7g}") for slope in (minus, plus))
    if minus == plus == 0:
        return None
    if plus == 1.0:
        return FACTORIES["leaky_relu"](minus) if minus else FACTORIES["relu"]()
    return homogeneous(name, minus, plus)


def _find_kinks(f: Function) -> tuple[float, ...]:
    """Points where f, f' or f'' jumps, by halving the intervals whose rise does not shrink."""
    kinks: list[float] = []
    for k in range(3):
        kinks += _find_jumps(autodiff(f, k))
    kept: list[float] = []
    for kink in sorted(kinks):
        if not kept or kink - kept[-1] > 1e-6:
            kept.append(kink)
    if len(kept) > 64:
        raise DomainError(
            f"The activation has more than 64 kinks in |z| < {_SCAN:g}.",
            "Such a function cannot be integrated accurately; use a smoother one.",
        )
    return tuple(kept)


def _find_jumps(g: Function) -> list[float]:
    # an odd offset keeps the grid off round numbers, where kinks like to sit
    grid = torch.arange(-_SCAN, _SCAN, _STEP, dtype=torch.float64) + 0.37 * _STEP
    low, high = grid[:-1], grid[1:]
    rise = (g(high) - g(low)).abs()
    floor = 1e-6 * (1 + rise[torch.isfinite(rise)].max())
    for _ in range(46):
        keep = rise > floor
        low, high, rise = low[keep], high[keep], rise[keep]
        if not len(low):
            return []
        middle = (low + high) / 2
        at = g(middle)
        left, right = (at - g(low)).abs(), (g(high) - at).abs()
        use_left = left >= right
        part = torch.where(use_left, left, right)
        low = torch.where(use_left, low, middle)
        high = torch.where(use_left, middle, high)
        # the rise of a smooth function halves with the interval; that of a jump stays
        rise = torch.where(part > 0.75 * rise, part, torch.where(high - low > 1e-5, part, 0 * part))
    snapped = ((low + high) / 2).tolist()
    # where a float lands within rounding of a short decimal, the decimal was meant
    return [round(kink, 9) + 0.0 if abs(kink - round(kink, 9)) < 1e-9 else kink for kink in snapped]

"""Finding an activation from what users write: a name, a torch module, a function, a lambda."""

from __future__ import annotations

import copy
import difflib
import re
from typing import Any

import torch
from torch import Tensor

from kadanoff.activations.base import Activation, Function, wide_probe
from kadanoff.activations.derivatives import autodiff
from kadanoff.activations.kinks import find_kinks
from kadanoff.activations.library import FACTORIES
from kadanoff.activations.recognise import by_identity, by_values
from kadanoff.errors import UsageError

__all__ = ["activation", "names"]

_SYNONYMS = {
    "silu": "swish",
    "identity": "linear",
    "id": "linear",
    "leaky": "leaky_relu",
    "relu2": "relu_squared",
    "square": "monomial",
    "hardtanh": "hard_tanh",
    "hardsigmoid": "hard_sigmoid",
    "hardswish": "hard_swish",
    "hardshrink": "hard_shrink",
    "softshrink": "soft_shrink",
    "tanhshrink": "tanh_shrink",
    "logsigmoid": "log_sigmoid",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}


def names() -> list[str]:
    """Names that :func:`activation` knows."""
    return list(FACTORIES)


def activation(spec: Any, **parameters: float) -> Activation:
    """The :class:`Activation` meant by ``spec``.

    Parameters
    ----------
    spec : str, callable, torch module or Activation
        ``"tanh"``, ``"leaky_relu(0.2)"``, ``torch.nn.GELU()``, ``torch.tanh``, or any elementwise
        function of a tensor. PyTorch's own modules and functions are known by what they are; a
        function that equals a registered one in all kinks and, from |z| = 1e-6 to 1e6, in value
        gets its closed forms. For any other, derivatives come by automatic differentiation and
        kinks from the operations it runs (:mod:`kadanoff.activations.kinks`).
        ``.taken_from`` of the result says which.
    **parameters
        Of a named activation, e.g. ``slope=0.2``, ``power=3``.

    Raises
    ------
    UsageError
        Unknown name; a callable that is not an elementwise function of one tensor, or whose
        gradient is not its derivative.
    DomainError
        More than 64 kinks.

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
    same = by_identity(function)
    if isinstance(same, Activation):
        return same
    if same is not None:
        return _by_name(same, {})
    f = _elementwise(function)
    kinks = find_kinks(f)
    _check_gradient(f, kinks)
    known = by_values(f, kinks)
    if known is not None:
        return known
    name = getattr(function, "__name__", type(function).__name__)
    name = name if name != "<lambda>" else "user function"
    probe = wide_probe()
    odd = kinks == tuple(-kink + 0.0 for kink in reversed(kinks))
    odd = odd and bool(torch.allclose(f(-probe), -f(probe), rtol=1e-10, atol=1e-12))
    places = ", ".join(f"{kink:.6g}" for kink in kinks) or "none"
    found = f"a callable; kinks found: {places}"
    return Activation(name, f, (), kinks, odd=odd, taken_from=found, source=function)


def _check_gradient(f: Function, kinks: tuple[float, ...]) -> None:
    """A derivative that autograd gets wrong must not become a theory of another function."""
    z = torch.linspace(-3.03, 3.11, 41, dtype=torch.float64)
    h = 1e-5
    for kink in kinks:
        z = z[(z - kink).abs() > 4 * h]
    differences = (f(z + h) - f(z - h)) / (2 * h)
    gradient = autodiff(f, 1)(z)
    finite = torch.isfinite(differences)
    scale = 1 + differences[finite].abs().max() if finite.any() else 1.0
    wrong = ((gradient - differences).abs() > 1e-4 * scale) & finite
    if wrong.any():
        at = int(wrong.nonzero()[0])
        raise UsageError(
            f"The activation's gradient is not its derivative: at z = {z[at]:.4g} autograd gives "
            f"{gradient[at]:.4g}, differences give {differences[at]:.4g}.",
            "It is detached, computed outside PyTorch, or a straight-through estimator: pass a "
            "function that autograd differentiates, or kadanoff.activations.Activation with "
            "explicit derivatives.",
        )


def _elementwise(function: Any) -> Function:
    """``function`` in float64: of a module, a copy in evaluation mode."""
    if isinstance(function, torch.nn.Module):
        function = copy.deepcopy(function).double().eval()

    def f(z: Tensor) -> Tensor:
        try:
            return function(z)
        except RuntimeError:
            # a closure over float32 parameters may refuse float64 input
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

"""Where a callable changes its formula: read from the operations it runs, not from its values.

A function written in PyTorch bends or jumps only where one of its operations switches: ``relu`` at
the sign of its argument, ``clamp`` at its bounds, ``where`` at its comparison, ``floor`` at the
integers. :func:`regimes` runs the callable on points and returns, operation by operation, an
integer that says on which side of its switch each point lies. Two neighbouring points with equal
integers lie on one smooth piece; between two that differ there is a kink, found by bisection to
the last bit (:mod:`kadanoff.activations.kinks`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["Regimes", "regimes"]

Switch = Callable[..., "Tensor | None"]


@dataclass(frozen=True)
class Regimes:
    """The smooth piece each point lies on.

    Attributes
    ----------
    sides : Tensor of int64, shape (switches, points)
        Equal columns: the same formula.
    opaque : frozenset of str
        Operations whose switches are not known; a kink of theirs does not show in ``sides``.
    """

    sides: Tensor
    opaque: frozenset[str]


def regimes(f: Callable[[Tensor], Tensor], points: Tensor) -> Regimes:
    """Run ``f`` on ``points`` (S,) and note the side of every switch of every operation.

    Parameters
    ----------
    f : callable
        Elementwise function of a tensor.
    points : Tensor, shape (S,), float64
    """
    observer = _Observer(points)
    with torch.no_grad(), observer:
        value = f(points)
    if value.untyped_storage().data_ptr() not in observer.made:
        observer.opaque.add("a function outside PyTorch")
    sides = torch.cat(observer.sides) if observer.sides else torch.zeros(0, len(points))
    return Regimes(sides.to(torch.int64), frozenset(observer.opaque))


class _Observer(TorchDispatchMode):
    """Notes the sides of the switches while a callable runs."""

    def __init__(self, points: Tensor) -> None:
        super().__init__()
        self.count = len(points)
        self.sides: list[Tensor] = []
        self.opaque: set[str] = set()
        # where the results of the operations lie: one that lies elsewhere came from outside
        self.made = {points.untyped_storage().data_ptr()}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # nothing is compiled here, and importing the compiler takes two seconds
        return False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for result in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(result, Tensor):
                self.made.add(result.untyped_storage().data_ptr())
        name = func.overloadpacket.__name__.rstrip("_")
        if name in _SWITCHES:
            self._note(_SWITCHES[name](out, *args, **(kwargs or {})))
        elif name not in _SMOOTH:
            self.opaque.add(name)
        return out

    def _note(self, side: Tensor | None) -> None:
        if side is None or self.count not in side.shape:
            return
        # the axis of the points last, whatever the callable stacked around it
        axis = list(side.shape).index(self.count)
        side = side.movedim(axis, -1).reshape(-1, self.count)
        self.sides.append(side.detach().nan_to_num(nan=-9e15).clamp(-9e15, 9e15).long())


def _sign(out: Tensor, x: Tensor, *rest: Any, **options: Any) -> Tensor:
    return torch.sign(x)


def _between(x: Tensor, low: Any, high: Any) -> Tensor:
    """0 below ``low``, 2 between, 4 above ``high``; odd on a bound itself."""
    side = torch.zeros_like(x)
    for bound in (low, high):
        if bound is not None:
            side = side + 1 + torch.sign(x - bound)
    return side


def _hardtanh(out: Tensor, x: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    return _between(x, min_val, max_val)


def _clamp(out: Tensor, x: Tensor, min: Any = None, max: Any = None) -> Tensor:
    return _between(x, min, max)


def _clamp_max(out: Tensor, x: Tensor, max: Any = None) -> Tensor:
    return _between(x, None, max)


def _three(out: Tensor, x: Tensor) -> Tensor:
    # hardsigmoid and hardswish bend at −3 and 3
    return _between(x, -3.0, 3.0)


def _shrink(out: Tensor, x: Tensor, lambd: float = 0.5) -> Tensor:
    return _between(x, -lambd, lambd)


def _threshold(out: Tensor, x: Tensor, threshold: float, value: float) -> Tensor:
    return torch.sign(x - threshold)


def _difference(out: Tensor, a: Any, b: Any = None, **options: Any) -> Tensor | None:
    """Comparisons, maximum and minimum switch where both arguments are equal."""
    if not isinstance(a, Tensor) and not isinstance(b, Tensor):
        return None
    as_number = [x.double() if isinstance(x, Tensor) else float(x) for x in (a, b)]
    return torch.sign(torch.as_tensor(as_number[0] - as_number[1]))


def _integer(out: Tensor, *arguments: Any, **options: Any) -> Tensor:
    """floor, round, bucketize …: the value itself counts the pieces."""
    return out


def _quotient(out: Tensor, a: Any, b: Any, **options: Any) -> Tensor:
    """fmod and remainder: which multiple of ``b`` was taken off."""
    return torch.round((a - out) / b)


def _frac(out: Tensor, x: Tensor) -> Tensor:
    return torch.trunc(x)


def _division(out: Tensor, a: Any, b: Any, rounding_mode: str | None = None) -> Tensor | None:
    return out if rounding_mode else None


def _conversion(out: Tensor, *arguments: Any, **options: Any) -> Tensor | None:
    return None if out.dtype.is_floating_point else out


def _indices(out: Any, *arguments: Any, **options: Any) -> Tensor | None:
    """max, min, sort and topk along an axis: who was chosen."""
    if isinstance(out, (tuple, list)):
        return out[1]
    return out if not out.dtype.is_floating_point else None


def _amax(out: Tensor, x: Tensor, dim: Any = (), keepdim: bool = False) -> Tensor | None:
    axes = [dim] if isinstance(dim, int) else list(dim)
    return x.argmax(axes[0], keepdim=keepdim) if len(axes) == 1 else None


def _amin(out: Tensor, x: Tensor, dim: Any = (), keepdim: bool = False) -> Tensor | None:
    return _amax(out, -x, dim, keepdim)


def _power(out: Tensor, base: Any, exponent: Any) -> Tensor | None:
    """|z|^p is singular at 0 unless p is a whole number."""
    if isinstance(exponent, (int, float)) and float(exponent).is_integer():
        return None
    return torch.sign(base) if isinstance(base, Tensor) else None


def _of_second(out: Tensor, a: Any, b: Any, *rest: Any) -> Tensor | None:
    return torch.sign(b) if isinstance(b, Tensor) else None


_SWITCHES: dict[str, Switch] = {
    **dict.fromkeys(
        (
            *("relu", "abs", "absolute", "sign", "sgn", "signbit", "heaviside", "leaky_relu"),
            *("elu", "celu", "selu", "prelu", "_prelu_kernel", "rrelu_with_noise"),
            *("sqrt", "rsqrt", "reciprocal", "log", "log2", "log10"),
        ),
        _sign,
    ),
    **dict.fromkeys(("hardtanh",), _hardtanh),
    **dict.fromkeys(("clamp", "clip", "clamp_min"), _clamp),
    **dict.fromkeys(("clamp_max",), _clamp_max),
    **dict.fromkeys(("hardsigmoid", "hardswish"), _three),
    **dict.fromkeys(("softshrink", "hardshrink"), _shrink),
    **dict.fromkeys(("threshold",), _threshold),
    **dict.fromkeys(
        ("maximum", "minimum", "fmax", "fmin", "gt", "lt", "ge", "le", "eq", "ne"), _difference
    ),
    **dict.fromkeys(
        (
            *("floor", "ceil", "round", "trunc", "fix", "floor_divide", "bucketize"),
            *("searchsorted", "isnan", "isinf", "isfinite"),
        ),
        _integer,
    ),
    **dict.fromkeys(("fmod", "remainder"), _quotient),
    **dict.fromkeys(("frac",), _frac),
    **dict.fromkeys(("div", "divide"), _division),
    **dict.fromkeys(("_to_copy", "to"), _conversion),
    **dict.fromkeys(("max", "min", "sort", "topk", "argmax", "argmin"), _indices),
    **dict.fromkeys(("amax",), _amax),
    **dict.fromkeys(("amin",), _amin),
    **dict.fromkeys(("pow", "float_power"), _power),
    **dict.fromkeys(("copysign",), _of_second),
}

# no switch inside, or (where, logical_and …) none that a comparison before did not show
_SMOOTH_NAMES = """
add sub rsub mul neg addcmul addcdiv lerp square exp exp2 expm1 log1p sigmoid tanh sin cos tan
sinh cosh asinh atan asin acos acosh atanh sinc erf erfc erfinv gelu silu mish softplus
log_sigmoid_forward logit xlogy logaddexp logaddexp2 hypot atan2 i0 lgamma digamma special_erfcx
special_ndtr special_log_ndtr special_i0e special_i1 special_i1e special_xlog1py where
masked_fill logical_and logical_or logical_not logical_xor bitwise_and bitwise_or bitwise_not
bitwise_xor any all sum mean clone copy detach alias view reshape _unsafe_view unsqueeze squeeze
expand permute transpose t stack cat select slice index gather take index_select unbind split
split_with_sizes chunk flip repeat zeros zeros_like ones ones_like full full_like new_zeros
new_ones new_full empty empty_like new_empty empty_strided arange linspace scalar_tensor
lift_fresh fill zero _local_scalar_dense item is_same_size positive polygamma prod cumsum dot mv
mm bmm matmul addmm einsum deg2rad rad2deg view_as index_put scatter diagonal conj _conj real
imag
"""
_SMOOTH = frozenset(_SMOOTH_NAMES.split())

"""What each tensor operation does to the law of the entries it reads and writes."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from kadanoff.program.law import Law

__all__ = ["CREATED", "TRANSFERS", "StorageView", "origin", "written"]

# operations that draw, in a way that no law here describes
CREATED = {
    "empty",
    "new_empty",
    "empty_like",
    "empty_strided",
    "new_empty_strided",
    "empty_permuted",
}
# where initialisers live: the outermost of their functions names a law
_INITIALISERS = ("torch.nn.init", "transformers.initialization")


@dataclass(frozen=True)
class StorageView:
    """Where in its storage a tensor lies."""

    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    @classmethod
    def of(cls, tensor: Tensor) -> StorageView:
        return cls(int(tensor.storage_offset()), tuple(tensor.size()), tuple(tensor.stride()))

    def whole(self, tensor: Tensor) -> bool:
        """Whether these are all entries of the storage, each once."""
        size = tensor.untyped_storage().nbytes() // max(1, tensor.element_size())
        return tensor.numel() == size and self.dense()

    def dense(self) -> bool:
        """Whether the entries follow one another in memory without a gap, in some order."""
        expected = 1
        for stride, size in sorted(zip(self.stride, self.size)):
            if size == 1:
                continue
            if stride != expected:
                return False
            expected *= size
        return True


class DrawnLaws(Protocol):
    """The side of a drawing that transfers need."""

    def read(self, tensor: Tensor) -> Law | None: ...

    def write(self, tensor: Tensor, law: Law | None) -> None: ...

    def change(self, tensor: Tensor, rule: Callable[[Law], Law | None]) -> None: ...

    def inherit(
        self, tensor: Tensor, source: Tensor, rule: Callable[[Law], Law | None]
    ) -> None: ...

    def scalar(self, value: Any) -> float | None: ...


# (laws, args, kwargs, outputs with memory of their own, arguments written to) -> dealt with
Transfer = Callable[[DrawnLaws, tuple[Any, ...], dict[str, Any], list[Tensor], list[Tensor]], bool]


def written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """The tensors among the arguments that an operation writes to.

    Parameters
    ----------
    func : callable
        The operation.
    args, kwargs
        What it was called with.
    """
    found: list[Tensor] = []
    for position, argument in enumerate(func._schema.arguments):
        info = argument.alias_info
        if info is None or not info.is_write:
            continue
        value = args[position] if position < len(args) else kwargs.get(argument.name)
        items = value if isinstance(value, list | tuple) else [value]
        found += [item for item in items if isinstance(item, Tensor)]
    return found


def origin(operation: str) -> str:
    """Who draws: the initialiser and the function that called it, in words."""
    frame = sys._getframe(1)
    initialiser = operation
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        name = frame.f_code.co_name
        if module in _INITIALISERS:
            initialiser = initialiser if name.startswith("_") else name
        elif not module.startswith(("torch.", "kadanoff.program", "transformers.init")) or (
            module.startswith("torch.nn.modules")
        ):
            owner = frame.f_locals.get("self")
            if isinstance(owner, torch.nn.Module):
                where = f"{type(owner).__name__}.{name}"
            else:
                where = frame.f_code.co_qualname.replace("<locals>.", "")
            return f"{initialiser} in {where}" if where != "<module>" else initialiser
        frame = frame.f_back
    return initialiser


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any], place: int, name: str, other: Any):
    value = args[place] if len(args) > place else kwargs.get(name, other)
    return other if value is None else value


def _normal(
    laws: DrawnLaws, args: Any, kwargs: Any, fresh: list[Tensor], changed: list[Tensor]
) -> bool:
    """normal_(mean, std), randn, randn_like."""
    mean, std = 0.0, 1.0
    if changed:
        mean = _argument(args, kwargs, 1, "mean", 0.0)
        std = _argument(args, kwargs, 2, "std", 1.0)
    law = Law(float(mean), float(std), "normal", source=origin("normal_"))
    if std == 0:
        law = Law.constant(float(mean), law.source)
    for tensor in (*fresh, *changed):
        laws.write(tensor, law)
    return True


def _normal_of(
    laws: DrawnLaws, args: Any, kwargs: Any, fresh: list[Tensor], changed: list[Tensor]
) -> bool:
    """torch.normal(mean, std), numbers both."""
    mean, std = (laws.scalar(a) for a in args[:2])
    if mean is None or std is None:
        return False
    for tensor in (*fresh, *changed):
        laws.write(tensor, Law(mean, std, "normal", source=origin("normal")))
    return True


def _uniform(
    laws: DrawnLaws, args: Any, kwargs: Any, fresh: list[Tensor], changed: list[Tensor]
) -> bool:
    """uniform_(low, high), rand, rand_like."""
    low, high = 0.0, 1.0
    if changed:
        low = float(_argument(args, kwargs, 1, "from", 0.0))
        high = float(_argument(args, kwargs, 2, "to", 1.0))
    law = Law((low + high) / 2, (high - low) / math.sqrt(12), "uniform", source=origin("uniform_"))
    if high == low:
        law = Law.constant(low, law.source)
    for tensor in (*fresh, *changed):
        laws.write(tensor, law)
    return True


def _random(
    laws: DrawnLaws, args: Any, kwargs: Any, fresh: list[Tensor], changed: list[Tensor]
) -> bool:
    """Draws that no law here describes."""
    for tensor in (*fresh, *changed):
        laws.write(tensor, None)
    return True


def _fill(value: float | None) -> Transfer:
    def transfer(
        laws: DrawnLaws, args: Any, kwargs: Any, fresh: list[Tensor], changed: list[Tensor]
    ) -> bool:
        number = value
        if number is None:
            number = laws.scalar(args[1]) if len(args) > 1 else None
        if number is None:
            return False
        for tensor in (*fresh, *changed):
            laws.write(tensor, Law.constant(number, origin("fill_")))
        return True

    return transfer


def _same(
    laws: DrawnLaws, args: Any, kwargs: Any, fresh: list[Tensor], changed: list[Tensor]
) -> bool:
    """Copies of the first argument."""
    for tensor in fresh:
        laws.inherit(tensor, args[0], lambda law: law)
    return True


def _copy(
    laws: DrawnLaws, args: Any, kwargs: Any, fresh: list[Tensor], changed: list[Tensor]
) -> bool:
    """target.copy_(source); entries repeated by broadcasting are no longer independent."""
    target, source = args[0], args[1]
    law = laws.read(source)
    repeated = source.numel() != target.numel() or 0 in source.stride()
    if repeated and law is not None and law.random:
        laws.write(target, None)
    else:
        laws.inherit(target, source, lambda found: found)
    return True


def _affine(rule: Callable[[Law, float], Law | None], swapped: bool = False) -> Transfer:
    """tensor ∘ number, and number ∘ tensor where that is the same."""

    def transfer(
        laws: DrawnLaws, args: Any, kwargs: Any, fresh: list[Tensor], changed: list[Tensor]
    ) -> bool:
        if len(args) < 2:
            return False
        tensor, other = args[0], args[1]
        number = laws.scalar(other)
        if number is None or not isinstance(tensor, Tensor):
            number = laws.scalar(tensor)
            tensor, other = other, tensor
            if not swapped or number is None or not isinstance(tensor, Tensor) or changed:
                return _signs(laws, args, fresh, changed)
        number *= float(kwargs.get("alpha", 1.0))
        for written_to in changed:
            laws.change(written_to, lambda law: rule(law, number))
        for made in fresh:
            laws.inherit(made, tensor, lambda law: rule(law, number))
        return True

    return transfer


def _signs(laws: DrawnLaws, args: Any, fresh: list[Tensor], changed: list[Tensor]) -> bool:
    """An orthogonal matrix whose columns are multiplied by signs stays one."""
    if not all(isinstance(a, Tensor) for a in args[:2]):
        return False
    law, other = laws.read(args[0]), laws.read(args[1])
    if law is None or other is None or law.kind != "orthogonal" or other.source != "signs":
        return False
    for tensor in (*fresh, *changed):
        laws.write(tensor, law)
    return True


def _sign(
    laws: DrawnLaws, args: Any, kwargs: Any, fresh: list[Tensor], changed: list[Tensor]
) -> bool:
    for tensor in (*fresh, *changed):
        laws.write(tensor, Law(0.0, 1.0, "normal", source="signs"))
    return True


def _qr(
    laws: DrawnLaws, args: Any, kwargs: Any, fresh: list[Tensor], changed: list[Tensor]
) -> bool:
    """Q of a matrix of independent normal entries is orthogonal; R is of no law here."""
    law = laws.read(args[0])
    if law is None or law.kind != "normal" or law.mean != 0 or len(fresh) != 2 or changed:
        return False
    rows, columns = args[0].shape[-2:]
    std = 1 / math.sqrt(max(rows, columns))
    laws.write(fresh[0], Law(0.0, std, "orthogonal", source=origin("orthogonal_")))
    laws.write(fresh[1], None)
    return True


def _erfinv(
    laws: DrawnLaws, args: Any, kwargs: Any, fresh: list[Tensor], changed: list[Tensor]
) -> bool:
    """√2 erf⁻¹ of a uniform number between -a and a is normal, cut at √2 erf⁻¹(a)."""

    def rule(law: Law) -> Law | None:
        if law.kind != "uniform" or abs(law.mean) > 1e-12:
            return None
        reach = math.sqrt(3) * law.std
        bound = math.inf if reach >= 1 else float(torch.erfinv(torch.tensor(reach).double()))
        return Law.truncated(0.0, math.sqrt(0.5), -bound, bound, origin("trunc_normal_"))

    for tensor in changed:
        laws.change(tensor, rule)
    for tensor in fresh:
        laws.inherit(tensor, args[0], rule)
    return True


def _clamp(
    laws: DrawnLaws, args: Any, kwargs: Any, fresh: list[Tensor], changed: list[Tensor]
) -> bool:
    """Cutting where nothing lies changes nothing."""
    low = laws.scalar(_argument(args, kwargs, 1, "min", -math.inf))
    high = laws.scalar(_argument(args, kwargs, 2, "max", math.inf))
    if low is None or high is None:
        return False

    def rule(law: Law) -> Law | None:
        if law.kind == "constant":
            return replace(law, mean=min(max(law.mean, low), high)) if law.value is None else None
        # entries beyond 6 σ are too few to matter
        reach = min(law.reach, 6 * law.std)
        inside = low <= law.mean - 0.999 * reach and law.mean + 0.999 * reach <= high
        return law if inside else None

    for tensor in changed:
        laws.change(tensor, rule)
    for tensor in fresh:
        laws.inherit(tensor, args[0], rule)
    return True


def _cat(
    laws: DrawnLaws, args: Any, kwargs: Any, fresh: list[Tensor], changed: list[Tensor]
) -> bool:
    """Tensors side by side: one law if all have it; ranges of rows along the first axis."""
    parts = [p for p in args[0] if p.numel()]
    dim = _argument(args, kwargs, 1, "dim", 0)
    found = [laws.read(p) for p in parts]
    if changed or len(fresh) != 1 or not parts:
        return False
    if all(law == found[0] for law in found):
        laws.write(fresh[0], found[0])
        return True
    if dim != 0:
        return False
    laws.write(fresh[0], found[0])
    start = 0
    for part, law in zip(parts, found):
        # a view of the rows that this part fills
        stride = fresh[0].stride(0) if fresh[0].ndim else 1
        rows = fresh[0].as_strided(part.shape, fresh[0].stride(), start * stride)
        laws.write(rows, law)
        start += part.shape[0]
    return True


def _scaled(law: Law, factor: float) -> Law | None:
    return law.scaled(factor)


def _divided(law: Law, number: float) -> Law | None:
    return law.scaled(1 / number) if number else None


def _shifted(law: Law, number: float) -> Law | None:
    return replace(law, mean=law.mean + number) if law.value is None else None


def _less(law: Law, number: float) -> Law | None:
    return _shifted(law, -number)


def _negated(
    laws: DrawnLaws, args: Any, kwargs: Any, fresh: list[Tensor], changed: list[Tensor]
) -> bool:
    for tensor in changed:
        laws.change(tensor, lambda law: law.scaled(-1.0))
    for tensor in fresh:
        laws.inherit(tensor, args[0], lambda law: law.scaled(-1.0))
    return True


TRANSFERS: dict[str, Transfer] = {
    "normal_": _normal,
    "randn": _normal,
    "randn_like": _normal,
    "normal": _normal_of,
    "uniform_": _uniform,
    "rand": _uniform,
    "rand_like": _uniform,
    "zero_": _fill(0.0),
    "zeros": _fill(0.0),
    "zeros_like": _fill(0.0),
    "new_zeros": _fill(0.0),
    "ones": _fill(1.0),
    "ones_like": _fill(1.0),
    "new_ones": _fill(1.0),
    "fill_": _fill(None),
    "full": _fill(None),
    "full_like": _fill(None),
    "clone": _same,
    "_to_copy": _same,
    "lift_fresh": _same,
    "lift_fresh_copy": _same,
    "detach_copy": _same,
    "copy_": _copy,
    "mul": _affine(_scaled, swapped=True),
    "mul_": _affine(_scaled),
    "div": _affine(_divided),
    "div_": _affine(_divided),
    "add": _affine(_shifted, swapped=True),
    "add_": _affine(_shifted),
    "sub": _affine(_less),
    "sub_": _affine(_less),
    "neg": _negated,
    "neg_": _negated,
    "erfinv": _erfinv,
    "erfinv_": _erfinv,
    "clamp": _clamp,
    "clamp_": _clamp,
    "sign": _sign,
    "linalg_qr": _qr,
    "cat": _cat,
}
for _name in (
    "bernoulli",
    "bernoulli_",
    "cauchy_",
    "exponential_",
    "geometric_",
    "log_normal_",
    "multinomial",
    "randint",
    "randint_like",
    "random_",
    "randperm",
):
    TRANSFERS[_name] = _random

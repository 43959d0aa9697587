r"""Following how the tensors of a model come to be: what is drawn, from which law, what is fixed.

A model's constructor is run under :class:`Drawing`, which sees every operation on tensors and
keeps, for each piece of memory, the law of its entries: ``normal_``, ``uniform_`` and their kin
set it, arithmetic with numbers carries it along, a fill makes it a constant. So the laws are known
exactly, without measuring, whatever code did it, seeds notwithstanding. On the meta device small
tensors are computed as well (gains, positions, time steps), for there no memory holds them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from kadanoff.program.draws import CREATED, TRANSFERS, StorageView, origin, written
from kadanoff.program.law import Law

__all__ = ["Drawing", "Fate"]

OVERWRITES = {"fill_", "zero_", "normal_", "uniform_", "copy_"}
# tensors on the meta device up to this many entries are computed as well
SHADOWED = 1 << 17
OUTSIDE = Law.constant(0.0, "made outside of torch")


@dataclass(frozen=True)
class Fate:
    """What became of a tensor.

    Attributes
    ----------
    law : Law or None
        None: random, but of no law that could be followed.
    pieces : tuple of (start, stop, Law)
        Ranges of rows (axis 0) that were set apart from the rest.
    before : Law or None
        The last law that was known, where ``law`` is None.
    changes : int
        How often it was changed in place in a way that could not be followed.
    """

    law: Law | None
    pieces: tuple[tuple[int, int, Law | None], ...] = ()
    before: Law | None = None
    changes: int = 0


@dataclass
class _Memory:
    """What is known of one storage: a law for all of it, and views that were set apart."""

    alive: StorageWeakRef
    law: Law | None
    pieces: dict[StorageView, Law | None] = field(default_factory=dict)
    twin: Tensor | None = None
    before: Law | None = None
    changes: int = 0


class Drawing(TorchDispatchMode):
    """While it is entered, remembers the law of every tensor that is made or written to."""

    def __init__(self) -> None:
        super().__init__()
        self._memory: dict[int, _Memory] = {}
        self._functions = _Honest()
        self._patches = _patched_truncation(self._truncated)

    def __enter__(self) -> Drawing:
        self._patches.__enter__()
        self._functions.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._functions.__exit__(*error)
        self._patches.__exit__(*error)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        inputs = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        name = func.overloadpacket.__name__
        if name in OVERWRITES:
            self._prepare(args[0])
        elif isinstance(kwargs.get("out"), Tensor):
            self._prepare(kwargs["out"])
        shadows = self._shadows(inputs)
        if name == "_local_scalar_dense" and inputs[0].is_meta and shadows is not None:
            return shadows[id(inputs[0])].item()
        known = [self._memory_of(t) for t in inputs]
        out = func(*args, **kwargs)
        outputs = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
        changed = written(func, args, kwargs)
        keys = {id(memory) for memory in known}
        fresh = [t for t in outputs if id(self._find(t)) not in keys]
        self._follow(name, args, kwargs, inputs, fresh, changed)
        if any(t.is_meta for t in (*inputs, *outputs)):
            self._compute(func, args, kwargs, shadows, out, fresh, changed)
        return out

    # laws

    def fate(self, tensor: Tensor) -> Fate:
        """What became of this tensor."""
        memory = self._memory_of(tensor)
        pieces = _rows(tensor, memory.pieces)
        if pieces is None:  # set apart in another way than by rows
            return Fate(None, (), memory.law, max(1, memory.changes))
        return Fate(memory.law, pieces, memory.before, memory.changes)

    def value(self, tensor: Tensor) -> Tensor | None:
        """Its values: on the meta device those computed beside it, if it is small."""
        if not tensor.is_meta:
            return tensor.detach()
        shadows = self._shadows([tensor])
        return None if shadows is None else shadows[id(tensor)].clone()

    def read(self, tensor: Tensor) -> Law | None:
        """The law of a view's entries; None if unknown or if they have several."""
        memory = self._memory_of(tensor)
        view = StorageView.of(tensor)
        if view in memory.pieces:
            return memory.pieces[view]
        if not memory.pieces:
            return memory.law
        laws = [memory.law, *memory.pieces.values()]
        fixed = all(law is not None and law.kind == "constant" for law in laws)
        return replace(OUTSIDE, source="computed") if fixed else None

    def write(self, tensor: Tensor, law: Law | None) -> None:
        """Say that a view's entries now have this law."""
        memory = self._memory_of(tensor)
        if law is None:
            memory.before = memory.law or memory.before
            memory.changes += 1
        if StorageView.of(tensor).whole(tensor):
            memory.law, memory.pieces = law, {}
        else:
            memory.pieces[StorageView.of(tensor)] = law

    def change(self, tensor: Tensor, rule: Callable[[Law], Law | None]) -> None:
        """Apply a rule, entry by entry, to a view."""
        memory = self._memory_of(tensor)
        if StorageView.of(tensor).whole(tensor) and memory.pieces and memory.law is not None:
            memory.law = rule(memory.law)
            memory.pieces = {v: None if p is None else rule(p) for v, p in memory.pieces.items()}
            return
        law = self.read(tensor)
        self.write(tensor, None if law is None else rule(law))

    def inherit(self, tensor: Tensor, source: Tensor, rule: Callable[[Law], Law | None]) -> None:
        """Say that a tensor's entries are those of another one, through a rule.

        Parameters
        ----------
        tensor, source : Tensor
        rule : callable
            The law of an entry from that of the source's; None where there is none.
        """
        memory, theirs = self._memory_of(tensor), self._memory_of(source)
        view = StorageView.of(source)
        alike = view == StorageView.of(tensor) and view.whole(source) and view.whole(tensor)
        if theirs.pieces and theirs.law is not None and alike:
            memory.law = rule(theirs.law)
            memory.pieces = {v: None if p is None else rule(p) for v, p in theirs.pieces.items()}
            return
        law = self.read(source)
        self.write(tensor, None if law is None else rule(law))

    def _follow(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        inputs: list[Tensor],
        fresh: list[Tensor],
        changed: list[Tensor],
    ) -> None:
        """Carry the laws through one operation."""
        transfer = TRANSFERS.get(name)
        if transfer is not None and transfer(self, args, kwargs, fresh, changed):
            return
        if name.removesuffix("_") in CREATED:
            law = Law.constant(0.0, "computed")
        else:
            sources = [t for t in inputs if t is not kwargs.get("out")]
            random = any(not _fixed(self.read(t)) for t in sources)
            law = None if random else Law.constant(0.0, "computed")
        for tensor in (*fresh, *changed):
            self.write(tensor, law)

    def scalar(self, value: Any) -> float | None:
        """A number, or the one entry of a fixed tensor; None for anything else."""
        if isinstance(value, bool | int | float):
            return float(value)
        if isinstance(value, Tensor) and value.numel() == 1 and _fixed(self.read(value)):
            found = self.value(value)
            return None if found is None else float(found.item())
        return None

    # memory

    def _find(self, tensor: Tensor) -> _Memory | None:
        if tensor.layout != torch.strided:
            return None
        storage = tensor.untyped_storage()
        memory = self._memory.get(storage._cdata)
        return None if memory is None or memory.alive.expired() else memory

    def _memory_of(self, tensor: Tensor) -> _Memory:
        if tensor.layout != torch.strided:
            return _Memory(StorageWeakRef(torch.UntypedStorage(0)), None)
        memory = self._find(tensor)
        if memory is None:
            storage = tensor.untyped_storage()
            memory = _Memory(StorageWeakRef(storage), OUTSIDE)
            self._memory[storage._cdata] = memory
        return memory

    # values on the meta device

    def _shadows(self, tensors: list[Tensor]) -> dict[int, Tensor] | None:
        """Values of tensors by id, real ones being their own; None if one has none."""
        found: dict[int, Tensor] = {}
        for tensor in tensors:
            if not tensor.is_meta:
                found[id(tensor)] = tensor
                continue
            memory = self._find(tensor)
            if memory is None or memory.twin is None or memory.twin.dtype != tensor.dtype:
                return None
            found[id(tensor)] = memory.twin.as_strided(
                tensor.size(), tensor.stride(), tensor.storage_offset()
            )
        return found

    def _compute(
        self,
        func: Any,
        args: Any,
        kwargs: dict[str, Any],
        shadows: dict[int, Tensor] | None,
        out: Any,
        fresh: list[Tensor],
        changed: list[Tensor],
    ) -> None:
        """Do the same with the values that are kept."""
        made = [t for t in fresh if t.is_meta]
        small = all(t.numel() <= SHADOWED for t in (*made, *changed))
        if shadows is None or not small:
            for tensor in (*made, *changed):
                self._memory_of(tensor).twin = None
            return

        def real(item: Any) -> Any:
            if isinstance(item, Tensor):
                return shadows.get(id(item), item)
            return torch.device("cpu") if item == torch.device("meta") else item

        if not made and not changed:
            return  # a view: it shares the values of its base
        values = func(*tree_map(real, args), **tree_map(real, kwargs))
        for tensor, value in zip(tree_leaves(out), tree_leaves(values), strict=True):
            if isinstance(tensor, Tensor) and any(tensor is t for t in made):
                self._keep(tensor, value)

    def _prepare(self, tensor: Tensor) -> None:
        """Make room for the values of a tensor that is about to be written as a whole."""
        if (
            not tensor.is_meta
            or tensor.numel() > SHADOWED
            or not StorageView.of(tensor).whole(tensor)
        ):
            return
        if self._shadows([tensor]) is None:
            self._memory_of(tensor).twin = torch.zeros(tensor.numel(), dtype=tensor.dtype)

    def _keep(self, tensor: Tensor, value: Tensor) -> None:
        size = tensor.untyped_storage().nbytes() // tensor.element_size()
        twin = torch.zeros(size, dtype=tensor.dtype)
        twin.as_strided(tensor.size(), tensor.stride(), tensor.storage_offset()).copy_(value)
        self._memory_of(tensor).twin = twin

    def _truncated(self, original: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """``trunc_normal_``, whose rejections say nothing to an observer of operations."""
        names = ("tensor", "mean", "std", "a", "b", "generator")
        given = dict(zip(names, args)) | kwargs
        tensor = given["tensor"]
        mean, std, low, high = (float(given.get(n, d)) for n, d in zip(names[1:], (0, 1, -2, 2)))
        law = Law.truncated(mean, std, low, high, origin("trunc_normal_"))
        out = original(**given)
        if tensor.is_meta:
            shadows = self._shadows([tensor])
            if shadows is not None:
                original(**given | {"tensor": shadows[id(tensor)]})
        self.write(tensor, law)
        return out


def _fixed(law: Law | None) -> bool:
    return law is not None and law.kind == "constant"


def _rows(
    tensor: Tensor, pieces: dict[StorageView, Law | None]
) -> tuple[tuple[int, int, Law | None], ...] | None:
    """Views as ranges of rows of a contiguous tensor; None where one is none."""
    found = []
    row = tensor.stride(0) if tensor.ndim else 1
    for view, law in pieces.items():
        count = 1
        for size in view.size:
            count *= size
        offset = view.offset - tensor.storage_offset()
        if not tensor.is_contiguous() or row == 0 or offset % row or count % row:
            return None
        if not view.dense():
            return None
        found.append((offset // row, (offset + count) // row, law))
    return tuple(sorted(found, key=lambda piece: piece[:2]))


class _Honest(TorchFunctionMode):
    """Lets ``torch.nn.init`` work on the meta device, where some of its functions do nothing."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        asks = func == torch.Tensor.is_meta.__get__  # pyright: ignore[reportAttributeAccessIssue]
        if asks and _caller() == "torch.nn.init":
            return False
        kwargs = kwargs or {}
        if func in (torch.tensor, torch.as_tensor) and _on_meta(kwargs.get("device")):
            # numbers written in the code have values, wherever the tensor is to live
            return func(*args, **kwargs | {"device": "cpu"}).to("meta")
        return func(*args, **kwargs)


def _caller() -> str:
    """The module whose code asked, other modes on the way left out."""
    frame = sys._getframe(2)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module not in ("torch.utils._device", "torch.overrides"):
            return module
        frame = frame.f_back
    return ""


def _on_meta(device: Any) -> bool:
    return device is not None and torch.device(device).type == "meta"


@contextmanager
def _patched_truncation(replacement: Callable[..., Tensor]) -> Iterator[None]:
    """Have ``trunc_normal_`` observed, under whatever name it was imported."""
    name = "_no_grad_trunc_normal_"
    original = getattr(torch.nn.init, name, None)
    if original is None:
        yield
        return

    def observed(*args: Any, **kwargs: Any) -> Tensor:
        return replacement(original, *args, **kwargs)

    setattr(torch.nn.init, name, observed)
    try:
        yield
    finally:
        setattr(torch.nn.init, name, original)

"""Stand-ins for a parameter seen from another side: transposed, cut into rows, scaled, cast.

User code may call ``F.linear(x, self.weight.t())``, take ``in_proj_weight.chunk(3)``, or index one
expert of a stack. Each such call is answered by a token, a tensor without numbers that remembers
what it stands for; only where nobody can answer for it is the parameter drawn and the calls done
on the numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from kadanoff.program.matrix import Matrix, Side
from kadanoff.program.source import Source

__all__ = ["CASTS", "GETTERS", "METHODS", "View", "derived"]

# properties and methods that read no numbers; the token answers
GETTERS = {
    "shape",
    "ndim",
    "dtype",
    "layout",
    "requires_grad",
    "is_leaf",
    "is_sparse",
    "is_quantized",
    "names",
    "itemsize",
    "nbytes",
    "grad",
    "grad_fn",
    "output_nr",
    "retains_grad",
    "is_nested",
    "is_sparse_csr",
    "is_mkldnn",
    "is_vulkan",
    "is_ipu",
    "is_ort",
    "is_maia",
    "_version",
    "_backward_hooks",
    "_base",
    "name",
}
METHODS = {
    "size",
    "dim",
    "ndimension",
    "numel",
    "nelement",
    "stride",
    "is_floating_point",
    "is_complex",
    "element_size",
    "is_contiguous",
    "len",
    "storage_offset",
    "is_signed",
    "is_inference",
    "hash",
    "requires_grad",
    "register_hook",
    "is_same_size",
    "is_distributed",
    "register_post_accumulate_grad_hook",
    "is_shared",
    "is_coalesced",
    "result_type",
    "untyped_storage",
    "storage",
    "typed_storage",
    "data_ptr",
}
CASTS = {
    "to",
    "float",
    "double",
    "half",
    "bfloat16",
    "type_as",
    "contiguous",
    "clone",
    "cpu",
    "cuda",
    "detach",
    "alias",
    "requires_grad_",
}


@dataclass(frozen=True)
class View:
    """What a token stands for.

    Attributes
    ----------
    source : Source
    token : Tensor
        On the meta device; the parameter itself for an untouched one.
    calls : tuple
        Functions that make the view of the parameter's numbers.
    start, stop : int
        Rows of the parameter, its first ``split`` axes flattened.
    split : int
        Leading axes of the parameter that count rows.
    transposed : bool
        The two axes of the view are (columns, rows).
    scale : float
        Factor on the entries.
    linear : bool
        Whether rows, transposition and scale tell all there is to tell.
    """

    source: Source
    token: Tensor
    calls: tuple[Callable[[Tensor], Tensor], ...] = ()
    start: int = 0
    stop: int = 0
    split: int = 1
    transposed: bool = False
    scale: float = 1.0
    linear: bool = True

    def value(self, why: str) -> Tensor:
        """The numbers; draws the parameter."""
        found = self.source.leaf(why)
        for call in self.calls:
            found = call(found)
        return found

    def matrix(self, side: Side) -> tuple[Matrix, Side] | None:
        """The matrix of a two-axis view, and the side on which its last ("right") axis is asked."""
        if not self.linear or self.token.ndim != 2:
            return None
        found = self.source.matrix(self.start, self.stop, self.split)
        if found is None:
            return None
        if self.transposed:
            side = "left" if side == "right" else "right"
        return found, side


def derived(view: View, name: str, func: Callable, args: tuple, kwargs: dict) -> Any:
    """The view(s) that a call on a token gives, or None if the call needs numbers.

    Parameters
    ----------
    view : View
        The token that is called on.
    name : str
        Canonical name of the operation.
    func : callable
    args : tuple
    kwargs : dict
        Its arguments, the token first.

    Returns
    -------
    View, or list of View, or None
    """
    rest = args[1:]

    def call(t: Tensor) -> Any:
        return func(t, *rest, **kwargs)

    if name in CASTS:
        return _cast(view, name, call, rest, kwargs)
    token = view.token
    if name in ("t", "T", "mT", "transpose", "swapaxes", "adjoint", "permute"):
        found = call(token)
        if token.ndim == 2 and tuple(found.shape) == tuple(token.shape)[::-1]:
            same = name in ("transpose", "swapaxes", "permute") and _identity(name, rest)
            turned = view.transposed if same else not view.transposed
            return replace(view, token=found, calls=(*view.calls, call), transposed=turned)
        return replace(view, token=found, calls=(*view.calls, call), linear=False)
    if name in ("chunk", "split", "unbind", "unsafe_chunk", "unsafe_split", "tensor_split"):
        return _pieces(view, call, rest, kwargs)
    if name in ("getitem", "select"):
        return _indexed(view, name, call, rest)
    if name in ("mul", "rmul", "multiply", "div", "true_divide", "truediv"):
        other = rest[0] if rest else kwargs.get("other")
        if isinstance(other, (int, float)) and not isinstance(other, bool) and other != 0:
            factor = float(other) if "mul" in name else 1 / float(other)
            return replace(
                view, token=call(token), calls=(*view.calls, call), scale=view.scale * factor
            )
    return None


def _identity(name: str, rest: tuple) -> bool:
    axes = rest[0] if len(rest) == 1 and isinstance(rest[0], (tuple, list)) else rest
    axes = [a % 2 for a in axes]
    return axes == [0, 1] if name == "permute" else len(axes) == 2 and axes[0] == axes[1]


def _cast(view: View, name: str, call: Any, rest: tuple, kwargs: dict) -> View:
    dtype = kwargs.get("dtype")
    for item in (*rest, kwargs.get("other")):
        if isinstance(item, torch.dtype):
            dtype = item
        elif isinstance(item, Tensor):
            dtype = item.dtype
    named = {
        "float": torch.float32,
        "double": torch.float64,
        "half": torch.float16,
        "bfloat16": torch.bfloat16,
    }
    dtype = named.get(name, dtype)
    token = view.token.detach().to("meta", dtype or view.token.dtype)
    return replace(view, token=token, calls=(*view.calls, call))


def _pieces(view: View, call: Any, rest: tuple, kwargs: dict) -> list[View] | None:
    found = call(view.token)
    axis = kwargs.get("dim", rest[1] if len(rest) > 1 else 0)
    rows = view.linear and not view.transposed and axis == 0 and view.token.ndim > 1
    out, at = [], view.start
    per = (view.stop - view.start) // max(view.token.shape[0], 1)
    for i, token in enumerate(found):
        # unbind leaves one axis less
        count = per * (token.shape[0] if token.ndim == view.token.ndim else 1)
        piece = replace(
            view,
            token=token,
            calls=(*view.calls, _Pick(call, i)),
            linear=rows,
            start=at,
            stop=at + count,
        )
        out.append(piece)
        at += count
    return out


@dataclass(frozen=True)
class _Pick:
    call: Callable
    index: int

    def __call__(self, t: Tensor) -> Tensor:
        return self.call(t)[self.index]


def _plain_index(name: str, rest: tuple) -> Any:
    """What is asked for along the first axis, without tensors; None if it needs numbers."""
    index = rest[0] if name == "getitem" else rest[1] if rest[0] == 0 else None
    if isinstance(index, Tensor):
        # rows of a table are another thing, see operations.taken
        return None if index.ndim or index.is_floating_point() else int(index)
    if isinstance(index, tuple) and any(isinstance(i, Tensor) for i in index):
        return None
    return index


def _row_range(view: View, index: Any) -> tuple[int, int] | None:
    """The rows [start, stop) of the first axis that an index names, if they are contiguous."""
    count = view.token.shape[0] if view.token.ndim else 0
    if isinstance(index, slice) and index.step in (None, 1) and view.token.ndim > 1:
        start, stop, _ = index.indices(count)
        return start, stop
    if isinstance(index, int) and not isinstance(index, bool) and view.token.ndim > 2:
        start = index % count
        return start, start + 1
    return None


def _indexed(view: View, name: str, call: Any, rest: tuple) -> View | None:
    """Rows a:b, or one entry of the first of three axes or more; other cuts wait for numbers."""
    index = _plain_index(name, rest)
    if index is None:
        return None
    found = replace(view, token=call(view.token), calls=(*view.calls, call), linear=False)
    if not view.linear or view.transposed:
        return found
    rows = _row_range(view, index)
    if rows is None:
        return found
    start, stop = rows
    if start == 0 and stop == view.token.shape[0] and not view.calls and found.token.ndim > 1:
        return view
    # rows are counted with one axis more where the first is indexed away
    split = view.split + (found.token.ndim < view.token.ndim)
    inner = view.token.shape[1] if split > view.split else 1
    per = (view.stop - view.start) // view.token.shape[0] * inner
    at = view.start * inner
    return replace(
        found, linear=True, split=split, start=at + per * start, stop=at + per * max(stop, start)
    )

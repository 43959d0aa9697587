"""The table of operations: how each torch function that takes a random parameter is answered.

A handler gets ``(network, call)`` with the arguments by name and returns the result, or says in
words why it has none: the parameter is then drawn, and the reason named.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kadanoff.program import convolution, recurrent
from kadanoff.program.maps import NO_MATRIX, affine, mapped
from kadanoff.program.matrix import Side
from kadanoff.program.views import View

if TYPE_CHECKING:
    from kadanoff.program.mode import Network

__all__ = ["HANDLERS"]

Arguments = dict[str, Any]


def addmm(network: Network, given: Arguments) -> Tensor | str:
    """torch.addmm(bias, x, weight): the maps of GPT-2."""
    bias = given.get("bias", given.get("input"))
    out = _product(network, given.get("mat1"), given.get("mat2"))
    if isinstance(out, str):
        return out
    beta, alpha = given.get("beta", 1), given.get("alpha", 1)
    out = out if alpha == 1 else alpha * out
    return out + (network.value(bias) if beta == 1 else beta * network.value(bias))


def matmul(network: Network, given: Arguments) -> Tensor | str:
    """a @ b with a parameter as one of the two."""
    second = next((given[k] for k in ("other", "mat2", "tensor2", "vec") if k in given), None)
    return _product(network, given.get("input"), second)


def _product(network: Network, a: Any, b: Any) -> Tensor | str:
    left, right = network.view(a), network.view(b)
    if left is not None and right is not None:
        a, left = network.value(a, "multiplied by a parameter"), None
    if right is not None:
        if right.token.ndim == 3 and a.ndim == 3:
            return _stacked(network, a, right)
        return mapped(network, a, right, "left") if right.token.ndim == 2 else NO_MATRIX
    if left is None or left.token.ndim != 2:
        return NO_MATRIX
    if b.ndim == 1:
        return mapped(network, b, left, "right")
    out = mapped(network, b.mT, left, "right")
    return out if isinstance(out, str) else out.mT


def _stacked(network: Network, x: Tensor, view: View) -> Tensor | str:
    """One matrix a batch entry: (E, T, n) @ (E, n, n')."""
    count = view.token.shape[0]
    if count > 64 or x.shape[0] != count or view.transposed or not view.linear:
        return NO_MATRIX
    pieces = []
    for e in range(count):
        start = view.start + e * view.token.shape[1]
        one = replace(
            view, token=view.token[e], start=start, stop=start + view.token.shape[1], split=2
        )
        out = mapped(network, x[e], one, "left")
        if isinstance(out, str):
            return out
        pieces.append(out)
    return torch.stack(pieces)


def einsum(network: Network, given: Arguments) -> Tensor | str:
    """torch.einsum with one operand a parameter that shares only contracted axes."""
    equation, operands = given.get("equation"), (given.get("operand0"), given.get("operand1"))
    which = [network.view(t) is not None for t in operands]
    if not isinstance(equation, str) or "operand2" in given or sum(which) != 1:
        return NO_MATRIX
    equation = equation.replace(" ", "")
    if "->" not in equation or "." in equation:
        return NO_MATRIX
    inputs, out = equation.split("->")
    terms = inputs.split(",")
    at = which.index(True)
    plan = _contraction(terms[at], terms[1 - at], out)
    view = network.view(operands[at])
    data = operands[1 - at]
    if plan is None or view is None or view.calls or not isinstance(data, Tensor):
        return NO_MATRIX
    side, split, contracted = plan
    w, x = terms[at], terms[1 - at]
    kept = [c for c in x if c not in contracted]
    free = [c for c in w if c not in contracted]
    shape = dict(zip(x, data.shape)) | dict(zip(w, view.token.shape))
    rows = data.permute([x.index(c) for c in (*kept, *contracted)])
    flat = rows.reshape(*[shape[c] for c in kept], -1)
    token = view.token.detach().to("meta").reshape(view.token.shape[:split].numel(), -1)
    asked = View(view.source, token, stop=token.shape[0], split=split)
    answer = mapped(network, flat, asked, side)
    if isinstance(answer, str):
        return answer
    answer = answer.reshape([shape[c] for c in (*kept, *free)])
    return answer.permute([(*kept, *free).index(c) for c in out])


def _contraction(w: str, x: str, out: str) -> tuple[Side, int, list[str]] | None:
    """The side on which the weight is asked, its leading axes that count rows, what is summed."""
    contracted = [c for c in w if c in x and c not in out]
    free = [c for c in w if c not in x]
    plain = len(contracted) + len(free) == len(w) == len(set(w)) and len(set(x)) == len(x)
    kept = all(c in out for c in free) and all(c in out for c in x if c not in w)
    if not plain or not kept or not contracted or not free:
        return None
    k = len(contracted)
    if list(w[:k]) == contracted:
        return "left", k, contracted
    if list(w[-k:]) == contracted:
        return "right", len(w) - k, contracted
    return None


def embedding(network: Network, given: Arguments) -> Tensor | str:
    """F.embedding: the rows of the tokens that occur, drawn."""
    found = _looked_up(network, given)
    if isinstance(found, str):
        return found
    where, table = found
    return F.embedding(where, table, _padding_row(network, given, where))


def embedding_bag(network: Network, given: Arguments) -> Tensor | str:
    """F.embedding_bag."""
    found = _looked_up(network, given)
    if isinstance(found, str):
        return found
    where, table = found
    names = ("offsets", "mode", "per_sample_weights", "include_last_offset")
    options = {key: given[key] for key in names if key in given}
    options["padding_idx"] = _padding_row(network, given, where)
    return F.embedding_bag(where, table, **options)


def _looked_up(network: Network, given: Arguments) -> tuple[Tensor, Tensor] | str:
    view, ids = network.view(given.get("weight")), given.get("input")
    if view is None or view.calls or not isinstance(ids, Tensor) or network.view(ids) is not None:
        return NO_MATRIX
    if given.get("max_norm") is not None:
        return "written to by max_norm"
    if given.get("sparse"):
        return "sparse gradients"
    found = view.source.rows(ids)
    return "another law than that of independent rows" if found is None else found


def _padding_row(network: Network, given: Arguments, where: Tensor) -> int | None:
    """The padding index in the small table: its row gets no gradient."""
    view, padding = network.view(given["weight"]), given.get("padding_idx")
    if padding is None or view is None:
        return None
    at = given["input"] == padding % view.source.shape[0]
    return int(where[at][0]) if bool(at.any()) else None


def taken(network: Network, given: Arguments) -> Tensor | str:
    """weight[ids] with a tensor of integers."""
    weight, ids = given["input"], given.get("index")
    view = network.view(weight)
    if view is None or not isinstance(ids, Tensor) or view.token.ndim != 2:
        return NO_MATRIX
    if ids.dtype not in (torch.int64, torch.int32) or bool((ids < 0).any()):
        return NO_MATRIX
    found = _looked_up(network, {"weight": weight, "input": ids})
    return found if isinstance(found, str) else found[1][found[0]]


# what a handler returns: the result of the operation, or why it has none
Answer = Tensor | tuple[Tensor, ...] | str

HANDLERS: dict[str, Callable[[Network, Arguments], Answer]] = {
    "linear": affine,
    "addmm": addmm,
    "matmul": matmul,
    "mm": matmul,
    "bmm": matmul,
    "mv": matmul,
    "einsum": einsum,
    "embedding": embedding,
    "embedding_bag": embedding_bag,
    "getitem": taken,
    "conv1d": convolution.convolve,
    "conv2d": convolution.convolve,
    "conv3d": convolution.convolve,
    "conv_transpose1d": convolution.transposed,
    "conv_transpose2d": convolution.transposed,
    **{
        kind: functools.partial(recurrent.layers, kind=kind)
        for kind in ("lstm", "gru", "rnn_tanh", "rnn_relu")
    },
    **{
        f"{kind}_cell": functools.partial(recurrent.cell, kind=kind)
        for kind in ("lstm", "gru", "rnn_tanh", "rnn_relu")
    },
}

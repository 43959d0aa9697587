"""The weight of a linear map, and how many inputs one of its neurons sums over.

One rule for everybody, by operation and side: the same matrix has another fan-in as ``x @ W`` than
as ``W @ x``, and the class of the module that holds it says nothing of how it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kadanoff.trace.operations import Layout, Operation

__all__ = ["fans_of", "find_weight", "layout_of", "shape_fans"]


def find_weight(
    operation: Operation, arguments: Mapping[str, Any], is_weight: Callable[[Tensor], bool]
) -> str | None:
    """Name of the argument that holds the weight of a linear map, None if there is none.

    Parameters
    ----------
    operation : Operation
    arguments : mapping
        Of the call, by name (see :func:`bind`).
    is_weight : callable
        ``is_weight(tensor)``: whether this tensor is a parameter (or shares one's memory). Asked
        only for products, where either factor may be the weight; the last one wins.
    """
    factors = operation.factors or tuple(a for a in arguments if a.startswith("operand"))
    for name in reversed(factors):
        value = arguments.get(name)
        if isinstance(value, Tensor) and value.ndim > 1 and is_weight(value):
            return name
    declared = operation.weight
    return declared if isinstance(arguments.get(declared or ""), Tensor) else None


def fans_of(
    operation: Operation, arguments: Mapping[str, Any], weight: str | None
) -> tuple[int, int]:
    """Inputs that one output neuron sums over, and the number of neurons or channels.

    By operation, not by class of module: a matrix used from either side has two fan-ins.

    Parameters
    ----------
    operation : Operation
    arguments : mapping
        Of the call, by name (see :func:`bind`).
    weight : str or None
        Which argument is the weight (see :func:`find_weight`).

    Returns
    -------
    (fan_in, fan_out)
        (0, 0) if the weight is no matrix. The fan-in of a lookup is 1.
    """
    matrix = arguments.get(weight or "")
    if not isinstance(matrix, Tensor) or matrix.ndim < 2:
        return 0, 0
    if operation.name == "einsum":
        return _fans_of_einsum(arguments, str(weight), matrix)
    if operation.name == "tensordot":
        return _fans_of_tensordot(arguments, str(weight), matrix)
    layout = operation.layout
    if operation.factors and weight != operation.weight:
        left = weight == operation.factors[0] and len(operation.factors) > 1
        return (
            (matrix.shape[-1], matrix.shape[-2]) if left else (matrix.shape[-2], matrix.shape[-1])
        )
    if arguments.get("transposed"):
        layout = "in_out"
    return shape_fans(layout, matrix.shape, int(arguments.get("groups", 1) or 1))


def shape_fans(layout: Layout | None, shape: Sequence[int], groups: int = 1) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight of this shape and layout; ``groups`` as in convolutions.

    Parameters
    ----------
    layout : str or None
        Where the fan-in sits, as the table of operations has it.
    shape : sequence of int
        Of the weight.
    groups : int
        As in convolutions.
    """
    size = torch.Size(shape)
    if layout == "table":
        return 1, size[-1]
    if layout == "matrix":
        return size[-2], size[-1]
    if layout == "in_out":
        # a transposed convolution: (in, out / groups, ...)
        return size[0] // groups * size[2:].numel(), size[1] * groups
    return size[1:].numel(), size[0]


def _fans_of_einsum(arguments: Mapping[str, Any], weight: str, matrix: Tensor) -> tuple[int, int]:
    """Contracted indices of the weight are its inputs, those that stay and are its own outputs."""
    equation = arguments.get("equation")
    if not isinstance(equation, str):
        return matrix.shape[-2], matrix.shape[-1]
    left, _, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    position = int(weight.removeprefix("operand"))
    own = terms[position].replace("...", "")
    if len(own) != matrix.ndim:
        return matrix.shape[-2], matrix.shape[-1]
    others = "".join(term for index, term in enumerate(terms) if index != position)
    if "->" not in equation:
        # torch's rule: what occurs once stays
        right = "".join(index for index in own + others if (own + others).count(index) == 1)
    fan_in = fan_out = 1
    for index, size in zip(own, matrix.shape):
        if index not in right:
            fan_in *= size
        elif index not in others:
            fan_out *= size
    return fan_in, fan_out


def _fans_of_tensordot(
    arguments: Mapping[str, Any], weight: str, matrix: Tensor
) -> tuple[int, int]:
    dims, ndim = arguments.get("dims", 2), matrix.ndim
    if isinstance(dims, int):
        axes = range(ndim - dims, ndim) if weight == "a" else range(dims)
    else:
        pair = dims[0 if weight == "a" else 1]
        axes = [pair] if isinstance(pair, int) else list(pair)
    summed = {axis % ndim for axis in axes}
    fan_in = torch.Size(size for axis, size in enumerate(matrix.shape) if axis in summed).numel()
    return fan_in, matrix.numel() // max(fan_in, 1)


def layout_of(owner: nn.Module) -> Layout:
    """How the weight of a module is laid out, for parameters that no call was seen to use.

    Parameters
    ----------
    owner : nn.Module
        The module that holds the parameter.

    Returns
    -------
    {"out_in", "in_out", "matrix", "table"}
        ``"matrix"`` for Hugging Face's ``Conv1D``, which stores (in, out).
    """
    if type(owner).__name__ == "Conv1D":
        return "matrix"
    if getattr(owner, "transposed", False):
        return "in_out"
    if isinstance(owner, (nn.Embedding, nn.EmbeddingBag)):
        return "table"
    return "out_in"

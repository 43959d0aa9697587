"""Reading a PyTorch model into the description that the theory works on.

Works on class names and attributes, so that the theory side never imports ``torch.nn``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch

from kadanoff.activations import Activation, activation
from kadanoff.architecture.network import Network
from kadanoff.errors import DataError, DescribeError, UsageError

__all__ = ["describe"]

_CONTAINERS = ("Sequential",)
_TRANSPARENT = ("Identity", "Flatten", "Dropout", "AlphaDropout", "Dropout1d")
_HEADS = ("Softmax", "LogSoftmax", "Sigmoid", "LogSigmoid", "Softmin")
# torch.nn.Linear draws W and b from U(±1/√fan_in) (kaiming_uniform with a = √5)
_DEFAULT_C = 1 / 3


def describe(model: Any, *, from_weights: bool = True) -> Network:
    """The description of a ``torch.nn.Sequential`` of linear maps and activations.

    Parameters
    ----------
    model : torch.nn.Module
        A Sequential, nested ones included, of Linear, elementwise activations, Flatten, Identity
        and Dropout in eval mode; or one Linear. A softmax or sigmoid at the very end is noted in
        ``head`` and left out: the theory speaks of the last preactivation.
    from_weights : bool
        True: C_W = n_{ℓ−1}·mean(W²) and C_b = mean(b²) measured from this model's parameters.
        False: the variances of PyTorch's documented default initialisation, C_W = ⅓ and
        C_b = 1 / (3 n_{ℓ−1}), or 0 without bias.

    Raises
    ------
    DescribeError
        Names every module that the theory does not cover.
    DataError
        A parameter is NaN or infinite.
    """
    if not isinstance(model, torch.nn.Module):
        raise UsageError(f"describe needs a torch.nn.Module, got {type(model).__name__}.")
    leaves = list(_leaves(model, ""))
    problems = [problem for path, leaf in leaves for problem in _problem(path, leaf)]
    if problems:
        raise DescribeError(
            "The theory cannot describe " + "; ".join(problems) + ".",
            "It covers Sequentials of Linear, activations, Flatten, Identity and Dropout in eval "
            "mode; diagnose still measures any other model.",
        )
    return _assemble(leaves, from_weights)


def _leaves(module: Any, path: str) -> Iterator[tuple[str, Any]]:
    if type(module).__name__ in _CONTAINERS:
        for name, child in module.named_children():
            yield from _leaves(child, f"{path}.{name}" if path else name)
    else:
        yield path or "the model", module


def _problem(path: str, leaf: Any) -> list[str]:
    kind = type(leaf).__name__
    if kind == "Linear":
        for name, parameter in leaf.named_parameters():
            if not torch.isfinite(parameter).all():
                raise DataError(
                    f"The parameter {path}.{name} holds NaN or infinite values.",
                    "Load or initialise the model again.",
                )
        return []
    if kind in _TRANSPARENT:
        if "Dropout" in kind and leaf.training and leaf.p > 0:
            return [f"{path} (Dropout(p={leaf.p:g}) in training mode: call model.eval())"]
        return []
    if kind in _HEADS or _as_activation(leaf) is not None:
        return []
    return [f"{path} ({kind})"]


def _as_activation(leaf: Any) -> Activation | None:
    if any(True for _ in leaf.children()) or sum(p.numel() for p in leaf.parameters()) > 1:
        return None
    try:
        return activation(leaf)
    except UsageError:
        return None


def _assemble(leaves: list[tuple[str, Any]], from_weights: bool) -> Network:
    linears, between, head = _sorted(leaves)
    _check_chain(linears)
    if head is not None and any(kind in head for kind in ("Softmax", "Softmin")):
        after = [type(leaf).__name__ for _, leaf in leaves].index(head)
        if any(type(leaf).__name__ == "Linear" for _, leaf in leaves[after:]):
            raise DescribeError(f"The theory cannot describe a {head} inside the network.")
    activations = tuple(_compose(stack) for stack in between[:-1])
    C_W, C_b = zip(*(_variances(leaf, from_weights) for _, leaf in linears), strict=True)
    L = len(linears)
    return Network(
        n=(linears[0][1].in_features, *(leaf.out_features for _, leaf in linears)),
        activations=activations,
        C_b=C_b,
        C_W=C_W,
        lambda_b=tuple(float(leaf.bias is not None) for _, leaf in linears),
        lambda_W=(1.0,) * L,
        gamma=(0.0,) * L,
        head=head,
    )


def _sorted(
    leaves: list[tuple[str, Any]],
) -> tuple[list[tuple[str, Any]], list[list[tuple[str, Activation]]], str | None]:
    """Linear maps, the activations after each, and what stands at the end and is no activation."""
    linears: list[tuple[str, Any]] = []
    between: list[list[tuple[str, Activation]]] = []
    head = None
    for path, leaf in leaves:
        kind = type(leaf).__name__
        if kind in _TRANSPARENT:
            if kind == "Flatten" and linears:
                raise DescribeError(f"The theory cannot describe {path} (Flatten after a Linear).")
            continue
        if kind == "Linear":
            linears.append((path, leaf))
            between.append([])
        elif not linears:
            raise DescribeError(
                f"The theory cannot describe {path} ({kind} before the first Linear).",
                "Apply it to the data instead.",
            )
        else:
            found = None if kind in ("Softmax", "LogSoftmax", "Softmin") else _as_activation(leaf)
            if found is None or leaf is leaves[-1][1]:
                head = kind
            if found is not None:
                between[-1].append((path, found))
    return linears, between, head


def _check_chain(linears: list[tuple[str, Any]]) -> None:
    if not linears:
        raise DescribeError("The model has no Linear layer, so there is nothing to describe.")
    for (path, first), (next_path, second) in itertools.pairwise(linears):
        if first.out_features != second.in_features:
            raise DescribeError(
                f"{path} gives {first.out_features} features, {next_path} takes "
                f"{second.in_features}."
            )


def _compose(stack: list[tuple[str, Activation]]) -> Activation:
    if not stack:
        return activation("linear")
    if len(stack) == 1:
        return stack[0][1]

    def composed(z: torch.Tensor) -> torch.Tensor:
        for _, act in stack:
            z = act(z)
        return z

    return activation(composed)


def _variances(leaf: Any, from_weights: bool) -> tuple[float, float]:
    if not from_weights:
        return _DEFAULT_C, 0.0 if leaf.bias is None else _DEFAULT_C / leaf.in_features
    with torch.no_grad():
        C_W = float(leaf.weight.double().square().mean()) * leaf.in_features
        C_b = 0.0 if leaf.bias is None else float(leaf.bias.double().square().mean())
    return C_W, C_b

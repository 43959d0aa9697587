"""TorchScript modules, which neither hooks nor function modes can look into."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn

from kadanoff.errors import AnalysisError

__all__ = ["eager"]


def eager(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> nn.Module:
    """An ordinary module that computes what a TorchScript module computes; others as they are.

    Parameters
    ----------
    model : nn.Module
    args, kwargs
        What it is called with.

    Returns
    -------
    nn.Module
        With the parameters of a script under their own names.

    Raises
    ------
    AnalysisError
        The script cannot be converted.
    """
    if not isinstance(model, torch.jit.ScriptModule):
        return model
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from torch._export.converter import TS2EPConverter

            program = TS2EPConverter(model, args, kwargs or None).convert()
        names = {name for name, _ in model.named_parameters()}
        return _with_parameters(program.module(), names)
    except Exception as error:
        reason = (str(error).strip().splitlines() or ["no message"])[0][:160]
        raise AnalysisError(
            f"This TorchScript model cannot be looked into: {type(error).__name__}: {reason}.",
            "Pass the Python module it was made from, or a torch.export program (.pt2).",
        ) from error


def _with_parameters(graph: nn.Module, names: set[str]) -> nn.Module:
    """The converter lifts weights into buffers: make parameters of them again."""
    for name, value in list(graph.named_buffers()):
        if name in names:
            place, _, leaf = name.rpartition(".")
            owner = graph.get_submodule(place)
            del owner._buffers[leaf]
            owner.register_parameter(leaf, nn.Parameter(value.detach().clone()))
    return graph

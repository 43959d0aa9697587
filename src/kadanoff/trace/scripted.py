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

            return TS2EPConverter(model, args, kwargs or None).convert().module()
    except Exception as error:
        reason = (str(error).strip().splitlines() or ["no message"])[0][:160]
        raise AnalysisError(
            f"This TorchScript model cannot be looked into: {type(error).__name__}: {reason}.",
            "Pass the Python module it was made from, or a torch.export program (.pt2).",
        ) from error

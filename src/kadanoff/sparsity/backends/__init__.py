"""Ways to read only the weight rows that are needed; all offer the same operations.

``matvec(weight, bias, x)``: z = weight x + bias; ``matvec_rows``: the same for some rows only;
``nonzero(a)``: the active set; ``combine(table, rows, values, bias)``: bias + Σ_q values_q
table[rows_q]; ``combine_union``: the same for a few tokens whose active sets have a union ``rows``.
Weights and tables are (m, d), one neuron a contiguous row.

``numba_backend``   Row skipping by compiled loops on the CPU
``numba_kernels``   Compiled loops that read each needed weight row once, at memory speed
``torch_backend``   Row skipping with torch alone
``triton_backend``  Row skipping on CUDA by Triton: one program reads a tile of some active rows
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from typing import Any

import torch

from kadanoff.errors import MissingExtraError, UsageError, require_extra

__all__ = ["available", "load"]

_MODULES = {
    "torch": "kadanoff.sparsity.backends.torch_backend",
    "numba": "kadanoff.sparsity.backends.numba_backend",
    "triton": "kadanoff.sparsity.backends.triton_backend",
}


def available(device: torch.device) -> list[str]:
    """Names of the back ends that run on ``device`` here, the most general first."""
    if device.type == "cuda":
        return ["torch", "triton"] if importlib.util.find_spec("triton") else ["torch"]
    if device.type == "cpu" and importlib.util.find_spec("numba"):
        return ["torch", "numba"]
    return ["torch"]


@functools.cache
def load(name: str) -> Any:
    """The back end called ``name``.

    Raises
    ------
    UsageError
        No such back end.
    MissingExtraError
        Its package is not installed.
    """
    if name not in _MODULES:
        raise UsageError(
            f"There is no back end {name!r}.", f"Choose one of: {', '.join(_MODULES)}, auto."
        )
    if name == "numba":
        require_extra("numba", "sparse")
    if name == "triton" and importlib.util.find_spec("triton") is None:
        raise MissingExtraError(
            "The back end 'triton' needs the package triton, which is not installed.",
            "It comes with a CUDA build of PyTorch.",
        )
    return importlib.import_module(_MODULES[name])

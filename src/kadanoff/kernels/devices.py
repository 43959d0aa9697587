"""Where kernels are computed."""

from __future__ import annotations

from typing import Any

import torch

from kadanoff.errors import UsageError

__all__ = ["chosen"]


def chosen(device: Any) -> torch.device | None:
    """The device of that name; None stays None (the device of the data).

    Raises
    ------
    UsageError
        There is no such device here.
    """
    if device is None:
        return None
    try:
        wanted = torch.device(device)
    except (RuntimeError, TypeError):
        raise UsageError(f"No such device: {device!r}.", "Use 'cpu' or 'cuda'.") from None
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted.type not in ("cpu", "cuda") or (
        wanted.type == "cuda" and (wanted.index or 0) >= there
    ):
        raise UsageError(
            f"device={str(wanted)!r} was asked for, but PyTorch sees {there} CUDA devices here.",
            "Use device='cpu', or install a CUDA build of PyTorch.",
        )
    return wanted

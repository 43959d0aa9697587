"""Which device to compute on, and whether there is room."""

from __future__ import annotations

from typing import Any

import torch

from kadanoff.errors import AnalysisError, KadanoffError, UsageError

__all__ = ["check_room", "chosen", "free_memory"]


def chosen(device: Any, dtype: torch.dtype = torch.float64) -> torch.device | None:
    """The device of that name, which PyTorch can use here; None stays None.

    Parameters
    ----------
    device : str, torch.device or None
    dtype : torch.dtype
        What will be computed in; not every device has float64.

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
        raise UsageError(f"There is no device {device!r}.", "Use 'cpu' or 'cuda'.") from None
    if wanted.type == "cuda":
        there = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (wanted.index or 0) >= there:
            raise UsageError(
                f"The device {str(wanted)!r} was asked for, but PyTorch sees {there} CUDA devices "
                "here.",
                "Use 'cpu', or install a CUDA build of PyTorch and its driver.",
            )
    try:
        if wanted.type == "meta":
            raise RuntimeError("it holds no numbers")
        torch.empty(0, dtype=dtype, device=wanted)
    except Exception as error:  # each back end raises its own
        first = (str(error).strip().splitlines() or ["no reason given"])[0][:100]
        raise UsageError(
            f"The device {str(wanted)!r} cannot be used here ({first}).", "Use 'cpu' or 'cuda'."
        ) from None
    return wanted


def free_memory() -> int | None:
    """Bytes of main memory that can be had without swapping; None where it cannot be told."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            found = [line for line in lines if line.startswith("MemAvailable")]
        return int(found[0].split()[1]) * 1024
    except (OSError, IndexError, ValueError):
        return None


def check_room(
    needed: int, what: str, remedy: str, refuse: type[KadanoffError] = AnalysisError
) -> None:
    """Refuse a computation that main memory has no room for.

    Parameters
    ----------
    needed : int
        Bytes.
    what, remedy : str
        What needs them, as the subject of a sentence, and what to do instead.
    refuse : type of exception, optional
    """
    free = free_memory()
    if free is not None and needed > free:
        raise refuse(f"{what} needs about {needed:,} bytes; {free:,} are free.", remedy)

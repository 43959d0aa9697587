"""What a kernel gives: Gram matrices by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from kadanoff.errors import UsageError

__all__ = ["NAMES", "Gram", "check_names"]

NAMES = ("nngp", "ntk")


@dataclass(frozen=True)
class Gram:
    """Gram matrices, one attribute a kernel; iterates over those asked for, in that order.

    Attributes
    ----------
    nngp, ntk : Tensor, shape (N1, N2), or None
    method : {"composite", "three variables", "layers", "positions", "sampled", "pooled"}
    error : float
        Largest deviation from the layer-by-layer recursion on sampled entries, relative to the
        largest of them.
    nodes : int
        Interpolation nodes of the compiled map; 0 without one.
    stderr : dict of str to Tensor
        Standard error of each entry, by name, where something was sampled; entries at 0 are
        exact. Empty where nothing was.
    sampled : tuple of str
        What was sampled, and why.
    """

    get: tuple[str, ...]
    nngp: Tensor | None = field(default=None, repr=False)
    ntk: Tensor | None = field(default=None, repr=False)
    method: str = ""
    error: float = 0.0
    nodes: int = 0
    stderr: dict[str, Tensor] = field(default_factory=dict, repr=False)
    sampled: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Tensor]:
        return iter(getattr(self, name) for name in self.get)


def check_names(get: str | Sequence[str]) -> tuple[str, ...]:
    names = (get,) if isinstance(get, str) else tuple(get)
    if not names or any(name not in NAMES for name in names) or len(set(names)) < len(names):
        raise UsageError(f"get must name 'nngp', 'ntk' or both, got {get!r}.")
    return names

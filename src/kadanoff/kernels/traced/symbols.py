"""What a stand-in tensor stands for while a model is traced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor

from kadanoff.kernels.traced.expressions import Expression
from kadanoff.kernels.traced.laws import Parameter
from kadanoff.kernels.traced.layout import Layout
from kadanoff.kernels.traced.nodes import Node
from kadanoff.trace.operations import bind

__all__ = ["Call", "Data", "Moment", "Opaque", "Open", "ParameterView", "Random", "Symbol"]

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a torch function.

    Attributes
    ----------
    func : callable
    name : str
        Its canonical name.
    args, kwargs
        What it is called with.
    """

    func: Callable[..., Any]
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @cached_property
    def given(self) -> dict[str, Any]:
        """The arguments by name, in whatever order the function takes them."""
        return bind(self.func, self.args, self.kwargs)

    def argument(self, name: str, place: int, default: Any = None) -> Any:
        """An argument by name or place.

        Parameters
        ----------
        name : str
        place : int
        default : optional
        """
        if name in self.kwargs:
            return self.kwargs[name]
        return self.args[place] if len(self.args) > place else default

    @property
    def reversed(self) -> bool:
        """Whether Python swapped the operands."""
        return getattr(self.func, "__name__", "").startswith("__r")


class Open(Exception):
    """Why an operation does not close on kernels."""


@dataclass(eq=False)
class Symbol:
    """Anything that is not a plain tensor.

    Attributes
    ----------
    expression : Expression
        How to compute it in numbers.
    """

    expression: Expression


@dataclass(eq=False)
class Data(Symbol):
    """Computed from the inputs alone."""


@dataclass(eq=False)
class ParameterView(Symbol):
    """Entries of a parameter times a number.

    Attributes
    ----------
    parameter : Parameter
    ids : Tensor
        Which entry each entry is.
    factor : float
    """

    parameter: Parameter
    ids: Tensor
    factor: float = 1.0


@dataclass(eq=False)
class Random(Symbol):
    """``scale`` times a function, entry by entry, of entries of a node.

    Attributes
    ----------
    node : Node
    ids : Tensor
        See :mod:`kadanoff.kernels.traced.layout`.
    function : callable or None
        None: the entries themselves.
    key : tuple
        Tells functions apart.
    scale : float
    layout : Layout, optional
        Once found.
    """

    node: Node
    ids: Tensor
    function: Function | None = None
    key: tuple = ()
    scale: float = 1.0
    layout: Layout | None = field(default=None)


@dataclass(eq=False)
class Moment(Symbol):
    """An average over channels: a number for each sample and position at infinite width.

    Attributes
    ----------
    node : Node
        Whose variance it is a function of.
    function : callable
        Of the variances (N, P).
    places : Tensor
        n P + p of each entry.
    zero : bool
        Whether it vanishes.
    """

    node: Node
    function: Function
    places: Tensor
    zero: bool = False


@dataclass(eq=False)
class Opaque(Symbol):
    """Something that is known by sampling only.

    Attributes
    ----------
    reason : str
    """

    reason: str = ""

"""What each parameter did in a forward pass: the calls that used it.

Seeing functions instead of modules covers functional use and tied weights alike: a parameter is
"structured" if all it ever entered were linear maps, convolutions, embeddings and normalisations.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kadanoff.trace.recorder import FunctionCall, Observer

__all__ = ["ParameterUses", "Use"]

# the functions whose Jacobians have a structure that is made use of
_STRUCTURED = frozenset({"linear", "conv2d", "embedding", "layer_norm", "batch_norm"})

# asking a parameter for these is no use of it
_HARMLESS = frozenset(
    {
        "size",
        "dim",
        "numel",
        "is_floating_point",
        "is_complex",
        "hash",
        "repr",
        "len",
        "data_ptr",
        "stride",
        "is_contiguous",
        "element_size",
    }
)


@dataclass(eq=False)
class Use:
    """One structured call that uses a parameter.

    Attributes
    ----------
    kind : str
        ``"linear"``, ``"conv2d"``, ``"embedding"``, ``"layer_norm"`` or ``"batch_norm"``.
    arguments : dict
        By name; the input is detached.
    edge : object
        Gradient edge of the result.
    version : int
        Of the input, when it was used.
    shape : torch.Size
        Of the result.
    """

    kind: str
    arguments: dict[str, Any]
    edge: Any
    version: int
    shape: torch.Size

    def intact(self) -> bool:
        """Whether the input still is what was used."""
        return self.arguments["input"]._version == self.version


class ParameterUses(Observer):
    """Lists the structured calls that use any of the parameters.

    Parameters
    ----------
    parameters : list of Tensor
    copy : bool
        Keep copies of inputs, for models that change them in place later.

    Attributes
    ----------
    known : set of int
        Identities of the parameters.
    uses : list of Use
    general : set of int
        Identities of the parameters that entered anything else.
    """

    def __init__(self, parameters: list[Tensor], copy: bool = False) -> None:
        self.known = {id(p) for p in parameters}
        self.uses: list[Use] = []
        self.general: set[int] = set()
        self._copy = copy

    def after(self, call: FunctionCall, output: Any) -> None:
        used = self._among((*call.args, *call.kwargs.values()))
        if not used:
            return
        if call.name not in _STRUCTURED:
            if not _harmless(call):
                self.general |= used
            return
        arguments = dict(call.arguments)
        named = {id(arguments.get("weight")), id(arguments.get("bias"))}
        if used - named or arguments.get("max_norm") or not output.requires_grad:
            self.general |= used
            return
        source = arguments["input"].detach()
        arguments["input"] = source.clone() if self._copy else source
        edge = torch.autograd.graph.get_gradient_edge(output)
        version = arguments["input"]._version
        self.uses.append(Use(call.name, arguments, edge, version, output.shape))

    def _among(self, values: Iterable[Any]) -> set[int]:
        found = set()
        for value in values:
            if isinstance(value, Tensor):
                if id(value) in self.known:
                    found.add(id(value))
            elif isinstance(value, (tuple, list)):
                found |= self._among(value)
        return found


def _harmless(call: FunctionCall) -> bool:
    if call.name == "get":
        return getattr(getattr(call.func, "__self__", None), "__name__", "") == "grad"
    return call.name in _HARMLESS

"""What each parameter did in a forward pass: the calls that used it, seen by a function mode.

Watching functions instead of modules covers functional use and tied weights alike: a parameter is
"structured" if all it ever entered were linear maps, convolutions, embeddings and normalisations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["Call", "Watch"]

_LINEAR, _CONV, _EMBED, _LAYER, _BATCH = "linear", "conv2d", "embedding", "layer_norm", "batch_norm"
_KINDS = {
    F.linear: _LINEAR, torch.conv2d: _CONV, F.conv2d: _CONV, F.embedding: _EMBED,
    F.layer_norm: _LAYER, F.batch_norm: _BATCH,
}  # fmt: skip
_NAMES = {
    _LINEAR: ("input", "weight", "bias"),
    _CONV: ("input", "weight", "bias", "stride", "padding", "dilation", "groups"),
    _EMBED: ("input", "weight", "padding_idx", "max_norm"),
    _LAYER: ("input", "normalized_shape", "weight", "bias", "eps"),
    _BATCH: ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum",
             "eps"),
}  # fmt: skip
# asking a parameter for these is no use of it
_HARMLESS = {"size", "dim", "numel", "is_floating_point", "is_complex", "__hash__", "__repr__",
             "__len__", "data_ptr", "stride", "is_contiguous", "element_size"}  # fmt: skip
_READS = ("shape", "dtype", "device", "requires_grad", "ndim", "layout", "is_sparse", "is_cuda",
          "is_nested", "is_leaf", "grad", "names")  # fmt: skip


@dataclass
class Call:
    """One structured call: its kind, arguments by name, and the gradient edge of its result."""

    kind: str
    arguments: dict[str, Any]
    edge: Any
    version: int
    shape: torch.Size

    def intact(self) -> bool:
        return self.arguments["input"]._version == self.version


class Watch(TorchFunctionMode):
    """Records structured calls that use any of ``parameters``; ``general`` holds the others.

    ``copy`` keeps copies of inputs, for models that change them in place later.
    """

    def __init__(self, parameters: list[Tensor], copy: bool = False) -> None:
        super().__init__()
        self.known = {id(p) for p in parameters}
        self.calls: list[Call] = []
        self.general: set[int] = set()
        self.copy = copy

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        kind = _KINDS.get(func)
        used = self._used(args) | self._used(kwargs.values())
        if kind is None or not used:
            if used and not self._harmless(func):
                self.general |= used
            return func(*args, **kwargs)
        arguments = dict(zip(_NAMES[kind], args)) | kwargs
        source = arguments["input"]
        named = {id(arguments.get("weight")), id(arguments.get("bias"))}
        result = func(*args, **kwargs)
        if used - named or arguments.get("max_norm") or not result.requires_grad:
            self.general |= used
            return result
        kept = source.detach()
        arguments["input"] = kept.clone() if self.copy else kept
        edge = torch.autograd.graph.get_gradient_edge(result)
        version = arguments["input"]._version
        self.calls.append(Call(kind, arguments, edge, version, result.shape))
        return result

    def _used(self, values: Any) -> set[int]:
        found = set()
        for value in values:
            if isinstance(value, Tensor):
                if id(value) in self.known:
                    found.add(id(value))
            elif isinstance(value, (tuple, list)):
                found |= self._used(value)
        return found

    @staticmethod
    def _harmless(func: Any) -> bool:
        name = getattr(func, "__name__", "")
        if name == "__get__":
            return getattr(getattr(func, "__self__", None), "__name__", "") in _READS
        return name in _HARMLESS

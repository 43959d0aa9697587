"""What a tensor is the output of, read off the autograd graph through views and casts."""

from __future__ import annotations

from torch import Tensor

__all__ = ["ends_in", "views_of"]

_ENDS = {
    "SoftmaxBackward0": "softmax",
    "LogSoftmaxBackward0": "log_softmax",
    "SigmoidBackward0": "sigmoid",
    "TanhBackward0": "tanh",
    "ReluBackward0": "relu",
    "SoftplusBackward0": "softplus",
    "ExpBackward0": "exp",
    "AbsBackward0": "abs",
    "HardtanhBackward0": "hardtanh",
    "ClampBackward1": "clamp",
    "ClampMinBackward0": "clamp",
    "EluBackward0": "elu",
    "GeluBackward0": "gelu",
    "SiluBackward0": "silu",
    "SinBackward0": "sin",
    "LogSigmoidBackward0": "logsigmoid",
    "HardsigmoidBackward0": "hardsigmoid",
    "NativeBatchNormBackward0": "batch_norm",
    "CudnnBatchNormBackward0": "batch_norm",
    "NativeLayerNormBackward0": "layer_norm",
    "NativeGroupNormBackward0": "group_norm",
}
_VIEWS = {
    "ViewBackward0",
    "UnsafeViewBackward0",
    "ReshapeAliasBackward0",
    "SqueezeBackward0",
    "SqueezeBackward1",
    "SqueezeBackward2",
    "UnsqueezeBackward0",
    "TransposeBackward0",
    "PermuteBackward0",
    "TBackward0",
    "CloneBackward0",
    "ToCopyBackward0",
    "AliasBackward0",
    "SelectBackward0",
    "SliceBackward0",
    "ExpandBackward0",
    "MovedimBackward0",
}


def ends_in(tensor: Tensor) -> str | None:
    """The function whose output this tensor is, seen through views and casts; None if unknown."""
    node = tensor.grad_fn
    for _ in range(20):
        if node is None:
            return None
        name = node.name()
        if name in _ENDS:
            return _ENDS[name]
        if name not in _VIEWS:
            return None
        node = node.next_functions[0][0] if node.next_functions else None
    return None


def views_of(tensor: Tensor) -> list[str]:
    """Names of the views between a tensor and the function that made it."""
    names, node = [], tensor.grad_fn
    while node is not None and node.name() in _VIEWS and len(names) < 20:
        names.append(node.name())
        node = node.next_functions[0][0] if node.next_functions else None
    return names

"""Which torch functions are layers: one table of names, one way to look a function up."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["ACTIVATION_MODULE", "COMPOSITE", "NORM_MODULE", "canonical", "kind_of"]

_LINEAR = {
    "linear", "addmm", "bilinear", "conv1d", "conv2d", "conv3d", "convolution",
    "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "embedding", "embedding_bag",
}  # fmt: skip
_MATMUL = {"matmul", "mm", "bmm", "einsum", "baddbmm"}
_RECURRENT = {"lstm", "gru", "rnn_tanh", "rnn_relu"}
_ACTIVATION = {
    "relu", "relu6", "gelu", "silu", "tanh", "sigmoid", "leaky_relu", "elu", "selu", "celu",
    "mish", "softplus", "hardtanh", "hardswish", "hardsigmoid", "hardshrink", "softshrink",
    "tanhshrink", "softsign", "logsigmoid", "prelu", "rrelu", "threshold", "glu",
    "sin", "cos", "erf", "abs",
}  # fmt: skip
_NORM = {
    "layer_norm", "native_layer_norm", "batch_norm", "group_norm", "instance_norm", "rms_norm",
    "local_response_norm",
}  # fmt: skip
_ADD = {"add", "radd", "iadd"}

# names under which one operation reaches a function mode or a graph of aten operators
_ALIASES = {
    "special_erf": "erf",
    "swish": "silu",
    "absolute": "abs",
    "expit": "sigmoid",
    "special_expit": "sigmoid",
    "log_sigmoid": "logsigmoid",
    "rmatmul": "matmul",
    "native_batch_norm": "batch_norm",
    "cudnn_batch_norm": "batch_norm",
    "native_group_norm": "group_norm",
    "fused_rms_norm": "rms_norm",
    "radd": "add",
    "iadd": "add",
}

# Python functions of torch that hide layers of their own; the recorder looks inside
COMPOSITE = {"multi_head_attention_forward"}

ACTIVATION_MODULE = re.compile(r"(gelu|silu|relu|swish|mish|activation$|^tanh$|sigmoid$)", re.I)
NORM_MODULE = re.compile(r"norm", re.I)


def canonical(func: Any) -> str:
    """Plain name of a function: ``relu_``, ``Tensor.relu`` and ``aten.relu.default`` agree."""
    name = getattr(func, "__name__", "") or ""
    overload = getattr(func, "overloadpacket", None)
    if overload is not None:
        name = getattr(overload, "__name__", name)
    name = name.split(".")[0].strip("_")
    return _ALIASES.get(name, name)


def kind_of(name: str) -> str | None:
    """``"linear"``, ``"matmul"``, ``"activation"``, ... or None for what is not recorded."""
    if name in _LINEAR:
        return "linear"
    if name in _ACTIVATION:
        return "activation"
    if name in _NORM:
        return "norm"
    if name in _MATMUL:
        return "matmul"
    if name in _ADD:
        return "add"
    if name in ("softmax", "log_softmax"):
        return "softmax"
    if name == "scaled_dot_product_attention":
        return "attention"
    return "recurrent" if name in _RECURRENT else None

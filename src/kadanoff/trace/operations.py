"""One table of torch operations: what each is, which argument is its weight, where its fan-in sits.

Whoever looks at a running model asks here. A function reaches a function mode under many names
(``torch.relu``, ``Tensor.relu_``, ``aten.relu.default``) and with its arguments in several orders
(``F.embedding`` takes the indices first, ``aten.embedding`` the table): :func:`canonical` brings
the name to one form, :func:`bind` the arguments, and :data:`TABLE` says what the operation is.
Which argument of a call is the weight, and its fan-in: :mod:`kadanoff.trace.fans`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

__all__ = [
    "ACTIVATION_MODULE",
    "COMPOSITE",
    "NORM_MODULE",
    "TABLE",
    "Family",
    "Operation",
    "bind",
    "canonical",
    "operation_of",
]

Family = Literal[
    "linear",  # a weight matrix on the last axis
    "convolution",  # a weight on patches; the neurons are the channels
    "embedding",  # rows of a table
    "product",  # of two tensors, either of which may be a weight: matmul, einsum, ...
    "recurrent",  # a fused recurrent layer or cell
    "norm",
    "activation",  # a nonlinearity, entry by entry
    "selection",  # keeps some entries: Top-k and thresholds
    "softmax",
    "attention",
    "pooling",
    "resampling",
    "dropout",
    "arithmetic",  # sums, products of two activations, signs
    "elementwise",  # any other function, entry by entry
    "reduction",  # sums, means, sorts over an axis
    "reshape",  # the same entries in the same order
    "structural",  # the same entries in another order, some of them, or several tensors joined
    "split",
    "cast",
    "loss",
]

# how a weight is laid out: "out_in" (out, in, ...), "in_out" (in, out, ...), "matrix" (..., in,
# out) read from the right, "table" (row, out)
Layout = Literal["out_in", "in_out", "matrix", "table"]


@dataclass(frozen=True)
class Operation:
    """What a torch function does, whatever name it is called under.

    Attributes
    ----------
    name : str
        The canonical name, as :func:`canonical` gives it.
    family : Family
    arguments : tuple of str
        Names of the positional arguments, in the order of ``torch.nn.functional`` (of ``torch``
        where there is no such function).
    weight, bias : str or None
        The arguments that hold the weight and the bias. A product has no fixed weight: either
        factor may be a parameter (see :func:`kadanoff.trace.fans.find_weight`).
    factors : tuple of str
        Of a product: the arguments that are multiplied, left to right.
    layout : Layout or None
        Which axis of the weight counts the inputs of a neuron.
    channel : int
        Axis of the output that counts neurons: 1 for convolutions and the like, −1 otherwise.
    rows : {"kept", "depends", "mixed"}
        Whether a sample (an entry of the first axis) of the output depends on that sample of the
        input alone: always; according to the arguments; or not.
    doubtful : bool
        An activation whose name also serves as plain arithmetic (``sin`` in rotary embeddings).
    """

    name: str
    family: Family
    arguments: tuple[str, ...] = ("input",)
    weight: str | None = None
    bias: str | None = None
    factors: tuple[str, ...] = ()
    layout: Layout | None = None
    channel: int = -1
    rows: Literal["kept", "depends", "mixed"] = "depends"
    doubtful: bool = False

    @property
    def weighted(self) -> bool:
        """Whether it is a linear map by a weight, or may be one."""
        return self.family in ("linear", "convolution", "embedding", "product")

    @property
    def entrywise(self) -> bool:
        """Whether each entry of the output depends on that entry of the inputs alone."""
        return self.name != "glu" and self.family in (
            "activation",
            "arithmetic",
            "elementwise",
            "cast",
        )


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _build() -> dict[str, Operation]:
    table: dict[str, Operation] = {}

    def put(names: str, family: Family, arguments: str = "input", **more: Any) -> None:
        for name in names.split():
            table[name] = Operation(name, family, _words(arguments), **more)

    # -- linear maps ---------------------------------------------------------------------------
    own: dict[str, Any] = {"weight": "weight", "bias": "bias", "rows": "kept"}
    put("linear", "linear", "input weight bias", layout="out_in", **own)
    put("bilinear", "linear", "input1 input2 weight bias", layout="out_in", **own)
    put(
        "addmm",
        "linear",
        "input mat1 mat2",
        weight="mat2",
        bias="input",
        factors=("mat1", "mat2"),
        layout="matrix",
        rows="kept",
    )
    put(
        "conv1d conv2d conv3d",
        "convolution",
        "input weight bias stride padding dilation groups",
        layout="out_in",
        channel=1,
        **own,
    )
    put(
        "conv_transpose1d conv_transpose2d conv_transpose3d",
        "convolution",
        "input weight bias stride padding output_padding groups dilation",
        layout="in_out",
        channel=1,
        **own,
    )
    put(
        "convolution",
        "convolution",
        "input weight bias stride padding dilation transposed output_padding groups",
        layout="out_in",
        channel=1,
        **own,
    )
    put(
        "embedding",
        "embedding",
        "input weight padding_idx max_norm norm_type scale_grad_by_freq sparse",
        weight="weight",
        layout="table",
        rows="kept",
    )
    put(
        "embedding_bag",
        "embedding",
        "input weight offsets max_norm norm_type scale_grad_by_freq mode sparse "
        "per_sample_weights include_last_offset padding_idx",
        weight="weight",
        layout="table",
    )

    put("matmul", "product", "input other", factors=("input", "other"))
    put("mm bmm", "product", "input mat2", factors=("input", "mat2"))
    put("mv", "product", "input vec", factors=("input", "vec"))
    put("baddbmm addbmm", "product", "input batch1 batch2", factors=("batch1", "batch2"))
    put("addmv", "product", "input mat vec", factors=("mat", "vec"))
    put("tensordot", "product", "a b dims", factors=("a", "b"))
    put("einsum", "product", "equation")  # its factors are counted by the call

    # -- layers with parameters that are no linear map -----------------------------------------
    put(
        "lstm gru rnn_tanh rnn_relu",
        "recurrent",
        "input hx params has_biases num_layers dropout train bidirectional batch_first",
        rows="kept",
    )
    put(
        "lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell",
        "recurrent",
        "input hx w_ih w_hh b_ih b_hh",
        rows="kept",
    )
    gain: dict[str, Any] = {"weight": "weight", "bias": "bias"}
    put(
        "layer_norm native_layer_norm",
        "norm",
        "input normalized_shape weight bias eps",
        rows="kept",
        **gain,
    )
    put("rms_norm", "norm", "input normalized_shape weight eps", weight="weight", rows="kept")
    put("group_norm", "norm", "input num_groups weight bias eps", channel=1, rows="kept", **gain)
    put(
        "batch_norm",
        "norm",
        "input running_mean running_var weight bias training momentum eps",
        channel=1,
        rows="depends",
        **gain,
    )
    put(
        "instance_norm",
        "norm",
        "input running_mean running_var weight bias use_input_stats momentum eps",
        channel=1,
        rows="kept",
        **gain,
    )
    put("local_response_norm", "norm", "input size alpha beta k", channel=1, rows="kept")

    # -- without parameters --------------------------------------------------------------------
    put(
        "relu relu6 gelu silu tanh sigmoid leaky_relu elu selu celu mish softplus hardtanh "
        "hardswish hardsigmoid hardshrink softshrink tanhshrink softsign logsigmoid rrelu "
        "threshold glu",
        "activation",
        rows="kept",
    )
    put("sin cos erf abs", "activation", rows="kept", doubtful=True)
    put("prelu", "activation", "input weight", weight="weight", rows="kept")
    # torch's, and those of kadanoff.sparsity, which hand themselves to function modes too
    put("topk keep_topk keep_threshold", "selection", "input k")
    put("softmax log_softmax softmin", "softmax", "input dim")
    put("gumbel_softmax", "softmax", "logits tau hard eps dim")
    put(
        "scaled_dot_product_attention",
        "attention",
        "query key value attn_mask dropout_p is_causal scale enable_gqa",
        rows="kept",
    )
    pooled: dict[str, Any] = {"channel": 1, "rows": "kept"}
    put(
        "max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d",
        "pooling",
        "input kernel_size stride padding",
        **pooled,
    )
    put("lp_pool1d lp_pool2d lp_pool3d", "pooling", "input norm_type kernel_size", **pooled)
    put("fractional_max_pool2d fractional_max_pool3d", "pooling", "input kernel_size", **pooled)
    put("adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d", "pooling", **pooled)
    put("adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d", "pooling", **pooled)
    put(
        "interpolate upsample grid_sample pixel_shuffle pixel_unshuffle fold unfold",
        "resampling",
        channel=1,
        rows="kept",
    )
    put(
        "dropout alpha_dropout feature_alpha_dropout dropout1d dropout2d dropout3d",
        "dropout",
        "input p training inplace",
        rows="kept",
    )
    put("add sub mul div", "arithmetic", "input other", rows="kept")
    put("neg addcmul addcdiv lerp", "arithmetic", rows="kept")
    put(
        "pow maximum minimum gt ge lt le eq ne logaddexp atan2 fmod remainder",
        "elementwise",
        "input other",
        rows="kept",
    )
    put(
        "exp expm1 log log1p sqrt rsqrt square reciprocal sign sinh cosh atan floor ceil round "
        "erfc erfinv clamp clamp_min clamp_max masked_fill nan_to_num sinc",
        "elementwise",
        rows="kept",
    )
    put("where", "elementwise", "condition input other", rows="kept")
    put(
        "sum mean amax amin max min prod var std norm logsumexp cumsum cumprod sort argsort "
        "argmax argmin index_add scatter_add scatter_reduce",
        "reduction",
        "input dim",
    )
    put(
        "view reshape contiguous clone detach flatten unflatten squeeze unsqueeze view_as",
        "reshape",
    )
    put(
        "unbind transpose permute swapaxes movedim t expand expand_as repeat repeat_interleave "
        "getitem select narrow index_select gather take_along_dim roll flip tril triu pad "
        "cat concat stack hstack vstack",
        "structural",
    )
    put("chunk split tensor_split", "split", "input split dim")
    put("to float bfloat16 half double type_as type", "cast", rows="kept")
    put(
        "cross_entropy nll_loss mse_loss l1_loss smooth_l1_loss huber_loss kl_div "
        "binary_cross_entropy binary_cross_entropy_with_logits",
        "loss",
        "input target",
        rows="mixed",
    )
    return table


TABLE: Mapping[str, Operation] = _build()

# other names of the same operation: of Python's operators, of aten, of older torch
_ALIASES = {
    "special_erf": "erf",
    "special_erfc": "erfc",
    "swish": "silu",
    "absolute": "abs",
    "expit": "sigmoid",
    "special_expit": "sigmoid",
    "special_softmax": "softmax",
    "special_log_softmax": "log_softmax",
    "log_sigmoid": "logsigmoid",
    "linalg_matmul": "matmul",
    "native_batch_norm": "batch_norm",
    "cudnn_batch_norm": "batch_norm",
    "native_group_norm": "group_norm",
    "fused_rms_norm": "rms_norm",
    "max_pool2d_with_indices": "max_pool2d",
    "multiply": "mul",
    "subtract": "sub",
    "divide": "div",
    "true_divide": "div",
    "truediv": "div",
    "negative": "neg",
    "greater": "gt",
    "less": "lt",
    "concatenate": "concat",
}
for _name in ("add", "sub", "mul", "div", "truediv", "pow", "matmul"):
    # x + y may arrive as __radd__ or __iadd__
    _ALIASES["r" + _name] = _ALIASES["i" + _name] = _ALIASES.get(_name, _name)

# Python functions of torch that hide layers of their own; the recorder looks inside
COMPOSITE = frozenset({"multi_head_attention_forward"})

# classes of modules that compute an activation or a norm by hand
ACTIVATION_MODULE = re.compile(r"(gelu|silu|relu|swish|mish|activation$|^tanh$|sigmoid$)", re.I)
NORM_MODULE = re.compile(r"norm", re.I)

# the arguments of these come in another order than those of their namesakes in nn.functional
_ORDERS: dict[Any, tuple[str, ...]] = {
    torch.embedding: _words("weight input padding_idx scale_grad_by_freq sparse"),
    torch.embedding_bag: _words(
        "weight input offsets scale_grad_by_freq mode sparse per_sample_weights "
        "include_last_offset padding_idx"
    ),
    torch.batch_norm: _words(
        "input weight bias running_mean running_var training momentum eps cudnn_enabled"
    ),
    torch.instance_norm: _words(
        "input weight bias running_mean running_var use_input_stats momentum eps cudnn_enabled"
    ),
}
# what aten calls the arguments that torch calls otherwise
_SCHEMA_NAMES = {"self": "input", "x": "input"}


@functools.lru_cache(maxsize=4096)
def canonical(func: Callable[..., Any]) -> str:
    """Plain name of a torch function.

    Parameters
    ----------
    func : callable
        As a function mode or a graph of aten operators meets it.

    Returns
    -------
    str
        ``torch.relu_``, ``Tensor.relu`` and ``aten.relu.default`` agree: ``"relu"``. A function
        that is not in :data:`TABLE` keeps its own name, without underscores around it.
    """
    name = getattr(func, "__name__", "") or ""
    overload = getattr(func, "overloadpacket", None)
    if overload is not None:
        name = getattr(overload, "__name__", name)
    name = name.split(".")[0].strip("_")
    return _ALIASES.get(name, name)


def operation_of(func: Callable[..., Any]) -> Operation | None:
    """What a torch function is, None if it is not in the table."""
    return TABLE.get(canonical(func))


def bind(
    func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """The arguments of a call by name, in whatever order the function takes them.

    Parameters
    ----------
    func : callable
        A torch function, a method of tensors, or an overload of aten.
    args, kwargs
        What it is called with.

    Returns
    -------
    dict
        Keyed by the names of :attr:`Operation.arguments`. The operands of ``einsum`` are
        ``"operand0"``, ``"operand1"``, ... Arguments beyond the known ones are left out.
    """
    name = canonical(func)
    if name == "einsum":
        return _bind_einsum(args, kwargs)
    schema = getattr(func, "_schema", None)
    from_aten = schema is not None or func in _ORDERS
    if schema is not None:
        names = tuple(argument.name for argument in schema.arguments)
    else:
        names = _ORDERS.get(func) or (TABLE[name].arguments if name in TABLE else ("input",))
    renamed = _SCHEMA_NAMES | ({"indices": "input"} if name.startswith("embedding") else {})
    found = dict(zip(names, args)) | dict(kwargs)
    found = {renamed.get(key, key): value for key, value in found.items()}
    if from_aten and name.startswith("embedding") and found.get("padding_idx", 0) < 0:
        found["padding_idx"] = None  # which aten calls a negative number
    if getattr(func, "__name__", "") == "__rmatmul__" and len(args) == 2:
        found = {"input": args[1], "other": args[0]}
    return found


def _bind_einsum(args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    operands = args[1:]
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = operands[0]
    numbered = {f"operand{index}": value for index, value in enumerate(operands)}
    return {"equation": args[0] if args else None, **numbered, **kwargs}

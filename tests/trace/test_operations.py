"""The table of operations: names, arguments and fan-ins, against torch itself."""

from __future__ import annotations

import inspect

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kadanoff.trace.fans import fans_of, find_weight, layout_of, shape_fans
from kadanoff.trace.operations import TABLE, bind, canonical, operation_of

aten = torch.ops.aten


@pytest.mark.parametrize(
    ("functions", "name"),
    [
        ([torch.relu, torch.relu_, F.relu, Tensor.relu_, aten.relu.default], "relu"),
        ([torch.add, Tensor.add_, Tensor.__radd__, Tensor.__iadd__, aten.add.Tensor], "add"),
        ([torch.matmul, Tensor.__matmul__, Tensor.__rmatmul__, torch.linalg.matmul], "matmul"),
        ([torch.div, Tensor.__truediv__, torch.true_divide, torch.divide], "div"),
        ([F.silu, aten.silu.default], "silu"),
        ([torch.special.expit, torch.sigmoid, F.sigmoid], "sigmoid"),
        ([F.max_pool2d], "max_pool2d"),
        ([F.batch_norm, torch.batch_norm, aten.native_batch_norm.default], "batch_norm"),
    ],
)
def test_one_operation_has_one_name(functions, name):
    assert {canonical(function) for function in functions} == {name}
    assert TABLE[name].name == name


def test_arguments_are_those_of_torch():
    """Every Python function of nn.functional in the table takes the arguments it is said to."""
    looked_at = 0
    for name, operation in TABLE.items():
        function = getattr(F, name, None)
        if not inspect.isfunction(function) or function.__name__ != name:
            continue
        names = list(inspect.signature(function).parameters)
        if names[:1] == ["args"]:  # the dispatching poolings
            continue
        looked_at += 1
        assert list(operation.arguments) == names[: len(operation.arguments)], name
    assert looked_at > 30


def test_every_order_of_arguments_binds_to_the_same_names():
    table, index = torch.randn(5, 3), torch.tensor([1, 2])
    for function, args in (
        (F.embedding, (index, table)),
        (torch.embedding, (table, index, -1)),
        (aten.embedding.default, (table, index, -1)),
    ):
        found = bind(function, args, {})
        assert found["input"] is index
        assert found["weight"] is table
        assert found.get("padding_idx") is None
    x, mean, gain = torch.randn(4, 3), torch.zeros(3), torch.ones(3)
    for function, args in (
        (F.batch_norm, (x, mean, mean, gain, None)),
        (torch.batch_norm, (x, gain, None, mean, mean, False, 0.1, 1e-5, False)),
        (aten.batch_norm.default, (x, gain, None, mean, mean, False, 0.1, 1e-5, False)),
    ):
        found = bind(function, args, {})
        assert found["weight"] is gain
        assert found["running_mean"] is mean
    bias, W = torch.zeros(2), torch.randn(3, 2)
    for function in (torch.addmm, aten.addmm.default):
        found = bind(function, (bias, x, W), {"alpha": 1})
        for key, value in (("input", bias), ("mat1", x), ("mat2", W)):
            assert found[key] is value


def sums_over(function, args: tuple, weight: Tensor) -> float:
    """Number of weights that one output entry depends on: the fan-in, by autograd."""
    weight.requires_grad_(True)
    out = function(*args)
    middle = tuple(size // 2 for size in out.shape)
    (gradient,) = torch.autograd.grad(out[middle], weight)
    return int((gradient != 0).sum())


def conv_cases():
    x1, x2, x3 = torch.rand(2, 4, 9) + 1, torch.rand(2, 4, 7, 7) + 1, torch.rand(1, 2, 5, 5, 5) + 1
    return [
        (F.conv1d, (x1, torch.rand(6, 4, 3)), 6),
        (F.conv2d, (x2, torch.rand(6, 2, 3, 2), None, 1, 0, 1, 2), 6),
        (F.conv3d, (x3, torch.rand(3, 2, 3, 3, 3)), 3),
        (F.conv2d, (x2, torch.rand(4, 1, 3, 3), None, 1, 0, 1, 4), 4),
        (F.conv_transpose2d, (x2, torch.rand(4, 3, 2, 2), None, 1), 3),
        (F.conv_transpose2d, (x2, torch.rand(4, 3, 2, 2), None, 1, 0, 0, 2), 6),
    ]


@pytest.mark.parametrize(("function", "args", "out"), conv_cases())
def test_fans_of_convolutions(function, args, out):
    operation = operation_of(function)
    arguments = bind(function, args, {})
    weight = find_weight(operation, arguments, lambda t: False)
    assert weight == "weight"
    assert fans_of(operation, arguments, weight) == (sums_over(function, args, args[1]), out)


def product_cases():
    x, W = torch.rand(5, 4) + 1, torch.rand(4, 3)
    heads = torch.rand(2, 4, 3)  # (heads, in, out)
    return [
        (F.linear, (x, torch.rand(3, 4)), 1, 3),
        (F.bilinear, (x, x, torch.rand(3, 4, 4)), 2, 3),
        (torch.matmul, (x, W), 1, 3),
        (torch.matmul, (torch.rand(3, 5), x), 0, 3),
        (torch.mm, (x, W), 1, 3),
        (torch.addmm, (torch.zeros(3), x, W), 2, 3),
        (torch.addmm, (torch.zeros(4), torch.rand(3, 5), x), 1, 3),
        (torch.bmm, (torch.rand(2, 5, 4), heads), 1, 3),
        (torch.einsum, ("bi,io->bo", x, W), 2, 3),
        (torch.einsum, ("bi,oi->bo", x, torch.rand(3, 4)), 2, 3),
        (torch.einsum, ("bi,hid->bhd", x, heads), 2, 6),
        (torch.einsum, ("bhi,hio->bho", torch.rand(5, 2, 4), heads), 2, 3),
        (torch.einsum, ("hid,bhd->bi", torch.rand(2, 4, 3), torch.rand(5, 2, 3)), 1, 4),
        (torch.einsum, ("bi,io", x, W), 2, 3),
        (torch.tensordot, (x, W, ([1], [0])), 1, 3),
        (torch.tensordot, (torch.rand(5, 2, 4), heads, ([1, 2], [0, 1])), 1, 3),
    ]


@pytest.mark.parametrize(("function", "args", "position", "out"), product_cases())
def test_fans_of_products_follow_the_side_the_weight_stands_on(function, args, position, out):
    operation = operation_of(function)
    arguments = bind(function, args, {})
    W = args[position]
    weight = find_weight(operation, arguments, lambda t: t is W)
    assert arguments[weight] is W
    assert fans_of(operation, arguments, weight) == (sums_over(function, args, W), out)


def test_a_lookup_sums_over_nothing():
    arguments = bind(F.embedding, (torch.tensor([0]), torch.randn(7, 3)), {})
    assert fans_of(TABLE["embedding"], arguments, "weight") == (1, 3)


def test_layout_by_the_module_that_holds_the_weight():
    transposed = torch.nn.ConvTranspose2d(6, 4, 2, groups=2)
    assert layout_of(transposed) == "in_out"
    assert shape_fans("in_out", transposed.weight.shape, transposed.groups) == (12, 4)
    assert layout_of(torch.nn.Embedding(5, 3)) == "table"
    assert layout_of(torch.nn.Conv2d(3, 2, 3)) == "out_in"


def samples_mix(function, x: Tensor) -> bool:
    """Whether sample 0 of the output changes with sample 1 of the input."""
    x = x.requires_grad_(True)
    out = function(x)
    (gradient,) = torch.autograd.grad(out[0].double().square().sum(), x)
    return bool(gradient[1:].abs().max() > 1e-12)


def test_rows_are_kept_where_the_table_says_so():
    """One call of everything that takes a single argument or has a simple form."""
    torch.manual_seed(0)
    forms = {
        "group_norm": lambda x: F.group_norm(x, 2),
        "layer_norm": lambda x: F.layer_norm(x, x.shape[-1:]),
        "rms_norm": lambda x: F.rms_norm(x, x.shape[-1:]),
        "max_pool2d": lambda x: F.max_pool2d(x, 2),
        "avg_pool2d": lambda x: F.avg_pool2d(x, 2),
        "interpolate": lambda x: F.interpolate(x, scale_factor=2),
        "local_response_norm": lambda x: F.local_response_norm(x, 2),
        "threshold": lambda x: F.threshold(x, 0.0, 0.0),
        "prelu": lambda x: F.prelu(x, torch.tensor([0.1])),
    }
    tried = 0
    for name, operation in TABLE.items():
        simple = operation.family == "activation" and operation.arguments == ("input",)
        function = forms.get(name, getattr(torch, name, getattr(F, name, None)) if simple else None)
        if function is None or name == "native_layer_norm":
            continue
        tried += 1
        assert operation.rows == "kept"
        assert not samples_mix(function, torch.randn(3, 4, 6, 6)), name
    assert tried > 30
    assert samples_mix(lambda x: F.batch_norm(x, None, None, training=True), torch.randn(3, 4))
    assert TABLE["batch_norm"].rows != "kept"

"""What a model may do to its weights that has no law: named, drawn, or refused in words."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import kadanoff as kd
from kadanoff.errors import UsageError
from kadanoff.program import Law
from tests.program.test_operations import Uses, hold_together, rows


class Doubled(torch.autograd.Function):
    """2 x Wᵀ with a backward of its own."""

    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return 2 * x @ w.T

    @staticmethod
    def backward(ctx, delta):
        x, w = ctx.saved_tensors
        return 2 * delta @ w, 2 * delta.flatten(0, -2).T @ x.flatten(0, -2)


@torch.library.custom_op("kadanoff_tests::twice", mutates_args=())
def twice(w: torch.Tensor) -> torch.Tensor:
    return 2 * w


twice.register_autograd(lambda ctx, delta: 2 * delta)


def test_autograd_functions_and_operators_of_the_users_own_get_numbers():
    module = Uses((9, 11), lambda w, x: Doubled.apply(x, w))
    hold_together(module, rows(2, 3, 11), drawn={"weight"})
    module = Uses((9, 11), lambda w, x: F.linear(x, torch.ops.kadanoff_tests.twice(w)))
    hold_together(module, rows(2, 3, 11), drawn={"weight"})
    ens = kd.ensemble(module.float(), rows(2, 11).float(), 2, laws={"weight": Law(std=0.1)})
    assert "twice" in ens.drawn["weight"]
    assert torch.autograd.Function.apply.__func__.__name__ == "apply"


def test_control_flow_may_depend_on_data_and_differ_between_networks():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate, self.one, self.two = (nn.Linear(6, 6) for _ in range(3))

        def forward(self, x):
            return self.one(x) if self.gate(x).sum() > 0 else self.two(x)

    ens = kd.ensemble(Gated(), rows(3, 6).float(), 24)
    counts = [ens.calls.get(f"{name}:linear", {}).get("mean") for name in ("one", "two")]
    assert sum(q.n for q in counts if q is not None) == 24
    assert all(q is not None and 0 < q.n < 24 for q in counts)


def test_a_quantised_layer_is_named():
    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("weight", torch.ones(4, 4, dtype=torch.int8))

        def forward(self, x):
            return x @ self.weight.float()

    Packed.__name__ = "QLinear"
    model = nn.Sequential(nn.Linear(4, 4), Packed())
    ens = kd.ensemble(model, rows(2, 4).float(), 2)
    assert "1 (QLinear) keeps its weight in another form" in ens.notes[0]
    assert ens.notes[0] in str(ens)


def test_sharded_and_lazy_parameters_are_refused_in_words():
    class DTensor(nn.Parameter):
        device_mesh = None

    model = nn.Linear(4, 4)
    sharded = DTensor(model.weight.detach())
    model.weight = sharded
    with pytest.raises(UsageError, match="sharded over processes"):
        kd.ensemble(model, rows(2, 4).float(), 2)
    with pytest.raises(UsageError, match="no shape yet"):
        kd.ensemble(nn.LazyLinear(3), rows(2, 4).float(), 2)


def test_buffers_lost_on_the_meta_device_are_named_or_computed_again():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.map = nn.Linear(4, 4)
            self.register_buffer("mask", torch.ones(4))

        def forward(self, x):
            return self.map(x) * self.mask

    with torch.device("meta"):
        model = Masked()
        normed = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).eval()
    x = rows(2, 4).float()
    with pytest.raises(UsageError, match="buffers mask are on the meta device"):
        kd.ensemble(model, x, 2)
    assert kd.ensemble(Masked, x, 2).loss.value != 0
    laws = {"0.weight": Law(std=0.5), "0.bias": Law.constant(0.0)}
    assert kd.ensemble(normed, x, 2, laws=laws)["0"]


@pytest.mark.parametrize("name", ["weight_norm", "spectral_norm", "orthogonal"])
def test_parametrised_weights_are_computed_from_drawn_ones(name):
    from torch.nn.utils import parametrizations

    model = nn.Sequential(getattr(parametrizations, name)(nn.Linear(6, 6)), nn.Linear(6, 2))
    ens = kd.ensemble(model, rows(3, 6).float(), 3)
    assert set(ens.gradients) == {n for n, _ in model.named_parameters()}
    assert not model.training or ens.loss.spread > 0


def test_narrow_types_run():
    narrow = nn.Sequential(nn.Linear(6, 40), nn.GELU(), nn.Linear(40, 3)).bfloat16()
    assert kd.ensemble(narrow, rows(3, 6), 2)["2"]["second_moment"].value > 0

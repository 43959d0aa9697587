"""The screen of the first matrix never leaves out a neuron that fires, and pays by leaving out
most of the others."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from kadanoff.sparsity import Threshold, TopK, TopKMLP, accelerate, acceleration_of, sparsify
from kadanoff.sparsity.backends import available, load
from kadanoff.sparsity.blocks import find_blocks, recipe_of
from kadanoff.sparsity.inputs import examples
from kadanoff.sparsity.screen import can_screen, make_screen
from kadanoff.sparsity.skip import SkipBlock

pytestmark = pytest.mark.skipif(
    "numba" not in available(torch.device("cpu")), reason="needs the extra [sparse]"
)


def left(weight, bias, x, k=0, tau=0.0):
    """Neurons that the screen leaves."""
    return load("numba").Screened(make_screen(weight, bias), k, tau).rows(x)


def screened(model, x):
    (block,), _ = find_blocks(model, examples(x)[0])
    assert block.whole
    assert can_screen(recipe_of(block.program))
    return SkipBlock(model.get_submodule(block.owner), block, "numba", screen=True)


@settings(max_examples=150, deadline=None)
@given(
    d=st.integers(1, 200), m=st.integers(1, 150), seed=st.integers(0, 2**20),
    tails=st.sampled_from([0.0, 1.0, 4.0]), size=st.sampled_from([1e-30, 1e-3, 1.0, 1e6, 1e18]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]), aligned=st.booleans(),
)  # fmt: skip
def test_no_active_neuron_is_left_out(d, m, seed, tails, size, dtype, aligned):
    """Weights of any tails and scale; also inputs along what the eight bits leave out of a row,
    where the inequality is an equality and the preactivation is made to be a hair above zero."""
    g = torch.Generator().manual_seed(seed)
    weight = torch.randn(m, d, generator=g) * torch.exp(tails * torch.randn(m, d, generator=g))
    weight = (weight * size).to(dtype)
    x = torch.randn(d, generator=g)
    if aligned:
        screen = make_screen(weight, None)
        x = (weight[0].double() - screen.scale[0] * screen.codes[0].double()).float()
        x = x / x.abs().max().clamp(min=1e-38)
    x = x.to(dtype)
    z = weight.double() @ x.double()
    # every second neuron a hair above zero, the others a hair below
    hair = 1e-5 * (weight.double().abs() @ x.double().abs())
    bias = (-z + hair * (1 - 2 * (torch.arange(m) % 2))).to(dtype)
    z = nn.functional.linear(x, weight, bias)
    rows = left(weight, bias, x)
    assert set((z > 0).nonzero().squeeze(1).tolist()) <= set(rows.tolist())
    assert rows.tolist() == sorted(set(rows.tolist()))
    k = 1 + m // 5
    best = torch.relu(z).topk(min(k, m))
    rows = set(left(weight, bias, x, k).tolist())
    least = max(0.0, float(best.values[-1]))
    assert {int(i) for i, v in zip(best.indices, best.values) if v > least} <= rows
    assert len(rows) >= min(k, int((z > 0).sum()))


def test_what_the_codes_of_an_input_leave_out_is_allowed_for():
    """Inputs half a code off along every weight: the estimate is wrong by all that ‖ŵ‖ allows."""
    g = torch.Generator().manual_seed(0)
    d = 32
    weight = torch.randint(100, 127, (40, d), generator=g) * torch.randn(40, d, generator=g).sign()
    weight[:, 0] = 127.0  # so that the eight bits hold the rest exactly
    for row in range(len(weight)):
        codes = torch.randint(20_000, 32_000, (d,), generator=g) * torch.sign(weight[row])
        codes[::2] *= -1
        codes[0] = 32_767
        x = (codes + 0.45 * weight[row].sign() * (torch.arange(d) > 0)).float()
        exact = float(weight[row].double() @ x.double())
        bias = torch.full((40,), -1e6 * d)
        # the next number up: this neuron fires by less than rounding
        bias[row] = torch.nextafter(torch.tensor(-exact), torch.tensor(torch.inf))
        assert exact + float(bias[row]) > 0
        assert row in left(weight, bias, x).tolist()


def test_rounding_of_the_dense_sum_is_allowed_for():
    """Weights and inputs without any coding error: what the dense sum rounds up still fires."""
    g = torch.Generator().manual_seed(0)
    half, m = 256, 4000
    levels = make_screen(torch.ones(1, 2 * half), None).levels
    x = torch.randint(-levels, levels + 1, (half,), generator=g).float()
    x[0] = levels
    weight = torch.randint(-120, 121, (m, half), generator=g).float()
    weight[:, 0] = 127.0
    # large sums that all but cancel
    change = torch.randint(-3, 4, (m, half), generator=g)
    weight = torch.cat([weight, (change - weight).clamp(-127, 127)], 1)
    x = torch.cat([x, x])
    exact = weight.double() @ x.double()
    bias = (-exact - 0.5).float()
    assert bool((exact + bias.double() < -0.4).all())
    fires = (nn.functional.linear(x, weight, bias) > 0).nonzero().squeeze(1).tolist()
    assert len(fires) > 20
    assert set(fires) <= set(left(weight, bias, x).tolist())


def test_most_of_the_inactive_are_left_out():
    """Gaussian weights: the error bound is a quarter of a preactivation's standard deviation."""
    g = torch.Generator().manual_seed(0)
    d, m = 1024, 4096
    weight = torch.randn(m, d, generator=g) / d**0.5
    x = torch.randn(d, generator=g)
    for active, most in ((0.1, 0.16), (0.02, 0.04)):
        shift = float(torch.distributions.Normal(0, 1).icdf(torch.tensor(active)))
        part = len(left(weight, torch.full((m,), shift), x)) / m
        assert active * 0.8 < part < most
    # a Top-k loses the bound twice, as its k-th largest is known by a bound only
    assert len(left(weight, None, x, k=m // 32)) < 0.1 * m


def test_not_a_number_and_infinity_stay():
    weight, bias = torch.randn(20, 8), torch.full((20,), -100.0)
    assert len(left(weight, bias, torch.ones(8))) == 0
    for bad in (float("nan"), float("inf"), -float("inf")):
        x = torch.ones(8)
        x[3] = bad
        assert len(left(weight, bias, x)) == 20
        other = weight.clone()
        other[5, 2] = bad
        assert 5 in left(other, bias, torch.ones(8)).tolist()


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    d=st.integers(1, 130), m=st.integers(2, 200), gated=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]), seed=st.integers(0, 2**20),
    density=st.sampled_from([0.0, 0.1, 0.5, 1.0]), part=st.sampled_from([None, 0.05, 0.5]),
)  # fmt: skip
def test_block_equals_the_unscreened_one(d, m, gated, dtype, seed, density, part):
    """Bit for bit where sums run in the same order, to rounding else; Top-k and gates too."""
    g = torch.Generator().manual_seed(seed)
    k = None if part is None else max(1, int(part * m))
    model = TopKMLP(d, m, k, gated=gated)
    shift = {0.0: -1e4, 0.1: -1.28, 0.5: 0.0, 1.0: 1e4}[density]
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=g) / p.shape[-1] ** 0.5)
        (model.gate if gated else model.up).bias.fill_(shift)
    model = model.to(dtype).eval()
    x = torch.randn(12, d, generator=g).to(dtype)
    with torch.no_grad():
        forward = screened(model, x)
        y = model(x)
        scale = float(y.float().abs().max()) + abs(shift) * float(model.down.weight.abs().max())
        for row, expected in zip(x, y):
            error = (forward(row[None])[0].float() - expected.float()).abs().max()
            assert float(error) <= (3e-5 if dtype == torch.float32 else 3e-2) * (scale + 1)


def test_squared_relu_and_thresholds_are_screened_and_others_are_not():
    class Squared(nn.Module):
        def __init__(self, power=2):
            super().__init__()
            self.a, self.b, self.power = nn.Linear(30, 90), nn.Linear(90, 11), power

        def forward(self, x):
            return self.b(torch.relu(self.a(x)) ** self.power)

    torch.manual_seed(0)
    x = torch.randn(40, 30)
    with torch.no_grad():
        models = [
            Squared().eval(),
            nn.Sequential(nn.Linear(30, 90), nn.ReLU(), Threshold(0.4), nn.Linear(90, 11)).eval(),
            nn.Sequential(nn.Linear(30, 90), nn.ReLU(), TopK(7), nn.Linear(90, 11)).eval(),
        ]
        for model in models:
            forward = screened(model, x)
            for row in x:
                torch.testing.assert_close(forward(row[None]), model(row[None]))
        for model in (
            Squared(0).eval(),  # 1 where the neuron is silent
            sparsify(TopKMLP(30, 90, activation=nn.SiLU()).eval(), "threshold", 0.8, data=x),
        ):
            (block,), _ = find_blocks(model, examples(x)[0])
            assert not can_screen(recipe_of(block.program))


def test_threads_and_choice():
    """With several threads the parts make the same whole; the report names a screened block."""
    backend = load("numba")
    before, size = torch.get_num_threads(), backend.BYTES_PER_THREAD
    torch.manual_seed(0)
    model = TopKMLP(64, 512, 20).eval()
    x = torch.randn(6, 64)
    try:
        torch.set_num_threads(3)
        backend.BYTES_PER_THREAD = 64
        with torch.no_grad():
            forward = screened(model, x)
            for row in x:
                torch.testing.assert_close(forward(row[None]), model(row[None]))
    finally:
        torch.set_num_threads(before)
        backend.BYTES_PER_THREAD = size
    wide = TopKMLP(512, 4096, 40).eval()
    fast = accelerate(wide, torch.randn(16, 512), backend="numba", force=True)
    (choice,) = acceleration_of(fast).blocks
    plain = accelerate(wide, torch.randn(16, 512), backend="numba", force=True, screen=False)
    assert acceleration_of(plain).blocks[0].scope == "block"
    assert choice.choice == "numba"
    assert choice.scope in ("block", "screened block")
    if choice.scope == "screened block":
        assert "2.0 MiB" in acceleration_of(fast).notes[0]

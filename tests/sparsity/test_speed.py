"""Accelerated models equal dense ones; bad calls say what is wrong."""

from __future__ import annotations

import copy
import itertools
import statistics

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from kadanoff.errors import AnalysisError, UsageError
from kadanoff.sparsity import (
    Threshold,
    TopK,
    TopKMLP,
    accelerate,
    acceleration_of,
    calibrate,
    restore,
    sparsification_of,
    sparsify,
    speed,
    threshold,
    topk,
)
from kadanoff.sparsity.backends import available, load
from kadanoff.sparsity.blocks import find_blocks, recipe_of
from kadanoff.sparsity.calibrate import Timing
from kadanoff.sparsity.inputs import examples
from kadanoff.sparsity.plans import BlockPlan
from kadanoff.sparsity.predictor import fit_predictor
from kadanoff.sparsity.skip import UnionCosts

BACKENDS = available(torch.device("cpu"))


def close(a: torch.Tensor, b: torch.Tensor, scale: torch.Tensor | None = None) -> bool:
    """Equal to the rounding of sums of some thousand terms in the tensors' dtype."""
    size = (b if scale is None else scale).float().abs().max() + 1e-6
    tolerance = 3e-5 if a.dtype == torch.float32 else 3e-2
    return bool(((a.float() - b.float()).abs() <= tolerance * size).all())


def block(d, m, gated, bias, dtype, seed, density):
    """A ReLU block in which about a fraction ``density`` fires, 0 and 1 exactly."""
    generator = torch.Generator().manual_seed(seed)
    model = nn.Sequential(TopKMLP(d, m, gated=gated, bias=True))
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) / p.shape[-1] ** 0.5)
            if p.ndim == 1 and not bias:
                p.zero_()
        first = model[0].gate if gated else model[0].up
        shift = {0.0: -1e4, 1.0: 1e4}.get(density)
        if shift is None:
            shift = float(torch.distributions.Normal(0, 1).icdf(torch.tensor(density)))
        first.bias.fill_(shift)
    return model.to(dtype).eval(), generator


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    d=st.integers(1, 130), m=st.integers(1, 200), gated=st.booleans(), bias=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]), seed=st.integers(0, 2**20),
    density=st.sampled_from([0.0, 0.02, 0.2, 0.5, 0.9, 1.0]), tokens=st.sampled_from([1, 2, 3, 8]),
)  # fmt: skip
def test_equals_dense(backend, d, m, gated, bias, dtype, seed, density, tokens):
    model, generator = block(d, m, gated, bias, dtype, seed, density)
    x = torch.randn(24, d, generator=generator).to(dtype)
    fast = accelerate(model, x, backend=backend, force=True)
    assert acceleration_of(fast).blocks[0].choice == backend
    assert acceleration_of(fast).exact
    with torch.no_grad():
        y = model(x[:tokens])
        # the size of the terms summed, as the sum itself may cancel
        scale = y.abs().max() + model[0].down.bias.abs().max()
        if density == 1.0:
            scale = scale + 1e4 * model[0].down.weight.abs().max()
        if density == 0.0:
            assert torch.equal(fast(x[:tokens]), y)
        assert close(fast(x[:tokens]), y, scale)
        assert close(fast(x[:tokens].unsqueeze(1)), y.unsqueeze(1), scale)


@pytest.mark.parametrize("backend", BACKENDS)
def test_topk_and_thresholds_equal_dense(backend):
    torch.manual_seed(0)
    for model in (
        nn.Sequential(nn.Linear(40, 160), nn.ReLU(), TopK(12), nn.Linear(160, 30)),
        TopKMLP(40, 160, 9, gated=True),
        TopKMLP(40, 160, 9, activation=nn.GELU()),
    ):
        x = torch.randn(20, 40)
        fast = accelerate(model.eval(), x, backend=backend, force=True)
        with torch.no_grad():
            for count in (1, 4):
                assert close(fast(x[:count]), model(x[:count]))
    silu = TopKMLP(40, 160, activation=nn.SiLU(), gated=True).eval()
    x = torch.randn(50, 40)
    sparse = sparsify(silu, "threshold", 0.8, data=x)
    fast = accelerate(sparse, x, backend=backend, force=True)
    assert acceleration_of(fast).blocks[0].active == pytest.approx(0.2, abs=0.05)
    with torch.no_grad():
        assert close(fast(x[:1]), sparse(x[:1]))


def test_threads_give_the_same_numbers():
    backend = load("numba")
    before, size = torch.get_num_threads(), backend.BYTES_PER_THREAD
    generator = torch.Generator().manual_seed(1)
    weight, bias = torch.randn(301, 64, generator=generator), torch.randn(301, generator=generator)
    x, values = torch.randn(64, generator=generator), torch.randn(150, generator=generator)
    rows = torch.randperm(301, generator=generator)[:150].sort().values
    out = torch.randn(64, generator=generator)
    try:
        results = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            backend.BYTES_PER_THREAD = 64
            results.append(
                (backend.matvec(weight, bias, x), backend.matvec_rows(weight, bias, x, rows),
                 backend.combine(weight, rows, values, out),
                 backend.combine_union(weight, rows, torch.randn(3, 301, generator=torch.Generator()
                                       .manual_seed(2)), out))
            )  # fmt: skip
    finally:
        torch.set_num_threads(before)
        backend.BYTES_PER_THREAD = size
    for one, three in zip(*results):
        torch.testing.assert_close(one, three, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(results[0][0], weight @ x + bias, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(results[0][2], values @ weight[rows] + out, rtol=1e-4, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(m=st.integers(1, 300), k=st.integers(1, 320), seed=st.integers(0, 2**20),
       few=st.booleans())  # fmt: skip
def test_compiled_selection_is_topk(m, k, seed, few):
    """The k largest, of equal ones the first; few distinct values make ties common."""
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(m, generator=generator) * 10.0 ** (4 * torch.randn(m, generator=generator))
    if few:
        a = torch.randint(-2, 3, (m,), generator=generator).float()
    fused = load("numba").Fused(None, None, (torch.eye(m), None), k, 0.0)
    assert torch.equal(fused(a, a), topk(a, min(k, m)))
    tau = float(a.abs().median())
    fused = load("numba").Fused(None, None, (torch.eye(m), None), 0, tau)
    assert torch.equal(fused(a, a), threshold(a, tau))


def test_programs_are_taken_apart():
    """Top-k and thresholds leave the program, and what remains gives the same activations."""
    torch.manual_seed(0)
    x = torch.randn(30, 24)
    plain = TopKMLP(24, 96).eval()
    gelu = TopKMLP(24, 96, activation=nn.GELU()).eval()
    cases = [
        (plain, None, 0, 0.0),
        (TopKMLP(24, 96, 7).eval(), None, 7, 0.0),
        (nn.Sequential(nn.Linear(24, 96), Threshold(0.3), nn.Linear(96, 5)), [], 0, 0.3),
        (TopKMLP(24, 96, 7, activation=nn.GELU()).eval(), ["gelu"], 7, 0.0),
        (sparsify(plain, "topk", 0.9, data=x), None, 10, 0.0),
        (sparsify(gelu, "topk", 0.9, data=x), ["gelu"], 10, 0.0),
        (sparsify(gelu, "threshold", 0.9, data=x), ["gelu"], 0, None),
    ]
    for model, head, k, tau in cases:
        (block,), _ = find_blocks(model.eval(), examples(x)[0])
        recipe = recipe_of(block.program)
        assert (None if recipe.head is None else recipe.head.names) == head
        assert recipe.k == k
        assert (recipe.tau > 0) if tau is None else recipe.tau == tau
        z = nn.functional.linear(x, block.first.rows(), block.first.bias()).detach()
        a = torch.relu(z) if recipe.head is None else recipe.head(z)
        a = topk(a, recipe.k) if recipe.k else threshold(a, recipe.tau)
        assert torch.equal(a, block.program(z).detach())


def test_bfloat16_rounds_as_torch_does():
    backend = load("numba")
    values = torch.randn(4000, generator=torch.Generator().manual_seed(0)) * 10
    weight = torch.ones(4000, 1).bfloat16()
    z = backend.matvec(weight, values.bfloat16(), torch.ones(1).bfloat16())
    assert torch.equal(z, (values.bfloat16().float() + 1).bfloat16())


class Functional(nn.Module):
    """Residual and norm inside the owner, activation called as a function."""

    def __init__(self, d=32, m=128):
        super().__init__()
        self.a, self.b, self.n = nn.Linear(d, m), nn.Linear(m, d), nn.LayerNorm(d)

    def forward(self, x):
        return x + self.b(torch.relu(self.a(self.n(x))))


def test_second_matrix_alone_where_the_owner_does_more():
    torch.manual_seed(0)
    model = nn.Sequential(Functional(), Functional()).eval()
    x = torch.randn(10, 32)
    fast = accelerate(model, x, force=True)
    assert {choice.scope for choice in acceleration_of(fast).blocks} == {"second matrix"}
    with torch.no_grad():
        assert close(fast(x[:1]), model(x[:1]))
        assert not torch.equal(fast(x[:1]), torch.zeros(1, 32))
    assert list(fast.state_dict()) == list(model.state_dict())
    restore(fast)
    with torch.no_grad():
        assert torch.equal(fast(x[:1]), model(x[:1]))


def test_encoder_layer_and_its_fused_path():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(32, 4, 128, batch_first=True)
    model = nn.TransformerEncoder(layer, 2).eval()
    x = torch.randn(1, 6, 32)
    fast = accelerate(model, x, force=True)
    with torch.no_grad():
        assert close(fast(x[:, :1]), model(x[:, :1]))
    assert fast.layers[0].activation_relu_or_gelu == 0
    assert restore(fast).layers[0].activation_relu_or_gelu == 1


def test_new_weights_are_seen():
    torch.manual_seed(0)
    model = TopKMLP(16, 64).eval()
    x = torch.randn(8, 16)
    fast = accelerate(model, x, force=True)
    other = TopKMLP(16, 64).eval()
    fast.load_state_dict(other.state_dict())
    with torch.no_grad():
        assert close(fast(x[:1]), other(x[:1]))
    half = copy.deepcopy(fast).bfloat16()
    with torch.no_grad():
        assert close(half(x[:1].bfloat16()), other(x[:1]).bfloat16())


@pytest.mark.parametrize("backend", BACKENDS)
def test_inference_mode(backend):
    torch.manual_seed(0)
    with torch.inference_mode():
        model = TopKMLP(16, 64, 5, gated=True).eval()
        x = torch.randn(8, 16)
        fast = accelerate(model, x, backend=backend, force=True)
        assert close(fast(x[:1]), model(x[:1]))
        assert close(fast(x[:3]), model(x[:3]))


def test_gradients_are_dense_ones():
    torch.manual_seed(0)
    model = TopKMLP(16, 64).eval()
    x = torch.randn(1, 16, requires_grad=True)
    fast = accelerate(model, x.detach(), force=True)
    (dense,) = torch.autograd.grad(model(x).sum(), x)
    (sparse,) = torch.autograd.grad(fast(x).sum(), x)
    assert float(dense.abs().max()) > 0.1
    torch.testing.assert_close(sparse, dense, rtol=1e-5, atol=1e-6)


def test_predictor_is_held_under_its_tolerance():
    generator = torch.Generator().manual_seed(0)
    model = TopKMLP(64, 256).eval()
    # inputs near a subspace, biased off: what a predictor can learn
    basis = torch.randn(8, 64, generator=generator)
    x = torch.randn(400, 8, generator=generator) @ basis
    with torch.no_grad():
        model.up.bias.fill_(-2.0)
        fast = accelerate(
            model, x, predictor_rank=12, tolerance=0.05, force=True, backend=BACKENDS[-1]
        )
        choice = acceleration_of(fast).blocks[0]
        assert choice.predictor is not None
        assert not acceleration_of(fast).exact
        assert choice.predictor.predicted < 0.9
        fresh = torch.randn(200, 8, generator=generator) @ basis
        y = model(fresh)
        mine = torch.cat([fast(row[None]) for row in fresh])
        assert float((mine - y).norm() / y.norm()) < 0.05
        # a tolerance that a hundred held-out tokens cannot vouch for leaves the exact path: they
        # may all be served well, and the next token not
        strict = accelerate(model, x, predictor_rank=1, tolerance=1e-6, force=True)
        assert acceleration_of(strict).exact
        assert acceleration_of(strict).blocks[0].predictor is None
        exact = torch.cat([strict(row[None]) for row in fresh])
        assert float((exact - y).norm() / y.norm()) < 1e-5


def test_margin_of_a_predictor_is_chosen_on_other_tokens_than_it_is_judged_on():
    """Too low a rank, so that the margin matters: at every tolerance the tokens to choose it on
    keep some room, whatever the tokens of the report say."""
    generator = torch.Generator().manual_seed(1)
    model = TopKMLP(64, 256).eval()
    basis = torch.randn(8, 64, generator=generator)
    x = torch.randn(400, 8, generator=generator) @ basis
    a_quarter = torch.randperm(400, generator=torch.Generator().manual_seed(0))[200:300]
    found = 0
    with torch.no_grad():
        model.up.bias.fill_(-2.0)
        (block,), _ = find_blocks(model, examples(x)[0])
        active = torch.relu(model.up(x[a_quarter]))
        for tolerance in torch.linspace(0.02, 0.3, 29).tolist():
            guess = fit_predictor(block, x, 6, tolerance)
            if guess is None:
                continue
            score = x[a_quarter] @ guess.down.T @ guess.up.T + guess.bias
            lost = (active * (score <= -guess.margin)) @ model.down.weight.T
            assert lost.norm() <= 0.7 * tolerance * model.down(active).norm()
            assert guess.output_error <= tolerance
            found += 1
    assert found > 10


def test_bad_calls():
    model = TopKMLP(16, 64).eval()
    x = torch.randn(8, 16)
    with pytest.raises(UsageError, match="training mode"):
        accelerate(TopKMLP(16, 64), x)
    with pytest.raises(UsageError, match=r"'nowhere'.*blocks are: up"):
        accelerate(model, x, layers=["nowhere"])
    with pytest.raises(UsageError, match="back end"):
        accelerate(model, x, backend="fortran")
    with pytest.raises(UsageError, match="does not run on cpu"):
        accelerate(model, x, backend="triton")
    with pytest.raises(UsageError, match="both"):
        accelerate(model, x, predictor_rank=3)
    with pytest.raises(AnalysisError, match="No MLP block"):
        accelerate(nn.Linear(16, 4).eval(), x)
    with pytest.raises(UsageError, match="empty"):
        accelerate(model, x[:0])
    fast = accelerate(model, x, force=True)
    fast.train()
    with pytest.raises(UsageError, match="training mode"):
        fast(x[:1])


def test_dense_stays_where_it_is_faster(monkeypatch):
    """What is timed decides: the sparse path must win by 5%, and the whole model must not lose."""
    torch.manual_seed(0)
    model = nn.Sequential(TopKMLP(8, 16), TopKMLP(8, 16)).eval()
    x = torch.randn(8, 8)
    timings = [Timing(1.0, {"torch": 0.97}), Timing(1.0, {"torch": 0.9})]
    monkeypatch.setattr(speed, "time_blocks", lambda plans: timings)
    monkeypatch.setattr(speed, "_whole", lambda model, example: 1.0)
    fast = accelerate(model, x)
    assert [b.choice for b in acceleration_of(fast).blocks] == ["dense", "torch"]
    assert "faster" in acceleration_of(fast).blocks[0].reason
    assert "forward" not in vars(fast[0])
    assert "forward" in vars(fast[1])
    monkeypatch.setattr(speed, "_whole", lambda model, example: 1.05)
    slow = accelerate(model, x)
    assert [b.choice for b in acceleration_of(slow).blocks] == ["dense", "dense"]
    assert "1.05 times" in acceleration_of(slow).notes[0]
    assert all("forward" not in vars(module) for module in slow.modules())
    smooth = accelerate(TopKMLP(8, 16, activation=nn.GELU()).eval(), x, force=True)
    assert "sparsify" in acceleration_of(smooth).blocks[0].reason


def test_a_prefill_is_not_judged():
    """On more tokens than any block skips at, both models are the same and nothing is timed."""
    model = TopKMLP(8, 16).eval()
    fast = accelerate(model, torch.randn(64, 8), force=True)
    assert acceleration_of(fast).model_ratio == 1.0
    forward = vars(fast)["forward"]
    before = forward.skipped
    with torch.no_grad():
        assert torch.equal(fast(torch.ones(64, 8)), model(torch.ones(64, 8)))
        assert forward.skipped == before
        fast(torch.ones(1, 8))
    assert forward.skipped == before + 1


def test_few_tokens_only_where_their_union_pays(monkeypatch):
    """Seconds by the number of rows: what limits follow, and that they are obeyed."""
    costs = UnionCosts((2, 4, 8), (100.0, 50.0, 0.0))
    assert [costs.limit(t) for t in (1, 2, 3, 4, 5, 8, 9)] == [100, 100, 50, 50, 0, 0, 0]
    assert UnionCosts().limit(2) == 0
    model = TopKMLP(8, 64, 4).eval()
    x = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))
    (block,), _ = find_blocks(model, examples(x)[0])
    plan = BlockPlan(block, model, ["torch"])
    # the dense block takes 100, finding a union 10, and gathering 60 in all
    clock = itertools.cycle([100.0, 10.0, 60.0])
    monkeypatch.setattr(calibrate, "_seconds", lambda call, cuda: next(clock))
    found = calibrate.union_costs(plan, "torch")
    a = topk(torch.relu(model.up(x)), 4).detach()
    counts = [[int((a[(torch.arange(t) + n * t) % 40] != 0).any(0).sum()) for n in range(9)]
              for t in (2, 4, 8)]  # fmt: skip
    for limit, row in zip(found.rows, counts):
        assert limit == pytest.approx((95 - 10) / (50 / statistics.median(row)))
    clock = itertools.cycle([100.0, 10.0, 96.0])
    assert calibrate.union_costs(plan, "torch").rows == (0.0, 0.0, 0.0)


def test_reports_are_asked_for_and_nothing_hangs_on_the_model():
    x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    model = TopKMLP(8, 16, 4).eval()
    lean = sparsify(model, "threshold", 0.5, data=x)
    fast = accelerate(lean, x, force=True)
    assert vars(lean).keys() == vars(model).keys()
    assert vars(fast).keys() <= {*vars(model), "forward"}
    assert sparsification_of(fast) is sparsification_of(lean)
    for stranger in (model, copy.deepcopy(lean)):
        with pytest.raises(UsageError, match="the very model"):
            sparsification_of(stranger)
    with pytest.raises(UsageError, match="the very model"):
        acceleration_of(copy.deepcopy(fast))
    with pytest.raises(UsageError, match="the very model"):
        acceleration_of(restore(fast))

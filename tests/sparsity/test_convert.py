"""Top-k, thresholds and the conversion of trained models."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kadanoff.errors import UsageError
from kadanoff.sparsity import TopK, TopKMLP, profile, sparsification_of, sparsify, threshold, topk


@settings(max_examples=60, deadline=None)
@given(width=st.integers(1, 40), rows=st.integers(1, 4), data=st.data())
def test_topk_keeps_the_largest(width, rows, data):
    k = data.draw(st.integers(1, width))
    # few distinct values, so that ties are common
    values = st.lists(st.sampled_from([-2.0, -1.0, 0.0, 1.0, 2.0]), min_size=width, max_size=width)
    a = torch.tensor([data.draw(values) for _ in range(rows)])
    kept = topk(a, k)
    assert int((kept != 0).sum(-1).max()) <= k
    for before, after in zip(a, kept):
        order = sorted(range(width), key=lambda i: (-abs(float(before[i])), i))
        expected = torch.zeros(width)
        expected[order[:k]] = before[order[:k]]
        assert torch.equal(after, expected)


def test_topk_of_the_full_width_is_the_plain_block():
    torch.manual_seed(0)
    plain = TopKMLP(8, 32)
    full = TopKMLP(8, 32, 32)
    full.load_state_dict(plain.state_dict(), strict=False)
    x = torch.randn(5, 8)
    assert torch.equal(full(x), plain(x))


def test_gradient_passes_through_kept_entries_alone():
    a = torch.tensor([3.0, -1, 2, 0.5], requires_grad=True)
    topk(a, 2).sum().backward()
    assert a.grad.tolist() == [1, 0, 1, 0]
    b = torch.tensor([3.0, -1, 2, 0.5], requires_grad=True)
    threshold(b, 0.9).sum().backward()
    assert b.grad.tolist() == [1, 1, 1, 0]
    assert torch.autograd.gradcheck(
        lambda z: topk(z, 3), torch.linspace(-1.1, 2, 7, dtype=torch.float64).requires_grad_()
    )


def test_annealing():
    layer = TopK(4, start=64, steps=10)
    a = torch.randn(3, 64)
    counts = [int((layer(a) != 0).sum(-1).max()) for _ in range(12)]
    assert counts[0] == 64
    assert counts[10:] == [4, 4]
    assert counts == sorted(counts, reverse=True)
    assert counts[5] == 16  # geometric
    layer.eval()
    before = int(layer.step)
    layer(a)
    assert int(layer.step) == before


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate, self.up, self.down = (
            nn.Linear(16, 80, bias=False), nn.Linear(16, 80, bias=False), nn.Linear(80, 16)
        )  # fmt: skip

    def forward(self, x):
        return x + self.down(nn.functional.silu(self.gate(x)) * self.up(x))


class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.both, self.down = nn.Linear(16, 160), nn.Linear(80, 16)

    def forward(self, x):
        gate, up = self.both(x).chunk(2, -1)
        return self.down(nn.functional.gelu(gate) * up)


@pytest.mark.parametrize("kind", [Functional, Packed])
@pytest.mark.parametrize("method", ["topk", "threshold"])
def test_gated_blocks_by_structure(kind, method):
    torch.manual_seed(0)
    model = nn.Sequential(kind(), kind()).eval()
    x = torch.randn(300, 16)
    sparse = sparsify(model, method, 0.9, data=x)
    report = sparsification_of(sparse)
    assert len(report.layers) == 2
    assert report.loss_before is None
    assert 0 < report.output_error < 1
    for layer in profile(sparse, x).layers:
        assert layer.kind == "gated"
        assert layer.exact
        assert layer.active == pytest.approx(0.1, abs=0.01 if method == "topk" else 0.02)
    assert profile(model, x).layers[0].active > 0.5  # the original is as it was
    assert list(sparse.state_dict()) == list(model.state_dict())
    fresh = profile(sparse, torch.randn(300, 16)).layers[0]
    assert fresh.active == pytest.approx(0.1, abs=0.03)


def test_loss_change_and_little_harm_at_low_targets():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 200), nn.GELU(), nn.Linear(200, 4))
    x = torch.randn(400, 10)
    y = model(x).argmax(-1)
    mild = sparsification_of(sparsify(model, "threshold", 0.3, data=(x, y)))
    harsh = sparsification_of(sparsify(model, "threshold", 0.95, data=(x, y)))
    assert mild.loss_change is not None
    assert abs(mild.loss_change) < 0.1 * abs(harsh.loss_change)
    assert mild.output_error < 0.1 < harsh.output_error
    none = sparsification_of(sparsify(model, "threshold", 0.0, data=(x, y)))
    assert none.output_error == 0.0
    assert model.training


def test_annealed_conversion_trains():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 100), nn.ReLU(), nn.Linear(100, 4))
    x = torch.randn(64, 10)
    sparse = sparsify(model, "topk", 0.9, data=x, anneal_from=0.0, anneal_steps=5)
    sparse.train()
    optimiser = torch.optim.SGD(sparse.parameters(), lr=0.1)
    for _ in range(6):
        sparse(x).square().mean().backward()
        optimiser.step()
    sparse.eval()
    assert profile(sparse, x).layers[0].active <= 0.1 + 1e-6
    again = copy.deepcopy(sparse)
    assert torch.equal(again(x), sparse(x))
    stream = io.BytesIO()
    torch.save(sparse, stream)
    stream.seek(0)
    assert torch.equal(torch.load(stream, weights_only=False)(x), sparse(x))


def test_relufy():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 100), nn.GELU(), nn.Linear(100, 4))
    x = torch.randn(64, 10)
    relu = sparsify(model, "relufy", data=x)
    assert isinstance(relu[1], nn.ReLU)
    assert isinstance(model[1], nn.GELU)
    assert sparsification_of(relu).layers[0].after == pytest.approx(0.5, abs=0.1)
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, activation="gelu")
    encoder = sparsify(layer, "relufy", data=torch.randn(2, 5, 16))
    assert profile(encoder, torch.randn(2, 5, 16)).layers[0].exact
    with pytest.raises(UsageError, match="as a function"):
        sparsify(Functional(), "relufy", data=torch.randn(3, 16))


def test_bad_calls():
    model = nn.Sequential(nn.Linear(10, 20), nn.GELU(), nn.Linear(20, 4))
    x = torch.randn(8, 10)
    with pytest.raises(UsageError, match="k = 21 exceeds the width 20"):
        topk(torch.ones(20), 21)
    with pytest.raises(UsageError, match="exceeds the width 32"):
        TopKMLP(8, 32, 40)
    with pytest.raises(UsageError, match="keeps nothing"):
        TopK(0)
    with pytest.raises(UsageError, match=r"-0\.5 is negative"):
        threshold(x, -0.5)
    with pytest.raises(UsageError, match="method"):
        sparsify(model, "prune", data=x)
    with pytest.raises(UsageError, match=r"target = 1\.0"):
        sparsify(model, "topk", 1.0, data=x)
    with pytest.raises(UsageError, match="No data"):
        sparsify(model)
    with pytest.raises(UsageError, match=r"'7'.*blocks are: 0"):
        sparsify(model, data=x, layers=["7"])
    sigmoid = nn.Sequential(nn.Linear(10, 20), nn.Sigmoid(), nn.Linear(20, 4))
    with pytest.raises(UsageError, match="not 0 at 0"):
        sparsify(sigmoid, data=x)
    with pytest.raises(UsageError, match="already"):
        sparsify(sparsify(model, data=x), data=x)


def test_reports_read_as_sentences():
    from kadanoff.sparsity import accelerate, acceleration_of, profile, restore, sparsify

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 4)).eval()
    x, y = torch.randn(32, 16), torch.arange(32) % 4
    assert str(profile(model, x)).splitlines()[1].startswith("  0: ")
    lean = sparsify(model, "topk", 0.75, data=(x, y))
    said = str(sparsification_of(lean))
    assert "the loss went from" in said
    assert "25.0% now (k = 16)" in said
    fast = accelerate(lean, x, force=True)
    assert "of its dense time" in str(acceleration_of(fast))
    assert len(str(acceleration_of(fast))) < 400
    restore(fast)

"""Networks, losses, roll-back, error measures, bounds and the hybrid."""

from __future__ import annotations

import math
import sys
from functools import partial

import pytest
import torch

from kadanoff.errors import AnalysisError, DataError, MissingExtraError, StorageError, UsageError
from kadanoff.studies.diffusion_surrogates.diffusion import (
    RollBack,
    ScreenedPoisson2D,
    SourceCNN,
    Sources,
    UNet2d,
    amplitude,
    error_bound,
    field_errors,
    fit,
    fourier_operator,
    refine,
    weighted_loss,
)
from tests.needs import needs


def test_sizes_of_the_authors_networks() -> None:
    def count(net: torch.nn.Module | None) -> int:
        assert net is not None
        return sum(p.numel() for p in net.parameters())

    with torch.device("meta"):
        model = SourceCNN((1, 1))
    assert count(model.first) == 3_075
    assert count(model.second) == 50_290_243
    small = SourceCNN((0.05, 0.95), width=2).eval()
    alpha = Sources().alpha(0, 2)
    out = small(alpha)
    assert out.shape == alpha.shape
    assert small.first is not None
    assert small.second is not None
    mixed = 0.05 * small.first(alpha[:, None]) + 0.95 * small.second(alpha[:, None])
    assert torch.allclose(out, mixed[:, 0])
    assert SourceCNN((1, 0)).second is None
    with pytest.raises(DataError, match="100 × 100"):
        small(torch.zeros(1, 64, 64))


@pytest.mark.parametrize("side", [(32, 32), (50, 41)])
def test_unet_on_any_lattice(side: tuple[int, int]) -> None:
    g = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net, pair = UNet2d(4, 3).double(), UNet2d(8, 2, inputs=2).double()
    x = torch.randn(2, *side, generator=g, dtype=torch.float64)
    out = net(x)
    assert out.shape == x.shape
    # fields of a batch do not see each other
    torch.testing.assert_close(net(x[1:]), out[1:])
    # every level takes part, the coarsest too
    out.square().mean().backward()
    assert all(p.grad is not None and float(p.grad.abs().max()) > 0 for p in net.parameters())
    # full-resolution convolutions alone reach 4 nodes; through the coarse levels it is further
    moved = x.clone()
    moved[:, 0, 0] += 1
    change = (net(moved) - out).abs().detach()
    assert float(change[:, 12, 12].min()) > 0
    # each channel of the input counts
    both = torch.randn(2, 2, *side, generator=g, dtype=torch.float64)
    assert pair(both).shape == (2, 1, *side)
    for channel in range(2):
        other = both.clone()
        other[:, channel] += 1
        assert not torch.allclose(pair(other), pair(both))


def test_fourier_operator() -> None:
    needs("neuralop", "surrogates")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = fourier_operator(6, 4, 2)
    x = torch.randn(2, 30, 24, generator=torch.Generator().manual_seed(0))
    assert net(x).shape == x.shape
    # a function, not a grid: the same field on twice the nodes gives nearly the same answer
    coarse, fine = torch.zeros(1, 32, 32), torch.zeros(1, 64, 64)
    for field, h in ((coarse, 1), (fine, 2)):
        s = torch.arange(field.shape[-1]) / (32 * h)
        field[0] = torch.sin(math.pi * s)[:, None] * torch.sin(math.pi * s)[None, :]
    with torch.no_grad():
        a, b = net(coarse), net(fine)[:, ::2, ::2]
    assert float((a - b).norm() / a.norm()) < 0.2


def test_absent_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "neuralop", None)
    monkeypatch.setitem(sys.modules, "neuralop.models", None)
    with pytest.raises(MissingExtraError, match=r"pip install .*neuraloperator"):
        fourier_operator()


def test_weighted_losses() -> None:
    y = torch.tensor([[0.0, 0.5, 1.0]])
    guess = y + torch.tensor([[0.1, -0.2, 0.3]])
    for kind, power in (("absolute", 1), ("square", 2), ("quartic", 4)):
        terms = [math.exp(-(1 - b) / 0.4) * e**power for b, e in ((0, 0.1), (0.5, 0.2), (1, 0.3))]
        assert float(weighted_loss(guess, y, kind, 0.4)) == pytest.approx(sum(terms) / 3, rel=1e-5)
        plain = sum(e**power for e in (0.1, 0.2, 0.3)) / 3
        assert float(weighted_loss(guess, y, kind)) == pytest.approx(plain, rel=1e-5)
    with pytest.raises(UsageError, match="cubic"):
        weighted_loss(guess, y, "cubic")


def test_roll_back_restores_weights_and_optimiser() -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    guard = RollBack(window=4, factor=10.0, every=2)

    def step() -> None:
        optimizer.zero_grad()
        model(torch.ones(1, 3)).square().sum().backward()
        optimizer.step()

    for loss in (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7):
        step()
        assert guard.accept(loss, model, optimizer)
    step()
    # 0.3 more is within ten times the usual 0.05, 0.6 is not
    assert guard.accept(1.0, model, optimizer)
    assert guard.backup is not None
    weights = guard.backup[0]["weight"].clone()
    moment = guard.backup[1]["state"][0]["exp_avg"].clone()
    guard = RollBack(window=4, losses=[1.0, 0.95, 0.9, 0.85, 0.8, 0.75], backup=guard.backup)
    step()
    assert not torch.equal(model.weight, weights)
    assert not guard.accept(1.35, model, optimizer)
    assert torch.equal(model.weight, weights)
    assert torch.equal(optimizer.state_dict()["state"][0]["exp_avg"], moment)
    assert guard.rejected == [1]
    assert not guard.accept(math.nan, model, optimizer)
    weights_only = RollBack(
        window=4, losses=guard.losses, backup=guard.backup, restore_optimizer=False
    )
    step()
    there = optimizer.state_dict()["state"][0]["exp_avg"].clone()
    assert not weights_only.accept(9.0, model, optimizer)
    assert torch.equal(model.weight, weights)
    assert torch.equal(optimizer.state_dict()["state"][0]["exp_avg"], there)


class _Spiky:
    """Batches that go wild once: index 60 has a field of size 1000."""

    def __init__(self) -> None:
        self.pairs = Sources(size=16, radius=2)

    def __call__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        alpha, y = self.pairs.batch(index, 4)
        return alpha, 1000 * y if index == 60 else y


def _trained(path=None, rollback: bool = True, epochs: int = 40, stop: int | None = None):
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Unflatten(1, (1, 16)), torch.nn.Conv2d(1, 4, 3, padding=1))
    model.extend(
        [torch.nn.Dropout(0.1), torch.nn.Conv2d(4, 1, 3, padding=1), torch.nn.Flatten(1, 2)]
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)

    def progress(done: int, total: int) -> None:
        if stop is not None and done == stop:
            raise KeyboardInterrupt

    return model, fit(
        model,
        _Spiky(),
        optimizer,
        epochs=epochs,
        batches=2,
        rollback=RollBack(window=5) if rollback else None,
        evaluate=lambda net: float(net(torch.ones(1, 16, 16)).mean().detach()),
        checkpoint=path,
        progress=progress,
        decay="none",
    )


def test_training_rolls_back_a_spike_and_resumes_bit_for_bit(tmp_path) -> None:
    model, record = _trained()
    assert 31 in record.rejected
    assert record.losses[-1] < record.losses[0]
    assert record.samples == 320
    assert record.checks[-1][0] == 320
    path = tmp_path / "fit.pt"
    with pytest.raises(KeyboardInterrupt):
        _trained(path, stop=33)
    again, resumed = _trained(path)
    assert resumed.losses == record.losses
    assert resumed.rejected == record.rejected
    for a, b in zip(model.parameters(), again.parameters()):
        assert torch.equal(a, b)
    path.write_bytes(b"nonsense")
    with pytest.raises(StorageError, match="does not fit"):
        _trained(path)


def test_without_roll_back_a_diverged_loss_stops() -> None:
    model = torch.nn.Sequential(torch.nn.Unflatten(1, (1, 16)), torch.nn.Conv2d(1, 1, 1))
    model.append(torch.nn.Flatten(1, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e30)
    square = partial(weighted_loss, kind="square")
    with pytest.raises(AnalysisError, match="Lower the learning rate"):
        fit(
            model,
            Sources(size=16, radius=2).batch_of(2),
            optimizer,
            epochs=9,
            batches=2,
            loss=square,
        )


def test_field_errors() -> None:
    y = torch.zeros(1, 40, 40)
    y[0, 20, 20], y[0, 20, 21] = 1.0, 0.15
    alpha = torch.zeros_like(y)
    alpha[0, 20, 20] = 1.0
    guess = y.clone()
    guess[0, 20, 20] += 0.5
    guess[0, 0, 0] -= 0.1
    e = field_errors(guess, y, alpha, far=5)
    assert e.maximum == pytest.approx(0.5)
    assert e.mean == pytest.approx(0.6 / 1600)
    assert e.p99 == 0.0
    # each wrong pixel inside has four wrong differences, in the corner two
    assert e.gradient_mean == pytest.approx((4 * 0.5 + 2 * 0.1) / (2 * 39 * 40))
    assert e.far_maximum == pytest.approx(0.1)
    assert e.far_mean == pytest.approx(0.1 / (1600 - 121))
    assert e.bands["0.2-1"] == pytest.approx(0.5)
    assert e.bands["0-0.05"] == pytest.approx(0.1 / 1598)
    with pytest.raises(DataError):
        field_errors(guess, y[0], alpha)


def test_bounds_hold_and_can_be_met() -> None:
    pairs = Sources(size=40, radius=3)
    solver = pairs.solver()
    alpha, y = (t.double() for t in pairs.batch(0, 6))
    u = solver(alpha)
    scale = u.amax((-2, -1))
    assert torch.allclose(amplitude(solver, y, alpha), scale, rtol=1e-4)
    generator = torch.Generator().manual_seed(0)
    for rough in (True, False):
        noise = torch.randn(u.shape, generator=generator, dtype=torch.float64)
        wrong = u + 0.01 * (noise if rough else solver(noise))
        e = (wrong - u).abs()
        bound = error_bound(solver, wrong, alpha)
        assert torch.all(e <= bound.pointwise + 1e-12)
        assert torch.all(bound.pointwise.amax((-2, -1)) <= bound.maximum * (1 + 1e-12))
        assert torch.all(e.amax((-2, -1)) <= bound.maximum)
        assert torch.all(e.flatten(1).norm(dim=1) <= bound.two)
    # the slowest mode meets the first bound exactly, a positive source the pointwise one
    s = torch.sin(math.pi * torch.arange(1, 41, dtype=torch.float64) / 41)
    mode = s[:, None] * s[None, :]
    tight = error_bound(solver, u[0] + mode, alpha[0])
    assert float(tight.two) == pytest.approx(float(mode.norm()), rel=1e-9)
    flat = error_bound(solver, u[0] + solver(torch.ones_like(u[0])), alpha[0])
    assert float(flat.maximum) == pytest.approx(solver.inverse_norm(), rel=1e-9)


def test_hybrid_keeps_its_promise() -> None:
    pairs = Sources(size=40, radius=3)
    solver = pairs.solver()
    alpha = pairs.alpha(0, 4).double()
    u = solver(alpha)
    near = u * (1 + 1e-3 * solver(torch.randn_like(u)))
    cold = refine(solver, torch.zeros_like(u), alpha)
    warm = refine(solver, near, alpha)
    assert warm.iterations < cold.iterations
    for solution in (cold, warm):
        assert float(solution.residual.max()) <= 1.1e-6
        bound = error_bound(solver, solution.x, alpha).two
        assert torch.all((solution.x - u).flatten(1).norm(dim=1) <= bound + 1e-9)
    assert refine(solver, near, alpha, precondition=True).iterations == 1


def test_surrogate_is_not_linear_where_the_solver_is() -> None:
    solver = ScreenedPoisson2D(24)
    a, b = Sources(size=24, radius=3).alpha(0, 2).double()
    assert torch.allclose(solver(a + b), solver(a) + solver(b), atol=1e-12)

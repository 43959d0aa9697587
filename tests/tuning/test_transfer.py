"""The sweep finds the optimum it should, and the coordinate check tells the members apart."""

from __future__ import annotations

import math

import pytest
import torch

from kadanoff.errors import StorageError, UsageError
from kadanoff.tuning.families import mlp
from kadanoff.tuning.sweeps import _best, coordinate_check, transfer

G = torch.Generator().manual_seed(0)
X = torch.randn(64, 12, generator=G)
Y = torch.sin(2 * X[:, :3])


def build(width, depth, seed):
    return mlp(12, width, depth, 3, activation="tanh", seed=seed)


def test_parabola_finds_its_vertex():
    bases = [2.0**k for k in range(-3, 4)]
    losses = [math.exp(0.3 * (math.log2(b) - 0.7) ** 2) for b in bases]
    assert _best(bases, losses) == pytest.approx(0.7)
    assert _best(bases, [1, 2, 3, 4, 5, 6, 7]) == -3


@pytest.mark.slow
@pytest.mark.parametrize(("s", "exponent"), [(0.0, -0.5), (1.0, 0.0)])
def test_hidden_activations_move_as_predicted(s, exponent):
    found = coordinate_check(
        lambda w, k: build(w, 3, k), X, Y, widths=(64, 256, 1024), optimizer="sgd",
        s=s, base=0.5, steps=4, seeds=6,
    )  # fmt: skip
    for c in found[:-1]:
        assert c.predicted == pytest.approx(exponent)
        assert c.slope_stderr < 0.15
        assert abs(c.slope - exponent) < 0.15 + 3 * c.slope_stderr
    assert all(c.fine for c in found)


def test_a_sweep_has_error_bars_and_a_verdict():
    seen = []
    found = transfer(
        build, X, Y, widths=(16, 32), depths=(2,), optimizer="adam", steps=12, seeds=2,
        bases=[0.5, 1.0, 2.0], progress=lambda done, total, **_: seen.append(done),
    )  # fmt: skip
    assert seen[-1] == len(seen)
    assert len(found.curves) == 2
    assert all(c.optimum_stderr > 0 for c in found.curves)
    if any(c.at_edge for c in found.curves):
        assert not found.carries


def test_bad_calls():
    with pytest.raises(UsageError, match="two sizes"):
        transfer(build, X, Y, widths=(16,), depths=(2,))
    with pytest.raises(UsageError, match="optimizer"):
        transfer(build, X, Y, optimizer="lion")


def test_an_interrupted_sweep_goes_on_where_it_was(tmp_path):
    file = tmp_path / "sweep.json"
    options = {"widths": (8, 16), "depths": (2,), "steps": 10, "seeds": 2, "check_steps": 2}

    class Stopped(Exception):
        pass

    def stop(done, total, **_):
        if done == 5:
            raise Stopped

    with pytest.raises(Stopped):
        transfer(build, X, Y, **options, checkpoint=file, progress=stop)
    runs = []

    def counted(width, depth, seed):
        runs.append((width, depth, seed))
        return build(width, depth, seed)

    resumed = transfer(counted, X, Y, **options, checkpoint=file)
    after = len(runs)
    runs.clear()
    alone = transfer(counted, X, Y, **options)
    assert resumed == alone
    assert len(runs) - after == 5
    with pytest.raises(UsageError, match=r"other settings \(steps\)"):
        transfer(build, X, Y, **{**options, "steps": 11}, checkpoint=file)
    file.write_text(file.read_text()[:-30])
    with pytest.raises(StorageError, match="no checkpoint of a sweep"):
        transfer(build, X, Y, **options, checkpoint=file)

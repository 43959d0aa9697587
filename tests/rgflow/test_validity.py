"""Beyond the regime where the expansion is controlled, who computes says so."""

from __future__ import annotations

import warnings

import pytest
import torch

import kadanoff as kd
from kadanoff.errors import ValidityWarning
from tests.cli.run import run

X = torch.tensor([[1.0, 0.2], [-0.3, 0.8]], dtype=torch.float64)


def test_flow_warns_beyond_the_ratio_of_depth_to_width_and_points_at_the_caller():
    deep = kd.MLP(2, [16] * 8, 1, "tanh")
    with pytest.warns(ValidityWarning, match=r"L/n = 0\.5") as caught:
        kd.flow(deep, X, order=1)
    assert caught[0].filename == __file__


def test_flow_warns_where_the_metric_fluctuates_by_its_own_size():
    # ReLU: V/(nK²) = 5 a layer over n, at L/n of 0.2
    strong = kd.MLP(2, [24] * 5, 1, "relu", C_W=2.0)
    with pytest.warns(ValidityWarning, match=r"V/\(nK²\) = "):
        kd.flow(strong, X, order=1)


def test_wide_networks_and_infinite_width_are_silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kd.flow(kd.MLP(2, [256] * 4, 1, "relu", C_W=2.0), X, order=1)
        kd.flow(kd.MLP(2, [16] * 8, 1, "tanh"), X, order=0)


@pytest.mark.parametrize("method", ["gradient", "bayes"])
def test_predictions_warn_and_say_by_how_much(method):
    arch = kd.MLP(2, [3], 1, "tanh", C_b=0.1, C_W=1.5)
    with pytest.warns(ValidityWarning, match=r"prediction .* L/n = 0\.33") as caught:
        kd.predict(arch, X, torch.tensor([1.0, -1.0]), 0.5 * X[:1], order=1, method=method)
    assert caught[0].filename == __file__


def test_a_large_correction_is_noted_for_the_posterior_too():
    arch = kd.MLP(2, [8, 8], 1, "tanh", C_b=0.1, C_W=1.5)
    with pytest.warns(ValidityWarning, match="of the mean"):
        found = kd.predict(
            arch,
            X,
            torch.tensor([3.0, -3.0]),
            0.5 * X[:1] + 0.3,
            order=1,
            method="bayes",
            noise=0.1,
        )
    assert any("higher orders matter" in note for note in found.notes)


def test_comparisons_warn_at_the_width_of_the_ensemble():
    arch = kd.MLP(2, [8] * 3, 1, "tanh")
    flow, ens = kd.flow(arch, X[:1], order=1), kd.ensemble(arch, X[:1], n_networks=64, seed=0)
    with pytest.warns(ValidityWarning, match="comparison"):
        kd.compare(flow, ens)


@pytest.mark.filterwarnings("always::kadanoff.errors.ValidityWarning")
def test_the_command_line_tells_it_in_a_line(capsys):
    code, out, err = run(capsys, "flow", "--width", "16", "--depth", "8", "--json")
    assert code == 0
    assert out.startswith("{")
    assert err.startswith("warning: The flow at order 1 is not controlled here: L/n = 0.44")
    assert ".py" not in err

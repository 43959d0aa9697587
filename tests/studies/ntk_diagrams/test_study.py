"""Diagrams of the NTK against the recursions, which know no diagrams; and the quick study."""

from __future__ import annotations

import pytest
import torch

import kadanoff as kd
from kadanoff.studies.ntk_diagrams.rules import evaluate, mean_of_ntk, spread
from tests.studies.quick import quick


@pytest.mark.slow
def test_quick_run(tmp_path):
    claims = quick("ntk-diagrams", tmp_path)
    for name in ("mean-diagrams", "tree-diagrams", "no-diagonal", "diagonal-by-diagrams"):
        assert claims[name]["verdict"] == "holds", claims[name]


@pytest.mark.parametrize("name, C_b, C_W", [("tanh", 0.1, 1.4), ("swish", 0.0, 2.0)])
def test_sums_of_diagrams_are_the_recursions(name: str, C_b: float, C_W: float) -> None:
    """H1, V, D and A of every layer from the tensors of the layer below."""
    arch = kd.MLP(2, [80] * 3, 1, name, C_b=C_b, C_W=C_W, lambda_b=0.4, lambda_W=1.3)
    flow = kd.flow(arch, torch.tensor([[0.8, -0.3]], dtype=torch.float64), order=1)
    names = ("K", "Theta", "G1", "V", "H1", "D", "F", "A")
    told = {key: flow.require(key).flatten().tolist() for key in names}
    for l in range(3):
        below = {key: values[l] for key, values in told.items()}
        mean = sum(evaluate(d, ("ntk",), below, arch) for d in mean_of_ntk())
        assert mean == pytest.approx(told["H1"][l + 1], rel=1e-8, abs=1e-10)
        for key, pair in (
            ("V", ("metric", "metric")),
            ("D", ("metric", "ntk")),
            ("A", ("ntk", "ntk")),
        ):
            total = sum(evaluate(d, pair, below, arch) for d in spread(*pair))
            assert total == pytest.approx(told[key][l + 1], rel=1e-7, abs=1e-10)


def test_the_rules_generate_each_diagram_once() -> None:
    diagrams = mean_of_ntk()
    assert len({str(d) for d in diagrams}) == len(diagrams) == 7
    assert len({str(d) for d in spread("ntk", "ntk")}) == 13
    # two derivatives of one vertex on one blob: a symmetry factor of two
    assert [d.factor for d in diagrams if d.blob == "V"] == [0.5, 0.5]

"""Correlators of networks that were really drawn, against the diagrams."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

import kadanoff as kd
from kadanoff import diagrams
from kadanoff.errors import UsageError
from kadanoff.studies.effective_theories.measured import _symmetric, measure


def check(found, theory, most: tuple[float, ...]) -> None:
    """|z| < 4 everywhere, with error bars below ``most`` of the largest component."""
    for k, limit in enumerate(most, 1):
        z = found.z(k, theory.cumulant(k))
        used = torch.isfinite(z)
        assert int(used.sum()) >= len(theory.K) - 2
        assert float(z[used].abs().max()) < 4, (k, z)
        scale = np.abs(theory.cumulant(k)[-1]).max()
        assert float(found.cumulants[k].stderr[-1].max()) < limit * scale, k


def test_one_input_ensemble_up_to_the_eight_point_function() -> None:
    arch = kd.MLP(1, [20] * 5, 1, "tanh")
    theory = diagrams.correlators(arch, [[1.0]], 5)
    check(measure(arch, [[1.0]], 60_000, seed=3), theory, (0.002, 0.01, 0.04, 0.15))


def test_two_input_ensemble_up_to_the_eight_point_function() -> None:
    arch = kd.MLP(2, [24] * 3, 1, "tanh", C_W=1.6, C_b=0.1)
    X = [[1.0, 0.5], [-0.3, 1.2]]
    theory = diagrams.correlators(arch, X, 4)
    check(measure(arch, X, 50_000, seed=4), theory, (0.002, 0.01, 0.06, 0.5))


def test_drawn_networks_and_their_neurons() -> None:
    """Weights drawn; then only preactivations seen, products over distinct neurons."""
    arch = kd.MLP(1, [12, 12], 8, "relu", C_W=2.0)
    theory = diagrams.correlators(arch, [[1.0]], 5)
    check(measure(arch, [[1.0]], 40_000, "weights", seed=2), theory, (0.01, 0.03, 0.15, 0.8))
    neurons = measure(arch, [[1.0]], 40_000, "neurons", points=6, seed=2)
    check(neurons, theory, (0.01, 0.06, 0.5))


def test_products_over_distinct_neurons() -> None:
    u = torch.tensor([[1.0, -2.0, 0.5, 3.0, 0.7]], dtype=torch.float64)
    for k in (1, 2, 3, 4):
        brute = [math.prod(c) for c in itertools.combinations(u[0].tolist(), k)]
        assert float(_symmetric(u)(k)) == pytest.approx(sum(brute) / len(brute))


def test_checkpoint_goes_on(tmp_path) -> None:
    arch, path = kd.MLP(1, [6, 6], 1, "tanh"), tmp_path / "sums.pt"
    whole = measure(arch, [[1.0]], 20_000, points=4, seed=5)
    measure(arch, [[1.0]], 8192, points=4, seed=5, checkpoint=path)
    again = measure(arch, [[1.0]], 20_000, points=4, seed=5, checkpoint=path)
    assert torch.equal(whole.cumulants[2].value, again.cumulants[2].value)


@pytest.mark.gpu
def test_measured_on_the_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    arch = kd.MLP(1, [20] * 3, 1, "tanh")
    theory = diagrams.correlators(arch, [[1.0]], 5)
    found = measure(arch, [[1.0]], 200_000, seed=3, device="cuda")
    check(found, theory, (0.002, 0.01, 0.05, 0.3))


def test_refusals() -> None:
    with pytest.raises(UsageError, match="one input, got 2"):
        measure(kd.MLP(2, [5], 1), [[1.0, 0.0], [0.0, 1.0]], 100, "neurons")

"""Closed forms where their textbook expressions lose digits."""

from __future__ import annotations

import pytest
import torch

from kadanoff.activations import activation

mpmath = pytest.importorskip("mpmath")


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e5, 1e10])
@pytest.mark.parametrize("rho", [-1.0, -0.3, 0.999999, 1.0])
def test_erf_at_any_norm(size: float, rho: float) -> None:
    """Against 50 digits: kernels of inputs of norm 1e5 without bias are as exact as small ones."""
    a, b = mpmath.mpf(size), mpmath.mpf(float(rho * size))
    with mpmath.workdps(50):
        root = 1 + 2 * a
        exact = {
            (0, 0): 2 / mpmath.pi * mpmath.asin(2 * b / root),
            (1, 1): 4 / mpmath.pi / mpmath.sqrt(root**2 - 4 * b**2),
        }
    K = [torch.tensor(float(x), dtype=torch.float64) for x in (a, b, a)]
    for orders, value in exact.items():
        found = activation("erf").closed(*orders, *K)
        assert found is not None
        assert float(found) == pytest.approx(float(value), rel=4e-15)

"""Assertions about numbers with error bars, shared by all tests."""

from __future__ import annotations

import numpy as np


def assert_consistent(
    predicted, measured, stderr, *, z: float = 4.0, relative_error: float, bias=0.0
) -> None:
    """Hold a prediction against a measurement with its standard error.

    Fails if any component is off by more than ``z`` standard errors (plus a stated ``bias``), and
    also if the error bar is too wide to mean anything: ``stderr`` must not exceed
    ``relative_error`` times the largest measured component.
    """
    predicted, measured, stderr = (
        np.asarray(v, dtype=float) for v in (predicted, measured, stderr)
    )
    scale = np.abs(measured).max()
    assert np.all(np.isfinite(stderr))
    assert np.all(stderr > 0)
    assert stderr.max() <= relative_error * scale, (
        f"error bar {stderr.max():.3g} is over {relative_error:.0%} of {scale:.3g}: proves nothing"
    )
    pull = (np.abs(predicted - measured) - bias) / stderr
    worst = np.unravel_index(np.argmax(pull), pull.shape)
    assert pull.max() < z, (
        f"z = {pull[worst]:.2f} at {worst}: predicted {predicted[worst]:.6g}, "
        f"measured {measured[worst]:.6g} ± {stderr[worst]:.2g}"
    )

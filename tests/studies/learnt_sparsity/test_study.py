"""The quick study of what a classifier learns, and its measures on functions that are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kadanoff.studies.learnt_sparsity.parts import bits_of_digits, effective_dimensions
from tests.studies.quick import quick


@pytest.mark.slow
def test_quick_run(tmp_path):
    claims = quick("learnt-sparsity", tmp_path)
    assert claims["low-degree"]["verdict"] != "fails"
    # too short a training to ask how a classifier of 95 % collapses
    assert claims["flow-collapses"]["verdict"] == "undecided"
    assert claims["sparser-than-random"]["baseline"]["value"] > 0.7


def test_dimensions_of_known_clouds() -> None:
    """d directions of equal variance count as d, one as one."""
    generator = torch.Generator().manual_seed(0)
    cloud = torch.randn(20_000, 7, generator=generator)
    assert effective_dimensions(cloud) == pytest.approx(7, rel=0.01)
    assert effective_dimensions(cloud[:, :1] * torch.ones(7)) == pytest.approx(1)


def test_images_become_bits() -> None:
    data = bits_of_digits(6, 0)
    for x, y in ((data["x"], data["y"]), (data["x_test"], data["y_test"])):
        assert x.shape == (len(y), 6)
        assert set(np.unique(x)) == {-1.0, 1.0} == set(np.unique(y))

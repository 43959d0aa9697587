"""The exit code of ``tune --check`` follows how the runs ended."""

from __future__ import annotations

import math

import pytest

from kadanoff.tuning.check import BeforeAfter, TrainedCopy


class Healthy:
    healthy = True


@pytest.mark.parametrize(
    ("before", "after", "word"),
    [
        ([2.0, 1.0, 0.5], [2.0, 1.0, 0.4], ""),
        ([2.0, 1.0, 0.5], [2.0, 1.0, 0.51], ""),
        ([2.0, 1.0, 0.5], [2.0, 1.0, 0.6], "worse"),
        ([2.0, 1.0, 0.5], [2.0, math.inf, math.inf], "diverged"),
        ([2.0, 2.0, 2.0], [2.0, 2.0, 1.99], "did not move"),
    ],
)
def test_trouble(before, after, word):
    runs = TrainedCopy(0.1, tuple(before)), TrainedCopy(0.1, tuple(after))
    comparison = BeforeAfter(Healthy(), Healthy(), *runs, "cross entropy")
    assert word in comparison.trouble
    assert comparison.failed == bool(word)

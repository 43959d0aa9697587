"""Numbers with uncertainties."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kadanoff.style.numbers import percent, short, uncertain


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (1.0234, 0.0312, "1.02(3)"),
        (0.58123, 0.0123, "0.581(12)"),
        (4.213e-7, 6e-9, "4.21(6)e-7"),
        (1234.6, 50, "1230(50)"),
        (99.97, 0.03, "99.97(3)"),
        (-3.2, 0.5, "-3.2(5)"),
        (0.0, 0.01, "0.000(10)"),
        (5.0, 0.0, "5.00"),
        (1.0, 0.0096, "1.00(1)"),
        (math.nan, 1.0, "-"),
        (None, None, "-"),
        (math.inf, 1.0, "inf"),
    ],
)
def test_uncertain(value, error, text):
    assert uncertain(value, error) == text


@given(st.floats(-1e12, 1e12).filter(lambda v: v == 0 or abs(v) > 1e-12), st.floats(1e-12, 1e12))
def test_uncertain_says_what_was_meant(value, error):
    text = uncertain(value, error)
    if "(" not in text:
        assert error < 1e-4 * abs(value) + 1e-6
        return
    digits, rest = text.split("(")
    last, tail = rest.split(")")
    scale = 10 ** int(tail[1:] or 0) if tail else 1
    decimals = len(digits.split(".")[1]) if "." in digits else 0
    shown = float(last) * 10.0**-decimals * scale
    assert shown == pytest.approx(error, rel=0.34)  # one digit, rounded; two if the first is 1
    assert abs(float(digits) * scale - value) <= 0.6 * shown


def test_short_and_percent():
    assert [short(v) for v in (0.0, 0.99997, 12345.6, 1e-7, 123456.0)] == [
        "0",
        "1.00",
        "12346",
        "1.0e-7",
        "1.2e5",
    ]
    assert [percent(v) for v in (0, 1e-5, 0.5, None)] == ["0%", "<0.1%", "50.0%", "-"]

"""A diagnosis as a table with a row a block: what terminal and page have in common."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kadanoff.diagnosis.blocks import BlockRows, Group
from kadanoff.diagnosis.estimate import Estimate
from kadanoff.style.numbers import short, uncertain

if TYPE_CHECKING:
    from kadanoff.diagnosis.result import LayerReport

__all__ = ["Column", "block_columns", "growth", "worst"]

# fields whose distance from theory counts, in words
_NAMES = {
    "second_moment": "signal",
    "correlation": "alike",
    "jacobian": "χ",
    "jacobian_to_output": "χ to output",
    "gradient": "gradient",
}


@dataclass(frozen=True)
class Column:
    """One column: its head, what it means, and the cell of a block."""

    name: str
    hint: str
    cell: Callable[[Group], str]


def growth(groups: Sequence[Group]) -> dict[str, float]:
    """By which factor each block multiplies a squared gradient on its way back."""
    found = {}
    before: float | None = None
    for group in groups:
        here = group.carrier
        if here.jacobian_to_output is None or here.role == "readout":
            continue
        back = here.jacobian_to_output.value
        if before is not None and back > 0 and group.number is not None:
            found[group.label] = before / back
        before = back
    return found


def worst(layers: Sequence[LayerReport]) -> tuple[float, str, LayerReport] | None:
    """The largest distance from what theory expects: z, of which quantity, where."""
    found = []
    for layer in layers:
        for name, word in _NAMES.items():
            estimate: Estimate | None = getattr(layer, name)
            if estimate is not None and estimate.z is not None and math.isfinite(estimate.z):
                found.append((estimate.z, word, layer))
    return max(found, key=lambda item: abs(item[0]), default=None)


def block_columns(blocks: BlockRows) -> list[Column]:
    """The columns that have something in them."""
    factors = growth(blocks.groups)

    def signal(group: Group) -> str:
        return _number(group.carrier.second_moment)

    def alike(group: Group) -> str:
        return _number(group.carrier.correlation)

    def chi(group: Group) -> str:
        return short(factors[group.label]) if group.label in factors else ""

    def gradient(group: Group) -> str:
        return "" if group.gradient is None else short(group.gradient.value, 2)

    def far(group: Group) -> str:
        found = worst(group.layers)
        return "" if found is None else f"{found[0]:+.1f} {found[1]}"

    columns = [
        Column("signal", "mean square of what the block hands on", signal),
        Column("expected", "by the law of the weights", lambda g: _expected(g, "second_moment")),
        Column("alike", "cosine of two of its rows: 1 if all look the same", alike),
        Column("χ", "factor on a squared gradient on its way back through the block", chi),
        Column("gradient", "of the loss, root mean square per weight", gradient),
        Column("expected", "by the law of the weights", lambda g: _expected_gradient(g)),
        Column("off by", "the largest distance from theory, in spreads between networks", far),
    ]
    return [c for c in columns if any(c.cell(group) for group in blocks.groups)]


def _number(estimate: Estimate | None) -> str:
    return "" if estimate is None else uncertain(estimate.value, estimate.stderr)


def _expected(group: Group, name: str) -> str:
    estimate: Estimate | None = getattr(group.carrier, name)
    return _band(estimate)


def _expected_gradient(group: Group) -> str:
    return _band(group.gradient)


def _band(estimate: Estimate | None) -> str:
    if estimate is None or estimate.predicted is None:
        return ""
    spread = f" ± {short(estimate.spread, 1)}" if estimate.spread else ""
    return f"{short(estimate.predicted, 3)}{spread}"

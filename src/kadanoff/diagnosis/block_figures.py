"""The plots of a model with blocks: a line a role, theory as line and band, blocks along x."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kadanoff.diagnosis.block_table import growth
from kadanoff.diagnosis.blocks import STREAM, BlockRows, Group, pooled
from kadanoff.diagnosis.estimate import Estimate
from kadanoff.style.figures import DASHES, SERIES, colour, figure, house_style, points, to_svg
from kadanoff.style.html import Raw, figure_block
from kadanoff.style.numbers import short

__all__ = ["block_plots"]

# as many roles as a plot can hold apart
MOST = 7
# room for the names of blocks along the axis
TICKS = 12


@dataclass(frozen=True)
class _Line:
    """One role: places along the axis and an estimate at each."""

    label: str
    x: list[int]
    estimates: list[Estimate]


def block_plots(blocks: BlockRows) -> list[Raw]:
    """Signal, gradient, likeness and growth by block; each with what it says about this model."""
    wanted: tuple[tuple[str, str, str, Callable[[BlockRows], list[_Line]], str], ...] = (
        (
            "Size of the signal",
            "mean square",
            "What each role puts out, and the stream that carries it from block to block. In a "
            "stack with norms before the branches the stream grows by about the same amount in "
            "every block; a branch far above the others drowns them.",
            lambda b: _by_role(b, "second_moment"),
            "log",
        ),
        (
            "Gradient of the loss",
            "root mean square per weight",
            "How strongly the weights of each role are pushed. Roles may differ by their nature "
            "(queries and keys get little while attention is flat); a role that falls or rises "
            "from block to block learns unevenly in depth.",
            lambda b: _by_role(b, "gradient"),
            "log",
        ),
        (
            "Do inputs still look different?",
            "cosine between two rows",
            "The likeness of two tokens, pixels or samples in the stream. At 1 all look the same "
            "and nothing after that block can tell them apart.",
            lambda b: _carried(b, "correlation"),
            "linear",
        ),
        (
            "Growth of a gradient on its way back",
            "factor a block",
            "By how much the square of a gradient is multiplied as it passes back through each "
            "block. Near 1 every block gets its share at any depth.",
            _growth,
            "auto",
        ),
    )
    drawn = []
    for heading, axis, explanation, lines_of, scale in wanted:
        lines = [_positive(line) if scale == "log" else line for line in lines_of(blocks)]
        lines = [line for line in lines if len(line.x) > 1]
        if lines:
            said = _reading(lines)
            svg = _draw(blocks, lines, heading, axis, scale, said)
            drawn.append(figure_block(svg, f"{explanation} {said}", heading))
    return drawn


def _positive(line: _Line) -> _Line:
    """Without what a logarithmic axis cannot show: branches that start at zero."""
    kept = [(x, e) for x, e in zip(line.x, line.estimates) if e.value > 0]
    return _Line(line.label, [x for x, _ in kept], [e for _, e in kept])


def _by_role(blocks: BlockRows, name: str) -> list[_Line]:
    lines = []
    for part in blocks.parts:
        if part == STREAM and name == "gradient":
            continue
        lines.append(_line(blocks, part, name, lambda g, part=part: g.parts.get(part, ())))
    lines = [line for line in lines if line.x]
    if len(lines) > MOST:  # the ones met in most blocks
        lines = sorted(lines, key=lambda line: -len(line.x))[:MOST]
    return lines


def _carried(blocks: BlockRows, name: str) -> list[_Line]:
    return [_line(blocks, STREAM, name, lambda g: (g.carrier,))]


def _line(
    blocks: BlockRows, label: str, name: str, layers: Callable[[Group], Sequence[Any]]
) -> _Line:
    x, estimates = [], []
    for place, group in enumerate(blocks.groups):
        # of the stream what a block hands on, not what it was half-way
        found = layers(group)
        estimate = pooled(found[-1:] if label == STREAM else found, name) if found else None
        if estimate is not None and group.number is not None:
            x.append(place)
            estimates.append(estimate)
    return _Line(label, x, estimates)


def _growth(blocks: BlockRows) -> list[_Line]:
    factors = growth(blocks.groups)
    places = [i for i, g in enumerate(blocks.groups) if g.label in factors]
    found = [Estimate(factors[blocks.groups[i].label]) for i in places]
    return [_Line(STREAM, places, found)]


def _scaled(ax: Any, values: Sequence[float], scale: str) -> None:
    """A logarithmic axis where it is asked for, or where values differ by more than ten."""
    wide = bool(values) and max(values) / min(values) > 10
    if scale == "log" or (scale == "auto" and wide):
        ax.set_yscale("log")
        if wide:
            ax.yaxis.set_minor_formatter("")


def _draw(
    blocks: BlockRows, lines: Sequence[_Line], heading: str, axis: str, scale: str, said: str
) -> str:
    with house_style():
        fig, ax = figure(width=5.6, height=3.4)
        for index, line in enumerate(lines):
            _one(ax, line, index, joined=len(lines) > 1)
        estimates = [e for line in lines for e in line.estimates]
        _scaled(ax, [e.value for e in estimates if e.value > 0], scale)
        if heading.startswith("Do inputs"):
            ax.set_ylim(min(-0.05, *(e.value - 0.05 for e in estimates)), 1.05)
        if heading.startswith("Growth"):
            ax.axhline(1.0, color=colour("critical"), lw=1.2, ls=(0, (5, 3)), label="kept: 1")
        ticks = _ticks(blocks)
        ax.set_xticks([i for i, _ in ticks], [label for _, label in ticks])
        if any(len(label) > 4 for _, label in ticks):
            ax.tick_params(axis="x", labelrotation=30)
        ax.set_xlabel("block")
        ax.set_ylabel(axis)
        if any(e.predicted is not None for e in estimates):
            ax.plot([], [], color=colour("muted"), lw=1.2, label="line, band: theory")
        if len(lines) > 1 or heading.startswith("Growth") or _has_theory(lines):
            ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.4)
        return to_svg(fig, heading, said)


def _has_theory(lines: Sequence[_Line]) -> bool:
    return any(e.predicted is not None for line in lines for e in line.estimates)


def _one(ax: Any, line: _Line, index: int, joined: bool) -> None:
    tone = SERIES[index % len(SERIES)]
    known = [(x, e) for x, e in zip(line.x, line.estimates) if e.predicted is not None]
    if known:
        x = [i for i, _ in known]
        mean = [float(e.predicted or 0.0) for _, e in known]
        spread = [float(e.spread or 0.0) for _, e in known]
        low = [max(m - s, 0.02 * m) if m > 0 else m - s for m, s in zip(mean, spread)]
        ax.plot(x, mean, color=tone, lw=1.1, ls=DASHES[index % len(DASHES)], zorder=1.5)
        high = [m + s for m, s in zip(mean, spread)]
        ax.fill_between(x, low, high, color=tone, alpha=0.16, lw=0)
    elif joined:
        ax.plot(line.x, [e.value for e in line.estimates], color=tone, lw=0.7, alpha=0.6)
    errors = [e.stderr if math.isfinite(e.stderr) else 0.0 for e in line.estimates]
    points(ax, line.x, [e.value for e in line.estimates], errors, label=line.label, index=index)


def _ticks(blocks: BlockRows) -> list[tuple[int, str]]:
    """Names of blocks where they fit; numbers alone where one container holds them all."""
    stems = {g.label.rpartition(".")[0] for g in blocks.numbered}
    plain = len(stems) == 1
    every = max(1, math.ceil(len(blocks.numbered) / TICKS))
    return [
        (i, str(g.number) if plain else g.label)
        for i, g in enumerate(blocks.groups)
        if g.number is not None and g.number % every == 0
    ]


def _reading(lines: Sequence[_Line]) -> str:
    """The numbers of this very model, in a sentence."""
    main = next((line for line in lines if line.label == STREAM), lines[0])
    first, last = main.estimates[0].value, main.estimates[-1].value
    who = "it" if len(lines) == 1 else f"{main.label!r}"
    text = f"Here {who} goes from {short(first)} in the first block to {short(last)} in the last."
    pulls = [(abs(e.z), line.label) for line in lines for e in line.estimates if e.z is not None]
    if pulls:
        z, label = max(pulls)
        text += f" The largest distance from theory is {z:.1f} spreads ({label})."
    return text

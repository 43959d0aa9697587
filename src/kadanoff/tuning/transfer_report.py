"""A learning-rate transfer on screen, as a figure and as a page."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure
from rich.table import Table

from kadanoff.files import atomic_write
from kadanoff.style.figures import SERIES, figure, house_style, points, to_svg
from kadanoff.style.html import Section, callout, figure_block, page, table
from kadanoff.style.numbers import short, uncertain
from kadanoff.style.progress import console
from kadanoff.tuning.sweeps import Transfer

__all__ = ["show_transfer", "transfer_figure", "write_page"]

_SWEEP = ("width", "depth", "log2 of the best base", "lowest loss")
_CHECK = ("layer", "exponent in the width", "predicted", "verdict")


def transfer_figure(found: Transfer) -> Figure:
    """Loss against base rate at each size, and how far each layer moves against the width."""
    with house_style():
        fig, (left, right) = figure(1, 2, width=8.4, height=3.4)
        for i, c in enumerate(found.curves):
            label = f"width {c.width}, depth {c.depth}"
            points(left, c.bases, c.loss, c.stderr, label=label, index=i)
            left.plot(c.bases, c.loss, color=SERIES[i % len(SERIES)], linewidth=1)
            left.axvline(2**c.optimum, color=SERIES[i % len(SERIES)], linewidth=0.8, alpha=0.6)
        left.set(xscale="log", yscale="log", xlabel=_knob(found), ylabel="loss at the end")
        left.legend(fontsize="small")
        for i, c in enumerate(found.coordinates):
            points(right, c.widths, c.change, c.stderr, label=c.layer, index=i)
            middle = c.change[len(c.change) // 2]
            at = c.widths[len(c.widths) // 2]
            line = [middle * (w / at) ** c.predicted for w in c.widths]
            right.plot(c.widths, line, color=SERIES[i % len(SERIES)], linewidth=1)
        right.set(xscale="log", yscale="log", xlabel="width", ylabel="change in a few steps")
        if found.coordinates:
            right.legend(
                title="layer\n(line: predicted)",
                fontsize="small",
                loc="center left",
                bbox_to_anchor=(1.0, 0.5),
            )
    return fig


_WORDS = {
    "base": "base rate",
    "lr": "learning rate",
    "weight_decay": "weight decay",
    "batch": "batch size",
    "eps": "Adam's ε",
    "beta2": "1 − β₂",
    "warmup": "warm-up, part of the steps",
}


def _knob(found: Transfer) -> str:
    return _WORDS.get(found.knob, found.knob)


def _verdict(found: Transfer) -> tuple[str, str]:
    spread = uncertain(found.spread, found.spread_stderr)
    if any(c.at_edge for c in found.curves):
        head = "Undecided: an optimum lies outside the values tried."
    elif found.carries:
        head = f"The {_knob(found)} carries over."
    else:
        head = f"The {_knob(found)} does not carry over."
    moved = [c.layer for c in found.coordinates if not c.fine]
    tail = f"Optima differ by {spread} factors of two (tolerance {found.tolerance:g}). "
    tail += (
        f"Layers that move otherwise than predicted: {', '.join(moved)}."
        if moved
        else "Every layer moves with width as predicted."
    )
    return head, tail


def _rows(found: Transfer) -> tuple[list[list[str]], list[list[str]]]:
    sweep = [
        [
            str(c.width),
            str(c.depth),
            uncertain(c.optimum, c.optimum_stderr) + (" (at the edge)" if c.at_edge else ""),
            short(min(c.loss)),
        ]
        for c in found.curves
    ]
    check = [
        [
            c.layer,
            uncertain(c.slope, c.slope_stderr),
            short(c.predicted),
            "as predicted" if c.fine else "NOT as predicted",
        ]
        for c in found.coordinates
    ]
    return sweep, check


def write_page(found: Transfer, path: Path, subtitle: str) -> None:
    """Write the sweep, the coordinate check and the verdict as one HTML file.

    Parameters
    ----------
    found : Transfer
    path : Path
    subtitle : str
        Model and data.
    """
    head, tail = _verdict(found)
    sweep, check = _rows(found)
    svg = to_svg(transfer_figure(found), "Learning-rate sweep and coordinate check", tail)
    note = (
        "Left: loss against base rate at each size; where the vertical lines coincide, the rate "
        "carries over. Right: how far activations move; lines are the prediction."
    )
    body = figure_block(svg, note) + table(_SWEEP, sweep, "Best rates")
    atomic_write(
        path,
        page(
            "Learning-rate transfer",
            [Section("Sweep", body), Section("Coordinates", table(_CHECK, check, "Exponents"))],
            subtitle=f"{subtitle}; {found.optimizer}, s = {found.s:g}",
            verdict=callout("good" if found.fine else "bad", head, tail),
        ),
    )


def show_transfer(found: Transfer) -> None:
    """Print the verdict and both tables."""
    screen = console()
    head, tail = _verdict(found)
    screen.print(f"[bold {'green' if found.fine else 'red'}]{head}[/]")
    screen.print(tail + "\n")
    for columns, rows in zip((_SWEEP, _CHECK), _rows(found)):
        if rows:
            shown = Table(*columns, box=None, header_style="bold")
            for row in rows:
                shown.add_row(*row)
            screen.print(shown)
            screen.print()

"""What tuning did, in the terminal and as a page: before and after, side by side."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kadanoff.diagnosis.html import diagnosis_sections
from kadanoff.style.figures import SERIES, figure, house_style, to_svg
from kadanoff.style.html import Raw, Section, callout, figure_block, page, table
from kadanoff.style.numbers import short
from kadanoff.style.terminal import Canvas, TerminalView

if TYPE_CHECKING:
    from kadanoff.tuning.halving import Race
    from kadanoff.tuning.tuned import Tuned

__all__ = [
    "comparison_html",
    "comparison_terminal",
    "loss_figure",
    "plan_terminal",
    "tuned_terminal",
    "tuned_text",
]

HEIGHT, COLUMNS = 12, 60


def plan_terminal(plan: Any) -> TerminalView:
    """What happened to each weight."""

    def build(canvas: Canvas) -> list[Any]:
        write, plain = canvas.write, canvas.plain
        lines: list[Any] = [Text(write(_sentence(plan)), style="bold")]
        moved = [c for c in plan.changes if abs(c.gain_after / (c.gain_before or 1) - 1) > 1e-6]
        if moved:
            rows = Table(box=box.ASCII2 if plain else box.SIMPLE_HEAD, show_edge=False)
            for name in ("weight", "gain before", "gain after", "χ after"):
                rows.add_column(write(name), justify="left" if name == "weight" else "right")
            for c in moved[:6] + ([None] if len(moved) > 9 else []) + moved[6:][-3:]:
                if c is None:
                    rows.add_row(f"... ({len(moved) - 9} more)", "", "", "")
                else:
                    cells = (short(c.gain_before), short(c.gain_after), short(c.chi))
                    rows.add_row(c.name, *cells)
            lines.append(rows)
        if plan.left:
            lines.append(Text(f"{_weights(len(plan.left))} left as found: nothing to mend", "dim"))
        return lines

    return TerminalView(build)


# parameters listed before the rest is counted
LISTED = 40


def tuned_terminal(tuned: Tuned) -> TerminalView:
    """The verdict, the trials, every parameter with its rate and the reason, and what to paste."""

    def build(canvas: Canvas) -> list[Any]:
        write = canvas.write
        parts: list[Any] = [Text(write(tuned.verdict), style="bold")]
        parts += [Text(write(note), style="yellow") for note in tuned.notes]
        if tuned.race is not None:
            parts += [Text(""), _trials_table(tuned.race, canvas)]
            parts.append(Text(write(tuned.race.cost), style="dim"))
        rates = {e.lr for e in tuned.entries if e.lr is not None}
        if len(rates) > 1 or any(e.rescaled for e in tuned.entries):
            parts += [Text(""), _entries_table(tuned, canvas)]
        parts += [Text(""), Text(tuned.line)]
        if tuned.decay_lines:
            parts += [Text("or, with a rate that falls to zero:"), Text(tuned.decay_lines)]
        return parts

    return TerminalView(build)


def _trials_table(race: Race, canvas: Canvas) -> Table:
    rows = Table(box=box.ASCII2 if canvas.plain else box.SIMPLE_HEAD, show_edge=False)
    for name in ("trial", "steps", "loss", "outcome"):
        rows.add_column(name, justify="right" if name in ("steps", "loss") else "left")
    for trial in race.trials:
        style = "bold" if trial.name == race.winner else None
        cells = (trial.name, str(trial.steps), short(trial.loss), trial.outcome)
        rows.add_row(*(canvas.write(cell) for cell in cells), style=style)
    return rows


def _entries_table(tuned: Tuned, canvas: Canvas) -> Table:
    rows = Table(box=box.ASCII2 if canvas.plain else box.SIMPLE_HEAD, show_edge=False)
    for name in ("parameter", "lr", "gain", "why"):
        rows.add_column(name, justify="right" if name == "lr" else "left", no_wrap=name == "lr")
    for e in tuned.entries[:LISTED]:
        gain = f"{short(e.gain_before)} → {short(e.gain_after)}" if e.rescaled else ""
        rate = "" if e.lr is None else f"{e.lr:.2e}"
        rows.add_row(*(canvas.write(cell) for cell in (e.name, rate, gain, e.why)))
    more = len(tuned.entries) - LISTED
    if more > 0:
        rows.add_row(f"... ({more} more)", "", "", "")
    return rows


def tuned_text(tuned: Tuned) -> str:
    """The same as plain text."""
    console = Console(width=100, file=io.StringIO(), color_system=None)
    console.print(tuned_terminal(tuned))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().rstrip()


def _sentence(plan: Any) -> str:
    if plan.method == "closed form":
        return f"Tuned {_weights(len(plan.changes))} in closed form, by the theory's C_W and C_b."
    if plan.method == "numerical":
        return (
            f"Tuned {_weights(len(plan.changes))} in {plan.sweeps} sweeps; the largest |χ − 1| "
            f"left is {short(plan.worst, 2)}."
        )
    return "Nothing to tune: every step is critical or normalised already."


def comparison_terminal(comparison: Any) -> TerminalView:
    """Verdicts before and after, then both loss curves in one plot of characters."""

    def build(canvas: Canvas) -> list[Any]:
        write, plain = canvas.write, canvas.plain
        parts: list[Any] = []
        for name, d in (("before", comparison.before), ("after", comparison.after)):
            tone = "green" if d.healthy else "red"
            parts.append(Text(""))
            parts.append(Text.assemble((f"{name}: ", f"bold {tone}"), write(d.verdict)))
            parts += [Text(write(f"  {f.severity}: {f.sentence}"), "dim") for f in d.findings[1:3]]
        parts.append(Text(""))
        if comparison.note:
            return [*parts, Text(comparison.note)]
        a, b = comparison.trained_before, comparison.trained_after
        parts.append(Text(_trained(comparison), style="bold"))
        if comparison.trouble:
            parts.append(Text(comparison.trouble, style="bold red"))
        parts.append(Text("\n".join(_chart(a.losses, b.losses, plain))))
        return parts

    return TerminalView(build)


def _trained(comparison: Any) -> str:
    a, b = comparison.trained_before, comparison.trained_after
    steps = len(a.losses)
    return (
        f"{comparison.loss_name} after {steps} steps of {comparison.optimizer}: before "
        f"{short(a.final)} (lr {a.lr:g}), after {short(b.final)} (lr {b.lr:g})"
    )


def _chart(before: Sequence[float], after: Sequence[float], plain: bool) -> list[str]:
    """Two curves as characters: ``x`` before, ``o`` after."""
    marks = ("x", "o") if plain else ("×", "●")
    columns = min(COLUMNS, len(before))
    curves = [_thinned(run, columns) for run in (before, after)]
    finite = [v for curve in curves for v in curve if math.isfinite(v)]
    if not finite:
        return ["both diverged"]
    low, high = min(finite), max(finite)
    scale = (HEIGHT - 1) / (high - low or 1.0)
    grid = [[" "] * columns for _ in range(HEIGHT)]
    for curve, mark in zip(curves, marks):
        for column, value in enumerate(curve):
            if math.isfinite(value):
                grid[round((high - value) * scale)][column] = mark
    lines = []
    for row, cells in enumerate(grid):
        label = short(high - row / scale) if row in (0, HEIGHT - 1) else ""
        lines.append(f"{label:>8} {'|' if plain else '│'}{''.join(cells)}")
    lines.append(" " * 9 + ("+" if plain else "└") + ("-" if plain else "─") * columns)
    lines.append(f"{'':9} step 1 to {len(before)}    {marks[0]} before   {marks[1]} after")
    return lines


def _thinned(run: Sequence[float], columns: int) -> list[float]:
    size = len(run) / columns
    parts = [
        run[int(i * size) : max(int(i * size) + 1, int((i + 1) * size))] for i in range(columns)
    ]
    return [sum(part) / len(part) for part in parts]


def loss_figure(runs: Sequence[tuple[str, Sequence[float]]], axis: str, said: str) -> str:
    """Loss curves together, as an SVG element.

    Parameters
    ----------
    runs : sequence of (str, sequence of float)
        Label and losses of each.
    axis : str
        What the horizontal axis counts.
    said : str
        Of the figure, for who cannot see it.
    """
    with house_style():
        fig, ax = figure(width=7.2, height=3.4)
        for index, (label, losses) in enumerate(runs):
            steps = range(1, len(losses) + 1)
            dash = ("-", (0, (5, 2)))[index % 2]
            ax.plot(steps, losses, color=SERIES[(1 - index) % 2], ls=dash, label=label)
        ax.set_xlabel("step")
        ax.set_ylabel(axis)
        ax.legend()
        return to_svg(fig, "Training loss before and after tuning", said)


def comparison_html(target: str, plan: Any, comparison: Any) -> str:
    """The whole comparison as one page.

    Parameters
    ----------
    target : str
        Name of the model.
    plan : Tuned or Initialisation
    comparison : BeforeAfter
    """
    a, b = comparison.before, comparison.after
    sections: list[Section] = []
    boxes = [
        callout("good" if d.healthy else "bad", f"{name}: {d.verdict}", label=name)
        for name, d in (("Before", a), ("After", b))
    ]
    sections.append(Section("Before and after", Raw("".join(boxes))))
    if comparison.trained_before is not None:
        said = _trained(comparison) + "."
        runs = [
            (f"before (lr {comparison.trained_before.lr:g})", comparison.trained_before.losses),
            (f"after (lr {comparison.trained_after.lr:g})", comparison.trained_after.losses),
        ]
        words = said + (
            " Both saw the same batches in the same order; each has its own best learning rate."
        )
        svg = loss_figure(runs, comparison.loss_name, said)
        sections.append(Section("Training", figure_block(svg, words, "Loss, step by step")))
    said, section = _changes_section(plan)
    sections += [section] if section is not None else []
    for name, d in (("before", a), ("after", b)):
        kept = [s for s in diagnosis_sections(d) if s.title in ("Layer by layer",)]
        sections += [Section(f"{s.title}, {name}", s.body) for s in kept]
    return page(f"Tuning {a.model}", sections, subtitle=f"{target}: {said}")


def _changes_section(plan: Any) -> tuple[str, Section | None]:
    """What was changed, from a plan of initialisation or from all that ``tune`` did."""
    if hasattr(plan, "entries"):
        shown = [e for e in plan.entries if e.why or e.rescaled]
        rows = [
            [e.name, short(e.lr), short(e.gain_before), short(e.gain_after), e.why] for e in shown
        ]
        body = table(["parameter", "lr", "gain before", "gain after", "why"], rows, "Gain: n · W²")
        return plan.verdict, Section("What was changed", body) if rows else None
    rows = [
        [c.name, short(c.gain_before), short(c.gain_after), short(c.chi), c.reason]
        for c in plan.changes
    ]
    head = ["weight", "gain before", "gain after", "χ after", "why"]
    body = table(head, rows, "Gain is n · mean(W²); χ the squared partial-Jacobian norm.")
    return _sentence(plan), Section("What was changed", body) if rows else None


def _weights(count: int) -> str:
    return "1 weight" if count == 1 else f"{count} weights"

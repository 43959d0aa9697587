"""A diagnosis in the terminal: the verdict first, then the layers, then what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from kadanoff.diagnosis.block_table import Column, block_columns
from kadanoff.diagnosis.blocks import BlockRows, Group, blocks_of
from kadanoff.style.numbers import percent, short, uncertain
from kadanoff.style.terminal import TerminalView

if TYPE_CHECKING:
    from kadanoff.diagnosis.result import Diagnosis, Estimate, Finding, LayerReport, TimeReport

__all__ = [
    "SHOWN_TIMES",
    "diagnosis_terminal",
    "loss_line",
    "span",
    "steps_shown",
    "time_line",
    "trial_line",
]

SHOWN_TIMES = 4  # recurrences of which a line is shown

MAX_ROWS = 34


def diagnosis_terminal(diagnosis: Diagnosis, *, calls: bool = False) -> TerminalView:
    """Return what ``rich`` prints for a diagnosis; at most 100 columns wide.

    Parameters
    ----------
    diagnosis : Diagnosis
    calls : bool
        A row a call also where the model has blocks; else those have a row each.
    """
    return TerminalView(lambda c: _parts(diagnosis, c.write, c.plain, c.width, calls))


def _parts(
    d: Diagnosis, write: Callable[[str], str], plain: bool, width: int, calls: bool
) -> Iterator[Any]:
    mark, colour = ("OK", "green") if d.healthy else ("SICK", "red")
    if d.meta.get("predicted"):
        mark, colour = "PREDICTED", "blue"
    yield Text.assemble(
        (f" {mark} ", f"bold reverse {colour}"),
        " ",
        (write(d.verdict[:1].upper() + d.verdict[1:]), "bold"),
    )
    yield Text(write(_subject(d)), style="dim")
    for line in (loss_line(d), trial_line(d), *map(time_line, d.times[:SHOWN_TIMES])):
        if line:
            yield Text(write(line), style="dim")
    for number, finding in enumerate((f for f in d.findings if f.severity != "note"), start=1):
        yield Text("")
        yield from _finding(finding, f"{number}. {finding.severity}: ", write)
    yield Text("")
    blocks = blocks_of(d.layers, d.sums)
    if blocks and not calls:
        yield _block_table(d, blocks, write, plain, width)
        said = ". ".join(f"{c.name}: {c.hint}" for c in _distinct(block_columns(blocks)))
        yield Text(write(f"{said}. --calls shows every call."), style="dim")
    else:
        yield _layer_table(d, write, plain, width)
        if d.layers:
            yield Text(write(_legend(d)), style="dim")
    for finding in d.findings:
        if finding.severity == "note":
            yield Text("")
            yield Text(write(f"note: {finding.sentence} [{finding.label}]"), style="dim")
    for note in d.notes:
        yield Text("")
        yield Text(write(f"note: {note}"), style="dim")


def _finding(finding: Finding, head: str, write: Callable[[str], str]) -> Iterator[Any]:
    tone = "red" if finding.severity == "critical" else "yellow"
    layers = f" [{span(finding.layers)}]" if finding.layers else ""
    yield Text.assemble((head, f"bold {tone}"), write(finding.sentence), (layers, "dim"))
    if finding.because_of:
        said = f"a consequence of: {', '.join(finding.because_of)}"
        yield Padding(Text(write(said), style="dim"), (0, 0, 0, 3), expand=False)
        return
    if finding.cause:
        why = Text.assemble(("why: ", "bold"), write(finding.cause))
        yield Padding(why, (0, 0, 0, 3), expand=False)
    if finding.remedy:
        do = Text.assemble(("do: ", "bold green"), write(finding.remedy))
        yield Padding(do, (0, 0, 0, 3), expand=False)
    more = f"{finding.label}: kadanoff diagnose --explain {finding.id}"
    yield Padding(Text(more, style="dim"), (0, 0, 0, 3), expand=False)


def _subject(d: Diagnosis) -> str:
    count = sum(f.severity != "note" for f in d.findings)
    # beyond 1e10 parameters no main chain is followed, so that there is no depth to tell
    depth = f"depth {d.depth}, " if d.depth else ""
    sign = f"{d.model}: {d.n_parameters:,} parameters, {depth}{d.n_samples} samples"
    if d.aspect is not None:
        sign += f", depth/width {short(d.aspect, 2)}"
    if count:
        sign += f" ({count} finding{'s' * (count > 1)})"
    return sign


def loss_line(d: Diagnosis) -> str:
    """The loss, what it is, and what a model that knows nothing would have."""
    if d.loss is None:
        return ""
    if d.loss_stands_in:
        return (
            f"loss: none was given and there are no targets; a {d.loss_name} stands in for it "
            "(gradients below are of that)"
        )
    known = (
        "" if d.constant_loss is None else f"; the best constant output {short(d.constant_loss)}"
    )
    return f"loss {short(d.loss)} ({d.loss_name}{known})"


def time_line(time: TimeReport) -> str:
    """Gradient and signal at a few steps of one recurrence."""
    count = len(time.gradient)
    at = steps_shown(count, 5)
    gradient = ", ".join(short(time.gradient[i], 2) for i in at)
    said = f"time: {time.path or time.op}, {count} steps; at {', '.join(str(i + 1) for i in at)}: "
    said += f"gradient {gradient}"
    if len(time.signal) == count:
        said += f"; signal {', '.join(short(time.signal[i], 2) for i in at)}"
    return said


def steps_shown(count: int, most: int) -> list[int]:
    """A few steps of a sequence, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return [round(i * (count - 1) / (most - 1)) for i in range(most)]


def trial_line(d: Diagnosis) -> str:
    """What the trial showed."""
    t = d.trial
    if t is None or not t.losses:
        return ""
    end = short(t.losses[-1]) if t.finite else "infinity"
    text = f"trial: {t.steps} steps on a copy ({t.recipe}): loss {short(t.losses[0])} -> {end}"
    if t.learns is not None:
        text += ", it learns" if t.learns else ", it does not learn"
    if t.edge is not None:
        text += f"; largest stable rate about {short(t.edge, 2)}"
    return text


def _legend(d: Diagnosis) -> str:
    said = "z²: mean square of preactivations; corr: cosine between two inputs; χ⊥: squared"
    said += " Jacobian to the next layer; grad: gradient per weight; gain: n·Var(W)."
    if d.describable:
        said += " theory, z: prediction at these widths and how many standard deviations off."
    return said


# name, value of a layer as text; a column is shown if any layer has something in it
def _columns(d: Diagnosis) -> list[tuple[str, Callable[[LayerReport], str]]]:
    def number(field: str) -> Callable[[LayerReport], str]:
        return lambda layer: _estimate(getattr(layer, field))

    def share(field: str) -> Callable[[LayerReport], str]:
        def shown(layer: LayerReport) -> str:
            estimate: Estimate | None = getattr(layer, field)
            return "" if estimate is None else percent(estimate.value)

        return shown

    def predicted(layer: LayerReport) -> str:
        estimate = layer.second_moment
        return "" if estimate is None or estimate.predicted is None else short(estimate.predicted)

    def pull(layer: LayerReport) -> str:
        estimate = layer.second_moment
        return "" if estimate is None or estimate.z is None else f"{estimate.z:+.1f}"

    def gradient(layer: LayerReport) -> str:
        return "" if layer.gradient is None else short(layer.gradient.value, 2)

    def gain(layer: LayerReport) -> str:
        return "" if layer.weight_gain is None else short(layer.weight_gain.value)

    def critical(layer: LayerReport) -> str:
        return "" if layer.critical_gain is None else short(layer.critical_gain)

    return [
        ("z²", number("second_moment")),
        ("theory", predicted),
        ("z", pull),
        ("corr", number("correlation")),
        ("χ⊥", number("jacobian")),
        ("grad", gradient),
        ("gain", gain),
        ("crit.", critical),
        ("dead", share("dead")),
        ("zero", share("zeros")),
        ("satur.", share("saturated")),
    ]


def _estimate(estimate: Estimate | None) -> str:
    return "" if estimate is None else uncertain(estimate.value, estimate.stderr)


def _distinct(columns: list[Column]) -> list[Column]:
    """Each name once."""
    return list({column.name: column for column in columns}.values())


def _block_table(
    d: Diagnosis, blocks: BlockRows, write: Callable[[str], str], plain: bool, width: int
) -> Table:
    table = _empty_table(plain)
    columns = block_columns(blocks)
    room = max(8, min(28, max(len(g.label) for g in blocks.groups)))
    table.add_column("block", no_wrap=True, max_width=room, overflow="crop")
    for column in columns:
        table.add_column(write(column.name), justify="right", no_wrap=True, overflow="crop")
    accused = {index for finding in d.findings for index in finding.layers}
    shown = _ends(blocks.groups)
    for group in shown:
        if group is None:
            left = len(blocks.groups) - len(shown) + 1
            table.add_row(f"({left} more)", *[""] * len(columns))
            continue
        some = any(layer.index in accused for layer in group.layers)
        style = "red" if some and len(accused) < len(d.layers) else None
        cells = [write(column.cell(group)) for column in columns]
        table.add_row(escape(write(_shorten(group.label, room))), *cells, style=style)
    return table


def _ends(groups: Sequence[Group]) -> list[Group | None]:
    """Beginning and end of a net with too many blocks to print, None for what is left out."""
    if len(groups) <= MAX_ROWS:
        return list(groups)
    half = MAX_ROWS // 2
    return [*groups[:half], None, *groups[-half:]]


def _empty_table(plain: bool) -> Table:
    return Table(
        box=box.ASCII2 if plain else box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="bold",
        show_edge=False,
    )


def _layer_table(d: Diagnosis, write: Callable[[str], str], plain: bool, width: int) -> Table:
    table = _empty_table(plain)
    columns = _columns(d)
    shown = _rows(d)
    filled = [
        (name, cell)
        for name, cell in columns
        if any(cell(layer) not in ("", "0%") for layer in d.layers)
    ]
    # too narrow: drop the least telling columns first
    for name in ("satur.", "crit.", "z", "zero", "dead", "theory", "gain", "grad", "corr"):
        if _width(shown, filled) + 12 <= width:
            break
        filled = [column for column in filled if column[0] != name]
    room = max(10, min(32, width - _width(shown, filled)))
    table.add_column("#", justify="right", no_wrap=True, overflow="crop", min_width=2)
    table.add_column("layer", no_wrap=True, max_width=room, overflow="crop")
    for name, _ in filled:
        table.add_column(write(name), justify="right", no_wrap=True, overflow="crop")
    accused = {i for finding in d.findings if finding.severity != "note" for i in finding.layers}
    previous = 0
    for layer in shown:
        if layer.index > previous + 1:
            table.add_row("..", f"({layer.index - previous - 1} more)", *[""] * len(filled))
        previous = layer.index
        style = "red" if layer.index in accused and len(accused) < len(d.layers) else None
        cells = [write(cell(layer)) for _, cell in filled]
        name = escape(write(_shorten(_name(layer), room)))
        table.add_row(str(layer.index), name, *cells, style=style)
    return table


def _width(layers: list[LayerReport], columns: list[Any]) -> int:
    """Characters that the row number and these columns take."""
    numbers = 2 + max((len(str(layer.index)) for layer in layers), default=1)
    return numbers + sum(
        2 + max(len(name), *(len(cell(layer)) for layer in layers)) for name, cell in columns
    )


def _name(layer: LayerReport) -> str:
    name = layer.path or "(model)"
    return f"{name}#{layer.call_index}" if layer.call_index else name


def _shorten(name: str, room: int) -> str:
    # the end of a path tells layers apart, its beginning does not
    return name if len(name) <= room else ".." + name[-(room - 2) :]


def _rows(d: Diagnosis) -> list[LayerReport]:
    """Beginning and end of a net too deep to print; files hold every layer."""
    if len(d.layers) <= MAX_ROWS:
        return list(d.layers)
    half = MAX_ROWS // 2
    return [*d.layers[:half], *d.layers[-half:]]


def span(indices: tuple[int, ...]) -> str:
    """Write layer numbers in short: ``layers 2-7, 9``."""
    runs: list[list[int]] = []
    for index in sorted(set(indices)):
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    parts = [str(a) if a == b else f"{a}-{b}" for a, b in runs]
    shown = ", ".join(parts[:6]) + (", ..." if len(parts) > 6 else "")
    return f"layer{'s' * (len(set(indices)) > 1)} {shown}"

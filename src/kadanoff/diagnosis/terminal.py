"""A diagnosis in the terminal: the verdict first, then the layers, then what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from rich import box
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from kadanoff.style.numbers import percent, short, uncertain
from kadanoff.style.terminal import View

if TYPE_CHECKING:
    from kadanoff.diagnosis.result import Diagnosis, Estimate, LayerReport

__all__ = ["diagnosis_terminal", "span"]

MAX_ROWS = 34


def diagnosis_terminal(diagnosis: Diagnosis) -> View:
    """Return what ``rich`` prints for a diagnosis; at most 100 columns wide."""
    return View(lambda c: _parts(diagnosis, c.write, c.plain, c.width))


def _parts(d: Diagnosis, write: Callable[[str], str], plain: bool, width: int) -> Iterator[Any]:
    mark, colour = ("OK", "green") if d.healthy else ("SICK", "red")
    count = "" if d.healthy else f" ({len(d.findings)} finding{'s' * (len(d.findings) > 1)})"
    yield Text.assemble(
        (f" {mark} ", f"bold reverse {colour}"),
        " ",
        (write(d.verdict[:1].upper() + d.verdict[1:]), "bold"),
    )
    yield Text(write(_subject(d) + count), style="dim")
    yield Text("")
    yield _layer_table(d, write, plain, width)
    if d.layers:
        yield Text(write(_legend(d)), style="dim")
    for number, finding in enumerate(d.findings, start=1):
        yield Text("")
        tone = "red" if finding.severity == "critical" else "yellow"
        layers = f" [{span(finding.layers)}]" if finding.layers else ""
        yield Text.assemble(
            (f"{number}. {finding.severity}: ", f"bold {tone}"),
            write(finding.sentence),
            (layers, "dim"),
        )
        if finding.remedy:
            yield Padding(
                Text.assemble(("do: ", "bold green"), write(finding.remedy)),
                (0, 0, 0, 3),
                expand=False,
            )
    for note in d.notes:
        yield Text("")
        yield Text(write(f"note: {note}"), style="dim")


def _subject(d: Diagnosis) -> str:
    sign = f"{d.model}: {d.n_parameters:,} parameters, depth {d.depth}, {d.n_samples} samples"
    if d.aspect is not None:
        sign += f", depth/width {short(d.aspect, 2)}"
    if d.loss is not None:
        sign += f", loss {short(d.loss)}"
    return sign


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


def _layer_table(d: Diagnosis, write: Callable[[str], str], plain: bool, width: int) -> Table:
    table = Table(
        box=box.ASCII2 if plain else box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="bold",
        show_edge=False,
    )
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
    accused = {index for finding in d.findings for index in finding.layers}
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

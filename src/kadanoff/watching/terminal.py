"""The film in a terminal: what was found, and the numbers it began and ended with."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from kadanoff.style.numbers import short
from kadanoff.style.terminal import TerminalView
from kadanoff.watching.film import Film
from kadanoff.watching.page import lazy_or_learning, noise_scale

__all__ = ["film_terminal"]

_STYLES = {"critical": "bold red", "warning": "yellow", "note": "dim"}
_NUMBERS = {
    "loss": "loss on the watched batch",
    "probe_gradient": "norm of its gradient",
    "update_ratio": "update over weight, median",
    "sharpness": "sharpness",
    "edge": "edge of the optimiser",
    "sharpness_over_edge": "sharpness over edge",
    "ntk_drift": "drift of the empirical NTK",
    "kernel_radii": "distance in kernel radii",
    "moved": "distance over the first weights",
}


def film_terminal(film: Film) -> TerminalView:
    """What a terminal shows of a film.

    Parameters
    ----------
    film : Film
    """

    return TerminalView(lambda canvas: _parts(film, canvas.write))


def _parts(film: Film, write: Callable[[str], str]) -> Iterator[RenderableType]:
    loud = [e for e in film.events if e.finding.severity != "note" and not e.finding.because_of]
    word = "nothing was found" if not loud else f"{len(loud)} found"
    recipe = f" ({film.recipe})" if film.recipe else ""
    yield Text(write(f"{film.model}: {word} in {film.step:,} steps{recipe}."), style="bold")
    for event in film.events:
        finding = event.finding
        said = f"{finding.severity:8s} {finding.id} {event}"
        if finding.because_of:
            yield Text(write(f"  follows {finding.id} {event}"), style="dim")
            continue
        yield Text(write(said), style=_STYLES[finding.severity])
        if finding.severity != "note":
            yield Text(write(f"         do: {finding.remedy}"))
    yield _table(film, write)
    for note in film.notes:
        yield Text(write(f"note: {note}"), style="dim")


def _table(film: Film, write: Callable[[str], str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for name in ("first", "last", ""):
        table.add_column(name, justify="right" if name else "left")
    for name, said in _NUMBERS.items():
        values = film.scalar(name)[1]
        if values:
            word = lazy_or_learning(values[-1]) if name == "kernel_radii" else ""
            table.add_row(write(said), short(values[0]), short(values[-1]), word)
    scale = noise_scale(film)
    if not math.isnan(scale):
        table.add_row("noise scale", "", short(scale), "samples at which noise equals signal")
    return table

"""One house style for every figure: theory is a line, measurement is points with error bars.

A figure is drawn once, in the light colours. :func:`to_svg` can turn each colour into a CSS
variable, so that the same drawing follows the reader's light or dark theme inside a page.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from kadanoff.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

__all__ = [
    "COLOURS",
    "SERIES",
    "colour",
    "css_variables",
    "figure",
    "file_format",
    "for_print",
    "house_style",
    "inline_svg",
    "points",
    "save",
    "to_svg",
    "write",
]

# role -> (light, dark). The light value is what matplotlib draws; each is unique, because
# `to_svg` finds a role by its colour. Text and lines keep a contrast of at least 4.5 on both
# backgrounds, grid lines excepted.
COLOURS: dict[str, tuple[str, str]] = {
    "ink": ("#1c2430", "#e6e9ef"),
    "muted": ("#5a6472", "#a3adbb"),
    "grid": ("#e3e7ec", "#2e3642"),
    "surface": ("#fffffe", "#171c24"),
    "theory": ("#b3460f", "#f4a261"),
    "measured": ("#1b5e9e", "#7cb8f2"),
    "critical": ("#2c7a4b", "#7fd1a0"),
    "bad": ("#b42330", "#ff8f8f"),
    "violet": ("#6b46a3", "#c3a6f5"),
    "teal": ("#0b7285", "#66d2e4"),
    "gold": ("#8a6100", "#e6c15a"),
    "rose": ("#a83279", "#f29ac9"),
}
# order in which unnamed series take their colours
SERIES = tuple(
    COLOURS[role][0]
    for role in ("measured", "theory", "critical", "violet", "teal", "gold", "rose", "bad")
)
# colour is never the only cue: series also differ by marker and dash
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (6, 2, 1, 2)), (0, (3, 1)), (0, (8, 3)))
FONTS = ["Helvetica Neue", "Arial", "Liberation Sans", "DejaVu Sans"]


def colour(role: str) -> str:
    """Return the light-theme colour of a role (``"ink"``, ``"theory"``, ``"measured"``, ...)."""
    return COLOURS[role][0]


def _settings() -> dict[str, Any]:
    from cycler import cycler

    ink, muted, grid = colour("ink"), colour("muted"), colour("grid")
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": "kadanoff",
        "figure.dpi": 100,
        "savefig.dpi": 160,
        "figure.facecolor": colour("surface"),
        "savefig.facecolor": colour("surface"),
        "axes.facecolor": "none",
        "font.family": "sans-serif",
        "font.size": 10,
        "mathtext.fontset": "dejavusans",
        "text.color": ink,
        "axes.labelcolor": ink,
        "axes.titlecolor": ink,
        "axes.titlesize": 10.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.edgecolor": muted,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.prop_cycle": cycler(color=SERIES),
        "grid.color": grid,
        "grid.linewidth": 0.8,
        "xtick.color": muted,
        "ytick.color": muted,
        "xtick.labelcolor": ink,
        "ytick.labelcolor": ink,
        "xtick.labelsize": 9,
        "ytick.labelsize": 9,
        "legend.frameon": False,
        "legend.fontsize": 9,
        "legend.labelcolor": ink,
        "lines.linewidth": 1.8,
        "lines.markersize": 4.5,
        "errorbar.capsize": 2,
    }


def _without_missing_fonts(settings: dict[str, Any]) -> dict[str, Any]:
    # matplotlib logs one line per missing family and figure; ask only for what is there. The
    # reader's browser gets the full list from the page's style sheet instead.
    from matplotlib import font_manager

    present = {font.name for font in font_manager.fontManager.ttflist}
    # a list of families (not the alias sans-serif) lets ⊥ fall back to a font that has it
    return settings | {"font.family": [f for f in FONTS if f in present] or ["DejaVu Sans"]}


@contextmanager
def house_style() -> Iterator[None]:
    """Context in which matplotlib draws in the house style; leaves the user's settings alone."""
    import matplotlib

    settings: Any = _without_missing_fonts(_settings())
    paper = _paper.get()
    if paper is not None:
        settings = settings | _in_print(paper)
    with matplotlib.rc_context(settings):
        yield


@dataclass(frozen=True)
class _Paper:
    """How a figure is printed: its width in inches, and whether TeX sets its labels."""

    width: float
    tex: bool


_paper: ContextVar[_Paper | None] = ContextVar("paper", default=None)
# widths of one and of both columns in the two-column journals of physics, in inches
_COLUMNS = {1: 3.375, 2: 7.0}


@contextmanager
def for_print(columns: int = 1, *, tex: bool = False) -> Iterator[None]:
    """Context in which every figure of this package is made for a paper.

    As wide as a column (3.375 in) or two (7 in), serif type of 8 points as in the text around it,
    thin lines, white ground, fonts embedded as outlines that journals accept. Save as ``.pdf``.

    Parameters
    ----------
    columns : {1, 2}
    tex : bool
        Labels set by LaTeX, which must be installed; else by matplotlib in the same face.

    Raises
    ------
    UsageError
        Neither 1 nor 2 columns; no LaTeX on this machine.

    Examples
    --------
    >>> import kadanoff as kd
    >>> from kadanoff.diagrams import draw, generate
    >>> with for_print():
    ...     fig = draw(generate(2))
    >>> round(float(fig.get_figwidth()), 3)
    3.375
    """
    if columns not in _COLUMNS:
        raise UsageError(f"columns = {columns!r} of a page.", "Choose 1 or 2.")
    if tex and shutil.which("latex") is None:
        raise UsageError("There is no latex on this machine.", "Install it, or leave tex=True out.")
    token = _paper.set(_Paper(_COLUMNS[columns], tex))
    try:
        yield
    finally:
        _paper.reset(token)


def _in_print(paper: _Paper) -> dict[str, Any]:
    """What differs on paper."""
    sizes = dict.fromkeys(("font.size", "axes.labelsize", "axes.titlesize"), 8)
    small = dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), 7)
    return {
        **sizes,
        **small,
        "text.usetex": paper.tex,
        "font.family": ["STIXGeneral", "DejaVu Serif"],
        "mathtext.fontset": "stix",
        # TrueType outlines, where journals refuse Type 3
        "pdf.fonttype": 42,
        "axes.titleweight": "normal",
        "figure.facecolor": "white",
        "savefig.facecolor": "white",
        "axes.linewidth": 0.5,
        "grid.linewidth": 0.4,
        "lines.linewidth": 1.0,
        "lines.markersize": 3,
        "errorbar.capsize": 1.5,
        "savefig.dpi": 600,
    }


def figure(
    nrows: int = 1, ncols: int = 1, *, width: float = 6.4, height: float = 3.2, **kwargs: Any
) -> tuple[Figure, Any]:
    """Make a figure and its axes without pyplot (nothing global, nothing to close).

    Call it inside :func:`house_style`. Returns ``(figure, axes)`` as ``plt.subplots`` does.

    Parameters
    ----------
    nrows, ncols : int
        Axes.
    width, height : float
        In inches; :func:`for_print` scales both to a column.
    **kwargs
        As ``plt.subplots`` takes them.
    """
    from matplotlib.figure import Figure

    paper = _paper.get()
    if paper is not None:
        # the same shape, as wide as its column
        width, height = paper.width, height * paper.width / width
    fig = Figure(figsize=(width, height), layout="constrained")
    return fig, fig.subplots(nrows, ncols, **kwargs)


def points(
    ax: Axes,
    x: ArrayLike,
    value: ArrayLike,
    error: ArrayLike | None = None,
    *,
    label: str = "measured",
    index: int = 0,
    **kwargs: Any,
) -> None:
    """Draw a measurement: points with one-sigma error bars; ``index`` picks colour and marker.

    Parameters
    ----------
    ax : Axes
    x, value, error : array, one shape
        ``error`` is one standard error; without it there are points alone.
    label : str
        For the legend.
    index : int
        Picks colour and marker.
    **kwargs
        As ``Axes.errorbar`` takes them.
    """
    import numpy as np

    settings: dict[str, Any] = {
        "color": SERIES[index % len(SERIES)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": "none",
        "elinewidth": 1.0,
    } | kwargs
    y = np.asarray(value, dtype=float)
    yerr = None if error is None else np.nan_to_num(np.asarray(error, dtype=float))
    ax.errorbar(np.asarray(x, dtype=float), y, yerr=yerr, label=label, **settings)


def css_variables(theme: int) -> str:
    """Return the CSS declarations ``--kd-ink: ...;`` of theme 0 (light) or 1 (dark)."""
    return " ".join(f"--kd-{role}: {values[theme]};" for role, values in COLOURS.items())


def to_svg(fig: Figure, title: str, description: str = "", *, themed: bool = True) -> str:
    """Return a figure as one ``<svg>`` element to put inside an HTML page.

    Parameters
    ----------
    fig : matplotlib.figure.Figure
    title, description : str
        Read aloud by a screen reader in place of the picture; say what the curve does.
    themed : bool
        Replace each house colour with its CSS variable (``var(--kd-ink, #1c2430)``).

    Returns
    -------
    str
        The element, scaled to its container, with ids that clash with no other figure's.
    """
    buffer = io.StringIO()
    with house_style():
        fig.savefig(buffer, format="svg", metadata={"Date": None}, transparent=themed)
    return inline_svg(buffer.getvalue(), title, description, themed=themed)


def inline_svg(svg: str, title: str, description: str = "", *, themed: bool = True) -> str:
    """Return an SVG document as one element to put inside a page (see :func:`to_svg`).

    Parameters
    ----------
    svg : str
        The whole document.
    title, description : str
        What a screen reader says.
    themed : bool
        Whether colours follow the reader's theme.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    key = "f" + hashlib.sha256((title + svg).encode()).hexdigest()[:8]
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{key}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{key}-\1)", svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{key}-\1"', svg)
    if themed:
        for role, (light, _) in COLOURS.items():
            svg = svg.replace(light, f"var(--kd-{role}, {light})")
    head, body = svg.split(">", 1)
    view = re.search(r'viewBox="([^"]+)"', head)
    box = view.group(1) if view else "0 0 460 230"
    words = f'<title id="{key}-title">{escape(title)}</title>'
    words += f'<desc id="{key}-desc">{escape(description)}</desc>'
    opening = (
        f'<svg class="kd-figure" role="img" aria-labelledby="{key}-title {key}-desc" '
        f'viewBox="{box}" xmlns="http://www.w3.org/2000/svg" '
        'xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
    return opening + words + body.strip()


def save(
    fig: Figure, stem: str | os.PathLike[str], formats: Sequence[str] = ("svg", "png")
) -> None:
    """Write ``stem.svg`` and ``stem.png`` atomically, in the light theme on its background.

    Parameters
    ----------
    fig : Figure
    stem : path
        Without the suffix.
    formats : sequence of str
        Suffixes.
    """
    from kadanoff.files import atomic_open

    with house_style():
        for kind in formats:
            with atomic_open(f"{os.fspath(stem)}.{kind}") as stream:
                metadata = {"Date": None} if kind == "svg" else None
                fig.savefig(stream, format=kind, metadata=metadata)


def file_format(path: str | os.PathLike[str]) -> str:
    """Return ``svg``, ``png`` or ``pdf``, as the ending of a file says.

    Raises
    ------
    UsageError
        Another ending, or none.
    """
    kind = os.path.splitext(os.fspath(path))[1].lstrip(".").lower()
    if kind not in ("svg", "png", "pdf"):
        raise UsageError(
            f"Cannot draw into {os.fspath(path)!r}.", "Name a .svg, .png or .pdf file."
        )
    return kind


def write(fig: Figure, path: str | os.PathLike[str]) -> None:
    """Write one figure as the file's ending says; without one, as ``.svg`` and ``.png``."""
    stem, suffix = os.path.splitext(os.fspath(path))
    save(fig, stem, (file_format(path),) if suffix else ("svg", "png"))

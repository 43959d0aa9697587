"""What a terminal shows: plain ASCII where it has nothing else, at most 100 columns."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult

__all__ = ["WIDTH", "Canvas", "TerminalView", "ascii_only"]

WIDTH = 100

# what an ASCII terminal gets in place of the field's symbols
_ASCII = {
    "χ⊥": "chi_perp",
    "χ∥": "chi_par",
    "χ": "chi",
    "σ": "sigma",
    "ξ": "xi",
    "∂": "d",
    "ℓ": "l",
    "²": "^2",
    "±": "+-",
    "·": "*",
    "→": "->",
    "√": "sqrt",
    "≤": "<=",
    "≥": ">=",
    "≈": "~",
    "×": "x",
    "–": "-",
    "—": "-",
    "…": "...",
    "∞": "inf",
    "Σ": "sum",
    "λ": "lambda",
    "η": "eta",
    "“": '"',
    "”": '"',
    "’": "'",
    "⊥": "_perp",
    "∥": "_par",
    "Θ": "Theta",
    "−": "-",
}


def ascii_only(text: str) -> str:
    """Replace every symbol outside ASCII by a word."""
    for symbol, word in _ASCII.items():
        text = text.replace(symbol, word)
    return unicodedata.normalize("NFKD", text).encode("ascii", "replace").decode()


@dataclass(frozen=True)
class Canvas:
    """What a view may draw on.

    Attributes
    ----------
    plain : bool
        Whether the terminal has ASCII only.
    width : int
        Columns, at most :data:`WIDTH`.
    """

    plain: bool
    width: int

    def write(self, text: str) -> str:
        """The text as this terminal can show it."""
        return ascii_only(text) if self.plain else text


@dataclass(frozen=True)
class TerminalView:
    """A renderable that adapts to the console's width and character set.

    Attributes
    ----------
    parts : callable
        From a :class:`Canvas` to what is printed, one part below the other.
    """

    parts: Callable[[Canvas], Iterable[RenderableType]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        limited = options.update(max_width=min(options.max_width, WIDTH))
        canvas = Canvas(options.ascii_only, limited.max_width)
        yield from console.render(Group(*self.parts(canvas)), limited)

"""What a library file held: its papers, and every entry that could not be read, with the reason."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import accumulate

from kadanoff.atlas.identity import Identifier, Record, plain

__all__ = ["Broken", "Lines", "Parsed"]


@dataclass(frozen=True)
class Broken:
    """An entry that could not be read: where it begins, how, and what is wrong with it."""

    line: int
    excerpt: str
    reason: str

    def text(self) -> str:
        """Return it in one line."""
        return f"line {self.line}: {self.reason} ({self.excerpt})"


@dataclass
class Parsed:
    """The papers of a file; ``identifiers`` are of works that are still to be looked up."""

    format: str
    records: list[Record] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)
    identifiers: list[Identifier] = field(default_factory=list)

    def fail(self, line: int, excerpt: str, reason: str) -> None:
        """Note an entry that could not be read.

        Parameters
        ----------
        line : int
            Where it begins, from 1.
        excerpt : str
            How it begins.
        reason : str
            What is wrong with it, for a reader.
        """
        self.broken.append(Broken(line, plain(excerpt, 90), reason))


class Lines:
    """Line numbers in a text."""

    def __init__(self, text: str) -> None:
        self._starts = list(accumulate((len(line) for line in text.splitlines(True)), initial=0))

    def at(self, place: int) -> int:
        """Return the number of the line that holds the character at ``place``, from 1."""
        return bisect_right(self._starts, place)

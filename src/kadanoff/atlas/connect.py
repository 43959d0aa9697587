"""What lies between papers: chains of citations, and the works that they have in common."""

from __future__ import annotations

import itertools
import sqlite3
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Common", "Step", "chains", "common"]

_MOST_CHAINS = 12


@dataclass(frozen=True)
class Step:
    """One citation of a chain: ``forward`` if the left paper cites the right one."""

    left: str
    right: str
    forward: bool


@dataclass(frozen=True)
class Common:
    """A work that is linked with several of the papers asked for, and how with each."""

    id: str
    cited_by: tuple[str, ...]
    cites: tuple[str, ...]

    @property
    def linked(self) -> int:
        """With how many of the papers it is linked."""
        return len({*self.cited_by, *self.cites})


class _Citations:
    """The citations in memory, both ways."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.references: dict[str, set[str]] = defaultdict(set)
        self.citing: dict[str, set[str]] = defaultdict(set)
        for src, dst in db.execute("SELECT src, dst FROM cites"):
            self.references[src].add(dst)
            self.citing[dst].add(src)

    def down(self, name: str) -> Iterable[str]:
        return self.references.get(name, ())

    def both(self, name: str) -> Iterable[str]:
        return self.references.get(name, set()) | self.citing.get(name, set())


def _shortest(start: str, goal: str, following: Callable[[str], Iterable[str]]) -> list[list[str]]:
    """Return all shortest ways from ``start`` to ``goal`` (at most a dozen), by breadth first."""
    before: dict[str, list[str]] = {start: []}
    depth = {start: 0}
    waiting = deque([start])
    while waiting:
        here = waiting.popleft()
        if goal in depth and depth[here] >= depth[goal]:
            break
        for other in sorted(following(here)):
            if other not in depth:
                depth[other] = depth[here] + 1
                before[other] = [here]
                waiting.append(other)
            elif depth[other] == depth[here] + 1:
                before[other].append(here)
    if goal not in depth:
        return []
    found: list[list[str]] = []
    open_ends = [[goal]]
    while open_ends and len(found) < _MOST_CHAINS:
        way = open_ends.pop()
        if way[0] == start:
            found.append(way)
        open_ends += [[name, *way] for name in reversed(before[way[0]])]
    return found


def chains(db: sqlite3.Connection, start: str, goal: str) -> list[list[Step]]:
    """Return the shortest chains of citations between two papers, in either direction.

    First those on which each work cites the next, whichever of the two ends they start from; where
    there are shorter ones that change direction, those too.

    Parameters
    ----------
    db : sqlite3.Connection
    start, goal : str
        Ids of the two papers.
    """
    known = _Citations(db)
    straight = _shortest(start, goal, known.down)
    back = [way[::-1] for way in _shortest(goal, start, known.down)]
    found = [*straight, *back]
    least = min((len(way) for way in found), default=None)
    found = [way for way in found if len(way) == least]
    crooked = _shortest(start, goal, known.both)
    if crooked and (least is None or len(crooked[0]) < least):
        found += crooked
    return [
        [Step(a, b, b in known.references.get(a, ())) for a, b in itertools.pairwise(way)]
        for way in found[:_MOST_CHAINS]
    ]


def common(db: sqlite3.Connection, names: Sequence[str]) -> list[Common]:
    """Return the works linked with at least two of ``names``: those with most of them first.

    Among equals, works that the papers reference come before works that cite them, and what is
    cited more in this atlas comes first.
    """
    known = _Citations(db)
    asked = list(dict.fromkeys(names))
    around = {other for name in asked for other in known.both(name)} - set(asked)
    found = [
        Common(
            other,
            cited_by=tuple(n for n in asked if n in known.citing.get(other, ())),
            cites=tuple(n for n in asked if n in known.references.get(other, ())),
        )
        for other in around
    ]
    found = [item for item in found if item.linked > 1]
    return sorted(
        found,
        key=lambda c: (-c.linked, -len(c.cited_by), -len(known.citing.get(c.id, ())), c.id),
    )

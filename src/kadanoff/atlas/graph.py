"""The neighbourhood of a paper as nodes and links, in one of three layouts."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from kadanoff.atlas import papers
from kadanoff.atlas.layout import place
from kadanoff.atlas.papers import Paper
from kadanoff.atlas.similarity import nearness, place_by_nearness, recommend
from kadanoff.atlas.timeline import place_by_year

__all__ = ["LAYOUTS", "MOST", "SHOWN", "Graph", "Layout", "Node", "keep_positions", "neighbourhood"]

Layout = Literal["force", "time", "similarity"]
LAYOUTS: tuple[Layout, ...] = ("force", "time", "similarity")
# so many neighbours at first, and so many when asked for more
SHOWN = 500
MOST = 1500


@dataclass(frozen=True)
class Node:
    """A paper in the graph: ``kind`` is current, cites, referenced or near.

    ``cited`` counts the works of this atlas that cite it; ``near`` is its nearness to the focus.
    """

    paper: Paper
    kind: str
    x: float
    y: float
    cited: int
    near: float


@dataclass(frozen=True)
class Graph:
    """Nodes (the focus first) and links (citing, cited) of the ``total`` neighbours' most relevant.

    ``axes`` holds what a layout is read by: ``ticks`` and ``levels``, or ``rings``.
    """

    focus: str
    layout: Layout
    nodes: list[Node]
    links: list[tuple[str, str]]
    total: int
    axes: Mapping[str, object] = field(default_factory=dict)

    @property
    def hidden(self) -> int:
        """How many neighbours are not shown."""
        return self.total - sum(n.kind in ("cites", "referenced") for n in self.nodes)


def kinds_around(db: sqlite3.Connection, name: str) -> dict[str, str]:
    """Return the neighbours of ``name`` with their kind, cites or referenced."""
    around = papers.neighbours(db, name)
    kinds = dict.fromkeys(around["referenced"], "referenced")
    # two papers may cite each other; then what matters is that it cites the current one
    kinds.update(dict.fromkeys(around["cites"], "cites"))
    return kinds


def most_relevant(db: sqlite3.Connection, kinds: Mapping[str, str]) -> list[str]:
    """Return the neighbours, the most relevant first.

    That is: those with most citations to and from the other neighbours, then those most cited in
    this atlas, then the newest.
    """
    inner: dict[str, int] = dict.fromkeys(kinds, 0)
    for a, b in papers.edges_among(db, kinds):
        inner[a] += 1
        inner[b] += 1
    cited = papers.cited_here(db, kinds)
    years = {name: papers.year_of(db, name) or 0 for name in kinds}
    return sorted(kinds, key=lambda n: (-inner[n], -cited[n], -years[n], n))


def neighbourhood(
    db: sqlite3.Connection,
    name: str,
    limit: int = SHOWN,
    near: bool = False,
    layout: Layout = "force",
) -> Graph:
    """Return the graph around paper ``name``.

    Parameters
    ----------
    limit : int
        At most so many neighbours, the most relevant of them (see :func:`most_relevant`).
    near : bool
        Add the nearest papers without a citation to or from it.
    layout : {"force", "time", "similarity"}
        Where the nodes stand.
    """
    kinds = kinds_around(db, name)
    total = len(kinds)
    if total > limit:
        kinds = {n: kinds[n] for n in most_relevant(db, kinds)[:limit]}
    if near:
        kinds.update(dict.fromkeys((n for n, _ in recommend(db, name)), "near"))
    scores = nearness(db, name, sorted(kinds))
    kinds[name] = "current"
    found = papers.many(db, sorted(kinds))
    links = papers.edges_among(db, kinds)
    cited = papers.cited_here(db, kinds)
    axes: dict[str, object] = {}
    match layout:
        case "time":
            years = {n: found[n].year for n in kinds}
            positions, ticks, levels = place_by_year(years, cited)
            axes = {"ticks": ticks, "levels": levels}
        case "similarity":
            positions, rings = place_by_nearness(db, name, scores)
            axes = {"rings": rings}
        case _:
            positions = _by_force(db, name, kinds, links)
    nodes = [
        Node(
            paper=found[n],
            kind=kinds[n],
            x=positions[n][0],
            y=positions[n][1],
            cited=cited[n],
            near=round(scores.get(n, 1.0), 3),
        )
        for n in sorted(kinds, key=lambda n: (kinds[n] != "current", -(found[n].year or 0), n))
    ]
    return Graph(name, layout, nodes, links, total, axes)


def _by_force(
    db: sqlite3.Connection, name: str, kinds: Mapping[str, str], links: list[tuple[str, str]]
) -> dict[str, tuple[float, float]]:
    stored = {
        row["node"]: (row["x"], row["y"])
        for row in db.execute("SELECT node, x, y FROM layout WHERE focus = ?", (name,))
    }
    if set(kinds) - {name} <= set(stored):
        return {**stored, name: (0.0, 0.0)}
    return place(kinds, links, fixed=stored)


def keep_positions(
    db: sqlite3.Connection, graph: Graph, moved: Mapping[str, tuple[float, float]] | None = None
) -> None:
    """Store where the nodes stand; ``moved`` are those the reader has dragged.

    Parameters
    ----------
    db : sqlite3.Connection
    graph : Graph
    moved : mapping of id to (x, y), optional
        Where the reader has put papers.
    """
    db.executemany(
        "INSERT OR IGNORE INTO layout (focus, node, x, y) VALUES (?, ?, ?, ?)",
        [(graph.focus, n.paper.id, n.x, n.y) for n in graph.nodes],
    )
    db.executemany(
        "INSERT INTO layout VALUES (?, ?, ?, ?, 1) ON CONFLICT DO UPDATE"
        " SET x = excluded.x, y = excluded.y, moved = 1",
        [(graph.focus, name, x, y) for name, (x, y) in (moved or {}).items()],
    )


@dataclass(frozen=True)
class Ranked:
    """A work and how many papers of the graph it is linked with."""

    id: str
    count: int


def prior_works(db: sqlite3.Connection, name: str, limit: int = 10) -> list[Ranked]:
    """Return the works that most papers around ``name`` (and itself) reference, at least two."""
    return _ranked(db, name, "dst", "src", limit)


def derivative_works(db: sqlite3.Connection, name: str, limit: int = 10) -> list[Ranked]:
    """Return the works that reference most papers around ``name`` (and itself), at least two."""
    return _ranked(db, name, "src", "dst", limit)


def _ranked(db: sqlite3.Connection, name: str, wanted: str, given: str, limit: int) -> list[Ranked]:
    rows = db.execute(
        f"""
        WITH here AS (
          SELECT :id AS id UNION SELECT dst FROM cites WHERE src = :id
          UNION SELECT src FROM cites WHERE dst = :id)
        SELECT {wanted} AS id, count(*) AS n FROM cites JOIN here ON here.id = {given}
        WHERE {wanted} <> :id GROUP BY {wanted} HAVING n > 1
        ORDER BY n DESC, {wanted} LIMIT :limit
        """,
        {"id": name, "limit": limit},
    )
    return [Ranked(row["id"], row["n"]) for row in rows]

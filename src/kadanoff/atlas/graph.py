"""The neighbourhood of a paper as nodes and links, and the papers near it that it does not cite."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from kadanoff.atlas import papers
from kadanoff.atlas.layout import place
from kadanoff.atlas.papers import Paper

__all__ = ["Graph", "Node", "keep_positions", "neighbourhood", "recommend"]

MOST = 1500


@dataclass(frozen=True)
class Node:
    """A paper in the graph: ``kind`` is current, cites, referenced or near."""

    paper: Paper
    kind: str
    x: float
    y: float
    weight: int
    score: float = 0.0


@dataclass(frozen=True)
class Graph:
    """Nodes (the focus first) and links (citing, cited); ``hidden`` neighbours were too many."""

    focus: str
    nodes: list[Node]
    links: list[tuple[str, str]]
    hidden: int


def _known(value: int | None, otherwise: int) -> int:
    return otherwise if value is None else value


def recommend(db: sqlite3.Connection, name: str, limit: int = 12) -> list[tuple[str, float]]:
    """Return papers near ``name`` without a citation between them, best first.

    The score is the cosine of bibliographic coupling (shared references) plus that of
    co-citation (shared citing papers), each between 0 and 1; Kessler 1963, Small 1973.

    Parameters
    ----------
    db : sqlite3.Connection
    name : str
        A paper, by any of its identifiers.
    limit : int
        Papers at most.
    """
    rows = db.execute(
        """
        WITH coupling AS (
          SELECT b.src AS other, count(*) AS n FROM cites AS a JOIN cites AS b ON b.dst = a.dst
          WHERE a.src = :id AND b.src <> :id GROUP BY b.src),
        together AS (
          SELECT b.dst AS other, count(*) AS n FROM cites AS a JOIN cites AS b ON b.src = a.src
          WHERE a.dst = :id AND b.dst <> :id GROUP BY b.dst),
        candidate AS (SELECT other FROM coupling UNION SELECT other FROM together)
        SELECT c.other AS id,
          coalesce((SELECT n FROM coupling WHERE other = c.other), 0)
            / sqrt(max(1.0, (SELECT count(*) FROM cites WHERE src = c.other))
                 * max(1.0, (SELECT count(*) FROM cites WHERE src = :id)))
          + coalesce((SELECT n FROM together WHERE other = c.other), 0)
            / sqrt(max(1.0, (SELECT count(*) FROM cites WHERE dst = c.other))
                 * max(1.0, (SELECT count(*) FROM cites WHERE dst = :id))) AS score
        FROM candidate AS c
        WHERE NOT EXISTS (SELECT 1 FROM cites WHERE src = :id AND dst = c.other)
          AND NOT EXISTS (SELECT 1 FROM cites WHERE dst = :id AND src = c.other)
        ORDER BY score DESC, c.other LIMIT :limit
        """,
        {"id": name, "limit": limit},
    )
    return [(row["id"], float(row["score"])) for row in rows]


def neighbourhood(
    db: sqlite3.Connection, name: str, limit: int = MOST, near: bool = False
) -> Graph:
    """Return the graph around paper ``name``.

    Parameters
    ----------
    limit : int
        At most so many neighbours; of more, the most cited are shown and ``hidden`` counts the
        rest.
    near : bool
        Add the recommended papers (see :func:`recommend`).
    """
    around = papers.neighbours(db, name)
    kinds = dict.fromkeys(around["referenced"], "referenced")
    # two papers may cite each other; then what matters is that it cites the current one
    kinds.update(dict.fromkeys(around["cites"], "cites"))
    hidden = max(0, len(kinds) - limit)
    if hidden:
        found = papers.many(db, sorted(kinds))
        best = sorted(kinds, key=lambda n: (-(found[n].citations or 0), n))[:limit]
        kinds = {n: kinds[n] for n in best}
    scores: dict[str, float] = dict(recommend(db, name)) if near else {}
    kinds.update(dict.fromkeys(scores, "near"))
    kinds[name] = "current"
    found = papers.many(db, sorted(kinds))
    links = papers.edges_among(db, kinds)
    weights: dict[str, int] = {}
    for _, dst in links:
        weights[dst] = weights.get(dst, 0) + 1
    stored = {
        row["node"]: (row["x"], row["y"])
        for row in db.execute("SELECT node, x, y FROM layout WHERE focus = ?", (name,))
    }
    if set(kinds) - {name} <= set(stored):
        positions = {**stored, name: (0.0, 0.0)}
    else:
        positions = place(kinds, links, fixed=stored)
    nodes = [
        Node(
            paper=found[n],
            kind=kinds[n],
            x=positions[n][0],
            y=positions[n][1],
            weight=_known(found[n].citations, weights.get(n, 0)),
            score=round(scores.get(n, 0.0), 3),
        )
        for n in sorted(kinds, key=lambda n: (kinds[n] != "current", -(found[n].year or 0), n))
    ]
    return Graph(name, nodes, links, hidden)


def keep_positions(
    db: sqlite3.Connection, graph: Graph, moved: dict[str, tuple[float, float]] | None = None
) -> None:
    """Store where the nodes stand; ``moved`` are those the reader has dragged.

    Parameters
    ----------
    db : sqlite3.Connection
    graph : Graph
    moved : dict of str to (float, float), optional
        By id of the paper.
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

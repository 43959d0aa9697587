"""How near two papers are: one number between 0 and 1, from citations alone.

Each paper is the set of its links: what it references and what cites it, as far as this atlas
knows. Nearness is the cosine of two such sets,

    s(a, b) = (|R_a n R_b| + |C_a n C_b|) / sqrt((|R_a| + |C_a|) (|R_b| + |C_b|)),

that is bibliographic coupling (shared references R; Kessler 1963) and co-citation (shared citing
works C; Small 1973) in one: 1 for two papers with the same links, 0 where nothing is shared.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["RINGS", "nearness", "place_by_nearness", "recommend"]

_GAP = 0.14
# nearness at which the map draws a ring
RINGS = (0.5, 0.25, 0.1, 0.03, 0.0)


def _links(db: sqlite3.Connection, name: str) -> set[tuple[str, str]]:
    found = {("R", row[0]) for row in db.execute("SELECT dst FROM cites WHERE src = ?", (name,))}
    found |= {("C", row[0]) for row in db.execute("SELECT src FROM cites WHERE dst = ?", (name,))}
    return found


def nearness(db: sqlite3.Connection, name: str, others: Sequence[str]) -> dict[str, float]:
    """Return how near each of ``others`` is to paper ``name``.

    Parameters
    ----------
    db : sqlite3.Connection
    name : str
        Id of the paper.
    others : sequence of str
        Ids.
    """
    own = _links(db, name)
    found: dict[str, float] = {}
    for other in others:
        theirs = _links(db, other)
        size = math.sqrt(len(own) * len(theirs))
        found[other] = len(own & theirs) / size if size else 0.0
    return found


def recommend(db: sqlite3.Connection, name: str, limit: int = 12) -> list[tuple[str, float]]:
    """Return the papers nearest to ``name`` without a citation between them, best first.

    Parameters
    ----------
    db : sqlite3.Connection
    name : str
        Id of the paper.
    limit : int
        At most so many.
    """
    rows = db.execute(
        """
        WITH shared AS (
          SELECT b.src AS other, count(*) AS n FROM cites AS a JOIN cites AS b ON b.dst = a.dst
          WHERE a.src = :id AND b.src <> :id GROUP BY b.src
          UNION ALL
          SELECT b.dst AS other, count(*) AS n FROM cites AS a JOIN cites AS b ON b.src = a.src
          WHERE a.dst = :id AND b.dst <> :id GROUP BY b.dst)
        SELECT s.other AS id, sum(s.n) / sqrt(
            (SELECT count(*) FROM cites WHERE src = s.other OR dst = s.other)
          * (SELECT count(*) FROM cites WHERE src = :id OR dst = :id)) AS score
        FROM shared AS s
        WHERE NOT EXISTS (SELECT 1 FROM cites WHERE src = :id AND dst = s.other)
          AND NOT EXISTS (SELECT 1 FROM cites WHERE dst = :id AND src = s.other)
        GROUP BY s.other ORDER BY score DESC, s.other LIMIT :limit
        """,
        {"id": name, "limit": limit},
    )
    return [(row["id"], float(row["score"])) for row in rows]


def _cosines(db: sqlite3.Connection, names: Sequence[str]) -> NDArray[np.float64]:
    """Return the nearness of each two of ``names``, as an N x N array."""
    from scipy.sparse import csr_array

    columns: dict[tuple[str, str], int] = {}
    row: list[int] = []
    column: list[int] = []
    for place, name in enumerate(names):
        for link in _links(db, name):
            row.append(place)
            column.append(columns.setdefault(link, len(columns)))
    shape = (len(names), max(1, len(columns)))
    incidence = csr_array((np.ones(len(row)), (row, column)), shape=shape)
    shared = (incidence @ incidence.T).toarray()
    size = np.sqrt(np.maximum(np.diag(shared), 1.0))
    return shared / size[:, None] / size[None, :]


def ring_radius(score: float, reach: float) -> float:
    """Return the distance from the focus at which a paper of this nearness stands."""
    # the square root parts the many small values
    return reach * (1.0 - 0.86 * math.sqrt(min(1.0, max(0.0, score))))


def place_by_nearness(
    db: sqlite3.Connection, focus: str, scores: Mapping[str, float]
) -> tuple[dict[str, tuple[float, float]], list[tuple[float, float]]]:
    """Place papers around ``focus``: the distance is the nearness, the angle puts like by like.

    Parameters
    ----------
    scores : mapping of id to nearness
        The papers around the focus.

    Returns
    -------
    places : dict of id to (x, y)
    rings : list of (nearness, radius)
        For the circles from which the distance is read.
    """
    names = sorted(scores)
    reach = 300.0 + 5.0 * len(names)
    rings = [(value, ring_radius(value, reach)) for value in RINGS]
    places = {focus: (0.0, 0.0)}
    if not names:
        return places, rings
    matrix = _cosines(db, names)
    # the two slowest modes of the similarity graph turn likeness into an angle
    degree = np.maximum(matrix.sum(1), 1e-12)
    scaled = matrix / np.sqrt(degree[:, None] * degree[None, :])
    _, modes = np.linalg.eigh(scaled)
    first = modes[:, -2] if len(names) > 1 else np.zeros(1)
    second = modes[:, -3] if len(names) > 2 else np.zeros(len(names))
    # an eigenvector's sign means nothing: fix it, so that each visit shows the same map
    signs = [1.0 if mode[np.argmax(np.abs(mode))] > 0 else -1.0 for mode in (first, second)]
    angle = np.arctan2(signs[1] * second, signs[0] * first)
    order = np.lexsort((np.arange(len(names)), np.round(angle, 9)))
    for rank, index in enumerate(order):
        # a gap at the top, where the rings bear their numbers
        turn = 2 * (math.pi - _GAP) * (rank + 0.5) / len(names) + _GAP - math.pi / 2
        radius = ring_radius(scores[names[index]], reach)
        # every other one a little off the ring, within what the eye reads off it
        radius *= 1.0 - 0.02 * (rank % 2)
        x, y = radius * math.cos(turn), radius * math.sin(turn)
        places[names[index]] = (round(x, 1), round(y, 1))
    return places, rings

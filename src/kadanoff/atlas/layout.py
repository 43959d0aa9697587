"""Where the nodes stand: computed once, on the server, the same at every visit.

The current paper sits in the middle. What it references (its past) fans out to the left, what
cites it (its future) to the right, related papers below; from there, linked papers attract and
all repel. Start positions come from the ids, so that nothing depends on chance or on order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

__all__ = ["place"]

# direction in which each kind of neighbour leans; y points down, as on a screen
_LEAN = {"cites": (1.0, 0.0), "referenced": (-1.0, 0.0), "near": (0.0, 1.0)}


def _unit(name: str) -> tuple[float, float]:
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    a, b = int.from_bytes(digest[:4], "big"), int.from_bytes(digest[4:], "big")
    return a / 2**32, b / 2**32


def place(
    kinds: Mapping[str, str],
    links: Sequence[tuple[str, str]],
    fixed: Mapping[str, tuple[float, float]] | None = None,
    steps: int | None = None,
) -> dict[str, tuple[float, float]]:
    """Place nodes around the focus.

    Parameters
    ----------
    kinds : mapping of id to ``"current"``, ``"cites"``, ``"referenced"`` or ``"near"``
    links : pairs of ids
    fixed : positions that are known already and must not change
    steps : iterations of the relaxation; by default fewer the more nodes there are

    Returns
    -------
    dict of id to (x, y), in units in which neighbours stand about 60 apart; the focus at (0, 0).
    """
    names = sorted(kinds)
    known = dict(fixed or {})
    count = len(names)
    row = {name: i for i, name in enumerate(names)}
    sides = {k: [n for n in names if kinds[n] == k] for k in _LEAN}
    position = np.zeros((count, 2))
    for kind, members in sides.items():
        reach = 130.0 + 26.0 * np.sqrt(len(members))
        base = np.arctan2(_LEAN[kind][1], _LEAN[kind][0])
        ranked = sorted(members, key=_unit)
        for rank, name in enumerate(ranked):
            # spread over a fan, in an order that the ids decide
            share = (rank + 0.5) / len(ranked) - 0.5
            angle = base + share * np.pi * (0.84 if kind != "near" else 0.5)
            # near and far in turn, so that neighbours on the fan leave room for their names
            radius = reach * ((1.12 if rank % 2 else 0.84) + 0.1 * _unit(name)[1])
            position[row[name]] = radius * np.cos(angle), radius * np.sin(angle)
    start = position.copy()
    pinned = np.zeros(count, dtype=bool)
    for name in names:
        if kinds[name] == "current":
            position[row[name]] = 0.0
            pinned[row[name]] = True
        elif name in known:
            position[row[name]] = known[name]
            pinned[row[name]] = True
    # the links of the focus only say that these are its neighbours: the fan shows that already
    inner = [
        (row[a], row[b])
        for a, b in links
        if a in row and b in row and "current" not in (kinds[a], kinds[b])
    ]
    ends = np.array(inner, dtype=int).reshape(-1, 2)
    degree = np.maximum(np.bincount(ends.ravel(), minlength=count), 1)
    steps = steps if steps is not None else int(np.clip(60_000 / max(count, 1), 60, 300))
    for step in range(steps):
        cooling = 1.0 - step / steps
        # |a - b|^2 and sums over pairs by matrix products: no array of N x N vectors
        norm = (position**2).sum(1)
        square = np.maximum(norm[:, None] + norm[None, :] - 2 * position @ position.T, 25.0)
        distance = np.sqrt(square)
        # all repel; circles do not lie on top of each other
        weight = 2200.0 / (square * distance) + np.maximum(46.0 - distance, 0.0) * 0.25 / distance
        np.fill_diagonal(weight, 0.0)
        force = weight.sum(1)[:, None] * position - weight @ position
        force += 0.08 * (start - position)
        if len(ends):
            pull = position[ends[:, 1]] - position[ends[:, 0]]
            length = np.maximum(np.linalg.norm(pull, axis=1, keepdims=True), 1.0)
            pull = 0.06 * pull * (1.0 - 90.0 / length)
            np.add.at(force, ends[:, 0], pull / degree[ends[:, 0], None])
            np.add.at(force, ends[:, 1], -pull / degree[ends[:, 1], None])
        size = np.maximum(np.linalg.norm(force, axis=1, keepdims=True), 1e-9)
        force *= np.minimum(1.0, 25.0 * cooling / size)
        force[pinned] = 0.0
        position += force
    # the focus keeps a clear ring around it
    radius = np.maximum(np.linalg.norm(position, axis=1), 1e-6)
    clear = 70.0 + 3.0 * np.sqrt(count)
    near = (radius < clear) & ~pinned
    position[near] *= (clear / radius[near])[:, None]
    rounded = np.round(position, 1).tolist()
    return {name: (x, y) for name, (x, y) in zip(names, rounded, strict=True)}

"""Sums over nodes of products of two or four functions, for all choices of samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

__all__ = ["sum_over_nodes"]

Function = Callable[[Tensor], Tensor]
Pattern = tuple[int, ...]
Slots = tuple[int, int]

_MOST_ELEMENTS = 2**24
_PAIRINGS: tuple[tuple[Slots, Slots], ...] = (
    ((0, 1), (2, 3)),
    ((0, 2), (1, 3)),
    ((0, 3), (1, 2)),
)


def sum_over_nodes(
    functions: Sequence[Function],
    nodes: Iterable[tuple[Tensor, Tensor]],
    patterns: Sequence[Pattern],
    N: int,
) -> dict[Pattern, Tensor]:
    """Σ_m w_m f_i(z_ma) f_j(z_mb) ..., for every pattern (i, j) or (i, j, k, l).

    A product of four is a matrix product of two tables of pairs. A pair of equal functions is
    symmetric: half of its table is enough, and the two pairs of a product are chosen to have as
    many of those as can be.

    Parameters
    ----------
    nodes : iterable of (z, w), shapes (M, N) and (M,)

    Returns
    -------
    dict of pattern to Tensor, shape (N,) * len(pattern)
    """
    two = {p: torch.zeros(N, N, dtype=torch.float64) for p in patterns if len(p) == 2}
    pairings = {p: _pairing(p) for p in patterns if len(p) == 4}
    totals: dict[Pattern, Tensor] = {}
    needed = sorted(set().union(*patterns))
    for z, w in _in_parts(nodes, max(1, _MOST_ELEMENTS // N**2)):
        f = {k: functions[k](z) for k in needed}
        weighted = {k: w[:, None] * f[k] for k in needed}
        for i, j in two:
            two[i, j] += weighted[i].T @ f[j]
        tables: dict[Slots, Tensor] = {}
        for p, pairing in pairings.items():
            front, back = (_table(tables, f, (p[a], p[b])) for a, b in pairing)
            block = (w[:, None] * front).T @ back
            totals[p] = totals[p] + block if p in totals else block
    four = {p: _unfolded(totals[p], p, pairing, N) for p, pairing in pairings.items()}
    return two | four


def _table(tables: dict[Slots, Tensor], f: dict[int, Tensor], pair: Slots) -> Tensor:
    """f_i(z_a) f_j(z_b) at every node, (M, pairs); a ≤ b alone if i = j."""
    if pair not in tables:
        i, j = pair
        if i == j:
            a, b = torch.triu_indices(f[i].shape[1], f[i].shape[1])
            tables[pair] = f[i][:, a] * f[i][:, b]
        else:
            tables[pair] = (f[i][:, :, None] * f[j][:, None, :]).flatten(1)
    return tables[pair]


def _pairing(p: Pattern) -> tuple[Slots, Slots]:
    """Two pairs of slots, of equal functions as far as possible."""

    def equal(choice: tuple[Slots, Slots]) -> int:
        return sum(p[a] == p[b] for a, b in choice)

    return max(_PAIRINGS, key=equal)


def _unfolded(total: Tensor, p: Pattern, pairing: tuple[Slots, Slots], N: int) -> Tensor:
    """The (N, N, N, N) table of a pattern from the product of its two, perhaps halved, pairs."""
    upper = torch.triu_indices(N, N)
    where = torch.zeros(N, N, dtype=torch.long)
    where[upper[0], upper[1]] = where[upper[1], upper[0]] = torch.arange(upper.shape[1])
    for axis, (a, b) in enumerate(pairing):
        if p[a] == p[b]:
            total = total.index_select(axis, where.flatten())
    slots = (*pairing[0], *pairing[1])
    return total.reshape((N,) * 4).permute([slots.index(s) for s in range(4)])


def _in_parts(nodes: Iterable[tuple[Tensor, Tensor]], rows: int) -> Iterator[tuple[Tensor, Tensor]]:
    for z, w in nodes:
        yield from zip(z.split(rows), w.split(rows), strict=True)

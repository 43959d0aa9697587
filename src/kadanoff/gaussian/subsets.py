"""Which products of functions sit at which sample, for averages over subsets of samples.

An average of four factors over N samples is one over a subset of one to four of them. A *shape*
says how many factors each sample of the subset holds, a *key* which functions these are.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Key", "Pattern", "Plan", "Shape", "insert", "make_plan", "norms"]

Function = Callable[[Tensor], Tensor]
Pattern = tuple[int, ...]
Key = tuple[int, ...]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """How many factors each sample holds, and which products of functions that can be.

    ``keys`` lists the products of each sample of a subset by their number of factors; ``used`` the
    entries of each shape that belong to a pattern (others come along unasked); ``slots`` the ways
    to give the factors of a pattern to the samples.
    """

    shapes: list[Shape]
    keys: tuple[dict[int, list[Key]], ...]
    used: dict[Shape, list[tuple[int, ...]]]
    slots: dict[Pattern, list[tuple[int, ...]]]

    def products(
        self, functions: Sequence[Function], z: Tensor, sample: int = 0
    ) -> dict[int, Tensor]:
        """(nodes, products) for each number of factors."""
        orders = sorted({k for keys in self.keys[sample].values() for key in keys for k in key})
        f = {k: functions[k](z) for k in orders}
        return {
            count: torch.stack(
                [math.prod((f[k] for k in key[1:]), start=f[key[0]]) for key in keys], 1
            )
            for count, keys in self.keys[sample].items()
        }

    def scale(self, norms: dict[int, float]) -> dict[Shape, Tensor]:
        """What the entries of each shape are measured against."""
        sizes = [
            {
                count: torch.tensor([math.prod(norms[k] for k in key) for key in keys]).double()
                for count, keys in one.items()
            }
            for one in self.keys
        ]
        out = {}
        for shape in self.shapes:
            total = torch.ones((), dtype=torch.float64)
            for one, count in zip(sizes, shape, strict=True):
                total = total[..., None] * one[count]
            at = tuple(torch.tensor(self.used[shape]).T)
            out[shape] = torch.full_like(total, math.inf)
            out[shape][at] = total[at]
        return out


def make_plan(patterns: Sequence[Pattern], size: int, homes: Sequence[range] | None = None) -> Plan:
    """The plan of subsets of ``size`` samples; ``homes[s]`` are the functions of sample s, or all.

    Without ``homes`` every sample has the same keys, whatever the order of the samples.
    """
    wanted: dict[Shape, set[tuple[Key, ...]]] = {}
    slots: dict[Pattern, list[tuple[int, ...]]] = {}
    for p in patterns:
        slots[p] = [
            s
            for s in _surjections(len(p), size)
            if homes is None or all(k in homes[at] for k, at in zip(p, s, strict=True))
        ]
        for at in slots[p]:
            shape = tuple(at.count(s) for s in range(size))
            keys = tuple(_key(p, at, s) for s in range(size))
            wanted.setdefault(shape, set()).add(keys)
    lists = []
    for sample in range(size):
        every = {
            key
            for group in wanted.values()
            for keys in group
            for key in (keys if homes is None else keys[sample : sample + 1])
        }
        lengths = sorted({len(key) for key in every})
        lists.append({c: sorted(key for key in every if len(key) == c) for c in lengths})
    used = {
        shape: [
            tuple(one[len(k)].index(k) for one, k in zip(lists, keys, strict=True))
            for keys in sorted(group)
        ]
        for shape, group in wanted.items()
    }
    return Plan(sorted(wanted), tuple(lists), used, slots)


def _surjections(length: int, size: int) -> list[tuple[int, ...]]:
    choices = itertools.product(range(size), repeat=length)
    return [slots for slots in choices if len(set(slots)) == size]


def _key(pattern: Pattern, slots: tuple[int, ...], sample: int) -> Key:
    return tuple(sorted(p for p, s in zip(pattern, slots, strict=True) if s == sample))


def norms(functions, K: Tensor, patterns: Sequence[Pattern]) -> dict[int, float]:
    """⟨f⁴⟩^¼ at the largest variance: by Hölder their product bounds every average."""
    xi = torch.arange(-85, 86, dtype=torch.float64) * 0.1
    w = torch.exp(-0.5 * xi**2) * (0.1 / math.sqrt(2 * math.pi))
    z = float(K.diagonal().max().clamp_min(0).sqrt()) * xi
    orders = sorted({k for p in patterns for k in p})
    return {k: max(float(w @ functions[k](z) ** 4) ** 0.25, 1e-300) for k in orders}


def insert(
    found: dict[Pattern, Tensor],
    patterns: Sequence[Pattern],
    plan: Plan,
    at: Tensor,
    stacked: dict[Shape, Tensor],
) -> None:
    """Scatter the averages of subsets ``at`` (B, size) to every pattern and order of samples."""
    size = at.shape[1]
    for p in patterns:
        for slots in plan.slots[p]:
            counts = tuple(slots.count(s) for s in range(size))
            keys = [plan.keys[s][counts[s]].index(_key(p, slots, s)) for s in range(size)]
            found[p][tuple(at[:, s] for s in slots)] = stacked[counts][(slice(None), *keys)]

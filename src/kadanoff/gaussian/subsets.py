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

__all__ = ["Key", "Pattern", "Shape", "SubsetPlan", "insert", "make_plan", "norms"]

Function = Callable[[Tensor], Tensor]
Pattern = tuple[int, ...]
Key = tuple[int, ...]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class SubsetPlan:
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
        """(nodes, products) for each number of factors.

        Parameters
        ----------
        functions : sequence of callables
        z : Tensor, shape (nodes,)
            Values of the sample.
        sample : int
            Which of the subset.
        """
        values: dict[int, Tensor] = {}
        out: dict[int, Tensor] = {}
        for count, keys in self.keys[sample].items():
            columns = []
            for key in keys:
                for k in key:
                    if k not in values:
                        values[k] = functions[k](z)
                rest = (values[k] for k in key[1:])
                columns.append(math.prod(rest, start=values[key[0]]))
            out[count] = torch.stack(columns, 1)
        return out

    def scale(self, norms: dict[int, float]) -> dict[Shape, Tensor]:
        """What the entries of each shape are measured against; infinite for those never used."""
        out: dict[Shape, Tensor] = {}
        for shape in self.shapes:
            total = torch.ones((), dtype=torch.float64)
            for keys, count in zip(self.keys, shape, strict=True):
                sizes = [math.prod(norms[k] for k in key) for key in keys[count]]
                total = total[..., None] * torch.tensor(sizes, dtype=torch.float64)
            at = tuple(torch.tensor(self.used[shape]).T)
            out[shape] = torch.full_like(total, math.inf)
            out[shape][at] = total[at]
        return out


def make_plan(
    patterns: Sequence[Pattern], size: int, homes: Sequence[range] | None = None
) -> SubsetPlan:
    """The plan of subsets of ``size`` samples; ``homes[s]`` are the functions of sample s, or all.

    Without ``homes`` every sample has the same keys, whatever the order of the samples.

    Parameters
    ----------
    patterns : sequence of tuples of 2 or 4 ints
        Which functions are multiplied.
    size : int
        Distinct samples of a subset.
    homes : sequence of ``size`` ranges, optional
    """
    slots = {p: _ways(p, size, homes) for p in patterns}
    # of each shape, the keys of all samples that some pattern asks for
    wanted: dict[Shape, set[tuple[Key, ...]]] = {}
    for p, ways in slots.items():
        for way in ways:
            shape = tuple(way.count(s) for s in range(size))
            keys = tuple(_key(p, way, s) for s in range(size))
            wanted.setdefault(shape, set()).add(keys)
    lists = tuple(_sorted_keys(wanted, s if homes is not None else None) for s in range(size))
    used = {shape: _places(lists, group) for shape, group in wanted.items()}
    return SubsetPlan(sorted(wanted), lists, used, slots)


def _ways(pattern: Pattern, size: int, homes: Sequence[range] | None) -> list[tuple[int, ...]]:
    """Ways to give the factors of a pattern to samples of which none stays without."""
    if homes is None:
        return _surjections(len(pattern), size)

    def fits(way: tuple[int, ...]) -> bool:
        return all(k in homes[s] for k, s in zip(pattern, way, strict=True))

    return [way for way in _surjections(len(pattern), size) if fits(way)]


def _sorted_keys(
    wanted: dict[Shape, set[tuple[Key, ...]]], sample: int | None
) -> dict[int, list[Key]]:
    """Keys by their number of factors: those of one sample, or of all."""
    every: set[Key] = set()
    for group in wanted.values():
        for keys in group:
            every.update(keys if sample is None else keys[sample : sample + 1])
    out: dict[int, list[Key]] = {}
    for key in sorted(every, key=lambda key: (len(key), key)):
        out.setdefault(len(key), []).append(key)
    return out


def _places(
    lists: tuple[dict[int, list[Key]], ...], group: set[tuple[Key, ...]]
) -> list[tuple[int, ...]]:
    """Where the keys of each entry of a shape stand in the lists of their samples."""
    out = []
    for keys in sorted(group):
        place = [one[len(key)].index(key) for one, key in zip(lists, keys, strict=True)]
        out.append(tuple(place))
    return out


def _surjections(length: int, size: int) -> list[tuple[int, ...]]:
    choices = itertools.product(range(size), repeat=length)
    return [slots for slots in choices if len(set(slots)) == size]


def _key(pattern: Pattern, slots: tuple[int, ...], sample: int) -> Key:
    return tuple(sorted(p for p, s in zip(pattern, slots, strict=True) if s == sample))


def norms(
    functions: Sequence[Function], K: Tensor, patterns: Sequence[Pattern]
) -> dict[int, float]:
    """⟨f⁴⟩^¼ at the largest variance: by Hölder their product bounds every average.

    Parameters
    ----------
    functions : sequence of callables
    K : Tensor, shape (N, N)
    patterns : sequence of tuples of ints
        Only functions that occur in them are measured.
    """
    xi = torch.arange(-85, 86, dtype=torch.float64) * 0.1
    w = torch.exp(-0.5 * xi**2) * (0.1 / math.sqrt(2 * math.pi))
    z = float(K.diagonal().max().clamp_min(0).sqrt()) * xi
    out: dict[int, float] = {}
    for k in sorted(set().union(*patterns)):
        fourth = float(w @ functions[k](z) ** 4)
        out[k] = max(fourth**0.25, 1e-300)
    return out


def insert(
    found: dict[Pattern, Tensor],
    patterns: Sequence[Pattern],
    plan: SubsetPlan,
    at: Tensor,
    stacked: dict[Shape, Tensor],
) -> None:
    """Scatter the averages of subsets ``at`` (B, size) to every pattern and order of samples.

    Parameters
    ----------
    found : dict of pattern to Tensor, shape (N,) * len(pattern)
        Where to; changed in place.
    patterns : sequence of tuples of ints
    plan : SubsetPlan
    at : Tensor, shape (B, size)
    stacked : dict of shape to Tensor, shape (B, keys, ...)
        Averages by the keys of each sample.
    """
    for p in patterns:
        for way in plan.slots[p]:
            shape = tuple(way.count(s) for s in range(at.shape[1]))
            place = []
            for s, count in enumerate(shape):
                place.append(plan.keys[s][count].index(_key(p, way, s)))
            index = tuple(at[:, s] for s in way)
            found[p][index] = stacked[shape][(slice(None), *place)]

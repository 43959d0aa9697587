r"""Averages ⟨f(z_a) g(z_b) h(z_c) k(z_d)⟩ of one Gaussian vector, for all index choices at once.

At order 1/n terms of opposite sign cancel, so every average is taken by a rule that converges
geometrically, and is taken twice: the *replicas* of a rule share nothing but its step. Whatever
is computed from the averages can be carried through for each replica; the spread at the end is
its error, cancellation included.

Strategy
--------
* Repeated or parallel samples lower the rank of K, and the rank is the dimension integrated.
* Smooth functions, up to 16 samples: every subset of up to four samples is an integral of its own,
  by :mod:`kadanoff.gaussian.nested`. Two steps of the lattice are the replicas; the value is the
  finer one, whose error is about their difference to the power 1.5.
* Smooth functions of more samples: entries with one or two distinct samples as before, the others
  by eight scrambles of a Sobol sequence; the error is their standard error.
* Functions with kinks, up to three samples: nested Gauss-Legendre panels cut at the kinks and
  where the conditional mean of a later sample crosses one; two orders are the replicas.
* Kinks and four or more samples: eight scrambles of a Sobol sequence; the error is their
  standard error, about 1e-5 relative. Entries with at most three distinct samples are then
  overwritten by panels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kadanoff.gaussian.nested import nested
from kadanoff.gaussian.one import legendre

__all__ = ["Replicas", "many", "panels", "scrambled"]

Function = Callable[[Tensor], Tensor]
Pattern = tuple[int, ...]
Nodes = Iterator[tuple[Tensor, Tensor]]

_REACH = 8.5  # a Gaussian weighs 3e-16 beyond, polynomial growth included
_MOST_SAMPLES = 16
_CHUNK, _MOST_ELEMENTS = 100_000, 2**24
_ORDERS = (18, 14)
_SCRAMBLES, _LOG_POINTS = 8, 16
# cuts around a smeared kink, in units of its width
_GUARD = (-8.0, -5.0, -2.5, 0.0, 2.5, 5.0, 8.0)
_WIDE_GUARD = (-6.0, -2.0, 2.0, 6.0)


@dataclass(frozen=True)
class Replicas:
    """Independent results of one kind of rule, and how to read a value and an error off them."""

    kind: str
    count: int
    shared: float = 2e-13

    def value(self, results: Sequence[Tensor]) -> Tensor:
        """The best value: the finer of two rules, or the mean of several."""
        if self.count == 2:
            return results[0]
        return torch.stack(list(results)).mean(0)

    def error(self, results: Sequence[Tensor]) -> Tensor:
        """The difference of two rules, or a standard error."""
        stacked = torch.stack(list(results))
        if self.count == 2:
            error = (stacked[0] - stacked[1]).abs()
        else:
            error = stacked.std(0) / math.sqrt(len(results))
        # what the rules share: rounding, the weight beyond the reach, the table of the lattice
        return error + self.shared * stacked[0].abs().max()


def many(
    functions: Sequence[Function],
    K: Tensor,
    patterns: Sequence[Pattern],
    kinks: Sequence[float] = (),
    *,
    tolerance: float = 1e-10,
    odd: bool = False,
) -> tuple[Replicas, list[dict[Pattern, Tensor]]]:
    """Averages of products of 2 or 4 functions over all choices of samples.

    Parameters
    ----------
    functions : sequence of callables
        A pattern (i, j, k, l) means ⟨f_i(z_a) f_j(z_b) f_k(z_c) f_l(z_d)⟩.
    K : Tensor, shape (N, N)
        Covariance, of any rank.
    patterns : sequence of tuples of length 2 or 4
    kinks : sequence of float
        Where a function or one of its derivatives jumps; the same for all functions.
    tolerance : float
        Aim of the error, relative to the norms of the factors.
    odd : bool
        The functions are the derivatives of an odd one, in turn.

    Returns
    -------
    replicas : Replicas
    averages : list of dict
        For each replica, pattern -> Tensor of shape (N, N) or (N, N, N, N).
    """
    N = K.shape[0]
    if not kinks:
        even = odd and all(sum(p) % 2 == 0 for p in patterns)
        if N <= _MOST_SAMPLES:
            rule = Replicas("lattice", 2, 1e-12 + 1e-2 * tolerance)
            return rule, nested(functions, K, patterns, tolerance, even)
        exact = nested(functions, K, patterns, tolerance, even, largest=2)[0]
        four = [p for p in patterns if len(p) == 4]
        few = _few_samples(N)
        found = []
        for seed in range(_SCRAMBLES):
            nodes = scrambled(K, seed, points=_points(N))
            drawn = _collect(functions, nodes, four, N)
            found.append(
                {
                    p: torch.where(few, exact[p], drawn[p]) if p in drawn else exact[p]
                    for p in patterns
                }
            )
        return Replicas("sobol", _SCRAMBLES), found
    if N <= 3:
        return Replicas("panels", 2), [
            _collect(functions, panels(K, kinks, order), patterns, N) for order in _ORDERS
        ]
    found = [_collect(functions, scrambled(K, seed), patterns, N) for seed in range(_SCRAMBLES)]
    for subset in itertools.combinations(range(N), 3):
        block = K[list(subset)][:, list(subset)]
        exact = _collect(functions, panels(block, kinks, _ORDERS[0]), patterns, 3)
        _insert(found, [exact] * _SCRAMBLES, subset)
    return Replicas("sobol", _SCRAMBLES), found


def _blank(patterns: Sequence[Pattern], N: int, count: int) -> list[dict[Pattern, Tensor]]:
    return [
        {p: torch.zeros((N,) * len(p), dtype=torch.float64) for p in patterns} for _ in range(count)
    ]


def _insert(found, blocks, subset: Sequence[int]) -> None:
    at = torch.tensor(subset)
    for target, block in zip(found, blocks, strict=True):
        for pattern, value in block.items():
            index = torch.meshgrid(*[at] * len(pattern), indexing="ij")
            target[pattern][index] = value


def _few_samples(N: int) -> Tensor:
    """Where at most two of four indices differ, (N, N, N, N)."""
    one = torch.arange(N)
    a, b, c, d = (
        one.reshape([-1 if axis == slot else 1 for axis in range(4)]) for slot in range(4)
    )
    other = torch.where(b != a, b, torch.where(c != a, c, d))
    return ((c == a) | (c == other)) & ((d == a) | (d == other))


def _points(N: int) -> int:
    """So many points that a table of all quadruples costs no more than with 20 samples."""
    return 2 ** int(math.log2(max(2**11, 2**_LOG_POINTS * (20 / max(N, 20)) ** 4)))


def _collect(functions, nodes: Nodes, patterns: Sequence[Pattern], N: int) -> dict:
    """Sum over nodes; a product of four is a matrix product of two tables of pairs."""
    total = _blank(patterns, N, 1)[0]
    halves = {(p[k], p[k + 1]) for p in patterns if len(p) == 4 for k in (0, 2)}
    needed = sorted({k for p in patterns for k in p})
    rows = max(1, _MOST_ELEMENTS // N**2)
    for z, w in _split(nodes, rows):
        f = {k: functions[k](z) for k in needed}
        tables = {(i, j): (f[i][:, :, None] * f[j][:, None, :]).flatten(1) for i, j in halves}
        for p in patterns:
            if len(p) == 2:
                total[p] += (w[:, None] * f[p[0]]).T @ f[p[1]]
            else:
                product = (w[:, None] * tables[p[0], p[1]]).T @ tables[p[2], p[3]]
                total[p] += product.reshape((N,) * 4)
    return total


def _split(nodes: Nodes, rows: int) -> Nodes:
    for z, w in nodes:
        yield from zip(z.split(rows), w.split(rows), strict=True)


# --- kinks: nested panels ---------------------------------------------------------------------


def panels(K: Tensor, kinks: Sequence[float], order: int, mean: Tensor | None = None) -> Nodes:
    """Nodes z (M, N) and weights (M,) of N(mean, K), for integrands with kinks.

    Coordinates are those of a pivoted Cholesky factor L: sample s depends on x_1 ... x_s. Given
    the earlier coordinates the kinks of sample s are points in x_s. Averaging over x_s leaves a
    turnover of width |L_s,later| in the earlier ones, which gets cuts of its own.
    """
    N = K.shape[0]
    mean = torch.zeros(N, dtype=torch.float64) if mean is None else mean
    L = _pivoted_cholesky(K)
    x = torch.zeros(1, 0, dtype=torch.float64)
    w = torch.ones(1, dtype=torch.float64)
    t, weight = legendre(order)
    for k in range(L.shape[1]):
        edges = _cuts(L, k, x, mean, kinks)
        width = edges.diff(dim=1)
        nodes = (edges[:, :-1, None] + width[..., None] * t).flatten(1)
        density = torch.exp(-0.5 * nodes**2) / math.sqrt(2 * math.pi)
        both = w[:, None] * (width[..., None] * weight).flatten(1) * density
        row, column = (both > 1e-18).nonzero(as_tuple=True)
        x = torch.cat([x[row], nodes[row, column][:, None]], 1)
        w = both[row, column]
    for start in range(0, len(x), _CHUNK):
        yield mean + x[start : start + _CHUNK] @ L.T, w[start : start + _CHUNK]


def _cuts(L: Tensor, k: int, x: Tensor, mean: Tensor, kinks: Sequence[float]) -> Tensor:
    cuts = [x.new_full((len(x), 1), edge) for edge in (-_REACH, -3.0, 3.0, _REACH)]
    for s in range(L.shape[0]):
        slope = float(L[s, k])
        if abs(slope) < 1e-12:
            continue
        # how wide the later coordinates smear the kink, in units of x_k
        smear = float(L[s, k + 1 :].norm()) / abs(slope)
        if smear > 2.0:
            continue
        offsets = [smear * g for g in (_GUARD if smear < 0.2 else _WIDE_GUARD)]
        if smear < 1e-9:
            offsets = [0.0]
        for kink in kinks:
            at = (kink - mean[s] - x @ L[s, :k]) / slope
            cuts += [(at + offset)[:, None] for offset in offsets]
    return torch.cat(cuts, 1).clamp(-_REACH, _REACH).sort(1).values


def _pivoted_cholesky(K: Tensor) -> Tensor:
    """L (N, r) with L Lᵀ = K, largest remaining variance first, stopping at rounding."""
    rest, columns = K.clone(), []
    scale = float(K.diagonal().max())
    for _ in range(K.shape[0]):
        at = int(rest.diagonal().argmax())
        pivot = float(rest[at, at])
        if pivot <= 1e-14 * scale or pivot <= 0:
            break
        column = rest[:, at] / math.sqrt(pivot)
        columns.append(column)
        rest = rest - column[:, None] * column[None, :]
    if not columns:
        return K.new_zeros(K.shape[0], 0)
    L = torch.stack(columns, 1)
    return torch.where(L.abs() < 1e-15 * math.sqrt(scale), torch.zeros_like(L), L)


# --- many samples: scrambled Sobol points -------------------------------------------


def scrambled(
    K: Tensor, seed: int, mean: Tensor | None = None, points: int = 2**_LOG_POINTS
) -> Nodes:
    """Points of N(mean, K) from one scramble of a Sobol sequence, with equal weights."""
    L = _pivoted_cholesky(K)
    engine = torch.quasirandom.SobolEngine(max(L.shape[1], 1), scramble=True, seed=1000 + seed)
    u = engine.draw(points, dtype=torch.float64).clamp(1e-15, 1 - 1e-15)
    x = torch.special.ndtri(u)[:, : L.shape[1]]
    for start in range(0, len(x), _CHUNK):
        z = x[start : start + _CHUNK] @ L.T
        yield (z if mean is None else mean + z), z.new_full((len(z),), 1 / len(x))

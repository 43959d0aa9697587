r"""Averages ⟨f(z_a) g(z_b) h(z_c) k(z_d)⟩ of one Gaussian vector, for all index choices at once.

At order 1/n terms of opposite sign cancel, so every average is taken by a rule that converges
geometrically, and is taken twice: the *replicas* of a rule share nothing but its step. Whatever
is computed from the averages can be carried through for each replica; the spread at the end is
its error, cancellation included.

Strategy
--------
* Repeated or parallel samples lower the rank of K, and the rank is the dimension integrated.
* Smooth functions, few samples of moderate variance or a small tolerance: every subset of up to
  four samples is an integral of its own, by :mod:`kadanoff.gaussian.lattices` or, beyond four
  samples, hundreds at a time by :mod:`kadanoff.gaussian.batches`. Two steps of the lattice are the
  replicas; the value is
  the finer one, whose error is about their difference to the power 1.5.
* Smooth functions of more samples: one pair of samples at a time is integrated over, the others
  are expanded given the pair (:mod:`kadanoff.gaussian.conditioned`). Two levels, of step and
  number of orders, are the replicas. Subsets whose expansion does not end are integrals of their
  own again.
* Functions with kinks, up to three samples: nested Gauss-Legendre panels cut at the kinks and
  where the conditional mean of a later sample crosses one; two orders are the replicas.
* Kinks and four or more samples: eight scrambles of a Sobol sequence; the error is their
  standard error, about 1e-5 relative. Entries with at most three distinct samples are then
  overwritten by panels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from kadanoff.gaussian.batches import batched, over_subsets
from kadanoff.gaussian.conditioned import Conditioned
from kadanoff.gaussian.kinked import PANEL_ORDERS, panels
from kadanoff.gaussian.lattices import nested
from kadanoff.gaussian.replicas import Lazily, Replicas
from kadanoff.gaussian.sobol import SCRAMBLES, scrambled
from kadanoff.gaussian.sums import sum_over_nodes

__all__ = ["many"]

Function = Callable[[Tensor], Tensor]
Pattern = tuple[int, ...]
Averages = dict[Pattern, Tensor]

# up to here each subset alone; up to here each subset, whatever the tolerance
_SINGLE_SUBSETS, _SUBSETS = 4, 10
# subsets times the largest variance, beyond which the nodes of their lattices are too many
_LARGE = 1500
# the expansion resolves no less than this
_EXPANSION_TOLERANCE = 1e-7
_MOST_PANELS = 3
# rounding, and kernels known to 3e-13, which the steps of a deep network magnify
_SHARED = 1e-11


def many(
    functions: Sequence[Function],
    K: Tensor,
    patterns: Sequence[Pattern],
    kinks: Sequence[float] = (),
    *,
    tolerance: float = 1e-10,
    odd: bool = False,
    homes: Sequence[range] | None = None,
    device: str = "cpu",
) -> tuple[Replicas, Sequence[Averages]]:
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
    homes : sequence of N ranges, optional
        The functions wanted of each sample; entries with others
        may be left zero, which saves time.
    device : str
        Where the matrix products of many samples are taken; results come back to the CPU.

    Returns
    -------
    replicas : Replicas
    averages : sequence of dict
        For each replica, pattern -> Tensor of shape (N, N) or (N, N, N, N); with many samples
        each is computed when it is asked for.
    """
    if kinks:
        return _kinked(functions, K, patterns, kinks)
    even = odd and all(sum(p) % 2 == 0 for p in patterns)
    if len(K) <= _SINGLE_SUBSETS:
        rule = Replicas("lattice", 2, _SHARED + 1e-2 * tolerance)
        return rule, nested(functions, K, patterns, tolerance, even)
    if _costly(K) and homes is None and tolerance >= _EXPANSION_TOLERANCE:
        found = _expanded(functions, K, patterns, tolerance, even, device)
        if found is not None:
            return Replicas("expansion", 2, tolerance), found
    # of thousands of subsets a few agree by accident before they have converged
    rule = Replicas("lattice", 2, 0.3 * tolerance)
    return rule, batched(functions, K, patterns, 0.3 * tolerance, even, homes)


def _costly(K: Tensor) -> bool:
    """Whether integrals of all subsets take longer than the expansion: many, or large ones."""
    N = len(K)
    return N > _SUBSETS or math.comb(N, 4) * float(K.diagonal().max()) > _LARGE


def _expanded(
    functions: Sequence[Function],
    K: Tensor,
    patterns: Sequence[Pattern],
    tolerance: float,
    even: bool,
    device: str,
) -> Sequence[Averages] | None:
    """Two levels of the expansion given pairs of samples; None if its tables cannot hold it."""
    with _on(device):
        rule = Conditioned(functions, K.to(device), patterns, tolerance, even)
        if not rule.usable:
            return None
        rest = [at.cpu() for at in rule.unfinished()]
    four = [p for p in patterns if len(p) == 4]
    solved = [over_subsets(functions, K, four, at, 0.3 * tolerance, even) for at in rest if len(at)]

    def level(replica: int) -> Averages:
        with _on(device):
            found = rule.averages(replica)
        found = {p: value.to(K.device) for p, value in found.items()}
        for part in solved:
            part.insert(found, four, replica)
        return found

    return Lazily(2, level)


def _on(device: str) -> AbstractContextManager:
    """New tensors are made on this device; entering the CPU would only slow every call."""
    return nullcontext() if torch.device(device).type == "cpu" else torch.device(device)


def _kinked(
    functions: Sequence[Function],
    K: Tensor,
    patterns: Sequence[Pattern],
    kinks: Sequence[float],
) -> tuple[Replicas, list[Averages]]:
    """Panels for up to three samples; beyond, Sobol points and panels for every three of them."""
    N = len(K)
    if N <= _MOST_PANELS:
        found = [
            sum_over_nodes(functions, panels(K, kinks, order), patterns, N)
            for order in PANEL_ORDERS
        ]
        return Replicas("panels", 2), found
    found = [
        sum_over_nodes(functions, scrambled(K, seed), patterns, N) for seed in range(SCRAMBLES)
    ]
    for subset in itertools.combinations(range(N), _MOST_PANELS):
        at = torch.tensor(subset)
        nodes = panels(K[at][:, at], kinks, PANEL_ORDERS[0])
        exact = sum_over_nodes(functions, nodes, patterns, _MOST_PANELS)
        for target in found:
            _insert(target, exact, at)
    return Replicas("sobol", SCRAMBLES), found


def _insert(target: Averages, block: Averages, at: Tensor) -> None:
    """Entries of the samples ``at`` and no others."""
    for pattern, value in block.items():
        index = torch.meshgrid(*[at] * len(pattern), indexing="ij")
        target[pattern][index] = value

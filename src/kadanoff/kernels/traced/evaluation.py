"""Running a graph of kernels on pairs of samples.

Each sample is first paired with itself, for the variances that all its pairs need. Then pairs go
through the whole graph, a few at a time, so that memory holds the positions of a few pairs and
never those of all. Where something is sampled, all pairs go through together.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from kadanoff.devices import check_room
from kadanoff.errors import DataError, DomainError
from kadanoff.kernels.tiles import single_threaded
from kadanoff.kernels.traced.averages import Averages
from kadanoff.kernels.traced.nodes import Node, Pair
from kadanoff.kernels.traced.sampled import Sampled, drawn

__all__ = ["Graph", "Values", "pairs_of"]

# entries of the largest kernel that go through together
_BATCH = 1 << 18

# data by leaf: (N, P, C)
Values = dict[Node, Tensor]


@dataclass
class Graph:
    """The operations before an output, in order.

    Parameters
    ----------
    output : Node
        With one position.

    Attributes
    ----------
    order : list of Node
    full : dict of Node to bool
        Whether all pairs of positions are needed.
    watched : set of Node
        Whose own variances are needed.
    averages : Averages
    """

    output: Node
    order: list[Node] = field(init=False)
    full: dict[Node, bool] = field(init=False)
    watched: set[Node] = field(init=False)
    averages: Averages = field(init=False, default_factory=Averages)

    def __post_init__(self) -> None:
        self.order = _ordered(self.output)
        self.full = dict.fromkeys(self.order, False)
        for node in reversed(self.order):
            if node.demand(self.full[node]):
                for source in node.inputs:
                    self.full[source] = True
        self.watched = {one for node in self.order for one in node.watched()}
        self.whole = {one for node in self.order if node.watches_all() for one in node.watched()}
        self.pairwise = _ordered(self.output, lambda node: node.between())
        self.uses_between = {
            node: sum(other.between().count(node) for other in self.pairwise)
            for node in self.pairwise
        }
        self.whole = {one for node in self.order if node.watches_all() for one in node.watched()}
        self.pairwise = _ordered(self.output, lambda node: node.between())
        self.uses = {
            node: sum(other.inputs.count(node) for other in self.order) for node in self.order
        }

    @property
    def joint(self) -> bool:
        """Whether all pairs have to go through together, because something is sampled."""
        return any(isinstance(node, Sampled) for node in self.order)

    @property
    def largest(self) -> int:
        """Entries of the largest kernel of one pair."""
        return max(n.positions ** (2 if self.full[n] else 1) for n in self.order)

    def at_once(self) -> int:
        """Bytes that one pair needs at the most."""
        alive: dict[Node, int] = {}
        left, most = dict(self.uses), 0
        for node in self.order:
            alive[node] = 16 * node.positions ** (2 if self.full[node] else 1)
            most = max(most, sum(alive.values()) + alive[node])
            for source in node.inputs:
                left[source] -= 1
                if not left[source]:
                    alive.pop(source, None)
        return most


def _ordered(
    output: Node, inputs: Callable[[Node], tuple[Node, ...]] = lambda node: node.inputs
) -> list[Node]:
    order: list[Node] = []
    done: set[Node] = set()
    stack = [output]
    while stack:
        node = stack[-1]
        waiting = [one for one in inputs(node) if one not in done]
        if waiting:
            stack += waiting
            continue
        stack.pop()
        if node not in done:
            done.add(node)
            order.append(node)
    return order


class _Run:
    """One batch of pairs on its way through the graph."""

    def __init__(
        self,
        graph: Graph,
        values: tuple[Values, Values],
        pairs: tuple[Tensor, Tensor],
        own: Tensor,
        variances: tuple[dict[Any, Tensor], dict[Any, Tensor]] | None,
        ntk: bool,
        seed: int = 0,
        draws: int = 1,
    ) -> None:
        self.graph, self.values, self.pairs, self.ntk = graph, values, pairs, ntk
        self.own = own
        self.given = variances
        self.found: dict[Node, Tensor] = {}  # variances met on the way, a row a pair
        self.matrices: dict[Node, Tensor] = {}
        self.kept: dict[Node, Pair] = {}
        self.seed, self.draws = seed, draws

    def full(self, node: Node) -> bool:
        return self.graph.full[node]

    def get(self, node: Node, full: bool) -> Pair:
        S, T = self.kept[node]
        if self.graph.full[node] and not full:
            return S.diagonal(dim1=1, dim2=2), T.diagonal(dim1=1, dim2=2)
        return S, T

    def variance(self, node: Node) -> Pair:
        i, j = self.pairs
        if self.given is None:
            V = self.found[node]
            return V[i] if len(V) > 1 else V, V[j] if len(V) > 1 else V
        one, two = self.given[0][node], self.given[1][node]
        return (one[i] if len(one) > 1 else one), (two[j] if len(two) > 1 else two)

    def matrix(self, node: Node, function: Callable[[Tensor], Tensor]) -> Pair:
        i, j = self.pairs
        if self.given is None:
            M = function(self.matrices[node])
            return (M[i], M[j]) if len(M) > 1 else (M, M)
        for given in self.given:
            # once a sample, not once a pair
            if (node, function) not in given:
                given[node, function] = function(given[node, "all"])
        one, two = (given[node, function] for given in self.given)
        return (one[i] if len(one) > 1 else one), (two[j] if len(two) > 1 else two)

    def data(self, node: Node) -> Pair:
        one, two = self.values[0][node], self.values[1][node]
        if len(one) == 1 and len(two) == 1:
            return one, two
        return one[self.pairs[0]], two[self.pairs[1]]

    def average(self, act, a: Tensor, b: Tensor, c: Tensor, ntk: bool) -> Pair:
        return self.graph.averages(act, a, b, c, ntk)

    def sampled(self, node: Node) -> Pair:
        assert isinstance(node, Sampled)
        count = int(self.pairs[0].max()) + 1
        covariances = [self._matrix(self.kept[leaf], count) for leaf in node.inputs]
        S, T = drawn(node, covariances, self.values[0], count, self.seed, self.draws, self.ntk)
        P = node.positions
        i, j = self.pairs
        S, T = (X.view(count, P, count, P).transpose(1, 2)[i, j] for X in (S, T))
        if not self.graph.full[node]:
            return S.diagonal(dim1=1, dim2=2), T.diagonal(dim1=1, dim2=2)
        return S, T

    def _matrix(self, pair: Pair, count: int) -> Pair:
        """All positions of all samples against each other, from all pairs i >= j."""
        i, j = self.pairs
        out = []
        for X in pair:
            P = X.shape[1]
            whole = X.new_empty(count, count, P, P)
            whole[i, j] = X.expand(len(i), P, P)
            whole[j, i] = X.expand(len(i), P, P).mT
            out.append(whole.transpose(1, 2).reshape(count * P, count * P))
        return out[0], out[1]

    def __call__(self) -> Pair:
        graph = self.graph
        between = self.given is not None
        left = dict(graph.uses_between if between else graph.uses)
        left[graph.output] += 1
        for node in graph.pairwise if between else graph.order:
            self.kept[node] = S, _ = node.forward(self)
            if node in graph.watched and not between:
                V = S.diagonal(dim1=1, dim2=2) if graph.full[node] else S
                self.found[node] = (V if len(V) == 1 else V[self.own]).clone().clamp_min_(0)
            if node in graph.whole and not between:
                self.matrices[node] = (S if len(S) == 1 else S[self.own]).clone()
            for source in node.between() if between else node.inputs:
                left[source] -= 1
                if not left[source]:
                    del self.kept[source]
        S, T = self.kept.pop(graph.output)
        return S.reshape(-1), T.reshape(-1)


def pairs_of(
    graph: Graph,
    values1: Values,
    values2: Values | None,
    counts: tuple[int, int],
    ntk: bool,
    *,
    only_own: bool = False,
    progress: Callable[..., None] | None = None,
) -> Pair:
    """K and Θ of all pairs, (N1, N2), or (N1,) with ``only_own``; nothing sampled.

    Parameters
    ----------
    graph : Graph
    values1, values2 : dict of Node to Tensor
        Data of the leaves; ``None``: the same samples on both sides.
    counts : (int, int)
    ntk : bool
    only_own : bool
        Each sample with itself.
    progress : callable, optional
        ``progress(done, total)``.

    Raises
    ------
    DomainError
        The kernel overflows.
    """
    symmetric = values2 is None
    batch = max(1, _BATCH // graph.largest)
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        threads = stack.enter_context(single_threaded())
        apply: Callable[..., Any] = map
        if threads > 1:
            pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
            apply = stack.enter_context(pool).map
        one = _own(graph, values1, counts[0], batch, ntk, apply)
        if only_own:
            return _finite(one[1], one[2])
        two = one if values2 is None else _own(graph, values2, counts[1], batch, ntk, apply)
        K = torch.empty(counts, dtype=torch.float64)
        Theta = torch.zeros_like(K)
        index = torch.ones(counts, dtype=torch.bool)
        jobs = (index.tril(-1) if symmetric else index).nonzero().split(batch)
        jobs = [job for job in jobs if len(job)]

        def work(job: Tensor):
            i, j = job.unbind(1)
            run = _Run(
                graph,
                (values1, values1 if values2 is None else values2),
                (i, j),
                torch.zeros(len(i), dtype=torch.bool),
                (one[0], two[0]),
                ntk,
            )
            return job, run()

        for done, (job, (k, theta)) in enumerate(apply(work, jobs)):
            i, j = job.unbind(1)
            K[i, j], Theta[i, j] = k, theta
            if symmetric:
                K[j, i], Theta[j, i] = k, theta
            if progress:
                progress(done + 1, len(jobs))
        if symmetric:
            K.diagonal().copy_(one[1])
            Theta.diagonal().copy_(one[2])
    return _finite(K, Theta)


def _own(graph: Graph, values: Values, count: int, batch: int, ntk: bool, apply: Callable):
    """Variances of the watched nodes (N, P), and K and Θ of each sample with itself."""

    def work(part: Tensor):
        run = _Run(
            graph,
            (_rows(values, part), _rows(values, part)),
            (torch.arange(len(part)), torch.arange(len(part))),
            torch.ones(len(part), dtype=torch.bool),
            None,
            ntk,
        )
        k, theta = run()
        found = {**run.found, **{(node, "all"): m for node, m in run.matrices.items()}}
        return found, k.expand(len(part)), theta.expand(len(part))

    found = list(apply(work, torch.arange(count).split(batch)))
    variances: dict[Any, Tensor] = {}
    for key in found[0][0]:
        node = key[0] if isinstance(key, tuple) else key
        rows = [f[0][key] for f in found]
        shared = all(len(r) == 1 for r in rows) and node.shared
        variances[key] = rows[0] if shared else torch.cat(rows)
    return variances, torch.cat([f[1] for f in found]), torch.cat([f[2] for f in found])


def _rows(values: Values, part: Tensor) -> Values:
    return {node: value if len(value) == 1 else value[part] for node, value in values.items()}


def joint_pairs(graph: Graph, values: Values, count: int, ntk: bool, seed: int, draws: int) -> Pair:
    """K and Θ (N, N) where something is sampled: ``draws`` random networks of that part.

    Raises
    ------
    DataError
        All pairs do not fit into memory; the message states the bytes.
    """
    i, j = torch.ones(count, count).tril().nonzero().unbind(1)
    rows = max(n.positions for n in graph.order if isinstance(n, Sampled)) * count
    needed = graph.at_once() * len(i) + 40 * rows * rows
    check_room(
        needed,
        f"Sampling needs the kernels of all {len(i)} pairs at once, which",
        "Call the kernel on blocks of fewer samples, kernel(X[a:b], X[c:d]), or use "
        "kadanoff.kernels.stream(kernel, X, path, tile=...), which does.",
        DataError,
    )
    own = i == j
    with torch.no_grad():
        run = _Run(graph, (values, values), (i, j), own, None, ntk, seed, draws)
        k, theta = run()
    K = k.new_empty(count, count)
    Theta = torch.empty_like(K)
    for out, value in ((K, k), (Theta, theta)):
        out[i, j] = value.expand(len(i))
        out[j, i] = value.expand(len(i))
    return _finite(K, Theta)


def _finite(K: Tensor, Theta: Tensor) -> Pair:
    if not (bool(torch.isfinite(K).all()) and bool(torch.isfinite(Theta).all())):
        raise DomainError(
            "The kernel overflows.",
            "Initialise with smaller weights (nearer to criticality), or add normalisation.",
        )
    return K, Theta


def nodes_with_data(order: Iterable[Node]) -> list[Node]:
    """Leaves that need the data."""
    return [node for node in order if hasattr(node, "expression")]

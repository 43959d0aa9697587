"""What an infinitely wide network does to kernels: one node an operation.

A node stands for a random tensor of C independent, identical channels at each of P positions of
each sample. It is known by S[p, p'] = E[x_p x'_{p'}] of one channel and by the tangent kernel
T[p, p'] = Σ λ ∂x_p/∂θ ∂x'_{p'}/∂θ, for pairs of samples: tensors (B, P, P), or (B, P) where
only p = p' matters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kadanoff.activations import Activation
    from kadanoff.kernels.traced.expressions import Expression
    from kadanoff.kernels.traced.layout import Layout

__all__ = [
    "Activated",
    "Affine",
    "Dropout",
    "Embedding",
    "Environment",
    "Gained",
    "Inputs",
    "Mixture",
    "Node",
    "Normalised",
    "Product",
    "Rescaled",
    "Scaled",
    "Sum",
    "Table",
    "Vector",
    "spread",
]

Pair = tuple[Tensor, Tensor]


class Environment(Protocol):
    """What a node asks of an evaluation."""

    ntk: bool
    own: Tensor  # which pairs are a sample with itself

    def full(self, node: Node) -> bool:
        """Whether all pairs of positions of this node are wanted."""
        ...

    def get(self, node: Node, full: bool) -> Pair:
        """S and T of an input."""
        ...

    def variance(self, node: Node) -> Pair:
        """E[x²] of the first and of the second sample of each pair, (B, P) each."""
        ...

    def matrix(self, node: Node, function: Callable[[Tensor], Tensor]) -> Pair:
        """A function of E[x_p x_q] within the first and the second sample of each pair."""
        ...

    def data(self, node: Node) -> Pair:
        """The data of a leaf at the first and at the second sample of each pair."""
        ...

    def average(self, act: Activation, a: Tensor, b: Tensor, c: Tensor, ntk: bool) -> Pair:
        """⟨σσ⟩ and ⟨σ'σ'⟩.

        Parameters
        ----------
        act : Activation
        a, b, c : Tensor
            K11, K12, K22; a and c broadcast to b.
        ntk : bool
            Whether the second is needed.
        """
        ...

    def sampled(self, node: Node) -> Pair:
        """S and T of a node that has to be sampled."""
        ...


class Node:
    """One operation.

    Parameters
    ----------
    inputs : sequence of Node
    positions, channels : int
    gaussian : bool
        Whether a channel is a Gaussian function of sample and position.
    sources : dict of int to int
        Independent origins, and which of their channels (a bit each).
    """

    # whether each entry takes entries of its inputs at other positions than its own
    mixes = False

    def __init__(
        self,
        inputs: Sequence[Node],
        positions: int,
        channels: int,
        gaussian: bool = False,
        sources: dict[int, int] | None = None,
    ) -> None:
        self.inputs, self.positions, self.channels = tuple(inputs), positions, channels
        self.gaussian = gaussian
        self.shared = bool(inputs) and all(node.shared for node in inputs)
        self.sampled_below = any(node.sampled_below for node in inputs)
        self.path = ""
        if sources is None:
            sources = {}
            for node in inputs:
                for origin, mask in node.sources.items():
                    sources[origin] = sources.get(origin, 0) | mask
        self.sources = sources

    def own_source(self) -> None:
        """Make this node an origin: fresh weights make it independent of all else."""
        self.sources = {id(self): (1 << self.channels) - 1}

    def watched(self) -> tuple[Node, ...]:
        """Inputs whose own variances are needed."""
        return ()

    def between(self) -> tuple[Node, ...]:
        """Inputs whose kernels between two samples are needed."""
        return self.inputs

    def watches_all(self) -> bool:
        """Whether the watched inputs are needed between all positions of a sample."""
        return False

    def demand(self, full: bool) -> bool:
        """Whether all pairs of positions of the inputs are needed."""
        return full or self.mixes

    def centred(self) -> bool:
        """Whether the mean over channels is zero."""
        return self.gaussian

    def forward(self, env: Environment) -> Pair:
        """S and T."""
        raise NotImplementedError


def spread(one: Tensor, two: Tensor, like: Tensor) -> Pair:
    """Numbers of both samples (B, P), shaped to multiply (B, P, P) or (B, P).

    Parameters
    ----------
    one, two : Tensor, shape (B, P)
    like : Tensor
        What they will multiply.
    """
    return (one[:, :, None], two[:, None, :]) if like.ndim == 3 else (one, two)


class Inputs(Node):
    """Data: the same in every network, (N, P, C)."""

    def __init__(self, expression: Expression, layout: Layout, positions: int, channels: int):
        super().__init__((), positions, channels)
        self.expression, self.layout = expression, layout
        self.shared = layout.sample is None
        self.own_source()

    def forward(self, env: Environment) -> Pair:
        one, two = env.data(self)
        if env.full(self):
            S = one @ two.mT
        else:
            S = torch.linalg.vecdot(one, two)
        S = S / self.channels
        return S, torch.zeros_like(S)


class Table(Node):
    """Entries of a parameter, used as they are: positions share what rows they share."""

    def __init__(self, labels: Tensor, channels: int, variance: float, rate: float) -> None:
        super().__init__((), len(labels), channels, gaussian=True)
        self.same = (labels[:, None] == labels[None, :]).double()
        self.variance, self.rate, self.shared = variance, rate, True
        self.own_source()

    def forward(self, env: Environment) -> Pair:
        same = self.same if env.full(self) else self.same.diagonal()
        return self.variance * same[None], self.rate * same[None]


class Embedding(Node):
    """Rows of a table, by tokens in the data."""

    def __init__(
        self,
        tokens: Expression,
        layout: Layout,
        positions: int,
        channels: int,
        variance: float,
        rate: float,
        zero_rows: tuple[int, ...],
    ) -> None:
        super().__init__((), positions, channels, gaussian=True)
        self.expression, self.layout = tokens, layout
        self.variance, self.rate, self.zero_rows = variance, rate, zero_rows
        self.own_source()

    def forward(self, env: Environment) -> Pair:
        one, two = (t[..., 0] for t in env.data(self))
        first, second = (one[:, :, None], two[:, None, :]) if env.full(self) else (one, two)
        same = first == second
        for row in self.zero_rows:
            same = same & (first != row)
        same = same.double()
        return self.variance * same, self.rate * same


class Affine(Node):
    """A fresh linear map over channels: K' = C_b + C_W K, Θ' = C_W Θ + λ_W K + λ_b.

    ``taps`` (R, U), where a row takes several positions: K' is the mean over them.
    """

    def __init__(
        self,
        source: Node,
        channels: int,
        C_W: float,
        C_b: float,
        rates: tuple[float, float],
        taps: Tensor | None = None,
        fan_in: int = 0,
    ) -> None:
        positions = source.positions if taps is None else len(taps)
        # an average over few products of weights is no Gaussian
        super().__init__((source,), positions, channels, gaussian=True)
        self.C_W, self.C_b, self.rates, self.taps = C_W, C_b, rates, taps
        self.own_source()

    def between(self) -> tuple[Node, ...]:
        """Inputs whose kernels between two samples are needed."""
        return self.inputs

    def watches_all(self) -> bool:
        """Whether the watched inputs are needed between all positions of a sample."""
        return False

    def demand(self, full: bool) -> bool:
        return full

    def forward(self, env: Environment) -> Pair:
        full = env.full(self)
        S, T = env.get(self.inputs[0], full)
        if self.taps is not None:
            S, T = self._taken(S, full), self._taken(T, full) if env.ntk else T
        rate_W, rate_b = self.rates
        K = S * self.C_W
        if env.ntk:
            T = T * self.C_W
            T.add_(S, alpha=rate_W)
            T = T.add_(rate_b) if rate_b else T
        else:
            T = torch.zeros_like(K)
        return (K.add_(self.C_b) if self.C_b else K), T

    def _taken(self, S: Tensor, full: bool) -> Tensor:
        assert self.taps is not None
        rows, count = self.taps.shape
        whole = count == S.shape[1] and rows == 1
        if whole and not full:
            return S.mean(1, keepdim=True)
        if not full:
            return S[:, self.taps].mean(2)
        out = S.new_zeros(len(S), rows, rows)
        for u in range(count):
            at = self.taps[:, u]
            out += S[:, at[:, None], at[None, :]]
        return out / count


class Activated(Node):
    """σ entry by entry of a Gaussian: ⟨σσ⟩, Θ ⟨σ'σ'⟩."""

    def __init__(self, source: Node, act: Activation) -> None:
        super().__init__((source,), source.positions, source.channels)
        self.act = act

    def watched(self) -> tuple[Node, ...]:
        return self.inputs

    def centred(self) -> bool:
        return self.act.odd

    def forward(self, env: Environment) -> Pair:
        S, T = env.get(self.inputs[0], env.full(self))
        V1, V2 = env.variance(self.inputs[0])
        out = torch.empty_like(S)
        tangent = torch.empty_like(S) if env.ntk else torch.zeros_like(S)
        # a strip of positions at a time stays in cache
        size = max(1, (1 << 16) // max(1, S[0, 0].numel())) if S.ndim == 3 else S.shape[1]
        per = max(1, (1 << 16) // max(1, S[0].numel()))
        for b in range(0, len(S), per):
            pair = slice(b, b + per)
            for p in range(0, S.shape[1], size):
                at = (pair, slice(p, p + size))
                a, c = V1[at], V2[pair] if S.ndim == 3 else V2[at]
                a, c = (a[:, :, None], c[:, None, :]) if S.ndim == 3 else (a, c)
                ss, dd = env.average(self.act, a, S[at], c, env.ntk)
                out[at] = ss
                if env.ntk:
                    torch.mul(dd, T[at], out=tangent[at])
        return out, tangent


class Scaled(Node):
    """A number times the input."""

    def __init__(self, source: Node, factor: float) -> None:
        super().__init__((source,), source.positions, source.channels, source.gaussian)
        self.factor = factor

    def centred(self) -> bool:
        return self.inputs[0].centred()

    def forward(self, env: Environment) -> Pair:
        S, T = env.get(self.inputs[0], env.full(self))
        return S * self.factor**2, T * self.factor**2


class Vector(Node):
    """The input times given numbers, which may differ from position to position and channel."""

    def __init__(self, source: Node, factor: Inputs, uniform: bool) -> None:
        gaussian = source.gaussian and uniform
        super().__init__(
            (source, factor), source.positions, source.channels, gaussian, source.sources
        )
        self.shared = source.shared and factor.shared

    def centred(self) -> bool:
        return self.inputs[0].centred()

    def forward(self, env: Environment) -> Pair:
        full = env.full(self)
        S, T = env.get(self.inputs[0], full)
        E, _ = env.get(self.inputs[1], full)
        return S * E, T * E


class Sum(Node):
    """Independent terms."""

    def __init__(self, terms: Sequence[Node], positions: int, channels: int) -> None:
        super().__init__(terms, positions, channels, all(term.gaussian for term in terms))

    def centred(self) -> bool:
        return all(term.centred() for term in self.inputs)

    def forward(self, env: Environment) -> Pair:
        full = env.full(self)
        S, T = env.get(self.inputs[0], full)
        for term in self.inputs[1:]:
            more = env.get(term, full)
            S, T = S + more[0], T + more[1]
        return S, T


class Product(Node):
    """Two independent factors."""

    def __init__(self, one: Node, two: Node) -> None:
        super().__init__((one, two), one.positions, one.channels)

    def centred(self) -> bool:
        return any(node.centred() for node in self.inputs)

    def forward(self, env: Environment) -> Pair:
        full = env.full(self)
        (S, T), (U, W) = (env.get(node, full) for node in self.inputs)
        return S * U, T * U + S * W if env.ntk else T


class Mixture(Node):
    """Channels of several inputs side by side: kernels weighted by how many."""

    def __init__(self, parts: Sequence[Node], positions: int) -> None:
        channels = sum(part.channels for part in parts)
        super().__init__(parts, positions, channels)

    def centred(self) -> bool:
        return all(part.centred() for part in self.inputs)

    def forward(self, env: Environment) -> Pair:
        full = env.full(self)
        S: Any = 0.0
        T: Any = 0.0
        for part in self.inputs:
            share = part.channels / self.channels
            more = env.get(part, full)
            S, T = S + share * more[0], T + share * more[1]
        return S, T


class Dropout(Node):
    """Fresh masks for every sample and position: E[x²] is divided by what is kept."""

    def __init__(self, source: Node, keep: float) -> None:
        super().__init__((source,), source.positions, source.channels)
        self.keep = keep

    def centred(self) -> bool:
        return self.inputs[0].centred()

    def forward(self, env: Environment) -> Pair:
        S, T = env.get(self.inputs[0], env.full(self))
        if not bool(env.own.any()):
            return S, T
        count = len(env.own)
        S, T = (X.expand(count, *X.shape[1:]).clone() for X in (S, T))
        for X in (S, T):
            same = X.diagonal(dim1=1, dim2=2) if X.ndim == 3 else X
            same[env.own] = same[env.own] / self.keep
        return S, T


class Rescaled(Node):
    """Divided (or multiplied) by a function of the variance of each sample and position."""

    def __init__(
        self, source: Node, of: Node, function: Callable[[Tensor], Tensor], index: Tensor
    ) -> None:
        super().__init__(
            (source, of), source.positions, source.channels, source.gaussian, source.sources
        )
        self.function, self.index = function, index
        self.shared = source.shared and of.shared

    def watched(self) -> tuple[Node, ...]:
        return self.inputs[1:]

    def centred(self) -> bool:
        return self.inputs[0].centred()

    def forward(self, env: Environment) -> Pair:
        S, T = env.get(self.inputs[0], env.full(self))
        v1, v2 = env.variance(self.inputs[1])
        one, two = spread(self.function(v1)[:, self.index], self.function(v2)[:, self.index], S)
        return S * one * two, T * one * two if env.ntk else T


class Gained(Node):
    """g x + b with constants g and b = 0 that are learnt: Θ' = g² Θ + λ_g K + λ_b."""

    def __init__(self, source: Node, gain: float, rates: tuple[float, float]) -> None:
        super().__init__((source,), source.positions, source.channels, source.gaussian)
        self.gain, self.rates = gain, rates

    def centred(self) -> bool:
        return self.inputs[0].centred()

    def forward(self, env: Environment) -> Pair:
        S, T = env.get(self.inputs[0], env.full(self))
        rate_g, rate_b = self.rates
        if env.ntk:
            T = T * self.gain**2
            T.add_(S, alpha=rate_g).add_(rate_b)
        return S * self.gain**2, T


class Normalised(Node):
    """Divided by the root of the mean square over channels (and groups of positions).

    K_ij / √((v_i + ε)(v_j + ε)); what the statistics themselves vary is of order 1/n. The gain
    g and the offset have rates of their own: Θ' = g² Θ / … + λ_g K̂ + λ_b.
    """

    def __init__(
        self,
        source: Node,
        epsilon: float,
        centre: bool,
        whole: bool,
        gain: float,
        rates: tuple[float, float],
    ) -> None:
        super().__init__((source,), source.positions, source.channels, source.gaussian)
        self.epsilon, self.centre, self.whole = epsilon, centre, whole
        self.gain, self.rates = gain, rates

    def watched(self) -> tuple[Node, ...]:
        return self.inputs

    def centred(self) -> bool:
        return self.centre or self.inputs[0].centred()

    def _root(self, variance: Tensor) -> Tensor:
        if self.whole:
            variance = variance.mean(1, keepdim=True).expand_as(variance)
        return (variance + self.epsilon).rsqrt()

    def forward(self, env: Environment) -> Pair:
        S, T = env.get(self.inputs[0], env.full(self))
        v1, v2 = env.variance(self.inputs[0])
        one, two = spread(self._root(v1), self._root(v2), S)
        S = S * one * two
        rate_g, rate_b = self.rates
        if env.ntk:
            T = T * (self.gain**2 * one) * two
            T.add_(S, alpha=rate_g).add_(rate_b)
        return S * self.gain**2, T

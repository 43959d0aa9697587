"""Diagrams evaluated: connected correlators of every layer, to any order in 1/n."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from kadanoff.architecture import Network
from kadanoff.diagrams.couplings import Couplings, pairs_of
from kadanoff.diagrams.recursions import Recursion, Term
from kadanoff.diagrams.rules import Diagram, generate
from kadanoff.errors import DomainError, UsageError

__all__ = ["Correlators", "correlators", "evaluate"]

_LETTERS = "abcdefghijklmnopqrstuvwxyz"

# (k, loops) -> tensor of shape (P,) * k, the coefficient of ε^(k − 1 + loops)
Series = dict[tuple[int, int], np.ndarray]


@dataclass(frozen=True)
class Correlators:
    """Cumulants of the random metric Ĝ⁽ℓ⁾ as power series in ε = 1/n.

    Attributes
    ----------
    arch : Network
    K : ndarray, shape (L, N, N)
        Infinite-width kernel; ``K[0]`` is layer 1.
    terms : list of dict, length L
        For each layer, (k, loops) -> coefficient of ε^(k − 1 + loops) in κ_k, a tensor with one
        axis of length P a leg; P = N (N + 1)/2 unordered pairs of inputs.
    pairs : list of (int, int)
        The pairs in order.
    n : int
        The width that ε refers to: that of the first hidden layer.
    order : int
        Highest power of 1/n.
    """

    arch: Network
    K: np.ndarray
    terms: list[Series]
    pairs: list[tuple[int, int]]
    n: int
    order: int

    def coefficient(self, k: int, loops: int = 0) -> np.ndarray:
        """Coefficient of ε^(k − 1 + loops) in κ_k, shape (L, P, …); V is k = 2, loops = 0.

        For one input the axes of length 1 are dropped: shape (L,). κ_1 at loops = 0 is K.

        Raises
        ------
        UsageError
            It was not computed at this order.
        """
        if k < 1 or loops < 0 or k - 1 + loops > self.order:
            raise UsageError(
                f"κ_{k} at {loops} loops is of order {k - 1 + loops} in 1/n; "
                f"order {self.order} was computed."
            )
        if (k, loops) == (1, 0):
            found = np.stack([[K[a, b] for a, b in self.pairs] for K in self.K])
        else:
            found = np.stack([terms[k, loops] for terms in self.terms])
        return found.reshape(len(found)) if len(self.pairs) == 1 else found

    def cumulant(self, k: int, n: int | None = None, order: int | None = None) -> np.ndarray:
        """κ_k of Ĝ at width ``n``, summed up to ``order`` in 1/n; shapes as ``coefficient``.

        Parameters
        ----------
        k : int
            1 is the mean, 2 the four-point vertex, …: the connected 2k-point function.
        n : int, optional
            Width of every hidden layer; by default that of the architecture.
        order : int, optional
            Highest power of 1/n; by default all that were computed.
        """
        top = self.order if order is None else order
        if not k - 1 <= top <= self.order:
            raise UsageError(f"κ_{k} begins at order {k - 1}; orders up to {self.order} are known.")
        epsilon = 1.0 / (n or self.n)
        loops = range(top + 2 - k)
        terms = [self.coefficient(k, a) * epsilon ** (k - 1 + a) for a in loops]
        return np.sum(terms, axis=0)

    def correlator(
        self, inputs: Sequence[int], neurons: Sequence[int], n: int | None = None
    ) -> np.ndarray:
        """The connected correlator of preactivations ⟨φ_i(x_α) φ_j(x_β) …⟩, for every layer.

        Parameters
        ----------
        inputs, neurons : sequence of int, of one even length 2k
            Which input and which neuron each factor is at.

        Returns
        -------
        ndarray, shape (L,)

        Notes
        -----
        Given Ĝ the neurons are independent Gaussians, so this is the sum of κ over all perfect
        matchings of factors at equal neurons: one for k different neurons, (2k − 1)!! for one.
        """
        if len(inputs) != len(neurons) or len(inputs) % 2 or not inputs:
            raise UsageError("A correlator wants as many inputs as neurons, an even number.")
        if not all(0 <= x < len(self.K[0]) for x in inputs):
            raise UsageError(f"Inputs are numbered 0 … {len(self.K[0]) - 1}, got {list(inputs)}.")
        table = self.cumulant(len(inputs) // 2, n)
        table = table.reshape(len(self.K), *(len(self.pairs),) * (len(inputs) // 2))
        total = np.zeros(len(self.K))
        for matching in _matchings(list(range(len(inputs)))):
            if all(neurons[i] == neurons[j] for i, j in matching):
                at = [
                    self.pairs.index((min(inputs[i], inputs[j]), max(inputs[i], inputs[j])))
                    for i, j in matching
                ]
                total += table[(slice(None), *at)]
        return total


def correlators(
    arch: Network,
    X: Any,
    order: int = 3,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Correlators:
    """Connected correlators of all layers by summing diagrams, to ``order`` in 1/n.

    Parameters
    ----------
    arch : MLP
        Any activation and widths; Gaussian weights, no skips.
    X : array, shape (N, n_0)
    order : int
        1: the four-point function and the shift of the mean. 3: the eight-point function, the
        six-point function at one loop, the four-point function at two.
    progress : callable, optional
        ``progress(layer, layers)``.

    Returns
    -------
    Correlators

    Raises
    ------
    UsageError
        Skip connections, non-Gaussian weights, or an order outside 0 … 5.
    DomainError
        The kernel falls to zero, or inputs are parallel.

    Examples
    --------
    >>> import kadanoff as kd
    >>> found = correlators(kd.MLP(1, [50, 50], 1, "linear"), [[1.0]], order=2)
    >>> [round(float(v), 9) for v in found.coefficient(2)], found.coefficient(3)[-1].round(9)
    ([0.0, 2.0, 4.0], np.float64(40.0))
    """
    if arch.residual or arch.block != "single" or arch.init != "gaussian":
        raise UsageError(
            "Diagrams cover fully connected networks with Gaussian weights.",
            "Use flow(order=1) or ensemble() for skip connections and other initialisations.",
        )
    if order not in range(6):
        raise UsageError(f"order must be a whole number from 0 to 5, got {order!r}.")
    K = arch.C_b[0] + arch.C_W[0] * arch.metric(X)
    pairs, n = pairs_of(len(K)), arch.n[1]
    wanted = [(k, p + 1 - k) for p in range(1, order + 1) for k in range(p + 1, 0, -1)]
    terms: Series = {(k, loops): np.zeros((len(pairs),) * k) for k, loops in wanted}
    kernels, every = [K.numpy()], [terms]
    for layer, act in enumerate(arch.activations, 1):
        if bool((K.diagonal() < 1e-60).any()):
            raise DomainError(
                f"The kernel has fallen to {float(K.diagonal().min()):g} at layer {layer}.",
                "Raise C_W or C_b, or look at fewer layers.",
            )
        couplings = Couplings(act, K, arch.C_W[layer])
        share = n / arch.n[layer]
        terms = {
            (k, loops): evaluate(generate(k, loops), couplings, terms, share) for k, loops in wanted
        }
        mean = couplings.tensor(1, 0) + arch.C_b[layer]
        K = torch.zeros_like(K)
        for value, (a, b) in zip(mean, pairs):
            K[a, b] = K[b, a] = float(value)
        kernels.append(K.numpy())
        every.append(terms)
        if progress is not None:
            progress(layer, arch.L - 1)
    return Correlators(arch, np.stack(kernels), every, pairs, n, int(order))


def evaluate(
    diagrams: Sequence[Diagram], couplings: Couplings, terms: Series, share: float = 1.0
) -> np.ndarray:
    """The sum of diagrams with k legs: tensor of shape (P,) * k.

    Parameters
    ----------
    diagrams : sequence of Diagram, all of one k
    couplings : Couplings
        The vertices.
    terms : dict
        The blobs: (r, loops) -> tensor of shape (P,) * r.
    share : float
        n / n_ℓ: a vertex with m legs weighs n_ℓ^(1 − m), in units of n^(1 − m).
    """
    P, k = len(couplings.pairs), diagrams[0].k
    total = np.zeros((P,) * k)
    if P == 1:
        return _one_input(diagrams, couplings, terms, share).reshape((1,) * k)
    for diagram in diagrams:
        blobs = [terms[sum(column), loops] for column, loops in diagram.blobs]
        # most of what a first layer would need vanishes
        if any(not blob.any() for blob in blobs):
            continue
        vertices = [couplings.tensor(m, r) for m, r in zip(diagram.legs, diagram.lines)]
        weight = share ** (k - len(diagram.legs))
        value = np.einsum(_subscripts(diagram), *vertices, *blobs, optimize="greedy")
        value = value * (weight * float(diagram.coefficient) / math.factorial(k))
        for order in itertools.permutations(range(k)):
            total += value.transpose(order)
    return total


def _one_input(
    diagrams: Sequence[Diagram], couplings: Couplings, terms: Series, share: float
) -> np.ndarray:
    total = 0.0
    for term in _monomials(tuple(diagrams)):
        value = float(term.coefficient) * share**term.width_power
        for name, count in term.blobs:
            value *= terms[name].item() ** count
        if value:
            for name, count in term.vertices:
                value *= couplings.tensor(*name).item() ** count
            total += value
    return np.array(total)


@lru_cache(maxsize=64)
def _monomials(diagrams: tuple[Diagram, ...]) -> tuple[Term, ...]:
    return Recursion(diagrams[0].k, diagrams[0].loops, diagrams).terms


def _subscripts(diagram: Diagram) -> str:
    letters = iter(_LETTERS)
    legs = [[next(letters) for _ in range(m)] for m in diagram.legs]
    output = "".join(itertools.chain(*legs))
    names, blobs = ["".join(own) for own in legs], []
    for column, _ in diagram.blobs:
        own = ""
        for v, lines in enumerate(column):
            for _ in range(lines):
                letter = next(letters)
                own += letter
                names[v] += letter
        blobs.append(own)
    return f"{','.join([*names, *blobs])}->{output}"


def _matchings(items: list[int]):
    if not items:
        yield []
        return
    first, rest = items[0], items[1:]
    for i, partner in enumerate(rest):
        for others in _matchings(rest[:i] + rest[i + 1 :]):
            yield [(first, partner), *others]

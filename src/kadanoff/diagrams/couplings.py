r"""What one neuron contributes to a diagram: cumulants of s = C_W σσ and their derivatives.

.. math:: c_{A_1\dots A_m}^{P_1\dots P_r} = \partial_{K_{P_1}}\cdots\partial_{K_{P_r}}
          \langle s_{A_1}\cdots s_{A_m}\rangle_{c,\,K}

A and P run over unordered pairs of inputs. Derivatives with respect to the kernel are averages
against Hermite tensors, so no derivative of the activation is needed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kadanoff.errors import DomainError
from kadanoff.rgflow.single import cumulant_series, normal_nodes

__all__ = ["Couplings", "pairs_of", "set_partitions"]

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
# the Hermite weight of eight lines is still felt this far out
_REACH = 11.0
_CHUNK = 50_000
# smaller reciprocal condition numbers leave nothing of a derivative
_SINGULAR = 1e-11


def pairs_of(N: int) -> list[tuple[int, int]]:
    """Unordered pairs (α ≤ β) of N inputs, the index A of everything below."""
    return [(a, b) for a in range(N) for b in range(a, N)]


class Couplings:
    """Vertices of one layer at kernel K.

    Parameters
    ----------
    act : Activation
    K : Tensor, shape (N, N)
    C_W : float

    Notes
    -----
    One input: panels, for any activation. Several inputs: a lattice that converges geometrically
    for smooth activations; with kinks nested panels up to three inputs and quasi-random points
    beyond, where nothing better than 1e-3 should be expected of derivatives.
    """

    def __init__(self, act: Any, K: Tensor, C_W: float) -> None:
        self.act, self.K, self.C_W = act, K, C_W
        self.pairs = pairs_of(len(K))
        self._moments: dict[tuple[int, int], np.ndarray] = {}
        self._found: dict[tuple[int, int], np.ndarray] = {}

    def tensor(self, m: int, r: int) -> np.ndarray:
        """c with m upper legs and r lines, shape (P,) * (m + r), P = N (N + 1)/2.

        Raises
        ------
        DomainError
            r > 0 and K is singular: repeated or parallel inputs.
        """
        if (m, r) not in self._found:
            if len(self.pairs) == 1:
                self._one_input(m, r)
            else:
                self._found[m, r] = self._cumulant(m, r)
        return self._found[m, r]

    def _one_input(self, m: int, r: int) -> None:
        """All vertices up to m legs and r lines at once: cumulants of Taylor series in K."""
        m, r = max(m, 4), max(r, 4)
        z, w = self._points[0]
        s = self.C_W * self.act(torch.from_numpy(z[:, 0])).numpy() ** 2
        x = z[:, 0] / math.sqrt(float(self.K))
        hermite = [np.ones_like(x), x]
        for j in range(1, 2 * r):
            hermite.append(x * hermite[-1] - j * hermite[-2])
        scale = 2 * float(self.K)
        even = [hermite[2 * q] / (scale**q * math.factorial(q)) for q in range(r + 1)]
        raw = (s ** np.arange(m + 1)[:, None] * w) @ np.stack(even, 1)
        raw[0, 1:] = 0.0  # ⟨1⟩ does not depend on K
        for legs, series in enumerate(cumulant_series(raw), 1):
            for lines, value in enumerate(series):
                shape = (1,) * (legs + lines)
                self._found[legs, lines] = np.full(shape, value * math.factorial(lines))

    def _cumulant(self, m: int, r: int) -> np.ndarray:
        """Moments to cumulants over set partitions of the legs; lines shared by Leibniz' rule."""
        P = len(self.pairs)
        total = np.zeros((P,) * (m + r))
        output = _LETTERS[: m + r]
        for blocks in set_partitions(list(range(m))):
            b = len(blocks)
            front = (-1) ** (b - 1) * math.factorial(b - 1)
            for owner in itertools.product(range(b), repeat=r):
                factors, names = [], []
                for i, block in enumerate(blocks):
                    lines = [m + j for j in range(r) if owner[j] == i]
                    factors.append(self._moment(len(block), len(lines)))
                    names.append("".join(_LETTERS[x] for x in (*block, *lines)))
                total += front * np.einsum(f"{','.join(names)}->{output}", *factors)
        return total

    def _moment(self, m: int, r: int) -> np.ndarray:
        """⟨s_A … H_P …⟩: derivatives of a raw moment, shape (P,) * (m + r)."""
        if (m, r) not in self._moments:
            P = len(self.pairs)
            total = np.zeros((P**m, P**r))
            for z, w in self._points:
                sigma = self.act(torch.from_numpy(z)).numpy()
                s = np.stack([self.C_W * sigma[:, a] * sigma[:, b] for a, b in self.pairs], 1)
                total += (w[:, None] * _powers(s, m)).T @ self._hermite(z, r)
            self._moments[m, r] = total.reshape((P,) * (m + r))
        return self._moments[m, r]

    def _hermite(self, z: np.ndarray, r: int) -> np.ndarray:
        """H with ∂_{P_1} … ∂_{P_r} ⟨F⟩ = ⟨F H⟩, shape (nodes, P**r)."""
        if r == 0:
            return np.ones((len(z), 1))
        y, inverse = z @ self._inverse, self._inverse
        held: dict[tuple[int, ...], np.ndarray] = {(): np.ones(len(z))}

        def tensor(index: tuple[int, ...]) -> np.ndarray:
            if index not in held:
                first, rest = index[0], index[1:]
                value = y[:, first] * tensor(rest)
                for j, other in enumerate(rest):
                    value = value - inverse[first, other] * tensor(rest[:j] + rest[j + 1 :])
                held[index] = value
            return held[index]

        columns = []
        for choice in itertools.product(self.pairs, repeat=r):
            # a diagonal entry of K enters the Gaussian once, an off-diagonal one twice
            half = 0.5 ** sum(a == b for a, b in choice)
            columns.append(half * tensor(tuple(sorted(x for pair in choice for x in pair))))
        return np.stack(columns, 1)

    @cached_property
    def _inverse(self) -> np.ndarray:
        K = self.K.numpy()
        scale = np.sqrt(np.outer(np.diag(K), np.diag(K)))
        spread = np.linalg.eigvalsh(K / scale) if scale.all() else np.zeros(1)
        if spread[0] < _SINGULAR:
            raise DomainError(
                f"The kernel of {len(K)} inputs is singular (smallest eigenvalue of the "
                f"correlations {spread[0]:.1g}): fluctuations cannot be carried on.",
                "Leave out repeated, parallel and zero inputs.",
            )
        return np.linalg.inv(K)

    @cached_property
    def _points(self) -> list[tuple[np.ndarray, np.ndarray]]:
        N = len(self.K)
        if N == 1:
            root = math.sqrt(float(self.K))
            x, w = normal_nodes(float(self.K), self.act.kinks, 2)
            return [(root * x[:, None], w)]
        if self.act.smooth and N <= 4:
            return list(_lattice(self.K.numpy()))
        from kadanoff.gaussian.kinked import panels
        from kadanoff.gaussian.sobol import scrambled

        if N <= 3:
            found = panels(self.K, self.act.kinks, 30 if N == 2 else 18)
        else:
            found = scrambled(self.K, 0)
        return [(z.numpy(), w.numpy()) for z, w in found]


def _lattice(K: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Trapezoidal rule along the eigenvectors of K, step matched to each eigenvalue."""
    values, vectors = np.linalg.eigh(K)
    keep = values > 1e-15 * max(values[-1], 1e-300)
    root = np.sqrt(values[keep])
    # a pole of the activation at distance 1.5 from the real line errs by exp(−2π·1.5/step)
    step = np.minimum(0.45, (0.28 if len(root) < 4 else 0.5) / root)
    axes = [h * np.arange(-math.ceil(_REACH / h), math.ceil(_REACH / h) + 1) for h in step]
    sizes = [len(axis) for axis in axes]
    front = math.prod(step) / (2 * math.pi) ** (len(step) / 2)
    for start in range(0, math.prod(sizes), _CHUNK):
        flat = np.arange(start, min(start + _CHUNK, math.prod(sizes)))
        index = np.unravel_index(flat, sizes)
        x = np.stack([axis[i] for axis, i in zip(axes, index)], 1)
        square = (x * x).sum(1)
        inside = square < _REACH**2
        yield (x[inside] * root) @ vectors[:, keep].T, front * np.exp(-0.5 * square[inside])


def _powers(s: np.ndarray, m: int) -> np.ndarray:
    """Outer powers of each row, shape (nodes, P**m)."""
    out = np.ones((len(s), 1))
    for _ in range(m):
        out = (out[:, :, None] * s[:, None, :]).reshape(len(s), out.shape[1] * s.shape[1])
    return out


def set_partitions(items: list[int]) -> Iterator[list[list[int]]]:
    """All ways to split items into blocks: what turns moments into cumulants."""
    if not items:
        yield []
        return
    first, rest = items[0], items[1:]
    for blocks in set_partitions(rest):
        yield [[first], *blocks]
        for i in range(len(blocks)):
            yield [*blocks[:i], [first, *blocks[i]], *blocks[i + 1 :]]

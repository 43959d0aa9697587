"""One input beyond leading order: moments of the random kernel to any order in 1/n, and exactly.

At one input the metric Ĝ⁽ℓ⁾ is a Markov chain on the positive line: given Ĝ, the next one is
C_b plus the mean of n independent copies of s = C_W σ(z)², z ~ N(0, Ĝ). ``moment_series`` expands
the moments of the chain in 1/n to any order; ``exact_chain`` iterates its transition operator
without expanding anything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from kadanoff.activations import Activation
from kadanoff.architecture import Network
from kadanoff.errors import DomainError, UsageError
from kadanoff.gaussian.single import REACH, gaussian_cuts, panel_nodes, structure_cuts

__all__ = ["ExactChain", "MomentSeries", "exact_chain", "moment_series"]

# a kernel below this cannot be divided by to the power that the series needs
_SILENT = 1e-60


@dataclass(frozen=True)
class MomentSeries:
    """Moments of Δ = Ĝ − K per layer as power series in ε = 1/n.

    Attributes
    ----------
    K : ndarray, shape (L,)
        Infinite-width kernel; entry ℓ − 1 is layer ℓ.
    moments : ndarray, shape (L, 2P + 1, P + 1)
        ``moments[l, m, a]`` is the coefficient of εᵃ in E[Δᵐ].
    n : int
        The width that ε refers to.
    """

    K: np.ndarray
    moments: np.ndarray
    n: int

    @property
    def order(self) -> int:
        """P, the highest power of 1/n kept."""
        return self.moments.shape[2] - 1

    def cumulant_series(self, k: int) -> np.ndarray:
        """Coefficients of εᵃ in the k-th cumulant of Ĝ, shape (L, P + 1).

        The first is that of the mean Ĝ, K included. κ₂ = V/n + …, κ₃ = U6/n² + ….
        """
        if not 1 <= k <= 2 * self.order:
            raise UsageError(f"Cumulants 1 to {2 * self.order} are known at this order, not {k}.")
        series = cumulant_series(np.moveaxis(self.moments, 1, 0)[: k + 1])[-1]
        if k == 1:
            series[:, 0] += self.K
        return series

    def cumulant(self, k: int, n: int | None = None, order: int | None = None) -> np.ndarray:
        """The k-th cumulant of Ĝ at width ``n``, summed to ``order``; shape (L,).

        Parameters
        ----------
        k : int
        n : int, optional
            Width; by default that of the architecture.
        order : int, optional
            Highest power of 1/n; by default all that were computed.
        """
        series = self.cumulant_series(k)
        powers = (1.0 / (n or self.n)) ** np.arange(series.shape[1])
        terms = series * powers
        return terms[:, : (self.order if order is None else order) + 1].sum(1)

    def last_term(self, k: int, n: int | None = None) -> np.ndarray:
        """Size of the highest term kept relative to the sum: the estimate of what is left out."""
        series = self.cumulant_series(k)
        term = series[:, -1] * (1.0 / (n or self.n)) ** self.order
        total = self.cumulant(k, n)
        return np.abs(term) / np.maximum(np.abs(total), 1e-300)


def _multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Product of truncated power series along the last axis."""
    out = np.zeros(np.broadcast_shapes(a.shape, b.shape))
    for i in range(a.shape[-1]):
        out[..., i:] += a[..., i : i + 1] * b[..., : b.shape[-1] - i]
    return out


def _check(arch: Network) -> None:
    if arch.residual or arch.block != "single" or arch.init != "gaussian":
        raise UsageError(
            "The one-input chain covers fully connected networks with Gaussian weights.",
            "Use flow(order=1) or ensemble() for skip connections and other initialisations.",
        )


def _start(arch: Network, x: Any) -> float:
    X = arch.inputs(x)
    if len(X) != 1:
        raise UsageError(f"One input is wanted here, got {len(X)}.", "Pass X[:1].")
    return arch.C_b[0] + arch.C_W[0] * float(arch.metric(X)[0, 0])


def normal_nodes(
    K: float, kinks: tuple[float, ...], halvings: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Standard-normal nodes and weights fit for a function of √K x."""
    root = math.sqrt(K)
    bell = gaussian_cuts()
    cuts = structure_cuts(REACH * root, kinks) / root if root > 0 else bell
    edges = torch.cat([cuts.clamp(-REACH, REACH), bell]).sort().values
    x, w = panel_nodes(edges, 20, halvings)
    return x.numpy(), w.numpy()


def _taylor_of_moments(act: Activation, K: float, C_W: float, P: int) -> np.ndarray:
    """Coefficients t[j, r] of ⟨sʲ⟩_{K+Δ} = Σ_r t[j, r] Δʳ, s = C_W σ²; j, r = 0 … 2P.

    ∂ʳ/∂Kʳ ⟨f(√K x)⟩ = ⟨f(√K x) He_{2r}(x)⟩/(2K)ʳ: no derivative of σ is needed.
    """
    if K < _SILENT:
        raise DomainError(
            f"The kernel has fallen to {K:g}: no signal is left to expand around.",
            "Raise C_W or C_b, or look at fewer layers.",
        )
    x, w = normal_nodes(K, act.kinks)
    s = C_W * act(torch.from_numpy(math.sqrt(K) * x)).numpy() ** 2
    hermite = [np.ones_like(x), x]
    for m in range(1, 4 * P):
        hermite.append(x * hermite[-1] - m * hermite[-2])
    even = np.stack([hermite[2 * r] / ((2 * K) ** r * math.factorial(r)) for r in range(2 * P + 1)])
    powers = s[None] ** np.arange(2 * P + 1)[:, None]
    table = (powers * w) @ even.T
    # ⟨1⟩ does not depend on the kernel; its coefficients are rounding
    table[0] = 0.0
    table[0, 0] = 1.0
    return table


def cumulant_series(raw: np.ndarray) -> list[np.ndarray]:
    """Cumulants c_j(Δ), j = 1 …, of raw moments given as power series in Δ."""
    found: list[np.ndarray] = []
    for j in range(1, len(raw)):
        value = raw[j].copy()
        for i in range(1, j):
            value -= math.comb(j - 1, i - 1) * _multiply(found[i - 1], raw[j - i])
        found.append(value)
    return found


def moment_series(arch: Network, x: Any, order: int = 3) -> MomentSeries:
    """Moments of the metric at one input, to any order in 1/n.

    Parameters
    ----------
    arch : MLP
        Unequal widths and any activation; ε refers to the first hidden width.
    x : array, shape (1, n_0) or (n_0,)
    order : int
        P ≥ 1, the highest power of 1/n.

    Returns
    -------
    MomentSeries

    Raises
    ------
    UsageError
        Skip connections, non-Gaussian weights, several inputs, or order < 1.
    DomainError
        The kernel falls to zero on the way.

    Notes
    -----
    Conditional on Ĝ⁽ℓ⁾ = K + Δ the cumulants of Ĝ⁽ℓ⁺¹⁾ − K' are c₁(K+Δ) − c₁(K) and
    n_ℓ^{1−j} c_j(K+Δ), with c_j the cumulants of s = C_W σ². Banta, Cai, Craig & Zhang (2023) and
    Roberts, Yaida & Hanin (2022) give the leading terms. The series is asymptotic: compare
    ``last_term``.
    """
    _check(arch)
    if order < 1:
        raise UsageError(f"order must be at least 1, got {order}.")
    P = int(order)
    K = _start(arch, x)
    n_ref = arch.n[1]
    M = np.zeros((2 * P + 1, P + 1))
    M[0, 0] = 1.0
    kernels, moments = [K], [M]
    for layer, act in enumerate(arch.activations, 1):
        c = cumulant_series(_taylor_of_moments(act, K, arch.C_W[layer], P))
        K_next = arch.C_b[layer] + c[0][0]
        # polynomials in ε (axis 0) and Δ (axis 1)
        k = np.zeros((2 * P + 1, P + 1, 2 * P + 1))
        k[1, 0] = c[0]
        k[1, 0, 0] = 0.0
        for j in range(2, min(2 * P, P + 1) + 1):
            k[j, j - 1] = c[j - 1] * (n_ref / arch.n[layer]) ** (j - 1)
        M = _push(k, M, P)
        K = K_next
        kernels.append(K)
        moments.append(M)
    return MomentSeries(np.array(kernels), np.stack(moments), n_ref)


def _push(k: np.ndarray, M: np.ndarray, P: int) -> np.ndarray:
    """Moments of the next layer from conditional cumulants ``k`` and moments ``M`` of this one."""
    conditional = np.zeros_like(k)
    conditional[0, 0, 0] = 1.0
    for m in range(1, 2 * P + 1):
        for i in range(1, m + 1):
            conditional[m] += math.comb(m - 1, i - 1) * _multiply_two(k[i], conditional[m - i])
    out = np.zeros_like(M)
    for m in range(2 * P + 1):
        for a in range(P + 1):
            out[m, a:] += np.einsum("r,rb->b", conditional[m, a], M[:, : P + 1 - a])
    return out


def _multiply_two(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    out = np.zeros_like(a)
    for i in range(a.shape[0]):
        if a[i].any():
            out[i:] += _multiply(a[i], b[: b.shape[0] - i])
    return out


@dataclass(frozen=True)
class ExactChain:
    """The law of the metric at one input and finite width, per layer.

    Attributes
    ----------
    cumulants : ndarray, shape (L, 4)
        κ₁ … κ₄ of Ĝ⁽ℓ⁾.
    error : ndarray, shape (L, 4)
        Difference to the same computation on a grid half as fine.
    grid : ndarray, shape (M,)
    density : ndarray, shape (L, M)
        Of Ĝ⁽ℓ⁾ on the grid; layer 1, which is not random, is zero everywhere.
    """

    cumulants: np.ndarray
    error: np.ndarray
    grid: np.ndarray
    density: np.ndarray


def exact_chain(arch: Network, x: Any, *, grid: int = 4096, nodes: int = 160) -> ExactChain:
    """Iterate the exact transition operator of the one-input chain: nothing is expanded in 1/n.

    Parameters
    ----------
    arch : MLP
        With a bounded activation (tanh, erf, sin, …) and equal C_b, C_W after the first layer.
    x : array, shape (1, n_0) or (n_0,)
    grid, nodes : int
        Points of the density, and Chebyshev nodes in √(Ĝ − C_b) for the conditioning kernel.

    Raises
    ------
    UsageError
        An unbounded activation; layers that differ.

    Notes
    -----
    The characteristic function of s to the power n, Fourier-transformed, is the density of the
    mean of n copies. Accuracy falls where Ĝ piles up at C_b (small n, C_b = 0, many layers);
    ``error`` shows it.
    """
    _check(arch)
    K = _start(arch, x)
    if len(set(arch.activations)) > 1 or len(set(arch.C_b[1:])) > 1 or len(set(arch.C_W[1:])) > 1:
        raise UsageError("exact_chain wants one activation and equal C_b, C_W in layers 2 … L.")
    if arch.L < 2:
        raise UsageError("The network has no hidden layer, so its metric is not random.")
    act = arch.activations[0]
    far = act(torch.tensor([-1e6, -1e3, 1e3, 1e6], dtype=torch.float64)).abs()
    wide = act(torch.linspace(-60, 60, 200_001, dtype=torch.float64)).abs().max()
    if float(far.max()) > 1.5 * float(wide) or not math.isfinite(float(wide)):
        raise UsageError(
            f"The activation {act.name} is unbounded; its kernel has no largest value.",
            "For scale-invariant activations the moments are exact products; else use "
            "moment_series or ensemble.",
        )
    fine = _chain(arch, K, act, float(wide), grid, nodes)
    coarse = _chain(arch, K, act, float(wide), grid // 2, (3 * nodes) // 4)
    return ExactChain(fine[0], np.abs(fine[0] - coarse[0]), fine[1], fine[2])


def _chain(arch: Network, K: float, act: Activation, bound: float, M: int, nodes: int):
    C_b, C_W = arch.C_b[1], arch.C_W[1]
    span = C_W * bound**2 * (1 + 1e-9)
    points = C_b + span * np.arange(M) / M
    # Chebyshev nodes of the second kind in u = √(G − C_b), over all kernels that occur
    top = math.sqrt(max(span, K - C_b))
    u = top * (1 - np.cos(np.pi * np.arange(nodes) / (nodes - 1))) / 2
    interpolate = _barycentric(u)
    at_points = interpolate(np.sqrt(np.maximum(points - C_b, 0)))
    a = interpolate(np.array([math.sqrt(max(K - C_b, 0.0))]))[0]
    tables: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    cumulants, densities = [np.array([K, 0.0, 0.0, 0.0])], [np.zeros(M)]
    for layer in range(1, arch.L):
        n = arch.n[layer]
        if n not in tables:
            tables[n] = _transition(act, C_b, C_W, C_b + u**2, n, span, M)
        density, raw = tables[n]
        mean = a @ raw  # E[(G' − C_b)^m], m = 1 … 4
        cumulants.append(_to_cumulants(mean, C_b))
        p = a @ density
        densities.append(p)
        a = (p * span / M) @ at_points
    return np.stack(cumulants), points, np.stack(densities)


def _transition(act, C_b: float, C_W: float, kernels: np.ndarray, n: int, span: float, M: int):
    """Density of Ĝ' on the grid, and its first four moments about C_b, for each kernel."""
    frequency = 2 * np.pi * np.arange(M // 2 + 1) / span
    density, raw = np.empty((len(kernels), M)), np.empty((len(kernels), 4))
    for i, K in enumerate(kernels):
        x, w = normal_nodes(max(K, 1e-300), act.kinks, 0)
        s = C_W * act(torch.from_numpy(math.sqrt(K) * x)).numpy() ** 2
        phase = np.exp(1j * np.outer(frequency / n, s))
        psi = (phase @ w) ** n
        density[i] = np.fft.irfft(np.conj(psi), M) * M / span
        c = cumulant_series((s[None] ** np.arange(5)[:, None] @ w)[:, None])
        k = [float(cumulant[0]) / n**j for j, cumulant in enumerate(c)]
        m = [1.0]
        for order in range(1, 5):
            m.append(sum(math.comb(order - 1, j) * k[j] * m[order - 1 - j] for j in range(order)))
        raw[i] = m[1:]
    return density, raw


def _to_cumulants(raw: np.ndarray, shift: float) -> np.ndarray:
    kappa = np.array([float(c[0]) for c in cumulant_series(np.array([1.0, *raw])[:, None])])
    kappa[0] += shift
    return kappa


def _barycentric(nodes: np.ndarray):
    """Matrix of Lagrange polynomials on Chebyshev nodes of the second kind."""
    weights = (-1.0) ** np.arange(len(nodes))
    weights[[0, -1]] /= 2

    def at(points: np.ndarray) -> np.ndarray:
        gap = points[:, None] - nodes
        hit = np.abs(gap) < 1e-14 * (nodes[-1] + 1)
        terms = weights / np.where(hit, 1.0, gap)
        matrix = terms / terms.sum(1, keepdims=True)
        rows = hit.any(1)
        matrix[rows] = hit[rows].astype(float)
        return matrix

    return at

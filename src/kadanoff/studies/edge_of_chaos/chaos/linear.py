r"""The linear recurrent network with loops: closed forms to order 1/N.

.. math:: \dot h = -\gamma h + W h + \eta, \qquad \langle W_{ij}^2\rangle = \sigma_w^2/N,
          \qquad \langle\eta\eta\rangle = D\,\delta(t - t').

The averaged correlator is (D/N) E tr[(z−W)⁻¹(z̄−Wᵀ)⁻¹] with z = γ + iω. In the O(N) language
σ_w² is the 't Hooft coupling: all planar diagrams give the infinite-N answer, one crosscap on the
index surface the next order. C_W is σ_w² throughout.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from kadanoff.errors import DomainError

__all__ = ["LinearNetwork", "trace_power", "trace_power_montecarlo"]


@dataclass(frozen=True)
class LinearNetwork:
    """Correlator, response and correlation length of the noise-driven linear network.

    Parameters
    ----------
    C_W : float
        σ_w² < γ²: beyond, every mode is unstable.
    gamma : float
        Leak.
    D : float
        Strength of the white noise.

    Raises
    ------
    DomainError

    Notes
    -----
    Grosvenor & Jefferson (2021) define the loop-corrected correlation length; the closed forms
    here are derived for this library, and the printed O(T/N) formula has not been compared.
    """

    C_W: float
    gamma: float = 1.0
    D: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.C_W < self.gamma**2 or not self.D > 0:
            raise DomainError(
                f"The linear network needs 0 <= C_W < gamma^2 = {self.gamma**2:g} and D > 0, got "
                f"C_W = {self.C_W:g}, D = {self.D:g}.",
                "At and beyond the edge its activity grows without bound.",
            )

    @property
    def mass(self) -> float:
        """m = √(γ² − σ_w²), the inverse correlation time at infinite N."""
        return math.sqrt(self.gamma**2 - self.C_W)

    def correlator(self, omega, N: float = math.inf) -> np.ndarray:
        """C(ω) = C⁽⁰⁾ + C⁽¹⁾/N; ``omega`` of any shape.

        C⁽⁰⁾ = D/(ω² + m²); C⁽¹⁾ = D |z|²/(|z|² − σ_w²)² · 2 Re[σ_w²/(z² − σ_w²)].
        """
        omega = np.asarray(omega, dtype=float)
        z2 = (self.gamma + 1j * omega) ** 2
        size = np.abs(z2)
        leading = self.D / (omega**2 + self.mass**2)
        loop = size / (size - self.C_W) ** 2 * 2 * (self.C_W / (z2 - self.C_W)).real
        return leading + self.D * loop / N

    def response(self, omega, N: float = math.inf) -> np.ndarray:
        """E (1/N) tr (z − W)⁻¹ = 1/z + σ_w²/(N z (z² − σ_w²)), complex."""
        z = self.gamma + 1j * np.asarray(omega, dtype=float)
        return 1 / z + self.C_W / (z * (z * z - self.C_W)) / N

    def correlation_time(self, N: float = math.inf) -> float:
        """ξ_N = 1/√(γ² − σ_w² (1 − 1/N)), from the pole next to iω = m moved by the loop.

        It describes the decay at times t with N e^{−(m − γ + σ_w) t} large; later, the real
        eigenvalues at the edge of the spectrum take over, with the time ``late_time``.
        """
        return 1 / math.sqrt(self.gamma**2 - self.C_W * (1 - 1 / N))

    @property
    def late_time(self) -> float:
        """1/(γ − σ_w): decay of the averaged correlator at the very latest times, N finite."""
        return 1 / (self.gamma - math.sqrt(self.C_W))

    def montecarlo(
        self, omega, N: int, n_matrices: int = 1000, *, seed: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """C(ω) averaged over drawn matrices, with its standard error.

        Matrices with an unstable mode are averaged as they are: their resolvent at real ω exists.
        """
        omega = np.atleast_1d(np.asarray(omega, dtype=float))
        z = torch.from_numpy(self.gamma + 1j * omega)
        eye = torch.eye(N, dtype=torch.complex128)
        generator = torch.Generator().manual_seed(seed)
        found = torch.empty(n_matrices, len(omega), dtype=torch.float64)
        for i in range(n_matrices):
            W = torch.randn(N, N, generator=generator, dtype=torch.float64) * (self.C_W / N) ** 0.5
            inverse = torch.linalg.inv(z[:, None, None] * eye - W)
            found[i] = self.D / N * inverse.abs().square().sum((1, 2))
        return found.mean(0).numpy(), (found.std(0) / math.sqrt(n_matrices)).numpy()


def trace_power(t: int, s: int, C_W: float, N: float = math.inf) -> float:
    """E (1/N) tr W^t (Wᵀ)^s to order 1/N: the building block of every loop.

    σ_w^{t+s} [δ_ts + (min(t, s) + 1)/N if t ≠ s and t − s is even].
    """
    if t < 0 or s < 0:
        raise DomainError(f"Powers must be >= 0, got t = {t}, s = {s}.")
    if t == s:
        return float(C_W**t)
    return C_W ** ((t + s) / 2) * (min(t, s) + 1) / N if (t - s) % 2 == 0 else 0.0


def trace_power_montecarlo(
    pairs: list[tuple[int, int]], C_W: float, N: int, n_matrices: int = 1000, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """E (1/N) tr W^t (Wᵀ)^s over drawn matrices for each (t, s), with standard errors."""
    generator = torch.Generator().manual_seed(seed)
    top = max(max(pair) for pair in pairs)
    found = torch.empty(n_matrices, len(pairs), dtype=torch.float64)
    for i in range(n_matrices):
        W = torch.randn(N, N, generator=generator, dtype=torch.float64) * (C_W / N) ** 0.5
        powers = [torch.eye(N, dtype=torch.float64)]
        for _ in range(top):
            powers.append(powers[-1] @ W)
        for j, (t, s) in enumerate(pairs):
            found[i, j] = (powers[t] * powers[s]).sum() / N
    return found.mean(0).numpy(), (found.std(0) / math.sqrt(n_matrices)).numpy()

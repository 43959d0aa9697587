"""Eigenbases of the second difference on a line, for three kinds of wall.

A line of M nodes carries −∂² = (−1, 2, −1) with, at its ends, an absorbing ghost node
(``"dirichlet"``: sines), a mirrored one (``"neumann"``: cosines) or the other end
(``"periodic"``: Fourier modes). Each basis comes as an orthonormal matrix and as a fast transform.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kadanoff.errors import UsageError

__all__ = ["WALLS", "SecondDifference"]

WALLS = ("dirichlet", "neumann", "periodic")


@dataclass(frozen=True)
class SecondDifference:
    """The second difference on M nodes between two walls of one kind.

    Parameters
    ----------
    size : int
        Nodes M ≥ 2.
    wall : {"dirichlet", "neumann", "periodic"}
    """

    size: int
    wall: str

    def __post_init__(self) -> None:
        if self.wall not in WALLS:
            raise UsageError(
                f"Unknown wall {self.wall!r}.", f"Choose from {', '.join(WALLS)} (one per axis)."
            )
        if self.size < 2:
            raise UsageError(f"A lattice needs at least 2 nodes a side, got {self.size}.")

    def eigenvalues(self) -> Tensor:
        """Eigenvalues of −∂², shape (M,), float64, in the order of both transforms."""
        M, k = self.size, torch.arange(self.size, dtype=torch.float64)
        if self.wall == "dirichlet":
            return 4 * torch.sin(math.pi * (k + 1) / (2 * (M + 1))) ** 2
        if self.wall == "neumann":
            return 4 * torch.sin(math.pi * k / (2 * M)) ** 2
        return 4 * torch.sin(math.pi * k / M) ** 2

    def basis(self) -> Tensor:
        """Orthonormal eigenvectors in columns, shape (M, M), float64."""
        M = self.size
        i = torch.arange(M, dtype=torch.float64)[:, None]
        k = torch.arange(M, dtype=torch.float64)[None, :]
        if self.wall == "dirichlet":
            return math.sqrt(2 / (M + 1)) * torch.sin(math.pi * (i + 1) * (k + 1) / (M + 1))
        if self.wall == "neumann":
            modes = math.sqrt(2 / M) * torch.cos(math.pi * k * (i + 0.5) / M)
            modes[:, 0] /= math.sqrt(2)
            return modes
        # cosine for k <= M/2 and sine of the mirrored frequency above: both have λ_k = λ_(M−k)
        phase = 2 * math.pi * i * k / M
        modes = math.sqrt(2 / M) * torch.where(k <= M / 2, torch.cos(phase), torch.sin(phase))
        modes[:, 0] /= math.sqrt(2)
        if M % 2 == 0:
            modes[:, M // 2] /= math.sqrt(2)
        return modes

    def forward(self, x: Tensor) -> Tensor:
        """Coefficients of x along its last axis, by a fast transform; complex if periodic."""
        M = self.size
        if self.wall == "dirichlet":
            edge = torch.zeros_like(x[..., :1])
            odd = torch.cat((edge, x, edge, -x.flip(-1)), dim=-1)
            return -torch.fft.rfft(odd).imag[..., 1 : M + 1] / math.sqrt(2 * (M + 1))
        if self.wall == "neumann":
            waves = torch.fft.rfft(torch.cat((x, x.flip(-1)), dim=-1))[..., :M]
            return (waves * self._twist(x).conj()).real * self._norm(x) / 2
        return torch.fft.fft(x, norm="ortho")

    def inverse(self, c: Tensor) -> Tensor:
        """The function with coefficients c along the last axis (complex if periodic)."""
        M = self.size
        if self.wall == "dirichlet":
            return self.forward(c)
        if self.wall == "neumann":
            waves = 2 * self._twist(c) * (c / self._norm(c))
            return torch.fft.irfft(waves, n=2 * M)[..., :M]
        return torch.fft.ifft(c, norm="ortho")

    def _twist(self, x: Tensor) -> Tensor:
        k = torch.arange(self.size, dtype=x.dtype, device=x.device)
        return torch.polar(torch.ones_like(k), math.pi * k / (2 * self.size))

    def _norm(self, x: Tensor) -> Tensor:
        norm = torch.full((self.size,), math.sqrt(2 / self.size), dtype=x.dtype, device=x.device)
        norm[0] = math.sqrt(1 / self.size)
        return norm

"""The phase diagram in (σ_w, σ_b) = (√C_W, √C_b): ordered, chaotic, and the line between."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from kadanoff.activations import activation
from kadanoff.critical.depth import depth_scales
from kadanoff.critical.susceptibility import square_mean, squared_slope
from kadanoff.errors import UsageError

__all__ = ["PhaseDiagram", "critical_line", "phase_diagram"]


@dataclass(frozen=True)
class PhaseDiagram:
    """A scan over σ_w and σ_b.

    Attributes
    ----------
    activation : str
    sigma_w, sigma_b : ndarray
        The axes.
    K_star, chi_parallel, chi_perp, c_star, xi_angle : ndarray, shape (len(sigma_b), len(sigma_w))
    line : ndarray, shape (M, 2)
        Points (σ_w, σ_b) with χ⊥ = 1: the line of criticality.
    """

    activation: str
    sigma_w: np.ndarray
    sigma_b: np.ndarray
    K_star: np.ndarray
    chi_parallel: np.ndarray
    chi_perp: np.ndarray
    c_star: np.ndarray
    xi_angle: np.ndarray
    line: np.ndarray

    def figure(self):
        """A matplotlib figure: ln χ⊥ in colour, the line of criticality on top."""
        from matplotlib.figure import Figure

        fig = Figure(figsize=(5.2, 4.0), layout="constrained")
        axes = fig.add_subplot()
        level = np.log(np.clip(self.chi_perp, 1e-3, 1e3))
        top = float(np.abs(level[np.isfinite(level)]).max(initial=0.1))
        mesh = axes.pcolormesh(
            self.sigma_w, self.sigma_b, level, cmap="RdBu_r", vmin=-top, vmax=top, shading="nearest"
        )
        fig.colorbar(mesh, label="ln χ⊥  (blue: ordered, red: chaotic)")
        if len(self.line) == 1:
            axes.plot(*self.line[0], "k*", markersize=12, label="critical point")
            axes.legend()
        elif len(self.line):
            axes.plot(self.line[:, 0], self.line[:, 1], "k-", lw=2, label="χ⊥ = 1")
            axes.legend()
        axes.set(
            xlabel="σ_w = √C_W (weights)",
            ylabel="σ_b = √C_b (biases)",
            title=f"Phases of {self.activation}",
            xlim=(self.sigma_w[0], self.sigma_w[-1]),
            ylim=(self.sigma_b[0], self.sigma_b[-1]),
        )
        return fig


def critical_line(spec: Any, K: Sequence[float] | None = None) -> np.ndarray:
    """Points (σ_w², σ_b²) of the line χ⊥ = 1, parametrised by the kernel: no root is searched.

    σ_w²(K) = 1/⟨σ'²⟩_K, σ_b²(K) = K − σ_w² ⟨σ²⟩_K, kept where σ_b² ≥ 0. A scale-invariant
    activation has the single point (1/A₂, 0).

    Parameters
    ----------
    spec : name, callable, torch module or Activation
    K : sequence of float, optional
        Kernels along the line; default 1e-6 … 1e3.

    Returns
    -------
    ndarray, shape (M, 2)
    """
    act = activation(spec)
    if act.slopes is not None:
        A2 = (act.slopes[0] ** 2 + act.slopes[1] ** 2) / 2
        return np.array([[1 / A2, 0.0]]) if A2 else np.empty((0, 2))
    grid = torch.as_tensor(np.geomspace(1e-6, 1e3, 91) if K is None else K, dtype=torch.float64)
    C_W = 1 / squared_slope(act, grid)
    C_b = grid - C_W * square_mean(act, grid)
    keep = (C_b >= -1e-12 * grid) & torch.isfinite(C_W)
    return torch.stack([C_W, C_b.clamp_min(0)], 1)[keep].numpy()


def phase_diagram(
    spec: Any,
    sigma_w: Sequence[float] | None = None,
    sigma_b: Sequence[float] | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> PhaseDiagram:
    """Scan (σ_w, σ_b) and draw the line of criticality.

    Parameters
    ----------
    spec : name, callable, torch module or Activation
    sigma_w, sigma_b : increasing sequences of float, optional
        Default 0.5 … 3 and 0 … 1, 21 × 13 points.
    progress : callable, optional
        Called with (done, total).

    Raises
    ------
    UsageError
        An axis is empty or negative.
    """
    act = activation(spec)
    w = np.linspace(0.5, 3.0, 21) if sigma_w is None else np.asarray(sigma_w, dtype=float)
    b = np.linspace(0.0, 1.0, 13) if sigma_b is None else np.asarray(sigma_b, dtype=float)
    for name, axis in (("sigma_w", w), ("sigma_b", b)):
        if axis.ndim != 1 or not len(axis) or not np.all(np.isfinite(axis)) or axis.min() < 0:
            raise UsageError(f"{name} must be a non-empty list of finite numbers >= 0.")
    out = np.empty((5, len(b), len(w)))
    for i, sb in enumerate(b):
        for j, sw in enumerate(w):
            s = depth_scales(act, float(sb) ** 2, float(sw) ** 2)
            out[:, i, j] = s.K_star, s.chi_parallel, s.chi_perp, s.c_star, s.xi_angle
            if progress:
                progress(i * len(w) + j + 1, len(b) * len(w))
    line = np.sqrt(critical_line(act))
    return PhaseDiagram(act.name, w, b, *out, line=line)

"""Two nearby inputs in finite networks, by simulation of their exact law: no weights are drawn.

Given layer ℓ, the neurons (z_j, δz_j) of a signal and its infinitesimal difference are
independent Gaussian pairs with covariance (G, G01; G01, G11), and

    G' = C_b + (C_W/n) Σ σ²,   G01' = (C_W/n) Σ σσ' δz,   G11' = (C_W/n) Σ σ'² δz²,

so a network is three numbers a layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from kadanoff.activations import activation
from kadanoff.critical import fixed_point
from kadanoff.errors import AnalysisError, UsageError

__all__ = ["TangentGrowth", "tangent_growth"]

_BINS = 64
_PIECE = 250_000  # normals held at once


@dataclass(frozen=True)
class TangentGrowth:
    """Growth of |δz|² over the layers of random networks, in ``bins`` independent groups.

    Attributes
    ----------
    n : int
        Width.
    log_mean : ndarray, shape (L + 1, bins)
        ln E|δz|² of the networks of a bin; entry 0 is the start, 0.
    mean_log : ndarray, shape (L + 1, bins)
        E ln|δz|².
    """

    n: int
    log_mean: np.ndarray
    mean_log: np.ndarray

    def annealed(self, first: int, last: int | None = None) -> tuple[float, float]:
        """Eigenvalue λ⊥(n) from layers ``first`` … ``last``: (E|δz|² ratio)^(1/layers), stderr."""
        first, last = self._window(first, last)
        top = self.log_mean.max()
        level = np.exp(self.log_mean - top)
        total = level.sum(1)
        value = (total[last] / total[first]) ** (1 / (last - first))
        # jackknife: the ratio of averages is no average of ratios
        rest = total[:, None] - level
        left = (rest[last] / rest[first]) ** (1 / (last - first))
        bins = left.shape[0]
        return float(value), float(math.sqrt((bins - 1) * left.var()))

    def typical(self, first: int, last: int | None = None) -> tuple[float, float]:
        """(1/ℓ) E ln|δz|² between layers ``first`` and ``last``, with its standard error."""
        first, last = self._window(first, last)
        rate = (self.mean_log[last] - self.mean_log[first]) / (last - first)
        return float(rate.mean()), float(rate.std(ddof=1) / math.sqrt(len(rate)))

    def _window(self, first: int, last: int | None) -> tuple[int, int]:
        depth = len(self.log_mean) - 1
        last = depth if last is None else last
        if not 0 <= first < last <= depth:
            raise UsageError(
                f"Layers must satisfy 0 <= first < last <= {depth}, got {first}, {last}."
            )
        return first, last


def tangent_growth(
    spec: Any,
    C_b: float,
    C_W: float,
    n: int,
    layers: int,
    n_networks: int = 100_000,
    *,
    seed: int = 0,
    device: str = "cpu",
    progress: Callable[..., None] | None = None,
) -> TangentGrowth:
    """How the difference of two nearly equal inputs grows in random networks of width n.

    Parameters
    ----------
    spec : name, callable, torch module or Activation
    C_b, C_W : float
    n : int
        Width of every layer.
    layers : int
    n_networks : int
        Rounded up to a multiple of 64.
    device : str
    progress : callable, optional
        ``progress(done, total)`` after every bin.

    Returns
    -------
    TangentGrowth

    Raises
    ------
    UsageError
        n, layers or n_networks < 1.
    AnalysisError
        The signal dies or explodes at infinite width.

    Notes
    -----
    Starts at the infinite-width fixed point with δz orthogonal to z; leave out the first layers,
    where the memory of that start fades over ξ_q.
    """
    act = activation(spec)
    for name, value in (("n", n), ("layers", layers), ("n_networks", n_networks)):
        if int(value) != value or value < 1:
            raise UsageError(f"{name} must be a whole number >= 1, got {value!r}.")
    K = fixed_point(act, C_b, C_W)
    if not 0 < K < math.inf:
        raise AnalysisError(
            f"At C_b = {C_b:g}, C_W = {C_W:g} the signal of {act.name} "
            f"{'dies' if K == 0 else 'explodes'}: there is no stationary law to start from."
        )
    d1 = act.derivative(1)
    per_bin = -(-n_networks // _BINS)
    piece = max(1, _PIECE // n)
    log_mean = np.zeros((layers + 1, _BINS))
    mean_log = np.zeros((layers + 1, _BINS))
    for b in range(_BINS):
        generator = torch.Generator(device).manual_seed(seed * _BINS + b)
        logs = []
        for start in range(0, per_bin, piece):
            S = min(piece, per_bin - start)
            logs.append(_chain(act, d1, C_b, C_W, K, n, layers, S, generator, device))
        log = torch.cat(logs, 1)
        log_mean[1:, b] = (log.logsumexp(1) - math.log(per_bin)).cpu().numpy()
        mean_log[1:, b] = log.mean(1).cpu().numpy()
        if progress:
            progress(b + 1, _BINS)
    return TangentGrowth(n, log_mean, mean_log)


def _chain(act, d1, C_b, C_W, K, n, layers, S, generator, device) -> torch.Tensor:
    """ln|δz|² of S networks after each layer, shape (layers, S)."""
    double: dict[str, Any] = {"dtype": torch.float64, "device": device}
    G = torch.full((S, 1), K, **double)
    mixed, size, log = torch.zeros_like(G), torch.ones_like(G), torch.zeros_like(G)
    out = torch.empty(layers, S, **double)
    for layer in range(layers):
        u = torch.randn(S, n, generator=generator, **double)
        v = torch.randn(S, n, generator=generator, **double)
        z = G.sqrt() * u
        delta = (mixed / G) * z + (size - mixed**2 / G).clamp_min(0).sqrt() * v
        s, moved = act(z), d1(z) * delta
        G = C_b + C_W * (s * s).mean(1, keepdim=True)
        mixed = C_W * (s * moved).mean(1, keepdim=True)
        size = C_W * (moved * moved).mean(1, keepdim=True)
        # only the direction and the sum of the logarithms are kept: nothing over- or underflows
        log = log + size.log()
        mixed, size = mixed / size.sqrt(), torch.ones_like(size)
        out[layer] = log[:, 0]
    return out

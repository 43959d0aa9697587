"""Silent, saturated and zero values of activations."""

from __future__ import annotations

import torch
from torch import Tensor

from kadanoff.trace.statistics import Units, thin

__all__ = ["BOUNDED", "SILENT", "count_units"]

# bounded activations: where is the plateau, from the output a (|σ'| < 0.05 there)
BOUNDED = {
    "tanh": lambda a: 1 - a * a < 0.05,
    "sigmoid": lambda a: a * (1 - a) < 0.0125,  # a quarter of it, as σ' ≤ 1/4
    "hardtanh": lambda a: a.abs() >= a.abs().max().clamp_min(1e-30) * (1 - 1e-6),
    "hardsigmoid": lambda a: (a <= 0) | (a >= 1),
    "softsign": lambda a: (1 - a.abs()) ** 2 < 0.05,
}
# activations with a half-line on which they are silent
SILENT = {"relu", "relu6", "gelu", "silu", "mish", "hardswish", "threshold", "prelu", "rrelu"}
NEAR = 0.01  # near-zero: below this fraction of the layer's root mean square


def count_units(op: str, a: Tensor, z: Tensor | None = None, channel: int = -1) -> Units:
    """Count zeros, near-zeros, saturated values and dead units of an activation's output.

    Parameters
    ----------
    op : str
        Canonical name of the activation.
    a : Tensor
        Its output.
    z : Tensor, optional
        Its input, where the plateau cannot be read off the output (erf).
    channel : int
        1: units are channels, dead if silent at every position of every sample.
    """
    with torch.no_grad():
        a = thin(a.detach(), channel)
        size = a.abs()
        rms = a.float().pow(2).mean().sqrt().to(a.dtype)
        samples = a.shape[0]

        def fraction(mask: Tensor) -> Tensor:
            return mask.reshape(samples, -1).to(torch.float32).mean(-1)

        zeros = fraction(a == 0)
        near = fraction(size <= NEAR * rms)
        if op in BOUNDED:
            plateau = fraction(BOUNDED[op](a))
        elif op == "erf" and z is not None:
            z = thin(z, channel)
            plateau = fraction(torch.exp(-z * z) < 0.05)
        else:
            plateau = torch.zeros_like(zeros)
        axis = channel if a.ndim > 1 else -1
        n_units = a.shape[axis]
        if op in SILENT:
            # exactly silent, or within the tail where derivative and value are both tiny
            silent = size <= (0 if op in ("relu", "relu6", "threshold") else 1e-3 * rms)
            dead = silent.movedim(axis, 0).reshape(n_units, -1).all(-1).to(torch.float32).mean()
        else:
            dead = torch.full((), torch.nan, device=a.device)
        return Units(zeros, near, plateau, dead, n_units)

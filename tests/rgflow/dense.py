"""Order 1/n of one or two inputs by a plain square grid, independent of the library's averages.

The step of the grid is far below what the functions need. Kernel and NTK come from it too; only the
recursions are the library's.
"""

from __future__ import annotations

import math

import torch

import kadanoff as kd
from kadanoff.rgflow import averages as tb
from kadanoff.rgflow.differential import Differential, differential_step
from kadanoff.rgflow.kernel import first_layer, next_layer, steps
from kadanoff.rgflow.tangent import Tangent, tangent_step

TANGENT = ("G1", "H1", "V", "D", "A", "B", "F")
DIFFERENTIAL = ("P", "Q", "R", "S", "T", "U")
REACH = 9.5
STEP = 0.24  # of z, where tanh and its kin err by exp(-40)


def grid_tables(act: kd.Activation, K: torch.Tensor, spacing: float = STEP) -> tb.Tables:
    """All averages of one or two inputs by the trapezoidal rule in the plane."""
    std = float(K.diagonal().max().sqrt())
    count = max(40, round(REACH * std / spacing))
    x = torch.linspace(-REACH, REACH, 2 * count + 1, dtype=torch.float64)
    w = torch.exp(-0.5 * x * x) * float(x[1] - x[0]) / math.sqrt(2 * math.pi)
    if len(K) == 1:
        z, weight = x[:, None] * K[0, 0].sqrt(), w
    else:
        first = K[0, 0].sqrt()
        slope = K[0, 1] / first
        rest = (K[1, 1] - slope**2).clamp_min(0).sqrt()
        a, b = torch.cartesian_prod(x, x).T
        z = torch.stack([first * a, slope * a + rest * b], 1)
        weight = torch.outer(w, w).flatten()
    f = [act.derivative(k)(z) for k in range(6)]
    two = {p: torch.einsum("m,ma,mb->ab", weight, f[p[0]], f[p[1]]) for p in tb.PAIRS}
    four = {}
    for p in tb.SMOOTH:
        pairs = [torch.einsum("ma,mb->mab", f[p[s]], f[p[s + 1]]).flatten(1) for s in (0, 2)]
        four[p] = ((weight[:, None] * pairs[0]).T @ pairs[1]).view((len(K),) * 4)
    return tb.Tables(two[0, 0], two[1, 1], four, two, {}, None)


def true_tensors(
    arch: kd.Network, X: torch.Tensor, spacing: float = STEP
) -> list[dict[str, torch.Tensor]]:
    """Of layers 2 ... L."""
    K, Theta = first_layer(arch, arch.metric(X))
    tangent, deep = Tangent.first_layer(K), Differential.first_layer(K, True)
    out = []
    for step in steps(arch):
        t = grid_tables(step.activation, K, spacing)
        new = tangent_step(step, t, Theta, tangent)
        deep = differential_step(step, t, Theta, tangent.B, tangent.F, new.F, deep)
        tangent = new
        K, Theta = next_layer(step, K, Theta, t.ss, t.dd)
        layer = {name: getattr(tangent, name) for name in TANGENT}
        out.append(layer | {name: getattr(deep, name) for name in DIFFERENTIAL})
    return out

"""dNTK and ddNTKs of drawn networks by the forward equations, averaged over pairs i ≠ j."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kadanoff.rgflow.forward import Forward, forward_layers

NAMES = ("P", "Q", "R", "S", "T", "U")


def drawn_differentials(
    arch: Any, X: Tensor, networks: int, *, seed: int = 0, batch: int = 100, order: int = 2
):
    """n-scaled P … U of hidden layers 2 … L − 1 with standard errors, from drawn networks.

    All hidden widths must be equal. ``order=1`` stops at P and Q.

    Returns
    -------
    dict of name to (value, stderr), each (L − 2, N, N, N, N)
    """
    g = torch.Generator().manual_seed(seed)
    rows: dict[str, list[Tensor]] = {}
    for _ in range(networks // batch):
        maps = _draw(arch, batch, g)
        keep: dict[str, list[Tensor]] = {}
        for state in forward_layers(maps, X, arch, order=order):
            if 1 < state.layer < arch.L:
                for name, value in _pairs(state, arch.n[1]).items():
                    keep.setdefault(name, []).append(value.mean(0))
        for name, values in keep.items():
            rows.setdefault(name, []).append(torch.stack(values))
    out = {}
    for name, values in rows.items():
        stacked = torch.stack(values)
        out[name] = stacked.mean(0), stacked.std(0) / len(stacked) ** 0.5
    return out


def _draw(arch: Any, batch: int, g: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    nets = [arch.draw(g) for _ in range(batch)]
    return [tuple(torch.stack(t) for t in zip(*maps)) for maps in zip(*nets)]  # pyright: ignore


def _pairs(state: Forward, n: int) -> dict[str, Tensor]:
    """n times the mean over pairs of distinct neurons, slots as in Flow."""
    off = 1 - torch.eye(n, dtype=torch.float64)
    scale = off / (n - 1)  # n / (n (n - 1)) for every pair
    assert state.dH is not None
    out = {
        "P": torch.einsum("mijjabc,mid,ij->mabcd", state.dH, state.z, scale),
        "Q": torch.einsum("miijabc,mjd,ij->mabcd", state.dH, state.z, scale),
    }
    if state.ddI is not None and state.ddII is not None:
        out["R"] = torch.einsum("miijjabcd,ij->mabcd", state.ddI, scale)
        out["S"] = torch.einsum("miijjabcd,ij->mabcd", state.ddII, scale)
        out["T"] = torch.einsum("mijijabcd,ij->macdb", state.ddII, scale)
        out["U"] = torch.einsum("mijjiabcd,ij->madbc", state.ddII, scale)
    return out

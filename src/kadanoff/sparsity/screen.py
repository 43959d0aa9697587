"""Find out which neurons cannot fire from a quarter of the first matrix, with a proof.

A row w of the first matrix is kept a second time in eight bits, ŵ = s q, with the norm of what
that leaves out. For any input, by Cauchy and Schwarz,

    |w·x − ŵ·x̂| ≤ ‖w − ŵ‖ ‖x‖ + ‖ŵ‖ ‖x − x̂‖,

so a neuron whose ŵ·x̂ + b lies further below zero than this (and the rounding of the sums)
is inactive for certain, and its row in full precision need not be read. Unlike a predictor's, this
answer is never wrong: the block's output stays exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kadanoff.sparsity.blocks import SkipRecipe, after_relu

__all__ = ["Screen", "can_screen", "make_screen"]


@dataclass(frozen=True)
class Screen:
    """The first matrix in eight bits, and what bounds its error.

    ``codes`` (m, d) int8; ``scale`` (m,) of a code; ``loose`` (m,): error of w·x per ‖x‖, rounding
    of the sums in ``dtype`` included; ``norm`` (m,): ‖ŵ‖; ``bias`` (m,); ``levels``: largest code
    of an input, small enough for sums of d products to fit in 32 bits; ``margin``: relative
    rounding of a preactivation when it is stored.
    """

    codes: Tensor
    scale: Tensor
    loose: Tensor
    norm: Tensor
    bias: Tensor
    levels: int
    margin: float


def can_screen(recipe: SkipRecipe) -> bool:
    """Whether a negative preactivation alone tells that a neuron is inactive.

    So it is for ReLU with or without Top-k or a threshold behind it, and for what is computed from
    the ReLU alone, entry by entry, and is zero at zero (its square, say).
    """
    if recipe.head is None:
        return True
    return recipe.k == 0 and recipe.head.pointwise and after_relu(recipe.head)


def make_screen(weight: Tensor, bias: Tensor | None) -> Screen:
    """Lay out the second copy of ``weight`` (m, d): one byte for each of its entries."""
    m, d = weight.shape
    codes = torch.empty(m, d, dtype=torch.int8)
    scale, loose, norm = (torch.empty(m, dtype=torch.float64) for _ in range(3))
    # sums of d terms in any order are within this of the true ones, twice over
    rounding = 2.0 * (d + 4) * 2.0**-24
    for at in range(0, m, 512):
        part = slice(at, at + 512)
        w = weight[part].double()
        s = w.abs().amax(1).clamp(min=1e-300) / 127
        q = (w / s[:, None]).round().nan_to_num(0.0).clamp(-127, 127)
        rest = (w - s[:, None] * q).norm(dim=1)
        scale[part], codes[part] = s, q.to(torch.int8)
        norm[part] = s * q.norm(dim=1)
        loose[part] = (rest + rounding * w.norm(dim=1)) * (1 + 1e-9)
    shift = torch.zeros(m, dtype=torch.float64) if bias is None else bias.double()
    levels = max(1, min(2**15 - 1, (2**31 - 1) // (127 * d)))
    return Screen(
        codes, scale, loose, norm, shift, levels, 2.0**-7 if weight.dtype != torch.float32 else 0.0
    )

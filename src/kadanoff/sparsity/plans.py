"""For each MLP block: the ways in which it could run, and why it may not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from kadanoff.sparsity.blocks import Block, recipe_of
from kadanoff.sparsity.predictor import Predictor, fit_predictor
from kadanoff.sparsity.screen import can_screen
from kadanoff.sparsity.skip import SkipBlock, SkipLinear

__all__ = ["SCREENED", "BlockPlan", "plan_blocks"]

# a way to run a block is a back end, and perhaps this
SCREENED = " screened"

_DTYPES = (torch.float32, torch.bfloat16)


@dataclass
class BlockPlan:
    """One block and the ways in which it could run.

    Attributes
    ----------
    block : Block
    owner : nn.Module
        Whose forward holds the block.
    backends : list of str
        Empty if the block must stay dense.
    reason : str
        Why it must, or why it has no predictor.
    predictor : Predictor or None
    active : float
        Fraction of active neurons on the data given.
    screen : bool
        Whether numba may tell inactive neurons from a coarse copy of the first matrix.
    """

    block: Block
    owner: nn.Module
    backends: list[str]
    reason: str = ""
    predictor: Predictor | None = None
    active: float = 1.0
    screen: bool = False

    def may_screen(self) -> bool:
        """Whether inactive neurons can be told from a coarse copy of the first matrix."""
        block = self.block
        if "numba" not in self.backends or self.predictor is not None:
            return False
        return block.whole and block.program is not None and can_screen(recipe_of(block.program))

    @property
    def ways(self) -> list[str]:
        """Names of the sparse paths: the back ends, and numba with a screen."""
        return [*self.backends, "numba" + SCREENED] if self.screen else self.backends

    def forward(self, way: str) -> SkipBlock | SkipLinear:
        """A callable on one token: the sparse path called ``way``."""
        backend = way.removesuffix(SCREENED)
        if self.block.whole:
            return SkipBlock(self.owner, self.block, backend, self.predictor, backend != way)
        return SkipLinear(self.block.down, backend)


def plan_blocks(
    model: nn.Module,
    blocks: Sequence[Block],
    backends: Sequence[str],
    layers: Sequence[str] | None = None,
    rank: int | None = None,
    tolerance: float | None = None,
) -> list[BlockPlan]:
    """Say of each block how it could run.

    Parameters
    ----------
    model : nn.Module
    blocks : sequence of Block
        Of the model, with some tokens of their traffic.
    backends : sequence of str
        Those that run on the model's device.
    layers : sequence of str, optional
        Only the blocks that begin at these modules.
    rank, tolerance : int, float, optional
        Of a predictor, where one is asked for.

    Returns
    -------
    list of BlockPlan
    """
    plans = []
    for block in blocks:
        plan = BlockPlan(block, model.get_submodule(block.owner), list(backends))
        if block.hidden is not None:
            plan.active = float((block.hidden != 0).float().mean())
        asked = layers is None or block.name in layers
        plan.reason = _obstacle(block) if asked else "not asked for"
        if plan.reason:
            plan.backends = []
        elif rank and tolerance and block.whole and block.inputs is not None:
            plan.predictor = fit_predictor(block, block.inputs, rank, tolerance)
            if plan.predictor is None:
                plan.reason = "no predictor within the tolerance: exact"
        plans.append(plan)
    return plans


def _obstacle(block: Block) -> str:
    """Why nothing of this block can be skipped; empty if something can."""
    if not block.exact:
        return "its activation has no exact zeros: use sparsify first"
    if block.dtype not in _DTYPES:
        return f"{block.dtype} is not supported (float32, bfloat16)"
    if block.inputs is None:
        return "its input is no longer there"
    if "used more than once in a pass" in block.notes:
        return "its matrices serve more than one place"
    return ""

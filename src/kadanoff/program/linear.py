"""A linear map whose matrix answers by its law, as autograd sees it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kadanoff.program.matrix import Matrix, Side

__all__ = ["answered"]


class _Answer(torch.autograd.Function):
    """Forward: the conditional law of W x. Backward: that of Wᵀδ, given W x."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, x: Tensor, live: Tensor, matrix: Matrix, side: Side, switch: Any
    ) -> Tensor:
        answer, question = matrix.ask(x.detach(), side)
        # kept here and not among the saved tensors: checkpointing compares those one by one
        ctx.matrix, ctx.question, ctx.switch = matrix, question, switch
        return answer

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, delta: Tensor
    ) -> tuple[Tensor | None, ...]:
        wanted, switch = ctx.needs_input_grad[0], ctx.switch
        if torch.is_grad_enabled():
            # second derivatives: the cotangents' own map is one more question of the matrix
            other: Side = "left" if ctx.question.side == "right" else "right"
            found = answered(delta, ctx.matrix, other, switch) if wanted else None
            ctx.matrix.back(ctx.question, delta.detach(), False, switch)
        else:
            found = ctx.matrix.back(ctx.question, delta, wanted, switch)
        return found, None, None, None, None


def answered(x: Tensor, matrix: Matrix, side: Side, switch: Any) -> Tensor:
    """W x (``side`` "right") or Wᵀx ("left") for the last axis of x, of any leading shape.

    Parameters
    ----------
    switch : Network
        Says whether a backward pass counts as the gradient of the loss, and holds a number that
        requires a gradient, so that a map that reads data has one too.
    """
    rows = x.reshape(-1, x.shape[-1])
    out = _Answer.apply(rows, switch.live, matrix, side, switch)
    return out.reshape(*x.shape[:-1], matrix.width(side))

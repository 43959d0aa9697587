"""A low-rank guess of the active set, so that the first matrix can be skipped too."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kadanoff.errors import UsageError
from kadanoff.sparsity.blocks import Block

__all__ = ["Predictor", "fit_predictor"]


@dataclass
class Predictor:
    """Neurons with B (A x) + bias > -margin are computed; the others are taken as inactive.

    ``recall``: fraction of the truly active (entry, token) pairs that were predicted;
    ``output_error``: ‖Δy‖ / ‖y‖ over tokens not used for fitting; ``predicted``: fraction of
    neurons computed.
    """

    down: Tensor  # A (r, d)
    up: Tensor  # B (m, r)
    bias: Tensor
    margin: float
    recall: float
    output_error: float
    predicted: float

    def rows(self, x: Tensor) -> Tensor:
        score = torch.addmv(self.bias, self.up, self.down @ x)
        return (score > -self.margin).nonzero().squeeze(1)


@torch.no_grad()
def fit_predictor(block: Block, inputs: Tensor, rank: int, tolerance: float) -> Predictor | None:
    """Fit on half of the tokens, choose the margin on a quarter, report on the last quarter.

    The rank-r map closest to the first matrix on the data's own second moments is the truncated
    SVD of W C^(1/2). The margin is the smallest whose output error stays below ``tolerance``.

    Parameters
    ----------
    block : Block
    inputs : Tensor, shape (tokens, d)
        Tokens that entered the block.
    rank : int
    tolerance : float
        Relative error of the block's output that is allowed, in (0, 1).

    Returns
    -------
    Predictor or None
        None if even the widest margin, or the held-out quarter, misses the tolerance; also if the
        tolerance is finer than what that quarter can show, one neuron lost on one of its tokens.

    Raises
    ------
    UsageError
        ``rank`` or ``tolerance`` out of range.
    """
    if not 1 <= rank <= min(block.d, block.m):
        raise UsageError(
            f"rank = {rank} is not between 1 and {min(block.d, block.m)}.", "Pass e.g. rank=64."
        )
    if not 0.0 < tolerance < 1.0:
        raise UsageError(f"tolerance = {tolerance} is not in (0, 1).", "Pass e.g. 0.01.")
    if block.program is None or not block.program.pointwise or len(inputs) < 16:
        return None
    x = inputs.float()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    half, quarter = len(x) // 2, len(x) // 4
    fit, choose, test = x[order[:half]], x[order[half : half + quarter]], x[order[half + quarter :]]
    weight = block.first.rows().float()
    bias = block.first.bias()
    bias = torch.zeros(block.m) if bias is None else bias.float()
    moment = fit.T.double() @ fit.double() / half
    # a ridge keeps the directions unseen in so few tokens
    moment += 1e-2 * moment.diagonal().mean() * torch.eye(block.d, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(moment)
    root = (vectors * values.sqrt()) @ vectors.T
    inverse = (vectors / values.sqrt()) @ vectors.T
    left, size, right = torch.linalg.svd(weight.double() @ root, full_matrices=False)
    up = (left[:, :rank] * size[:rank]).float()
    down = (right[:rank] @ inverse).float()

    table = block.down.rows().float().T

    def hidden(tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What each neuron sends on, which of them are active, and the output of the block."""
        z = torch.nn.functional.linear(tokens, weight, bias)
        assert block.program is not None
        a = block.program(z.to(block.dtype)).float()
        active = a != 0
        if block.up is not None:
            up_bias = block.up.bias()
            a = a * torch.nn.functional.linear(
                tokens, block.up.rows().float(), None if up_bias is None else up_bias.float()
            )
        whole = a @ table
        out_bias = block.down.bias()
        return a, active, whole if out_bias is None else whole + out_bias.float()

    def outcome(tokens: Tensor, margin: float) -> tuple[float, float, float]:
        a, active, whole = hidden(tokens)
        kept = (tokens @ down.T @ up.T + bias) > -margin
        error = (a * ~kept) @ table
        recall = float((kept & active).sum() / active.sum().clamp(min=1))
        return (
            float(error.norm() / whole.norm().clamp(min=1e-30)),
            recall,
            float(kept.float().mean()),
        )

    # no error seen on these tokens does not mean none: a tolerance below that of one active neuron
    # (of median size) lost on one token cannot be told from them
    a, active, whole = hidden(test)
    each = (a.abs() * table.norm(dim=1))[active]
    if not len(each) or float(each.median() / whole.norm().clamp(min=1e-30)) > tolerance:
        return None
    scale = float((fit @ (weight - up @ down).T).std())
    for step in range(33):
        margin = scale * (step - 4) / 4
        # some room, as the margin is chosen on few tokens
        if outcome(choose, margin)[0] <= 0.7 * tolerance:
            error, recall, predicted = outcome(test, margin)
            if error <= tolerance:
                kind = block.dtype
                return Predictor(
                    down.to(kind).contiguous(),
                    up.to(kind).contiguous(),
                    bias.to(kind),
                    margin,
                    recall,
                    error,
                    predicted,
                )
    return None

"""Counts of active neurons, gathered batch by batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["GROUPS", "Counts", "error_threshold", "rows_of"]

# batch sizes for which the union of active sets is measured
GROUPS = (1, 2, 4, 8, 16, 32)
_DETAIL = 256  # tokens a call on which overlap and unions are measured


def rows_of(a: Tensor, channel: bool) -> Tensor:
    """(sequences, tokens, neurons) view of an activation; channels are the neurons of a CNN."""
    if channel:
        a = a.movedim(1, -1)
        return a.reshape(a.shape[0], -1, a.shape[-1])
    if a.ndim == 1:
        return a.reshape(1, 1, -1)
    if a.ndim == 2:
        return a.unsqueeze(0)
    return a.reshape(-1, a.shape[-2], a.shape[-1])


def error_threshold(
    skippable: Tensor, product: Tensor, weight: Tensor | None, error: float, samples: int = 32
) -> float:
    """Largest τ such that dropping what is below it changes the layer's output by ``error``.

    The error is ‖Σ_{|s_i| < τ} a_i v_i‖ / ‖Σ_i a_i v_i‖, root mean square over tokens, with s the
    skippable activation, a the product that enters the next matrix and v_i its columns (without
    ``weight``: the norm of a itself). Cf. CETT of the Sparsing Law, arXiv:2411.02335.

    Parameters
    ----------
    skippable, product : Tensor (tokens, m)
    weight : Tensor (n_out, m) or None
    error : float
        Relative output error allowed.
    samples : int
        Tokens used, evenly spread.
    """
    # a sample small enough that its cost stays a few percent of the layer's own
    samples = min(samples, max(4, len(product) // 128))
    step = max(1, len(product) // samples)
    size = skippable[::step][:samples].detach().abs().float()
    a = product[::step][:samples].detach().float()
    v = None if weight is None else weight.detach().float().t()
    whole = (a if v is None else a @ v).norm()
    if whole == 0:
        return 0.0
    weights = 1.0 if v is None else torch.linalg.vector_norm(v, dim=1).square()
    levels, order = torch.sort(size.flatten())
    energy = (a.square() * weights).flatten()[order].cumsum(0)
    # first as if the dropped terms were incoherent, then corrected by the true error
    allowed, best = float((error * whole) ** 2), 0.0
    for _ in range(4):
        index = int(torch.searchsorted(energy, torch.tensor(allowed, device=energy.device)))
        tau = float(levels[min(index, len(levels) - 1)])
        small = a * (size < tau)
        true = float((small if v is None else small @ v).norm() / whole)
        if true <= error:
            best = max(best, tau)
        if 0.97 * error <= true <= error:
            break
        allowed *= (0.99 * error / max(true, 1e-3 * error)) ** 2
    return best


@dataclass
class Counts:
    """Streaming counts of one layer; ``add`` one call's active mask at a time."""

    width: int
    tokens: int = 0
    overlap: float = 0.0
    overlap_base: float = 0.0

    def __post_init__(self) -> None:
        self.per_token: list[Tensor] = []
        self.per_neuron = torch.zeros(self.width, dtype=torch.float64)
        self.union_sum = [0.0] * len(GROUPS)
        self.union_count = [0] * len(GROUPS)

    def add(self, active: Tensor) -> None:
        """Count ``active`` (sequences, tokens, width): 1 where a neuron is active, else 0."""
        active = active.float().contiguous()
        flat = active.view(-1, self.width)
        ones = torch.ones(max(flat.shape), device=flat.device)
        self.tokens += len(flat)
        self.per_token.append((flat @ ones[: self.width]).cpu() / self.width)
        self.per_neuron += (ones[: len(flat)] @ flat).double().cpu()
        if active.shape[1] > 1:
            self._neighbours(active[: max(1, _DETAIL // active.shape[1])])
        self._unions(flat[:: max(1, len(flat) // _DETAIL)][:_DETAIL])

    def _neighbours(self, active: Tensor) -> None:
        # one dot product of the flat memory with itself, one row on; then take away the pairs
        # that straddle two sequences
        flat, m = active.reshape(-1), self.width
        both = float(flat[m:] @ flat[:-m])
        first, last = active[1:, 0].reshape(-1), active[:-1, -1].reshape(-1)
        self.overlap += both - float(first @ last)
        self.overlap_base += float(active.sum()) - float(active[:, -1].sum())

    def _unions(self, union: Tensor) -> None:
        # tokens half the data apart stand in for streams decoded side by side
        for index in range(len(GROUPS)):
            if index:
                half = len(union) // 2
                if half == 0:
                    return
                union = torch.maximum(union[:half], union[half : 2 * half])
            self.union_sum[index] += float(union.sum())
            self.union_count[index] += union.numel()

    def unions(self) -> dict[int, float]:
        """Batch size → fraction of neurons active for at least one of its tokens."""
        return {
            size: total / count
            for size, total, count in zip(GROUPS, self.union_sum, self.union_count)
            if count
        }

    def neighbour_overlap(self) -> float | None:
        """Fraction of a token's active neurons that the next token activates too."""
        return self.overlap / self.overlap_base if self.overlap_base else None

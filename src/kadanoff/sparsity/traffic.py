"""FLOPs and bytes that a token, or a batch, could skip; and what that can gain on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from kadanoff.sparsity.blocks import Block, find_blocks
from kadanoff.sparsity.calibrate import bandwidth
from kadanoff.sparsity.inputs import device_of, examples
from kadanoff.sparsity.profiles import Profile, profile

__all__ = ["BlockBytes", "BytesReport", "bytes_report", "limit"]


def limit(active: float, gated: bool = False, first_skipped: bool = False) -> float:
    """Best speed-up of an MLP block that is bound by reading its weights.

    2/(1+ρ) for an exact block, 3/(1+2ρ) for an exact gated one, 1/ρ when the first matrix is
    skipped as well (an oracle: its predictor's own bytes are not counted).

    Parameters
    ----------
    active : float
        Fraction ρ of active neurons.
    gated : bool
        The block has a third matrix.
    first_skipped : bool
        Inactive rows of the first matrix are not read either.
    """
    if first_skipped:
        return 1.0 / max(active, 1e-12)
    return 3.0 / (1.0 + 2.0 * active) if gated else 2.0 / (1.0 + active)


@dataclass(frozen=True)
class BlockBytes:
    """One MLP block and one token: bytes of weights and FLOPs, all and skippable, and the limits.

    ``union_limit``: batch size → best speed-up with the measured union of active sets;
    ``dense_seconds``: time to read the block once at the measured bandwidth.
    """

    name: str
    kind: str
    exact: bool
    active: float
    bytes: int
    skippable_bytes: float
    flops: int
    skippable_flops: float
    limit: float
    oracle_limit: float
    union_limit: dict[int, float]
    dense_seconds: float


@dataclass(frozen=True)
class BytesReport:
    """What a model can gain on this machine before one converts it.

    ``mlp_share``: share of the bytes read per token that is MLP blocks; ``model_limit``: Amdahl's
    bound for decoding with the blocks at their limits; ``bandwidth`` in bytes a second.
    """

    blocks: tuple[BlockBytes, ...]
    bandwidth: float
    model_bytes: int
    mlp_share: float
    model_limit: float
    dense_seconds: float
    profile: Profile

    def as_dict(self) -> dict[str, Any]:
        row = {k: v for k, v in vars(self).items() if k not in ("blocks", "profile")}
        return row | {"blocks": [vars(block) for block in self.blocks]}


def _bytes(block: Block) -> tuple[int, int]:
    """(all, skippable if nothing were active) weight bytes of a block."""
    size = torch.finfo(block.dtype).bits // 8 if block.dtype.is_floating_point else 1
    first, down = block.d * block.m * size, block.m * block.n_out * size
    up = first if block.up is not None else 0
    return first + up + down, up + down


def bytes_report(
    model: nn.Module, data: Any, error: float = 0.01, measured_bandwidth: float | None = None
) -> BytesReport:
    """Bytes and FLOPs a model could skip per token on ``data``, and the speed-up these allow.

    Parameters
    ----------
    model, data, error
        As for `profile`.
    measured_bandwidth : float, optional
        Bytes a second; measured here if not given.

    Raises
    ------
    AnalysisError
        The model has no MLP block.
    """
    found = profile(model, data, error=error)
    was = {module: module.training for module in model.modules()}
    model.eval()
    try:
        blocks, finder = find_blocks(model, examples(data, model, 1)[0])
    finally:
        for module, mode in was.items():
            module.training = mode
    speed = measured_bandwidth or bandwidth(device_of(model))
    layers = {layer.name: layer for layer in found.layers}
    rows, saved, total_mlp = [], 0.0, 0
    for block in blocks:
        layer = layers[block.name]
        whole, skip = _bytes(block)
        size = torch.finfo(block.dtype).bits // 8
        union = {n: whole / (whole - skip * (1 - part)) for n, part in layer.union.items()}
        gain = skip * (1 - layer.active)
        rows.append(
            BlockBytes(
                block.name,
                block.kind,
                layer.exact,
                layer.active,
                whole,
                gain,
                2 * whole // size,
                2 * gain / size,
                whole / (whole - gain),
                limit(layer.active, first_skipped=True),
                union,
                whole / speed,
            )
        )
        saved += gain
        total_mlp += whole
    read: dict[int, int] = {}
    for step in finder.linears:
        if step.weight is not None:
            weight = step.weight
            read[weight.untyped_storage().data_ptr()] = weight.numel() * weight.element_size()
    model_bytes = max(sum(read.values()), total_mlp)
    return BytesReport(
        tuple(rows),
        speed,
        model_bytes,
        total_mlp / model_bytes,
        model_bytes / (model_bytes - saved),
        model_bytes / speed,
        found,
    )

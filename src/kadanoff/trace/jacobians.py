r"""Norms of partial Jacobians by random vector–Jacobian products.

For a vector v of independent standard normals, :math:`E|v^T J|^2 = |J|_F^2` (Hutchinson): one
backward pass with a random cotangent estimates the norm for every sample and every layer at once.
The full Jacobian is never built. Partial Jacobians as a meter of criticality: Doshi, He, Gromov
(2021), arXiv:2111.12143.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

__all__ = ["jacobians_along", "jacobians_to_output"]


def jacobians_to_output(
    output: Tensor, edges: Sequence[Any], samples: int, probes: int, generator: torch.Generator
) -> list[Tensor | None]:
    """Per-sample (1/n_out) |∂output/∂z|² for each recorded z.

    Parameters
    ----------
    output : Tensor, shape (samples, ...)
        Still attached to its graph, which is kept.
    edges : sequence of GradientEdge or None
    samples : int
        Samples in the batch; entries of a layer are shared among them evenly.
    probes : int
        Random vectors; the relative error of one sample's value is at most sqrt(2 / probes).
    generator : torch.Generator
        On the CPU; the same seed gives the same probes on every device.

    Returns
    -------
    list of Tensor or None, shape (samples,)
        float64; None where no gradient flows.
    """
    present = [index for index, edge in enumerate(edges) if edge is not None]
    sums: list[Tensor | None] = [None] * len(edges)
    if not present or not output.requires_grad:
        return sums
    for _ in range(probes):
        probe = _normal(output.shape, output.dtype, output.device, generator)
        grads = torch.autograd.grad(
            output, [edges[i] for i in present], probe, retain_graph=True, allow_unused=True
        )
        for index, grad in zip(present, grads):
            _accumulate(sums, index, grad, samples, output.numel() / samples * probes)
    return sums


def jacobians_along(
    edges: Sequence[Any],
    shapes: Sequence[tuple[int, ...]],
    dtypes: Sequence[torch.dtype],
    device: torch.device,
    samples: int,
    probes: int,
    generator: torch.Generator,
) -> list[Tensor | None]:
    """Per-sample (1/n') |∂z'/∂z|² from each tensor of a chain to the next (the measured χ⊥).

    Each backward pass runs only through the part of the graph between the two tensors, so that
    all of them together cost about one backward pass a probe.

    Parameters
    ----------
    edges : sequence
        Places in the autograd graph, in the order of the chain.
    shapes, dtypes : sequences
        Of the tensors at these places.
    device : torch.device
    samples : int
        Size of the batch, the first axis of each tensor.
    probes : int
        Random vectors for each norm.
    generator : torch.Generator

    Returns
    -------
    list of Tensor or None, shape (samples,)
        One less than ``edges``; entry i belongs to the step from i to i+1.
    """
    values: list[Tensor | None] = [None] * max(len(edges) - 1, 0)
    for index, (start, end) in enumerate(pairwise(edges)):
        size = torch.Size(shapes[index + 1]).numel() / samples * probes
        for _ in range(probes):
            probe = _normal(shapes[index + 1], dtypes[index + 1], device, generator)
            (grad,) = torch.autograd.grad(
                [end], [start], [probe], retain_graph=True, allow_unused=True
            )
            _accumulate(values, index, grad, samples, size)
    return values


def _normal(
    shape: Sequence[int], dtype: torch.dtype, device: torch.device, generator: torch.Generator
) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float32).to(device, dtype)


def _accumulate(
    sums: list[Tensor | None], index: int, grad: Tensor | None, samples: int, size: float
) -> None:
    if grad is None or grad.numel() % samples:
        return
    rows = grad.reshape(samples, -1)
    # squares of vanishing or exploding gradients leave the range of float32: scale first
    peak = rows.abs().amax(-1)
    peak = torch.where(peak > 0, peak, torch.ones_like(peak))
    norm = torch.linalg.vector_norm(rows / peak[:, None], dim=-1)
    value = norm.double().mul(peak.double()).square() / size
    before = sums[index]
    sums[index] = value if before is None else before + value

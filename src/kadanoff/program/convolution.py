"""Convolutions as linear maps of patches: any stride, padding, dilation and groups.

Forward: the rows are the patches under the kernel, fan-in C_in k²/groups, one matrix a group.
Transposed: the rows are the pixels, and the answers, patches, are added where they overlap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kadanoff.program.linear import answered
from kadanoff.program.matrix import Matrix, Side
from kadanoff.program.views import View

if TYPE_CHECKING:
    from kadanoff.program.mode import Network

__all__ = ["convolve", "transposed"]


def _numbers(value: Any, count: int) -> tuple[int, ...]:
    if isinstance(value, int):
        return (value,) * count
    value = tuple(int(v) for v in value)
    return value * count if len(value) == 1 else value


def _groups(view: View, groups: int) -> list[Matrix] | None:
    """The matrix of each group of a convolution's weight, its first axis flattened to rows."""
    rows = view.token.shape[0] // groups
    found = []
    for g in range(groups):
        matrix = view.source.matrix(g * rows, (g + 1) * rows, 1)
        if matrix is None:
            return None
        found.append(matrix)
    return found


def _open(
    view: View, x: Tensor, side: Side, groups: int, M: int, network: Network
) -> list[Matrix] | str:
    """Matrices by group if they should answer M rows undrawn, else why not."""
    if view.calls or M <= 0:
        return "not used as a matrix"
    if groups > 8:
        return "many small groups"
    if not view.source.law.conditional:
        return f"a law of its own ({view.source.law.kind})"
    if network.pool is not None and view.token[0].numel() < 64:
        return "a fan-in that does not become wide"
    if view.source.plain(x, side):
        return "its law is not normal, which would show"
    matrices = _groups(view, groups)
    if matrices is None:
        return "not used as a matrix"
    return matrices if matrices[0].undrawn(M) else "cheaper drawn"


def convolve(network: Network, given: dict[str, Any]) -> Tensor | str:
    """F.conv1d, F.conv2d, F.conv3d."""
    given = {"bias": None, "stride": 1, "padding": 0, "dilation": 1, "groups": 1} | given
    view = network.view(given["weight"])
    if view is None:
        return "not the weight of the convolution"
    x, bias, groups = network.value(given["input"]), given["bias"], given["groups"]
    d = view.token.ndim - 2
    kernel = tuple(view.token.shape[2:])
    stride, dilation = _numbers(given["stride"], d), _numbers(given["dilation"], d)
    if x.ndim != d + 2 or not x.numel() or x.shape[1] != view.token.shape[1] * groups:
        return "a batch of another shape"
    before, after = _padding(given["padding"], kernel, dilation)
    size = [
        (x.shape[2 + i] + before[i] + after[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1
        for i in range(d)
    ]
    M = x.shape[0] * torch.Size(size).numel() if min(size) > 0 else 0
    matrices = _open(view, x, "right", groups, M, network)
    if isinstance(matrices, str):
        return matrices
    padded = F.pad(x, [p for i in reversed(range(d)) for p in (before[i], after[i])])
    cols = _patches(padded, kernel, stride, dilation)  # N, C, k…, positions…
    N, C = x.shape[:2]
    rows = cols.reshape(N, groups, C // groups * torch.Size(kernel).numel(), -1)
    out = [
        answered(rows[:, g].mT, matrix, "right", network).mT for g, matrix in enumerate(matrices)
    ]
    y = torch.cat(out, 1).reshape(N, -1, *size)
    return y if bias is None else y + network.value(bias).view(1, -1, *[1] * d)


def _padding(
    padding: Any, kernel: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if padding == "valid":
        padding = 0
    if padding == "same":
        total = [s * (k - 1) for k, s in zip(kernel, dilation)]
        return tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
    both = _numbers(padding, len(kernel))
    return both, both


def _patches(
    x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> Tensor:
    """(N, C, size…) -> (N, C, k…, positions…)."""
    d = len(kernel)
    for i in range(d):
        # one more axis at the end: the window; every ``dilation``-th entry of it is used
        window = dilation[i] * (kernel[i] - 1) + 1
        x = x.unfold(2 + i, window, stride[i])[..., :: dilation[i]]
    # N, C, positions (d), windows (d)
    return x.permute(0, 1, *range(2 + d, 2 + 2 * d), *range(2, 2 + d))


def transposed(network: Network, given: dict[str, Any]) -> Tensor | str:
    """F.conv_transpose1d, F.conv_transpose2d."""
    given = {
        "bias": None,
        "stride": 1,
        "padding": 0,
        "output_padding": 0,
        "groups": 1,
        "dilation": 1,
    } | given
    view = network.view(given["weight"])
    if view is None:
        return "not the weight of the convolution"
    x, bias, groups = network.value(given["input"]), given["bias"], given["groups"]
    d = view.token.ndim - 2
    kernel = tuple(view.token.shape[2:])
    stride, dilation = _numbers(given["stride"], d), _numbers(given["dilation"], d)
    padding, extra = _numbers(given["padding"], d), _numbers(given["output_padding"], d)
    if x.ndim != d + 2 or not x.numel() or x.shape[1] != view.token.shape[0]:
        return "a batch of another shape"
    N, positions = x.shape[0], x.shape[2:]
    matrices = _open(view, x, "left", groups, N * positions.numel(), network)
    if isinstance(matrices, str):
        return matrices
    if any(e >= s for e, s in zip(extra, stride)):
        return "more output padding than stride"
    size = tuple(
        (positions[i] - 1) * stride[i]
        - 2 * padding[i]
        + dilation[i] * (kernel[i] - 1)
        + extra[i]
        + 1
        for i in range(d)
    )
    pixels = x.reshape(N, groups, -1, positions.numel())
    cols = [
        answered(pixels[:, g].mT, matrix, "left", network).mT for g, matrix in enumerate(matrices)
    ]
    patches = torch.cat(cols, 1)  # N, C_out k…, positions
    if d == 1:
        size, kernel = (1, *size), (1, *kernel)
        stride, padding, dilation = (1, *stride), (0, *padding), (1, *dilation)
    y = F.fold(patches, size, kernel, dilation, padding, stride)
    y = y.squeeze(2) if d == 1 else y
    return y if bias is None else y + network.value(bias).view(1, -1, *[1] * d)

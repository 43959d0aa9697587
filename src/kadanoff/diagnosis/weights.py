"""What single weight matrices tell: symmetric, half loaded, as PyTorch draws them.

A matrix of independent entries has its largest singular value at σ(√m + √n), the edge of the
Marchenko–Pastur law, up to a relative n^(-2/3); training pushes singular values beyond it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["MatrixFacts", "matrices"]

_BLOCK = 256  # a part of a matrix of independent entries is one too, and cheap
_SMALL = 12  # narrower matrices fluctuate too much to tell


@dataclass(frozen=True)
class MatrixFacts:
    """Facts about one weight of at least two axes.

    Attributes
    ----------
    name, layer : str
        Of the parameter; class of the module that owns it.
    shape : tuple of int
        As a matrix (outputs, inputs).
    edge : float or None
        Largest singular value over where independent entries of the same variance have it; None
        for narrow matrices.
    bound : float or None
        Largest entry over 1/sqrt(fan-in), the bound of PyTorch's default for linear maps and
        convolutions; None for other layers.
    default : bool
        Whether its variance, and its bound, are those of PyTorch's default.
    equal_rows, constant, rank_one : bool
        Symmetries that gradient descent never breaks.
    """

    name: str
    layer: str
    shape: tuple[int, int]
    edge: float | None = None
    bound: float | None = None
    default: bool = False
    equal_rows: bool = False
    constant: bool = False
    rank_one: bool = False

    @property
    def drawn(self) -> bool | None:
        """Whether it looks as drawn at random; None if it cannot be told."""
        return None if self.edge is None else self.edge < 1.12

    @property
    def trained(self) -> bool:
        """Whether it is clearly beyond a random draw."""
        return self.edge is not None and self.edge > 1.2


def matrices(model: nn.Module) -> tuple[MatrixFacts, ...]:
    """Facts about each distinct weight matrix of a model."""
    owners = {
        f"{path}.{name}" if path else name: module
        for path, module in model.named_modules()
        for name, _ in module.named_parameters(recurse=False)
    }
    generator = torch.Generator().manual_seed(0)
    found = []
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim >= 2 and p.is_floating_point() and p.numel() >= 4 and not p.is_meta:
                owner = owners.get(name, model)
                found.append(_matrix(name, p.detach(), owner, generator))
    return tuple(found)


def _matrix(name: str, p: Tensor, owner: nn.Module, generator: torch.Generator) -> MatrixFacts:
    w = p.flatten(1)
    m, n = w.shape
    rows = torch.randperm(m, generator=generator)[:_BLOCK].to(w.device)
    columns = torch.randperm(n, generator=generator)[:_BLOCK].to(w.device)
    part = w[rows][:, columns].float()
    title = type(owner).__name__
    plain = isinstance(owner, (nn.Linear, nn.modules.conv._ConvNd))
    peak = float(w.abs().max())
    if peak == 0:
        return MatrixFacts(name, title, (m, n))
    scale = part / peak
    equal = m > 1 and bool((scale - scale[:1]).abs().max() < 1e-6)
    constant = equal and bool((scale - scale[:1, :1]).abs().max() < 1e-6)
    bound, default = None, False
    if plain:
        fan_in = w.shape[1]
        std = float(torch.linalg.vector_norm(w.float())) / math.sqrt(w.numel())
        bound = peak * math.sqrt(fan_in)
        wanted = 1 / math.sqrt(3 * fan_in)
        # standard error of the root mean square of a uniform law: sqrt(0.2 / entries)
        near = abs(std / wanted - 1) < 4 * math.sqrt(0.2 / w.numel()) + 1e-3
        default = near and bound <= 1 + 1e-4
    a, b = part.shape
    if min(a, b) < 2 or isinstance(owner, (nn.Embedding, nn.EmbeddingBag)):
        return MatrixFacts(name, title, (m, n), None, bound, default, equal, constant)
    values = torch.linalg.svdvals(scale)
    rank_one = bool(values[1] < 1e-5 * values[0])
    edge = None
    if min(a, b) >= _SMALL:
        std = float(scale.square().mean().sqrt())
        edge = float(values[0]) / (std * (math.sqrt(a) + math.sqrt(b)))
    return MatrixFacts(name, title, (m, n), edge, bound, default, equal, constant, rank_one)

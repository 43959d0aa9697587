"""The forward pass of a block of networks on the inputs, drawn or implicit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from kadanoff.ensembles.matrices import Drawn, Implicit, cholesky
from kadanoff.ensembles.normals import Normals

__all__ = ["Trunk", "draw_matrix", "forward"]


@dataclass
class Trunk:
    """What one forward pass leaves behind, layer 1 first (S networks, N inputs, width n).

    Attributes
    ----------
    z, s, d : list of Tensor, shape (S, N, n)
        Preactivations, σ(z), σ'(z); s and d stop at layer L − 1.
    metric : list of Tensor, shape (S, N, N)
        C_b + C_W σσ/n of the layer before: the covariance of this layer over its own weights.
    root, inverse : list of Tensor, shape (S, N, N)
        Cholesky factor of ``metric``, and its inverse.
    direct : list of Tensor, shape (S, N, N)
        λ_b + λ_W σσ/n of the layer before: the part of the NTK due to this layer's weights.
    op : list
        The map into the layer; None for the first, whose input is not random.
    """

    arch: Any
    normals: Normals
    z: list[Tensor] = field(default_factory=list)
    s: list[Tensor] = field(default_factory=list)
    d: list[Tensor] = field(default_factory=list)
    metric: list[Tensor] = field(default_factory=list)
    root: list[Tensor] = field(default_factory=list)
    inverse: list[Tensor] = field(default_factory=list)
    direct: list[Tensor] = field(default_factory=list)
    op: list[Any] = field(default_factory=list)
    _higher: dict[tuple[int, int], Tensor] = field(default_factory=dict)

    def derivative(self, l: int, k: int) -> Tensor:
        """σ⁽ᵏ⁾ at layer number l + 1, shape (S, N, n)."""
        if k < 2:
            return (self.s, self.d)[k][l]
        if (l, k) not in self._higher:
            self._higher[l, k] = self.arch.activations[l].derivative(k)(self.z[l])
        return self._higher[l, k]


def forward(arch: Any, X: Tensor, S: int, normals: Normals, implicit: bool, depth: int) -> Trunk:
    """Preactivations of layers 1 … ``depth`` of S networks, and the metric of the next layer.

    Parameters
    ----------
    arch : Network
        Without skips.
    X : Tensor, shape (N, n_0)
    implicit : bool
        Draw the answers of the weight matrices instead of the matrices.
    depth : int
        Layers to evaluate; 1 … L.
    """
    trunk = Trunk(arch, normals)
    N = X.shape[0]
    inner = (X @ X.mT / X.shape[1]).expand(S, N, N)
    for l in range(arch.L):
        trunk.metric.append(arch.C_b[l] + arch.C_W[l] * inner)
        trunk.direct.append(arch.lambda_b[l] + arch.lambda_W[l] * inner)
        root, inverse = cholesky(trunk.metric[-1])
        trunk.root.append(root)
        trunk.inverse.append(inverse)
        if l >= depth:
            break
        if not implicit:
            op = Drawn(*draw_matrix(arch, l, S, normals))
            z = op.apply(trunk.s[-1] if l else X, bias=True)
        elif l == 0:
            # nobody asks the first map anything else: its input is not random
            op, z = None, root @ normals.normal(S, N, arch.n[1])
        else:
            op = Implicit(S, arch.n[l + 1], arch.n[l], arch.C_W[l], arch.C_b[l], normals)
            z = op.apply(trunk.s[-1], bias=True)
        trunk.op.append(op)
        trunk.z.append(z)
        if l == arch.L - 1:
            break
        act = arch.activations[l]
        trunk.s.append(act(z))
        trunk.d.append(act.derivative(1)(z))
        inner = trunk.s[-1] @ trunk.s[-1].mT / arch.n[l + 1]
    return trunk


def draw_matrix(arch: Any, l: int, S: int, normals: Normals) -> tuple[Tensor, Tensor | None]:
    """W (S, n_out, n_in) and b (S, n_out) of map l (0-based), by the law of ``arch.init``."""
    n_out, n_in = arch.n[l + 1], arch.n[l]
    draw: Callable[..., Tensor] = normals.uniform if arch.init == "uniform" else normals.normal
    W = draw(S, n_out, n_in)
    W *= (arch.C_W[l] / n_in) ** 0.5
    b = normals.normal(S, n_out) * arch.C_b[l] ** 0.5 if arch.C_b[l] else None
    return W, b

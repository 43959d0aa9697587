"""The forward pass of a block of networks on the inputs, drawn or implicit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from kadanoff.activations import Activation, activation
from kadanoff.architecture import Network
from kadanoff.architecture.drawing import draw_weights
from kadanoff.ensembles.haar import Haar
from kadanoff.ensembles.matrices import DrawnMatrix, Implicit
from kadanoff.ensembles.normals import Normals
from kadanoff.gaussian.cholesky import batch_factor_inverse

__all__ = ["Map", "Operator", "Trunk", "draw_matrix", "drawn_trunk", "forward", "maps"]


class Operator(Protocol):
    """A weight matrix of many networks, known by its action on rows."""

    def apply(self, X: Tensor, bias: bool = False, keep: bool = True) -> Tensor:
        """W x (+ b) for the rows of X (S, k, n_in): (S, k, n_out).

        Parameters
        ----------
        X : Tensor, shape (S, k, n_in)
        bias : bool
            Whether b is added.
        keep : bool
            Whether what was asked constrains later answers.
        """
        ...

    def transpose(self, D: Tensor, keep: bool = True) -> Tensor:
        """Wᵀδ for the rows of D (S, k, n_out): (S, k, n_in)."""
        ...


@dataclass(frozen=True)
class Map:
    """One linear map of a network: node j = b + W act(node j − 1) + γ node j − back.

    Attributes
    ----------
    layer : int
        Index of the layer it belongs to, 0 … L − 1. A two-layer block has two maps, and the node
        that carries the layer's preactivations is the second.
    act : Activation or None
        What stands before W; None for the first map, which acts on data.
    back : int
        1, or 2 where the skip goes around a two-layer block.
    """

    layer: int
    act: Activation | None
    n_in: int
    n_out: int
    C_b: float
    C_W: float
    lambda_b: float
    lambda_W: float
    gamma: float = 0.0
    back: int = 1


def maps(arch: Network) -> list[Map]:
    """The linear maps of ``arch`` in order."""
    out = []
    for l in range(arch.L):
        rates = (arch.C_b[l], arch.C_W[l], arch.lambda_b[l], arch.lambda_W[l])
        act = arch.activations[l - 1] if l else None
        if arch.block == "two_layer" and 0 < l < arch.L - 1:
            inner = arch.hidden or arch.n[l + 1]
            out.append(Map(l, activation("linear"), arch.n[l], inner, *rates))
            out.append(Map(l, act, inner, arch.n[l + 1], *rates, arch.gamma[l], 2))
        else:
            out.append(Map(l, act, arch.n[l], arch.n[l + 1], *rates, arch.gamma[l]))
    return out


@dataclass
class Trunk:
    """What one forward pass leaves behind, first node first (S networks, N inputs, width n).

    Nodes are the outputs of the maps: the preactivations of the layers, and in two-layer blocks
    those of the inner layers between them.

    Attributes
    ----------
    maps : list of Map
    z, s, d : list of Tensor, shape (S, N, n)
        Preactivations, σ(z), σ'(z) with the σ of the next map; s and d stop before the last node.
    metric : list of Tensor, shape (S, N, N)
        C_b + C_W σσ/n of the node before: the covariance of a node over its own map.
    root, inverse : list of Tensor, shape (S, N, N)
        Cholesky factor of ``metric``, and its inverse.
    direct : list of Tensor, shape (S, N, N)
        λ_b + λ_W σσ/n of the node before: the part of the NTK due to the node's own map.
    op : list
        The map into the node; None for a first Gaussian one, whose input is not random.
    """

    arch: Network
    normals: Normals
    maps: list[Map] = field(default_factory=list)
    z: list[Tensor] = field(default_factory=list)
    s: list[Tensor] = field(default_factory=list)
    d: list[Tensor] = field(default_factory=list)
    metric: list[Tensor] = field(default_factory=list)
    root: list[Tensor] = field(default_factory=list)
    inverse: list[Tensor] = field(default_factory=list)
    direct: list[Tensor] = field(default_factory=list)
    op: list[Operator | None] = field(default_factory=list)
    _higher: dict[tuple[int, int], Tensor] = field(default_factory=dict)

    def node(self, l: int) -> int:
        """The node that carries the preactivations of layer index ``l``."""
        return max(j for j, m in enumerate(self.maps) if m.layer == l)

    def derivative(self, j: int, k: int) -> Tensor:
        """σ⁽ᵏ⁾ at node ``j``, shape (S, N, n)."""
        if k < 2:
            return (self.s, self.d)[k][j]
        if (j, k) not in self._higher:
            self._higher[j, k] = self.activation(j).derivative(k)(self.z[j])
        return self._higher[j, k]

    def activation(self, j: int) -> Activation:
        """σ on node ``j``: that of the next map."""
        act = self.maps[j + 1].act
        assert act is not None  # only the first map acts on data
        return act

    def matrix(self, j: int) -> Operator:
        """The map into node ``j``, where something may still be asked of it."""
        op = self.op[j]
        assert op is not None  # only a first map is forgotten, and none asks for its gradients
        return op

    def _before(self, m: Map, inner: Tensor) -> None:
        """What the map ``m`` knows of its input, with metric ``inner`` (S, N, N)."""
        self.metric.append(m.C_b + m.C_W * inner)
        self.direct.append(m.lambda_b + m.lambda_W * inner)

    def _after(self, z: Tensor) -> Tensor:
        """Note z and σ, σ' of a node; the metric of its σ, which the next map sees."""
        j = len(self.z)
        self.z.append(z)
        act = self.activation(j)
        self.s.append(act(z))
        self.d.append(act.derivative(1)(z))
        return self.s[-1] @ self.s[-1].mT / z.shape[-1]

    def _skip(self, j: int, z: Tensor) -> Tensor:
        m = self.maps[j]
        return z + m.gamma * self.z[j - m.back] if m.gamma else z


def forward(
    arch: Network, X: Tensor, S: int, normals: Normals, implicit: bool, depth: int
) -> Trunk:
    """Preactivations of layers 1 … ``depth`` of S networks, and the metric of the next layer.

    Parameters
    ----------
    arch : Network
    X : Tensor, shape (N, n_0)
    S : int
        Networks.
    normals : Normals
    implicit : bool
        Draw the answers of the weight matrices instead of the matrices: Gaussian or orthogonal.
    depth : int
        Layers to evaluate; 1 … L.
    """
    trunk = Trunk(arch, normals, maps(arch))
    N = X.shape[0]
    inner = (X @ X.mT / X.shape[1]).expand(S, N, N)
    last = len(trunk.maps) - 1
    for j, m in enumerate(trunk.maps):
        trunk._before(m, inner)
        root, inverse = batch_factor_inverse(trunk.metric[-1])
        trunk.root.append(root)
        trunk.inverse.append(inverse)
        if m.layer >= depth:
            break
        x = trunk.s[-1] if j else X.expand(S, *X.shape)
        if implicit and j == 0 and arch.init == "gaussian":
            # nobody asks the first map anything else: its input is not random
            op, z = None, root @ normals.normal(S, N, m.n_out)
        else:
            op = _operator(m, arch.init, S, normals, implicit)
            z = op.apply(x, bias=True)
        trunk.op.append(op)
        z = trunk._skip(j, z)
        if j == last:
            trunk.z.append(z)
            break
        inner = trunk._after(z)
    return trunk


def drawn_trunk(
    arch: Network, X: Tensor, weights: Sequence[tuple[Tensor, Tensor | None]], normals: Normals
) -> Trunk:
    """The pass of networks whose weights are given, as far as their gradients need it.

    Parameters
    ----------
    arch : Network
    X : Tensor, shape (N, n_0)
    weights : sequence of (W, b)
        W (S, n_out, n_in) and b (S, n_out) of every map.
    normals : Normals
        For whoever draws more of these networks; nothing is drawn here.

    Returns
    -------
    Trunk
        Without Cholesky factors of the metrics.
    """
    trunk = Trunk(arch, normals, maps(arch))
    S, N = weights[0][0].shape[0], X.shape[0]
    inner = (X @ X.mT / X.shape[1]).expand(S, N, N)
    x = X.expand(S, *X.shape)
    for j, (m, (W, b)) in enumerate(zip(trunk.maps, weights, strict=True)):
        trunk._before(m, inner)
        op = DrawnMatrix(W, b)
        trunk.op.append(op)
        z = trunk._skip(j, op.apply(x, bias=True))
        if j == len(trunk.maps) - 1:
            trunk.z.append(z)
            break
        inner = trunk._after(z)
        x = trunk.s[-1]
    return trunk


def _operator(m: Map, init: str, S: int, normals: Normals, implicit: bool) -> Operator:
    if not implicit:
        return DrawnMatrix(*draw_matrix(m, init, S, normals))
    kind = Haar if init == "orthogonal" else Implicit
    return kind(S, m.n_out, m.n_in, m.C_W, m.C_b, normals)


def draw_matrix(m: Map, init: str, S: int, normals: Normals) -> tuple[Tensor, Tensor | None]:
    """W (S, n_out, n_in) and b (S, n_out) of a map, by the law ``init``; no b without variance.

    Parameters
    ----------
    m : Map
    init : {"gaussian", "orthogonal", "uniform"}
    S : int
        Networks.
    normals : Normals
    """
    W = draw_weights((S, m.n_out, m.n_in), m.C_W, init, normals)
    b = normals.normal(S, m.n_out) * m.C_b**0.5 if m.C_b else None
    return W, b

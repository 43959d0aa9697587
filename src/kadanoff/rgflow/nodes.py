r"""An architecture as a chain of maps, each neuron feeding the next one, and skips across them.

A two-layer block :math:`z' = b_2 + W_2\sigma(b_1 + W_1 z) + \gamma z` is two nodes, a linear one
(z) and the inner one, with a skip from the first across the second; a single block has its skip
across no node; a plain layer has none. The recursions of :mod:`kadanoff.rgflow.one_neuron` and
:mod:`kadanoff.rgflow.across_neurons` know nothing else of the architecture.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kadanoff.activations import activation
from kadanoff.architecture import Network
from kadanoff.rgflow.averages import Tables
from kadanoff.rgflow.collective import Field
from kadanoff.rgflow.kernel import Step, steps
from kadanoff.rgflow.tangent import mean_derivative
from kadanoff.rgflow.two_layers import Order, TwoLayers

__all__ = ["FlowNode", "Net", "chain"]


@dataclass(frozen=True)
class FlowNode:
    """A layer of neurons.

    ``step`` is the map that leaves it for the next node, None at the output; ``skip`` the node
    that its skip enters and the strength, None without; ``layer`` its number in the architecture,
    None inside a block.
    """

    step: Step | None
    K: Tensor
    Theta: Tensor
    width: int
    skip: tuple[int, float] | None
    layer: int | None


def chain(arch: Network, K: Sequence[Tensor], Theta: Sequence[Tensor]) -> list[FlowNode]:
    """The nodes of an architecture with kernels ``K`` and ``Theta`` at layers 1 … L.

    Parameters
    ----------
    arch : Network
    K, Theta : sequence of L Tensors, shape (N, N)
    """
    out: list[FlowNode] = []
    for step in steps(arch):
        l, at = step.layer - 1, len(out)
        width = arch.n[step.layer]
        plain = dataclasses.replace(step, gamma=0.0, inner_ratio=0.0)
        enters = at + (2 if step.inner_ratio else 1)
        skip = (enters, step.gamma) if step.gamma else None
        if not step.inner_ratio:
            out.append(FlowNode(plain, K[l], Theta[l], width, skip, step.layer))
            continue
        hidden, c = arch.hidden or width, step.C_W
        stream = dataclasses.replace(plain, activation=activation("linear"))
        first = _haar(stream, arch, width, hidden)
        out.append(FlowNode(first, K[l], Theta[l], width, skip, step.layer))
        inner_K = step.C_b + c * K[l]
        inner_Theta = step.lambda_b + step.lambda_W * K[l] + c * Theta[l]
        second = _haar(plain, arch, hidden, width)
        out.append(FlowNode(second, inner_K, inner_Theta, hidden, None, None))
    out.append(FlowNode(None, K[-1], Theta[-1], arch.n[-1], None, arch.L))
    return out


def _haar(step: Step, arch: Network, columns: int, rows: int) -> Step:
    share = columns / max(rows, columns) if arch.init == "orthogonal" else 0.0
    return dataclasses.replace(step, orthogonal=share)


class Net:
    """The nodes with one replica of all averages, and what the recursions ask of them.

    ``tables[k]`` belongs to node k; ``past[m][k]`` joins it to an earlier one, None where no
    skip does. Covariances are in absolute units: powers of 1/width are not taken out.
    """

    def __init__(
        self, nodes: list[FlowNode], tables: list[Tables], past: list[list[TwoLayers | None]]
    ) -> None:
        self.nodes, self.tables, self.past = nodes, tables, past
        self.maps = [node.step for node in nodes if node.step is not None]
        # node from which a skip enters, and its strength
        self.source = {node.skip[0]: (k, node.skip[1]) for k, node in enumerate(nodes) if node.skip}
        self.skips = skips(nodes)
        self.N = len(nodes[0].K)
        self.eye = torch.eye(self.N, dtype=torch.float64)

    def average(self, m: int, then: Order, q: int, now: Order) -> Tensor:
        """⟨σ⁽ⁱ⁾_aσ⁽ʲ⁾_b(node m) σ⁽ᵖ⁾_cσ⁽ᑫ⁾_d(node q)⟩ of one neuron, [a, b, c, d].

        Parameters
        ----------
        m : int
            Node of the first two factors.
        then : (int, int)
            Orders of their derivatives.
        q : int
            Node of the last two factors.
        now : (int, int)
            Orders of their derivatives.
        """
        if m == q:
            return self.tables[m].quad(*then, *now)
        if m > q:
            return self.average(q, now, m, then).permute(2, 3, 0, 1)
        past = self.past[q][m]
        assert past is not None
        return past.average(then, now)

    def slope(self, m: int, i: int = 0, j: int = 1) -> Tensor:
        """⟨∂_x(σ⁽ⁱ⁾_a σ⁽ʲ⁾_s)⟩ at node m, [x, a, s].

        Parameters
        ----------
        m : int
            Node.
        i, j : int
            Orders of the derivatives.
        """
        found = self.tables[m].X(i, j)
        first = torch.einsum("xa,as->xas", self.eye, found.first)
        return first + torch.einsum("xs,as->xas", self.eye, found.second)

    def push(self, k: int, fields: Field) -> Field:
        """f' of the map that leaves node k, without the skip."""
        return mean_derivative(self.maps[k], self.tables[k], self.nodes[k].Theta)(fields)

    def enter(self, l: int, fields: Field) -> Field:
        """From the collective variables where the skip into node l starts to node l."""
        start, gamma = self.source.get(l, (l - 1, 0.0))
        mapped = fields
        for k in range(start, l):
            mapped = self.push(k, mapped)
        return tuple(a + gamma**2 * f for a, f in zip(mapped, fields, strict=True))

    def after(self, k: int, fields: Field, l: int) -> Field:
        """From what the map of node k adds to node k + 1, through the maps between, to node l.

        Parameters
        ----------
        k : int
            Node that adds.
        fields : Field
            What it adds, one tensor a variable.
        l : int
            Node that is reached.
        """
        for j in range(k + 1, l):
            fields = self.push(j, fields)
        return fields

    def haar(self, m: int) -> float:
        """1 / order of the Haar matrix that leaves node m, 0 for independent weights."""
        return self.maps[m].orthogonal / self.nodes[m].width


def skips(nodes: list[FlowNode]) -> list[list[float]]:
    """Product of the gammas from node k to node m, 0 where no chain of skips joins them."""
    out = [[0.0] * len(nodes) for _ in nodes]
    for k in range(len(nodes)):
        at, g = k, 1.0
        while True:
            out[k][at] = g
            skip = nodes[at].skip
            if skip is None:
                break
            at, g = skip[0], g * skip[1]
    return out

"""Three variables: polynomials in ρ whose coefficients depend on the norms of both inputs.

The kernels of the last layer are interpolated at m × m values of (√K11, √K22) of the first layer.
In a block, the coefficient of every degree is a product of matrices of rank m, so that it comes
from one small matrix product and the sum over degrees from Clenshaw's recurrence.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kadanoff.errors import ConvergenceError
from kadanoff.kernels.composite import Compiled
from kadanoff.kernels.evaluators import Inputs
from kadanoff.kernels.layers import propagate
from kadanoff.kernels.polynomials import chebyshev_nodes

__all__ = ["Surface"]

_ORDERS = (4, 6, 8, 11, 15, 20)


class Surface:
    """Kernels of inputs with unequal norms (or biases), by interpolation in three variables."""

    def __init__(
        self,
        arch: Any,
        one: Inputs,
        two: Inputs,
        equal: bool,
        get: tuple,
        accuracy: float,
        cache: dict,
    ) -> None:
        self.arch, self.get, self.one, self.two = arch, get, one, two
        roots = [(arch.C_b[0] + arch.C_W[0] * v.metric).sqrt() for v in (one, two)]
        low = min(float(r.min()) for r in roots)
        high = max(float(r.max()) for r in roots)
        self.centre, self.half = (low + high) / 2, max((high - low) / 2, 1e-12)
        self.order = self._order(accuracy)
        self.compiled = Compiled(lambda rho: self._values(rho, self.order), accuracy)
        # one scale for all pairs of nodes: what matters is the largest entry of the result
        shape = (len(get), -1)
        peak = self.compiled.scale.view(shape).amax(1, keepdim=True)
        self.compiled.scale = peak.expand(len(get), self.order**2).reshape(-1)
        self.root1, self.weights1 = roots[0], self._weights(roots[0])
        self.root2, self.weights2 = roots[1], self._weights(roots[1])
        self._tables: dict[int, Tensor] = {}

    def _kernels(self, r1: Tensor, rho: Tensor, r2: Tensor) -> Tensor:
        b, w = self.arch.C_b[0], self.arch.C_W[0]
        found = propagate(self.arch, (r1**2 - b) / w, (rho * r1 * r2 - b) / w, (r2**2 - b) / w)
        both = dict(zip(("nngp", "ntk"), found))
        return torch.stack([both[name] for name in self.get])

    def _values(self, rho: Tensor, order: int) -> Tensor:
        """(P m², n): kernels at all pairs of nodes, through the symmetry of the pair."""
        nodes = self.centre + self.half * chebyshev_nodes(order)
        i, j = torch.triu_indices(order, order).unbind()
        r1, r2 = nodes[i].repeat_interleave(len(rho)), nodes[j].repeat_interleave(len(rho))
        found = self._kernels(r1, rho.repeat(len(i)), r2).view(-1, len(i), len(rho))
        full = rho.new_empty(found.shape[0], order, order, len(rho))
        full[:, i, j] = found
        full[:, j, i] = found
        return full.view(-1, len(rho))

    def _order(self, accuracy: float) -> int:
        """The fewest nodes in each norm that interpolate to the accuracy, at sampled points."""
        t = torch.tensor([-0.97, -0.6, -0.1, 0.45, 0.9], dtype=torch.float64)
        r = self.centre + self.half * t
        rho = torch.tensor([-0.6, 0.0, 0.7, 0.99, 1.0], dtype=torch.float64)
        r1, r2, c = (v.reshape(-1) for v in torch.meshgrid(r, r, rho, indexing="ij"))
        expected = self._kernels(r1, c, r2).view(-1, 5, 5, 5)
        scale = expected.abs().amax((1, 2, 3))
        error = 0.0
        for order in _ORDERS:
            w = self._weights(r, order)
            values = self._values(rho, order).view(-1, order, order, 5)
            found = torch.einsum("im,pmnr,jn->pijr", w, values, w)
            error = float(((found - expected).abs().amax((1, 2, 3)) / scale).max())
            if error < accuracy / 2:
                return order
        raise ConvergenceError(
            f"The kernels are not smooth in the norms of the inputs: {_ORDERS[-1]} nodes leave "
            f"{error:.1e}.",
            "Evaluate layer by layer.",
        )

    def _weights(self, roots: Tensor, order: int | None = None) -> Tensor:
        """Lagrange weights (N, m) of the nodes at √K of each input (barycentric formula)."""
        order = order or self.order
        x = ((roots - self.centre) / self.half).clamp(-1, 1)
        nodes = chebyshev_nodes(order)
        k = torch.arange(order, dtype=torch.float64)
        signs = torch.sin(torch.pi * (k + 0.5) / order) * (-1.0) ** k
        gap = x[:, None] - nodes
        exact = gap.abs() < 1e-14
        ratio = signs / torch.where(exact, torch.ones_like(gap), gap)
        weights = ratio / ratio.sum(1, keepdim=True)
        return torch.where(exact.any(1, keepdim=True), exact.double(), weights)

    def inner(self, rows: slice, columns: slice) -> Tensor:
        return self.one.X[rows] @ self.two.X[columns].T

    def __call__(self, rows: slice, columns: slice, s: Tensor, out: list[Tensor]) -> None:
        arch = self.arch
        K12 = s.double().mul_(arch.C_W[0] / arch.n[0]).add_(arch.C_b[0])
        left, right = self.root1[rows, None], self.root2[None, columns]
        rho = K12.div_(left.clamp_min(1e-150)).div_(right.clamp_min(1e-150)).clamp_(-1, 1)
        low, high = (float(v) for v in torch.aminmax(rho))
        kind, centre, half, coefficients = self.compiled.series(low, high)
        if kind == "root":
            rho = (1 - rho).sqrt_()
        elif kind == "angle":
            rho = rho.acos_()
        x = rho.sub_(centre).div_(half)
        m, n = self.order, coefficients.shape[1]
        table = coefficients.view(len(out), m, m, n)
        W1, W2 = self.weights1[rows], self.weights2[columns].T.contiguous()
        two_x = x * 2
        for p, o in enumerate(out):
            # coefficient of degree k in this block: (W1 C_k) W2
            L = torch.einsum("im,mqk->kiq", W1, table[p])
            b1 = L[n - 1] @ W2
            b2 = torch.zeros_like(b1)
            for k in range(n - 2, 0, -1):
                b2.neg_().addmm_(L[k], W2).addcmul_(two_x, b1)
                b1, b2 = b2, b1
            if n > 1:
                b1 = b2.neg_().addmm_(L[0], W2).addcmul_(x, b1)
            o.copy_(b1)

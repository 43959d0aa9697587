"""Three variables: polynomials in ρ whose coefficients depend on the norms of both inputs.

The kernels of the last layer are interpolated at m × m values of (√K11, √K22) of the first layer.
The coefficient of every degree in ρ is then a symmetric m × m table of low rank (rank 1 for one
hidden layer, by Mehler's formula, and little more for deep ones), so that in a block it is a
product of thin matrices, added in Horner's or Clenshaw's recurrence.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kadanoff.architecture import Network
from kadanoff.errors import ConvergenceError
from kadanoff.kernels.composite import Compiled, Piece
from kadanoff.kernels.evaluators import GramTask, Layered, hide_diagonal
from kadanoff.kernels.layers import bracket, propagate
from kadanoff.kernels.polynomials import chebyshev_nodes, well_conditioned

__all__ = ["Surface"]

# largest ρ for activations with a kink
_KINKED = 0.8
_ORDERS = (4, 6, 8, 11, 15, 20, 27, 36)


class Surface:
    """Kernels of inputs with unequal norms (or biases), by interpolation in three variables."""

    def __init__(self, task: GramTask) -> None:
        arch, one, two, names = task.arch, task.one, task.two, task.names
        self.arch, self.left, self.right, self.symmetric = arch, one.X, two.X, task.symmetric
        roots = [(arch.C_b[0] + arch.C_W[0] * v.metric).sqrt() for v in (one, two)]
        low = min(float(r.min()) for r in roots)
        high = max(float(r.max()) for r in roots)
        low, high = bracket(low, high)
        # where a kink meets biases, the map is singular where two inputs coincide: blocks that come
        # near go through the layers
        kinked = any(not a.smooth for a in arch.activations)
        self.limit = _KINKED if kinked else 1.0
        self.layered = Layered(task) if kinked else None
        key = (low, high, names)
        if key not in task.cache:
            task.cache[key] = _Table(arch, low, high, names, task.accuracy, self.limit)
        self.table: _Table = task.cache[key]
        self.compiled = self.table.compiled
        self.root1, self.weights1 = roots[0], self.table.weights(roots[0])
        self.root2, self.weights2 = self.root1, self.weights1
        if not task.symmetric:
            self.root2, self.weights2 = roots[1], self.table.weights(roots[1])
        self._factors: dict[int, list[list[tuple[Tensor, Tensor]]]] = {}

    def __call__(self, rows: slice, columns: slice, s: Tensor, out: Tensor) -> None:
        arch = self.arch
        K12 = s.double() * (arch.C_W[0] / arch.n[0])
        if arch.C_b[0]:
            K12.add_(arch.C_b[0])
        if self.symmetric:
            hide_diagonal(K12, rows, columns)
        rho = K12.div_(self.root1[rows, None]).div_(self.root2[columns]).clamp_(-1, 1)
        low, high = (float(v) for v in torch.aminmax(rho))
        if self.layered is not None and high > self.limit:
            self.layered(rows, columns, s, out)
            return
        piece = self.compiled.series(low, high)
        x = piece.variable(rho, 0.0, 1.0)
        work = out if out.dtype == torch.float64 else x.new_empty(out.shape)
        horner, factors = self._of(piece)
        degrees = [
            [(L[rows], R[:, columns]) for L, R in functions] for functions in factors
        ]  # degree, function
        if horner:
            _horner(degrees, x, work)
        else:
            for p, w in enumerate(work):
                _clenshaw([d[p] for d in degrees], x, w)
        if work is not out:
            out.copy_(work)

    def _of(self, piece: Piece) -> tuple[bool, list[list[tuple[Tensor, Tensor]]]]:
        """Factors of every degree at the norms of all rows: (N1, q) and (q, N2), per function."""
        horner, tables = self.table.factors(piece)
        if id(piece) not in self._factors:
            self._factors[id(piece)] = [self._at_rows(functions) for functions in tables]
        return horner, self._factors[id(piece)]

    def _at_rows(self, functions: list[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
        """Factors at the nodes, of each function, interpolated to the norms of all rows."""
        found = []
        for U, V in functions:
            left = self.weights1 @ U.to(self.weights1.device)
            right = self.weights2 @ V.to(self.weights2.device)
            found.append((left, right.T.contiguous()))
        return found


def _horner(degrees: list[list[tuple[Tensor, Tensor]]], x: Tensor, out: Tensor) -> None:
    for k, functions in enumerate(reversed(degrees)):
        if k:
            out.mul_(x)
        for o, (L, R) in zip(out, functions):
            if not k:
                torch.mm(L, R, out=o)
            elif L.shape[1]:
                o.addmm_(L, R)


def _clenshaw(degrees: list[tuple[Tensor, Tensor]], x: Tensor, out: Tensor) -> None:
    two_x, n = x * 2, len(degrees)
    b1 = degrees[n - 1][0] @ degrees[n - 1][1]
    b2 = torch.zeros_like(b1)
    for k in range(n - 2, 0, -1):
        b2.neg_().addmm_(*degrees[k]).addcmul_(two_x, b1)
        b1, b2 = b2, b1
    if n > 1:
        b1 = b2.neg_().addmm_(*degrees[0]).addcmul_(x, b1)
    out.copy_(b1)


class _Table:
    """The compiled map for √K between ``low`` and ``high``, independent of the data."""

    def __init__(
        self,
        arch: Network,
        low: float,
        high: float,
        names: tuple[str, ...],
        accuracy: float,
        limit: float,
    ) -> None:
        self.arch, self.names, self.accuracy, self.limit = arch, names, accuracy, limit
        self.centre, self.half = (low + high) / 2, max((high - low) / 2, 1e-12)
        # how many angles: what the corners of the range need
        ends = torch.tensor([low, low, high, self.centre], dtype=torch.float64)
        ends = ends.clamp_min(high * 1e-8)
        others = torch.tensor([low, high, high, self.centre], dtype=torch.float64)
        others = others.clamp_min(high * 1e-8)
        probe = Compiled(lambda rho: self._at(ends, others, rho), accuracy, limit=limit)
        self.order = self._order(accuracy)
        self.compiled = Compiled(
            lambda rho: self._values(rho, self.order), accuracy, first=probe.nodes, limit=limit
        )
        # one scale for all pairs of nodes: what matters is the largest entry of the result
        peak = self.compiled.scale.view(len(names), -1).amax(1, keepdim=True)
        self.peak = peak[:, 0]
        self.compiled.scale = peak.expand(len(names), self.order**2).reshape(-1)
        self._factors: dict[int, tuple[bool, list[list[tuple[Tensor, Tensor]]]]] = {}

    def _kernels(self, r1: Tensor, rho: Tensor, r2: Tensor) -> Tensor:
        b, w = self.arch.C_b[0], self.arch.C_W[0]
        found = propagate(self.arch, (r1**2 - b) / w, (rho * r1 * r2 - b) / w, (r2**2 - b) / w)
        both: dict[str, Tensor] = dict(zip(("nngp", "ntk"), found))
        return torch.stack([both[name] for name in self.names])

    def _at(self, r1: Tensor, r2: Tensor, rho: Tensor) -> Tensor:
        """(P · pairs, n) at all ρ for each pair."""
        a, b = r1.repeat_interleave(len(rho)), r2.repeat_interleave(len(rho))
        return self._kernels(a, rho.repeat(len(r1)), b).view(-1, len(rho))

    def _values(self, rho: Tensor, order: int) -> Tensor:
        """(P m², n): kernels at all pairs of nodes, through the symmetry of the pair."""
        nodes = self.centre + self.half * chebyshev_nodes(order)
        i, j = torch.triu_indices(order, order).unbind()
        found = self._at(nodes[i], nodes[j], rho).view(-1, len(i), len(rho))
        full = rho.new_empty(found.shape[0], order, order, len(rho))
        full[:, i, j] = found
        full[:, j, i] = found
        return full.view(-1, len(rho))

    def _order(self, accuracy: float) -> int:
        """The fewest nodes in each norm that interpolate to the accuracy, at sampled points."""
        t = torch.tensor([-0.97, -0.1, 0.9], dtype=torch.float64)
        r = self.centre + self.half * t
        rho = torch.tensor([-0.6, 0.0, 0.7, 0.99, 1.0], dtype=torch.float64) * self.limit
        r1, r2, c = (v.reshape(-1) for v in torch.meshgrid(r, r, rho, indexing="ij"))
        expected = self._kernels(r1, c, r2).view(-1, 3, 3, 5)
        scale = expected.abs().amax((1, 2, 3))
        error = 0.0
        for order in _ORDERS:
            w = self.weights(r, order)
            values = self._values(rho, order).view(-1, order, order, 5)
            found = torch.einsum("im,pmnr,jn->pijr", w, values, w)
            error = float(((found - expected).abs().amax((1, 2, 3)) / scale).max())
            if error < accuracy / 10:
                return order
        raise ConvergenceError(
            f"The kernels are not smooth in the norms of the inputs: {_ORDERS[-1]} nodes leave "
            f"{error:.1e}.",
            "Evaluate layer by layer.",
        )

    def weights(self, roots: Tensor, order: int | None = None) -> Tensor:
        """Lagrange weights (N, m) of the nodes at √K of each input (barycentric formula)."""
        order = order or self.order
        x = ((roots - self.centre) / self.half).clamp(-1, 1)
        nodes = chebyshev_nodes(order).to(roots.device)
        k = torch.arange(order, dtype=torch.float64, device=roots.device)
        signs = torch.sin(torch.pi * (k + 0.5) / order) * (-1.0) ** k
        gap = x[:, None] - nodes
        exact = gap.abs() < 1e-14
        ratio = signs / torch.where(exact, torch.ones_like(gap), gap)
        weights = ratio / ratio.sum(1, keepdim=True)
        return torch.where(exact.any(1, keepdim=True), exact.double(), weights)

    def factors(self, piece: Piece) -> tuple[bool, list[list[tuple[Tensor, Tensor]]]]:
        """(Horner or Clenshaw, factors U, V (m, q) with table ≈ U Vᵀ for each degree, function)."""
        if id(piece) not in self._factors:
            m, P = self.order, len(self.names)
            monomials = well_conditioned(piece.coefficients, self.peak.repeat_interleave(m * m))
            horner = monomials is not None
            series = piece.coefficients if monomials is None else monomials
            tables = series.view(P, m, m, -1).permute(3, 0, 1, 2)
            # interpolation from the nodes amplifies by its Lebesgue constant, squared
            allowed = self.accuracy * self.peak / (150 * len(tables) * (1 + math.log(m)) ** 2)
            kept = [_low_ranks(row, allowed) for row in tables]
            self._factors[id(piece)] = horner, kept
        return self._factors[id(piece)]


def _low_ranks(tables: Tensor, allowed: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Factors of each function's table, to its own error."""
    return [_low_rank(table, float(a)) for table, a in zip(tables, allowed)]


def _low_rank(table: Tensor, allowed: float) -> tuple[Tensor, Tensor]:
    values, vectors = torch.linalg.eigh((table + table.T) / 2)
    keep = values.abs() > allowed
    return vectors[:, keep] * values[keep], vectors[:, keep]

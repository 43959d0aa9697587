"""One parameter of one random network: undrawn where it can be, drawn where it must be."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kadanoff.program.law import Law
from kadanoff.program.matrix import Matrix, Side

if TYPE_CHECKING:
    from kadanoff.program.mode import Network

__all__ = ["Source"]

# a law that is not normal is drawn where that is cheap, or where its excess kurtosis shows
_CHEAP = 1 << 16
_EXCESS = 0.02


class Source:
    """What a parameter answers, in one network.

    Parameters
    ----------
    name : str
    shape : torch.Size
    dtype : torch.dtype
    law : Law
    network : Network
        Gives random numbers, the device, and the method.

    Attributes
    ----------
    drawn : str or None
        Why the parameter was drawn; None if it was not.
    """

    def __init__(
        self, name: str, shape: torch.Size, dtype: torch.dtype, law: Law, network: Network
    ) -> None:
        self.name, self.shape, self.dtype, self.law = name, shape, dtype, law
        self.network = network
        self.drawn: str | None = None
        self._leaf: Tensor | None = None
        self._split: int | None = None  # leading axes that count rows
        self._blocks: dict[tuple[int, int], Matrix] = {}
        self._tables: list[tuple[Tensor, Tensor]] = []  # ids (U,), rows (U, n) that were looked up
        self._rest: Matrix | None = None
        self._functionals: list[list[Tensor]] = []

    # -- whole ---------------------------------------------------------------------------------

    def leaf(self, why: str) -> Tensor:
        """The parameter in numbers, a leaf that collects gradients; drawn when first asked."""
        if self._leaf is None:
            self.drawn = why
            with torch.no_grad():
                found = self._sample(self.shape)
                self._agree(found)
            self._leaf = found.requires_grad_(found.is_floating_point())
        return self._leaf

    def _sample(self, shape: torch.Size | tuple[int, ...]) -> Tensor:
        network = self.network
        network.allow(torch.Size(shape).numel() * self.dtype.itemsize, self.name)
        return self.law.sample(shape, network.generator, network.device, self.dtype)

    def _agree(self, found: Tensor) -> None:
        """Write into a fresh draw what the parameter has answered so far."""
        if self._blocks:
            assert self._split is not None
            flat = found.view(self.shape[: self._split].numel(), -1)
            for (start, stop), matrix in self._blocks.items():
                flat[start:stop] = matrix.materialise(flat[start:stop])
        if self._rest is not None:
            free = self._free()
            found[free] = self._rest.materialise(found[free])
        for ids, rows in self._tables:
            found[ids] = rows.detach()

    # -- as a matrix ---------------------------------------------------------------------------

    def matrix(self, start: int, stop: int, split: int) -> Matrix | None:
        """Rows start … stop of the parameter, its first ``split`` axes flattened to rows.

        None if they cannot be answered undrawn: another law, or other rows in use.

        Parameters
        ----------
        start, stop : int
            Rows of the flattened parameter.
        split : int
            Axes that are flattened to rows.
        """
        law = self.law
        if self._leaf is not None or self._tables or not law.conditional or law.zero_rows:
            return None
        if self._split not in (None, split):
            return None
        if law.kind == "orthogonal" and stop - start < self.shape[:split].numel():
            return None  # parts of an orthogonal matrix depend on each other
        if law.kind == "orthogonal" and split != 1:
            return None  # orthogonal as (first axis, all others)
        found = self._blocks.get((start, stop))
        if found is None:
            if any(a < stop and start < b for a, b in self._blocks):
                return None
            self._split = split
            columns = self.shape[split:].numel()
            found = self._blocks[start, stop] = self.network.matrix(
                self.name, stop - start, columns, law
            )
        return found

    def plain(self, x: Tensor, side: Side) -> bool:
        """Whether the law differs from a normal one where that would show, or costs nothing."""
        pooled = self.network.pool is not None and self.name not in self.network.apart
        if self.law.kind in ("normal", "orthogonal") or pooled:
            return False
        if self.shape.numel() <= _CHEAP and self.network.method != "undrawn":
            return True
        if side == "left":
            return False
        square = x.detach().reshape(-1, x.shape[-1]).double().square()
        share = square.square().sum(-1) / square.sum(-1).square().clamp_min(1e-300)
        return abs(self.law.excess) * float(share.mean()) > _EXCESS

    # -- as a table ----------------------------------------------------------------------------

    def rows(self, ids: Tensor) -> tuple[Tensor, Tensor] | None:
        """The rows that ``ids`` name: where each is found, and a table (U, n) with gradient.

        None if the whole table has to be drawn.
        """
        plain = self.law.kind in ("normal", "uniform", "trunc_normal", "empirical")
        if self._leaf is not None or self._blocks or not plain or len(self.shape) != 2:
            return None
        if self._rest is not None and self._rest.uses:
            known = self._known()
            if not bool(torch.isin(ids, known).all()):
                return None
        self._look_up(torch.unique(ids))
        known = self._known()
        order = torch.argsort(known)
        table = torch.cat([rows for _, rows in self._tables])
        where = order[torch.searchsorted(known[order], ids.contiguous())]
        return where, table

    def _look_up(self, ids: Tensor) -> None:
        if self.law.zero_rows and not self._tables:
            zero = torch.tensor(self.law.zero_rows, device=ids.device)
            ids = torch.unique(torch.cat([ids, zero % self.shape[0]]))
        if self._tables:
            ids = ids[~torch.isin(ids, self._known())]
        if not len(ids):
            return
        network = self.network
        law = Law(**{**self.law.__dict__, "zero_rows": ()})
        rows = law.sample((len(ids), self.shape[1]), network.generator, network.device, self.dtype)
        for row in self.law.zero_rows:
            rows[ids == row % self.shape[0]] = 0
        self._tables.append((ids, rows.requires_grad_(True)))

    def _known(self) -> Tensor:
        return torch.cat([ids for ids, _ in self._tables])

    def _free(self) -> Tensor:
        """Rows that were never looked up, in order."""
        free = torch.ones(self.shape[0], dtype=torch.bool, device=self.network.device)
        free[self._known()] = False
        return free.nonzero().squeeze(1)

    def readout(self, x: Tensor, answer: Callable[[Tensor, Matrix, Side], Tensor]) -> Tensor | None:
        """W x where some rows of W have been looked up (a tied readout): (..., R)."""
        if not self._tables or self._leaf is not None or not self.law.gaussian:
            return None
        known, free = self._known(), self._free()
        if self._rest is None:
            self._rest = self.network.matrix(self.name, len(free), self.shape[1], self.law)
        if not self._rest.undrawn(x.shape[:-1].numel()):
            return None
        table = torch.cat([rows for _, rows in self._tables])
        out = torch.cat([x @ table.mT, answer(x, self._rest, "right")], -1)
        order = torch.argsort(torch.cat([known, free]))
        return out[..., order]

    @property
    def looked_up(self) -> bool:
        """Whether rows have been looked up."""
        return bool(self._tables)

    # -- gradients -----------------------------------------------------------------------------

    def _matrices(self) -> list[Matrix]:
        return [*self._blocks.values(), *([] if self._rest is None else [self._rest])]

    def forget(self) -> None:
        """Start a new backward pass."""
        for matrix in self._matrices():
            matrix.forget()
        for leaf in self._leaves():
            leaf.grad = None

    def _leaves(self) -> list[Tensor]:
        return [t for t in (self._leaf, *(rows for _, rows in self._tables)) if t is not None]

    def gradient_square(self) -> Tensor | None:
        """|∂𝓛/∂W|² of the pass that was recorded; None if the loss does not depend on it."""
        if self._leaf is not None:
            whole = self._whole_gradient()
            return None if whole is None else whole.double().square().sum()
        parts = [matrix.gradient_square() for matrix in self._matrices()]
        parts += [
            rows.grad.double().square().sum() for _, rows in self._tables if rows.grad is not None
        ]
        found = [part for part in parts if part is not None]
        return torch.stack(found).sum() if found else None

    def set_apart(self) -> None:
        """Keep the gradient of this pass as one functional's, and start the next one's."""
        apart: list[Tensor] = []
        if self._leaf is not None:
            whole = self._whole_gradient()
            apart = [] if whole is None else [whole.detach().clone()]
        else:
            apart = [
                torch.zeros_like(rows) if rows.grad is None else rows.grad.clone()
                for _, rows in self._tables
            ]
        self._functionals.append(apart)
        for matrix in self._matrices():
            if self._leaf is not None:
                matrix.pairs = []
            matrix.set_apart()
        for leaf in self._leaves():
            leaf.grad = None

    def tangent(self) -> Tensor:
        """Σ ∂f_k/∂θ ∂f_l/∂θ over this parameter, of the functionals set apart: (K, K)."""
        K = len(self._functionals)
        total = torch.zeros(K, K, dtype=torch.float64, device=self.network.device)
        for matrix in self._matrices():
            total += matrix.tangent().to(total.device)
        for k, a in enumerate(self._functionals):
            for l, b in enumerate(self._functionals):
                for x, y in zip(a, b):
                    total[k, l] += (x.double() * y.double()).sum()
        return total

    def _whole_gradient(self) -> Tensor | None:
        """∂𝓛/∂W in numbers: of the leaf, and of what was answered before it was drawn."""
        assert self._leaf is not None
        total = self._leaf.grad
        if total is not None and total.is_sparse:
            total = total.to_dense()
        if self._blocks:
            for (start, stop), matrix in self._blocks.items():
                more = matrix.gradient()
                if more is not None:
                    total = torch.zeros_like(self._leaf) if total is None else total.clone()
                    assert self._split is not None
                    flat = total.view(self.shape[: self._split].numel(), -1)
                    flat[start:stop] += more.to(flat.dtype)
        more = None if self._rest is None else self._rest.gradient()
        if more is not None or any(rows.grad is not None for _, rows in self._tables):
            total = torch.zeros_like(self._leaf) if total is None else total.clone()
            if more is not None:
                total[self._free()] += more.to(total.dtype)
            for ids, rows in self._tables:
                if rows.grad is not None:
                    total[ids] += rows.grad
        return total

"""Forward passes that read only the weight rows they need; each replaces one module's forward.

The module keeps its class, its parameters and its names: only ``forward`` is set on the instance,
so state dicts are unchanged, and deleting the attribute restores the dense pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kadanoff.errors import UsageError
from kadanoff.sparsity import backends
from kadanoff.sparsity.blocks import Block, Matrix
from kadanoff.sparsity.predictor import Predictor

__all__ = ["FastLinear", "SkipBlock", "SkipLinear", "UnionCosts"]


@dataclass
class UnionCosts:
    """Measured seconds for a few tokens: dense second matrix against gathered rows."""

    tokens: tuple[int, ...] = ()
    dense: tuple[float, ...] = ()
    per_row: tuple[float, ...] = ()

    def limit(self, tokens: int) -> float:
        """Number of active rows (of the union) up to which gathering is the faster way."""
        if not self.tokens or tokens > self.tokens[-1]:
            return 0.0
        # the next larger measured batch: dense costs more there, rows cost more as well
        index = next(i for i, t in enumerate(self.tokens) if t >= tokens)
        return 0.97 * self.dense[index] / self.per_row[index]


class _Skip:
    """What the three have in common: checks, and the layout made once."""

    def __init__(self, module: nn.Module, backend: str, down: Matrix | None) -> None:
        self.module = module
        self.backend = backend
        self.down = down
        self.costs = UnionCosts()
        self.table: Tensor = torch.empty(0)
        self.version = -1
        if down is not None:
            self._lay_out()

    def _lay_out(self) -> None:
        assert self.down is not None
        weight: Any = self.down.module.weight
        # a row a neuron; no copy if the model keeps it that way (GPT-2's Conv1D)
        self.table = self.down.rows().t().contiguous()
        self.version = weight._version

    def _fresh_table(self) -> Tensor:
        assert self.down is not None
        weight: Any = self.down.module.weight
        same = weight.dtype == self.table.dtype and weight.device == self.table.device
        if weight._version != self.version or not same:
            self._lay_out()
        return self.table

    def dense(self, *args: Any, **kwargs: Any) -> Tensor:
        return type(self.module).forward(self.module, *args, **kwargs)

    def _refuses(self, x: Tensor) -> bool:
        """Whether this call must be dense; training mode is an error."""
        if self.module.training:
            raise UsageError(
                f"An accelerated {type(self.module).__name__} was called in training mode.",
                "Call model.eval(), or undo the acceleration with kadanoff.sparsity.restore.",
            )
        return torch.is_grad_enabled() and x.requires_grad

    def _union(self, a: Tensor, bias: Tensor | None) -> Tensor | None:
        """Second matrix on (T, m) by the union of active rows; None if dense is faster."""
        limit = self.costs.limit(len(a))
        if limit <= 0:
            return None
        rows = (a != 0).any(0).nonzero().squeeze(1)
        if len(rows) > limit:
            return None
        return backends.load(self.backend).combine_union(self._fresh_table(), rows, a, bias)


class SkipLinear(_Skip):
    """A linear map whose input is mostly zeros: reads the rows of its nonzero inputs alone."""

    def __init__(self, matrix: Matrix, backend: str) -> None:
        super().__init__(matrix.module, backend, matrix)

    def __call__(self, x: Tensor) -> Tensor:
        if self._refuses(x):
            return self.dense(x)
        count = x.numel() // x.shape[-1]
        assert self.down is not None
        if count == 1:
            backend = backends.load(self.backend)
            rows, values = backend.nonzero(x.reshape(-1))
            y = backend.combine(self._fresh_table(), rows, values, self.down.bias())
            return y.reshape(*x.shape[:-1], -1)
        if count and count <= (self.costs.tokens or (0,))[-1]:
            y = self._union(x.reshape(count, -1), self.down.bias())
            if y is not None:
                return y.reshape(*x.shape[:-1], -1)
        return self.dense(x)


class FastLinear(_Skip):
    """A dense linear map on one token, at the speed of memory."""

    def __init__(self, matrix: Matrix, backend: str) -> None:
        super().__init__(matrix.module, backend, None)
        self.matrix = Matrix(matrix.path, matrix.module, matrix.transposed)

    def __call__(self, x: Tensor) -> Tensor:
        if self._refuses(x) or x.numel() != x.shape[-1] or not self.matrix.rows().is_contiguous():
            return self.dense(x)
        y = backends.load(self.backend).matvec(self.matrix.rows(), self.matrix.bias(), x.view(-1))
        return y.reshape(*x.shape[:-1], -1)


class SkipBlock(_Skip):
    """A whole MLP block on one token; a few tokens by the union of their active sets."""

    def __init__(
        self, module: nn.Module, block: Block, backend: str, predictor: Predictor | None = None
    ) -> None:
        super().__init__(module, backend, block.down)
        assert block.program is not None
        self.first, self.up, self.program = block.first, block.up, block.program
        self.predictor = predictor

    def __call__(self, x: Tensor) -> Tensor:
        if self._refuses(x):
            return self.dense(x)
        count = x.numel() // x.shape[-1]
        if count == 1:
            return self.one(x.reshape(-1)).reshape(*x.shape[:-1], -1)
        if count and count <= (self.costs.tokens or (0,))[-1]:
            y = self.few(x.reshape(count, -1))
            if y is not None:
                return y.reshape(*x.shape[:-1], -1)
        return self.dense(x)

    def one(self, x: Tensor) -> Tensor:
        """The block on one token x (d,)."""
        backend = backends.load(self.backend)
        assert self.down is not None
        if self.predictor is None:
            z = backend.matvec(self.first.rows(), self.first.bias(), x)
            rows, values = backend.nonzero(self.program(z))
        else:
            guess = self.predictor.rows(x)
            z = backend.matvec_rows(self.first.rows(), self.first.bias(), x, guess)
            rows, values = backend.nonzero(self.program(z))
            rows = guess[rows]
        if self.up is not None:
            values = values * backend.matvec_rows(self.up.rows(), self.up.bias(), x, rows)
        return backend.combine(self._fresh_table(), rows, values, self.down.bias())

    def few(self, x: Tensor) -> Tensor | None:
        """The block on (T, d); None if the union of active sets is too large to pay."""
        assert self.down is not None
        a = self.program(F.linear(x, self.first.rows(), self.first.bias()))
        limit = self.costs.limit(len(x))
        rows = (a != 0).any(0).nonzero().squeeze(1)
        if len(rows) > limit:
            # the first matrix has been read already: finish densely from here
            if self.up is not None:
                a = a * F.linear(x, self.up.rows(), self.up.bias())
            return F.linear(a, self.down.rows(), self.down.bias())
        if self.up is not None:
            # gathering copies the rows, so three times their bytes move
            if 3 * len(rows) < a.shape[1]:
                bias = self.up.bias()
                bias = None if bias is None else bias[rows]
                picked = F.linear(x, self.up.rows()[rows], bias)
                values = torch.zeros_like(a).index_copy_(1, rows, a[:, rows] * picked)
                a = values
            else:
                a = a * F.linear(x, self.up.rows(), self.up.bias())
        backend = backends.load(self.backend)
        return backend.combine_union(self._fresh_table(), rows, a, self.down.bias())

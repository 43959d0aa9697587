"""Forward passes that read only the weight rows they need; each replaces one module's forward.

The module keeps its class, its parameters and its names: only ``forward`` is set on the instance,
so state dicts are unchanged, and deleting the attribute restores the dense pass.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kadanoff.errors import UsageError
from kadanoff.sparsity import backends
from kadanoff.sparsity.blocks import Block, LinearMap, recipe_of
from kadanoff.sparsity.keep import topk
from kadanoff.sparsity.predictor import Predictor
from kadanoff.sparsity.screen import make_screen

__all__ = ["FastLinear", "SkipBlock", "SkipLinear", "UnionCosts"]


@dataclass(frozen=True)
class UnionCosts:
    """What a few tokens at once may read: batch size → rows up to which gathering was faster.

    0 where the union of the model's own tokens is too large to pay.
    """

    tokens: tuple[int, ...] = ()
    rows: tuple[float, ...] = ()

    def limit(self, tokens: int) -> float:
        """Rows of the union up to which gathering is the faster way for so many tokens."""
        if not self.tokens or tokens > self.tokens[-1]:
            return 0.0
        index = next(i for i, t in enumerate(self.tokens) if t >= tokens)
        # between two measured sizes both must allow it
        below = index if self.tokens[index] == tokens else max(0, index - 1)
        return min(self.rows[below], self.rows[index])


def _stamp(matrices: list[LinearMap]) -> tuple[Any, ...]:
    """Changes when a parameter moves or is written to."""
    found: list[Any] = []
    for matrix in matrices:
        module: Any = matrix.module
        values = module.weight, getattr(module, "bias", None)
        found += [
            # tensors made in inference mode keep no version, and may not be written to
            (v.data_ptr(), 0 if v.is_inference() else v._version, v.dtype)
            for v in values
            if v is not None
        ]
    return tuple(found)


class _Skip:
    """What the three have in common: checks, and the layout made once."""

    def __init__(self, module: nn.Module, backend: str, matrices: list[LinearMap]) -> None:
        self.module = module
        self.backend = backend
        self.matrices = matrices
        self.costs = UnionCosts()
        self.skipped = 0  # calls that did not run as the model's own
        self._laid: tuple[Any, ...] | None = None
        self._parts: Any = None
        self._layout()

    def __getstate__(self) -> dict[str, Any]:
        # the layout is made anew: a copy of the model has its weights elsewhere
        return self.__dict__ | {"_laid": None, "_parts": None}

    def lay_out(self) -> Any:
        raise NotImplementedError

    def _layout(self) -> Any:
        """The weights in the order they are read in, renewed if the model's have changed."""
        stamp = _stamp(self.matrices)
        if stamp != self._laid:
            with torch.no_grad():
                self._parts = self.lay_out()
            self._laid = stamp
        return self._parts

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


def _straight(matrix: LinearMap) -> tuple[Tensor, Tensor | None]:
    """Weight with a neuron a row, and bias; copied only if the model keeps it the other way."""
    return matrix.rows().contiguous(), matrix.bias()


def _table(matrix: LinearMap) -> tuple[Tensor, Tensor | None]:
    """The same of a second matrix: a row for every input (no copy of GPT-2's Conv1D)."""
    return matrix.rows().t().contiguous(), matrix.bias()


class SkipLinear(_Skip):
    """A linear map whose input is mostly zeros: reads the rows of its nonzero inputs alone."""

    def __init__(self, matrix: LinearMap, backend: str) -> None:
        super().__init__(matrix.module, backend, [matrix])

    def lay_out(self) -> Any:
        down = _table(self.matrices[0])
        fused = getattr(backends.load(self.backend), "Fused", None)
        return down, None if fused is None else fused(None, None, down, 0, 0.0)

    def __call__(self, x: Tensor) -> Tensor:
        if self._refuses(x):
            return self.dense(x)
        count = x.numel() // x.shape[-1]
        if count == 1:
            self.skipped += 1
            return self.one(x.reshape(-1)).reshape(*x.shape[:-1], -1)
        limit = self.costs.limit(count) if count else 0.0
        if limit > 0:
            a, rows = self.active(x.reshape(count, -1))
            if len(rows) <= limit:
                self.skipped += 1
                return self.few(a, a, rows).reshape(*x.shape[:-1], -1)
        return self.dense(x)

    def active(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The inputs (T, m), and the rows of which at least one of them is nonzero."""
        return x, (x != 0).any(0).nonzero().squeeze(1)

    def few(self, x: Tensor, a: Tensor, rows: Tensor) -> Tensor:
        """The map on (T, m) by the union of active rows.

        Parameters
        ----------
        x : Tensor, shape (T, m)
            As `SkipBlock.few` has it; not read.
        a : Tensor, shape (T, m)
            The inputs, mostly zeros.
        rows : Tensor (r,) of int64
            Where at least one of them is not zero.
        """
        (table, bias), _ = self._layout()
        return backends.load(self.backend).combine_union(table, rows, a, bias)

    def one(self, a: Tensor) -> Tensor:
        """The map on one input a (m,)."""
        down, fused = self._layout()
        if fused is not None and fused.alone():
            return fused(a, a)
        backend = backends.load(self.backend)
        return backend.combine(down[0], *backend.nonzero(a), down[1])


class FastLinear(_Skip):
    """A dense linear map on one token, at the speed of memory."""

    def __init__(self, matrix: LinearMap, backend: str) -> None:
        super().__init__(matrix.module, backend, [replace(matrix, columns=None)])

    def lay_out(self) -> Any:
        return self.matrices[0].rows(), self.matrices[0].bias()

    def __call__(self, x: Tensor) -> Tensor:
        if self._refuses(x) or x.numel() != x.shape[-1]:
            return self.dense(x)
        self.skipped += 1
        y = backends.load(self.backend).matvec(*self._layout(), x.reshape(-1))
        return y.reshape(*x.shape[:-1], -1)


class SkipBlock(_Skip):
    """A whole MLP block on one token; a few tokens by the union of their active sets."""

    def __init__(
        self,
        module: nn.Module,
        block: Block,
        backend: str,
        predictor: Predictor | None = None,
        screen: bool = False,
    ) -> None:
        assert block.program is not None
        self.first, self.up, self.down, self.program = (
            block.first,
            block.up,
            block.down,
            block.program,
        )
        self.predictor = predictor
        self.screen = screen
        self.recipe = recipe_of(block.program)
        middle = [] if block.up is None else [block.up]
        super().__init__(module, backend, [block.first, *middle, block.down])

    def lay_out(self) -> Any:
        first, down = _straight(self.first), _table(self.down)
        up = None if self.up is None else _straight(self.up)
        module, screened = backends.load(self.backend), None
        if self.screen:
            screened = module.Screened(make_screen(*first), self.recipe.k, self.recipe.tau)
        fused = getattr(module, "Fused", None)
        if fused is not None:
            head = None if self.recipe.head is not None else first
            extra = () if head is None else (screened,)
            fused = fused(head, up, down, self.recipe.k, self.recipe.tau, *extra)
        return first, up, down, fused, screened

    def __call__(self, x: Tensor) -> Tensor:
        if self._refuses(x):
            return self.dense(x)
        count = x.numel() // x.shape[-1]
        if count == 1:
            self.skipped += 1
            return self.one(x.reshape(-1)).reshape(*x.shape[:-1], -1)
        limit = self.costs.limit(count) if count else 0.0
        if limit > 0:
            self.skipped += 1
            flat = x.reshape(count, -1)
            a, rows = self.active(flat)
            finish = self.few if len(rows) <= limit else self.rest
            return finish(flat, a, rows).reshape(*x.shape[:-1], -1)
        return self.dense(x)

    def one(self, x: Tensor) -> Tensor:
        """The block on one token x (d,)."""
        first, up, down, fused, screened = self._layout()
        backend = backends.load(self.backend)
        guesser = self.predictor or screened
        if self.predictor is None and fused is not None and fused.alone():
            if self.recipe.head is None:
                return fused(x)
            if screened is None:
                return fused(x, self.recipe.head(backend.matvec(*first, x)))
        if guesser is None:
            rows, values = backend.nonzero(self.program(backend.matvec(*first, x)))
        else:
            guess = guesser.rows(x)
            z = backend.matvec_rows(*first, x, guess)
            if self.recipe.k and len(z):
                # fewer may be left than Top-k keeps
                a = topk(torch.relu(z), min(self.recipe.k, len(z)))
            else:
                a = self.program(z)
            rows, values = backend.nonzero(a)
            rows = guess[rows]
        if up is not None:
            values = values * backend.matvec_rows(*up, x, rows)
        return backend.combine(down[0], rows, values, down[1])

    def active(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Activations of the tokens (T, d), and the neurons active for at least one of them."""
        # as the model stores it: the same kernel, hence the same bits, as the dense block's
        a = self.program(F.linear(x, self.first.rows(), self.first.bias()))
        return a, (a != 0).any(0).nonzero().squeeze(1)

    def rest(self, x: Tensor, a: Tensor, rows: Tensor) -> Tensor:
        """What comes after the activations, densely: the first matrix has been read already.

        Parameters
        ----------
        x : Tensor, shape (T, d)
            Tokens that enter the block.
        a : Tensor, shape (T, m)
            Their activations.
        rows : Tensor (r,) of int64
            Neurons active for at least one of them.
        """
        if self.up is not None:
            a = a * F.linear(x, self.up.rows(), self.up.bias())
        return F.linear(a, self.down.rows(), self.down.bias())

    def few(self, x: Tensor, a: Tensor, rows: Tensor) -> Tensor:
        """The same by the union of active sets.

        Parameters
        ----------
        x : Tensor, shape (T, d)
            Tokens that enter the block.
        a : Tensor, shape (T, m)
            Their activations.
        rows : Tensor (r,) of int64
            Neurons active for at least one of them.
        """
        _, up, down, *_ = self._layout()
        if up is not None:
            # gathering copies the rows, so three times their bytes move
            if 3 * len(rows) < a.shape[1]:
                bias = None if up[1] is None else up[1][rows]
                picked = F.linear(x, up[0][rows], bias)
                a = torch.zeros_like(a).index_copy_(1, rows, a[:, rows] * picked)
            else:
                a = a * F.linear(x, *up)
        return backends.load(self.backend).combine_union(down[0], rows, a, down[1])

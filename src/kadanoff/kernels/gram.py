"""``kernel(arch)``: NNGP and NTK Gram matrices of data sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from kadanoff.architecture import Network
from kadanoff.devices import chosen
from kadanoff.errors import ConvergenceError, DataError, UsageError
from kadanoff.kernels.conv import ConvKernel, ConvNet
from kadanoff.kernels.evaluators import (
    Composite,
    DataRows,
    Evaluator,
    GramTask,
    Layered,
    homogeneous,
)
from kadanoff.kernels.layers import diagonal, propagate
from kadanoff.kernels.result import NAMES, Gram, check_names
from kadanoff.kernels.surface import Surface
from kadanoff.kernels.tiles import allocate, fill

__all__ = [
    "Kernel",
    "Prepared",
    "kernel",
]

_ONES = (torch.ones((), dtype=torch.float64),) * 3
# entries that cost less one by one than the map of three variables
_MAP = 4096
# |x|² of rows normalised by the user differ by rounding only
_EQUAL = {torch.float64: 2e-14, torch.float32: 1e-6}
# rows and columns whose entries are checked
_SAMPLES = 5
# a compiled map is given up when a sampled entry is off by more, relative to the largest one
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}


class Kernel:
    """The infinite-width kernels of an architecture as a function of data.

    Calling it gives a :class:`Gram` (or one matrix, if ``get`` is one name). K is that of the last
    preactivation, readout variance included; the NTK has learning rates λ_b for biases and
    λ_W / n_{ℓ−1} for weights.

    Parameters
    ----------
    arch : MLP or Residual
    accuracy : float
        Of compiled maps, relative to the largest entry.
    method : {"auto", "composite", "three variables", "layers"}
    device : str or torch.device, optional
        Where blocks are computed and results stay; by default where the inputs are.
    """

    def __init__(
        self, arch: Network, *, accuracy: float = 1e-10, method: str = "auto", device: Any = None
    ) -> None:
        methods = ("auto", "composite", "three variables", "layers")
        if method not in methods:
            raise UsageError(f"method must be one of {', '.join(methods)}, got {method!r}.")
        if not all(hasattr(arch, name) for name in ("C_W", "lambda_W", "activations")):
            raise UsageError(
                f"kernel needs an architecture, got {type(arch).__name__}.",
                "Pass kd.MLP(...), kd.Residual(...) or kd.describe(model).",
            )
        self.arch, self.accuracy, self.method = arch, accuracy, method
        self.device = chosen(device)
        self._compiled: dict[tuple, Any] = {}

    def __repr__(self) -> str:
        return f"kernel({self.arch!r})"

    def __call__(
        self,
        X1: Any,
        X2: Any = None,
        get: str | Sequence[str] = NAMES,
        *,
        progress: Callable[..., None] | None = None,
    ) -> Any:
        """Gram matrices between the rows of ``X1`` and of ``X2``.

        Parameters
        ----------
        X1, X2 : array (N, n_0), float32 or float64
            ``X2=None``: the symmetric matrix of ``X1``, at half the cost.
        get : "nngp", "ntk" or a sequence of them
        progress : callable, optional
            Called as ``progress(done, total)`` after each tile.

        Returns
        -------
        Gram, or Tensor (N1, N2) if ``get`` is a string

        Raises
        ------
        DataError
            Empty, not finite, of the wrong width, or neither float32 nor float64.
        DomainError
            The kernel overflows.
        """
        names = check_names(get)
        one = DataRows.of(self.check(X1))
        two = one if X2 is None else DataRows.of(self.check(X2, like=one.X))
        gram = self._run(one, two, names, progress)
        return getattr(gram, get) if isinstance(get, str) else gram

    def diagonal(self, X: Any, get: str | Sequence[str] = NAMES) -> Any:
        """Entries (x, x) only: tensors of shape (N,), one a name (or one, for a string)."""
        names = check_names(get)
        K, Theta = diagonal(self.arch, DataRows.of(self.check(X)).metric, self._compiled)
        found = tuple({"nngp": K, "ntk": Theta}[name] for name in names)
        return found[0] if isinstance(get, str) else found

    def check(self, X: Any, like: Tensor | None = None) -> Tensor:
        """``X`` as a (N, n_0) tensor of its own dtype, or a DataError that says what is wrong."""
        try:
            X = torch.as_tensor(X).detach()
            X = X if self.device is None else X.to(self.device)
        except (TypeError, ValueError, RuntimeError) as error:
            raise DataError(f"Inputs cannot be made a tensor: {error}.") from None
        if X.dtype not in _EQUAL:
            raise DataError(
                f"Inputs have dtype {X.dtype}; kernels take float32 or float64.",
                "Convert with X.float() or X.double().",
            )
        if like is not None and X.dtype != like.dtype:
            raise DataError(
                f"X1 is {like.dtype} and X2 is {X.dtype}.", "Convert one of them to the other."
            )
        if like is not None and X.device != like.device:
            raise DataError(f"X1 is on {like.device} and X2 on {X.device}.", "Pass device=.")
        X = X[None] if X.ndim == 1 else X.flatten(1)
        if X.shape[0] == 0 or X.shape[1] != self.arch.n[0]:
            raise DataError(
                f"Inputs have shape {tuple(X.shape)}, but (N, n_0) = (N, {self.arch.n[0]}) with "
                "N >= 1 is wanted.",
                "Pass one row a sample.",
            )
        if not bool(torch.isfinite(X).all()):
            count = int((~torch.isfinite(X)).sum())
            raise DataError(f"Inputs hold {count} NaN or infinite values.", "Remove them first.")
        return X

    def prepare(self, X: Any, get: str = "ntk") -> Prepared:
        """The symmetric kernel of ``X`` compiled once, to be evaluated in blocks."""
        (name,) = check_names(get)
        one = DataRows.of(self.check(X))
        for method in self._candidates(one, one):
            try:
                evaluator = self._evaluator(method, one, one, (name,))
            except ConvergenceError:
                if method == "layers":
                    raise
                continue
            return Prepared(self, evaluator, one, name)
        raise ConvergenceError(f"method={self.method!r} does not converge for these inputs.")

    def _run(
        self,
        one: DataRows,
        two: DataRows,
        names: tuple[str, ...],
        progress: Callable[..., None] | None,
    ) -> Gram:
        last: ConvergenceError | None = None
        for method in self._candidates(one, two):
            try:
                evaluator = self._evaluator(method, one, two, names)
                gram = self._fill(method, evaluator, one, two, names, progress)
            except ConvergenceError as error:
                last = error
                continue
            if gram.error <= _TOLERANCE[one.X.dtype] or method == "layers":
                return gram
            last = ConvergenceError(
                f"The compiled map is off by {gram.error:.1e} on sampled entries.",
                "Use method='layers'.",
            )
        assert last is not None
        raise last

    def _equal(self, one: DataRows, two: DataRows) -> bool:
        low = min(float(one.metric.min()), float(two.metric.min()))
        high = max(float(one.metric.max()), float(two.metric.max()))
        return high - low <= _EQUAL[one.X.dtype] * high

    def _candidates(self, one: DataRows, two: DataRows) -> list[str]:
        if self.method != "auto":
            return [self.method]
        zero = min(float(one.metric.min()), float(two.metric.min())) == 0
        simple = self.arch.C_W[0] > 0 and not zero
        if self._equal(one, two) and simple:
            return ["composite", "layers"]
        if homogeneous(self.arch):
            return ["composite", "layers"] if simple else ["layers"]
        # integrals at a kink are slow, and a map of three variables takes thousands of them
        slow = any(not a.smooth and a.closed(0, 0, *_ONES) is None for a in self.arch.activations)
        few = slow and len(one.X) * len(two.X) <= _MAP
        return ["layers"] if few or self.arch.C_W[0] == 0 else ["three variables", "layers"]

    def _evaluator(
        self, method: str, one: DataRows, two: DataRows, names: tuple[str, ...]
    ) -> Evaluator:
        equal = self._equal(one, two)
        if method == "composite" and not equal and not homogeneous(self.arch):
            raise UsageError(
                "method='composite' needs inputs of one norm, or homogeneous activations without "
                "bias.",
                "Use method='auto'.",
            )
        task = GramTask(self.arch, one, two, equal, names, self.accuracy, self._compiled)
        return {"composite": Composite, "three variables": Surface, "layers": Layered}[method](task)

    def _fill(
        self,
        method: str,
        evaluator: Evaluator,
        one: DataRows,
        two: DataRows,
        names: tuple[str, ...],
        progress: Callable[..., None] | None,
    ) -> Gram:
        symmetric = two is one
        shape = (len(one.X), len(two.X))
        outputs = [allocate(*shape, one.X) for _ in names]
        fill(
            evaluator.left,
            evaluator.right,
            outputs,
            evaluator,
            symmetric=symmetric,
            progress=progress,
        )
        if symmetric:
            own: dict[str, Tensor] = dict(
                zip(NAMES, diagonal(self.arch, one.metric, self._compiled))
            )
            for name, out in zip(names, outputs):
                out.diagonal().copy_(own[name])
        error = self._check(one, two, names, outputs)
        compiled = getattr(evaluator, "compiled", None)
        kernels: dict[str, Tensor] = dict(zip(names, outputs, strict=True))
        return Gram(
            names,
            nngp=kernels.get("nngp"),
            ntk=kernels.get("ntk"),
            method=method,
            error=error,
            nodes=0 if compiled is None else compiled.nodes,
        )

    def _check(
        self, one: DataRows, two: DataRows, names: tuple[str, ...], outputs: list[Tensor]
    ) -> float:
        """Largest relative deviation of sampled entries from the layer-by-layer recursion."""
        generator = torch.Generator().manual_seed(0)
        # all pairs of a few rows: few sizes to average over
        i = torch.randint(len(one.X), (_SAMPLES,), generator=generator).repeat_interleave(_SAMPLES)
        j = torch.randint(len(two.X), (_SAMPLES,), generator=generator).repeat(_SAMPLES)
        a, b = one.X[i].cpu().double(), two.X[j].cpu().double()
        square = ((a - b) ** 2).mean(1)
        m1, m2 = one.metric[i].cpu(), two.metric[j].cpu()
        if self._equal(one, two):
            # equal up to rounding
            m1 = m2 = m1[:1].expand(len(i))
        expected: dict[str, Tensor] = dict(
            zip(NAMES, propagate(self.arch, m1, (m1 + m2 - square) / 2, m2))
        )
        worst = 0.0
        for name, out in zip(names, outputs):
            found = out[i, j].cpu()
            if not bool(torch.isfinite(found).all()):
                return float("inf")
            scale = expected[name].abs().max().clamp_min(1e-300)
            worst = max(worst, float((found - expected[name]).abs().max() / scale))
        return worst


class Prepared:
    """One kernel of one data set, ready for any of its blocks; made by :meth:`Kernel.prepare`."""

    def __init__(self, owner: Kernel, evaluator: Evaluator, one: DataRows, name: str) -> None:
        self.owner, self.evaluator, self.one, self.name = owner, evaluator, one, name
        K, Theta = diagonal(owner.arch, one.metric, owner._compiled)
        self.own = (K if name == "nngp" else Theta).to(one.X.dtype)

    def __len__(self) -> int:
        return len(self.one.X)

    def block(self, rows: slice, columns: slice) -> Tensor:
        """Entries of the given (contiguous) rows and columns."""
        left, right = self.evaluator.left[rows], self.evaluator.right[columns]
        out = allocate(len(left), len(right), self.one.X)

        def shifted(r: slice, c: slice, s: Tensor, found: Tensor) -> None:
            there = slice(r.start + rows.start, r.stop + rows.start)
            across = slice(c.start + columns.start, c.stop + columns.start)
            self.evaluator(there, across, s, found)

        fill(left, right, [out], shifted)
        low, high = max(rows.start, columns.start), min(rows.stop, columns.stop)
        if low < high:
            index = torch.arange(low, high, device=out.device)
            out[index - rows.start, index - columns.start] = self.own[low:high]
        return out


def kernel(arch: Any, *, accuracy: float = 1e-10, method: str = "auto", device: Any = None) -> Any:
    """The NNGP and NTK of an infinitely wide network, as a function of two data sets.

    Equal norms, or homogeneous activations without bias: the whole network is compiled into one
    polynomial of the correlation and costs about as much as the inner products, at any depth.
    Unequal norms otherwise: polynomials whose coefficients depend on both norms (with a kink, below
    a correlation of 0.8). Failing that,
    tile by tile through all layers. The choice is automatic; the result is checked on sampled
    entries against the layer-by-layer recursion.

    Parameters
    ----------
    arch : MLP, Residual or ConvNet
        A :class:`ConvNet` gives a :class:`ConvKernel`, to which only ``device`` applies.
    accuracy : float
        Of the compiled map, relative to its largest value.
    method : {"auto", "composite", "three variables", "layers"}
    device : str or torch.device, optional
        "cuda" computes on the GPU, where the result stays; default: where the inputs are.

    Returns
    -------
    Kernel or ConvKernel
        Call it as ``kernel(arch)(X1, X2, get=("nngp", "ntk"))``.

    Notes
    -----
    Infinite width; the correction at width n is of relative order L/n (``kadanoff.flow``).
    """
    if isinstance(arch, ConvNet):
        return ConvKernel(arch, device=device)
    return Kernel(arch, accuracy=accuracy, method=method, device=device)

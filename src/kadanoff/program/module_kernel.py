"""Infinite-width kernels of a module as a function of data sets: ``kadanoff.kernel(model)``."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kadanoff.devices import check_room
from kadanoff.errors import DataError, UsageError
from kadanoff.kernels.result import NAMES, Gram, check_names
from kadanoff.kernels.traced import Parameter, Refused, Traced, trace
from kadanoff.kernels.traced.evaluation import joint_pairs, pairs_of
from kadanoff.program.initial import laws as laws_of
from kadanoff.program.law import Law
from kadanoff.program.pooled import pooled_kernels
from kadanoff.trace.recorder import unwrap

__all__ = ["ModuleKernel", "PreparedModule"]

PARAMETRIZATIONS = ("standard", "ntk")
# runs with draws of their own, between which the error is told
_RUNS = 4
Data = Tensor | Mapping[str, Tensor]


class ModuleKernel:
    """NNGP and NTK of an infinitely wide version of a module; made by ``kadanoff.kernel``.

    Every width (channels, features, heads) is sent to infinity at the variances that the laws of
    the weights state; head dimensions, positions and depth stay as they are.

    Parameters
    ----------
    model : nn.Module
        In the mode it is in: dropout and batch norm behave accordingly.
    parametrization : {"standard", "ntk"}
        "standard": every entry of every parameter learns at rate 1, as under SGD on the model
        itself; Θ is then what :func:`kadanoff.empirical_ntk` measures, of the order of the width.
        "ntk": the rate of a random parameter is its variance (λ_W = C_W, λ_b = C_b), of a
        constant one 0.
    rates : mapping of str to float, optional
        λ of an entry, by the name of the parameter; the others stay as above.
    laws : mapping of str to Law, optional
        Overrides what :func:`kadanoff.program.laws` finds.
    input_shape : tuple of int, optional
        Of one sample: rows (N, d) are brought into it, for those who pass flat rows.
    output : callable, optional
        ``output(model(X))``: the tensor (N, …) whose kernel is wanted.
    heads : {"real", "infinite"}
        The head dimension of softmax attention. "infinite", for scores q·k/d: they stop to
        fluctuate, and attention closes (tied q = k as in neural-tangents, or uniform).
    draws : int
        Random networks' worth of heads or channels, in each of four runs, where something has to
        be sampled.
    seed : int
    device : None
        Modules run on the CPU.

    Attributes
    ----------
    laws : dict of str to Law
    notes : tuple of str
        What was sampled at the last call, and why.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        parametrization: str = "standard",
        rates: Mapping[str, float] | None = None,
        laws: Mapping[str, Law] | None = None,
        input_shape: Sequence[int] | None = None,
        output: Callable[[Any], Tensor] | None = None,
        heads: str = "real",
        draws: int = 32,
        seed: int = 0,
        device: Any = None,
    ) -> None:
        if parametrization not in PARAMETRIZATIONS:
            raise UsageError(
                f"There is no parametrization {parametrization!r}.",
                f"Choose {' or '.join(PARAMETRIZATIONS)}.",
            )
        if not isinstance(draws, int) or draws < 1:
            raise UsageError(f"draws must be a whole number >= 1, got {draws!r}.")
        if device is not None and torch.device(device).type != "cpu":
            raise UsageError(
                f"The kernel of a module is computed on the CPU, not on {device!r}.",
                "Leave device= out.",
            )
        if heads not in ("real", "infinite"):
            raise UsageError(f"heads must be 'real' or 'infinite', got {heads!r}.")
        self.heads = heads
        self.arch = self.model = unwrap(model)[0]
        self.laws: dict[str, Law] = dict(laws_of(self.model, override=laws))
        self.parametrization, self.draws, self.seed = parametrization, draws, seed
        self.input_shape = None if input_shape is None else tuple(input_shape)
        self.output, self.device, self.notes = output, None, ()
        self.parameters = self._parameters(rates or {})
        self._traced: dict[tuple, Traced | Refused] = {}

    def __repr__(self) -> str:
        return f"kernel({type(self.model).__name__})"

    def _parameters(self, rates: Mapping[str, float]) -> dict[str, Parameter]:
        unknown = set(rates) - set(self.laws)
        if unknown:
            raise UsageError(
                f"There is no parameter {sorted(unknown)[0]!r}.",
                f"There are {', '.join(list(self.laws)[:8])}…",
            )
        found = {}
        for name, tensor in self.model.named_parameters():
            law = self.laws[name]
            if self.parametrization == "standard":
                rate = 1.0
            else:
                rate = law.std**2 if law.random else 0.0
            if not tensor.requires_grad:
                rate = 0.0
            rate = float(rates.get(name, rate))
            if not (rate >= 0 and math.isfinite(rate)):
                raise UsageError(f"The rate of {name} must be finite and >= 0, got {rate}.")
            found[name] = Parameter(name, tensor.shape, law, rate)
        return found

    # -- inputs --------------------------------------------------------------------------------

    def check(self, X: Any, like: Any = None) -> Tensor:
        """``X`` as a tensor (N, …), or a DataError that says what is wrong."""
        try:
            X = torch.as_tensor(X).detach().cpu()
        except (TypeError, ValueError, RuntimeError) as error:
            raise DataError(f"Inputs cannot be made a tensor: {error}.") from None
        if X.is_complex() or X.dtype == torch.bool:
            raise DataError(
                f"Inputs have dtype {X.dtype}; kernels take real numbers or tokens.",
                "Pass real and imaginary parts as channels (torch.view_as_real), or X.float().",
            )
        if X.ndim == 0 or X.numel() == 0:
            raise DataError(
                f"Inputs have shape {tuple(X.shape)}; (N, …) with N >= 1 is wanted.",
                "Pass at least one sample.",
            )
        if X.is_floating_point() and not bool(torch.isfinite(X).all()):
            count = int((~torch.isfinite(X)).sum())
            raise DataError(f"Inputs hold {count} NaN or infinite values.", "Remove them first.")
        if self.input_shape is not None and tuple(X.shape[1:]) != self.input_shape:
            if X[0].numel() != math.prod(self.input_shape):
                raise DataError(
                    f"Samples have shape {tuple(X.shape[1:])}; input_shape is {self.input_shape}.",
                    "Pass samples of as many entries.",
                )
            X = X.reshape(len(X), *self.input_shape)
        if like is not None and X.shape[1:] != like.shape[1:]:
            raise DataError(
                f"Samples of X1 and X2 have shapes {tuple(like.shape[1:])} and "
                f"{tuple(X.shape[1:])}.",
                "Pad them to one shape.",
            )
        return X

    def _inputs(self, X: Any, like: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        if isinstance(X, Mapping):
            found = {str(k): self.check(v) for k, v in X.items() if v is not None}
            counts = {len(v) for v in found.values()}
            if len(counts) != 1:
                raise DataError(f"The inputs hold different numbers of samples: {sorted(counts)}.")
        else:
            found = {"0": self.check(X)}
        if like is not None:
            if found.keys() != like.keys():
                raise DataError("X1 and X2 name different inputs.", "Pass the same names in both.")
            for name, value in found.items():
                self.check(value, like[name])
        return found

    # -- kernels -------------------------------------------------------------------------------

    def traced(self, inputs: Mapping[str, Tensor]) -> Traced | Refused:
        """The graph of kernels for inputs of that shape, compiled once; or why there is none."""
        modes = tuple(m.training for m in self.model.modules())
        key = (*((n, tuple(v.shape[1:]), v.is_floating_point()) for n, v in inputs.items()), modes)
        if key not in self._traced:
            try:
                self._traced[key] = trace(
                    self.model, self.parameters, inputs, output=self.output, heads=self.heads
                )
            except Refused as reason:
                self._traced[key] = reason
        return self._traced[key]

    def __call__(
        self,
        X1: Any,
        X2: Any = None,
        get: str | Sequence[str] = NAMES,
        *,
        progress: Callable[..., None] | None = None,
    ) -> Any:
        """Gram matrices between two sets of samples.

        Parameters
        ----------
        X1, X2 : array (N, …), or mapping of such by keyword of the model's forward
            ``X2=None``: the symmetric matrix of ``X1``.
        get : "nngp", "ntk" or a sequence of them
        progress : callable, optional
            ``progress(done, total)`` in batches of pairs.

        Returns
        -------
        Gram, or Tensor (N1, N2) if ``get`` is a string
            Of one output. ``.sampled`` says what was sampled and why, ``.stderr`` the standard
            error of each entry.

        Raises
        ------
        DataError
            Empty, complex, not finite; or the matrices do not fit (the message states the bytes).
        UsageError
            The model fails on the inputs, or its output has positions.
        """
        names = check_names(get)
        one = self._inputs(X1)
        two = None if X2 is None else self._inputs(X2, one)
        n1 = len(next(iter(one.values())))
        n2 = n1 if two is None else len(next(iter(two.values())))
        check_room(
            16 * n1 * n2,
            f"Two Gram matrices of {n1} x {n2} entries, which",
            "Use kadanoff.kernels.stream(kernel, X, path), which writes them tile by tile, or "
            "call the kernel on blocks of samples.",
            DataError,
        )
        found = self.traced(one)
        ntk = "ntk" in names
        if isinstance(found, Refused):
            result = self._pooled(found, one, two, ntk, names, progress)
        elif found.graph.joint:
            result = self._sampled(found, one, two, ntk, names, progress)
        else:
            self._fits(found)
            values = found.values(one)
            others = None if two is None else found.values(two)
            K, Theta = pairs_of(found.graph, values, others, (n1, n2), ntk, progress=progress)
            result = Gram(names, nngp=K, ntk=Theta, method="positions")
        self.notes = result.sampled
        result = _as_asked(result, names, _dtype(one))
        return getattr(result, get) if isinstance(get, str) else result

    def diagonal(self, X: Any, get: str | Sequence[str] = NAMES) -> Any:
        """Entries (x, x) only: tensors of shape (N,), one a name (or one, for a string)."""
        names = check_names(get)
        inputs = self._inputs(X)
        found = self.traced(inputs)
        count = len(next(iter(inputs.values())))
        if isinstance(found, Refused) or found.graph.joint:
            gram = self(X, None, names)
            values = {name: getattr(gram, name).diagonal() for name in names}
        else:
            self._fits(found)
            K, Theta = pairs_of(
                found.graph,
                found.values(inputs),
                None,
                (count, count),
                "ntk" in names,
                only_own=True,
            )
            values = {"nngp": K.to(_dtype(inputs)), "ntk": Theta.to(_dtype(inputs))}
        out = tuple(values[name] for name in names)
        return out[0] if isinstance(get, str) else out

    def prepare(self, X: Any, get: str = "ntk") -> PreparedModule:
        """The symmetric kernel of ``X``, to be evaluated in blocks."""
        (name,) = check_names(get)
        return PreparedModule(self, self.check(X), name)

    def fingerprint(self) -> str:
        """Changes with anything that changes the numbers."""
        digest = hashlib.sha256(repr((self.model, self.seed, self.draws, self.heads)).encode())
        for name, parameter in self.parameters.items():
            digest.update(repr((name, parameter.law, parameter.rate)).encode())
            values = parameter.values()
            if values is not None:
                digest.update(np.ascontiguousarray(values.numpy()).tobytes())
        return digest.hexdigest()

    def _fits(self, found: Traced) -> None:
        check_room(
            found.graph.at_once(),
            "The kernel of one pair of samples at all positions, which",
            "Use smaller inputs, or pool earlier: positions count by their square.",
            DataError,
        )

    # -- sampled -------------------------------------------------------------------------------

    def _sampled(
        self,
        found: Traced,
        one: dict[str, Tensor],
        two: dict[str, Tensor] | None,
        ntk: bool,
        names: tuple[str, ...],
        progress: Callable[..., None] | None,
    ) -> Gram:
        whole, rows, columns = _union(one, two)
        values = found.values(whole)
        count = len(next(iter(whole.values())))
        runs = []
        for r in range(_RUNS):
            seed = int(np.random.SeedSequence([self.seed, r]).generate_state(1)[0])
            K, Theta = joint_pairs(found.graph, values, count, ntk, seed, self.draws)
            runs.append((K[rows][:, columns], Theta[rows][:, columns]))
            if progress:
                progress(r + 1, _RUNS)
        return _averaged(runs, names, found.notes, "sampled")

    def _pooled(
        self,
        reason: Refused,
        one: dict[str, Tensor],
        two: dict[str, Tensor] | None,
        ntk: bool,
        names: tuple[str, ...],
        progress: Callable[..., None] | None,
    ) -> Gram:
        whole, rows, columns = _union(one, two)
        rates = {name: parameter.rate for name, parameter in self.parameters.items()}
        runs = [
            (K[rows][:, columns], Theta[rows][:, columns])
            for K, Theta in pooled_kernels(
                self.model,
                self.laws,
                rates,
                whole,
                self.output,
                ntk,
                self.seed,
                reason.where,
                progress,
            )
        ]
        why = f"everything, by wide networks of the ensemble: {reason.where}: {reason.reason}"
        return _averaged(runs, names, (why,), "pooled")


class PreparedModule:
    """One kernel of one data set, ready for any of its blocks."""

    def __init__(self, owner: ModuleKernel, X: Tensor, name: str) -> None:
        self.owner, self.X, self.name = owner, X, name

    def __len__(self) -> int:
        return len(self.X)

    @property
    def one(self) -> PreparedModule:
        """The data set, as ``.X`` of it."""
        return self

    @property
    def own(self) -> Tensor:
        """Entries of the diagonal."""
        return self.owner.diagonal(self.X, self.name)

    def block(self, rows: slice, columns: slice) -> Tensor:
        """Entries of the given rows and columns."""
        if rows == columns:
            return self.owner(self.X[rows], None, self.name)
        low, high = max(rows.start, columns.start), min(rows.stop, columns.stop)
        found = self.owner(self.X[rows], self.X[columns], self.name)
        if low < high:
            index = torch.arange(low, high)
            own = self.owner.diagonal(self.X[low:high], self.name)
            found[index - rows.start, index - columns.start] = own
        return found


def _union(
    one: dict[str, Tensor], two: dict[str, Tensor] | None
) -> tuple[dict[str, Tensor], slice, slice]:
    """All samples, and where those of either side are."""
    n1 = len(next(iter(one.values())))
    if two is None:
        return one, slice(0, n1), slice(0, n1)
    whole = {name: torch.cat([value, two[name].to(value.dtype)]) for name, value in one.items()}
    n2 = len(next(iter(two.values())))
    return whole, slice(0, n1), slice(n1, n1 + n2)


def _averaged(
    runs: Sequence[tuple[Tensor, Tensor]],
    names: tuple[str, ...],
    sampled: tuple[str, ...],
    method: str,
) -> Gram:
    found, errors = {}, {}
    for name, values in zip(NAMES, zip(*runs)):
        every = torch.stack(list(values))
        found[name] = every.mean(0)
        errors[name] = every.std(0) / math.sqrt(len(every))
    stderr = {name: errors[name] for name in names}
    return Gram(
        names, nngp=found["nngp"], ntk=found["ntk"], method=method, stderr=stderr, sampled=sampled
    )


def _dtype(inputs: Mapping[str, Tensor]) -> torch.dtype:
    floats = [v.dtype for v in inputs.values() if v.is_floating_point()]
    return torch.float32 if floats and all(d == torch.float32 for d in floats) else torch.float64


def _as_asked(gram: Gram, names: tuple[str, ...], dtype: torch.dtype) -> Gram:
    kept = {name: getattr(gram, name).to(dtype) for name in names}
    stderr = {name: value.to(dtype) for name, value in gram.stderr.items()}
    return Gram(
        names,
        nngp=kept.get("nngp"),
        ntk=kept.get("ntk"),
        method=gram.method,
        stderr=stderr,
        sampled=gram.sampled,
    )

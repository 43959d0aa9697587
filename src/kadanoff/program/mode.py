"""A random network without weights: a function mode under which a model runs on its law.

Inside ``with Network(model, laws, seed):`` the model's own ``forward`` is one network drawn at
random. Each call of a torch function that takes a parameter is looked up in one table of
operations (:mod:`kadanoff.program.operations`); linear maps are answered by their conditional law
(:mod:`kadanoff.program.matrix`), small things are drawn. What nobody can answer gets the parameter
in numbers, drawn at that moment and consistent with every answer given before: slower, never wrong.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from kadanoff.errors import AnalysisError, UsageError
from kadanoff.program import custom
from kadanoff.program.law import Law
from kadanoff.program.matrix import Matrix, Pool
from kadanoff.program.operations import HANDLERS
from kadanoff.program.orthogonal import Orthogonal
from kadanoff.program.source import Source
from kadanoff.program.views import GETTERS, METHODS, View, derived
from kadanoff.trace.operations import COMPOSITE, bind, canonical
from kadanoff.trace.recorder import opened

__all__ = ["Network", "refuse"]

_DEVICE = {"device", "is_cuda", "is_cpu", "is_meta", "is_mps", "is_xpu", "is_xla"}
_LIKE = {
    "zeros_like",
    "ones_like",
    "empty_like",
    "full_like",
    "rand_like",
    "randn_like",
    "new_zeros",
    "new_ones",
    "new_empty",
    "new_full",
    "new_tensor",
}


class Network(TorchFunctionMode):
    """Context manager: inside it ``model`` behaves as network number ``seed`` of its ensemble.

    The model's own parameters are neither read nor changed; they may be on the meta device.

    Parameters
    ----------
    model : nn.Module
    laws : mapping of str to Law
        By parameter name; tied parameters once.
    seed : int or torch.Generator
    device : torch.device
        Of the numbers: where the inputs are.
    method : {"exact", "undrawn", "drawn"}
        "undrawn" draws no matrix that has a law, also where that costs more; "drawn" draws every
        parameter.
    pool : callable, optional
        Average over replicas (:mod:`kadanoff.program.pool`).
    limit_bytes : int, optional
        Largest parameter that may be drawn.
    apart : frozenset of str
        Parameters that replicas do not average over.

    Attributes
    ----------
    sources : dict of str to Source
    recording : bool
        Whether the backward pass that runs counts as the gradient of the loss.
    pairing : bool
        Whether gradients are recorded row by row, for products between them.
    keeping : bool
        Whether cotangents asked for are remembered: true outside :meth:`backward`, as a model
        may take gradients within its forward pass.

    Examples
    --------
    >>> model = torch.nn.Linear(1000, 500, bias=False, device="meta")
    >>> with Network(model, {"weight": Law(std=1000**-0.5)}, seed=0) as network:
    ...     z = model(torch.ones(2, 1000)).detach()
    >>> bool(torch.equal(z[0], z[1])), 0.8 < float(z.square().mean()) < 1.2
    (True, True)
    """

    def __init__(
        self,
        model: nn.Module,
        laws: Mapping[str, Law],
        seed: int | torch.Generator = 0,
        device: torch.device | str = "cpu",
        method: str = "exact",
        pool: Pool | None = None,
        limit_bytes: int | None = None,
        apart: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__()
        self.device, self.method, self.pool = torch.device(device), method, pool
        self.limit_bytes, self.apart = limit_bytes, apart
        # which parameter was asked how many rows, in order
        self.asked: list[tuple[str, int]] = []
        if isinstance(seed, torch.Generator):
            self.generator = seed
        else:
            self.generator = torch.Generator(self.device).manual_seed(seed)
        self.recording, self.keeping, self.pairing = False, True, False
        self.live = torch.zeros((), requires_grad=True)
        self.sources: dict[str, Source] = {}
        self._views: dict[int, View] = {}
        for name, parameter in model.named_parameters():
            refuse(name, parameter)
            law = laws.get(name)
            if law is None:
                raise UsageError(f"There is no law for the parameter {name}.")
            source = Source(name, parameter.shape, parameter.dtype, self._possible(law), self)
            self.sources[name] = source
            rows = parameter.shape[0] if parameter.ndim else 1
            self._views[id(parameter)] = View(source, parameter, stop=rows)

    def _possible(self, law: Law) -> Law:
        """The law as it may well be: where its std was measured, one that the measurement allows.

        Networks then differ by what is not known, too, and so do their spreads.
        """
        if not law.std_error or not law.std or self.pool is not None:
            return law
        relative = min(law.std_error / law.std, 0.5)
        return law.scaled(math.exp(relative * float(self.normal((), torch.float64))))

    def __enter__(self) -> Network:
        super().__enter__()
        custom.entered(self)
        return self

    def __exit__(self, *exc: Any) -> None:
        custom.left()
        super().__exit__(*exc)

    # -- what sources and handlers use ---------------------------------------------------------

    def normal(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Independent standard normal numbers."""
        return torch.randn(shape, generator=self.generator, device=self.device, dtype=dtype)

    def matrix(self, name: str, rows: int, columns: int, law: Law) -> Matrix:
        """An undrawn matrix of this network, (a part of) the parameter of that name.

        Parameters
        ----------
        name : str
        rows, columns : int
        law : Law
            Of an entry; orthogonal ones make it Haar-distributed.
        """
        kind = Orthogonal if law.kind == "orthogonal" else Matrix
        pool = None if name in self.apart else self.pool
        return kind(rows, columns, law.std, self.normal, pool, self.method == "undrawn")

    def allow(self, size: int, name: str) -> None:
        """Stop before a draw that would not fit."""
        if self.limit_bytes is not None and size > self.limit_bytes:
            raise AnalysisError(
                f"Drawing {name} needs {size / 1e9:.2f} GB, more than the "
                f"{self.limit_bytes / 1e9:.2f} GB allowed.",
                "Use fewer or shorter samples, so that it need not be drawn, or raise "
                "limit_bytes=.",
            )

    def view(self, x: Any) -> View | None:
        """What a tensor stands for, None for ordinary ones."""
        return self._views.get(id(x)) if isinstance(x, Tensor) else None

    def value(self, x: Any, why: str = "used as it is") -> Any:
        """A parameter's numbers; anything else as it is."""
        view = self.view(x)
        return x if view is None else view.value(why)

    def register(self, found: Any) -> Any:
        """Tokens that stand for views."""
        if isinstance(found, list):
            return tuple(self.register(view) for view in found)
        self._views[id(found.token)] = found
        return found.token

    # -- gradients -----------------------------------------------------------------------------

    def forget(self) -> None:
        """Start a new backward pass through the same forward pass."""
        for source in self.sources.values():
            source.forget()

    def gradients(self) -> dict[str, Tensor]:
        """|∂𝓛/∂θ|² by parameter, after ``loss.backward()``; without those that 𝓛 does not use."""
        out = {}
        for name, source in self.sources.items():
            found = source.gradient_square()
            if found is not None:
                out[name] = found
        return out

    def tangent(self, outputs: Tensor, rates: Callable[[str, Tensor], float]) -> Tensor:
        """The NTK between numbers that one forward pass gave.

        Parameters
        ----------
        outputs : Tensor, shape (K,)
            Attached to its graph, which is kept.
        rates : callable
            ``rates(name, parameter)``: the λ of a parameter.

        Returns
        -------
        Tensor, shape (K, K)
            Σ λ ∂f_k/∂θ ∂f_l/∂θ, float64. What the K passes ask of a matrix holds together.
        """
        self.forget()
        self.recording = self.pairing = True
        try:
            with torch.autograd.set_multithreading_enabled(False):
                for output in outputs:
                    output.backward(retain_graph=True)
                    for source in self.sources.values():
                        source.set_apart()
        finally:
            self.recording = self.pairing = False
        total = torch.zeros(len(outputs), len(outputs), dtype=torch.float64, device=self.device)
        for name, source in self.sources.items():
            shape = torch.empty(source.shape, device="meta")
            total += rates(name, shape) * source.tangent()
        return total

    @contextlib.contextmanager
    def backward(self, record: bool) -> Iterator[None]:
        """A new backward pass, in this thread; ``record`` if it is the loss's."""
        self.forget()
        self.recording, self.keeping = record, False
        try:
            with torch.autograd.set_multithreading_enabled(False):
                yield
        finally:
            self.recording, self.keeping = False, True

    # -- the function mode ---------------------------------------------------------------------

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _DIFFERENTIATE:
            # recomputed parts of a checkpointed model must meet this mode, too
            with self:
                return _DIFFERENTIATE[func](*args, **kwargs)
        views = self._views
        if not _meets(views, args) and not (kwargs and _meets(views, kwargs.values())):
            return func(*args, **kwargs)
        owner = getattr(func, "__self__", None)
        name = getattr(func, "__name__", "")
        if name == "__get__" and owner is not None:
            return self._property(owner.__name__, func, args)
        if name in ("__set__", "__delete__"):
            return func(*args, **kwargs)
        return self._called(name, func, args, kwargs)

    def _called(self, raw: str, func: Callable, args: tuple, kwargs: dict) -> Any:
        """A function that meets a parameter; ``raw`` is torch's own name of it."""
        name = canonical(func)
        first = self._views.get(id(args[0])) if args else None
        if name in METHODS and not raw.endswith("requires_grad_"):
            token = first.token if first is not None else None
            return func(*args, **kwargs) if token is None else func(token, *args[1:], **kwargs)
        if name == "requires_grad":
            return args[0]
        if name in _LIKE and first is not None:
            kwargs = {"device": self.device, "dtype": first.token.dtype, **kwargs}
            if raw.startswith("new"):
                empty = torch.empty(0, dtype=first.token.dtype, device=self.device)
                return func(empty, *args[1:], **kwargs)
            return func(first.token.to("meta"), *args[1:], **kwargs)
        if name in COMPOSITE and hasattr(func, "__code__"):
            with self:
                return opened(func)(*args, **kwargs)
        in_place = raw.endswith("_") and not raw.endswith("__")
        return self._operation(name, func, args, kwargs, None if in_place else first)

    def _property(self, name: str, func: Callable, args: tuple) -> Any:
        view = self._views[id(args[0])]
        if name in _DEVICE:
            if name == "device":
                return self.device
            return name == f"is_{self.device.type}"
        if name in GETTERS:
            return func(view.token)
        if name in ("T", "mT") and (self._undrawn(view)):
            found = derived(view, name, lambda t: func(t), args[:1], {})
            if found is not None:
                return self.register(found)
        return func(view.value(f"its .{name}"))

    def _undrawn(self, view: View) -> bool:
        return self.method != "drawn" and view.source.law.conditional and view.source.drawn is None

    def _operation(
        self, name: str, func: Callable, args: tuple, kwargs: dict, first: View | None
    ) -> Any:
        if first is not None and self._undrawn(first):
            meta = first.token.detach().to("meta")
            if meta is not first.token and first.token.device.type != "meta":
                first = View(**{**first.__dict__, "token": meta})
            found = derived(first, name, func, args, kwargs)
            if found is not None:
                return self.register(found)
        why = "asked for"
        if self.method != "drawn":
            why = f"no law for {name} of it"
            handler = HANDLERS.get(name)
            if handler is not None:
                given = bind(func, args, kwargs)
                if name == "getitem":
                    given = {"input": args[0], "index": args[1]}
                found = handler(self, given)
                if not isinstance(found, str):
                    return found
                why = found
        return func(*self.numbers(args, why), **self.numbers(kwargs, why))

    def numbers(self, x: Any, why: str) -> Any:
        """Arguments with every parameter among them in numbers."""
        if isinstance(x, Tensor):
            return self.value(x, why)
        if isinstance(x, tuple):
            items = [self.numbers(y, why) for y in x]
            return type(x)(*items) if hasattr(x, "_fields") else tuple(items)
        if isinstance(x, list):
            return [self.numbers(y, why) for y in x]
        if isinstance(x, dict):
            return {key: self.numbers(y, why) for key, y in x.items()}
        return x


# torch's own functions that run the engine, with the mode still on inside them
_run = opened(torch.autograd.backward)


def _backward(tensor: Tensor, gradient: Any = None, *args: Any, **kwargs: Any) -> None:
    _run(tensor, gradient, *args, **kwargs)


_DIFFERENTIATE = {
    Tensor.backward: _backward,
    torch.autograd.backward: _run,
    torch.autograd.grad: opened(torch.autograd.grad),
}


def _meets(views: Mapping[int, View], items: Iterable[Any]) -> bool:
    """Whether a token is among the items, or in a list, tuple or dict among them."""
    # tokens are kept alive, so that nothing else can have the id of one
    for x in items:
        if id(x) in views:
            return True
        kind = type(x)
        if (kind is list or kind is tuple) and _meets(views, x):
            return True
        if kind is dict and _meets(views, x.values()):
            return True
    return False


def refuse(name: str, parameter: Tensor) -> None:
    """Stop at parameters whose numbers are elsewhere, or are no numbers.

    Raises
    ------
    UsageError
    """
    kind = type(parameter).__name__
    if kind == "DTensor" or hasattr(parameter, "device_mesh") or kind == "FlatParameter":
        raise UsageError(
            f"The parameter {name} is sharded over processes ({kind}): its law is that of the "
            "whole matrix, of which this process sees a part.",
            "Pass the model before it is sharded, or its factory; it may be on the meta device.",
        )
    if isinstance(parameter, nn.UninitializedParameter):
        raise UsageError(
            f"The parameter {name} has no shape yet (a lazy module).",
            "Run the model once on a batch first.",
        )

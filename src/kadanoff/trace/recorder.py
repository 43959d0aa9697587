"""See every torch function a model really calls, and who called it: one mode, many observers.

Hooks keyed by module name miss functional calls and reused modules. Here each torch function is
seen as it is called, wherever it is called from, and module hooks only say *who* called it. What
is made of a call is the observers' affair: :class:`kadanoff.trace.layers.Layers` lists the layers,
:mod:`kadanoff.sparsity.structure` finds hidden activations, :mod:`kadanoff.kernels.uses` asks what
each parameter did.
"""

from __future__ import annotations

import types
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from kadanoff.trace.operations import COMPOSITE, TABLE, Operation, bind, canonical

__all__ = ["Frame", "FunctionCall", "Observer", "Recorder", "opened", "unwrap"]

_FUNCTION = types.FunctionType


class Frame:
    """A module whose ``forward`` is running.

    Attributes
    ----------
    path : str
        Its qualified name, ``""`` for the model itself.
    module : nn.Module
    """

    __slots__ = ("module", "path")

    def __init__(self, path: str, module: nn.Module) -> None:
        self.path, self.module = path, module


class FunctionCall:
    """One call of a torch function, as it is made.

    Attributes
    ----------
    func : callable
    name : str
        Its canonical name.
    operation : Operation or None
        None if it is not in the table.
    args, kwargs
        What it is called with.
    path : str
        Qualified name of the innermost module that is running, ``""`` for the model itself.
    module : nn.Module or None
        That module; None outside all of them, or if modules are not followed.
    """

    __slots__ = ("_arguments", "args", "func", "kwargs", "module", "name", "operation", "path")

    def __init__(
        self, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], frame: Frame
    ) -> None:
        self.func, self.name, self.args, self.kwargs = func, name, args, kwargs
        self.operation: Operation | None = TABLE.get(name)
        self.path, self.module = frame.path, frame.module
        self._arguments: dict[str, Any] | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments by name (see :func:`kadanoff.trace.operations.bind`)."""
        if self._arguments is None:
            self._arguments = bind(self.func, self.args, self.kwargs)
        return self._arguments

    def tensors(self) -> list[Tensor]:
        """The tensors among the arguments, in order, also those in a list or tuple."""
        found = []
        for value in (*self.args, *self.kwargs.values()):
            if isinstance(value, Tensor):
                found.append(value)
            elif isinstance(value, (tuple, list)):
                found += [item for item in value if isinstance(item, Tensor)]
        return found


class Observer:
    """Is told of every function call; a subclass overrides what it wants to hear of.

    Calls do not nest: what a torch function calls inside is not seen, and the composite functions
    that are looked into are not reported themselves. ``before`` and ``after`` of one call follow
    each other.

    Attributes
    ----------
    names : frozenset of str or None
        Canonical names of the functions it wants to hear of; None: all of them. Attributes are
        calls of ``"get"``, reported if they are tensors (``x.T``, not ``x.shape``).
    recorder : Recorder
        Who tells it; set when recording begins.
    """

    names: frozenset[str] | None = None
    recorder: Recorder

    def begin(self, recorder: Recorder) -> None:
        """Recording begins."""
        self.recorder = recorder

    def before(self, call: FunctionCall) -> None:
        """The function is about to run; its arguments are as the model made them."""

    def after(self, call: FunctionCall, output: Any) -> None:
        """The function has run; it may have changed its arguments in place."""

    def started(self, frame: Frame) -> None:
        """The forward pass of a module begins."""

    def ended(self, frame: Frame, output: Any) -> None:
        """The forward pass of a module has ended."""

    def finish(self) -> None:
        """Recording has ended, also after an exception."""


class Recorder(TorchFunctionMode):
    """Context manager that shows observers the torch functions a model calls inside it.

    Parameters
    ----------
    model : nn.Module
        Never changed; hooks are removed on exit, also after an exception.
    *observers : Observer
    paths : bool
        Follow which module makes each call; costs two hooks a module.

    Attributes
    ----------
    observers : tuple of Observer
    last_path : str
        The module entered last: where an exception came from.

    Examples
    --------
    >>> import torch
    >>> class Names(Observer):
    ...     def after(self, call, output):
    ...         print(call.name, "in", repr(call.path))
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU())
    >>> x = torch.ones(2, 3)
    >>> with Recorder(model, Names()):
    ...     _ = model(x)
    linear in '0'
    relu in '1'
    """

    def __init__(self, model: nn.Module, *observers: Observer, paths: bool = True) -> None:
        super().__init__()
        self.model = model
        self.observers = observers
        self.last_path = ""
        self._paths = paths
        self._outside = Frame("", model)
        self._stack: list[Frame] = []
        self._handles: list[Any] = []
        self._depth = 0
        wanted = [observer.names for observer in observers]
        self._names = None if None in wanted else frozenset().union(*filter(None, wanted))
        self._parameters: dict[int, str] | None = None
        self._buffers: dict[int, str] = {}

    # -- what belongs to the model -------------------------------------------------------------

    def parameter_of(self, tensor: Any) -> str | None:
        """Name of the parameter whose memory a tensor shares, None if it shares none's."""
        return self._name(tensor)[0]

    def buffer_of(self, tensor: Any) -> str | None:
        """Name of the buffer whose memory a tensor shares, None if it shares none's."""
        return self._name(tensor)[1]

    def _name(self, tensor: Any) -> tuple[str | None, str | None]:
        if not isinstance(tensor, Tensor):
            return None, None
        if self._parameters is None:
            self._parameters = {}
            for name, parameter in self.model.named_parameters():
                self._parameters.setdefault(_memory(parameter), name)
            for name, buffer in self.model.named_buffers():
                self._buffers.setdefault(_memory(buffer), name)
        memory = _memory(tensor)
        return self._parameters.get(memory), self._buffers.get(memory)

    # -- entering and leaving ------------------------------------------------------------------

    def __enter__(self) -> Recorder:
        if self._depth == 0:
            try:
                for name, module in self.model.named_modules() if self._paths else ():
                    push = partial(self._push, name)
                    self._handles.append(module.register_forward_pre_hook(push, prepend=True))
                    self._handles.append(module.register_forward_hook(self._pop, always_call=True))
            except BaseException:
                self._remove()
                raise
            for observer in self.observers:
                observer.begin(self)
        self._depth += 1
        super().__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        self._depth -= 1
        try:
            super().__exit__(*exc)
        finally:
            if self._depth == 0:
                self._remove()
                for observer in self.observers:
                    observer.finish()

    def _remove(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._stack.clear()

    # -- the stack of modules ------------------------------------------------------------------

    def _push(self, name: str, module: nn.Module, _args: Any) -> None:
        frame = Frame(name, module)
        self._stack.append(frame)
        self.last_path = name
        for observer in self.observers:
            observer.started(frame)

    def _pop(self, module: nn.Module, _args: Any, output: Any) -> None:
        # an exception in a hook of the user's may skip a pop: unwind to the module that ends here
        while self._stack:
            frame = self._stack.pop()
            if frame.module is module:
                break
        else:
            return
        for observer in self.observers:
            observer.ended(frame, output)

    # -- the function mode ---------------------------------------------------------------------

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = canonical(func)
        if name in COMPOSITE and isinstance(func, _FUNCTION):
            with self:
                return opened(func)(*args, **kwargs)
        if self._names is not None and name not in self._names:
            return func(*args, **kwargs)
        # of the attributes, only those that are tensors (x.T) take part in the computation
        if name == "get" and not isinstance(value := func(*args, **kwargs), Tensor):
            return value
        frame = self._stack[-1] if self._stack else self._outside
        call = FunctionCall(func, name, args, kwargs, frame)
        for observer in self.observers:
            observer.before(call)
        output = func(*args, **kwargs)
        for observer in self.observers:
            observer.after(call, output)
        return output


def opened(func: Any) -> Any:
    """A copy of a Python function of torch that does not hand itself to the function mode.

    The layers inside it are then seen one by one, as they are called.
    """
    names = {**func.__globals__, "has_torch_function": lambda *_: False}
    copy = _FUNCTION(func.__code__, names, func.__name__, func.__defaults__, func.__closure__)
    copy.__kwdefaults__ = func.__kwdefaults__
    return copy


def _memory(tensor: Tensor) -> int:
    """What tensors that share memory have in common."""
    try:
        address = tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):  # sparse, fake and wrapper tensors have none
        return id(tensor)
    if address:
        return address
    # on the meta device nothing has an address
    base = tensor._base
    return id(tensor if base is None else base)


def unwrap(model: nn.Module) -> tuple[nn.Module, str]:
    """The module inside ``torch.compile`` or data-parallel wrappers, and what was peeled off."""
    notes = []
    while True:
        inner = getattr(model, "_orig_mod", None)
        if isinstance(inner, nn.Module):
            model, note = inner, "the compiled model was unwrapped and run eagerly"
        elif isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model, note = model.module, "the data-parallel wrapper was removed"
        else:
            return model, "; ".join(notes)
        notes.append(note)

"""Where a tensor's numbers come from: the last layers on the way, or parameters alone."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from kadanoff.trace.layers import Call
    from kadanoff.trace.recorder import FunctionCall, Recorder

__all__ = ["Origins", "TensorOrigin"]


@dataclass(frozen=True)
class TensorOrigin:
    """What a tensor was made from.

    Attributes
    ----------
    calls : tuple of Call
        The last recorded layers on the way to it.
    parameters : tuple of str
        The parameters it was computed from; empty as soon as anything but parameters, buffers and
        single numbers entered.
    """

    calls: tuple[Call, ...] = ()
    parameters: tuple[str, ...] = ()


_UNKNOWN = TensorOrigin()


class Origins:
    """The origin of every tensor that is alive, told call by call.

    Parameters
    ----------
    recorder : Recorder
        Who knows the parameters by name.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._known: dict[int, tuple[weakref.ref[Tensor], TensorOrigin]] = {}

    def of(self, tensor: Any) -> TensorOrigin:
        """TensorOrigin of a tensor; empty for inputs, constants and parameters themselves."""
        entry = self._known.get(id(tensor))
        return entry[1] if entry is not None and entry[0]() is tensor else _UNKNOWN

    def put(self, tensor: Any, call: Call) -> None:
        """``tensor`` is what ``call`` returned."""
        if isinstance(tensor, Tensor):
            self._put(tensor, TensorOrigin((call,)))

    def follow(self, call: FunctionCall, output: Any) -> None:
        """``output`` is what a function that is no layer made of its arguments."""
        results = output if isinstance(output, (tuple, list)) else (output,)
        if not any(isinstance(result, Tensor) for result in results):
            return
        origin = self.enters(call)
        if origin != _UNKNOWN:
            for result in results:
                if isinstance(result, Tensor):
                    self._put(result, origin)

    def enters(self, call: FunctionCall) -> TensorOrigin:
        """What the tensors among a call's arguments come from, taken together."""
        calls: dict[Call, None] = {}
        parameters: dict[str, None] = {}
        alone = True  # whether parameters are all that enters
        for tensor in call.tensors():
            origin = self.of(tensor)
            if origin.calls:
                calls.update(dict.fromkeys(origin.calls))
                alone = False
            elif origin.parameters:
                parameters.update(dict.fromkeys(origin.parameters))
            elif (name := self._recorder.parameter_of(tensor)) is not None:
                parameters[name] = None
            elif tensor.numel() > 1 and self._recorder.buffer_of(tensor) is None:
                alone = False
        return TensorOrigin(tuple(calls), tuple(parameters) if alone else ())

    def clear(self) -> None:
        """Forget all tensors."""
        self._known.clear()

    def _put(self, tensor: Tensor, origin: TensorOrigin) -> None:
        key, known = id(tensor), self._known

        def forget(reference: Any) -> None:
            if key in known and known[key][0] is reference:
                del known[key]

        known[key] = (weakref.ref(tensor, forget), origin)

"""The laws that the classes of a finished model draw from, asked of a copy without memory.

Each module's ``reset_parameters`` and Hugging Face's ``_init_weights`` are run on the meta device
while every draw is observed, so that no table of defaults has to be kept.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from kadanoff.errors import AnalysisError
from kadanoff.program.drawing import Drawing, Fate
from kadanoff.program.law import Law
from kadanoff.program.measured import law_of_entries

__all__ = ["laws_of_classes", "reinitialise", "resolved", "self_initialising"]

# constants whose values only the tensor itself knows
COMPUTED = ("computed", "made outside of torch")


def resolved(name: str, parameter: Tensor, fate: Fate, value: Tensor | None) -> Law:
    """The law of a parameter from what was observed, constants with their values.

    Parameters
    ----------
    name : str
        Of the parameter.
    parameter : Tensor
    fate : Fate
        What was drawn or written into it.
    value : Tensor or None
        Its entries, where they are known.
    """
    law = fate.law
    if fate.pieces and law is not None:
        law = _with_zero_rows(law, fate, value)
    if law is None and fate.before is not None and fate.before.random and fate.changes > 2:
        # training inside the factory: an optimiser writes to it again and again
        return replace(fate.before, source=f"{fate.before.source}, trained since")
    if law is not None and law.kind != "constant":
        return law
    if value is None:
        if law is not None and law.source not in COMPUTED:
            return law
        raise AnalysisError(
            f"The law of {name} could not be followed on the meta device.",
            f"Give it: laws={{'{name}': Law(std=…)}}.",
        )
    if law is None:
        return law_of_entries([value], "its own entries")
    if value.numel() and bool((value == value.reshape(-1)[0]).all()):
        return Law.constant(float(value.reshape(-1)[0]), law.source)
    return Law.constant(value.clone(), law.source)


def _with_zero_rows(law: Law, fate: Fate, value: Tensor | None) -> Law | None:
    """Rows set to zero apart from the rest; None for any other patchwork."""
    if all(piece == law for _, _, piece in fate.pieces):
        return law
    rows: list[int] = []
    for start, stop, piece in fate.pieces:
        if piece is None or piece.kind != "constant" or piece.mean != 0:
            return None if law.random else law
        if value is not None and bool(value[start:stop].any()):
            return None if law.random else law
        rows += range(start, stop)
    return replace(law, zero_rows=tuple(rows)) if law.kind != "constant" else law


def laws_of_classes(model: nn.Module) -> dict[str, Law]:
    """The laws that the classes of a model draw from, asked of a copy on the meta device."""
    try:
        hollow = _hollow(model)
    except Exception:  # modules that cannot be copied have no say
        return {}
    drawing = Drawing()
    with torch.random.fork_rng(devices=[]), drawing, torch.device("meta"), torch.no_grad():
        for module in reversed(list(hollow.modules())):
            reset = getattr(module, "reset_parameters", None)
            reset = reset or getattr(module, "_reset_parameters", None)
            if reset is not None and not list(inspect.signature(reset).parameters):
                _quietly(reset)
        for part in self_initialising(hollow):
            _quietly(lambda part=part: reinitialise(part))
    found = {}
    for name, parameter in hollow.named_parameters():
        fate = drawing.fate(parameter)
        untouched = fate.law is not None and fate.law.source == "made outside of torch"
        if untouched or (fate.law is None and fate.before is None):
            continue
        try:
            found[name] = resolved(name, parameter, fate, drawing.value(parameter))
        except AnalysisError:
            continue
    return found


def _hollow(model: nn.Module) -> nn.Module:
    """A copy whose parameters and buffers are on the meta device; no data is copied."""
    memo: dict[int, object] = {}
    for parameter in model.parameters():
        hollow = nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)
        memo[id(parameter)] = hollow
    for buffer in model.buffers():
        memo[id(buffer)] = buffer.detach().to("meta")
    return copy.deepcopy(model, memo)


def self_initialising(model: nn.Module) -> Iterator[nn.Module]:
    """The outermost modules that know how to initialise all of themselves."""
    if callable(getattr(model, "_init_weights", None)):
        yield model
        return
    for child in model.children():
        yield from self_initialising(child)


def reinitialise(model: nn.Module) -> None:
    """Call Hugging Face's initialisation, or a method ``_init_weights(module)`` of that style."""
    for module in model.modules():
        for thing in (module, *module.parameters(recurse=False), *module.buffers(recurse=False)):
            if getattr(thing, "_is_hf_initialized", False):
                setattr(thing, "_is_hf_initialized", False)  # noqa: B010 - a Tensor has no such field
    with _untied(model):
        whole = getattr(model, "initialize_weights", None)
        one = getattr(model, "_init_weights", None)
        if callable(whole):
            whole()
        elif callable(one) and len(inspect.signature(one).parameters) == 1:
            for module in reversed(list(model.modules())):
                one(module)


@contextmanager
def _untied(model: nn.Module) -> Iterator[None]:
    """Weights are initialised before they are tied: give later users one of their own so long."""
    seen: set[int] = set()
    tied: list[tuple[nn.Module, str, nn.Parameter]] = []
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is None:
                continue
            if id(parameter) in seen:
                tied.append((module, name, parameter))
                module._parameters[name] = nn.Parameter(torch.empty_like(parameter))
            seen.add(id(parameter))
    try:
        yield
    finally:
        for module, name, parameter in tied:
            module._parameters[name] = parameter


def _quietly(function: Callable[[], object]) -> None:
    """A method that fails on the meta device says nothing; others still do."""
    try:
        function()
    except Exception:
        return

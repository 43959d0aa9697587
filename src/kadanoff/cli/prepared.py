"""What diagnose, tune and sparsity do first: a model and a batch that it accepts."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn

from kadanoff.cli.options import Model
from kadanoff.cli.target import LoadedModel, load_target, load_weights, parse_kwargs
from kadanoff.data import Batch, adapt, load
from kadanoff.devices import chosen
from kadanoff.errors import AnalysisError, KadanoffError

__all__ = ["analysed", "prepare"]


def prepare(model: Model, *, seed: int, device: str) -> tuple[LoadedModel, Batch]:
    """Load a model and a batch that it accepts, on the device.

    Raises
    ------
    UsageError
        Whatever is wrong with the target, its arguments and weights, the data or the device.
    AnalysisError
        A TorchScript file whose layers cannot be seen.
    """
    # the cheap mistakes first, before anything is built
    chosen(device, torch.float32)
    arguments = parse_kwargs(model.kwargs)
    loaded = load_target(model.target, arguments, seed=seed, device=device)
    if model.weights is not None:
        load_weights(loaded.model, model.weights)
    sample = load(model.data, batch=loaded.batch or model.batch, seed=seed)
    sample = adapt(loaded.model, sample)
    return eager(loaded, sample), sample


def eager(loaded: LoadedModel, sample: Batch) -> LoadedModel:
    """Open a TorchScript model: its layers cannot be seen until it is turned into a graph."""
    if not isinstance(loaded.model, torch.jit.ScriptModule):
        return loaded
    inputs = sample.inputs
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from torch._export.converter import TS2EPConverter

            arguments = inputs if isinstance(inputs, tuple) else (inputs,)
            program = TS2EPConverter(loaded.model, arguments).convert()
            names = {name for name, _ in loaded.model.named_parameters()}
            return replace(loaded, model=_with_parameters(program.module(), names))
    except Exception as error:
        first = (str(error).strip().splitlines() or ["no message"])[0][:160]
        raise AnalysisError(
            f"{loaded.spec!r} is TorchScript, whose layers cannot be seen, and it could not be "
            f"turned into a graph ({type(error).__name__}: {first}).",
            "Give the eager model it was made from, or a .pt2 file of torch.export.save.",
        ) from error


def _with_parameters(graph: nn.Module, names: set[str]) -> nn.Module:
    """The converter lifts weights into buffers: make parameters of them again."""
    for name, value in list(graph.named_buffers()):
        if name in names:
            place, _, leaf = name.rpartition(".")
            owner = graph.get_submodule(place)
            del owner._buffers[leaf]
            owner.register_parameter(leaf, nn.Parameter(value.detach().clone()))
    return graph


@contextmanager
def analysed(target: str) -> Iterator[None]:
    """Turn what an analysis trips over into exit code 3 with one line; see ``--debug``."""
    try:
        yield
    except KadanoffError:
        raise
    except Exception as error:
        first = (str(error).strip().splitlines() or ["no message"])[0][:200]
        raise AnalysisError(
            f"{target!r} could not be analysed: {type(error).__name__}: {first}",
            "Run again with --debug to see where.",
        ) from error

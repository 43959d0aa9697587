"""What diagnose, tune and sparsity do first: a model and a batch that it accepts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from kadanoff.cli.options import ALL, Model
from kadanoff.cli.target import LoadedModel, load_target, load_weights, parse_kwargs
from kadanoff.data import Batch, adapt, example, load_whole
from kadanoff.devices import chosen
from kadanoff.errors import AnalysisError, KadanoffError
from kadanoff.trace.scripted import eager

__all__ = ["analysed", "prepare", "prepare_whole"]


def prepare(model: Model, *, seed: int, device: str) -> tuple[LoadedModel, Batch]:
    """Load a model and a batch that it accepts, on the device; see :func:`prepare_whole`."""
    loaded, sample, _ = prepare_whole(model, seed=seed, device=device)
    return loaded, sample


def prepare_whole(
    model: Model, *, seed: int, device: str
) -> tuple[LoadedModel, Batch, Batch | None]:
    """Load a model, a batch that it accepts, and all the data if they are more than the batch.

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
    wanted = None if model.batch == ALL else model.batch
    whole = load_whole(model.data, batch=loaded.batch or wanted, seed=seed)
    sample = whole.sample(loaded.batch or wanted, seed)
    try:
        sample = adapt(loaded.model, sample)
    except KadanoffError as error:
        if len(sample) == len(whole):
            raise
        try:  # samples that belong together, as the nodes of a graph do, cannot be cut
            sample = adapt(loaded.model, whole)
        except KadanoffError:
            raise error from None
        note = "the model takes all samples together only: the batch was not cut"
        sample = replace(sample, notes=(*sample.notes, note))
    call = example(sample, loaded.model)
    opened = replace(loaded, model=eager(loaded.model, call.args, call.kwargs))
    return opened, sample, _alike(whole, sample)


def _alike(whole: Batch, sample: Batch) -> Batch | None:
    """All the data in the form that the model takes, if they are more than the batch."""
    if len(whole) <= len(sample) or not isinstance(whole.inputs, torch.Tensor):
        return None
    assert isinstance(sample.inputs, torch.Tensor)
    shape, dtype = sample.inputs.shape[1:], sample.inputs.dtype
    if whole.inputs.shape[1:].numel() != shape.numel():
        return None
    inputs = whole.inputs.reshape(len(whole), *shape).to(dtype)
    return replace(whole, inputs=inputs).to(sample.inputs.device)


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

"""Train a model with a given recipe under a watch; what was done survives an end at any moment."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kadanoff.diagnosis.recipe import Recipe
from kadanoff.errors import StorageError, UsageError
from kadanoff.files import atomic_open
from kadanoff.tuning.objective import Objective
from kadanoff.tuning.stream import Stream
from kadanoff.watching.film import Event, Film
from kadanoff.watching.loop import Watch

__all__ = ["optimizer_of", "train"]

# seconds between checkpoints
SAVED_EVERY = float(os.environ.get("KADANOFF_CHECKPOINT_SECONDS", "5"))

Progress = Callable[..., None]


def train(
    model: nn.Module,
    data: Any,
    recipe: Recipe,
    *,
    steps: int = 1000,
    watched: Any = None,
    batch: int | None = None,
    loss: Callable[..., Any] | None = None,
    every: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    log: Any = None,
    on_finding: Callable[[Event], Any] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Film:
    """Train a model in place and return the film of it.

    Equal seeds give equal films, also where a run was interrupted and resumed.

    Parameters
    ----------
    model : nn.Module
    data
        What to train on, as :class:`kadanoff.tuning.stream.Stream` takes it.
    recipe : Recipe
        The optimiser.
    steps : int
        Altogether, with those of the checkpoint.
    watched : optional
        The batch that is watched; default: the first one of the training data.
    batch : int, optional
        Samples a step; default 64 of larger datasets.
    loss : callable, optional
        ``loss(output, targets)``; default by the targets, or the model's own.
    every : int, optional
        Steps between looks; default a fiftieth of ``steps``. Everything is measured at each.
    checkpoint : path, optional
        Written every few seconds and at the end, all at once; if it exists, the run goes on from
        it.
    log : optional
        As for :class:`kadanoff.watching.Watch`.
    on_finding : callable, optional
        Called with each event beyond notes.
    seed : int
        Of the order of the data, and of what is random in the model.
    progress : callable, optional
        ``progress(done, total, message=...)``.

    Returns
    -------
    Film
        Training ends early where loss or gradients are no longer finite.

    Raises
    ------
    UsageError
        ``steps`` below 1; a checkpoint of another run.
    DataError
        The model cannot take the data, or there is no loss.
    StorageError
        The checkpoint cannot be read or written.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise UsageError(f"steps = {steps!r} trains nothing.", "Give a whole number from 1 on.")
    stream = Stream(data, model, batch=batch, seed=seed)
    objective = Objective(loss)
    optimizer = optimizer_of(recipe, model)
    watch = Watch(
        model,
        stream.batch(0) if watched is None else watched,
        every=every or max(steps // 50, 1),
        on_finding=on_finding,
        loss=loss,
        optimizer=optimizer,
        log=log,
        thorough=True,
        seed=seed,
    )
    run = {"recipe": asdict(recipe), "seed": seed, "batch": batch, "every": watch.every}
    run["parameters"] = [[name, list(p.shape)] for name, p in model.named_parameters()]
    begun = _resumed(checkpoint, run, model, optimizer, watch)
    devices = sorted({p.device.index or 0 for p in model.parameters() if p.is_cuda})
    was_training = model.training
    model.train()
    saved = time.monotonic()
    done = begun
    try:
        with watch, torch.random.fork_rng(devices=devices):
            for step in range(begun, steps):
                if watch.film.broken is not None:
                    break
                torch.manual_seed(seed * 1_000_003 + step)  # a step is random by its number
                optimizer.zero_grad()
                value = objective(model, stream.batch(step))
                value.backward()
                if watch.film.broken is not None:  # the weights are good still
                    break
                optimizer.step()
                done = step + 1
                if progress is not None:
                    progress(done, steps, message=f"loss {float(value.detach()):.4g}")
                if checkpoint is not None and time.monotonic() - saved > SAVED_EVERY:
                    _save(checkpoint, run, done, model, optimizer, watch)
                    saved = time.monotonic()
    finally:
        # also when it was interrupted; a finished run is found finished
        if checkpoint is not None:
            _save(checkpoint, run, done, model, optimizer, watch)
        model.train(was_training)
    return watch.film


def optimizer_of(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """The optimiser of torch that a recipe stands for, with all trainable parameters.

    Parameters
    ----------
    recipe : Recipe
    model : nn.Module

    Raises
    ------
    UsageError
        Nothing of the model can be trained.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise UsageError(
            f"No parameter of the model {type(model).__name__} requires a gradient.",
            "Unfreeze some: model.requires_grad_(True).",
        )
    made = {
        "sgd": torch.optim.SGD,
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "rmsprop": torch.optim.RMSprop,
        "adagrad": torch.optim.Adagrad,
    }[recipe.name]
    more: dict[str, Any] = {"momentum": recipe.momentum} if recipe.momentum else {}
    return made(parameters, lr=recipe.rate, weight_decay=recipe.weight_decay, **more)


def _save(
    path: str | os.PathLike[str],
    run: dict[str, Any],
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    watch: Watch,
) -> None:
    state = {
        "run": run,
        "step": step,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "watch": watch.state_dict(),
    }
    with atomic_open(path) as stream:
        torch.save(state, stream)


def _resumed(
    path: str | os.PathLike[str] | None,
    run: dict[str, Any],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    watch: Watch,
) -> int:
    """Steps that a checkpoint holds; its state is loaded."""
    if path is None or not Path(path).exists():
        return 0
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        other = [name for name in run if state["run"].get(name) != run[name]]
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
        first = (str(error).strip().splitlines() or ["no message"])[0][:120]
        raise StorageError(
            f"{str(path)!r} is no checkpoint of a watched run: {first}.", "Name another file."
        ) from None
    if other:
        raise UsageError(
            f"The checkpoint {str(path)!r} is of another run: {', '.join(other)} differ"
            f"{'s' if len(other) == 1 else ''}.",
            "Repeat the command as it was, or name a new file.",
        )
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    watch.load_state_dict(state["watch"])
    return int(state["step"])

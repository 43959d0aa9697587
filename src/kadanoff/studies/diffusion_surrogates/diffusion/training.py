"""Training of surrogates: weighted losses, roll-back, checkpoints."""

from __future__ import annotations

import copy
import io
import itertools
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from kadanoff.errors import AnalysisError, StorageError, UsageError
from kadanoff.files import atomic_open

__all__ = ["RollBack", "SurrogateFit", "fit", "weighted_loss"]


def weighted_loss(
    prediction: Tensor, y: Tensor, kind: str = "absolute", weight: float = math.inf
) -> Tensor:
    """mean[ e^{−(1−y)/w} |ŷ − y|^a ]: the authors' losses, which count bright pixels most.

    Parameters
    ----------
    prediction, y : Tensor
        Fields normalised to a maximum of 1.
    kind : {"absolute", "square", "quartic"}
        a = 1, 2 or 4.
    weight : float
        w > 0; infinite for no weighting.
    """
    if kind not in ("absolute", "square", "quartic"):
        raise UsageError(f"Unknown loss {kind!r}.", "Choose absolute, square or quartic.")
    if not weight > 0:
        raise UsageError(f"The weight of a loss must be positive, got {weight}.")
    error = (prediction - y).abs() ** {"absolute": 1, "square": 2, "quartic": 4}[kind]
    return error.mean() if math.isinf(weight) else (torch.exp((y - 1) / weight) * error).mean()


@dataclass
class RollBack:
    """Reject an epoch that raises the loss abnormally, and go back to the last backup.

    An epoch is rejected if its loss exceeds the one before by more than ``factor`` times the mean
    of |Δloss| over the ``window`` epochs before, or is not finite. The optimiser goes back with
    the weights (the authors restore the weights alone, which leaves Adam with the moments of the
    rejected step).

    Parameters
    ----------
    window, factor, every : int, float, int
        20, 10 and a backup each 5 epochs in the paper.
    restore_optimizer : bool
    """

    window: int = 20
    factor: float = 10.0
    every: int = 5
    restore_optimizer: bool = True
    losses: list[float] = field(default_factory=list)
    rejected: list[int] = field(default_factory=list)
    epochs: int = 0
    backup: tuple[Any, Any] | None = None

    def accept(self, loss: float, model: nn.Module, optimizer: torch.optim.Optimizer) -> bool:
        """Tell the loss of one more epoch; False if it was rejected and the model restored."""
        self.epochs += 1
        if self._abnormal(loss):
            self.rejected.append(self.epochs)
            if self.backup is None:
                raise AnalysisError(
                    f"The loss is {loss} before there is anything to roll back to.",
                    "Lower the learning rate.",
                )
            weights, moments = self.backup
            model.load_state_dict(weights)
            if self.restore_optimizer:
                optimizer.load_state_dict(copy.deepcopy(moments))
            return False
        self.losses.append(loss)
        if self.backup is None or len(self.losses) % self.every == 0:
            self.backup = (copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict()))
        return True

    def _abnormal(self, loss: float) -> bool:
        if not math.isfinite(loss):
            return True
        if len(self.losses) < self.window + 2:
            return False
        recent = self.losses[-self.window - 1 :]
        usual = sum(abs(b - a) for a, b in itertools.pairwise(recent)) / self.window
        return loss - self.losses[-1] > self.factor * usual


@dataclass
class SurrogateFit:
    """Record of a training.

    Attributes
    ----------
    losses : list of float
        Mean training loss of each epoch, rejected ones included.
    checks : list of (samples, measure)
        What ``evaluate`` returned along the way.
    rejected : list of int
        Epochs (from 1) that were rolled back.
    samples : int
    """

    losses: list[float] = field(default_factory=list)
    checks: list[tuple[int, Any]] = field(default_factory=list)
    rejected: list[int] = field(default_factory=list)
    samples: int = 0


def fit(
    model: nn.Module,
    batch: Callable[[int], tuple[Tensor, Tensor]],
    optimizer: torch.optim.Optimizer,
    *,
    epochs: int,
    batches: int,
    loss: Callable[[Tensor, Tensor], Tensor] = weighted_loss,
    decay: str = "cosine",
    rollback: RollBack | None = None,
    evaluate: Callable[[nn.Module], Any] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    seed: int = 0,
    progress: Callable[..., None] | None = None,
) -> SurrogateFit:
    """Train a surrogate, with roll-back if wanted; goes on from its checkpoint after a kill.

    Parameters
    ----------
    model, optimizer
        The learning rates the optimiser comes with are the initial ones.
    batch : callable
        index ↦ (source, field); the same index gives the same batch.
    epochs, batches : int
        An epoch is ``batches`` steps; the loss of roll-back is its mean.
    loss : callable
        (prediction, field) ↦ scalar.
    decay : {"cosine", "none"}
        Cosine to zero over all epochs, or constant rates.
    evaluate : callable, optional
        Called in eval mode about ten times and at the end.
    checkpoint : path, optional
        Written after each epoch, atomically.
    seed : int
        Of dropout.
    progress : callable, optional
        ``progress(done, total)``.

    Raises
    ------
    AnalysisError
        The loss is not finite and there is no roll-back.
    """
    if decay not in ("cosine", "none"):
        raise UsageError(f"Unknown decay {decay!r}.", "Choose cosine or none.")
    record, first, start = SurrogateFit(), [g["lr"] for g in optimizer.param_groups], 0
    if checkpoint is not None and os.path.exists(checkpoint):
        start, first, record = _resume(checkpoint, model, optimizer, rollback)
    each = max(1, epochs // 10)
    with torch.random.fork_rng(devices=[]):
        for epoch in range(start, epochs):
            torch.manual_seed(seed * 1_000_003 + epoch)
            model.train()
            total = 0.0
            for k in range(batches):
                _set_rates(optimizer, first, decay, (epoch + k / batches) / epochs)
                x, y = batch(epoch * batches + k)
                optimizer.zero_grad()
                value = loss(model(x), y)
                value.backward()
                optimizer.step()
                total += float(value.detach())
                record.samples += len(x)
            _end_of_epoch(record, total / batches, model, optimizer, rollback)
            if evaluate is not None and ((epoch + 1) % each == 0 or epoch + 1 == epochs):
                model.eval()
                record.checks.append((record.samples, evaluate(model)))
            if checkpoint is not None:
                _save(checkpoint, epoch + 1, first, model, optimizer, rollback, record)
            if progress is not None:
                progress(epoch + 1, epochs)
    model.eval()
    return record


def _set_rates(
    optimizer: torch.optim.Optimizer, first: list[float], decay: str, done: float
) -> None:
    factor = 0.5 * (1 + math.cos(math.pi * done)) if decay == "cosine" else 1.0
    for group, rate in zip(optimizer.param_groups, first):
        group["lr"] = rate * factor


def _end_of_epoch(
    record: SurrogateFit,
    loss: float,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    rollback: RollBack | None,
) -> None:
    record.losses.append(loss)
    if rollback is None:
        if not math.isfinite(loss):
            raise AnalysisError(
                f"The training loss became {loss} in epoch {len(record.losses)}.",
                "Lower the learning rate, or pass rollback=RollBack().",
            )
    elif not rollback.accept(loss, model, optimizer):
        record.rejected.append(len(record.losses))


def _save(
    path: str | os.PathLike[str],
    epoch: int,
    first: list[float],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    rollback: RollBack | None,
    record: SurrogateFit,
) -> None:
    state = {
        "epoch": epoch,
        "rates": first,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "rollback": vars(rollback) if rollback else None,
        "record": vars(record),
    }
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with atomic_open(path) as stream:
        stream.write(buffer.getvalue())


def _resume(
    path: str | os.PathLike[str],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    rollback: RollBack | None,
) -> tuple[int, list[float], SurrogateFit]:
    try:
        state = torch.load(path, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    except Exception as error:
        raise StorageError(
            f"The checkpoint {os.fspath(path)!r} does not fit this training: {error}.",
            "Delete it to start afresh.",
        ) from error
    if rollback is not None and state["rollback"] is not None:
        vars(rollback).update(state["rollback"])
    return state["epoch"], state["rates"], SurrogateFit(**state["record"])

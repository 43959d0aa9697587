"""Does a small model's best rate, decay, batch, ε, β₂ or warm-up hold on a large one?"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from kadanoff.errors import UsageError
from kadanoff.tuning.factories import Factory
from kadanoff.tuning.finished import Finished
from kadanoff.tuning.movement import Coordinate, coordinates
from kadanoff.tuning.objective import Loss, Objective
from kadanoff.tuning.scalings import EPS, TABLE, scale
from kadanoff.tuning.stream import Stream
from kadanoff.tuning.sweeps import Transfer, sizes_of, sweep, verdict

__all__ = ["KNOBS", "SweepRecipe", "values_of", "wander"]

KNOBS = ("lr", "weight_decay", "batch", "eps", "beta2", "warmup")
RATES = {"sgd": 0.1, "adam": 3e-3, "adamw": 3e-3}
# values of a knob where none are given; of beta2 it is 1 - beta2, of warm-up a part of the steps
VALUES = {
    "weight_decay": (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0),
    "batch": (8, 16, 32, 64, 128),
    "eps": (1e-12, 1e-10, 1e-8, 1e-6, 1e-4),
    "beta2": (0.001, 0.003, 0.01, 0.03, 0.1, 0.3),
    "warmup": (0.01, 0.03, 0.1, 0.3, 0.6),
}


@dataclass(frozen=True)
class SweepRecipe:
    """How every model is trained; the knob that is swept replaces its entry."""

    optimizer: str = "adamw"
    lr: float | None = None
    weight_decay: float | None = None
    batch: int = 64
    steps: int = 100
    loss: Loss | None = None

    @property
    def rate(self) -> float:
        """The rate at the smallest size."""
        return RATES[self.optimizer] if self.lr is None else self.lr


def values_of(knob: str, recipe: SweepRecipe) -> list[float]:
    """Values that a knob is swept over if none are given, ascending."""
    if knob == "lr":
        return [recipe.rate * 2.0**k for k in range(-3, 4)]
    return [float(v) for v in VALUES[knob]]


def wander(
    factory: Factory,
    data: Any,
    widths: Sequence[int],
    depths: Sequence[int],
    *,
    knob: str = "lr",
    values: Sequence[float] | None = None,
    scaling: str = "mup",
    recipe: SweepRecipe | None = None,
    seeds: int = 2,
    seed: int = 0,
    tolerance: float = 1.0,
    check_steps: int = 5,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: Callable[..., None] | None = None,
) -> Transfer:
    """Sweep one knob over the sizes of any family, scaled from the smallest size.

    Parameters
    ----------
    factory : Factory
    data
        As :class:`kadanoff.tuning.stream.Stream` takes it.
    widths, depths : sequences of int
        The first depth is swept over all widths, the last width over all depths.
    knob : {"lr", "weight_decay", "batch", "eps", "beta2", "warmup"}
        ``beta2`` is swept as 1 - beta2, ``warmup`` as a part of the steps.
    values : sequence of float, optional
        Ascending; more are tried where the best lies at an end.
    scaling : str
        See :func:`kadanoff.tuning.scale`.
    recipe : SweepRecipe, optional
    seeds : int
        Networks a point, at least two.
    tolerance : float
        Largest distance between optima, in factors of two, at which the knob is said to carry.
    checkpoint : path, optional
        Finished runs are kept in this file; the same call goes on from it.

    Returns
    -------
    Transfer

    Raises
    ------
    UsageError
        Fewer than two sizes, three values or two seeds; an unknown knob, scaling or optimiser.
    """
    recipe = SweepRecipe() if recipe is None else recipe
    _check(knob, scaling, recipe)
    widths, depths = sorted(set(widths)), sorted(set(depths))
    sizes = sizes_of(widths, depths)
    grid = sorted(values) if values else values_of(knob, recipe)
    if len(sizes) < 2 or len(grid) < 3 or seeds < 2 or min(grid) <= 0:
        raise UsageError(
            f"{len(sizes)} sizes, {len(grid)} values and {seeds} seeds do not make a transfer run.",
            "Give at least two sizes, three positive values and two seeds.",
        )
    run = _KnobRun(factory, data, (widths[0], depths[0]), knob, scaling, recipe)
    identity = {
        "knob": knob,
        "scaling": scaling,
        "optimizer": recipe.optimizer,
        "lr": recipe.rate,
        "weight_decay": recipe.weight_decay,
        "batch": recipe.batch,
        "steps": recipe.steps,
        "model": repr(factory.build(*sizes[0], seed)),
    }
    finished = Finished(checkpoint, identity)
    curves = sweep(
        sizes,
        grid,
        range(seed, seed + seeds),
        run,
        finished,
        grows=knob in ("lr", "weight_decay"),
        progress=progress,
    )
    check: tuple[Coordinate, ...] = ()
    if len(widths) > 1:
        check = coordinates(
            lambda w, k: factory.build(w, depths[0], k),
            run.prepare,
            data,
            widths,
            predicted=TABLE[scaling].moves,
            objective=Objective(recipe.loss),
            steps=check_steps,
            seeds=max(seeds, 4),
            seed=seed,
            batch=recipe.batch,
        )
    spread, error, carries = verdict(curves, tolerance)
    return Transfer(
        optimizer=recipe.optimizer,
        s=1.0,
        curves=tuple(curves),
        coordinates=check,
        spread=spread,
        spread_stderr=error,
        tolerance=tolerance,
        carries=carries,
        knob=knob,
        scaling=scaling,
    )


def _check(knob: str, scaling: str, recipe: SweepRecipe) -> None:
    if knob not in KNOBS:
        raise UsageError(f"Unknown knob {knob!r}.", f"Choose from {', '.join(KNOBS)}.")
    if scaling not in TABLE:
        raise UsageError(f"Unknown scaling {scaling!r}.", f"Choose from {', '.join(TABLE)}.")
    if recipe.optimizer not in RATES:
        raise UsageError(
            f"Unknown optimizer {recipe.optimizer!r}.", f"Choose from {', '.join(RATES)}."
        )
    if recipe.optimizer == "sgd" and knob in ("eps", "beta2"):
        raise UsageError(f"SGD has no {knob}.", "Sweep it with --optimizer adamw.")


class _KnobRun:
    """One training run at a size and a value of the knob."""

    def __init__(
        self,
        factory: Factory,
        data: Any,
        smallest: tuple[int, int],
        knob: str,
        scaling: str,
        recipe: SweepRecipe,
    ) -> None:
        self.factory, self.data, self.smallest = factory, data, smallest
        self.knob, self.scaling, self.recipe = knob, scaling, recipe

    def __call__(self, width: int, depth: int, value: float, seed: int) -> float:
        """Mean loss of the last tenth of the steps; inf if it diverged."""
        recipe, steps = self.recipe, self.recipe.steps
        model = self.factory.build(width, depth, seed)
        batch = round(value) if self.knob == "batch" else recipe.batch
        stream = Stream(self.data, model, batch=batch, seed=seed)
        optimizers = self.prepare(model, seed, value)
        warm = value * steps if self.knob == "warmup" else 0.0
        rates = [[g["lr"] for g in o.param_groups] for o in optimizers]
        objective, losses = Objective(recipe.loss), []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # dropout
            for step in range(steps):
                part = min(1.0, (step + 1) / warm) if warm > 0 else 1.0
                for optimizer, own in zip(optimizers, rates, strict=True):
                    for group, rate in zip(optimizer.param_groups, own, strict=True):
                        group["lr"] = rate * part
                model.zero_grad(set_to_none=True)
                loss = objective(model, stream.batch(step))
                losses.append(float(loss.detach()))
                if not losses[-1] < 1e3 * max(abs(losses[0]), 1e-3):
                    return math.inf
                loss.backward()
                for optimizer in optimizers:
                    optimizer.step()
        last = losses[-max(1, steps // 10) :]
        return sum(last) / len(last)

    def prepare(
        self, model: nn.Module, seed: int, value: float | None = None
    ) -> list[torch.optim.Optimizer]:
        """Scale a model from the smallest one; its optimisers at a value of the knob."""
        recipe, knob = self.recipe, self.knob
        base = self.factory.build(*self.smallest, seed)
        sample = Stream(self.data, model, batch=recipe.batch, seed=seed).batch(0)
        lr = value if knob == "lr" and value is not None else recipe.rate
        decay = value if knob == "weight_decay" else recipe.weight_decay
        made = scale(
            model,
            base,
            sample,
            self.scaling,
            optimizer=recipe.optimizer,
            lr=lr,
            weight_decay=decay,
        )
        if value is not None and knob in ("eps", "beta2"):
            for group in made:
                # over torch's, as the scaling has it
                own = {"eps": value * group.get("eps", EPS) / EPS}
                group |= own if knob == "eps" else {"betas": (0.9, 1 - value)}
        return made.optimizers()

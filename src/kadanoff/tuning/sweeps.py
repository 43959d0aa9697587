"""Does a learning rate found on a small model hold on a large one? The sweep and the check.

The sweep trains at every width, depth and base rate, and reads the best base off a parabola in
its logarithm. The coordinate check measures how much hidden activations move in a few steps, and
holds the exponent in the width against the prediction for the member s of the family.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kadanoff.errors import UsageError
from kadanoff.trace.losses import DefaultLoss, loss_for
from kadanoff.tuning.finished import Finished
from kadanoff.tuning.movement import Coordinate, coordinates
from kadanoff.tuning.optimizers import make_optimizers
from kadanoff.tuning.rates import parameter_groups

__all__ = [
    "Coordinate",
    "Curve",
    "Transfer",
    "coordinate_check",
    "make_optimizers",
    "sizes_of",
    "sweep",
    "train_on_batches",
    "transfer",
    "verdict",
]

Build = Callable[[int, int, int], nn.Module]
# bases added, at most, where the optimum lies at the end of the grid
_EXTEND = 5


@dataclass(frozen=True)
class Curve:
    """Final loss against base rate at one size; arrays have one entry a base.

    ``optimum`` is log2 of the best base with its standard error over seeds.
    """

    width: int
    depth: int
    bases: tuple[float, ...]
    loss: tuple[float, ...]
    stderr: tuple[float, ...]
    optimum: float
    optimum_stderr: float
    at_edge: bool


@dataclass(frozen=True)
class Transfer:
    """The sweep, the check, and what they say.

    ``spread`` is the largest distance, in factors of two of the base rate, between the optima of
    two sizes; ``carries`` holds it against ``tolerance`` (two standard errors allowed), and is
    false where an optimum lies outside the bases tried.
    """

    optimizer: str
    s: float
    curves: tuple[Curve, ...]
    coordinates: tuple[Coordinate, ...]
    spread: float
    spread_stderr: float
    tolerance: float
    carries: bool
    knob: str = "base"
    scaling: str = ""

    @property
    def fine(self) -> bool:
        """Whether the rate carries and every layer moves as predicted."""
        return self.carries and all(c.fine for c in self.coordinates)


def train_on_batches(
    model: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    X: Tensor,
    y: Tensor,
    *,
    steps: int,
    batch: int,
    seed: int,
) -> float:
    """Train on random batches; mean training loss of the last tenth (inf if it diverged).

    Parameters
    ----------
    model : nn.Module
        Changed in place.
    optimizers : list of Optimizer
    X, y : Tensor
        Inputs and targets, one row a sample.
    steps : int
    batch : int
        Samples a step, drawn with replacement.
    seed : int
        Of the batches.
    """
    generator = torch.Generator().manual_seed(seed)
    tail: list[float] = []
    ceiling = math.inf
    criterion: DefaultLoss | None = None
    for step in range(steps):
        rows = torch.randint(X.shape[0], (min(batch, X.shape[0]),), generator=generator)
        output = model(X[rows])
        criterion = criterion or loss_for(output, y[rows])
        assert criterion is not None  # there are targets
        loss = criterion(output, y[rows])
        value = float(loss.detach())
        if step == 0:
            ceiling = 1e3 * max(value, 1e-3)
        if not math.isfinite(value) or value > ceiling:
            return math.inf
        for o in optimizers:
            o.zero_grad(set_to_none=True)
        loss.backward()
        for o in optimizers:
            o.step()
        if step >= steps - max(1, steps // 10):
            tail.append(value)
    return sum(tail) / len(tail)


def _best(bases: Sequence[float], losses: Sequence[float]) -> float:
    """log2 of the best base: the vertex of the parabola through the lowest three points."""
    k = min(range(len(losses)), key=losses.__getitem__)
    x = [math.log2(b) for b in bases]
    if 0 < k < len(losses) - 1 and math.isfinite(losses[k + 1]) and math.isfinite(losses[k - 1]):
        left, here, right = (math.log(max(losses[j], 1e-30)) for j in (k - 1, k, k + 1))
        bend = left - 2 * here + right
        if bend > 0:
            return x[k] + 0.5 * (left - right) / bend * (x[k + 1] - x[k])
    return x[k]


def transfer(
    build: Build,
    X: Tensor,
    y: Tensor,
    *,
    widths: Sequence[int] = (32, 64, 128),
    depths: Sequence[int] = (3,),
    optimizer: str = "adam",
    s: float = 1.0,
    bases: Sequence[float] | None = None,
    steps: int = 100,
    batch: int = 64,
    seeds: int = 3,
    seed: int = 0,
    tolerance: float = 1.0,
    check_steps: int = 5,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: Callable[..., None] | None = None,
) -> Transfer:
    """Sweep the base rate over sizes and check how activations move.

    Parameters
    ----------
    build : callable
        (width, depth, seed) -> model at its critical initialisation.
    X, y : Tensor
        Training inputs and targets (integers: cross-entropy, floats: squared error).
    widths, depths : sequences of int
        The first depth is swept over all widths, the last width over all depths.
    bases : sequence of float, optional
        Base rates, ascending; by default seven in factors of two around the default.
    tolerance : float
        Largest distance between optima, in factors of two, at which the rate is said to carry.
    checkpoint : path, optional
        Finished runs are kept in this file; the same call goes on from it.

    Returns
    -------
    Transfer

    Raises
    ------
    UsageError
        Fewer than two sizes or three bases, empty data, or the checkpoint of another sweep.
    StorageError
        The checkpoint cannot be read or written.
    """
    from kadanoff.tuning.rates import BASE

    if optimizer not in BASE:
        raise UsageError(f"Unknown optimizer {optimizer!r}.", f"Choose from {sorted(BASE)}.")
    widths, depths = sorted(set(widths)), sorted(set(depths))
    sizes = sizes_of(widths, depths)
    bases = sorted(bases) if bases else [BASE[optimizer] * 2.0**k for k in range(-3, 4)]
    if len(sizes) < 2 or len(bases) < 3 or seeds < 2 or X.shape[0] == 0:
        raise UsageError(
            f"{len(sizes)} sizes, {len(bases)} base rates, {seeds} seeds and {X.shape[0]} points "
            "do not make a transfer run.",
            "Give at least two sizes, three base rates, two seeds, and data.",
        )
    smallest = build(*sizes[0], seed)
    identity = {
        "optimizer": optimizer,
        "s": s,
        "steps": steps,
        "batch": batch,
        "X": X,
        "y": y,
        "model": repr(smallest),
        "weights": nn.utils.parameters_to_vector(smallest.parameters()),
    }
    finished = Finished(checkpoint, identity)

    def run(width: int, depth: int, base: float, k: int) -> float:
        model = build(width, depth, k)
        groups = parameter_groups(model, X[:batch], optimizer, s=s, base=base)
        made = make_optimizers(groups, optimizer)
        return train_on_batches(model, made, X, y, steps=steps, batch=batch, seed=1000 + k)

    numbers = range(seed, seed + seeds)
    curves = sweep(sizes, bases, numbers, run, finished, progress=progress)
    spread, error, carries = verdict(curves, tolerance)
    coordinates: tuple[Coordinate, ...] = ()
    if len(widths) > 1:
        coordinates = coordinate_check(
            lambda w, k: build(w, depths[0], k),
            X,
            y,
            widths=widths,
            optimizer=optimizer,
            s=s,
            base=2 ** (sum(c.optimum for c in curves) / len(curves) - 2),
            steps=check_steps,
            batch=batch,
            seeds=max(seeds, 8),
            seed=seed,
        )
    return Transfer(optimizer, s, tuple(curves), coordinates, spread, error, tolerance, carries)


def sizes_of(widths: Sequence[int], depths: Sequence[int]) -> list[tuple[int, int]]:
    """(width, depth): the first depth at all widths, then the last width at all other depths."""
    return [(w, depths[0]) for w in widths] + [(widths[-1], d) for d in depths[1:]]


def sweep(
    sizes: Sequence[tuple[int, int]],
    values: Sequence[float],
    seeds: Sequence[int],
    run: Callable[[int, int, float, int], float],
    finished: Finished,
    *,
    grows: bool = True,
    progress: Callable[..., None] | None = None,
) -> list[Curve]:
    """Train at every size, value and seed; a curve a size.

    Parameters
    ----------
    sizes : sequence of (int, int)
        Widths and depths.
    values : sequence of float
        Of the knob, ascending.
    seeds : sequence of int
    run : callable
        (width, depth, value, seed) -> final loss.
    finished : Finished
        Runs that need not be repeated; new ones are kept there.
    grows : bool
        Whether values beyond the grid are tried where the best one lies at its end.
    progress : callable, optional
        ``progress(done, total, width=..., depth=...)`` after each run.
    """
    total, done = len(sizes) * len(values) * len(seeds), 0

    def loss(width: int, depth: int, value: float, seed: int) -> float:
        nonlocal done
        found = finished.loss(width, depth, value, seed)
        if found is None:
            found = run(width, depth, value, seed)
            finished.keep(width, depth, value, seed, found)
        done += 1
        if progress is not None:
            progress(done, max(total, done), width=width, depth=depth)
        return found

    curves = []
    for width, depth in sizes:
        column: dict[float, list[float]] = {}
        todo = list(values)
        while todo:
            for value in todo:
                column[value] = [loss(width, depth, value, k) for k in seeds]
            todo = _further(column, len(values) + _EXTEND) if grows else []
        curves.append(_curve(width, depth, column))
    return curves


def verdict(curves: Sequence[Curve], tolerance: float) -> tuple[float, float, bool]:
    """Distance of the outermost optima, its standard error, and whether the knob carries."""
    ends = sorted(curves, key=lambda c: c.optimum)
    spread = ends[-1].optimum - ends[0].optimum
    error = math.hypot(ends[-1].optimum_stderr, ends[0].optimum_stderr)
    carries = spread <= tolerance + 2 * error and not any(c.at_edge for c in curves)
    return spread, error, carries


def _further(column: dict[float, list[float]], most: int) -> list[float]:
    """One base more on the side where the lowest loss sits at the end of the grid."""
    bases = sorted(column)
    mean = [sum(column[b]) for b in bases]
    k = min(range(len(mean)), key=mean.__getitem__)
    if len(bases) >= most or 0 < k < len(bases) - 1:
        return []
    return [bases[0] ** 2 / bases[1]] if k == 0 else [bases[-1] ** 2 / bases[-2]]


def _curve(width: int, depth: int, column: dict[float, list[float]]) -> Curve:
    bases = sorted(column)
    table = [list(row) for row in zip(*(column[b] for b in bases))]
    losses = torch.tensor(table, dtype=torch.float64)
    count = losses.shape[0]
    best = torch.tensor([_best(bases, row) for row in table], dtype=torch.float64)
    mean = losses.mean(0)
    middle = int(mean.argmin())
    # one grid step over sqrt(12) is what the grid itself leaves open
    grid = (math.log2(bases[1]) - math.log2(bases[0])) / math.sqrt(12)
    return Curve(
        width,
        depth,
        tuple(bases),
        tuple(mean.tolist()),
        tuple((losses.std(0) / math.sqrt(count)).nan_to_num(math.inf).tolist()),
        float(best.mean()),
        math.hypot(float(best.std()) / math.sqrt(count), grid / math.sqrt(count)),
        middle in (0, len(bases) - 1),
    )


def coordinate_check(
    build: Callable[[int, int], nn.Module],
    X: Tensor,
    y: Tensor,
    *,
    widths: Sequence[int],
    optimizer: str = "adam",
    s: float = 1.0,
    base: float | None = None,
    steps: int = 5,
    batch: int = 64,
    seeds: int = 4,
    seed: int = 0,
    tolerance: float = 0.15,
) -> tuple[Coordinate, ...]:
    """How activations move in ``steps`` steps, against width, layer by layer.

    Hidden layers move, relative to their size, as n^(-(1-s)/2); the output moves by an amount that
    does not depend on n. What is measured is max-free: root mean squares over samples and units,
    averaged (in the logarithm) over seeds.

    Parameters
    ----------
    build : callable
        (width, seed) -> model.
    X, y : Tensor
        Inputs and targets.
    widths : sequence of int
    optimizer : str
    s : float
        Member of the family.
    base : float, optional
        Base rate; by default that of the optimiser.
    steps : int
    batch : int
        Samples a step.
    seeds, seed : int
        How many networks a width, and the first one's number.
    tolerance : float
        Distance of the exponent from its prediction that counts as none.

    Returns
    -------
    tuple of Coordinate
        One for each module with a matrix, in the order of use.
    """

    def prepare(model: nn.Module, k: int) -> list[torch.optim.Optimizer]:
        groups = parameter_groups(model, X[:batch], optimizer, s=s, base=base, seed=k)
        return make_optimizers(groups, optimizer)

    return coordinates(
        build,
        prepare,
        (X, y),
        widths,
        predicted=-(1 - s) / 2,
        steps=steps,
        seeds=seeds,
        seed=seed,
        batch=batch,
        tolerance=tolerance,
    )

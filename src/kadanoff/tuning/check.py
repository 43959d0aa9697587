"""Does the tuned initialisation train better? Both are trained on the same batches."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kadanoff.data import Batch, adapt, example, load
from kadanoff.diagnosis import diagnose
from kadanoff.tuning.objective import Loss as UserLoss
from kadanoff.tuning.objective import Objective
from kadanoff.tuning.tuned import Tuned

__all__ = ["BeforeAfter", "TrainedCopy", "batches", "compare", "train_copy"]

# what counts as worse, and as not moved
WORSE = 0.03
RATES = (0.3, 0.1, 0.03, 0.01, 0.003)


@dataclass(frozen=True)
class TrainedCopy:
    """One run: learning rate, and the loss of each step (inf once it diverged)."""

    lr: float
    losses: tuple[float, ...]

    @property
    def final(self) -> float:
        """Mean loss over the last tenth of the steps."""
        last = self.losses[-max(1, len(self.losses) // 10) :]
        return math.inf if any(not math.isfinite(v) for v in last) else sum(last) / len(last)


@dataclass(frozen=True)
class BeforeAfter:
    """Diagnoses and training runs of a model before and after tuning."""

    before: Any
    after: Any
    trained_before: TrainedCopy | None
    trained_after: TrainedCopy | None
    loss_name: str
    note: str = ""
    optimizer: str = "SGD"

    @property
    def trouble(self) -> str:
        """What is wrong with the tuned model's run, in one sentence; empty if nothing is."""
        before, after = self.trained_before, self.trained_after
        if before is None or after is None:
            return ""
        if not math.isfinite(after.final):
            return "The tuned model's run diverged."
        if after.final > (1 + WORSE) * before.final:
            return (
                f"The tuned model ended worse ({after.final:.4g}) than the one before "
                f"({before.final:.4g})."
            )
        if not after.final < (1 - WORSE) * after.losses[0]:
            return f"The tuned model's loss did not move from {after.losses[0]:.4g}."
        return ""

    @property
    def failed(self) -> bool:
        """Whether the tuned model still has a finding, or its run gives cause to doubt."""
        return not self.after.healthy or bool(self.trouble)

    def to_dict(self) -> dict[str, Any]:
        """Plain values of everything, for JSON."""
        return {
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
            "training": {
                "loss": self.loss_name,
                "optimizer": self.optimizer,
                "before": self.trained_before,
                "after": self.trained_after,
                "note": self.note,
                "trouble": self.trouble,
            },
        }

    def __rich__(self) -> Any:
        from kadanoff.tuning.report import comparison_terminal

        return comparison_terminal(self)


def compare(
    before: nn.Module,
    after: nn.Module,
    sample: Batch,
    data: str,
    *,
    steps: int = 300,
    lr: float | None = None,
    seed: int = 0,
    batch: int = 128,
    tuned: Tuned | None = None,
    loss: UserLoss | None = None,
    progress: Callable[..., None] | None = None,
) -> BeforeAfter:
    """Diagnose and train a model before and after tuning; neither argument is changed.

    With ``tuned`` the model before is trained by its optimiser at the user's own rate, the one
    after with its groups. Without, both by plain SGD at ``lr``, or each at the best of five rates
    (one short run each), so that neither is handicapped by a rate that suits the other.

    Parameters
    ----------
    before, after : nn.Module
    sample : Batch
        What the diagnosis looks at.
    data : str
        Name of the data set that is trained on.
    steps : int
    lr : float, optional
        Of both trainings; see above.
    seed : int
    batch : int
        Samples a step.
    tuned : Tuned, optional
    loss : callable, optional
        ``loss(output, targets)``.
    progress : callable, optional
        ``progress(done, total)`` in steps.
    """
    first, second = (diagnose(model, sample, seed=seed) for model in (before, after))
    whole = adapt(after, load(data, batch=None, seed=seed))
    if whole.targets is None:
        note = "The data has no targets, so nothing was trained."
        return BeforeAfter(first, second, None, None, "", note)
    objective = Objective(loss)
    choose = tuned is None and lr is None
    short = max(1, steps // 8)
    total, done = 2 * (steps + (len(RATES) * short if choose else 0)), 0
    runs: list[TrainedCopy] = []
    for model in (before, after):

        def tick(count: int, start: int = done) -> None:
            if progress is not None:
                progress(start + count, total)

        def run(lr: float, steps: int, tell: Any = None, model: nn.Module = model) -> TrainedCopy:
            make = _maker(tuned, lr, mine=model is after)
            return train_copy(
                model,
                whole,
                make=make,
                lr=lr,
                steps=steps,
                seed=seed,
                batch=batch,
                objective=objective,
                progress=tell,
            )

        rate = lr or (0.0 if tuned is None else tuned.rate)
        if choose:
            found = []
            for trial in RATES:
                found.append(run(trial, short))
                done += short
                tick(0, done)
            rate = min(found, key=lambda run: (run.final, run.lr)).lr
        runs.append(run(rate, steps, lambda count, start=done: tick(count, start)))
        done += steps
    name = "cross entropy" if whole.task == "classification" else "mean squared error"
    words = name if loss is None else objective.name
    optimizer = "SGD" if tuned is None else tuned.optimizer
    return BeforeAfter(first, second, runs[0], runs[1], words, optimizer=optimizer)


def _maker(
    tuned: Tuned | None, lr: float, *, mine: bool
) -> Callable[[nn.Module], list[torch.optim.Optimizer]]:
    """How the optimisers of a run are made for a copy of the model."""
    if tuned is None:
        return lambda model: [torch.optim.SGD(model.parameters(), lr=lr)]
    return lambda model: tuned.optimizers_for(model, own=not mine)


def train_copy(
    model: nn.Module,
    whole: Batch,
    *,
    make: Callable[[nn.Module], list[torch.optim.Optimizer]],
    lr: float,
    steps: int,
    objective: Objective,
    seed: int = 0,
    batch: int = 128,
    progress: Callable[[int], None] | None = None,
) -> TrainedCopy:
    """Train a copy of ``model`` on random batches of ``whole``.

    Parameters
    ----------
    model : nn.Module
        Not changed.
    whole : Batch
        All the data.
    make : callable
        From the copy to its optimisers.
    lr : float
        What is reported; ``make`` has set it.
    steps : int
    objective : Objective
    seed : int
        Of the order of samples.
    batch : int
        Samples a step.
    progress : callable, optional
        ``progress(steps done)``.
    """
    model = copy.deepcopy(model).train()
    optimizers = make(model)
    losses: list[float] = []
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=list(devices)):
        torch.manual_seed(seed)  # dropout
        for index in batches(len(whole), batch, steps, seed):
            model.zero_grad()
            loss = objective(model, example(whole.take(index), model))
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
            losses.append(float(loss.detach()))
            if not math.isfinite(losses[-1]):
                losses += [math.inf] * (steps - len(losses))
                break
            if progress is not None:
                progress(len(losses))
    return TrainedCopy(lr, tuple(losses))


def batches(n: int, batch: int, steps: int, seed: int) -> Iterator[Tensor]:
    """Indices of ``steps`` batches: one permutation of all samples after another.

    Parameters
    ----------
    n : int
        Samples altogether.
    batch : int
        Samples in each.
    steps : int
    seed : int
    """
    generator = torch.Generator().manual_seed(seed)
    left = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        while len(left) < min(batch, n):
            left = torch.cat([left, torch.randperm(n, generator=generator)])
        yield left[:batch]
        left = left[batch:]

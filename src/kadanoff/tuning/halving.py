"""The race: short trials of a few ways to train, the losers dropped by halves.

What a short trial says of a long run is biased: for the first steps the best rate is the largest
that does not blow up, and it falls with the number of steps. The best rate found over h of T
steps is therefore taken times (h/T)^(1/3) and, as long as h is small and the rate large, drawn half
way down to what is right more often than not: :data:`USUAL`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from kadanoff.tuning.trials import Contender, Trials

__all__ = ["Race", "Trial", "WayToTrain", "race"]

# exponent by which the best rate falls with the number of steps
SHORT = 1 / 3
# the usual best rate over the one an optimiser has by default, and how the first trials are spread
USUAL = {"adam": 3.0, "muon": 10.0, "sgd": 30.0}
LADDER = {
    "adam": (1.0, 10**0.5, 10.0, 10**1.5),
    "muon": (1.0, 10**0.5, 10.0, 10**1.5),
    "sgd": (10.0, 10**1.5, 100.0, 10**0.5),
}
STEP = 10**0.5
# shortest trial that says anything, and the share of a large budget that goes into the first ones
LEAST = 5
FIRST = 0.3
# sizes tried of one kind, at most
MOST = 9
# a loss is better if it is lower by this: smaller differences go to what changes less
TIE = 0.005
# and if the difference on the same batches is so many standard errors from zero
SURE = 2.0
# with a smaller part of the run than this, trials only say which rate is fastest at first
WHOLE = 0.5
# other initial weights must be ahead by this after a handful of steps
CLEAR = 0.02
# rates closer than this are one
NEAR = 1.25
# a run that has not come down by this has not moved
MOVED = 0.01


@dataclass(frozen=True)
class WayToTrain:
    """One way to train at any size: relative rates, and initial values that differ.

    Attributes
    ----------
    name : str
        For people, as in "theory's rates, critical weights".
    relative : dict
        Rate of each parameter over the size.
    start : dict
        Parameters that begin with other values than the user's.
    changes : int
        How much it changes: ties go to the smaller number.
    usual : float, optional
        The size that theory expects to be right for it.
    rescues : bool
        Theory says that signals die or blow up on their way through the model as it is: if that
        does not move, other weights need not be ahead, only on their way.
    """

    name: str
    relative: Mapping[str, float]
    start: Mapping[str, Tensor] = field(default_factory=dict)
    changes: int = 0
    rescues: bool = False
    usual: float | None = None


@dataclass(frozen=True)
class Trial:
    """One line of the table: what was tried, for how many steps, and what came of it."""

    name: str
    size: float
    steps: int
    loss: float
    outcome: str


@dataclass(frozen=True)
class Race:
    """All trials, who won, and what it cost.

    Attributes
    ----------
    winner : str
    steps : int
        Gradients taken.
    horizon : int
        Steps the winner is meant for.
    memory : int
        Bytes of one contender's copy; as many copies were held as contenders were in the race.
    copies : int
        Contenders held at once, at most.
    """

    trials: tuple[Trial, ...]
    winner: str
    steps: int
    horizon: int
    memory: int
    copies: int

    @property
    def cost(self) -> str:
        """One sentence on the cost."""
        share = 100 * self.steps / self.horizon
        return (
            f"The race took {self.steps} steps, {share:.0f} % of a run of {self.horizon}, and "
            f"{_size(self.memory)} for each of at most {self.copies} states kept."
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "winner": self.winner,
            "steps": self.steps,
            "horizon": self.horizon,
            "memory": self.memory,
            "copies": self.copies,
            "trials": list(self.trials),
        }


def _size(count: int) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count = count / 1000  # pyright: ignore[reportAssignmentType]
    return f"{count:.3g} TB"


@dataclass(eq=False)
class _Entry:
    kind: WayToTrain
    size: float
    contender: Contender
    outcome: str = ""

    @property
    def key(self) -> tuple[str, float]:
        return self.kind.name, round(math.log(self.size), 6)

    def loss(self, steps: int | None = None) -> float:
        """Mean over the last third of the first ``steps`` steps; inf if it diverged before."""
        losses = self.contender.losses
        steps = len(losses) if steps is None else steps
        if len(losses) < steps or (self.contender.diverged and steps >= len(losses)):
            return math.inf
        last = losses[max(0, steps - min(20, max(2, steps // 3))) : steps]
        return sum(last) / len(last)

    def ahead(self, other: _Entry, steps: int) -> bool:
        """Whether its loss is lower than another's, on the same batches and beyond their noise.

        Over the second half of the first ``steps`` steps; also over the last quarter alone, so
        that a lead that is being lost does not count.
        """
        mine, theirs = self.contender.losses[:steps], other.contender.losses[:steps]
        if len(mine) < steps or not math.isfinite(mine[-1]):
            return False
        if len(theirs) < steps or not math.isfinite(theirs[-1]):
            return True
        for part in (max(2, steps // 2), max(2, steps // 4)):
            gaps = [b - a for a, b in zip(mine[-part:], theirs[-part:], strict=True)]
            mean = sum(gaps) / part
            error = math.sqrt(sum((g - mean) ** 2 for g in gaps) / (part - 1) / part)
            if not mean > max(TIE * abs(sum(theirs[-part:]) / part), SURE * error):
                return False
        return True

    def stuck(self, steps: int) -> bool:
        """Whether the loss after ``steps`` steps is that of the start."""
        return not self.loss(steps) < (1 - MOVED) * self.contender.losses[0]


class _Field:
    """The contenders, and the budget they share."""

    def __init__(
        self, trials: Trials, budget: int, report: Callable[[int, int], None] | None
    ) -> None:
        self.trials, self.budget, self.report = trials, budget, report
        self.entries: dict[tuple[str, float], _Entry] = {}
        self.copies = 0

    @property
    def left(self) -> int:
        """Steps that may still be taken."""
        return self.budget - self.trials.steps

    def run(self, kind: WayToTrain, size: float, steps: int) -> _Entry:
        """Train one contender on to so many steps, or as far as the budget goes."""
        rates = {name: size * factor for name, factor in kind.relative.items()}
        entry = _Entry(kind, size, Contender(kind.name, rates, dict(kind.start)))
        entry = self.entries.setdefault(entry.key, entry)
        done = len(entry.contender.losses)
        watch = not done and len(self.entries) == 1
        self.trials.train(entry.contender, min(steps, done + max(self.left, 0)), watch=watch)
        held = [e for e in self.entries.values() if e.contender.state is not None]
        self.copies = max(self.copies, len(held))
        if self.report is not None:
            self.report(self.trials.steps, self.budget)
        return entry

    def drop(self, entries: list[_Entry], why: str) -> None:
        """Free what losers hold."""
        for entry in entries:
            entry.outcome = entry.outcome or why
            entry.contender.forget()


def race(
    trials: Trials,
    plain: WayToTrain,
    others: Callable[[], list[WayToTrain]],
    *,
    fresh: WayToTrain | None = None,
    likely: WayToTrain | None = None,
    budget: int,
    horizon: int,
    usual: float,
    report: Callable[[int, int], None] | None = None,
) -> tuple[WayToTrain, float, Race]:
    """Run the race inside ``trials.running()``.

    Parameters
    ----------
    trials : Trials
    plain : WayToTrain
        The model as it is with one rate for all (or the user's rates, relative to the first).
    others : callable
        Gives the other ways; asked for after the first trials, whose gradients they may use.
    fresh : WayToTrain, optional
        The one of them that matters most where the budget is small: other initial weights.
    likely : WayToTrain, optional
        The one that a small budget is spent on: what is best more often than not.
    budget : int
        Steps that all trials together may take.
    horizon : int
        Steps of the run that the winner is for.
    usual : float
        What the rate most often is in the end; the user's is ``trials.maker.rate``.
    report : callable, optional
        ``report(done, total)``.

    Returns
    -------
    WayToTrain, float, Race
        The way that won, its size, and all trials.
    """
    own = trials.maker.rate
    found = _Field(trials, budget, report)
    ladder = [own * factor for factor in LADDER[trials.maker.kind]]
    small = budget < max(12 * LEAST, WHOLE * horizon)
    if small and fresh is not None:
        return _small(found, plain, fresh, horizon, usual)
    first = budget // len(ladder) if small else int(FIRST * budget / (len(ladder) + 1))
    first = max(LEAST, min(first, max(LEAST, horizon // 3)))
    tried = likely if small and likely is not None else plain
    best = _best_size(found, tried, ladder, first)
    if best is None:
        return _as_it_is(found, plain, horizon, "nothing tried stays finite")
    size = predicted(best, first, horizon, usual)
    kinds = [] if small else others()
    if small or found.left < 3 * first or first >= horizon:
        return _decided(found, tried, plain, size, first, horizon)
    return _halving(found, plain, kinds, size, horizon)


def _small(
    found: _Field, plain: WayToTrain, fresh: WayToTrain, horizon: int, usual: float
) -> tuple[WayToTrain, float, Race]:
    """Two sizes of both initialisations, then a third of the better one."""
    own = found.trials.maker.rate
    steps = max(LEAST, found.budget // 5)
    sizes = [own * factor for factor in LADDER[found.trials.maker.kind][1:3]]
    as_is = [found.run(plain, at, steps) for at in sizes]
    expected = fresh.usual or usual
    new = [found.run(fresh, at, steps) for at in (expected, expected / STEP)]
    lowest = min(e.loss(steps) for e in as_is)
    better = min(e.loss(steps) for e in new) < (1 - CLEAR) * lowest
    if fresh.rescues and all(e.stuck(steps) for e in as_is):
        better = not all(e.stuck(steps) for e in new)
    kind, lost = (fresh, as_is) if better else (plain, new)
    found.drop(lost, "slower over the first steps")
    best = _best_size(found, kind, [], steps)
    if best is None:
        return _as_it_is(found, plain, horizon, "nothing tried stays finite")
    size = predicted(best, steps, horizon, expected if better else usual)
    return _decided(found, kind, plain, size, steps, horizon)


def predicted(best: float, steps: int, horizon: int, usual: float) -> float:
    """The rate for a run of ``horizon`` steps from the best one over the first ``steps``."""
    if steps >= horizon:
        return best
    trust = 0.5 + 0.5 * min(1.0, 3 * steps / horizon)
    corrected = best * (steps / horizon) ** SHORT
    drawn = math.exp(trust * math.log(corrected) + (1 - trust) * math.log(usual))
    # a model that bears little is believed at once
    return min(corrected, drawn)


def _best_size(found: _Field, kind: WayToTrain, ladder: list[float], steps: int) -> float | None:
    """Where the loss is lowest after a few steps; the ladder grows where its end is best."""
    for size in ladder:
        if found.left < steps:
            break
        found.run(kind, size, steps)
    while True:
        tried = {e.size: e.loss(steps) for e in found.entries.values() if e.kind is kind}
        finite = {s: v for s, v in tried.items() if math.isfinite(v)}
        if found.left < steps or len(tried) > MOST:
            break
        best = min(finite, key=finite.__getitem__) if finite else min(tried)
        mine = [e for e in found.entries.values() if e.kind is kind]
        if finite and all(e.stuck(steps) for e in mine):
            break  # what no rate moves, a smaller one does not
        if best == min(tried):
            found.run(kind, best / STEP, steps)
        elif best == max(tried):
            found.run(kind, best * STEP, steps)
        else:
            break
    return min(finite, key=finite.__getitem__) if finite else None


def _decided(
    found: _Field, kind: WayToTrain, plain: WayToTrain, size: float, steps: int, horizon: int
) -> tuple[WayToTrain, float, Race]:
    """The size that the first trials point to, unless that is about the user's own or less.

    A handful of steps is too few to take away from a rate that somebody chose: a model that bears
    no more is left as it is. Other initial weights have a size of their own.
    """
    own = found.trials.maker.rate
    if not kind.start and size < NEAR * own:
        kind, size = plain, own
    entries = list(found.entries.values())
    lowest = min(entries, key=lambda e: e.loss(steps))
    for entry in entries:
        if entry.outcome:
            continue
        why = "diverged" if entry.contender.diverged else "slower over the first steps"
        entry.outcome = "fastest over the first steps" if entry is lowest else why
    return kind, size, _report(found, horizon, _named(kind, size))


def _as_it_is(
    found: _Field, plain: WayToTrain, horizon: int, why: str
) -> tuple[WayToTrain, float, Race]:
    found.drop(list(found.entries.values()), why)
    own = found.trials.maker.rate
    return plain, own, _report(found, horizon, _named(plain, own))


def _pool(
    found: _Field, plain: WayToTrain, kinds: list[WayToTrain], size: float, horizon: int
) -> list[tuple[WayToTrain, float]]:
    """Who takes part, at which rate: more rates a way where the budget allows them."""
    near = 10**0.25
    seen = list(found.entries.values())
    moves = any(not e.stuck(len(e.contender.losses)) for e in seen)

    def start(kind: WayToTrain) -> float:
        # theory's own size, but no more than what the model as it is was found to bear
        return min(kind.usual or size, size) if moves else kind.usual or size

    pool = [(plain, found.trials.maker.rate), (plain, size), *((k, start(k)) for k in kinds)]
    extra = [(plain, size * near), *((k, start(k) * near) for k in kinds)]
    extra += [(plain, size / near), *((k, start(k) / near) for k in kinds)]
    # with n contenders at h, n/2 at 2h and n/4 at 4h the cost is 2 n h
    while extra and found.left / (2 * (len(pool) + 1)) > horizon / 12:
        pool.append(extra.pop(0))
    return pool


def _halving(
    found: _Field, plain: WayToTrain, kinds: list[WayToTrain], size: float, horizon: int
) -> tuple[WayToTrain, float, Race]:
    """The rest of the budget: half of the contenders go on for twice as many steps."""
    own = found.trials.maker.rate
    pool = _pool(found, plain, kinds, size, horizon)
    steps = max(LEAST, min(found.left // (2 * len(pool)), horizon))
    chosen = _distinct(pool)
    wanted = {_Entry(kind, at, Contender("", {})).key for kind, at in chosen}
    dropped = [entry for key, entry in found.entries.items() if key not in wanted]
    found.drop(dropped, "slower over the first steps")
    tried = [found.run(kind, at, steps) for kind, at in chosen]
    default = found.entries[_Entry(plain, own, Contender("", {})).key]
    while len(tried) > 1:
        saved = _rescued(tried, steps)
        tried.sort(key=lambda e: (e not in saved, e.loss(steps), e.kind.changes))
        keep = max(1, len(tried) // 2)
        # the model as it is runs along to the end, to be compared with on the same batches
        going = [e for e in tried if e in tried[:keep] or e is default]
        found.drop([e for e in tried if e not in going], f"slower after {steps} steps")
        alone = len(going) < 2 or len(going) == len(tried)
        tried = going
        if alone or found.left < len(tried) or steps >= horizon:
            break
        steps = min(2 * steps, horizon, len(tried[0].contender.losses) + found.left // len(tried))
        for entry in tried:
            found.run(entry.kind, entry.size, steps)
    saved = _rescued(tried, steps)
    won = min(tried, key=lambda e: (e not in saved, e.loss(steps)))
    won = won if saved else _calmest(won, list(found.entries.values()))
    common = min(len(default.contender.losses), len(won.contender.losses))
    rescue = won.kind.rescues and default.stuck(common) and not won.stuck(common)
    if default is not won and not won.ahead(default, common) and not rescue:
        won.outcome, won = "no better than the default", default
    for entry in found.entries.values():
        if entry is not won:
            entry.outcome = entry.outcome or "slower over the first steps"
    won.outcome = "won"
    return won.kind, won.size, _report(found, horizon, _named(won.kind, won.size))


def _rescued(tried: list[_Entry], steps: int) -> list[_Entry]:
    """Contenders that move where the model as it is cannot, though they start higher."""
    plain = [e for e in tried if not e.kind.start]
    if not all(e.stuck(steps) for e in plain):
        return []
    return [e for e in tried if e.kind.rescues and not e.stuck(steps)]


def _calmest(won: _Entry, entries: list[_Entry]) -> _Entry:
    """Who won, or the smallest change it is not clearly ahead of.

    Fewer changes first, then a smaller rate: what is fastest in a part of the run is too fast for
    all of it.
    """
    for other in sorted(entries, key=lambda e: (e.kind.changes, e.size)):
        calmer = (other.kind.changes, other.size) < (won.kind.changes, won.size)
        common = min(len(other.contender.losses), len(won.contender.losses))
        behind = max(len(other.contender.losses), len(won.contender.losses)) > 2 * common
        if calmer and not behind and not won.ahead(other, common):
            other.outcome, won.outcome = "", "no better than what changes less"
            return other
    return won


def _distinct(pool: list[tuple[WayToTrain, float]]) -> list[tuple[WayToTrain, float]]:
    seen, out = set(), []
    for kind, size in pool:
        key = (kind.name, round(math.log(size), 2))
        if key not in seen:
            seen.add(key)
            out.append((kind, size))
    return out


def _named(kind: WayToTrain, size: float) -> str:
    return f"{kind.name} at {size:.2g}"


def _report(found: _Field, horizon: int, winner: str) -> Race:
    rows = [
        Trial(
            _named(e.kind, e.size),
            e.size,
            len(e.contender.losses),
            e.loss(),
            "diverged" if e.contender.diverged else e.outcome,
        )
        for e in found.entries.values()
    ]
    return Race(tuple(rows), winner, found.trials.steps, horizon, found.trials.copied, found.copies)

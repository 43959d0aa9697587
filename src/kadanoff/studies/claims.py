"""A claim, the criterion that decides it, and the numbers it was decided with.

A criterion is data, written before the number is measured: what the number is held against, how
many standard errors or which level of a *t*-test, how many claims are tested together, what is
allowed beyond the statistical error and why. A verdict follows from criterion and numbers alone,
by :func:`kadanoff.studies.verdicts.verdict`; nothing else writes one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from kadanoff.errors import UsageError

__all__ = [
    "RELATIONS",
    "SIGMAS",
    "SOURCES",
    "VERDICTS",
    "Baseline",
    "Claim",
    "Criterion",
    "Decision",
    "Measured",
    "above",
    "below",
    "between",
    "equals",
    "largest_z",
    "one_of_many",
]

VERDICTS = ("holds", "fails", "undecided")
SOURCES = {
    "paper": "the paper's",
    "derived": "ours",
    "secondary": "second-hand",
}
RELATIONS = ("equals", "below", "above", "between", "z")
# standard errors that a number without a level of its own may lie off
SIGMAS = 4.0
# chance that the largest of all |z| exceeds its limit although every prediction is right
FAMILY = 1e-3


@dataclass(frozen=True)
class Criterion:
    """What one number must satisfy, fixed before it was seen.

    With ``m = q·stderr + allowance``, where ``q`` is 4 or the quantile of Student's t:

    ========= ========================== ============================ =====================
    relation  holds                      fails                        undecided
    ========= ========================== ============================ =====================
    equals    |value − target| ≤ m       |value − target| > m         agrees, but m is wider
                                                                      than ``resolution``
    below     value + m ≤ target         value − m > target           otherwise
    above     value − m ≥ target         value + m < target           otherwise
    between   low ≤ value ∓ m ≤ high     value ± m outside            otherwise
    z         value ≤ z*(samples)        otherwise                    never
    ========= ========================== ============================ =====================

    Parameters
    ----------
    relation : {"equals", "below", "above", "between", "z"}
        "z": the value is the largest |z| of ``samples`` comparisons; its limit z* is exceeded by
        chance once in a thousand.
    target : float
        For "between" the lower end.
    high : float, optional
        Upper end, for "between".
    allowance : float or None
        Granted beyond the statistical error; None: given with the number, because it follows from
        the settings of the run by the formula that ``reason`` states.
    reason : str
        Why ``allowance`` is granted. Demanded with an allowance.
    level : float, optional
        Of a two-sided t-test over ``samples`` repetitions; without it four standard errors.
    tests : int
        Claims of the study that are tested at this level; each is tested at ``level/tests``.
    resolution : float, optional
        Of "equals": a margin wider than this decides nothing. A quarter of the target's size
        by default.
    name, unit : str
        What the number is, when the claim's text does not say it.
    why : str
        Where the target comes from, when it is not the claim's own number.
    condition : bool
        Something that must be met before the claim can be decided at all (a network has learnt,
        an error bar is small enough); if it is not, the claim is undecided.
    """

    relation: str
    target: float
    high: float | None = None
    allowance: float | None = 0.0
    reason: str = ""
    level: float | None = None
    tests: int = 1
    resolution: float | None = None
    name: str = ""
    unit: str = ""
    why: str = ""
    condition: bool = False

    def __post_init__(self) -> None:
        if self.relation not in RELATIONS:
            raise UsageError(f"No relation {self.relation!r}.", f"Choose from {RELATIONS}.")
        if self.allowance != 0.0 and not self.reason:
            raise UsageError(
                f"An allowance of {self.allowance} beyond the statistical error has no reason.",
                "State it: reason=...",
            )
        if self.relation == "equals" and self.resolution is None:
            if self.target == 0:
                raise UsageError(
                    "A quarter of a target of 0 resolves nothing.", "Pass resolution=..."
                )
            object.__setattr__(self, "resolution", abs(self.target) / 4)


def equals(target: float, **settings: Any) -> Criterion:
    """The value is ``target``, within its error and what is allowed."""
    return Criterion("equals", target, **settings)


def below(bound: float, **settings: Any) -> Criterion:
    """The value lies below ``bound`` with its whole error."""
    return Criterion("below", bound, **settings)


def above(bound: float, **settings: Any) -> Criterion:
    """The value lies above ``bound`` with its whole error."""
    return Criterion("above", bound, **settings)


def between(low: float, high: float, **settings: Any) -> Criterion:
    """The value lies between two bounds with its whole error."""
    return Criterion("between", low, high, **settings)


def largest_z(name: str = "largest |z|", **settings: Any) -> Criterion:
    """The largest |z| of many comparisons is what chance alone gives."""
    return Criterion("z", FAMILY, name=name, **settings)


def one_of_many(sign: int, tests: int, level: float = 0.05, **settings: Any) -> Criterion:
    """A direction, by a t-test over seeds; ``tests`` directions share the level."""
    relation = "above" if sign > 0 else "below"
    return Criterion(relation, 0.0, level=level, tests=tests, **settings)


@dataclass(frozen=True)
class Measured:
    """A number that a criterion is held against.

    Parameters
    ----------
    value : float or None
        None or NaN: it could not be measured, which decides nothing.
    stderr : float or None
        One standard error; 0 where nothing is random, None where there is no error bar (a single
        seed), which decides nothing.
    samples : int, optional
        Repetitions behind ``stderr`` (for t-tests), or comparisons behind a largest |z|.
    allowance : float, optional
        Where the criterion leaves its size to the run.
    """

    value: float | None
    stderr: float | None = 0.0
    samples: int | None = None
    allowance: float | None = None

    @classmethod
    def over(cls, values: Any, scale: float = 1.0) -> Measured:
        """The mean of repetitions with its standard error; one repetition has none."""
        numbers = [scale * float(v) for v in values]
        n = len(numbers)
        mean = sum(numbers) / n
        if n < 2:
            return cls(mean, None, n)
        spread = math.sqrt(sum((v - mean) ** 2 for v in numbers) / (n - 1) / n)
        return cls(mean, spread, n)


@dataclass(frozen=True)
class Baseline:
    """What the simplest thing that needs no learning reaches in the same measure."""

    what: str
    value: float
    stderr: float = 0.0


@dataclass(frozen=True)
class Claim:
    """A testable statement with the criterion that decides it.

    Parameters
    ----------
    id : str
        Short name, unique in its study.
    text : str
        The statement in one sentence.
    criteria : Criterion or tuple of Criterion
        All of them must hold.
    source : {"paper", "derived", "secondary"}
        Whose claim it is: the paper states it; we derived it; another text reports it.
    paper_value : float, str or None
        The number the paper prints, only if it prints one.
    section : str
        Where it belongs, in the paper and on the page.
    """

    id: str
    text: str
    criteria: Criterion | tuple[Criterion, ...] = ()
    source: str = "paper"
    paper_value: float | str | None = None
    section: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.criteria, Criterion):
            object.__setattr__(self, "criteria", (self.criteria,))
        if self.source not in SOURCES:
            raise UsageError(f"Nobody's claim: {self.source!r}.", f"One of {tuple(SOURCES)}.")
        if self.paper_value is not None and self.source != "paper":
            raise UsageError(
                f"{self.id}: {self.paper_value} stands as printed by the paper, the claim is not "
                "the paper's.",
                "Put the number into the criterion.",
            )

    @property
    def tests(self) -> tuple[Criterion, ...]:
        """Its criteria, conditions included, as a tuple."""
        assert isinstance(self.criteria, tuple)
        return self.criteria


@dataclass(frozen=True)
class Decision:
    """What became of a claim: the numbers, a number a criterion, and the verdict they give.

    ``open`` says why nothing can be decided at the size of this run.
    """

    claim: Claim
    measured: tuple[Measured, ...] = ()
    note: str = ""
    open: str = ""
    baseline: Baseline | None = None

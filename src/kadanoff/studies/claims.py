"""A claim of a paper, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["VERDICTS", "Claim", "Decision"]

VERDICTS = ("holds", "fails", "undecided")


@dataclass(frozen=True)
class Claim:
    """A testable statement of a paper.

    Parameters
    ----------
    id : str
        Short name, unique in its study.
    text : str
        The statement in one sentence.
    paper_value : float, str or None
        The number it names, if it names one.
    source : {"paper", "derived", "secondary"}
        Whether the paper states it, it was derived from the paper's definitions without the
        printed formula at hand, or another text reports it.
    """

    id: str
    text: str
    paper_value: float | str | None = None
    source: str = "paper"


@dataclass(frozen=True)
class Decision:
    """What became of a claim: a verdict with the number it rests on."""

    claim: Claim
    verdict: str
    our_value: Any = None
    stderr: float | None = None
    note: str = ""

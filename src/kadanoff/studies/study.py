"""What a study is: a paper, its claims as data, and a function that decides them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kadanoff.studies.lab import Lab

__all__ = ["SIZES", "VERDICTS", "Claim", "Decision", "Study"]

SIZES = ("quick", "full")
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


@dataclass(frozen=True)
class Study:
    """A study of one paper.

    Parameters
    ----------
    name : str
        Its name on the command line.
    title : str
    paper : str
        The paper's id in the atlas, e.g. ``"banta2023"``.
    summary : str
        Two sentences for lists.
    claims : tuple of Claim
        All of them; what a run does not decide is reported as undecided.
    run : callable
        ``run(lab)``, see :class:`kadanoff.studies.Lab`.
    extra : str, optional
        The extra of this project that brings ``modules``.
    modules : tuple of str
        Optional packages it needs; reported before anything runs.
    """

    name: str
    title: str
    paper: str
    summary: str
    claims: tuple[Claim, ...]
    run: Callable[[Lab], None]
    extra: str | None = None
    modules: tuple[str, ...] = ()

    @property
    def paper_id(self) -> str:
        """The paper's id in the atlas."""
        return self.paper

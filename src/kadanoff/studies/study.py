"""What a study is: a paper, its claims as data, and a function that decides them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kadanoff.studies.claims import Claim
from kadanoff.studies.lab import Lab

__all__ = ["SIZES", "Study"]

SIZES = ("quick", "full")


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
    lead : str
        One paragraph (Markdown) that leads its page: what the paper says and what we found, in
        plain words.
    lead_figure : str
        File of the figure beside it.
    """

    name: str
    title: str
    paper: str
    summary: str
    claims: tuple[Claim, ...]
    run: Callable[[Lab], None]
    extra: str | None = None
    modules: tuple[str, ...] = ()
    lead: str = ""
    lead_figure: str = ""

    @property
    def paper_id(self) -> str:
        """The paper's id in the atlas."""
        return self.paper

"""Says each finding once: as a warning, as an exception, or to whoever wants to know."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from kadanoff.diagnosis.findings import leads
from kadanoff.diagnosis.result import Finding
from kadanoff.errors import AnalysisError, UsageError, level_outside
from kadanoff.watching.film import Event, Film

__all__ = ["FindingRaised", "FindingWarning", "OnFinding", "Voice"]

OnFinding = str | Callable[[Event], Any] | None

_ORDER = ("note", "warning", "critical")
# what happens at a moment, each time anew; its rule says it once
_EVENTS = frozenset({"loss-spike"})


class FindingWarning(UserWarning):
    """A finding, said while the model trains."""


class FindingRaised(AnalysisError):
    """A finding that ends the loop (``on_finding="raise"``).

    Attributes
    ----------
    event : Event
    """

    exit_code = 1

    def __init__(self, event: Event) -> None:
        super().__init__(str(event), event.finding.remedy)
        self.event = event


@dataclass
class _Said:
    """How a kind of finding was last said, where, and when it was last found."""

    severity: str
    step: int
    where: set[str]


class Voice:
    """Enters findings into the film and says them.

    What a finding said earlier can bring about is entered as its consequence, and not said.

    Parameters
    ----------
    on_finding : {"warn", "raise"} or callable or None
    forgotten : int
        Steps after which what had ceased is said again.
    aloud : bool
        Whether this process speaks for all; exceptions are raised in each.

    Raises
    ------
    UsageError
        Another ``on_finding``.
    """

    def __init__(self, on_finding: OnFinding, forgotten: int, aloud: bool = True) -> None:
        if not (on_finding in ("warn", "raise", None) or callable(on_finding)):
            raise UsageError(
                f"on_finding = {on_finding!r} is unknown.",
                'Pass "warn", "raise", None, or a function of the event.',
            )
        self._on_finding, self._forgotten, self._aloud = on_finding, forgotten, aloud
        self._said: dict[str, _Said] = {}

    def recall(self, film: Film) -> None:
        """Take what a film holds as said.

        Parameters
        ----------
        film : Film
        """
        for event in film.events:
            finding = event.finding
            known = self._said.get(finding.code, _Said("note", 0, set())).where
            where = known | set(finding.where)
            self._said[finding.code] = _Said(finding.severity, event.step, where)

    def hear(self, finding: Finding, step: int, film: Film) -> None:
        """Say a finding if it is new, has become worse, or had ceased.

        Parameters
        ----------
        finding : Finding
        step : int
        film : Film
            It is entered there.
        """
        known = self._said.get(finding.code)
        fresh = set(finding.where) - (known.where if known is not None else set())
        if known is not None and not self._is_news(known, finding, fresh, step):
            known.step = step
            return
        before = set() if known is None else known.where
        self._said[finding.code] = _Said(finding.severity, step, before | fresh)
        causes = tuple(
            code
            for code in dict.fromkeys(f.code for f in film.findings if f.severity != "note")
            if leads(code, finding.code) and code != finding.code
        )
        event = Event(step, replace(finding, because_of=causes))
        film.events.append(event)
        if finding.severity != "note" and not causes:
            self._say(event)

    def _is_news(self, known: _Said, finding: Finding, fresh: set[str], step: int) -> bool:
        worse = _ORDER.index(finding.severity) > _ORDER.index(known.severity)
        # of what spreads from layer to layer, each doubling is told
        spread = len(fresh) >= max(len(known.where), 1)
        ceased = step - known.step >= self._forgotten
        return worse or spread or ceased or finding.code in _EVENTS

    def _say(self, event: Event) -> None:
        if self._on_finding == "raise":
            raise FindingRaised(event)
        if not self._aloud or self._on_finding is None:
            return
        if callable(self._on_finding):
            self._on_finding(event)
        else:
            text = f"{event} {event.finding.remedy}".strip()
            warnings.warn(
                text, FindingWarning, stacklevel=level_outside("kadanoff.watching", "torch.")
            )

"""The catalogue of findings: what each kind is, how it is measured, and what mends it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kadanoff.diagnosis.result import Finding

__all__ = ["DOCS", "KINDS", "Kind", "kind"]

DOCS = "findings/"  # pages of the documentation, one for each code


@dataclass(frozen=True)
class Kind:
    """One kind of finding; its page in the documentation is made of these words.

    Attributes
    ----------
    id, code : str
        Stable number and name.
    title : str
        What it is, in a few words.
    what : str
        Why a net that has it does not learn as it should.
    measured : str
        What is looked at, and how.
    threshold : str
        The limit, and why there.
    remedy : str
        What to do.
    makes : tuple of str
        Codes of what it brings about: findings of these kinds are its consequences.
    scale : bool
        Whether it speaks of sizes that a good recipe may get over. How severe it is, is then
        decided by a trial where there is one; a mistake (a softmax too many) stays one.
    """

    id: str
    code: str
    title: str
    what: str
    measured: str
    threshold: str
    remedy: str
    makes: tuple[str, ...] = ()
    scale: bool = False

    def explained(self) -> str:
        """The whole entry as text, a line a paragraph."""
        lines = [
            f"{self.id} {self.code}: {self.title}.",
            f"What it is. {self.what}",
            f"How it is measured. {self.measured}",
            f"Threshold. {self.threshold}",
            f"Remedy. {self.remedy}",
        ]
        known = [code for code in self.makes if code in _KINDS]
        if known:
            lines.append(f"It can bring about: {', '.join(known)}.")
        return "\n".join(lines)

    def found(
        self,
        severity: str,
        sentence: str,
        remedy: str = "",
        *,
        cause: str = "",
        cost: float = 1.0,
        value: float = math.nan,
        stderr: float = math.nan,
        threshold: float = math.nan,
        layers: Iterable[int] = (),
        where: Iterable[str] = (),
    ) -> Finding:
        """A finding of this kind.

        Parameters
        ----------
        severity : {"critical", "warning", "note"}
        sentence : str
            What was seen, with its numbers.
        remedy : str
            Instead of the kind's own.
        cause : str
            Why, where more is known than what the kind says.
        cost : float
            What orders findings of one severity.
        value, stderr, threshold : float
            The number that decided.
        layers : iterable of int
            Indices into the report's layers.
        where : iterable of str
            Paths of parameters or modules.
        """
        return Finding(
            code=self.code,
            severity=severity,
            cost=cost,
            sentence=sentence,
            remedy=remedy or self.remedy,
            layers=tuple(layers),
            value=float(value),
            stderr=float(stderr),
            threshold=float(threshold),
            id=self.id,
            cause=cause or self.what,
            where=tuple(where),
            docs=f"{DOCS}{self.code}.md",
            about=self.explained(),
        )


_KINDS: dict[str, Kind] = {}
KINDS: Mapping[str, Kind] = _KINDS


def kind(
    id: str,
    code: str,
    title: str,
    *,
    what: str,
    measured: str,
    threshold: str,
    remedy: str,
    makes: tuple[str, ...] = (),
    scale: bool = False,
) -> Kind:
    """Enter a kind into the catalogue.

    Parameters
    ----------
    id : str
        ``KD`` and a number, which stays for ever.
    code : str
        A slug.
    title : str
    what, measured, threshold, remedy : str
        Sentences for the catalogue: what is wrong, what is measured, from where on, what to do.
    makes : tuple of str
        Codes of kinds that this one brings about.
    scale : bool
        Whether it is a matter of size, which a trial can settle.
    """
    if code in _KINDS or any(known.id == id for known in _KINDS.values()):
        raise ValueError(f"two kinds of finding are called {id} {code}")
    _KINDS[code] = Kind(id, code, title, what, measured, threshold, remedy, makes, scale)
    return _KINDS[code]

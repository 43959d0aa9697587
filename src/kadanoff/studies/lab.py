"""The bench a study works on: parts that survive a kill, figures, tables, decisions."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from kadanoff import __version__
from kadanoff.errors import UsageError
from kadanoff.files import jsonable, make_folder, write_json
from kadanoff.studies.claims import Baseline, Claim, Decision, Measured
from kadanoff.studies.verdicts import as_row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Lab"]

T = TypeVar("T")


class Lab:
    """What a study's ``run(lab)`` gets.

    Parameters
    ----------
    claims : sequence of Claim
        Of the study.
    out : Path
        The folder of this run; parts that are done are kept in ``out/parts``.
    size : {"quick", "full"}
    seed : int
    device : str
        For whatever is heavy.
    progress : callable, optional
        ``progress(done, total, message)``.

    Attributes
    ----------
    decisions : dict of str to Decision
    blocks : list of dict
        The page: texts, tables and figures in the order they were made.
    seconds : float
        Time spent in parts, those of interrupted runs included.
    """

    def __init__(
        self,
        claims: Sequence[Claim],
        out: Path,
        *,
        size: str = "quick",
        seed: int = 0,
        device: str = "cpu",
        progress: Callable[[int, int, str], None] | None = None,
    ) -> None:
        self.claims = tuple(claims)
        self.out, self.size, self.seed, self.device = out, size, seed, device
        self.decisions: dict[str, Decision] = {}
        self.blocks: list[dict[str, Any]] = []
        self.seconds = 0.0
        self._progress = progress or (lambda done, total, message: None)
        self._done, self._total = 0, 0

    @property
    def full(self) -> bool:
        """Whether this is the real size."""
        return self.size == "full"

    def pick(self, *, quick: T, full: T) -> T:
        """Return the setting for this run's size."""
        return full if self.full else quick

    def plan(self, parts: int) -> None:
        """Say how many parts will be computed, for the progress bar."""
        self._total = self._done + parts
        self._progress(self._done, self._total, "")

    def note(self, message: str) -> None:
        """Say what is going on; shown beside the progress bar."""
        self._progress(self._done, max(self._total, self._done), message)

    def scratch(self, name: str) -> Path:
        """Return a path inside the run's folder for a checkpoint of your own."""
        return make_folder(self.out / "parts", "Name another one with --out.") / _slug(name)

    def part(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Compute ``function(*arguments)`` once; a later run of the same study reads it.

        Parameters
        ----------
        name : str
            Unique in the study.
        function : callable
            Its result must be made of numbers, strings, lists, dicts and arrays; it comes back
            as JSON gives it (lists for arrays, None for NaN, string keys), now as after a kill.
        *arguments
            Like the result; if they, the function's source, the seed, the size or the version
            change, the part is computed anew.

        Raises
        ------
        StorageError
            The result could not be written; the parts before it are kept.
        """
        self.note(name)
        path = self.out / "parts" / f"{_slug(name)}.json"
        source = inspect.getsource(function)
        settings = [self.size, self.seed, self.device, __version__, jsonable(arguments), source]
        key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()
        held = _read(path)
        if held is None or held.get("key") != key:
            start = time.perf_counter()
            value = json.loads(json.dumps(jsonable(function(*arguments))))
            held = {"key": key, "seconds": time.perf_counter() - start, "value": value}
            make_folder(path.parent, "Name another one with --out.")
            write_json(path, held)
        self._done += 1
        self.seconds += held["seconds"]
        self._progress(self._done, max(self._total, self._done), name)
        return held["value"]

    def say(self, title: str, body: str) -> None:
        """Put a headed text (Markdown, formulas in ``$...$``) on the page."""
        self.blocks.append({"kind": "text", "title": title, "body": inspect.cleandoc(body)})

    def table(
        self, title: str, head: Sequence[str], rows: Sequence[Sequence[Any]], note: str = ""
    ) -> None:
        """Put a table on the page; numbers are shown with six digits."""
        self.blocks.append(
            {
                "kind": "table",
                "title": title,
                "head": list(head),
                "rows": jsonable([list(row) for row in rows]),
                "note": note,
            }
        )

    def figure(self, file: str, fig: Figure, caption: str) -> None:
        """Write a figure (``.svg`` or ``.png``) into the run's folder and put it on the page."""
        from kadanoff.style.figures import save

        stem, kind = file.rsplit(".", 1)
        save(fig, self.out / stem, (kind,))
        self.blocks.append({"kind": "figure", "file": file, "caption": caption})

    def picture(self, file: str, svg: str, caption: str) -> None:
        """Write a drawing that is SVG already into the run's folder and put it on the page."""
        from kadanoff.files import atomic_write

        atomic_write(self.out / file, svg)
        self.blocks.append({"kind": "figure", "file": file, "caption": caption})

    def claim(self, name: str) -> Claim:
        """Return a claim of this study by its id."""
        for claim in self.claims:
            if claim.id == name:
                return claim
        raise KeyError(f"The study states no claim {name!r}.")

    def decide(
        self,
        claim: str,
        *measured: Measured | float,
        note: str = "",
        baseline: Baseline | None = None,
    ) -> str:
        """Give the numbers that decide a claim, one for each of its criteria, in their order.

        Parameters
        ----------
        claim : str
            Its id.
        *measured : Measured or float
            A plain number has no error.
        note : str
            What was measured, and what differs from the paper.
        baseline : Baseline, optional
            What the simplest rival reaches, beside every learnt result.

        Returns
        -------
        str
            The verdict, which criterion and numbers alone decide.

        Raises
        ------
        UsageError
            There are more or fewer numbers than criteria.
        """
        found = self.claim(claim)
        numbers = tuple(m if isinstance(m, Measured) else Measured(m) for m in measured)
        if len(numbers) != len(found.tests):
            raise UsageError(
                f"{claim!r} has {len(found.tests)} criteria and got {len(numbers)} numbers.",
                "Give one number for each criterion, in their order.",
            )
        for criterion, number in zip(found.tests, numbers):
            if criterion.allowance is None and number.allowance is None:
                raise UsageError(
                    f"{claim!r} leaves its allowance to the run ({criterion.reason}).",
                    "Pass Measured(..., allowance=...).",
                )
        self.decisions[claim] = Decision(found, numbers, note, baseline=baseline)
        return as_row(found, self.decisions[claim])["verdict"]

    def leave_open(self, claim: str, why: str) -> None:
        """Say why a claim cannot be decided at the size of this run."""
        self.decisions[claim] = Decision(self.claim(claim), open=why)


def _slug(name: str) -> str:
    short = re.sub(r"[^A-Za-z0-9.=+-]+", "-", name).strip("-.")[:80]
    if short == name:
        return short
    return f"{short}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _read(path: Path) -> dict[str, Any] | None:
    """Return a kept part; None if there is none or it cannot be read."""
    try:
        held = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return held if isinstance(held, dict) and "value" in held and "seconds" in held else None

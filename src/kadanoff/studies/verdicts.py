"""From criteria and numbers to verdicts: one function, for runs, pages and tests alike.

It takes a row of ``result.json`` and nothing else, so that whoever has the file, or the page made
of it, can recompute every verdict.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from kadanoff.files import jsonable
from kadanoff.studies.claims import SIGMAS, Claim, Decision

__all__ = ["as_row", "judge", "margin", "quantile", "spoken", "tally", "verdict"]

Row = Mapping[str, Any]


def quantile(criterion: Row, samples: int | None) -> float:
    """How many standard errors count: 4, or Student's t at the level of one of all tests."""
    level = criterion["level"]
    if level is None:
        return SIGMAS
    from scipy.stats import norm, t

    tail = level / criterion["tests"] / 2
    if samples is None:
        return float(norm.isf(tail))
    return float(t.isf(tail, samples - 1)) if samples > 1 else math.inf


def margin(criterion: Row, measured: Row) -> float:
    """``q·stderr + allowance``, in the unit of the number."""
    if criterion["relation"] == "z":
        return 0.0
    allowance = measured["allowance"]
    if allowance is None:
        allowance = criterion["allowance"]
    stderr = measured["stderr"]
    # no error bar at all (one seed) is written as null
    q = quantile(criterion, measured["samples"])
    if stderr is None or not math.isfinite(q):
        return math.inf
    return q * stderr + (allowance or 0.0)


def judge(criterion: Row, measured: Row) -> str:
    """Return "holds", "fails" or "undecided" for one number.

    Parameters
    ----------
    criterion, measured : mapping
        The fields of :class:`~kadanoff.studies.claims.Criterion` and
        :class:`~kadanoff.studies.claims.Measured`.
    """
    value, target, relation = measured["value"], criterion["target"], criterion["relation"]
    if value is None or math.isnan(value):
        return "undecided"
    if relation == "z":
        from scipy.stats import norm

        limit = norm.isf(target / 2 / max(1, measured["samples"] or 1))
        return "holds" if value <= limit else "fails"
    m = margin(criterion, measured)
    if relation == "equals":
        if abs(value - target) > m:
            return "fails"
        return "holds" if m <= criterion["resolution"] else "undecided"
    low = {"below": -math.inf}.get(relation, target)
    high = {"below": target, "between": criterion["high"]}.get(relation, math.inf)
    if value - m >= low and value + m <= high:
        return "holds"
    return "fails" if value + m < low or value - m > high else "undecided"


def verdict(row: Row) -> str:
    """Return the verdict of a claim, from its row in ``result.json``.

    It is undecided if the run says why it cannot decide, has no numbers, or misses a condition;
    otherwise it fails if one criterion fails and holds if all hold.
    """
    if row["open"] or not row["measured"]:
        return "undecided"
    conditions = [judge(m["criterion"], m) for m in row["measured"] if m["criterion"]["condition"]]
    tests = [judge(m["criterion"], m) for m in row["measured"] if not m["criterion"]["condition"]]
    if any(found != "holds" for found in conditions):
        return "undecided"
    if "fails" in tests:
        return "fails"
    return "undecided" if "undecided" in tests else "holds"


def as_row(claim: Claim, decision: Decision | None) -> dict[str, Any]:
    """Return what ``result.json`` says of a claim, its verdict included."""
    decision = decision or Decision(claim, open="Not measured at this size.")
    measured = [
        {**asdict(m), "criterion": asdict(c)}
        for c, m in zip(claim.tests, decision.measured, strict=bool(decision.measured))
    ]
    shown = [m for m in measured if not m["criterion"]["condition"]]
    values, errors = [m["value"] for m in shown], [m["stderr"] or None for m in shown]
    row = {
        "id": claim.id,
        "text": claim.text,
        "source": claim.source,
        "section": claim.section,
        "paper_value": claim.paper_value,
        "measured": measured,
        "our_value": (values[0] if len(values) == 1 else values) if values else None,
        "stderr": errors[0] if len(errors) == 1 else (errors if any(errors) else None),
        "open": decision.open,
        "baseline": asdict(decision.baseline) if decision.baseline else None,
        "note": decision.note,
    }
    # first as JSON gives it back, then judged: infinities and NaN have become null
    row = jsonable(row)
    return {**row, "verdict": verdict(row)}


def spoken(criterion: Row, measured: Row) -> str:
    """Write a criterion as a sentence that lets a reader recompute the verdict."""
    from kadanoff.style.numbers import short

    def plain(value: float) -> str:
        return f"{value:.8g}" if abs(value) < 1e6 else short(value, 4)

    relation, target = criterion["relation"], criterion["target"]
    if relation == "z":
        return (
            f"below what the largest of {measured['samples']} |z| exceeds once in "
            f"{round(1 / target)} by chance"
        )
    words = {
        "equals": f"= {plain(target)}",
        "below": f"< {plain(target)}",
        "above": f"> {plain(target)}",
        "between": f"from {plain(target)} to {plain(criterion['high'] or math.inf)}",
    }[relation]
    if criterion["why"]:
        words += f" ({criterion['why']})"
    if criterion["level"] is not None:
        share = f", one of {criterion['tests']}" if criterion["tests"] > 1 else ""
        words += f"; t-test at {criterion['level']:.0%}{share}"
        if measured["samples"]:
            q = quantile(criterion, measured["samples"])
            words += f": {short(q, 3)} standard errors of {measured['samples']}"
    elif measured["stderr"]:
        words += f"; {SIGMAS:g} standard errors"
    allowance = measured["allowance"]
    if allowance is None:
        allowance = criterion["allowance"]
    if allowance:
        words += f"; {short(allowance, 3)} allowed: {criterion['reason']}"
    return words


def tally(claims: Iterable[Row]) -> str:
    """Count the verdicts in words, the paper's claims apart from ours."""
    rows = list(claims)
    words = []
    for source, whose in (
        ("paper", "of the paper's claims"),
        ("derived", "checks of ours"),
        ("secondary", "second-hand claims"),
    ):
        verdicts = [c["verdict"] for c in rows if c["source"] == source]
        if verdicts:
            words.append(_counted(verdicts, whose))
    return "; ".join(words)


def _counted(verdicts: list[str], whose: str) -> str:
    hold, fail, open_ = (verdicts.count(v) for v in ("holds", "fails", "undecided"))
    text = f"{hold} of {len(verdicts)} {whose} hold{'s' if len(verdicts) == 1 else ''}"
    rest = [f"{fail} fail{'s' if fail == 1 else ''}"] if fail else []
    rest += [f"{open_} undecided"] if open_ else []
    return text + (f" ({', '.join(rest)})" if rest else "")

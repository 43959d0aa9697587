"""The page of a study: what leads, then the claims by section with numbers and criteria."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

from kadanoff.studies.claims import SOURCES
from kadanoff.studies.verdicts import spoken, tally
from kadanoff.style.figures import inline_svg
from kadanoff.style.html import Raw, Section, callout, page, table, text, zoomed
from kadanoff.style.markup import prose
from kadanoff.style.numbers import short, uncertain

__all__ = ["by_section", "measure", "number", "study_page"]

Row = Mapping[str, Any]


def number(value: Any, stderr: Any = None) -> str:
    """Write a value of ``result.json`` for a reader: six digits, or as many as the error allows."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        errors = stderr if isinstance(stderr, (list, tuple)) else [None] * len(value)
        return ", ".join(number(item, error) for item, error in zip(value, errors))
    if isinstance(value, (int, float)):
        if stderr:
            return uncertain(value, stderr)
        digits = short(float(value), 6)
        # zeros that only fill up to six digits say nothing
        return digits.rstrip("0").rstrip(".") if "." in digits and "e" not in digits else digits
    return str(value)


def measure(measured: Row) -> tuple[str, str, str]:
    """One measurement in words: what it is, its number with error and unit, and its criterion."""
    criterion = measured["criterion"]
    value = number(measured["value"], measured["stderr"])
    if criterion["relation"] == "z" and measured["value"] is not None:
        value = short(measured["value"], 3)
    unit = f" {criterion['unit']}" if criterion["unit"] else ""
    asked = spoken(criterion, measured)
    asked = f"condition: {asked}" if criterion["condition"] else asked
    return criterion["name"], value + unit, asked


def by_section(claims: Iterable[Row]) -> dict[str, list[Row]]:
    """Group claims by the section of the paper they belong to, in their order."""
    found: dict[str, list[Row]] = {}
    for claim in claims:
        found.setdefault(claim.get("section") or "Claims", []).append(claim)
    return found


def study_page(document: Row, folder: Path) -> str:
    """Return the page of a result as one self-contained HTML document.

    Parameters
    ----------
    document : mapping
        What ``result.json`` holds.
    folder : Path
        Where its figures are.
    """
    claims = by_section(document["claims"])
    blocks = _blocks(document["blocks"])
    lead = document.get("lead_figure")
    sections = [Section("In short", Raw(_lead(document, folder)))]
    for title in [*claims, *(name for name in blocks if name not in claims)]:
        said = blocks.get(title, [])
        body = [_text(b) for b in said if b["kind"] == "text"]
        body += [_claim(row) for row in claims.get(title, [])]
        body += [
            _figure(b, folder) if b["kind"] == "figure" else _table(b)
            for b in said
            if b["kind"] != "text" and not (lead and b.get("file") == lead)
        ]
        sections.append(Section(title, Raw("".join(body))))
    versions = ", ".join(f"{k} {v}" for k, v in document["versions"].items())
    footer = (
        f"{document['size']} run, seed {document['seed']}, {document['device']}, "
        f"{document['seconds']:.0f} s of computing, {document['finished']}; {versions}. "
        "A number's brackets hold one standard error of its last digits. A claim holds if each "
        "number meets its criterion; with a condition that is not met it is undecided. All of it "
        "is in result.json, and kadanoff.studies.verdicts.verdict recomputes each verdict."
    )
    return page(document["title"], sections, footer=footer)


def _lead(document: Row, folder: Path) -> str:
    failed = any(c["verdict"] == "fails" for c in document["claims"])
    words = prose(document.get("lead") or document["summary"])
    parts = [f'<div class="prose lead">{words}</div>']
    lead = document.get("lead_figure")
    figure = next((b for b in document["blocks"] if lead and b.get("file") == lead), None)
    if figure is not None:
        parts.append(_figure(figure, folder))
    counted = tally(document["claims"]) + "."
    parts.append(callout("warn" if failed else "good", counted, label="Result"))
    name = document["name"]
    parts.append(
        '<div class="prose"><p>Run it: <code>kadanoff study run '
        f"{escape(name)} --quick</code> takes about a minute and leaves open what so little cannot "
        f"decide; <code>--full</code> took {document['seconds'] / 60:.0f} minutes of computing on "
        f"{escape(document['device'])} for this page.</p></div>"
    )
    return "".join(parts)


def _blocks(blocks: Iterable[Row]) -> dict[str, list[Row]]:
    """Figures and tables belong to the text before them."""
    made: dict[str, list[Row]] = {}
    title = "Figures"
    for block in blocks:
        if block["kind"] == "text":
            title = block["title"]
        made.setdefault(title, []).append(block)
    return made


def _text(block: Row) -> str:
    return f'<div class="prose">{prose(block["body"])}</div>'


def _claim(row: Row) -> str:
    whose = SOURCES.get(row["source"], row["source"])
    parts = [
        f'<article class="claim {row["verdict"]}" id="{escape(row["id"])}">'
        f'<div class="said"><span class="badge">{row["verdict"]}</span>'
        f'{prose(row["text"])}<span class="whose">{text(whose)}</span></div>'
    ]
    for measured in row.get("measured") or []:
        name, value, asked = measure(measured)
        label = f"<dt>{text(name or 'ours')}</dt>"
        parts.append(
            f'<dl class="measure">{label}<dd><strong>{text(value)}</strong></dd>'
            f'<dd class="asked">{text(asked)}</dd></dl>'
        )
    beside = []
    if row["paper_value"] is not None:
        beside.append(f"The paper prints {number(row['paper_value'])}.")
    if row.get("baseline"):
        rival = row["baseline"]
        beside.append(f"Beside it: {rival['what']}: {number(rival['value'], rival['stderr'])}.")
    beside += [row.get("open") or "", row["note"]]
    words = " ".join(part for part in beside if part)
    if words:
        parts.append(f'<div class="prose note">{prose(words)}</div>')
    return "".join(parts) + "</article>"


def _figure(block: Row, folder: Path) -> str:
    file = folder / block["file"]
    if file.suffix == ".svg":
        picture = inline_svg(file.read_text("utf-8"), block["caption"])
    else:
        code = base64.b64encode(file.read_bytes()).decode()
        picture = (
            f'<img alt="{escape(block["caption"], quote=True)}" src="data:image/png;base64,{code}">'
        )
    return zoomed(picture, Raw(prose(block["caption"])))


def _table(block: Row) -> str:
    rows = [[number(cell) for cell in row] for row in block["rows"]]
    note = f" {block['note']}" if block["note"] else ""
    return table(block["head"], rows, f"{block['title']}.{note}")

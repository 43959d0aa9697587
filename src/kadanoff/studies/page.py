"""The page of a study: the claims beside our numbers, what was done, the figures."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kadanoff.style.figures import inline_svg
from kadanoff.style.html import Raw, Section, callout, figure_block, page, table
from kadanoff.style.markup import prose
from kadanoff.style.numbers import short, uncertain

__all__ = ["number", "study_page", "tally"]

_SOURCES = {
    "paper": "stated in the paper",
    "derived": "our derivation; not compared with the paper's printed formula",
    "secondary": "as reported by another text",
}


def number(value: Any, stderr: float | None = None) -> str:
    """Write a value of ``result.json`` for a reader: six digits, or as many as the error allows."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(number(item) for item in value)
    if isinstance(value, (int, float)):
        if stderr:
            return uncertain(value, stderr)
        text = short(float(value), 6)
        # zeros that only fill up to six digits say nothing
        return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text
    return str(value)


def tally(claims: Iterable[dict[str, Any]]) -> str:
    """Count the verdicts in words: ``"5 claims hold, 1 fails, 1 is undecided"``."""
    verdicts = [c["verdict"] for c in claims]
    hold, fail, open_ = (verdicts.count(v) for v in ("holds", "fails", "undecided"))
    words = [f"{hold} claim{'' if hold == 1 else 's'} hold{'s' if hold == 1 else ''}"]
    if fail:
        words.append(f"{fail} fail{'s' if fail == 1 else ''}")
    if open_:
        words.append(f"{open_} {'is' if open_ == 1 else 'are'} undecided")
    return ", ".join(words)


def study_page(document: dict[str, Any], folder: Path) -> str:
    """Return the page of a result as one self-contained HTML document.

    Parameters
    ----------
    document : dict
        What ``result.json`` holds.
    folder : Path
        Where its figures are.
    """
    claims = document["claims"]
    failed = any(c["verdict"] == "fails" for c in claims)
    verdict = callout(
        "warn" if failed else "good", tally(claims) + ".", document["summary"], label="Result"
    )
    rows = [
        [
            Raw(prose(f"**{c['verdict']}** {c['text']}")),
            number(c["paper_value"]),
            number(c["our_value"], c["stderr"]),
            Raw(f'<div class="prose">{prose(" ".join([c["note"], _origin(c)]))}</div>'),
        ]
        for c in claims
    ]
    caption = "Each claim, the paper's number, ours with one standard error, and what differs."
    sections = [
        Section("Claims", table(["claim", "paper", "ours", "what was measured"], rows, caption))
    ]
    sections += _sections(document["blocks"], folder)
    versions = ", ".join(f"{k} {v}" for k, v in document["versions"].items())
    footer = (
        f"{document['size']} run, seed {document['seed']}, {document['device']}, "
        f"{document['seconds']:.0f} s of computing, {document['finished']}; {versions}. "
        f"Again: kadanoff study run {document['name']} --{document['size']}"
    )
    return page(document["title"], sections, verdict=verdict, footer=footer)


def _origin(claim: dict[str, Any]) -> str:
    return f"({_SOURCES.get(claim['source'], claim['source'])})"


def _sections(blocks: list[dict[str, Any]], folder: Path) -> list[Section]:
    """Figures and tables belong to the text before them."""
    made: list[tuple[str, list[str]]] = []
    for block in blocks:
        if block["kind"] == "text":
            made.append((block["title"], [f'<div class="prose">{prose(block["body"])}</div>']))
            continue
        if not made:
            made.append(("Figures", []))
        body = _figure(block, folder) if block["kind"] == "figure" else _table(block)
        made[-1][1].append(body)
    return [Section(title, Raw("".join(parts))) for title, parts in made]


def _figure(block: dict[str, Any], folder: Path) -> str:
    file = folder / block["file"]
    if file.suffix == ".svg":
        picture = inline_svg(file.read_text("utf-8"), block["caption"])
    else:
        code = base64.b64encode(file.read_bytes()).decode()
        alt = block["caption"].replace('"', "&quot;")
        picture = f'<img alt="{alt}" src="data:image/png;base64,{code}">'
    return figure_block(picture, Raw(prose(block["caption"])))


def _table(block: dict[str, Any]) -> str:
    rows = [[number(cell) for cell in row] for row in block["rows"]]
    note = f" {block['note']}" if block["note"] else ""
    return table(block["head"], rows, f"{block['title']}.{note}")

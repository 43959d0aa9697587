"""The shell of every HTML report: one file, no network, light and dark, readable on a phone."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from kadanoff.style.figures import css_variables

__all__ = [
    "Raw",
    "Section",
    "callout",
    "cards",
    "details",
    "figure_block",
    "grid",
    "page",
    "table",
    "text",
    "zoomed",
]

_CSS = """
:root { /*light*/ --page: #f5f6f8; --soft: #eef1f4; color-scheme: light dark; }
@media (prefers-color-scheme: dark) { :root { /*dark*/ --page: #0f1319; --soft: #202733; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--kd-ink);
  font: 16px/1.55 system-ui, "Helvetica Neue", Arial, "Liberation Sans", sans-serif; }
header, main, footer { max-width: 1120px; margin: 0 auto; padding: 0 20px; }
header { padding-top: 32px; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 36px 0 12px; }
h3 { font-size: 1rem; margin: 0 0 6px; }
.subtitle, .note, figcaption, footer, caption { color: var(--kd-muted); }
.subtitle { margin: 0 0 18px; overflow-wrap: anywhere; }
code { font: .92em ui-monospace, SFMono-Regular, Menlo, "DejaVu Sans Mono", monospace;
  background: var(--soft); padding: .1em .35em; border-radius: 4px; overflow-wrap: anywhere; }
pre { overflow-x: auto; background: var(--soft); padding: 12px 14px; border-radius: 8px; }
.callout { background: var(--kd-surface); border: 1px solid var(--kd-grid);
  border-left: 5px solid var(--kd-muted); border-radius: 8px;
  padding: 12px 18px; margin: 0 0 12px; }
.callout p { margin: 0 0 4px; }
.callout .label { font-size: .78rem; font-weight: 700; letter-spacing: .06em;
  text-transform: uppercase; color: var(--kd-muted); }
.callout .lead { font-weight: 600; }
.callout.good { border-left-color: var(--kd-critical); }
.callout.good .label { color: var(--kd-critical); }
.callout.bad { border-left-color: var(--kd-bad); }
.callout.bad .label { color: var(--kd-bad); }
.callout.warn { border-left-color: var(--kd-gold); }
.callout.warn .label { color: var(--kd-gold); }
.callout.info { border-left-color: var(--kd-measured); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(165px, 1fr)); gap: 12px;
  margin: 16px 0; }
.cards div { background: var(--kd-surface); border: 1px solid var(--kd-grid); border-radius: 8px;
  padding: 10px 14px; }
.cards dt { font-size: .82rem; color: var(--kd-muted); }
.cards dd { margin: 0; font-size: 1.25rem; font-weight: 600; font-variant-numeric: tabular-nums;
  overflow-wrap: anywhere; }
.cards dd.note { font-size: .8rem; font-weight: 400; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(440px, 100%), 1fr));
  gap: 16px; }
.plot { margin: 0; background: var(--kd-surface); border: 1px solid var(--kd-grid);
  border-radius: 8px; padding: 14px 16px; min-width: 0; }
.plot figcaption { font-size: .9rem; margin-top: 8px; }
.plot img { max-width: 100%; height: auto; }
.plot + .plot, .prose + .plot, .scroll + .plot, .plot + .scroll, .prose + .scroll {
  margin-top: 16px; }
.grid > .plot { margin-top: 0; }
.prose { max-width: 75ch; }
/* a formula wider than a phone scrolls by itself, not the page with it */
.prose p, .prose li, .said p, figcaption p { overflow-x: auto; overflow-y: hidden; }
math[display=block] { display: block math; max-width: 100%; overflow-x: auto; }
.lead { font-size: 1.08rem; }
.claim { background: var(--kd-surface); border: 1px solid var(--kd-grid); border-radius: 8px;
  border-left: 5px solid var(--kd-muted); padding: 10px 16px; margin: 0 0 12px; }
.claim.holds { border-left-color: var(--kd-critical); }
.claim.fails { border-left-color: var(--kd-bad); }
.claim.undecided { border-left-color: var(--kd-gold); }
.said { display: flex; flex-wrap: wrap; gap: 4px 12px; align-items: baseline; font-weight: 600; }
.said p { margin: 0; flex: 1 1 30ch; min-width: 0; }
.badge { font-size: .78rem; letter-spacing: .05em; text-transform: uppercase; min-width: 9ch; }
.holds .badge { color: var(--kd-critical); }
.fails .badge { color: var(--kd-bad); }
.undecided .badge { color: var(--kd-gold); }
.whose { font-size: .82rem; font-weight: 400; color: var(--kd-muted); }
.measure { display: grid; grid-template-columns: minmax(0, 5fr) minmax(0, 3fr) minmax(0, 6fr);
  gap: 2px 16px; margin: 6px 0 0; font-size: .9rem; font-variant-numeric: tabular-nums; }
.measure dd { margin: 0; overflow-wrap: anywhere; }
.measure .asked { color: var(--kd-muted); }
.claim .note { margin-top: 6px; font-size: .88rem; max-width: none; }
.claim .note p { margin: 0; }
@media (max-width: 640px) { .measure { grid-template-columns: 1fr; margin-top: 10px; }
  .zoom > label { overflow-x: auto; }
  .zoom svg.kd-figure, .zoom img { min-width: 560px; } }
.plot + .callout { margin-top: 16px; }
.zoom > input { position: absolute; opacity: 0; }
.zoom > label { display: block; cursor: zoom-in; }
.zoom > input:focus-visible + label { outline: 3px solid var(--kd-measured); }
.zoom > input:checked + label { position: fixed; inset: 0; z-index: 9; overflow: auto;
  background: var(--kd-surface); cursor: zoom-out; padding: 12px; }
.zoom > input:checked + label > svg, .zoom > input:checked + label > img {
  width: max(100%, 1000px); max-width: none; }
td .prose { white-space: normal; text-align: left; min-width: 32ch; }
th[scope=row] p { white-space: normal; min-width: 28ch; margin: 0; }
td .prose p, figcaption p { margin: 0; }
svg.kd-figure { display: block; width: 100%; height: auto; }
.scroll { overflow-x: auto; background: var(--kd-surface); border: 1px solid var(--kd-grid);
  border-radius: 8px; }
table { border-collapse: collapse; width: 100%; font-size: .88rem;
  font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: 10px 14px; font-size: .88rem; }
th, td { padding: 6px 12px; text-align: right; white-space: nowrap;
  border-top: 1px solid var(--kd-grid); }
thead th { font-weight: 600; border-top: 0; border-bottom: 1px solid var(--kd-muted); }
th[scope=row], thead th:first-child { text-align: left; }
th[scope=row] { font-weight: 500; }
tbody tr:hover { background: var(--soft); }
footer { padding: 28px 20px 40px; font-size: .82rem; overflow-wrap: anywhere; }
:focus-visible { outline: 3px solid var(--kd-measured); outline-offset: 2px; }
@media print { body { background: none; } .plot, .callout { break-inside: avoid; } }
"""


class Raw(str):
    """HTML that is already safe; every other string given to this module is escaped."""

    __slots__ = ()


@dataclass(frozen=True)
class Section:
    """One headed part of a page; ``body`` is HTML made by the helpers of this module."""

    title: str
    body: str


def text(value: object) -> Raw:
    """Escape a value; backticks become ``<code>`` and blank lines paragraphs' ends."""
    if isinstance(value, Raw):
        return value
    safe = escape(str(value))
    return Raw(re.sub(r"`([^`]+)`", r"<code>\1</code>", safe))


def figure_block(svg: str, caption: str, heading: str = "") -> Raw:
    """A figure from :func:`kadanoff.style.figures.to_svg` with a plain explanation under it.

    Parameters
    ----------
    svg : str
        An SVG element.
    caption, heading : str
        Plain text below and above.
    """
    head = f"<h3>{text(heading)}</h3>" if heading else ""
    return Raw(f'<figure class="plot">{head}{svg}<figcaption>{text(caption)}</figcaption></figure>')


def zoomed(picture: str, caption: str) -> Raw:
    """A figure that fills the window when it is clicked, and is back in its place at the next.

    Parameters
    ----------
    picture : str
        HTML of an SVG or image.
    caption : str
        Plain text, or :class:`Raw`.
    """
    name = f"z{zlib.crc32(picture.encode()):08x}"
    return Raw(
        f'<figure class="plot"><div class="zoom"><input type="checkbox" id="{name}" '
        f'aria-label="Enlarge the figure"><label for="{name}">{picture}</label></div>'
        f"<figcaption>{text(caption)}</figcaption></figure>"
    )


def grid(blocks: Iterable[str]) -> Raw:
    """Lay blocks out in two columns where there is room, in one on a phone."""
    return Raw('<div class="grid">' + "".join(blocks) + "</div>")


def cards(items: Iterable[tuple[str, object, str]]) -> Raw:
    """Key numbers: ``(name, value, note)`` each."""
    cells = "".join(
        f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd><dd class='note'>{text(note)}</dd></div>"
        for name, value, note in items
    )
    return Raw(f'<dl class="cards">{cells}</dl>')


def callout(kind: str, heading: str, body: str = "", remedy: str = "", label: str = "") -> Raw:
    """A boxed statement. ``kind`` is ``"good"``, ``"bad"``, ``"warn"`` or ``"info"``.

    The kind is also written out in words (``label``), so that colour is not the only cue.

    Parameters
    ----------
    kind : {"good", "bad", "warn", "info"}
    heading, body, remedy : str
        Plain text, escaped here.
    label : str
        The kind in a word; by default one that fits.
    """
    words = label or {"good": "Healthy", "bad": "Finding", "warn": "Note", "info": "Note"}[kind]
    inner = f'<p class="label">{text(words)}</p><p class="lead">{text(heading)}</p>'
    inner += f"<p>{text(body)}</p>" if body else ""
    inner += f'<p class="remedy"><strong>What to do:</strong> {text(remedy)}</p>' if remedy else ""
    return Raw(f'<div class="callout {kind}">{inner}</div>')


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[object]],
    caption: str,
    *,
    explain: Sequence[str] = (),
) -> Raw:
    """A table that scrolls sideways on a phone; ``explain`` gives a tooltip for each column.

    Parameters
    ----------
    head : sequence of str
    rows : iterable of sequences
        Cells, escaped here unless they are :class:`Raw`.
    caption : str
    explain : sequence of str
        A tooltip for each column.
    """
    hints = list(explain) + [""] * (len(head) - len(explain))
    top = "".join(
        f'<th scope="col"{f" title={_quoted(hint)}" if hint else ""}>{text(name)}</th>'
        for name, hint in zip(head, hints)
    )
    lines = []
    for row in rows:
        first, *rest = row
        cells = "".join(f"<td>{text(cell)}</td>" for cell in rest)
        lines.append(f'<tr><th scope="row">{text(first)}</th>{cells}</tr>')
    return Raw(
        f'<div class="scroll" role="region" tabindex="0" aria-label={_quoted(caption)}>'
        f"<table><caption>{text(caption)}</caption><thead><tr>{top}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def details(summary: str, body: str) -> Raw:
    """A part that is folded away until it is asked for."""
    return Raw(f"<details><summary>{text(summary)}</summary>{body}</details>")


def _quoted(value: str) -> str:
    return '"' + escape(value, quote=True) + '"'


def page(
    title: str,
    sections: Iterable[Section],
    *,
    subtitle: str = "",
    verdict: str = "",
    footer: str = "",
) -> str:
    """Assemble a complete page.

    Parameters
    ----------
    title, subtitle : str
        Plain text.
    sections : iterable of Section
    verdict : str
        HTML shown first, made by :func:`callout`.
    footer : str
        Plain text: versions, seed, command.

    Returns
    -------
    str
        An HTML document without a single outside reference.
    """
    body = "".join(
        f'<section aria-labelledby="s{i}"><h2 id="s{i}">{text(s.title)}</h2>{s.body}</section>'
        for i, s in enumerate(sections)
    )
    under = f'<p class="subtitle">{text(subtitle)}</p>' if subtitle else ""
    foot = f"<footer>{text(footer)}</footer>" if footer else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{_style_sheet()}</style></head>\n<body>"
        f"<header><h1>{text(title)}</h1>{under}</header>\n<main>{verdict}{body}</main>\n{foot}"
        "</body></html>\n"
    )


def _style_sheet() -> str:
    return _CSS.replace("/*light*/", css_variables(0)).replace("/*dark*/", css_variables(1))

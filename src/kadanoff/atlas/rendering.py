"""Comments are hostile input: Markdown and TeX to HTML that can only be text.

Three walls: raw HTML is off in the Markdown parser; what it writes goes through nh3 with a short
list of tags; formulas become MathML that is rebuilt, element by element, from a list of names.
The page's Content-Security-Policy forbids inline scripts and styles besides.
"""

from __future__ import annotations

import re
import secrets
from functools import lru_cache
from html import escape

from kadanoff.style.markup import FORMULA, math, prose

__all__ = ["inline", "markdown"]

_TAGS = {
    *("p", "br", "hr", "em", "strong", "s", "code", "pre", "blockquote", "a", "ul", "ol", "li"),
    *("h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td"),
}


@lru_cache(2048)
def markdown(text: str) -> str:
    """Render a comment as HTML that is safe to put into the page.

    Parameters
    ----------
    text : str
        Markdown with ``$...$`` and ``$$...$$`` in TeX.
    """
    import nh3

    mark = f"kd{secrets.token_hex(12)}x"
    formulas: list[str] = []

    def place(tex: str, display: bool) -> str:
        formulas.append(math(tex, display))
        return f"{mark}{len(formulas) - 1}z"

    html = nh3.clean(
        prose(text, place),
        tags=_TAGS,
        attributes={"a": {"href"}},
        url_schemes={"http", "https"},
        link_rel="noopener noreferrer nofollow ugc",
    )
    return re.sub(rf"{mark}(\d+)z", lambda m: formulas[int(m.group(1))], html)


_LONG = 30


@lru_cache(4096)
def inline(text: str) -> str:
    """Render a title or an abstract: plain text in which only formulas are more than text."""
    if "$" not in text:
        return escape(text)
    pieces: list[str] = []
    at = 0
    for found in FORMULA.finditer(text):
        tex = found.group("inline") or found.group("block") or ""
        formula = math(tex, False)
        if len(tex) > _LONG:
            # it scrolls in its own line rather than making the page wider
            formula = f'<span class="tex">{formula}</span>'
        pieces += [escape(text[at : found.start()]), formula]
        at = found.end()
    return "".join([*pieces, escape(text[at:])])

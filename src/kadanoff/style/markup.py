"""Prose with formulas: Markdown and TeX to HTML and MathML, without a line of script.

Raw HTML and images are off in the parser. Formulas become MathML that is rebuilt, element by
element, from a list of names, so that what the converter writes cannot be anything else.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from html import escape
from typing import Any
from xml.etree import ElementTree

__all__ = ["FORMULA", "math", "prose"]

_MATH_TAGS = {
    *("math", "mrow", "mi", "mn", "mo", "ms", "mtext", "mspace", "mfrac", "msqrt", "mroot"),
    *("mstyle", "msub", "msup", "msubsup", "munder", "mover", "munderover", "mtable", "mtr"),
    *("mtd", "mpadded", "mphantom", "menclose", "mmultiscripts", "mprescripts", "none"),
}
_MATH_ATTRIBUTES = {
    *("mathvariant", "stretchy", "fence", "separator", "form", "accent", "accentunder"),
    *("displaystyle", "scriptlevel", "width", "height", "depth", "lspace", "rspace", "minsize"),
    *("maxsize", "linethickness", "columnalign", "rowspacing", "columnspacing", "movablelimits"),
    *("symmetric", "largeop", "notation"),
}
FORMULA = re.compile(
    r"\$\$(?P<block>.+?)(?<!\\)\$\$|\$(?P<inline>[^\s$](?:[^$\n]*?[^\s\\$])?)\$(?!\d)", re.S
)
_READ_AS = {"aligned": "align*", "gathered": "matrix", "gather*": "matrix"}
_ENVIRONMENT = re.compile(r"(\\(?:begin|end)\{)(aligned|gathered|gather\*)\}")
_LIMIT = 2000
_DEEPEST = 40


def _formula_rule(state: Any, silent: bool) -> bool:
    if state.src[state.pos] != "$":
        return False
    found = FORMULA.match(state.src, state.pos, min(state.posMax, state.pos + _LIMIT))
    if not found:
        return False
    if not silent:
        block = found.group("block")
        token = state.push("formula", "", 0)
        token.content = block if block is not None else found.group("inline")
        token.meta = {"display": block is not None}
    state.pos = found.end()
    return True


@lru_cache(1)
def _parser() -> Any:
    from markdown_it import MarkdownIt

    # no raw HTML, no images: an image is a request to somebody else's machine
    parser = MarkdownIt("js-default", {"html": False, "linkify": False, "maxNesting": 20})
    parser.disable(["image"])
    parser.inline.ruler.before("escape", "formula", _formula_rule)
    # headings inside a comment stay below those of the page
    parser.core.ruler.push("headings", _lower_headings)
    return parser


def _lower_headings(state: Any) -> None:
    for token in state.tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 3)}"
        if token.attrs and "style" in token.attrs:
            del token.attrs["style"]


def prose(text: str, formula: Callable[[str, bool], str] | None = None) -> str:
    """Render Markdown with ``$...$`` and ``$$...$$`` in TeX as HTML.

    Parameters
    ----------
    text : str
    formula : callable, optional
        ``(tex, display) -> HTML`` in place of :func:`math`; whoever cleans the HTML afterwards
        gives one that leaves a mark.

    Returns
    -------
    str
    """
    write = formula or math

    def place(renderer: Any, tokens: Any, index: int, options: Any, env: Any) -> str:
        token = tokens[index]
        return write(token.content, token.meta["display"])

    parser = _parser()
    tokens = parser.parse(text)
    renderer = type(parser.renderer)(parser)
    renderer.rules = {**parser.renderer.rules, "formula": place.__get__(parser.renderer)}
    return renderer.render(tokens, parser.options, {})


@lru_cache(512)
def math(tex: str, display: bool = False) -> str:
    """Render TeX as MathML; what cannot be read is shown as its source."""
    from latex2mathml.converter import convert

    source = escape(f"$${tex}$$" if display else f"${tex}$")
    depth = deepest = 0
    for character in tex:
        depth += (character in "{(") - (character in "})")
        deepest = max(deepest, depth)
    if deepest > _DEEPEST:
        return f"<code>{source}</code>"
    # the converter knows these under one name only
    readable = _ENVIRONMENT.sub(lambda m: f"{m.group(1)}{_READ_AS[m.group(2)]}}}", tex)
    try:
        tree = ElementTree.fromstring(convert(readable, display="block" if display else "inline"))
        rebuilt = _rebuild(tree)
    except (Exception, RecursionError):
        # the converter has no common error class: any failure means "show the source"
        return f"<code>{source}</code>"
    kind = "block" if display else "inline"
    return f'<math display="{kind}" alttext="{escape(tex)}">{rebuilt}</math>'


def _rebuild(element: ElementTree.Element) -> str:
    name = element.tag.rsplit("}", 1)[-1]
    inside = escape(element.text or "") + "".join(
        _rebuild(child) + escape(child.tail or "") for child in element
    )
    if name == "math" or name not in _MATH_TAGS:
        return inside
    attributes = "".join(
        f' {key}="{escape(value)}"'
        for key, value in element.attrib.items()
        if key in _MATH_ATTRIBUTES
    )
    return f"<{name}{attributes}>{inside}</{name}>"

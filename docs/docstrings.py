"""Docstrings say ``:func:`` and ``:math:`` as the field does; the site speaks Markdown."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import griffe

_ROLE = re.compile(r":(math|class|func|meth|mod|data|attr):`([^`]+)`")
_BLOCK = re.compile(r"^( *)\.\. math::([^\n]*)\n((?:(?:\1 +[^\n]*)?(?:\n|\Z))*)", re.M)


def markdown(text: str) -> str:
    """Turn roles and formulas of reStructuredText into Markdown."""

    def block(match: re.Match[str]) -> str:
        indent, first, rest = match.groups()
        tex = f"{first.strip()}\n{textwrap.dedent(rest).strip()}".strip()
        if "&" in tex:
            tex = f"\\begin{{align}}{tex}\\end{{align}}"
        return textwrap.indent(f"$$\n{tex}\n$$", indent) + "\n\n"

    def role(match: re.Match[str]) -> str:
        kind, words = match.groups()
        return f"${words}$" if kind == "math" else f"`{words.removeprefix('~')}`"

    return _ROLE.sub(role, _BLOCK.sub(block, text))


class Words(griffe.Extension):
    """Applies :func:`markdown` to every docstring that is read."""

    def on_instance(self, *, obj: Any, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value)

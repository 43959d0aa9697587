"""Reports: one result, three renderers (terminal, HTML, JSON) and one house style of figures."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kadanoff.report.numbers import uncertain as uncertain
    from kadanoff.report.page import Section as Section
    from kadanoff.report.page import page as page

_HOME = {
    "uncertain": "kadanoff.report.numbers",
    "page": "kadanoff.report.page",
    "Section": "kadanoff.report.page",
}

__all__ = ["Section", "page", "uncertain"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

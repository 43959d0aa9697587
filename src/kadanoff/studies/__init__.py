"""Studies: the central results of papers around the theory, run again with this library.

A study is one module that states a paper's claims as data (:class:`Claim`), computes what is
needed with public parts of the library, and decides each claim with numbers and uncertainty.

>>> import kadanoff as kd
>>> kd.studies.get("exact-priors").paper
'zavatone2021'
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kadanoff.studies.lab import Lab as Lab
    from kadanoff.studies.registry import all as all
    from kadanoff.studies.registry import get as get
    from kadanoff.studies.runner import keep as keep
    from kadanoff.studies.runner import run as run
    from kadanoff.studies.study import Claim as Claim
    from kadanoff.studies.study import Study as Study

_HOME = {
    "Claim": "study",
    "Study": "study",
    "Lab": "lab",
    "all": "registry",
    "get": "registry",
    "keep": "runner",
    "run": "runner",
}

__all__ = ["Claim", "Lab", "Study", "all", "get", "keep", "run"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f"kadanoff.studies.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Studies: the central results of papers around the theory, run again with this library.

A study is one module that states a paper's claims as data (:class:`Claim`), computes what is
needed with public parts of the library, and decides each claim with numbers and uncertainty.

>>> import kadanoff as kd
>>> kd.studies.get("exact-priors").paper
'zavatone2021'
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kadanoff._lazy import attach

if TYPE_CHECKING:
    from kadanoff.studies.lab import Lab as Lab
    from kadanoff.studies.registry import all as all
    from kadanoff.studies.registry import get as get
    from kadanoff.studies.runner import keep as keep
    from kadanoff.studies.runner import run as run
    from kadanoff.studies.study import Claim as Claim
    from kadanoff.studies.study import Study as Study

_HOME = {
    "Claim": "kadanoff.studies.study",
    "Study": "kadanoff.studies.study",
    "Lab": "kadanoff.studies.lab",
    "all": "kadanoff.studies.registry",
    "get": "kadanoff.studies.registry",
    "keep": "kadanoff.studies.runner",
    "run": "kadanoff.studies.runner",
}

__all__ = [*_HOME]  # pyright: ignore[reportUnsupportedDunderAll]

__getattr__, __dir__ = attach(__name__, _HOME)

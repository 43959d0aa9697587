"""Ensembles of random networks by simulation: drawn, or sampled without drawing weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kadanoff._lazy import attach

if TYPE_CHECKING:
    from kadanoff.ensembles.comparison import Comparison as Comparison
    from kadanoff.ensembles.comparison import compare as compare
    from kadanoff.ensembles.extrapolate import Scaling as Scaling
    from kadanoff.ensembles.extrapolate import scaling as scaling
    from kadanoff.ensembles.moments import Measured as Measured
    from kadanoff.ensembles.result import Ensemble as Ensemble
    from kadanoff.ensembles.run import ensemble as ensemble

# public name -> module that defines it; imported when first used
_HOME = {
    "Comparison": "kadanoff.ensembles.comparison",
    "Ensemble": "kadanoff.ensembles.result",
    "Measured": "kadanoff.ensembles.moments",
    "Scaling": "kadanoff.ensembles.extrapolate",
    "compare": "kadanoff.ensembles.comparison",
    "ensemble": "kadanoff.ensembles.run",
    "scaling": "kadanoff.ensembles.extrapolate",
}

__all__ = [*_HOME]  # pyright: ignore[reportUnsupportedDunderAll]

__getattr__, __dir__ = attach(__name__, _HOME)

"""Ensembles of random networks by simulation: drawn, or sampled without drawing weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kadanoff._lazy import attach

if TYPE_CHECKING:
    from kadanoff.ensembles.comparison import Comparison as Comparison
    from kadanoff.ensembles.comparison import compare as compare
    from kadanoff.ensembles.moments import Measured as Measured
    from kadanoff.ensembles.result import Ensemble as Ensemble
    from kadanoff.ensembles.run import ensemble as ensemble
    from kadanoff.ensembles.widths import Scaling as Scaling
    from kadanoff.ensembles.widths import scaling as scaling

__getattr__, __dir__, __all__ = attach(__name__)

"""One measured number beside what the theory expects."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Estimate"]


@dataclass(frozen=True)
class Estimate:
    """One measured number beside what the theory expects.

    Attributes
    ----------
    value : float
        The measurement on this network and this batch.
    stderr : float
        Its standard error from the finite batch (and the finite number of random probes);
        NaN if one sample gives no error.
    predicted : float or None
        The theory's mean over networks; None if the theory does not describe the model.
    spread : float or None
        The theory's standard deviation from one drawn network to the next at these widths.
    z : float or None
        ``(value - predicted) / spread``; None without prediction. The prediction is for the very
        batch that was measured, so that the batch's own error does not enter.
    """

    value: float
    stderr: float = math.nan
    predicted: float | None = None
    spread: float | None = None
    z: float | None = None

    def against(self, predicted: float, spread: float) -> Estimate:
        """The same measurement with a prediction, its network-to-network spread, and z."""
        # a quantity without spread (zeros of tanh, say) still carries rounding noise
        scale = max(spread, 1e-6 * max(abs(predicted), abs(self.value)), 1e-30)
        z = (self.value - predicted) / scale
        return Estimate(self.value, self.stderr, predicted, spread, z)

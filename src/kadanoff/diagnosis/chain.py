"""How a quantity changes from layer to layer along the main signal path."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from kadanoff.architecture import Network
from kadanoff.diagnosis.result import LayerReport

__all__ = [
    "Trend",
    "backward_trend",
    "expected_trends",
    "gradient_trend",
    "hidden_chain",
    "signal_trend",
]


@dataclass(frozen=True)
class Trend:
    """Mean logarithmic rate per layer over the deeper half of the chain.

    Power laws in depth, which healthy nets show too, change by a fixed factor over that half; an
    exponential keeps changing. ``rate`` is the mean of the logarithm per layer, ``error`` its
    standard error from the scatter between layers and from the measurement, ``depth`` the number
    of layers of the chain, ``factor`` and ``factor_error`` the change per layer itself.
    """

    rate: float
    error: float
    depth: int

    @property
    def factor(self) -> float:
        return math.exp(min(self.rate, 700.0))

    @property
    def factor_error(self) -> float:
        return self.factor * self.error

    @property
    def scale(self) -> float:
        """Depth scale ξ = 1/|rate| in layers."""
        return 1 / abs(self.rate) if self.rate else math.inf

    def exceeds(self, lengths: float, z: float = 3.0) -> bool:
        """Whether the net is deeper than ``lengths`` depth scales, by ``z`` standard errors."""
        return abs(self.rate) - z * self.error > lengths / self.depth


def hidden_chain(layers: Sequence[LayerReport]) -> list[LayerReport]:
    """Layers and residual sums that carry the whole signal, without embedding and readout.

    A weight that is called again and again is a recurrence: its steps are time, not depth.
    """
    uses = Counter(layer.parameter or layer.path for layer in layers if layer.role != "stream")
    again = any(uses[x.parameter or x.path] >= 8 for x in layers if not x.residual)
    return [
        layer
        for layer in layers
        if not layer.residual
        and layer.role in ("input", "hidden", "stream")
        and uses[layer.parameter or layer.path] < 8
        and not (again and layer.role == "stream")
    ]


def gradient_trend(chain: Sequence[LayerReport]) -> Trend | None:
    """Trend of the squared partial Jacobians between successive layers (the measured χ⊥)."""
    logs, noise = [], []
    for layer in chain[:-1]:
        chi = layer.jacobian
        if chi is None or not chi.value > 0 or not math.isfinite(chi.value):
            return None
        logs.append(math.log(chi.value))
        noise.append(chi.stderr / chi.value if math.isfinite(chi.stderr) else 0.0)
    return _trend(logs, noise, len(chain))


def backward_trend(chain: Sequence[LayerReport]) -> Trend | None:
    """Trend of the gradient that really arrives: of the Jacobian to the output, per layer.

    Positive if gradients grow on the way back, as :func:`gradient_trend` has it. The two agree
    where gradients are spread evenly over directions; with attention they need not.
    """
    values = [layer.jacobian_to_output for layer in chain]
    if not all(v is not None and v.value > 0 and math.isfinite(v.value) for v in values):
        return None
    numbers = [v.value for v in values if v is not None]
    logs = [math.log(a / b) for a, b in pairwise(numbers)]
    return _trend(logs, [0.0] * len(logs), len(chain))


def expected_trends(arch: Network, K: float) -> tuple[Trend, Trend] | None:
    """Gradient and signal trend at infinite width, from the second moment K of layer 1."""
    from kadanoff.rgflow.kernel import inner_kernel, next_layer, squares, steps

    chi, signal = [], []
    kernel = torch.full((1, 1), K, dtype=torch.float64)
    Theta = torch.zeros_like(kernel)
    for step in steps(arch)[:-1]:
        if not float(kernel) > 0:
            return None
        ss, dd = squares(step.activation, inner_kernel(step, kernel))
        after, Theta = next_layer(step, kernel, Theta, ss, dd)
        # χ⊥ = C_W ⟨σ'²⟩ + γ²
        perpendicular = step.C_W * float(dd) + step.gamma**2
        if not (perpendicular > 0 and float(after) > 0):
            return None
        chi.append(math.log(perpendicular))
        signal.append(math.log(float(after / kernel)))
        kernel = after
    zeros = [0.0] * len(chi)
    gradient, magnitude = (_trend(logs, zeros, len(chi) + 1) for logs in (chi, signal))
    if gradient is None or magnitude is None:
        return None
    return gradient, magnitude


def signal_trend(chain: Sequence[LayerReport]) -> Trend | None:
    """Trend of the second moment of the preactivations."""
    values = [layer.second_moment.value for layer in chain]
    if not all(v > 0 and math.isfinite(v) for v in values):
        return None
    logs = [math.log(b / a) for a, b in pairwise(values)]
    return _trend(logs, [0.0] * len(logs), len(chain))


def _trend(logs: list[float], noise: list[float], depth: int) -> Trend | None:
    if len(logs) < 2:
        return None
    half, noise = logs[len(logs) // 2 :], noise[len(logs) // 2 :]
    if len(half) > 2:
        # one step unlike the others (a pooling, a change of shape, a bad layer) is no trend
        middle = sorted(half)[len(half) // 2]
        odd = max(range(len(half)), key=lambda i: abs(half[i] - middle))
        half, noise = half[:odd] + half[odd + 1 :], noise[:odd] + noise[odd + 1 :]
    count = len(half)
    rate = sum(half) / count
    measured = math.sqrt(sum(e * e for e in noise)) / count
    scatter = 0.0
    if count > 2:
        scatter = math.sqrt(sum((x - rate) ** 2 for x in half) / (count - 1) / count)
    return Trend(rate, max(measured, scatter), depth)

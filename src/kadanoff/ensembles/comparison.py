"""Predictions beside measurements: z-scores, and the size of the next order."""

from __future__ import annotations

import itertools
import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kadanoff.ensembles.moments import Measured
from kadanoff.ensembles.result import Ensemble
from kadanoff.ensembles.statistics import NAMES
from kadanoff.ensembles.widths import Scaling, extrapolate
from kadanoff.errors import UsageError
from kadanoff.results import Result, Table
from kadanoff.rgflow.observables import INFINITE, SYMMETRIC
from kadanoff.rgflow.validity import fluctuation, warn_beyond

if TYPE_CHECKING:
    from kadanoff.rgflow.run import Flow

__all__ = ["Comparison", "Line", "compare"]

# how many times the relative variance of the NTK the 1/n² term may be: A, R, T, U of tanh at
# depth 4 were measured to drift by up to this much, those of ReLU by less
_NTK_DRIFT = 3.0
# a next order beyond this share of the number leaves it undecided
_HALF = 0.5


@dataclass(frozen=True)
class Line:
    """One component.

    Attributes
    ----------
    observable, layer, component
        Which number.
    predicted, measured, stderr : float
        ``stderr`` is the statistical error of ``measured``.
    systematic : float
        The size of the next order in 1/n, which the prediction leaves out.
    z : float
        (measured − predicted) over both errors together, √(stderr² + systematic²).
    excess : float
        By how many ``stderr`` the difference exceeds ``systematic``.
    """

    observable: str
    layer: int
    component: tuple[int, ...]
    predicted: float
    measured: float
    stderr: float
    systematic: float
    z: float
    excess: float


@dataclass(frozen=True, repr=False)
class Comparison(Result):
    """Every prediction beside its measurement.

    Attributes
    ----------
    lines : list of Line
    level : float
        A prediction is rejected if the difference exceeds ``systematic`` by more standard errors.
    systematic : str
        Where the allowance for the next order comes from.
    """

    lines: list[Line]
    level: float
    systematic: str

    @property
    def rejected(self) -> list[Line]:
        """Lines whose prediction is excluded, worst first."""
        bad = [line for line in self.lines if line.excess > self.level]
        return sorted(bad, key=lambda line: -line.excess)

    @property
    def passed(self) -> bool:
        """Whether no prediction is rejected."""
        return not self.rejected

    def summary(self) -> list[Line]:
        """The worst line of each observable at each layer."""
        worst: dict[tuple[str, int], Line] = {}
        for line in self.lines:
            key = line.observable, line.layer
            rank = (line.excess, abs(line.z))
            if key not in worst or rank > (worst[key].excess, abs(worst[key].z)):
                worst[key] = line
        return [worst[key] for key in sorted(worst, key=lambda k: (NAMES.index(k[0]), k[1]))]

    def verdict(self, line: Line) -> str:
        """Whether the measurement bears the prediction out.

        "ok" within the statistical error; "ok (next order)" if the allowance is needed; "undecided"
        if the allowance needed is as large as the number itself, so that this width cannot tell;
        "rejected" beyond it.
        """
        if line.excess > self.level:
            return "rejected"
        if abs(line.measured - line.predicted) <= self.level * line.stderr:
            return "ok"
        size = max(abs(line.predicted), abs(line.measured))
        return "undecided" if line.systematic > _HALF * size else "ok (next order)"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "level": self.level,
            "systematic": self.systematic,
            "passed": self.passed,
            "rejected": len(self.rejected),
            "lines": [vars(line) for line in self.lines],
        }

    def headline(self) -> str:
        """How many components, and how many are rejected."""
        return f"{len(self.lines)} components, {len(self.rejected)} rejected"

    def table(self) -> Table:
        """A row for each component: prediction, measurement, errors, verdict."""
        columns = ("observable", "layer", "slots", "predicted", "measured", "stderr")
        columns += ("systematic", "z", "verdict")
        rows = [_row(line, self.verdict(line)) for line in self.lines]
        return Table(columns, rows, self.headline())

    def __str__(self) -> str:
        head = f"{'':6}{'layer':>6}{'slots':>7}{'predicted':>13}{'measured':>13}"
        head += f"{'± stat':>10}{'± next':>10}{'z':>7}  verdict"
        rows = [
            f"{x.observable:6}{x.layer:6d}{''.join(map(str, x.component)):>7}{x.predicted:13.5g}"
            f"{x.measured:13.5g}{x.stderr:10.2g}{x.systematic:10.2g}{x.z:7.2f}  {self.verdict(x)}"
            for x in self.summary()
        ]
        verdict = "no prediction rejected" if self.passed else f"{len(self.rejected)} rejected"
        tail = f"{len(self.lines)} components at {self.level:g} standard errors: {verdict}"
        return "\n".join([head, *rows, tail])

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Write ``path`` (.svg, .png or without suffix for both): ratios, and z-scores by layer."""
        from kadanoff.ensembles.plots import comparison_figure
        from kadanoff.style.figures import write

        write(comparison_figure(self), path)


def _row(line: Line, verdict: str) -> tuple[Any, ...]:
    slots = "".join(map(str, line.component))
    numbers = (line.predicted, line.measured, line.stderr, line.systematic, line.z)
    return (line.observable, line.layer, slots, *numbers, verdict)


def compare(
    flow: Flow,
    ensemble: Ensemble | Scaling,
    wider: Ensemble | None = None,
    *,
    level: float = 4.0,
) -> Comparison:
    """Predicted against measured, with z-scores and an allowance for the next order in 1/n.

    Parameters
    ----------
    flow : Flow
        Prediction; ``order=1`` for the 1/n observables.
    ensemble : Ensemble or Scaling
        Measurement at one width, or extrapolated from several (then the allowance is the size
        of the first power of 1/n that was not fitted).
    wider : Ensemble, optional
        The same network with all hidden widths scaled up: the two extrapolate linearly to
        infinite width.
    level : float
        Standard errors beyond the allowance at which a prediction counts as rejected.

    Returns
    -------
    Comparison

    Raises
    ------
    UsageError
        Nothing to compare, or inputs or depth differ.

    Notes
    -----
    With one width the allowance is a bound, not an estimate: the relative variance V/(nK²) of the
    layer before times the largest component (three times that for U6), to which observables of
    the NTK add 3 (A + 2B)/(nΘ²). Layer 2 has none: its metric averages over neurons that are
    independent at any width.
    """
    if not 0 < level < math.inf:
        raise UsageError(f"level = {level} rejects nothing or everything.", "Pass e.g. level=4.")
    if wider is not None:
        if not isinstance(ensemble, Ensemble):
            raise UsageError("wider= goes with a single ensemble, not with a scaling.")
        ensemble = extrapolate([ensemble, wider])
    found = ensemble.limit if isinstance(ensemble, Scaling) else ensemble.values
    names = _shared(flow, found)
    if isinstance(ensemble, Scaling):
        how = f"extrapolated from widths {', '.join(map(str, ensemble.widths))}"
        allowances = {name: ensemble.remainder[name] for name in names}
    else:
        _check_widths(flow, ensemble)
        if flow.V is not None:
            largest = _largest(flow.K, flow.V, ensemble)
            warn_beyond("A comparison with order 1/n", ensemble.network, largest)
        how = "bounded by the relative fluctuations at this width"
        relative = _fluctuations(flow, ensemble)
        widths = torch.tensor(ensemble.network.n[:-1], dtype=torch.float64)
        allowances = {name: _bound(name, flow, found[name], relative, widths) for name in names}
    lines: list[Line] = []
    for name in names:
        lines += _lines(name, getattr(flow, name), found[name], allowances[name])
    return Comparison(lines, level, how)


def _shared(flow: Flow, found: dict[str, Measured]) -> list[str]:
    """Observables that flow and ensemble have both, of the same shape."""
    names = [n for n in NAMES if n in found and getattr(flow, n, None) is not None]
    if flow.V is not None:
        # K and Θ at finite width are K + G1/n and Θ + H1/n: their 1/n parts are G1 and H1
        names = [n for n in names if n not in INFINITE]
    if not names:
        raise UsageError(
            f"The ensemble measured {', '.join(found) or 'nothing'}, none of which the flow has.",
            "Compute the flow with order=1, or measure K or Theta.",
        )
    for name in names:
        theirs, ours = tuple(found[name].value.shape), tuple(getattr(flow, name).shape)
        if theirs != ours:
            raise UsageError(
                f"{name} has shape {theirs} in the ensemble, {ours} in the flow.",
                "Compare the same network and the same inputs.",
            )
    return names


def _lines(name: str, predicted: Tensor, m: Measured, allowance: Tensor) -> list[Line]:
    """Every component that was measured with an error, symmetric ones once."""
    lines: list[Line] = []
    slots = itertools.product(range(predicted.shape[-1]), repeat=predicted.ndim - 1)
    for layer, c in itertools.product(range(len(predicted)), list(slots)):
        if name in SYMMETRIC and c != tuple(sorted(c)):
            continue
        at = (layer, *c)
        values = [float(t[at]) for t in (predicted, m.value, m.stderr, allowance)]
        if math.isfinite(values[1]) and math.isfinite(values[2]) and values[2] > 0:
            lines.append(_line(name, layer + 1, c, *values))
    return lines


def _check_widths(flow: Flow, ensemble: Ensemble) -> None:
    ours, theirs = flow.arch.n, ensemble.network.n
    if ours != theirs:
        raise UsageError(
            f"The flow is of widths {ours}, the ensemble of {theirs}.",
            "Compare the same network: flow(ensemble.arch, X, order=1).",
        )


def _line(name: str, layer: int, c: tuple[int, ...], *values: float) -> Line:
    predicted, measured, stderr, allowance = values
    gap = measured - predicted
    excess = max(0.0, abs(gap) - allowance) / stderr
    z = gap / math.hypot(stderr, allowance)
    return Line(name, layer, c, predicted, measured, stderr, allowance, z, excess)


def _largest(K: Tensor, V: Tensor, ensemble: Ensemble) -> float:
    """The largest V/(nK²) that the flow predicts at the widths of the ensemble."""
    widths = torch.tensor(ensemble.network.n[:-1], dtype=torch.float64)
    return fluctuation(K[-len(V) :], V, widths[-len(V) :])


def _fluctuations(flow: Flow, ensemble: Ensemble) -> tuple[Tensor, Tensor]:
    """Relative variances of metric and NTK at each layer: the expansion parameters, (L,) each."""
    widths = torch.tensor(ensemble.network.n[:-1], dtype=torch.float64)

    def top(name: str) -> Tensor:
        value = getattr(flow, name, None)
        if value is None:
            value = ensemble.values[name].value if name in ensemble.values else None
        if value is None:
            return torch.zeros(len(widths), dtype=torch.float64)
        value = value.nan_to_num()
        return value.abs().flatten(1).amax(1)

    K = flow.K.abs().flatten(1).amax(1).square().clamp_min(1e-300)
    Theta = flow.Theta.abs().flatten(1).amax(1).square().clamp_min(1e-300)
    return top("V") / K / widths, (top("A") + 2 * top("B")) / Theta / widths


def _bound(
    name: str, flow: Flow, m: Measured, relative: tuple[Tensor, Tensor], widths: Tensor
) -> Tensor:
    value = torch.maximum(m.value.abs(), getattr(flow, name).abs())
    value = value.reshape(len(value), -1).amax(1)
    metric, ntk = (torch.cat([r.new_zeros(1), r[:-1]]) for r in relative)
    size = metric if name in ("K", "G1", "V") else 3 * metric
    if name not in ("K", "G1", "V", "U6"):
        size = metric + _NTK_DRIFT * ntk
    if name in ("G1", "H1"):
        # the shift can vanish by symmetry while its second order does not
        base = (flow.K if name == "G1" else flow.Theta).abs().flatten(1).amax(1)
        value = torch.maximum(value, widths * size * base)
    return (size * value).view(-1, *[1] * (m.value.ndim - 1)).expand_as(m.value)

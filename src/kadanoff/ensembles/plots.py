"""Figures of comparisons and scalings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from kadanoff.ensembles.statistics import NAMES
from kadanoff.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from kadanoff.ensembles.comparison import Comparison, Line
    from kadanoff.ensembles.result import Ensemble
    from kadanoff.ensembles.widths import Scaling
    from kadanoff.rgflow.run import Flow

__all__ = ["comparison_figure", "scaling_figure"]

# what a scaling shows: relative variances, and what each is relative to
_SHOWN = (("V", "K", "metric: V / n K²"), ("A", "Theta", "NTK: A / n Θ²"))


def comparison_figure(comparison: Comparison) -> Figure:
    """Left: measured over predicted of the largest component. Right: all z-scores by layer."""
    from kadanoff.style.figures import DASHES, colour, figure, house_style

    names = [n for n in NAMES if any(line.observable == n for line in comparison.lines)]
    with house_style():
        fig, (left, right) = figure(1, 2, width=9.0, height=3.8)
        for index, name in enumerate(names):
            # side by side, so that error bars do not hide one another
            shift = 0.6 * ((index + 0.5) / len(names) - 0.5)
            lines = [line for line in comparison.lines if line.observable == name]
            _ratios(left, lines, name, shift, index)
            _scores(right, lines, shift, index)
        left.axhline(1.0, color=colour("ink"), linewidth=0.8)
        left.set(xlabel="layer", ylabel="measured / predicted", title="Largest component")
        low, high = left.get_ylim()
        left.set_ylim(max(low, 0.0), min(high, 2.0))
        for side in (-comparison.level, comparison.level):
            right.axhline(side, color=colour("ink"), linewidth=0.8, linestyle=DASHES[1])
        right.axhline(0.0, color=colour("ink"), linewidth=0.8)
        right.set(xlabel="layer", ylabel="z", title="All components")
        for axis in (left, right):
            _whole_layers(axis)
        fig.legend(loc="outside lower center", ncols=min(len(names), 9))
    return fig


def _ratios(axis: Axes, lines: list[Line], name: str, shift: float, index: int) -> None:
    """Measured over predicted, of the component that is predicted largest at each layer."""
    from kadanoff.style.figures import points

    largest: dict[int, Line] = {}
    for line in lines:
        known = largest.get(line.layer)
        if line.predicted and (known is None or abs(line.predicted) > abs(known.predicted)):
            largest[line.layer] = line
    best = [largest[layer] for layer in sorted(largest)]
    points(
        axis,
        [line.layer + shift for line in best],
        [line.measured / line.predicted for line in best],
        [line.stderr / abs(line.predicted) for line in best],
        label=name,
        index=index,
    )


def _scores(axis: Axes, lines: list[Line], shift: float, index: int) -> None:
    from kadanoff.style.figures import MARKERS, SERIES

    axis.plot(
        [line.layer + shift for line in lines],
        [line.z for line in lines],
        linestyle="none",
        marker=MARKERS[index % len(MARKERS)],
        color=SERIES[index % len(SERIES)],
        markersize=4,
    )


def scaling_figure(scaling: Scaling, flow: Flow | None = None) -> Figure:
    """Relative variance of the metric (and NTK): against 1/n at the last layer, against depth."""
    from kadanoff.style.figures import figure, house_style

    if not any(name in scaling.limit for name, _, _ in _SHOWN):
        raise UsageError("The scaling plot shows V and A; neither was measured.")
    with house_style():
        fig, (left, right) = figure(1, 2, width=9.0, height=3.8)
        _against_width(left, scaling, flow)
        _against_depth(right, scaling, flow)
    return fig


def _against_width(axis: Axes, scaling: Scaling, flow: Flow | None) -> None:
    from kadanoff.style.figures import DASHES, SERIES, points

    shown = [entry for entry in _SHOWN if entry[0] in scaling.limit]
    for index, (name, base, label) in enumerate(shown):
        inverse_widths, values, errors = [], [], []
        for ensemble in scaling.ensembles:
            n = ensemble.network.n[-2]
            found = ensemble.values[name]
            scale = n * _last(_base(ensemble, flow, base)) ** 2
            inverse_widths.append(1 / n)
            values.append(_last(found.value) / scale)
            errors.append(_last(found.stderr) / scale)
        points(axis, inverse_widths, values, errors, label=f"{label}, measured", index=index)
        predicted = getattr(flow, name, None)
        if flow is not None and predicted is not None:
            slope = _last(predicted) / _last(getattr(flow, base)) ** 2
            axis.plot(
                [0, max(inverse_widths)],
                [0, slope * max(inverse_widths)],
                color=SERIES[index],
                linestyle=DASHES[index],
                label=f"{label.split(':')[0]}, leading order in 1/n",
            )
    axis.set(xlabel="1 / n", ylabel="relative variance", title="Width, at the last layer")
    axis.set_xlim(left=0)
    axis.set_ylim(bottom=0)
    axis.legend()


def _against_depth(axis: Axes, scaling: Scaling, flow: Flow | None) -> None:
    from kadanoff.style.figures import points

    for index, ensemble in enumerate(scaling.ensembles):
        name, base = ("V", "K") if "V" in ensemble.values else ("A", "Theta")
        found, scale = ensemble.values[name], _first(_base(ensemble, flow, base)) ** 2
        points(
            axis,
            list(range(1, len(scale) + 1)),
            (_first(found.value) / scale).tolist(),
            (_first(found.stderr) / scale).tolist(),
            label=f"n = {ensemble.network.n[1]}",
            index=index,
        )
    if "V" in scaling.limit:
        limit, scale = scaling.limit["V"], _first(_base(scaling.ensembles[-1], flow, "K")) ** 2
        points(
            axis,
            list(range(1, len(scale) + 1)),
            (_first(limit.value) / scale).tolist(),
            (_first(limit.stderr) / scale).tolist(),
            label="n → ∞, extrapolated",
            index=len(scaling.ensembles),
        )
    if flow is not None and flow.V is not None:
        ratio = _first(flow.V) / _first(flow.K) ** 2
        layers = range(1, len(ratio) + 1)
        axis.plot(layers, ratio, color="black", label="n → ∞, predicted")
    axis.set(xlabel="layer", ylabel="V / K²", title="Depth")
    _whole_layers(axis)
    axis.legend()


def _whole_layers(axis: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))


def _first(value: Tensor) -> Tensor:
    """The component of the first input, by layer."""
    return value.flatten(1)[:, 0]


def _last(value: Tensor) -> float:
    """The component of the first input at the last layer."""
    return float(value[-1].flatten()[0])


def _base(ensemble: Ensemble, flow: Flow | None, name: str) -> Tensor:
    found = getattr(flow, name, None)
    return found if found is not None else ensemble.values[name].value

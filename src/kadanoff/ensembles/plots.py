"""Figures of comparisons and scalings."""

from __future__ import annotations

from typing import Any

import torch

from kadanoff.ensembles.statistics import NAMES
from kadanoff.errors import UsageError

__all__ = ["comparison_figure", "scaling_figure"]


def comparison_figure(comparison: Any) -> Any:
    """Left: measured over predicted of the largest component. Right: all z-scores by layer."""
    from kadanoff.style.figures import DASHES, MARKERS, SERIES, colour, figure, house_style, points

    names = [n for n in NAMES if any(line.observable == n for line in comparison.lines)]
    with house_style():
        fig, (left, right) = figure(1, 2, width=9.0, height=3.8)
        for i, name in enumerate(names):
            lines = [x for x in comparison.lines if x.observable == name and x.predicted]
            layers = sorted({x.layer for x in lines})
            best = [max((x for x in lines if x.layer == l), key=lambda x: abs(x.predicted))
                    for l in layers]  # fmt: skip
            # side by side, so that error bars do not hide one another
            shift = 0.6 * ((i + 0.5) / len(names) - 0.5)
            points(
                left, [x.layer + shift for x in best], [x.measured / x.predicted for x in best],
                [x.stderr / abs(x.predicted) for x in best], label=name, index=i,
            )  # fmt: skip
            every = [x for x in comparison.lines if x.observable == name]
            right.plot(
                [x.layer + shift for x in every], [x.z for x in every], linestyle="none",
                marker=MARKERS[i % len(MARKERS)], color=SERIES[i % len(SERIES)], markersize=4,
            )  # fmt: skip
        left.axhline(1.0, color=colour("ink"), linewidth=0.8)
        left.set(xlabel="layer", ylabel="measured / predicted", title="Largest component")
        low, high = left.get_ylim()
        left.set_ylim(max(low, 0.0), min(high, 2.0))
        for side in (-comparison.level, comparison.level):
            right.axhline(side, color=colour("ink"), linewidth=0.8, linestyle=DASHES[1])
        right.axhline(0.0, color=colour("ink"), linewidth=0.8)
        right.set(xlabel="layer", ylabel="z", title="All components")
        for axis in (left, right):
            axis.xaxis.get_major_locator().set_params(integer=True)
        fig.legend(loc="outside lower center", ncols=min(len(names), 9))
    return fig


def scaling_figure(scaling: Any, flow: Any = None) -> Any:
    """Relative variance of the metric (and NTK): against 1/n at the last layer, against depth."""
    from kadanoff.style.figures import DASHES, SERIES, figure, house_style, points

    shown = [
        (name, base, label)
        for name, base, label in (
            ("V", "K", "metric: V / n K²"), ("A", "Theta", "NTK: A / n Θ²"),
        )
        if name in scaling.limit
    ]  # fmt: skip
    if not shown:
        raise UsageError("The scaling plot shows V and A; neither was measured.")
    with house_style():
        fig, axes = figure(1, 2, width=9.0, height=3.8)
        left, right = axes
        for i, (name, base, label) in enumerate(shown):
            x, y, s = [], [], []
            for ens in scaling.ensembles:
                n = ens.arch.n[-2]
                value, error = (t[-1].flatten()[0] for t in _pair(ens.values[name]))
                scale = n * float(_base(ens, flow, base)[-1].flatten()[0]) ** 2
                x.append(1 / n)
                y.append(float(value) / scale)
                s.append(float(error) / scale)
            points(left, x, y, s, label=f"{label}, measured", index=i)
            if flow is not None and getattr(flow, name, None) is not None:
                slope = float(getattr(flow, name)[-1].flatten()[0])
                slope /= float(getattr(flow, base)[-1].flatten()[0]) ** 2
                left.plot(
                    [0, max(x)], [0, slope * max(x)], color=SERIES[i], linestyle=DASHES[i],
                    label=f"{label.split(':')[0]}, leading order in 1/n",
                )  # fmt: skip
        left.set(xlabel="1 / n", ylabel="relative variance", title="Width, at the last layer")
        left.set_xlim(left=0)
        left.set_ylim(bottom=0)
        left.legend()
        for i, ens in enumerate(scaling.ensembles):
            value, error = _pair(ens.values["V"] if "V" in ens.values else ens.values["A"])
            base = _base(ens, flow, "K" if "V" in ens.values else "Theta").flatten(1)[:, 0] ** 2
            layers = range(1, len(value) + 1)
            points(
                right, list(layers), (value.flatten(1)[:, 0] / base).tolist(),
                (error.flatten(1)[:, 0] / base).tolist(), label=f"n = {ens.arch.n[1]}", index=i,
            )  # fmt: skip
        if "V" in scaling.limit:
            value, error = _pair(scaling.limit["V"])
            base = _base(scaling.ensembles[-1], flow, "K").flatten(1)[:, 0] ** 2
            points(
                right, list(range(1, len(value) + 1)), (value.flatten(1)[:, 0] / base).tolist(),
                (error.flatten(1)[:, 0] / base).tolist(), label="n → ∞, extrapolated",
                index=len(scaling.ensembles),
            )  # fmt: skip
        if flow is not None and flow.V is not None:
            base = flow.K.flatten(1)[:, 0] ** 2
            right.plot(
                range(1, len(base) + 1), flow.V.flatten(1)[:, 0] / base, color="black",
                label="n → ∞, predicted",
            )  # fmt: skip
        right.set(xlabel="layer", ylabel="V / K²", title="Depth")
        right.xaxis.get_major_locator().set_params(integer=True)
        right.legend()
    return fig


def _pair(m: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return m.value, m.stderr


def _base(ens: Any, flow: Any, name: str) -> torch.Tensor:
    found = getattr(flow, name, None)
    return found if found is not None else ens.values[name].value

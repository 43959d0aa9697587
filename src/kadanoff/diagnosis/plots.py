"""The plots of a diagnosis: each a quantity by layer, with a plain explanation under it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kadanoff.style.figures import colour, figure, house_style, points, to_svg
from kadanoff.style.html import Raw, figure_block
from kadanoff.style.numbers import percent, short

if TYPE_CHECKING:
    from kadanoff.diagnosis.result import Diagnosis, Estimate, LayerReport

__all__ = ["diagnosis_plots"]


@dataclass(frozen=True)
class _Plot:
    """What one plot shows: fields of a layer, in words."""

    heading: str
    fields: tuple[tuple[str, str], ...]  # (field, label)
    axis: str
    explanation: str
    scale: str = "auto"  # "auto" takes logarithms where a decade or more is spanned
    healthy: float | None = None  # the value of a healthy net, drawn dashed
    healthy_label: str = ""


_PLOTS = (
    _Plot(
        "Magnitude of the signal",
        (("second_moment", "measured"),),
        "z² (preactivation, mean square)",
        "How large the numbers inside the net are. Level is healthy: each layer hands on what it "
        "received. A straight fall on this axis means that each layer loses the same share, and a "
        "rise that the signal blows up.",
    ),
    _Plot(
        "Correlation of two inputs",
        (("correlation", "measured"),),
        "cosine of a pair of inputs",
        "Whether the net still tells two inputs apart. At 1 all inputs look the same to the layer "
        "(they have collapsed); a fall to 0 means that even similar inputs have flown apart. The "
        "line of a healthy net moves slowly.",
        scale="linear",
    ),
    _Plot(
        "Growth of a small difference per layer",
        (("jacobian", "measured"),),
        "χ⊥ (squared Jacobian, layer to layer)",
        "By how much the square of a small difference, or of a gradient on its way back, is "
        "multiplied from one layer to the next. At 1 both survive any depth. Below 1 they die out, "
        "above 1 they explode, layer upon layer.",
        healthy=1.0,
        healthy_label="critical: 1",
    ),
    _Plot(
        "Gradient by layer",
        (("gradient", "measured"),),
        "gradient of the loss per weight",
        "How strongly each layer's weights are pushed by the loss (root mean square per entry). If "
        "early layers get a millionth of what late layers get, only the late layers learn.",
        scale="log",
    ),
    _Plot(
        "Weight gain",
        (("weight_gain", "measured"),),
        "$C_W$ = n · Var(W)",
        "The strength of each layer's random weights, made independent of its width. Where theory "
        "knows the value at which a signal neither dies nor explodes, it is drawn as a line.",
    ),
    _Plot(
        "Sparsity and saturation",
        (
            ("zeros", "exact zeros"),
            ("dead", "dead units"),
            ("saturated", "saturated"),
            ("near_zeros", "near zeros"),
        ),
        "share of activations",
        "Exact zeros are work that could be skipped (half of them are normal for ReLU); near zeros "
        "are below a hundredth of the layer's rms. Dead units give nothing for any input of the "
        "batch; saturated ones sit where the activation is flat and pass no gradient.",
        scale="share",
    ),
    _Plot(
        "Heavy tails across neurons",
        (("kurtosis", "measured"),),
        "excess kurtosis",
        "How far the neurons of a layer are from a Gaussian. Zero at infinite width; in a finite "
        "net it grows with depth over width, and large values mean that one draw of the weights "
        "may behave quite unlike the next.",
        scale="linear",
        healthy=0.0,
        healthy_label="Gaussian: 0",
    ),
)

_SIDE = ("attention", "gate", "shortcut", "embedding")


def diagnosis_plots(diagnosis: Diagnosis) -> list[Raw]:
    """Draw every plot that has at least two points; each as a figure with its explanation."""
    blocks = []
    for plot in _PLOTS:
        fields = [(f, label) for f, label in plot.fields if _xy(diagnosis.layers, f)[0]]
        if not fields or max(len(_xy(diagnosis.layers, f)[0]) for f, _ in fields) < 2:
            continue
        said = _reading(diagnosis, plot, fields)
        svg = _draw(diagnosis, plot, fields, said)
        blocks.append(figure_block(svg, f"{plot.explanation} {said}", plot.heading))
    return blocks


def _xy(layers: Sequence[LayerReport], field: str) -> tuple[list[int], list[Estimate]]:
    pairs = [(layer.index, getattr(layer, field)) for layer in layers]
    kept = [(i, e) for i, e in pairs if e is not None and math.isfinite(e.value)]
    return [i for i, _ in kept], [e for _, e in kept]


def _draw(d: Diagnosis, plot: _Plot, fields: Sequence[tuple[str, str]], said: str) -> str:
    with house_style():
        fig, ax = figure(width=5.6, height=3.1)
        drawn: list[float] = []
        for index, (field, label) in enumerate(fields):
            drawn += _measured(ax, d, field, label, index)
        drawn += _predicted(ax, d, plot)
        if plot.scale == "share":
            top = min(1.03, max(0.05, 1.15 * max(drawn)))
            ax.set_ylim(-0.03 * top, top)
            ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
        elif _logarithmic(plot, drawn):
            ax.set_yscale("log")
            ax.yaxis.set_minor_formatter("")  # between the decades there is no room for words
        elif plot.heading.startswith("Correlation"):
            ax.set_ylim(min(-0.05, min(drawn) - 0.05), 1.05)
        _level(ax, plot, drawn)
        ax.set_xlabel("layer")
        ax.set_ylabel(plot.axis)
        ax.xaxis.get_major_locator().set_params(integer=True)
        _, labels = ax.get_legend_handles_labels()
        if labels:
            ax.legend(loc="best")
        return to_svg(fig, plot.heading, said)


def _measured(ax: Any, d: Diagnosis, field: str, label: str, index: int) -> list[float]:
    main, side = _split(d, field)
    values: list[float] = []
    x, estimates = _xy(main, field)
    if x:
        points(ax, x, [e.value for e in estimates], _errors(estimates), label=label, index=index)
        values += [e.value for e in estimates]
    x, estimates = _xy(side, field)
    if x:
        points(
            ax,
            x,
            [e.value for e in estimates],
            _errors(estimates),
            index=index,
            label=f"{label}, inside branches",
            markerfacecolor="none",
            alpha=0.6,
        )
        values += [e.value for e in estimates]
    return values


def _split(d: Diagnosis, field: str) -> tuple[list[LayerReport], list[LayerReport]]:
    """Layers that carry the whole signal, and those on branches beside it."""
    layers = [r for r in d.layers if field != "weight_gain" or r.role != "embedding"]
    side = [r for r in layers if r.role in _SIDE or (r.residual and r.role != "stream")]
    if len(side) == len(layers):
        return layers, []
    return [r for r in layers if r not in side], side


def _errors(estimates: Sequence[Estimate]) -> list[float]:
    return [e.stderr if math.isfinite(e.stderr) else 0.0 for e in estimates]


def _critical_gains(ax: Any, d: Diagnosis) -> list[float]:
    known = [(layer.index, layer.critical_gain) for layer in d.layers]
    pairs = [(i, c) for i, c in known if c is not None]
    if pairs:
        marker = "_" if len(pairs) < 3 else ""
        ax.plot(*zip(*pairs), color=colour("theory"), label="critical", marker=marker)
    return [c for _, c in pairs]


def _predicted(ax: Any, d: Diagnosis, plot: _Plot) -> list[float]:
    rust = colour("theory")
    if plot.fields[0][0] == "weight_gain":
        return _critical_gains(ax, d)
    x, estimates = _xy(d.layers, plot.fields[0][0])
    pairs = [(i, e) for i, e in zip(x, estimates) if e.predicted is not None]
    if not pairs:
        return []
    x = [i for i, _ in pairs]
    mean = [float(e.predicted or 0.0) for _, e in pairs]
    ax.plot(x, mean, color=rust, label="theory", zorder=1.5)
    if any(e.spread for _, e in pairs):
        spread = [float(e.spread or 0.0) for _, e in pairs]
        low = [m - s for m, s in zip(mean, spread)]
        if all(m > 0 for m in mean):  # keep the band visible on a logarithmic axis
            low = [max(value, 0.02 * m) for value, m in zip(low, mean)]
        high = [m + s for m, s in zip(mean, spread)]
        ax.fill_between(x, low, high, color=rust, alpha=0.18, lw=0, label="one net to the next")
    return mean


def _level(ax: Any, plot: _Plot, drawn: Sequence[float]) -> None:
    if plot.healthy is not None:
        ax.axhline(
            plot.healthy, color=colour("critical"), lw=1.2, ls=(0, (5, 3)), label=plot.healthy_label
        )


def _logarithmic(plot: _Plot, values: Sequence[float]) -> bool:
    positive = [v for v in values if v > 0]
    if plot.scale == "linear" or not positive or len(positive) < len(values):
        return False
    return plot.scale == "log" or max(positive) / min(positive) > 10


def _reading(d: Diagnosis, plot: _Plot, fields: Sequence[tuple[str, str]]) -> str:
    """The numbers of this very net, in a sentence."""
    if plot.scale == "share":
        parts = []
        for field, label in fields:
            _, estimates = _xy(d.layers, field)
            worst = max(e.value for e in estimates)
            parts.append(f"{label} reach {percent(worst)}")
        return "Here " + ", ".join(parts) + "."
    x, estimates = _xy(_split(d, fields[0][0])[0], fields[0][0])
    if len(x) < 2:
        x, estimates = _xy(d.layers, fields[0][0])
    first, last = estimates[0].value, estimates[-1].value
    text = f"Here it goes from {short(first)} at layer {x[0]} to {short(last)} at layer {x[-1]}."
    pulls = [abs(e.z) for e in estimates if e.z is not None and math.isfinite(e.z)]
    if pulls:
        text += f" The largest distance from theory is {max(pulls):.1f} standard deviations."
    return text

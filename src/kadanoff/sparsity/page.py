"""The HTML report of ``kadanoff sparsity``."""

from __future__ import annotations

from kadanoff.sparsity.profiles import LayerProfile, Profile
from kadanoff.sparsity.report import SparsityReport
from kadanoff.sparsity.speed import Acceleration
from kadanoff.sparsity.theory import DriftMeasurement
from kadanoff.sparsity.traffic import BytesReport
from kadanoff.style.figures import DASHES, MARKERS, SERIES, figure, house_style, to_svg
from kadanoff.style.html import Raw, Section, callout, cards, figure_block, grid, page, table
from kadanoff.style.json import versions
from kadanoff.style.numbers import data_size, percent, uncertain

__all__ = ["sparsity_html"]

# heads of the table of all layers, and what each means
_LAYERS = {
    "layer": "module that owns the neurons",
    "kind": "found by data flow",
    "width": "",
    "threshold": "magnitude that counts",
    "active": "mean over tokens",
    "random": "what fresh weights of the same size would activate (theory)",
    "95% of tokens": "that fraction or less",
    "never": "neurons that never fire",
    "always": "neurons that always fire",
    "overlap": "of a token's active set, shared by its neighbour",
    "union of 8": "active for any of 8 tokens",
}


def sparsity_html(report: SparsityReport, target: str, data: str) -> str:
    """The whole page: what fires, what could be skipped, what drives it, how fast it ran.

    Parameters
    ----------
    report : SparsityReport
    target, data : str
        What was analysed, and on what: for the heading.
    """
    found = report.profile
    sections = [
        Section("At a glance", cards(_cards(found, report.bytes))),
        Section("Layer by layer", grid(_plots(found, report.checkpoints))),
        Section("All layers", _table(found)),
    ]
    if report.bytes is not None:
        sections.append(Section("What could be skipped", _bytes(report.bytes)))
    if report.drift:
        sections.append(Section("What drives it", _drift(report.drift)))
    if report.acceleration is not None:
        sections.append(Section("Measured speed", _speed(report.acceleration)))
    words = "Exact zeros are counted."
    if not all(layer.exact for layer in found.layers):
        words = (
            "Smooth activations count from the magnitude that keeps "
            f"{percent(found.error)} output error."
        )
    verdict = callout(
        "info", f"{percent(found.active)} of the hidden neurons are active.", words, label="Result"
    )
    return page(
        f"Activation sparsity of {target}",
        sections,
        subtitle=f"{found.tokens} tokens of {data}",
        verdict=verdict,
        footer=", ".join(f"{name} {value}" for name, value in versions().items()),
    )


def _cards(found: Profile, report: BytesReport | None) -> list[tuple[str, object, str]]:
    sparsest = min(found.layers, key=lambda layer: layer.active)
    items: list[tuple[str, object, str]] = [
        ("active", percent(found.active), "mean over layers"),
        ("sparsest layer", percent(sparsest.active), sparsest.name),
    ]
    if report is not None:
        items += [
            ("best speed-up", f"{report.model_limit:.2f}×", "decoding, bound by memory"),
            ("memory bandwidth", f"{data_size(report.bandwidth)}/s", "measured here"),
            ("MLP share", percent(report.mlp_share), "of the bytes read per token"),
        ]
    return items


def _plots(found: Profile, history: list[Profile]) -> list[Raw]:
    layers = found.layers
    few = list(layers)
    if len(few) > 6:
        few = [layers[0], layers[len(layers) // 2], layers[-1]]
    with house_style():
        return [_by_depth(found, history), _frequencies(few), _unions(few)]


def _by_depth(found: Profile, history: list[Profile]) -> Raw:
    depth = list(range(1, len(found.layers) + 1))
    fig, ax = figure()
    rows = [
        *((row.label, row) for row in history),
        ("now" if history else "mean over tokens", found),
    ]
    for index, (label, row) in enumerate(rows):
        # what is measured now keeps its colour, whatever came before
        index = 0 if row is found else index + 1
        ax.plot(
            depth,
            [100 * layer.active for layer in row.layers],
            marker=MARKERS[index % 8],
            color=SERIES[index % 8],
            linestyle=DASHES[index % 6],
            label=label,
        )
    low = [100 * layer.token_quantiles[0.05] for layer in found.layers]
    high = [100 * layer.token_quantiles[0.95] for layer in found.layers]
    ax.fill_between(
        depth, low, high, color=SERIES[0], alpha=0.15, linewidth=0, label="5 to 95% of tokens"
    )
    theory = [
        (at, 100 * layer.expected)
        for at, layer in zip(depth, found.layers)
        if layer.expected is not None
    ]
    if theory:
        ax.plot(
            *zip(*theory),
            color=SERIES[1],
            linestyle=DASHES[1],
            marker=MARKERS[1],
            fillstyle="none",
            label="random weights (theory)",
        )
    ax.set_xlabel("hidden layer")
    ax.set_ylabel("active neurons (%)")
    ax.set_ylim(0, 105)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend()
    svg = to_svg(fig, "Active fraction by depth", "Percentage of active neurons per layer.")
    return figure_block(svg, "How much fires, by depth.", "Active fraction")


def _frequencies(layers: list[LayerProfile]) -> Raw:
    fig, ax = figure()
    for index, layer in enumerate(layers):
        ordered = layer.frequency.sort(descending=True).values.numpy()
        share = [100 * (i + 0.5) / len(ordered) for i in range(len(ordered))]
        ax.plot(
            share,
            100 * ordered,
            color=SERIES[index % 8],
            linestyle=DASHES[index % 6],
            label=layer.name[-24:],
        )
    ax.set_xlabel("neurons, busiest first (%)")
    ax.set_ylabel("tokens on which it fires (%)")
    ax.set_ylim(-2, 105)
    ax.legend()
    svg = to_svg(fig, "Neuron frequencies", "How often each neuron fires, sorted.")
    caption = "Dead neurons lie on the right at zero; sparsity that is not death falls slowly."
    return figure_block(svg, caption, "How often each neuron fires")


def _unions(layers: list[LayerProfile]) -> Raw:
    fig, ax = figure()
    for index, layer in enumerate(layers):
        ax.plot(
            list(layer.union),
            [100 * share for share in layer.union.values()],
            marker=MARKERS[index % 8],
            color=SERIES[index % 8],
            linestyle=DASHES[index % 6],
            label=layer.name[-24:],
        )
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.set_xlabel("tokens in a batch")
    ax.set_ylabel("active for any of them (%)")
    ax.set_ylim(0, 105)
    ax.legend()
    svg = to_svg(fig, "Union of active sets", "Active fraction of a batch against its size.")
    caption = "What a batched kernel must read: the union of its tokens' active sets."
    return figure_block(svg, caption, "Union in a batch")


def _table(found: Profile) -> Raw:
    rows = [
        [
            layer.name,
            layer.kind,
            layer.width,
            "exact" if layer.exact else f"{layer.threshold:.3g}",
            f"{uncertain(100 * layer.active, 100 * layer.active_stderr)}%",
            percent(layer.expected),
            percent(layer.token_quantiles[0.95]),
            percent(layer.never),
            percent(layer.always),
            percent(layer.overlap),
            percent(layer.union.get(8)),
        ]
        for layer in found.layers
    ]
    caption = "Every hidden layer, input to output."
    return table(list(_LAYERS), rows, caption, explain=list(_LAYERS.values()))


def _bytes(report: BytesReport) -> Raw:
    rows = [
        [
            block.name,
            data_size(block.bytes),
            data_size(block.skippable_bytes),
            f"{block.flops:.3g}",
            f"{block.skippable_flops:.3g}",
            f"{block.limit:.2f}×",
            f"{block.union_limit[8]:.2f}×" if 8 in block.union_limit else "",
        ]
        for block in report.blocks
    ]
    head = ["block", "bytes", "skippable", "FLOPs", "skippable", "limit", "limit, batch 8"]
    caption = "Per token. The limit is the speed-up if reading weights were all that takes time."
    return table(head, rows, caption)


def _drift(rows: list[DriftMeasurement]) -> Raw:
    cells = [
        [
            row.name,
            f"{row.slope:.3g} ± {row.stderr:.2g}",
            "" if row.predicted is None else f"{row.predicted:.3g}",
        ]
        for row in rows
    ]
    caption = (
        "Mean pull of the loss gradient on active neurons, per unit of activation and token; "
        "positive values push neurons off. The closed form holds at initialisation for the "
        "block that the readout reads."
    )
    return table(["block", "slope", "closed form"], cells, caption)


def _speed(report: Acceleration) -> Raw:
    rows = [
        [
            block.name,
            block.choice,
            block.scope,
            f"{1e6 * block.dense_seconds:.0f}",
            f"{1e6 * block.chosen_seconds:.0f}",
            f"{block.speedup:.2f}",
            block.reason,
        ]
        for block in report.blocks
    ]
    head = ["block", "runs on", "scope", "dense µs", "chosen µs", "speed-up", "reason"]
    caption = "One token through each block, timed on this machine; dense where it is faster."
    return table(head, rows, caption)

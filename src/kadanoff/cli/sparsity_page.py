"""The HTML report of ``kadanoff sparsity``."""

from __future__ import annotations

from typing import Any

from kadanoff.style.figures import DASHES, MARKERS, SERIES, figure, house_style, to_svg
from kadanoff.style.html import Raw, Section, callout, cards, figure_block, grid, page, table
from kadanoff.style.json import versions
from kadanoff.style.numbers import data_size, percent, uncertain

__all__ = ["sparsity_html"]


def sparsity_html(
    target: str, data: str, found: Any, report: Any, drifts: Any, choices: Any, history: list[Any]
) -> str:
    """The whole page."""
    exact = all(layer.exact for layer in found.layers)
    sections = [Section("At a glance", cards(_cards(found, report)))]
    sections.append(Section("Layer by layer", grid(_plots(found, history))))
    sections.append(Section("All layers", _table(found)))
    if report is not None:
        sections.append(Section("What could be skipped", _bytes(report)))
    if drifts:
        rows = [
            [d["name"], f"{d['slope']:.3g} ± {d['stderr']:.2g}",
             "" if d["predicted"] is None else f"{d['predicted']:.3g}"]
            for d in drifts
        ]  # fmt: skip
        caption = (
            "Mean pull of the loss gradient on active neurons, per unit of activation and token; "
            "positive values push neurons off. The closed form holds at initialisation for the "
            "block that the readout reads."
        )
        sections.append(
            Section("What drives it", table(["block", "slope", "closed form"], rows, caption))
        )
    if choices is not None:
        rows = [
            [c.name, c.choice, c.scope, f"{1e6 * c.dense_seconds:.0f}",
             f"{1e6 * c.chosen_seconds:.0f}", f"{c.speedup:.2f}", c.reason]
            for c in choices.blocks
        ]  # fmt: skip
        head = ["block", "runs on", "scope", "dense µs", "chosen µs", "speed-up", "reason"]
        caption = "One token through each block, timed on this machine; dense where it is faster."
        sections.append(Section("Measured speed", table(head, rows, caption)))
    words = (
        "Exact zeros are counted." if exact else
        "Smooth activations count from the magnitude that keeps "
        f"{percent(found.error)} output error."
    )  # fmt: skip
    verdict = callout(
        "info", f"{percent(found.active)} of the hidden neurons are active.", words, label="Result"
    )
    footer = ", ".join(f"{name} {value}" for name, value in versions().items())
    return page(
        f"Activation sparsity of {target}", sections,
        subtitle=f"{found.tokens} tokens of {data}", verdict=verdict, footer=footer,
    )  # fmt: skip


def _cards(found: Any, report: Any) -> list[tuple[str, object, str]]:
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


def _plots(found: Any, history: list[Any]) -> list[Raw]:
    layers = found.layers
    depth = list(range(1, len(layers) + 1))
    blocks = []
    with house_style():
        fig, ax = figure()
        for row in (*history, found) if history else (found,):
            label = row.label if row is not found else "now" if history else "mean over tokens"
            index = history.index(row) + 1 if row in history else 0
            ax.plot(depth, [100 * x.active for x in row.layers], marker=MARKERS[index % 8],
                    color=SERIES[index % 8], linestyle=DASHES[index % 6], label=label)  # fmt: skip
        low = [100 * layer.token_quantiles[0.05] for layer in layers]
        high = [100 * layer.token_quantiles[0.95] for layer in layers]
        ax.fill_between(depth, low, high, color=SERIES[0], alpha=0.15, linewidth=0,
                        label="5 to 95% of tokens")  # fmt: skip
        theory = [(i, 100 * x.expected) for i, x in zip(depth, layers) if x.expected is not None]
        if theory:
            ax.plot(*zip(*theory), color=SERIES[1], linestyle=DASHES[1], marker=MARKERS[1],
                    fillstyle="none", label="random weights (theory)")  # fmt: skip
        ax.set_xlabel("hidden layer")
        ax.set_ylabel("active neurons (%)")
        ax.set_ylim(0, 105)
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.legend()
        svg = to_svg(fig, "Active fraction by depth", "Percentage of active neurons per layer.")
        blocks.append(figure_block(svg, "How much fires, by depth.", "Active fraction"))
        fig, ax = figure()
        shown = layers if len(layers) <= 6 else [layers[0], layers[len(layers) // 2], layers[-1]]
        for index, layer in enumerate(shown):
            ordered = layer.frequency.sort(descending=True).values.numpy()
            share = [100 * (i + 0.5) / len(ordered) for i in range(len(ordered))]
            ax.plot(share, 100 * ordered, color=SERIES[index % 8], linestyle=DASHES[index % 6],
                    label=layer.name[-24:])  # fmt: skip
        ax.set_xlabel("neurons, busiest first (%)")
        ax.set_ylabel("tokens on which it fires (%)")
        ax.set_ylim(-2, 105)
        ax.legend()
        svg = to_svg(fig, "Neuron frequencies", "How often each neuron fires, sorted.")
        caption = "Dead neurons lie on the right at zero; sparsity that is not death falls slowly."
        blocks.append(figure_block(svg, caption, "How often each neuron fires"))
        fig, ax = figure()
        for index, layer in enumerate(shown):
            sizes = list(layer.union)
            ax.plot(sizes, [100 * layer.union[n] for n in sizes], marker=MARKERS[index % 8],
                    color=SERIES[index % 8], linestyle=DASHES[index % 6],
                    label=layer.name[-24:])  # fmt: skip
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        ax.set_xlabel("tokens in a batch")
        ax.set_ylabel("active for any of them (%)")
        ax.set_ylim(0, 105)
        ax.legend()
        svg = to_svg(fig, "Union of active sets", "Active fraction of a batch against its size.")
        caption = "What a batched kernel must read: the union of its tokens' active sets."
        blocks.append(figure_block(svg, caption, "Union in a batch"))
    return blocks


def _table(found: Any) -> Raw:
    rows = [
        [x.name, x.kind, x.width, "exact" if x.exact else f"{x.threshold:.3g}",
         f"{uncertain(100 * x.active, 100 * x.active_stderr)}%", percent(x.expected),
         percent(x.token_quantiles[0.95]),
         percent(x.never), percent(x.always), percent(x.overlap), percent(x.union.get(8))]
        for x in found.layers
    ]  # fmt: skip
    head = ["layer", "kind", "width", "threshold", "active", "random", "95% of tokens", "never",
            "always", "overlap", "union of 8"]  # fmt: skip
    hints = ["module that owns the neurons", "found by data flow", "", "magnitude that counts",
             "mean over tokens", "what fresh weights of the same size would activate (theory)",
             "that fraction or less", "neurons that never fire",
             "neurons that always fire", "of a token's active set, shared by its neighbour",
             "active for any of 8 tokens"]  # fmt: skip
    return table(head, rows, "Every hidden layer, input to output.", explain=hints)


def _bytes(report: Any) -> Raw:
    rows = [
        [b.name, data_size(b.bytes), data_size(b.skippable_bytes), f"{b.flops:.3g}",
         f"{b.skippable_flops:.3g}", f"{b.limit:.2f}×",
         f"{b.union_limit[8]:.2f}×" if 8 in b.union_limit else ""]
        for b in report.blocks
    ]  # fmt: skip
    head = ["block", "bytes", "skippable", "FLOPs", "skippable", "limit", "limit, batch 8"]
    caption = "Per token. The limit is the speed-up if reading weights were all that takes time."
    return table(head, rows, caption)

"""A diagnosis as one HTML file that opens offline."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from kadanoff.diagnosis.block_figures import block_plots
from kadanoff.diagnosis.block_table import block_columns
from kadanoff.diagnosis.blocks import BlockRows, blocks_of
from kadanoff.diagnosis.plots import diagnosis_plots
from kadanoff.diagnosis.terminal import SHOWN_TIMES, span, steps_shown
from kadanoff.style.html import Raw, Section, callout, cards, details, grid, page, table, text
from kadanoff.style.numbers import percent, short, uncertain

if TYPE_CHECKING:
    from kadanoff.diagnosis.result import Diagnosis, Estimate, Finding, LayerReport, TimeReport

__all__ = ["diagnosis_html", "diagnosis_sections"]


def diagnosis_html(diagnosis: Diagnosis, *, title: str = "") -> str:
    """Return the whole page; see :func:`kadanoff.style.html.page` for its shell."""
    d = diagnosis
    verdict = callout(
        "good" if d.healthy else "bad",
        d.verdict[:1].upper() + d.verdict[1:],
        label="Predicted" if d.meta.get("predicted") else "Healthy" if d.healthy else "Not healthy",
    )
    return page(
        title or f"Diagnosis of {d.model}",
        list(diagnosis_sections(d)),
        subtitle=d.description,
        verdict=verdict,
        footer=_footer(d),
    )


def diagnosis_sections(d: Diagnosis) -> Iterator[Section]:
    """The parts of the page, for reports that hold more than one diagnosis."""
    yield Section("At a glance", cards(_cards(d)))
    real = [f for f in d.findings if f.severity != "note"]
    if real:
        boxes = [_finding(f, i) for i, f in enumerate(real, start=1)]
        yield Section("Findings, causes first", Raw("".join(boxes)))
    blocks = blocks_of(d.layers, d.sums)
    drawn = diagnosis_plots(d)
    if blocks:
        yield Section("Block by block", Raw(_block_table(blocks) + grid(block_plots(blocks))))
        physics = [text(d.physics)] if d.physics else []
        more = Raw("".join(f"<p>{p}</p>" for p in physics) + grid(drawn) + _layer_table(d))
        yield Section("The physics, call by call", details("Every call", more))
    else:
        if drawn:
            yield Section("Layer by layer", grid(drawn))
        yield Section("All layers", _layer_table(d))
    if d.times:
        yield Section("Step by step", Raw("".join(_time_table(t) for t in d.times[:SHOWN_TIMES])))
    if d.parameters:
        tables = details("Every parameter", _parameter_table(d)) if blocks else _parameter_table(d)
        yield Section("All parameters", tables)
    facts = [f for f in d.findings if f.severity == "note"]
    if d.notes or facts:
        notes = [callout("info", "", f.sentence, label=f.label) for f in facts]
        notes += [callout("info", "", note, label="Note") for note in d.notes]
        yield Section("Notes", Raw("".join(notes)))


def _finding(f: Finding, number: int) -> Raw:
    """One finding, with its page of the catalogue to unfold."""
    body = span(f.layers).capitalize() if f.layers else ""
    if f.because_of:
        body = f"{body + '. ' if body else ''}A consequence of: {', '.join(f.because_of)}."
    elif f.cause:
        body = f"{body + '. ' if body else ''}{f.cause}"
    box = callout(
        "bad" if f.severity == "critical" else "warn",
        f.sentence[:1].upper() + f.sentence[1:],
        body,
        "" if f.because_of else f.remedy,
        label=f"{number}. {f.severity}",
    )
    if not f.about:
        return box
    more = "".join(f"<p>{text(line)}</p>" for line in f.about.splitlines() if line)
    return Raw(f"{box}<details><summary>{text(f.label)}</summary>{more}</details>")


def _cards(d: Diagnosis) -> list[tuple[str, object, str]]:
    items: list[tuple[str, object, str]] = [
        ("Parameters", f"{d.n_parameters:,}", d.model),
        ("Depth", d.depth, "linear layers on the main chain"),
        ("Samples", d.n_samples, "in the batch"),
    ]
    if d.aspect is not None:
        note = "finite-width effects are of this size"
        items.append(("Depth over width", short(d.aspect, 2), note))
    if d.input_second_moment is not None:
        e = d.input_second_moment
        items.append(("Input x²", uncertain(e.value, e.stderr), "mean square of the features"))
    if d.input_correlation is not None:
        e = d.input_correlation
        items.append(("Input correlation", uncertain(e.value, e.stderr), "cosine of two inputs"))
    if d.loss is not None:
        stand_in = " (a stand-in: there is no loss and no target)" if d.loss_stands_in else ""
        items.append(("Loss", short(d.loss), d.loss_name + stand_in))
    if d.trial is not None and d.trial.losses:
        end = short(d.trial.losses[-1]) if d.trial.finite else "infinity"
        note = f"loss after {d.trial.steps} steps on a copy, {d.trial.recipe}"
        items.append(("Trial", end, note))
    return items


def _number(estimate: Estimate | None) -> str:
    return "" if estimate is None else uncertain(estimate.value, estimate.stderr)


def _share(estimate: Estimate | None) -> str:
    return "" if estimate is None else percent(estimate.value)


def _predicted(estimate: Estimate | None) -> str:
    if estimate is None or estimate.predicted is None:
        return ""
    return uncertain(estimate.predicted, estimate.spread)


def _pull(estimate: Estimate | None) -> str:
    return "" if estimate is None or estimate.z is None else f"{estimate.z:+.1f}"


_COLUMNS: tuple[tuple[str, str, Callable[[LayerReport], object]], ...] = (
    ("operation", "kind of linear map", lambda r: r.op),
    ("role", "place in the net", lambda r: r.role + (" (residual)" if r.residual else "")),
    ("in × out", "fan-in and fan-out", lambda r: f"{r.fan_in} × {r.fan_out}"),
    ("activation", "applied to this layer's output", lambda r: r.activation or ""),
    ("z²", "mean square of the preactivations", lambda r: _number(r.second_moment)),
    ("theory", "predicted z² and its spread between nets", lambda r: _predicted(r.second_moment)),
    ("z-score", "distance in standard deviations", lambda r: _pull(r.second_moment)),
    ("mean", "mean of the preactivations", lambda r: _number(r.mean)),
    ("correlation", "mean cosine of two inputs", lambda r: _number(r.correlation)),
    ("theory", "predicted correlation", lambda r: _predicted(r.correlation)),
    ("kurtosis", "excess kurtosis across neurons", lambda r: _number(r.kurtosis)),
    ("theory", "predicted kurtosis", lambda r: _predicted(r.kurtosis)),
    ("χ⊥", "squared Jacobian norm to the next layer", lambda r: _number(r.jacobian)),
    ("theory", "predicted squared Jacobian norm", lambda r: _predicted(r.jacobian)),
    ("to output", "squared Jacobian norm to output", lambda r: _number(r.jacobian_to_output)),
    ("gradient", "of the loss, rms per weight", lambda r: _number(r.gradient)),
    ("gain", "n · Var(W)", lambda r: _number(r.weight_gain)),
    (
        "critical",
        "gain at criticality",
        lambda r: short(r.critical_gain) if r.critical_gain else "",
    ),
    ("dead", "units silent on the whole batch", lambda r: _share(r.dead)),
    ("saturated", "activations on a plateau", lambda r: _share(r.saturated)),
    ("zeros", "activations exactly zero", lambda r: _share(r.zeros)),
    ("near zeros", "below 1% of the layer's rms", lambda r: _share(r.near_zeros)),
)


def _block_table(blocks: BlockRows) -> Raw:
    columns = block_columns(blocks)
    rows = [[group.label, *(c.cell(group) for c in columns)] for group in blocks.groups]
    return table(
        ["block", *(c.name for c in columns)],
        rows,
        "A row a block, in the order of the forward pass. 1.02(3) means 1.02 ± 0.03.",
        explain=["name in the model", *(c.hint for c in columns)],
    )


def _layer_table(d: Diagnosis) -> Raw:
    used = [c for c in _COLUMNS if any(str(c[2](layer)) for layer in d.layers)]
    rows = [
        [f"{r.index}. {r.path or '(model)'}" + (f" (call {r.call_index + 1})" * bool(r.call_index))]
        + [str(cell(r)) for _, _, cell in used]
        for r in d.layers
    ]
    return table(
        ["layer", *(name for name, _, _ in used)],
        rows,
        "Every recorded linear map in the order of the forward pass. 1.02(3) means 1.02 ± 0.03.",
        explain=["name in the model", *(hint for _, hint, _ in used)],
    )


def _time_table(time: TimeReport) -> Raw:
    """A recurrence at up to twelve of its steps."""
    known = len(time.signal) == len(time.gradient)
    rows = [
        [str(i + 1), short(time.gradient[i]), short(time.signal[i]) if known else ""]
        for i in steps_shown(len(time.gradient), 12)
    ]
    return table(
        ["step", "gradient", "signal"],
        rows,
        f"{time.path or 'The model'} ({time.op}) along its {len(time.gradient)} steps: the "
        "gradient of the loss with respect to what each step reads, and the size of what it gives. "
        "Steps whose gradient is a millionth of the last one's teach nothing.",
        explain=["first step first", "root mean square", "root mean square"],
    )


def _parameter_table(d: Diagnosis) -> Raw:
    rows = [
        [
            p.name + (f" (= {', '.join(p.aliases)})" if p.aliases else ""),
            " × ".join(str(n) for n in p.shape) or "scalar",
            short(p.rms),
            short(p.gradient_norm),
            short(p.gradient_rms),
        ]
        for p in d.parameters
    ]
    return table(
        ["parameter", "shape", "rms value", "gradient norm", "gradient rms"],
        rows,
        "Every parameter, with the gradient of the loss on this batch.",
    )


def _footer(d: Diagnosis) -> str:
    known = [
        f"{key} {short(value) if isinstance(value, float) else value}"
        for key, value in d.meta.items()
    ]
    return "Made by kadanoff. " + ", ".join(known)

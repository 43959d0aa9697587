"""What the page says, in order: each section asks for its parts, decides, shows.

Both versions of the paper are studied here: "Large Models are Parsimonious Learners" is the first
title of "The Lazy Neuron Phenomenon". Every number is a mean over seeds with its standard error,
and directions are decided by Student's t, corrected for their number.
"""

from __future__ import annotations

from typing import Any

from kadanoff.studies.lab import Lab
from kadanoff.studies.lazy_neurons import decisions, figures, parts
from kadanoff.studies.lazy_neurons.decisions import Runs, mean_error

__all__ = ["run"]


def run(lab: Lab) -> None:
    """Run the study."""
    cells = parts.cells(lab.full)
    lab.plan(sum(seeds for _, seeds, _ in cells.values()) + 4 + len(parts.NOISE))
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in cells}
    # seed by seed, so that what a run has when it is stopped can be compared
    for seed in range(max(seeds for _, seeds, _ in cells.values())):
        for name, (train, seeds, settings) in cells.items():
            if seed < seeds:
                here = (train, settings, lab.seed + seed, lab.device)
                found[name].append(lab.part(f"{name} {seed}", parts.train_run, *here))
    _emergence(lab, found, cells["text"][2]["m"], cells["narrow"][2]["m"])
    _causes(lab, found)
    _theory(lab)
    _topk(lab, found, cells["Top-k text"][2], cells[parts.on_digits(0.0, True)][2])
    _speed(lab)


def _emergence(lab: Lab, found: Runs, wide: int, narrow: int) -> None:
    decisions.emergence(lab, found)
    decisions.width_and_depth(lab, found, wide, narrow)
    lab.say(
        "Sparsity emerges",
        f"""
        A causal pre-norm Transformer with ReLU MLP blocks learns to predict the characters of
        Python's own help texts. Before training every neuron fires for half of the tokens; with
        training the active fraction falls in every block, on text it has not seen as on text it
        has. The learning rate is constant after warm-up: with a rate that falls to zero the
        drift stops early. {len(found["text"])} seeds.""",
    )
    lab.figure(
        "emergence.svg",
        figures.emergence(found),
        "Active fraction over training, mean and standard error over seeds. Left: real "
        "text. Right: text, uniform random symbols that can only be memorised, and an "
        "endless Markov chain of which no sample comes twice.",
    )


def _causes(lab: Lab, found: Runs) -> None:
    decisions.causes(lab, found)
    rows = []
    for name, runs in found.items():
        if runs[0]["end"] > 0.2 or "Top" not in name:
            start, end = ([100 * r[key] for r in runs] for key in ("start", "end"))
            shown = [mean_error(v) for v in (start, end, decisions.minus(end, start))]
            rows.append([name, str(len(runs)), *(f"{m:.1f} ± {d:.1f}" for m, d in shown)])
    lab.say(
        "Not the data",
        """
        If sparsity were copied from the data it would not appear with labels drawn at random,
        with noise in place of images, with symbols that can only be memorised, or with a source
        that never repeats itself. Plain MLPs without norms, on digits and on Gaussian inputs, are
        kept as a negative control: if dynamics alone were enough, they would become sparse.
        """,
    )
    lab.table(
        "Active neurons (%)",
        ["run", "seeds", "start", "end", "change"],
        rows,
        "Mean over blocks; of the Gaussian MLPs the last layer.",
    )


def _theory(lab: Lab) -> None:
    found = {
        loss: lab.part(f"drift {loss}", parts.pull, loss, lab.seed)
        for loss in ("cross_entropy", "mse")
    }
    decisions.drift(lab, found)
    lab.say(
        "What starts it",
        r"""
        Averaged over a random readout $V$ with entries of variance $σ_v^2$, the gradient on an
        activation $p_i > 0$ of the last block is $σ_v^2 p_i (1 - E‖S‖^2)$ for cross-entropy, with
        $S$ the softmax of the outputs, and $K σ_v^2 p_i$ for half the squared error: positive,
        so that every step lowers it. The paper proves the sign, the closed form is ours.
        """,
    )
    rows = []
    for loss, (closed, slopes) in found.items():
        mean, error = mean_error(slopes)
        rows.append([loss.replace("_", "-"), f"{mean:.5f} ± {error:.5f}", f"{closed:.5f}"])
    lab.table("Slope of the mean gradient", ["loss", "drawn", "closed form"], rows)


def _topk(lab: Lab, found: Runs, text: dict[str, Any], digits: dict[str, Any]) -> None:
    decisions.top_k_on_text(lab, found, text, lab.part("counts", parts.symbol_entropy))
    seeds = len(found[parts.on_digits(0.0, True)])
    every = [lab.seed + k for k in range(seeds)]
    plain = {
        noise: lab.part(f"plain learners {noise}", parts.plain_learners, noise, every)
        for noise in parts.NOISE
    }
    decisions.top_k_against_dense(lab, found, plain)
    lab.say(
        "Top-k",
        f"""
        A Top-k Transformer keeps the $k$ largest activations of every MLP block and token, in
        training and after. Here the decoder keeps {text["k"]} of {text["m"]}; the ViT on
        digits {digits["k"]} of {digits["m"]}. The
        paper gives single runs; error bars here are over {seeds} seeds.""",
    )
    head = ["label noise", "always one class", "ridge", "15 neighbours", "dense ViT", "Top-k ViT"]
    rows = []
    for noise in parts.NOISE:
        shown = [plain[noise][name] for name in ("one class", "ridge", "15 neighbours")]
        shown += [[r["accuracy"] for r in found[parts.on_digits(noise, t)]] for t in (False, True)]
        numbers = [mean_error([100 * v for v in values]) for values in shown]
        rows.append([f"{noise:.0%}", *(f"{m:.1f} ± {e:.1f}" for m, e in numbers)])
    lab.table("Accuracy on digits (%), beside what needs no network", head, rows)
    curves: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    for noise in parts.NOISE:
        for top, curve in curves.items():
            runs = found[parts.on_digits(noise, top)]
            curve.append(mean_error([100 * r["accuracy"] for r in runs]))
    lab.figure(
        "label_noise.svg",
        figures.label_noise(curves),
        "Digits, small ViT: accuracy on true labels, trained on noisy ones.",
    )


def _speed(lab: Lab) -> None:
    size = lab.pick(quick=(256, 2048, 64, 32), full=(512, 4096, 128, 64))
    decisions.time_saved(lab, lab.part("decoding", parts.decode, *size, lab.seed), size)
    lab.say(
        "Time",
        """
        Only rows of the second matrix that meet a nonzero activation are read
        (`kadanoff.sparsity.accelerate`); the result is the same to rounding. Part of the gain
        over torch is torch's own matrix–vector product, which reads at half the bandwidth: the
        benchmark `sparsity` tells the two apart.""",
    )

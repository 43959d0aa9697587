"""Lazy neurons: trained Transformers fire few of their hidden units (Li et al., 2022).

Both versions of the paper are studied here: "Large Models are Parsimonious Learners" is the first
title of "The Lazy Neuron Phenomenon". Every number is a mean over seeds with its standard error,
and a direction is decided by Student's t at 97.5%.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from kadanoff.studies.lab import Lab

__all__ = ["run"]

_T = (math.inf, 12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306)
_NOISE = (0.0, 0.4, 0.8)

Numbers = list[float]


def _cells(full: bool) -> dict[str, tuple[str, int, dict[str, Any]]]:
    """Return name → (run in `kadanoff.studies.lazy_neurons.runs`, seeds, settings)."""
    text: dict[str, Any] = {"steps": 200, "every": 50, "batch": 8}
    vit: dict[str, Any] = {"steps": 150, "d": 32, "m": 128, "layers": 2, "batch": 32}
    gauss, wide, narrow, k, seeds, many = 600, 512, 128, 16, 3, 5
    if not full:
        text |= {"steps": 80, "every": 20, "d": 32, "batch": 8, "length": 32}
        vit |= {"steps": 25, "d": 16, "m": 64}
        gauss, wide, narrow, k, many = 150, 256, 64, 16, 3
    long = {"steps": 600} if full else {}
    cells: dict[str, tuple[str, int, dict[str, Any]]] = {
        "text": ("on_text", seeds, text | {"m": wide} | long),
        "narrow": ("on_text", seeds, text | {"m": narrow}),
        "shallow": ("on_text", seeds, text | {"m": wide, "layers": 1}),
        "Top-k text": ("on_text", seeds, text | {"m": wide, "k": k}),
        "random symbols": ("on_text", seeds, text | {"m": wide, "inputs": "random"}),
        "endless chain": ("on_text", seeds, text | {"m": wide, "inputs": "fresh"}),
        "random labels": ("on_digits", seeds, vit | {"label_noise": 1.0}),
        "random images": ("on_digits", seeds, vit | {"inputs": "random"}),
        "MLP, digits": ("on_digits", seeds, vit | {"model": "mlp"}),
        "MLP, Gaussian inputs": ("on_gaussian", seeds, {"steps": gauss}),
        "MLP, random labels": ("on_gaussian", seeds, {"steps": gauss, "labels": "random"}),
    }
    for noise in _NOISE:
        for top in (None, 16 if full else 8):
            settings = vit | {"label_noise": noise, "k": top}
            cells[_digits(noise, top is not None)] = ("on_digits", many, settings)
    return cells


def _digits(noise: float, top: bool) -> str:
    return f"{'Top-k' if top else 'dense'}, {noise:.0%} label noise"


def _train(run: str, settings: dict[str, Any], seed: int, device: str) -> dict[str, Any]:
    from kadanoff.studies.lazy_neurons import runs

    return getattr(runs, run)(seed=seed, device=device, **settings)


def _pull(loss: str, seed: int) -> list[Any]:
    """Slope of the mean gradient against the activation: closed form, draws."""
    import torch

    from kadanoff.sparsity import drift, drift_monte_carlo

    p = torch.randn(128, generator=torch.Generator().manual_seed(seed)).relu().double()
    closed = float(drift(p, 0.1, 10, loss) @ p / (p @ p))
    slopes = []
    for draw in range(40):
        mean, _ = drift_monte_carlo(p, 0.1, 10, loss, n_draws=150, seed=1000 * seed + draw)
        slopes.append(float(mean @ p / (p @ p)))
    return [closed, slopes]


def _decode(d: int, m: int, k: int, symbols: int, seed: int) -> dict[str, Any]:
    """Time a token of a Top-k decoder with all rows read, and with the active ones alone."""
    import time

    import torch

    from kadanoff.sparsity import accelerate, acceleration_of
    from kadanoff.studies.lazy_neurons.toy import Decoder, generate

    model = Decoder(64, d, m, 3, length=symbols + 8, k=k, seed=seed).eval()
    prompt = torch.arange(8).unsqueeze(0)
    fast: Any = accelerate(model, prompt[:, -1:])
    same = torch.equal(generate(model, prompt, symbols), generate(fast, prompt, symbols))
    saved = []
    for _ in range(7):
        start = time.perf_counter()
        generate(model, prompt, symbols)
        middle = time.perf_counter()
        generate(fast, prompt, symbols)
        saved.append(1 - (time.perf_counter() - middle) / (middle - start))
    return {
        "same": same,
        "saved": saved,
        "choices": [b.choice for b in acceleration_of(fast).blocks],
    }


def _mean(values: Sequence[float]) -> tuple[float, float]:
    n = len(values)
    mean = sum(values) / n
    return mean, math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1) / n)


def _decide(
    lab: Lab, claim: str, values: Numbers, sign: int, note: str, shown: float = 1.0
) -> None:
    """Decide by the sign of the mean of ``values``, a number a seed; ``shown`` scales them."""
    mean, error = _mean(values)
    clear = abs(mean) > _T[len(values) - 1] * error
    text = f"{note} Mean of {len(values)} seeds."
    if not clear:
        text += " No direction at this size: the difference is within its error."
    lab.decide(claim, holds=mean * sign > 0 if clear else None, value=shown * mean,
               stderr=shown * error, note=text)  # fmt: skip


def run(lab: Lab) -> None:
    cells = _cells(lab.full)
    lab.plan(sum(seeds for _, seeds, _ in cells.values()) + 3)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in cells}
    # seed by seed, so that what a run has when it is stopped can be compared
    for seed in range(max(seeds for _, seeds, _ in cells.values())):
        for name, (run, seeds, settings) in cells.items():
            if seed < seeds:
                row = lab.part(f"{name} {seed}", _train, run, settings, lab.seed + seed, lab.device)
                found[name].append(row)
    _emergence(lab, found)
    _causes(lab, found)
    _theory(lab)
    _topk(lab, found, cells)
    _speed(lab)


def _at(rows: list[dict[str, Any]], step: int) -> Numbers:
    """Mean active fraction over blocks at a step, a number a seed."""
    return [_average(row["active"][row["steps"].index(step)]) for row in rows]


def _average(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _minus(a: Numbers, b: Numbers) -> Numbers:
    return [x - y for x, y in zip(a, b)]


def _emergence(lab: Lab, found: dict[str, list[dict[str, Any]]]) -> None:
    text = found["text"]
    early = found["narrow"][0]["steps"][-1]
    start, end = [r["start"] for r in text], [r["end"] for r in text]
    lab.compare("init", *_mean([100 * v for v in start]), systematic=1.0,
                note="Text decoders before training; 1 point for the finite width.")  # fmt: skip
    _decide(lab, "emergence", _minus(end, start), -1, "Text decoder, end minus start, points.", 100)
    mean, error = _mean([100 * v for v in end])
    last = _mean([100 * r["last"] for r in text])
    lab.decide(
        "few", holds=True if mean + 4 * error < 6.3 else None, value=mean, stderr=error,
        note=f"Percentage active, mean of the blocks after {text[0]['steps'][-1]} steps (last "
        f"block {last[0]:.1f} ± {last[1]:.1f}) and still falling: models of the paper's size and "
        "training length are out of reach here.",
    )  # fmt: skip
    never = [r["never"] for r in text]
    mean, error = _mean(never)
    holds = True if mean + 4 * error < 0.05 else False if mean - 4 * error > 0.05 else None
    lab.decide("alive", holds=holds, value=mean, stderr=error,
               note="Fraction of neurons that fire on none of the held-out tokens of the "
               "probe; the claim is taken to hold below 5%.")  # fmt: skip
    gap = _minus([r["seen"] for r in text], end)
    mean, error = _mean(gap)
    lab.decide("unseen", holds=abs(mean) + _T[len(gap) - 1] * error < 0.02 or None, value=mean,
               stderr=error, note="Training minus held-out text; same within 0.02.")  # fmt: skip
    ends = [min(r["first"], r["last"]) - _average(r["active"][-1][1:-1]) for r in text]
    _decide(lab, "middle", ends, 1, "Sparser of the two end blocks minus the middle one.", 100)
    _decide(lab, "wider", _minus(_at(text, early), _at(found["narrow"], early)), -1,
            f"Wide minus narrow after {early} steps, points.", 100)  # fmt: skip
    cells = _cells(lab.full)
    wide, narrow = cells["text"][2]["m"], cells["narrow"][2]["m"]
    more = [wide * a - narrow * b for a, b in zip(_at(text, early), _at(found["narrow"], early))]
    _decide(lab, "count", more, 1, f"Neurons a token and block, width {wide} minus {narrow}.")
    _decide(lab, "deeper", _minus(_at(text, early), _at(found["shallow"], early)), -1,
            f"Three blocks minus one after {early} steps, points.", 100)  # fmt: skip
    lab.say("Sparsity emerges", f"""
        A causal pre-norm Transformer with ReLU MLP blocks learns to predict the characters of
        Python's own help texts. Before training every neuron fires for half of the tokens; with
        training the active fraction falls in every block, on text it has not seen as on text it
        has. The learning rate is constant after warm-up: with a rate that falls to zero the
        drift stops early. {len(text)} seeds.""")  # fmt: skip
    _draw_emergence(lab, found)


def _draw_emergence(lab: Lab, found: dict[str, list[dict[str, Any]]]) -> None:
    from kadanoff.style.figures import DASHES, MARKERS, SERIES, figure, house_style

    text = found["text"]
    with house_style():
        fig, (left, right) = figure(1, 2, width=8.4, sharey=True)
        steps = text[0]["steps"]
        for block in range(len(text[0]["active"][0])):
            curve = [_mean([100 * r["active"][i][block] for r in text]) for i in range(len(steps))]
            left.errorbar(steps, [c[0] for c in curve], [c[1] for c in curve],
                          marker=MARKERS[block], color=SERIES[block], linestyle=DASHES[block],
                          label=f"block {block + 1}")  # fmt: skip
        left.set_title("text, block by block")
        for index, name in enumerate(("text", "random symbols", "endless chain")):
            rows = found[name]
            steps = [s for s in rows[0]["steps"] if s <= found["narrow"][0]["steps"][-1]]
            curve = [_mean([100 * v for v in _at(rows, s)]) for s in steps]
            right.errorbar(steps, [c[0] for c in curve], [c[1] for c in curve],
                           marker=MARKERS[index], color=SERIES[index], linestyle=DASHES[index],
                           label=name)  # fmt: skip
        right.set_title("mean of the blocks, three kinds of data")
        for ax in (left, right):
            ax.axhline(50, color="0.6", linewidth=0.8)
            ax.set_xlabel("training step")
            ax.set_ylim(0, 60)
            ax.legend()
        left.set_ylabel("active neurons (%)")
    lab.figure("emergence.svg", fig,
               "Active fraction over training, mean and standard error over seeds. Left: real "
               "text. Right: text, uniform random symbols that can only be memorised, and an "
               "endless Markov chain of which no sample comes twice.")  # fmt: skip


def _causes(lab: Lab, found: dict[str, list[dict[str, Any]]]) -> None:
    def change(name: str) -> Numbers:
        return [r["end"] - r["start"] for r in found[name]]

    words = "active fraction, end minus start, points."
    _decide(lab, "labels", change("random labels"), -1, f"ViT on digits, {words}", 100)
    _decide(lab, "images", change("random images"), -1, f"ViT, Gaussian noise for images, {words}",
            100)  # fmt: skip
    _decide(lab, "symbols", change("random symbols"), -1,
            f"Decoder on eight batches of uniform random symbols, {words}", 100)  # fmt: skip
    _decide(lab, "endless", change("endless chain"), -1,
            f"Decoder on a Markov chain, every sample new, {words}", 100)  # fmt: skip
    plain = change("MLP, digits")
    _decide(lab, "mlp", plain, -1, f"Two ReLU layers without norms on digits, {words}", 100)
    rows = []
    for name, runs in found.items():
        if runs[0]["end"] > 0.2 or "Top" not in name:
            start, end = ([100 * r[key] for r in runs] for key in ("start", "end"))
            s, e, c = _mean(start), _mean(end), _mean(_minus(end, start))
            rows.append([name, str(len(runs)), *(f"{m:.1f} ± {d:.1f}" for m, d in (s, e, c))])
    lab.say(
        "Not the data",
        """
        If sparsity were copied from the data it would not appear with labels drawn at random,
        with noise in place of images, with symbols that can only be memorised, or with a source
        that never repeats itself. Plain MLPs without norms, on digits and on Gaussian inputs, are
        kept as a negative control: if dynamics alone were enough, they would become sparse.
        """,
    )
    lab.table("Active neurons (%)", ["run", "seeds", "start", "end", "change"], rows,
              "Mean over blocks; of the Gaussian MLPs the last layer.")  # fmt: skip


def _theory(lab: Lab) -> None:
    rows, least = [], math.inf
    for loss, claim in (("cross_entropy", "drift-ce"), ("mse", "drift-mse")):
        closed, slopes = lab.part(f"drift {loss}", _pull, loss, lab.seed)
        mean, error = _mean(slopes)
        least = min(least, mean / error)
        difference = mean / closed
        lab.compare(claim, difference, error / closed, resolution=0.05,
                    note="Slope of the mean gradient against the activation over its closed form; "
                    "6,000 random readouts.")  # fmt: skip
        rows.append([loss.replace("_", "-"), f"{mean:.5f} ± {error:.5f}", f"{closed:.5f}"])
    lab.decide("drift", holds=least > 4, value=least,
               note="Smaller of the two mean slopes, in standard errors above zero.")  # fmt: skip
    lab.say(
        "What starts it",
        r"""
        Averaged over a random readout $V$ with entries of variance $σ_v^2$, the gradient on an
        activation $p_i > 0$ of the last block is $σ_v^2 p_i (1 - E‖S‖^2)$ for cross-entropy, with
        $S$ the softmax of the outputs, and $K σ_v^2 p_i$ for half the squared error: positive,
        so that every step lowers it. The paper proves the sign, the closed form is ours.
        """,
    )
    lab.table("Slope of the mean gradient", ["loss", "drawn", "closed form"], rows)


def _topk(lab: Lab, found: dict[str, list[dict[str, Any]]], cells: dict[str, Any]) -> None:
    top, dense = found["Top-k text"], found["text"]
    early = top[0]["steps"][-1]
    loss = [
        t["losses"][-1] - d["losses"][d["steps"].index(early)] for t, d in zip(top, dense)
    ]  # fmt: skip
    mean, error = _mean(loss)
    margin = _T[len(loss) - 1] * error
    worse = mean - margin > 0 and mean > 0.05
    settings = cells["Top-k text"][2]
    lab.decide(
        "parity", holds=False if worse else mean + margin < 0.1 or None, value=mean, stderr=error,
        note=f"Loss with k = {settings['k']} of {settings['m']} minus that without, nats a "
        f"character, after {early} steps; on par if below 0.1 with its error.",
    )  # fmt: skip
    curves: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    clean: Numbers = []
    for noise, claim in zip(_NOISE, ("clean", "noise-40", "noise-80")):
        pair = [found[_digits(noise, kind)] for kind in (False, True)]
        for kind, runs in zip((False, True), pair):
            curves[kind].append(_mean([100 * r["accuracy"] for r in runs]))
        gain = _minus([r["accuracy"] for r in pair[1]], [r["accuracy"] for r in pair[0]])
        if claim == "clean":
            clean = gain
            mean, error = _mean([100 * v for v in gain])
            margin = _T[len(gain) - 1] * error
            lab.decide("clean", holds=False if mean + margin < -1 else mean - margin > -1 or None,
                       value=mean, stderr=error, note="Digits, ViT: Top-k minus dense, points; "
                       "on par if no more than 1 point is lost.")  # fmt: skip
        else:
            beyond = _mean([100 * v for v in _minus(gain, clean)])
            _decide(lab, claim, gain, 1, "Digits, ViT: Top-k minus dense, points; beyond what it "
                    f"gains without noise {beyond[0]:.1f} ± {beyond[1]:.1f}.", 100)  # fmt: skip
    pair = [found[_digits(0.0, kind)] for kind in (False, True)]
    for claim, key, sign in (("gaussian", "gaussian", 1), ("impulse", "impulse", 1),
                             ("ece", "ece", -1)):  # fmt: skip
        gain = _minus([r[key] for r in pair[1]], [r[key] for r in pair[0]])
        _decide(lab, claim, gain, sign, "Digits, ViT, no label noise: Top-k minus dense, points.",
                100)  # fmt: skip
    lab.say("Top-k", f"""
        A Top-k Transformer keeps the $k$ largest activations of every MLP block and token, in
        training and after. Here the decoder keeps {settings['k']} of {settings['m']}; the ViT on
        digits {cells[_digits(0.0, True)][2]['k']} of {cells[_digits(0.0, True)][2]['m']}. The
        paper gives single runs; error bars here are over {len(pair[0])} seeds.""")  # fmt: skip
    _draw_topk(lab, curves)


def _draw_topk(lab: Lab, curves: dict[bool, list[tuple[float, float]]]) -> None:
    from kadanoff.style.figures import DASHES, MARKERS, SERIES, figure, house_style

    with house_style():
        fig, ax = figure()
        for index, (kind, rows) in enumerate(curves.items()):
            ax.errorbar([100 * n for n in _NOISE], [r[0] for r in rows], [r[1] for r in rows],
                        marker=MARKERS[index], color=SERIES[index], linestyle=DASHES[index],
                        label="Top-k" if kind else "all neurons")  # fmt: skip
        ax.set_xlabel("training labels replaced at random (%)")
        ax.set_ylabel("test accuracy (%)")
        ax.legend()
    lab.figure("label_noise.svg", fig,
               "Digits, small ViT: accuracy on true labels, trained on noisy ones.")  # fmt: skip


def _speed(lab: Lab) -> None:
    size = lab.pick(quick=(256, 2048, 64, 32), full=(512, 4096, 128, 64))
    run = lab.part("decoding", _decode, *size, lab.seed)
    mean, error = _mean([100 * v for v in run["saved"]])
    lab.decide(
        "time", holds=None if not run["same"] else mean - 4 * error > 10, value=mean, stderr=error,
        note=f"Percent of the time a token, Top-{size[2]} decoder with d = {size[0]}, d_ff = "
        f"{size[1]}, one token at a time; the same text with and without. The paper's number is "
        "that of a kernel which skips no rows, on a TPU.",
    )  # fmt: skip
    lab.say("Time", """
        Only rows of the second matrix that meet a nonzero activation are read
        (`kadanoff.sparsity.accelerate`); the result is the same to rounding. Part of the gain
        over torch is torch's own matrix–vector product, which reads at half the bandwidth: the
        benchmark `sparsity` tells the two apart.""")  # fmt: skip

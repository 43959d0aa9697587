"""What the page says, in order: each section asks for its parts, decides, shows.

Connected correlators of preactivations as sums of diagrams: generated, evaluated, printed and
drawn by :mod:`kadanoff.diagrams`, and set beside hand recursions, the any-order moment series,
the exact chain and drawn networks.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from kadanoff.studies.effective_theories import agreement, decisions, figures, parts
from kadanoff.studies.effective_theories.claims import RULES
from kadanoff.studies.effective_theories.decisions import HAND, RATIOS
from kadanoff.studies.lab import Lab

__all__ = ["run"]

_TWO = [[1.0, 0.5], [-0.3, 1.2]]


def run(lab: Lab) -> None:
    """Run the study."""
    lab.plan(lab.pick(quick=18, full=22))
    lab.say("The rules", RULES)
    _drawings(lab)
    _agreement(lab)
    _measured(lab)
    _counting(lab)
    _criticality(lab)
    _ratios(lab)
    _loops(lab)


def _drawings(lab: Lab) -> None:
    from kadanoff import diagrams

    decisions.hand(lab, {name: str(diagrams.recursion(*name)) for name in HAND})
    for k, file in ((2, "four.svg"), (3, "six.svg"), (4, "eight.svg")):
        recursion = diagrams.recursion(k)
        lab.figure(
            file,
            figures.diagrams(recursion),
            f"The tree diagrams of the connected {2 * k}-point function, with their weights for "
            "one input. Open dots: factors of the metric above; full dots: one neuron each; "
            f"circles: connected correlators of the layer below. ${recursion.latex()}$",
        )
    lab.figure(
        "loops.svg",
        figures.diagrams([*diagrams.generate(1, 1), *diagrams.generate(2, 1)]),
        "One loop: the shift of the mean metric (first two) and the "
        "four-point function at order 1/n².",
    )
    lab.say(
        "Several inputs",
        "The same diagrams, with pairs of inputs on every line. The six-point "
        f"function: $${diagrams.recursion(3).latex(indexed=True)}$$",
    )
    rows = []
    for k in (1, 2, 3, 4):
        found = [diagrams.generate(k, loops) for loops in (0, 1, 2)]
        rows.append([f"{2 * k}-point", *(str(len(some)) for some in found)])
        # every loop costs one power of 1/n
        for some in found:
            assert all(d.order == d.k - 1 + d.loops for d in some)
    lab.table("How many diagrams", ["correlator", "trees", "one loop", "two loops"], rows)


def _agreement(lab: Lab) -> None:
    order = lab.pick(quick=3, full=5)
    gap = lab.part("moment series", agreement.series_gap, order)
    decisions.any_order(lab, gap, order)
    widths = lab.pick(quick=(20,), full=(20, 40, 80))
    settings = lab.pick(quick=(4, 1.5, 0.05, 1024, 80), full=(8, 1.5, 0.05, 4096, 160))
    chains = {n: lab.part(f"exact chain {n}", agreement.chain_gaps, n, *settings) for n in widths}
    lab.say(
        "Sums of diagrams and the exact law",
        """
        At one input the metric is a Markov chain whose law can be computed without any expansion.
        Sums of diagrams come nearer to it by one power of 1/n an order.
        """,
    )
    lab.figure(
        "orders.svg",
        figures.orders(chains[widths[0]]["gaps"]),
        f"Sums of diagrams against the exact law of the metric (tanh, "
        f"width {widths[0]}, {settings[0]} hidden layers, C_W = 1.5, C_b = 0.05).",
    )
    decisions.exact_chain(lab, chains)
    decisions.scale_invariant(lab, lab.part("products", agreement.product_gap, 4))


def _measured(lab: Lab) -> None:
    many, drawn = lab.pick(quick=(40_000, 10_000), full=(400_000, 100_000))
    cases = {
        "tanh": ("tanh", 20, 5, [[1.0]], many, "exact", 8),
        "ReLU, weights drawn": ("relu", 12, 3, [[1.0]], drawn, "weights", 8),
        "tanh, neurons only": ("tanh", 12, 3, [[1.0]], drawn, "neurons", 6),
        "tanh, two inputs": ("tanh", 24, 3, _TWO, many, "exact", 8),
    }
    lab.say(
        "Random networks",
        """
        Networks with weights really drawn, or sampled from the exact law layer by layer, and in
        one case nothing looked at but preactivations. Connected correlators up to the eight-point
        function, against sums of diagrams.
        """,
    )
    rows, every, found = [], [], {}
    for i, (name, case) in enumerate(cases.items()):
        function = _resumable(lab, f"ensemble-{i}")
        found[name] = lab.part(f"ensemble {name}", function, *case, lab.seed + i, lab.device)
        for k, z in found[name]["z"].items():
            every += z
            square = sum(v * v for v in z) / len(z)
            worst, resolution = max(abs(v) for v in z), found[name]["resolution"][k]
            rows.append([name, f"{2 * int(k)}-point", str(len(z)), worst, square, resolution])
    lab.figure(
        "ensemble.svg",
        figures.ensemble(found["tanh"]),
        f"Connected correlators of {many:,} tanh networks of "
        "width 20 at criticality, and sums of diagrams.",
    )
    lab.table(
        "Ensembles",
        [
            "networks",
            "correlator",
            "components",
            "largest |z|",
            "mean z²",
            "standard error / value, last layer",
        ],
        rows,
    )
    decisions.ensembles(lab, every, max(found["tanh"]["resolution"].values()))


def _resumable(lab: Lab, name: str) -> Any:
    """The part with a checkpoint in this run's folder, so that a killed one goes on."""
    path = str(lab.scratch(f"{name}-{lab.size}-{lab.seed}.pt"))
    # the wrapper leaves the key of the part free of the folder's name
    function = functools.partial(parts.ensemble, checkpoint=path)
    return functools.update_wrapper(function, parts.ensemble)


def _counting(lab: Lab) -> None:
    networks = lab.pick(quick=30_000, full=600_000)
    widths = lab.pick(quick=(16, 32, 64), full=(32, 64, 128, 256))
    table = {}
    for n in widths:
        setting = ("relu", n, 3, [[1.0]], networks, "exact", 8, lab.seed + n, lab.device)
        table[n] = lab.part(f"width {n}", _resumable(lab, f"width-{n}"), *setting)
    decisions.counting(lab, table)
    found = lab.part("decoupled", parts.decoupled, 20, lab.pick(quick=20_000, full=200_000), 11)
    decisions.decoupling(lab, found)


def _criticality(lab: Lab) -> None:
    lab.say(
        "One condition",
        r"""
        Perturbations of the kernel obey $\delta K'=J\,\delta K$ and connected correlators
        $J\otimes\dots\otimes J$: the spectrum of one matrix decides them all. On the unit circle
        none grows or falls exponentially, and $\kappa_k/K^k\sim\ell^{k-1}$.
        """,
    )
    draws = lab.pick(quick=4, full=30)
    gap, cubes = lab.part("condition", agreement.condition_gaps, draws, lab.seed)
    depth = lab.pick(quick=192, full=2048)
    every = max(1, depth // 64)
    runs = {
        C_W: lab.part(f"tanh {C_W}", agreement.along_depth, "tanh", C_W, depth, every)
        for C_W in (0.98, 1.0, 1.02)
    }
    lab.figure(
        "critical.svg",
        figures.critical(runs),
        "Below, at and above criticality: one condition decides the "
        "four-, six- and eight-point functions together. At C_W = 1 they grow as powers "
        "ℓ^(k − 1).",
    )
    relu = lab.part("relu depth", agreement.along_depth, "relu", 2.0, depth, every)
    slopes = {
        "tanh": decisions.growth(runs[1.0], depth),
        "relu": decisions.growth(relu, depth),
    }
    decisions.one_condition(lab, gap, cubes, slopes, depth)


def _ratios(lab: Lab) -> None:
    from kadanoff import diagrams

    lab.say(
        "Universal ratios",
        """
        Within a universality class relative strengths are pure numbers, the same for every
        activation. The book has the first, 2/3; the others follow from the same diagrams.
        """,
    )
    depth = lab.pick(quick=256, full=4096)
    names = lab.pick(quick=("tanh", "sin"), full=("tanh", "sin", "erf"))
    exact = {claim: diagrams.universal_ratio(k, a) for claim, (k, a) in RATIOS.items()}
    rows, curves = [], {}
    limits: dict[str, list[tuple[float, float]]] = {claim: [] for claim in RATIOS}
    for name in names:
        setting = (name, math.pi / 4 if name == "erf" else 1.0, depth, max(1, depth // 64))
        run = lab.part(f"ratios {name}", agreement.along_depth, *setting)
        l, K = np.array(run["layers"]), np.array(run["values"]["1,0"])
        row, curves[name] = [name], {"layers": l}
        for claim, (k, a) in RATIOS.items():
            ratio = np.array(run["values"][f"{k},{a}"]) / K**k / l ** (k - 1.0 + a)
            curves[name][claim] = ratio
            at = {int(x): float(y) for x, y in zip(l, ratio)}
            limits[claim].append(decisions.extrapolated(at, depth))
            row += [at[depth], limits[claim][-1][0]]
        rows.append(row)
    lab.figure(
        "ratios.svg",
        figures.ratios(curves, exact),
        "κ_k n^(k−1)/(K^k ℓ^(k−1)) and (shift of the mean)·n/(K ℓ) at "
        "criticality, activations with K* = 0. Dotted: the exact fractions, derived from "
        "the diagrams alone.",
    )
    lab.table(
        "Universal ratios",
        [
            "activation",
            "4-point",
            "extrapolated",
            "6-point",
            "extrapolated",
            "8-point",
            "extrapolated",
            "mean",
            "extrapolated",
        ],
        rows,
        f"At layer {depth}, and extrapolated with layer {depth // 2} (the next correction "
        "falls as ln ℓ/ℓ too).",
    )
    decisions.ratios(lab, limits, exact, names)


def _loops(lab: Lab) -> None:
    r, samples = 0.2, lab.pick(quick=100_000, full=2_000_000)
    found = lab.part("double scaling", agreement.double_scaling_rows, r, samples, lab.seed)
    lab.table(
        "All loops at ℓ/n = 0.2",
        [
            "cumulant of K/Ĝ-scaling law",
            "simulated",
            "error",
            "diagrams, all known loops",
            "leading",
        ],
        [[f"κ_{k}", *row[:4]] for k, row in zip((1, 2, 3), found)],
        "Yor's exponential functional, the double-scaling limit of the K* = 0 class.",
    )
    decisions.loops(lab, found)

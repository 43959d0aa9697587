"""Structures of neural network effective theories (Banta, Cai, Craig & Zhang, 2023).

Connected correlators of preactivations as sums of diagrams: generated, evaluated, printed and
drawn by :mod:`kadanoff.diagrams`, and set beside hand recursions, the any-order moment series,
the exact chain and drawn networks.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import numpy as np

from kadanoff.studies.effective_theories.claims import RULES
from kadanoff.studies.lab import Lab

__all__ = ["run"]

_HAND = {
    (1, 0): "K' = C_b + f",
    (1, 1): "δ' = f' δ + 1/2 f'' κ₂",
    (2, 0): "κ₂' = f'² κ₂ + v/n",
    (3, 0): "κ₃' = f'³ κ₃ + 3 f'² f'' κ₂² + 3/n f' v' κ₂ + t/n²",
    (4, 0): "κ₄' = f'⁴ κ₄ + 12 f'³ f'' κ₂ κ₃ + 12 f'² f''² κ₂³ + 4 f'³ f''' κ₂³ "
    "+ 6/n f'² v' κ₃ + 12/n f' f'' v' κ₂² + 6/n f'² v'' κ₂² + 4/n² f' t' κ₂ + 3/n² v'² κ₂ "
    "+ q/n³",
}
# claim -> (k, loops)
_RATIOS = {"ratio-4": (2, 0), "ratio-6": (3, 0), "ratio-8": (4, 0), "ratio-mean": (1, 1)}
_TWO = [[1.0, 0.5], [-0.3, 1.2]]

# -- parts -----------------------------------------------------------------------------------


def _arch(activation: str, n: int, hidden: int, inputs: int = 1) -> Any:
    """A network at criticality (tanh with biases for two inputs), eight outputs."""
    import kadanoff as kd

    if inputs == 2:
        return kd.MLP(2, [n] * hidden, 8, activation, C_W=1.6, C_b=0.1)
    return kd.MLP(1, [n] * hidden, 8, activation, C_W=kd.criticality(activation).C_W)


def _ensemble(
    activation: str,
    n: int,
    hidden: int,
    X: list,
    networks: int,
    method: str,
    points: int,
    seed: int,
    device: str,
    checkpoint: str,
) -> dict[str, Any]:
    """Measured cumulants of the metric, and z-scores against diagrams of order 5 (two inputs 4)."""
    from kadanoff import diagrams

    arch = _arch(activation, n, hidden, len(X))
    found = diagrams.measure(
        arch, X, networks, method, points=points, seed=seed, device=device, checkpoint=checkpoint
    )
    theory = diagrams.correlators(arch, X, 5 if len(X) == 1 else 4)
    out: dict[str, Any] = {"z": {}, "value": {}, "error": {}, "theory": {}, "resolution": {}}
    for k in range(1, points // 2 + 1):
        predicted, measured = theory.cumulant(k), found.cumulants[k]
        z = found.z(k, predicted).numpy()
        key, last = str(k), np.abs(predicted[-1]).max()
        out["z"][key] = z[np.isfinite(z)].tolist()
        out["resolution"][key] = float(measured.stderr[-1].max()) / last
        if len(X) == 1:
            out["value"][key] = measured.value.tolist()
            out["error"][key] = measured.stderr.tolist()
            out["theory"][key] = [
                theory.cumulant(k, order=p).tolist() for p in range(max(k - 1, 1), 6)
            ]
    return out


# -- the run ---------------------------------------------------------------------------------


def run(lab: Lab) -> None:
    lab.plan(4 + 3 + 5 + 4)
    lab.say("The rules", RULES)
    _drawings(lab)
    _agreement(lab)
    _measured(lab)
    _counting(lab)
    _criticality(lab)
    _ratios(lab)


def _drawings(lab: Lab) -> None:
    from kadanoff import diagrams
    from kadanoff.style.figures import house_style

    same = {name: str(diagrams.recursion(*name)) == text for name, text in _HAND.items()}
    lab.decide(
        "hand",
        value=sum(same.values()),
        holds=all(same.values()),
        note="Recursions of K, its shift, κ₂, κ₃ and κ₄ that came out letter by letter as derived "
        "by hand.",
    )
    for k, file in ((2, "four.svg"), (3, "six.svg"), (4, "eight.svg")):
        with house_style():
            fig = diagrams.draw(diagrams.recursion(k), columns=5, size=1.5)
        lab.figure(
            file,
            fig,
            f"The tree diagrams of the connected {2 * k}-point function, with their weights for "
            "one input. Open dots: factors of the metric above; full dots: one neuron each; "
            f"circles: connected correlators of the layer below. ${diagrams.recursion(k).latex()}$",
        )
    loops = [*diagrams.generate(1, 1), *diagrams.generate(2, 1)]
    with house_style():
        fig = diagrams.draw(loops, columns=5, size=1.5)
    lab.figure(
        "loops.svg",
        fig,
        "One loop: the shift of the mean metric (first two) and the "
        "four-point function at order 1/n².",
    )
    lab.say(
        "Several inputs",
        "The same diagrams, with pairs of inputs on every line. The six-point "
        f"function: $${diagrams.recursion(3).latex(indexed=True)}$$",
    )
    rows = [
        [f"{2 * k}-point", *(str(len(diagrams.generate(k, a))) for a in (0, 1, 2))]
        for k in (1, 2, 3, 4)
    ]
    lab.table("How many diagrams", ["correlator", "trees", "one loop", "two loops"], rows)
    powers = {
        d.order - (d.k - 1) - d.loops
        for k in (1, 2, 3, 4)
        for a in (0, 1, 2)
        for d in diagrams.generate(k, a)
    }
    assert powers == {0}


def _agreement(lab: Lab) -> None:
    from kadanoff.studies.effective_theories import agreement
    from kadanoff.style.figures import SERIES, figure, house_style

    order = lab.pick(quick=3, full=5)
    gap = lab.part("moment series", agreement.series_gap, order)
    lab.decide(
        "any-order",
        value=gap,
        holds=gap < 1e-9,
        note=f"Largest relative difference of any coefficient up to order 1/n^{order} (trees and "
        "loops) to the moment series, which knows no graphs: tanh, swish, elu, gelu, unequal "
        "widths.",
    )
    settings = lab.pick(quick=(20, 4, 1.5, 0.05, 1024, 80), full=(20, 8, 1.5, 0.05, 4096, 160))
    found = lab.part("exact chain", agreement.chain_gaps, *settings)
    gaps = found["gaps"]
    falling, compared, lucky = True, [], 0
    for k, error in zip(("1", "2", "3", "4"), found["error"]):
        # an order counts while it is further off than the chain itself may be. Where the error
        # changes sign an order is near by accident, hence the look two orders on
        seen = [gap for gap in gaps[k] if gap > 10 * error]
        falling &= all(later < gap for gap, later in zip(seen, seen[2:]))
        lucky += sum(later > gap for gap, later in itertools.pairwise(seen))
        compared.append(len(seen))
    with house_style():
        fig, ax = figure(width=5, height=3.2)
        for k in (1, 2, 3, 4):
            ax.plot(
                range(max(k - 1, 1), 6),
                gaps[str(k)],
                "o-",
                color=SERIES[k - 1],
                label=rf"$\kappa_{k}$",
            )
        ax.set(
            yscale="log",
            xticks=range(1, 6),
            xlabel="highest order in 1/n summed",
            ylabel="relative distance to the exact value",
        )
        ax.legend()
    lab.figure(
        "orders.svg",
        fig,
        f"Sums of diagrams against the exact law of the metric (tanh, "
        f"width {settings[0]}, {settings[1]} hidden layers, C_W = 1.5, C_b = 0.05).",
    )
    lab.decide(
        "exact-chain",
        value=[gaps[str(k)][-1] for k in (1, 2, 3, 4)],
        holds=falling if min(compared) >= 3 or not falling else None,
        note="Relative distance of κ_1 … κ_4 to the exact chain after order 1/n⁵. Two orders more "
        f"must come nearer ({', '.join(map(str, compared))} orders could be compared); a single "
        f"one did not {lucky} times, where the one before was near by a change of sign. Error of "
        f"the chain itself {max(found['error']):.1g}.",
    )
    product = lab.part("products", agreement.product_gap, 4)
    lab.decide(
        "scale-invariant",
        value=product,
        holds=product < 1e-9,
        note="Largest relative difference of κ_2 (order 1/n⁴) to Π(1 + c/n) − 1: ReLU, linear, "
        "leaky ReLU, up to four hidden layers.",
    )


def _measured(lab: Lab) -> None:
    from kadanoff.style.figures import SERIES, figure, house_style, points

    many, drawn = lab.pick(quick=(40_000, 10_000), full=(400_000, 100_000))
    cases = {
        "tanh": ("tanh", 20, 5, [[1.0]], many, "exact", 8),
        "ReLU, weights drawn": ("relu", 12, 3, [[1.0]], drawn, "weights", 8),
        "tanh, neurons only": ("tanh", 12, 3, [[1.0]], drawn, "neurons", 6),
        "tanh, two inputs": ("tanh", 24, 3, _TWO, many, "exact", 8),
    }
    rows, worst, count, coarse = [], 0.0, 0, 0.0
    for i, (name, case) in enumerate(cases.items()):
        function = _resumable(lab, f"ensemble-{i}")
        found = lab.part(f"ensemble {name}", function, *case, lab.seed + i, lab.device)
        for k, z in found["z"].items():
            top = max(abs(v) for v in z)
            worst, count = max(worst, top), count + len(z)
            rows.append(
                [
                    name,
                    f"{2 * int(k)}-point",
                    str(len(z)),
                    top,
                    sum(v * v for v in z) / len(z),
                    found["resolution"][k],
                ]
            )
            if name == "tanh":
                coarse = max(coarse, found["resolution"][k])
        if name == "tanh":
            with house_style():
                fig, axes = figure(1, 4, width=11, height=3)
                layers = range(1, len(found["value"]["1"]) + 1)
                for k, ax in zip((1, 2, 3, 4), axes):
                    for j, line in enumerate(
                        (found["theory"][str(k)][0], found["theory"][str(k)][-1])
                    ):
                        ax.plot(
                            layers,
                            line,
                            color=SERIES[1 + j],
                            linestyle=("--", "-")[j],
                            label=("leading", "order 1/n⁵")[j],
                        )
                    points(ax, layers, found["value"][str(k)], found["error"][str(k)])
                    ax.set(title=rf"$\kappa_{k}$: {2 * k}-point", xlabel="layer")
                axes[0].legend()
            lab.figure(
                "ensemble.svg",
                fig,
                f"Connected correlators of {case[4]:,} tanh networks of "
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
    lab.decide(
        "ensembles",
        value=worst,
        holds=(worst < 4.5) if coarse < 0.25 else None,
        note=f"Largest |z| of {count} components up to the eight-point function. The eight-point "
        f"function of tanh is measured to {coarse:.1%}.",
    )


def _resumable(lab: Lab, name: str) -> Any:
    """:func:`_ensemble` with a checkpoint in this run's folder, so that a killed one goes on."""
    path = str(lab.scratch(f"{name}-{lab.size}-{lab.seed}.pt"))
    # the wrapper leaves the key of the part free of the folder's name
    return functools.update_wrapper(functools.partial(_ensemble, checkpoint=path), _ensemble)


def _counting(lab: Lab) -> None:
    networks = lab.pick(quick=30_000, full=400_000)
    widths = lab.pick(quick=(8, 12, 18), full=(10, 14, 20, 28))
    table = {}
    for n in widths:
        found = lab.part(
            f"width {n}",
            _resumable(lab, f"width-{n}"),
            "relu",
            n,
            3,
            [[1.0]],
            networks,
            "exact",
            8,
            lab.seed + n,
            lab.device,
        )
        table[n] = found
    slopes, errors = [], []
    for k in ("2", "3", "4"):
        x = np.log(widths)
        # the deepest layer; an exact factor takes the known loops out of the leading power
        y = []
        for n in widths:
            sums = table[n]["theory"][k]
            y.append(table[n]["value"][k][-1] * sums[0][-1] / sums[-1][-1])
        relative = np.array([table[n]["error"][k][-1] / abs(v) for n, v in zip(widths, y)])
        if min(y) <= 0:
            slopes.append(math.nan)
            errors.append(math.inf)
            continue
        weight = relative**-2
        mean = (weight * x).sum() / weight.sum()
        spread = (weight * (x - mean) ** 2).sum()
        slopes.append(float((weight * (x - mean) * np.log(y)).sum() / spread))
        errors.append(float(spread**-0.5))
    z = [(s + k) / e for k, s, e in zip((1, 2, 3), slopes, errors)]
    lab.decide(
        "counting",
        value=slopes,
        holds=max(map(abs, z)) < 4 if max(errors) < 0.3 else None,
        note="Powers of n of the measured 4-, 6- and 8-point functions (ReLU, layer 4, widths "
        f"{', '.join(map(str, widths))}, known loops divided out), errors "
        f"{', '.join(f'{e:.2g}' for e in errors)}. Power counting: −1, −2, −3.",
    )


def _criticality(lab: Lab) -> None:
    from kadanoff.studies.effective_theories import agreement
    from kadanoff.style.figures import SERIES, figure, house_style

    gap, cubes = lab.part(
        "condition", agreement.condition_gaps, lab.pick(quick=4, full=30), lab.seed
    )
    depth = lab.pick(quick=192, full=2048)
    slopes: dict[str, list[float]] = {}
    with house_style():
        fig, axes = figure(1, 3, width=10.5, height=3.3)
        for j, C_W in enumerate((0.98, 1.0, 1.02)):
            run = lab.part(
                f"tanh {C_W}", agreement.along_depth, "tanh", C_W, depth, max(1, depth // 64)
            )
            l, K = np.array(run["layers"]), np.array(run["values"]["1,0"])
            for k in (2, 3, 4):
                v = np.abs(run["values"][f"{k},0"]) / K**k
                axes[j].plot(l, v, color=SERIES[k - 2], label=rf"$\kappa_{k}/K^{k}$")
                if C_W == 1.0:
                    i = list(l).index(depth // 2)
                    slopes.setdefault("tanh", []).append(math.log(v[-1] / v[i]) / math.log(2))
            axes[j].set(xscale="log", yscale="log", xlabel="layer", title=rf"tanh, $C_W = {C_W}$")
        axes[0].legend()
        axes[0].set_ylabel(r"coefficient of $n^{1-k}$")
    lab.figure(
        "critical.svg",
        fig,
        "Below, at and above criticality: one condition decides the "
        "four-, six- and eight-point functions together. At C_W = 1 they grow as powers "
        "ℓ^(k − 1).",
    )
    run = lab.part("relu depth", agreement.along_depth, "relu", 2.0, depth, max(1, depth // 64))
    K, i = np.array(run["values"]["1,0"]), run["layers"].index(depth // 2)
    slopes["relu"] = [
        math.log(v[-1] / v[i]) / math.log(2)
        for v in (np.array(run["values"][f"{k},0"]) / K**k for k in (2, 3, 4))
    ]
    miss = max(abs(s - k) / k for v in slopes.values() for k, s in zip((1, 2, 3), v))
    limit = 12 / math.sqrt(depth) / 10  # corrections fall as ln ℓ/ℓ
    lab.decide(
        "one-condition",
        value=gap,
        holds=gap < 1e-7 and cubes < 1e-9 and miss < limit,
        note="Largest difference of the spectrum of J = ∂K'/∂K to {χ∥, C_W⟨σ'σ'⟩}, random kernels "
        "of two and three inputs; the six-point function's homogeneous part grows as its cube to "
        f"{cubes:.1g}. Powers of ℓ of κ_k/K^k at layer {depth}: "
        + "; ".join(f"{a} " + ", ".join(f"{s:.3f}" for s in v) for a, v in slopes.items())
        + " for 1, 2, 3.",
    )


def _ratios(lab: Lab) -> None:
    from kadanoff import diagrams
    from kadanoff.studies.effective_theories import agreement
    from kadanoff.style.figures import SERIES, colour, figure, house_style

    depth = lab.pick(quick=256, full=4096)
    names = lab.pick(quick=("tanh", "sin"), full=("tanh", "sin", "erf"))
    rows, limits = [], {claim: [] for claim in _RATIOS}
    with house_style():
        fig, axes = figure(1, 4, width=11, height=3)
        for j, name in enumerate(names):
            C_W = math.pi / 4 if name == "erf" else 1.0
            run = lab.part(
                f"ratios {name}", agreement.along_depth, name, C_W, depth, max(1, depth // 64)
            )
            l, K = np.array(run["layers"]), np.array(run["values"]["1,0"])
            row = [name]
            for ax, (claim, (k, a)) in zip(axes, _RATIOS.items()):
                ratio = np.array(run["values"][f"{k},{a}"]) / K**k / l ** (k - 1.0 + a)
                at = {int(x): float(y) for x, y in zip(l, ratio)}
                best, before = (2 * at[m] - at[m // 2] for m in (depth, depth // 2))
                limits[claim].append((best, abs(best - before)))
                row += [at[depth], best]
                ax.plot(l, ratio, color=SERIES[j], label=name)
                if j == 0:
                    exact = diagrams.universal_ratio(k, a)
                    ax.axhline(float(exact), color=colour("muted"), lw=0.8, linestyle=(0, (1, 2)))
                    title = f"{2 * k}-point: {exact}" if a == 0 else f"mean: {exact}"
                    ax.set(xscale="log", xlabel="layer", title=title)
            rows.append(row)
        axes[0].legend()
    lab.figure(
        "ratios.svg",
        fig,
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
    for claim, (k, a) in _RATIOS.items():
        value = float(np.mean([v for v, _ in limits[claim]]))
        systematic = max(e for _, e in limits[claim]) * 2
        exact = diagrams.universal_ratio(k, a)
        lab.compare(
            claim,
            value,
            systematic=systematic,
            resolution=0.05,
            note=f"Mean over {', '.join(names)} of the extrapolated recursion; the diagrams give "
            f"{exact} exactly. Systematic error {systematic:.1g}: twice the change from the "
            "extrapolation half as deep.",
        )
    r, samples = 0.2, lab.pick(quick=100_000, full=2_000_000)
    found = lab.part("double scaling", agreement.double_scaling_rows, r, samples, lab.seed)
    z = [(series - value) / (error + last) for value, error, series, _, last in found]
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
    lab.decide(
        "loops",
        value=[row[2] for row in found],
        stderr=max(row[1] for row in found),
        holds=max(map(abs, z)) < 4,
        note="κ_1, κ_2, κ_3 at ℓ/n = 0.2 by universal ratios up to four loops; simulated "
        + ", ".join(f"{row[0]:.5f}" for row in found)
        + ".",
    )

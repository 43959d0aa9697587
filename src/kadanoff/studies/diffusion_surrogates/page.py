"""The page of the study: tables, figures and decisions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kadanoff.studies.diffusion_surrogates.parts import (
    direct_solvers,
    roll_back,
    sizes,
    speeds,
    train_network,
    uptake_data,
    uptake_network,
    uptake_speeds,
)
from kadanoff.studies.lab import Lab
from kadanoff.style.figures import SERIES, colour, figure, house_style, points
from kadanoff.tuning.rates import BASE

__all__ = [
    "networks_section",
    "rollback_section",
    "solver_section",
    "speed_section",
    "tune_section",
    "uptake_section",
]

# rates of the usual start (Adam); kadanoff.tune's only number stays at its own default
_DEFAULT = {"pair": 1e-3, "first": 1e-3, "unet": 2e-3, "fno": 2e-3}
_BASE = BASE["adamw"]
_NETWORKS = ("pair", "first", "unet", "fno")


def solver_section(lab: Lab) -> None:
    """Exact solvers, each against an independent route; sizes of the authors' networks."""
    size = lab.pick(quick=48, full=100)
    r = lab.part("solvers", direct_solvers, size, lab.seed)
    worst = max(r["lu"], r["residual"])
    lab.decide("exact-solver", holds=worst < 1e-11, value=worst,
               note=f"lattice {size} × {size}, float64")  # fmt: skip
    counts = lab.part("sizes", sizes)
    lab.decide("network-sizes", holds=counts == [3075, 50290243],
               value=", ".join(str(c) for c in counts))  # fmt: skip
    lab.say(
        "The problem and its exact solution",
        r"""
        $\partial_t u = D\nabla^2u-\gamma u+\alpha$ on a square lattice with absorbing walls, $D=1$,
        $\gamma=1/400$, two discs of radius 5 at random places as source; asked for is the
        stationary state divided by its maximum. It solves $(\gamma-D\nabla^2)u=\alpha$, a *linear*
        problem that two sine transforms diagonalise:
        `kadanoff.studies.diffusion_surrogates.diffusion.ScreenedPoisson2D`.
        The authors integrate in time until nothing changes.
        """,
    )
    lab.table(
        f"Solvers on {size} × {size}",
        ["what", "deviation"],
        [
            ["direct, float64: residual", r["residual"]],
            ["direct against sparse LU", r["lu"]],
            ["direct, float32", r["single"]],
            ["fast transforms against matrix products", r["fast"]],
            [f"time stepping, {r['evaluations']} evaluations", r["stepped"]],
            ["fixed-value discs: value on the discs", r["discs"]],
            [f"D varying {r['contrast']:.3g}-fold, {r['variable_iterations']} iterations: residual",
             r["variable"]],
        ],
    )  # fmt: skip


def _train(lab: Lab, kind: str, start: str, samples: int, size: int, seed: int, test: int,
           rate: float | None = None) -> dict[str, Any]:  # fmt: skip
    name = kind.split("-")[0]
    if rate is None:
        rate = _DEFAULT[name] if start == "default" else _BASE
    label = f"{kind}-{start}-{rate:g}-{size}-{seed}"
    checkpoint = str(lab.scratch(f"{label}.pt"))
    return lab.part(f"train-{label}", train_network, kind, start, rate, size, samples, seed, test,
                    checkpoint, lab.device)  # fmt: skip


def networks_section(lab: Lab) -> dict[str, Any]:
    """Train the networks, tell their errors, bounds and hybrids; returns the best."""
    size = lab.pick(quick=32, full=100)
    test = lab.pick(quick=32, full=64)
    plan = lab.pick(
        quick=[("first", 480), ("unet-4-3", 1280)],
        full=[("first", 640), ("pair-8", 640), ("unet-8-4", 2880), ("fno-12-12-3", 640)],
    )
    rows, runs = [], {}
    for kind, samples in plan:
        for start in ("default", "tune"):
            runs[kind, start] = _train(lab, kind, start, samples, size, lab.seed, test)
    if not lab.full:
        # kadanoff.tune of a Fourier operator alone would take as long as the rest
        runs["fno-8-8-2", "default"] = _train(
            lab, "fno-8-8-2", "default", 480, size, lab.seed, test
        )
    else:
        runs["pair-8", "authors' rate"] = _train(
            lab, "pair-8", "default", 640, size, lab.seed, test, 5e-6
        )
    for (kind, start), r in runs.items():
        rows.append([kind, start, r["parameters"], r["samples"], r["mean"], r["p99"], r["maximum"],
                     r["gradient_mean"], r["gradient_p99"], r["far_mean"], r["far_relative"],
                     r["sum_error"], r["five"]["mean"], r["five"]["maximum"]])  # fmt: skip
    lab.say(
        "Networks",
        """
        The authors' pair (full resolution plus encoder-decoder; its narrow version with 8 in place
        of 64 channels, without dropout, since at full width 50 million parameters see few samples
        on a CPU), their first network alone, a U-Net and a Fourier neural operator. Each sees new
        pairs all the time, made by the direct solver, and learns the normalised field by the mean
        absolute error. *tune* starts from `kadanoff.tune` and its rates at their default base, with
        the output scaled to the field (a narrow Fourier operator whose blocks it cannot bring to
        χ = 1 keeps its own weights), *default* from PyTorch's weights and one usual
        rate. *Far* means more than ten nodes from any source; *sum* is the error on sums of two
        sources, where the exact map is linear before normalisation; *5* on five sources,
        never seen in training.
        """,
    )
    lab.table(
        f"Errors of the normalised field, {size} × {size}, {test} test pairs",
        ["network", "start", "parameters", "samples", "mean", "p99", "max", "gradient mean",
         "gradient p99", "far mean", "far relative", "sum", "5: mean", "5: max"],
        rows,
    )  # fmt: skip
    (kind, start), best = min(runs.items(), key=lambda item: item[1]["mean"])
    enough = best["mean"] < 0.03
    lab.decide(
        "learns-the-field",
        holds=True if enough else (False if best["samples"] >= 20_000 else None),
        value=best["mean"],
        note=f"best: {kind} ({start}) after {best['samples']} samples; the authors train on about "
        "20,000 pairs for up to 1000 epochs, and fewer samples than that refute nothing",
    )
    ratio = best["maximum"] / best["mean"]
    lab.decide("no-guaranteed-bound", holds=best["maximum"] > 0.1 if enough else None, value=ratio,
               note=f"{kind} ({start}): mean {best['mean']:.4f}, largest {best['maximum']:.3f}; "
               "undecided where the mean error itself is above 0.03")  # fmt: skip
    _bounds(lab, runs, best)
    _draw(lab, runs, best, f"{kind} ({start})")
    best["name"] = kind
    return best


def _bounds(lab: Lab, runs: dict[Any, dict[str, Any]], best: dict[str, Any]) -> None:
    tight = [min(r["bound_two"] + r["bound_maximum"]) for r in runs.values()]
    margin = min(r["bound_pointwise"] for r in runs.values())
    lab.decide("residual-bound", holds=min(tight) >= 1 and margin > -1e-9, value=min(tight),
               note=f"median {np.median(best['bound_two']):.1f} (2-norm) and "
               f"{np.median(best['bound_maximum']):.1f} (maximum) for the best network; "
               "the pointwise bound holds at every node")  # fmt: skip
    saved = best["warm"] / best["cold"]
    lab.decide(
        "hybrid",
        holds=True if saved < 0.97 else (False if best["mean"] < 0.03 else None),
        value=saved,
        note="undecided for a network that has not learnt (mean error above 0.03); best network: "
        f"{best['warm']:.0f} iterations (amplitude fitted to the source; "
        f"{best['warm_fitted']:.0f} with the true amplitude), {best['cold']:.0f} from zero; "
        f"relative error then {best['hybrid_error']:.1e}. The direct solver as preconditioner: 1.",
    )
    lab.table(
        "Bounds from the residual, and refinement by conjugate gradients to 1e-6",
        ["network", "start", "2-norm bound / error", "maximum bound / error", "iterations from 0",
         "from the network"],
        [[k, s, float(np.median(r["bound_two"])), float(np.median(r["bound_maximum"])), r["cold"],
          r["warm"]] for (k, s), r in runs.items()],
        "Medians over the test pairs. The bounds are rigorous and need one stencil pass; they are "
        "pessimistic because a network's error is rough, and the inverse would smooth it.",
    )  # fmt: skip


def _draw(lab: Lab, runs: dict[Any, dict[str, Any]], best: dict[str, Any], name: str) -> None:
    with house_style():
        fig, a = figure(width=6.4, height=3.6)
        kinds = list(dict.fromkeys(kind for kind, _ in runs))
        for (kind, start), r in runs.items():
            checks = np.asarray(r["checks"])
            k = kinds.index(kind)
            line = {"default": "--", "tune": "-"}.get(start, ":")
            a.plot(checks[:, 0], checks[:, 1], line, color=SERIES[k], label=f"{kind}, {start}")
        a.set(xlabel="training samples", ylabel="mean absolute error", yscale="log",
              title="Learning the field")  # fmt: skip
        a.legend(fontsize=7.5, loc="center left", bbox_to_anchor=(1, 0.5))
        lab.figure("learning.svg", fig, "Test error while training; dashed: usual start, "
                   "solid: kadanoff.tune, dotted: the authors' rate.")  # fmt: skip
        fig, axes = figure(1, 4, width=9.2, height=2.6)
        p = {key: np.asarray(value) for key, value in best["picture"].items()}
        error = np.abs(p["guess"] - p["y"])
        for ax, image, title, top in zip(
            axes, (p["alpha"], p["y"], p["guess"], error),
            ("source", "exact field", name, "error"), (1, 1, 1, error.max()),
        ):  # fmt: skip
            shown = ax.imshow(image.T, origin="lower", vmin=0, vmax=top, cmap="viridis")
            ax.set(title=title, xticks=[], yticks=[])
            ax.grid(False)
            fig.colorbar(shown, ax=ax, shrink=0.7)
        lab.figure("fields.png", fig, "One test pair (every second node) and "
                   "its prediction by the best network.")  # fmt: skip


def tune_section(lab: Lab) -> None:
    """The usual start beside kadanoff.tune over seeds, on a smaller lattice."""
    # the quick run looks again at what it has trained
    kind, size, samples = lab.pick(quick=("unet-4-3", 32, 1280), full=("unet-8-3", 48, 960))
    seeds = lab.pick(quick=1, full=3)
    first = lab.seed + lab.full
    pairs = [
        [_train(lab, kind, start, samples, size, first + s, 32)["mean"]
         for start in ("default", "tune")]
        for s in range(seeds)
    ]  # fmt: skip
    logs = np.log([b / a for a, b in pairs])
    error = float(logs.std(ddof=1) / math.sqrt(seeds)) if seeds > 1 else math.inf
    value = float(logs.mean())
    clear = abs(value) > 4 * error
    lab.decide(
        "tuned-start",
        holds=value < 0 if clear else None,
        value=math.exp(value),
        stderr=math.exp(value) * error if seeds > 1 else None,
        note=f"{seeds} seed(s), {samples} samples, lattice {size}; Adam at "
        f"{_DEFAULT['unet']:g} against tune with base {_BASE:g}; decided beyond four "
        "standard errors; one seed decides nothing",
    )
    lab.table(f"Test error of {kind} from either start",
              ["seed", "usual start", "kadanoff.tune"],
              [[k, *p] for k, p in enumerate(pairs)])  # fmt: skip


def rollback_section(lab: Lab) -> None:
    """Roll-back at a rate that is too high."""
    seeds = lab.pick(quick=1, full=3)
    epochs = lab.pick(quick=30, full=60)
    runs = [lab.part(f"roll-back-{s}", roll_back, 2e-2, 16, epochs, lab.seed + s)
            for s in range(seeds)]  # fmt: skip
    ratios = np.asarray([r["with"]["final"] / r["without"]["final"] for r in runs])
    rejected = sum(len(r["with"]["rejected"]) for r in runs)
    logs = np.log(ratios)
    error = float(logs.std(ddof=1) / math.sqrt(seeds)) if seeds > 1 else math.nan
    value = float(logs.mean())
    clear = seeds > 1 and rejected > 0 and abs(value) > 2 * error
    lab.decide(
        "roll-back",
        holds=value < 0 if clear else None,
        value=math.exp(value),
        stderr=math.exp(value) * error if seeds > 1 else None,
        note=f"U-Net on 64 pairs at a rate of 0.02, {seeds} seed(s): {rejected} epochs rejected; "
        "undecided within two standard errors, without a rejection or with one seed",
    )
    with house_style():
        fig, a = figure(width=6.0)
        r = max(runs, key=lambda run: len(run["with"]["rejected"]))
        a.plot(r["without"]["losses"], color=colour("muted"), label="without")
        a.plot(r["with"]["losses"], color=colour("measured"), label="with roll-back")
        bad = [k - 1 for k in r["with"]["rejected"]]
        points(a, bad, [r["with"]["losses"][k] for k in bad], label="rejected", index=7)
        a.set(xlabel="epoch", ylabel="training loss", yscale="log", title="Roll-back")
        a.legend()
        lab.figure("rollback.svg", fig, "Training loss at a rate that is too high.")


def speed_section(lab: Lab, best: dict[str, Any]) -> None:
    """The honest answer to "1000 times faster"."""
    t = lab.part("speeds", speeds, lab.pick(quick=3, full=10))
    stepping = t["time stepping, Chebyshev"]
    ratio = stepping / t["pair-64"]
    euler = t["time stepping, explicit Euler"] / t["pair-64"]
    fastest = min(v for k, v in t.items() if k.startswith(("unet", "fno")))
    lab.decide(
        "thousand-times",
        holds=ratio > 500,
        value=ratio,
        note=f"stabilised Runge–Kutta, the authors' kind of integrator; {euler:.1f} against the "
        "largest stable Euler steps. The authors' hardware is not known to us; on one CPU core a "
        f"network of 50 million parameters is the slower one; the lightest here that learns is "
        f"{stepping / fastest:.0f} times faster than time stepping.",
    )
    networks = {k: v for k, v in t.items() if k.startswith(_NETWORKS)}
    direct = {True: t["direct, float32, batch 16"], False: t["direct, float32"]}
    lowest = min(v / direct["batch" in k] for k, v in networks.items())
    lab.decide("direct-solver-wins", holds=lowest > 1, value=lowest,
               note="the fastest network is this much slower, and not exact")  # fmt: skip
    rows = [
        [k, 1e3 * v, v / t["direct, float32"]] for k, v in sorted(t.items(), key=lambda i: i[1])
    ]
    lab.table(
        "Milliseconds a field of 100 × 100, one CPU core",
        ["method", "ms", "over direct"],
        rows,
        "Tenth percentile of repeated calls.",
    )
    lab.say(
        "A thousand times faster than what?",
        f"""
        Time stepping to the stationary state takes {1e3 * stepping:.0f} ms, the authors' networks
        {1e3 * t["pair-64"]:.0f} ms, a U-Net of half a million parameters
        {1e3 * t["unet-8-4"]:.1f} ms, a direct solve {1e3 * t["direct, float32"]:.2f} ms. The direct
        solver is exact, differentiable and works in batches: on this problem no network can pay,
        whatever its accuracy. The large factor compares with time stepping.
        """,
    )
    with house_style():
        fig, a = figure(width=7.2, height=4.0)
        names = [r[0] for r in rows]
        kinds = ["critical" if n.startswith("direct") or "LU" in n else
                 "measured" if n.startswith(_NETWORKS) else "theory"
                 for n in names]  # fmt: skip
        a.barh(range(len(names)), [r[1] for r in rows], color=[colour(k) for k in kinds])
        a.set_yticks(range(len(names)), names, fontsize=7.5)
        a.set(xscale="log", xlabel="ms a field", title="Green: direct; blue: networks; "
              "orange: iterative")  # fmt: skip
        a.grid(False, axis="y")
        lab.figure("speed.svg", fig, "Time for one stationary field on the paper's lattice.")


def uptake_section(lab: Lab) -> None:
    """A problem for which a surrogate pays."""
    size, count = lab.pick(quick=(24, 500), full=(48, 2500))
    steps, seeds = lab.pick(quick=(500, 1), full=(3000, 2))
    data = lab.part("uptake-data", uptake_data, count, size, lab.seed)
    small = {"x": data["x"], "q": data["q"]}
    runs: dict[str, list[dict[str, Any]]] = {"default": [], "tune": []}
    for start, rate in (("default", 1e-3), ("tune", _BASE)):
        for s in range(seeds):
            runs[start].append(
                lab.part(f"uptake-{start}-{s}", uptake_network, small, start, rate, steps, s)
            )
    solvers = lab.part("uptake-speeds", uptake_speeds, size, lab.pick(quick=3, full=9), lab.seed)
    best = min((r for many in runs.values() for r in many), key=lambda r: sum(r["mean"]))
    # the fastest solver that is at least as accurate in both quantities
    fair = [s for s in solvers if all(a <= b for a, b in zip(s["error"], best["mean"]))]
    rival = min(fair, key=lambda s: s["batch"])
    ratio = rival["batch"] / best["batch"]
    cost = data["seconds"] + best["seconds"]
    even = cost / (rival["batch"] - best["batch"]) if ratio > 1 else math.inf
    single = min(s["one"] for s in fair) / best["one"]
    lab.decide(
        "where-it-pays",
        holds=ratio > 1,
        value=ratio,
        note=f"mean errors {best['mean'][0]:.4f} (hypoxic fraction) and {best['mean'][1]:.4f} (mean"
        f" concentration); one section at a time the ratio is {single:.0f}. Data and training cost"
        f" {cost:.0f} s, earned back after {even:,.0f} sections.",
    )
    lab.say(
        "Where a surrogate pays",
        rf"""
        Two vessels of fixed concentration in tissue that consumes it with saturation,
        $D\nabla^2u=V\,u/(K+u)$, no flux through the walls: six numbers (places, $V$, $K$) and two
        questions, the hypoxic fraction and the mean concentration. Exact answers take Newton with
        up to {data["newton"]} steps and {data["linear"]} preconditioned iterations. A network of
        three tanh layers of 64 learns the two answers from {count * 4 // 5} sections, and is then
        {ratio:.0f} times faster than the fastest solver of the same accuracy (a coarser lattice or
        a looser tolerance count as such). That is the pattern: a non-linear or costly problem, few
        inputs, few outputs, many queries (inference, design, cells that ask every second). A
        surrogate of the whole field of a linear problem has none of it.
        """,
    )
    lab.table(
        "Mean error and microseconds a section",
        ["method", "hypoxic fraction", "mean concentration", "one", "in batches"],
        [[f"solver, side {s['side']}, tolerance {s['tolerance']:g}", *s["error"], 1e6 * s["one"],
          1e6 * s["batch"]] for s in solvers]
        + [[f"network, {start} start, seed {k}", *r["mean"], 1e6 * r["one"], 1e6 * r["batch"]]
           for start, many in runs.items() for k, r in enumerate(many)],
        f"Truth: side {size}, tolerance 1e-9 (1e-7 for the training data).",
    )  # fmt: skip
    with house_style():
        fig, (a, b) = figure(1, 2, width=8.4)
        shown = a.imshow(np.asarray(data["example"]).T, origin="lower", cmap="viridis", vmin=0)
        a.set(title="Concentration, one section", xticks=[], yticks=[])
        a.grid(False)
        fig.colorbar(shown, ax=a, shrink=0.8)
        points(b, [1e6 * s["batch"] for s in solvers], [s["error"][0] for s in solvers],
               label="solver", index=2)  # fmt: skip
        for k, (start, many) in enumerate(runs.items()):
            points(b, [1e6 * r["batch"] for r in many], [r["mean"][0] for r in many],
                   label=f"network, {start}", index=k)  # fmt: skip
        b.set(xlabel="µs a section, in batches", ylabel="error of the hypoxic fraction",
              xscale="log", yscale="log", title="Cost against error")  # fmt: skip
        b.legend()
        lab.figure("uptake.svg", fig, "Left: tissue with two vessels and saturable uptake. Right: "
                   "solvers of several accuracies, and the network.")  # fmt: skip


def run(lab: Lab) -> None:
    """Run the study."""
    lab.plan(lab.pick(quick=12, full=26))
    solver_section(lab)
    best = networks_section(lab)
    tune_section(lab)
    rollback_section(lab)
    speed_section(lab, best)
    uptake_section(lab)

"""What the page says, in order: each section asks for its parts, decides, shows."""

from __future__ import annotations

from typing import Any

import numpy as np

from kadanoff.studies.diffusion_surrogates import decisions, figures, parts
from kadanoff.studies.lab import Lab
from kadanoff.tuning.rates import BASE

__all__ = ["run"]

# rates of the usual start (AdamW); kadanoff.tune's only number stays at its own default
_DEFAULT = {"pair": 1e-3, "first": 1e-3, "unet": 2e-3, "fno": 2e-3}
_BASE = BASE["adamw"]

Runs = dict[tuple[str, str], dict[str, Any]]


def run(lab: Lab) -> None:
    """Run the study."""
    lab.plan(lab.pick(quick=22, full=54))
    _solvers(lab)
    _networks(lab)
    _training(lab)
    _speed(lab)
    _uptake(lab)


def _solvers(lab: Lab) -> None:
    """Exact solvers, each against an independent route; sizes of the authors' networks."""
    size = lab.pick(quick=48, full=100)
    r = lab.part("solvers", parts.direct_solvers, size, lab.seed)
    decisions.exact_solver(lab, r, lab.part("sizes", parts.sizes), size)
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
    varying = f"D varying {r['contrast']:.3g}-fold, {r['variable_iterations']} iterations: residual"
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
            [varying, r["variable"]],
        ],
    )


def _train(
    lab: Lab,
    kind: str,
    start: str,
    samples: int,
    size: int,
    seed: int,
    test: int,
    rate: float | None = None,
) -> dict[str, Any]:
    """One training run; ``start`` is "default" or "tune"."""
    name = kind.split("-")[0]
    if rate is None:
        rate = _DEFAULT[name] if start == "default" else _BASE
    label = f"{kind}-{start}-{rate:g}-{size}-{seed}"
    setting = (kind, start, rate, size, samples, seed, test)
    checkpoint = str(lab.scratch(f"{label}.pt"))
    return lab.part(f"train-{label}", parts.train_network, *setting, checkpoint, lab.device)


def _networks(lab: Lab) -> None:
    """Train the networks; tell their errors, bounds and hybrids."""
    size = lab.pick(quick=32, full=100)
    test = lab.pick(quick=32, full=64)
    runs = _all_networks(lab, size, test)
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
    far = ("gradient_mean", "gradient_p99", "far_mean", "far_relative", "sum_error")
    shown = ("parameters", "samples", "mean", "p99", "maximum", *far)
    rows = []
    for (kind, start), r in runs.items():
        five = (r["five"]["mean"], r["five"]["maximum"])
        rows.append([kind, start, *(r[key] for key in shown), *five])
    lab.table(
        f"Errors of the normalised field, {size} × {size}, {test} test pairs",
        [
            "network",
            "start",
            "parameters",
            "samples",
            "mean",
            "p99",
            "max",
            "gradient mean",
            "gradient p99",
            "far mean",
            "far relative",
            "sum",
            "5: mean",
            "5: max",
        ],
        rows,
    )
    (kind, start), best = min(runs.items(), key=lambda item: item[1]["mean"])
    name = f"{kind} ({start})"
    constants = lab.part("constants", parts.constants, size, lab.seed, test)
    decisions.learning(lab, name, best, constants)
    decisions.bounds(lab, list(runs.values()), best, constants)
    rows = []
    for (kind, start), r in runs.items():
        medians = [float(np.median(r[key])) for key in ("bound_two", "bound_maximum")]
        rows.append([kind, start, *medians, r["cold"], r["warm"]])
    lab.table(
        "Bounds from the residual, and refinement by conjugate gradients to 1e-6",
        [
            "network",
            "start",
            "2-norm bound / error",
            "maximum bound / error",
            "iterations from 0",
            "from the network",
        ],
        rows,
        "Medians over the test pairs. The bounds are rigorous and need one stencil pass; they are "
        "pessimistic because a network's error is rough, and the inverse would smooth it.",
    )
    lab.figure(
        "learning.svg",
        figures.learning(runs),
        "Test error while training; dashed: usual start, "
        "solid: kadanoff.tune, dotted: the authors' rate.",
    )
    lab.figure(
        "fields.png",
        figures.fields(best["picture"], name),
        "One test pair (every second node) and its prediction by the best network.",
    )


def _all_networks(lab: Lab, size: int, test: int) -> Runs:
    plan = lab.pick(
        quick=[("first", 480), ("unet-4-3", 1280)],
        full=[("first", 480), ("pair-8", 480), ("unet-8-4", 5600)],
    )
    runs: Runs = {}
    for kind, samples in plan:
        for start in ("default", "tune"):
            # the tuned start is asked for over seeds, on a smaller lattice
            if start == "default" or kind != "unet-8-4":
                runs[kind, start] = _train(lab, kind, start, samples, size, lab.seed, test)
    # kadanoff.tune of a Fourier operator alone would take as long as the rest
    kind = lab.pick(quick="fno-8-8-2", full="fno-12-12-3")
    runs[kind, "default"] = _train(
        lab, kind, "default", lab.pick(quick=480, full=320), size, lab.seed, test
    )
    if lab.full:
        slow = _train(lab, "pair-8", "default", 480, size, lab.seed, test, 5e-6)
        runs["pair-8", "authors' rate"] = slow
    return runs


def _training(lab: Lab) -> None:
    """Losses, sizes of the training set, roll-back and starts, over seeds on a small lattice."""
    lab.say(
        "Training: losses, data, roll-back, starts",
        """
        Small U-Nets, many seeds. The authors weigh bright pixels more in some of their losses,
        train on twenty thousand pairs, and reject epochs that raise the loss abnormally: here two
        epochs are spoilt on purpose. Directions are decided by Student's t over seeds, four of
        them sharing the level.
        """,
    )
    size, samples = 32, lab.pick(quick=640, full=1920)
    seeds = range(lab.seed, lab.seed + lab.pick(quick=2, full=5))
    constants = lab.part("constants small", parts.constants, size, lab.seed, 64)
    pairs = [
        {
            name: lab.part(
                f"small 1024 {weight:g} {s}",
                *(parts.small_training, size, 1024, samples, weight, s, 64),
            )
            for name, weight in (("plain", 1e9), ("weighted", 0.2))
        }
        for s in seeds
    ]
    setting = f"U-Net, {samples:,} samples, lattice {size}"
    decisions.losses(lab, pairs, f"{setting}, weight e^(−(1−y)/0.2)")
    sizes = lab.pick(quick=(16, 256), full=(16, 64, 256, 1024))
    errors = [
        [
            lab.part(f"small {n} {1e9:g} {s}", parts.small_training, size, n, samples, 1e9, s, 64)[
                "mean"
            ]
            for n in sizes
        ]
        for s in seeds
    ]
    decisions.data_size(lab, sizes, errors, constants["median"], setting)
    _roll_back(lab, constants["median"])
    _tune(lab)
    lab.table(
        "Mean error by the size of the training set",
        ["pairs", "mean error", "±"],
        [
            [f"{n:,}", float(np.mean(row)), float(np.std(row, ddof=1) / len(row) ** 0.5)]
            for n, row in zip(sizes, zip(*errors))
        ],
        f"{setting}; the median image has {constants['median']:.3f}.",
    )


def _tune(lab: Lab) -> None:
    """The usual start beside kadanoff.tune over seeds, on a smaller lattice."""
    # the quick run looks again at what it has trained
    kind, size, samples = lab.pick(quick=("unet-4-3", 32, 1280), full=("unet-8-3", 48, 960))
    first = lab.seed + lab.full
    pairs = []
    for seed in range(first, first + lab.pick(quick=1, full=5)):
        starts = ("default", "tune")
        pairs.append([_train(lab, kind, s, samples, size, seed, 32)["mean"] for s in starts])
    setting = f"{kind}, {samples:,} samples, lattice {size}; AdamW at "
    setting += f"{_DEFAULT['unet']:g} against tune with base {_BASE:g}"
    constants = lab.part("constants tune", parts.constants, size, first, 32)
    decisions.tuned_start(lab, pairs, constants["median"], setting)
    lab.table(
        f"Test error of {kind} from either start",
        ["seed", "usual start", "kadanoff.tune"],
        [[k, *p] for k, p in enumerate(pairs)],
    )


def _roll_back(lab: Lab, constant: float) -> None:
    """Roll-back of two spoilt epochs."""
    epochs = lab.pick(quick=60, full=80)
    runs = [
        lab.part(f"roll-back-{s}", parts.roll_back, 2e-3, 16, epochs, lab.seed + s)
        for s in range(lab.pick(quick=2, full=5))
    ]
    decisions.roll_back(lab, runs, constant)
    shown = max(runs, key=lambda run: len(run["with"]["rejected"]))
    lab.figure("rollback.svg", figures.roll_back(shown), "Training loss with two spoilt epochs.")


def _speed(lab: Lab) -> None:
    """The honest answer to "1000 times faster"."""
    t = lab.part("speeds", parts.speeds, lab.pick(quick=3, full=10))
    stepping = t["time stepping, Chebyshev"]
    decisions.speed(lab, t)
    by_time = sorted(t.items(), key=lambda item: item[1])
    lab.table(
        "Milliseconds a field of 100 × 100, one CPU core",
        ["method", "ms", "over direct"],
        [[name, 1e3 * v, v / t["direct, float32"]] for name, v in by_time],
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
    lab.figure(
        "speed.svg",
        figures.speed({name: 1e3 * v for name, v in by_time}),
        "Time for one stationary field on the paper's lattice.",
    )


def _uptake(lab: Lab) -> None:
    """A problem for which a surrogate pays."""
    size, count = lab.pick(quick=(24, 500), full=(48, 2500))
    steps, seeds = lab.pick(quick=(500, 1), full=(3000, 2))
    data = lab.part("uptake-data", parts.uptake_data, count, size, lab.seed)
    small = {"x": data["x"], "q": data["q"]}
    runs: dict[str, list[dict[str, Any]]] = {"default": [], "tune": []}
    for start, rate in (("default", 1e-3), ("tune", _BASE)):
        for s in range(seeds):
            name = f"uptake-{start}-{s}"
            runs[start].append(lab.part(name, parts.uptake_network, small, start, rate, steps, s))
    repeats = lab.pick(quick=3, full=9)
    solvers = lab.part("uptake-speeds", parts.uptake_speeds, size, repeats, lab.seed)
    found = decisions.Rivals.of([r for many in runs.values() for r in many], solvers)
    q = np.array(data["q"])
    cut = len(q) * 4 // 5
    constant = float(np.abs(q[cut:, 0] - np.median(q[:cut, 0])).mean())
    decisions.where_it_pays(lab, found, data["seconds"], constant)
    ratio = found.ratio
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
    rows = []
    for s in solvers:
        name = f"solver, side {s['side']}, tolerance {s['tolerance']:g}"
        rows.append([name, *s["error"], 1e6 * s["one"], 1e6 * s["batch"]])
    for start, many in runs.items():
        for k, r in enumerate(many):
            name = f"network, {start} start, seed {k}"
            rows.append([name, *r["mean"], 1e6 * r["one"], 1e6 * r["batch"]])
    lab.table(
        "Mean error and microseconds a section",
        ["method", "hypoxic fraction", "mean concentration", "one", "in batches"],
        rows,
        f"Truth: side {size}, tolerance 1e-9 (1e-7 for the training data).",
    )
    lab.figure(
        "uptake.svg",
        figures.uptake(data["example"], solvers, runs),
        "Left: tissue with two vessels and saturable uptake. Right: "
        "solvers of several accuracies, and the network.",
    )

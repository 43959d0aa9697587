"""What decides each claim: from what was computed to holds, fails or undecided."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kadanoff.studies.claims import Baseline, Measured
from kadanoff.studies.lab import Lab

__all__ = [
    "NETWORKS",
    "Rivals",
    "bounds",
    "data_size",
    "exact_solver",
    "learning",
    "losses",
    "roll_back",
    "speed",
    "tuned_start",
    "where_it_pays",
]

# timings whose names begin so are those of networks
NETWORKS = ("pair", "first", "unet", "fno")


def exact_solver(lab: Lab, solvers: Mapping[str, float], counts: Sequence[int], size: int) -> None:
    """Two sine transforms against sparse LU; parameters of the authors' networks."""
    worst = max(solvers["lu"], solvers["residual"])
    lab.decide("exact-solver", worst, note=f"Lattice {size} × {size}, float64.")
    lab.decide("network-sizes", *(float(c) for c in counts))


def learning(lab: Lab, name: str, best: Mapping[str, Any], constants: Mapping[str, float]) -> None:
    """Whether the best network learns the field, and what its mean error says of the largest.

    ``constants`` are the mean errors of images that need no learning.
    """
    ratio = best["mean"] / constants["median"]
    rival = Baseline("the median image everywhere, mean error", constants["median"])
    note = (
        f"Best: {name} after {best['samples']:,} samples, mean error {best['mean']:.4f}; always 0 "
        f"has {constants['zero']:.3f}, the median image {constants['median']:.3f}."
    )
    if lab.full:
        lab.decide("learns-the-field", ratio, note=note, baseline=rival)
    else:
        lab.leave_open("learns-the-field", f"So short a training refutes nothing. {note}")
    lab.decide(
        "no-guaranteed-bound",
        best["maximum"],
        ratio,
        note=f"{name}: mean {best['mean']:.4f}, {best['maximum'] / best['mean']:.0f} times less "
        "than the largest.",
    )


def bounds(
    lab: Lab,
    runs: Sequence[Mapping[str, Any]],
    best: Mapping[str, Any],
    constants: Mapping[str, float],
) -> None:
    """The residual bounds the error; a network is a good first guess."""
    lab.decide(
        "residual-bound",
        min(min(r["bound_two"] + r["bound_maximum"]) for r in runs),
        min(r["bound_pointwise"] for r in runs),
        note=f"Median {np.median(best['bound_two']):.1f} (2-norm) and "
        f"{np.median(best['bound_maximum']):.1f} (maximum) for the best network.",
    )
    lab.decide(
        "hybrid",
        best["warm"] / best["cold"],
        best["mean"] / constants["median"],
        note=f"{best['warm']:.0f} iterations (amplitude fitted to the source; "
        f"{best['warm_fitted']:.0f} with the true amplitude), {best['cold']:.0f} from zero; "
        f"relative error then {best['hybrid_error']:.1e}. The direct solver as preconditioner: 1.",
        baseline=Baseline("the direct solver as preconditioner, iterations", 1.0),
    )


def losses(lab: Lab, pairs: Sequence[Mapping[str, Mapping[str, float]]], setting: str) -> None:
    """Errors of bright and of dark pixels, weighted against unweighted loss, a pair a seed."""
    bright = [math.log(p["weighted"]["bright"] / p["plain"]["bright"]) for p in pairs]
    dark = [math.log(p["weighted"]["dark"] / p["plain"]["dark"]) for p in pairs]
    lab.decide(
        "losses",
        Measured.over(bright),
        note=f"{setting}, {len(pairs)} seeds. Bright pixels: a factor of "
        f"{math.exp(float(np.mean(bright))):.2f}; pixels below 0.1: "
        f"{math.exp(float(np.mean(dark))):.2f}.",
    )


def data_size(
    lab: Lab,
    sizes: Sequence[int],
    errors: Sequence[Sequence[float]],
    constant: float,
    setting: str,
) -> None:
    """Power of the number of training pairs in the test error, a row a seed."""
    powers = [float(np.polyfit(np.log(sizes), np.log(row), 1)[0]) for row in errors]
    means = np.exp(np.log(errors).mean(0))
    lab.decide(
        "data-size",
        Measured.over(powers),
        note=f"{setting}, {len(errors)} seeds. Mean errors at "
        f"{', '.join(f'{n:,}' for n in sizes)} pairs: {', '.join(f'{e:.4f}' for e in means)}.",
        baseline=Baseline("the median image everywhere, mean error", constant),
    )


def tuned_start(lab: Lab, pairs: Sequence[Sequence[float]], constant: float, setting: str) -> None:
    """Test errors (usual start, tuned start), a pair a seed."""
    logs = [math.log(tuned / usual) for usual, tuned in pairs]
    lab.decide(
        "tuned-start",
        Measured.over(logs),
        note=f"{setting}, {len(pairs)} seed(s): a factor of {math.exp(float(np.mean(logs))):.2f}; "
        f"usual start {np.mean([p[0] for p in pairs]):.4f}, tuned "
        f"{np.mean([p[1] for p in pairs]):.4f}.",
        baseline=Baseline("the median image everywhere, mean error", constant),
    )


def roll_back(lab: Lab, runs: Sequence[Mapping[str, Any]], constant: float) -> None:
    """Final test error with roll-back over that without, a run a seed."""
    logs = [math.log(r["with"]["final"] / r["without"]["final"]) for r in runs]
    spoilt = sum(len(r["spoilt"]) for r in runs)
    caught = sum(len(set(r["with"]["rejected"]) & set(r["spoilt"])) for r in runs)
    false = sum(len(set(r["with"]["rejected"]) - set(r["spoilt"])) for r in runs)
    lab.decide(
        "roll-back",
        Measured.over(logs),
        caught / spoilt,
        note=f"U-Net, {len(runs)} seed(s); in each run two epochs have fields of the wrong sign, "
        f"thirty times too large. A factor of {math.exp(float(np.mean(logs))):.3f}; {false} other "
        "epochs were rejected.",
        baseline=Baseline("the median image everywhere, mean error", constant),
    )


def speed(lab: Lab, seconds: Mapping[str, float]) -> None:
    """Networks against time stepping and a direct solve; ``seconds`` a field, by method."""
    stepping = seconds["time stepping, Chebyshev"]
    ratio = stepping / seconds["pair-64"]
    euler = seconds["time stepping, explicit Euler"] / seconds["pair-64"]
    fastest = min(v for k, v in seconds.items() if k.startswith(("unet", "fno")))
    lab.decide(
        "thousand-times",
        ratio,
        note=f"Stabilised Runge–Kutta, the authors' kind of integrator; {euler:.1f} against the "
        "largest stable Euler steps. The authors' hardware is not known to us; on one CPU core a "
        f"network of 50 million parameters is the slower one; the lightest here that learns is "
        f"{stepping / fastest:.0f} times faster than time stepping.",
    )
    networks = {k: v for k, v in seconds.items() if k.startswith(NETWORKS)}
    direct = {True: seconds["direct, float32, batch 16"], False: seconds["direct, float32"]}
    lowest = min(v / direct["batch" in k] for k, v in networks.items())
    lab.decide("direct-solver-wins", lowest, note="And the solver is exact.")


@dataclass(frozen=True)
class Rivals:
    """The best network for a few quantities, and the fastest solver of equal accuracy.

    ``ratio`` is the solver's time over the network's in batches, ``single`` one at a time.
    """

    best: Mapping[str, Any]
    ratio: float
    single: float
    saved: float

    @classmethod
    def of(cls, runs: Sequence[Mapping[str, Any]], solvers: Sequence[Mapping[str, Any]]) -> Rivals:
        """Among all runs and solvers."""
        best = min(runs, key=lambda r: sum(r["mean"]))
        # the fastest solver that is at least as accurate in both quantities
        fair = [s for s in solvers if all(a <= b for a, b in zip(s["error"], best["mean"]))]
        rival = min(s["batch"] for s in fair)
        single = min(s["one"] for s in fair) / best["one"]
        return cls(best, rival / best["batch"], single, rival - best["batch"])


def where_it_pays(lab: Lab, found: Rivals, data_seconds: float, constant: float) -> None:
    """A small network against the fastest solver of equal accuracy."""
    best = found.best
    cost = data_seconds + best["seconds"]
    even = cost / found.saved if found.ratio > 1 else math.inf
    lab.decide(
        "where-it-pays",
        found.ratio,
        note=f"Mean errors {best['mean'][0]:.4f} (hypoxic fraction) and {best['mean'][1]:.4f} "
        f"(mean concentration); one section at a time the ratio is {found.single:.0f}. Data and "
        f"training cost {cost:.0f} s, earned back after {even:,.0f} sections.",
        baseline=Baseline("the median answer, error of the hypoxic fraction", constant),
    )

"""What decides each claim: from what was computed to holds, fails or undecided."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kadanoff.studies.lab import Lab

__all__ = [
    "NETWORKS",
    "Rivals",
    "bounds",
    "exact_solver",
    "learning",
    "roll_back",
    "speed",
    "tuned_start",
    "where_it_pays",
]

# timings whose names begin so are those of networks
NETWORKS = ("pair", "first", "unet", "fno")
# a mean absolute error of the normalised field below this counts as learnt
LEARNT = 0.03


def exact_solver(lab: Lab, solvers: Mapping[str, float], counts: Sequence[int], size: int) -> None:
    """Two sine transforms against sparse LU; parameters of the authors' networks."""
    worst = max(solvers["lu"], solvers["residual"])
    note = f"lattice {size} × {size}, float64"
    lab.decide("exact-solver", holds=worst < 1e-11, value=worst, note=note)
    shown = ", ".join(str(c) for c in counts)
    lab.decide("network-sizes", holds=list(counts) == [3075, 50290243], value=shown)


def learning(lab: Lab, name: str, best: Mapping[str, Any]) -> None:
    """Whether the best network learns the field, and what its mean error says of the largest."""
    enough = best["mean"] < LEARNT
    lab.decide(
        "learns-the-field",
        holds=True if enough else (False if best["samples"] >= 20_000 else None),
        value=best["mean"],
        note=f"best: {name} after {best['samples']} samples; the authors train on about "
        "20,000 pairs for up to 1000 epochs, and fewer samples than that refute nothing",
    )
    lab.decide(
        "no-guaranteed-bound",
        holds=best["maximum"] > 0.1 if enough else None,
        value=best["maximum"] / best["mean"],
        note=f"{name}: mean {best['mean']:.4f}, largest {best['maximum']:.3f}; "
        "undecided where the mean error itself is above 0.03",
    )


def bounds(lab: Lab, runs: Sequence[Mapping[str, Any]], best: Mapping[str, Any]) -> None:
    """The residual bounds the error; a network is a good first guess."""
    tight = min(min(r["bound_two"] + r["bound_maximum"]) for r in runs)
    margin = min(r["bound_pointwise"] for r in runs)
    lab.decide(
        "residual-bound",
        holds=tight >= 1 and margin > -1e-9,
        value=tight,
        note=f"median {np.median(best['bound_two']):.1f} (2-norm) and "
        f"{np.median(best['bound_maximum']):.1f} (maximum) for the best network; "
        "the pointwise bound holds at every node",
    )
    saved = best["warm"] / best["cold"]
    lab.decide(
        "hybrid",
        holds=True if saved < 0.97 else (False if best["mean"] < LEARNT else None),
        value=saved,
        note="undecided for a network that has not learnt (mean error above 0.03); best network: "
        f"{best['warm']:.0f} iterations (amplitude fitted to the source; "
        f"{best['warm_fitted']:.0f} with the true amplitude), {best['cold']:.0f} from zero; "
        f"relative error then {best['hybrid_error']:.1e}. The direct solver as preconditioner: 1.",
    )


def _geometric(ratios: Sequence[float]) -> tuple[float, float]:
    """Mean of ln ratio over seeds, and its standard error (NaN for one seed)."""
    logs = np.log(ratios)
    error = logs.std(ddof=1) / math.sqrt(len(logs)) if len(logs) > 1 else math.nan
    return float(logs.mean()), float(error)


def _as_ratio(value: float, error: float) -> tuple[float, float | None]:
    """The geometric mean itself, and its standard error if there is one."""
    return math.exp(value), None if math.isnan(error) else math.exp(value) * error


def tuned_start(lab: Lab, pairs: Sequence[Sequence[float]], setting: str) -> None:
    """Test errors (usual start, tuned start), a pair a seed."""
    value, error = _geometric([tuned / usual for usual, tuned in pairs])
    clear = len(pairs) > 1 and abs(value) > 4 * error
    ratio, stderr = _as_ratio(value, error)
    lab.decide(
        "tuned-start",
        holds=value < 0 if clear else None,
        value=ratio,
        stderr=stderr,
        note=f"{len(pairs)} seed(s), {setting}; decided beyond four "
        "standard errors; one seed decides nothing",
    )


def roll_back(lab: Lab, runs: Sequence[Mapping[str, Any]]) -> None:
    """Final loss with roll-back over that without, a run a seed."""
    value, error = _geometric([r["with"]["final"] / r["without"]["final"] for r in runs])
    rejected = sum(len(r["with"]["rejected"]) for r in runs)
    clear = len(runs) > 1 and rejected > 0 and abs(value) > 2 * error
    ratio, stderr = _as_ratio(value, error)
    lab.decide(
        "roll-back",
        holds=value < 0 if clear else None,
        value=ratio,
        stderr=stderr,
        note=f"U-Net on 64 pairs at a rate of 0.02, {len(runs)} seed(s): {rejected} epochs "
        "rejected; undecided within two standard errors, without a rejection or with one seed",
    )


def speed(lab: Lab, seconds: Mapping[str, float]) -> None:
    """Networks against time stepping and a direct solve; ``seconds`` a field, by method."""
    stepping = seconds["time stepping, Chebyshev"]
    ratio = stepping / seconds["pair-64"]
    euler = seconds["time stepping, explicit Euler"] / seconds["pair-64"]
    fastest = min(v for k, v in seconds.items() if k.startswith(("unet", "fno")))
    lab.decide(
        "thousand-times",
        holds=ratio > 500,
        value=ratio,
        note=f"stabilised Runge–Kutta, the authors' kind of integrator; {euler:.1f} against the "
        "largest stable Euler steps. The authors' hardware is not known to us; on one CPU core a "
        f"network of 50 million parameters is the slower one; the lightest here that learns is "
        f"{stepping / fastest:.0f} times faster than time stepping.",
    )
    networks = {k: v for k, v in seconds.items() if k.startswith(NETWORKS)}
    direct = {True: seconds["direct, float32, batch 16"], False: seconds["direct, float32"]}
    lowest = min(v / direct["batch" in k] for k, v in networks.items())
    note = "the fastest network is this much slower, and not exact"
    lab.decide("direct-solver-wins", holds=lowest > 1, value=lowest, note=note)


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


def where_it_pays(lab: Lab, found: Rivals, data_seconds: float) -> None:
    """A small network against the fastest solver of equal accuracy."""
    best = found.best
    cost = data_seconds + best["seconds"]
    even = cost / found.saved if found.ratio > 1 else math.inf
    lab.decide(
        "where-it-pays",
        holds=found.ratio > 1,
        value=found.ratio,
        note=f"mean errors {best['mean'][0]:.4f} (hypoxic fraction) and {best['mean'][1]:.4f} (mean"
        f" concentration); one section at a time the ratio is {found.single:.0f}. Data and training"
        f" cost {cost:.0f} s, earned back after {even:,.0f} sections.",
    )

"""What decides each claim: from what was computed to holds, fails or undecided."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kadanoff.studies.lab import Lab

__all__ = [
    "RUNGS",
    "aspect",
    "change_by_training",
    "energies",
    "ensemble",
    "ladder",
    "learnt_sparse",
    "no_free_lunch",
    "one_sample",
    "orders",
    "parity_basis",
    "power",
    "relative_errors",
    "samples",
]

RUNGS = ("generic", "2-local", "local", "translation invariant")
# power of N in the samples a rung needs, with what its small N allow
LIMITS = {"2-local": (1.4, 2.2), "local": (0.75, 1.25), "translation invariant": (-0.25, 0.25)}


def no_free_lunch(lab: Lab, found: Mapping[str, Any], sets: int) -> None:
    """Half right over all labelings, with the spread of a fair coin; better on sparse ones."""
    first = next(iter(found.values()))
    off = max(abs(f["all"][0] - 0.5) for f in found.values())
    lab.decide(
        "no-free-lunch",
        holds=all(f["all"][2] for f in found.values()),
        value=0.5 + off,
        note=f"In exact fractions: {len(found)} learners, {sets} sets of 8 training corners, "
        "all 65,536 labelings of 4 bits; each single average is 1/2.",
    )
    ratio = max(abs(f["all"][3] / f["all"][4] - 1) for f in found.values())
    lab.decide(
        "spread",
        holds=ratio < 1e-12,
        value=first["all"][3],
        note="1/(2√8), for every learner.",
    )
    least = min(f["1-juntas"][0] - 4 * (f["1-juntas"][1] or 0.0) for f in found.values())
    lab.decide(
        "sparse-lunch",
        holds=least > 0.5,
        value=min(f["1-juntas"][0] for f in found.values()),
        note="Lowest accuracy of any learner on functions of at most one bit, four standard errors "
        "over training sets above 1/2.",
    )


def ladder(lab: Lab, counts: Mapping[int, Mapping[str, int]]) -> None:
    """Couplings of N spins, rung by rung: 2^N − 1, N(N+1)/2, 2N, 2."""
    right = all(
        list(row.values()) == [2**N - 1, N * (N + 1) // 2, 2 * N, 2] for N, row in counts.items()
    )
    lab.decide(
        "ladder",
        holds=right,
        value=list(counts[16].values()),
        note="16 spins on a ring; the constant of the energy is left out.",
    )


def energies(lab: Lab, rows: Sequence[Sequence[Any]]) -> None:
    """As many energies as couplings, and no fewer."""
    # parities of random states are dependent now and then
    enough = all(
        r[1] <= r[2] <= 1.5 * r[1] + 8 and r[4] < 1e-8 and (r[3] > 1e-8 or r[1] < 4) for r in rows
    )
    lab.decide(
        "energies",
        holds=enough,
        value=[r[2] / r[1] for r in rows],
        note="Energies needed over couplings, per rung; with fewer, the fit is wrong.",
    )


def samples(lab: Lab, found: Mapping[str, Any], spins: Mapping[str, list[int]]) -> None:
    """Samples against couplings, over all rungs; and against spins, rung by rung."""
    every = np.array([row for rung in RUNGS for row in found[rung]])
    slope, slope_error, _ = power(every[:, 0], every[:, 1], every[:, 2])
    lab.compare(
        "samples",
        slope,
        slope_error,
        systematic=0.1,
        note="Power of the number of couplings in the samples needed, over all rungs and N. "
        "Pseudo-likelihood, its prior and the next order of T/2M are allowed 0.1.",
    )
    growth = {}
    for rung in RUNGS[1:]:
        M = np.array(found[rung])
        growth[rung] = power(np.array(spins[rung]), M[:, 1], M[:, 2])[:2]
    M = np.array(found["generic"])
    base = np.exp(np.polyfit(spins["generic"], np.log(M[:, 1]), 1)[0])
    fits = all(
        low <= growth[rung][0] + 3 * growth[rung][1]
        and growth[rung][0] - 3 * growth[rung][1] <= high
        for rung, (low, high) in LIMITS.items()
    )
    lab.decide(
        "growth",
        holds=bool(fits and 1.6 < base < 2.5) if lab.full else None,
        value=[float(base), *(growth[r][0] for r in RUNGS[1:])],
        note="Factor per spin (generic), and powers of N: N(N+1)/2 couplings over this range make "
        f"1.8 of k = 2. Their errors: {', '.join(f'{growth[r][1]:.2f}' for r in RUNGS[1:])}."
        + ("" if lab.full else " Too few N at this size."),
    )


def power(x: np.ndarray, y: np.ndarray, error: np.ndarray) -> tuple[float, float, float]:
    """Slope of ln y on ln x, its standard error, and the intercept."""
    design = np.stack([np.log(x), np.ones(len(x))], 1) / (error / y)[:, None]
    covariance = np.linalg.inv(design.T @ design)
    slope, intercept = covariance @ design.T @ (np.log(y) / (error / y))
    return float(slope), math.sqrt(covariance[0, 0]), float(intercept)


def one_sample(lab: Lab, rows: Sequence[Sequence[float]], side: int) -> None:
    """One configuration of a large lattice gives its two couplings."""
    value, error = rows[0][1:3]
    lab.decide(
        "one-sample",
        holds=bool(value + 4 * error < 0.1) if lab.full else None,
        value=value,
        stderr=error,
        note=f"Rms error of field and bond from single configurations of a {side} × {side} "
        "lattice, over 32 of them; below 0.1 asked for."
        + ("" if lab.full else " The lattice is small at this size."),
    )


def change_by_training(found: Mapping[str, Any], seeds: int) -> dict[str, tuple[float, float]]:
    """Effective couplings after training on each target: mean over seeds, standard error."""
    change = {}
    for name, runs in found.items():
        c = np.array([r["couplings"] for r in runs])
        change[name] = (c[:, 1].mean(), c[:, 1].std(ddof=1) / math.sqrt(seeds))
    return change


def learnt_sparse(lab: Lab, change: Mapping[str, tuple[float, float]], of_target: float) -> None:
    """Fewer couplings after training on a sparse target than on random labels."""
    sparse, noise = change["x1 x2"], change["random labels"]
    gap = noise[0] - sparse[0]
    error = math.hypot(sparse[1], noise[1])
    lab.decide(
        "learnt-sparse",
        holds=bool(gap > 4 * error and sparse[0] < of_target * 4 + 8),
        value=[sparse[0], noise[0]],
        stderr=error,
        note="Effective couplings, exp(entropy of the squared Walsh spectrum), after training on "
        "x1 x2 and on random labels.",
    )


def parity_basis(lab: Lab, spectra: Sequence[Sequence[Any]], n: int) -> None:
    """Kernels are diagonal in the parities, with one eigenvalue a degree."""
    worst = max(r[4] for r in spectra)
    lab.decide(
        "parity-basis",
        holds=worst < 1e-9,
        value=worst,
        note=f"Largest matrix element off the diagonal or off its degree's value, relative; "
        f"{n + 1} numbers instead of {2**n}.",
    )


def orders(lab: Lab, errors: np.ndarray, widths: Sequence[int]) -> None:
    """Each order of 1/n removes a power of n from the error of the density."""
    slope = [-math.log2(errors[-1, k] / errors[-2, k]) for k in range(3)]
    lab.decide(
        "orders",
        holds=all(abs(s - k - 1) < 0.35 for k, s in enumerate(slope)),
        value=slope,
        note=f"Power of 1/n in the error of the output density at order 0, 1, 2, between n = "
        f"{widths[-2]} and {widths[-1]}: the exact law is known; 1, 2, 3 expected, 0.35 allowed.",
    )


def relative_errors(
    four: Sequence[Mapping[str, Any]],
) -> tuple[list[list[float]], list[float]]:
    """Largest error of the four-point functions at order 0 and 1, and the statistical one.

    Each relative to the largest component, one entry a width.
    """
    scale = [np.abs(np.array(f["measured"])).max() for f in four]
    gap = [
        [float(np.abs(np.array(f["measured"]) - f[o]).max() / s) for o in ("order 0", "order 1")]
        for f, s in zip(four, scale)
    ]
    noise = [float(np.max(f["error"]) / s) for f, s in zip(four, scale)]
    return gap, noise


def ensemble(
    lab: Lab,
    gap: Sequence[Sequence[float]],
    noise: Sequence[float],
    numbers: tuple[int, int],
    setting: str,
) -> None:
    """Order 1/n removes two thirds of the error of the four-point functions."""
    biggest = list(gap[-1])
    clear = biggest[0] > 8 * noise[-1]
    lab.decide(
        "ensemble",
        holds=bool(biggest[1] < 0.34 * biggest[0]) if clear else None,
        value=biggest,
        stderr=noise[-1],
        note="Relative error of the four-point functions of 2 inputs at order 0 "
        f"({numbers[0]} numbers) and 1/n ({numbers[1]}), at {setting}; order 1/n is to remove "
        "two thirds." + ("" if clear else " The error bar is too wide."),
    )


def aspect(lab: Lab, table: np.ndarray, budget: int) -> None:
    """At equal numbers of parameters fluctuations grow with L/n."""
    lift = (table[1:, 4] - table[0, 4]) / np.hypot(table[1:, 5], table[0, 5])
    rising = bool(lift.max() > 4 and lift.min() > -2)
    # order 1/n² of (1 + 5/n)^L − 1 is half the square of order 1/n
    shallow = abs(table[0, 4] - table[0, 3]) < 4 * table[0, 5] + 0.6 * table[0, 3] ** 2
    lab.decide(
        "aspect",
        holds=rising and bool(shallow),
        value=table[:, 4].tolist(),
        stderr=float(table[-1, 5]),
        note=f"Measured V/(nK²) at equal budget ({budget:,} weights) and L/n = "
        f"{', '.join(f'{x:.3g}' for x in table[:, 2])}: growing, and at the smallest as "
        "predicted at order 1/n.",
    )

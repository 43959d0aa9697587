"""What decides each claim: from what was computed to holds, fails or undecided."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kadanoff.studies.claims import Baseline, Measured
from kadanoff.studies.lab import Lab
from kadanoff.studies.sparsity_principle.claims import RUNGS

__all__ = [
    "POWERS",
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

Need = Sequence[Sequence[float]]
"""Couplings, samples needed, standard error: a row a number of spins."""

# samples needed are looked at for these divergences, in nats; each half of the one before
POWERS = (0.1, 0.05, 0.025)
# what the pseudo-likelihood may lose against the likelihood, as a power of the couplings
_EFFICIENCY = 0.02


def no_free_lunch(lab: Lab, found: Mapping[str, Any], sets: int) -> None:
    """Half right over all labelings, with the spread of a fair coin; better on sparse ones."""
    means = [f["all"][0] for f in found.values()]
    lab.decide(
        "no-free-lunch",
        max(means, key=lambda value: abs(value - 0.5)),
        note=f"{len(found)} learners, {sets} sets of 8 training corners, all 65,536 labelings of "
        "4 bits; each single average is 1/2 in integers: "
        f"{'yes' if all(f['all'][2] for f in found.values()) else 'no'}.",
    )
    spreads = [f["all"][3] for f in found.values()]
    expected = next(iter(found.values()))["all"][4]
    lab.decide(
        "spread",
        max(spreads, key=lambda value: abs(value - expected)),
        note="1/(2√8); of all learners the one furthest off.",
    )
    worst = min(found.values(), key=lambda f: f["1-juntas"][0])["1-juntas"]
    lab.decide(
        "sparse-lunch",
        Measured(worst[0], worst[1] or None),
        note=f"Over {sets} training sets.",
        baseline=Baseline("guessing", 0.5),
    )


def ladder(lab: Lab, counts: Mapping[int, Mapping[str, int]]) -> None:
    """Couplings of N spins, rung by rung: 2^N − 1, N(N+1)/2, 2N, 2."""
    lab.decide(
        "ladder",
        *(float(v) for v in counts[16].values()),
        note="16 spins on a ring; the constant of the energy is left out.",
    )


def energies(lab: Lab, rows: Sequence[Sequence[Any]]) -> None:
    """As many energies as couplings, and no fewer."""
    lab.decide(
        "energies",
        *(r[2] / r[1] for r in rows),
        max(r[4] for r in rows),
        min(r[3] for r in rows),
        note="States chosen by QR with pivoting among all of them.",
    )


def samples(
    lab: Lab, found: Mapping[float, Mapping[str, Need]], spins: Mapping[str, list[int]]
) -> None:
    """Samples against couplings, over all rungs; and against spins, rung by rung.

    ``found`` holds the samples needed by divergence and rung.
    """
    slopes = []
    for divergence in POWERS:
        every = np.array([row for rung in RUNGS for row in found[divergence][rung]])
        slopes.append(power(every[:, 0], every[:, 1], every[:, 2])[:2])
    (first, _), (second, second_error), (third, third_error) = slopes
    # the next order of the divergence T/2M is of relative order of the divergence itself
    limit, before = 2 * third - second, 2 * second - first
    lab.decide(
        "samples",
        Measured(
            limit,
            math.hypot(2 * third_error, second_error),
            allowance=abs(limit - before) + _EFFICIENCY,
        ),
        note="Over all rungs and N. Powers at "
        + ", ".join(f"{d:g}" for d in POWERS)
        + f" nats: {first:.3f}, {second:.3f}, {third:.3f}.",
    )
    if not lab.full:
        lab.leave_open("growth", "Too few numbers of spins at this size.")
        return
    powers = []
    for rung in RUNGS:
        by = []
        for divergence in POWERS[1:]:
            M = np.array(found[divergence][rung])
            x = M[:, 0] if rung != RUNGS[-1] else np.array(spins[rung], float)
            by.append(power(x, M[:, 1], M[:, 2])[:2])
        (earlier, _), (value, error) = by
        powers.append(Measured(value, error, allowance=abs(value - earlier) + _EFFICIENCY))
    generic = np.array(found[POWERS[-1]]["generic"])
    base = math.exp(np.polyfit(spins["generic"], np.log(generic[:, 1]), 1)[0])
    lab.decide(
        "growth",
        *powers,
        note=f"At {POWERS[-1]:g} nats, against the couplings at the same N, which grow as the "
        f"claim says. Generic: a factor {base:.2f} a spin.",
    )


def power(x: np.ndarray, y: np.ndarray, error: np.ndarray) -> tuple[float, float, float]:
    """Slope of ln y on ln x, its standard error, and the intercept."""
    design = np.stack([np.log(x), np.ones(len(x))], 1) / (error / y)[:, None]
    covariance = np.linalg.inv(design.T @ design)
    slope, intercept = covariance @ design.T @ (np.log(y) / (error / y))
    return float(slope), math.sqrt(covariance[0, 0]), float(intercept)


def one_sample(lab: Lab, rows: Mapping[int, Sequence[float]]) -> None:
    """One configuration of a large lattice gives its two couplings; (rms, error) by side."""
    if not lab.full:
        lab.leave_open("one-sample", "The lattice is small at this size.")
        return
    sides = np.array(list(rows), float)
    table = np.array(list(rows.values()))
    slope, error, _ = power(sides, table[:, 0], table[:, 1])
    value, spread = rows[20]
    lab.decide(
        "one-sample",
        Measured(value, spread),
        Measured(slope, error),
        note="Single configurations of a 20 × 20 lattice; power over sides "
        + ", ".join(str(side) for side in rows)
        + ".",
        baseline=Baseline("no couplings at all", math.sqrt((0.05**2 + 0.3**2) / 2)),
    )


def change_by_training(found: Mapping[str, Any], seeds: int) -> dict[str, tuple[float, float]]:
    """Effective couplings after training on each target: mean over seeds, standard error."""
    change = {}
    for name, runs in found.items():
        c = np.array([r["couplings"] for r in runs])
        change[name] = (c[:, 1].mean(), c[:, 1].std(ddof=1) / math.sqrt(seeds))
    return change


def learnt_sparse(
    lab: Lab, change: Mapping[str, tuple[float, float]], before: float, n: int
) -> None:
    """Fewer couplings after training on a sparse target than on random labels."""
    sparse, noise = change["x1 x2"], change["random labels"]
    lab.decide(
        "learnt-sparse",
        Measured(noise[0] - sparse[0], math.hypot(sparse[1], noise[1])),
        Measured(*sparse),
        note="Effective couplings, exp(entropy of the squared Walsh spectrum), of networks of "
        f"{n} bits after training on half of the corners.",
        baseline=Baseline("the same networks untrained, effective couplings", before),
    )


def parity_basis(lab: Lab, spectra: Sequence[Sequence[Any]], n: int) -> None:
    """Kernels are diagonal in the parities, with one eigenvalue a degree."""
    lab.decide(
        "parity-basis",
        max(r[4] for r in spectra),
        note=f"Largest matrix element off the diagonal or off its degree's value; "
        f"{n + 1} numbers instead of {2**n}.",
    )


def orders(lab: Lab, errors: np.ndarray, widths: Sequence[int]) -> None:
    """Each order of 1/n removes a power of n from the error of the density."""
    if len(widths) < 4:
        lab.leave_open("orders", "Too few widths at this size to extrapolate.")
        return
    numbers = []
    for k in range(3):
        local = -np.diff(np.log2(errors[:, k]))[-3:]
        limit, before = 2 * local[2] - local[1], 2 * local[1] - local[0]
        numbers.append(Measured(float(limit), allowance=float(abs(limit - before))))
    lab.decide(
        "orders",
        *numbers,
        note=f"Powers between widths {', '.join(str(n) for n in widths)}, extrapolated in 1/n; "
        "the exact law is known.",
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
    (leading, first), error = gap[-1], noise[-1]
    lab.decide(
        "ensemble",
        Measured(first / leading, error / leading),
        leading / error,
        note=f"Four-point functions of 2 inputs by {numbers[0]} numbers (order 0) and "
        f"{numbers[1]} (1/n), at {setting}: relative errors {leading:.3g} and {first:.3g}.",
    )


def aspect(lab: Lab, table: np.ndarray, budget: int, networks: int) -> None:
    """Fluctuations at equal numbers of parameters: exact, to order 1/n, and as sampled.

    Columns of ``table``: L, n, L/n, order 1/n, exact, measured, its standard error, and the
    relative standard error that so many networks must have.
    """
    ratio, first, exact, measured, error, expected = table[:, 2:].T
    lab.decide(
        "aspect",
        float((exact[1:] / exact[:-1]).min()),
        note=f"Exact V/(nK²) of critical ReLU networks of {budget:,} weights at L/n = "
        f"{', '.join(f'{x:.3g}' for x in ratio)}: {', '.join(f'{v:.3g}' for v in exact)}.",
    )
    # where the exact law itself says that so many networks measure the variance to a tenth
    seen = expected < 0.1
    z = np.abs(measured - exact)[seen] / error[seen]
    lab.decide(
        "aspect-exact",
        Measured(float(z.max()), samples=int(seen.sum())),
        note=f"{networks:,} networks at L/n = {', '.join(f'{x:.3g}' for x in ratio[seen])}; "
        "deeper ones would need more: by the exact law the variance of "
        f"{networks:,} networks at L/n = {ratio[-1]:.3g} has a relative error of "
        f"{expected[-1]:.1g}.",
    )
    lab.decide(
        "aspect-first-order",
        Measured(float(exact[0] / first[0]), allowance=float(first[0] / 2)),
        float(exact[-1] / first[-1]),
        note=f"At L/n = {ratio[-1]:.3g} order 1/n says {first[-1]:.3g}, the exact law "
        f"{exact[-1]:.3g}.",
    )
    lab.decide(
        "aspect-blind",
        float(measured[-1] / exact[-1]),
        note=f"{networks:,} networks give {measured[-1]:.3g} ± {error[-1]:.2g}, an error bar that "
        "looks fine: the sample does not know what it has not seen. That this once agreed with "
        f"order 1/n ({first[-1]:.3g}) was an accident.",
    )

"""The sparsity principle: why is AI hard and physics simple? (Roberts 2021, the essay.)"""

from __future__ import annotations

import math

import numpy as np

from kadanoff.studies.lab import Lab
from kadanoff.studies.sparsity_principle import parts
from kadanoff.studies.sparsity_principle.page_networks import near_gaussian

__all__ = ["run"]

RUNGS = ("generic", "2-local", "local", "translation invariant")


def run(lab: Lab) -> None:
    n = 4
    names = list(parts.learners(n))
    spins = {
        "generic": lab.pick(quick=[3, 4, 5], full=[3, 4, 5, 6, 7, 8]),
        "2-local": lab.pick(quick=[4, 6], full=[4, 6, 8, 10, 12]),
        "local": lab.pick(quick=[4, 8], full=[4, 6, 8, 10, 12, 14]),
        "translation invariant": lab.pick(quick=[4, 8], full=[4, 6, 8, 10, 12, 14]),
    }
    widths = lab.pick(quick=[16], full=[8, 16, 32, 64])
    lab.plan(len(names) + sum(len(N) for N in spins.values()) + len(widths) + 6)
    _no_free_lunch(lab, n, names)
    _ladder(lab, spins)
    _spectra(lab)
    near_gaussian(lab, widths)
    lab.say(
        "What is the essay's and what is ours",
        """
        The counting of labelings, the ladder from 2^O(N) over O(N^k) and O(N) to O(1), and the
        thesis that networks on natural data have sparse effective descriptions are the essay's
        (read through a summary of it). The experiments, the number of samples as a measure of
        sparsity and the component counts are ours. That *natural* data are sparse is a
        statement about the world and is not decided by anything on this page.
        """,
    )


def _no_free_lunch(lab: Lab, n: int, names: list[str]) -> None:
    from kadanoff.style.figures import SERIES, figure, house_style

    sets = lab.pick(quick=2, full=10)
    found = {x: lab.part(f"free lunch {x}", parts.free_lunch, n, x, sets, lab.seed) for x in names}
    families = list(found[names[0]])
    off = max(abs(f["all"][0] - 0.5) for f in found.values())
    lab.decide(
        "no-free-lunch",
        holds=all(f["all"][2] for f in found.values()),
        value=0.5 + off,
        note=f"In exact fractions: {len(names)} learners, {sets} sets of 8 training corners, "
        "all 65,536 labelings of 4 bits; each single average is 1/2.",
    )
    ratio = max(abs(f["all"][3] / f["all"][4] - 1) for f in found.values())
    lab.decide(
        "spread",
        holds=ratio < 1e-12,
        value=found[names[0]]["all"][3],
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
    lab.say(
        "No free lunch, by enumeration",
        r"""
        Four bits have 16 images and $2^{16} = 65{,}536$ labelings. Each learner is shown 8 images
        and asked about the other 8. Over *all* labelings it is right exactly half of the time,
        whatever it does, with a spread of $1/(2\sqrt 8)$: this is checked in integers, labeling by
        labeling. On labelings that only a few bits decide, or of low degree, the same learners do
        better than chance: each where its bias fits.
        """,
    )
    head = ["learner", *(f"{x} ({found[names[0]][x][5]})" for x in families)]
    rows = [[x, *(found[x][y][0] for y in families)] for x in names]
    lab.table("Accuracy off the training set (number of labelings)", head, rows)
    with house_style():
        fig, ax = figure(width=7.4, height=3.2)
        at = np.arange(len(names))
        for k, family in enumerate(families):
            height = [found[x][family][0] for x in names]
            error = [found[x][family][1] or 0 for x in names]
            ax.bar(at + 0.2 * k - 0.3, height, 0.2, yerr=error, label=family, color=SERIES[k])
        ax.axhline(0.5, color="k", lw=0.8)
        ax.set_xticks(at, [x.replace(", ", ",\n").replace(" (", "\n(") for x in names], fontsize=8)
        ax.set(ylabel="accuracy off the training set", ylim=(0.3, 1.15))
        ax.legend(ncol=4, loc="upper center")
    lab.figure(
        "lunch.svg",
        fig,
        "No learner beats one half over all labelings; all do on functions of one bit.",
    )


def _ladder(lab: Lab, spins: dict[str, list[int]]) -> None:
    from kadanoff.studies.sparsity_principle.ising import ladder
    from kadanoff.style.figures import DASHES, SERIES, colour, figure, house_style, points

    counts = {N: ladder((N,)) for N in (4, 8, 16, 32)}
    right = all(
        list(row.values()) == [2**N - 1, N * (N + 1) // 2, 2 * N, 2] for N, row in counts.items()
    )
    lab.decide(
        "ladder",
        holds=right,
        value=list(counts[16].values()),
        note="16 spins on a ring; the constant of the energy is left out.",
    )
    lab.table(
        "Couplings of a ring of N spins",
        ["N", *counts[4]],
        [[str(N), *(f"{v:,}" for v in row.values())] for N, row in counts.items()],
    )
    rows = lab.part("energies", parts.energies_needed, lab.pick(quick=7, full=9), lab.seed)
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
    lab.table(
        "Energies that determine a Hamiltonian",
        ["rung", "couplings", "energies needed", "error one below", "error there"],
        [[r[0], str(r[1]), str(r[2]), *r[3:]] for r in rows],
    )
    target, repeats = 0.1, lab.pick(quick=6, full=16)
    found = {
        rung: [
            lab.part(f"{rung} {N}", parts.need, rung, N, target, repeats, lab.seed) for N in sizes
        ]
        for rung, sizes in spins.items()
    }
    every = np.array([row for rung in RUNGS for row in found[rung]])
    slope, slope_error, _ = _power(every[:, 0], every[:, 1], every[:, 2])
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
        growth[rung] = _power(np.array(spins[rung]), M[:, 1], M[:, 2])[:2]
    M = np.array(found["generic"])
    base = np.exp(np.polyfit(spins["generic"], np.log(M[:, 1]), 1)[0])
    limits = {"2-local": (1.4, 2.2), "local": (0.75, 1.25), "translation invariant": (-0.25, 0.25)}
    fits = all(
        a <= growth[r][0] + 3 * growth[r][1] and growth[r][0] - 3 * growth[r][1] <= b
        for r, (a, b) in limits.items()
    )
    lab.decide(
        "growth",
        holds=bool(fits and 1.6 < base < 2.5) if lab.full else None,
        value=[float(base), *(growth[r][0] for r in RUNGS[1:])],
        note="Factor per spin (generic), and powers of N: N(N+1)/2 couplings over this range make "
        f"1.8 of k = 2. Their errors: {', '.join(f'{growth[r][1]:.2f}' for r in RUNGS[1:])}."
        + ("" if lab.full else " Too few N at this size."),
    )
    lab.say(
        "The ladder of sparsity, learnt",
        r"""
        A ring of N spins with one field and one bond ($h = 0.1$, $J = 0.3$, in units of the
        temperature) is sampled, and learnt by pseudo-likelihood at four rungs: all subsets may
        interact; all pairs; neighbours; neighbours, everywhere the same. The samples after which
        the learnt distribution is within 0.1 nats of the true one (exact divergence over all
        states) follow $T/2M$: they count the *couplings T* of the rung. The data have one law at
        every rung; only what is assumed differs.
        """,
    )
    with house_style():
        fig, (left, right_) = figure(1, 2, width=8.6, height=3.4)
        for k, rung in enumerate(RUNGS):
            M = np.array(found[rung])
            for ax, x in ((left, spins[rung]), (right_, M[:, 0])):
                points(ax, x, M[:, 1], M[:, 2], label=rung, index=k)
            left.plot(spins[rung], M[:, 0] / (2 * target), color=SERIES[k], ls=DASHES[k], lw=1)
        grid = np.array([1.5, 300])
        right_.plot(grid, grid / (2 * target), color=colour("theory"), label="T/(2·0.1)")
        left.set(xlabel="spins N", ylabel="samples needed", yscale="log", title="What is assumed")
        right_.set(xlabel="couplings T", xscale="log", yscale="log", title="counts the couplings")
        left.legend(fontsize=8)
        right_.legend(fontsize=8)
    lab.figure(
        "ladder.svg",
        fig,
        "Samples for a divergence of 0.1 nats, against spins (lines: T/2ε) and against couplings.",
    )
    side = lab.pick(quick=8, full=20)
    rows = lab.part(
        "lattice",
        parts.big_lattice,
        side,
        lab.pick(quick=[1, 10, 300], full=[1, 10, 100, 1000]),
        lab.seed,
    )
    lab.table(
        f"A {side} × {side} lattice, sampled: error of a coupling",
        ["samples", "all the same, rms", "±", "all different, rms", "±"],
        [[str(r[0]), *r[1:]] for r in rows],
        f"{3 * side**2} couplings against 2: one configuration is enough for the latter.",
    )
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


def _power(x: np.ndarray, y: np.ndarray, error: np.ndarray) -> tuple[float, float, float]:
    """Slope of ln y on ln x, its standard error, and the intercept."""
    design = np.stack([np.log(x), np.ones(len(x))], 1) / (error / y)[:, None]
    covariance = np.linalg.inv(design.T @ design)
    slope, intercept = covariance @ design.T @ (np.log(y) / (error / y))
    return float(slope), math.sqrt(covariance[0, 0]), float(intercept)


def _spectra(lab: Lab) -> None:
    from kadanoff.style.figures import colour, figure, house_style

    n, seeds = lab.pick(quick=(6, 3), full=(8, 6))
    found = lab.part("spectra", parts.learnt_spectra, n, seeds, lab.seed)
    rows, change = [], {}
    for name, runs in found.items():
        c = np.array([r["couplings"] for r in runs])
        unseen = np.array([r["unseen"] for r in runs])
        change[name] = (c[:, 1].mean(), c[:, 1].std(ddof=1) / math.sqrt(seeds))
        rows.append([name, *c.mean(0), unseen.mean()])
    sparse, noise = change["x1 x2"], change["random labels"]
    gap = noise[0] - sparse[0]
    lab.decide(
        "learnt-sparse",
        holds=bool(gap > 4 * math.hypot(sparse[1], noise[1]) and sparse[0] < rows[0][3] * 4 + 8),
        value=[sparse[0], noise[0]],
        stderr=math.hypot(sparse[1], noise[1]),
        note="Effective couplings, exp(entropy of the squared Walsh spectrum), after training on "
        "x1 x2 and on random labels.",
    )
    lab.table(
        f"Effective number of couplings of a network's function, {n} bits (of {2**n})",
        ["target", "before", "after training on half", "of the target", "accuracy on the rest"],
        rows,
    )
    spectra = lab.part(
        "parity kernel", parts.kernel_by_degree, n, lab.pick(quick=[1, 3], full=[1, 3, 10])
    )
    worst = max(r[4] for r in spectra)
    lab.decide(
        "parity-basis",
        holds=worst < 1e-9,
        value=worst,
        note=f"Largest matrix element off the diagonal or off its degree's value, relative; "
        f"{n + 1} numbers instead of {2**n}.",
    )
    lab.say(
        "Sparse in the basis of parities",
        r"""
        The kernel of an infinite network depends on $x\cdot x'$ alone, so on the hypercube it is
        diagonal in the parities, with one eigenvalue per degree. Depth and the phase set how fast
        they fall: what the network takes to be simple. Training moves the function of a finite
        network towards the spectrum of its target where that is sparse; on random labels it stays
        spread over the whole basis.
        """,
    )
    with house_style():
        fig, (left, right) = figure(1, 2, width=8.6, height=3.3)
        for k, name in enumerate(("x1 x2", "random labels")):
            mean = np.mean([r["degree"] for r in found[name]], 0)
            for i, (when, dash) in enumerate((("before", ":"), ("after", "-"))):
                left.plot(
                    mean[i],
                    dash,
                    marker="os"[k],
                    color=colour(("measured", "theory")[k]),
                    label=f"{name}, {when}",
                )
        left.set(xlabel="degree |S|", ylabel="share of the spectrum", title="Learnt functions")
        left.legend(fontsize=8)
        k = 0
        for name, depth, which, values, _ in spectra:
            if which == "ntk" and depth in (spectra[0][1], spectra[-1][1]):
                ratio = np.array(values) / values[1]
                right.semilogy(
                    np.where(ratio > 1e-12, ratio, np.nan),
                    marker="o",
                    ms=3,
                    ls=("-", "--")[k % 2],
                    label=f"{name}, {depth} hidden",
                )
                k += 1
        right.set(xlabel="degree |S|", ylabel="NTK eigenvalue / that of degree 1", title="Kernels")
        right.legend(fontsize=7)
    lab.figure(
        "spectra.svg",
        fig,
        "Left: where the function of a network lies in the basis of "
        "parities. Right: the eigenvalue of every degree of infinite networks.",
    )

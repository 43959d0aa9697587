"""What the page says, in order: each section asks for its parts, decides, shows."""

from __future__ import annotations

import numpy as np

from kadanoff.studies.lab import Lab
from kadanoff.studies.sparsity_principle import decisions, figures, parts

__all__ = ["run"]


def run(lab: Lab) -> None:
    """Run the study."""
    n = 4
    names = list(parts.learners(n))
    spins = {
        "generic": lab.pick(quick=[3, 4, 5], full=[3, 4, 5, 6, 7, 8]),
        "2-local": lab.pick(quick=[4, 6], full=[4, 6, 8, 10, 12]),
        "local": lab.pick(quick=[4, 8], full=[4, 6, 8, 10, 12, 14]),
        "translation invariant": lab.pick(quick=[4, 8], full=[4, 6, 8, 10, 12, 14]),
    }
    widths = lab.pick(quick=[16], full=[8, 16, 32, 64])
    needs = len(decisions.POWERS) * sum(len(N) for N in spins.values())
    lab.plan(len(names) + needs + len(widths) + lab.pick(quick=7, full=9))
    _no_free_lunch(lab, n, names)
    _learnt_ladder(lab, spins)
    _counting(lab)
    _one_sample(lab)
    _spectra(lab)
    _few_numbers(lab, widths)
    _equal_budgets(lab)
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
    sets = lab.pick(quick=2, full=10)
    found = {x: lab.part(f"free lunch {x}", parts.free_lunch, n, x, sets, lab.seed) for x in names}
    families = list(found[names[0]])
    decisions.no_free_lunch(lab, found, sets)
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
    lab.figure(
        "lunch.svg",
        figures.lunch(found),
        "No learner beats one half over all labelings; all do on functions of one bit.",
    )


def _counting(lab: Lab) -> None:
    from kadanoff.studies.sparsity_principle.ising import ladder

    counts = {N: ladder((N,)) for N in (4, 8, 16, 32)}
    decisions.ladder(lab, counts)
    lab.table(
        "Couplings of a ring of N spins",
        ["N", *counts[4]],
        [[str(N), *(f"{v:,}" for v in row.values())] for N, row in counts.items()],
    )
    rows = lab.part("energies", parts.energies_needed, lab.pick(quick=7, full=9), lab.seed)
    decisions.energies(lab, rows)
    lab.table(
        "Energies that determine a Hamiltonian",
        ["rung", "couplings", "energies needed", "error one below", "error there"],
        [[r[0], str(r[1]), str(r[2]), *r[3:]] for r in rows],
    )


def _learnt_ladder(lab: Lab, spins: dict[str, list[int]]) -> None:
    repeats = lab.pick(quick=6, full=16)
    every = {
        target: {
            rung: [
                lab.part(f"{rung} {N} {target}", parts.need, rung, N, target, repeats, lab.seed)
                for N in sizes
            ]
            for rung, sizes in spins.items()
        }
        for target in decisions.POWERS
    }
    decisions.samples(lab, every, spins)
    target, found = decisions.POWERS[0], every[decisions.POWERS[0]]
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
    lab.figure(
        "ladder.svg",
        figures.ladder(found, spins, target),
        "Samples for a divergence of 0.1 nats, against spins (lines: T/2ε) and against couplings.",
    )


def _one_sample(lab: Lab) -> None:
    side = lab.pick(quick=8, full=20)
    samples = lab.pick(quick=[1, 10, 300], full=[1, 10, 100, 1000])
    rows = lab.part("lattice", parts.big_lattice, side, samples, lab.seed)
    lab.table(
        f"A {side} × {side} lattice, sampled: error of a coupling",
        ["samples", "all the same, rms", "±", "all different, rms", "±"],
        [[str(r[0]), *r[1:]] for r in rows],
        f"{3 * side**2} couplings against 2: one configuration is enough for the latter.",
    )
    sides = lab.pick(quick=[8], full=[10, 20, 40])
    single = {
        L: lab.part(f"one configuration {L}", parts.one_configuration, L, 256, lab.seed)
        for L in sides
    }
    decisions.one_sample(lab, single)


def _spectra(lab: Lab) -> None:
    n, seeds = lab.pick(quick=(6, 3), full=(8, 6))
    found = lab.part("spectra", parts.learnt_spectra, n, seeds, lab.seed)
    rows = []
    for name, runs in found.items():
        couplings = np.array([r["couplings"] for r in runs])
        unseen = np.array([r["unseen"] for r in runs])
        rows.append([name, *couplings.mean(0), unseen.mean()])
    before = float(rows[0][1])
    decisions.learnt_sparse(lab, decisions.change_by_training(found, seeds), before, n)
    lab.table(
        f"Effective number of couplings of a network's function, {n} bits (of {2**n})",
        ["target", "before", "after training on half", "of the target", "accuracy on the rest"],
        rows,
    )
    depths = lab.pick(quick=[1, 3], full=[1, 3, 10])
    kernels = lab.part("parity kernel", parts.kernel_by_degree, n, depths)
    decisions.parity_basis(lab, kernels, n)
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
    lab.figure(
        "spectra.svg",
        figures.spectra(found, kernels),
        "Left: where the function of a network lies in the basis of "
        "parities. Right: the eigenvalue of every degree of infinite networks.",
    )


def _few_numbers(lab: Lab, widths: list[int]) -> None:
    from kadanoff.rgflow import component_counts, metric_couplings

    n_list = lab.pick(quick=[20, 40], full=[10, 20, 40, 80])
    top = lab.pick(quick=2, full=3)
    counts, rows, curve = lab.part("densities", parts.densities, n_list, top)
    errors = np.array([r[2] for r in rows])
    decisions.orders(lab, errors, n_list)
    lab.table(
        "Density of the output at one input: largest error",
        ["n", "weights", *(f"order {k}: {c} numbers" for k, c in enumerate(counts))],
        [[str(r[0]), f"{r[1]:,}", *r[2]] for r in rows],
        "tanh, 4 hidden layers, against the exact transition operator of the metric.",
    )
    networks = lab.pick(quick=20_000, full=300_000)
    four = []
    for n in widths:
        checkpoint = str(lab.scratch(f"ensemble-{n}"))
        name = f"two inputs {n}"
        four.append(lab.part(name, parts.two_inputs, n, networks, lab.seed, checkpoint))
    gap, noise = decisions.relative_errors(four)
    numbers = (metric_couplings(2, 0), metric_couplings(2, 1))
    setting = f"n = {widths[-1]} over {networks:,} networks"
    decisions.ensemble(lab, gap, noise, numbers, setting)
    lab.table(
        "Numbers that describe the output on N_D inputs",
        [
            "N_D",
            "order 0",
            "order 1/n",
            "order 1/n²",
            "with NTK and its differentials, 1/n",
            "weights per number",
        ],
        [
            [
                str(N),
                *(f"{metric_couplings(N, k):,}" for k in range(3)),
                f"{sum(component_counts(N).values()):,}",
                f"{3 * 1000**2 / metric_couplings(N, 1):,.0f}",
            ]
            for N in (1, 2, 3, 5, 10)
        ],
        "Last column: 4 hidden layers of 1,000 neurons (3 million weights), order 1/n.",
    )
    lab.say(
        "Few numbers describe a network",
        r"""
        At order $1/n^p$ the law of the output on $N_D$ inputs is fixed by the first $p+1$ cumulants
        of the metric: 1, 3, 6 numbers for one input, however many weights there are. Each order
        removes a power of $n$ from the error, until the expansion, which is asymptotic, stops
        improving at small $n$. At two inputs the four-point functions are held against ensembles.
        Order $1/n^2$ is computed for one input; for several its numbers are counted only.
        """,
    )
    lab.figure(
        "orders.svg",
        figures.orders(curve, counts, n_list, errors, widths, gap, noise),
        "Errors of the near-Gaussian expansion, order by order: the output "
        "density at one input, and the four-point functions at two.",
    )


def _equal_budgets(lab: Lab) -> None:
    budget, depths = lab.pick(quick=(2_000, [2, 8, 40]), full=(20_000, [2, 5, 12, 30, 80]))
    networks = lab.pick(quick=3000, full=4000)
    rows = lab.part("aspect", parts.aspect, budget, depths, networks, lab.seed)
    table = np.array(rows, dtype=float)
    decisions.aspect(lab, table, budget, networks)
    lab.say(
        "Equal budgets, different shapes",
        r"""
        The same number of weights, from wide and shallow to narrow and deep. A critical ReLU layer
        multiplies the metric by an independent factor, so that the variance of the metric is known
        exactly, $V/nK^2=(1+5/n)^L-1$. At small $L/n$ order $1/n$, $5L/n$, is right and networks
        show it. At $L/n$ near one and beyond the law is log-normal: almost all of the variance
        sits in networks so rare that no sample holds one, and the sampled variance with its error
        bar stops far below. This is the essay's point at its sharpest: outside the sparse corner
        neither the expansion nor the experiment is a description any more.
        """,
    )
    lab.table(
        "Equal budgets, different L/n (ReLU, critical)",
        ["L", "n", "L/n", "order 1/n", "exact", "sampled", "±", "relative error expected"],
        [[str(r[0]), str(r[1]), *r[2:]] for r in rows],
        f"V/(nK²) of {networks:,} networks a row. Last column: standard error of so many "
        "networks by the exact law; above one the sample cannot know.",
    )
    lab.figure(
        "aspect.svg",
        figures.aspect(table, budget, networks),
        "Relative variance of the metric at equal budgets: exact, to order 1/n, and as sampled. "
        "Beyond L/n ≈ 1 sampling stops seeing the tail.",
    )

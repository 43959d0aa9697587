"""The study of the sparsity principle, second half: networks described by few numbers."""

from __future__ import annotations

import math

import numpy as np

from kadanoff.studies.lab import Lab
from kadanoff.studies.sparsity_principle import parts

__all__ = ["near_gaussian"]


def near_gaussian(lab: Lab, widths: list[int]) -> None:
    from kadanoff.rgflow import component_counts, metric_couplings
    from kadanoff.style.figures import DASHES, SERIES, colour, figure, house_style, points

    n_list = lab.pick(quick=[20, 40], full=[10, 20, 40, 80])
    top = lab.pick(quick=2, full=3)
    counts, rows, curve = lab.part("densities", parts.densities, n_list, top)
    errors = np.array([r[2] for r in rows])
    slope = [-math.log2(errors[-1, k] / errors[-2, k]) for k in range(3)]
    lab.decide(
        "orders",
        holds=all(abs(s - k - 1) < 0.35 for k, s in enumerate(slope)),
        value=slope,
        note=f"Power of 1/n in the error of the output density at order 0, 1, 2, between n = "
        f"{n_list[-2]} and {n_list[-1]}: the exact law is known; 1, 2, 3 expected, 0.35 allowed.",
    )
    lab.table(
        "Density of the output at one input: largest error",
        ["n", "weights", *(f"order {k}: {c} numbers" for k, c in enumerate(counts))],
        [[str(r[0]), f"{r[1]:,}", *r[2]] for r in rows],
        "tanh, 4 hidden layers, against the exact transition operator of the metric.",
    )
    networks = lab.pick(quick=20_000, full=300_000)
    four = [
        lab.part(
            f"two inputs {n}",
            parts.two_inputs,
            n,
            networks,
            lab.seed,
            str(lab.scratch(f"ensemble-{n}")),
        )
        for n in widths
    ]
    scale = [np.abs(np.array(f["measured"])).max() for f in four]
    gap = [
        [float(np.abs(np.array(f["measured"]) - f[o]).max() / s) for o in ("order 0", "order 1")]
        for f, s in zip(four, scale)
    ]
    noise = [float(np.max(f["error"]) / s) for f, s in zip(four, scale)]
    biggest = gap[-1]
    clear = biggest[0] > 8 * noise[-1]
    lab.decide(
        "ensemble",
        holds=bool(biggest[1] < 0.34 * biggest[0]) if clear else None,
        value=biggest,
        stderr=noise[-1],
        note="Relative error of the four-point functions of 2 inputs at order 0 "
        f"({metric_couplings(2, 0)} numbers) and 1/n ({metric_couplings(2, 1)}), at "
        f"n = {widths[-1]} over {networks:,} networks; order 1/n is to remove two thirds."
        + ("" if clear else " The error bar is too wide."),
    )
    rows = [
        [
            str(N),
            *(f"{metric_couplings(N, k):,}" for k in range(3)),
            f"{sum(component_counts(N).values()):,}",
            f"{3 * 1000**2 / metric_couplings(N, 1):,.0f}",
        ]
        for N in (1, 2, 3, 5, 10)
    ]
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
        rows,
        "Last column: 4 hidden layers of 1,000 neurons (3 million weights), order 1/n.",
    )
    budget, depths = lab.pick(quick=(2_000, [2, 8]), full=(20_000, [2, 5, 12, 30, 80]))
    aspect = lab.part(
        "aspect", parts.aspect, budget, depths, lab.pick(quick=3000, full=4000), lab.seed
    )
    table = np.array(aspect, dtype=float)
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
    lab.table(
        "Equal budgets, different L/n (ReLU, critical)",
        ["L", "n", "L/n", "V/(nK²)", "measured", "±", "A/(nΘ²)", "measured", "±"],
        [[str(r[0]), str(r[1]), *r[2:]] for r in aspect],
        "V: fluctuation of the metric; A: of the NTK. Order 1/n beside networks: small L/n is "
        "nearly Gaussian, L/n near 1 is strongly coupled and order 1/n no longer describes it.",
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
    with house_style():
        fig, axes = figure(1, 3, width=10.2, height=3.2)
        z = np.array(curve["z"])
        for k, values in enumerate(curve["orders"][:3]):
            axes[0].plot(
                z,
                np.array(values) - curve["exact"],
                ls=DASHES[k],
                label=f"order {k}, {counts[k]} numbers",
            )
        axes[0].set(xlabel="output z", ylabel="density − exact", title=f"n = {n_list[-1]}")
        axes[0].legend(fontsize=8)
        for k in range(top + 1):
            axes[1].loglog(n_list, errors[:, k], "o-", ms=3, color=SERIES[k], label=f"order {k}")
        axes[1].set(xlabel="width n", ylabel="largest error", title="One input, exact")
        axes[1].legend(fontsize=8)
        for k in range(2):
            points(axes[2], widths, [g[k] for g in gap], noise, label=f"order {k}", index=k)
        axes[2].set(
            xlabel="width n",
            ylabel="relative error",
            xscale="log",
            yscale="log",
            title="Two inputs, four-point",
        )
        axes[2].plot(widths, noise, color=colour("muted"), ls=":", label="standard error")
        axes[2].legend(fontsize=8)
    lab.figure(
        "orders.svg",
        fig,
        "Errors of the near-Gaussian expansion, order by order: the output "
        "density at one input, and the four-point functions at two.",
    )

"""The study of the edge of chaos, second half: recurrent networks, loops, and training."""

from __future__ import annotations

import math

import numpy as np

from kadanoff.studies.edge_of_chaos import parts
from kadanoff.studies.edge_of_chaos.parts import C_B, EDGE
from kadanoff.studies.lab import Lab

__all__ = ["in_time", "linear", "training"]


def in_time(lab: Lab, gains: list[float], sizes: list[tuple[int, int]]) -> None:
    from kadanoff.style.figures import colour, figure, house_style, points

    g, time = lab.pick(quick=3.0, full=2.0), lab.pick(quick=50.0, full=200.0)
    states = {x: lab.part(f"mean field {x}", parts.recurrent_state, x) for x in gains}
    runs = [lab.part(f"recurrent {N}", parts.recurrent, g, N, k, time, lab.seed) for N, k in sizes]
    others = {
        x: lab.part(
            f"recurrent g {x}",
            parts.recurrent,
            x,
            lab.pick(quick=100, full=500),
            3,
            time,
            lab.seed + 5,
        )
        for x in gains
        if x != g
    }
    x = np.array([1 / N for N, _ in sizes])
    y, e = (np.array([r["lyapunov"][i] for r in runs]) for i in (0, 1))
    # two networks give a poor error bar: the spread times √N is common to all sizes
    common = math.sqrt(np.mean([k * s**2 * N for (N, k), s in zip(sizes, e)]))
    e = np.array([common / math.sqrt(N * k) for N, k in sizes])
    design = np.stack([np.ones_like(x), x], 1) / e[:, None]
    covariance = np.linalg.inv(design.T @ design)
    limit = float((covariance @ design.T @ (y / e))[0])
    error = math.sqrt(covariance[0, 0])
    truth = states[g]["lyapunov"]
    clear = error < 0.15 * truth
    lab.decide(
        "lyapunov",
        value=limit,
        stderr=error,
        holds=abs(limit - truth) < 4 * error if clear else None,
        note=f"g = {g:g}: mean field {truth:.5f}; simulations extrapolated in 1/N."
        + ("" if clear else " The error bar is too wide at this size."),
    )
    with house_style():
        fig, (left, right) = figure(1, 2, width=8.6, height=3.2)
        left.plot(states[g]["tau"], states[g]["C"], color=colour("theory"), label="mean field")
        points(left, runs[-1]["tau"][::5], runs[-1]["C"][::5], label=f"N = {sizes[-1][0]}")
        left.set(xlabel="τ", ylabel="C(τ)", title=f"Autocorrelation, g = {g:g}", xlim=(0, 20))
        left.legend()
        points(right, x, y, e, label=f"networks, g = {g:g}")
        right.plot(
            [0, x.max()],
            [limit, limit + float((covariance @ design.T @ (y / e))[1]) * x.max()],
            color=colour("measured"),
            ls="--",
            label="fit in 1/N",
        )
        right.plot([0], [truth], "*", ms=11, color=colour("theory"), label="energy method")
        right.set(xlabel="1/N", ylabel="largest Lyapunov exponent", title="Suppressed by 1/N")
        right.legend()
    lab.figure(
        "recurrent.svg",
        fig,
        "Random recurrent networks: autocorrelation against the motion "
        "in the potential, and the Lyapunov exponent against the two-replica ground state.",
    )
    lab.say(
        "Chaos in time",
        r"""
        With weights fixed in time, $\dot h = -\gamma h + W\sigma(h)$ has the mean-field
        autocorrelation $C'' = -U'(C)$; energy conservation fixes $C(0)$, and the ground state
        $E_0$ of $-\partial_\tau^2 + \gamma^2 - C_W\langle\sigma'\sigma'\rangle(C(\tau))$ gives
        $\lambda = -\gamma + \sqrt{\gamma^2 - E_0}$ (Sompolinsky, Crisanti & Sommers 1988).
        """,
    )
    head = ["g", "C(0)", "C(0), simulated", "±", "λ", "λ, simulated", "±"]
    rows = [
        [
            x,
            s["C_0"],
            *(others.get(x, runs[-1]))["variance"],
            s["lyapunov"],
            *(others.get(x, runs[-1]))["lyapunov"],
        ]
        for x, s in states.items()
    ]
    lab.table(
        "Mean field against simulation (C_W = g², no bias)",
        head,
        rows,
        f"Largest N simulated; g = {g:g}: N = {sizes[-1][0]}.",
    )


def linear(lab: Lab) -> None:
    from kadanoff.style.figures import colour, figure, house_style, points

    N = 50
    loop = lab.part("loop", parts.loop, N, lab.pick(quick=600, full=8_000), lab.seed)
    allowed = 0.08 * abs(loop["closed"][0])
    lab.compare(
        "loop",
        loop["measured"][0],
        loop["error"][0],
        systematic=allowed,
        note=f"ω = 0, σ_w = 0.4, N = {N}; the order 1/N² is allowed 8%.",
    )
    found = lab.part(
        "fluctuation", parts.fluctuation, 20, 4, lab.pick(quick=20_000, full=200_000), lab.seed
    )
    value, error, exact = found
    lab.decide(
        "depth-over-width",
        holds=abs(value - exact) < 4 * error,
        value=value,
        stderr=error,
        note=f"Exact: (1 + 2/20)^4 = {exact:.5f}; weights drawn.",
    )
    lab.say(
        "Loops of the linear recurrent network",
        r"""
        Planar diagrams give $C^{(0)}(\omega) = D/(\omega^2+\gamma^2-\sigma_w^2)$, whose length
        diverges at the edge without any $1/N$. One crosscap on the index surface gives the next
        order in closed form; it moves the pole, $\xi_N = 1/\sqrt{\gamma^2-\sigma_w^2(1-1/N)}$.
        At the latest times real eigenvalues at the edge of the spectrum take over, with the
        longer time $1/(\gamma-\sigma_w)$. (Derived here.)
        """,
    )
    lab.table(
        "N E(1/N) tr W^t (Wᵀ)^s, N = 40",
        ["(t, s)", "to order 1/N", "drawn", "±"],
        loop["traces"],
        "The excess of the drawn matrices is of order 1/N.",
    )
    with house_style():
        fig, ax = figure(width=5.4, height=3.1)
        points(ax, loop["omega"], loop["measured"], loop["error"], label=f"matrices, N = {N}")
        from kadanoff.studies.edge_of_chaos.chaos import LinearNetwork

        grid = np.linspace(0, 2, 100)
        network = LinearNetwork(0.16)
        ax.plot(
            grid,
            network.correlator(grid, 1) - network.correlator(grid),
            color=colour("theory"),
            label="one crosscap, C⁽¹⁾(ω)",
        )
        ax.axhline(0, color=colour("muted"), lw=0.8)
        ax.set(xlabel="ω", ylabel="N (C − C⁽⁰⁾)", title="Loop correction, σ_w = 0.4")
        ax.legend()
    lab.figure(
        "loop.svg", fig, "The 1/N correction of the correlator of the linear recurrent network."
    )


def training(lab: Lab, depths: list[int]) -> None:
    from kadanoff.critical import depth_scales
    from kadanoff.style.figures import colour, figure, house_style

    C_W = lab.pick(quick=[0.8, 1.3, EDGE, 3.5], full=[0.6, 0.8, 1.0, 1.2, 1.4, EDGE, 2.1, 2.7, 3.5])
    settings = lab.pick(
        quick={"width": 32, "steps": 80, "rates": [0.02], "seeds": 1},
        full={"width": 48, "steps": 200, "rates": [0.01, 0.03], "seeds": 2},
    )
    table = np.array(
        [
            lab.part(f"train {d}", parts.trained, d, C_W, settings, lab.seed, lab.device)
            for d in depths
        ]
    )
    xi = np.array([depth_scales("tanh", C_B, w).xi_angle for w in C_W])
    # depth at which accuracy passes one half, where it does so within the depths tried
    ratio = []
    for i in range(len(C_W)):
        for s in range(table.shape[2]):
            right = table[:, i, s]
            below = np.nonzero(right < 0.5)[0]
            if len(below) and below[0] > 0:
                b = below[0]
                f = (right[b - 1] - 0.5) / (right[b - 1] - right[b])
                depth = depths[b - 1] * (depths[b] / depths[b - 1]) ** f
                if xi[i] < 60:  # at the edge itself ξ_c says nothing about where training stops
                    ratio.append([C_W[i], math.log(depth / xi[i])])
    logs = np.array([r[1] for r in ratio])
    value = float(np.exp(logs.mean())) if len(logs) else math.nan
    error = float(value * logs.std(ddof=1) / math.sqrt(len(logs))) if len(logs) > 2 else math.nan
    enough = len(logs) >= 6
    lab.decide(
        "trainable",
        value=value if len(logs) else None,
        stderr=error if len(logs) > 2 else None,
        holds=bool(3 < value < 12) if enough else None,
        note="Geometric mean over C_W and seeds of (depth where training accuracy passes ½)/ξ_c; "
        "taken to hold within a factor of two of six."
        + ("" if enough else " Too few depths at this size to locate it."),
    )
    deep = table[-1].mean(1)
    best = C_W[int(deep.argmax())]
    lab.decide(
        "edge-trains-deepest",
        value=best,
        holds=bool(deep.max() > 0.3 and 1.3 <= best <= 2.5) if deep.max() > 0.3 else None,
        note=f"C_W of the best training accuracy ({deep.max():.2f}) at depth {depths[-1]}; the "
        f"edge lies at {EDGE:.3f}. " + ("" if deep.max() > 0.3 else "No net of this depth learnt."),
    )
    lab.say(
        "Depths that train",
        r"""
        Deep tanh networks on the digits by SGD with momentum and clipped gradients, the best of
        the learning rates, at every $C_W$ and depth. Schoenholz et al. report training for depths
        up to about $6\xi_c$.
        """,
    )
    head = ["depth", *(f"{w:.2f}" for w in C_W)]
    lab.table(
        "Training accuracy by depth and C_W",
        head,
        [[str(d), *np.round(row.mean(1), 3).tolist()] for d, row in zip(depths, table)],
    )
    with house_style():
        fig, ax = figure(width=6.4, height=3.6)
        mesh = ax.pcolormesh(
            np.arange(len(C_W)),
            np.arange(len(depths)),
            table.mean(2),
            cmap="viridis",
            vmin=0.1,
            vmax=1,
            shading="nearest",
            rasterized=True,
        )
        fig.colorbar(mesh, label="training accuracy")
        level = np.interp(
            np.log(np.clip(6 * xi, depths[0] / 2, depths[-1] * 2)),
            np.log(depths),
            np.arange(len(depths)),
        )
        ax.plot(np.arange(len(C_W)), level, "o-", color=colour("bad"), label="6 ξ_c")
        ax.set_xticks(np.arange(len(C_W)), [f"{w:.2f}" for w in C_W])
        ax.set_yticks(np.arange(len(depths)), [str(d) for d in depths])
        ax.grid(False)
        ax.set(xlabel="C_W", ylabel="depth L", title=f"Which depths train, C_b = {C_B}")
        ax.legend(loc="upper left", labelcolor="white")
    lab.figure(
        "trainability.svg",
        fig,
        "Training accuracy over the phase boundary; the line is six "
        "correlation lengths, cut at the depths shown.",
    )

"""What the page says, in order: each section asks for its parts, decides, shows."""

from __future__ import annotations

import numpy as np

from kadanoff.studies.edge_of_chaos import decisions, figures, parts
from kadanoff.studies.edge_of_chaos.parts import C_B, EDGE
from kadanoff.studies.lab import Lab

__all__ = ["run"]


def run(lab: Lab) -> None:
    """Run the study."""
    widths = lab.pick(quick=[40], full=[100])
    depths = lab.pick(quick=[8, 32], full=[6, 10, 16, 25, 40, 64])
    gains = lab.pick(quick=[3.0], full=[2.0, 3.0])
    sizes = lab.pick(quick=[(100, 12), (200, 6)], full=[(125, 16), (250, 8), (500, 4)])
    lab.plan(lab.pick(quick=12, full=21) + len(widths) + len(depths) + 2 * len(gains) + len(sizes))
    _mean_field(lab)
    _finite_width(lab, widths)
    _in_time(lab, gains, sizes)
    _linear(lab)
    _training(lab, depths)
    lab.say(
        "What was not compared",
        """
        The full text of Grosvenor & Jefferson was not at hand. The action, the 't Hooft coupling
        and the leading (cactus) resummation are theirs; every formula for a $1/n$ or $1/N$
        correction on this page was derived for this library from those definitions and checked
        by simulation. The paper's printed $O(T/N)$ expression has **not** been compared with
        them, nor have any nonlinear loop diagrams of theirs. Settings of Poole et al. and
        Schoenholz et al. are cited from memory; widths, data and training time here are smaller.
        """,
    )


def _mean_field(lab: Lab) -> None:
    decisions.boundary(lab, *lab.part("boundary", parts.boundary))
    everywhere = np.linspace(0.8, 4, lab.pick(quick=5, full=33))
    C_W = np.unique(np.concatenate([everywhere, EDGE + np.array(decisions.NEAR)]))
    scales = np.array(lab.part("depth scales", parts.scales, C_W.tolist()), dtype=float)
    decisions.exponent(lab, C_W, scales)
    phases = lab.part("phases", parts.phases, lab.pick(quick=5, full=15))
    lab.say(
        "The phase diagram",
        r"""
        A difference in direction between two inputs grows by
        $\chi_\perp = C_W\langle\sigma'^2\rangle$ a layer at the fixed point $K^*$. The line
        $\chi_\perp = 1$ is drawn without root finding,
        $C_W(K) = 1/\langle\sigma'^2\rangle_K$ and
        $C_b(K) = K - C_W\langle\sigma^2\rangle_K$. A recurrent network at rest loses stability
        at $C_W\langle\sigma'^2\rangle = \gamma^2$: for $\gamma = 1$ the same line. At finite
        width the edge moves, and it moves in opposite directions for the ensemble average
        (annealed) and for a typical network.
        """,
    )
    lab.figure(
        "phases.svg",
        figures.phases(phases, C_W, scales),
        "Left: growth of small differences a layer (blue ordered, red "
        "chaotic) and the edge, with its shift at n = 50 to first order. Right: depth scales "
        "of magnitude and correlation; gaps are where first order predicts no decay.",
    )


def _finite_width(lab: Lab, widths: list[int]) -> None:
    from kadanoff.critical import finite_width_scales

    theory = finite_width_scales("tanh", C_B, 1.5)
    drawn, depth = lab.pick(quick=20_000, full=60_000), lab.pick(quick=14, full=20)
    rows = []
    for n in widths:
        found = lab.part(f"tangent {n}", parts.tangent, 1.5, n, 8, depth, drawn, lab.seed)
        rows.append([n, *found])
    decisions.two_averages(lab, rows[-1][0], rows[-1][1:])
    if lab.full:
        pair = [40, 80]
        decisions.magnitude(lab, lab.part("magnitude", parts.magnitude, pair), pair)
    else:
        lab.leave_open("magnitude", "Takes the exact law at two widths and twenty layers.")
    if lab.full:
        slope, closed, _ = lab.part("secular", parts.secular, 3.0, 70)
        decisions.stable_correlation(lab, slope, closed)
    else:
        lab.leave_open("stable-correlation", "Takes a recursion of 70 layers.")

    # the typical edge, where E ln|δz|² stops falling; its shift is of order 1/n
    small = lab.pick(quick=1500, full=8_000)
    edge = finite_width_scales("tanh", C_B, EDGE)
    scans = {}
    for n in lab.pick(quick=[50], full=[50, 100, 200]):
        C_W = [EDGE + shift * 50 / n for shift in (0.0, 0.1, 0.2, 0.3)]
        at = [
            lab.part(f"edge {n} {k}", parts.tangent, w, n, 10, 40, small, lab.seed + 1)
            for k, w in enumerate(C_W)
        ]
        scans[n] = (C_W, np.array([a[4] for a in at]), np.array([a[5] for a in at]))
    first, annealed = 50 * edge.edge_shift(50, typical=True), edge.edge_shift(50)
    decisions.edge_shift(lab, scans, first, annealed)
    scan, rates, errors = scans[50]
    spread = errors
    lab.say(
        "Finite width: two averages",
        r"""
        At width $n$ the metric is random. The *annealed* rate follows $E|\delta z|^2$, the
        *typical* one $E\ln|\delta z|^2$, which is what one drawn network does. Both follow from
        perturbation theory of the chain of the metric (closed forms in
        `kadanoff.critical.finite_width_scales`; **derived here, not compared with the printed
        formula of the paper**). Networks are sampled from their exact law.
        """,
    )
    lab.table(
        "Growth of small differences at C_W = 1.5",
        ["n", "annealed", "±", "typical", "±"],
        [[str(r[0]), *r[1:5]] for r in rows]
        + [["formula, n → ∞", theory.perp, 0, theory.typical, 0]],
        "Coefficients of 1/n in λ⊥ and in (1/ℓ) E ln|δz|².",
    )
    grid = np.linspace(min(scan), max(scan), 40)
    predicted = {
        "C_W": grid,
        "n = ∞": [2 * finite_width_scales("tanh", C_B, w).lyapunov() for w in grid],
        "1/n": [2 * finite_width_scales("tanh", C_B, w).lyapunov(50) for w in grid],
    }
    pair = (theory.perp, theory.typical)
    lab.figure(
        "finite-width.svg",
        figures.finite_width(rows, pair, scan, rates, spread, predicted),
        "Left: the two coefficients have opposite sign; lines are "
        "the closed forms. Right: growth of differences in typical networks of width 50; "
        "its zero is their edge of chaos.",
    )


def _in_time(lab: Lab, gains: list[float], sizes: list[tuple[int, int]]) -> None:
    g, time = lab.pick(quick=3.0, full=2.0), lab.pick(quick=50.0, full=200.0)
    states = {x: lab.part(f"mean field {x}", parts.recurrent_state, x) for x in gains}
    runs = [lab.part(f"recurrent {N}", parts.recurrent, g, N, k, time, lab.seed) for N, k in sizes]
    N, seed = lab.pick(quick=100, full=500), lab.seed + 5
    others = {
        x: lab.part(f"recurrent g {x}", parts.recurrent, x, N, 3, time, seed)
        for x in gains
        if x != g
    }
    values, errors = (np.array([r["lyapunov"][i] for r in runs]) for i in (0, 1))
    found = decisions.extrapolate(sizes, values, errors)
    decisions.lyapunov(lab, g, states[g]["lyapunov"], found)
    lab.figure(
        "recurrent.svg",
        figures.recurrent(g, states[g], runs, sizes, found),
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
    rows = []
    for x, state in states.items():
        simulated = others.get(x, runs[-1])
        rows.append(
            [x, state["C_0"], *simulated["variance"], state["lyapunov"], *simulated["lyapunov"]]
        )
    lab.table(
        "Mean field against simulation (C_W = g², no bias)",
        ["g", "C(0)", "C(0), simulated", "±", "λ", "λ, simulated", "±"],
        rows,
        f"Largest N simulated; g = {g:g}: N = {sizes[-1][0]}.",
    )


def _linear(lab: Lab) -> None:
    from kadanoff.studies.edge_of_chaos.chaos import LinearNetwork

    N = 50
    loop = lab.part("loop", parts.loop, N, lab.pick(quick=600, full=16_000), lab.seed)
    decisions.loop(lab, loop, N)
    drawn = lab.pick(quick={40: 2000}, full={40: 12_000, 80: 8_000, 160: 4_000})
    squares = {
        n: lab.part(f"matrices {n}", parts.matrices, n, count, lab.seed)
        for n, count in drawn.items()
    }
    decisions.random_matrices(lab, squares)
    drawn = lab.pick(quick=20_000, full=200_000)
    found = lab.part("fluctuation", parts.fluctuation, 20, 4, drawn, lab.seed)
    decisions.depth_over_width(lab, *found)
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
    grid, network = np.linspace(0, 2, 100), LinearNetwork(0.16)
    crosscap = network.correlator(grid, 1) - network.correlator(grid)
    lab.figure(
        "loop.svg",
        figures.loop(loop, N, grid, crosscap),
        "The 1/N correction of the correlator of the linear recurrent network.",
    )


def _training(lab: Lab, depths: list[int]) -> None:
    from kadanoff.critical import depth_scales

    C_W = lab.pick(quick=[0.8, 1.3, EDGE, 3.5], full=[0.6, 0.8, 1.0, 1.2, 1.4, EDGE, 2.1, 2.7, 3.5])
    settings = lab.pick(
        quick={"width": 32, "steps": 80, "rates": [0.02], "seeds": 1},
        full={"width": 48, "steps": 200, "rates": [0.01, 0.03], "seeds": 2},
    )
    device = lab.device
    # (depths, C_W, seeds)
    accuracy = np.array(
        [lab.part(f"train {d}", parts.trained, d, C_W, settings, lab.seed, device) for d in depths]
    )
    xi = np.array([depth_scales("tanh", C_B, w).xi_angle for w in C_W])
    decisions.trainable(lab, depths, accuracy, xi)
    decisions.edge_trains_deepest(lab, C_W, accuracy[-1].mean(1), depths[-1])
    lab.say(
        "Depths that train",
        r"""
        Deep tanh networks on the digits by SGD with momentum and clipped gradients, the best of
        the learning rates, at every $C_W$ and depth. Schoenholz et al. report training for depths
        up to about $6\xi_c$.
        """,
    )
    lab.table(
        "Training accuracy by depth and C_W",
        ["depth", *(f"{w:.2f}" for w in C_W)],
        [[str(d), *np.round(row.mean(1), 3).tolist()] for d, row in zip(depths, accuracy)],
    )
    lab.figure(
        "trainability.svg",
        figures.trainability(C_W, depths, accuracy, xi),
        "Training accuracy over the phase boundary; the line is six "
        "correlation lengths, cut at the depths shown.",
    )

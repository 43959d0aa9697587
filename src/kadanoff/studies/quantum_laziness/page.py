"""The page of the study: tables, figures and decisions."""

from __future__ import annotations

import math

import numpy as np

from kadanoff.studies.lab import Lab
from kadanoff.studies.quantum_laziness.parts import (
    buried,
    classical,
    decay_rates,
    hardware,
    in_pennylane,
    law_path,
    observable,
    second_order,
    shot_noise,
    slope_of,
    train,
    two_design,
)
from kadanoff.studies.quantum_laziness.quantum import theory
from kadanoff.style.figures import SERIES, colour, figure, house_style, points


def kernel_section(lab: Lab, sizes: list[int], gates: list[int], full: bool, seed: int) -> None:
    circuits = 600 if full else 400
    rows, worst, worst_std = [], 0.0, 0.0
    for kind in ("word", "projector"):
        for n in sizes:
            r = lab.part(f"two-designs-{kind}-{n}", two_design, kind, n, 64, circuits, seed + n)
            worst = max(worst, abs(r["K"] - r["K_theory"]) / r["K_err"])
            worst_std = max(worst_std, abs(r["dK"] - r["dK_exact"]) / r["dK_err"])
            rows.append([kind, n, r["K_theory"], r["K"], r["K_err"], r["dK_leading"],
                         r["dK_exact"], r["dK"], r["dK_err"]])  # fmt: skip
    lab.say(
        "The kernel of random circuits",
        r"""
        $U(\theta)=\prod_\ell W_\ell e^{i\theta_\ell X_\ell}$, output $z=\langle O\rangle$,
        quantum NTK $K=\sum_\ell(\partial_\ell z)^2$. With a fresh Haar unitary between any two
        gates both sides of each gate are exact 2-designs; then
        $\bar K=2L\,(N\,\mathrm{Tr}\,O^2-\mathrm{Tr}^2O)/((N-1)(N+1)^2)$,
        about $2L\,\mathrm{Tr}\,O^2/N^2$,
        without approximation. The paper's fluctuation,
        $\Delta K\approx\sqrt{L}\sqrt{8\,\mathrm{Tr}^2O^2+12\,\mathrm{Tr}\,O^4}/N^2$, takes gates as
        independent. They are not: all of them share the output state $\varphi$, and
        $\mathrm E[K|\varphi]\propto\langle O^2\rangle-\langle O\rangle^2$. Averaging that exactly
        (Jacobi ensemble, Haar moments of degree four) gives a closed form for every $N$ and $L$.
        """,
    )
    head = ["O", "n", "mean K", "measured", "±", "ΔK leading", "ΔK exact", "measured", "±"]
    lab.table("L = 64 gates between Haar unitaries", head, rows)
    lab.decide("kernel-mean", holds=worst < 4, value=worst,
               note="largest |z| over observables and qubits")  # fmt: skip
    lab.decide("exact-fluctuation", holds=worst_std < 4, value=worst_std,
               note="largest |z| over observables and qubits")  # fmt: skip
    last = next(r for r in reversed(rows) if r[0] == "word")
    ratio, error = last[7] / last[5], last[8] / last[5]
    lab.compare(
        "fluctuation",
        ratio,
        error,
        systematic=2 / 2 ** last[1],
        note=f"Pauli word, {last[1]} qubits, L = 64; next order of 1/N allowed for. "
        "For a projector the same formula is far off (table).",
    )
    many = [
        lab.part(f"gates-{L}", two_design, "word", 2, L, circuits, seed + 50 + L) for L in gates
    ]
    end = many[-1]
    value, error = end["dK"] / end["K"], end["dK_err"] / end["K"]
    expected = end["dK_leading"] / end["K_theory"]
    floor = theory.qntk_std(observable("word", 2), 10**9) / theory.qntk_mean(
        observable("word", 2), 10**9
    )
    lab.decide(
        "concentration",
        holds=value <= expected + 4 * error,
        value=value,
        stderr=error,
        note=f"ΔK/K at n = 2, L = {end['L']}: independent gates give {expected:.3f}, and the exact "
        f"form tends to {floor:.3f}, the spread of 1 − z². It vanishes with n, not with L.",
    )
    with house_style():
        fig, (a, b) = figure(1, 2, width=8.2)
        for index, kind in enumerate(("word", "projector")):
            mine = [r for r in rows if r[0] == kind]
            a.plot([r[1] for r in mine], [r[2] for r in mine], color=colour("theory"),
                   label="exact" if not index else None)  # fmt: skip
            points(a, [r[1] for r in mine], [r[3] for r in mine], [r[4] for r in mine],
                   label="Pauli word" if kind == "word" else kind, index=index)  # fmt: skip
        a.set(xlabel="qubits n", ylabel="mean kernel", yscale="log", title="Mean of K, L = 64")
        a.set_xticks(sizes)
        a.legend()
        L = np.geomspace(4, gates[-1], 40)
        O = observable("word", 2)
        b.plot(L, [theory.qntk_std(O, v) / theory.qntk_mean(O, v) for v in L],
               color=colour("theory"), label="exact")  # fmt: skip
        b.plot(L, [theory.qntk_std_leading(O, v) / theory.qntk_mean(O, v) for v in L],
               color=colour("muted"), linestyle="--", label="independent gates")  # fmt: skip
        points(b, gates, [r["dK"] / r["K"] for r in many], [r["dK_err"] / r["K"] for r in many])
        b.set(xlabel="gates L", ylabel="ΔK / K", xscale="log", yscale="log",
              title="Fluctuation at n = 2")  # fmt: skip
        b.set_xticks(gates, [str(v) for v in gates])
        b.minorticks_off()
        b.legend()
        lab.figure("kernel.svg", fig, "Left: mean kernel against the exact form. Right: its "
                   "relative fluctuation stops falling with the number of gates.")  # fmt: skip
    second = [
        lab.part(f"dqntk-{m}", second_order, m, 16, 400 if full else 150, seed + m) for m in (3, 4)
    ]
    lab.table(
        "The dQNTK, 16 gates between Haar unitaries",
        ["n", "mean μ", "±", "Δμ measured", "±", "√32 L Tr(O²)^1.5/N³", "√48 …"],
        [[r["n"], r["mean"], r["mean_err"], r["std"], r["std_err"], r["paper"],
          r["paper"] * math.sqrt(1.5)] for r in second],
        "√48 counts the coherent diagonal part of the Hessian, ∂²z ≈ −4 (z − mean).",
    )  # fmt: skip


def plateau_section(lab: Lab, qubits: list[int], full: bool, seed: int) -> None:
    rows = []
    for n in qubits:
        circuits = (400 if n < 7 else 96) if full else 100
        rows.append(
            lab.part(f"hardware-efficient-{n}", hardware, n, min(10 * n, 80), circuits, seed)
        )
    fit = [r for r in rows if r["n"] >= 3]
    logs = [math.log2(r["variance"]) for r in fit]
    errors = [r["variance_err"] / r["variance"] / math.log(2) for r in fit]
    slope, error = slope_of([r["n"] for r in fit], logs, errors)
    exact, _ = slope_of(
        [r["n"] for r in fit], [math.log2(r["variance_theory"]) for r in fit], errors
    )
    lab.compare(
        "gradient-variance",
        slope,
        error,
        systematic=abs(exact + 1) + 0.02,
        note=f"fitted log2 slope over n = {fit[0]['n']} … {fit[-1]['n']} in the middle half of the "
        f"circuit; the exact 2-design form has {exact:.3f} over this range",
    )
    lab.say(
        "Gradients halve with every qubit",
        r"""
        The hardware-efficient circuits of McClean et al.: one rotation about a random axis on each
        qubit and a ladder of CZ gates, layer after layer; $O=Z_0Z_1$. In the middle of the circuit
        the 2-design value of $\mathrm E(\partial z)^2$ is met; gates near the end see a local
        observable and gates near the start a product state, so that $K$ lies 8–16 % lower.
        """,
    )
    lab.table(
        "Hardware-efficient circuits, angle of e^{iθX}",
        ["n", "L", "mean K, 2-design", "measured", "±", "ΔK/K", "2-design", "E(∂z)², 2-design",
         "middle half", "±", "first gate", "last layer"],
        [[r[k] for k in ("n", "L", "K_theory", "K", "K_err", "spread", "spread_exact",
                         "variance_theory", "variance", "variance_err", "first", "last")]
         for r in rows],
    )  # fmt: skip
    with house_style():
        fig, a = figure(width=5.6)
        x = [r["n"] for r in rows]
        a.plot(x, [r["variance_theory"] for r in rows], color=colour("theory"), label="2-design")
        points(a, x, [r["variance"] for r in rows], [r["variance_err"] for r in rows],
               label="middle half of the gates")  # fmt: skip
        points(a, x, [r["last"] for r in rows], label="last layer", index=2)
        a.set(xlabel="qubits n", ylabel="mean squared derivative", yscale="log",
              title="Gradient variance")  # fmt: skip
        a.set_yscale("log", base=2)
        a.legend()
        lab.figure("plateau.svg", fig, "Squared derivatives halve with every qubit.")


def dynamics_section(
    lab: Lab, n: int, depth: int, starts: int, targets: list[float], seed: int
) -> None:
    frozen = lab.part("frozen", train, n, depth, starts, 0.0, 0.2, 30, 0.0, 0, seed + 1)
    found = decay_rates(frozen)
    K0 = np.asarray(frozen["K0"])
    # the theory's own tolerance: how far K scatters from circuit to circuit
    scatter = float(K0.std(ddof=1) / K0.mean())
    lab.decide(
        "exponential",
        holds=abs(found["ratio"] - 1) < 4 * found["ratio_err"] + scatter
        and found["curvature"] < 0.1
        and found["fall"] < 0.05,
        value=found["ratio"],
        stderr=found["ratio_err"],
        note=f"decay rate over −ln(1 − ηK(0)), averaged over starts; K scatters by {scatter:.0%}. "
        f"ln|ε| leaves a straight line by at most {found['curvature']:.1%} of its fall.",
    )
    steps = lab.pick(quick=120, full=240)
    rows = {
        str(t): lab.part(f"target{t}", train, n, depth, starts, t, 0.1, steps, 0.0, 0, seed + 3)
        for t in targets
    }
    lab.say(
        "Exponential convergence, and its limits",
        rf"""
        Gradient descent at $\eta K=0.2$ from {starts} random circuits ({n} qubits,
        {frozen["L"]} angles): $\varepsilon$ falls to {found["fall"]:.1e} of its start in 30 steps,
        exponentially. The rate is {found["mean_rate"]:.3f} of $-\ln(1-\eta K(0))$ and
        {found["late_rate"]:.3f} of the same with the kernel at the end: $K$ is not quite frozen,
        it follows the output state, $K(t)\approx c\,(1-z^2)$. That law gives three regimes in one
        line, $\varepsilon\leftarrow\varepsilon\,(1-\eta c(1-(O_0+\varepsilon)^2))$: exponential for
        targets inside the spectrum, $1/t$ at its edge, frozen at $|O_0|-1$ beyond.
        """,
    )
    table = []
    for name, r in rows.items():
        law = law_path(r, float(name), steps)
        K = float(np.mean(r["K0"]))
        flat = float(np.mean(np.abs(r["epsilon0"]))) * (1 - r["eta"] * K) ** steps
        table.append([float(name), r["mean"][-1], law[-1], flat])
    lab.table(f"Mean |ε| after {steps} steps at ηK = 0.1",
              ["target", "measured", "state-conditioned law", "frozen kernel"], table)  # fmt: skip
    edge = np.asarray(rows["-1.0"]["mean"])
    tail = slice(steps // 2, None)
    t = np.arange(steps + 1)[tail]
    power = float(np.polyfit(np.log(t), np.log(edge[tail]), 1)[0])
    # an exponential would have a slope that grows with t: compare the two halves of the tail
    half = len(t) // 2
    first = float(np.polyfit(np.log(t[:half]), np.log(edge[tail][:half]), 1)[0])
    second = float(np.polyfit(np.log(t[half:]), np.log(edge[tail][half:]), 1)[0])
    decided = abs(second - first) < 0.15
    lab.decide(
        "critical-target",
        holds=(abs(power + 1) < 0.25) if decided else None,
        value=power,
        note=f"log-log slope of mean |ε| over the second half of {steps} steps "
        f"({first:.2f} then {second:.2f} in its two halves; not settled if they differ by 0.15)",
    )
    beyond = np.asarray(rows["-1.3"]["mean"])[-1]
    lab.decide(
        "unreachable-target",
        holds=bool(abs(beyond - 0.3) < 5e-3),
        value=float(beyond),
        note="mean |ε| at the end for the target −1.3; the remaining excess falls on",
    )
    with house_style():
        fig, (a, b) = figure(1, 2, width=8.4)
        steps_frozen = np.arange(31)
        a.plot(steps_frozen, np.asarray(frozen["mean"]) / frozen["mean"][0], "o",
               color=colour("measured"), label="measured")  # fmt: skip
        K = float(K0.mean())
        a.plot(steps_frozen, (1 - frozen["eta"] * K) ** steps_frozen, color=colour("muted"),
               linestyle="--", label="frozen kernel")  # fmt: skip
        law = np.asarray(law_path(frozen, 0.0, 30))
        a.plot(steps_frozen, law / law[0], color=colour("theory"), label="state-conditioned")
        a.set(xlabel="step", ylabel="|ε| / |ε(0)|", yscale="log", title="Target 0, ηK = 0.2")
        a.legend()
        for k, (name, r) in enumerate(rows.items()):
            t = np.arange(1, steps + 1)
            b.plot(t, r["mean"][1:], color=SERIES[k], label=f"target {name}")
            b.plot(t, np.maximum(law_path(r, float(name), steps)[1:], 1e-12), color=SERIES[k],
                   linestyle=":")  # fmt: skip
        b.set(xlabel="step", ylabel="mean |ε|", xscale="log", yscale="log", ylim=(1e-4, 2),
              title="Three regimes")  # fmt: skip
        b.legend(title="dotted: law", loc="lower left")
        lab.figure("training.svg", fig, "Left: exponential decay. Right: targets inside, at the "
                   "edge of and outside the spectrum.")  # fmt: skip


def noise_section(
    lab: Lab, n: int, depth: int, starts: int, noises: list[tuple[float, float]], seed: int
) -> None:
    table, ratios = [], []
    for eta_K, sigma in noises:
        steps = 60 if eta_K > 0.1 else 150
        r = lab.part(f"noise-{eta_K}-{sigma}", train, n, depth, starts, 0.0, eta_K, steps, sigma, 0,
                     seed + 5)  # fmt: skip
        measured = np.asarray(r["loss_late"])
        predicted = [theory.noise_plateau(r["eta"], k, sigma) for k in r["K_late"]]
        each = measured / np.asarray(predicted)
        error = float(each.std(ddof=1) / math.sqrt(len(each)))
        ratios.append((sigma, float(each.mean()), error))
        table.append([eta_K, sigma, float(measured.mean()), float(np.mean(predicted)),
                      float(each.mean()), error])  # fmt: skip
    small = [(r, e) for sigma, r, e in ratios if sigma <= 1e-3]
    weights = np.asarray([1 / e**2 for _, e in small])
    value = float((weights * [r for r, _ in small]).sum() / weights.sum())
    error = float(weights.sum() ** -0.5)
    lab.compare("noise-floor", value, error, systematic=0.03,
                note="late loss over the formula at σ = 1e-3, each start with its own late kernel; "
                "3 % for K varying along the noise")  # fmt: skip
    lab.table("Late loss with Gaussian noise of every angle at every step",
              ["ηK", "σ", "measured", "σ²/(2η(2−ηK))", "ratio", "±"], table)  # fmt: skip
    quiet = lab.part("buried", buried, n, depth, starts, seed + 6)
    lab.decide(
        "resilience",
        holds=quiet["fall"] < 0.01 and abs(quiet["ratio"] - 1) < 4 * quiet["error"] + 0.05,
        value=quiet["fall"],
        note="late loss over initial loss when the noise of an angle equals its first update; the "
        f"formula is met with a ratio {quiet['ratio']:.3f} ± {quiet['error']:.3f}",
    )
    shots = lab.part(
        "shots",
        shot_noise,
        n,
        depth,
        starts,
        lab.pick(quick=[3000], full=[300, 3000, 30000]),
        seed + 7,
    )
    lab.table("Late loss when z is measured with S shots, target 0.2, ηK = 0.4",
              ["S", "measured", "ηK(1−z²)/(2S(2−ηK))", "ratio", "±"], shots)  # fmt: skip
    lab.say(
        "Noise",
        r"""
        With $\theta_\ell\leftarrow\theta_\ell-\eta\,\varepsilon\,\partial_\ell z+\Delta_\ell$,
        $\Delta_\ell\sim\mathcal N(0,\sigma_\theta^2)$, the loss settles at
        $\sigma_\theta^2/(2\eta(2-\eta K))$. Resilience is collective: noise as large as each single
        update does not stop the training, since updates add up coherently and noise does not:
        what counts is $\sigma_\theta\ll|\varepsilon|/\sqrt K$, not $\sigma_\theta$ against one
        derivative. The floor grows with $K$ at fixed $\eta$, though: more angles inject more noise.
        """,
    )


def laziness_section(lab: Lab, qubits: list[int], starts: int, seed: int) -> None:
    rows, table = [], []
    for n in qubits:
        r = lab.part(f"lazy-{n}", train, n, 10 * n, min(starts, 24), 0.0, 0.2, 30, 0.0, 0, seed + n)
        lazy = np.asarray(r["first_move"]) / np.asarray(np.abs(r["epsilon0"])) / r["eta"]
        error = float(lazy.std(ddof=1) / math.sqrt(len(lazy)) / lazy.mean() / math.log(2))
        fall = r["rms"][-1] / r["rms"][0]
        rows.append((n, float(lazy.mean()), error, fall, float(np.mean(r["total_move"]))))
        told = 2 ** (-(n - 1) / 2)
        shots = 2 / theory.gradient_variance(observable("word", n))
        table.append(
            [n, r["L"], float(lazy.mean()), told, fall, float(np.mean(r["total_move"])), shots]
        )
    slope, error = slope_of(
        [r[0] for r in rows], [math.log2(r[1]) for r in rows], [r[2] for r in rows]
    )
    lab.compare("laziness", slope, error, systematic=0.05,
                note="log2 slope of |δθ|/(η|ε|); ends of a circuit lie lower")  # fmt: skip
    worst = max(r[3] for r in rows)
    lab.decide("not-a-plateau", holds=worst < 0.1, value=worst,
               note="largest rms |ε(30)|/|ε(0)| over all n at ηK = 0.2")  # fmt: skip
    lab.table(
        "The same 30 steps at every n",
        ["n", "L", "|δθ|/(η|ε|)", "2^((1−n)/2)", "rms ε(30)/ε(0)", "total rms move (rad)",
         "shots to see one derivative"], table,
        "The last column is where a barren plateau bites: a derivative measured alone, by "
        "parameter shift with S shots a value, has unit signal to noise at S = 2/E(∂z)².",
    )  # fmt: skip
    lab.say(
        "Laziness is not a barren plateau",
        r"""
        A single update is exponentially small in $n$; the loss falls at the same rate at every $n$
        all the same, because the number of updates that add up grows as fast. The exponential cost
        sits in the number of angles ($L\sim N/2\eta$) and in the precision of one derivative
        (shots), not in the landscape.
        """,
    )
    with house_style():
        fig, a = figure(width=5.6)
        x = [r[0] for r in rows]
        a.plot(x, [2 ** (-(n - 1) / 2) for n in x], color=colour("theory"), label="2^((1−n)/2)")
        points(
            a, x, [r[1] for r in rows], [r[1] * r[2] for r in rows], label="one update |δθ|/(η|ε|)"
        )
        points(a, x, [r[3] for r in rows], label="ε(30)/ε(0)", index=2)
        a.set(xlabel="qubits n", yscale="log", title="Updates shrink, training does not slow")
        a.legend()
        lab.figure("laziness.svg", fig, "Single updates and what 30 of them achieve.")


def bridges_section(lab: Lab, seed: int) -> None:
    r = lab.part("pennylane", in_pennylane, *lab.pick(quick=(3, 4, 12), full=(6, 12, 40)), seed)
    lab.compare("convention", r["quarter"], 0.0, systematic=1e-5,
                note="kernel of PennyLane's RX, RY, RZ over that of e^{iθX} at the same state "
                "(lightning.qubit)")  # fmt: skip
    lab.table(
        "The same circuit in PennyLane (lightning.qubit, adjoint)",
        [
            "|Δz|",
            "max |Δ∂z|",
            "largest |Δε| along a training",
            "ε fell to",
            "s a value and gradient",
        ],
        [[r["value"], r["gradient"], r["path"], r["fall"], r["seconds"]]],
    )
    widths = [16, 64, 256, 1024]
    rows = lab.part("classical", classical, widths)
    lab.say(
        "Beside the classical network",
        r"""
        In both worlds a single derivative is $\sqrt{K/P}$ with $P$ parameters and a kernel of order
        one. Classically $P$ is polynomial in the width and the NTK fluctuates as $n^{-1/2}$, from
        the order-1/n flow of this library; quantum mechanically a kernel of order one needs
        $P\sim 2^n$.
        """,
    )
    lab.table("Two hidden tanh layers at criticality (unit learning-rate tensor)",
              ["width", "P", "Θ", "ΔΘ/Θ", "rms derivative √(Θ/P)"], rows)  # fmt: skip


def run(lab: Lab) -> None:
    """Run the study."""
    full, seed = lab.full, lab.seed
    sizes = lab.pick(quick=[1, 2, 3], full=[1, 2, 3, 4, 5])
    gates = lab.pick(quick=[4, 16, 64], full=[4, 16, 64, 256])
    qubits = lab.pick(quick=[3, 4, 5, 6], full=[2, 3, 4, 5, 6, 7, 8, 9])
    n, depth = lab.pick(quick=(3, 20), full=(4, 40))
    starts = lab.pick(quick=24, full=32)
    targets = lab.pick(quick=[0.5, -1.0, -1.3], full=[0.0, 0.5, -1.0, -1.3])
    noises = lab.pick(
        quick=[(0.2, 1e-3), (1.0, 1e-3)],
        full=[(0.05, 1e-3), (0.2, 1e-3), (1.0, 1e-3), (1.0, 1e-2)],
    )
    lazy = lab.pick(quick=[2, 3, 4], full=[2, 3, 4, 5, 6, 7])
    lab.plan(2 * len(sizes) + len(gates) + len(qubits) + 2 + len(targets) + len(noises)
             + len(lazy) + 5)  # fmt: skip
    kernel_section(lab, sizes, gates, full, seed)
    plateau_section(lab, qubits, full, seed)
    dynamics_section(lab, n, depth, starts, targets, seed)
    noise_section(lab, n, depth, starts, noises, seed)
    laziness_section(lab, lazy, starts, seed)
    bridges_section(lab, seed)

"""What the page says, in order: each section asks for its parts, decides, shows."""

from __future__ import annotations

import math

import numpy as np

from kadanoff.studies.lab import Lab
from kadanoff.studies.quantum_laziness import decisions, figures, parts
from kadanoff.studies.quantum_laziness.decisions import Updates
from kadanoff.studies.quantum_laziness.parts import law_path, observable
from kadanoff.studies.quantum_laziness.quantum import theory

__all__ = ["run"]


def run(lab: Lab) -> None:
    """Run the study."""
    full, seed = lab.full, lab.seed
    sizes = lab.pick(quick=[1, 2, 3], full=[1, 2, 3, 4, 5])
    gates = lab.pick(quick=[4, 16, 64], full=[4, 16, 64, 256])
    qubits = lab.pick(quick=[3, 4, 5, 6], full=[2, 3, 4, 5, 6, 7, 8, 9])
    n, depth = lab.pick(quick=(3, 20), full=(4, 40))
    starts = lab.pick(quick=24, full=128)
    targets = lab.pick(quick=[0.5, -1.0, -1.3], full=[0.0, 0.5, -1.0, -1.3])
    noises = lab.pick(
        quick=[(0.2, 1e-3), (1.0, 1e-3)],
        full=[(0.05, 1e-3), (0.2, 1e-3), (1.0, 1e-3), (1.0, 1e-2)],
    )
    lazy = lab.pick(quick=[2, 3, 4], full=[2, 3, 4, 5, 6, 7])
    lab.plan(
        2 * len(sizes) + len(gates) + len(qubits) + 4 + len(targets) + len(noises) + len(lazy) + 6
    )
    _kernel(lab, sizes, gates, full, seed)
    _plateau(lab, qubits, full, seed)
    _dynamics(lab, n, depth, starts, targets, seed)
    _noise(lab, n, depth, starts, noises, seed)
    _laziness(lab, lazy, starts, seed)
    _bridges(lab, seed)


def _kernel(lab: Lab, sizes: list[int], gates: list[int], full: bool, seed: int) -> None:
    circuits = 600 if full else 400
    designs = {}
    for kind in ("word", "projector"):
        designs[kind] = {}
        for n in sizes:
            # the last is the one that the leading orders of 1/N are held against
            many = 4800 if full and n == sizes[-1] else circuits
            setting = (kind, n, 64, many, seed + n)
            designs[kind][n] = lab.part(f"two-designs-{kind}-{n}", parts.two_design, *setting)
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
    shown = ("K_theory", "K", "K_err", "dK_leading", "dK_exact", "dK", "dK_err")
    rows = []
    for kind, mine in designs.items():
        rows += [[kind, n, *(r[key] for key in shown)] for n, r in mine.items()]
    head = ["O", "n", "mean K", "measured", "±", "ΔK leading", "ΔK exact", "measured", "±"]
    lab.table("L = 64 gates between Haar unitaries", head, rows)
    decisions.two_designs(lab, [r for mine in designs.values() for r in mine.values()])
    n = sizes[-1]
    decisions.fluctuation(lab, designs["word"][n], designs["projector"][n], n)
    many = []
    for L in gates:
        setting = ("word", 2, L, circuits, seed + 50 + L)
        many.append(lab.part(f"gates-{L}", parts.two_design, *setting))
    word, limit = observable("word", 2), 10**9
    floor = theory.qntk_std(word, limit) / theory.qntk_mean(word, limit)
    decisions.concentration(lab, many[-1], floor)
    lab.figure(
        "kernel.svg",
        figures.kernel(designs, gates, many),
        "Left: mean kernel against the exact form. Right: its "
        "relative fluctuation stops falling with the number of gates.",
    )
    _second_order(lab, full, seed)


def _second_order(lab: Lab, full: bool, seed: int) -> None:
    draws, qubits = (800, (3, 4, 5, 6)) if full else (150, (3, 4))
    rows = [lab.part(f"dqntk-{m}", parts.second_order, m, 16, draws, seed + m) for m in qubits]
    decisions.second_order(lab, rows)
    lab.say(
        "The second order: the quantum dNTK",
        r"""
        The kernel moves at second order by $\mu=\sum_{\ell\ell'}\partial_\ell\partial_{\ell'}z\,
        \partial_\ell z\,\partial_{\ell'}z$. Its printed spread counts the off-diagonal Hessian as
        random. The diagonal is not: $\partial_\ell^2z\approx-4\,(z-\text{mean})$ is the same for
        all gates and adds up coherently.
        """,
    )
    shown = ("n", "mean", "mean_err", "std", "std_err", "paper")
    lab.table(
        "The dQNTK, 16 gates between Haar unitaries",
        ["n", "mean μ", "±", "Δμ measured", "±", "√32 L Tr(O²)^1.5/N³", "√48 …"],
        [[*(r[key] for key in shown), r["paper"] * math.sqrt(1.5)] for r in rows],
        "√48 counts the coherent diagonal part of the Hessian, ∂²z ≈ −4 (z − mean).",
    )


def _plateau(lab: Lab, qubits: list[int], full: bool, seed: int) -> None:
    rows = []
    for n in qubits:
        circuits = (400 if n < 7 else 96) if full else 100
        setting = (n, min(10 * n, 80), circuits, seed)
        rows.append(lab.part(f"hardware-efficient-{n}", parts.hardware, *setting))
    decisions.gradient_variance(lab, rows)
    lab.say(
        "Gradients halve with every qubit",
        r"""
        The hardware-efficient circuits of McClean et al.: one rotation about a random axis on each
        qubit and a ladder of CZ gates, layer after layer; $O=Z_0Z_1$. In the middle of the circuit
        the 2-design value of $\mathrm E(\partial z)^2$ is met; gates near the end see a local
        observable and gates near the start a product state, so that $K$ lies 8–16 % lower.
        """,
    )
    columns = {
        "n": "n",
        "L": "L",
        "K_theory": "mean K, 2-design",
        "K": "measured",
        "K_err": "±",
        "spread": "ΔK/K",
        "spread_exact": "2-design",
        "variance_theory": "E(∂z)², 2-design",
        "variance": "middle half",
        "variance_err": "±",
        "first": "first gate",
        "last": "last layer",
    }
    lab.table(
        "Hardware-efficient circuits, angle of e^{iθX}",
        list(columns.values()),
        [[r[key] for key in columns] for r in rows],
    )
    lab.figure("plateau.svg", figures.plateau(rows), "Squared derivatives halve with every qubit.")


def _dynamics(lab: Lab, n: int, depth: int, starts: int, targets: list[float], seed: int) -> None:
    circuit = (n, depth, starts)
    frozen = lab.part("frozen", parts.train_circuit, *circuit, 0.0, 0.2, 30, 0.0, 0, seed + 1)
    found = parts.decay_rates(frozen)
    decisions.exponential(lab, n, found, starts)
    steps = 240
    rows = {}
    for t in targets:
        setting = (*circuit, t, 0.1, steps, 0.0, 0, seed + 3)
        rows[str(t)] = lab.part(f"target{t}", parts.train_circuit, *setting)
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
    lab.table(
        f"Mean |ε| after {steps} steps at ηK = 0.1",
        ["target", "measured", "state-conditioned law", "frozen kernel"],
        table,
    )
    long = lab.pick(quick=240, full=1920)
    slopes = lab.part("critical", parts.critical_slopes, n, depth, min(starts, 48), long, seed + 3)
    decisions.critical_target(lab, slopes, long)
    beyond = rows["-1.3"]
    decisions.unreachable_target(lab, beyond["mean"][-1], beyond["K"][-1] / beyond["K"][0])
    lab.figure(
        "training.svg",
        figures.training(frozen, rows, steps),
        "Left: exponential decay. Right: targets inside, at the edge of and outside the spectrum.",
    )


def _noise(
    lab: Lab, n: int, depth: int, starts: int, noises: list[tuple[float, float]], seed: int
) -> None:
    circuit = (n, depth, starts)
    table, ratios = [], []
    for eta_K, sigma in noises:
        setting = (*circuit, 0.0, eta_K, 60 if eta_K > 0.1 else 150, sigma, 0, seed + 5)
        r = lab.part(f"noise-{eta_K}-{sigma}", parts.train_circuit, *setting)
        measured = np.asarray(r["loss_late"])
        predicted = [theory.noise_plateau(r["eta"], k, sigma) for k in r["K_late"]]
        each = measured / np.asarray(predicted)
        ratio, error = float(each.mean()), float(each.std(ddof=1) / math.sqrt(len(each)))
        ratios.append((sigma, ratio, error))
        means = (float(measured.mean()), float(np.mean(predicted)))
        table.append([eta_K, sigma, *means, ratio, error])
    decisions.noise_floor(lab, ratios)
    lab.table(
        "Late loss with Gaussian noise of every angle at every step",
        ["ηK", "σ", "measured", "σ²/(2η(2−ηK))", "ratio", "±"],
        table,
    )
    decisions.resilience(lab, n, lab.part("buried", parts.buried, n, depth, 4 * starts, seed + 6))
    counts = lab.pick(quick=[3000], full=[300, 3000, 30000])
    shots = lab.part("shots", parts.shot_noise, *circuit, counts, seed + 7)
    decisions.shot_floor(lab, shots)
    lab.table(
        "Late loss when z is measured with S shots, target 0.2, ηK = 0.4",
        ["S", "measured", "ηK(1−z²)/(2S(2−ηK))", "ratio", "±"],
        shots,
    )
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


def _laziness(lab: Lab, qubits: list[int], starts: int, seed: int) -> None:
    rows, table = [], []
    for n in qubits:
        setting = (n, 10 * n, min(starts, 24), 0.0, 0.2, 30, 0.0, 0, seed + n)
        run = lab.part(f"lazy-{n}", parts.train_circuit, *setting)
        row = Updates.of(n, run)
        rows.append(row)
        told, shots = 2 ** (-(n - 1) / 2), 2 / theory.gradient_variance(observable("word", n))
        table.append([n, run["L"], row.move, told, row.fall, row.total, shots])
    exact = [math.sqrt(theory.gradient_variance(observable("word", n))) for n in qubits]
    decisions.laziness(lab, rows, exact)
    decisions.not_a_plateau(lab, rows)
    lab.table(
        "The same 30 steps at every n",
        [
            "n",
            "L",
            "|δθ|/(η|ε|)",
            "2^((1−n)/2)",
            "rms ε(30)/ε(0)",
            "total rms move (rad)",
            "shots to see one derivative",
        ],
        table,
        "The last column is where a barren plateau bites: a derivative measured alone, by "
        "parameter shift with S shots a value, has unit signal to noise at S = 2/E(∂z)².",
    )
    lab.say(
        "Laziness is not a barren plateau",
        r"""
        A single update is exponentially small in $n$; the loss falls at the same rate at every $n$
        all the same, because the number of updates that add up grows as fast. The exponential cost
        sits in the number of angles ($L\sim N/2\eta$) and in the precision of one derivative
        (shots), not in the landscape.
        """,
    )
    lab.figure(
        "laziness.svg", figures.laziness(rows), "Single updates and what 30 of them achieve."
    )


def _bridges(lab: Lab, seed: int) -> None:
    size = lab.pick(quick=(3, 4, 12), full=(6, 12, 40))
    r = lab.part("pennylane", parts.in_pennylane, *size, seed)
    decisions.convention(lab, r["quarter"])
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
    rows = lab.part("classical", parts.classical, [16, 64, 256, 1024])
    lab.say(
        "Beside the classical network",
        r"""
        In both worlds a single derivative is $\sqrt{K/P}$ with $P$ parameters and a kernel of order
        one. Classically $P$ is polynomial in the width and the NTK fluctuates as $n^{-1/2}$, from
        the order-1/n flow of this library; quantum mechanically a kernel of order one needs
        $P\sim 2^n$.
        """,
    )
    lab.table(
        "Two hidden tanh layers at criticality (unit learning-rate tensor)",
        ["width", "P", "Θ", "ΔΘ/Θ", "rms derivative √(Θ/P)"],
        rows,
    )

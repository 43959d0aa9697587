"""Laziness, barren plateaus and noise in variational quantum circuits (Liu, Lin & Jiang 2022)."""

from __future__ import annotations

from kadanoff.studies.lab import Lab
from kadanoff.studies.quantum_laziness.sections import (
    bridges_section,
    dynamics_section,
    kernel_section,
    laziness_section,
    noise_section,
    plateau_section,
)
from kadanoff.studies.study import Claim, Study

__all__ = ["STUDY"]


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


STUDY = Study(
    name="quantum-laziness",
    title="Laziness, barren plateaus and noise",
    paper="liu2022laziness",
    summary="Random variational quantum circuits move each angle exponentially little and still "
    "train exponentially fast. Kernel, fluctuation, dynamics, targets and noise are measured "
    "against closed forms, in a batched simulator and in PennyLane.",
    extra="quantum",
    modules=("pennylane", "pennylane_lightning"),
    claims=(
        Claim(
            "kernel-mean",
            "Between 2-designs the mean quantum NTK is 2L(N Tr O² − Tr²O)/((N−1)(N+1)²), "
            "about 2L Tr(O²)/N².",
        ),
        Claim(
            "fluctuation",
            "The kernel fluctuates by ΔK ≈ √L √(8Tr²(O²) + 12Tr O⁴)/N² "
            "(ratio of measured to predicted).",
            1.0,
            "secondary",
        ),
        Claim("concentration", "ΔK/K falls as 1/√L, to zero for many gates.", 0.0, "secondary"),
        Claim(
            "exact-fluctuation",
            "Our exact ΔK for Haar circuits holds at every N and L, projectors included.",
            None,
            "derived",
        ),
        Claim("gradient-variance", "The variance of a derivative halves with every qubit.", -1.0),
        Claim(
            "exponential",
            "Overparametrised circuits converge exponentially, ε(t) = (1 − ηK)ᵗ ε(0) "
            "(ratio of rates).",
            1.0,
        ),
        Claim(
            "critical-target",
            "At a target on the edge of the spectrum ε falls as 1/t.",
            -1.0,
            "secondary",
        ),
        Claim(
            "unreachable-target",
            "At an unreachable target the kernel dies and ε freezes at |O_0| − 1.",
            0.3,
            "secondary",
        ),
        Claim(
            "noise-floor",
            "Gaussian noise of the angles leaves the loss σ²/(2η(2 − ηK)) (ratio).",
            1.0,
        ),
        Claim("resilience", "In the overparametrised regime the training is noise-resilient."),
        Claim(
            "laziness",
            "One update is η|ε| 2^((1−n)/2): exponentially small in n (slope of log2).",
            -0.5,
        ),
        Claim("not-a-plateau", "Lazy circuits train: laziness is not a barren plateau."),
        Claim(
            "convention",
            "Rotations e^{−iφX/2} have a quarter of the kernel of e^{iθX}.",
            0.25,
            "derived",
        ),
    ),
    run=run,
)

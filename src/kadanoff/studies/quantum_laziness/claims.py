"""What the paper claims, as data."""

from __future__ import annotations

from kadanoff.studies.claims import Claim

__all__ = ["CLAIMS"]

CLAIMS = (
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
        "Overparametrised circuits converge exponentially, ε(t) = (1 − ηK)ᵗ ε(0) (ratio of rates).",
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
)

"""What the paper claims, as data."""

from __future__ import annotations

from kadanoff.studies.claims import Claim, below, equals, largest_z

__all__ = ["CLAIMS"]

_KERNEL = "The kernel of random circuits"
_GRADIENTS = "Gradients halve with every qubit"
_DYNAMICS = "Exponential convergence, and its limits"
_NOISE = "Noise"
_LAZY = "Laziness is not a barren plateau"
_SECOND = "The second order: the quantum dNTK"

CLAIMS = (
    Claim(
        "kernel-mean",
        "Between 2-designs the mean quantum NTK is 2L(N Tr O² − Tr²O)/((N−1)(N+1)²), "
        "about 2L Tr(O²)/N².",
        largest_z(),
        section=_KERNEL,
    ),
    Claim(
        "fluctuation",
        "The kernel fluctuates by ΔK ≈ √L √(8Tr²(O²) + 12Tr O⁴)/N² (Pauli word).",
        equals(
            1.0,
            allowance=None,
            reason="what the leading order of 1/N leaves out: our exact form at this N and L, "
            "over it, less one",
            name="measured ΔK over the formula",
        ),
        "secondary",
        section=_KERNEL,
    ),
    Claim(
        "fluctuation-projector",
        "The same formula gives the fluctuation for a projector.",
        equals(
            1.0,
            allowance=None,
            reason="4/N, the next order with a factor of four",
            name="measured ΔK over the formula",
        ),
        "secondary",
        section=_KERNEL,
    ),
    Claim(
        "concentration",
        "ΔK/K falls as 1/√L, to zero for many gates.",
        equals(1.0, name="measured ΔK/K over that of independent gates"),
        "secondary",
        section=_KERNEL,
    ),
    Claim(
        "exact-fluctuation",
        "Our exact ΔK for Haar circuits holds at every N and L, projectors included.",
        largest_z(),
        "derived",
        section=_KERNEL,
    ),
    Claim(
        "dqntk-mean",
        "The quantum dNTK μ = Σ ∂²z ∂z ∂z vanishes on average.",
        equals(0.0, resolution=0.5, name="mean μ over the formula's Δμ"),
        "secondary",
        section=_SECOND,
    ),
    Claim(
        "dqntk",
        "The quantum dNTK fluctuates by Δμ ≈ √32 L Tr(O²)^(3/2)/N³.",
        equals(
            1.0,
            allowance=None,
            reason="4/N, the next order with a factor of four",
            name="measured Δμ over the formula",
        ),
        "secondary",
        section=_SECOND,
    ),
    Claim(
        "dqntk-diagonal",
        "With the coherent diagonal of the Hessian, ∂²z = −4z + …, it is √48 instead of √32 at "
        "large N.",
        equals(
            1.0,
            allowance=None,
            reason="change of the extrapolation in 1/N when the largest circuit is left out",
            name="measured Δμ over the formula, N → ∞",
        ),
        "derived",
        section=_SECOND,
    ),
    Claim(
        "gradient-variance",
        "The variance of a derivative halves with every qubit.",
        equals(
            -1.0,
            allowance=None,
            reason="the exact 2-design form over the same qubits, and 0.02 for gates near the ends",
            name="slope of log2 of the variance on n",
        ),
        paper_value="1/2 a qubit",
        section=_GRADIENTS,
    ),
    Claim(
        "exponential",
        "Overparametrised circuits converge exponentially, ε(t) = (1 − ηK)ᵗ ε(0).",
        (
            equals(
                1.0,
                allowance=None,
                reason="1/(N − 2), the Haar mean of 1/(1 − z²) less one: by so much the kernel "
                "grows from the start on",
                name="rate of decay over −ln(1 − ηK(0))",
            ),
            below(
                0.1,
                name="largest distance of ln|ε| from a straight line, over its fall",
                why="a power law over this fall would be a third off",
            ),
            below(0.05, name="|ε| at the end over that at the start", condition=True),
        ),
        section=_DYNAMICS,
    ),
    Claim(
        "critical-target",
        "At a target on the edge of the spectrum ε falls as 1/t.",
        (
            equals(
                -1.0,
                allowance=None,
                reason="change of the extrapolation when the last doubling of t is left out",
                name="local power of t, extrapolated in 1/t",
            ),
        ),
        "secondary",
        section=_DYNAMICS,
    ),
    Claim(
        "unreachable-target",
        "At an unreachable target, |O_0| = 1.3, the kernel dies and ε freezes at |O_0| − 1 = 0.3.",
        (
            equals(
                0.3,
                allowance=0.003,
                reason="one per cent: the excess falls exponentially and is not gone yet",
                name="mean |ε| at the end",
            ),
            below(0.05, name="kernel at the end over that at the start"),
        ),
        "secondary",
        section=_DYNAMICS,
    ),
    Claim(
        "noise-floor",
        "Gaussian noise of the angles leaves the loss σ²/(2η(2 − ηK)).",
        equals(
            1.0,
            allowance=0.01,
            reason="the kernel moves by about σ√K along the noise",
            name="late loss over the formula",
        ),
        section=_NOISE,
    ),
    Claim(
        "resilience",
        "In the overparametrised regime the training is noise-resilient: noise as large as each "
        "single update does not stop it.",
        (
            below(0.01, name="late loss over initial loss", why="a fall by a hundred"),
            equals(
                1.0,
                allowance=None,
                reason="1/(N + 1): by so much the kernel follows the state",
                name="late loss over the formula",
            ),
        ),
        section=_NOISE,
    ),
    Claim(
        "shot-floor",
        "Measuring z with S shots leaves the loss ηK(1 − z²)/(2S(2 − ηK)).",
        equals(
            1.0,
            allowance=0.02,
            reason="1/√S at S = 3,000: the next order of the shot noise",
            name="late loss over the formula",
        ),
        "derived",
        section=_NOISE,
    ),
    Claim(
        "laziness",
        "One update is η|ε| 2^((1−n)/2): exponentially small in n.",
        equals(
            -0.5,
            allowance=None,
            reason="the exact 2-design form over the same qubits, and 0.02 for gates near the ends",
            name="slope of log2 |δθ|/(η|ε|) on n",
        ),
        paper_value="1/√2 a qubit",
        section=_LAZY,
    ),
    Claim(
        "not-a-plateau",
        "Lazy circuits train: laziness is not a barren plateau.",
        below(
            0.1,
            name="largest rms ε(30)/ε(0) over all n",
            why="(1 − ηK)³⁰ is 0.001 at ηK = 0.2; a plateau would leave 1",
        ),
        section=_LAZY,
    ),
    Claim(
        "lazy-moves",
        "Not one angle moves far while the loss falls.",
        below(
            0.1,
            name="rms move of an angle at the largest n",
            unit="rad",
            why="a sixtieth of a turn",
        ),
        section=_LAZY,
    ),
    Claim(
        "convention",
        "Rotations e^{−iφX/2} have a quarter of the kernel of e^{iθX}.",
        equals(0.25, allowance=1e-5, reason="rounding in the adjoint method of lightning.qubit"),
        "derived",
        section="Beside the classical network",
    ),
)

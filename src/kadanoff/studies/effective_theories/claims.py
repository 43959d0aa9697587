"""What the study of effective theories claims, and the rules its page begins with."""

from __future__ import annotations

from kadanoff.studies.claims import Claim, above, below, equals, largest_z

__all__ = ["CLAIMS", "POWERS", "RULES"]

RULES = r"""
Given the layer below, the neurons of a layer are independent Gaussians with covariance
$\hat G = C_b + \frac{C_W}{n}\sum_j \sigma_j\sigma_j$: a connected $2k$-point correlator of
preactivations is the $k$-th cumulant $\kappa_k$ of this random metric. With
$w(\tau, K) = \ln\langle e^{\tau s}\rangle_K$, $s = C_W\sigma\sigma$,

$$W_{\ell+1}(\tau) = \ln E_\Delta\, e^{\,n\,w(\tau/n,\,K+\Delta)} ,$$

whose expansion is a sum of connected graphs: a vertex is one neuron with $m \ge 1$ upper legs and
$r$ lines down, weight $n^{1-m}\,\partial_K^r c_m$; a blob is a $\kappa_r$ of the layer below.
Each loop costs $1/n$. In the paper's effective field theory the determinants of $\hat G$ are
exponentiated by ghosts, whose closed loops cancel those of the layer above exactly, so that later
layers never enter; here they have been cancelled beforehand, and the diagrams are drawn
differently though equal in content. The paper's formulas were not at hand: claims below marked
"derived" rest on our own derivation from its definitions. Notation: $f, v, t, q$ are the first four
cumulants of $s$ and primes are derivatives with respect to $K$.
"""

# (k, order): the power of n with which κ_k after that order misses the exact law
POWERS = {(1, 1): 2, (1, 2): 3, (2, 1): 1, (2, 2): 2, (3, 2): 1}

_RULES = "The rules"
_LAW = "Sums of diagrams and the exact law"
_DRAWN = "Random networks"
_CRITICAL = "One condition"
_RATIOS = "Universal ratios"

_DEPTH = "twice the change from the extrapolation half as deep"

CLAIMS = (
    Claim(
        "hand",
        "The diagrams give the recursions of the two-, four-, six- and eight-point functions.",
        equals(5.0, name="recursions that come out letter by letter as derived by hand"),
        "derived",
        section=_RULES,
    ),
    Claim(
        "any-order",
        "The rules hold at every order in 1/n, loops included.",
        below(
            1e-9,
            name="largest relative difference of a coefficient to the moment series",
            why="rounding of both",
        ),
        "derived",
        section=_LAW,
    ),
    Claim(
        "exact-chain",
        "Each order in 1/n removes one power of n from the distance to the exact finite-width law.",
        (
            *(
                equals(
                    -float(power),
                    allowance=None,
                    reason="change of the power from one doubling of n to the next",
                    resolution=0.5,
                    name=f"power of n in the error of κ_{k} after order 1/n{'²' * (order == 2)}",
                )
                for (k, order), power in POWERS.items()
            ),
            above(
                10.0,
                name="smallest error over that of the exact law itself",
                condition=True,
            ),
        ),
        "derived",
        section=_LAW,
    ),
    Claim(
        "scale-invariant",
        "For scale-invariant activations the diagrams sum to exact products over layers.",
        below(1e-9, name="largest relative difference of κ₂", why="rounding, and order 1/n⁵"),
        "derived",
        section=_LAW,
    ),
    Claim(
        "ensembles",
        "Sums of diagrams are the connected correlators of random networks, up to the eight-point "
        "function, for one input and two.",
        (
            largest_z(),
            below(
                0.25,
                name="standard error of the eight-point function of tanh over its value",
                condition=True,
            ),
        ),
        section=_DRAWN,
    ),
    Claim(
        "decoupling",
        "The law of a layer does not depend on the layers after it.",
        (
            largest_z("largest |z| between networks cut after layer 3 and deeper ones"),
            equals(
                1.0,
                allowance=None,
                reason="the next order, n'κ₂/4K² of the weight's exponent",
                name="shift that a later layer would cause without ghosts, over n'κ₂/2K",
            ),
        ),
        section=_DRAWN,
    ),
    Claim(
        "counting",
        "The connected 2k-point function is of order n^(1 − k): trees lead and each loop costs "
        "1/n.",
        tuple(
            equals(
                -float(k),
                allowance=None,
                reason="change of the extrapolation when the widest network is left out",
                name=f"power of n in the {2 * k + 2}-point function, extrapolated in 1/n",
            )
            for k in (1, 2, 3)
        ),
        paper_value="−1, −2, −3",
        section=_DRAWN,
    ),
    Claim(
        "one-condition",
        "One condition makes all connected correlators critical at once: the spectrum of the "
        "kernel's linear response on the unit circle; κ_k/K^k then grows as ℓ^(k − 1).",
        (
            below(1e-7, name="distance of the spectrum to {χ∥, C_W⟨σ'σ'⟩}", why="rounding"),
            below(1e-9, name="six-point growth over the cube of that, less one", why="rounding"),
            *(
                equals(
                    float(k),
                    allowance=None,
                    reason="8k ln ℓ/ℓ at the layer reached: corrections are of this form",
                    name=f"power of ℓ in κ_{k + 1}/K^{k + 1}, {name}",
                )
                for name in ("tanh", "relu")
                for k in (1, 2, 3)
            ),
        ),
        section=_CRITICAL,
    ),
    Claim(
        "ratio-4",
        "K* = 0 class: four-point function κ₂/K² → (2/3) ℓ/n.",
        equals(2 / 3, allowance=None, reason=_DEPTH),
        paper_value="2/3",
        section=_RATIOS,
    ),
    Claim(
        "ratio-6",
        "K* = 0 class: six-point function κ₃/K³ → (16/15)(ℓ/n)².",
        equals(16 / 15, allowance=None, reason=_DEPTH),
        "derived",
        section=_RATIOS,
    ),
    Claim(
        "ratio-8",
        "K* = 0 class: eight-point function κ₄/K⁴ → (96/35)(ℓ/n)³.",
        equals(96 / 35, allowance=None, reason=_DEPTH),
        "derived",
        section=_RATIOS,
    ),
    Claim(
        "ratio-mean",
        "K* = 0 class: the mean shifts by −(1/3)(ℓ/n) K.",
        equals(-1 / 3, allowance=None, reason=_DEPTH),
        "derived",
        section=_RATIOS,
    ),
    Claim(
        "loops",
        "Universal ratios at all loops are the expansion of the double-scaling law.",
        tuple(
            equals(
                0.0,
                resolution=0.01,
                allowance=None,
                reason="the last loop that is known",
                name=f"κ_{k} by four loops less the simulated law at ℓ/n = 0.2",
            )
            for k in (1, 2, 3)
        ),
        "derived",
        section=_RATIOS,
    ),
)

"""What the study of effective theories claims, and the rules its page begins with."""

from __future__ import annotations

from kadanoff.studies.claims import Claim

__all__ = ["CLAIMS", "RULES"]

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

CLAIMS = (
    Claim(
        "hand",
        "The diagrams give the recursions of the two-, four-, six- and eight-point functions.",
        5,
        "derived",
    ),
    Claim("any-order", "The rules hold at every order in 1/n, loops included.", None, "derived"),
    Claim(
        "exact-chain",
        "Higher orders in 1/n come nearer to the exact finite-width law.",
        None,
        "derived",
    ),
    Claim(
        "scale-invariant",
        "For scale-invariant activations the diagrams sum to exact products over layers.",
        None,
        "derived",
    ),
    Claim(
        "ensembles",
        "Sums of diagrams are the connected correlators of random networks, up "
        "to the eight-point function, for one input and two.",
    ),
    Claim(
        "counting",
        "The connected 2k-point function is of order n^(1 − k): trees lead and "
        "each loop costs 1/n.",
        "-1, -2, -3",
    ),
    Claim(
        "one-condition",
        "One condition makes all connected correlators critical at once: "
        "the spectrum of the kernel's linear response on the unit circle; κ_k/K^k then grows "
        "as ℓ^(k − 1).",
    ),
    Claim("ratio-4", "K* = 0 class: four-point function κ₂/K² → (2/3) ℓ/n.", 2 / 3),
    Claim("ratio-6", "K* = 0 class: six-point function κ₃/K³ → (16/15)(ℓ/n)².", 16 / 15, "derived"),
    Claim(
        "ratio-8",
        "K* = 0 class: eight-point function κ₄/K⁴ → (96/35)(ℓ/n)³.",
        96 / 35,
        "derived",
    ),
    Claim("ratio-mean", "K* = 0 class: the mean shifts by −(1/3)(ℓ/n) K.", -1 / 3, "derived"),
    Claim(
        "loops",
        "Universal ratios at all loops are the expansion of the double-scaling law.",
        None,
        "derived",
    ),
)

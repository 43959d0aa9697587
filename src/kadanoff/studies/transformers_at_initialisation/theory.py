r"""Symmetric tokens at infinite width: a stack of blocks as a map of four numbers.

T tokens with one mean square p and one inner product q between any two, in units of the width, and
cotangents with d and e likewise, stay symmetric. Where scores are small, attention weights are 1/T,
and with the correlation F = q/p of normalised tokens, the mean row F̄ = F + (1 − F)/T:

.. math::
    p' &= p + a^2 C_A \bar F, & q' &= q + a^2 C_A \bar F \qquad\text{(attention)},\\
    p' &= p + m^2 C_D \langle\phi^2\rangle, & q' &= q + m^2 C_D \langle\phi\phi\rangle_F
    \qquad\text{(MLP)},

hidden preactivations having the kernel C_U F. Backward, with Δ̄ = e + (d − e)/T and the stream's
mean square p where the branch reads it,

.. math::
    d &\mathrel{+}= a^2 C_A \bar\Delta/p, & e &\mathrel{+}= a^2 C_A \bar\Delta/p,\\
    d &\mathrel{+}= m^2 C_D C_U\, d\, \langle\phi'^2\rangle/p, &
    e &\mathrel{+}= m^2 C_D C_U\, e\, \langle\phi'\phi'\rangle_F/p .

A gate multiplies: ⟨φφ⟩ C_U F for ⟨φφ⟩, and ⟨φ'φ'⟩ C_U F + ⟨φφ⟩ for ⟨φ'φ'⟩. A norm after a branch
divides p, q, d and e by p. Derived for this study; compared with no printed formula.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from kadanoff.activations import activation
from kadanoff.gaussian import pair
from kadanoff.studies.transformers_at_initialisation.networks import Setting

__all__ = [
    "Tokens",
    "averages",
    "branch_gradients",
    "critical_strength",
    "exponents",
    "flow",
    "growth",
    "power",
    "power_between",
]


@dataclass(frozen=True)
class Tokens:
    """A stack at infinite width, at the residual sum of each branch (before the norm, if post).

    Attributes
    ----------
    p : list of float
        Mean square of a token.
    correlation : list of float
    jacobian : list of float
        Mean square of a token's cotangent over that at the last sum.
    common : list of float
        The product of two tokens' cotangents, in the same unit.
    """

    p: list[float]
    correlation: list[float]
    jacobian: list[float]
    common: list[float]


@dataclass(frozen=True)
class _Step:
    """One branch: mean square and correlation of its sum, and how cotangents come back."""

    kind: str
    p: float
    correlation: float
    read: float  # what the branch divides by as it reads
    own: float  # slope of a token's cotangent
    across: float  # slope of the product of two tokens' cotangents
    post: float  # what the norm after the sum divides by


def averages(s: Setting, F: float) -> tuple[float, float]:
    """What a unit cotangent and a unit token become through the hidden units: forward, backward.

    ⟨φφ⟩ and C_U ⟨φ'φ'⟩ over N(0, C_U [[1, F], [F, 1]]), and what a gate makes of them.
    """
    act = activation(s.activation)
    one, off = (torch.tensor([v], dtype=torch.float64) for v in (s.C_U, s.C_U * F))
    value = float(pair(act, one, off, one).value)
    slope = float(pair(act, one, off, one, 1, 1).value)
    if not s.gated:
        return value, s.C_U * slope
    return s.C_U * F * value, s.C_U * (s.C_U * F * slope + value)


def flow(s: Setting, T: int, correlation: float, coherent: bool = False) -> Tokens:
    """Signal and gradient of a stack with residual sums and norms.

    Parameters
    ----------
    s : Setting
        ``scores`` is taken as small.
    T : int
        Tokens.
    correlation : float
        Of the tokens that enter, of unit mean square.
    coherent : bool
        Whether all tokens have one cotangent at the end, as under a mean over tokens; else those
        of different tokens are independent.
    """
    p, q, steps = 1.0, correlation, []
    kinds = [(s.attention, "attention"), (s.mlp, "mlp")] * s.blocks
    for strength, kind in kinds:
        if not strength:
            continue
        step = _step(s, kind, strength**2, p, q, T)
        steps.append(step)
        p, q = step.p / step.post, step.correlation * step.p / step.post
    d, e = steps[-1].post, steps[-1].post if coherent else 0.0
    jacobian, common = [], []
    for step in reversed(steps):
        d, e = d / step.post, e / step.post
        jacobian.append(d)
        common.append(e)
        if step.kind == "attention":
            back = step.own * (e + (d - e) / T) / step.read
            d, e = d + back, e + back
        else:
            d, e = d * (1 + step.own / step.read), e * (1 + step.across / step.read)
    return Tokens(
        [x.p for x in steps], [x.correlation for x in steps], jacobian[::-1], common[::-1]
    )


def _step(s: Setting, kind: str, square: float, p: float, q: float, T: int) -> _Step:
    F = q / p
    if kind == "attention":
        own = across = square * s.C_A
        more = other = own * (F + (1 - F) / T)
    else:
        (same, own), (between, across) = averages(s, 1.0), averages(s, F)
        more, other = square * s.C_D * same, square * s.C_D * between
        own, across = square * s.C_D * own, square * s.C_D * across
    post = p + more if s.order == "post" else 1.0
    read = p if s.order == "pre" else 1.0
    return _Step(kind, p + more, (q + other) / (p + more), read, own, across, post)


def power(s: Setting, coherent: bool = False, T: float = math.inf) -> float:
    """ζ of a pre-norm stack whose tokens have collapsed: |∂z^L/∂z^l|² ~ (L/l)^ζ.

    c/k, the gradient and the signal that a block adds. Attention passes on what all tokens have
    in common, and the 1/T of a token's own cotangent that it returns to it.
    """
    value, slope = averages(s, 1.0)
    attention = s.attention**2 * s.C_A
    added = s.mlp**2 * s.C_D * value + attention
    passed = s.mlp**2 * s.C_D * slope + (attention if coherent else attention / T)
    return passed / added


def power_between(tokens: Tokens) -> float:
    """The power of a stack between its second and its last residual sum.

    A branch multiplies the gradient by 1 + c/p and adds k to p: Σ (J/J' − 1) p / Σ (p' − p).
    """
    p, J = tokens.p[1:], tokens.jacobian[1:]
    passed = sum((a / b - 1) * x for a, b, x in zip(J[:-1], J[1:], p[:-1]))
    return passed / (p[-1] - p[0])


def growth(s: Setting) -> tuple[float, float]:
    """Signal and gradient that the MLP branch adds to a unit stream: (k, c)."""
    if not s.mlp:
        return 0.0, 0.0
    value, slope = averages(s, 1.0)
    return s.mlp**2 * s.C_D * value, s.mlp**2 * s.C_D * slope


def exponents(s: Setting) -> tuple[float, float]:
    """λ_a and λ_g of a post-norm stack near collapsed tokens, a block.

    1 − ρ grows by exp λ_a, the square of a cotangent that all tokens share by exp λ_g:
    λ_g = log (1 + c)/(1 + k) and λ_a = λ_g − log(1 + a² C_A). What cotangents of different
    tokens do not share grows by exp λ_a, as differences of tokens do.
    """
    k, c = growth(s)
    gradient = math.log((1 + c) / (1 + k))
    return gradient - math.log1p(s.attention**2 * s.C_A), gradient


def critical_strength(s: Setting) -> float:
    """The factor on MLP branches at which λ_a = 0; NaN where no factor brings it there."""
    k, c = growth(replace(s, mlp=1.0))
    attention = s.attention**2 * s.C_A
    # 1 + m² c = (1 + m² k)(1 + a² C_A)
    excess = c - k * (1 + attention)
    return math.sqrt(attention / excess) if excess > 0 else math.nan


def branch_gradients(s: Setting, T: int, correlation: float) -> list[float]:
    """T n E g² of the matrices out of every branch of a pre-norm stack with a norm at its end.

    For a loss (T n)^(−1/2) Σ v z of independent normal v: E g² = Σ_ts Δ_ts K_ts over the tokens,
    Δ the cotangents' kernel at the residual sum and K that of what the matrix reads.
    """
    found = flow(s, T, correlation)
    p, F = [1.0, *found.p], [correlation, *found.correlation]
    kinds = [(s.attention, "attention"), (s.mlp, "mlp")] * s.blocks
    out = []
    for i, (strength, kind) in enumerate(k for k in kinds if k[0]):
        if kind == "attention":
            same = other = s.C_A * (F[i] + (1 - F[i]) / T)
        else:
            same, other = averages(s, 1.0)[0], averages(s, F[i])[0]
        d, e = found.jacobian[i], found.common[i]
        out.append(strength**2 * T * (d * same + (T - 1) * e * other) / p[-1])
    return out

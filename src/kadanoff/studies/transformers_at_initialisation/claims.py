"""What the papers claim, and what we derived beside them, as data."""

from __future__ import annotations

from kadanoff.studies.claims import Claim, above, below, between, equals, largest_z
from kadanoff.studies.transformers_at_initialisation.parts import GROUPS
from kadanoff.studies.transformers_at_initialisation.settings import (
    ALONE,
    FLAT,
    GATED,
    NEAR,
    PLAIN,
    POST,
    PRE,
    T,
)
from kadanoff.studies.transformers_at_initialisation.theory import (
    exponents,
    flow,
    power,
    power_between,
)

__all__ = ["CLAIMS", "SECTIONS"]

_GROUPS = "Gradients of every group against width"
_DEPTH = "Signal and gradient against depth"
_COLLAPSE = "Rank collapse"
_EXPONENTS = "Two exponents of stacks with norms after the branches"
_SEEDS = "How much seeds differ"
_REAL = "Sampled networks and real ones"
SECTIONS = (_GROUPS, _DEPTH, _COLLAPSE, _EXPONENTS, _SEEDS, _REAL)

_NEAR = "terms √(1 − ρ) at 1 − ρ = 0.0001"

CLAIMS = (
    Claim(
        "kernels",
        "With learning rates 1/n for matrices and 1 for embeddings and norms each group's part of "
        "the tangent kernel is of order one at every width.",
        tuple(
            equals(
                0.0,
                resolution=0.15,
                allowance=0.01,
                reason="the next order, (10/n)² at n = 128, over four octaves",
                name=f"power of n, {group}",
            )
            for group in GROUPS
        ),
        "secondary",
        section=_GROUPS,
    ),
    Claim(
        "stream",
        "The mean square of a pre-norm stream and the correlation of its tokens follow a map of "
        "two numbers, block by block.",
        largest_z(),
        "derived",
        section=_DEPTH,
    ),
    Claim(
        "zeta",
        "Gradients of pre-norm MLP stacks grow towards the input as (L/l)^ζ, ζ = C_U ⟨φ'²⟩/⟨φ²⟩.",
        tuple(equals(power(s), resolution=0.05, name=f"ζ, {name}") for name, s in PLAIN.items()),
        "derived",
        section=_DEPTH,
    ),
    Claim(
        "gate",
        "A gate adds one to the exponent.",
        tuple(equals(power(s), resolution=0.15, name=f"ζ, {name}") for name, s in GATED.items()),
        "derived",
        section=_DEPTH,
    ),
    Claim(
        "attention",
        "Attention lowers the exponent of cotangents that differ from token to token, as it passes "
        "on only what they have in common.",
        (
            equals(
                power_between(flow(PRE, T, NEAR)),
                resolution=0.05,
                name=f"ζ of independent cotangents of {T} tokens over {PRE.blocks} blocks",
                why=f"by the map; {power(PRE):.3f} for very many tokens",
            ),
            equals(
                power_between(flow(PRE, T, NEAR, coherent=True)),
                resolution=0.1,
                name="ζ, one cotangent for all tokens",
                why="by the map",
            ),
            largest_z("largest |z| of both curves"),
        ),
        "derived",
        section=_DEPTH,
    ),
    Claim(
        "blocks",
        "The mean square gradient of the matrices out of every branch follows, for every depth, "
        "from the same map.",
        largest_z(),
        "derived",
        section=_DEPTH,
    ),
    Claim(
        "no-mlp",
        "Without MLP layers tokens collapse to a line (Cowsik et al.).",
        tuple(below(0.0, name=f"λ_a at a² C_A = {s.attention**2 * s.C_A:.3g}") for s in ALONE),
        section=_COLLAPSE,
    ),
    Claim(
        "no-mlp-rate",
        "They collapse by a factor 1/(1 + a² C_A) a block.",
        tuple(
            equals(
                exponents(s)[0],
                allowance=0.002,
                reason=_NEAR,
                resolution=0.05,
                name=f"λ_a at a² C_A = {s.attention**2 * s.C_A:.3g}",
            )
            for s in ALONE
        ),
        "derived",
        section=_COLLAPSE,
    ),
    Claim(
        "power-law",
        "In pre-norm stacks the collapse is a power law, 1 − ρ ~ l^(ζ−1).",
        equals(
            power(PRE) - 1,
            allowance=0.001,
            reason="terms 1 − ρ at 1 − ρ = 0.01",
            resolution=0.05,
        ),
        "derived",
        section=_COLLAPSE,
    ),
    Claim(
        "residual-scale",
        "Branches scaled by 1/√depth keep tokens apart at any depth (Noci et al.).",
        (
            above(0.2, name="1 − ρ after the deepest stack, scaled"),
            below(0.05, name="1 − ρ after it, unscaled"),
            largest_z("largest |z| to the map, both, all depths"),
        ),
        section=_COLLAPSE,
    ),
    Claim(
        "queries-keys",
        "Rank collapse takes the gradients of queries and keys away (Noci et al.).",
        (
            below(1e-5, name="queries over values at 1 − ρ = 0.001"),
            below(1e-5, name="keys over values at 1 − ρ = 0.001"),
        ),
        section=_COLLAPSE,
    ),
    Claim(
        "queries-keys-power",
        "Their mean squares over that of values fall as (1 − ρ)².",
        tuple(
            equals(
                2.0,
                allowance=0.005,
                reason="terms 1 − ρ at 1 − ρ = 0.01, over two decades",
                resolution=0.1,
                name=name,
            )
            for name in ("queries", "keys")
        ),
        "derived",
        section=_COLLAPSE,
    ),
    Claim(
        "angle",
        "Near collapse 1 − ρ grows by λ_a = log (1 + c)/(1 + k) − log(1 + a² C_A) a block.",
        tuple(
            equals(exponents(s)[0], allowance=0.002, reason=_NEAR, resolution=0.05, name=name)
            for name, s in POST.items()
        ),
        "derived",
        section=_EXPONENTS,
    ),
    Claim(
        "gradient",
        "Cotangents that all tokens share grow by λ_g = log (1 + c)/(1 + k) a block; independent "
        "ones follow the map.",
        (
            *(
                equals(exponents(s)[1], allowance=0.002, reason=_NEAR, resolution=0.05, name=name)
                for name, s in POST.items()
            ),
            largest_z("largest |z| of independent cotangents"),
        ),
        "derived",
        section=_EXPONENTS,
    ),
    Claim(
        "phases",
        "There is an order–chaos transition: weak MLPs let tokens collapse, strong ones keep them "
        "apart (Cowsik et al.).",
        (
            below(0.05, name="1 − ρ at half the critical strength"),
            above(0.05, name="1 − ρ at twice the critical strength"),
        ),
        section=_EXPONENTS,
    ),
    Claim(
        "transition",
        "It lies where λ_a = 0, and the map gives the correlation on both sides.",
        (
            equals(
                0.0,
                allowance=0.002,
                reason=_NEAR,
                resolution=0.03,
                name="λ_a at the strength of MLPs where the formula vanishes",
            ),
            largest_z("largest |z| of correlations"),
        ),
        "derived",
        section=_EXPONENTS,
    ),
    Claim(
        "loss",
        "The final test loss is well predicted by the two exponents at the start (Cowsik et al.).",
        # "well" is read as nearly in the same order; no training has been looked at
        above(0.9, name="rank correlation of the final loss with its prediction"),
        section=_EXPONENTS,
    ),
    Claim(
        "flat",
        "n Var/mean² of the mean square that a network sends out does not depend on its width, "
        "whatever its architecture.",
        tuple(
            equals(
                0.0,
                resolution=0.4,
                allowance=0.05,
                name=f"power of n, {name}",
                reason="the next order in 1/n, from the smallest width on",
            )
            for name in FLAT
        ),
        "derived",
        section=_SEEDS,
    ),
    Claim(
        "vertex",
        "For an MLP it is V/K² + 2, the four-point vertex of the 1/n expansion.",
        equals(
            1.0,
            allowance=0.05,
            reason="the next order in 1/n at the widest network",
            resolution=0.3,
            name="measured over predicted",
        ),
        "derived",
        section=_SEEDS,
    ),
    Claim(
        "shared-keys",
        "Queries that share one key and value head do not average out: the spread stays as the "
        "width grows.",
        equals(
            0.0,
            resolution=0.4,
            allowance=0.05,
            name="power of n in Var/mean²",
            reason="the part that averages out, at the smallest width",
        ),
        "derived",
        section=_SEEDS,
    ),
    Claim(
        "real",
        "Networks sampled without weights are really initialised networks: means and spreads of "
        "signals, Jacobians, gradients and loss.",
        (
            largest_z("largest |z| of means"),
            below(4.5, name="largest |z| of spreads", why="their errors are estimates, too"),
            between(0.6, 1.5, name="root mean square z of all"),
        ),
        "derived",
        section=_REAL,
    ),
)

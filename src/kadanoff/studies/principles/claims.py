"""What the book claims, as data."""

from __future__ import annotations

from kadanoff.studies.claims import Claim, above, below, between, equals, largest_z

__all__ = ["CLAIMS"]

_CRITICAL = "Criticality"
_FLUCTUATIONS = "Fluctuations and L/n"
_INPUTS = "Two inputs"
_KERNEL = "The neural tangent kernel"
_LEARNING = "Representation learning"
_BAYES = "Bayesian inference at order 1/n"
_TRAINED = "The trained network"
_INFORMATION = "Information and the optimal aspect ratio"
_RESIDUAL = "Residual networks"

# finite depth: corrections fall like ln ℓ / ℓ
_LOGS = "2 ln ℓ/ℓ of the value at the last layer"
_PRINTED = "half of the last digit printed"
_WIDER = "change of the extrapolation when the widest network is left out"

CLAIMS = (
    Claim(
        "gelu",
        "GELU is critical at C_b = 0.17292239, C_W = 1.98305826.",
        (
            equals(1.98305826, allowance=5e-9, reason=_PRINTED, name="C_W"),
            equals(0.17292239, allowance=5e-9, reason=_PRINTED, name="C_b"),
        ),
        paper_value="1.98305826, 0.17292239",
        section=_CRITICAL,
    ),
    Claim(
        "silu",
        "SWISH is critical at C_W = 1.98800468, C_b = 0.55514317.",
        (
            equals(1.98800468, allowance=5e-9, reason=_PRINTED, name="C_W"),
            equals(0.55514317, allowance=5e-9, reason=_PRINTED, name="C_b"),
        ),
        paper_value="1.98800468, 0.55514317",
        section=_CRITICAL,
    ),
    Claim(
        "not-critical",
        "Sigmoid and softplus have no critical initialisation.",
        equals(0.0, resolution=0.5, name="critical points found"),
        section=_CRITICAL,
    ),
    Claim(
        "kernel-decay",
        "At criticality 1/K of tanh grows by 2 a layer (K* = 0 class).",
        equals(2.0, allowance=None, reason=_LOGS),
        paper_value=2.0,
        section=_CRITICAL,
    ),
    Claim(
        "parallel",
        "A difference in size between two inputs shrinks by χ∥ a layer.",
        equals(
            1.0,
            allowance=0.02,
            reason="the difference is finite: 5 % of the input",
            name="measured rate over χ∥, n → ∞",
        ),
        section=_INPUTS,
    ),
    Claim(
        "perpendicular",
        "A difference in direction between two inputs shrinks by χ⊥ a layer.",
        equals(
            1.0,
            allowance=0.02,
            reason="the difference is finite: 5 % of the input",
            name="measured rate over χ⊥, n → ∞",
        ),
        section=_INPUTS,
    ),
    Claim(
        "vertex-relu",
        "V/K² of ReLU grows by ν = 5 a layer.",
        equals(5.0, allowance=None, reason="the remainder of the extrapolation in width"),
        paper_value=5.0,
        section=_FLUCTUATIONS,
    ),
    Claim(
        "vertex-tanh",
        "V/K² of the K* = 0 class grows by ν = 2/3 a layer.",
        equals(2 / 3, allowance=None, reason=_LOGS),
        paper_value="2/3",
        section=_FLUCTUATIONS,
    ),
    Claim(
        "aspect-ratio",
        "Fluctuations depend on depth and width through L/n alone.",
        equals(
            0.0,
            resolution=0.15,
            allowance=None,
            reason="the next order, (1 + 5/n)^(rn) against e^(5r)",
            name="relative difference of two widths at L/n = 1/4",
        ),
        section=_FLUCTUATIONS,
    ),
    Claim(
        "ntk-linear",
        "With equal rates the NTK of ReLU grows linearly with depth: Θ ℓ⁻¹ const.",
        largest_z("largest |z| of Θ/ℓ, layer by layer"),
        section=_KERNEL,
    ),
    Claim(
        "ntk-universal",
        "B/Θ² of tanh grows by 1/3 a layer.",
        equals(1 / 3, allowance=None, reason=_LOGS),
        "derived",
        section=_KERNEL,
    ),
    Claim(
        "dntk",
        "P/Θ² (dNTK) of tanh grows by −1/12 a layer.",
        equals(-1 / 12, allowance=None, reason=_LOGS),
        "derived",
        section=_KERNEL,
    ),
    Claim(
        "ensembles",
        "All 1/n observables of tanh agree with simulated networks.",
        largest_z("largest |z| beyond the next power of 1/n"),
        section=_LEARNING,
    ),
    Claim(
        "representation",
        "The mean NTK moves in training by an amount of order 1/n: no features at infinite width.",
        (
            equals(
                -1.0,
                allowance=None,
                reason="change of the power when the widest network is left out and the narrowest "
                "put in",
                name="power of n in the mean relative change",
            ),
            above(4.0, name="size of that change over its error, widest network", condition=True),
        ),
        section=_LEARNING,
    ),
    Claim(
        "bayes",
        "The posterior mean of networks of finite width differs from the kernel's as 1/n, by the "
        "four-point vertex.",
        (
            equals(
                1.0,
                allowance=None,
                reason=_WIDER,
                name="n × shift of exactly weighted networks, n → ∞, over the prediction",
            ),
            above(4.0, name="that shift over its error", condition=True),
        ),
        section=_BAYES,
    ),
    Claim(
        "trained-mean",
        "Trained networks differ from the kernel's prediction as 1/n, by the amount of the dNTK "
        "and ddNTK tensors.",
        tuple(
            equals(1.0, resolution=0.4, name=f"n × shift, n → ∞, over the prediction, output {i}")
            for i in (1, 2)
        ),
        section=_TRAINED,
    ),
    Claim(
        "algorithm",
        "At order 1/n the end of training depends on the algorithm: one giant leap ends elsewhere "
        "than small steps.",
        (
            *(
                equals(
                    1.0,
                    resolution=0.4,
                    name=f"n × shift after a giant leap, n → ∞, over the prediction, output {i}",
                )
                for i in (1, 2)
            ),
            above(0.0, name="distance of the two ends, n × |difference|"),
        ),
        section=_TRAINED,
    ),
    Claim(
        "information",
        "Neurons of a layer share the information (m₁m₂/8) v² [1 − v((m₁ + m₂)/2 + 10/3)].",
        equals(
            1.0,
            allowance=None,
            reason="square of the first correction",
            name="information of two neurons in networks over the formula",
        ),
        section=_INFORMATION,
    ),
    Claim(
        "optimal-aspect",
        "Outputs share the most information at r* = 4/((20 + 3 n_L) ν); a deeper network has less.",
        below(1.0, name="information of two outputs at 2r* over that at r*, ReLU"),
        section=_INFORMATION,
    ),
    Claim(
        "residual-tanh",
        "With a skip of strength γ, V/K² of the K* = 0 class grows by (2/3)(1 − γ⁴) a block.",
        equals(
            0.5,
            allowance=None,
            reason="change of the slope from a quarter to half and from half to the whole depth",
            name="growth a block at γ² = 1/2",
        ),
        section=_RESIDUAL,
    ),
    Claim(
        "residual-linear",
        "With a skip, V/K² of linear networks grows by (1 − γ²)[2(1 − γ²) + 4γ²] a block.",
        equals(
            1.5,
            allowance=None,
            reason="the remainder of the extrapolation in width",
            name="growth a block at γ² = 1/2, networks",
        ),
        section=_RESIDUAL,
    ),
    Claim(
        "optimal-gamma",
        "A skip of strength γ* keeps a deep network at the optimal aspect ratio: V/nK² = "
        "4/(20 + 3 n_L) at its output.",
        equals(
            1.0,
            allowance=None,
            reason="half of V/nK², the next order",
            name="measured V/nK² over 4/(20 + 3 n_L), linear, 20 blocks of width 50",
        ),
        section=_RESIDUAL,
    ),
    Claim(
        "orthogonal",
        "With orthogonal weights V/K² of tanh stays bounded in depth.",
        between(
            -2 / 30,
            2 / 30,
            name="change of V/K² a layer over the last half",
            why="a tenth of the 2/3 of Gaussian weights",
        ),
        "derived",
        section="Orthogonal weights",
    ),
)

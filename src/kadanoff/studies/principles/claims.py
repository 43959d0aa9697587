"""What the paper claims, as data."""

from __future__ import annotations

from kadanoff.studies.claims import Claim

__all__ = ["CLAIMS"]

CLAIMS = (
    Claim("gelu", "GELU is critical at C_b = 0.17292239, C_W = 1.98305826.", 1.98305826),
    Claim("silu", "SWISH is critical at C_W = 1.98800468 (with C_b = 0.55514317).", 1.98800468),
    Claim("not-critical", "Sigmoid and softplus have no critical initialisation."),
    Claim("kernel-decay", "At criticality 1/K of tanh grows by 2 a layer (K* = 0 class).", 2.0),
    Claim("vertex-relu", "V/K² of ReLU grows by ν = 5 a layer.", 5.0),
    Claim("vertex-tanh", "V/K² of the K* = 0 class grows by ν = 2/3 a layer.", 2 / 3),
    Claim("aspect-ratio", "Fluctuations depend on depth and width through L/n alone."),
    Claim("ntk-linear", "With equal rates the NTK of ReLU grows linearly with depth: Θ ℓ⁻¹ const."),
    Claim("ntk-universal", "B/Θ² of tanh grows by 1/3 a layer.", 1 / 3, "derived"),
    Claim("dntk", "P/Θ² (dNTK) of tanh grows by −1/12 a layer.", -1 / 12, "derived"),
    Claim("ensembles", "All 1/n observables of tanh agree with simulated networks."),
    Claim(
        "representation",
        "The mean NTK moves in training by an amount of order 1/n: no features at infinite width.",
    ),
    Claim(
        "trained-mean",
        "Trained networks differ from the kernel's prediction as 1/n, by the "
        "amount of the dNTK and ddNTK tensors.",
    ),
    Claim(
        "orthogonal",
        "With orthogonal weights V/K² of tanh stays bounded in depth.",
        source="derived",
    ),
)

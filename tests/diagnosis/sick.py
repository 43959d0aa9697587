"""A made-up diagnosis of a deep sick net, for the renderers."""

from __future__ import annotations

from kadanoff.diagnosis.result import (
    Diagnosis,
    Estimate,
    Finding,
    LayerReport,
    ParameterReport,
)


def sick(depth: int = 30, describable: bool = True) -> Diagnosis:
    layers = []
    for i in range(1, depth + 1):
        K = 0.33 * 0.58 ** (i - 1)
        chi = Estimate(0.33, 0.01, 0.333, 0.02, -0.2) if describable else Estimate(0.33, 0.01)
        measured = Estimate(K * (1 + 0.05 * (-1) ** i), 0.03 * K)
        layers.append(
            LayerReport(
                index=i,
                path=f"blocks.{i}.attention.output.dense" if not describable else f"net.{2 * i}",
                op="linear",
                call_index=0,
                role="readout" if i == depth else "hidden",
                parameter=f"net.{2 * i}.weight",
                fan_in=256,
                fan_out=256,
                activation="tanh" if i < depth else None,
                normalised=False,
                residual=False,
                mean=Estimate(0.001, 0.002),
                second_moment=measured.against(K, 0.06 * K) if describable else measured,
                correlation=Estimate(1 - 0.5 / i, 0.01),
                jacobian=chi if i < depth else None,
                gradient=Estimate(1e-3 * 0.58 ** (depth - i)),
                weight_gain=Estimate(0.3333, 0.002),
                critical_gain=1.0,
                dead=Estimate(0.01 * i / depth, 0.001),
                zeros=Estimate(0.0, 0.0),
                saturated=Estimate(0.0005, 0.0),
                kurtosis=Estimate(0.1 * i / depth, 0.04),
            )
        )
    finding = Finding(
        "ordered",
        "critical",
        16.0,
        "The signal shrinks by 0.58(1) per layer (χ⊥ = 0.33, critical is 1.00): after 30 layers "
        "1e-7 of it is left; <gain> is 0.33.",
        "Call `kadanoff.tune(model, sample)`.",
        tuple(range(2, depth)),
        0.58,
        0.01,
        1.0,
    )
    return Diagnosis(
        model="Sequential",
        layers=tuple(layers),
        parameters=(ParameterReport("net.0.weight", (256, 64), 0.07, 1e-4, 2e-6, ("tied",)),),
        findings=(finding,),
        verdict="Ordered: χ⊥ = 0.33(1), the signal dies with depth scale 0.9 layers, the net has "
        "30.",
        describable=describable,
        description="tanh MLP, 64 → 256 × 29 → 10",
        n_parameters=1234567,
        n_samples=128,
        depth=depth,
        aspect=0.117,
        input_second_moment=Estimate(1.0, 0.01),
        input_correlation=Estimate(0.3, 0.01),
        loss=2.303,
        loss_name="cross entropy",
        notes=("The model was in training mode.",),
        meta={"kadanoff": "0.1.0", "torch": "2.13.0", "seed": 0, "seconds": 1.234},
    )

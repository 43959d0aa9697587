"""What is held against each claim's criterion: from what was computed to numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kadanoff.studies.claims import Measured
from kadanoff.studies.lab import Lab
from kadanoff.studies.transformers_at_initialisation.theory import Tokens

__all__ = [
    "Sums",
    "Widths",
    "angle",
    "at_infinite_width",
    "attention",
    "blocks",
    "extrapolated",
    "flat",
    "gradient",
    "kernels",
    "no_mlp",
    "phases",
    "power_law",
    "powers",
    "queries_keys",
    "real",
    "residual_scale",
    "shared_keys",
    "stream",
    "transition",
    "vertex",
    "zeta",
]


@dataclass(frozen=True)
class Sums:
    """Numbers at the residual sums of a stack, over independent batches: (batches, sums)."""

    p: np.ndarray
    correlation: np.ndarray
    jacobian: np.ndarray


def at_infinite_width(narrow: Mapping[str, Any], wide: Mapping[str, Any]) -> Sums:
    """Batches at width n and 4n without their order 1/n: see :func:`extrapolated`."""
    names = ("p", "correlation", "jacobian")
    return Sums(*(extrapolated(np.array(narrow[k]), np.array(wide[k])) for k in names))


def extrapolated(narrow: np.ndarray, wide: np.ndarray) -> np.ndarray:
    """Values at width n and 4n without their order 1/n: (4 x(4n) − x(n))/3."""
    return (4 * wide.astype(float) - narrow.astype(float)) / 3


def mean(batches: np.ndarray, scale: float = 1.0) -> Measured:
    """The mean over batches with its standard error."""
    return Measured.over(np.asarray(batches, float), scale)


def z_of(batches: np.ndarray, expected: Sequence[float]) -> np.ndarray:
    """|z| of each column's mean, as rare as its Student's t over the batches is."""
    from scipy.stats import norm, t

    n = len(batches)
    spread = batches.std(0, ddof=1) / math.sqrt(n)
    # what is one by construction has no spread
    varies = spread > 1e-9 * np.abs(batches.mean(0))
    far = (batches.mean(0) - np.array(expected)[-batches.shape[1] :])[varies] / spread[varies]
    return norm.isf(t.sf(np.abs(far), n - 1))


def thinned(z: np.ndarray, count: int = 6) -> list[float]:
    """Some along the depth: neighbours tell the same."""
    return [float(v) for v in z[np.unique(np.linspace(0, len(z) - 1, count).astype(int))]]


def largest(z: Sequence[float]) -> Measured:
    """The largest of many |z|."""
    return Measured(max(z), samples=len(z))


def powers(found: Sums) -> np.ndarray:
    """ζ of each batch: what branches add to gradients over what they add to the signal.

    A branch multiplies the gradient by 1 + c/p and adds k to p: ζ = Σ (J/J' − 1) p / Σ (p' − p).
    """
    p, J = found.p, found.jacobian
    passed = (J[:, :-1] / J[:, 1:] - 1) * p[:, :-1]
    return passed.sum(1) / (p[:, -1] - p[:, 0])


def stream(lab: Lab, found: Sums, theory: Tokens) -> None:
    """Mean square and correlation along the depth."""
    z = [
        *thinned(z_of(found.p, theory.p)),
        *thinned(z_of(found.correlation, theory.correlation)),
    ]
    error = found.p[:, -1].std(ddof=1) / math.sqrt(len(found.p)) / theory.p[-1]
    lab.decide(
        "stream",
        largest(z),
        note=f"{found.p.shape[1]} sums; the mean square after the last is known to {error:.1%}.",
    )


def zeta(lab: Lab, claim: str, found: Mapping[str, Sums]) -> None:
    """ζ of stacks of MLPs, one token."""
    lab.decide(claim, *(mean(powers(sums)) for sums in found.values()))


def attention(
    lab: Lab, own: Sums, shared: Sums, curves: tuple[Sums, Sums], theory: tuple[Tokens, Tokens]
) -> None:
    """ζ near collapse for two kinds of cotangents, and their curves far from it."""
    z = [
        value
        for sums, tokens in zip(curves, theory)
        for value in thinned(z_of(sums.jacobian, _relative(tokens.jacobian)))
    ]
    lab.decide("attention", mean(powers(own)), mean(powers(shared)), largest(z))


def _relative(values: Sequence[float]) -> list[float]:
    return [v / values[-1] for v in values]


def blocks(
    lab: Lab, found: Mapping[int, np.ndarray], theory: Mapping[int, Sequence[float]]
) -> None:
    """E g² of the matrices out of branches, for several depths."""
    z = [value for L in found for value in thinned(z_of(found[L], theory[L]))]
    total = [float(found[L].mean(0).sum()) for L in found]
    lab.decide(
        "blocks",
        largest(z),
        note="Summed over all branches, in units of 1/(T n): "
        + ", ".join(f"{v:.2f} at {L} blocks" for L, v in zip(found, total))
        + ".",
    )


def rate(sums: Sums, per_block: int) -> np.ndarray:
    """Growth of 1 − ρ a block, as a logarithm, of each batch."""
    gap = np.log(1 - sums.correlation)
    steps = gap.shape[1] - 1
    whole = steps // per_block * per_block
    return (gap[:, -1] - gap[:, -1 - whole]) / (whole // per_block)


def no_mlp(lab: Lab, found: Sequence[Sums]) -> None:
    """Attention alone, norms after the branches."""
    rates = [mean(rate(sums, 1)) for sums in found]
    lab.decide("no-mlp", *rates)
    lab.decide("no-mlp-rate", *rates)


def power_law(lab: Lab, found: Sums) -> None:
    """1 − ρ against the stream's mean square in a pre-norm stack near collapse."""
    p, apart = found.p, (1 - found.correlation) * found.p
    grown = ((apart[:, 1:] / apart[:, :-1] - 1) * p[:, :-1]).sum(1)
    lab.decide("power-law", mean(grown / (p[:, -1] - p[:, 0]) - 1))


def residual_scale(
    lab: Lab,
    found: Mapping[tuple[str, int], Sums],
    theory: Mapping[tuple[str, int], Tokens],
) -> None:
    """Correlations after stacks of several depths, branches scaled by 1/√depth or not."""
    z = [
        float(z_of(sums.correlation[:, -1:], theory[case].correlation[-1:])[0])
        for case, sums in found.items()
    ]
    deepest = max(L for _, L in found)
    apart = [mean(1 - found[kind, deepest].correlation[:, -1]) for kind in ("scaled", "plain")]
    lab.decide("residual-scale", *apart, largest(z), note=f"Up to {deepest} blocks.")


def queries_keys(lab: Lab, apart: Sequence[float], rows: np.ndarray) -> None:
    """E g² of queries and keys over that of values, against 1 − ρ.

    ``rows`` has (value, error) of queries, keys and values in each row.
    """
    value, error = rows[:, 0::2], rows[:, 1::2]
    ratio = value[:, :2] / value[:, 2:]
    relative = np.hypot(error[:, :2] / value[:, :2], error[:, 2:] / value[:, 2:])
    at = int(np.argmin(np.abs(np.array(apart) - 1e-3)))
    lab.decide(
        "queries-keys", *(Measured(ratio[at, i], ratio[at, i] * relative[at, i]) for i in (0, 1))
    )
    fits = [Widths(np.array(apart), ratio[:, i], ratio[:, i] * relative[:, i]) for i in (0, 1)]
    lab.decide("queries-keys-power", *(fit.power(correction=False) for fit in fits))


def angle(lab: Lab, found: Sequence[Sums]) -> None:
    """λ_a of stacks with MLPs."""
    lab.decide("angle", *(mean(rate(sums, 2)) for sums in found))


def gradient(
    lab: Lab, shared: Sequence[Sums], own: Sequence[Sums], theory: Sequence[Tokens]
) -> None:
    """λ_g from cotangents that tokens share; curves of independent ones."""
    rates = []
    for sums in shared:
        J = np.log(sums.jacobian[:, ::-1][:, ::2])  # at the sums of MLPs, last to first
        rates.append(mean((J[:, -1] - J[:, 0]) / (J.shape[1] - 1)))
    z = [
        value
        for sums, tokens in zip(own, theory)
        for value in thinned(z_of(sums.jacobian, _relative(tokens.jacobian)), 4)
    ]
    lab.decide("gradient", *rates, largest(z))


def phases(lab: Lab, weak: Sums, strong: Sums, depth: int) -> None:
    """1 − ρ after deep stacks on both sides of the transition."""
    apart = [mean(1 - sums.correlation[:, -1]) for sums in (weak, strong)]
    lab.decide("phases", *apart, note=f"{depth} blocks, tokens start at a correlation of 0.5.")


def transition(lab: Lab, at: Sums, far: Sequence[Sums], theory: Sequence[Tokens]) -> None:
    """λ_a at the strength where the formula has it vanish; correlations on both sides."""
    z = [
        value
        for sums, tokens in zip(far, theory)
        for value in thinned(z_of(sums.correlation, tokens.correlation), 3)
    ]
    lab.decide("transition", mean(rate(at, 2)), largest(z))


@dataclass(frozen=True)
class Widths:
    """A positive number against width: (widths,) each."""

    n: np.ndarray
    value: np.ndarray
    error: np.ndarray

    def power(self, correction: bool) -> Measured:
        """Its power of n, with a term in 1/n fitted beside or without."""
        from kadanoff.program import power_fit

        fit = power_fit(self.n, self.value, self.error, correction)
        return Measured(fit.power, fit.stderr)


def kernels(lab: Lab, found: Mapping[str, Widths]) -> None:
    """λ Σ g² of each group, λ = 1/n for matrices and 1 for embeddings and norms."""
    lab.decide(
        "kernels",
        *(widths.power(correction=True) for widths in found.values()),
        note="A term in 1/n was fitted beside the power. Per entry, E g² falls as 1/n in all "
        "groups but the readout, where it does not fall.",
    )


def flat(lab: Lab, found: Mapping[str, Widths]) -> None:
    """n Var/mean² of the output's mean square."""
    lab.decide(
        "flat",
        *(w.power(correction=False) for w in found.values()),
        note="At the widest: "
        + ", ".join(f"{name} {w.value[-1]:.2f} ± {w.error[-1]:.1g}" for name, w in found.items())
        + ". But for the MLP no closed form is known.",
    )


def vertex(lab: Lab, found: Widths, predicted: float) -> None:
    """The MLP's against the flow in 1/n."""
    ratio = float(found.value[-1]) / predicted
    lab.decide(
        "vertex",
        Measured(ratio, float(found.error[-1]) / predicted),
        note=f"Predicted {predicted:.4f} at n = {found.n[-1]:.0f}.",
    )


def shared_keys(lab: Lab, found: Widths) -> None:
    """Var/mean² of an attention branch of many query heads and one key and value head."""
    power = found.power(correction=False)
    lab.decide("shared-keys", power, note=f"Var/mean² is {found.value[-1]:.3f}.")


def real(lab: Lab, found: Sequence[Mapping[str, Any]], networks: int) -> None:
    """z of all numbers of several models."""
    means = [abs(z) for row in found for z in row["means"]]
    spreads = [abs(z) for row in found for z in row["spreads"]]
    rms = math.sqrt(float(np.mean(np.square([*means, *spreads]))))
    lab.decide(
        "real",
        largest(means),
        max(spreads),
        rms,
        note=f"{len(found)} models, {len(means)} numbers, {networks} networks each way.",
    )

"""What is held against each claim's criterion: mean over seeds and its error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from kadanoff.studies.claims import Baseline, Measured
from kadanoff.studies.lab import Lab

__all__ = ["Runs", "flow", "functions"]

Runs = Sequence[dict[str, Any]]
"""One run a seed."""


def functions(lab: Lab, runs: Runs) -> None:
    """Walsh spectra of networks on bits, and their kernels."""
    couplings = {
        name: np.log([r["couplings"][name] for r in runs]) for name in runs[0]["couplings"]
    }
    shown = ", ".join(f"{name} {math.exp(v.mean()):.0f}" for name, v in couplings.items())
    note = f"{len(runs)} seeds. Effective couplings (geometric means): {shown}."
    accuracy = np.array([r["accuracy"] for r in runs])
    neighbours = np.array([r["15 neighbours"] for r in runs])
    rival = Baseline("15 neighbours, held-out accuracy", *_mean(neighbours))
    lab.decide(
        "sparser-than-random",
        Measured.over(couplings["real labels"] - couplings["random"]),
        Measured.over(accuracy - neighbours + 0.05),
        note=f"{note} Held-out accuracy {accuracy.mean():.3f}.",
        baseline=rival,
    )
    lab.decide(
        "sparser-than-noise",
        Measured.over(couplings["real labels"] - couplings["shuffled labels"]),
        note=note,
    )
    degree = {name: np.array([r["degree"][name] for r in runs]) for name in runs[0]["degree"]}
    lab.decide(
        "low-degree",
        Measured.over(degree["real labels"] - degree["shuffled labels"]),
        note="Mean degree: " + ", ".join(f"{k} {v.mean():.2f}" for k, v in degree.items()) + ".",
    )
    few = np.array([r["accuracy few"] for r in runs])
    lab.decide(
        "few-suffice",
        Measured.over(accuracy - few),
        note=f"{accuracy.mean():.3f} with all couplings, {few.mean():.3f} with few.",
        baseline=Baseline("a linear rule, held-out accuracy", *_mean([r["linear"] for r in runs])),
    )
    share = {name: np.array([r["share"][name] for r in runs]) for name in runs[0]["share"]}
    lab.decide(
        "kernel-aligns",
        Measured.over(share["real labels"] - share["random"]),
        note=f"300 training images: {share['random'].mean():.2f} before, "
        f"{share['real labels'].mean():.2f} after.",
    )


def flow(lab: Lab, runs: Runs) -> None:
    """Effective dimensions layer by layer, trained and random."""
    logs = {name: np.log([r[name] for r in runs]) for name in ("random", "trained")}
    accuracy = Measured.over([r["accuracy"] for r in runs])
    lab.decide(
        "flow-collapses",
        Measured.over(logs["trained"][:, -1] - logs["random"][:, -1]),
        accuracy,
        note="Effective dimensions of the last hidden layer: random "
        f"{math.exp(logs['random'][:, -1].mean()):.1f}, trained "
        f"{math.exp(logs['trained'][:, -1].mean()):.1f}.",
        baseline=Baseline(
            "the images themselves, effective dimensions", math.exp(logs["random"][:, 0].mean())
        ),
    )
    steps = {name: np.diff(value, axis=1)[:, 1:] for name, value in logs.items()}
    lab.decide(
        "flow-in-steps",
        Measured.over(steps["trained"].max(1)),
        Measured.over(steps["random"].min(1)),
        note="From the first hidden layer on.",
    )


def _mean(values: Any) -> tuple[float, float]:
    found = Measured.over(values)
    return float(found.value or 0.0), float(found.stderr or 0.0)

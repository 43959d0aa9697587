"""What is computed beside :mod:`agreement`: ensembles of networks, with their z-scores."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["ensemble", "network"]


def network(activation: str, n: int, hidden: int, inputs: int = 1) -> Any:
    """A network at criticality (tanh with biases for two inputs), eight outputs."""
    import kadanoff as kd

    if inputs == 2:
        return kd.MLP(2, [n] * hidden, 8, activation, C_W=1.6, C_b=0.1)
    return kd.MLP(1, [n] * hidden, 8, activation, C_W=kd.criticality(activation).C_W)


def ensemble(
    activation: str,
    n: int,
    hidden: int,
    X: list,
    networks: int,
    method: str,
    points: int,
    seed: int,
    device: str,
    checkpoint: str,
) -> dict[str, Any]:
    """Measured cumulants of the metric, and z-scores against diagrams of order 5 (two inputs 4)."""
    from kadanoff import diagrams
    from kadanoff.studies.effective_theories.measured import measure

    arch = network(activation, n, hidden, len(X))
    found = measure(
        arch, X, networks, method, points=points, seed=seed, device=device, checkpoint=checkpoint
    )
    theory = diagrams.correlators(arch, X, 5 if len(X) == 1 else 4)
    out: dict[str, Any] = {"z": {}, "value": {}, "error": {}, "theory": {}, "resolution": {}}
    for k in range(1, points // 2 + 1):
        predicted, measured = theory.cumulant(k), found.cumulants[k]
        z = found.z(k, predicted).numpy()
        key, last = str(k), np.abs(predicted[-1]).max()
        out["z"][key] = z[np.isfinite(z)].tolist()
        out["resolution"][key] = float(measured.stderr[-1].max()) / last
        if len(X) == 1:
            out["value"][key] = measured.value.tolist()
            out["error"][key] = measured.stderr.tolist()
            out["theory"][key] = [
                theory.cumulant(k, order=p).tolist() for p in range(max(k - 1, 1), 6)
            ]
    return out

"""What is computed beside :mod:`agreement`: ensembles of networks, with their z-scores."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["decoupled", "ensemble", "network"]


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


def decoupled(n: int, networks: int, seed: int) -> dict[str, Any]:
    """Layer 3 of networks cut there and of deeper ones, and with a later layer's bare weight.

    Given layer 3 the density of the next n' neurons is Gaussian with covariance Ĝ. Left
    unnormalised, as in an action without ghosts, integrating them out leaves (Ĝ/K)^(n'/2).
    """
    from kadanoff.studies.effective_theories.measured import measure

    short, deep = (
        measure(network("tanh", n, hidden), [[1.0]], networks, "weights", points=6, seed=seed + i)
        for i, hidden in enumerate((2, 5))
    )
    z = []
    for k in (1, 2, 3):
        a, b = short.cumulants[k], deep.cumulants[k]
        gap = (a.value[2] - b.value[2]) / (a.stderr[2] ** 2 + b.stderr[2] ** 2) ** 0.5
        z.append(float(gap))
    metric = drawn_metric(n, networks, seed + 2)
    K = float(measure_kernel(n))
    weight = metric / K  # n' = 2
    mean, tilted = metric.mean(), (metric * weight).mean() / weight.mean()
    variance = metric.var(ddof=1)
    predicted = variance / K
    # delta method: the shift is a ratio of averages over the same networks
    each = (metric - tilted) * weight / weight.mean() - (metric - mean)
    error = float(each.std(ddof=1)) / len(metric) ** 0.5
    return {
        "z": z,
        "ratio": float((tilted - mean) / predicted),
        "error": error / predicted,
        "next": float(variance / K**2),
    }


def measure_kernel(n: int) -> Any:
    """Kernel of layer 3 at infinite width."""
    import kadanoff as kd

    return kd.flow(network("tanh", n, 2), [[1.0]]).K[2, 0, 0]


def drawn_metric(n: int, networks: int, seed: int) -> Any:
    """Metric Ĝ of layer 3 of drawn tanh networks, C_b = 0."""
    rng, out = np.random.default_rng(seed), []
    for start in range(0, networks, 10_000):
        count = min(10_000, networks - start)
        z = rng.standard_normal((count, n))
        metric = None
        for _ in range(2):
            metric = (np.tanh(z) ** 2).mean(1)
            z = np.sqrt(metric)[:, None] * rng.standard_normal((count, n))
        out.append(metric)
    return np.concatenate(out)

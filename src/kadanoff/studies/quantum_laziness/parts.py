"""What the study of lazy circuits computes: the parts, each a function of plain numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from kadanoff.studies.quantum_laziness.quantum import (
    Observable,
    descend,
    dqntk,
    gradient_statistics,
    haar_circuits,
    hardware_efficient,
    qnode,
    qntk,
    theory,
)

__all__ = [
    "buried",
    "classical",
    "critical_slopes",
    "decay_rates",
    "hardware",
    "in_pennylane",
    "law_path",
    "observable",
    "second_order",
    "shot_noise",
    "slope_of",
    "train_circuit",
    "two_design",
]


def observable(kind: str, n: int) -> Observable:
    if kind == "projector":
        return Observable.projector(n)
    return Observable.pauli("ZZ"[: min(n, 2)] + "I" * max(0, n - 2))


def two_design(kind: str, n: int, L: int, circuits: int, seed: int) -> dict[str, float]:
    O = observable(kind, n)
    found = gradient_statistics(
        lambda count, s: haar_circuits(n, L, count=count, seed=s),
        O,
        circuits,
        seed=seed,
        block=max(1, min(200, 2**22 // (L * 4**n))),
    )
    return {
        "n": n,
        "L": L,
        "K": found.kernel.value,
        "K_err": found.kernel.stderr,
        "K_theory": theory.qntk_mean(O, L),
        "dK": found.kernel_std.value,
        "dK_err": found.kernel_std.stderr,
        "dK_exact": theory.qntk_std(O, L),
        "dK_leading": theory.qntk_std_leading(O, L),
    }


def hardware(n: int, depth: int, circuits: int, seed: int) -> dict[str, float]:
    O = observable("word", n)
    found = gradient_statistics(
        lambda count, s: hardware_efficient(n, depth, count=count, seed=s),
        O,
        circuits,
        seed=seed,
        block=24,
        last_layer=n,
        dtype=torch.float32,
    )
    L = n * depth
    return {
        "n": n,
        "L": L,
        "K": found.kernel.value,
        "K_err": found.kernel.stderr,
        "K_theory": theory.qntk_mean(O, L),
        "spread": found.kernel_std.value / found.kernel.value,
        "spread_exact": theory.qntk_std(O, L) / theory.qntk_mean(O, L),
        "variance": found.middle.value,
        "variance_err": found.middle.stderr,
        "variance_theory": theory.gradient_variance(O),
        "first": found.first.value,
        "last": found.last.value,
    }


def second_order(n: int, L: int, circuits: int, seed: int) -> dict[str, float]:
    O = observable("word", n)
    circuit = haar_circuits(n, L, count=circuits, seed=seed)
    mu = dqntk(circuit, circuit.angles(circuits, torch.Generator().manual_seed(seed)), O)
    std, d2 = float(mu.std()), (mu - mu.mean()) ** 2
    return {
        "n": n,
        "L": L,
        "mean": float(mu.mean()),
        "mean_err": std / math.sqrt(circuits),
        "std": std,
        "std_err": float(d2.std()) / math.sqrt(circuits) / (2 * std),
        "paper": theory.dqntk_std(O, L),
    }


def train_circuit(
    n: int,
    depth: int,
    starts: int,
    target: float,
    eta_K: float,
    steps: int,
    sigma: float,
    shots: int,
    seed: int,
) -> dict[str, Any]:
    """Train ``starts`` random circuits; the rate is set by the ensemble's mean kernel."""
    O = observable("word", n)
    circuit = hardware_efficient(n, depth, count=starts, seed=seed)
    theta = circuit.angles(starts, torch.Generator().manual_seed(seed + 1))
    _, g, state = circuit.gradient(theta, O)
    K = g.square().sum(1)
    eta = eta_K / float(K.mean())
    run = descend(
        circuit,
        theta,
        O,
        target,
        eta=eta,
        steps=steps,
        sigma=sigma,
        shots=shots or None,
        seed=seed + 2,
    )
    late = slice(steps - steps // 3, None)
    return {
        "n": n,
        "L": circuit.n_parameters,
        "eta": eta,
        "mean": run.epsilon.abs().mean(1),
        "rms": run.epsilon.square().mean(1).sqrt(),
        "epsilon0": run.epsilon[0],
        "epsilon": run.epsilon[-1],
        "K0": run.K[0],
        "K": run.K.mean(1),
        "K_late": run.K[late].mean(0),
        "c": float(K.mean() / O.variance(state).mean()),
        "loss_late": run.epsilon[late].square().mean(0) / 2,
        "first_move": run.first_move,
        "total_move": run.total_move,
    }


def critical_slopes(n: int, depth: int, starts: int, steps: int, seed: int) -> list[list[float]]:
    """Local powers of t in |ε| of each start at the target −1, over the last three doublings."""
    O = observable("word", n)
    circuit = hardware_efficient(n, depth, count=starts, seed=seed)
    theta = circuit.angles(starts, torch.Generator().manual_seed(seed + 1))
    _, g, _ = circuit.gradient(theta, O)
    eta = 0.1 / float(g.square().sum(1).mean())
    logs = descend(circuit, theta, O, -1.0, eta=eta, steps=steps).epsilon.abs().log()
    at = [logs[steps // 2**k] for k in (3, 2, 1, 0)]
    slopes = torch.stack([(b - a) / math.log(2) for a, b in pairwise(at)], 1)
    return slopes.tolist()


def decay_rates(row: dict[str, Any]) -> dict[str, float]:
    """Fitted decay rate of each start between 1 and 1e-3, over −ln(1 − ηK(0))."""
    # the mean over starts of ln|ε| falls on a line if each start decays exponentially
    t = np.arange(len(row["mean"]))
    y = np.log(np.asarray(row["mean"]))
    keep = y > y[0] + math.log(1e-3)
    slope, _ = np.polyfit(t[keep], y[keep], 1)
    residual = y[keep] - np.polyval(np.polyfit(t[keep], y[keep], 1), t[keep])
    K0 = np.asarray(row["K0"])
    rate = -np.log(np.abs(1 - row["eta"] * K0.mean()))
    late = -np.log(np.abs(1 - row["eta"] * row["K"][-1]))
    ends = np.log(np.abs(np.asarray(row["epsilon0"])) / np.abs(np.asarray(row["epsilon"])))
    each = ends / (len(t) - 1) / -np.log(np.abs(1 - row["eta"] * K0))
    return {
        "ratio": float(each.mean()),
        "ratio_err": float(each.std(ddof=1) / math.sqrt(len(each))),
        "mean_rate": float(-slope / rate),
        "late_rate": float(-slope / late),
        "curvature": float(np.abs(residual).max() / np.abs(y[keep][0] - y[keep][-1])),
        "fall": float(np.exp(y[-1] - y[0])),
    }


def in_pennylane(n: int, depth: int, steps: int, seed: int) -> dict[str, float]:
    """Run one circuit in PennyLane: value, gradient, convention, a training."""
    import time

    O = observable("word", n)
    circuit = hardware_efficient(n, depth, seed=seed)
    theta = circuit.angles(1, torch.Generator().manual_seed(seed))
    z, g, _ = circuit.gradient(theta, O)
    program = qnode(circuit, O)

    def value(t: torch.Tensor) -> tuple[float, torch.Tensor]:
        leaf = t.clone().requires_grad_()
        out = program(leaf)
        out.backward()
        assert leaf.grad is not None
        return float(out.detach()), leaf.grad

    value(theta[0])
    start = time.perf_counter()
    z_pl, g_pl = value(theta[0])
    seconds = time.perf_counter() - start
    # the same angles handed to RX, RY and RZ as they are
    rotations = circuit.with_convention("half-angle")
    leaf = (-2 * theta[0]).clone().requires_grad_()
    qnode(rotations, O)(leaf).backward()
    assert leaf.grad is not None
    K = float(qntk(circuit, theta, O)[0])
    eta, here, path = 0.2 / K, theta[0], []
    for _ in range(steps):
        z_now, g_now = value(here)
        path.append(z_now)
        here = here - eta * z_now * g_now
    run = descend(circuit, theta, O, 0.0, eta=eta, steps=steps - 1)
    return {
        "value": abs(z_pl - float(z[0])),
        "gradient": float((g_pl - g[0]).abs().max()),
        "quarter": float(leaf.grad.square().sum()) / K,
        "path": float(np.abs(np.asarray(path) - run.epsilon[:, 0].numpy()).max()),
        "fall": abs(path[-1] / path[0]),
        "seconds": seconds,
    }


def classical(widths: list[int]) -> list[list[float]]:
    """Θ, its predicted relative fluctuation, and the rms derivative of a deep tanh network."""
    import kadanoff as kd

    out = []
    x = torch.ones(1, 8, dtype=torch.float64)
    for n in widths:
        arch = kd.MLP(n_in=8, widths=[n, n], n_out=1, activation="tanh", C_b=0.0, C_W=1.0)
        flow = kd.flow(arch, x, order=1)
        mean = float(flow.Theta[-1].squeeze())
        # all neural indices equal: A + 2 B
        variance = float(flow.require("A")[-1].squeeze() + 2 * flow.require("B")[-1].squeeze()) / n
        P = 8 * n + n * n + n + 2 * n + 1
        out.append([n, P, mean, math.sqrt(variance) / mean, math.sqrt(mean / P)])
    return out


def slope_of(x: Any, y: Any, error: Any) -> tuple[float, float]:
    """Weighted straight line y(x): slope and its standard error."""
    x, y, w = np.asarray(x, float), np.asarray(y, float), 1 / np.asarray(error, float) ** 2
    centre = (w * x).sum() / w.sum()
    spread = (w * (x - centre) ** 2).sum()
    return float((w * (x - centre) * y).sum() / spread), float(spread**-0.5)


def buried(n: int, depth: int, starts: int, seed: int) -> dict[str, float]:
    """Train with angle noise equal to the mean first update."""
    clean = train_circuit(n, depth, starts, 0.0, 0.2, 1, 0.0, 0, seed)
    sigma = float(np.mean(np.asarray(clean["first_move"])))
    noisy = train_circuit(n, depth, starts, 0.0, 0.2, 60, sigma, 0, seed)
    late = np.asarray(noisy["loss_late"])
    ratio = late / [theory.noise_plateau(noisy["eta"], k, sigma) for k in noisy["K_late"].tolist()]
    start = float((noisy["epsilon0"].square() / 2).mean())
    return {
        "sigma": sigma,
        "fall": float(late.mean()) / start,
        "ratio": float(ratio.mean()),
        "error": float(ratio.std(ddof=1)) / math.sqrt(len(ratio)),
    }


def shot_noise(n: int, depth: int, starts: int, shots: list[int], seed: int) -> list[list[float]]:
    """Shot-noise plateaus."""
    out = []
    for S in shots:
        r = train_circuit(n, depth, starts, 0.2, 0.4, 60, 0.0, S, seed)
        late = np.asarray(r["loss_late"])
        told = [theory.shot_plateau(r["eta"], k, S, 1 - 0.04) for k in r["K_late"].tolist()]
        ratio = late / np.asarray(told)
        error = float(ratio.std(ddof=1)) / math.sqrt(len(ratio))
        out.append([S, float(late.mean()), float(np.mean(told)), float(ratio.mean()), error])
    return out


def law_path(row: Mapping[str, Any], target: float, steps: int) -> list[float]:
    """Mean |ε| of the state-conditioned law from each start, with the measured c."""
    paths = [
        np.abs(theory.state_conditioned_law(row["eta"], row["c"], target, e, steps))
        for e in row["epsilon0"]
    ]
    return list(np.mean(paths, axis=0))

"""What the study of the edge of chaos computes, one function a part."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

C_B = 0.05
EDGE = 1.7609546396


def boundary() -> list[float]:
    """C_W at which χ⊥ = 1 for C_b = 0.05, and at which a recurrent network leaves rest."""
    from scipy.optimize import brentq

    from kadanoff.critical import critical_line
    from kadanoff.studies.edge_of_chaos.chaos import mean_field, static_state

    K: Any = brentq(lambda K: critical_line("tanh", [K])[0][1] - C_B, 0.3, 1.0, xtol=1e-14)
    rest: Any = brentq(lambda C_W: static_state("tanh", C_W, C_B)[1], 1.5, 2.0, xtol=1e-12)
    return [
        float(critical_line("tanh", [K])[0][0]),
        rest,
        mean_field("tanh", rest * 1.03, C_B).lyapunov,
    ]


def phases(points: int) -> dict[str, Any]:
    from kadanoff.critical import critical_line, finite_width_scales, phase_diagram

    w, b = np.linspace(0.6, 2.6, points), np.linspace(0.0, 1.0, (points + 1) // 2)
    diagram = phase_diagram("tanh", w.tolist(), b.tolist())
    line = critical_line("tanh", np.geomspace(0.05, 3.0, 25).tolist())
    shifts = []
    for C_W, C_b in line:
        at = finite_width_scales("tanh", C_b, C_W)
        shifts.append([at.edge_shift(50), at.edge_shift(50, typical=True)])
    return {"w": w, "b": b, "chi": diagram.chi_perp, "line": line, "shifts": shifts}


def scales(C_W: list[float]) -> list[list[float]]:
    """ξ_q and ξ_c at infinite width and n = 50 (annealed; typical where it is defined)."""
    from kadanoff.critical import finite_width_scales

    rows = []
    for value in C_W:
        s = finite_width_scales("tanh", C_B, value)
        typical = s.xi_angle(50, typical=True) if s.chi_perp < 1 else math.nan
        rows.append([s.xi_magnitude(), s.xi_magnitude(50), s.xi_angle(), s.xi_angle(50), typical])
    return rows


def tangent(C_W: float, n: int, first: int, layers: int, networks: int, seed: int) -> list[float]:
    """n (λ⊥(n) − χ⊥) annealed, n (Λ − ln χ⊥) typical, and Λ, each with its standard error."""
    from kadanoff.critical import depth_scales
    from kadanoff.studies.edge_of_chaos.chaos import tangent_growth

    chi = depth_scales("tanh", C_B, C_W).chi_perp
    growth = tangent_growth("tanh", C_B, C_W, n, layers, networks, seed=seed)
    (value, error), (rate, spread) = growth.annealed(first), growth.typical(first)
    return [n * (value - chi), n * error, n * (rate - math.log(chi)), n * spread, rate, spread]


def magnitude(widths: list[int]) -> list[float]:
    """n (λ∥(n) − χ∥) at the edge, from the exact chain of the metric."""
    import torch

    from kadanoff.architecture import MLP
    from kadanoff.critical import finite_width_scales
    from kadanoff.rgflow import exact_chain

    s, out = finite_width_scales("tanh", C_B, EDGE), []
    for n in widths:
        x = torch.full((1, 1), math.sqrt(1.3 * s.K_star / EDGE), dtype=torch.float64)
        # deep enough that the next mode, χ∥² a layer, has died out beside this one
        arch = MLP(1, [n] * 20, 1, "tanh", C_b=C_B, C_W=EDGE)
        kappa = exact_chain(arch, x, grid=1024, nodes=80).cumulants[:, 0]
        step = np.diff(kappa)
        out.append(n * ((step[-1] / step[-4]) ** (1 / 3) - s.chi_parallel))
    return out


def secular(C_W: float, layers: int) -> list[float]:
    """λ₁ at c* < 1 from the growth of the 1/n recursion of two inputs, and the closed form."""
    import torch

    from kadanoff.architecture import MLP
    from kadanoff.critical import finite_width_scales
    from kadanoff.rgflow import flow

    s = finite_width_scales("tanh", C_B, C_W)
    size = (s.K_star - C_B) / C_W
    arch = MLP(2, [100] * layers, 1, "tanh", C_b=C_B, C_W=C_W)
    ends = []
    for c in (s.c_star, s.c_star + 1e-5):
        inner = (c * s.K_star - C_B) / C_W / size
        X = torch.tensor([[1.0, 0.0], [inner, math.sqrt(1 - inner**2)]], dtype=torch.float64)
        found = flow(arch, X * math.sqrt(2 * size), order=1)
        ends.append((found.K[:, 0, 1], found.require("G1")[:, 0, 1]))
    ratio = (ends[1][1] - ends[0][1]) / (ends[1][0] - ends[0][0])
    slope = float(ratio[-1] - ratio[-6]) / 5
    return [slope * s.chi_angle, s.angle, s.chi_angle]


def recurrent_state(g: float) -> dict[str, Any]:
    from kadanoff.studies.edge_of_chaos.chaos import mean_field

    s = mean_field("tanh", g * g)
    keep = slice(0, int(np.searchsorted(s.tau, 20.0)), 40)
    return {"C_0": s.C_0, "lyapunov": s.lyapunov, "tau": s.tau[keep], "C": s.C[keep]}


def recurrent(g: float, N: int, networks: int, time: float, seed: int) -> dict[str, Any]:
    from kadanoff.studies.edge_of_chaos.chaos import simulate_recurrent

    run = simulate_recurrent(
        "tanh", g * g, N=N, n_networks=networks, time=time, warm_up=time / 4, dt=0.1, seed=seed
    )
    return {
        "lyapunov": run.mean("lyapunov"),
        "variance": run.mean("variance"),
        "tau": run.tau,
        "C": run.C.mean(1),
    }


def loop(N: int, matrices: int, seed: int) -> dict[str, Any]:
    """N (C − C⁽⁰⁾) of the linear network at σ_w = 0.4, drawn and in closed form."""
    from kadanoff.studies.edge_of_chaos.chaos import (
        LinearNetwork,
        trace_power,
        trace_power_montecarlo,
    )

    network, omega = LinearNetwork(0.16), np.array([0.0, 0.25, 0.5, 1.0, 2.0])
    value, error = network.montecarlo(omega, N, matrices, seed=seed)
    leading = network.correlator(omega)
    pairs = [(2, 0), (4, 0), (3, 1), (4, 2)]
    traces = trace_power_montecarlo(pairs, 1.0, 40, 4 * matrices, seed=seed)
    return {
        "omega": omega,
        "measured": N * (value - leading),
        "error": N * error,
        "closed": N * (network.correlator(omega, N) - leading),
        "leading": float(leading[0]),
        "traces": [
            [f"({t}, {s})", 40 * trace_power(t, s, 1.0, 40), 40 * v, 40 * e]
            for (t, s), v, e in zip(pairs, *traces)
        ],
        "times": [network.correlation_time(), network.correlation_time(N), network.late_time],
    }


def matrices(N: int, count: int, seed: int) -> dict[str, Any]:
    """N E (1/N) tr W^t (Wᵀ)^s at σ = 1, and E (1/N) tr (z − W)⁻¹ at σ = 0.4."""
    from kadanoff.studies.edge_of_chaos.chaos import trace_power_montecarlo

    pairs = [(2, 0), (4, 0), (3, 1), (4, 2)]
    value, error = trace_power_montecarlo(pairs, 1.0, N, count, seed=seed)
    rng, z, sigma = np.random.default_rng(seed + 1), np.array([1.0, 1.5, 2.0, 3.0]), 0.4
    draws = []
    for _ in range(count // 10):
        # only eigenvalues enter, and W and −W are as likely: the odd part is taken out
        eigen = np.linalg.eigvals(sigma / math.sqrt(N) * rng.standard_normal((N, N)))
        draws.append([(x / (x**2 - eigen**2)).mean().real for x in z])
    found = np.array(draws)
    return {
        "pairs": pairs,
        "traces": N * np.asarray(value),
        "errors": N * np.asarray(error),
        "response": found.mean(0),
        "response_error": found.std(0, ddof=1) / math.sqrt(len(found)),
        "told": 1 / z + sigma**2 / (N * z * (z**2 - sigma**2)),
    }


def fluctuation(n: int, layers: int, networks: int, seed: int) -> list[float]:
    """E q²/(E q)² of a linear network with drawn weights, against (1 + 2/n)^layers."""
    import torch

    from kadanoff.architecture import MLP
    from kadanoff.ensembles import ensemble

    # the readout's metric is that of the last hidden layer
    arch = MLP(1, [n] * layers, 1, "linear", C_W=1.0)
    found = ensemble(
        arch,
        torch.ones(1, 1, dtype=torch.float64),
        networks,
        "weights",
        seed=seed,
        observables=["K", "V"],
        layers=[layers + 1],
    )
    V, error = (float(x[-1].squeeze()) for x in (found.V.value, found.V.stderr))
    return [1 + V / n, error / n, (1 + 2 / n) ** layers]


def trained(depth: int, C_W: list[float], settings: dict[str, Any], seed: int, device: str) -> Any:
    from kadanoff.data import load
    from kadanoff.studies.edge_of_chaos.chaos import train_across

    data: Any = load("digits")
    result = train_across(
        "tanh",
        data.inputs[:1024],
        data.targets[:1024],
        C_W,
        C_B,
        depth,
        seed=seed,
        device=device,
        **settings,
    )
    return result.best

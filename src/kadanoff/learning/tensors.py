"""Order-1/n tensors of the output layer for up to dozens of points.

Up to ten points the flow's own quadrature gives every quadruple an integral of its own, to many
digits. Beyond, one pair of points at a time is integrated over and the others are expanded given
the pair (:mod:`kadanoff.gaussian.conditioned`): all averages to about 1e-6, from matrix products.
Two levels of that rule are carried to the end; their difference is the stated error, whatever an
ill-conditioned NTK makes of it: that of the coarser one, a few times that of the finer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from kadanoff.errors import AnalysisError, UsageError
from kadanoff.gaussian.conditioned import Conditioned
from kadanoff.rgflow import flow
from kadanoff.rgflow.differential import Differential, differential_step
from kadanoff.rgflow.kernel import steps
from kadanoff.rgflow.tables import Tables
from kadanoff.rgflow.tangent import Tangent, tangent_step

__all__ = ["EXACT_POINTS", "Replica", "plan", "replicas"]

EXACT_POINTS, MOST_KINKED = 10, 16
TOLERANCE = 1e-5
_FOUR = {
    "bayes": ((0, 0, 0, 0), (0, 0, 1, 1), (1, 1, 1, 1)),
    "gradient": (
        (0, 0, 0, 0),
        (0, 0, 1, 1),
        (1, 1, 1, 1),
        (2, 1, 1, 0),
        (3, 1, 1, 1),
        (2, 2, 1, 1),
    ),
}
_NAMES = {
    "bayes": ("G1", "V"),
    "gradient": ("G1", "H1", "A", "B", "D", "F", "P", "Q", "R", "S", "T", "U"),
}
_PAIRS = ((0, 0), (1, 1), (2, 0), (3, 1), (2, 2), (4, 0), (5, 1), (4, 2), (3, 3))


@dataclass(frozen=True)
class Replica:
    """One evaluation: None for the flow's own quadrature, else a level, 0 the finer of two."""

    level: int | None


def plan(arch: Any, points: int, method: str) -> list[Replica]:
    """How the tensors of ``points`` inputs are evaluated: by the flow, or at two levels.

    Raises
    ------
    AnalysisError
        More memory is needed than there is.
    UsageError
        Too many points for an activation with kinks.
    """
    plain = not arch.residual and arch.block == "single" and arch.init == "gaussian"
    smooth = all(a.smooth for a in arch.activations)
    if not smooth and points > MOST_KINKED:
        raise UsageError(
            f"order=1 for {points} points of an activation with kinks: each triple of points has "
            "an integral of its own, which takes hours.",
            f"Use at most {MOST_KINKED} points (training and test), a smooth activation (GELU for "
            "ReLU, say), or order=0.",
        )
    if points <= EXACT_POINTS or not (plain and smooth):
        return [Replica(None)]
    _check_memory(points, method)
    return [Replica(0), Replica(1)]


def replicas(
    arch: Any, X: Tensor, method: str, scheme: list[Replica], device: str = "cpu"
) -> Iterator[tuple[Replica, SimpleNamespace]]:
    """Tensors of the output layer, without the 1/n, one replica at a time.

    Parameters
    ----------
    X : Tensor, shape (N, n_0)
    method : {"gradient", "bayes"}
        Which tensors: the former needs all, the latter G1 and V.
    device : str
        Where averages of more than ten points are taken; the tensors come back to the CPU.

    Raises
    ------
    UsageError
        A tensor does not exist for this architecture (R, S, T, U with kinks), or the weights are
        uniform.
    """
    if arch.init == "uniform":
        raise UsageError(
            "Outputs of a network with init='uniform' have a fourth cumulant of their own at order "
            "1/n, which the prediction does not hold.",
            "Use init='gaussian', or order=0.",
        )
    averages: dict[int, Conditioned] = {}
    for replica in scheme:
        if replica.level is None:
            result = flow(arch, X, order=1)
            names = ("K", "Theta", *_NAMES[method])
            found = SimpleNamespace(**{name: result.require(name)[-1] for name in names})
        else:
            found = _shared(arch, X, method, replica.level, averages, device)
        yield replica, found


def _check_memory(points: int, method: str) -> None:
    # two layers of every tensor, the tables of a layer, and what a step needs in passing
    needed = 8 * points**4 * (34 if method == "gradient" else 14)
    free = _free_memory()
    if free is not None and needed > free:
        raise AnalysisError(
            f"order=1 for {points} points at a time needs about {needed:,} bytes; "
            f"{free:,} are free.",
            "Use fewer training points, or order=0.",
        )


def _free_memory() -> int | None:
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            found = [line for line in lines if line.startswith("MemAvailable")]
        return int(found[0].split()[1]) * 1024
    except (OSError, IndexError, ValueError):
        return None


def _shared(
    arch: Any, X: Tensor, method: str, level: int, averages: dict[int, Conditioned], device: str
) -> SimpleNamespace:
    inner = arch.metric(X)
    K = arch.C_b[0] + arch.C_W[0] * inner
    Theta = arch.lambda_b[0] + arch.lambda_W[0] * inner
    tangent = Tangent.first_layer(K)
    deep = Differential.first_layer(K, True) if method == "gradient" else None
    for step in steps(arch):
        t = _tables(step, K, method, level, averages, device)
        new = tangent_step(step, t, Theta, tangent)
        if deep is not None:
            deep = differential_step(step, t, Theta, tangent.B, tangent.F, new.F, deep)
        tangent = new
        l = step.layer
        Theta = arch.lambda_b[l] + step.lambda_W * t.ss + step.C_W * t.dd * Theta
        K = arch.C_b[l] + step.C_W * t.ss
    found: dict[str, Any] = {"K": K, "Theta": Theta}
    for name in _NAMES[method]:
        found[name] = getattr(tangent if hasattr(tangent, name) else deep, name)
    return SimpleNamespace(**found)


def _tables(
    step: Any, K: Tensor, method: str, level: int, averages: dict[int, Conditioned], device: str
) -> Tables:
    """Averages of one layer; what two levels share is kept in ``averages``."""
    act = step.activation
    # entering a device slows every call, and the CPU is where tensors go anyway
    with nullcontext() if torch.device(device).type == "cpu" else torch.device(device):
        if step.layer not in averages:
            functions = [act.derivative(k) for k in range(6)]
            patterns = (*_PAIRS, *_FOUR[method])
            averages[step.layer] = Conditioned(
                functions, K.to(device), patterns, TOLERANCE, even=act.odd
            )
        found = averages[step.layer].averages(level)
    found = {p: value.to(K.device) for p, value in found.items()}
    two = {(p[0], p[1]): value for p, value in found.items() if len(p) == 2}
    four = {p: value for p, value in found.items() if len(p) == 4}
    return Tables(two[0, 0], two[1, 1], four, two, {}, None)

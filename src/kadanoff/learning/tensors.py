"""Order-1/n tensors of the output layer for up to dozens of points.

Up to ten points the flow's own quadrature is exact to many digits: every quadruple has an integral
of its own. Beyond, there are too many quadruples; all averages of a layer share one set of Sobol
points instead, the kernel and the NTK included. The tensors are then exactly those of a network
whose neurons are drawn from the points, so that what must cancel (at training points, say) cancels
to rounding. An ill-conditioned NTK still amplifies the sampling error; independent scrambles, and
others with half the points, give its size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from kadanoff.errors import AnalysisError, UsageError
from kadanoff.rgflow import flow
from kadanoff.rgflow.differential import Differential, differential_step
from kadanoff.rgflow.kernel import steps
from kadanoff.rgflow.tables import Tables
from kadanoff.rgflow.tangent import Tangent, tangent_step

__all__ = ["EXACT_POINTS", "Replica", "plan", "replicas"]

EXACT_POINTS = 10
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
_PAIRS = ((1, 1), (2, 0), (3, 1), (2, 2), (4, 0), (5, 1), (4, 2), (3, 3))


@dataclass(frozen=True)
class Replica:
    """One independent evaluation: None points for the flow's own quadrature."""

    points: int | None
    seed: int
    coarse: bool = False


def plan(
    arch: Any, points: int, method: str, *, samples: int | None = None, seed: int = 0
) -> list[Replica]:
    """How the tensors of ``points`` inputs are evaluated.

    A single evaluation by quadrature up to ten inputs; beyond, four replicas and two with half
    the samples, by which the error that replicas share is seen.

    Parameters
    ----------
    samples : int, optional
        Sobol points a layer and replica (rounded to a power of two); by default as many as cost
        some ten seconds a layer. The error falls faster than their square root.

    Raises
    ------
    AnalysisError
        More memory is needed than there is.
    """
    plain = not arch.residual and arch.block == "single" and arch.init == "gaussian"
    smooth = all(a.smooth for a in arch.activations)
    if points <= EXACT_POINTS or not (plain and smooth):
        return [Replica(None, 0)]
    _check_memory(points, method)
    # tables of a layer cost count * points^4
    count = 2 ** min(19, max(11, (2**36 // points**4).bit_length() - 1))
    if samples is not None:
        count = 2 ** max(4, (samples - 1).bit_length())
    full = [Replica(count, seed + r) for r in range(4)]
    return full + [Replica(count // 2, seed + 4 + r, True) for r in range(2)]


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
        Where the sums over samples are taken; the tensors come back to the CPU.

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
    for replica in scheme:
        if replica.points is None:
            result = flow(arch, X, order=1)
            names = ("K", "Theta", *_NAMES[method])
            found = SimpleNamespace(**{name: result.require(name)[-1] for name in names})
        else:
            found = _shared(arch, X, method, replica.points, replica.seed, device)
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
    arch: Any, X: Tensor, method: str, count: int, seed: int, device: str = "cpu"
) -> SimpleNamespace:
    inner = arch.metric(X)
    K = arch.C_b[0] + arch.C_W[0] * inner
    Theta = arch.lambda_b[0] + arch.lambda_W[0] * inner
    tangent = Tangent.first_layer(K)
    deep = Differential.first_layer(K, True) if method == "gradient" else None
    for step in steps(arch):
        t = _tables(step.activation, K, method, count, seed * 1009 + step.layer, device)
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


def _tables(act: Any, K: Tensor, method: str, count: int, seed: int, device: str) -> Tables:
    """Averages of one layer over one scrambled Sobol sequence and its mirror image."""
    N = K.shape[0]
    values, vectors = torch.linalg.eigh(K)
    keep = values > 1e-14 * values[-1]
    root = (vectors[:, keep] * values[keep].sqrt()).flip(1)  # largest direction first
    engine = torch.quasirandom.SobolEngine(root.shape[1], scramble=True, seed=seed)
    u = engine.draw(count // 2, dtype=torch.float64).clamp(1e-15, 1 - 1e-15)
    half = torch.special.ndtri(u)
    # points with exactly the covariance K: the largest part of the sampling error goes
    moment = half.mT @ half / half.shape[0]
    half = half @ torch.linalg.inv(torch.linalg.cholesky(moment)).mT
    z = torch.cat([half, -half]) @ root.mT
    f = [act.derivative(k)(z) for k in range(6)]
    two = {(i, j): f[i].mT @ f[j] / count for i, j in _PAIRS}
    ss, dd = f[0].mT @ f[0] / count, two[1, 1]
    two[0, 0] = ss
    # equal orders make a pair symmetric: half of it is enough
    half_a, half_b = torch.triu_indices(N, N)
    f = [x.to(device) for x in f]
    where = torch.zeros(N, N, dtype=torch.long)
    where[half_a, half_b] = where[half_b, half_a] = torch.arange(len(half_a))
    size = {True: len(half_a), False: N * N}
    four = {
        p: torch.zeros(size[p[0] == p[1]], size[p[2] == p[3]], dtype=K.dtype, device=device)
        for p in _FOUR[method]
    }
    block = max(64, 2**26 // (8 * N * N))
    for start in range(0, count, block):
        rows = slice(start, start + block)
        g = [x[rows] for x in f]
        pair = {
            (i, j): g[i][:, half_a] * g[j][:, half_b]
            if i == j
            else (g[i][:, :, None] * g[j][:, None, :]).flatten(1)
            for i, j in {q for p in four for q in (p[:2], p[2:])}
        }
        for p, total in four.items():
            total.addmm_(pair[p[:2]].mT, pair[p[2:]], alpha=1 / count)
    whole = {}
    for p in list(four):
        total = four.pop(p).cpu()
        for axis, same in ((0, p[0] == p[1]), (1, p[2] == p[3])):
            total = total.index_select(axis, where.flatten()) if same else total
        whole[p] = total.reshape((N,) * 4)
    return Tables(ss, dd, whole, two, {}, None)

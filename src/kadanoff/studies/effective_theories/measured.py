"""Connected correlators of networks that were really drawn, up to the eight-point function."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kadanoff.architecture import Network
from kadanoff.devices import chosen
from kadanoff.diagrams.couplings import pairs_of, set_partitions
from kadanoff.ensembles.blocks import stream
from kadanoff.ensembles.direct import drawn_layers
from kadanoff.ensembles.limit import Reference
from kadanoff.ensembles.moments import Measured, Moments
from kadanoff.ensembles.normals import Normals
from kadanoff.ensembles.plan import EnsemblePlan
from kadanoff.ensembles.trunk import forward
from kadanoff.errors import UsageError
from kadanoff.rgflow import flow

__all__ = ["MeasuredCorrelators", "measure"]

_LETTERS = "abcdefghijkm"


@dataclass(frozen=True)
class MeasuredCorrelators:
    """Cumulants κ_1 … κ_k of the metric, measured, as :meth:`Correlators.cumulant` gives them.

    Attributes
    ----------
    arch : Network
    n_networks : int
    method : str
    cumulants : dict of int to Measured
        κ_k: value and standard error of shape (L, P, …, P), or (L,) for one input. Layer 1 is not
        random; NaN where a layer has too few neurons.
    """

    arch: Network
    n_networks: int
    method: str
    cumulants: dict[int, Measured]

    def z(self, k: int, predicted: Any) -> Tensor:
        """(measured − predicted) / standard error of κ_k; NaN where nothing is random."""
        found = self.cumulants[k]
        error = torch.where(found.stderr > 0, found.stderr, torch.nan)
        return (found.value - torch.as_tensor(predicted)) / error


def measure(
    arch: Network,
    X: Any,
    n_networks: int = 100_000,
    method: str = "exact",
    *,
    points: int = 8,
    seed: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    n_jobs: int | None = None,
    progress: Callable[..., None] | None = None,
    device: str = "cpu",
) -> MeasuredCorrelators:
    """Measure connected correlators of an ensemble of random networks.

    Parameters
    ----------
    arch : MLP
        Gaussian (for "weights" and "neurons" also uniform) weights, no skips.
    X : array, shape (N, n_0)
    n_networks : int
    method : {"exact", "weights", "neurons"}
        "exact": activations from their joint law, no weights. "weights": the networks are drawn.
        Both take the cumulants of each network's metric C_b + C_W σσ/n. "neurons": the networks
        are drawn and nothing but preactivations is looked at: products over distinct neurons,
        unbiased and noisier; one input.
    points : {2, 4, 6, 8}
        Highest correlator.
    seed, checkpoint, n_jobs, progress, device
        As for :func:`kadanoff.ensemble`: seeds belong to blocks, a killed run goes on, errors are
        jackknifed.

    Returns
    -------
    MeasuredCorrelators

    Raises
    ------
    UsageError
    """
    if method not in ("exact", "weights", "neurons"):
        raise UsageError(f"method must be 'exact', 'weights' or 'neurons', got {method!r}.")
    if points not in (2, 4, 6, 8):
        raise UsageError(f"points must be 2, 4, 6 or 8, got {points!r}.")
    if arch.residual or arch.block != "single" or arch.init == "orthogonal":
        raise UsageError("Correlators are measured for independent weights without skips.")
    if method == "exact" and arch.init != "gaussian":
        raise UsageError(f"method='exact' needs Gaussian weights, got init={arch.init!r}.")
    X = arch.inputs(X)
    if method == "neurons" and len(X) > 1:
        raise UsageError(f"method='neurons' is for one input, got {len(X)}.", "Use 'weights'.")
    chosen(device)
    K = flow(arch, X).K
    root = torch.linalg.cholesky_ex(K)[0]
    plan = _Plan(
        arch,
        X,
        Reference(K, K, root, *torch.linalg.eigh(K)),
        frozenset({f"correlators{points}"}),
        frozenset(range(1, arch.L)),
        method,
        1,
        seed,
        device,
    )

    def estimate(moments: Moments) -> dict[str, Measured]:
        found = moments.estimate(lambda means: _cumulants(means, points // 2))
        return {name: _shaped(m, plan, int(name)) for name, m in found.items()}

    moments, _ = stream(
        plan,
        n_networks,
        estimate,
        rtol=None,
        checkpoint=checkpoint,
        n_jobs=n_jobs,
        progress=progress,
        batch=None,
    )
    cumulants = {int(name): m for name, m in estimate(moments).items()}
    return MeasuredCorrelators(arch, moments.n, method, cumulants)


class _Plan(EnsemblePlan):
    """An ensemble plan whose channels are the moments of Ĝ − K."""

    @property
    def most(self) -> int:
        return int(next(iter(self.names)).removeprefix("correlators")) // 2

    def _sums(self, count: int, normals: Normals) -> dict[str, dict[int, Tensor]]:
        sums: dict[str, dict[int, Tensor]] = {str(k): {} for k in range(1, self.most + 1)}
        for l, deviation in self._deviations(count, normals):
            for k in range(1, self.most + 1):
                sums[str(k)][l] = deviation(k)
        return sums

    def _deviations(self, count: int, normals: Normals):
        """(layer index, function k -> sum over networks of the k-th moment of Ĝ − K)."""
        K = self.ref.K
        if self.method == "neurons":
            for l, (z, _) in enumerate(drawn_layers(self.arch, self.X, count, normals, False)):
                yield l, _symmetric(z[:, 0].square() - K[l, 0, 0])
            return
        exact = self.method == "exact"
        trunk = forward(self.arch, self.X, count, normals, exact, self.arch.L - 1)
        pairs = pairs_of(len(self.X))
        a, b = ([p[i] for p in pairs] for i in (0, 1))
        for l in range(self.arch.L):
            yield l, _powers((trunk.metric[l] - K[l])[:, a, b])

    def _stack(self, name: str, found: dict[int, Tensor]) -> Tensor:
        return torch.stack([found[l].to("cpu") for l in range(self.arch.L)])


def _powers(x: Tensor) -> Callable[[int], Tensor]:
    """k -> Σ over networks of x ⊗ … ⊗ x, for x of shape (S, P)."""

    def moment(k: int) -> Tensor:
        S, P = x.shape
        left = x
        for _ in range(k - 2):
            left = (left[:, :, None] * x[:, None, :]).reshape(S, -1)
        return x.sum(0) if k == 1 else (left.T @ x).reshape((P,) * k)

    return moment


def _symmetric(u: Tensor) -> Callable[[int], Tensor]:
    """k -> Σ over networks of the mean product of u over k distinct neurons; u is (S, n)."""
    n = u.shape[1]
    p = [(u**j).sum(1) for j in range(5)]

    def moment(k: int) -> Tensor:
        if n < k:
            return torch.full((1,) * k, torch.nan, dtype=u.dtype, device=u.device)
        e = [torch.ones_like(p[1])]
        for j in range(1, k + 1):  # Newton's identities
            signs = ((-1) ** (i - 1) * e[j - i] * p[i] for i in range(1, j + 1))
            e.append(torch.stack(list(signs)).sum(0) / j)
        return (e[k].sum() / math.comb(n, k)).reshape((1,) * k)

    return moment


def _cumulants(means: dict[str, Tensor], most: int) -> dict[str, Tensor]:
    """κ_k of Ĝ − K from its raw moments, with any leading axes."""
    found = {}
    for k in range(1, most + 1):
        output = _LETTERS[:k]
        total = torch.zeros_like(means[str(k)])
        for blocks in set_partitions(list(range(k))):
            b = len(blocks)
            names = ["".join(_LETTERS[i] for i in block) for block in blocks]
            subscripts = ",".join(f"...{name}" for name in names) + f"->...{output}"
            value = torch.einsum(subscripts, *(means[str(len(block))] for block in blocks))
            total = total + (-1) ** (b - 1) * math.factorial(b - 1) * value
        found[str(k)] = total
    return found


def _shaped(m: Measured, plan: _Plan, k: int) -> Measured:
    value, stderr = m.value, m.stderr
    if k == 1:  # moments were of Ĝ − K
        value = value + torch.stack([plan.ref.K[:, a, b] for a, b in pairs_of(len(plan.X))], 1)
    if len(plan.X) == 1:
        value, stderr = value.reshape(len(value)), stderr.reshape(len(stderr))
    return Measured(value, stderr.masked_fill(stderr < 1e-14 * value.abs().max(), 0.0))

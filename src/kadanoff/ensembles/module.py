r"""Ensembles of any user's ``torch.nn.Module``: a factory builds one network after another.

The outputs' metric and NTK statistics come from autograd, one network at a time, with the same
names as everywhere: V, A, D from pairs of different outputs, B and F from the NTK between them.
There is no infinite-width reference, so no G1 and H1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kadanoff.ensembles.blocks import stream
from kadanoff.ensembles.direct import neuron_sums
from kadanoff.ensembles.moments import Measured, Moments
from kadanoff.ensembles.result import Ensemble
from kadanoff.ensembles.statistics import channels, observables, wanted_names
from kadanoff.errors import AnalysisError, DataError, UsageError
from kadanoff.rgflow.observables import DIFFERENTIAL

__all__ = ["FactoryPlan", "learning_rates", "module_ensemble", "network_ntk"]

_BLOCK = 64


def learning_rates(name: str, parameter: Tensor) -> float:
    """The default λ of a parameter: 1/fan-in for a matrix, 1 for a vector."""
    return 1 / parameter[0].numel() if parameter.ndim > 1 else 1.0


def network_ntk(
    module: nn.Module, X: Tensor, rates: Callable[[str, Tensor], float]
) -> tuple[Tensor, Tensor]:
    """Outputs (N, n) of one module and its NTK (N, N, n, n), Σ λ ∂z/∂θ ∂z/∂θ.

    Parameters shared between layers are counted once.

    Parameters
    ----------
    module : nn.Module
    X : Tensor, the samples along the first axis
    rates : callable
        ``rates(name, parameter)`` gives the λ of a parameter.
    """
    parameters = {k: p for k, p in module.named_parameters() if p.requires_grad}
    with torch.enable_grad():
        z = module(X)
        if not isinstance(z, Tensor) or z.shape[0] != len(X):
            raise UsageError(
                "The module must return one tensor with a row per input, got "
                f"{tuple(z.shape) if isinstance(z, Tensor) else type(z).__name__}.",
                "Wrap it so that it does.",
            )
        z = z.flatten(1)
        N, n = z.shape
        H = torch.zeros(N * n, N * n, dtype=torch.float64)
        rows = []
        for value in z.reshape(-1):
            gradients = torch.autograd.grad(
                value, list(parameters.values()), retain_graph=True, materialize_grads=True
            )
            rows.append(gradients)
    for i, (name, parameter) in enumerate(parameters.items()):
        J = torch.stack([row[i].reshape(-1) for row in rows]).double()
        H += rates(name, parameter) * (J @ J.T)
    H = H.view(N, n, N, n).permute(0, 2, 1, 3)
    return z.detach().double(), H


@dataclass(frozen=True)
class FactoryPlan:
    """Sampling of a factory's networks; sends itself to workers."""

    factory: Callable[[int], nn.Module]
    X: Tensor
    names: frozenset[str]
    width: int
    seed: int
    rates: Callable[[str, Tensor], float]
    block: int = _BLOCK

    @property
    def need(self) -> dict[str, int]:
        return channels(set(self.names), len(self.X))

    def run(self, block: int, size: int) -> list[tuple[int, dict[str, Tensor]]]:
        """Networks number block · 64 … of the factory, 4 to a piece."""
        pieces = []
        N = len(self.X)
        none = torch.zeros(N, N, dtype=torch.float64)
        tangent = bool(self.names & {"Theta", "A", "B", "D", "F"})
        per = 4 if size >= 16 else 1
        for start in range(0, size, per):
            count = min(per, size - start)
            zs, Hs = [], []
            for i in range(start, start + count):
                z, H = self._network(block * self.block + i, tangent)
                zs.append(z)
                if H is not None:
                    Hs.append(H)
            H = torch.stack(Hs) if tangent else None
            sums = neuron_sums(torch.stack(zs), H, none, none, set(self.need))
            pieces.append((count, {k: sums[k][None] for k in self.need}))
        return pieces

    def _network(self, index: int, tangent: bool) -> tuple[Tensor, Tensor | None]:
        # factories draw from torch's global generator, which is put back as it was
        with torch.random.fork_rng(devices=[]):
            number = (self.seed * 1_000_003 + index) % 2**62
            torch.manual_seed(number)
            module = self.factory(number)
        if not isinstance(module, torch.nn.Module):
            raise UsageError(f"The factory must return a torch.nn.Module, got {type(module)!r}.")
        module.eval()
        dtype = next((p.dtype for p in module.parameters()), torch.get_default_dtype())
        X = self.X.to(dtype)
        if tangent:
            z, H = network_ntk(module, X, self.rates)
        else:
            z, H = module(X).detach().double().flatten(1), None
        if not torch.isfinite(z).all():
            raise AnalysisError(f"Network {index} of the factory gives NaN or infinite outputs.")
        return z, H

    def fingerprint(self) -> str:
        """Changes with seed, inputs, names, and the parameters of the first network."""
        digest = hashlib.sha256(repr((sorted(self.names), self.width, self.seed)).encode())
        digest.update(self.X.numpy().tobytes())
        digest.update(self._network(0, False)[0].numpy().tobytes())
        return digest.hexdigest()


def module_ensemble(
    factory: Callable[[int], nn.Module],
    X: Any,
    n_networks: int,
    *,
    seed: int,
    observables: Iterable[str] | None = None,
    width: int = 1,
    rates: Callable[[str, Tensor], float] = learning_rates,
    **options: Any,
) -> Ensemble:
    """As :func:`kadanoff.ensemble` for ``factory(seed) -> Module``; one layer, the output.

    Parameters
    ----------
    width : int
        n in the normalisation V = n · covariance; 1 leaves plain covariances.
    rates : callable
        ``rates(name, parameter)`` gives the λ of a parameter in the NTK.

    Raises
    ------
    UsageError
        The factory is not callable or does not return a module with a tensor output.
    """
    import time

    if not callable(factory):
        raise UsageError(
            f"Expected an architecture or a factory of modules, got {type(factory).__name__}.",
            "Pass kd.MLP(...), or a function that builds a fresh torch.nn.Module.",
        )
    inputs = torch.as_tensor(X)
    if inputs.ndim < 2 or len(inputs) == 0 or not torch.isfinite(inputs).all():
        raise DataError(f"Inputs must be finite, one row a sample; got {tuple(inputs.shape)}.")
    undefined = dict.fromkeys(("G1", "H1"), "a user's module has no infinite-width reference")
    undefined |= dict.fromkeys(DIFFERENTIAL, "dNTKs of a user's module are not sampled")
    if len(inputs) > 1:
        undefined["U6"] = "the six-point vertex is measured for one input"
    names = wanted_names(observables, undefined)
    plan = FactoryPlan(factory, inputs, names, width, seed, rates)
    start = time.perf_counter()
    zero = torch.zeros(1, len(inputs), len(inputs), dtype=torch.float64)
    widths = torch.tensor([width], dtype=torch.float64)

    def estimate(moments: Moments) -> dict[str, Measured]:
        return moments.estimate(lambda means: _observables(means, zero, widths, set(names)))

    moments, converged = stream(plan, n_networks, estimate, **options)
    return Ensemble(
        arch=None,
        X=inputs.double(),
        n_networks=moments.n,
        method="module",
        seed=seed,
        values=estimate(moments),
        undefined=undefined,
        seconds=time.perf_counter() - start,
        converged=converged,
    )


def _observables(
    means: dict[str, Tensor], zero: Tensor, widths: Tensor, names: set[str]
) -> dict[str, Tensor]:
    return observables(means, zero, zero, widths, names)

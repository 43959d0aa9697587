"""Runs the order-1/n recursions over the layers, once for each replica of the quadrature."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

from kadanoff.errors import AnalysisError
from kadanoff.gaussian.many import Replicas
from kadanoff.rgflow import tables as tb
from kadanoff.rgflow.differential import Differential, differential_step
from kadanoff.rgflow.kernel import Step, steps
from kadanoff.rgflow.tangent import Tangent, tangent_step
from kadanoff.rgflow.vertex import first_vertex, six_point

__all__ = ["order_one"]

_TANGENT = ("H1", "D", "A", "B", "F")
_DIFFERENTIAL = ("P", "Q", "R", "S", "T", "U")
_STRATEGY = {
    "lattice": "trapezoidal rule on a body-centred lattice of Cholesky coordinates for each subset "
    "of inputs; error: difference from a step wider by a quarter",
    "panels": "Gauss-Legendre panels cut at the kinks; error: difference of two orders",
    "sobol": "eight scrambled Sobol sequences where more than two inputs differ (three with "
    "kinks), otherwise deterministic rules; error: standard error of the mean",
}


def order_one(
    arch: Any, X: Tensor, K: list[Tensor], Theta: list[Tensor], tolerance: float
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Every 1/n observable at every layer.

    Parameters
    ----------
    arch : MLP or Residual
    X : Tensor, shape (N, n_0)
        Inputs; only uniform weights of the first map see more of them than their products.
    K, Theta : list of Tensor, each (N, N)
        Infinite-width kernel and NTK at layers 1 ... L.
    tolerance : float

    Returns
    -------
    tensors : dict of name to Tensor (L, ...)
    extra : dict
        ``error``, ``strategy`` and ``undefined`` of :class:`kadanoff.rgflow.run.Flow`.

    Raises
    ------
    AnalysisError
        The tensors of all layers do not fit into memory.
    """
    plan = steps(arch)
    if arch.residual or arch.block == "two_layer" or arch.init == "uniform":
        from kadanoff.rgflow.residual import residual_flow

        return residual_flow(arch, X, K, Theta, tolerance, _STRATEGY)
    _check_memory(K[0].shape[0], len(plan))
    smooth = all(step.activation.smooth for step in plan)
    patterns = tb.SMOOTH if smooth else tb.DIFFERENTIAL

    rule = Replicas("lattice", 2)
    layers = []  # per step: tables for each replica
    for step in plan:
        found, averages = tb.tables(step.activation, K[step.layer - 1], patterns, tolerance)
        layers.append(averages)
        # the least accurate kind of rule speaks for the whole run
        if ("lattice", "panels", "sobol").index(found.kind) >= (
            "lattice", "panels", "sobol"
        ).index(rule.kind):  # fmt: skip
            rule = found
    replicas = [
        _run(arch, plan, K, Theta, [a[r % len(a)] for a in layers]) for r in range(rule.count)
    ]
    names = list(replicas[0])
    tensors = {name: rule.value([f[name] for f in replicas]) for name in names}
    errors = {name: rule.error([f[name] for f in replicas]) for name in names}
    undefined = {}
    if K[0].shape[0] == 1 and arch.init == "gaussian":
        tensors["U6"] = _six_points(plan, K, tensors["V"])
        errors["U6"] = 1e-12 * tensors["U6"].abs()
    else:
        undefined["U6"] = "the six-point vertex is given at one input of a plain Gaussian network."
    if not smooth:
        undefined |= dict.fromkeys(("R", "S", "T", "U"), tb.KINKED)
    return tensors, {"error": errors, "strategy": _STRATEGY[rule.kind], "undefined": undefined}


def _check_memory(inputs: int, layers: int) -> None:
    """Six tables a step and thirteen tensors a layer, for two or eight replicas of the averages."""
    replicas = 2 if inputs <= 16 else 8
    needed = 8 * inputs**4 * replicas * layers * 19
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > total:
        raise AnalysisError(
            f"order=1 for {inputs} inputs and {layers + 1} layers needs about {needed:,} bytes; "
            f"this machine has {total:,}.",
            "Use fewer inputs. kadanoff.predict(order=1) keeps the output layer alone.",
        )


def _run(arch, plan: list[Step], K, Theta, layers) -> dict[str, Tensor]:
    smooth = all(step.activation.smooth for step in plan)
    tangent = [Tangent.first_layer(K[0], first_vertex(arch, K[0]))]
    differential = [Differential.first_layer(K[0], smooth)]
    for step, t in zip(plan, layers, strict=True):
        theta, old = Theta[step.layer - 1], tangent[-1]
        new = tangent_step(step, t, theta, old)
        differential.append(
            differential_step(step, t, theta, old.B, old.F, new.F, differential[-1])
        )
        tangent.append(new)
    names = ("G1", "V", *_TANGENT)
    out = {name: torch.stack([getattr(layer, name) for layer in tangent]) for name in names}
    for name in _DIFFERENTIAL:
        values = [getattr(layer, name) for layer in differential]
        if values[0] is not None:
            out[name] = torch.stack(values)
    return out


def _six_points(plan: list[Step], K: list[Tensor], V: Tensor) -> Tensor:
    U6 = [K[0].new_zeros(())]
    for step in plan:
        l = step.layer - 1
        U6.append(six_point(step, K[l], V[l], U6[-1]))
    return torch.stack(U6)

"""Runs the order-1/n recursions over the layers, once for each replica of the quadrature."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from kadanoff.errors import UsageError
from kadanoff.gaussian.many import MOST_SAMPLES, Replicas, Spread
from kadanoff.rgflow import tables as tb
from kadanoff.rgflow.differential import Differential, differential_step
from kadanoff.rgflow.kernel import Step, steps
from kadanoff.rgflow.tables import Tables
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
    arch: Any,
    X: Tensor,
    K: list[Tensor],
    Theta: list[Tensor],
    tolerance: float,
    progress: Callable[..., None] | None = None,
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
    progress : callable, optional
        ``progress(done, total)`` after every step.

    Returns
    -------
    tensors : dict of name to Tensor (L, ...)
    extra : dict
        ``error``, ``strategy`` and ``undefined`` of :class:`kadanoff.rgflow.run.Flow`.

    Raises
    ------
    UsageError
        The tensors of all layers do not fit into memory.
    """
    plan = steps(arch)
    if arch.residual or arch.block == "two_layer" or arch.init == "uniform":
        from kadanoff.rgflow.residual import residual_flow

        return residual_flow(arch, X, K, Theta, tolerance, _STRATEGY)
    smooth = all(step.activation.smooth for step in plan)
    _check_memory(K[0].shape[0], len(plan), smooth)
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
        _tell(progress, step.layer, len(plan) * (rule.count + 1))
    tensors, errors, spread = {}, {}, Spread(rule)
    for r in range(rule.count):
        for l, layer in enumerate(_run(arch, plan, K, Theta, (a[r % len(a)] for a in layers))):
            for name, value in layer.items():
                spread.add((name, l), value)
            _tell(progress, len(plan) * (r + 1) + l, len(plan) * (rule.count + 1))
    for name in ("G1", "V", *_TANGENT, *_DIFFERENTIAL):
        if spread.has((name, 0)):
            keys = [(name, l) for l in range(arch.L)]
            tensors[name], errors[name] = spread.value(keys), spread.error(keys)
    undefined = {}
    if K[0].shape[0] == 1 and arch.init == "gaussian":
        tensors["U6"] = _six_points(plan, K, tensors["V"])
        errors["U6"] = 1e-12 * tensors["U6"].abs()
    else:
        undefined["U6"] = "the six-point vertex is given at one input of a plain Gaussian network."
    if not smooth:
        undefined |= dict.fromkeys(("R", "S", "T", "U"), tb.KINKED)
    return tensors, {"error": errors, "strategy": _STRATEGY[rule.kind], "undefined": undefined}


def _check_memory(inputs: int, layers: int, smooth: bool) -> None:
    """Tensors and their errors at all layers, those of two layers, tables, and what passes by."""
    held = 24 * (layers + 1) + 50
    if inputs <= MOST_SAMPLES or not smooth:  # the averages of all replicas are held at a time
        held += 6 * layers * (2 if smooth else 8)
    needed = 8 * inputs**4 * held
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > total:
        raise UsageError(
            f"order=1 for {inputs} inputs and {layers + 1} layers needs about {needed:,} bytes; "
            f"this machine has {total:,}.",
            "Use fewer inputs. kadanoff.predict(order=1) keeps the output layer alone.",
        )


def _tell(progress: Callable[..., None] | None, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)


def _run(
    arch: Any, plan: list[Step], K: list[Tensor], Theta: list[Tensor], layers: Iterable[Tables]
) -> Iterator[dict[str, Tensor]]:
    """All tensors of layers 1 … L in turn, from one replica of the averages."""
    smooth = all(step.activation.smooth for step in plan)
    tangent = Tangent.first_layer(K[0], first_vertex(arch, K[0]))
    differential = Differential.first_layer(K[0], smooth)
    yield _named(tangent, differential)
    for step, t in zip(plan, layers, strict=True):
        theta = Theta[step.layer - 1]
        new = tangent_step(step, t, theta, tangent)
        differential = differential_step(step, t, theta, tangent.B, tangent.F, new.F, differential)
        tangent = new
        yield _named(tangent, differential)


def _named(tangent: Tangent, differential: Differential) -> dict[str, Tensor]:
    found = {name: getattr(tangent, name) for name in ("G1", "V", *_TANGENT)}
    found |= {name: getattr(differential, name) for name in _DIFFERENTIAL}
    return {name: value for name, value in found.items() if value is not None}


def _six_points(plan: list[Step], K: list[Tensor], V: Tensor) -> Tensor:
    U6 = [K[0].new_zeros(())]
    for step in plan:
        l = step.layer - 1
        U6.append(six_point(step, K[l], V[l], U6[-1]))
    return torch.stack(U6)

r"""Order 1/n of residual networks: single blocks (:mod:`kadanoff.rgflow.skip`) and two-layer ones.

In a two-layer block :math:`z' = b_2 + W_2\sigma(b_1 + W_1 z) + \gamma z` the neuron acts on the
metric only through :math:`zz^T/n`, so what it remembers has two derivatives exactly and stays a
matrix:

.. math::
   \hat V' &= \chi\hat V\chi^T + \mathrm{noise} + (\chi M \chi_1^T + \mathrm{transposed}), \qquad
   M' = \gamma^2(\chi M + \chi_1 KK), \qquad V = \hat V + M + M^T,

with :math:`\chi_1` the derivative of the block and :math:`\chi = \gamma^2 + \chi_1`.

For ReLU single blocks at γ² = ½ and K = C_W = 1, V is 2.25, 5.4775, 9.3684, 13.7190 …; with the
memory cut after two derivatives it would be 2.25, 5.40, 9.19, 13.42, which simulation excludes
(5.480 ± 0.010 and 9.377 ± 0.017).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kadanoff.errors import UsageError
from kadanoff.gaussian.many import Replicas
from kadanoff.rgflow import tables as tb
from kadanoff.rgflow.kernel import Step, steps
from kadanoff.rgflow.skip import Layer, Memory, memory, skip_flow
from kadanoff.rgflow.tables import Tables
from kadanoff.rgflow.tangent import haar

__all__ = ["residual_flow"]

_NOT_DERIVED = ("P", "Q", "R", "S", "T", "U", "U6")
_NOT_DERIVED_TWO_LAYER = ("H1", "D", "A", "B", "F", *_NOT_DERIVED)
# the least accurate kind of rule speaks for the whole run
_KINDS = ("lattice", "panels", "sobol")


def residual_flow(
    arch: Any, K: list[Tensor], Theta: list[Tensor], tolerance: float, strategy: dict[str, str]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """1/n of a residual network; see :func:`kadanoff.rgflow.order_one.order_one`."""
    if arch.init == "orthogonal":
        raise UsageError(
            "The 1/n corrections of a residual network are derived for Gaussian weights, got "
            "init='orthogonal'.",
            "Use init='gaussian', or order=0.",
        )
    two_layer = arch.block == "two_layer"
    rule, out = (_two_layer_flow if two_layer else _single_flow)(arch, K, Theta, tolerance)
    missing = _NOT_DERIVED_TWO_LAYER if two_layer else _NOT_DERIVED
    reason = "not derived for skip connections; measure it with ensemble(..., method='weights')."
    undefined: dict[str, str] = dict.fromkeys(missing, reason)
    for name, where in {"G1": "at one input only", "H1": "for smooth ones only"}.items():
        if name in out and not bool(torch.isfinite(out[name][0]).all()):
            del out[name]
            undefined[name] = f"with skip connections and a kinked activation it is given {where}."
    tensors = {name: rule.value(values) for name, values in out.items()}
    errors = {name: rule.error(values) for name, values in out.items()}
    return tensors, {"error": errors, "strategy": strategy[rule.kind], "undefined": undefined}


def _single_flow(
    arch: Any, K: list[Tensor], Theta: list[Tensor], tolerance: float
) -> tuple[Replicas, dict[str, list[Tensor]]]:
    plan = steps(arch)
    rules: list[Replicas] = []
    found: list[list[Tables]] = []
    pasts: list[list[list[Memory] | None]] = []
    for l, step in enumerate(plan):
        rule, layer = tb.tables(step.activation, K[l], tb.TANGENT, tolerance)
        rules.append(rule)
        found.append(layer)
        past: list[list[Memory] | None] = []
        for k in range(l):
            skip = 1.0
            for between in plan[k:l]:
                skip *= between.gamma
            if skip == 0.0:
                past.append(None)
                continue
            rule, joined = memory(plan[k].activation, K[k], step.activation, K[l], skip, tolerance)
            rules.append(rule)
            past.append(joined)
        pasts.append(past)
    rule = max(rules, key=lambda r: (_KINDS.index(r.kind), r.shared))
    runs = []
    for r in range(rule.count):
        layers = [
            Layer(
                step, found[l][r % len(found[l])], K[l], Theta[l],
                [None if m is None else m[r % len(m)] for m in pasts[l]],
            )
            for l, step in enumerate(plan)
        ]  # fmt: skip
        runs.append(skip_flow(layers))
    return rule, {name: [torch.stack(run[name]) for run in runs] for name in runs[0]}


@dataclass(frozen=True)
class _State:
    G1: Tensor
    V_hat: Tensor  # matrix on pairs
    memory: Tensor  # M above


def _two_layer_flow(
    arch: Any, K: list[Tensor], Theta: list[Tensor], tolerance: float
) -> tuple[Replicas, dict[str, list[Tensor]]]:
    N = K[0].shape[0]
    zero = K[0].new_zeros(N * N, N * N)
    rule = Replicas("lattice", 2)
    replicas = [_State(torch.zeros_like(K[0]), zero, zero)] * 8
    shifts, vertices = [[r.G1] for r in replicas], [[r.V_hat] for r in replicas]
    for step in steps(arch):
        k = K[step.layer - 1]
        inner = step.C_b + step.C_W * k if step.inner_ratio else k
        found, layer = tb.tables(step.activation, inner, tb.VERTEX, tolerance)
        rule = max(rule, found, key=lambda r: (_KINDS.index(r.kind), r.shared))
        for r, old in enumerate(replicas):
            t = layer[r % len(layer)]
            new = _two_layer(step, t, k, old) if step.inner_ratio else _plain(step, t, old)
            replicas[r] = new
            shifts[r].append(new.G1)
            vertices[r].append(new.V_hat + new.memory + new.memory.T)
    return rule, {
        "G1": [torch.stack(s) for s in shifts[: rule.count]],
        "V": [torch.stack(v).reshape(len(v), N, N, N, N) for v in vertices[: rule.count]],
    }


def _matrix(T: Tensor) -> Tensor:
    N = T.shape[0]
    return T.reshape(N * N, N * N)


def _jacobian(t: Tables) -> Tensor:
    N = t.ss.shape[0]
    return _matrix(t.J(0, torch.eye(N * N, dtype=t.ss.dtype).reshape((N,) * 4)))


def _noise(t: Tables) -> Tensor:
    return _matrix(t.four[0, 0, 0, 0] - t.ss[:, :, None, None] * t.ss)


def _plain(step: Step, t: Tables, old: _State) -> _State:
    """The readout, a plain layer after the blocks."""
    N, c, rho = t.ss.shape[0], step.C_W, step.rho
    chi = c * _jacobian(t)
    V = old.V_hat + old.memory + old.memory.T
    bent = c * t.hessian(0, V.reshape((N,) * 4))
    G1 = rho * ((chi @ old.G1.flatten()).reshape(N, N) + bent)
    return _State(G1, rho * chi @ V @ chi.T + c * c * _noise(t), torch.zeros_like(V))


def _two_layer(step: Step, t: Tables, K: Tensor, old: _State) -> _State:
    """One block z' = b₂ + W₂σ(b₁ + W₁z) + γz; the inner neurons see only the metric of z."""
    N, c = K.shape[0], step.C_W
    inner = c * c * _jacobian(t)  # derivative of C_W⟨σσ⟩ at C_b + C_W K
    chi = step.gamma**2 * torch.eye(N * N, dtype=K.dtype) + inner
    wick = _matrix(haar(K))  # Cov(z_a z_b, z_c z_d)
    noise = c * c * _noise(t)
    cross = chi @ old.memory @ inner.T
    rho = step.rho
    V_hat = rho * (chi @ old.V_hat @ chi.T + cross + cross.T)
    V_hat = V_hat + inner @ wick @ inner.T + step.inner_ratio * noise
    memory = step.gamma**2 * (rho * chi @ old.memory + inner @ wick)

    total = rho * (old.V_hat + old.memory + old.memory.T) + wick
    bent = c**3 * t.hessian(0, total.reshape(N, N, N, N))
    G1 = rho * (chi @ old.G1.flatten()).reshape(N, N) + bent
    return _State(G1, V_hat, memory)

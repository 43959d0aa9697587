r"""Order 1/n of networks with skips or with uniform weights, by nodes and lines.

:mod:`kadanoff.rgflow.nodes` lays the architecture out, :mod:`kadanoff.rgflow.one_neuron` has the
recursion of metric and NTK, :mod:`kadanoff.rgflow.across_neurons` everything across two neurons.
Two-layer blocks are the same thing with one more node a block, and a stream that is linear.

For ReLU single blocks at γ² = ½ and K = C_W = 1, V is 2.25, 5.4775, 9.3684, 13.7190 …; with the
memory cut after two derivatives it would be 2.25, 5.40, 9.19, 13.42, which simulation excludes
(5.480 ± 0.010 and 9.377 ± 0.017).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from kadanoff.architecture import Network
from kadanoff.gaussian.replicas import Replicas, least_accurate
from kadanoff.rgflow import averages as tb
from kadanoff.rgflow.averages import Tables
from kadanoff.rgflow.linear import is_linear, linear_tables, linear_two_layers
from kadanoff.rgflow.nodes import FlowNode, Net, chain, skips
from kadanoff.rgflow.observables import ROUGH, SMOOTH, TANGENT
from kadanoff.rgflow.one_neuron import first_quartic, skip_flow
from kadanoff.rgflow.statistics import STRATEGY, OrderOne
from kadanoff.rgflow.two_layers import TwoLayers, two_layer_averages
from kadanoff.rgflow.vertex import first_vertex

__all__ = ["ResidualReplicas", "residual_flow", "residual_replicas"]

_T = TypeVar("_T")
_SINGULAR = (
    "inputs that are parallel at a kinked activation behind a skip: derivatives of the kernel of "
    "two layers do not exist separately. Leave one of the inputs out."
)


@dataclass(frozen=True)
class ResidualReplicas:
    """The tensors of all layers from every replica of the averages.

    Attributes
    ----------
    rule : Replicas
    runs : list of dict of name to Tensor, shape (L, N, ...)
    undefined : dict of name to str
    """

    rule: Replicas
    runs: list[dict[str, Tensor]]
    undefined: dict[str, str]


def residual_flow(
    arch: Network, X: Tensor, K: Sequence[Tensor], Theta: Sequence[Tensor], tolerance: float
) -> OrderOne:
    """1/n of a network with skips; see :func:`kadanoff.rgflow.recursions.order_one`.

    Parameters
    ----------
    arch, X, K, Theta, tolerance
        As for :func:`residual_replicas`.
    """
    found = residual_replicas(arch, X, K, Theta, tolerance)
    rule = found.rule
    tensors, errors = {}, {}
    for name in found.runs[0]:
        results = [run[name] for run in found.runs]
        tensors[name], errors[name] = rule.value(results), rule.error(results)
    return OrderOne(tensors, errors, STRATEGY[rule.kind], found.undefined)


def residual_replicas(
    arch: Network, X: Tensor, K: Sequence[Tensor], Theta: Sequence[Tensor], tolerance: float
) -> ResidualReplicas:
    """The same for every replica of the averages.

    Parameters
    ----------
    arch : Network
    X : Tensor, shape (N, n_0)
    K, Theta : sequence of L Tensors, shape (N, N)
    tolerance : float
        Aim of the error of the averages, relative to the norms of their factors.
    """
    nodes = chain(arch, K, Theta)
    smooth = all(step.activation.smooth for node in nodes if (step := node.step))
    rules, tables, past = _averages(nodes, smooth, tolerance)
    rule = least_accurate(rules)
    names = (*TANGENT, *ROUGH, *(SMOOTH if smooth else ()))
    vertex = first_vertex(arch, K[0]) / arch.n[0]
    quartic = first_quartic(arch.C_W[0], X) if arch.init == "uniform" else None
    # absolute units to powers of 1/n taken out
    widths = torch.tensor(arch.n[:-1], dtype=torch.float64)
    runs = []
    for r in range(rule.count):
        joined = [[_replica(one, r) if one else None for one in row] for row in past]
        net = Net(nodes, [_replica(one, r) for one in tables], joined)
        found = skip_flow(net, vertex, quartic, names)
        runs.append({name: _times(torch.stack(found[name]), widths) for name in names})
    undefined = {"U6": "the six-point vertex is given at one input of a plain Gaussian network."}
    if not smooth:
        undefined |= dict.fromkeys(SMOOTH, tb.KINKED)
    for name in names:
        if not bool(torch.isfinite(runs[0][name]).all()):
            undefined[name] = _SINGULAR
            for run in runs:
                del run[name]
    return ResidualReplicas(rule, runs, undefined)


def _replica(of: Sequence[_T], r: int) -> _T:
    """Replica r, the replicas of a more accurate rule in turn."""
    return of[r % len(of)]


def _times(tensor: Tensor, widths: Tensor) -> Tensor:
    """Each layer times its width."""
    return tensor * widths.view(-1, *[1] * (tensor.ndim - 1))


def _averages(
    nodes: list[FlowNode], smooth: bool, tolerance: float
) -> tuple[list[Replicas], list[Sequence[Tables]], list[list[Sequence[TwoLayers] | None]]]:
    """Tables of every node and what joins it to earlier ones, for each replica of the rule."""
    patterns = tb.SMOOTH if smooth else tb.DIFFERENTIAL
    rules = [Replicas("lattice", 2)]
    tables: list[Sequence[Tables]] = []
    past: list[list[Sequence[TwoLayers] | None]] = []
    strength = skips(nodes)
    for l, node in enumerate(nodes):
        if node.step is None:
            continue
        act = node.step.activation
        if is_linear(act):
            tables.append([linear_tables(node.K)])
        else:
            rule, found = tb.tables(act, node.K, patterns, tolerance)
            rules.append(rule)
            tables.append(found)
        row: list[Sequence[TwoLayers] | None] = []
        for k, early in enumerate(nodes[:l]):
            g = strength[k][l]
            if early.step is None or not g:
                row.append(None)
            elif is_linear(early.step.activation):
                row.append([linear_two_layers(early.K, t, g) for t in tables[-1]])
            else:
                before = early.step.activation
                rule, joined = two_layer_averages(before, early.K, act, node.K, g, tolerance)
                rules.append(rule)
                row.append(joined)
        past.append(row)
    return rules, tables, past

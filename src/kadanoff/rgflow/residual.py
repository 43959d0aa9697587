r"""Order 1/n of networks with skips or with uniform weights, by nodes and lines.

:mod:`kadanoff.rgflow.nodes` lays the architecture out, :mod:`kadanoff.rgflow.skip` has the
recursion of metric and NTK, :mod:`kadanoff.rgflow.lines` everything across two neurons. Two-layer
blocks are the same thing with one more node a block, and a stream that is linear.

For ReLU single blocks at γ² = ½ and K = C_W = 1, V is 2.25, 5.4775, 9.3684, 13.7190 …; with the
memory cut after two derivatives it would be 2.25, 5.40, 9.19, 13.42, which simulation excludes
(5.480 ± 0.010 and 9.377 ± 0.017).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kadanoff.gaussian.many import Replicas
from kadanoff.rgflow import tables as tb
from kadanoff.rgflow.linear import is_linear, linear_memory, linear_tables
from kadanoff.rgflow.memory import Memory, memory
from kadanoff.rgflow.nodes import Net, Node, chain, skips
from kadanoff.rgflow.skip import first_quartic, skip_flow
from kadanoff.rgflow.tables import Tables
from kadanoff.rgflow.vertex import first_vertex

__all__ = ["residual_flow"]

_TANGENT = ("G1", "H1", "V", "D", "A", "B", "F")
_DIFFERENTIAL = ("P", "Q")
_SMOOTH = ("R", "S", "T", "U")
# the least accurate kind of rule speaks for the whole run
_KINDS = ("lattice", "panels", "sobol")
_SINGULAR = (
    "inputs that are parallel at a kinked activation behind a skip: derivatives of the kernel of "
    "two layers do not exist separately. Leave one of the inputs out."
)


def residual_flow(
    arch: Any,
    X: Tensor,
    K: list[Tensor],
    Theta: list[Tensor],
    tolerance: float,
    strategy: dict[str, str],
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """1/n of a network with skips; see :func:`kadanoff.rgflow.order_one.order_one`."""
    nodes = chain(arch, K, Theta)
    smooth = all(step.activation.smooth for node in nodes if (step := node.step))
    rules, tables, past = _averages(nodes, smooth, tolerance)
    rule = max(rules, key=lambda r: (_KINDS.index(r.kind), r.shared))
    names = (*_TANGENT, *_DIFFERENTIAL, *(_SMOOTH if smooth else ()))
    vertex = first_vertex(arch, K[0]) / arch.n[0]
    quartic = first_quartic(arch.C_W[0], X) if arch.init == "uniform" else None
    runs = []
    for r in range(rule.count):
        joined = [[None if m is None else m[r % len(m)] for m in row] for row in past]
        net = Net(nodes, [t[r % len(t)] for t in tables], joined)
        runs.append(skip_flow(net, vertex, quartic, names))
    # absolute units to powers of 1/n taken out
    widths = torch.tensor(arch.n[:-1], dtype=torch.float64)
    found = {
        name: [torch.stack(run[name]) * widths.view(-1, *[1] * (run[name][0].ndim)) for run in runs]
        for name in names
    }
    undefined = {"U6": "the six-point vertex is given at one input of a plain Gaussian network."}
    if not smooth:
        undefined |= dict.fromkeys(_SMOOTH, tb.KINKED)
    for name in names:
        if not bool(torch.isfinite(found[name][0]).all()):
            del found[name]
            undefined[name] = _SINGULAR
    tensors = {name: rule.value(values) for name, values in found.items()}
    errors = {name: rule.error(values) for name, values in found.items()}
    return tensors, {"error": errors, "strategy": strategy[rule.kind], "undefined": undefined}


def _averages(
    nodes: list[Node], smooth: bool, tolerance: float
) -> tuple[list[Replicas], list[Sequence[Tables]], list[list[list[Memory] | None]]]:
    """Tables of every node and what joins it to earlier ones, for each replica of the rule."""
    rules = [Replicas("lattice", 2)]
    tables: list[Sequence[Tables]] = []
    past: list[list[list[Memory] | None]] = []
    g = skips(nodes)
    for l, node in enumerate(nodes):
        if node.step is None:
            continue
        act = node.step.activation
        if is_linear(act):
            layer = [linear_tables(node.K)]
        else:
            patterns = tb.SMOOTH if smooth else tb.DIFFERENTIAL
            rule, layer = tb.tables(act, node.K, patterns, tolerance)
            rules.append(rule)
        tables.append(layer)
        row: list[list[Memory] | None] = []
        for k, early in enumerate(nodes[:l]):
            if early.step is None or not g[k][l]:
                row.append(None)
                continue
            if is_linear(early.step.activation):
                row.append([linear_memory(early.K, t, g[k][l]) for t in layer])
                continue
            rule, joined = memory(early.step.activation, early.K, act, node.K, g[k][l], tolerance)
            rules.append(rule)
            row.append(joined)
        past.append(row)
    return rules, tables, past

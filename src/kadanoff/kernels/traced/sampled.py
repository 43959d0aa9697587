"""What does not close on kernels: channels and heads are drawn from the kernels that enter.

The user's own functions run on draws of their Gaussian inputs, and the kernel that comes out is
the average over channels and draws. The tangent kernel is carried along by a second set of
Gaussians τ of covariance Θ: the derivative J τ of the functions in their direction has the
covariance J Θ Jᵀ that is wanted, whatever the functions are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kadanoff.errors import AnalysisError
from kadanoff.kernels.traced.expressions import Expression, replay
from kadanoff.kernels.traced.layout import Layout
from kadanoff.kernels.traced.nodes import Environment, Node, Pair

if TYPE_CHECKING:
    from kadanoff.kernels.traced.laws import Parameter

__all__ = ["Given", "Leaf", "Sampled", "drawn", "owners"]

_JITTER = (1e-12, 1e-10, 1e-8, 1e-6)


@dataclass(frozen=True, eq=False)
class Leaf:
    """A Gaussian node as the user's functions meet it."""

    node: Node
    layout: Layout


@dataclass(frozen=True, eq=False)
class Given:
    """Data that enter by their own name or position."""

    name: str


class Sampled(Node):
    """Functions of Gaussian inputs, known by draws.

    Parameters
    ----------
    expression : Expression
    layout : Layout
        Of the result.
    positions, channels : int
    traced : int
        Samples in the trace.
    what : str
        In words, for the user.
    """

    mixes = True

    def __init__(
        self,
        expression: Expression,
        layout: Layout,
        positions: int,
        channels: int,
        traced: int,
        what: str,
    ) -> None:
        leaves = expression.leaves()
        self.expression, self.layout, self.traced, self.what = expression, layout, traced, what
        self.gaussians = [e for e in leaves if isinstance(e.leaf, Leaf)]
        self.others = [e for e in leaves if not isinstance(e.leaf, Leaf)]
        nodes = [e.leaf.node for e in self.gaussians]
        self.slots = list(dict.fromkeys(nodes))
        super().__init__(self.slots, positions, channels)
        self.sampled_below, self.shared = True, False

    def centred(self) -> bool:
        return False

    def forward(self, env: Environment) -> Pair:
        return env.sampled(self)


def root(covariance: Tensor) -> Tensor:
    """L with L Lᵀ = covariance, up to what sampling cannot see."""
    size = covariance.diagonal().clamp_min(0).sqrt()
    safe = torch.where(size > 0, size, torch.ones_like(size))
    unit = covariance / safe[:, None] / safe
    for jitter in _JITTER:
        shifted = unit.clone()
        shifted.diagonal().add_(jitter)
        L, failed = torch.linalg.cholesky_ex(shifted)
        if not int(failed):
            return L * size[:, None]
    raise AnalysisError(
        "The kernel that a sampled operation starts from is not positive semi-definite.",
        "Report this with the model and its inputs.",
    )


def drawn(
    node: Sampled,
    covariances: Sequence[Pair],
    data: dict[Node, Tensor],
    count: int,
    seed: int,
    draws: int,
    ntk: bool,
) -> Pair:
    """Kernel and tangent kernel (count · P, count · P) from random draws.

    Parameters
    ----------
    node : Sampled
    covariances : sequence of (Tensor, Tensor)
        Of each input, all positions of all samples against each other.
    data : dict
        Under None: values of the expressions that hold data.
    count : int
        Samples.
    seed, draws : int
    ntk : bool
    """
    generator = torch.Generator().manual_seed(seed)
    roots = [(root(S), root(T) if ntk and bool((T != 0).any()) else None) for S, T in covariances]
    total = None
    for _ in range(draws):
        values, tangents = {}, {}
        for slot, (L, R) in zip(node.slots, roots):
            shape = (len(L), slot.channels)
            noise = torch.randn(shape, generator=generator, dtype=torch.float64)
            values[slot] = (L @ noise).view(count, -1, slot.channels)
            if R is None:
                tangents[slot] = torch.zeros_like(values[slot])
            else:
                noise = torch.randn(shape, generator=generator, dtype=torch.float64)
                tangents[slot] = (R @ noise).view(count, -1, slot.channels)
        known: dict[int, Tensor] = {}
        moving: list[tuple[Expression, Tensor, Tensor]] = []
        for e in node.gaussians:
            at, layout = e.leaf.node, e.leaf.layout
            moving.append(
                (e, layout.from_rows(values[at], count), layout.from_rows(tangents[at], count))
            )
        for e in node.others:
            leaf = e.leaf
            if isinstance(leaf, Given):
                known[id(e)] = data[leaf.name]  # pyright: ignore[reportArgumentType]
            else:
                value, tangent = _parameter(leaf, generator)
                moving.append((e, value, tangent))
        S, T = _moments(node, known, moving, count, ntk)
        total = (S, T) if total is None else (total[0] + S, total[1] + T)
    assert total is not None
    return total[0] / draws, total[1] / draws


def _parameter(parameter: Parameter, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    value = parameter.law.sample(parameter.shape, generator, "cpu", torch.float64)
    noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return value, noise * parameter.rate**0.5


def _moments(
    node: Sampled,
    known: dict[int, Tensor],
    moving: list[tuple[Expression, Tensor, Tensor]],
    count: int,
    ntk: bool,
) -> Pair:
    def output(*values: Tensor) -> Tensor:
        here = {**known, **{id(e): v for (e, _, _), v in zip(moving, values)}}
        found = replay(node.expression, lambda e: here[id(e)], count, node.traced)
        return node.layout.to_rows(found, count).reshape(-1, node.channels)

    points = tuple(v for _, v, _ in moving)
    if not ntk:
        out = output(*points)
        S = out @ out.T / node.channels
        return S, torch.zeros_like(S)
    out, tangent, *_ = torch.func.jvp(output, points, tuple(t for _, _, t in moving))
    return out @ out.T / node.channels, tangent @ tangent.T / node.channels


def owners(expression: Expression, batch: int, example: dict[str, Tensor]) -> Tensor | None:
    """Which sample each entry of a result belongs to, found by changing one sample at a time.

    Parameters
    ----------
    expression : Expression
    batch : int
        Samples in the trace.
    example : dict
        The data of the trace.

    Returns
    -------
    Tensor of int, or None
        −1 for what no sample changes; None if an entry depends on several samples.
    """
    generator = torch.Generator().manual_seed(0)
    known: dict[int, Tensor] = {}
    rows: list[tuple[Expression, Tensor]] = []
    for e in expression.leaves():
        if isinstance(e.leaf, Leaf):
            node, layout = e.leaf.node, e.leaf.layout
            samples = 1 if layout.sample is None else batch
            shape = (samples, node.positions, node.channels)
            rows.append((e, torch.randn(shape, generator=generator, dtype=torch.float64)))
        elif isinstance(e.leaf, Given):
            known[id(e)] = example[e.leaf.name]
        else:
            known[id(e)] = _parameter(e.leaf, generator)[0]

    def run(changed: int | None) -> Tensor:
        for e, value in rows:
            if changed is not None and len(value) > 1:
                value = value.clone()
                value[changed] = -0.7 * value[changed] + 0.1
            known[id(e)] = e.leaf.layout.from_rows(value, batch)
        return replay(expression, lambda e: known[id(e)], batch, batch)

    with torch._C.DisableTorchFunction(), torch.no_grad():
        base = run(None)
        owner = torch.full(base.shape, -1)
        for sample in range(batch):
            differs = run(sample) != base
            if bool((differs & (owner >= 0)).any()):
                return None
            owner[differs] = sample
    return owner

"""Timing dense against sparse on this machine, with the model's own weights and tokens."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from kadanoff.sparsity import backends
from kadanoff.sparsity.plans import BlockPlan
from kadanoff.sparsity.skip import UnionCosts

__all__ = ["Timing", "bandwidth", "time_blocks", "union_costs"]


@dataclass
class Timing:
    """Seconds a token of one block: dense, and each sparse back end."""

    dense: float = 0.0
    sparse: dict[str, float] = field(default_factory=dict)


def _seconds(call: Callable[[], Any], cuda: bool) -> float:
    if cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def time_blocks(plans: list[BlockPlan], rounds: int = 15) -> list[Timing]:
    """Time every plan's dense and sparse paths, one token at a time.

    Ways alternate within a round, and each pass goes through all blocks in the model's order:
    so a block's weights have left the cache as far as they do when the model runs, and load on
    the machine falls on all ways alike. The second fastest round counts: load only adds time.
    """
    ways = [_ways(plan) for plan in plans]
    raw: list[dict[str, list[float]]] = [{} for _ in plans]
    names = sorted(set().union(*ways))
    for turn in range(rounds + 1):
        for name in names:
            for plan, calls, found in zip(plans, ways, raw):
                if name not in calls:
                    continue
                tokens = _tokens(plan)
                x = tokens[turn % len(tokens)].unsqueeze(0)
                taken = _seconds(lambda call=calls[name], x=x: call(x), x.is_cuda)
                if turn:  # the first turn compiles and warms up
                    found.setdefault(name, []).append(taken)
    timings = []
    for found in raw:
        middle = {name: sorted(values)[1] for name, values in found.items()}
        timings.append(
            Timing(middle.get("dense", 0.0), {n: t for n, t in middle.items() if n != "dense"})
        )
    return timings


def _ways(plan: BlockPlan) -> dict[str, Callable[[Tensor], Any]]:
    """The block on one token, by name: dense, and every sparse path; none if it stays dense."""
    if not plan.backends:
        return {}
    dense = plan.owner if plan.block.whole else plan.block.down.module
    return {"dense": dense} | {name: plan.forward(name) for name in plan.ways}


def _tokens(plan: BlockPlan) -> Tensor:
    """What the timed path acts on: tokens that enter the block, or its second matrix."""
    tokens = plan.block.inputs if plan.block.whole else plan.block.product
    assert tokens is not None  # a block without its tokens stays dense
    return tokens


def union_costs(plan: BlockPlan, way: str, batches: tuple[int, ...] = (2, 4, 8)) -> UnionCosts:
    """Find up to how many rows of a union gathering is faster than the dense block.

    The time of gathering is taken as what finding the union costs, plus so much a row; both are
    measured on the model's own tokens, the dense block beside them.

    Parameters
    ----------
    plan : BlockPlan
    way : str
        One of the plan's ways.
    batches : tuple of int
        Numbers of tokens to measure.
    """
    forward = plan.forward(way)
    tokens = _tokens(plan)
    limits = []
    for batch in batches:
        taken: dict[str, list[float]] = {"dense": [], "find": [], "all": []}
        counts = []
        for turn in range(9):
            index = (torch.arange(batch) + turn * batch) % len(tokens)
            x = tokens[index.to(tokens.device)]
            counts.append(len(forward.active(x)[1]))

            def gather(x: Tensor = x) -> Tensor:
                return forward.few(x, *forward.active(x))

            for name, call in (
                ("dense", lambda x=x: forward.dense(x)),
                ("find", lambda x=x: forward.active(x)),
                ("all", gather),
            ):
                taken[name].append(_seconds(call, x.is_cuda))
        # the second fastest: load on the machine only adds time
        dense, find, everything = (sorted(taken[name])[1] for name in ("dense", "find", "all"))
        union = statistics.median(counts)
        if everything > 0.95 * dense:
            limits.append(0.0)
        else:
            row = max(everything - find, 1e-9) / max(union, 1)
            limits.append(max(union, (0.95 * dense - find) / row))
    return UnionCosts(batches, tuple(limits))


def bandwidth(device: torch.device | str = "cpu", megabytes: int = 128) -> float:
    """Read bandwidth in bytes a second: the fastest of several passes over a large array.

    Uses the compiled loops where numba is installed, else torch's own sum; with the threads
    torch may use.
    """
    device = torch.device(device)
    words = megabytes * (1 << 20) // 4
    memory = torch.ones(words // 1024, 1024, device=device)
    calls: list[Callable[[], Any]] = [memory.sum]
    if device.type == "cpu" and "numba" in backends.available(device):
        one = torch.ones(1024)
        backend = backends.load("numba")
        calls.append(lambda: backend.matvec(memory, None, one))
    best = float("inf")
    for call in calls:
        call()
        for _ in range(5):
            best = min(best, _seconds(call, device.type == "cuda"))
    return memory.numel() * 4 / best

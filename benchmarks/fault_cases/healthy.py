"""Nets that train: the shared families, fresh and trained, and the repaired versions of faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from benchmarks import zoo

from .strangers import STRANGERS, Stranger, train

__all__ = ["DEEP", "Healthy", "families"]

# default initialisation at these depths is a fault of its own: counted among the sick
DEEP = ("mlp_16", "mlp_32", "mlp_100")
SLOW = ("gemma", "llama", "mixtral", "qwen", "swin", "t5", "albert", "mobilenet", "convnext")


@dataclass(frozen=True)
class Healthy:
    """A net that trains, and how it is called."""

    name: str
    make: Callable[[], tuple[nn.Module, Any, Callable | None]]


def families() -> Iterator[Healthy]:
    """The collection's families and strangers' nets, fresh, and nearly all after 100 steps."""
    for name, family in zoo.FAMILIES.items():
        if name in DEEP:
            continue
        yield Healthy(name, lambda family=family: _fresh(family))
        if name not in SLOW:
            yield Healthy(f"{name}, trained", lambda family=family: _trained(family))
    for net in STRANGERS:
        yield Healthy(net.name, net.make)
        yield Healthy(f"{net.name}, trained", lambda net=net: _taught(net))


def _taught(net: Stranger) -> tuple[nn.Module, Any, Callable | None]:
    model, data, loss = net.make()
    train(net, model, data, loss, 100)
    return model, data, loss


def _size(family: zoo.Family) -> int | None:
    return None if family.coupled else min(family.batch, 32)


def _loss(family: zoo.Family) -> Callable | None:
    return None if family.coupled else family.loss


def _fresh(family: zoo.Family) -> tuple[nn.Module, Any, Callable | None]:
    return family.build(seed=0), family.data(_size(family), seed=0), _loss(family)


def _trained(family: zoo.Family) -> tuple[nn.Module, Any, Callable | None]:
    model, data, loss = _fresh(family)
    zoo.train(family, model, 100, seed=0, batch=None if family.coupled else 16)
    return model, data, loss

"""A model on several processes: who speaks, what is averaged, and what cannot be watched."""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
from torch import nn

from kadanoff.errors import UsageError

__all__ = ["Ranks", "refuse_sharded"]


class Ranks:
    """The processes that train one model together.

    Parameters
    ----------
    model : nn.Module
        As the loop calls it.

    Attributes
    ----------
    first : bool
        Whether this process speaks for all: each has the same weights and gradients.
    """

    def __init__(self, model: nn.Module) -> None:
        together = dist.is_available() and dist.is_initialized()
        wrapped = isinstance(model, nn.parallel.DistributedDataParallel)
        self._size = dist.get_world_size() if together and wrapped else 1
        self.first = not together or dist.get_rank() == 0
        self._device = next((p.device for p in model.parameters()), torch.device("cpu"))

    def mean(self, value: float) -> float:
        """Mean over the processes, so that all of them find the same; NaN counts for nobody.

        Parameters
        ----------
        value : float
        """
        if self._size == 1:
            return value
        known = 0.0 if math.isnan(value) else 1.0
        both = torch.tensor([value if known else 0.0, known], device=self._device)
        dist.all_reduce(both)
        return float(both[0] / both[1]) if both[1] else math.nan


def refuse_sharded(model: nn.Module) -> None:
    """Say clearly where parameters are spread over processes.

    Parameters
    ----------
    model : nn.Module

    Raises
    ------
    UsageError
        FSDP, FSDP2, or another sharding.
    """
    wrapper = next(
        (type(m).__name__ for m in model.modules() if "FullyShardedDataParallel" in _family(m)), ""
    )
    spread = [n for n, p in model.named_parameters() if type(p.data).__name__ == "DTensor"]
    if not wrapper and not spread:
        return
    what = wrapper or f"{len(spread)} DTensor parameters ({spread[0]}, …)"
    raise UsageError(
        f"The parameters are sharded over processes ({what}); watch cannot look at a model that no "
        "process holds as a whole.",
        "Watch a small copy of the model that is trained unsharded or with "
        "DistributedDataParallel, or gather the weights into a plain copy and look at that.",
    )


def _family(module: nn.Module) -> str:
    return " ".join(kind.__name__ for kind in type(module).__mro__)

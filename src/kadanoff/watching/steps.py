"""Which step a loop has reached, by which optimiser, and how large its updates are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kadanoff.diagnosis.recipe import described

__all__ = [
    "Steps",
    "Updates",
    "cheap",
    "first_gradient",
    "gradient_norms",
    "largest_number",
    "recipe_of",
    "without_scale",
]


class Steps:
    """Finds the optimisers of a model, and counts the steps of the first of them.

    Where no optimiser of torch is at work, a step has been taken whenever the weights have changed
    between two forward passes.

    Parameters
    ----------
    model : nn.Module
    optimizers : sequence of Optimizer
        Those that are known beforehand.

    Attributes
    ----------
    count : int
    optimizers : list of Optimizer
        That hold parameters of the model.
    foreign : int
        Steps in a row of optimisers that hold none.
    """

    def __init__(self, model: nn.Module, optimizers: Sequence[Any] = ()) -> None:
        self._model = model
        self.count = 0
        self.foreign = 0
        self.optimizers: list[Any] = []
        self._known: dict[int, tuple[int, bool]] = {}
        self._weights: tuple[float, ...] | None = None
        for optimizer in optimizers:
            if self.holds(optimizer):
                self.optimizers.append(optimizer)

    def holds(self, optimizer: Any) -> bool:
        """Whether it steps any parameter of the model.

        Parameters
        ----------
        optimizer : Optimizer
        """
        size = sum(len(group["params"]) for group in optimizer.param_groups)
        known = self._known.get(id(optimizer))
        if known is None or known[0] != size:
            own = {id(p) for p in self._model.parameters()}
            held = any(id(p) in own for g in optimizer.param_groups for p in g["params"])
            known = self._known[id(optimizer)] = (size, held)
        return known[1]

    def taken(self, optimizer: Any) -> bool:
        """An optimiser has stepped; whether that counts as a step of the model.

        Parameters
        ----------
        optimizer : Optimizer
        """
        if not self.holds(optimizer):
            self.foreign += 1
            return False
        if not any(optimizer is known for known in self.optimizers):
            self.optimizers.append(optimizer)
        if optimizer is not self.optimizers[0]:
            return False
        self.foreign = 0
        self.count += 1
        return True

    def changed(self) -> bool:
        """Whether the weights have changed since this was last asked; counts it as a step."""
        found = [p for p in self._model.parameters() if p.requires_grad][-4:]
        with torch.no_grad():
            # a change through .data leaves the version as it is: only the values tell
            parts = [p.detach().reshape(-1) for p in found]
            now = tuple(float(p[:: p.numel() // 4096 + 1].double().sum()) for p in parts)
        before, self._weights = self._weights, now
        if before is None or before == now:
            return False
        self.count += 1
        return True


class Updates:
    """Sizes of the updates of one step, relative to the weights.

    Parameters
    ----------
    model : nn.Module
    """

    def __init__(self, model: nn.Module) -> None:
        self._before = [
            (name, p, p.detach().clone())
            for name, p in model.named_parameters()
            if p.requires_grad and p.ndim > 1
        ]

    def ratios(self, optimizers: Sequence[Any]) -> tuple[dict[str, float], dict[str, float]]:
        """|Δw|/|w| of each matrix by layer, and of each parameter group by its place.

        Parameters
        ----------
        optimizers : sequence of Optimizer
        """
        layers: dict[str, float] = {}
        moved: dict[int, tuple[float, float]] = {}
        with torch.no_grad():
            for name, p, old in self._before:
                if p.shape != old.shape:
                    continue
                change, size = _norm(p.detach() - old), _norm(old)
                moved[id(p)] = (change, size)
                if size > 0:
                    layer = name.rpartition(".")[0] or name
                    layers[layer] = max(layers.get(layer, 0.0), change / size)
        groups: dict[str, float] = {}
        place = 0
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                pairs = [moved[id(p)] for p in group["params"] if id(p) in moved]
                size = math.hypot(*(s for _, s in pairs))
                if size > 0:
                    groups[f"group {place}"] = math.hypot(*(c for c, _ in pairs)) / size
                place += 1
        return layers, groups


def gradient_norms(model: nn.Module) -> tuple[dict[str, float], float]:
    """Norms of the gradients that the parameters hold, by layer, and altogether.

    Parameters
    ----------
    model : nn.Module
    """
    names, norms = [], []
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.grad is not None:
                gradient = p.grad.coalesce().values() if p.grad.is_sparse else p.grad
                names.append(name.rpartition(".")[0] or name)
                norms.append(torch.linalg.vector_norm(gradient, dtype=torch.float32).cpu())
    if not norms:
        return {}, math.nan
    layers: dict[str, float] = {}
    for name, norm in zip(names, torch.stack(norms).tolist()):
        layers[name] = math.hypot(layers.get(name, 0.0), norm)
    return layers, math.hypot(*layers.values())


def without_scale(loss: Tensor) -> tuple[Tensor, bool]:
    """The loss itself where a gradient scaler has multiplied it, and whether one has.

    Parameters
    ----------
    loss : Tensor
        Attached to its graph.
    """
    step = loss.grad_fn
    if step is not None and step.name() == "MulBackward0":
        factor = getattr(step, "_saved_other", None)
        if isinstance(factor, Tensor) and factor.ndim == 0 and float(factor) > 1:
            return loss.detach() / factor, True
    return loss.detach(), False


def recipe_of(optimizers: Sequence[Any]) -> str:
    """The optimisers in words.

    Parameters
    ----------
    optimizers : sequence of Optimizer
    """
    return "; ".join(described(optimizer) for optimizer in optimizers)


def cheap(value: Tensor | float) -> Tensor | float:
    """A number where it costs nothing to read; on an accelerator it is read later.

    Parameters
    ----------
    value : Tensor or float
    """
    if isinstance(value, Tensor) and value.device.type == "cpu":
        return float(value)
    return value


def largest_number(model: nn.Module) -> float:
    """The largest number of the narrowest floating type among the parameters.

    Parameters
    ----------
    model : nn.Module
    """
    types = {p.dtype for p in model.parameters() if p.is_floating_point()}
    return min((torch.finfo(t).max for t in types), default=math.inf)


def first_gradient(model: nn.Module) -> nn.Parameter | None:
    """The smallest trainable parameter of the first module that has one.

    Parameters
    ----------
    model : nn.Module
    """
    named = [(n.rpartition(".")[0], p) for n, p in model.named_parameters() if p.requires_grad]
    own = [p for name, p in named if name == named[0][0]] if named else []
    return min(own, key=lambda p: p.numel(), default=None)


def _norm(tensor: Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor, dtype=torch.float32))

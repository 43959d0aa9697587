"""The optimiser a model is trained with, by name or as the user made it."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from kadanoff.errors import UsageError

__all__ = ["NAMES", "ORDINARY", "Recipe", "Stepper", "copied", "described", "title"]

NAMES = ("sgd", "adam", "adamw", "rmsprop", "adagrad")
RATES = {"sgd": 0.1, "adam": 1e-3, "adamw": 1e-3, "rmsprop": 1e-3, "adagrad": 1e-2}


@dataclass(frozen=True)
class Recipe:
    """An optimiser in words.

    Parameters
    ----------
    name : str
        One of ``sgd``, ``adam``, ``adamw``, ``rmsprop``, ``adagrad``.
    lr : float, optional
        Default 0.1 for SGD, 0.01 for Adagrad, 0.001 for the others.
    momentum, weight_decay : float

    Raises
    ------
    UsageError
        An unknown name, or a number outside its range.
    """

    name: str = "adam"
    lr: float | None = None
    momentum: float = 0.0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise UsageError(f"Unknown optimizer {self.name!r}.", f"Choose one of {NAMES}.")
        if self.lr is not None and not (self.lr >= 0 and math.isfinite(self.lr)):
            raise UsageError(f"lr = {self.lr} is no learning rate.", "Pass a number from 0 on.")
        if self.momentum < 0 or self.weight_decay < 0:
            raise UsageError(
                f"momentum = {self.momentum}, weight_decay = {self.weight_decay}: both are >= 0."
            )
        if self.momentum and self.name not in ("sgd", "rmsprop"):
            raise UsageError(
                f"{self.name} takes no momentum (its first beta is 0.9).", "Use --optimizer sgd."
            )

    @property
    def rate(self) -> float:
        """The learning rate."""
        return RATES[self.name] if self.lr is None else self.lr

    def build(self, model: nn.Module) -> Any:
        """The optimiser of all trainable parameters of a model."""
        parameters = [p for p in model.parameters() if p.requires_grad]
        if self.name in ("sgd", "adam", "adamw"):
            return Stepper(parameters, self)
        chosen = {"rmsprop": torch.optim.RMSprop, "adagrad": torch.optim.Adagrad}[self.name]
        more: dict[str, Any] = {"momentum": self.momentum} if self.momentum else {}
        return chosen(parameters, lr=self.rate, weight_decay=self.weight_decay, **more)


class Stepper:
    """torch's own SGD and Adam steps behind the few methods a trial needs.

    Making a ``torch.optim.Optimizer`` imports torch's compiler, which takes longer than the whole
    diagnosis of a small model.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], recipe: Recipe) -> None:
        self.name = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}[recipe.name]
        group: dict[str, Any] = {
            "params": list(parameters),
            "lr": recipe.rate,
            "weight_decay": recipe.weight_decay,
        }
        if recipe.name == "sgd":
            group |= {"momentum": recipe.momentum}
        else:
            group |= {"betas": (0.9, 0.999), "eps": 1e-8}
        self.param_groups = [group]
        self.state: dict[Tensor, dict[str, Any]] = {}

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients."""
        for p in self.param_groups[0]["params"]:
            p.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """One step of every parameter that has a gradient."""
        group = self.param_groups[0]
        held = [p for p in group["params"] if p.grad is not None]
        gradients = [p.grad.to_dense() if p.grad.is_sparse else p.grad for p in held]
        if self.name == "SGD":
            buffers = [self.state.setdefault(p, {}).get("momentum_buffer") for p in held]
            sgd(
                held,
                gradients,
                buffers,
                foreach=False,
                weight_decay=group["weight_decay"],
                momentum=group["momentum"],
                lr=group["lr"],
                dampening=0.0,
                nesterov=False,
                maximize=False,
            )
            for p, buffer in zip(held, buffers):
                self.state[p]["momentum_buffer"] = buffer
            return
        for p in held:
            if not self.state.get(p):
                zeros = torch.zeros_like(p), torch.zeros_like(p)
                self.state[p] = {"exp_avg": zeros[0], "exp_avg_sq": zeros[1]}
                self.state[p]["step"] = torch.zeros(())
        firsts, seconds, counts = (
            [self.state[p][name] for p in held] for name in ("exp_avg", "exp_avg_sq", "step")
        )
        (adam if self.name == "Adam" else adamw)(
            held,
            gradients,
            firsts,
            seconds,
            [],
            counts,
            foreach=False,
            fused=False,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


ORDINARY = Recipe("adam", 1e-3)


def copied(model: nn.Module, optimizer: Any) -> tuple[nn.Module, list[Any]]:
    """A copy of a model, and its optimisers bound to the copy's parameters.

    Parameters
    ----------
    optimizer : Optimizer, sequence of them, Recipe or None
        None: Adam at 10⁻³.
    """
    if isinstance(optimizer, Recipe) or optimizer is None:
        twin = copy.deepcopy(model)
        return twin, [(optimizer or ORDINARY).build(twin)]
    many = list(optimizer) if isinstance(optimizer, Sequence) else [optimizer]
    # one deepcopy of both keeps which parameter is whose
    twin, made = copy.deepcopy((model, many))
    return twin, made


def described(optimizer: Any) -> str:
    """Name and settings in a few words."""
    group = optimizer.param_groups[0]
    text = f"{title(optimizer)}, lr {float(group['lr']):g}"
    if group.get("momentum"):
        text += f", momentum {group['momentum']:g}"
    if group.get("weight_decay"):
        text += f", weight decay {group['weight_decay']:g}"
    return text


def title(optimizer: Any) -> str:
    """Name of an optimiser's class."""
    return getattr(optimizer, "name", None) or type(optimizer).__name__

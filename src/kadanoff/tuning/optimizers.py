"""The user's optimiser, however it is named: how to build one for parameter groups."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from kadanoff.errors import UsageError

__all__ = ["OPTIMIZERS", "RATE", "Maker", "make_optimizers", "maker", "split_muon"]

Group = dict[str, Any]
Kind = Literal["sgd", "adam", "muon"]
OPTIMIZERS = ("sgd", "adam", "adamw", "muon")
# what torch.optim.SGD, Adam, AdamW and Muon take if nobody says a rate
RATE = 1e-3
# keys of our groups that say something to people, none that an optimiser knows
_WORDS = ("name", "role", "share", "algorithm", "why")


@dataclass(frozen=True)
class Maker:
    """How the user's optimiser is made.

    Attributes
    ----------
    name : str
        For people.
    kind : "sgd", "adam" or "muon"
        What a step is proportional to: the gradient, its sign, its polar factor.
    rate : float
        The rate as it is.
    momentum : float
        Of SGD: the edge of stability is 2 (1 + momentum) over the sharpness.
    make : callable
        Groups to a list of optimisers.
    own : dict
        By identity of a parameter: the options of the group it is in now, its rate among them.
    """

    name: str
    kind: Kind
    rate: float
    make: Callable[[list[Group]], list[torch.optim.Optimizer]]
    momentum: float = 0.0
    own: dict[int, Group] = field(default_factory=dict)


def maker(optimizer: Any, lr: float | None = None) -> Maker:
    """Read what the user handed over as the optimiser.

    Parameters
    ----------
    optimizer : str, class, callable or torch.optim.Optimizer
        A name, ``torch.optim.AdamW``, a function of parameter groups (``functools.partial`` of a
        class, say), or an optimiser already made for the model: its options are kept.
    lr : float, optional
        The rate as it is; without it what the optimiser has by default (1e-3 in torch).

    Raises
    ------
    UsageError
        Something else, or a rate that is not positive.
    """
    if lr is not None and not 0 < lr < float("inf"):
        raise UsageError(f"lr = {lr} is not a learning rate.", "Pass a number > 0.")
    if isinstance(optimizer, str):
        return _named(optimizer, lr)
    if isinstance(optimizer, torch.optim.Optimizer):
        return _instance(optimizer, lr)
    if not callable(optimizer):
        raise UsageError(
            f"The optimizer is a {type(optimizer).__name__}.",
            f"Name one of {', '.join(OPTIMIZERS)}, or pass a class, a function of parameter "
            "groups, or an optimiser.",
        )
    build: Callable[[list[Group]], Any] = optimizer
    name = getattr(getattr(optimizer, "func", optimizer), "__name__", type(optimizer).__name__)
    kind, options = _kind(name), dict(getattr(optimizer, "keywords", None) or {})
    rate = lr or float(options.get("lr") or _default(optimizer, "lr") or RATE)

    def make(groups: list[Group]) -> list[torch.optim.Optimizer]:
        made = build([plain(g) for g in groups])
        return list(made) if isinstance(made, (list, tuple)) else [made]

    if kind == "muon" and inspect.isclass(getattr(optimizer, "func", optimizer)):

        def make(groups: list[Group]) -> list[torch.optim.Optimizer]:
            muon, rest = split_muon(groups)
            parts: list[Any] = [build([plain(g) for g in muon])] if muon else []
            return [*parts, torch.optim.AdamW([plain(g) for g in rest])] if rest else parts

    momentum = float(options.get("momentum") or 0.0)
    return Maker(name, kind, rate, make, momentum)


def _named(name: str, lr: float | None) -> Maker:
    if name not in OPTIMIZERS:
        raise UsageError(f"Unknown optimizer {name!r}.", f"Name one of {', '.join(OPTIMIZERS)}.")
    if name == "muon" and not hasattr(torch.optim, "Muon"):
        raise UsageError(
            f"torch {torch.__version__} has no Muon.", "Install torch >= 2.9, or use adamw."
        )
    return Maker(name, _kind(name), lr or RATE, lambda groups: make_optimizers(groups, name))


def _instance(optimizer: torch.optim.Optimizer, lr: float | None) -> Maker:
    kind: Any = type(optimizer)
    known = inspect.signature(kind).parameters
    defaults = {k: v for k, v in optimizer.defaults.items() if k in known and k != "lr"}
    own = {
        id(p): {k: v for k, v in group.items() if k != "params"}
        for group in optimizer.param_groups
        for p in group["params"]
    }
    rate = lr or float(optimizer.param_groups[0]["lr"])

    def make(groups: list[Group]) -> list[torch.optim.Optimizer]:
        return [kind([plain(g) for g in groups], lr=rate, **defaults)]

    return Maker(kind.__name__, _kind(kind.__name__), rate, make, _momentum(optimizer), own)


def _momentum(optimizer: torch.optim.Optimizer) -> float:
    return float(optimizer.param_groups[0].get("momentum") or 0.0)


def _default(function: Any, name: str) -> float | None:
    try:
        value = inspect.signature(function).parameters[name].default
    except (KeyError, TypeError, ValueError):
        return None
    return float(value) if isinstance(value, (int, float)) else None


def _kind(name: str) -> Kind:
    text = name.lower()
    if "muon" in text:
        return "muon"
    return "sgd" if "sgd" in text or "momentum" in text else "adam"


def plain(group: Mapping[str, Any]) -> Group:
    """A group with nothing in it that an optimiser does not know, but its name."""
    return {k: v for k, v in group.items() if k not in _WORDS}


def make_optimizers(groups: list[Group], optimizer: str) -> list[torch.optim.Optimizer]:
    """Torch optimizers for parameter groups (two of them for Muon)."""
    if optimizer == "muon":
        muon, rest = split_muon(groups)
        out: list[torch.optim.Optimizer] = [torch.optim.AdamW(rest)] if rest else []
        return [torch.optim.Muon(muon), *out] if muon else out
    classes = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    return [classes[optimizer](groups)]


def split_muon(groups: list[Group]) -> tuple[list[Group], list[Group]]:
    """(groups for ``torch.optim.Muon``, groups for ``torch.optim.AdamW``).

    Leave ``adjust_lr_fn`` of ``torch.optim.Muon`` at its default.
    """
    muon = [g for g in groups if g.get("algorithm") == "muon"]
    return muon, [g for g in groups if g.get("algorithm") != "muon"]


def trainable(model: nn.Module) -> dict[str, Tensor]:
    """Parameters that want a gradient, by name; a tied one once."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}

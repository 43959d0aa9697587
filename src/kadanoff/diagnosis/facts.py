"""Facts about the data, the output and the optimiser, reduced to numbers the rules look at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kadanoff.diagnosis.recipe import title
from kadanoff.diagnosis.sightings import Fed
from kadanoff.trace.hf import tensors_in

__all__ = ["Columns", "OptimizerFacts", "OutputFacts", "TargetFacts", "columns", "optimizer_facts"]


@dataclass(frozen=True)
class Columns:
    """The inputs as the first weights see them.

    Attributes
    ----------
    path, op : str
        Who sees them.
    rms, mean, std : float
        Over everything; ``std`` is that of the samples about their column means, averaged.
    low, high : float
    ratio : float
        Largest standard deviation (or mean) of a column over the median one.
    worst : int
        That column.
    constant : tuple of int
        Columns that are the same in every sample.
    count : int
    tabular : bool
        Whether columns are features (not channels of an image or a sequence).
    normed : bool
        Whether a norm has stood before.
    """

    path: str
    op: str
    rms: float
    mean: float
    std: float
    low: float
    high: float
    ratio: float
    worst: int
    constant: tuple[int, ...]
    count: int
    tabular: bool
    normed: bool = False


def columns(fed: Sequence[Fed]) -> Columns | None:
    """The first weights' view of the data."""
    if not fed:
        return None
    first = fed[0]
    mean, std = first.mean.double(), first.std.double()
    size = torch.maximum(std, mean.abs())
    flat = (std <= 1e-9 * size.clamp_min(1e-300)).nonzero().flatten().tolist()
    moving = size[std > 1e-9 * size.clamp_min(1e-300)]
    middle = float(moving.median()) if moving.numel() else 0.0
    top, worst = (float(v) for v in size.max(0)) if size.numel() else (0.0, 0.0)
    return Columns(
        first.path,
        first.op,
        first.rms,
        float(mean.mean()),
        float(std.square().mean().sqrt()),
        first.low,
        first.high,
        top / middle if middle > 0 else 1.0,
        int(worst),
        tuple(flat),
        len(size),
        not first.op.startswith("conv"),
        first.normed,
    )


@dataclass(frozen=True)
class TargetFacts:
    """Targets in numbers.

    ``kind`` is ``"classes"``, ``"real"`` or ``"other"``; ``one_hot`` whether rows are 0 and a
    single 1; ``share`` the fraction of the commonest class.
    """

    kind: str
    shape: tuple[int, ...] = ()
    low: float = math.nan
    high: float = math.nan
    mean: float = math.nan
    std: float = math.nan
    one_hot: bool = False
    share: float = 0.0
    finite: bool = True

    @classmethod
    def of(cls, y: Any) -> TargetFacts | None:
        """Facts about targets; None if there are none that are one tensor."""
        if not isinstance(y, Tensor) or not y.numel():
            return None
        y = y.detach()
        kind = "real" if y.is_floating_point() else "classes"
        values = y.double()
        good = torch.isfinite(values)
        whole = bool(good.all())
        values = values[good]
        if not values.numel():
            return cls(kind, tuple(y.shape), finite=False)
        one_hot = (
            y.ndim == 2
            and y.shape[1] > 1
            and bool(((y == 0) | (y == 1)).all() and (y.double().sum(1) == 1).all())
        )
        share = 0.0
        if kind == "classes":
            share = float(torch.unique(y, return_counts=True)[1].max()) / y.numel()
        spread = float(values.std(unbiased=False))
        low, high = float(values.min()), float(values.max())
        return cls(
            kind, tuple(y.shape), low, high, float(values.mean()), spread, one_hot, share, whole
        )


@dataclass(frozen=True)
class OutputFacts:
    """The main output in numbers.

    ``sums`` is the axis along which it sums to one (probabilities) and ``logs`` the axis along
    which its exponentials do (log-probabilities); ``zeros`` the fraction of exact zeros.
    """

    shape: tuple[int, ...]
    low: float
    high: float
    std: float
    zeros: float
    ends: str | None = None
    sums: int | None = None
    logs: int | None = None
    varies: float = math.nan

    @classmethod
    def of(cls, z: Tensor | None, ends: str | None) -> OutputFacts | None:
        """Facts about an output."""
        if z is None or not z.numel() or not z.is_floating_point():
            return None
        z = z.detach().float()
        sums = logs = None
        if z.ndim > 1 and bool(torch.isfinite(z).all()):
            for axis in range(z.ndim - 1, -1, -1):
                if z.shape[axis] > 1 or ends in ("softmax", "log_softmax"):
                    if z.min() >= 0 and _ones(z.sum(axis)):
                        sums = axis
                        break
                    if z.max() <= 1e-6 and _ones(z.exp().sum(axis)):
                        logs = axis
                        break
        rows = z.reshape(len(z), -1) if z.ndim else z.reshape(1, 1)
        varies = float(rows.std(0, unbiased=False).square().mean().sqrt()) if len(rows) > 1 else 0.0
        return cls(
            tuple(z.shape),
            float(z.min()),
            float(z.max()),
            float(z.std(unbiased=False)),
            float((z == 0).float().mean()),
            ends,
            sums,
            logs,
            varies,
        )


def _ones(total: Tensor) -> bool:
    return bool((total - 1).abs().max() < 1e-3)


@dataclass(frozen=True)
class OptimizerFacts:
    """An optimiser's settings against a model's parameters.

    Attributes
    ----------
    name : str
    rate, momentum, weight_decay, beta : float
        Of the first group; ``beta`` is the first beta of Adam and its like.
    adaptive : bool
        Whether steps do not grow with the gradient (Adam and its like).
    missing, twice : tuple of str
        Trainable parameters that it does not hold, or holds more than once.
    foreign : int
        Parameters it holds that are not the model's.
    maximize : bool
    """

    name: str
    rate: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    beta: float = 0.0
    adaptive: bool = False
    nesterov: bool = False
    missing: tuple[str, ...] = ()
    twice: tuple[str, ...] = ()
    foreign: int = 0
    maximize: bool = False


_ADAPTIVE = ("adam", "rmsprop", "adagrad", "adadelta", "lion", "nadam", "radam", "adafactor")


def optimizer_facts(optimizer: Any, model: nn.Module) -> OptimizerFacts | None:
    """Read a ``torch.optim.Optimizer``, or several of them in a list."""
    many = list(optimizer) if isinstance(optimizer, (list, tuple)) else [optimizer]
    groups = [g for one in many if one is not None for g in getattr(one, "param_groups", [])]
    if not groups:
        return None
    names = {id(p): name for name, p in model.named_parameters()}
    held: dict[int, int] = {}
    for group in groups:
        for p in group["params"]:
            held[id(p)] = held.get(id(p), 0) + 1
    name = title(many[0])
    first = groups[0]
    betas = first.get("betas", (0.0,))
    return OptimizerFacts(
        name,
        float(first.get("lr", math.nan)),
        float(first.get("momentum", 0.0) or 0.0),
        float(first.get("weight_decay", 0.0) or 0.0),
        float(betas[0]) if isinstance(betas, (tuple, list)) and betas else 0.0,
        any(word in name.lower() for word in _ADAPTIVE),
        bool(first.get("nesterov", False)),
        tuple(n for n, p in model.named_parameters() if p.requires_grad and id(p) not in held),
        tuple(names.get(i, "a parameter") for i, count in held.items() if count > 1),
        sum(i not in names for i in held),
        bool(first.get("maximize", False)),
    )


def duplicate_share(args: Any, samples: int) -> float:
    """Fraction of samples whose inputs another sample has too."""
    tensors = [t for t in tensors_in(args) if t.ndim and len(t) == samples]
    if not tensors or samples < 2:
        return 0.0
    rows = torch.cat([t.reshape(samples, -1)[:, :64].double().cpu() for t in tensors], 1)
    return 1 - len(torch.unique(rows, dim=0)) / samples

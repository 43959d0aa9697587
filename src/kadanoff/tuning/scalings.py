"""Named scalings: how initial weights and rates go with width and depth, from a base size.

With n the width and L the number of residual branches over those of a base model, a weight's gain
(fan-in times variance), its rate, its decay and Adam's ε are those of the base model times powers
of n and L: :data:`TABLE`. A multiplier on a branch is put into the last map of the branch: scaled
by a, its initial weights take the factor a, its rate a under Adam and a^2 under SGD.

Sources: maximal update, Yang and Hu 2021 and Yang et al. 2022; depth, Bordelon et al. 2023 and
Yang et al. 2023 (branches L^(-1/2)); CompleteP, Dey et al. 2025 (branches L^(-1)); spectral
condition, Yang, Simon and Bernstein 2023; NTK scaling, s = 0 of Yaida 2022.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kadanoff.errors import UsageError
from kadanoff.tuning import parts
from kadanoff.tuning import rates as theory
from kadanoff.tuning.gains import Change, gain_of, set_gain
from kadanoff.tuning.optimizers import Group, maker, trainable
from kadanoff.tuning.tuned import Tuned, entries_of

__all__ = ["SCALINGS", "TABLE", "ScalingRule", "place_of", "scale"]

# torch's own in Adam and AdamW
EPS = 1e-8
PLACES = ("input", "hidden", "readout", "vector")


@dataclass(frozen=True)
class ScalingRule:
    """Exponents of one scaling.

    Attributes
    ----------
    gain : dict
        Power of n in fan-in times variance, by place (hidden 0 everywhere).
    adam, sgd : dict
        Power of n in the rate, by place.
    branch : float
        Power of L in the multiplier of a residual branch.
    adam_branch, sgd_branch : float
        Power of L in the rate of what lies on a branch.
    decays : bool
        Whether a matrix's weight decay is such that decay times rate does not depend on n and L.
    moves : float or None
        Power of n in the motion of hidden activations over their size; None: it has none.
    gradient : float
        Power of n in the gradient of an entry before the readout, and so in Adam's ε.
    """

    gain: Mapping[str, float]
    adam: Mapping[str, float]
    sgd: Mapping[str, float]
    branch: float = 0.0
    adam_branch: float = 0.0
    sgd_branch: float = 0.0
    decays: bool = True
    moves: float | None = 0.0
    gradient: float = 0.0


def _powers(*values: float) -> dict[str, float]:
    return dict(zip(PLACES, values, strict=True))


_NONE = _powers(0, 0, 0, 0)


def _maximal(branch: float = 0.0, adam_branch: float = 0.0, sgd_branch: float = 0.0) -> ScalingRule:
    """Maximal update in the width (input, hidden, readout, vector), and something in the depth."""
    return ScalingRule(
        gain=_powers(0, 0, -1, 0),
        adam=_powers(0, -1, -1, 0),
        sgd=_powers(1, 0, -1, 1),
        branch=branch,
        adam_branch=adam_branch,
        sgd_branch=sgd_branch,
        gradient=-1.0,
    )


TABLE: dict[str, ScalingRule] = {
    "standard": ScalingRule(_NONE, _NONE, _NONE, decays=False, moves=None),
    "ntk": ScalingRule(
        _NONE,
        _powers(-0.5, -1.5, -1, -0.5),
        _powers(0, -1, -1, 0),
        decays=False,
        moves=-0.5,
        gradient=-0.5,
    ),
    "mup": _maximal(),
    # n_out / n_in for SGD and 1 / n_in for Adam are the powers of maximal update
    "spectral": _maximal(),
    "depth-mup": _maximal(branch=-0.5, adam_branch=-0.5, sgd_branch=0.0),
    # of SGD the power of L follows from L branches that each move the stream by a^2 times the rate
    "completep": _maximal(branch=-1.0, adam_branch=0.0, sgd_branch=1.0),
}
SCALINGS = tuple(TABLE)


def scale(
    model: nn.Module,
    base: nn.Module | None,
    sample: Any,
    scaling: str = "mup",
    *,
    optimizer: Any = "adamw",
    lr: float | None = None,
    weight_decay: float | None = None,
) -> Tuned:
    """Initial weights, in place, and parameter groups of a model by a named scaling.

    Parameters
    ----------
    model : nn.Module
        Freshly initialised, at the size to be trained.
    base : nn.Module or None
        Another instance of the same factory, at the size where ``lr`` is right: what is width and
        what is depth is read off the two. None stands for width 64 and 4 branches.
    sample
        A batch as the model takes it.
    scaling : {"standard", "mup", "spectral", "depth-mup", "completep", "ntk"}
    optimizer
        As in :func:`kadanoff.tune`. Under Muon hidden matrices take steps of fixed spectral norm:
        their rate has one power of n more than under Adam, which is none for maximal update; what
        AdamW steps beside them is scaled as under AdamW.
    lr : float, optional
        Rate at the base size; without it the optimiser's own.
    weight_decay : float, optional
        Decay at the base size.

    Returns
    -------
    Tuned
        ``undo()`` puts the weights back.

    Raises
    ------
    UsageError
        Unknown scaling, or two models that are not of one factory.

    Notes
    -----
    A multiplier that the factory writes into its forward pass cannot be seen, and counts on top.
    """
    if scaling not in TABLE:
        raise UsageError(f"Unknown scaling {scaling!r}.", f"Choose from {', '.join(SCALINGS)}.")
    made = maker(optimizer, lr)
    chosen, before = TABLE[scaling], {n: p.detach().clone() for n, p in trainable(model).items()}
    sizes = _BaseSizes(model, base, sample)
    groups: list[Group] = []
    changes: list[Change] = []
    generator = torch.Generator().manual_seed(0)
    for name, parameter in trainable(model).items():
        role, width = sizes.where[name], sizes.width(name)
        place = place_of(role, parameter, width)
        depth = sizes.depth if name in sizes.inside else 1.0
        multiplier = depth**chosen.branch if name in sizes.ends else 1.0
        if scaling != "standard":
            change = _weights(
                name, parameter, role, sizes, width ** chosen.gain[place], multiplier, generator
            )
            changes += [change] if change is not None else []
        powers, along = (
            (chosen.sgd, chosen.sgd_branch)
            if made.kind == "sgd"
            else (chosen.adam, chosen.adam_branch)
        )
        step = theory.algorithm_of(made.kind, role, parameter)
        # a sign's update of an n by n matrix has spectral norm n, a polar factor's has 1
        power = powers[place] + (1 if step == "muon" else 0)
        factor = width**power * depth**along
        factor *= multiplier ** (2 if made.kind == "sgd" else 1)
        group: Group = {
            "params": [parameter],
            "lr": made.rate * factor,
            "name": name,
            "role": role.role,
        }
        if made.kind == "muon":
            group["algorithm"] = step
        if step == "adamw" or "adam" in made.name.lower():
            # as large beside the gradient as in the base model; the gradient of a branch has its
            # multiplier in it, but for that of the last map, which holds the multiplier itself
            power = 0.0 if place == "readout" else chosen.gradient
            inside = name in sizes.inside and name not in sizes.ends
            group["eps"] = EPS * width**power * (depth**chosen.branch if inside else 1.0)
        if weight_decay is not None:
            matrix = place in ("hidden", "readout") and chosen.decays
            group["weight_decay"] = weight_decay / factor if matrix else weight_decay
        groups.append(group)
    words = {g["name"]: f"{g['role']}: base rate times {g['lr'] / made.rate:.3g}" for g in groups}
    return Tuned(
        groups,
        verdict=f"Scaled by {scaling} from width ratio {sizes.widest:.3g}, "
        f"depth ratio {sizes.depth:.3g}.",
        entries=entries_of(model, {g["name"]: g["lr"] for g in groups}, changes, (), words),
        maker=made,
        model=model,
        before=before,
    )


def place_of(role: parts.Role, parameter: Tensor, width: float) -> str:
    """Whether a parameter is an input, hidden or readout matrix, or a vector.

    Parameters
    ----------
    role : Role
    parameter : Tensor
    width : float
        By how much its fan-in is larger than in the base model.
    """
    if parameter.ndim < 2 and role.role != "embedding":
        return "vector"
    if role.role in ("embedding", "input") or (role.role != "readout" and width == 1.0):
        return "input"
    return "readout" if role.role == "readout" else "hidden"


@torch.no_grad()
def _weights(
    name: str,
    parameter: Tensor,
    role: parts.Role,
    sizes: _BaseSizes,
    factor: float,
    multiplier: float,
    generator: torch.Generator,
) -> Change | None:
    """Bring a matrix to the gain of its like in the base model, times its factors."""
    like = sizes.base_gain.get(sizes.key(name))
    if parameter.ndim < 2:
        if multiplier != 1.0:
            parameter.mul_(multiplier)  # a bias on a branch is multiplied like its weight
        return None
    now = gain_of(parameter, role.fan_in)
    if not now > 0:
        return None  # zero on purpose
    wanted = (now if like is None else like) * factor * multiplier**2
    set_gain(parameter, role.fan_in, wanted, generator)
    return Change(name, now, wanted, math.nan, "the base model's gain, scaled")


class _BaseSizes:
    """Ratios of width and depth between a model and its base, parameter by parameter."""

    def __init__(self, model: nn.Module, base: nn.Module | None, sample: Any) -> None:
        self.where = parts.parameter_roles(model, sample)
        found = parts.branches(model, sample)
        self.inside, blocks, self.ends = found.inside, found.count, found.ends
        self.base_gain: dict[tuple[str, str], float] = {}
        self._fans: dict[tuple[str, str], tuple[int, int]] = {}
        self._model = dict(model.named_parameters())
        if base is None:
            self.depth = max(blocks, 1) / 4
            return
        there = parts.parameter_roles(base, sample)
        parameters = dict(base.named_parameters())
        self.depth = max(blocks, 1) / max(parts.branches(base, sample).count, 1)
        gains: dict[tuple[str, str], list[float]] = {}
        for name, role in there.items():
            key = (_pattern(name), role.role)
            self._fans[key] = (role.fan_in, parameters[name].shape[0])
            if parameters[name].ndim > 1:
                gains.setdefault(key, []).append(gain_of(parameters[name], role.fan_in))
        self.base_gain = {k: sum(v) / len(v) for k, v in gains.items()}
        lost = [n for n in self.where if self.key(n) not in self._fans]
        if lost:
            raise UsageError(
                f"The base model has no parameter like {lost[0]!r}.",
                "Build both with the same factory.",
            )

    def key(self, name: str) -> tuple[str, str]:
        """What a parameter has in common with its like in another depth."""
        return _pattern(name), self.where[name].role

    def width(self, name: str) -> float:
        """The ratio of widths that a parameter's exponents are powers of."""
        role, parameter = self.where[name], self._model[name]
        inner = role.fan_in > 1 and role.role not in ("input", "embedding")
        if not self._fans:
            size = role.fan_in if inner else parameter.shape[-1 if parameter.ndim == 1 else 0]
            size = parameter.shape[-1] if role.role == "embedding" else size
            return size / theory.BASE_WIDTH
        fan_in, rows = self._fans[self.key(name)]
        if inner and parameter.ndim > 1:
            return role.fan_in / fan_in
        return self.widest if role.role == "embedding" else parameter.shape[0] / rows

    @property
    def widest(self) -> float:
        """The largest ratio of fan-ins: that of the width itself."""
        ratios = [
            self.where[n].fan_in / self._fans[self.key(n)][0]
            if self._fans
            else self.where[n].fan_in / theory.BASE_WIDTH
            for n, p in self._model.items()
            if n in self.where and p.ndim > 1 and self.where[n].fan_in > 1
        ]
        return max(ratios, key=lambda r: abs(math.log(r)), default=1.0)


def _pattern(name: str) -> str:
    return re.sub(r"\d+", "#", name)

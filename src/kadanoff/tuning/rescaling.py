"""Rounds of measuring and rescaling: every layer by what was just measured."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kadanoff.tuning.gains import gain_of, set_gain, worst_of

__all__ = ["Picture", "Step", "silence_biases", "swept"]


@dataclass
class Step:
    """One step of the main chain: which weight sets its χ, and how."""

    kind: str  # "layer", "block", "map" (off the chain), "input"
    weight: str
    fan_in: int
    chi: float
    reason: str
    others: list[str] = field(default_factory=list)  # further weights of a residual branch


@dataclass
class Picture:
    """What one forward pass showed: the steps of its main chain, and what is left alone.

    With ``hold`` the mean square is kept where χ = 1 lets it grow; ``growth`` is by how much the
    largest preactivations exceed the first.
    """

    steps: list[Step]
    left: dict[str, str]
    hold: bool = False
    growth: float = 0.0


def swept(
    picture: Picture,
    look: Callable[..., Picture],
    probes: tuple[int, int],
    parameters: dict[str, Tensor],
    generator: torch.Generator,
    tolerance: float,
    progress: Callable[[int], None] | None,
) -> tuple[Picture, int, float]:
    """Rescale until every χ is 1: the picture then, the rounds it took, the worst |χ − 1|.

    Parameters
    ----------
    picture : Picture
        What the model looks like before.
    look : callable
        ``look(probes)`` measures anew.
    probes : (int, int)
        Random vectors a measurement, and of those that decide.
    parameters : dict
        By name; changed in place.
    generator : torch.Generator
        For weights that are all zero and must be drawn.
    tolerance : float
        Accepted |χ − 1|.
    progress : callable or None
        ``progress(rounds)``.
    """
    sweeps, worst, precise = 0, math.inf, False
    for sweeps in range(1, 11 + 2 * len(picture.steps)):
        _rescale(picture, parameters, generator, look)
        picture = look(probes[precise])
        layers = worst_of([s.chi for s in picture.steps if s.kind in ("layer", "map")])
        blocks = worst_of([s.chi for s in picture.steps if s.kind == "block"])
        worst = max(layers, blocks)
        if progress is not None:
            progress(sweeps)
        # a block's χ is quadratic in its scale only on average over weights: no need to chase it
        if layers <= tolerance / 4 and blocks <= 0.8 * tolerance:
            if precise:
                break
            precise, picture = True, look(probes[1])
    return picture, sweeps, worst


@torch.no_grad()
def silence_biases(picture: Picture, parameters: dict[str, Tensor]) -> None:
    for step in picture.steps:
        for name in (step.weight, *step.others):
            bias = parameters.get(name.removesuffix("weight") + "bias")
            if bias is not None and bias.ndim == 1 and bias.requires_grad:
                bias.zero_()


def _rescale(
    picture: Picture,
    parameters: dict[str, Tensor],
    generator: torch.Generator,
    look: Callable[[], Picture],
) -> None:
    """One sweep: every layer by what was just measured, every block with its skip path known."""
    shared: dict[str, list[Step]] = {}
    for step in picture.steps:
        shared.setdefault(step.weight, []).append(step)
    blocks: dict[str, float] = {}
    for name, steps in shared.items():
        weight, fan_in = parameters[name], steps[0].fan_in
        if steps[0].kind == "block":
            blocks[name] = _geometric([s.chi for s in steps])
            continue
        chi = _geometric([s.chi for s in steps])
        now = gain_of(weight, fan_in)
        if chi > 0 and now > 0:
            set_gain(weight, fan_in, now / chi, generator)
        else:
            with torch.no_grad():
                weight.zero_()
            set_gain(weight, fan_in, 1.0, generator)
    if blocks:
        _rescale_blocks(blocks, parameters, look)


@torch.no_grad()
def _rescale_blocks(
    blocks: dict[str, float], parameters: dict[str, Tensor], look: Callable[[], Picture]
) -> None:
    """χ(s) = a + s²b: switch the branches off to see a, then solve for the scale s."""
    kept = {name: parameters[name].clone() for name in blocks}
    for name in blocks:
        parameters[name].zero_()
    without = {s.weight: s.chi for s in look().steps if s.kind == "block"}
    for name, chi in blocks.items():
        a = without.get(name, math.nan)
        branch = chi - a
        # the skip path alone may have all that is allowed: leave the branch a small share
        room = max(1.0 - a, 0.02)
        if not math.isfinite(a) or (abs(chi - 1) <= 0.01) or branch <= 0:
            scale = 1.0
        else:
            scale = math.sqrt(room / branch)
        parameters[name].copy_(kept[name] * scale)


def _geometric(values: list[float]) -> float:
    if any(value <= 0 for value in values):
        return 0.0
    return math.exp(sum(math.log(value) for value in values) / len(values))

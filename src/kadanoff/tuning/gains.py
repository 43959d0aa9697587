"""Gains of weights: what was changed, measuring and setting them, inputs out of scale."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kadanoff.errors import AnalysisError
from kadanoff.trace.hf import tensors_in

__all__ = [
    "SAME",
    "Change",
    "Initialisation",
    "gain_of",
    "pairwise",
    "set_gain",
    "unscaled",
    "worst_of",
]

# inputs of a root mean square beyond this, or below its inverse, are to be standardised: pixels
# from 0 to 255 have 100, digits from 0 to 16 have 7
FAR = 10.0
# a weight rescaled in its own precision misses the gain by a few roundings of each entry
SAME = {torch.float16: 5e-3, torch.bfloat16: 2e-2, torch.float64: 1e-12}


@dataclass(frozen=True)
class Change:
    """What happened to one weight: its gain n·mean(W²) before and after, and why.

    ``chi`` is the squared partial-Jacobian norm of the step that ends in this layer, after
    tuning; NaN where none was measured.
    """

    name: str
    gain_before: float
    gain_after: float
    chi: float
    reason: str


@dataclass(frozen=True)
class Initialisation:
    """Report of :func:`initialise`.

    Attributes
    ----------
    method : str
        ``"closed form"``, ``"numerical"`` or ``"untouched"``.
    changes : tuple of Change
        One for each weight that was looked at, also where nothing was changed.
    left : tuple of str
        Weights left as they were on purpose, each with the reason.
    sweeps : int
        Rounds of measuring and rescaling.
    worst : float
        Largest |χ − 1| left among the steps that were to become 1; NaN in closed form.
    notes : tuple of str
        What is to be mended elsewhere: inputs that are not standardised, a model that looks
        trained.
    """

    method: str
    changes: tuple[Change, ...]
    left: tuple[str, ...] = ()
    sweeps: int = 0
    worst: float = math.nan
    notes: tuple[str, ...] = ()


def unscaled(value: Any) -> str | None:
    """A sentence on real inputs that are far from unit size, or have columns that are; or None."""
    for tensor in tensors_in(value):
        if not tensor.is_floating_point() or tensor.ndim < 2 or not tensor.numel():
            continue
        x = tensor.detach().double()
        size = float(x.square().mean().sqrt())
        if size == 0:
            continue
        words = "standardise them (mean 0, variance 1 for each feature)"
        if not 1 / FAR < size < FAR:
            return f"The inputs have a root mean square of {size:.3g}: {words}."
        if tensor.ndim == 2 and tensor.shape[0] > 1:
            columns = x.square().mean(0).sqrt()
            k = int(columns.argmax())
            rest = float(columns.median())
            if float(columns[k]) > FAR**2 * rest > 0:
                return (
                    f"Column {k} of the inputs is {float(columns[k]) / rest:.0f} times larger than "
                    f"most: {words}."
                )
    return None


def gain_of(weight: Tensor, fan_in: int) -> float:
    """The measured C_W: fan-in times the mean square of the weights."""
    return fan_in * float(weight.detach().double().square().mean())


@torch.no_grad()
def set_gain(weight: Tensor, fan_in: int, gain: float, generator: torch.Generator) -> None:
    """Rescale a weight to a gain; draws it anew only if it is zero.

    Parameters
    ----------
    weight : Tensor
        Changed in place.
    fan_in : int
    gain : float
        Standard deviation times √fan-in.
    generator : torch.Generator
        For a weight that is zero.
    """
    now = gain_of(weight, fan_in)
    if now > 0 and abs(now / gain - 1) < SAME.get(weight.dtype, 1e-5):
        return  # tuned before: not a bit may change
    if now == 0:
        drawn = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        weight.copy_(drawn * math.sqrt(gain / fan_in))
    else:
        weight.mul_(math.sqrt(gain / now))


def worst_of(values: list[float]) -> float:
    """Largest |χ − 1|, 0 of nothing; raises if one is not finite."""
    for value in values:
        if not math.isfinite(value):
            raise AnalysisError(
                "A partial Jacobian is not finite: the signal overflows.",
                "Start from weights that are finite on this batch.",
            )
    return max((abs(value - 1) for value in values), default=0.0)


def pairwise(chain: list[int]) -> list[tuple[int, int]]:
    """Successive pairs of a chain, as a list."""
    return list(itertools.pairwise(chain))

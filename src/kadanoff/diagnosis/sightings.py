"""What a witness notes while a model runs: one small record a kind of call."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

__all__ = ["SAMPLED", "Attention", "Cut", "Fed", "LossCall", "Normed", "Scan", "StreamSum"]

SAMPLED = "a sample without gradient"  # what a cut is called where a law was drawn from


@dataclass
class LossCall:
    """One call of a loss function of torch, in the model or in the user's loss.

    Attributes
    ----------
    op : str
    path : str
        Module that made it; ``""`` outside the model.
    output, target : Tensor
        What it was given (the output keeps its graph).
    value : float
        What it returned, if that is one number.
    weighted : bool
        Whether class weights, smoothing or the like were given.
    ignore : int or None
        Label that is left out.
    """

    op: str
    path: str
    output: Tensor
    target: Tensor
    value: float = math.nan
    weighted: bool = False
    ignore: int | None = None


@dataclass(frozen=True)
class Attention:
    """One softmax over positions.

    ``logit`` is the largest spread (max − mean) of the scores of a row, its median over rows;
    ``entropy`` the mean entropy over its maximum (the logarithm of the positions allowed);
    ``masked`` the samples with a row that is masked altogether; ``width`` the number of products
    summed into one score; ``scaled`` the standard deviation of the scores over that of the bare
    product of queries and keys (None if that was not seen); ``weights`` the mean weight by key
    position for each sample, (samples, keys), where it was cheap to have.
    """

    path: str
    logit: float
    entropy: float
    masked: tuple[int, ...] = ()
    width: int | None = None
    scaled: float | None = None
    weights: Tensor | None = None


@dataclass(frozen=True)
class StreamSum:
    """A sum of two streams: root mean square of each, and whether each varies over samples.

    ``normed``: one of them is the output of a layer norm; ``carried``: one is an earlier sum.
    """

    path: str
    sizes: tuple[float, float]
    varies: tuple[bool, bool]
    normed: bool = False
    carried: bool = False


@dataclass(frozen=True)
class Normed:
    """One call of a norm.

    ``off`` is for batch norm in evaluation mode: root mean square over channels of (mean of the
    batch − running mean) over the batch's standard deviation; ``spread`` the median ratio of
    batch to running variance. ``group`` is how many numbers are normalised together.
    """

    path: str
    op: str
    training: bool
    group: int
    off: float | None = None
    spread: float | None = None
    constant: float = 0.0


@dataclass
class Scan:
    """One call of a recurrent function: where its input enters the graph, and which axis is time.

    A cell takes one step a call. ``signal`` is the root mean square of what it gives at each step.
    """

    path: str
    op: str
    edge: Any
    steps: int
    axis: int
    signal: tuple[float, ...] = ()


@dataclass(frozen=True)
class Cut:
    """A place where no gradient can pass."""

    path: str
    what: str


@dataclass(frozen=True)
class Fed:
    """The data as the first weights see it: per column mean and standard deviation."""

    path: str
    op: str
    mean: Tensor
    std: Tensor
    rms: float
    low: float
    high: float
    normed: bool = False

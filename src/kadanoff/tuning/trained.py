"""Does a model look trained? Its weights are then no draw that may be rescaled."""

from __future__ import annotations

import math

from torch import Tensor, nn

__all__ = ["looks_trained"]

# a matrix whose rows or columns differ in size by so many standard errors was not drawn entry by
# entry
UNLIKELY = 8.0
# entries of every usual law of initial weights have at most the kurtosis of a Gaussian
GAUSSIAN = 3.0
SMALL = 64
# DCGAN draws its gains with a spread of 0.02
SPREAD = 0.03


def looks_trained(model: nn.Module) -> str | None:
    """Evidence that a model has been trained; None where its weights may be a fresh draw.

    A matrix drawn entry by entry has rows and columns of equal mean square, up to
    sqrt((kurtosis - 1) / length) each; training changes some directions more than others. A model
    looks trained if more than half of its weights lie in matrices whose rows or columns differ by
    over 8 standard errors, or if the gains within most of its normalisations differ by over 3 %.

    Parameters
    ----------
    model : nn.Module
        Its weights, frozen ones too.

    Returns
    -------
    str or None
        One sentence.
    """
    odd = total = 0
    worst, where = 0.0, ""
    for name, weight in model.named_parameters():
        if weight.ndim < 2 or weight.numel() < SMALL or not weight.is_floating_point():
            continue
        found = unevenness(weight.detach())
        if math.isnan(found):
            continue
        total += weight.numel()
        if found > UNLIKELY:
            odd += weight.numel()
        if found > worst:
            worst, where = found, name
    if total and odd > total / 2:
        return (
            f"{100 * odd / total:.0f} % of the weights are no independent draws (rows or columns "
            f"of {where} differ in size by {worst:.0f} standard errors)"
        )
    norms = [m for m in model.modules() if "norm" in type(m).__name__.lower()]
    weights = [getattr(m, "weight", None) for m in norms]
    gains = [w.detach() for w in weights if isinstance(w, Tensor) and w.ndim == 1 and len(w) > 1]
    moved = [g for g in gains if float(g.double().std()) > SPREAD * abs(float(g.double().mean()))]
    if gains and len(moved) > len(gains) / 2:
        return f"the gains of {len(moved)} of {len(gains)} normalisations have parted"
    return None


def unevenness(weight: Tensor) -> float:
    """By how many standard errors the mean squares of rows or columns differ from each other.

    With m rows of n independent entries of kurtosis k, sum over rows of (s_i - s)^2 n /
    ((k - 1) s^2) is about chi-squared with m - 1 degrees of freedom; returned is the larger of the
    two z, of rows and of columns. NaN for a weight that is constant.
    """
    flat = weight.reshape(weight.shape[0], -1).double()
    flat = flat[:, flat.abs().amax(0) > 0]
    flat = flat[flat.abs().amax(1) > 0] if flat.numel() else flat
    if flat.shape[0] < 2 or flat.shape[1] < 2 or float(flat.std()) == 0:
        return math.nan
    squares = flat.square()
    mean = float(squares.mean())
    kurtosis = min(float(squares.square().mean()) / mean**2, GAUSSIAN)
    found = 0.0
    for axis in (0, 1):
        sizes = squares.mean(1 - axis)
        many, length = len(sizes), flat.shape[1 - axis]
        chi = float((sizes - mean).square().sum()) * length / (max(kurtosis - 1, 0.1) * mean**2)
        found = max(found, (chi - (many - 1)) / math.sqrt(2 * (many - 1)))
    return found

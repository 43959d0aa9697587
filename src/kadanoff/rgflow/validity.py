"""Where the expansion in 1/n is controlled, and the warning where it is not."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from kadanoff.architecture import Network
from kadanoff.errors import ValidityWarning, level_outside

__all__ = ["MOST_FLUCTUATION", "MOST_RATIO", "MOST_SHIFT", "fluctuation", "warn_beyond"]

# L/n and V/(nK²) beyond which the next order, their square, is a tenth and more
MOST_RATIO, MOST_FLUCTUATION = 0.3, 0.3
# a correction of order 1/n of this share of what it corrects
MOST_SHIFT = 0.2


def fluctuation(K: Tensor, V: Tensor, n: Tensor | int) -> float:
    """Largest relative variance V/(nK²) of the squared size of any input at any layer.

    Parameters
    ----------
    K : Tensor, shape (layers, N, N)
    V : Tensor, shape (layers, N, N, N, N)
        Without the 1/n.
    n : Tensor, shape (layers,), or int
        Width that divides V.
    """
    own = torch.einsum("laaaa->la", V)
    size = K.diagonal(dim1=1, dim2=2).square().clamp_min(1e-300)
    return float((own / size / torch.as_tensor(n).reshape(-1, 1)).nan_to_num().max())


def warn_beyond(what: str, arch: Network, largest: float = 0.0, shift: float = 0.0) -> None:
    """Warn if a result of order 1/n lies where higher orders matter.

    Parameters
    ----------
    what : str
        What was computed, as the subject of a sentence.
    arch : Network
    largest : float
        The largest V/(nK²), see :func:`fluctuation`.
    shift : float
        The correction over what it corrects.

    Notes
    -----
    The warning points at the first caller outside this package.
    """
    reasons = []
    if arch.ratio > MOST_RATIO:
        reasons.append(f"L/n = {arch.ratio:.2g} (limit {MOST_RATIO})")
    if largest > MOST_FLUCTUATION:
        reasons.append(f"V/(nK²) = {largest:.2g} (limit {MOST_FLUCTUATION})")
    if shift > MOST_SHIFT:
        reasons.append(f"the order 1/n is {shift:.0%} of the mean (limit {MOST_SHIFT:.0%})")
    if not reasons:
        return
    warnings.warn(
        f"{what} is not controlled here: {', '.join(reasons)}. Higher orders matter: use a wider "
        "or a shallower network, or measure (kadanoff.ensemble); at one input "
        "kadanoff.rgflow.moment_series and exact_chain go further.",
        ValidityWarning,
        stacklevel=level_outside("kadanoff."),
    )

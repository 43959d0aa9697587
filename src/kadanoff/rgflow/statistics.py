"""What a flow at order 1/n finds, before it is handed out: all layers, or the last one."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["STRATEGY", "LastLayer", "OrderOne"]

# how averages were taken, by the kind of the rule
STRATEGY = {
    "lattice": "trapezoidal rule on a body-centred lattice of Cholesky coordinates for each subset "
    "of inputs; error: difference from a step wider by a quarter",
    "panels": "Gauss-Legendre panels cut at the kinks; error: difference of two orders",
    "expansion": "a plane lattice for each pair of inputs, the others expanded in their partial "
    "correlations; error: difference of two levels of step and number of orders",
    "sobol": "eight scrambled Sobol sequences where more than three inputs differ, otherwise "
    "deterministic rules; error: standard error of the mean",
}


@dataclass(frozen=True)
class OrderOne:
    """What order 1/n adds to a flow.

    Attributes
    ----------
    tensors, error : dict of name to Tensor, shape (layers, N, ...)
        All layers, or the last one; powers of 1/n taken out.
    strategy : str
        How the four-sample averages were taken.
    undefined : dict of name to str
        Observables that do not exist or are not derived here, and why.
    """

    tensors: dict[str, Tensor]
    error: dict[str, Tensor]
    strategy: str
    undefined: dict[str, str]


@dataclass(frozen=True)
class LastLayer:
    """Statistics of the output layer from one replica of the averages; no 1/n in them.

    Attributes
    ----------
    K, Theta : Tensor, shape (N, N)
    G1, H1 : Tensor, shape (N, N), or None
        None, here and below, where it was not asked for.
    V, A, B, D, F, P, Q, R, S, T, U : Tensor, shape (N, N, N, N), or None
        Slots as in :class:`kadanoff.rgflow.Flow`.
    """

    K: Tensor
    Theta: Tensor
    G1: Tensor | None = None
    H1: Tensor | None = None
    V: Tensor | None = None
    A: Tensor | None = None
    B: Tensor | None = None
    D: Tensor | None = None
    F: Tensor | None = None
    P: Tensor | None = None
    Q: Tensor | None = None
    R: Tensor | None = None
    S: Tensor | None = None
    T: Tensor | None = None
    U: Tensor | None = None

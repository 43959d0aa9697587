"""Rows through a parameter used as a matrix: answered undrawn, or why not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from kadanoff.program.linear import answered
from kadanoff.program.matrix import Matrix, Side
from kadanoff.program.views import View

if TYPE_CHECKING:
    from kadanoff.program.mode import Network

__all__ = ["CHEAPER", "NOT_NORMAL", "NO_MATRIX", "affine", "mapped"]

Arguments = dict[str, Any]
CHEAPER = "cheaper drawn"
NOT_NORMAL = "its law is not normal, which would show"
NO_MATRIX = "not used as a matrix"


def mapped(network: Network, x: Tensor, view: View, side: Side) -> Tensor | str:
    """x through a two-axis view, contracted with its last ("right") or first ("left") axis.

    Parameters
    ----------
    network : Network
    x : Tensor
        Its last axis is contracted.
    view : View
    side : {"right", "left"}
    """
    if not x.is_floating_point() or not x.numel():
        return "asked of what are no numbers"
    rows = x.shape[:-1].numel()
    if view.source.looked_up and view.linear:
        return _tied(network, x, view, side)
    if not view.source.law.conditional:
        return f"a law of its own ({view.source.law.kind})"
    if view.source.plain(x, side):
        return NOT_NORMAL
    found = view.matrix(side)
    if found is None:
        return NO_MATRIX
    matrix, asked = found
    network.asked.append((view.source.name, rows))
    if not matrix.undrawn(rows):
        return CHEAPER
    if x.shape[-1] != (matrix.columns if asked == "right" else matrix.rows):
        return "asked in a wrong shape"  # torch says so better
    out = answered(x, matrix, asked, network)
    return out if view.scale == 1 else view.scale * out


def _tied(network: Network, x: Tensor, view: View, side: Side) -> Tensor | str:
    """A readout whose matrix has served as a table of embeddings."""
    asked = "left" if (side == "right") == view.transposed else "right"
    if asked != "right" or view.stop - view.start != view.source.shape[0]:
        return "a table used as a matrix in part"

    def answer(x: Tensor, matrix: Matrix, side: Side) -> Tensor:
        return answered(x, matrix, side, network)

    out = view.source.readout(x, answer)
    if out is None:
        return CHEAPER
    return out if view.scale == 1 else view.scale * out


def affine(network: Network, given: Arguments) -> Tensor | str:
    """F.linear(input, weight, bias)."""
    view = network.view(given["weight"])
    if view is None:
        return NO_MATRIX
    out = mapped(network, network.value(given["input"]), view, "right")
    bias = given.get("bias")
    if isinstance(out, str):
        return out
    return out if bias is None else out + network.value(bias)

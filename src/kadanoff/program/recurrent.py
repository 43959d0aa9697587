"""Recurrent layers, fused or by the cell, as the linear maps they consist of.

torch computes a whole ``nn.LSTM`` in one call that wants all weights in numbers. Here the call is
run step by step instead: W_ih answers all time steps in one question, W_hh one question a step,
each given all it has answered before. Where so many rows are asked that drawing W_hh is cheaper,
the fused call is made with drawn weights: the same network in law, and faster.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kadanoff.program.maps import CHEAPER, affine
from kadanoff.program.matrix import cheaper_undrawn

if TYPE_CHECKING:
    from kadanoff.program.mode import Network

__all__ = ["cell", "layers"]

Arguments = dict[str, Any]
# hidden state, and the cell's state of an LSTM
State = tuple[Tensor, ...]


@dataclass(frozen=True)
class _Weights:
    """One direction of one layer: parameters as the user's call holds them; None where absent."""

    ih: Tensor
    hh: Tensor
    b_ih: Tensor | None
    b_hh: Tensor | None
    projection: Tensor | None  # of an LSTM with proj_size


def _lstm(from_input: Tensor, from_state: Tensor, state: State) -> State:
    gates = from_input + from_state
    i, f, g, o = gates.chunk(4, -1)
    c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def _gru(from_input: Tensor, from_state: Tensor, state: State) -> State:
    r, z, n = from_input.chunk(3, -1)
    r_h, z_h, n_h = from_state.chunk(3, -1)
    z = torch.sigmoid(z + z_h)
    n = torch.tanh(n + torch.sigmoid(r + r_h) * n_h)
    return ((1 - z) * n + z * state[0],)


def _tanh(from_input: Tensor, from_state: Tensor, state: State) -> State:
    return (torch.tanh(from_input + from_state),)


def _relu(from_input: Tensor, from_state: Tensor, state: State) -> State:
    return (torch.relu(from_input + from_state),)


_STEPS: dict[str, Callable[[Tensor, Tensor, State], State]] = {
    "lstm": _lstm,
    "gru": _gru,
    "rnn_tanh": _tanh,
    "rnn_relu": _relu,
}


def layers(network: Network, given: Arguments, kind: str) -> tuple[Tensor, ...] | str:
    """torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu; padded sequences or packed ones.

    Parameters
    ----------
    network : Network
    given : Arguments
        What torch's function was called with.
    kind : str
        Its name.

    Returns
    -------
    tuple of Tensor, or str
        As torch's own: output, last hidden states, last cell states of an LSTM.
    """
    sizes = given["hx"]
    if not isinstance(sizes, Tensor) or sizes.is_floating_point():
        return _padded(network, given, kind)
    # packed: (data, batch_sizes, hx, params, has_biases, num_layers, dropout, train, bidirectional)
    names = ("hx", "params", "has_biases", "num_layers", "dropout", "train", "bidirectional")
    shifted = (
        "params",
        "has_biases",
        "num_layers",
        "dropout",
        "train",
        "bidirectional",
        "batch_first",
    )
    packed = {name: given[other] for name, other in zip(names, shifted)}
    data = network.value(given["input"])
    # at time t the first sizes[t] of the sequences, sorted by length, are still there
    lasts = torch.arange(int(sizes[0]), device=data.device) < sizes.to(data.device)[:, None]
    where = lasts[..., None].expand(*lasts.shape, data.shape[-1])
    x = data.new_zeros(where.shape).masked_scatter(where, data)
    found = _padded(network, {"input": x, "batch_first": False, **packed}, kind, lasts)
    return found if isinstance(found, str) else (found[0][lasts], *found[1:])


def _padded(
    network: Network, given: Arguments, kind: str, lasts: Tensor | None = None
) -> tuple[Tensor, ...] | str:
    """Sequences side by side; ``lasts`` (T, N) says which have not ended."""
    hx, flat = given["hx"], given["params"]
    directions = 2 if given["bidirectional"] else 1
    count = given["num_layers"] * directions
    stack = _unpacked(flat, count, bool(given["has_biases"]))
    if stack is None:
        return "weights in another order"
    x = network.value(given["input"])
    start = tuple(hx) if isinstance(hx, (tuple, list)) else (hx,)
    start = tuple(network.value(s) for s in start)
    if given["batch_first"]:
        x = x.transpose(0, 1)
    if not all(_undrawn(network, w, x.shape[:2].numel()) for w in stack):
        return CHEAPER
    ends: list[State] = []
    for layer in range(given["num_layers"]):
        if layer and given["dropout"] and given["train"]:
            x = F.dropout(x, given["dropout"], True)
        both = []
        for d in range(directions):
            at = layer * directions + d
            first = tuple(s[at] for s in start)
            output, end = _run(network, kind, stack[at], x, first, d == 1, lasts)
            both.append(output)
            ends.append(end)
        x = both[0] if directions == 1 else torch.cat(both, -1)
    if given["batch_first"]:
        x = x.transpose(0, 1)
    return (x, *(torch.stack(s) for s in zip(*ends, strict=True)))


def _unpacked(flat: Sequence[Tensor], count: int, biases: bool) -> list[_Weights] | None:
    """torch's flat list of weights, a layer and direction at a time."""
    per = len(flat) // count
    if per * count != len(flat) or per not in ((4, 5) if biases else (2, 3)):
        return None
    out = []
    for at in range(0, len(flat), per):
        one = list(flat[at : at + per])
        b_ih, b_hh = (one[2], one[3]) if biases else (None, None)
        projection = one[-1] if per in (3, 5) else None
        out.append(_Weights(one[0], one[1], b_ih, b_hh, projection))
    return out


def _undrawn(network: Network, w: _Weights, rows: int) -> bool:
    """Whether W_hh should answer all steps undrawn; the fused call is faster where it is drawn."""
    view = network.view(w.hh)
    if view is None or not view.source.law.conditional or not view.linear:
        return False
    # states are near Gaussian, so that Σ h⁴/(Σ h²)² is about 3/n
    typical = torch.arange(1, w.hh.shape[1] + 1, dtype=torch.float64)
    typical = torch.erfinv(2 * typical / (len(typical) + 1) - 1)
    if view.source.drawn is not None or view.source.plain(typical, "right"):
        return False
    always = network.method == "undrawn" or network.pool is not None
    return always or cheaper_undrawn(rows, w.hh.shape[1], w.hh.shape[0])


def _mapped(network: Network, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x Wᵀ + b by the law of W, or by numbers where it has none here."""
    found = affine(network, {"input": x, "weight": weight, "bias": bias})
    if isinstance(found, str):
        return F.linear(x, network.value(weight, found), network.value(bias))
    return found


def _run(
    network: Network,
    kind: str,
    w: _Weights,
    x: Tensor,
    state: State,
    reverse: bool,
    lasts: Tensor | None,
) -> tuple[Tensor, State]:
    """One direction of one layer over x (T, N, n): its outputs and last state."""
    from_input = _mapped(network, x, w.ih, w.b_ih)
    steps = range(len(x))
    outputs: list[Tensor] = [x] * len(x)
    for t in reversed(steps) if reverse else steps:
        new = _step(network, kind, w, from_input[t], state)
        outputs[t] = new[0]
        if lasts is not None:
            # a sequence that has ended, or has not begun, keeps its state
            new = tuple(torch.where(lasts[t][:, None], a, b) for a, b in zip(new, state))
        state = new
    return torch.stack(outputs), state


def _step(network: Network, kind: str, w: _Weights, from_input: Tensor, state: State) -> State:
    from_state = _mapped(network, state[0], w.hh, w.b_hh)
    h, *rest = _STEPS[kind](from_input, from_state, state)
    if w.projection is not None:
        h = _mapped(network, h, w.projection, None)
    return (h, *rest)


def cell(network: Network, given: Arguments, kind: str) -> State | Tensor | str:
    """torch.lstm_cell, torch.gru_cell, torch.rnn_tanh_cell, torch.rnn_relu_cell: one step.

    Parameters
    ----------
    network : Network
    given : Arguments
        What torch's function was called with.
    kind : str
        Its name.
    """
    hx = given["hx"]
    state = tuple(hx) if isinstance(hx, (tuple, list)) else (hx,)
    state = tuple(network.value(s) for s in state)
    w = _Weights(given["w_ih"], given["w_hh"], given.get("b_ih"), given.get("b_hh"), None)
    if network.view(w.ih) is None or network.view(w.hh) is None:
        return "weights that are made of parameters"
    from_input = _mapped(network, network.value(given["input"]), w.ih, w.b_ih)
    found = _step(network, kind, w, from_input, state)
    return found if kind == "lstm" else found[0]

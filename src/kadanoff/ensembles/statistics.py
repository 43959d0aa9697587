"""From a block of networks to sums over networks: what both samplers measure, layer by layer.

A *channel* is a number (or tensor) per network whose mean enters an observable; ``observables``
turns the means of all channels into the names and normalisation of :class:`kadanoff.Flow`.

=========  ==========================================================================
channel    meaning, per network (d = deviation from infinite width)
=========  ==========================================================================
g, h       d of the metric and of the mean diagonal NTK
r, rh      the same, less noise of known mean zero (control variates)
gg, gh, hh their products (over pairs of distinct neurons), less noise of known mean zero
ggg        the cube of d of the metric
res        NTK variance that the forward pass does not fix
b, f       products of off-diagonal NTK entries with themselves, with preactivations
P … U      one estimate each of the dNTK and ddNTK tensors
=========  ==========================================================================
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from kadanoff.ensembles.control import Control
from kadanoff.ensembles.dntk import differential
from kadanoff.ensembles.limit import Reference
from kadanoff.ensembles.tangent import Conditional, conditional, ntk, probe_rows, pull
from kadanoff.ensembles.trunk import Trunk
from kadanoff.errors import UsageError
from kadanoff.rgflow.observables import DIFFERENTIAL, RANK

__all__ = ["NAMES", "channels", "layer_sums", "observables", "wanted_names"]

NAMES = tuple(RANK)
# what no metric alone gives
_OF_NTK = {"Theta", "H1", "A", "B", "D", "F"}
# axes over inputs of each channel
_CHANNEL_RANK = {
    "g": 2,
    "gg": 4,
    "ggg": 0,
    "r": 2,
    "rh": 2,
    "h": 2,
    "hh": 4,
    "gh": 4,
    "res": 4,
    "b": 4,
    "f": 4,
    **dict.fromkeys(DIFFERENTIAL, 4),
}


def channels(names: set[str], inputs: int) -> dict[str, int]:
    """Channels that the observables ``names`` need, with their rank in inputs."""
    need = {"g", "r"}
    if names & {"V", "U6"}:
        need.add("gg")
    if "U6" in names and inputs == 1:
        need.add("ggg")
    if names & _OF_NTK:
        need |= {"h", "rh"}
    if "A" in names:
        need |= {"hh", "res"}
    for name, channel in (("D", "gh"), ("B", "b"), ("F", "f")):
        if name in names:
            need.add(channel)
    need |= names & set(DIFFERENTIAL)
    return {name: rank for name, rank in _CHANNEL_RANK.items() if name in need}


def outer(x: Tensor, y: Tensor) -> Tensor:
    """Sum over networks of x y: (S, N, N), (S, N, N) -> (N, N, N, N)."""
    N = x.shape[-1]
    return (x.reshape(len(x), -1).T @ y.reshape(len(y), -1)).view(N, N, N, N)


def layer_sums(
    trunk: Trunk, ref: Reference, need: set[str], rows: int, exact: bool, layers: set[int]
) -> dict[str, dict[int, Tensor]]:
    """Sums of the channels ``need`` over the networks of ``trunk``, by layer index.

    Only for independent rows without skips: layer index l + 1 is averaged over its own weights.
    ``exact`` uses the NTK's mean given the forward pass; without it everything is probed.

    Parameters
    ----------
    trunk : Trunk
    ref : Reference
    need : set of str
        Channels.
    rows : int
        Rows that probe the NTK.
    exact : bool
    layers : set of int
        Layer indices.
    """
    out: dict[str, dict[int, Tensor]] = {name: {} for name in need}
    N = trunk.z[0].shape[1]
    tangent = bool(need & {"h", "b", "f", "res"})
    control = Control(trunk, ref, "h" in need) if ref.jacobian is not None else None
    state = Conditional(trunk.direct[0], None)
    for l in range(max(layers, default=0)):
        measured = l + 1 in layers
        if control is not None:
            control.step(l)
        found, ntk_here = {}, None
        if tangent and exact:
            if measured and need & {"b", "res"}:
                found = _probes(trunk, l, need, rows, state)
            state, ntk_here, Y = conditional(trunk, l, state)
            found["f"] = Y.sum(0).permute(2, 0, 3, 1)  # 3, 4, 1, 2 -> z1, H3, z2, H4
        elif tangent and measured:
            found, ntk_here = _all_probes(trunk, l, need, rows, ref)
        if not measured:
            continue
        metric = trunk.metric[l + 1] - ref.K[l + 1]
        found |= _averaged(metric, need)
        if ntk_here is not None:
            deviation = ntk_here - ref.Theta[l + 1]
            found["h"] = deviation.sum(0)
            if "hh" in need and exact:
                found["hh"] = outer(deviation, deviation)
            if "gh" in need:
                found["gh"] = outer(metric, deviation)
        found["r"], found["rh"] = found["g"], found.get("h", found["g"])
        if control is not None:
            _subtract(found, control, N)
        deep = need & set(DIFFERENTIAL)
        if deep:
            estimates = differential(trunk, l, deep)
            found |= {name: value.sum(0) for name, value in estimates.items()}
        for name in need:
            out[name][l + 1] = found[name]
    return out


def _averaged(metric: Tensor, need: set[str]) -> dict[str, Tensor]:
    """The channels of the metric's deviation (S, N, N) alone."""
    found: dict[str, Tensor] = {"g": metric.sum(0)}
    if "gg" in need:
        found["gg"] = outer(metric, metric)
    if "ggg" in need:
        found["ggg"] = (metric[:, 0, 0] ** 3).sum()
    return found


def _subtract(found: dict[str, Tensor], control: Control, N: int) -> None:
    """Take the noise of known mean zero out of means and products, in place."""
    mean = control.mean.sum(0).view(-1, N, N)
    for i, name in enumerate(("r", "rh")[: len(mean)]):
        found[name] = found[name] - mean[i]
    if control.square is None:
        return
    square = control.square.sum(0).view(len(mean), N, N, len(mean), N, N)
    for name, i, k in (("gg", 0, 0), ("gh", 0, 1), ("hh", 1, 1)):
        if name in found:
            found[name] = found[name] - square[i, :, :, k]


def _split(T: Tensor, m: int, N: int) -> Tensor:
    return T.view(len(T), m, N, m, N)


def _distinct(x: Tensor) -> Tensor:
    """Mean over ordered pairs of distinct rows of x_i x_k: (S, m, N, N) -> sum over networks."""
    S, m, N, _ = x.shape
    flat = x.reshape(S, m, N * N)
    total = flat.sum(1)
    every = flat.reshape(S * m, -1)
    found = (total.T @ total - every.T @ every) / (m * (m - 1))
    return found.view(N, N, N, N)


def _off_diagonal(T: Tensor) -> Tensor:
    """B's slots [1, 3, 2, 4] from Ĥ_ik;12 Ĥ_ik;34 over i ≠ k; T is (S, m, N, m, N)."""
    _, m, N, _, _ = T.shape
    i, k = torch.nonzero(~torch.eye(m, dtype=torch.bool)).unbind(1)
    flat = T.permute(0, 1, 3, 2, 4)[:, i, k].reshape(-1, N * N)
    found = (flat.T @ flat / (m * (m - 1))).view(N, N, N, N)
    return found.permute(0, 2, 1, 3)


def _diagonal(T: Tensor) -> Tensor:
    return T.diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)  # (S, m, N, N)


def _probes(
    trunk: Trunk, l: int, need: set[str], rows: int, state: Conditional
) -> dict[str, Tensor]:
    """Channels b and res from probing rows, beside the mean given the forward pass."""
    S, N, n = trunk.z[l].shape
    w = probe_rows(trunk, l, rows)
    samples = [*range(N)] * rows
    starts = w[:, :, None].expand(S, rows, N, n).reshape(S, rows * N, n)
    T = _split(ntk(trunk, pull(trunk, l, starts, samples), samples), rows, N)
    out = {"b": _off_diagonal(T)}
    if "res" in need:
        out["res"] = _distinct(_diagonal(T) - state.quadratic(w, trunk, l))
    return out


def _all_probes(
    trunk: Trunk, l: int, need: set[str], rows: int, ref: Reference
) -> tuple[dict[str, Tensor], Tensor]:
    """Everything about the NTK of the next layer from probes; also its mean over the rows."""
    S, N, n = trunk.z[l].shape
    w = probe_rows(trunk, l, rows)
    samples = [*range(N)] * rows
    starts = w[:, :, None].expand(S, rows, N, n).reshape(S, rows * N, n)
    if "f" in need:
        s = trunk.s[l] * (trunk.arch.C_W[l + 1] / n)
        starts = torch.cat([starts, s.repeat_interleave(N, 1)], 1)  # z sample, then H sample
        samples = samples + [*range(N)] * N
    H = ntk(trunk, pull(trunk, l, starts, samples), samples)
    m = rows * N
    T = _split(H[:, :m, :m], rows, N)
    out = {"b": _off_diagonal(T)}
    diagonal = _diagonal(T) + trunk.direct[l + 1][:, None]
    if "hh" in need:
        out["hh"] = _distinct(diagonal - ref.Theta[l + 1])
        out["res"] = torch.zeros_like(out["hh"])
    if "f" in need:
        out["f"] = H[:, m:, m:].sum(0).view(N, N, N, N)
    return out, diagonal.mean(1)


def observables(
    means: dict[str, Tensor], K: Tensor, Theta: Tensor, widths: Tensor, names: set[str]
) -> dict[str, Tensor]:
    """Observables from mean channels; leading axes (before the layer) are carried along.

    Parameters
    ----------
    means : dict of Tensor, shape (..., L, N, ...)
    widths : Tensor, shape (L,)
        n_{ℓ−1} at each layer ℓ.
    """

    def n(rank: int, power: int = 1) -> Tensor:
        return (widths**power).view(-1, *[1] * rank)

    def product(x: Tensor, y: Tensor) -> Tensor:
        return x[..., :, :, None, None] * y[..., None, None, :, :]

    out: dict[str, Tensor] = {}
    r, h = means["r"], means.get("rh")  # of the same mean as g and h, with less noise
    out["K"] = K + r
    out["G1"] = n(2) * r
    if "gg" in means:
        out["V"] = n(4) * (means["gg"] - product(r, r))
    if "ggg" in means:
        gg, one = means["gg"][..., 0, 0, 0, 0], r[..., 0, 0]
        out["U6"] = n(0, 2) * (means["ggg"] - 3 * gg * one + 2 * one**3)
    if h is not None:
        out["Theta"] = Theta + h
        out["H1"] = n(2) * h
        if "hh" in means:
            out["A"] = n(4) * (means["hh"] + means["res"] - product(h, h))
        if "gh" in means:
            out["D"] = n(4) * (means["gh"] - product(r, h))
    for name in ("B", "F"):
        if name.lower() in means:
            out[name] = n(4) * means[name.lower()]
    out |= {name: means[name] for name in DIFFERENTIAL if name in means}
    return {name: out[name] for name in NAMES if name in out and name in names}


def wanted_names(spec: Iterable[str] | None, undefined: dict[str, str]) -> frozenset[str]:
    """The observables asked for, without those that ``undefined`` explains away by default."""
    if spec is None:
        return frozenset(NAMES) - set(undefined)
    names = [spec] if isinstance(spec, str) else list(spec)
    names = ["K" if name == "G" else name for name in names]
    for name in names:
        if name not in RANK:
            raise UsageError(f"No observable is called {name!r}.", f"There are {', '.join(NAMES)}.")
        if name in undefined:
            raise UsageError(f"{name} cannot be measured here: {undefined[name]}.")
    return frozenset(names)

r"""The NTK, dNTK and ddNTKs of one drawn network, layer by layer, exactly.

These are the finite-width forward equations of the book (chapters 8, 11 and infinity): no
ensemble average and no expansion in 1/n. With

.. math:: z' = b + W\sigma(z) + \gamma z, \qquad
          J_{ij;a} = W_{ij}\sigma'(z_{ja}) + \gamma\delta_{ij}, \qquad
          J^{(k)}_{ij;a} = W_{ij}\sigma^{(k)}(z_{ja}),

every tensor of layer l+1 is the tensor of layer l with each neuron index pushed through J, plus
what the curvature of the activation adds (J'' and J'''), plus what the weights of the map itself
add (lambda_b, lambda_W / n). A two-layer block is two such maps, the first of which takes z along.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kadanoff.architecture import Network
from kadanoff.errors import UsageError

__all__ = ["Forward", "forward_layers", "forward_ntk"]

_NEURON = "ijkl"
_SAMPLE = "abcd"


@dataclass(frozen=True)
class Forward:
    """What one drawn network (or a batch of them, leading axes ``...``) gives at one layer.

    Attributes
    ----------
    layer : int
        Number of the layer, 1 ... L.
    z : Tensor, shape (..., n, N)
        Preactivations.
    metric : Tensor, shape (..., N, N)
        C_b + (C_W / n) sum_j sigma_j sigma_j of the layer before: the variance of z over this
        layer's weights. For a skip connection it is the variance of the random part alone.
    H : Tensor, shape (..., n, n, N, N)
        NTK, H[..., i, j, a, b].
    dH : Tensor or None, shape (..., n, n, n, N, N, N)
        dNTK: slot 0 carries the second derivative. None if ``order < 1``.
    ddI, ddII : Tensor or None, shape (..., n, n, n, n, N, N, N, N)
        First ddNTK (slot 0 carries the third derivative) and second ddNTK (slots 0 and 1 carry
        the second derivatives, contracted with slots 2 and 3). None if ``order < 2``.
    """

    layer: int
    z: Tensor
    metric: Tensor
    H: Tensor
    dH: Tensor | None = None
    ddI: Tensor | None = None
    ddII: Tensor | None = None


def forward_ntk(
    weights: Sequence[tuple[Tensor, Tensor]], X: Tensor, arch: Network, order: int = 0
) -> Forward:
    """NTK (and dNTK, ddNTKs) of drawn networks at the output layer.

    Parameters
    ----------
    weights : sequence of (W, b)
        One pair a map, W (..., n_l, n_{l-1}) and b (..., n_l), two a two-layer block; leading axes
        are networks.
    X : Tensor, shape (N, n_0)
    arch : MLP or Residual
        Gives the activations, gamma, C_b, C_W and the learning-rate tensors.
    order : {0, 1, 2}
        0 stops at the NTK, 1 adds the dNTK, 2 the two ddNTKs.

    Returns
    -------
    Forward
        Of the last layer. Memory grows as n^2 N^2, n^3 N^3 and n^4 N^4 with ``order``.

    Raises
    ------
    UsageError
        Wrong shapes or order.

    Notes
    -----
    Roberts, Yaida, Hanin, The Principles of Deep Learning Theory, chapters 8, 11 and infinity.
    Held against ``torch.func`` to 1e-12 in ``tests/rgflow/test_forward.py``.
    """
    _check(weights, X, arch, order)
    *_, last = forward_layers(weights, X, arch, order)
    return last


def forward_layers(
    weights: Sequence[tuple[Tensor, Tensor]], X: Tensor, arch: Network, order: int = 0
) -> Iterator[Forward]:
    """As :func:`forward_ntk`, giving every layer in turn.

    Parameters
    ----------
    weights : sequence of (W, b)
    X : Tensor, shape (N, n_0)
    arch : Network
    order : {0, 1, 2}
        Derivatives of the NTK wanted.
    """
    _check(weights, X, arch, order)
    state = _first_layer(weights[0], X, arch, order)
    yield state
    rest = list(weights[1:])
    for l in range(1, arch.L):
        maps = [rest.pop(0) for _ in range(2 if _two_layer(arch, l) else 1)]
        state = _next_layer(state, maps, arch, l, order)
        yield state


def _two_layer(arch: Network, l: int) -> bool:
    return getattr(arch, "block", "single") == "two_layer" and l < arch.L - 1


def _first_layer(layer: tuple[Tensor, Tensor], X: Tensor, arch: Network, order: int) -> Forward:
    W, b = layer
    X = X.to(W)
    n, N = W.shape[-2], X.shape[0]
    gram = X @ X.T / X.shape[1]
    z = W @ X.T + b[..., None]
    eye = torch.eye(n, dtype=W.dtype, device=W.device)[:, :, None, None]
    H = (eye * (arch.lambda_b[0] + arch.lambda_W[0] * gram)).expand(*W.shape[:-2], n, n, N, N)
    metric = (arch.C_b[0] + arch.C_W[0] * gram).expand(*W.shape[:-2], N, N)
    batch = W.shape[:-2]
    dH = W.new_zeros(*batch, *[n] * 3, *[N] * 3) if order >= 1 else None
    ddI = W.new_zeros(*batch, *[n] * 4, *[N] * 4) if order >= 2 else None
    return Forward(1, z, metric, H, dH, ddI, ddI)


def _next_layer(
    state: Forward, maps: Sequence[tuple[Tensor, Tensor]], arch: Network, l: int, order: int
) -> Forward:
    """Through one map, or through the two of a block: (W, b) of every map of layer ``l``."""
    act, gamma = arch.activations[l - 1], float(arch.gamma[l])
    C_b, C_W = arch.C_b[l], arch.C_W[l]
    rates = arch.lambda_b[l], arch.lambda_W[l]
    x, n = state.z, state.z.shape[-2]
    if len(maps) == 2:
        # neurons y = W₁ z + b₁ and, below them, z once more: what the skip takes along
        W, b = maps[0]
        y = W @ x + b[..., None]
        eye = torch.eye(n, dtype=W.dtype, device=W.device)
        total = torch.cat([W, eye.expand(*W.shape[:-2], n, n)], -2)
        none = torch.zeros_like(x)
        s = [x, torch.ones_like(x), none, none][: order + 2]
        J = [total[..., None] * d[..., None, :, :] for d in s]
        own = torch.eye(total.shape[-2]).to(eye)
        own[W.shape[-2] :] = 0.0
        state = _through(state, torch.cat([y, x], -2), s, J, own, rates, order)
        x = y
    W, b = maps[-1]
    s = [act.derivative(k)(x) for k in range(order + 2)]  # (..., n, N) each
    J = [W[..., None] * d[..., None, :, :] for d in s]  # J[k]: W sigma^(k)
    z = W @ s[0] + b[..., None]
    gram = torch.einsum("...ja,...jb->...ab", s[0], s[0]) / s[0].shape[-2]
    eye = torch.eye(W.shape[-2], dtype=W.dtype, device=W.device)
    if len(maps) == 2:
        kept = state.z[..., -n:, :]
        s = [torch.cat([d, torch.zeros_like(kept)], -2) for d in s]
        beside = [torch.zeros_like(W[..., :1]).expand(*W.shape[:-1], n)] * len(J)
        beside[1] = (gamma * eye).expand_as(beside[1])
        J = [
            torch.cat([j, side[..., None].expand(*side.shape, j.shape[-1])], -2)
            for j, side in zip(J, beside, strict=True)
        ]
    elif gamma:
        kept = x
        J[1] = J[1] + gamma * eye[..., None]
    if gamma:
        z = z + gamma * kept
    out = _through(state, z, s, J, eye, rates, order, W.shape[-1])
    return dataclasses.replace(out, layer=l + 1, metric=C_b + C_W * gram)


def _through(
    state: Forward,
    z: Tensor,
    s: list[Tensor],
    J: list[Tensor],
    own: Tensor,
    rates: tuple[float, float],
    order: int,
    fan_in: int | None = None,
) -> Forward:
    """One map: ``s[k]`` what its weights meet, ``J[k]`` its derivatives, ``own`` its rows."""
    lb, lw = rates[0], rates[1] / (fan_in or s[0].shape[-2])
    H, gram = state.H, torch.einsum("...ja,...jb->...ab", s[0], s[0])
    direct = lb + lw * gram  # derivative with respect to this map's own b and W
    H_next = _push(H, J[1], 0, 1) + own[:, :, None, None] * direct[..., None, None, :, :]
    dH_next = ddI_next = ddII_next = None
    if order >= 1:
        assert state.dH is not None
        dH_next = _differential(H, state.dH, s, J, own, lw)
    if order >= 2:
        assert state.dH is not None
        assert state.ddI is not None
        assert state.ddII is not None
        ddI_next = _second_differential_one(H, state.dH, state.ddI, s, J, own, lw)
        ddII_next = _second_differential_two(H, state.dH, state.ddII, s, J, own, lw)
    return Forward(state.layer, z, state.metric, H_next, dH_next, ddI_next, ddII_next)


def _push(T: Tensor, J: Tensor, *slots: int) -> Tensor:
    """Push neuron indices of T through J: T_{..j..;..a..} -> sum_j J_{ij;a} T_{..j..;..a..}."""
    rank = _rank(T, J)
    for slot in slots:
        neuron, sample = _NEURON[:rank], _SAMPLE[:rank]
        out = neuron[:slot] + "z" + neuron[slot + 1 :]
        T = torch.einsum(
            f"...z{neuron[slot]}{sample[slot]},...{neuron}{sample}->...{out}{sample}", J, T
        )
    return T


def _rank(T: Tensor, J: Tensor) -> int:
    return (T.ndim - (J.ndim - 3)) // 2


def _differential(H, dH, s, J, eye, lw) -> Tensor:
    # curvature of the activation: d^2 sigma(z) = sigma'' dz dz + sigma' d^2 z
    HH = torch.einsum("...ijab,...ikac->...ijkabc", H, H)
    bulk = _push(_push(dH, J[1], 0) + _push(HH, J[2], 0), J[1], 1, 2)
    # the map's own W in slot 1: sigma_{j;1} sigma'_{j;0} H_{jk;02}, and the same with 1 <-> 2
    own = torch.einsum("...jb,...ja,...jkac->...kabc", s[0], s[1], H)
    own = torch.einsum("...zkc,...kabc->...zabc", J[1], own)
    one = torch.einsum("ij,...kabc->...ijkabc", eye, own)
    two = torch.einsum("ik,...jacb->...ijkabc", eye, own)
    return bulk + lw * (one + two)


def _second_differential_one(H, dH, ddI, s, J, eye, lw) -> Tensor:
    # d^3 sigma(z) = sigma''' dz^3 + sigma'' (dz d^2 z, three ways) + sigma' d^3 z
    HHH = torch.einsum("...ijab,...ikac,...ilad->...ijklabcd", H, H, H)
    dHH = (
        torch.einsum("...ijkabc,...ilad->...ijklabcd", dH, H)
        + torch.einsum("...ijlabd,...ikac->...ijklabcd", dH, H)
        + torch.einsum("...iklacd,...ijab->...ijklabcd", dH, H)
    )
    bulk = _push(_push(HHH, J[3], 0) + _push(dHH, J[2], 0) + _push(ddI, J[1], 0), J[1], 1, 2, 3)
    # the map's own W in slot 1: X_{kl;abcd} = sigma_{j;b} (sigma''_{j;a} H H + sigma'_{j;a} dH)
    own = torch.einsum("...jb,...ja,...jkac,...jlad->...klabcd", s[0], s[2], H, H)
    own = own + torch.einsum("...jb,...ja,...jklacd->...klabcd", s[0], s[1], dH)
    own = torch.einsum("...ykc,...zld,...klabcd->...yzabcd", J[1], J[1], own)
    total = torch.einsum("ij,...klabcd->...ijklabcd", eye, own)
    total = total + torch.einsum("ik,...jlacbd->...ijklabcd", eye, own)
    total = total + torch.einsum("il,...jkadbc->...ijklabcd", eye, own)
    return bulk + lw * total


def _second_differential_two(H, dH, ddII, s, J, eye, lw) -> Tensor:
    # both slots 0 and 1 carry second derivatives; they share one parameter index
    HHH = torch.einsum("...ijab,...ikac,...jlbd->...ijklabcd", H, H, H)
    bulk = _push(HHH, J[2], 0, 1)
    left = torch.einsum("...ijkabc,...jlbd->...ijklabcd", dH, H)
    right = torch.einsum("...jilbad,...ikac->...ijklabcd", dH, H)
    bulk = bulk + _push(_push(left, J[1], 0), J[2], 1) + _push(_push(right, J[2], 0), J[1], 1)
    bulk = _push(bulk + _push(ddII, J[1], 0, 1), J[1], 2, 3)

    # own W in slots 0 and 2 (delta_{i1 i3}): sigma'_{m;1} sigma_{m;3}
    half = torch.einsum("...ma,...mc,...mjab,...jlbd->...jlabcd", s[1], s[0], H, H)
    half = torch.einsum("...yjb,...zld,...jlabcd->...yzabcd", J[2], J[1], half)
    rest = torch.einsum("...ma,...mc,...jmlbad->...jlabcd", s[1], s[0], dH)
    half = half + torch.einsum("...yjb,...zld,...jlabcd->...yzabcd", J[1], J[1], rest)
    one = torch.einsum("ik,...jlabcd->...ijklabcd", eye, half)
    one = one + torch.einsum("jl,...ikbadc->...ijklabcd", eye, half)

    both = torch.einsum("...ma,...mc,...pb,...pd,...mpab->...abcd", s[1], s[0], s[1], s[0], H)
    two = torch.einsum("ik,jl,...abcd->...ijklabcd", eye, eye, both)

    # the same own W in slots 0 and 1 (delta_{i1 i2}): sigma'_{m;1} sigma'_{m;2}
    leg = torch.einsum("...zkc,...mkac->...mzac", J[1], H)
    same = torch.einsum("...ma,...mb,...mkac,...mlbd->...klabcd", s[1], s[1], leg, leg)
    three = torch.einsum("ij,...klabcd->...ijklabcd", eye, same)
    return bulk + lw * (one + three) + lw * lw * two


def _check(weights, X: Tensor, arch: Network, order: int) -> None:
    if order not in (0, 1, 2):
        raise UsageError(f"order must be 0, 1 or 2, got {order!r}.", "0 is the NTK alone.")
    shapes = []
    for l in range(arch.L):
        ends = [arch.n[l], arch.n[l + 1]]
        if l and arch.hidden and _two_layer(arch, l):
            ends.insert(1, arch.hidden)
        shapes += [(b, a) for a, b in itertools.pairwise(ends)]
    if len(weights) != len(shapes):
        raise UsageError(
            f"Expected {len(shapes)} (W, b) pairs for this architecture, got {len(weights)}.",
            "Pass what arch.draw(generator) returns.",
        )
    if X.ndim != 2 or X.shape[1] != arch.n[0]:
        raise UsageError(
            f"X must have shape (N, {arch.n[0]}), got {tuple(X.shape)}.",
            "Flatten the inputs, or describe the network with the right n_in.",
        )
    for l, ((W, b), expected) in enumerate(zip(weights, shapes, strict=True), 1):
        if tuple(W.shape[-2:]) != expected or b.shape[-1] != expected[0]:
            raise UsageError(
                f"Map {l}: expected W {expected} and b {expected[:1]}, got W {tuple(W.shape)} "
                f"and b {tuple(b.shape)}.",
                "Leading axes are networks, the last ones (n_out, n_in).",
            )

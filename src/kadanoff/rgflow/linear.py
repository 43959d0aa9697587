r"""Averages at neurons whose map is linear, such as the stream of two-layer blocks: closed forms.

By Stein's lemma :math:`\langle z_a F\rangle = g K_{ax}\langle\partial_x F\rangle` and
:math:`\langle z_a z_b F\rangle = K_{ab}\langle F\rangle + g^2 K_{ax}K_{by}
\langle\partial_x\partial_y F\rangle` for a function F of a later z, correlated by g K.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kadanoff.activations import Activation
from kadanoff.rgflow import averages as tb
from kadanoff.rgflow.averages import Tables
from kadanoff.rgflow.two_layers import BENT, ROUGH, SMOOTH, Order, TwoLayers, swapped

__all__ = ["is_linear", "linear_tables", "linear_two_layers"]

_e = torch.einsum


def is_linear(act: Activation) -> bool:
    """Whether the activation is the identity."""
    return act.slopes == (1.0, 1.0)


def linear_tables(K: Tensor) -> Tables:
    """All averages of z itself."""
    N = K.shape[0]
    zero, one = torch.zeros_like(K), torch.ones_like(K)
    four = {p: K.new_zeros((N,) * 4) for p in tb.SMOOTH}
    four[0, 0, 0, 0] = _e("ab,cd->abcd", K, K) + _e("ac,bd->abcd", K, K) + _e("ad,bc->abcd", K, K)
    four[0, 0, 1, 1] = K[:, :, None, None].expand((N,) * 4)
    four[1, 1, 1, 1] = torch.ones_like(four[0, 0, 0, 0])
    two = dict.fromkeys(tb.PAIRS, zero) | {(0, 0): K, (1, 1): one}
    # ⟨z_a⟩ and other odd ones are never asked for
    return Tables(K, one, four, two, {}, None)


def linear_two_layers(K: Tensor, t: Tables, skip: float) -> TwoLayers:
    """One neuron at a linear layer with kernel ``K`` and at a later one with tables ``t``.

    Parameters
    ----------
    K : Tensor, shape (N, N)
    t : Tables
    skip : float
        Product of the strengths of the skips between.
    """
    wanted = (*ROUGH, *BENT, *SMOOTH)
    N = K.shape[0]
    pairs, alone = {}, {}
    early = linear_tables(K)
    for then, now in wanted:
        for o in (then, now):
            before = early.two.get(o, early.two.get(swapped(o), torch.zeros_like(K)))
            alone[o] = before, _derivatives(t, o)[0, 0]
        if then == (1, 1):
            value = alone[now][1].expand((N,) * 4)
        elif then == (0, 0):
            value = K[:, :, None, None] * alone[now][1] + skip**2 * _second(K, _derivatives(t, now))
        elif then == (0, 1):
            d = _derivatives(t, now)
            value = _e("ac,cd->acd", K, d[1, 0]) + _e("ad,cd->acd", K, d[0, 1])
            value = skip * value[:, None].expand((N,) * 4)
        else:
            value = K.new_zeros((N,) * 4)
        pairs[then, now] = value
    return TwoLayers(pairs, alone)


def _second(K: Tensor, d: dict[Order, Tensor]) -> Tensor:
    """K_ax K_by ⟨∂_x∂_y F_cd⟩, [a, b, c, d]."""
    both = _e("ac,bd,cd->abcd", K, K, d[1, 1])
    total = both + both.transpose(0, 1)
    total = total + _e("ac,bc,cd->abcd", K, K, d[2, 0])
    return total + _e("ad,bd,cd->abcd", K, K, d[0, 2])


def _derivatives(t: Tables, o: Order) -> dict[Order, Tensor]:
    """⟨∂_c^i ∂_d^j (σ⁽ᵖ⁾_cσ⁽ᑫ⁾_d)⟩ by (i, j), [c, d].

    With kinks, on the diagonal the whole derivative is in the first slot, shared out as in
    :mod:`kadanoff.rgflow.two_layers`; at other parallel inputs there is none.
    """
    p, q = o
    out = {}
    for i, j in ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2)):
        try:
            out[i, j] = t.E(p + i, q + j)
        except KeyError:
            out[i, j] = torch.full_like(t.ss, torch.nan)
    if t.parallel is None:
        return out
    first, second = ([t.ray[f"{name}{k}"] for k in (0, 1)] for name in ("first", "second"))
    zero = torch.zeros_like(t.ss)
    whole: dict[Order, dict[Order, Tensor]] = {
        (0, 0): {(0, 0): t.ss, (2, 0): 2 * first[0]},
        (1, 1): {(0, 0): t.dd, (2, 0): 2 * first[1]},
        (2, 0): {(0, 0): first[0] - t.dd, (2, 0): 2 * second[0] - 2 * first[1]},
        (3, 1): {(0, 0): first[1], (2, 0): 2 * second[1]},
        (2, 2): {},
        (0, 1): {(1, 0): t.ray["slope01"]},
        (2, 1): {(1, 0): first[1]},
    }
    eye = torch.eye(len(t.ss), dtype=torch.bool)
    for k, value in out.items():
        value = torch.where(t.parallel, torch.nan, value)
        out[k] = torch.where(eye, whole.get(o, {}).get(k, zero), value)
    return out

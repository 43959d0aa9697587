r"""Order 1/n of the dNTK (P, Q) and of the two ddNTKs (R; S, T, U): how features can be learned.

Each recursion is the mean of the forward equation over the weights of the new map: first the
part born in this layer, then what the old tensors carry, times ρ. Samples are named as in the
book; einsum letters follow the slots: a b c d for 0 1 2 3 (P, Q, R) and for 1 2 3 4 (S, T, U).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kadanoff.rgflow.averages import Tables
from kadanoff.rgflow.kernel import Step
from kadanoff.rgflow.tangent import haar_across

__all__ = ["Differential", "differential_step"]

_e = torch.einsum


@dataclass(frozen=True)
class Differential:
    """P, Q and, for smooth activations, R, S, T, U; slots as in ``Flow``."""

    P: Tensor
    Q: Tensor
    R: Tensor | None
    S: Tensor | None
    T: Tensor | None
    U: Tensor | None

    @classmethod
    def first_layer(cls, K: Tensor, smooth: bool) -> Differential:
        """All zero: the first layer is linear in its parameters."""
        zero = K.new_zeros((K.shape[0],) * 4)
        rest = zero if smooth else None
        return cls(zero, zero, rest, rest, rest, rest)


def differential_step(
    step: Step, t: Tables, Theta: Tensor, B: Tensor, F: Tensor, F_next: Tensor, old: Differential
) -> Differential:
    """All of them at layer l+1; ``F_next`` is F of layer l+1, the others belong to layer l.

    Parameters
    ----------
    step : Step
    t : Tables
        Gaussian averages of the layer.
    Theta, B, F : Tensor
        Of layer l: (N, N) and (N, N, N, N).
    F_next : Tensor, shape (N, N, N, N)
        Of layer l+1.
    old : Differential
        Of layer l.
    """
    P = _next_P(step, t, Theta, B, old.P)
    Q = _next_Q(step, t, Theta, F, F_next, old.Q)
    if old.R is None or old.S is None or old.T is None or old.U is None:
        return Differential(P, Q, None, None, None, None)
    R = _next_R(step, t, Theta, B, old.P, old.R)
    S = _next_S(step, t, Theta, B, old.S)
    T = _next_T(step, t, Theta, F, old.Q, old.T)
    U = _next_U(step, t, Theta, old.U)
    return Differential(P, Q, R, S, T, U)


def _next_P(step: Step, t: Tables, Theta: Tensor, B: Tensor, P: Tensor) -> Tensor:
    # ⟨σ''_0σ'_1σ'_2σ_3⟩Θ_01Θ_02 + ρ⟨σ'_1σ'_2⟩[⟨σ''_0σ_3⟩(P_0120 + B_0012) + ⟨σ'_0σ'_3⟩P_0123]
    fresh = _e("abcd,ab,ac->abcd", t.four[2, 1, 1, 0], Theta, Theta)
    self_ = _e("abca->abc", P) + _e("aabc->abc", B)
    carried = _e("bc,ad,abc->abcd", t.dd, t.E(2, 0), self_) + _e("bc,ad,abcd->abcd", t.dd, t.dd, P)
    return step.C_W**2 * (fresh + step.rho * carried)


def _next_Q(step: Step, t: Tables, Theta: Tensor, F: Tensor, F_next: Tensor, Q: Tensor) -> Tensor:
    # ⟨σ''_0σ'_1σ'_2σ_3⟩Θ_01Θ_02 + (λ_W/C_W) F'_1032 / C_W² ...
    fresh = _e("abcd,ab,ac->abcd", t.four[2, 1, 1, 0], Theta, Theta)
    # ... + ρ{⟨σ'_0σ'_1⟩[⟨σ''_2σ_3⟩Q_0122 + ⟨σ'_2σ'_3⟩Q_0123]
    carried = _e("ab,cd,abcc->abcd", t.dd, t.E(2, 0), Q) + _e("ab,cd,abcd->abcd", t.dd, t.dd, Q)
    #        + Θ_01 Σ ⟨∂_a(σ''_0σ'_1)⟩⟨∂_b(σ'_2σ_3)⟩ F_a0b2}
    front, back = t.X(2, 1).times(Theta), t.X(1, 0)
    carried = carried + front.before(back.before(F.permute(2, 3, 0, 1)).permute(2, 3, 0, 1))
    total = step.C_W**2 * (fresh + step.rho * carried)
    if not step.C_W:
        return total
    # this map's own W is not drawn twice: the Haar term of F' has no part in it
    own = F_next + haar_across(step, t, Theta) if step.orthogonal else F_next
    return total + step.lambda_W / step.C_W * _e("badc->abcd", own)


def _next_R(step: Step, t: Tables, Theta: Tensor, B: Tensor, P: Tensor, R: Tensor) -> Tensor:
    c, rate = step.C_W, step.lambda_W
    # λ_W C_W⟨σ''_0σ_1σ'_2σ'_3⟩Θ_02Θ_03 + C_W²⟨σ'''_0σ'_1σ'_2σ'_3⟩Θ_01Θ_02Θ_03
    fresh = rate * c * _e("acdb,ac,ad->abcd", t.four[2, 1, 1, 0], Theta, Theta)
    fresh = fresh + c * c * _e("abcd,ab,ac,ad->abcd", t.four[3, 1, 1, 1], Theta, Theta, Theta)
    # ρ⟨σ'_2σ'_3⟩{(λ_W C_W⟨σ''_0σ_1⟩ + C_W²Θ_01⟨σ'''_0σ'_1⟩)(B_0023 + P_0230)
    self_ = _e("aacd->acd", B) + _e("acda->acd", P)
    first = rate * c * t.E(2, 0) + c * c * Theta * t.E(3, 1)
    #          + (λ_W C_W⟨σ'_0σ'_1⟩ + C_W²Θ_01⟨σ''_0σ''_1⟩)P_0231 + C_W²⟨σ'_0σ'_1⟩R_0123}
    second = rate * c * t.dd + c * c * Theta * t.E(2, 2)
    carried = (
        _e("ab,acd->abcd", first, self_)
        + _e("ab,acdb->abcd", second, P)
        + c * c * _e("ab,abcd->abcd", t.dd, R)
    )
    return fresh + step.rho * _e("cd,abcd->abcd", t.dd, carried)


def _next_S(step: Step, t: Tables, Theta: Tensor, B: Tensor, S: Tensor) -> Tensor:
    c, rate = step.C_W, step.lambda_W
    # λ_W C_W⟨σ'_1σ'_2σ'_3σ'_4⟩Θ_13Θ_24 + C_W²⟨σ''_1σ''_2σ'_3σ'_4⟩Θ_12Θ_13Θ_24
    fresh = rate * c * _e("abcd,ac,bd->abcd", t.four[1, 1, 1, 1], Theta, Theta)
    fresh = fresh + c * c * _e("abcd,ab,ac,bd->abcd", t.four[2, 2, 1, 1], Theta, Theta, Theta)
    # ρC_W⟨σ'_3σ'_4⟩{[λ_W⟨σ'_1σ'_2⟩ + C_WΘ_12⟨σ''_1σ''_2⟩]B_1234 + C_W⟨σ'_1σ'_2⟩S_1234}
    front = rate * t.dd + c * Theta * t.E(2, 2)
    carried = _e("cd,ab,abcd->abcd", t.dd, front, B) + c * _e("cd,ab,abcd->abcd", t.dd, t.dd, S)
    return fresh + step.rho * c * carried


def _next_U(step: Step, t: Tables, Theta: Tensor, U: Tensor) -> Tensor:
    # C_W²⟨σ''_1σ''_2σ'_3σ'_4⟩Θ_12Θ_13Θ_24 + ρC_W²⟨σ'_1σ'_4⟩⟨σ'_2σ'_3⟩U_1423
    fresh = _e("abcd,ab,ac,bd->adbc", t.four[2, 2, 1, 1], Theta, Theta, Theta)
    carried = _e("ad,bc,adbc->adbc", t.dd, t.dd, U)
    return step.C_W**2 * (fresh + step.rho * carried)


def _next_T(step: Step, t: Tables, Theta: Tensor, F: Tensor, Q: Tensor, T: Tensor) -> Tensor:
    c, rate = step.C_W, step.lambda_W
    # written with letters a b c d = samples 1 2 3 4; the slots of T are 1 3 4 2 = a c d b
    # λ_W²⟨σ'_1σ'_2σ_3σ_4⟩Θ_12
    fresh = rate**2 * _e("cdab,ab->acdb", t.four[0, 0, 1, 1], Theta)
    # λ_W C_W[⟨σ'_1σ''_2σ_3σ'_4⟩Θ_12Θ_24 + ⟨σ''_1σ'_2σ'_3σ_4⟩Θ_12Θ_13]
    bent = t.four[2, 1, 1, 0]
    fresh = fresh + rate * c * (
        _e("badc,ab,bd->acdb", bent, Theta, Theta) + _e("abcd,ab,ac->acdb", bent, Theta, Theta)
    )
    # C_W²⟨σ''_1σ''_2σ'_3σ'_4⟩Θ_12Θ_13Θ_24
    fresh = fresh + c * c * _e("abcd,ab,ac,bd->acdb", t.four[2, 2, 1, 1], Theta, Theta, Theta)
    # X_a(1,3), Y(1,3), Z(1,3): λ_W and C_WΘ_13 parts of the derivative of σ'_1σ_3 and σ''_1σ'_3
    X = t.X(1, 0).times(rate) + t.X(2, 1).times(c * Theta)
    Y = rate * t.E(2, 0) + c * Theta * t.E(3, 1)
    Z = rate * t.dd + c * Theta * t.E(2, 2)
    carried = _e("acbd->acdb", X.before(X.before(F.permute(2, 3, 0, 1)).permute(2, 3, 0, 1)))
    # C_W⟨σ'_2σ'_4⟩[Y(1,3)Q_2411 + Z(1,3)Q_2413] and the same with 1 3 <-> 2 4
    carried = carried + c * (
        _e("bd,ac,bdaa->acdb", t.dd, Y, Q)
        + _e("bd,ac,bdac->acdb", t.dd, Z, Q)
        + _e("ac,bd,acbb->acdb", t.dd, Y, Q)
        + _e("ac,bd,acbd->acdb", t.dd, Z, Q)
    )
    carried = carried + c * c * _e("ac,bd,acdb->acdb", t.dd, t.dd, T)
    return fresh + step.rho * carried

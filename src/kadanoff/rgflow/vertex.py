r"""Order 1/n of the metric: the mean shift G1, the four-point vertex V, the six-point vertex U6.

.. math::
   V'_{(12)(34)} &= C_W^2\left[\langle\sigma_1\sigma_2\sigma_3\sigma_4\rangle
       - \langle\sigma_1\sigma_2\rangle\langle\sigma_3\sigma_4\rangle\right]
       + \rho\, C_W^2\, J(1,2)\otimes J(3,4)[V] \\
   G^{\{1\}\prime}_{12} &= \rho\, C_W\left\{J(1,2)[G^{\{1\}}] + \tfrac18\textstyle\sum
       \langle\partial^4_{abcd}(\sigma_1\sigma_2)\rangle V_{(ab)(cd)}\right\}

Haar-distributed weights preserve the overlaps of the vectors sigma exactly, which takes
:math:`q_{13}q_{24} + q_{14}q_{23}` out of V', with :math:`q = K' - C_b`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kadanoff.architecture import Network
from kadanoff.gaussian import one
from kadanoff.rgflow.kernel import Step
from kadanoff.rgflow.tangent import haar

__all__ = ["first_vertex", "six_point"]


def first_vertex(arch: Network, K: Tensor) -> Tensor:
    """V at layer 1: zero for independent weights, the Haar term of the first map otherwise."""
    if arch.init != "orthogonal":
        return K.new_zeros((K.shape[0],) * 4)
    share = arch.n[0] / max(arch.n[0], arch.n[1])
    return -share * haar(K - arch.C_b[0])


def six_point(step: Step, K: Tensor, V: Tensor, U6: Tensor) -> Tensor:
    r"""The third cumulant of the metric at one input, E[Ĝ³]_c = U6 / n².

    .. math:: U_6' = t + 3\rho\, s'\chi V + \rho^2(\chi^3 U_6 + 3\chi^2\chi' V^2)

    with s and t the second and third cumulants of C_W σ² over N(0, K) and χ the derivative of its
    mean; primes on s, χ are derivatives with respect to K.

    Parameters
    ----------
    step : Step
    K, V, U6 : Tensor, one number each
        At layer l.
    """
    act, variance, c = step.activation, float(K.reshape(())), step.C_W

    def moment(power: int, hermite: int) -> Tensor:
        def f(z: Tensor) -> Tensor:
            weight = torch.ones_like(z)
            if hermite == 2:
                weight = (z * z - variance) / (2 * variance**2)
            if hermite == 4:
                weight = (z**4 - 6 * variance * z * z + 3 * variance**2) / (4 * variance**4)
            return weight * (c * act(z) ** 2) ** power

        return one(f, variance, act.kinks).value

    m1, m2, m3 = (moment(p, 0) for p in (1, 2, 3))
    chi, slope_chi = moment(1, 2), moment(1, 4)
    t = m3 - 3 * m2 * m1 + 2 * m1**3
    slope_s = moment(2, 2) - 2 * m1 * chi
    v, rho = V.reshape(()), step.rho
    return t + 3 * rho * slope_s * chi * v + rho**2 * (chi**3 * U6 + 3 * chi**2 * slope_chi * v**2)

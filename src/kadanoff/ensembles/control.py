r"""Control variates: the part of a network's fluctuations whose mean is known to be zero.

With w the normal numbers behind layer ℓ, the next metric and NTK of a network are a function
:math:`s' = \psi(s, w)` of the present ones. At the infinite-width point s* the same w give
:math:`\psi(s^*, w) = f(s^*) + \xi`, where :math:`\xi = \frac1n\sum_j x_j` and
:math:`\langle x_j\rangle = 0`. To second order in the deviation :math:`s - s^*` three sums are
carried along:

.. math::
   L' &= \partial_s\psi(s^*, w)[L] + \xi \\
   P' &= f' P f'^T + (\partial\psi[L])\,\xi^T + \xi\,(\partial\psi[L])^T
         + \tfrac{1}{n^2}\textstyle\sum_{j\neq k} x_j x_k^T \\
   Q' &= f' Q + \tfrac12 f''[P]

L and P have mean zero whatever s* , f' and f'' are, because w is independent of what came before
and distinct neurons of one another; no variance has to be known. L + Q follows the deviation to
second order in the noise and P its square, so that :math:`E[s - s^*] = E[s - s^* - L - Q]` and
:math:`E[(s - s^*)^2] = E[(s - s^*)^2 - P]` with far less noise.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kadanoff.ensembles.limit import Reference
from kadanoff.ensembles.trunk import Trunk

__all__ = ["Control"]


class Control:
    """The three sums along the layers of the networks of ``trunk``.

    Attributes
    ----------
    linear : Tensor, shape (S, D)
        L; D is N² for the metric alone and 2 N² with the NTK behind it.
    square : Tensor, shape (S, D, D), or None
        P; None if the reference has no second derivatives.
    bent : Tensor, shape (S, D)
        Q.
    """

    def __init__(self, trunk: Trunk, ref: Reference, tangent: bool) -> None:
        S, N, _ = trunk.z[0].shape
        self.trunk, self.ref, self.tangent = trunk, ref, tangent
        self.pairs = N * N
        D = N * N * (2 if tangent else 1)
        self.linear = self.bent = trunk.z[0].new_zeros(S, D)
        self.square = None if ref.bend is None else self.linear.new_zeros(S, D, D)

    def step(self, l: int) -> None:
        """From layer index ``l`` to ``l + 1``."""
        assert self.ref.jacobian is not None
        D = self.linear.shape[1]
        jacobian = self.ref.jacobian[l][:D, :D]
        x, moved = self._noise(l)
        n = x.shape[-1]
        noise = x.mean(-1)
        self.bent = self.bent @ jacobian.T
        if self.square is not None and self.ref.bend is not None:
            bend = self.ref.bend[l][:D, :D, :D]
            self.bent = self.bent + self.square.flatten(1) @ bend.flatten(1).T
            cross = moved[:, :, None] * noise[:, None]
            distinct = noise[:, :, None] * noise[:, None] - x @ x.mT / n**2
            carried = jacobian @ self.square @ jacobian.T
            self.square = carried + cross + cross.mT + distinct
        self.linear = moved + noise

    @property
    def mean(self) -> Tensor:
        """L + Q, to be taken from the deviation: (S, D)."""
        return self.linear + self.bent

    def _noise(self, l: int) -> tuple[Tensor, Tensor]:
        """x of every neuron (S, D, n), and ∂ψ[L] (S, D)."""
        arch, ref = self.trunk.arch, self.ref
        S, N, n = self.trunk.z[l].shape
        act, theta = arch.activations[l], ref.Theta[l]
        C_W, lambda_W = arch.C_W[l + 1], arch.lambda_W[l + 1]
        z = self._mirror(l)
        s, d = act(z), act.derivative(1)(z)

        def products(f: Tensor) -> Tensor:
            return f[:, :, None] * f[:, None]  # (S, N, N, n)

        ss = products(s)
        x = [C_W * ss - (ref.K[l + 1] - arch.C_b[l + 1])[..., None]]
        dz = self._displacement(l) @ z
        turned = (d * dz) @ s.mT / n
        moved_ss = turned + turned.mT
        moved = [C_W * moved_ss]
        if self.tangent:
            dd = products(d)
            mean = (ref.Theta[l + 1] - arch.lambda_b[l + 1])[..., None]
            x.append(lambda_W * ss + C_W * theta[..., None] * dd - mean)
            slope_dd = ref.slope_dd
            assert slope_dd is not None
            L_metric, L_ntk = self.linear.view(S, 2, N, N).unbind(1)
            if act.smooth:
                turned = (act.derivative(2)(z) * dz) @ d.mT / n
                moved_dd = turned + turned.mT
            else:  # the path has no derivative; its mean has
                moved_dd = (L_metric.flatten(1) @ slope_dd[l].T).view(S, N, N)
            moved_ntk = lambda_W * moved_ss + C_W * theta * moved_dd + C_W * dd.mean(-1) * L_ntk
            moved.append(moved_ntk)
        flat = torch.cat([t.reshape(S, self.pairs, n) for t in x], 1)
        return flat, torch.cat([t.reshape(S, -1) for t in moved], 1)

    def _mirror(self, l: int) -> Tensor:
        """Preactivations at infinite width from the same normal numbers: N(0, K) exactly.

        Any rotation that depends on the metric alone leaves their law as it is; the one taken
        moves them least, which is optimal transport between the two Gaussians.
        """
        root, inverse = self.trunk.root[l], self.trunk.inverse[l]
        white = inverse @ self.trunk.z[l]
        absent = inverse.diagonal(dim1=-2, dim2=-1) == 0
        if absent.any():
            white = torch.where(absent[..., None], self.trunk.normals.normal(*white.shape), white)
        target = self.ref.root[l]
        if len(target) > 1:
            U, _, Vh = torch.linalg.svd(target.mT @ root)
            white = (U @ Vh) @ white
        return target @ white

    def _displacement(self, l: int) -> Tensor:
        """The symmetric A with δz = A z when the metric K moves by L: A K + K A = L."""
        S, N, _ = self.trunk.z[l].shape
        values, vectors = self.ref.values[l], self.ref.vectors[l]
        total = values[:, None] + values
        moved = vectors.mT @ self.linear[:, : self.pairs].view(S, N, N) @ vectors
        live = total > 1e-12 * values.max()
        return vectors @ torch.where(live, moved / total, 0.0) @ vectors.mT

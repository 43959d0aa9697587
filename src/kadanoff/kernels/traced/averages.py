"""⟨σσ⟩ and ⟨σ'σ'⟩ of very many pairs, by maps that are compiled once and kept."""

from __future__ import annotations

import torch
from torch import Tensor

from kadanoff.activations import Activation
from kadanoff.errors import ConvergenceError
from kadanoff.gaussian import averages
from kadanoff.kernels.composite import Compiled
from kadanoff.kernels.evaluators import anywhere

__all__ = ["Averages"]

_ACCURACY = 1e-12
# entries below this number are not worth a map
_FEW = 2048
# variances that differ by rounding only
_EQUAL = 4e-15


class Averages:
    """The maps of all activations of a model; kept from one call to the next."""

    def __init__(self) -> None:
        self._maps: dict[tuple[Activation, float], Compiled | None] = {}

    def __call__(
        self, act: Activation, a: Tensor, b: Tensor, c: Tensor, ntk: bool
    ) -> tuple[Tensor, Tensor]:
        """⟨σσ⟩ and ⟨σ'σ'⟩, float64.

        Parameters
        ----------
        act : Activation
        a, b, c : Tensor
            K11, K12 and K22; a and c broadcast to b.
        ntk : bool
            Whether the second is needed.
        """
        if act.slopes is not None:
            return self._homogeneous(act, a, b, c)
        if act.closed_form is not None:
            return self._closed(act, a, b, c, ntk)
        size = self._common(a, c)
        if size is not None and b.numel() > _FEW:
            compiled = self._compiled(act, size)
            if compiled is not None:
                return _evaluated(compiled, b / size)
        return anywhere(act, a.expand_as(b), b, c.expand_as(b))

    def _closed(
        self, act: Activation, a: Tensor, b: Tensor, c: Tensor, ntk: bool
    ) -> tuple[Tensor, Tensor]:
        limit = (a * c).sqrt()
        b = torch.minimum(torch.maximum(b, -limit), limit)
        a, c = a.expand_as(b), c.expand_as(b)
        ss = act.closed(0, 0, a, b, c)
        dd = act.closed(1, 1, a, b, c) if ntk else ss
        if ss is None or dd is None:
            return anywhere(act, a, b, c)
        return ss, dd

    def _homogeneous(
        self, act: Activation, a: Tensor, b: Tensor, c: Tensor
    ) -> tuple[Tensor, Tensor]:
        root1, root2 = a.sqrt(), c.sqrt()
        if bool((root1 == 0).any()) or bool((root2 == 0).any()):
            return self._closed(act, a, b, c, True)
        size = root1 * root2
        if b.numel() <= _FEW:
            return self._closed(act, a, b, c, True)
        compiled = self._compiled(act, 1.0)
        assert compiled is not None
        ss, dd = _evaluated(compiled, b / size)
        return ss.mul_(size), dd

    def _common(self, a: Tensor, c: Tensor) -> float | None:
        low = min(float(a.min()), float(c.min()))
        high = max(float(a.max()), float(c.max()))
        return high if low > 0 and high - low <= _EQUAL * high else None

    def _compiled(self, act: Activation, size: float) -> Compiled | None:
        key = (act, size)
        if key not in self._maps:
            one = torch.tensor(size, dtype=torch.float64)
            try:
                self._maps[key] = Compiled(
                    lambda rho: torch.stack(averages(act, one, rho * size, one)), _ACCURACY
                )
            except ConvergenceError:
                self._maps[key] = None
        return self._maps[key]


def _evaluated(compiled: Compiled, rho: Tensor) -> tuple[Tensor, Tensor]:
    """The two functions of ρ, which is overwritten."""
    # coincident inputs: the last digits would cost half of all digits in √(1−ρ)
    rho.masked_fill_(rho > 1 - 4e-15, 1.0)
    low, high = (float(v) for v in torch.aminmax(rho))
    shape, rho = rho.shape, rho.contiguous().view(1, -1)
    out = rho.new_empty(2, *rho.shape)
    compiled.piece(low, high, torch.float64, rho.device)(rho, 0.0, 1.0, out)
    ss, dd = out.view(2, *shape)
    return ss, dd

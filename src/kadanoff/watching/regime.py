r"""Lazy or learning features: how far a net has left the regime of its initial kernel.

Two measures, both on the watched batch. The *drift* of the empirical NTK Θ of a random projection
of the output, :math:`\|\Theta_t - \Theta_0\| / \|\Theta_0\|`, and the *distance* from
initialisation in units of the radius of the kernel regime,

.. math:: \rho = \frac{\| f(\theta_t) - f(\theta_0) - J_0\,(\theta_t - \theta_0)\|}
                      {\| J_0\,(\theta_t - \theta_0)\|},

the part of the output's change that the linearised net does not make over the part it makes. To
leading order ρ grows in proportion to the distance, and is 1 where the second order is as large as
the first: the net is lazy far below 1, and learns features from about 1 on (Chizat, Oyallon, Bach
2019, arXiv:1812.07956; Fort et al. 2020, arXiv:2010.15110).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from kadanoff.trace.hf import main_output

__all__ = ["Regime"]

COORDINATES = 1 << 20  # entries of the gradient that enter the kernel
LARGEST = 1 << 29  # parameters of which a copy of the initial values is kept
STEP = 1e-2  # of the finite difference, in units of the whole displacement

Run = Callable[[nn.Module, Mapping[str, Tensor] | None], Any]


class Regime:
    """Remembers where the model began, and says how far it has come.

    Parameters
    ----------
    seed : int
        Of the projection of the output.
    """

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._start: dict[str, Tensor] = {}
        self._kernel: Tensor | None = None

    @property
    def known(self) -> bool:
        """Whether a beginning is remembered."""
        return bool(self._start)

    def begin(self, model: nn.Module) -> None:
        """Remember the trainable parameters as they are.

        Parameters
        ----------
        model : nn.Module
        """
        named = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self._kernel = None
        self._start = {}
        if sum(p.numel() for p in named.values()) <= LARGEST:
            self._start = {name: p.detach().clone() for name, p in named.items()}

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"start": self._start, "kernel": self._kernel}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`.

        Parameters
        ----------
        state : dict
        """
        self._start, self._kernel = dict(state["start"]), state["kernel"]

    def measure(self, model: nn.Module, few: Run, some: Run) -> dict[str, float]:
        """Drift and distance now.

        Parameters
        ----------
        model : nn.Module
        few, some : callable
            ``run(model, parameters)``: the output on a few samples (for the kernel) and on some
            more (for the distance), with other values of the parameters if given.

        Returns
        -------
        dict
            ``ntk_drift``, ``ntk_distance`` (1 − cosine of the two kernels), ``moved``
            (‖θ_t − θ_0‖/‖θ_0‖) and ``kernel_radii`` (ρ), as far as they exist.
        """
        found: dict[str, float] = {}
        kernel = self._theta(model, few)
        if kernel is not None:
            if self._kernel is None or self._kernel.shape != kernel.shape:
                self._kernel = kernel
            first = self._kernel
            size = float(first.norm())
            if size > 0 and math.isfinite(size):
                found["ntk_drift"] = float((kernel - first).norm()) / size
                both = float(kernel.norm()) * size
                cosine = float((kernel * first).sum()) / both if both > 0 else math.nan
                found["ntk_distance"] = max(1 - cosine, 0.0)
        return found | self._distance(model, some)

    def _theta(self, model: nn.Module, few: Run) -> Tensor | None:
        """Gram matrix of the gradients of a random projection of each sample's output."""
        main = main_output(few(model, None))
        if main is None or main.ndim == 0 or not main.requires_grad:
            return None
        parameters = [p for p in model.parameters() if p.requires_grad]
        generator = torch.Generator().manual_seed(self._seed)
        probe = torch.randn(main.shape[1:], generator=generator).to(main.device)
        value = (main.float() * probe).flatten(1).sum(1) / math.sqrt(max(probe.numel(), 1))
        stride = math.ceil(sum(p.numel() for p in parameters) / COORDINATES)
        rows = []
        for one in value:
            gradients = torch.autograd.grad(one, parameters, retain_graph=True, allow_unused=True)
            parts = [g.reshape(-1)[::stride].float() for g in gradients if g is not None]
            if not parts:
                return None
            rows.append(torch.cat(parts))
        jacobian = torch.stack(rows).double()
        return jacobian @ jacobian.T

    def _distance(self, model: nn.Module, some: Run) -> dict[str, float]:
        named = {n: p for n, p in model.named_parameters() if p.requires_grad}
        shapes = {name: p.shape for name, p in named.items()}
        if not self._start or {n: t.shape for n, t in self._start.items()} != shapes:
            return {}
        with torch.no_grad():
            moved = {n: p.detach() - self._start[n] for n, p in named.items()}
            length = math.sqrt(sum(float(d.float().square().sum()) for d in moved.values()))
            size = math.sqrt(sum(float(t.float().square().sum()) for t in self._start.values()))
            found = {"moved": length / size if size > 0 else math.nan}
            if not length > 0:
                return found | {"kernel_radii": 0.0}
            now, then = (main_output(some(model, at)) for at in (None, self._start))
            near = main_output(
                some(model, {n: self._start[n] + STEP * d for n, d in moved.items()})
            )
        if now is None or then is None or near is None or now.shape != then.shape:
            return found
        linear = (near.double() - then.double()) / STEP
        change = now.double() - then.double()
        first = float(linear.norm())
        # a change below what the numbers resolve is none
        tiny = torch.finfo(now.dtype).eps / STEP * float(then.double().norm())
        if first > tiny and math.isfinite(first):
            found["kernel_radii"] = float((change - linear).norm()) / first
        return found

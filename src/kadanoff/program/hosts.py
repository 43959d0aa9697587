"""Who runs the backward passes of a real module: the counterpart of an undrawn network."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

__all__ = ["Real"]


class Real:
    """A module with its own weights, measured as networks without weights are."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    @contextlib.contextmanager
    def backward(self, record: bool) -> Iterator[None]:
        """A new backward pass; ``record`` if it is the loss's."""
        if record:
            self._model.zero_grad(set_to_none=True)
        yield

    def gradients(self) -> dict[str, Tensor]:
        """|∂𝓛/∂θ|² by parameter, after ``loss.backward()``."""
        out = {}
        for name, p in self._model.named_parameters():
            if p.grad is not None:
                grad = p.grad.coalesce().values() if p.grad.is_sparse else p.grad
                out[name] = torch.linalg.vector_norm(grad.double()).square()
        return out

    def tangent(self, outputs: Tensor, rates: Callable[[str, Tensor], float]) -> Tensor:
        """Σ λ ∂f_k/∂θ ∂f_l/∂θ between numbers of one forward pass: (K, K)."""
        named = list(self._model.named_parameters())
        rows = [
            torch.autograd.grad(
                output, [p for _, p in named], retain_graph=True, materialize_grads=True
            )
            for output in outputs
        ]
        total = torch.zeros(len(rows), len(rows), dtype=torch.float64)
        for i, (name, p) in enumerate(named):
            J = torch.stack([row[i].reshape(-1) for row in rows]).double()
            total += rates(name, p) * (J @ J.T).cpu()
        return total

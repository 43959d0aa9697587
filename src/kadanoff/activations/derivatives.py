"""Derivatives of a callable by automatic differentiation, to any order.

Some of PyTorch's own kernels have no second derivative, or return tensors without memory for one
that is zero. They are answered here by formulas that have all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from kadanoff.errors import DomainError

__all__ = ["autodiff"]

Function = Callable[[Tensor], Tensor]


def autodiff(f: Function, k: int) -> Function:
    """The k-th derivative of an elementwise function, by automatic differentiation.

    Raises
    ------
    DomainError
        (When called.) An operation inside ``f`` has no derivative of this order in PyTorch.
    """
    if k == 0:
        return f

    def derivative(z: Tensor) -> Tensor:
        zeros = torch.zeros_like(z)
        with torch.enable_grad():
            z0 = z.detach().requires_grad_(True)
            try:
                with _Differentiable():
                    value = f(z0)
                for _ in range(k):
                    if not value.requires_grad:
                        return zeros
                    (value,) = torch.autograd.grad(
                        value.sum(), z0, create_graph=True, materialize_grads=True
                    )
            except (RuntimeError, NotImplementedError) as error:
                raise DomainError(
                    f"The derivative of order {k} of the activation is not available: "
                    f"{str(error).splitlines()[0]}",
                    "Write it with operations that PyTorch differentiates twice "
                    "(clamp, where, exp, …), or pass an Activation with its derivatives.",
                ) from None
        # PyTorch's zero may be a tensor without memory: a sum has one
        return value.detach() + zeros

    return derivative


def _hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    return torch.clamp(input / 6 + 0.5, 0, 1)


def _hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    return input * torch.clamp(input / 6 + 0.5, 0, 1)


# kernels that PyTorch differentiates only once
_REPLACED: dict[str, Any] = {"hardsigmoid": _hardsigmoid, "hardswish": _hardswish}


class _Differentiable(TorchFunctionMode):
    """Answers those kernels by formulas with all derivatives."""

    def __torch_function__(self, func: Any, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        answer: Any = _REPLACED.get(name, func)
        return answer(*args, **(kwargs or {}))

"""The empirical NTK of a real model, at its present parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kadanoff.errors import AnalysisError, DataError, KadanoffError, UsageError
from kadanoff.kernels.jacobians import JacobianBlock, jacobian

__all__ = ["empirical_ntk", "ntk_vector_product"]

OUTPUTS = ("trace", "full", "diagonal")


def empirical_ntk(
    model: nn.Module,
    X1: Tensor,
    X2: Tensor | None = None,
    outputs: str = "trace",
    *,
    memory: int = 2 * 1024**3,
    progress: Callable[..., None] | None = None,
) -> Tensor:
    r"""Inner products of the parameter gradients of a model, between two sets of inputs.

    .. math:: \Theta_{ij}(x, x') = \sum_\mu \frac{\partial f_i(x)}{\partial\theta_\mu}
              \frac{\partial f_j(x')}{\partial\theta_\mu}

    All parameters with ``requires_grad`` count, with learning rate 1 each (PyTorch's
    parametrisation; no λ, no 1/n).

    Parameters
    ----------
    model : torch.nn.Module
        In eval mode where it holds BatchNorm or Dropout; maps (B, …) to (B, …).
    X1, X2 : Tensor (N, …)
        ``X2=None``: the symmetric matrix of ``X1``.
    outputs : {"trace", "full", "diagonal"}
        Mean over outputs of Θ_ii, shape (N1, N2); all of Θ_ij, (N1, N2, O, O); Θ_ii, (N1, N2, O).
    memory : int
        Budget in bytes for Jacobians held at once; the result comes on top.
    progress : callable, optional
        ``progress(done, total)`` after each pair of blocks.

    Returns
    -------
    Tensor, in the dtype of the model's output

    Raises
    ------
    UsageError, DataError
        No trainable parameter, samples that influence each other, empty inputs.
    AnalysisError
        The Jacobian of one sample alone exceeds the budget.

    Notes
    -----
    Linear, Conv2d, Embedding, LayerNorm and BatchNorm (eval), tied or functional, use their
    structure: one backward pass an output serves all samples and layers. Parameters that enter
    anything else are differentiated sample by sample. The diagonal of the first sample is held
    against plain automatic differentiation on every call.
    """
    if outputs not in OUTPUTS:
        raise UsageError(f"outputs must be one of {', '.join(OUTPUTS)}, got {outputs!r}.")
    parameters = _parameters(model)
    _check_inputs(X1, X2)
    symmetric = X2 is None
    Y = X1 if X2 is None else X2
    most = max(len(X1), len(Y))
    alone = _plain(model, parameters, X1)
    each = _bytes_a_sample(model, parameters, X1, alone, most, memory)
    if 2 * each > memory:
        raise AnalysisError(
            f"The Jacobians of one pair of samples take {2 * each:,} bytes; the budget is "
            f"{memory:,}.",
            "Raise memory=, or use ntk_vector_product, which stores none.",
        )
    size = max(1, min(memory // (2 * each), most))
    # a second sample in the block: interactions between samples show up against the plain one
    rows, columns = _starts(len(X1), size), _starts(len(Y), size)
    O = alone.outputs
    shape = {"trace": (), "diagonal": (O,), "full": (O, O)}[outputs]
    out = torch.empty(len(X1), len(Y), *shape, dtype=alone.dtype, device=alone.device)
    done, total = 0, len(rows) * len(columns)
    for i in rows:
        J1 = jacobian(model, parameters, X1[i])
        if i.start == 0:
            _verify(alone, J1)
        for j in columns:
            if symmetric and j.start > i.start:
                continue
            J2 = J1 if symmetric and i == j else jacobian(model, parameters, Y[j])
            with torch.no_grad():
                tile = J1.gram(J2, outputs)
                out[i, j] = tile
                if symmetric and i != j:
                    swapped = tile.transpose(0, 1)
                    out[j, i] = swapped.transpose(2, 3) if outputs == "full" else swapped
            done += 1
            if progress:
                progress(done, total)
    return out


@dataclass(frozen=True)
class _Alone:
    """The first sample by itself: its outputs and |∂f_0/∂θ|²."""

    outputs: int
    dtype: torch.dtype
    device: torch.device
    square: float


def _bytes_a_sample(
    model: nn.Module, parameters: list[Tensor], X: Tensor, alone: _Alone, most: int, memory: int
) -> int:
    """Bytes that the Jacobian of one sample takes, in the form it will be held in."""
    # the structured forms take less than twice the bytes of a Jacobian written out
    written_out = alone.outputs * sum(p.numel() for p in parameters) * alone.dtype.itemsize
    if 16 * most * written_out <= memory:
        return 2 * written_out
    return max(1, jacobian(model, parameters, X[:1]).bytes)


def ntk_vector_product(
    model: nn.Module, X1: Tensor, X2: Tensor | None, v: Tensor, *, block: int = 256
) -> Tensor:
    """Θ(X1, X2) v without forming Θ: a backward pass over X2, then a forward derivative over X1.

    Parameters
    ----------
    model : torch.nn.Module
    X1, X2 : Tensor (N, …)
        ``X2=None`` stands for X1.
    v : Tensor, shape (N2, O) or that of ``model(X2)``
    block : int
        Samples a pass.

    Returns
    -------
    Tensor, shape of ``model(X1)``
    """
    parameters = _parameters(model)
    _check_inputs(X1, X2)
    Y = X1 if X2 is None else X2
    if len(v) != len(Y):
        raise DataError(f"v has {len(v)} rows for {len(Y)} samples of X2.")
    total = [torch.zeros_like(p) for p in parameters]
    for i in _starts(len(Y), block):
        with torch.enable_grad():
            y = model(Y[i])
            grads = torch.autograd.grad(y, parameters, v[i].reshape(y.shape), allow_unused=True)
        total = [t if g is None else t + g for t, g in zip(total, grads)]
    out = []
    for i in _starts(len(X1), block):
        # J t = ∂/∂u (uᵀ J) t: two backward passes, which every module supports
        with torch.enable_grad():
            y = model(X1[i])
            u = torch.zeros_like(y, requires_grad=True)
            grads = torch.autograd.grad(y, parameters, u, create_graph=True, allow_unused=True)
            pairs = [(g, t) for g, t in zip(grads, total) if g is not None and g.requires_grad]
            (forward,) = torch.autograd.grad([g for g, _ in pairs], u, [t for _, t in pairs])
        out.append(forward.detach())
    return torch.cat(out)


def _parameters(model: nn.Module) -> list[Tensor]:
    if not isinstance(model, torch.nn.Module):
        raise UsageError(f"An nn.Module is wanted, got {type(model).__name__}.")
    for name, module in model.named_modules():
        kind = type(module).__name__
        mixing = "BatchNorm" in kind or ("Dropout" in kind and getattr(module, "p", 0) > 0)
        if mixing and module.training:
            raise UsageError(
                f"{name or 'the model'} ({kind}) is in training mode: outputs are random or depend "
                "on the other samples of the batch.",
                "Call model.eval() first.",
            )
    parameters: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise UsageError("The model has no parameter with requires_grad.", "Unfreeze at least one.")
    return parameters


def _check_inputs(*data: Tensor | None) -> None:
    for X in data:
        if X is None:
            continue
        if not isinstance(X, Tensor):
            raise DataError(f"Inputs must be a torch.Tensor, got {type(X).__name__}.")
        if X.ndim == 0 or len(X) == 0:
            raise DataError(f"Inputs have shape {tuple(X.shape)}: at least one sample is needed.")
        if X.is_floating_point() and not bool(torch.isfinite(X).all()):
            raise DataError("Inputs hold NaN or infinite values.", "Remove them first.")


def _starts(count: int, size: int) -> list[slice]:
    return [slice(i, min(i + size, count)) for i in range(0, count, size)]


def _plain(model: nn.Module, parameters: list[Tensor], X: Tensor) -> _Alone:
    """The first sample by plain automatic differentiation."""
    try:
        with torch.enable_grad():
            y = model(X[:1]).reshape(-1)
            grads = torch.autograd.grad(y[0], parameters, allow_unused=True)
    except (RuntimeError, TypeError, IndexError, ValueError) as error:
        if isinstance(error, KadanoffError):
            raise
        words = str(error).split("\n")[0]
        raise DataError(
            f"The model cannot take an input of shape {tuple(X[:1].shape)} and dtype {X.dtype}: "
            f"{words}.",
            "Pass inputs as model(inputs) wants them.",
        ) from error
    square = sum(float((g.double() ** 2).sum()) for g in grads if g is not None)
    return _Alone(len(y), y.dtype, y.device, square)


def _verify(alone: _Alone, block: JacobianBlock) -> None:
    """Hold the first sample of a block against what it gives alone."""
    found = 0.0
    for d, h in block.products.values():
        # Σ_t δ_t h_tᵀ of this sample
        found += float(((d[0, 0].double().T @ h[0].double()) ** 2).sum())
    found += sum(float((J[0, 0].double() ** 2).sum()) for J in block.explicit.values())
    allowed = 1e-6 if alone.dtype == torch.float64 else 2e-3
    if abs(found - alone.square) > allowed * (alone.square + 1e-12):
        raise AnalysisError(
            f"The gradient of the first sample has square {alone.square:.6g} alone, but "
            f"{found:.6g} in a batch: samples influence each other, or their first axis is not the "
            "batch.",
            "Pass a model whose outputs depend on their own sample only.",
        )

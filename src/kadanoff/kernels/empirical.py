"""The empirical NTK of a real model, at its present parameters."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kadanoff.errors import AnalysisError, DataError, KadanoffError, UsageError
from kadanoff.kernels.jacobians import JacobianBlock, jacobian
from kadanoff.kernels.parts import Batch, Cut, Outputs, cut
from kadanoff.trace.hf import main_output

__all__ = ["empirical_ntk", "ntk_vector_product"]

OUTPUTS = ("trace", "full", "diagonal")


def empirical_ntk(
    model: nn.Module,
    X1: Any,
    X2: Any = None,
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
        In eval mode where it holds BatchNorm or Dropout; maps (B, …) to (B, …), or returns logits.
    X1, X2 : Tensor (N, …), or a tuple or dict of them
        As the model is called: ``model(X)``, ``model(*X)``, ``model(**X)``.
        ``X2=None``: the symmetric matrix of ``X1``.
    outputs : {"trace", "full", "diagonal"}
        Mean over outputs of Θ_ii, shape (N1, N2); all of Θ_ij, (N1, N2, O, O); Θ_ii, (N1, N2, O).
    memory : int
        Budget in bytes for Jacobians and what making them takes; the result comes on top. Outputs,
        parameters and samples are taken in parts that fit it.
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
        The gradient of one output with respect to one parameter exceeds the budget.

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
    X, Y = Batch(X1), Batch(X1 if X2 is None else X2)
    alone = _plain(model, parameters, X)
    O = alone.outputs
    parts = cut(model, parameters, X, O, max(len(X), len(Y)), memory)
    shape = {"trace": (), "diagonal": (O,), "full": (O, O)}[outputs]
    out = torch.zeros(len(X), len(Y), *shape, dtype=alone.dtype, device=alone.device)
    tiles = _tiles(parts, len(X), len(Y), outputs, X2 is None)
    square = 0.0
    held: dict[str, tuple[tuple[int, slice, slice], JacobianBlock]] = {}
    for done, tile in enumerate(tiles, start=1):
        J1 = _held(held, "rows", model, parts, (tile.group, tile.above, tile.rows), X)
        same = X2 is None and tile.rows == tile.columns and tile.above == tile.below
        key = (tile.group, tile.below, tile.columns)
        J2 = J1 if same else _held(held, "columns", model, parts, key, Y)
        if tile.first:
            square += _square(J1)
        with torch.no_grad():
            _add(out, tile, J1.gram(J2, outputs), outputs, O)
        if progress:
            progress(done, len(tiles))
    _verify(alone, square)
    if X2 is None:
        _mirror(out, parts, outputs)
    return out


@dataclass(frozen=True)
class _Tile:
    """A group of parameters, two blocks of samples, two slices of outputs."""

    group: int
    rows: slice
    columns: slice
    above: slice
    below: slice

    @property
    def first(self) -> bool:
        """Whether the first output of the first sample is in it, and met for the first time."""
        starts = (self.rows.start, self.columns.start, self.above.start, self.below.start)
        return starts == (0, 0, 0, 0)


def _tiles(parts: Cut, rows: int, columns: int, outputs: str, symmetric: bool) -> list[_Tile]:
    """Everything to multiply, in the order in which least is computed again."""
    tiles: list[_Tile] = []
    down, across = _starts(rows, parts.samples), _starts(columns, parts.samples)
    for group, above, i in itertools.product(range(len(parts.groups)), parts.outputs, down):
        # the trace and the diagonal pair each output with itself
        others = parts.outputs if outputs == "full" else [above]
        for below, j in itertools.product(others, across):
            # the other half is its mirror image
            if symmetric and j.start > i.start:
                continue
            tiles.append(_Tile(group, i, j, above, below))
    return tiles


def _held(
    held: dict[str, tuple[tuple[int, slice, slice], JacobianBlock]],
    side: str,
    model: nn.Module,
    parts: Cut,
    key: tuple[int, slice, slice],
    X: Batch,
) -> JacobianBlock:
    """The Jacobians of one side, computed unless they are the ones held."""
    if side not in held or held[side][0] != key:
        held.pop(side, None)
        group, which, samples = key
        block = jacobian(Outputs(model, which), parts.groups[group], X[samples])
        held[side] = key, block
    return held[side][1]


def _add(out: Tensor, tile: _Tile, gram: Tensor, outputs: str, O: int) -> None:
    """Add one tile to the matrix."""
    block = out[tile.rows, tile.columns]
    if outputs == "full":
        block[:, :, tile.above, tile.below] += gram
    elif outputs == "diagonal":
        block[:, :, tile.above] += gram
    else:
        # the mean over these outputs, as a share of the mean over all
        block += gram * ((tile.above.stop - tile.above.start) / O)


def _mirror(out: Tensor, parts: Cut, outputs: str) -> None:
    """Fill the blocks above the diagonal from those below it."""
    blocks = _starts(len(out), parts.samples)
    for i, j in itertools.product(blocks, blocks):
        if j.start > i.start:
            swapped = out[j, i].transpose(0, 1)
            out[i, j] = swapped.transpose(2, 3) if outputs == "full" else swapped


@dataclass(frozen=True)
class _Alone:
    """The first sample by itself: its outputs and |∂f_0/∂θ|²."""

    outputs: int
    dtype: torch.dtype
    device: torch.device
    square: float


def ntk_vector_product(
    model: nn.Module, X1: Any, X2: Any, v: Tensor, *, block: int = 256
) -> Tensor:
    """Θ(X1, X2) v without forming Θ: a backward pass over X2, then a forward derivative over X1.

    Parameters
    ----------
    model : torch.nn.Module
    X1, X2 : Tensor (N, …), or a tuple or dict of them
        ``X2=None`` stands for X1.
    v : Tensor, shape (N2, O) or that of ``model(X2)``
    block : int
        Samples a pass.

    Returns
    -------
    Tensor, shape of ``model(X1)``
    """
    parameters = _parameters(model)
    X, Y = Batch(X1), Batch(X1 if X2 is None else X2)
    if len(v) != len(Y):
        raise DataError(f"v has {len(v)} rows for {len(Y)} samples of X2.")
    total = [torch.zeros_like(p) for p in parameters]
    for i in _starts(len(Y), block):
        with torch.enable_grad():
            y = _raw(model, Y[i])
            grads = torch.autograd.grad(y, parameters, v[i].reshape(y.shape), allow_unused=True)
        total = [t if g is None else t + g for t, g in zip(total, grads, strict=True)]
    out: list[Tensor] = []
    for i in _starts(len(X), block):
        # J t = ∂/∂u (uᵀ J) t: two backward passes, which every module supports
        with torch.enable_grad():
            y = _raw(model, X[i])
            u = torch.zeros_like(y, requires_grad=True)
            grads = torch.autograd.grad(y, parameters, u, create_graph=True, allow_unused=True)
            both = zip(grads, total, strict=True)
            pairs = [(g, t) for g, t in both if g is not None and g.requires_grad]
            (forward,) = torch.autograd.grad([g for g, _ in pairs], u, [t for _, t in pairs])
        out.append(forward.detach())
    return torch.cat(out)


def _raw(model: nn.Module, batch: Batch) -> Tensor:
    """What the model is asked for, in its own shape."""
    output = main_output(batch.given_to(model))
    if output is None:
        raise DataError("The model returns no tensor.", "Return outputs, a row a sample.")
    return output


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


def _starts(count: int, size: int) -> list[slice]:
    return [slice(i, min(i + size, count)) for i in range(0, count, size)]


def _plain(model: nn.Module, parameters: list[Tensor], X: Batch) -> _Alone:
    """The first sample by plain automatic differentiation."""
    try:
        with torch.enable_grad():
            y = Outputs(model)(X[:1])[0]
            grads = torch.autograd.grad(y[0], parameters, allow_unused=True)
    except (RuntimeError, TypeError, IndexError, ValueError) as error:
        if isinstance(error, KadanoffError):
            raise
        words = str(error).split("\n")[0]
        raise DataError(
            f"The model cannot take an input of shape {X[:1]}: {words}.",
            "Pass inputs as model(inputs) wants them.",
        ) from error
    square = sum(float((g.double() ** 2).sum()) for g in grads if g is not None)
    return _Alone(len(y), y.dtype, y.device, square)


def _square(block: JacobianBlock) -> float:
    """|∂f_0/∂θ|² of the first sample of a block and the first of its outputs."""
    found = 0.0
    for d, h in block.products.values():
        # Σ_t δ_t h_tᵀ of this sample
        found += float(((d[0, 0].double().T @ h[0].double()) ** 2).sum())
    return found + sum(float((J[0, 0].double() ** 2).sum()) for J in block.explicit.values())


def _verify(alone: _Alone, found: float) -> None:
    """Hold the first sample in a batch against what it gives alone."""
    allowed = 1e-6 if alone.dtype == torch.float64 else 2e-3
    if abs(found - alone.square) > allowed * (alone.square + 1e-12):
        raise AnalysisError(
            f"The gradient of the first sample has square {alone.square:.6g} alone, but "
            f"{found:.6g} in a batch: samples influence each other, or their first axis is not the "
            "batch.",
            "Pass a model whose outputs depend on their own sample only.",
        )

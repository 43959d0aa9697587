"""Descriptions of networks: fully connected, with or without skip connections.

Layers are numbered as in the book: ℓ = 1 … L counts the linear maps, the readout included;
z⁽¹⁾ = b + W x, z⁽ℓ⁺¹⁾ = b + W σ(z⁽ℓ⁾) (+ γ z⁽ℓ⁾); E[W²] = C_W / fan-in, E[b²] = C_b.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kadanoff.activations import Activation, activation
from kadanoff.architecture.drawing import GeneratorNumbers, draw_weights
from kadanoff.errors import DataError, UsageError
from kadanoff.results import Kept

__all__ = ["MLP", "Network", "Residual"]

# beyond these the squares, which are variances, leave a quadrature without digits; activations that
# know no scale have closed forms
_LARGEST, _LARGEST_CURVED = 1e12, 1e6
INITS = ("gaussian", "uniform", "orthogonal")


@dataclass(frozen=True)
class Network(Kept):
    """A fully connected network; build one with :func:`MLP` or :func:`Residual`.

    Attributes
    ----------
    n : tuple of int, length L + 1
        Widths n_0 (input), n_1, …, n_L (output).
    activations : tuple of Activation, length L − 1
        Entry ℓ − 1 acts on z⁽ℓ⁾.
    C_b, C_W, lambda_b, lambda_W : tuple of float, length L
        Entry ℓ − 1 belongs to layer ℓ. E[b²] = C_b, E[W²] = C_W / n_{ℓ−1}; learning rates λ_b for
        biases and λ_W / n_{ℓ−1} for weights.
    gamma : tuple of float, length L
        Entry ℓ − 1 is the strength of the skip from z⁽ℓ⁻¹⁾ into z⁽ℓ⁾; 0 where there is none.
    block : {"single", "two_layer"}
        "two_layer": layers 2 … L − 1 are blocks z' = b + W₂ σ(b₁ + W₁ z) + γ z with inner width
        ``hidden`` (their W₁, W₂ share the layer's C_b, C_W, λ_b, λ_W).
    init : {"gaussian", "uniform", "orthogonal"}
        Law of the weights at the given variance.
    """

    n: tuple[int, ...]
    activations: tuple[Activation, ...]
    C_b: tuple[float, ...]
    C_W: tuple[float, ...]
    lambda_b: tuple[float, ...]
    lambda_W: tuple[float, ...]
    gamma: tuple[float, ...]
    init: str = "gaussian"
    block: str = "single"
    hidden: int | None = None
    head: str | None = None

    @property
    def L(self) -> int:
        """Depth: the number of linear maps (of blocks, plus the first and last map)."""
        return len(self.n) - 1

    @property
    def residual(self) -> bool:
        """Whether any layer has a skip connection."""
        return any(self.gamma)

    @property
    def n_in(self) -> int:
        return self.n[0]

    @property
    def n_out(self) -> int:
        return self.n[-1]

    @property
    def widths(self) -> tuple[int, ...]:
        return self.n[1:-1]

    @property
    def ratio(self) -> float:
        """Σ 1/n over the hidden layers: the depth-to-width ratio L/n for unequal widths."""
        return sum(1 / n for n in self.widths)

    def inputs(self, X) -> Tensor:
        """``X`` as a float64 (N, n_0) tensor.

        Raises
        ------
        DataError
            Wrong shape, empty, complex, NaN or infinite.
        """
        if isinstance(X, Tensor) and X.is_complex():
            raise DataError("Inputs must be real, got complex numbers.", "Pass real features.")
        try:
            if not isinstance(X, Tensor):
                # by way of numpy, since torch would make plain lists float32
                X = torch.as_tensor(np.asarray(X, dtype=np.float64))
            X = X.detach().to("cpu", torch.float64)
        except (TypeError, ValueError, RuntimeError) as error:
            raise DataError(f"Inputs cannot be made a tensor: {error}.") from None
        given = tuple(X.shape)
        if X.ndim > 0:
            X = X[None] if X.ndim == 1 else X.flatten(1)
        if X.ndim != 2 or X.shape[0] == 0 or X.shape[1] != self.n_in:
            raise DataError(
                f"Inputs have shape {given}, but (N, n_0) = (N, {self.n_in}) with N >= 1 "
                "is wanted.",
                "Pass one row a sample with n_0 features each.",
            )
        if not torch.isfinite(X).all():
            count = int((~torch.isfinite(X)).sum())
            raise DataError(f"Inputs hold {count} NaN or infinite values.", "Remove them first.")
        largest = float(X.abs().max())
        curved = any(act.slopes is None for act in self.activations)
        if largest > (_LARGEST_CURVED if curved else _LARGEST):
            raise DataError(
                f"Inputs as large as {largest:.3g} leave averages without digits.",
                "Rescale them to values of order one.",
            )
        return X

    def metric(self, X) -> Tensor:
        """X Xᵀ / n_0, shape (N, N)."""
        X = self.inputs(X)
        return X @ X.T / self.n_in

    def draw(
        self, generator: torch.Generator | None = None, dtype: torch.dtype = torch.float64
    ) -> list[tuple[Tensor, Tensor]]:
        """One set of parameters: (W, b) per map, W of shape (n_out, n_in).

        For two-layer blocks each block contributes two pairs, (W₁, b₁) then (W₂, b₂).
        """
        numbers = GeneratorNumbers(generator, dtype)
        maps: list[tuple[Tensor, Tensor]] = []
        for layer in range(1, self.L + 1):
            shapes = [(self.n[layer], self.n[layer - 1])]
            if self.block == "two_layer" and 1 < layer < self.L:
                inner = self.hidden or self.n[layer]
                shapes = [(inner, self.n[layer - 1]), (self.n[layer], inner)]
            for shape in shapes:
                W = draw_weights(shape, self.C_W[layer - 1], self.init, numbers)
                b = math.sqrt(self.C_b[layer - 1]) * numbers.normal(shape[0])
                maps.append((W, b))
        return maps

    def __repr__(self) -> str:
        kind = "Residual" if self.residual or self.block == "two_layer" else "MLP"
        names = sorted({a.name for a in self.activations})
        return (
            f"{kind}(n={list(self.n)}, activation={'/'.join(names) or 'none'}, "
            f"C_b={_brief(self.C_b)}, C_W={_brief(self.C_W)}"
            + (f", gamma={_brief(self.gamma[1:-1])}" if self.residual else "")
            + (f", init={self.init!r}" if self.init != "gaussian" else "")
            + ")"
        )


def _brief(values: Sequence[float]) -> str:
    return f"{values[0]:g}" if len(set(values)) == 1 else str([float(f"{v:.4g}") for v in values])


def _per_layer(name: str, value: float | Iterable[float], length: int, minimum: float | None = 0.0):
    try:
        # a set or a dict has no order of layers; float() refuses it
        many = isinstance(value, Iterable) and not isinstance(value, (str, Mapping, Set))
        values = tuple(float(v) for v in value) if many else (float(value),)  # pyright: ignore[reportArgumentType, reportGeneralTypeIssues]
    except (TypeError, ValueError):
        raise UsageError(f"{name} must be a number or one per layer, got {value!r}.") from None
    if len(values) == 1:
        values *= length
    if len(values) != length:
        raise UsageError(
            f"{name} has {len(values)} entries for {length} layers.",
            "Pass one number, or one per layer (the readout included).",
        )
    for v in values:
        if not math.isfinite(v) or (minimum is not None and v < minimum):
            raise UsageError(f"{name} must be finite and >= {minimum:g}, got {v:g}.")
    return values


def _width(name: str, value: Any) -> int:
    try:
        whole = int(value)
        good = not isinstance(value, (bool, str)) and whole == value and whole >= 1
    except (TypeError, ValueError, OverflowError):
        good, whole = False, 0
    if not good:
        raise UsageError(f"{name} must be a whole number >= 1, got {value!r}.")
    return whole


def _activations(spec: Any, length: int) -> tuple[Activation, ...]:
    if isinstance(spec, (list, tuple)):
        if len(spec) != length:
            raise UsageError(
                f"{len(spec)} activations were given for {length} hidden layers.",
                "Pass one, or one per hidden layer.",
            )
        return tuple(activation(a) for a in spec)
    return (activation(spec),) * length


def MLP(
    n_in: int,
    widths: Sequence[int],
    n_out: int,
    activation: Any = "tanh",
    *,
    C_b: float | Sequence[float] = 0.0,
    C_W: float | Sequence[float] = 1.0,
    lambda_b: float | Sequence[float] = 1.0,
    lambda_W: float | Sequence[float] = 1.0,
    init: str = "gaussian",
) -> Network:
    """A fully connected network.

    Parameters
    ----------
    n_in, n_out : int
        Widths n_0 of the input and n_L of the output.
    widths : sequence of int
        Hidden widths n_1 … n_{L−1}; may be empty (a linear model).
    activation : name, callable, torch module, or one of these per hidden layer
    C_b, C_W, lambda_b, lambda_W : float or one per layer 1 … L
    init : {"gaussian", "uniform", "orthogonal"}

    Raises
    ------
    UsageError
        A width below 1, a negative variance, a wrong number of entries, an unknown name.

    Examples
    --------
    >>> MLP(64, [256] * 3, 10, "tanh").L
    4
    """
    # a set or a dict has no order of layers
    if isinstance(widths, (str, Mapping, Set)) or not isinstance(widths, Iterable):
        raise UsageError(
            f"widths must be a sequence of hidden widths, got {widths!r}.", "Pass [256, 256]."
        )
    n = (
        _width("n_in", n_in),
        *(_width("A width", w) for w in widths),
        _width("n_out", n_out),
    )
    L = len(n) - 1
    if init not in INITS:
        raise UsageError(f"init must be one of {', '.join(INITS)}, got {init!r}.")
    return Network(
        n,
        _activations(activation, L - 1),
        _per_layer("C_b", C_b, L),
        _per_layer("C_W", C_W, L),
        _per_layer("lambda_b", lambda_b, L),
        _per_layer("lambda_W", lambda_W, L),
        (0.0,) * L,
        init,
    )


def Residual(
    n_in: int,
    width: int,
    depth: int,
    n_out: int,
    activation: Any = "tanh",
    *,
    gamma: float | Sequence[float] = 1.0,
    C_b: float | Sequence[float] = 0.0,
    C_W: float | Sequence[float] = 1.0,
    lambda_b: float | Sequence[float] = 1.0,
    lambda_W: float | Sequence[float] = 1.0,
    init: str = "gaussian",
    block: str = "single",
    hidden: int | None = None,
) -> Network:
    """A residual network of ``depth`` blocks between an input map and a readout.

    z⁽¹⁾ = b + W x; blocks ``"single"``: z' = b + W σ(z) + γ z, or ``"two_layer"``:
    z' = b₂ + W₂ σ(b₁ + W₁ z) + γ z with inner width ``hidden``; readout b + W σ(z).
    Hence L = depth + 2.

    Parameters
    ----------
    gamma : float or one per block
    C_b, C_W, lambda_b, lambda_W : float or one per layer 1 … L

    Raises
    ------
    UsageError
    """
    depth = _width("depth", depth)
    base = MLP(
        n_in,
        [width] * (depth + 1),
        n_out,
        activation,
        C_b=C_b,
        C_W=C_W,
        lambda_b=lambda_b,
        lambda_W=lambda_W,
        init=init,
    )
    if block not in ("single", "two_layer"):
        raise UsageError(f"block must be 'single' or 'two_layer', got {block!r}.")
    if hidden is not None and block == "single":
        raise UsageError(
            f"hidden={hidden} is for two-layer blocks only.", "Pass block='two_layer'."
        )
    skips = (0.0, *_per_layer("gamma", gamma, depth, minimum=-math.inf), 0.0)
    inner = (
        (_width("hidden", hidden) if hidden is not None else width) if block != "single" else None
    )
    fields = {name: getattr(base, name) for name in base.__dataclass_fields__}
    return Network(**(fields | {"gamma": skips, "block": block, "hidden": inner}))

"""NNGP and NTK of convolutional networks with infinitely many channels.

For a pair of images the kernel is a matrix over pairs of positions (p, p'). A convolution averages
it over common shifts of both, an activation acts entry by entry, pooling averages each position by
itself. One pair of images (or a few) goes through the whole network before the next one starts, so
that memory holds one position matrix, never N² of them. A network that flattens without pooling
needs p = p' only.

Source of the recursions: Novak et al. 2019 (Bayesian CNNs), Arora et al. 2019 (CNTK); here with
C_b, C_W, λ_b, λ_W as for dense layers, fan-in = channels × kernel area.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from kadanoff.activations import Activation, activation
from kadanoff.devices import chosen
from kadanoff.errors import DataError, DomainError, UsageError
from kadanoff.kernels.evaluators import UnitMap, anywhere
from kadanoff.kernels.layers import Averages
from kadanoff.kernels.result import Gram, check_names
from kadanoff.kernels.tiles import single_threaded

__all__ = ["Act", "AvgPool", "Conv", "ConvKernel", "ConvNet", "Dense", "Flatten", "GlobalAvgPool"]

Progress = Callable[..., None] | None

# elements of the position matrices that go through the network together
_BATCH = 1 << 20


@dataclass(frozen=True)
class Conv:
    """Convolution: square kernel; ``padding`` is "valid", "same" (odd kernels) or a number."""

    size: int
    stride: int = 1
    padding: int | str = "same"
    C_b: float = 0.0
    C_W: float = 1.0
    lambda_b: float = 1.0
    lambda_W: float = 1.0

    @property
    def pad(self) -> int:
        if isinstance(self.padding, str):
            return (self.size - 1) // 2 if self.padding == "same" else 0
        return self.padding


@dataclass(frozen=True)
class Dense:
    """The readout after Flatten or GlobalAvgPool (or a further dense layer)."""

    C_b: float = 0.0
    C_W: float = 1.0
    lambda_b: float = 1.0
    lambda_W: float = 1.0


@dataclass(frozen=True)
class Act:
    """An activation: name, callable or torch module."""

    activation: str | Activation | Callable[[Tensor], Tensor] | nn.Module = "relu"


@dataclass(frozen=True)
class AvgPool:
    """Average pooling without padding; ``stride=None`` means ``size``."""

    size: int
    stride: int | None = None


@dataclass(frozen=True)
class GlobalAvgPool:
    """Mean over all positions."""


@dataclass(frozen=True)
class Flatten:
    """All positions and channels become features."""


Layer = Conv | Dense | Act | AvgPool | GlobalAvgPool | Flatten


@dataclass(frozen=True)
class ConvNet:
    """A convolutional network: layers in order, ending in Flatten or GlobalAvgPool, then Dense.

    Raises
    ------
    UsageError
        A layer of unknown type or out of order.
    """

    layers: tuple[Layer, ...]

    def __init__(self, layers: Sequence[Layer]) -> None:
        layers = tuple(Act(activation(l.activation)) if isinstance(l, Act) else l for l in layers)
        flat, linear = False, False
        for i, layer in enumerate(layers):
            spatial = isinstance(layer, (Conv, AvgPool, GlobalAvgPool, Flatten))
            known = spatial or isinstance(layer, (Act, Dense))
            if not known or (flat and spatial) or (isinstance(layer, Dense) and not flat):
                raise UsageError(
                    f"Layer {i} ({layer!r}) is unknown or out of place.",
                    "Order: Conv, Act, AvgPool in any number, one Flatten() or GlobalAvgPool(), "
                    "then Dense and Act, Dense last.",
                )
            if isinstance(layer, Act) and not linear:
                raise UsageError(f"Layer {i} is an activation without a linear map before it.")
            if isinstance(layer, Conv):
                _check_conv(i, layer)
            linear = isinstance(layer, (Conv, Dense))
            flat = flat or isinstance(layer, (GlobalAvgPool, Flatten))
        if not layers or not isinstance(layers[-1], Dense):
            raise UsageError("The last layer must be Dense: kernels are those of its outputs.")
        object.__setattr__(self, "layers", layers)

    @property
    def pooled(self) -> bool:
        """Whether pairs of different positions matter."""
        return any(isinstance(l, (AvgPool, GlobalAvgPool)) for l in self.layers)


def _check_conv(i: int, layer: Conv) -> None:
    if layer.size < 1 or layer.stride < 1 or layer.pad < 0:
        raise UsageError(f"Layer {i} ({layer!r}) needs size >= 1, stride >= 1, padding >= 0.")
    if isinstance(layer.padding, str) and layer.padding not in ("same", "valid"):
        raise UsageError(f"padding must be 'same', 'valid' or a number, got {layer.padding!r}.")
    if layer.padding == "same" and layer.size % 2 == 0:
        raise UsageError(f"padding='same' needs an odd kernel, got size {layer.size}.")


class ConvKernel:
    """Kernels of a :class:`ConvNet` as a function of images; made by ``kernel(net)``."""

    def __init__(self, net: ConvNet, device: str | torch.device | None = None) -> None:
        self.arch, self.device = net, chosen(device)
        acts = {activation(l.activation) for l in net.layers if isinstance(l, Act)}
        self._maps = {a: UnitMap(a, 1e-11) for a in acts if a.slopes is not None}

    def __call__(
        self,
        X1: ArrayLike | Tensor,
        X2: ArrayLike | Tensor | None = None,
        get: str | Sequence[str] = ("nngp", "ntk"),
        *,
        progress: Callable[..., None] | None = None,
    ) -> Gram | Tensor:
        """Gram matrices between images.

        Parameters
        ----------
        X1, X2 : array (N, channels, height, width), float32 or float64
            ``X2=None``: the symmetric matrix of ``X1``.
        get : "nngp", "ntk" or a sequence of them
        progress : callable, optional
            ``progress(done, total)`` in batches of pairs.

        Returns
        -------
        Gram, or Tensor (N1, N2) if ``get`` is a string

        Raises
        ------
        DataError
            Empty, not finite, not 4-dimensional, different shapes, or images smaller than a kernel.
        """
        names = check_names(get)
        one = _images(X1, self.device)
        two = one if X2 is None else _images(X2, self.device)
        if one.shape[1:] != two.shape[1:]:
            raise DataError(f"Images of shapes {one.shape[1:]} and {two.shape[1:]} do not pair.")
        with torch.no_grad(), single_threaded() as count:
            count = 1 if one.is_cuda else count
            pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))
            with pool:
                gram = self._gram(one, two, X2 is None, "ntk" in names, pool, progress)
        found = {n: v.to(torch.as_tensor(X1).dtype) for n, v in zip(("nngp", "ntk"), gram)}
        result = Gram(
            names,
            nngp=found["nngp"] if "nngp" in names else None,
            ntk=found["ntk"] if "ntk" in names else None,
            method="positions",
        )
        return getattr(result, get) if isinstance(get, str) else result

    def _gram(
        self,
        one: Tensor,
        two: Tensor,
        symmetric: bool,
        ntk: bool,
        pool: Executor,
        progress: Progress,
    ) -> tuple[Tensor, Tensor]:
        positions = one.shape[2] * one.shape[3]
        batch = max(1, _BATCH // positions ** (2 if self.arch.pooled else 1))
        # each image with itself first: the variances that all its pairs need
        own = [self._own(X, batch, ntk, pool) for X in ([one] if symmetric else [one, two])]
        variances1, variances2 = own[0][0], own[-1][0]
        K = one.new_empty(len(one), len(two))
        Theta = torch.zeros_like(K)
        index = torch.ones(len(one), len(two), dtype=torch.bool)
        pairs = (index.tril(-1) if symmetric else index).nonzero()
        jobs = pairs.split(batch)

        def work(job: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
            i, j = job.unbind(1)
            V1 = [v[i] for v in variances1]
            V2 = [v[j] for v in variances2]
            return job, self._pairs(one[i], two[j], V1, V2, ntk)

        for done, (job, (k, theta)) in enumerate(pool.map(work, jobs)):
            i, j = job.unbind(1)
            K[i, j], Theta[i, j] = k, theta
            if symmetric:
                K[j, i], Theta[j, i] = k, theta
            if progress:
                progress(done + 1, len(jobs))
        if symmetric:
            K.diagonal().copy_(own[0][1])
            Theta.diagonal().copy_(own[0][2])
        return K, Theta

    def _own(
        self, X: Tensor, batch: int, ntk: bool, pool: Executor
    ) -> tuple[list[Tensor], Tensor, Tensor]:
        def work(part: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
            variances: list[Tensor] = []
            k, theta = self._pairs(part, part, variances, None, ntk)
            return variances, k, theta

        found = list(pool.map(work, X.split(batch)))
        variances = [torch.cat(v) for v in zip(*(f[0] for f in found))]
        return variances, torch.cat([f[1] for f in found]), torch.cat([f[2] for f in found])

    def _pairs(
        self, x1: Tensor, x2: Tensor, V1: list[Tensor], V2: list[Tensor] | None, ntk: bool
    ) -> tuple[Tensor, Tensor]:
        """K and Θ of each pair (x1[b], x2[b]); with ``V2=None`` x1 is x2, and V1 is filled."""
        full = self.arch.pooled
        # layout (B, y, y', x, x'), or (B, y, 1, x, 1) where only p = p' matters
        equation = "bcyx,bcvu->byvxu" if full else "bcyx,bcyx->byx"
        S = torch.einsum(equation, x1, x2).div_(x1.shape[1])
        if not full:
            S = S[:, :, None, :, None]
        K, Theta, T = S, torch.zeros_like(S), torch.zeros_like(S)
        turn = 0
        for layer in self.arch.layers:
            if isinstance(layer, (Conv, Dense)):
                if isinstance(layer, Conv):
                    S, T = _convolve(S, layer, full), _convolve(T, layer, full) if ntk else T
                if ntk:
                    Theta = (layer.C_W * T).add_(S, alpha=layer.lambda_W).add_(layer.lambda_b)
                K = (layer.C_W * S).add_(layer.C_b)
                S, T = K, Theta
            elif isinstance(layer, Act):
                if V2 is None:
                    V1.append(_variance(K))
                W2 = V1 if V2 is None else V2
                act = activation(layer.activation)
                S, T = _activate(
                    self._maps.get(act, anywhere), act, K, Theta, V1[turn], W2[turn], full, ntk
                )
                turn += 1
            elif isinstance(layer, AvgPool):
                S, T = _pool(S, layer), _pool(T, layer) if ntk else T
            elif isinstance(layer, GlobalAvgPool):
                S, T = S.mean((1, 2, 3, 4), True), T.mean((1, 2, 3, 4), True)
            else:
                S, T = (_diagonal(v).mean((1, 2))[:, None, None, None, None] for v in (S, T))
        if not (bool(torch.isfinite(K).all()) and bool(torch.isfinite(Theta).all())):
            raise DomainError("The kernel overflows.", "Choose C_W nearer to criticality.")
        return K.reshape(-1), Theta.reshape(-1) if ntk else torch.zeros_like(K).reshape(-1)


def _images(X: ArrayLike | Tensor, device: torch.device | None) -> Tensor:
    X = torch.as_tensor(X).detach()
    if X.ndim != 4 or 0 in X.shape:
        raise DataError(
            f"Images have shape {tuple(X.shape)}, but (N, channels, height, width) is wanted.",
            "Add the missing axes with X[:, None].",
        )
    if X.dtype not in (torch.float32, torch.float64):
        raise DataError(
            f"Images have dtype {X.dtype}; kernels take float32 or float64.", "Use X.float()."
        )
    if not bool(torch.isfinite(X).all()):
        raise DataError("Images hold NaN or infinite values.", "Remove them first.")
    return X.to(X.device if device is None else device, torch.float64)


def _diagonal(K: Tensor) -> Tensor:
    """Entries p = p', (B, y, x)."""
    if K.shape[2] == 1 and K.shape[4] == 1:
        return K[:, :, 0, :, 0]
    return K.diagonal(dim1=1, dim2=2).diagonal(dim1=1, dim2=2)


def _variance(K: Tensor) -> Tensor:
    return _diagonal(K).clone()


def _convolve(S: Tensor, layer: Conv, full: bool) -> Tensor:
    """Mean over the kernel's shifts, common to both positions: first along x, then along y."""
    for dims in ((3, 4), (1, 2)):
        S = _shifts(
            S,
            dims if full and S.shape[dims[1]] > 1 else dims[:1],
            layer.size,
            layer.stride,
            layer.pad,
        )
    return S.mul_(1 / layer.size**2)


def _pool(S: Tensor, layer: AvgPool) -> Tensor:
    stride = layer.stride or layer.size
    for dim in (4, 3, 2, 1):
        S = _shifts(S, (dim,), layer.size, stride, 0)
    return S.mul_(layer.size**-4)


def _shifts(S: Tensor, dims: tuple[int, ...], size: int, stride: int, pad: int) -> Tensor:
    """Σ_δ S[…, s·o + δ − pad, …], the same δ along all of ``dims``; zero outside."""
    n = S.shape[dims[0]]
    count = (n + 2 * pad - size) // stride + 1
    if count < 1:
        raise DataError(
            f"A kernel of size {size} does not fit into {n} positions (padding {pad}).",
            "Use larger images, padding, or fewer strides.",
        )
    shape = list(S.shape)
    for dim in dims:
        shape[dim] = count
    out = S.new_zeros(shape)
    for delta in range(size):
        first = max(0, -((delta - pad) // stride))
        last = min(count - 1, (n - 1 - delta + pad) // stride)
        if last < first:
            continue
        source, target = [slice(None)] * S.ndim, [slice(None)] * S.ndim
        for dim in dims:
            low = first * stride + delta - pad
            source[dim] = slice(low, low + (last - first) * stride + 1, stride)
            target[dim] = slice(first, last + 1)
        out[tuple(target)] += S[tuple(source)]
    return out


def _activate(
    average: Averages,
    act: Activation,
    K: Tensor,
    Theta: Tensor,
    V1: Tensor,
    V2: Tensor,
    full: bool,
    ntk: bool,
) -> tuple[Tensor, Tensor]:
    """⟨σσ⟩ and ⟨σ'σ'⟩Θ, one row of positions at a time so that it stays in cache."""
    S, T = torch.empty_like(K), torch.empty_like(Theta) if ntk else Theta
    for y in range(K.shape[1]):
        row = slice(y, y + 1)
        a = V1[:, row, None, :, None]
        c = V2[:, None, :, None, :] if full and K.shape[2] > 1 else V2[:, row, None, :, None]
        if K[:, row].numel() == 0:
            continue
        ss, dd = average(act, a, K[:, row].contiguous(), c)
        S[:, row] = ss
        if ntk:
            torch.mul(dd, Theta[:, row], out=T[:, row])
    return S, T

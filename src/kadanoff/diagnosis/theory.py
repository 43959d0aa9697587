"""What the theory expects of one drawn network on these inputs, with its spread.

The mean of K is the kernel flow's where that is quick (closed-form activations). The spread from
one network to the next, and everything else, comes from an exact simulation of a few dozen
networks in which no weight is drawn: given the activations s of layer ℓ, the next preactivations
are Gaussian with metric C_b + C_W s sᵀ/n; and going backward, with Q an orthonormal basis of the
rows of s, W = √(C_W/n) (gᵀ Q + G (1 − QᵀQ)), where g are the normals that made z and G is fresh.
Both hold at any width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["Expectation", "expect"]

ELEMENTS = 1 << 17  # values per layer of all networks together: what fits a cache


@dataclass(frozen=True)
class Expectation:
    """Mean and standard deviation over networks, one entry a layer (list index ℓ − 1).

    ``table[name]`` is a pair of tensors (mean, std) of shape (L,); names are those of
    :class:`kadanoff.diagnosis.result.LayerReport`. Entries without meaning are NaN.
    """

    table: dict[str, tuple[Tensor, Tensor]]
    n_networks: int
    source: str


def expect(arch: Any, X: Tensor, generator: torch.Generator) -> Expectation:
    """Simulate the ensemble of ``arch`` on the inputs X (N, n_0) and average what is measured.

    Parameters
    ----------
    arch : Network
        Without skip connections.
    X : Tensor, shape (N, n_0)
    generator : torch.Generator
    """
    X = X.detach().to("cpu", torch.float64).flatten(1)
    count = int(min(32, max(8, ELEMENTS / (len(X) * max(arch.n[1:])))))
    values = _simulate(arch, X, count, generator)
    table = {name: (v.mean(1), v.std(1) * (1 + 1 / count) ** 0.5) for name, v in values.items()}
    source = f"exact simulation of {count} networks"
    if len(X) > 1 and all(act.closed(0, 0, *_ones()) is not None for act in arch.activations):
        from kadanoff.rgflow import flow

        K = flow(arch, X).K
        table["second_moment"] = (K.diagonal(dim1=1, dim2=2).mean(1), table["second_moment"][1])
        source = f"kernel flow; spread from {source}"
    return Expectation(table, count, source)


def _ones() -> tuple[Tensor, Tensor, Tensor]:
    one = torch.ones((), dtype=torch.float64)
    return one, one / 2, one


def _simulate(arch: Any, X: Tensor, count: int, generator: torch.Generator) -> dict[str, Tensor]:
    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float32)

    N, L = len(X), arch.L
    names = ("mean", "second_moment", "correlation", "kurtosis", "jacobian",
             "jacobian_to_output", "zeros", "near_zeros", "dead")  # fmt: skip
    out = {name: torch.full((L, count), torch.nan, dtype=torch.float64) for name in names}
    s = X.expand(count, N, arch.n[0])
    steps: list[tuple[Tensor, Tensor, float, Tensor | None]] = []
    slope: Tensor | None = None
    for index in range(L):
        n, scale = arch.n[index], (arch.C_W[index] / arch.n[index]) ** 0.5
        root, Q = _basis(s)
        g = normal(count, N, arch.n[index + 1])
        z = scale * root @ g.double()
        if arch.C_b[index] > 0:
            z = z + arch.C_b[index] ** 0.5 * normal(count, 1, arch.n[index + 1])
        # correlations near 1 need double precision; backward quantities do not
        Q = Q.float()
        steps.append((g, Q, scale, slope))
        if slope is not None:
            back = _back(normal(*z.shape), g, Q, scale, n, normal) * slope
            out["jacobian"][index - 1] = back.square().sum((1, 2)) / (N * arch.n[index + 1])
        _summarise(z, out, index)
        if index < L - 1:
            act = arch.activations[index]
            s, slope = act(z), act.derivative(1)(z).float()
            _activation_counts(s, out, index)
    delta, size = normal(count, N, arch.n[L]), 1.0
    for index in range(L - 1, -1, -1):
        square = delta.square().mean().clamp_min(1e-30)
        # the scale is kept apart, as it may leave the range of single precision
        delta, size = delta / square.sqrt(), size * square.item()
        total = delta.square().sum((1, 2)).double() * size
        out["jacobian_to_output"][index] = total / (N * arch.n[L])
        g, Q, scale, slope = steps[index]
        if slope is not None:
            delta = _back(delta, g, Q, scale, arch.n[index], normal) * slope
    return out


def _root(gram: Tensor) -> Tensor:
    """Lower triangular square root of positive semi-definite matrices, singular ones included."""
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype)
    size = gram.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None]
    size = size.clamp_min(torch.finfo(gram.dtype).tiny)
    # a jitter this small changes cosines by 1e-12 at most, far below what a model can show
    jitter = 1e4 * torch.finfo(gram.dtype).eps if gram.dtype == torch.float64 else 1e-5
    root, info = torch.linalg.cholesky_ex(gram / size + jitter * eye)
    if bool((info > 0).any()):
        root, _ = torch.linalg.cholesky_ex(gram / size + 1e3 * jitter * eye)
    return root * size.sqrt()


def _basis(s: Tensor) -> tuple[Tensor, Tensor]:
    """Square root of s sᵀ and an orthonormal basis Q of its rows: s = root @ Q."""
    root = _root(s @ s.mT)
    return root, torch.linalg.solve_triangular(root, s, upper=False)


def _back(delta: Tensor, g: Tensor, Q: Tensor, scale: float, n: int, normal: Any) -> Tensor:
    """Wᵀδ for every sample, given that W made z from s; exact at any width."""
    count, N, width = delta.shape
    root = delta if width <= N else _root(delta @ delta.mT)
    fresh = root @ normal(count, root.shape[-1], n)
    return scale * ((delta @ g.mT) @ Q + fresh - (fresh @ Q.mT) @ Q)


def _summarise(z: Tensor, out: dict[str, Tensor], index: int) -> None:
    n, N = z.shape[-1], z.shape[1]
    square = z.square()
    second = square.mean(-1)
    out["mean"][index] = z.mean((1, 2))
    out["second_moment"][index] = second.mean(1)
    fourth = square.square().mean(-1)
    tiny = 1e-300
    out["kurtosis"][index] = ((n + 2) / n * fourth / second.square().clamp_min(tiny) - 3).mean(1)
    if N > 1:
        unit = z / z.norm(dim=-1, keepdim=True).clamp_min(tiny)
        total = unit.sum(1).square().sum(-1) - unit.square().sum((1, 2))
        out["correlation"][index] = total / (N * (N - 1))


def _activation_counts(s: Tensor, out: dict[str, Tensor], index: int) -> None:
    size = s.abs()
    rms = s.square().mean((1, 2)).sqrt()[:, None, None]
    out["zeros"][index] = (s == 0).double().mean((1, 2))
    out["near_zeros"][index] = (size <= 0.01 * rms).double().mean((1, 2))
    out["dead"][index] = (s == 0).all(1).double().mean(1)

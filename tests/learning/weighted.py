"""Posterior of finite networks by importance: metrics from the prior, weighted by the labels.

Given the metric of the last layer the outputs are Gaussian, so that the posterior is a weighted
mean of Gaussian posteriors, without any sampling of outputs (Rao-Blackwell). Only the metric is
drawn, neuron by neuron, which is exact at any width. The part linear in its spread has a known
mean (zero, once the mean of the next metric given this one is taken out) and is regressed away.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

PARTS = ("mean_1", "cov_1", "kernel_shift", "hebbian", "log_evidence_1")


def erf_kernel(G: Tensor, C_b: float, C_W: float) -> Tensor:
    """C_b + C_W <erf erf>_G in closed form, for a batch of metrics."""
    d = 1 + 2 * G.diagonal(dim1=-2, dim2=-1)
    return C_b + C_W * (2 / math.pi) * torch.asin(2 * G / (d[:, :, None] * d[:, None, :]).sqrt())


@dataclass(frozen=True)
class Problem:
    """Which points are observed with which labels and noise, and which one is predicted."""

    train: list[int]
    test: list[int]
    y: Tensor
    noise: float

    @property
    def order(self) -> list[int]:
        return [*self.train, *self.test]


def weighted_posteriors(arch, X: Tensor, problems: list[Problem], draws: int, seed: int):
    """n (posterior at width n - posterior at infinite width), value and error of each part.

    ``arch`` has erf activations; the same drawn metrics serve all problems. Returns a pair of
    dicts for each problem; error from 40 batches.
    """
    generator = torch.Generator().manual_seed(seed)
    batches = [_moments(arch, X, problems, draws // 40, generator) for _ in range(40)]
    found = []
    for k, problem in enumerate(problems):
        runs = [b[k] for b in batches]
        whole = _assemble([torch.stack(m).mean(0) for m in zip(*runs, strict=True)], arch, problem)
        # jackknife: ratios and logarithms of means are not linear
        left_out = []
        for i in range(40):
            rest = [r for j, r in enumerate(runs) if j != i]
            means = [torch.stack(m).mean(0) for m in zip(*rest, strict=True)]
            left_out.append(_assemble(means, arch, problem))
        error = {
            k: (39 * torch.stack([p[k] for p in left_out]).var(0, correction=0)).sqrt()
            for k in PARTS
        }
        found.append((whole, error))
    return found


def _moments(arch, X, problems, draws, generator):
    metric = arch.C_b[0] + arch.C_W[0] * (X @ X.mT) / X.shape[1]
    G, limit = metric.expand(draws, *metric.shape), metric
    controls = []
    for l in range(1, arch.L):
        n = arch.n[l]
        values, vectors = torch.linalg.eigh(metric if l == 1 else G)
        root = vectors * values.clamp_min(0).sqrt()[..., None, :]
        z = root @ torch.randn(draws, G.shape[1], n, generator=generator, dtype=G.dtype)
        s = torch.erf(z)
        expected = erf_kernel(G, arch.C_b[l], arch.C_W[l])
        G = arch.C_b[l] + arch.C_W[l] / n * s @ s.mT
        controls.append(G - expected)
        limit = erf_kernel(limit[None], arch.C_b[l], arch.C_W[l])[0]
    rows, cols = torch.triu_indices(G.shape[1], G.shape[1])
    design = torch.cat([c[:, rows, cols] for c in controls], 1)
    design = torch.cat([torch.ones(draws, 1, dtype=G.dtype), design], 1)
    parts = []
    for problem in problems:
        at = torch.tensor(problem.order)
        parts.append(_parts(G[:, at][:, :, at], limit[at][:, at], problem))
    fitted = torch.linalg.lstsq(design, torch.cat([torch.cat(p, 1) for p in parts], 1)).solution[0]
    sizes = [sum(t.shape[1] for t in p) for p in parts]
    return [
        mean.split([t.shape[1] for t in p])
        for mean, p in zip(fitted.split(sizes), parts, strict=True)
    ]


def _parts(G: Tensor, limit: Tensor, problem: Problem) -> list[Tensor]:
    """Weight of each metric, and weight times what is averaged."""
    y = problem.y
    n_train, n_out = y.shape
    A = slice(0, n_train)
    eye = torch.eye(n_train, dtype=G.dtype)

    def gauss(K):
        inner = K[:, A, A] + problem.noise * eye
        solved = torch.linalg.solve(inner, y.expand(K.shape[0], *y.shape))
        log_p = -0.5 * (y * solved).sum((1, 2)) - 0.5 * n_out * torch.linalg.slogdet(inner)[1]
        cross = K[:, n_train:, A]
        mean = cross @ solved
        cov = K[:, n_train:, n_train:] - cross @ torch.linalg.solve(inner, cross.mT)
        return log_p, mean, cov

    log_0, mean_0, cov_0 = gauss(limit[None])
    log_p, mean, cov = gauss(G)
    w = torch.exp(log_p - log_0)
    d_mean = (mean - mean_0).flatten(1)
    values = [
        torch.ones_like(w)[:, None],
        d_mean,
        (cov - cov_0).flatten(1),
        (G - limit).flatten(1),
        torch.einsum("sa,sb->sab", d_mean, d_mean).flatten(1),
    ]
    return [w[:, None] * v for v in values]


def _assemble(means, arch, problem):
    w, d_mean, d_cov, d_metric, square = means
    n, n_out = arch.n[-2], problem.y.shape[1]
    M = d_mean.numel() // n_out
    shift = d_mean / w
    spread = (square / w).reshape(len(shift), len(shift)) - torch.outer(shift, shift)
    hebbian = spread.reshape(M, n_out, M, n_out).permute(1, 3, 0, 2)
    cov = (d_cov / w).reshape(M, M) + torch.einsum("iixy->xy", hebbian) / n_out
    N = math.isqrt(d_metric.numel())
    return {
        "mean_1": n * shift.reshape(M, n_out),
        "cov_1": n * cov,
        "kernel_shift": n * (d_metric / w).reshape(N, N),
        "hebbian": n * hebbian,
        "log_evidence_1": n * w.log()[0],
    }

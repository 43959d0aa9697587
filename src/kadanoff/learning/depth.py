"""How deep for its width: the depth-to-width ratio by evidence and by mutual information.

At infinite width depth enters the evidence only through the kernel. At order 1/n its finite width
does too: a prior whose metric fluctuates has heavier tails and shared features, which labels may
or may not want. The evidence of networks of a given width is also computed without expanding,
from drawn metrics, since the outputs given the metric are Gaussian.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kadanoff.architecture import Network
from kadanoff.errors import UsageError
from kadanoff.learning.bayes import log_evidence, posterior
from kadanoff.learning.dynamics import as_targets
from kadanoff.learning.tensors import MOST_KINKED, output_tensors

__all__ = ["Candidate", "DepthChoice", "choose_depth", "drawn_evidence", "drawn_metrics"]


@dataclass(frozen=True)
class Candidate:
    """Evidence of one architecture.

    Attributes
    ----------
    arch : MLP
    ratio : float
        Depth over width: the sum of 1/n over the hidden layers.
    infinite_width, order_1 : float
        log p(y) of the infinitely wide network, and with its term of order 1/n (NaN for more points
        than an activation with kinks allows).
    drawn, stderr : float
        log p(y) of the network at its own width, from drawn metrics, and its standard error.
    effective : float
        How many of the drawn metrics carry that estimate; a handful means it cannot be trusted.
    """

    arch: Network
    ratio: float
    infinite_width: float
    order_1: float
    drawn: float
    stderr: float
    effective: float


@dataclass(frozen=True)
class DepthChoice:
    """Architectures compared by evidence, and the ratio that shares the most information.

    Attributes
    ----------
    candidates : tuple of Candidate
    by_evidence : int
        Index of the largest ``drawn`` evidence.
    undecided : tuple of int
        Candidates within two standard errors of the best.
    by_order_1 : int
        Index of the largest evidence at order 1/n.
    by_information : int
        Index of the candidate closest (in the logarithm) to its ``information_ratio``.
    information_ratio : tuple of float
        Of each candidate, depth over width at which its outputs share the most information.
    """

    candidates: tuple[Candidate, ...]
    by_evidence: int
    undecided: tuple[int, ...]
    by_order_1: int
    by_information: int
    information_ratio: tuple[float, ...]

    @property
    def best(self) -> Candidate:
        return self.candidates[self.by_evidence]


def drawn_metrics(arch: Network, X: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    """Metrics of the output layer of random networks, shape (draws, N, N).

    Exact at any width: given a layer's metric its neurons are independent Gaussians.

    Parameters
    ----------
    arch : Network
    X : Tensor, shape (N, n_0)
    draws : int
    generator : torch.Generator

    Raises
    ------
    UsageError
        Not a plain network of independent Gaussian weights.
    """
    if arch.residual or arch.block != "single" or arch.init != "gaussian":
        raise UsageError(
            f"Metrics are drawn for plain networks with Gaussian weights, not {arch!r}.",
            "Use MLP(..., init='gaussian').",
        )
    metric = arch.C_b[0] + arch.C_W[0] * arch.metric(X)
    G = metric[None]
    for l in range(1, arch.L):
        values, vectors = torch.linalg.eigh(G)
        root = vectors * values.clamp_min(0).sqrt()[..., None, :]
        shape = (draws, X.shape[0], arch.n[l])
        s = arch.activations[l - 1](
            root @ torch.randn(shape, generator=generator, dtype=metric.dtype)
        )
        G = arch.C_b[l] + arch.C_W[l] / arch.n[l] * s @ s.mT
    return G.expand(draws, -1, -1)


def drawn_evidence(
    arch: Network,
    X: Tensor,
    y: Tensor,
    noise: float,
    *,
    draws: int = 4096,
    seed: int = 0,
) -> tuple[float, float, float]:
    """log p(y) of networks at their own width: (value, standard error, effective draws).

    Averages the exact Gaussian density of the labels over drawn metrics. Without noise, widths
    below the number of training points make the metric singular.

    Parameters
    ----------
    X : Tensor, shape (N, n_0), y : Tensor, shape (N, n_L)
    noise : float
        Variance of the label noise.

    Raises
    ------
    UsageError
        ``noise`` is not positive.
    """
    if not noise > 0:
        raise UsageError(
            f"noise = {noise}: the metric of a narrow network may be singular.", "Pass noise > 0."
        )
    N, n_out = y.shape
    generator = torch.Generator().manual_seed(seed)
    block = max(1, min(draws, 2**25 // (N * max(arch.n[1:]))))
    logs = []
    for start in range(0, draws, block):
        G = drawn_metrics(arch, X, min(block, draws - start), generator)
        root = torch.linalg.cholesky(G + noise * torch.eye(N, dtype=G.dtype))
        white = torch.linalg.solve_triangular(
            root, y.to(G.dtype).expand(len(G), N, n_out), upper=False
        )
        logdet = 2 * root.diagonal(dim1=1, dim2=2).log().sum(1)
        logs.append(
            -0.5 * (white**2).sum((1, 2)) - 0.5 * n_out * (logdet + N * math.log(2 * math.pi))
        )
    log_p = torch.cat(logs)
    w = torch.exp(log_p - log_p.max())
    mean = w.mean()
    stderr = w.std() / mean / math.sqrt(draws)
    effective = w.sum() ** 2 / (w**2).sum()
    return float(mean.log() + log_p.max()), float(stderr), float(effective)


def choose_depth(
    candidates: Sequence[Network],
    X: Tensor,
    y: Tensor,
    noise: float,
    *,
    draws: int = 4096,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> DepthChoice:
    r"""Compare architectures of different depth and width by the evidence of the labels.

    Parameters
    ----------
    candidates : sequence of MLP
        For example one width and several depths.
    X : Tensor, shape (N, n_0)
        N at most 64, as for all that is of order 1/n.
    y : Tensor, shape (N, n_L) or integer classes (N,)
    noise : float
        Variance of the label noise, > 0.
    draws : int
        Metrics drawn for each candidate; the same random numbers for all.

    Returns
    -------
    DepthChoice

    Raises
    ------
    UsageError
        No candidates, or noise that is not positive.

    Notes
    -----
    log p(y) to order 1/n: Roberts, Yaida and Hanin (2022), chapter 6; the ratio of maximal
    information between outputs, r* = 4/((20 + 3 n_L) nu): appendix A.
    Tested by: tests/learning/test_depth.py (labels drawn from networks of known width).

    Examples
    --------
    >>> import torch, kadanoff as kd
    >>> from kadanoff.learning import choose_depth
    >>> X = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> y = torch.tensor([[1.0], [-1.0], [0.5]])
    >>> nets = [kd.MLP(2, [32] * d, 1, "relu", C_W=2.0) for d in (1, 2, 4)]
    >>> choice = choose_depth(nets, X, y, noise=0.1, draws=512)
    >>> len(choice.candidates)
    3
    """
    from kadanoff.rgflow.information import aspect

    if not candidates:
        raise UsageError("There are no candidates to choose from.", "Pass at least one.")
    found, ratios = [], []
    for k, arch in enumerate(candidates):
        points = arch.inputs(X)
        target = as_targets(y, points.shape[0], arch.n_out).y
        drawn, stderr, effective = drawn_evidence(
            arch, points, target, noise, draws=draws, seed=seed
        )
        infinite, first = _expanded(arch, points, target, noise)
        found.append(
            Candidate(arch, arch.ratio, infinite, infinite + first, drawn, stderr, effective)
        )
        ratios.append(aspect(arch, points[:1]).r_star)
        if progress is not None:
            progress(k + 1, len(candidates))
    order = range(len(found))
    best = max(order, key=lambda k: found[k].drawn)
    top = found[best]
    near = [
        k
        for k in order
        if k == best or top.drawn - found[k].drawn <= 2 * math.hypot(top.stderr, found[k].stderr)
    ]
    return DepthChoice(
        tuple(found),
        best,
        tuple(near),
        max(order, key=lambda k: -math.inf if math.isnan(found[k].order_1) else found[k].order_1),
        min(order, key=lambda k: abs(math.log(max(found[k].ratio, 1e-300) / ratios[k]))),
        tuple(ratios),
    )


def _expanded(arch: Network, X: Tensor, y: Tensor, noise: float) -> tuple[float, float]:
    """log p(y) at infinite width, and its correction with the 1/n in it."""
    from kadanoff.rgflow import flow

    infinite = log_evidence(flow(arch, X).K[-1], y, noise)
    if X.shape[0] > MOST_KINKED and not all(a.smooth for a in arch.activations):
        return infinite, math.nan
    rule, replicas = output_tensors(arch, X, "bayes")
    results = []
    for x in replicas:
        post = posterior(x.K, y, noise=noise, G1=x.G1, V=x.V, n=arch.n[-2])
        results.append(torch.as_tensor(post.terms["log_evidence_1"]))
    return infinite, float(rule.value(results))

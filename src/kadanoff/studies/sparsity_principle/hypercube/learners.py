"""Learners for :func:`off_training`: all patterns of labels at once."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from kadanoff.activations import activation
from kadanoff.architecture import Network
from kadanoff.studies.sparsity_principle.hypercube.labelings import Learner

__all__ = [
    "decision_tree",
    "kernel_machine",
    "nearest_neighbour",
    "neural_network",
    "trained_function",
]


def _signs(values: np.ndarray) -> np.ndarray:
    """±1; what rounding leaves of zero counts as +1, so that answers are the same everywhere."""
    return np.where(values < -1e-9, -1, 1)


def nearest_neighbour(k: int = 1) -> Learner:
    """Majority of the k nearest training corners (all that tie at the k-th distance)."""

    def learn(X_train: np.ndarray, labels: np.ndarray, X: np.ndarray) -> np.ndarray:
        distance = ((X[:, None] - X_train) ** 2).sum(2)
        reach = np.sort(distance, 1)[:, min(k, len(X_train)) - 1]
        votes = (distance <= reach[:, None]).astype(float)
        return _signs(labels @ votes.T)

    return learn


def decision_tree(max_depth: int | None = None) -> Learner:
    """scikit-learn's CART, one tree for every pattern of labels."""

    def learn(X_train: np.ndarray, labels: np.ndarray, X: np.ndarray) -> np.ndarray:
        from sklearn.tree import DecisionTreeClassifier

        trees = (
            DecisionTreeClassifier(max_depth=max_depth, random_state=0).fit(X_train, y)
            for y in labels
        )
        return np.stack([tree.predict(X) for tree in trees]).astype(int)

    return learn


def kernel_machine(arch: Network, which: str = "ntk", ridge: float = 1e-8) -> Learner:
    """Kernel regression with the NTK or NNGP kernel of an infinite network.

    Parameters
    ----------
    arch : MLP or Residual
        With ``n_in`` equal to the number of bits.
    which : {"ntk", "nngp"}
        Trained by gradient flow, or Bayesian.
    ridge : float
        Relative to the mean of the diagonal.
    """
    from kadanoff.kernels import kernel

    def learn(X_train: np.ndarray, labels: np.ndarray, X: np.ndarray) -> np.ndarray:
        everything = torch.from_numpy(np.concatenate([X_train, X]))
        gram = kernel(arch)(everything, everything, get=which).numpy()
        M = len(X_train)
        A = gram[:M, :M]
        A = A + ridge * np.trace(A) / M * np.eye(M)
        return _signs(labels @ np.linalg.solve(A, gram[:M, M:]))

    return learn


def neural_network(
    widths: Sequence[int] = (32,),
    *,
    act: Any = "relu",
    C_W: float = 2.0,
    rate: float = 0.05,
    steps: int = 300,
    seed: int = 0,
) -> Learner:
    """A multilayer perceptron trained on the squared error by full-batch gradient descent.

    All patterns of labels are trained at once in batched matrix products, from one draw of the
    initial weights.
    """
    sigma = activation(act)

    def learn(X_train: np.ndarray, labels: np.ndarray, X: np.ndarray) -> np.ndarray:
        outputs = _train(sigma, widths, C_W, rate, steps, seed, X_train, labels, X)
        return _signs(outputs[-1])

    return learn


def _train(sigma, widths, C_W, rate, steps, seed, X_train, labels, X) -> list[np.ndarray]:
    """Outputs on ``X`` before and after training, each (P, 2^n)."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [X.shape[1], *widths, 1]
    P = len(labels)
    weights, biases = [], []
    for n_in, n_out in itertools.pairwise(sizes):
        W = torch.randn(n_in, n_out, generator=generator, dtype=torch.float64)
        weights.append((W * (C_W / n_in) ** 0.5).expand(P, -1, -1).clone().requires_grad_(True))
        biases.append(torch.zeros(P, 1, n_out, dtype=torch.float64, requires_grad=True))
    parameters = [*weights, *biases]

    def forward(x: torch.Tensor) -> torch.Tensor:
        z = x.expand(P, -1, -1)
        for l, (W, b) in enumerate(zip(weights, biases, strict=True)):
            z = torch.baddbmm(b, sigma(z) if l else z, W)
        return z[..., 0]

    x, y = torch.from_numpy(X_train), torch.from_numpy(np.asarray(labels, dtype=float))
    every = torch.from_numpy(X)
    with torch.no_grad():
        before = forward(every).numpy().copy()
    for _ in range(steps):
        loss = 0.5 * (forward(x) - y).square().mean(1).sum()
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for p, g in zip(parameters, gradients, strict=True):
                p.sub_(rate * g)
    with torch.no_grad():
        return [before, forward(every).numpy()]


def trained_function(
    labels: np.ndarray,
    train,
    *,
    widths: Sequence[int] = (64, 64),
    act: Any = "relu",
    C_W: float = 2.0,
    rate: float = 0.05,
    steps: int = 1000,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """The function of one network before and after training on some corners.

    Parameters
    ----------
    labels : ndarray, shape (2^n,) or (P, 2^n)
        Targets on all corners; P of them train P networks from one draw.
    train : sequence of int
        Corners shown.

    Returns
    -------
    before, after : ndarray, shape of ``labels``
        Outputs on all corners; their :func:`walsh` spectra show what
        training makes of a network.
    """
    from kadanoff.studies.sparsity_principle.hypercube.parities import points

    labels = np.asarray(labels, dtype=float)
    rows = np.atleast_2d(labels)
    X = points(int(rows.shape[1]).bit_length() - 1)
    shown = np.asarray(train, dtype=int)
    before, after = _train(
        activation(act), widths, C_W, rate, steps, seed, X[shown], rows[:, shown], X
    )
    return before.reshape(labels.shape), after.reshape(labels.shape)

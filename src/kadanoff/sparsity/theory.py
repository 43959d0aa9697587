r"""What theory says about sparsity: the fraction active at initialisation, and the first drift.

At initialisation a preactivation is Gaussian with the variance K of the kernel flow. What starts
the sparsification is the mean gradient on the last hidden activations: for features p ≥ 0 read
by a random V with entries N(0, σ_v²), Stein's lemma gives

.. math:: E[∂ℓ_{CE}/∂p_i] = σ_v² p_i (1 - E‖S‖²), \qquad E[∂ℓ_{MSE}/∂p_i] = K σ_v² p_i,

with S the softmax of the logits, K outputs, and ℓ_MSE = ½‖Vp - y‖². It is an effective decay of
every active neuron. Source: Li et al., arXiv:2210.06313 (sign of the drift; equation number not
checked); the closed form with E‖S‖² is derived here and held by ``tests/sparsity/test_theory.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kadanoff.architecture import Network
from kadanoff.errors import DomainError, UsageError
from kadanoff.sparsity.blocks import find_blocks
from kadanoff.sparsity.inputs import examples, output_of
from kadanoff.trace.losses import IGNORED, DefaultLoss, loss_for
from kadanoff.trace.sandbox import untouched

__all__ = [
    "DriftMeasurement",
    "both_active",
    "drift",
    "drift_monte_carlo",
    "fraction_active",
    "fraction_at_init",
    "measure_drift",
    "softmax_square",
]


def fraction_active(
    activation: Callable[[Tensor], Tensor], K: float, threshold: float = 0.0, mean: float = 0.0
) -> float:
    """P(|σ(z)| ≥ threshold) for z ~ N(mean, K); for threshold 0, P(σ(z) ≠ 0).

    The set of active z is found on a grid of ±10 standard deviations and its borders by bisection;
    its Gaussian measure is then exact. Absolute error below 1e-9 unless an active interval is
    narrower than 1e-3 standard deviations.

    Parameters
    ----------
    activation : callable
        σ, entry by entry.
    K : float
        Variance of z.
    threshold : float
    mean : float
        Of z.

    Raises
    ------
    DomainError
        K or the threshold is negative or not finite.
    """
    if not (K >= 0 and math.isfinite(K)):
        raise DomainError(f"K = {K} is not a variance.", "Pass K >= 0.")
    if not (threshold >= 0 and math.isfinite(threshold)):
        raise DomainError(f"threshold = {threshold} is negative.", "Pass threshold >= 0.")

    def active(z: Tensor) -> Tensor:
        a = activation(z).abs()
        return a >= threshold if threshold > 0 else a != 0

    if K == 0:
        return float(active(torch.tensor([mean], dtype=torch.float64)))
    scale = math.sqrt(K)
    u = torch.linspace(-10, 10, 20002, dtype=torch.float64)
    on = active(mean + scale * u)
    flips = (on[1:] != on[:-1]).nonzero().squeeze(1)
    low, high, at = u[flips], u[flips + 1], on[flips]
    for _ in range(50):
        middle = (low + high) / 2
        same = active(mean + scale * middle) == at
        low, high = torch.where(same, middle, low), torch.where(same, high, middle)
    edges = torch.special.ndtr((low + high) / 2)
    edges = torch.cat([edges.new_zeros(1), edges, edges.new_ones(1)])
    state = torch.cat([on[:1], on[flips + 1]])
    return float((edges.diff() * state).sum())


def both_active(correlation: float) -> float:
    """P(z1 > 0 and z2 > 0) for two Gaussians: 1/4 + arcsin(ρ)/(2π).

    Twice this is the overlap of the active sets of two inputs of a ReLU layer at initialisation.
    """
    if not -1.0 <= correlation <= 1.0:
        raise DomainError(f"correlation = {correlation} is not in [-1, 1].", "Check the kernel.")
    return 0.25 + math.asin(correlation) / (2 * math.pi)


def fraction_at_init(arch: Network, X: Tensor, threshold: float = 0.0) -> Tensor:
    """Active fraction of every hidden layer at initialisation, by the kernel flow.

    Parameters
    ----------
    arch : kadanoff.MLP or Residual
    X : Tensor (N, n_0)
    threshold : float
        Magnitude from which an activation counts; 0: exact zeros do not count.

    Returns
    -------
    Tensor (L - 1, N), infinite width.
    """
    from kadanoff.rgflow import flow

    K = flow(arch, X, order=0).K
    rows = []
    for layer, act in enumerate(arch.activations):
        diagonal = K[layer].diagonal().tolist()
        rows.append([fraction_active(act, k, threshold) for k in diagonal])
    return torch.tensor(rows, dtype=torch.float64)


def softmax_square(variance: float, n_outputs: int) -> float:
    r"""E‖softmax(u)‖² for n independent logits u ~ N(0, variance).

    .. math:: n ∫_0^∞ t\, E[e^{2u} e^{-t e^u}]\, E[e^{-t e^u}]^{n-1} dt

    which follows from 1/x² = ∫ t e^{-tx} dt. Both integrals by the trapezoid rule in u and log t,
    where the integrands fall off doubly exponentially; relative error below 1e-8.
    """
    if n_outputs < 1 or variance < 0 or not math.isfinite(variance):
        raise DomainError(
            f"n_outputs = {n_outputs}, variance = {variance}.", "Both must be positive."
        )
    if n_outputs == 1:
        return 1.0
    if variance == 0:
        return 1.0 / n_outputs
    s = math.sqrt(variance)
    u = np.linspace(-12, 12, 2401)
    weight = np.exp(-(u**2) / 2)
    weight /= weight.sum()
    top = s * 12 + 5
    log_t = np.linspace(-top - math.log(n_outputs) - 5, top + 5, 4001)
    x = s * u[None, :] + log_t[:, None]
    # e^{-t e^u} (t e^u)^2, with dt t = d(log t) t²
    decay = np.exp(-np.exp(np.minimum(x, 60.0)))
    first = (weight * decay).sum(1)
    second = (weight * np.exp(2 * np.minimum(x, 60.0)) * decay).sum(1)
    return float(n_outputs * (second * first ** (n_outputs - 1)).sum() * (log_t[1] - log_t[0]))


def drift(p: Tensor, sigma_v: float, n_outputs: int, loss: str = "cross_entropy") -> Tensor:
    """Mean gradient on each activation at initialisation, E_V[∂ℓ/∂p_i], in closed form.

    Parameters
    ----------
    p : Tensor (m,)
        Activations, fixed.
    sigma_v : float
        Standard deviation of the readout's entries (no 1/√m taken out).
    n_outputs : int
    loss : {"cross_entropy", "mse"}
        MSE is ½‖Vp - y‖², with y independent of V.

    Returns
    -------
    Tensor (m,), float64
    """
    p = p.double()
    if loss == "mse":
        return n_outputs * sigma_v**2 * p
    if loss != "cross_entropy":
        raise UsageError(f"There is no loss {loss!r}.", "Choose cross_entropy or mse.")
    square = softmax_square(float(sigma_v**2 * p.square().sum()), n_outputs)
    return sigma_v**2 * p * (1.0 - square)


def drift_monte_carlo(
    p: Tensor,
    sigma_v: float,
    n_outputs: int,
    loss: str = "cross_entropy",
    n_draws: int = 1000,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """The same by drawing V and a random class: (mean, standard error), each (m,), float64.

    Parameters
    ----------
    p : Tensor (m,)
        Activations, fixed.
    sigma_v : float
        Standard deviation of the readout's entries (no 1/√m taken out).
    n_outputs : int
    loss : {"cross_entropy", "mse"}
    n_draws : int
    seed : int
    """
    generator = torch.Generator().manual_seed(seed)
    p = p.double()
    total, square = torch.zeros_like(p), torch.zeros_like(p)
    for _ in range(n_draws):
        v = sigma_v * torch.randn(n_outputs, len(p), generator=generator, dtype=torch.float64)
        y = torch.zeros(n_outputs, dtype=torch.float64)
        y[torch.randint(n_outputs, (), generator=generator)] = 1.0
        out = v @ p
        residual = (torch.softmax(out, 0) if loss == "cross_entropy" else out) - y
        gradient = residual @ v
        total += gradient
        square += gradient.square()
    mean = total / n_draws
    return mean, ((square / n_draws - mean**2) / (n_draws - 1)).clamp(min=0).sqrt()


@dataclass(frozen=True)
class DriftMeasurement:
    """Slope of ∂ℓ/∂a against a over active neurons, per block; positive: neurons are pushed off.

    ``predicted`` is the closed form for the block whose second matrix is the readout, else None.
    """

    name: str
    slope: float
    stderr: float
    predicted: float | None


def measure_drift(model: nn.Module, data: Any) -> list[DriftMeasurement]:
    """Measure the drift of the gradient on the hidden activations of a model, on its own data.

    The gradient is that of one token's loss (the mean loss times the number of targets). The
    slope is Σ a ∂ℓ/∂a / Σ a² over tokens and neurons; its error comes from the tokens.

    Raises
    ------
    UsageError
        The data have no targets.
    """
    example = examples(data, model, 1)[0]
    if example.targets is None:
        raise UsageError("The drift needs targets.", "Pass data = (inputs, targets).")
    blocks, finder = find_blocks(model, example)
    kept: dict[str, Tensor] = {}
    handles = []
    for block in blocks:

        def grab(_module, args, name=block.name) -> None:
            if args[0].requires_grad:
                args[0].retain_grad()
                kept[name] = args[0]

        handles.append(block.down.module.register_forward_pre_hook(grab))
    try:
        with untouched(model), torch.enable_grad():
            model.eval()
            result = example.run(model)
            output, loss = output_of(result), loss_for(result, example.targets)
            assert loss is not None  # there are targets
            (loss(result, example.targets) * _tokens(loss, output, example.targets)).backward()
    finally:
        for handle in handles:
            handle.remove()
    found = []
    for block in blocks:
        a = kept.get(block.name)
        if a is not None and a.grad is not None:
            last = finder.linears[-1].path == block.down.path
            predicted = _predicted(loss, output, block.down.rows()) if last else None
            found.append(_drift_of(block.name, a.detach(), a.grad, predicted))
    return found


def _tokens(loss: DefaultLoss, output: Tensor, targets: Tensor) -> float:
    """What turns the mean loss into the sum over tokens of the losses the theory speaks of."""
    if loss.name == "mse":
        return output.numel() / 2  # half the squared error of a token, summed over outputs
    if loss.axis is None or targets.is_floating_point():
        return len(targets)
    return int((targets != IGNORED).sum())


def _drift_of(name: str, a: Tensor, gradient: Tensor, predicted: float | None) -> DriftMeasurement:
    values = a.reshape(-1, a.shape[-1]).double()
    pulls = (values * gradient.reshape(values.shape).double()).sum(1)
    squares = values.square().sum(1)
    slope = float(pulls.sum() / squares.sum())
    spread = float((pulls - slope * squares).square().sum().sqrt() / squares.sum())
    return DriftMeasurement(name, slope, spread, predicted)


def _predicted(loss: DefaultLoss, output: Tensor, V: Tensor) -> float | None:
    """The closed form for the readout V (n_out, m), None where it is no readout or has none."""
    if V.shape[0] != output.shape[-1]:
        return None
    variance = float(V.double().square().mean())
    if loss.name == "mse":
        return V.shape[0] * variance
    if loss.name == "cross entropy":
        squares = torch.softmax(output.detach().double(), -1).square().sum(-1)
        return variance * (1 - float(squares.mean()))
    return None

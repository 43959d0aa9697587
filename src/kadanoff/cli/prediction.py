"""What ``kadanoff predict`` reports of one network: outputs, errors, speed, the loss curve."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kadanoff.architecture import Network
from kadanoff.errors import UsageError
from kadanoff.learning import (
    Prediction,
    as_targets,
    largest_stable_rate,
    loss_curve,
    modes,
    predict,
    torch_rate,
)
from kadanoff.learning.prediction import blocks
from kadanoff.style.progress import reporting

if TYPE_CHECKING:
    from kadanoff.cli.predict import More, Points, TrainingOptions

__all__ = ["predicted"]

_LONGEST = 10_000
_SHARES = (0.5, 0.9, 0.99)
# terms of the correction at order 1/n, by method
_TERMS = {"bayes": ("mean_1",), "gradient": ("Delta_H", "dH", "ddI", "ddII", "H1")}


def predicted(
    arch: Network,
    data: tuple[Tensor, Tensor],
    points: Points,
    training: TrainingOptions,
    more: More,
    *,
    seed: int,
    progress: str,
) -> dict[str, Any]:
    """Everything the command reports, as it goes into the JSON.

    Parameters
    ----------
    arch : Network
    data : pair of Tensor
        Inputs (train + test, n_0) and targets, training points first.
    points, training, more
        The panels of the command.
    seed : int
        Of the networks that are trained beside the prediction.
    progress : str
        As ``--progress``.
    """
    X, y = data
    X_train, X_test = X[: points.train], X[points.train :]
    y_train, y_test = y[: points.train], y[points.train :]
    with reporting(progress, "evaluating the 1/n tensors") as report:
        found = predict(
            arch,
            X_train,
            y_train,
            X_test,
            order=training.order,
            method=training.method,
            t=training.time,
            eta=training.eta,
            ridge=training.ridge,
            noise=training.noise,
            algorithm=training.algorithm,
            progress=report,
        )
    result: dict[str, Any] = {
        "architecture": repr(arch),
        "data": points.data,
        "train": points.train,
        "test": points.test,
        "order": training.order,
        "method": training.method,
        "t": training.time,
        "eta": training.eta,
        "notes": list(found.notes),
    }
    targets = y_test
    if found.classes is not None:
        targets = (y_test[:, None] == found.classes[None]).double()
        result |= _accuracy(found, y_test)
    result |= _errors(found, targets, training.noise if training.method == "bayes" else 0.0)
    labels = as_targets(y_train, points.train, arch.n_out).y
    kernels = blocks(arch, arch.inputs(X_train), labels, arch.inputs(X_test))
    result |= _speed(kernels.Theta_AA, kernels.y, training.eta, more.batch)
    if training.method == "bayes":
        result["log_evidence"] = found.log_evidence
    if found.leave_one_out is not None:
        result["leave_one_out_mse"] = found.leave_one_out.mean_squared_error
    if more.networks:
        edge = result["largest_stable_eta"]
        result["loss_curve"] = _loss_curve(
            arch, X_train, y_train, training, more.networks, edge, seed=seed, progress=progress
        )
    result["points"] = [
        {"mean": mean, "std": std, "target": target}
        for mean, std, target in zip(found.mean.tolist(), found.std.tolist(), targets.tolist())
    ]
    if found.classes is not None:
        for point, label, target in zip(result["points"], found.labels.tolist(), y_test.tolist()):
            point |= {"class": label, "target_class": target}
    if training.order == 1:
        result |= _order_1(found, arch)
    return result


def _accuracy(found: Prediction, y: Tensor) -> dict[str, float]:
    share = float((found.labels == y).double().mean())
    return {"accuracy": share, "accuracy_stderr": math.sqrt(share * (1 - share) / len(y))}


def _order_1(found: Prediction, arch: Network) -> dict[str, Any]:
    """Size of the correction, of each of its terms, and its numerical error."""
    leading = "infinite_width" if "infinite_width" in found.terms else "mean_0"
    names = _TERMS["bayes" if found.method == "bayes" else "gradient"]
    return {
        "width": arch.n[1],
        "correction": _rms(found.mean - found.terms[leading]),
        "correction_terms": {name: _rms(found.terms[name]) for name in names},
        "numerical_error": float(torch.as_tensor(found.terms["quadrature_error"]).max()),
    }


def _rms(x: Tensor | float) -> float:
    size = torch.as_tensor(x)
    return float(size.norm() / size.numel() ** 0.5)


def _errors(found: Prediction, target: Tensor, noise: float) -> dict[str, float]:
    """Squared error of the mean network, and of one network; how often 2 std hold the target.

    A target is the function plus label noise of variance ``noise``: both spread it.
    """
    off = found.mean - target.reshape(found.mean.shape)
    squares = (off**2).mean(1)
    bias, variance = found.expected_error(target)
    spread_of_target = (found.std[:, None] ** 2 + noise).sqrt()
    inside = off.abs() <= 2 * spread_of_target
    # one test point has no spread
    spread = float(squares.std()) / math.sqrt(len(squares)) if len(squares) > 1 else math.nan
    return {
        "mse_of_mean": bias,
        "mse_stderr": spread,
        "variance": variance,
        "mse_of_one_network": bias + variance,
        "mse_of_zero": float((target**2).mean()),
        "inside_two_std": float(inside.double().mean()),
    }


def _speed(theta: Tensor, y: Tensor, eta: float | None, batch: int | None) -> dict[str, Any]:
    """Stability and time scales of training, read off the NTK of the training points."""
    found = modes(theta, y, eta)
    lr = torch_rate(largest_stable_rate(theta, batch, reduction="mean"), y.shape[1])
    result: dict[str, Any] = {
        "largest_stable_eta": found.largest_stable_rate,
        "largest_stable_torch_lr": lr,
        "batch": batch,
        "fastest_time": float(found.time[0]),
        "slowest_time": float(found.time[-1]),
        "labels_learned": [{"share": share, "time": found.time_to_fit(share)} for share in _SHARES],
    }
    if batch is not None:
        result["largest_stable_eta_of_batch"] = largest_stable_rate(theta, batch, reduction="sum")
    return result


def _loss_curve(
    arch: Network,
    X: Tensor,
    y: Tensor,
    training: TrainingOptions,
    networks: int,
    edge: float,
    *,
    seed: int,
    progress: str,
) -> dict[str, Any]:
    """Predicted loss beside that of real networks; half the largest stable step by default."""
    step = 0.5 * edge if training.eta is None else training.eta
    length = training.time if training.eta is not None else training.time / step
    steps = 1000 if math.isinf(length) else max(1, round(length))
    if steps > _LONGEST:
        raise UsageError(
            f"{steps} steps of {networks} networks would take long.", f"Pass --time <= {_LONGEST}."
        )
    with reporting(progress, "training networks") as report:
        curve = loss_curve(
            arch,
            X,
            y,
            eta=step,
            steps=steps,
            networks=networks,
            ridge=training.ridge,
            seed=seed,
            points=12,
            progress=report,
        )
    assert curve.measured is not None
    assert curve.stderr is not None
    return {
        "eta": step,
        "networks": networks,
        "steps": curve.steps.tolist(),
        "predicted": curve.predicted.tolist(),
        "measured": curve.measured.tolist(),
        "stderr": curve.stderr.tolist(),
    }

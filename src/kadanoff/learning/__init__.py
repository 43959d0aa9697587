"""Predictions about the trained network: gradient descent, Bayes, finite width, spectra."""

from kadanoff.learning.bayes import (
    LeaveOneOut,
    Posterior,
    Selection,
    best_noise,
    hebbian_variance,
    leave_one_out,
    log_evidence,
    posterior,
    select,
)
from kadanoff.learning.dynamics import Blocks, Targets, as_targets
from kadanoff.learning.finite_width import FiniteWidth, end_of_training
from kadanoff.learning.gradient_descent import expected_loss, trained_covariance, trained_mean
from kadanoff.learning.prediction import Prediction, blocks, predict
from kadanoff.learning.spectrum import Modes, largest_stable_rate, modes, torch_rate

__all__ = [
    "Blocks",
    "FiniteWidth",
    "LeaveOneOut",
    "Modes",
    "Posterior",
    "Prediction",
    "Selection",
    "Targets",
    "as_targets",
    "best_noise",
    "blocks",
    "end_of_training",
    "expected_loss",
    "hebbian_variance",
    "largest_stable_rate",
    "leave_one_out",
    "log_evidence",
    "modes",
    "posterior",
    "predict",
    "select",
    "torch_rate",
    "trained_covariance",
    "trained_mean",
]

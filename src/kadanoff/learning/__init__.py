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
from kadanoff.learning.depth import Candidate, DepthChoice, choose_depth, drawn_evidence
from kadanoff.learning.dynamics import Blocks, Targets, as_targets
from kadanoff.learning.finite_width import FiniteWidth, end_of_training
from kadanoff.learning.finite_width_cov import covariance_terms
from kadanoff.learning.gradient_descent import expected_loss, trained_covariance, trained_mean
from kadanoff.learning.loss_curve import LossCurve, loss_curve
from kadanoff.learning.prediction import Prediction, blocks, predict
from kadanoff.learning.spectrum import Modes, largest_stable_rate, modes, torch_rate

__all__ = [
    "Blocks",
    "Candidate",
    "DepthChoice",
    "FiniteWidth",
    "LeaveOneOut",
    "LossCurve",
    "Modes",
    "Posterior",
    "Prediction",
    "Selection",
    "Targets",
    "as_targets",
    "best_noise",
    "blocks",
    "choose_depth",
    "covariance_terms",
    "drawn_evidence",
    "end_of_training",
    "expected_loss",
    "hebbian_variance",
    "largest_stable_rate",
    "leave_one_out",
    "log_evidence",
    "loss_curve",
    "modes",
    "posterior",
    "predict",
    "select",
    "torch_rate",
    "trained_covariance",
    "trained_mean",
]

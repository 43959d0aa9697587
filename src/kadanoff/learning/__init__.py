"""Predictions about the trained network: gradient descent, Bayes, finite width, spectra.

``bayes``             Bayesian inference with the network as prior
``correction``        Measuring the order 1/n of trained networks: a small difference
``corrections``       Assembles the prediction at order 1/n
``depth``             How deep for its width
``dynamics``          Kernel dynamics in the eigenbasis
``finite_width``      The fully trained network at order 1/n
``finite_width_cov``  Covariance over initialisations of the fully trained network at order 1/n
``gradient_descent``  The ensemble of networks trained by gradient flow or descent
``inference``         Assembles Bayesian inference at order 1/n: blocks of test points, replicas
``losses``            The training loss, predicted by the kernel and measured on real networks
``prediction``        `predict`: from an architecture and data to the ensemble of trained networks
``response``          How the end of training answers to each order-1/n piece of the network
``spectrum``          Speed and stability of training, read off the spectrum of the NTK
``tensors``           Order-1/n tensors of the output layer, asked of the flow
``terms``             The contributions that a prediction is the sum of
``trained``           Ensembles of real networks, trained in a batch, to hold predictions against
"""

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
from kadanoff.learning.losses import LossCurve, loss_curve
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

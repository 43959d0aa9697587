"""Exact priors of finite networks at one input: densities, tails, quantiles, samples.

Zavatone-Veth & Pehlevan, "Exact marginal prior distributions of finite Bayesian neural networks"
(2021), by one tilted Mellin–Barnes integral in place of Meijer functions and their mixtures.

``contours``      Inversion of E[rᵃ] along tilted contours
``distribution``  The exact prior of a finite network's output at one input
``expansion``     Near-Gaussian densities: what orders 1/n, 1/n², … make of the law of the outputs
``mellin``        ln E[rᵃ] of the output's norm for complex a
"""

from kadanoff.priors.distribution import ExactPrior, exact, of_network
from kadanoff.priors.expansion import edgeworth, near_gaussian

__all__ = ["ExactPrior", "edgeworth", "exact", "near_gaussian", "of_network"]

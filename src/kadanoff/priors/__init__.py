"""Exact priors of finite networks at one input: densities, tails, quantiles, samples.

Zavatone-Veth & Pehlevan, "Exact marginal prior distributions of finite Bayesian neural networks"
(2021), by one tilted Mellin–Barnes integral in place of Meijer functions and their mixtures.
"""

from kadanoff.priors.distribution import ExactPrior, exact, of_network
from kadanoff.priors.expansion import edgeworth, near_gaussian

__all__ = ["ExactPrior", "edgeworth", "exact", "near_gaussian", "of_network"]

"""Exact priors of finite networks at one input: densities, tails, quantiles, samples.

Zavatone-Veth & Pehlevan, "Exact marginal prior distributions of finite Bayesian neural networks"
(2021), by one tilted Mellin–Barnes integral in place of Meijer functions and their mixtures.
"""

from kadanoff.priors.distribution import ExactPrior, exact
from kadanoff.priors.edgeworth import edgeworth

__all__ = ["ExactPrior", "edgeworth", "exact"]

"""Expectations over jointly Gaussian variables, each with an estimate of its own error.

Only ``averages``, made for very many pairs, promises a tolerance instead. Nothing else in the
library integrates: recursions, susceptibilities and kernels all come here.
"""

from kadanoff.gaussian.mehler import averages
from kadanoff.gaussian.one import Estimate, one
from kadanoff.gaussian.pair import pair
from kadanoff.gaussian.two import two

__all__ = ["Estimate", "averages", "one", "pair", "two"]

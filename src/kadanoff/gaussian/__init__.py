"""Expectations over jointly Gaussian variables, each with an estimate of its own error.

Only ``averages``, made for very many pairs, promises a tolerance instead. Nothing else in the
library averages over Gaussian variables: recursions, susceptibilities and kernels all come here.

``batches``      Subsets of up to four of many samples, hundreds of subsets at a time
``cholesky``     Factors of covariances of any rank
``conditioned``  Quadruples of dozens of samples: a plane integral for each pair, others expanded
``double``       Two variables by nested panels, for integrands with kinks
``hermite``      Hermite polynomials of one and of several variables
``kinked``       Nodes of several variables, in panels cut wherever a kink may lie
``lattices``     Up to four samples: a body-centred lattice of Cholesky coordinates
``mehler``       Very many pairs at once: what compiled kernels are made from
``pairs``        One pair of samples, elementwise, with closed forms where they exist
``plane``        Nodes of a plane Gaussian
``repeated``     Four factors at one or two distinct samples
``replicas``     Results of a rule computed more than once: value and error
``rules``        Averages of four over all choices of samples: which of the rules takes them
``single``       One variable, and what an average with its error is
``smeared``      Functions smeared by a Gaussian, tabled for any mean and width
``sobol``        Scrambled Sobol points, for kinks in more dimensions than panels treat
``subsets``      Which products of functions sit at which sample of a subset
``sums``         Sums over nodes of products of functions, for all choices of samples
"""

from kadanoff.gaussian.double import two
from kadanoff.gaussian.mehler import averages
from kadanoff.gaussian.pairs import pair
from kadanoff.gaussian.single import Estimate, one

__all__ = ["Estimate", "averages", "one", "pair", "two"]

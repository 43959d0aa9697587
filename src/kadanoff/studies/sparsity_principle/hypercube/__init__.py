"""Functions on the hypercube: parities, all labelings, and what learners make of sparse ones.

``labelings``  No free lunch, exactly: every labeling of the hypercube
``learners``   Learners for `off_training`: all patterns of labels at once
``parities``   Functions of n bits in the basis of parities: f(x) = Σ_S f̂_S χ_S(x)
"""

from kadanoff.studies.sparsity_principle.hypercube.labelings import (
    Generalisation,
    all_labelings,
    juntas,
    low_degree,
    off_training,
)
from kadanoff.studies.sparsity_principle.hypercube.learners import (
    decision_tree,
    kernel_machine,
    nearest_neighbour,
    neural_network,
    trained_function,
)
from kadanoff.studies.sparsity_principle.hypercube.parities import (
    degrees,
    effective_couplings,
    inverse_walsh,
    kernel_spectrum,
    points,
    walsh,
    weight_by_degree,
)

__all__ = [
    "Generalisation",
    "all_labelings",
    "decision_tree",
    "degrees",
    "effective_couplings",
    "inverse_walsh",
    "juntas",
    "kernel_machine",
    "kernel_spectrum",
    "low_degree",
    "nearest_neighbour",
    "neural_network",
    "off_training",
    "points",
    "trained_function",
    "walsh",
    "weight_by_degree",
]

"""Order-1/n tensors of the output layer, asked of the flow, for training and test points at once.

The flow takes its averages more than once; each replica is carried to the end here, so that the
stated error is that of the prediction, whatever an ill-conditioned NTK makes of the averages'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

from kadanoff.architecture import Network
from kadanoff.errors import UsageError
from kadanoff.gaussian.replicas import Replicas
from kadanoff.rgflow.observables import DIFFERENTIAL, TANGENT
from kadanoff.rgflow.recursions import last_layer
from kadanoff.rgflow.statistics import LastLayer

__all__ = ["EXACT_POINTS", "MOST_KINKED", "blocks_of_test_points", "output_tensors"]

# few points stay within what is integrated quadruple by quadruple
EXACT_POINTS, MOST_KINKED = 10, 16
_NAMES = {
    "bayes": ("G1", "V"),
    "gradient": tuple(name for name in (*TANGENT, *DIFFERENTIAL) if name != "V"),
}


def output_tensors(
    arch: Network,
    X: Tensor,
    method: str,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Replicas, list[LastLayer]]:
    """Tensors of the output layer, without the 1/n, for each replica of the averages.

    Parameters
    ----------
    arch : Network
    X : Tensor, shape (N, n_0)
        Training points first.
    method : {"gradient", "bayes"}
        Which tensors: the former needs all, the latter G1 and V.
    device : str
        Where averages of more than ten points are taken; the tensors come back to the CPU.

    Returns
    -------
    rule : Replicas
        How to read a value and its error off what follows from each replica.
    replicas : list of LastLayer

    Raises
    ------
    AnalysisError
        More memory is needed than there is.
    UsageError
        Too many points for an activation with kinks; a tensor does not exist for this architecture
        (R, S, T, U with kinks); or the weights are uniform.
    """
    if arch.init == "uniform":
        raise UsageError(
            "Outputs of a network with init='uniform' have a fourth cumulant of their own at order "
            "1/n, which the prediction does not hold.",
            "Use init='gaussian', or order=0.",
        )
    smooth = all(act.smooth for act in arch.activations)
    if not smooth and len(X) > MOST_KINKED:
        raise UsageError(
            f"order=1 for {len(X)} points of an activation with kinks: each triple of points has "
            "an integral of its own, which takes hours.",
            f"Use at most {MOST_KINKED} points (training and test), a smooth activation (GELU for "
            "ReLU, say), or order=0.",
        )
    return last_layer(arch, X, _NAMES[method], device=device, progress=progress)


def blocks_of_test_points(n_train: int, n_test: int) -> Iterator[slice]:
    """Test points in blocks, so that the joint tensors stay close to the training ones."""
    size = EXACT_POINTS - n_train if n_train <= EXACT_POINTS - 4 else max(8, n_train // 8)
    for start in range(0, n_test, size):
        yield slice(start, min(start + size, n_test))

"""The contributions that a prediction is the sum of: attributes, also found by their names."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

__all__ = ["GradientTerms", "NamedTerms", "PosteriorTerms"]


class NamedTerms(Mapping[str, Tensor | float]):
    """A dataclass of contributions, read as ``terms.mean_1`` or ``terms["mean_1"]``.

    As a mapping it has those alone that were computed: of order 1/n none at order 0.
    """

    def _names(self) -> list[str]:
        return [field.name for field in dataclasses.fields(self)]  # pyright: ignore[reportArgumentType]

    def __getitem__(self, name: str) -> Tensor | float:
        value = getattr(self, name) if name in self._names() else None
        if value is None:
            raise KeyError(name)
        return value

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._names() if getattr(self, name) is not None)

    def __len__(self) -> int:
        return len(list(iter(self)))


@dataclass(frozen=True, eq=False)
class PosteriorTerms(NamedTerms):
    """The pieces of a posterior, with the 1/n in them: N training and M test points.

    Attributes
    ----------
    mean_0, mean_1 : Tensor, shape (M, n_L)
        At infinite width, and the order 1/n.
    cov_0, cov_1 : Tensor, shape (M, M)
    log_evidence_0, log_evidence_1 : float
    kernel_shift : Tensor, shape (N + M, N + M)
        Posterior minus infinite-width kernel.
    hebbian : Tensor, shape (n_L, n_L, M, M)
        The posterior covariance between outputs i and j that the shared metric makes.
    quadrature_error, cov_quadrature_error : Tensor, shapes of ``mean_1`` and ``cov_1``
        Numerical errors: distance of two levels of the rule.
    """

    mean_0: Tensor
    cov_0: Tensor
    log_evidence_0: float
    mean_1: Tensor | None = None
    cov_1: Tensor | None = None
    log_evidence_1: float | None = None
    kernel_shift: Tensor | None = None
    hebbian: Tensor | None = None
    quadrature_error: Tensor | None = None
    cov_quadrature_error: Tensor | None = None


@dataclass(frozen=True, eq=False)
class GradientTerms(NamedTerms):
    """The contributions to mean and covariance of trained networks, 1/n included.

    Attributes
    ----------
    infinite_width : Tensor, shape (M, n_L)
    Delta_H, dH, ddI, ddII, H1 : Tensor, shape (M, n_L)
        The NTK's spread over networks, its motion, the motion of its motion (two ddNTKs), and the
        shift of its mean: the order 1/n of the mean.
    cov_infinite_width : Tensor, shape (M, M)
    cov_G1, cov_H1, cov_Delta_H, cov_D_F, cov_dH, cov_ddI, cov_ddII : Tensor
        Of shape (n_L, n_L, M, M): the order 1/n of the covariance; D_F is that of NTK and metric.
    quadrature_error : Tensor, shape (M, n_L)
        Numerical error of the mean's order 1/n; ``quadrature_error_*`` that of each term.
    cov_quadrature_error : Tensor, shape (n_L, n_L, M, M)
    """

    infinite_width: Tensor
    Delta_H: Tensor | None = None
    dH: Tensor | None = None
    ddI: Tensor | None = None
    ddII: Tensor | None = None
    H1: Tensor | None = None
    cov_infinite_width: Tensor | None = None
    cov_G1: Tensor | None = None
    cov_H1: Tensor | None = None
    cov_Delta_H: Tensor | None = None
    cov_D_F: Tensor | None = None
    cov_dH: Tensor | None = None
    cov_ddI: Tensor | None = None
    cov_ddII: Tensor | None = None
    quadrature_error: Tensor | None = None
    cov_quadrature_error: Tensor | None = None
    quadrature_error_Delta_H: Tensor | None = None
    quadrature_error_dH: Tensor | None = None
    quadrature_error_ddI: Tensor | None = None
    quadrature_error_ddII: Tensor | None = None
    quadrature_error_H1: Tensor | None = None

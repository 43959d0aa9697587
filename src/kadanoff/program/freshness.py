r"""Whether a model is fresh or trained, from its weights alone.

Independent entries have a spectrum that random-matrix theory knows: of an n × m matrix with
entries of variance σ² the largest singular value squared is

.. math:: s^2 = \sigma^2 \left[(\sqrt n + \sqrt m)^2
          + (\sqrt n + \sqrt m)\,(n^{-1/2} + m^{-1/2})^{1/3}\,\xi\right],

ξ of the Tracy–Widom law (Johnstone 2001). Training adds directions that stand out of that edge,
makes rows and columns unequal, and moves biases off their first values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from kadanoff.program.classes import laws_of_classes
from kadanoff.program.law import Law
from kadanoff.program.measured import agreement, is_orthogonal, law_of_entries, patterned

__all__ = ["Freshness", "ParameterEvidence", "looks_trained"]

# mean and standard deviation of the Tracy–Widom law for real matrices (Tracy, Widom 1996)
TW_MEAN, TW_STD = -1.2065, 1.2680
# |z| above which a test speaks against independent entries. A model has hundreds of tensors, and
# the laws of the tests have heavier tails than a normal one: 3.1e-5 a side is asked for, then
# doubled as a margin
REJECT = 8.0
# a matrix this small has no spectrum worth the name
SMALLEST = 8
# of a larger one this many rows and columns, evenly spaced, are looked at: entries that are
# independent stay so, and a direction that stands out by a factor f still does by f·√(share)
LARGEST = 384

State = Literal["fresh", "trained", "constant", "unclear"]


@dataclass(frozen=True)
class ParameterEvidence:
    """What one parameter says.

    Attributes
    ----------
    name : str
    state : "fresh", "trained", "constant" or "unclear"
        "constant" (all entries alike, as gains and biases at first) speaks for neither;
        "unclear": too small to tell, or of another make than independent entries.
    z : float
        Of the strongest test, in standard errors.
    why : str
        That test in words.
    """

    name: str
    state: State
    z: float
    why: str


@dataclass(frozen=True)
class Freshness:
    """The verdict on a model.

    Attributes
    ----------
    state : "fresh", "trained", "partly" or "unclear"
        "partly": some weights are fresh beside trained ones (a new head, adapters, a checkpoint
        that was loaded in part).
    evidence : tuple of ParameterEvidence
        One for each parameter.
    """

    state: Literal["fresh", "trained", "partly", "unclear"]
    evidence: tuple[ParameterEvidence, ...] = field(repr=False)

    def __bool__(self) -> bool:
        """Whether any weight looks trained."""
        return self.state in ("trained", "partly")

    def names(self, state: State) -> list[str]:
        """The parameters of that state."""
        return [e.name for e in self.evidence if e.state == state]

    def __str__(self) -> str:
        trained, fresh = self.names("trained"), self.names("fresh")
        if self.state == "unclear":
            return "The weights do not tell whether the model is trained."
        if self.state == "fresh":
            return f"The model looks freshly initialised ({len(fresh)} weights, none trained)."
        worst = max((e for e in self.evidence if e.state == "trained"), key=lambda e: abs(e.z))
        if self.state == "trained":
            return f"The model looks trained ({len(trained)} weights; {worst.name}: {worst.why})."
        shown = ", ".join(fresh[:3]) + (", …" if len(fresh) > 3 else "")
        return f"The model looks trained, but {len(fresh)} weights look fresh ({shown})."


def looks_trained(model: nn.Module, laws: dict[str, Law] | None = None) -> Freshness:
    """Tell a trained model from a fresh one by its weights.

    Parameters
    ----------
    model : nn.Module
        Not changed; parameters on the meta device are unclear.
    laws : dict of Law, optional
        Laws by parameter that the weights have if fresh; by default those that the classes of
        the model's modules initialise with.

    Returns
    -------
    Freshness
        True (as a truth value) where any weight looks trained.

    Notes
    -----
    A matrix is tested for a singular value beyond the random-matrix edge and for rows or columns
    of unequal norm. Orthogonal, constant and identity matrices are not independent entries and
    yet fresh; a few steps at a small rate leave no trace that any test could find.
    """
    laws = laws_of_classes(model) if laws is None else laws
    evidence = [examine(name, p, laws.get(name)) for name, p in model.named_parameters()]
    matrices = {n for n, p in model.named_parameters() if p.ndim > 1}
    trained = [e for e in evidence if e.state == "trained"]
    fresh = [e for e in evidence if e.state == "fresh" and e.name in matrices]
    if not trained:
        state = "fresh" if fresh or any(e.state == "constant" for e in evidence) else "unclear"
    else:
        state = "partly" if fresh else "trained"
    return Freshness(state, tuple(evidence))


def examine(name: str, parameter: Tensor, law: Law | None = None) -> ParameterEvidence:
    """The evidence of one parameter; ``law`` is what it would have if fresh."""
    x = parameter.detach()
    if x.is_meta or not x.is_floating_point() or x.numel() == 0:
        return ParameterEvidence(name, "unclear", 0.0, "no values")
    if not bool(torch.isfinite(x).all()):
        return ParameterEvidence(name, "unclear", 0.0, "not finite")
    if bool((x == x.reshape(-1)[0]).all()):
        return ParameterEvidence(name, "constant", 0.0, "all entries alike")
    whole, x = x, _sampled(x).double()
    if patterned(x):
        return ParameterEvidence(name, "constant", 0.0, "entries follow a rule")
    if x.ndim < 2 or min(_as_matrix(x).shape) < SMALLEST:
        return _small(name, whole, law)
    if law is not None and law.kind == "constant":
        return ParameterEvidence(name, "trained", math.inf, "its entries started out fixed")
    matrix = _as_matrix(x)
    # rows of zeros (padding) belong to no spectrum
    matrix = matrix[(matrix != 0).any(1)]
    if min(matrix.shape) < SMALLEST:
        return _small(name, whole, law)
    if is_orthogonal(matrix):
        return ParameterEvidence(name, "fresh", 0.0, "orthogonal")
    tests = [*_unequal(matrix), _edge(matrix)]
    z, why = max(tests, key=lambda test: abs(test[0]))
    if abs(z) > REJECT:
        return ParameterEvidence(name, "trained", z, why)
    if law is not None and law.kind == "uniform" and _blurred(x, law):
        over = float((x - law.mean).abs().max()) / law.reach
        moved = f"entries up to {over:.2f} of the bound they started within"
        return ParameterEvidence(name, "trained", math.inf, moved)
    return ParameterEvidence(name, "fresh", z, why)


def _blurred(x: Tensor, law: Law) -> bool:
    """Whether entries that began uniform were moved a little: still flat, but without an edge."""
    deviation = (x - law.mean).reshape(-1)
    if float(deviation.abs().max()) <= law.reach * (1 + 1e-5):
        return False
    excess = float(deviation.pow(4).mean()) / float(deviation.square().mean()) ** 2 - 3
    # a uniform law has -1.2, a normal one cut at two standard deviations -0.63
    return excess < -0.8 and law_of_entries([x], "").kind != "uniform"


def _sampled(x: Tensor) -> Tensor:
    """Evenly spaced rows and columns of a large tensor."""
    if x.ndim < 2:
        return x
    matrix = _as_matrix(x)
    if max(matrix.shape) <= LARGEST:
        return x
    rows, columns = (
        torch.linspace(0, size - 1, min(size, LARGEST), device=x.device).long()
        for size in matrix.shape
    )
    return matrix[rows][:, columns]


def _as_matrix(x: Tensor) -> Tensor:
    """Outputs by inputs; a few matrices side by side (experts) one below the other."""
    return x.flatten(0, -2) if x.ndim == 3 and len(x) < SMALLEST else x.flatten(1)


def _small(name: str, x: Tensor, law: Law | None) -> ParameterEvidence:
    """A vector or a thin matrix: only its law can tell."""
    if law is None or not law.random:
        return ParameterEvidence(name, "unclear", 0.0, "too small to tell")
    z, which = agreement(x, law)
    if abs(z) < REJECT:
        return ParameterEvidence(name, "fresh", z, f"agrees with {law.source}")
    return ParameterEvidence(name, "unclear", z, f"another law than {law.source}: {which}")


def _unequal(matrix: Tensor) -> list[tuple[float, str]]:
    """Mean squares of rows and of columns vary more than those of independent entries.

    Of m independent entries of excess kurtosis κ a mean square has relative variance (2 + κ)/m.
    """
    squares = matrix.square()
    total = float(squares.mean())
    excess = float(squares.square().mean()) / total**2 - 3
    found = []
    for what, axis in (("rows", 1), ("columns", 0)):
        means = squares.mean(axis) / total
        count, m = len(means), matrix.shape[axis]
        expected = max(0.2, 2 + excess) / m
        observed = float(means.var())
        # the variance of `count` nearly normal numbers has relative error √(2/count)
        z = (observed / expected - 1) / math.sqrt(2 / count)
        ratio = float(means.max() / means.min().clamp_min(1e-300))
        found.append((max(z, 0.0), f"norms² of {what} differ up to {ratio:.2g} times"))
    return found


def _edge(matrix: Tensor) -> tuple[float, str]:
    """The largest singular value against the edge of the spectrum of independent entries."""
    n, m = matrix.shape
    centred = matrix - matrix.mean()
    variance = float(centred.square().mean())
    gram = centred @ centred.mT if n <= m else centred.mT @ centred
    top = float(torch.linalg.eigvalsh(gram)[-1]) / variance
    # half a row and half a column less: then right to n^(-2/3) (Ma 2012)
    a, b = math.sqrt(n - 0.5), math.sqrt(m - 0.5)
    root = a + b
    width = root * (1 / a + 1 / b) ** (1 / 3)
    z = ((top - root**2) / width - TW_MEAN) / TW_STD
    return z, f"largest singular value {math.sqrt(top) / root:.2f} of the random edge"

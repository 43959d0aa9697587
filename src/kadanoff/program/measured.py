"""The law of a parameter as far as its entries tell."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from kadanoff.program.law import Law

__all__ = ["agreement", "is_orthogonal", "law_of_entries", "patterned"]

# fewer entries say nothing about the shape of a distribution
ENOUGH = 64
# entries kept of a distribution that has no name
POOL = 4096
# evenly spaced entries of a large tensor that are looked at: σ to 0.07 %
SAMPLED = 1 << 20


def law_of_entries(instances: Sequence[Tensor], source: str) -> Law:
    """The law from the entries of one or several instances of a parameter.

    Parameters
    ----------
    instances : sequence of Tensor
        The same parameter of independent networks; one is enough.
    source : str
        For the table.

    Returns
    -------
    Law
        Constant where all entries, or all instances, are alike; orthogonal where rows or columns
        are; else uniform or normal by the fourth moment and the largest entry. ``std_error`` is
        std·√((2 + κ)/(4m)) for m entries of excess kurtosis κ. Rows of zeros in every instance
        (a padding index) become ``zero_rows``.
    """
    first = instances[0].detach()
    constant = _constant(first, instances, source)
    if constant is not None:
        return constant
    zero_rows = _zero_rows(instances)
    entries = torch.cat([_without(t, zero_rows).reshape(-1) for t in instances])
    if entries.numel() > 4 * SAMPLED:
        entries = entries[:: entries.numel() // (4 * SAMPLED)]
    entries = entries.double()
    m = entries.numel()
    mean = float(entries.mean())
    std = float(entries.std(correction=1)) if m > 1 else 0.0
    if not std > 0 or not math.isfinite(std):
        return Law.constant(first, source)
    if abs(mean) < 4 * std / math.sqrt(m):
        mean, std = 0.0, float(entries.square().mean().sqrt())
    if len(first.shape) > 1 and not zero_rows and is_orthogonal(first):
        return Law(0.0, std, "orthogonal", 0.0, source)
    return _independent(entries, mean, std, source, zero_rows, first)


def _constant(first: Tensor, instances: Sequence[Tensor], source: str) -> Law | None:
    """The law of a parameter that is not random: the same in all instances, or by a rule."""
    if not first.is_floating_point() or first.numel() == 0:
        return Law.constant(first, source)
    if all(torch.equal(first, t) for t in instances):
        one = first.reshape(-1)[0]
        if bool((first == one).all()):
            return Law.constant(float(one), source)
        if len(instances) > 1:
            return Law.constant(first, source)
    if len(instances) == 1 and patterned(first):
        return Law.constant(first, source)
    return None


def _independent(
    entries: Tensor,
    mean: float,
    std: float,
    source: str,
    zero_rows: tuple[int, ...],
    first: Tensor,
) -> Law:
    """The law of independent entries (m,) by their fourth moment and the largest of them."""
    m = len(entries)
    deviation = entries - mean
    skew = float(deviation.pow(3).mean()) / std**3
    excess = float(deviation.pow(4).mean()) / std**4 - 3
    error = std * math.sqrt(max(0.2, 2 + excess) / (4 * m))
    if m < ENOUGH:
        return Law(mean, std, "normal", error, source, zero_rows=zero_rows)
    reach = float(deviation.abs().max())
    flat = abs(excess + 1.2) < 5 * math.sqrt(0.8 / m) + 0.05
    if flat and reach < math.sqrt(3) * std * (1 + 4 / math.sqrt(m)):
        return Law(mean, std, "uniform", error, source, zero_rows=zero_rows)
    # standard errors of skewness and excess of m normal numbers
    odd = abs(skew) > 6 * math.sqrt(6 / m) or abs(excess) > 6 * math.sqrt(24 / m)
    if odd and first.ndim < 2:
        # nothing averages over the entries of a vector: their distribution matters
        pool = entries[torch.linspace(0, m - 1, min(m, POOL)).long()]
        return Law(mean, std, "empirical", error, source, value=pool.to(first.dtype))
    return Law(mean, std, "normal", error, source, zero_rows=zero_rows)


def patterned(tensor: Tensor) -> bool:
    """Whether entries follow a rule: rows or columns that repeat, or a rising sequence."""
    x = tensor.detach()
    if x.ndim == 1:
        steps = x.diff()
        return len(x) >= 8 and bool((steps > 0).all() | (steps < 0).all())
    if x.ndim < 2:
        return False
    matrix = x.flatten(1)
    for rows in (matrix, matrix.mT):
        if len(rows) > 1 and bool((rows[1:] == rows[:1]).all(1).sum() > len(rows) // 4):
            # padding may repeat too, as zeros: they are told apart elsewhere
            return bool(rows[0].any())
    return False


def agreement(tensor: Tensor, law: Law) -> tuple[float, str]:
    """How far the entries of a tensor are from a law: the worst z of several tests, and which.

    The mean, the mean square and (for m > 64) the fourth moment of m independent entries, each in
    standard errors; entries beyond the law's reach, rows that should be zero and values that
    should be constant give inf.
    """
    x = tensor.detach()
    if law.kind == "constant":
        x = x.double()
        value = torch.as_tensor(law.mean if law.value is None else law.value).to(x)
        same = value.numel() in (1, x.numel()) and torch.allclose(x, value.expand_as(x), 1e-5, 1e-8)
        return (0.0, "equal") if same else (math.inf, "should be constant")
    if law.zero_rows:
        if bool(x[list(law.zero_rows)].any()):
            return math.inf, "rows that should be zero are not"
        x = _without(x, law.zero_rows)
    if x.numel() > SAMPLED:
        x = x.reshape(-1)[:: -(-x.numel() // SAMPLED)]
    x = x.double()
    if law.kind == "orthogonal":
        return (0.0, "orthogonal") if is_orthogonal(tensor) else (math.inf, "not orthogonal")
    m = max(1, x.numel())
    deviation = x - law.mean
    worst, which = 0.0, "mean"
    if m > 1 and bool((x == x.reshape(-1)[0]).all()):
        return math.inf, "entries are alike"
    if float(deviation.abs().max()) > law.reach * (1 + 1e-5):
        return math.inf, "entries beyond the law's reach"
    tests = [
        ("mean", float(deviation.mean()) / (law.std / math.sqrt(m))),
        (
            "mean square",
            (float(deviation.square().mean()) / law.std**2 - 1) / math.sqrt((2 + law.excess) / m),
        ),
    ]
    if m > ENOUGH:
        # var of the fourth moment: 24/m for a normal law once the second is divided out; the
        # same is an upper bound for laws with lighter tails
        fourth = float(deviation.pow(4).mean()) / float(deviation.square().mean()) ** 2 - 3
        tests.append(("fourth moment", (fourth - law.excess) / math.sqrt(24 / m)))
    for name, z in tests:
        if not abs(z) <= abs(worst):
            worst, which = z, name
    return worst, which


def _zero_rows(instances: Sequence[Tensor]) -> tuple[int, ...]:
    if instances[0].ndim < 2:
        return ()
    zero = torch.stack([(t.flatten(1) == 0).all(1) for t in instances]).all(0)
    rows = zero.nonzero().reshape(-1).tolist()
    return tuple(rows) if len(rows) < len(zero) else ()


def _without(tensor: Tensor, rows: tuple[int, ...]) -> Tensor:
    if not rows:
        return tensor
    keep = torch.ones(len(tensor), dtype=torch.bool, device=tensor.device)
    keep[list(rows)] = False
    return tensor[keep]


def is_orthogonal(tensor: Tensor) -> bool:
    """Whether rows or columns, whichever are fewer, are orthogonal and of one length."""
    matrix = tensor.detach().flatten(1).double()
    if matrix.shape[0] > matrix.shape[1]:
        matrix = matrix.mT
    if matrix.shape[0] < 2 or matrix.shape[0] > 4096:
        return False
    gram = matrix @ matrix.mT
    length = float(gram.diagonal().mean())
    off = gram - length * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    return length > 0 and float(off.abs().max()) < 1e-3 * length

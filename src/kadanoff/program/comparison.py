"""Two ensembles of one module side by side, number by number, in standard errors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from kadanoff.errors import UsageError
from kadanoff.program.result import ModuleEnsemble, Quantity

__all__ = ["Difference", "ModuleComparison", "compare_modules"]


@dataclass(frozen=True)
class Difference:
    """One number in two ensembles.

    Attributes
    ----------
    key, field : str
        Call or parameter, and what of it.
    first, second : Quantity
    z : float
        Of the means, in standard errors of their difference.
    z_spread : float
        Of the spreads.
    """

    key: str
    field: str
    first: Quantity
    second: Quantity
    z: float
    z_spread: float


@dataclass(frozen=True)
class ModuleComparison:
    """Every number of two ensembles.

    Attributes
    ----------
    lines : list of Difference
    level : float
        |z| beyond which a difference counts.
    scale : float
        Common factor taken out of all gradients, as a logarithm: a network whose loss is a little
        larger has all its gradients larger, so that their z are one number many times. 0 if none
        was.
    """

    lines: list[Difference]
    level: float
    scale: float = 0.0

    @property
    def rejected(self) -> list[Difference]:
        """Lines beyond the level, worst first."""
        bad = [x for x in self.lines if max(abs(x.z), abs(x.z_spread)) > self.level]
        return sorted(bad, key=lambda x: -max(abs(x.z), abs(x.z_spread)))

    @property
    def passed(self) -> bool:
        """Whether no number differs."""
        return not self.rejected

    @property
    def rms(self) -> float:
        """Root mean square z of the means."""
        return math.sqrt(sum(x.z**2 for x in self.lines) / max(len(self.lines), 1))

    @property
    def rms_spread(self) -> float:
        """Root mean square z of the spreads."""
        return math.sqrt(sum(x.z_spread**2 for x in self.lines) / max(len(self.lines), 1))

    @property
    def worst(self) -> float:
        """Largest |z| of the means."""
        return max((abs(x.z) for x in self.lines), default=0.0)

    @property
    def worst_spread(self) -> float:
        """Largest |z| of the spreads."""
        return max((abs(x.z_spread) for x in self.lines), default=0.0)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "level": self.level,
            "passed": self.passed,
            "rms": self.rms,
            "rms_spread": self.rms_spread,
            "lines": [
                {**vars(x), "first": vars(x.first), "second": vars(x.second)} for x in self.lines
            ],
        }

    def __str__(self) -> str:
        rows = [f"{'':46}{'first':>20}{'second':>20}{'z':>7}{'z of spread':>13}"]
        for x in self.lines:
            name = f"{x.key} {x.field}"[-46:]
            cells = [f"{q.value:.4g} ± {q.stderr:.1g}" for q in (x.first, x.second)]
            rows.append(f"{name:46}{cells[0]:>20}{cells[1]:>20}{x.z:7.2f}{x.z_spread:13.2f}")
        verdict = "no difference" if self.passed else f"{len(self.rejected)} differ"
        rows.append(
            f"{len(self.lines)} numbers at {self.level:g} standard errors: {verdict}; "
            f"rms z {self.rms:.2f} (means), {self.rms_spread:.2f} (spreads)"
        )
        return "\n".join(rows)


def compare_modules(
    first: ModuleEnsemble, second: ModuleEnsemble, *, level: float = 4.5
) -> ModuleComparison:
    """Set two ensembles of one module side by side.

    Parameters
    ----------
    first, second : ModuleEnsemble
        Of the same model and batch: two methods, say.
    level : float

    Returns
    -------
    ModuleComparison

    Raises
    ------
    UsageError
        They share no number.
    """
    if not isinstance(first, ModuleEnsemble) or not isinstance(second, ModuleEnsemble):
        raise UsageError(
            "An ensemble of a module is compared with another one, got "
            f"{type(first).__name__} and {type(second).__name__}."
        )
    theirs = {(key, name): q for key, name, q in second.items()}
    lines = []
    for key, name, q in first.items():
        other = theirs.get((key, name))
        if other is None:
            continue
        lines.append(
            Difference(
                key,
                name,
                q,
                other,
                _z(q.value - other.value, q.stderr, other.stderr, abs(q.value)),
                _z(q.spread - other.spread, q.spread_stderr, other.spread_stderr, abs(q.value)),
            )
        )
    if not lines:
        raise UsageError("The two ensembles have no number in common: other models?")
    return ModuleComparison(lines, level)


def _z(gap: float, a: float, b: float, size: float) -> float:
    error = math.hypot(a, b)
    # what no network varies still carries the rounding of its type
    rounding = 1e-5 * size
    if abs(gap) <= rounding and error <= rounding:
        return 0.0
    return gap / max(error, rounding, 1e-300)

"""What is drawn, and what stands above each drawing."""

from __future__ import annotations

from collections.abc import Sequence

from kadanoff.diagrams.recursions import Recursion
from kadanoff.diagrams.rules import Diagram
from kadanoff.errors import UsageError

__all__ = ["listed", "weight"]


def listed(diagrams: Diagram | Recursion | Sequence[Diagram]) -> list[Diagram]:
    """The diagrams as a list.

    Raises
    ------
    UsageError
        There is none.
    """
    if isinstance(diagrams, Diagram):
        return [diagrams]
    several = list(diagrams.diagrams if isinstance(diagrams, Recursion) else diagrams)
    if not several:
        raise UsageError("There is no diagram to draw.")
    return several


def weight(diagram: Diagram) -> str:
    """The weight of a diagram when all legs see the same input, in TeX."""
    number, power = diagram.coefficient, diagram.k - len(diagram.legs)
    width = "" if not power else ("n" if power == 1 else f"n^{{{power}}}")
    if not width and number.denominator == 1:
        return f"${number}$"
    below = (str(number.denominator) if number.denominator > 1 else "") + width
    below = f"({below})" if width and number.denominator > 1 else below
    return rf"${number.numerator}\,/\,{below}$"

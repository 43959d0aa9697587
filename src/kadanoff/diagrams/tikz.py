"""Diagrams as TikZ, for papers."""

from __future__ import annotations

from collections.abc import Sequence

from kadanoff.diagrams.geometry import BLOB, DROP, LEG, Point, shape
from kadanoff.diagrams.labels import listed, weight
from kadanoff.diagrams.recursions import Recursion
from kadanoff.diagrams.rules import Diagram

__all__ = ["to_tikz"]

_STYLES = (
    "line/.style={thick}, leg/.style={thick}, "
    "end/.style={circle, draw, thick, fill=white, inner sep=1.3pt}, "
    "neuron/.style={circle, fill, inner sep=1.7pt}, "
    "blob/.style={circle, draw, thick, fill=black!8, inner sep=0pt, "
    f"minimum size={20 * BLOB:.1f}mm, font=\\footnotesize}}"
)


def to_tikz(
    diagrams: Diagram | Recursion | Sequence[Diagram], *, columns: int = 4, whole: bool = False
) -> str:
    r"""Diagrams as one ``tikzpicture``, a scope a diagram, its weight above it.

    Restyle them by redefining ``line``, ``leg``, ``end``, ``neuron`` and ``blob``; the lengths are
    those of :func:`kadanoff.diagrams.draw`, in centimetres.

    Parameters
    ----------
    diagrams : Diagram, Recursion or sequence of Diagram
    columns : int
        Drawings in a row, at most.
    whole : bool
        A document that compiles by itself (class ``standalone``) instead of the picture alone.

    Raises
    ------
    UsageError
        There is no diagram.

    Examples
    --------
    >>> from kadanoff.diagrams import generate
    >>> print(to_tikz(generate(2)[0]).splitlines()[0][:19])
    \begin{tikzpicture}
    """
    shown = listed(diagrams)
    width = max(_width(diagram) for diagram in shown) + 0.6
    height = DROP + LEG + 1.7
    scopes: list[str] = []
    for index, diagram in enumerate(shown):
        row, column = divmod(index, columns)
        scopes += _scope(diagram, (column * width, -row * height))
    picture = "\n".join([rf"\begin{{tikzpicture}}[{_STYLES}]", *scopes, r"\end{tikzpicture}"])
    if not whole:
        return picture
    head = "\\documentclass[border=4pt]{standalone}\n\\usepackage{tikz}\n\\begin{document}\n"
    return f"{head}{picture}\n\\end{{document}}\n"


def _width(diagram: Diagram) -> float:
    drawn = shape(diagram)
    xs = [x for x, _ in (*drawn.vertices, *drawn.blobs, *(end for _, end in drawn.legs))]
    return max(xs) - min(xs) + 2 * BLOB


def _scope(diagram: Diagram, shift: Point) -> list[str]:
    drawn = shape(diagram)
    middle = sum(x for x, _ in drawn.vertices) / len(drawn.vertices)
    lines = [rf"\begin{{scope}}[shift={{{_point(shift)}}}]"]
    for start, (cx, cy), end in drawn.lines:
        # a quadratic curve with control point c is the cubic one with these two
        first = start[0] + 2 * (cx - start[0]) / 3, start[1] + 2 * (cy - start[1]) / 3
        second = end[0] + 2 * (cx - end[0]) / 3, end[1] + 2 * (cy - end[1]) / 3
        controls = f"controls {_point(first)} and {_point(second)}"
        lines.append(rf"\draw[line] {_point(start)} .. {controls} .. {_point(end)};")
    for start, end in drawn.legs:
        lines.append(rf"\draw[leg] {_point(start)} -- {_point(end)} node[end] {{}};")
    lines += [rf"\node[neuron] at {_point(vertex)} {{}};" for vertex in drawn.vertices]
    for (column, loops), blob in zip(diagram.blobs, drawn.blobs, strict=True):
        lines.append(rf"\node[blob] at {_point(blob)} {{$\kappa_{{{sum(column)}}}$}};")
        if loops:
            below = blob[0], blob[1] - 0.5
            words = f"{loops} loop" + "s" * (loops > 1)
            lines.append(rf"\node[font=\scriptsize] at {_point(below)} {{{words}}};")
    above = middle, DROP + LEG + 0.45
    lines.append(rf"\node at {_point(above)} {{{weight(diagram)}}};")
    return [*lines, r"\end{scope}"]


def _point(place: Point) -> str:
    # no minus in front of a zero
    return f"({place[0] + 0.0:.3f}, {place[1] + 0.0:.3f})"

r"""The sum of diagrams written out: the recursion of a connected correlator, as text or LaTeX.

Notation at one input: f, v, t, q are the first four cumulants of s = C_W σ² (c₅ and so on
beyond), primes are derivatives with respect to K, n is the width of the layer, δ the shift of the
mean metric, κ_r the connected correlators of the layer below; [a] marks what has a loops more
than the lowest order.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction

from kadanoff.diagrams.rules import Diagram, generate

__all__ = ["Recursion", "Term", "recursion"]

_CUMULANTS = {1: "f", 2: "v", 3: "t", 4: "q"}
_SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_SUBSCRIPT = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


@dataclass(frozen=True)
class Term:
    """A monomial of a recursion at one input.

    Attributes
    ----------
    coefficient : Fraction
        Sum over the diagrams that give this monomial.
    width_power : int
        The term carries n^(−width_power).
    vertices : tuple of ((m, r), count)
        Cumulants c_m differentiated r times.
    blobs : tuple of ((r, loops), count)
    """

    coefficient: Fraction
    width_power: int
    vertices: tuple[tuple[tuple[int, int], int], ...]
    blobs: tuple[tuple[tuple[int, int], int], ...]


@dataclass(frozen=True)
class Recursion:
    """The recursion of κ_k at a number of loops, ``str`` of it for reading.

    Attributes
    ----------
    k, loops : int
    diagrams : tuple of Diagram
    """

    k: int
    loops: int
    diagrams: tuple[Diagram, ...]

    @property
    def terms(self) -> tuple[Term, ...]:
        """Monomials at one input; diagrams that differ only in shape are added."""
        total: dict[tuple, Fraction] = {}
        for d in self.diagrams:
            vertices = Counter(zip(d.legs, d.lines))
            blobs = Counter((sum(column), loops) for column, loops in d.blobs)
            key = (
                d.k - len(d.legs),
                tuple(sorted(vertices.items(), key=lambda v: (v[0][0], v[0][1]))),
                tuple(sorted(blobs.items())),
            )
            total[key] = total.get(key, Fraction(0)) + d.coefficient
        terms = [Term(value, *key) for key, value in total.items()]
        # by powers of 1/n in sight, then from many lines to few: the homogeneous term first
        return tuple(
            sorted(terms, key=lambda t: (t.width_power, sum(c for _, c in t.blobs), t.vertices))
        )

    def text(self) -> str:
        """One line of plain text, one input.

        Examples
        --------
        >>> print(recursion(3))
        κ₃' = f'³ κ₃ + 3 f'² f'' κ₂² + 3/n f' v' κ₂ + t/n²
        """
        if (self.k, self.loops) == (1, 0):
            return "K' = C_b + f"
        pieces = []
        for term in self.terms:
            factors = [_power(_vertex_text(m, r), c) for (m, r), c in term.vertices]
            factors += [_power(_blob_text(r, loops), c) for (r, loops), c in term.blobs]
            body, number = " ".join(factors), term.coefficient
            width = "n" + (str(term.width_power).translate(_SUPERSCRIPT) * (term.width_power > 1))
            if not term.width_power:
                pieces.append(body if number == 1 else f"{number} {body}")
            elif number == 1 and len(factors) == 1:
                pieces.append(f"{body}/{width}")
            else:
                below = width if number.denominator == 1 else f"({number.denominator}{width})"
                pieces.append(f"{number.numerator}/{below} {body}")
        return f"{_blob_text(self.k, self.loops, prime=True)} = {' + '.join(pieces)}"

    __str__ = text

    def latex(self, indexed: bool = False) -> str:
        """LaTeX without delimiters.

        Parameters
        ----------
        indexed : bool
            Several inputs: legs A₁ … A_k and lines P, Q, … are pairs of inputs, repeated ones are
            summed; a number of terms stands for the other ways to hang the legs.
        """
        if indexed:
            return self._indexed()
        if (self.k, self.loops) == (1, 0):
            return r"K^{\prime} = C_b + f"
        pieces = []
        for term in self.terms:
            factors = [
                _power_latex(_vertex_latex(m, r), count, r) for (m, r), count in term.vertices
            ] + [_power_latex(_blob_latex(r, loops), count) for (r, loops), count in term.blobs]
            number = term.coefficient
            front = "" if number == 1 else str(number)
            if term.width_power or number.denominator > 1:
                width = "n" + (f"^{{{term.width_power}}}" if term.width_power > 1 else "")
                below = (str(number.denominator) if number.denominator > 1 else "") + (
                    width if term.width_power else ""
                )
                front = rf"\frac{{{number.numerator}}}{{{below}}}"
            pieces.append(" ".join([front, *factors]).strip())
        return f"{_blob_latex(self.k, self.loops, prime=True)} = {' + '.join(pieces)}"

    def _indexed(self) -> str:
        pieces = []
        for d in self.diagrams:
            upper = iter(f"A_{i}" if self.k > 1 else "A" for i in range(1, self.k + 1))
            lower = iter("PQRSTUVXYZ" if sum(d.lines) <= 10 else (f"P_{i}" for i in range(99)))
            legs = ["".join(itertools.islice(upper, m)) for m in d.legs]
            lines, blobs = ["" for _ in d.legs], []
            for column, loops in d.blobs:
                own = ""
                for v, count in enumerate(column):
                    names = "".join(itertools.islice(lower, count))
                    lines[v], own = lines[v] + names, own + names
                blobs.append(_blob_latex(sum(column), loops, index=own))
            vertices = [
                f"{_name_latex(m)}_{{{a}}}" + (f"^{{{p}}}" if p else "")
                for m, a, p in zip(d.legs, legs, lines)
            ]
            power = d.k - len(d.legs)
            width = "" if not power else ("n" if power == 1 else f"n^{{{power}}}")
            below = (str(d.symmetry) if d.symmetry > 1 else "") + width
            front = rf"\frac{{1}}{{{below}}}" if below else ""
            ways = rf"\;({d.labellings}\text{{ terms}})" if d.labellings > 1 else ""
            pieces.append(" ".join([front, *vertices, *blobs]).strip() + ways)
        index = "".join(f"A_{i}" for i in range(1, self.k + 1)) if self.k > 1 else "A"
        left = _blob_latex(self.k, self.loops, prime=True, index=index)
        return f"{left} = {' + '.join(pieces)}"


def recursion(k: int, loops: int = 0) -> Recursion:
    """The recursion of κ_k at ``loops`` loops; arguments and errors as :func:`generate`."""
    return Recursion(k, loops, generate(k, loops))


def _vertex_text(m: int, r: int) -> str:
    name = _CUMULANTS.get(m, "c" + str(m).translate(_SUBSCRIPT))
    return name + ("'" * r if r <= 3 else f"⁽{str(r).translate(_SUPERSCRIPT)}⁾")


def _blob_text(r: int, loops: int, prime: bool = False) -> str:
    lowest = 1 if r == 1 else 0
    name = "δ" if r == 1 and loops else "κ" + str(r).translate(_SUBSCRIPT)
    mark = f"[{loops - lowest}]" if loops > lowest else ""
    return name + "'" * prime + mark


def _power(name: str, count: int) -> str:
    return name if count == 1 else name + str(count).translate(_SUPERSCRIPT)


def _name_latex(m: int) -> str:
    return _CUMULANTS.get(m, f"c_{{{m}}}")


def _vertex_latex(m: int, r: int) -> str:
    return _name_latex(m) + ("'" * r if r <= 3 else f"^{{({r})}}")


def _blob_latex(r: int, loops: int, prime: bool = False, index: str = "") -> str:
    lowest = 1 if r == 1 else 0
    name = r"\delta" if r == 1 and loops else r"\kappa"
    below = index or ("" if r == 1 and loops else str(r))
    mark = (r"\prime" if prime else "") + (f"[{loops - lowest}]" if loops > lowest else "")
    return name + (f"_{{{below}}}" if below else "") + (f"^{{{mark}}}" if mark else "")


def _power_latex(name: str, count: int, derivatives: int = 0) -> str:
    if count == 1:
        return name
    if "'" in name and derivatives <= 3:
        # TeX sets primes as a superscript of their own
        primes = r"\prime" * derivatives
        return rf"{name.rstrip(chr(39))}^{{{primes}\,{count}}}"
    return rf"\left({name}\right)^{{{count}}}" if "^" in name else f"{name}^{{{count}}}"

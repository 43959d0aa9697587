"""The map as a timeline: years along x, citations known here up, no paper on top of another."""

from __future__ import annotations

import math
from collections.abc import Mapping

__all__ = ["place_by_year"]

_SPACE = 44.0
_RISE = 88.0


def place_by_year(
    years: Mapping[str, int | None], cited: Mapping[str, int]
) -> tuple[dict[str, tuple[float, float]], list[tuple[str, float]], list[tuple[int, float]]]:
    """Place papers by year and by the number of works here that cite them.

    Parameters
    ----------
    years : mapping of id to year, None where it is unknown
    cited : mapping of id to the number of works that cite it

    Returns
    -------
    places : dict of id to (x, y)
        y points down, as on a screen.
    ticks : list of (text, x)
        One for each year that has papers; years without papers take less room.
    levels : list of (citations, y)
    """
    columns: dict[int | None, list[str]] = {}
    for name in sorted(years, key=lambda n: (-cited.get(n, 0), n)):
        columns.setdefault(years[name], []).append(name)
    known = sorted(year for year in columns if year is not None)
    order: list[int | None] = [*([None] if None in columns else []), *known]
    lefts: list[float] = []
    ticks: list[tuple[str, float]] = []
    x, before = 0.0, None
    for year in order:
        wide = _columns(columns[year])
        # years without papers take less room
        gap = 0 if before is None or year is None else min(3, year - before - 1)
        x += 18.0 * gap
        lefts.append(x)
        ticks.append(("?" if year is None else str(year), x + _SPACE * (wide - 1) / 2))
        x += _SPACE * wide + 14.0
        before = year
    most = max((cited.get(name, 0) for name in years), default=0)
    # a picture that is about half as high as it is wide, so that it fills the map
    rise = max(_RISE, 0.5 * x / math.log2(2 + most))
    places: dict[str, tuple[float, float]] = {}
    for year, left in zip(order, lefts, strict=True):
        places.update(_stack(columns[year], cited, left, rise))
    marks = (0, 1, 2, 4, 8, 16, 32, 64, 128, 512, 2048)
    return places, ticks, [(n, _height(n, rise)) for n in marks if n <= most]


def _columns(members: list[str]) -> int:
    return max(1, math.ceil(math.sqrt(len(members) / 3)))


def _height(citations: int, rise: float) -> float:
    return -rise * math.log2(1 + citations)


def _stack(
    members: list[str], cited: Mapping[str, int], left: float, rise: float
) -> dict[str, tuple[float, float]]:
    """Stack one year: each paper as near to its height as those before it leave room."""
    wide = _columns(members)
    taken: set[tuple[int, int]] = set()
    places: dict[str, tuple[float, float]] = {}
    for name in members:
        height = _height(cited.get(name, 0), rise)
        row = round(height / _SPACE)
        # rows are tried at the height wanted, then downwards and upwards in turn
        offset = 0
        while True:
            shift = (offset + 1) // 2 * (1 if offset % 2 else -1)
            free = next((c for c in range(wide) if (c, row + shift) not in taken), None)
            if free is not None:
                break
            offset += 1
        taken.add((free, row + shift))
        places[name] = (round(left + _SPACE * free, 1), round(height + _SPACE * shift, 1))
    return places

"""Rows and columns of a result: for data frames, notebooks and printing."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import torch
from torch import Tensor

from kadanoff.errors import MissingExtraError
from kadanoff.style.numbers import short

__all__ = ["Table", "components"]

# rows shown in a notebook; the data frame has all
_SHOWN = 40


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes
    ----------
    columns : tuple of str
    rows : list of tuple
        One value a column: str, int, float, bool or None.
    caption : str
    """

    columns: tuple[str, ...]
    rows: Sequence[tuple[Any, ...]]
    caption: str = ""

    def to_frame(self) -> Any:
        """A pandas DataFrame, one row a row.

        Raises
        ------
        MissingExtraError
            pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise MissingExtraError(
                "A data frame needs the package 'pandas', which is not installed.",
                "Install it with: pip install pandas; or take .table().rows.",
            ) from None
        return pandas.DataFrame(list(self.rows), columns=list(self.columns))

    def html(self) -> str:
        """An HTML table of at most 40 rows, the rest counted."""
        head = "".join(f"<th>{escape(column)}</th>" for column in self.columns)
        shown = self.rows[:_SHOWN]
        body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in shown)
        left = len(self.rows) - len(shown)
        more = f"<p>{left} more rows: <code>.to_frame()</code> has all.</p>" if left else ""
        caption = f"<p><b>{escape(self.caption)}</b></p>" if self.caption else ""
        return f"{caption}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def components(name: str, values: Tensor, errors: Tensor | None = None) -> list[tuple[Any, ...]]:
    """A row for each component of an observable of the flow: name, layer, slots, value, error.

    Parameters
    ----------
    name : str
    values : Tensor, shape (L, N, …)
        First axis the layer, the others inputs.
    errors : Tensor of that shape, optional
        None gives NaN.
    """
    if errors is None:
        errors = torch.full_like(values, math.nan)
    slots = itertools.product(*(range(size) for size in values.shape[1:]))
    labels = ["-".join(map(str, slot)) for slot in slots]
    rows: list[tuple[Any, ...]] = []
    for layer, (numbers, uncertain) in enumerate(zip(values, errors, strict=True), start=1):
        pairs = zip(labels, numbers.flatten().tolist(), uncertain.flatten().tolist(), strict=True)
        rows += [(name, layer, label, value, error) for label, value, error in pairs]
    return rows


def _cell(value: Any) -> str:
    if isinstance(value, float):
        shown = "" if math.isnan(value) else short(value, 5)
        return f'<td style="text-align:right">{escape(shown)}</td>'
    shown = "" if value is None else str(value)
    return f"<td>{escape(shown)}</td>"

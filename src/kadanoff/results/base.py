"""What results inherit: keeping; and tables, a short ``repr``, HTML."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Self

from kadanoff.errors import StorageError
from kadanoff.results.store import from_plain, load, save, to_plain
from kadanoff.results.table import Table

__all__ = ["Kept", "Result"]


class Kept:
    """What can be kept in a file and read back; made by its subclasses."""

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Keep it in ``path``, ``.npz`` or ``.json``; see :func:`kadanoff.save`.

        Raises
        ------
        UsageError
            Another ending, or something in it cannot be kept.
        StorageError
            The file cannot be written.
        """
        return save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], **given: Any) -> Self:
        """Read what :meth:`save` kept; see :func:`kadanoff.load`.

        Parameters
        ----------
        path : path
        **given
            Activations that no file can hold, by name.

        Raises
        ------
        StorageError
            It cannot be read or holds something else.
        """
        return cls._checked(load(path, **given), repr(str(path)))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; :meth:`from_dict` reads them back.

        Raises
        ------
        UsageError
            Something in it cannot be kept.
        """
        return to_plain(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any], **given: Any) -> Self:
        """Read what :meth:`to_dict` gave.

        Parameters
        ----------
        data : dict
        **given
            Activations that no dict can hold, by name.

        Raises
        ------
        StorageError
            It holds something else.
        """
        return cls._checked(from_plain(data, given), "This dict")

    @classmethod
    def _checked(cls, result: Any, source: str) -> Self:
        if isinstance(result, cls):
            return result
        raise StorageError(
            f"{source} holds a {type(result).__name__}, not a {cls.__name__}.",
            f"Read it with {type(result).__name__} or kadanoff.load.",
        )


class Result(Kept):
    """A result that can be kept, shown and tabulated; made by its subclasses."""

    def headline(self) -> str:
        """What this is, in a few words: what ``repr`` shows."""
        return ""

    def table(self) -> Table:
        """Its numbers, one a row.

        Returns
        -------
        Table
        """
        raise NotImplementedError

    def to_frame(self) -> Any:
        """Its numbers as a pandas DataFrame, one a row.

        Raises
        ------
        MissingExtraError
            pandas is not installed.
        """
        return self.table().to_frame()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.headline()}>"

    def _repr_html_(self) -> str:
        return self.table().html()

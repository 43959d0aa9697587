"""One atlas: its database and its folder."""

from __future__ import annotations

import os
from pathlib import Path

from kadanoff.atlas import seed
from kadanoff.atlas.database import Database
from kadanoff.atlas.paths import data_dir

__all__ = ["Store"]


class Store(Database):
    """The atlas in a folder, with the bundled papers in it from the first start.

    Parameters
    ----------
    folder : path, optional
        Where ``atlas.sqlite`` and the studies' results are; the platform's place by default.

    Raises
    ------
    StorageError
        The folder or the database cannot be used.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self.folder: Path = data_dir(folder)
        super().__init__(self.folder / "atlas.sqlite")
        seed.plant(self)

"""Where the atlas keeps its database and the results of its studies."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from kadanoff.files import make_folder

__all__ = ["data_dir"]


def data_dir(chosen: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of the atlas, made if absent.

    Order: ``chosen``, the variable ``KADANOFF_ATLAS_DIR``, the platform's place for user data.

    Raises
    ------
    StorageError
        The folder cannot be made.
    """
    folder = Path(chosen or os.environ.get("KADANOFF_ATLAS_DIR") or _platform_dir()).expanduser()
    return make_folder(folder, "Choose another with --data-dir.")


def _platform_dir() -> Path:
    home = Path.home()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    return base / "kadanoff" / "atlas"

"""Where the atlas keeps its database and the results of its studies."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from kadanoff.errors import StorageError

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
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"Could not make the atlas folder {str(folder)!r}: {error.strerror or error}.",
            "Choose another with --data-dir.",
        ) from None
    return folder


def _platform_dir() -> Path:
    home = Path.home()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    return base / "kadanoff" / "atlas"

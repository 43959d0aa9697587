"""``--json`` of every command: print the result as JSON, or write it with ``--json FILE``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from kadanoff.errors import UsageError

__all__ = ["JsonFile", "JsonFlag", "Output", "writable"]

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON, or write it: `--json FILE`.")]
# a flag takes no value, so the file is an argument that --help does not show
JsonFile = Annotated[Path | None, typer.Argument(hidden=True)]


def writable(path: Path | None) -> None:
    """Refuse a path that cannot be written before the work begins, not after."""
    if path is None:
        return
    if path.is_dir():
        raise UsageError(f"{str(path)!r} is a folder.", "Name a file to write.")
    if not path.parent.is_dir():
        raise UsageError(f"There is no folder {str(path.parent)!r}.", "Make it first.")


class Output:
    """Where a command's result goes.

    Parameters
    ----------
    command : str
        Its name, for the error message.
    as_json : bool
    file : Path or None
    others : iterable of Path or None
        Other files that will be written, checked at the same time.
    figures : iterable of Path or None
        Likewise, and their endings must be those of figures.

    Raises
    ------
    UsageError
        A file without ``--json``, one that cannot be written, or an unknown kind of figure.
    """

    def __init__(
        self,
        command: str,
        as_json: bool,
        file: Path | None,
        others: Iterable[Path | None] = (),
        figures: Iterable[Path | None] = (),
    ) -> None:
        if file is not None and not as_json:
            raise UsageError(
                f"Unexpected argument {str(file)!r}.", f"See kadanoff {command} --help."
            )
        self.as_json, self.file = as_json, file
        drawn = [path for path in figures if path is not None]
        if drawn:
            from kadanoff.style.figures import file_format

            for path in drawn:
                file_format(path)
        self.others = [*drawn, *(path for path in others if path is not None)]
        for path in (file, *self.others):
            writable(path)

    @property
    def for_people(self) -> bool:
        """Whether tables are wanted: not if standard output is taken by JSON."""
        return not self.as_json or self.file is not None

    def write(self, tree: Any) -> None:
        """Print or write the result, if it was asked for."""
        from kadanoff.files import write_json
        from kadanoff.style.json import dumps

        if self.file is not None:
            write_json(self.file, tree)
        elif self.as_json:
            typer.echo(dumps(tree))

    def say_where(self) -> None:
        """Name the files that were written."""
        from kadanoff.style.progress import console

        if self.for_people:
            for path in (*self.others, self.file):
                if path is not None:
                    console().print(f"wrote {path}", style="dim", soft_wrap=True, markup=False)

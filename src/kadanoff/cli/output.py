"""Where a command's result goes: tables for people, and the one envelope of ``--json``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from kadanoff.cli.panels import Panel
from kadanoff.errors import UsageError

__all__ = ["JsonFile", "JsonFlag", "JsonOptions", "Output", "writable"]

JsonFlag = Annotated[
    bool,
    typer.Option("--json", metavar="[FILE]", help="Print the result as JSON, or write it to FILE."),
]
# a flag takes no value, so the file is an argument; neither --help nor the usage line shows it
JsonFile = Annotated[Path | None, typer.Argument(hidden=True)]


@dataclass(frozen=True)
class JsonOptions(Panel, title="JsonOptions"):
    """What every command offers: ``--json`` and ``--json FILE``."""

    as_json: JsonFlag = False
    json_file: JsonFile = None

    def beside(self, target: str | None) -> tuple[str | None, JsonOptions]:
        """What is the TARGET and what the file, where a command may go without a TARGET.

        Words fill arguments from the left, so ``--json FILE`` alone lands in TARGET. A target names
        an object, ``place:name``; any other single word is the file.

        Parameters
        ----------
        target : str or None
            As it was parsed.

        Returns
        -------
        target : str or None
        result : JsonOptions
        """
        from kadanoff.data.objects import names_object

        if not self.as_json or self.json_file is not None:
            return target, self
        if target is None or names_object(target):
            return target, self
        return None, replace(self, json_file=Path(target))


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
        Its name: the ``kind`` of the envelope.
    wanted : JsonOptions
    files : iterable of Path or None
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
        wanted: JsonOptions,
        files: Iterable[Path | None] = (),
        figures: Iterable[Path | None] = (),
    ) -> None:
        if wanted.json_file is not None and not wanted.as_json:
            raise UsageError(
                f"Unexpected argument {str(wanted.json_file)!r}.", f"See kadanoff {command} --help."
            )
        self.command, self.as_json, self.file = command, wanted.as_json, wanted.json_file
        drawn = [path for path in figures if path is not None]
        if drawn:
            from kadanoff.style.figures import file_format

            for path in drawn:
                file_format(path)
        self.others = [*drawn, *(path for path in files if path is not None)]
        for path in (self.file, *self.others):
            writable(path)

    @property
    def for_people(self) -> bool:
        """Whether tables are wanted: not if standard output is taken by JSON."""
        return not self.as_json or self.file is not None

    def write(
        self, result: Mapping[str, Any], *, seed: int | None = None, one_line: bool = False
    ) -> None:
        """Print or write the result in its envelope, if JSON was asked for."""
        if not self.as_json:
            return
        from kadanoff.files import write_json
        from kadanoff.style.json import dumps, envelope

        tree = envelope(self.command, dict(result), seed=seed)
        if self.file is not None:
            write_json(self.file, tree)
        elif one_line:
            typer.echo(json.dumps(tree, allow_nan=False))
        else:
            typer.echo(dumps(tree))

    def say_where(self) -> None:
        """Name the files that were written."""
        from kadanoff.style.progress import console

        if self.for_people:
            for path in (*self.others, self.file):
                if path is not None:
                    console().print(f"wrote {path}", style="dim", soft_wrap=True, markup=False)

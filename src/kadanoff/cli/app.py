"""``kadanoff``: finds the command, imports only that one, and turns errors into exit codes."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import typer
import typer.core

from kadanoff import __version__
from kadanoff.cli.panels import add
from kadanoff.errors import KadanoffError, ValidityWarning

__all__ = ["COMMANDS", "app", "main"]

# newer typers carry their own copy of click: take the class from what typer itself raises
_ClickException: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")

# command -> module; a module offers either `command` (a function) or `app` (a group)
COMMANDS = {
    "diagnose": "kadanoff.cli.diagnose",
    "watch": "kadanoff.cli.watch",
    "tune": "kadanoff.cli.tune",
    "critical": "kadanoff.cli.critical",
    "flow": "kadanoff.cli.flow",
    "ensemble": "kadanoff.cli.ensemble",
    "compare": "kadanoff.cli.compare",
    "kernel": "kadanoff.cli.kernel",
    "predict": "kadanoff.cli.predict",
    "transfer": "kadanoff.cli.transfer",
    "sparsity": "kadanoff.cli.sparsity",
    "study": "kadanoff.cli.study",
    "atlas": "kadanoff.cli.atlas",
    "cite": "kadanoff.cli.cite",
    "doctor": "kadanoff.cli.doctor",
}


class _Lazy(Mapping[str, Any]):
    """The commands by name; each is imported when it is asked for."""

    def __getitem__(self, name: str) -> Any:
        module = importlib.import_module(COMMANDS[name])
        if hasattr(module, "app"):
            command = typer.main.get_command(module.app)
        else:
            single = typer.Typer(add_completion=False, rich_markup_mode="markdown")
            add(single, name, module.command)
            command = typer.main.get_command(single)
        command.name = name
        return command

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class _LazyGroup(typer.core.TyperGroup):
    """Typer looks up, lists and suggests commands through ``commands`` alone."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = _Lazy()  # type: ignore[assignment]


app = typer.Typer(
    cls=_LazyGroup,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="The effective theory of deep networks as a working tool.",
    epilog="Example: `kadanoff diagnose examples/deep_tanh.py:default --data digits`",
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"kadanoff {__version__}")
        raise typer.Exit()


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    pass


def main(argv: list[str] | None = None) -> None:
    """Entry point. ``--debug`` anywhere shows the traceback of an error."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    if debug:
        arguments.remove("--debug")
    try:
        _carry_out(arguments, debug)
    except KeyboardInterrupt:
        # it came while an earlier one, or another error, was being told
        _complain("Interrupted.", _goes_on(arguments))
        sys.exit(130)


def _carry_out(arguments: list[str], debug: bool) -> None:
    """Run a command and exit with its code, or with that of what went wrong."""
    try:
        with _warnings_in_a_line():
            code = app(args=arguments, standalone_mode=False, prog_name="kadanoff")
    except (typer.Abort, KeyboardInterrupt):
        _complain("Interrupted.", _goes_on(arguments))
        sys.exit(130)
    except _ClickException as error:
        error.show()  # pyright: ignore[reportAttributeAccessIssue]
        sys.exit(2)
    except BrokenPipeError:
        # the reader of a pipe has gone (| head); that is not an error of ours
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if _interrupted(error):
            _complain("Interrupted.", _goes_on(arguments))
            sys.exit(130)
        if debug:
            raise
        sys.exit(_explained(error))
    if code == 130 and arguments[:1] != ["study"]:  # which has said so itself
        _complain("Interrupted.", _goes_on(arguments))
    sys.exit(code if isinstance(code, int) else 0)


def _interrupted(error: BaseException) -> bool:
    """Whether Ctrl-C is at the root of an error: Python wraps it while classes are made."""
    cause = error.__cause__ or error.__context__
    return isinstance(cause, KeyboardInterrupt) or (cause is not None and _interrupted(cause))


@contextmanager
def _warnings_in_a_line() -> Iterator[None]:
    """What lies outside the theory's validity is told as an error is, without a place in a file."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any) -> None:
            if issubclass(category, ValidityWarning):
                typer.secho(f"warning: {message}", err=True, fg="yellow")
            else:
                usual(message, category, *place)

        warnings.showwarning = show
        yield


def _explained(error: Exception) -> int:
    """Say in one line what went wrong, and return the exit code."""
    if isinstance(error, KadanoffError):
        _complain(error.message, error.remedy)
        return error.exit_code
    first = (str(error).strip().splitlines() or ["no message"])[0][:300]
    if isinstance(error, MemoryError) or "can't allocate memory" in first:
        _complain(f"There is not enough memory ({first}).", "Ask for fewer samples or less width.")
    else:
        _complain(
            f"Something broke that should not have: {type(error).__name__}: {first}",
            "Run again with --debug to see where, and please report it.",
        )
    return 3


def _goes_on(arguments: list[str]) -> str:
    """What an interrupted command may be told: whether repeating it repeats the work."""
    if "--checkpoint" in arguments or arguments[:2] == ["atlas", "add"]:
        return "What was finished is kept; the same command goes on from there."
    return ""


def _complain(message: str, remedy: str) -> None:
    text = f"error: {message}" + (f" {remedy}" if remedy else "")
    typer.secho(" ".join(text.split()), err=True, fg="red")


if __name__ == "__main__":
    main()

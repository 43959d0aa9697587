"""``kadanoff``: finds the command, imports only that one, and turns errors into exit codes."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from typing import Any

import typer
import typer.core

from kadanoff import __version__
from kadanoff.errors import KadanoffError

# newer typers carry their own copy of click: take the class from what typer itself raises
_ClickException: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")

# command -> module; a module offers either `command` (a function) or `app` (a group)
COMMANDS = {
    "diagnose": "kadanoff.cli.diagnose",
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
    "doctor": "kadanoff.cli.doctor",
}


class _LazyGroup(typer.core.TyperGroup):
    def list_commands(self, ctx: typer.Context) -> list[str]:
        return [name for name, module in COMMANDS.items() if importlib.util.find_spec(module)]

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS or not importlib.util.find_spec(COMMANDS[cmd_name]):
            return None
        module = importlib.import_module(COMMANDS[cmd_name])
        if hasattr(module, "app"):
            command = typer.main.get_command(module.app)
        else:
            single = typer.Typer(add_completion=False, rich_markup_mode="markdown")
            single.command(name=cmd_name)(module.command)
            command = typer.main.get_command(single)
        command.name = cmd_name
        return command


app = typer.Typer(
    cls=_LazyGroup,
    add_completion=False,
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
        code = app(args=arguments, standalone_mode=False, prog_name="kadanoff")
    except KadanoffError as error:
        if debug:
            raise
        _complain(error.message, error.remedy)
        sys.exit(error.exit_code)
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
    if code == 130 and arguments[:1] != ["study"]:  # which has said so itself
        _complain("Interrupted.", _goes_on(arguments))
    sys.exit(code if isinstance(code, int) else 0)


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

"""Options that belong together: one parameter of a command, one panel of its ``--help``.

A command takes a dataclass where it would take eight options::

    @dataclass(frozen=True)
    class Network(Panel, title="The network"):
        depth: Annotated[int, typer.Option(help="Linear maps.")] = 3
        width: Annotated[int, typer.Option(help="Hidden width.")] = 256


    def command(network: Network, seed: Seed = 0) -> None: ...

Typer knows nothing of dataclasses, so :func:`flattened` shows it a function that takes
``--depth``, ``--width`` and ``--seed`` side by side, and puts the panels together again when
it is called. A command that wants another default subclasses the panel.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable
from typing import Annotated, Any, ClassVar

import typer
import typer.core
from typer.models import OptionInfo

__all__ = ["Command", "Panel", "add", "flattened"]


class Panel:
    """Base of the dataclasses whose fields are options; ``title`` heads them in ``--help``."""

    title: ClassVar[str] = ""

    def __init_subclass__(cls, title: str = "", **more: Any) -> None:
        super().__init_subclass__(**more)
        if title:
            cls.title = title


class Command(typer.core.TyperCommand):
    """A command whose usage line leaves out what is hidden."""

    def collect_usage_pieces(self, ctx: typer.Context) -> list[str]:
        """``[OPTIONS] TARGET``, without the argument that holds the file of ``--json``."""
        pieces = [self.options_metavar] if self.options_metavar else []
        for param in self.get_params(ctx):
            if not getattr(param, "hidden", False):
                pieces += param.get_usage_pieces(ctx)
        return pieces


def add(group: typer.Typer, name: str, command: Callable[..., Any], **settings: Any) -> None:
    """Register a command whose options may come in panels."""
    group.command(name=name, cls=Command, **settings)(flattened(command))


def flattened(command: Callable[..., Any]) -> Callable[..., Any]:
    """The same command with the fields of its panels as parameters of its own.

    Parameters
    ----------
    command : callable
        Each of its parameters is an option or a subclass of :class:`Panel`.

    Returns
    -------
    callable
        What :meth:`typer.Typer.command` understands.
    """
    hints = typing.get_type_hints(command, include_extras=True)
    panels: dict[str, type[Panel]] = {}
    options: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        kind = hints[name]
        if isinstance(kind, type) and issubclass(kind, Panel):
            panels[name] = kind
            options += _fields(kind)
        else:
            options.append(_keyword(name, kind, parameter.default))

    @functools.wraps(command)
    def flat(**given: Any) -> Any:
        for name, kind in panels.items():
            values = {field.name: given.pop(field.name) for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
            given[name] = kind(**values)
        return command(**given)

    del flat.__wrapped__  # it is the flat signature that counts
    flat.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    flat.__annotations__ = {option.name: option.annotation for option in options}
    return flat


def _keyword(name: str, kind: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def _fields(panel: type[Panel]) -> list[inspect.Parameter]:
    """The fields of a panel as parameters, each under the panel's title."""
    hints = typing.get_type_hints(panel, include_extras=True)
    found = []
    for field in dataclasses.fields(panel):  # type: ignore[arg-type]
        missing = field.default is dataclasses.MISSING
        default = inspect.Parameter.empty if missing else field.default
        found.append(_keyword(field.name, _titled(hints[field.name], panel.title), default))
    return found


def _titled(kind: Any, title: str) -> Any:
    """``Annotated[type, typer.Option(...)]`` with the option under ``title``."""
    plain, info = typing.get_args(kind)
    if not title or not isinstance(info, OptionInfo):
        return kind
    # options are shared between panels
    info = copy.copy(info)
    info.rich_help_panel = title
    return Annotated[plain, info]

"""Every exception Kadanoff raises on purpose, each with its remedy.

A message says what was wrong, with the value that was wrong, and what to do about it. The
command line turns :class:`UsageError` into exit code 2 and :class:`AnalysisError` into exit
code 3; anything else that escapes is a defect of ours.
"""

from __future__ import annotations

import sys

__all__ = [
    "AnalysisError",
    "ConvergenceError",
    "DataError",
    "DescribeError",
    "DomainError",
    "KadanoffError",
    "MissingExtraError",
    "StorageError",
    "UsageError",
    "ValidityWarning",
    "install_command",
    "level_outside",
    "require_extra",
]


class KadanoffError(Exception):
    """Base of all deliberate errors.

    Parameters
    ----------
    message : str
        What was wrong, with the offending value.
    remedy : str, optional
        What to do. Shown after the message.
    """

    exit_code = 3

    def __init__(self, message: str, remedy: str = "") -> None:
        self.message = message
        self.remedy = remedy
        super().__init__(f"{message} {remedy}".strip())


class UsageError(KadanoffError, ValueError):
    """The call is wrong: a bad argument, file, target or shape (exit code 2)."""

    exit_code = 2


class DataError(UsageError):
    """The data cannot be used: missing, empty, non-finite, or of the wrong shape or dtype."""


class DomainError(UsageError):
    """A number lies outside the domain of a formula (a negative variance, say)."""


class DescribeError(UsageError):
    """A module is outside what the theory can describe; names each offending module."""


class AnalysisError(KadanoffError):
    """The call was right, yet the analysis could not be carried out (exit code 3)."""


class ConvergenceError(AnalysisError, ArithmeticError):
    """A quadrature, root search or iterative solve did not reach its stated accuracy."""


class StorageError(AnalysisError, OSError):
    """Writing or reading a result failed (disk full, read-only, corrupt); nothing is lost."""

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()


class MissingExtraError(UsageError, ImportError):
    """An optional dependency is absent; the message names the extra that installs it."""


class ValidityWarning(UserWarning):
    """A number was computed outside the regime where its theory is controlled (L/n not small)."""


def require_extra(module: str, extra: str):
    """Import ``module`` or raise an error that names the extra to install.

    Parameters
    ----------
    module : str
        Importable name, e.g. ``"pennylane"``.
    extra : str
        The extra of this project that provides it, e.g. ``"quantum"``.

    Raises
    ------
    MissingExtraError
    """
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"This needs the package {module.split('.')[0]!r}, which is not installed ({error}).",
            f"Install it with: {install_command(extra)}.",
        ) from None


def install_command(extra: str) -> str:
    """The command that installs the packages of an extra, whether or not we are on an index."""
    from importlib import metadata

    try:
        required = metadata.requires("kadanoff") or []
    except metadata.PackageNotFoundError:  # run from its source, never installed
        return f"pip install '.[{extra}]' in the folder of the clone"
    packages = [r.split(";")[0].strip() for r in required if f"extra == '{extra}'" in r]
    return "pip install " + " ".join(f"'{package}'" for package in packages)


def level_outside(*modules: str) -> int:
    """The ``stacklevel`` of a warning that is to point at whoever called in from outside.

    Parameters
    ----------
    *modules : str
        How the names of the modules inside begin; the function that warns is one of them.
    """
    # the function that warns is level 1
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(modules):
        frame, level = frame.f_back, level + 1
    return level

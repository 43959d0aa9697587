"""The examples in docstrings give what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import kadanoff

# these need an optional part to be imported at all
OPTIONAL = {"kadanoff.atlas", "kadanoff.sparsity.backends"}


def modules() -> list[str]:
    found = []
    for info in pkgutil.walk_packages(kadanoff.__path__, "kadanoff."):
        if not any(info.name.startswith(name) for name in OPTIONAL):
            found.append(info.name)
    return found


def test_docstring_examples() -> None:
    failed, tried = [], 0
    for name in modules():
        if name.endswith("__main__"):
            continue
        result = doctest.testmod(
            importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE
        )
        tried += result.attempted
        if result.failed:
            failed.append(name)
    assert not failed
    assert tried > 20


@pytest.mark.parametrize("name", kadanoff.__all__)
def test_each_public_name_is_there_and_says_what_it_is(name: str) -> None:
    value = getattr(kadanoff, name)
    assert isinstance(value, str) or (value.__doc__ or "").strip()

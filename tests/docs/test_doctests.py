"""The examples in docstrings give what they say."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import pkgutil
from pathlib import Path

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


def written() -> int:
    """Examples in the sources, counted without importing anything."""
    count = 0
    for info in modules():
        found = importlib.util.find_spec(info)
        if found is not None and found.origin is not None:
            text = Path(found.origin).read_text("utf-8")
            count += sum(line.lstrip().startswith(">>> ") for line in text.splitlines())
    return count


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
    # none was lost on the way, and none hides where doctest does not look
    assert tried == written() > 40


@pytest.mark.parametrize("name", kadanoff.__all__)
def test_each_public_name_is_there_and_says_what_it_is(name: str) -> None:
    value = getattr(kadanoff, name)
    assert isinstance(value, str) or (value.__doc__ or "").strip()

"""The map for whoever carries on is true: files it names exist, packages tell of their files."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SOURCE = ROOT / "src" / "kadanoff"
MAPS = [ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs" / "internals").glob("*.md"))]
PACKAGES = sorted(path.parent for path in SOURCE.rglob("__init__.py"))


@pytest.mark.parametrize("page", MAPS, ids=lambda path: path.name)
def test_every_file_that_is_named_exists(page: Path) -> None:
    text = page.read_text("utf-8")
    named = set(re.findall(r"`((?:[a-z_]+/)+(?:[a-z_]+\.py)?)`", text))
    there = [name for name in named if (SOURCE / name).exists() or (ROOT / name).exists()]
    assert sorted(named - set(there) - {"src/kadanoff/*"}) == []
    for link in re.findall(r"\]\(([^)#]+\.md)\)", text):
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_a_package_says_what_its_files_are_for(package: Path) -> None:
    said = ast.get_docstring(ast.parse((package / "__init__.py").read_text("utf-8"))) or ""
    files = {path.stem for path in package.glob("*.py")} - {"__init__"}
    files |= {path.parent.name for path in package.glob("*/__init__.py")}
    told = set(re.findall(r"``(\w+)``", said))
    assert sorted(name for name in files - told if not name.startswith("_")) == []


def test_the_import_rule_knows_every_room() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    known = {name.strip(" ()") for layer in layers for name in layer.split(":")}
    rooms = {path.stem for path in SOURCE.glob("*.py")} - {"__init__", "__main__"}
    rooms |= {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert rooms <= known
    said = (SOURCE / "__init__.py").read_text("utf-8")
    for room in rooms:
        assert room.startswith("_") or f"``{room}``" in said, room

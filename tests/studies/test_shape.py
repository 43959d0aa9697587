"""Every study has the same shape, and each file does one thing."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from kadanoff.studies import registry

STUDIES = Path(registry.__file__).parent
NAMES = [study.name.replace("-", "_") for study in registry.all()]
FILES = ("claims", "parts", "decisions", "figures", "page", "study")
# what each file leaves to the others
LEAVES = {
    "claims": ("kadanoff.style", "kadanoff.studies.lab"),
    "parts": ("kadanoff.style", "kadanoff.studies.lab", "matplotlib"),
    "decisions": ("kadanoff.style", "matplotlib"),
    "figures": ("kadanoff.studies.lab",),
    "page": ("kadanoff.style", "matplotlib"),
}


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            found |= {node.module or "", *(f"{node.module}.{name.name}" for name in node.names)}
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_study_has_the_shape_of_the_others(name: str) -> None:
    for file in FILES:
        assert (STUDIES / name / f"{file}.py").is_file()
    for file, others in LEAVES.items():
        found = imported(STUDIES / name / f"{file}.py")
        if file == "figures":  # drawn for the reader of a type checker only
            found -= {"matplotlib.figure", "matplotlib.figure.Figure"}
        for other in others:
            assert not {module for module in found if module.startswith(other)}, (file, other)


@pytest.mark.parametrize("name", NAMES)
def test_the_page_decides_and_draws_nothing_itself(name: str) -> None:
    tree = ast.parse((STUDIES / name / "page.py").read_text("utf-8"))
    calls = [
        (node.func.attr, node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    ]
    # what a size cannot decide may be said where the size is chosen
    assert not [node for attr, node in calls if attr == "decide" and _of(node) == "lab"]


def _of(node: ast.Call) -> str:
    assert isinstance(node.func, ast.Attribute)
    return node.func.value.id if isinstance(node.func.value, ast.Name) else ""


def test_nobody_else_writes_a_verdict() -> None:
    """No study compares by itself: criteria are data, one function judges."""
    for path in STUDIES.rglob("*.py"):
        if path.name not in ("claims.py", "verdicts.py", "page.py", "lab.py"):
            text = path.read_text("utf-8")
            assert "holds=" not in text, path
            assert '"holds"' not in text, path

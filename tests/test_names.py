"""No module bears the name of a function: `kadanoff.data.load` can only be one of the two."""

from __future__ import annotations

import ast
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src" / "kadanoff"


def functions(module: Path) -> set[str]:
    body = ast.parse(module.read_text("utf-8")).body
    return {node.name for node in body if isinstance(node, ast.FunctionDef)}


def test_no_module_bears_the_name_of_a_function_beside_it() -> None:
    found = []
    for folder in sorted({path.parent for path in SOURCE.rglob("*.py")}):
        modules = {path.stem for path in folder.glob("*.py")}
        for path in sorted(folder.glob("*.py")):
            found += [f"{path.stem}: {name}" for name in functions(path) & modules]
    assert found == []

"""Public functions with three or more parameters say what each is: shapes, units, normalisation."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent.parent / "src" / "kadanoff"
# applications
LEFT = {"cli", "studies"}
# compiled loops that share their arguments, which are told once at the top of the file
FILES_LEFT = {"sparsity/backends/numba_kernels.py"}
ROOMS = sorted({p.relative_to(SOURCE).parts[0].removesuffix(".py") for p in SOURCE.rglob("*.py")})


def told(node: ast.stmt) -> bool:
    """Whether it is a function that a reader sees, not the type of one of its uses."""
    if not isinstance(node, ast.FunctionDef):
        return False
    return all(ast.unparse(d) != "overload" for d in node.decorator_list)


def public(module: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Functions that a module offers, and the methods of its classes."""
    offered = set()
    for node in module.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            offered = {
                name.value
                for name in getattr(node.value, "elts", [])
                if isinstance(name, ast.Constant)
            }
    for node in module.body:
        if told(node) and node.name in offered:
            yield node.name, node
        if isinstance(node, ast.ClassDef) and node.name in offered:
            for method in node.body:
                if told(method) and not method.name.startswith("_"):
                    yield f"{node.name}.{method.name}", method


def parameters(function: ast.FunctionDef) -> list[str]:
    given = function.args
    names = [a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return [name for name in names if name not in ("self", "cls")]


def without_section(room: str) -> list[str]:
    files = (SOURCE / room).rglob("*.py") if (SOURCE / room).is_dir() else [SOURCE / f"{room}.py"]
    found = []
    for path in sorted(files):
        if path.stem.startswith("_") and path.stem != "__init__":
            continue
        if path.relative_to(SOURCE).as_posix() in FILES_LEFT:
            continue
        for name, function in public(ast.parse(path.read_text("utf-8"))):
            said = ast.get_docstring(function) or ""
            if len(parameters(function)) >= 3 and "Parameters\n---" not in said:
                found.append(f"{path.relative_to(SOURCE)}: {name}")
    return found


@pytest.mark.parametrize("room", [room for room in ROOMS if room not in LEFT and room[0] != "_"])
def test_functions_of_three_parameters_say_what_each_is(room: str) -> None:
    assert without_section(room) == []

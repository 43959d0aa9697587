"""The reference is complete, and what the pages name exists."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import pkgutil
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import kadanoff
from tests.needs import needs

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "README.md"])
# applications, not for import: their reference is the page of commands and that of the atlas
APPLICATIONS = ("kadanoff.cli", "kadanoff.atlas")
# a study is a program of these parts; the physics beside them is in the reference
STUDY_PARTS = ("claims", "parts", "decisions", "figures", "page", "study")


def loaded(name: str) -> ModuleType:
    """``docs/NAME.py`` as a module."""
    spec = importlib.util.spec_from_file_location(f"site_{name}", DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    needs("mkdocs", "docs")
    return loaded("hooks")


def public_modules() -> set[str]:
    found = set()
    for info in pkgutil.walk_packages([str(ROOT / "src" / "kadanoff")], "kadanoff."):
        parts = info.name.split(".")
        if info.name.startswith(APPLICATIONS) or any(p.startswith("_") for p in parts):
            continue
        if info.name.startswith("kadanoff.studies."):
            if len(parts) == 3 and info.ispkg:
                continue
            if len(parts) == 4 and parts[3] in STUDY_PARTS:
                continue
        found.add(info.name)
    return found


def test_every_public_module_is_in_the_reference(hooks: ModuleType) -> None:
    listed: list[str] = []
    for page in (DOCS / "reference").rglob("*.md"):
        text = hooks.on_page_markdown(page.read_text("utf-8"))
        listed += re.findall(r"^::: (\S+)", text, re.M)
    assert public_modules() - set(listed) == set()
    assert len(listed) == len(set(listed))
    for name in kadanoff.__all__:
        value = getattr(kadanoff, name)
        assert f"kadanoff.{name}" in listed or isinstance(value, str), name


def test_the_site_understands_every_block_of_code(hooks: ModuleType) -> None:
    for page in PAGES:
        text = hooks.on_page_markdown(page.read_text("utf-8"))
        for fence in re.findall(r"^```(.*)$", text, re.M):
            assert re.fullmatch(r'(\w+( title="[\w.]+")?)?', fence), (page.name, fence)
    tutorial = (DOCS / "tutorial.md").read_text("utf-8")
    assert '```python title="my_net.py"\n' in hooks.on_page_markdown(tutorial)


def test_every_command_and_option_is_in_the_reference(hooks: ModuleType) -> None:
    from kadanoff.cli.app import COMMANDS

    page = hooks._commands()
    for name in COMMANDS:
        assert f"## kadanoff {name}\n" in page
    for option in ("--html", "--C_W", "--checkpoint", "--data-dir", "--progress"):
        assert option in page


def test_roles_and_formulas_of_docstrings_become_markdown() -> None:
    needs("griffe", "docs")
    module = loaded("docstrings")
    text = (
        "The map.\n\n.. math::\n   a &= b \\\\\n   c &= d\n\nSee :func:`~kadanoff.flow`, :math:`x`."
    )
    found = module.markdown(text)
    assert "$$\n\\begin{align}a &= b \\\\\nc &= d\\end{align}\n$$\n" in found
    assert "`kadanoff.flow`, $x$." in found
    assert module.markdown("    .. math:: E = mc^2\n\n    And so on.") == (
        "    $$\n    E = mc^2\n    $$\n\n    And so on."
    )


def resolve(name: str) -> object:
    """The object of a dotted name: the longest importable module, then attributes."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        module = ".".join(parts[:cut])
        if importlib.util.find_spec(module) if cut == 1 else _there(module):
            value: object = importlib.import_module(module)
            for part in parts[cut:]:
                value = getattr(value, part)
            return value
    raise AttributeError(name)


def _there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_name_on_a_page_exists(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.S)
    names = set(re.findall(r"`(?:kadanoff|kd)\.([a-z][\w.]*\w)", text))
    names |= {n.removeprefix("kadanoff.") for n in re.findall(r"\]\[kadanoff\.([\w.]+)\]", text)}
    for name in names:
        resolve(f"kadanoff.{name}")


@pytest.mark.parametrize(
    "page", [*sorted((DOCS / "theory").glob("*.md")), DOCS / "sparsity.md"], ids=lambda p: p.name
)
def test_each_equation_stands_next_to_the_function_that_computes_it(page: Path) -> None:
    for section in re.split(r"^## ", page.read_text("utf-8"), flags=re.M):
        parts = section.split("$$")
        for k in range(1, len(parts), 2):
            after = "$$".join(parts[k + 1 :])
            assert re.search(r"^→ .*\[`kadanoff\.", after, re.M), parts[k]


def lazy_packages() -> list[str]:
    return [
        ".".join(p.relative_to(ROOT / "src").parent.parts)
        for p in sorted((ROOT / "src" / "kadanoff").rglob("__init__.py"))
        if "attach(" in p.read_text("utf-8")
    ]


@pytest.mark.parametrize("package", lazy_packages())
def test_a_lazy_package_tells_type_checkers_what_it_gives(package: str) -> None:
    module = importlib.import_module(package)
    source = Path(module.__file__ or "").read_text("utf-8")
    block = next(
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    told: dict[str, str] = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        for name in node.names:
            assert name.asname == name.name
            told[name.name] = node.module or ""
    assert set(told) == set(module.__all__) - {"__version__"}
    for name, home in told.items():
        value = getattr(module, name)
        assert value is getattr(importlib.import_module(home), name)
        assert name in dir(module)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = module.nonsense


def test_every_public_module_says_what_it_offers() -> None:
    for name in sorted(public_modules()):
        if "backends" in name and name.endswith(
            ("numba_backend", "numba_kernels", "triton_backend")
        ):
            continue  # these need an optional part to be imported at all
        module = importlib.import_module(name)
        source = Path(module.__file__ or "").read_text("utf-8")
        offered = getattr(module, "__all__", None)
        if offered is None:  # a package with nothing of its own
            assert not re.search(r"^(def|class|from kadanoff)", source, re.M), name
            continue
        assert len(offered) == len(set(offered))
        for word in offered:
            assert hasattr(module, word), (name, word)

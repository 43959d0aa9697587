"""What is built holds what is needed, and the minimal Python and extras are stated alike."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from kadanoff.cli.doctor import CORE, EXTRAS
from kadanoff.errors import install_command
from tests.needs import needs

ROOT = Path(__file__).parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def name_of(requirement: str) -> str:
    return requirement.split(">=")[0].split("[")[0]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    needs("hatchling", "test")
    folder = tmp_path_factory.mktemp("built")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


def test_the_wheel_holds_every_file_of_the_package(built: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
    source = ROOT / "src"
    tracked = subprocess.run(
        ["git", "ls-files", "src"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    files = [ROOT / name for name in tracked] or [
        p for p in source.rglob("*") if p.is_file() and "__pycache__" not in p.parts
    ]
    wanted = {p.relative_to(source).as_posix() for p in files if p.is_file()}
    assert len(wanted) > 250
    assert wanted <= names
    rest = {n.split("/")[0] for n in names} - {"kadanoff"}
    assert all(n.endswith(".dist-info") for n in rest)  # no tests, no tools


def test_the_sdist_holds_what_its_tests_need(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {n.split("/", 1)[-1] for n in archive.getnames()}
    for name in ("tests/conftest.py", "benchmarks/__init__.py", "examples/deep_tanh.py",
                 "docs/index.md", "mkdocs.yml", "bootstrap.py", "constraints.txt"):  # fmt: skip
        assert name in names


def test_doctor_knows_every_dependency_and_extra() -> None:
    optional = {
        name: {name_of(r) for r in wanted}
        for name, wanted in PROJECT["optional-dependencies"].items()
        if name not in ("test", "docs")
    }
    assert {name: set(packages) for name, (packages, _) in EXTRAS.items()} == optional
    assert set(CORE) == {name_of(r) for r in PROJECT["dependencies"]}


def test_the_oldest_python_is_said_once_in_every_place() -> None:
    oldest = PROJECT["requires-python"].removeprefix(">=")
    assert f"Programming Language :: Python :: {oldest}" in PROJECT["classifiers"]
    whole = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert whole["tool"]["pyright"]["pythonVersion"] == oldest
    assert whole["tool"]["ruff"]["target-version"] == "py" + oldest.replace(".", "")
    assert f"({oldest.replace('.', ', ')})" in (ROOT / "bootstrap.py").read_text("utf-8")


def test_what_the_pages_say_installs_it(built: Path, tmp_path: Path) -> None:
    """The command of the docs, as far as it goes without a network: the wheel, by itself."""
    said = (ROOT / "docs" / "includes" / "install.md").read_text("utf-8")
    assert re.findall(r"^\$ (.*)", said, re.M) == ["pip install ."]
    wheel = str(next(built.glob("*.whl")))
    alone = ["--no-deps", "--no-index", "--quiet", "--target", str(tmp_path)]
    subprocess.run([sys.executable, "-m", "pip", "install", *alone, wheel], check=True)
    where = "import kadanoff as kd; print(kd.__file__); print(kd.criticality('relu').C_W)"
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    for command in (["-c", where], ["-m", "kadanoff", "critical", "gelu"]):
        done = subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        if command[0] == "-c":
            place, gain = done.stdout.split()
            assert Path(place).is_relative_to(tmp_path)
            assert float(gain) == 2.0
        else:
            assert "1.98" in done.stdout


def test_pages_promise_no_package_index() -> None:
    pages = [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", *(ROOT / "src").rglob("*.py")]
    for page in pages:
        assert not re.search(r"pip install ['\"]?kadanoff", page.read_text("utf-8")), page


def test_an_extra_is_installed_by_its_packages() -> None:
    assert install_command("gp") == "pip install 'gpytorch>=1.12'"
    assert install_command("hf").startswith("pip install 'tokenizers")

"""Build the wheel and the sdist, install them as a user would, and try what was installed.

    python tools/check_packages.py                                   # the whole matrix
    python tools/check_packages.py --python 3.13 --resolution highest
    python tools/check_packages.py --python 3.11 --each-extra        # every extra on its own
    python tools/check_packages.py --python 3.12 --resolution lowest-direct --tests tests/gaussian

It needs uv (https://docs.astral.sh/uv) and a network, and keeps its environments in a temporary
folder. An interpreter that is not on this machine is skipped, and the table says so. PyTorch comes
from the package index, which for Linux means several gigabytes the first time; ``--torch 2.13.0``
asks for that one instead.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PYTHONS = ("3.11", "3.12", "3.13")
RESOLUTIONS = ("lowest-direct", "highest")
TRY = Path(__file__).parent / "try_installed.py"


@dataclass(frozen=True)
class Case:
    """One environment: an interpreter, a way to choose versions, the extras."""

    python: str
    resolution: str
    extras: str
    source: str = "wheel"


@dataclass(frozen=True)
class Outcome:
    """What became of a case."""

    case: Case
    verdict: str
    torch: str
    seconds: float
    said: str


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
OPTIONAL = {k: v for k, v in PROJECT["optional-dependencies"].items() if k not in ("test", "docs")}


def requirements(extras: str) -> list[str]:
    """What the package asks for: named again, so that "lowest" means these and not ours alone."""
    chosen = [r for extra in extras.split(",") if extra for r in OPTIONAL[extra]]
    return [*PROJECT["dependencies"], *chosen]


def build(folder: Path) -> dict[str, Path]:
    """Build the sdist, and the wheel from the sdist."""
    run("uv", "build", "--quiet", "--out-dir", str(folder), str(ROOT))
    return {"wheel": next(folder.glob("*.whl")), "sdist": next(folder.glob("*.tar.gz"))}


def run(*command: str, cwd: Path | None = None) -> str:
    """The output of a command; its last lines as the error where it fails."""
    done = subprocess.run(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        raise RuntimeError("\n".join(done.stdout.strip().splitlines()[-25:]))
    return done.stdout


def interpreter(version: str) -> str | None:
    """A Python of that version on this machine, also one of pyenv's that is not on the PATH."""
    pyenv = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
    if pyenv:
        return str(pyenv[-1])
    command = ["uv", "python", "find", "--no-python-downloads", version]
    found = subprocess.run(command, capture_output=True, text=True)
    return None if found.returncode else found.stdout.strip()


def attempt(case: Case, built: dict[str, Path], arguments: argparse.Namespace) -> Outcome:
    """Install one case and try it."""
    start, torch = time.perf_counter(), "-"

    def outcome(verdict: str, said: str = "") -> Outcome:
        return Outcome(case, verdict, torch, time.perf_counter() - start, said)

    found = interpreter(case.python)
    if found is None:
        return outcome(f"skipped: no Python {case.python} here")
    with tempfile.TemporaryDirectory(prefix="kadanoff-", dir=arguments.folder) as name:
        folder = Path(name)
        python = str(folder / "venv" / "bin" / "python")
        bracket = f"[{case.extras}]" if case.extras else ""
        wanted = [f"kadanoff{bracket} @ {built[case.source].as_uri()}", *requirements(case.extras)]
        if arguments.torch and case.resolution == "highest":
            wanted.append(f"torch=={arguments.torch}")
        try:
            run("uv", "venv", "--quiet", "--python", found, str(folder / "venv"))
            install = ["uv", "pip", "install", "--quiet", "--python", python]
            # a version without a wheel for this Python would be compiled: take the next one
            binary = ["--no-build"] if case.source == "wheel" else []
            run(*install, "--resolution", case.resolution, *binary, *wanted)
            torch = run(python, "-c", "import torch; print(torch.__version__)").strip()
            run(python, "-P", str(TRY), case.extras, cwd=folder)
            if arguments.tests:
                run(*install, "pytest", "hypothesis", "mpmath")
                tests = ["-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments.tests]
                said = run(python, *tests, cwd=ROOT).strip().splitlines()[-1]
                return outcome("passed", said)
        except RuntimeError as error:
            return outcome("FAILED", str(error))
    return outcome("passed")


def table(outcomes: list[Outcome]) -> str:
    """The outcomes as a Markdown table."""
    lines = ["| Python | versions | extras | from | torch | | s |", "|---|---|---|---|---|---|---|"]
    for o in outcomes:
        c = o.case
        cells = (c.python, c.resolution, c.extras or "none", c.source, o.torch, o.verdict)
        lines.append("| " + " | ".join(cells) + f" | {o.seconds:.0f} |")
    return "\n".join(lines)


def main() -> int:
    """Run the cases that the arguments ask for; 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", nargs="+", default=PYTHONS)
    parser.add_argument("--resolution", nargs="+", default=RESOLUTIONS, choices=RESOLUTIONS)
    parser.add_argument("--extras", default="all", help="comma-separated, 'none' or 'all'")
    parser.add_argument("--each-extra", action="store_true", help="every extra on its own")
    parser.add_argument("--from", dest="source", default="wheel", choices=("wheel", "sdist"))
    parser.add_argument("--torch", help="this version of PyTorch where the newest is meant")
    parser.add_argument("--tests", nargs="*", help="folders of tests to run as well")
    parser.add_argument("--folder", help="where the environments are made")
    arguments = parser.parse_args()
    if shutil.which("uv") is None:
        sys.exit("error: uv is missing. Install it with: pip install uv.")
    every = ",".join(OPTIONAL)
    chosen = {"all": every, "none": ""}.get(arguments.extras, arguments.extras)
    wanted = ["", *OPTIONAL] if arguments.each_extra else [chosen]
    cases = [
        Case(python, resolution, extra, arguments.source)
        for python in arguments.python
        for resolution in arguments.resolution
        for extra in wanted
    ]
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="kadanoff-built-") as name:
        built = build(Path(name))
        for case in cases:
            found = attempt(case, built, arguments)
            outcomes.append(found)
            print(f"{case}: {found.verdict} ({found.seconds:.0f} s) {found.said}", flush=True)
    print("\n" + table(outcomes))
    return int(any(o.verdict == "FAILED" for o in outcomes))


if __name__ == "__main__":
    sys.exit(main())

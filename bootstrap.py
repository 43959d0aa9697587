#!/usr/bin/env python3
"""Set everything up in .venv (Python >= 3.11 and pip are enough), then run one command.

    python bootstrap.py diagnose examples/deep_tanh.py:default --data digits --html report.html
    python bootstrap.py test

Any `kadanoff` command works in place of `diagnose`. `test` runs ruff, pyright and pytest;
arguments after it go to pytest. Nothing outside this folder is touched.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = Path(os.environ.get("KADANOFF_VENV", ROOT / ".venv"))
SCRIPTS = VENV / ("Scripts" if os.name == "nt" else "bin")
TEST_EXTRAS = "test,docs,atlas,hf,sparse,files,gp,quantum,surrogates,ray,lightning"


def run(*command: str, check: bool = True) -> int:
    result = subprocess.run(command, cwd=ROOT)
    if check and result.returncode:
        sys.exit(f"error: {' '.join(command)} failed with exit code {result.returncode}.")
    return result.returncode


def install(extras: str) -> None:
    """Install the project unless the same request was met by the same pyproject before."""
    wanted = hashlib.sha256(
        (ROOT / "pyproject.toml").read_bytes()
        + (ROOT / "constraints.txt").read_bytes()
        + str(ROOT).encode()
    ).hexdigest()
    stamp = VENV / f"installed-{extras.replace(',', '-') or 'core'}"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    if not (SCRIPTS / "python").exists() and not (SCRIPTS / "python.exe").exists():
        print(f"Creating {VENV} …", flush=True)
        try:
            venv.create(VENV, with_pip=True)
        except subprocess.CalledProcessError:
            sys.exit(
                "error: this Python cannot make virtual environments (ensurepip is missing). "
                "Install it (Debian, Ubuntu: apt install python3-venv) and run this again."
            )
    target = f".[{extras}]" if extras else "."
    print(f"Installing kadanoff{target[1:]} (PyTorch is large: a few minutes) …", flush=True)
    python = str(SCRIPTS / "python")
    run(python, "-m", "pip", "install", "-q", "-c", "constraints.txt", "-e", target)
    stamp.write_text(wanted)


def test(arguments: list[str]) -> int:
    install(TEST_EXTRAS)
    python = str(SCRIPTS / "python")
    os.environ.setdefault("NO_MKDOCS_2_WARNING", "1")
    failed = []
    for name, command in {
        "ruff check": [python, "-m", "ruff", "check", "."],
        "ruff format": [python, "-m", "ruff", "format", "--check", "."],
        "import rule": [str(SCRIPTS / "lint-imports")],
        "pyright": [python, "-m", "pyright", "--pythonpath", python],
        "docs": [python, "-m", "mkdocs", "build", "--strict", "--quiet"],
    }.items():
        print(f"== {name}", flush=True)
        if run(*command, check=False):
            failed.append(name)
    print("== pytest", flush=True)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("MPLBACKEND", "Agg")
    # all extras are there: a test that misses one fails instead of skipping
    os.environ.setdefault("KADANOFF_TEST_EVERYTHING", "1")
    workers = str(min(os.cpu_count() or 1, 8))
    options = arguments or ["-n", workers, "--dist", "loadfile", "-q", "--durations=25"]
    if run(python, "-m", "pytest", *options, check=False):
        failed.append("pytest")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


def main() -> int:
    if sys.version_info < (3, 11):  # noqa: UP036 (the one file an old Python may run)
        sys.exit(f"error: Python >= 3.11 is needed, this is {sys.version.split()[0]}.")
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__)
        return 0
    if arguments[0] == "test":
        return test(arguments[1:])
    install("hf,files" if any("hf_" in a for a in arguments) else "")
    return subprocess.run([str(SCRIPTS / "kadanoff"), *arguments]).returncode


if __name__ == "__main__":
    sys.exit(main())

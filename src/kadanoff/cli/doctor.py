"""``kadanoff doctor``: what is installed, what is missing, what it would give."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from typing import Any

import typer

from kadanoff.cli.output import JsonOptions, Output

__all__ = ["command", "survey"]

# extra -> (distributions it brings, what it is for)
EXTRAS = {
    "files": (("pyarrow", "safetensors"), "reading .parquet and .safetensors files"),
    "hf": (("transformers", "tokenizers"), "models of Hugging Face transformers"),
    "ray": (("ray",), "ensembles on a cluster"),
    "quantum": (("pennylane", "pennylane-lightning"), "quantum neural networks"),
    "surrogates": (("neuraloperator",), "neural operators"),
    "sparse": (("numba",), "compiled sparse kernels"),
    "lightning": (("pytorch-lightning", "accelerate"), "watching trainers of others"),
    "gp": (("gpytorch",), "comparison with Gaussian processes"),
    "atlas": (("fastapi", "uvicorn", "jinja2", "nh3", "httpx"), "the web atlas of papers"),
}
CORE = (
    "torch",
    "numpy",
    "scipy",
    "scikit-learn",
    "matplotlib",
    "joblib",
    "rich",
    "typer",
    "markdown-it-py",
    "latex2mathml",
)


def command(result: JsonOptions) -> None:
    """Show versions, devices, threads and optional packages; say what to install.

    Exit code 0: all that is needed is there; 1: a package every command needs is missing.

    Example: `kadanoff doctor`
    """
    from kadanoff.style.progress import waiting

    output = Output("doctor", result)
    with waiting("looking around"):
        found = survey()
    missing = [name for name, version in found["packages"].items() if version is None]
    output.write(found)
    if output.for_people:
        _show(found)
    output.say_where()
    raise typer.Exit(1 if missing else 0)


def survey() -> dict[str, Any]:
    """Everything ``doctor`` shows, as JSON values."""
    from kadanoff import __version__
    from kadanoff.errors import install_command

    return {
        "kadanoff": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in CORE},
        "devices": _devices(),
        "threads": _threads(),
        "extras": {
            extra: {
                "packages": {name: _version(name) for name in names},
                "complete": all(_version(name) for name in names),
                "purpose": purpose,
                "install": install_command(extra),
            }
            for extra, (names, purpose) in EXTRAS.items()
        },
        "terminal": {
            "encoding": getattr(sys.stdout, "encoding", None),
            "colour": "NO_COLOR" not in os.environ,
        },
    }


def _version(name: str) -> str | None:
    try:
        if name == "torch":  # its own word names the build: +cpu, +cu130
            import torch

            return torch.__version__
        return importlib.metadata.version(name)
    except (importlib.metadata.PackageNotFoundError, ImportError):
        return None


def _devices() -> list[dict[str, Any]]:
    import torch

    found: list[dict[str, Any]] = [{"name": "cpu", "detail": f"{os.cpu_count()} cores"}]
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        known = torch.cuda.get_device_properties(i)
        found.append(
            {"name": f"cuda:{i}", "detail": f"{known.name}, {known.total_memory / 2**30:.0f} GiB"}
        )
    mps = getattr(torch.backends, "mps", None)
    if mps is not None and mps.is_available():
        found.append({"name": "mps", "detail": "Apple GPU"})
    return found


def _threads() -> dict[str, Any]:
    import torch

    return {
        "torch": torch.get_num_threads(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        "cores": os.cpu_count(),
    }


def _show(found: dict[str, Any]) -> None:
    from rich.table import Table

    from kadanoff.style.progress import console

    screen = console()
    screen.print(f"kadanoff {found['kadanoff']}, Python {found['python']}, {found['platform']}")
    threads = found["threads"]
    screen.print(f"torch uses {threads['torch']} of {threads['cores']} cores")
    for device in found["devices"]:
        screen.print(f"device {device['name']}: {device['detail']}")
    if len(found["devices"]) == 1:
        screen.print("no GPU: every command runs on the CPU")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("package", "version", "for", "to install"):
        table.add_column(name, no_wrap=name != "for", overflow="fold")
    for name, version in found["packages"].items():
        table.add_row(
            name, version or "MISSING", "every command", "" if version else f"pip install {name}"
        )
    for about in found["extras"].values():
        for name, version in about["packages"].items():
            hint = "" if version else about["install"].replace("[", "\\[")
            table.add_row(name, version or "absent", about["purpose"], hint)
    screen.print()
    screen.print(table)

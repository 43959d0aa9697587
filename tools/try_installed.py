"""Try an installed Kadanoff: every module, and the main work of every command.

    python tools/try_installed.py hf,atlas      # the extras that were installed

It runs in the current folder, which must be empty, and imports nothing but the standard library
before Kadanoff itself, so that it fits any environment.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import pkgutil
import sys
import warnings
from pathlib import Path

# module -> extra without which it cannot be imported
NEEDS = {
    "kadanoff.atlas": "atlas",
    "kadanoff.sparsity.backends.numba": "sparse",
    "kadanoff.sparsity.backends.triton_backend": "",
}
MODEL = """
import torch
from torch import nn

def build(depth=6, width=32):
    layers = [nn.Linear(64, width), nn.ReLU()]
    for _ in range(depth):
        layers += [nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, 10))
"""
COMMANDS = {
    "doctor --json": 0,
    "critical gelu --json": 0,
    "diagnose model.py:build --data digits --html report.html --json report.json": 1,
    "tune model.py:build --data digits --save tuned.pt --json": 0,
    "sparsity model.py:build --data digits --accelerate --html sparsity.html": 0,
    "flow --activation gelu --depth 4 --width 64 --inputs 2 --plot flow.svg": 0,
    "ensemble --activation tanh --depth 3 --width 16 --networks 2000 --json": 0,
    "compare --activation relu --depth 3 --width 16 --networks 4000 --observables K,V": 0,
    "kernel --activation relu --depth 4 --data wine --out gram.npz": 0,
    "predict --data diabetes --train 40 --test 5": 0,
    "study run exact-priors --quick --progress none": 0,
    "study list": 0,
}
FOR_EXTRA = {
    "atlas": {
        "atlas export atlas.json --data-dir atlas": 0,
        "atlas import atlas.json --data-dir second": 0,
    },
    "hf": {"diagnose gpt.py:build --data text --batch 4 --json gpt.json": None},
    "files": {"diagnose model.py:build --data table.parquet:y --json": None},
}
GPT = """
from transformers import GPT2Config, GPT2LMHeadModel

def build():
    return GPT2LMHeadModel(GPT2Config(vocab_size=128, n_positions=32, n_embd=32, n_layer=2,
                                      n_head=2, use_cache=False, bos_token_id=0, eos_token_id=0))
"""


def command(words: str) -> tuple[int, str, str]:
    """Exit code, output and errors of one command, in this process."""
    from kadanoff.cli.app import main

    said, complained = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
        try:
            main(words.split())
        except SystemExit as stop:
            code = int(stop.code or 0)
    return code, said.getvalue(), complained.getvalue()


def modules(installed: set[str]) -> list[str]:
    """Import every module; what cannot be imported though its extra is there."""
    import kadanoff

    failed = []
    for info in pkgutil.walk_packages(kadanoff.__path__, "kadanoff."):
        extra = next((e for name, e in NEEDS.items() if info.name.startswith(name)), None)
        if info.name.endswith("__main__") or (extra is not None and extra not in installed):
            continue
        try:
            importlib.import_module(info.name)
        except Exception as error:  # whatever it is, it is what this looks for
            failed.append(f"import {info.name}: {type(error).__name__}: {error}")
    for name in kadanoff.__all__:
        getattr(kadanoff, name)
    return failed


def parts(installed: set[str]) -> list[str]:
    """The optional parts through their Python names."""
    import torch

    import kadanoff as kd

    failed = []

    def check(extra: str, work) -> None:
        from kadanoff.errors import MissingExtraError

        try:
            work()
        except MissingExtraError as error:
            if extra in installed:
                failed.append(f"{extra}: {error}")
        except Exception as error:
            failed.append(f"{extra}: {type(error).__name__}: {error}")
        else:
            if extra not in installed:
                print(f"note: {extra} works although it was not asked for")

    X = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    arch = kd.MLP(3, [16], 1, "relu", C_W=2.0)

    def gp() -> None:
        from kadanoff.kernels import gpytorch_kernel

        gpytorch_kernel(kd.kernel(arch))(X).to_dense()

    def quantum() -> None:
        from kadanoff.studies.quantum_laziness.quantum import pennylane

        circuit = kd.quantum.hardware_efficient(2, 2).one(0)
        pennylane.qnode(circuit, kd.quantum.Observable.pauli("ZI"))(
            torch.zeros(circuit.n_parameters)
        )

    def surrogates() -> None:
        from kadanoff.studies.diffusion_surrogates.diffusion.networks import fourier_operator

        fourier_operator()

    def ray() -> None:
        importlib.import_module("ray.util.joblib")

    for extra, work in {"gp": gp, "quantum": quantum, "surrogates": surrogates}.items():
        check(extra, work)
    if "ray" in installed:
        check("ray", ray)
    return failed


def main() -> int:
    """0 if everything works."""
    installed = {name for name in (sys.argv[1:] or [""])[0].split(",") if name}
    os.environ["MPLBACKEND"] = "Agg"
    warnings.simplefilter("ignore")
    Path("model.py").write_text(MODEL)
    Path("gpt.py").write_text(GPT)
    failed = modules(installed) + parts(installed)
    if "files" in installed:
        import numpy
        import pyarrow
        import pyarrow.parquet

        columns = {f"x{i}": numpy.random.default_rng(i).normal(size=200) for i in range(64)}
        table = pyarrow.table({**columns, "y": numpy.arange(200) % 10})
        pyarrow.parquet.write_table(table, "table.parquet")
    commands = dict(COMMANDS)
    for extra in sorted(installed):
        commands |= FOR_EXTRA.get(extra, {})
    print(f"modules and optional parts: {len(failed)} failed", flush=True)
    for words, expected in commands.items():
        code, said, complained = command(words)
        print(f"exit {code}: kadanoff {words}", flush=True)
        wrong = code not in (0, 1) if expected is None else code != expected
        if wrong or "Traceback" in said + complained:
            tail = (said + complained)[-1500:]
            failed.append(f"kadanoff {words}: exit {code}, expected {expected}\n{tail}")
        elif words.endswith("--json"):
            try:
                json.loads(said)
            except ValueError as error:
                failed.append(f"kadanoff {words}: {error}: {said[:200]!r}")
    print("\n".join(failed) or f"all of it works ({len(commands)} commands)")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())

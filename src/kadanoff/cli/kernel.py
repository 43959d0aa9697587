"""``kadanoff kernel``: NNGP and NTK Gram matrices of a data set, written to an .npz file."""

from __future__ import annotations

import time
from typing import Any

import typer

from kadanoff.cli.output import JsonFile, JsonFlag, Output
from kadanoff.errors import DataError, UsageError


def command(
    activation: str = typer.Option("relu", help="Activation, by name."),
    depth: int = typer.Option(3, min=1, help="Linear maps, the readout included."),
    data: str = typer.Option("digits", help="Bundled data set or file."),
    samples: int = typer.Option(0, min=0, help="Use this many samples, drawn at random; 0: all."),
    get: str = typer.Option("nngp,ntk", help="nngp, ntk or both, with a comma."),
    C_b: float = typer.Option(0.0, "--C_b", "--C-b", min=0, help="Bias variance."),
    C_W: float = typer.Option(-1.0, "--C_W", "--C-W", help="Weight variance; default: critical."),
    gamma: float = typer.Option(0.0, min=0, help="Skip strength; 0: no skips."),
    dtype: str = typer.Option("float64", help="float64 or float32."),
    out: str = typer.Option("gram.npz", help="Output file (arrays nngp, ntk, X, y)."),
    device: str = typer.Option("cpu", help="cpu or cuda."),
    seed: int = typer.Option(0, help="Seed of the draw of samples."),
    as_json: JsonFlag = False,
    json_file: JsonFile = None,
) -> None:
    """NNGP and NTK of an infinitely wide network on a data set.

    Example: `kadanoff kernel --activation relu --depth 10 --data digits --out gram.npz`
    """
    import numpy as np
    import torch
    from rich.console import Console

    import kadanoff as kd
    from kadanoff.data import load
    from kadanoff.files import atomic_open
    from kadanoff.kernels import kernel

    output = Output("kernel", as_json, json_file)
    if dtype not in ("float32", "float64"):
        raise UsageError(f"--dtype must be float32 or float64, got {dtype!r}.")
    names = tuple(name.strip() for name in get.split(",") if name.strip())
    batch: Any = load(data, batch=samples or None, seed=seed)
    inputs = batch.inputs
    if not isinstance(inputs, torch.Tensor) or not inputs.is_floating_point():
        raise DataError(
            f"Kernels need numeric inputs in one array; {data!r} has {type(inputs).__name__}.",
            "Choose a table or images.",
        )
    X = inputs.flatten(1).to(getattr(torch, dtype))
    variance = _critical(kd, activation) if C_W < 0 else C_W
    widths: dict[str, Any] = {"C_b": C_b, "C_W": variance}
    if gamma:
        if depth < 2:
            raise UsageError("Skips need --depth of 2 or more.")
        arch = kd.Residual(X.shape[1], 1, depth - 2, 1, activation, gamma=gamma, **widths)
    else:
        arch = kd.MLP(X.shape[1], [1] * (depth - 1), 1, activation, **widths)
    start = time.perf_counter()
    gram = kernel(arch, device=device)(X, get=names)
    seconds = time.perf_counter() - start
    arrays = {name: found.cpu().numpy() for name, found in zip(names, gram)}
    arrays["X"] = X.numpy()
    if isinstance(batch.targets, torch.Tensor):
        arrays["y"] = batch.targets.numpy()
    with atomic_open(out) as stream:
        np.savez(stream, **arrays)
    summary = {
        "samples": len(X), "depth": arch.L, "activation": activation, "C_b": C_b, "C_W": variance,
        "method": gram.method, "checked_error": gram.error, "seconds": seconds, "file": out,
        "kernels": {
            name: {"mean": float(found.mean()), "diagonal_mean": float(found.diagonal().mean())}
            for name, found in zip(names, gram)
        },
    }  # fmt: skip
    output.write(summary)
    output.say_where()
    if not output.for_people:
        return
    console = Console()
    console.print(f"{arch!r}, {len(X)} samples: {gram.method} in {seconds:.3f} s, "
                  f"checked to {gram.error:.0e}")  # fmt: skip
    for name, found in summary["kernels"].items():
        console.print(
            f"  {name:5} mean {found['mean']:.6g}, diagonal mean {found['diagonal_mean']:.6g}"
        )
    console.print(f"written to {out}")


def _critical(kd: Any, activation: str) -> float:
    return float(kd.criticality(activation).C_W)

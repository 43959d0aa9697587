"""``kadanoff kernel``: NNGP and NTK Gram matrices of a data set, written to an .npz file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from kadanoff.cli import options as opt
from kadanoff.cli.output import JsonFile, JsonFlag, Output
from kadanoff.errors import UsageError


def command(
    activation: opt.Activation = "relu",
    depth: opt.Depth = 3,
    data: opt.Data = "digits",
    samples: Annotated[
        int, typer.Option(help="Use this many samples, drawn at random; 0: all.", min=0)
    ] = 0,
    get: Annotated[str, typer.Option(help="nngp, ntk or both, with a comma.")] = "nngp,ntk",
    C_b: opt.Bias = None,
    C_W: opt.Weight = None,
    gamma: opt.Gamma = 0.0,
    dtype: Annotated[str, typer.Option(help="float64 or float32.")] = "float64",
    out: Annotated[Path, typer.Option(help="Output file (arrays nngp, ntk, X, y).")] = Path(
        "gram.npz"
    ),
    device: opt.Device = "cpu",
    seed: opt.Seed = 0,
    as_json: JsonFlag = False,
    json_file: JsonFile = None,
) -> None:
    """NNGP and NTK of an infinitely wide network on a data set.

    Example: `kadanoff kernel --activation relu --depth 10 --data digits --out gram.npz`
    """
    import numpy as np
    import torch

    from kadanoff.files import atomic_open
    from kadanoff.kernels import kernel

    output = Output("kernel", as_json, json_file, [out])
    if dtype not in ("float32", "float64"):
        raise UsageError(f"--dtype must be float32 or float64, got {dtype!r}.")
    names = tuple(name.strip() for name in get.split(",") if name.strip())
    batch = opt.table(data, samples or None, seed)
    X = batch.inputs.to(getattr(torch, dtype))
    C_b, C_W = opt.variances(activation, C_b, C_W, gamma)
    arch = opt.network(X.shape[1], 1, depth, 1, activation, gamma, C_b=C_b, C_W=C_W)
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
        "samples": len(X), "depth": arch.L, "activation": activation, "C_b": C_b, "C_W": C_W,
        "method": gram.method, "checked_error": gram.error, "seconds": seconds, "file": str(out),
        "kernels": {
            name: {"mean": float(found.mean()), "diagonal_mean": float(found.diagonal().mean())}
            for name, found in zip(names, gram)
        },
    }  # fmt: skip
    output.write(summary)
    if output.for_people:
        _show(arch, summary)
    output.say_where()


def _show(arch: Any, summary: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console()
    how = f"{summary['method']} in {summary['seconds']:.3f} s"
    error = f"checked to {summary['checked_error']:.0e}"
    console.print(f"{arch!r}, {summary['samples']} samples: {how}, {error}")
    for name, found in summary["kernels"].items():
        console.print(
            f"  {name:5} mean {found['mean']:.6g}, diagonal mean {found['diagonal_mean']:.6g}"
        )

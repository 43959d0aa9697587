"""``kadanoff kernel``: NNGP and NTK Gram matrices of a data set, written to an .npz file."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kadanoff.cli import options as opt
from kadanoff.cli.output import JsonOptions, Output
from kadanoff.errors import UsageError

if TYPE_CHECKING:
    from kadanoff.architecture import Network

__all__ = ["command"]


@dataclass(frozen=True)
class Wide(opt.NetworkOptions):
    """A network whose width is infinite."""

    activation: opt.Activation = "relu"


def command(
    net: Wide,
    result: JsonOptions,
    data: opt.Data = "digits",
    samples: Annotated[
        int, typer.Option(help="Use this many samples, drawn at random; 0: all.", min=0)
    ] = 0,
    get: Annotated[str, typer.Option(help="nngp, ntk or both, with a comma.")] = "nngp,ntk",
    dtype: Annotated[str, typer.Option(help="float64 or float32.")] = "float64",
    out: Annotated[Path, typer.Option(help="Output file (arrays nngp, ntk, X, y).")] = Path(
        "gram.npz"
    ),
    device: opt.Device = "cpu",
    seed: opt.Seed = 0,
    progress: opt.Progress = "auto",
) -> None:
    """NNGP and NTK of an infinitely wide network on a data set.

    Example: `kadanoff kernel --activation relu --depth 10 --data digits --out gram.npz`
    """
    import numpy as np
    import torch

    from kadanoff.files import atomic_open
    from kadanoff.kernels import kernel
    from kadanoff.style.progress import reporting

    output = Output("kernel", result, [out])
    if dtype not in ("float32", "float64"):
        raise UsageError(f"--dtype must be float32 or float64, got {dtype!r}.")
    names = tuple(opt.names(get) or ())
    batch = opt.table(data, samples or None, seed)
    X = batch.inputs.to(getattr(torch, dtype))
    arch = net.build(X.shape[1], 1, 1)
    start = time.perf_counter()
    with reporting(progress, "Gram matrices") as report:
        gram = kernel(arch, device=device)(X, get=names, progress=report)
    seconds = time.perf_counter() - start
    matrices = {name: found.cpu() for name, found in zip(names, gram)}
    arrays = {name: found.numpy() for name, found in matrices.items()} | {"X": X.numpy()}
    if isinstance(batch.targets, torch.Tensor):
        arrays["y"] = batch.targets.numpy()
    with atomic_open(out) as stream:
        np.savez(stream, **arrays)
    summary = {
        "samples": len(X),
        "depth": arch.L,
        "activation": net.activation,
        "C_b": arch.C_b[0],
        "C_W": arch.C_W[0],
        "method": gram.method,
        "checked_error": gram.error,
        "seconds": seconds,
        "file": str(out),
        "kernels": {
            name: {"mean": float(found.mean()), "diagonal_mean": float(found.diagonal().mean())}
            for name, found in matrices.items()
        },
    }
    output.write(summary, seed=seed)
    if output.for_people:
        _show(arch, summary)
    output.say_where()


def _show(arch: Network, summary: dict[str, Any]) -> None:
    from kadanoff.style.progress import console

    screen = console()
    how = f"{summary['method']} in {summary['seconds']:.3f} s"
    error = f"checked to {summary['checked_error']:.0e}"
    screen.print(f"{arch!r}, {summary['samples']} samples: {how}, {error}", markup=False)
    for name, found in summary["kernels"].items():
        screen.print(
            f"  {name:5} mean {found['mean']:.6g}, diagonal mean {found['diagonal_mean']:.6g}"
        )

"""Options that several commands share, and what their text stands for."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from kadanoff.errors import DataError, UsageError

__all__ = [
    "Activation",
    "Batch",
    "Bias",
    "Data",
    "Depth",
    "Device",
    "Gamma",
    "InWidth",
    "Init",
    "Inputs",
    "Jobs",
    "Kwargs",
    "Method",
    "Observables",
    "Plot",
    "Progress",
    "Seed",
    "Target",
    "Weight",
    "Weights",
    "Width",
    "integers",
    "network",
    "random_inputs",
    "table",
    "variances",
]

# a model of the user's
Target = Annotated[
    str,
    typer.Argument(
        metavar="TARGET",
        help="`path/to/file.py:factory`, `package.module:factory`, a `.pt2` or TorchScript file.",
    ),
]
Data = Annotated[
    str,
    typer.Option(
        "--data",
        help="`digits`, `breast_cancer`, `wine`, `diabetes`, `text`; a `.npz`, `.npy`, `.csv`, "
        "`.parquet`, `.safetensors` or `.pt` file; or `module:callable`.",
    ),
]
Batch = Annotated[int, typer.Option(help="Number of samples.")]
Kwargs = Annotated[
    str | None, typer.Option(help="""Arguments of the factory as JSON: `'{"width": 64}'`.""")
]
Weights = Annotated[
    Path | None, typer.Option("--weights", help="State dict to load into the model, `torch.save`d.")
]

# a network of the theory's
Activation = Annotated[str, typer.Option(help="Activation, by name: tanh, gelu, leaky_relu(0.1).")]
Depth = Annotated[int, typer.Option(help="Linear maps, readout included.", min=1)]
Width = Annotated[int, typer.Option(help="Hidden width.", min=1)]
Inputs = Annotated[int, typer.Option(help="Number of random inputs.", min=1)]
InWidth = Annotated[int, typer.Option("--n-in", help="Input width n_0.", min=1)]
Bias = Annotated[float | None, typer.Option("--C_b", help="Bias variance; critical if absent.")]
Weight = Annotated[
    float | None, typer.Option("--C_W", help="Weight variance times fan-in; critical if absent.")
]
Gamma = Annotated[float, typer.Option(help="Strength γ of a skip connection; 0: none.")]
Init = Annotated[str, typer.Option(help="gaussian, uniform or orthogonal.")]

# how to compute
Method = Annotated[str, typer.Option(help="exact or weights.")]
Observables = Annotated[
    str | None, typer.Option(help="Comma-separated names, e.g. V,A,B; default all.")
]
Jobs = Annotated[int, typer.Option(help="Worker processes.")]
Seed = Annotated[int, typer.Option(help="Seed of whatever is drawn.", min=0)]
Device = Annotated[str, typer.Option(help="`cpu`, `cuda`, `cuda:1`.")]
Plot = Annotated[Path | None, typer.Option(help="Draw into this .svg, .png or .pdf file.")]
Progress = Annotated[str, typer.Option(help="`auto`, `none` or `json` (lines on stderr).")]


def integers(text: str, option: str) -> list[int]:
    """Whole numbers of a comma-separated option.

    Raises
    ------
    UsageError
        Something else, or a number below 1.
    """
    try:
        values = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        values = []
    if not values or min(values) < 1:
        raise UsageError(
            f"{option} {text!r} is no list of whole numbers >= 1.", f"Write {option} 16,32,64."
        )
    return values


def variances(
    activation: str, C_b: float | None, C_W: float | None, gamma: float = 0.0
) -> tuple[float, float]:
    """C_b and C_W as given; what is absent, at criticality.

    Raises
    ------
    UsageError
        The activation has no critical point to fill in what is absent.
    """
    if C_b is not None and C_W is not None:
        return C_b, C_W
    from kadanoff.critical import criticality

    point = criticality(activation, gamma=gamma)
    if not point.exists:
        raise UsageError(
            f"{activation} has no critical point with C_b >= 0.", "Give both --C_b and --C_W."
        )
    return (
        float(point.C_b) if C_b is None else C_b,
        float(point.C_W) if C_W is None else C_W,
    )


def network(
    n_in: int, width: int, depth: int, n_out: int, activation: str, gamma: float = 0.0, **more: Any
) -> Any:
    """A plain network of ``depth`` linear maps, or one with skips of strength ``gamma``.

    Raises
    ------
    UsageError
        A skip in a network of fewer than three maps; else as in the constructor.
    """
    from kadanoff.architecture import MLP, Residual

    if not gamma:
        return MLP(n_in, [width] * (depth - 1), n_out, activation, **more)
    if depth < 3:
        raise UsageError(f"A skip connection needs --depth of 3 or more, got {depth}.")
    return Residual(n_in, width, depth - 2, n_out, activation, gamma=gamma, **more)


def random_inputs(count: int, n_in: int, seed: int) -> Any:
    """Inputs of |x|² = n_0 in random directions: (count, n_in), float64."""
    import torch

    g = torch.Generator().manual_seed(seed)
    X = torch.randn(count, n_in, generator=g, dtype=torch.float64)
    return X * math.sqrt(n_in) / X.norm(dim=1, keepdim=True)


def table(data: str, count: int | None, seed: int) -> Any:
    """Load a batch whose inputs are one real tensor, flattened to (samples, features).

    Raises
    ------
    DataError
        The inputs are integers, or more than one tensor.
    """
    from dataclasses import replace

    import torch

    from kadanoff.data import load

    batch = load(data, batch=count, seed=seed)
    X = batch.inputs
    if not isinstance(X, torch.Tensor) or not X.is_floating_point():
        raise DataError(
            f"{data!r} does not give one tensor of real inputs.",
            "Choose digits, diabetes, wine or breast_cancer, or a numeric file.",
        )
    return replace(batch, inputs=X.flatten(1))

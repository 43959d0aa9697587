"""Options that several commands share, the panels they form, and what their text stands for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kadanoff.cli.panels import Panel
from kadanoff.errors import DataError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from kadanoff.architecture import Network as Architecture
    from kadanoff.data import Batch as Sample

__all__ = [
    "ALL",
    "Activation",
    "Batch",
    "Bias",
    "Data",
    "Depth",
    "Device",
    "Gamma",
    "Html",
    "InWidth",
    "Init",
    "Inputs",
    "Jobs",
    "Kwargs",
    "Method",
    "Model",
    "NetworkOptions",
    "Observables",
    "Plot",
    "Progress",
    "Seed",
    "Target",
    "Weight",
    "Weights",
    "Width",
    "integers",
    "names",
    "random_inputs",
    "table",
]

ALL = -1  # of --batch: every sample


def _some(jobs: int) -> int:
    if jobs == 0:
        raise typer.BadParameter("0 worker processes do nothing: pass 1 or more, or -1 for all")
    return jobs


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


def _count(text: str | int) -> int:
    """A number of samples; ``all`` is :data:`ALL`."""
    if str(text).strip().lower() == "all":
        return ALL
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither a whole number nor 'all'") from None


Batch = Annotated[
    int, typer.Option(parser=_count, metavar="N|all", help="Number of samples, or `all` of them.")
]
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
Jobs = Annotated[
    int, typer.Option(help="Worker processes; -1: one a core.", min=-1, callback=_some)
]
Seed = Annotated[int, typer.Option(help="Seed of whatever is drawn.", min=0)]
Device = Annotated[str, typer.Option(help="`cpu`, `cuda`, `cuda:1`.")]
Progress = Annotated[str, typer.Option(help="`auto`, `none` or `json` (lines on stderr).")]

# what to write
Plot = Annotated[Path | None, typer.Option(help="Draw into this .svg, .png or .pdf file.")]
Html = Annotated[Path | None, typer.Option(help="Write the report as one HTML file.")]


@dataclass(frozen=True)
class Model(Panel, title="The model and its data"):
    """A model of the user's, and what to feed it."""

    target: Target
    data: Data = "digits"
    batch: Batch = 128
    kwargs: Kwargs = None
    weights: Weights = None


@dataclass(frozen=True)
class NetworkOptions(Panel, title="The network"):
    """A network of the theory's: ``depth`` linear maps, critical where no variance is given."""

    activation: Activation = "tanh"
    depth: Depth = 3
    C_b: Bias = None
    C_W: Weight = None
    gamma: Gamma = 0.0

    def variances(self) -> tuple[float, float]:
        """C_b and C_W as given; what is absent, at criticality.

        Raises
        ------
        UsageError
            The activation has no critical point to fill in what is absent.
        """
        if self.C_b is not None and self.C_W is not None:
            return self.C_b, self.C_W
        from kadanoff.critical import criticality

        point = criticality(self.activation, gamma=self.gamma)
        if not point.exists:
            raise UsageError(
                f"{self.activation} has no critical point with C_b >= 0.",
                "Give both --C_b and --C_W.",
            )
        return (
            float(point.C_b) if self.C_b is None else self.C_b,
            float(point.C_W) if self.C_W is None else self.C_W,
        )

    def build(self, n_in: int, width: int, n_out: int, **more: Any) -> Architecture:
        """The architecture, with skips of strength ``gamma`` if that is not zero.

        Raises
        ------
        UsageError
            A skip in a network of fewer than three maps; else as in the constructor.
        """
        from kadanoff.architecture import MLP, Residual

        C_b, C_W = self.variances()
        more |= {"C_b": C_b, "C_W": C_W}
        if not self.gamma:
            return MLP(n_in, [width] * (self.depth - 1), n_out, self.activation, **more)
        if self.depth < 3:
            raise UsageError(f"A skip connection needs --depth of 3 or more, got {self.depth}.")
        return Residual(
            n_in, width, self.depth - 2, n_out, self.activation, gamma=self.gamma, **more
        )


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


def names(text: str | None) -> list[str] | None:
    """Names of a comma-separated option; None where it is absent."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def random_inputs(count: int, n_in: int, seed: int) -> Tensor:
    """Inputs of |x|² = n_0 in random directions: (count, n_in), float64."""
    import torch

    g = torch.Generator().manual_seed(seed)
    X = torch.randn(count, n_in, generator=g, dtype=torch.float64)
    return X * math.sqrt(n_in) / X.norm(dim=1, keepdim=True)


def table(data: str, count: int | None, seed: int) -> Sample:
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

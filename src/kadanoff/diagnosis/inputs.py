"""What the user hands over, checked before anything runs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from kadanoff.data import example
from kadanoff.devices import chosen
from kadanoff.errors import DataError, UsageError
from kadanoff.trace.hf import map_tensors, tensors_in

__all__ = ["Inputs", "check_model", "head", "prepare"]


@dataclass
class Inputs:
    """Arguments of the model's call, targets, and the number of samples."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    targets: Any = None
    samples: int = 0
    task: str | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def first(self) -> Tensor:
        """The first input tensor."""
        return next(tensors_in((self.args, self.kwargs)))


def check_model(model: Any, device: Any) -> torch.device:
    """The device to run on.

    Raises
    ------
    UsageError
        Not a module, no parameters, no data in them, or a CUDA device that is absent.
    DataError
        NaN or infinite weights (all offenders are named).
    """
    if not isinstance(model, nn.Module):
        raise UsageError(
            f"The model is a {type(model).__name__}, not a torch.nn.Module.",
            "Pass the module itself, or a factory that returns it.",
        )
    parameters = dict(model.named_parameters())
    if not parameters:
        raise UsageError(
            f"The model {type(model).__name__} has no parameters, so there is nothing to diagnose.",
            "Register its weights as nn.Parameter or nn.Module attributes.",
        )
    if any(p.device.type == "meta" for p in parameters.values()):
        raise UsageError(
            "The model's parameters are on the meta device and hold no numbers.",
            "Materialise them with model.to_empty(device='cpu') and initialise them.",
        )
    weird = [name for name, p in parameters.items() if p.is_complex()]
    if weird:
        raise UsageError(
            f"The parameter {weird[0]} is complex ({parameters[weird[0]].dtype}).",
            "Kadanoff treats real networks: split it into real and imaginary parts.",
        )
    bad = []
    for name, parameter in parameters.items():
        if parameter.is_floating_point() and parameter.numel():
            with torch.no_grad():
                if not torch.isfinite(parameter.sum()) and not torch.isfinite(parameter).all():
                    bad.append(name)
    if bad:
        names = ", ".join(bad[:5]) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
        raise DataError(
            f"NaN or infinite weights in {names}.",
            "Initialise them again or load a sound checkpoint.",
        )
    own = next(iter(parameters.values())).device
    return chosen(device, torch.float32) or own


def _refuse_integers(model: nn.Module, first: Tensor, dtype: torch.dtype) -> None:
    takes_integers = any(isinstance(m, (nn.Embedding, nn.EmbeddingBag)) for m in model.modules())
    if not first.is_floating_point() and not takes_integers and _is_float_model(model):
        raise DataError(
            f"The inputs are integers ({str(first.dtype)[6:]}), but the model computes with "
            f"{str(dtype)[6:]} and has no embedding that would take them.",
            f"Pass real numbers, e.g. inputs.to(torch.{str(dtype)[6:]}).",
        )


def prepare(
    model: nn.Module, data: Any, targets: Any, batch: int | None, device: torch.device
) -> Inputs:
    """Sort a batch into call arguments and targets; cast, move and check it.

    What ``data`` may be: see :func:`kadanoff.data.forms.example`.

    Parameters
    ----------
    model : nn.Module
    data
    targets
        None if ``data`` holds them, or there are none.
    batch : int or None
        Samples at most.
    device : torch.device

    Raises
    ------
    DataError
        Empty, NaN, infinite or complex data; integers where the model wants real numbers.
    """
    found = example(data, model, targets)
    task = getattr(data, "task", None)
    inputs = Inputs(found.args, found.kwargs, found.targets, task=task)
    tensors = list(tensors_in((inputs.args, inputs.kwargs)))
    if not tensors:
        raise DataError(
            f"The data ({type(data).__name__}) holds no tensor.",
            "Pass a tensor, (inputs, targets), a dict of tensors, or an array.",
        )
    first = tensors[0]
    if first.ndim == 0:
        raise DataError("The input is a single number.", "Pass a batch: shape (samples, ...).")
    listed = len(inputs.args) == 1 and isinstance(inputs.args[0], list)
    size = len(inputs.args[0]) if listed else first.shape[0]
    if any(t.numel() == 0 for t in tensors):
        raise DataError(
            f"The batch is empty: input of shape {tuple(first.shape)}.", "Pass at least one sample."
        )
    if batch is not None:
        if batch < 1:
            raise UsageError(f"batch must be at least 1, got {batch}.")
        inputs.samples = size
        inputs = head(inputs, batch)
        size = inputs.samples
    for tensor in tensors:
        _check_tensor(tensor)
    weights = [p for p in model.parameters() if p.is_floating_point()]
    dtype = weights[0].dtype if weights else torch.get_default_dtype()
    _refuse_integers(model, first, dtype)
    if first.is_floating_point() and first.dtype != dtype and not torch.is_autocast_enabled():
        inputs.notes.append(
            f"inputs cast from {str(first.dtype)[6:]} to the model's {str(dtype)[6:]}"
        )

    def place(t: Tensor) -> Tensor:
        wanted = t.requires_grad  # coordinates of a physics-informed net
        t = t.detach()
        t = t.to(device, dtype) if t.is_floating_point() else t.to(device)
        return t.clone().requires_grad_(True) if wanted else t

    inputs.args = map_tensors(place, inputs.args)
    inputs.kwargs = map_tensors(place, inputs.kwargs)
    inputs.targets = map_tensors(lambda t: t.to(device), inputs.targets)
    inputs.samples = size
    return inputs


def head(inputs: Inputs, count: int) -> Inputs:
    """The first samples of a batch: every tensor with one row a sample is cut.

    A list of samples, of unlike lengths perhaps, is no tensor with rows and stays whole.
    """
    size = inputs.samples
    if count >= size:
        return inputs

    def cut(t: Tensor) -> Tensor:
        if not t.ndim or t.shape[0] != size:
            return t
        few = t[:count]
        # coordinates that are differentiated inside the model must be leaves of their own
        return few.detach().clone().requires_grad_(True) if t.requires_grad else few

    return replace(
        inputs,
        args=map_tensors(cut, inputs.args),
        kwargs=map_tensors(cut, inputs.kwargs),
        targets=map_tensors(cut, inputs.targets),
        samples=count,
    )


def _check_tensor(tensor: Tensor) -> None:
    if tensor.is_complex():
        raise DataError(
            f"The inputs are complex ({str(tensor.dtype)[6:]}).",
            "Pass real numbers, e.g. torch.view_as_real(inputs).flatten(-2).",
        )
    if tensor.is_floating_point() and not torch.isfinite(tensor).all():
        count = int((~torch.isfinite(tensor)).sum())
        raise DataError(
            f"The inputs hold {count} NaN or infinite value{'s' if count > 1 else ''} among "
            f"{tensor.numel()}.",
            "Remove or impute them first.",
        )


def _is_float_model(model: nn.Module) -> bool:
    return any(
        isinstance(m, (nn.Linear, nn.modules.conv._ConvNd, nn.Bilinear)) for m in model.modules()
    )

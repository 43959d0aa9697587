"""What a user may pass as data, brought to one form."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from kadanoff.data.batch import check_inputs
from kadanoff.data.forms import Example, device_of
from kadanoff.data.forms import examples as read
from kadanoff.errors import UsageError
from kadanoff.trace.hf import main_output

__all__ = ["Example", "device_of", "examples", "output_of"]


def examples(data: Any, model: nn.Module | None = None, limit: int | None = None) -> list[Example]:
    """Read ``data`` as a list of calls; a mapping's ``labels`` are the targets.

    See :func:`kadanoff.data.forms.examples`.

    Parameters
    ----------
    data : tensor, (inputs, targets), mapping, or an iterable of these
    model : nn.Module, optional
        Who is to be called.
    limit : int, optional
        Read at most so many calls.

    Raises
    ------
    DataError
        Nothing in it, something of another kind, or NaN.
    """
    found = [call.without_labels(model) for call in read(data, model, limit)]
    for call in found:
        for tensor in call.tensors:
            check_inputs(tensor, "An input")
    return found


def output_of(result: Any) -> Tensor:
    """The main output tensor: of a tensor, tuple, mapping or Hugging Face output."""
    found = main_output(result)
    if found is not None:
        return found
    raise UsageError(
        f"The model returned {type(result).__name__}, in which no tensor was found.",
        "Wrap it so that it returns a tensor.",
    )

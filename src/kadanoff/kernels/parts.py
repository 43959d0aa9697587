"""A model cut into parts whose Jacobians fit a budget: outputs, parameters, samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from kadanoff.errors import AnalysisError, DataError
from kadanoff.kernels.jacobians import JacobianBlock, jacobian
from kadanoff.trace.hf import main_output, map_tensors, tensors_in

__all__ = ["Batch", "Cut", "Outputs", "cut"]


class Batch:
    """Inputs as a model is called with them: a tensor, a tuple of arguments, or named ones.

    Parameters
    ----------
    value : Tensor, or tuple, list or dict of tensors
        The first axis of each tensor is the sample.

    Raises
    ------
    DataError
        No tensor, no sample, different numbers of samples, or NaN.
    """

    def __init__(self, value: Any) -> None:
        tensors = list(tensors_in(value))
        if not isinstance(value, (Tensor, Mapping, tuple, list)) or not tensors:
            raise DataError(
                f"Inputs must be a torch.Tensor, or a tuple or dict of them, got "
                f"{type(value).__name__}."
            )
        for X in tensors:
            if X.ndim == 0 or len(X) == 0:
                raise DataError(
                    f"Inputs have shape {tuple(X.shape)}: at least one sample is needed."
                )
            if X.is_floating_point() and not bool(X.isfinite().all()):
                raise DataError("Inputs hold NaN or infinite values.", "Remove them first.")
        counts = sorted({len(X) for X in tensors})
        if len(counts) > 1:
            raise DataError(
                f"The inputs have {' and '.join(map(str, counts))} samples.",
                "The first axis of every tensor is the sample.",
            )
        self.value, self.count = value, counts[0]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, which: slice) -> Batch:
        return Batch(map_tensors(lambda X: X[which], self.value))

    def __str__(self) -> str:
        shapes = [f"{tuple(X.shape)} {str(X.dtype).removeprefix('torch.')}" for X in self.tensors]
        return ", ".join(shapes)

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors, in order."""
        return list(tensors_in(self.value))

    def given_to(self, model: nn.Module) -> Any:
        """What the model returns."""
        if isinstance(self.value, Mapping):
            return model(**self.value)
        if isinstance(self.value, (tuple, list)):
            return model(*self.value)
        return model(self.value)


class Outputs(nn.Module):
    """The model as a map from a :class:`Batch` to some of its outputs, (B, c).

    Parameters
    ----------
    model : nn.Module
        Returns a tensor, or a structure with logits.
    which : slice
        Of the outputs of a sample, flattened.
    """

    def __init__(self, model: nn.Module, which: slice = slice(None)) -> None:
        super().__init__()
        self.model, self.which = model, which

    def forward(self, batch: Batch) -> Tensor:
        """The outputs of every sample.

        Raises
        ------
        DataError
            The model returns no tensor of one row a sample.
        """
        output = main_output(batch.given_to(self.model))
        if output is None or output.ndim == 0 or len(output) != len(batch):
            found = "nothing" if output is None else f"shape {tuple(output.shape)}"
            raise DataError(
                f"The model returns {found} for {len(batch)} samples.",
                "It must return one row of outputs a sample.",
            )
        return output.reshape(len(batch), -1)[:, self.which]


@dataclass(frozen=True)
class Cut:
    """Parts that fit a budget.

    Attributes
    ----------
    groups : list of list of Tensor
        Parameters whose Jacobians are taken together; Θ is the sum over groups.
    outputs : list of slice
        Outputs taken together.
    samples : int
        Samples a block.
    """

    groups: list[list[Tensor]]
    outputs: list[slice]
    samples: int


def cut(
    model: nn.Module, parameters: Sequence[Tensor], X: Batch, outputs: int, most: int, memory: int
) -> Cut:
    """Parts of the largest size that keep two blocks of Jacobians and their making in ``memory``.

    Parameters
    ----------
    model : nn.Module
    parameters : sequence of Tensor
    X : Batch
        The first sample is tried out, one and two outputs of it.
    outputs : int
        Of one sample.
    most : int
        Samples, at most.
    memory : int
        Bytes.

    Raises
    ------
    AnalysisError
        The gradient of one output with respect to a single parameter exceeds the budget.
    """
    # two blocks are held, and making one takes as much again: its backward pass, its copies
    pair = memory // 4
    size = parameters[0].element_size()
    # written out, structured, and on its way: no form takes more than twice the plain gradient
    groups = _grouped(parameters, pair // (2 * size), memory)
    plain = 2 * outputs * max(sum(p.numel() for p in group) for group in groups) * size
    if 8 * most * plain <= pair:
        return Cut(groups, [slice(0, outputs)], most)
    fixed, slope = 0, 1
    for group in groups:
        one = _bytes(model, group, X, slice(0, 1))
        two = _bytes(model, group, X, slice(0, 2)) if outputs > 1 else 2 * one
        slope = max(slope, two - one)
        fixed = max(fixed, 2 * one - two)
    together = max(1, min(outputs, (pair - fixed) // slope))
    each = fixed + slope * together
    slices = [slice(i, min(i + together, outputs)) for i in range(0, outputs, together)]
    return Cut(groups, slices, max(1, min(pair // each, most)))


def _bytes(model: nn.Module, group: list[Tensor], X: Batch, which: slice) -> int:
    block: JacobianBlock = jacobian(Outputs(model, which), group, X[:1])
    return block.bytes + block.passing


def _grouped(parameters: Sequence[Tensor], numbers: int, memory: int) -> list[list[Tensor]]:
    """Consecutive parameters of at most so many numbers together."""
    groups: list[list[Tensor]] = []
    room = 0
    for p in parameters:
        if p.numel() > numbers:
            raise AnalysisError(
                f"The gradients of one pair of samples with respect to one parameter of shape "
                f"{tuple(p.shape)} take {8 * p.numel() * p.element_size():,} bytes; the budget is "
                f"{memory:,}.",
                "Raise memory=, or use ntk_vector_product, which stores none.",
            )
        if p.numel() > room:
            groups.append([])
            room = numbers
        groups[-1].append(p)
        room -= p.numel()
    return groups

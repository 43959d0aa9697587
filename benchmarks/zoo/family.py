"""What a family of models is: how to build one, its data, its loss and its ordinary recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

__all__ = ["Family", "Inputs", "Output", "Recipe", "Targets", "call", "logits"]

# a mapping is passed to the model by keyword
Inputs = Tensor | dict[str, Tensor]
Targets = Tensor
# what a model returns: a tensor, a tuple, or a Hugging Face output
Output = object


@dataclass(frozen=True)
class Recipe:
    """The optimiser that a practitioner would take first, and its rate.

    Attributes
    ----------
    optimizer : "adamw", "adam" or "sgd"
    rate : float
    momentum : float
        Of SGD only.
    weight_decay : float
    """

    optimizer: Literal["adamw", "adam", "sgd"]
    rate: float
    momentum: float = 0.0
    weight_decay: float = 0.0

    def build(self, model: nn.Module, rate: float | None = None) -> torch.optim.Optimizer:
        """An optimiser for the parameters of ``model`` that want a gradient."""
        wanted = [p for p in model.parameters() if p.requires_grad]
        rate = self.rate if rate is None else rate
        if self.optimizer == "sgd":
            return torch.optim.SGD(
                wanted, rate, momentum=self.momentum, weight_decay=self.weight_decay
            )
        kind = torch.optim.AdamW if self.optimizer == "adamw" else torch.optim.Adam
        return kind(wanted, rate, weight_decay=self.weight_decay)


@dataclass(frozen=True)
class Family:
    """Models of one architecture at any width and depth, with what is needed to train them.

    Attributes
    ----------
    name : str
    factory : callable
        ``factory(width=..., depth=..., **sizes)`` draws its weights from torch's global
        generator; use :meth:`build`, which seeds it and leaves it as it was.
    sampler : callable
        ``sampler(n, seed, held_out)`` to inputs and targets.
    criterion : callable
        ``criterion(output, targets)`` to a scalar.
    recipe : Recipe
    sizes : dict
        Default sizes: always ``width`` and ``depth``.
    kind : "language", "vision", "field", "set", "table" or "generative"
    batch : int
        The ordinary number of samples in a batch.
    training : bool
        Whether the model is used in training mode (False for a net with BatchNorm in eval mode).
    coupled : bool
        Whether samples cannot be told apart in the inputs (the nodes of several graphs).
    """

    name: str
    factory: Callable[..., nn.Module]
    sampler: Callable[[int, int, bool], tuple[Inputs, Targets]]
    criterion: Callable[[Output, Targets], Tensor]
    recipe: Recipe
    kind: Literal["language", "vision", "field", "set", "table", "generative"]
    sizes: dict[str, int] = field(default_factory=lambda: {"width": 64, "depth": 4})
    batch: int = 64
    training: bool = True
    coupled: bool = False

    def build(self, seed: int = 0, **sizes: int) -> nn.Module:
        """A freshly initialised model; the same seed gives the same weights."""
        unknown = sorted(set(sizes) - set(self.sizes))
        if unknown:
            raise TypeError(f"{self.name} has no size {unknown}; it has {sorted(self.sizes)}")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = self.factory(**(self.sizes | sizes))
        return model.train(self.training)

    def data(
        self, n: int | None = None, seed: int = 0, *, held_out: bool = False
    ) -> tuple[Inputs, Targets]:
        """Draw ``n`` samples (default: the ordinary batch) with this seed; takes milliseconds."""
        return self.sampler(self.batch if n is None else n, seed, held_out)

    def loss(self, output: Output, targets: Targets) -> Tensor:
        """The loss of what the model returned, a scalar."""
        return self.criterion(output, targets)

    def run(self, model: nn.Module, inputs: Inputs, targets: Targets) -> Tensor:
        """One forward pass to the loss."""
        return self.criterion(call(model, inputs), targets)


def call(model: nn.Module, inputs: Inputs) -> Output:
    """The model's answer: mappings go in by keyword."""
    return model(**inputs) if isinstance(inputs, dict) else model(inputs)


def logits(output: Output) -> Tensor:
    """The tensor in a model's answer: itself, ``.logits``, or the first of a tuple."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, tuple):
        return output[0]
    found = getattr(output, "logits", None)
    if not isinstance(found, Tensor):
        raise TypeError(f"no logits in a {type(output).__name__}")
    return found

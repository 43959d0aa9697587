"""What a diagnosis costs, in forward and backward passes over the batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kadanoff.diagnosis import diagnose
from tests.trace.models import GPT, ResNet18

BLOCKS = 4


class _Tick(torch.autograd.Function):
    """The identity; counts the samples that come back through it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, meter: Meter) -> Tensor:
        ctx.meter = meter
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        ctx.meter.back += len(gradient) / ctx.meter.samples
        return gradient, None


class Meter:
    """Passes over the whole batch, forward and back, as each block saw them."""

    def __init__(self, blocks: list[nn.Module], samples: int) -> None:
        self.samples, self.blocks = samples, len(blocks)
        self.ahead = self.back = 0.0
        for block in blocks:
            block.register_forward_hook(self._hook)

    def _hook(self, _module: nn.Module, _args: Any, output: Tensor) -> Tensor:
        self.ahead += len(output) / self.samples
        return _Tick.apply(output, self) if output.requires_grad else output  # type: ignore

    @property
    def passes(self) -> float:
        """A way back is as dear as two ways ahead."""
        return (self.ahead + 2 * self.back) / (3 * self.blocks)

    def __deepcopy__(self, _memo: Any) -> Meter:
        return self


def _gpt() -> tuple[nn.Module, list[nn.Module], Any]:
    model = GPT(BLOCKS, 192)
    return model, list(model.blocks), torch.randint(0, 48, (64, 16))


def _resnet() -> tuple[nn.Module, list[nn.Module], Any]:
    model = ResNet18(32)
    layers = [model.layer1, model.layer2, model.layer3, model.layer4]
    return model, layers, torch.randn(32, 3, 32, 32)


def _mlp() -> tuple[nn.Module, list[nn.Module], Any]:
    parts = [nn.Sequential(nn.Linear(512, 512), nn.ReLU()) for _ in range(BLOCKS)]
    return nn.Sequential(*parts), list(parts), torch.randn(2048, 512)


@pytest.mark.parametrize("make", [_gpt, _resnet, _mlp])
def test_no_more_than_twelve_passes(make):
    torch.manual_seed(0)
    model, blocks, x = make()
    meter = Meter(blocks, len(x))
    without = diagnose(model, x, try_steps=0, theory="none")
    measured = meter.passes
    assert measured > 1  # the meter is read
    diagnose(model, x, try_steps=0)
    total = meter.passes - measured
    assert total > measured  # random networks went through it too
    assert total < 12, total
    assert without.healthy or make is _mlp

"""The default loss: which one, its value against torch's own, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kadanoff.errors import DataError
from kadanoff.trace.losses import TargetError, default_loss, loss_for


def drawn(*shape: int) -> Tensor:
    seed = sum(size * 7**axis for axis, size in enumerate(shape))
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), requires_grad=True)


def labels(*shape: int, classes: int) -> Tensor:
    return torch.randint(classes, shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("shape", "target_shape", "axis"),
    [
        ((6, 4), (6,), 1),
        ((6, 5, 4), (6, 5), 2),  # sequences: the classes are last
        ((6, 4, 5), (6, 5), 1),  # as torch has them
        ((4, 4, 4), (4, 4), 2),  # both fit: last, as sequence models have it
        ((2, 4, 5, 7), (2, 5, 7), 1),  # segmentation
        ((3, 4, 4, 4), (3, 4, 4), 1),  # both fit: images have their classes on axis 1
        ((2, 5, 7, 4), (2, 5, 7), 3),
        ((2, 5, 4, 7), (2, 5, 7), 2),
    ],
)
def test_integers_are_classes_along_whichever_axis_holds_them(shape, target_shape, axis):
    z, y = drawn(*shape), labels(*target_shape, classes=4)
    loss = loss_for(z, y)
    assert loss.name == "cross entropy"
    assert loss.axis == axis
    assert torch.allclose(loss(z, y), F.cross_entropy(z.movedim(axis, 1), y))


def test_ignored_positions_and_narrow_integers():
    z, y = drawn(6, 5, 4), labels(6, 5, classes=4)
    y[0] = -100
    assert torch.allclose(default_loss(z, y), F.cross_entropy(z.movedim(2, 1), y))
    y = labels(6, classes=4)
    z = drawn(6, 4)
    assert torch.equal(default_loss(z, y.to(torch.uint8)), F.cross_entropy(z, y))


@pytest.mark.parametrize("kind", [torch.int64, torch.bool, torch.float32])
@pytest.mark.parametrize(
    ("shape", "target_shape"), [((6,), (6,)), ((6, 1), (6,)), ((6, 1), (6, 1)), ((6, 3), (6, 3))]
)
def test_zeros_and_ones_are_events(kind, shape, target_shape):
    z = drawn(*shape)
    y = torch.tensor([1, 0, 0, 1, 1, 0]).repeat(3)[: torch.Size(target_shape).numel()]
    y = y.reshape(target_shape).to(kind)
    expected = F.binary_cross_entropy_with_logits(z, y.reshape(shape).float())
    assert loss_for(z, y).name == "binary cross entropy"
    assert torch.allclose(default_loss(z, y), expected)
    # a model that ends in a sigmoid gives probabilities already
    assert torch.allclose(default_loss(torch.sigmoid(z), y), expected)


def test_zeros_and_ones_of_a_regression_are_numbers():
    z, y = drawn(6, 1), torch.tensor([1.0, 0, 0, 1, 1, 0])
    assert loss_for(z, y, task="regression").name == "mse"
    assert torch.equal(default_loss(z, y, "regression"), F.mse_loss(z.squeeze(1), y))


@pytest.mark.parametrize("kind", [torch.int64, torch.float32])
def test_rows_that_sum_to_one_are_probabilities(kind):
    z, y = drawn(6, 4), labels(6, classes=4)
    hot = F.one_hot(y, 4).to(kind)
    assert loss_for(z, hot).name == "cross entropy"
    assert torch.allclose(default_loss(z, hot), F.cross_entropy(z, y))
    soft = torch.softmax(drawn(6, 4).detach() * 2, 1)
    assert torch.allclose(default_loss(z, soft), F.cross_entropy(z, soft))


def test_real_numbers_are_met_without_broadcasting():
    z, y = drawn(6, 1), drawn(6).detach()
    # torch would broadcast (6, 1) against (6,) to (6, 6)
    assert torch.equal(default_loss(z, y), F.mse_loss(z.squeeze(1), y))
    z, y = drawn(2, 3, 4, 5), drawn(2, 60).detach().double()
    assert torch.allclose(default_loss(z, y), F.mse_loss(z.flatten(1), y.float()))


def test_half_precision_is_widened():
    z = torch.full((4, 2), 300.0, dtype=torch.float16, requires_grad=True)
    value = default_loss(z, torch.zeros(4, 2))
    assert value.item() == 90000.0  # beyond the range of float16


@dataclass
class Output:
    loss: Tensor | None
    logits: Tensor


class TestOwnLoss:
    def test_named(self):
        z = drawn(6, 4)
        own = z.square().mean()
        for output in (Output(own, z), {"loss": own, "logits": z}):
            assert loss_for(output, torch.zeros(6).long()).name == "the model's own loss"
            assert default_loss(output) is not None
            assert torch.equal(default_loss(output, torch.zeros(6).long()), own)
        y = labels(6, classes=4)
        assert torch.equal(default_loss(Output(None, z), y), F.cross_entropy(z, y))
        # a number that is only reported is no loss
        assert torch.equal(default_loss(Output(own.detach(), z), y), F.cross_entropy(z, y))

    def test_without_a_name(self):
        z = drawn(6, 4)
        own = z.square().mean()
        assert torch.equal(default_loss((z, own)), own)
        assert torch.equal(default_loss((own, z)), own)
        assert torch.equal(default_loss(own), own)
        assert default_loss((z, None)) is None
        # it cannot have been made of targets that the model was not given
        y = labels(6, classes=4)
        assert torch.equal(default_loss((z, own), y), F.cross_entropy(z, y))

    def test_none_at_all(self):
        assert loss_for(drawn(6, 4)) is None
        assert default_loss((drawn(6, 4), drawn(6, 4))) is None


@pytest.mark.parametrize(
    ("shape", "targets", "code", "said"),
    [
        ((128, 4), torch.zeros(5).long(), "count", "5 targets for 128 outputs"),
        ((128, 1), torch.zeros(5), "count", "5 targets"),
        ((6, 4), torch.tensor([1, 2, 3, 4, 1, 2]), "labels-from-one", "Subtract 1"),
        ((6, 4), torch.tensor([0, 2, 3, 4, 1, 2]), "label-range", "from 0 to 4"),
        ((6, 4), torch.tensor([0, 2, 3, 9, 1, 2]), "label-range", "4 outputs"),
        ((6, 4), torch.tensor([0, -1, 3, 1, 1, 2]), "label-range", "-100"),
        ((6, 4), torch.full((6,), -100), "nothing-to-learn", "All 6"),
        ((6, 4), torch.tensor([0.0, 2, 3, 1, 1, 2]), "label-type", r"targets\.long"),
        ((6, 4), torch.tensor([0.5, 2, 3, 1, 1, 2]), "shape", r"\(6,\) \(real"),
        ((6, 4), torch.zeros(6, 1).long(), "shape", "squeeze"),
        ((6, 5, 4), torch.zeros(6).long(), "shape", "integers"),
        ((6, 1), torch.tensor([0, 2, 3, 1, 1, 2]), "label-type", r"targets\.float"),
        ((6, 4), torch.zeros(6, 3), "shape", "one target for each output"),
        ((6, 4), torch.tensor([[0.0, 1, 2, float("nan")]] * 6), "not-finite", "6 of 24"),
        ((6, 4), {"labels": torch.zeros(6)}, "kind", "dict"),
    ],
)
def test_what_does_not_fit_is_an_error_that_says_why(shape, targets, code, said):
    with pytest.raises(TargetError, match=said) as caught:
        default_loss(drawn(*shape), targets)
    assert caught.value.code == code
    assert caught.value.remedy
    assert isinstance(caught.value, DataError)

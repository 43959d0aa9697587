"""The data takes the shape that the model wants, or the error says what that is."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kadanoff.data import Batch, adapt, load
from kadanoff.errors import AnalysisError, DataError


def test_digits_become_images_for_a_convolution():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 3))
    batch = adapt(model, load("digits", batch=8))
    assert batch.inputs.shape == (8, 1, 8, 8)
    assert "1 x 8 x 8" in batch.notes[-1]


def test_dtype_follows_the_model():
    assert adapt(nn.Linear(64, 2).double(), load("digits")).inputs.dtype == torch.float64


def test_the_model_is_left_as_it_was():
    model = nn.Sequential(nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Dropout(0.5)).train()
    model[2].eval()
    before, state = [m.training for m in model.modules()], torch.random.get_rng_state()
    mean = model[1].running_mean.clone()
    adapt(model, load("digits"))
    assert [m.training for m in model.modules()] == before
    assert torch.equal(model[1].running_mean, mean)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_errors_say_what_the_model_wants():
    with pytest.raises(DataError, match="wants 5 features"):
        adapt(nn.Sequential(nn.Linear(5, 5)), load("digits"))
    with pytest.raises(DataError, match="wants 4 channel"):
        adapt(nn.Conv2d(4, 5, 3), load("wine"))
    with pytest.raises(DataError, match="integers"):
        adapt(nn.Linear(64, 5), load("text"))
    with pytest.raises(DataError, match="embedding of 10 tokens"):
        adapt(nn.Embedding(10, 5), load("text"))


def test_a_broken_forward_is_no_data_error():
    class Broken(nn.Linear):
        def forward(self, input):
            return self.nothing

    with pytest.raises(AnalysisError, match="nothing"):
        adapt(Broken(64, 2), load("digits"))


def test_whole_numbers_become_tokens():
    batch = Batch(torch.tensor([[1.0, 2.0]]), None, "mine")
    assert adapt(nn.Embedding(5, 2), batch).inputs.dtype == torch.int64


def test_tokens_are_cut_to_the_context_of_the_model():
    class Short(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.word, self.place = torch.nn.Embedding(128, 8), torch.nn.Embedding(20, 8)
            self.out = torch.nn.Linear(8, 128)

        def forward(self, tokens):
            return self.out(self.word(tokens) + self.place(torch.arange(tokens.shape[1])))

    batch = load("text", batch=4)
    fitted = adapt(Short(), batch)
    assert fitted.inputs.shape == fitted.targets.shape == (4, 16)
    assert torch.equal(fitted.inputs, batch.inputs[:, :16])
    assert "16 tokens" in fitted.notes[-1]

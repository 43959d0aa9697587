"""Digits of neural-tangents 0.6.5 (stax): benchmarks/stax_digits_peer.py writes them."""

import json
from pathlib import Path

import pytest
import torch

import kadanoff as kd
from tests.kernels.traced.models import attention_model, images, laws_of, rows, stax_models

DIGITS = json.loads(Path(__file__).with_name("stax.json").read_text())
MODELS = stax_models()


@pytest.mark.parametrize("name", MODELS)
def test_the_same_digits_as_stax(name):
    expected = DIGITS[name]
    X = rows() if expected["inputs"] == "rows" else images()
    model = MODELS[name]
    kernel = kd.kernel(model, parametrization="ntk", laws=laws_of(model))
    gram = kernel(X)
    assert gram.sampled == ()
    for which in ("nngp", "ntk"):
        wanted = torch.tensor(expected[which], dtype=torch.float64)
        found = getattr(gram, which)
        assert float((found - wanted).abs().max() / wanted.abs().max()) < 1e-8


@pytest.mark.parametrize("softmax", [False, True])
def test_attention_as_stax_has_it(softmax):
    model, laws = attention_model(softmax)
    kernel = kd.kernel(model, parametrization="ntk", laws=laws, heads="infinite")
    gram, expected = kernel(images()), DIGITS[("softmax" if softmax else "linear") + " attention"]
    assert gram.sampled == ()
    for which in ("nngp", "ntk"):
        wanted = torch.tensor(expected[which], dtype=torch.float64)
        found = getattr(gram, which)
        assert float((found - wanted).abs().max() / wanted.abs().max()) < 1e-8

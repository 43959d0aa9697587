"""Transfer on any factory: sizes by name, every knob, outputs of every kind, a verdict."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

from benchmarks import zoo
from kadanoff.errors import UsageError
from kadanoff.tuning.factories import Sizes, factory_of, read_sizes
from kadanoff.tuning.knobs import KNOBS, SweepRecipe, wander

G = torch.Generator().manual_seed(0)
X = torch.randn(96, 10, generator=G)
Y = torch.sin(2 * X[:, :2])


def build(width, layers=2, slope=0.0):
    sizes = [10, *[width] * layers]
    body = []
    for a, b in itertools.pairwise(sizes):
        body += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*body, nn.Linear(width, 2))


FACTORY = factory_of(build, Sizes("width", (16, 32)), Sizes("layers", (2, 3)))


def test_sizes_by_name_and_without():
    assert read_sizes("n_embd=64,32", "--widths") == Sizes("n_embd", (32, 64))
    assert read_sizes("64,32", "--widths") == Sizes("", (32, 64))
    for text in ("n=", "a,b", "0,4", "a b=3"):
        with pytest.raises(UsageError, match="list of sizes"):
            read_sizes(text, "--widths")
    guessed = factory_of(build, Sizes("", (16, 32)), Sizes("", (2, 3)))
    assert (guessed.width, guessed.depth) == ("width", "layers")
    with pytest.raises(UsageError, match="no argument 'wide'"):
        factory_of(build, Sizes("wide", (16,)), Sizes("", (2,)))
    with pytest.raises(UsageError, match="cannot be told"):
        factory_of(lambda n: build(n), Sizes("", (16, 32)), Sizes("", (2,)))
    with pytest.raises(UsageError, match="fails at width=-1"):
        FACTORY.build(-1, 2)


@pytest.mark.parametrize("knob", KNOBS)
def test_every_knob_gives_curves_with_error_bars(knob):
    values = {"lr": [1e-3, 4e-3, 1.6e-2], "batch": [8, 16, 32]}.get(knob)
    found = wander(
        FACTORY, (X, Y), (16, 32), (2, 3), knob=knob, values=values,
        recipe=SweepRecipe(steps=12, batch=16), check_steps=2,
    )  # fmt: skip
    assert found.knob == knob
    assert [(c.width, c.depth) for c in found.curves] == [(16, 2), (32, 2), (32, 3)]
    for curve in found.curves:
        assert len(curve.bases) == len(curve.loss) == len(curve.stderr) >= 3
        assert curve.optimum_stderr > 0
        assert all(math.isfinite(v) for v in curve.loss[:2])
    assert found.coordinates
    if any(c.at_edge for c in found.curves):
        assert not found.carries


def test_the_best_rate_wanders_without_a_scaling_and_stays_with_one():
    """Adam, width 16 to 256: in the standard parametrisation the best rate falls with width."""
    factory = factory_of(build, Sizes("width", (16, 256)), Sizes("layers", (3,)))
    options = {
        "values": [1e-3 * 2.0**k for k in range(-1, 7)],
        "recipe": SweepRecipe("adam", steps=30, batch=32),
        "seeds": 3,
        "check_steps": 2,
    }
    standard = wander(factory, (X, Y), (16, 256), (3,), scaling="standard", **options)
    scaled = wander(factory, (X, Y), (16, 256), (3,), scaling="mup", **options)
    moves = [c.curves[1].optimum - c.curves[0].optimum for c in (standard, scaled)]
    error = math.hypot(*(c.optimum_stderr for c in standard.curves))
    assert moves[0] < -1.0 + error
    assert abs(moves[1]) < abs(moves[0])


def test_a_hugging_face_config_is_a_family():
    transformers = pytest.importorskip("transformers")
    fixed = {
        "vocab_size": 128,
        "n_positions": 32,
        "n_head": 2,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    factory = factory_of(
        transformers.GPT2Config, Sizes("n_embd", (16, 32)), Sizes("n_layer", (1,)), fixed
    )
    model = factory.build(16, 1)
    assert type(model).__name__ == "GPT2LMHeadModel"
    tokens, following = zoo.FAMILIES["gpt2"].data(24, seed=0)
    found = wander(
        factory, (tokens, following), (16, 32), (1,), values=[1e-3, 4e-3, 1.6e-2],
        recipe=SweepRecipe(steps=10, batch=4), check_steps=2,
    )  # fmt: skip
    assert all(math.isfinite(v) for c in found.curves for v in c.loss)


def test_bad_calls():
    for options, words in (
        ({"knob": "momentum"}, "Unknown knob"),
        ({"scaling": "up"}, "Unknown scaling"),
        ({"recipe": SweepRecipe("lion")}, "Unknown optimizer"),
        ({"recipe": SweepRecipe("sgd"), "knob": "eps"}, "SGD has no eps"),
        ({"seeds": 1}, "do not make"),
        ({"values": [0.0, 1.0, 2.0]}, "do not make"),
    ):
        with pytest.raises(UsageError, match=words):
            wander(FACTORY, (X, Y), (16, 32), (2,), **options)

"""The map of symmetric tokens, against quadrature and against itself."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from kadanoff.studies.transformers_at_initialisation import theory
from kadanoff.studies.transformers_at_initialisation.networks import (
    Language,
    Setting,
    Stack,
    tokens_at_angle,
)
from tests.studies.independent import mean

TANH = Setting(64, 6, attention=0.4, activation="tanh", C_U=4.0, order="post")


def test_powers_and_exponents_are_those_of_quadrature():
    square = mean(lambda z: np.tanh(z) ** 2, 4.0)
    slope = 4 * mean(lambda z: np.cosh(z) ** -4, 4.0)
    assert theory.power(replace(TANH, attention=0.0)) == pytest.approx(slope / square, rel=1e-4)
    angle, gradient = theory.exponents(TANH)
    assert gradient == pytest.approx(math.log((1 + slope) / (1 + square)), rel=1e-4)
    assert angle == pytest.approx(gradient - math.log(1.16), rel=1e-4)
    critical = theory.critical_strength(TANH)
    assert theory.exponents(replace(TANH, mlp=critical))[0] == pytest.approx(0, abs=1e-12)
    # ReLU adds to the gradient what it adds to the signal: no strength helps
    assert math.isnan(theory.critical_strength(replace(TANH, activation="relu")))


def test_the_map_near_collapse_has_the_exponents():
    near = theory.flow(TANH, 1000, 1 - 1e-6, coherent=True)
    gap = [1 - c for c in near.correlation]
    angle, gradient = theory.exponents(TANH)
    assert math.log(gap[-1] / gap[1]) / 5 == pytest.approx(angle, abs=1e-3)
    J = near.jacobian
    assert math.log(J[1] / J[-1]) / 5 == pytest.approx(gradient, abs=1e-3)


def test_a_gate_adds_one_and_attention_takes_away():
    plain = Setting(64, 4, attention=0.0)
    assert theory.power(replace(plain, gated=True)) == pytest.approx(theory.power(plain) + 1)
    both = replace(plain, attention=1.0)
    assert theory.power(both) < 0.5 < 1 < theory.power(both, coherent=True)
    tokens = theory.flow(plain, 1, 0.0)
    assert theory.power_between(tokens) == pytest.approx(theory.power(plain))


def test_one_real_stack_is_near_the_map():
    s = Setting(512, 2, scores=0.01)
    x = tokens_at_angle(8, 512, 0.3)
    gram = x[0] @ x[0].T / 512
    assert torch.allclose(gram, 0.7 * torch.eye(8) + 0.3, atol=1e-5)
    assert float(x.mean(-1).abs().max()) < 1e-5
    torch.manual_seed(0)
    p, found = 0.0, theory.flow(s, 8, 0.3)
    for _ in range(4):
        p += float(Stack(s)(x).detach().square().mean()) / 4
    assert p == pytest.approx(found.p[-1], rel=0.15)
    logits = Language(replace(s, width=64, keys=1))(torch.zeros(2, 16, dtype=torch.long))
    assert logits.shape == (2, 16, 64)

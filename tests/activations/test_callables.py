"""Callables as users write them: kinks anywhere, ties, odd arguments, every function of PyTorch."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import kadanoff as kd
from benchmarks.callables import CHECK, check, draw
from kadanoff.activations import activation
from kadanoff.errors import KadanoffError, UsageError

ROOT = math.sqrt(2)


def _two_slopes() -> nn.PReLU:
    module = nn.PReLU(2)
    module.weight.data = torch.tensor([0.1, 0.2])
    return module


@pytest.mark.parametrize(
    ("f", "kinks"),
    [
        (lambda z: torch.relu(z - 1 / 3) + 0.3 * z, (1 / 3,)),
        (lambda z: torch.tanh(z) + (z > 1 / 3), (1 / 3,)),
        (lambda z: torch.abs(z - ROOT), (ROOT,)),
        (lambda z: torch.abs(z + 1 / 7) + torch.tanh(z), (-1 / 7,)),
        (lambda z: torch.maximum(z, torch.full_like(z, 1 / 3)), (1 / 3,)),
        (lambda z: torch.minimum(torch.sin(z), z - 0.2) + z, None),
        (lambda z: F.softsign(z - ROOT), (ROOT,)),
        (lambda z: torch.abs(z - 1) - 0.3 * torch.relu(z), (0.0, 1.0)),
        (lambda z: z.clamp(-15, 15), (-15.0, 15.0)),
        (lambda z: F.relu(z - 5e4 / 7), (5e4 / 7,)),
        (lambda z: F.hardsigmoid(z) * 2 + torch.tanh(z), (-3.0, 3.0)),
        (lambda z: torch.stack([z, 0 * z - 1, -z]).amin(0), (-1.0, 1.0)),
        (lambda z: torch.where(z > 1e-3 / 3, z, torch.sin(z)), (1e-3 / 3,)),
        (lambda z: torch.relu(z * z) + torch.sin(z), ()),
        (torch.arctan, ()),
        (lambda z: torch.tanh(500 * z), ()),
    ],
)
def test_kinks_are_found_to_the_last_digit(f, kinks) -> None:
    found = activation(f).kinks
    if kinks is None:
        # where sin z = z − 0.2: solved here by Newton's iteration
        z = 1.0
        for _ in range(50):
            z -= (math.sin(z) - z + 0.2) / (math.cos(z) - 1)
        kinks = (z,)
    assert len(found) == len(kinks)
    for a, b in zip(found, kinks, strict=True):
        assert abs(a - b) <= 1e-15 * max(abs(b), 1e-12) or abs(a - b) <= 2.3e-16 * abs(b) * 2


@pytest.mark.parametrize("seed", range(40))
def test_random_piecewise_functions(seed: int) -> None:
    """Kinks at irrational places on any scale, and averages within their stated errors."""
    outcome = check(draw(seed), pairs=False)
    assert outcome.kinks_right
    for average in outcome.averages:
        assert average is not None
        off, stated = average
        assert off <= stated + CHECK


@pytest.mark.parametrize("seed", [3, 4])
def test_random_piecewise_functions_of_two_inputs(seed: int) -> None:
    outcome = check(draw(seed, jumps=False))
    assert len(outcome.averages) == 4
    for off, stated in outcome.averages:
        # the check's own outer rule is good to 1e-9 across kinks
        assert off <= stated + 1e-9


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        (nn.Hardtanh(0, 20), "hard_tanh(0, 20)"),
        (nn.Hardshrink(0.01), "hard_shrink(0.01)"),
        (nn.Softshrink(1 / 3), "soft_shrink(0.333333)"),
        (nn.RReLU().eval(), "leaky_relu(0.229167)"),
        (nn.CELU(0.4), "celu(0.4)"),
        (nn.Threshold(0.1, 0.2), "threshold(0.1, 0.2)"),
        (F.hardswish, "hard_swish"),
        (torch.Tensor.relu, "relu"),
        (lambda z: torch.sign(z), "sign"),
        (lambda z: z.clamp(-15, 15), "hard_tanh(-15, 15)"),
        (lambda z: z.clamp(min=0), "relu"),
        (lambda z: z.clamp(0, 1e5), "hard_tanh(0, 100000)"),
        (lambda z: torch.where(z.abs() > 0.01, z, 0 * z), "hard_shrink(0.01)"),
    ],
)
def test_taken_for_what_they_are(spec, name: str) -> None:
    found = activation(spec).name
    # hard_shrink by values has no family to be recognised in: what counts is what it is not
    assert found == name or (name.startswith("hard_shrink") and found == "user function")


def test_the_kernel_of_a_wide_clamp_at_large_variance() -> None:
    """⟨σ²⟩ at K = 400 of clamp(z, 0, 20): the ReLU it resembles near zero would give 200."""
    z = torch.linspace(-400, 400, 800_001, dtype=torch.float64)
    density = torch.exp(-(z**2) / 800) / math.sqrt(800 * math.pi)
    truth = float(torch.trapezoid(z.clamp(0, 20) ** 2 * density, z))
    arch = kd.MLP(1, [4], 1, nn.Hardtanh(0, 20), C_b=0.0, C_W=1.0)
    flow = kd.flow(arch, torch.tensor([[20.0]], dtype=torch.float64))
    assert abs(float(flow.K[1, 0, 0]) - truth) < 1e-6 * truth


def test_a_jump_of_a_callable_is_seen_wherever_it_lies() -> None:
    """A step has no finite NTK, at 1/3 as at 0.25."""
    for place in (0.25, 1 / 3, ROOT):
        act = activation(lambda z, place=place: torch.tanh(z) + (z > place))
        assert act.jump(0, act.kinks[0]) == pytest.approx(1.0, abs=1e-12)
        with pytest.raises(KadanoffError, match=r"delta function|does not exist"):
            kd.flow(kd.MLP(1, [8, 8], 1, act, C_b=0.1, C_W=1.0), torch.ones(1, 1).double())


def _elementwise_functions() -> dict[str, object]:
    """Every module of torch.nn.modules.activation, every elementwise function of functional."""
    found: dict[str, object] = {}
    arguments = {nn.Threshold: (0.3, 0.2), nn.MultiheadAttention: (8, 2)}
    for name in nn.modules.activation.__all__:
        cls = getattr(nn, name)
        found[f"nn.{name}"] = cls(*arguments.get(cls, ()))
    z = torch.tensor([-1.0, 0.25, 2.0], dtype=torch.float64)
    for name in dir(F):
        function = getattr(F, name)
        if name.startswith("_") or isinstance(function, type) or not callable(function):
            continue
        try:
            value = function(z.clone())
        except Exception:
            continue
        if isinstance(value, torch.Tensor) and value.shape == z.shape:
            found[f"F.{name}"] = function
    return found


FUNCTIONS = _elementwise_functions()
# gates, attention, softmaxes, and what draws random numbers
NOT_ACTIVATIONS = {
    *("nn.GLU", "nn.MultiheadAttention", "nn.RReLU", "nn.LogSoftmax", "nn.Softmax"),
    *("nn.Softmax2d", "nn.Softmin", "F.dropout", "F.gumbel_softmax"),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_of_pytorch_works_or_says_why_not(name: str) -> None:
    X = torch.randn(2, 6, generator=torch.Generator().manual_seed(0)).double()
    if name in NOT_ACTIVATIONS:
        with pytest.raises(UsageError, match=r"not elementwise|cannot be applied|draws its slope"):
            activation(FUNCTIONS[name])
        return
    act = activation(FUNCTIONS[name])
    z = torch.linspace(-5.03, 5.11, 23, dtype=torch.float64)
    for k in range(4):
        assert torch.isfinite(act.derivative(k)(z)).all()
    point = kd.criticality(act)
    assert point.exists or point.reason
    arch = kd.MLP(6, [20, 20], 2, act, C_b=0.1, C_W=1.0)
    wide = torch.randn(1, 6, generator=torch.Generator().manual_seed(1)).double()
    if any(act.jump(0, kink) for kink in act.kinks):
        with pytest.raises(KadanoffError, match="the average does not exist"):
            kd.kernel(arch)(X)
        return
    nngp = kd.kernel(arch)(torch.cat([X, wide]), get="nngp")
    assert torch.isfinite(nngp).all()
    assert bool((torch.linalg.eigvalsh(nngp) > 0).all())
    flow = kd.flow(arch, X)
    assert torch.allclose(flow.K[-1], nngp[:2, :2], rtol=1e-6)
    assert torch.isfinite(flow.Theta).all()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (nn.RReLU(), "draws its slope anew"),
        (_two_slopes(), "2 different slopes"),
        (lambda z: torch.from_numpy(abs(z.detach().numpy() - 1 / 3)), "gradient is not its"),
        (lambda z: z + (torch.sign(z) - z).detach(), "gradient is not its"),
        (lambda z: torch.tanh(z).detach() + z, "gradient is not its"),
        (lambda z: torch.floor(40 * z) + z, "more than 64 kinks"),
    ],
)
def test_what_cannot_be_an_activation_is_refused(spec, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        activation(spec)


def test_checkpoints_tell_apart_what_differs_far_out() -> None:
    narrow, wide = activation("hard_tanh(-4, 4)"), activation("hard_tanh(-8, 8)")
    assert narrow.fingerprint() != wide.fingerprint()
    assert narrow.fingerprint() == activation("hard_tanh(-4, 4)").fingerprint()

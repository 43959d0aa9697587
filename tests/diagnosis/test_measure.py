"""What is measured is right, the prediction agrees with it, and z-scores are calibrated."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import nn

from kadanoff.diagnosis import Estimate, diagnose
from tests.trace.models import Functional, ResNet18, mlp


def data(n: int = 24, width: int = 32, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


def test_numbers_of_a_layer():
    model = mlp(nn.ReLU, 2, 40, 2.0)
    x = data()
    found = diagnose(model, x)
    z = model[2](torch.relu(model[0](x)))
    layer = found.layers[1]
    assert layer.second_moment.value == pytest.approx(z.square().mean().item(), rel=1e-5)
    assert layer.mean.value == pytest.approx(z.mean().item(), rel=1e-4)
    a = torch.relu(z)
    assert layer.zeros is not None
    assert layer.zeros.value == pytest.approx((a == 0).float().mean().item())
    assert layer.dead is not None
    assert layer.dead.value == pytest.approx((a == 0).all(0).float().mean().item())
    cosine = nn.functional.cosine_similarity(z[:, None], z[None], dim=-1)
    off = (cosine.sum() - 24) / (24 * 23)
    assert layer.correlation is not None
    assert layer.correlation.value == pytest.approx(off.item(), abs=1e-5)
    assert layer.weight_gain is not None
    assert layer.weight_gain.value == pytest.approx(40 * model[2].weight.square().mean().item())
    assert layer.critical_gain == pytest.approx(2.0)
    assert (layer.fan_in, layer.fan_out, layer.activation) == (40, 40, "relu")
    assert [x.role for x in found.layers] == ["input", "hidden", "readout"]
    assert found.aspect == pytest.approx(2 / 40)


def test_gradients_of_the_loss():
    model, x = mlp(nn.Tanh, 2, 16), data()
    y = torch.randint(0, 10, (24,), generator=torch.Generator().manual_seed(1))
    found = diagnose(model, (x, y))
    loss = nn.functional.cross_entropy(model(x), y)
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    assert found.loss_name == "cross entropy"
    assert found.loss == pytest.approx(loss.item(), rel=1e-5)
    norms = [p.gradient_norm for p in found.parameters]
    assert norms == pytest.approx([g.norm().item() for g in gradients], rel=1e-4)
    same = diagnose(model, x, targets=y, loss=nn.CrossEntropyLoss())
    assert same.loss == pytest.approx(loss.item(), rel=1e-5)
    assert same.loss_name == "CrossEntropyLoss"


@pytest.mark.slow
@pytest.mark.parametrize("act,C_W", [(nn.Tanh, 1.0), (nn.ReLU, 2.0), (nn.Tanh, 2.0)])
def test_z_scores_are_calibrated(act, C_W):
    z: dict[str, list[float]] = {}
    for seed in range(40):
        # not the seed of the weights: inputs equal to rows of W show up at z = 10
        x = data(16, seed=5000 + seed)
        found = diagnose(mlp(act, 6, 64, C_W, seed=seed), x, seed=seed)
        assert found.describable
        for layer in found.layers[1:]:
            for key in ("second_moment", "correlation", "jacobian", "jacobian_to_output", "mean"):
                estimate = getattr(layer, key)
                if estimate is not None and estimate.z is not None:
                    z.setdefault(key, []).append(estimate.z)
    for key, values in z.items():
        values = torch.tensor(values)
        # neighbouring layers of one net are correlated: 40 independent nets at least
        assert abs(values.mean()) < 4 / math.sqrt(40), (key, values.mean())
        assert 0.5 < values.std() < 1.5, (key, values.std())


def test_other_models_are_expected_from_their_own_program():
    found = diagnose(Functional(), torch.randn(5, 6))
    assert found.describable
    assert "random networks of the same program" in found.description
    assert all(layer.second_moment.z is not None for layer in found.layers)
    assert not diagnose(Functional(), torch.randn(5, 6), theory="none").describable
    assert [layer.op for layer in found.layers] == ["linear"] * 4 + ["matmul"]
    assert [layer.call_index for layer in found.layers] == [0, 1, 0, 1, 2]
    tied = next(p for p in found.parameters if p.name == "b.weight")
    assert tied.aliases == ("c.weight",)


def test_leaves_the_model_as_it_was():
    model = ResNet18()
    x = torch.randn(4, 3, 32, 32)
    model(x).sum().backward()
    model.layer1.eval()
    model.fc.weight.requires_grad_(False)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    flags = [m.training for m in model.modules()]
    rng = torch.get_rng_state()
    diagnose(model, x)
    assert torch.equal(rng, torch.get_rng_state())
    assert flags == [m.training for m in model.modules()]
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not model.fc.weight.requires_grad
    for p, g in zip(model.parameters(), gradients, strict=True):
        assert (p.grad is None) == (g is None)
        assert g is None or torch.equal(p.grad, g)
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())


def test_same_seed_same_numbers_and_dropout_is_off():
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Dropout(0.5), nn.Linear(16, 3))
    x = data(8, 8)
    first, second = diagnose(model, x, seed=3), diagnose(model, x, seed=3)
    a, b = first.to_dict(), second.to_dict()
    a["meta"].pop("seconds"), b["meta"].pop("seconds")
    assert a == b
    assert first.describable


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_keeps_the_dtype(dtype):
    found = diagnose(mlp(nn.Tanh, 3, 32).to(dtype), data())
    assert found.meta["dtype"] == str(dtype)[6:]
    assert any("cast" in note for note in found.notes)
    assert found.findings == ()


def test_frozen_models_have_jacobians_too():
    model = mlp(nn.Tanh, 4, 32).requires_grad_(False)
    found = diagnose(model, data())
    assert found.layers[0].jacobian is not None
    assert not any(p.requires_grad for p in model.parameters())


def test_batches_of_every_kind():
    model, x = mlp(nn.Tanh, 2, 8), data()
    y = torch.zeros(24, 10)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=12)
    assert diagnose(model, x.numpy()).n_samples == 24
    assert diagnose(model, (x, y)).loss_name == "mse"
    assert diagnose(model, loader).n_samples == 12
    assert diagnose(model, {"input": x}).n_samples == 24
    assert diagnose(model, x, batch=5).n_samples == 5
    assert diagnose(model, x[:1]).exit_code == 0


@pytest.mark.gpu
def test_on_the_gpu():
    model = mlp(nn.Tanh, 6, 64)
    found = diagnose(model, data(), device="cuda")
    assert found.meta["device"].startswith("cuda")
    assert next(model.parameters()).device.type == "cpu"
    here = diagnose(model, data())
    for a, b in zip(found.layers, here.layers, strict=True):
        assert a.second_moment.value == pytest.approx(b.second_moment.value, rel=1e-3)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.jit itself
def test_torchscript():
    model, x = mlp(nn.Tanh, 6, 32, default=True), data()
    found = diagnose(torch.jit.script(model), x)
    assert [layer.parameter for layer in found.layers] == [f"{2 * i}.weight" for i in range(7)]
    assert found.findings[0].code == "ordered"


def test_json_round_trip(tmp_path):
    found = diagnose(mlp(nn.ReLU, 24, 32, default=True), data())
    found.to_json(tmp_path / "report.json")
    tree = json.loads((tmp_path / "report.json").read_text())
    assert tree["exit_code"] == 1
    assert tree["schema_version"] == 1
    assert len(tree["layers"]) == 25
    assert tree["layers"][0]["second_moment"]["value"] == found.layers[0].second_moment.value


def test_estimate_against_prediction():
    estimate = Estimate(1.2, 0.3).against(1.0, 0.1)
    assert estimate.z == pytest.approx(2.0)

"""Each bad input: one line that names the cause and the remedy."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kadanoff.diagnosis import diagnose
from kadanoff.diagnosis.surveying import ForwardError
from kadanoff.errors import DataError, UsageError


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


def broken(value: float) -> nn.Sequential:
    model = net()
    with torch.no_grad():
        model[0].weight[0, 0] = value
    return model


def complex_net() -> nn.Module:
    model = net()
    model[0].weight = nn.Parameter(model[0].weight.detach().to(torch.complex64))
    return model


X = torch.ones(3, 4) * torch.arange(1, 4)[:, None]

CASES = [
    (net(), X.clone().fill_(float("nan")), "12 NaN", DataError),
    (net(), X / 0.0, "NaN or infinite", DataError),
    (broken(float("nan")), X, "0.weight", DataError),
    (broken(float("inf")), X, "0.weight", DataError),
    (net(), torch.empty(0, 4), "empty", DataError),
    (nn.Sequential(nn.Tanh()), X, "no parameters", UsageError),
    (net(), X.long(), "integers", DataError),
    (net(), X.to(torch.complex64), "complex", DataError),
    (complex_net(), X, "complex", UsageError),
    (net(), torch.ones(3, 5), "'0'", DataError),
    (net(), torch.tensor(1.0), "single number", DataError),
    (net(), "digits", "str", DataError),
    ("model", X, "not a torch.nn.Module", UsageError),
]


@pytest.mark.parametrize("model,data,words,kind", CASES)
def test_one_line_with_cause_and_remedy(model, data, words, kind):
    with pytest.raises(kind) as caught:
        diagnose(model, data)
    assert words in caught.value.message
    assert caught.value.exit_code == 2
    assert caught.value.remedy
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_asked_for_and_absent():
    with pytest.raises(UsageError, match="CUDA"):
        diagnose(net(), X, device="cuda")


def test_unknown_device_bad_batch_and_loss():
    with pytest.raises(UsageError, match="device"):
        diagnose(net(), X, device="quantum")
    with pytest.raises(UsageError, match="batch"):
        diagnose(net(), X, batch=0)
    with pytest.raises(UsageError, match="loss"):
        diagnose(net(), X, loss=lambda output: output)


def test_a_shape_mismatch_names_the_layer_it_failed_in_and_keeps_what_was_recorded():
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(9, 2))
    with pytest.raises(DataError) as caught:
        diagnose(model, X)
    assert "layer '2' (Linear(in_features=9" in caught.value.message
    assert "after 2 recorded layers" in caught.value.message
    assert isinstance(caught.value, ForwardError)
    assert [call.op for call in caught.value.calls] == ["linear", "tanh"]
    assert not model[0]._forward_hooks

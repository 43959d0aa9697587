"""Recurrences step by step: gradient and signal, first step first."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kadanoff.diagnosis import diagnose
from kadanoff.diagnosis.terminal import steps_shown, time_line


class Last(nn.Module):
    """Classifies by the last state of a recurrent module."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.rnn, self.out = kind(4, 16, batch_first=True), nn.Linear(16, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.rnn(x)[0][:, -1])


class Cells(nn.Module):
    """The same with a cell in a loop."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.out = nn.GRUCell(4, 16), nn.Linear(16, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = x.new_zeros(len(x), 16)
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
        return self.out(h)


def batch(steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return torch.randn(6, steps, 4, generator=g), torch.randint(0, 2, (6,), generator=g)


@pytest.mark.parametrize("make", [lambda: Last(nn.LSTM), lambda: Last(nn.GRU), Cells])
def test_each_step_has_its_gradient_and_its_signal(make):
    torch.manual_seed(1)
    model, (x, y) = make(), batch(12)
    (time,) = diagnose(model, (x, y), try_steps=0, theory="none").times
    # by hand: the loss with respect to the input, step by step
    x = x.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(model(x), y), x)
    wanted = gradient.square().mean((0, 2)).sqrt().tolist()
    assert time.gradient == pytest.approx(wanted, rel=1e-4)
    assert len(time.signal) == 12
    if isinstance(model, Last):
        states = model.rnn(x)[0].square().mean((0, 2)).sqrt().tolist()
        assert time.signal == pytest.approx(states, rel=1e-4)
    assert time.gradient[0] < time.gradient[-1]


def test_terminal_page_and_json_show_them(tmp_path):
    torch.manual_seed(1)
    found = diagnose(Last(nn.LSTM), batch(30), try_steps=0, theory="none")
    line = time_line(found.times[0])
    assert line.startswith("time: rnn, 30 steps; at 1, 8, ")
    assert "signal" in line
    page = tmp_path / "report.html"
    found.to_html(page)
    assert "Step by step" in page.read_text()
    assert len(found.to_dict()["times"][0]["gradient"]) == 30
    assert steps_shown(3, 5) == [0, 1, 2]
    assert steps_shown(100, 5) == [0, 25, 50, 74, 99]

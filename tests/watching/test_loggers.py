"""Scalars reach whatever people log with."""

from __future__ import annotations

import csv

import pytest
import torch

from tests.watching.runs import classes, mlp, train


def logged(target):
    model = mlp()
    return train(model, classes(), torch.optim.SGD(model.parameters(), lr=0.1), 20, log=target)


def test_a_table(tmp_path):
    w = logged(tmp_path / "scalars.csv")
    with (tmp_path / "scalars.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["step"] for row in rows] == ["0", "10", "20"]
    assert float(rows[-1]["watch/loss"]) == w.film.frames[-1].scalars["loss"]
    assert float(rows[-1]["watch/second_moment/2"]) > 0


def test_functions_and_objects_of_every_kind():
    seen: dict[str, list[int]] = {"function": [], "metrics": [], "run": []}

    class Metrics:
        def log_metrics(self, scalars, step=None):
            seen["metrics"].append(step)

    class Run:
        def log(self, scalars, step=None):
            seen["run"].append(step)

    logged([lambda scalars, step: seen["function"].append(step), Metrics(), Run()])
    assert seen == {key: [0, 10, 20] for key in seen}


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        w = logged(writer)
    events = EventAccumulator(str(tmp_path)).Reload().Scalars("watch/loss")
    assert [e.step for e in events] == [0, 10, 20]
    assert events[-1].value == pytest.approx(w.film.frames[-1].scalars["loss"])

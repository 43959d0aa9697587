"""One form for whatever a user hands over, and the same one for every function."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import kadanoff as kd
from kadanoff.data import Batch, example, examples
from kadanoff.errors import DataError

torch.manual_seed(0)  # weights of the models below
X, Y = torch.randn(12, 6, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 3


class OfTwo(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.out = nn.Linear(6, 16), nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, left, right):
        return self.out(torch.relu(self.b(torch.relu(self.a(left + right)))))


class OfOneDict(OfTwo):
    def forward(self, batch):
        return {"scores": super().forward(batch["left"], batch["right"])}


class OfKeywords(OfTwo):
    def forward(self, *, left, right=None, labels=None):
        scores = super().forward(left, left if right is None else right)
        if labels is None:
            return scores
        return nn.functional.cross_entropy(scores, labels), scores


PLAIN = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
FORMS = {
    "tensor": (PLAIN, X),
    "array": (PLAIN, X.numpy()),
    "pair": (PLAIN, (X, Y)),
    "list of a loader": (PLAIN, [X, Y]),
    "batch": (PLAIN, Batch(X, Y, "mine")),
    "loader": (PLAIN, torch.utils.data.DataLoader(list(zip(X, Y)), batch_size=6)),
    "two arguments": (OfTwo(), (X, X)),
    "two arguments and targets": (OfTwo(), ((X, X), Y)),
    "a dict for one argument": (OfOneDict(), {"left": X, "right": X}),
    "a dict and targets": (OfOneDict(), ({"left": X, "right": X}, Y)),
    "keywords": (OfKeywords(), {"left": X}),
    "keywords with labels": (OfKeywords(), {"left": X, "labels": Y}),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_function_takes_every_form(name):
    model, data = FORMS[name]
    assert kd.diagnose(model, data).layers
    assert kd.tune(model, data, optimizer="adam")
    assert 0.2 < kd.sparsity.profile(model, data).active < 0.8
    lean = kd.sparsity.sparsify(model, "topk", 0.75, data=data)
    assert 0.2 < kd.sparsity.profile(lean, data).active <= 0.25
    kd.sparsity.restore(kd.sparsity.accelerate(lean.eval(), data))


def test_what_is_a_pair_depends_on_who_is_called():
    assert example((X, Y), PLAIN).targets is not None
    assert example((X, X), PLAIN).targets is not None
    both = example((X, X), OfTwo())
    assert len(both.args) == 2
    assert both.targets is None
    assert len(examples([X, X], PLAIN)) == 2
    assert len(examples([(X, Y), (X, Y)], PLAIN)) == 2
    assert len(examples([X, Y], PLAIN)) == 1


def test_labels_stay_where_the_model_insists_on_them():
    class Insists(OfTwo):
        def forward(self, left, labels):
            return super().forward(left, left)

    call = example({"left": X, "labels": Y})
    assert set(call.without_labels().kwargs) == {"left"}
    assert set(call.without_labels(Insists()).kwargs) == {"left", "labels"}
    assert example({"left": X, "labels": Y}, Insists()).without_labels(Insists()).targets is None


@pytest.mark.parametrize("nothing", ["words", 3, None, [], {}, [None]])
def test_nothing_to_use_is_said(nothing):
    with pytest.raises(DataError):
        kd.diagnose(PLAIN, nothing)
    with pytest.raises(DataError):
        kd.tune(PLAIN, nothing)
    with pytest.raises(DataError):
        kd.sparsity.profile(PLAIN, nothing)


def test_a_callable_may_give_arguments_with_targets(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "import numpy\n"
        "def data():\n"
        "    x = numpy.ones((12, 6), 'float32')\n"
        "    return {'left': x, 'right': x}, numpy.arange(12) % 3\n"
        "def several():\n"
        "    x = numpy.ones((12, 6), 'float32')\n"
        "    return (x, x), numpy.arange(12) % 3\n"
    )
    batch = kd.data.load(f"{tmp_path}/mine.py:data", batch=5)
    assert batch.task == "classification"
    assert len(batch) == 5
    assert kd.data.adapt(OfOneDict(), batch).notes == ()
    several = kd.data.load(f"{tmp_path}/mine.py:several", batch=4)
    assert [len(x) for x in several.inputs] == [4, 4]
    assert kd.data.adapt(OfTwo(), several).notes == ()


def test_a_single_input_is_given_by_name_where_that_is_the_only_way():
    batch = kd.data.load("digits", batch=8)
    narrow = Batch(batch.inputs[:, :6], batch.targets, "mine")
    fitted = kd.data.adapt(OfKeywords(), narrow)
    assert fitted.inputs is not None
    assert example(X, OfKeywords()).kwargs.keys() == {"left"}
    assert kd.diagnose(OfKeywords(), (X, Y)).layers

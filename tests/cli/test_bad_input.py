"""Every wrong call of the issue: exit code 2, one line with cause and remedy, nothing written."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.cli.run import run

MODELS = """
import torch
from torch import nn

def good(width=16, depth=2):
    layers = []
    for i in range(depth):
        layers += [nn.Linear(64 if i == 0 else width, width), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(width, 10))

def raises(): raise RuntimeError("out of luck")
def no_model(): return {"a": 1}
def bare(): return nn.ReLU()
def needs(width): return nn.Linear(64, width)
number = 3
ready = nn.Linear(64, 10)

def nan():
    model = good()
    model[0].weight.data[0, 0] = float("nan")
    return model

def narrow(): return good(width=1, depth=4)
def words(): return nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 4))
def complex_weights(): return nn.Linear(64, 4, dtype=torch.complex64)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    (folder / "models.py").write_text(MODELS)
    (folder / "syntax.py").write_text("def f(:\n")
    (folder / "imports.py").write_text("import nothing_of_this_name\n")
    X = np.random.default_rng(0).normal(size=(8, 64)).astype("float32")
    bad = X.copy()
    bad[2, 3] = np.nan
    np.save(folder / "nan.npy", bad)
    bad[2, 3] = np.inf
    np.save(folder / "inf.npy", bad)
    np.save(folder / "empty.npy", X[:0])
    np.save(folder / "complex.npy", X.astype(complex))
    np.save(folder / "integers.npy", np.ones((8, 64), int))
    np.save(folder / "narrow.npy", X[:, :7])
    (folder / "model.pt2").write_bytes(b"not a model")
    torch.save({"a": torch.ones(2)}, folder / "state.pt")
    return folder


CASES = {
    "missing file": (["{}/no.py:good"], "no file"),
    "missing file, close name": (["{}/model.py:good"], "Did you mean"),
    "no factory": (["{}/models.py"], "models.py:good"),
    "missing module": (["no_such_package.models:good"], "no module"),
    "wrong attribute": (["{}/models.py:goood"], "'good'"),
    "factory that raises": (["{}/models.py:raises"], "out of luck"),
    "factory that raises, where": (["{}/models.py:raises"], "models.py, line"),
    "factory that needs arguments": (["{}/models.py:needs"], """--kwargs '{"width": 64}'"""),
    "misspelt argument": (
        ["{}/models.py:good", "--kwargs", '{{"widht": 8}}'],
        "Did you mean 'width'? It takes width, depth.",
    ),
    "argument of a factory that takes none": (
        ["{}/models.py:bare", "--kwargs", '{{"width": 8}}'],
        "It takes none.",
    ),
    "something else": (["{}/models.py:no_model"], "returned a dict"),
    "a number": (["{}/models.py:number"], "is a int"),
    "syntax error": (["{}/syntax.py:f"], "SyntaxError"),
    "import error": (["{}/imports.py:f"], "nothing_of_this_name"),
    "kwargs": (["{}/models.py:good", "--kwargs", "{{width"], "not JSON"),
    "kwargs list": (["{}/models.py:good", "--kwargs", "[1]"], "JSON object"),
    "kwargs on a module": (["{}/models.py:ready", "--kwargs", '{{"a": 1}}'], "takes no"),
    "broken file": (["{}/model.pt2"], "can be loaded"),
    "state dict": (["{}/state.pt"], "state dict"),
    "weights of another model": (
        ["{}/models.py:good", "--weights", "{}/state.pt"],
        "do not fit the model",
    ),
    "weights that are none": (["{}/models.py:good", "--weights", "{}/nan.npy"], "no state dict"),
    "weights that are missing": (["{}/models.py:good", "--weights", "{}/no.pt"], "no file"),
    "missing pt2": (["{}/modle.pt2"], "Did you mean"),
    "no parameters": (["{}/models.py:bare"], "no parameters"),
    "nan in weights": (["{}/models.py:nan"], "'0.weight'"),
    "complex weights": (["{}/models.py:complex_weights"], "complex"),
    "nan": (["{}/models.py:good", "--data", "{}/nan.npy"], "NaN"),
    "inf": (["{}/models.py:good", "--data", "{}/inf.npy"], "infinite"),
    "empty": (["{}/models.py:good", "--data", "{}/empty.npy"], "empty"),
    "complex": (["{}/models.py:good", "--data", "{}/complex.npy"], "complex"),
    "integers": (["{}/models.py:good", "--data", "{}/integers.npy"], "integers"),
    "shape": (["{}/models.py:good", "--data", "{}/narrow.npy"], "64 features"),
    "missing data": (["{}/models.py:good", "--data", "{}/no.npy"], "no data file"),
    "unknown data": (["{}/models.py:good", "--data", "digts"], "Did you mean 'digits'"),
    "tokens out of range": (["{}/models.py:words", "--data", "text"], "embedding of 10"),
    "empty batch": (["{}/models.py:good", "--batch", "0"], "empty"),
    "unknown device": (["{}/models.py:good", "--device", "abacus"], "abacus"),
    "html in no folder": (["{}/models.py:good", "--html", "{}/no/report.html"], "no folder"),
}


# what diagnose cannot do and tune can, or takes otherwise
DIAGNOSE_ALONE = {"html in no folder"}
CALLS = [("diagnose", name) for name in CASES]
CALLS += [("tune", name) for name in CASES if name not in DIAGNOSE_ALONE]


@pytest.mark.parametrize(("command", "name"), CALLS)
def test_bad_input(capsys, folder, name, command):
    arguments, message = CASES[name]
    before = sorted(folder.rglob("*.*"))
    html = folder / "report.html"
    extra = ["--html", str(html)] if command == "diagnose" and "--html" not in arguments else []
    code, out, err = run(capsys, command, *(a.format(folder) for a in arguments), *extra)
    assert code == 2, err
    assert message in err
    assert err.startswith("error: ")
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in out + err
    after = [p for p in sorted(folder.rglob("*.*")) if "__pycache__" not in str(p)]
    assert after == [p for p in before if "__pycache__" not in str(p)]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_asked_for_and_absent(capsys, folder):
    code, _, err = run(capsys, "diagnose", f"{folder}/models.py:good", "--device", "cuda")
    assert code == 2
    assert "Use 'cpu'" in err


def test_debug_shows_the_traceback(folder):
    from kadanoff.cli.app import main
    from kadanoff.errors import UsageError

    with pytest.raises(UsageError, match="out of luck"):
        main(["diagnose", f"{folder}/models.py:raises", "--debug"])


def test_ready_module_class_and_kwargs(capsys, folder):
    code, out, _ = run(
        capsys, "diagnose", f"{folder}/models.py:good", "--kwargs", '{"width": 24}', "--json"
    )
    import json

    assert code in (0, 1)
    assert json.loads(out)["layers"][0]["fan_out"] == 24
    code, _, err = run(capsys, "diagnose", f"{folder}/models.py:ready")
    assert code in (0, 1), err

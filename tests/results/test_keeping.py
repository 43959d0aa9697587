"""Results come back as they were: pickle, copy, torch.save, npz and JSON files, dicts."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import kadanoff as kd
from kadanoff.activations import activation, names
from kadanoff.errors import StorageError, UsageError
from kadanoff.results import Kept, Result

ODD_ARGUMENTS = [
    "leaky_relu(0.123456789012)",
    "monomial(3)",
    "hard_tanh(-0.3333333333333333, 7.25)",
    "softplus(2.7182818284)",
]


def swoosh(z: Tensor) -> Tensor:
    """An activation at the top of a module."""
    return z * torch.sigmoid(1.3 * z)


def through_pickle(value: Any, _: Path) -> Any:
    return pickle.loads(pickle.dumps(value))


def through_copy(value: Any, _: Path) -> Any:
    return copy.deepcopy(value)


def through_torch(value: Any, _: Path) -> Any:
    stream = io.BytesIO()
    torch.save(value, stream)
    stream.seek(0)
    return torch.load(stream, weights_only=False)


def through_npz(value: Any, folder: Path) -> Any:
    return kd.load(kd.save(value, folder / "kept.npz"))


def through_json(value: Any, folder: Path) -> Any:
    return kd.load(kd.save(value, folder / "kept.json"))


WAYS = [through_pickle, through_copy, through_torch, through_npz, through_json]


def same(a: Any, b: Any) -> bool:
    """Equal in every field, NaN equal to NaN."""
    if isinstance(a, Tensor):
        return (
            a.dtype == b.dtype
            and torch.equal(torch.isnan(a), torch.isnan(b))
            and torch.equal(a.nan_to_num(), b.nan_to_num())
        )
    if isinstance(a, kd.Activation):
        return a.fingerprint() == b.fingerprint() and a.taken_from == b.taken_from
    if dataclasses.is_dataclass(a):
        fields = [f.name for f in dataclasses.fields(a)]
        return type(a) is type(b) and all(same(getattr(a, f), getattr(b, f)) for f in fields)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return a == b or (a != a and b != b)


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    X = torch.linspace(-1, 1, 16, dtype=torch.float64).reshape(2, 8)
    arch = kd.MLP(8, [400, 400], 1, "gelu", C_W=2.0)
    flow = kd.flow(arch, X, order=1)
    ensemble = kd.ensemble(arch, X, 60)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2))
    y = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    return {
        "architecture": arch,
        "residual": kd.Residual(8, 16, 3, 1, "leaky_relu(0.0123456789)", gamma=0.5),
        "function": kd.MLP(8, [16], 1, swoosh),
        "flow": flow,
        "ensemble": ensemble,
        "comparison": kd.compare(flow, ensemble),
        "criticality": kd.criticality("gelu"),
        "prediction": kd.predict(arch, X, y, X, order=1, method="bayes", noise=0.1),
        "module ensemble": kd.ensemble(model, X.float(), 60),
        "diagnosis": kd.diagnose(model, (torch.randn(64, 8), torch.randint(2, (64,)))),
        "several": [flow, {"C_W": 2.0, 3: float("nan")}, (None, True, "x")],
    }


KINDS = [
    "architecture", "residual", "function", "flow", "ensemble", "comparison", "criticality",
    "prediction", "module ensemble", "diagnosis", "several",
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_result_comes_back(
    results: dict[str, Any], kind: str, way: Callable[[Any, Path], Any], tmp_path: Path
) -> None:
    assert same(results[kind], way(results[kind], tmp_path))


@pytest.mark.parametrize("kind", KINDS[:-1])
def test_a_result_saves_itself(results: dict[str, Any], kind: str, tmp_path: Path) -> None:
    result = results[kind]
    assert isinstance(result, Kept)
    file = result.save(tmp_path / "kept.npz")
    assert same(type(result).load(file), result)
    with pytest.raises(StorageError, match="not a"):
        (kd.MLP(1, [1], 1) if kind == "flow" else results["flow"]).__class__.load(file)


def test_an_ensemble_of_a_dict_can_be_compared(results: dict[str, Any]) -> None:
    tree = json.loads(json.dumps(results["ensemble"].to_dict()))
    back = type(results["ensemble"]).from_dict(tree)
    assert back.arch == results["ensemble"].arch
    assert same(kd.compare(results["flow"], back), results["comparison"])


@pytest.mark.parametrize("name", [*names(), *ODD_ARGUMENTS])
def test_activations_come_back_to_the_last_digit(name: str, tmp_path: Path) -> None:
    act = activation(name)
    for way in WAYS:
        again = way(act, tmp_path)
        assert again == act
        assert same(again, act)
        assert (again.closed_form is None) == (act.closed_form is None)


def test_a_recognised_slope_comes_back(tmp_path: Path) -> None:
    act = activation(lambda z: torch.where(z > 0, 3 * z, 0.25 * z))
    for way in WAYS:
        assert way(act, tmp_path).slopes == (0.25, 3.0)


def test_a_lambda_is_refused_by_pickle_and_asked_for_by_files(tmp_path: Path) -> None:
    arch = kd.MLP(8, [16], 1, lambda z: torch.tanh(z) + 0.1 * z)
    with pytest.raises(pickle.PicklingError, match="def at the top"):
        pickle.dumps(arch)
    file = kd.save(arch, tmp_path / "kept.npz")
    with pytest.raises(UsageError, match="user_function=function"):
        kd.load(file)
    with pytest.raises(UsageError, match="not the function"):
        kd.load(file, user_function=torch.tanh)
    again = kd.load(file, user_function=lambda z: torch.tanh(z) + 0.1 * z)
    assert same(again.activations[0], arch.activations[0])


def test_a_file_imports_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("of_the_user")
    exec("def bent(z): return z.tanh() + z.relu()", module.__dict__)
    monkeypatch.setitem(sys.modules, "of_the_user", module)
    file = kd.save(kd.MLP(8, [16], 1, module.bent), tmp_path / "kept.json")
    assert kd.load(file).activations[0].name == "bent"
    monkeypatch.delitem(sys.modules, "of_the_user")
    with pytest.raises(UsageError, match="Import of_the_user first"):
        kd.load(file)
    text = file.read_text().replace("kadanoff.architecture.network:Network", "os:system")
    file.write_text(text)
    with pytest.raises(StorageError, match="not of this package"):
        kd.load(file)


def test_files_that_are_no_results(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file"):
        kd.load(tmp_path / "none.npz")
    with pytest.raises(UsageError, match=r"\.npz or \.json"):
        kd.save(kd.criticality("relu"), tmp_path / "kept.pkl")
    (tmp_path / "a.json").write_text('{"x": 1}')
    (tmp_path / "b.json").write_text("no JSON")
    (tmp_path / "c.npz").write_bytes(b"PK broken")
    np.savez(tmp_path / "d.npz", X=np.ones(3))
    for name in ("a.json", "b.json", "c.npz", "d.npz"):
        with pytest.raises(StorageError, match="no result"):
            kd.load(tmp_path / name)
    file = kd.save(kd.criticality("relu"), tmp_path / "e.json")
    head = json.loads(file.read_text())
    file.write_text(json.dumps(head | {"schema": 99}))
    with pytest.raises(StorageError, match="schema 99"):
        kd.load(file)
    del head["result"]["fields"]["C_W"]
    file.write_text(json.dumps(head))
    with pytest.raises(StorageError, match="does not fit"):
        kd.load(file)
    with pytest.raises(UsageError, match="cannot be kept"):
        kd.save(nn.Linear(2, 2), tmp_path / "f.json")
    assert not (tmp_path / "f.json").exists()
    with zipfile.ZipFile(kd.save(kd.criticality("relu"), tmp_path / "g.npz")) as kept:
        assert kept.testzip() is None


def test_an_activation_made_by_hand_must_be_given(tmp_path: Path) -> None:
    act = kd.Activation("mine", torch.sin)
    file = kd.save(kd.MLP(2, [4], 1, act), tmp_path / "kept.json")
    with pytest.raises(UsageError, match="mine=function"):
        kd.load(file)
    assert kd.load(file, mine=act).activations == (act,)
    with pytest.raises(pickle.PicklingError):
        pickle.dumps(act)


@pytest.mark.parametrize("kind", KINDS[3:-1])
def test_results_are_short_and_have_tables(results: dict[str, Any], kind: str) -> None:
    result = results[kind]
    assert isinstance(result, Result)
    assert len(repr(result)) < 700
    assert len(str(result)) < 4000
    table = result.table()
    assert table.rows
    assert {len(row) for row in table.rows} == {len(table.columns)}
    html = result._repr_html_()
    assert html.startswith(("<table", "<p>", "<iframe"))


def test_a_table_has_the_numbers_of_its_result(results: dict[str, Any]) -> None:
    flow, ensemble = results["flow"], results["ensemble"]
    row = next(r for r in flow.table().rows if r[:3] == ("V", 2, "0-0-1-1"))
    assert row[3:] == (float(flow.V[1, 0, 0, 1, 1]), float(flow.error["V"][1, 0, 0, 1, 1]))
    row = next(r for r in ensemble.table().rows if r[:3] == ("Theta", 3, "0-1"))
    assert row[3:] == (float(ensemble.Theta.value[2, 0, 1]), float(ensemble.Theta.stderr[2, 0, 1]))


def test_a_data_frame_where_pandas_is_installed(
    results: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError, match="pip install pandas"):
        results["flow"].to_frame()
    monkeypatch.undo()
    pandas = pytest.importorskip("pandas")
    frame = results["flow"].to_frame()
    assert isinstance(frame, pandas.DataFrame)
    assert len(frame) == len(results["flow"].table().rows)
    assert set(frame["observable"]) == set(results["flow"].names())

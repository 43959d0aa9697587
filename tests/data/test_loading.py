"""Loading by name, file and callable; each kind of unusable data has its own message."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kadanoff.data import NAMES, load
from kadanoff.errors import DataError
from tests.needs import needs


@pytest.mark.parametrize("name", NAMES)
def test_bundled_data_is_standardised_and_seeded(name):
    whole = load(name, batch=None)
    a, b, c = (load(name, batch=16, seed=s) for s in (3, 3, 4))
    assert len(a) == 16
    assert torch.equal(a.inputs, b.inputs)
    assert not torch.equal(a.inputs, c.inputs)
    assert whole.targets is not None
    assert len(whole.targets) == len(whole)
    if name == "text":
        assert whole.tokens
        assert torch.equal(whole.inputs[0, 1:], whole.targets[0, :-1])  # next character
        assert int(whole.inputs.max()) < (whole.n_classes or 0)
        return
    x = whole.inputs.double()
    if name == "digits":
        assert abs(float(x.mean())) < 1e-6
        assert abs(float(x.var(correction=0)) - 1) < 1e-5
    else:
        assert float(x.mean(0).abs().max()) < 1e-6
        assert float((x.var(0, correction=0) - 1).abs().max()) < 1e-5


def test_loading_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    load("digits", batch=5, seed=1)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.fixture
def arrays():
    generator = np.random.default_rng(0)
    return generator.normal(size=(20, 3)).astype("float32"), generator.integers(0, 2, 20)


def test_every_format_gives_the_same_samples(tmp_path, arrays):
    X, y = arrays
    np.save(tmp_path / "a.npy", X)
    np.savez(tmp_path / "a.npz", X=X, y=y)
    torch.save({"X": torch.tensor(X), "y": torch.tensor(y)}, tmp_path / "a.pt")
    torch.save((torch.tensor(X), torch.tensor(y)), tmp_path / "pair.pt")
    for name in ("a.npy", "a.npz", "a.pt", "pair.pt"):
        batch = load(tmp_path / name, batch=None)
        assert np.array_equal(batch.inputs.numpy(), X)
        if name != "a.npy":
            assert batch.targets is not None
            assert np.array_equal(batch.targets.numpy(), y)
            assert batch.n_classes == 2


def test_tables_agree(tmp_path, arrays):
    X, y = arrays
    lines = ["a,b,c,label"] + [f"{r[0]},{r[1]},{r[2]},{'yes' if t else 'no'}" for r, t in zip(X, y)]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    batch = load(tmp_path / "t.csv", batch=None)
    assert batch.targets is not None
    assert np.array_equal(batch.targets.numpy(), y)  # no = 0, yes = 1
    expected = (X - X.mean(0)) / X.std(0)
    assert np.allclose(batch.inputs.numpy(), expected, atol=1e-5)
    numeric = [",".join(line.split(",")[:3]) for line in lines]
    (tmp_path / "n.csv").write_text("\n".join(numeric))
    named = load(f"{tmp_path / 'n.csv'}:c", batch=None)
    assert named.targets is not None
    assert named.task == "regression"


def test_parquet_and_safetensors(tmp_path, arrays):
    table = needs("pyarrow", "files")
    X, y = arrays
    import pyarrow.parquet

    columns = {"a": X[:, 0], "b": X[:, 1], "c": X[:, 2], "target": y}
    pyarrow.parquet.write_table(table.table(columns), tmp_path / "t.parquet")
    batch = load(tmp_path / "t.parquet", batch=None)
    assert np.allclose(batch.inputs.numpy(), (X - X.mean(0)) / X.std(0), atol=1e-5)
    safetensors = needs("safetensors.torch", "files")
    safetensors.save_file({"X": torch.tensor(X)}, str(tmp_path / "t.safetensors"))
    assert np.array_equal(load(tmp_path / "t.safetensors", batch=None).inputs.numpy(), X)


def test_callable_in_a_file(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "def pair(batch, seed): return torch.ones(batch, 2), torch.zeros(batch).long()\n"
        "def words(): return {'input_ids': torch.ones(3, 4).long()}\n"
        "def broken(): raise ValueError('no luck')\n"
        "def nothing(): return None\n"
    )
    batch = load(f"{tmp_path}/mine.py:pair", batch=7)
    assert batch.inputs.shape == (7, 2)
    assert len(load(f"{tmp_path}/mine.py:words")) == 3
    for name, message in (
        ("broken", "no luck"),
        ("nothing", "gave nothing"),
        ("pare", "Did you mean 'pair'"),
    ):
        with pytest.raises(DataError, match=message):
            load(f"{tmp_path}/mine.py:{name}")


BAD_ARRAYS = {
    "nan": (np.array([[1.0, np.nan]]), "NaN or infinite"),
    "inf": (np.array([[1.0, np.inf]]), r"index \(0, 1\)"),
    "empty": (np.zeros((0, 4)), "empty"),
    "complex": (np.ones((2, 2), complex), "complex"),
    "flat": (np.ones(5), "reshape"),
    "scalar": (np.array(1.0), "single number"),
    "words": (np.array([["a", "b"]]), "not numbers"),
}


@pytest.mark.parametrize("kind", BAD_ARRAYS)
def test_bad_arrays(tmp_path, kind):
    array, message = BAD_ARRAYS[kind]
    np.save(tmp_path / "bad.npy", array)
    with pytest.raises(DataError, match=message):
        load(tmp_path / "bad.npy")


BAD_TABLES = {
    "a,b\n1,2\n3,x\n": "row 3 is 'x'",
    "a,b\n1,2\n3\n": "Row 3",
    "": "empty",
    "a,b\n": "no rows",
    "a,b\n1,nan\n": "NaN",
}


@pytest.mark.parametrize("text", BAD_TABLES)
def test_bad_tables(tmp_path, text):
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(DataError, match=BAD_TABLES[text]):
        load(tmp_path / "bad.csv")


def test_names_that_do_not_exist(tmp_path):
    (tmp_path / "train.csv").write_text("a\n1\n2\n")
    with pytest.raises(DataError, match=r"Did you mean 'train.csv'"):
        load(tmp_path / "trian.csv")
    with pytest.raises(DataError, match="Did you mean 'digits'"):
        load("digit")
    with pytest.raises(DataError, match="no column 'z'"):
        load(f"{tmp_path}/train.csv:z")
    with pytest.raises(DataError, match="not supported"):
        load("x.docx")
    with pytest.raises(DataError, match="empty"):
        load("digits", batch=0)
    (tmp_path / "broken.npz").write_bytes(b"PK nonsense")
    with pytest.raises(DataError, match="Could not read"):
        load(tmp_path / "broken.npz")

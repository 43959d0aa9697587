"""An old name says where the thing is now, however it is asked for."""

from __future__ import annotations

import importlib

import pytest

import kadanoff as kd
from kadanoff._moved import _MOVED


@pytest.mark.parametrize("old", _MOVED)
def test_an_old_name_says_the_new_one(old: str) -> None:
    new = _MOVED[old].split()[0]
    with pytest.raises(ModuleNotFoundError, match=f"{old} is now {new}"):
        importlib.import_module(old)
    package, _, name = old.rpartition(".")
    with pytest.raises(ImportError, match=f"{old} is now {new}"):
        exec(f"from {package} import {name}", {})
    try:
        importlib.import_module(new)
    except ModuleNotFoundError:
        home, _, name = new.rpartition(".")
        assert hasattr(importlib.import_module(home), name)


def test_an_old_attribute_says_the_new_one() -> None:
    with pytest.raises(AttributeError, match=r"kadanoff\.quantum is now kadanoff\.studies"):
        _ = kd.quantum  # pyright: ignore[reportAttributeAccessIssue]
    assert not hasattr(kd, "ising")


def test_dir_shows_what_a_user_looks_for() -> None:
    shown = {name for name in dir(kd) if not name.startswith("_")}
    assert shown == set(kd.__all__) - {"__version__"}
    wanted = {"rgflow", "kernels", "ensembles", "learning", "critical", "priors", "diagrams"}
    assert wanted | {"sparsity", "data", "studies", "flow", "diagnose", "tune"} <= shown
    assert not shown & {"quantum", "diffusion", "chaos", "ising", "hypercube"}

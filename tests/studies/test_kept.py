"""The full runs that come with the package, against numbers that none of our code computed."""

from __future__ import annotations

import json

import pytest

from kadanoff import studies
from kadanoff.studies.runner import kept
from tests.studies.independent import EXPECTED, edge_of_chaos, gelu, hold_against, silu
from tests.studies.quick import recomputed


def claims_of(name: str) -> dict:
    folder = kept(name)
    if folder is None:
        pytest.skip("no full run is kept yet")
    document = json.loads((folder / "result.json").read_text("utf-8"))
    if "measured" not in document["claims"][0]:
        pytest.skip("kept before criteria were; its run is to be repeated")
    return {claim["id"]: claim for claim in document["claims"]}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_kept_run_gives_the_independent_numbers(name: str) -> None:
    claims = claims_of(name)
    assert hold_against(name, claims) == len(EXPECTED[name])
    # at full size each of these numbers is decided, and not against the claim
    verdicts = {claim: claims[claim]["verdict"] for claim in EXPECTED[name]}
    assert set(verdicts.values()) <= {"holds"}, verdicts


@pytest.mark.parametrize("name", EXPECTED)
def test_every_kept_verdict_can_be_recomputed(name: str) -> None:
    """From the row alone, with the criteria that the code states."""
    study, claims = studies.get(name), claims_of(name)
    assert list(claims) == [claim.id for claim in study.claims]
    for row in claims.values():
        recomputed(row, study)


def test_every_study_has_independent_numbers() -> None:
    assert {study.name for study in studies.all()} == set(EXPECTED)


def test_the_quadrature_gives_the_published_critical_points() -> None:
    """Those of the book for GELU and SiLU, of Grosvenor and Jefferson (2021) for tanh."""
    assert gelu() == pytest.approx(1.98305826, abs=1e-8)
    assert silu() == pytest.approx(1.98800468, abs=1e-8)
    assert edge_of_chaos(0.05) == pytest.approx(1.7609546396, abs=1e-9)

"""What every study's quick run must satisfy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kadanoff import studies
from kadanoff.files import jsonable
from kadanoff.studies import Study
from kadanoff.studies.runner import kept
from kadanoff.studies.verdicts import judge, verdict
from tests.studies.independent import hold_against


def quick(name: str, out: Path) -> dict[str, Any]:
    """Run a study quickly, check what any of them owes, and return its result by claim id."""
    document = studies.run(name, out, size="quick", seed=0)
    assert json.loads((out / "result.json").read_text("utf-8")) == document
    study = studies.get(name)
    assert [c["id"] for c in document["claims"]] == [c.id for c in study.claims]
    for claim in document["claims"]:
        recomputed(claim, study)
    assert document["figures"], "a study draws what it found"
    page = (out / "index.html").read_text("utf-8")
    for figure in document["figures"]:
        assert (out / figure["file"]).stat().st_size > 500
        assert figure["caption"]
    assert page.count("<figure") == len(document["figures"])
    assert 'src="http' not in page
    assert 'href="http' not in page.split("</head>")[0]
    claims = {c["id"]: c for c in document["claims"]}
    hold_against(name, claims)
    no_contradiction(name, claims)
    return claims


def recomputed(row: dict[str, Any], study: Study) -> None:
    """The verdict follows from the row, and the criteria are those of the study."""
    claim = next(c for c in study.claims if c.id == row["id"])
    assert verdict(row) == row["verdict"], row["id"]
    assert row["measured"] or row["open"], f"{row['id']}: say why it is undecided"
    if row["measured"]:
        stated = [jsonable(c) for c in claim.tests]
        assert [m["criterion"] for m in row["measured"]] == stated, row["id"]
    assert (row["source"], row["paper_value"]) == (claim.source, claim.paper_value)
    if row["measured"] and row["verdict"] == "undecided":
        assert "undecided" in {judge(m["criterion"], m) for m in row["measured"]} or any(
            m["criterion"]["condition"] and judge(m["criterion"], m) == "fails"
            for m in row["measured"]
        )


def no_contradiction(name: str, claims: dict[str, Any]) -> None:
    """What the kept full run decides one way, a quick run may leave open, but not turn round."""
    folder = kept(name)
    if folder is None:
        return
    for full in json.loads((folder / "result.json").read_text("utf-8"))["claims"]:
        if full["id"] not in claims or "measured" not in full:
            continue
        verdicts = {full["verdict"], claims[full["id"]]["verdict"]}
        assert verdicts != {"holds", "fails"}, full["id"]

"""What every study's quick run must satisfy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kadanoff import studies
from kadanoff.studies.runner import kept
from tests.studies.independent import hold_against


def quick(name: str, out: Path) -> dict[str, Any]:
    """Run a study quickly, check what any of them owes, and return its result by claim id."""
    document = studies.run(name, out, size="quick", seed=0)
    assert json.loads((out / "result.json").read_text("utf-8")) == document
    study = studies.get(name)
    assert [c["id"] for c in document["claims"]] == [c.id for c in study.claims]
    for claim in document["claims"]:
        assert claim["verdict"] in ("holds", "fails", "undecided")
        if claim["verdict"] == "undecided":
            assert claim["note"], f"{claim['id']}: say why it is undecided"
        else:
            assert claim["our_value"] is not None, f"{claim['id']}: decided without a number"
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


def no_contradiction(name: str, claims: dict[str, Any]) -> None:
    """What the kept full run decides one way, a quick run may leave open, but not turn round."""
    folder = kept(name)
    assert folder is not None
    for full in json.loads((folder / "result.json").read_text("utf-8"))["claims"]:
        verdicts = {full["verdict"], claims[full["id"]]["verdict"]}
        assert verdicts != {"holds", "fails"}, full["id"]

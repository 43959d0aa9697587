"""What every study's quick run must satisfy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kadanoff import studies


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
    return {c["id"]: c for c in document["claims"]}

"""The first start: the essay and the papers around it, from the facts in ``data/papers.json``."""

from __future__ import annotations

import json
from importlib import resources

from kadanoff.atlas import papers
from kadanoff.atlas.database import Database
from kadanoff.atlas.identity import Record

__all__ = ["HOME", "plant"]

HOME = "roberts2021"
_EDITION = "2"


def plant(database: Database) -> None:
    """Put the bundled papers into an atlas that has not got them; keeps all that is there."""
    with database.read() as db:
        row = db.execute("SELECT value FROM setting WHERE name = 'seed'").fetchone()
    if row and row[0] == _EDITION:
        return
    folder = resources.files("kadanoff.atlas").joinpath("data")
    facts = json.loads(folder.joinpath("papers.json").read_text("utf-8"))
    summaries = json.loads(folder.joinpath("summaries.json").read_text("utf-8"))
    with database.write() as db:
        names: dict[str, str] = {}
        for item in facts["papers"]:
            # the same work under two titles is one paper with two titles
            twin = next((names[n] for n in item.get("same_work_as", []) if n in names), None)
            record = Record(
                title=item["title"],
                authors=item["authors"],
                year=item["year"],
                summary=summaries.get(item["id"]),
                source="bundled",
                key=twin or item["id"],
            )
            record.add("arxiv", item.get("arxiv"))
            record.add("doi", item.get("doi"))
            names[item["id"]] = papers.save(db, record)
            if twin:
                db.execute("INSERT OR IGNORE INTO alias VALUES (?, ?)", (item["id"], twin))
        home = names[facts["current"]]
        for item in facts["papers"]:
            if item["relation"] == "cites current":
                papers.cite(db, names[item["id"]], home)
            elif item["relation"] == "referenced by current":
                papers.cite(db, home, names[item["id"]])
        db.execute("INSERT OR REPLACE INTO setting VALUES ('seed', ?)", (_EDITION,))

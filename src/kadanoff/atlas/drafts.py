"""An import that is looked at before it is done, and can be undone.

A text becomes a draft: for each entry a decision (a new paper, more about a known one, or left
out) with the reason, and a list of what could not be read. Each decision can be changed. Applying
the draft does what it says in one transaction; undoing it puts back what it changed, except where
somebody has worked on it since.
"""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from dataclasses import asdict, dataclass
from typing import Any

from kadanoff.atlas import merge, papers
from kadanoff.atlas.identity import Entry, Identifier, Record, title_key
from kadanoff.atlas.importers.parsed import Broken, Parsed
from kadanoff.atlas.undoing import settle
from kadanoff.errors import UsageError

__all__ = [
    "ACTIONS",
    "Draft",
    "DraftEntry",
    "apply",
    "create",
    "decide",
    "entries",
    "get",
    "latest",
    "record_of",
    "waiting",
]

ACTIONS = ("new", "merge", "skip", "fetch")
_KEPT = 90 * 86_400.0


@dataclass(frozen=True)
class Draft:
    """An import: when it was made, applied and undone, and how many entries have each action."""

    id: str
    name: str
    format: str
    created_at: float
    applied_at: float | None
    undone_at: float | None
    job: str | None
    counts: dict[str, int]
    broken: list[Broken]

    @property
    def state(self) -> str:
        """Return open, applied or undone."""
        return "undone" if self.undone_at else "applied" if self.applied_at else "open"

    def json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {**asdict(self), "state": self.state}


@dataclass(frozen=True)
class DraftEntry:
    """An entry, what is to be done with it, and why.

    ``target`` is the paper that it is merged with; ``#7`` is entry 7 of the same draft.
    """

    position: int
    title: str
    byline: str
    action: str
    target: str | None
    target_title: str
    why: str
    doubtful: bool
    paper: str | None


class _Seen:
    """The entries before this one, by what would make them the same work."""

    def __init__(self) -> None:
        self.by_number: dict[Identifier, int] = {}
        self.by_title: dict[str, int] = {}

    def find(self, record: Record) -> tuple[int, str] | None:
        for number in record.identifiers:
            if number in self.by_number:
                return self.by_number[number], f"the same {number} as entry"
        key = title_key(record.title)
        if len(key) >= 20 and key in self.by_title:
            return self.by_title[key], "the same title as entry"
        return None

    def add(self, record: Record, position: int) -> None:
        for number in record.identifiers:
            self.by_number.setdefault(number, position)
        self.by_title.setdefault(title_key(record.title), position)


def create(db: sqlite3.Connection, parsed: Parsed, name: str) -> str:
    """Keep a draft of what was read; return its id.

    Parameters
    ----------
    db : sqlite3.Connection
    parsed : Parsed
        What a text held.
    name : str
        What the reader calls it: the name of the file.
    """
    number = uuid.uuid4().hex
    # what nobody came back to, and what nobody will undo any more
    db.execute("DELETE FROM draft WHERE created_at < ?", (time.time() - _KEPT,))
    db.execute(
        "INSERT INTO draft (id, name, format, created_at, broken) VALUES (?, ?, ?, ?, ?)",
        (
            number,
            name[:200],
            parsed.format,
            time.time(),
            json.dumps([vars(b) for b in parsed.broken]),
        ),
    )
    seen = _Seen()
    rows: list[tuple[Any, ...]] = []
    for position, record in enumerate(parsed.records, start=1):
        twin = seen.find(record)
        if twin:
            choice = ("merge", f"#{twin[0]}", f"{twin[1]} {twin[0]}", False)
        else:
            choice = _propose(db, record)
        seen.add(record, position)
        rows.append((number, position, _pack(record), *choice))
    for position, item in enumerate(parsed.identifiers, start=len(rows) + 1):
        here = merge.find(db, item)
        choice = (
            ("skip", here, "it is here already", False)
            if here
            else ("fetch", None, "looked up in OpenAlex, Semantic Scholar and arXiv", False)
        )
        rows.append((number, position, json.dumps({"number": vars(item)}), *choice))
    db.executemany(
        "INSERT INTO draft_entry (draft, position, record, action, target, why, doubtful)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        rows,
    )
    return number


def _propose(db: sqlite3.Connection, record: Record) -> tuple[str, str | None, str, bool]:
    """Return (action, target, why, doubtful) for one entry."""
    by_number = {p: item for item in record.identifiers if (p := merge.find(db, item))}
    wrong = {p: item for p, item in by_number.items() if merge.unlike(db, p, record)}
    right = {p: item for p, item in by_number.items() if p not in wrong}
    alike = merge.same_title(db, record)
    if right:
        target = next(iter(right))
        why = f"the same {right[target]}"
        other = (set(right) | alike | set(wrong)) - {target}
        more = f"; what else it says fits {', '.join(sorted(other))}" if other else ""
        return "merge", target, why + more, bool(other)
    if alike:
        target = sorted(alike)[0]
        why = "the same title, with years and authors that agree"
        return "merge", target, why, bool(wrong) or len(alike) > 1
    if wrong or not record.authors:
        # what tells too little to know it by: an entry that came before is known word for word
        known = _same_entry(db, record)
        if known:
            return "merge", known, "this very entry was imported before", False
    if wrong:
        target, item = next(iter(wrong.items()))
        title = papers.many(db, [target])[target].title
        why = f"it bears the {item} of “{title}”, but neither its title nor an author: "
        return "new", None, why + "a paper of its own, without that number", True
    return "new", None, "", False


def _same_entry(db: sqlite3.Connection, record: Record) -> str | None:
    entry = record.entry
    if entry is None:
        return None
    row = db.execute(
        "SELECT paper FROM entry WHERE format = ? AND key = ? AND fields = ?",
        (entry.format, entry.key, json.dumps(entry.fields, ensure_ascii=False)),
    ).fetchone()
    return row[0] if row else None


def _pack(record: Record) -> str:
    values = {k: v for k, v in vars(record).items() if v not in (None, [], "")}
    values["identifiers"] = [vars(i) for i in record.identifiers]
    if record.entry:
        values["entry"] = vars(record.entry)
    return json.dumps(values, ensure_ascii=False)


def record_of(packed: str) -> Record | Identifier:
    """Return the record of an entry, or the number that is still to be looked up."""
    values = json.loads(packed)
    if "number" in values:
        return Identifier(**values["number"])
    entry = values.pop("entry", None)
    numbers = [Identifier(**item) for item in values.pop("identifiers")]
    record = Record(**values, entry=Entry(**entry) if entry else None)
    record.identifiers = numbers
    return record


def get(db: sqlite3.Connection, number: str) -> Draft | None:
    """Return a draft, or None."""
    row = db.execute("SELECT * FROM draft WHERE id = ?", (number,)).fetchone()
    return _draft(db, row) if row else None


def latest(db: sqlite3.Connection, limit: int = 20) -> list[Draft]:
    """Return the newest drafts."""
    rows = db.execute("SELECT * FROM draft ORDER BY created_at DESC LIMIT ?", (limit,)).fetchall()
    return [_draft(db, row) for row in rows]


def _draft(db: sqlite3.Connection, row: sqlite3.Row) -> Draft:
    counts: dict[str, int] = dict.fromkeys([*ACTIONS, "doubtful"], 0)
    for found in db.execute(
        "SELECT action, count(*) AS n, sum(doubtful) AS d FROM draft_entry WHERE draft = ?"
        " GROUP BY action",
        (row["id"],),
    ):
        counts[found["action"]] = found["n"]
        counts["doubtful"] += found["d"]
    broken = [Broken(**item) for item in json.loads(row["broken"])]
    names = ("id", "name", "format", "created_at", "applied_at", "undone_at", "job")
    return Draft(**{name: row[name] for name in names}, counts=counts, broken=broken)


def entries(
    db: sqlite3.Connection, number: str, action: str = "", limit: int = 200, offset: int = 0
) -> list[DraftEntry]:
    """Return entries of a draft: ``action`` chooses, ``"doubtful"`` those to be looked at.

    Parameters
    ----------
    db : sqlite3.Connection
    number : str
        Of the draft.
    action : str
        One of :data:`ACTIONS`, ``"doubtful"``, or nothing for all.
    limit, offset : int
        How many, and after how many.
    """
    where = {"": "1", "doubtful": "doubtful"}.get(action, "action = :action")
    rows = db.execute(
        f"SELECT * FROM draft_entry WHERE draft = :draft AND {where}"
        " ORDER BY position LIMIT :limit OFFSET :offset",
        {"draft": number, "action": action, "limit": limit, "offset": offset},
    ).fetchall()
    return [_entry(db, row) for row in rows]


def _entry(db: sqlite3.Connection, row: sqlite3.Row) -> DraftEntry:
    record = record_of(row["record"])
    title = record.title if isinstance(record, Record) else str(record)
    byline = ""
    if isinstance(record, Record):
        who = ", ".join(record.authors[:3]) + (" and others" if len(record.authors) > 3 else "")
        byline = " · ".join(str(v) for v in (who, record.year, record.venue) if v)
    target, said = row["target"], ""
    if target and not target.startswith("#"):
        known = papers.many(db, [target]).get(target)
        said = known.title if known else ""
    return DraftEntry(
        position=row["position"],
        title=title,
        byline=byline,
        action=row["action"],
        target=target,
        target_title=said,
        why=row["why"],
        doubtful=bool(row["doubtful"]),
        paper=row["paper"],
    )


def decide(
    db: sqlite3.Connection, number: str, position: int, action: str, target: str | None = None
) -> DraftEntry:
    """Change what is done with an entry.

    Parameters
    ----------
    db : sqlite3.Connection
    number : str
        Of the draft.
    position : int
        Of the entry, from 1.
    action : str
        One of :data:`ACTIONS`.
    target : str, optional
        Any name of the paper to merge with; by default the one proposed.

    Raises
    ------
    UsageError
        The draft is applied already, there is no such entry, action or paper.
    """
    found = _open(db, number)
    row = db.execute(
        "SELECT * FROM draft_entry WHERE draft = ? AND position = ?", (found.id, position)
    ).fetchone()
    if row is None:
        raise UsageError(f"There is no entry {position} in this import.", "Reload the page.")
    fetched = isinstance(record_of(row["record"]), Identifier)
    allowed = ("fetch", "skip") if fetched else ("new", "merge", "skip")
    if action not in allowed:
        raise UsageError(f"{action[:20]!r} is no choice here.", f"Use {', '.join(allowed)}.")
    if action == "merge":
        given = target or row["target"] or ""
        if not given.startswith("#"):
            known = papers.resolve(db, given)
            if known is None:
                raise UsageError(f"There is no paper {given[:80]!r}.", "Give its id or DOI.")
            given = known
        target = given
    else:
        # kept, so that one can go back to it
        target = row["target"]
    db.execute(
        "UPDATE draft_entry SET action = ?, target = ?, doubtful = 0"
        " WHERE draft = ? AND position = ?",
        (action, target, number, position),
    )
    row = db.execute(
        "SELECT * FROM draft_entry WHERE draft = ? AND position = ?", (number, position)
    ).fetchone()
    return _entry(db, row)


def _open(db: sqlite3.Connection, number: str) -> Draft:
    found = get(db, number)
    if found is None:
        raise UsageError(f"There is no import {number[:40]!r}.", "Start again.")
    if found.applied_at:
        raise UsageError("This import is done already.", "Undo it first, or start another.")
    return found


def apply(db: sqlite3.Connection, number: str) -> dict[str, int]:
    """Do what the draft says, all but what is still to be fetched; return how many of each.

    Raises
    ------
    UsageError
        There is no such draft, or it is applied already.
    """
    _open(db, number)
    done = {"new": 0, "merged": 0, "skipped": 0}
    made: dict[int, str] = {}
    rows = db.execute(
        "SELECT position, record, action, target FROM draft_entry"
        " WHERE draft = ? AND action <> 'fetch' ORDER BY position",
        (number,),
    ).fetchall()
    for row in rows:
        if row["action"] == "skip":
            done["skipped"] += 1
            continue
        target = row["target"] if row["action"] == "merge" else None
        if target and target.startswith("#"):
            # its twin may have been left out: then this one is the paper
            target = made.get(int(target[1:]))
        record = record_of(row["record"])
        if isinstance(record, Record):
            made[row["position"]] = settle(db, number, row["position"], record, target)
            done["merged" if target else "new"] += 1
    db.execute("UPDATE draft SET applied_at = ? WHERE id = ?", (time.time(), number))
    return done


def waiting(db: sqlite3.Connection, number: str) -> list[tuple[int, Identifier]]:
    """Return the entries that are still to be fetched."""
    rows = db.execute(
        "SELECT position, record FROM draft_entry WHERE draft = ? AND action = 'fetch'"
        " AND paper IS NULL ORDER BY position",
        (number,),
    ).fetchall()
    found = [(row["position"], record_of(row["record"])) for row in rows]
    return [(place, item) for place, item in found if isinstance(item, Identifier)]

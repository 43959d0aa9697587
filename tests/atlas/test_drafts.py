"""Imports that are looked at first, decided otherwise, done, undone; and out again as they came."""

from __future__ import annotations

import json
import random
import time

import pytest

from kadanoff.atlas import bibliography, comments, drafts, exports, papers, undoing
from kadanoff.atlas.importers.bibtex import parse_bibtex
from kadanoff.atlas.importers.csl import parse_csl
from kadanoff.atlas.importers.files import parse_text
from kadanoff.atlas.importers.ris import parse_ris
from kadanoff.atlas.store import Store
from kadanoff.errors import UsageError

LIBRARY = r"""
@article{new1, title = {Entirely new, with $\chi_\perp$ in it}, author = {Ada, A.}, year = 2020,
  doi = {10.1000/new1}, volume = {7}, pages = {1--9}, publisher = {P \& Q}, keywords = {rg, ml},
  note = {Read \textit{twice}}, file = {:files/a_b.pdf:PDF}, annote = {ours},
  howpublished = {by hand}}
@misc{book, title = {The principles of deep learning theory},
  author = {Roberts, D. A. and Yaida, S.}, year = 2022, doi = {10.1017/9781009023405}}
@misc{twin, title = {Entirely new, with chi}, author = {Ada, A.}, doi = {10.1000/NEW1}, month = mar}
@misc{wrong, title = {Cast iron cookery}, author = {Chef, S.}, eprint = {2104.00008}}
@misc{broken, author = {Nobody}}
"""


def made(store: Store, text: str, name: str = "lib.bib") -> str:
    with store.write() as db:
        return drafts.create(db, parse_text(text), name)


def test_the_preview_says_what_is_new_what_is_merged_with_what_and_why(store: Store) -> None:
    number = made(store, LIBRARY)
    with store.read() as db:
        before = db.execute("SELECT count(*) FROM paper").fetchone()[0]
        new, book, twin, wrong = drafts.entries(db, number)
        found = drafts.get(db, number)
    assert (new.action, new.doubtful) == ("new", False)
    assert (book.action, book.target) == ("merge", "pdlt2021")
    assert "the same DOI" in book.why
    assert (twin.action, twin.target) == ("merge", "#1")
    assert "DOI:10.1000/new1" in twin.why
    assert (wrong.action, wrong.doubtful) == ("new", True)
    assert "Why is AI hard" in wrong.why
    assert found is not None
    assert (found.state, found.counts["new"], found.counts["merge"]) == ("open", 2, 2)
    assert [b.reason for b in found.broken] == ["it has no title"]
    with store.read() as db:
        # looking changes nothing
        assert db.execute("SELECT count(*) FROM paper").fetchone()[0] == before


def test_each_decision_can_be_changed(store: Store) -> None:
    number = made(store, LIBRARY)
    with store.write() as db:
        drafts.decide(db, number, 1, "skip")
        # its twin is the paper then
        drafts.decide(db, number, 2, "new")
        assert drafts.decide(db, number, 4, "merge", "arXiv:2104.00008").target == "roberts2021"
        for action, target in (("eat", None), ("merge", "nobody"), ("fetch", None)):
            with pytest.raises(UsageError):
                drafts.decide(db, number, 2, action, target)
        with pytest.raises(UsageError):
            drafts.decide(db, number, 99, "new")
        assert drafts.apply(db, number) == {"new": 2, "merged": 1, "skipped": 1}
        essay = papers.get(db, "roberts2021")
        assert essay is not None
        assert essay.other_titles == ("Cast iron cookery",)
        with pytest.raises(UsageError, match="done already"):
            drafts.decide(db, number, 2, "skip")
        with pytest.raises(UsageError, match="done already"):
            drafts.apply(db, number)


def _state(store: Store) -> list:
    tables = ("paper", "author", "identifier", "other_title", "entry", "cites")
    with store.read() as db:
        return [sorted(map(tuple, db.execute(f"SELECT * FROM {t}"))) for t in tables]


def test_undo_leaves_the_atlas_as_it_was(store: Store) -> None:
    before = _state(store)
    number = made(store, LIBRARY)
    with store.write() as db:
        drafts.apply(db, number)
    assert _state(store) != before
    with store.write() as db:
        told = undoing.undo(db, number)
    assert told["kept"] == []
    assert _state(store) == before
    with store.read() as db:
        found = db.execute("SELECT count(*) FROM paper_index WHERE paper_index MATCH 'cookery'")
        assert found.fetchone()[0] == 0
    with store.write() as db, pytest.raises(UsageError):
        undoing.undo(db, number)


def test_undo_takes_nothing_that_was_worked_on_since(store: Store) -> None:
    number = made(store, LIBRARY)
    with store.write() as db:
        drafts.apply(db, number)
        new, book, _, wrong = drafts.entries(db, number)
        assert new.paper is not None
        assert wrong.paper is not None
        comments.add(db, wrong.paper, "Not bad")
        db.execute("UPDATE paper SET venue = 'Mine' WHERE id = ?", (book.paper,))
        told = undoing.undo(db, number)
        assert told["kept"] == [wrong.paper]
        assert papers.get(db, wrong.paper) is not None
        assert papers.get(db, new.paper) is None
        after = papers.get(db, "pdlt2021")
        assert after is not None
        assert after.venue == "Mine"


def _exported(store: Store, format: str, where: str) -> str:
    with store.read() as db:
        ids = [r[0] for r in db.execute(f"SELECT id FROM paper WHERE {where} ORDER BY number")]
        known = papers.many(db, ids)
        rows = [(known[name], "") for name in ids]
        return exports.write(format, rows, bibliography.entries(db, ids))


def test_bibtex_comes_out_as_it_went_in(store: Store) -> None:
    number = made(store, LIBRARY)
    with store.write() as db:
        drafts.apply(db, number)
    text = _exported(store, "bibtex", "title LIKE 'Entirely%'")
    (sent,) = [r for r in parse_bibtex(LIBRARY).records if r.key == "new1"]
    (back,) = parse_bibtex(text).records
    assert sent.entry is not None
    assert back.entry is not None
    assert back.entry.kind == "article"
    assert back.key == "new1"
    # word for word, unknown fields too
    assert {k: back.entry.fields[k] for k in sent.entry.fields} == sent.entry.fields
    # and from the twin what the first had not
    assert back.entry.fields["month"] == "mar"
    assert r"$\chi_\perp$" in text


RIS = """TY  - JOUR
ID  - Key9
TI  - A title on $\\chi_\\perp$
AU  - Doe, Jane
AU  - Roe, R.
PY  - 2001/05//
T2  - Journal of Things
VL  - 12
IS  - 3
SP  - 100
EP  - 110
PB  - A Publisher
KW  - one
KW  - two, with a comma
N1  - First note
going on here
N1  - Second note
L1  - file:///home/me/x.pdf
C7  - unusual
DO  - 10.1000/ris
SN  - 1234-5678
ER  - 
"""


def test_ris_comes_out_as_it_went_in_and_in_other_formats(store: Store) -> None:
    number = made(store, RIS)
    with store.write() as db:
        drafts.apply(db, number)
    where = "title LIKE 'A title on%'"
    (back,) = parse_ris(_exported(store, "ris", where)).records
    (sent,) = parse_ris(RIS).records
    assert sent.entry is not None
    assert back.entry is not None
    assert {k: back.entry.fields[k] for k in sent.entry.fields} == sent.entry.fields
    (other,) = parse_bibtex(_exported(store, "bibtex", where)).records
    assert other.entry is not None
    fields = other.entry.fields
    assert other.entry.kind == "article"
    assert (fields["volume"], fields["number"], fields["pages"]) == ("12", "3", "100–110")
    assert fields["publisher"] == "A Publisher"
    assert fields["keywords"] == "one, two, with a comma"
    assert "Second note" in fields["note"]
    assert "x.pdf" in fields["file"]
    assert r"$\chi_\perp$" in fields["title"]
    (item,) = json.loads(_exported(store, "csl", where))
    assert (item["volume"], item["page"], item["type"]) == ("12", "100–110", "article-journal")


def test_csl_comes_out_as_it_went_in(store: Store) -> None:
    sent = {
        "id": "doe2001",
        "type": "chapter",
        "title": "A <i>chapter</i> of length",
        "author": [{"family": "Doe", "given": "Jane", "suffix": "Jr."}],
        "issued": {"date-parts": [[2001, 5, 7]]},
        "container-title": "The Book",
        "page": "1-9",
        "publisher": "P",
        "note": "mine",
        "custom": {"x": [1]},
    }
    number = made(store, json.dumps([sent]))
    with store.write() as db:
        drafts.apply(db, number)
    (back,) = json.loads(_exported(store, "csl", "title LIKE 'A chapter%'"))
    assert {k: back[k] for k in sent} == sent
    (ris,) = parse_ris(_exported(store, "ris", "title LIKE 'A chapter%'")).records
    assert ris.entry is not None
    assert (ris.entry.kind, ris.entry.fields["SP"], ris.entry.fields["EP"]) == (
        "CHAP",
        ["1"],
        ["9"],
    )
    assert parse_csl(json.dumps([back])).broken == []


def test_no_value_breaks_out_of_its_entry(store: Store) -> None:
    evil = "x\nER  - \nTY  - JOUR\nTI  - Injected"
    item = {
        "title": "A title of some length",
        "publisher": evil,
        "note": "}\n@misc{evil,",
        "DOI": "x",
    }
    number = made(store, json.dumps(item))
    with store.write() as db:
        drafts.apply(db, number)
    where = "title LIKE 'A title of some%'"
    assert len(parse_ris(_exported(store, "ris", where)).records) == 1
    text = _exported(store, "bibtex", where)
    assert len(parse_bibtex(text).records) == 1
    assert "\n@misc{evil" not in text


def test_the_time_of_an_import_grows_with_its_size_and_no_faster(store: Store) -> None:
    words = ["neural", "network", "width", "kernel", "field", "theory", "deep", "phase"]
    draw = random.Random(0)
    entries = [
        f"@article{{k{i}, title = {{{' '.join(draw.choices(words, k=7))} {i}}},"
        f" author = {{Name{i % 70}, Given}}, year = {1990 + i % 35}, doi = {{10.1000/x{i}}}}}"
        for i in range(3000)
    ]
    took = []
    for part in (entries[:1000], entries[1000:]):
        start = time.process_time()
        number = made(store, "\n".join(part))
        with store.write() as db:
            assert drafts.apply(db, number)["new"] == len(part)
        took.append((time.process_time() - start) / len(part))
    # it was four times slower after each ten thousand: the index was searched from end to end
    assert took[1] < 2.5 * took[0]

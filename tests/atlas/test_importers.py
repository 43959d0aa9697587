"""Growing the atlas against a loopback server, and from files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kadanoff.atlas import drafts, papers, seed, undoing
from kadanoff.atlas.bibliography import details
from kadanoff.atlas.growing import add_draft, add_file, add_paper
from kadanoff.atlas.importers.arxiv import parse_feed
from kadanoff.atlas.importers.bibtex import parse_bibtex
from kadanoff.atlas.importers.client import Offline
from kadanoff.atlas.importers.csl import parse_csl
from kadanoff.atlas.importers.files import parse_text, read_text
from kadanoff.atlas.importers.openalex import abstract_text, parse_work
from kadanoff.atlas.importers.ris import parse_ris
from kadanoff.atlas.importers.semanticscholar import parse_edge, parse_paper
from kadanoff.atlas.searching import search
from kadanoff.atlas.store import Store
from kadanoff.errors import AnalysisError, DataError
from tests.atlas.sources import Sources, sources

# works that the first start knows to cite the essay
CITING = sum(cited == seed.HOME for _, cited, _ in seed.facts()["citations"])


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sources]:
    with sources() as (state, address):
        monkeypatch.setenv("KADANOFF_S2_URL", f"{address}/s2")
        monkeypatch.setenv("KADANOFF_OPENALEX_URL", f"{address}/alex")
        monkeypatch.setenv("KADANOFF_ARXIV_URL", f"{address}/arxiv")
        monkeypatch.setenv("S2_API_KEY", "secret")
        yield state


def test_a_paper_comes_with_citations_and_references_of_both_sources(
    store: Store, world: Sources
) -> None:
    told: list[tuple[int, int, str]] = []
    outcome = add_paper(
        store,
        "arXiv:2104.00008",
        sleep=lambda s: None,
        pause=0.0,
        progress=lambda done, total, message: told.append((done, total, message)),
    )
    assert outcome.complete
    assert outcome.papers == ["roberts2021"]
    # those known from the start, and 1 ... 12, of which both sources know 5, 6, 7
    assert outcome.citations == CITING + 12
    # those known from the start, 50 (in both) and 51, which has no number at all
    assert outcome.references == 82 + 2
    assert told[-1] == (8, 8, "OpenAlex: 8 citations") or "citations" in told[-1][2]
    with store.read() as db:
        essay = papers.get(db, "roberts2021")
        assert essay is not None
        assert essay.abstract == "An abstract."
        assert "simple descriptions" in (essay.summary or "")
        five = papers.get(db, "10.1000/w5")
        assert five is not None
        assert {i.scheme for i in five.identifiers} == {"doi", "s2", "corpus", "openalex"}
        row = db.execute("SELECT count(*) FROM cites WHERE influential = 1").fetchone()
        assert row[0] == 1
    assert "secret" in world.keys


def test_it_is_idempotent_and_cached(store: Store, world: Sources) -> None:
    add_paper(store, "2104.00008", sleep=lambda s: None, pause=0.0)
    asked = len(world.asked)
    again = add_paper(store, "2104.00008", sleep=lambda s: None, pause=0.0)
    assert len(world.asked) == asked
    assert again.new == 0
    fresh = add_paper(store, "2104.00008", refresh=True, sleep=lambda s: None, pause=0.0)
    assert len(world.asked) == 2 * asked
    assert fresh.new == 0


def test_it_waits_as_long_as_it_is_told_and_tries_again(store: Store, world: Sources) -> None:
    world.trouble = {
        "citations?": ["429", "500", "truncated"],
        "/alex/works?": ["truncated", "html", "500"],
    }
    slept: list[float] = []
    outcome = add_paper(store, "2104.00008", sleep=slept.append, pause=0.0)
    assert outcome.complete
    assert outcome.citations == CITING + 12
    assert 7.0 in slept
    # back-off grows
    assert {0.5, 1.0, 2.0} <= set(slept)


def test_what_came_before_a_failure_is_kept_and_the_rest_resumes(
    store: Store, world: Sources
) -> None:
    world.trouble = {"offset=3": ["always 500"]}
    partial = add_paper(store, "2104.00008", sleep=lambda s: None, pause=0.0)
    assert not partial.complete
    assert "status 500" in partial.problems[0]
    # 4 came with nobody: it is on the page that failed
    assert partial.citations == CITING + 11
    world.trouble = {}
    world.asked.clear()
    whole = add_paper(store, "2104.00008", sleep=lambda s: None, pause=0.0)
    assert whole.complete
    assert whole.citations == CITING + 12
    # only what was missing was asked for
    assert all("offset=3" in a or "offset=6" in a for a in world.asked)


@pytest.mark.parametrize(
    ("kind", "said"), [("401", "API key"), ("redirect", "302"), ("bomb", "more than")]
)
def test_refusals_redirects_and_bombs_end_one_source_only(
    store: Store, world: Sources, kind: str, said: str
) -> None:
    world.trouble = {"/alex/works?": [kind] * 10}
    outcome = add_paper(store, "2104.00008", sleep=lambda s: None, pause=0.0)
    assert not outcome.complete
    assert any(said in problem for problem in outcome.problems)
    assert outcome.citations == CITING + 7


def test_without_a_network_it_says_so_and_keeps_what_it_has(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("KADANOFF_S2_URL", "KADANOFF_OPENALEX_URL", "KADANOFF_ARXIV_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(Offline, match="No network"):
        add_paper(store, "2104.00008", sleep=lambda s: None, pause=0.0)
    with store.read() as db:
        assert search(db, "")[1] == len(seed.facts()["works"])


def test_a_paper_nobody_knows_is_an_error_that_says_where_it_looked(
    store: Store, world: Sources
) -> None:
    with pytest.raises(AnalysisError, match="was not found"):
        add_paper(store, "10.1234/unknown", sleep=lambda s: None, pause=0.0)


def test_parsers_bear_any_field_being_null_or_odd() -> None:
    assert parse_paper(None) is None
    assert parse_paper({"title": None}) is None
    assert parse_paper({"title": "T", "authors": None, "externalIds": [], "year": "x"}) is not None
    assert parse_edge({"citingPaper": None}, "citations") is None
    assert parse_work({"title": None, "display_name": None}) is None
    odd = parse_work(
        {
            "title": "A <i>b</i>",
            "authorships": [None, {"author": None}, {"author": {"display_name": None}}],
            "primary_location": None,
            "locations": [{"landing_page_url": "http://arxiv.org/abs/2106.10165v2"}],
            "abstract_inverted_index": None,
            "publication_year": 99999,
            "doi": "nonsense",
        }
    )
    assert odd is not None
    assert (odd.title, odd.year, odd.authors) == ("A b", None, [])
    assert [str(i) for i in odd.identifiers] == ["arXiv:2106.10165"]
    assert abstract_text({"b": [1], "a": [0, 2]}) == "a b a"


BIB = r"""
@string{pr = "Physical Review"}
@comment{ignored}
@article{key1, title = {{The {RG} and "quotes"} for G\"odel}, author = "Erd\H{o}s, Paul and
  M{\"u}ller, Karl and others", year = 1999, journal = pr # " D", doi = {10.1000/AbC_d}}
@misc(key2, title={On arXiv}, eprint={2106.10165v2}, archivePrefix={arXiv}, date={2021-06-18})
@article{broken, title = {never closed
"""


def test_bibtex() -> None:
    parsed = parse_bibtex(BIB)
    first, second = parsed.records
    assert first.title == 'The RG and "quotes" for Gödel'
    assert first.authors == ["Paul Erdős", "Karl Müller"]
    assert first.venue == "Physical Review D"
    assert [str(i) for i in first.identifiers] == ["DOI:10.1000/abc_d"]
    assert second.year == 2021
    assert str(second.identifiers[0]) == "arXiv:2106.10165"
    (broken,) = parsed.broken
    assert broken.line == 7
    assert "'title' is never closed" in broken.reason


def test_a_broken_entry_takes_no_other_along_and_is_reported_with_its_line() -> None:
    text = """
@article{a, title = {Missing brace, author = {A}, year = 2001}
@article{b, title = {A good one}, year = 2002}
@article{c, title = {No comma after it} year = 2003}
@article{d, title = , year = 2004}
@article{e, year = 2005}
@article{f title = {No key}}
@misc{g, title = "Open quote, year = 2006}
@misc{h, title = {The {last} one}, year = 2007, note = {with @article{x, in it}}}
"""
    parsed = parse_bibtex(text)
    assert [r.key for r in parsed.records] == ["b", "c", "h"]
    assert [b.line for b in parsed.broken] == [2, 5, 6, 7, 8]
    said = " / ".join(b.reason for b in parsed.broken)
    for word in ("never closed", "no value", "no title", "no key"):
        assert word in said


def test_ris_and_csl() -> None:
    (entry,) = parse_ris(
        "TY  - JOUR\nTI  - A title\nAU  - Doe, Jane\nPY  - 2001/05\nDO  - 10.1000/x\nER  - \n"
    ).records
    assert (entry.title, entry.authors, entry.year) == ("A title", ["Jane Doe"], 2001)
    text = (
        '[{"title": "B", "author": [{"family": "Roe", "given": "R."}, null], '
        '"issued": {"date-parts": [["2003", 1]]}, "DOI": "10.1000/y"}, {"title": 3}, null]'
    )
    parsed = parse_csl(text)
    (item,) = parsed.records
    assert (item.title, item.authors[0], item.year) == ("B", "R. Roe", 2003)
    assert [b.line for b in parsed.broken] == [2, 3]
    for bad in ("{", "[" * 100_000):
        with pytest.raises(DataError):
            parse_csl(bad)
    cut = parse_ris("TY  - JOUR\nAU  - X\nER  - \nTY  - JOUR\nTI  - T\nTY  - BOOK\nTI  - U")
    assert [b.line for b in cut.broken] == [1, 4, 6]


def test_zotero_json() -> None:
    text = """{"items": [{"itemType": "journalArticle", "title": "On $\\\\chi$", "date": "May 2020",
      "creators": [{"creatorType": "author", "firstName": "Ada", "lastName": "Love"},
                   {"creatorType": "editor", "name": "Royal Society"}],
      "publicationTitle": "J. X", "volume": "3", "pages": "1-9", "DOI": "10.1000/z",
      "tags": [{"tag": "rg"}, {"tag": "ml"}], "notes": [{"note": "<p>mine</p>"}],
      "attachments": [{"path": "storage/a.pdf"}]},
      {"itemType": "attachment", "title": "a.pdf"}]}"""
    parsed = parse_text(text)
    (record,) = parsed.records
    assert parsed.broken == []
    assert (record.title, record.year, record.venue) == (r"On $\chi$", 2020, "J. X")
    assert record.entry is not None
    found = details([record.entry])
    assert found["keywords"] == ["rg", "ml"]
    assert found["file"] == ["storage/a.pdf"]
    assert found["pages"] == ["1-9"]


def test_a_pasted_text_is_known_by_what_it_is() -> None:
    assert parse_text("\n  @misc{k, title={T}}").format == "bibtex"
    assert parse_text("TY  - JOUR\nTI  - A\nER  - ").format == "ris"
    assert parse_text('{"title": "A"}').format == "csl"
    ids = parse_text("arXiv:2104.00008, https://doi.org/10.1000/x\nhep-th/9901001\nnonsense")
    assert [str(i) for i in ids.identifiers] == [
        *("arXiv:2104.00008", "DOI:10.1000/x", "arXiv:hep-th/9901001")
    ]
    assert [(b.line, b.excerpt) for b in ids.broken] == [(3, "nonsense")]
    for nothing in ("", "   ", "just some words"):
        with pytest.raises(DataError):
            parse_text(nothing)


def test_files_are_read_whole_or_refused(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "my.bib"
    file.write_text(BIB, "utf-8")
    first = add_file(store, file)
    # the entry that is never closed is told of
    assert not first.complete
    assert "line 7" in first.findings[0]
    assert add_file(store, file).new == 0
    packed = tmp_path / "x.json"
    packed.write_bytes(b"PK\x03\x04" + b"\0" * 50)
    with pytest.raises(DataError, match="packed"):
        read_text(packed)
    with pytest.raises(DataError, match="Cannot read"):
        read_text(tmp_path / "absent.bib")
    (tmp_path / "y.doc").write_text("x")
    with pytest.raises(DataError, match=r"\.doc"):
        add_file(store, tmp_path / "y.doc")


def test_a_wrong_number_does_not_merge_a_foreign_title_into_the_essay(
    store: Store, tmp_path: Path
) -> None:
    file = tmp_path / "wrong.bib"
    file.write_text(
        "@misc{x, title={Cooking with cast iron}, author={Chef, Some}, eprint={2104.00008},"
        " year={2021}}\n@misc{roberts2021, title={Sailing alone}, author={Slocum, J.}}"
    )
    outcome = add_file(store, file)
    assert outcome.new == 2
    assert "cast iron" in outcome.findings[0]
    with store.read() as db:
        essay = papers.get(db, "2104.00008")
        assert essay is not None
        assert essay.id == "roberts2021"
        assert essay.other_titles == ()
        # a key that happens to be an id of this atlas says nothing either
        assert search(db, "title:sailing")[0][0].id != "roberts2021"


def test_an_identifier_leads_nowhere_but_to_its_source(store: Store, world: Sources) -> None:
    with pytest.raises(AnalysisError, match="was not found"):
        add_paper(store, "10.1000/../../x?y=#z", sleep=lambda s: None, pause=0.0)
    assert world.raw
    for address in world.raw:
        path, _, query = address.partition("?")
        assert path.startswith(("/s2/paper/DOI:10.1000%2F", "/alex/works/doi:10.1000%2F"))
        assert "/../" not in path
        assert "y=" not in query


def test_arxiv_fills_in_what_the_others_have_not(store: Store, world: Sources) -> None:
    outcome = add_paper(store, "arXiv:2305.00001", sleep=lambda s: None, pause=0.0)
    with store.read() as db:
        found = papers.get(db, "arXiv:2305.00001")
    assert found is not None
    assert found.title == "A preprint about $\\chi_\\perp$"
    assert found.abstract == "Its abstract, of two lines."
    assert found.authors == ("Ann Author", "Bob Bauer")
    assert (found.year, found.first("doi")) == (2023, "10.1000/arx")
    assert outcome.papers == [found.id]
    with pytest.raises(ValueError, match="document type"):
        parse_feed('<!DOCTYPE x [<!ENTITY a "b">]><feed/>')
    with pytest.raises(ValueError, match="no XML"):
        parse_feed("<html>")
    with pytest.raises(AnalysisError, match="was not found"):
        add_paper(store, "arXiv:2305.99999", sleep=lambda s: None, pause=0.0)


def test_a_list_of_numbers_is_fetched_and_resumes(store: Store, world: Sources) -> None:
    with store.write() as db:
        parsed = parse_text("arXiv:2305.00001\narXiv:2305.99999\n10.1000/../x\n2104.00008")
        draft = drafts.create(db, parsed, "a list")
        assert [e.action for e in drafts.entries(db, draft)] == ["fetch", "fetch", "fetch", "skip"]
        drafts.apply(db, draft)
    told: list[str] = []
    outcome = add_draft(
        store,
        draft,
        sleep=lambda s: None,
        pause=0.0,
        progress=lambda done, total, message: told.append(message),
    )
    assert (outcome.new, len(outcome.problems)) == (1, 2)
    assert "arXiv:2305.99999" in outcome.problems[0]
    assert told[-1] == "Done"
    with store.write() as db:
        # what came is not fetched again, and the import can be undone
        assert len(drafts.waiting(db, draft)) == 2
        assert undoing.undo(db, draft)["removed"] == 1
        assert papers.get(db, "arXiv:2305.00001") is None

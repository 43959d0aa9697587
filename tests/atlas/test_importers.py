"""Growing the atlas against a loopback server, and from files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kadanoff.atlas import papers
from kadanoff.atlas.importers import add_file, add_paper
from kadanoff.atlas.importers.client import Offline
from kadanoff.atlas.importers.files import parse_bibtex, parse_csl, parse_ris, read_text
from kadanoff.atlas.importers.openalex import abstract_text, parse_work
from kadanoff.atlas.importers.semanticscholar import parse_edge, parse_paper
from kadanoff.atlas.store import Store
from kadanoff.errors import AnalysisError, DataError
from tests.atlas.sources import Sources, sources


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sources]:
    with sources() as (state, address):
        monkeypatch.setenv("KADANOFF_S2_URL", f"{address}/s2")
        monkeypatch.setenv("KADANOFF_OPENALEX_URL", f"{address}/alex")
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
    # the seed's six, and 1 ... 12, of which both sources know 5, 6, 7
    assert outcome.citations == 6 + 12
    # the seed's four, 50 (in both) and 51, which has no number at all
    assert outcome.references == 4 + 2
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
    assert outcome.citations == 18
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
    assert partial.citations == 6 + 11
    world.trouble = {}
    world.asked.clear()
    whole = add_paper(store, "2104.00008", sleep=lambda s: None, pause=0.0)
    assert whole.complete
    assert whole.citations == 18
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
    assert outcome.citations == 6 + 7


def test_without_a_network_it_says_so_and_keeps_what_it_has(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("KADANOFF_S2_URL", "KADANOFF_OPENALEX_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(Offline, match="No network"):
        add_paper(store, "2104.00008", sleep=lambda s: None, pause=0.0)
    with store.read() as db:
        assert papers.search(db, "")[1] == 11


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
    first, second = parse_bibtex(BIB)
    assert first.title == 'The RG and "quotes" for Gödel'
    assert first.authors == ["Paul Erdős", "Karl Müller"]
    assert first.venue == "Physical Review D"
    assert [str(i) for i in first.identifiers] == ["DOI:10.1000/abc_d"]
    assert second.year == 2021
    assert str(second.identifiers[0]) == "arXiv:2106.10165"


def test_ris_and_csl() -> None:
    (entry,) = parse_ris(
        "TY  - JOUR\nTI  - A title\nAU  - Doe, Jane\nPY  - 2001/05\nDO  - 10.1000/x\nER  - \n"
    )
    assert (entry.title, entry.authors, entry.year) == ("A title", ["Jane Doe"], 2001)
    text = (
        '[{"title": "B", "author": [{"family": "Roe", "given": "R."}, null], '
        '"issued": {"date-parts": [["2003", 1]]}, "DOI": "10.1000/y"}, {"title": 3}, null]'
    )
    (item,) = parse_csl(text)
    assert (item.title, item.authors[0], item.year) == ("B", "R. Roe", 2003)
    for bad in ("{", "[" * 100_000):
        with pytest.raises(DataError):
            parse_csl(bad)


def test_files_are_read_whole_or_refused(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "my.bib"
    file.write_text(BIB, "utf-8")
    # the other is the book, which is there already
    assert add_file(store, file).new == 1
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

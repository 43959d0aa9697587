"""Identity, merging, search, recommendations, layout, the seed."""

from __future__ import annotations

import math

import pytest

from kadanoff.atlas import graph, papers
from kadanoff.atlas.identity import (
    Identifier,
    Record,
    parse_identifier,
    plain,
    safe_url,
    slug,
    surname,
    title_key,
)
from kadanoff.atlas.layout import place
from kadanoff.atlas.store import Store
from kadanoff.errors import StorageError, UsageError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("arXiv:2104.00008", Identifier("arxiv", "2104.00008")),
        ("https://arxiv.org/abs/2104.00008v3", Identifier("arxiv", "2104.00008")),
        ("https://arxiv.org/pdf/2104.00008v1.pdf", Identifier("arxiv", "2104.00008")),
        ("hep-th/9901001v2", Identifier("arxiv", "hep-th/9901001")),
        ("https://doi.org/10.1088/2632-2153/AD35A3", Identifier("doi", "10.1088/2632-2153/ad35a3")),
        ("10.48550/arXiv.2104.00008", Identifier("arxiv", "2104.00008")),
        ("A" * 40, Identifier("s2", "a" * 40)),
        ("https://openalex.org/W2741809807", Identifier("openalex", "W2741809807")),
        ("CorpusId:12345", Identifier("corpus", "12345")),
    ],
)
def test_identifiers_in_all_spellings(text: str, expected: Identifier) -> None:
    assert parse_identifier(text) == expected


@pytest.mark.parametrize("text", ["", "nonsense", "../../etc/passwd", "12345", "a" * 39])
def test_what_is_no_identifier_is_refused_with_its_value(text: str) -> None:
    with pytest.raises(UsageError, match="no identifier") as caught:
        parse_identifier(text)
    assert repr(text) in str(caught.value)


def test_names_and_titles_compare_across_sources() -> None:
    assert title_key("{Why} is \\emph{AI} hard?") == title_key("Why Is AI Hard")
    assert surname("Roberts, Daniel A.") == surname("Daniel A. Roberts") == "roberts"
    assert surname("J. Quetzalcóatl Toledo-Marín") == surname("Toledo-Marin, J.")
    assert slug(Record("The Tale", ["Łukasz Ørsted"], 1999)) == "orsted1999tale"
    assert plain("a\u202egnp.exe\x00\n b", 99) == "agnp.exe b"
    for hostile in ("javascript:alert(1)", "http://u:p@h/", "//h", "http://h/ x", "file:///x"):
        assert safe_url(hostile) is None


def test_the_first_start_has_the_essay_with_what_is_known_and_no_more(store: Store) -> None:
    with store.read() as db:
        essay = papers.get(db, "arXiv:2104.00008")
        assert essay is not None
        around = papers.neighbours(db, essay.id)
        assert essay.title == "Why is AI hard and Physics simple?"
        assert len(around["cites"]) == 6
        assert around["referenced"] == {"pdlt2021", "wigner1960", "tenenbaum2011", "lake2017"}
        lazy = papers.get(db, "li2022parsimonious")
        assert lazy is not None
        assert lazy.id == "li2022lazy"
        assert "Parsimonious" in lazy.other_titles[0]
        for name in [essay.id, *around["cites"], *around["referenced"]]:
            paper = papers.get(db, name)
            assert paper is not None
            assert paper.abstract is None
            assert paper.citations is None
            # two sentences
            assert (paper.summary or "").count(". ") == 1
        wigner = papers.get(db, "wigner1960")
        assert wigner is not None
        assert wigner.identifiers == ()


def test_preprint_and_journal_version_are_one_paper(store: Store) -> None:
    preprint = Record("A Study of Depth and Width", ["Ann Ables"], 2020)
    preprint.add("arxiv", "2001.00001")
    journal = Record("A study of depth and width.", ["Ables, A."], 2021, venue="Journal")
    journal.add("doi", "10.1000/xyz")
    other = Record("A Study of Depth and Width", ["Zoe Zimmer"], 2020)
    with store.write() as db:
        first, second, third = (papers.save(db, r) for r in (preprint, journal, other))
        assert first == second != third
        paper = papers.get(db, "10.1000/xyz")
        assert paper is not None
        assert (paper.first("arxiv"), paper.venue, paper.year) == ("2001.00001", "Journal", 2020)


def test_papers_shown_to_be_one_become_one_with_all_that_hangs_on_them(store: Store) -> None:
    from kadanoff.atlas import comments

    with store.write() as db:
        one, two = Record("First name", ["A B"], 2000), Record("Second name", ["A B"], 2001)
        one.add("doi", "10.1000/one")
        two.add("arxiv", "2002.00002")
        a, b = papers.save(db, one), papers.save(db, two)
        papers.cite(db, b, "pdlt2021")
        papers.cite(db, "wigner1960", b)
        papers.cite(db, a, b)
        comments.add(db, b, "kept")
        both = Record("First name", ["A B"], 2000)
        both.add("doi", "10.1000/one")
        both.add("arxiv", "2002.00002")
        assert papers.save(db, both) == a
        assert papers.resolve(db, b) == a
        assert papers.neighbours(db, a) == {"cites": {"wigner1960"}, "referenced": {"pdlt2021"}}
        assert [c.body for c in comments.thread(db, a)] == ["kept"]
        found, _ = papers.search(db, "second name")
        assert [p.id for p in found] == [a]


@pytest.mark.parametrize("text", ['"', "*", "NEAR(", "a OR", "-", "(", "title:x", "' --", "\x00"])
def test_search_takes_any_text(store: Store, text: str) -> None:
    with store.read() as db:
        papers.search(db, text)


def test_search_finds_titles_authors_and_summaries_without_accents(store: Store) -> None:
    with store.read() as db:
        assert papers.search(db, "toledo marin")[0][0].id == "toledo2021"
        assert papers.search(db, "meijer")[0][0].id == "zavatone2021"
        assert papers.search(db, "")[1] == 11


def test_recommendations_are_the_cosines(store: Store) -> None:
    with store.write() as db:
        ids = {n: papers.save(db, Record(f"Paper {n} of six", [f"Au {n}"], 2000)) for n in "abcdef"}
        # a and b share two of their references: coupling 2 / sqrt(3 * 2)
        for src, dst in ("ac", "ad", "ae", "bc", "bd", "fa", "fc"):
            papers.cite(db, ids[src], ids[dst])
        found = dict(graph.recommend(db, ids["a"]))
    # f cites a, c, d ... and so is no recommendation; c, d, e are cited already
    assert set(found) == {ids["b"]}
    assert found[ids["b"]] == pytest.approx(2 / math.sqrt(6))


def test_layout_is_the_same_at_every_visit_and_keeps_what_was_dragged(store: Store) -> None:
    with store.write() as db:
        first = graph.neighbourhood(db, "roberts2021")
        second = graph.neighbourhood(db, "roberts2021")
        assert [(n.x, n.y) for n in first.nodes] == [(n.x, n.y) for n in second.nodes]
        graph.keep_positions(db, first, {"banta2023": (7.0, 8.0)})
        papers.cite(db, papers.save(db, Record("A new one", ["N N"], 2024)), "roberts2021")
        third = {n.paper.id: (n.x, n.y) for n in graph.neighbourhood(db, "roberts2021").nodes}
    assert third["banta2023"] == (7.0, 8.0)
    same = {n.paper.id: (n.x, n.y) for n in first.nodes if n.paper.id != "banta2023"}
    assert {name: third[name] for name in same} == same


def test_layout_has_the_focus_in_the_middle_past_left_future_right_nothing_on_top() -> None:
    kinds = {f"p{i}": ("cites", "referenced")[i % 2] for i in range(60)} | {"f": "current"}
    links = [(f"p{i}", f"p{i + 2}") for i in range(0, 50, 3)] + [("p0", "f")]
    found = place(kinds, links)
    assert found["f"] == (0.0, 0.0)
    assert all(math.isfinite(v) for point in found.values() for v in point)
    right = sum(found[n][0] > 0 for n, k in kinds.items() if k == "cites")
    left = sum(found[n][0] < 0 for n, k in kinds.items() if k == "referenced")
    assert right >= 28
    assert left >= 28
    points = list(found.values())
    least = min(math.dist(a, b) for i, a in enumerate(points) for b in points[:i])
    assert least > 15


def test_a_damaged_or_newer_database_is_refused_with_a_remedy(tmp_path) -> None:
    (tmp_path / "atlas.sqlite").write_bytes(b"this is no database, whatever its name" * 40)
    with pytest.raises(StorageError, match="Could not open"):
        Store(tmp_path)
    newer = Store(tmp_path / "b")
    with newer.write() as db:
        db.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(StorageError, match="format 99"):
        Store(tmp_path / "b")

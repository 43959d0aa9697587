"""Identity, merging, search, recommendations, layout, the seed."""

from __future__ import annotations

import itertools
import math
import sqlite3
from pathlib import Path

import pytest

from kadanoff.atlas import graph, papers, seed, similarity
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
from kadanoff.atlas.searching import search
from kadanoff.atlas.store import Store
from kadanoff.atlas.studies import Registry
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
    known = seed.facts()
    with store.read() as db:
        essay = papers.get(db, "arXiv:2104.00008")
        assert essay is not None
        around = papers.neighbours(db, essay.id)
        assert essay.title == "Why is AI hard and Physics simple?"
        # the full list of references, and all known citing works
        assert around["referenced"] == {b for a, b, _ in known["citations"] if a == essay.id}
        assert around["cites"] == {a for a, b, _ in known["citations"] if b == essay.id}
        assert len(around["referenced"]) == 82
        assert {"pdlt2021", "wigner1960", "tenenbaum2011", "lake2017"} <= around["referenced"]
        lazy = papers.get(db, "li2022parsimonious")
        assert lazy is not None
        assert lazy.id == "li2022lazy"
        assert "Parsimonious" in lazy.other_titles[0]
        everything = papers.many(db, [w["key"] for w in known["works"]])
        assert len(everything) == len(known["works"]) > 200
        for work in known["works"]:
            paper = everything[work["key"]]
            # what the file does not say is not there
            assert (paper.year, paper.summary) == (work.get("year"), work.get("summary"))
            assert paper.abstract is None
            assert paper.citations is None
        wigner = papers.get(db, "wigner1960")
        assert wigner is not None
        assert wigner.identifiers == ()
        # each citation says where it was read
        rows = db.execute("SELECT source FROM cites").fetchall()
        assert len(rows) == len(known["citations"])
        assert all(": " in row[0] for row in rows)
        # a study's paper has the neighbours that the facts give it
        read = {work for citing, cited, _ in known["citations"] for work in (citing, cited)}
        for study in Registry().all():
            name = papers.resolve(db, study.paper_id)
            assert name is not None
            assert any(papers.neighbours(db, name).values()) == (name in read), name


def test_an_atlas_of_the_first_format_opens_with_all_that_was_in_it(tmp_path: Path) -> None:
    old = sqlite3.connect(tmp_path / "atlas.sqlite")
    old.executescript(Path(__file__).with_name("schema_1.sql").read_text("utf-8"))
    old.execute(
        "INSERT INTO paper (id, title, title_key, year, added_at) VALUES"
        " ('mine', 'An own paper on laziness', 'anownpaperonlaziness', 2020, 1.0)"
    )
    old.execute("INSERT INTO author VALUES ('mine', 0, 'Ada Lovelace')")
    old.execute("INSERT INTO paper_fts VALUES ('mine', 'An own paper', 'Ada Lovelace', '', '')")
    old.execute(
        "INSERT INTO comment (uid, paper, author, body, created_at)"
        " VALUES ('u', 'mine', 'Ada', 'A thought about resonance', 2.0)"
    )
    old.execute("INSERT INTO reading VALUES ('mine', 3.0)")
    old.execute("PRAGMA user_version = 1")
    old.commit()
    old.close()
    store = Store(tmp_path)
    with store.read() as db:
        assert db.execute("PRAGMA user_version").fetchone()[0] == 2
        assert [p.id for p in search(db, "author:lovelace")[0]] == ["mine"]
        # comments are searched too, also those written before they were
        assert [p.id for p in search(db, "resonance in:list")[0]] == ["mine"]
        assert db.execute("SELECT status FROM reading").fetchone()[0] == "to-read"
        assert papers.get(db, "pdlt2021") is not None
    store.close()
    again = Store(tmp_path)
    with again.read() as db:
        assert search(db, "author:lovelace")[1] == 1
    again.close()


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
        found, _, _ = search(db, "second name")
        assert [p.id for p in found] == [a]


def test_nearness_is_the_cosine_of_the_links(store: Store) -> None:
    with store.write() as db:
        ids = {n: papers.save(db, Record(f"Paper {n} of six", [f"Au {n}"], 2000)) for n in "abcdef"}
        # a is linked with c, d, e and f, b with c and d: they share two of 4 and of 2
        for src, dst in ("ac", "ad", "ae", "bc", "bd", "fa", "fc"):
            papers.cite(db, ids[src], ids[dst])
        found = dict(similarity.recommend(db, ids["a"]))
        near = similarity.nearness(db, ids["a"], [ids["b"], ids["c"], ids["a"]])
    # f cites a, and c, d, e are cited by it: they are no recommendations
    assert set(found) == {ids["b"]}
    assert found[ids["b"]] == pytest.approx(2 / math.sqrt(4 * 2))
    # of c, cited by a, b and f, the citing work f is shared
    assert near == pytest.approx(
        {ids["b"]: found[ids["b"]], ids["c"]: 1 / math.sqrt(4 * 3), ids["a"]: 1.0}
    )


def test_in_the_layout_by_nearness_the_distance_is_the_number(store: Store) -> None:
    with store.read() as db:
        found = graph.neighbourhood(db, "zavatone2021", near=True, layout="similarity")
        again = graph.neighbourhood(db, "zavatone2021", near=True, layout="similarity")
    assert [(n.x, n.y) for n in found.nodes] == [(n.x, n.y) for n in again.nodes]
    rings = dict(found.axes["rings"])  # pyright: ignore[reportArgumentType, reportCallIssue]
    around = [n for n in found.nodes if n.kind != "current"]
    distances = {n.paper.id: math.hypot(n.x, n.y) for n in around}
    for node in around:
        # a paper stands outside the rings of larger numbers and inside those of smaller ones
        for value, radius in rings.items():
            if node.near > value + 0.02:
                assert distances[node.paper.id] < radius
            if node.near < value - 0.02:
                assert distances[node.paper.id] > 0.97 * radius
    assert len({node.near for node in around}) > 5


def test_on_the_timeline_years_go_right_citations_up_and_nothing_overlaps(store: Store) -> None:
    with store.read() as db:
        found = graph.neighbourhood(db, "roberts2021", layout="time")
    dated = sorted((n for n in found.nodes if n.paper.year), key=lambda n: n.paper.year or 0)
    for one, other in itertools.pairwise(dated):
        if (one.paper.year or 0) < (other.paper.year or 0):
            assert one.x < other.x
    levels = dict(found.axes["levels"])  # pyright: ignore[reportArgumentType, reportCallIssue]
    assert levels[8] < levels[2] < levels[0] == 0
    high = [n.y for n in found.nodes if n.cited >= 8]
    low = [n.y for n in found.nodes if n.cited <= 1]
    assert max(high) < min(low)
    points = [(n.x, n.y) for n in found.nodes]
    assert min(math.dist(a, b) for a, b in itertools.combinations(points, 2)) > 30


def test_of_many_neighbours_the_most_relevant_are_shown_and_the_rest_counted(store: Store) -> None:
    with store.write() as db:
        hub = papers.save(
            db, Record("A hub of many", ["Ada Hub"], 2000, key="hub", source="export")
        )
        ids = [papers.save(db, Record(f"Spoke number {i}", [f"Sp {i}"], 2001)) for i in range(30)]
        for name in ids:
            papers.cite(db, name, hub)
        # these three have to do with each other
        papers.cite(db, ids[20], ids[21])
        papers.cite(db, ids[22], ids[21])
        found = graph.neighbourhood(db, hub, limit=3)
    assert {n.paper.id for n in found.nodes} == {hub, ids[20], ids[21], ids[22]}
    assert (found.total, found.hidden) == (30, 27)
    shown = {n.paper.id for n in found.nodes}
    assert all(a in shown and b in shown for a, b in found.links)
    assert {n.paper.id: n.cited for n in found.nodes}[hub] == 30


def test_prior_and_derivative_works_are_ranked_by_the_papers_around(store: Store) -> None:
    with store.read() as db:
        prior = graph.prior_works(db, "zavatone2021")
        derivative = graph.derivative_works(db, "zavatone2021")
        here = {"zavatone2021", *graph.kinds_around(db, "zavatone2021")}
        for ranked, wanted, given in ((prior, "dst", "src"), (derivative, "src", "dst")):
            assert [r.count for r in ranked] == sorted((r.count for r in ranked), reverse=True)
            rows = db.execute(
                f"SELECT {given} FROM cites WHERE {wanted} = ?", (ranked[0].id,)
            ).fetchall()
            assert ranked[0].count == len({r[0] for r in rows} & here)


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

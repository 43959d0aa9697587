"""Search over everything, with operators."""

from __future__ import annotations

import pytest

from kadanoff.atlas import comments, notebook, papers
from kadanoff.atlas.identity import Record
from kadanoff.atlas.searching import search
from kadanoff.atlas.store import Store


def ids(db, text: str, **more) -> set[str]:
    found, total, _ = search(db, text, limit=1000, **more)
    assert total == len(found)
    return {paper.id for paper in found}


@pytest.mark.parametrize(
    "text",
    [
        *('"', "*", "NEAR(", "a OR", "-", "(", "title:x", "' --", "\x00", "year:", "tag:", "-:"),
        *('author:"', "has:", "cites:", "((((", "year:99999-", '"a" -"', "{title} : x", "^a + b"),
    ],
)
def test_any_text_is_taken(store: Store, text: str) -> None:
    with store.read() as db:
        search(db, text)


def test_words_are_found_without_accents_in_titles_authors_and_summaries(store: Store) -> None:
    with store.read() as db:
        assert search(db, "toledo marin physiqu")[1] == 0
        assert "toledo2021" in ids(db, "toledo marin")
        assert "zavatone2021" in ids(db, "meijer")
        assert search(db, "")[1] == db.execute("SELECT count(*) FROM paper").fetchone()[0]
        # all words, as beginnings
        assert "zavatone2021" in ids(db, "meij bayes")


def test_operators_narrow_and_a_minus_excludes(store: Store) -> None:
    with store.read() as db:
        recent = ids(db, "finite width year:2023-")
        assert "banta2023" in recent
        everything = ids(db, "finite width")
        assert recent | ids(db, "finite width year:-2022") == everything - ids(
            db, "finite width -has:year"
        )
        years = {papers.many(db, [n])[n].year for n in ids(db, "year:2019-2020")}
        assert years == {2019, 2020}
        assert ids(db, "author:yaida") >= {"pdlt2021"}
        assert ids(db, "author:yaida -author:roberts") == ids(db, "author:yaida") - ids(
            db, "author:roberts"
        )
        assert ids(db, "cites:roberts2021") == papers.neighbours(db, "roberts2021")["cites"]
        assert (
            ids(db, "citedby:arXiv:2104.00008")
            == (papers.neighbours(db, "roberts2021")["referenced"])
        )
        assert ids(db, "has:study", studies={"pdlt2021"}) == {"pdlt2021"}
        assert "pdlt2021" in ids(db, '"deep learning theory"')
        assert ids(db, '"theory learning deep"') == set()


def test_what_cannot_be_meant_is_said(store: Store) -> None:
    with store.read() as db:
        _, total, ignored = search(db, "physics year:soon has:charm")
        assert total > 0
        assert [text.split(":")[0] for text in ignored] == ["year", "has"]


def test_notes_comments_tags_and_status_are_searched(store: Store) -> None:
    with store.write() as db:
        notebook.set_note(db, "lake2017", "Compare with *hippocampus* models", 0)
        comments.add(db, "wigner1960", "A remark on eigenvalues")
        notebook.set_labels(db, "lake2017", "tag", ["To cite"])
        notebook.set_labels(db, "wigner1960", "collection", ["Thesis"])
        notebook.set_status(db, "lake2017", "reading")
    with store.read() as db:
        assert ids(db, "hippocampus") == ids(db, "note:hippocampus") == {"lake2017"}
        assert ids(db, "eigenvalues") == ids(db, "has:comment") == {"wigner1960"}
        assert ids(db, 'tag:"to cite"') == ids(db, "has:note") == {"lake2017"}
        assert ids(db, "collection:thesis") == {"wigner1960"}
        assert ids(db, "status:reading") == ids(db, "in:list") == {"lake2017"}
    with store.write() as db:
        notebook.set_note(db, "lake2017", "", 1)
        number = comments.thread(db, "wigner1960")[0]
        comments.delete(db, number.id, 1)
        assert ids(db, "hippocampus") == ids(db, "eigenvalues") == set()


def test_scripts_without_spaces_are_found_from_any_character_on(store: Store) -> None:
    with store.write() as db:
        name = papers.save(
            db, Record("有限幅ニューラルネットワークの場の理論", ["山田 太郎"], 2022)
        )
        korean = papers.save(db, Record("심층 신경망의 유효 이론", ["김철수"], 2023))
        assert ids(db, "ニューラル") == ids(db, "場の理論") == ids(db, "author:太郎") == {name}
        assert ids(db, "理論場") == set()
        assert ids(db, "신경망") == ids(db, "유효 이론") == {korean}

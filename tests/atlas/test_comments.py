"""Comments: safe to look at, and never lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kadanoff.atlas import backup, comments, exports, notebook, papers
from kadanoff.atlas.rendering import markdown
from kadanoff.atlas.store import Store
from kadanoff.errors import DataError, UsageError
from kadanoff.style.markup import math

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    "[x](javascript:alert(1))",
    "[x](data:text/html;base64,AAAA)",
    '[x](http://a.b/" onmouseover="alert(1))',
    "![x](http://evil.example/pixel.png)",
    r"$\href{javascript:alert(1)}{x}$",
    r"$\text{</math><script>alert(1)</script>}$",
    r"$\style{background:url(//evil)}{x}$",
    '<svg onload="alert(1)">',
    "<a href=vbscript:x>y</a>",
    "<http://x.example/><script>",
    "| a |\n|:-:|\n| <iframe src=x> |",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_comments_are_only_text(text: str) -> None:
    html = markdown(text)
    lower = html.lower()
    for bad in ("<script", "<img", "<svg", "<iframe", "style=", "<style"):
        assert bad not in lower
    # whatever is left in a tag is a link to the web or a plain attribute of a formula
    import re

    for tag in re.findall(r"<[^>]*>", re.sub(r'alttext="[^"]*"', "", html)):
        assert "onerror" not in tag
        assert not re.search(r"\son\w+=", tag)
        assert not re.search(r'href="(?!https?://)', tag)


@given(st.text(alphabet="<>/$\\{}[]()\"'=ab _^&!`*\n#|-", max_size=80))
@settings(max_examples=150, deadline=None)
def test_rendering_takes_any_text_and_yields_only_known_tags(text: str) -> None:
    import re

    for tag in re.findall(r"<\s*/?\s*([^\s/>]*)", re.sub(r'"[^"]*"', "", markdown(text))):
        assert re.fullmatch(r"[a-z]+[4-6]?", tag), tag
        assert tag not in ("script", "img", "svg", "style", "iframe", "object", "input", "form")


def test_formulas_become_mathml_and_prices_stay_prices() -> None:
    html = markdown(r"With $\chi_\perp = C_W \langle \sigma'^2\rangle$ it costs $5 or $6.")
    assert "<math" in html
    assert "χ" in html
    assert "$5 or $6" in html
    assert "<code>" in math("{" * 60 + "x" + "}" * 60)
    assert 'display="block"' in markdown("$$\n\\frac{a}{b}\n$$")
    assert "$x$" in markdown("`$x$`")


def test_edits_do_not_overwrite_each_other(store: Store) -> None:
    with store.write() as db:
        first = comments.add(db, "roberts2021", "one", "Ada")
        second = comments.edit(db, first.id, "two", first.version)
        with pytest.raises(comments.EditConflict) as caught:
            comments.edit(db, first.id, "three", first.version)
        assert caught.value.current.body == "two"
        with pytest.raises(comments.EditConflict):
            comments.delete(db, first.id, first.version)
        reply = comments.add(db, "roberts2021", "reply", "Bob", parent=first.id)
        comments.delete(db, first.id, second.version)
        (root,) = comments.thread(db, "roberts2021")
        assert (root.deleted, root.body, root.author) == (True, "", "")
        assert [c.id for c in root.replies] == [reply.id]
        kept = [r["body"] for r in db.execute("SELECT body FROM comment_history ORDER BY version")]
        assert kept == ["one", "two"]
        comments.delete(db, reply.id, 1)
        assert comments.thread(db, "roberts2021") == []
        with pytest.raises(UsageError, match="not on this paper"):
            comments.add(db, "pdlt2021", "x", parent=first.id)
        for body in ("", "  \n ", "x" * 10_001):
            with pytest.raises(UsageError):
                comments.add(db, "pdlt2021", body)


def test_replies_nest_only_so_deep(store: Store) -> None:
    with store.write() as db:
        parent = None
        for _ in range(12):
            parent = comments.add(db, "pdlt2021", "x", parent=parent).id
        depth, level = 0, comments.thread(db, "pdlt2021")
        while level:
            depth, level = depth + 1, [r for c in level for r in c.replies]
    assert depth == comments.DEPTH


def test_many_threads_and_two_processes_lose_nothing(store: Store) -> None:
    code = (
        "import sys\nfrom kadanoff.atlas.store import Store\nfrom kadanoff.atlas import comments\n"
        "s = Store(sys.argv[1])\n"
        "for i in range(40):\n    with s.write() as db: comments.add(db, 'pdlt2021', f'p{i}')\n"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(store.folder)])

    def write(who: int) -> None:
        for i in range(20):
            with store.write() as db:
                comments.add(db, "pdlt2021", f"{who}-{i}")

    threads = [threading.Thread(target=write, args=(n,)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert other.wait(60) == 0
    with store.read() as db:
        found = {c.body for c in comments.thread(db, "pdlt2021")}
    assert len(found) == 140


def test_a_killed_process_loses_no_comment_it_confirmed(store: Store) -> None:
    code = (
        "import sys\nfrom kadanoff.atlas.store import Store\nfrom kadanoff.atlas import comments\n"
        "s = Store(sys.argv[1])\ni = 0\n"
        "while True:\n    with s.write() as db: comments.add(db, 'pdlt2021', f'c{i}')\n"
        "    print(i, flush=True)\n    i += 1\n"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", code, str(store.folder)], stdout=subprocess.PIPE, text=True
    )
    assert run.stdout is not None
    said = [run.stdout.readline() for _ in range(25)]
    os.kill(run.pid, signal.SIGKILL)
    said += run.stdout.readlines()
    run.wait()
    run.stdout.close()
    confirmed = {f"c{line.strip()}" for line in said if line.endswith("\n")}
    with store.read() as db:
        assert confirmed <= {c.body for c in comments.thread(db, "pdlt2021")}
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


def test_export_and_import_give_the_same_atlas(store: Store, tmp_path) -> None:
    with store.write() as db:
        root = comments.add(db, "roberts2021", "Hello $x$", "Ada")
        comments.add(db, "roberts2021", "Reply", "Bob", parent=root.id)
        comments.edit(db, root.id, "Hello again", 1)
        notebook.set_status(db, "pdlt2021", "reading")
        notebook.set_note(db, "pdlt2021", "Read chapter 4: $\\chi_\\perp$.", 0)
        notebook.set_labels(db, "pdlt2021", "tag", ["criticality", "Book"])
        notebook.set_labels(db, "pdlt2021", "collection", ["Thesis"])
        notebook.add_link(db, "pdlt2021", "https://arxiv.org/pdf/2106.10165")
        document = json.loads(json.dumps(backup.dump(db)))
    other = Store(tmp_path / "other")
    with other.write() as db:
        assert backup.restore(db, document)["comments"] == 2
        assert backup.restore(db, document)["comments"] == 0
        again = backup.dump(db)
    parts = ("papers", "citations", "comments", "reading", "statuses", "notes", "labels")
    for part in (*parts, "documents", "entries"):
        assert again[part] == document[part], part
    # an older export does not undo a newer edit
    with other.write() as db:
        number = db.execute("SELECT id FROM comment WHERE parent IS NULL").fetchone()[0]
        comments.edit(db, number, "Newest", 2)
        backup.restore(db, document)
        assert comments.get(db, number).body == "Newest"
    other.close()


@pytest.mark.parametrize(
    "change",
    [
        {"format": "other"},
        {"papers": [{"id": "x"}]},
        {"papers": None},
        {"citations": [{"src": "nobody", "dst": "roberts2021"}]},
        {"comments": [{"uid": "u", "paper": "roberts2021", "body": "b"}]},
    ],
)
def test_a_damaged_export_changes_nothing(store: Store, change: dict) -> None:
    with store.read() as db:
        before = backup.dump(db)
    with pytest.raises(DataError), store.write() as db:
        backup.restore(db, {**before, **change})
    with store.read() as db:
        assert backup.dump(db)["papers"] == before["papers"]


def test_csv_has_no_formulas_and_bibtex_no_escape(store: Store) -> None:
    import csv
    import io

    from kadanoff.atlas.identity import Record

    with store.write() as db:
        name = papers.save(
            db, Record('=HYPERLINK("http://x")', ["+A B", "@c}\n@misc{evil,"], 2000, venue="-1+1")
        )
        paper = papers.many(db, [name])[name]
    rows = list(csv.reader(io.StringIO(exports.csv_text([(paper, "cites")]))))
    assert all(cell[:1] not in ("=", "+", "-", "@") for cell in rows[1])
    text = exports.bibtex([paper])
    assert text.count("\n@") == 0
    from kadanoff.atlas.importers.bibtex import parse_bibtex

    (again,) = parse_bibtex(exports.bibtex([paper])).records
    assert again.title == paper.title
    assert again.year == 2000

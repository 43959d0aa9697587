"""The server: pages, the API and its description, what is refused, and many at once."""

from __future__ import annotations

import http.client
import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest

from kadanoff.atlas import drafts, papers
from kadanoff.atlas.database import Database
from kadanoff.atlas.identity import Record
from kadanoff.atlas.importers.parsed import Broken, Parsed
from kadanoff.atlas.server import create_app
from kadanoff.atlas.store import Store
from kadanoff.studies import Lab, run
from kadanoff.studies import Study as KeptStudy
from kadanoff.studies.claims import Claim, Measured, equals
from kadanoff.style.figures import figure, house_style
from tests.atlas.serving import TinyStudies, served
from tests.cli.run import run as run_cli
from tests.needs import needs


@pytest.fixture
def client(store: Store) -> Iterator[httpx.Client]:
    with served(store) as address, httpx.Client(base_url=address) as made:
        yield made


def test_one_command_leads_to_the_essay(client: httpx.Client) -> None:
    answer = client.get("/", follow_redirects=True)
    assert answer.status_code == 200
    assert "Why is AI hard and Physics simple?" in answer.text
    # a row for each of the 90 works linked with it, and for those nearby
    assert answer.text.count("<tr data-id=") == 82 + 8 + 12


def test_policy_and_no_inline_anything(client: httpx.Client) -> None:
    import re

    for path in (
        "/papers/roberts2021",
        "/search?q=a",
        "/reading",
        "/papers/none",
        "/studies/tiny/panel",
        *("/studies", "/import", "/connect?paper=pdlt2021&paper=li2022lazy"),
    ):
        answer = client.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert not re.search(
            r"\sstyle=|\son\w+=|<style|<script(?![^>]*\ssrc=\"/static/)", answer.text
        )
    assert client.get("/papers/none").status_code == 404


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "", "localhost@evil.example", "10.0.0.1"]
)
def test_foreign_hosts_are_refused(client: httpx.Client, host: str) -> None:
    answer = client.get("/papers/roberts2021", headers={"host": host})
    assert answer.status_code in (400, 421)


def test_foreign_origins_cannot_write(client: httpx.Client) -> None:
    path, new = "/api/papers/pdlt2021/comments", {"body": "x"}
    good = str(client.base_url).rstrip("/")
    for origin in ("http://evil.example", "null", good + "0", "http://localhost:1"):
        assert client.post(path, json=new, headers={"origin": origin}).status_code == 403
    cross = {"sec-fetch-site": "cross-site"}
    assert client.post(path, json=new, headers=cross).status_code == 403
    form = {"content-type": "application/x-www-form-urlencoded"}
    old = client.post("/papers/pdlt2021/thread", content="body=x", headers=form)
    assert old.status_code == 403
    assert client.post(path, json=new, headers={"origin": good}).status_code == 201
    fine = client.post(
        "/papers/pdlt2021/thread", content="body=y", headers={**form, "origin": good}
    )
    assert fine.status_code == 303
    assert len(client.get(path).json()) == 2


def test_bodies_are_bounded_and_never_unpacked(client: httpx.Client) -> None:
    url = "/api/papers/pdlt2021/comments"
    assert client.post(url, json={"body": "x" * 10_001}).status_code == 422
    huge = client.post("/api/import", content=b"[" * 9_000_000)
    assert huge.status_code == 413

    def stream() -> Iterator[bytes]:
        for _ in range(10):
            yield b" " * 1_000_000

    assert client.post("/api/import", content=stream()).status_code == 413
    packed = client.post(url, content=b"\x1f\x8b", headers={"content-encoding": "gzip"})
    assert packed.status_code == 415
    for body in (b"[" * 200_000, b"\xff\xfe", b'{"format": "kadanoff-atlas-1"}'):
        assert client.post("/api/import", content=body).status_code == 400


@pytest.mark.parametrize(
    "path",
    [
        *("../papers.py", "..%2fserver.py", "%2e%2e/server.py", "js/../../server.py", "js"),
        *("/etc/passwd", "js%00", "vendor/licences"),
    ],
)
def test_static_files_only(client: httpx.Client, path: str) -> None:
    parts = urlsplit(str(client.base_url))
    raw = http.client.HTTPConnection(parts.hostname or "", parts.port)
    raw.request("GET", f"/static/{path}")
    answer = raw.getresponse()
    answer.read()
    raw.close()
    assert answer.status == 404


def test_imported_titles_are_only_text(store: Store, client: httpx.Client) -> None:
    evil = '"><script>alert(1)</script>{{7*7}}'
    record = Record(evil, [evil], 2000, venue=evil, abstract=evil, url="javascript:alert(1)")
    with store.write() as db:
        name = papers.save(db, record)
        papers.cite(db, name, "roberts2021")
        record.identifiers, record.key = [], None
        number = drafts.create(db, Parsed("bibtex", [record], [Broken(1, evil, evil)]), evil)
    for path in (
        f"/import/{number}",
        f"/connect?paper={name}&paper=pdlt2021",
        f"/papers/{name}",
        "/papers/roberts2021",
        "/search?q=alert",
        f"/papers/{name}/card",
    ):
        text = client.get(path).text
        assert "<script>alert" not in text
        assert "javascript:" not in text
        assert "{{7*7}}" in text


def test_a_token_is_asked_for_and_kept_as_a_cookie(store: Store) -> None:
    token = "s" * 20
    with served(store, token=token) as address, httpx.Client(base_url=address) as client:
        assert client.get("/papers/roberts2021").status_code == 401
        assert client.get("/api/papers?token=wrong").status_code == 401
        assert client.post(f"/api/preview?token={token}", json={"body": "x"}).status_code == 401
        bearer = {"authorization": f"Bearer {token}"}
        assert client.get("/api/papers", headers=bearer).status_code == 200
        answer = client.get(f"/papers/roberts2021?token={token}")
        assert answer.status_code == 303
        assert answer.headers["location"] == "/papers/roberts2021"
        assert "HttpOnly" in answer.headers["set-cookie"]
        assert "SameSite=Strict" in answer.headers["set-cookie"]
        assert client.get("/papers/roberts2021").status_code == 200


@pytest.mark.parametrize(
    ("asked", "there"),
    [
        ("//evil.example/?token={t}", "/evil.example/"),
        ("//evil.example?token={t}", "/evil.example"),
        ("/%5Cevil.example?token={t}", "/evil.example"),
        ("///evil.example/x?token={t}&show=a", "/evil.example/x?show=a"),
        ("/papers/roberts2021?show=banta2023&token={t}", "/papers/roberts2021?show=banta2023"),
        ("/search?q=a+b%26c&token={t}&sort=year", "/search?q=a+b%26c&sort=year"),
        ("/papers/x%0d%0aset-cookie:a?token={t}", "/papers/x%0D%0Aset-cookie%3Aa"),
    ],
)
def test_the_token_leads_back_to_this_server_and_loses_nothing(
    store: Store, asked: str, there: str
) -> None:
    token = "s" * 20
    with served(store, token=token) as address:
        parts = urlsplit(address)
        raw = http.client.HTTPConnection(parts.hostname or "", parts.port)
        raw.request("GET", asked.format(t=token))
        answer = raw.getresponse()
        answer.read()
        raw.close()
    assert answer.status == 303
    assert answer.getheader("location") == there


def test_redirects_keep_what_the_address_says_besides(client: httpx.Client) -> None:
    answer = client.get("/papers/arXiv:2104.00008?show=banta2023&layout=time")
    assert answer.headers["location"] == "/papers/roberts2021?show=banta2023&layout=time"
    assert client.get("/?show=banta2023").headers["location"].endswith("?show=banta2023")


def test_on_a_full_disk_reading_goes_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Database._open

    def full(self: Database) -> sqlite3.Connection:
        db = real(self)
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {pages}")
        return db

    with store.write() as db:
        # what is free in the file is used up first
        db.execute("CREATE TABLE filler (x)")
        db.execute("INSERT INTO filler VALUES (zeroblob(4000))")
    store.close()
    monkeypatch.setattr(Database, "_open", full)
    with served(store) as address, httpx.Client(base_url=address) as client:
        long = {"body": "x" * 9000}
        codes = {client.post("/api/papers/pdlt2021/comments", json=long).status_code}
        for _ in range(20):
            codes.add(client.post("/api/papers/pdlt2021/comments", json=long).status_code)
        assert 503 in codes
        for path in (
            *("/papers/roberts2021", "/api/papers/pdlt2021/graph", "/search?q=a", "/studies"),
            "/api/papers/lake2017/graph",
        ):
            assert client.get(path).status_code == 200, path


def test_identifiers_lead_to_the_page_of_the_paper(client: httpx.Client) -> None:
    for name in ("arXiv:2104.00008", "li2022parsimonious"):
        answer = client.get(f"/papers/{quote(name)}")
        assert answer.status_code == 303
    assert answer.headers["location"] == "/papers/li2022lazy"


def test_a_conflict_tells_the_present_state(client: httpx.Client) -> None:
    made = client.post("/api/papers/pdlt2021/comments", json={"body": "one"}).json()
    url = f"/api/comments/{made['id']}"
    assert client.put(url, json={"body": "two", "version": 1}).status_code == 200
    answer = client.put(url, json={"body": "three", "version": 1})
    assert answer.status_code == 409
    assert answer.json()["current"]["body"] == "two"


def test_a_figure_has_a_number_and_no_path(client: httpx.Client) -> None:
    job = client.post("/api/studies/tiny/runs").json()
    while client.get(f"/api/jobs/{job['id']}").json()["status"] == "running":
        time.sleep(0.05)
    answer = client.get(f"/api/jobs/{job['id']}/figures/0")
    assert answer.headers["content-type"] == "image/svg+xml"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert client.get(f"/api/jobs/{job['id']}/figures/1").status_code == 404
    assert client.get("/api/jobs/..%2f..%2fx/figures/0").status_code == 404


def test_the_full_run_that_came_with_the_package_is_shown(store: Store, tmp_path: Path) -> None:
    claim = Claim("a", "Sparse is $O(N)$.", equals(2.0), paper_value=2.0)

    def work(lab: Lab) -> None:
        with house_style():
            fig, _ = figure()
        lab.say("What was done", "Nothing but $x^2$.")
        lab.figure("empty.svg", fig, "Axes of $x$.")
        lab.decide("a", Measured(2.01, 0.01), note="<b>close</b>")

    run(KeptStudy("tiny", "Tiny", "roberts2021", "Counts.", (claim,), work), tmp_path, size="full")
    with served(store, TinyStudies(home=tmp_path)) as address:
        client = httpx.Client(base_url=address)
        page = client.get("/papers/roberts2021").text
        assert "kept with the package" in page
        assert "<math" in page
        assert "<b>close" not in page
        # what was measured, and what it had to be
        assert "<b>2.010(10)</b>, to be = 2; 4 standard errors" in page
        picture = client.get("/api/studies/tiny/figures/0")
        assert picture.headers["content-type"] == "image/svg+xml"
        assert client.get("/api/studies/tiny/figures/1").status_code == 404
        assert client.get("/api/studies/none/figures/0").status_code == 404
        report = client.get("/studies/tiny/report")
        assert "Nothing but" in report.text
        assert "sandbox" in report.headers["content-security-policy"]
        client.close()


@pytest.mark.slow
def test_the_api_keeps_to_its_description(store: Store) -> None:
    schemathesis = needs("schemathesis", "test")
    from hypothesis import HealthCheck, given, settings
    from schemathesis import checks

    class Nothing(TinyStudies):
        def command(self, name: str, out: Path) -> list[str]:
            return ["true"]

    app = create_app(store, Nothing())
    local = {"host": "127.0.0.1"}
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers=local)
    wanted = [
        checks.not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_schema_conformance,
    ]
    seen: list[str] = []
    for found in schema.get_all_operations():
        operation = found.ok()
        # this one would go out into the world
        if operation.path == "/api/imports":
            continue
        seen.append(operation.label)

        @settings(
            max_examples=8,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
        )
        @given(case=operation.as_strategy())
        def check(case: Any) -> None:
            case.call_and_validate(headers=local, checks=wanted)

        check()
    assert len(seen) >= 20


@pytest.mark.slow
def test_two_hundred_readers_and_twenty_writers(store: Store) -> None:
    # the same for a minute, with the figures: benchmarks/atlas.py
    from benchmarks.atlas import load

    with served(store) as address:
        found = load(address, readers=200, writers=20, seconds=5.0)
        listed = httpx.get(f"{address}/api/papers/pdlt2021/comments").json()
    assert found["errors"] == []
    assert found["reads"] >= 200
    assert found["written"] >= 20
    assert len(listed) == found["written"]
    assert {c["body"] for c in listed} == set(found["bodies"])


def test_the_commands(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    def atlas(*words: str | Path) -> tuple[int, str, str]:
        return run_cli(capsys, "atlas", *words, "--data-dir", tmp_path / "d")

    bib = tmp_path / "a.bib"
    bib.write_text("@misc{k, title={A title of some length}, author={A B}, year=2001}")
    code, out, _ = atlas("add", bib, "--json")
    assert code == 0
    assert json.loads(out)["new"] == 1
    code, out, _ = atlas("export", tmp_path / "out.json")
    assert code == 0
    assert "267 papers" in out
    assert atlas("import", tmp_path / "out.json", "--json")[0] == 0
    # an entry that cannot be read is a finding
    broken = tmp_path / "broken.bib"
    broken.write_text("@misc{a, title={A good one of some length}}\n@misc{k, title={never closed")
    code, out, _ = atlas("add", broken)
    assert code == 1
    assert "line 2" in out
    assert atlas("export", tmp_path / "out.ris")[0] == 0
    assert "TI  - A title of some length" in (tmp_path / "out.ris").read_text("utf-8")
    assert atlas("add")[0] == 2
    code, _, err = atlas("add", "nonsense")
    assert code == 2
    assert "no identifier" in err
    for words in (("add", tmp_path / "absent.bib"), ("import", bib), ("export", "x.docx")):
        code, _, err = atlas(*words)
        assert code == 2
        assert err.startswith("error: ")


@pytest.mark.slow
def test_the_command_serves_and_prints_where(tmp_path) -> None:
    import subprocess
    import sys

    command = [sys.executable, "-m", "kadanoff.cli.app", "atlas", "--no-browser", "--port", "0"]
    run = subprocess.Popen(
        [*command, "--json", "--data-dir", str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert run.stdout is not None
    told = json.loads(run.stdout.readline())
    answer = httpx.get(told["url"], follow_redirects=True, timeout=30)
    assert "Physics simple" in answer.text
    run.terminate()
    run.wait(20)
    run.stdout.close()
    beyond = subprocess.Popen(
        [*command, "--json", "--host", "0.0.0.0", "--data-dir", str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert beyond.stdout is not None
    url = json.loads(beyond.stdout.readline())["url"].replace("0.0.0.0", "127.0.0.1")
    assert len(url.split("token=")[1]) >= 16
    assert httpx.get(url.split("?")[0], timeout=30).status_code == 401
    with httpx.Client(timeout=30) as client:
        assert client.get(url, follow_redirects=True).status_code == 200
    beyond.terminate()
    beyond.wait(20)
    beyond.stdout.close()

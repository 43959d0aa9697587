"""Notes, tags, lists and files; what is refused of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from kadanoff.atlas.store import Store
from tests.atlas.serving import served

PDF = b"%PDF-1.4\n1 0 obj<<>>endobj\ntrailer<<>>\n%%EOF\n"


@pytest.fixture
def client(store: Store) -> Iterator[httpx.Client]:
    with served(store) as address, httpx.Client(base_url=address) as made:
        yield made


def test_a_note_is_kept_and_no_edit_is_lost(store: Store, client: httpx.Client) -> None:
    url = "/api/papers/pdlt2021/note"
    assert client.get(url).json()["version"] == 0
    first = client.put(url, json={"body": "A **note** on $r=L/n$ <b>x</b>", "version": 0}).json()
    assert first["version"] == 1
    assert "<strong>note</strong>" in first["html"]
    assert "<math" in first["html"]
    assert "<b>" not in first["html"]
    crossed = client.put(url, json={"body": "other", "version": 0})
    assert crossed.status_code == 409
    assert crossed.json()["current"]["body"].startswith("A **note**")
    assert client.put(url, json={"body": "", "version": 1}).json()["body"] == ""
    with store.read() as db:
        # what was replaced is in the history
        assert db.execute("SELECT body FROM note_history").fetchone()[0].startswith("A **note**")
    assert client.put(url, json={"body": "x" * 100_001, "version": 2}).status_code == 422


def test_tags_collections_and_status(client: httpx.Client) -> None:
    url = "/api/papers/pdlt2021"
    given = {"names": ["finite width", " Finite  Width ", "", "b"]}
    assert sorted(client.put(f"{url}/tags", json=given).json()) == ["Finite Width", "b"]
    assert client.put(f"{url}/tags", json={"names": ["b"]}).json() == ["b"]
    assert client.put(f"{url}/collections", json={"names": ["Thesis"]}).json() == ["Thesis"]
    assert client.get("/api/labels").json() == {"tags": {"b": 1}, "collections": {"Thesis": 1}}
    assert client.put("/api/reading/pdlt2021").status_code == 204
    assert client.put("/api/reading/pdlt2021", json={"status": "read"}).status_code == 204
    assert client.put("/api/reading/pdlt2021", json={"status": "eaten"}).status_code == 400
    found = client.get("/api/papers", params={"q": "status:read"}).json()
    assert [p["id"] for p in found["papers"]] == ["pdlt2021"]
    assert client.delete("/api/reading/pdlt2021").status_code == 204


def test_a_pdf_is_stored_by_its_hash_and_shown_under_the_strict_policy(
    store: Store, client: httpx.Client
) -> None:
    sent = client.post("/api/files/pdlt2021?file=../../ev%22il.pdf", content=PDF)
    assert sent.status_code == 201
    address = sent.json()["address"]
    assert (store.folder / "files" / f"{address}.pdf").read_bytes() == PDF
    answer = client.get(f"/files/{address}")
    assert answer.headers["content-type"] == "application/pdf"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "script-src" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert '"' not in answer.headers["content-disposition"]
    assert client.get(f"/files/{address}", headers={"range": "bytes=0-3"}).content == b"%PDF"
    # the same again is there once, on two papers
    assert client.post("/api/files/lake2017?file=x.pdf", content=PDF).json()["address"] == address
    assert len(list((store.folder / "files").iterdir())) == 1
    page = client.get("/papers/pdlt2021").text
    assert f'href="/files/{address}"' in page
    gone = client.delete("/api/files/pdlt2021", params={"address": address})
    assert gone.status_code == 204
    assert client.get(f"/files/{address}").status_code == 200
    client.delete("/api/files/lake2017", params={"address": address})
    assert client.get(f"/files/{address}").status_code == 404


@pytest.mark.parametrize("path", ["..%2fatlas.sqlite", "x", "0" * 64, "%2e%2e/atlas.sqlite"])
def test_no_other_file_is_given_out(client: httpx.Client, path: str) -> None:
    assert client.get(f"/files/{path}").status_code == 404


def test_only_pdfs_and_links_are_taken(client: httpx.Client, store: Store, tmp_path: Path) -> None:
    for content in (b"<html><script>", b"", b"MZ"):
        refused = client.post("/api/files/pdlt2021?file=a.pdf", content=content)
        assert refused.status_code == 400
        assert "no PDF" in refused.json()["error"]
    for address in ("javascript:alert(1)", "file:///etc/passwd", "http://u:p@h/x.pdf"):
        url = "/api/papers/pdlt2021/links"
        assert client.post(url, json={"address": address}).status_code == 400
    good = client.post("/api/papers/pdlt2021/links", json={"address": "https://h.example/a.pdf"})
    assert good.json()["name"] == "a.pdf"
    assert not (store.folder / "files").exists()


def test_a_comment_notes_the_page_it_is_about(client: httpx.Client) -> None:
    client.post("/api/files/pdlt2021?file=book.pdf", content=PDF)
    new = {"body": "See the figure", "page": 12}
    made = client.post("/api/papers/pdlt2021/comments", json=new).json()
    assert made["page"] == 12
    assert "#page=12" in client.get("/papers/pdlt2021/thread").text
    for page in (0, -1, 10**9):
        bad = client.post("/api/papers/pdlt2021/comments", json={**new, "page": page})
        assert bad.status_code == 422

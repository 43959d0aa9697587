"""OpenAlex and Semantic Scholar on loopback: the documented shapes, and all that goes wrong."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

S2 = "a" * 40


# what arXiv answers: one entry, and none
EMPTY_FEED = """<?xml version="1.0" encoding="UTF-8"?>
<feed xmlns="http://www.w3.org/2005/Atom"><title>ArXiv Query</title></feed>"""
FEED = r"""<?xml version="1.0" encoding="UTF-8"?>
<feed xmlns="http://www.w3.org/2005/Atom">
  <title type="html">ArXiv Query: id_list=2305.00001</title>
  <entry>
    <id>http://arxiv.org/abs/2305.00001v2</id>
    <published>2023-05-01T00:00:00Z</published>
    <title>A preprint about
      $\chi_\perp$</title>
    <summary>  Its abstract,
of two lines. </summary>
    <author><name>Ann Author</name></author>
    <author><name>Bob Bauer</name></author>
    <arxiv:doi xmlns:arxiv="http://arxiv.org/schemas/atom">10.1000/ARX</arxiv:doi>
    <link href="http://arxiv.org/abs/2305.00001v2" rel="alternate" type="text/html"/>
  </entry>
</feed>"""


def s2_paper(number: int, **more: Any) -> dict[str, Any]:
    """A paper as Semantic Scholar gives it."""
    return {
        "paperId": f"{number:040x}",
        "title": f"A citing work with number {number}",
        "year": 2022,
        "authors": [{"authorId": "1", "name": f"Given Name{number}"}],
        "externalIds": {"DOI": f"10.1000/w{number}", "CorpusId": 1000 + number},
        "abstract": None,
        "venue": "",
        "url": f"https://www.semanticscholar.org/paper/{number:040x}",
        "citationCount": number,
        **more,
    }


def alex_work(number: int, **more: Any) -> dict[str, Any]:
    """A work as OpenAlex gives it."""
    return {
        "id": f"https://openalex.org/W{10_000 + number}",
        "doi": f"https://doi.org/10.1000/W{number}",
        "ids": {"openalex": f"https://openalex.org/W{10_000 + number}"},
        "title": f"A citing work with number {number}",
        "display_name": f"A citing work with number {number}",
        "publication_year": 2022,
        "authorships": [
            {"author_position": "first", "author": {"display_name": f"G. Name{number}"}}
        ],
        "primary_location": {"landing_page_url": "https://h.example/", "source": None},
        "locations": [],
        "abstract_inverted_index": {"world": [1], "Hello": [0]},
        "cited_by_count": 2 * number,
        **more,
    }


class Sources:
    """What the two services answer; ``trouble`` maps a piece of an address to (kind, times)."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        # the same as it came, with its percent signs
        self.raw: list[str] = []
        self.keys: list[str | None] = []
        self.trouble: dict[str, list[str]] = {}
        main = {"externalIds": {"ArXiv": "2104.00008"}, "paperId": S2, "abstract": "An abstract."}
        self.s2 = s2_paper(0, title="Why is AI hard and Physics simple?", **main)
        self.s2["authors"] = [{"authorId": None, "name": "Daniel A. Roberts"}]
        self.s2["year"] = 2021
        self.citations = [
            {"isInfluential": i == 1, "citingPaper": s2_paper(i)} for i in range(1, 8)
        ]
        self.references = [
            {"isInfluential": False, "citedPaper": s2_paper(50)},
            {"citedPaper": {**s2_paper(51), "paperId": None, "externalIds": None, "year": None}},
            {"citedPaper": dict.fromkeys(s2_paper(0))},
        ]
        self.alex = alex_work(
            0,
            title="Why is AI hard and Physics simple?",
            doi="https://doi.org/10.48550/arxiv.2104.00008",
            publication_year=2021,
            authorships=[{"author": {"display_name": "Daniel A. Roberts"}}],
        )
        # 5, 6, 7 are known to both; 8 ... 12 only to this one
        self.citing = [alex_work(i) for i in range(5, 13)]
        self.referenced = [alex_work(50), alex_work(60, title=None, display_name=None)]

    def answer(self, address: str) -> Any:
        """Return what the address means, or None."""
        parts = urlsplit(address)
        query = {k: v[0] for k, v in parse_qs(parts.query).items()}
        path = unquote(parts.path)
        if path == "/arxiv/query":
            return FEED if query["id_list"] == "2305.00001" else EMPTY_FEED
        if path == "/s2/paper/ARXIV:2104.00008":
            return self.s2
        for side, entries in (("citations", self.citations), ("references", self.references)):
            if path == f"/s2/paper/{S2}/{side}":
                start = int(query["offset"])
                size = min(int(query["limit"]), 3)
                page: dict[str, Any] = {"offset": start, "data": entries[start : start + size]}
                if start + size < len(entries):
                    page["next"] = start + size
                return page
        if path == "/alex/works/doi:10.48550/arxiv.2104.00008":
            return self.alex
        if path == "/alex/works":
            relation = query["filter"].split(":")[0]
            works = self.citing if relation == "cites" else self.referenced
            start = 0 if query["cursor"] == "*" else int(query["cursor"])
            following = str(start + 3) if start + 3 < len(works) else None
            meta = {"count": len(works), "per_page": 3, "next_cursor": following}
            return {"meta": meta, "results": works[start : start + 3]}
        return None


@contextmanager
def sources() -> Iterator[tuple[Sources, str]]:
    """Serve the two services; gives them and their address."""
    state = Sources()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            state.asked.append(unquote(self.path))
            state.raw.append(self.path)
            state.keys.append(self.headers.get("x-api-key"))
            for piece, kinds in state.trouble.items():
                if piece in unquote(self.path) and kinds:
                    return self.fail(kinds.pop(0) if kinds[0] != "always 500" else kinds[0])
            found = state.answer(self.path)
            if found is None:
                return self.send(404, {"error": "Paper not found"})
            if isinstance(found, str):
                return self.feed(found)
            return self.send(200, found)

        def send(self, status: int, body: Any, **headers: str) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(content)

        def feed(self, text: str) -> None:
            self.send_response(200)
            self.send_header("content-type", "application/atom+xml; charset=UTF-8")
            self.send_header("content-length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def fail(self, kind: str) -> None:
            if kind == "429":
                self.send(429, {"message": "Too Many Requests"}, retry_after="7")
            elif kind.endswith("500"):
                self.send(500, {"message": "Internal Server Error"})
            elif kind == "401":
                self.send(401, {"error": "key required"})
            elif kind == "html":
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"<html>a portal</html>")
            elif kind == "redirect":
                self.send(302, {}, location="http://169.254.169.254/latest/meta-data")
            elif kind == "bomb":
                import gzip

                content = gzip.compress(b" " * 40_000_000)
                self.send_response(200)
                self.send_header("content-encoding", "gzip")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            else:
                # a body that breaks off
                self.send_response(200)
                self.send_header("content-length", "5000")
                self.end_headers()
                self.wfile.write(b'{"offset": 0, "da')
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    ).start()
    try:
        yield state, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()

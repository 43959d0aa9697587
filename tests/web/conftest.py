from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="fastapi is missing: pip install '.[atlas]'")

from kadanoff.atlas.store import Store
from tests.atlas.serving import TinyStudies, served
from tests.needs import needs

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    api = needs("playwright.sync_api", "test")
    program = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chrome")
    if not program:
        pytest.skip("no Chromium on this machine (apt-get install chromium, or set CHROMIUM)")
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield found
        found.close()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    made = Store(tmp_path_factory.mktemp("atlas"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def address(store: Store) -> Iterator[str]:
    with served(store, TinyStudies(steps=12, pause=0.15)) as found:
        yield found


@pytest.fixture
def page(browser: Any, address: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A page of a fresh visitor; complaints of the browser and foreign requests fail the test."""
    options = getattr(request, "param", {})
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 860}, **options})
    opened = context.new_page()
    opened.set_default_timeout(15_000)
    complaints: list[str] = []
    # refusals that the page deals with are logged by the browser all the same
    expected = re.compile(r"409 |400 .*/api/drafts$")
    opened.on(
        "console",
        lambda m: (
            complaints.append(m.text)
            if m.type == "error" and not expected.search(f"{m.text} {m.location['url']}")
            else None
        ),
    )
    opened.on("pageerror", lambda e: complaints.append(str(e)))
    opened.on(
        "request",
        lambda r: None if r.url.startswith((address, "data:")) else complaints.append(r.url),
    )
    yield opened
    if folder := os.environ.get("SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        opened.screenshot(path=Path(folder) / f"{request.node.name}.png", full_page=True)
    context.close()
    assert complaints == []

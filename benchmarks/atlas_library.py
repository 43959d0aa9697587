"""A library of 20,000 works: import it, import it again, open the atlas that holds it.

Run with ``python -m benchmarks.atlas_library``.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

WORDS = (
    *("neural", "network", "width", "kernel", "tangent", "field", "theory", "gradient", "deep"),
    *("random", "critical", "phase", "learning", "scaling", "feature", "limit"),
)


def bibtex_library(entries: int) -> str:
    """Make up a library in BibTeX, with abstracts, keywords and pages."""
    draw = random.Random(0)
    return "\n".join(
        f"@article{{key{i},\n  title = {{{' '.join(draw.choices(WORDS, k=7))} {i}}},\n"
        f"  author = {{Name{i % 700}, Given and Other, Person}}, year = {1990 + i % 35},\n"
        f"  journal = {{Journal of Things}}, volume = {i % 90}, pages = {{1--20}},\n"
        f"  doi = {{10.1000/x{i}}}, keywords = {{a, b}},\n"
        f"  abstract = {{{' '.join(draw.choices(WORDS, k=120))}}}\n}}\n"
        for i in range(entries)
    )


def library(entries: int = 20_000) -> dict[str, Any]:
    """Import a library, import it again, open the atlas that holds it; seconds of each."""
    from starlette.testclient import TestClient

    from kadanoff.atlas.growing import add_file
    from kadanoff.atlas.server import create_app
    from kadanoff.atlas.store import Store

    found: dict[str, Any] = {"entries": entries}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "library.bib"
        file.write_text(bibtex_library(entries), "utf-8")
        found["MB"] = round(file.stat().st_size / 1e6, 1)
        store = Store(Path(folder) / "atlas")

        def timed(name: str, work: Callable[[], object]) -> None:
            start, cpu = time.monotonic(), time.process_time()
            work()
            found[name] = {
                "seconds": round(time.monotonic() - start, 2),
                "cpu": round(time.process_time() - cpu, 2),
            }

        timed("import", lambda: add_file(store, file))
        timed("import again", lambda: add_file(store, file))
        store.close()

        def visit(path: str) -> None:
            opened = Store(Path(folder) / "atlas")
            client = TestClient(create_app(opened), base_url="http://localhost")
            assert client.get(path).status_code == 200
            opened.close()

        timed("open the essay", lambda: visit("/papers/roberts2021"))
        timed("search", lambda: visit("/search?q=kernel+tangent+year:2000-2010"))
        timed("list all", lambda: visit("/search?sort=here"))
    return found


def library_table(found: dict[str, Any]) -> list[str]:
    """Return the lines of the table."""
    steps = [name for name, value in found.items() if isinstance(value, dict)]
    return [
        f"| {found['entries']:,} works of BibTeX ({found['MB']} MB) | seconds | of one core |",
        "|---|---|---|",
        *(f"| {name} | {found[name]['seconds']} | {found[name]['cpu']} |" for name in steps),
        "",
        f"Load of the machine meanwhile (2 cores): {found['load']}; the second column is what the "
        "work itself took.",
        "",
    ]


def main() -> None:
    """Measure and write the table."""
    from kadanoff.files import atomic_write, write_json

    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    found = {**library(), "load": round(os.getloadavg()[0], 1)}
    write_json(folder / "atlas_library.json", found)
    atomic_write(folder / "atlas_library.md", "\n".join(library_table(found)))
    sys.stdout.write("\n".join(library_table(found)))


if __name__ == "__main__":
    main()

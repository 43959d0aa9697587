"""The atlas under load: 200 readers and 20 writers for a minute; the size of a large graph.

Run with ``python -m benchmarks.atlas [seconds]``. Server and visitors share the machine's cores.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

PAPER = "pdlt2021"
READS = (
    *("/papers/roberts2021", "/api/papers/roberts2021/graph", f"/papers/{PAPER}"),
    *(f"/api/papers/{PAPER}", "/search?q=theory", "/api/papers?q=neural", "/static/js/app.js"),
)


def load(address: str, readers: int, writers: int, seconds: float) -> dict[str, Any]:
    """Read and write at once; gives times in milliseconds, errors, and what was written."""
    return asyncio.run(_load(address, readers, writers, seconds))


async def _load(address: str, readers: int, writers: int, seconds: float) -> dict[str, Any]:
    end = time.monotonic() + seconds
    reads: list[float] = []
    writes: list[float] = []
    bodies: list[str] = []
    errors: list[str] = []
    host, port = address.removeprefix("http://").split(":")

    class Visitor:
        """One keep-alive connection, no more work for the client than needed."""

        def __init__(self) -> None:
            self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

        async def ask(self, method: str, path: str, wanted: int, body: str = "") -> float | None:
            start = time.monotonic()
            head = f"{method} {path} HTTP/1.1\r\nhost: {host}:{port}\r\n"
            if body:
                head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
            try:
                if self.streams is None:
                    self.streams = await asyncio.open_connection(host, int(port))
                source, sink = self.streams
                sink.write(f"{head}\r\n{body}".encode())
                await sink.drain()
                answer = (await source.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                status = int(answer.split(" ", 2)[1])
                length = int(answer.split("content-length:")[1].split("\r\n")[0])
                content = await source.readexactly(length)
            except (OSError, EOFError, IndexError, ValueError) as error:
                errors.append(f"{path}: {type(error).__name__} {error}")
                self.close()
                return None
            if status != wanted:
                errors.append(f"{path}: {status} {content[:80]!r}")
                return None
            return 1e3 * (time.monotonic() - start)

        def close(self) -> None:
            if self.streams is not None:
                self.streams[1].close()
            self.streams = None

    async def reader(number: int) -> None:
        visitor, turn = Visitor(), number
        while time.monotonic() < end:
            if (took := await visitor.ask("GET", READS[turn % len(READS)], 200)) is not None:
                reads.append(took)
            turn += 1
            # a visitor looks before asking again
            await asyncio.sleep(0.5)
        visitor.close()

    async def writer(number: int) -> None:
        visitor, turn = Visitor(), 0
        while time.monotonic() < end:
            body = f"comment {number}-{turn}"
            path = f"/api/papers/{PAPER}/comments"
            took = await visitor.ask("POST", path, 201, json.dumps({"body": body}))
            if took is not None:
                writes.append(took)
                bodies.append(body)
            turn += 1
            await asyncio.sleep(0.5)
        visitor.close()

    await asyncio.gather(*(reader(n) for n in range(readers)), *(writer(n) for n in range(writers)))
    return {
        "reads": len(reads),
        "written": len(bodies),
        "bodies": bodies,
        "errors": errors,
        "read_ms": _quantiles(reads),
        "write_ms": _quantiles(writes),
    }


def _quantiles(times: list[float]) -> dict[str, float]:
    ordered = sorted(times) or [float("nan")]
    return {
        name: round(ordered[min(len(ordered) - 1, int(q * len(ordered)))], 1)
        for name, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0))
    }


def main(seconds: float = 60.0) -> None:
    """Measure and write the table."""
    from kadanoff.files import atomic_write, write_json

    with tempfile.TemporaryDirectory() as folder:
        command = ["-m", "kadanoff.cli.app", "atlas", "--no-browser", "--port", "0", "--json"]
        server = subprocess.Popen(
            [sys.executable, *command, "--data-dir", folder], stdout=subprocess.PIPE, text=True
        )
        assert server.stdout is not None
        told = json.loads(server.stdout.readline())
        address = told["url"].rstrip("/")
        found = load(address, 200, 20, seconds)
        kept = httpx.get(f"{address}/api/papers/{PAPER}/comments", timeout=120).json()
        memory = 0.0
        with contextlib.suppress(OSError, StopIteration):
            status = Path(f"/proc/{server.pid}/status").read_text().splitlines()
            memory = int(next(s for s in status if s.startswith("VmHWM")).split()[1]) / 1024
        server.terminate()
        server.wait()
    found["lost"] = len(set(found.pop("bodies")) - {c["body"] for c in kept})
    found |= {"seconds": seconds, "server_peak_MiB": round(memory), "cores": os.cpu_count()}
    lines = [
        "| 200 readers, 20 writers | requests | p50 ms | p95 ms | p99 ms | max ms |",
        "|---|---|---|---|---|---|",
        *(
            f"| {name} | {found[count]} | "
            + " | ".join(str(v) for v in found[times].values())
            + " |"
            for name, count, times in (
                ("pages, graphs, searches", "reads", "read_ms"),
                ("comments (each synced to disk)", "written", "write_ms"),
            )
        ),
        "",
        f"{seconds:.0f} s on {found['cores']} shared cores, server and visitors together; each "
        f"visitor pauses 0.5 s between requests. Errors: {len(found['errors'])}; comments lost: "
        f"{found['lost']}; server's peak memory {found['server_peak_MiB']} MiB.",
        "",
    ]
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    write_json(folder / "atlas.json", found)
    atomic_write(folder / "atlas.md", "\n".join(lines))
    sys.stdout.write("\n".join(lines))


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0)

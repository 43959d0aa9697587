"""Studies as processes: progress, results, cancelling, surviving the server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kadanoff.atlas.jobs import Job, Jobs
from kadanoff.atlas.site import Site
from kadanoff.atlas.store import Store
from kadanoff.atlas.studies import Registry, read_result
from kadanoff.errors import UsageError
from tests.atlas.serving import TinyStudies
from tests.atlas.sources import sources


def wait(jobs: Jobs, number: str, until: str = "", seconds: float = 30.0) -> Job:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        job = jobs.get(number)
        assert job is not None
        if (job.status != "running") if not until else (job.done > 0):
            return job
        time.sleep(0.05)
    raise AssertionError(f"still {job}")


def test_a_study_runs_and_leaves_claims_and_figures(store: Store) -> None:
    site = Site(store, TinyStudies())
    job = site.run_study("tiny")
    assert job.status == "running"
    job = wait(site.jobs, job.id)
    assert (job.status, job.done, job.total) == ("done", 3, 3)
    result = site.outcome(site.study("tiny"))["result"]
    assert [c.verdict for c in result.claims] == ["holds", "fails"]
    assert result.claims[0].our_value == "2.01(2)"
    # the other "figure" lies outside the folder
    assert [f.file.name for f in result.figures] == ["curve.svg"]
    with store.read() as db:
        assert set(site.marks(db)) == {"roberts2021"}


def test_a_run_outlives_the_server_and_two_starts_are_one(store: Store) -> None:
    site = Site(store, TinyStudies(steps=8, pause=0.15))
    job = site.run_study("tiny")
    assert site.run_study("tiny").id == job.id
    wait(site.jobs, job.id, until="progress")
    restarted = Site(Store(store.folder), TinyStudies())
    found = restarted.jobs.latest("study", "tiny")
    assert found is not None
    assert (found.id, found.status) == (job.id, "running")
    assert wait(restarted.jobs, job.id).status == "done"
    restarted.store.close()


def test_cancel_ends_the_process_and_its_children(store: Store, tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    code = f"import os,time; open({str(mark)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    jobs = Jobs(store, tmp_path / "runs")
    job = jobs.start("study", "long", lambda out: [sys.executable, "-c", code])
    while not (mark.exists() and mark.read_text()):
        time.sleep(0.05)
    cancelled = jobs.cancel(job.id)
    assert cancelled is not None
    assert cancelled.status == "cancelled"
    pid = int(mark.read_text())
    for _ in range(60):
        try:
            gone = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
        except OSError:
            gone = True
        if gone:
            break
        time.sleep(0.05)
    assert gone
    assert jobs.cancel("absent") is None


def test_failures_say_why_and_a_killed_worker_is_noticed(store: Store, tmp_path: Path) -> None:
    jobs = Jobs(store, tmp_path / "runs")
    boom = [sys.executable, "-c", "import sys; sys.exit('no data to work on')"]
    job = wait(jobs, jobs.start("study", "boom", lambda out: boom).id)
    assert (job.status, job.message) == ("failed", "no data to work on")
    job = wait(jobs, jobs.start("study", "absent", lambda out: ["/no/such/program"]).id)
    assert job.status == "failed"
    sleeper = jobs.start(
        "study", "s", lambda out: [sys.executable, "-c", "import time; time.sleep(60)"]
    )
    with store.read() as db:
        pid = db.execute("SELECT pid FROM job WHERE id = ?", (sleeper.id,)).fetchone()[0]
    os.killpg(pid, 9)
    assert wait(jobs, sleeper.id).status == "failed"


def test_only_two_at_once(store: Store, tmp_path: Path) -> None:
    jobs = Jobs(store, tmp_path / "runs")
    nap = [sys.executable, "-c", "import time; time.sleep(60)"]
    running = [jobs.start("study", name, lambda out: nap) for name in "ab"]
    with pytest.raises(UsageError, match="going on"):
        jobs.start("study", "c", lambda out: nap)
    for job in running:
        jobs.cancel(job.id)


def test_results_may_be_absent_broken_or_odd(tmp_path: Path) -> None:
    assert read_result(tmp_path) is None
    path = tmp_path / "result.json"
    for text in ("", "[", "[]", "null"):
        path.write_text(text)
        assert read_result(tmp_path) is None
    path.write_text(json.dumps({"claims": [None, {"verdict": "<b>"}], "figures": [3, {"file": 1}]}))
    result = read_result(tmp_path)
    assert result is not None
    assert [c.verdict for c in result.claims] == ["undecided"]
    assert result.figures == []


def test_the_studies_are_those_of_the_registry_without_running_them() -> None:
    from kadanoff.studies import registry

    found = [(s.name, s.title, s.paper_id, s.summary) for s in Registry().all()]
    assert found == [(s.name, s.title, s.paper, s.summary) for s in registry.all()]
    for name, *_ in found:
        assert Registry().command(name, Path("out"))[-1] == "json"
    assert Registry().kept("../studies") is None


def test_a_first_page_loads_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom kadanoff.atlas.store import Store\n"
        "from kadanoff.atlas.server import create_app\n"
        "from starlette.testclient import TestClient\n"
        "client = TestClient(create_app(Store(Path(sys.argv[1]))), base_url='http://localhost')\n"
        "for path in ('/papers/roberts2021', '/studies', '/api/studies'):\n"
        "    assert client.get(path).status_code == 200, path\n"
        "print('torch' in sys.modules, 'matplotlib' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "False False\n", done.stderr


def test_an_import_from_the_page_is_a_job_too(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sources() as (_, address):
        monkeypatch.setenv("KADANOFF_S2_URL", f"{address}/s2")
        monkeypatch.setenv("KADANOFF_OPENALEX_URL", f"{address}/alex")
        monkeypatch.setenv("KADANOFF_ARXIV_URL", f"{address}/arxiv")
        site = Site(store, TinyStudies())
        job = wait(site.jobs, site.run_import("https://arxiv.org/abs/2104.00008").id)
        assert (job.status, job.message) == ("done", "Done.")
        assert job.done > 0
        with store.read() as db:
            count = db.execute("SELECT count(*) FROM cites WHERE dst = 'roberts2021'")
            assert count.fetchone()[0] == 8 + 12
    monkeypatch.setenv("KADANOFF_S2_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("KADANOFF_OPENALEX_URL", "http://127.0.0.1:9")
    job = wait(site.jobs, site.run_import("10.1234/other").id)
    assert job.status == "failed"
    # what the command line says, without the mark that it has there
    assert job.message.startswith("No network")

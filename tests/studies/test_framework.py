"""Studies survive kills, decide by numbers, and write nothing by half."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kadanoff import studies
from kadanoff.errors import MissingExtraError, StorageError, UsageError
from kadanoff.studies import Claim, Lab, Study
from kadanoff.studies.claims import Measured, above, equals
from kadanoff.studies.runner import keep, run
from kadanoff.studies.verdicts import tally
from kadanoff.style.figures import figure, house_style
from tests.cli.run import run as cli

CALLS: list[int] = []


def square(x: int) -> dict:
    CALLS.append(x)
    return {"x": x, "square": x * x, "nan": float("nan"), "pair": (1, 2)}


def _work(lab: Lab) -> None:
    lab.plan(3)
    found = [lab.part(f"square {x}", square, x) for x in range(lab.pick(quick=3, full=5))]
    lab.say("What was done", "Squares, $x^2$, of <b>small</b> numbers.")
    with house_style():
        fig, ax = figure()
        ax.plot([f["x"] for f in found], [f["square"] for f in found])
    lab.figure("squares.svg", fig, "Squares $x^2$.")
    lab.figure("squares.png", fig, "The same.")
    lab.table("Squares", ["x", "x²"], [[f["x"], f["square"]] for f in found])
    lab.decide("two", Measured(found[2]["square"], 0.01))
    lab.decide("big", found[-1]["square"])


TINY = Study(
    name="tiny",
    title="Tiny",
    paper="roberts2021",
    summary="Squares.",
    claims=(
        Claim("two", "Two squared is $4$.", equals(4.0), paper_value=4.0, section="What was done"),
        Claim("big", "Squares are large.", above(10.0), "derived"),
        Claim("never", "Nobody looks."),
    ),
    run=_work,
)


def test_a_run_decides_and_a_second_one_computes_nothing(tmp_path: Path) -> None:
    CALLS.clear()
    first = run(TINY, tmp_path)
    assert [c["verdict"] for c in first["claims"]] == ["holds", "fails", "undecided"]
    assert CALLS == [0, 1, 2]
    again = run(TINY, tmp_path)
    assert CALLS == [0, 1, 2]
    ignore = {"finished"}
    assert {k: v for k, v in again.items() if k not in ignore} == {
        k: v for k, v in first.items() if k not in ignore
    }
    page = (tmp_path / "index.html").read_text()
    assert "<math" in page
    assert "&lt;b&gt;" in page
    assert "data:image/png" in page
    assert tally(first["claims"]) == (
        "1 of 2 of the paper's claims hold (1 undecided); 0 of 1 checks of ours holds (1 fails)"
    )


def test_other_settings_are_other_parts(tmp_path: Path) -> None:
    CALLS.clear()
    run(TINY, tmp_path)
    run(TINY, tmp_path, seed=1)
    assert len(CALLS) == 6
    broken = next((tmp_path / "parts").glob("square-1-*.json"))
    broken.write_text("{half")
    run(TINY, tmp_path, seed=1)
    assert CALLS[6:] == [1]


def test_a_number_for_each_criterion(tmp_path: Path) -> None:
    lab = Lab(TINY.claims, tmp_path)
    assert lab.decide("two", Measured(4.03, 0.01)) == "holds"
    assert lab.decide("two", Measured(4.05, 0.01)) == "fails"
    with pytest.raises(KeyError, match="states no claim 'other'"):
        lab.decide("other", 1.0)
    with pytest.raises(UsageError, match="1 criteria and got 2 numbers"):
        lab.decide("two", 1.0, 2.0)


def test_what_is_kept_can_be_shown_without_the_parts(tmp_path: Path) -> None:
    run(TINY, tmp_path / "run", size="full")
    target = keep(tmp_path / "run", tmp_path / "kept")
    assert sorted(p.name for p in target.iterdir()) == [
        "result.json", "squares.png", "squares.svg",
    ]  # fmt: skip


def test_a_missing_extra_is_named_before_anything_runs(tmp_path: Path) -> None:
    needy = Study("needy", "Needy", "x", "", (), _work, extra="quantum", modules=("no_such_pkg",))
    with pytest.raises(MissingExtraError, match=r"pip install .*pennylane"):
        run(needy, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bad_settings(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No size 'huge'"):
        run(TINY, tmp_path, size="huge")
    with pytest.raises(UsageError, match="device 'warp'"):
        run(TINY, tmp_path, device="warp")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="--out"):
        run(TINY, tmp_path / "file" / "out")


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["study", "run", "no-such-study"], "There is no study 'no-such-study'"),
        (["study", "run", "x", "--quick", "--full"], "exclude each other"),
        (["study", "run", "x", "--keep"], "--keep is for full runs"),
        (["study", "show", "no-such-study"], "Choose one of"),
    ],
)
def test_wrong_calls_say_what_to_do(arguments: list[str], words: str, capsys) -> None:
    code, _, err = cli(capsys, *arguments)
    assert code == 2
    assert words in " ".join(err.split())


KILLED = """
import sys, time, pathlib
from kadanoff.studies import Claim, Study
from kadanoff.studies.claims import equals
from kadanoff.studies.runner import run

def slow(x):
    time.sleep(0.3)
    return x

def work(lab):
    for x in range(20):
        lab.part(f"slow {x}", slow, x)
    lab.decide("a", 1.0)

out = pathlib.Path(sys.argv[1])
print(run(Study("k", "K", "p", "", (Claim("a", "A.", equals(1.0)),), work), out)["seconds"])
"""


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    out = tmp_path / "out"
    process = subprocess.Popen([sys.executable, str(script), str(out)])
    deadline = time.time() + 60
    while len(list(out.glob("parts/*.json"))) < 3 and time.time() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = {p: p.stat().st_mtime_ns for p in out.glob("parts/*.json")}
    assert 3 <= len(done) < 20
    assert not (out / "result.json").exists()
    subprocess.run([sys.executable, str(script), str(out)], check=True, stdout=subprocess.DEVNULL)
    assert json.loads((out / "result.json").read_text())["claims"][0]["verdict"] == "holds"
    assert all(p.stat().st_mtime_ns == t for p, t in done.items())


def test_every_study_states_its_claims_once() -> None:
    found = studies.all()
    assert len({s.name for s in found}) == len(found)
    for study in found:
        ids = [c.id for c in study.claims]
        assert len(set(ids)) == len(ids) > 0
        for claim in study.claims:
            assert claim.text.endswith(".")
            assert claim.section, claim.id
            assert [c for c in claim.tests if not c.condition], f"{claim.id} can never be decided"
        assert study.summary.count(".") >= 1
        assert study.paper


def test_numbers_for_readers() -> None:
    from kadanoff.studies.page import number

    assert number([65535.0, 136, 0.5, 2.153461]) == "65535, 136, 0.5, 2.15346"
    assert [number(v) for v in (None, True, 1.0169e-16, "1/4")] == ["–", "yes", "1.0169e-16", "1/4"]
    assert number(1.1132, 0.0091) == "1.113(9)"

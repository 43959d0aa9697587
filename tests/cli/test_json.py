"""``--json`` of every command is one envelope, printed or written.

The commands are read off the application itself: a new one without a case here fails.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from tests.cli.run import run

NET = "examples/deep_tanh.py:critical"
SMALL = ("--kwargs", '{"depth": 3, "width": 16}', "--batch", "24")
TOY = '{"n_symbols": 128, "length": 256, "d": 16, "m": 32, "layers": 2}'
BIB = "@misc{k, title={A title of some length}, author={A B}, year=2001}"

# a small call of each command; {} is a folder of its own
CASES: dict[str, tuple[str, ...]] = {
    "diagnose": (NET, *SMALL),
    "watch": (NET, *SMALL, "--steps", "4"),
    "tune": (NET, *SMALL),
    "critical": ("relu",),
    "flow": ("--depth", "2", "--width", "8"),
    "ensemble": ("--depth", "2", "--width", "8", "--networks", "256"),
    "compare": ("--depth", "2", "--width", "8", "--networks", "1024", "--observables", "K,V"),
    "kernel": ("--data", "wine", "--samples", "6", "--out", "{}/gram.npz"),
    "predict": ("--train", "6", "--test", "2", "--width", "16"),
    "transfer": ("--widths", "8,16", "--depths", "2", "--steps", "10", "--data", "wine"),
    "sparsity": ("kadanoff.studies.lazy_neurons.toy:Decoder", "--kwargs", TOY, "--batch", "2"),
    "study list": (),
    "study run": ("exact-priors", "--quick", "--out", "{}/study"),
    "study show": ("exact-priors",),
    "atlas": ("--no-browser", "--port", "0", "--data-dir", "{}/atlas"),
    "atlas add": ("{}/paper.bib", "--data-dir", "{}/atlas"),
    "atlas export": ("--data-dir", "{}/atlas"),
    "atlas import": ("{}/atlas.json", "--data-dir", "{}/atlas"),
    "cite": (),
    "doctor": (),
}
# these say "study": the envelope is that of the result.json of a run
KINDS = {"study run": "study", "study show": "study"}
# nothing is drawn at random
WITHOUT_SEED = {"critical", "study list", "cite", "doctor"} | {
    n for n in CASES if n.startswith("atlas")
}


def commands() -> dict[str, Any]:
    """Every command of the application by its words, groups that do something themselves too."""
    from kadanoff.cli.app import app

    found: dict[str, Any] = {}

    def walk(command: Any, words: tuple[str, ...]) -> None:
        subcommands = getattr(command, "commands", None)
        if words and (subcommands is None or command.invoke_without_command):
            found[" ".join(words)] = command
        for name in subcommands or ():
            walk(command.commands[name], (*words, name))

    walk(get_command(app), ())
    return found


def test_each_command_has_a_case() -> None:
    assert set(commands()) == set(CASES)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the cases read, and stand-ins for what serves for ever or takes a minute."""
    from kadanoff.atlas import server
    from kadanoff.studies import runner

    (tmp_path / "paper.bib").write_text(BIB)
    monkeypatch.setattr(server, "serve", lambda app, sock: sock.close())
    kept = runner.kept("exact-priors")
    assert kept is not None
    document = json.loads((kept / "result.json").read_text("utf-8"))
    monkeypatch.setattr(runner, "run", lambda *_, **__: document)
    return tmp_path


def check(name: str, tree: Any) -> None:
    assert isinstance(tree, dict)
    assert list(tree)[:4] == ["schema_version", "kind", "versions", "seed"]
    assert isinstance(tree["schema_version"], int)
    assert tree["kind"] == KINDS.get(name, name)
    assert set(tree["versions"]) == {"kadanoff", "torch", "python"}
    assert all(tree["versions"].values())
    assert (tree["seed"] is None) == (name in WITHOUT_SEED)
    assert len(tree) > 4, "an envelope with nothing in it"


@pytest.mark.parametrize("name", CASES)
def test_json_is_the_envelope_printed_and_written(
    capsys: pytest.CaptureFixture[str], folder: Path, name: str
) -> None:
    call = [*name.split(), *(words.replace("{}", str(folder)) for words in CASES[name])]
    if name == "atlas import":
        assert run(capsys, "atlas", "export", folder / "atlas.json", *call[3:])[0] == 0
    code, out, err = run(capsys, *call, "--json")
    assert code in (0, 1), err
    printed = json.loads(out)
    check(name, printed)
    if name == "atlas":  # its one line is for whoever waits for the address
        assert len(out.splitlines()) == 1
        return
    if name == "atlas export":  # its file is the export itself
        return
    file = folder / "result.json"
    code, out, err = run(capsys, *call, "--json", file)
    assert code in (0, 1), err
    written = json.loads(file.read_text("utf-8"))
    check(name, written)
    assert set(written) == set(printed)
    assert out.strip(), "tables are for people, who still read the terminal"


@pytest.mark.parametrize("name", CASES)
def test_help_shows_json_and_an_example(capsys: pytest.CaptureFixture[str], name: str) -> None:
    code, out, _ = run(capsys, *name.split(), "--help")
    assert code == 0
    assert "--json" in out
    assert "Example" in out
    usage = out.lower().split("usage:")[1].split("\n")[0]
    assert "json" not in usage

"""Every example runs through the command line and gets the verdict it was made for."""

from __future__ import annotations

import json

import pytest

from tests.cli.run import run
from tests.needs import needs

CASES = [
    ("deep_tanh.py:default", "digits", 1),
    ("deep_tanh.py:critical", "digits", 0),
    ("relu_mlp.py:he", "breast_cancer", 0),
    # dies with depth, and says so; that it learns all the same, the trial shows (below)
    ("relu_mlp.py:default", "breast_cancer", 0),
    ("small_cnn.py:he", "digits", 0),
    ("small_cnn.py:default", "digits", 0),
    ("resnet.py:small", "digits", 0),
    ("transformer.py:pre_ln", "text", 0),
    ("transformer.py:post_ln", "text", 0),
    ("huggingface.py:gpt2", "text", 0),
    ("huggingface.py:llama", "text", 0),
]


@pytest.mark.parametrize(("target", "data", "expected"), CASES)
def test_example(capsys, tmp_path, target, data, expected):
    if target.startswith("huggingface"):
        needs("transformers", "hf")
    html, file = tmp_path / "report.html", tmp_path / "report.json"
    code, out, err = run(
        capsys, "diagnose", f"examples/{target}", "--data", data,
        "--batch", "16" if data == "text" else "64", "--html", html, "--json", file,
    )  # fmt: skip
    tree = json.loads(file.read_text()) if file.exists() else {}
    said = [f["sentence"] for f in tree.get("findings", [])]
    assert code == expected, (said, err)
    assert tree["layers"]
    assert "<svg" in html.read_text()
    assert tree["verdict"][:20] in out.replace("\n", " ") or tree["verdict"][1:20] in out


def test_what_a_trial_shows_to_be_harmless_is_a_finding_without_it(capsys, tmp_path):
    file = tmp_path / "report.json"
    call = ("diagnose", "examples/relu_mlp.py:default", "--data", "breast_cancer", "--try", "0")
    code, _, err = run(capsys, *call, "--batch", "64", "--json", file)
    tree = json.loads(file.read_text())
    assert code == 1, err
    assert any("ordered" in f["sentence"] for f in tree["findings"] if f["severity"] != "note")


def test_regression_with_the_ntk_of_a_module():
    from examples.ntk_regression import main

    scores = main(train=40, test=20)
    assert scores["NTK"] > 0.5

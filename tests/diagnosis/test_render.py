"""A diagnosis in the terminal, as HTML and as JSON."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from rich.console import Console

from tests.diagnosis.sick import sick


def shown(diagnosis, width=100, encoding="utf-8"):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    Console(file=stream, width=width, force_terminal=False).print(diagnosis)
    stream.seek(0)
    return stream.read()


@pytest.mark.parametrize("width", [60, 80, 100, 160])
@pytest.mark.parametrize("depth", [2, 30, 60])
def test_terminal_is_at_most_100_columns_with_the_verdict_first(width, depth):
    text = shown(sick(depth), width)
    lines = text.splitlines()
    assert max(len(line) for line in lines) <= min(width, 100)
    assert "Ordered" in lines[0]
    assert text.index("critical:") > text.index("layer")
    assert "kadanoff.tune" in text
    assert ("more)" in text) == (depth > 34)


def test_terminal_in_ascii():
    text = shown(sick(), encoding="ascii")
    assert text.isascii()
    assert "chi_perp = 0.33(1)" in text


def test_terminal_without_colour():
    assert "\x1b" not in shown(sick())


class Checker(HTMLParser):
    """Balanced tags, unique ids, nothing from outside."""

    VOID = ("meta", "br", "hr", "img", "link", "input")

    def __init__(self):
        super().__init__()
        self.stack, self.ids, self.outside = [], [], []

    def handle_starttag(self, tag, attrs):
        for key, value in attrs:
            if key == "id":
                self.ids.append(value)
            if key in ("src", "href", "xlink:href") and not (value or "").startswith("#"):
                self.outside.append(value)
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.stack.pop()

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag


@pytest.mark.parametrize("describable", [True, False])
def test_html_is_one_valid_file_without_outside_references(tmp_path, describable):
    diagnosis = sick(8, describable)
    diagnosis = replace(diagnosis, model="<b>&'Model")
    diagnosis.to_html(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    checker = Checker()
    checker.feed(text)
    assert not checker.stack
    assert len(set(checker.ids)) == len(checker.ids)
    assert not checker.outside
    assert not re.search(r"https?://(?!www\.w3\.org)", text)
    assert "<b>&'Model" not in text
    assert "&lt;gain&gt; is 0.33" in text
    assert "prefers-color-scheme: dark" in text
    for heading in ("Magnitude", "Correlation", "Gradient", "Sparsity"):
        assert f"<h3>{heading}" in text
    assert text.count("<figcaption>") == text.count('role="img"') >= 6
    assert ("theory</text>" in text) == describable  # text stays text in the drawings
    assert list(tmp_path.iterdir()) == [tmp_path / "report.html"]


def test_json_is_the_whole_tree(tmp_path):
    sick().to_json(tmp_path / "report.json")
    tree = json.loads((tmp_path / "report.json").read_text())
    assert tree["schema_version"] == 1
    assert len(tree["layers"]) == 30
    assert tree["exit_code"] == 1
    assert tree["layers"][0]["second_moment"]["predicted"] == pytest.approx(0.33)

"""A diagnosis in the terminal, as HTML and as JSON."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from rich.console import Console

from kadanoff.report import figures
from kadanoff.report.page import Section, callout, page, table
from tests.report.sick import sick


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


def test_palette_is_readable_on_both_backgrounds():
    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for theme in (0, 1):
        background = luminance(figures.COLOURS["surface"][theme])
        for role, values in figures.COLOURS.items():
            if role in ("grid", "surface"):
                continue
            high, low = sorted((background, luminance(values[theme])), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= 4.5, role
    assert len({v[0] for v in figures.COLOURS.values()}) == len(figures.COLOURS)


def test_figures_are_reproducible_and_leave_settings_alone(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)

    def draw():
        with figures.style():
            fig, ax = figures.figure()
            figures.points(ax, [1, 2], [1.0, 2.0], [0.1, 0.2])
            figures.save(fig, tmp_path / "a", ("svg",))
            return figures.to_svg(fig, "a <title>", "what it shows")

    first, file = draw(), (tmp_path / "a.svg").read_bytes()
    assert draw() == first
    assert (tmp_path / "a.svg").read_bytes() == file
    assert "var(--kd-measured" in first
    assert "a &lt;title&gt;" in first
    assert dict(matplotlib.rcParams) == before


def test_page_escapes_everything():
    text = page(
        "<x>", [Section("<y>", table(["<a>"], [["<c>"]], "<d>"))], verdict=callout("bad", "<z>")
    )
    assert not re.search(r"<[xyzacd]>", text)

"""The house style of figures and pages."""

from __future__ import annotations

import re

from kadanoff.style import figures
from kadanoff.style.html import Section, callout, page, table


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
        with figures.house_style():
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

"""Diagrams as TikZ: every leg, line, neuron and blob is there, and TeX can set it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from kadanoff import diagrams
from kadanoff.errors import UsageError


@pytest.mark.parametrize(("k", "loops"), [(1, 1), (2, 0), (2, 1), (3, 0), (4, 0)])
def test_every_part_is_drawn(k: int, loops: int) -> None:
    shown = diagrams.generate(k, loops)
    picture = diagrams.to_tikz(shown)
    assert picture.count(r"\begin{scope}") == picture.count(r"\end{scope}") == len(shown)
    assert picture.count(r"\draw[leg]") == sum(sum(d.legs) for d in shown)
    assert picture.count(r"\draw[line]") == sum(sum(d.lines) for d in shown)
    assert picture.count(r"\node[neuron]") == sum(len(d.legs) for d in shown)
    assert picture.count(r"\node[blob]") == sum(len(d.blobs) for d in shown)
    assert picture.count("{") == picture.count("}")
    ranks = sorted(int(r) for r in re.findall(r"\\kappa_\{(\d+)\}", picture))
    assert ranks == sorted(sum(column) for d in shown for column, _ in d.blobs)


def test_places_are_those_of_the_plot() -> None:
    diagram = diagrams.generate(3)[-1]
    ax = diagrams.draw(diagram).axes[0]
    neurons = [line.get_xydata()[0].tolist() for line in ax.lines if line.get_markersize() == 6.5]
    number = r"(-?\d+\.\d+)"
    found = re.findall(rf"\\node\[neuron\] at \({number}, {number}\)", diagrams.to_tikz(diagram))
    assert [[float(x), float(y)] for x, y in found] == neurons


def test_nothing_to_draw() -> None:
    with pytest.raises(UsageError, match="no diagram"):
        diagrams.to_tikz([])


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex on this machine")
def test_tex_sets_it(tmp_path: Path) -> None:
    picture = diagrams.to_tikz(diagrams.recursion(3, 1))
    document = (
        "\\documentclass{article}\\usepackage{tikz}\\begin{document}\\thispagestyle{empty}"
        f"\\resizebox{{\\textwidth}}{{!}}{{{picture}}}\\end{{document}}"
    )
    (tmp_path / "a.tex").write_text(document)
    done = subprocess.run(
        ["pdflatex", "-halt-on-error", "a.tex"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-800:]
    assert (tmp_path / "a.pdf").stat().st_size > 1000

"""What the site needs beside Markdown: formulas as MathML, the benchmark page, the gallery."""

from __future__ import annotations

import html
import importlib.util
import inspect
import json
import pkgutil
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

from kadanoff.studies.claims import SOURCES
from kadanoff.studies.page import measure, number
from kadanoff.studies.registry import all as studies
from kadanoff.studies.runner import kept
from kadanoff.studies.verdicts import tally
from kadanoff.style.markup import math

ROOT = Path(__file__).parent.parent
_MODULES = re.compile(r"<!-- modules of (.*?) -->")
_INSTALL = re.compile(r"<!-- install(?: (\w+))? -->")
_FENCE = re.compile(r"^```(\w+) ([^\n]+)$", re.M)
_FORMULA = re.compile(r'<(span|div) class="arithmatex">(.*?)</\1>', re.S)


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made from results kept elsewhere."""
    files.append(File.generated(config, "benchmarks.md", content=_benchmarks()))
    files.append(File.generated(config, "gallery.md", content=_gallery()))
    for name, content in _findings():
        files.append(File.generated(config, name, content=content))
    files.append(File.generated(config, "reference/commands.md", content=_commands()))
    for study in studies():
        folder = kept(study.name)
        for picture in sorted(folder.iterdir()) if folder else []:
            if picture.suffix in (".svg", ".png"):
                name = f"studies/{study.name}/{picture.name}"
                files.append(File.generated(config, name, content=picture.read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Any = None, **_: Any) -> str:
    """Put in docstrings of modules and how to install where a page asks; name files over code.

    A page that shows outputs is run for them, and what it says of them is checked, when the site
    is built (then ``page`` is given).
    """
    if page is not None and "<!-- output: " in markdown:
        markdown = _with_outputs(markdown)

    def expand(match: re.Match[str]) -> str:
        return "\n\n".join(
            "\n\n".join([_heading(package), *(f"::: {name}" for name in modules(package))])
            for package in match.group(1).split()
        )

    markdown = _INSTALL.sub(lambda match: install(match.group(1) or ""), markdown)
    return _MODULES.sub(expand, _FENCE.sub(_fence, markdown))


def _with_outputs(markdown: str) -> str:
    spec = importlib.util.spec_from_file_location("execution", ROOT / "docs" / "execution.py")
    assert spec is not None
    assert spec.loader is not None
    execution = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = execution  # dataclasses look themselves up there
    spec.loader.exec_module(execution)
    with tempfile.TemporaryDirectory() as folder:
        return execution.shown(markdown, execution.run(markdown, Path(folder)))


def install(extra: str = "") -> str:
    """How to install, said in one file for all pages; with an extra, that one."""
    said = (ROOT / "docs" / "includes" / "install.md").read_text("utf-8").strip()
    return said.replace("pip install .", f"pip install '.[{extra}]'") if extra else said


def _fence(match: re.Match[str]) -> str:
    """Leave of a block's words what the site understands: the rest is for the tests."""
    file = re.search(r"file=(\S+)", match.group(2))
    return f"```{match.group(1)}" + (f' title="{file.group(1)}"' if file else "")


def modules(package: str) -> list[str]:
    """The modules of a package by their full names, without importing any."""
    folder = ROOT / "src" / Path(*package.split("."))
    return [
        f"{package}.{info.name}"
        for info in pkgutil.iter_modules([str(folder)])
        if not info.ispkg and not info.name.startswith("_")
    ]


def _heading(package: str) -> str:
    return f"::: {package}\n    options:\n      members: false"


def on_page_content(content: str, **_: Any) -> str:
    """Formulas as MathML: no script, and a screen reader can read them."""

    def replace(match: re.Match[str]) -> str:
        tex = html.unescape(match.group(2)).strip()
        inner, display = tex[2:-2], tex.startswith(r"\[")
        return math(inner.strip(), display)

    return _FORMULA.sub(replace, content)


def on_post_build(config: Any) -> None:
    """The images of the README, which the pages share."""
    shutil.copytree(
        ROOT / "docs" / "images", Path(config["site_dir"]) / "images", dirs_exist_ok=True
    )


def _commands() -> str:
    """Every command with its options, as `--help` shows them."""
    from typer.main import get_command

    from kadanoff.cli.app import COMMANDS, app

    group: Any = get_command(app)
    lines = [
        "# Commands",
        "",
        "Each takes `--help`; `--debug` shows the traceback of an error.",
        "",
    ]
    for name in COMMANDS:
        command = group.get_command(None, name)
        lines += _command(f"kadanoff {name}", command)
        for sub, inner in getattr(command, "commands", {}).items():
            lines += _command(f"kadanoff {name} {sub}", inner)
    return "\n".join(lines)


def _command(name: str, command: Any) -> list[str]:
    said = inspect.cleandoc(command.help or "")
    example = command.epilog or ""
    rows = []
    for p in command.params:
        if getattr(p, "hidden", False) or p.name == "help":
            continue
        if p.param_type_name == "argument":
            words = p.metavar or p.name.upper()
        else:
            words = ", ".join([*p.opts, *p.secondary_opts])
        plain = isinstance(p.default, (int, float, str, Path)) and p.default is not False
        default = f"`{p.default}`" if plain and p.default != "" else ""
        about = (getattr(p, "help", None) or "").replace("|", r"\|")
        rows.append(f"| `{words}` | {about} | {default} |")
    table = ["| option | meaning | default |", "|---|---|---|", *rows, ""] if rows else []
    return [f"## {name}", "", said, "", *([example, ""] if example else []), *table]


def _findings() -> list[tuple[str, str]]:
    """The catalogue of findings: a page a kind, with a net that has it, as it is and repaired."""
    import kadanoff.watching.rules  # noqa: F401  enters its kinds into the catalogue
    from kadanoff.diagnosis.catalogue import every_kind, page

    kept = ROOT / "benchmarks" / "results" / "faults.json"
    rows = json.loads(kept.read_text("utf-8"))["rows"] if kept.exists() else []
    pages, lines = [], []
    for kind in every_kind():
        shown = next((r for r in rows if kind.code in r["wanted"] and "repaired" in r), None)
        picture = ""
        if shown is not None:
            pages.append((f"findings/{kind.code}.svg", _courses(shown)))
            picture = (
                f"![Loss of a net with this fault and of the same net repaired]({kind.code}.svg)"
                f"\n\nFrom the [benchmark](../benchmarks.md): *{shown['name'].replace('_', ' ')}*, "
                f"score {shown['as_it_is']['score']:.2f} as it is and "
                f"{shown['repaired']['score']:.2f} repaired."
            )
        pages.append((f"findings/{kind.code}.md", page(kind, picture)))
        lines.append(f"| {kind.id} | [{kind.code}]({kind.code}.md) | {kind.title} |")
    head = (
        "# Findings\n\nWhat `kadanoff diagnose` can find, and from KD1501 on "
        "`kadanoff.watch`, by number. A finding is **critical** if "
        "a net that has it does not train with the ordinary recipe, a **warning** if it trains "
        "slowly or only with care, a **note** if it is a fact. Causes stand before their "
        "consequences. `kadanoff diagnose --explain KD101` prints a page.\n\n"
        "| number | name | |\n|---|---|---|\n"
    )
    pages.append(("findings/index.md", head + "\n".join(lines) + "\n"))
    return pages


def _courses(row: dict[str, Any]) -> str:
    """Loss against step of a faulty net and of the repaired one."""
    from kadanoff.style.figures import figure, house_style, to_svg

    with house_style():
        fig, ax = figure(width=5.6, height=3.0)
        for name, label in (("as_it_is", "as it is"), ("repaired", "repaired")):
            losses = [x for x in row[name]["losses"] if x is not None]
            ax.plot(range(0, 5 * len(losses), 5), losses, label=label)
        positive = all(x > 0 for n in ("as_it_is", "repaired") for x in row[n]["losses"] if x)
        if positive:
            ax.set_yscale("log")
        ax.set_xlabel("step")
        ax.set_ylabel("loss")
        ax.legend(loc="best")
        return to_svg(fig, "Loss by step", f"The net {row['name']} as it is and repaired.")


def _benchmarks() -> str:
    return (ROOT / "benchmarks" / "README.md").read_text("utf-8")


def _gallery() -> str:
    lines = [
        "# Studies",
        "",
        "Each study states the claims of a paper as data, computes what they speak of with this "
        "library, and decides each with a number and its error. These are the full runs that come "
        "with the package; `kadanoff study run NAME` repeats one, and `kadanoff atlas` shows it "
        "beside its paper.",
        "",
    ]
    for study in studies():
        lines += [f"## {study.title}", "", study.summary, ""]
        folder = kept(study.name)
        if folder is None:
            lines += [f"`kadanoff study run {study.name} --full` (no full run is kept yet)", ""]
            continue
        result = json.loads((folder / "result.json").read_text("utf-8"))
        lines += [f"**{tally(result['claims'])}.** `kadanoff study run {study.name} --full`", ""]
        if study.lead:
            lines += [study.lead, ""]
        head = ("claim", "whose", "verdict", "paper prints", "ours", "held against")
        lines += ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
        for c in result["claims"]:
            measured = [measure(m) for m in c.get("measured", ())]
            cells = [
                c["text"],
                SOURCES.get(c["source"], c["source"]),
                c["verdict"],
                number(c["paper_value"]),
                "; ".join(value for _, value, _ in measured) or "–",
                "; ".join(f"{name}: {asked}" if name else asked for name, _, asked in measured)
                or c.get("open", ""),
            ]
            lines.append("| " + " | ".join(x.replace("|", r"\|") for x in cells) + " |")
        lines.append("")
        for figure in result["figures"]:
            alt = figure["caption"].split(". ")[0].replace("[", "(").replace("]", ")")
            alt = alt.replace("$", "").replace("\\", "")
            lines += [
                f"![{alt}](studies/{study.name}/{figure['file']})",
                "",
                figure["caption"],
                "",
            ]
    return "\n".join(lines)

"""``kadanoff cite``: BibTeX of the software and of the works it rests on."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Annotated

import typer

from kadanoff import __version__
from kadanoff.cli.output import JsonOptions, Output
from kadanoff.errors import UsageError

if TYPE_CHECKING:
    from kadanoff.atlas.papers import Paper

__all__ = ["command"]

_SOFTWARE = f"""@software{{kadanoff,
  title = {{{{Kadanoff: the effective theory of deep networks as a working tool}}}},
  author = {{{{The Kadanoff developers}}}},
  year = {{2026}},
  version = {{{__version__}}},
  license = {{Apache-2.0}}
}}
"""
# the book whose conventions are ours
_BOOK = "pdlt2021"


def command(
    result: JsonOptions,
    of: Annotated[
        list[str] | None,
        typer.Option(
            help="A study (lazy-neurons) or a work of the atlas (banta2023); may be repeated."
        ),
    ] = None,
) -> None:
    """Print BibTeX of Kadanoff and of the book whose conventions it keeps, or of named works.

    Example: `kadanoff cite --of lazy-neurons >> refs.bib`
    """
    from kadanoff.atlas.exports import bibtex

    output = Output("cite", result)
    known = _works()
    found = [_work(name, known) for name in of] if of else [known[_BOOK]]
    entries = bibtex(found)
    text = entries if of else f"{_SOFTWARE}\n{entries}"
    output.write({"bibtex": text, "works": [paper.id for paper in found]})
    if output.for_people:
        typer.echo(text, nl=False)
    output.say_where()


def _works() -> dict[str, Paper]:
    """The bundled works by key."""
    from kadanoff.atlas.identity import Identifier
    from kadanoff.atlas.papers import Paper
    from kadanoff.atlas.seed import facts

    found: dict[str, Paper] = {}
    for item in facts()["works"]:
        numbers = [Identifier(name, item[name]) for name in ("arxiv", "doi") if item.get(name)]
        found[item["key"]] = Paper(
            id=item["key"],
            title=item["title"],
            authors=tuple(item.get("authors", ())),
            year=item.get("year"),
            venue=item.get("venue"),
            summary=None,
            abstract=None,
            url=item.get("url"),
            citations=None,
            identifiers=tuple(numbers),
            other_titles=(),
        )
    return found


def _work(name: str, known: dict[str, Paper]) -> Paper:
    from kadanoff.atlas.studies import Registry

    studies = {study.name: study.paper_id for study in Registry().all()}
    key = studies.get(name, name)
    if key in known:
        return known[key]
    near = difflib.get_close_matches(name, [*studies, *known], n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    raise UsageError(
        f"There is no study and no bundled work {name!r}.",
        f"{hint}Studies: kadanoff study list; works: kadanoff atlas.",
    )

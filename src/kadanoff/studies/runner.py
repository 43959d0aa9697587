"""Run a study: parts, decisions, ``result.json`` and the page."""

from __future__ import annotations

import datetime
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kadanoff.errors import UsageError, require_extra
from kadanoff.files import atomic_write, make_folder, write_json
from kadanoff.studies.lab import Lab
from kadanoff.studies.registry import get
from kadanoff.studies.study import SIZES, Study
from kadanoff.studies.verdicts import as_row

__all__ = ["KEPT", "keep", "kept", "run"]

KEPT = Path(__file__).parent / "results"


def run(
    study: str | Study,
    out: str | os.PathLike[str],
    *,
    size: str = "quick",
    seed: int = 0,
    device: str = "cpu",
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, Any]:
    """Run a study into a folder; a run that was killed goes on where it was.

    Parameters
    ----------
    study : str or Study
    out : path
        Gets ``result.json``, ``index.html``, the figures and the finished parts.
    size : {"quick", "full"}
        About a minute, or the real size.
    seed : int
    device : str
        ``"cpu"`` or ``"cuda"``.
    progress : callable, optional
        ``progress(done, total, message)``.

    Returns
    -------
    dict
        What ``result.json`` holds.

    Raises
    ------
    UsageError
        No such study, size or device.
    MissingExtraError
        It needs an optional package; the message names the extra.
    StorageError
        The disk is full or the folder cannot be written; finished parts are kept.
    """
    from kadanoff.devices import chosen
    from kadanoff.studies.page import study_page
    from kadanoff.style.json import envelope

    found = get(study) if isinstance(study, str) else study
    if size not in SIZES:
        raise UsageError(f"No size {size!r}.", "Choose quick or full.")
    chosen(device)
    for module in found.modules:
        require_extra(module, found.extra or "")
    folder = make_folder(out, "Name another one with --out.")
    lab = Lab(found.claims, folder, size=size, seed=seed, device=device, progress=progress)
    found.run(lab)
    document = envelope("study", _document(found, lab), seed=seed)
    atomic_write(folder / "index.html", study_page(document, folder))
    # last: whoever sees result.json finds everything it names
    write_json(folder / "result.json", document)
    return document


def _document(study: Study, lab: Lab) -> dict[str, Any]:
    claims = [as_row(claim, lab.decisions.get(claim.id)) for claim in study.claims]
    return {
        "name": study.name,
        "title": study.title,
        "paper": study.paper,
        "summary": study.summary,
        "lead": study.lead,
        "lead_figure": study.lead_figure,
        "size": lab.size,
        "device": lab.device,
        "seconds": round(lab.seconds, 1),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "claims": claims,
        "figures": [
            {"file": b["file"], "caption": b["caption"]}
            for b in lab.blocks
            if b["kind"] == "figure"
        ],
        "blocks": lab.blocks,
    }


def keep(out: str | os.PathLike[str], folder: Path = KEPT) -> Path:
    """Copy the result and figures of a finished run to the results that ship with the package.

    Returns
    -------
    Path
        The folder they are in now.
    """
    source = Path(out)
    document = json.loads((source / "result.json").read_text("utf-8"))
    target = folder / document["name"]
    shutil.rmtree(target, ignore_errors=True)
    make_folder(target, "Only an installation that can be written to keeps results.")
    for figure in document["figures"]:
        shutil.copyfile(source / figure["file"], target / figure["file"])
    shutil.copyfile(source / "result.json", target / "result.json")
    return target


def kept(name: str) -> Path | None:
    """Return the folder of the full result that ships with the package, or None."""
    folder = KEPT / name
    return folder if (folder / "result.json").is_file() else None

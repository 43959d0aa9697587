"""Studies, and the runs that go on."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import FileResponse

from kadanoff.atlas.api.shapes import Name, files, site_of
from kadanoff.atlas.security import SEALED
from kadanoff.atlas.site import Missing
from kadanoff.atlas.studies import Figure

router = APIRouter()


@router.get("/studies")
def list_studies(request: Request) -> list[dict[str, Any]]:
    """The studies of this installation."""
    return [dataclasses.asdict(study) for study in site_of(request).studies.all()]


@router.post("/studies/{name}/runs", status_code=202)
def run_study(request: Request, name: Name) -> dict[str, Any]:
    """Run a study quickly, in a process of its own."""
    return site_of(request).run_study(name).json()


@router.get("/jobs/{number}")
def read_job(request: Request, number: Name) -> dict[str, Any]:
    """How far a run is."""
    job = site_of(request).jobs.get(number)
    if job is None:
        raise Missing(f"There is no run {number[:80]!r}.")
    return job.json()


@router.delete("/jobs/{number}")
def cancel_job(request: Request, number: Name) -> dict[str, Any]:
    """Cancel a run."""
    job = site_of(request).jobs.cancel(number)
    if job is None:
        raise Missing(f"There is no run {number[:80]!r}.")
    return job.json()


@router.get("/jobs/{number}/figures/{index}", responses=files("image/svg+xml", "image/png"))
def figure(request: Request, number: Name, index: Annotated[int, Path(ge=0, le=1000)]) -> Response:
    """A figure of a finished run, by its number."""
    site = site_of(request)
    return _picture(site.figure(site.jobs.out(number), index))


@router.get("/studies/{name}/figures/{index}", responses=files("image/svg+xml", "image/png"))
def kept_figure(
    request: Request, name: Name, index: Annotated[int, Path(ge=0, le=1000)]
) -> Response:
    """A figure of the full run that came with the package, by its number."""
    site = site_of(request)
    return _picture(site.figure(site.studies.kept(site.study(name).name), index))


def _picture(found: Figure) -> Response:
    headers = {"content-security-policy": SEALED, "cache-control": "private, max-age=3600"}
    return FileResponse(found.file, media_type=found.media, headers=headers)

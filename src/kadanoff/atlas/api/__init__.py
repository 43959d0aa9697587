"""The atlas as JSON: everything that the page does, a program can do too.

``shapes``      what goes in and out, and what all of it needs
``reading``     papers, the graph around one, what lies between several, exports
``discussion``  comments
``desk``        note, tags, collections, reading status, files
``library``     imports with a preview, and the whole atlas out and in again
``runs``        studies, and the runs that go on
"""

from __future__ import annotations

from fastapi import APIRouter

from kadanoff.atlas.api import desk, discussion, library, reading, runs
from kadanoff.atlas.api.shapes import may

__all__ = ["router"]

router = APIRouter(prefix="/api", responses=may(404, 422))
for part in (reading, discussion, desk, library, runs):
    router.include_router(part.router)

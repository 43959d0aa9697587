"""The study as the registry finds it."""

from __future__ import annotations

from kadanoff.studies.diffusion_surrogates.claims import CLAIMS
from kadanoff.studies.diffusion_surrogates.page import run
from kadanoff.studies.study import Study

__all__ = ["STUDY"]

STUDY = Study(
    name="diffusion-surrogates",
    title="Surrogates for the diffusion equation",
    paper="toledo2021",
    summary="Networks that replace the stationary diffusion solver of tissue models are trained "
    "and timed against exact solvers: time stepping is slow, a direct solver is not. A surrogate "
    "pays for a few quantities of a non-linear problem asked for many times.",
    extra="surrogates",
    modules=("neuralop",),
    lead="Toledo-Marín and others train networks to replace a diffusion solver and report a "
    "factor of a thousand. The factor compares with time stepping. A direct solver of "
    "the same linear problem is exact and faster than any network, on one core. A "
    "network does learn the field, well below the error of the best constant image; and "
    "a surrogate pays where the problem is non-linear, the questions few and the "
    "queries many.",
    lead_figure="speed.svg",
    claims=CLAIMS,
    run=run,
)

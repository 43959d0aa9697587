"""The studies of this installation."""

from __future__ import annotations

import difflib
import importlib

from kadanoff.errors import UsageError
from kadanoff.studies.study import Study

__all__ = ["all", "get"]

# in reading order: the essay first
_PACKAGES = (
    "sparsity_principle",
    "learnt_sparsity",
    "principles",
    "effective_theories",
    "ntk_diagrams",
    "edge_of_chaos",
    "transformers_at_initialisation",
    "exact_priors",
    "quantum_laziness",
    "lazy_neurons",
    "diffusion_surrogates",
)


def all() -> list[Study]:
    """Return every study, the essay's first."""
    return [importlib.import_module(f"kadanoff.studies.{name}.study").STUDY for name in _PACKAGES]


def get(name: str) -> Study:
    """Return the study of this name.

    Raises
    ------
    UsageError
        There is none; the message lists those there are.
    """
    known = {study.name: study for study in all()}
    if not isinstance(name, str) or name not in known:
        near = difflib.get_close_matches(str(name), known, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise UsageError(
            f"There is no study {name!r}.", f"{hint}Choose one of: {', '.join(known)}."
        )
    return known[name]

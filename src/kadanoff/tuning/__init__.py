"""Tuning: from a diagnosis to an initialisation and torch parameter groups."""

from __future__ import annotations

from kadanoff.tuning.initialise import Change as Change
from kadanoff.tuning.initialise import Initialisation as Initialisation
from kadanoff.tuning.initialise import initialise as initialise
from kadanoff.tuning.tune import tune as tune
from kadanoff.tuning.tuned import Tuned as Tuned
from kadanoff.tuning.tuned import groups_from as groups_from

__all__ = ["Change", "Initialisation", "Tuned", "groups_from", "initialise", "tune"]

"""Tuning: from a diagnosis to an initialisation and torch parameter groups."""

from __future__ import annotations

from kadanoff.tuning.initialise import Change as Change
from kadanoff.tuning.initialise import Initialisation as Initialisation
from kadanoff.tuning.initialise import initialise as initialise
from kadanoff.tuning.tune import tune as tune

__all__ = ["Change", "Initialisation", "initialise", "tune"]

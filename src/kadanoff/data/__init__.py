"""Datasets by name, file or callable: one loader for every command."""

from __future__ import annotations

from kadanoff.data.batch import Batch as Batch
from kadanoff.data.forms import Example as Example
from kadanoff.data.forms import example as example
from kadanoff.data.forms import examples as examples
from kadanoff.data.loading import NAMES as NAMES
from kadanoff.data.loading import load as load
from kadanoff.data.matching import adapt as adapt

__all__ = ["NAMES", "Batch", "Example", "adapt", "example", "examples", "load"]

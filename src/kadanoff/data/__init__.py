"""Datasets by name, file or callable: one loader for every command."""

from __future__ import annotations

from kadanoff.data.adapt import adapt as adapt
from kadanoff.data.batch import Batch as Batch
from kadanoff.data.examples import Example as Example
from kadanoff.data.examples import example as example
from kadanoff.data.examples import examples as examples
from kadanoff.data.load import NAMES as NAMES
from kadanoff.data.load import load as load

__all__ = ["NAMES", "Batch", "Example", "adapt", "example", "examples", "load"]

"""Datasets by name, file or callable: one loader for every command.

``batch``     The one type every loader returns, and the checks every dataset goes through
``built_in``  Data that is there without a network
``files``     Reading arrays and tables from files
``forms``     What a user hands over as data, brought to one form: how the model is called
``loading``   From what the user typed after `--data` to a batch
``matching``  Giving a model the data in the shape and type it wants
``objects``   Finding the object behind `package.module:name` or `path/to/file.py:name`
"""

from __future__ import annotations

from kadanoff.data.batch import Batch as Batch
from kadanoff.data.forms import Example as Example
from kadanoff.data.forms import example as example
from kadanoff.data.forms import examples as examples
from kadanoff.data.loading import NAMES as NAMES
from kadanoff.data.loading import load as load
from kadanoff.data.loading import load_whole as load_whole
from kadanoff.data.matching import adapt as adapt

__all__ = ["NAMES", "Batch", "Example", "adapt", "example", "examples", "load", "load_whole"]

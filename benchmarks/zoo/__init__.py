"""One small collection of model families that every benchmark shares.

``FAMILIES`` names them. A family builds a model from a seed and sizes, draws its data (which
ships with the dependencies or is generated), knows its loss and the recipe a practitioner would
take first; a forward and backward pass takes well under a second on one core::

    from benchmarks import zoo

    family = zoo.FAMILIES["llama"]
    model = family.build(seed=0, width=128, depth=8)
    inputs, targets = family.data(16, seed=0)
    loss = family.run(model, inputs, targets)

- ``family.py``: what a family is.
- ``data.py``: text, digits, tables, pictures, fields, graphs, sets.
- ``hugging_face.py``, ``convolutional.py``, ``sequential.py``, ``plain.py``: the models.
- ``losses.py``: what is minimised.
- ``families.py``: the table that puts them together.
- ``training.py``: the ordinary loop.
"""

from __future__ import annotations

from .families import FAMILIES as FAMILIES
from .family import Family as Family
from .family import Inputs as Inputs
from .family import Recipe as Recipe
from .family import Targets as Targets
from .family import call as call
from .family import logits as logits
from .training import train as train

__all__ = ["FAMILIES", "Family", "Inputs", "Recipe", "Targets", "call", "logits", "train"]

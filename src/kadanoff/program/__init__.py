"""The theory of any module: its own forward pass, run on the law of its weights.

law.py
    From what distribution a parameter is drawn.
initial.py
    That law for every parameter of a model or of a factory's models.
classes.py
    The laws that the classes of a finished model draw from.
drawing.py, draws.py
    Following the tensors of a model while it is built: what is drawn, from which law.
measured.py
    The law of a parameter as far as its entries tell; whether entries agree with a law.
freshness.py
    Whether a model is fresh or trained, from its weights alone.
"""

from __future__ import annotations

from kadanoff.program.freshness import Freshness as Freshness
from kadanoff.program.freshness import looks_trained as looks_trained
from kadanoff.program.initial import Built as Built
from kadanoff.program.initial import Laws as Laws
from kadanoff.program.initial import build as build
from kadanoff.program.initial import laws as laws
from kadanoff.program.law import Law as Law

__all__ = ["Built", "Freshness", "Law", "Laws", "build", "laws", "looks_trained"]

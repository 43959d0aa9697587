"""The theory of any module: its own forward pass, run on the law of its weights.

law.py
    From what distribution a parameter is drawn.
"""

from __future__ import annotations

from kadanoff.program.law import Law as Law

__all__ = ["Law"]

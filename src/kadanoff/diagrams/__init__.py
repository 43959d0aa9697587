"""The diagrammatic calculus of finite networks: generate, evaluate, print and draw diagrams.

Banta, Cai, Craig & Zhang, "Structures of Neural Network Effective Theories" (2023): connected
correlators of preactivations as sums of diagrams in which every loop costs a power of 1/n.

``couplings``    What one neuron contributes to a diagram
``criticality``  One condition for all correlators, where they go off criticality
``drawing``      Drawings of diagrams in the house style
``evaluation``   Diagrams evaluated: connected correlators of every layer, to any order in 1/n
``geometry``     Where the parts of a drawing lie
``labels``       What is drawn, and what stands above it
``recursions``   The sum of diagrams written out: the recursion of a connected correlator
``rules``        The diagrams of connected 2k-point correlators
``tikz``         Diagrams as TikZ, for papers
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kadanoff._lazy import attach

if TYPE_CHECKING:
    from kadanoff.diagrams.couplings import Couplings as Couplings
    from kadanoff.diagrams.criticality import Condition as Condition
    from kadanoff.diagrams.criticality import condition as condition
    from kadanoff.diagrams.criticality import saturation as saturation
    from kadanoff.diagrams.criticality import universal_ratio as universal_ratio
    from kadanoff.diagrams.drawing import draw as draw
    from kadanoff.diagrams.drawing import to_svg as to_svg
    from kadanoff.diagrams.evaluation import Correlators as Correlators
    from kadanoff.diagrams.evaluation import correlators as correlators
    from kadanoff.diagrams.evaluation import evaluate as evaluate
    from kadanoff.diagrams.recursions import Recursion as Recursion
    from kadanoff.diagrams.recursions import recursion as recursion
    from kadanoff.diagrams.rules import Diagram as Diagram
    from kadanoff.diagrams.rules import generate as generate
    from kadanoff.diagrams.tikz import to_tikz as to_tikz

__getattr__, __dir__, __all__ = attach(__name__)

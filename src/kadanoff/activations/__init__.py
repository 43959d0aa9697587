"""Activation functions as the theory needs them: derivatives, kinks, closed-form averages.

``base``         The type: a function of one variable, its derivatives, and where they jump
``closed``       Closed-form averages ⟨σ⁽ᵏ⁾(z₁) σ⁽ᵐ⁾(z₂)⟩ over N(0, [[a, b], [b, c]])
``derivatives``  Derivatives of a callable by automatic differentiation, to any order
``keeping``      Activations in files and pickles
``kinks``        Kinks of a callable: every point where the function or a derivative of it jumps
``library``      The registry, with explicit derivatives where they are simple
``lookup``       Finding an activation from what users write
``piecewise``    PyTorch's piecewise activations, each piece with its explicit derivatives
``recognise``    Recognising the registered activations: by what a module or function is
``branches``     Where a callable changes its formula
"""

import kadanoff.activations.keeping  # teaches pickle and files  # noqa: F401
from kadanoff.activations.base import Activation
from kadanoff.activations.lookup import activation, names

__all__ = ["Activation", "activation", "names"]

"""Activation functions as the theory needs them: derivatives, kinks, closed-form averages."""

from kadanoff.activations.base import Activation
from kadanoff.activations.lookup import activation, names

__all__ = ["Activation", "activation", "names"]

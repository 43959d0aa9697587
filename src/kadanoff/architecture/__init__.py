"""What the theory needs to know of a network, and reading it off a PyTorch model."""

from kadanoff.architecture.network import MLP, Network, Residual
from kadanoff.architecture.reading import describe

__all__ = ["MLP", "Network", "Residual", "describe"]

"""What the theory needs to know of a network, and reading it off a PyTorch model."""

from kadanoff.architecture.describe import describe
from kadanoff.architecture.network import MLP, Network, Residual

__all__ = ["MLP", "Network", "Residual", "describe"]

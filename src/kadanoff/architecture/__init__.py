"""What the theory needs to know of a network, and reading it off a PyTorch model.

``drawing``  Weight matrices drawn from the three laws of a network
``network``  Descriptions of networks: fully connected, with or without skip connections
``reading``  Reading a PyTorch model into the description that the theory works on
"""

from kadanoff.architecture.network import MLP, Network, Residual
from kadanoff.architecture.reading import describe

__all__ = ["MLP", "Network", "Residual", "describe"]

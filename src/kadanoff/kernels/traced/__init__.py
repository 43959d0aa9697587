"""Infinite-width kernels of any module: its own forward, run on kernels instead of tensors.

``attention``    Products of random tensors: attention, and what does not close
``averages``     ⟨σσ⟩ and ⟨σ'σ'⟩ of very many pairs, by maps that are compiled once
``evaluation``   Running a graph of kernels on pairs of samples
``expressions``  What a traced model computed, so that it can be computed again
``laws``         Parameters as kernels see them: a law, and a learning rate
``layout``       Where the samples, positions and channels of a user's tensor are
``maps``         Fresh linear maps: dense layers, convolutions, embeddings
``mode``         The function mode that sees what the model's forward calls
``moves``        Functions that move entries
``nodes``        What an operation does to kernels, entry by entry
``norms``        Normalisation, dropout, pooling and averages
``operations``   The table: what each torch function does to kernels
``pointwise``    Functions entry by entry: activations, sums, products, factors
``positions``    Nodes that move, sum and average positions
``sampled``      What does not close: channels and heads are drawn
``settling``     From what a tensor stands for to a node with a kernel
``symbols``      What a stand-in tensor stands for while a model is traced
``tracing``      From a model and an example of its inputs to a graph of kernels
"""

from kadanoff.kernels.traced.laws import Parameter
from kadanoff.kernels.traced.mode import Refused
from kadanoff.kernels.traced.tracing import Traced, trace

__all__ = ["Parameter", "Refused", "Traced", "trace"]

"""Recording a real model: one recorder that sees every call, observers that make something of it.

``ends``        What a tensor is the output of, seen through views and casts
``fans``        The weight of a linear map, and how many inputs one of its neurons sums over
``graph``       The main chain of a model, read off the autograd graph
``hf``          Outputs as models have them: tensors, tuples, mappings, Hugging Face objects
``jacobians``   Norms of partial Jacobians by random vector-Jacobian products
``layers``      The layers of a forward pass: what each computed, and what stands around it
``losses``      The loss that outputs and targets call for, where the user names none
``operations``  One table of torch operations: names, arguments, weights
``origins``     Where a tensor's numbers come from: the last layers, or parameters alone
``recorder``    One function mode that sees every call and who made it; the observers' base
``roles``       What each layer is for: input, readout, attention, stream, ...
``sandbox``     Run a model and leave no trace
``scripted``    TorchScript as an ordinary module
``statistics``  What is kept of a tensor: a handful of numbers per sample
``units``       Silent, saturated and zero values of activations
"""

from __future__ import annotations

from kadanoff.trace.layers import Call as Call
from kadanoff.trace.layers import Layers as Layers
from kadanoff.trace.layers import record as record
from kadanoff.trace.recorder import Observer as Observer
from kadanoff.trace.recorder import Recorder as Recorder
from kadanoff.trace.recorder import unwrap as unwrap
from kadanoff.trace.sandbox import untouched as untouched

__all__ = [
    "Call",
    "Layers",
    "Observer",
    "Recorder",
    "record",
    "untouched",
    "unwrap",
]

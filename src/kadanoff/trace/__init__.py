"""Recording a real model: one recorder that sees every call, observers that make something of it.

- ``operations``: the table of torch operations; ``fans``: weights and their fan-in
- ``recorder``: the function mode and the stack of modules; ``origins``: where tensors come from
- ``layers``: the list of layers, with statistics; ``roles``: what each layer is for
- ``graph``: the main chain; ``jacobians``: its partial Jacobians
- ``statistics``, ``units``: what is kept of a tensor
- ``losses``: the default loss; ``hf``: outputs of all shapes
- ``sandbox``: leave no trace; ``scripted``: TorchScript as an ordinary module
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

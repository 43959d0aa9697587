"""Recording a real model: every linear, activation, norm and attention call, in order."""

from __future__ import annotations

from kadanoff.trace.recorder import Call as Call
from kadanoff.trace.recorder import Recorder as Recorder
from kadanoff.trace.recorder import record as record
from kadanoff.trace.recorder import unwrap as unwrap
from kadanoff.trace.sandbox import untouched as untouched

__all__ = [
    "Call",
    "Recorder",
    "record",
    "untouched",
    "unwrap",
]

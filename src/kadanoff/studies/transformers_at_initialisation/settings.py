"""The settings that are looked at, named once for claims, parts and pages."""

from __future__ import annotations

from dataclasses import replace

from kadanoff.studies.transformers_at_initialisation.networks import Setting
from kadanoff.studies.transformers_at_initialisation.theory import critical_strength

__all__ = [
    "ALONE",
    "FLAT",
    "GATED",
    "LANGUAGE",
    "NEAR",
    "PLAIN",
    "POST",
    "PRE",
    "PRE_NEAR",
    "REAL",
    "STRENGTHS",
    "TRANSITION",
    "T",
]

T = 8  # tokens
NEAR = 0.9999  # correlation of tokens that start near collapse

_MLP = Setting(512, 24, attention=0.0)
PLAIN = {
    "ReLU, C_U = 1": replace(_MLP, activation="relu"),
    "GELU, C_U = 1": _MLP,
    "SiLU, C_U = 1": replace(_MLP, activation="silu"),
    "tanh, C_U = 1": replace(_MLP, activation="tanh"),
    "tanh, C_U = 4": replace(_MLP, activation="tanh", C_U=4.0),
}
GATED = {
    "SiLU gate (Llama)": replace(_MLP, activation="silu", gated=True),
    "GELU gate": replace(_MLP, gated=True),
}
PRE = Setting(256, 24)
PRE_NEAR = replace(PRE, width=512)  # what is read off near collapse is small
# post-norm stacks: attention alone, and with MLPs
ALONE = tuple(Setting(256, 8, attention=a, mlp=0.0, order="post") for a in (0.5, 1.0))
POST = {
    "ReLU, a = 0.5": Setting(256, 8, attention=0.5, activation="relu", order="post"),
    "GELU, a = 0.5": Setting(256, 8, attention=0.5, order="post"),
    "tanh, a = 0.3": Setting(256, 8, attention=0.3, activation="tanh", C_U=4.0, order="post"),
    "tanh, a = 0.3, m = 2": Setting(
        256, 8, attention=0.3, mlp=2.0, activation="tanh", C_U=4.0, order="post"
    ),
}
_WEAK = Setting(256, 8, attention=0.4, activation="tanh", C_U=4.0, order="post")
TRANSITION = replace(_WEAK, mlp=critical_strength(_WEAK))
STRENGTHS = (0.5, 0.8, 1.25, 2.0)  # of the MLP branch, over the critical one

LANGUAGE = Setting(128, 2, scores=1.0)
REAL = (
    Setting(64, 2, scores=1.0),
    Setting(64, 2, scores=1.0, activation="silu", gated=True, keys=1),
    Setting(64, 2, scores=1.0, activation="tanh", order="post"),
)
FLAT = ("MLP", "Transformer", "ResNet", "LSTM")

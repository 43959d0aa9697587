"""Everything the rules look at, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from kadanoff.architecture import Network
from kadanoff.diagnosis.chain import Trend
from kadanoff.diagnosis.facts import Columns, OptimizerFacts, OutputFacts, TargetFacts
from kadanoff.diagnosis.finite import Origin
from kadanoff.diagnosis.result import (
    Estimate,
    LayerReport,
    ParameterReport,
    TimeReport,
    TrialReport,
)
from kadanoff.diagnosis.sightings import Attention, Cut, LossCall, Normed, StreamSum
from kadanoff.diagnosis.weights import MatrixFacts

__all__ = ["Evidence"]


@dataclass(frozen=True)
class Evidence:
    """What was measured of a model on a batch; every rule reads this and nothing else.

    Attributes
    ----------
    layers, parameters : tuple
        The reports.
    chain : tuple of LayerReport
        Layers that carry the whole signal, without embedding and readout.
    gradient, signal, backward : Trend or None
        See :mod:`kadanoff.diagnosis.chain`.
    arch : Network or None
        The theory's description.
    loss, constant : float or None
        Loss, and that of the best constant output.
    own_loss, stands_in : bool
        Whether the loss is the user's or the model's own; whether it is a random projection.
    loss_calls : tuple of LossCall
    unregistered : tuple of str
        Modules and parameters kept where PyTorch does not see them.
    affine : bool or None
        Whether the whole model is an affine map of its inputs, by trying; None if not tried.
    trained : bool
        Whether the model knows more than a constant, or its weights say so where that is unknown.
    changed : bool
        Whether some weights at least are no random draw any more (a fine-tuned or partly loaded
        net, a new head): the law of random weights is then no measure.
    touched : set of str
        Parameters that took part in the forward pass.
    aside : set of str
        Trainable parameters that reach an output which the loss does not use.
    ladder : tuple of (float, float)
        Other learning rates tried, and where their loss ended.
    expected_loss : Estimate or None
        The loss beside what random weights of these laws give, and their spread.
    edge : float or None
        An upper bound of the largest stable rate, where there was no trial.
    ops : tuple of (str, str, str)
        Kind, operation and module of everything that is not linear without weights, in order.
    """

    layers: tuple[LayerReport, ...] = ()
    parameters: tuple[ParameterReport, ...] = ()
    chain: tuple[LayerReport, ...] = ()
    gradient: Trend | None = None
    signal: Trend | None = None
    backward: Trend | None = None
    batch_normalised: bool = False
    arch: Network | None = None
    model: nn.Module | None = None
    samples: int = 0
    dtype: str = "float32"
    loss: float | None = None
    constant: float | None = None
    loss_name: str = ""
    own_loss: bool = False
    stands_in: bool = False
    loss_calls: tuple[LossCall, ...] = ()
    output: OutputFacts | None = None
    targets: TargetFacts | None = None
    inputs: Columns | None = None
    duplicates: float = 0.0
    padded: Any = None
    attached: bool = True
    trainable: frozenset[str] = frozenset()
    touched: frozenset[str] = frozenset()
    aside: frozenset[str] = frozenset()
    cuts: tuple[Cut, ...] = ()
    unregistered: tuple[str, ...] = ()
    origin: Origin | None = None
    attentions: tuple[Attention, ...] = ()
    sums: tuple[StreamSum, ...] = ()
    norms: tuple[Normed, ...] = ()
    times: tuple[TimeReport, ...] = ()
    matrices: tuple[MatrixFacts, ...] = ()
    trained: bool = False
    changed: bool = False
    affine: bool | None = None
    ops: tuple[tuple[str, str, str], ...] = ()
    optimizer: OptimizerFacts | None = None
    steps: int = 1000
    trial: TrialReport | None = None
    ladder: tuple[tuple[float, float], ...] = ()
    edge: float | None = None
    expected_loss: Estimate | None = None
    constant_targets: bool = False

"""The frozen result of a diagnosis; its renderers (html, plots, terminal) read nothing else."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kadanoff.diagnosis.estimate import Estimate as Estimate
from kadanoff.files import atomic_write, jsonable, write_json
from kadanoff.results import Result, Table

__all__ = [
    "SCHEMA_VERSION",
    "Diagnosis",
    "Estimate",
    "Finding",
    "LayerReport",
    "ParameterReport",
    "TimeReport",
    "TrialReport",
]

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class LayerReport:
    """What was measured at one call of a linear-like layer, in the order of the forward pass.

    Sums of the residual stream that carry the whole signal are listed too (role ``"stream"``).

    Every quantity is an :class:`Estimate`, or None where it has no meaning for this layer.

    Attributes
    ----------
    index : int
        1, 2, ...: place among the recorded linear calls (the book's ℓ for a plain MLP).
    path : str
        Qualified name of the module that made the call (``""`` is the model itself).
    op : str
        Operation: ``"linear"``, ``"addmm"``, ``"conv2d"``, ``"embedding"``, ...
    call_index : int
        0 for the first call of this weight, 1 for its first reuse, ...
    role : str
        ``"input"``, ``"hidden"``, ``"readout"``, ``"attention"``, ``"embedding"``, ``"gate"``,
        ``"shortcut"``, ``"stream"``.
    parameter : str or None
        Name of the weight, None if the weight is no parameter of the model.
    fan_in, fan_out : int
        Inputs of one output neuron; number of output neurons (channels).
    activation : str or None
        Name of the activation applied to this output, None if there is none.
    normalised : bool
        Whether a normalisation layer stands between the previous linear layer and this one, or
        directly after this one.
    residual : bool
        Whether the layer lies on a branch beside the main signal path (a residual block's
        inside, a shortcut, an attention head), so that it does not carry all of the signal.
    mean : Estimate
        Mean of the preactivations z over neurons and samples.
    second_moment : Estimate
        Mean of z² over neurons and samples: the kernel K on the diagonal.
    correlation : Estimate or None
        Mean over pairs of samples of z_a·z_b / |z_a||z_b| (1: the inputs have collapsed).
    kurtosis : Estimate or None
        Excess kurtosis of z across neurons, averaged over samples. At Gaussian initialisation
        the neurons of one network are independent Gaussians and it is 0; the four-point vertex
        V/n is how much ``second_moment`` varies from network to network (its ``spread``).
    jacobian : Estimate or None
        Squared partial-Jacobian norm (1/n) |∂z^(ℓ+1)/∂z^(ℓ)|² from this layer to the next
        on the main signal path; the measured χ⊥. None for layers on branches.
    jacobian_to_output : Estimate or None
        (1/n_out) |∂output/∂z^(ℓ)|², from this layer to the model's output.
    gradient : Estimate or None
        Norm of the gradient of the loss with respect to this layer's weight, over the square root
        of its number of entries (root-mean-square per entry).
    weight_gain : Estimate or None
        fan_in · mean(W²): the measured C_W.
    critical_gain : float or None
        The C_W at which this layer would be critical, None if there is none for its activation.
    dead : Estimate or None
        Fraction of the activation's units that give 0 for every sample of the batch (0 output for
        every input seen; for smooth activations: derivative below 1e-3 and output below 1e-3).
    saturated : Estimate or None
        Fraction of activation values with |σ'| < 0.05 at a bounded activation's plateau.
    zeros : Estimate or None
        Fraction of activation values that are exactly zero.
    near_zeros : Estimate or None
        Fraction of activation values with |a| < 0.01 · root mean square of the layer.
    """

    index: int
    path: str
    op: str
    call_index: int
    role: str
    parameter: str | None
    fan_in: int
    fan_out: int
    activation: str | None
    normalised: bool
    residual: bool
    mean: Estimate
    second_moment: Estimate
    correlation: Estimate | None = None
    kurtosis: Estimate | None = None
    jacobian: Estimate | None = None
    jacobian_to_output: Estimate | None = None
    gradient: Estimate | None = None
    weight_gain: Estimate | None = None
    critical_gain: float | None = None
    dead: Estimate | None = None
    saturated: Estimate | None = None
    zeros: Estimate | None = None
    near_zeros: Estimate | None = None


@dataclass(frozen=True)
class ParameterReport:
    """One parameter: name, shape, root-mean-square value, gradient norm and its rms per entry.

    Attributes
    ----------
    name : str
        Qualified name; ``aliases`` are further names of the same (tied) tensor.
    shape : tuple of int
    rms : float
        Root mean square of the entries.
    gradient_norm : float or None
        Euclidean norm of the gradient of the loss; None if the parameter got no gradient.
    gradient_rms : float or None
        ``gradient_norm / sqrt(number of entries)``.
    aliases : tuple of str
    trainable : bool
        Whether it requires a gradient; frozen parameters are shown without one.
    """

    name: str
    shape: tuple[int, ...]
    rms: float
    gradient_norm: float | None
    gradient_rms: float | None
    aliases: tuple[str, ...] = ()
    trainable: bool = True


@dataclass(frozen=True)
class Finding:
    """Something is wrong (or worth knowing), in plain words.

    Attributes
    ----------
    code : str
        Stable name, e.g. ``"ordered"``; ``id`` is its stable number, e.g. ``"KD1001"``.
    severity : str
        ``"critical"`` (does not train with the ordinary recipe), ``"warning"`` (trains slowly, or
        only with care), ``"note"`` (a fact).
    cost : float
        How much is lost, as a natural logarithm of signal or gradient lost (or blown up) over
        the net; findings of one severity are ranked by it.
    sentence : str
        One sentence with the number, its uncertainty and the threshold.
    remedy : str
        What to do, as concrete as possible (numbers, code).
    layers : tuple of int
        ``index`` of the layers concerned (empty: the whole net).
    value, stderr, threshold : float
        The number the sentence speaks of, its uncertainty, and the limit it broke.
    id : str
        Number of the kind in the catalogue of findings.
    cause : str
        Why it is bad, in one sentence.
    where : tuple of str
        Module paths or parameter names concerned.
    because_of : tuple of str
        Codes of the findings this one is a consequence of; empty for a cause.
    docs : str
        Its page in the documentation.
    about : str
        That page as text, a line a paragraph.
    """

    code: str
    severity: str
    cost: float
    sentence: str
    remedy: str
    layers: tuple[int, ...] = ()
    value: float = math.nan
    stderr: float = math.nan
    threshold: float = math.nan
    id: str = ""
    cause: str = ""
    where: tuple[str, ...] = ()
    because_of: tuple[str, ...] = ()
    docs: str = ""
    about: str = ""

    @property
    def label(self) -> str:
        """Number and name: ``KD101 softmax-before-cross-entropy``."""
        return f"{self.id} {self.code}".strip()


@dataclass(frozen=True)
class TimeReport:
    """A recurrence step by step, first step first.

    Attributes
    ----------
    path, op : str
        Module, and operation: ``"lstm"``, ``"gru_cell"``, or the linear map of a loop.
    gradient : tuple of float
        Root mean square of the gradient of the loss with respect to each step's input (of a loop
        written by hand: of the output with respect to each call).
    signal : tuple of float
        Root mean square of what each step gives; empty where it was not seen.
    """

    path: str
    op: str
    gradient: tuple[float, ...]
    signal: tuple[float, ...] = ()


@dataclass(frozen=True)
class TrialReport:
    """What a few real training steps on a copy of the model showed.

    Attributes
    ----------
    recipe : str
        The optimiser in words.
    steps : int
        Steps taken.
    losses : tuple of float
        Loss before each step, and after the last one.
    constant_loss : float or None
        The loss of the best output that is the same for every input: what a net reaches that has
        learned nothing about its inputs. None where it cannot be told.
    learns : bool or None
        Whether the loss fell below what a constant output reaches, or by a tenth where that is
        not known; None if it was that low from the start (a trained model).
    finite : bool
        Whether loss and weights stayed finite.
    update_ratio : float or None
        Root mean square of a step over that of the weights, median over matrices.
    dead_before, dead_after : float or None
        Largest fraction of dead units in a layer before and after.
    sharpness, edge : float or None
        Largest eigenvalue of the (for Adam, preconditioned) Hessian, and the largest stable rate
        that follows from it for this optimiser.
    rate : float or None
        The learning rate used.
    unchanged : float or None
        Fraction of weights that a step did not change at all (rounding).
    seconds : float
    """

    recipe: str
    steps: int
    losses: tuple[float, ...]
    constant_loss: float | None = None
    learns: bool | None = None
    finite: bool = True
    update_ratio: float | None = None
    dead_before: float | None = None
    dead_after: float | None = None
    sharpness: float | None = None
    edge: float | None = None
    rate: float | None = None
    unchanged: float | None = None
    seconds: float = 0.0


@dataclass(frozen=True, repr=False)
class Diagnosis(Result):
    """What :func:`kadanoff.diagnose` found out about a model on a batch.

    Attributes
    ----------
    model : str
        Class name of the model.
    layers : tuple of LayerReport
        In the order of the forward pass.
    parameters : tuple of ParameterReport
    findings : tuple of Finding
        The costliest first; empty for a healthy net.
    verdict : str
        One sentence with a number, its uncertainty and a threshold.
    describable : bool
        Whether the theory describes the model, so that predictions stand beside measurements.
    description : str
        The description in words, or why there is none.
    n_parameters, n_samples : int
    depth : int
        Linear layers on the main chain.
    aspect : float or None
        Effective depth-to-width ratio Σ 1/n_ℓ over hidden layers (L/n at equal widths), the
        parameter that controls finite-width effects.
    input_second_moment : Estimate or None
        Mean of x² over the batch (None for integer inputs).
    input_correlation : Estimate or None
        Mean cosine between pairs of inputs.
    loss : float or None
        Value of the loss whose gradients are reported; ``loss_name`` says which.
    loss_name : str
    loss_stands_in : bool
        Whether that loss is not the user's but a random projection of the output.
    constant_loss : float or None
        The loss of the best constant output, which knows nothing of the inputs.
    trained : bool
        Whether the weights look trained; expectations for random weights then raise no finding.
    trial : TrialReport or None
        What a few real training steps on a copy showed.
    times : tuple of TimeReport
        Recurrences step by step.
    sums : tuple of LayerReport
        Residual sums inside branches, each after the layer whose ``index`` it has.
    physics : str
        What the verdict rests on, in the words of the theory.
    expected_loss : Estimate or None
        The loss beside what the law of the weights says of it.
    notes : tuple of str
        What the reader should know: unwrapped compilation, failed parts, modes of the model.
    meta : mapping
        ``kadanoff``, ``torch``, ``python``, ``dtype``, ``device``, ``seed``, ``seconds``,
        ``probes``.
    schema_version : int
    """

    model: str
    layers: tuple[LayerReport, ...]
    parameters: tuple[ParameterReport, ...]
    findings: tuple[Finding, ...]
    verdict: str
    describable: bool
    description: str
    n_parameters: int
    n_samples: int
    depth: int
    aspect: float | None = None
    input_second_moment: Estimate | None = None
    input_correlation: Estimate | None = None
    loss: float | None = None
    loss_name: str = ""
    loss_stands_in: bool = False
    constant_loss: float | None = None
    trained: bool = False
    trial: TrialReport | None = None
    times: tuple[TimeReport, ...] = ()
    sums: tuple[LayerReport, ...] = ()
    physics: str = ""
    expected_loss: Estimate | None = None
    notes: tuple[str, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    @property
    def healthy(self) -> bool:
        """True if there is no finding worse than a note."""
        return self.exit_code_for("warning") == 0

    @property
    def exit_code(self) -> int:
        """0 healthy, 1 there is a finding: the exit code of ``kadanoff diagnose``."""
        return self.exit_code_for("warning")

    def exit_code_for(self, severity: str) -> int:
        """1 if there is a finding at least as severe, ``"critical"`` or ``"warning"``, else 0."""
        bad = {"critical"} if severity == "critical" else {"critical", "warning"}
        return int(any(finding.severity in bad for finding in self.findings))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values of the whole tree."""
        tree = jsonable(self)
        tree["healthy"], tree["exit_code"] = self.healthy, self.exit_code
        return tree

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write the whole tree as JSON, atomically.

        Raises
        ------
        StorageError
            The file cannot be written.
        """
        write_json(path, self.to_dict())

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write one HTML file that opens offline (plots, table, findings), atomically.

        Raises
        ------
        StorageError
            The file cannot be written.
        """
        from kadanoff.diagnosis.html import diagnosis_html

        atomic_write(path, diagnosis_html(self))

    def headline(self) -> str:
        """Model, verdict and findings in a few words."""
        found = [finding.id for finding in self.findings if finding.severity != "note"]
        return f"{self.model}, {self.verdict} {' '.join(found)}".strip()

    def table(self) -> Table:
        """A row for each layer: signal, correlation, Jacobian, gradient, dead units."""
        names = ("second_moment", "correlation", "jacobian", "gradient", "dead", "saturated")
        columns = ("path", "op", "fan_in", "fan_out", *names)
        rows = [
            (*(getattr(layer, name) for name in columns[:4]), *(_number(layer, n) for n in names))
            for layer in self.layers
        ]
        return Table(columns, rows, self.headline())

    def _repr_html_(self) -> str:
        """The report itself, in a frame of its own."""
        from html import escape

        from kadanoff.diagnosis.html import diagnosis_html

        style = "width:100%;height:640px;border:1px solid #8884;border-radius:8px"
        return f'<iframe style="{style}" srcdoc="{escape(diagnosis_html(self))}"></iframe>'

    def __str__(self) -> str:
        lines = [self.headline()]
        lines += [f"{x.severity}: {x.sentence} {x.remedy}" for x in self.findings]
        return "\n".join(lines)

    def __rich__(self) -> Any:
        from kadanoff.diagnosis.terminal import diagnosis_terminal

        return diagnosis_terminal(self)


def _number(layer: LayerReport, name: str) -> float | None:
    estimate: Estimate | None = getattr(layer, name)
    return None if estimate is None else float(estimate.value)

"""How few neurons fire: the activation profile of a model on data."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from kadanoff.errors import AnalysisError, UsageError
from kadanoff.files import write_json
from kadanoff.sparsity.blocks import program_of
from kadanoff.sparsity.inputs import examples
from kadanoff.sparsity.statistics import Counts, error_threshold, rows_of
from kadanoff.sparsity.structure import Hidden, HiddenFinder, find_hidden
from kadanoff.style.numbers import percent

__all__ = [
    "LayerProfile",
    "Profile",
    "layer_name",
    "profile",
    "profile_checkpoints",
]

_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)


@dataclass(frozen=True)
class LayerProfile:
    """One hidden layer. All fractions are of neurons (or tokens), between 0 and 1.

    Attributes
    ----------
    name : str
        Path of the module whose neurons these are.
    kind : str
        "mlp", "gated", "conv" or "mixed" (several linear maps enter).
    exact : bool
        Zeros are exact (ReLU-like); otherwise "active" means magnitude >= ``threshold``.
    threshold : float
        0 for exact layers (strictly nonzero counts), else the magnitude that keeps this layer's
        output error at the profile's ``error``.
    active : float
        Mean over tokens of the active fraction; ``active_stderr`` its standard error, tokens
        taken as independent.
    token_quantiles : dict
        Quantile → active fraction of a token.
    frequency : Tensor (width,)
        Fraction of tokens on which each neuron is active.
    never, always : float
        Fraction of neurons that fire for none, for all of the tokens seen.
    overlap : float or None
        Fraction of a token's active neurons that its neighbour (next token, next pixel, next row
        of a plain batch) activates too. Independent neurons of equal frequency give ``active``.
    union : dict
        Batch size → fraction active for at least one token of a batch.
    expected : float or None
        Theory beside it: the fraction that fresh Gaussian weights of the same size would activate
        on the same inputs (one step of the kernel flow), as at initialisation. None where the
        activation is not a function of one linear map, entry by entry (Top-k, convolutions).
    """

    name: str
    kind: str
    width: int
    exact: bool
    threshold: float
    tokens: int
    active: float
    active_stderr: float
    token_quantiles: dict[float, float]
    frequency: Tensor
    never: float
    always: float
    overlap: float | None
    union: dict[int, float]
    next_weight: tuple[int, int] | None = None
    expected: float | None = None


@dataclass(frozen=True)
class Profile:
    """Layers from input to output. ``error``: output error that defines thresholds."""

    layers: tuple[LayerProfile, ...]
    error: float
    tokens: int
    label: str = ""
    schema: int = field(default=1)

    @property
    def active(self) -> float:
        """Plain mean of the layers' active fractions (the paper's average over layers)."""
        return sum(layer.active for layer in self.layers) / len(self.layers)

    def __str__(self) -> str:
        head = f"{percent(self.active)} of the hidden neurons are active, the mean of "
        head += f"{len(self.layers)} layer(s) over {self.tokens} tokens"
        rows = [f"  {x.name}: {percent(x.active)} of {x.width}" for x in self.layers]
        return "\n".join([head, *rows])

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON (neuron frequencies as a 20-bin histogram)."""
        rows = []
        for layer in self.layers:
            row = {k: v for k, v in vars(layer).items() if k != "frequency"}
            row["frequency_histogram"] = torch.histc(layer.frequency.float(), 20, 0.0, 1.0).tolist()
            rows.append(row)
        return {
            "schema": self.schema,
            "label": self.label,
            "error": self.error,
            "tokens": self.tokens,
            "active": self.active,
            "layers": rows,
        }

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write :meth:`as_dict` atomically."""
        write_json(path, self.as_dict())


class _LayerCounts:
    def __init__(self, hidden: Hidden, finder: HiddenFinder, error: float, name: str) -> None:
        self.name, self.kind, self.exact = name, hidden.kind, hidden.exact_zeros
        self.next_weight: tuple[int, int] | None = None
        weight = hidden.consumer.weight if hidden.consumer is not None else None
        if weight is not None and hidden.consumer is not None:
            weight = weight.t() if hidden.consumer.transposed else weight
            self.next_weight = (weight.shape[0], weight.shape[1])
        channel = hidden.kind == "conv"
        rows = rows_of(hidden.skippable, channel)
        self.threshold = 0.0
        if not self.exact:
            flat = rows.reshape(-1, rows.shape[-1])
            product = rows_of(hidden.product, channel).reshape(flat.shape)
            self.threshold = error_threshold(flat, product, weight, error)
        self.counts = Counts(rows.shape[-1])
        self.expected = None if channel else _expected(hidden, finder, self.threshold)

    def add(self, hidden: Hidden, scratch: dict[Any, Tensor]) -> None:
        rows = rows_of(hidden.skippable.detach(), hidden.kind == "conv")
        # a threshold of 0 means that nothing may be dropped but exact zeros
        # written into one buffer of floats, which the counting can multiply: fresh memory for
        # every layer would cost more than the comparison
        mask = scratch.get(rows.shape)
        if mask is None:
            mask = scratch[rows.shape] = torch.empty(rows.shape, device=rows.device)
        if self.threshold > 0:
            torch.abs(rows, out=mask) if rows.dtype == mask.dtype else mask.copy_(rows.abs())
            mask.ge_(self.threshold)
        else:
            torch.ne(rows, 0, out=mask)
        self.counts.add(mask)

    def result(self) -> LayerProfile:
        counts = self.counts
        share = torch.cat(counts.per_token).double()
        ordered = share[:: max(1, len(share) // 100_000)].sort().values
        place = torch.tensor(_QUANTILES, dtype=torch.float64) * (len(ordered) - 1)
        low = ordered[place.floor().long()]
        quantiles = low + (place - place.floor()) * (ordered[place.ceil().long()] - low)
        spread = float(share.std()) if len(share) > 1 else 0.0
        frequency = counts.per_neuron / counts.tokens
        return LayerProfile(
            name=self.name,
            kind=self.kind,
            width=counts.width,
            exact=self.exact,
            threshold=self.threshold,
            tokens=counts.tokens,
            active=float(share.mean()),
            active_stderr=spread / len(share) ** 0.5,
            token_quantiles=dict(zip(_QUANTILES, quantiles.tolist())),
            frequency=frequency,
            never=float((frequency == 0).double().mean()),
            always=float((frequency == 1).double().mean()),
            overlap=counts.neighbour_overlap(),
            union=counts.unions(),
            next_weight=self.next_weight,
            expected=self.expected,
        )


@functools.cache
def _quantiles_of_a_normal(device: torch.device) -> Tensor:
    """The middles of equally likely intervals: exact means but for one interval at every border."""
    return torch.special.ndtri((torch.arange(2001, device=device) + 0.5).double() / 2001)


def _expected(hidden: Hidden, finder: HiddenFinder, threshold: float) -> float | None:
    """P(the neuron is active) for z ~ N(mean b, |x|² E[W²] + var b), mean over a few tokens x."""
    gate = hidden.gate or hidden.step
    root = gate.roots()[0]
    source = root.whole
    program = program_of(gate, finder)
    if program is None or not program.pointwise or source.tokens is None:
        return None
    assert source.weight is not None
    weight, bias = source.weight.t() if source.transposed else source.weight, source.bias
    if root.columns is not None:
        weight = weight[slice(*root.columns)]
        bias = None if bias is None else bias[slice(*root.columns)]
    kind = torch.promote_types(weight.dtype, torch.float32)
    size = torch.linalg.vector_norm(weight, dtype=kind).double().square() / weight.numel()
    K = source.tokens.double().square().sum(-1) * size
    mean = K.new_zeros(())
    if bias is not None:
        mean, K = bias.double().mean(), K + bias.double().var(correction=0)
    u = _quantiles_of_a_normal(K.device)
    try:
        a = program((mean + K.sqrt()[:, None] * u).to(source.weight.dtype)).abs()
    except RuntimeError:  # a parameter for each neuron, as PReLU may have
        return None
    return float((a >= threshold if threshold > 0 else a != 0).double().mean())


def layer_name(hidden: Hidden, finder: HiddenFinder) -> str:
    """Path of the module that owns the neurons' weights."""
    gate = hidden.gate or hidden.step
    for root in gate.roots():
        source = root.whole
        name = finder.name_of(source.weight)
        if name:
            return name.rsplit(".", 1)[0] if "." in name else name
        if source.path:
            return source.path
    return gate.path or "(model)"


@torch.no_grad()
def profile(
    model: nn.Module,
    data: Any,
    error: float = 0.01,
    label: str = "",
    progress: Callable[..., None] | None = None,
) -> Profile:
    """Measure which hidden neurons are active, layer by layer and token by token.

    Layers are found by data flow (see `kadanoff.sparsity.structure`): MLP blocks with any
    elementwise activation, gated blocks, convolutions. The model runs in evaluation mode and is
    left as it was.

    Parameters
    ----------
    model : nn.Module
    data : Tensor, (inputs, targets), dict of keyword inputs, or an iterable of these
    error : float
        For activations without exact zeros (GELU, SiLU ...): the relative error of the layer's
        output that dropping the small ones may cause. It fixes each layer's threshold, on the
        first batch.
    label : str
        Name of this profile (a checkpoint, say).
    progress : callable, optional
        Called as ``progress(done, total)``.

    Returns
    -------
    Profile

    Raises
    ------
    UsageError
        ``error`` outside (0, 1), or a scripted model.
    AnalysisError
        No hidden activation was found.

    Notes
    -----
    The reported quantity, and neuron frequencies, are those of Li et al., arXiv:2210.06313.
    """
    if not 0.0 < error < 1.0:
        raise UsageError(f"error = {error} is not in (0, 1).", "Pass e.g. error=0.01.")
    calls = examples(data, model)
    layers: dict[tuple[str, int], _LayerCounts] = {}
    scratch: dict[Any, Tensor] = {}
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        for done, example in enumerate(calls):
            seen: dict[str, int] = {}

            def report(hidden: Hidden, finder: HiddenFinder, seen=seen) -> None:
                name = layer_name(hidden, finder)
                # a module used twice in one pass is two layers
                seen[name] = seen.get(name, -1) + 1
                key = (name, seen[name])
                if key not in layers:
                    shown = name if seen[name] == 0 else f"{name}#{seen[name] + 1}"
                    layers[key] = _LayerCounts(hidden, finder, error, shown)
                layers[key].add(hidden, scratch)

            # a few inputs of every linear map, once, for the theory
            find_hidden(
                model,
                lambda example=example: example.run(model),
                report,
                keep=0 if layers else 8,
                paths=False,
            )
            if progress is not None:
                progress(done + 1, len(calls))
    finally:
        for module in training:
            module.training = True
    if not layers:
        raise AnalysisError(
            f"No hidden activation was found in {type(model).__name__}.",
            "Linear → activation → linear, gated blocks and convolution → activation are known.",
        )
    results = tuple(layer.result() for layer in layers.values())
    tokens = max(layer.tokens for layer in results)
    return Profile(results, error, tokens, label)


def profile_checkpoints(
    model: nn.Module, checkpoints: Mapping[Any, Any] | Iterable[Any], data: Any, **options: Any
) -> list[Profile]:
    """Profile one model at several checkpoints.

    Parameters
    ----------
    model : nn.Module
        Its parameters are restored afterwards.
    checkpoints : mapping of label → state dict or file, or an iterable of files
        Files are read with ``torch.load(weights_only=True)``.
    data, **options
        As for :func:`profile`.

    Returns
    -------
    list of Profile, each labelled
    """
    if not isinstance(checkpoints, Mapping):
        checkpoints = {str(path): path for path in checkpoints}
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    found = []
    try:
        for label, state in checkpoints.items():
            if not isinstance(state, Mapping):
                state = torch.load(state, map_location="cpu", weights_only=True)
            model.load_state_dict(state)
            found.append(profile(model, data, label=str(label), **options))
    finally:
        model.load_state_dict(kept)
    return found

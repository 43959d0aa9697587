"""A diagnosis before the model is built: what its program does with weights of its laws.

No weight exists: the model is put together on the meta device, its initialisers are observed
there, and random networks are answered by the laws (:mod:`kadanoff.program`), so that a model of
10¹¹ parameters takes a few gigabytes.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from kadanoff.diagnosis.blocks import BlockRows, blocks_of
from kadanoff.diagnosis.estimate import Estimate
from kadanoff.diagnosis.plain_words import uneven
from kadanoff.diagnosis.result import Diagnosis, LayerReport, ParameterReport
from kadanoff.errors import UsageError
from kadanoff.program.initial import Built, build
from kadanoff.program.result import ModuleEnsemble, Quantity
from kadanoff.program.run import module_ensemble
from kadanoff.style.numbers import short
from kadanoff.trace.operations import TABLE

__all__ = ["foretell"]

_WEIGHTED = ("linear", "convolution", "embedding", "product", "recurrent")
# gradients of blocks further apart than this do not all "reach"
APART = 1e3


def foretell(
    factory: Callable[[], nn.Module],
    data: Any,
    *,
    targets: Any = None,
    loss: Callable[..., Any] | None = None,
    n_networks: int = 4,
    probes: int = 1,
    seed: int = 0,
    training: bool = False,
    progress: Callable[..., None] | None = None,
) -> Diagnosis:
    """Predict signal, gradients and their spread of a model that is not built.

    Parameters
    ----------
    factory : callable
        Without arguments, returns the model; called with the meta device as default.
    data : tensor, mapping, or (inputs, targets)
        A small batch: the cost grows as the square of samples times positions.
    targets : optional
        If they are not in ``data``.
    loss : callable, optional
        As in :func:`kadanoff.diagnose`.
    n_networks : int
        Random networks, for the mean and the spread between seeds.
    probes : int
        Random vectors for each Jacobian; 0 leaves Jacobians out.
    seed : int
    training : bool
        Whether the model is to be in training mode.
    progress : callable, optional
        ``progress(done, total)``.

    Returns
    -------
    Diagnosis
        Each ``value`` is the mean over networks, ``spread`` the standard deviation from one seed
        to the next; there is no measurement and no finding.

    Raises
    ------
    AnalysisError
        The model cannot be built on the meta device, or memory does not suffice.
    UsageError
        The factory is none, or the batch does not fit.
    """
    start = time.perf_counter()
    if n_networks < 2:
        raise UsageError(f"n_networks = {n_networks}: a spread needs at least 2 networks.")
    built = build(factory, meta=True)
    built.model.train(training)
    ensemble = module_ensemble(
        built.model,
        data,
        n_networks,
        targets=targets,
        loss=loss,
        laws=built.laws,
        probes=probes,
        seed=seed,
        progress=progress,
    )
    layers = _layers(built.model, ensemble)
    blocks = blocks_of(layers)
    chain = [r for r in layers if not r.residual]
    what = f"{len(blocks.numbered)} blocks" if blocks else f"{len(layers)} layers"
    first = data[0] if isinstance(data, tuple | list) else data
    first = next(iter(first.values())) if isinstance(first, dict) else first
    notes = [*ensemble.notes]
    if ensemble.not_self_averaging:
        said = "; ".join(ensemble.not_self_averaging)
        notes.append(f"differs between networks at any width: {said}")
    return Diagnosis(
        model=type(built.model).__name__,
        layers=layers,
        parameters=_parameters(built, ensemble),
        findings=(),
        verdict=_verdict(ensemble, layers, blocks),
        describable=True,
        description=f"{what}, predicted from the code alone: {n_networks} random networks on the "
        "laws of its weights, none of them built",
        n_parameters=sum(p.numel() for p in built.model.parameters()),
        n_samples=len(first),
        depth=len(chain),
        loss=ensemble.loss.value,
        loss_name="predicted",
        expected_loss=_estimate(ensemble.loss),
        notes=tuple(notes),
        meta={
            "predicted": True,
            "networks": n_networks,
            "torch": torch.__version__,
            "seed": seed,
            "probes": probes,
            "seconds": time.perf_counter() - start,
        },
    )


def _estimate(quantity: Quantity) -> Estimate:
    return Estimate(quantity.value, quantity.stderr, quantity.value, quantity.spread)


def _root(quantity: Quantity) -> Estimate:
    """A root mean square from a mean square: δ√s = δs / 2√s."""
    root = math.sqrt(max(quantity.value, 0.0))
    half = 1 / (2 * root) if root else 0.0
    return Estimate(root, quantity.stderr * half, root, quantity.spread * half)


def _layers(model: nn.Module, ensemble: ModuleEnsemble) -> tuple[LayerReport, ...]:
    names = {id(p): name for name, p in model.named_parameters()}
    chain = set(ensemble.chain)
    reports: list[LayerReport] = []
    seen: dict[str, int] = {}
    for key, fields in ensemble.calls.items():
        path, _, rest = key.rpartition(":")
        op = rest.partition("#")[0]
        operation = TABLE.get(op)
        weighted = operation is not None and operation.family in _WEIGHTED
        if not (weighted or (op == "add" and key in chain)) or "second_moment" not in fields:
            continue
        weight = _weight(model, path) if op != "add" else None
        parameter = None if weight is None else names.get(id(weight))
        count = seen[parameter or path] = seen.get(parameter or path, -1) + 1
        fan_in, fan_out = _fans(op, weight)
        square = ensemble.gradients.get(parameter or "")
        known: dict[str, Any] = {
            name: _estimate(fields[name])
            for name in ("correlation", "kurtosis", "jacobian", "jacobian_to_output")
            if name in fields
        }
        role = "stream" if op == "add" else "embedding" if op.startswith("embed") else "hidden"
        reports.append(
            LayerReport(
                index=len(reports) + 1,
                path=path,
                op=op,
                call_index=count,
                role=role,
                parameter=parameter,
                fan_in=fan_in,
                fan_out=fan_out,
                activation=None,
                normalised=False,
                residual=key not in chain,
                mean=_estimate(fields["mean"]),
                second_moment=_estimate(fields["second_moment"]),
                gradient=None if square is None else _root(square),
                **known,
            )
        )
    return tuple(reports)


def _weight(model: nn.Module, path: str) -> nn.Parameter | None:
    try:
        module = model.get_submodule(path)
    except AttributeError:
        return None
    owned = [p for p in module._parameters.values() if p is not None and p.ndim > 1]
    return owned[0] if len(owned) == 1 else None


def _fans(op: str, weight: torch.Tensor | None) -> tuple[int, int]:
    if weight is None:
        return 0, 0
    if op.startswith("embed"):
        return 1, weight.shape[1]
    if op in ("addmm", "matmul", "mm"):  # inputs by outputs
        return weight.shape[0], weight.shape[1]
    return weight[0].numel(), weight.shape[0]


def _parameters(built: Built, ensemble: ModuleEnsemble) -> tuple[ParameterReport, ...]:
    reports = []
    for name, p in built.model.named_parameters():
        law, square = built.laws[name], ensemble.gradients.get(name)
        rms = None if square is None else math.sqrt(max(square.value, 0.0))
        reports.append(
            ParameterReport(
                name=name,
                shape=tuple(p.shape),
                rms=math.hypot(law.mean, law.std),
                gradient_norm=None if rms is None else rms * math.sqrt(p.numel()),
                gradient_rms=rms,
                trainable=p.requires_grad,
            )
        )
    return tuple(reports)


def _verdict(ensemble: ModuleEnsemble, layers: tuple[LayerReport, ...], blocks: BlockRows) -> str:
    """What will happen, in words that name blocks."""
    groups = blocks.numbered
    what = f"all {len(groups)} blocks" if blocks else f"all {len(layers)} layers"
    gradients = [g.gradient for g in groups] if blocks else [r.gradient for r in layers]
    sizes = [e.value for e in gradients if e is not None and e.value > 0]
    if sizes and max(sizes) / min(sizes) > APART:
        said = [f"gradients will differ by a factor {short(max(sizes) / min(sizes), 2)} in depth"]
    else:
        said = [f"signal and gradient will reach {what}"]
    at = ensemble.loss
    start = f"the loss will start at {short(at.value, 4)} ± {short(at.spread, 1)}"
    outputs = layers[-1].fan_out if layers else 0
    if outputs > 1 and abs(at.value / math.log(outputs) - 1) < 0.5:
        start += f" (outputs all alike: {short(math.log(outputs), 4)})"
    said += [start, *uneven(blocks)]
    spreads = [e.spread / e.value for e in gradients if e is not None and e.spread and e.value > 0]
    if spreads:
        differ = 100 * statistics.median(spreads)
        said.append(f"seeds will differ by {short(differ, 2)}% in the gradient of a block")
    return "; ".join(said) + "."

"""Signal, activations and places in the graph, call by call, at little cost.

The first look lists the layers with everything that stands around them, which is dear. Later looks
find the same calls again by module, operation and count, and only measure.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kadanoff.trace.hf import main_output, tensors_in
from kadanoff.trace.layers import Call, Layers
from kadanoff.trace.recorder import Frame as Module
from kadanoff.trace.recorder import FunctionCall, Observer, Recorder
from kadanoff.trace.statistics import ELEMENTS
from kadanoff.trace.units import SILENT, count_units
from kadanoff.watching.attention import AttentionWitness
from kadanoff.watching.film import Frame

__all__ = ["Link", "Signals", "named"]

Key = tuple[str, str, int]  # module, operation, how many of them came before


@dataclass
class Link:
    """A call on the main chain of a look: what a partial Jacobian goes from and to."""

    name: str
    edge: Any
    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class _Known:
    name: str
    kind: str
    op: str
    channel: int
    on_chain: bool


class Signals:
    """Measures the signal of a model whose layers it has listed once.

    Attributes
    ----------
    depth : list of str
        Names of the layers, in the order of the forward pass.
    """

    def __init__(self) -> None:
        self.depth: list[str] = []
        self._known: dict[Key, _Known] = {}
        self._by_hand: dict[str, _Known] = {}

    def forget(self) -> None:
        """List the layers anew at the next look."""
        self._known, self._by_hand = {}, {}

    def recount(self, model: nn.Module, call: Callable[[Recorder], Any], frame: Frame) -> None:
        """Count the dead once more, on the samples that ``call`` runs.

        Parameters
        ----------
        model : nn.Module
        call : callable
            As for :meth:`run`, on more samples.
        frame : Frame
            Its count is replaced.
        """
        known = {key: one for key, one in self._known.items() if one.kind == "activation"}
        more = Frame(frame.step)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # reentrant checkpoints miss a gradient here
            call(Recorder(model, _Meter(known, self._by_hand, more)))
        frame.layers["dead"] = frame.layers.get("dead", {}) | more.layers.get("dead", {})

    def run(
        self, model: nn.Module, samples: int, call: Callable[[Recorder], Any], frame: Frame
    ) -> tuple[Any, list[Link]]:
        """One forward pass; fills the frame.

        Parameters
        ----------
        model : nn.Module
        samples : int
            Size of the batch.
        call : callable
            ``call(recorder)`` runs the model under it and returns what the model returns.
        frame : Frame

        Returns
        -------
        output, list of Link
        """
        attention = AttentionWitness(model, samples)
        if not self._known:
            output, links, complete = self._first(model, call, frame, attention)
        else:
            meter = _Meter(self._known, self._by_hand, frame)
            output = call(Recorder(model, meter, attention))
            links, complete = meter.links, meter.complete
        for seen, largest in zip(attention.seen.attentions, attention.logits):
            name = seen.path or "attention"
            put(frame, "max_logit", name, float(largest))
            put(frame, "entropy", name, seen.entropy)
        if not complete:  # another path through the model than last time
            self.forget()
        return output, links

    def _first(
        self,
        model: nn.Module,
        call: Callable[[Recorder], Any],
        frame: Frame,
        attention: AttentionWitness,
    ) -> tuple[Any, list[Link], bool]:
        layers = Layers(graph=True, adds=True)
        keys = _Keys(layers)
        output = call(Recorder(model, layers, keys, attention))
        main = main_output(output)
        chain = [] if main is None else layers.complete(main)
        names = named(layers.calls)
        self.depth = list(dict.fromkeys(names.values()))
        for key, found in keys.calls.items():
            if found not in names:
                continue
            chain_link = found.on_chain and found.kind != "activation"
            known = _Known(names[found], found.kind, found.op, found.channel, chain_link)
            # an activation written out by hand is what its module returns, not one operation
            if found.kind == "activation" and found.op != key[1]:
                self._by_hand[found.path] = known
            else:
                self._known[key] = known
        for found, name in names.items():
            _keep(frame, name, found, keys.dead.get(found))
        for found, peak in keys.peaks.items():
            if found in names:
                put(frame, "peak", names[found], float(peak))
        links = [layers.calls[i] for i in chain]
        return (
            output,
            [Link(names[c], c.edge, c.shape, c.dtype or torch.float32) for c in links],
            True,
        )


class _Keys(Observer):
    """Which function call became which entry of the list of layers."""

    def __init__(self, layers: Layers) -> None:
        self._layers, self._before = layers, 0
        self._count: Counter[tuple[str, str]] = Counter()
        self.calls: dict[Key, Call] = {}
        self.peaks: dict[Call, Tensor] = {}
        self.dead: dict[Call, Tensor] = {}

    def before(self, call: FunctionCall) -> None:
        self._before = len(self._layers.calls)

    def after(self, call: FunctionCall, output: Any) -> None:
        """Told after the list of layers."""
        place = (call.path, call.name)
        if len(self._layers.calls) > self._before:
            found = self._layers.calls[-1]
            self.calls[(*place, self._count[place])] = found
            first = next(tensors_in(output), None)
            if first is not None and found.kind in ("linear", "recurrent", "add"):
                self.peaks[found] = first.detach().abs().amax()
            if first is not None and found.kind == "activation":
                self.dead[found] = dead_share(found.op, first, found.channel)
        self._count[place] += 1


class _Meter(Observer):
    """Measures the calls that are known."""

    def __init__(self, known: dict[Key, _Known], by_hand: dict[str, _Known], frame: Frame) -> None:
        self.names = frozenset(name for _, name, _ in known)
        self._known, self._by_hand, self._frame = known, by_hand, frame
        self._count: Counter[tuple[str, str]] = Counter()
        self._values: list[tuple[str, str, Tensor]] = []
        self._met = 0
        self.links: list[Link] = []

    @property
    def complete(self) -> bool:
        """Whether every call that is known was met."""
        return self._met == len(self._known)

    def after(self, call: FunctionCall, output: Any) -> None:
        """Measure one call."""
        place = (call.path, call.name)
        known = self._known.get((*place, self._count[place]))
        self._count[place] += 1
        result = output[0] if isinstance(output, (tuple, list)) and output else output
        if known is None or not isinstance(result, Tensor) or not result.is_floating_point():
            return
        self._met += 1
        if known.kind == "activation":
            self._count_units(known, result)
            return
        with torch.no_grad():
            low, high = result.detach().aminmax()
            flat = result.detach().reshape(-1)
            flat = flat[:: flat.numel() // ELEMENTS + 1]
            square = torch.linalg.vector_norm(flat, dtype=torch.float32).square() / flat.numel()
            self._values += [
                ("second_moment", known.name, square),
                ("peak", known.name, torch.maximum(-low, high)),
            ]
        if known.on_chain and result.requires_grad:
            edge = torch.autograd.graph.get_gradient_edge(result)
            self.links.append(Link(known.name, edge, tuple(result.shape), result.dtype))

    def ended(self, frame: Module, output: Any) -> None:
        """A module has returned: perhaps an activation written out by hand."""
        known = self._by_hand.get(frame.path)
        if known is not None and isinstance(output, Tensor):
            self._count_units(known, output)

    def _count_units(self, known: _Known, result: Tensor) -> None:
        units = count_units(known.op, result, None, known.channel)
        self._values += [
            ("zeros", known.name, units.zeros.mean()),
            ("saturated", known.name, units.saturated.mean()),
            ("dead", known.name, dead_share(known.op, result, known.channel)),
        ]

    def finish(self) -> None:
        """Read all numbers at once."""
        if not self._values:
            return
        numbers = torch.stack([v.float().reshape(()).cpu() for _, _, v in self._values]).tolist()
        for (signal, name, _), number in zip(self._values, numbers):
            put(self._frame, signal, name, number)


def dead_share(op: str, result: Tensor, channel: int = -1) -> Tensor:
    """Share of an activation's units that are silent on every sample and at every position.

    Parameters
    ----------
    op : str
        Canonical name of the activation.
    result : Tensor
        Its output.
    channel : int
        Axis of the units.

    Returns
    -------
    Tensor, shape ()
        NaN for activations that are never silent.
    """
    with torch.no_grad():
        result = result.detach()
        if op not in SILENT or result.ndim < 2:
            return torch.full((), math.nan)
        exact = op in ("relu", "relu6", "threshold")
        # in the tail of a smooth activation value and derivative are both tiny
        limit = 0.0 if exact else 1e-3 * float(result.float().square().mean().sqrt())
        silent = (result.abs() <= limit).movedim(channel, 0).flatten(1).all(1)
        return silent.float().mean()


def named(calls: Sequence[Call]) -> dict[Call, str]:
    """A name for each call that a person finds again: its module, or its weight.

    Parameters
    ----------
    calls : sequence of Call
    """
    names: dict[Call, str] = {}
    taken: Counter[str] = Counter()
    for call in calls:
        if call.kind == "activation":
            owner = call.before
            linear = owner is not None and owner.kind in ("linear", "recurrent")
            names[call] = names[owner] if linear and owner in names else call.path or call.op
            continue
        if call.kind not in ("linear", "recurrent", "add"):
            continue
        if call.kind == "add" and not call.on_chain:
            continue
        name = call.path or (call.parameter or call.op).removesuffix(".weight")
        if call.kind == "add":
            name = f"{call.path or 'model'} (sum)"
        taken[name] += 1
        names[call] = f"{name} #{taken[name]}" if taken[name] > 1 else name
    return names


def _keep(frame: Frame, name: str, call: Call, dead: Tensor | None) -> None:
    statistics, units = call.statistics, call.units
    if statistics is not None:
        put(frame, "second_moment", name, float(statistics.second_moment.double().mean()))
    if units is not None:
        for signal in ("zeros", "saturated"):
            put(frame, signal, name, float(getattr(units, signal).mean()))
        put(frame, "dead", name, math.nan if dead is None else float(dead))


def put(frame: Frame, signal: str, name: str, value: float) -> None:
    """Keep a value; of several calls under one name, the largest.

    Parameters
    ----------
    frame : Frame
    signal, name : str
    value : float
        NaN stands for what has no meaning here, and is left out (a second moment stays).
    """
    if math.isnan(value) and signal in ("dead", "entropy"):
        return
    course = frame.layers.setdefault(signal, {})
    course[name] = max(course.get(name, value), value)

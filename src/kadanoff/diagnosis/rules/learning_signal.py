"""Parameters that no gradient reaches, and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from kadanoff.diagnosis.evidence import Evidence
from kadanoff.diagnosis.kinds import kind
from kadanoff.diagnosis.result import Finding
from kadanoff.diagnosis.sightings import SAMPLED, Cut

__all__ = ["RULES"]

NOTHING = kind(
    "KD401",
    "nothing-trainable",
    "Nothing can be trained",
    what="No parameter requires a gradient, so no optimiser can change anything.",
    measured="requires_grad of every parameter.",
    threshold="Exact: none of them.",
    remedy="Set requires_grad_(True) on what is to learn; freeze the backbone alone: "
    "for p in model.backbone.parameters(): p.requires_grad_(False).",
    makes=("does-not-learn", "detached", "not-in-optimizer"),
)
DETACHED = kind(
    "KD402",
    "detached",
    "Parameters that no gradient reaches",
    what="They require a gradient and get none: the graph is cut between them and the loss, and "
    "they stay as they were drawn.",
    measured="The gradient of the loss with respect to each parameter, and the calls of detach, "
    ".data, no_grad and functions without a derivative on the way.",
    threshold="Exact: the parameter has no gradient at all (None).",
    remedy="Remove detach()/.data/no_grad between these layers and the loss; for layers that are "
    "to stay frozen, set requires_grad_(False) so that it is meant.",
    makes=("does-not-learn",),
)
UNUSED = kind(
    "KD403",
    "unused-parameters",
    "Parameters that are not used",
    what="They take no part in the loss: a head for another task, an output that no loss "
    "reads, or a layer that was forgotten in forward().",
    measured="Parameters without gradient whose module was never called, or that reach another "
    "output than the loss reads.",
    threshold="A fact; a warning if they are more than half of all parameters.",
    remedy="Use them in forward(), or delete them; DistributedDataParallel needs "
    "find_unused_parameters=True.",
)
ZERO = kind(
    "KD404",
    "zero-gradient",
    "Gradients that are exactly zero",
    what="A function without slope (sign, round, a step), dead units or a constant stand between "
    "these parameters and the loss: they get a gradient of exactly 0 and never move.",
    measured="Norm of the gradient of each trainable parameter; functions of zero derivative met "
    "on the way are named.",
    threshold="Exact: 0. Not said of what multiplies weights that are zero on purpose (LoRA, "
    "zero-initialised branches).",
    remedy="Replace the step by a smooth function, or pass its gradient straight through: "
    "x + (x.sign() − x).detach().",
    makes=("does-not-learn",),
)
FROZEN = kind(
    "KD405",
    "frozen",
    "Frozen parameters",
    what="These parameters do not require a gradient: they are left as they are.",
    measured="requires_grad of every parameter.",
    threshold="A fact, never a complaint.",
    remedy="Nothing, if it is meant.",
)
UNREGISTERED = kind(
    "KD406",
    "unregistered",
    "Layers that PyTorch does not see",
    what="Modules in a plain list, dict or closure are no part of the model: model.parameters() "
    "lacks them, so that they are not trained, not moved to a device and not saved.",
    measured="Attributes of each module that hold modules or parameters outside its registry, and "
    "weights used in the forward pass that are no parameters of the model.",
    threshold="Exact: one is enough.",
    remedy="Keep them in nn.ModuleList, nn.ModuleDict or nn.ParameterList instead.",
    makes=("does-not-learn", "no-nonlinearity"),
)


def _nothing(e: Evidence) -> Iterator[Finding]:
    if e.parameters and not e.trainable:
        count = sum(_size(p.shape) for p in e.parameters)
        yield NOTHING.found(
            "critical",
            f"nothing trainable: all {len(e.parameters)} parameters ({count:,} numbers) have "
            "requires_grad=False; one at least must not.",
            cost=5e3,
            value=0,
            threshold=1,
        )


def _left_out(e: Evidence, unused: list[str]) -> Finding:
    sizes = {p.name: _size(p.shape) for p in e.parameters}
    share = sum(sizes[n] for n in unused) / max(sum(sizes[n] for n in e.trainable), 1)
    return UNUSED.found(
        "warning" if share > 0.5 else "note",
        f"unused parameters: {len(unused)} take no part in this loss "
        f"({_names(unused)}), {100 * share:.0f} % of all trainable numbers.",
        cost=1.0,
        value=share,
        threshold=0.5,
        where=unused,
    )


def _detached(e: Evidence) -> Iterator[Finding]:
    lost = _lost(e)
    if not lost or not e.trainable:
        return
    # parameters of a law reach an output of their own, and are lost where it is drawn from
    sampled = any(c.what == SAMPLED for c in e.cuts)
    used, unused = [], []
    for name in lost:
        real = name in e.touched and (name not in e.aside or sampled)
        (used if real else unused).append(name)
    everything = len(lost) == len(e.trainable)
    if used or (everything and not e.attached):
        names = used or lost
        places = _places(e.cuts)
        blame = f"; on the way: {', '.join(places[:3])}" if places else ""
        layers = tuple(x.index for x in e.layers if x.parameter in set(names))
        share = len(names) / len(e.trainable)
        yield DETACHED.found(
            "critical" if share > 0.3 or everything else "warning",
            f"detached: {len(names)} of {len(e.trainable)} trainable parameters get no gradient "
            f"({_names(names)}){blame}.",
            cost=4e3,
            value=len(names),
            threshold=0,
            layers=layers,
            where=names,
        )
    if unused and not everything:
        yield _left_out(e, unused)


def _lost(e: Evidence) -> list[str]:
    got = {p.name for p in e.parameters if p.gradient_norm is not None}
    return [p.name for p in e.parameters if p.name in e.trainable and p.name not in got]


def _places(cuts: Iterable[Cut]) -> list[str]:
    """Where gradients are cut, each place once."""
    return list(dict.fromkeys(f"{c.what} in {c.path or 'forward'}" for c in cuts))


def _zero(e: Evidence) -> Iterator[Finding]:
    if e.origin is not None or e.stands_in or e.loss == 0:
        return  # a loss of zero, as of triplets kept apart, leaves nothing to do
    silent = [p for p in e.parameters if p.gradient_norm == 0 and p.name in e.trainable]
    weights = [p for p in silent if len(p.shape) >= 2]
    if not weights:
        return
    # a factor that is zero on purpose hides the gradient of its partner, which then comes alive
    meant = any(p.rms == 0 and (p.gradient_norm or 0) > 0 for p in e.parameters)
    killers = [c for c in e.cuts if c.what not in ("detach", "item", ".data", "no_grad")]
    dead = [x for x in e.layers if x.dead is not None and x.dead.value == 1]
    if meant and not killers:
        return
    names = [p.name for p in weights]
    places = _places(killers)
    blame = f"; {', '.join(places[:3])} passes no gradient" if places else ""
    if not places and dead:
        blame = f"; all units of layer {dead[0].index} ({dead[0].path}) are dead"
    share = len(weights) / max(sum(len(p.shape) >= 2 for p in e.parameters), 1)
    yield ZERO.found(
        "critical" if share > 0.3 else "warning",
        f"zero gradient: {len(weights)} weights get a gradient of exactly 0 ({_names(names)})"
        f"{blame}.",
        cost=3e3,
        value=len(weights),
        threshold=0,
        layers=tuple(x.index for x in e.layers if x.parameter in set(names)),
        where=names,
    )


def _frozen(e: Evidence) -> Iterator[Finding]:
    frozen = [p for p in e.parameters if p.name not in e.trainable]
    if frozen and e.trainable:
        count = sum(_size(p.shape) for p in frozen)
        total = sum(_size(p.shape) for p in e.parameters)
        yield FROZEN.found(
            "note",
            f"frozen: {len(frozen)} of {len(e.parameters)} parameters ({count:,} of {total:,} "
            "numbers) do not require a gradient.",
            cost=0.0,
            value=count / total,
            where=[p.name for p in frozen],
        )


def _unregistered(e: Evidence) -> Iterator[Finding]:
    if e.unregistered:
        yield UNREGISTERED.found(
            "critical",
            f"unregistered: {_names(e.unregistered)} "
            f"{'is' if len(e.unregistered) == 1 else 'are'} used but no part of the model "
            "(model.parameters() lacks the weights).",
            cost=3.5e3,
            value=len(e.unregistered),
            threshold=0,
            where=e.unregistered,
        )


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _size(shape: Sequence[int]) -> int:
    count = 1
    for n in shape:
        count *= n
    return count


RULES = (_nothing, _unregistered, _detached, _zero, _frozen)

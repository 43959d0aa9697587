"""From theory's proposals to a race, and from its winner to parameter groups."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from kadanoff.errors import AnalysisError
from kadanoff.tuning import parts
from kadanoff.tuning import rates as theory
from kadanoff.tuning.gains import Initialisation
from kadanoff.tuning.halving import USUAL, Race, WayToTrain, race
from kadanoff.tuning.objective import Objective
from kadanoff.tuning.optimizers import Group, Maker
from kadanoff.tuning.stream import Stream
from kadanoff.tuning.trials import Trials, groups
from kadanoff.tuning.tuned import Tuned, entries_of

__all__ = ["Setting", "raced_groups", "relative_rates"]

# with fewer steps than this no trial says anything
ENOUGH = 20
AS_IS = "the model as it is"
# random outputs that a response is averaged over, and how far from the usual rate it may lead
PROBES, NEAR = 4, 30.0


@dataclass(frozen=True)
class Setting:
    """What a race is about: model, data, loss, optimiser, theory's plan, and the budget."""

    model: nn.Module
    stream: Stream
    objective: Objective
    maker: Maker
    plan: Initialisation
    before: Mapping[str, Tensor]
    budget: int
    horizon: int
    seed: int = 0
    s: float = 1.0
    no_decay: bool = False
    stated: bool = False
    progress: Callable[..., None] | None = None

    @property
    def parameters(self) -> dict[str, Tensor]:
        """Those that may be trained, by name."""
        return {n: p for n, p in self.model.named_parameters() if n in self.before}


@torch.no_grad()
def raced_groups(setting: Setting) -> Tuned:
    """Put the model back as it was, race, and apply what won.

    Raises
    ------
    AnalysisError
        The loss is not finite before the first step.
    """
    parameters = setting.parameters
    start = {
        name: parameters[name].detach().clone()
        for name, value in setting.before.items()
        if not torch.equal(parameters[name], value)
    }
    _set(parameters, setting.before)
    where = parts.parameter_roles(setting.model, setting.stream.batch(0))
    kind = "adamw" if setting.maker.kind == "adam" else setting.maker.kind
    algorithm = {n: theory.algorithm_of(kind, where[n], p) for n, p in parameters.items()}
    muon = [n for n, step in algorithm.items() if step == "muon"]
    ways = _Ways(setting, where, algorithm, start)
    if setting.budget < ENOUGH:
        note = (
            f"A race in {setting.budget} steps would say nothing: everything was left as it is. "
            "Raise steps= or effort=."
        )
        return _finished(setting, ways.plain, setting.maker.rate, muon, None, (note,))
    trials = Trials(
        setting.model,
        setting.stream,
        setting.objective,
        setting.maker,
        muon=muon,
        seed=setting.seed,
    )
    with trials.running():
        first = trials.loss(0)
        if not math.isfinite(first):
            raise AnalysisError(
                f"The loss is {first} on the first batch, before any step was taken.",
                "Nothing was changed; `kadanoff diagnose` says where it comes from.",
            )
        won, size, found = race(
            trials,
            ways.plain,
            lambda: ways.others(trials),
            fresh=ways.fresh,
            likely=ways.likely,
            budget=setting.budget,
            horizon=setting.horizon,
            usual=ways.usual,
            report=setting.progress,
        )
    _set(parameters, won.start)
    return _finished(setting, won, size, muon, found, ())


class _Ways:
    """The ways to train that are raced: initial weights times relative rates.

    Attributes
    ----------
    plain : WayToTrain
        The model and the ratios of its rates as they are.
    roles : WayToTrain or None
        Rates by role; None where that is the same.
    fresh : WayToTrain or None
        Theory's initial weights; None where theory leaves them.
    usual : float
        The rate that is right more often than not.
    """

    def __init__(
        self,
        setting: Setting,
        where: dict[str, parts.Role],
        algorithm: dict[str, str],
        start: dict[str, Tensor],
    ) -> None:
        maker, parameters = setting.maker, setting.parameters
        self._setting, self._where, self._algorithm = setting, where, algorithm
        own = _own_rates(parameters, maker)
        self.plain = WayToTrain(AS_IS, own)
        self.usual = maker.rate * (1.0 if setting.stated or maker.own else USUAL[maker.kind])
        placed = {
            n: own[n] * theory.by_role(where[n], algorithm[n], p.ndim)
            for n, p in parameters.items()
        }
        same = len(set(placed.values())) == 1
        self.roles = None if same else WayToTrain("rates by role", placed, {}, 1)
        self.fresh: WayToTrain | None = None
        if start:
            dead, expected = rescued(setting.plan), _expected_size(setting, start, self.usual)
            self.fresh = WayToTrain("critical weights", own, start, 1, dead, expected)

    @property
    def likely(self) -> WayToTrain:
        """What a small budget is spent on: rates by role where tokens are looked up in tables."""
        tables = any(role.role == "embedding" for role in self._where.values())
        stated = bool(self._setting.maker.own)
        return self.roles if tables and self.roles is not None and not stated else self.plain

    def others(self, trials: Trials) -> list[WayToTrain]:
        """All ways but the plain one, after the first trials."""
        kinds = [] if self.roles is None else [self.roles]
        equal = relative_rates(trials, self._where, self._algorithm, self._setting)
        kinds.append(WayToTrain("equal parts in the motion", equal, {}, 1))
        if self.fresh is not None:
            kinds.append(self.fresh)
            if self.roles is not None:
                name = "critical weights, rates by role"
                kinds.append(
                    replace(self.fresh, name=name, relative=self.roles.relative, changes=2)
                )
        return kinds


def rescued(plan: Initialisation) -> bool:
    """Whether signals shrink or grow a thousandfold through the layers theory would rescale."""
    ratios = [c.gain_before / c.gain_after for c in plan.changes if c.gain_after > 0]
    # the product of gains over critical gains is the change of a signal's mean square
    exponent = sum(math.log(max(r, 1e-30)) for r in ratios[1:])
    return abs(exponent) > math.log(1e6)


def _expected_size(setting: Setting, start: Mapping[str, Tensor], usual: float) -> float:
    """The rate at which one step moves the output by :data:`theory.BASE`, with weights ``start``.

    Within a factor of 30 of the usual rate: the response at the start is no oracle. On plain
    networks at criticality it was within a factor of 3 of the best of a sweep.
    """
    kind, parameters = {"sgd": "sgd"}.get(setting.maker.kind, "adamw"), setting.parameters
    try:
        _set(parameters, start)
        sample = setting.stream.batch(0)
        response = theory.measure_response(setting.model, sample, probes=PROBES, seed=setting.seed)
    except AnalysisError:
        return usual
    finally:
        _set(parameters, {n: setting.before[n] for n in start})
    whole = sum(r[1 if kind == "adamw" else 0] for r in response.values())
    if not whole > 0:
        return usual
    return min(max(theory.BASE[kind] / whole, usual / NEAR), usual * NEAR)


def _set(parameters: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    for name, value in values.items():
        parameters[name].copy_(value)


def _own_rates(parameters: Mapping[str, Tensor], maker: Maker) -> dict[str, float]:
    """The user's rates over the first of them: 1 for all unless an optimiser was handed over."""
    own = {n: maker.own.get(id(p), {}).get("lr", maker.rate) for n, p in parameters.items()}
    return {n: float(rate) / maker.rate for n, rate in own.items()}


def relative_rates(
    trials: Trials,
    where: Mapping[str, parts.Role],
    algorithm: Mapping[str, str],
    setting: Setting,
) -> dict[str, float]:
    """Rates by theory over one rate for all that moves the loss as much.

    A step moves the loss by the rate times the sum of |g| (of g^2 for SGD), averaged over the
    first steps of the model as it is. Every matrix is to have the same part in it and every vector
    a tenth (see :mod:`kadanoff.tuning.rates`), each within a factor :data:`theory.FREE` of one
    rate for all.

    Parameters
    ----------
    trials : Trials
    where : mapping of str to Role
    algorithm : mapping of str to str
        Role, and kind of step, of each parameter.
    setting : Setting
        Of the optimiser.
    """
    found = parts.branches(setting.model, setting.stream.batch(0))
    power = {"sgd": 1}.get(setting.maker.kind, 0)
    strength = {n: total[power] for n, total in trials.gradients.items() if n in where}
    weight = {
        n: theory.weight_of(where[n], trials.parameters[n].ndim, n in found.inside, found.count)
        for n in strength
    }
    out = {}
    for kind in set(algorithm.values()):
        mine = {n: v for n, v in strength.items() if algorithm[n] == kind}
        if kind == "muon" or not any(mine.values()):
            out |= dict.fromkeys(mine, 1.0)
            continue
        whole, shares = sum(mine.values()), sum(weight[n] for n in mine)
        for n, v in mine.items():
            wanted = whole * weight[n] / shares / v if v > 0 else 1.0
            out[n] = min(max(wanted, 1 / theory.FREE), theory.FREE)
    return out


def _finished(
    setting: Setting,
    kind: WayToTrain,
    size: float,
    muon: list[str],
    found: Race | None,
    notes: tuple[str, ...],
) -> Tuned:
    model, maker, plan = setting.model, setting.maker, setting.plan
    parameters = setting.parameters
    rates = {n: size * factor for n, factor in kind.relative.items()}
    names = {id(p): n for n, p in parameters.items()}
    made = groups(parameters, rates, maker, muon)
    for group in made:
        group["name"] = _group_name([names[id(p)] for p in group["params"]], len(made))
    if setting.no_decay:
        made = [part for group in made for part in _split_decay(group)]
    changed = bool(kind.start)
    why = "one rate for all" if len(set(rates.values())) == 1 else "its rate by theory"
    words = dict.fromkeys(rates, why if found is not None else "")
    left = plan.left if changed else ()
    if not changed:
        offered = [c.name for c in plan.changes if c.name in setting.before]
        left = tuple(f"{name}: the race did not ask for a change" for name in offered)
    kept = plan.notes if changed or "looks trained" in " ".join(plan.notes) else ()
    standard = tuple(note for note in plan.notes if "standardise" in note and note not in kept)
    return Tuned(
        made,
        verdict=_verdict(kind, size, maker, found),
        entries=entries_of(model, rates, plan.changes if changed else (), left, words),
        notes=(*notes, *kept, *standard),
        maker=maker,
        race=found,
        model=model,
        before=setting.before,
        steps=setting.horizon,
    )


def _group_name(names: list[str], count: int) -> str:
    if count == 1:
        return "all"
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _split_decay(group: Group) -> list[Group]:
    matrices = [p for p in group["params"] if p.ndim > 1]
    vectors = [p for p in group["params"] if p.ndim <= 1]
    parts = [replace_params(group, matrices)] if matrices else []
    if vectors:
        parts.append(replace_params(group, vectors) | {"weight_decay": 0.0})
    return parts


def replace_params(group: Group, params: list[Tensor]) -> Group:
    """A group of the same options for other parameters."""
    return {**group, "params": params}


def _verdict(kind: WayToTrain, size: float, maker: Maker, found: Race | None) -> str:
    if found is None:
        return f"Left as it is, at {size:.3g}."
    if kind.name == AS_IS and size == maker.rate:
        return f"Leave everything as it is, at {size:.3g}: nothing that was tried does better."
    weights = "" if kind.start else "initial weights as they are, "
    name = "" if kind.name == AS_IS else f"{kind.name}, "
    rate = f"rate {size:.3g} (was {maker.rate:.3g})"
    return f"Best of {len(found.trials)} trials: {name}{weights}{rate}."

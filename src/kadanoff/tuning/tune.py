"""``tune``: what trains best, found by theory and a short race, as groups for the optimiser."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from kadanoff.data import example
from kadanoff.errors import AnalysisError, ConvergenceError, UsageError
from kadanoff.tuning.initialise import Change, Initialisation, gain_of, initialise
from kadanoff.tuning.optimizers import Group, Maker, maker, trainable
from kadanoff.tuning.tuned import Tuned, entries_of

__all__ = ["parameter_groups", "tune"]


def tune(
    model: nn.Module,
    data: Any,
    optimizer: Any = None,
    *,
    seed: int = 0,
    tolerance: float = 0.05,
    probes: int = 4,
    progress: Callable[..., None] | None = None,
    s: float = 1.0,
    base: float | None = None,
    weight_decay: float | None = None,
    no_decay: bool = False,
    trained: bool = False,
) -> Tuned:
    """Bring a model to criticality in place and return parameter groups for its optimiser.

    Parameters
    ----------
    model, seed, tolerance, probes, progress, trained
        See :func:`kadanoff.tuning.initialise.initialise`, which also says what is never touched.
    data : Tensor, (inputs, targets), dict, Batch, or iterable of batches
        One batch of inputs as the model takes it.
    optimizer : str, class, callable or torch.optim.Optimizer, optional
        ``"sgd"``, ``"adam"``, ``"adamw"``, ``"muon"``, a class, a function of parameter groups,
        or an optimiser already made. With one, each group carries its own learning rate by the
        equivalence principle (see :func:`kadanoff.tuning.rates.parameter_groups`); without, only
        the initial weights are set.
    s : float
        0 for NTK scaling, 1 for maximal-update scaling, or between.
    base : float, optional
        The one number left to tune, the same at any width and depth.
    weight_decay : float, optional
        Fraction by which matrices are to shrink a step. Without it the groups say nothing of
        decay, and the optimiser's own holds.
    no_decay : bool
        Whether vectors (biases, gains) are to be kept from decay.

    Returns
    -------
    Tuned
        A list of dicts as any ``torch.optim`` class takes them: ``params``, ``name``, with an
        optimiser ``lr``. Every trainable parameter is in exactly one group. Printed, it says what
        was changed and why; ``undo()`` puts the parameters back.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    >>> groups = tune(model, torch.eye(8))
    >>> optimiser = torch.optim.SGD(groups, lr=0.1)
    """
    if not isinstance(model, nn.Module):
        raise UsageError(f"tune needs a torch.nn.Module, got {type(model).__name__}.")
    made = None if optimizer is None else maker(optimizer)
    before = {n: p.detach().clone() for n, p in trainable(model).items()}
    call = example(data, model)
    plan = _initialised(
        model, call, seed=seed, tolerance=tolerance, probes=probes, progress=progress,
        trained=trained,
    )  # fmt: skip
    if made is None:
        groups, words = parameter_groups(model, no_decay=no_decay), {}
    else:
        plan = _calm_readout(model, call, plan, s)
        groups, words = _theory(model, call, made, plan, seed, s, base, weight_decay, no_decay)
    names = {id(p): n for n, p in model.named_parameters()}
    rates = {names[id(p)]: g.get("lr") for g in groups for p in g["params"]}
    return Tuned(
        groups,
        verdict=_verdict(plan, made),
        entries=entries_of(model, rates, plan.changes, plan.left, words),
        notes=plan.notes,
        maker=made,
        model=model,
        before=before,
    )


def _initialised(model: nn.Module, data: Any, **options: Any) -> Initialisation:
    """Criticality where it can be reached; else the weights as they are, with the reason."""
    try:
        return initialise(model, data, **options)
    except (AnalysisError, ConvergenceError) as error:
        note = f"The initial weights were left as they are: {error.message}"
        return Initialisation("untouched", (), (), 0, math.nan, (note,))


def _calm_readout(model: nn.Module, data: Any, plan: Initialisation, s: float) -> Initialisation:
    """Scale the readout as the member s of the family has it, where weights may be changed."""
    from kadanoff.tuning import rates

    found = rates.readout_of(rates.roles(model, data))
    if plan.method == "untouched" or found is None or found.fan_in <= rates.BASE_WIDTH:
        return plan
    weight = dict(model.named_parameters())[found.name]
    before = gain_of(weight, found.fan_in)
    factor = rates.scale_readout_(model, data, s)
    reason = f"readout times {factor:.3g}, so that features can move at any width"
    change = Change(found.name, before, before * factor**2, math.nan, reason)
    earlier = {c.name: c for c in plan.changes}
    if found.name in earlier:
        change = replace(change, gain_before=earlier[found.name].gain_before)
    return replace(plan, changes=(*(c for c in plan.changes if c.name != found.name), change))


def _theory(
    model: nn.Module,
    data: Any,
    made: Maker,
    plan: Initialisation,
    seed: int,
    s: float,
    base: float | None,
    weight_decay: float | None,
    no_decay: bool,
) -> tuple[list[Group], dict[str, str]]:
    from kadanoff.tuning import rates

    kind = {"sgd": "sgd", "muon": "muon"}.get(made.kind, "adamw")
    groups = rates.parameter_groups(
        model, data, kind, s=s, base=base, seed=seed, weight_decay=weight_decay,
        in_place=False, bound=rates.FREE,
    )  # fmt: skip
    for group in groups:
        if no_decay and group["params"][0].ndim <= 1:
            group["weight_decay"] = 0.0
    words = {g["name"]: f"{g['role']}: {100 * g['share']:.2g} % of a step" for g in groups}
    return groups, words


def _verdict(plan: Initialisation, made: Maker | None) -> str:
    weights = {
        "closed form": "Initial weights set to criticality in closed form",
        "numerical": "Initial weights set to criticality by measurement",
        "untouched": "Initial weights left as they are",
    }[plan.method]
    if made is None:
        return f"{weights}."
    return f"{weights}; rates by theory, no trial was run."


def parameter_groups(model: nn.Module, *, no_decay: bool = False) -> list[Group]:
    """Split the trainable parameters into matrices and vectors.

    With ``no_decay`` the vectors are kept from weight decay; otherwise the optimiser's own holds
    for all.
    """
    parameters = trainable(model).values()
    kinds: list[tuple[str, list[Tensor]]] = [
        ("weights", [p for p in parameters if p.ndim > 1]),
        ("vectors", [p for p in parameters if p.ndim <= 1]),
    ]
    groups: list[Group] = [{"name": name, "params": params} for name, params in kinds if params]
    for group in groups:
        if no_decay and group["name"] == "vectors":
            group["weight_decay"] = 0.0
    return groups

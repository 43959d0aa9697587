"""``tune``: what trains best, found by theory and a short race, as groups for the optimiser."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from kadanoff.data.forms import Example
from kadanoff.errors import AnalysisError, ConvergenceError, UsageError
from kadanoff.tuning.gains import Change, Initialisation, gain_of
from kadanoff.tuning.initialisation import initialise
from kadanoff.tuning.objective import Loss, Objective, has_loss
from kadanoff.tuning.optimizers import Group, Maker, maker, trainable
from kadanoff.tuning.sharpness import WARM, edge
from kadanoff.tuning.stream import Stream
from kadanoff.tuning.trials import Trials
from kadanoff.tuning.tuned import Tuned, entries_of

__all__ = ["tune", "weights_and_vectors"]

# length of the run that is tuned for if nobody says, and the part of it that trials may take
STEPS, EFFORT = 1000, 0.1
# The best rate of a sweep over the edge after 20 steps: geometric means 0.08 under SGD and 0.1
# under AdamW, on ten families (benchmarks/tune); a factor of 2 and of 4 from one to the next.
OF_EDGE = 0.1


def tune(
    model: nn.Module,
    data: Any,
    optimizer: Any = None,
    *,
    loss: Loss | None = None,
    steps: int | None = None,
    lr: float | None = None,
    race: bool | None = None,
    effort: float = EFFORT,
    batch: int | None = None,
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
    """Find initial weights and learning rates that train at least as well as what you have.

    With an optimiser and something to train on, a short race decides: trials on copies of the
    state, on the same batches, of the model as it is at several rates, and of theory's initial
    weights and relative rates; the winner may be to leave everything as it is. Nothing of the
    model is changed before the race is won. Without a loss, or with ``race=False``, theory alone.

    Parameters
    ----------
    model : nn.Module
        What is frozen is never touched, nor the weights of a model that looks trained; see
        :func:`kadanoff.tuning.initialise`.
    data : Tensor, (inputs, targets), dict, Batch, iterable of batches, or callable
        What the model trains on: one batch; a dataset as one pair, taken ``batch`` samples at a
        time; batches, which begin anew when they run out; or a function of the number of the step
        that returns a batch.
    optimizer : str, class, callable or torch.optim.Optimizer, optional
        ``"sgd"``, ``"adam"``, ``"adamw"``, ``"muon"``, a class, a function of parameter groups
        (``functools.partial(torch.optim.SGD, momentum=0.9)``), or an optimiser already made,
        whose options are kept. Without one, only the initial weights are set.
    loss : callable, optional
        ``loss(output, targets)``, or ``loss(output)`` where the data has no targets. Without one:
        the model's own (Hugging Face), else cross-entropy for integer targets, mean squared error
        for real ones.
    steps : int, optional
        Length of the run that is tuned for; without it 1,000.
    lr : float, optional
        Your rate as it is; without it the optimiser's own (1e-3 in torch).
    race : bool, optional
        Whether to run trials; without it, if there is an optimiser, a loss, and no ``base``. With
        False the size of theory's rates is a tenth of the edge of stability, measured on the loss
        in some 25 gradients; without a loss, or with ``base``, the response of the output sets it.
    effort : float
        Steps that the race may take, over ``steps``.
    batch : int, optional
        Samples a step of a dataset given as one pair.
    seed : int
        Of the order of the batches and of whatever is drawn.
    tolerance, probes
        Of the initialisation by measurement.
    progress : callable, optional
        ``progress(done, total)``.
    s : float
        Theory's rates: 0 for NTK scaling, 1 for maximal-update scaling, or between.
    base : float, optional
        Theory's rates: motion of the output a step, instead of a race.
    weight_decay : float, optional
        Theory's rates: fraction by which matrices are to shrink a step. Without it the groups say
        nothing of decay, and the optimiser's own holds.
    no_decay : bool
        Whether vectors (biases, gains) are to be kept from decay.
    trained : bool
        Rescale also a model that looks trained.

    Returns
    -------
    Tuned
        A list of dicts as any ``torch.optim`` class takes them: ``params``, ``name``, with an
        optimiser ``lr``. Every trainable parameter is in exactly one group. Printed, it says what
        was changed and why; ``undo()`` puts the parameters back.

    Raises
    ------
    DataError
        The model cannot take the data, or the data does not go with the loss.
    UsageError
        Another argument is wrong.
    AnalysisError
        The loss is not finite before the first step.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    >>> groups = tune(model, torch.eye(8))
    >>> optimiser = torch.optim.SGD(groups, lr=0.1)
    """
    if not isinstance(model, nn.Module):
        raise UsageError(f"tune needs a torch.nn.Module, got {type(model).__name__}.")
    steps = STEPS if steps is None else steps
    if steps < 1 or not 0 < effort < math.inf:
        raise UsageError(
            f"steps = {steps} and effort = {effort} leave nothing to do.", "Give positive numbers."
        )
    made = None if optimizer is None else maker(optimizer, lr)
    _check_trainable(model, made)
    stream = Stream(data, model, batch=batch, seed=seed)
    sample = stream.batch(0)
    raced = _wants_race(model, sample, made, loss, race, base)
    before = {n: p.detach().clone() for n, p in trainable(model).items()}
    plan = _initialised(
        model,
        sample,
        seed=seed,
        tolerance=tolerance,
        probes=probes,
        progress=None if raced else progress,
        trained=trained,
    )
    if made is not None:
        plan = _calm_readout(model, sample, plan, s)
    if raced:
        from kadanoff.tuning.racing import Setting, raced_groups

        assert made is not None
        setting = Setting(
            model,
            stream,
            Objective(loss),
            made,
            plan,
            before,
            budget=int(effort * steps),
            horizon=steps,
            seed=seed,
            s=s,
            no_decay=no_decay,
            stated=lr is not None,
            progress=progress,
        )
        return raced_groups(setting)
    notes: tuple[str, ...] = ()
    if made is None:
        groups, words = weights_and_vectors(model, no_decay=no_decay), {}
    else:
        groups, words = _theory(model, sample, made, seed, s, base, weight_decay, no_decay)
        if base is None and has_loss(sample, loss, model):
            trials = Trials(
                model,
                stream,
                Objective(loss),
                made,
                seed=seed,
                muon=[g["name"] for g in groups if g.get("algorithm") == "muon"],
            )
            notes = (_measured_size(trials, groups, warm=max(1, min(WARM, steps // 10))),)
    names = {id(p): n for n, p in model.named_parameters()}
    rates = {names[id(p)]: g.get("lr") for g in groups for p in g["params"]}
    return Tuned(
        groups,
        verdict=_verdict(plan, made),
        entries=entries_of(model, rates, plan.changes, plan.left, words),
        notes=(*notes, *plan.notes),
        maker=made,
        model=model,
        before=before,
        steps=steps,
    )


def _check_trainable(model: nn.Module, made: Maker | None) -> None:
    if not any(True for _ in model.parameters()):
        raise UsageError("The model has no parameters: there is nothing to tune.")
    if made is not None and not trainable(model):
        raise UsageError(
            "The model has no trainable parameters: none requires a gradient.",
            "Call requires_grad_(True) on what is to be trained.",
        )


def _wants_race(
    model: nn.Module,
    sample: Example,
    made: Maker | None,
    loss: Loss | None,
    race: bool | None,
    base: float | None,
) -> bool:
    """Whether to race; an error if it was asked for and cannot be."""
    if race is False or (race is None and (made is None or base is not None)):
        return False
    able = has_loss(sample, loss, model)
    if race and made is None:
        raise UsageError("A race needs an optimizer.", 'Pass e.g. optimizer="adamw".')
    if race and not able:
        raise UsageError(
            "A race needs something to train on: the data has no targets, and no loss was given.",
            "Pass (inputs, targets), loss=, or race=False.",
        )
    return able


def _initialised(model: nn.Module, data: Any, **options: Any) -> Initialisation:
    """Criticality where it can be reached; else the weights as they are, with the reason."""
    try:
        return initialise(model, data, **options)
    except (AnalysisError, ConvergenceError) as error:
        note = f"The initial weights were left as they are: {error.message}"
        return Initialisation("untouched", (), (), 0, math.nan, (note,))


def _calm_readout(model: nn.Module, data: Any, plan: Initialisation, s: float) -> Initialisation:
    """Scale the readout as the member s of the family has it, where weights may be changed."""
    from kadanoff.tuning import parts, rates

    found = parts.readout_of(parts.parameter_roles(model, data))
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
    seed: int,
    s: float,
    base: float | None,
    weight_decay: float | None,
    no_decay: bool,
) -> tuple[list[Group], dict[str, str]]:
    from kadanoff.tuning import rates

    kind = {"sgd": "sgd", "muon": "muon"}.get(made.kind, "adamw")
    groups = rates.parameter_groups(
        model,
        data,
        kind,
        s=s,
        base=base,
        seed=seed,
        weight_decay=weight_decay,
        in_place=False,
        bound=rates.FREE,
    )
    for group in groups:
        if no_decay and group["params"][0].ndim <= 1:
            group["weight_decay"] = 0.0
    words = {g["name"]: f"{g['role']}: {100 * g['share']:.2g} % of a step" for g in groups}
    return groups, words


def _measured_size(trials: Trials, groups: list[Group], warm: int) -> str:
    """Bring theory's rates, in place, to :data:`OF_EDGE` of the edge of stability; says so.

    Where the loss has no edge, or the warm-up fails, they stay where the response put them.
    """
    middle = sorted(g["lr"] for g in groups)[len(groups) // 2]
    relative = {g["name"]: g["lr"] / middle for g in groups}
    try:
        with trials.running():
            found = edge(trials, relative, warm=warm)
    except AnalysisError as error:
        return f"The edge of stability was not measured: {error.message}"
    if not math.isfinite(found.size):
        return "The loss has no edge of stability: it curves upwards nowhere."
    for group in groups:
        group["lr"] = OF_EDGE * found.size * relative[group["name"]]
    return (
        f"Rates are {OF_EDGE:g} of the edge of stability, measured in {found.gradients} gradients: "
        f"largest curvature {found.sharpness:.3g} after {warm} steps."
    )


def _verdict(plan: Initialisation, made: Maker | None) -> str:
    weights = {
        "closed form": "Initial weights set to criticality in closed form",
        "numerical": "Initial weights set to criticality by measurement",
        "untouched": "Initial weights left as they are",
    }[plan.method]
    if made is None:
        return f"{weights}."
    return f"{weights}; rates by theory, no trial was run."


def weights_and_vectors(model: nn.Module, *, no_decay: bool = False) -> list[Group]:
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

"""What ``tune`` gives back: parameter groups, and what was changed and why."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from kadanoff.errors import StorageError, UsageError
from kadanoff.files import write_json
from kadanoff.tuning.gains import Change
from kadanoff.tuning.optimizers import Group, Maker

if TYPE_CHECKING:
    from kadanoff.tuning.halving import Race

__all__ = ["Tuned", "groups_from"]

FORMAT = 1
# A rate that falls linearly to zero is half of its first value on average: twice the rate goes as
# far. Not under SGD, whose best rate lies so near the edge of stability that twice as much may
# diverge (2 of 18 nets did): what Adam and Muon move in a step is bounded, its steps are not.
FALLING = {"sgd": 1.0, "adam": 2.0, "muon": 2.0}


@dataclass(frozen=True)
class Entry:
    """One parameter: its rate (None: the optimiser's own), and what happened to it and why."""

    name: str
    lr: float | None
    gain_before: float
    gain_after: float
    why: str

    @property
    def rescaled(self) -> bool:
        """Whether its initial values were changed."""
        same = math.isnan(self.gain_after) or math.isnan(self.gain_before)
        return not same and abs(self.gain_after / (self.gain_before or 1.0) - 1) > 1e-6


class Tuned(list[Group]):
    """Parameter groups as any ``torch.optim`` class takes them; printed, it says what was done.

    Attributes
    ----------
    verdict : str
        One sentence: what trains best, and what it was held against.
    entries : tuple of Entry
        One a parameter, also where nothing was done.
    notes : tuple of str
        What the user should know besides.
    race : Race or None
        The trials, where some were run.
    steps : int
        Length of the run that was tuned for; 0 if nobody said.
    """

    def __init__(
        self,
        groups: Iterable[Group],
        *,
        verdict: str,
        entries: tuple[Entry, ...] = (),
        notes: tuple[str, ...] = (),
        maker: Maker | None = None,
        race: Race | None = None,
        model: nn.Module | None = None,
        before: Mapping[str, Tensor] | None = None,
        steps: int = 0,
    ) -> None:
        super().__init__(groups)
        self.steps = steps
        self.verdict, self.entries, self.notes, self.race = verdict, entries, notes, race
        self._maker, self._model, self._before = maker, model, dict(before or {})

    def undo(self) -> None:
        """Put the model's parameters back to what they were before ``tune``, bit by bit."""
        if self._model is None:
            return
        parameters = dict(self._model.named_parameters())
        with torch.no_grad():
            for name, value in self._before.items():
                parameters[name].copy_(value)

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """The user's optimiser made for these groups; two of them for Muon.

        Raises
        ------
        UsageError
            ``tune`` was not told an optimiser.
        """
        if self._maker is None:
            raise UsageError(
                "tune was not told an optimizer.", 'Call tune(..., optimizer="adamw").'
            )
        return self._maker.make([dict(g) for g in self])

    def with_decay(
        self, steps: int | None = None
    ) -> tuple[list[torch.optim.Optimizer], list[torch.optim.lr_scheduler.LinearLR]]:
        """Optimisers at twice the rates, and schedulers that bring them to zero in ``steps`` steps.

        Call ``scheduler.step()`` after each ``optimizer.step()``. The rates add up to those of
        :meth:`optimizers`, so the model goes as far (under SGD, whose rates lie near the edge of
        stability, they begin at those and add up to half); but what a constant rate adds to the
        loss at the end (the noise of the batches, the swing across steep valleys) goes with the
        rate to zero. A rate that a short race found too high costs little then.

        Parameters
        ----------
        steps : int, optional
            Length of the run; without it what ``tune`` was told.

        Returns
        -------
        list of Optimizer, list of LinearLR
            One scheduler an optimiser; two of each for Muon.

        Raises
        ------
        UsageError
            ``tune`` was not told an optimiser, or nobody says how many steps.
        """
        steps = steps or self.steps
        if steps < 1:
            raise UsageError(
                f"steps = {steps}: it is not known when the rates are to be zero.",
                "Pass the length of the run.",
            )
        raised = [g | {"lr": self._raised * (g.get("lr") or self.rate)} for g in self]
        made = Tuned(raised, verdict="", maker=self._maker).optimizers()
        falling = torch.optim.lr_scheduler.LinearLR
        return made, [falling(o, 1.0, 0.0, total_iters=steps) for o in made]

    @property
    def _raised(self) -> float:
        """What rates that fall to zero begin at, over constant ones."""
        return 1.0 if self._maker is None else FALLING[self._maker.kind]

    @property
    def optimizer(self) -> str:
        """The optimiser's name; empty if ``tune`` was not told one."""
        return "" if self._maker is None else self._maker.name

    @property
    def rate(self) -> float:
        """The user's rate as it was."""
        return math.nan if self._maker is None else self._maker.rate

    def optimizers_for(self, model: nn.Module, *, own: bool = False) -> list[torch.optim.Optimizer]:
        """The same for another instance of the model; with ``own`` at the user's own rate."""
        assert self._maker is not None
        assert self._model is not None
        names = {id(p): n for n, p in self._model.named_parameters()}
        there = dict(model.named_parameters())
        groups = []
        for group in self:
            lr = self._maker.rate if own else group["lr"]
            params = [there[names[id(p)]] for p in group["params"]]
            groups.append(group | {"params": params, "lr": lr})
        return self._maker.make(groups)

    @property
    def line(self) -> str:
        """A line for a training script; ``groups.json`` is written by :meth:`save`."""
        name = self._maker.name if self._maker is not None else "SGD"
        name = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "muon": "Muon"}.get(name, name)
        rates = {g.get("lr") for g in self}
        if len(rates) == 1 and None not in rates and name != "Muon":
            return f"optimizer = torch.optim.{name}(model.parameters(), lr={rates.pop():.4g})"
        if name == "Muon":
            return 'optimizers = kadanoff.tuning.groups_from("groups.json", model).optimizers()'
        return f'optimizer = torch.optim.{name}(kadanoff.tuning.groups_from("groups.json", model))'

    @property
    def decay_lines(self) -> str:
        """The same for a run whose rate falls to zero; empty if nobody said how long it is."""
        if not self.steps or self._maker is None:
            return ""
        rates = {float(g.get("lr") or self.rate) for g in self}
        after = "\n# scheduler.step() after each optimizer.step()"
        if len(rates) > 1 or self._maker.kind == "muon":
            made = 'kadanoff.tuning.groups_from("groups.json", model)'
            return f"optimizers, schedulers = {made}.with_decay({self.steps}){after}"
        (rate,) = rates
        first = self.line.replace(f"lr={rate:.4g}", f"lr={self._raised * rate:.4g}")
        falling = "torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters="
        return f"{first}\nscheduler = {falling}{self.steps}){after}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values of everything, for JSON; parameters by name."""
        names = {} if self._model is None else {id(p): n for n, p in self._model.named_parameters()}
        return {
            "format": FORMAT,
            "verdict": self.verdict,
            "optimizer": None if self._maker is None else self._maker.name,
            "line": self.line,
            "decay": self.decay_lines,
            "steps": self.steps,
            "groups": [
                {k: v for k, v in g.items() if k != "params"}
                | {"params": [names.get(id(p), "") for p in g["params"]]}
                for g in self
            ],
            "changes": list(self.entries),
            "notes": list(self.notes),
            "race": None if self.race is None else self.race.to_dict(),
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the groups with the names of their parameters as JSON.

        Raises
        ------
        StorageError
            The file cannot be written.
        """
        write_json(path, self.to_dict())

    def __repr__(self) -> str:
        return f"<Tuned: {len(self)} parameter groups. {self.verdict}>"

    def __str__(self) -> str:
        from kadanoff.tuning.report import tuned_text

        return tuned_text(self)

    def __rich__(self) -> Any:
        from kadanoff.tuning.report import tuned_terminal

        return tuned_terminal(self)


def entries_of(
    model: nn.Module,
    rates: Mapping[str, float | None],
    changes: Iterable[Change],
    left: Iterable[str],
    words: Mapping[str, str],
) -> tuple[Entry, ...]:
    """One entry a parameter, from the rates and the report of the initialisation."""
    changed = {c.name: c for c in changes}
    kept = dict(item.split(": ", 1) for item in left if ": " in item)
    out = []
    for name, parameter in model.named_parameters():
        change = changed.get(name)
        before, after = (change.gain_before, change.gain_after) if change else (math.nan, math.nan)
        parts = []
        if not parameter.requires_grad:
            parts.append("frozen: untouched")
        elif change is not None and abs(after / (before or 1.0) - 1) > 1e-6:
            parts.append(change.reason)
        elif name in kept:
            parts.append(f"initial values kept ({kept[name]})")
        if words.get(name):
            parts.append(words[name])
        out.append(Entry(name, rates.get(name), before, after, "; ".join(parts)))
    return tuple(out)


def groups_from(path: str | os.PathLike[str], model: nn.Module) -> Tuned:
    """Parameter groups for a model from the file that :meth:`Tuned.save` wrote.

    Parameters
    ----------
    path : path
    model : nn.Module
        With parameters of the same names.

    Returns
    -------
    Tuned

    Raises
    ------
    StorageError
        The file cannot be read.
    UsageError
        It is another kind of file, or names parameters that the model has not, or not all of them.
    """
    try:
        with open(path, encoding="utf-8") as stream:
            held = json.load(stream)
        stored = [(dict(g), list(g["params"])) for g in held["groups"]]
    except (OSError, ValueError) as error:
        raise StorageError(f"{os.fspath(path)!r} cannot be read ({error}).") from None
    except (KeyError, TypeError):
        raise UsageError(
            f"{os.fspath(path)!r} holds no parameter groups.", "Write it with kadanoff tune --out."
        ) from None
    parameters = dict(model.named_parameters())
    named = [n for _, names in stored for n in names]
    missing = [n for n in named if n not in parameters]
    wanting = [n for n, p in parameters.items() if p.requires_grad and n not in named]
    if missing or wanting:
        problem = (
            f"names {missing[0]!r}, which the model has not"
            if missing
            else f"does not name {wanting[0]!r}"
        )
        raise UsageError(f"{os.fspath(path)!r} {problem}.", "Is it the file of another model?")
    groups = [group | {"params": [parameters[n] for n in names]} for group, names in stored]
    maker = None
    if held.get("optimizer") in ("sgd", "adam", "adamw", "muon"):
        from kadanoff.tuning.optimizers import maker as read

        maker = read(held["optimizer"])
    return Tuned(
        groups,
        verdict=held.get("verdict", ""),
        maker=maker,
        model=model,
        steps=int(held.get("steps") or 0),
    )

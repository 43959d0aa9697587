"""The course of a training run: frames, pulses and events, as plain numbers.

A *frame* is one look at the model on the watched batch, every so many steps. A *pulse* is what the
loop shows by itself in between: the loss, and the gradients the optimiser saw.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kadanoff.diagnosis.result import Finding
from kadanoff.errors import StorageError
from kadanoff.files import atomic_write, jsonable

__all__ = ["Broken", "Event", "Film", "Frame", "Pulse", "Series"]

# a course: steps and the values at them
Series = tuple[list[int], list[float]]

# pulses that keep their gradients layer by layer
DETAILED = 200


@dataclass
class Frame:
    """One look at the model.

    Attributes
    ----------
    step : int
        Steps of the optimiser taken before it.
    scalars : dict of str to float
        What belongs to the whole model: ``loss``, ``sharpness``, ``ntk_drift``, …
    layers : dict of str to dict of str to float
        What belongs to a layer: signal → layer → value.
    """

    step: int
    scalars: dict[str, float] = field(default_factory=dict)
    layers: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass
class Pulse:
    """What the loop itself showed since the last pulse.

    Attributes
    ----------
    step : int
    loss : float
        Mean of the training loss; NaN if no loss was seen.
    gradient : float
        Norm of the gradient of the last step, all parameters together.
    gradients : dict of str to float
        The same by layer; kept for the latest pulses.
    """

    step: int
    loss: float = math.nan
    gradient: float = math.nan
    gradients: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Broken:
    """A loss or a gradient that is not finite.

    Attributes
    ----------
    step : int
        Steps taken before it.
    what : str
        ``"loss"``, ``"gradient"`` or ``"weights"``.
    path : str
        Layer where it begins; ``""`` where that cannot be told, or in the loss.
    sentence : str
        How it begins, in words.
    """

    step: int
    what: str
    path: str
    sentence: str


@dataclass(frozen=True)
class Event:
    """A finding, and the step at which it was said."""

    step: int
    finding: Finding

    def __str__(self) -> str:
        return f"step {self.step:,}: {self.finding.sentence}"


@dataclass
class Film:
    """Everything that was seen of a run.

    Attributes
    ----------
    model, recipe, precision : str
        Class of the model; the optimiser with its settings; numbers it computes with.
    every : int
        Steps between frames.
    depth : list of str
        Layers in the order of the forward pass.
    frames : list of Frame
    pulses : list of Pulse
    events : list of Event
    recent : list of (int, float)
        Step and training loss of the latest steps.
    facts : dict of str to float
        What the rules need beside the course: ``first_loss``, ``limit`` (largest number of the
        precision), ``skipped`` (backward passes in a row without a step), …
    notes : list of str
    broken : Broken or None
        The first loss or gradient that was not finite.
    """

    model: str = ""
    recipe: str = ""
    precision: str = "float32"
    every: int = 100
    depth: list[str] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    pulses: list[Pulse] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    recent: list[tuple[int, float]] = field(default_factory=list)
    facts: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    broken: Broken | None = None

    @property
    def step(self) -> int:
        """The last step that was seen."""
        frame = self.frames[-1].step if self.frames else 0
        return max(frame, self.pulses[-1].step if self.pulses else 0)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was found, first things first; notes too."""
        return tuple(event.finding for event in self.events)

    @property
    def healthy(self) -> bool:
        """Whether there is no finding beyond notes."""
        return all(event.finding.severity == "note" for event in self.events)

    # -- courses ---------------------------------------------------------------------------------

    def scalar(self, name: str, last: int = 0) -> Series:
        """Course of a number of the whole model, where it was measured.

        Parameters
        ----------
        name : str
            A key of :attr:`Frame.scalars`.
        last : int
            Only the latest so many frames; 0: all.
        """
        frames = self.frames[-last:]
        seen = [(f.step, f.scalars[name]) for f in frames if name in f.scalars]
        return [step for step, _ in seen], [value for _, value in seen]

    def layer(self, signal: str, name: str, last: int = 0) -> Series:
        """Course of a signal of one layer.

        Parameters
        ----------
        signal, name : str
            Keys of :attr:`Frame.layers`.
        last : int
            Only the latest so many frames; 0: all.
        """
        seen = []
        for frame in self.frames[-last:]:
            value = frame.layers.get(signal, {}).get(name)
            if value is not None:
                seen.append((frame.step, value))
        return [step for step, _ in seen], [value for _, value in seen]

    def names(self, signal: str) -> list[str]:
        """Layers that have a signal, in the order of the forward pass."""
        known: dict[str, None] = {}
        for frame in self.frames:
            known |= dict.fromkeys(frame.layers.get(signal, {}))
        place = {name: index for index, name in enumerate(self.depth)}
        return sorted(known, key=lambda name: place.get(name, len(place)))

    def signals(self) -> list[str]:
        """Names of all signals that layers have."""
        found: dict[str, None] = {}
        for frame in self.frames:
            found |= dict.fromkeys(frame.layers)
        return list(found)

    def losses(self) -> Series:
        """Training loss by step: mean over each pulse; of the watched batch where none was seen."""
        seen = [(p.step, p.loss) for p in self.pulses if not math.isnan(p.loss)]
        if not seen:
            return self.scalar("loss")
        return [step for step, _ in seen], [value for _, value in seen]

    def add_pulse(self, pulse: Pulse) -> None:
        """Append a pulse; older ones lose their gradients by layer."""
        self.pulses.append(pulse)
        if len(self.pulses) > DETAILED:
            self.pulses[-DETAILED - 1].gradients = {}

    # -- keeping ---------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """The film as JSON values."""
        tree = jsonable(dataclasses.asdict(dataclasses.replace(self, events=[])))
        tree["events"] = [
            {"step": e.step} | {k: v for k, v in jsonable(e.finding).items() if k != "about"}
            for e in self.events
        ]
        return tree

    @classmethod
    def from_dict(cls, tree: dict[str, Any]) -> Film:
        """A film from :meth:`to_dict`."""
        known = {f.name for f in dataclasses.fields(cls)}
        film = cls(**{key: value for key, value in tree.items() if key in known})
        film.frames = [
            Frame(
                f["step"], _numbers(f["scalars"]), {k: _numbers(v) for k, v in f["layers"].items()}
            )
            for f in tree["frames"]
        ]
        film.pulses = [
            Pulse(p["step"], _number(p["loss"]), _number(p["gradient"]), _numbers(p["gradients"]))
            for p in tree["pulses"]
        ]
        film.events = [Event(e["step"], _finding(e)) for e in tree["events"]]
        film.recent = [(int(step), _number(loss)) for step, loss in tree["recent"]]
        film.facts = _numbers(tree["facts"])
        film.broken = Broken(**tree["broken"]) if tree.get("broken") else None
        return film

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it, all at once, as JSON.

        Parameters
        ----------
        path : path
        """
        atomic_write(path, json.dumps(self.to_dict(), ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Film:
        """Read what :meth:`save` wrote.

        Parameters
        ----------
        path : path

        Raises
        ------
        StorageError
            There is no such file, or it is no film.
        """
        try:
            return cls.from_dict(json.loads(Path(path).read_text("utf-8")))
        except OSError as error:
            raise StorageError(f"Cannot read {str(path)!r}: {error.strerror}.") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StorageError(
                f"{str(path)!r} is no film of a training run ({type(error).__name__}: {error}).",
                "Films are written by `kadanoff watch --out` and Film.save.",
            ) from None

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Draw it as one HTML page.

        Parameters
        ----------
        path : path
        """
        from kadanoff.watching.page import film_page

        atomic_write(path, film_page(self))


def _number(value: Any) -> float:
    """JSON has no NaN and no infinity: ``None`` and words stand for them."""
    return math.nan if value is None else float(value)


def _numbers(tree: dict[str, Any]) -> dict[str, float]:
    return {key: _number(value) for key, value in tree.items()}


def _finding(tree: dict[str, Any]) -> Finding:
    fields = {f.name for f in dataclasses.fields(Finding)}
    given: dict[str, Any] = {key: value for key, value in tree.items() if key in fields}
    for name in ("value", "stderr", "threshold", "cost"):
        if name in given:
            given[name] = _number(given[name])
    return Finding(**{k: _tupled(v) for k, v in given.items()})


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value

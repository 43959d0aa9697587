"""``watch``: look at a model while it trains, and say what goes wrong while it can be mended."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from kadanoff.diagnosis.inputs import check_model, prepare
from kadanoff.diagnosis.result import Finding
from kadanoff.errors import UsageError
from kadanoff.trace.recorder import unwrap
from kadanoff.watching.edge import rule_of
from kadanoff.watching.film import Broken, Film, Frame, Pulse
from kadanoff.watching.hooks import backward_passes, looks, optimizer_steps
from kadanoff.watching.loggers import Logger, logger_of, scalars_of
from kadanoff.watching.origin import cause_of, gradient_layer
from kadanoff.watching.probe import Probe
from kadanoff.watching.rules import assess, suspicious
from kadanoff.watching.settings import counted, listed
from kadanoff.watching.sharded import Ranks, refuse_sharded
from kadanoff.watching.steps import (
    Steps,
    Updates,
    cheap,
    first_gradient,
    gradient_norms,
    largest_number,
    recipe_of,
    without_scale,
)
from kadanoff.watching.voice import FindingWarning, OnFinding, Voice

if TYPE_CHECKING:
    from kadanoff.watching.callbacks import WatchingCallback

__all__ = ["Watch", "watch"]

PULSES = 5  # between two frames
RECENT = 400  # steps whose loss is kept one by one
FORGOTTEN = 10  # frames after which what had ceased is said again
SKIPS = 25  # backward passes without a step that a gradient scaler may have
# frames between two measurements of what is dear
GRADIENTS_EVERY, SHARPNESS_EVERY, REGIME_EVERY = 2, 5, 10
FIRST_ITERATIONS = 6  # of the power iteration, at the first frame


class Watch:
    r"""Watch a model while a loop trains it.

    A context manager around any loop. It finds the optimiser and counts its steps, hears the loss
    of each ``loss.backward()``, and every so many steps looks at the model on one batch that stays
    the same. Nothing of the model, its gradients, its running statistics or the random state is
    changed, and nothing is left behind, also after an exception.

    What it follows: second moment and peak of the signal by depth, χ from layer to layer, gradients
    and their noise scale :math:`\mathrm{tr}\,\Sigma / |G|^2`, |Δw|/|w| of layers and parameter
    groups, dead, saturated and silent units, largest attention logit and entropy, sharpness
    against the edge of the optimiser (:mod:`kadanoff.watching.edge`), drift of the empirical NTK
    and the distance from initialisation (:mod:`kadanoff.watching.regime`), the training loss, and
    what is not finite.

    Parameters
    ----------
    model : nn.Module
        Also compiled (it is looked at uncompiled) or in ``DistributedDataParallel``. A model with
        sharded parameters is refused.
    batch
        What it is looked at with, in any form that :func:`kadanoff.diagnose` takes: inputs,
        ``(inputs, targets)``, a dict of arguments.
    every : int
        Steps between looks.
    on_finding : {"warn", "raise"} or callable or None
        What to do with a finding of severity warning or critical: warn (a
        :class:`FindingWarning`), end the loop (:class:`FindingRaised`), call
        ``on_finding(event)``, or keep it in :attr:`film` alone.
    loss : callable, optional
        ``loss(output, targets)`` on the watched batch; default: by the targets, or the model's own.
    targets : optional
        If not in ``batch``.
    optimizer : Optimizer or sequence of them, optional
        Found by itself at its first step; only needed for the edge before that.
    log : optional
        Where scalars go at each look: a ``.csv`` path, a TensorBoard writer, a Weights & Biases
        run, ``mlflow``, a Lightning logger, or ``log(scalars, step)``; or several in a list.
    samples : int
        How many samples of the batch are looked at (dead units: on up to 256, if there are any).
    thorough : bool
        Measure everything at every look; otherwise χ and gradients at every second, the
        sharpness at every fifth, drift and distance at every tenth, which keeps the cost low.
    seed : int
        Of what is drawn for the measurements. The loop's random numbers are not touched.

    Attributes
    ----------
    film : Film

    Raises
    ------
    UsageError
        A wrong setting, or sharded parameters.
    DataError
        The model cannot take the batch (said before training begins).

    Examples
    --------
    >>> import torch
    >>> x, y = torch.randn(64, 8), torch.randint(0, 3, (64,))
    >>> model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> with Watch(model, (x, y), every=10) as w:
    ...     for step in range(20):
    ...         optimizer.zero_grad()
    ...         torch.nn.functional.cross_entropy(model(x), y).backward()
    ...         optimizer.step()
    >>> [frame.step for frame in w.film.frames], w.healthy
    ([0, 10, 20], True)
    """

    def __init__(
        self,
        model: nn.Module,
        batch: Any,
        *,
        every: int = 100,
        on_finding: OnFinding = "warn",
        loss: Callable[..., Any] | None = None,
        targets: Any = None,
        optimizer: Any = None,
        log: Any = None,
        samples: int = 16,
        thorough: bool = False,
        seed: int = 0,
    ) -> None:
        self.every = counted(every, "every", "Steps between looks, e.g. every=100.")
        samples = counted(samples, "samples", "Samples to look at, e.g. samples=16.")
        if not isinstance(model, nn.Module):
            check_model(model, None)
        refuse_sharded(model)
        self._outside = model
        self.model, note = unwrap(model)
        device = check_model(self.model, None)
        inputs = prepare(self.model, batch, targets, None, device)
        self._loggers: list[Logger] = [logger_of(one) for one in listed(log)]
        self._thorough = thorough
        self._probe = Probe(inputs, loss, samples, seed)
        self._steps = Steps(self.model, listed(optimizer))
        self._ranks = Ranks(model)
        self._voice = Voice(on_finding, FORGOTTEN * self.every, aloud=self._ranks.first)
        self.film = Film(type(self.model).__name__, every=self.every)
        self.film.facts["limit"] = largest_number(self.model)
        if note:
            self.film.notes.append(note)
        self._stops: list[Callable[[], None]] = []
        self._active = False
        self._resumed = False
        self._call: tuple[tuple, dict[str, Any]] | None = None
        self._pending: list[Tensor | float] = []
        self._losses: list[Tensor | float] = []
        self._unstepped = 0
        self._updates: Updates | None = None
        self._looked = 0
        self._extra = -self.every
        self._explicit = False
        self._first = first_gradient(self.model)

    # -- entering and leaving --------------------------------------------------------------------

    def __enter__(self) -> Watch:
        if self._active:
            raise UsageError("This watch is open already.", "Make another one for a loop inside.")
        if not self._resumed:
            self._probe.regime.begin(self.model)
            self._look(first=True)
        self._active = True
        try:
            hook = self._outside.register_forward_pre_hook(self._entered, with_kwargs=True)
            self._stops += [
                hook.remove,
                backward_passes(without_scale, self._backward),
                optimizer_steps(self._before, self._after),
            ]
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if not self._active:
            return
        # what the loop itself raised is not covered up by what is found at the end of it
        with contextlib.ExitStack() as stack:
            stack.callback(self._close)
            if kind is None:
                known = bool(self._steps.optimizers) or self._explicit
                if not known and self._steps.changed():
                    self._stepped()
                self._finish()

    def _close(self) -> None:
        self._active = False
        while self._stops:
            self._stops.pop()()
        self._call = self._updates = None

    def _finish(self) -> None:
        if self._losses:
            self._pulse()
        self.film.facts["ended"] = 1.0
        self._assess()

    # -- what the user asks ----------------------------------------------------------------------

    @property
    def findings(self) -> tuple[Finding, ...]:
        """As :attr:`Film.findings`."""
        return self.film.findings

    @property
    def healthy(self) -> bool:
        """As :attr:`Film.healthy`."""
        return self.film.healthy

    def step(self, loss: Any = None) -> None:
        """Say that a step was taken, where it cannot be seen; a hand-written update, say.

        From the first call on, steps are counted by these calls alone.

        Parameters
        ----------
        loss : Tensor or float, optional
            The training loss of this step.
        """
        if loss is not None:
            value = loss.detach() if isinstance(loss, Tensor) else float(loss)
            self._pending = [cheap(value)]
        first, self._explicit = not self._explicit, True
        if not (first and self._steps.count):
            self._steps.count += 1
            self._stepped()

    def to_html(self, path: Any) -> None:
        """Draw the film as one HTML page.

        Parameters
        ----------
        path : path
        """
        self.film.to_html(path)

    @staticmethod
    def lightning(batch: Any, **settings: Any) -> WatchingCallback:
        """A callback for Lightning's ``Trainer`` that watches the module it trains.

        Parameters
        ----------
        batch
            As for :class:`Watch`.
        **settings
            The other arguments of :class:`Watch`.

        Raises
        ------
        MissingExtraError
            Lightning is not installed.
        """
        from kadanoff.watching.callbacks import lightning

        return lightning(Watch, batch, **settings)

    @staticmethod
    def hugging_face(batch: Any, **settings: Any) -> WatchingCallback:
        """A callback for the ``Trainer`` of transformers that watches the model it trains.

        Parameters
        ----------
        batch
            As for :class:`Watch`.
        **settings
            The other arguments of :class:`Watch`.

        Raises
        ------
        MissingExtraError
            Transformers or accelerate is not installed.
        """
        from kadanoff.watching.callbacks import hugging_face

        return hugging_face(Watch, batch, **settings)

    # -- going on after an interruption ----------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold so that the film goes on."""
        return {
            "film": self.film.to_dict(),
            "steps": self._steps.count,
            "looked": self._looked,
            "losses": [float(value) for value in self._losses],
            "regime": self._probe.regime.state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the film of a checkpoint; before the context is entered.

        Parameters
        ----------
        state : dict
            Of :meth:`state_dict`.
        """
        self.film = Film.from_dict(state["film"])
        self._steps.count = state["steps"]
        self._looked = state["looked"]
        self._losses = list(state["losses"])
        self.film.facts.pop("ended", None)
        self._probe.regime.load(state["regime"])
        self._voice.recall(self.film)
        self._resumed = True

    # -- what is heard of the loop ---------------------------------------------------------------

    def _entered(self, _module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        """The model is called."""
        if torch.compiler.is_compiling() or looks() or not torch.is_grad_enabled():
            return
        self._call = (args, kwargs)
        self._note_precision()
        if not self._steps.optimizers and not self._explicit and self._steps.changed():
            self._stepped()

    def _note_precision(self) -> None:
        device = self._first.device.type if self._first is not None else "cpu"
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
            self.film.precision = f"{str(dtype)[6:]} (autocast)"
            self.film.facts["limit"] = torch.finfo(dtype).max

    def _backward(self, loss: tuple[Tensor, bool]) -> None:
        """A backward pass is done: gradients are there, weights not yet changed."""
        value, scaled = loss
        self._pending.append(cheap(value))
        self._unstepped += 1
        if self.film.broken is not None or value.device.type != "cpu":
            return
        if not math.isfinite(float(value)):
            self._break(cause_of(self.model, self._call, self._steps.count))
        elif not scaled and not self._gradient_fine():
            layer = gradient_layer(self.model)
            if layer is not None:
                text = f"it begins at {layer!r}: every layer after it has a finite gradient"
                self._break(Broken(self._steps.count, "gradient", layer, text))
        if scaled and self._unstepped > SKIPS:
            self.film.facts["skipped"] = float(self._unstepped)

    def _gradient_fine(self) -> bool:
        """What is not finite anywhere in the backward pass is so in the first layer too."""
        gradient = None if self._first is None else self._first.grad
        return gradient is None or gradient.is_sparse or math.isfinite(float(gradient.sum()))

    def _break(self, broken: Broken) -> None:
        self.film.broken = broken
        self._assess()

    def _before(self, optimizer: Any) -> None:
        due = self._steps.count + 1
        if due % self.every == 0 and self._updates is None and self._steps.holds(optimizer):
            self._updates = Updates(self.model)

    def _after(self, optimizer: Any) -> None:
        if self._explicit:
            return
        if self._steps.taken(optimizer):
            self._stepped()
        elif self._steps.foreign == self.every:
            self.film.facts["foreign"] = float(self._steps.foreign)
            self._assess()

    # -- a step ----------------------------------------------------------------------------------

    def _stepped(self) -> None:
        step = self._steps.count
        self._unstepped = 0
        if self._pending:
            self._losses.append(sum(self._pending[1:], self._pending[0]))
            self._pending = []
        if not self._losses and step == 1:
            self.film.facts["unheard"] = 1.0
        if step % max(self.every // PULSES, 1) == 0:
            self._pulse()
        elif step <= 10 or self._jumped():
            self._keep_losses()
            self._assess(quick=True)
        if step % self.every == 0:
            self._look()

    def _jumped(self) -> bool:
        """Whether the last loss is far above where training began."""
        last = self._losses[-1] if self._losses else 0.0
        first = self.film.facts.get("first_loss", math.inf)
        return isinstance(last, float) and last > 3 * abs(first) + 1e-3

    def _keep_losses(self) -> list[float]:
        """Numbers of the losses since the last pulse, one by one."""
        kept = [float(value) for value in self._losses]
        step = self._steps.count
        known = self.film.recent[-1][0] if self.film.recent else 0
        fresh = [(step - len(kept) + 1 + i, value) for i, value in enumerate(kept)]
        self.film.recent += [(at, value) for at, value in fresh if at > known]
        del self.film.recent[:-RECENT]
        if kept and "first_loss" not in self.film.facts:
            self.film.facts["first_loss"] = kept[0]
        return kept

    def _pulse(self) -> None:
        losses = self._keep_losses()
        self._losses = []
        finite = [value for value in losses if math.isfinite(value)]
        mean = sum(finite) / len(finite) if finite else math.nan
        layers, total = gradient_norms(self.model)
        self.film.add_pulse(Pulse(self._steps.count, self._ranks.mean(mean), total, layers))
        bad = self.film.broken is None and len(finite) < len(losses)
        if bad:
            self._break(cause_of(self.model, self._call, self._steps.count))
        step = self._steps.count
        if suspicious(self.film) and step - self._extra >= self.every and step % self.every:
            self._extra = step
            self._look(extra=True)
        else:
            self._assess(quick=True)

    def _look(self, first: bool = False, extra: bool = False) -> None:
        frame = Frame(self._steps.count)
        self._settings(frame)
        due = self._due((first or self._thorough) and not extra, extra)
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        rule = rule_of(self._steps.optimizers, parameters) if due["sharpness"] else None
        try:
            self._probe.look(self.model, frame, rule=rule, **due)
        except Exception as error:
            if first:
                raise
            self._blind(error)
            return
        self._looked += not extra
        self.film.depth = list(dict.fromkeys([*self.film.depth, *self._probe.depth]))
        self.film.frames.append(frame)
        for what, why in self._probe.without.items():
            note = f"{what} cannot be measured here: {why}"
            if note not in self.film.notes:
                self.film.notes.append(note)
        if self._ranks.first:
            for logger in self._loggers:
                logger.log(scalars_of(frame, self.film), frame.step)
        self._assess()

    def _due(self, everything: bool, extra: bool) -> dict[str, Any]:
        """What is due at a look: an extra one is for signals and gradients alone."""
        if everything:
            return {"gradients": True, "sharpness": FIRST_ITERATIONS, "regime": True}
        turn = self._looked
        return {
            "gradients": extra or turn % GRADIENTS_EVERY == 0,
            "sharpness": int(not extra and turn % SHARPNESS_EVERY == 0),
            "regime": not extra and turn % REGIME_EVERY == 0,
        }

    def _settings(self, frame: Frame) -> None:
        """The optimiser, and its last update."""
        optimizers = self._steps.optimizers
        if optimizers:
            self.film.recipe = recipe_of(optimizers)
            frame.scalars["rate"] = float(optimizers[0].param_groups[0]["lr"])
        if self._updates is not None:
            layers, groups = self._updates.ratios(optimizers)
            self._updates = None
            frame.layers["update_ratio"] = layers
            frame.layers["group_update_ratio"] = groups
            if layers:
                frame.scalars["update_ratio"] = sorted(layers.values())[len(layers) // 2]

    def _blind(self, error: Exception) -> None:
        """The model can no longer be looked at: training goes on, steps are still counted."""
        note = f"step {self._steps.count}: the look failed ({error})"
        if not any("the look failed" in known for known in self.film.notes):
            self.film.notes.append(note)
            warnings.warn(f"watch: {note}", FindingWarning, stacklevel=2)

    def _assess(self, quick: bool = False) -> None:
        """Ask the rules, and say what is new or has become worse."""
        for finding in assess(self.film, quick=quick):
            self._voice.hear(finding, self._steps.count, self.film)


watch = Watch  # the name that `kadanoff.watch` gives it

"""Short training runs that leave no trace: copies of states, not of models."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from kadanoff.trace.sandbox import untouched
from kadanoff.tuning.objective import Objective
from kadanoff.tuning.optimizers import Group, Maker, trainable
from kadanoff.tuning.stream import Stream

__all__ = ["Contender", "Trials"]

State = dict[str, Tensor]
# a loss this many times the one at the start is a run that diverged
BLOWN = 1e3


@dataclass
class Contender:
    """One way to train the model, and how far its trial has come.

    Attributes
    ----------
    name : str
        For people.
    rates : dict
        Learning rate of each trainable parameter, by name.
    start : dict
        Parameters that begin with other values than the user's; the others begin as they are.
    losses : list of float
        One a step; ends with inf where the run diverged.
    """

    name: str
    rates: dict[str, float]
    start: State = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)
    state: State | None = None
    optimizers: list[dict[str, Any]] = field(default_factory=list)

    @property
    def diverged(self) -> bool:
        """Whether the loss left the range of numbers, or grew a thousandfold."""
        return bool(self.losses) and not math.isfinite(self.losses[-1])

    def forget(self) -> None:
        """Free the memory of a contender that has lost."""
        self.state, self.optimizers = None, []


class Trials:
    """Trains contenders on the same batches with the same random numbers.

    The model is used to compute and holds the values of whoever runs; its own are put back when
    the ``with`` block is left, also after an exception, together with buffers, gradients, flags
    and the random state.

    Attributes
    ----------
    steps : int
        Gradients taken so far, of all contenders together.
    gradients : dict
        Sums over the steps that were watched of |g| and of g^2, by name.
    copied : int
        Bytes of the largest state kept of one contender.
    """

    def __init__(
        self,
        model: nn.Module,
        stream: Stream,
        objective: Objective,
        maker: Maker,
        *,
        muon: Collection[str] = (),
        seed: int = 0,
    ) -> None:
        self.model, self.stream, self.objective, self.maker = model, stream, objective, maker
        self.seed, self.steps, self.copied, self.muon = seed, 0, 0, frozenset(muon)
        self.parameters = trainable(model)
        self.gradients: dict[str, list[float]] = {n: [0.0, 0.0] for n in self.parameters}
        self._own: State = {}

    @contextmanager
    def running(self) -> Iterator[Trials]:
        """Inside, contenders may be trained."""
        with untouched(self.model, seed=self.seed), torch.enable_grad():
            self._own = self._snapshot()
            try:
                yield self
            finally:
                self._load(self._own)
                self._own = {}

    def train(self, contender: Contender, steps: int, *, watch: bool = False) -> None:
        """Train a contender on to ``steps`` steps altogether, from where it stands.

        With ``watch`` the gradients are added up on the way, tensor by tensor.

        Parameters
        ----------
        contender : Contender
        steps : int
            Altogether, not more.
        watch : bool
        """
        done = len(contender.losses)
        if done >= steps or contender.diverged or (done and contender.state is None):
            return
        optimizers = self.enter(contender)
        for step in range(done, steps):
            loss = self.step(optimizers, step)
            if watch and math.isfinite(loss):
                self._add_gradients()
            ceiling = BLOWN * max(abs((contender.losses or [loss])[0]), 1e-3)
            if not loss < ceiling:
                contender.losses.append(math.inf)
                contender.forget()
                return
            contender.losses.append(loss)
        contender.state = self._snapshot()
        contender.optimizers = [copy.deepcopy(o.state_dict()) for o in optimizers]
        self.copied = max(self.copied, _bytes(contender.state) + _bytes(contender.optimizers))

    def enter(self, contender: Contender) -> list[torch.optim.Optimizer]:
        """Put a contender's weights into the model; its optimisers."""
        self._load(contender.state or self._own)
        if contender.state is None:
            self._load(contender.start)
        optimizers = self.maker.make(
            groups(self.parameters, contender.rates, self.maker, self.muon)
        )
        for optimizer, state in zip(optimizers, contender.optimizers):
            optimizer.load_state_dict(state)
        return optimizers

    def step(self, optimizers: list[torch.optim.Optimizer], step: int) -> float:
        """One training step of the model as it is now; the loss before it."""
        self.model.zero_grad(set_to_none=True)
        loss = self.gradient(step)
        if math.isfinite(loss):
            for optimizer in optimizers:
                optimizer.step()
        return loss

    def _add_gradients(self) -> None:
        """Sums of |g| and of g^2 of each tensor, over the steps watched."""
        for name, parameter in self.parameters.items():
            if parameter.grad is not None:
                g = parameter.grad.detach()
                g = torch.view_as_real(g) if g.is_complex() else g
                total = self.gradients[name]
                total[0] += float(g.abs().sum())
                total[1] += float(g.double().square().sum())

    def gradient(self, step: int) -> float:
        """Loss on the batch of a step, its gradients left in the parameters."""
        batch = self.stream.batch(step)
        self.steps += 1
        self._seed(step)
        loss = self.objective(self.model, batch)
        if loss.requires_grad:
            loss.backward()
        return float(loss.detach())

    def loss(self, step: int) -> float:
        """Loss of the model as it is now on the batch of a step."""
        self._seed(step)
        return float(self.objective(self.model, self.stream.batch(step)).detach())

    def _seed(self, step: int) -> None:
        # dropout draws the same numbers for everybody
        torch.manual_seed(self.seed * 1_000_003 + step)

    def _snapshot(self) -> State:
        tensors = {**self.parameters, **dict(self.model.named_buffers())}
        return {name: t.detach().clone() for name, t in tensors.items()}

    @torch.no_grad()
    def _load(self, state: Mapping[str, Tensor]) -> None:
        tensors = {**self.parameters, **dict(self.model.named_buffers())}
        for name, value in state.items():
            tensors[name].copy_(value)


def groups(
    parameters: Mapping[str, Tensor],
    rates: Mapping[str, float],
    maker: Maker,
    muon: Collection[str] = (),
) -> list[Group]:
    """Parameter groups, one for all parameters of the same rate and options."""
    found: dict[tuple[Any, ...], Group] = {}
    for name, parameter in parameters.items():
        options = {k: v for k, v in maker.own.get(id(parameter), {}).items() if k != "lr"}
        key = (rates[name], name in muon, repr(sorted(options.items(), key=lambda item: item[0])))
        if key not in found:
            found[key] = {"params": [], "lr": rates[name], **options}
            if name in muon:
                found[key]["algorithm"] = "muon"
        found[key]["params"].append(parameter)
    return list(found.values())


def _bytes(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, Mapping):
        return sum(_bytes(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return sum(_bytes(item) for item in value)
    return 0

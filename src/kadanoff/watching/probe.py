"""One look at a model on the watched batch, which leaves nothing behind.

Dropout is off and batch normalisation uses the batch, as everywhere in this library; the random
state, buffers, flags and gradients are as before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from kadanoff.diagnosis.inputs import Inputs
from kadanoff.diagnosis.losses import evaluate
from kadanoff.errors import DataError, UsageError
from kadanoff.trace.hf import main_output, map_tensors, tensors_in
from kadanoff.trace.jacobians import jacobians_along
from kadanoff.trace.recorder import Recorder
from kadanoff.trace.sandbox import untouched
from kadanoff.watching.edge import Edge, Rule
from kadanoff.watching.film import Frame
from kadanoff.watching.hooks import looking
from kadanoff.watching.regime import Regime
from kadanoff.watching.signals import Link, Signals, put

__all__ = ["Probe"]

NTK_SAMPLES = 6
DISTANCE_SAMPLES = 16
# where so many units look dead, they are counted on so many samples
SUSPECTED, MANY = 0.05, 256


class Probe:
    """Looks at a model.

    Parameters
    ----------
    inputs : Inputs
        The watched batch.
    loss : callable, optional
        ``loss(output, targets)``; without one, as in :func:`kadanoff.diagnose`.
    samples : int
        How many of the batch are looked at.
    seed : int

    Attributes
    ----------
    without : dict of str to str
        What could not be measured, and why.
    """

    def __init__(
        self, inputs: Inputs, loss: Callable[..., Any] | None, samples: int, seed: int = 0
    ) -> None:
        self._loss, self._seed = loss, seed
        self._whole = cut(inputs, samples)
        # what takes several backward passes is content with half of them
        self._part = cut(self._whole, max(self._whole.samples // 2, 1))
        half = self._part.samples // 2
        self._halves: list[Inputs] = []
        if half and divisible(self._part):
            self._halves = [cut(self._part, half), cut(self._part, half, half)]
        self._layers = Signals()
        self._many = cut(inputs, min(inputs.samples, MANY))
        self._few = cut(inputs, NTK_SAMPLES)
        self._some = cut(inputs, DISTANCE_SAMPLES)
        self.edge, self.regime = Edge(seed), Regime(seed)
        self.without: dict[str, str] = {}
        self.stands_in = False

    @property
    def depth(self) -> list[str]:
        """Layers in the order of the forward pass."""
        return self._layers.depth

    # -- the look --------------------------------------------------------------------------------

    def look(
        self,
        model: nn.Module,
        frame: Frame,
        *,
        rule: Rule | None = None,
        gradients: bool = True,
        sharpness: int = 0,
        regime: bool = False,
    ) -> None:
        """Fill a frame.

        Parameters
        ----------
        model : nn.Module
        frame : Frame
        rule : Rule, optional
            Of the optimiser, for the edge.
        gradients : bool
            Measure χ, gradients and their noise.
        sharpness : int
            Products with the Hessian to spend on the sharpness; 0: it is left out.
        regime : bool
            Measure drift and distance too.

        Raises
        ------
        DataError
            The model fails on the batch.
        """
        with (
            looking(),
            untouched(model, seed=self._seed, quiet=True),
            torch.enable_grad(),
            torch.autocast(_device(model), enabled=False),
        ):
            self._signals(model, frame, gradients)
            if not math.isfinite(frame.scalars.get("loss", 0.0)):
                return
            if gradients:
                self._try("gradients", lambda: self._gradients(model, frame))
            if sharpness:
                self._try("sharpness", lambda: self._sharpness(model, frame, rule, sharpness))
            if regime:
                self._try("drift of the kernel", lambda: self._regime(model, frame))

    def _try(self, what: str, measure: Callable[[], None]) -> None:
        """Measure, or remember why it cannot be: fused kernels and checkpoints have limits."""
        if what in self.without:
            return
        try:
            measure()
        except (RuntimeError, NotImplementedError, TypeError) as error:
            self.without[what] = (str(error).strip().splitlines() or [type(error).__name__])[0][
                :200
            ]

    # -- signal, χ, activations, attention -------------------------------------------------------

    def _signals(self, model: nn.Module, frame: Frame, chi: bool = True) -> None:
        inputs = self._whole

        def call(given: Inputs) -> Callable[[Recorder], Any]:
            def run(recorder: Recorder) -> Any:
                try:
                    with recorder:
                        return model(*given.args, **given.kwargs)
                except Exception as error:
                    raise _failure(recorder.last_path, given, error) from error

            return run

        output, links = self._layers.run(model, inputs.samples, call(inputs), frame)
        dead = max(frame.layers.get("dead", {}).values(), default=0.0)
        if dead >= SUSPECTED and self._many.samples > inputs.samples:
            # a unit that is silent on a few samples may fire on others
            self._layers.recount(model, call(self._many), frame)
        main = main_output(output)
        if main is None:
            raise UsageError(
                f"The model returned {type(output).__name__} without a floating tensor.",
                "Return the output tensor, or a tuple or dict that holds it.",
            )
        frame.scalars["loss"] = float(self._value(output, main, inputs).detach())
        if chi and self._halves and len(links) > 1:
            self._try("susceptibilities", lambda: self._chi(frame, links, main))

    def _chi(self, frame: Frame, links: Sequence[Link], main: Tensor) -> None:
        """χ: squared norm of the partial Jacobian from each link of the chain to the next."""
        generator = torch.Generator().manual_seed(self._seed)
        values = jacobians_along(
            [link.edge for link in links],
            [link.shape for link in links],
            [link.dtype for link in links],
            main.device,
            self._whole.samples,
            1,
            generator,
        )
        for link, value in zip(links[1:], values):
            if value is not None:
                frame.layers.setdefault("chi", {})[link.name] = float(value.mean())

    # -- gradients and their noise ---------------------------------------------------------------

    def _gradients(self, model: nn.Module, frame: Frame) -> None:
        """Gradients of both halves: their mean, and by their difference the noise."""
        named_ = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        if not named_:
            return
        found = []
        for inputs in self._halves or [self._part]:
            value = self._run_value(model, inputs)
            if not value.requires_grad:
                return
            found.append(torch.autograd.grad(value, [p for _, p in named_], allow_unused=True))
        with torch.no_grad():
            squares: dict[str, tuple[float, int]] = {}
            inner = apart = 0.0
            for (name, p), *parts in zip(named_, *found):
                if any(part is None for part in parts):
                    continue
                dense = [part.to_dense() if part.is_sparse else part for part in parts]
                mean = sum(dense[1:], dense[0]) / len(dense)
                square = float(torch.linalg.vector_norm(mean, dtype=torch.float32)) ** 2
                layer = name.rpartition(".")[0] or name
                before, count = squares.get(layer, (0.0, 0))
                squares[layer] = (before + square, count + p.numel())
                if len(dense) == 2:
                    inner += float((dense[0].float() * dense[1].float()).sum())
                    apart += float((dense[0] - dense[1]).float().square().sum())
        for layer, (square, count) in squares.items():
            put(frame, "gradient", layer, math.sqrt(square / max(count, 1)))
        frame.scalars["probe_gradient"] = math.sqrt(sum(square for square, _ in squares.values()))
        if self._halves:
            # g1, g2 of b samples each: E|g1 − g2|² = 2 tr Σ / b and E g1·g2 = |G|²
            frame.scalars["gradient_variance"] = self._halves[0].samples * apart / 2
            frame.scalars["gradient_squared"] = inner

    # -- sharpness -------------------------------------------------------------------------------

    def _sharpness(
        self, model: nn.Module, frame: Frame, rule: Rule | None, iterations: int
    ) -> None:
        parameters = [p for p in model.parameters() if p.requires_grad]
        found = self.edge.measure(
            lambda: self._run_value(model, self._part), parameters, rule, iterations
        )
        if found is None:
            return
        frame.scalars["sharpness"] = found.value
        if math.isfinite(found.edge):
            frame.scalars["edge"] = found.edge
            frame.scalars["sharpness_over_edge"] = found.value / found.edge

    def _regime(self, model: nn.Module, frame: Frame) -> None:
        few, some = self._runner(self._few), self._runner(self._some)
        frame.scalars.update(self.regime.measure(model, few, some))

    # -- running the model -----------------------------------------------------------------------

    def _run_value(self, model: nn.Module, inputs: Inputs) -> Tensor:
        output = model(*inputs.args, **inputs.kwargs)
        main = main_output(output)
        assert main is not None
        return self._value(output, main, inputs)

    def _value(self, output: Any, main: Tensor, inputs: Inputs) -> Tensor:
        generator = torch.Generator().manual_seed(self._seed)
        found = evaluate(self._loss, output, main, inputs.targets, generator, inputs.task)
        self.stands_in = found.stands_in
        return found.value

    def _runner(self, inputs: Inputs) -> Callable[[nn.Module, Mapping[str, Tensor] | None], Any]:
        def run(model: nn.Module, parameters: Mapping[str, Tensor] | None) -> Any:
            if parameters is None:
                return model(*inputs.args, **inputs.kwargs)
            return functional_call(model, dict(parameters), inputs.args, inputs.kwargs)

        return run


def _device(model: nn.Module) -> str:
    return next((p.device.type for p in model.parameters()), "cpu")


def divisible(inputs: Inputs) -> bool:
    """Whether a batch may be cut: every tensor has the samples along its first axis.

    Parameters
    ----------
    inputs : Inputs
    """
    tensors = list(tensors_in((inputs.args, inputs.kwargs)))
    tensors += list(tensors_in(inputs.targets))
    listed = any(isinstance(a, list) for a in inputs.args)
    return not listed and all(t.ndim > 0 and t.shape[0] == inputs.samples for t in tensors)


def cut(inputs: Inputs, count: int, start: int = 0) -> Inputs:
    """Some samples of a batch; all of it where samples belong together.

    Parameters
    ----------
    inputs : Inputs
    count, start : int
    """
    if count + start > inputs.samples or not divisible(inputs):
        return inputs

    def some(t: Tensor) -> Tensor:
        part = t[start : start + count]
        return part.detach().requires_grad_(True) if t.requires_grad else part

    return Inputs(
        map_tensors(some, inputs.args),
        map_tensors(some, inputs.kwargs),
        map_tensors(some, inputs.targets),
        count,
        inputs.task,
    )


def _failure(path: str, inputs: Inputs, error: Exception) -> DataError:
    first = (str(error).strip().splitlines() or ["no message"])[0][:160].rstrip(".")
    return DataError(
        f"The model failed on the watched batch in {path or 'its forward pass'!r}, on input of "
        f"shape {tuple(inputs.first.shape)}: {type(error).__name__}: {first}.",
        "Pass a batch as the loop feeds it: watch(model, (inputs, targets)).",
    )

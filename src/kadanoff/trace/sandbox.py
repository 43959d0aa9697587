"""Run a model and leave no trace: flags, buffers, gradients and random state are put back."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator

import torch
from torch import nn

__all__ = ["untouched"]


@contextlib.contextmanager
def untouched(
    model: nn.Module, *, seed: int | None = None, quiet: bool = False, graph: bool = False
) -> Iterator[None]:
    """Restore everything a forward pass may change on a model, also after an exception.

    Restored: ``training`` of every submodule, buffers (running statistics), ``.grad`` and
    ``requires_grad`` of every parameter, and the random state of CPU and CUDA.

    Parameters
    ----------
    model : nn.Module
    seed : int, optional
        Seeds the random state inside, so that what is random in the model repeats.
    quiet : bool
        Switches dropout off inside: every submodule is put in evaluation mode, except batch
        normalisation (batch statistics are what training sees) and recurrent modules (whose
        fast backward needs training mode).
    graph : bool
        Makes all floating parameters require gradients inside, so that Jacobians exist for
        frozen models too.
    """
    flags = [(module, module.training) for module in model.modules()]
    parameters = [(p, p.requires_grad, p.grad) for p in model.parameters()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    devices = {p.device for p, _, _ in parameters if p.device.type == "cuda"}
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=sorted(d.index or 0 for d in devices)))
        if "torch._dynamo" in sys.modules:
            # a compiled part would run past the recorder
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        if seed is not None:
            _seed(seed, devices)
        try:
            if quiet:
                _quieten(model)
            if graph:
                _require_gradients(model)
            yield
        finally:
            for module, training in flags:
                module.training = training
            for parameter, needed, gradient in parameters:
                if parameter.is_leaf:
                    parameter.requires_grad_(needed)
                parameter.grad = gradient
            with torch.no_grad():
                for buffer, value in buffers:
                    buffer.copy_(value)


def _seed(seed: int, devices: Iterable[torch.device]) -> None:
    torch.random.default_generator.manual_seed(seed)
    for device in devices:
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def _quieten(model: nn.Module) -> None:
    for module in model.modules():
        if not isinstance(module, (nn.modules.batchnorm._NormBase, nn.RNNBase)):
            module.training = False


def _require_gradients(model: nn.Module) -> None:
    for parameter in model.parameters():
        if parameter.is_floating_point() and parameter.is_leaf:
            parameter.requires_grad_(True)

"""A model without its weights: the same modules, buffers in numbers, large parameters on meta.

The engine never reads a parameter, so the user's model is copied without its weights (nothing of
it can be changed by running the copy), built without ever holding them, or taken from the meta
device. Buffers must hold numbers, as the forward pass reads them.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from kadanoff.errors import AnalysisError, UsageError

__all__ = ["lean", "skeleton"]

_SMALL = 1 << 16  # entries of a parameter that is kept in numbers: gains, tables of constants


@contextlib.contextmanager
def lean() -> Iterator[None]:
    """Inside, modules are built with their large parameters on the meta device.

    Buffers and small parameters keep their numbers, so that what a constructor computes (masks,
    frequencies, gains) is there.
    """
    register = nn.Module.register_parameter

    def light(self: nn.Module, name: str, param: Any) -> None:
        if isinstance(param, nn.Parameter) and param.numel() > _SMALL and not param.is_meta:
            param = nn.Parameter(param.detach().to("meta"), requires_grad=param.requires_grad)
        register(self, name, param)

    nn.Module.register_parameter = light  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # pyright: ignore[reportAttributeAccessIssue]


def skeleton(
    model: nn.Module | Callable[[], nn.Module], device: torch.device | None = None
) -> nn.Module:
    """The model's program: modules and buffers, no weights.

    Parameters
    ----------
    model : nn.Module or callable
        On any device, the meta device included; or a factory without arguments.
    device : torch.device, optional
        Where buffers go.

    Raises
    ------
    UsageError
        The factory returns no module; buffers on the meta device cannot be computed again.
    """
    if not isinstance(model, nn.Module):
        built = _built(model)
    else:
        if any(buffer.is_meta for buffer in model.buffers()):
            model = _refilled(model)
        built = _copied(model)
    if device is not None:
        for module in built.modules():
            for name, buffer in module._buffers.items():
                if buffer is not None and not buffer.is_meta:
                    module._buffers[name] = buffer.to(device)
    return built


def _built(factory: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        with lean():
            found = factory()
    if not isinstance(found, nn.Module):
        raise UsageError(f"The factory must return a torch.nn.Module, got {type(found).__name__}.")
    return skeleton(found) if any(b.is_meta for b in found.buffers()) else _copied(found)


def _copied(model: nn.Module) -> nn.Module:
    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        light = parameter.detach()
        if parameter.device.type != "meta":
            light = torch.empty_like(parameter, device="meta")
        memo[id(parameter)] = nn.Parameter(
            light, requires_grad=parameter.requires_grad and parameter.is_floating_point()
        )
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:
        raise AnalysisError(
            f"The model cannot be copied without its weights ({type(error).__name__}: {error}).",
            "Pass a factory that builds it, or remove what cannot be copied (open files, locks).",
        ) from error


def _refilled(model: nn.Module) -> nn.Module:
    """The model with buffers that hold numbers, which the meta device has lost."""
    rebuilt = _from_config(model)
    if rebuilt is not None:
        return rebuilt
    found = _copied(model)
    lost = []
    for path, module in found.named_modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            module.reset_running_stats()
        for name, buffer in list(module._buffers.items()):
            if buffer is None or not buffer.is_meta:
                continue
            value = _usual(name, buffer)
            if value is None:
                lost.append(f"{path}.{name}" if path else name)
            else:
                module._buffers[name] = value
    if lost:
        raise UsageError(
            f"The buffers {', '.join(lost[:4])} are on the meta device and hold no numbers, which "
            "the forward pass reads.",
            "Pass a factory instead of the instance (buffers are then built in numbers, weights "
            "are not), or build only the parameters on the meta device.",
        )
    return found


def _usual(name: str, buffer: Tensor) -> Tensor | None:
    """Numbers of a buffer whose name tells what it holds."""
    shape, dtype = buffer.shape, buffer.dtype
    if name == "running_mean" or name == "num_batches_tracked":
        return torch.zeros(shape, dtype=dtype)
    if name == "running_var":
        return torch.ones(shape, dtype=dtype)
    if name == "position_ids":
        return torch.arange(shape[-1]).expand(shape).clone()
    if name == "token_type_ids":
        return torch.zeros(shape, dtype=dtype)
    return None


def _from_config(model: nn.Module) -> nn.Module | None:
    """A Hugging Face model built anew from its configuration, weights left out."""
    config = getattr(model, "config", None)
    if config is None or not hasattr(config, "to_dict"):
        return None
    try:
        with torch.random.fork_rng(devices=[]), lean():
            found = type(model)(config)
    except Exception:
        return None
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), None)
    if dtype is not None:
        found = found.to(dtype)
    ours = {n: p.shape for n, p in found.named_parameters()}
    if ours != {n: p.shape for n, p in model.named_parameters()}:
        return None
    for there, here in zip(model.modules(), found.modules()):
        here.training = there.training
    return found

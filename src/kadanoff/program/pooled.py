"""Kernels by pooled sampling: what neither kernels nor draws of channels tell.

Networks of the ensemble run side by side and share their Gram matrices: one network of so many
times the width (:mod:`kadanoff.program.pool`). Kernels are averages over networks and outputs.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kadanoff.errors import DataError, KadanoffError, UsageError
from kadanoff.program.law import Law
from kadanoff.program.mode import Network
from kadanoff.program.pool import together
from kadanoff.trace.hf import main_output
from kadanoff.trace.sandbox import untouched

__all__ = ["pooled_kernels"]

_SIDE_BY_SIDE, _GROUPS = 8, 8
# a backward pass an input and network
_MOST = 256


def pooled_kernels(
    model: nn.Module,
    laws: Mapping[str, Law],
    rates: Mapping[str, float],
    inputs: Mapping[str, Tensor],
    output: Callable[[Any], Tensor] | None,
    ntk: bool,
    seed: int,
    where: str,
    progress: Callable[..., None] | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """K and Θ (N, N), one pair a group of networks.

    Parameters
    ----------
    model : nn.Module
    laws : mapping of str to Law
    rates : mapping of str to float
        λ of an entry of each parameter.
    inputs : mapping of str to Tensor
    output : callable, optional
    ntk : bool
    seed : int
    where : str
        What made this necessary, in words.
    progress : callable, optional

    Raises
    ------
    DataError
        Too many inputs for a backward pass each.
    UsageError
        The output has positions.
    """
    count = len(next(iter(inputs.values())))
    if count > _MOST:
        raise DataError(
            f"{where} is known by sampled networks only, with a backward pass for each of "
            f"{count} inputs.",
            f"Pass at most {_MOST} inputs at a time, or use kadanoff.empirical_ntk.",
        )
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    batch = {n: v.to(dtype) if v.is_floating_point() else v for n, v in inputs.items()}
    models = [copy.deepcopy(model) for _ in range(_SIDE_BY_SIDE)]
    for group in range(_GROUPS):
        states = np.random.SeedSequence([seed, group]).generate_state(_SIDE_BY_SIDE, np.uint64)

        def one(s: int, pool: Any, states: Any = states) -> tuple[Tensor, Tensor]:
            generator = torch.Generator().manual_seed(int(states[s] >> np.uint64(1)))
            network = Network(models[s], laws, generator, "cpu", "exact", pool)
            with torch.enable_grad(), network, _watched(models[s]) as linear:
                found = models[s](batch["0"]) if "0" in batch else models[s](**batch)
                main = main_output(found) if output is None else output(found)
                rows = _rows(main, count)
                K = _integrated(linear, rows, laws)
                if not ntk:
                    return K, torch.zeros_like(K)
                Theta = network.tangent(rows[:, 0], lambda name, _: rates[name])
            return K, Theta

        with torch.random.fork_rng(devices=[]), untouched(model):
            torch.manual_seed(int(states[0] >> np.uint64(1)))
            try:
                found = together(one, _SIDE_BY_SIDE)
            except (RuntimeError, TypeError, ValueError, IndexError) as error:
                if isinstance(error, KadanoffError):
                    raise
                first = (str(error).strip().splitlines() or ["no message"])[0][:200]
                raise UsageError(
                    f"The model failed: {type(error).__name__}: {first}",
                    "Check that model(X) runs by itself on these inputs.",
                ) from error
        yield (
            torch.stack([K for K, _ in found]).mean(0),
            torch.stack([T for _, T in found]).mean(0),
        )
        if progress:
            progress(group + 1, _GROUPS)


@contextlib.contextmanager
def _watched(model: nn.Module) -> Iterator[list[tuple[str, Tensor, Tensor]]]:
    """Name, input and output of each call of a dense layer."""
    calls: list[tuple[str, Tensor, Tensor]] = []

    def kept(name: str) -> Callable[..., None]:
        return lambda _, args, out: calls.append((name, args[0], out))

    hooks = [
        module.register_forward_hook(kept(name))
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    ]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def _integrated(
    calls: list[tuple[str, Tensor, Tensor]], rows: Tensor, laws: Mapping[str, Law]
) -> Tensor:
    """K of the output: its readout integrated out where it is a dense layer, which one sees."""
    if calls and calls[-1][2] is rows:
        name, x, _ = calls[-1]
        prefix = f"{name}." if name else ""
        weight, bias = laws.get(f"{prefix}weight"), laws.get(f"{prefix}bias")
        if weight is not None and weight.gaussian and x.ndim == 2:
            x = x.detach().double()
            offset = 0.0 if bias is None else bias.std**2 + bias.mean**2
            return weight.std**2 * (x @ x.T) + offset
    found = rows.detach().double()
    return found @ found.T / rows.shape[1]


def _rows(main: Any, count: int) -> Tensor:
    if not isinstance(main, Tensor) or main.ndim != 2 or len(main) != count:
        shape = tuple(main.shape) if isinstance(main, Tensor) else type(main).__name__
        raise UsageError(
            f"The output has shape {shape}: a kernel is that of one vector a sample.",
            "Pass output=lambda y: y[:, 0], or y.mean(1), to choose one.",
        )
    return main

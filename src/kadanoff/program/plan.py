"""One ensemble of a module: everything a worker needs to run a block of its networks."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kadanoff.errors import AnalysisError, KadanoffError
from kadanoff.program.hosts import Real
from kadanoff.program.law import Law
from kadanoff.program.mode import Network
from kadanoff.program.pool import together
from kadanoff.program.records import (
    NetworkRecord,
    Task,
    channels,
    measure,
    objective,
    refuse_infinite,
)
from kadanoff.trace.hf import main_output, tensors_in
from kadanoff.trace.sandbox import untouched

__all__ = ["ModulePlan", "Notes", "merged", "sums"]

# of each number: networks that have it, sum, sum of squares; positive ones, and their logarithms
MOMENTS = 6


@dataclass(frozen=True)
class Notes:
    """What the first network told besides its numbers."""

    order: tuple[str, ...]
    chain: tuple[str, ...]
    drawn: dict[str, str]


@dataclass(frozen=True)
class ModulePlan:
    """The sampling of one module; sends itself to workers.

    Attributes
    ----------
    model : nn.Module
        A skeleton (see :mod:`kadanoff.program.bare`).
    factory : callable or None
        Of "instances": builds one real network after another.
    laws : dict of str to Law
    task : Task
    method : {"exact", "undrawn", "drawn", "instances"}
    seed : int
    device : torch.device
    replicas : int
        Networks that share Gram matrices; 1 leaves each its own.
    limit_bytes : int or None
    block : int
        Networks in a block: the unit of dispatch and checkpoint.
    sizes : dict of str to int
        Entries of each parameter.
    first : tuple of NetworkRecord
        Networks 0, 1, ... that have been run already.
    apart : frozenset of str
        Parameters over which replicas are not averaged.
    """

    model: nn.Module
    factory: Callable[..., nn.Module] | None
    laws: dict[str, Law]
    task: Task
    method: str
    seed: int
    device: torch.device
    replicas: int = 1
    limit_bytes: int | None = None
    block: int = 4
    sizes: dict[str, int] = field(default_factory=dict)
    first: tuple[NetworkRecord, ...] = ()
    apart: frozenset[str] = frozenset()

    def run(self, block: int, size: int) -> list[tuple[int, dict[str, Tensor]]]:
        """Sums over the networks of block number ``block``, a piece a network."""
        first = block * self.block
        with torch.enable_grad():
            if self.replicas > 1:
                done = self.first if first == 0 else ()
                records = done or self.pooled(first, size)[0]
                # replicas that share Gram matrices are one sample: their numbers move together
                return [(len(records), sums(merged(records)))]
            done = self.first if first == 0 else ()
            rest = [self.network(i)[0] for i in range(first + len(done), first + size)]
            return [(1, sums(record)) for record in (*done, *rest)]

    def network(self, index: int) -> tuple[NetworkRecord, Notes]:
        """Network number ``index`` and how it was answered."""
        stream = np.random.SeedSequence([self.seed, index]).generate_state(3, np.uint64) >> 1
        probes = torch.Generator().manual_seed(int(stream[1]))
        with _plain_words(self.task, index):
            if self.method == "instances":
                record, notes = self._instance(int(stream[0]), probes, int(stream[2]))
            else:
                record, notes = self._undrawn(self.model, int(stream[0]), probes, int(stream[2]))
        refuse_infinite(record, index)
        return record, notes

    def bare(self, index: int, method: str | None = None) -> Network:
        """Forward, loss and backward of network ``index``, and nothing kept: what it costs."""
        probes = torch.Generator().manual_seed(index)
        generator = torch.Generator(self.device).manual_seed(index)
        network = Network(self.model, self.laws, generator, self.device, method or self.method)
        with torch.enable_grad(), untouched(self.model, quiet=True), network:
            output = self.model(*self.task.args, **self.task.kwargs)
            main = main_output(output)
            assert main is not None
            with network.backward(record=True):
                objective(output, main, self.task, probes).backward()
            network.gradients()
        return network

    def _undrawn(
        self, model: nn.Module, seed: int, probes: torch.Generator, noise: int, pool: Any = None
    ) -> tuple[NetworkRecord, Notes]:
        generator = torch.Generator(self.device).manual_seed(seed)
        network = Network(
            model,
            self.laws,
            generator,
            self.device,
            self.method,
            pool,
            self.limit_bytes,
            self.apart,
        )
        guard = untouched(model, seed=noise, quiet=True, graph=True)
        with guard if pool is None else contextlib.nullcontext(), network:
            record = measure(model, network, self.task, probes, self.sizes)
        drawn = {
            n: s.drawn
            for n, s in network.sources.items()
            if s.drawn and s.law.random and len(s.shape) > 1
        }
        return record, Notes(tuple(record.order), tuple(record.chain), drawn)

    def _instance(
        self, seed: int, probes: torch.Generator, noise: int
    ) -> tuple[NetworkRecord, Notes]:
        assert self.factory is not None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = self.factory()
        model = model.to(self.device)
        for there, here in zip(self.model.modules(), model.modules()):
            here.training = there.training
        with untouched(model, seed=noise, quiet=True, graph=True):
            record = measure(model, Real(model), self.task, probes, self.sizes)
        return record, Notes(tuple(record.order), tuple(record.chain), {})

    def pooled(self, first: int, size: int) -> tuple[list[NetworkRecord], Notes]:
        """``size`` networks side by side, every wide product averaged over them."""
        states = [
            np.random.SeedSequence([self.seed, first + i]).generate_state(3, np.uint64) >> 1
            for i in range(size)
        ]
        models = [copy.deepcopy(self.model) for _ in range(size)]
        for model in models:
            _quiet(model)

        def one(i: int, pool: Any) -> tuple[NetworkRecord, Notes]:
            probes = torch.Generator().manual_seed(int(states[i][1]))
            with torch.enable_grad():
                return self._undrawn(models[i], int(states[i][0]), probes, 0, pool)

        with torch.random.fork_rng(devices=[]), _plain_words(self.task, first):
            torch.manual_seed(int(states[0][2]))
            found = together(one, size)
        for i, (record, _) in enumerate(found):
            refuse_infinite(record, first + i)
        return [record for record, _ in found], found[0][1]

    def different_ways(self) -> frozenset[str]:
        """Parameters that are asked other rows in one network than in another: experts.

        With one of a list of blocks' siblings all are named, those that agreed by chance included.
        """
        ways: dict[str, set[tuple[int, ...]]] = {}
        runs = [self.bare(i, "undrawn").asked for i in range(self.replicas)]
        for run in runs:
            rows: dict[str, tuple[int, ...]] = dict.fromkeys(self.laws, ())
            for name, count in run:
                rows[name] = (*rows[name], count)
            for name, counts in rows.items():
                ways.setdefault(_siblings(name), set()).add(counts)
        found = {name for name, seen in ways.items() if len(seen) > 1}
        return frozenset(name for name in self.laws if _siblings(name) in found)

    def fingerprint(self) -> str:
        """Changes with anything that changes the numbers."""
        digest = hashlib.sha256()
        task = self.task
        for item in (
            self.method,
            self.seed,
            self.replicas,
            self.block,
            self.device.type,
            task.probes,
            sorted(self.apart),
            sorted((n, repr(law)) for n, law in self.laws.items()),
            [(n, type(m).__name__, m.training) for n, m in self.model.named_modules()],
        ):
            digest.update(repr(item).encode())
        for tensor in tensors_in((task.args, task.kwargs, task.targets)):
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


def _siblings(name: str) -> str:
    """A parameter's name without the last number in it: of the expert, not of the layer."""
    return re.sub(r"\.\d+(?!.*\.\d+(\.|$))(?=\.|$)", ".*", name)


def merged(records: Sequence[NetworkRecord]) -> NetworkRecord:
    """One record of several replicas: the mean of each number over those that have it."""
    values: dict[tuple[str, str], list[float]] = {}
    gradients: dict[str, list[float]] = {}
    for record in records:
        for key, value in record.values.items():
            values.setdefault(key, []).append(value)
        for name, value in record.gradients.items():
            gradients.setdefault(name, []).append(value)
    return NetworkRecord(
        {key: sum(found) / len(found) for key, found in values.items()},
        {name: sum(found) / len(found) for name, found in gradients.items()},
        sum(record.loss for record in records) / len(records),
    )


def sums(record: NetworkRecord) -> dict[str, Tensor]:
    """One network's numbers as sums that add up over networks."""
    out = {}
    for name, value in channels(record):
        log = float(np.log(value)) if value > 0 else 0.0
        positive = float(value > 0)
        out[name] = torch.tensor(
            [1.0, value, value * value, positive, log, log * log], dtype=torch.float64
        )
    return out


def _quiet(model: nn.Module) -> None:
    """Dropout off; batch norms and recurrent modules as they are."""
    for module in model.modules():
        if not isinstance(module, (nn.modules.batchnorm._NormBase, nn.RNNBase)):
            module.training = False


@contextlib.contextmanager
def _plain_words(task: Task, index: int):
    """Exceptions inside the model in the user's words, lack of memory above all."""
    try:
        yield
    except KadanoffError:
        raise
    except (RuntimeError, MemoryError) as error:
        text = str(error)
        wanted = re.search(r"allocate ([\d.]+ ?\w*)", text)
        if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "memory" in text.lower():
            raise AnalysisError(
                f"Out of memory: {wanted.group(1) if wanted else 'more'} more was wanted for one "
                "network.",
                "Fewer or shorter samples in the batch lower it most; probes=0 saves the graph "
                "of the Jacobians; method='exact' draws no weight where that is cheaper.",
            ) from error
        raise _inside(task, error) from error
    except (TypeError, ValueError, IndexError, AttributeError, AssertionError) as error:
        raise _inside(task, error) from error


def _inside(task: Task, error: Exception) -> AnalysisError:
    shapes = [tuple(t.shape) for t in tensors_in((task.args, task.kwargs))]
    first = (str(error).strip().splitlines() or ["no message"])[0][:200]
    return AnalysisError(
        f"The model failed on inputs of shape {shapes}: {type(error).__name__}: {first}",
        "Check that model(batch) runs by itself; custom kernels that take a weight need "
        "method='instances' with a factory.",
    )

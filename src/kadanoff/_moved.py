"""Names that were elsewhere before; whoever asks for an old one is told the new one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType

__all__ = ["moved", "watch_imports"]

# old name -> where it is now
_MOVED = {
    "kadanoff.chaos": "kadanoff.studies.edge_of_chaos.chaos",
    "kadanoff.data.bundled": "kadanoff.data.built_in",
    "kadanoff.diagrams.MeasuredCorrelators": (
        "kadanoff.studies.effective_theories.measured.MeasuredCorrelators"
    ),
    "kadanoff.diagrams.agreement": "kadanoff.studies.effective_theories.agreement",
    "kadanoff.diagrams.measure": "kadanoff.studies.effective_theories.measured.measure",
    "kadanoff.diagrams.measured": "kadanoff.studies.effective_theories.measured",
    "kadanoff.diffusion": "kadanoff.studies.diffusion_surrogates.diffusion",
    "kadanoff.ensembles.differential": "kadanoff.ensembles.dntk",
    "kadanoff.ensembles.extrapolate": "kadanoff.ensembles.widths",
    "kadanoff.ensembles.reference": "kadanoff.ensembles.limit",
    "kadanoff.gaussian.batched": "kadanoff.gaussian.batches",
    "kadanoff.gaussian.many": "kadanoff.gaussian.rules",
    "kadanoff.gaussian.nested": "kadanoff.gaussian.lattices",
    "kadanoff.hypercube": "kadanoff.studies.sparsity_principle.hypercube",
    "kadanoff.ising": "kadanoff.studies.sparsity_principle.ising",
    "kadanoff.kernels.eigenpro": "kadanoff.kernels.preconditioned",
    "kadanoff.quantum": "kadanoff.studies.quantum_laziness.quantum",
    "kadanoff.report": "kadanoff.style (each report is drawn beside its result)",
    "kadanoff.rgflow.asymptotics": "kadanoff.rgflow.growth",
    "kadanoff.rgflow.lines": "kadanoff.rgflow.across_neurons",
    "kadanoff.rgflow.memory": "kadanoff.rgflow.two_layers",
    "kadanoff.rgflow.order_one": "kadanoff.rgflow.recursions",
    "kadanoff.rgflow.skip": "kadanoff.rgflow.one_neuron",
    "kadanoff.rgflow.tables": "kadanoff.rgflow.averages",
    "kadanoff.sparsity.claims": "kadanoff.studies.lazy_neurons.runs",
    "kadanoff.sparsity.toy": "kadanoff.studies.lazy_neurons.toy",
}


def moved(name: str) -> str:
    """Say where an old name is now; an empty text if the name never moved."""
    return f"{name} is now {_MOVED[name]}." if name in _MOVED else ""


class _Finder:
    """Asked first: a folder left behind by an older checkout would be found otherwise."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> None:
        if fullname in _MOVED:
            # without its `name`, so that `from kadanoff import quantum` shows this message too
            raise ModuleNotFoundError(moved(fullname))


def watch_imports() -> None:
    """Have ``import`` of an old module say where it is now."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())

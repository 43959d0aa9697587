"""What ensemble and compare share: the network they simulate, and how it is told of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kadanoff.cli import options as opt

if TYPE_CHECKING:
    from torch import Tensor

    from kadanoff.architecture import Network

__all__ = ["Simulated", "request", "simulating"]


@dataclass(frozen=True)
class Simulated(opt.NetworkOptions):
    """A network that is drawn many times, on random inputs."""

    depth: opt.Depth = 5
    init: opt.Init = "gaussian"
    n_in: opt.InWidth = 16
    inputs: opt.Inputs = 1

    def drawn(self, width: int, seed: int) -> tuple[Network, Tensor]:
        """The architecture and its inputs (N, n_0)."""
        # enough outputs to average over, few enough to be cheap
        n_out = max(2, min(width, 16))
        arch = self.build(self.n_in, width, n_out, init=self.init)
        return arch, opt.random_inputs(self.inputs, self.n_in, seed)


def request(arch: Network, X: Tensor) -> dict[str, Any]:
    """What a result was computed for, so that two results can be matched."""
    return {
        "n": list(arch.n),
        "activation": sorted({act.name for act in arch.activations}),
        "C_b": list(arch.C_b),
        "C_W": list(arch.C_W),
        "gamma": list(arch.gamma),
        "init": arch.init,
        "X": X.tolist(),
    }


@contextmanager
def simulating(kind: str, words: str) -> Iterator[Callable[..., None]]:
    """Progress of a simulation, with the relative standard error that it has reached."""
    from kadanoff.style.progress import reporting

    with reporting(kind, words) as report:

        def tell(done: int, total: int, relative_error: float = 0.0, **info: Any) -> None:
            if report is None:
                return
            about = f"width {info['width']}" if "width" in info else words
            report(done, total, message=f"{about}, standard error {relative_error:.2%}")

        yield tell

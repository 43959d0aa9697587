"""What one ensemble measures and how: everything a worker needs, and how much fits in a block."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from kadanoff.architecture import Network
from kadanoff.ensembles.direct import direct_sums
from kadanoff.ensembles.limit import Reference
from kadanoff.ensembles.moments import BINS
from kadanoff.ensembles.normals import Normals
from kadanoff.ensembles.probed import differential_sums, probed_sums
from kadanoff.ensembles.statistics import channels, layer_sums
from kadanoff.ensembles.trunk import forward
from kadanoff.rgflow.observables import DIFFERENTIAL

__all__ = ["PIECES", "EnsemblePlan"]

PIECES = 16  # a block is summed in this many pieces, each small enough for the cache
_CACHE = 2**17  # numbers of float64 in 1 MiB


@dataclass(frozen=True)
class EnsemblePlan:
    """The sampling of one architecture; sends itself to workers."""

    arch: Network
    X: Tensor
    ref: Reference
    names: frozenset[str]
    layers: frozenset[int]  # layer indices 1 … L − 1
    method: str  # exact | weights | probed | direct: without and with drawn weights
    rows: int
    seed: int
    device: str = "cpu"

    @property
    def need(self) -> dict[str, int]:
        return channels(set(self.names), len(self.X))

    @property
    def piece(self) -> int:
        """Networks in a piece: as many as the cache holds."""
        n, N = max(self.arch.n[1:]), len(self.X)
        size = n * N * (self.rows if self.names & set("AB") else 1)
        if self.names & set(DIFFERENTIAL):
            size *= 4 * N * N
        if self.method not in ("exact", "probed"):
            maps = sum(a * b for a, b in zip(self.arch.n[1:], self.arch.n[:-1], strict=True))
            size = max(size, maps // 16)
        if self.method == "direct" and self.names & {"Theta", "H1", "A", "B", "D", "F"}:
            size = max(size, n * n * N * N)
        scale = 1 if self.device == "cpu" else 16
        return max(2, min(256, 4 * _CACHE // size)) * scale

    @property
    def block(self) -> int:
        """Networks in a block: the unit of seed, dispatch and checkpoint."""
        return PIECES * self.piece

    def run(self, block: int, size: int) -> list[tuple[int, dict[str, Tensor]]]:
        """Sums over the networks of block number ``block``, piece by piece."""
        normals = Normals(self.seed, block, self.device)
        plan = self if self.device == "cpu" else self._on_device()
        pieces = []
        # a short block has more pieces, made smaller, so that the error bar is itself certain
        per = max(1, min(self.piece, -(-size // (BINS if size < self.block else PIECES))))
        for start in range(0, size, per):
            count = min(per, size - start)
            sums = plan._sums(count, normals)
            pieces.append((count, {k: self._stack(k, v) for k, v in sums.items()}))
        return pieces

    def _sums(self, count: int, normals: Normals) -> dict[str, dict[int, Tensor]]:
        need, layers = set(self.need), set(self.layers)
        if self.method == "direct":
            return self._direct_sums(count, normals, need, layers)
        implicit, last = self.method != "weights", max(layers, default=0)
        if self.method == "probed":
            trunk = forward(self.arch, self.X, count, normals, implicit, last + 1)
            return probed_sums(trunk, self.ref, need, self.rows, layers)
        trunk = forward(self.arch, self.X, count, normals, implicit, last)
        return layer_sums(trunk, self.ref, need, self.rows, implicit, layers)

    def _direct_sums(
        self, count: int, normals: Normals, need: set[str], layers: set[int]
    ) -> dict[str, dict[int, Tensor]]:
        """Whole layers for the NTK, and other networks, drawn too, for P … U."""
        plain = need - set(DIFFERENTIAL)
        out = direct_sums(self.arch, self.X, self.ref, count, normals, plain, layers)
        if need == plain:
            return out
        trunk = forward(self.arch, self.X, count, normals, False, max(layers) + 1)
        found = {l: differential_sums(trunk, l, need) for l in layers}
        return out | {name: {l: found[l][name] for l in layers} for name in need - plain}

    def _stack(self, name: str, found: dict[int, Tensor]) -> Tensor:
        shape = [len(self.X)] * self.need[name]
        out = torch.zeros(self.arch.L, *shape, dtype=torch.float64)
        for l, value in found.items():
            out[l] = value.to("cpu")
        return out

    def _on_device(self) -> EnsemblePlan:
        return dataclasses.replace(self, X=self.X.to(self.device), ref=self.ref.to(self.device))

    def fingerprint(self) -> str:
        """Changes with anything that changes the numbers."""
        arch = self.arch
        digest = hashlib.sha256()
        network = (arch.n, arch.C_b, arch.C_W, arch.lambda_b, arch.lambda_W, arch.gamma)
        kind = (arch.init, arch.block, arch.hidden)
        measured = (sorted(self.names), sorted(self.layers), self.method, self.rows)
        stream = (self.seed, self.device.split(":")[0], self.block)
        for item in (*network, *kind, *measured, *stream):
            digest.update(repr(item).encode())
        for act in arch.activations:
            digest.update(act.fingerprint())
        digest.update(self.X.numpy().tobytes())
        return digest.hexdigest()

"""Standard normal numbers: one independent, reproducible stream a block of networks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["Normals"]


class Normals:
    """Stream number ``block`` of ``seed``.

    On the CPU the numbers come from NumPy's SFC64, twice as fast in double precision as torch's
    generator and the same on every platform; on another device from a ``torch.Generator`` there,
    so the two devices give different networks of the same ensemble.
    """

    def __init__(self, seed: int, block: int, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        sequence = np.random.SeedSequence([seed, block])
        self._cpu: Any = None
        self._other: Any = None
        if self.device.type == "cpu":
            self._cpu = np.random.Generator(np.random.SFC64(sequence))
        else:
            state = int(sequence.generate_state(1, np.uint64)[0] >> 1)
            self._other = torch.Generator(self.device).manual_seed(state)

    def normal(self, *shape: int) -> Tensor:
        """Independent N(0, 1), float64."""
        if self._cpu is not None:
            return torch.from_numpy(self._cpu.standard_normal(shape))
        return torch.randn(shape, generator=self._other, device=self.device, dtype=torch.float64)

    def uniform(self, *shape: int) -> Tensor:
        """Independent and uniform on (-√3, √3), so of variance 1, float64."""
        if self._cpu is not None:
            unit = torch.from_numpy(self._cpu.random(shape))
        else:
            unit = torch.rand(shape, generator=self._other, device=self.device, dtype=torch.float64)
        return (2 * unit - 1) * 3**0.5

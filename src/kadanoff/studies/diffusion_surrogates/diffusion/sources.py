"""Random sources as the authors generate them, and the pairs (source, field) to learn from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kadanoff.errors import UsageError
from kadanoff.studies.diffusion_surrogates.diffusion.poisson import ScreenedPoisson2D

__all__ = ["Sources", "draw_sources"]


def draw_sources(
    count: int,
    generator: torch.Generator,
    *,
    size: int = 100,
    n_sources: int = 2,
    radius: int = 5,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor]:
    """Draw source images: discs of equal radius at random places, the last one of strength 1.

    Parameters
    ----------
    count : int
    generator : torch.Generator
    size : int
        Nodes a side; the nodes have coordinates 1 … size.
    n_sources, radius : int
        Centres are uniform on the integers of [radius, size − radius].

    Returns
    -------
    alpha : Tensor (count, size, size)
        Built disc by disc as a ← a · U(0, 1) + disc, then divided by its maximum: earlier discs
        are weaker, overlaps add.
    centres : Tensor (count, n_sources, 2)
        int64, in the order of drawing.

    Notes
    -----
    The generator in the code of Toledo-Marín et al. (2021) for ``size=100, n_sources=2,
    radius=5``.
    """
    if n_sources < 1 or radius < 0 or 2 * radius > size:
        raise UsageError(
            f"{n_sources} discs of radius {radius} do not fit on a lattice of side {size}."
        )
    shape = (count, n_sources, 2)
    centres = torch.randint(radius, size - radius + 1, shape, generator=generator)
    fade = torch.rand((count, n_sources), generator=generator, dtype=torch.float64)
    axis = torch.arange(1, size + 1)
    alpha = torch.zeros(count, size, size, dtype=torch.float64)
    for k in range(n_sources):
        dx = (axis[None, :] - centres[:, k, :1]) ** 2
        dy = (axis[None, :] - centres[:, k, 1:]) ** 2
        disc = dx[:, :, None] + dy[:, None, :] <= radius**2
        alpha = alpha * fade[:, k, None, None] + disc
    return (alpha / alpha.amax((-2, -1), keepdim=True)).to(dtype), centres


@dataclass(frozen=True)
class Sources:
    """Pairs of a source image and its normalised field, made when asked for.

    Parameters
    ----------
    size, n_sources, radius : int
        See :func:`draw_sources`; 100, 2 and 5 are the paper's.
    D, gamma : float
        1 and 1/400 in the paper: a diffusion length √(D/γ) of 20 nodes.
    seed : int
        Batches are functions of (seed, index): nothing is kept on disk.
    pairs : int, optional
        Size of a finite training set that batches are taken from again and again, as in the
        paper; by default every batch is new.

    Examples
    --------
    >>> alpha, y = Sources(size=32, radius=3).batch(0, 4)
    >>> tuple(y.shape), float(y.amax())
    ((4, 32, 32), 1.0)
    """

    size: int = 100
    n_sources: int = 2
    radius: int = 5
    D: float = 1.0
    gamma: float = 1 / 400
    seed: int = 0
    pairs: int | None = None

    def solver(self) -> ScreenedPoisson2D:
        """The exact solver of these pairs."""
        return ScreenedPoisson2D(self.size, self.D, self.gamma)

    def alpha(self, index: int, count: int) -> Tensor:
        """Source images of batch ``index``, float32 (count, size, size)."""
        if self.pairs is not None:
            return self._finite(index, count)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + index)
        return self._draw(count, generator)

    def batch(self, index: int, count: int) -> tuple[Tensor, Tensor]:
        """Source images, and fields divided by their maximum, both float32."""
        alpha = self.alpha(index, count)
        u = self.solver()(alpha)
        return alpha, u / u.amax((-2, -1), keepdim=True)

    def batch_of(self, count: int) -> Callable[[int], tuple[Tensor, Tensor]]:
        """index ↦ batch of ``count`` pairs, as :func:`fit` takes it."""
        return lambda index: self.batch(index, count)

    def _draw(self, count: int, generator: torch.Generator) -> Tensor:
        return draw_sources(
            count,
            generator,
            size=self.size,
            n_sources=self.n_sources,
            radius=self.radius,
        )[0]

    def _finite(self, index: int, count: int) -> Tensor:
        # every epoch walks through the whole set in a new order
        assert self.pairs is not None
        each = max(1, self.pairs // count)
        epoch, place = divmod(index, each)
        shuffle = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        order = torch.randperm(self.pairs, generator=shuffle)[place * count : (place + 1) * count]
        one = [
            self._draw(1, torch.Generator().manual_seed(self.seed * 1_000_003 + 7 * 10**9 + int(i)))
            for i in order
        ]
        return torch.cat(one)

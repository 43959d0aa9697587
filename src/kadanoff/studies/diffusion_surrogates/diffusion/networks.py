"""Networks that map a source image to a field: the authors' pair, a U-Net, a Fourier operator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kadanoff.errors import DataError, UsageError, require_extra

__all__ = ["EncoderDecoder", "FullResolution", "SourceCNN", "UNet2d", "fourier_operator"]


class FullResolution(nn.Sequential):
    """The authors' first network: six 3 × 3 convolutions at full resolution, 3,075 parameters.

    Maps (B, 1, H, W) to (B, 1, H, W). ``dropouts`` are the rates after the first convolution and
    before the last normalisation.
    """

    def __init__(self, dropouts: Sequence[float] = (0.2, 0.2)) -> None:
        def conv(a: int, b: int) -> list[nn.Module]:
            return [nn.Conv2d(a, b, 3, padding=1), nn.LeakyReLU(0.01)]

        first, last = dropouts
        super().__init__(
            *conv(1, 4),
            nn.Dropout(first),
            nn.BatchNorm2d(4),
            *conv(4, 8),
            nn.BatchNorm2d(8),
            *conv(8, 16),
            nn.BatchNorm2d(16),
            *conv(16, 8),
            nn.BatchNorm2d(8),
            *conv(8, 4),
            nn.BatchNorm2d(4),
            nn.Conv2d(4, 1, 3, padding=1),
            nn.ReLU(),
            nn.Dropout(last),
            nn.BatchNorm2d(1),
        )


class EncoderDecoder(nn.Sequential):
    """The authors' second network: 100 × 100 down to one pixel and back, without skips.

    Parameters
    ----------
    width : int
        Channels of the first convolution; 64 in the paper (50,290,243 parameters), each level
        doubles them.
    dropouts : pair of float
    """

    def __init__(self, width: int = 64, dropouts: Sequence[float] = (0.2, 0.4)) -> None:
        c = [width * 2**k for k in range(6)]

        def conv(a: int, b: int, padding: int = 1) -> list[nn.Module]:
            return [nn.Conv2d(a, b, 3, padding=padding), nn.LeakyReLU(0.01)]

        def up(a: int, b: int, padding: int) -> list[nn.Module]:
            return [nn.ConvTranspose2d(a, b, 3, stride=2, padding=padding), nn.LeakyReLU(0.01)]

        super().__init__(
            *conv(1, c[0]),
            nn.BatchNorm2d(c[0]),
            nn.Dropout(dropouts[0]),
            nn.AvgPool2d(2),  # 50
            *conv(c[0], c[1]),
            nn.AvgPool2d(2, padding=1),  # 26
            *conv(c[1], c[2]),
            nn.AvgPool2d(2),  # 13
            *conv(c[2], c[3]),
            nn.AvgPool2d(2),  # 6
            *conv(c[3], c[4]),
            nn.AvgPool2d(2),  # 3
            *conv(c[4], c[5], 0),  # 1
            *up(c[5], c[4], 0),
            *up(c[4], c[3], 0),  # 3, 7
            *up(c[3], c[2], 1),
            *up(c[2], c[1], 1),  # 13, 25
            *up(c[1], c[0], 0),
            nn.Dropout(dropouts[1]),  # 51
            nn.ConvTranspose2d(c[0], 1, 4, stride=2, padding=2),
            nn.ReLU(),
            nn.BatchNorm2d(1),
        )


class SourceCNN(nn.Module):
    """The authors' surrogate p₁·NN₁ + p₂·NN₂ on a lattice of 100 × 100.

    Parameters
    ----------
    mixture : (float, float)
        p₁ and p₂; a zero switches a network off. (0.05, 0.95) is the default of the authors'
        type, (1, 1) that of their command line.
    width : int
        See :class:`EncoderDecoder`; 64 in the paper.
    dropouts : four floats

    Examples
    --------
    >>> sum(p.numel() for p in SourceCNN(width=8).parameters()) < 10**6
    True
    """

    def __init__(
        self,
        mixture: tuple[float, float] = (0.05, 0.95),
        width: int = 64,
        dropouts: Sequence[float] = (0.2, 0.2, 0.2, 0.4),
    ) -> None:
        super().__init__()
        if len(dropouts) != 4 or mixture == (0, 0):
            raise UsageError(f"Four dropout rates and a mixture, got {dropouts} and {mixture}.")
        self.mixture = mixture
        self.first = FullResolution(dropouts[:2]) if mixture[0] else None
        self.second = EncoderDecoder(width, dropouts[2:]) if mixture[1] else None

    def forward(self, alpha: Tensor) -> Tensor:
        """(B, H, W) or (B, 1, H, W) to the same shape."""
        x = alpha if alpha.ndim == 4 else alpha[:, None]
        if self.second is not None and tuple(x.shape[-2:]) != (100, 100):
            raise DataError(
                f"The authors' encoder-decoder is made for 100 × 100, got {tuple(x.shape[-2:])}.",
                "Use mixture=(1, 0), UNet2d or fourier_operator on other lattices.",
            )
        parts = [
            p * net(x) for p, net in zip(self.mixture, (self.first, self.second)) if net is not None
        ]
        return torch.stack(parts).sum(0).view(alpha.shape)


class _Double(nn.Sequential):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(
            nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.Conv2d(b, b, 3, padding=1), nn.ReLU()
        )


class UNet2d(nn.Module):
    """A plain U-Net for any lattice: average pooling, bilinear upsampling, skips by concatenation.

    Parameters
    ----------
    channels : int
        At full resolution; each level doubles them.
    levels : int
        Poolings.
    inputs : int
        Channels of the input; (B, H, W) counts as one.
    """

    def __init__(self, channels: int = 8, levels: int = 4, inputs: int = 1) -> None:
        super().__init__()
        c = [channels * 2**k for k in range(levels + 1)]
        self.down = nn.ModuleList([_Double(inputs, c[0])])
        self.down.extend(_Double(c[k], c[k + 1]) for k in range(levels))
        self.up = nn.ModuleList(_Double(c[k + 1] + c[k], c[k]) for k in reversed(range(levels)))
        self.readout = nn.Conv2d(c[0], 1, 1)

    def forward(self, alpha: Tensor) -> Tensor:
        """(B, H, W) to (B, H, W); (B, C, H, W) to (B, 1, H, W)."""
        x = alpha if alpha.ndim == 4 else alpha[:, None]
        skips = []
        for k, block in enumerate(self.down):
            x = block(x if k == 0 else nn.functional.avg_pool2d(x, 2))
            skips.append(x)
        skips.pop()
        for block in self.up:
            skip = skips.pop()
            x = nn.functional.interpolate(x, skip.shape[-2:], mode="bilinear")
            x = block(torch.cat((x, skip), dim=1))
        out = self.readout(x)
        return out[:, 0] if alpha.ndim == 3 else out


class _Fields(nn.Module):
    """A network of channels-first images as a map of plain fields (B, H, W)."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, alpha: Tensor) -> Tensor:
        return self.net(alpha if alpha.ndim == 4 else alpha[:, None]).view(alpha.shape)


def fourier_operator(
    modes: int = 16, channels: int = 16, layers: int = 4, padding: float = 0.1, **settings: Any
) -> nn.Module:
    """A Fourier neural operator (``neuraloperator``) that maps (B, H, W) to (B, H, W).

    Parameters
    ----------
    modes : int
        Fourier modes kept a side.
    channels, layers : int
    padding : float
        Fraction of the domain added around it: Fourier modes are periodic, absorbing walls are not.
    settings
        Further arguments of ``neuralop.models.FNO``.

    Raises
    ------
    MissingExtraError
        Without the packages of the extra ``surrogates``.
    """
    models = require_extra("neuralop.models", "surrogates")
    net = models.FNO(
        n_modes=(modes, modes),
        in_channels=1,
        out_channels=1,
        hidden_channels=channels,
        n_layers=layers,
        domain_padding=padding or None,
        **settings,
    )
    return _Fields(net)

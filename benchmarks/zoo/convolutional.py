"""Convolutional families: ResNets, MobileNet, U-Net, group and instance norms, DCGAN."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = [
    "discriminator",
    "generator",
    "group_norm_net",
    "mobilenet",
    "resnet",
    "restorer",
    "unet",
]


def _no_norm(channels: int) -> nn.Module:
    return nn.Identity()


def _group_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(4, channels)


_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "group": _group_norm,
    "none": _no_norm,
}


class _Basic(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut (He et al. 2015), names as in torchvision."""

    def __init__(self, n_in: int, n_out: int, stride: int, norm: str) -> None:
        super().__init__()
        make = _NORMS[norm]
        bias = norm == "none"
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=bias)
        self.bn1 = make(n_out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=bias)
        self.bn2 = make(n_out)
        self.downsample: nn.Module | None = None
        if stride > 1 or n_in != n_out:
            shortcut = nn.Conv2d(n_in, n_out, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, make(n_out))

    def forward(self, x: Tensor) -> Tensor:
        branch = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(branch + shortcut)


class _Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1 convolutions beside a shortcut: the block of ResNet-50."""

    def __init__(self, n_in: int, n_out: int, stride: int, norm: str) -> None:
        super().__init__()
        make = _NORMS[norm]
        inner = n_out // 4
        self.conv1 = nn.Conv2d(n_in, inner, 1, bias=False)
        self.bn1 = make(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, bias=False)
        self.bn2 = make(inner)
        self.conv3 = nn.Conv2d(inner, n_out, 1, bias=False)
        self.bn3 = make(n_out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride > 1 or n_in != n_out:
            shortcut = nn.Conv2d(n_in, n_out, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, make(n_out))

    def forward(self, x: Tensor) -> Tensor:
        branch = self.relu(self.bn1(self.conv1(x)))
        branch = self.relu(self.bn2(self.conv2(branch)))
        branch = self.bn3(self.conv3(branch))
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(branch + shortcut)


class ResNet(nn.Module):
    """Stages of residual blocks, each with half the pixels and twice the channels of the last."""

    def __init__(
        self, width: int, blocks: list[int], norm: str, bottleneck: bool, n_out: int = 10
    ) -> None:
        super().__init__()
        Block = _Bottleneck if bottleneck else _Basic
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = _NORMS[norm](width)
        self.relu = nn.ReLU(inplace=True)
        n_in = width
        for stage, count in enumerate(blocks):
            n_out_here = width * 2**stage * (4 if bottleneck else 1)
            made = []
            for block in range(count):
                stride = 2 if stage and not block else 1
                made.append(Block(n_in, n_out_here, stride, norm))
                n_in = n_out_here
            self.add_module(f"layer{stage + 1}", nn.Sequential(*made))
        self.stages = len(blocks)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(n_in, n_out)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return self.fc(self.avgpool(x).flatten(1))


def resnet(width: int, depth: int, norm: str = "batch", bottleneck: bool = False) -> nn.Module:
    """A ResNet of ``depth`` blocks in two stages (four stages if ``bottleneck``)."""
    stages = 4 if bottleneck else 2
    count = [depth // stages + (stage < depth % stages) for stage in range(stages)]
    return ResNet(width, [c for c in count if c], norm, bottleneck)


class _Inverted(nn.Module):
    """Expand, depthwise 3 x 3, project; shortcut where shapes allow (MobileNetV2)."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        wide = 4 * n_in
        self.branch = nn.Sequential(
            nn.Conv2d(n_in, wide, 1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU6(inplace=True),
            nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU6(inplace=True),
            nn.Conv2d(wide, n_out, 1, bias=False),
            nn.BatchNorm2d(n_out),
        )
        self.shortcut = stride == 1 and n_in == n_out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x) if self.shortcut else self.branch(x)


def mobilenet(width: int, depth: int) -> nn.Module:
    """MobileNetV2 in small: ``depth`` inverted residual blocks, the middle one with stride 2."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, width, 3, 1, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU6(inplace=True),
    ]
    channels = width
    for block in range(depth):
        halve = block == depth // 2
        after = 2 * channels if halve else channels
        layers.append(_Inverted(channels, after, 2 if halve else 1))
        channels = after
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)]
    model = nn.Sequential(*layers)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.01)
            nn.init.zeros_(module.bias)
    return model


class _Res(nn.Module):
    """GroupNorm, SiLU, convolution, twice, the last one zero: the block of diffusion U-Nets."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.first = nn.Sequential(_group_norm(n_in), nn.SiLU(), nn.Conv2d(n_in, n_out, 3, 1, 1))
        last = nn.Conv2d(n_out, n_out, 3, 1, 1)
        nn.init.zeros_(last.weight)
        assert last.bias is not None
        nn.init.zeros_(last.bias)
        self.second = nn.Sequential(_group_norm(n_out), nn.SiLU(), last)
        self.skip = nn.Conv2d(n_in, n_out, 1) if n_in != n_out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.skip(x) + self.second(self.first(x))


class UNet(nn.Module):
    """Down and up again, joined across by concatenation."""

    def __init__(self, width: int, levels: int) -> None:
        super().__init__()
        self.inp = nn.Conv2d(3, width, 3, 1, 1)
        channels = [width * 2**level for level in range(levels + 1)]
        self.down = nn.ModuleList(_Res(a, b) for a, b in itertools.pairwise(channels))
        self.mid = _Res(channels[-1], channels[-1])
        ups = reversed(list(itertools.pairwise(channels)))
        self.up = nn.ModuleList(_Res(2 * b, a) for a, b in ups)
        self.pool, self.grow = nn.AvgPool2d(2), nn.Upsample(scale_factor=2)
        self.out = nn.Sequential(_group_norm(width), nn.SiLU(), nn.Conv2d(width, 3, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.inp(x)
        kept = []
        for block in self.down:
            x = block(x)
            kept.append(x)
            x = self.pool(x)
        x = self.mid(x)
        for block in self.up:
            x = block(torch.cat([self.grow(x), kept.pop()], 1))
        return self.out(x)


def unet(width: int, depth: int) -> nn.Module:
    """A diffusion U-Net of ``depth`` levels (up to 4 on pictures of 16 x 16)."""
    return UNet(width, depth)


def group_norm_net(width: int, depth: int) -> nn.Module:
    """A plain stack of convolution, GroupNorm, GELU, and a classifier."""
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, 1, 1)]
    for block in range(depth):
        stride = 2 if block == depth // 2 else 1
        layers += [_group_norm(width), nn.GELU(), nn.Conv2d(width, width, 3, stride, 1)]
    layers += [_group_norm(width), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(width, 10))


class _Restored(nn.Module):
    """A residual body with InstanceNorm, as for style transfer (Johnson et al. 2016)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        norm = functools.partial(nn.InstanceNorm2d, affine=True)
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, 1, 1),
            norm(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, 1, 1),
            norm(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def restorer(width: int, depth: int) -> nn.Module:
    """Image to image: strided convolution, ``depth`` blocks, transposed convolution."""
    return nn.Sequential(
        nn.Conv2d(3, width, 3, 1, 1),
        nn.InstanceNorm2d(width, affine=True),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, 2 * width, 3, 2, 1),
        nn.InstanceNorm2d(2 * width, affine=True),
        nn.ReLU(inplace=True),
        *[_Restored(2 * width) for _ in range(depth)],
        nn.ConvTranspose2d(2 * width, width, 4, 2, 1),
        nn.InstanceNorm2d(width, affine=True),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, 1, 3, 1, 1),
    )


def _dcgan_weights(model: nn.Module) -> nn.Module:
    """N(0, 0.02) for convolutions, N(1, 0.02) for gains (Radford et al. 2016)."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
            nn.init.zeros_(module.bias)
    return model


def generator(width: int, depth: int) -> nn.Module:
    """DCGAN's generator, codes (n, 32) to pictures of 16 x 16; ``depth`` - 2 extra convolutions."""
    layers: list[nn.Module] = [
        nn.Unflatten(1, (32, 1, 1)),
        nn.ConvTranspose2d(32, 2 * width, 4, 1, 0, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(True),
    ]
    for _ in range(depth - 2):
        layers += [nn.Conv2d(2 * width, 2 * width, 3, 1, 1, bias=False)]
        layers += [nn.BatchNorm2d(2 * width), nn.ReLU(True)]
    layers += [
        nn.ConvTranspose2d(2 * width, width, 4, 2, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(True),
        nn.ConvTranspose2d(width, 3, 4, 2, 1, bias=False),
        nn.Tanh(),
    ]
    return _dcgan_weights(nn.Sequential(*layers))


def discriminator(width: int, depth: int) -> nn.Module:
    """DCGAN's discriminator, pictures of 16 x 16 to one logit; ``depth`` - 2 extra convolutions."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, width, 4, 2, 1, bias=False),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.LeakyReLU(0.2, inplace=True),
    ]
    for _ in range(depth - 2):
        layers += [nn.Conv2d(2 * width, 2 * width, 3, 1, 1, bias=False)]
        layers += [nn.BatchNorm2d(2 * width), nn.LeakyReLU(0.2, inplace=True)]
    layers += [nn.Conv2d(2 * width, 1, 4, 1, 0, bias=False), nn.Flatten()]
    return _dcgan_weights(nn.Sequential(*layers))

"""Faults in halves of GANs, VAEs, U-Nets, fields and equations, and in half precision."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from .base import Job, digits, fault, mlp, seeded


def _coded(n: int = 128) -> tuple[tuple, tuple]:
    """Pixels of digits from ten numbers that stand for the picture."""
    (x, _), (xt, _) = digits()
    code = torch.randn(64, 10, generator=seeded(3)) / 8
    return (x[:n] @ code, x[:n]), (xt[:n] @ code, xt[:n])


@fault("squashed-logits")
def discriminator_with_two_sigmoids():
    (x, _), (xt, _) = digits()
    g = seeded(1)
    made = [torch.rand(128, 64, generator=g) * x.mean(0) * 2 for _ in range(2)]
    y = torch.cat([torch.ones(128, 1), torch.zeros(128, 1)])
    train, test = ((torch.cat([a[:128], b]), y) for a, b in zip((x, xt), made))
    net = [64, 96, 48, 1]

    def job(tail):
        model = mlp(net, lambda: nn.LeakyReLU(0.2), tail)
        return Job(model, train, test, loss=F.binary_cross_entropy_with_logits)

    return job(nn.Sigmoid()), job(None)


@fault("output-cannot-reach-targets", "targets-unscaled")
def generator_ends_in_tanh_for_pixels_to_255():
    (x, y), (xt, yt) = _coded()
    sick = Job(mlp([10, 128, 64], tail=nn.Tanh()), (x, 255 * y), (xt, 255 * yt), score="fit")
    good = Job(mlp([10, 128, 64], tail=nn.Tanh()), (x, 2 * y - 1), (xt, 2 * yt - 1), score="fit")
    return sick, good


class VAE(nn.Module):
    """Returns reconstruction, mean and logarithm of the variance."""

    def __init__(self, cut: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encode, self.cut = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 24)), cut
        self.decode = nn.Sequential(nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, 64))

    def forward(self, x):
        mean, log = self.encode(x).chunk(2, -1)
        law = torch.distributions.Normal(mean, (log / 2).exp())
        z = law.sample() if self.cut else law.rsample()
        return self.decode(z), mean, log


@fault("detached")
def vae_that_samples_without_a_gradient():
    (x, _), (xt, _) = digits()

    def loss(output, y):
        return F.mse_loss(output[0], y)

    def job(cut):
        return Job(VAE(cut), (x, x), (xt, xt), loss=loss, score="fit")

    return job(True), job(False)


class UNet(nn.Module):
    """Two scales; may start its up path in zeros that nothing leaves."""

    def __init__(self, bias: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inp, self.down = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 32, 3, 2, 1)
        self.up, self.fuse = nn.ConvTranspose2d(32, 16, 2, 2), nn.Conv2d(32, 16, 3, padding=1)
        self.out = nn.Conv2d(16, 1, 1)
        with torch.no_grad():
            self.fuse.bias.fill_(bias)

    def forward(self, x):
        a = F.relu(self.inp(x))
        b = self.up(F.relu(self.down(a)))
        return self.out(F.relu(self.fuse(torch.cat([a, b], 1))))


@fault("dead")
def unet_whose_last_block_is_dead():
    (x, _), (xt, _) = digits(image=True)
    g = seeded(2)
    noisy = [t + 0.3 * torch.randn(t.shape, generator=g) for t in (x, xt)]

    def job(bias):
        return Job(UNet(bias), (noisy[0], x), (noisy[1], xt), score="fit")

    return job(-20.0), job(0.0)


class Pinn(nn.Module):
    """u(t) of u'' = -u with its residual."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp([1, 48, 48, 1], nn.Tanh)

    def forward(self, t):
        with torch.enable_grad():
            t = t.detach().requires_grad_(True)
            u = self.net(t)
            (du,) = torch.autograd.grad(u.sum(), t, create_graph=True)
            (ddu,) = torch.autograd.grad(du.sum(), t, create_graph=True)
        return u, ddu + u


@fault("inputs-unscaled")
def equation_in_milliseconds():
    def job(unit):
        t = torch.linspace(0, 3, 128)[:, None]
        # the residual is of the time that the net is given, as it would be written
        scale = unit**2

        def loss(output, y):
            u, rest = output
            return F.mse_loss(u, y) + 0.1 * (scale * (rest - u) + u).square().mean()

        return Job(Pinn(), (t * unit, t.cos()), (t * unit, t.cos()), loss=loss, score="fit")

    return job(1000.0), job(1.0)


class Field(nn.Module):
    """Colour at a point in space, from sines of its coordinates."""

    def __init__(self, shift: float) -> None:
        super().__init__()
        self.net = mlp([39, 64, 64, 3])
        with torch.no_grad():
            self.net[0].bias.fill_(shift)

    def forward(self, x):
        f = x[..., None] * 2.0 ** torch.arange(6)
        return torch.sigmoid(self.net(torch.cat([x, f.sin().flatten(1), f.cos().flatten(1)], 1)))


@fault("dead")
def radiance_field_with_dead_units():
    g = seeded(4)
    x = torch.rand(512, 3, generator=g) * 2 - 1
    y = torch.stack([(3 * x[:, 0]).sin(), x[:, 1] * x[:, 2], (2 * x[:, 1]).cos()], 1) / 2.2 + 0.5

    def job(shift):
        data = (x[:384], y[:384]), (x[384:], y[384:])
        return Job(Field(shift), *data, score="fit")

    return job(-12.0), job(0.0)


@fault("float16-range", "not-finite")
def float16_that_overflows():
    def job(size, dtype):
        (x, y), (xt, yt) = digits()
        model = mlp([64, 96, 96, 10], init="he").to(dtype)
        with torch.no_grad():
            model[2].weight.mul_(size)
        return Job(model, (x.to(dtype), y), (xt.to(dtype), yt))

    return job(30000.0, torch.float16), job(1.0, torch.float32)

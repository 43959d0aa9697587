"""Families of fully connected layers: MLP, Mixer, VAE, fields, sets, graphs, LoRA."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .data import digits

__all__ = ["deepsets", "gnn", "lora", "mixer", "mlp", "nerf", "pinn", "siren", "vae"]


def _stack(sizes: list[int], act: Callable[[], nn.Module]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b), act()]
    return nn.Sequential(*layers[:-1])


def mlp(
    width: int,
    depth: int,
    n_in: int = 64,
    n_out: int = 10,
    act: Callable[[], nn.Module] = nn.ReLU,
) -> nn.Module:
    """``depth`` linear maps with an activation between them, PyTorch's initialisation."""
    return _stack([n_in] + [width] * (depth - 1) + [n_out], act)


class _Mix(nn.Module):
    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.across = _stack([tokens, 2 * tokens, tokens], nn.GELU)
        self.within = _stack([width, 4 * width, width], nn.GELU)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.across(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.within(self.norm2(x))


class Mixer(nn.Module):
    """MLP-Mixer on pictures of 16 x 16, patches of 4 x 4 (Tolstikhin et al. 2021)."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 4, 4)
        self.blocks = nn.Sequential(*[_Mix(16, width) for _ in range(depth)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.stem(x).flatten(2).transpose(1, 2)
        return self.head(self.norm(self.blocks(tokens)).mean(1))


def mixer(width: int, depth: int) -> nn.Module:
    """An MLP-Mixer of ``depth`` blocks."""
    return Mixer(width, depth)


class VAE(nn.Module):
    """Variational autoencoder of digits: returns reconstruction, mean, log-variance."""

    def __init__(self, width: int, depth: int, codes: int = 8) -> None:
        super().__init__()
        hidden = [width] * depth
        self.encoder = nn.Sequential(_stack([64, *hidden], nn.ReLU), nn.ReLU())
        self.mu, self.logvar = nn.Linear(width, codes), nn.Linear(width, codes)
        self.decoder = _stack([codes, *hidden, 64], nn.ReLU)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = self.encoder(x)
        mu, logvar = self.mu(h), self.logvar(h)
        noise = torch.randn_like(mu) if self.training else torch.zeros_like(mu)
        return self.decoder(mu + noise * (0.5 * logvar).exp()), mu, logvar


def vae(width: int, depth: int) -> nn.Module:
    """A VAE with ``depth`` hidden layers in each half."""
    return VAE(width, depth)


class _Sine(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(30.0 * x)


def siren(width: int, depth: int) -> nn.Module:
    """SIREN with its own initialisation (Sitzmann et al. 2020)."""
    model = mlp(width, depth, 2, 1, _Sine)
    linears = [m for m in model.modules() if isinstance(m, nn.Linear)]
    for k, layer in enumerate(linears):
        bound = 1 / layer.in_features if k == 0 else math.sqrt(6 / layer.in_features) / 30
        nn.init.uniform_(layer.weight, -bound, bound)
    return model


class PINN(nn.Module):
    """u = x(1-x)y(1-y) N(x, y) vanishes on the border; the output is its Laplacian."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.net = mlp(width, depth, 2, 1, nn.Tanh)

    def solution(self, points: Tensor) -> Tensor:
        """u at points (n, 2)."""
        border = (points * (1 - points)).prod(1, keepdim=True)
        return border * self.net(points)

    def forward(self, points: Tensor) -> Tensor:
        with torch.enable_grad():
            points = points.detach().requires_grad_()
            u = self.solution(points)
            (slope,) = torch.autograd.grad(u.sum(), points, create_graph=True)
            parts = []
            for axis in range(2):
                (second,) = torch.autograd.grad(slope[:, axis].sum(), points, create_graph=True)
                parts.append(second[:, axis])
        return torch.stack(parts).sum(0)[:, None]


def pinn(width: int, depth: int) -> nn.Module:
    """A physics-informed net for a Poisson equation."""
    return PINN(width, depth)


class NeRF(nn.Module):
    """Radiance field: encoded points to density and colour, added up along each ray."""

    SAMPLES = 12
    OCTAVES = 4

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        encoded = 3 + 6 * self.OCTAVES
        self.first = _stack([encoded] + [width] * (depth // 2), nn.ReLU)
        self.second = _stack([width + encoded] + [width] * (depth - depth // 2), nn.ReLU)
        self.density, self.colour = nn.Linear(width, 1), nn.Linear(width + 3, 3)

    def forward(self, rays: Tensor) -> Tensor:
        origin, direction = rays[:, None, :3], rays[:, None, 3:]
        along = torch.linspace(1.0, 3.0, self.SAMPLES, device=rays.device)
        points = origin + along[None, :, None] * direction
        waves = [points * torch.pi * 2**k for k in range(self.OCTAVES)]
        encoded = torch.cat([points, *[w.sin() for w in waves], *[w.cos() for w in waves]], -1)
        h = torch.relu(self.first(encoded))
        h = torch.relu(self.second(torch.cat([h, encoded], -1)))
        # opacity of each piece of the ray, and how much light gets to it
        opaque = 1 - torch.exp(-torch.relu(self.density(h)) * 2.0 / self.SAMPLES)
        passed = torch.cumprod(1 - opaque + 1e-6, 1).roll(1, 1)
        passed = torch.cat([torch.ones_like(passed[:, :1]), passed[:, 1:]], 1)
        colour = torch.sigmoid(self.colour(torch.cat([h, direction.expand_as(points)], -1)))
        return (opaque * passed * colour).sum(1)


def nerf(width: int, depth: int) -> nn.Module:
    """A NeRF-like field, a skip in its middle."""
    return NeRF(width, depth)


class DeepSets(nn.Module):
    """rho(mean over the set of phi(point)) (Zaheer et al. 2017)."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.phi = nn.Sequential(_stack([3] + [width] * (depth // 2), nn.ReLU), nn.ReLU())
        self.rho = _stack([width] * (depth - depth // 2) + [1], nn.ReLU)

    def forward(self, points: Tensor) -> Tensor:
        return self.rho(self.phi(points).mean(1))


def deepsets(width: int, depth: int) -> nn.Module:
    """DeepSets with ``depth`` linear maps, half of them before the mean."""
    return DeepSets(width, depth)


class GNN(nn.Module):
    """Sums over neighbours by ``index_add`` and a residual map, then a mean over each graph."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.own = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.neighbour = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(depth))
        self.readout = nn.Linear(width, 3)

    def forward(self, x: Tensor, edges: Tensor, graph: Tensor) -> Tensor:
        source, target = edges
        ones = torch.ones(len(target), device=x.device, dtype=x.dtype)
        degree = torch.zeros(len(x), device=x.device, dtype=x.dtype).index_add(0, target, ones)
        scale = degree.clamp_min(1).rsqrt()[:, None]
        h = self.embed(x)
        for own, neighbour in zip(self.own, self.neighbour):
            message = neighbour(torch.relu(h) * scale)[source]
            h = h + own(torch.relu(h)) + torch.zeros_like(h).index_add(0, target, message) * scale
        count = int(graph[-1]) + 1
        nodes = len(x) // count
        total = h.new_zeros(count, h.shape[1]).index_add(0, graph, torch.relu(h))
        return self.readout(total / nodes)


def gnn(width: int, depth: int) -> nn.Module:
    """A graph network of ``depth`` rounds of messages."""
    return GNN(width, depth)


class LoRA(nn.Module):
    """A frozen linear map plus a trainable product of low rank, zero at the start."""

    def __init__(self, base: nn.Linear, rank: int = 4) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.A = nn.Parameter(torch.randn(rank, base.in_features) / rank)
        self.B = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + 2.0 * (x @ self.A.T) @ self.B.T


@functools.cache
def _pretrained(width: int, depth: int) -> dict[str, Tensor]:
    """An MLP after 60 steps of Adam on upright digits."""
    model = mlp(width, depth)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        model = mlp(width, depth)
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)
        for step in range(60):
            x, y = digits(64, step, False)
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return {name: value.clone() for name, value in model.state_dict().items()}


def lora(width: int, depth: int) -> nn.Module:
    """LoRA on a trained, frozen MLP, to be fitted to digits seen in a mirror."""
    base = mlp(width, depth)
    base.load_state_dict(_pretrained(width, depth))
    parts = [LoRA(m) if isinstance(m, nn.Linear) else m for m in base.children()]
    return nn.Sequential(*parts)

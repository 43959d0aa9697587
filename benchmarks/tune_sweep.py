"""Training all rates of a sweep, and several seeds, at once: members of one vmapped step."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from benchmarks.zoo import Family
from kadanoff.tuning.parts import parameter_roles
from kadanoff.tuning.rates import algorithm_of

__all__ = ["batch_of", "blown", "final", "hidden_matrices", "sweep", "train"]

# calls that vmap cannot take or takes slowly: trained one member after the other
ALONE = {"mixtral", "pinn", "lstm", "mamba", "gnn"}
LAST = 20


def batch_of(family: Family, batch: int, seed: int, step: int):
    """The batch of a step: the same for every method."""
    return family.data(batch, seed=1_000_000 * (seed + 1) + step)


def blown(loss: float, first: float) -> bool:
    """Whether a run has diverged."""
    return not loss < 1e3 * max(abs(first), 1e-3)


def final(losses: Sequence[float], steps: int) -> float:
    """Mean of the last 20 losses; inf if the run diverged."""
    if len(losses) < steps or any(blown(v, losses[0]) for v in losses):
        return math.inf
    return sum(losses[-LAST:]) / LAST


def hidden_matrices(family: Family, model: nn.Module, batch: int) -> set[str]:
    """What Muon takes; AdamW has the rest."""
    where = parameter_roles(model, batch_of(family, batch, 0, 0)[0])
    named = dict(model.named_parameters())
    return {n for n, r in where.items() if algorithm_of("muon", r, named[n]) == "muon"}


def make(
    optimizer: str, model: nn.Module, rate: float, muon: set[str]
) -> list[torch.optim.Optimizer]:
    """torch's optimiser at one rate, otherwise at its defaults; SGD with momentum 0.9."""
    named = {n: p for n, p in model.named_parameters() if p.requires_grad}
    if optimizer == "sgd":
        return [torch.optim.SGD(named.values(), rate, momentum=0.9)]
    rest = [p for n, p in named.items() if optimizer != "muon" or n not in muon]
    out: list[torch.optim.Optimizer] = [torch.optim.AdamW(rest, rate)] if rest else []
    mine = [p for n, p in named.items() if optimizer == "muon" and n in muon]
    return [*out, torch.optim.Muon(mine, rate)] if mine else out


def train(
    family: Family,
    model: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    *,
    batch: int,
    seed: int,
    steps: int,
    schedulers: Sequence[torch.optim.lr_scheduler.LRScheduler] = (),
) -> float:
    """Train in place; the mean of the last 20 losses."""
    losses: list[float] = []
    for step in range(steps):
        inputs, targets = batch_of(family, batch, seed, step)
        loss = family.run(model, inputs, targets)
        losses.append(float(loss.detach()))
        if blown(losses[-1], losses[0]):
            return math.inf
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for each in (*optimizers, *schedulers):
            each.step()
    return final(losses, steps)


def sweep(
    family: Family,
    sizes: dict[str, int],
    optimizer: str,
    rates: Sequence[float],
    seeds: Sequence[int],
    *,
    batch: int,
    steps: int,
    falling: bool = False,
) -> dict[tuple[int, float], float]:
    """Final loss of every seed and rate; ``falling``: from twice the rate linearly to zero."""
    if family.name in ALONE:
        out = {}
        for seed in seeds:
            for rate in rates:
                model = family.build(seed, **sizes)
                muon = hidden_matrices(family, model, batch) if optimizer == "muon" else set()
                made = make(optimizer, model, 2 * rate if falling else rate, muon)
                slower = torch.optim.lr_scheduler.LinearLR
                out[seed, rate] = train(
                    family, model, made, batch=batch, seed=seed, steps=steps,
                    schedulers=[slower(o, 1.0, 0.0, steps) for o in made] if falling else (),
                )  # fmt: skip
        return out
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # vmap's notes on speed
        return _together(family, sizes, optimizer, rates, seeds, batch, steps, falling)


def _together(
    family: Family,
    sizes: dict[str, int],
    optimizer: str,
    rates: Sequence[float],
    seeds: Sequence[int],
    batch: int,
    steps: int,
    falling: bool,
) -> dict[tuple[int, float], float]:
    models = [family.build(seed, **sizes) for seed in seeds]
    model = models[0]
    if hasattr(model, "set_attn_implementation"):
        model.set_attn_implementation("eager")  # pyright: ignore[reportCallIssue]
    muon = hidden_matrices(family, model, batch) if optimizer == "muon" else set()
    wanted = [n for n, p in model.named_parameters() if p.requires_grad]
    each = [dict(m.named_parameters()) for m in models]

    def members(tensors: list[Tensor]) -> Tensor:
        return torch.stack([t.detach() for t in tensors]).repeat_interleave(len(rates), 0)

    state = {n: members([e[n] for e in each]) for n in wanted}
    fixed = {n: members([e[n] for e in each]) for n in each[0] if n not in wanted}
    held = [dict(m.named_buffers()) for m in models]
    buffers = {n: members([h[n] for h in held]) for n in held[0]}

    def loss(state, fixed, buffers, inputs, targets):
        arguments = () if isinstance(inputs, dict) else (inputs,)
        keywords = inputs if isinstance(inputs, dict) else {}
        output = functional_call(model, {**state, **fixed, **buffers}, arguments, keywords)
        return family.criterion(output, targets)

    gradient = vmap(grad_and_value(loss), randomness="same")
    step = _Step(optimizer, state, torch.tensor(rates).repeat(len(seeds)), muon)
    curves = []
    for k in range(steps):
        data = [batch_of(family, batch, seed, k) for seed in seeds]
        inputs = _stacked([d[0] for d in data for _ in rates])
        targets = _stacked([d[1] for d in data for _ in rates])
        fresh = {n: b.clone() for n, b in buffers.items()}
        gradients, losses = gradient(state, fixed, fresh, inputs, targets)
        curves.append(losses)
        step(state, gradients, 2 * (1 - k / steps) if falling else 1.0)
    table = torch.stack(curves, 1).tolist()
    keys = [(seed, rate) for seed in seeds for rate in rates]
    return {key: final(row, steps) for key, row in zip(keys, table, strict=True)}


def _stacked(items):
    if isinstance(items[0], dict):
        return {name: _stacked([item[name] for item in items]) for name in items[0]}
    return torch.stack(items)


class _Step:
    """SGD with momentum 0.9, AdamW and Muon at torch's defaults, a rate for each member."""

    def __init__(self, kind: str, state: dict[str, Tensor], rate: Tensor, muon: set[str]) -> None:
        self.kind, self.rate, self.muon, self.count = kind, rate, muon, 0
        self.first = {n: torch.zeros_like(p) for n, p in state.items()}
        self.second = {n: torch.zeros_like(p) for n, p in state.items()}

    def __call__(
        self, state: dict[str, Tensor], gradients: dict[str, Tensor], factor: float
    ) -> None:
        self.count += 1
        for name, p in state.items():
            g, m = gradients[name], self.first[name]
            rate = factor * self.rate.view(-1, *[1] * (p.ndim - 1))
            if self.kind == "sgd":
                p.sub_(rate * m.mul_(0.9).add_(g))
            elif name in self.muon:
                m.lerp_(g, 0.05)
                p.mul_(1 - 0.1 * rate)
                wide = max(1.0, p.shape[-2] / p.shape[-1]) ** 0.5
                p.sub_(rate * wide * _polar(g.lerp(m, 0.95)))
            else:
                v = self.second[name]
                m.lerp_(g, 0.1)
                v.mul_(0.999).addcmul_(g, g, value=0.001)
                p.mul_(1 - 0.01 * rate)
                size = (v / (1 - 0.999**self.count)).sqrt() + 1e-8
                p.sub_(rate / (1 - 0.9**self.count) * m / size)


def _polar(g: Tensor) -> Tensor:
    """Five Newton–Schulz steps towards the polar factor, as torch.optim.Muon takes them."""
    x = g.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return (x.mT if tall else x).to(g.dtype)

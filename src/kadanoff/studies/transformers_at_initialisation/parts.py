"""What is computed: plain values in and out, so that each part survives a kill."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from kadanoff.studies.transformers_at_initialisation.networks import (
    Language,
    Setting,
    Stack,
    linear,
    tokens_at_angle,
)

if TYPE_CHECKING:
    from kadanoff.program import Law

__all__ = [
    "GROUPS",
    "LENGTH",
    "SPREADS",
    "VOCABULARY",
    "along",
    "blocks",
    "collapse",
    "groups",
    "real",
    "spread",
    "vertex",
]

VOCABULARY, LENGTH = 64, 16
# parts of parameter names, and the group they make
GROUPS = {
    "queries": ".q.weight",
    "keys": ".k.weight",
    "values": ".v.weight",
    "attention out": ".o.weight",
    "MLP in": ".up.weight",
    "MLP out": ".down.weight",
    "token embedding": "tokens.weight",
    "position embedding": "positions.weight",
    "norm gains": "norms.0.weight",
    "norm shifts": "norms.0.bias",
    "readout": "head.weight",
}


def along(
    setting: dict[str, Any],
    T: int,
    correlation: float,
    coherent: bool,
    networks: int,
    batches: int,
    seed: int,
) -> dict[str, list[list[float]]]:
    """Mean square, token correlation and Jacobian at every residual sum: (batches, sums) each.

    ``batches`` independent ensembles of ``networks``, for errors of anything made of them. The
    Jacobian is that to the end of the stack, over its value at the last sum.
    """
    import kadanoff as kd

    s = Setting(**setting)
    model, laws = _bare(functools.partial(_double, s, coherent))
    x = tokens_at_angle(T, s.width, correlation).double()
    out: dict[str, list[list[float]]] = {"p": [], "correlation": [], "jacobian": []}
    for batch in range(batches):
        ens = kd.ensemble(model, x, networks, laws=laws, seed=1000 * seed + batch)
        sums = [fields for key, fields in ens.calls.items() if ":add" in key]
        last = sums[-1]["jacobian_to_output"].value
        out["p"].append([q["second_moment"].value for q in sums])
        out["jacobian"].append([q["jacobian_to_output"].value / last for q in sums])
        if T > 1:
            out["correlation"].append([q["position_correlation"].value for q in sums])
    return out


def _bare(factory: Callable[[], nn.Module]) -> tuple[nn.Module, dict[str, Law]]:
    """A model without numbers and the laws of its weights, found once for many ensembles."""
    from kadanoff.program import laws

    with torch.device("meta"):
        model = factory()
    return model, dict(laws(factory))


def _double(s: Setting, coherent: bool) -> nn.Module:
    """In double precision: 1 − ρ becomes small."""
    return Stack(s, mean=coherent).double()


def _text(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, VOCABULARY, (2, LENGTH + 1), generator=generator)
    return ids[:, :-1], ids[:, 1:]


def groups(setting: dict[str, Any], networks: int, seed: int) -> dict[str, list[list[float]]]:
    """E g² an entry of every group's parameters, block by block: (value, error) each.

    Next-token cross entropy on random tokens. Groups outside the blocks have one entry.
    """
    import kadanoff as kd

    factory = functools.partial(Language, Setting(**setting), VOCABULARY, LENGTH)
    ens = kd.ensemble(factory, _text(0), networks, probes=0, seed=seed)
    return {
        group: [[q.value, q.stderr] for name, q in ens.gradients.items() if name.endswith(part)]
        for group, part in GROUPS.items()
    }


def blocks(
    setting: dict[str, Any], T: int, correlation: float, networks: int, batches: int, seed: int
) -> list[list[float]]:
    """T n E g² of the matrices out of every branch: (batches, branches).

    The stack ends in a norm; the loss is a random projection of all outputs.
    """
    import kadanoff as kd

    s = Setting(**setting)
    model, laws = _bare(functools.partial(Stack, s, norm=True))
    x = tokens_at_angle(T, s.width, correlation)
    rows = []
    for batch in range(batches):
        ens = kd.ensemble(model, x, networks, laws=laws, probes=0, seed=1000 * seed + batch)
        rows.append([
            T * s.width * q.value
            for name, q in ens.gradients.items()
            if name.endswith((".o.weight", ".down.weight"))
        ])  # fmt: skip
    return rows


def collapse(
    correlations: list[float], width: int, T: int, networks: int, seed: int
) -> list[list[float]]:
    """E g² of queries, keys and values of one attention layer, (value, error) by correlation.

    Independent cotangents on all tokens.
    """
    import kadanoff as kd

    s = Setting(width, 1, mlp=0.0, scores=1.0)
    rows = []
    for rho in correlations:
        factory = functools.partial(Stack, s)
        ens = kd.ensemble(factory, tokens_at_angle(T, width, rho), networks, probes=0, seed=seed)
        found = [ens.gradients[f"blocks.0.branches.0.{c}.weight"] for c in "qkv"]
        rows.append([value for q in found for value in (q.value, q.stderr)])
    return rows


def real(setting: dict[str, Any], networks: int, seed: int) -> dict[str, Any]:
    """Sampled without weights against really re-initialised: z of every number of one model."""
    import kadanoff as kd

    factory = functools.partial(Language, Setting(**setting), VOCABULARY, LENGTH)
    ours = kd.ensemble(factory, _text(0), networks, method="undrawn", probes=1, seed=seed)
    theirs = kd.ensemble(factory, _text(0), networks, method="instances", probes=1, seed=seed + 1)
    table = kd.compare(ours, theirs)
    # what varies by rounding alone says nothing
    lines = [x for x in table.lines if x.second.spread > 1e-5 * abs(x.second.value)]
    return {
        "means": [x.z for x in lines],
        "spreads": [x.z_spread for x in lines],
        "names": [f"{x.key} {x.field}" for x in lines],
    }


class Perceptron(nn.Module):
    """tanh layers of one width, C_W = 1.5; its last preactivation."""

    def __init__(self, width: int, depth: int = 4) -> None:
        super().__init__()
        sizes = [16, *[width] * depth]
        self.layers = nn.ModuleList(linear(a, b, 1.5) for a, b in itertools.pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers[0](x)
        for layer in self.layers[1:]:
            x = layer(torch.tanh(x))
        return x


def _convolution(channels: int, width: int) -> nn.Conv2d:
    """3 × 3, no bias, entries N(0, 2/fan-in)."""
    layer = nn.Conv2d(channels, width, 3, padding=1, bias=False)
    nn.init.normal_(layer.weight, 0.0, math.sqrt(2 / (9 * channels)))
    return layer


class Convolutional(nn.Module):
    """A residual network of 3 × 3 convolutions: norm, ReLU, convolution in each of two branches."""

    def __init__(self, width: int, blocks: int = 2) -> None:
        super().__init__()
        self.stem = _convolution(3, width)
        self.maps = nn.ModuleList(_convolution(width, width) for _ in range(blocks))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(blocks))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for layer, norm in zip(self.maps, self.norms):
            x = x + layer(torch.relu(norm(x)))
        return x


class Recurrent(nn.Module):
    """An LSTM with normal weights; its last hidden state."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.LSTM(16, width, bias=False, batch_first=True)
        for p in self.net.parameters():
            nn.init.normal_(p, 0.0, math.sqrt(2.0 / p.shape[1]))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)[0][:, -1]


def _noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def _transformer(width: int) -> nn.Module:
    return Stack(Setting(width, 2, head=16, scores=1.0), causal=True)


def _shared(width: int) -> nn.Module:
    """One attention branch, whose queries share a key and value head."""
    return Stack(Setting(width, 1, head=16, scores=1.0, attention=3.0, mlp=0.0, keys=1))


# name -> (width to module, width to input); each network's output is its stream, width wide
SPREADS: Mapping[str, tuple[Callable[[int], nn.Module], Callable[[int], Tensor]]] = {
    "MLP": (Perceptron, lambda n: _noise(1, 16)),
    "Transformer": (_transformer, lambda n: tokens_at_angle(6, n, 0.3)),
    "one key head": (_shared, lambda n: tokens_at_angle(6, n, 0.3)),
    "ResNet": (Convolutional, lambda n: _noise(2, 3, 6, 6)),
    "LSTM": (Recurrent, lambda n: _noise(1, 4, 16)),
}


def spread(name: str, width: int, networks: int, seed: int) -> list[float]:
    """Var/mean² of the output's mean square over networks, its standard error, the mean."""
    import kadanoff as kd

    module, batch = SPREADS[name]
    factory = functools.partial(module, width)
    ens = kd.ensemble(factory, batch(width), networks, probes=0, seed=seed)
    q = ens.calls["output"]["second_moment"]
    ratio = q.spread / q.value
    # error of the variance, and of the square of the mean
    error = 2 * ratio * math.hypot(q.spread_stderr, ratio * q.stderr) / q.value
    return [ratio**2, error, q.value]


def vertex(width: int) -> float:
    """n Var/mean² of the last layer of :class:`Perceptron`: V/K² + 2 from the flow in 1/n."""
    import kadanoff as kd

    arch = kd.MLP(16, [width] * 3, width, activation="tanh", C_W=1.5)
    flow = kd.flow(arch, _noise(1, 16).double(), order=1)
    K, V = (float(getattr(flow, name)[-1].flatten()[0]) for name in "KV")
    return V / K**2 + 2

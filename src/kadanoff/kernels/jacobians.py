"""Per-sample Jacobians of a block of inputs, in the cheapest form each parameter allows.

A linear map used once on one position per sample stays a product, Σ (δ·δ')(h·h'), so that its
Jacobian is never formed. Everything else is an explicit block J of shape (B, O, P).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kadanoff.kernels.calls import Call, Watch

__all__ = ["Block", "jacobian"]


@dataclass
class Block:
    """Jacobians of B samples: ``products`` hold (δ (B, O, T, out), h (B, T, in)) per parameter."""

    samples: int
    outputs: int
    products: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    explicit: dict[int, Tensor] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        kept = [*self.explicit.values(), *(t for pair in self.products.values() for t in pair)]
        return sum(t.numel() * t.element_size() for t in kept)

    def gram(self, other: Block, outputs: str) -> Tensor:
        """Θ between two blocks: (B1, B2), (B1, B2, O) or (B1, B2, O, O)."""
        total: Any = 0
        for key, (d1, h1) in self.products.items():
            d2, h2 = other.products[key]
            total = total + _product(d1, h1, d2, h2, outputs)
        for key, J1 in self.explicit.items():
            total = total + _contract(J1, other.explicit[key], outputs)
        return total


def _contract(J1: Tensor, J2: Tensor, outputs: str) -> Tensor:
    B1, O, P = J1.shape
    B2 = J2.shape[0]
    if outputs == "trace":
        return (J1.reshape(B1, -1) @ J2.reshape(B2, -1).T) / O
    if outputs == "diagonal":
        return torch.einsum("aop,bop->abo", J1, J2)
    full = J1.reshape(-1, P) @ J2.reshape(-1, P).T
    return full.view(B1, O, B2, O).transpose(1, 2)


def _product(d1: Tensor, h1: Tensor, d2: Tensor, h2: Tensor, outputs: str) -> Tensor:
    if d1.shape[2] == 1:
        h = h1[:, 0] @ h2[:, 0].T
        d = _contract(d1[:, :, 0], d2[:, :, 0], outputs)
        return d.mul_(h.view(*h.shape, *(1,) * (d.ndim - 2)))
    h = torch.einsum("ati,bsi->abts", h1, h2)
    if outputs == "full":
        d = torch.einsum("aotk,bpsk,abts->abop", d1, d2, h)
        return d
    d = torch.einsum("aotk,bosk,abts->abo", d1, d2, h)
    return d.mean(2) if outputs == "trace" else d


def jacobian(model: Any, parameters: list[Tensor], x: Tensor, spare: int) -> Block:
    """The Jacobians of a block of inputs; ``spare`` bytes are free for batched general ones."""
    with torch.enable_grad():
        watch, y = _forward(model, parameters, x)
        B, O = y.shape
        block = Block(B, O)
        uses: dict[int, list[tuple[Call, str]]] = {}
        for call in watch.calls:
            batched = call.shape[0] == B and call.arguments["input"].shape[0] == B
            for name in ("weight", "bias"):
                key = id(call.arguments.get(name))
                if key in watch.known:
                    uses.setdefault(key, []).append((call, name))
                    if not batched:
                        watch.general.add(key)
        for key in watch.general:
            uses.pop(key, None)
        calls = list({id(c): c for found in uses.values() for c, _ in found}.values())
        general = [p for p in parameters if id(p) in watch.general]
        if calls:
            deltas = _deltas(y, calls, O)
            where = {id(c): d for c, d in zip(calls, deltas)}
            for p in parameters:
                found = uses.get(id(p))
                if found and not _merge(block, p, found, uses, where):
                    _place(block, p, [(c, name, where[id(c)]) for c, name in found])
    if general:
        _general(block, model, general, x, spare)
    return block


def _merge(block: Block, p: Tensor, found: list, uses: dict, where: dict[int, Tensor]) -> bool:
    """A linear map on one position with its own bias: one product, with a constant feature."""
    call, name = found[0]
    a = call.arguments
    bias = a.get("bias")
    if len(found) > 1 or call.kind != "linear" or len(uses.get(id(bias), ())) != 1:
        return False
    if len(uses.get(id(a["weight"]), ())) != 1 or call.shape[:-1].numel() != block.samples:
        return False
    if name == "weight":
        h = a["input"].reshape(block.samples, 1, -1)
        delta = where[id(call)].reshape(block.samples, block.outputs, 1, -1)
        block.products[id(p)] = (delta, torch.cat([h, torch.ones_like(h[..., :1])], 2))
    return True


def _forward(model: Any, parameters: list[Tensor], x: Tensor) -> tuple[Watch, Tensor]:
    for copy in (False, True):
        with Watch(parameters, copy) as watch:
            y = model(x)
        if all(call.intact() for call in watch.calls):
            break
    return watch, y.reshape(len(x), -1)


def _deltas(y: Tensor, calls: list[Call], O: int) -> list[Tensor]:
    """∂y_o/∂(result of each call), (B, O, …): one backward pass an output, for all samples."""
    edges = [c.edge for c in calls]
    # convolutions have fast kernels for batches of images, not for batches of these
    if O > 1 and not (y.device.type == "cpu" and any(c.kind == "conv2d" for c in calls)):
        # all outputs in one batched pass, where every backward function supports it
        seeds = torch.eye(O, dtype=y.dtype, device=y.device)[:, None].expand(O, *y.shape)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                stacked = torch.autograd.grad(
                    y, edges, seeds, is_grads_batched=True, retain_graph=True, allow_unused=True
                )
        except RuntimeError:
            pass
        else:
            return [
                y.new_zeros(len(y), O, *c.shape[1:]) if g is None else g.transpose(0, 1)
                for g, c in zip(stacked, calls)
            ]
    found: list[list[Tensor]] = [[] for _ in calls]
    sums = y.sum(0)
    for o in range(O):
        grads = torch.autograd.grad(sums[o], edges, retain_graph=o < O - 1, allow_unused=True)
        for kept, g, call in zip(found, grads, calls):
            kept.append(y.new_zeros(call.shape) if g is None else g)
    return [torch.stack(kept, 1) for kept in found]


def _place(block: Block, p: Tensor, found: list[tuple[Call, str, Tensor]]) -> None:
    B, O = block.samples, block.outputs
    if len(found) == 1:
        call, name, delta = found[0]
        if name == "weight" and call.kind == "linear":
            h = call.arguments["input"].reshape(B, -1, p.shape[1])
            T, (out, inner) = h.shape[1], p.shape
            # a product costs T² (in + O out) a pair of samples, a Jacobian O out in
            if T == 1 or T * T * (inner + O * out) < O * out * inner:
                block.products[id(p)] = (delta.reshape(B, O, T, out), h)
                return
    total: Any = 0
    for call, name, delta in found:
        total = total + _explicit(call, name, delta, p, B, O)
    block.explicit[id(p)] = total.reshape(B, O, -1)


def _explicit(call: Call, name: str, delta: Tensor, p: Tensor, B: int, O: int) -> Tensor:
    a, x = call.arguments, call.arguments["input"]
    if call.kind == "linear":
        d = delta.reshape(B, O, -1, call.shape[-1])
        if name == "bias":
            return d.sum(2)
        return torch.einsum("botk,bti->boki", d, x.reshape(B, -1, x.shape[-1]))
    if call.kind == "conv2d":
        return delta.sum((-2, -1)) if name == "bias" else _conv(a, delta, p, B, O)
    if call.kind == "embedding":
        d = delta.reshape(B, O, -1, p.shape[1])
        tokens = x.reshape(B, 1, -1, 1).expand_as(d)
        J = d.new_zeros(B, O, *p.shape).scatter_add_(2, tokens, d)
        if a.get("padding_idx") is not None:
            J[:, :, a["padding_idx"]] = 0
        return J
    if call.kind == "layer_norm":
        normal = F.layer_norm(x, a["normalized_shape"], eps=a.get("eps", 1e-5))
        d = delta if name == "bias" else delta * normal[:, None]
        return d.reshape(B, O, -1, p.numel()).sum(2)
    shape = (1, -1) + (1,) * (x.ndim - 2)
    mean, var = a["running_mean"].view(shape), a["running_var"].view(shape)
    normal = (x - mean) / (var + a.get("eps", 1e-5)).sqrt()
    d = delta if name == "bias" else delta * normal[:, None]
    return d.reshape(B, O, p.numel(), -1).sum(3)


def _conv(a: dict[str, Any], delta: Tensor, p: Tensor, B: int, O: int) -> Tensor:
    x, groups = a["input"], a.get("groups", 1)
    stride: Any = a.get("stride", 1)
    dilation: Any = a.get("dilation", 1)
    padding = a.get("padding", 0)
    kernel = p.shape[2:]
    if isinstance(padding, str):
        spread: Any = dilation if isinstance(dilation, (tuple, list)) else (dilation, dilation)
        extra = [d * (k - 1) if padding == "same" else 0 for d, k in zip(spread, kernel)]
        x = F.pad(x, (extra[1] // 2, extra[1] - extra[1] // 2,
                      extra[0] // 2, extra[0] - extra[0] // 2))  # fmt: skip
        padding = 0
    size: Any = dilation
    patches = F.unfold(x, kernel, dilation=size, padding=padding, stride=stride)
    patches = patches.view(B, groups, -1, patches.shape[-1])
    d = delta.reshape(B, O, groups, p.shape[0] // groups, -1)
    # batched products of (O out, T) by (T, in): the fastest form of this contraction
    left = d.transpose(1, 2).reshape(B * groups, -1, d.shape[-1])
    right = patches.reshape(B * groups, -1, patches.shape[-1]).transpose(1, 2)
    J = torch.bmm(left, right).view(B, groups, O, p.shape[0] // groups, -1)
    return J.transpose(1, 2)


def _general(block: Block, model: Any, parameters: list[Tensor], x: Tensor, spare: int) -> None:
    """Vector products, one sample and output at a time, for parameters of no known structure."""
    rows: dict[int, list[Tensor]] = {id(p): [] for p in parameters}
    for i in range(block.samples):
        with torch.enable_grad():
            y = model(x[i : i + 1]).reshape(-1)
            for o in range(block.outputs):
                grads = torch.autograd.grad(
                    y[o], parameters, retain_graph=o < block.outputs - 1, allow_unused=True
                )
                for p, g in zip(parameters, grads):
                    rows[id(p)].append((torch.zeros_like(p) if g is None else g).reshape(-1))
    for p in parameters:
        block.explicit[id(p)] = torch.stack(rows[id(p)]).view(block.samples, block.outputs, -1)

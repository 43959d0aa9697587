"""Per-sample Jacobians of a block of inputs, in the cheapest form each parameter allows.

A linear map used once on one position per sample stays a product, Σ (δ·δ')(h·h'), so that its
Jacobian is never formed. Everything else is an explicit block J of shape (B, O, P).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kadanoff.kernels.uses import ParameterUses, Use
from kadanoff.trace.recorder import Recorder

__all__ = ["JacobianBlock", "Samples", "jacobian"]


@dataclass
class JacobianBlock:
    """Jacobians of B samples: ``products`` hold (δ (B, O, T, out), h (B, T, in)) per parameter."""

    samples: int
    outputs: int
    products: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    explicit: dict[int, Tensor] = field(default_factory=dict)
    passing: int = 0
    """Bytes of all δ of one pass, which are held until the Jacobians are made."""

    @property
    def bytes(self) -> int:
        kept = [*self.explicit.values()]
        for pair in self.products.values():
            kept += pair
        return sum(t.numel() * t.element_size() for t in kept)

    def gram(self, other: JacobianBlock, outputs: str) -> Tensor:
        """Θ between two blocks: (B1, B2), (B1, B2, O) or, "full", (B1, B2, O1, O2)."""
        total: Any = 0
        for key in (*self.products, *self.explicit):
            if key in self.products and key in other.products:
                (d1, h1), (d2, h2) = self.products[key], other.products[key]
                total = total + _product(d1, h1, d2, h2, outputs)
            else:
                total = total + _contract(self._written(key), other._written(key), outputs)
        return total

    def _written(self, key: int) -> Tensor:
        """The Jacobian (B, O, P): blocks of different numbers of outputs may differ in form."""
        if key in self.explicit:
            return self.explicit[key]
        d, h = self.products[key]
        return torch.einsum("botk,bti->boki", d, h).flatten(2)


def _contract(J1: Tensor, J2: Tensor, outputs: str) -> Tensor:
    (B1, O1, P), (B2, O2, _) = J1.shape, J2.shape
    if outputs == "full":
        # rows in the order they lie in memory: convolutions are filled output by output
        if J1.stride(1) > J1.stride(0) and J2.stride(1) > J2.stride(0):
            rows, columns = (J.transpose(0, 1).reshape(-1, P) for J in (J1, J2))
            return (rows @ columns.T).view(O1, B1, O2, B2).permute(1, 3, 0, 2)
        full = J1.reshape(-1, P) @ J2.reshape(-1, P).T
        return full.view(B1, O1, B2, O2).transpose(1, 2)
    each = torch.bmm(J1.transpose(0, 1), J2.permute(1, 2, 0))
    return each.mean(0) if outputs == "trace" else each.permute(1, 2, 0)


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


class Samples(Protocol):
    """Inputs of several samples: a tensor, or whatever can be counted and sliced like one."""

    def __len__(self) -> int: ...
    def __getitem__(self, which: slice, /) -> Any: ...


def jacobian(model: nn.Module, parameters: list[Tensor], x: Samples) -> JacobianBlock:
    """The Jacobians of a block of inputs, in the cheapest form each parameter allows.

    Parameters
    ----------
    model : nn.Module
    parameters : list of Tensor
        With respect to which; all of them require gradients.
    x : Tensor, shape (B, ...), or a batch that can be sliced

    Returns
    -------
    JacobianBlock
    """
    with torch.enable_grad():
        watch, y = _forward(model, parameters, x)
        B, O = y.shape
        block = JacobianBlock(B, O)
        uses: dict[int, list[tuple[Use, str]]] = {}
        for call in watch.uses:
            batched = call.shape[0] == B and call.arguments["input"].shape[0] == B
            for name in ("weight", "bias"):
                key = id(call.arguments.get(name))
                if key in watch.known:
                    uses.setdefault(key, []).append((call, name))
                    if not batched:
                        watch.general.add(key)
        for key in watch.general:
            uses.pop(key, None)
        calls: dict[Use, None] = {}
        for found in uses.values():
            calls.update(dict.fromkeys(use for use, _ in found))
        general = [p for p in parameters if id(p) in watch.general]
        if calls:
            _structured(block, y, list(calls), [p for p in parameters if id(p) in uses], uses)
    if general:
        _general(block, model, general, x)
    return block


def _structured(
    block: JacobianBlock,
    y: Tensor,
    calls: list[Use],
    parameters: list[Tensor],
    uses: dict[int, list],
) -> None:
    """Fills the block as the backward passes go by, so that only products keep their δ."""
    B, O = block.samples, block.outputs
    products = {id(p): h for p in parameters if (h := _with_bias(p, uses, B)) is not None}
    covered = {id(uses[key][0][0].arguments["bias"]) for key in products} | set(products)
    for p in parameters:
        if id(p) not in covered and (h := _product_source(p, uses[id(p)], B, O)) is not None:
            products[id(p)] = h
    explicit = [p for p in parameters if id(p) not in products and id(p) not in covered]
    deltas: dict[int, list[Tensor]] = {key: [] for key in products}
    patches: dict[int, Tensor] = {}
    for outputs, found in _passes(y, calls, O):
        where = {id(c): d for c, d in zip(calls, found)}
        block.passing = max(block.passing, sum(d.numel() * d.element_size() for d in found))
        for key, kept in deltas.items():
            delta = where[id(uses[key][0][0])]
            kept.append(delta.reshape(B, delta.shape[1], products[key].shape[1], -1))
        for p in explicit:
            parts = [(c, name, where[id(c)]) for c, name in uses[id(p)]]
            if outputs is None:
                block.explicit[id(p)] = _sum(parts, p, B, O, patches)
                continue
            if id(p) not in block.explicit:
                # written output by output, seen sample by sample
                block.explicit[id(p)] = y.new_empty(O, B, p.numel()).transpose(0, 1)
            _sum(parts, p, B, 1, patches, block.explicit[id(p)][:, outputs])
    for key, kept in deltas.items():
        block.products[key] = (kept[0] if len(kept) == 1 else torch.cat(kept, 1), products[key])


def _with_bias(p: Tensor, uses: dict[int, list], B: int) -> Tensor | None:
    """A linear map on one position with its own bias: one product, with a constant feature."""
    call, name = uses[id(p)][0]
    a = call.arguments
    alone = all(len(uses.get(id(a.get(k)), ())) == 1 for k in ("weight", "bias"))
    if name != "weight" or call.kind != "linear" or not alone or call.shape[:-1].numel() != B:
        return None
    h = a["input"].reshape(B, 1, -1)
    return torch.cat([h, torch.ones_like(h[..., :1])], 2)


def _product_source(p: Tensor, found: list[tuple[Use, str]], B: int, O: int) -> Tensor | None:
    """The inputs (B, T, in) of a linear map used once, where a product is cheaper."""
    call, name = found[0]
    if len(found) > 1 or name != "weight" or call.kind != "linear":
        return None
    h = call.arguments["input"].reshape(B, -1, p.shape[1])
    T, (out, inner) = h.shape[1], p.shape
    # a product costs T² (in + O out) a pair of samples, a Jacobian O out in
    return h if T == 1 or T * T * (inner + O * out) < O * out * inner else None


def _forward(
    model: nn.Module, parameters: list[Tensor], x: Samples
) -> tuple[ParameterUses, Tensor]:
    for copy in (False, True):
        watch = ParameterUses(parameters, copy)
        with Recorder(model, watch, paths=False):
            y = model(x)
        if all(call.intact() for call in watch.uses):
            break
    return watch, y.reshape(len(x), -1)


def _passes(y: Tensor, calls: list[Use], O: int) -> Iterator[tuple[int | None, list[Tensor]]]:
    """∂y_o/∂(result of each call): all outputs at once, (None, (B, O, …)), or (o, (B, 1, …))."""
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
            yield (
                None,
                [
                    y.new_zeros(len(y), O, *c.shape[1:]) if g is None else g.transpose(0, 1)
                    for g, c in zip(stacked, calls)
                ],
            )
            return
    sums = y.sum(0)
    for o in range(O):
        grads = torch.autograd.grad(sums[o], edges, retain_graph=o < O - 1, allow_unused=True)
        yield o, [(y.new_zeros(c.shape) if g is None else g)[:, None] for g, c in zip(grads, calls)]


def _sum(
    parts: list[tuple[Use, str, Tensor]],
    p: Tensor,
    B: int,
    O: int,
    patches: dict[int, Tensor],
    out: Tensor | None = None,
) -> Tensor:
    """The Jacobian (B, O, P) of a parameter over all its uses; into ``out`` (B, P) if O is 1."""
    total: Tensor | None = None
    for call, name, delta in parts:
        if name == "weight" and call.kind == "conv2d":
            value = _conv(call, delta, p, B, O, patches, out if total is None else None)
        else:
            value = _explicit(call, name, delta, p, B, O)
        value = value.reshape(B, O, -1)
        total = value if total is None else total + value
    assert total is not None
    if out is None:
        return total
    if total.data_ptr() != out.data_ptr():
        out.copy_(total.reshape(B, -1))
    return out


def _explicit(call: Use, name: str, delta: Tensor, p: Tensor, B: int, O: int) -> Tensor:
    a, x = call.arguments, call.arguments["input"]
    if call.kind == "linear":
        d = delta.reshape(B, O, -1, call.shape[-1])
        if name == "bias":
            return d.sum(2)
        return torch.einsum("botk,bti->boki", d, x.reshape(B, -1, x.shape[-1]))
    if call.kind == "conv2d":
        return delta.sum((-2, -1))
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


def _conv(
    call: Use,
    delta: Tensor,
    p: Tensor,
    B: int,
    O: int,
    patches: dict[int, Tensor],
    out: Tensor | None,
) -> Tensor:
    groups = call.arguments.get("groups", 1)
    if id(call) not in patches:
        patches[id(call)] = _patches(call.arguments, p.shape[2:]).view(
            B, groups, -1, delta[0, 0, 0].numel()
        )
    h = patches[id(call)]
    d = delta.reshape(B, O, groups, p.shape[0] // groups, -1)
    # (in, T) by (T, O out), a weight's entries in the order (in, out): the faster way round where
    # one of the two is small, and inner products do not see the order
    left = h.reshape(B * groups, -1, h.shape[-1])
    right = d.transpose(1, 2).reshape(B * groups, -1, d.shape[-1]).transpose(1, 2)
    if groups == 1 and out is not None:
        return torch.bmm(left, right, out=out.view(B, -1, p.shape[0]))
    J = torch.bmm(left, right).view(B, groups, left.shape[1], O, -1)
    return J.permute(0, 3, 1, 2, 4)


def _patches(a: dict[str, Any], kernel: torch.Size) -> Tensor:
    x = a["input"]
    stride: Any = a.get("stride", 1)
    dilation: Any = a.get("dilation", 1)
    padding = a.get("padding", 0)
    if isinstance(padding, str):
        spread: Any = dilation if isinstance(dilation, (tuple, list)) else (dilation, dilation)
        extra = [d * (k - 1) if padding == "same" else 0 for d, k in zip(spread, kernel)]
        x = F.pad(
            x, (extra[1] // 2, extra[1] - extra[1] // 2, extra[0] // 2, extra[0] - extra[0] // 2)
        )
        padding = 0
    size: Any = dilation
    return F.unfold(x, kernel, dilation=size, padding=padding, stride=stride)


def _general(block: JacobianBlock, model: nn.Module, parameters: list[Tensor], x: Samples) -> None:
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

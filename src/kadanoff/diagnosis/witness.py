"""What the table of layers leaves out: sums, softmaxes, norms, scans, losses, cut gradients.

An observer of the recorder. It keeps numbers, never activations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from kadanoff.diagnosis.sightings import (
    SAMPLED,
    Attention,
    Cut,
    Fed,
    LossCall,
    Normed,
    Scan,
    StreamSum,
)
from kadanoff.diagnosis.vocabulary import (
    ENTRYWISE,
    FLAT,
    KINDS,
    LOSSES,
    NORMS,
    PLAIN,
    PRODUCTS,
    RECURRENT,
    WEIGHTED,
)
from kadanoff.trace.recorder import FunctionCall, Observer

__all__ = ["Witness"]

_ROWS = 4  # samples whose attention is looked at


@dataclass
class _Seen:
    losses: list[LossCall] = field(default_factory=list)
    attentions: list[Attention] = field(default_factory=list)
    sums: list[StreamSum] = field(default_factory=list)
    norms: list[Normed] = field(default_factory=list)
    scans: list[Scan] = field(default_factory=list)
    cuts: list[Cut] = field(default_factory=list)
    fed: list[Fed] = field(default_factory=list)
    loose: list[tuple[str, str, Tensor]] = field(default_factory=list)
    trail: list[tuple[str, str, str]] = field(default_factory=list)
    touched: set[int] = field(default_factory=set)


class Witness(Observer):
    """Notes what the rules ask about, while a model runs under a recorder.

    Parameters
    ----------
    model : nn.Module
    samples : int
        Size of the batch.
    given : iterable of Tensor
        The inputs, which are no weights even if they want gradients.

    Attributes
    ----------
    in_loss : bool
        Whether it is the loss that runs, outside the model.
    """

    def __init__(self, model: nn.Module, samples: int, given: Iterable[Tensor] = ()) -> None:
        self.seen = _Seen()
        self.samples = samples
        self.in_loss = False
        self.path = ""
        self._parameters = {id(p) for p in model.parameters()}
        self._own = self._parameters | {id(b) for b in model.buffers()}
        self._own |= {id(t) for t in given}
        self._products: dict[int, tuple[int, float]] = {}
        self._joined: dict[Any, StreamSum] = {}

    def before(self, call: FunctionCall) -> None:
        """Let the input of a recurrence want a gradient."""
        if call.name in RECURRENT:
            self.path = call.path
            self._scan(call.name, call.args)

    def after(self, call: FunctionCall, output: Any) -> None:
        """Keep the numbers of one call."""
        self.path = call.path
        if call.func is _DATA:
            self._cut(call.args, ".data")
            return
        self._follow(call, output)
        if isinstance(output, (Tensor, tuple)):
            self.seen.touched.update(id(t) for t in call.tensors())
        look = _LOOK.get(call.name)
        if look is not None:
            with torch.no_grad():
                look(self, call.name, call.args, call.kwargs, output)

    # -- what is looked at ---------------------------------------------------------------------

    def _follow(self, call: FunctionCall, output: Any) -> None:
        """Keep the order of everything that is not linear without weights."""
        name = call.name
        if name in PLAIN or not isinstance(output, Tensor) or not output.requires_grad:
            return
        kind = KINDS.get(call.operation.family if call.operation is not None else "", "other")
        kind = "add" if name == "add" else kind
        if name in PRODUCTS:
            both = [t for t in call.tensors() if t.requires_grad and t.ndim > 0]
            own = any(id(t) in self._own for t in both)
            maps = name not in ("mul", "div", "truediv")
            kind = "product" if len(both) > 1 and not own else ("linear" if maps else "")
        if kind:
            self.seen.trail.append((kind, name, call.path))

    def _cut(self, args: tuple, what: str) -> None:
        if args and isinstance(args[0], Tensor) and args[0].grad_fn is not None:
            self.seen.cuts.append(Cut(self.path, what))

    def _flat(self, name: str, args: tuple, kwargs: dict, output: Any) -> None:
        self._cut(args, name)

    def _drawn(self, name: str, args: tuple, kwargs: dict, output: Any) -> None:
        """A sample whose law depends on the weights, and which passes them no gradient."""
        laws = [t for t in (*args, *kwargs.values()) if isinstance(t, Tensor)]
        cut = isinstance(output, Tensor) and not output.requires_grad
        # without a gradient a view has no history, but what it is a view of has
        law = [t if t._base is None else t._base for t in laws]
        if cut and any(t.grad_fn is not None for t in law):
            self.seen.cuts.append(Cut(self.path, SAMPLED))

    def _weights(self, name: str, args: tuple, kwargs: dict, output: Any) -> None:
        tensors = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
        if not tensors or not isinstance(output, Tensor) or not output.is_floating_point():
            return
        trainable = any(t.requires_grad for t in tensors)
        if trainable and not output.requires_grad:
            self.seen.cuts.append(Cut(self.path, "no_grad"))
        for tensor in tensors[1:]:
            # a leaf that wants gradients but is no parameter of the model
            if tensor.requires_grad and tensor.is_leaf and id(tensor) not in self._own:
                self.seen.loose.append((self.path, name, tensor))
        if name in ("matmul", "mm", "bmm", "baddbmm", "einsum") and len(tensors) >= 2:
            self._product(name, tensors, output)
            if id(tensors[-1]) not in self._own and id(tensors[-2]) not in self._own:
                self._no_streams(*tensors[-2:])
        first = tensors[0]
        # a leaf that is no parameter: coordinates of an equation's net want gradients too
        data = first.is_leaf and id(first) not in self._parameters and first.is_floating_point()
        if data and trainable and first.shape[:1] == (self.samples,) and first.ndim > 1:
            self._feed(name, first)

    def _product(self, name: str, tensors: list[Tensor], output: Tensor) -> None:
        a, b = tensors[-2], tensors[-1]
        if id(a) in self._own or id(b) in self._own or output.ndim < 3:
            return
        width = a.shape[-1]
        self._products = {id(output): (width, _std(output))}

    def _feed(self, name: str, x: Tensor) -> None:
        x = x.float()
        axis = 1 if name.startswith("conv") else -1
        rows = x.movedim(axis, -1).reshape(-1, x.shape[axis])
        low, high = x.aminmax()
        self.seen.fed.append(
            Fed(
                self.path,
                name,
                rows.mean(0),
                rows.std(0, unbiased=False),
                float(x.square().mean().sqrt()),
                float(low),
                float(high),
                normed=bool(self.seen.norms),
            )
        )

    def _softmax(self, name: str, args: tuple, kwargs: dict, output: Any) -> None:
        x = args[0] if args else kwargs.get("input")
        axis = args[1] if len(args) > 1 else kwargs.get("dim")
        if not isinstance(x, Tensor) or x.ndim < 3 or not isinstance(output, Tensor):
            return
        if not isinstance(axis, int) or axis % x.ndim != x.ndim - 1:
            return
        self._no_streams(x)
        masked = x == -math.inf
        full = masked.all(-1).flatten(1).any(1).nonzero().flatten().tolist()
        origin = self._products.pop(id(x), None)
        width, bare = origin if origin is not None else (None, None)
        if origin is None and len(self._products) == 1:
            ((width, bare),) = self._products.values()
            self._products.clear()
        few = x[:_ROWS].float()
        # the axes between samples and queries are heads; keys last
        spread = _std(few[_allowed(few)]) if few.numel() else 0.0
        scaled = None if bare is None or not bare else spread / bare
        mass = output.float().flatten(1, -2).mean(1) if x.shape[0] == self.samples else None
        self.seen.attentions.append(
            _attention(self.path, few, output[:_ROWS].float(), tuple(full), width, scaled, mass)
        )

    def _fused(self, name: str, args: tuple, kwargs: dict, output: Any) -> None:
        self._no_streams(args[0], args[1])
        query, key = args[0].float(), args[1].float()
        mask = args[3] if len(args) > 3 else kwargs.get("attn_mask")
        causal = kwargs.get("is_causal", args[5] if len(args) > 5 else False)
        scale = kwargs.get("scale")
        full: list[int] = []
        if isinstance(mask, Tensor):
            shut = ~mask if mask.dtype == torch.bool else mask == -math.inf
            rows = shut.all(-1)
            if rows.any():
                rows = rows.flatten(1).any(1) if rows.ndim > 2 else rows.any().reshape(1)
                full = rows.nonzero().flatten().tolist()
        q, k = query[:_ROWS], key[:_ROWS]
        if k.ndim > 3 and q.shape[-3] != k.shape[-3]:
            k = k.repeat_interleave(q.shape[-3] // k.shape[-3], -3)
        bare = q @ k.mT
        scores = bare * (scale if scale is not None else q.shape[-1] ** -0.5)
        if isinstance(mask, Tensor):
            few = mask[:_ROWS] if mask.ndim > 2 and mask.shape[0] == len(query) else mask
            scores = (
                scores.masked_fill(~few, -math.inf)
                if few.dtype == torch.bool
                else (scores + few.float())
            )
        if causal:
            T, S = scores.shape[-2:]
            scores = scores.masked_fill(
                torch.ones(T, S, dtype=torch.bool, device=scores.device).triu(1), -math.inf
            )
        spread = _std(scores[_allowed(scores)])
        ratio = spread / _std(bare) if _std(bare) else None
        weights = scores.softmax(-1)
        found = _attention(self.path, scores, weights, tuple(full), q.shape[-1], ratio, None)
        self.seen.attentions.append(found)

    def _sum(self, name: str, args: tuple, kwargs: dict, output: Any) -> None:
        if len(args) < 2 or not isinstance(output, Tensor) or output.ndim < 2:
            return
        a, b = args[0], args[1]
        if not (isinstance(a, Tensor) and isinstance(b, Tensor) and _are_streams(a, b, output)):
            return
        if any(float(t.amin()) < -1e3 for t in (a, b)):
            return  # a mask
        sizes = [float(t.float().square().mean().sqrt()) for t in (a, b)]
        varies = [self._varies(t, output) for t in (a, b)]
        made = [t.grad_fn.name() if t.grad_fn is not None else "" for t in (a, b)]
        found = StreamSum(
            self.path,
            (sizes[0], sizes[1]),
            (varies[0], varies[1]),
            any("LayerNorm" in name or "RmsNorm" in name for name in made),
            any(name.startswith("AddBackward") for name in made),
        )
        self.seen.sums.append(found)
        if output.grad_fn is not None:
            self._joined[output.grad_fn] = found

    def _no_streams(self, *ends: Tensor) -> None:
        """Take out sums that make queries, keys or scores: their summands are no two streams."""
        todo = [(t.grad_fn, 0) for t in ends]
        while todo:
            node, depth = todo.pop()
            if node is None or depth > 8:
                continue
            found = self._joined.pop(node, None)
            if found is not None:
                self.seen.sums = [s for s in self.seen.sums if s is not found]
            # through views, factors, masks and further sums, not through maps and norms
            if node.name().startswith(ENTRYWISE):
                todo += [(before, depth + 1) for before, _ in node.next_functions]

    def _varies(self, t: Tensor, output: Tensor) -> bool:
        if t.ndim < output.ndim or t.shape[0] == 1 < output.shape[0] or len(t) < 2:
            return False
        return not bool((t[0] == t[-1]).all())

    def _norm(self, name: str, args: tuple, kwargs: dict, output: Any) -> None:
        x = args[0]
        if not isinstance(x, Tensor) or not isinstance(output, Tensor):
            return
        group, off, spread, training = 0, None, None, True
        if name == "batch_norm":
            training = bool(kwargs.get("training", args[5] if len(args) > 5 else False))
            group = x.numel() // max(x.shape[1], 1)
            mean, var = (args + (None,) * 3)[1:3]
            if not training and isinstance(mean, Tensor) and isinstance(var, Tensor) and group > 1:
                rows = x.detach().float().movedim(1, 0).flatten(1)
                own_mean, own_var = rows.mean(1), rows.var(1, unbiased=False)
                scale = own_var.clamp_min(1e-12).sqrt()
                off = float(((own_mean - mean.float()) / scale).square().mean().sqrt())
                spread = float((own_var / var.float().clamp_min(1e-12)).median())
        elif name in ("layer_norm", "rms_norm"):
            shape = kwargs.get("normalized_shape", args[1] if len(args) > 1 else x.shape[-1:])
            group = math.prod(shape) if shape else 1
        elif name == "instance_norm":
            group = math.prod(x.shape[2:])
        elif name == "group_norm":
            count = kwargs.get("num_groups", args[1] if len(args) > 1 else 1)
            group = x[0].numel() // max(int(count), 1)
        flat = 0.0
        if len(output) > 1 and output.shape[0] == self.samples:
            flat = float(output.float().std(0).mean())
        self.seen.norms.append(Normed(self.path, name, training, group, off, spread, flat))

    def _scan(self, name: str, args: tuple) -> None:
        x = args[0]
        cell = name.endswith("_cell")
        if not isinstance(x, Tensor) or not torch.is_grad_enabled() or not x.is_floating_point():
            return
        if x.ndim != (2 if cell else 3):
            return  # packed sequences carry several steps a row
        if not x.requires_grad:
            x.requires_grad_(True)
        batch_first = bool(args[-1]) if isinstance(args[-1], bool) else False
        axis = 1 if batch_first and not cell else 0
        edge = torch.autograd.graph.get_gradient_edge(x)
        steps = 1 if cell else x.shape[axis]
        self.seen.scans.append(Scan(self.path, name, edge, steps, axis))

    def _scanned(self, name: str, args: tuple, kwargs: dict, output: Any) -> None:
        """What a recurrence gives at each of its steps."""
        last = self.seen.scans[-1] if self.seen.scans else None
        out = output[0] if isinstance(output, tuple) else output
        if last is None or last.signal or last.path != self.path or not isinstance(out, Tensor):
            return
        rows = out.unsqueeze(0) if last.steps == 1 else out.movedim(last.axis, 0)
        sizes = rows.flatten(1).double().square().mean(1).sqrt()
        last.signal = tuple(sizes.tolist())

    def _loss(self, name: str, args: tuple, kwargs: dict, output: Any) -> None:
        given = dict(zip(("input", "target"), args[:2])) | kwargs
        x, y = given.get("input"), given.get("target")
        if not isinstance(x, Tensor) or not isinstance(y, Tensor):
            return
        extra = any(
            isinstance(v, Tensor) for k, v in kwargs.items() if k in ("weight", "pos_weight")
        )
        extra = extra or bool(kwargs.get("label_smoothing"))
        ignore = kwargs.get("ignore_index", -100) if name in ("cross_entropy", "nll_loss") else None
        value = float(output) if isinstance(output, Tensor) and output.numel() == 1 else math.nan
        self.seen.losses.append(LossCall(name, self.path, x, y, value, extra, ignore))

    def _difference(self, name: str, args: tuple, kwargs: dict, output: Any) -> None:
        """A hand-written loss: output − target, broadcast to more numbers than either has."""
        if len(args) < 2 or not self.in_loss or not isinstance(output, Tensor):
            return
        a, b = args[0], args[1]
        if not (isinstance(a, Tensor) and isinstance(b, Tensor)) or not output.numel():
            return
        if a.grad_fn is None and b.grad_fn is None:
            return
        x, y = (a, b) if a.grad_fn is not None else (b, a)
        if y.grad_fn is None and y.ndim and x.ndim:
            self.seen.losses.append(LossCall("difference", "", x, y))


def _std(x: Tensor) -> float:
    return float(x.float().std()) if x.numel() > 1 else 0.0


def _allowed(scores: Tensor) -> Tensor:
    """Where scores are no mask: masks are -inf, -1e9, or -100 beside scores of size 1."""
    return scores > scores.amax(-1, keepdim=True) - 80


def _attention(
    path: str,
    scores: Tensor,
    weights: Tensor,
    masked: tuple[int, ...],
    width: int | None,
    scaled: float | None,
    mass: Tensor | None,
) -> Attention:
    inside = _allowed(scores)
    allowed = inside.sum(-1)
    rows = allowed > 1
    if not rows.any():
        return Attention(path, 0.0, 1.0, masked, width, scaled, mass)
    p = weights.clamp_min(1e-30)
    entropy = -(weights * p.log()).sum(-1)[rows] / allowed[rows].float().log()
    kept = scores.masked_fill(~inside, math.nan)
    spread = scores.amax(-1)[rows] - kept.nanmean(-1)[rows]
    entropy = entropy[torch.isfinite(entropy)]
    spread = spread[torch.isfinite(spread)]
    return Attention(
        path,
        float(spread.median()) if spread.numel() else math.nan,
        float(entropy.mean()) if entropy.numel() else math.nan,
        masked,
        width,
        scaled,
        mass,
    )


_DATA = torch.Tensor.data.__get__  # type: ignore[attr-defined]
_LOOK: dict[str, Callable[..., None]] = {
    **dict.fromkeys(FLAT, Witness._flat),
    "detach": Witness._flat,
    "normal": Witness._drawn,
    "item": Witness._flat,
    **dict.fromkeys(WEIGHTED | {"bmm", "baddbmm", "einsum"}, Witness._weights),
    "softmax": Witness._softmax,
    "scaled_dot_product_attention": Witness._fused,
    "add": Witness._sum,
    **dict.fromkeys(NORMS, Witness._norm),
    **dict.fromkeys(RECURRENT, Witness._scanned),
    **dict.fromkeys(LOSSES, Witness._loss),
    "sub": Witness._difference,
    "rsub": Witness._difference,
}


def _are_streams(a: Tensor, b: Tensor, output: Tensor) -> bool:
    """Whether two summands are activations of one width, and gradients reach one of them."""
    if a.shape[-1:] != b.shape[-1:] or min(a.numel(), b.numel()) < 2 * output.shape[-1]:
        return False  # a bias, a scalar
    if not (a.is_floating_point() and b.is_floating_point()):
        return False
    return any(t.grad_fn is not None or t.requires_grad for t in (a, b))

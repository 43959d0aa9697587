"""What part each parameter plays: its role, its fan-in, and whether it lies on a branch."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kadanoff.data import example
from kadanoff.errors import UsageError
from kadanoff.trace.fans import layout_of, shape_fans
from kadanoff.trace.graph import main_chain
from kadanoff.trace.hf import main_output
from kadanoff.trace.layers import Call, Layers
from kadanoff.trace.recorder import Frame, Observer, Recorder, unwrap
from kadanoff.trace.sandbox import untouched

__all__ = ["Branches", "Role", "branches", "output_of", "parameter_roles", "readout_of"]

_NORMS = ("norm", "batchnorm", "layernorm", "rmsnorm", "groupnorm")
_ATTENTION = ("attention", "attn")
_MLP = ("mlp", "feedforward", "feed_forward", "ffn", "linear1", "linear2", "fc1", "fc2", "interm")


@dataclass(frozen=True)
class Role:
    """Where a parameter sits.

    Attributes
    ----------
    name : str
        Its name in the model (the first one, if it is tied).
    role : {"embedding", "input", "attention", "mlp", "hidden", "norm", "readout"}
    kind : {"weight", "bias"}
        Gains of norms are weights.
    fan_in : int
        Inputs summed over by a unit; 1 for vectors and embeddings.
    tied : bool
        Used in more than one place.
    """

    name: str
    role: str
    kind: str
    fan_in: int
    tied: bool = False


def parameter_roles(model: nn.Module, sample: Any) -> dict[str, Role]:
    """Role of every trainable parameter, read off one forward pass.

    The input layer is the first matrix used (if no embedding comes before it) and the readout the
    last one used. Attention and MLP are told by the names and classes of the modules around them.
    """
    order, factors = _used(model, sample)
    matrices = [m for m in order if _is_matrix(m)]
    readout = matrices[-1] if matrices else None
    embeds = any(isinstance(m, nn.Embedding | nn.EmbeddingBag) for m in order)
    first = matrices[0] if matrices and not embeds and len(matrices) > 1 else None
    shared: Counter[int] = Counter()
    for module in model.modules():
        shared.update(id(parameter) for parameter in module.parameters(recurse=False))
    out: dict[str, Role] = {}
    names = {id(p): name for name, p in model.named_parameters()}
    for path, module in model.named_modules():
        for local, parameter in module.named_parameters(recurse=False):
            name = names.get(id(parameter))
            if name is None or name in out or not parameter.requires_grad:
                continue
            role = _role(path, module, module is readout, module is first, model)
            table = isinstance(module, nn.Embedding | nn.EmbeddingBag)
            if role == "embedding" and name in factors and not table:
                role = "hidden"  # a bare matrix that something is multiplied by, as in LoRA
            out[name] = Role(
                name,
                role,
                _kind(local, parameter, role),
                _inputs(module, name, parameter, role, factors),
                shared[id(parameter)] > 1,
            )
    return out


def _kind(local: str, parameter: Tensor, role: str) -> str:
    vector = parameter.ndim < 2 and role != "norm"
    return "bias" if "bias" in local or vector else "weight"


def _inputs(
    module: nn.Module, name: str, parameter: Tensor, role: str, factors: Mapping[str, int]
) -> int:
    """The fan-in: of a bare matrix as it was used, of a module's weight as it is laid out."""
    if role == "hidden" and name in factors and not _is_matrix(module):
        return factors[name]
    if parameter.ndim < 2 or role == "embedding":
        return 1
    return shape_fans(layout_of(module), parameter.shape, getattr(module, "groups", 1))[0]


class _Order(Observer):
    """Lists the modules with parameters of their own in the order of their forward passes."""

    names = frozenset()

    def __init__(self) -> None:
        self.modules: list[nn.Module] = []

    def started(self, frame: Frame) -> None:
        if next(frame.module.parameters(recurse=False), None) is not None:
            self.modules.append(frame.module)


def _used(model: nn.Module, sample: Any) -> tuple[list[nn.Module], dict[str, int]]:
    """Modules in the order of use, and the fan-in of every parameter that is multiplied by."""
    inner, _ = unwrap(model)
    order, layers = _Order(), Layers()
    with untouched(inner, seed=0), torch.no_grad(), Recorder(inner, order, layers):
        inner.eval()  # batch norms must not count this pass
        output_of(inner, sample)
    linear = [call for call in layers.calls if call.kind == "linear" and call.parameter]
    factors = {c.parameter or "": c.fan_in for c in linear if c.family != "embedding"}
    return order.modules, factors


def _is_matrix(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    if isinstance(module, nn.MultiheadAttention):
        return True
    return (
        isinstance(weight, Tensor)
        and weight.ndim >= 2
        and not isinstance(module, nn.Embedding | nn.EmbeddingBag)
    )


def _role(path: str, module: nn.Module, last: bool, first: bool, model: nn.Module) -> str:
    if last:
        return "readout"
    name = type(module).__name__.lower()
    if any(word in name for word in _NORMS):
        return "norm"
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return "embedding"
    if first:
        return "input"
    around = [name]
    owner = model
    for part in path.split("."):
        owner = getattr(owner, part, owner) if part else owner
        around += [type(owner).__name__.lower(), part.lower()]
    if any(word in text for text in around for word in _ATTENTION):
        return "attention"
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        return "hidden"
    if not _is_matrix(module):
        # a bare parameter of a container: positional or class embeddings, mostly
        return "embedding"
    return "mlp" if any(word in text for text in around for word in _MLP) else "hidden"


@dataclass(frozen=True)
class Branches:
    """What lies on branches that a skip connection leads around.

    Attributes
    ----------
    inside : set of str
        Parameters on a branch.
    ends : set of str
        Of these, weight and bias of the last map of each branch.
    count : int
        Branches that hold a map.
    """

    inside: set[str]
    ends: set[str]
    count: int


def branches(model: nn.Module, sample: Any) -> Branches:
    """Read off one forward pass which parameters lie on residual branches."""
    inner, _ = unwrap(model)
    layers = Layers(graph=True, adds=True)
    try:
        with (
            untouched(inner, seed=0, quiet=True, graph=True),
            torch.enable_grad(),
            Recorder(inner, layers),
        ):
            out = output_of(inner, sample)
    except RuntimeError:
        # a model that cannot be watched has no branches that could be told
        return Branches(set(), set(), 0)
    calls = layers.calls
    beside: set[int] = set()
    on: set[int] = set()
    last_maps: set[int] = set()
    count = 0
    chain = main_chain(out, [call.edge for call in calls])
    for last, at in itertools.pairwise([-1, *chain, len(calls)]):
        between, end = calls[last + 1 : at], calls[at : at + 1]
        skipped = any(call.kind == "add" for call in end)
        (beside if skipped else on).update(*(_owned(inner, call) for call in between))
        on.update(*(_owned(inner, call) for call in end))
        maps = [c for c in between if c.kind == "linear" and _carries(c)]
        if skipped and maps:
            count += 1
            last_maps |= _owned(inner, maps[-1])
    named = dict(model.named_parameters())
    inside = {n for n, p in named.items() if id(p) in beside - on}
    return Branches(inside, {n for n in inside if id(named[n]) in last_maps}, count)


def _carries(call: Call) -> bool:
    return call.kind in ("linear", "norm", "recurrent") and not call.op.startswith("embedding")


def _owned(model: nn.Module, call: Call) -> set[int]:
    """Identities of the parameters of the module that made a call, and of the weight it used."""
    if not _carries(call):
        return set()
    owners = {call.path} | ({call.parameter.rpartition(".")[0]} if call.parameter else set())
    modules = [model.get_submodule(path) for path in owners]
    return {id(p) for module in modules for p in module.parameters(recurse=False)}


def readout_of(where: dict[str, Role]) -> Role | None:
    """The weight that is read out, unless it is tied to an embedding."""
    found = [r for r in where.values() if r.role == "readout" and r.kind == "weight"]
    return found[0] if found and found[0].fan_in > 1 and not found[0].tied else None


def output_of(model: nn.Module, sample: Any) -> Tensor:
    """The one output tensor of a forward pass on the user's sample.

    Raises
    ------
    UsageError
        None is found in what the model returns.
    """
    out = example(sample, model).without_labels(model).run(model)
    found = main_output(out)
    if found is not None:
        return found
    raise UsageError(
        f"The model returned {type(out).__name__}, in which no output tensor was found.",
        "Wrap the model so that it returns one tensor.",
    )

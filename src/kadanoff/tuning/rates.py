"""Learning rates a parameter, by the equivalence principle.

Every matrix is to move the output by the same amount a step, every vector (bias, gain) by a tenth
of that, and all of them together by ``base``. How much a tensor moves the output is measured at
the start, on the user's model: the square of its gradient for SGD (its share of the NTK), the sum
of absolute values for Adam-like steps, the nuclear norm for Muon. At a critical initialisation
this one rule gives the known
scalings without being told them: with the readout's standard deviation times n^(-s/2), SGD steps
go as n^(s-1) for hidden weights, n^s for what reads the input, 1/n for the readout; Adam steps at
s = 1 as 1/n, 1, 1/n (maximal update); with L layers SGD steps as 1/L, and with residual branches
times L^(-1/2) Adam steps as L^(-1/2), SGD steps as a constant. The branches of a residual network
are many small steps of one path: they share what four of them would have, so that what lies before
and after them learns at any depth as fast as at four.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kadanoff.data import example
from kadanoff.errors import AnalysisError, UsageError
from kadanoff.trace.fans import layout_of, shape_fans
from kadanoff.trace.graph import main_chain
from kadanoff.trace.hf import main_output
from kadanoff.trace.layers import Call, Layers
from kadanoff.trace.recorder import Frame, Observer, Recorder, unwrap
from kadanoff.trace.sandbox import untouched
from kadanoff.tuning.optimizers import OPTIMIZERS
from kadanoff.tuning.optimizers import split_muon as split_muon

__all__ = [
    "BASE",
    "BASE_WIDTH",
    "Branches",
    "Role",
    "algorithm_of",
    "bounded",
    "branches",
    "by_role",
    "measure_response",
    "parameter_groups",
    "parameter_roles",
    "scale_readout_",
    "split_muon",
]

# output change a step, in units of the output, that trains fast and stably: benchmarks/
BASE = {"sgd": 4.0, "adam": 1.6, "adamw": 1.6, "muon": 1.6}
# width at which the members of the family agree
BASE_WIDTH = 64
# What a vector moves, beside a matrix: any constant is in keeping with the scalings. At 1 a bias
# under Adam takes steps n<|s|> times those of a weight and runs off with the preactivation: on
# digits (MLP, ResNet; depth 4, 16; width 64) the loss after 60 steps was a third higher than at
# 0.1, and no better at 0.01.
_VECTOR = 0.1
# The blocks of a deeper residual network count together as those of one with this many. Each is
# then a step of a fixed path, and what lies before and after keeps its share: a Transformer of 16
# layers reached in 60 steps 2.78 with one share for every matrix, and 2.64 with this.
_BLOCKS = 4
# How far a rate may lie from what width and role alone say, up or down. The response at the start
# is right for what acts at the start, but queries and keys wake up as attention forms, branches
# that start at zero open, and an embedding that hardly moves the output at first moves all of it
# ten steps later: taken at its word, theory gave an LSTM's embedding under Adam 0.89.
FREE = 4.0
# No entry of a weight may be asked to move by more than this in one step of Adam: at 0.01 what
# counts a hundred steps later is 1, the size of a unit. Capped so, the LSTM that ended at 2.86
# ended at 2.22 (2.43 with torch's default).
CAP = {"adam": 1e-2, "adamw": 1e-2, "muon": 1e-1, "sgd": math.inf}
_NORMS = ("norm", "batchnorm", "layernorm", "rmsnorm", "groupnorm")
_ATTENTION = ("attention", "attn")
_MLP = ("mlp", "feedforward", "feed_forward", "ffn", "linear1", "linear2", "fc1", "fc2", "interm")

_COLUMN = {"sgd": 0, "adam": 1, "adamw": 1, "muon": 2}


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
        _forward(inner, sample)
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
            out = _forward(inner, sample)
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


def scale_readout_(
    model: nn.Module, sample: Any, s: float = 1.0, base_width: int = BASE_WIDTH
) -> float:
    """Multiply the readout's weights in place by (base_width / fan_in)^(s/2).

    Returns the factor. 1 and no change if ``s`` is 0 or the readout is tied to an embedding.
    """
    _check_s(s)
    found = readout_of(parameter_roles(model, sample))
    if found is None or s == 0:
        return 1.0
    factor = (base_width / found.fan_in) ** (s / 2)
    with torch.no_grad():
        dict(model.named_parameters())[found.name].mul_(factor)
    return factor


def readout_of(where: dict[str, Role]) -> Role | None:
    """The weight that is read out, unless it is tied to an embedding."""
    found = [r for r in where.values() if r.role == "readout" and r.kind == "weight"]
    return found[0] if found and found[0].fan_in > 1 and not found[0].tied else None


def _check_s(s: float) -> None:
    if not 0 <= s <= 1:
        raise UsageError(
            f"s = {s} is outside the family.", "Pass 0 (NTK scaling) to 1 (maximal update)."
        )


def _forward(model: nn.Module, sample: Any) -> Tensor:
    out = example(sample, model).without_labels(model).run(model)
    found = main_output(out)
    if found is not None:
        return found
    raise UsageError(
        f"The model returned {type(out).__name__}, in which no output tensor was found.",
        "Wrap the model so that it returns one tensor.",
    )


def measure_response(
    model: nn.Module, sample: Any, *, probes: int = 16, seed: int = 0, nuclear: bool = False
) -> dict[str, tuple[float, float, float]]:
    """How much a step on each parameter can move one output.

    For random outputs f of random samples (unit root mean square over outputs): the mean of
    |df/dp|^2, of sum |df/dp|, and, if ``nuclear``, of the nuclear norm of df/dp (else 0).

    The model is put in eval mode meanwhile (dropout would only add noise) unless it has batch
    norms, whose eval mode at the start is not what training sees.
    """
    generator = torch.Generator().manual_seed(seed)
    training = model.training
    names = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    buffers = {n: b.clone() for n, b in model.named_buffers()}
    batch_norm = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())
    model.train(batch_norm)
    total = {n: [0.0, 0.0, 0.0] for n, _ in names}
    try:
        with torch.enable_grad():
            out = _forward(model, sample)
            out = out.reshape(-1, out.shape[-1]) if out.ndim > 1 else out.reshape(-1, 1)
            for k in range(probes):
                row = int(torch.randint(out.shape[0], (), generator=generator))
                v = torch.randn(out.shape[1], generator=generator).to(out)
                f = (out[row] * v).sum() / math.sqrt(out.shape[1])
                grads = torch.autograd.grad(
                    f, [p for _, p in names], retain_graph=k < probes - 1, allow_unused=True
                )
                for (name, _), g in zip(names, grads):
                    if g is not None:
                        # optimisers step real and imaginary parts as two real numbers
                        g = torch.view_as_real(g) if g.is_complex() else g
                        _accumulate(total[name], g.detach().double(), probes, nuclear)
    finally:
        model.train(training)
        with torch.no_grad():
            for n, b in model.named_buffers():
                b.copy_(buffers[n])
    if not all(math.isfinite(v) for t in total.values() for v in t[:2]):
        raise AnalysisError(
            "A gradient at the start is not finite.",
            "Initialise the model critically first (kadanoff.tune does), or rescale the input.",
        )
    return {n: (t[0], t[1], t[2]) for n, t in total.items()}


def _accumulate(total: list[float], g: Tensor, probes: int, nuclear: bool) -> None:
    total[0] += float(g.pow(2).sum()) / probes
    total[1] += float(g.abs().sum()) / probes
    if nuclear and g.ndim == 2 and bool(torch.isfinite(g).all()):
        # |g|_* without a decomposition of the big side: through the smaller Gram matrix
        gram = g @ g.mT if g.shape[0] <= g.shape[1] else g.mT @ g
        total[2] += float(torch.linalg.eigvalsh(gram).clamp_min(0).sqrt().sum()) / probes


def parameter_groups(
    model: nn.Module,
    sample: Any,
    optimizer: str = "adamw",
    *,
    s: float = 1.0,
    base: float | None = None,
    base_width: int = BASE_WIDTH,
    weight_decay: float | None = None,
    in_place: bool = True,
    probes: int = 16,
    seed: int = 0,
    bound: float | None = None,
) -> list[dict[str, Any]]:
    """Parameter groups with a learning rate each, as any ``torch.optim`` class takes them.

    Parameters
    ----------
    model : torch.nn.Module
        At its (critical) initialisation.
    sample : Tensor, (inputs, targets), dict, Batch, or iterable of batches
        One batch of inputs as the model takes it.
    optimizer : {"sgd", "adam", "adamw", "muon"}
    s : float
        0: NTK scaling, 1: maximal-update scaling. With n the readout's fan-in, the relative motion
        of the NTK during training goes as depth / n^(1-s).
    base : float, optional
        Motion of the output a step, all parameters together: the one number to tune, at any size.
    base_width : int
        Width at which all values of ``s`` agree.
    weight_decay : float, optional
        Fraction by which matrices shrink a step; each group's entry makes it so at its own rate,
        and vectors do not decay. Without it the groups say nothing of decay, and the optimiser's
        own holds for all.
    in_place : bool
        Whether to scale the readout by (base_width / n)^(s/2) here; False if it has been done.
    probes : int
        Random outputs that the response is averaged over.
    bound : float, optional
        Keep each rate within this factor of what its width and role say (see :func:`bounded`).

    Returns
    -------
    list of dict
        ``params``, ``lr``, ``weight_decay`` if it was given, ``name``, ``role``, ``share`` (its
        part of the motion of the output) and ``algorithm`` ("muon" or "adamw" for
        ``optimizer="muon"``, where only hidden matrices take the former: see :func:`split_muon`).

    Raises
    ------
    UsageError
        Unknown optimizer, ``s`` outside [0, 1], a base that is not positive, no parameters.
    AnalysisError
        Gradients at the start vanish or are not finite.

    Notes
    -----
    A tensor whose gradient at the start is zero (a key bias, a branch that starts at zero) has no
    response to measure: it takes the median rate of its kind.
    """
    if optimizer not in OPTIMIZERS:
        raise UsageError(f"Unknown optimizer {optimizer!r}.", f"Choose from {OPTIMIZERS}.")
    _check_s(s)
    base = BASE[optimizer] if base is None else base
    if not (base > 0 and math.isfinite(base)):
        raise UsageError(f"base = {base} is not a learning rate.", "Pass a number > 0.")
    where = parameter_roles(model, sample)
    if not where:
        raise UsageError("The model has no trainable parameters.", "Nothing is there to tune.")
    if in_place:
        scale_readout_(model, sample, s, base_width)
    muon = optimizer == "muon"
    response = measure_response(model, sample, probes=probes, seed=seed, nuclear=muon)
    parameters = dict(model.named_parameters())
    algorithm = {n: algorithm_of(optimizer, where[n], parameters[n]) for n in where}
    strength = {n: response[n][_COLUMN[algorithm[n]]] for n in where}
    live = _live(strength, algorithm)
    if not live:
        raise AnalysisError(
            "No parameter moves the output at the start: all gradients vanish.",
            "Initialise the readout with non-zero weights first.",
        )
    found = branches(model, sample)
    weight = {
        n: weight_of(where[n], parameters[n].ndim, n in found.inside, found.count) for n in live
    }
    whole = sum(weight.values())
    share = {n: weight[n] / whole for n in live}
    rate = {n: base * share[n] / strength[n] for n in live}
    for n in where:
        if n not in rate:
            rate[n] = _borrowed(n, where, algorithm, {m: rate[m] for m in live})
    if bound is not None:
        rate = bounded(rate, where, algorithm, s=s, base_width=base_width, bound=bound)
    groups = []
    for n, role in where.items():
        lr = rate[n]
        if algorithm[n] == "muon":
            # torch.optim.Muon multiplies by this itself; the response is to a unit spectral norm
            rows, columns = parameters[n].shape
            lr /= math.sqrt(max(1.0, rows / columns))
        group = {
            "params": [parameters[n]],
            "lr": lr,
            "name": n,
            "role": role.role,
            "share": share.get(n, 0.0),
            "algorithm": algorithm[n],
        }
        if weight_decay is not None:
            decays = role.fan_in > 1 and role.kind == "weight"
            group["weight_decay"] = weight_decay / lr if decays else 0.0
        groups.append(group)
    return groups


def weight_of(role: Role, ndim: int, on_branch: bool, blocks: int) -> float:
    """A tensor's claim on the motion of the output, a matrix having 1."""
    matrix = role.role == "embedding" or ndim >= 2
    deep = min(1.0, _BLOCKS / max(blocks, 1)) if on_branch else 1.0
    return deep if matrix else _VECTOR * deep


# Rates under Adam relative to one for all, by role. Maximal update has what reads one token, and
# every vector, move at rate 1 and what sums over n inputs at 1/n. Measured on six families (GPT-2,
# Llama, T5, ViT, MLP, Mixer; widths 32 to 64, 300 steps): with these the loss at the best rate was
# lower by 2 to 45 % on the four with embeddings, and flatter in the rate; on the others level.
_BY_ROLE = {"embedding": 3.0, "readout": 3**0.5, "input": 1.0, "norm": 1.0}
_INNER = 0.6


def by_role(role: Role, algorithm: str, ndim: int) -> float:
    """Rate of a tensor relative to one for all, by its place alone; 1 but under Adam."""
    if algorithm not in ("adam", "adamw"):
        return 1.0
    if ndim < 2 and role.role != "embedding":
        return 1.0
    return _BY_ROLE.get(role.role, _INNER)


def expected(role: Role, algorithm: str, *, s: float = 1.0, base_width: int = BASE_WIDTH) -> float:
    """Rate of a tensor relative to others by its role and fan-in alone, up to a common factor.

    With n the fan-in over ``base_width``: SGD n^s for what reads the data and for vectors,
    n^(s-1) for hidden matrices, 1/n for the readout; Adam n^((s-1)/2), n^((s-3)/2), 1/n; Muon's
    hidden matrices 1.
    """
    n = role.fan_in / base_width
    if algorithm == "muon":
        return 1.0
    if role.role == "readout" and role.kind == "weight":
        return 1 / n
    inner = role.kind == "weight" and role.fan_in > 1 and role.role != "input"
    if algorithm == "sgd":
        # the width that vectors and the first layer see is not their own fan-in
        return n ** (s - 1) if inner else 1.0
    return n ** ((s - 3) / 2) if inner else 1.0


def bounded(
    rate: dict[str, float],
    where: dict[str, Role],
    algorithm: dict[str, str],
    *,
    s: float = 1.0,
    base_width: int = BASE_WIDTH,
    bound: float = FREE,
) -> dict[str, float]:
    """Rates within a factor ``bound`` of what width and role say, and under the cap of their step.

    What width and role say is :func:`expected`, times the median over all tensors of the same kind
    of step of what was measured over it.
    """
    out = {}
    for kind in set(algorithm.values()):
        mine = {n: r for n, r in rate.items() if algorithm[n] == kind}
        said = {n: expected(where[n], kind, s=s, base_width=base_width) for n in mine}
        ratios = sorted(mine[n] / said[n] for n in mine)
        middle = ratios[len(ratios) // 2]
        near = {
            n: min(max(value, middle * said[n] / bound), middle * said[n] * bound)
            for n, value in mine.items()
        }
        # one factor for all, so that the cap leaves their ratios as they are
        factor = min(1.0, CAP[kind] / max(near.values()))
        out |= {n: value * factor for n, value in near.items()}
    return out


def algorithm_of(optimizer: str, role: Role, parameter: Tensor) -> str:
    """Which step a parameter takes: under Muon only hidden matrices take Muon's."""
    if optimizer != "muon":
        return optimizer
    hidden = parameter.ndim == 2 and role.role in ("attention", "mlp", "hidden")
    return "muon" if hidden else "adamw"


def _live(strength: dict[str, float], algorithm: dict[str, str]) -> list[str]:
    """Parameters whose response is not zero up to rounding, per kind of step."""
    out = []
    for name in set(algorithm.values()):
        mine = {n: v for n, v in strength.items() if algorithm[n] == name and v > 0}
        if mine:
            middle = sorted(mine.values())[len(mine) // 2]
            floor = 1e-5 * middle if name != "sgd" else 1e-10 * middle
            out += [n for n, v in mine.items() if v > floor]
    return out


def _borrowed(
    name: str, where: dict[str, Role], algorithm: dict[str, str], rate: dict[str, float]
) -> float:
    me = where[name]
    tests = (
        lambda r: r.role == me.role and r.kind == me.kind,
        lambda r: r.kind == me.kind,
        lambda r: True,
    )
    for test in tests:
        peers = sorted(
            lr for n, lr in rate.items() if algorithm[n] == algorithm[name] and test(where[n])
        )
        if peers:
            return peers[len(peers) // 2]
    return min(rate.values())

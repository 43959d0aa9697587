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

import math
from typing import Any

import torch
from torch import Tensor, nn

from kadanoff.errors import AnalysisError, UsageError
from kadanoff.tuning.optimizers import OPTIMIZERS
from kadanoff.tuning.optimizers import split_muon as split_muon
from kadanoff.tuning.parts import Role, branches, output_of, parameter_roles, readout_of

__all__ = [
    "BASE",
    "BASE_WIDTH",
    "algorithm_of",
    "bounded",
    "by_role",
    "measure_response",
    "parameter_groups",
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
_COLUMN = {"sgd": 0, "adam": 1, "adamw": 1, "muon": 2}


def scale_readout_(
    model: nn.Module, sample: Any, s: float = 1.0, base_width: int = BASE_WIDTH
) -> float:
    """Multiply the readout's weights in place by (base_width / fan_in)^(s/2).

    Returns the factor. 1 and no change if ``s`` is 0 or the readout is tied to an embedding.

    Parameters
    ----------
    model : nn.Module
        Changed in place.
    sample
        Inputs, to find the readout.
    s : float
        Member of the family: 0 is NTK scaling, 1 maximal update.
    base_width : int
        Width at which nothing changes.
    """
    _check_s(s)
    found = readout_of(parameter_roles(model, sample))
    if found is None or s == 0:
        return 1.0
    factor = (base_width / found.fan_in) ** (s / 2)
    with torch.no_grad():
        dict(model.named_parameters())[found.name].mul_(factor)
    return factor


def _check_s(s: float) -> None:
    if not 0 <= s <= 1:
        raise UsageError(
            f"s = {s} is outside the family.", "Pass 0 (NTK scaling) to 1 (maximal update)."
        )


def measure_response(
    model: nn.Module, sample: Any, *, probes: int = 16, seed: int = 0, nuclear: bool = False
) -> dict[str, tuple[float, float, float]]:
    """How much a step on each parameter can move one output.

    For random outputs f of random samples (unit root mean square over outputs): the mean of
    |df/dp|^2, of sum |df/dp|, and, if ``nuclear``, of the nuclear norm of df/dp (else 0).

    The model is put in eval mode meanwhile (dropout would only add noise) unless it has batch
    norms, whose eval mode at the start is not what training sees.

    Parameters
    ----------
    model : nn.Module
    sample
        Inputs, one row a sample.
    probes : int
        Pairs of a random sample and a random output.
    seed : int
    nuclear : bool
    """
    generator = torch.Generator().manual_seed(seed)
    training = model.training
    names = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    buffers = {n: b.clone() for n, b in model.named_buffers()}
    batch_norm = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())
    model.train(batch_norm)
    total = {n: [0.0, 0.0, 0.0] for n, _ in names}
    try:
        with torch.enable_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # dropout, where batch norms keep the model in train mode
            out = output_of(model, sample)
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


def _of_torch(rate: float, algorithm: str, parameter: Tensor) -> float:
    """The rate that torch's optimiser is to be given."""
    if algorithm != "muon":
        return rate
    # torch.optim.Muon multiplies by this itself; the response is to a unit spectral norm
    rows, columns = parameter.shape
    return rate / math.sqrt(max(1.0, rows / columns))


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
        lr = _of_torch(rate[n], algorithm[n], parameters[n])
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
    """Rate of a tensor relative to one for all, by its place alone; 1 but under Adam.

    Parameters
    ----------
    role : Role
    algorithm : str
        Kind of its step.
    ndim : int
        Axes of the tensor.
    """
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

    Parameters
    ----------
    rate : dict of str to float
        Measured, one for each parameter.
    where : dict of str to Role
    algorithm : dict of str to str
    s : float
        Member of the family.
    base_width : int
    bound : float
        Factor on either side.
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
    """Which step a parameter takes: under Muon only hidden matrices take Muon's.

    Parameters
    ----------
    optimizer : str
    role : Role
    parameter : Tensor
    """
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

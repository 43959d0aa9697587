"""What the page says, in order: each section asks for its parts, decides, shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np

from kadanoff.studies.lab import Lab
from kadanoff.studies.transformers_at_initialisation import decisions, figures, parts, settings
from kadanoff.studies.transformers_at_initialisation.claims import SECTIONS
from kadanoff.studies.transformers_at_initialisation.decisions import Sums, Widths
from kadanoff.studies.transformers_at_initialisation.networks import Setting
from kadanoff.studies.transformers_at_initialisation.settings import NEAR, POST, PRE, T
from kadanoff.studies.transformers_at_initialisation.theory import (
    Tokens,
    branch_gradients,
    exponents,
    flow,
    power,
)

__all__ = ["run"]

_APART = (0.01, 0.001, 0.0001)
_DEEP = 32  # blocks of stacks beside the transition
_START = 0.3  # correlation of tokens that start apart


def run(lab: Lab) -> None:
    """Run the study."""
    lab.plan(lab.pick(quick=50, full=92))
    _groups(lab)
    _depth(lab)
    _collapse(lab)
    _exponents(lab)
    _seeds(lab)
    _real(lab)
    lab.say("What was not compared", _LIMITS)


def _sampled(
    lab: Lab,
    name: str,
    s: Setting,
    correlation: float,
    tokens: int = T,
    coherent: bool = False,
    networks: int = 3,
) -> Sums:
    """A stack sampled at two widths, without its order 1/n."""
    base = lab.pick(quick=128, full=s.width)
    networks, batches = lab.pick(quick=(2, 12), full=(networks, 12))
    found = [
        lab.part(
            f"{name}, n = {n}", parts.along, asdict(replace(s, width=n)), tokens, correlation,
            coherent, networks, batches, lab.seed,
        )
        for n in (base, 4 * base)
    ]  # fmt: skip
    return decisions.at_infinite_width(*found)


def _groups(lab: Lab) -> None:
    sizes = lab.pick(quick=(64, 128, 256, 512), full=(128, 256, 512, 1024, 2048))
    networks = lab.pick(quick=24, full=120)
    found = {
        n: lab.part(
            f"groups {n}", parts.groups, asdict(replace(settings.LANGUAGE, width=n)), networks,
            lab.seed,
        )
        for n in sizes
    }  # fmt: skip
    widths = {group: _kernel(group, found) for group in parts.GROUPS}
    decisions.kernels(lab, widths)
    lab.say(SECTIONS[0], _GROUPS)
    rows = [
        [group, *(f"{found[n][group][0][0]:.3g} ± {found[n][group][0][1]:.1g}" for n in sizes)]
        for group in parts.GROUPS
    ]
    lab.table(
        "E g² an entry, first block", ["group", *(f"n = {n}" for n in sizes)], rows,
        "Next-token cross entropy on random tokens, heads of 32 channels.",
    )  # fmt: skip
    lab.figure(
        "widths.svg",
        figures.widths(widths),
        "λ Σ g² of each group, λ = 1/n for matrices and 1 for embeddings and norms; groups are "
        "shifted against each other. Flat means of order one at every width.",
    )


def _kernel(group: str, found: dict[int, dict[str, list[list[float]]]]) -> Widths:
    """λ Σ g² of a group in the first block, up to a constant factor."""
    sizes = np.array(sorted(found), float)
    entries = {"readout": 0, "token embedding": 1, "position embedding": 1, "norm gains": 1,
               "norm shifts": 1}  # fmt: skip
    # matrices: n² entries at λ = 1/n; vectors and tables: n at 1; the readout: n at 1/n
    scale = sizes ** entries.get(group, 1)
    value = np.array([found[int(n)][group][0] for n in sizes])
    return Widths(sizes, value[:, 0] * scale, value[:, 1] * scale)


def _depth(lab: Lab) -> None:
    s = replace(PRE, blocks=lab.pick(quick=6, full=PRE.blocks))
    far, theory = {}, {}
    for name, coherent in (("independent", False), ("common", True)):
        far[name] = _sampled(lab, f"pre-norm {name}", s, _START, coherent=coherent)
        theory[name] = flow(s, T, _START, coherent)
    decisions.stream(lab, far["independent"], theory["independent"])
    curves = {name: (far[name], theory[name]) for name in far}
    if lab.full:
        near = [
            _sampled(lab, f"near {c}", settings.PRE_NEAR, NEAR, coherent=c) for c in (False, True)
        ]
        pair = (far["independent"], far["common"]), (theory["independent"], theory["common"])
        decisions.attention(lab, near[0], near[1], *pair)
    else:
        lab.leave_open("attention", "Takes stacks of 24 blocks.")
    mlps = {}
    for claim, cases in (("zeta", settings.PLAIN), ("gate", settings.GATED)):
        if claim == "gate" and not lab.full:
            lab.leave_open(claim, "Takes more networks.")
            continue
        shorter = {
            name: replace(m, blocks=lab.pick(quick=8, full=m.blocks)) for name, m in cases.items()
        }
        found = {name: _sampled(lab, name, m, 0.0, 1, networks=4) for name, m in shorter.items()}
        decisions.zeta(lab, claim, found)
        mlps |= {name: (found[name], power(m)) for name, m in cases.items()}
    _blocks(lab)
    lab.say(SECTIONS[1], _DEPTH)
    rows = [[name, power, *_value(decisions.powers(sums))] for name, (sums, power) in mlps.items()]
    lab.table("ζ of pre-norm MLP stacks", ["stack", "formula", "sampled", "±"], rows)
    lab.figure(
        "depth.svg",
        figures.depth(curves, mlps),
        "Points: sampled networks without their order 1/n; lines: the map, no parameter free. "
        "Above: a pre-norm GELU stack. Below: its gradient, for cotangents that are independent "
        "from token to token and for those that all tokens share; and that of MLPs alone.",
    )


def _value(batches: np.ndarray) -> list[float]:
    return [float(batches.mean()), float(batches.std(ddof=1) / len(batches) ** 0.5)]


def _blocks(lab: Lab) -> None:
    depths = lab.pick(quick=(2, 4), full=(4, 16, 64))
    networks, batches = lab.pick(quick=(2, 12), full=(2, 12))
    n = lab.pick(quick=128, full=PRE.width)
    found, theory = {}, {}
    for L in depths:
        s = replace(PRE, blocks=L)
        narrow, wide = (
            np.array(
                lab.part(
                    f"blocks {L}, n = {m}", parts.blocks, asdict(replace(s, width=m)), T, _START,
                    networks, batches, lab.seed,
                )
            )
            for m in (n, 4 * n)
        )  # fmt: skip
        found[L], theory[L] = decisions.extrapolated(narrow, wide), branch_gradients(s, T, _START)
    decisions.blocks(lab, found, theory)


def _collapse(lab: Lab) -> None:
    alone = [_sampled(lab, f"attention alone {i}", s, NEAR) for i, s in enumerate(settings.ALONE)]
    decisions.no_mlp(lab, alone)
    rows = np.array(
        lab.part(
            "queries and keys", parts.collapse, [1 - a for a in _APART],
            lab.pick(quick=256, full=512), T, lab.pick(quick=48, full=400), lab.seed,
        )
    )  # fmt: skip
    decisions.queries_keys(lab, _APART, rows)
    cases = {}
    if lab.full:
        near = _sampled(lab, "near False", settings.PRE_NEAR, NEAR)
        decisions.power_law(lab, near)
    else:
        lab.leave_open("power-law", "Takes stacks of 24 blocks.")
    depths = lab.pick(quick=(4, 8), full=(4, 16, 64))
    found, theory = {}, {}
    for L in depths:
        for kind, strength in (("plain", 1.0), ("scaled", L**-0.5)):
            s = replace(PRE, blocks=L, mlp=0.0, attention=strength)
            found[kind, L] = _sampled(lab, f"{kind} {L}", s, _START, networks=2)
            theory[kind, L] = flow(s, T, _START)
    if lab.full:
        decisions.residual_scale(lab, found, theory)
    else:
        lab.leave_open("residual-scale", "Takes stacks of 64 blocks.")
    for kind, words in (("plain", "pre-norm"), ("scaled", "pre-norm, branches /√depth")):
        case = kind, depths[-1]
        cases[words] = (
            1 - found[case].correlation,
            [1 - c for c in theory[case].correlation],
        )
    lab.say(SECTIONS[2], _COLLAPSE)
    lab.figure(
        "collapse.svg",
        figures.collapse(cases, _APART, rows),
        "Left: how far tokens are apart in stacks of attention alone. Right: mean square gradients "
        "of queries and keys over that of values, one layer, independent cotangents.",
    )


def _exponents(lab: Lab) -> None:
    lab.leave_open("loss", "Takes the training of many deep Transformers; not tried.")
    lab.say(SECTIONS[3], _EXPONENTS)
    if not lab.full:
        for claim in ("angle", "gradient", "phases", "transition"):
            lab.leave_open(claim, "Takes stacks at many settings.")
        return
    shared = [_sampled(lab, f"{name}, common", s, NEAR, coherent=True) for name, s in POST.items()]
    own = [_sampled(lab, f"{name}, independent", s, _START) for name, s in POST.items()]
    decisions.angle(lab, shared)
    decisions.gradient(lab, shared, own, [flow(s, T, _START) for s in POST.values()])
    rates = {name: (*_rates(sums), *exponents(s)) for (name, s), sums in zip(POST.items(), shared)}
    critical = settings.TRANSITION
    at = _sampled(lab, "transition", critical, NEAR)
    far: dict[float, tuple[Sums, Tokens]] = {}
    for strength in settings.STRENGTHS:
        s = replace(critical, mlp=strength * critical.mlp, blocks=_DEEP)
        far[strength] = _sampled(lab, f"strength {strength}", s, 0.5, networks=2), flow(s, T, 0.5)
    pairs = list(far.values())
    decisions.phases(lab, pairs[0][0], pairs[-1][0], _DEEP)
    decisions.transition(lab, at, [sums for sums, _ in pairs], [tokens for _, tokens in pairs])
    lab.table(
        "Exponents a block",
        ["stack", "λ_a, sampled", "λ_g, sampled", "λ_a, formula", "λ_g, formula"],
        [[name, *row] for name, row in rates.items()],
    )
    lab.figure(
        "exponents.svg",
        figures.strengths(far, rates),
        "Left: correlation of tokens in post-norm tanh stacks, MLP branches weaker and stronger "
        "than where λ_a vanishes. Right: λ_a and λ_g of four stacks.",
    )


def _rates(sums: Sums) -> tuple[float, float]:
    J = np.log(sums.jacobian[:, ::-1][:, ::2]).mean(0)
    return float(decisions.rate(sums, 2).mean()), float((J[-1] - J[0]) / (len(J) - 1))


def _seeds(lab: Lab) -> None:
    sizes = lab.pick(quick=(32, 64, 128), full=(64, 128, 256))
    networks = lab.pick(quick=60, full=400)
    found = {}
    for name in parts.SPREADS:
        rows = np.array(
            [lab.part(f"spread {name} {n}", parts.spread, name, n, _count(name, networks), lab.seed)
             for n in sizes]
        )  # fmt: skip
        found[name] = Widths(np.array(sizes, float), rows[:, 0], rows[:, 1])
    shared = found.pop("one key head")
    times = {name: Widths(w.n, w.n * w.value, w.n * w.error) for name, w in found.items()}
    predicted = lab.part("vertex", parts.vertex, sizes[-1])
    decisions.flat(lab, times)
    decisions.vertex(lab, times["MLP"], predicted)
    decisions.shared_keys(lab, shared)
    lab.say(SECTIONS[4], _SEEDS)
    drawn = {**times, "one key head": Widths(shared.n, shared.n * shared.value,
                                             shared.n * shared.error)}  # fmt: skip
    lab.table("n Var/mean²", ["architecture", *(f"n = {n}" for n in sizes)], _spreads(drawn))
    lab.figure(
        "seeds.svg",
        figures.seeds(drawn, predicted),
        f"Variance over {networks} networks of the mean square they send out, over its mean "
        "squared, times the width. One key head: queries that share one key and value head never "
        "average out.",
    )


def _count(name: str, networks: int) -> int:
    """More of what is cheap and has a closed form to be held against."""
    return 2 * networks if name == "MLP" else networks


def _spreads(found: dict[str, Widths]) -> Sequence[Sequence[str]]:
    return [
        [name, *(f"{v:.3g} ± {e:.1g}" for v, e in zip(w.value, w.error))]
        for name, w in found.items()
    ]


def _real(lab: Lab) -> None:
    networks = lab.pick(quick=60, full=200)
    cases = settings.REAL[: lab.pick(quick=1, full=None)]
    found = [
        lab.part(f"real {i}", parts.real, asdict(s), networks, lab.seed)
        for i, s in enumerate(cases)
    ]
    decisions.real(lab, found, networks)
    lab.say(SECTIONS[5], _REAL)


_GROUPS = r"""
A causal pre-norm Transformer with heads of fixed size, weights $N(0, C/n)$, and a readout of its
own is asked for the next of random tokens. The mean square gradient of an entry falls as $1/n$ in
every group but the readout, where it stays. With $n^2$ entries in a matrix and $n$ in a vector or a
row of a table, rates $1/n$ for matrices and 1 for all else give each group an equal part in what a
step does to the output, at every width: the scalings that the paper derives from a tangent kernel
of order one. The printed table of the paper was not at hand; these powers were derived here.
"""

_DEPTH = r"""
Tokens that have one mean square $p$ and one inner product $q$ stay so. A pre-norm branch adds a
constant to both and divides a cotangent by $p$ as it reads, so that $p$ grows linearly with depth,
$\chi = 1 + c/p$, and gradients grow as a power $\zeta = c/k$ of depth towards the input: critical
without tuning. A gate multiplies two maps and adds one to $\zeta$. Attention adds to the signal as
much as an MLP, but passes on only what the cotangents of all tokens have in common: gradients that
differ from token to token grow with a smaller power.
"""

_COLLAPSE = r"""
Attention adds the same vector to all tokens, so that the part they share grows and their
differences do not. With norms after the branches the collapse is exponential; in pre-norm stacks
it is a power law, $1-\rho \sim l^{\zeta-1}$. Branches divided by $\sqrt{L}$ keep tokens apart at
any depth $L$. Where tokens agree, scores do not depend on the key, and the gradients of queries and
keys, both, vanish as $(1-\rho)^2$ beside that of values.
"""

_EXPONENTS = r"""
With norms after the branches the stream has unit mean square and everything is exponential. Near
collapse an MLP branch multiplies differences of tokens by $(1+c)/(1+k)$, attention by
$1/(1+a^2 C_A)$: their product is $e^{\lambda_a}$. Backward, cotangents that all tokens share pass
attention undamped, $e^{\lambda_g} = (1+c)/(1+k)$; what they do not share grows by $e^{\lambda_a}$.
For $c > k$ (GELU, tanh; ReLU has $c = k$) strong MLPs win against attention, and tokens settle at a
correlation below one. These formulas were derived here and not compared with the printed ones of
Cowsik et al., whose blocks may place norms otherwise.
"""

_SEEDS = r"""
Networks of width $n$ differ from seed to seed. For MLPs the variance of the mean square they send
out is $(V/K^2 + 2)\,K^2/n$ with the four-point vertex $V$ of the $1/n$ expansion. Nobody has that
formula for a Transformer, a ResNet or an LSTM; sampled, the number is there for each of them, and
it does not depend on the width. What does not average out shows as a straight rise: queries that
share one key and value head see the same few channels however many they are.
"""

_REAL = r"""
Everything above comes from networks sampled without weights. Three small Transformers (pre-norm;
gated with one key and value head; post-norm) were also really initialised, over and over: every
mean square, correlation, Jacobian, gradient and loss, mean and spread, is the same.
"""

_LIMITS = """
The full texts of the three papers were not at hand; what is theirs is taken from their abstracts,
what is ours is marked so. Scores are small in all stacks of the map (variance 0.01); attention that
condenses on a few keys is another regime. Learning rates for sign-like steps need E|g| and were
not measured. No network was trained.
"""

"""How the net is built: nonlinearities, symmetries, layers that were never loaded, units."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

from kadanoff.diagnosis.evidence import Evidence
from kadanoff.diagnosis.kinds import kind
from kadanoff.diagnosis.result import Finding, LayerReport
from kadanoff.diagnosis.weights import MatrixFacts
from kadanoff.style.numbers import uncertain

__all__ = ["RULES", "median", "shown"]

LINEAR = kind(
    "KD1001",
    "no-nonlinearity",
    "Linear layers in a row",
    what="A linear map of a linear map is one linear map: these layers are no deeper than one, and "
    "only linear functions can be learned.",
    measured="Operations between two linear maps that follow each other on the main path; low-rank "
    "pairs (a bottleneck narrower than both sides) and sums count as something.",
    threshold="Critical if nothing but linear maps was seen in the whole net of three or more; a "
    "warning from three in a row.",
    remedy="Put an activation (nn.ReLU(), nn.GELU()) between them.",
    makes=("does-not-learn",),
)
SYMMETRIC = kind(
    "KD1002",
    "symmetric-weights",
    "All units of a layer are copies",
    what="Units with equal weights get equal gradients and stay equal: the layer has the power of "
    "one unit.",
    measured="Rows of each weight matrix: equal to six digits, or rank one. All-zero matrices are "
    "left out: they are zero on purpose.",
    threshold="Exact.",
    remedy="Draw the weights at random: nn.init.kaiming_normal_(w), nn.init.xavier_uniform_(w).",
    makes=(
        "zero-gradient",
        "silent",
        "does-not-learn",
        "collapsed",
        "ordered",
        "vanishing",
        "exploding",
        "odd_layer",
        "output-constant",
        "unlike-theory",
        "half-loaded",
        "dead",
    ),
)
HALF = kind(
    "KD1003",
    "half-loaded",
    "Some layers were never loaded",
    what="Next to trained layers of the same shape some have the exact law of a fresh draw: a "
    "checkpoint loaded with strict=False leaves layers whose names differ at random.",
    measured="Each weight against its default law (variance, bound 1/sqrt(fan-in), largest "
    "singular value at the edge of a random matrix), beside layers of the same shape.",
    threshold="The layer is within the default law to sampling error, and at least two and most "
    "of its like have entries 5 % beyond the bound, in a net that is trained by its loss or by "
    "singular values 20 % beyond the edge; a new head after all trained layers is not meant.",
    remedy="Load with strict=True and mend the names it lists: "
    "missing, unexpected = model.load_state_dict(state, strict=False); print(missing).",
    makes=("exploding", "vanishing", "ordered", "chaotic", "loss-at-start", "odd_layer"),
)
DEAD = kind(
    "KD1004",
    "dead",
    "Dead units",
    what="A unit that gives 0 for every sample gets no gradient and never comes back.",
    measured="Units of each activation that are 0 on every sample (for smooth activations: output "
    "below 10⁻³ of the layer's root mean square).",
    threshold="60 % by 4 standard errors: with symmetric preactivations at most one half can be "
    "silent by chance. Critical from 80 %.",
    remedy="Raise the biases (they are too negative), lower the learning rate that killed them, "
    "or use LeakyReLU or GELU.",
    makes=("zero-gradient", "output-constant", "does-not-learn", "silent", "loss-at-start"),
    scale=True,
)
SATURATED = kind(
    "KD1005",
    "saturated",
    "Saturated activations",
    what="On the plateau of a bounded activation the slope is below 5 % of its maximum: little "
    "gradient passes.",
    measured="Fraction of activation values with |σ′| below 0.05 of its maximum.",
    threshold="One half by 4 standard errors; critical from three quarters.",
    remedy="Lower the gain (divide weights by sqrt(fan-in)) or normalise the inputs; kadanoff tune "
    "finds the critical gain.",
    makes=("does-not-learn", "zero-gradient", "chaotic", "ordered"),
    scale=True,
)
BFLOAT = kind(
    "KD1006",
    "updates-vanish",
    "Updates are rounded away",
    what="bfloat16 keeps 8 bits: a step smaller than 1/256 of a weight leaves it unchanged.",
    measured="Share of weights that a step of the trial did not change; without one, the learning "
    "rate against the weights' size.",
    threshold="90 % unchanged.",
    remedy="Keep the weights in float32 and compute under autocast, or round stochastically.",
    makes=("does-not-learn", "rate-too-low"),
)


def _consecutive(numbers: Sequence[int]) -> list[list[int]]:
    """Runs of numbers that follow each other."""
    runs = [[numbers[0]]]
    for before, number in itertools.pairwise(numbers):
        if number == before + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return runs


def _linear(e: Evidence) -> Iterator[Finding]:
    if e.affine and len(e.chain) >= 2 and len(e.layers) >= 3:
        yield LINEAR.found(
            "critical",
            f"no nonlinearity: the whole model, {len(e.layers)} layers, is one affine map: the "
            "output at the mean of two inputs is the mean of their outputs.",
            cost=600,
            value=len(e.layers),
            threshold=1,
            layers=[x.index for x in e.layers],
        )
        return
    # batch norm is affine in evaluation mode, and nearly so in training
    steps = [(k, op, path) for k, op, path in e.ops if op != "batch_norm"]
    maps = [i for i, (k, op, _) in enumerate(steps) if k == "linear" and op != "embedding"]
    if len(maps) < 3:
        return
    paths = {x.path: x for x in e.layers}
    longest = max(_consecutive(maps), key=len)
    inside = [paths.get(steps[i][2]) for i in longest]
    if len(longest) < 3 or not _one_after_another(inside):
        return
    whole = all(k in ("linear", "add") for k, _, _ in steps)
    names = [steps[i][2] for i in longest]
    yield LINEAR.found(
        "critical" if whole else "warning",
        f"no nonlinearity: {len(longest)} linear layers follow each other ({shown(names)}) with "
        f"nothing between them{', and there is none in the whole net' if whole else ''}; "
        "together they are one linear map.",
        cost=600 if whole else 10,
        value=len(longest),
        threshold=2,
        layers=[x.index for x in inside if x is not None],
        where=names,
    )


def _one_after_another(layers: Sequence[LayerReport | None]) -> bool:
    """Each reads what the one before wrote, and all carry the whole signal."""
    known = [x for x in layers if x is not None]
    if len(known) < len(layers) or any(x.residual for x in known):
        return False
    fits = all(
        a.fan_out == b.fan_in or b.op.startswith("conv") for a, b in itertools.pairwise(known)
    )
    narrow = any(
        b.fan_out < min(a.fan_out, c.fan_out) for a, b, c in zip(known, known[1:], known[2:])
    )
    return fits and not narrow


def _all_zero(e: Evidence) -> Finding | None:
    matrices = [p for p in e.parameters if len(p.shape) >= 2]
    if len(matrices) < 2 or any(p.rms != 0 for p in matrices):
        return None
    return SYMMETRIC.found(
        "critical",
        f"symmetric weights: all {len(matrices)} weight matrices are zero: no gradient passes "
        "any of them, and all units are copies.",
        cost=650,
        value=len(matrices),
        threshold=0,
        where=[p.name for p in matrices],
    )


def _symmetric(e: Evidence) -> Iterator[Finding]:
    maps = {x.parameter for x in e.layers if x.op != "embedding"}
    hidden = [x for x in e.matrices if x.shape[0] > 1 and x.name in maps]
    bad = [x for x in hidden if (x.equal_rows or x.rank_one) and min(x.shape) > 1]
    bad += [x for x in hidden if x.equal_rows and x not in bad]
    empty = _all_zero(e)
    if empty is not None:
        yield empty
        return
    if not bad:
        return
    names = {x.name for x in bad}
    layers = [x.index for x in e.layers if x.parameter in names]
    what = "of rank one"
    if all(x.constant for x in bad):
        what = "constant"
    elif all(x.equal_rows for x in bad):
        what = "equal in all rows"
    share = len(bad) / len(hidden)
    only_last = len(bad) == 1 and len(hidden) > 1 and bad[0] is hidden[-1]
    yield SYMMETRIC.found(
        "warning" if only_last or e.trained or share < 0.3 else "critical",
        f"symmetric weights: {len(bad)} of {len(hidden)} weight matrices are {what} "
        f"({shown([x.name for x in bad])}): all units of such a layer are copies and stay so.",
        cost=650,
        value=len(bad),
        threshold=0,
        layers=layers,
        where=[x.name for x in bad],
    )


def _half_loaded(e: Evidence) -> Iterator[Finding]:
    fresh, others = _fresh_among_trained(e)
    if fresh:
        names = [x.name for x in fresh]
        one = len(names) == 1
        yield HALF.found(
            "warning",
            f"half loaded: {shown(names)} {'is' if one else 'are'} as PyTorch draws "
            f"{'it' if one else 'them'} (largest entry {fresh[0].bound:.3f} of the "
            f"bound, largest singular value {fresh[0].edge:.2f} of a random matrix's), while "
            f"{others} layers of the same shape are trained.",
            cost=650,
            value=fresh[0].edge or math.nan,
            threshold=1.12,
            layers=[x.index for x in e.layers if x.parameter in set(names)],
            where=names,
        )


def _fresh_among_trained(e: Evidence) -> tuple[list[MatrixFacts], int]:
    """Matrices as PyTorch draws them before trained ones of their like, and how many those are."""
    groups: dict[tuple, list[MatrixFacts]] = {}
    for x in e.matrices:
        if x.edge is not None and x.bound is not None:
            groups.setdefault((x.layer, x.shape), []).append(x)
    fresh: list[MatrixFacts] = []
    others = 0
    for group in groups.values():
        like = [x for x in group if x.default and x.drawn]
        moved = [x for x in group if (e.trained or x.trained) and (x.bound or 0) > 1.05]
        # a new head on a trained net is the last of its like
        like = [x for x in like if moved and group.index(x) < group.index(moved[-1])]
        if like and len(moved) >= 2 and len(moved) >= 0.6 * len(group):
            fresh += like
            others += len(moved)
    return fresh, others


def _dead(e: Evidence) -> Iterator[Finding]:
    bad: list[tuple[LayerReport, float, float]] = []
    for layer in e.layers:
        if layer.dead is None or math.isnan(layer.dead.value):
            continue
        # which units are dead is a coin toss each: at the limit, its error counts
        error = math.sqrt(0.25 / max(layer.fan_out, 1))
        if layer.dead.value - 4 * error > 0.6 or (layer.dead.value == 1 and layer.fan_out > 2):
            bad.append((layer, layer.dead.value, error))
    if bad:
        yield _fraction(DEAD, bad, 0.6, 0.8, "of units are dead (0 on every sample)")


def _saturated(e: Evidence) -> Iterator[Finding]:
    bad = []
    for layer in e.layers:
        estimate = layer.saturated
        if estimate is None:
            continue
        error = estimate.stderr if math.isfinite(estimate.stderr) else 0.0
        if estimate.value - 4 * error > 0.5:
            bad.append((layer, estimate.value, error))
    if bad and not e.trained:
        yield _fraction(
            SATURATED,
            bad,
            0.5,
            0.75,
            "of activation values sit on the plateau (|σ'| below 0.05 of its maximum), which "
            "passes no gradient",
        )


def _fraction(kind_, bad, limit: float, hard: float, what: str) -> Finding:
    layer, value, error = max(bad, key=lambda item: item[1])
    passed = math.prod(max(1 - v, 1e-12) for _, v, _ in bad)
    count = f" in {len(bad)} layers, worst" if len(bad) > 1 else ""
    return kind_.found(
        "critical" if value > hard else "warning",
        f"{kind_.code}: {uncertain(100 * value, 100 * error)} % {what}{count} in layer "
        f"{layer.index} ({layer.path or layer.parameter or layer.op}); the limit is "
        f"{100 * limit:.0f} %.",
        cost=-math.log(passed),
        value=value,
        stderr=error,
        threshold=limit,
        layers=[x.index for x, _, _ in bad],
        where=[x.path for x, _, _ in bad],
    )


def _updates(e: Evidence) -> Iterator[Finding]:
    if e.dtype not in ("bfloat16", "float16"):
        return
    share, how = None, ""
    if e.trial is not None and e.trial.unchanged is not None:
        share, how = e.trial.unchanged, "a step of the trial left unchanged"
    elif e.optimizer is not None and e.optimizer.adaptive:
        digits = 2.0**-9 if e.dtype == "bfloat16" else 2.0**-12
        sizes = [p for p in e.parameters if len(p.shape) >= 2 and p.rms > 0]
        if sizes:
            # of a Gaussian weight, the share with |w| above rate / digits
            typical = median([p.rms for p in sizes])
            share = math.erfc(e.optimizer.rate / digits / typical / math.sqrt(2))
            how = f"steps of {e.optimizer.rate:g} are too small to change"
    if share is not None and share > 0.9:
        yield BFLOAT.found(
            "critical",
            f"updates vanish: {how} {100 * share:.0f} % of the weights, which are {e.dtype} "
            "(the limit is 90 %).",
            cost=300,
            value=share,
            threshold=0.9,
        )


def median(values: Sequence[float]) -> float:
    """The middle value."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def shown(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


RULES = (_symmetric, _half_loaded, _linear, _dead, _saturated, _updates)

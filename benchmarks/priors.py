"""Exact priors: densities at 500 points, against Meijer functions and their mixtures by mpmath.

python -m benchmarks.priors

The peer is what the paper's formula asks for, by the best free implementation of Meijer's G we
know of, at its default 15 digits. Where its sum has more terms than a few minutes allow, a random
sample of (term, point) pairs is timed and the rest extrapolated; the table says so.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from pathlib import Path

HERE = Path(__file__).parent
CASES = (
    ("linear", (5,)), ("linear", (5, 5)), ("linear", (5, 5, 5)), ("linear", (100, 100, 100)),
    ("relu", (10,)), ("relu", (5, 5)), ("relu", (10, 10, 10)), ("relu", (100, 100, 100)),
)  # fmt: skip
POINTS, ROUNDS, BUDGET = 500, 5, 8.0


def ours(activation: str, widths: tuple[int, ...], h) -> tuple[list[float], list[float], object]:
    """CPU seconds cold (nothing cached) and warm (same object again), and the densities."""
    from kadanoff import priors

    cold, warm, p = [], [], None
    for _ in range(ROUNDS + 1):
        start = time.process_time()
        prior = priors.exact(widths, activation)
        p = prior.pdf(h)
        middle = time.process_time()
        prior.pdf(h)
        cold.append(middle - start)
        warm.append(time.process_time() - middle)
    return cold[1:], warm[1:], p


def meijer(widths: tuple[int, ...], kappa: float, h: float):
    import mpmath

    d = len(widths) + 1
    z = mpmath.mpf(h) ** 2 / (2**d * mpmath.mpf(kappa) ** 2)
    g = mpmath.meijerg([[], []], [[0] + [mpmath.mpf(n - 1) / 2 for n in widths], []], z)
    front = (2**d * mpmath.pi) ** mpmath.mpf(-0.5) / kappa
    return front * g / mpmath.fprod(mpmath.gamma(mpmath.mpf(n) / 2) for n in widths)


def theirs(activation: str, widths: tuple[int, ...], kappa: float, h) -> tuple[float, float, int]:
    """(seconds a term and point, its standard error, terms) from random pairs for some seconds."""
    import numpy as np

    ranges = [range(1, n + 1) if activation == "relu" else (n,) for n in widths]
    rng, spent, start = np.random.default_rng(0), [], time.process_time()
    while (time.process_time() - start < BUDGET or len(spent) < 10) and len(spent) < 400:
        on = tuple(int(rng.choice(r)) for r in ranges)
        x = float(rng.choice(h))
        before = time.process_time()
        meijer(on, kappa, x)
        spent.append(time.process_time() - before)
    error = statistics.stdev(spent) / math.sqrt(len(spent))
    return statistics.fmean(spent), error, math.prod(len(r) for r in ranges)


def accuracy(activation: str, widths: tuple[int, ...], kappa: float) -> float:
    """Largest relative difference to the whole sum at 30 digits, in bulk and tail; nan if long."""
    import mpmath

    from kadanoff import priors

    ranges = [range(1, n + 1) if activation == "relu" else (n,) for n in widths]
    if math.prod(len(r) for r in ranges) > 30:
        return math.nan
    prior, worst = priors.exact(widths, activation), 0.0
    for h in (0.01, 1.0, 5.0, 25.0):
        with mpmath.workdps(30):
            total = mpmath.mpf(0)
            for on in itertools.product(*ranges):
                weight = mpmath.mpf(1)
                if activation == "relu":
                    ways = math.prod(math.comb(n, k) for n, k in zip(widths, on))
                    weight = mpmath.mpf(ways) / 2 ** sum(widths)
                total += weight * meijer(on, kappa, h)
            gap = mpmath.mpf(float(prior.logpdf(h))) - mpmath.log(total)
        worst = max(worst, abs(float(gap)))
    return worst


def main() -> None:
    import numpy as np

    from kadanoff import priors
    from kadanoff.files import atomic_write, write_json

    h = np.linspace(0.01, 5, POINTS)
    rows = []
    for activation, widths in CASES:
        kappa = priors.exact(widths, activation).kappa
        cold, warm, _ = ours(activation, widths, h)
        each, error, terms = theirs(activation, widths, kappa, h)
        rows.append(
            {
                "activation": activation, "widths": list(widths), "terms": terms,
                "cold_seconds": cold, "warm_seconds": warm, "peer_seconds_each": each,
                "peer_error_each": error, "peer_seconds": each * terms * POINTS,
                "ratio": each * terms * POINTS / statistics.median(cold),
                "ratio_error": error * terms * POINTS / statistics.median(cold),
                "relative_error": accuracy(activation, widths, kappa),
            }
        )  # fmt: skip
        print(rows[-1], flush=True)
    lines = [
        "### Exact priors",
        "",
        f"Density of the output at {POINTS} points h in (0, 5], CPU seconds of one thread. The "
        "peer is mpmath's `meijerg` (15 "
        "digits), for ReLU the binomial mixture of them: mean time of random terms and points, "
        "times their number. Ours: a new object each time (median and range of "
        f"{ROUNDS}), and the same object again. The last column compares with the whole sum at 30 "
        "digits for h = 0.01, 1, 5, 25. `python -m benchmarks.priors`",
        "",
        "| activation | hidden widths | Meijer functions | peer, s | ours, s | again, s | ratio "
        "| relative error |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        cold, gap = r["cold_seconds"], r["relative_error"]
        lines.append(
            f"| {r['activation']} | {', '.join(map(str, r['widths']))} | {r['terms']:,} "
            f"| {r['peer_seconds']:,.3g} | {statistics.median(cold):.3g} "
            f"({min(cold):.3g} to {max(cold):.3g}) | {statistics.median(r['warm_seconds']):.3g} "
            f"| {r['ratio']:,.0f} ± {r['ratio_error']:,.0f} "
            f"| {'' if math.isnan(gap) else f'{gap:.1g}'} |"
        )
    table = "\n".join(lines) + "\n"
    (HERE / "results").mkdir(exist_ok=True)
    write_json(HERE / "results/priors.json", rows)
    atomic_write(HERE / "results/priors.md", table)
    print(table)


if __name__ == "__main__":
    main()

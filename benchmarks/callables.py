"""Random piecewise activations: found kinks and averages against an independent quadrature.

    python -m benchmarks.callables             10,000 draws
    python -m benchmarks.callables --draws 100

Each draw is a Python callable as a user might write it: kinks and jumps at irrational places,
slopes, curvatures, plateaus, oscillation, on scales from 1e-3 to 1e3, put together from relu, abs,
where, clamp, maximum, sign and floor. The library sees the callable alone; the check knows where
its kinks are and integrates panel by panel with numpy.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kadanoff.activations import Activation, activation
from kadanoff.errors import ConvergenceError
from kadanoff.files import atomic_write, write_json
from kadanoff.gaussian import one, pair

__all__ = ["Draw", "Outcome", "check", "draw"]

Function = Callable[[Tensor], Tensor]
# what the check itself and rounding leave, relative
CHECK = 2e-13
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Draw:
    """A random activation, where it bends, and the scale it lives on."""

    f: Function
    kinks: tuple[float, ...]
    scale: float
    recipe: str


@dataclass(frozen=True)
class Outcome:
    """One draw held against the independent quadrature."""

    kinks_right: bool
    # (|given − true|, stated error) of ⟨σ²⟩, ⟨σ'²⟩, ⟨σ₁σ₂⟩, ⟨σ'₁σ'₂⟩; None where it was refused
    averages: tuple[tuple[float, float] | None, ...]


def _term(rng: np.random.Generator, kind: str, place: float, scale: float) -> Function:
    """One building block with a kink or jump at ``place`` (a smooth one for "wave" and "bell")."""
    height = float(rng.normal())
    if kind == "relu":
        return lambda z: height * torch.relu((z - place) / scale)
    if kind == "abs":
        return lambda z: height * torch.abs((z - place) / scale)
    if kind == "bend":
        return lambda z: height * torch.relu((z - place) / scale) ** 2
    if kind == "maximum":
        return lambda z: height * torch.maximum((z - place) / scale, 0.3 * (z - place) / scale)
    if kind == "step":
        return lambda z: height * torch.where(z > place, torch.ones_like(z), torch.zeros_like(z))
    if kind == "plateau":
        width = float(rng.uniform(0.2, 2.0)) * scale
        return lambda z: height * torch.clamp(z, place, place + width) / scale
    if kind == "wave":
        turns = float(rng.uniform(0.2, 3.0))
        return lambda z: height * torch.sin(turns * (z - place) / scale)
    return lambda z: height * torch.exp(-(((z - place) / scale) ** 2))


_SHARP = ("relu", "abs", "bend", "maximum", "step", "plateau")


def draw(seed: int, *, jumps: bool = True) -> Draw:
    """The ``seed``-th random activation.

    Parameters
    ----------
    seed : int
    jumps : bool
        Whether the function itself may jump (then ⟨σ'²⟩ does not exist).
    """
    rng = np.random.default_rng(seed)
    scale = float(10 ** rng.uniform(-3, 3))
    kinds = rng.choice([k for k in _SHARP if jumps or k != "step"], size=rng.integers(1, 5))
    terms: list[Function] = []
    kinks: list[float] = []
    for kind in kinds:
        place = float(rng.normal()) * scale * math.sqrt(2)
        state = rng.bit_generator.state
        term = _term(rng, str(kind), place, scale)
        terms.append(term)
        kinks.append(place)
        if kind == "plateau":
            # the width is the second number the term drew
            again = np.random.default_rng()
            again.bit_generator.state = state
            again.normal()
            kinks.append(place + float(again.uniform(0.2, 2.0)) * scale)
    for kind in rng.choice(["wave", "bell"], size=rng.integers(0, 2)):
        terms.append(_term(rng, str(kind), float(rng.normal()) * scale, scale))

    def f(z: Tensor) -> Tensor:
        total = torch.zeros_like(z)
        for term in terms:
            total = total + term(z)
        return total

    return Draw(f, tuple(sorted(kinks)), scale, "+".join(map(str, kinds)))


def _panels(K: float, kinks: tuple[float, ...], panels: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of N(0, K), cut at the kinks."""
    reach = 13 * math.sqrt(K)
    edges = np.unique(
        [*np.linspace(-reach, reach, panels + 1), *(k for k in kinks if abs(k) < reach)]
    )
    x, w = np.polynomial.legendre.leggauss(24)
    middle, half = (edges[1:] + edges[:-1]) / 2, (edges[1:] - edges[:-1]) / 2
    z = (middle[:, None] + half[:, None] * x).ravel()
    weight = (half[:, None] * w).ravel() * np.exp(-0.5 * z**2 / K) / math.sqrt(2 * math.pi * K)
    return z, weight


def _values(f: Function, z: np.ndarray) -> np.ndarray:
    return f(torch.from_numpy(z)).numpy()


def _slopes(f: Function, z: np.ndarray) -> np.ndarray:
    z0 = torch.from_numpy(z).requires_grad_(True)
    value = f(z0)
    if not value.requires_grad:
        return np.zeros_like(z)
    return torch.autograd.grad(value.sum(), z0)[0].numpy()


def _single(g: Callable, f: Function, K: float, kinks: tuple[float, ...]) -> float:
    z, w = _panels(K, kinks, 160)
    return float(w @ g(f, z) ** 2)


def _double(g: Callable, f: Function, K: float, rho: float, kinks: tuple[float, ...]) -> float:
    """⟨g(z₁) g(z₂)⟩ through the mean of g given a common part: z = √ρ u + √(1−ρ) v."""
    # the mean given u is smeared by a Gaussian, so that it is smooth in u
    u, weight = _panels(1.0, (), 40)
    means = np.empty_like(u)
    root = math.sqrt(rho * K)
    for i, place in enumerate(u):
        shifted = tuple(k - root * place for k in kinks)
        v, w = _panels((1 - rho) * K, shifted, 8)
        means[i] = w @ g(f, root * place + v)
    return float(weight @ means**2)


def check(sample: Draw, *, pairs: bool = True) -> Outcome:
    """Hold what the library finds for one draw against the independent quadrature."""
    act = activation(sample.f)
    K = (1.3 * sample.scale) ** 2
    found = _same_places(act, sample)
    steps = any(act.jump(0, kink) for kink in act.kinks)
    slope = act.derivative(1)
    wanted = [
        (
            lambda: one(lambda z: act(z) ** 2, K, act.kinks),
            lambda: _single(_values, sample.f, K, sample.kinks),
        )
    ]
    if not steps:
        wanted.append(
            (
                lambda: one(lambda z: slope(z) ** 2, K, act.kinks),
                lambda: _single(_slopes, sample.f, K, sample.kinks),
            )
        )
    if pairs:
        for k, g in ((0, _values), (1, _slopes)):
            if k == 1 and steps:
                continue
            wanted.append(
                (
                    lambda k=k: pair(act, K, 0.6 * K, K, k, k),
                    lambda g=g: _double(g, sample.f, K, 0.6, sample.kinks),
                )
            )
    averages: list[tuple[float, float] | None] = []
    for ours, theirs in wanted:
        try:
            estimate = ours()
        except ConvergenceError:
            averages.append(None)
            continue
        truth = theirs()
        off = abs(float(estimate.value) - truth)
        averages.append(
            (off / max(abs(truth), 1e-300), float(estimate.error) / max(abs(truth), 1e-300))
        )
    return Outcome(found, tuple(averages))


def _same_places(act: Activation, sample: Draw) -> bool:
    """Each true kink found to the last digits, and none beside."""
    if len(act.kinks) != len(sample.kinks):
        return False
    return all(
        abs(a - b) <= 4e-15 * max(abs(b), 1e-3 * sample.scale)
        for a, b in zip(act.kinks, sample.kinks, strict=True)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=10_000)
    parser.add_argument("--pairs", type=int, default=1_000, help="draws that check two inputs too")
    arguments = parser.parse_args()
    wrong: list[str] = []
    refused = held = total = 0
    worst = 0.0
    for seed in range(arguments.draws):
        sample = draw(seed)
        outcome = check(sample, pairs=seed < arguments.pairs)
        if not outcome.kinks_right:
            wrong.append(f"{seed}: kinks of {sample.recipe}")
        for average in outcome.averages:
            if average is None:
                refused += 1
                continue
            off, stated = average
            total += 1
            held += off <= stated + CHECK
            worst = max(worst, off)
            if off > stated + CHECK:
                wrong.append(f"{seed}: off {off:.1e}, stated {stated:.1e} ({sample.recipe})")
    rows = [
        ["draws", f"{arguments.draws:,}"],
        ["averages", f"{total:,}"],
        ["within the stated error", f"{held / max(total, 1):.4%}"],
        ["largest relative deviation", f"{worst:.1e}"],
        ["refused as not resolved", f"{refused}"],
        ["draws with a wrong set of kinks", f"{sum('kinks' in w for w in wrong)}"],
    ]
    for name, value in rows:
        print(f"{name:34} {value}")
    print("\n".join(wrong[:40]))
    if arguments.draws >= 10_000:
        _keep(rows, wrong)


def _keep(rows: list[list[str]], wrong: list[str]) -> None:
    lines = ["| random piecewise callables | |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows)]
    atomic_write(RESULTS / "callables.md", "\n".join(lines) + "\n")
    write_json(RESULTS / "callables.json", {"rows": rows, "wrong": wrong})


if __name__ == "__main__":
    main()

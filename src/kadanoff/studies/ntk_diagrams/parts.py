"""What is computed: diagrams beside the library's recursions, and both beside networks."""

from __future__ import annotations

from typing import Any

import torch

import kadanoff as kd
from kadanoff.architecture import Network
from kadanoff.ensembles import scaling
from kadanoff.studies.ntk_diagrams.rules import evaluate, mean_of_ntk, spread

__all__ = ["cancels", "differentials", "gaps", "one_input", "shift", "widths_of_mean"]

ONE = torch.tensor([[1.0, 0.5]], dtype=torch.float64)
TWO = torch.tensor([[1.0, 0.5], [-0.3, 1.2]], dtype=torch.float64)
_TENSORS = ("K", "Theta", "G1", "V", "H1", "D", "F", "A")


def _network(name: str, n: int, hidden: int, C_W: float = 1.4, C_b: float = 0.1) -> Any:
    return kd.MLP(2, [n] * hidden, 1, name, C_b=C_b, C_W=C_W, lambda_b=0.3, lambda_W=0.9)


def _tensors(arch: Network) -> dict[str, list[float]]:
    flow = kd.flow(arch, ONE, order=1)
    return {name: [float(v) for v in flow.require(name).flatten()] for name in _TENSORS}


def gaps(names: list[str], hidden: int) -> dict[str, Any]:
    """Largest relative difference of sums of diagrams to the recursions, and the terms of tanh."""
    worst = {"H1": 0.0, "trees": 0.0}
    terms = []
    for name in names:
        arch = _network(name, 64, hidden)
        told = _tensors(arch)
        size = {key: max(abs(v) for v in values) for key, values in told.items()}
        for l in range(hidden):
            below = {key: values[l] for key, values in told.items()}
            each = [(str(d), evaluate(d, ("ntk",), below, arch)) for d in mean_of_ntk()]
            gap = abs(sum(v for _, v in each) - told["H1"][l + 1]) / size["H1"]
            worst["H1"] = max(worst["H1"], gap)
            for key, pair in (
                ("V", ("metric", "metric")),
                ("D", ("metric", "ntk")),
                ("A", ("ntk", "ntk")),
            ):
                total = sum(evaluate(d, pair, below, arch) for d in spread(*pair))
                worst["trees"] = max(worst["trees"], abs(total - told[key][l + 1]) / size[key])
            if name == names[0] and l == hidden - 1:
                terms = each
    return {"worst": worst, "terms": terms, "count": len(mean_of_ntk())}


def cancels(names: list[str], hidden: int) -> float:
    """Largest |H1|/Θ at one input of scale-invariant activations, by the recursion."""
    worst = 0.0
    for name in names:
        told = _tensors(_network(name, 64, hidden, float(kd.criticality(name).C_W), 0.0))
        worst = max(worst, *(abs(h / t) for h, t in zip(told["H1"], told["Theta"])))
    return worst


def one_input(name: str, n: int, hidden: int, networks: int, seed: int) -> list[float]:
    """z of the mean metric and the mean NTK of one input, layer by layer, at a tiny width."""
    arch = _network(name, n, hidden, float(kd.criticality(name).C_W), 0.0)
    flow = kd.flow(arch, ONE)
    found = kd.ensemble(arch, ONE, networks, seed=seed, observables=["K", "Theta"])
    z = []
    for key in ("K", "Theta"):
        measured = getattr(found, key)
        gap = (measured.value - getattr(flow, key)).flatten()
        error = measured.stderr.flatten()
        z += [float(g / e) for g, e in zip(gap, error) if e > 1e-12]
    return z


def shift(name: str, kind: str, widths: list[int], networks: int, seed: int) -> list[float]:
    """n × shift of the mean NTK in the last layer: theory; networks n → ∞, error, remainder."""
    C_W, C_b = (float(kd.criticality(name).C_W), 0.0) if name == "relu" else (1.4, 0.1)
    arch = _network(name, widths[0], 3, C_W, C_b)
    X, at = (ONE, (0, 0)) if kind == "diagonal" else (TWO, (0, 1))
    told = kd.flow(arch, X, order=1).require("H1")[-1][at]
    found = scaling(arch, X, widths, networks, seed=seed, observables=["H1"], layers=[4])
    limit = found.limit["H1"]
    numbers = (limit.value, limit.stderr, found.remainder["H1"])
    return [float(told), *(float(v[-1][at]) for v in numbers)]


def widths_of_mean(widths: list[int], networks: int, seed: int) -> list[list[float]]:
    """Largest error of the mean NTK of two inputs at order 0 and 1, and of the measurement."""
    rows = []
    for n in widths:
        arch = _network("tanh", n, 3)
        flow = kd.flow(arch, TWO, order=1)
        found = kd.ensemble(arch, TWO, networks, seed=seed + n, observables=["Theta"], layers=[4])
        measured, error = found.Theta.value[-1], found.Theta.stderr[-1]
        order_0 = flow.Theta[-1]
        order_1 = order_0 + flow.require("H1")[-1] / n
        off = [float((measured - told).abs().max()) for told in (order_0, order_1)]
        rows.append([n, *off, float(error.max()), float(order_0.abs().max())])
    return rows


def differentials(name: str, widths: list[int], networks: int, seed: int) -> list[list[Any]]:
    """P … U of the last layer: name, predicted, networks n → ∞, error, remainder."""
    arch = _network(name, widths[0], 2)
    flow = kd.flow(arch, ONE, order=1)
    found = scaling(arch, ONE, widths, networks, seed=seed, observables=list("PQRSTU"), layers=[3])
    lines = kd.compare(flow, found).lines
    return [[x.observable, x.predicted, x.measured, x.stderr, x.systematic] for x in lines]

"""Networks sampled without their weights, against really re-initialised ones.

    python -m benchmarks.architectures                 every family, 240 networks each way
    python -m benchmarks.architectures gpt2 unet       these
    python -m benchmarks.architectures --networks 60

Both ensembles see one batch and are measured by one function: mean square and row correlation of
every linear call and residual sum, and the mean square gradient of every parameter. Every matrix
that has a law is answered by it ("undrawn"), also where drawing would be cheaper, as that is what
is on trial; seconds are those of the default, which draws where that is cheaper.

All gradients of one network share a factor: how large its loss is, and the last maps. It is taken
out: with u the mean over parameters of log g² in one network, the table tests u itself and, for
every parameter, log g² − u. Mean squares are compared as logarithms, as their tails are heavy;
correlations as they are. z of a mean: difference over its standard error from both ensembles; z of
a spread: the same for the standard deviation between networks, its error from the fourth moment.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks import zoo
from benchmarks.zoo.family import Family
from kadanoff.files import atomic_write, write_json
from kadanoff.program.initial import laws
from kadanoff.program.plan import ModulePlan
from kadanoff.program.records import NetworkRecord
from kadanoff.program.run import make_plan

__all__ = ["Row", "run"]

RESULTS = Path(__file__).parent / "results"
PARTS = RESULTS / "architectures.parts"
DEPTH = {"mlp_16": 16, "mlp_32": 32, "mlp_100": 100}
# wide enough that uniform recurrent matrices are answered by their law
WIDTH = {"lstm": 256, "gru": 256}
SKIP = ("mlp_16", "mlp_32", "mlp_100", "lora", "regression", "nanogpt")
SAMPLES = 2
INSTANCES = 800
# of the largest gradient: below it the gradient is rounding (a bias before a softmax or a norm)
ROUNDING = 1e-8


class WithLoss(nn.Module):
    """A family's model and its loss as one module that returns the loss."""

    def __init__(self, family: Family, sizes: dict[str, int]) -> None:
        super().__init__()
        self.model = family.factory(**sizes)
        self.criterion = family.criterion
        self.train(family.training)

    def forward(self, x: zoo.Inputs, y: Tensor) -> Tensor:
        return self.criterion(zoo.call(self.model, x), y)


def itself(loss: Tensor) -> Tensor:
    """The model returns its loss."""
    return loss


@dataclass(frozen=True)
class Row:
    """One family: z of all its numbers, and what a network costs."""

    family: str
    parameters: int
    forward: int
    gradients: int
    mean_rms: float
    mean_worst: float
    spread_rms: float
    spread_worst: float
    scale_z: float
    worst_at: str
    loss: float
    loss_spread: float
    loss_spread_real: float
    undrawn: int
    drawn: int
    forwards: float
    real_forwards: float
    megabytes: float
    megabytes_real: float
    networks: int


def plan_of(family: Family, method: str, seed: int, depth: int) -> ModulePlan:
    """The sampling of one family."""
    sizes = {**family.sizes, "depth": min(depth, family.sizes["depth"])}
    if family.name in WIDTH:
        sizes["width"] = WIDTH[family.name]
    factory = functools.partial(WithLoss, family, sizes)
    x, y = family.data(family.batch if family.coupled else SAMPLES, 0)
    found = laws(factory)
    if any(law.std_error for law in found.values()):
        # a law that cannot be followed is measured: on more entries than the ensembles have
        found = laws(factory, instances=INSTANCES)
    plan, _ = make_plan(
        factory, {"x": x, "y": y}, loss=itself, targets=None, limit=False, method=method,
        laws=found, probes=0, seed=seed, device=None, replicas=2, limit_bytes=None,
    )  # fmt: skip
    return plan


def numbers(records: list[NetworkRecord]) -> dict[str, Tensor]:
    """Each number over networks; gradients without their common factor."""
    columns: dict[str, list[float]] = {}
    for record in records:
        for (key, name), value in record.values.items():
            if name == "second_moment" and value > 0:
                columns.setdefault(f"{key} mean square", []).append(math.log(value))
            elif name == "correlation":
                columns.setdefault(f"{key} correlation", []).append(value)
        largest = max(record.gradients.values(), default=0.0)
        logs = {n: math.log(g) for n, g in record.gradients.items() if g > ROUNDING * largest}
        scale = sum(logs.values()) / max(len(logs), 1)
        columns.setdefault("scale of gradients", []).append(scale)
        for name, value in logs.items():
            columns.setdefault(f"{name} gradient", []).append(value - scale)
        columns.setdefault("loss", []).append(record.loss)
    # what only some networks have (an expert without tokens) is left out
    return {
        name: torch.tensor(column, dtype=torch.float64)
        for name, column in columns.items()
        if len(column) == len(records)
    }


def scores(a: Tensor, b: Tensor) -> tuple[float, float]:
    """z of the difference of means and of standard deviations."""
    rounding = 1e-6 * max(float(a.abs().mean()), 1.0)
    if float(a.std()) < rounding and float(b.std()) < rounding:
        return 0.0, 0.0
    mean = float(a.mean() - b.mean()) / math.hypot(
        *(float(x.std()) / len(x) ** 0.5 for x in (a, b))
    )

    def error(x: Tensor) -> float:
        deviation = (x - x.mean()) / x.std()
        kurtosis = float(deviation.pow(4).mean())
        return float(x.std()) * math.sqrt(max(kurtosis - 1, 0.5) / (4 * len(x)))

    return mean, float(a.std() - b.std()) / math.hypot(error(a), error(b))


def seconds(function: functools.partial, times: int) -> float:
    """CPU seconds of one call, the least of a few."""
    least = math.inf
    for _ in range(times):
        start = time.process_time()
        function()
        least = min(least, time.process_time() - start)
    return least


def cost(family: Family, depth: int) -> tuple[float, float, float, float]:
    """Forward passes that a sampled and a re-initialised network cost, and MB of their weights."""
    plan = plan_of(family, "exact", 0, depth)
    assert plan.factory is not None
    model = plan.factory()
    x, y = plan.task.kwargs["x"], plan.task.kwargs["y"]

    def forward() -> None:
        with torch.no_grad():
            model(x, y)

    def real() -> None:
        assert plan.factory is not None
        plan.factory()(x, y).backward()

    forward()
    one = seconds(functools.partial(forward), 20)
    network = plan.bare(0)
    sampled = seconds(functools.partial(plan.bare, 1), 5)
    drawn = sum(s.shape.numel() for s in network.sources.values() if s.drawn)
    total = sum(s.shape.numel() for s in network.sources.values())
    return (
        sampled / one, seconds(functools.partial(real), 5) / one, 4e-6 * drawn, 4e-6 * total
    )  # fmt: skip


def run(name: str, networks: int, depth: int = 2) -> Row:
    """Both ensembles of one family, and the table's row."""
    family = zoo.FAMILIES[name]
    ours, theirs = plan_of(family, "undrawn", 0, depth), plan_of(family, "instances", 1, depth)
    with torch.enable_grad():
        first = [ours.network(i) for i in range(networks)]
        second = [theirs.network(i)[0] for i in range(networks)]
    a, b = numbers([record for record, _ in first]), numbers(second)
    z = {key: scores(a[key], b[key]) for key in a if key in b}
    scale = z.pop("scale of gradients", (0.0, 0.0))
    worst = max(z, key=lambda key: max(abs(z[key][0]), abs(z[key][1])))

    def rms(i: int) -> float:
        return math.sqrt(sum(pair[i] ** 2 for pair in z.values()) / len(z))

    matrices = sum(law.gaussian for law in ours.laws.values())
    forwards, real, megabytes, whole = cost(family, depth)
    drawn = sum(ours.laws[n].gaussian for n in first[0][1].drawn)
    return Row(
        name, sum(ours.sizes.values()),
        sum("gradient" not in key for key in z), sum("gradient" in key for key in z),
        rms(0), max(abs(p[0]) for p in z.values()), rms(1), max(abs(p[1]) for p in z.values()),
        scale[0], f"{worst}: {z[worst][0]:+.1f}, {z[worst][1]:+.1f}",
        float(b["loss"].mean()), float(a["loss"].std()), float(b["loss"].std()),
        matrices - drawn, drawn, forwards, real, megabytes, whole, networks,
    )  # fmt: skip


def table(rows: list[Row]) -> str:
    """The page of results."""
    means = sum(r.forward + r.gradients for r in rows)
    worst = max(max(r.mean_worst, r.spread_worst) for r in rows)
    outside = [
        f"{r.family} {value:.2f} ({what})"
        for r in rows
        for what, value in (("means", r.mean_rms), ("spreads", r.spread_rms))
        if not 0.6 < value < 1.5
    ]
    together = [
        math.sqrt(sum(value(r) ** 2 * (r.forward + r.gradients) for r in rows) / means)
        for value in (lambda r: r.mean_rms, lambda r: r.spread_rms)
    ]
    lines = [
        "# Any architecture: sampled without weights, against re-initialised networks",
        "",
        f"{len(rows)} families, {means} numbers, {rows[0].networks} networks each way, one batch "
        f"of {SAMPLES} samples, depth 2 (lstm and gru 256 wide), float32, "
        f"torch {torch.__version__}, one thread; other work ran on the "
        "machine. Forward: mean square (as a logarithm) and row correlation of "
        "every linear call and residual sum; gradients: mean square of every parameter, without "
        "the factor common to all of a network's (its own z in column “scale”). "
        f"Largest |z| of all means and spreads: {worst:.1f}; rms z {together[0]:.2f} of all means, "
        f"{together[1]:.2f} of all spreads; of single families outside 0.6 to 1.5: "
        f"{', '.join(outside) or 'none'} (numbers of one model move together, so that its rms is "
        "that of fewer). Cost: CPU time of one network, "
        "forward, backward and gradient norms, in forward passes of the model: sampled (drawing "
        "where that is cheaper) and really re-initialised. Memory: MB of weights it held, of all.",
        "",
        "| family | parameters | numbers (forward + gradients) | means: rms z, worst "
        "| spreads: rms z, worst | scale z | spread of the loss, sampled : real "
        "| matrices undrawn, drawn | forwards, sampled : real | MB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        lines.append(
            f"| {r.family} | {r.parameters:,} | {r.forward} + {r.gradients} "
            f"| {r.mean_rms:.2f}, {r.mean_worst:.1f} | {r.spread_rms:.2f}, {r.spread_worst:.1f} "
            f"| {r.scale_z:+.1f} | {r.loss_spread:.3g} : {r.loss_spread_real:.3g} "
            f"| {r.undrawn}, {r.drawn} | {r.forwards:.1f} : {r.real_forwards:.1f} "
            f"| {r.megabytes:.2f} of {r.megabytes_real:.2f} |"
        )
    return "\n".join(lines) + "\n"


def together(rows: list[Row], networks: int) -> list[Row]:
    """These rows and the kept ones of other families, of as many networks each."""
    kept = RESULTS / "architectures.json"
    old = json.loads(kept.read_text("utf-8"))["rows"] if kept.exists() else []
    fresh = {row.family for row in rows}
    rows += [Row(**r) for r in old if r["family"] not in fresh and r["networks"] == networks]
    return sorted(rows, key=lambda row: row.family)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("families", nargs="*", default=[n for n in zoo.FAMILIES if n not in SKIP])
    parser.add_argument("--networks", type=int, default=240)
    parser.add_argument("--depth", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    PARTS.mkdir(parents=True, exist_ok=True)
    for name in options.families:
        part = PARTS / f"{name}-{options.networks}-{options.depth}.json"
        if not part.exists():
            write_json(part, vars(run(name, options.networks, options.depth)))
        row = Row(**json.loads(part.read_text("utf-8")))
        print(f"{name:20} rms z {row.mean_rms:.2f} {row.spread_rms:.2f}  worst {row.worst_at}")
    parts = sorted(PARTS.glob(f"*-{options.networks}-{options.depth}.json"))
    rows = [Row(**json.loads(p.read_text("utf-8"))) for p in parts]
    rows = together(rows, options.networks)
    write_json(
        RESULTS / "architectures.json",
        {
            "rows": [vars(r) for r in rows],
            "torch": torch.__version__,
            "python": platform.python_version(),
            "threads": 1,
        },
    )
    atomic_write(RESULTS / "architectures.md", table(rows))


if __name__ == "__main__":
    main()

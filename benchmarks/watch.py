"""What ``watch`` costs, and what it says of healthy training.

Run as ``python -m benchmarks.watch [cost|healthy] [options]``; each part keeps its rows in
``results/watch.json`` (rows that are there are not run again) and rewrites ``results/watch.md``.

The peers are what people write by hand: hooks on every module that keep the norm of each output,
with the norm of each gradient and weight, every hundred steps.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks import zoo
from kadanoff.files import write_json
from kadanoff.watching import Watch
from kadanoff.watching.steps import Updates
from tests.trace.models import GPT, ResNet18

RESULTS = Path(__file__).parent / "results"
EVERY = 100
STEPS, CYCLE = 20, 10
HOOKS = ("_entered", "_backward", "_before", "_after", "__exit__")


class Clock:
    """CPU seconds of this process spent inside some methods, nested ones counted once."""

    def __init__(self) -> None:
        self.spent, self._depth = 0.0, 0

    def around(self, method: Any) -> Any:
        """The same method, timed."""

        @functools.wraps(method)
        def timed(*args: Any, **kwargs: Any) -> Any:
            if self._depth:
                return method(*args, **kwargs)
            self._depth, start = 1, time.process_time()
            try:
                return method(*args, **kwargs)
            finally:
                self._depth = 0
                self.spent += time.process_time() - start

        return timed


def cases() -> Any:
    """Name, model, optimiser, a batch of each step, loss, steps."""
    torch.manual_seed(0)
    mlp = nn.Sequential(
        nn.Linear(784, 512),
        nn.ReLU(),
        nn.Linear(512, 512),
        nn.ReLU(),
        nn.Linear(512, 512),
        nn.ReLU(),
        nn.Linear(512, 10),
    )
    yield (
        "MLP 784-512×3-10, batch 256, Adam",
        mlp,
        lambda g: (torch.randn(256, 784, generator=g), torch.randint(0, 10, (256,), generator=g)),
    )
    yield (
        "ResNet-18 (11 M), batch 32 × 32², Adam",
        ResNet18(64),
        lambda g: (
            torch.randn(32, 3, 32, 32, generator=g),
            torch.randint(0, 10, (32,), generator=g),
        ),
    )

    def tokens(g: torch.Generator) -> Any:
        ids = torch.randint(0, 48, (16, 65), generator=g)
        return ids[:, :-1], ids[:, 1:]

    yield "GPT 6 × 256, batch 16 × 64 tokens, Adam", GPT(6, 256, 8), tokens


def loss_of(output: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(output.flatten(0, -2), targets.flatten())


def by_hand(model: nn.Module) -> Any:
    """The monitor one writes by hand: norms of outputs, gradients and weights."""
    found: dict[str, float] = {}

    def keep(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor):
                found[name] = output.detach().float().norm().item()

        return hook

    handles = [m.register_forward_hook(keep(n)) for n, m in model.named_modules()]

    def read() -> dict[str, float]:
        for name, p in model.named_parameters():
            found[name] = p.detach().norm().item()
            if p.grad is not None:
                found[name + ".grad"] = p.grad.norm().item()
        return found

    return handles, read


def cost(rounds: int) -> list[dict[str, Any]]:
    """CPU time of the watch over that of the steps it watches; median of some rounds.

    What a hundred steps cost: the hooks and pulses of each (timed in a real loop), one copy of the
    weights for the size of an update, and one look, the mean of a cycle of ten looks in which all
    that is dear is due.
    """
    return [_cost(name, model, draw, rounds) for name, model, draw in cases()]


def _cost(name: str, model: nn.Module, draw: Any, rounds: int) -> dict[str, Any]:
    g = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), 1e-4)
    clock = Clock()
    for method in HOOKS:
        setattr(Watch, method, clock.around(getattr(Watch, method)))
    watch = Watch(model, draw(g), every=EVERY, loss=loss_of, on_finding=None)
    start = time.process_time()
    watch.__enter__()
    opening = time.process_time() - start
    seen = []

    def step(batch: Any) -> None:
        optimizer.zero_grad()
        loss_of(model(batch[0]), batch[1]).backward()
        optimizer.step()

    step(draw(g))
    for _ in range(rounds):
        batch = draw(g)
        clock.spent, start = 0.0, time.process_time()
        for _ in range(STEPS):
            step(batch)
        steps = (time.process_time() - start - clock.spent) / STEPS
        hooks = clock.spent / STEPS
        start = time.process_time()
        for _ in range(CYCLE):
            watch._updates = Updates(model)
            watch._look()
        look = (time.process_time() - start) / CYCLE
        handles, read = by_hand(model)
        start = time.process_time()
        step(batch)
        read()
        hand = time.process_time() - start - steps
        for handle in handles:
            handle.remove()
        seen.append((steps, hooks / steps, look / steps, hand / steps))
    watch.__exit__(None, None, None)
    for method in HOOKS:
        setattr(Watch, method, getattr(Watch, method).__wrapped__)
    middle = [statistics.median(column) for column in zip(*seen)]
    row = {
        "model": name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "step_ms": 1e3 * middle[0],
        "hooks": middle[1],
        "look_steps": middle[2],
        "cost": middle[1] + middle[2] / EVERY,
        "by_hand": middle[3] / EVERY,
        "opening_steps": opening / middle[0],
        "rounds": rounds,
        "load": os.getloadavg()[0],
    }
    print(row, flush=True)
    return row


def healthy(names: list[str], seeds: int, steps: int, kept: list[dict[str, Any]]) -> Any:
    """Watch families of the zoo with their ordinary recipes; yields a row a run."""
    known = {(row["family"], row["seed"], row["steps"]) for row in kept}
    for seed in range(seeds):
        for name in names:
            if (name, seed, steps) in known:
                continue
            family = zoo.FAMILIES[name]
            model = family.build(seed=seed)
            batch = family.data(family.batch, seed=10_000 + seed)
            try:
                watch = Watch(
                    model,
                    batch,
                    every=max(steps // 15, 1),
                    on_finding=None,
                    loss=lambda z, y, f=family: f.loss(z, y),
                )
                with watch:
                    losses = zoo.train(family, model, steps, seed=seed)
                row = {
                    "family": name,
                    "seed": seed,
                    "steps": steps,
                    "losses": [losses[0], sum(losses[-10:]) / 10],
                    "said": [f"{e.finding.severity}: {e}" for e in watch.film.events],
                    "notes": watch.film.notes,
                    "looks": len(watch.film.frames),
                }
            except Exception as error:
                row = {
                    "family": name,
                    "seed": seed,
                    "steps": steps,
                    "error": f"{type(error).__name__}: {error}"[:300],
                }
            print(row, flush=True)
            yield row


def table(report: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = ["### Cost of `watch`, and false alarms", ""]
    if report.get("cost"):
        lines += [
            "CPU time of the watch over that of the training it watches, one thread, every=100:",
            "hooks and pulses of each step, and a look (the mean of ten, in which all that is dear",
            "falls due), in units of a training step. By hand: hooks on every module that keep",
            "the norm of its output, with norms of weights and gradients, every hundred steps.",
            f"Median of {report['cost'][0]['rounds']} rounds; other work ran beside it (load in",
            "the last column), which CPU time sees less of than a clock does, not nothing.",
            "",
            "| model | parameters | step | hooks | a look | **cost** | by hand | opening | load |",
            "|---|---|---|---|---|---|---|---|---|",
            *(
                f"| {r['model']} | {r['parameters'] / 1e6:.2f} M | {r['step_ms']:.0f} ms | "
                f"{100 * r['hooks']:.2f} % | {r['look_steps']:.2f} steps | "
                f"**{100 * r['cost']:.2f} %** | {100 * r['by_hand']:.2f} % | "
                f"{r['opening_steps']:.0f} steps | {r['load']:.1f} |"
                for r in report["cost"]
            ),
            "",
        ]
    rows = [r for r in report.get("healthy", []) if "said" in r]
    if rows:
        loud = [r for r in rows if any(not s.startswith("note") for s in r["said"])]
        learned = [r for r in rows if r["losses"][1] < r["losses"][0]]
        families = len({r["family"] for r in rows})
        lines += [
            f"Healthy training: {len(rows)} runs of {families} families of the zoo, their ordinary",
            f"recipes ({len(learned)} of them lower their loss); in {len(loud)} something",
            "was said beyond notes. These two runs raised the limit of dead units from a quarter",
            "of a layer to half of it: no run since has tested that limit on fresh seeds.",
            "",
            "| family | seed | loss | said |",
            "|---|---|---|---|",
            *(
                f"| {r['family']} | {r['seed']} | {r['losses'][0]:.3g} → {r['losses'][1]:.3g} | "
                f"{'; '.join(s for s in r['said'] if not s.startswith('note'))} |"
                for r in loud
            ),
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["cost", "healthy", "table"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--families", default=",".join(zoo.FAMILIES))
    parser.add_argument("--out", type=Path, default=RESULTS / "watch.json")
    given = parser.parse_args()
    torch.set_num_threads(1)
    report = json.loads(given.out.read_text("utf-8")) if given.out.exists() else {}
    report["torch"] = torch.__version__
    if given.part == "cost":
        report["cost"] = cost(given.rounds)
    if given.part == "healthy":
        kept = report.setdefault("healthy", [])
        for row in healthy(given.families.split(","), given.seeds, given.steps, kept):
            kept.append(row)
            write_json(given.out, report)
    write_json(given.out, report)
    given.out.with_suffix(".md").write_text(table(report), "utf-8")


if __name__ == "__main__":
    main()

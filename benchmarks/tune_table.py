"""The table of ``python -m benchmarks.tune``: every row that was run, those that lose too."""

from __future__ import annotations

import importlib.metadata
import itertools
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.tune import DECAY, EFFORTS, RATES, SIZES, rows
from kadanoff.files import atomic_write, write_json
from kadanoff.style.numbers import short

__all__ = ["write"]

RESULTS = Path(__file__).parent / "results"
NAMES = {"adamw": "AdamW", "sgd": "SGD, momentum 0.9", "muon": "Muon"}
EQUAL, WORSE = 1.01, 1.03
SHOWN = (
    "best", "best decay", "1e-3 decay", "tune 0.1", "tune 0.1 decay", "tune 1", "tune 1 decay",
    "lightning", "anyinit", "mup",
)  # fmt: skip


def _ratio(a: float, b: float) -> float:
    """a / b, where both, one or none may have diverged."""
    if math.isinf(b):
        return 1.0 if math.isinf(a) else 0.0
    return a / b


def _lines(held: dict[Any, Any]) -> list[dict[str, Any]]:
    """One row a family, optimiser, seed and length with both defaults and a race or a peer."""
    out = []
    for steps, optimizer, family, seed in itertools.product(EFFORTS, RATES, SIZES, range(3)):

        def row(method: str, key: Any = (family, optimizer, seed, steps)) -> dict[str, Any] | None:
            return held.get((key[0], key[1], method, *key[2:]))

        defaults = [row("0.001"), row("0.0003")]
        if any(r is None for r in defaults):
            continue
        line: dict[str, Any] = {"family": family, "optimizer": optimizer, "seed": seed}
        line |= {"steps": steps, "defaults": [r["final"] for r in defaults if r]}
        for word, name in (("", "best"), (DECAY, "best decay")):
            swept = {rate: row(f"{rate:g}{word}") for rate in RATES[optimizer]}
            losses = {rate: r["final"] for rate, r in swept.items() if r}
            if len(losses) == len(swept):
                line[name] = {"final": min(losses.values()), "cost": len(losses) * steps}
                line[f"{name} rate"] = min(losses, key=losses.__getitem__)
        falling = row(f"0.001{DECAY}")
        if falling is not None:
            line["1e-3 decay"] = falling
        line |= {m: found for m in SHOWN if m not in line and (found := row(m)) is not None}
        if any(m in line for m in SHOWN if m.startswith("tune")):
            out.append(line)
    return out


def _mean(values: Iterable[float]) -> float:
    logs = [math.log(max(v, 1e-12)) for v in values]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def summary(lines: list[dict[str, Any]], method: str) -> dict[str, Any] | None:
    """Counts and means of one method against the defaults and the best of the sweep."""
    mine = [line for line in lines if method in line and not math.isnan(line[method]["final"])]
    if not mine:
        return None
    best_default = [_ratio(m[method]["final"], min(m["defaults"])) for m in mine]
    swept = [m for m in mine if "best" in m]
    return {
        "method": method,
        "rows": len(mine),
        "better or equal": sum(r <= EQUAL for r in best_default) / len(mine),
        "worse by 3 %": sum(r > WORSE for r in best_default),
        "worst": max(best_default),
        "against defaults": _mean(best_default),
        "against 1e-3": _mean(_ratio(m[method]["final"], m["defaults"][0]) for m in mine),
        "against best": _mean(_ratio(m[method]["final"], m["best"]["final"]) for m in swept),
        "cost": sum(m[method]["cost"] for m in mine) / len(mine),
    }


def _summaries(lines: list[dict[str, Any]]) -> list[str]:
    out = [
        "| optimiser | steps | method | rows | ≤ 1.01 × the better default | > 1.03 × | worst | "
        "÷ better default | ÷ 1e-3 | ÷ best of sweep | cost, steps |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (optimizer, title), steps in itertools.product(NAMES.items(), EFFORTS):
        mine = [x for x in lines if (x["optimizer"], x["steps"]) == (optimizer, steps)]
        for method in SHOWN:
            s = summary(mine, method)
            if s is None:
                continue
            cells = [
                title,
                str(steps),
                method,
                str(s["rows"]),
                f"{100 * s['better or equal']:.0f} %",
                str(s["worse by 3 %"]),
                f"{s['worst']:.3g}",
                f"{s['against defaults']:.3f}",
                f"{s['against 1e-3']:.3f}",
                "" if math.isnan(s["against best"]) else f"{s['against best']:.3f}",
                f"{s['cost']:.0f}",
            ]
            out.append("| " + " | ".join(cells) + " |")
    return out


def _table(lines: list[dict[str, Any]]) -> list[str]:
    shown = [m for m in SHOWN if any(m in x for x in lines)]
    out = [
        f"**{NAMES[lines[0]['optimizer']]}, {lines[0]['steps']} steps**",
        "",
        f"| family | seed | 1e-3 | 3e-4 | rate of the best | {' | '.join(shown)} |",
        "|---|---|---|---|---|" + "---|" * len(shown),
    ]
    for line in lines:
        cells = [line["family"], str(line["seed"]), *(short(v) for v in line["defaults"])]
        cells.append(f"{line['best rate']:g}" if "best" in line else "")
        for method in shown:
            row = line.get(method)
            if row is None:
                cells.append("")
                continue
            ratio = _ratio(row["final"], min(line["defaults"]))
            text = "fails" if math.isnan(row["final"]) else short(row["final"])
            loses = method.startswith("tune") and ratio > WORSE
            cells.append(f"**{text}** (loses)" if loses else text)
        out.append("| " + " | ".join(cells) + " |")
    return [*out, ""]


def write() -> None:
    """Write results/tune.json and results/tune.md from what has been run."""
    lines = _lines(rows())
    if not lines:
        print("no row is complete yet")
        return
    why = RESULTS / "tune.why.txt"
    text = [
        "### Tuning beside defaults, sweeps and other tools",
        "",
        "Mean of the last 20 training losses, every method on the same batches in the same",
        "order; trials of `tune` see other batches of the same data. `tune e`: a race of at",
        "most e times the steps of the run. `decay`: the same race, trained with `with_decay()`",
        "(from twice the rate, under SGD from the rate, linearly to zero). `best`: of a sweep",
        "of seven constant rates; `best decay`, `1e-3 decay`: of a sweep in which every rate",
        "falls from its double to zero. *Better default*: the lower of 1e-3 and 3e-4, constant.",
        "Lightning: its finder at its defaults; AnyInit and `mup` (base of half the width): at",
        "1e-3. Small models (widths 8 to 64), one thread; other work ran beside it, which",
        "changes no loss. Rows that were not run are not shown.",
        "",
        *_summaries(lines),
        "",
        *(why.read_text("utf-8").splitlines() if why.exists() else []),
        "",
    ]
    for optimizer, steps in itertools.product(NAMES, EFFORTS):
        mine = [x for x in lines if (x["optimizer"], x["steps"]) == (optimizer, steps)]
        if mine:
            text += _table(mine)
    versions = {"torch": importlib.metadata.version("torch")}
    for peer in ("pytorch-lightning", "anyinit", "mup"):
        try:
            versions[peer] = importlib.metadata.version(peer)
        except importlib.metadata.PackageNotFoundError:
            versions[peer] = "not installed"
    write_json(RESULTS / "tune.json", {"versions": versions, "rows": lines})
    atomic_write(RESULTS / "tune.md", "\n".join(text))
    print("\n".join(_summaries(lines)))

"""The table of ``python -m benchmarks.tune``: every row that was run, those that lose too."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.tune import EFFORTS, RATES, SIZES, STEPS, rows
from kadanoff.files import atomic_write, write_json
from kadanoff.style.numbers import short

__all__ = ["write"]

RESULTS = Path(__file__).parent / "results"
NAMES = {"adamw": "AdamW", "sgd": "SGD, momentum 0.9", "muon": "Muon"}
EQUAL, WORSE = 1.01, 1.03


def _ratio(a: float, b: float) -> float:
    """a / b, where both, one or none may have diverged."""
    if math.isinf(b):
        return 1.0 if math.isinf(a) else 0.0
    return a / b


def _lines(held: dict[Any, Any]) -> list[dict[str, Any]]:
    """One row a family, optimiser and seed of which the whole sweep and one effort were run."""
    out = []
    for optimizer, rates in RATES.items():
        for family in SIZES:
            for seed in range(3):
                swept = [held.get((family, optimizer, f"{r:g}", seed)) for r in rates]
                if any(row is None for row in swept):
                    continue
                losses = {r: row["final"] for r, row in zip(rates, swept, strict=True) if row}
                line: dict[str, Any] = {"family": family, "optimizer": optimizer, "seed": seed}
                line["defaults"] = (losses[1e-3], losses[3e-4])
                line["best"] = min(losses.values())
                line["best rate"] = min(losses, key=losses.__getitem__)
                for method in [*(f"tune {e:g}" for e in EFFORTS), "lightning", "anyinit"]:
                    row = held.get((family, optimizer, method, seed))
                    if row is not None:
                        line[method] = row
                if any(f"tune {e:g}" in line for e in EFFORTS):
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
    return {
        "method": method,
        "rows": len(mine),
        "better or equal": sum(r <= EQUAL for r in best_default) / len(mine),
        "worse by 3 %": sum(r > WORSE for r in best_default),
        "worst": max(best_default),
        "against defaults": _mean(best_default),
        "against 1e-3": _mean(_ratio(m[method]["final"], m["defaults"][0]) for m in mine),
        "against best": _mean(_ratio(m[method]["final"], m["best"]) for m in mine),
        "cost": sum(m[method]["cost"] for m in mine) / len(mine),
    }


def _summaries(lines: list[dict[str, Any]]) -> list[str]:
    out = [
        "| optimiser | method | rows | ≤ 1.01 × the better default | > 1.03 × | worst | "
        "÷ better default | ÷ 1e-3 | ÷ best of sweep | cost, steps |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for optimizer, title in NAMES.items():
        mine = [line for line in lines if line["optimizer"] == optimizer]
        for method in [*(f"tune {e:g}" for e in EFFORTS), "lightning", "anyinit"]:
            s = summary(mine, method)
            if s is None:
                continue
            cells = [
                title,
                method,
                str(s["rows"]),
                f"{100 * s['better or equal']:.0f} %",
                str(s["worse by 3 %"]),
                f"{s['worst']:.3g}",
                f"{s['against defaults']:.3f}",
                f"{s['against 1e-3']:.3f}",
                f"{s['against best']:.3f}",
                f"{s['cost']:.0f}",
            ]
            out.append("| " + " | ".join(cells) + " |")
    return out


def _table(lines: list[dict[str, Any]], optimizer: str) -> list[str]:
    methods = [*(f"tune {e:g}" for e in EFFORTS), "lightning", "anyinit"]
    shown = [m for m in methods if any(m in x for x in lines if x["optimizer"] == optimizer)]
    out = [
        f"**{NAMES[optimizer]}**",
        "",
        f"| family | seed | 1e-3 | 3e-4 | best of sweep (rate) | {' | '.join(shown)} |",
        "|---|---|---|---|---|" + "---|" * len(shown),
    ]
    for line in lines:
        if line["optimizer"] != optimizer:
            continue
        cells = [line["family"], str(line["seed"]), *(short(v) for v in line["defaults"])]
        cells.append(f"{short(line['best'])} ({line['best rate']:g})")
        for method in shown:
            row = line.get(method)
            if row is None:
                cells.append("")
                continue
            ratio = _ratio(row["final"], min(line["defaults"]))
            text = "fails" if math.isnan(row["final"]) else short(row["final"])
            cells.append(f"**{text}** (loses)" if ratio > WORSE else text)
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
        f"Mean of the last 20 training losses after {STEPS} steps, every method on the same",
        "batches in the same order; trials of `tune` see other batches of the same data. `tune e`:",
        f"a race of at most e × {STEPS} steps; a sweep of seven rates costs {7 * STEPS}. *Better",
        "default*: the lower of 1e-3 and 3e-4. Small models (widths 8 to 64), one thread; other",
        "work ran beside it, which changes no loss. Rows that were not run are not shown.",
        "",
        *_summaries(lines),
        "",
        *(why.read_text("utf-8").splitlines() if why.exists() else []),
        "",
    ]
    for optimizer in NAMES:
        if any(line["optimizer"] == optimizer for line in lines):
            text += _table(lines, optimizer)
    versions = {"torch": importlib.metadata.version("torch")}
    for peer in ("lightning", "anyinit"):
        try:
            versions[peer] = importlib.metadata.version(peer)
        except importlib.metadata.PackageNotFoundError:
            versions[peer] = "not installed"
    write_json(RESULTS / "tune.json", {"versions": versions, "steps": STEPS, "rows": lines})
    atomic_write(RESULTS / "tune.md", "\n".join(text))
    print("\n".join(_summaries(lines)))

"""Does sparsity emerge, and is Top-k more robust? Claims with seeds and error bars.

``python -m benchmarks.sparsity_training``: some ten minutes on one core. Every run is stored as it
ends, so an interrupted call goes on where it stopped; ``--device cuda`` stores beside it.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from kadanoff.files import atomic_write, write_json
from kadanoff.sparsity.claims import on_digits, on_gaussian, on_text

RESULTS = Path(__file__).parent / "results"
SMALL: dict[str, Any] = {"steps": 300, "batch": 12, "length": 32, "d": 48}
VIT: dict[str, Any] = {"steps": 250, "d": 32, "m": 128, "layers": 2, "batch": 48}

# name -> (run, seeds, options)
CELLS: dict[str, tuple[Any, int, dict[str, Any]]] = {
    "text m=128": (on_text, 3, {**SMALL, "m": 128}),
    "text m=512": (on_text, 3, {**SMALL, "m": 512}),
    "text layers=1": (on_text, 3, {**SMALL, "m": 192, "layers": 1}),
    "text layers=5": (on_text, 3, {**SMALL, "m": 192, "layers": 5}),
    "text random symbols": (on_text, 3, {**SMALL, "m": 128, "inputs": "random"}),
    "text Top-16 m=128": (on_text, 3, {**SMALL, "m": 128, "k": 16}),
    "gaussian teacher": (on_gaussian, 5, {"labels": "teacher"}),
    "gaussian random labels": (on_gaussian, 5, {"labels": "random"}),
    "digits random labels": (on_digits, 3, {**VIT, "label_noise": 1.0}),
    "digits random images": (on_digits, 3, {**VIT, "inputs": "random"}),
    "digits mlp": (on_digits, 3, {**VIT, "model": "mlp"}),
}
for noise in (0.0, 0.4, 0.8):
    for k in (None, 16):
        name = f"digits {'dense' if k is None else f'Top-{k}'} noise={noise}"
        CELLS[name] = (on_digits, 6, {**VIT, "label_noise": noise, "k": k})


def mean_error(values: list[float]) -> tuple[float, float]:
    """Mean and its standard error."""
    t = torch.tensor(values, dtype=torch.float64)
    return float(t.mean()), float(t.std() / max(1, len(t)) ** 0.5) if len(t) > 1 else float("nan")


def difference(rows: dict[str, Any], a: str, b: str, key: str) -> tuple[float, float, int]:
    """Paired difference b - a over the seeds both have."""
    both = sorted(set(rows.get(a, {})) & set(rows.get(b, {})))
    values = [rows[b][seed][key] - rows[a][seed][key] for seed in both]
    return (*mean_error(values), len(both)) if len(both) > 1 else (float("nan"),) * 2 + (0,)


# claim, first cell, second cell, number, sign the paper's claim has (second minus first)
CLAIMS = [
    ("wider: smaller percentage active", "text m=128", "text m=512", "end", -1),
    ("wider: larger count active", "text m=128", "text m=512", "count", 1),
    ("deeper: smaller percentage active", "text layers=1", "text layers=5", "end", -1),
    ("Top-k keeps the loss (difference, nats)", "text m=128", "text Top-16 m=128", "loss", 0),
    *(
        (f"Top-k better, label noise {noise}: accuracy", f"digits dense noise={noise}",
         f"digits Top-16 noise={noise}", "accuracy", 1)
        for noise in (0.0, 0.4, 0.8)
    ),
    ("Top-k better: Gaussian corruption", "digits dense noise=0.0", "digits Top-16 noise=0.0",
     "gaussian", 1),
    ("Top-k better: impulse corruption", "digits dense noise=0.0", "digits Top-16 noise=0.0",
     "impulse", 1),
    ("Top-k lowers the calibration error", "digits dense noise=0.0", "digits Top-16 noise=0.0",
     "ece", -1),
]  # fmt: skip


def verdict(mean: float, error: float, sign: int, seeds: int) -> str:
    """Reproduced or contradicted at two standard errors, else undecided."""
    if seeds < 2:
        return "not run"
    if sign == 0:
        return f"{mean:+.3f} ± {error:.3f}"
    if abs(mean) < 2 * error:
        return "undecided"
    return "reproduced" if mean * sign > 0 else "NOT reproduced (opposite sign)"


def table(store: dict[str, Any]) -> str:
    """The results as Markdown."""
    rows = store["runs"]
    lines = [
        "Mean ± standard error over seeds; active fractions are the mean over blocks "
        "(the last block for the Gaussian MLPs).",
        "",
        "| run | seeds | active at start | active at the end | loss or test accuracy |",
        "|---|---|---|---|---|",
    ]
    for name, seeds in rows.items():
        runs = list(seeds.values())
        score = next(key for key in ("loss", "accuracy", "train") if key in runs[0])
        cells = [mean_error([run[key] for run in runs]) for key in ("start", "end", score)]
        shown = " | ".join(f"{m:.3f} ± {e:.3f}" for m, e in cells)
        lines.append(f"| {name} | {len(runs)} | {shown} ({score}) |")
    lines += ["", "| claim of the paper | second − first | seeds | verdict |", "|---|---|---|---|"]
    for claim, a, b, key, sign in CLAIMS:
        mean, error, seeds = difference(rows, a, b, key)
        lines.append(
            f"| {claim} | {mean:+.4f} ± {error:.4f} | {seeds} | "
            f"{verdict(mean, error, sign, seeds)} |"
        )
    for name in ("text m=512", "text random symbols", "digits random labels",
                 "digits random images", "digits dense noise=0.0"):  # fmt: skip
        runs = list(rows.get(name, {}).values())
        if len(runs) > 1:
            mean, error = mean_error([run["end"] - run["start"] for run in runs])
            lines.append(
                f"| sparser after training: {name} | {mean:+.4f} ± {error:.4f} | {len(runs)} | "
                f"{verdict(mean, error, -1, len(runs))} |"
            )
    for name in ("gaussian teacher", "gaussian random labels"):
        runs = list(rows.get(name, {}).values())
        if len(runs) > 1:
            mean, error = mean_error([run["end"] - run["start"] for run in runs])
            lines.append(
                f"| negative control, no sparsity: {name} | {mean:+.4f} ± {error:.4f} | "
                f"{len(runs)} | {'holds' if mean > -2 * error else 'fails'} |"
            )
    lines.append("")
    lines.append(
        f"torch {store['torch']}, {store['device']}, one thread, "
        f"{sum(r['seconds'] for s in rows.values() for r in s.values()):.0f} s in all "
        "(on a shared machine)."
    )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after so long")
    options = parser.parse_args()
    torch.set_num_threads(1)
    suffix = "" if options.device == "cpu" else f"_{options.device}"
    path = RESULTS / f"sparsity_training{suffix}.json"
    RESULTS.mkdir(exist_ok=True)
    store: dict[str, Any] = {"runs": {}}
    if path.exists():
        store = json.loads(path.read_text())
    store |= {"torch": torch.__version__, "device": options.device}
    begun = time.monotonic()
    # seed by seed, so that an early stop leaves every comparison paired
    for seed in range(max(seeds for _, seeds, _ in CELLS.values())):
        for name, (run, seeds, settings) in CELLS.items():
            done = store["runs"].setdefault(name, {})
            if seed >= seeds or str(seed) in done:
                continue
            if time.monotonic() - begun > options.seconds:
                break
            start = time.monotonic()
            done[str(seed)] = run(seed=seed, device=options.device, **settings)
            done[str(seed)]["seconds"] = time.monotonic() - start
            write_json(path, store)
    store["runs"] = {name: runs for name, runs in store["runs"].items() if runs}
    text = table(store)
    atomic_write(RESULTS / f"sparsity_training{suffix}.md", text)
    print(text)


if __name__ == "__main__":
    main()

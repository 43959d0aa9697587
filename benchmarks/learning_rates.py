"""Learning rates found on a small model, used on large ones: theory, mup, Kaiming, defaults.

Each method tunes one number at the smallest size with the same number of runs, then trains every
size with it. Run with ``python -m benchmarks.learning_rates`` (``--quick`` for one family).
"""

from __future__ import annotations

import importlib.metadata
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kadanoff.data import load
from kadanoff.files import atomic_write, write_json
from kadanoff.report.numbers import uncertain
from kadanoff.tuning.families import mlp, residual, transformer
from kadanoff.tuning.rates import parameter_groups
from kadanoff.tuning.transfer import train

RESULTS = Path(__file__).parent / "results"
TUNING_SEEDS, SEEDS = 2, 3
CONTEXT = 32


def digits() -> tuple[torch.Tensor, torch.Tensor, int]:
    batch = load("digits", batch=None)
    return batch.inputs.flatten(1).float(), batch.targets, 10


def characters() -> tuple[torch.Tensor, torch.Tensor, int]:
    from pydoc_data import topics

    text = "".join(topics.topics[k] for k in sorted(topics.topics))[:200_000]
    letters = sorted(set(text))
    index = {c: i for i, c in enumerate(letters)}
    codes = torch.tensor([index[c] for c in text])
    rows = codes[: len(codes) // CONTEXT * CONTEXT - CONTEXT].reshape(-1, CONTEXT)
    following = codes[1 : rows.numel() + 1].reshape(-1, CONTEXT)
    return rows, following, len(letters)


def _family(name: str, n_out: int) -> Callable[[int, int, int], nn.Module]:
    if name == "mlp":
        return lambda w, d, k: mlp(64, w, d, n_out, seed=k)
    if name == "resnet":
        return lambda w, d, k: residual(64, w, d, n_out, seed=k)
    return lambda w, d, k: transformer(w, d, n_out, vocabulary=n_out, context=CONTEXT, seed=k)


def _reset(model: nn.Module, seed: int, kaiming: bool) -> nn.Module:
    """PyTorch's own initialisation, or Kaiming's normal one with zero biases."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for module in model.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                module.reset_parameters()
            if kaiming and isinstance(module, nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)
    return model


def _mup_setup(build: Callable[..., nn.Module], w: int, d: int, k: int) -> nn.Module:
    """mup as its documentation says: MuReadout, base shapes of width 32, its own rescaling."""
    import mup

    def with_readout(width: int) -> nn.Module:
        model = _reset(build(width, d, k), k, kaiming=True)
        name = [n for n, m in model.named_modules() if isinstance(m, nn.Linear)][-1]
        parent = model.get_submodule(name.rpartition(".")[0])
        old = model.get_submodule(name)
        with torch.random.fork_rng():
            torch.manual_seed(k)
            setattr(
                parent, name.rpartition(".")[2], mup.MuReadout(old.in_features, old.out_features)
            )
        return model

    model = with_readout(w)
    mup.set_base_shapes(model, with_readout(32), delta=with_readout(64), do_assert=False)
    for module in model.modules():
        if isinstance(module, nn.Linear) and not isinstance(module, mup.MuReadout):
            mup.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return model


def _run(method: str, build: Any, size: tuple[int, int, int], rate: float, data: Any, steps: int):
    w, d, k = size
    X, y = data
    if method == "theory":
        model = build(w, d, k)
        optimizer = torch.optim.Adam(
            parameter_groups(model, X[:64], "adam", base=rate, base_width=32, s=1.0)
        )
    elif method == "mup 1.0.0":
        from mup import MuAdam

        model = _mup_setup(build, w, d, k)
        optimizer = MuAdam(model.parameters(), lr=rate)
    else:
        model = _reset(build(w, d, k), k, kaiming=method.startswith("Kaiming"))
        optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    return train(model, [optimizer], X, y, steps=steps, batch=64, seed=9000 + k)


GRID = {
    "theory": [0.2 * 2**k for k in range(7)],
    "mup 1.0.0": [5e-4 * 2**k for k in range(7)],
    "Kaiming + tuned Adam": [5e-4 * 2**k for k in range(7)],
    "PyTorch init + tuned Adam": [5e-4 * 2**k for k in range(7)],
    "PyTorch defaults (1e-3)": [1e-3],
}
FAMILIES = [
    ("mlp", digits, (64, 4), [(64, 4), (256, 4), (64, 16), (256, 16), (1024, 4), (256, 48)], 60),
    ("resnet", digits, (64, 4), [(64, 4), (256, 4), (64, 16), (256, 16), (256, 100)], 60),
    ("transformer", characters, (32, 2), [(32, 2), (64, 2), (64, 4), (128, 2)], 60),
]


def main(quick: bool = False, only: str | None = None) -> None:
    """Tune small, train all sizes, write the table."""
    torch.set_num_threads(1)
    import json

    store = RESULTS / "learning_rates.json"
    rows: list[dict[str, Any]] = []
    if only and store.exists():
        rows = [r for r in json.loads(store.read_text())["rows"] if r["family"] != only]
    start = time.perf_counter()
    for name, source, small, sizes, steps in FAMILIES[:1] if quick else FAMILIES:
        if only and name != only:
            continue
        X, y, n_out = source()
        build = _family(name, n_out)
        for method, grid in GRID.items():
            mean = [
                sum(
                    _run(method, build, (*small, 50 + k), rate, (X, y), steps)
                    for k in range(TUNING_SEEDS)
                )
                for rate in grid
            ]
            best = grid[min(range(len(grid)), key=mean.__getitem__)]
            for w, d in sizes:
                found = [_run(method, build, (w, d, k), best, (X, y), steps) for k in range(SEEDS)]
                losses = torch.tensor(found, dtype=torch.float64)
                rows.append(
                    {
                        "family": name,
                        "method": method,
                        "width": w,
                        "depth": d,
                        "rate": best,
                        "tuned_at": small,
                        "runs": len(grid) * TUNING_SEEDS,
                        "loss": float(losses.mean()),
                        "stderr": float(losses.std()) / math.sqrt(SEEDS),
                    }
                )
                print(rows[-1], f"{time.perf_counter() - start:.0f} s", flush=True)
            versions = {p: importlib.metadata.version(p) for p in ("torch", "mup")}
            write_json(store, {"versions": versions, "rows": rows})
            atomic_write(RESULTS / "learning_rates.md", _table(rows))


def _table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "### A learning rate tuned small, used large",
        "",
        "Adam, 60 steps of batch 64; training loss of the last tenth, mean and standard error over",
        f"{SEEDS} seeds. Each method tunes one number with the same runs at the first size of its",
        "family (except the untuned defaults). mup 1.0.0 knows width only, not depth.",
        "",
    ]
    for family in dict.fromkeys(r["family"] for r in rows):
        mine = [r for r in rows if r["family"] == family]
        sizes = list(dict.fromkeys((r["width"], r["depth"]) for r in mine))
        lines += [
            f"**{family}**",
            "",
            "| method | rate | " + " | ".join(f"{w}×{d}" for w, d in sizes) + " |",
            "|---|---|" + "---|" * len(sizes),
        ]
        for method in dict.fromkeys(r["method"] for r in mine):
            cells = {(r["width"], r["depth"]): r for r in mine if r["method"] == method}
            rate = next(iter(cells.values()))["rate"]
            shown = [
                uncertain(cells[s]["loss"], cells[s]["stderr"]) if s in cells else "-"
                for s in sizes
            ]
            lines.append(f"| {method} | {rate:.2g} | " + " | ".join(shown) + " |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    chosen = sys.argv[sys.argv.index("--family") + 1] if "--family" in sys.argv else None
    main("--quick" in sys.argv, chosen)

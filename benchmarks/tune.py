"""``kadanoff.tune`` beside defaults, sweeps and other tools, family by family.

    python -m benchmarks.tune [--minutes 10] [--optimizer adamw] [--seed 0]
    python -m benchmarks.tune --table

Every method trains the same model on the same batches in the same order for 300 steps; what
counts is the mean of the last 20 training losses. Finished rows are kept in ``out/tune.jsonl``; a
run goes on where the last one stopped, for as many minutes as it is given.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.tune_sweep import batch_of, hidden_matrices, make, sweep, train
from benchmarks.zoo import FAMILIES, Family

__all__ = ["RATES", "RUNS", "SIZES", "STEPS", "rows"]

RUNS = Path(__file__).parent.parent / "out" / "tune.jsonl"
STEPS = 300
_SMALL = {"width": 32, "depth": 2}
_CONV = {"width": 8, "depth": 2}
# family -> sizes, batch: small, so that a step takes milliseconds
SIZES: dict[str, tuple[dict[str, int], int]] = {
    "gpt2": (_SMALL, 8),
    "llama": (_SMALL, 8),
    "gemma": (_SMALL, 8),
    "mixtral": (_SMALL, 8),
    "t5": ({"width": 32, "depth": 1}, 8),
    "bert": (_SMALL, 8),
    "lstm": ({"width": 48, "depth": 1}, 8),
    "gru": ({"width": 48, "depth": 1}, 8),
    "mamba": ({"width": 32, "depth": 1}, 8),
    "vit": (_SMALL, 16),
    "convnext": ({"width": 16, "depth": 2}, 16),
    "resnet": (_CONV, 16),
    "resnet_no_norm": (_CONV, 16),
    "mixer": ({"width": 16, "depth": 2}, 16),
    "unet": ({"width": 8, "depth": 2}, 8),
    "groupnorm": (_CONV, 16),
    "dcgan_generator": ({"width": 16, "depth": 3}, 16),
    "dcgan_discriminator": ({"width": 16, "depth": 3}, 16),
    "vae": ({"width": 64, "depth": 2}, 32),
    "siren": ({"width": 64, "depth": 3}, 128),
    "pinn": ({"width": 32, "depth": 3}, 64),
    "nerf": ({"width": 64, "depth": 3}, 64),
    "deepsets": ({"width": 64, "depth": 4}, 64),
    "gnn": ({"width": 32, "depth": 4}, 16),
    "lora": ({"width": 64, "depth": 4}, 64),
    "regression": ({"width": 64, "depth": 4}, 64),
    "mlp": ({"width": 64, "depth": 4}, 64),
    "mlp_tanh": ({"width": 64, "depth": 8}, 64),
    "mlp_16": ({"width": 64, "depth": 16}, 64),
    "mlp_32": ({"width": 64, "depth": 32}, 64),
    "mlp_100": ({"width": 32, "depth": 100}, 32),
}
_HALF_DECADES = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1]
RATES = {"adamw": _HALF_DECADES[:7], "sgd": _HALF_DECADES[1:], "muon": _HALF_DECADES[1:]}
EFFORTS = (0.1, 1.0, 3.0)

Key = tuple[str, str, str, int]


def rows() -> dict[Key, dict[str, Any]]:
    """Finished rows by family, optimiser, method and seed."""
    found: dict[Key, dict[str, Any]] = {}
    if RUNS.exists():
        for line in RUNS.read_text("utf-8").splitlines():
            row = json.loads(line)
            row["final"] = math.inf if row["final"] is None else row["final"]
            found[row["family"], row["optimizer"], row["method"], row["seed"]] = row
    return found


def keep(key: Key, loss: float, cost: float, note: str = "") -> None:
    """Add a row to the file."""
    family, optimizer, method, seed = key
    row = {
        "family": family,
        "optimizer": optimizer,
        "method": method,
        "seed": seed,
        "final": loss if math.isfinite(loss) else None,
        "cost": cost,
        "note": note,
    }
    RUNS.parent.mkdir(exist_ok=True)
    with RUNS.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(row) + "\n")


def tuned(family: Family, optimizer: str, seed: int, effort: float) -> tuple[float, float, str]:
    """Tune on the batches that follow those of the run, then train; loss, cost in steps, winner."""
    import kadanoff as kd

    sizes, batch = SIZES[family.name]
    model = family.build(seed, **sizes)
    chosen: Any = optimizer
    if optimizer == "sgd":
        chosen = functools.partial(torch.optim.SGD, momentum=0.9)
    groups = kd.tune(
        model,
        lambda step: batch_of(family, batch, seed, STEPS + step),
        chosen,
        loss=family.criterion,
        steps=STEPS,
        effort=effort,
        seed=seed,
    )
    cost = groups.race.steps if groups.race is not None else 0
    loss = train(family, model, groups.optimizers(), batch=batch, seed=seed, steps=STEPS)
    return loss, cost, groups.verdict


def finder(family: Family, optimizer: str, seed: int) -> tuple[float, float, str]:
    """Lightning's learning-rate finder at its defaults, then that rate."""
    from benchmarks.tune_peer import lightning_rate

    sizes, batch = SIZES[family.name]
    model = family.build(seed, **sizes)
    muon = hidden_matrices(family, model, batch) if optimizer == "muon" else set()
    found = lightning_rate(
        family, model, lambda rate: make(optimizer, model, rate, muon), batch, seed
    )
    model = family.build(seed, **sizes)
    made = make(optimizer, model, found or 1e-3, muon)
    loss = train(family, model, made, batch=batch, seed=seed, steps=STEPS)
    return loss, 100, f"{found:.2g}" if found else "no suggestion: 1e-3"


def any_init(family: Family, optimizer: str, seed: int) -> tuple[float, float, str]:
    """AnyInit's own choice of initial weights, at 1e-3."""
    import anyinit  # pyright: ignore[reportMissingImports]

    sizes, batch = SIZES[family.name]
    model: nn.Module = family.build(seed, **sizes)
    note = ""
    try:
        anyinit.initialize(model, "analytic", batch_of(family, batch, seed, STEPS)[0], seed=seed)
    except Exception as error:
        return math.nan, 0, f"fails: {type(error).__name__}"
    muon = hidden_matrices(family, model, batch) if optimizer == "muon" else set()
    made = make(optimizer, model, 1e-3, muon)
    return train(family, model, made, batch=batch, seed=seed, steps=STEPS), 0, note


Method = Callable[[Family, str, int], tuple[float, float, str]]
METHODS: dict[str, Method] = {
    **{f"tune {e:g}": functools.partial(tuned, effort=e) for e in EFFORTS},
    "lightning": finder,
    "anyinit": any_init,
}


def main() -> None:
    """Compute what is missing for as long as the time allows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--optimizer", choices=sorted(RATES))
    parser.add_argument("--seed", type=int)
    parser.add_argument("--method", choices=["sweep", *METHODS])
    parser.add_argument("--table", action="store_true", help="only write the table")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    end = time.monotonic() + 60 * chosen.minutes
    optimizers = [chosen.optimizer] if chosen.optimizer else list(RATES)
    seeds = [chosen.seed] if chosen.seed is not None else [0, 1, 2]
    methods = [chosen.method] if chosen.method else ["sweep", *METHODS]
    whole = [(s, o, m, f) for s in seeds for o in optimizers for m in methods for f in SIZES]
    held = rows()
    for seed, optimizer, method, name in [] if chosen.table else whole:
        if time.monotonic() > end:
            print("more is left")
            sys.exit(1)
        _one(held, name, optimizer, method, seed)
    from benchmarks.tune_table import write

    write()


def _one(held: dict[Key, Any], name: str, optimizer: str, method: str, seed: int) -> None:
    family = FAMILIES[name]
    sizes, batch = SIZES[name]
    if method == "sweep":
        wanted = [r for r in RATES[optimizer] if (name, optimizer, f"{r:g}", seed) not in held]
        if wanted:
            found = sweep(family, sizes, optimizer, wanted, [seed], batch=batch, steps=STEPS)
            for (_, rate), loss in found.items():
                keep((name, optimizer, f"{rate:g}", seed), loss, 0)
        return
    key = (name, optimizer, method, seed)
    if key in held:
        return
    try:
        loss, cost, note = METHODS[method](family, optimizer, seed)
    except ImportError:
        return
    keep(key, loss, cost, note)
    print(*key, f"{loss:.4g}", f"{cost:g}", note, flush=True)


if __name__ == "__main__":
    main()

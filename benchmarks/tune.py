"""``kadanoff.tune`` beside defaults, sweeps and other tools, family by family.

    python -m benchmarks.tune [--minutes 10] [--optimizer adamw] [--seed 0] [--steps 300]
    python -m benchmarks.tune --table

Every method trains the same model on the same batches in the same order for 300 or 1,000 steps;
what counts is the mean of the last 20 training losses. Each race is trained out twice: at the
rates it gave, and with ``with_decay()``; the sweep too. Finished rows are kept in
``out/tune.jsonl``; a run goes on where the last one stopped, for as many minutes as it is given.
"""

from __future__ import annotations

import argparse
import copy
import functools
import itertools
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
# the race's budget over the run's length, at each length
EFFORTS = {300: (0.1, 1.0), 1000: (0.1,)}
DECAY = " decay"

Key = tuple[str, str, str, int, int]
# final loss, cost in steps, note, by method
Found = dict[str, tuple[float, float, str]]


def rows() -> dict[Key, dict[str, Any]]:
    """Finished rows by family, optimiser, method, seed and steps."""
    found: dict[Key, dict[str, Any]] = {}
    if RUNS.exists():
        for line in RUNS.read_text("utf-8").splitlines():
            row = json.loads(line)
            row["final"] = math.inf if row["final"] is None else row["final"]
            steps = row.setdefault("steps", STEPS)
            found[row["family"], row["optimizer"], row["method"], row["seed"], steps] = row
    return found


def keep(key: Key, loss: float, cost: float, note: str = "") -> None:
    """Add a row to the file."""
    names = ("family", "optimizer", "method", "seed", "steps")
    row: dict[str, Any] = dict(zip(names, key, strict=True))
    row |= {"final": loss if math.isfinite(loss) else None, "cost": cost, "note": note}
    RUNS.parent.mkdir(exist_ok=True)
    with RUNS.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(row) + "\n")


def tuned(family: Family, optimizer: str, seed: int, steps: int, effort: float) -> Found:
    """Tune on the batches that follow those of the run, then train, at once and with decay."""
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
        steps=steps,
        effort=effort,
        seed=seed,
    )
    cost = groups.race.steps if groups.race is not None else 0
    start = copy.deepcopy(model.state_dict())
    options: dict[str, Any] = {"batch": batch, "seed": seed, "steps": steps}
    loss = train(family, model, groups.optimizers(), **options)
    model.load_state_dict(start)
    optimizers, schedulers = groups.with_decay()
    falling = train(family, model, optimizers, schedulers=schedulers, **options)
    name = f"tune {effort:g}"
    return {name: (loss, cost, groups.verdict), name + DECAY: (falling, cost, groups.verdict)}


def finder(family: Family, optimizer: str, seed: int, steps: int) -> Found:
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
    loss = train(family, model, made, batch=batch, seed=seed, steps=steps)
    return {"lightning": (loss, 100, f"{found:.2g}" if found else "no suggestion: 1e-3")}


def any_init(family: Family, optimizer: str, seed: int, steps: int) -> Found:
    """AnyInit's own choice of initial weights, at 1e-3."""
    import anyinit  # pyright: ignore[reportMissingImports]

    sizes, batch = SIZES[family.name]
    model: nn.Module = family.build(seed, **sizes)
    try:
        anyinit.initialize(model, "analytic", batch_of(family, batch, seed, STEPS)[0], seed=seed)
    except Exception as error:
        return {"anyinit": (math.nan, 0, f"fails: {type(error).__name__}")}
    muon = hidden_matrices(family, model, batch) if optimizer == "muon" else set()
    made = make(optimizer, model, 1e-3, muon)
    return {"anyinit": (train(family, model, made, batch=batch, seed=seed, steps=steps), 0, "")}


def maximal_update(family: Family, optimizer: str, seed: int, steps: int) -> Found:
    """Package ``mup`` from half the width, at 1e-3."""
    from benchmarks.tune_peer import mup_optimizer

    sizes, batch = SIZES[family.name]
    try:
        model, made = mup_optimizer(family, sizes, optimizer, seed)
    except Exception as error:
        return {"mup": (math.nan, 0, f"does not apply: {type(error).__name__}: {error}"[:120])}
    return {"mup": (train(family, model, [made], batch=batch, seed=seed, steps=steps), 0, "")}


Method = Callable[[Family, str, int, int], Found]
METHODS: dict[str, Method] = {
    **{f"tune {e:g}": functools.partial(tuned, effort=e) for e in EFFORTS[STEPS]},
    "lightning": finder,
    "anyinit": any_init,
    "mup": maximal_update,
}


def main() -> None:
    """Compute what is missing for as long as the time allows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--optimizer", choices=sorted(RATES))
    parser.add_argument("--seed", type=int)
    parser.add_argument("--steps", type=int, choices=sorted(EFFORTS))
    parser.add_argument("--method", choices=["sweep", *METHODS], nargs="*")
    parser.add_argument("--family", choices=sorted(SIZES), nargs="*")
    parser.add_argument("--table", action="store_true", help="only write the table")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    end = time.monotonic() + 60 * chosen.minutes
    whole = [
        (family, optimizer, method, seed, steps)
        for steps, seed, optimizer, family, method in itertools.product(
            [chosen.steps] if chosen.steps else sorted(EFFORTS),
            [chosen.seed] if chosen.seed is not None else [0, 1, 2],
            [chosen.optimizer] if chosen.optimizer else list(RATES),
            chosen.family or list(SIZES),
            chosen.method or ["sweep", *METHODS],
        )
    ]
    held = rows()
    for key in [] if chosen.table else whole:
        if time.monotonic() > end:
            print("more is left")
            sys.exit(1)
        _one(held, key)
    from benchmarks.tune_table import write

    write()


def _one(held: dict[Key, Any], key: Key) -> None:
    name, optimizer, method, seed, steps = key
    family = FAMILIES[name]
    sizes, batch = SIZES[name]
    if method == "sweep":
        for falling, word in ((False, ""), (True, DECAY)):
            names = {rate: f"{rate:g}{word}" for rate in RATES[optimizer]}
            wanted = [r for r, n in names.items() if (name, optimizer, n, seed, steps) not in held]
            if wanted:
                found = sweep(
                    family, sizes, optimizer, wanted, [seed], batch=batch, steps=steps,
                    falling=falling,
                )  # fmt: skip
                for (_, rate), loss in found.items():
                    keep((name, optimizer, names[rate], seed, steps), loss, 0)
        return
    if key in held or (method.startswith("tune") and float(method[5:]) not in EFFORTS[steps]):
        return
    try:
        found = METHODS[method](family, optimizer, seed, steps)
    except ImportError:
        return
    for word, (loss, cost, note) in found.items():
        keep((name, optimizer, word, seed, steps), loss, cost, note)
        print(name, optimizer, word, seed, steps, f"{loss:.4g}", f"{cost:g}", note, flush=True)


if __name__ == "__main__":
    main()

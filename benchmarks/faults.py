"""Who names what is wrong: diagnose, anyinit and torchdiag on nets with one fault each.

Each net is trained as it is and with the remedy applied, by its own recipe, and what happened
judges verdict and remedy. ``python -m benchmarks.faults`` runs all; ``--only NAME`` some;
``--cases FOLDER`` adds files with ``build()``, ``data()``, ``fixed()``, ``fixed_data()`` and
``RECIPE``. What training did is kept in ``results/faults.parts`` (``--again`` forgets it).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch

from benchmarks.fault_cases import CASES, Case, Job
from benchmarks.fault_cases.base import output_of, score_of
from benchmarks.fault_cases.healthy import families
from benchmarks.faults_peer import said
from kadanoff.diagnosis import diagnose
from kadanoff.diagnosis.losses import evaluate
from kadanoff.diagnosis.recipe import Recipe
from kadanoff.errors import KadanoffError
from kadanoff.trace.hf import main_output

# training is the slow part: it is kept from one run to the next
RESULTS = Path(__file__).parent / "results"
PARTS = RESULTS / "faults.parts"
STEPS, SECONDS = 150, 20.0


# -- what happens in training --------------------------------------------------------------------


def train(job: Job) -> dict[str, Any]:
    """Train a job by its recipe; the course of its loss and the score at the end."""
    torch.manual_seed(0)
    model, (x, y) = job.model, job.train
    losses: list[float] = []
    try:
        if any(p.requires_grad for p in model.parameters()):
            optimizer = job.optimizer(model) if job.optimizer else job.recipe.build(model)
        else:
            optimizer = None
        start = time.process_time()
        for _ in range(STEPS):
            if job.mode == "train":
                model.train()
            output = output_of(model, x)
            generator = torch.Generator().manual_seed(0)
            main = main_output(output)
            assert main is not None
            loss = evaluate(job.loss, output, main, y, generator).value
            losses.append(float(loss.detach()))
            if not math.isfinite(losses[-1]) or time.process_time() - start > SECONDS:
                break
            if optimizer is not None and loss.requires_grad:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        score = score_of(job, model)
    except Exception as error:  # what training runs into is its outcome
        return {"losses": losses, "score": 0.0, "error": f"{type(error).__name__}: {error}"[:200]}
    return {"losses": losses, "score": score}


# -- what the diagnosis says ---------------------------------------------------------------------


def diagnosed(job: Job, told: bool, try_steps: int | None = None) -> dict[str, Any]:
    """Codes of causes and consequences, worst severity, seconds."""
    optimizer: Any = None
    if told:
        optimizer = job.optimizer(job.model) if job.optimizer else job.recipe
    job.model.train(job.mode == "train")
    start = time.perf_counter()
    try:
        found = diagnose(
            job.model, job.train, loss=job.loss, optimizer=optimizer, try_steps=try_steps
        )
    except KadanoffError as error:
        code = str(error).split(":")[0].split(" ")[-1]
        return {
            "causes": [code],
            "others": [],
            "notes": [],
            "severity": "error",
            "said": str(error),
        }
    real = [f for f in found.findings if f.severity != "note"]
    return {
        "causes": [f.code for f in real if not f.because_of],
        "others": [f.code for f in real if f.because_of],
        "notes": [f.code for f in found.findings if f.severity == "note"],
        "severity": real[0].severity if real else "healthy",
        "said": found.verdict[:200],
        "learns": None if found.trial is None else found.trial.learns,
        "seconds": time.perf_counter() - start,
    }


# -- all together --------------------------------------------------------------------------------


def one(case: Case, again: bool = False) -> dict[str, Any]:
    """Diagnose one fault, sick and repaired; what training did is kept, the rules do not matter."""
    sick, good = case.make()
    ours = diagnosed(sick, case.told)
    outcome = kept(f"{case.name} as it is", again, lambda: train(case.make()[0]))
    row: dict[str, Any] = {
        "name": case.name, "wanted": case.names, "sick": ours, "as_it_is": outcome,
        "held_out": case.held_out,
    }  # fmt: skip
    row["peers"] = kept(f"{case.name} peers", again, lambda: said(case.make()[0], case.names))
    row["named"] = bool(set(ours["causes"]) & set(case.names))
    row["among"] = bool({*ours["causes"], *ours["others"], *ours["notes"]} & set(case.names))
    if good is not None:
        row["good"] = diagnosed(good, case.told)
        row["repaired"] = kept(
            f"{case.name} repaired", again, lambda: train(case.make()[1] or sick)
        )
        row["helps"] = row["repaired"]["score"] > outcome["score"] + 0.05
        if not case.told and sick.optimizer is None and sick.recipe != Recipe():
            # severity speaks of the ordinary recipe, which the diagnosis tried too
            row["ordinary"] = [
                kept(f"{case.name} ordinary {k}", again, lambda k=k: ordinary(case, k))
                for k in range(2)
            ]
    return row


def ordinary(case: Case, which: int) -> dict[str, Any]:
    """Train the net as it is (0) or repaired (1) with Adam at 1e-3."""
    job = case.make()[which]
    assert job is not None
    return train(job.with_(recipe=Recipe()))


def from_folder(folder: Path) -> list[Case]:
    """Cases of files with build(), data(), fixed(), fixed_data() and RECIPE."""
    out = []
    sys.path.insert(0, str(folder))
    for path in sorted(folder.glob("[0-9h]*.py")):
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
        out.append(Case(path.stem, (), lambda module=module: _jobs(module)))
    return out


def _jobs(module: Any) -> tuple[Job, Job | None]:
    data = module.data()
    recipe = _recipe(getattr(module, "RECIPE", None))
    pair = data if isinstance(data, tuple) else (data, None)
    sick = Job(module.build(), pair, pair, recipe=recipe)
    if not hasattr(module, "fixed"):
        return sick, None
    fixed = module.fixed_data() if hasattr(module, "fixed_data") else data
    recipe = _recipe(getattr(module, "FIX", getattr(module, "RECIPE", None)))
    return sick, Job(module.fixed(), fixed, fixed, recipe=recipe)


def _recipe(words: dict[str, Any] | None) -> Recipe:
    if words is None:
        return Recipe()
    momentum = 0.9 if words["opt"] == "sgdm" else 0.0
    return Recipe("sgd" if words["opt"].startswith("sgd") else words["opt"], words["lr"], momentum)


def kept(name: str, again: bool, make: Any) -> dict[str, Any]:
    """A finished net from its file, or made now."""
    path = PARTS / f"{name.replace(' ', '_').replace(',', '')}.json"
    if path.exists() and not again:
        return json.loads(path.read_text())
    row = make()
    PARTS.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(row))
    return row


def healthy_row(net: Any) -> dict[str, Any]:
    """What is said of a net that trains."""
    model, data, loss = net.make()
    start = time.perf_counter()
    found = diagnose(model, data, loss=loss)
    real = [f for f in found.findings if f.severity != "note"]
    return {
        "name": net.name,
        "causes": [f.code for f in real],
        "severity": real[0].severity if real else "healthy",
        "notes": [f.code for f in found.findings if f.severity == "note"],
        "learns": None if found.trial is None else found.trial.learns,
        "seconds": time.perf_counter() - start,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=None)
    parser.add_argument("--cases", type=Path)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--skip-healthy", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    cases = list(CASES) + (from_folder(options.cases) if options.cases else [])
    if options.only:
        cases = [c for c in cases if any(word in c.name for word in options.only)]
    rows = []
    for case in cases:
        row = one(case, options.again)
        rows.append(row)
        mark = "named" if row["named"] else "among" if row["among"] else "MISSED"
        print(f"{case.name:42s} {mark:7s} {row['sick']['causes']}", flush=True)
    nets = []
    for net in [] if options.skip_healthy or options.only else families():
        row = healthy_row(net)
        nets.append(row)
        print(f"{net.name:42s} {row['severity']} {row['causes']}", flush=True)
    if not options.only and nets:
        from benchmarks.fault_tables import write

        write(rows, nets)


if __name__ == "__main__":
    main()

"""`flow(order=1)` of many inputs at depth 5: time, memory, stated error and true error.

The reference are flows of four of the inputs at a time, which integrate to 1e-10: every component
of theirs is a component of the flow of all inputs. Run with ``python -m benchmarks.many_inputs``;
each case has a process of its own. ``--before DIR`` measures another checkout of the source beside
this one, ``--quick`` the smallest case.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch

import kadanoff as kd
from kadanoff.files import atomic_write, write_json

# inputs, layers kept, aim of the averages' error (by default 1e-6 up to 16 inputs, 1e-5 beyond)
CASES = ((10, "all", None), (24, "all", None), (34, "all", None), (64, "last", 2.5e-5))
DEPTH, N_IN, WIDTH, ACTIVATION = 5, 32, 128, "tanh"
QUADRUPLES = 8
METRIC_AND_NTK = ("G1", "V", "H1", "A", "B", "D", "F")
NAMES = (*METRIC_AND_NTK, "P", "Q", "R", "S", "T", "U")
HERE = Path(__file__).parent
STORE = HERE / "results" / "many_inputs.json"


def measure(inputs: int, keep: str, tolerance: float | None) -> dict:
    """One case in this process."""
    torch.set_num_threads(1)
    g = torch.Generator().manual_seed(0)
    X = torch.randn(inputs, N_IN, generator=g, dtype=torch.float64)
    arch = kd.MLP(N_IN, [WIDTH] * (DEPTH - 1), 1, ACTIVATION, C_b=0.1, C_W=1.4)
    # the code before knows no ``keep``
    options = {} if keep == "all" else {"keep": keep, "observables": METRIC_AND_NTK}
    start = time.process_time()
    flow = kd.flow(arch, X, order=1, tolerance=tolerance, **options)
    seconds = time.process_time() - start
    row = {"inputs": inputs, "keep": keep, "seconds": seconds, "strategy": flow.strategy}
    row["gigabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    names = NAMES if keep == "all" else METRIC_AND_NTK
    row["stated"] = {n: float(flow.error[n][-1].max() / _size(flow, n)) for n in names}
    off = dict.fromkeys(names, 0.0)
    for _ in range(QUADRUPLES):
        at = torch.randperm(inputs, generator=g)[:4]
        few = kd.flow(arch, X[at], order=1)
        for name in names:
            found = getattr(flow, name)[-1]
            for axis in range(found.ndim):
                found = found.index_select(axis, at)
            gap = float((found - getattr(few, name)[-1]).abs().max() / _size(flow, name))
            off[name] = max(off[name], gap)
    return row | {"off": off}


def _size(flow: kd.Flow, name: str) -> float:
    return float(getattr(flow, name)[-1].abs().max())


def main() -> None:
    """Run the cases that are not stored yet, each in a process, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, help="another checkout, measured as well")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument(
        "--case", nargs=3, help="inputs, layers kept, tolerance or 0: one case, here"
    )
    options = parser.parse_args()
    if options.case:
        print(
            json.dumps(
                measure(int(options.case[0]), options.case[1], float(options.case[2]) or None)
            )
        )
        return
    rows = json.loads(STORE.read_text())["rows"] if STORE.exists() else []
    done = {(r["source"], r["inputs"]) for r in rows}
    sources = {"before": options.before} if options.before else {}
    sources |= {"now": HERE.parent}
    for inputs, keep, tolerance in CASES[:1] if options.quick else CASES:
        for source, root in sources.items():
            if (source, inputs) in done or (source == "before" and keep != "all"):
                continue
            row = {"source": source, "load": os.getloadavg()[0]} | _run(
                root, inputs, keep, tolerance
            )
            print(row, flush=True)
            rows.append(row)
            if not options.quick:
                rows.sort(key=lambda r: (r["inputs"], r["source"]))
                write_json(STORE, {"torch": torch.__version__, "rows": rows})
                atomic_write(STORE.with_suffix(".md"), table(rows))


def _run(root: Path, inputs: int, keep: str, tolerance: float | None) -> dict:
    path = os.pathsep.join([str(root / "src"), str(HERE.parent)])
    case = [str(inputs), keep, str(tolerance or 0)]
    command = [sys.executable, "-m", "benchmarks.many_inputs", "--case", *case]
    done = subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": path, "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def table(rows: list[dict]) -> str:
    """The stored rows for people."""
    lines = [
        f"### Order 1/n of many inputs, {ACTIVATION}, depth {DEPTH}",
        "",
        "All of G1, V, H1, A, B, D, F, P, Q, R, S, T, U; where the last layer alone is kept, the",
        "first seven. Errors at the last layer, of the worst",
        "of them, relative to its largest component: stated by the flow, and found at all",
        f"components of {QUADRUPLES} sets of four inputs, whose own flow integrates to 1e-10. CPU",
        "seconds of one thread, whole process' largest memory. Before: quadruples one by one up",
        "to 32 inputs, beyond eight scrambled Sobol sequences; 64 inputs needed 23 GB and were not",
        "run. Other work shared the two cores.",
        "",
        "| inputs | layers kept | code | CPU s | GB | stated | found | stated by "
        "| found / stated, worst |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        stated, found = max(r["stated"].values()), max(r["off"].values())
        ratio = max(off / max(r["stated"][n], 1e-300) for n, off in r["off"].items())
        lines.append(
            f"| {r['inputs']} | {r['keep']} | {r['source']} | {r['seconds']:.0f} | "
            f"{r['gigabytes']:.1f} | {stated:.1e} | {found:.1e} | {r['strategy'].split(';')[0]} | "
            f"{ratio:.2g} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

"""Order 1/n of networks trained on 64 points of real data: its size, its numerical error, the time.

Nothing is trained here (benchmarks.finite_width does that): at 64 points the question is whether
the four-point averages are exact enough for what an ill-conditioned NTK makes of them. The error is
the distance between two levels of the rule, carried through to the end. Run with
``python -m benchmarks.many_points`` (minutes a case on one core and 10 GB; stored cases are kept;
``--quick`` for 16 points).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch

from kadanoff.architecture import MLP
from kadanoff.critical import criticality
from kadanoff.data import load
from kadanoff.files import atomic_write, write_json
from kadanoff.learning.corrections import both_terms
from kadanoff.learning.dynamics import as_targets
from kadanoff.learning.tensors import output_tensors

# data, activation, linear maps
CASES = [
    ("digits", "tanh", 2),
    ("diabetes", "gelu", 2),
    ("digits", "tanh", 3),
    ("diabetes", "gelu", 3),
    ("digits", "gelu", 2),
    ("diabetes", "tanh", 2),
    ("digits", "gelu", 3),
    ("diabetes", "tanh", 3),
]
ALGORITHMS = ("flow", "descent")
TRAIN, TEST, WIDTH = 64, 8, 256
RESULTS = Path(__file__).parent / "results"


def main(quick: bool = False) -> None:
    """Run the cases that are not stored yet and write the table after each."""
    torch.set_num_threads(1)
    store = RESULTS / "many_points.json"
    rows = json.loads(store.read_text())["rows"] if store.exists() and not quick else []
    done = [tuple(row["case"]) for row in rows]
    for case in CASES[:1] if quick else [c for c in CASES if c not in done]:
        rows.append(_row(case, 16 if quick else TRAIN))
        print(rows[-1], flush=True)
        if not quick:
            write_json(store, {"torch": torch.__version__, "rows": rows})
            atomic_write(RESULTS / "many_points.md", _table(rows))


def _row(case: tuple[str, str, int], train: int) -> dict:
    data, activation, depth = case
    batch = load(data, batch=train + TEST, seed=0)
    X, y = batch.inputs.flatten(1).double(), batch.targets
    if y.dtype.is_floating_point:
        y = y.double().reshape(len(X), -1)
        y = (y - y.mean(0)) / y.std(0)
    n_out = y.shape[1] if y.ndim > 1 else int(y.max()) + 1
    point = criticality(activation)
    arch = MLP(
        X.shape[1], [WIDTH] * (depth - 1), n_out, activation,
        C_b=float(point.C_b), C_W=float(point.C_W),
    )  # fmt: skip
    y = as_targets(y[:train], train, n_out).y
    found: dict[str, list] = {name: [] for name in ALGORITHMS}
    start = time.process_time()
    _, replicas = output_tensors(arch, X, "gradient")
    seconds = time.process_time() - start
    values = torch.linalg.eigvalsh(replicas[0].Theta[:train, :train])
    while replicas:
        x = replicas.pop(0)
        for name in ALGORITHMS:
            eta = None if name == "flow" else 0.5 / float(values[-1])
            start = time.process_time()
            found[name].append(both_terms(x, y, eta, "gradient"))
            if name == ALGORITHMS[0]:  # one prediction is timed
                seconds += time.process_time() - start
    row = {"case": list(case), "train": train, "seconds": seconds}
    row["condition"] = float(values[-1] / values[0])
    for name, levels in found.items():
        mean, cov = zip(*levels, strict=True)
        whole, whole_cov = ([sum(t.values()) for t in terms] for terms in (mean, cov))
        size = float(whole[0].pow(2).mean().sqrt())
        row[name] = {
            "size": size,
            "error": float((whole[0] - whole[1]).abs().max()) / size,
            "terms": {k: float(v.pow(2).mean().sqrt()) for k, v in mean[0].items()},
            "term_errors": {
                k: float((v - mean[1][k]).abs().max()) / size for k, v in mean[0].items()
            },
            "cov_error": float(
                (whole_cov[0] - whole_cov[1]).abs().max() / whole_cov[0].abs().max()
            ),
        }
    return row


def _table(rows: list[dict]) -> str:
    lines = [
        "### Order 1/n of networks trained on 64 points",
        "",
        f"{TRAIN} training and {TEST} test points of real data, critical initialisation; gradient",
        "flow, or descent at a quarter of the largest stable step. Size: root mean square over",
        "test points and outputs of n (trained - infinite width). Errors: the largest distance",
        "between two levels of the quadrature, over that size; of the covariance, over its largest",
        "entry. Seconds of CPU time for one algorithm, one thread.",
        "",
        "| data | activation | L | algorithm | condition of Θ | size | error "
        "| worst error of a term | covariance error | CPU s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        data, activation, depth = r["case"]
        for name in ALGORITHMS:
            f = r[name]
            term = max(f["term_errors"], key=f["term_errors"].get)
            lines.append(
                f"| {data} | {activation} | {depth} | {name} | {r['condition']:.2g} | "
                f"{f['size']:.3g} | {f['error']:.1e} | {f['term_errors'][term]:.1e} ({term}) | "
                f"{f['cov_error']:.1e} | {r['seconds']:.0f} |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main("--quick" in sys.argv)

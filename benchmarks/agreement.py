"""Predictions at order 1/n against simulated ensembles, extrapolated to infinite width.

Run: ``python -m benchmarks.agreement [--cases N] [--networks N]``. Every case simulates three
widths without drawing weights, extrapolates linearly in 1/n at fixed depth (the change that a
curved fit makes, beyond its noise, is allowed for) and compares the last layer with the flow. A
finished case is kept in ``results/agreement.json``: a second call goes on where the first stopped.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path
from typing import Any

import torch

import kadanoff as kd
from kadanoff.ensembles import scaling
from kadanoff.files import atomic_write, write_json

RESULTS = Path(__file__).parent / "results"
C_W = {"tanh": 1.3, "relu": 2.0, "gelu": 1.98, "sin": 1.3, "linear": 1.0}
FIRST = ["G1", "V", "Theta", "H1", "A", "B", "D", "F"]
SECOND = [*"PQRSTU"]
SMOOTH = ("tanh", "gelu", "sin", "linear")


def cases() -> list[dict[str, Any]]:
    """Activation × depth × inputs × biases × proportions of the widths, cheap ones first."""
    out = []
    for depth, inputs, bias, name in itertools.product((2, 4, 10), (1, 3), (False, True), C_W):
        # unequal widths for half of the cases, in turn
        unequal = (depth // 2 + inputs // 2 + bias + len(name)) % 2 == 1 and depth > 2
        out.append(
            {"activation": name, "depth": depth, "inputs": inputs, "bias": bias, "unequal": unequal}
        )
    return out


def widths_of(case: dict[str, Any]) -> list[int]:
    # deeper networks need wider ones for the same distance from infinite width
    return [30, 60, 120] if case["depth"] < 10 else [75, 150, 300]


def network(case: dict[str, Any]) -> tuple[Any, torch.Tensor]:
    first = widths_of(case)[0]
    shape = [first * 2 // 3 if case["unequal"] and l % 2 else first for l in range(case["depth"])]
    shape = shape[: case["depth"] - 1]
    arch = kd.MLP(
        4, shape, 1, case["activation"], C_b=0.15 if case["bias"] else 0.0,
        C_W=C_W[case["activation"]], lambda_b=0.6 if case["bias"] else 0.0, lambda_W=0.9,
    )  # fmt: skip
    g = torch.Generator().manual_seed(2)
    return arch, torch.randn(case["inputs"], 4, generator=g, dtype=torch.float64)


def run(case: dict[str, Any], networks: int) -> list[dict[str, Any]]:
    """Compare one case: the worst component of every observable at the last layer."""
    arch, X = network(case)
    flow = kd.flow(arch, X, order=1)
    second = case["activation"] in SMOOTH and case["inputs"] == 1
    rows = []
    for names, count in ((FIRST, networks), (SECOND if second else [], networks // 10)):
        if not names:
            continue
        found = scaling(
            arch, X, widths_of(case), [count, count // 2, count // 4], seed=17, observables=names,
            layers=[arch.L],
        )  # fmt: skip
        result = kd.compare(flow, found)
        for name in names:
            # Θ itself is compared through its 1/n part and through its limit
            lines = [x for x in result.lines if x.observable == name]
            if name == "Theta":
                lines = _means(flow, found)
            lines = [x for x in lines if abs(x.predicted) > 0 or x.stderr > 0]
            if not lines:
                continue
            worst = max(lines, key=lambda x: x.excess)
            scale = max(abs(x.predicted) for x in lines)
            error = max(x.stderr for x in lines) / scale if scale > 1e-9 else float("nan")
            rows.append(
                {"observable": name, "predicted": worst.predicted, "measured": worst.measured,
                 "z": worst.z, "excess": worst.excess, "relative_error": error,
                 "components": len(lines)}
            )  # fmt: skip
    return rows


def _means(flow: Any, found: Any) -> list[Any]:
    from kadanoff.ensembles.comparison import Line

    m, predicted = found.limit["Theta"], flow.Theta
    out = []
    for a in range(predicted.shape[1]):
        p, v, s = (float(t[-1, a, a]) for t in (predicted, m.value, m.stderr))
        # without fluctuations there is nothing but rounding
        s = max(s, 1e-12 * abs(p))
        # a fit in 1/n leaves the next order, which H1 is compared with in its own line
        out.append(Line("Theta", len(predicted), (a, a), p, v, s, 0.0, (v - p) / s, abs(v - p) / s))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=None, help="stop after so many new cases")
    parser.add_argument("--networks", type=int, default=200_000, help="at the smallest width")
    parser.add_argument("--minutes", type=float, default=None, help="start no case after this")
    options = parser.parse_args()
    torch.set_num_threads(1)
    path = RESULTS / "agreement.json"
    done = json.loads(path.read_text()) if path.exists() else []
    known = [entry["case"] for entry in done]
    begin, new = time.perf_counter(), 0
    for case in cases():
        late = options.minutes and time.perf_counter() - begin > 60 * options.minutes
        if case in known or late or (options.cases is not None and new >= options.cases):
            continue
        start = time.perf_counter()
        rows = run(case, options.networks)
        seconds = time.perf_counter() - start
        done.append({"case": case, "networks": options.networks, "seconds": seconds, "rows": rows})
        new += 1
        write_json(path, done)
        atomic_write(RESULTS / "agreement.md", markdown(done))
        worst = max(rows, key=lambda r: r["excess"])
        print(case, worst["observable"], f"z = {worst['z']:.2f}", f"{seconds:.0f} s", flush=True)


def markdown(done: list[dict[str, Any]]) -> str:
    total = sum(row["components"] for entry in done for row in entry["rows"])
    out = [
        "### Order 1/n against simulation (`python -m benchmarks.agreement`)",
        "",
        f"{len(done)} of {len(cases())} cases run, {total} components. z of the worst component of",
        "each observable at the last layer, and in brackets the largest standard error in % of the",
        "largest component.",
        "",
        "| activation | depth | inputs | bias | widths | " + " | ".join(FIRST + SECOND) + " |",
        "|" + "---|" * (5 + len(FIRST + SECOND)),
    ]
    for entry in done:
        case = entry["case"]
        cells = {r["observable"]: _cell(r) for r in entry["rows"]}
        kind = "unequal" if case["unequal"] else "equal"
        widths = "/".join(map(str, widths_of(case))) + f" {kind}"
        head = [case["activation"], case["depth"], case["inputs"], "yes" if case["bias"] else "no"]
        row = [*map(str, head), widths, *(cells.get(n, "") for n in FIRST + SECOND)]
        out.append("| " + " | ".join(row) + " |")
    return "\n".join([*out, ""])


def _cell(row: dict[str, Any]) -> str:
    error = row["relative_error"]
    if error is None or error != error:
        return "0"
    return f"{row['z']:.1f} ({100 * error:.1f})"


if __name__ == "__main__":
    main()

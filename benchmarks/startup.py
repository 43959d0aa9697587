"""How long ``import kadanoff`` and ``kadanoff --help`` take, against ``import torch``.

python -m benchmarks.startup
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
ROUNDS = 5


def main() -> None:
    from kadanoff.files import atomic_write, write_json

    script = shutil.which("kadanoff", path=os.path.dirname(sys.executable)) or "kadanoff"
    commands = {
        "import torch": [sys.executable, "-c", "import torch"],
        "import kadanoff": [sys.executable, "-c", "import kadanoff"],
        "kadanoff --help": [script, "--help"],
        "kadanoff diagnose --help": [script, "diagnose", "--help"],
        "python -c pass": [sys.executable, "-c", "pass"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(ROUNDS + 1):  # interleaved, so that a busy machine is busy for all
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            if turn:  # the first round fills the disk cache
                times[name].append(time.perf_counter() - start)
    base = times["import torch"]
    rows = {}
    for name, values in times.items():
        ratios = sorted(v / b for v, b in zip(values, base))
        rows[name] = {
            "median_seconds": statistics.median(values),
            "ratio": statistics.median(ratios),
            "ratio_low": ratios[0],
            "ratio_high": ratios[-1],
        }
    lines = [
        "### Start-up",
        "",
        f"Ratio to `python -c 'import torch'`, median of {ROUNDS} interleaved rounds (lowest to "
        "highest). `python -m benchmarks.startup`",
        "",
        "| command | ratio | seconds here |",
        "|---|---|---|",
    ]
    lines += [
        f"| `{name}` | {r['ratio']:.3f} ({r['ratio_low']:.3f} to {r['ratio_high']:.3f}) "
        f"| {r['median_seconds']:.2f} |"
        for name, r in rows.items()
    ]
    table = "\n".join(lines) + "\n"
    (HERE / "results").mkdir(exist_ok=True)
    write_json(HERE / "results/startup.json", rows)
    atomic_write(HERE / "results/startup.md", table)
    print(table)


if __name__ == "__main__":
    main()

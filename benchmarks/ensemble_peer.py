"""Monte Carlo of the NTK by neural-tangents, beside ours: speed and coverage.

neural-tangents 0.6.5 needs an old JAX (0.4.38), so it lives in its own environment:
``python -m benchmarks.ensemble_peer --peer PATH/bin/python``. Both sample erf networks without
biases and average the metric and the NTK of the output; one thread each.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from kadanoff.files import atomic_write, write_json
from kadanoff.style.numbers import uncertain

RESULTS = Path(__file__).parent / "results"
CASES = [(64, 6, 1024)]  # width, depth, their networks
PEER = """
import json, sys, time, jax, neural_tangents as nt
from neural_tangents import stax
width, depth, samples = map(int, sys.argv[1:])
jax.config.update("jax_enable_x64", True)
layers = []
for _ in range(depth - 1):
    layers += [stax.Dense(width, W_std=1.1 ** 0.5), stax.Erf()]
init, apply, kernel = stax.serial(*layers, stax.Dense(1, W_std=1.1 ** 0.5))
x = jax.numpy.ones((1, 32))
mc = nt.monte_carlo_kernel_fn(init, apply, jax.random.PRNGKey(1), samples, vmap_axes=0)
mc(x, None, ("nngp", "ntk"))
start = time.perf_counter()
out = mc(x, None, ("nngp", "ntk"))
jax.block_until_ready(out.ntk)
print(json.dumps({"seconds": time.perf_counter() - start, "ntk": float(out.ntk[0, 0]),
                  "version": nt.__version__, "jax": jax.__version__}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", required=True, help="python of the other environment")
    peer_python = parser.parse_args().peer
    import torch

    import kadanoff as kd

    torch.set_num_threads(1)
    environment = os.environ | {
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
        "OMP_NUM_THREADS": "1",
        "JAX_PLATFORMS": "cpu",
    }
    rows = []
    for width, depth, samples in CASES:
        arch = kd.MLP(32, [width] * (depth - 1), 1, "erf", C_W=1.1, lambda_b=0.0, lambda_W=1.1)
        # as neural-tangents counts: λ_W = C_W in its parametrisation
        X = torch.ones(1, 32, dtype=torch.float64)
        count = 8 * samples
        times = {}
        found: Any = None
        for names in (["K", "Theta"], ["K", "Theta", "V", "A", "B", "D", "F"]):
            kd.ensemble(arch, X, 64, layers=[depth], observables=names)
            start = time.perf_counter()
            found = kd.ensemble(arch, X, count, layers=[depth], observables=names)
            times[len(names)] = (time.perf_counter() - start) / count * 1e6
        out = subprocess.run(
            [peer_python, "-c", PEER, str(width), str(depth), str(samples)],
            capture_output=True, text=True, check=True, env=environment,
        )  # fmt: skip
        peer = json.loads(out.stdout)
        theirs = peer["seconds"] / samples * 1e6
        rows.append(
            {
                "width": width, "depth": depth, "peer_us": theirs, "mean_us": times[2],
                "order_one_us": times[7], "version": peer["version"], "jax": peer["jax"],
                "peer_ntk": peer["ntk"], "ntk": float(found.Theta.value[-1]),
                "ntk_stderr": float(found.Theta.stderr[-1]),
            }
        )  # fmt: skip
        print(rows[-1], flush=True)
    write_json(RESULTS / "ensemble_peer.json", rows)
    atomic_write(RESULTS / "ensemble_peer.md", markdown(rows))


def markdown(rows: list[dict]) -> str:
    first = rows[0]
    table = [
        f"| {r['width']} | {r['depth']} | {r['peer_us']:.4g} | {r['mean_us']:.4g} "
        f"({r['peer_us'] / r['mean_us']:.3g}x) | {r['order_one_us']:.4g} "
        f"({r['peer_us'] / r['order_one_us']:.3g}x) | {r['peer_ntk']:.4g} | "
        f"{uncertain(r['ntk'], r['ntk_stderr'])} |"
        for r in rows
    ]
    return "\n".join([
        "### Beside neural-tangents' Monte Carlo (`python -m benchmarks.ensemble_peer`)",
        "",
        f"neural-tangents {first['version']} on jax {first['jax']},",
        "second call of the same function; µs a network, one input, one thread, double precision,",
        "one after the other on a machine with other load.",
        "",
        "| width | depth | theirs: mean metric, NTK | ours: the same | ours: V, A, B, D, F too | "
        "their mean NTK | ours |",
        "|---|---|---|---|---|---|---|",
        *table,
        "",
        "It returns means without standard errors; variances and correlations at order 1/n (V, A,",
        "B, D, F, P … U), checkpoints and early stops have no counterpart there. The package",
        "`ntkunlimited` is not on the package index that was tried, so it could not be run.",
        "",
    ])  # fmt: skip


if __name__ == "__main__":
    main()

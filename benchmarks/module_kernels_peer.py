"""The neural-tangents side of benchmarks.module_kernels; runs in KADANOFF_NT_PYTHON."""

import json
import os
import resource
import sys
import time

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from neural_tangents import stax  # noqa: E402

P = {"W_std": 2**0.5, "b_std": 0.1}
ATTENTION = {"W_key_std": 1.0, "W_value_std": 1.0, "W_query_std": 1.0, "W_out_std": 1.0,
             "b_std": None, "attention_mechanism": "SOFTMAX", "linear_scaling": True}  # fmt: skip


def conv(stride=1):
    return stax.Conv(1, (3, 3), (stride, stride), "SAME", **P)


def residual(*branch, short=None):
    parts = stax.parallel(stax.serial(*branch), short or stax.Identity())
    return stax.serial(stax.FanOut(2), parts, stax.FanInSum())


def network(name):
    relu = stax.Relu
    if name == "cnn":
        layers = [conv(), relu(), conv(), relu(), conv(), relu()]
    elif name == "wide resnet":
        layers = [conv()]
        for stride in (1, 2, 2):
            layers.append(residual(relu(), conv(stride), relu(), conv(), short=conv(stride)))
        layers.append(relu())
    else:
        layers = [stax.Dense(1, **P)]
        for _ in range(2):
            layers.append(residual(stax.GlobalSelfAttention(1, 1, 1, 1, **ATTENTION)))
            layers.append(residual(stax.Relu(), stax.Dense(1, **P)))
    return stax.serial(*layers, stax.GlobalAvgPool(), stax.Dense(1, **P))


def main(case):
    kernel = network(case["name"])[2]
    X = jnp.asarray(np.load(case["file"]))
    found = {}
    best = None
    for count in case["counts"]:
        f = jax.jit(lambda x: kernel(x, None, ("nngp", "ntk")))
        part = X[:count]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.process_time()
        f(part).ntk.block_until_ready()
        first, seconds = time.process_time() - start, 1e9
        for _ in range(case["repeats"]):
            start = time.process_time()
            k = f(part)
            k.ntk.block_until_ready()
            seconds = min(seconds, time.process_time() - start)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        # distinct pairs: it computes both triangles, and is asked for one
        each = seconds / (count * (count + 1) / 2)
        if best is None or each < best["each"]:
            best = {"each": each, "count": count, "seconds": seconds, "first": first,
                    "mb": peak / 1e3}  # fmt: skip
        found = {"nngp": np.asarray(k.nngp), "ntk": np.asarray(k.ntk)}
    np.savez(case["out"], **found)
    return best


if __name__ == "__main__":
    print("RESULT " + json.dumps(main(json.loads(sys.argv[1]))))

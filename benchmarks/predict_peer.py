"""The neural-tangents side of benchmarks.predict; runs in the interpreter KADANOFF_NT_PYTHON."""

import json
import os
import sys
import time

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from neural_tangents import predict, stax  # noqa: E402


def main(case):
    acts = {"relu": stax.Relu, "erf": stax.Erf}
    s = {"W_std": case["C_W"] ** 0.5, "b_std": case["C_b"] ** 0.5, "parameterization": "ntk"}
    layers = []
    for _ in range(case["hidden"]):
        layers += [stax.Dense(1, **s), acts[case["activation"]]()]
    kernel = jax.jit(stax.serial(*layers, stax.Dense(1, **s))[2], static_argnums=(2,))
    data = np.load(case["file"])
    x, y, x_test = (jnp.asarray(data[k]) for k in ("x", "y", "x_test"))
    # its loss is the mean over all entries of y, ours the sum: times differ by y.size
    t = None if case["t"] is None else case["t"] * y.size

    noise = case["noise"]

    def once():
        f = predict.gradient_descent_mse_ensemble(
            kernel, x, y, diag_reg=noise or 0.0, diag_reg_absolute_scale=True
        )
        get = "ntk" if noise is None else "nngp"
        out = f(t=t, x_test=x_test, get=get, compute_cov=True)
        out.covariance.block_until_ready()
        return out

    start = time.process_time()
    once()
    first = time.process_time() - start
    seconds = 1e9
    for _ in range(case["repeats"]):
        start = time.process_time()
        out = once()
        seconds = min(seconds, time.process_time() - start)
    np.savez(case["out"], mean=out.mean, cov=out.covariance)
    return {"first": first, "seconds": seconds}


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        print(json.dumps(main(json.load(file))))

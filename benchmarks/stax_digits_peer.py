"""Kernels of stax networks for tests/kernels/traced/stax.json.

Runs where neural-tangents 0.6.5 is: ``$KADANOFF_NT_PYTHON benchmarks/stax_digits_peer.py FILE``.
"""

import json
import sys

import jax

jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from neural_tangents import stax  # noqa: E402

W, B = 1.5**0.5, 0.1**0.5
p = {"W_std": W, "b_std": B}


def images(N=3, side=6, c=3, seed=0):
    n = N * side * side * c
    return jnp.asarray(
        np.sin(1.0 + np.arange(n) * 0.7 + np.arange(n) ** 2 * 0.013)
        .reshape(N, c, side, side)
        .transpose(0, 2, 3, 1)
    )


def rows(N=4, d=5):
    n = N * d
    return jnp.asarray(np.sin(1.0 + np.arange(n) * 0.7 + np.arange(n) ** 2 * 0.013).reshape(N, d))


def dense(*mid):
    return stax.serial(stax.Dense(1, **p), *mid, stax.Dense(1, **p))


def head(*layers):
    return stax.serial(*layers, stax.GlobalAvgPool(), stax.Dense(1, **p))


def conv(size=3, strides=(1, 1), padding="SAME"):
    return stax.Conv(1, (size, size), strides, padding, **p)


def res(*branch):
    return stax.serial(
        stax.FanOut(2), stax.parallel(stax.serial(*branch), stax.Identity()), stax.FanInSum()
    )


def wrn_block(stride=1, mismatch=False):
    main = stax.serial(stax.Relu(), conv(3, (stride, stride)), stax.Relu(), conv(3))
    short = stax.Identity() if not mismatch else conv(3, (stride, stride))
    return stax.serial(stax.FanOut(2), stax.parallel(main, short), stax.FanInSum())


nets = {
    "relu": (dense(stax.Relu()), "rows"),
    "erf": (dense(stax.Erf()), "rows"),
    "gelu": (dense(stax.Gelu()), "rows"),
    "leaky": (dense(stax.LeakyRelu(0.2)), "rows"),
    "abs": (dense(stax.Abs()), "rows"),
    "sin": (dense(stax.Sin()), "rows"),
    "cos": (dense(stax.Cos()), "rows"),
    "deep": (
        dense(stax.Relu(), stax.Dense(1, **p), stax.Erf(), stax.Dense(1, **p), stax.Relu()),
        "rows",
    ),
    "residual": (dense(res(stax.Relu(), stax.Dense(1, **p)), stax.Relu()), "rows"),
    "norm": (dense(stax.LayerNorm(), stax.Relu()), "rows"),
    "product": (
        stax.serial(
            stax.Dense(1, **p),
            stax.Relu(),
            stax.FanOut(2),
            stax.parallel(stax.Dense(1, **p), stax.serial(stax.Dense(1, **p), stax.Erf())),
            stax.FanInProd(),
            stax.Dense(1, **p),
        ),
        "rows",
    ),
    "flatten": (
        stax.serial(
            conv(),
            stax.Relu(),
            conv(3, (2, 2), "VALID"),
            stax.Relu(),
            stax.Flatten(),
            stax.Dense(1, **p),
        ),
        "images",
    ),
    "global": (head(conv(), stax.Relu(), conv(3, (2, 2), "VALID"), stax.Relu()), "images"),
    "myrtle": (
        stax.serial(
            conv(),
            stax.Relu(),
            conv(),
            stax.Relu(),
            stax.AvgPool((2, 2), (2, 2)),
            conv(),
            stax.Relu(),
            stax.AvgPool((3, 3), (3, 3)),
            stax.Flatten(),
            stax.Dense(1, **p),
        ),
        "images",
    ),
    "wrn": (head(conv(), wrn_block(1, True), wrn_block(), wrn_block(2, True)), "images"),
    "circular": (head(conv(3, (1, 1), "CIRCULAR"), stax.Relu()), "images"),
    "imagenorm": (
        head(conv(), stax.LayerNorm(axis=(1, 2, 3)), stax.Relu(), conv(), stax.Relu()),
        "images",
    ),
    "linear attention": (
        head(
            conv(),
            stax.Relu(),
            conv(),
            stax.GlobalSelfAttention(
                1,
                1,
                1,
                1,
                attention_mechanism="IDENTITY",
                linear_scaling=False,
                W_key_std=1.1,
                W_value_std=1.2,
                W_query_std=0.9,
                W_out_std=1.3,
                b_std=0.3,
            ),
            stax.Relu(),
        ),
        "images",
    ),
    "softmax attention": (
        head(
            conv(),
            stax.Relu(),
            conv(),
            stax.GlobalSelfAttention(
                1,
                1,
                1,
                1,
                attention_mechanism="SOFTMAX",
                linear_scaling=True,
                W_key_std=1.1,
                W_value_std=1.2,
                W_query_std=1.1,
                W_out_std=1.3,
                b_std=None,
            ),
            stax.Relu(),
        ),
        "images",
    ),
}
out = {}
for name, (net, kind) in nets.items():
    X = rows() if kind == "rows" else images()
    k = net[2](X, None, ("nngp", "ntk"))
    out[name] = {"inputs": kind, "nngp": np.asarray(k.nngp).tolist(),
                 "ntk": np.asarray(k.ntk).tolist()}  # fmt: skip
with open(sys.argv[1], "w", encoding="ascii") as file:
    json.dump(out, file, indent=1)

"""Skips, two-layer blocks and orthogonal weights without drawing weights: one law with drawn nets.

The drawn networks come from code of its own, the forward equation of whole layers.
"""

import itertools

import pytest
import torch
from scipy.stats import ks_2samp

import kadanoff as kd
from kadanoff.ensembles.direct import drawn_layers
from kadanoff.ensembles.dntk import whole_differential
from kadanoff.ensembles.normals import Normals
from kadanoff.ensembles.tangent import ntk, pull_node
from kadanoff.ensembles.trunk import forward
from kadanoff.errors import UsageError

X3 = torch.tensor([[1.0, 0.2, 0.5], [-0.3, 1.1, 0.4], [0.6, -0.7, 0.9]], dtype=torch.float64)
RATES = {"C_b": 0.2, "C_W": 1.3, "lambda_b": 0.5, "lambda_W": 0.8}


def network(kind, activation="tanh"):
    if kind == "orthogonal":
        return kd.MLP(3, [9, 6, 8], 3, activation, init="orthogonal", **RATES)
    block = "two_layer" if kind == "two_layer" else "single"
    return kd.Residual(
        3, 8, 2, 3, activation, gamma=[0.7, -0.5], block=block, **RATES,
        hidden=5 if block == "two_layer" else None,
        init="orthogonal" if kind == "orthogonal skip" else "gaussian",
    )  # fmt: skip


def drawn_functionals(arch, X, l, S, seed):
    for at, (z, H) in enumerate(drawn_layers(arch, X, S, Normals(seed, 0), True)):
        if at == l:
            assert H is not None
            N = len(X)
            near = H[:, :, :, :2, :2].permute(0, 3, 1, 4, 2).reshape(S, 2 * N, 2 * N)
            return z, near
    raise AssertionError("no such layer")


def implicit_functionals(arch, X, l, S, seed):
    trunk = forward(arch, X, S, Normals(seed, 0), True, l + 1)
    j, N = trunk.node(l), len(X)
    starts = torch.zeros(S, 2, trunk.z[j].shape[-1], dtype=torch.float64)
    starts[:, 0, 0] = starts[:, 1, 1] = 1.0
    samples, which = [*range(N)] * 2, [0] * N + [1] * N
    return trunk.z[j], ntk(trunk, pull_node(trunk, j, starts, which, samples), samples)


def columns(z, H):
    """Numbers of every network: two neurons' preactivations and NTK entries, as (S, k)."""
    upper = torch.triu_indices(H.shape[-1], H.shape[-1])
    return torch.cat([z[:, :, :2].flatten(1), H[:, upper[0], upper[1]]], 1)


CASES = [
    ("single", "tanh", 3), ("single", "relu", 1), ("two_layer", "gelu", 3),
    ("two_layer", "relu", 1),
    ("orthogonal", "tanh", 3), ("orthogonal", "relu", 1), ("orthogonal skip", "sin", 3),
]  # fmt: skip


@pytest.mark.parametrize("kind,activation,inputs", CASES)
def test_two_samplers_have_one_distribution(kind, activation, inputs):
    S, arch, X = 10_000, network(kind, activation), X3[:inputs]
    for l in (2, 3):
        a = columns(*implicit_functionals(arch, X, l, S, 11))
        b = columns(*drawn_functionals(arch, X, l, S, 12))
        for i in range(a.shape[1]):
            assert ks_2samp(a[:, i].numpy(), b[:, i].numpy()).pvalue > 1e-4, (l, i)
        # means and second moments
        pairs = torch.tensor([*itertools.combinations_with_replacement(range(a.shape[1]), 2)]).T
        both = [torch.cat([t, t[:, pairs[0]] * t[:, pairs[1]]], 1) for t in (a, b)]
        error = ((both[0].var(0) + both[1].var(0)) / S).sqrt()
        z = (both[0].mean(0) - both[1].mean(0)) / error
        assert z.abs().max() < 4.0, (l, int(z.abs().argmax()))
        squares = torch.cat([t.square().mean(0) for t in (b, b[:, pairs[0]] * b[:, pairs[1]])])
        assert (error < 0.04 * squares.sqrt()).all()


OBSERVABLES = [
    ("single", "tanh", 2, 8000, "G1 V Theta H1 A B D F"),
    ("single", "relu", 1, 8000, "G1 V U6 Theta H1 A B D F"),
    ("two_layer", "tanh", 2, 8000, "G1 V Theta H1 A B D F"),
    ("orthogonal", "tanh", 2, 8000, "G1 V Theta H1 A B D F"),
    ("orthogonal skip", "tanh", 1, 8000, "K V Theta H1 A B D F"),
    ("single", "gelu", 1, 2500, "P Q R S T U"),
    ("two_layer", "tanh", 1, 2500, "P Q R S T U"),
    ("orthogonal", "tanh", 1, 2500, "P Q R S T U"),
]


@pytest.mark.parametrize("kind,activation,inputs,S,names", OBSERVABLES)
def test_two_samplers_agree_on_every_observable(kind, activation, inputs, S, names):
    arch, X = network(kind, activation), X3[:inputs]
    options = {"observables": names.split(), "layers": [1, 3, 4]}
    exact = kd.ensemble(arch, X, S, seed=1, **options)
    drawn = kd.ensemble(arch, X, S, "weights", seed=2, **options)
    assert exact.names() == drawn.names()
    for name in exact.names():
        a, b = exact.values[name], drawn.values[name]
        error = (a.stderr.square() + b.stderr.square()).sqrt()
        live, gap = error > 0, (a.value - b.value).abs()
        assert (gap[live] < 4 * error[live]).all(), (name, float((gap / error)[live].max()))
        assert (gap[~live] < 1e-12).all(), name
        if name in ("G1", "H1", "U6"):
            continue  # shifts of either sign: their size says nothing of the bar
        bar = 0.03 if name in ("K", "Theta") else 0.35
        scale = b.value.flatten(1).abs().amax(1)
        assert (error[-1] < bar * scale[-1]).all(), (name, float(error[-1].max() / scale[-1]))


def test_kinks_have_no_differentials():
    found = kd.ensemble(network("single", "relu"), X3[:1], 50, observables=None)
    assert not set("PQRSTU") & set(found.names())
    assert "delta function" in found.undefined["P"]


def reference(trunk, X, top):
    """NTK and its derivatives at node ``top`` of one drawn network by nested torch.func."""
    parts, rates = [], []
    for m, op in zip(trunk.maps[: top + 1], trunk.op, strict=False):
        parts += [op.W[0], op.b[0]]
        rates += [torch.full_like(op.W[0], m.lambda_W / m.n_in).flatten(),
                  torch.full_like(op.b[0], m.lambda_b)]  # fmt: skip
    theta = torch.cat([p.flatten() for p in parts])
    rate = torch.cat(rates)

    def f(theta):
        values = [v.view_as(p) for v, p in
                  zip(theta.split([p.numel() for p in parts]), parts, strict=True)]  # fmt: skip
        z = []
        for j, m in enumerate(trunk.maps[: top + 1]):
            x = m.act(z[-1]) if j else X
            z.append(x @ values[2 * j].T + values[2 * j + 1])
            if m.gamma:
                z[-1] = z[-1] + m.gamma * z[j - m.back]
        return z[-1]

    def along(g, v):
        return lambda t: torch.func.jvp(g, (t,), (v,))[1]

    v = rate * torch.func.jacrev(f)(theta)  # input, neuron, parameter
    N = len(X)
    dH = {}
    for i, k in ((0, 0), (1, 1)):
        for b, c in itertools.product(range(N), repeat=2):
            dH[i, k, b, c] = along(along(f, v[b, i]), v[c, k])(theta)
    ddI = {
        (i, k, b, c, d): along(along(along(f, v[b, i]), v[c, k]), v[d, k])(theta)[:, i]
        for i, k in ((0, 1), (1, 0)) for b, c, d in itertools.product(range(N), repeat=3)
    }  # fmt: skip
    moved = {(a, i): along(torch.func.jacrev(f), v[a, i])(theta)
             for a in range(N) for i in (0, 1)}  # fmt: skip
    return f(theta), v, rate, dH, ddI, moved, along, f, theta


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # raised inside torch.func
@pytest.mark.parametrize("kind", ["single", "two_layer", "orthogonal"])
@pytest.mark.parametrize("l", [2, 3])
def test_derivatives_of_drawn_networks_against_autograd(kind, l):
    arch, X = network(kind), X3[:2]
    trunk = forward(arch, X, 1, Normals(3, 0), False, l + 1)
    top, N, width = trunk.node(l), 2, arch.n[l]
    z, v, rate, dH, ddI, moved, along, f, theta = reference(trunk, X, top)
    torch.testing.assert_close(trunk.z[top][0], z, atol=1e-12, rtol=0)
    n = z.shape[1]
    starts = torch.eye(n, dtype=torch.float64)[None]
    which = [i for i in range(n) for _ in range(N)]
    H = ntk(trunk, pull_node(trunk, top, starts, which, [*range(N)] * n), [*range(N)] * n)
    expected = torch.einsum("aip,bjp->iajb", v, v / rate).reshape(n * N, n * N)
    torch.testing.assert_close(H[0], expected, atol=1e-11, rtol=0)

    found = whole_differential(trunk, l, set("PQRSTU"))
    weight = width / (n - 1)
    every = range(N)
    for a, b, c, d in itertools.product(every, repeat=4):
        P = Q = R = S = T = U = 0.0
        for i, k in ((0, 1), (1, 0)):
            others = [j for j in range(n) if j != i]
            P += weight / 2 * sum(dH[i, i, b, c][a, j] * z[d, j] for j in others)
            mixed = sum(v[c, j] * z[d, j] for j in others)
            Q += weight / 2 * along(along(f, v[b, i]), mixed)(theta)[a, i]
            R += width / 2 * ddI[i, k, b, c, d][a]
            # slots 1 2 3 4, each with its neuron
            at = {"S": (i, i, k, k), "T": (i, k, i, k), "U": (i, k, k, i)}
            pair = {
                name: width / 2 * (moved[c, q[2]][a, q[0]] * rate * moved[d, q[3]][b, q[1]]).sum()
                for name, q in at.items()
            }
            S, T, U = S + pair["S"], T + pair["T"], U + pair["U"]
        slots = {"P": (a, b, c, d), "Q": (a, b, c, d), "R": (a, b, c, d), "S": (a, b, c, d),
                 "T": (a, c, d, b), "U": (a, d, b, c)}  # fmt: skip
        for name, value in zip("PQRSTU", (P, Q, R, S, T, U), strict=True):
            torch.testing.assert_close(
                found[name][(0, *slots[name])],
                value,
                atol=1e-10,
                rtol=1e-10,
                msg=lambda m, n=name: n + m,
            )


def test_uniform_weights_have_to_be_drawn():
    arch = kd.MLP(3, [8], 2, "tanh", init="uniform")
    with pytest.raises(UsageError, match="rotation"):
        kd.ensemble(arch, X3, 100)
    assert kd.ensemble(arch, X3, 100, "weights").n_networks == 100


def test_results_do_not_depend_on_workers():
    arch = network("orthogonal skip")
    options = {"seed": 3, "observables": ["V", "B"]}
    one = kd.ensemble(arch, X3[:1], 600, **options)
    two = kd.ensemble(arch, X3[:1], 600, n_jobs=2, **options)
    for name in one.names():
        assert torch.equal(one.values[name].value, two.values[name].value)

"""Weights drawn or not, by probes or by whole layers: one law."""

import itertools

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp

import kadanoff as kd
from kadanoff.ensembles.direct import (
    direct_sums,
    distinct_pairs,
    distinct_triples,
    drawn_layers,
)
from kadanoff.ensembles.limit import reference
from kadanoff.ensembles.moments import Moments
from kadanoff.ensembles.normals import Normals
from kadanoff.ensembles.plan import EnsemblePlan
from kadanoff.ensembles.run import estimates
from kadanoff.ensembles.statistics import channels
from kadanoff.ensembles.tangent import ntk, probe_rows, pull
from kadanoff.ensembles.trunk import forward
from tests.known import assert_consistent

X2 = torch.tensor([[1.0, 0.2, 0.5], [-0.3, 1.1, 0.4]], dtype=torch.float64)


def network(activation, **options):
    settings = {"C_b": 0.2, "C_W": 1.4, "lambda_b": 0.5, "lambda_W": 0.8} | options
    return kd.MLP(3, [10, 14], 2, activation, **settings)


def single_network_statistics(arch, X, S, implicit, seed):
    """Metric and NTK entries of the output layer of S networks."""
    trunk = forward(arch, X, S, Normals(seed, 0), implicit, arch.L)
    l = arch.L - 2
    w = probe_rows(trunk, l, 2)
    samples = [*range(len(X))] * 2
    H = ntk(trunk, pull(trunk, l, w.repeat_interleave(len(X), 1), samples), samples)
    z = trunk.z[-1]
    return {
        "metric": trunk.metric[-1][:, 0, -1],
        "output": z[:, 0, 0],
        "product": z[:, 0, 0] * z[:, -1, 0],
        "ntk": H[:, 0, 0],
        "ntk between inputs": H[:, 0, len(X) - 1],
        "ntk between outputs": H[:, 0, len(X)],
    }


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("inputs", [1, 2])
def test_two_samplers_have_one_distribution(activation, inputs):
    arch = network(activation)
    first = single_network_statistics(arch, X2[:inputs], 20_000, True, 1)
    second = single_network_statistics(arch, X2[:inputs], 20_000, False, 2)
    for name in first:
        result = ks_2samp(np.asarray(first[name]), np.asarray(second[name]))
        assert result.pvalue > 1e-3, (name, result)


def assert_same(exact, drawn, names, relative_error):
    """Both samplers give the same where anything fluctuates, and their error bars say something."""
    for name in names:
        a, b = exact.values[name], drawn.values[name]
        error = (a.stderr.square() + b.stderr.square()).sqrt()[1:]
        live = error > 0
        # what does not fluctuate is the same for both
        torch.testing.assert_close(a.value[1:][~live], b.value[1:][~live])
        assert_consistent(
            b.value[1:][live], a.value[1:][live], error[live], relative_error=relative_error
        )


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_two_samplers_agree_on_every_observable(activation):
    arch = network(activation)
    exact = kd.ensemble(arch, X2, 4000, "exact", seed=1)
    drawn = kd.ensemble(arch, X2, 4000, "weights", seed=2)
    assert exact.names() == drawn.names()
    assert_same(exact, drawn, set(exact.names()) - {"G1", "H1"}, relative_error=0.12)


@pytest.mark.parametrize(("activation", "C_W"), [("tanh", 4.0), ("relu", 1.4)])
def test_two_samplers_agree_on_what_width_does_to_the_means(activation, C_W):
    """G1 and H1 are differences from infinite width, small beside the spread of one network:
    they take more networks, and weights at which they are large."""
    arch = network(activation, C_W=C_W)
    names = ["G1", "H1"]
    exact = kd.ensemble(arch, X2, 60_000, "exact", seed=1, observables=names)
    drawn = kd.ensemble(arch, X2, 60_000, "weights", seed=2, observables=names)
    assert_same(exact, drawn, names, relative_error=0.2)


def test_whole_layers_agree_with_probes():
    arch = network("tanh")
    X = X2[:1]
    exact = kd.ensemble(arch, X, 12_000, seed=3, observables=[*"VABDF", "Theta"])
    ref = reference(arch, X)
    names = frozenset(exact.names())
    plan = EnsemblePlan(arch, X, ref, names, frozenset({1}), "direct", 4, 0)
    moments = Moments()
    need = channels(set(names), 1)
    for block in range(64):
        sums = direct_sums(arch, X, ref, 256, Normals(9, block), set(need), {1})
        moments.add(256, {k: plan._stack(k, v) for k, v in sums.items()})
    direct = estimates(plan, moments)
    for name in names - {"K", "G1"}:
        a, b = exact.values[name], direct[name]
        error = (a.stderr[1] ** 2 + b.stderr[1] ** 2).sqrt()
        assert abs(a.value[1] - b.value[1]).max() < 4 * error.max(), name
        assert error.max() < 0.4 * a.value[1].abs().max(), name


@pytest.mark.parametrize("kind", ["single", "two_layer", "orthogonal"])
def test_forward_equation_against_autograd(kind):
    if kind == "orthogonal":
        arch = kd.MLP(3, [4, 6], 2, "tanh", C_b=0.2, C_W=1.1, init="orthogonal")
    else:
        arch = kd.Residual(3, 5, 2, 2, "gelu", gamma=0.6, C_b=0.2, C_W=1.1, lambda_b=0.7,
                           block=kind, hidden=4 if kind == "two_layer" else None)  # fmt: skip
    drawn = []
    import kadanoff.ensembles.direct as direct

    original = direct._maps

    def remember(*arguments):
        maps = [(W.requires_grad_(), b.requires_grad_()) for W, b in original(*arguments)]
        drawn.append(maps)
        return maps

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(direct, "_maps", remember)
        layers = list(drawn_layers(arch, X2, 1, Normals(2, 0), True))
    for l, (z, H) in enumerate(layers):
        used = [(i, p) for i, maps in enumerate(drawn[: l + 1]) for pair in maps for p in pair]
        rows = [
            torch.autograd.grad(value, [p for _, p in used], retain_graph=True,
                                materialize_grads=True)
            for value in z.reshape(-1)
        ]  # fmt: skip
        total = 0
        for j, (i, p) in enumerate(used):
            rate = arch.lambda_b[i] if p.ndim == 2 else arch.lambda_W[i] / p.shape[-1]
            J = torch.stack([row[j].reshape(-1) for row in rows])
            total = total + rate * J @ J.T
        n = z.shape[-1]
        expected = total.view(2, n, 2, n).permute(0, 2, 1, 3)
        torch.testing.assert_close(H[0].detach(), expected, atol=1e-12, rtol=0)


def test_uniform_weights_are_uniform():
    # one input of width one: z is uniform and Var z² = 0.8 K², against 2 K² for Gaussian weights
    X = torch.ones(1, 1, dtype=torch.float64)
    for init, expected in (("gaussian", 2.0), ("uniform", 0.8)):
        arch = kd.MLP(1, [10], 2, "linear", C_W=1.0, init=init)
        found = kd.ensemble(arch, X, 20_000, "weights", observables=["V"])
        assert_consistent(
            expected, found.V.value[1].squeeze(), found.V.stderr[1].squeeze(), relative_error=0.03
        )


def test_module_factory_agrees_with_description():
    arch = kd.MLP(3, [8], 4, "tanh", C_b=0.2, C_W=1.4)

    def factory(seed):
        g = torch.Generator().manual_seed(seed)
        (W1, b1), (W2, b2) = arch.draw(g)
        net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 4))
        net = net.double()
        with torch.no_grad():
            for p, value in zip(net.parameters(), (W1, b1, W2, b2), strict=True):
                p.copy_(value)
        return net

    X = X2[:1]
    names = ["K", "Theta", "V", "A", "B", "D", "F"]
    state = torch.random.get_rng_state()
    module = kd.ensemble(factory, X, 1500, observables=names, width=8, seed=1)
    assert torch.equal(state, torch.random.get_rng_state())
    exact = kd.ensemble(arch, X, 20_000, observables=names, seed=2)
    for name in names:
        a, b = module.values[name], exact.values[name]
        gap = (a.value[-1] - b.value[-1]).squeeze()
        error = (a.stderr[-1] ** 2 + b.stderr[-1] ** 2).sqrt().squeeze()
        assert abs(gap) < 4 * error, name
        assert error < 0.6 * abs(b.value[-1].squeeze()), name


def test_means_over_distinct_neurons_by_enumeration():
    g = torch.Generator().manual_seed(0)
    v = torch.randn(3, 5, generator=g, dtype=torch.float64)
    each = [v[:, i] * v[:, j] * v[:, k] for i, j, k in itertools.permutations(range(5), 3)]
    assert torch.isclose(distinct_triples(v), torch.stack(each).mean(0).sum())
    assert torch.isnan(distinct_triples(v[:, :2]))
    a, b = torch.randn(2, 3, 5, 2, 2, generator=g, dtype=torch.float64)
    each = [
        torch.einsum("sab,scd->abcd", a[:, i], b[:, k])
        for i, k in itertools.permutations(range(5), 2)
    ]
    torch.testing.assert_close(distinct_pairs(a, b), torch.stack(each).mean(0))
    assert torch.isnan(distinct_pairs(a[:, :1], b[:, :1])).all()

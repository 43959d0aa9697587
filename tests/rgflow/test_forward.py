"""Forward equations of NTK, dNTK and ddNTK against automatic differentiation."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

import kadanoff as kd
from kadanoff.errors import UsageError
from kadanoff.rgflow.forward import forward_layers, forward_ntk

LAMBDA_B, LAMBDA_W = (0.5, 0.3, 0.7), (0.8, 1.1, 0.6)


class _Smooth:
    """Derivatives of any torch function by repeated automatic differentiation."""

    def __init__(self, f):
        self.f = f

    def __call__(self, z):
        return self.f(z)

    def derivative(self, k):
        def g(z):
            z = z.detach().requires_grad_(True)
            y = self.f(z)
            for _ in range(k):
                (y,) = torch.autograd.grad(y.sum(), z, create_graph=True)
            return y.detach()

        return g


def _arch(n, f, gamma=0.0):
    L = len(n) - 1
    skip = tuple(gamma if 0 < l < L - 1 else 0.0 for l in range(L))
    return SimpleNamespace(
        hidden=None, L=L, n=tuple(n), gamma=skip,
        activations=tuple(_Smooth(f) for _ in range(L - 1)),
        C_b=(0.2, 0.1, 0.3)[:L], C_W=(1.3, 1.1, 0.9)[:L],
        lambda_b=LAMBDA_B[:L], lambda_W=LAMBDA_W[:L],
    )  # fmt: skip


def _draw(arch, seed):
    g = torch.Generator().manual_seed(seed)
    out = []
    for l in range(arch.L):
        W = torch.randn(arch.n[l + 1], arch.n[l], generator=g, dtype=torch.float64)
        b = torch.randn(arch.n[l + 1], generator=g, dtype=torch.float64)
        out.append((W * (arch.C_W[l] / arch.n[l]) ** 0.5, b * arch.C_b[l] ** 0.5))
    return out


def _autograd(weights, X, arch, f):
    def net(maps):
        z = None
        for l in range(len(weights)):
            new = maps(l, X.T if z is None else f(z))
            z = new + arch.gamma[l] * z if arch.gamma[l] else new
        return z

    return _derivatives(weights, range(len(weights)), arch, net)


def _derivatives(weights, layers, arch, run):
    """NTK, dNTK, ddNTKs from Jacobians of the whole network with respect to all parameters.

    ``run`` calls maps(k, x) for W_k x + b_k; ``layers`` says whose learning rates a map has.
    """
    flat = torch.cat([t.reshape(-1) for pair in weights for t in pair])
    rates = torch.cat(
        [
            torch.full((t.numel(),), rate, dtype=torch.float64)
            for l, (W, b) in zip(layers, weights)
            for t, rate in ((W, arch.lambda_W[l] / W.shape[1]), (b, arch.lambda_b[l]))
        ]
    )
    sizes = [W.numel() + b.numel() for W, b in weights]

    def net(theta):
        parts = theta.split(sizes)

        def maps(k, x):
            W = weights[k][0]
            return parts[k][: W.numel()].reshape(W.shape) @ x + parts[k][W.numel() :, None]

        return run(maps)

    jac = torch.func.jacrev(net)
    hess = torch.func.jacrev(jac)
    d1 = jac(flat)  # (n, N, P)
    d2 = hess(flat)
    d3 = torch.func.jacrev(hess)(flat)
    H = torch.einsum("iap,jbp,p->ijab", d1, d1, rates)
    v = d1 * rates
    dH = torch.einsum("iapq,jbp,kcq->ijkabc", d2, v, v)
    t = torch.einsum("iapqr,jbp->iajbqr", d3, v)
    t = torch.einsum("iajbqr,kcq->iajbkcr", t, v)
    ddI = torch.einsum("iajbkcr,ldr->ijklabcd", t, v)
    h = torch.einsum("iapq,kcq->iakcp", d2, v)
    ddII = torch.einsum("iakcp,jbldp,p->ijklabcd", h, h, rates)
    return H, dH, ddI, ddII


@pytest.mark.parametrize("gamma", [0.0, 0.6])
@pytest.mark.parametrize("f", [torch.tanh, torch.sin, torch.nn.functional.gelu])
def test_forward_equations_equal_automatic_differentiation(f, gamma):
    n = [2, 3, 3, 2] if gamma else [2, 2, 3, 2]
    arch = _arch(n, f, gamma)
    X = torch.tensor([[1.2, 0.3], [-0.5, 1.1]], dtype=torch.float64)
    weights = _draw(arch, seed=1)
    got = forward_ntk(weights, X, arch, order=2)
    for a, b in zip((got.H, got.dH, got.ddI, got.ddII), _autograd(weights, X, arch, f)):
        assert a.shape == b.shape
        assert (a - b).abs().max() < 1e-12


@pytest.mark.parametrize("gamma", [0.0, 0.6])
def test_forward_equations_of_two_layer_blocks_equal_automatic_differentiation(gamma):
    arch = kd.Residual(
        2, 2, 1, 2, "sin", gamma=gamma, C_b=0.2, C_W=1.3, lambda_b=[0.5, 0.3, 0.7],
        lambda_W=[0.8, 1.1, 0.6], block="two_layer", hidden=3,
    )  # fmt: skip
    X = torch.tensor([[1.2, 0.3], [-0.5, 1.1]], dtype=torch.float64)
    weights = arch.draw(torch.Generator().manual_seed(1))
    got = forward_ntk(weights, X, arch, order=2)

    def net(maps):
        z = maps(0, X.T)
        z = maps(2, torch.sin(maps(1, z))) + gamma * z
        return maps(3, torch.sin(z))

    for a, b in zip(
        (got.H, got.dH, got.ddI, got.ddII), _derivatives(weights, (0, 1, 1, 2), arch, net)
    ):
        assert a.shape == b.shape
        assert (a - b).abs().max() < 1e-12


def test_a_batch_of_networks_equals_one_at_a_time():
    arch = _arch([2, 3, 4, 2], torch.tanh)
    X = torch.tensor([[1.2, 0.3], [-0.5, 1.1]], dtype=torch.float64)
    nets = [_draw(arch, seed) for seed in range(3)]
    stacked = [
        (torch.stack([net[l][0] for net in nets]), torch.stack([net[l][1] for net in nets]))
        for l in range(3)
    ]
    batch = forward_ntk(stacked, X, arch, order=2)
    for k, net in enumerate(nets):
        one = forward_ntk(net, X, arch, order=2)
        for name in ("z", "metric", "H", "dH", "ddI", "ddII"):
            torch.testing.assert_close(
                getattr(batch, name)[k], getattr(one, name), rtol=1e-12, atol=1e-13
            )


def test_layers_come_in_order_and_first_layer_has_no_curvature():
    arch = _arch([2, 3, 4, 2], torch.tanh)
    X = torch.eye(2, dtype=torch.float64)
    layers = list(forward_layers(_draw(arch, 0), X, arch, order=1))
    assert [s.layer for s in layers] == [1, 2, 3]
    assert layers[0].dH is not None
    assert not layers[0].dH.any()
    assert layers[-1].ddI is None


@pytest.mark.parametrize(
    "change, message",
    [
        ({"order": 3}, "order must be"),
        ({"X": torch.zeros(2, 5, dtype=torch.float64)}, "X must have shape"),
        ({"drop": True}, "pairs for this architecture"),
    ],
)
def test_wrong_calls_are_explained(change, message):
    arch = _arch([2, 3, 4, 2], torch.tanh)
    weights = _draw(arch, 0)
    X = change.get("X", torch.eye(2, dtype=torch.float64))
    with pytest.raises(UsageError, match=message):
        forward_ntk(weights[:-1] if "drop" in change else weights, X, arch, change.get("order", 0))

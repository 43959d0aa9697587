"""Directional derivatives of drawn networks against the forward equations of whole tensors."""

import dataclasses
import importlib

import pytest
import torch

import kadanoff as kd
from kadanoff.ensembles.normals import Normals
from kadanoff.ensembles.tangent import ntk, pull
from kadanoff.ensembles.trunk import forward
from kadanoff.rgflow import forward_ntk

module = importlib.import_module("kadanoff.ensembles.dntk")


@pytest.fixture(params=["tanh", "gelu"])
def drawn(request):
    arch = kd.MLP(
        3, [4, 5], 2, request.param, C_b=0.3, C_W=[1.2, 1.5, 1.1], lambda_b=[0.5, 0.7, 0.9],
        lambda_W=[0.8, 1.1, 1.3],
    )  # fmt: skip
    X = Normals(7, 0).normal(2, 3)
    trunk = forward(arch, X, 2, Normals(3, 0), False, 2)
    w = Normals(5, 0).normal(2, 2, 5) * 0.4
    weights = [(op.W, op.b) for op in trunk.op]
    return arch, X, trunk, w, weights


def whole(drawn, order):
    """Tensors of the network whose last map has the probes, then C_W σ_c/n, as rows."""
    arch, X, trunk, w, weights = drawn
    rows = torch.cat([w, trunk.s[1] * arch.C_W[2] / 5], 1)
    last = (rows, torch.zeros(2, rows.shape[1], dtype=torch.float64))
    arch = dataclasses.replace(arch, n=(*arch.n[:-1], rows.shape[1]))
    return forward_ntk([*weights, last], X, arch, order=order)


def test_ntk_of_probes(drawn):
    trunk, w = drawn[2:4]
    samples = [0, 1, 0, 1]
    starts = w.repeat_interleave(2, 1)
    H = ntk(trunk, pull(trunk, 1, starts, samples), samples).view(2, 2, 2, 2, 2)
    H = H + torch.einsum("ik,sab->siakb", torch.eye(2).double(), trunk.direct[2])
    expected = whole(drawn, 0).H[:, :2, :2].permute(0, 1, 3, 2, 4)
    torch.testing.assert_close(H, expected, atol=1e-12, rtol=0)


def test_differential_of_probes(drawn, monkeypatch):
    trunk, w = drawn[2:4]
    monkeypatch.setattr(module, "probe_rows", lambda *_: w)
    found = module.differential(trunk, 1, set("PQRSTU"))
    full = whole(drawn, 2)
    n = 5
    i, k = [0, 1], [1, 0]
    # rows 2, 3 stand for i3 with its preactivation integrated out: σ of inputs 0 and 1
    P = n * torch.stack([full.dH[:, 2 + c, k, k].mean(1) for c in (0, 1)], -1)
    torch.testing.assert_close(found["P"], P, atol=1e-12, rtol=0)
    Q = n * torch.stack([full.dH[:, i, i, 2 + c].mean(1) for c in (0, 1)], -1)
    torch.testing.assert_close(found["Q"], Q, atol=1e-12, rtol=0)
    R = n * full.ddI[:, i, i, k, k].mean(1)
    torch.testing.assert_close(found["R"], R, atol=1e-11, rtol=0)
    S = n * full.ddII[:, i, i, k, k].mean(1)
    torch.testing.assert_close(found["S"], S, atol=1e-11, rtol=0)
    T = n * full.ddII[:, i, k, i, k].mean(1).permute(0, 1, 3, 4, 2)
    torch.testing.assert_close(found["T"], T, atol=1e-11, rtol=0)
    U = n * full.ddII[:, i, k, k, i].mean(1).permute(0, 1, 4, 2, 3)
    torch.testing.assert_close(found["U"], U, atol=1e-11, rtol=0)

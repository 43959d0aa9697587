"""Exact priors against mpmath, closed forms, reference densities and sampled networks."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import torch
from scipy import integrate, stats

import kadanoff as kd
from kadanoff.errors import UsageError
from kadanoff.priors import edgeworth, exact

H = np.array([0.01, 0.1, 0.5, 1, 2, 3, 5])


@pytest.mark.parametrize(
    ("widths", "name", "density"),
    [
        ((1,), "linear",
         [1.50281887, .772560065, .294251729, .134016241, .0362535457, .0110579277, .00117491309]),
        ((5,), "linear",
         [.474449083, .468753202, .368386641, .210705356, .0468178201, .0081796692, 1.8200724e-4]),
        ((100,), "linear",
         [.401945126, .399899299, .353426416, .240726057, .0533470671, .00475066715, 3.788984e-6]),
        ((5,), "relu",
         [.807864921, .590452924, .325582619, .166842984, .0426711597, .0104883243, .000587519663]),
        ((10,), "relu",
         [.53924849, .505445195, .361133504, .199969516, .0462960088, .00881803066, .000238872353]),
    ],
)  # fmt: skip
def test_reference_densities(widths, name, density) -> None:
    assert exact(widths, name).pdf(H) == pytest.approx(density, rel=2e-7)


@pytest.mark.parametrize("widths", [(3,), (5, 5), (2, 7, 4)])
@pytest.mark.parametrize("m", [1, 3])
def test_linear_density_is_the_meijer_function(widths, m) -> None:
    prior = exact(widths, "linear", n_out=m, kappa=0.7)
    d = len(widths) + 1
    for r in (0.03, 0.8, 6.0, 40.0):
        with mpmath.workdps(30):
            z = mpmath.mpf(r) ** 2 / (2**d * mpmath.mpf(0.7) ** 2)
            g = mpmath.meijerg([[], []], [[0] + [mpmath.mpf(n - m) / 2 for n in widths], []], z)
            front = (2**d * mpmath.pi * mpmath.mpf(0.7) ** 2) ** (-mpmath.mpf(m) / 2)
            p = front * g / mpmath.fprod(mpmath.gamma(mpmath.mpf(n) / 2) for n in widths)
            expected = float(mpmath.log(p))
        assert float(prior.logpdf(r)) == pytest.approx(expected, rel=1e-11, abs=1e-10)


@pytest.mark.parametrize("name", ["linear", "relu", "leaky_relu(0.3)"])
@pytest.mark.parametrize("widths", [(4,), (3, 6), (10, 2, 5)])
def test_law_of_drawn_networks(name, widths) -> None:
    """Weights drawn, networks run: distribution function within the Kolmogorov–Smirnov band."""
    prior, rng, size = exact(widths, name), np.random.default_rng(5), 60_000
    slope = prior.slope
    h = np.ones((size, 1))
    for n in widths:
        h = np.einsum("si,sij->sj", h, rng.standard_normal((size, h.shape[1], n)))
        h = np.where(h > 0, h, slope * h)
    out = prior.kappa * np.einsum("si,si->s", h, rng.standard_normal(h.shape))
    zeros = float((out == 0).mean())
    assert abs(zeros - prior.atom) <= 4 * math.sqrt(prior.atom / size) + 1e-12
    for sample in (out, prior.rvs(size, seed=1)):
        points = np.quantile(sample[sample != 0], np.linspace(0.01, 0.99, 41))
        empirical = np.array([(sample <= point).mean() for point in points])
        assert np.abs(empirical - prior.cdf(points)).max() < 1.95 / math.sqrt(size)


@pytest.mark.parametrize("name", ["linear", "relu", "leaky_relu(0.2)"])
def test_density_distribution_and_quantiles_fit(name) -> None:
    prior = exact([4, 6], name)
    for low, high in ((0.2, 1.0), (1.0, 7.0)):
        mass = integrate.quad(lambda x: float(prior.pdf(x)), low, high, epsabs=1e-13)[0]
        assert mass == pytest.approx(float(prior.cdf(high) - prior.cdf(low)), rel=1e-9)
    q = np.array([1e-9, 0.02, 0.3, 0.9, 1 - 1e-6])
    assert prior.cdf(prior.ppf(q)) == pytest.approx(q, rel=1e-9)
    assert float(prior.ppf(0.5)) == pytest.approx(0.0, abs=1e-9)


def test_far_tails_keep_relative_accuracy() -> None:
    """One hidden layer of two units has the density exp(−|h|/κ)/(2κ), at any distance."""
    prior = exact([2], "linear", kappa=1.0)
    h = np.array([0.5, 30.0, 600.0, 1e4])
    assert prior.logpdf(h) == pytest.approx(-h - math.log(2), rel=1e-11)
    assert float(np.log(prior.sf_norm(50.0))) == pytest.approx(-50.0, rel=1e-10)


@pytest.mark.parametrize("name", ["linear", "relu", "leaky_relu(0.3)"])
def test_cumulants_are_those_of_the_flow(name) -> None:
    widths = [6, 9]
    prior = exact(widths, name)
    A2 = (1 + prior.slope**2) / 2
    nu = 3 * (1 + prior.slope**4) / 2 / A2**2 - 1
    assert prior.moment(2) == pytest.approx(1.0, rel=1e-12)
    exact_k4 = 3 * (math.prod(1 + nu / n for n in widths) - 1)
    assert prior.cumulant(4) == pytest.approx(exact_k4, rel=1e-10)
    wide = exact([200, 300], name)
    arch = kd.MLP(1, [200, 300], 1, name, C_W=1 / A2)
    flow = kd.flow(arch, [[math.sqrt(A2)]], order=1)
    vertex = float(flow.V[-1, 0, 0, 0, 0]) / 300
    assert wide.cumulant(4) / 3 == pytest.approx(vertex, rel=0.02)


def test_characteristic_function() -> None:
    q = np.array([0.1, 1.0, 5.0])
    prior = exact([5], "linear", kappa=0.6)
    assert prior.characteristic(q) == pytest.approx((1 + 0.36 * q**2) ** -2.5, rel=1e-11)
    relu = exact([3, 4], "relu")
    value = integrate.quad(lambda x: 2 * float(relu.pdf(x)) * math.cos(1.3 * x), 0, 60, limit=400)
    assert float(relu.characteristic(1.3)) == pytest.approx(value[0] + relu.atom, abs=1e-7)


def test_log_prob_is_differentiable() -> None:
    prior = exact([4, 3], "relu")
    h = torch.tensor([0.3, -1.2, 4.0], dtype=torch.float64, requires_grad=True)
    kappa = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(prior.log_prob, (h, kappa))
    assert prior.log_prob(h).tolist() == pytest.approx(prior.logpdf(h.detach().numpy()).tolist())


def test_edgeworth_converges_order_by_order() -> None:
    x = np.linspace(0.01, 5, 200)
    errors = {}
    for n in (100, 400):
        prior = exact([n], "linear")
        errors[n] = [np.abs(edgeworth(prior, x, k) - prior.pdf(x)).max() for k in (0, 1, 2)]
    slopes = [math.log(errors[100][k] / errors[400][k]) / math.log(4) for k in (0, 1, 2)]
    assert slopes == pytest.approx([1, 2, 3], abs=0.12)


def test_wide_priors_are_gaussian() -> None:
    prior = exact([20_000], "linear")
    assert prior.pdf(H) == pytest.approx(stats.norm.pdf(H), rel=0.01)


def test_refusals() -> None:
    with pytest.raises(UsageError, match="not for tanh"):
        exact([3], "tanh")
    with pytest.raises(UsageError, match="whole numbers >= 1, got 0"):
        exact([3, 0], "relu")

"""Exact priors against mpmath, closed forms, reference densities and sampled networks."""

from __future__ import annotations

import itertools
import math

import mpmath
import numpy as np
import pytest
import torch
from scipy import integrate, stats

import kadanoff as kd
from kadanoff.errors import UsageError
from kadanoff.priors import edgeworth, exact, near_gaussian, of_network

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
        assert float(prior.logpdf(r, radial=True)) == pytest.approx(expected, rel=1e-11, abs=1e-10)


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
    for sample in (out, prior.rvs(size, 1)):
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


def meijer(widths, m: int, kappa, r) -> mpmath.mpf:
    """Density of the linear network by a Meijer function, in the current precision."""
    d, kappa = len(widths) + 1, mpmath.mpf(kappa)
    z = mpmath.mpf(r) ** 2 / (2**d * kappa**2)
    g = mpmath.meijerg([[], []], [[0] + [mpmath.mpf(n - m) / 2 for n in widths], []], z)
    front = (2**d * mpmath.pi * kappa**2) ** (-mpmath.mpf(m) / 2)
    return front * g / mpmath.fprod(mpmath.gamma(mpmath.mpf(n) / 2) for n in widths)


def relu_mixture(widths, m: int, kappa, r) -> mpmath.mpf:
    total = mpmath.mpf(0)
    for on in itertools.product(*(range(1, n + 1) for n in widths)):
        weight = mpmath.fprod(
            mpmath.binomial(n, k) / mpmath.mpf(2) ** n for n, k in zip(widths, on)
        )
        total += weight * meijer(on, m, kappa, r)
    return total


@pytest.mark.parametrize(
    ("law", "name", "widths", "m"),
    [(meijer, "linear", (), 1), (meijer, "linear", (1,), 1), (meijer, "linear", (5, 5), 3),
     (meijer, "linear", (100, 50, 100), 1), (relu_mixture, "relu", (4,), 1),
     (relu_mixture, "relu", (2, 3), 1), (relu_mixture, "relu", (2, 3), 3)],
)  # fmt: skip
def test_relative_accuracy_in_bulk_and_deep_tails(law, name, widths, m) -> None:
    """To 1e-10 of the density itself, from 1e-30 to 200 standard deviations."""
    prior = exact(widths, name, n_out=m, kappa=0.7)
    unit = prior.kappa * math.sqrt(math.prod(widths))
    for distance in (1e-30, 1e-4, 0.03, 0.8, 3.0, 40.0, 200.0):
        if distance == 200.0 and widths and max(widths) > 4:
            continue  # mpmath needs minutes
        r = distance * unit
        with mpmath.workdps(40):
            expected = mpmath.log(law(widths, m, 0.7, r))
            gap = abs(float(mpmath.mpf(float(prior.logpdf(r, radial=True))) - expected))
        # the last bit of ln p itself is all that may be added
        assert gap < 1e-10 + 4e-16 * abs(float(expected)), (distance, gap)


@pytest.mark.parametrize("slope", [0.01, 0.3])
def test_leaky_density_is_the_mellin_integral(slope) -> None:
    """Slope α by mpmath: the layer's moment is a binomial sum of ₂F₁."""
    n, alpha, r = 3, mpmath.mpf(slope), mpmath.mpf(2)
    prior = exact([n], f"leaky_relu({slope})", kappa=1.0)

    def moment(a):
        gamma, half = mpmath.gamma, mpmath.mpf(1) / 2
        layer = sum(
            mpmath.binomial(n, k)
            / 2**n
            * (mpmath.hyp2f1(-a / 2, (n - k) * half, n * half, 1 - alpha**2))
            for k in range(n + 1)
        )
        one = 2 ** (a / 2) * gamma((1 + a) / 2) / gamma(half)
        return one * 2 ** (a / 2) * gamma((n + a) / 2) / gamma(n * half) * layer

    with mpmath.workdps(16):
        integral = mpmath.quad(
            lambda t: mpmath.re(moment(1 + 1j * t) * r ** (-1 - 1j * t)), [0, 6, 18]
        )
        expected = float(integral / mpmath.pi / (2 * r))
    assert float(prior.pdf(2.0)) == pytest.approx(expected, rel=1e-10)


def test_far_tails_keep_relative_accuracy() -> None:
    """One hidden layer of two units has the density exp(−|h|/κ)/(2κ), at any distance."""
    prior = exact([2], "linear", kappa=1.0)
    h = np.array([0.5, 30.0, 600.0, 1e4])
    assert prior.logpdf(h) == pytest.approx(-h - math.log(2), rel=1e-11)
    assert float(np.log(2 * prior.sf(50.0))) == pytest.approx(-50.0, rel=1e-10)


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
    assert prior.cf(q) == pytest.approx((1 + 0.36 * q**2) ** -2.5, rel=1e-11)
    relu = exact([3, 4], "relu")
    value = integrate.quad(lambda x: 2 * float(relu.pdf(x)) * math.cos(1.3 * x), 0, 60, limit=400)
    assert float(relu.cf(1.3)) == pytest.approx(value[0] + relu.atom, abs=1e-7)


def test_log_prob_is_differentiable() -> None:
    prior = exact([4, 3], "relu")
    h = torch.tensor([0.3, -1.2, 4.0], dtype=torch.float64, requires_grad=True)
    kappa = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(prior.log_prob, (h, kappa))
    assert prior.log_prob(h).tolist() == pytest.approx(prior.logpdf(h.detach().numpy()).tolist())


@pytest.mark.parametrize("n", [1, 2, 5, 40])
@pytest.mark.parametrize("slope", [0.01, 0.9])
def test_leaky_moments_at_all_tilts_and_heights(n, slope) -> None:
    """What densities are made of, from the pole to the deepest tail and along the contour."""
    from kadanoff.priors.mellin import LogMoment

    layer = LogMoment((n,), 1, slope)
    for a in (-0.9, 1.0, 30.0, 1e3, 10 + 30j, -0.5 + 60j, 1e3 + 100j):
        with mpmath.workdps(25):
            total = mpmath.mpf(2) ** -n * (1 + mpmath.mpf(slope) ** a)
            for k in range(1, n):
                half, ways = mpmath.mpf(n - k) / 2, mpmath.binomial(n, k) / mpmath.mpf(2) ** n
                lost = 1 - mpmath.mpf(slope) ** 2
                total += ways * mpmath.hyp2f1(-mpmath.mpmathify(a) / 2, half, n / 2, lost)
            gamma = mpmath.loggamma((n + mpmath.mpmathify(a)) / 2) - mpmath.loggamma(n / 2)
            expected = a / 2 * mpmath.log(2) + gamma + mpmath.log(total)
            found = mpmath.mpmathify(complex(layer.layer(n, np.array([complex(a)]))[0]))
            assert abs(mpmath.expm1(found - expected)) < 1e-10, a


def test_distribution_functions_are_differentiable() -> None:
    """The slope of the distribution function is the density, for one output and for norms."""
    for prior in (exact([4, 3], "relu"), exact([5], "linear", n_out=3)):
        h = torch.tensor([0.03, 0.6, 2.5], dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(prior.cdf(h).sum(), h)
        shell = 1.0 if prior.m == 1 else 4 * math.pi * h.detach() ** 2
        assert slope.tolist() == pytest.approx(
            (prior.pdf(h.detach(), radial=True) * shell).tolist(), rel=1e-9
        )
        assert torch.autograd.gradcheck(prior.logsf, h)
    assert torch.autograd.gradgradcheck(exact([3], "relu").logpdf, h)


@pytest.mark.parametrize(
    ("prior", "peer"),
    [(exact([], "linear", kappa=1.3), stats.norm(scale=1.3)),
     (exact([2], "linear", kappa=0.8), stats.laplace(scale=0.8)),
     (exact([], "linear", n_out=3, kappa=0.5), stats.maxwell(scale=0.5))],
    ids=["normal", "laplace", "maxwell"],
)  # fmt: skip
def test_interface_of_scipy(prior, peer) -> None:
    """Known laws under the names that scipy uses."""
    x = np.array([1e-6, 0.3, 1.0, 4.0])
    x = np.concatenate([-x, x]) if prior.m == 1 else x
    for name in ("cdf", "sf", "logsf", "logcdf"):
        # scipy takes ln(1 − small) of one tail where we do not
        assert getattr(prior, name)(x) == pytest.approx(getattr(peer, name)(x), rel=1e-9, abs=1e-15)
    q = np.array([0.0, 1e-12, 0.03, 0.5, 0.8, 1.0])
    assert prior.ppf(q) == pytest.approx(peer.ppf(q), rel=1e-10, abs=1e-9)
    assert prior.isf(q) == pytest.approx(peer.isf(q), rel=1e-10, abs=1e-9)
    assert prior.median() == pytest.approx(peer.median(), abs=1e-12)
    assert prior.interval(0.9) == pytest.approx(peer.interval(0.9), rel=1e-11)
    assert prior.support() == peer.support()
    assert prior.rvs((3, 2), 1).shape == ((3, 2) if prior.m == 1 else (3, 2, 3))
    if prior.m == 1:
        assert prior.pdf(x) == pytest.approx(peer.pdf(x), rel=1e-12)
        assert prior.stats("mvsk") == pytest.approx(
            tuple(map(float, peer.stats("mvsk"))), abs=1e-12
        )
        assert [prior.moment(k) for k in range(7)] == pytest.approx(
            [peer.moment(k) if k else 1.0 for k in range(7)], rel=1e-8, abs=1e-8
        )
        assert prior.entropy() == pytest.approx(float(peer.entropy()), rel=1e-10)
        assert prior.expect(np.cos) == pytest.approx(float(prior.cf(1.0)), rel=1e-10)
    else:
        assert prior.expect(lambda r: r) == pytest.approx(peer.mean(), rel=1e-12)


def test_distribution_with_an_atom_and_several_outputs() -> None:
    prior = exact([2, 3], "relu", n_out=2)
    assert prior.atom == pytest.approx(1 - 0.75 * 0.875, rel=1e-15)
    assert float(prior.cdf(0.0)) == pytest.approx(prior.atom, rel=1e-14)
    assert float(prior.cdf(-1.0)) == 0.0
    q = np.array([0.1, prior.atom + 1e-9, 0.6, 1 - 1e-10])
    r = prior.ppf(q)
    assert r[0] == 0
    assert prior.cdf(r)[1:] == pytest.approx(q[1:], rel=1e-13)
    assert float(prior.pdf([3.0, -4.0])) == pytest.approx(float(prior.pdf(5.0, radial=True)))
    with pytest.raises(UsageError, match=r"shape \(..., 2\), got \(3,\)"):
        prior.pdf([1.0, 2.0, 3.0])
    # the density integrates to the rest of the law

    def ring(r: float) -> float:
        return 2 * math.pi * r * float(prior.pdf(r, radial=True))

    mass = integrate.quad(ring, 0.5, 3, epsabs=1e-13)[0]
    assert mass == pytest.approx(float(prior.cdf(3.0) - prior.cdf(0.5)), rel=1e-10)
    assert prior.expect(lambda r: r**2) == pytest.approx(2 * prior.var(), rel=1e-10)
    single = exact([2, 3], "relu")
    assert single.ppf([0.5 - 0.49 * single.atom, 0.5]).tolist() == [0, 0]
    with pytest.raises(UsageError, match="atom"):
        single.entropy()


def test_value_at_zero() -> None:
    prior = exact([4, 7], "linear", kappa=0.3)
    front = math.prod(
        math.gamma((n - 1) / 2) / (math.sqrt(2) * math.gamma(n / 2)) for n in prior.widths
    )
    assert float(prior.pdf(0.0)) == pytest.approx(front / (0.3 * math.sqrt(2 * math.pi)), rel=1e-13)
    assert float(exact([1], "linear").pdf(0.0)) == math.inf
    assert float(exact([4, 7], "relu").pdf(0.0)) == math.inf


def test_cumulants_do_not_cancel() -> None:
    """κ₆ of a wide network is 1/n²: twelve digits below the moments it is made of."""
    n = 1_000_000
    prior = exact([n], "linear")
    third = 15 * ((1 + 6 / n + 8 / n**2) - 3 * (1 + 2 / n) + 2)
    assert prior.cumulants(6)[3] == pytest.approx(6 / n, rel=1e-13)
    assert prior.cumulant(6) == pytest.approx(15 * 8 / n**2, rel=1e-12)
    assert abs(third / (120 / n**2) - 1) > 1e-6  # what floating point makes of it


@pytest.mark.parametrize("name", ["relu", "linear", "leaky_relu(0.3)"])
def test_prior_of_a_described_network(name) -> None:
    arch = kd.MLP(3, [8, 5], 2, name, C_W=[1.2, 1.7, 0.9])
    x = [0.4, -1.0, 2.0]
    prior = of_network(arch, x)
    K = float(kd.flow(arch, [x]).K[-1, 0, 0])
    assert prior.var() == pytest.approx(K, rel=1e-12)
    assert (prior.widths, prior.m) == ((8, 5), 2)
    with pytest.raises(UsageError, match="C_b = 0"):
        of_network(kd.MLP(3, [8], 1, name, C_b=0.1), x)


def test_near_gaussian_law_of_drawn_networks() -> None:
    """tanh with biases, two outputs: no exact prior, yet order by order nearer to samples."""
    arch = kd.MLP(1, [6, 6], 2, "tanh", C_W=2.0, C_b=0.05)
    rng, S = np.random.default_rng(1), 400_000
    h = np.ones((S, 1))
    for layer, (n_in, n_out) in enumerate(((1, 6), (6, 6), (6, 2))):
        W = rng.standard_normal((S, n_out, n_in), dtype=np.float32) * math.sqrt(2.0 / n_in)
        b = rng.standard_normal((S, n_out), dtype=np.float32) * math.sqrt(0.05)
        h = np.einsum("sij,sj->si", W, h if layer == 0 else np.tanh(h)) + b
    r = np.linalg.norm(h, axis=1)
    edges = np.linspace(0.2, 2.6, 7)
    count = np.histogram(r, edges)[0]
    share, error = count / S, np.sqrt(count) / S
    miss = []
    for order in (0, 1, 2):

        def density(x, order=order):
            return 2 * math.pi * x * near_gaussian(arch, [[1.0]], x, order, radial=True)

        mass = [
            float(integrate.fixed_quad(density, a, b, n=8)[0]) for a, b in itertools.pairwise(edges)
        ]
        miss.append(np.abs(np.array(mass) - share) / error)
    assert (share / error).min() > 100
    assert miss[0].max() > 2.5 * miss[1].max() > 2.5 * miss[2].max()
    assert miss[2].max() < 8  # order 1/n³ is left: a few thousandths at width 6


def test_edgeworth_converges_order_by_order() -> None:
    x = np.linspace(0.01, 5, 200)
    errors = {}
    for n in (100, 400):
        prior = exact([n], "linear")
        errors[n] = [np.abs(edgeworth(prior, x, k) - prior.pdf(x)).max() for k in (0, 1, 2)]
    slopes = [math.log(errors[100][k] / errors[400][k]) / math.log(4) for k in (0, 1, 2)]
    assert slopes == pytest.approx([1, 2, 3], abs=0.12)


@pytest.mark.parametrize("name", ["linear", "relu"])
def test_edgeworth_is_the_hermite_series(name) -> None:
    n, x = 50, np.linspace(-3, 3, 13)
    prior = exact([n, 2 * n], name)
    c, s3 = (2, 8) if name == "linear" else (5, 44)
    he = [np.polynomial.hermite_e.HermiteE.basis(k)(x) for k in range(9)]
    first = 3 * c * (1 / n + 1 / (2 * n)) * he[4] / 24
    gauss = stats.norm.pdf(x)
    assert edgeworth(prior, x, 1) == pytest.approx(gauss * (1 + first), rel=1e-10)
    k4 = 3 * ((1 + c / n) * (1 + c / (2 * n)) - 1)
    # κ₆ = 15 κ₃(Ĝ), and κ₃ = s₃ Σ ε² + 6 c² ε₁ε₂ to order 1/n²
    k6 = 15 * (s3 * (1 / n**2 + 1 / (4 * n**2)) + 6 * c**2 / (2 * n**2))
    lead = 3 * c * (1 / n + 1 / (2 * n))
    second = k4 * he[4] / 24 + k6 * he[6] / 720 + lead**2 * he[8] / 1152
    assert edgeworth(prior, x, 2) == pytest.approx(gauss * (1 + second), rel=1e-10)


def test_edgeworth_for_several_outputs() -> None:
    x = np.linspace(0.1, 4, 60)
    error = []
    for n in (100, 400):
        prior = exact([n, n], "linear", n_out=3)
        error.append(
            [
                np.abs(edgeworth(prior, x, k, radial=True) - prior.pdf(x, radial=True)).max()
                for k in (0, 1, 2)
            ]
        )
    slopes = np.log(np.array(error[0]) / error[1]) / math.log(4)
    assert slopes == pytest.approx([1, 2, 3], abs=0.15)


def test_wide_priors_are_gaussian() -> None:
    prior = exact([20_000], "linear")
    assert prior.pdf(H) == pytest.approx(stats.norm.pdf(H), rel=0.01)


def test_refusals() -> None:
    with pytest.raises(UsageError, match="not for tanh"):
        exact([3], "tanh")
    with pytest.raises(UsageError, match="whole numbers >= 1, got 0"):
        exact([3, 0], "relu")

"""Every number against an exact one."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, hessian, jacrev

from kadanoff.watching.edge import Edge, rule_of
from kadanoff.watching.film import Film, Frame
from kadanoff.watching.growth import doubling
from kadanoff.watching.loop import Watch
from kadanoff.watching.regime import Regime
from tests.watching.runs import Attention, classes, mlp, train


def flat_hessian(model, loss):
    """All second derivatives of a loss, in the order of the parameters."""
    names = [name for name, _ in model.named_parameters()]
    start = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    shapes = [p.shape for p in model.parameters()]

    def of(flat):
        parts, at = {}, 0
        for name, shape in zip(names, shapes):
            parts[name] = flat[at : at + shape.numel()].view(shape)
            at += shape.numel()
        return loss(functional_call(model, parts, (X,)))

    return hessian(of)(start)


X, Y = classes(samples=24, width=4, count=3)


def tiny(seed=0):
    return nn.Sequential(*mlp(seed, width=6, n_in=4, n_out=3)).double()


@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov", "adam", "rmsprop", "two rates"])
def test_sharpness_is_the_largest_eigenvalue_of_the_preconditioned_hessian(name):
    global X
    X = X.double()
    model = tiny()
    p = list(model.parameters())
    optimizer = {
        "sgd": lambda: torch.optim.SGD(p, lr=0.05),
        "momentum": lambda: torch.optim.SGD(p, lr=0.05, momentum=0.9),
        "nesterov": lambda: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
        "adam": lambda: torch.optim.Adam(p, lr=0.01),
        "rmsprop": lambda: torch.optim.RMSprop(p, lr=0.01),
        "two rates": lambda: torch.optim.SGD(
            [{"params": p[:2], "lr": 0.01}, {"params": p[2:], "lr": 0.1}], lr=0.1
        ),
    }[name]()
    for _ in range(5):
        optimizer.zero_grad()
        F.cross_entropy(model(X), Y).backward()
        optimizer.step()
    rule = rule_of([optimizer], p)
    assert rule is not None
    found = Edge().measure(lambda: F.cross_entropy(model(X), Y), p, rule, iterations=300)
    assert found is not None
    roots = []
    for q in p:
        state = optimizer.state.get(q, {})
        scale = torch.ones_like(q)
        if name == "adam":
            scale = (state["exp_avg_sq"] / (1 - 0.999**5)).sqrt() + 1e-8
        if name == "rmsprop":
            scale = state["square_avg"].sqrt() + 1e-8
        if name == "two rates" and any(q is small for small in p[:2]):
            scale = scale * 10  # a tenth of the rate
        roots.append((1 / scale).sqrt().reshape(-1))
    root = torch.cat(roots).detach()
    H = flat_hessian(model, lambda z: F.cross_entropy(z, Y))
    exact = torch.linalg.eigvalsh(root[:, None] * H * root).max()
    assert found.value == pytest.approx(float(exact), rel=1e-3)
    limits = {"momentum": 3.8, "nesterov": 3.8 / 2.8, "adam": 38.0}
    assert found.edge == pytest.approx(limits.get(name, 2.0) / optimizer.param_groups[-1]["lr"])


def test_the_edge_is_where_descent_runs_away():
    """Of a quadratic loss: below it the loss falls, above it it grows."""
    scales = torch.tensor([1.0, 3.0, 10.0])
    for momentum in (0.0, 0.9):
        model = nn.Linear(3, 1, bias=False).double()
        value = lambda m=model: (m.weight.square() * scales).sum() / 2  # noqa: E731
        found = Edge().measure(value, list(model.parameters()), None, 200)
        assert found is not None
        assert found.value == pytest.approx(10, rel=1e-4)
        edge = 2 * (1 + momentum) / found.value
        for factor, falls in ((0.97, True), (1.03, False)):
            nn.init.ones_(model.weight)
            optimizer = torch.optim.SGD(model.parameters(), lr=factor * edge, momentum=momentum)
            start = value().item()
            for _ in range(600):
                optimizer.zero_grad()
                value().backward()
                optimizer.step()
            assert (value().item() < start) is falls


def test_gradient_noise_is_unbiased():
    """tr Σ and |G|² over random batches against the sums over all samples; |z| < 4."""
    x, y = classes(samples=2048, width=6)
    model = mlp(n_in=6, width=8)
    parameters = list(model.parameters())

    def gradient(a, b):
        found = torch.autograd.grad(F.cross_entropy(model(a), b), parameters)
        return torch.cat([g.reshape(-1) for g in found])

    each = torch.stack([gradient(x[i : i + 1], y[i : i + 1]) for i in range(2048)])
    mean = each.mean(0)
    exact = {
        "gradient_variance": float((each - mean).square().sum(1).mean()),
        "gradient_squared": float(mean.square().sum()),
    }
    seen = {name: [] for name in exact}
    g = torch.Generator().manual_seed(0)
    for _ in range(400):
        rows = torch.randint(0, 2048, (16,), generator=g)
        frame = Frame(0)
        w = Watch(model, (x[rows], y[rows]), samples=32)
        w._probe._gradients(model, frame)
        for name in exact:
            seen[name].append(frame.scalars[name])
    for name, value in exact.items():
        found = torch.tensor(seen[name]).double()
        error = float(found.std()) / math.sqrt(len(found))
        assert error < 0.2 * value
        assert abs(float(found.mean()) - value) < 4 * error, name


def test_sharpness_is_no_negative_curvature():
    """The largest eigenvalue where the most negative one is larger."""
    model = nn.Linear(3, 1, bias=False).double()
    scales = torch.tensor([-10.0, 1.0, 4.0])
    edge, found = Edge(), None
    for _ in range(60):
        found = edge.measure(
            lambda: (model.weight.square() * scales).sum() / 2, list(model.parameters()), None, 2
        )
    assert found is not None
    assert found.value == pytest.approx(4, rel=1e-3)


class Square(nn.Module):
    """f(w) = (w·x)², whose second order is known."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([1.0, 2.0]))

    def forward(self, x):
        return (x @ self.w).square()[:, None]


def regime_of(model, x, change):
    def run(m, parameters):
        return m(x) if parameters is None else functional_call(m, dict(parameters), (x,))

    regime = Regime()
    regime.begin(model)
    first = regime.measure(model, run, run)
    with torch.no_grad():
        change(model)
    return first, regime.measure(model, run, run)


def test_a_linear_model_stays_in_the_kernel_regime():
    model = nn.Linear(5, 3)
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    first, later = regime_of(model, x, lambda m: m.weight.mul_(3))
    assert first["kernel_radii"] == first["moved"] == first["ntk_drift"] == 0
    assert later["kernel_radii"] < 1e-4
    assert later["ntk_drift"] < 1e-6
    assert later["moved"] > 1


@pytest.mark.parametrize("step", [0.1, 1.0])
def test_distance_and_drift_of_a_square(step):
    """Along δ: second order (δ·x)² over first order 2(w·x)(δ·x); Θ = 4(w·x)²(x·x')."""
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    delta = step * torch.tensor([1.0, 0.5])
    w = torch.tensor([1.0, 2.0])
    _, later = regime_of(Square(), x, lambda m: m.w.add_(delta))
    second, first = (x @ delta).square(), 2 * (x @ w) * (x @ delta)
    assert later["kernel_radii"] == pytest.approx(float(second.norm() / first.norm()), rel=0.02)

    def theta(w):
        return 4 * (x @ w)[:, None] * (x @ x.T) * (x @ w)

    drift = (theta(w + delta) - theta(w)).norm() / theta(w).norm()
    assert later["ntk_drift"] == pytest.approx(float(drift), rel=1e-4)


def test_drift_is_that_of_the_whole_jacobian():
    model = mlp(width=8, n_in=4, n_out=1)
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    names = dict(model.named_parameters())

    def kernel():
        found = jacrev(lambda p: functional_call(model, p, (x,))[:, 0])(dict(names))
        J = torch.cat([j.detach().flatten(1) for j in found.values()], 1)
        return J @ J.T

    before = kernel()
    _, later = regime_of(model, x, lambda m: [p.mul_(1.3) for p in m.parameters()])
    exact = (kernel() - before).norm() / before.norm()
    assert later["ntk_drift"] == pytest.approx(float(exact), rel=1e-4)


def test_wide_nets_are_lazier():
    """The distance in kernel radii falls as 1/n.

    The second order of f along the steps of gradient descent is a sum of n terms of size n^(-3/2)
    with the signs of the readout weights: 1/n, as the dNTK's effect on a trained network.
    """

    def distance(width, seed):
        # NTK parametrisation: the output moves by order one while each weight moves by 1/√n
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                g = torch.Generator().manual_seed(seed)
                self.a = nn.Parameter(torch.randn(width, 8, generator=g))
                self.b = nn.Parameter(torch.randn(1, width, generator=g))

            def forward(self, x):
                return torch.tanh(x @ self.a.T / 8**0.5) @ self.b.T / width**0.5

        x, _ = classes(samples=32, width=8)
        y = x[:, :1].sign()
        model = Net()
        w = train(
            model,
            (x, y),
            torch.optim.SGD(model.parameters(), lr=0.5),
            60,
            batch=32,
            loss=F.mse_loss,
            thorough=True,
            every=60,
        )
        return w.film.frames[-1].scalars["kernel_radii"]

    narrow = torch.tensor([distance(32, s) for s in range(4)]).log()
    wide = torch.tensor([distance(2048, s) for s in range(4)]).log()
    slope = (narrow.mean() - wide.mean()) / math.log(64)
    error = ((narrow.var() + wide.var()) / 4).sqrt() / math.log(64)
    assert error < 0.1
    assert abs(float(slope) - 1) < 4 * float(error)


def test_attention_logits_and_entropy():
    """Against the scores themselves, written out and fused."""
    model = Attention()
    x = torch.randn(4, 6, 8, generator=torch.Generator().manual_seed(0))
    h = model.inner(x)
    scores = model.query(h) @ model.key(h).mT / 4
    weights = scores.softmax(-1)
    entropy = -(weights * weights.log()).sum(-1).mean() / math.log(6)
    fused = Attention()
    fused.forward = lambda x: fused.readout(  # type: ignore[method-assign]
        F.scaled_dot_product_attention(
            *(f(fused.inner(x)) for f in (fused.query, fused.key, fused.value))
        ).mean(1)
    )
    for one in (model, fused):
        frame = Frame(0)
        w = Watch(one, x)
        w._probe.look(one, frame)
        assert list(frame.layers["max_logit"].values()) == pytest.approx(
            [scores.abs().max().item()]
        )
        assert list(frame.layers["entropy"].values()) == pytest.approx([entropy.item()], rel=1e-4)


def test_later_looks_agree_with_the_first():
    """The cheap way of looking gives the numbers of the thorough one."""
    model, data = mlp(), classes()
    w = Watch(model, data, loss=F.cross_entropy)
    first, later = Frame(0), Frame(1)
    w._probe.look(model, first)
    w._probe.look(model, later)
    assert first.scalars == pytest.approx(later.scalars)
    for signal, values in first.layers.items():
        assert values == pytest.approx(later.layers[signal]), signal


def test_doubling_times():
    steps = list(range(0, 800, 100))
    exact = doubling(steps, [3 * 2 ** (s / 90) for s in steps])
    assert exact is not None
    assert exact.steps == pytest.approx(90)
    assert exact.until(3 * 2 ** (1100 / 90)) == pytest.approx(400)
    g = torch.Generator().manual_seed(0)
    # pure noise is no growth: at four standard errors, never in 300 tries
    noise = torch.randn(300, 8, generator=g).exp()
    assert sum(doubling(steps, row.tolist()) is not None for row in noise) <= 3
    # and the error says how far off a fit of noisy growth is
    off = []
    for row in 0.1 * torch.randn(200, 8, generator=g):
        found = doubling(steps, [2 ** (s / 90 + e) for s, e in zip(steps, row.tolist())])
        off.append((found.steps - 90) / found.stderr)
    assert 0.7 < torch.tensor(off).std() < 2.0
    assert doubling([1, 2], [1.0, 2.0]) is None
    assert doubling(steps, [math.nan] * 8) is None


def test_a_film_survives_being_written(tmp_path):
    model = mlp()
    w = train(model, classes(), torch.optim.SGD(model.parameters(), lr=50.0), 60)
    w.film.save(tmp_path / "film.json")
    again = Film.load(tmp_path / "film.json")
    assert again.to_dict() == w.film.to_dict()
    assert [e.finding.sentence for e in again.events] == [e.finding.sentence for e in w.film.events]

"""The empirical NTK against explicit Jacobians."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, jacrev, vmap

from kadanoff.errors import AnalysisError, DataError, UsageError
from kadanoff.kernels import empirical_ntk, ntk_vector_product


class Mixed(nn.Module):
    """Embedding tied to the readout, LayerNorm, a module used twice, a free parameter."""

    def __init__(self):
        super().__init__()
        self.e, self.ln, self.l = nn.Embedding(11, 8), nn.LayerNorm(8), nn.Linear(8, 8)
        self.g = nn.Parameter(torch.randn(8))

    def forward(self, t):
        h = self.e(t)
        h = h + torch.tanh(self.l(self.ln(h)))
        h = h + F.linear(h, self.l.weight) * self.g
        return F.linear(h.mean(1), self.e.weight)


class Twice(nn.Module):
    """A convolution used twice."""

    def __init__(self):
        super().__init__()
        self.c, self.l = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4 * 25, 3)

    def forward(self, x):
        return self.l(torch.tanh(self.c(torch.tanh(self.c(x)))).flatten(1))


def mlp():
    return nn.Sequential(nn.Linear(7, 20), nn.Tanh(), nn.Linear(20, 20), nn.ReLU(inplace=True),
                         nn.Linear(20, 3))  # fmt: skip


def cnn():
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1, stride=2), nn.BatchNorm2d(6), nn.ReLU(),
        nn.Conv2d(6, 8, (3, 2), padding="same", groups=2, dilation=(1, 2)), nn.Tanh(),
        nn.Flatten(), nn.Linear(8 * 16, 4),
    )  # fmt: skip


def sequence():
    return nn.Sequential(nn.Linear(5, 30), nn.Tanh(), nn.Linear(30, 30, bias=False), nn.GELU(),
                         nn.Flatten(), nn.Linear(90, 2))  # fmt: skip


CASES = {
    "mlp": (mlp, lambda g: torch.randn(9, 7, generator=g).double()),
    "cnn": (cnn, lambda g: torch.randn(5, 2, 8, 8, generator=g).double()),
    "twice": (Twice, lambda g: torch.randn(5, 4, 5, 5, generator=g).double()),
    "mixed": (Mixed, lambda g: torch.randint(0, 11, (6, 5), generator=g)),
    "sequence": (sequence, lambda g: torch.randn(6, 3, 5, generator=g).double()),
}


def explicit(model, X1, X2):
    values = {k: p.detach() for k, p in model.named_parameters()}

    def f(p, x):
        return functional_call(model, p, (x[None],)).reshape(-1)

    J1, J2 = (vmap(jacrev(f), (None, 0))(values, X) for X in (X1, X2))
    return sum(torch.einsum("aop,bqp->aboq", J1[k].flatten(2), J2[k].flatten(2)) for k in values)


@pytest.fixture(params=CASES)
def case(request):
    make, data = CASES[request.param]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = make().double().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1, generator=torch.Generator().manual_seed(2))
            module.running_var.uniform_(0.5, 2, generator=torch.Generator().manual_seed(3))
    return model, data(torch.Generator().manual_seed(4))


def test_equals_explicit_jacobian(case):
    model, X = case
    expected = explicit(model, X, X[:4])
    size = float(expected.abs().max())
    full = empirical_ntk(model, X, X[:4], "full")
    assert float((full - expected).abs().max()) < 1e-13 * size
    own = torch.diagonal(expected, dim1=2, dim2=3)
    assert float((empirical_ntk(model, X, X[:4], "diagonal") - own).abs().max()) < 1e-13 * size
    assert float((empirical_ntk(model, X, X[:4]) - own.mean(2)).abs().max()) < 1e-13 * size


def test_blocks_and_symmetry(case):
    model, X = case
    whole = empirical_ntk(model, X, X, "full")
    each = empirical_ntk(model, X[:1], None, "full").numel()
    seen = []
    parts = empirical_ntk(
        model, X, None, "full", memory=400_000, progress=lambda i, n: seen.append((i, n))
    )
    assert each
    assert float((whole - parts).abs().max()) < 1e-13 * float(whole.abs().max())
    assert len(seen) >= 1


def test_vector_product(case):
    model, X = case
    theta = explicit(model, X, X[:4])
    v = torch.randn(4, theta.shape[-1], generator=torch.Generator().manual_seed(0)).double()
    expected = torch.einsum("aboq,bq->ao", theta, v)
    found = ntk_vector_product(model, X, X[:4], v, block=3)
    assert float((found - expected).abs().max()) < 1e-12 * float(expected.abs().max())


def test_frozen_parameters_do_not_count():
    model, X = mlp(), torch.randn(3, 7, generator=torch.Generator().manual_seed(0))
    for p in model[:4].parameters():
        p.requires_grad_(False)
    h = model[:4](X)
    expected = h @ h.T + 1
    assert torch.allclose(empirical_ntk(model, X), expected, rtol=1e-5)


def test_refusals():
    X = torch.randn(3, 7, generator=torch.Generator().manual_seed(0))
    with pytest.raises(UsageError, match="training mode"):
        empirical_ntk(nn.Sequential(nn.Linear(7, 3), nn.BatchNorm1d(3)), X)
    with pytest.raises(UsageError, match="requires_grad"):
        empirical_ntk(nn.ReLU(), X)
    with pytest.raises(DataError, match="at least one"):
        empirical_ntk(mlp(), X[:0])
    with pytest.raises(AnalysisError, match="bytes"):
        empirical_ntk(mlp(), X, memory=100)

    class Mixing(nn.Module):
        def __init__(self):
            super().__init__()
            self.l = nn.Linear(7, 3)

        def forward(self, x):
            y = self.l(x)
            return y * y.mean(0)

    with pytest.raises(AnalysisError, match="influence each other"):
        empirical_ntk(Mixing(), X)


@pytest.mark.parametrize("outputs", ["trace", "diagonal", "full"])
def test_any_budget_gives_the_same_matrix(case, outputs):
    model, X = case
    whole = empirical_ntk(model, X, X[:3], outputs)
    alone = empirical_ntk(model, X[:3], None, outputs)
    largest = max(p.numel() for p in model.parameters())
    # from one parameter and output at a time up to several samples
    budgets = (24, 200) if outputs == "full" else (8, 24, 200)
    for memory in (8 * largest * budget for budget in budgets):
        parts = empirical_ntk(model, X, X[:3], outputs, memory=memory)
        assert float((whole - parts).abs().max()) < 1e-12 * float(whole.abs().max())
        parts = empirical_ntk(model, X[:3], None, outputs, memory=memory)
        assert float((alone - parts).abs().max()) < 1e-12 * float(whole.abs().max())


class Named(nn.Module):
    """Called with two named inputs; returns a dict with logits of several positions."""

    def __init__(self):
        super().__init__()
        self.embed, self.number = nn.Embedding(11, 6), nn.Linear(3, 6)
        self.out = nn.Linear(6, 4)

    def forward(self, tokens, number):
        h = self.embed(tokens) + self.number(number)[:, None]
        return {"loss": h.mean(), "logits": self.out(torch.tanh(h))}


def test_named_and_positional_inputs_and_dicts_of_outputs():
    g = torch.Generator().manual_seed(0)
    model = Named().double()
    tokens = torch.randint(11, (5, 7), generator=g)
    number = torch.randn(5, 3, generator=g).double()

    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, x):
            return self.model(tokens[x[:, 0].long()], number[x[:, 0].long()])["logits"]

    expected = empirical_ntk(Plain(), torch.arange(5.0).double()[:, None], None, "full")
    assert expected.shape == (5, 5, 28, 28)
    for inputs in ({"tokens": tokens, "number": number}, (tokens, number), [tokens, number]):
        found = empirical_ntk(model, inputs, None, "full")
        assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)
        v = torch.randn(5, 28, generator=torch.Generator().manual_seed(1)).double()
        product = ntk_vector_product(model, inputs, None, v)
        wanted = torch.einsum("abop,bp->ao", expected, v).view(product.shape)
        assert torch.allclose(product, wanted, rtol=1e-10, atol=1e-10)
    with pytest.raises(DataError, match="4 and 5 samples"):
        empirical_ntk(model, (tokens[:4], number))
    with pytest.raises(DataError, match="got str"):
        empirical_ntk(model, "tokens")
    with pytest.raises(DataError, match="cannot take an input of shape"):
        empirical_ntk(model, {"tokens": tokens, "numbers": number})


def test_the_budget_is_kept(monkeypatch):
    """What is held at once, counted where it is made."""
    from kadanoff.kernels import empirical

    held = []
    make = empirical.jacobian

    def counted(*args):
        block = make(*args)
        held.append(block.bytes)
        return block

    monkeypatch.setattr(empirical, "jacobian", counted)
    torch.manual_seed(0)
    # 40 positions of 50 outputs: the Jacobian of one sample written out takes 97 MB
    model = nn.Sequential(nn.Embedding(50, 64), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 50))
    tokens = torch.randint(50, (3, 40), generator=torch.Generator().manual_seed(1))
    trace = empirical_ntk(model, tokens, memory=8_000_000)
    assert 2 * max(held) <= 8_000_000
    assert torch.allclose(trace, empirical_ntk(model, tokens), rtol=1e-4)

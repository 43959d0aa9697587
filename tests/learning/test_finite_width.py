"""Order 1/n at the end of training: converged values, limits, and networks trained for real."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from kadanoff.architecture import MLP
from kadanoff.data import load
from kadanoff.errors import DataError, UsageError
from kadanoff.learning import predict
from kadanoff.learning.correction import extrapolate, measure_correction, network_ntk
from kadanoff.learning.finite_width import TERMS, end_of_training
from kadanoff.learning.finite_width_cov import COV_TERMS, covariance_terms
from kadanoff.learning.response import prepare
from kadanoff.learning.tensors import output_tensors
from kadanoff.learning.trained import draw_batch, outputs
from tests.known import assert_consistent
from tests.learning.brute import two_layer_tanh

X = torch.tensor([[1.2, 0.3], [-0.5, 1.1], [0.6, 1.0]], dtype=torch.float64)
Y = 2 * torch.tensor([[1.0, -0.7], [0.4, 0.8]], dtype=torch.float64).mT
SETUP = {"C_b": 0.3, "C_W": 1.5, "lambda_b": 0.3, "lambda_W": 0.9}
# theory folder, section 2.14: each term at the test point, two outputs, L = 2
GOLDEN = {
    0.29305709: {
        "kernel": (0.52490925, 1.28073869),
        "Delta_H": (0.05797, 0.22270),
        "dH": (-0.22129, -0.22172),
        "ddI": (1.16552, 1.74784),
        "ddII": (-0.43867, -0.85965),
        "H1": (0.0, 0.0),
        "total": (0.563527, 0.889159),
    },
    0.70333701: {
        "dH": (-0.23468, -0.26062),
        "ddI": (1.08591, 1.50904),
        "ddII": (-0.09165, -0.08288),
        "total": (0.817549, 1.388229),
    },
}


@pytest.fixture(scope="module")
def tensors():
    return two_layer_tanh(X, **SETUP)


@pytest.mark.parametrize("eta", sorted(GOLDEN))
def test_converged_values(tensors, eta):
    found = end_of_training(tensors, Y, eta=eta)
    have = {"kernel": found.kernel, "total": found.coefficient, **found.terms}
    for name, want in GOLDEN[eta].items():
        digits = 5e-9 if name == "kernel" else 6e-7 if name == "total" else 6e-6
        error = (have[name][0] - torch.tensor(want, dtype=torch.float64)).abs().max()
        assert error < digits, name


def test_blocks_give_the_same(tensors):
    whole = end_of_training(tensors, Y, eta=0.3)
    parts = end_of_training(tensors, Y, eta=0.3, block=1)
    torch.testing.assert_close(whole.coefficient, parts.coefficient)


def test_small_step_is_gradient_flow(tensors):
    flow = end_of_training(tensors, Y).coefficient
    gaps = [
        (end_of_training(tensors, Y, eta=e).coefficient - flow).abs().max() for e in (1e-3, 5e-4)
    ]
    assert gaps[0] < 2e-3
    assert abs(float(gaps[0] / gaps[1]) - 2) < 0.05  # first order in the step


def test_training_points_get_no_correction(tensors):
    for algorithm in ("gradient", "giant_leap"):
        test_is_train = _reindexed(tensors, [0, 1, 0])
        found = end_of_training(test_is_train, Y, eta=0.4, algorithm=algorithm)
        assert found.coefficient.abs().max() < 1e-11
        torch.testing.assert_close(found.kernel[0], Y[0])


def test_giant_leap_drops_the_algorithm_terms(tensors):
    leap = end_of_training(tensors, Y, algorithm="giant_leap")
    flow = end_of_training(tensors, Y)
    assert leap.terms["ddII"].abs().max() < 1e-12
    torch.testing.assert_close(leap.terms["Delta_H"], flow.terms["Delta_H"])
    assert (leap.coefficient - flow.coefficient).abs().min() > 0.05  # algorithms do differ


def test_order_of_training_points_does_not_matter(tensors):
    swapped = end_of_training(_reindexed(tensors, [1, 0, 2]), Y.flip(0), eta=0.5)
    torch.testing.assert_close(
        swapped.coefficient, end_of_training(tensors, Y, eta=0.5).coefficient
    )


@pytest.mark.slow
def test_sixty_four_points_hide_two_and_give_their_answer(tensors):
    """Two points that are coupled to the test point, and 62 that are coupled to nothing, in a
    basis in which all 64 mix: training knows no basis, so the answer is that of the two."""
    g = torch.Generator().manual_seed(0)
    n_train, n_all = 64, 66
    rotation = torch.linalg.qr(torch.randn(n_train, n_train, generator=g, dtype=torch.float64))[0]
    # columns: where the two training points and the test point of the small problem lie
    place = torch.zeros(n_all, 3, dtype=torch.float64)
    place[:n_train, :2] = rotation[:, :2]
    place[n_train, 2] = 1.0
    rest = torch.eye(n_all, dtype=torch.float64) - place @ place.mT
    big = SimpleNamespace(
        K=place @ tensors.K @ place.mT + rest,
        Theta=place @ tensors.Theta @ place.mT + rest,
        H1=place @ tensors.H1 @ place.mT,
    )
    for name in "ABPQRSTU":
        spread = torch.einsum("abcd,la->lbcd", getattr(tensors, name), place)
        spread = torch.einsum("lbcd,mb->lmcd", spread, place)
        spread = torch.einsum("lmcd,nc->lmnd", spread, place)
        setattr(big, name, torch.einsum("lmnd,od->lmno", spread, place))
    others = torch.randn(n_train - 2, 2, generator=g, dtype=torch.float64)
    y = rotation @ torch.cat([Y, others])

    small = end_of_training(tensors, Y, eta=0.3)
    found = end_of_training(big, y, eta=0.3)
    assert small.coefficient.abs().min() > 0.1
    torch.testing.assert_close(found.coefficient[0], small.coefficient[0])
    torch.testing.assert_close(found.kernel[0], small.kernel[0])
    # the second test point is coupled to nothing
    assert found.coefficient[1].abs().max() < 1e-10
    assert found.kernel[1].abs().max() < 1e-12


def test_bad_calls(tensors):
    with pytest.raises(UsageError, match="diverges"):
        end_of_training(tensors, Y, eta=1.3)
    with pytest.raises(UsageError, match="algorithm"):
        end_of_training(tensors, Y, algorithm="adam")
    with pytest.raises(DataError, match="singular"):
        end_of_training(_reindexed(tensors, [0, 0, 2]), Y)


def test_network_ntk_is_that_of_autograd():
    arch = MLP(3, [5, 4], 2, "tanh", **SETUP)
    weights = draw_batch(arch, 1, torch.Generator().manual_seed(0))
    x = torch.randn(3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    leaves = [p.requires_grad_() for pair in weights for p in pair]
    z = outputs(arch, [(leaves[2 * l], leaves[2 * l + 1]) for l in range(3)], x)[-1].flatten()
    rates = [r for l in range(3) for r in (arch.lambda_W[l] / arch.n[l], arch.lambda_b[l])]
    rows = [torch.autograd.grad(out, leaves, retain_graph=True) for out in z]
    jac = torch.stack(
        [torch.cat([(g * r**0.5).flatten() for g, r in zip(row, rates)]) for row in rows]
    )
    detached = [(W.detach(), b.detach()) for W, b in weights]
    torch.testing.assert_close(network_ntk(arch, detached, x)[0], jac @ jac.mT)


def test_covariance_is_symmetric_and_vanishes_where_training_fixes_the_output(tensors):
    for algorithm in ("gradient", "giant_leap"):
        terms = covariance_terms(tensors, Y, eta=0.4, algorithm=algorithm)
        for name, value in terms.items():
            torch.testing.assert_close(value, value.permute(1, 0, 3, 2), msg=name)
        pinned = covariance_terms(
            _reindexed(tensors, [0, 1, 0]), Y, eta=0.4, algorithm=algorithm, block=1
        )
        assert max(float(v.abs().max()) for v in pinned.values()) < 1e-10


def test_covariance_does_not_know_the_names_of_outputs_and_points(tensors):
    whole = covariance_terms(tensors, Y, eta=0.4)
    swapped = covariance_terms(_reindexed(tensors, [1, 0, 2]), Y.flip(0).flip(1), eta=0.4)
    for name, value in whole.items():
        torch.testing.assert_close(swapped[name].flip(0, 1), value)
    # an orthogonal mixture of the outputs is as good a set of outputs
    angle = torch.tensor(0.7, dtype=torch.float64)
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()]).reshape(2, 2)
    turned = covariance_terms(tensors, Y @ turn.mT, eta=0.4)
    for name, value in whole.items():
        torch.testing.assert_close(
            turned[name], torch.einsum("pi,ijab,qj->pqab", turn, value, turn), msg=name
        )


@pytest.mark.parametrize("n_train", [1, 2])
def test_covariance_by_all_output_indices(tensors, n_train):
    """Each term once more from its definition, with the indices of outputs written out."""
    g = torch.Generator().manual_seed(n_train)
    y = torch.randn(n_train, 3, generator=g, dtype=torch.float64)
    view = _reindexed(tensors, [0, 1, 2])
    view.G1 = view.K + view.Theta
    view.H1 = view.K @ view.Theta + view.Theta @ view.K
    for eta, algorithm in ((None, "gradient"), (0.4, "gradient"), (None, "giant_leap")):
        want = _by_indices(view, y, eta, algorithm)
        found = covariance_terms(view, y, eta=eta, algorithm=algorithm)
        for name, value in found.items():
            torch.testing.assert_close(value, want[name], msg=name)
            assert value.abs().max() > 1e-6 or (name, algorithm) == ("ddII", "giant_leap"), name
        means = end_of_training(view, y, eta=eta, algorithm=algorithm).terms
        for name in ("Delta_H", "dH", "H1"):
            torch.testing.assert_close(means[name], want[f"mean {name}"], msg=name)


def _by_indices(t, y, eta, algorithm):
    """Covariance (and mean) from full tensors (outputs, points) of what the network does."""
    e = torch.einsum
    n, out = y.shape
    m = prepare(t, y, eta, algorithm)
    one = torch.eye(out, dtype=y.dtype)
    inverse = torch.linalg.inv(t.Theta[:n, :n])
    P = torch.cat([-t.Theta[n:, :n] @ inverse, torch.eye(3 - n, dtype=y.dtype)], 1)

    def full(*parts):
        return sum(e(f"{a},{b},{c}->ijklabcd", one, one, x) for a, b, c, x in parts)

    zzH = full(("ij", "kl", "abcd", t.D), ("ik", "jl", "acbd", t.F), ("il", "jk", "adbc", t.F))
    HH = full(("ij", "kl", "abcd", t.A), ("ik", "jl", "acbd", t.B), ("il", "jk", "adbc", t.B))
    dHz = full(("il", "jk", "abcd", t.P), ("ij", "kl", "abcd", t.Q), ("ik", "jl", "acbd", t.Q))
    second = e("ak,bl->kalb", y, y) + e("kl,ab->kalb", one, t.K[:n, :n])
    solved = inverse @ y
    twice = e("ac,kclb,bd->kald", inverse, second, inverse)
    Z = e("ab,pa,ra,qb,sb->pqrs", m.algorithm.Z_A, *[m.vectors] * 4)
    late = e("pqrs,krls->kplq", Z, second)
    early = e("pr,qs->pqrs", inverse, inverse)

    want = {}
    # the mean: dH H^-1 dH H^-1 y, and the two pieces of the dNTK with one z and one label
    inner = HH[:, :, :, :, :, :n, :n, :n]
    want["mean Delta_H"] = -P @ e("ikklxabc,ab,cl->xi", inner, inverse, solved)
    first = dHz[:, :, :, :, :, :n, :n, :n]  # d_ikl;xab z_m;c
    later = dHz[:, :, :, :, :n, :, :n, :n]  # d_kil;axb z_m;c
    pair = 0.5 * e("iklkxabc,abcd,dl->xi", first, early, y)
    pair = pair + 0.5 * e("ikllxabc,abdc,dk->xi", first, early, y)
    pair = pair + e("kilkaxbc,abcd,dl->xi", later, Z, y) + e("killaxbc,abdc,dk->xi", later, Z, y)
    want["mean dH"] = -P @ pair
    want["mean H1"] = P @ (t.H1[:, :n] @ solved)

    # Stein: -E[P z z_A] d mean / d labels
    C = P @ t.K[:, :n]

    def mean(labels):
        return end_of_training(t, labels, eta=eta, algorithm=algorithm).terms

    one_way = {}
    for name in ("H1", "Delta_H", "dH", "ddI", "ddII"):
        slope = torch.autograd.functional.jacobian(lambda v, name=name: mean(v)[name], y)
        one_way[name] = -e("xiaj,ya->ijxy", slope, C)
    # P z with the dNTK, times the second moment of the errors
    first = dHz[:, :, :, :, :, :n, :n, :]
    later = dHz[:, :, :, :, :n, :, :n, :]
    motion = 0.5 * e("xu,yv,ikljuabv,kalb->ijxy", P, P, first, twice)
    motion = motion + e("xu,yv,kiljaubv,kalb->ijxy", P, P, later, late)
    one_way["dH"] = one_way["dH"] + motion
    # P z with the NTK and the initial output
    mixed = zzH[:, :, :, :, :, :n, :, :n]
    one_way["D_F"] = -e("xu,yv,jkikvbua,ab->ijxy", P, P, mixed, inverse)
    want |= {k: v + v.permute(1, 0, 3, 2) for k, v in one_way.items()}
    # the NTK twice
    spread = HH[:, :, :, :, :, :n, :, :n]
    want["Delta_H"] = want["Delta_H"] + e("xu,yv,ikjluavb,kalb->ijxy", P, P, spread, twice)
    want["G1"] = e("ij,xy->ijxy", one, P @ t.G1 @ P.mT)
    return want


@pytest.mark.slow
def test_trained_networks_agree(tensors):
    """Three widths, extrapolated (benchmarks/finite_width.py has the full runs)."""
    eta = 0.29305709
    measured = [
        measure_correction(
            MLP(2, [n], 2, "tanh", **SETUP),
            tensors.K,
            tensors.Theta,
            X[:2],
            Y,
            X[2:],
            eta=eta,
            pairs=7000,
            linear=14_000,
            seed=n,
            dtype=torch.float32,
            tolerance=5e-6,
            block=256,
        )
        for n in (64, 128, 256)
    ]
    predicted = (
        end_of_training(tensors, Y, eta=eta).coefficient,
        torch.stack(list(covariance_terms(tensors, Y, eta=eta).values())).sum(0),
    )
    found = ([(m.value, m.stderr) for m in measured], [(m.cov, m.cov_stderr) for m in measured])
    for want, pairs, allowed in zip(predicted, found, (0.05, 0.08), strict=True):
        value, stderr, _ = extrapolate(
            [m.n for m in measured],
            torch.stack([p[0] for p in pairs]),
            torch.stack([p[1] for p in pairs]),
        )
        assert_consistent(want, value, stderr, relative_error=allowed)


@pytest.mark.parametrize(("name", "depth"), [("tanh", 2), ("gelu", 3)])
def test_the_rule_of_many_points_gives_the_tensors_of_few(monkeypatch, name, depth):
    """Both ways are there for eight points; with an ill-conditioned NTK at that."""
    g = torch.Generator().manual_seed(0)
    x = 0.7 * torch.randn(8, 4, generator=g, dtype=torch.float64)
    y = torch.randn(6, 2, generator=g, dtype=torch.float64)
    arch = MLP(4, [64] * (depth - 1), 2, name, **SETUP)
    exact = output_tensors(arch, x, "gradient")[1][0]
    monkeypatch.setattr("kadanoff.gaussian.rules._SUBSETS", 4)
    monkeypatch.setattr("kadanoff.rgflow.recursions.default_tolerance", lambda inputs: 1e-5)
    rule, found = output_tensors(arch, x, "gradient")
    assert rule.kind == "expansion"
    eta = 1 / float(torch.linalg.eigvalsh(exact.Theta[:6, :6])[-1])
    for step in (None, eta):
        for of in (
            lambda t, step=step: end_of_training(t, y, eta=step).coefficient,
            lambda t, step=step: sum(covariance_terms(t, y, eta=step).values()),
        ):
            want = of(exact)
            results = [of(t) for t in found]
            value, error = rule.value(results), rule.error(results)
            size = want.abs().max()
            assert (value - want).abs().max() < 1e-3 * size
            # the stated error covers the true one
            assert (value - want).abs().max() < error.max()
            assert error.max() < 1e-2 * size


@pytest.mark.slow
@pytest.mark.parametrize("eta", [None, 0.01])
def test_real_data_with_dozens_of_points(eta):
    """Diabetes patients, 24 at a time, depth 3: the stated error stays below 5 %."""
    batch = load("diabetes", batch=26, seed=0)
    x, y = batch.inputs.double(), batch.targets.double().reshape(-1, 1)
    y = (y - y.mean()) / y.std()
    arch = MLP(10, [256, 256], 1, "gelu", C_b=0.1, C_W=1.5)
    found = predict(arch, x[:24], y[:24], x[24:], order=1, eta=eta)
    correction = (found.mean - found.terms["infinite_width"]).abs().max()
    error = found.terms["quadrature_error"]
    assert error.max() < 0.05 * correction
    # each term states its own
    total = sum(found.terms[f"quadrature_error_{name}"] for name in TERMS)
    assert (error <= total + 1e-12).all()


def test_blocks_of_test_points_are_named(monkeypatch):
    monkeypatch.setattr("kadanoff.learning.tensors.EXACT_POINTS", 6)
    arch = MLP(2, [64], 2, "tanh", **SETUP)
    x = torch.randn(7, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = predict(arch, x[:2], Y, x[2:], order=1, eta=0.1)
    assert any("different blocks" in note for note in found.notes)
    alone = predict(arch, x[:2], Y, x[6:], order=1, eta=0.1)
    torch.testing.assert_close(found.mean[-1], alone.mean[0], atol=1e-7, rtol=1e-6)
    torch.testing.assert_close(found.cov[-1, -1], alone.cov[0, 0], atol=1e-7, rtol=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_averages_on_the_gpu_are_those_of_the_cpu(monkeypatch):
    for limit in ("_SINGLE_SUBSETS", "_SUBSETS"):
        monkeypatch.setattr(f"kadanoff.gaussian.rules.{limit}", 0)
    monkeypatch.setattr("kadanoff.rgflow.recursions.default_tolerance", lambda inputs: 1e-5)
    arch = MLP(2, [64], 2, "tanh", **SETUP)
    here, there = (
        output_tensors(arch, X, "gradient", device)[1][0].R for device in ("cpu", "cuda")
    )
    torch.testing.assert_close(there, here)


def test_prediction_has_it_all():
    arch = MLP(2, [64], 2, "tanh", **SETUP)
    seen: list[tuple[int, int]] = []
    found = predict(
        arch, X[:2], Y, X[2:], order=1, eta=0.29305709, progress=lambda *at: seen.append(at)
    )
    # one layer of averages, one step
    assert seen == [(1, 2), (2, 2)]
    want = torch.tensor(GOLDEN[0.29305709]["total"], dtype=torch.float64)
    torch.testing.assert_close(
        64 * (found.mean - found.terms["infinite_width"])[0], want, atol=6e-7, rtol=0
    )
    assert found.output_cov is not None
    total = sum(found.terms[f"cov_{k}"] for k in COV_TERMS)
    eye = torch.eye(2, dtype=torch.float64)
    base = torch.einsum("ij,ab->ijab", eye, found.terms["cov_infinite_width"])
    torch.testing.assert_close(found.output_cov, base + total)
    torch.testing.assert_close(found.cov, torch.einsum("iiab->ab", found.output_cov) / 2)


def _reindexed(tensors, order):
    class View:
        pass

    view = View()
    for name, value in vars(tensors).items():
        for axis in range(value.ndim):
            value = value.index_select(axis, torch.tensor(order))
        setattr(view, name, value)
    return view

"""Observables of one's own, and functions of several, with errors that hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

import kadanoff as kd
from kadanoff.ensembles import Ensemble, Observed, sample, scaling
from kadanoff.errors import UsageError

ARCH = kd.MLP(2, [24, 24], 3, "tanh", C_W=1.2)
X = torch.tensor([[1.0, 0.5], [0.3, -1.0]])


def metric(z: list[Tensor]) -> Tensor:
    return torch.einsum("sai,sbi->sab", z[1], z[1]) / z[1].shape[-1]


def ntk_of_output(z: list[Tensor], ntk: list[Tensor]) -> Tensor:
    return ntk[-1].diagonal(dim1=-2, dim2=-1).mean(-1)


def across_layers(z: list[Tensor]) -> Tensor:
    return z[0].square().mean(-1) * z[2].square().mean(-1)


def fourth(z: list[Tensor]) -> Tensor:
    return z[1][..., 0] ** 4


OWN = {"metric": metric, "theta": ntk_of_output, "across": across_layers, "fourth": fourth}


@pytest.fixture(scope="module")
def observed() -> Observed:
    return kd.ensemble(ARCH, X, 6000, observables=OWN, seed=1)


@pytest.fixture(scope="module")
def built_in() -> Ensemble:
    return kd.ensemble(ARCH, X, 6000, observables=["K", "Theta", "V"], seed=2)


def z_score(difference: Tensor, *errors: Tensor) -> float:
    return float((difference / sum(e.square() for e in errors).sqrt()).abs().max())


def test_they_agree_with_the_built_in_ones(observed: Observed, built_in: Ensemble) -> None:
    metric, K = observed.metric, built_in.K
    assert z_score(metric.value - K.value[1], metric.stderr, K.stderr[1]) < 4
    theta, Theta = observed.theta, built_in.Theta
    assert z_score(theta.value - Theta.value[2], theta.stderr, Theta.stderr[2]) < 4
    assert float((metric.stderr / metric.value).diagonal().max()) < 0.01


def test_a_function_of_two_carries_their_correlation(observed: Observed) -> None:
    # ⟨z⁴⟩ / ⟨z²⟩² − 3 = 3V / (nK²) for one neuron: against the flow at order 1/n and its next order
    ratio = observed.of(lambda m: m["fourth"] / m["metric"].diagonal() ** 2 - 3)
    flow = kd.flow(ARCH, X, order=1)
    V = torch.einsum("aaaa->a", flow.V[1])
    predicted = 3 * V / (24 * flow.K[1].diagonal() ** 2)
    assert z_score(ratio.value - predicted, ratio.stderr, predicted**2) < 4
    # what does not vary has no error
    one = observed.of(lambda m: (m["metric"] + m["across"][0]) / (m["across"][0] + m["metric"]))
    assert float(one.stderr.max()) < 1e-12


def test_the_error_is_the_scatter_of_repeated_ensembles() -> None:
    values, errors = [], []
    for seed in range(60):
        one = kd.ensemble(ARCH, X[:1], 640, observables={"m": metric, "f": fourth}, seed=seed)
        got = one.of(lambda m: m["f"] / m["m"][0] ** 2)
        values.append(got.value)
        errors.append(got.stderr)
    scatter = float(torch.cat(values).std())
    stated = float(torch.cat(errors).square().mean().sqrt())
    # the scatter of sixty has an error of nine per cent
    assert abs(scatter / stated - 1) < 4 * 0.09


def test_covariance_has_the_errors_on_its_diagonal(observed: Observed) -> None:
    stated = torch.cat([m.stderr.flatten() for m in observed.values.values()])
    C = observed.covariance()
    torch.testing.assert_close(C.diagonal().sqrt(), stated, rtol=0.05, atol=0)
    assert float(torch.linalg.eigvalsh(C).min()) > -1e-12
    total = observed.of(lambda m: m["metric"].sum() + m["across"].sum())
    pick = torch.zeros(len(C), dtype=torch.float64)
    pick[:4] = 1  # metric
    pick[8:10] = 1  # across
    torch.testing.assert_close(total.stderr, (pick @ C @ pick).sqrt(), rtol=0.05, atol=0)


def test_functions_of_built_in_observables(built_in: Ensemble) -> None:
    ratio = built_in.of(lambda m: m["V"][1, 0, 0, 0, 0] / m["K"][1, 0, 0] ** 2)
    exact = kd.flow(ARCH, X[:1], order=1)
    predicted = float(exact.V[1].squeeze() / exact.K[1].squeeze() ** 2)
    next_order = torch.tensor(predicted**2 / 24)
    assert z_score(ratio.value - predicted, ratio.stderr, next_order) < 4
    same = built_in.of(lambda m: m["Theta"])
    torch.testing.assert_close(same.value, built_in.Theta.value)
    torch.testing.assert_close(same.stderr, built_in.Theta.stderr)
    again = Ensemble.from_dict(json.loads(json.dumps(built_in.to_dict())))
    with pytest.raises(UsageError, match="joint distribution"):
        again.of(lambda m: m["K"])
    with pytest.raises(UsageError, match="gave a str"):
        built_in.of(lambda m: "V")  # pyright: ignore[reportArgumentType]


def test_resume_workers_and_files_change_nothing(tmp_path: Path) -> None:
    own = {"metric": metric, "across": across_layers}
    whole = kd.ensemble(ARCH, X, 9000, observables=own)
    part = kd.ensemble(ARCH, X, 4096, observables=own, checkpoint=tmp_path / "run.ckpt")
    assert part.n_networks == 4096
    resumed = kd.ensemble(ARCH, X, 9000, observables=own, checkpoint=tmp_path / "run.ckpt")
    assert torch.equal(resumed.metric.value, whole.metric.value)
    shared = kd.ensemble(ARCH, X, 9000, observables=own, n_jobs=2)
    assert torch.equal(shared.across.stderr, whole.across.stderr)
    kept = kd.load(whole.save(tmp_path / "kept.npz"))
    ratio = kept.of(lambda m: m["across"][0] / m["across"][1])
    assert torch.equal(ratio.value, whole.of(lambda m: m["across"][0] / m["across"][1]).value)
    other = {"metric": metric, "across": fourth}
    with pytest.raises(UsageError, match="another ensemble"):
        kd.ensemble(ARCH, X, 9000, observables=other, checkpoint=tmp_path / "run.ckpt")


def test_they_are_extrapolated_to_infinite_width() -> None:
    own = {"size": lambda z: z[-1].square().mean((1, 2)), "metric": metric}
    found = scaling(ARCH, X, [12, 24, 48], 4000, observables=own)
    flow = kd.flow(ARCH, X)
    limit = found.limit["metric"]
    assert z_score(limit.value - flow.K[1], limit.stderr, found.remainder["metric"]) < 4
    size = found.limit["size"]
    expected = flow.K[-1].diagonal().mean()
    assert z_score(size.value - expected, size.stderr, found.remainder["size"]) < 4


@pytest.mark.parametrize(
    "arch",
    [
        kd.Residual(2, 12, 2, 2, "gelu", gamma=0.5),
        kd.Residual(2, 12, 2, 2, "relu", block="two_layer", hidden=9),
        kd.MLP(2, [12], 4, "tanh", init="orthogonal"),
        kd.MLP(2, [], 4),
    ],
    ids=str,
)
def test_the_sampler_yields_networks_of_any_kind(arch: kd.architecture.Network) -> None:
    drawn = list(sample(arch, X, 10, ntk=True, at_a_time=4))
    assert [len(d.z[0]) for d in drawn] == [4, 4, 2]
    for batch in drawn:
        assert batch.ntk is not None
        assert [z.shape[1:] for z in batch.z] == [(2, n) for n in arch.n[1:]]
        for z, ntk in zip(batch.z, batch.ntk, strict=True):
            S, N, n = z.shape
            assert ntk.shape == (S, N, N, n, n)
            flat = ntk.permute(0, 1, 3, 2, 4).reshape(S, N * n, N * n)
            torch.testing.assert_close(flat, flat.mT)
            assert float(torch.linalg.eigvalsh(flat).min()) > -1e-9
    again = next(sample(arch, X, 10, at_a_time=4))
    assert torch.equal(again.z[-1], drawn[0].z[-1])
    assert again.ntk is None


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({}, "is empty"),
        ({"a b": metric}, "no name with a function"),
        ({"a": "K"}, "no name with a function"),
        ({"a": lambda z: z[7]}, "failed on"),
        ({"a": lambda z: z[0].mean()}, "first axis is the network"),
        ({"a": lambda z: 1.0}, "gave float"),
        ({"a": lambda z: z[0] * 1j}, "is complex"),
    ],
)
def test_what_is_no_observable(own: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        kd.ensemble(ARCH, X, 10, observables=own)


def test_the_sampler_refuses_no_networks() -> None:
    with pytest.raises(UsageError, match="n_networks"):
        next(sample(ARCH, X, 0))

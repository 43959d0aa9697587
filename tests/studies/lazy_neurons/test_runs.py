"""Sparsity emerges in small Transformers, and does not in plain MLPs on Gaussian inputs."""

from __future__ import annotations

import pytest
import torch

from kadanoff.errors import UsageError
from kadanoff.sparsity import accelerate, acceleration_of
from kadanoff.studies.lazy_neurons.runs import (
    calibration_error,
    on_digits,
    on_gaussian,
    on_text,
    over_seeds,
)
from kadanoff.studies.lazy_neurons.toy import Chain, Decoder, Vit, digits, generate, text


def test_data_are_what_they_say():
    data = text()
    assert len(data.train) > 300_000
    assert "".join(data.symbols[i] for i in data.train[:400].tolist()).isprintable() is False
    d = digits(0, 0.4)
    clean = digits(0)
    assert torch.equal(d.x, clean.x)
    changed = float((d.y != clean.y).double().mean())
    # a replaced label is by chance the right one in a tenth of the cases
    assert changed == pytest.approx(0.36, abs=0.05)


def test_chain_draws_what_it_says():
    """Given the two symbols before, the third is drawn with the chance of the table."""
    chain = Chain(n_symbols=3, sharpness=1.5)
    x, y = chain.batch(400, 60, torch.Generator().manual_seed(0))
    assert torch.equal(x[:, 1:], y[:, :-1])
    chances = chain._sums.diff(dim=-1, prepend=torch.zeros(3, 3, 1)).double()
    for a in range(3):
        for b in range(3):
            here = (x[:, :-1] == a) & (x[:, 1:] == b)
            count = int(here.sum())
            share = torch.bincount(y[:, 1:][here], minlength=3).double() / count
            error = (chances[a, b] * (1 - chances[a, b]) / count).sqrt()
            assert float(error.max()) < 0.05
            assert float(((share - chances[a, b]).abs() / (error + 1e-9)).max()) < 4


def test_calibration_error():
    sure = torch.tensor([[1.0, 0.0]] * 4)
    assert calibration_error(sure, torch.tensor([0, 0, 0, 1])) == pytest.approx(0.25)
    even = torch.tensor([[0.75, 0.25]] * 4)
    assert calibration_error(even, torch.tensor([0, 0, 0, 1])) == pytest.approx(0.0)


def test_decoder_with_memory_equals_one_pass():
    model = Decoder(20, 32, 64, layers=2, length=40, k=8, seed=1).eval()
    prompt = torch.randint(20, (1, 5), generator=torch.Generator().manual_seed(0))
    out = generate(model, prompt, 10)
    whole = torch.cat([prompt, out], 1)
    with torch.no_grad():
        assert torch.equal(model(whole)[:, 4:-1].argmax(-1), out)
    with pytest.raises(UsageError, match="context"):
        generate(model, prompt, 36)


def test_accelerated_decoder_writes_the_same():
    model = Decoder(20, 32, 128, layers=2, length=40, k=8, seed=1).eval()
    prompt = torch.randint(20, (1, 5), generator=torch.Generator().manual_seed(0))
    fast = accelerate(model, prompt, force=True)
    assert {choice.scope for choice in acceleration_of(fast).blocks} <= {"block", "screened block"}
    assert torch.equal(generate(fast, prompt, 30), generate(model, prompt, 30))


def test_vit_is_seeded():
    x = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Vit(seed=2)(x), Vit(seed=2)(x))
    with pytest.raises(UsageError, match="images or random"):
        on_digits(inputs="sounds", steps=1)


@pytest.mark.slow
def test_sparsity_emerges_on_text():
    options = {"steps": 250, "batch": 8, "length": 32, "d": 48, "m": 192, "layers": 2}
    rows = [on_text(seed, **options) for seed in range(3)]
    start = torch.tensor([row["start"] for row in rows])
    fall = start - torch.tensor([row["end"] for row in rows])
    assert float(start.mean()) == pytest.approx(0.5, abs=0.03)
    error = float(fall.std()) / 3**0.5
    assert error < 0.03
    assert float(fall.mean()) > 4 * error
    # ten points; 12 to 13 were seen, by the build of PyTorch
    assert float(fall.mean()) > 0.10
    # a rate that falls to zero stops the drift early
    short = on_text(0, decay=True, **options)
    # same seed and data; 3 to 4 points were seen, by the build of PyTorch
    assert short["end"] > rows[0]["end"] + 0.02


@pytest.mark.slow
@pytest.mark.parametrize("labels", ["teacher", "random"])
def test_plain_mlps_on_gaussian_inputs_do_not_become_sparse(labels):
    table = over_seeds(on_gaussian, range(3), steps=300, labels=labels)
    assert table["train"][0] > 0.9
    assert table["end"][1] < 0.03
    assert table["end"][0] > 0.5 - 4 * table["end"][1] - 0.02


@pytest.mark.slow
def test_topk_learns_as_well_on_text():
    options = {"steps": 80, "batch": 8, "length": 32, "d": 32, "m": 128, "layers": 2}
    dense = over_seeds(on_text, range(3), **options)["loss"]
    sparse = over_seeds(on_text, range(3), k=16, **options)["loss"]
    error = (dense[1] ** 2 + sparse[1] ** 2) ** 0.5
    assert error < 0.1
    assert sparse[0] - dense[0] < 0.1 + 4 * error


@pytest.mark.gpu
def test_cuda_equals_dense():
    from kadanoff.sparsity import TopKMLP
    from kadanoff.sparsity.backends import available

    torch.manual_seed(0)
    x = torch.randn(16, 256, device="cuda")
    for gated in (False, True):
        model = TopKMLP(256, 1024, 40, gated=gated).cuda().eval()
        for backend in available(torch.device("cuda")):
            fast = accelerate(model, x, backend=backend, force=True)
            with torch.no_grad():
                torch.testing.assert_close(fast(x[:1]), model(x[:1]), rtol=1e-3, atol=1e-4)

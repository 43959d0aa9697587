"""Expectations beside measurements: right for healthy models, far off where the fault is."""

from __future__ import annotations

import itertools
import math
import statistics

import pytest
import scipy.stats
import torch

pytest.importorskip("transformers")

import kadanoff as kd
from benchmarks import zoo
from kadanoff.diagnosis.blocks import blocks_of
from kadanoff.diagnosis.expectation import _gauss, budget
from kadanoff.errors import UsageError
from tests.cli.run import run

SMALL = {"width": 32, "depth": 2}


def _diagnosed(name: str, seed: int = 0, **options) -> kd.Diagnosis:
    family = zoo.FAMILIES[name]
    options = {"try_steps": 0, "seed": seed + 1000} | options
    return kd.diagnose(family.build(seed, **SMALL), family.data(8), **options)


@pytest.mark.parametrize("name", ["gpt2", "resnet", "unet"])
def test_fresh_networks_are_as_expected(name):
    """Over six networks z has the size of one, and no number is far out."""
    found: list[float] = []
    for seed in range(6):
        d = _diagnosed(name, seed)
        found += [
            e.z
            for r in (*d.layers, *d.sums)
            for e in (r.second_moment, r.correlation, r.gradient)
            if e is not None and e.z is not None and e.spread
        ]
        assert d.expected_loss is not None
        assert d.expected_loss.z is not None
        found.append(d.expected_loss.z)
    assert len(found) > 6 * 15
    # numbers of one network go together, so that there are far fewer than these to average over
    assert 0.6 < math.sqrt(statistics.mean(z * z for z in found)) < 1.5
    assert max(map(abs, found)) < 5.5


def _worst(d: kd.Diagnosis, path: str) -> float:
    found = [r.second_moment.z for r in d.layers if path in r.path]
    return max((z for z in found if z is not None), key=abs)


@pytest.mark.parametrize(
    "fault, parameter, factor, where",
    [
        ("initialisation × 10", "h.1.mlp.c_fc", 10.0, "h.1.mlp.c_fc"),
        ("initialisation / 10", "h.0.attn.c_attn", 0.1, "h.0.attn.c_attn"),
        ("embedding × 100", "wte", 100.0, "wte"),
    ],
)
def test_a_fault_is_far_from_expectation_where_it_is(fault, parameter, factor, where):
    family = zoo.FAMILIES["gpt2"]
    model = family.build(0, **SMALL)
    sound = _diagnosed("gpt2")
    with torch.no_grad():
        model.get_submodule(f"transformer.{parameter}").weight *= factor
    sick = kd.diagnose(model, family.data(8), try_steps=0)
    assert abs(_worst(sound, where)) < 4.5
    assert abs(_worst(sick, where)) > 5
    # not before it
    first = next(r for r in sick.layers if abs(r.second_moment.z or 0) > 5)
    assert where in first.path
    assert "unlike-theory" in {f.code for f in sick.findings}
    assert "unlike-theory" not in {f.code for f in sound.findings}


def test_the_loss_says_when_it_starts_elsewhere():
    family = zoo.FAMILIES["gpt2"]
    model = family.build(0, **SMALL)
    with torch.no_grad():
        model.transformer.ln_f.weight *= 30
    d = kd.diagnose(model, family.data(8), try_steps=0)
    sound = _diagnosed("gpt2")
    assert d.expected_loss is not None
    assert sound.expected_loss is not None
    # gains are what they are, so the expectation moves with them; it is the loss that is high
    assert d.expected_loss.predicted > 2 * sound.expected_loss.predicted
    assert abs(d.expected_loss.z) < 5


def test_theory_can_be_left_out_or_asked_for():
    without = _diagnosed("gpt2", theory="none")
    assert all(r.second_moment.predicted is None for r in without.layers)
    assert without.expected_loss is None
    assert not without.describable
    with pytest.raises(UsageError, match="some"):
        _diagnosed("gpt2", theory="some")


def test_dear_models_are_expected_on_a_part_of_the_batch():
    assert budget("full", 10**9, 10**5, 64) == budget("full", 10, 10, 64)
    cheap = budget("quick", 10**4, 100, 100)
    assert (cheap.networks, cheap.samples) == (8, 100)
    for parameters in (10**4, 10**6, 10**8):
        for samples in (2, 8, 64, 512):
            plan = budget("quick", parameters, 64 * samples, samples)
            assert 2 <= plan.samples <= samples
            if 64 * samples * parameters > 1e9:
                assert plan.networks == 4
                # three passes of the batch, or eight samples where they are half of it
                assert plan.passes * plan.samples / samples <= max(3.0, plan.passes * 8 / samples)
    assert budget("quick", 10**9, 2**13, 8).probes == 0


def test_a_part_of_the_batch_expects_what_the_batch_does(monkeypatch):
    """The same findings, z of one size, and expectations that agree within their spread."""
    whole = _diagnosed("gpt2")
    monkeypatch.setattr("kadanoff.diagnosis.expectation.LIGHT", 0.0)
    monkeypatch.setattr("kadanoff.diagnosis.expectation.PART", 0.0)
    monkeypatch.setattr("kadanoff.diagnosis.expectation.HEAVY", 0.0)
    part = _diagnosed("gpt2")
    assert "on 2 of 8 samples" in part.description
    assert [f.code for f in whole.findings] == [f.code for f in part.findings]
    for a, b in zip(whole.layers, part.layers, strict=True):
        for name in ("second_moment", "gradient", "mean"):
            of_all, of_few = getattr(a, name), getattr(b, name)
            if of_all is None or of_all.predicted is None:
                continue
            assert of_few.value == of_all.value
            spread = math.hypot(of_all.spread, of_few.spread)
            assert abs(of_all.predicted - of_few.predicted) < 4 * spread, (a.path, name)
    assert part.expected_loss is not None
    assert part.expected_loss.value == pytest.approx(part.loss)


def test_few_networks_make_large_t_less_surprising():
    for t, n in ((1.0, 8), (-3.0, 8), (5.0, 4), (4.0, 64)):
        tail = scipy.stats.t.sf(abs(t), n - 1)
        assert scipy.stats.norm.sf(abs(_gauss(t, n))) == pytest.approx(tail, rel=1e-6)
        assert math.copysign(1, _gauss(t, n)) == math.copysign(1, t)
    assert 3 < _gauss(10.0, 8) < 5
    # far out, by asymptotes: still finite, growing, and the same where both ways exist
    far = [_gauss(10.0**k, 200) for k in range(1, 9)]
    assert all(a < b for a, b in itertools.pairwise(far))
    assert _gauss(29.0, 2000) == pytest.approx(_gauss(28.9, 2000), rel=5e-3)
    mpmath = pytest.importorskip("mpmath")
    tail = 0.5 * mpmath.betainc(99.5, 0.5, 0, 1 / (1 + mpmath.mpf(1e8) ** 2 / 199), True)
    assert mpmath.log(mpmath.erfc(far[-1] / mpmath.sqrt(2)) / 2) == pytest.approx(
        float(mpmath.log(tail)), rel=1e-6
    )


def test_report_and_terminal_show_expectations(capsys, tmp_path):
    (tmp_path / "made.py").write_text(
        "from benchmarks import zoo\nfamily = zoo.FAMILIES['gpt2']\n"
        "def model():\n    return family.build(0, width=32, depth=3)\n"
        "def data():\n    return family.data(8)\n"
    )
    words = ["diagnose", f"{tmp_path}/made.py:model", "--data", f"{tmp_path}/made.py:data"]
    page = tmp_path / "report.html"
    code, out, _ = run(capsys, *words, "--try", "0", "--html", str(page))
    assert code == 0
    assert "expected" in out
    assert "the loss starts where it should" in " ".join(out.split())
    html = page.read_text()
    assert "line, band: theory" in html
    assert "random networks of the same program" in html
    code, out, _ = run(capsys, *words, "--try", "0", "--theory", "none")
    assert "off by" not in out
    code, _, err = run(capsys, *words, "--theory", "much")
    assert code == 2
    assert "much" in err


def test_blocks_carry_expectations():
    d = _diagnosed("unet")
    found = blocks_of(d.layers, d.sums)
    for group in found.numbered:
        assert group.carrier.second_moment.predicted is not None, group.label
        assert group.gradient is not None
        assert group.gradient.predicted is not None, group.label

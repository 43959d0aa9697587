"""A model predicted before it is built does what the built ones do."""

from __future__ import annotations

import json
import math
import statistics

import pytest
import torch
from torch import nn

pytest.importorskip("transformers")

import kadanoff as kd
from benchmarks import zoo
from kadanoff.diagnosis.blocks import blocks_of
from kadanoff.diagnosis.predicted import foretell
from kadanoff.errors import AnalysisError, UsageError
from tests.cli.run import run

SIZES = {"width": 32, "depth": 2}
NETWORKS = 24


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_prediction_holds_for_models_that_are_built(name):
    """Signal, gradients and loss of 24 built models against 24 that are not."""
    family = zoo.FAMILIES[name]
    data = family.data(4)
    told = foretell(lambda: family.factory(**SIZES), data, n_networks=NETWORKS, seed=1)
    built = [
        kd.diagnose(family.build(seed, **SIZES), data, theory="none", try_steps=0)
        for seed in range(NETWORKS)
    ]
    assert told.n_parameters == built[0].n_parameters
    real = {(r.path, r.op, r.call_index): k for k, r in enumerate(built[0].layers)}
    z = []
    for report in told.layers:
        k = real[report.path, report.op, report.call_index]
        for field in ("second_moment", "gradient"):
            ours = getattr(report, field)
            if ours is None:
                continue
            values = [getattr(d.layers[k], field).value for d in built]
            mean, power = statistics.mean(values), 1
            if field == "gradient":  # the root of a mean square, not the mean of roots
                mean, power = statistics.mean(v * v for v in values), 2
            error = statistics.stdev([v**power for v in values]) / math.sqrt(NETWORKS)
            mine = ours.value**power
            own = ours.stderr * (2 * ours.value if power == 2 else 1)
            z.append((mine - mean) / math.hypot(error, own))
            # an error bar that means something
            assert math.hypot(error, own) < 0.2 * mean
    losses = [d.loss for d in built]
    assert told.expected_loss is not None
    error = math.hypot(statistics.stdev(losses) / math.sqrt(NETWORKS), told.expected_loss.stderr)
    z.append((told.loss - statistics.mean(losses)) / error)
    assert len(z) > 15
    assert max(map(abs, z)) < 4.5
    assert 0.4 < math.sqrt(statistics.mean(x * x for x in z)) < 1.6
    assert [g.label for g in blocks_of(told.layers).numbered] == [
        g.label for g in blocks_of(built[0].layers).numbered
    ]


def test_the_verdict_is_a_prediction():
    family = zoo.FAMILIES["llama"]
    d = foretell(lambda: family.factory(**SIZES), family.data(2), n_networks=3)
    assert d.healthy
    assert d.meta["predicted"]
    assert "signal and gradient will reach all 2 blocks" in d.verdict
    assert f"outputs all alike: {math.log(512):.3f}"[:-1] in d.verdict
    assert "seeds will differ by" in d.verdict
    assert all(r.second_moment.z is None for r in d.layers)
    assert all(r.second_moment.spread is not None for r in d.layers)


def test_the_command_builds_no_weight(capsys, tmp_path):
    (tmp_path / "my.py").write_text(
        "from torch import nn\n"
        "def large():\n"
        "    return nn.Sequential(nn.Embedding(128, 30000), *(\n"
        "        nn.Sequential(nn.Linear(30000, 30000), nn.Tanh()) for _ in range(3)),\n"
        "        nn.Linear(30000, 128))\n"  # eleven gigabytes, if it were built
        "instance = nn.Linear(3, 3)\n"
    )
    page, file = tmp_path / "report.html", tmp_path / "report.json"
    words = ["diagnose", f"{tmp_path}/my.py:large", "--meta", "--data", "text", "--batch", "2"]
    code, out, err = run(capsys, *words, "--html", str(page), "--json", str(file))
    assert code == 0, err
    assert "will" in out
    tree = json.loads(file.read_text())
    assert tree["n_parameters"] > 2.7e9
    assert tree["layers"][1]["second_moment"]["spread"] > 0
    assert "predicted from the code alone" in page.read_text()
    for more, word in (
        (["--theory", "none"], "theory"),
        (["--weights", "w.pt"], "weights"),
    ):
        code, _, err = run(capsys, *words, *more)
        assert code == 2
        assert word in err
    code, _, err = run(capsys, "diagnose", f"{tmp_path}/my.py:instance", "--meta", "--data", "wine")
    assert code == 2
    assert "factory" in err


def test_what_cannot_be_predicted_is_said():
    class Awkward(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(300, 500))
            self.weight.data = torch.from_numpy(self.weight.detach().numpy() * 2)

    with pytest.raises(AnalysisError, match="meta"):
        foretell(Awkward, torch.randn(2, 3))
    with pytest.raises(UsageError, match="2 networks"):
        foretell(lambda: nn.Linear(3, 3), torch.randn(2, 3), n_networks=1)

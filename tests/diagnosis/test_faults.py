"""Every kind of finding: a net that has it is told so, the repaired net is not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmarks.fault_cases import CASES, Case
from kadanoff.diagnosis import Recipe, diagnose
from kadanoff.errors import DataError

# one quick case a kind; the benchmark runs them all
QUICK = (
    "softmax_module_and_cross_entropy", "sigmoid_before_cross_entropy", "softmax_over_one_unit",
    "softmax_over_the_batch", "relu_and_signed_targets", "clamped_regression", "nll_of_logits",
    "hand_written_difference", "classes_on_the_last_axis", "class_index_by_mean_square",
    "sgd_rate_ten_times_too_high", "adam_rate_of_one", "sgd_rate_of_a_millionth",
    "only_the_head_in_the_optimizer", "decay_of_ten", "climbs_the_loss",
    "pixels_to_255", "tiny_inputs", "one_column_of_100000", "prices_in_cents",
    "a_loader_that_repeats_one_sample", "encoder_in_no_grad", "data_attribute", "sign_features",
    "all_frozen", "layers_in_a_list", "log_of_zero", "slope_of_a_root_at_zero",
    "division_by_zero_on_one_sample", "log_in_the_loss", "head_fifty_times_too_large",
    "constant_weights", "all_weights_zero", "biases_too_negative", "no_activation_at_all",
    "sigmoid_with_unit_normal_weights", "a_block_that_was_not_loaded",
    "layer_norm_over_one_feature", "one_layer_out_of_eight_too_large",
    "a_sequence_of_nothing_but_padding", "padding_is_attended_to",
    "vae_that_samples_without_a_gradient",
    "equation_in_milliseconds",
    "discriminator_with_two_sigmoids",
    "float16_that_overflows",
    "hand_written_loop_that_contracts", "positions_drown_tokens", "scores_without_scale",
)  # fmt: skip
BY_NAME = {case.name: case for case in CASES}


def findings(job, told):
    optimizer = None
    if told:
        optimizer = job.optimizer(job.model) if job.optimizer else job.recipe
    job.model.train(job.mode == "train")
    return diagnose(job.model, job.train, loss=job.loss, optimizer=optimizer)


@pytest.mark.parametrize("name", QUICK)
def test_the_cause_is_named_and_the_repaired_net_is_not_accused_of_it(name):
    case: Case = BY_NAME[name]
    sick, repaired = case.make()
    found = findings(sick, case.told)
    causes = [f.code for f in found.findings if f.severity != "note" and not f.because_of]
    assert set(causes) & set(case.names), found.findings
    assert found.exit_code == 1
    if repaired is not None:
        real = [f for f in findings(repaired, case.told).findings if f.severity != "note"]
        assert not {f.code for f in real} & set(case.names), real


@pytest.mark.parametrize(
    "name,words",
    [
        ("labels_from_one", "1 to 10"),
        ("labels_as_floats", "long()"),
        ("five_targets", "5 targets"),
    ],
)
def test_targets_that_fit_nothing_are_errors(name, words):
    sick, _ = BY_NAME[name].make()
    with pytest.raises(DataError, match=r"KD1\d\d") as caught:
        findings(sick, False)
    assert words in str(caught.value)
    assert caught.value.exit_code == 2


def test_where_a_nan_begins_and_on_which_sample():
    sick, _ = BY_NAME["division_by_zero_on_one_sample"].make()
    first = findings(sick, False).findings[0]
    assert "sample 100" in first.sentence
    assert "div" in first.sentence
    sick, _ = BY_NAME["slope_of_a_root_at_zero"].make()
    first = findings(sick, False).findings[0]
    assert "backward of sqrt" in first.sentence


def test_a_nan_in_data_beyond_the_batch():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))

    class Log(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = model

        def forward(self, x):
            return self.net(x.log())

    x = torch.rand(600, 4) + 0.1
    x[431, 2] = -1.0
    y = torch.randint(2, (600,))
    found = diagnose(Log(), (x[:64], y[:64]), every=(x, y))
    assert found.findings[0].code == "not-finite"
    assert "431" in found.findings[0].sentence


def test_losses_of_several_outputs():
    class VAE(nn.Module):
        def __init__(self):
            super().__init__()
            self.enc, self.dec = nn.Linear(8, 6), nn.Linear(3, 8)

        def forward(self, x):
            mu, logvar = self.enc(x).chunk(2, 1)
            return self.dec(mu), mu, logvar

    def loss(output, x):
        z, mu, logvar = output
        kl = (mu.square() + logvar.exp() - logvar - 1).mean()
        return (z - x).square().mean() + kl

    def spread(z, mu, logvar, x):
        return loss((z, mu, logvar), x)

    torch.manual_seed(0)
    x = torch.randn(64, 8)
    values = [diagnose(VAE(), (x, x), loss=f, try_steps=0).loss_name for f in (loss, spread)]
    assert values == ["loss", "spread"]


def test_the_loss_is_named_and_a_stand_in_is_said():
    net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2))
    found = diagnose(net, torch.randn(32, 8))
    assert found.loss_stands_in
    assert found.trial is None


def test_nothing_is_changed_by_a_trial():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 2))
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    state = torch.get_rng_state()
    x, y = torch.randn(64, 8, generator=torch.Generator().manual_seed(1)), torch.arange(64) % 2
    found = diagnose(net, (x, y), optimizer=optimizer, try_steps=20)
    assert found.trial is not None
    assert found.trial.edge is not None
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    assert not optimizer.state
    assert all(p.grad is None for p in net.parameters())


def test_the_edge_is_where_gradient_descent_on_a_quadratic_diverges():
    """λ of mean (w·x)² is 2 λ_max(xᵀx)/N; momentum β makes the edge 2(1 + β)/λ."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(64, 6, generator=g)
    y = torch.randn(64, 1, generator=g)
    net = nn.Linear(6, 1, bias=False)
    top = 2 * torch.linalg.eigvalsh(x.T @ x / 64)[-1].item()
    for momentum in (0.0, 0.9):
        recipe = Recipe("sgd", 1e-3, momentum)
        found = diagnose(net, (x, y), optimizer=recipe, try_steps=10)
        assert found.trial is not None
        assert found.trial.edge == pytest.approx(2 * (1 + momentum) / top, rel=0.02)


def test_causes_stand_first_and_name_their_consequences():
    sick, _ = BY_NAME["one_column_of_100000"].make()
    found = findings(sick, False).findings
    assert found[0].code == "feature-scales"
    assert all("feature-scales" in f.because_of for f in found[1:] if f.severity != "note")
    assert found[0].id == "KD302"
    assert "feature-scales" in found[0].about


def test_a_loss_far_from_its_expectation():
    from kadanoff.diagnosis.evidence import Evidence
    from kadanoff.diagnosis.result import Estimate
    from kadanoff.diagnosis.rules import loss_at_start

    def codes(value):
        found = Estimate(value).against(4.6, 0.1)
        evidence = Evidence(loss=value, expected_loss=found)
        return [f.code for rule in loss_at_start.RULES for f in rule(evidence)]

    assert codes(7.5) == ["loss-unlike-theory"]
    assert codes(5.0) == []


def test_a_model_that_takes_a_list_of_sequences_of_several_lengths():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.out = nn.GRU(3, 16, batch_first=True), nn.Linear(16, 2)

        def forward(self, sequences):
            packed = nn.utils.rnn.pack_sequence(sequences, enforce_sorted=False)
            return self.out(self.rnn(packed)[1][-1])

    g = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    sequences = [torch.randn(4 + i % 5, 3, generator=g) for i in range(24)]
    found = diagnose(Net(), (sequences, torch.arange(24) % 2), try_steps=0)
    assert found.n_samples == 24
    assert found.loss_name == "cross entropy"

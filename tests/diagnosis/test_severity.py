"""What a trial makes of the severity of a finding."""

from __future__ import annotations

import pytest

from kadanoff.diagnosis.findings import settle
from kadanoff.diagnosis.kinds import KINDS
from kadanoff.diagnosis.result import Finding, TrialReport

STUCK = "does-not-learn"


def trial(*losses: float, learns: bool | None, constant: float | None = 2.3) -> TrialReport:
    return TrialReport("Adam, lr 0.001", len(losses) - 1, losses, constant, learns)


def after(code: str, severity: str, report: TrialReport | None, **more) -> str:
    found = [KINDS[code].found(severity, code)]
    if report is not None and report.learns is False:
        found.append(KINDS[STUCK].found(more.pop("stuck", "critical"), STUCK))
    settled: list[Finding] = settle(found, report, **more)
    return settled[0].severity


LEARNS = trial(2.4, 2.2, learns=True)
WELL = trial(2.4, 0.5, learns=True)
FAILS = trial(2.4, 2.31, learns=False)
FALLING = trial(90.0, 10.0, learns=None)
FAR = trial(9000.0, 400.0, learns=None)


@pytest.mark.parametrize(
    "code, severity, report, wanted",
    [
        # sizes go by what happens
        ("ordered", "critical", None, "critical"),
        ("ordered", "critical", LEARNS, "warning"),
        ("ordered", "warning", WELL, "note"),
        ("ordered", "warning", FAILS, "critical"),
        ("exploding", "warning", FALLING, "warning"),
        ("exploding", "warning", FAR, "critical"),
        # a part of the net is lost, and the rest learns
        ("detached", "critical", LEARNS, "warning"),
        ("detached", "critical", FAILS, "critical"),
        ("softmax-before-cross-entropy", "critical", WELL, "warning"),
        # what it shows on other data only
        ("inputs-unscaled", "critical", WELL, "critical"),
        ("loss-at-start", "warning", WELL, "warning"),
        # what no trial on the batch can judge
        ("no-nonlinearity", "critical", LEARNS, "critical"),
        ("stale-statistics", "critical", WELL, "critical"),
        # the cause of not learning is as severe as that
        ("decay-too-strong", "warning", FAILS, "critical"),
        ("unused-parameters", "note", FAILS, "note"),
    ],
)
def test_a_trial_settles_it(code, severity, report, wanted):
    assert after(code, severity, report) == wanted


def test_a_rate_that_nobody_chose_makes_nothing_critical():
    assert after("ordered", "warning", FAILS, stuck="note") == "warning"


def test_scales_of_a_trained_net_are_notes():
    assert after("ordered", "critical", None, trained=True) == "note"
    assert after("detached", "critical", None, trained=True) == "critical"

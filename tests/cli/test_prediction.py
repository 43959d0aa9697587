"""The numbers ``kadanoff predict`` reports, on data drawn from the prior itself."""

from __future__ import annotations

import math

import numpy as np
import torch

import kadanoff as kd
from kadanoff.cli.predict import More, Points, TrainingOptions
from kadanoff.cli.prediction import predicted


def test_two_standard_deviations_hold_the_targets_noise_included() -> None:
    """Targets drawn from the network's own prior plus label noise: 95.4 % lie within two."""
    train, test, noise, draws = 40, 60, 0.3, 20
    generator = torch.Generator().manual_seed(0)
    arch = kd.MLP(5, [64], 1, "tanh", C_b=0.1, C_W=1.5)
    shares = []
    for _ in range(draws):
        X = torch.randn(train + test, 5, generator=generator).double()
        K = kd.kernel(arch)(X, get="nngp") + noise * torch.eye(len(X)).double()
        normal = torch.randn(len(X), generator=generator).double()
        y = torch.linalg.cholesky(K) @ normal
        result = predicted(
            arch,
            (X, y),
            Points("prior", train, test),
            TrainingOptions(method="bayes", noise=noise),
            More(),
            seed=0,
            progress="none",
        )
        shares.append(result["inside_two_std"])
    expected = math.erf(2 / math.sqrt(2))
    stderr = float(np.std(shares, ddof=1)) / math.sqrt(draws)
    assert stderr < 0.012
    assert abs(float(np.mean(shares)) - expected) < 4 * stderr

"""Fixtures and switches that all tests share."""

from __future__ import annotations

import os

# one thread a process: parallel workers then neither fight nor change a sum's order
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import random

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--seed", type=int, default=0, help="Seed of every test that does not set its own."
    )


@pytest.fixture(autouse=True)
def seeded(request: pytest.FixtureRequest) -> None:
    """Whatever a test draws without a seed of its own, it draws from this one."""
    import numpy as np
    import torch

    seed = request.config.getoption("--seed")
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (the generator that careless code draws from)
    torch.manual_seed(seed)


def pytest_report_header(config: pytest.Config) -> str:
    return f"seed of tests without their own: {config.getoption('--seed')}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    gpu = [item for item in items if item.get_closest_marker("gpu")]
    if not gpu:
        return
    import torch

    if not torch.cuda.is_available():
        for item in gpu:
            item.add_marker(pytest.mark.skip(reason="no CUDA device on this machine"))

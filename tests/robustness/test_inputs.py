"""Whatever array a user passes, the answer is finite or the error says what was wrong.

The arrays come from hypothesis: any dtype, any shape, NaN, infinities, numbers at the ends of the
range, views that are not contiguous, nothing at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import kadanoff as kd
from kadanoff.errors import KadanoffError

DTYPES = [
    torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.uint8,
    torch.bool, torch.complex64,
]  # fmt: skip
SHAPES = [(), (0,), (3,), (0, 3), (1, 3), (2, 3), (3, 2), (2, 2, 3), (1, 1)]
VALUES = [0.0, 1.0, -1.0, 1e-300, 1e-30, 1e10, 1e30, 1e300, math.nan, math.inf, -math.inf]
N_IN = 3


@st.composite
def arrays(draw: st.DrawFn) -> Any:
    shape, dtype = draw(st.sampled_from(SHAPES)), draw(st.sampled_from(DTYPES))
    seed = draw(st.integers(0, 3))
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    odd = draw(st.sampled_from([None, None, *VALUES]))
    if odd is not None and values.numel():
        values.reshape(-1)[draw(st.integers(0, values.numel() - 1))] = odd
    if draw(st.booleans()) and odd is not None:
        values = torch.full(shape, odd, dtype=torch.float64)
    made = values.to(dtype) if not dtype.is_complex else values.to(dtype) * (1 + 1j)
    if draw(st.booleans()) and made.ndim == 2:
        made = made.mT.contiguous().mT
    kind = draw(st.sampled_from(["tensor", "array", "list"]))
    if kind == "array" and dtype != torch.bfloat16:
        return made.numpy()
    return made.tolist() if kind == "list" else made


def numbers(value: Any) -> list[torch.Tensor]:
    """Every floating-point tensor in a result."""
    if isinstance(value, torch.Tensor):
        return [value] if value.is_floating_point() else []
    if isinstance(value, float):
        return [torch.tensor(value)]
    if isinstance(value, (list, tuple)):
        return [t for v in value for t in numbers(v)]
    return []


ARCH = kd.MLP(n_in=N_IN, widths=[8, 6], n_out=1, activation="tanh", C_b=0.1, C_W=1.2)
RELU = kd.MLP(n_in=N_IN, widths=[8, 6], n_out=1, activation="relu", C_W=2.0)
NET = torch.nn.Sequential(torch.nn.Linear(N_IN, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))


def small_ensemble(X: Any) -> Any:
    found = kd.ensemble(ARCH, X, n_networks=64, observables=["K", "V"], seed=0)
    return [found.K.value, found.V.value, found.V.stderr]


def diagnosis(X: Any) -> Any:
    kd.diagnose(NET, X)
    return []


CALLS: dict[str, Callable[[Any], Any]] = {
    "flow": lambda X: [kd.flow(ARCH, X).K, kd.flow(ARCH, X).Theta],
    "flow order 1": lambda X: kd.flow(RELU, X, order=1).V,
    "ensemble": small_ensemble,
    "kernel": lambda X: list(kd.kernel(ARCH)(X)),
    "kernel relu": lambda X: list(kd.kernel(RELU)(X)),
    "empirical_ntk": lambda X: kd.empirical_ntk(NET, X),
    "predict": lambda X: kd.predict(ARCH, X, torch.ones(2), torch.ones(1, N_IN)).mean,
    "predict labels": lambda y: kd.predict(ARCH, torch.eye(N_IN)[:2], y, torch.ones(1, N_IN)).mean,
    "predict test": lambda X: kd.predict(ARCH, torch.eye(N_IN)[:2], torch.ones(2), X).mean,
    "diagnose": diagnosis,
    "sparsity": lambda X: kd.sparsity.profile(NET, X).active,
    "aspect": lambda X: kd.aspect(ARCH, X).r,
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CALLS)
@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(X=arrays())
def test_any_array_gives_a_finite_answer_or_a_reason(name: str, X: Any) -> None:
    before = np.array(X, copy=True) if isinstance(X, np.ndarray) else None
    found = None
    try:
        found = CALLS[name](X)
    except KadanoffError as error:
        refused = error.message
    else:
        refused = ""
    if before is not None:
        np.testing.assert_array_equal(before, X)
    assert "Traceback" not in refused
    for value in [] if refused else numbers(found):
        assert bool(torch.isfinite(value).all()), (name, X, value)


SETTINGS: dict[str, Callable[[Any], Any]] = {
    "width": lambda v: kd.MLP(N_IN, [v], 1),
    "widths": lambda v: kd.MLP(N_IN, v, 1),
    "n_in": lambda v: kd.MLP(v, [4], 1),
    "C_W": lambda v: kd.MLP(N_IN, [4], 1, C_W=v),
    "C_b": lambda v: kd.MLP(N_IN, [4], 1, C_b=v),
    "lambda_b": lambda v: kd.MLP(N_IN, [4], 1, lambda_b=v),
    "activation": lambda v: kd.MLP(N_IN, [4], 1, activation=v),
    "criticality": kd.criticality,
    "gamma": lambda v: kd.criticality("relu", gamma=v),
    "networks": lambda v: kd.ensemble(ARCH, torch.ones(1, N_IN), n_networks=v),
    "target": lambda v: kd.sparsity.sparsify(NET, "topk", v, data=torch.ones(2, N_IN)),
    "prior": lambda v: kd.priors.exact(widths=v),
    "order": lambda v: kd.flow(ARCH, torch.ones(1, N_IN), order=v),
    "eta": lambda v: kd.predict(
        ARCH, torch.eye(N_IN)[:2], torch.ones(2), torch.ones(1, N_IN), eta=v
    ),
    "study": kd.studies.get,
    "data": kd.data.load,
}
ODD = [None, -1, 0, 1.5, math.nan, math.inf, "nonsense", "", [], [0], [4, -2], {}, {4}, object()]
# of these, what each setting takes; whatever is not here must be refused with a reason
FINE = {
    "widths": [[]],  # a linear model
    "C_W": [0, 1.5, [0]],
    "C_b": [0, 1.5, [0]],
    "lambda_b": [0, 1.5, [0]],
    "gamma": [0],
    "target": [0],
    "prior": [[]],
    "order": [0],
    "eta": [None],  # gradient flow
    "networks": [None],  # as many as suffice by default
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SETTINGS)
def test_odd_settings_are_refused_with_a_reason_or_meant(name: str) -> None:
    for value in ODD:
        if any(type(value) is type(fine) and value == fine for fine in FINE.get(name, [])):
            SETTINGS[name](value)
            continue
        with pytest.raises(KadanoffError) as refused:
            SETTINGS[name](value)
        assert refused.value.message, (name, value)
        assert "Traceback" not in refused.value.message


def test_a_nan_is_named_in_the_refusal() -> None:
    for name in ("C_W", "C_b", "lambda_b", "gamma", "target", "eta"):
        with pytest.raises(KadanoffError, match="nan"):
            SETTINGS[name](math.nan)

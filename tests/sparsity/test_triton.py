"""The Triton kernels: on a GPU where there is one, else by Triton's own interpreter."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest
import torch

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="needs triton (torch built for CUDA)"
)

PROGRAM = """
import itertools
import torch
from kadanoff.sparsity.backends import load

backend, plain = load("triton"), load("torch")
device = "cuda" if torch.cuda.is_available() else "cpu"
g = torch.Generator().manual_seed(0)
checked = 0
for m, d, part, bias, dtype in itertools.product(
    (1, 37), (1, 65, 1100), (0.0, 0.3, 1.0), (False, True), (torch.float32, torch.bfloat16)
):
    def draw(*shape):
        return torch.randn(*shape, generator=g).to(device, dtype)

    weight, x = draw(m, d) / d**0.5, draw(d)
    first, out = (draw(m), draw(d)) if bias else (None, None)
    rows = torch.randperm(m, generator=g)[: round(part * m)].sort().values.to(device)
    tolerance = dict(rtol=1e-4, atol=1e-5) if dtype == torch.float32 else dict(rtol=2e-2, atol=2e-2)
    z = backend.matvec_rows(weight, first, x, rows)
    torch.testing.assert_close(z, plain.matvec_rows(weight, first, x, rows), **tolerance)
    values = draw(len(rows))
    y = backend.combine(weight, rows, values, out)
    expected = values.float() @ weight[rows].float() + (0 if out is None else out.float())
    torch.testing.assert_close(y, expected.to(dtype), **tolerance)
    checked += 1
print("checked", checked)
"""


def test_kernels_equal_torch():
    on_gpu = torch.cuda.is_available()
    env = os.environ | ({} if on_gpu else {"TRITON_INTERPRET": "1"})
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=env, timeout=300
    )
    assert "checked 72" in found.stdout, found.stderr[-2000:]

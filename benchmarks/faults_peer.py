"""What anyinit 0.4.0 and torchdiag 0.1.0 say of the same nets.

anyinit draws the weights anew and judges that draw, so that it can complain of an activation or of
a shape, never of the weights at hand. torchdiag prints; what it flags in its four checks counts.
"""

from __future__ import annotations

import contextlib
import copy
import io
import re
from typing import Any

import torch
from torch import nn

from benchmarks.fault_cases import Job

__all__ = ["said"]

# words of the peers' complaints and the causes they amount to
_WORDS = {
    "frozen": ("nothing-trainable",),
    "None": ("detached", "zero-gradient", "nothing-trainable", "unused-parameters"),
    "exploding": ("exploding", "chaotic", "loss-at-start", "rate-too-high", "targets-unscaled"),
    "vanishing": (
        "vanishing", "ordered", "collapsed", "zero-gradient", "symmetric-weights", "silent",
        "output-constant", "dead", "softmax-over-one-unit",
    ),
    "neurons dead": ("dead", "silent", "zero-gradient"),
    "not finite": ("not-finite", "masked-row"),
    "No parameters changed": (
        "optimizer-settings", "not-in-optimizer", "nothing-trainable", "updates-vanish",
    ),
    "failed": ("labels-out-of-range", "float-class-labels", "target-count"),
    "depth-stable": ("ordered", "vanishing", "exploding", "chaotic"),
}  # fmt: skip


def said(job: Job, wanted: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """For each peer whether it complains, and whether that amounts to the cause."""
    return {
        "torchdiag": _judged(_torchdiag(job), wanted),
        "anyinit": _judged(_anyinit(job), wanted),
    }


def _judged(text: str, wanted: tuple[str, ...]) -> dict[str, Any]:
    names = any(word in text and set(codes) & set(wanted) for word, codes in _WORDS.items())
    return {"complains": bool(text), "names": names, "text": text[:200]}


def _torchdiag(job: Job) -> str:
    import torchdiag

    model, (x, y) = copy.deepcopy(job.model), job.train
    loss = job.loss or (nn.MSELoss() if y.is_floating_point() else nn.CrossEntropyLoss())
    heard = io.StringIO()
    with contextlib.redirect_stdout(heard), contextlib.suppress(Exception):
        torchdiag.summary(model)
        torchdiag.check_dead_neurons(model, x)
    with contextlib.redirect_stdout(heard):
        try:
            optimizer = job.optimizer(model) if job.optimizer else torch.optim.SGD(
                [p for p in model.parameters() if p.requires_grad],
                job.recipe.rate, momentum=job.recipe.momentum,
            )  # fmt: skip
            torchdiag.verify_step(model, optimizer, loss, x, y)
            loss(model(x), y).backward()
            torchdiag.check_gradients(model)
        except Exception as error:
            print(f"  • Forward pass failed: {error}")
    return " ".join(re.findall(r"• (.*)", heard.getvalue()))


def _anyinit(job: Job) -> str:
    import anyinit

    model, x = copy.deepcopy(job.model), job.train[0]
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            report = anyinit.initialize(model, "analytic", x[:32])
            report.assert_healthy()
        except AssertionError as error:
            return str(error)
        except Exception as error:
            return f"cannot say: {type(error).__name__}"
    return ""

"""Data that is there without a network: scikit-learn's tables and Python's own documentation."""

from __future__ import annotations

from typing import Any

import torch

from kadanoff.data.batch import Batch

__all__ = [
    "VOCABULARY",
    "bundled",
    "standardise",
]

# characters are ASCII codes: the same on every Python version, unlike a list of those that occur
VOCABULARY = 128
WINDOW = 64


def bundled(name: str) -> Batch:
    """Return the whole of ``digits``, ``breast_cancer``, ``wine``, ``diabetes`` or ``text``."""
    if name == "text":
        return _text()
    import sklearn.datasets

    source: Any = getattr(sklearn.datasets, f"load_{name}")()
    x = torch.tensor(source.data, dtype=torch.float32)
    if name == "digits":
        # one mean and one scale for all pixels, as for any image: a pixel that is lit in two
        # images of 1,797 would otherwise become an outlier of 30 standard deviations
        x = (x - x.mean()) / x.std(correction=0)
        image = (1, 8, 8)
        notes = ("pixels shifted and scaled to mean 0 and variance 1 together",)
    else:
        x, image = standardise(x), None
        notes = ("features standardised to mean 0 and variance 1",)
    if name == "diabetes":
        y = torch.tensor(source.target, dtype=torch.float32)[:, None]
        return Batch(x, standardise(y), name, "regression", notes=notes)
    y = torch.tensor(source.target, dtype=torch.int64)
    return Batch(x, y, name, "classification", int(y.max()) + 1, image, notes)


def standardise(x: torch.Tensor) -> torch.Tensor:
    """Shift and scale each feature to mean 0 and variance 1 over samples; constants become 0."""
    exact = x.double()
    centred = exact - exact.mean(0)
    scale = exact.std(0, correction=0)
    # a constant column leaves rounding noise that must not be blown up to variance 1
    constant = scale <= 1e-10 * exact.abs().amax(0).clamp_min(1e-300)
    scale = torch.where(constant, torch.ones_like(scale), scale)
    return torch.where(constant, torch.zeros_like(centred), centred / scale).to(x.dtype)


def _text() -> Batch:
    from pydoc_data import topics

    documents = "\n".join(topics.topics[key] for key in sorted(topics.topics))
    codes = torch.tensor(list(documents.encode("ascii", errors="replace")), dtype=torch.int64)
    count = (len(codes) - 1) // WINDOW
    inputs = codes[: count * WINDOW].reshape(count, WINDOW)
    targets = codes[1 : count * WINDOW + 1].reshape(count, WINDOW)
    note = f"windows of {WINDOW} characters as ASCII codes; the targets are the next characters"
    return Batch(inputs, targets, "text", "classification", VOCABULARY, notes=(note,))

"""Lightning's learning-rate finder on any family of the collection."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable

import torch
from torch import nn

from benchmarks.tune_sweep import batch_of
from benchmarks.zoo import Family

__all__ = ["lightning_rate"]

TRIALS = 100


def lightning_rate(
    family: Family,
    model: nn.Module,
    make: Callable[[float], list[torch.optim.Optimizer]],
    batch: int,
    seed: int,
) -> float | None:
    """``Tuner.lr_find`` at its defaults (100 steps, 1e-8 to 1); None if it has no suggestion.

    With several optimisers (Muon and AdamW) it moves the first one only.
    """
    from lightning.pytorch import (  # pyright: ignore[reportMissingImports]
        LightningModule,
        Trainer,
    )
    from lightning.pytorch.tuner import Tuner  # pyright: ignore[reportMissingImports]

    class Wrapped(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.lr = model, 1e-3

        def training_step(self, items, _):
            return family.run(self.inner, *items)

        def configure_optimizers(self):
            return make(self.lr)[0]

    data = [batch_of(family, batch, seed, 300 + k) for k in range(TRIALS + 1)]
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        loader = torch.utils.data.DataLoader(data, batch_size=None)  # pyright: ignore[reportArgumentType]
        found = Tuner(trainer).lr_find(Wrapped(), train_dataloaders=loader)
        return found.suggestion() if found is not None else None

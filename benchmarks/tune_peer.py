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

__all__ = ["lightning_rate", "mup_optimizer"]

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
    from pytorch_lightning import (  # pyright: ignore[reportMissingImports]
        LightningModule,
        Trainer,
    )
    from pytorch_lightning.tuner import Tuner  # pyright: ignore[reportMissingImports]

    class Wrapped(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.lr = model, 1e-3

        def training_step(self, items, _):
            return family.run(self.inner, *items)

        def configure_optimizers(self):
            return make(self.lr)[0]

    data = [batch_of(family, batch, seed, 300 + k) for k in range(TRIALS + 1)]
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
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


def mup_optimizer(
    family: Family, sizes: dict[str, int], optimizer: str, seed: int
) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A model in the parametrisation of package ``mup``, from a base of half the width, at 1e-3.

    Its last linear layer becomes a ``MuReadout``, as the package asks; a model without one, tied
    weights, convolutions of growing width (three infinite dimensions) and Muon do not apply.
    """
    import mup  # pyright: ignore[reportMissingImports]

    if optimizer == "muon":
        raise ValueError("no Muon")
    built = [
        _with_readout(family.build(seed, **sizes | {"width": width}), mup.MuReadout)
        for width in (sizes["width"], sizes["width"] // 2, 3 * sizes["width"] // 4)
    ]
    model = mup.set_base_shapes(built[0], built[1], delta=built[2])
    wanted = [p for p in model.parameters() if p.requires_grad]
    if optimizer == "sgd":
        return model, mup.MuSGD(wanted, lr=1e-3, momentum=0.9)
    return model, mup.MuAdamW(wanted, lr=1e-3, weight_decay=0.01)


def _with_readout(model: nn.Module, readout: type[nn.Linear]) -> nn.Module:
    last = [name for name, m in model.named_modules() if isinstance(m, nn.Linear)][-1]
    old = model.get_submodule(last)
    assert isinstance(old, nn.Linear)
    new = readout(old.in_features, old.out_features, bias=old.bias is not None)
    new.load_state_dict(old.state_dict())
    parent, _, leaf = last.rpartition(".")
    setattr(model.get_submodule(parent), leaf, new)
    return model

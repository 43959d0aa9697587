"""The callbacks with the real trainers."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.autograd
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import kadanoff as kd
from kadanoff.watching import FindingRaised
from tests.needs import needs
from tests.watching.runs import classes, mlp

pytestmark = pytest.mark.filterwarnings("default")


class TestLightning:
    def fit(self, callbacks, rate=0.1, steps=30, folder=None, ckpt=None, **more):
        pl = needs("pytorch_lightning", "lightning")

        class Module(pl.LightningModule):
            def __init__(self):
                super().__init__()
                self.net = mlp()

            def forward(self, x):
                return self.net(x)

            def training_step(self, batch, _index):
                return F.cross_entropy(self(batch[0]), batch[1])

            def configure_optimizers(self):
                return torch.optim.SGD(self.parameters(), lr=rate)

        module = Module()
        trainer = pl.Trainer(
            max_steps=steps,
            callbacks=callbacks,
            logger=False,
            accelerator="cpu",
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            **more,
        )
        torch.manual_seed(0)
        trainer.fit(module, DataLoader(TensorDataset(*classes()), 32, shuffle=True), ckpt_path=ckpt)
        if folder is not None:
            trainer.save_checkpoint(folder / "at.ckpt")
        return module

    def test_frames_losses_and_the_same_weights(self):
        needs("pytorch_lightning", "lightning")
        callback = kd.watch.lightning(classes(), every=10, on_finding="raise")
        watched, alone = self.fit([callback]), self.fit([])
        for name, value in alone.state_dict().items():
            assert torch.equal(value, watched.state_dict()[name]), name
        film = callback.film
        assert [f.step for f in film.frames] == [0, 10, 20, 30]
        assert film.recipe == "SGD, lr 0.1"
        assert film.losses()[1][-1] < film.losses()[1][0]
        assert film.frames[-1].scalars["update_ratio"] > 0
        assert "net.0" in film.depth
        assert film.healthy

    def test_accumulation(self):
        needs("pytorch_lightning", "lightning")
        callback = kd.watch.lightning(classes(), every=5, on_finding=None)
        self.fit([callback], steps=10, accumulate_grad_batches=4)
        assert callback.film.step == 10

    def test_a_finding_ends_the_training(self):
        needs("pytorch_lightning", "lightning")
        plain = torch.autograd.backward
        callback = kd.watch.lightning(classes(), every=10, on_finding="raise")
        with pytest.raises(FindingRaised):
            self.fit([callback], rate=200.0)
        assert torch.autograd.backward is plain

    def test_the_film_goes_on_from_a_checkpoint(self, tmp_path):
        needs("pytorch_lightning", "lightning")
        callback = kd.watch.lightning(classes(), every=10, on_finding=None)
        self.fit([callback], steps=20, folder=tmp_path)
        again = kd.watch.lightning(classes(), every=10, on_finding=None)
        self.fit([again], steps=40, ckpt=tmp_path / "at.ckpt")
        assert [f.step for f in again.film.frames] == [0, 10, 20, 30, 40]


class TestHuggingFace:
    def trained(self, folder, callbacks, rate=1e-3, steps=30):
        transformers = needs("transformers", "hf")
        needs("accelerate", "lightning")
        config = transformers.GPT2Config(
            vocab_size=32,
            n_positions=16,
            n_embd=32,
            n_layer=2,
            n_head=2,
            bos_token_id=0,
            eos_token_id=0,
        )
        torch.manual_seed(0)
        model = transformers.GPT2LMHeadModel(config)
        start = copy.deepcopy(model)
        ids = torch.arange(16).repeat(64, 1) + torch.arange(64)[:, None] % 16
        rows = [{"input_ids": row, "labels": row} for row in ids]
        settings = transformers.TrainingArguments(
            output_dir=str(folder),
            max_steps=steps,
            per_device_train_batch_size=8,
            learning_rate=rate,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
            logging_strategy="no",
        )
        trainer = transformers.Trainer(
            model=model, args=settings, train_dataset=rows, callbacks=callbacks
        )
        trainer.train()
        return model, start

    def batch(self):
        ids = torch.arange(16).repeat(8, 1) + torch.arange(8)[:, None]
        return {"input_ids": ids, "labels": ids}

    def test_frames_losses_and_the_same_weights(self, tmp_path):
        needs("transformers", "hf")
        callback = kd.watch.hugging_face(self.batch(), every=10, on_finding="raise", thorough=True)
        watched, _ = self.trained(tmp_path, [callback])
        alone, _ = self.trained(tmp_path, [])
        for name, value in alone.state_dict().items():
            assert torch.equal(value, watched.state_dict()[name]), name
        film = callback.film
        assert [f.step for f in film.frames] == [0, 10, 20, 30]
        assert film.recipe.startswith("AdamW")
        assert film.losses()[1][-1] < film.losses()[1][0]
        assert len(film.names("max_logit")) == 2
        assert film.scalar("sharpness_over_edge")[1][-1] > 0
        assert film.healthy
        assert not film.notes

    def test_a_finding_ends_the_training_and_leaves_nothing(self, tmp_path):
        needs("transformers", "hf")
        plain = torch.autograd.backward
        seen: list[nn.Module] = []
        callback = kd.watch.hugging_face(self.batch(), every=2, on_finding="raise")
        opened = callback.watching.open
        callback.watching.open = lambda model: (seen.append(model), opened(model))
        with pytest.raises(FindingRaised):
            self.trained(tmp_path, [callback], rate=1e3, steps=60)
        assert torch.autograd.backward is plain
        assert not seen[0]._forward_pre_hooks

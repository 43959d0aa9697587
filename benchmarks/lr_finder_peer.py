"""The Lightning side of benchmarks.lr_finder; runs in the interpreter KADANOFF_LIGHTNING_PYTHON."""

import json
import logging
import sys
import tempfile
import time
import warnings

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.tuner import Tuner
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Net(LightningModule):
    def __init__(self, weights, activation):
        super().__init__()
        layers = []
        for k, (W, b) in enumerate(weights):
            linear = nn.Linear(W.shape[1], W.shape[0])
            linear.weight.data = torch.as_tensor(W)
            linear.bias.data = torch.as_tensor(b)
            layers += [linear, activation()] if k < len(weights) - 1 else [linear]
        self.net = nn.Sequential(*layers)
        self.lr = 1e-3

    def training_step(self, batch, _):
        x, y = batch
        return nn.functional.mse_loss(self.net(x), y)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr)


def main(case):
    torch.set_num_threads(1)
    torch.manual_seed(case["seed"])
    data = np.load(case["file"])
    weights = [(data[f"W{k}"], data[f"b{k}"]) for k in range(case["layers"])]
    model = Net(weights, {"tanh": nn.Tanh, "relu": nn.ReLU}[case["activation"]])
    points = TensorDataset(torch.as_tensor(data["x"]), torch.as_tensor(data["y"]))
    loader = DataLoader(points, batch_size=case["batch"], shuffle=True)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            default_root_dir=folder, accelerator="cpu", logger=False, max_epochs=1000,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        start = time.perf_counter()
        finder = Tuner(trainer).lr_find(model, train_dataloaders=loader)
        seconds = time.perf_counter() - start
    return {"suggestion": finder.suggestion() if finder else None, "seconds": seconds}


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with open(sys.argv[1]) as file:
        print("\n" + json.dumps(main(json.load(file))))

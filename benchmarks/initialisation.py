"""Four initialisations of one deep tanh network: what two inputs, the gradient and the loss do.

    python -m benchmarks.initialisation

Depth 40, width 256, digits. PyTorch's default ``nn.Linear``, ``calculate_gain("tanh")``, the
choice of the package ``anyinit`` (if installed; else its value 3.576 with a note), and criticality
by ``kadanoff.tune``. Eight seeds; geometric means with standard errors; each initialisation trains
with its own best learning rate out of five.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

DEPTH, WIDTH, SEEDS, STEPS, BATCH = 40, 256, 8, 200, 64
RATES = (0.3, 0.1, 0.03, 0.01, 0.003)
HERE = Path(__file__).parent


def network(seed: int) -> nn.Sequential:
    """The network with PyTorch's own initialisation."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for i in range(DEPTH):
            layers += [nn.Linear(64 if i == 0 else WIDTH, WIDTH), nn.Tanh()]
        return nn.Sequential(*layers, nn.Linear(WIDTH, 10))


def linears(model: nn.Sequential) -> list[nn.Linear]:
    return [layer for layer in model if isinstance(layer, nn.Linear)]


def default(model: nn.Sequential, x: torch.Tensor, seed: int) -> None:
    """Leave what PyTorch drew."""


def calculated_gain(model: nn.Sequential, x: torch.Tensor, seed: int) -> None:
    """The documented recipe: ``calculate_gain("tanh")`` over the square root of fan-in."""
    generator = torch.Generator().manual_seed(seed)
    gain = nn.init.calculate_gain("tanh")
    for layer in linears(model):
        std = gain * layer.in_features**-0.5
        nn.init.normal_(layer.weight, std=std, generator=generator)
        nn.init.zeros_(layer.bias)


def any_init(model: nn.Sequential, x: torch.Tensor, seed: int) -> None:
    """What ``anyinit`` chooses on its own."""
    try:
        import anyinit  # pyright: ignore[reportMissingImports]
    except ImportError:
        generator = torch.Generator().manual_seed(seed)
        for layer in linears(model):
            nn.init.normal_(
                layer.weight, std=(3.576 / layer.in_features) ** 0.5, generator=generator
            )
            nn.init.zeros_(layer.bias)
        return
    anyinit.initialize(model, "analytic", x, seed=seed)


def critical(model: nn.Sequential, x: torch.Tensor, seed: int) -> None:
    """``kadanoff.tune``."""
    from kadanoff import tune

    tune(model, x, seed=seed)


CHOICES = {
    "PyTorch default": default,
    'calculate_gain("tanh")': calculated_gain,
    "anyinit": any_init,
    "kadanoff (critical)": critical,
}


def stack(choice: Any, x: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Weights (seed, out, in) and biases (seed, out) of all seeds, layer by layer."""
    models = []
    for seed in range(SEEDS):
        model = network(seed)
        choice(model, x, seed)
        models.append(linears(model))
    weights = [torch.stack([m[i].weight.detach() for m in models]) for i in range(DEPTH + 1)]
    biases = [torch.stack([m[i].bias.detach() for m in models]) for i in range(DEPTH + 1)]
    return weights, biases


def forward(weights: Any, biases: Any, x: torch.Tensor, keep: bool = False) -> list[torch.Tensor]:
    """All seeds at once: x is (N, 64); returns the preactivations (seed, N, n) of each layer."""
    h, zs = x.expand(len(weights[0]), *x.shape), []
    for i, (W, b) in enumerate(zip(weights, biases)):
        z = torch.baddbmm(b[:, None, :], h, W.transpose(1, 2))
        zs = [*zs, z] if keep else [z]
        h = torch.tanh(z) if i < DEPTH else z
    return zs


def signals(weights: Any, biases: Any, x: torch.Tensor, y: torch.Tensor) -> dict[str, np.ndarray]:
    """Distance of two close inputs, and size of the loss gradient, by layer and seed."""
    generator = torch.Generator().manual_seed(99)
    near = x + 1e-3 * torch.randn(x.shape, generator=generator, dtype=x.dtype)
    weights = [W.double().requires_grad_() for W in weights]
    biases = [b.double() for b in biases]
    zs = forward(weights, biases, x.double(), keep=True)
    zn = forward(weights, biases, near.double(), keep=True)
    apart = [((a - b).square().mean((1, 2)).sqrt()).detach().numpy() for a, b in zip(zs, zn)]
    size = len(weights[0])
    losses = nn.functional.cross_entropy(zs[-1].flatten(0, 1), y.repeat(size), reduction="sum")
    grads = torch.autograd.grad(losses / len(y), weights)
    rms = [g.square().mean((1, 2)).sqrt().numpy() for g in grads]
    return {"distance": np.array(apart), "gradient": np.array(rms)}  # (layer, seed)


def train(weights: Any, biases: Any, X: Any, y: Any, lr: float, steps: int) -> np.ndarray:
    """Plain SGD on every seed at once; losses (step, seed)."""
    parameters = [p.clone().requires_grad_() for p in (*weights, *biases)]
    count, size = len(weights), len(weights[0])
    generator = torch.Generator().manual_seed(7)
    losses = np.full((steps, size), np.inf)
    for step in range(steps):
        index = torch.randint(len(X), (BATCH,), generator=generator)
        out = forward(parameters[:count], parameters[count:], X[index])[-1]
        each = nn.functional.cross_entropy(
            out.flatten(0, 1), y[index].repeat(size), reduction="none"
        ).view(size, -1)
        loss = each.mean(1)
        losses[step] = loss.detach().numpy()
        if not np.isfinite(losses[step]).all():
            break
        grads = torch.autograd.grad(loss.sum(), parameters)
        with torch.no_grad():
            for p, g in zip(parameters, grads):
                p.sub_(g, alpha=lr)
    return losses


def measure() -> dict[str, Any]:
    """Run everything; plain lists and numbers."""
    from kadanoff.activations import activation
    from kadanoff.critical import susceptibilities
    from kadanoff.data import load

    data = load("digits", batch=None)
    X, y = data.inputs, data.targets
    assert y is not None
    sample = X[:256]
    out: dict[str, Any] = {}
    for name, choice in CHOICES.items():
        start = time.perf_counter()
        weights, biases = stack(choice, sample)
        gain = float((WIDTH * weights[1].square().mean()).item())
        seen = signals(weights, biases, X[:32], y[:32])
        two = [[p[:2] for p in part] for part in (weights, biases)]
        trials = {lr: train(two[0], two[1], X, y, lr, STEPS // 2)[-20:].mean() for lr in RATES}
        lr = min(trials, key=lambda rate: (trials[rate], rate))
        losses = train(weights, biases, X, y, lr, STEPS)
        K = float(forward(weights, biases, sample, keep=True)[DEPTH - 2][..., :].square().mean())
        _, chi = susceptibilities(activation("tanh"), K, gain)
        out[name] = {
            "C_W": gain, "K_last": K, "chi_perp": float(chi), "lr": lr,
            "distance": seen["distance"].tolist(), "gradient": seen["gradient"].tolist(),
            "loss": losses.tolist(), "seconds": time.perf_counter() - start,
        }  # fmt: skip
        print(f"{name}: C_W {gain:.3f}, lr {lr}, loss {losses[-10:].mean():.3f}", flush=True)
    return out


def geometric(values: Any) -> tuple[np.ndarray, np.ndarray]:
    """Geometric mean over seeds and the standard error of its logarithm."""
    logs = np.log(np.maximum(np.asarray(values, dtype=float), 1e-300))
    return np.exp(logs.mean(-1)), logs.std(-1, ddof=1) / math.sqrt(logs.shape[-1])


def draw(found: dict[str, Any], stem: Path) -> None:
    """Three panels, four initialisations."""
    from kadanoff.style.figures import DASHES, colour, figure, house_style, save

    tones = [colour(role) for role in ("measured", "violet", "theory", "critical")]
    with house_style():
        fig, axes = figure(1, 3, width=12.5, height=3.9)
        for i, (name, run) in enumerate(found.items()):
            dash = DASHES[(1, 2, 3, 0)[i]]
            label = f"{name}: $C_W$ = {run['C_W']:.2f}"
            for ax, key in zip(axes, ("distance", "gradient")):
                mean, error = geometric(run[key])
                mean, error = mean[:DEPTH], error[:DEPTH]
                layers = np.arange(1, DEPTH + 1)
                ax.plot(layers, mean, color=tones[i], ls=dash, label=label)
                low, high = mean * np.exp(-error), mean * np.exp(error)
                ax.fill_between(layers, low, high, color=tones[i], alpha=0.18, lw=0)
            losses = np.asarray(run["loss"])
            kernel = np.ones(5) / 5
            smooth = np.stack([np.convolve(c, kernel, "valid") for c in losses.T])
            steps = np.arange(len(smooth[0])) + 3
            mean, error = smooth.mean(0), smooth.std(0, ddof=1) / math.sqrt(SEEDS)
            axes[2].plot(steps, mean, color=tones[i], ls=dash, label=f"lr {run['lr']:g}")
            axes[2].fill_between(
                steps, mean - error, mean + error, color=tones[i], alpha=0.18, lw=0
            )
        axes[0].set(yscale="log", xlabel="layer", ylabel="distance (rms)")
        axes[0].set_title("Two inputs, 0.001 apart")
        axes[1].set(yscale="log", xlabel="layer", ylabel="gradient per weight (rms)")
        axes[1].set_title("Gradient of the loss")
        axes[2].set(xlabel="step of SGD", ylabel="cross entropy", ylim=(0, 3.9))
        axes[2].set_title("Training on digits, best of five rates")
        axes[2].legend(loc="upper right")
        handles, labels = axes[0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside lower center", ncols=4)
        save(fig, stem)


def fragment(found: dict[str, Any], versions: dict[str, str]) -> str:
    """The table for benchmarks/README.md."""
    lines = [
        "### Four initialisations of a tanh network",
        "",
        f"Depth {DEPTH}, width {WIDTH}, digits, {SEEDS} seeds (geometric means with "
        "standard errors). `python -m benchmarks.initialisation`"
        f"; torch {versions['torch']}, anyinit {versions['anyinit']}.",
        "",
        "| initialisation | C_W | χ⊥ at the last hidden layer | distance of two close inputs, "
        "layer 40 : 1 | gradient per weight, layer 2 : 40 | loss after "
        f"{STEPS} steps (its best rate) |",
        "|---|---|---|---|---|---|",
    ]
    for name, run in found.items():
        cells = []
        for key, top, bottom in (("distance", DEPTH - 1, 0), ("gradient", 1, DEPTH - 1)):
            values = np.asarray(run[key])
            mean, error = geometric(values[top] / values[bottom])
            cells.append(f"{mean:.3g} (± {100 * error:.0f}%)")
        last = np.asarray(run["loss"])[-20:].mean(0)
        error = last.std(ddof=1) / math.sqrt(len(last))
        cells.append(f"{last.mean():.3f} ± {error:.3f} ({run['lr']:g})")
        row = [name, f"{run['C_W']:.3f}", f"{run['chi_perp']:.2f}", *cells]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    import importlib.metadata

    from kadanoff.files import atomic_write, write_json

    try:
        version = importlib.metadata.version("anyinit")
    except importlib.metadata.PackageNotFoundError:
        version = "not installed: its C_W of 0.4.0 is used"
    versions = {"torch": torch.__version__, "anyinit": version}
    found = measure()
    (HERE / "results").mkdir(exist_ok=True)
    table = fragment(found, versions)
    write_json(HERE / "results/initialisation.json", {"versions": versions, "results": found})
    atomic_write(HERE / "results/initialisation.md", table)
    images = HERE.parent / "docs/images"
    images.mkdir(parents=True, exist_ok=True)
    draw(found, images / "initialisation")
    print(table)


if __name__ == "__main__":
    main()

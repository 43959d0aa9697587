"""What the study of diffusion surrogates computes: the parts, functions of plain numbers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

import kadanoff as kd
from kadanoff.errors import AnalysisError
from kadanoff.studies.diffusion_surrogates.diffusion import (
    FixedValues2D,
    RollBack,
    ScreenedPoisson2D,
    SourceCNN,
    Sources,
    UNet2d,
    Uptake2D,
    VariableDiffusion2D,
    amplitude,
    error_bound,
    field_errors,
    fit,
    fourier_operator,
    refine,
    relax,
    weighted_loss,
)
from kadanoff.tuning.parts import parameter_roles
from kadanoff.tuning.rates import parameter_groups

__all__ = [
    "constants",
    "direct_solvers",
    "make_network",
    "roll_back",
    "sizes",
    "small_training",
    "speeds",
    "train_network",
    "uptake_data",
    "uptake_network",
    "uptake_speeds",
]


def make_network(kind: str) -> nn.Module:
    """A surrogate by name; the trailing numbers are its width and depth."""
    name, *numbers = kind.split("-")
    n = [int(v) for v in numbers]
    if name == "pair":
        # without dropout: with it no short training gets off the ground
        return SourceCNN((1, 1), width=n[0], dropouts=(0, 0, 0, 0))
    if name == "first":
        return SourceCNN((1, 0), dropouts=(0, 0, 0, 0))
    if name == "unet":
        return UNet2d(n[0], n[1])
    return fourier_operator(n[0], n[1], n[2])


def _groups(
    net: nn.Module, start: str, sample: Tensor, size: float, rate: float
) -> list[dict[str, Any]]:
    """Parameter groups of an Adam optimiser: one rate for all, or kadanoff.tune's.

    Tuned networks also start with an output of the targets' root mean square ``size``.
    """
    if start == "default":
        return [{"params": list(net.parameters()), "lr": rate}]
    if isinstance(net, SourceCNN):
        # the normalisation at the very end hides the scale of all that comes before it
        for part in (net.first, net.second):
            if part is not None:
                kd.tune(nn.Sequential(*list(part)[:-1]), sample[:, None])
    else:
        # a refusal leaves the weights as they were; the rates still follow from the response
        with suppress(AnalysisError):
            kd.tune(net, sample)
        readout = [r.name for r in parameter_roles(net, sample).values() if r.role == "readout"]
        with torch.no_grad():
            now = net(sample).square().mean().sqrt()
            parameters = dict(net.named_parameters())
            for name in readout:
                parameters[name].mul_(size / now)
    # the base counts in units of the output
    return parameter_groups(net, sample, "adamw", base=rate * size)


def train_network(
    kind: str,
    start: str,
    rate: float,
    size: int,
    samples: int,
    seed: int,
    test: int,
    checkpoint: str,
    device: str = "cpu",
) -> dict[str, Any]:
    """Train one surrogate on new pairs all the time; measure it on fixed test pairs."""
    batch = 16
    pairs = _pairs(size, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = make_network(kind)
    alpha, y = pairs.batch(-1, 4 if size > 64 else 32)
    groups = _groups(net, start, alpha, float(y.square().mean().sqrt()), rate)
    net.to(device)
    optimizer = torch.optim.AdamW([{"params": g["params"], "lr": g["lr"]} for g in groups])
    exam = _pairs(size, 10_000 + seed).batch(0, test)

    def draw(index: int) -> tuple[Tensor, Tensor]:
        x, y = pairs.batch(index, batch)
        return x.to(device), y.to(device)

    def check(model: nn.Module) -> float:
        _settle(model, pairs, device)
        with torch.no_grad():
            guess = _predict(model, exam[0][:16], device)
        return float((guess - exam[1][:16]).abs().mean())

    steps = max(10, samples // batch)
    begin = time.process_time()
    record = fit(
        net,
        draw,
        optimizer,
        epochs=10,
        batches=steps // 10,
        evaluate=check,
        checkpoint=checkpoint,
        seed=seed,
    )
    seconds = time.process_time() - begin
    many = Sources(size=size, n_sources=5, radius=pairs.radius, seed=20_000 + seed).batch(0, test)
    out = _examine(net, exam, pairs.solver(), device)
    out |= {
        "checks": record.checks,
        "samples": record.samples,
        "seconds": seconds,
        "parameters": sum(p.numel() * (1 + p.is_complex()) for p in net.parameters()),
        "five": vars(field_errors(_predict(net, many[0], device), many[1], many[0])),
    }
    return out


def _settle(model: nn.Module, pairs: Sources, device: str) -> None:
    """Take the running statistics of batch normalisation anew, from eight batches.

    A moving average lags behind weights that move, and its test error falls or rises for that
    reason alone.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    if not norms:
        return
    held = [m.momentum for m in norms]
    for m in norms:
        m.reset_running_stats()
        m.momentum = None  # the plain average
    model.train()
    with torch.no_grad():
        for index in range(8):
            model(pairs.alpha(-2 - index, 16).to(device))
    for m, momentum in zip(norms, held):
        m.momentum = momentum
    model.eval()


def constants(size: int, seed: int, test: int) -> dict[str, float]:
    """Mean errors on the test pairs of always 0 and of always the median training image."""
    pairs = _pairs(size, seed)
    y = _pairs(size, 10_000 + seed).batch(0, test)[1]
    median = pairs.batch(0, 512)[1].median(0).values
    return {"zero": float(y.abs().mean()), "median": float((y - median).abs().mean())}


def small_training(
    size: int, pairs: int, samples: int, weight: float, seed: int, test: int
) -> dict[str, float]:
    """A small U-Net on a finite training set: mean error on new pairs, bright and dark apart."""
    data = _pairs(size, seed)
    finite = Sources(size=size, radius=data.radius, gamma=data.gamma, seed=seed, pairs=pairs)
    # the whole set once, not drawn again for every batch
    alpha, y = (torch.cat(part) for part in zip(*(finite.batch(k, 16) for k in range(pairs // 16))))
    generator = torch.Generator().manual_seed(seed)
    order = [torch.randint(pairs, (16,), generator=generator) for _ in range(samples // 16)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = UNet2d(4, 3)
    optimizer = torch.optim.AdamW(net.parameters(), lr=4e-3)
    fit(
        net,
        lambda index: (alpha[order[index]], y[order[index]]),
        optimizer,
        epochs=10,
        batches=len(order) // 10,
        loss=lambda guess, field: weighted_loss(guess, field, "absolute", weight),
        seed=seed,
    )
    x, truth = _pairs(size, 10_000 + seed).batch(0, test)
    error = (_predict(net, x) - truth).abs()
    return {
        "mean": float(error.mean()),
        "bright": float(error[truth > 0.5].mean()),
        "dark": float(error[truth < 0.1].mean()),
    }


def _pairs(size: int, seed: int) -> Sources:
    # the same geometry on smaller lattices: radius and diffusion length shrink along
    scale = 100 / size
    return Sources(size=size, radius=max(2, round(5 / scale)), gamma=scale**2 / 400, seed=seed)


def _predict(net: nn.Module, alpha: Tensor, device: str = "cpu") -> Tensor:
    net.eval()
    with torch.no_grad():
        return torch.cat([net(part.to(device)).cpu() for part in alpha.split(16)])


def _examine(
    net: nn.Module, exam: tuple[Tensor, Tensor], solver: ScreenedPoisson2D, device: str
) -> dict[str, Any]:
    alpha, y = exam
    guess = _predict(net, alpha, device)
    out: dict[str, Any] = vars(field_errors(guess, y, alpha)).copy()
    source, field = alpha.double(), guess.double()
    exact = solver(source)
    # the network's amplitude is lost in the normalisation: fitted back from the source
    scale = amplitude(solver, field, source)[:, None, None]
    fitted = (exact * field).sum((-2, -1)) / (field**2).sum((-2, -1)).clamp_min(1e-300)
    u = scale * field
    bound = error_bound(solver, u, source)
    error = (u - exact).abs()
    ok = error.flatten(1).norm(dim=1) > 0
    out["bound_two"] = (bound.two / error.flatten(1).norm(dim=1))[ok].tolist()
    out["bound_maximum"] = (bound.maximum / error.amax((-2, -1)))[ok].tolist()
    out["bound_pointwise"] = float(((bound.pointwise - error) / exact.max()).min())
    cold = refine(solver, torch.zeros_like(u), source)
    warm = refine(solver, u, source)
    best = refine(solver, fitted[:, None, None] * field, source)
    out["cold"], out["warm"] = cold.each.double().mean().item(), warm.each.double().mean().item()
    out["warm_fitted"] = best.each.double().mean().item()
    out["hybrid_error"] = float(
        ((warm.x - exact).flatten(1).norm(dim=1) / exact.flatten(1).norm(dim=1)).max()
    )
    # the exact map of a sum of sources, against the network's
    a, b = source[: len(source) // 2], source[len(source) // 2 :]
    n = min(len(a), len(b))
    both = solver(a[:n] + b[:n])
    parts = torch.cat((a[:n] + b[:n],)).float()
    together = _predict(net, parts / parts.amax((-2, -1), keepdim=True), device)
    out["sum_error"] = float((together - both / both.amax((-2, -1), keepdim=True)).abs().mean())
    show = 0
    out["picture"] = {
        "alpha": alpha[show, ::2, ::2].tolist(),
        "y": y[show, ::2, ::2].tolist(),
        "guess": guess[show, ::2, ::2].tolist(),
    }
    return out


def sizes() -> list[int]:
    """Parameters of the authors' two networks at full width."""
    with torch.device("meta"):
        pair = SourceCNN((1, 1))
    return [
        sum(p.numel() for p in part.parameters())
        for part in (pair.first, pair.second)
        if part is not None
    ]


def _factored(size: int, gamma: float) -> Any:
    """Sparse LU factors of γ − ∇² with absorbing walls, built without this library."""
    import scipy.sparse as sparse
    from scipy.sparse.linalg import splu

    side = -sparse.eye(size, k=1)
    T, one = side + side.T + 2 * sparse.eye(size), sparse.eye(size)
    return splu((sparse.kron(T, one) + sparse.kron(one, T) + gamma * sparse.eye(size**2)).tocsc())


def direct_solvers(size: int, seed: int) -> dict[str, float]:
    """Accuracy of the solvers on one batch of sources, each against an independent route."""
    import numpy as np

    pairs = _pairs(size, seed)
    solver = pairs.solver()
    alpha = pairs.alpha(0, 4).double()
    u = solver(alpha)
    lu = _factored(size, pairs.gamma).solve(alpha.view(4, -1).numpy().T).T.reshape(u.shape)
    fast = ScreenedPoisson2D(size, pairs.D, pairs.gamma, method="fast")
    stepped = relax(solver, alpha, t_end=3000.0 * pairs.gamma**-1 / 400)
    mask = alpha[0] > 0
    held = FixedValues2D(solver, mask)(torch.zeros_like(alpha), 1.0)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(alpha.shape[1:], generator=generator, dtype=torch.float64)
    D = torch.exp(0.6 * solver(noise))
    variable = VariableDiffusion2D(D, pairs.gamma)
    w = variable(alpha)
    return {
        "residual": float(solver.residual(u, alpha).abs().max()),
        "lu": float(np.abs(u.numpy() - lu).max() / np.abs(lu).max()),
        "single": float((solver(alpha.float()) - u).norm() / u.norm()),
        "fast": float((fast(alpha) - u).abs().max() / u.max()),
        "stepped": float((stepped.u - u).norm() / u.norm()),
        "evaluations": stepped.evaluations,
        "discs": float((held[:, mask] - 1).abs().max()),
        "contrast": float(D.max() / D.min()),
        "variable": float((variable.apply(w) - alpha).norm() / alpha.norm()),
        "variable_iterations": variable.last.iterations if variable.last else 0,
    }


def _p10(call: Callable[[], Any], repeats: int) -> float:
    """Tenth percentile of the CPU seconds of a call: what an undisturbed machine would take."""
    call()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return sorted(taken)[len(taken) // 10]


def speeds(repeats: int) -> dict[str, float]:
    """Seconds for one field on the paper's lattice, batch 1 and per field in a batch of 16."""
    pairs = Sources()
    solver = pairs.solver()
    alpha = pairs.alpha(0, 16)
    one, wide = alpha[:1], alpha[:1].double()
    lu, flat = _factored(100, pairs.gamma), wide.view(-1).numpy()
    euler = 400
    out = {}
    with torch.no_grad():
        out["direct, float32"] = _p10(lambda: solver(one), 20 * repeats)
        out["direct, float64"] = _p10(lambda: solver(wide), 20 * repeats)
        out["direct, float32, batch 16"] = _p10(lambda: solver(alpha), 10 * repeats) / 16
        out["sparse LU, solve only"] = _p10(lambda: lu.solve(flat), 10 * repeats)
        zero = torch.zeros_like(wide)
        out["conjugate gradients, 1e-6"] = _p10(lambda: refine(solver, zero, wide), 2 * repeats)
        step = _p10(lambda: relax(solver, one, t_end=0.24 * euler, steps=euler, method="euler"), 2)
        out["time stepping, explicit Euler"] = step * 12_500 / euler
        out["time stepping, Chebyshev"] = _p10(lambda: relax(solver, one), max(2, repeats // 3))
        for kind in ("first", "pair-64", "pair-8", "unet-8-4", "fno-12-12-3"):
            net = make_network(kind).eval()
            count = max(2, repeats // 3) if kind == "pair-64" else 2 * repeats
            out[f"{kind}"] = _p10(lambda net=net: net(one), count)
            if kind != "pair-64":
                out[f"{kind}, batch 16"] = _p10(lambda net=net: net(alpha), repeats) / 16
    return out


def roll_back(rate: float, size: int, epochs: int, seed: int) -> dict[str, Any]:
    """The same training with two spoilt epochs, with and without roll-back.

    In a spoilt epoch every field has the wrong sign and is thirty times too large.
    """
    spoilt = [epochs // 2 + 1, 3 * epochs // 4 + 1]
    data = Sources(size=size, radius=2, gamma=1 / 40, seed=seed, pairs=64)
    alpha, y = data.batch(0, 64)

    def batch(index: int) -> tuple[Tensor, Tensor]:
        epoch, place = divmod(index, 4)
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        pick = torch.randperm(64, generator=generator)[16 * place : 16 * (place + 1)]
        return alpha[pick], (-30 if epoch + 1 in spoilt else 1) * y[pick]

    exam = Sources(size=size, radius=2, gamma=1 / 40, seed=10_000 + seed).batch(0, 64)
    out: dict[str, Any] = {"spoilt": spoilt}
    for guarded in (False, True):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = UNet2d(4, 3)
        record = fit(
            net,
            batch,
            torch.optim.Adam(net.parameters(), lr=rate),
            epochs=epochs,
            batches=4,
            decay="none",
            rollback=RollBack() if guarded else None,
            seed=seed,
        )
        out["with" if guarded else "without"] = {
            "losses": record.losses,
            "rejected": record.rejected,
            "final": float((_predict(net, exam[0]) - exam[1]).abs().mean()),
        }
    return out


# ranges of the six numbers that a tissue section is described by
_LOW = torch.tensor([6.0, 6.0, 6.0, 6.0, math.log(0.002), math.log(0.05)], dtype=torch.float64)

_HIGH = torch.tensor([43.0] * 4 + [math.log(0.02), math.log(0.5)], dtype=torch.float64)


def _tissue(size: int, x: Tensor, tolerance: float) -> tuple[Uptake2D, Tensor]:
    """Two vessels of constant concentration in tissue with saturable uptake; x in [0, 1]^6."""
    high = _HIGH.clone()
    low = _LOW.clone()
    low[:4] *= size / 48
    high[:4] *= size / 48
    p = low + (high - low) * x
    axis = torch.arange(1, size + 1, dtype=torch.float64)
    mask = torch.zeros(len(x), size, size, dtype=torch.bool)
    for k in (0, 2):
        dx = (axis[None, :] - p[:, k, None]) ** 2
        dy = (axis[None, :] - p[:, k + 1, None]) ** 2
        mask |= dx[:, :, None] + dy[:, None, :] <= (4 * size / 48) ** 2
    # the same tissue on a coarser lattice: uptake per node grows as the square of the spacing
    scale = (48 / size) ** 2
    solver = ScreenedPoisson2D(size, 1.0, 1e-6 * scale, "neumann")
    uptake = Uptake2D(solver, scale * p[:, 4].exp(), p[:, 5].exp(), mask, tolerance=tolerance)
    return uptake, torch.zeros(len(x), size, size, dtype=torch.float64)


def _quantities(u: Tensor) -> Tensor:
    """Hypoxic fraction (below 0.1, edge of 0.02) and mean concentration."""
    hypoxic = torch.sigmoid((0.1 - u) / 0.02).mean((-2, -1))
    return torch.stack((hypoxic, u.mean((-2, -1))), dim=-1)


def uptake_data(count: int, size: int, seed: int) -> dict[str, Any]:
    """Random tissue sections, and their hypoxic fraction and mean by the exact solver."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(count, 6, generator=generator, dtype=torch.float64)
    start, out, newton, linear = time.process_time(), [], 0, 0
    for part in x.split(50):
        uptake, alpha = _tissue(size, part, 1e-7)
        found = uptake.solve(alpha)
        newton, linear = max(newton, found.newton), max(linear, found.linear)
        out.append(_quantities(found.u))
    seconds = time.process_time() - start
    example = _tissue(size, x[:1], 1e-7)
    return {
        "x": x,
        "q": torch.cat(out),
        "seconds": seconds,
        "newton": newton,
        "linear": linear,
        "example": example[0].solve(example[1]).u[0],
    }


def _mlp(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(6, width),
        nn.Tanh(),
        nn.Linear(width, width),
        nn.Tanh(),
        nn.Linear(width, width),
        nn.Tanh(),
        nn.Linear(width, 2),
    )


def uptake_network(
    data: dict[str, Any], start: str, rate: float, steps: int, seed: int
) -> dict[str, Any]:
    """A small MLP from the six numbers to the two quantities; last fifth held out."""
    x = 2 * torch.tensor(data["x"]).float() - 1
    q = torch.tensor(data["q"]).float()
    n = len(x) * 4 // 5
    middle, spread = q[:n].mean(0), q[:n].std(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = _mlp(64)
    groups = _groups(net, start, x[:256], 1.0, rate)
    optimizer = torch.optim.Adam([{"params": g["params"], "lr": g["lr"]} for g in groups])
    generator = torch.Generator().manual_seed(seed)
    begin = time.process_time()
    first = [g["lr"] for g in optimizer.param_groups]
    for step in range(steps):
        for group, lr in zip(optimizer.param_groups, first):
            group["lr"] = lr * 0.5 * (1 + math.cos(math.pi * step / steps))
        pick = torch.randint(n, (256,), generator=generator)
        loss = (net(x[pick]) - (q[pick] - middle) / spread).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    seconds = time.process_time() - begin
    with torch.no_grad():
        error = (net(x[n:]) * spread + middle - q[n:]).abs()
        one, many = x[:1], x[:1].expand(10_000, -1)
        single, batch = _p10(lambda: net(one), 200), _p10(lambda: net(many), 20) / 10_000
    return {
        "mean": error.mean(0),
        "p99": error.quantile(0.99, dim=0),
        "maximum": error.amax(0),
        "seconds": seconds,
        "one": single,
        "batch": batch,
    }


def uptake_speeds(size: int, repeats: int, seed: int) -> list[dict[str, Any]]:
    """Seconds and error of the solver itself at loose tolerances and on coarser lattices."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(24, 6, generator=generator, dtype=torch.float64)
    uptake, alpha = _tissue(size, x, 1e-9)
    exact = _quantities(uptake.solve(alpha).u)
    out = []
    for side in (size, size // 2, size // 4):
        for tolerance in (1e-7, 1e-2, 1e-1):
            uptake, alpha = _tissue(side, x, tolerance)
            q = _quantities(uptake.solve(alpha).u)
            batch = _p10(lambda u=uptake, a=alpha: u.solve(a), repeats) / len(x)
            alone, source = _tissue(side, x[:1], tolerance)
            single = _p10(lambda u=alone, a=source: u.solve(a), repeats)
            error = (q - exact).abs().mean(0)
            out.append(
                {
                    "side": side,
                    "tolerance": tolerance,
                    "error": error,
                    "one": single,
                    "batch": batch,
                }
            )
    return out

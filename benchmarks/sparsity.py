"""What skipping inactive rows gains, beside dense kernels of both kinds and the limit.

``python -m benchmarks.sparsity`` (goes on where it stopped; delete ``results/sparsity.json`` to
begin anew): one token through one MLP block, weights rotating through more
layers than the cache holds; then a trained Top-k decoder end to end. Both ratios always: over a
dense kernel at the speed of memory (what sparsity gains) and over torch (what a user gains).
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from kadanoff.files import atomic_write, write_json
from kadanoff.sparsity import accelerate, acceleration_of, bandwidth, profile
from kadanoff.sparsity.backends import load
from kadanoff.sparsity.blocks import LinearMap
from kadanoff.sparsity.screen import make_screen
from kadanoff.sparsity.skip import FastLinear
from kadanoff.sparsity.traffic import limit
from kadanoff.studies.lazy_neurons.toy import Decoder, generate, text, train

RESULTS = Path(__file__).parent / "results"
DENSITIES = (0.5, 0.2, 0.1, 0.05, 0.02, 0.005)
TOKENS = 8
OURS = load("numba")


def measure(ways: dict[str, Callable[[int], Any]], layers: int, rounds: int) -> dict[str, float]:
    """Tenth percentile of the seconds a call, ways alternating round by round.

    Time of this thread on the processor: what other work on the machine takes in between does not
    count. What it takes of the memory's bandwidth does, hence a low percentile.
    """
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way(0)
    for turn in range(rounds):
        for name, way in ways.items():
            for layer in range(layers):
                start = time.thread_time()
                way(turn * layers + layer)
                taken[name].append(time.thread_time() - start)
    return {name: float(np.quantile(values, 0.1)) for name, values in taken.items()}


def setting(d: int, dtype: torch.dtype, gated: bool, seed: int = 0) -> dict[str, Any]:
    """Layers enough to exceed the cache three times over, and inputs."""
    m = 4 * d
    generator = torch.Generator().manual_seed(seed)
    matrices = 3 if gated else 2
    layers = max(2, -(-100 * 2**20 // (matrices * d * m * (4 if dtype == torch.float32 else 2))))
    once = [
        (torch.randn(m, d, generator=generator) / d**0.5).to(dtype) for _ in range(matrices)
    ]  # fmt: skip
    # every layer has memory of its own; drawing it all anew would take most of the time
    draw = [[w.roll(37 * layer, 0) for w in once] for layer in range(layers)]
    x = torch.randn(TOKENS, d, generator=generator).to(dtype)
    return {"m": m, "d": d, "layers": layers, "w": draw, "x": x, "gated": gated, "dtype": dtype}


def between(z: torch.Tensor, count: int) -> float:
    """A threshold >= 0 that the ``count`` largest exceed, half-way to the next."""
    ordered = z.sort(descending=True).values
    return max(0.0, float(ordered[count - 1 : count + 1].mean()))


def block_row(s: dict[str, Any], density: float, rounds: int) -> dict[str, float]:
    """Seconds of every way at one density (thresholds chosen per layer and token)."""
    layers, x, gated = s["layers"], s["x"], s["gated"]
    first = [w[0] for w in s["w"]]
    up = [w[1] for w in s["w"]] if gated else None
    table = [w[-1] for w in s["w"]]
    down = s.setdefault("down", [t.t().contiguous() for t in table])
    level = [[between(w.float() @ v.float(), round(density * s["m"])) for v in x] for w in first]
    active = [
        [(F.linear(v, w).float() > t).nonzero().squeeze(1) for v, t in zip(x, row)]
        for w, row in zip(first, level)
    ]

    def gate(z: torch.Tensor, i: int, j: int) -> torch.Tensor:
        return F.threshold(z, level[i][j], 0.0)

    def torch_dense(n: int) -> torch.Tensor:
        i, j = n % layers, n % TOKENS
        a = gate(F.linear(x[j], first[i]), i, j)
        return F.linear(a if up is None else a * F.linear(x[j], up[i]), down[i])

    def memory_dense(n: int) -> torch.Tensor:
        i, j = n % layers, n % TOKENS
        a = gate(OURS.matvec(first[i], None, x[j]), i, j)
        if up is not None:
            a = a * OURS.matvec(up[i], None, x[j])
        return OURS.matvec(down[i], None, a)

    def torch_skipping(n: int) -> torch.Tensor:
        i, j = n % layers, n % TOKENS
        backend = load("torch")
        rows, values = backend.nonzero(gate(backend.matvec(first[i], None, x[j]), i, j))
        if up is not None:
            values = values * backend.matvec_rows(up[i], None, x[j], rows)
        return backend.combine(table[i], rows, values, None)

    def compiled(i: int, j: int, screen: Any = None) -> Any:
        # the threshold as a ReLU's bias would need another bias for each token
        second = None if up is None else (up[i], None)
        return OURS.Fused((first[i], None), second, (table[i], None), 0, level[i][j], screen)

    fused = [[compiled(i, j) for j in range(TOKENS)] for i in range(layers)]

    def skipping(n: int) -> torch.Tensor:
        i, j = n % layers, n % TOKENS
        return fused[i][j](x[j])

    if "screens" not in s:
        s["screens"] = [make_screen(w, None) for w in first]
    screened = [
        [OURS.Screened(s["screens"][i], 0, level[i][j]) for j in range(TOKENS)]
        for i in range(layers)
    ]
    fused_screened = [
        [compiled(i, j, screened[i][j]) for j in range(TOKENS)] for i in range(layers)
    ]

    def screening(n: int) -> torch.Tensor:
        i, j = n % layers, n % TOKENS
        return fused_screened[i][j](x[j])

    def oracle(n: int) -> torch.Tensor:
        i, j = n % layers, n % TOKENS
        rows = active[i][j]
        values = OURS.matvec_rows(first[i], None, x[j], rows)
        if up is not None:
            values = values * OURS.matvec_rows(up[i], None, x[j], rows)
        return OURS.combine(table[i], rows, values, None)

    ways: dict[str, Callable[[int], Any]] = {
        "torch": torch_dense,
        "dense": memory_dense,
        "ours (torch)": torch_skipping,
        "ours (numba)": skipping,
        "screened": screening,
        "both skipped": oracle,
    }
    if not gated and s["dtype"] == torch.float32:

        def torch_sparse(n: int) -> torch.Tensor:
            i, j = n % layers, n % TOKENS
            a = gate(F.linear(x[j], first[i]), i, j)
            return torch.sparse.mm(a.unsqueeze(0).to_sparse_csr(), table[i])

        ways["torch.sparse"] = torch_sparse
    reference = torch_dense(1).float()
    for way in ways.values():
        error = (way(1).float().reshape(-1) - reference).norm() / reference.norm()
        assert error < (1e-4 if s["dtype"] == torch.float32 else 5e-2), float(error)
    left = [len(screened[0][j].rows(x[j])) / s["m"] for j in range(TOKENS)]
    return measure(ways, layers, rounds) | {"left": float(np.mean(left))}


def screen_limit(active: float, left: float, gated: bool, size: int) -> float:
    """Best speed-up by bytes: a byte of each first weight, and the rows that are left."""
    matrices = 3 if gated else 2
    return matrices / (1 / size + left + (matrices - 1) * active)


def blocks(
    sizes: list[int], rounds: int, rows: list[dict[str, Any]], keep: Callable[[], None]
) -> list[dict[str, Any]]:
    """Fill ``rows`` with what it lacks; ``keep()`` stores them after every setting."""
    for d in sizes:
        for gated in (False, True):
            for dtype in (torch.float32, torch.bfloat16):
                have = {(r["d"], r["gated"], r["dtype"]) for r in rows}
                if (d, gated, str(dtype).removeprefix("torch.")) in have:
                    continue
                s = setting(d, dtype, gated)
                for density in DENSITIES:
                    row = block_row(s, density, rounds * 4096 // d)
                    name = str(dtype).removeprefix("torch.")
                    rows.append(
                        {"d": d, "gated": gated, "dtype": name, "density": density, "seconds": row}
                    )
                    show = {key: round(1e6 * v) for key, v in row.items() if key != "left"}
                    print(d, "gated" if gated else "relu", name, density, show, flush=True)
                keep()
    return rows


def trained(d: int, m: int, k: int, layers: int, steps: int, length: int, file: Path | None) -> Any:
    """A Top-k decoder trained on text, from ``file`` if that is there; (model, text, loss)."""
    data = text()
    model = Decoder(len(data.symbols), d, m, layers, heads=8, length=length, k=k)
    if file is not None and file.is_file():
        model.load_state_dict(torch.load(file, weights_only=True))
    else:
        generator = torch.Generator().manual_seed(0)
        with torch.enable_grad():
            train(model, lambda _: data.batch(4, 32, generator), steps, rate=1e-3)
        if file is not None:
            torch.save(model.state_dict(), file)
    model.eval()
    x, y = data.held_out(32, 48)
    with torch.no_grad():
        loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
    return model, data, float(loss)


def at_memory_speed(model: torch.nn.Module, names: list[str]) -> torch.nn.Module:
    """A copy whose MLP matrices run densely in our kernel, to tell its gain from sparsity's."""
    model = copy.deepcopy(model)
    for name in names:
        matrix = LinearMap(name, model.get_submodule(name), False)
        matrix.module.__dict__["forward"] = FastLinear(matrix, "numba")
    return model


def block_seconds(net: Any, prompt: torch.Tensor, symbols: int) -> float:
    """Seconds a symbol that are spent in the MLP blocks while the model decodes."""
    spent = [0.0]
    handles = []
    for layer in net.layers:

        def enter(_module: Any, args: Any) -> None:
            spent[0] -= time.thread_time() if args[0].shape[1] == 1 else 0.0

        def leave(_module: Any, args: Any, _output: Any) -> None:
            spent[0] += time.thread_time() if args[0].shape[1] == 1 else 0.0

        handles.append(layer.mlp.register_forward_pre_hook(enter))
        handles.append(layer.mlp.register_forward_hook(leave))
    generate(net, prompt, symbols)
    for handle in handles:
        handle.remove()
    return spent[0] / symbols


def agreement(model: Any, fast: Any, ids: torch.Tensor) -> tuple[int, float]:
    """Reading a text symbol by symbol: how often both guess the same next one; logits' error."""
    (a, past), (b, fast_past) = model.step(ids[:, :1]), fast.step(ids[:, :1])
    same, error = 0, 0.0
    for t in range(1, ids.shape[1]):
        a, past = model.step(ids[:, t : t + 1], past)
        b, fast_past = fast.step(ids[:, t : t + 1], fast_past)
        same += int(torch.equal(a.argmax(-1), b.argmax(-1)))
        error = max(error, float((a - b).norm() / a.norm()))
    return same, error


@torch.no_grad()
def decoding(d: int, layers: int, steps: int, symbols: int, file: Path | None) -> dict[str, Any]:
    """Train a Top-k decoder on text, accelerate it, decode: same text, and how much faster."""
    m = 8 * d
    k = m // 32
    model, data, loss = trained(d, m, k, layers, steps, symbols + 32, file)
    prompt = data.valid[:24].unsqueeze(0)
    fast: Any = accelerate(model, prompt[:, -1:])
    mlps = [f"layers.{i}.mlp.{part}" for i in range(layers) for part in ("up", "down")]
    models = {"torch": model, "dense": at_memory_speed(model, mlps), "ours": fast}
    texts = {name: generate(net, prompt, symbols) for name, net in models.items()}
    taken: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(6):
        for name, net in models.items():
            start = time.thread_time()
            generate(net, prompt, symbols)
            taken[name].append((time.thread_time() - start) / symbols)
    seconds = {name: float(np.median(values)) for name, values in taken.items()}
    ratios = np.array(taken["torch"]) / np.array(taken["ours"])
    choices = acceleration_of(fast).blocks
    # Amdahl with the measured times: all but the blocks stays
    apart = [
        (block_seconds(model, prompt, symbols), block_seconds(fast, prompt, symbols))
        for _ in range(5)
    ]  # fmt: skip
    slow, quick = (float(np.median([pair[i] for pair in apart])) for i in (0, 1))
    mlp, gain = slow / seconds["torch"], slow / quick
    held_out = data.valid[2000 : 2000 + symbols + 1].unsqueeze(0)
    same, error = agreement(model, fast, held_out)
    return {
        "d": d, "layers": layers, "k": k, "m": m, "loss": loss, "steps": steps,
        "same_guesses": same, "logit_error": error, "symbols": symbols,
        "same_text": torch.equal(texts["torch"], texts["ours"]),
        "choices": [choice.choice for choice in choices], "seconds": seconds,
        "speedup": float(np.median(ratios)),
        "speedup_error": float(ratios.std(ddof=1) / len(ratios) ** 0.5),
        "load": os.getloadavg()[0],
        "mlp_share": mlp, "block_speedup": gain, "amdahl": 1 / (1 - mlp + mlp / gain),
        "decoded": "".join(data.symbols[i] for i in texts["ours"][0].tolist()),
    }  # fmt: skip


def profiling(rounds: int = 9) -> list[dict[str, Any]]:
    """What `profile` costs beside a plain forward pass, 6-layer Transformers."""
    rows = []
    for d in (128, 256, 512):
        model = Decoder(100, d, 4 * d, 6, heads=8, length=128).eval()
        ids = torch.randint(100, (8, 128), generator=torch.Generator().manual_seed(0))
        plain, whole = [], []
        with torch.no_grad():
            for _ in range(rounds):
                start = time.thread_time()
                model(ids)
                middle = time.thread_time()
                profile(model, ids)
                plain.append(middle - start)
                whole.append(time.thread_time() - middle)
        rows.append({"d": d, "forward": min(plain), "profile": min(whole)})
    return rows


def markdown(store: dict[str, Any]) -> str:
    lines = [
        f"One thread, two shared cores (load average at the end {store['load']:.1f}); "
        f"torch {store['torch']}, numba {store['numba']}; read bandwidth "
        f"{store['bandwidth'] / 1e9:.1f} GB/s; peak memory {store['memory_gb']:.1f} GB. "
        "Microseconds of processor time a token, tenth percentile; d_ff = 4 d. *dense* is our "
        "dense kernel at the speed of memory, *skipped* reads the whole first matrix and of the "
        "others the active rows, *screened* an eight-bit copy of the first and only those of its "
        "rows that this cannot exclude (*left*), still exact; *both skipped* is an oracle that "
        "knows the active set. Ratios: over *dense* / over *torch*; limit: by the bytes read.",
        "",
        "| block | dtype | d | active | torch | dense | torch.sparse | skipped (torch) "
        "| skipped (numba) | ratios | limit | left | screened | ratios | limit | both skipped "
        "| ratios | limit |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in store.get("blocks", []):
        t, rho = row["seconds"], row["density"]
        us = {key: f"{1e6 * value:.0f}" for key, value in t.items() if key != "left"}
        ours, both, screened = t["ours (numba)"], t["both skipped"], t["screened"]
        by_bytes = screen_limit(rho, t["left"], row["gated"], 4 if row["dtype"] == "float32" else 2)
        lines.append(
            f"| {'ReGLU' if row['gated'] else 'ReLU'} | {row['dtype']} | {row['d']} | "
            f"{100 * rho:g}% | {us['torch']} | {us['dense']} | {us.get('torch.sparse', '–')} | "
            f"{us['ours (torch)']} | {us['ours (numba)']} | "
            f"{t['dense'] / ours:.2f} / {t['torch'] / ours:.2f} | {limit(rho, row['gated']):.2f} | "
            f"{100 * t['left']:.1f}% | {us['screened']} | {t['dense'] / screened:.2f} / "
            f"{t['torch'] / screened:.2f} | {by_bytes:.2f} | "
            f"{us['both skipped']} | {t['dense'] / both:.2f} / {t['torch'] / both:.2f} | "
            f"{1 / rho:.0f} |"
        )
    e = store.get("decoding")
    if e:
        ms = {name: f"{1e3 * value:.2f}" for name, value in e["seconds"].items()}
        lines += [
            "",
            f"Decoding: {e['layers']}-layer Top-{e['k']} Transformer (d = {e['d']}, "
            f"d_ff = {e['m']}), trained here for {e['steps']} steps to {e['loss']:.2f} nats a "
            f"character (held out); {e['symbols']} characters, greedy, "
            f"{'the same text' if e['same_text'] else 'NOT the same text'}: torch {ms['torch']}, "
            f"MLPs in our dense kernel {ms['dense']}, ours {ms['ours']} ms a character, "
            f"**{e['speedup']:.2f} ± {e['speedup_error']:.2f}×** over torch and "
            f"{e['seconds']['dense'] / e['seconds']['ours']:.2f}× over the dense kernel. MLP "
            f"blocks are {100 * e['mlp_share']:.0f}% of torch's time and run "
            f"{e['block_speedup']:.2f}× faster, so Amdahl allows {e['amdahl']:.2f}×. Reading "
            f"held-out text one character at a time, {e['same_guesses']} of {e['symbols']} next "
            f"characters are guessed alike; logits differ by {e['logit_error']:.1e} at most.",
        ]
    for row in store.get("profile", []):
        lines += [
            "",
            f"`profile`, 6-layer Transformer, d = {row['d']}, 8 × 128 tokens: "
            f"{1e3 * row['profile']:.1f} ms, {row['profile'] / row['forward']:.2f} × a plain "
            "forward pass.",
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=[1024, 2048, 4096])
    parser.add_argument("--rounds", type=int, default=4, help="at d = 4096; more below")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--part", choices=("all", "blocks", "decoding", "profile"), default="all")
    parser.add_argument("--model", type=Path, help="keep the trained decoder here, or read it")
    options = parser.parse_args()
    torch.set_num_threads(1)
    import numba

    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "sparsity.json"
    store: dict[str, Any] = {}
    if path.exists():
        store = json.loads(path.read_text())
    store |= {"torch": torch.__version__, "numba": numba.__version__, "bandwidth": bandwidth(),
              "load": os.getloadavg()[0]}  # fmt: skip
    with torch.no_grad():
        if options.part in ("all", "blocks"):
            rows = store.setdefault("blocks", [])
            blocks(options.sizes, options.rounds, rows, lambda: write_json(path, store))
        if options.part in ("all", "profile"):
            store["profile"] = profiling()
    if options.part in ("all", "decoding"):
        store["decoding"] = decoding(512, 3, options.steps, 96, options.model)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    store["memory_gb"] = max(used, store.get("memory_gb", 0.0))
    write_json(path, store)
    atomic_write(RESULTS / "sparsity.md", markdown(store))
    print(markdown(store))


if __name__ == "__main__":
    main()

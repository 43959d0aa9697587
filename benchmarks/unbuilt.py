"""A random network of models too large to build, forward and backward, on the CPU.

    python -m benchmarks.unbuilt
    python -m benchmarks.unbuilt llama-7b

The model is built on the meta device from its configuration alone; nothing of it is ever in
memory. Each case runs in a process of its own, whose peak memory is reported, Python, PyTorch and
transformers included.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kadanoff.files import atomic_write, write_json

RESULTS = Path(__file__).parent / "results"
# width, layers
CASES = {"gpt2": (768, 12), "llama-7b": (4096, 32), "llama-65b": (8192, 80)}
# more parameters than this are not built in numbers beside
FITS = 1 << 28
TOKENS, VOCABULARY, NETWORKS = 16, 32000, 2


def configured(name: str) -> tuple[type, Any]:
    """The class of a case's model and its configuration."""
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    width, layers = CASES[name]
    if name == "gpt2":
        return GPT2LMHeadModel, GPT2Config(
            resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, use_cache=False
        )
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=int(2.6875 * width),
        num_hidden_layers=layers,
        num_attention_heads=width // 128,
        use_cache=False,
    )
    return LlamaForCausalLM, config


def measure(name: str) -> dict[str, float | str]:
    """One case, in this process."""
    import kadanoff as kd

    torch.set_num_threads(1)
    kind, config = configured(name)
    with torch.device("meta"):
        model = kind(config).float().eval()
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randint(0, VOCABULARY, (1, TOKENS), generator=generator) for _ in range(2))
    start = time.process_time()
    found = kd.ensemble(model, ({"input_ids": x}, y), NETWORKS, probes=0)
    seconds = (time.process_time() - start) / NETWORKS
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    names = [n for n in found.gradients if "q_proj.weight" in n or "c_attn.weight" in n]
    first, last = (found.gradients[n].value for n in (names[0], names[-1]))
    size = sum(p.numel() for p in model.parameters())
    real = built(kind, config, x, y) if size < FITS else {}
    return {
        "name": name,
        "parameters": size,
        "seconds": seconds,
        "gigabytes": gigabytes,
        "drawn": len(found.drawn),
        "loss": found.loss.value,
        "gradient_ratio": first / last,
        **real,
    }


def built(kind: type, config: Any, x: Tensor, y: Tensor) -> dict[str, float]:
    """The same of a network really built: initialised, forward, backward."""
    start = time.process_time()
    model = kind(config).eval()
    logits = model(input_ids=x).logits
    F.cross_entropy(logits.flatten(0, 1), y.flatten()).backward()
    seconds = time.process_time() - start
    start = time.process_time()
    with torch.no_grad():
        model(input_ids=x)
    forward = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {"real_seconds": seconds, "forward_seconds": forward, "real_gigabytes": peak}


def beside(row: dict[str, float], name: str) -> str:
    """The same of a network really built, where there is one."""
    return f"({row[f'real_{name}']:.2f}) " if f"real_{name}" in row else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", default=list(CASES))
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        print(json.dumps(measure(options.cases[0])))
        return
    rows = []
    for name in options.cases:
        command = [sys.executable, "-m", "benchmarks.unbuilt", name, "--here"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        rows.append(json.loads(done.stdout.strip().splitlines()[-1]))
        print(rows[-1])
    write_json(RESULTS / "unbuilt.json", {"rows": rows, "torch": torch.__version__})
    lines = [
        "# Models that fit no machine here",
        "",
        f"{TOKENS} tokens, float32, one thread, {NETWORKS} networks each: forward, backward, the "
        f"gradient norm of every weight; torch {torch.__version__}; other work ran beside "
        "(CPU seconds).",
        "",
        "| model | parameters | CPU seconds a network (really built) "
        "| peak memory of the process (really built) "
        "| matrices drawn | loss at start | g² of the queries, first block : last |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['name']} | {r['parameters'] / 1e9:.2f} G | {r['seconds']:.2f} {beside(r, 'seconds')}"
        f"| {r['gigabytes']:.2f} GB {beside(r, 'gigabytes')}| {r['drawn']} "
        f"| {r['loss']:.2f} | {r['gradient_ratio']:.3g} |"
        for r in rows
    ]
    atomic_write(RESULTS / "unbuilt.md", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

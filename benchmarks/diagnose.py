"""Cost of ``diagnose`` as a multiple of one forward-backward pass of the same model and batch.

Run as ``python -m benchmarks.diagnose``; writes ``results/diagnose.json`` and ``.md``.
"""

from __future__ import annotations

import json
import resource
import statistics
import time
from pathlib import Path

import torch
from torch import nn

from kadanoff.diagnosis import diagnose
from tests.trace.models import GPT, ResNet18, mlp

RESULTS = Path(__file__).parent / "results"
LIMIT = 12


def cases():
    torch.manual_seed(0)
    yield "tanh MLP 10 x 1024, batch 64", mlp(nn.Tanh, 10, 1024, n_in=64), torch.randn(64, 64)
    yield "tanh MLP 10 x 1024, batch 256", mlp(nn.Tanh, 10, 1024, n_in=64), torch.randn(256, 64)
    yield (
        "ReLU MLP 40 x 512, batch 128",
        mlp(nn.ReLU, 40, 512, 2.0, n_in=64),
        torch.randn(128, 64),
    )
    yield "ResNet-18 (11 M), batch 8 x 64²", ResNet18(64), torch.randn(8, 3, 64, 64)
    ids = torch.randint(0, 48, (8, 64))
    yield "pre-LN Transformer 12 x 256, 8 x 64 tokens", GPT(12, 256, 8), ids
    try:
        from transformers import GPT2Config, GPT2LMHeadModel
    except (ImportError, RuntimeError) as error:
        print(f"GPT-2 is skipped: {error}")
        return
    config = GPT2Config(
        n_layer=12, n_embd=256, n_head=8, vocab_size=512, n_positions=64, bos_token_id=0,
        eos_token_id=0,
    )  # fmt: skip
    yield "Hugging Face GPT-2 12 x 256, 8 x 64 tokens", GPT2LMHeadModel(config), ids


def step(model: nn.Module, data: torch.Tensor) -> float:
    """Seconds of one forward-backward pass, with the gradients of all parameters."""
    start = time.perf_counter()
    output = model(data)
    output = output.logits if hasattr(output, "logits") else output
    output.square().mean().backward()
    return time.perf_counter() - start


def main(rounds: int = 3) -> None:
    torch.set_num_threads(1)
    rows = []
    for name, model, data in cases():
        step(model, data)
        diagnose(model, data)
        ratios, base = [], []
        for _ in range(rounds):  # neighbours in time, as the machine may be shared
            before = step(model, data)
            start = time.perf_counter()
            found = diagnose(model, data)
            cost = time.perf_counter() - start
            base.append((before + step(model, data)) / 2)
            ratios.append(cost / base[-1])
        rows.append(
            {
                "model": name,
                "parameters": found.n_parameters,
                "forward_backward_ms": 1e3 * statistics.median(base),
                "multiple": statistics.median(ratios),
                "worst": max(ratios),
                "exit_code": found.exit_code,
            }
        )
        print(f"{name:45s} {found.n_parameters / 1e6:5.1f} M  {rows[-1]['multiple']:5.1f} x")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    RESULTS.mkdir(exist_ok=True)
    report = {"limit": LIMIT, "torch": torch.__version__, "peak_rss_mb": peak, "rows": rows}
    (RESULTS / "diagnose.json").write_text(json.dumps(report, indent=1) + "\n")
    lines = [
        "### Cost of `diagnose`",
        "",
        "As a multiple of one forward-backward pass (all parameter gradients) of the same model on",
        f"the same batch, one thread, median and worst of {rounds} rounds in one process, PyTorch",
        f"{torch.__version__}; goal: at most {LIMIT} at 10 M parameters. Peak memory of the whole",
        f"benchmark: {peak:.0f} MB.",
        "",
        "| model | parameters | forward-backward | diagnose | worst |",
        "|---|---|---|---|---|",
        *(
            f"| {r['model']} | {r['parameters'] / 1e6:.1f} M | {r['forward_backward_ms']:.0f} ms | "
            f"{r['multiple']:.1f} x | {r['worst']:.1f} x |"
            for r in rows
        ),
    ]
    (RESULTS / "diagnose.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

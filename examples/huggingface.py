"""Models of Hugging Face `transformers`, built from a configuration (nothing is downloaded).

pip install 'kadanoff[hf]'
kadanoff diagnose examples/huggingface.py:gpt2 --data text --batch 32
kadanoff diagnose examples/huggingface.py:llama --data text --batch 32
"""

from __future__ import annotations

import torch


def gpt2(depth: int = 4, d: int = 128) -> torch.nn.Module:
    """A small GPT-2; its linear maps are ``Conv1D`` modules with transposed weights."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=128, n_positions=64, n_embd=d, n_layer=depth, n_head=4, use_cache=False,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return GPT2LMHeadModel(config)


def llama(depth: int = 4, d: int = 128) -> torch.nn.Module:
    """A small Llama: RMS normalisation, gated SiLU, rotary positions."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=128, hidden_size=d, intermediate_size=2 * d, num_hidden_layers=depth,
        num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=64, use_cache=False,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return LlamaForCausalLM(config)


if __name__ == "__main__":
    from rich import print

    import kadanoff as kd

    data = kd.data.load("text", batch=32, seed=0)
    torch.manual_seed(0)
    print(kd.diagnose(gpt2(), data.inputs))

"""Llamas by their configurations: predicted with `kadanoff diagnose --meta`, none of them built.

kadanoff diagnose examples/llama.py:llama_7b --meta --data text --html llama.html
kadanoff diagnose examples/llama.py:llama_70b --meta --data text
"""

from torch import nn


def _llama(width: int, inner: int, layers: int, heads: int, kv_heads: int) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=32_000,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        use_cache=False,
    )
    return LlamaForCausalLM(config)


def llama_small() -> nn.Module:
    """0.03 billion parameters: for trying the command out."""
    return _llama(256, 688, 6, 8, 4)


def llama_7b() -> nn.Module:
    """6.7 billion parameters."""
    return _llama(4096, 11_008, 32, 32, 32)


def llama_70b() -> nn.Module:
    """69 billion parameters, eight query heads a key/value head."""
    return _llama(8192, 28_672, 80, 64, 8)

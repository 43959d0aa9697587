"""Families from ``transformers``, made small by their configs; dropout is off in all of them."""

from __future__ import annotations

from torch import nn

from .data import BPE, CHARACTERS, LENGTH

__all__ = [
    "albert",
    "bert",
    "convnext",
    "gemma",
    "gpt2",
    "llama",
    "mixtral",
    "qwen",
    "swin",
    "t5",
    "vit",
]

HEAD = 16  # channels a head


def _heads(width: int) -> int:
    return max(2, width // HEAD)


def gpt2(width: int, depth: int) -> nn.Module:
    """GPT-2: LayerNorm before each branch, GELU, learned positions, tied readout."""
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=CHARACTERS,
            n_positions=LENGTH,
            n_embd=width,
            n_layer=depth,
            n_head=_heads(width),
            bos_token_id=0,
            eos_token_id=0,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            use_cache=False,
        )
    )


def _decoder(width: int, depth: int, vocabulary: int) -> dict:
    """What the configs of Llama and its kin have in common: two query heads a key/value head."""
    heads = _heads(width)
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": 8 * width // 3 // 8 * 8,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "num_key_value_heads": heads // 2,
        "max_position_embeddings": LENGTH,
        "use_cache": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": None,
    }


def llama(width: int, depth: int) -> nn.Module:
    """Llama: RMSNorm, rotary positions, grouped queries, SwiGLU, untied readout."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**_decoder(width, depth, BPE)))


def qwen(width: int, depth: int) -> nn.Module:
    """Qwen3: as Llama, with RMSNorm on queries and keys."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    return Qwen3ForCausalLM(
        Qwen3Config(head_dim=HEAD, tie_word_embeddings=True, **_decoder(width, depth, CHARACTERS))
    )


def gemma(width: int, depth: int) -> nn.Module:
    """Gemma 2: norms before and after each branch, soft-capped scores and logits, GeGLU."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    config = Gemma2Config(
        head_dim=HEAD,
        query_pre_attn_scalar=HEAD,
        sliding_window=LENGTH,
        **_decoder(width, depth, CHARACTERS),
    )
    config._attn_implementation = "eager"
    return Gemma2ForCausalLM(config)


def mixtral(width: int, depth: int) -> nn.Module:
    """Mixtral: four SwiGLU experts a block, each token routed to two."""
    from transformers import MixtralConfig, MixtralForCausalLM

    config = MixtralConfig(
        num_local_experts=4,
        num_experts_per_tok=2,
        experts_implementation="eager",
        **_decoder(width, depth, BPE),
    )
    return MixtralForCausalLM(config)


def t5(width: int, depth: int) -> nn.Module:
    """T5: encoder and decoder, relative positions, no 1/sqrt(d) (its initialisation has it)."""
    from transformers import T5Config, T5ForConditionalGeneration

    return T5ForConditionalGeneration(
        T5Config(
            vocab_size=CHARACTERS,
            d_model=width,
            d_kv=HEAD,
            d_ff=4 * width,
            num_layers=depth,
            num_decoder_layers=depth,
            num_heads=_heads(width),
            dropout_rate=0.0,
            use_cache=False,
            decoder_start_token_id=0,
        )
    )


def bert(width: int, depth: int) -> nn.Module:
    """BERT for masked tokens: LayerNorm after each branch."""
    from transformers import BertConfig, BertForMaskedLM

    return BertForMaskedLM(
        BertConfig(
            vocab_size=CHARACTERS,
            hidden_size=width,
            num_hidden_layers=depth,
            num_attention_heads=_heads(width),
            intermediate_size=4 * width,
            max_position_embeddings=LENGTH,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    )


def albert(width: int, depth: int) -> nn.Module:
    """ALBERT: one block used ``depth`` times, factorised embedding."""
    from transformers import AlbertConfig, AlbertForMaskedLM

    return AlbertForMaskedLM(
        AlbertConfig(
            vocab_size=CHARACTERS,
            embedding_size=width // 2,
            hidden_size=width,
            num_hidden_layers=depth,
            num_attention_heads=_heads(width),
            intermediate_size=4 * width,
            max_position_embeddings=LENGTH,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    )


def vit(width: int, depth: int) -> nn.Module:
    """ViT on pictures of 16 x 16, patches of 4 x 4."""
    from transformers import ViTConfig, ViTForImageClassification

    return ViTForImageClassification(
        ViTConfig(
            image_size=16,
            patch_size=4,
            num_channels=3,
            hidden_size=width,
            num_hidden_layers=depth,
            num_attention_heads=_heads(width),
            intermediate_size=4 * width,
            num_labels=10,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    )


def swin(width: int, depth: int) -> nn.Module:
    """Swin: two stages of ``depth / 2`` blocks, windows of 4 x 4 patches, shifted in turn."""
    from transformers import SwinConfig, SwinForImageClassification

    half = max(1, depth // 2)
    heads = _heads(width)
    return SwinForImageClassification(
        SwinConfig(
            image_size=16,
            patch_size=2,
            num_channels=3,
            embed_dim=width,
            depths=[half, half],
            num_heads=[heads, 2 * heads],
            window_size=4,
            num_labels=10,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            drop_path_rate=0.0,
        )
    )


def convnext(width: int, depth: int) -> nn.Module:
    """ConvNeXt: two stages of ``depth / 2`` blocks, depthwise 7 x 7, layer scale."""
    from transformers import ConvNextConfig, ConvNextForImageClassification

    half = max(1, depth // 2)
    return ConvNextForImageClassification(
        ConvNextConfig(
            num_channels=3,
            patch_size=2,
            num_stages=2,
            hidden_sizes=[width, 2 * width],
            depths=[half, half],
            num_labels=10,
            image_size=16,
        )
    )

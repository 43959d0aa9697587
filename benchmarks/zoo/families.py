"""The table: which model goes with which data, loss and recipe."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from . import convolutional, data, hugging_face, losses, plain, sequential
from .family import Family, Inputs, Recipe, Targets

__all__ = ["FAMILIES"]

_ADAMW = Recipe("adamw", 1e-3, weight_decay=0.01)
_ADAM = Recipe("adam", 1e-3)
_GAN = Recipe("adam", 2e-4)
_SGD = Recipe("sgd", 0.1, momentum=0.9, weight_decay=1e-4)


def _language(name: str, factory, sampler=data.text, **other) -> Family:
    return Family(
        name, factory, sampler, losses.cross_entropy, _ADAMW, "language", batch=16, **other
    )


def _pictures(name: str, factory, recipe: Recipe = _ADAMW, width: int = 16, **other) -> Family:
    sizes = {"width": width, "depth": 4}
    return Family(
        name, factory, data.blobs, losses.cross_entropy, recipe, "vision", sizes, 32, **other
    )


def _mlp(name: str, depth: int, act: type[nn.Module] = nn.ReLU) -> Family:
    factory = functools.partial(plain.mlp, act=act)
    sizes = {"width": 64, "depth": depth}
    return Family(name, factory, data.digits, losses.cross_entropy, _ADAM, "table", sizes)


def _real_or_not(n: int, seed: int, held_out: bool) -> tuple[Inputs, Targets]:
    """Pictures and imitations of them, each a mixture of two with its colours muddled."""
    _, real = data.latents(n, seed, held_out)
    g = torch.Generator().manual_seed(2 * seed + held_out)
    y = torch.randint(2, (n, 1), generator=g).float()
    imitation = real.roll(1, 0) * 0.5 + real.flip(1) * 0.5
    noise = 0.1 * torch.randn(real.shape, generator=g)
    return torch.where(y[:, :, None, None] > 0, real, imitation) + noise, y


def _mirrored(n: int, seed: int, held_out: bool) -> tuple[Inputs, Targets]:
    """Digits seen in a mirror."""
    x, y = data.digit_images(n, seed, held_out)
    assert isinstance(x, Tensor)
    return x.flip(3).reshape(n, 64), y


_RESNET = convolutional.resnet

_ALL = (
    _language("gpt2", hugging_face.gpt2),
    _language("llama", hugging_face.llama, data.bpe_text),
    _language("qwen", hugging_face.qwen),
    _language("gemma", hugging_face.gemma),
    _language("mixtral", hugging_face.mixtral, data.bpe_text),
    _language("t5", hugging_face.t5, data.spans, sizes={"width": 64, "depth": 2}),
    _language("bert", hugging_face.bert, data.masked),
    _language("albert", hugging_face.albert, data.masked),
    _language("lstm", sequential.lstm, sizes={"width": 64, "depth": 2}),
    _language("gru", sequential.gru, sizes={"width": 64, "depth": 2}),
    _language("mamba", sequential.mamba, sizes={"width": 32, "depth": 2}),
    Family(
        "nanogpt",
        sequential.nano_gpt,
        data.with_targets,
        losses.own_loss,
        _ADAMW,
        "language",
        batch=16,
    ),
    _pictures("vit", hugging_face.vit, width=64),
    _pictures("swin", hugging_face.swin, width=32),
    _pictures("convnext", hugging_face.convnext, width=32),
    _pictures("mobilenet", convolutional.mobilenet),
    _pictures("resnet", _RESNET, _SGD),
    _pictures("resnet_eval", _RESNET, training=False),
    _pictures("resnet_no_norm", functools.partial(_RESNET, norm="none")),
    _pictures("resnet_bottleneck", functools.partial(_RESNET, bottleneck=True), _SGD, width=8),
    _pictures("groupnorm", convolutional.group_norm_net),
    _pictures("mixer", plain.mixer, width=32),
    Family(
        "unet",
        convolutional.unet,
        data.denoised,
        losses.squares,
        _ADAM,
        "generative",
        {"width": 16, "depth": 2},
        batch=16,
    ),
    Family(
        "instancenorm",
        convolutional.restorer,
        data.segments,
        losses.binary,
        _ADAM,
        "vision",
        {"width": 16, "depth": 2},
        batch=16,
    ),
    Family(
        "dcgan_generator",
        convolutional.generator,
        data.latents,
        losses.squares,
        _GAN,
        "generative",
        {"width": 32, "depth": 3},
        batch=32,
    ),
    Family(
        "dcgan_discriminator",
        convolutional.discriminator,
        _real_or_not,
        losses.binary,
        _GAN,
        "generative",
        {"width": 32, "depth": 3},
        batch=32,
    ),
    Family(
        "vae",
        plain.vae,
        data.reconstruction,
        losses.elbo,
        _ADAM,
        "generative",
        {"width": 128, "depth": 2},
    ),
    Family(
        "siren",
        plain.siren,
        data.waves,
        losses.squares,
        Recipe("adam", 3e-4),
        "field",
        batch=256,
    ),
    Family("pinn", plain.pinn, data.ode_points, losses.squares, _ADAM, "field", batch=128),
    Family("nerf", plain.nerf, data.rays, losses.squares, _ADAM, "field"),
    Family("deepsets", plain.deepsets, data.sets, losses.squares, _ADAM, "set"),
    Family(
        "gnn",
        plain.gnn,
        data.graphs,
        losses.cross_entropy,
        Recipe("adam", 5e-3),
        "set",
        batch=32,
        coupled=True,
    ),
    Family("lora", plain.lora, _mirrored, losses.cross_entropy, _ADAM, "table"),
    Family(
        "regression",
        functools.partial(plain.mlp, n_in=10, n_out=1),
        data.table,
        losses.squares,
        _ADAM,
        "table",
    ),
    _mlp("mlp", 4),
    _mlp("mlp_tanh", 8, nn.Tanh),
    _mlp("mlp_16", 16, nn.GELU),
    _mlp("mlp_32", 32),
    _mlp("mlp_100", 100, nn.Tanh),
)

FAMILIES: dict[str, Family] = {family.name: family for family in _ALL}

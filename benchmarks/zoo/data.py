"""Data that ships with the dependencies or is generated: drawn by seed, a held-out part apart."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from .family import Inputs, Targets

__all__ = [
    "BPE",
    "CHARACTERS",
    "LENGTH",
    "blobs",
    "bpe",
    "bpe_text",
    "characters",
    "denoised",
    "digit_images",
    "digits",
    "graphs",
    "latents",
    "masked",
    "ode_points",
    "rays",
    "reconstruction",
    "segments",
    "sets",
    "spans",
    "table",
    "text",
    "waves",
    "with_targets",
]

LENGTH = 32
CHARACTERS = 128  # ASCII codes
BPE = 512
MASK = 0
IGNORED = -100
# one in ten characters at the end of the text, one in five samples of a table is held out
KEPT_OF_TEXT = 0.9
KEPT_OF_TABLE = 0.8


def _generator(seed: int, held_out: bool) -> torch.Generator:
    return torch.Generator().manual_seed(2 * seed + held_out)


# text


@functools.cache
def _documents() -> str:
    from pydoc_data import topics

    return "\n".join(topics.topics[key] for key in sorted(topics.topics))


@functools.cache
def characters() -> Tensor:
    """Python's own documentation as ASCII codes."""
    return torch.tensor(list(_documents().encode("ascii", errors="replace")))


@functools.cache
def bpe() -> Tensor:
    """The same text in a byte-pair code of 512 tokens, learnt from it."""
    import tokenizers

    code = tokenizers.Tokenizer(tokenizers.models.BPE())
    code.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=BPE,
        special_tokens=["<mask>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    code.train_from_iterator(_documents().splitlines(keepends=True), trainer)
    return torch.tensor(code.encode(_documents()).ids)


def _windows(stream: Tensor, n: int, seed: int, held_out: bool) -> Tensor:
    cut = int(KEPT_OF_TEXT * len(stream))
    part = stream[cut:] if held_out else stream[:cut]
    g = _generator(seed, held_out)
    start = torch.randint(len(part) - LENGTH, (n,), generator=g)
    return part[start[:, None] + torch.arange(LENGTH + 1)]


def text(n: int, seed: int, held_out: bool) -> tuple[Inputs, Targets]:
    """Windows of 32 characters (n, 32) and the next ones."""
    rows = _windows(characters(), n, seed, held_out)
    return rows[:, :-1], rows[:, 1:]


def bpe_text(n: int, seed: int, held_out: bool) -> tuple[Inputs, Targets]:
    """Windows of 32 byte-pair tokens (n, 32) and the next ones."""
    rows = _windows(bpe(), n, seed, held_out)
    return rows[:, :-1], rows[:, 1:]


def with_targets(n: int, seed: int, held_out: bool) -> tuple[Inputs, Targets]:
    """As ``text``, for a model that takes the targets and returns its own loss."""
    inputs, targets = text(n, seed, held_out)
    assert isinstance(inputs, Tensor)
    return {"idx": inputs, "targets": targets}, targets


def masked(n: int, seed: int, held_out: bool) -> tuple[Inputs, Targets]:
    """Characters, 15 % of them masked; targets are the masked ones, -100 elsewhere."""
    rows = _windows(characters(), n, seed, held_out)[:, :-1]
    hidden = torch.rand(rows.shape, generator=_generator(seed + 1, held_out)) < 0.15
    hidden[:, 0] = True  # none without a target
    return rows.masked_fill(hidden, MASK), rows.masked_fill(~hidden, IGNORED)


def spans(n: int, seed: int, held_out: bool) -> tuple[Inputs, Targets]:
    """Encoder reads masked characters, decoder writes the text: targets shifted right go in."""
    rows = _windows(characters(), n, seed, held_out)[:, :-1]
    hidden = torch.rand(rows.shape, generator=_generator(seed + 1, held_out)) < 0.15
    shifted = torch.cat([torch.zeros_like(rows[:, :1]), rows[:, :-1]], 1)
    return {"input_ids": rows.masked_fill(hidden, MASK), "decoder_input_ids": shifted}, rows


# scikit-learn


@functools.cache
def _digits() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    found = load_digits()
    x = torch.tensor(found.data, dtype=torch.float32)
    return (x - x.mean()) / x.std(), torch.tensor(found.target)


def _rows(total: int, n: int, seed: int, held_out: bool) -> Tensor:
    order = torch.randperm(total, generator=torch.Generator().manual_seed(0))
    cut = int(KEPT_OF_TABLE * total)
    part = order[cut:] if held_out else order[:cut]
    pick = torch.randint(len(part), (n,), generator=_generator(seed, held_out))
    return part[pick]


def digits(n: int, seed: int, held_out: bool) -> tuple[Inputs, Targets]:
    """Handwritten digits as 64 standardised pixels, ten classes."""
    x, y = _digits()
    rows = _rows(len(x), n, seed, held_out)
    return x[rows], y[rows]


def digit_images(n: int, seed: int, held_out: bool) -> tuple[Inputs, Targets]:
    """The same as pictures (n, 1, 8, 8)."""
    x, y = digits(n, seed, held_out)
    assert isinstance(x, Tensor)
    return x.reshape(n, 1, 8, 8), y


def reconstruction(n: int, seed: int, held_out: bool) -> tuple[Inputs, Targets]:
    """Digits as inputs and as targets."""
    x, _ = digits(n, seed, held_out)
    assert isinstance(x, Tensor)
    return x, x.clone()


@functools.cache
def _diabetes() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_diabetes

    found = load_diabetes()
    x = torch.tensor(found.data, dtype=torch.float32)
    y = torch.tensor(found.target, dtype=torch.float32)[:, None]
    return (x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std()


def table(n: int, seed: int, held_out: bool) -> tuple[Inputs, Targets]:
    """Ten standardised features of diabetes patients (n, 10) and its progress (n, 1)."""
    x, y = _diabetes()
    rows = _rows(len(x), n, seed, held_out)
    return x[rows], y[rows]


# pictures


def _blobs(n: int, seed: int, held_out: bool, size: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    """Noisy pictures (n, 3, size, size), their class, and the blob without noise."""
    g = _generator(seed, held_out)
    y = torch.randint(10, (n,), generator=g)
    axis = torch.linspace(-1, 1, size)
    angle = 2 * torch.pi * y / 10
    centre = 0.5 * torch.stack([angle.cos(), angle.sin()], 1)
    centre = centre + 0.15 * torch.randn(n, 2, generator=g)
    dx = axis[None, None, :] - centre[:, 0, None, None]
    dy = axis[None, :, None] - centre[:, 1, None, None]
    blob = torch.exp(-(dx**2 + dy**2) / 0.1)
    hue = torch.stack([angle.cos(), angle.sin(), torch.ones(n)], 1)
    clean = blob[:, None] * hue[:, :, None, None]
    noise = 0.3 * torch.randn(clean.shape, generator=g)
    return 2.5 * (clean + noise), y, clean


def blobs(n: int, seed: int, held_out: bool) -> tuple[Inputs, Targets]:
    """Coloured blobs in noise (n, 3, 16, 16); place and hue tell the class of ten."""
    x, y, _ = _blobs(n, seed, held_out)
    return x, y


def denoised(n: int, seed: int, held_out: bool) -> tuple[Inputs, Targets]:
    """A picture mixed with noise as diffusion does; the target is the noise."""
    _, _, clean = _blobs(n, seed, held_out)
    noise = torch.randn(clean.shape, generator=_generator(seed + 1, held_out))
    return 0.7 * 2.5 * clean + 0.7 * noise, noise


def segments(n: int, seed: int, held_out: bool) -> tuple[Inputs, Targets]:
    """A noisy picture and which of its pixels are in the blob (n, 1, 16, 16)."""
    x, _, clean = _blobs(n, seed, held_out)
    return x, (clean[:, 2:] > 0.5).float()


def latents(n: int, seed: int, held_out: bool) -> tuple[Inputs, Targets]:
    """Codes (n, 32) of pictures and the pictures, scaled to -1 .. 1, for a generator."""
    g = _generator(seed, held_out)
    size = 16
    angle = 2 * torch.pi * torch.rand(n, generator=g)
    place = torch.rand(n, 2, generator=g) - 0.5
    factors = torch.stack([angle.cos(), angle.sin(), 3 * place[:, 0], 3 * place[:, 1]], 1)
    mix = torch.randn(4, 32, generator=torch.Generator().manual_seed(0)) / 2
    axis = torch.linspace(-1, 1, size)
    dx = axis[None, None, :] - place[:, 0, None, None]
    dy = axis[None, :, None] - place[:, 1, None, None]
    hue = torch.stack([angle.cos(), angle.sin(), torch.ones(n)], 1)
    picture = torch.exp(-(dx**2 + dy**2) / 0.1)[:, None] * hue[:, :, None, None]
    return factors @ mix + 0.1 * torch.randn(n, 32, generator=g), 0.9 * picture


# fields


def waves(n: int, seed: int, held_out: bool) -> tuple[Inputs, Targets]:
    """Points of a picture (n, 2) in -1 .. 1 and its brightness there (n, 1)."""
    points = 2 * torch.rand(n, 2, generator=_generator(seed, held_out)) - 1
    x, y = points[:, :1], points[:, 1:]
    return points, torch.sin(5 * x) * torch.cos(4 * y) + 0.3 * torch.sin(9 * x * y)


def ode_points(n: int, seed: int, held_out: bool) -> tuple[Inputs, Targets]:
    """Points of the unit square and the source f of a Poisson equation there: lap u = f."""
    points = torch.rand(n, 2, generator=_generator(seed, held_out))
    wave = torch.sin(torch.pi * points[:, :1]) * torch.sin(2 * torch.pi * points[:, 1:])
    return points, wave


def rays(n: int, seed: int, held_out: bool) -> tuple[Inputs, Targets]:
    """Rays (n, 6), origin and direction, through a scene of one ball, and the colour they see."""
    g = _generator(seed, held_out)
    origin = torch.nn.functional.normalize(torch.randn(n, 3, generator=g), dim=1) * 2
    aim = 0.4 * torch.randn(n, 3, generator=g)
    direction = torch.nn.functional.normalize(aim - origin, dim=1)
    along = -(origin * direction).sum(1, keepdim=True)
    closest = origin + along * direction
    inside = 0.6**2 - (closest**2).sum(1, keepdim=True)
    surface = origin + (along - inside.clamp_min(0).sqrt()) * direction
    colour = 0.5 + 0.5 * surface / 0.6
    return torch.cat([origin, direction], 1), torch.where(inside > 0, colour, torch.zeros(n, 3))


# sets and graphs


def sets(n: int, seed: int, held_out: bool) -> tuple[Inputs, Targets]:
    """Sets of 16 points (n, 16, 3) and the log-determinant of their covariance (n, 1)."""
    g = _generator(seed, held_out)
    stretch = torch.exp(0.7 * torch.randn(n, 1, 3, generator=g))
    points = torch.randn(n, 16, 3, generator=g) * stretch
    spread = 2 * stretch.log().sum(2)
    return points, spread / 2.4


def graphs(n: int, seed: int, held_out: bool, nodes: int = 12) -> tuple[Inputs, Targets]:
    """``n`` graphs side by side: features of nodes (N, 8), edges (2, E), graph of a node (N,).

    The target, one of three classes a graph, is how many communities it has.
    """
    g = _generator(seed, held_out)
    y = torch.randint(3, (n,), generator=g)
    community = torch.randint(1 << 20, (n, nodes), generator=g) % (y + 1)[:, None]
    same = community[:, :, None] == community[:, None, :]
    chance = torch.where(same, 0.7, 0.05)
    linked = (torch.rand(n, nodes, nodes, generator=g) < chance).triu(1)
    linked = linked | linked.transpose(1, 2)
    graph, source, target = linked.nonzero(as_tuple=True)
    edges = torch.stack([graph * nodes + source, graph * nodes + target])
    features = torch.randn(n * nodes, 8, generator=g)
    owner = torch.arange(n).repeat_interleave(nodes)
    return {"x": features, "edges": edges, "graph": owner}, y

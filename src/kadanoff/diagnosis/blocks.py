"""Calls grouped as the model's author thinks of them: blocks, and roles inside a block.

Works on what every report holds, the paths of modules and the order of calls: numbered children of
one container are blocks (``h.0``, ``layers.3``, ``layer1.0``, ``encoder.block.2``, ``down.1``), of
several nested numberings the innermost whose members are alike. Parallel lists that are walked
together, and modules that are called again and again (shared layers), count as blocks too.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kadanoff.diagnosis.estimate import Estimate

if TYPE_CHECKING:
    from kadanoff.diagnosis.result import LayerReport

__all__ = ["BlockRows", "Group", "blocks_of", "part_of", "pooled"]

# parts that write to the stream, or are it: what a reader wants first
STREAM = "stream"
_NUMBER = re.compile(r"\d+")
_LEAF = {
    "q": r"(q|query|q_proj|to_q|wq)",
    "k": r"(k|key|k_proj|to_k|wk)",
    "v": r"(v|value|v_proj|to_v|wv)",
    "in": r"(c_attn|qkv|qkv_proj|in_proj|in_proj_weight|wqkv|query_key_value|to_qkv)",
}
_ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)
_CROSS = re.compile(r"cross|encdec|enc_dec|encoder_attn|multihead_attn", re.IGNORECASE)


@dataclass(frozen=True)
class Group:
    """One block, or what stands before, between or after the blocks.

    Attributes
    ----------
    label : str
        Path of the block, without what all blocks have in common.
    number : int or None
        Place among the blocks; None outside them.
    layers : tuple of LayerReport
        In the order of the forward pass.
    parts : dict of str to tuple of LayerReport
        By role, in the order of the forward pass.
    """

    label: str
    number: int | None
    layers: tuple[LayerReport, ...]
    parts: dict[str, tuple[LayerReport, ...]] = field(repr=False, default_factory=dict)

    @property
    def carrier(self) -> LayerReport:
        """What the block hands on: its last sum, or call that carries the whole signal."""
        whole = [r for r in self.layers if not r.residual or r.role == STREAM]
        return (whole or list(self.layers))[-1]

    @property
    def gradient(self) -> Estimate | None:
        """Root mean square of the gradient over all weights of the block."""
        return pooled(self.layers, "gradient")


@dataclass(frozen=True)
class BlockRows:
    """All groups of a model, in the order of the forward pass.

    Attributes
    ----------
    groups : tuple of Group
    """

    groups: tuple[Group, ...]

    @property
    def numbered(self) -> tuple[Group, ...]:
        """The blocks proper."""
        return tuple(g for g in self.groups if g.number is not None)

    @property
    def parts(self) -> tuple[str, ...]:
        """All roles inside blocks, in the order in which they are met first."""
        return tuple(dict.fromkeys(part for group in self.numbered for part in group.parts))

    def __bool__(self) -> bool:
        """Whether the model has blocks at all: two or more."""
        return len(self.numbered) > 1

    def name(self, group: Group) -> str:
        """How a sentence speaks of a block: by its number where numbers are all there is."""
        stems = {g.label.rpartition(".")[0] for g in self.numbered}
        return f"block {group.number if len(stems) == 1 else group.label}"


def _keys(layers: Sequence[LayerReport]) -> list[str | None]:
    """The block of each layer, None outside; a sum belongs to the block that it closes."""
    keys: list[str | None] = []
    for layer, prefix in zip(layers, _prefixes(layers)):
        if prefix is None and layer.op == "add" and keys and keys[-1] is not None:
            before = keys[-1].partition("#")[0]
            prefix = keys[-1] if layer.path in ("", *_ancestors(before)) else None
        keys.append(prefix)
    return keys


def blocks_of(layers: Sequence[LayerReport], sums: Sequence[LayerReport] = ()) -> BlockRows:
    """Group the layers of a report.

    Parameters
    ----------
    layers : sequence of LayerReport
        In the order of the forward pass.
    sums : sequence of LayerReport
        Sums inside branches, each after the layer whose ``index`` it has.

    Returns
    -------
    BlockRows
        Empty of numbered groups where the model is a plain chain.
    """
    # the sort is stable: a sum comes after the layer of its index
    layers = sorted((*layers, *sums), key=lambda layer: layer.index)
    keys = _keys(layers)
    found: dict[str, list[LayerReport]] = defaultdict(list)
    places: list[str] = []
    root = _common([k.partition("#")[0] for k in dict.fromkeys(keys) if k is not None])
    for layer, key in zip(layers, keys):
        place = f"+{_outside(layer, root)}" if key is None else key
        if key is None and places and layer.op == "add" and not layer.path:
            place = places[-1]
        found[place].append(layer)
        places.append(place)
    groups, number = [], 0
    order = list(dict.fromkeys(places))
    inside = [i for i, place in enumerate(order) if not place.startswith("+")]
    for i, place in enumerate(order):
        members = tuple(found[place])
        outside = place.startswith("+")
        # the middle of a U-Net is a block of its own
        if outside and inside and inside[0] < i < inside[-1] and _is_block(members):
            outside, place = False, place[1:]
        label = place[1:] if outside else _label(place, root)
        parts = _parts(members, place.partition("#")[0])
        groups.append(Group(label, None if outside else number, members, parts))
        number += not outside
    return BlockRows(tuple(groups))


def part_of(layer: LayerReport, prefix: str = "") -> str:
    """The role of a call in its block: ``"attention q, k"``, ``"MLP up"``, ``"conv"``, ..."""
    name = layer.parameter or layer.path
    leaf = re.sub(r"\.weight$", "", name).rpartition(".")[2].lower()
    inner = name[len(prefix) :]
    return (
        _known_part(layer, prefix)
        or _attention_part(layer, leaf, inner)
        or _by_name(layer, leaf, inner)
    )


def _known_part(layer: LayerReport, prefix: str) -> str:
    """The part that its role gives away, or nothing."""
    if layer.role == STREAM or layer.op == "add":
        return STREAM
    if layer.role in ("shortcut", "readout"):
        return layer.role
    if layer.role == "embedding":
        return "embedding" if not prefix else "positions"
    return ""


def _attention_part(layer: LayerReport, leaf: str, inner: str) -> str:
    kind = "cross attention" if _CROSS.search(inner) else "attention"
    attends = bool(_ATTENTION.search(inner)) or layer.role == "attention"
    for word, pattern in _LEAF.items():
        if attends and re.fullmatch(pattern, leaf) and (word != "in" or _ATTENTION.search(inner)):
            return f"{kind} {'q, k' if word in 'qk' else word}"
    if attends and _ATTENTION.search(inner):
        return f"{kind} out"
    return ""


def _by_name(layer: LayerReport, leaf: str, inner: str) -> str:
    if layer.op.startswith("conv"):
        return "conv"
    if re.fullmatch(r"(gate|router)", leaf):
        return "router"
    if re.search(r"mlp|ffn|ff\b|feed_?forward|dense|experts?|fc\d|\bwi|\bwo|c_fc", inner, re.I):
        return "MLP up" if _expands(layer) else "MLP down"
    return leaf if not leaf.isdigit() else _member(inner)


def pooled(layers: Sequence[LayerReport], name: str) -> Estimate | None:
    """One estimate for several calls: the mean, of gradients the root mean square over weights.

    Expected values are pooled alike; as networks that have a large value here have one there, the
    spreads are averaged, not reduced; z is the worst.
    """
    known = [(getattr(r, name), max(1, r.fan_in) * max(1, r.fan_out)) for r in layers]
    known = [(e, n) for e, n in known if e is not None and math.isfinite(e.value)]
    if not known:
        return None
    square = name == "gradient"
    weights = [n if square else 1 for _, n in known]

    def mean(values: Sequence[float]) -> float:
        power = 2 if square else 1
        total = sum(w * v**power for w, v in zip(weights, values)) / sum(weights)
        return total ** (1 / power)

    estimates = [e for e, _ in known]
    errors = [e.stderr for e in estimates]
    error = math.sqrt(sum(x * x for x in errors)) / len(errors)
    expected = [e.predicted for e in estimates if e.predicted is not None]
    if len(expected) < len(estimates):
        return Estimate(mean([e.value for e in estimates]), error)
    spread = mean([e.spread or 0.0 for e in estimates])
    z = max((e.z for e in estimates if e.z is not None), key=abs, default=None)
    return Estimate(mean([e.value for e in estimates]), error, mean(expected), spread, z)


# finding the blocks


def _prefixes(layers: Sequence[LayerReport]) -> list[str | None]:
    """The block of each layer by its path; None outside."""
    families: dict[str, dict[str, set[str]]] = {}
    chosen = [_numbered(layer, layers, families) for layer in layers]
    if not any(chosen):
        chosen = _parallel(layers)
    if not any(chosen):
        chosen = _repeated(layers)
    return chosen


def _numbered(
    layer: LayerReport,
    layers: Sequence[LayerReport],
    families: dict[str, dict[str, set[str]]],
) -> str | None:
    best: str | None = None
    for prefix in _candidates(layer.path):
        family = _known(prefix, layers, families)
        if len(family) < 2 or prefix not in family:
            continue
        several = all(len(names) > 1 for names in family.values())
        if best is None or (several and _alike(prefix, family)):
            best = prefix
    if best is not None and _finer(best, layers, families):
        return None  # between the blocks of a stage
    return best


def _candidates(path: str) -> list[str]:
    """Prefixes that end in a number, outermost first."""
    words = path.split(".")
    return [".".join(words[: i + 1]) for i in range(len(words)) if words[i].isdigit()]


def _known(
    prefix: str, layers: Sequence[LayerReport], families: dict[str, dict[str, set[str]]]
) -> dict[str, set[str]]:
    pattern = _NUMBER.sub("#", prefix)
    if pattern not in families:
        families[pattern] = _family(prefix, layers)
    return families[pattern]


def _family(prefix: str, layers: Sequence[LayerReport]) -> dict[str, set[str]]:
    """Members numbered like this one, each with the names of what is inside."""
    pattern = re.compile(re.sub(r"\d+", r"\\d+", re.escape(prefix)) + r"\.(.+)")
    found: dict[str, set[str]] = defaultdict(set)
    for layer in layers:
        match = pattern.fullmatch(layer.path)
        if match and layer.op != "add":
            found[layer.path[: -len(match[1]) - 1]].add(match[1])
    return found


def _alike(prefix: str, family: dict[str, set[str]]) -> bool:
    """Whether members of the same parent hold the same things."""
    parent = prefix.rpartition(".")[0]
    siblings = [names for key, names in family.items() if key.rpartition(".")[0] == parent]
    if len(siblings) < 2:
        return all(
            _alike(key, family) for key in family if key != prefix and _has_sibling(key, family)
        )
    mine = family.get(prefix, siblings[0])
    return all(len(mine & other) > 0.5 * len(mine | other) for other in siblings)


def _has_sibling(key: str, family: dict[str, set[str]]) -> bool:
    parent = key.rpartition(".")[0]
    return sum(other.rpartition(".")[0] == parent for other in family) > 1


def _finer(
    prefix: str, layers: Sequence[LayerReport], families: dict[str, dict[str, set[str]]]
) -> bool:
    """Whether other layers under this prefix belong to blocks inside it."""
    inner = {
        candidate
        for layer in layers
        if layer.path.startswith(prefix + ".") and layer.op != "add"
        for candidate in _candidates(layer.path)
        if len(candidate) > len(prefix)
    }
    for candidate in inner:
        family = _known(candidate, layers, families)
        several = all(len(names) > 1 for names in family.values())
        if len(family) > 1 and several and _alike(candidate, family):
            return True
    return False


def _parallel(layers: Sequence[LayerReport]) -> list[str | None]:
    """Lists of single layers walked side by side: ``own.0, neighbour.0, own.1, …``."""
    lists: dict[str, list[int]] = defaultdict(list)
    for layer in layers:
        container, _, last = layer.path.rpartition(".")
        if last.isdigit() and container and layer.op != "add":
            lists[container].append(int(last))
    together = [c for c, found in lists.items() if len(found) > 1 and found == sorted(found)]
    sets = {tuple(lists[c]) for c in together}
    if len(together) < 2 or len(sets) != 1:
        return [None] * len(layers)
    order = [
        int(layer.path.rpartition(".")[2])
        for layer in layers
        if layer.path.rpartition(".")[0] in together and layer.op != "add"
    ]
    if order != sorted(order):
        return [None] * len(layers)
    return [
        f"#block {layer.path.rpartition('.')[2]}"
        if layer.path.rpartition(".")[0] in together and layer.op != "add"
        else None
        for layer in layers
    ]


def _repeated(layers: Sequence[LayerReport]) -> list[str | None]:
    """Layers shared by all blocks: the same paths called again and again."""
    seen: dict[tuple[str, str], int] = defaultdict(int)
    turns = []
    for layer in layers:
        turns.append(seen[layer.path, layer.op])
        seen[layer.path, layer.op] += 1
    often = [n for (path, op), n in seen.items() if op != "add" and n > 1 and path]
    if len(often) < 2 or len(set(often)) != 1:
        return [None] * len(layers)
    count = often[0]
    shared = [k[0] for k, n in seen.items() if n == count and k[1] != "add"]
    prefix = _common(shared)
    return [
        f"{prefix}#pass {turn}"
        if seen[layer.path, layer.op] == count and layer.path.startswith(prefix)
        else None
        for layer, turn in zip(layers, turns)
    ]


def _is_block(members: Sequence[LayerReport]) -> bool:
    weights = [r for r in members if r.parameter is not None and r.role != "embedding"]
    return len(weights) > 1 and any(r.role == STREAM for r in members)


# naming


def _ancestors(path: str) -> list[str]:
    words = path.split(".")
    return [".".join(words[:i]) for i in range(1, len(words) + 1)]


def _common(paths: Sequence[str]) -> str:
    """What paths have in common, whole words, without the last word of the shortest."""
    words = [p.split(".")[:-1] for p in paths if p]
    if not words:
        return ""
    shared = []
    for column in zip(*words):
        if len(set(column)) > 1:
            break
        shared.append(column[0])
    return ".".join(shared)


def _label(key: str, root: str) -> str:
    path, _, turn = key.partition("#")
    if turn:
        return turn
    # the name of the container stays: "h.0", not "0"
    keep = root.rpartition(".")[0]
    return path[len(keep) + 1 :] if keep and path.startswith(keep + ".") else path


def _outside(layer: LayerReport, root: str) -> str:
    words = layer.path.split(".")
    for word, shared in zip(list(words), root.split(".")):
        if word != shared or len(words) < 2:
            break
        words = words[1:]
    if words[0].isdigit() and len(words) > 1:
        return ".".join([*root.split(".")[-1:], *words[:2]])
    return words[0] if words[0] else (layer.role or "model")


def _parts(members: Sequence[LayerReport], prefix: str) -> dict[str, tuple[LayerReport, ...]]:
    found: dict[str, list[LayerReport]] = defaultdict(list)
    convolutions = 0
    for layer in members:
        part = part_of(layer, prefix)
        if part == "conv":
            convolutions += 1
            part = f"conv {convolutions}"
        found[part].append(layer)
    return {part: tuple(layers) for part, layers in found.items()}


def _member(inner: str) -> str:
    """``".across.2"`` as ``"across 2"``; ``"own.2"``, one of a list, as ``"own"``."""
    words = [w for w in inner.removesuffix(".weight").split(".") if w]
    if not inner.startswith(".") and len(words) > 1:
        words = words[:-1]
    return " ".join(words[-2:]) or "layer"


def _expands(layer: LayerReport) -> bool:
    if layer.fan_out != layer.fan_in:
        return layer.fan_out > layer.fan_in
    return layer.activation is not None

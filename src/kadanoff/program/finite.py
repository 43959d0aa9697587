"""What does not average out as a model gets wide: its kernels stay random."""

from __future__ import annotations

from collections import Counter
from typing import Any

from torch import nn

__all__ = ["kept_as_it_is", "not_self_averaging"]

# attributes of modules and configurations, and what they count
_COUNTS = {
    "num_attention_heads": "attention heads",
    "num_heads": "attention heads",
    "n_heads": "attention heads",
    "n_head": "attention heads",
    "nhead": "attention heads",
    "num_key_value_heads": "key/value heads",
    "num_kv_heads": "key/value heads",
    "num_local_experts": "experts",
    "num_experts": "experts",
    "n_routed_experts": "experts",
    "d_state": "states of the scan",
    "state_size": "states of the scan",
    "ssm_state_size": "states of the scan",
}
_WHY = {
    "attention heads": "an average over heads",
    "key/value heads": "queries of a group share keys and values",
    "experts": "a router's choice is discrete",
    "states of the scan": "all channels share B and C",
}


def not_self_averaging(model: nn.Module) -> list[str]:
    """Dimensions over which a wide model averages without their growing with its width.

    At infinite width with these held fixed, kernels differ from network to network by O(1), not
    by O(1/width).

    Returns
    -------
    list of str
        In words, such as "4 attention heads (an average over heads)".
    """
    seen: Counter[tuple[str, int]] = Counter()
    for owner in (getattr(model, "config", None), *model.modules()):
        for what, count in _counts(owner):
            seen[what, count] += 1
    for module in model.modules():
        if isinstance(module, nn.GroupNorm) and module.num_channels // module.num_groups <= 16:
            per = module.num_channels // module.num_groups
            seen[f"channels a group of {type(module).__name__}", per] += 1
    return [
        f"{count} {what} ({_WHY[what]})" if what in _WHY else f"{count} {what}"
        for what, count in seen
    ]


def kept_as_it_is(model: nn.Module) -> list[str]:
    """Layers whose weight is no floating parameter: quantised or packed, the same in every network.

    Returns
    -------
    list of str
        In words, one a layer.
    """
    out = []
    for path, module in model.named_modules():
        title = type(module).__name__
        if not any(word in title for word in ("Linear", "Conv", "Embedding")):
            continue
        # not as an attribute: a parametrised weight would be computed
        weight = module._parameters.get("weight")
        real = weight is not None and weight.is_floating_point()
        own = any(p.is_floating_point() for p in module.parameters())
        held = "weight" in {*module._buffers, *module.__dict__, *dir(type(module))}
        packed = any("pack" in name for name in (*module.__dict__, *module._buffers))
        alone = next(module.children(), None) is None
        if not real and not own and alone and (held or packed):
            out.append(
                f"{path or 'the model'} ({title}) keeps its weight in another form, quantised or "
                "packed: it is the same in every network"
            )
    return out


def _counts(owner: Any) -> list[tuple[str, int]]:
    if owner is None:
        return []
    found = {}
    for name, what in _COUNTS.items():
        value = owner.__dict__.get(name) if hasattr(owner, "__dict__") else None
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            found[what] = value
    return list(found.items())

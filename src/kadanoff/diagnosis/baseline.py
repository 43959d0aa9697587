"""What has moved since a diagnosis that was kept: for checks that run at every change."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kadanoff.diagnosis.result import Diagnosis
from kadanoff.errors import StorageError, UsageError
from kadanoff.style.numbers import short

__all__ = ["Change", "changes"]

# what is compared at each layer, in words
_QUANTITIES = {
    "second_moment": "signal",
    "jacobian": "chi",
    "gradient": "gradient",
}
# standard deviations that one number in some thousands exceeds by chance
LEVEL = 4.0
# the share of a number that counts as its spread where nothing states one: a model without random
# weights in front of it differs from run to run by the arithmetic only
_UNSTATED = 0.01


@dataclass(frozen=True)
class Change:
    """One number that moved by more than its spread, or one layer or finding that is new or gone.

    Attributes
    ----------
    where : str
        Call of a layer, ``"loss"``, or the code of a finding.
    what : str
        ``"signal"``, ``"chi"``, ``"gradient"``, ``"loss at the start"``, ``"layer"``,
        ``"finding"``.
    before, now : float
        NaN where there is no number.
    spread : float
        Of the difference of two networks of the baseline's law.
    sentence : str
        The whole in words.
    """

    where: str
    what: str
    before: float
    now: float
    spread: float
    sentence: str


def changes(
    diagnosis: Diagnosis, baseline: str | os.PathLike[str] | Mapping[str, Any]
) -> tuple[Change, ...]:
    """What has moved since ``baseline``: signal, χ, gradients, loss at the start, findings.

    A number has moved if |now − before| > 4 √2 s, s being the standard deviation that the theory
    expects from one drawn network to the next at the time of the baseline, or, where it expects
    none, the standard error from the batch. Two networks of the same law differ by √2 s.

    Parameters
    ----------
    diagnosis : Diagnosis
    baseline : path or dict
        What ``diagnosis.to_json(path)``, ``diagnosis.to_dict()`` or ``kadanoff diagnose --json
        FILE`` wrote.

    Raises
    ------
    StorageError
        The file cannot be read.
    UsageError
        It is no diagnosis.
    """
    before, now = _tree(baseline), diagnosis.to_dict()
    try:
        found = [*_loss(before, now), *_layers(before, now), *_findings(before, now)]
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"The baseline is no diagnosis of this version ({type(error).__name__}: {error}).",
            "Write it anew with: kadanoff diagnose ... --json FILE.",
        ) from None
    return tuple(found)


def _tree(baseline: str | os.PathLike[str] | Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(baseline, Mapping):
        return baseline
    path = Path(baseline)
    again = "Write one with: kadanoff diagnose ... --json FILE."
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StorageError(
            f"Could not read the baseline {str(path)!r}: {error.strerror or error}.", again
        ) from None
    except ValueError as error:
        raise UsageError(f"The baseline {str(path)!r} is no JSON ({error}).", again) from None
    if not isinstance(tree, dict) or "layers" not in tree or "findings" not in tree:
        raise UsageError(f"The baseline {str(path)!r} is no diagnosis.", again)
    return tree


def _loss(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    if before["loss"] is None or now["loss"] is None:
        return []
    first, second = (
        _with_spread(tree["loss"], tree.get("expected_loss")) for tree in (before, now)
    )
    return _moved("loss", "loss at the start", first, second)


def _layers(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    old, new = _by_call(before), _by_call(now)
    found: list[Change] = []
    for call in [*new, *(call for call in old if call not in new)]:
        if call not in old or call not in new:
            state = "is new" if call in new else "is gone"
            found.append(_without_number(call, "layer", f"layer {call} {state}"))
            continue
        for name, words in _QUANTITIES.items():
            first, second = old[call].get(name), new[call].get(name)
            if first is None or second is None:
                continue
            pair = [_with_spread(estimate["value"], estimate) for estimate in (first, second)]
            found += _moved(call, words, *pair)
    return found


def _findings(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    known = {finding["id"] for finding in before["findings"]}
    found: list[Change] = []
    for finding in now["findings"]:
        if finding["severity"] != "note" and finding["id"] not in known:
            sentence = f"new {finding['severity']} {finding['id']}: {finding['sentence']}"
            found.append(_without_number(finding["id"], "finding", sentence))
    return found


def _by_call(tree: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    def call(layer: Mapping[str, Any]) -> str:
        again = f"#{layer['call_index']}" if layer["call_index"] else ""
        return f"{layer['path'] or 'model'}:{layer['op']}{again}"

    return {call(layer): layer for layer in tree["layers"]}


def _with_spread(value: Any, estimate: Mapping[str, Any] | None) -> tuple[float, float]:
    """A number and its standard deviation from one drawn network to the next."""
    number = _number(value)
    stated = [_number((estimate or {}).get(name)) for name in ("spread", "stderr")]
    spread = next((s for s in stated if math.isfinite(s)), 0.0)
    # what is exactly the same in every network still carries rounding
    return number, max(spread, _UNSTATED * abs(number))


def _number(value: Any) -> float:
    # JSON has no infinities: they are written as text
    return math.nan if value is None else float(value)


def _moved(
    where: str, what: str, first: tuple[float, float], second: tuple[float, float]
) -> list[Change]:
    (before, old), (now, _) = first, second
    # had nothing changed, both would have the spread of the baseline
    spread = math.sqrt(2) * old
    finite = math.isfinite(before), math.isfinite(now)
    if finite == (True, True):
        moved = abs(now - before) > LEVEL * spread
    else:
        moved = finite[0] != finite[1]
    if not moved:
        return []
    sentence = (
        f"{what} of {where}: {short(before)} before, {short(now)} now; "
        f"their difference has a spread of {short(spread)}"
    )
    return [Change(where, what, before, now, spread, sentence)]


def _without_number(where: str, what: str, sentence: str) -> Change:
    return Change(where, what, math.nan, math.nan, math.nan, sentence)

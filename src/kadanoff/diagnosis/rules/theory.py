"""What was measured against what the theory expects."""

from __future__ import annotations

from collections.abc import Iterator

from kadanoff.diagnosis.evidence import Evidence
from kadanoff.diagnosis.kinds import kind
from kadanoff.diagnosis.result import Finding

__all__ = ["RULES"]

LIMIT = 5.0
# one layer alone must be further off: second moments of deep nets have long tails
ALONE, FACTOR_ALONE, FACTOR_ANY = 8.0, 4.0, 10.0
LAYERS = 3

UNLIKE = kind(
    "KD1101",
    "unlike-theory",
    "Far from what random weights give",
    what="The expectation is exact for independent random weights of these variances: a distance "
    "of many standard deviations says that the weights or the data are not what they seem.",
    measured="z = (measured − expected) / spread from one drawn network to the next, of the second "
    "moment of each layer.",
    threshold="|z| > 5 and a factor 2 from the expectation in three layers or more, or |z| > 8 and "
    "a factor 4 in one, or a factor 10: second moments of deep nets have long tails, and the few "
    "networks of a quick expectation know the spread badly. Not said of weights that training has "
    "changed, all or some of them.",
    remedy="Look at the first layer where it departs: weights that were changed after drawing, "
    "correlated rows, or inputs outside the usual range.",
    scale=True,
)


def _alone(z: float, factor: float) -> bool:
    """Whether one layer so far off is enough."""
    return factor > FACTOR_ANY or (z > ALONE and factor > FACTOR_ALONE)


def _unlike(e: Evidence) -> Iterator[Finding]:
    if e.trained or e.changed or e.origin is not None:
        return
    far = []
    for layer in e.layers:
        m = layer.second_moment
        if m.z is None or m.predicted is None or not m.predicted > 0:
            continue
        ratio = m.value / m.predicted
        if abs(m.z) > LIMIT and not 0.5 < ratio < 2:
            far.append((layer, m.z, ratio))
    strong = [z for _, z, ratio in far if _alone(abs(z), max(ratio, 1 / ratio))]
    if len(far) < LAYERS and not strong:
        return
    layer, z, ratio = far[0]
    yield UNLIKE.found(
        "warning",
        f"unlike theory: from layer {layer.index} ({layer.path or layer.op}) on the second moment "
        f"is {ratio:.3g} times what random weights of this size give, z = {z:.0f} (the limit is "
        f"{LIMIT:g}); so at {len(far)} layer{'s' * (len(far) > 1)}.",
        cost=3,
        value=z,
        threshold=LIMIT,
        layers=[x.index for x, _, _ in far],
    )


RULES = (_unlike,)

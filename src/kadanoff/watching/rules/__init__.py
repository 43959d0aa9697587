"""Findings along training: each rule reads the film and yields findings, and nothing else.

``activations``    dying, saturated units; signals that grow until they overflow
``attention``      logits that grow, entropies that collapse
``loss``           spikes, divergence, what is not finite
``optimizer``      the edge, the size of updates, loops that train something else
"""

from __future__ import annotations

from collections.abc import Iterator

from kadanoff.diagnosis.result import Finding
from kadanoff.watching.film import Film
from kadanoff.watching.rules import activations, attention, loss, optimizer
from kadanoff.watching.rules.loss import suspicious as suspicious

__all__ = ["RULES", "assess", "suspicious"]

# those that ask for pulses alone, and those that ask for frames
QUICK = loss.RULES
RULES = (*QUICK, *attention.RULES, *activations.RULES, *optimizer.RULES)


def assess(film: Film, quick: bool = False) -> Iterator[Finding]:
    """Findings in the course so far.

    Parameters
    ----------
    film : Film
    quick : bool
        Only ask the rules that look at losses and gradients.
    """
    for rule in QUICK if quick else RULES:
        yield from rule(film)

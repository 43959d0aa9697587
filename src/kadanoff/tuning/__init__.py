"""Tuning: initial weights and learning rates, proposed by theory and decided by a short race.

- ``propose``  ``tune``: what trains best, as parameter groups for the optimiser
- ``initialisation``  criticality in place, in closed form where the theory has one
- ``numerical``  criticality by measurement, layer by layer
- ``rescaling``  its rounds: every layer by what was just measured
- ``gains``  measuring and setting gains of weights, inputs out of scale
- ``parts``  what part each parameter plays: role, fan-in, on a branch or not
- ``rates``  learning rates a parameter: responses, shares, bounds
- ``racing``  theory's proposals as contenders, and the winner as parameter groups
- ``halving``  the race itself: sizes, rungs, what a short trial says of a long run
- ``trials``  short training runs that leave no trace
- ``sharpness``  the edge of stability, preconditioned as the optimiser does it
- ``stream``  batches in one order, the same for every contender
- ``objective``  the loss a trial is judged by
- ``optimizers``  the user's optimiser, however it is named
- ``tuned``  what ``tune`` gives back: groups, reasons, undo, a file
- ``report``  what was done, in the terminal and as a page
- ``check``  training before and after, for ``tune --check``
- ``families``  small models of given width and depth, for transfer runs
- ``sweeps``  does a rate found on a small model hold on a large one?
- ``movement``  how far activations move in a few steps, against width or depth
- ``scalings``  named scalings with width and depth: maximal update, CompleteP, NTK, spectral
- ``factories``  any factory with arguments for width and depth
- ``knobs``  does a rate, decay, batch, ε, β₂ or warm-up carry over sizes?
- ``finished``  runs of a sweep that are finished, kept in a file
- ``transfer_report``  a transfer on screen, as a figure and as a page
"""

from __future__ import annotations

from kadanoff.tuning.gains import Change as Change
from kadanoff.tuning.gains import Initialisation as Initialisation
from kadanoff.tuning.initialisation import initialise as initialise
from kadanoff.tuning.propose import tune as tune
from kadanoff.tuning.scalings import SCALINGS as SCALINGS
from kadanoff.tuning.scalings import scale as scale
from kadanoff.tuning.tuned import Tuned as Tuned
from kadanoff.tuning.tuned import groups_from as groups_from

__all__ = [
    "SCALINGS",
    "Change",
    "Initialisation",
    "Tuned",
    "groups_from",
    "initialise",
    "scale",
    "tune",
]

"""Ensembles of random networks by simulation: drawn, or sampled without drawing weights.

``blocks``        Blocks of networks with their own seeds, merged in order
``checkpoint``    Checkpoints of an ensemble: the sums after a whole number of blocks
``comparison``    Predictions beside measurements: z-scores, and the size of the next order
``control``       Control variates: the part of a network's fluctuations with known mean
``direct``        Statistics straight from preactivations and NTKs of whole layers
``directional``   Directional derivatives along gradients: first, second and third tangents
``dntk``          dNTK and ddNTK statistics from those tangents
``fits``          Weighted polynomial fits in 1/n
``haar``          Orthogonal weight matrices of many networks, known only by their action
``matrices``      Weight matrices of many networks at once: drawn, or known only by their action
``module``        Ensembles of any user's `torch.nn.Module`
``moments``       Sums over networks in a fixed number of bins: mergeable, of constant memory
``normals``       Standard normal numbers: one independent
``own``           Observables of one's own, and the drawn networks themselves
``plan``          What one ensemble measures and how: everything a worker needs
``plots``         Figures of comparisons and scalings
``probed``        Statistics of whole layers by a few gradients
``limit``         The infinite-width point that finite networks are compared with
``result``        The statistics of a simulated ensemble, under the names of the flow
``run``           `ensemble`: what is asked for, planned, sampled and estimated
``statistics``    From a block of networks to sums over networks: what both samplers measure
``tangent``       NTK statistics of a block of networks: probes
``trunk``         The forward pass of a block of networks on the inputs, drawn or implicit
``undrawn``       The law of a matrix of normal entries, given what it has answered
``widths``        Ensembles at several widths, extrapolated to infinite width at fixed depth
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kadanoff._lazy import attach

if TYPE_CHECKING:
    from kadanoff.ensembles.comparison import Comparison as Comparison
    from kadanoff.ensembles.comparison import compare as compare
    from kadanoff.ensembles.moments import Measured as Measured
    from kadanoff.ensembles.own import Drawn as Drawn
    from kadanoff.ensembles.own import Observed as Observed
    from kadanoff.ensembles.own import observe as observe
    from kadanoff.ensembles.own import sample as sample
    from kadanoff.ensembles.result import Ensemble as Ensemble
    from kadanoff.ensembles.run import ensemble as ensemble
    from kadanoff.ensembles.widths import Scaling as Scaling
    from kadanoff.ensembles.widths import scaling as scaling

__getattr__, __dir__, __all__ = attach(__name__)

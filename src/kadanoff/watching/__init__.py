"""What happens to a model while it trains, said while it can be mended.

``loop``           ``watch``: the context manager around a training loop
``hooks``          what of a loop is seen: backward passes, steps of optimisers, forward passes
``steps``          which step it is, by which optimiser, and how large its updates are
``probe``          one look at the model on the batch: signal, χ, activations, attention, gradients
``signals``        signal and activations call by call
``attention``      largest logit and entropy of each attention
``edge``           sharpness against the largest stable rate of the optimiser
``settings``       what a user may give, checked
``sharded``        several processes: who speaks, what is averaged, what cannot be watched
``regime``         drift of the empirical NTK, and the distance from initialisation
``origin``         where a loss or a gradient stops being finite
``film``           the course of all of it, a frame at a time
``growth``         rates of doubling, and the steps left until a limit
``rules``          findings, a file a topic
``voice``          says each finding once
``loggers``        scalars to TensorBoard, Weights & Biases, MLflow, CSV
``pictures``       a signal by step and depth, courses
``page``           the film as one HTML page
``terminal``       the film in a terminal
``training``       training with a given recipe, resumable
``callbacks``      for Lightning and for Hugging Face's Trainer
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kadanoff._lazy import attach

if TYPE_CHECKING:
    from kadanoff.watching.film import Event as Event
    from kadanoff.watching.film import Film as Film
    from kadanoff.watching.film import Frame as Frame
    from kadanoff.watching.loggers import Logger as Logger
    from kadanoff.watching.loop import Watch as Watch
    from kadanoff.watching.training import train as train
    from kadanoff.watching.voice import FindingRaised as FindingRaised
    from kadanoff.watching.voice import FindingWarning as FindingWarning

__getattr__, __dir__, __all__ = attach(__name__)  # pyright: ignore[reportUnsupportedDunderAll]

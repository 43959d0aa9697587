"""Watching inside the trainers of others: Lightning's, and that of transformers."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from torch import nn

from kadanoff.errors import require_extra
from kadanoff.watching.film import Event, Film
from kadanoff.watching.voice import FindingRaised

if TYPE_CHECKING:
    from kadanoff.watching.loop import Watch

__all__ = ["WatchingCallback", "hugging_face", "lightning"]


class _Watching:
    """Opens a watch when training begins and closes it when it ends, however it ends.

    Parameters
    ----------
    make : callable
        :class:`kadanoff.watching.Watch`.
    batch
        As for it.
    settings
        The other arguments.
    """

    def __init__(self, make: type[Watch], batch: Any, settings: dict[str, Any]) -> None:
        self._make, self._batch, self._settings = make, batch, settings
        self._state: dict[str, Any] | None = None
        self.watch: Watch | None = None

    def open(self, model: nn.Module) -> None:
        """Training begins."""
        self.close(None)
        settings = dict(self._settings)
        if settings.get("on_finding") == "raise":
            settings["on_finding"] = self._raise
        self.watch = self._make(model, self._batch, **settings)
        if self._state is not None:
            self.watch.load_state_dict(self._state)
            self._state = None
        self.watch.__enter__()

    def close(self, error: BaseException | None) -> None:
        """Training has ended, by an error or well; once is enough."""
        if self.watch is not None:
            self.watch.__exit__(None if error is None else type(error), error, None)

    def _raise(self, event: Event) -> None:
        """A trainer may not tell its callbacks of errors: leave nothing behind first."""
        error = FindingRaised(event)
        self.close(error)
        raise error

    @property
    def film(self) -> Film:
        """The course of everything."""
        return Film() if self.watch is None else self.watch.film


class WatchingCallback(Protocol):
    """What both callbacks offer, beside being callbacks of their trainers.

    Attributes
    ----------
    watching : object
        Has ``watch``, ``film`` and ``close(error)``.
    """

    watching: _Watching

    @property
    def film(self) -> Film:
        """The course of everything."""
        ...


def lightning(make: type[Watch], batch: Any, **settings: Any) -> WatchingCallback:
    """A callback for Lightning's ``Trainer`` (packages ``lightning`` and ``pytorch_lightning``).

    The module is called with the inputs of the batch, as ``module(inputs)``. The film is kept in
    Lightning's checkpoints and goes on when training is resumed from one.

    Parameters
    ----------
    make : callable
        :class:`kadanoff.watching.Watch`.
    batch
        What the module is looked at with.
    **settings
        The other arguments of :class:`kadanoff.watching.Watch`.

    Returns
    -------
    WatchingCallback
        With ``film``; pass it as ``Trainer(callbacks=[...])``.

    Raises
    ------
    MissingExtraError
        Lightning is not installed.
    """
    # the one the user trains with, where both are there
    name = "lightning.pytorch" if "lightning.pytorch" in sys.modules else "pytorch_lightning"
    base = require_extra(name, "lightning").Callback
    return _lightning_class(base)(_Watching(make, batch, settings))


@functools.cache
def _lightning_class(base: type) -> Callable[[_Watching], Any]:
    class LightningCallback(base):
        def __init__(self, watching: _Watching) -> None:
            super().__init__()
            self.watching = watching

        @property
        def film(self) -> Film:
            return self.watching.film

        def on_train_start(self, trainer: Any, pl_module: nn.Module) -> None:
            wrapped = getattr(trainer, "model", None)
            self.watching.open(wrapped if isinstance(wrapped, nn.Module) else pl_module)

        def on_train_end(self, trainer: Any, pl_module: nn.Module) -> None:
            self.watching.close(None)

        def on_exception(self, trainer: Any, pl_module: nn.Module, exception: Any) -> None:
            self.watching.close(exception)

        def state_dict(self) -> dict[str, Any]:
            watch = self.watching.watch
            return {} if watch is None else watch.state_dict()

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            self.watching._state = state_dict or None

    return LightningCallback


def hugging_face(make: type[Watch], batch: Any, **settings: Any) -> WatchingCallback:
    """A callback for the ``Trainer`` of transformers.

    That trainer tells its callbacks nothing of exceptions: after one that is not a finding, call
    ``callback.watching.close(error)``, or train again, which closes it too.

    Parameters
    ----------
    make : callable
        :class:`kadanoff.watching.Watch`.
    batch
        What the model is looked at with, for instance a dict of tensors with ``labels``.
    **settings
        The other arguments of :class:`kadanoff.watching.Watch`.

    Returns
    -------
    WatchingCallback
        With ``film``; pass it as ``Trainer(callbacks=[...])``.

    Raises
    ------
    MissingExtraError
        Transformers is not installed.
    """
    base = require_extra("transformers", "hf").TrainerCallback
    return _hugging_face_class(base)(_Watching(make, batch, settings))


@functools.cache
def _hugging_face_class(base: type) -> Callable[[_Watching], Any]:
    class HuggingFaceCallback(base):
        def __init__(self, watching: _Watching) -> None:
            super().__init__()
            self.watching = watching

        @property
        def film(self) -> Film:
            return self.watching.film

        def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            self.watching.open(given["model"])

        def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            self.watching.close(None)

    return HuggingFaceCallback

"""A family of models: any factory with arguments for width and depth."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from kadanoff.errors import UsageError

__all__ = ["Factory", "Sizes", "factory_of", "read_sizes"]

# names of arguments that stand for width and depth if nobody says which does
WIDTHS = ("width", "n_embd", "hidden_size", "d_model", "dim", "hidden", "channels", "embed_dim")
DEPTHS = ("depth", "layers", "n_layer", "n_layers", "num_layers", "num_hidden_layers", "blocks")


@dataclass(frozen=True)
class Sizes:
    """Values of one argument of a factory; ``name`` is empty where it is to be guessed."""

    name: str
    values: tuple[int, ...]


def read_sizes(text: str, option: str) -> Sizes:
    """From ``width=128,256`` or ``128,256`` to sizes, ascending.

    Raises
    ------
    UsageError
        Something else, or a number below 1.
    """
    name, separator, rest = text.rpartition("=")
    try:
        values = [int(part) for part in rest.split(",") if part.strip()]
    except ValueError:
        values = []
    if not values or min(values) < 1 or (separator and not name.strip().isidentifier()):
        raise UsageError(
            f"{option} {text!r} is no list of sizes.",
            f"Write {option} 64,128,256, or {option} ARGUMENT=64,128,256.",
        )
    return Sizes(name.strip(), tuple(sorted(set(values))))


@dataclass(frozen=True)
class Factory:
    """Makes a model of given width and depth; the same seed gives the same weights.

    Attributes
    ----------
    make : callable
        Keyword arguments to a module.
    width, depth : str
        The arguments that stand for them; empty: the factory has none.
    kwargs : dict
        Further arguments.
    """

    make: Callable[..., nn.Module]
    width: str
    depth: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def build(self, width: int, depth: int, seed: int = 0) -> nn.Module:
        """A freshly initialised model.

        Parameters
        ----------
        width, depth : int
        seed : int
            Of torch's global generator while it is built.

        Raises
        ------
        UsageError
            The factory fails at that size, or returns no module.
        """
        sizes = {n: v for n, v in ((self.width, width), (self.depth, depth)) if n}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            try:
                model = self.make(**{**self.kwargs, **sizes})
            except Exception as error:
                words = ", ".join(f"{k}={v}" for k, v in sizes.items())
                raise UsageError(
                    f"The factory fails at {words} ({type(error).__name__}: {error}).",
                    "Name sizes that it can build, and other arguments with --kwargs.",
                ) from error
        if not isinstance(model, nn.Module):
            raise UsageError(
                f"The factory returned a {type(model).__name__}, not a torch.nn.Module.",
                "Return the model itself.",
            )
        return model


def factory_of(
    found: Any, widths: Sizes, depths: Sizes, kwargs: Mapping[str, Any] | None = None
) -> Factory:
    """Read what a user named as a family.

    Parameters
    ----------
    found : callable or class
        A function or module class with arguments for width and depth, or a configuration class of
        Transformers, of which the causal language model (else the bare model) is made.
    widths, depths : Sizes
        With the names of the arguments, or without: then the usual ones are looked for.
    kwargs : mapping, optional
        Further arguments.

    Raises
    ------
    UsageError
        Not callable, or without such an argument.
    """
    config = _is_config(found)
    if not callable(found):
        raise UsageError(
            f"The family is a {type(found).__name__}, not a function or class.",
            "Name a factory with arguments for width and depth.",
        )
    known = _arguments(found)
    width = widths.name or _guess(known, WIDTHS)
    depth = depths.name or _guess(known, DEPTHS)
    for name, option, values in ((width, "--widths", widths), (depth, "--depths", depths)):
        if known is not None and name and name not in known:
            raise UsageError(
                f"The factory has no argument {name!r}; it has {', '.join(sorted(known))}.",
                f"Write {option} ARGUMENT=...",
            )
        if not name and len(values.values) > 1:
            raise UsageError(
                "Which argument of the factory stands for the size cannot be told.",
                f"Write {option} ARGUMENT=64,128.",
            )
    make: Callable[..., Any] = _from_config(found) if config else found
    return Factory(make, width, depth, dict(kwargs or {}))


def _is_config(found: Any) -> bool:
    return inspect.isclass(found) and any(
        base.__name__ in ("PretrainedConfig", "PreTrainedConfig") for base in found.__mro__
    )


def _from_config(config: Any) -> Callable[..., nn.Module]:
    def make(**kwargs: Any) -> nn.Module:
        from transformers import AutoModel, AutoModelForCausalLM

        made = config(**kwargs)
        try:
            return AutoModelForCausalLM.from_config(made)
        except ValueError:  # no language model of this kind
            return AutoModel.from_config(made)

    return make


def _arguments(found: Any) -> set[str] | None:
    """Names of keyword arguments; None where anything is taken or nothing can be told."""
    try:
        parameters = inspect.signature(found).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        return None
    return {p.name for p in parameters}


def _guess(known: set[str] | None, names: Sequence[str]) -> str:
    return next((name for name in names if known is not None and name in known), "")

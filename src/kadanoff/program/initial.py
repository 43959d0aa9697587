"""The law of every parameter of a model: followed from its construction, or read off its weights.

Three sources, the best first:

- a factory is run once while every draw is observed (:mod:`kadanoff.program.drawing`);
- of a finished model the classes are asked to initialise a copy without memory, under the same
  observation: Hugging Face's ``_init_weights`` with the model's config, ``reset_parameters`` of
  every module. What they say is believed of a parameter if its entries agree, or if the model
  looks trained (then it says what the weights once were);
- else the entries themselves tell, with the error that their number allows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from kadanoff.errors import AnalysisError, KadanoffError, UsageError
from kadanoff.program.classes import laws_of_classes, reinitialise, resolved, self_initialising
from kadanoff.program.drawing import Drawing
from kadanoff.program.freshness import Freshness, looks_trained
from kadanoff.program.law import Law
from kadanoff.program.measured import agreement, law_of_entries

__all__ = ["Built", "Laws", "build", "laws"]

Factory = Callable[[], nn.Module]
# a law whose tests are this many standard errors off is not that of the weights
REJECT = 6.0
# instances of a factory for a parameter whose law cannot be followed
INSTANCES = 8


class Laws(dict[str, Law]):
    """Laws by the name of the parameter, as in ``named_parameters()``; prints as a table.

    Attributes
    ----------
    freshness : Freshness or None
        What the weights of a finished model look like.
    """

    def __init__(
        self, found: Mapping[str, Law] | None = None, freshness: Freshness | None = None
    ) -> None:
        super().__init__(found or {})
        self.freshness = freshness

    def override(self, given: Mapping[str, Law]) -> Laws:
        """The same with some laws replaced.

        Raises
        ------
        UsageError
            A name is none of the parameters.
        """
        unknown = sorted(set(given) - set(self))
        if unknown:
            raise UsageError(
                f"There is no parameter {unknown[0]!r}.", f"There are {', '.join(list(self)[:8])}…"
            )
        return Laws({**self, **given}, self.freshness)

    def __str__(self) -> str:
        rows = [("parameter", "law", "mean", "std", "by")]
        for name, law in self.items():
            rows.append((name, law.kind, *_numbers(law), law.source))
        widths = [max(len(row[k]) for row in rows) for k in range(4)]
        lines = ["  ".join([*(c.ljust(w) for c, w in zip(r, widths)), r[4]]) for r in rows]
        return "\n".join(line.rstrip() for line in lines)


def _numbers(law: Law) -> tuple[str, str]:
    if law.kind == "constant" and law.value is not None and law.value.numel() > 1:
        return f"{float(law.value.double().mean()):.4g}", "(values)"
    error = f" ± {law.std_error:.1g}" if law.std_error else ""
    return f"{law.mean:.4g}", f"{law.std:.4g}{error}"


@dataclass(frozen=True)
class Built:
    """A model whose construction was observed.

    Attributes
    ----------
    model : nn.Module
    laws : Laws
    buffers : dict of Tensor
        On the meta device: the values of buffers (rotary frequencies, masks), which the model
        itself has none of. Buffers too large to be kept are missing.
    """

    model: nn.Module
    laws: Laws
    buffers: dict[str, Tensor] = field(default_factory=dict, repr=False)


def laws(
    model: nn.Module | Factory,
    *,
    override: Mapping[str, Law] | None = None,
    instances: int = INSTANCES,
) -> Laws:
    """Find the law of every parameter at initialisation.

    Parameters
    ----------
    model : nn.Module or callable
        A model, which is not changed, or a factory without arguments.
    override : mapping of str to Law, optional
        Laws that are known better.
    instances : int
        Networks that a factory makes for a parameter whose law cannot be followed.

    Returns
    -------
    Laws
        One entry for each distinct parameter (a tied one under its first name).

    Raises
    ------
    UsageError
        Neither a model nor a factory, or an unknown name in ``override``.

    Notes
    -----
    Exact for everything that torch draws while the factory runs, uniform and truncated and
    orthogonal laws and their products with numbers; measured, with ``std_error``, where
    arithmetic is more than that. Torch's global random state is left as it was.
    """
    found = _of_instance(model) if isinstance(model, nn.Module) else build(model, instances).laws
    return found.override(override) if override else found


def build(factory: Factory, instances: int = INSTANCES, *, meta: bool = False) -> Built:
    """Run a factory under observation.

    Parameters
    ----------
    factory : callable
        Without arguments, returns a module.
    instances : int
        As in :func:`laws`.
    meta : bool
        Build on the meta device: no memory is used for weights. Hugging Face models are told to
        initialise themselves there too.

    Returns
    -------
    Built

    Raises
    ------
    UsageError
        The factory is not callable or returns no module.
    AnalysisError
        The model cannot be built on the meta device.
    """
    if not callable(factory):
        raise UsageError(
            f"laws needs a torch.nn.Module or a function that returns one, "
            f"got {type(factory).__name__}."
        )
    drawing = Drawing()
    with torch.random.fork_rng(devices=[]):
        model = _constructed_on_meta(factory, drawing) if meta else _constructed(factory, drawing)
        found = {
            name: resolved(name, parameter, drawing.fate(parameter), drawing.value(parameter))
            for name, parameter in model.named_parameters()
        }
        if not meta:
            found = _by_instances(found, model, factory, instances)
    buffers = {}
    for name, buffer in model.named_buffers():
        value = drawing.value(buffer)
        if value is not None and buffer.is_meta:
            buffers[name] = value
    return Built(model, Laws(found), buffers)


def _constructed(factory: Factory, drawing: Drawing) -> nn.Module:
    with drawing:
        model = factory()
    if not isinstance(model, nn.Module):
        raise UsageError(f"The factory returned a {type(model).__name__}, not a torch.nn.Module.")
    return model


def _constructed_on_meta(factory: Factory, drawing: Drawing) -> nn.Module:
    try:
        with drawing, torch.device("meta"):
            model = factory()
            if isinstance(model, nn.Module):
                for part in self_initialising(model):
                    reinitialise(part)
    except KadanoffError:
        raise
    except (RuntimeError, NotImplementedError, ValueError, TypeError) as error:
        raise AnalysisError(
            f"The model cannot be built on the meta device: {error}",
            "Build it without --meta, or keep data-dependent code out of its constructor.",
        ) from error
    if not isinstance(model, nn.Module):
        raise UsageError(f"The factory returned a {type(model).__name__}, not a torch.nn.Module.")
    return model


def _by_instances(
    found: dict[str, Law], model: nn.Module, factory: Factory, instances: int
) -> dict[str, Law]:
    """Measure on several networks what could not be followed, or was made outside of torch."""
    doubtful = [
        name
        for name, law in found.items()
        if law.source in ("its own entries", "made outside of torch")
        and dict(model.named_parameters())[name].numel() > 1
    ]
    if not doubtful or instances < 2:
        return found
    pools: dict[str, list[Tensor]] = {name: [] for name in doubtful}
    for network in [model, *(factory() for _ in range(instances - 1))]:
        parameters = dict(network.named_parameters())
        for name in doubtful:
            pools[name].append(parameters[name].detach())
    measured = {
        name: law_of_entries(pool, f"{instances} instances") for name, pool in pools.items()
    }
    # constants that are the same each time keep their origin
    return found | {
        name: law for name, law in measured.items() if law.random or found[name].kind != "constant"
    }


# a finished model


def _of_instance(model: nn.Module) -> Laws:
    remembered = laws_of_classes(model)
    freshness = looks_trained(model, remembered)
    trained = set(freshness.names("trained"))
    found = {}
    for name, parameter in model.named_parameters():
        law = remembered.get(name)
        if parameter.is_meta:
            if law is None:
                raise AnalysisError(
                    f"Nothing says from which law {name} is drawn, and it holds no values.",
                    f"Give it: laws={{'{name}': Law(std=…)}}, or pass a factory.",
                )
            found[name] = law
            continue
        entries = parameter.detach()
        if law is None:
            found[name] = law_of_entries([entries], "its own entries")
        elif _stated(law) or abs(agreement(entries, law)[0]) < REJECT:
            found[name] = law
        elif name in trained or (freshness and law.kind == "constant"):
            found[name] = replace(law, source=f"{law.source}, trained since")
        else:
            found[name] = law_of_entries([entries], "its own entries")
    return Laws(found, freshness)


def _stated(law: Law) -> bool:
    """Whether a config states it: Hugging Face's initializer_range holds, whatever is there now.

    PyTorch's defaults hold only where nobody drew the weights anew, which the entries tell.
    """
    return law.random and law.source.endswith("._init_weights")

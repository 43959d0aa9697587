"""From ``path/to/file.py:factory`` to a model, with a remedy for each way it can go wrong."""

from __future__ import annotations

import difflib
import inspect
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from kadanoff.data.objects import attribute, where
from kadanoff.devices import chosen
from kadanoff.errors import UsageError

__all__ = ["LoadedModel", "load_target", "load_weights", "parse_kwargs"]

SAVED = (".pt2", ".pt", ".ts", ".torchscript", ".jit")
EXAMPLE = "Write path/to/file.py:factory, package.module:factory, or a .pt2 or TorchScript file."


@dataclass(frozen=True)
class LoadedModel:
    """A loaded model: its ``model``, the ``spec`` it came from, its fixed ``batch`` if any."""

    model: torch.nn.Module
    spec: str
    batch: int | None = None


def parse_kwargs(text: str | None) -> dict[str, Any]:
    """Parse ``--kwargs``: a JSON object of keyword arguments for the factory."""
    if not text:
        return {}
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(
            f"--kwargs {text!r} is not JSON ({error}).", """Write e.g. --kwargs '{"width": 128}'."""
        ) from error
    if not isinstance(value, dict):
        raise UsageError(
            f"--kwargs {text!r} is not a JSON object.", """Write e.g. --kwargs '{"width": 128}'."""
        )
    return value


def load_target(
    spec: str, kwargs: dict[str, Any] | None = None, *, seed: int = 0, device: str = "cpu"
) -> LoadedModel:
    """Build or load the model that ``spec`` names.

    Parameters
    ----------
    spec : str
        ``path/to/file.py:factory``, ``package.module:factory``, or a ``.pt2`` (``torch.export``)
        or TorchScript file. The factory may also be a module class or a module itself.
    kwargs : dict, optional
        Keyword arguments of the factory.
    seed : int
        Seed of the global generator while the factory runs; its state is put back afterwards.
    device : str
        Where the model is moved to.

    Raises
    ------
    UsageError
        Whatever is wrong with the file, the name, the factory or what it returns; the model has no
        parameters, or NaN or infinity in its weights.
    """
    where_to = chosen(device, torch.float32)
    path, kwargs = os.fspath(spec), kwargs or {}
    if path.lower().endswith(SAVED):
        if kwargs:
            raise UsageError(f"{path!r} is a saved model and takes no --kwargs.", "Leave them out.")
        model, batch = _saved(path)
    else:
        model, batch = _built(path, kwargs, seed), None
    _check(model, path)
    try:
        model = model.to(where_to)
    except Exception as error:
        raise UsageError(
            f"{path!r} cannot be moved to {device!r}: {error}", "Use --device cpu."
        ) from error
    return LoadedModel(model, path, batch)


def _built(spec: str, kwargs: dict[str, Any], seed: int) -> torch.nn.Module:
    _, separator, _ = spec.rpartition(":")
    if not separator or spec.endswith(".py"):
        raise UsageError(f"{spec!r} names no factory.", _candidates(spec))
    found = attribute(spec, what="target")
    if isinstance(found, torch.nn.Module):
        if kwargs:
            raise UsageError(f"{spec!r} is a module already and takes no --kwargs.", "Drop them.")
        return found
    if not callable(found):
        raise UsageError(
            f"{spec!r} is a {type(found).__name__}, not a torch.nn.Module or a function that makes "
            "one.",
            "Name a factory.",
        )
    _check_arguments(found, spec, kwargs)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            model = found(**kwargs)
        except (Exception, SystemExit) as error:
            raise UsageError(
                f"The factory {spec!r} raised {type(error).__name__}: {error}{where(error)}",
                "Fix it, or give its arguments with --kwargs (see --debug for the traceback).",
            ) from error
    if not isinstance(model, torch.nn.Module):
        raise UsageError(
            f"The factory {spec!r} returned a {type(model).__name__}, not a torch.nn.Module.",
            "Return the model itself.",
        )
    return model


def _check_arguments(factory: Callable[..., Any], spec: str, kwargs: dict[str, Any]) -> None:
    """Refuse arguments the factory does not take, and name those it cannot do without."""
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):  # a callable written in C says nothing about itself
        return
    kinds = {p.kind for p in parameters.values()}
    known = [
        name
        for name, p in parameters.items()
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    takes = f"It takes {', '.join(known)}." if known else "It takes none."
    unknown = [name for name in kwargs if name not in known]
    if unknown and inspect.Parameter.VAR_KEYWORD not in kinds:
        near = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise UsageError(f"The factory {spec!r} takes no argument {unknown[0]!r}.", hint + takes)
    missing = [
        name
        for name in known
        if parameters[name].default is inspect.Parameter.empty and name not in kwargs
    ]
    if missing:
        raise UsageError(
            f"The factory {spec!r} needs {' and '.join(missing)}.",
            "Give it, e.g. --kwargs '" + json.dumps(dict.fromkeys(missing, 64)) + "'.",
        )


def _candidates(spec: str) -> str:
    """What the user could have meant by a file without a factory."""
    if not os.path.isfile(spec):
        return EXAMPLE
    import ast

    try:
        with open(spec, encoding="utf-8") as stream:
            body = ast.parse(stream.read()).body
    except (SyntaxError, UnicodeDecodeError, OSError):
        return EXAMPLE
    names = [
        node.name
        for node in body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
    ]
    return "Name one: " + ", ".join(f"{spec}:{name}" for name in names[:6]) if names else EXAMPLE


def _saved(path: str) -> tuple[torch.nn.Module, int | None]:
    if not os.path.isfile(path):
        folder = os.path.dirname(path) or "."
        entries = os.listdir(folder) if os.path.isdir(folder) else []
        near = difflib.get_close_matches(os.path.basename(path), entries, n=1)
        hint = f"Did you mean {os.path.join(folder, near[0])!r}?" if near else "Check the path."
        raise UsageError(f"There is no file {path!r}.", hint)
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit announces its own retirement on each call
        try:
            if path.lower().endswith(".pt2"):
                program = torch.export.load(path)
                return program.module(), _fixed_batch(program)
            return torch.jit.load(path, map_location="cpu"), None
        except Exception as error:
            held = _state_dict(path)
            if held:
                raise UsageError(
                    f"{path!r} holds a state dict ({len(held)} tensors, the first {held[0]!r}), "
                    "not a model.",
                    f"Name what makes the model, and add: --weights {path}.",
                ) from None
            first = (str(error).strip().splitlines() or ["no message"])[0]
            raise UsageError(
                f"{path!r} is no model that can be loaded: {type(error).__name__}: {first[:160]}",
                "Give a file of torch.export.save (.pt2) or torch.jit.save; for a pickled module "
                "give path/to/file.py:factory that loads it.",
            ) from error


def _state_dict(path: str) -> list[str]:
    """Names of the tensors in a file of ``torch.save(model.state_dict(), ...)``; else nothing."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # not such a file
        return []
    named = isinstance(content, dict) and all(isinstance(k, str) for k in content)
    tensors = named and all(isinstance(v, torch.Tensor) for v in content.values())
    return list(content) if tensors else []


def load_weights(model: torch.nn.Module, path: str | os.PathLike[str]) -> None:
    """Load a state dict into a model.

    Raises
    ------
    UsageError
        There is no such file, it holds something else, or it does not fit the model.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise UsageError(f"There is no file {path!r}.", "Check the path.")
    if not _state_dict(path):
        raise UsageError(
            f"{path!r} holds no state dict.", "Write it with torch.save(model.state_dict(), path)."
        )
    try:
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except RuntimeError as error:
        said = " ".join(str(error).split())[:300]
        raise UsageError(
            f"The weights in {path!r} do not fit the model: {said}",
            "Give the factory the arguments it was trained with, by --kwargs.",
        ) from None
    _check(model, path)


def _fixed_batch(program: Any) -> int | None:
    """The number of samples an exported program insists on, if it was not exported dynamic."""
    names = set(program.graph_signature.user_inputs)
    for node in program.graph.nodes:
        value = node.meta.get("val") if node.op == "placeholder" and node.name in names else None
        if isinstance(value, torch.Tensor) and value.ndim:
            return value.shape[0] if isinstance(value.shape[0], int) else None
    return None


def _check(model: torch.nn.Module, spec: str) -> None:
    parameters = dict(model.named_parameters())
    if not parameters:
        raise UsageError(
            f"The model of {spec!r} has no parameters: there is nothing to diagnose.",
            "Give a model with at least one layer that has weights.",
        )
    for name, parameter in parameters.items():
        if isinstance(parameter, torch.nn.parameter.UninitializedParameter):
            continue  # a lazy module gets its shape from the first batch
        if parameter.is_complex():
            raise UsageError(
                f"The parameter {name!r} of {spec!r} is complex.", "Only real weights are handled."
            )
        if parameter.is_floating_point() and not bool(torch.isfinite(parameter).all()):
            count = int((~torch.isfinite(parameter)).sum())
            raise UsageError(
                f"The parameter {name!r} of {spec!r} has {count} value(s) that are NaN or "
                "infinite.",
                "Load weights from before training diverged, or initialise the model anew.",
            )

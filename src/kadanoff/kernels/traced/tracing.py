"""From a model and an example of its inputs to a graph of kernels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kadanoff.errors import AnalysisError, KadanoffError, UsageError
from kadanoff.kernels.traced.evaluation import Graph, Values, nodes_with_data
from kadanoff.kernels.traced.expressions import Expression, batch_for, replay
from kadanoff.kernels.traced.laws import Parameter
from kadanoff.kernels.traced.mode import Refused, Trace
from kadanoff.kernels.traced.sampled import Given, Sampled
from kadanoff.kernels.traced.settling import rows_of, settle
from kadanoff.kernels.traced.symbols import Data, Opaque, Open, ParameterView, Random
from kadanoff.trace.sandbox import untouched

__all__ = ["Traced", "trace"]


@dataclass(frozen=True)
class Traced:
    """A model as a graph of kernels.

    Attributes
    ----------
    graph : Graph
    batch : int
        Samples in the trace.
    outputs : int
        Channels of the output.
    notes : tuple of str
        What is sampled, and why.
    """

    graph: Graph
    batch: int
    outputs: int
    notes: tuple[str, ...]

    def values(self, inputs: Mapping[str, Tensor]) -> Values:
        """The data of the leaves, (N, P, C) each, from inputs of N samples."""
        count = len(next(iter(inputs.values())))
        found: Values = {}
        for node in nodes_with_data(self.graph.order):
            if isinstance(node, Sampled):
                for e in node.others:
                    if isinstance(e.leaf, Given):
                        name: Any = e.leaf.name
                        value = inputs[name]
                        found[name] = value.double() if value.is_floating_point() else value
                continue
            found[node] = self._rows(node, inputs, count)
        return found

    def _rows(self, node: Any, inputs: Mapping[str, Tensor], count: int) -> Tensor:
        leaves = node.expression.leaves()
        if not any(isinstance(e.leaf, Given) for e in leaves):
            value = _given(node.expression, inputs, count, self.batch)
            samples = count if node.layout.sample is not None else 1
            return _double(node.layout.to_rows(value, samples))
        try:
            value = _given(node.expression, inputs, count, self.batch)
            return _double(node.layout.to_rows(value, count))
        except RuntimeError:
            pass
        # code that holds the size of the batch in ways of its own: as many samples as traced
        parts = []
        for start in range(0, count, self.batch):
            chosen = torch.arange(start, start + self.batch) % count
            part = {name: value[chosen] for name, value in inputs.items()}
            value = _given(node.expression, part, self.batch, self.batch)
            parts.append(_double(node.layout.to_rows(value, self.batch)))
        return torch.cat(parts)[:count]


def _double(rows: Tensor) -> Tensor:
    return rows.double() if rows.is_floating_point() else rows


def _given(expression: Expression, inputs: Mapping[str, Tensor], count: int, traced: int) -> Tensor:
    def value(e: Expression) -> Tensor:
        return inputs[e.leaf.name] if isinstance(e.leaf, Given) else e.leaf

    return replay(expression, value, count, traced)


def trace(
    model: nn.Module,
    parameters: Mapping[str, Parameter],
    inputs: Mapping[str, Tensor],
    *,
    output: Callable[[Any], Tensor] | None = None,
    sampling: bool = True,
    heads: str = "real",
) -> Traced:
    """Run the model's forward on kernels.

    Parameters
    ----------
    model : nn.Module
    parameters : mapping of str to Parameter
    inputs : mapping of str to Tensor
        By keyword, or ``"0"`` for the one positional argument; at least one sample.
    output : callable, optional
        What of the model's output to take.
    sampling : bool
        Whether what does not close may be sampled.
    heads : {"real", "infinite"}
        The head dimension of softmax attention.

    Raises
    ------
    Refused
        It does not run on kernels.
    UsageError
        The model fails, or its output is not one vector a sample.
    """
    sizes = [n for p in parameters.values() for n in p.shape]
    sizes += [n for value in inputs.values() for n in value.shape[1:]]
    batch = batch_for(sizes)
    mode = Trace(model, parameters, batch, sampling, heads)
    example = {}
    for name, value in inputs.items():
        few = value[torch.arange(batch) % len(value)]
        few = few.to(mode.dtype) if few.is_floating_point() else few
        example[name] = mode.register(few.clone(), Data(Expression(leaf=Given(name))))
        mode.example[name] = few.double() if few.is_floating_point() else few
    with untouched(model, graph=True), torch.random.fork_rng(devices=[]), mode.running():
        try:
            found = model(example["0"]) if "0" in example else model(**example)
            found = _main(found) if output is None else output(found)
        except (KadanoffError, Refused, Open):
            raise
        except Exception as error:
            first = (str(error).strip().splitlines() or ["no message"])[0][:200]
            raise UsageError(
                f"The model failed on inputs of shape "
                f"{[tuple(v.shape) for v in example.values()]} in "
                f"{mode.here or 'its forward'}: {type(error).__name__}: {first}",
                "Check that model(X) runs by itself on these inputs.",
            ) from error
    node = _output_node(mode, found)
    notes = tuple(
        dict.fromkeys(
            f"{n.path or 'the output'}: {n.what}"
            for n in Graph(node.node).order
            if isinstance(n, Sampled)
        )
    )
    return Traced(Graph(node.node), batch, node.node.channels, notes)


def _main(found: Any) -> Any:
    if isinstance(found, Tensor):
        return found
    if isinstance(found, Mapping):
        for name in ("logits", "last_hidden_state"):
            if name in found:
                return found[name]
    if isinstance(found, (tuple, list)) and found:
        return found[0]
    return found


def _output_node(mode: Trace, found: Any) -> Random:
    symbol = mode.symbol(found)
    if symbol is None or isinstance(symbol, (Data, ParameterView)):
        raise AnalysisError(
            "The output of the model does not depend on its weights and inputs both.",
            "Pass the model whose readout is random, or output= to choose the tensor.",
        )
    shape = tuple(found.shape)
    try:
        if isinstance(symbol, Opaque):
            node = settle(mode, symbol, shape, (len(shape) - 1,))
        else:
            assert isinstance(symbol, Random)
            node = settle(mode, symbol, shape, mode.layout(symbol).channels)
        positions, _ = rows_of(mode, node)
    except (Open, AssertionError) as error:
        raise Refused("", "the output", str(error) or "it is no random tensor") from error
    if len(positions) != 1:
        raise UsageError(
            f"The output has shape {('N', *shape[1:])}: a kernel is that of one vector a sample, "
            f"and this one has {len(positions)} positions.",
            "Pass output=lambda y: y[:, 0], or y.mean(1), to choose one.",
        )
    if node.node.positions != 1:
        from kadanoff.kernels.traced.positions import Gathered

        node = Random(node.expression, Gathered(node.node, positions), node.ids)
    return node

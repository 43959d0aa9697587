"""The main chain of a model, read off the autograd graph."""

from __future__ import annotations

import heapq
from typing import Any

from torch import Tensor

__all__ = ["main_chain"]


def main_chain(output: Tensor, edges: list[Any]) -> list[int]:
    """Which recorded tensors carry *all* of the signal from the first one to the output.

    A node of the graph is on the main chain if every path from the output down to the first
    recorded tensor passes through it: each layer of an MLP or ConvNet, the residual stream
    between blocks of a ResNet or Transformer, but not what lies on a branch.

    Parameters
    ----------
    output : Tensor
    edges : list of GradientEdge or None
        Of the recorded tensors, in the order of the forward pass.

    Returns
    -------
    list of int
        Positions in ``edges``, in the order of the forward pass.
    """
    first = next((edge.node for edge in edges if edge is not None), None)
    if output.grad_fn is None or first is None:
        return []
    inside = _reaching(output.grad_fn, first)
    if output.grad_fn not in inside:
        return []
    # sequence numbers grow along the forward pass: the largest pending node is handled first
    heap: list[tuple[int, int, Any]] = [(-output.grad_fn._sequence_nr(), 0, output.grad_fn)]
    pending: set[Any] = {output.grad_fn}
    counter, cuts = 1, set()
    while heap:
        _, _, node = heapq.heappop(heap)
        pending.discard(node)
        if not heap:
            cuts.add(node)
        for child, _ in node.next_functions:
            if child is not None and child in inside and child not in pending:
                pending.add(child)
                heapq.heappush(heap, (-child._sequence_nr(), counter, child))
                counter += 1
    seen: set[Any] = set()
    chain = []
    for index, edge in enumerate(edges):
        if edge is not None and edge.node in cuts and edge.node not in seen:
            seen.add(edge.node)
            chain.append(index)
    return chain


def _reaching(root: Any, target: Any) -> set[Any]:
    """Nodes below ``root`` from which ``target`` can be reached."""
    reaches: dict[Any, bool] = {target: True}
    stack = [(root, False)]
    while stack:
        node, expanded = stack.pop()
        if expanded:
            children = (child for child, _ in node.next_functions if child is not None)
            reaches[node] = any(reaches.get(child, False) for child in children)
        elif node not in reaches:
            reaches[node] = False
            stack.append((node, True))
            stack.extend((c, False) for c, _ in node.next_functions if c is not None)
    return {node for node, yes in reaches.items() if yes}

"""The graph of one step: a networkx DiGraph whose nodes carry an op, its arguments in order, and a place.

The graph describes whole arrays and never mentions a grid size. Nodes stand in topological order; their names
come from hints and counters, so two runs give the same graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import networkx as nx
import numpy as np
import sympy as sp

from .grid import Axis
from .ops import Combination, Context, Input, Op


class Builder:
    """Grows a graph op by op."""

    def __init__(self, axes: tuple[Axis, ...]) -> None:
        self.graph = nx.DiGraph(axes=axes, output=None)

    def add(self, op: Op, *arguments: str, hint: str) -> str:
        """Add an op; the name comes from `hint`, in which {0}, {1}, … stand for the arguments' names."""
        stem = hint.format(*arguments)
        name, count = stem, 2
        while name in self.graph:
            name, count = f"{stem}_{count}", count + 1
        place = op.place([self.graph.nodes[a]["place"] for a in arguments])
        self.graph.add_node(name, op=op, args=arguments, place=place, hint=hint)
        self.graph.add_edges_from((a, name) for a in arguments)
        return name

    def value(self, op: Op, *arguments: str, hint: str) -> Value:
        return Value(self, self.add(op, *arguments, hint=hint))

    def finish(self, output: str) -> nx.DiGraph:
        self.graph.graph["output"] = output
        return self.graph


class Value:
    """A node under construction; sums and scalar multiples of values are values."""

    def __init__(self, builder: Builder, name: str) -> None:
        self.builder, self.name = builder, name

    def _combine(self, coefficients: tuple[Any, ...], *others: Value, hint: str = "v") -> Value:
        op = Combination(tuple(sp.sympify(c) for c in coefficients))
        return self.builder.value(op, self.name, *(o.name for o in others), hint=hint)

    def __add__(self, other: Value) -> Value:
        return self._combine((1, 1), other)

    def __sub__(self, other: Value) -> Value:
        return self._combine((1, -1), other)

    def __mul__(self, scalar: Any) -> Value:
        return self._combine((scalar,))

    __rmul__ = __mul__

    def __truediv__(self, scalar: Any) -> Value:
        return self._combine((1 / sp.sympify(scalar),))

    def __neg__(self) -> Value:
        return self._combine((-1,))


def rebuild(
    graph: nx.DiGraph,
    visit: Callable[[Builder, Op, tuple[str, ...], str], str],
    keep: Callable[[str, Op], bool] = lambda name, op: True,
) -> nx.DiGraph:
    """Copy the nodes to `keep` one by one, in order; `visit(builder, op, arguments, hint)` adds what replaces each."""
    builder = Builder(graph.graph["axes"])
    renamed: dict[str, str] = {}
    for name, node in graph.nodes.items():
        if keep(name, node["op"]):
            renamed[name] = visit(builder, node["op"], tuple(renamed[a] for a in node["args"]), node["hint"])
    return builder.finish(renamed[graph.graph["output"]])


def verify(graph: nx.DiGraph) -> None:
    """Check the rules every pass must keep. A breach is a bug of ours, hence an AssertionError."""
    output = graph.graph["output"]
    assert output in graph, "the graph has no output"
    seen: set[str] = set()
    for name, node in graph.nodes.items():
        assert isinstance(node["op"], Op), f"{name} carries no op"
        assert set(node["args"]) <= seen, f"{name} reads a later or missing node"
        assert set(node["args"]) == set(graph.predecessors(name)), f"edges into {name} are not its arguments"
        place = node["op"].place([graph.nodes[a]["place"] for a in node["args"]])
        assert place == node["place"], f"{name} is not where its op puts it"
        seen.add(name)
    assert graph.nodes[output]["place"].location == (0,) * len(graph.graph["axes"]), "the new state is off the nodes"


def dump(graph: nx.DiGraph) -> str:
    """The graph as text, one op per line."""
    width = max(len(name) for name in graph)
    lines = []
    for name, node in graph.nodes.items():
        where = "".join("½" if half else "0" for half in node["place"].location)
        lines.append(f"{name:{width}} @{where}  {node['op'].kind:15}  {node['op'].text(node['args'])}")
    return "\n".join([*lines, f"→ {graph.graph['output']}"])


def run(graph: nx.DiGraph, inputs: Mapping[str, np.ndarray], context: Context) -> np.ndarray:
    """The NumPy meaning of a graph."""
    values: dict[str, np.ndarray] = {}
    for name, node in graph.nodes.items():
        if isinstance(node["op"], Input):
            values[name] = inputs[node["op"].name]
        else:
            values[name] = node["op"].numpy([values[a] for a in node["args"]], context)
    return values[graph.graph["output"]]


def states(graph: nx.DiGraph) -> list[str]:
    return [n for n, node in graph.nodes.items() if isinstance(node["op"], Input) and node["op"].role == "state"]

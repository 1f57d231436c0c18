"""Passes: graph in, graph out, verified before and after each.

A pass is a function; `PIPELINE` is the order they run in. To add one, write it and put it into the list.
"""

from __future__ import annotations

from collections.abc import Callable

import networkx as nx
import sympy as sp

from .graph import Builder, rebuild, verify
from .ops import Combination, Input, Op

Pass = Callable[[nx.DiGraph], nx.DiGraph]


def common_subexpressions(graph: nx.DiGraph) -> nx.DiGraph:
    """Ops that are equal and read the same values are one op: the diffusivity is computed once."""
    seen: dict[object, str] = {}

    def visit(builder: Builder, op: Op, arguments: tuple[str, ...], hint: str) -> str:
        key: object = (op, arguments)
        if isinstance(op, Combination):  # the order of a sum does not matter
            key = tuple(sorted(zip(arguments, map(str, op.coefficients), strict=True)))
        if key not in seen:
            seen[key] = builder.add(op, *arguments, hint=hint)
        return seen[key]

    return rebuild(graph, visit)


def flatten_combinations(graph: nx.DiGraph) -> nx.DiGraph:
    """A combination of combinations is one combination; equal terms are gathered."""

    def visit(builder: Builder, op: Op, arguments: tuple[str, ...], hint: str) -> str:
        if not isinstance(op, Combination):
            return builder.add(op, *arguments, hint=hint)
        terms: dict[str, sp.Expr] = {}
        for coefficient, argument in zip(op.coefficients, arguments, strict=True):
            inner = builder.graph.nodes[argument]
            nested = isinstance(inner["op"], Combination)
            parts = zip(inner["op"].coefficients, inner["args"], strict=True) if nested else [(sp.S.One, argument)]
            for c, a in parts:
                terms[a] = terms.get(a, sp.S.Zero) + coefficient * c
        terms = {a: c for a, c in terms.items() if c != 0} or dict(list(terms.items())[:1])
        if list(terms.values()) == [1]:
            return next(iter(terms))
        return builder.add(Combination(tuple(terms.values())), *terms, hint=hint)

    return rebuild(graph, visit)


def dead_code(graph: nx.DiGraph) -> nx.DiGraph:
    """Keep what the new state needs, and every input."""
    needed = nx.ancestors(graph, graph.graph["output"]) | {graph.graph["output"]}

    def visit(builder: Builder, op: Op, arguments: tuple[str, ...], hint: str) -> str:
        return builder.add(op, *arguments, hint=hint)

    return rebuild(graph, visit, keep=lambda name, op: name in needed or isinstance(op, Input))


PIPELINE: tuple[tuple[str, Pass], ...] = (
    ("common-subexpressions", common_subexpressions),
    ("flatten-combinations", flatten_combinations),
    ("dead-code", dead_code),
)


def optimise(graph: nx.DiGraph) -> tuple[tuple[str, nx.DiGraph], ...]:
    """Run the pipeline; returns the graph as built and after every pass, by name."""
    verify(graph)
    stages = [("built", graph)]
    for name, transform in PIPELINE:
        graph = transform(graph)
        verify(graph)
        stages.append((name, graph))
    return tuple(stages)

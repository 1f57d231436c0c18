"""Passes: graph in, graph out, verified before and after each.

A pass is a function; `PIPELINE` is the order they run in. To add one, write it and put it into the list.
"""

from __future__ import annotations

from collections.abc import Callable

import networkx as nx
import sympy as sp

from .graph import Builder, rebuild, verify
from .ops import Combination, Component, Input, Op, Solve, Stack

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


def turns(graph: nx.DiGraph) -> nx.DiGraph:
    """u + τ(r, 0, …), a state in which one field moves, is (u₁ + τr, u₂, …)."""

    def field(builder: Builder, value: str, i: int, name: str) -> str:
        node = builder.graph.nodes[value]
        if isinstance(node["op"], Stack):
            return str(node["args"][i])
        return builder.add(Component(i, name), value, hint=f"{value}_{name}")

    def still(builder: Builder, value: str) -> bool:
        op = builder.graph.nodes[value]["op"]
        return isinstance(op, Combination) and not any(op.coefficients)

    def visit(builder: Builder, op: Op, arguments: tuple[str, ...], hint: str) -> str:
        moved = [builder.graph.nodes[a]["op"] for a in arguments]
        names = next((o.fields for o in moved if isinstance(o, Stack) and o.fields), ())
        if isinstance(op, Component) and isinstance(moved[0], Stack):
            return field(builder, arguments[0], op.index, op.name)
        if not isinstance(op, Combination) or not names:
            return builder.add(op, *arguments, hint=hint)
        fields = []
        for i, name in enumerate(names):
            every = [(c, field(builder, a, i, name)) for c, a in zip(op.coefficients, arguments, strict=True)]
            terms = [(c, a) for c, a in every if not still(builder, a)]
            if not terms or (len(terms) == 1 and terms[0][0] == 1):
                fields.append((terms or every)[0][1])
                continue
            new = Combination(tuple(c for c, _ in terms))
            fields.append(builder.add(new, *(a for _, a in terms), hint=f"{name}_new"))
        return builder.add(Stack(names), *fields, hint="fields_new")

    return rebuild(graph, visit)


def dead_code(graph: nx.DiGraph) -> nx.DiGraph:
    """Keep what the new state needs, and every input."""
    outputs = graph.graph["outputs"]
    needed = set(outputs).union(*(nx.ancestors(graph, o) for o in outputs))

    def visit(builder: Builder, op: Op, arguments: tuple[str, ...], hint: str) -> str:
        return builder.add(op, *arguments, hint=hint)

    return rebuild(
        graph, visit, keep=lambda name, op: name in needed or (isinstance(op, Input) and op.role in ("state", "data"))
    )


def hoist(graph: nx.DiGraph) -> nx.DiGraph:
    """What a sum inside a solve takes from outside is added up once, before the first iteration."""
    inside: dict[str, bool] = {}

    def visit(builder: Builder, op: Op, arguments: tuple[str, ...], hint: str) -> str:
        if isinstance(op, Combination) and any(inside[a] for a in arguments):
            outer = [(c, a) for c, a in zip(op.coefficients, arguments, strict=True) if not inside[a]]
            if len(outer) > 1:
                known = builder.add(Combination(tuple(c for c, _ in outer)), *(a for _, a in outer), hint="known")
                inside[known] = False
                inner = [(c, a) for c, a in zip(op.coefficients, arguments, strict=True) if inside[a]]
                op = Combination((*(c for c, _ in inner), sp.S.One))
                arguments = (*(a for _, a in inner), known)
        name = builder.add(op, *arguments, hint=hint)
        role = op.role if isinstance(op, Input) else ""
        inside[name] = role in ("unknown", "direction") or (
            not isinstance(op, Solve) and any(inside[a] for a in arguments)
        )
        return name

    return rebuild(graph, visit)


PIPELINE: tuple[tuple[str, Pass], ...] = (
    ("turns", turns),
    ("common-subexpressions", common_subexpressions),
    ("flatten-combinations", flatten_combinations),
    ("hoist", hoist),
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

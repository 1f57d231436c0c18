"""The graph of one step: a networkx DiGraph whose nodes carry an op, its arguments in order, and a place.

The graph describes whole arrays and never mentions a grid size. Nodes stand in topological order; their names
come from hints and counters, so two runs give the same graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import networkx as nx
import numpy as np
import sympy as sp

from .errors import SchemeError
from .fields import t
from .grid import Axis
from .ops import (
    AdjointFilterBank,
    AdjointStencil,
    ChannelMixture,
    ChannelSum,
    Combination,
    Component,
    Context,
    FilterBank,
    Flux,
    Ghost,
    Held,
    Input,
    Op,
    Place,
    Solve,
    Stack,
    Stencil,
)
from .solve import Solver


class Builder:
    """Grows a graph op by op."""

    def __init__(self, axes: tuple[Axis, ...], secants: bool = False) -> None:
        self.graph = nx.DiGraph(axes=axes, outputs=())
        self.now: sp.Expr = t
        """The time of the state at which f is evaluated."""
        self.secants = secants
        """Do solves carry the secant of their residual too, because its derivative may be indefinite?"""

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

    def named(self, name: str, time: sp.Expr = sp.S.Zero) -> Value:
        """The value of a node."""
        return Value(self, name, time)

    def finish(self, *outputs: str) -> nx.DiGraph:
        self.graph.graph["outputs"] = outputs
        return self.graph


class Value:
    """A node under construction; sums and scalar multiples of values are values.

    `time` is that of the equation t' = 1 which runs along: that of a state, 1 for f(u), and so for every stage of a
    scheme the time at which it stands.
    """

    def __init__(self, builder: Builder, name: str, time: sp.Expr = sp.S.Zero) -> None:
        self.builder, self.name, self.time = builder, name, time

    @property
    def place(self) -> Place:
        """Where it lies, and how it continues."""
        place: Place = self.builder.graph.nodes[self.name]["place"]
        return place

    def _combine(self, coefficients: tuple[Any, ...], *others: Value, hint: str = "v") -> Value:
        op = Combination(tuple(sp.sympify(c) for c in coefficients))
        found = self.builder.value(op, self.name, *(o.name for o in others), hint=hint)
        times = (self.time, *(o.time for o in others))
        found.time = sp.expand(sp.Add(*(c * time for c, time in zip(op.coefficients, times, strict=True))))
        return found

    def __add__(self, other: Value) -> Value:
        return self._combine((1, 1), other)

    def __radd__(self, zero: int) -> Value:
        """What `sum` starts from."""
        if zero != 0:
            raise TypeError(f"{zero!r} + f(u): a number cannot be added to a state")
        return self

    def __pos__(self) -> Value:
        return self

    def __sub__(self, other: Value) -> Value:
        return self._combine((1, -1), other)

    def __mul__(self, scalar: Any) -> Value:
        return self._combine((scalar,))

    __rmul__ = __mul__

    def __truediv__(self, scalar: Any) -> Value:
        return self._combine((1 / sp.sympify(scalar),))

    def __neg__(self) -> Value:
        return self._combine((-1,))

    def solve_for(self, residual: Callable[[Value], Value], solver: Solver) -> Value:
        """A solve op that starts at this value; its body are the nodes that depend on its unknown."""
        builder, place = self.builder, self.place
        count = sum(isinstance(op, Solve) for _, op in builder.graph.nodes(data="op"))
        v = builder.value(Input(f"v{count}", "unknown", place.parity), hint="v")
        start, unknown = len(builder.graph), sp.Dummy("t")
        v.time = unknown
        R = residual(v)
        v.time = sp.expand(-R.time.coeff(unknown, 0) / R.time.coeff(unknown))  # where the residual of times vanishes
        new = list(builder.graph)[start:]
        if any(unknown in builder.graph.nodes[n]["op"].scalars for n in new):
            builder.graph.remove_nodes_from(new)
            R = residual(v)
        w = builder.add(Input(f"w{count}", "direction", place.parity), hint="w")
        arguments = [R.name, v.name, self.name, w, linearise(builder, R.name, v.name, w, secant=False)]
        if builder.secants:
            arguments.append(linearise(builder, R.name, v.name, w, secant=True))
        found = builder.value(Solve(solver, place.parity), *arguments, hint="{1}_new")
        found.time = v.time
        return found


def linearise(builder: Builder, residual: str, v: str, w: str, secant: bool) -> str:
    """R'(v)w as nodes of the graph. Every op but the flux is linear and occurs again, on tangents.

    The secant leaves diffusivities as they are, G(v)Kw instead of Φ'(Kv)Kw: definite wherever g ≥ 0.
    """
    graph = builder.graph
    inside = nx.descendants(graph, v)
    if residual != v and residual not in inside:
        raise SchemeError("solve(residual, guess): the residual does not depend on the unknown v")
    tangents = {v: w}
    for name in [n for n in graph if n in inside]:
        node = graph.nodes[name]
        op, arguments = node["op"], node["args"]
        if isinstance(op, Solve):
            raise SchemeError("a solve inside the residual of another one cannot be compiled; solve them one by one")
        moving = [(i, tangents[a]) for i, a in enumerate(arguments) if a in tangents]
        if not moving:
            continue
        if isinstance(op, (Stencil, Ghost)):  # directions vanish on the walls
            still = op.homogeneous if isinstance(op, Ghost) else replace(op, walls=())
            tangents[name] = builder.add(still, moving[0][1], hint=node["hint"])
        elif isinstance(
            op, (AdjointStencil, FilterBank, AdjointFilterBank, ChannelMixture, ChannelSum, Component, Held)
        ):
            tangents[name] = builder.add(op, moving[0][1], hint=node["hint"])
        elif isinstance(op, Stack):
            parts = [tangents.get(a) or _zero(builder, w) for a in arguments]
            tangents[name] = builder.add(op, *parts, hint=node["hint"])
        elif isinstance(op, Combination):
            chosen = Combination(tuple(op.coefficients[i] for i, _ in moving))
            tangents[name] = builder.add(chosen, *(t for _, t in moving), hint=f"d{node['hint']}")
        else:
            assert isinstance(op, Flux)
            slopes = {i: _slope(op, i, secant) for i, _ in moving}
            tangents[name] = _flux_tangent(builder, op, arguments, moving, slopes, node["hint"])
    return tangents[residual]


def _zero(builder: Builder, w: str) -> str:
    """The tangent of a field that stands still."""
    first = builder.add(Component(0, "the first field"), w, hint="first")
    return builder.add(Combination((sp.S.Zero,)), first, hint="zero")


def _slope(op: Flux, i: int, secant: bool) -> sp.Expr:
    """∂Φ/∂s_i, or for the secant Φ/s of a flux in one variable and g alone of a product g·s."""
    s = op.slots[i]
    if secant and op.label == "g·s":
        return op.slots[0] if s.name == "s" else sp.S.Zero
    if secant and op.label.startswith("flux_") and len(op.slots) == 1:
        quotient = sp.expand(op.expression / s) if op.expression.is_Add else op.expression / s
        if quotient.xreplace({s: sp.S.Zero}).is_finite:
            return quotient
    slope: sp.Expr = sp.diff(op.expression, s).replace(sp.DiracDelta, lambda *_: sp.S.Zero)
    return slope


def _flux_tangent(
    builder: Builder,
    op: Flux,
    arguments: Sequence[str],
    moving: list[tuple[int, str]],
    slopes: Mapping[int, sp.Expr],
    hint: str,
) -> str:
    """Σ ∂Φ/∂s_i ds_i."""
    directions = {i: sp.Symbol(f"d{op.slots[i].name}", real=True) for i, _ in moving}
    total = sp.Add(*(slopes[i] * d for i, d in directions.items()))
    reads = {**dict(zip(op.slots, arguments, strict=True)), **{directions[i]: t for i, t in moving}}
    used = {s: n for s, n in reads.items() if s in total.free_symbols} or {directions[moving[0][0]]: moving[0][1]}
    return builder.add(Flux(total, tuple(used), f"{op.label}'"), *used.values(), hint=f"d{hint}")


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
    return builder.finish(*(renamed[o] for o in graph.graph["outputs"]))


def verify(graph: nx.DiGraph) -> None:
    """Check the rules every pass must keep. A breach is a bug of ours, hence an AssertionError."""
    outputs = graph.graph["outputs"]
    assert outputs and all(o in graph for o in outputs), "the graph has no output"
    seen: set[str] = set()
    for name, node in graph.nodes.items():
        assert isinstance(node["op"], Op), f"{name} carries no op"
        assert set(node["args"]) <= seen, f"{name} reads a later or missing node"
        assert set(node["args"]) == set(graph.predecessors(name)), f"edges into {name} are not its arguments"
        place = node["op"].place([graph.nodes[a]["place"] for a in node["args"]])
        assert place == node["place"], f"{name} is not where its op puts it"
        seen.add(name)
    for output in outputs:
        assert not any(graph.nodes[output]["place"].location), "the new state is off the nodes"


def dump(graph: nx.DiGraph) -> str:
    """The graph as text, one op per line."""
    width = max(len(name) for name in graph)
    lines = []
    for name, node in graph.nodes.items():
        where = "".join("½" if half else "0" for half in node["place"].location)
        lines.append(f"{name:{width}} @{where}  {node['op'].kind:15}  {node['op'].text(node['args'])}")
    return "\n".join([*lines, f"→ {', '.join(graph.graph['outputs'])}"])


def run(graph: nx.DiGraph, inputs: Mapping[str, np.ndarray], context: Context) -> np.ndarray:
    """The NumPy meaning of a graph."""
    values: dict[str, np.ndarray] = {}
    for name, node in graph.nodes.items():
        if isinstance(node["op"], Input):
            values[name] = inputs[node["op"].name]
        else:
            values[name] = node["op"].numpy([values[a] for a in node["args"]], context)
    return values[graph.graph["outputs"][0]]


def states(graph: nx.DiGraph) -> list[str]:
    return [n for n, node in graph.nodes.items() if isinstance(node["op"], Input) and node["op"].role == "state"]

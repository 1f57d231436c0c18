"""The graph of one multigrid cycle: `Multigrid.descend` run on graph values, the levels below as one solve."""

from __future__ import annotations

import networkx as nx

from . import ops
from .elliptic import Elliptic
from .graph import Builder, Value, verify
from .schemes.multigrid import SMOOTHERS


def cycle_graph(problem: Elliptic) -> nx.DiGraph:
    """u and the data in, u after a cycle out; typed ops for smoother, restriction, solve and prolongation."""
    builder = Builder(problem.axes)
    fine = _Level(builder, problem)
    u = fine.state(str(problem.problem.unknown.func))
    b = fine.inline(problem.right_hand_side) if problem.right_hand_side is not None else fine.constant()
    new = problem.scheme.descend(fine, u, b, problem.scheme.cycle)
    graph = builder.finish(new.name)
    verify(graph)
    return graph


class _Level:
    """What `descend` calls. The level below differs from the finest in nothing but its solve."""

    def __init__(self, builder: Builder, problem: Elliptic) -> None:
        self.builder, self.problem, self.scheme = builder, problem, problem.scheme
        system = problem.system.homogeneous if problem.linear else problem.system
        self.parity, self.walls = system.parity, system.walls

    @property
    def below(self) -> _Level:
        return self

    def state(self, name: str) -> Value:
        return self.builder.value(ops.Input(name, "state", self.parity, self.walls), hint=name)

    def constant(self) -> Value:
        return self.builder.value(ops.Input("b", "data", tuple((1, 1) for _ in self.parity)), hint="b")

    def inline(self, graph: nx.DiGraph, u: Value | None = None) -> Value:
        """The nodes of a graph, whose state is u; data fields are shared."""
        renamed: dict[str, str] = {}
        for name, node in graph.nodes.items():
            op = node["op"]
            if isinstance(op, ops.Input) and op.role == "state":
                assert u is not None
                renamed[name] = u.name
            elif isinstance(op, ops.Input) and name in self.builder.graph:
                renamed[name] = name
            else:
                renamed[name] = self.builder.add(op, *(renamed[a] for a in node["args"]), hint=node["hint"])
        (output,) = graph.graph["outputs"]
        return self.builder.named(renamed[output])

    def _add(self, op: type[ops.Level], label: str, *arguments: Value, hint: str) -> Value:
        return self.builder.value(op(label, self.parity, self.walls), *(v.name for v in arguments), hint=hint)

    def smooth(self, u: Value, b: Value, sweeps: int) -> Value:
        if sweeps == 0:
            return u
        return self._add(ops.Smoother, f"{sweeps} sweeps: {SMOOTHERS[self.scheme.smoother]}", u, b, hint="{0}_smooth")

    def operator(self, u: Value) -> Value:
        return self.inline(self.problem.operator, u)

    def restrict(self, r: Value) -> Value:
        return self._add(ops.Restriction, f"R, {self.problem.restriction}", r, hint="r_coarse")

    def inject(self, u: Value) -> Value | None:
        return None if self.problem.linear else self._add(ops.Restriction, "R̂", u, hint="w")

    def right_hand_side(self, r: Value, w: Value | None) -> Value:
        return r if w is None else r + self.operator(w)

    def cycle(self, v: Value | None, c: Value, kind: str) -> Value:
        arguments = (c,) if v is None else (v, c)
        return self._add(ops.CoarseSolve, f"the levels below, {kind}", *arguments, hint="v")

    def difference(self, v: Value, w: Value | None) -> Value:
        return v if w is None else v - w

    def prolong(self, v: Value) -> Value:
        return self._add(ops.Prolongation, f"P, {self.scheme.prolongation}", v, hint="correction")

    def correct(self, u: Value, v: Value) -> Value:
        new = u + v
        return self.builder.value(ops.Ghost(self.parity, self.walls), new.name, hint="{0}_ring")

"""The torch printer, one graph at a time: ops become statements of a function body.

Scalar stencils are printed as slices of an array that carries its ghost ring: no convolution, no in-place write. A
solve becomes nested functions: its residual, and the Jacobian of that, each made of the nodes that depend on what it
is given. The text is a function of the graph alone, so it is the same to the byte on every run, and it is laid out
the way the formatter would lay it out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import networkx as nx
import sympy as sp

from . import notation
from .fields import t
from .grid import ONE_SIDED
from .layout import Extent, Layout, continuation, edge, plan, slices, subscript
from .ops import (
    AdjointFilterBank,
    AdjointStencil,
    ChannelMixture,
    ChannelSum,
    Combination,
    Component,
    FilterBank,
    Flux,
    Ghost,
    Held,
    Input,
    Integral,
    Position,
    Solve,
    Stack,
    Stencil,
)
from .pointwise import replaced
from .printing import Printer, literal, torch_code
from .stencil import Orbit, fraction

LINE = 88

DIRECTION = "extend_direction"
"""The method that gives directions their ghost rings, where these differ from those of states."""


@dataclass(frozen=True)
class Statement:
    """`comment` says in mathematics what `lines` compute."""

    comment: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Vocabulary:
    """What a body needs to know of its module: names of scalars, which of them are tensors, learned stencils, and how
    a solve is called."""

    scalars: Mapping[sp.Symbol, str]
    tensors: frozenset[str]
    learned: Mapping[str, Sequence[Orbit]]
    reserved: frozenset[str]
    jacobian: bool = False
    secant: bool = False
    cycles: tuple[tuple[str, ...], tuple[str, ...], bool] | None = None
    """The data and scalars that the U-net of a step is given, if multigrid solves it."""
    beside: tuple[str, ...] = ()
    """The data that walls read."""
    dims: Mapping[str, int] | None = None
    """The axis of every Thomas solve, counted from the last."""


class Body:
    """The statements of one graph. `names` maps nodes to variables; `results` are the names of the outputs."""

    def __init__(self, graph: nx.DiGraph, words: Vocabulary, least: Mapping[str, tuple[int, ...]], result: str) -> None:
        self.graph, self.words = graph, words
        self.axes = graph.graph["axes"]
        states = (op for _, op in graph.nodes(data="op") if isinstance(op, Input) and op.role == "state")
        ring = next((Ghost(op.parity, op.walls, op.fields) for op in states), None)
        self.still = ring is None or ring.still
        """Are all walls of the state 0, as those of a direction are?"""
        self.driven = ring is not None and bool(ring.scalars)
        """Do walls have values that change with time?"""
        self.layout: Layout = plan(graph, least)
        taken = {*words.scalars.values(), *words.reserved}
        given = {n for n, op in graph.nodes(data="op") if isinstance(op, Input) and op.role == "initial"}
        self.names = {n: n if n not in taken or n in given else f"{n}_" for n in graph}
        outputs = graph.graph["outputs"]
        if not isinstance(graph.nodes[outputs[0]]["op"], Input):
            self.names[outputs[0]] = self._unique(result)
        self.results = [self.names[o] for o in outputs]
        self.inside = self._levels()
        self.by_rows = by_rows(graph)

    def extended(self, v: str, time: sp.Expr = t) -> str:
        """The call that gives a state its ghost ring, at a time, between walls that read data."""
        when = [torch_code(time, self.words.scalars)] if self.driven else []
        return f"self.extend({', '.join([v, *when, *(self.names[f] for f in self.words.beside)])})"

    def _unique(self, hint: str) -> str:
        while hint in self.names.values() or hint in self.words.scalars.values():
            hint += "_"
        return hint

    def _levels(self) -> dict[str, tuple[str, ...]]:
        """The unknowns and directions every node depends on; a solve depends on its guess alone."""
        found: dict[str, tuple[str, ...]] = {}
        for name, node in self.graph.nodes.items():
            op = node["op"]
            if isinstance(op, Input):
                found[name] = (name,) if op.role in ("unknown", "direction") else ()
            elif isinstance(op, Solve):
                found[name] = found[node["args"][2]]
            else:
                found[name] = tuple(sorted({x for a in node["args"] for x in found[a]}))
        return found

    def statements(self) -> list[Statement]:
        """The body of the function, solves as nested functions."""
        chosen = [n for n in self.graph if not self.inside[n]]
        return self._print(chosen, LINE - 8)

    def _print(self, chosen: Sequence[str], width: int) -> list[Statement]:
        statements = []
        for name in chosen:
            op, arguments = self.graph.nodes[name]["op"], self.graph.nodes[name]["args"]
            if isinstance(op, Input):
                continue
            if isinstance(op, Solve):
                statements += self._solve(name, op, arguments, width)
                continue
            current = {a: (self.names[a], self.layout.extents[a]) for a in arguments}
            for extension in self.layout.extensions.get(name, ()):
                statement, current[extension.value] = self._extension(extension, *current[extension.value], width)
                statements.append(statement)
            statements.append(self._statement(name, op, [current[a] for a in arguments], width))
        return statements

    # --- solves -------------------------------------------------------------------------------------------

    def _solve(self, name: str, op: Solve, arguments: Sequence[str], width: int) -> list[Statement]:
        residual, v, guess, w, tangent = arguments[:5]
        target, residual_name = self.names[name], self._fresh("residual", name)
        self.names[residual] = self._unique("defect")
        needed = nx.ancestors(self.graph, residual) | {residual}
        body = [n for n in self.graph if n in needed and v in self.inside[n]]
        lines = self._function(
            residual_name, self.names[v], "Zero at the new state.", body, self._at_nodes(residual), width
        )
        call = residual_name
        if self.words.jacobian:
            call += f", {self._jacobian('jacobian', name, v, w, tangent, lines, width)}"
        if self.words.secant:
            call += f", {self._jacobian('secant', name, v, w, arguments[5], lines, width)}"
        if self.words.cycles is not None:
            what = f"{target} solves {residual_name}({self.names[v]}) = 0, by a U-net"
            return [Statement(what, tuple(self._cycles(residual_name, lines, target, guess, width)))]
        dim = "" if self.words.dims is None else f", {self.words.dims[name]}"
        start = self._at_nodes(guess)
        what = f"{target} solves {residual_name}({self.names[v]}) = 0: hidden state {self.names[v]}, "
        what += f"input {self.names[guess]}"
        code = f"{target} = self.solve({call}, {start}{dim})"
        if len(code) > width:
            code = f"{target} = self.solve(\n    {call}, {start}{dim}\n)"
        return [Statement(what, (*lines, *code.splitlines()))]

    def _cycles(self, residual: str, lines: list[str], target: str, guess: str, width: int) -> list[str]:
        """The call of the U-net: for linear systems it finds the correction of the guess, for others the new state."""
        assert self.words.cycles is not None
        fields, scalars, linear = self.words.cycles
        start = self._at_nodes(guess)
        arguments = ["torch.zeros_like(start)" if linear else "start", f"-{residual}(start)", "start"]
        arguments += [self._at_nodes(name) for name in fields] + list(scalars)
        step = call("start + self.multigrid" if linear else "self.multigrid", arguments, width - len(target) - 3)
        return [*lines, f"start = {start}", f"{target} = {step[0]}", *step[1:]]

    def _jacobian(self, stem: str, name: str, v: str, w: str, tangent: str, lines: list[str], width: int) -> str:
        needed = nx.ancestors(self.graph, tangent) | {tangent}
        outer = [n for n in self.graph if n in needed and self.inside[n] == (v,)]
        inner = [n for n in self.graph if n in needed and w in self.inside[n]]
        apply = self._fresh("apply", name)
        what = {"jacobian": "derivative", "secant": "secant"}[stem]
        doc = f"The {what} of the residual in a direction."
        if not outer or outer == [v]:
            lines += self._function(apply, self.names[w], doc, inner, self._at_nodes(tangent), width)
            return f"lambda v: {apply}"
        jacobian = self._fresh(stem, name)
        nested = self._function("apply", self.names[w], doc, inner, self._at_nodes(tangent), width - 4)
        lines += [
            f"def {jacobian}({self.names[v]}: Tensor):",
            f'    """The {what} of the residual at v, as a function."""',
            *_indent(self._flat(outer, width - 4)),
            "",
            *_indent(nested),
            "    return apply",
            "",
        ]
        return jacobian

    def _fresh(self, stem: str, solve: str) -> str:
        """residual, residual_2, …: one per solve of the graph."""
        solves = [n for n, op in self.graph.nodes(data="op") if isinstance(op, Solve)]
        return self._unique(stem if solves[0] == solve else f"{stem}_{solves.index(solve) + 1}")

    def _function(self, name: str, argument: str, doc: str, body: Sequence[str], result: str, width: int) -> list[str]:
        return [
            f"def {name}({argument}: Tensor) -> Tensor:",
            f'    """{doc}"""',
            *_indent(self._flat(body, width - 4)),
            f"    return {result}",
            "",
        ]

    def _flat(self, body: Sequence[str], width: int) -> list[str]:
        lines: list[str] = []
        for s in self._print(body, width):
            lines += [""] * (bool(lines) and s.lines[0].startswith("def ")) + [f"# {s.comment}", *s.lines]
        return lines

    def _at_nodes(self, name: str) -> str:
        d = len(self.axes)
        return self.names[name] + slices(self.layout.extents[name], ((0, 0),) * d, (0,) * d)

    # --- ops ----------------------------------------------------------------------------------------------

    def _extension(self, e: Any, v: str, extent: Extent, width: int) -> tuple[Statement, tuple[str, Extent]]:
        location = self.graph.nodes[e.value]["place"].location[e.axis]
        inside = [e.axes[e.axis].closed(location) if a == e.axis else ends for a, ends in enumerate(extent)]
        cut = slices(extent, tuple(inside), (0,) * len(extent))
        extent = tuple(inside)
        pieces = continuation(v + cut, e.axes, e.axis, location, e.parity, e.width, "value")
        how, short = ("oddly", "odd") if e.parity[0] < 0 else ("evenly", "even")
        how, short = ("as polynomials", "wide") if abs(e.parity[0]) == ONE_SIDED else (how, short)
        target = self._unique(f"{self.names[e.value]}_{short}")
        lines = concatenate(target, pieces, e.axis - len(self.axes), width)
        reach = list(extent)
        reach[e.axis] = (extent[e.axis][0] - 2 * e.width[0], extent[e.axis][1] + 2 * e.width[1])
        comment = f"{v} continued {how} beyond the boundary along {self.axes[e.axis].name}"
        return Statement(comment, tuple(lines)), (target, tuple(reach))

    def _statement(self, name: str, op: Any, arguments: list[tuple[str, Extent]], width: int) -> Statement:
        target, extent = self.names[name], self.layout.extents[name]
        d = len(self.axes)
        if isinstance(op, Ghost):
            inner = arguments[0][0] + slices(arguments[0][1], ((0, 0),) * d, (0,) * d)
            code = f"self.{DIRECTION}({inner})" if op.still and not self.still else self.extended(inner, op.time)
            return Statement(f"{target} = {arguments[0][0]} with its ghost ring", (f"{target} = {code}",))
        if isinstance(op, Position):
            return Statement(f"{target} = {self._math(op, [])}", tuple(self._position(target, op, extent)))
        if isinstance(op, Integral):
            return Statement(f"{target} = Σ {arguments[0][0]}", tuple(self._integral(name, *arguments[0], width)))
        if isinstance(op, (FilterBank, AdjointFilterBank)):
            lines = self._filters(target, op, *arguments[0], width)
        elif isinstance(op, ChannelMixture):
            v = arguments[0][0] + slices(arguments[0][1], extent, (0,) * d)
            lines = [f"{target} = nn.functional.conv{d}d({v}, mix_{op.bank.label})"]
        elif isinstance(op, ChannelSum):
            lines = [f"{target} = {arguments[0][0]}{slices(arguments[0][1], extent, (0,) * d)}.sum(1, keepdim=True)"]
        elif isinstance(op, Component):
            v, have = arguments[0]
            lines = [f"{target} = {v}[:, {op.index}:{op.index + 1}]{slices(have, extent, (0,) * d)}"]
        elif isinstance(op, Held):
            v, have = arguments[0]
            within = [":-1" if a in op.along else ":" for a in range(d)]
            widths = [w for a in reversed(range(min(op.along), d)) for w in (0, int(a in op.along))]
            code = v + slices(have, extent, (0,) * d) + subscript(within)
            lines = [f"{target} = nn.functional.pad({code}, {tuple_code(widths)})"]
        elif isinstance(op, Stack):
            parts = tuple_code([v + slices(have, extent, (0,) * d) for v, have in arguments])
            if not all(self._moves(a) for a in self.graph.nodes[name]["args"]):  # data may have one sample for all
                parts = f"torch.broadcast_tensors{parts}"
            first, *more = call("torch.cat", [parts, "1"], width - len(target) - 3)
            lines = [f"{target} = {first}", *more]
        elif isinstance(op, (Stencil, AdjointStencil)):
            lines = self._stencil(target, op, arguments[0], extent, width)
        elif isinstance(op, Flux):
            cut = [v + slices(e, extent, (0,) * d) for v, e in arguments]
            if name not in self.by_rows:
                lines = self._flux(target, op, cut, width)
            else:
                function, given = self._unique(f"{target}_of"), [self.names[a] for a in self.graph.nodes[name]["args"]]
                head = f"def {function}({', '.join(f'{v}: Tensor' for v in given)}) -> Tensor:"
                body = [*self._flux(target, op, given, width - 4), f"return {target}", ""]
                lines = [head, *_indent(body), *call(f"{target} = by_rows", [function, *cut], width)]
        else:
            lines = self._combination(target, op, arguments, extent, width)
        return Statement(f"{target} = {self._math(op, [v for v, _ in arguments])}", tuple(lines))

    def _flux(self, target: str, op: Flux, arguments: Sequence[str], width: int) -> list[str]:
        e = one_fraction(clamped(op.expression, op.slots))
        lines, tensors = list[str](), self.words.tensors | set(arguments)
        values = dict(zip(op.slots, arguments, strict=True))
        if e.is_number:  # a value at every node, all the same
            return assign(target, f"torch.full_like({arguments[0]}, {torch_code(e)})", width)
        if not e.free_symbols & set(op.slots):
            code = torch_code(e, self.words.scalars, tensors)
            return assign(target, f"torch.ones_like({arguments[0]}) * ({code})", width)
        for i, s in enumerate(op.slots):
            number = f"_{i + 1}" * (i > 0)
            if op.label.startswith("g") and s.is_nonnegative:
                # float32 squares overflow beyond 1e19; capped, the flux has vanished
                values[s] = f"{values[s]}.clamp(max=1e30)"
                if e.count(s) > 2:
                    capped = self._unique(f"{target}_capped{number}")
                    lines += assign(capped, values[s], width)
                    values[s] = capped
                tensors |= {values[s]}
            if sum(p == s**2 for p in sp.preorder_traversal(e)) > 2:  # a mixture reads one square
                square = sp.Symbol(self._unique(f"{target}_square{number}"), nonnegative=True)
                lines += assign(square.name, torch_code(s**2, values), width)
                e, tensors = e.xreplace({s**2: square}), tensors | {square.name}
        names = {**self.words.scalars, **values}
        return lines + assign_expression(target, e, names, tensors, width)

    def _position(self, target: str, op: Position, extent: Extent) -> list[str]:
        """The coordinate, counted from the number of nodes of a state; on periodic axes it wraps around."""
        axis, d, (low, high) = op.axes[op.axis], len(self.axes), extent[op.axis]
        state = next(n for n, o in self.graph.nodes(data="op") if isinstance(o, Input) and o.role != "data")
        v, have, half = self.names[state], self.layout.extents[state], op.location[op.axis]

        def count(a: int, more: int) -> str:
            """The number of nodes along an axis, and so many more."""
            more -= (have[a][1] - have[a][0]) // 2
            return f"{v}.shape[{a - d}]" + (f" {'-' if more < 0 else '+'} {abs(more)}" if more else "")

        first, last = (low - half) // 2, (high - half) // 2
        lines = [f"{target} = torch.arange({first}, {count(op.axis, last)}, device={v}.device)"]
        if axis.periodic and (first or last):
            lines.append(f"{target} = {target} % ({count(op.axis, 0)})")
        if axis.open and not half and (first or last):
            low, high = (p // 2 for p in axis.closed(0))
            lines.append(f"{target} = {target}.clamp({low}, {count(op.axis, high - 1)})")
        h, start = literal(float(axis.spacing)), axis.coordinate(half)
        whole = f"{literal(start)} + {h} * {target}.double()" if start else f"{h} * {target}.double()"
        lines.append(f"{target} = ({whole}).to({v}.dtype)")
        sizes = ["1", "1", *(count(a, (extent[a][1] - extent[a][0]) // 2) for a in range(d))]
        lines.append(
            f"{target} = {target}[:{', None' * (d - 1 - op.axis)}].expand({', '.join(sizes)})".replace("[:]", "")
        )
        return lines

    def _integral(self, name: str, v: str, have: Extent, width: int) -> list[str]:
        """Planes on which the value lies count half."""
        location = self.graph.nodes[name]["op"].location
        d, lines = len(self.axes), list[str]()
        closed = tuple(axis.closed(j) for axis, j in zip(self.axes, location, strict=True))
        v += slices(have, closed, (0,) * d)
        for a, axis in enumerate(self.axes):
            if axis.sides is None:
                continue
            ends = [side.depth % 2 == location[a] % 2 for side in axis.sides]
            if not any(ends):
                continue
            core = v + edge(d, a, f"{int(ends[0]) or ''}:{-1 if ends[1] else ''}")
            low, high = ("low", f"{v}{edge(d, a, ':1')} / 2"), ("high", f"{v}{edge(d, a, '-1:')} / 2")
            pieces = [low] * ends[0] + [("", core)] + [high] * ends[1]
            lines += concatenate(self.names[name], pieces, a - d, width)
            v = self.names[name]
        dims = ", ".join(str(a) for a in range(-d, 0))
        return [*lines, f"{self.names[name]} = {v}.sum(({dims}{',' if d == 1 else ''}), keepdim=True)"]

    def _filters(self, target: str, op: FilterBank | AdjointFilterBank, v: str, have: Extent, width: int) -> list[str]:
        """A convolution without padding, for the ring is there; or its transpose, whose ring is folded back."""
        d, name = len(self.axes), op.bank.label
        if isinstance(op, FilterBank):
            reach = ((-2 * op.bank.radius, 2 * op.bank.radius),) * d
            ringed = v + slices(have, reach, (0,) * d)
            convolve = "convolve" if op.bank.thin else f"nn.functional.conv{d}d"
            first, *more = call(convolve, [ringed, name], width - len(target) - 3)
            return [f"{target} = {first}", *more]
        assert not any(end for ends in have for end in ends), "filters are transposed on the nodes"
        inner = call("transpose" if op.bank.thin else f"nn.functional.conv_transpose{d}d", [v, name], width)
        return [f"{target} = self.fold({inner[0]})"]

    def _moves(self, name: str) -> bool:
        """Does a value have the batch of the state?"""
        inputs = (self.graph.nodes[n]["op"] for n in {name, *nx.ancestors(self.graph, name)})
        return any(isinstance(op, Input) and op.role != "data" for op in inputs)

    def _math(self, op: Any, arguments: list[str]) -> str:
        if isinstance(op, FilterBank):
            return f"{op.bank.label} {arguments[0]}, {op.bank.channels} filters"
        if isinstance(op, AdjointFilterBank):
            return f"{op.bank.label}* {arguments[0]}, the exact transpose"
        if isinstance(op, Position):
            return f"the coordinate {self.axes[op.axis].name} {_where(op.location, self.axes)}"
        if isinstance(op, ChannelMixture):
            return f"mix_{op.bank.label} {arguments[0]}, what the diffusivity of every channel reads"
        if isinstance(op, ChannelSum):
            return f"Σ_c {arguments[0]}"
        if isinstance(op, Component):
            return f"the field {op.name} of {arguments[0]}"
        if isinstance(op, Held):
            return f"{arguments[0]}, 0 where a wall holds the field"
        if isinstance(op, Stack):
            return f"({', '.join(arguments)}), a channel each"
        if isinstance(op, (Stencil, AdjointStencil)):
            where = _where(op.K.target, self.axes)
            if op.K.into:
                shifts = zip(op.K.axes, op.K.into, strict=True)
                halves = [f"{a.name}{'+' if b.shift > a.shift else '−'}½" for a, b in shifts if a.shift != b.shift]
                where = f"at {', '.join(halves)}"
            if op.label.startswith("S_"):
                (offset,) = [j for j in next(iter(op.K.taps())) if j]
                return f"{arguments[0]}, {abs(offset)}/2 cells {'below' if offset < 0 else 'above'} the faces"
            if op.label.startswith("G_"):
                return f"{arguments[0]}, smoothed along {op.label[2:]} by a Gaussian"
            if op.label.startswith("M_") and isinstance(op, AdjointStencil):
                return f"{arguments[0]} at the faces {op.label[2:]}+½, the exact transpose of the mean"
            if op.label.startswith("M_"):
                return f"the mean of {arguments[0]} {where}"
            if op.label == "A":
                return f"A {arguments[0]}"
            D = notation.show_operator(
                tuple((p.orders, p.coefficient) for p in op.K.products), tuple(a.name for a in self.axes)
            )
            D = f"({D})" if len(op.K.products) > 1 else D
            if isinstance(op, Stencil):
                return f"{op.label} {arguments[0]} ≈ {D} {arguments[0]} {where}"
            odd = any(op.K.flips or ()) and sum(op.K.flips or ()) % 2
            return f"{op.label}* {arguments[0]} ≈ {'−' if odd else ''}{D} {arguments[0]}, the exact adjoint"
        if isinstance(op, Flux):
            shown = replaced(op.expression, {s: sp.Symbol(a) for s, a in zip(op.slots, arguments, strict=True)})
            return notation.show(shown)
        terms = [notation.show(c * sp.Symbol(a)) for c, a in zip(op.coefficients, arguments, strict=True)]
        return " + ".join(terms).replace("+ -", "− ")

    def _stencil(
        self, target: str, op: Stencil | AdjointStencil, argument: tuple[str, Extent], extent: Extent, width: int
    ) -> list[str]:
        v, have = argument
        sign = -1 if isinstance(op, AdjointStencil) else 1

        def tap(offset: tuple[int, ...]) -> str:
            return v + slices(have, extent, tuple(sign * j for j in offset))

        if op.label in self.words.learned:
            here = {o.pattern for o in op.K.orbits()}
            orbits = enumerate(self.words.learned[op.label])
            weights = [(f"w_{op.label}[{i}]", o.pattern) for i, o in orbits if o.pattern in here]
            return sum_lines(target, [(w, {tap(j): c for j, c in pattern}) for w, pattern in weights], width)
        taps = op.K.taps()
        if any(w.free_symbols for w in taps.values()):
            names = self.words.scalars
            groups: dict[str, dict[str, int]] = {}
            for j, w in taps.items():
                c = -1 if w.could_extract_minus_sign() else 1
                groups.setdefault(torch_code(w * c, names), {})[tap(j)] = c
            return sum_lines(target, list(groups.items()), width)
        exact = {j: fraction(w) for j, w in taps.items()}
        scale = 1 / min(abs(w) for w in exact.values())
        scale *= math.lcm(*((w * scale).denominator for w in exact.values()))
        by_size: dict[int, dict[str, int]] = {}
        for j, w in sorted(exact.items(), key=lambda item: (-abs(item[1]), [-i for i in item[0]])):
            whole = int(w * scale)
            by_size.setdefault(abs(whole), {})[tap(j)] = 1 if whole > 0 else -1
        sized = [(literal(size) if size != 1 else "", group) for size, group in by_size.items()]
        divisor = float(scale)
        factor = "" if divisor == 1 else f" / {literal(divisor)}" if divisor > 1 else f" * {literal(1 / divisor)}"
        return sum_lines(target, sized, width, factor)

    def _combination(
        self, target: str, op: Combination, arguments: list[tuple[str, Extent]], extent: Extent, width: int
    ) -> list[str]:
        d = len(self.axes)
        groups: dict[sp.Expr, dict[str, int]] = {}
        for c, (v, have) in zip(op.coefficients, arguments, strict=True):
            minus = c.could_extract_minus_sign()
            groups.setdefault(-c if minus else c, {})[v + slices(have, extent, (0,) * d)] = -1 if minus else 1
        printed = [
            ("" if c == 1 else torch_code(c, self.words.scalars, self.words.tensors), group)
            for c, group in groups.items()
        ]
        return sum_lines(target, printed, width)


def by_rows(graph: nx.DiGraph) -> set[str]:
    """The fluxes of all channels of a bank that are worth a function that is given a few rows at a time."""
    wide, found = set[str](), set[str]()
    for name, node in graph.nodes.items():
        op, given = node["op"], set(node["args"])
        if isinstance(op, (FilterBank, ChannelMixture)) or (isinstance(op, (Flux, Combination)) and wide & given):
            wide.add(name)
        data = {a for a in given if isinstance(graph.nodes[a]["op"], Input)}
        if isinstance(op, Flux) and wide & given and given <= wide | data and op.expression.count_ops() > 4:
            found.add(name)
    return found


# --- text ---------------------------------------------------------------------------------------------------


def _indent(lines: Sequence[str]) -> list[str]:
    return [f"    {line}" if line else "" for line in lines]


def _where(location: tuple[int, ...], axes: Any) -> str:
    halves = [f"{a.name}+½" for a, half in zip(axes, location, strict=True) if half]
    return f"at the faces {', '.join(halves)}" if halves else "at the nodes"


def sum_lines(target: str, groups: list[tuple[str, dict[str, int]]], width: int, factor: str = "") -> list[str]:
    """target = Σ w·(± v ± …), split into several statements when the line would be too long."""
    lines: list[str] = []
    texts: list[tuple[bool, str]] = []
    flat = _signed([(c < 0, f"{w} * {v}") for w, group in groups for v, c in group.items()])
    weighted = len(groups) > 1 or any(w for w, _ in groups)
    hoist = weighted and len(f"{target} = {flat}{factor}") > width
    for i, (weight, group) in enumerate(groups):
        leading = all(c < 0 for c in group.values()) and weight != ""
        items = [(c if not leading else -c, v) for v, c in group.items()]
        if items[0][0] < 0:
            items.sort(key=lambda item: item[0] < 0)
        if weight == "":
            texts += [(c < 0, v if abs(c) == 1 else f"{abs(c)} * {v}") for c, v in items]
            continue
        inner = _signed([(c < 0, v if abs(c) == 1 else f"{abs(c)} * {v}") for c, v in items])
        if len(items) > 1:
            if hoist:
                lines += assign(f"{target}_{i + 1}", inner, width)
                inner = f"{target}_{i + 1}"
            else:
                inner = f"({inner})"
        if len(f"- {_bracket(weight)} * {inner}") > width - 4:
            lines += assign(f"{target}_w{i + 1}", weight, width)
            weight = f"{target}_w{i + 1}"
        texts.append((leading, f"{_bracket(weight)} * {inner}"))
    total = _signed(texts)
    if not factor:
        return lines + assign(target, total, width)
    whole = f"({total}){factor}" if len(texts) > 1 else f"{total}{factor}"
    if len(f"{target} = {whole}") <= width:
        return [*lines, f"{target} = {whole}"]
    return [*lines, *assign(target, total, width), f"{target} = {target}{factor}"]


def _bracket(weight: str) -> str:
    return f"({weight})" if re.search(r" [+/-] ", weight) else weight


def _signed(terms: list[tuple[bool, str]]) -> str:
    text = ("-" if terms[0][0] else "") + terms[0][1]
    return text + "".join(f" {'-' if minus else '+'} {t}" for minus, t in terms[1:])


def assign(target: str, code: str, width: int) -> list[str]:
    """`target = code`, broken at its outermost + and − when it is too long."""
    if len(f"{target} = {code}") <= width:
        return [f"{target} = {code}"]
    if code.endswith(")") and " / (" in code and len(_split_sum(code)) == 1:  # the formatter opens the last bracket
        head, tail = code.rsplit(" / (", 1)
        return [f"{target} = {head} / (", f"    {tail[:-1]}", ")"]
    parts = [code] if len(code) + 4 <= width else _split_sum(code)
    return [f"{target} = (", *(f"    {part}" for part in parts), ")"]


def call(function: str, arguments: Sequence[str], width: int) -> list[str]:
    """`function(arguments)`, the arguments on a line of their own, or on one each, when it is too long."""
    joined = ", ".join(arguments)
    if len(f"{function}({joined})") <= width:
        return [f"{function}({joined})"]
    if len(joined) + 4 <= width:
        return [f"{function}(", f"    {joined}", ")"]
    return [f"{function}(", *(f"    {a}," for a in arguments), ")"]


def tuple_code(values: Sequence[Any]) -> str:
    """A tuple as Python source; its entries are code, or numbers."""
    return f"({', '.join(map(str, values))}{',' * (len(values) == 1)})"


def one_fraction(e: sp.Expr) -> sp.Expr:
    """A rational expression with one division, λ²/(λ² + q) for 1/(1 + q/λ²), or one for each denominator of a sum. It
    is faster, and its gradients stay finite where q overflows."""
    if not e.is_rational_function():
        return e
    factors = sp.Mul.make_args(e)
    if len(factors) > 1 and any(_mixture(factor) for factor in factors):
        return sp.Mul(*(one_fraction(factor) for factor in factors))
    if _mixture(e):
        return sp.Add(*(one_fraction(term) for term in e.args))
    return sp.together(e)


def clamped(e: sp.Expr, slots: Sequence[sp.Symbol]) -> sp.Expr:
    """A sum of a·s/√max(1, s²/λ²), the fluxes of Huber, as a·λ·clamp(s/λ, −1, 1), which takes less time and does not
    overflow; others as they are."""
    found = []
    for term in sp.Add.make_args(sp.expand_mul(e)):
        root = next((f for f in term.args if f.is_Pow and f.exp == -sp.S.Half and isinstance(f.base, sp.Max)), None)
        s = next((s for s in slots if root is not None and s in root.free_symbols), None)
        if root is None or s is None or sp.S.One not in root.base.args or len(root.base.args) != 2:
            return e
        (square,) = (a for a in root.base.args if a != 1)
        scale, factor = sp.sqrt(sp.cancel(s**2 / square)), sp.cancel(term / (root * s))
        if scale.is_positive is not True or (scale.free_symbols | factor.free_symbols) & set(slots):
            return e
        found.append(factor * scale * sp.Max(-1, sp.Min(1, s / scale)))
    return sp.Add(*found)


def _mixture(e: sp.Expr) -> bool:
    """Is it a sum of fractions whose denominators are sums, of more than one kind?"""
    return e.is_Add and len({d for term in e.args for d in sp.denom(sp.together(term)).atoms(sp.Add)}) > 1


def _split_sum(code: str) -> list[str]:
    parts, depth, start, i = [], 0, 0, 0
    while i < len(code):
        depth += (code[i] in "([") - (code[i] in ")]")
        if depth == 0 and i > start and code[i - 1 : i + 2] in (" + ", " - "):
            parts.append(code[start : i - 1])
            start = i
        i += 1
    return [*parts, code[start:]]


def assign_expression(
    target: str, e: sp.Expr, names: Mapping[sp.Symbol, str], tensors: frozenset[str], width: int
) -> list[str]:
    """`target = e`; long subexpressions become statements of their own."""
    lines: list[str] = []
    printer, count = Printer(names, tensors), 0
    while len(f"{target} = {printer.code(e)}") > width:
        inner = [
            s
            for s in sp.preorder_traversal(e)
            if s.args and s != e and 12 < len(printer.code(s)) <= width - len(target) - 6 and s.free_symbols
        ]
        if not inner:
            break
        longest = max(inner, key=lambda s: len(printer.code(s)))
        count += 1
        symbol = sp.Symbol(f"{target}_{count}", real=True)
        lines.append(f"{symbol} = {printer.code(longest)}")
        if any(names.get(s, s.name) in tensors for s in longest.free_symbols):
            printer.tensors = tensors = tensors | {symbol.name}
        e = replaced(e, {longest: symbol})
    return [*lines, *assign(target, printer.code(e), width)]


def concatenate(target: str, pieces: list[tuple[str, str]], dim: int, width: int) -> list[str]:
    """`target` from the pieces of `layout.continuation`."""
    lines, parts = [], []
    for name, code in pieces:
        if name:
            lines.append(f"{name} = {code}")
            parts.append(name)
        else:
            parts.append(code)
    joined = f"({', '.join(parts)}), dim={dim}"
    if len(f"{target} = torch.cat({joined})") <= width:
        return [*lines, f"{target} = torch.cat({joined})"]
    return [*lines, f"{target} = torch.cat(", f"    {joined}", ")"]

"""The torch printer of multigrid: A, its derivatives and the scheme's `descend` become the source of a U-net.

A and its boundary are printed like the steps of a time scheme (statements.py), with the spacings as scalars, so that
one method serves every level; the cycle is what `descend` leaves behind when it is run on the names of variables; the
smoothers and transfers around them are in templates/torch/multigrid.py.j2. How A is applied depends on what it is:

    "stencil"   constant coefficients: one short sum
    "taps"      linear with other coefficients: a tap per neighbour and node, found with combs of ones
    "graph"     everything else: as it is declared
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import sympy as sp

from ..templates import environment
from . import notation
from .cycle_reference import NEWTON
from .cycle_report import CycleReport, CycleTraining
from .elliptic import COARSEST, DELTA, Elliptic, ImplicitStep
from .emit import (
    data_checks,
    equation_rows,
    literal_of,
    ring_lines,
    signature,
    tidy,
    value_code,
    weight_line,
    weight_name,
)
from .errors import DeclarationError
from .grid import Axis, Parity, Side, Walls
from .layout import slices
from .local_fourier import interval, relaxation
from .printing import literal, torch_code
from .schemes.multigrid import BELOW, SMOOTHERS
from .statements import DIRECTION, LINE, Body, Vocabulary, assign, call, tuple_code

ADJOINT = 200
"""Adjoint cycles at most."""
LARGEST = 4096
"""Unknowns of the coarsest grid at most, which is solved directly."""
DEPTH = 6
"""How many levels have weights of their own; those below share the last ones."""

_RESERVED = frozenset(
    "self grid grids history traced scalars torch nn Tensor low high low_wall high_wall product along norm".split()
)
_LOCALS = frozenset(
    "u w b c r v new old near near_near near_weight r_near r_weight inverse tap omega first k sweeps corner".split()
)
"""What else a parameter cannot be called inside a level."""


def emit_cycle(problem: Elliptic, training: CycleTraining, report: CycleReport, name: str, version: str) -> str:
    """The source of the U-net."""
    return _Emitter(problem, training, report, name, version).source()


def embed_cycle(problem: ImplicitStep, name: str) -> tuple[list[str], str, bool]:
    """The imports and the code of the U-net that solves a step, to stand in the module of a time scheme, and whether it
    is linear."""
    emitter = _Emitter(problem, CycleTraining(), None, name, "")
    return emitter.imports, emitter.source().rstrip() + "\n\n", problem.linear


class _Emitter:
    def __init__(
        self, problem: Elliptic, training: CycleTraining, report: CycleReport | None, name: str, version: str
    ) -> None:
        self.elliptic, self.training, self.report = problem, training, report
        self.name, self.version = name, version
        self.scheme, self.problem, self.axes = problem.scheme, problem.problem, problem.axes
        self.d = len(self.axes)
        self.scalars: dict[sp.Symbol, str] = {}
        self.embedded = isinstance(problem, ImplicitStep)
        """Is it the solver of a time step? Then its scalars are arguments, and its certificate is the scheme's."""
        fields = {str(self.problem.unknown.func), *problem.names}
        taken = sorted(set(problem.names) & (_RESERVED | {"u"}))
        if taken:
            raise DeclarationError(f"data field {taken[0]!r}: the emitted code needs the name itself; rename it")
        spacings = [(h, f"h_{axis.name}") for h, axis in zip(problem.spacings, self.axes, strict=True)]
        for symbol, word in [*spacings, *((p, p.name) for p in problem.scalars)]:
            while word in _RESERVED | _LOCALS | fields or word in self.scalars.values():
                word += "_"
            self.scalars[symbol] = word
        words = Vocabulary(
            scalars=self.scalars,
            tensors=frozenset(self.scalars[p] for p in (problem.scalars if self.embedded else training.parameters)),
            learned={},
            reserved=_RESERVED,
        )
        rings = problem.rings
        self.operator = Body(problem.operator, words, rings, "Au")
        self.derivatives = {}
        if not problem.linear:
            self.derivatives = {
                "tangent": Body(problem.tangent, words, rings, "Aw"),
                "secant": Body(problem.secant, words, rings, "Aw"),
            }
        self.source_body = None if problem.right_hand_side is None else Body(problem.right_hand_side, words, {}, "b")
        bodies = [self.operator] + ([] if self.source_body is None else [self.source_body])
        self.names = {n: next((b.names[n] for b in bodies if n in b.names), n) for n in problem.names}
        self.ring = self.operator.layout.ring
        self.read = [
            n
            for n, op in problem.operator.nodes(data="op")
            if getattr(op, "role", "") == "data" and problem.operator.out_degree(n)
        ]
        """The data that A reads, not b alone."""

    # --- what A is ------------------------------------------------------------------------------------------

    @cached_property
    def form(self) -> str:
        if self.elliptic.stencil is not None and self.scheme.coarse != "galerkin":
            return "stencil"
        return "taps" if self.elliptic.linear and self.elliptic.near else "graph"

    @property
    def uniform(self) -> bool:
        """Is the diagonal the same at every node?"""
        node = all(axis.sides is None or all(s.plane == "node" for s in axis.sides) for axis in self.axes)
        return self.form == "stencil" and node and self.elliptic.star

    @property
    def offsets(self) -> list[tuple[int, ...]]:
        """The taps at every node, the centre first."""
        every = set(itertools.product((-1, 0, 1), repeat=self.d))
        chosen = every if self.scheme.coarse == "galerkin" else set(self.elliptic.reach) | {(0,) * self.d}
        return sorted(chosen, key=lambda j: (sum(map(abs, j)), j))

    @property
    def colours(self) -> list[list[tuple[int, ...]]]:
        """The corners that are relaxed one after the other; those in one list do not couple."""
        corners = self.elliptic.corners
        if self.form == "taps":
            return [[c] for c in corners]
        return [[c for c in corners if sum(c) % 2 == parity] for parity in (0, 1)]

    @property
    def imports(self) -> list[str]:
        """From the standard library."""
        product = [] if self.uniform else ["from itertools import product"]
        return ["from functools import lru_cache", *product, "from typing import Any, NamedTuple"]

    # --- the source -------------------------------------------------------------------------------------------

    def source(self) -> str:
        s = self.scheme
        shape = ", ".join(["B", "1", *(a.name.upper() for a in self.axes)])
        names = list(self.names.values())
        context = {
            "title": f"{self.name}: the U-net that multigrid is for this PDE.",
            "header": self._header(),
            "version": self.version,
            "imports": self.imports,
            "name": self.name,
            "certificate": literal_of(self._certificate()),
            "shape": shape,
            "dimension": self.d,
            "axes": self._axes(),
            "form": self.form,
            "linear": self.elliptic.linear,
            "singular": self.elliptic.singular,
            "uniform": self.uniform,
            "period": 1 + max(abs(i) for j in self.elliptic.reach for i in j),
            "galerkin": s.coarse == "galerkin",
            "scheme": s,
            "restriction": self.elliptic.restriction,
            "smoother": SMOOTHERS[s.smoother],
            "functions": self._functions(),
            "colours_code": _constant(
                "COLOURS", [tuple_code([tuple_code(list(map(str, c))) for c in group]) for group in self.colours]
            ),
            "colours_used": s.smoother == "red-black" and self.form != "graph",
            "offsets_code": _constant("OFFSETS", [tuple_code(list(map(str, j))) for j in self.offsets]),
            "all_kinds": self.elliptic.kinds,
            "kinds": sorted({k for k in self.elliptic.kinds if k != "mixed"}),
            "averages": bool(self.read) or s.first == "full",
            "centre": self._window((0,) * self.d),
            "windows": [self._window(j) for j in self.offsets],
            "windows2": [self._window(j, 2) for j in self.offsets],
            "centre2": self._window((0,) * self.d, 2),
            "ring_lines": self._ring(),
            "interior": slices(tuple((-2 * w, 2 * w) for w in self.ring), ((0, 0),) * self.d, (0,) * self.d),
            "omega": "smoother" in self.training.words,
            "transfer": "transfer" in self.training.words,
            "gain": "coarse" in self.training.words,
            "weights": self._level_weights(),
            "depth": DEPTH if self.training.words and not self.training.shared else 1,
            "parameters": self._parameters(),
            "scalar_items": [(p.name, self._scalar(p)) for p in sorted(self.elliptic.scalars, key=str)],
            "embedded": self.embedded,
            "direction": DIRECTION if self.elliptic.system.walls and not self.elliptic.linear else "extend",
            "walled": self.elliptic.walled is not None,
            "passed": [self.scalars[p] for p in self.elliptic.scalars] if self.embedded else [],
            "getters": [p for p in sorted(self.training.parameters, key=str) if p.is_positive],
            "names": names,
            "read": [self.names[n] for n in self.read],
            "signature": self._signature(names),
            "checks": [] if self.embedded else data_checks(self.problem, self.names),
            "recursion": self._recursion(),
            "kind": f"{s.cycle.lower()}_cycle",
            "newton": NEWTON,
            "coarsest": COARSEST,
            "ring_check": max(self.elliptic.least) > 1,
            "narrow": max(self.elliptic.least) > COARSEST // 2,
            "least": tuple_code([str(n) for n in self.elliptic.least]),
            "physical": _constant("SPACING", [literal(h) for h in self.elliptic.physical]),
            "semi": tuple_code([tuple_code(list(map(str, axes))) for axes in self.elliptic.semi]),
            "all_axes": tuple_code([str(a) for a in self.elliptic.coupled]),
            "extrapolation": self._extrapolation(),
            "injects": not self.elliptic.linear or s.first == "full",
            "source_lines": self._source_lines(),
            "relax_near": self._sum("near", "v", "near", 2, centre=not self.uniform),
            "residual_lines": self._sum("r", "u", "b", 1, centre=True),
            "wide": [(a, w - 1) for a, w in enumerate(self.ring) if w > 1],
            "in_place": s.smoother == "red-black" and self.form != "graph",
            "diagonal_code": self._diagonal_code(),
            "scalar_lines": self._scalar_lines(self.operator) if self.form == "stencil" else [],
            "certificate_lines": self._certificate_lines(),
            "damped": s.smoother != "red-black" and "smoother" not in self.training.words,
            "damping_code": self._damping_code(),
            "limit": literal(self._limit()),
            "semi_count": len(self.elliptic.semi),
            "largest": LARGEST,
            "adjoint_cycles": ADJOINT,
            "cure": "raise pre and post, use cycle='W', or pass on_divergence='accept'",
        }
        text = environment().get_template("torch/multigrid.py.j2").render(**context)
        return tidy(text)

    def _header(self) -> list[tuple[str, str]]:
        s = self.scheme
        rows = equation_rows(self.elliptic.system)
        spacing = ", ".join(f"{h:g}" for h in self.elliptic.physical)
        rows += [
            ("grid", f"h = {spacing}, {self.elliptic.grid.centering}-centred"),
            ("space", self.elliptic.system.method),
            ("cycle", f"{s.cycles} {s.cycle}({s.pre},{s.post})-cycles, {s.smoother} smoother"),
            ("scheme", "correction scheme, A is linear" if self.elliptic.linear else "full approximation scheme"),
            ("coarse grids", f"{s.coarse} A, {self.elliptic.restriction} restriction, {s.prolongation} prolongation"),
        ]
        for result in self.report or ():
            rows.append((result.notion, f"{result.status}; {result.formula}"))
        trained = sorted(p.name for p in self.training.parameters) + sorted(self.training.words)
        sharing = "shared by all levels" if self.training.shared else f"one set for each of {DEPTH} levels"
        per = f" ({sharing})" if self.training.words else ""
        rows.append(("trained", ", ".join(trained) + per if trained else "nothing"))
        return rows

    def _certificate(self) -> dict[str, Any]:
        if self.report is None:  # the scheme around it has the certificate
            return {}
        factors = {k: float(f"{v:.4g}") for k, v in self.report.factors.items()}
        return {**self.report.certificate(), "factors": factors}

    def _certificate_lines(self) -> list[str]:
        if not (self.training.words or self.training.parameters):
            return ["return dict(CERTIFICATE)"]
        return [
            "new = dict(CERTIFICATE)",
            "if not all(bool(p.isfinite().all()) for p in self.parameters()):",
            '    new["status"] = "unknown"',
            '    new["notions"] = dict.fromkeys(new["notions"], "unknown")',
            "return new",
        ]

    def _axes(self) -> list[str]:
        rows = []
        for axis, kind in zip(self.axes, self.elliptic.kinds, strict=True):
            low = 0.0 if axis.sides is None else axis.sides[0].depth / 2
            signs = (1, 1) if axis.sides is None else tuple(s.parity if s.plane == "face" else 0 for s in axis.sides)
            rows.append(f'"{kind}", {low}, {DELTA[kind] - 1}, {signs}')
        return rows

    # --- A and its derivatives ----------------------------------------------------------------------------------

    def _functions(self) -> list[dict[str, Any]]:
        title = "equation" if self.form == "taps" else "operator"
        found = [self._function(title, ["u"], "A(u); `u` carries its ghost ring.", self.operator)]
        if not self.elliptic.linear:
            found.append(self._function("tangent", ["u", "w"], "A'(u)w.", self.derivatives["tangent"]))
            found.append(
                self._function("secant", ["u", "w"], "A'(u)w, the diffusivities kept at u.", self.derivatives["secant"])
            )
        axes, system = self.axes, self.elliptic.system
        boundary = f"The ghost ring: {notation.show_boundary(self.problem)}."
        if self.form == "taps":  # they know the boundary
            ends = (Side("node", -1), Side("node", -1))
            bare = tuple(axis if axis.periodic else replace(axis, sides=ends) for axis in axes)
            parity = tuple(axis.parity for axis in bare)
            found.append(_ring("extend", "u", "The ghost ring of taps: zero, or the far end.", bare, self.ring, parity))
            found.append(_ring("extend_comb", "u", boundary, axes, self.ring, system.parity))
        elif self.elliptic.linear:
            doc = "The ghost ring, zero on the walls." if system.walls else boundary
            found.append(_ring("extend", "u", doc, axes, self.ring, system.parity))
        else:
            found.append(_ring("extend", "u", boundary, axes, self.ring, system.parity, "state", system.walls))
            if system.walls:
                doc = "The ghost ring of a direction or a correction, which vanishes on the walls."
                found.append(_ring(DIRECTION, "w", doc, axes, self.ring, system.parity))
        if self.elliptic.walled is not None:
            found.append(
                {
                    "lines": ["def walls(self, grid: Grid, u: Tensor) -> Tensor:"],
                    "doc": f"A(u) with what the walls add to it: {notation.show_boundary(self.problem)}.",
                    "scalars": ring_lines("u", axes, self.ring, system.parity, "state", system.walls),
                    "statements": [],
                    "result": f"self.{title}(grid, u)",
                }
            )
        even = tuple((1, 1) for _ in axes)
        for name in self.read:
            v, rings = self.operator.names[name], self.operator.layout.rings[name]
            found.append(_ring(f"extend_{v}", v, f"The ghost ring of {v}.", axes, rings, *self._continued(name, even)))
        return found

    def _continued(self, name: str, even: Parity) -> tuple[Parity, str, Walls]:
        """How a data field goes on beyond the boundary: evenly, but an old state as the unknown does."""
        if isinstance(self.elliptic, ImplicitStep) and name == self.elliptic.lagged:
            return self.elliptic.system.parity, "state", self.elliptic.system.walls
        return even, "data", ()

    def _function(self, name: str, states: list[str], doc: str, body: Body) -> dict[str, Any]:
        inputs = [n for n, op in body.graph.nodes(data="op") if getattr(op, "role", "") == "state"]
        arguments = ["self", "grid: Grid", *(f"{v}: Tensor" for v in states)]
        renamed = {body.names[n]: v for n, v in zip(inputs, states, strict=False) if body.names[n] != v}
        return {
            "lines": signature(name, arguments, "Tensor"),
            "doc": doc,
            "scalars": [*self._scalar_lines(body), *(f"{n} = {v}" for n, v in reversed(renamed.items()))],
            "statements": body.statements(),
            "result": body.results[0],
        }

    def _scalar_lines(self, body: Body) -> list[str]:
        used = {s for _, op in body.graph.nodes(data="op") for s in op.scalars}
        lines = [self._spacing_line()] if used & set(self.elliptic.spacings) else []
        known = sorted(used & set(self.elliptic.scalars), key=str)
        lines += [f'{self.scalars[p]} = grid.scalars["{p.name}"]' for p in known]
        wanted = {
            n for n, op in body.graph.nodes(data="op") if getattr(op, "role", "") == "data" and body.graph.out_degree(n)
        }
        return lines + [f'{body.names[n]} = grid.data["{body.names[n]}"]' for n in sorted(wanted)]

    def _spacing_line(self) -> str:
        names = [self.scalars[h] for h in self.elliptic.spacings]
        return f"{tuple_code(names) if len(names) == 1 else ', '.join(names)} = grid.spacing"

    def _source_lines(self) -> list[str]:
        """Statements that compute b."""
        if self.source_body is None:
            value = self.elliptic.source
            lines = [f'{self.scalars[p]} = grids[0].scalars["{p.name}"]' for p in sorted(value.free_symbols, key=str)]
            if value == 0:
                return ["b = torch.zeros_like(u)"]
            return [*lines, f"b = {torch_code(value, self.scalars)} * torch.ones_like(u)"]
        body = self.source_body
        used = {s for _, op in body.graph.nodes(data="op") for s in op.scalars}
        lines = [f'{self.scalars[p]} = grids[0].scalars["{p.name}"]' for p in sorted(used, key=str)]
        for s in body.statements():
            lines += [f"# {s.comment}", *s.lines]
        result = body.results[0]
        return [*lines, f"b = {result}.expand_as(u)"] if result != "b" else [*lines, "b = b.expand_as(u)"]

    def _window(self, offset: Sequence[int], step: int = 1) -> str:
        """The slice of a ringed array, or of its every second node from a corner on, shifted by nodes."""
        parts = []
        for j, w in zip(offset, self.ring, strict=True):
            start, stop = w + j, j - w
            parts.append(f"{start or ''}:{stop or ''}" + (f":{step}" if step > 1 else ""))
        return f"[..., {', '.join(parts)}]"

    def _sum(self, target: str, v: str, start: str, step: int, centre: bool) -> list[str]:
        """b − A v from `start`, at every node or at those of one corner, with or without the tap at the centre."""
        if self.elliptic.stencil is None:
            return []
        groups: dict[sp.Expr, list[str]] = {}
        for j, weight in self.elliptic.stencil.taps().items():
            offset = tuple(i // 2 for i in j)
            if any(offset) or centre:
                groups.setdefault(-weight, []).append(f"{v}{self._window(offset, step)}")
        lines: list[str] = []
        fresh = ""
        for weight, values in groups.items():
            code, total = torch_code(weight, self.scalars), " + ".join(values)
            if weight.free_symbols & self.training.parameters:
                lines += assign(target, f"{start} + ({code}) * ({total})", LINE - 8)
            else:  # one pass over memory
                if len(total) > LINE - 20:
                    lines += assign(f"{target}_near", total, LINE - 8)
                    total = f"{target}_near"
                if len(code) > LINE - 40:
                    lines += assign(f"{target}_weight", code, LINE - 8)
                    code = f"{target}_weight"
                arguments = [start, total, f"alpha={code}"]
                if start == fresh:  # in place: nothing has seen it yet
                    lines += call(f"{target}.add_", arguments[1:], LINE - 8)
                else:
                    for i, line in enumerate(call("torch.add", arguments, LINE - 11 - len(target))):
                        lines.append(f"{target} = {line}" if i == 0 else line)
            start = fresh = target
        return lines

    def _diagonal_code(self) -> str:
        if self.elliptic.stencil is None:
            return ""
        return torch_code(self.elliptic.stencil.taps()[(0,) * self.d], self.scalars)

    def _ring(self) -> list[str]:
        """Statements that renew a ghost ring of width one in place."""
        lines = []
        for a, axis in enumerate(self.axes):

            def at(window: str, a: int = a) -> str:
                return "u[..., " + ", ".join([window if i == a else ":" for i in range(a, self.d)]) + "]"

            if axis.sides is None:
                lines += [f"{at(':1')} = {at('-2:-1')}", f"{at('-1:')} = {at('1:2')}"]
                continue
            if self.form == "taps":
                continue
            for side, ghost, image in zip(axis.sides, (":1", "-1:"), ("1:2", "-2:-1"), strict=True):
                if side.plane == "face":
                    lines.append(f"{at(ghost)} = {'-' if side.parity < 0 else ''}{at(image)}")
        return lines

    # --- weights ------------------------------------------------------------------------------------------------

    def _omega(self, level: int) -> float:
        """ω of the smoother on a level."""
        return 1.0 if self.scheme.smoother == "red-black" else relaxation(self.elliptic, level, 0)[1]

    def _extrapolation(self) -> list[str]:
        """a_k of every sweep; what differs from level to level is ω alone."""
        if self.scheme.smoother == "red-black":
            return []
        last, count = len(self.elliptic.semi), max(self.scheme.pre, self.scheme.post)
        return [literal(relaxation(self.elliptic, last, k)[0]) for k in range(count)]

    def _damping_code(self) -> str:
        values = [literal(self._omega(level)) for level in range(len(self.elliptic.semi) + 1)]
        if len(set(values)) == 1:
            return values[0]
        return f"({', '.join(values)})[min(len(grids), {len(values) - 1})]"

    def _limit(self) -> float:
        """ω below this converges: 2/‖D⁻¹A‖, and 2 for Gauss–Seidel."""
        if self.scheme.smoother == "red-black":
            return 2.0
        return 2 / max(interval(self.elliptic, level)[1] for level in range(len(self.elliptic.semi) + 1))

    def _level_weights(self) -> list[str]:
        kind = "dtype=dtype, device=device"
        lines = []
        if "smoother" in self.training.words:
            start = self._omega(len(self.elliptic.semi)) / self._limit()
            lines += [
                "# ω of every sweep as a fraction of its bound",
                f"share = torch.full(({self.scheme.pre + self.scheme.post},), {literal(start)}, {kind})",
                "self.logit_omega = nn.Parameter(share.logit())",
            ]
        if "transfer" in self.training.words:
            lines += [
                "# deviations of the transfers from linear interpolation; constants are kept",
                f"self.transfers = nn.Parameter(torch.zeros(3, {kind}))",
            ]
        if "coarse" in self.training.words:
            lines += ["# the gain of the correction", f"self.log_gain = nn.Parameter(torch.zeros((), {kind}))"]
        return lines

    def _parameters(self) -> list[list[str]]:
        blocks = []
        for p in sorted(self.training.parameters, key=str):
            local = self.scalars[p]
            fill = call(f"{local} = torch.tensor", [literal(p.value), "dtype=dtype", "device=device"], LINE - 8)
            blocks.append([*fill, weight_line(p, local)])
        return blocks

    def _scalar(self, p: sp.Symbol) -> str:
        if self.embedded:
            return self.scalars[p]
        if p not in self.training.parameters:
            return literal(p.value)
        return value_code(p, f"self.{weight_name(p)}")

    # --- forward and the recursion --------------------------------------------------------------------------------

    def _signature(self, names: list[str]) -> list[str]:
        arguments = ["self", "u: Tensor", *(f"{n}: Tensor" for n in names)]
        arguments += [f"{self.scalars[p]}: Any" for p in self.elliptic.scalars] if self.embedded else []
        arguments += ["history: bool = False"]
        return signature("forward", arguments, "Tensor | tuple[Tensor, list[Tensor]]")

    def _recursion(self) -> list[dict[str, Any]]:
        """One method for every kind of cycle that occurs: the scheme's `descend`, run on names."""
        found = []
        for kind in dict.fromkeys(self.scheme.cycle + BELOW[self.scheme.cycle]):
            trace = _Trace(self)
            result = self.scheme.descend(trace, _Name("u"), _Name("b"), kind)
            found.append(
                {
                    "name": f"{kind.lower()}_cycle",
                    "doc": f"One {kind}-cycle for A(u) = b on level l and those below it.",
                    "lines": [*trace.lines, f"return {result}"],
                }
            )
        return found


class _Name(str):
    """The code of a value; b − A(u) is a residual, other differences are code again."""

    applied_to: str | None = None

    def __sub__(self, other: Any) -> _Name:
        if getattr(other, "applied_to", None) is not None:
            return _Name(f"level.residual(grid, {other.applied_to}, {self})")
        return _Name(f"{self} - {other}")


class _Trace:
    """A level on which `Multigrid.descend` writes down what it does."""

    def __init__(self, emitter: _Emitter) -> None:
        self.lines = list[str]()
        self.linear = emitter.elliptic.linear
        self.omega = "smoother" in emitter.training.words
        self.below = self
        self.sweeps = 0

    def _note(self, comment: str, line: str) -> None:
        if comment and f"# {comment}" not in self.lines:
            self.lines.append(f"# {comment}")
        target, code = line.split(" = ", 1)
        self.lines += assign(target, code, LINE - 8)

    def smooth(self, u: str, b: str, sweeps: int) -> _Name:
        first = f", {self.sweeps}" if self.omega else ""
        comment = (
            "decoder: what comes up is added to the skip connection u; post-smoothing"
            if self.sweeps
            else ("encoder: pre-smoothing; the residual goes down")
        )
        self.sweeps += sweeps
        code = f"level.smooth(grid, {u}, {b}, {sweeps}{first})"
        if comment.startswith("decoder"):
            return _Name(code)
        self._note(comment, f"u = {code}")
        return _Name("u")

    def operator(self, u: str) -> _Name:
        applied = _Name(f"level.operator(grid, {u})")
        applied.applied_to = u
        return applied

    def inject(self, u: str) -> _Name:
        if self.linear:
            return _Name("")
        self._note("", f"w = below.extend(level.inject(grid, {u}))")
        return _Name("w")

    def restrict(self, r: str) -> _Name:
        if self.linear:
            return _Name(f"level.restrict(grid, {r})")
        self._note("", f"r = {r}")
        return _Name("level.restrict(grid, r)")

    def right_hand_side(self, r: str, w: str) -> _Name:
        if self.linear:
            self._note("", f"c = {r}")
            self._note("the levels below solve A(v) = c, from v = 0", "v = below.extend(torch.zeros_like(c))")
        else:
            self._note("", f"c = {r} + below.operator(grids[l + 1], {w})")
            self._note("the levels below solve A(v) = c, from v = w", "v = w.clone()")
        return _Name("c")

    def cycle(self, v: str, c: str, kind: str) -> _Name:
        self._note("", f"v = self.{kind.lower()}_cycle(grids, l + 1, v, {c})")
        return _Name("v")

    def difference(self, v: str, w: str) -> _Name:
        return _Name("v" if self.linear else "v - w")

    def prolong(self, v: str) -> _Name:
        return _Name(f"level.prolong(grid, {v})")

    def correct(self, u: str, v: str) -> _Name:
        self._note(
            "decoder: what comes up is added to the skip connection u; post-smoothing", f"u = level.correct({u}, {v})"
        )
        return _Name("u")


def _ring(
    name: str,
    v: str,
    doc: str,
    axes: tuple[Axis, ...],
    widths: Sequence[int],
    parity: Parity,
    role: str = "state",
    walls: Walls = (),
) -> dict[str, Any]:
    """The method that gives `v` its ghost ring."""
    return {
        "lines": ["@staticmethod", f"def {name}({v}: Tensor) -> Tensor:"],
        "doc": doc,
        "scalars": ring_lines(v, axes, widths, parity, role, walls),
        "statements": [],
        "result": v,
    }


def _constant(name: str, items: list[str]) -> str:
    """A tuple as the formatter lays it out."""
    line = f"{name} = {tuple_code(items)}"
    return line if len(line) <= LINE else "\n".join([f"{name} = (", *(f"    {item}," for item in items), ")"])

"""The torch printer: a graph, a layout and a report become the source of one `nn.Module`.

Scalar stencils are printed as slices of a state that carries its ghost ring: no convolution, no in-place
write, one step the unit that `torch.compile` fuses. The text is a function of the graph alone, so it is
the same to the byte on every run, and it is written the way the formatter would write it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import networkx as nx
import sympy as sp

from ..templates import environment
from . import notation
from .discretise import SemiDiscrete
from .errors import SchemeError
from .fields import Parameter
from .graph import states
from .layout import Extent, Layout, continuation, plan, slices
from .ops import AdjointStencil, Combination, Flux, Input, Stencil
from .printing import literal, torch_code
from .schemes import Scheme
from .stability import Report, norm_symbol, own_stencils
from .stencil import fraction

_WIDTH = 88 - 8
TAU = sp.Symbol("tau", positive=True)


@dataclass(frozen=True)
class Training:
    """What becomes a weight: parameters, the stencils, the step sizes; shared over the steps or one each."""

    parameters: frozenset[Parameter] = frozenset()
    stencils: bool = False
    tau: bool = False
    shared: bool = False


@dataclass(frozen=True)
class Statement:
    name: str
    macro: str
    math: str
    lines: tuple[str, ...]


def emit(
    system: SemiDiscrete, scheme: Scheme, graph: nx.DiGraph, report: Report, training: Training, name: str, version: str
) -> str:
    """The source of the network."""
    return _Emitter(system, scheme, graph, report, training, name, version).source()


class _Emitter:
    def __init__(
        self,
        system: SemiDiscrete,
        scheme: Scheme,
        graph: nx.DiGraph,
        report: Report,
        training: Training,
        name: str,
        version: str,
    ) -> None:
        self.system, self.scheme, self.report, self.training = system, scheme, report, training
        self.name, self.version = name, version
        self.problem, self.axes = system.problem, system.axes
        self.graph = graph
        self.layout: Layout = plan(graph)
        reserved = {
            "tau",
            "k",
            "w",
            "self",
            "state",
            "torch",
            "nn",
            "Tensor",
            "low",
            "high",
            "low_wall",
            "high_wall",
            "bound",
            "rho",
            "traced",
            "super",
            "dtype",
            "device",
        }
        self.scalars = {p: p.name if p.name not in reserved else f"{p.name}_" for p in self.problem.parameters}
        taken = {*self.scalars.values(), *reserved}
        self.names = {n: n if n not in taken else f"{n}_" for n in graph}
        self.output = graph.graph["output"]
        self.names[self.output] = self._unique("u_new")
        self.learned = dict(own_stencils(system)) if training.stencils else {}
        self.moving = training.tau or bool(report.spectral_bound is not None and report.spectral_bound.free_symbols)
        """Is τ a function of weights?"""

    def _unique(self, hint: str) -> str:
        while hint in self.names.values():
            hint += "_"
        return hint

    def source(self) -> str:
        d = self.problem.dimension
        (state,) = states(self.graph)
        text = (
            environment()
            .get_template("torch/module.py.j2")
            .render(
                title=f"{self.name}: the {self.scheme.architecture} that {self.scheme.title} is for this PDE.",
                header=self._header(),
                version=self.version,
                name=self.name,
                certificate=_literal(self._certificate()),
                shape=", ".join(["B", "1", *(a.name.upper() for a in self.axes)]),
                steps=self.scheme.steps,
                constants=self._constants(),
                weights=self._weights(),
                data_arguments="".join(f", {self._data(f)}: Tensor" for f in self.problem.data),
                data_values="".join(f", {self._data(f)}" for f in self.problem.data),
                data_checks=self._data_checks(),
                bounded=any(getattr(f.func, "bounds", None) for f in self.problem.data),
                data_extensions=[
                    f"{self._data(f)} = self.extend_{self._data(f)}({self._data(f)})" for f in self.problem.data
                ],
                interior=slices(self.layout.extents[state], ((0, 0),) * d, (0,) * d),
                step_doc=f"One block: {self._block()}.",
                scalars=self._scalars(),
                state=self.names[state],
                statements=self._statements(),
                result=self.names[self.output],
                extends=self._extends(),
                methods=self._methods(),
                dimension=d,
                least=_tuple([max(1, w) for w in self.layout.rings[state]]),
                certificate_lines=self._certificate_lines(),
            )
        )
        return re.sub(r"\n{3,}(?=    )", "\n\n", text.lstrip("\n")).rstrip("\n") + "\n"

    # --- header and certificate ---------------------------------------------------------------------------

    def _header(self) -> list[tuple[str, str]]:
        axes = tuple(a.name for a in self.axes)
        rows = [("PDE", notation.show_equation(self.problem))]
        for flux in self.system.fluxes:
            g = flux.term.diffusivity
            if g is not None and not flux.term.linear:
                named = {
                    s: sp.Symbol(f"({notation.show_operator(o, axes)} {self.problem.unknown.func})")
                    for s, o in flux.term.slots
                }
                rows.append(("diffusivity", f"g = {notation.show(g.xreplace(named))}"))
        rows += [
            ("boundary", notation.show_boundary(self.problem)),
            (
                "grid",
                "h = "
                + ", ".join(f"{float(a.spacing):g}" for a in self.axes)
                + f", {self.system.grid.centering}-centred",
            ),
            ("space", self.system.method),
            ("scheme", f"{self.scheme.formula}, {self.scheme.steps} steps"),
            ("block", self._block()),
        ]
        for label, K in own_stencils(self.system):
            taps = ", ".join(f"{_offset(j)}: {notation.show(w)}" for j, w in K.taps().items())
            rows.append(("stencil", f"{label}  {{{taps}}}" + ("  (trained)" if label in self.learned else "")))
        governing = self.report[self.report.governing]
        bound = "" if governing.bound is None else f" for tau <= {governing.bound:.6g} = {governing.formula}"
        rows.append(("stability", f"{governing.notion}: {governing.status}{bound}"))
        rows += [("assumes", a) for a in governing.assumptions]
        trained = (
            sorted(p.name for p in self.training.parameters)
            + ["stencil"] * self.training.stencils
            + ["tau"] * self.training.tau
        )
        sharing = "shared by all steps" if self.training.shared else "one set per step"
        rows.append(("trained", f"{', '.join(trained)} ({sharing})" if trained else "nothing"))
        seen: set[tuple[str, str]] = set()
        return [row for row in rows if not (row in seen or seen.add(row))]  # type: ignore[func-returns-value]

    def _block(self) -> str:
        flux_forms = []
        for flux in self.system.fluxes:
            for i in range(len(flux.own)):
                K = f"K_{self.system._subscript(flux.term.operator, i)}"
                flux_forms.append(self._form(flux, K))
        terms = " + ".join(dict.fromkeys(flux_forms))
        reaction = "" if self.problem.pointwise == 0 else f" − ({notation.show(self.problem.pointwise)})"
        return f"u − τ [{terms}{reaction}]"

    def _form(self, flux: Any, K: str) -> str:
        kappa = "" if flux.term.kappa == 1 else f"{notation.show(flux.term.kappa)} "
        inner = f"{K} u" if flux.term.linear and flux.local else f"Φ({K} u)" if flux.local else f"(G(u) {K} u)"
        return f"{kappa}{K}* {inner}"

    def _certificate(self) -> dict[str, Any]:
        governing = self.report[self.report.governing]
        return {
            "notion": governing.notion,
            "status": governing.status,
            "norm": governing.norm,
            "formula": governing.formula,
            "assumptions": list(governing.assumptions),
            "tau": self.report.tau,
            "tau_max": governing.bound,
            "notions": {r.notion: r.status for r in self.report},
        }

    def _certificate_lines(self) -> list[str]:
        """A step within its bound is what the proof needs; rounding may add one unit in the last place."""
        tau = (
            "[float(self.tau(k)) for k in range(self.steps)]"
            if self.moving
            else f"[{literal(self.report.tau)}] * self.steps"
        )
        bound = self._bound_code()
        if bound is None:
            return [f"tau = {tau}", 'return {**CERTIFICATE, "tau": tau, "tau_max": None}']
        limit = (
            "[float(self.tau_max(k)) for k in range(self.steps)]" if self._bound_moves() else f"[{bound}] * self.steps"
        )
        rounding = "1 + torch.finfo(next(self.parameters()).dtype).eps" if self._has_weights() else "1"
        return [
            f"tau = {tau}",
            f"tau_max = {limit}",
            f"rounding = {rounding}",
            "kept = all(0 <= t <= b * rounding for t, b in zip(tau, tau_max))",
            "kept = kept and all(bool(p.isfinite().all()) for p in self.parameters())",
            'status = CERTIFICATE["status"] if kept else "unknown"',
            'new = {"status": status, "tau": tau, "tau_max": tau_max}',
            *(['new["notions"] = {CERTIFICATE["notion"]: status}'] if self._has_weights() else []),
            "return {**CERTIFICATE, **new}",
        ]

    # --- weights ------------------------------------------------------------------------------------------

    def _has_weights(self) -> bool:
        return bool(self.training.parameters or self.training.stencils or self.training.tau)

    def _shape(self) -> str:
        return "()" if self.training.shared else "(self.steps,)"

    def _at_step(self, attribute: str) -> str:
        return f"self.{attribute}" if self.training.shared else f"self.{attribute}[k]"

    def _constants(self) -> list[str]:
        rho = self.report.spectral_bound
        if self.moving and rho is not None and self.report.limit is not None and not rho.free_symbols:
            return [f"tau_bound = {self._bound_code()}  # {self.report[self.report.governing].formula}"]
        return []

    def _bound_moves(self) -> bool:
        rho = self.report.spectral_bound
        return rho is not None and bool(rho.free_symbols)

    def _bound_code(self) -> str | None:
        """τ_max as code: a number, or an expression in what is trained."""
        rho, limit = self.report.spectral_bound, self.report.limit
        if rho is None or limit is None or self.report[self.report.governing].bound is None or rho == 0:
            return None
        return torch_code(limit / rho, self.scalars) if rho.free_symbols else literal(float(limit / rho))

    def _weights(self) -> list[list[str]]:
        kind = "dtype=dtype, device=device"
        blocks = []
        for p in sorted(self.training.parameters, key=str):
            local = self.scalars[p]
            fill = f"{local} = torch.full({self._shape()}, {literal(p.value)}, {kind})"
            attribute, value = (f"log_{p.name}", f"{local}.log()") if p.is_positive else (f"raw_{p.name}", local)
            blocks.append([fill, f"self.{attribute} = nn.Parameter({value})"])
        if self.training.tau:
            bound = self._initial_bound()
            if bound is None:
                start, value = self.report.tau, "log_tau = nn.Parameter(tau.log())"
            else:
                start, value = self.report.tau / bound, "logit_tau = nn.Parameter(tau.logit())"
                if not 0 < start < 1:
                    raise SchemeError(
                        f"tau = {self.report.tau:g} is to be trained but starts at its bound {bound:g}, where the "
                        f"re-parametrisation bound·sigmoid(θ) has no finite θ; start at tau='auto' or below the bound"
                    )
            note = ["# τ as a fraction of its bound"] if bound is not None else []
            blocks.append([*note, f"tau = torch.full({self._shape()}, {literal(start)}, {kind})", f"self.{value}"])
        for label, K in self.learned.items():
            numbers = [float(o.weight.xreplace(self._fixed())) for o in K.orbits()]
            repeat = "w" if self.training.shared else "w.repeat(self.steps, 1)"
            lines = ["weights = [", *(f"    {literal(w)}," for w in numbers), "]"]
            blocks.append([*lines, f"w = torch.tensor(weights, {kind})", f"self.{label} = nn.Parameter({repeat})"])
        return blocks

    def _fixed(self) -> dict[Parameter, sp.Float]:
        return {p: sp.Float(p.value, 17) for p in self.problem.parameters}

    def _initial_bound(self) -> float | None:
        return self.report[self.report.governing].bound

    def _methods(self) -> list[dict[str, Any]]:
        methods: list[dict[str, Any]] = []

        def add(name: str, doc: str, *lines: str) -> None:
            methods.append({"name": name, "arguments": "self, k: int", "returns": "Tensor", "doc": doc, "lines": lines})

        for p in sorted(self.training.parameters, key=str):
            reach = max(20, math.ceil(abs(math.log(p.value))) + 5) if p.is_positive else 0
            positive = self._at_step(f"log_{p.name}") + f".clamp(-{reach}, {reach}).exp()"
            doc = f"{notation.show(p)} of step k" + (
                ", positive and finite for every weight." if p.is_positive else "."
            )
            add(f"get_{p.name}", doc, f"return {positive if p.is_positive else self._at_step(f'raw_{p.name}')}")
        for label, K in self.learned.items():
            total = " + ".join(f"{o.l1} * w[{i}].abs()" for i, o in enumerate(K.orbits()))
            lines = [f"w = {self._at_step(label)}", *_assign("bound", total, 8), "return bound**2"]
            add(f"norm2_{label}", f"A bound on the squared norm of {label}: the squared sum of its taps.", *lines)
        if self._bound_moves() and self._bound_code() is not None:
            rho = self.report.spectral_bound
            assert rho is not None
            lines = [
                f"{self.scalars[p]} = self.get_{p.name}(k)"
                for p in sorted(rho.free_symbols & self.training.parameters, key=str)
            ]
            lines += [
                f"norm2_{label} = self.norm2_{label}(k)"
                for label in self.learned
                if norm_symbol(label) in rho.free_symbols
            ]
            doc = f"The bound of {self.report.governing} for the weights of step k."
            sum_lines = _assign("rho", torch_code(rho, self.scalars), 8)
            add(
                "tau_max",
                doc,
                *lines,
                *sum_lines,
                f"return {literal(float(self.report.limit or 2))} / rho.clamp(min=1e-12)",
            )
        if self.moving:
            bound = "self.tau_max(k)" if self._bound_moves() else "self.tau_bound"
            if self._bound_code() is None:
                doc, code = "τ of step k, positive.", f"{self._at_step('log_tau')}.exp()"
            elif self.training.tau:
                doc, code = (
                    "τ of step k: below its bound for every weight.",
                    f"{bound} * {self._at_step('logit_tau')}.sigmoid()",
                )
            else:
                share = self.report.tau / (self._initial_bound() or 1.0)
                doc, code = "τ of step k: a fixed part of its bound.", f"{literal(share)} * {bound}"
            add("tau", doc, f"return {code}")
        return methods

    # --- the step -----------------------------------------------------------------------------------------

    def _data(self, f: Any) -> str:
        return self.names[str(f.func)]

    def _data_checks(self) -> list[str]:
        lines = []
        for f in self.problem.data:
            name = self._data(f)
            lines += [
                f"if {name}.dim() != u.dim() or {name}.shape[1:] != u.shape[1:]:",
                f'    raise ValueError(f"{name} has shape {{tuple({name}.shape)}}, u {{tuple(u.shape)}}")',
            ]
            bounds = getattr(f.func, "bounds", None)
            if bounds is not None:
                low, high = (literal(float(b)) for b in bounds)
                lines += [
                    f"traced = torch.compiler.is_compiling() or _is_wrapped({name})",
                    f"if not traced and not (({low} <= {name}) & ({name} <= {high})).all():",
                    f'    raise ValueError("{name} leaves its declared bounds [{low}, {high}]")',
                ]
        return lines

    def _scalars(self) -> list[str]:
        ops = [op for _, op in self.graph.nodes(data="op")]
        read = {s for op in ops if getattr(op, "label", "") not in self.learned for s in op.scalars}
        rho = self.report.spectral_bound
        lost = self.training.parameters - read - (set() if rho is None else rho.free_symbols)
        if lost:  # coefficients of D have been absorbed into the learned taps
            name = min(p.name for p in lost)
            raise SchemeError(f"{name} only scales stencils that are trained themselves; train one of the two")
        lines = []
        for symbol in sorted(read, key=str):
            if symbol == TAU:
                lines.append("tau = self.tau(k)" if self.moving else f"tau = {literal(self.report.tau)}")
            elif symbol in self.training.parameters:
                lines.append(f"{self.scalars[symbol]} = self.get_{symbol.name}(k)")
            else:
                lines.append(f"{self.scalars[symbol]} = {literal(symbol.value)}")
        labels = {getattr(op, "label", "") for _, op in self.graph.nodes(data="op")}
        return lines + [f"w_{label} = {self._at_step(label)}" for label in self.learned if label in labels]

    def _tensor_scalars(self) -> frozenset[str]:
        moving = {self.scalars[p] for p in self.training.parameters} | ({"tau"} if self.moving else set())
        return frozenset(moving)

    def _statements(self) -> list[Statement]:
        statements = []
        for name, node in self.graph.nodes.items():
            op, arguments = node["op"], node["args"]
            if isinstance(op, Input):
                continue
            current = {a: (self.names[a], self.layout.extents[a]) for a in arguments}
            for extension in self.layout.extensions.get(name, ()):
                statement, current[extension.value] = self._extension(extension, *current[extension.value])
                statements.append(statement)
            statements.append(self._statement(name, op, [current[a] for a in arguments]))
        return statements

    def _extension(self, e: Any, v: str, extent: Extent) -> tuple[Statement, tuple[str, Extent]]:
        location = self.graph.nodes[e.value]["place"].location[e.axis]
        pieces = continuation(v, self.axes, e.axis, location, e.parity, e.width, "value")
        parity = "oddly" if e.parity[0] < 0 else "evenly"
        target = self._unique(f"{self.names[e.value]}_{'odd' if e.parity[0] < 0 else 'even'}")
        lines = _concatenate(target, pieces, e.axis - len(self.axes))
        reach = list(extent)
        reach[e.axis] = (extent[e.axis][0] - 2 * e.width[0], extent[e.axis][1] + 2 * e.width[1])
        math = f"{v} continued {parity} beyond the boundary along {self.axes[e.axis].name}"
        return Statement(target, "extension", math, tuple(lines)), (target, tuple(reach))

    def _statement(self, name: str, op: Any, arguments: list[tuple[str, Extent]]) -> Statement:
        target, extent = self.names[name], self.layout.extents[name]
        if isinstance(op, (Stencil, AdjointStencil)):
            lines = self._stencil(target, op, arguments[0], extent)
        elif isinstance(op, Flux):
            d = len(self.axes)
            cut = [v + slices(e, extent, (0,) * d) for v, e in arguments]
            if op.label == "g":  # float32 squares overflow beyond 1e19; where q is capped the flux has long vanished
                cut = [f"{v}.clamp(max=1e30)" if s.is_nonnegative else v for s, v in zip(op.slots, cut, strict=True)]
            names = {**self.scalars, **dict(zip(op.slots, cut, strict=True))}
            tensors = self._tensor_scalars() | set(cut)
            lines = _assign_expression(target, _one_fraction(op.expression), names, tensors)
        else:
            lines = self._combination(target, op, arguments, extent)
        return Statement(target, op.kind.replace(" ", "_"), self._math(op, [v for v, _ in arguments]), tuple(lines))

    def _math(self, op: Any, arguments: list[str]) -> str:
        if isinstance(op, (Stencil, AdjointStencil)):
            where = _where(op.K.target, self.axes)
            if op.label.startswith("M_"):
                return f"the mean of {arguments[0]} {where}"
            D = notation.show_operator(
                tuple((p.orders, p.coefficient) for p in op.K.products), tuple(a.name for a in self.axes)
            )
            D = f"({D})" if len(op.K.products) > 1 else D
            if isinstance(op, Stencil):
                return f"{op.label} {arguments[0]} ≈ {D} {arguments[0]} {where}"
            odd = any(op.K.flips or ()) and sum(op.K.flips or ()) % 2
            return f"{op.label}* {arguments[0]} ≈ {'−' if odd else ''}{D} {arguments[0]}, the exact adjoint"
        if isinstance(op, Flux):
            shown = op.expression.xreplace({s: sp.Symbol(a) for s, a in zip(op.slots, arguments, strict=True)})
            return notation.show(shown)
        return " + ".join(
            notation.show(c * sp.Symbol(a)) for c, a in zip(op.coefficients, arguments, strict=True)
        ).replace("+ -", "− ")

    def _stencil(
        self, target: str, op: Stencil | AdjointStencil, argument: tuple[str, Extent], extent: Extent
    ) -> list[str]:
        v, have = argument
        sign = -1 if isinstance(op, AdjointStencil) else 1

        def tap(offset: tuple[int, ...]) -> str:
            return v + slices(have, extent, tuple(sign * j for j in offset))

        if op.label in self.learned:
            here = {o.pattern for o in op.K.orbits()}
            orbits = enumerate(self.learned[op.label].orbits())
            weights = [(f"w_{op.label}[{i}]", o.pattern) for i, o in orbits if o.pattern in here]
            return _sum_lines(target, [(w, {tap(j): c for j, c in pattern}) for w, pattern in weights])
        taps = op.K.taps()
        if any(w.free_symbols for w in taps.values()):
            names = self.scalars
            signed = [(w, -1 if w.could_extract_minus_sign() else 1, tap(j)) for j, w in taps.items()]
            return _sum_lines(target, [(torch_code(w * c, names), {t: c}) for w, c, t in signed])
        exact = {j: fraction(w) for j, w in taps.items()}
        scale = 1 / min(abs(w) for w in exact.values())
        scale *= math.lcm(*((w * scale).denominator for w in exact.values()))
        by_size: dict[int, dict[str, int]] = {}
        for j, w in sorted(exact.items(), key=lambda item: (-abs(item[1]), [-i for i in item[0]])):
            whole = int(w * scale)
            by_size.setdefault(abs(whole), {})[tap(j)] = 1 if whole > 0 else -1
        groups = [(literal(size) if size != 1 else "", group) for size, group in by_size.items()]
        divisor = float(scale)
        factor = "" if divisor == 1 else f" / {literal(divisor)}" if divisor > 1 else f" * {literal(1 / divisor)}"
        return _sum_lines(target, groups, factor)

    def _combination(
        self, target: str, op: Combination, arguments: list[tuple[str, Extent]], extent: Extent
    ) -> list[str]:
        d = len(self.axes)
        groups: dict[sp.Expr, dict[str, int]] = {}
        for c, (v, have) in zip(op.coefficients, arguments, strict=True):
            minus = c.could_extract_minus_sign()
            groups.setdefault(-c if minus else c, {})[v + slices(have, extent, (0,) * d)] = -1 if minus else 1
        names = self.scalars
        printed = [("" if c == 1 else torch_code(c, {**names, TAU: "tau"}), group) for c, group in groups.items()]
        return _sum_lines(target, printed)

    # --- the ghost ring -----------------------------------------------------------------------------------

    def _extends(self) -> list[dict[str, Any]]:
        methods = []
        for name, node in self.graph.nodes.items():
            if not isinstance(node["op"], Input):
                continue
            role, v = node["op"].role, self.names[name]
            lines = self._eager_ring(v, self.layout.rings[name], role)
            for a, width in enumerate(self.layout.rings[name]):
                if width:
                    pieces = continuation(v, self.axes, a, 0, node["op"].parity[a], (width, width), role)
                    lines += _concatenate(v, pieces, a - len(self.axes))
            doc = (
                f"The ghost ring: {notation.show_boundary(self.problem)}."
                if role == "state"
                else f"The ghost ring of {v}."
            )
            methods.append({"name": "extend" if role == "state" else f"extend_{v}", "v": v, "doc": doc, "lines": lines})
        return sorted(methods, key=lambda m: str(m["name"]))

    def _eager_ring(self, v: str, widths: tuple[int, ...], role: str) -> list[str]:
        """A ring of one node without flux is replication: one pass in eager mode, where concatenation takes one per
        axis. Compiled it is the other way round, for concatenation fuses with the step and clamped indices do not."""
        reflecting = all(
            axis.sides is not None and all(side.plane == "face" and side.parity > 0 for side in axis.sides)
            for axis in self.axes
        )
        if role != "state" or not reflecting or set(widths) != {1}:
            return []
        return [
            "if not torch.compiler.is_compiling():  # one pass, but it would not fuse",
            f'    return nn.functional.pad({v}, {_tuple([1] * 2 * len(widths))}, mode="replicate")',
        ]


# --- text ---------------------------------------------------------------------------------------------------


def _where(location: tuple[int, ...], axes: Any) -> str:
    halves = [f"{a.name}+½" for a, half in zip(axes, location, strict=True) if half]
    return f"at the faces {', '.join(halves)}" if halves else "at the nodes"


def _offset(j: tuple[int, ...]) -> str:
    halves = [str(i // 2) if i % 2 == 0 else f"{i}/2" for i in j]
    return halves[0] if len(halves) == 1 else f"({', '.join(halves)})"


def _sum_lines(target: str, groups: list[tuple[str, dict[str, int]]], factor: str = "") -> list[str]:
    """target = Σ w·(± v ± …), split into several statements when the line would be too long."""
    lines: list[str] = []
    texts: list[tuple[bool, str]] = []
    flat = _signed([(c < 0, f"{w} * {v}") for w, group in groups for v, c in group.items()])
    weighted = len(groups) > 1 or any(w for w, _ in groups)
    hoist = weighted and len(f"{target} = {flat}{factor}") > _WIDTH
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
                lines += _assign(f"{target}_{i + 1}", inner, 8)
                inner = f"{target}_{i + 1}"
            else:
                inner = f"({inner})"
        texts.append((leading, f"{_bracket(weight)} * {inner}"))
    total = _signed(texts)
    if not factor:
        return lines + _assign(target, total, 8)
    whole = f"({total}){factor}" if len(texts) > 1 else f"{total}{factor}"
    if len(f"{target} = {whole}") <= _WIDTH:
        return [*lines, f"{target} = {whole}"]
    return [*lines, *_assign(target, total, 8), f"{target} = {target}{factor}"]


def _bracket(weight: str) -> str:
    return f"({weight})" if re.search(r" [+/-] ", weight) else weight


def _signed(terms: list[tuple[bool, str]]) -> str:
    text = ("-" if terms[0][0] else "") + terms[0][1]
    return text + "".join(f" {'-' if minus else '+'} {t}" for minus, t in terms[1:])


def _assign(target: str, code: str, indent: int) -> list[str]:
    """`target = code`, broken at its outermost + and − when it is too long."""
    if len(f"{target} = {code}") + indent <= 88:
        return [f"{target} = {code}"]
    if code.endswith(")") and " / (" in code and len(_split_sum(code)) == 1:  # the formatter opens the last bracket
        head, tail = code.rsplit(" / (", 1)
        return [f"{target} = {head} / (", f"    {tail[:-1]}", ")"]
    parts = [code] if len(code) + 4 + indent <= 88 else _split_sum(code)
    return [f"{target} = (", *(f"    {part}" for part in parts), ")"]


def _one_fraction(e: sp.Expr) -> sp.Expr:
    """A rational expression with one division: λ²/(λ² + q) for 1/(1 + q/λ²). It is faster, and its gradients stay
    finite where q overflows."""
    return sp.together(e) if e.is_rational_function() else e


def _split_sum(code: str) -> list[str]:
    parts, depth, start, i = [], 0, 0, 0
    while i < len(code):
        depth += (code[i] in "([") - (code[i] in ")]")
        if depth == 0 and i > start and code[i - 1 : i + 2] in (" + ", " - "):
            parts.append(code[start : i - 1])
            start = i
        i += 1
    return [*parts, code[start:]]


def _assign_expression(target: str, e: sp.Expr, names: Mapping[sp.Symbol, str], tensors: frozenset[str]) -> list[str]:
    """`target = e`; long subexpressions become statements of their own."""
    lines: list[str] = []
    names, count = dict(names), 0
    while len(f"{target} = {torch_code(e, names, tensors)}") > _WIDTH:
        inner = [
            s
            for s in sp.preorder_traversal(e)
            if s.args
            and s != e
            and s.free_symbols
            and 12 < len(torch_code(s, names, tensors)) <= _WIDTH - len(target) - 6
        ]
        if not inner:
            break
        longest = max(inner, key=lambda s: len(torch_code(s, names, tensors)))
        count += 1
        symbol = sp.Symbol(f"{target}_{count}", real=True)
        lines.append(f"{symbol} = {torch_code(longest, names, tensors)}")
        if any(names.get(s, s.name) in tensors for s in longest.free_symbols):
            tensors = tensors | {symbol.name}
        e = e.xreplace({longest: symbol})
    return [*lines, *_assign(target, torch_code(e, names, tensors), 8)]


def _concatenate(target: str, pieces: list[tuple[str, str]], dim: int) -> list[str]:
    lines, parts = [], []
    for name, code in pieces:
        if name:
            lines.append(f"{name} = {code}")
            parts.append(name)
        else:
            parts.append(code)
    joined = f"({', '.join(parts)}), dim={dim}"
    if len(f"{target} = torch.cat({joined})") <= _WIDTH:
        return [*lines, f"{target} = torch.cat({joined})"]
    return [*lines, f"{target} = torch.cat(", f"    {joined}", ")"]


def _tuple(values: list[int]) -> str:
    return f"({values[0]},)" if len(values) == 1 else f"({', '.join(map(str, values))})"


def _literal(value: Any, indent: int = 0) -> str:
    """A Python literal the way the formatter lays it out, one entry per line."""
    pad = " " * (indent + 4)
    if isinstance(value, dict):
        rows = [f"{pad}{_literal(k)}: {_literal(v, indent + 4)},\n" for k, v in value.items()]
        return "{\n" + "".join(rows) + " " * indent + "}" if rows else "{}"
    if isinstance(value, list):
        rows = [f"{pad}{_literal(v, indent + 4)},\n" for v in value]
        return "[\n" + "".join(rows) + " " * indent + "]" if rows else "[]"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\")
        return f'"{escaped}"' if '"' not in escaped else repr(escaped)
    return repr(value)

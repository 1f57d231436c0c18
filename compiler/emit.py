"""The torch printer: graphs, a plan and a report become the source of one `nn.Module`.

One step is the unit that `torch.compile` fuses; statements.py prints what is in it, this module what is around it: the
header, the certificate, the weights with the parametrisations that keep them stable, the march through the layers,
the ghost ring and, for an implicit scheme, the recurrence of its solver.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import networkx as nx
import sympy as sp

from ..templates import environment
from . import emit_bank, notation
from .bank import Bank
from .bounds import channelled, labels, norm_symbol, own_stencils, shown_law
from .discretise import TAU, DiscreteMixed, SemiDiscrete
from .errors import DeclarationError, SchemeError
from .fields import Parameter, t
from .grid import Axis, Parity, Walls, symmetry
from .implicit import Plan
from .layout import Layout, continuation, plan, slices, subscript
from .ops import AdjointFilterBank, ChannelMixture, FilterBank, Ghost, Input
from .printing import literal, torch_code
from .problem import Problem, explicit_symbols
from .schemes import Scheme
from .solve import TOLERANCES
from .stability import Claim, Report
from .statements import DIRECTION, LINE, Body, Vocabulary, assign, by_rows, call, concatenate, tuple_code
from .tensors import given_tensors

_RESERVED = frozenset(
    "tau k w self state torch nn Tensor low high low_wall high_wall bound rho traced super dtype device velocity "
    "history residual jacobian apply steps length log certificate checkpoint warnings dot ratio norm recur "
    "start".split()
)


_PARTIAL = (sp.log, sp.asin, sp.acos, sp.tan)
"""Functions that are not defined, or not finite, everywhere."""


@dataclass(frozen=True)
class Training:
    """What becomes a weight: parameters, the stencils, the step sizes; shared over the steps or one each."""

    parameters: frozenset[Parameter] = frozenset()
    stencils: bool = False
    tau: bool = False
    shared: bool = False


@dataclass(frozen=True)
class Network:
    """All that the printer prints: the graphs of a step, of the scheme's own start and of the energy, where there are
    such."""

    system: SemiDiscrete
    scheme: Scheme
    step: nx.DiGraph
    start: nx.DiGraph | None
    energy: nx.DiGraph | None
    report: Report
    plan: Plan | None
    cycles: tuple[list[str], str, bool] | None
    """The imports and the code of the U-net that solves the steps, if multigrid does, and whether they are linear."""
    training: Training
    name: str
    version: str
    advance: sp.Expr | None = None
    """How far a layer goes in time, if the equation reads it."""


def emit(network: Network) -> str:
    """The source of the network."""
    return _Emitter(network).source()


class _Emitter:
    def __init__(self, network: Network) -> None:
        self.network = network
        self.system, self.scheme, self.report = network.system, network.scheme, network.report
        self.training, self.plan, self.name = network.training, network.plan, network.name
        self.problem, self.axes = self.system.problem, self.system.axes
        self.cyclic, self.memory = self.scheme.cyclic, self.scheme.memory
        self.kept = 1 + self.memory + self.scheme.anchored
        """How many states a step takes: the newest, earlier ones, and the one its cycle started from."""
        self.learned = dict(own_stencils(self.system)) if self.training.stencils else {}
        self.banks = {bank.label: bank for bank in self.system.banks}
        self.reserved = _RESERVED | set(self.banks) | {f"mix_{label}" for label in self.banks}
        self.reserved |= {"convolve", "transpose"} if any(bank.thin for bank in self.system.banks) else set()
        self.by_rows = any(by_rows(graph) for graph in self._graphs)
        self.reserved |= {"by_rows"} if self.by_rows else set()
        self.channelled = {p for f in self.system.fluxes for p in channelled(f, self.training.parameters)}
        """Parameters of which every channel of a bank has its own."""
        rho = self.report.claim.rate
        self.rho_moves = rho is not None and bool(rho.free_symbols)
        self.unlimited = self.report.claim.limit(self.problem.time_order) == sp.oo
        bounded = self.report.claim.x is not None and not self.unlimited
        self.moving = self.training.tau or (self.rho_moves and bounded)
        """Is τ a function of weights?"""
        self.timed = network.advance is not None
        self.reserved |= {"t"} if self.timed else set()
        self.scalars: dict[sp.Symbol, str] = {TAU: "tau", t: "t"} if self.timed else {TAU: "tau"}
        data = {str(f.func) for f in self.problem.data}
        beside = {str(f.func) for f in self.problem.beside}
        if taken := sorted(data & (self.reserved | {"u"}) | {f for f in beside if _local(f)}):  # keywords of forward
            raise DeclarationError(f"data field {taken[0]!r}: the emitted code needs the name itself; rename it")
        fields = {*(str(u.func) for u in self.problem.unknowns), *data}
        for symbol in [*self.problem.parameters, *self._own_symbols()]:
            name = symbol.name
            while name in self.reserved | fields or name in self.scalars.values():
                name += "_"
            self.scalars[symbol] = name
        words = Vocabulary(
            scalars=self.scalars,
            tensors=frozenset(self._tensor_scalars()),
            learned={label: K.orbits() for label, K in self.learned.items()},
            reserved=self.reserved,
            jacobian=self._jacobian,
            secant=self.plan is not None and self.plan.secant is not None,
            beside=tuple(str(f.func) for f in self.problem.beside),
            dims=self.plan.dims if self.plan else None,
            cycles=self._cycles_call() if self.network.cycles else None,
        )
        least: dict[str, tuple[int, ...]] = {}
        for graph in self._graphs:
            for name, ring in plan(graph).rings.items():
                least[name] = tuple(map(max, zip(ring, least.get(name, ring), strict=True)))
        for name in words.beside:  # read wherever the state has ghost values
            least[name] = tuple(map(max, zip(least[""], least[name], strict=True)))
        self.step = Body(network.step, words, least, "u_new")
        self.start = Body(network.start, words, least, "u_0") if network.start is not None else None
        self.energy = Body(network.energy, words, least, "E") if network.energy is not None else None

    @property
    def _graphs(self) -> list[nx.DiGraph]:
        network = self.network
        return [g for g in (network.step, network.start, network.energy) if g is not None]

    @property
    def _jacobian(self) -> bool:
        return self.plan is not None and self.plan.method in ("cg", "bicgstab", "thomas", "newton-krylov")

    def _cycles_call(self) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
        """The data and scalars that the U-net of a step is given, by name, and whether it solves for a correction."""
        assert self.network.cycles is not None
        scalars = tuple(self.scalars[p] for p in (*self.problem.parameters, TAU))
        return tuple(str(f.func) for f in self.problem.data), scalars, self.network.cycles[2]

    def _own_symbols(self) -> list[sp.Symbol]:
        """The scheme's own scalars: scheduled coefficients and the relaxation coefficient."""
        return [sp.Symbol(n, positive=True) for n in self.scheme.own]

    def source(self) -> str:
        d = self.problem.dimension
        shape = ", ".join(["B", str(self.system.width), *(a.name.upper() for a in self.axes)])
        every = zip(*(self.system.fields or (self.axes,)), strict=True)
        least = [  # the wall itself mirrors nothing, and extrapolation reads more values
            max(1, *(max(w + bool(a.shift and a.sides), *(s.closure for s in a.sides or ()), 0) for a in axes))
            for w, axes in zip(self.step.layout.ring, every, strict=True)
        ]
        text = (
            environment()
            .get_template("torch/module.py.j2")
            .render(
                title=f"{self.name}: the {self.scheme.architecture} that {self._title} is for this PDE.",
                header=self._header(),
                version=self.network.version,
                name=self.name,
                certificate=literal_of(self._certificate()),
                shape=shape,
                steps=self.scheme.layers,
                constants=self._constants(),
                weights=self._weights(),
                forward=self._forward(),
                functions=self._functions(),
                extends=self._extends(),
                methods=self._methods(),
                dimension=d,
                width=self.system.width,
                fields=", ".join(str(u.func) for u in self.problem.unknowns) if self.system.width > 1 else "",
                least=tuple_code(least),
                most=tuple_code(self.system.limits) if self.system.limits else "",
                bounded=bool(field_checks(self.problem) or self._partial or self.timed)
                or any(getattr(f.func, "bounds", None) for f in self.problem.data),
                certificate_lines=self._certificate_lines(),
                filters=emit_bank.helpers(self.system.banks, bool(self.report.norms), self.by_rows),
                **self._solver(),
            )
        )
        return tidy(text)

    @property
    def _title(self) -> str:
        return self.scheme.title

    @property
    def _formula(self) -> str:
        return self.scheme.formula

    # --- header and certificate ---------------------------------------------------------------------------

    def _header(self) -> list[tuple[str, str]]:
        rows = equation_rows(self.system)
        rows += [
            (
                "grid",
                "h = "
                + ", ".join(f"{float(a.spacing):g}" for a in self.axes)
                + f", {self.system.grid.centering}-centred",
            ),
            ("space", self.system.method),
            ("scheme", f"{self._formula}, {self.scheme.layers} {self.scheme.unit}s"),
            *(("block", block) for block in self._blocks()),
        ]
        rows += [("solver", self._solver_doc())] if self.plan else []
        for label, K in own_stencils(self.system):
            taps = ", ".join(f"{_offset(j)}: {notation.show(w)}" for j, w in K.taps().items())
            rows.append(("stencil", f"{label}  {{{taps}}}" + ("  (trained)" if label in self.learned else "")))
        for bank in self.system.banks:
            mark = "  (trained)" * self.training.stencils
            rows.append(("filters", f"{bank.label}  {self.system.method}{mark}"))
        governing = self.report[self.report.governing]
        bound = "" if governing.bound is None else f" for tau <= {governing.bound:.6g} = {governing.formula}"
        bound = " for every tau" if governing.bound == math.inf else bound
        rows.append(("stability", f"{governing.notion}: {governing.status}{bound}"))
        rows += [("assumes", a) for a in governing.assumptions]
        trained = (
            sorted(p.name for p in self.training.parameters)
            + ["stencil"] * self.training.stencils
            + ["tau"] * self.training.tau
        )
        per = "cycle" if self.cyclic else "step"
        sharing = f"shared by all {per}s" if self.training.shared else f"one set per {per}"
        rows.append(("trained", f"{', '.join(trained)} ({sharing})" if trained else "nothing"))
        seen: set[tuple[str, str]] = set()
        return [row for row in rows if not (row in seen or seen.add(row))]  # type: ignore[func-returns-value]

    def _blocks(self) -> list[str]:
        """A block of the network, or f itself; one line for every field."""
        blocks = []
        for i, r in enumerate(self.problem.reactions):
            u = "u" if self.system.width == 1 else str(self.problem.unknowns[i].func)
            own = [flux for flux in self.system.fluxes if flux.whole or flux.term.component == i]
            forms = [self._form(flux, K, u) for flux in own for K in labels(self.system, flux)]
            forms += [self._crossing(m) for m in self.system.mixed if m.term.component == i]
            carried = [v for v in self.system.transports if v.term.component == i]
            forms += [f"{_factor(v.speed)}T_{self.axes[v.axis].name * v.term.order} {u}" for v in carried]
            laws = [law for law in self.system.laws if law.law.component == i]
            forms += [law.label if law.law.advective else f"div {law.label}" for law in laws]
            terms = (" + ".join(dict.fromkeys(forms)) + ("" if r == 0 else f" − ({notation.show(r)})")).lstrip()
            f = "f(u)" if self.system.width == 1 else f"f_{u}"
            blocks.append(f"{u} − τ [{terms}]" if self.scheme.euler else f"{f} = −[{terms}]")
        return blocks

    def _form(self, flux: Any, K: str, u: str) -> str:
        kappa = _factor(flux.term.kappa)
        G = "u" if self.system.width == 1 else "…"
        read = "(" + ", ".join(str(v.func) for v in self.problem.unknowns) + ")" if flux.whole else u
        of = f"{K} {read}"
        inner = of if flux.term.linear and flux.local else f"Φ({of})" if flux.local else f"(G({G}) {of})"
        return f"{kappa}({K}* {inner})_{u}" if flux.whole else f"{kappa}{K}* {inner}"

    def _crossing(self, m: DiscreteMixed) -> str:
        outer, inner = (self.system._subscript(((o, sp.S.One),)) for o in (m.term.outer, m.term.inner))
        u = self.problem.unknowns[m.term.of].func
        return f"K_{outer}* ({notation.show(m.term.coefficient)}) K_{inner} {u}"

    def _certificate(self) -> dict[str, Any]:
        bound = self.report[self.report.governing].bound
        return {**self.report.certificate(), "tau": self.report.tau, "tau_max": bound}

    def _certificate_lines(self) -> list[str]:
        """A step within its bound is what the proof needs; rounding may add one unit in the last place."""
        tau = (
            "[float(self.tau(k)) for k in range(self.steps)]"
            if self.moving
            else f"[{literal(self.report.tau)}] * self.steps"
        )
        governing = self.report.governing
        if not self._has_weights():
            bound = self._bound_code()
            tau_max = "None" if bound is None else f"[{bound}] * self.steps"
            return [f"tau = {tau}", f"tau_max = {tau_max}", 'return {**CERTIFICATE, "tau": tau, "tau_max": tau_max}']
        moves = self._limit_moves()
        limits = "self.limits(k) for k in range(self.steps)" if moves else None
        lines = [f"tau = {tau}"]
        if moves:
            lines.append(f"limits = [{limits}]")
        else:
            lines += [
                "limits = {",
                *(f'    "{n}": {_number(c.limit(self._order))},' for n, c in self._limits.items()),
                "}",
            ]
            lines.append("limits = [limits] * self.steps")
        known = governing in self._limits
        return [
            *lines,
            f"rounding = 1{'' if self._open else ' + torch.finfo(next(self.parameters()).dtype).eps'}",
            "kept = all(bool(p.isfinite().all()) for p in self.parameters())",
            *self._frozen_lines(),
            "notions = {}",
            'for notion, status in CERTIFICATE["notions"].items():',
            "    bounds = [float(b.get(notion, -1)) * rounding for b in limits]",
            f"    below = kept and all(0 <= t {'<' if self._open else '<='} b for t, b in zip(tau, bounds))",
            '    notions[notion] = status if below else "unknown"',
            f'new = {{"status": notions["{governing}"], "tau": tau, "notions": notions}}',
            f'new["tau_max"] = {f"""[float(b["{governing}"]) for b in limits]""" if known else None}',
            *self._frozen_reason(),
            "return {**CERTIFICATE, **new}",
        ]

    @property
    def _limits(self) -> dict[str, Claim]:
        """The claims that bound τ: all that are proved, and the governing one."""
        return {n: c for n, c in self.report.claims.items() if c.limit(self._order) is not None}

    def _limit_moves(self) -> bool:
        return any(c.rate.free_symbols and c.x != sp.oo for c in self._limits.values() if c.rate is not None)

    @property
    def _open(self) -> bool:
        """Does the bound itself not count as stable?"""
        strict = self.scheme.interval.open or any(c.open for c in self.report.claims.values())
        return strict and not self.unlimited

    def _frozen_lines(self) -> list[str]:
        """A recurrence over several steps, and a norm with the weights of a system, are proved for one operator:
        weights that differ from step to step lose it."""
        carried = self.system.width > 1 and bool(self.system.transports)
        if not (self.memory or carried) or self.cyclic or self.training.shared or not self._has_weights():
            return []
        what = "transport of several fields" if carried else "a multistep scheme"
        return [
            f"# {what} is proved for the same weights in every step",
            "equal = all(bool((p == p[:1]).all()) for p in self.parameters() if p.dim())",
            "kept = kept and equal",
        ]

    def _frozen_reason(self) -> list[str]:
        if not self._frozen_lines():
            return []
        return ["if not equal:", '    new["reason"] = "the weights differ from step to step"']

    # --- weights ------------------------------------------------------------------------------------------

    def _has_weights(self) -> bool:
        return bool(self.training.parameters or self.training.stencils or self.training.tau)

    def _per_step(self, attribute: str) -> bool:
        """One value per step (per cycle, where a scheme has them); τ of a multistep scheme is one for all."""
        lonely = attribute.endswith("_tau") and self.memory and not self.cyclic
        return not self.training.shared and not lonely

    def _shape(self, attribute: str, p: Parameter | None = None) -> str:
        sizes = [self._groups] if self._per_step(attribute) else []
        sizes += [str(bank.filters) for bank in self.system.banks[:1]] if p in self.channelled else []
        return tuple_code(sizes)

    @property
    def _groups(self) -> str:
        """How many sets of weights there are, unless they are shared."""
        return "self.cycles" if self.cyclic else "self.steps"

    def _at_step(self, attribute: str) -> str:
        if not self._per_step(attribute):
            return f"self.{attribute}"
        return f"self.{attribute}[k]" if not self.cyclic else f"self.{attribute}[k // self.length]"

    def _constants(self) -> list[str]:
        lines = []
        if self.cyclic:
            lines = [
                f"length = {self.scheme.cycle}  # layers of a cycle",
                f"cycles = {self.scheme.layers // self.scheme.cycle}",
            ]
        if self.moving and self._bound_code() is not None and not self._bound_moves() and not self.unlimited:
            lines.append(f"tau_bound = {self._bound_code()}  # {self.report[self.report.governing].formula}")
        if self._implicit:
            assert self.plan is not None
            solver = self.plan.solver
            tol = None if solver.tol is None else literal(solver.tol)
            lines += [
                f"tolerance = {tol}  # relative residual; None: the default of the dtype",
                f"most = {solver.iterations or solver.max_iterations}  # iterations",
                f"unrolled = {self.plan.unrolled}  # iterations of a traced network",
                f"gain = {literal(float(f'{self.plan.gain:.4g}'))}  # 1 + τρ: what rounding is magnified by",
            ]
            if self.plan.method == "newton-krylov":
                lines.append(f"unrolled_inner = {self.plan.unrolled_inner}")
        return lines

    def _bound_moves(self) -> bool:
        return self.rho_moves and not self.unlimited

    @property
    def _order(self) -> int:
        return self.problem.time_order

    def _bound_code(self) -> str | None:
        """τ_max as code: a number, or an expression in what is trained."""
        limit = self.report.claim.limit(self._order)
        if limit is None:
            return None
        if self.unlimited:
            return 'float("inf")'
        return torch_code(limit, self.scalars) if limit.free_symbols else literal(float(limit))

    def _weights(self) -> list[list[str]]:
        kind = ["dtype=dtype", "device=device"]
        blocks = []
        for name, values in self.scheme.schedule().items():
            local = self.scalars[sp.Symbol(name, positive=True)]
            lines = [f"{local} = [", *(f"    {literal(v)}," for v in values), "]"]
            lines += call(f"{local} = torch.tensor", [local, *kind], LINE - 8)
            blocks.append([*lines, *call("self.register_buffer", [f'"{local}"', local, "persistent=False"], LINE - 8)])
        if self.network.cycles:
            zero = f"residual = torch.zeros((), {', '.join(kind)})"
            blocks.append([f"self.multigrid = {self.name}Cycles(dtype, device)"])
            blocks.append([zero, 'self.register_buffer("residual", residual, persistent=False)'])
        if self._implicit:
            assert self.plan is not None
            zero = f"residual = torch.zeros((), {', '.join(kind)})"
            blocks.append([zero, 'self.register_buffer("residual", residual, persistent=False)', "self.log = None"])
            check = [
                "least = 4 * torch.finfo(dtype).eps",
                "if least * self.gain >= 1:",
                '    text = f"does not resolve solves with 1 + τρ = {self.gain}"',
                '    raise ValueError(f"{dtype} {text}; take a finer dtype or a smaller tau")',
            ]
            if self.plan.solver.tol is not None:
                check += [
                    "if self.tolerance < least:",
                    '    text = f"tolerance {self.tolerance} is below the precision of {dtype}"',
                    '    raise ValueError(f"{text}, 4 eps = {least}; raise tol")',
                ]
            blocks.append(check)
        for p in sorted(self.training.parameters, key=str):
            local = self.scalars[p]
            fill = call(f"{local} = torch.full", [self._shape(weight_name(p), p), literal(p.value), *kind], LINE - 8)
            blocks.append([*fill, weight_line(p, local)])
        if self.training.tau:
            bound = None if self.unlimited else self._initial_bound()
            if bound is None:
                start, value = self.report.tau, "log_tau = nn.Parameter(tau.log())"
            else:
                start, value = self.report.tau / bound, "logit_tau = nn.Parameter(tau.logit())"
                if not 0 < start < 1:
                    raise SchemeError(
                        f"tau = {self.report.tau:g} is to be trained but starts at or above its bound {bound:g}, where "
                        f"bound·sigmoid(θ) has no finite θ; start at tau='auto' or below the bound"
                    )
            note = ["# τ as a fraction of its bound"] if bound is not None else []
            shape = self._shape("logit_tau")
            blocks.append([*note, *call("tau = torch.full", [shape, literal(start), *kind], LINE - 8), f"self.{value}"])
        for label, K in self.learned.items():
            numbers = [float(o.weight.xreplace(self._fixed())) for o in K.orbits()]
            repeat = "w" if self.training.shared else f"w.repeat({self._groups}, 1)"
            lines = ["weights = [", *(f"    {literal(w)}," for w in numbers), "]"]
            blocks.append(
                [*lines, f"w = torch.tensor(weights, {', '.join(kind)})", f"self.{label} = nn.Parameter({repeat})"]
            )
        repeats = None if self.training.shared else self._groups
        blocks += [emit_bank.weights(bank, self.training.stencils, repeats) for bank in self.system.banks]
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
            doc = f"{notation.show(p)} of step k" + (
                ", positive and finite for every weight." if p.is_positive else "."
            )
            value = value_code(p, self._at_step(weight_name(p)))
            lines = []
            if p in self.channelled:
                if (copies := self.system.banks[0].copies) > 1:  # the images of a filter share it
                    lines, value = [f"own = {value}"], f"own.reshape(-1, 1).expand(-1, {copies})"
                value += f".reshape({', '.join(['-1', *['1'] * len(self.axes)])})"
                doc = doc.replace(" of step k", " of every channel in step k")
            add(f"get_{p.name}", doc, *lines, f"return {value}")
        for label, K in self.learned.items():
            total = " + ".join(f"{o.l1} * w[{i}].abs()" for i, o in enumerate(K.orbits()))
            lines = [f"w = {self._at_step(label)}", *assign("bound", total, LINE - 8), "return bound**2"]
            add(f"norm2_{label}", f"A bound on the squared norm of {label}: the squared sum of its taps.", *lines)
        if self.training.stencils:
            for bank in self.system.banks:
                taps = ", ".join([str(bank.inputs), *[str(bank.size)] * bank.dimension])
                doc = f"The filters of step k: ({bank.channels}, {taps})."
                add(bank.label, doc, *emit_bank.method(bank, self._at_step))
                if bank.mixed:
                    add(f"mix_{bank.label}", *emit_bank.mixture(bank, self._at_step))
        for symbol, (bank, strength) in self.report.norms.items():
            add(symbol.name, *self._norm(bank, strength))
        if self._bound_moves():
            doc = "The bound ρ on the spectrum of −f for the weights of step k."
            self._add_expression(add, "rho", doc, self.report.claim.rate)
        if self._bound_moves() and self._bound_code() is not None:
            ratio = f"{literal(float(self.report.claim.x or 0))} / self.rho(k).clamp(min=1e-12)"
            ratio = f"({ratio}).sqrt()" if self._order == 2 else ratio
            add("tau_max", f"The bound of {self.report.governing} for the weights of step k.", f"return {ratio}")
        if self._has_weights() and self._limit_moves():
            methods.append(self._limits_method())
        if self._relaxes:
            doc = "The smallest stable relaxation for the weights of step k."
            self._add_expression(add, self._relaxation_name, doc, self.report.relaxation)
        if self.moving:
            bound = "self.tau_max(k)" if self._bound_moves() else "self.tau_bound"
            if self._bound_code() is None or self.unlimited:
                reach = math.ceil(abs(math.log(self.report.tau))) + 10
                doc, code = "τ of step k, positive.", f"{self._at_step('log_tau')}.clamp(-{reach}, {reach}).exp()"
            elif self.training.tau:
                doc, code = (
                    "τ of step k: below its bound for every weight.",
                    f"{bound} * {self._at_step('logit_tau')}.sigmoid()" + ".clamp(max=0.9999)" * self._open,
                )
            else:
                share = self.report.tau / (self._initial_bound() or 1.0)
                doc, code = "τ of step k: a fixed part of its bound.", f"{literal(share)} * {bound}"
            add("tau", doc, f"return {code}")
        return methods

    def _limits_method(self) -> dict[str, Any]:
        free = set().union(*(c.rate.free_symbols for c in self._limits.values() if c.rate is not None))
        lines, names, entries = self._values_of(free), dict[sp.Expr, str](), []
        for notion, claim in self._limits.items():
            limit = claim.limit(self._order)
            assert limit is not None and claim.rate is not None and claim.x is not None
            if not limit.free_symbols:
                entries.append(f'    "{notion}": {_number(limit)},')
                continue
            if claim.rate not in names:
                names[claim.rate] = "rate" + f"_{len(names) + 1}" * bool(names)
                lines += assign(names[claim.rate], torch_code(claim.rate, self.scalars), LINE - 8)
            quotient = f"{literal(float(claim.x))} / {names[claim.rate]}"
            entries.append(f'    "{notion}": ' + (f"({quotient}) ** 0.5," if self._order == 2 else f"{quotient},"))
        doc = "The largest τ of step k for which a notion is proved, by its name."
        lines += ["return {", *entries, "}"]
        return {"name": "limits", "arguments": "self, k: int", "returns": "dict", "doc": doc, "lines": lines}

    def _values_of(self, free: set[sp.Symbol]) -> list[str]:
        """Trained parameters and norms of trained stencils, as local variables."""
        lines = [f"{self.scalars[p]} = self.get_{p.name}(k)" for p in sorted(free & self.training.parameters, key=str)]
        norms = [f"norm2_{label}" for label in self.learned if norm_symbol(label) in free]
        norms += [symbol.name for symbol in self.report.norms if symbol in free]
        return lines + [f"{name} = self.{name}(k)" for name in norms]

    def _norm(self, bank: Bank, strength: sp.Expr) -> list[str]:
        """The doc and the lines of the method that bounds ‖L^½K‖² for the weights of a step."""
        filters = f"self.{bank.label}(k)" if self.training.stencils else f"self.{bank.label}"
        if strength == 1:
            doc = f"A bound on the squared norm of {bank.label} for the weights of step k."
            return [doc, f"return squared_norm({filters})"]
        lines = self._values_of(strength.free_symbols)
        lines += assign("bound", torch_code(strength, self.scalars), LINE - 8)
        shape = ", ".join(["-1", "1", *["1"] * bank.dimension])
        doc = f"A bound on the squared norm of {bank.label}, every channel times the root of its largest diffusivity."
        return [doc, *lines, f"return squared_norm({filters} * bound.sqrt().reshape({shape}))"]

    @property
    def _relaxes(self) -> bool:
        """Does the relaxation coefficient move with the weights?"""
        return self.report.relaxation is not None and bool(self.report.relaxation.free_symbols)

    @property
    def _relaxation_name(self) -> str:
        return self.scalars[sp.Symbol(str(self.scheme.relaxation), positive=True)]

    def _add_expression(self, add: Any, name: str, doc: str, e: sp.Expr) -> None:
        """A method that evaluates an expression in trained parameters and norms of trained stencils."""
        lines = self._values_of(e.free_symbols)
        code = assign(name, torch_code(e, self.scalars), LINE - 8)
        add(name, doc, *lines, *code, f"return {name}")

    # --- forward and the functions it calls -----------------------------------------------------------------

    def _data(self, f: Any) -> str:
        return self.step.names[str(f.func)]

    @property
    def _implicit(self) -> bool:
        """Does the module carry the recurrence of a solver? (A U-net looks after itself.)"""
        return self.plan is not None and self.plan.method != "multigrid"

    def _forward(self) -> dict[str, Any]:
        """The signature and body of forward: the march through the layers."""
        second = self._order == 2
        arguments = ["self", "u: Tensor"]
        arguments += ["velocity: Tensor | None = None"] if second else []
        arguments += ["*"] if second and self.problem.data else []
        arguments += [f"{self._data(f)}: Tensor" for f in self.problem.data]
        arguments += ["t: Tensor | float = 0.0"] if self.timed else []
        arguments += ["history: bool = False"] if self._implicit else []
        n = self.scheme.layers
        doc = f"u^0, at the time t, to u^{n}." if self.timed else f"u^0 to u^{n}."
        doc += " With `history`, also the relative residuals." if self._implicit else ""
        returns = "Tensor | tuple[Tensor, list[Tensor]]" if self._implicit else "Tensor"
        return {"lines": [*signature("forward", arguments, returns), f'    """{doc}"""'], "body": self._march()}

    def _march(self) -> list[str]:
        data = [self._data(f) for f in self.problem.data]
        passed = "".join(f", {name}" for name in [*data, *["t"] * self.timed])
        d = self.problem.dimension
        ring = self.step.layout.ring
        interior = slices(tuple((-2 * w, 2 * w) for w in ring), ((0, 0),) * d, (0,) * d)
        lines = ["self.check(u)", *field_checks(self.problem)]
        if self._order == 2:
            lines += ["velocity = torch.zeros_like(u) if velocity is None else velocity", "self.check(velocity)"]
            lines += [
                "if velocity.shape != u.shape:",
                "    shapes = tuple(velocity.shape), tuple(u.shape)",
                '    raise ValueError("velocity has shape {}, u {}".format(*shapes))',
            ]
        lines += data_checks(self.problem, self.step.names)
        lines += [f"{name} = self.extend_{name}({name})" for name in data]
        if self.timed:
            ones = ", ".join(["-1", *["1"] * (d + 1)])
            lines += [
                "if not isinstance(t, (Tensor, float, int)):",
                '    raise ValueError(f"t has type {type(t).__name__}; give a number or a tensor")',
                "t = torch.as_tensor(t, dtype=u.dtype, device=u.device)",
                "if t.dim() > 1 or t.numel() not in (1, len(u)):",
                '    raise ValueError(f"t has shape {tuple(t.shape)}; give one time, or {len(u)}")',
                "traced = torch.compiler.is_compiling() or _is_wrapped(t)",
                "if not traced and not t.isfinite().all():",
                '    raise ValueError("t is not finite")',
                f"t = t.reshape({ones})",
            ]
        if self._implicit:
            lines += ["self.log = [] if history else None", "self.residual = torch.zeros_like(self.residual)"]
        if self.network.cycles:
            lines.append("self.multigrid.residual = torch.zeros_like(self.residual)")
        many, count = self.kept > 1, self.kept
        if self.start is not None:
            velocity = ", velocity" if self._order == 2 else ""
            lines.append(f"state = self.start(u{velocity}{passed})")
        else:
            first_state = self.step.extended("u")
            lines.append(f"state = ({first_state},) * {count}" if many else f"state = {first_state}")
        if self._partial:
            lines += [
                "traced = torch.compiler.is_compiling() or _is_wrapped(u)",
                f"if not traced and u.isfinite().all() and not state{'[0]' * many}.isfinite().all():",
                '    raise ValueError("the value of a wall is not finite")',
            ]
        first = self.scheme.starting_steps
        lines.append(f"for k in range({first}, self.steps):" if first else "for k in range(self.steps):")
        if many and self.cyclic:
            lines += ["    if k % self.length == 0:", f"        state = (state[0],) * {count}  # a new cycle"]
        if self.timed and first:
            lines.insert(-1, f"t = t + {first} * {self._advance('0')}")
        lines.append(f"    state = self.step(state, k{passed})")
        if self.timed:
            lines.append(f"    t = t + {self._advance('k')}")
        result = f"state[0]{interior}" if many else f"state{interior}"
        if self.network.cycles:
            lines.append("self.residual = self.multigrid.residual")
        if not self._implicit:
            return [*lines, f"return {result}"]
        return [*lines, f"u = {result}", "return (u, self.log) if history else u"]

    @property
    def _partial(self) -> bool:
        """Do walls have values that are not defined everywhere, such as roots and quotients?"""
        parts = (e for v in self.problem.wall_values for e in sp.preorder_traversal(v))
        return any(isinstance(e, _PARTIAL) or (e.is_Pow and not (e.exp.is_integer and e.exp > 0)) for e in parts)

    def _advance(self, k: str) -> str:
        """How far layer k goes in time."""
        own = {sp.Symbol(n, positive=True): f"self.{n}[{k} % self.length]" for n in self.scheme.schedule()}
        tau = f"self.tau({k})" if self.moving else literal(self.report.tau)
        assert self.network.advance is not None
        return torch_code(self.network.advance, {**own, TAU: tau})

    def _functions(self) -> list[dict[str, Any]]:
        """step, and start if the scheme has one of its own."""
        data = [*(f"{self._data(f)}: Tensor" for f in self.problem.data), *["t: Tensor"] * self.timed]
        count = self.kept
        kind = "Tensor" if count == 1 else f"tuple[{', '.join(['Tensor'] * count)}]"
        inputs = self._states(self.step)
        ring = "`state` carries its ghost ring, and so does the result."
        block = "One block" if self.scheme.euler else "One layer"
        doc = [f"{block}: {self._what()}.", "", ring]
        if self._implicit:
            doc[-1:] = ["The input of the recurrence is the old state, its hidden state the new one.", ring]
        unpacked = f"{', '.join(inputs)} = state"
        functions = []
        if self.start is not None:
            times = self.scheme.begins(TAU)
            results = [self._ringed(self.start, r, at) for r, at in zip(self.start.results, times, strict=True)]
            state = self._states(self.start)[0]
            velocity = ["velocity: Tensor"] if self._order == 2 else []
            functions.append(
                {
                    "lines": signature("start", ["self", "u: Tensor", *velocity, *data], kind),
                    "doc": ["The states to begin with, newest first."],
                    "scalars": [
                        *(["k = 0"] if self._needs_k(self.start) else []),
                        *self._scalars(self.start),
                        f"{state} = {self.start.extended('u')}",
                    ],
                    "statements": self.start.statements(),
                    "result": ", ".join(results),
                }
            )
        advance = self.network.advance or sp.S.Zero
        newest = self._ringed(self.step, self.step.results[0], t + advance)
        results = [newest, *inputs[: self.memory], *inputs[1 + self.memory :]]
        functions.append(
            {
                "lines": signature("step", ["self", f"state: {kind}", "k: int", *data], kind),
                "doc": doc,
                "scalars": [*self._scalars(self.step), unpacked],
                "statements": self.step.statements(),
                "result": ", ".join(results),
            }
        )
        if self.energy is not None:
            functions.append(self._energy_function(self.energy, data))
        return functions

    def _energy_function(self, body: Body, data: list[str]) -> dict[str, Any]:
        state = self._states(body)
        extended = [f"{self._data(f)} = self.extend_{self._data(f)}({self._data(f)})" for f in self.problem.data]
        k = ["k: int = 0"] if self._needs_k(body) else []
        keywords = ["*", *data] if data else []
        return {
            "lines": signature("energy", ["self", "u: Tensor", *k, *keywords], "Tensor"),
            "doc": ["The energy E of which f is minus the gradient: (B, …) to (B,)."],
            "scalars": [
                *data_checks(self.problem, self.step.names),
                *self._scalars(body),
                *extended,
                *(f"{s} = {body.extended('u')}" for s in state),
            ],
            "statements": body.statements(),
            "result": f"{body.results[0]}.flatten()",
        }

    def _what(self) -> str:
        return self._blocks()[0] if self.scheme.euler and self.system.width == 1 else self._formula

    def _states(self, body: Body) -> list[str]:
        graph = body.graph
        return [body.names[n] for n, op in graph.nodes(data="op") if isinstance(op, Input) and op.role == "state"]

    @staticmethod
    def _ringed(body: Body, result: str, time: sp.Expr) -> str:
        inputs = {
            body.names[n] for n, op in body.graph.nodes(data="op") if isinstance(op, Input) and op.role == "state"
        }
        return result if result in inputs else body.extended(result, time)

    def _needs_k(self, body: Body) -> bool:
        return any("(k)" in line or "[k" in line for line in self._scalars(body))

    def _scalars(self, body: Body) -> list[str]:
        every = [op for g in self._graphs for _, op in g.nodes(data="op")]
        used = {s for op in every if getattr(op, "label", "") not in self.learned for s in op.scalars}
        rho = self.report.claim.rate
        lost = self.training.parameters - used - (set() if rho is None else rho.free_symbols)
        if lost:  # coefficients of D have been absorbed into the learned taps
            name = min(p.name for p in lost)
            raise SchemeError(f"{name} only scales stencils that are trained themselves; train one of the two")
        ops = [op for _, op in body.graph.nodes(data="op")]
        read = {s for op in ops if getattr(op, "label", "") not in self.learned for s in op.scalars}
        if self.step.driven and body is self.step and self.network.advance is not None:  # of the ring of the new state
            read |= self.network.advance.free_symbols
        if self.step.driven and body is self.start:
            read |= {TAU}
        lines = []
        for symbol in sorted(read, key=str):
            name = self.scalars[symbol]
            if symbol == t and self.timed:
                continue
            if symbol == TAU:
                lines.append("tau = self.tau(k)" if self.moving else f"tau = {literal(self.report.tau)}")
            elif symbol in self.training.parameters:
                lines.append(f"{name} = self.get_{symbol.name}(k)")
            elif symbol.name in self.scheme.schedule() and not isinstance(symbol, Parameter):
                lines.append(f"{name} = self.{name}[k % self.length]")
            elif symbol.name == self.scheme.relaxation and not isinstance(symbol, Parameter):
                value = f"self.{name}(k)" if self._relaxes else literal(self.report.own[symbol.name])
                lines.append(f"{name} = {value}")
            else:
                lines.append(f"{name} = {literal(symbol.value)}")
        labels = {getattr(op, "label", "") for op in ops}
        filters = {op.bank.label for op in ops if isinstance(op, (FilterBank, AdjointFilterBank))}
        at = "(k)" * self.training.stencils
        lines += [f"{label} = self.{label}{at}" for label in self.banks if label in filters]
        mixed = {op.bank.label for op in ops if isinstance(op, ChannelMixture)}
        lines += [f"mix_{label} = self.mix_{label}(k)" for label in self.banks if label in mixed]
        return lines + [f"w_{label} = {self._at_step(label)}" for label in self.learned if label in labels]

    def _tensor_scalars(self) -> set[str]:
        names = {self.scalars[p] for p in self.training.parameters} | ({"tau"} if self.moving else set())
        names |= {self.scalars[sp.Symbol(n, positive=True)] for n in self.scheme.schedule()}
        return names | ({self._relaxation_name} if self._relaxes else set()) | ({"t"} if self.timed else set())

    # --- the solver -----------------------------------------------------------------------------------------

    def _solver_doc(self) -> str:
        assert self.plan is not None
        names = {
            "fixed-point": "fixed point v ← v − R(v)",
            "damped": f"damped fixed point v ← v − ωR(v), ω = {self.plan.damping:.4g}",
            "anderson": f"Anderson acceleration over {self.plan.solver.memory} iterates",
            "cg": "conjugate gradients",
            "bicgstab": "BiCGStab(2)",
            "thomas": "Thomas' algorithm, a forward and a backward recurrence",
            "newton-krylov": f"Newton's method with {'CG' if self.plan.inner == 'cg' else 'BiCGStab(2)'} inside",
            "multigrid": f"{getattr(self.plan.solver.cycles, 'cycles', 0)} multigrid cycles, a U-net inside",
        }
        return names[self.plan.method]

    def _solver(self) -> dict[str, Any]:
        """What the templates of the recurrence need."""
        if self.network.cycles:
            imports, code, _ = self.network.cycles
            return {"solver": None, "solvers": code, "warns": False, "imports": imports}
        if self.plan is None:
            return {"solver": None, "solvers": "", "warns": False, "imports": []}
        p, solver = self.plan, self.plan.solver
        krylov = {"cg": "conjugate_gradients", "bicgstab": "bicgstab"}
        linear = {"cg": "cg", "bicgstab": "bicgstab", "thomas": "thomas"}
        need = {linear.get(p.method, p.method.replace("-", "_"))}
        need |= {"fixed_point"} if p.method == "damped" else set()
        need |= {"newton", p.inner} if p.method == "newton-krylov" else set()
        need |= {p.secant} if p.secant else set()
        need |= {p.inner} if solver.gradient == "implicit" and p.method != "thomas" else set()
        cell = {
            "fixed-point": "fixed_point(residual, 1)",
            "damped": f"fixed_point(residual, {literal(p.damping)})",
            "anderson": f"anderson(residual, {literal(p.damping)})",
            "cg": "conjugate_gradients(jacobian(v), r)",
            "bicgstab": "bicgstab(jacobian(v), r)",
            "thomas": "thomas(jacobian(v), residual, dim)",
            "newton-krylov": f"newton(residual, jacobian, {krylov[p.inner]}, inner, traced)",
            "secant": f"newton(residual, jacobian, {krylov[p.inner]}, inner, traced, secant)",
        }["secant" if p.secant else p.method]
        hidden = {"anderson": "(v, r, memory, memory)", "cg": "(v, r, r)", "bicgstab": "(v, r, r)"}.get(
            p.method, "(v, r)"
        )
        count = "{most}" if solver.iterations else "{len(history) - 1}"
        failed = (
            f"{self._title}: {p.method} stopped at the relative residual {{float(error.max()):.3g}} "
            f"(tolerance {{tolerance:.3g}}) after {count} iterations; {self._cure()}"
        )
        context = {
            "solver": solver,
            "imports": [],
            "doc": self._solver_doc(),
            "method": p.method,
            "jacobian": self._jacobian,
            "dim": p.dims is not None,
            "secant": None if p.secant is None else krylov[p.secant],
            "cell": cell,
            "hidden": hidden,
            "memory": solver.memory,
            "krylov": p.method in krylov and not solver.iterations,
            "fixed": solver.iterations is not None,
            "tolerances": ", ".join(f"torch.{name}: {tol:g}" for name, tol in TOLERANCES.items()),
            "coarsest": f"{max(TOLERANCES.values()):g}",
            "limit": "0" if solver.iterations else "tolerance",
            "failure": solver.on_failure,
            "failed": wrapped(failed),
            "gradient": solver.gradient,
            "adjoint": krylov[p.inner],
            "need": need,
            "warns": solver.on_failure == "warn" and solver.iterations is None,
        }
        solvers = environment().get_template("torch/solvers.py.j2").render(**context)
        return {**context, "solvers": solvers}

    def _cure(self) -> str:
        assert self.plan is not None
        other = "lower tau, raise max_iterations or tol"
        return other if self.plan.method == "newton-krylov" else f"{other}, or use solver='newton-krylov'"

    # --- the ghost ring -----------------------------------------------------------------------------------

    @property
    def layout(self) -> Layout:
        return self.step.layout

    def _extends(self) -> list[dict[str, Any]]:
        methods: list[dict[str, Any]] = []
        for name, node in self.network.step.nodes.items():
            first = node["op"] if isinstance(node["op"], Input) else None
            if first is None or first.role not in ("state", "data"):
                continue
            if first.role == "state" and any(m["name"] == "extend" for m in methods):
                continue
            role, v = first.role, self.step.names[name]
            rings = self.layout.rings[name]
            v += "_" * (role == "state" and _local(v))
            lines = self._eager_ring(v, rings, role) + self._ring(v, first, rings, role)
            doc = (
                f"The ghost ring: {notation.show_boundary(self.problem)}."
                if role == "state"
                else f"The ghost ring of {v}."
            )
            reads = ["t"] * self.step.driven + [self.step.names[f] for f in self.step.words.beside]
            more = "".join(f", {r}: Tensor" for r in reads) if role == "state" else ""
            name = "extend" if role == "state" else f"extend_{v}"
            methods.append({"name": name, "v": v, "more": more, "doc": doc, "lines": lines})
        other = [op for _, op in self.network.step.nodes(data="op") if isinstance(op, Ghost) and op.still]
        if other and not self.step.still:
            lines = self._ring("w", other[0], self.layout.ring, "state")
            doc = "The ghost ring of a direction, which vanishes on the walls."
            methods.append({"name": DIRECTION, "v": "w", "doc": doc, "lines": lines})
        if self.system.banks:
            methods.append(emit_bank.fold(self.axes, self.system.banks[0].radius))
        return sorted(methods, key=lambda m: str(m["name"]))

    def _ring(self, v: str, op: Input | Ghost, widths: Sequence[int], role: str) -> list[str]:
        """Statements that continue `v` beyond the boundary: all of it, or every field in its own way."""
        rings = {f: (self._data(f), self.layout.rings[str(f.func)]) for f in self.problem.beside}
        if not op.fields:
            return ring_lines(v, self.axes, widths, op.parity, role, op.walls, rings)
        lines, names, start = list[str](), list[str](), 0
        groups = [list(alike) for _, alike in itertools.groupby(op.fields, _continuing)]
        if len(groups) == 1:
            parity, walls = symmetry(op.fields[0])
            return ring_lines(v, op.fields[0], widths, parity, role, walls, rings)
        for axes, *others in groups:
            stop = start + 1 + len(others)
            name = "_".join(str(u.func) for u in self.problem.unknowns[start:stop])
            name += "_" * (name == v or _local(name))
            parity, walls = symmetry(axes)
            lines.append(f"{name} = {v}[:, {start}:{stop}]")
            lines += ring_lines(name, axes, widths, parity, role, walls, rings)
            names, start = [*names, name], stop
        return [*lines, f"{v} = torch.cat({tuple_code(names)}, 1)"]

    def _eager_ring(self, v: str, widths: tuple[int, ...], role: str) -> list[str]:
        """A ring of one node without flux is replication: one pass in eager mode, where concatenation takes one per
        axis. Compiled it is the other way round, for concatenation fuses with the step and clamped indices do not."""
        reflecting = not self.system.fields and all(
            axis.sides is not None and all(side.plane == "face" and side.parity == 1 for side in axis.sides)
            for axis in self.axes
        )
        if role != "state" or not reflecting or set(widths) != {1}:
            return []
        return [
            "if not torch.compiler.is_compiling():  # one pass, but it would not fuse",
            f'    return nn.functional.pad({v}, {tuple_code([1] * 2 * len(widths))}, mode="replicate")',
        ]


# --- text ---------------------------------------------------------------------------------------------------


def equation_rows(system: SemiDiscrete) -> list[tuple[str, str]]:
    """The header's rows on the equation itself, each once."""
    rows = [("PDE", equation) for equation in notation.show_equations(system.problem)]
    for flux in system.fluxes:
        g = flux.term.diffusivity
        if g is not None and not flux.term.linear:
            rows.append(("diffusivity", f"g = {shown_law(system, flux, g)}"))
    for feature, e in system.problem.features:
        rows.append(("smoothed", f"{feature.func} = {notation.show(e)}"))
    return [*dict.fromkeys(rows), ("boundary", notation.show_boundary(system.problem))]


def weight_name(p: Parameter) -> str:
    """The attribute that holds the weight of a trained parameter: its logarithm where the parameter is positive."""
    return f"log_{p.name}" if p.is_positive else f"raw_{p.name}"


def weight_line(p: Parameter, start: str) -> str:
    """The weight, for a parameter that starts at the value of a variable."""
    return f"self.{weight_name(p)} = nn.Parameter({start}{'.log()' if p.is_positive else ''})"


def value_code(p: Parameter, weight: str) -> str:
    """The parameter that a weight means: positive and finite for every weight, if the parameter is positive."""
    if not p.is_positive:
        return weight
    return f"{weight}.clamp(-{reach(p)}, {reach(p)}).exp()"


def reach(p: Parameter) -> int:
    """How far the logarithm of a positive parameter may move."""
    return max(20, math.ceil(abs(math.log(p.value))) + 5)


def tidy(text: str) -> str:
    """The blank lines of a rendered template as the formatter has them."""
    text = re.sub(r"\n{3,}(?= )", "\n\n", text.lstrip("\n"))
    return re.sub(r"\n{4,}", "\n\n\n", text).rstrip("\n") + "\n"


def field_checks(problem: Problem) -> list[str]:
    """Refuse states outside the declared bounds of their fields."""
    several = len(problem.unknowns) > 1
    return [line for i, u in enumerate(problem.unknowns) for line in _bounded(u, "u", f"[:, {i}]" * several)]


def _bounded(f: Any, name: str, part: str = "") -> list[str]:
    """Refuse values of a field, or of one part of it, outside its declared bounds."""
    bounds = getattr(f.func, "bounds", None)
    if bounds is None:
        return []
    low, high = (literal(float(b)) for b in bounds)
    return [
        f"traced = torch.compiler.is_compiling() or _is_wrapped({name})",
        f"if not traced and not (({low} <= {name}{part}) & ({name}{part} <= {high})).all():",
        f'    raise ValueError("{f.func} leaves its declared bounds [{low}, {high}]")',
    ]


def data_checks(problem: Problem, names: Mapping[str, str]) -> list[str]:
    """Refuse data of the wrong shape or type, or outside their declared bounds."""
    lines, shape = [], "u.shape[1:]" if len(problem.unknowns) == 1 else "(1, *u.shape[2:])"
    for f in problem.data:
        name = names[str(f.func)]
        lines += [
            f"if not isinstance({name}, Tensor) or not {name}.is_floating_point():",
            f'    text = "{name} has type {{}}; give a tensor of floating point numbers"',
            f'    raise ValueError(text.format(getattr({name}, "dtype", type({name}))))',
            f"if {name}.dim() != u.dim() or {name}.shape[1:] != {shape}:",
            f'    raise ValueError(f"{name} has shape {{tuple({name}.shape)}}, u {{tuple(u.shape)}}")',
            f"if not torch.compiler.is_compiling() and len({name}) not in (1, len(u)):",
            f'    raise ValueError(f"{name} has a batch of {{len({name})}}, u of {{len(u)}}")',
            f"if {name}.dtype != u.dtype:",
            f'    raise ValueError(f"{name} has type {{{name}.dtype}}, u {{u.dtype}}")',
        ]
        lines += _bounded(f, name) if not hasattr(f.func, "tensor") else []
    for tensor, (matrix, low, high) in given_tensors(problem.data).items():
        size = literal(64 * max(abs(low), abs(high)))
        rows = [tuple_code([names[str(f.func)] for f in row]) for row in matrix.tolist()]
        first = names[str(matrix[0, 0].func)]
        lines += [
            f"traced = torch.compiler.is_compiling() or _is_wrapped({first})",
            "if not traced:",
            f"    rows = ({', '.join(rows)})",
            "    matrix = torch.stack([torch.stack(torch.broadcast_tensors(*row), -1) for row in rows], -1)",
            "    found = torch.linalg.eigvalsh(matrix.float() if matrix.dtype.itemsize < 4 else matrix)",
            f"    slack = {size} * torch.finfo(found.dtype).eps",
            f"    if found.min() < {literal(low)} - slack or found.max() > {literal(high)} + slack:",
            f'        bounds = "[{literal(low)}, {literal(high)}]"',
            f'        raise ValueError(f"the eigenvalues of {tensor} leave their declared bounds {{bounds}}")',
        ]
    return lines


def ring_lines(
    v: str,
    axes: tuple[Axis, ...],
    widths: Sequence[int],
    parity: Parity,
    role: str,
    walls: Walls = (),
    data: Mapping[Any, tuple[str, Sequence[int]]] | None = None,
) -> list[str]:
    """Statements that continue `v` beyond the boundary, axis by axis; `data` are those that walls read, by their names
    and the widths of their rings."""
    lines = []
    for a, width in enumerate(widths):
        if width:
            values = walls[a] if walls else (0.0, 0.0)
            values, code = wall_lines(v, axes, widths, a, values, data or {})
            lines += code
            pieces = continuation(v, axes, a, 0, parity[a], (width, width), role, values)
            lines += concatenate(v, pieces, a - len(axes), LINE - 8)
    return lines


def _continuing(axes: tuple[Axis, ...]) -> tuple[Any, ...]:
    """What decides how a field continues: the coordinates do only where walls read them."""
    varying = any(axis.varying for axis in axes)
    return tuple(axis if varying else axis.sides for axis in axes)


def _local(name: str) -> bool:
    """Is it what a variable of `extend` is called?"""
    return name in _RESERVED or name in ("low_value", "high_value") or name.startswith("at_")


def wall_lines(
    v: str,
    axes: tuple[Axis, ...],
    widths: Sequence[int],
    a: int,
    values: tuple[Any, Any],
    data: Mapping[Any, tuple[str, Sequence[int]]],
) -> tuple[tuple[Any, Any], list[str]]:
    """Names for the values of the walls across axis `a` that vary, and the statements that compute them. The axes
    before it have their ghost nodes already."""
    names, lines, found = {t: "t"}, list[str](), list[Any]()
    d, read = len(axes), set().union(*(explicit_symbols(e) for e in values if isinstance(e, sp.Expr)))
    for b, axis in enumerate(axes):
        x = sp.Symbol(axis.name, real=True)
        if x in read:
            at, ring = f"at_{axis.name}", widths[b] if b < a else 0
            h, first = literal(float(axis.spacing)), literal(axis.coordinate(-2 * ring))
            lines += [
                f"{at} = torch.arange({v}.shape[{b - d}], device={v}.device)",
                f"{at} = ({first} + {h} * {at}.double()).to({v}.dtype)",
            ]
            if b < d - 1:
                lines.append(f"{at} = {at}[:{', None' * (d - 1 - b)}]")
            names[x] = at
    for end, value in zip(("low_value", "high_value"), values, strict=True):
        if not isinstance(value, sp.Expr):
            found.append(value)
            continue
        known = dict(names)
        for f, (name, wide) in data.items():
            if value.has(f):
                cut = [w - widths[b] if b < a else w for b, w in enumerate(wide)]
                window = [f"{c or ''}:{-c or ''}" for c in cut]
                window[a] = f"{cut[a]}:{cut[a] + 1}" if end == "low_value" else f"-{cut[a] + 1}:{-cut[a] or ''}"
                s = sp.Dummy(name)
                value, known[s] = value.xreplace({f: s}), name + subscript(window)
        lines += assign(end, torch_code(value, known, frozenset(known.values())), LINE - 8)
        found.append(end)
    return (found[0], found[1]), lines


def _factor(e: sp.Expr) -> str:
    shown = notation.show(e)
    return "" if e == 1 else f"({shown}) " if e.is_Add or shown.startswith("-") else f"{shown} "


def _offset(j: tuple[int, ...]) -> str:
    halves = [str(i // 2) if i % 2 == 0 else f"{i}/2" for i in j]
    return halves[0] if len(halves) == 1 else f"({', '.join(halves)})"


def signature(name: str, arguments: Sequence[str], returns: str) -> list[str]:
    """`def name(…) -> …:` as the formatter lays it out inside a class."""
    room = LINE - 4 - len(f" -> {returns}:")
    *lines, last = call(f"def {name}", arguments, room)
    return [*lines, f"{last} -> {returns}:"]


def wrapped(text: str) -> list[str]:
    """A long f-string as several, one per line."""
    lines, current = [], ""
    for word in text.split(" "):
        if len(current) + len(word) > 60:
            lines.append(current)
            current = ""
        current += word + " "
    return [*lines, current.rstrip()]


def _number(e: sp.Expr | None) -> str:
    return 'float("inf")' if e in (None, sp.oo) else literal(float(e))


def literal_of(value: Any, indent: int = 0) -> str:
    """A Python literal the way the formatter lays it out, one entry per line."""
    pad = " " * (indent + 4)
    if isinstance(value, dict):
        rows = [f"{pad}{literal_of(k)}: {literal_of(v, indent + 4)},\n" for k, v in value.items()]
        return "{\n" + "".join(rows) + " " * indent + "}" if rows else "{}"
    if isinstance(value, list):
        rows = [f"{pad}{literal_of(v, indent + 4)},\n" for v in value]
        return "[\n" + "".join(rows) + " " * indent + "]" if rows else "[]"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\")
        return f'"{escaped}"' if '"' not in escaped else repr(escaped)
    return 'float("inf")' if value == math.inf else repr(value)

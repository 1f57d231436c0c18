"""The compiler: from a PDE to the source of the network that it is.

    problem   = canonical(pde)                      the equation, sorted into −κ D*Φ(D u) and r(u)
    system    = space.discretise(problem, grid)     du/dt = −Σ κ KᵀG(u)K u + r(u), every value located
    report    = analyse(system, scheme)             which stability holds, up to which τ
    graph     = scheme.step(f, u, τ)                the scheme, run on graph values
    stages    = optimise(graph)                     common subexpressions, flat sums, no dead code
    plan      = plan_solves(system, …, graph)       how implicit steps are solved
    source    = emit(network)                       torch, one block per step

`compile_pde` is these lines. A steady problem has no steps: `elliptic` prepares A(u) = b for every spacing, `judge`
what is known of a multigrid cycle, and `emit_cycle` prints it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as _distribution_version
from typing import Any

import networkx as nx
import sympy as sp

from .bounds import channelled
from .cycle_graph import cycle_graph
from .cycle_reference import CycleReference
from .cycle_report import CycleReport, CycleTraining, judge
from .discretise import TAU, SemiDiscrete
from .elliptic import Elliptic, elliptic, implicit_step
from .emit import Network, Training, emit
from .emit_cycle import embed_cycle, emit_cycle
from .energy import energy_graph
from .errors import DeclarationError, SchemeError, suggest
from .fields import FluxWeight, Parameter, t
from .graph import Builder, Value
from .grid import Grid
from .implicit import Plan, plan_solves
from .learned_flux import LearnedFlux
from .nonlinearity import recognise
from .ops import Input
from .passes import optimise
from .problem import PDE, FluxTerm, Problem, canonical
from .reference import Reference
from .schemes import SCHEMES, Scheme
from .spaces import Space
from .stability import Report, analyse


def version() -> str:
    try:
        return _distribution_version("pdeloom")
    except PackageNotFoundError:
        return "unreleased"


@dataclass(frozen=True)
class Compiled:
    """What the compiler hands to the runtime."""

    name: str
    problem: Problem
    system: SemiDiscrete
    scheme: Scheme
    training: Training | CycleTraining
    report: Report | CycleReport
    stages: tuple[tuple[str, nx.DiGraph], ...]
    source: str
    plan: Plan | None = None
    elliptic: Elliptic | None = None
    """What multigrid sees of a steady problem."""

    @property
    def graph(self) -> nx.DiGraph:
        return self.stages[-1][1]

    def reference(self) -> Reference | CycleReference:
        values = {p.name: p.value for p in self.problem.parameters}
        if self.elliptic is not None:
            return CycleReference(self.elliptic, values)
        assert isinstance(self.report, Report)
        return Reference(self.system, self.scheme, self.report.tau, values, self.report.own)


def compile_pde(
    pde: PDE,
    grid: Grid,
    space: Space,
    scheme: Scheme,
    trainable: Sequence[Any] = (),
    shared: bool = False,
    guarantee: str | None = None,
    unstable: str = "refuse",
) -> Compiled:
    """Compile; the arguments are those of `pdeloom.compile`."""
    problem = canonical(pde)
    problem.check_numbers("compile", sys.float_info.min, sys.float_info.max)
    _check_time_order(problem, scheme)
    if problem.time_order == 0:
        return _compile_steady(problem, grid, space, scheme, trainable, shared, guarantee)
    system = space.discretise(problem, grid)
    if not scheme.euler and any(flux.term.kappa.has(TAU) for flux in system.fluxes):
        raise SchemeError(f"{system.method} is made for explicit Euler steps, not for {scheme.title}; use 'upwind'")
    training = _training(problem, trainable, shared)
    for flux in system.fluxes:
        if flux.bank is not None and flux.bank.own_fluxes and not channelled(flux, training.parameters):
            raise SchemeError(
                f"FilterBank(own_fluxes=True): no parameter of the flux of {flux.bank.label} is trained, and channels "
                f"have nothing of their own; name it in trainable, or leave own_fluxes out"
            )
    mixed = next((bank for bank in system.banks if bank.mixed), None)
    if mixed is not None and not training.stencils:
        raise SchemeError(
            f"FilterBank(joint='learned'): what the channels of {mixed.label} read of each other is trained with the "
            f"filters; name 'stencil' in trainable, or use joint=True"
        )
    if training.stencils and system.mixed:
        raise SchemeError(
            "trainable=['stencil']: the stencils of a diffusion tensor, mixed derivatives or cross-diffusion cannot be "
            "trained yet; train its parameters"
        )
    report = analyse(system, scheme, training.parameters, training.stencils, guarantee, allow=unstable == "allow")
    jacobian = report.operator.jacobian
    stages = optimise(step_graph(system, scheme, secants=jacobian is None or jacobian[0] < 0))
    start = start_graph(system, scheme)
    advance = _advance(problem, scheme, training) if problem.timed else None
    graph = stages[-1][1]
    plan = plan_solves(system, scheme, graph, report)
    name = _class_name(problem, system)
    cycles = None
    if plan is not None and plan.method == "multigrid":
        if training.stencils:
            raise SchemeError(
                "trainable=['stencil'] with solver=Multigrid(…): its coarse grids need the stencils at every spacing, "
                "and trained ones are known at one; train something else, or use another solver"
            )
        inner = implicit_step(problem, grid, space, scheme, plan.solver.cycles, report.tau)
        cycles = embed_cycle(inner, f"{name}Cycles")
    energy = None if training.stencils else energy_graph(system)
    if energy is not None:
        energy = optimise(energy)[-1][1]
    source = emit(
        Network(system, scheme, graph, start, energy, report, plan, cycles, training, name, version(), advance)
    )
    return Compiled(name, problem, system, scheme, training, report, stages, source, plan)


def _compile_steady(
    problem: Problem,
    grid: Grid,
    space: Space,
    scheme: Any,
    trainable: Sequence[Any],
    shared: bool,
    guarantee: str | None,
) -> Compiled:
    """The U-net of a steady problem."""
    prepared = elliptic(problem, grid, space, scheme)
    parameters, words = _chosen(problem, trainable, ("smoother", "transfer", "coarse"))
    training = CycleTraining(parameters, words, shared)
    report = judge(prepared, training, guarantee)
    system = space.discretise(problem, grid)
    name = _class_name(problem, system)
    source = emit_cycle(prepared, training, report, name, version())
    stages = (*prepared.stages, ("cycle", cycle_graph(prepared)))
    return Compiled(name, problem, system, scheme, training, report, stages, source, elliptic=prepared)


def step_graph(system: SemiDiscrete, scheme: Scheme, secants: bool = False) -> nx.DiGraph:
    """One step of the scheme, run on graph values."""
    builder = Builder(system.axes, secants)
    name = system.problem.state
    old = [system.state(builder, name + "_old" * i, t - i * TAU) for i in range(scheme.memory + 1)]
    own = {n: sp.Symbol(n, positive=True) for n in scheme.own}
    f: Any = system.right_hand_side(builder)
    if scheme.anchored:
        f = f.frozen(system.state(builder, f"{name}_start"))
    new = scheme.step(f, old[0], TAU, *old[1:], **own)
    return builder.finish(new.name)


def start_graph(system: SemiDiscrete, scheme: Scheme) -> nx.DiGraph | None:
    """The first states of a scheme with a start of its own, else None."""
    if type(scheme).start is Scheme.start:
        return None
    builder = Builder(system.axes)
    u = system.state(builder)
    velocity: tuple[Value, ...] = ()
    if system.problem.time_order == 2:
        velocity = (builder.value(Input("velocity", "initial", u.place.parity), hint="velocity"),)
    states = scheme.start(system.right_hand_side(builder), u, TAU, *velocity)
    return optimise(builder.finish(*(s.name for s in states)))[-1][1]


def _advance(problem: Problem, scheme: Scheme, training: Training) -> sp.Expr:
    """How far a layer goes in time."""
    name = type(scheme).__name__
    if scheme.cyclic and (scheme.memory or scheme.anchored):
        raise SchemeError(
            f"{name}: the layers of its cycles stand at times of their own, and the equation reads t; use a "
            f"Runge–Kutta scheme, RKL, or FED without freeze"
        )
    if scheme.memory and training.tau and not training.shared:
        raise SchemeError(
            f"{name} with a trained tau in every step: its earlier states stand at multiples of one tau, and the "
            f"equation reads t; train one, with shared=True"
        )
    found = scheme.advance(TAU, problem.time_order)
    if found.has(t):
        raise SchemeError(f"{name}.step does not go on in time by a multiple of tau: {found}; the equation reads t")
    return found


def _check_time_order(problem: Problem, scheme: Scheme) -> None:
    if problem.time_order not in scheme.time_orders:
        able = [name for name, cls in SCHEMES.items() if problem.time_order in cls.time_orders]
        raise SchemeError(
            f"{type(scheme).__name__} serves equations of order {scheme.time_orders} in time, this one has order "
            f"{problem.time_order}; schemes that can: {', '.join(able) or 'none yet'}"
        )


def _training(problem: Problem, trainable: Sequence[Any], shared: bool) -> Training:
    chosen, words = _chosen(problem, trainable, ("tau", "stencil"))
    return Training(chosen, "stencil" in words, "tau" in words, shared)


def _chosen(
    problem: Problem, trainable: Sequence[Any], valid: tuple[str, ...]
) -> tuple[frozenset[Parameter], frozenset[str]]:
    """The parameters and the words among `valid` that are to be trained."""
    words, chosen = set(), set()
    for item in trainable if not isinstance(trainable, (str, Parameter)) else [trainable]:
        by_name = {p.name: p for p in problem.parameters}
        if isinstance(item, Parameter) and item in problem.parameters:
            chosen.add(item)
        elif str(item) in by_name:
            chosen.add(by_name[str(item)])
        elif isinstance(item, LearnedFlux) and set(item.parameters) <= set(problem.parameters):
            chosen.update(item.parameters)
        elif found := [p for p in problem.parameters if isinstance(p, FluxWeight) and item in ("flux", p.flux)]:
            chosen.update(found)
        elif item == "flux":
            raise DeclarationError("trainable='flux': the PDE has no loom.learned_flux(…); name its parameters")
        elif item in valid:
            words.add(item)
        else:
            raise DeclarationError(f"trainable={item!r}: {suggest(str(item), [*by_name, *valid, 'flux'])}")
    return frozenset(chosen), frozenset(words)


def _class_name(problem: Problem, system: SemiDiscrete) -> str:
    """The PDE's own name, else that of its diffusivity: PeronaMalik2d."""
    pde = problem.pde
    if pde.name is not None:
        words = "".join(c if c.isalnum() else " " for c in pde.name).split()
        name = "".join(w[0].upper() + w[1:] for w in words)
        if not name.isidentifier():
            raise DeclarationError(f"PDE(name={pde.name!r}): not usable as a class name")
        return name
    known = {_recognised(flux.term, problem) for flux in system.fluxes}
    word = "transport" if system.transports or system.laws else known.pop() if len(known) == 1 else "diffusion"
    return "".join(w.capitalize() for w in word.split("-")) + f"{problem.dimension}d"


def _recognised(term: FluxTerm, problem: Problem) -> str:
    squares = sp.Add(*(s**2 for s, _ in term.slots))
    name = None if term.diffusivity is None else recognise(term.diffusivity, squares, problem.parameters)
    plain = "heat" if problem.time_order else "poisson"
    return plain if name == "linear" else name or "diffusion"

"""Steady problems as multigrid sees them: A(u) = b on grids of every spacing, and how the grids follow one another.

    f(u) = 0  with  f(u) = b − A(u),   b = r₀(data) the part of the pointwise terms without u

The graphs of A, of its derivative and of its secant G(u)K (diffusivities kept at u) are built once, with the spacings
as scalars, so that one printed operator serves every level.

Which axes a coarser grid halves follows the rule of semi-coarsening: those along which A couples most strongly, until
all couple alike (Trottenberg, Oosterlee, Schüller, Multigrid, 2001, section 5.1). Every grid is uniform and keeps the
boundaries where they are. So an axis of n nodes has the length (n − 1 + δ)h, δ the distance of the two boundaries from
the outermost nodes in spacings, and the coarser one of m nodes the spacing h·(n − 1 + δ)/(m − 1 + δ):

    cells       boundaries on faces (NoFlux, Dirichlet on a cell-centred grid)    δ = 1    m = ⌈n/2⌉
    nodes       boundaries on nodes (Dirichlet, vertex-centred)                   δ = 2    m = ⌊n/2⌋
    mixed                                                                         δ = 3/2  m = ⌊n/2⌋
    periodic                                                                      δ = 1    m = ⌈n/2⌉

The spacing doubles exactly, and the transfers are short stencils, for an even number of cells or periodic nodes and an
odd one of inner nodes; for other sizes it nearly does, and linear interpolation has other weights at every node.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import networkx as nx
import sympy as sp

from . import ops
from .discretise import TAU, RightHandSide, SemiDiscrete
from .errors import BoundaryError, DeclarationError, DiscretisationError, SchemeError, UnsupportedTermError
from .fields import Data
from .filter_bank import FilterBank
from .graph import Builder, linearise, rebuild
from .grid import Axis, Grid, Mixed, Periodic, Spacing
from .layout import offsets, plan
from .passes import optimise
from .problem import Operator, Problem
from .schemes.multigrid import Multigrid
from .spaces import Space
from .stencil import Stencil, number

COARSEST = 4
"""An axis with fewer nodes than this is not halved, nor one whose half would be narrower than a ghost ring."""


@dataclass(frozen=True)
class Elliptic:
    """A(u) = b, with all that a cycle needs to know of A."""

    system: SemiDiscrete
    """On axes of spacing one, the operators carrying powers of the spacing symbols."""
    grid: Grid
    space: Space
    scheme: Multigrid

    @property
    def problem(self) -> Problem:
        return self.system.problem

    @property
    def axes(self) -> tuple[Axis, ...]:
        return self.system.axes

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """Per axis "cells", "nodes", "mixed" or "periodic"."""
        return tuple(_kind(axis) for axis in self.axes)

    @cached_property
    def linear(self) -> bool:
        """Is A linear?"""
        slope = sp.diff(self.reaction, self.problem.unknown)
        affine = not slope.has(self.problem.unknown) and sp.expand(self.reaction - slope * self.problem.unknown) == 0
        return affine and all(flux.linear for flux in self.problem.fluxes)

    @property
    def direction(self) -> str:
        """What A'(u) is applied to."""
        return "w" if str(self.problem.unknown.func) != "w" else "direction"

    @property
    def names(self) -> tuple[str, ...]:
        """The data that forward takes."""
        return tuple(str(f.func) for f in self.problem.data)

    @property
    def scalars(self) -> tuple[sp.Symbol, ...]:
        """The scalars of A and b."""
        return tuple(self.problem.parameters)

    @property
    def values(self) -> dict[str, float]:
        """Their initial values."""
        return {p.name: p.value for p in self.problem.parameters}

    @property
    def spacings(self) -> tuple[Spacing, ...]:
        return tuple(Spacing(a.name) for a in self.axes)

    @property
    def physical(self) -> tuple[float, ...]:
        """The spacings of the finest grid."""
        return tuple(float(h) for h in self.grid.spacings(len(self.axes)))

    @cached_property
    def source(self) -> sp.Expr:
        """b: what the pointwise terms hold without u."""
        return self._split[0]

    @property
    def reaction(self) -> sp.Expr:
        """The pointwise terms with u, a part of −A."""
        return self._split[1]

    @cached_property
    def _split(self) -> tuple[sp.Expr, sp.Expr]:
        u = self.problem.unknown
        parts = sp.Add.make_args(sp.expand(self.problem.pointwise))
        without = [p for p in parts if not p.has(u)]
        return sp.Add(*without), sp.Add(*(p for p in parts if p.has(u)))

    @cached_property
    def singular(self) -> bool:
        """Do constants solve A(u) = 0? Then b must have mean zero, and the mean of u is free."""
        free = all(side.parity > 0 for axis in self.axes if axis.sides for side in axis.sides)
        lowest = all(any(m) for flux in self.problem.fluxes for m, _ in flux.operator)
        return free and lowest and self.reaction == 0

    # --- graphs -------------------------------------------------------------------------------------------

    @cached_property
    def stages(self) -> tuple[tuple[str, nx.DiGraph], ...]:
        """The graph of A(u) as built and after every pass; one stencil where A has constant coefficients."""
        builder = Builder(self.axes)
        system = self.system.homogeneous if self.linear else self.system
        u = system.state(builder)
        if self.stencil is None:
            return optimise(builder.finish(self._operator(builder, u, system).name))
        A = ops.Stencil(self.stencil, "A", self.system.parity)
        return optimise(builder.finish(builder.add(A, u.name, hint="v")))

    @property
    def operator(self) -> nx.DiGraph:
        """A(u), of a linear A between walls of value 0: what other values add to it belongs to b."""
        return self.stages[-1][1]

    @cached_property
    def walled(self) -> nx.DiGraph | None:
        """A(u) of a linear A between the walls as they are; b is what the equation says minus this at u = 0."""
        if not (self.linear and self.system.walls):
            return None
        builder = Builder(self.axes)
        return _optimised(builder, self._operator(builder, self.system.state(builder), self.system).name)

    @cached_property
    def tangent(self) -> nx.DiGraph:
        """A'(u)w; its inputs are u and the direction w."""
        return self._derivative(secant=False)

    @cached_property
    def secant(self) -> nx.DiGraph:
        """A'(u)w with the diffusivities kept at u."""
        return self._derivative(secant=True)

    def _derivative(self, secant: bool) -> nx.DiGraph:
        builder = Builder(self.axes)
        u = self.system.state(builder)
        w = builder.value(ops.Input(self.direction, "state", self.system.parity), hint=self.direction)
        A = self._operator(builder, u, self.system)
        return _optimised(builder, linearise(builder, A.name, u.name, w.name, secant))

    def _operator(self, builder: Builder, u: Any, system: SemiDiscrete) -> Any:
        problem = replace(self.problem, reactions=(self.reaction,))
        system = replace(system, problem=problem)
        f = RightHandSide(system, builder, system.right_hand_side(builder).data, system.fluxes, (), 1)
        return -f(u)

    @cached_property
    def right_hand_side(self) -> nx.DiGraph | None:
        """b; None where it is a number, `source`."""
        if not self.source.atoms(Data):
            return None
        builder = Builder(self.axes)
        f = self.system.right_hand_side(builder)
        return _optimised(builder, self.system._pointwise(builder, self.source, f.data, {}, "b"))

    def unbounded(self) -> Elliptic:
        """The same problem on periodic axes."""
        problem = replace(self.problem, boundary=((Periodic(), Periodic()),) * len(self.axes))
        return replace(self, system=self.space.discretise(problem, self.system.grid))

    # --- constant coefficients ------------------------------------------------------------------------------

    @cached_property
    def stencil(self) -> Stencil | None:
        """A as one stencil, where all coefficients are constant: Σ κ K*K, whose boundary is that of u again."""
        reaction = sp.cancel(self.reaction / self.problem.unknown)
        constant = all(
            flux.local and flux.term.linear and flux.term.weight == 1 and len(flux.own[0].parts) == 1
            for flux in self.system.fluxes
        )
        if not self.linear or not constant or reaction.atoms(Data):
            return None
        taps: dict[tuple[int, ...], sp.Expr] = {}
        for flux in self.system.fluxes:
            kernel = flux.own[0].taps()
            for i, v in kernel.items():
                for j, w in kernel.items():
                    offset = tuple(b - a for a, b in zip(i, j, strict=True))
                    taps[offset] = taps.get(offset, sp.S.Zero) + flux.term.kappa * v * w
        centre = (0,) * len(self.axes)
        taps[centre] = taps.get(centre, sp.S.Zero) - reaction
        return Stencil.of({j: sp.expand(w) for j, w in taps.items() if w != 0}, self.axes)

    @cached_property
    def reach(self) -> tuple[tuple[int, ...], ...]:
        """The offsets, in nodes, at which A'(u)w reads w."""
        graph = self.operator if self.linear else self.secant
        start = self.direction if not self.linear else str(self.problem.unknown.func)
        reads: dict[str, set[tuple[int, ...]]] = {start: {(0,) * len(self.axes)}}
        for name, node in graph.nodes.items():
            moving = set().union(*(reads[a] for a in node["args"] if a in reads))
            if not moving:
                continue
            if isinstance(node["op"], (ops.Stencil, ops.AdjointStencil)):
                shifts = offsets(node["op"])
                moving = {tuple(a + b for a, b in zip(i, j, strict=True)) for i in moving for j in shifts}
            reads[name] = moving
        (result,) = graph.graph["outputs"]
        return tuple(sorted(tuple(i // 2 for i in offset) for offset in reads[result]))

    @cached_property
    def rings(self) -> dict[str, tuple[int, ...]]:
        """The widths of the ghost rings of states ("") and data, for A and its derivatives alike."""
        found: dict[str, tuple[int, ...]] = {"": (1,) * len(self.axes)}
        for graph in [self.operator] + ([] if self.linear else [self.tangent, self.secant]):
            for value, ring in plan(graph).rings.items():
                found[value] = tuple(map(max, zip(ring, found.get(value, ring), strict=True)))
        return found

    @property
    def least(self) -> tuple[int, ...]:
        """The fewest nodes per axis that a ring can be a mirror image of."""
        return tuple(map(max, zip(*self.rings.values(), strict=True)))

    @property
    def near(self) -> bool:
        """Does every node couple with its next neighbours, diagonal ones included, alone?"""
        return all(abs(i) <= 1 for j in self.reach for i in j)

    @property
    def star(self) -> bool:
        """Does every node couple with its next neighbours along the axes alone?"""
        return all(sum(map(abs, j)) <= 1 for j in self.reach)

    @property
    def restriction(self) -> str:
        """ "average" or "full-weighting"."""
        chosen = self.scheme.restriction
        return chosen if chosen != "auto" else "average" if "cells" in self.kinds else "full-weighting"

    @property
    def corners(self) -> list[tuple[int, ...]]:
        """Every second node from a corner on is relaxed at once: the corners in their order, red before black."""
        return sorted(itertools.product((0, 1), repeat=len(self.axes)), key=lambda c: (sum(c) % 2, c))

    # --- coarsening ---------------------------------------------------------------------------------------

    @cached_property
    def strengths(self) -> tuple[float, ...]:
        """How strongly A couples along each axis for h = 1: Σ|κ|·Σ|taps| of its flux terms."""
        values = self.values | {h.name: 1.0 for h in self.spacings}
        found = [0.0] * len(self.axes)
        for flux in self.system.fluxes:
            term = flux.term
            kappa = number(term.kappa, values)
            for orders, alpha in term.operator:
                for a, m in enumerate(orders):
                    if m:
                        found[a] += abs(kappa) * number(alpha, values) ** 2
        return tuple(found)

    @cached_property
    def order(self) -> int:
        """The order of A in space."""
        return 2 * max(sum(m) for flux in self.problem.fluxes for m, _ in flux.operator)

    @cached_property
    def semi(self) -> tuple[tuple[int, ...], ...]:
        """The axes that the first levels halve; after these all are halved along which A couples."""
        h, levels = list(self.physical), list[tuple[int, ...]]()
        while True:
            strength = [s / step**self.order for s, step in zip(self.strengths, h, strict=True)]
            chosen = tuple(a for a, s in enumerate(strength) if s > max(strength) / 2**self.order * 1.5)
            if chosen == self.coupled:
                return tuple(levels)
            levels.append(chosen)
            for a in chosen:
                h[a] *= 2

    @property
    def coupled(self) -> tuple[int, ...]:
        """The axes along which A has derivatives."""
        return tuple(a for a, s in enumerate(self.strengths) if s)

    def halved(self, level: int) -> tuple[int, ...]:
        """The axes along which level + 1 has twice the spacing of `level`."""
        return self.semi[level] if level < len(self.semi) else self.coupled

    def shapes(self, shape: Sequence[int]) -> list[tuple[int, ...]]:
        """The grids from the finest to the coarsest. Raises `DiscretisationError` if there are fewer than asked."""
        found = [tuple(shape)]
        wanted = self.scheme.levels
        while wanted is None or len(found) < wanted:
            chosen, size = self.halved(len(found) - 1), found[-1]
            if any(size[a] < COARSEST or half(self.kinds[a], size[a]) < self.least[a] for a in chosen):
                break
            found.append(tuple(half(self.kinds[a], n) if a in chosen else n for a, n in enumerate(size)))
        if wanted is not None and len(found) < wanted:
            raise DiscretisationError(f"a grid of {tuple(shape)} has {len(found)} levels, not {wanted}; lower levels")
        return found


@dataclass(frozen=True)
class ImplicitStep(Elliptic):
    """The system of one implicit step, whose residual is R(v) = v − … − τf(v).

    A linear R gives A(w) = b for the correction w of the first guess, A its derivative. Of a nonlinear one A are the
    terms that contain v, and A(v) = A(guess) + b. b is minus the residual of the guess in both. What A reads of the
    old state travels to the coarser grids like data, and so does the step size.
    """

    steps: Any = None
    """The time scheme."""
    tau: float = 1.0

    @property
    def lagged(self) -> str:
        """The old state."""
        return self._free(f"{self.problem.unknown.func}_k")

    @property
    def right(self) -> str:
        """The right-hand side."""
        return self._free("b")

    def _free(self, name: str) -> str:
        """A name that no data field has."""
        while name in {str(f.func) for f in self.problem.data}:
            name += "_"
        return name

    @property
    def scalars(self) -> tuple[sp.Symbol, ...]:
        return (*self.problem.parameters, TAU)

    @property
    def values(self) -> dict[str, float]:
        return {**super().values, TAU.name: self.tau}

    @property
    def names(self) -> tuple[str, ...]:
        return (self.right, self.lagged, *super().names)

    @cached_property
    def linear(self) -> bool:
        graph, v, _, _, tangent, _ = self._residual
        return v not in nx.ancestors(graph, tangent)

    @property
    def singular(self) -> bool:
        return False

    @property
    def stencil(self) -> None:
        return None

    @property
    def walled(self) -> None:
        return None

    @cached_property
    def stages(self) -> tuple[tuple[str, nx.DiGraph], ...]:
        _, _, _, residual, tangent, _ = self._residual
        return self._part(tangent if self.linear else residual, whole=False)

    def _derivative(self, secant: bool) -> nx.DiGraph:
        return self._part(self._residual[5 if secant else 4], whole=True)[-1][1]

    @cached_property
    def _residual(self) -> tuple[nx.DiGraph, str, str, str, str, str]:
        """The graph of a step, and in it the unknown v, a direction w, R(v), R'(v)w and its secant."""
        builder = Builder(self.axes, secants=True)
        u = self.system.state(builder)
        new = self.steps.step(self.system.right_hand_side(builder), u, TAU)
        graph = builder.graph
        assert new.name in graph
        solves = (n["args"] for _, n in graph.nodes(data=True) if isinstance(n["op"], ops.Solve))
        R, v, _, w, tangent, secant = next(solves)
        return graph, v, w, R, tangent, secant

    def _part(self, output: str, whole: bool) -> tuple[tuple[str, nx.DiGraph], ...]:
        """The graph of one output, whose state is v or, of a linear A, w. Unless `whole`, without terms free of v."""
        graph, v, w, *_ = self._residual
        graph = graph.copy()
        own, parity, walls = str(self.problem.unknown.func), self.system.parity, self.system.walls
        renamed = {own: ops.Input(self.lagged, "data", parity, walls)}
        if self.linear:
            renamed[w] = ops.Input(own, "state", parity)
        else:
            renamed |= {v: ops.Input(own, "state", parity, walls), w: ops.Input(self.direction, "state", parity)}
        for name, op in renamed.items():
            graph.nodes[name].update(op=op, hint=op.name)
        graph.graph["outputs"] = (output,)
        moving = nx.descendants(graph, v) | {v}

        def visit(builder: Builder, op: ops.Op, arguments: tuple[str, ...], hint: str) -> str:
            if isinstance(op, ops.Ghost):  # states carry their rings here
                return arguments[0]
            return builder.add(op, *arguments, hint=hint)

        if not (whole or self.linear):
            graph = _terms(graph, output, moving)
        needed = nx.ancestors(graph, output) | {output}
        return optimise(rebuild(graph, visit, keep=lambda name, op: name in needed))

    @cached_property
    def right_hand_side(self) -> nx.DiGraph:
        builder = Builder(self.axes)
        b = builder.value(ops.Input(self.right, "data", tuple((1, 1) for _ in self.axes)), hint=self.right)
        return builder.finish(b.name)


def _terms(graph: nx.DiGraph, output: str, moving: set[str]) -> nx.DiGraph:
    """The graph without the terms of nested sums at its output that do not move."""
    node = graph.nodes[output]
    if not isinstance(node["op"], ops.Combination):
        return graph
    kept = [(c, a) for c, a in zip(node["op"].coefficients, node["args"], strict=True) if a in moving]
    for _, argument in kept:
        graph = _terms(graph, argument, moving)
    graph.remove_edges_from([(a, output) for a in node["args"]])
    graph.add_edges_from((a, output) for _, a in kept)
    node.update(op=ops.Combination(tuple(c for c, _ in kept)), args=tuple(a for _, a in kept))
    return graph


def half(kind: str, n: int) -> int:
    """The nodes of the coarser axis."""
    return (n + 1) // 2 if kind in ("cells", "periodic") else n // 2


DELTA = {"cells": 1.0, "nodes": 2.0, "mixed": 1.5, "periodic": 1.0}


def elliptic(problem: Problem, grid: Grid, space: Space, scheme: Multigrid) -> Elliptic:
    """A steady problem for multigrid.

    Raises `UnsupportedTermError` for transport and for what makes it singular in ways not provided for, and
    `SchemeError` for what the smoother or the coarse operator cannot serve.
    """
    return _checked(Elliptic(_scaled(problem, grid, space), grid, space, scheme))


def implicit_step(
    problem: Problem, grid: Grid, space: Space, scheme: Any, cycles: Multigrid, tau: float
) -> ImplicitStep:
    """The system that `scheme` solves in every step, for the cycles that solve it; raises like `elliptic`."""
    return _checked(ImplicitStep(_scaled(problem, grid, space), grid, space, cycles, scheme, tau))


def _scaled(problem: Problem, grid: Grid, space: Space) -> SemiDiscrete:
    """The problem on axes of spacing one, with the spacings as symbols."""
    if isinstance(space, FilterBank):
        raise SchemeError(
            "Multigrid needs the operator at every spacing, and filters are known at one; use FiniteDifference, or "
            "another solver"
        )
    if getattr(space, "closure", "mirror") != "mirror":
        raise DiscretisationError("one-sided closures under multigrid are not supported yet; use closure='mirror'")
    other = next((b for pair in problem.boundary for b in pair if isinstance(b, Mixed) and b.side("cell").mixed), None)
    if other is not None:
        raise BoundaryError(f"{other!r} under multigrid is not supported yet; use Dirichlet, NoFlux or Periodic")
    if problem.transport or problem.laws:
        raise UnsupportedTermError("a first derivative under multigrid is not supported yet; only fluxes are")
    if problem.mixed or problem.features:
        raise UnsupportedTermError(
            "diffusion tensors, mixed derivatives, cross-diffusion and smoothed values under multigrid are not "
            "supported yet; use another solver"
        )
    for value in problem.wall_values:
        raise BoundaryError(f"the value {value} of a wall varies, which multigrid cannot serve yet; give a number")
    if problem.explicit:
        raise UnsupportedTermError(
            f"an equation that reads {min(map(str, problem.explicit))} itself under multigrid is not supported yet; "
            f"pass what varies as loom.data(…)"
        )
    powers = [Spacing(str(x)) for x in problem.coordinates]

    def scaled(operator: Operator) -> Operator:
        return tuple((m, a * sp.Mul(*(h**-n for h, n in zip(powers, m, strict=True)))) for m, a in operator)

    fluxes = tuple(
        replace(term, operator=scaled(term.operator), slots=tuple((s, scaled(o)) for s, o in term.slots))
        for term in problem.fluxes
    )
    return space.discretise(replace(problem, fluxes=fluxes), Grid(centering=grid.centering))


E = TypeVar("E", bound=Elliptic)


def _checked(found: E) -> E:
    """Refuse what the smoother or the coarse operator cannot serve."""
    scheme, kinds = found.scheme, found.kinds
    if scheme.first == "full" and found.system.walls:
        raise SchemeError(
            "Multigrid(first='full') interpolates solutions, and does so towards walls of value 0 alone; leave it out"
        )
    weights = {flux.weight for flux in found.problem.fluxes} - {sp.S.One}
    if found.singular and weights:
        raise UnsupportedTermError(
            f"{weights.pop()} multiplies a divergence, and neither a Dirichlet side nor a reaction fixes u: such a "
            f"problem is singular; divide the equation by the weight"
        )
    slope = sp.diff(found.reaction, found.problem.unknown)
    at_start = slope.xreplace({p: sp.nsimplify(p.value) for p in found.problem.parameters})
    if found.reaction != 0 and sp.expand(at_start) == 0:
        raise DeclarationError(
            f"the reaction {found.reaction} vanishes for the initial values of its parameters; leave it out, or give "
            f"them others"
        )
    if scheme.smoother == "red-black" and not found.star:
        raise SchemeError(
            "smoother='red-black' needs an operator that couples next neighbours along the axes alone, and this one "
            "reaches further; use smoother='chebyshev' or 'jacobi'"
        )
    for name, value, plain in (
        ("prolongation", scheme.prolongation, "linear"),
        ("restriction", found.restriction, "full-weighting"),
    ):
        if value != plain and "cells" not in kinds:
            raise SchemeError(f"Multigrid({name}={value!r}) is for axes of cells, and there is none; use {plain!r}")
    if scheme.coarse == "galerkin" and not found.linear:
        raise SchemeError("Multigrid(coarse='galerkin'): R A P is for a linear A; use coarse='rediscretised'")
    if scheme.coarse == "galerkin" and (not found.near or "mixed" in kinds):
        raise SchemeError(
            f"Multigrid(coarse='galerkin') is for operators of next neighbours and walls all on nodes or all on faces, "
            f"and the axes here are {', '.join(kinds)}; use coarse='rediscretised'"
        )
    if scheme.coarse == "galerkin" and "cells" in kinds and found.restriction != "average":
        raise SchemeError(
            "Multigrid(coarse='galerkin', restriction='full-weighting'): on axes of cells R A P would reach beyond "
            "next neighbours; use restriction='average'"
        )
    return found


def _kind(axis: Axis) -> str:
    if axis.sides is None:
        return "periodic"
    planes = {side.plane for side in axis.sides}
    return {"face": "cells", "node": "nodes"}[planes.pop()] if len(planes) == 1 else "mixed"


def _optimised(builder: Builder, output: str) -> nx.DiGraph:
    return optimise(builder.finish(output))[-1][1]

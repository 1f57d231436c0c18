"""Problem in, semi-discrete system out:  du/dt = f(u) = −Σ_c κ_c K_cᵀ G_c(u) K_c u − Σ_a v_a T_a u + r(u).

Where the diffusivity lives decides everything else:

* a flux that reads D u alone is taken where D u lies:  K, Φ, Kᵀ (separable diffusion, fourth-order flows);
* a diffusivity that couples directions, or reads u or data, lives on the nodes, as the gradient of the energy
  E = ½ Σ_i Ψ((M(Ku)²)_i) demands: M averages the *squared* differences to the nodes and Mᵀ the diffusivity
  back to the faces, so f is minus the exact gradient of E. (Averaging |∇u|² to the faces is no gradient
  flow; averaging the differences themselves is blind to the checkerboard.)

At accuracy 4 an average with positive weights, which the energy needs, is only second order. There the second
kind uses differences centred on the nodes, of order 4 but blind to the checkerboard, and with each of them
(h³/8) δ⁺δ⁺δ⁺ D, which is of order h³ and sees it: together they have the norm of the short difference, 2/h.

The entries of a diffusion tensor off its diagonal, ∂ₓ(b ∂ᵧu), take the means of the differences themselves: with
a, b, c at the nodes f is minus the gradient of E = ½ Σ_i (a M(Kₓu)² + 2b (MKₓu)(MKᵧu) + c M(Kᵧu)²)_i. As M(s²) ≥ (Ms)²,
0 ≤ E ≤ ½ sup λ(T) ‖Ku‖² wherever 0 ≤ T, and the checkerboard is seen by a and c.

Transport is a centred difference T, skew on a periodic axis. A finite volume method with the numerical flux
v(u₋ + u₊)/2 − (q/2)(u₊ − u₋) is that and the viscosity (qh/2) KᵀK (LeVeque, Finite Volume Methods for Hyperbolic
Problems, 2002, section 4.6).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import networkx as nx
import sympy as sp

from . import ops
from .bank import Bank
from .conservation import RECONSTRUCTIONS, DiscreteLaw, wave_speed
from .errors import (
    BoundaryError,
    DeclarationError,
    DiscretisationError,
    SchemeError,
    UnsupportedTermError,
    strict,
    suggest,
)
from .fields import Data, Unknown, shift_of, t
from .graph import Builder, Value
from .grid import ONE_SIDED, Axis, Grid, Location, Parity, Periodic, Side, Walls, at_time, axes_of, symmetry
from .notation import show_operator
from .pointwise import computable, parity_of
from .problem import FIELDS, FluxTerm, Law, MixedTerm, Operator, Problem, TransportTerm, explicit_symbols
from .stencil import ACCURACIES, Stencil
from .tensors import Feature, Smoothed, TensorEntry

NEW = sp.Symbol("t new", real=True)
"""The time of the state u in f.frozen(at)(u); no parameter can have this name."""

Fields = ops.Fields

TAU = sp.Symbol("tau", positive=True)
"""The step size, in schemes and in fluxes that depend on it."""

FROZEN = "frozen at"
"""The input of f.frozen(at)(u) that holds the state `at`; no field can have this name."""


@dataclass(frozen=True)
class FiniteDifference:
    """Finite differences of accuracy `order`: 2 or 4, and 6 or 8 for fluxes that read D u alone.

    Beyond a wall values are mirrored (`closure="mirror"`): exact adjoints and proofs, and the full order for solutions
    that are even or odd about it. With "one-sided" they are extrapolated through the condition: the full order for any
    solution, for transport and fluxes of first derivatives (above order 2 those that read one alone), beside every
    condition; nothing is proved then.
    """

    order: int = 2
    closure: str = "mirror"

    def __post_init__(self) -> None:
        if not isinstance(self.order, int) or self.order not in ACCURACIES:
            raise DiscretisationError(f"FiniteDifference(order={self.order!r}): valid orders: 2, 4, 6, 8")
        if self.closure not in ("mirror", "one-sided"):
            valid = suggest(str(self.closure), ["mirror", "one-sided"])
            raise DiscretisationError(f"FiniteDifference(closure={self.closure!r}): {valid}")

    def discretise(self, problem: Problem, grid: Grid) -> SemiDiscrete:
        problem = _linear_waves(problem)
        names = tuple(map(str, problem.coordinates))
        axes = axes_of(names, problem.boundary, grid)
        each = zip(problem.sides, problem.shifts, strict=True) if problem.boundaries or problem.staggered else ()
        fields = tuple(axes_of(names, sides, grid, shift) for sides, shift in each)
        if self.closure == "one-sided":
            _check_one_sided(problem, self.order)
            axes, fields = self._closed(axes), tuple(map(self._closed, fields))
        every = fields or (axes,) * len(problem.unknowns)
        if problem.staggered:
            _check_staggered(problem)
            none = (Side("face", 1), Side("face", 1))
            first = zip(*fields, strict=True)
            axes = tuple(
                next((a for a in one if not a.shift), replace(one[0], shift=0, sides=one[0].sides and none))
                for one in first
            )
        fluxes = tuple(self._flux(term, every) for term in problem.fluxes)
        _check_planes(problem, fields)
        for i, one in enumerate(fields or (axes,)):
            reading = [f for f in fluxes if not fields or i in f.term.fields]
            _check_corners(one, reading, any(i in (m.component, m.of) for m in problem.mixed))
            _check_open(one, reading, self.order)
            _check_varying(one, reading, problem)
        transports = tuple(self._transport(term, every) for term in problem.transport)
        mixed = tuple(self._mixed(term, every) for term in problem.mixed)
        if problem.features and any(axis.open for one in every for axis in one):
            raise BoundaryError("smooth(…) beside Neumann and Robin conditions is not supported yet; use NoFlux()")
        method = f"finite differences of order {self.order}" + ", one-sided at walls" * (self.closure == "one-sided")
        return SemiDiscrete(
            problem, grid, axes, fluxes, transports, method, mixed=mixed, order=self.order, fields=fields
        )

    def _closed(self, axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
        """The axes with one-sided closures."""
        return tuple(axis.closed_by(self.order) for axis in axes)

    def _mixed(self, term: MixedTerm, fields: Fields) -> DiscreteMixed:
        if self.order > 2:
            raise DiscretisationError(
                f"diffusion tensors, mixed derivatives and cross-diffusion have order 2, not {self.order}; use "
                f"FiniteDifference(order=2)"
            )
        axes = fields[term.component] + fields[term.of]
        if any(axis.open and not axis.one_sided for axis in axes):
            raise BoundaryError(
                "diffusion tensors, mixed derivatives and cross-diffusion beside Neumann and Robin conditions need "
                "FiniteDifference(2, 'one-sided'); or use NoFlux(), Dirichlet(…) or Periodic()"
            )
        if any(side.closure and side.mixed == (0, 1) and side.value == 0 for axis in axes for side in axis.sides or ()):
            raise BoundaryError(
                "one-sided closures make of NoFlux() the condition ∂u/∂n = 0, and a diffusion tensor, a mixed "
                "derivative or cross-diffusion lets something flow then; use closure='mirror'"
            )
        if len(held := frozenset().union(*(axis.held for axis in axes if not axis.one_sided))) > 1:
            raise BoundaryError(
                f"diffusion tensors, mixed derivatives and cross-diffusion between walls of the values "
                f"{', '.join(sorted(map(_shown, held)))} are not supported yet; give all one value"
            )
        ends = ((term.outer, term.component), (term.inner, term.of))
        E, K = (Stencil.build({orders: sp.S.One}, fields[i]) for orders, i in ends)
        return DiscreteMixed(term, E, K)

    def _transport(self, term: TransportTerm, fields: Fields) -> Transport:
        axes, into, a = fields[term.of], fields[term.component], term.axis
        if not axes[a].periodic and not axes[a].one_sided and axes[a].shift == into[a].shift:
            what = "transport" if term.order == 1 else "dispersion"
            cure = f", or stagger one of two fields along it, loom.field(…, staggered={axes[a].name})"
            raise BoundaryError(
                f"{what} along {axes[a].name} needs a periodic axis; set {axes[a].name}: Periodic(), or use "
                f"FiniteDifference(closure='one-sided')" + cure * (term.of != term.component)
            )
        along = tuple(term.order * (i == a) for i in range(len(axes)))
        if any(one.shift != other.shift for one, other in zip(axes, into, strict=True)):
            return Transport(term, Stencil.across(along, axes, into, self.order))
        return Transport(term, Stencil.build({along: sp.S.One}, axes, self.order, target=(0,) * len(axes)))

    def _flux(self, term: FluxTerm, fields: Fields) -> DiscreteFlux:
        if term.local:
            K = Stencil.build(dict(term.slots[0][1]), fields[term.component], self.order)
            return DiscreteFlux(term, ((K,),), local=True)
        if term.diffusivity is None:
            raise UnsupportedTermError(f"the flux {term.flux} is not g·s with a diffusivity g that is finite at s = 0")
        for s, _ in term.slots:
            if parity_of(term.diffusivity, {s: -1}) != 1:
                raise UnsupportedTermError(
                    f"the diffusivity {term.diffusivity} is not even in {s}; only squares of derivatives can be "
                    f"averaged to the nodes, as in norm2(grad(u))"
                )
        slots = zip(term.slots, term.fields, strict=True)
        return DiscreteFlux(term, tuple(self._nodal(operator, fields[i]) for (_, operator), i in slots), local=False)

    def _nodal(self, operator: Operator, axes: tuple[Axis, ...]) -> tuple[Stencil, ...]:
        short = Stencil.build(dict(operator), axes, self.order)
        if self.order == 2 or not any(short.target):
            return (short,)
        if len(operator) > 1 or sum(short.target) > 1:
            raise DiscretisationError(
                "a diffusivity that couples mixed derivatives needs order 2; use FiniteDifference(order=2)"
            )
        if self.order > 4:
            raise DiscretisationError(
                f"a diffusivity that couples directions, or reads the field or data, has order 2 or 4, not {self.order}"
            )
        ((orders, coefficient),) = operator
        a = short.target.index(1)
        h = axes[a].spacing
        damping = {
            tuple(m + 3 * (i == a) for i, m in enumerate(orders)): coefficient
            * sp.Rational(h.numerator, h.denominator) ** 3
            / 8
        }
        nodes = (0,) * len(axes)
        return Stencil.build({orders: coefficient}, axes, 4, target=nodes), Stencil.build(
            damping, axes, 2, target=nodes
        )


FiniteDifference.__init__ = strict(FiniteDifference.__init__)  # type: ignore[method-assign]


@dataclass(frozen=True)
class FiniteVolume:
    """Finite volumes for transport with a numerical `flux`.

    Args:
        flux: "upwind", "lax-friedrichs" or "lax-wendroff" for transport at constant speed v. The viscosity qh/2 of the
            flux has q = |v|, q = h/(dτ) and q = v²τ/h; the last two depend on τ and so belong to explicit Euler steps,
            and Lax–Wendroff to one axis. "rusanov" for any conservation law, q the larger wave speed of both sides.
        reconstruction: for "rusanov" the values at the faces: "constant" per cell, of limited slopes ("minmod",
            "van-leer", "mc": MUSCL), or "weno5".

    Diffusion has differences of order 2. The axes of transport are periodic; by "rusanov" one field may have walls too:
    NoFlux, through which nothing flows, or Dirichlet, whose value flows in where waves come from there.
    """

    flux: str = "upwind"
    reconstruction: str = "constant"

    def __post_init__(self) -> None:
        valid = ["upwind", "lax-friedrichs", "lax-wendroff", "rusanov"]
        if self.flux not in valid:
            raise DiscretisationError(f"FiniteVolume(flux={self.flux!r}): {suggest(str(self.flux), valid)}")
        if self.reconstruction not in RECONSTRUCTIONS:
            given, options = self.reconstruction, list(RECONSTRUCTIONS)
            raise DiscretisationError(f"FiniteVolume(reconstruction={given!r}): {suggest(str(given), options)}")
        if self.reconstruction != "constant" and self.flux != "rusanov":
            raise DiscretisationError(
                f"FiniteVolume({self.flux!r}, reconstruction={self.reconstruction!r}): that is of 'rusanov' alone"
            )

    def discretise(self, problem: Problem, grid: Grid) -> SemiDiscrete:
        if problem.staggered:
            names = ", ".join(str(u.func) for u, j in zip(problem.unknowns, problem.shifts, strict=True) if any(j))
            raise DiscretisationError(
                f"finite volumes hold means of cells, and {names} is staggered; use FiniteDifference"
            )
        factor = next((v for v in problem.transport if v.varying), None)
        if factor is not None:
            of = problem.unknowns[factor.of]
            raise DiscretisationError(
                f"{factor.speed} multiplies a derivative of {of.func}, another field, from outside, which is no "
                f"conservation law; use FiniteDifference, with fields that are staggered against each other"
            )
        if not problem.transport and not problem.laws:
            raise DiscretisationError("FiniteVolume is for transport, and the PDE has none; use FiniteDifference")
        if any(law.advective for law in problem.laws):
            problem = _carried(problem)
        if self.flux == "rusanov":
            return self._conserved(problem, grid)
        for law in problem.laws:
            if not law.advective or self.flux != "upwind":
                other = "upwind" if law.advective else "rusanov"
                raise DiscretisationError(
                    f"FiniteVolume({self.flux!r}) is for constant speeds, not for {law.flux}; use "
                    f"FiniteVolume({other!r})"
                )
        if any(p.name == TAU.name for p in problem.parameters):
            raise DeclarationError(f"the name {TAU.name!r} of a parameter is the step size here; rename it")
        carried = [term for term in problem.transport if term.order == 1]
        d = len(carried)
        if self.flux == "lax-wendroff" and d > 1:
            raise DiscretisationError("FiniteVolume('lax-wendroff') is for transport along one axis; use 'upwind'")
        system = FiniteDifference(2).discretise(replace(problem, laws=()), grid)
        viscosities = []
        for a, speed in ((term.axis, term.speed) for term in carried):
            h = sp.Rational(*system.axes[a].spacing.as_integer_ratio())
            kappa = {
                "upwind": sp.Abs(speed) * h / 2,
                "lax-friedrichs": h**2 / (2 * d * TAU),
                "lax-wendroff": speed**2 * TAU / 2,
            }[self.flux]
            s = sp.Symbol("s", real=True)
            along: Operator = ((tuple(int(i == a) for i in range(len(system.axes))), sp.S.One),)
            term = FluxTerm(along, kappa, s, sp.S.One, ((s, along),))
            viscosities.append(
                DiscreteFlux(term, ((Stencil.build(dict(along), system.axes),),), local=True, viscous=True)
            )
        fluxes = (*system.fluxes, *viscosities)
        method = f"finite volumes with the {self.flux} flux"
        return replace(system, problem=problem, fluxes=fluxes, laws=self._advected(problem, system), method=method)

    def _advected(self, problem: Problem, system: SemiDiscrete) -> tuple[DiscreteLaw, ...]:
        """Transport of varying speed."""
        found = []
        for law in (law for law in problem.laws if law.advective):
            u, axes = problem.unknowns[law.component], system.along(law.component)
            name = f"{u.func}_" * (len(problem.unknowns) > 1) + axes[law.axis].name
            found.append(DiscreteLaw(law, sp.Abs(law.flux), u, self.reconstruction, axes, f"carried_{name}"))
        return tuple(found)

    def _conserved(self, problem: Problem, grid: Grid) -> SemiDiscrete:
        """All transport by the flux of Rusanov."""
        fluxes: dict[int, dict[int, sp.Expr]] = {}
        for law in (law for law in problem.laws if not law.advective):
            fluxes.setdefault(law.axis, {})[law.component] = law.flux
        for term in (term for term in problem.transport if term.order == 1):
            own = fluxes.setdefault(term.axis, {})
            own[0] = own.get(0, sp.S.Zero) + term.speed * problem.unknown
        dispersion = tuple(term for term in problem.transport if term.order > 1)
        rest = FiniteDifference(2).discretise(replace(problem, transport=dispersion, laws=()), grid)
        for axis in (rest.axes[a] for a in fluxes):
            kinds = {(side.plane, side.parity) for side in axis.sides or ()}
            if len(problem.unknowns) > 1:
                if rest.open:
                    raise BoundaryError(
                        "conservation laws of several fields have walls NoFlux() or Dirichlet(value) and no Neumann or "
                        "Robin conditions"
                    )
            elif kinds - {("face", 1), ("node", -1)}:
                raise BoundaryError(
                    f"a conservation law along {axis.name} has walls NoFlux(), or Dirichlet(value) on a grid with "
                    f"centering='vertex', or is periodic"
                )
        fields, laws = problem.unknowns, list[DiscreteLaw]()
        for a, parts in sorted(fluxes.items()):
            read = [i for i, u in enumerate(fields) if i in parts or any(F.has(u) for F in parts.values())]
            speed = wave_speed({fields[i]: parts.get(i, sp.S.Zero) for i in read})
            if speed is None:
                names = ", ".join(str(fields[i].func) for i in read)
                raise UnsupportedTermError(
                    f"the conservation laws of {names}: their wave speeds are roots of a polynomial of more than "
                    "second degree, and the flux of Rusanov needs them"
                )
            for i, F in sorted(parts.items()):
                name = f"{fields[i].func}_" * (len(fields) > 1) + rest.axes[a].name
                laws.append(
                    DiscreteLaw(Law(a, F, i), speed, fields[i], self.reconstruction, rest.along(i), f"F_{name}")
                )
        kind = "" if self.reconstruction == "constant" else f" and {self.reconstruction} reconstruction"
        laws += self._advected(problem, rest)
        return replace(rest, problem=problem, laws=tuple(laws), method=f"finite volumes with the rusanov flux{kind}")


def _carried(problem: Problem) -> Problem:
    """Constant speeds beside varying ones, as varying ones."""
    speeds = {(law.component, law.axis): law.flux for law in problem.laws if law.advective}
    for term in (term for term in problem.transport if term.order == 1):
        key = term.component, term.axis
        speeds[key] = speeds.get(key, sp.S.Zero) + term.speed
    laws = [law for law in problem.laws if not law.advective]
    laws += [Law(a, speed, i, advective=True) for (i, a), speed in sorted(speeds.items())]
    return replace(problem, transport=tuple(v for v in problem.transport if v.order > 1), laws=tuple(laws))


FiniteVolume.__init__ = strict(FiniteVolume.__init__)  # type: ignore[method-assign]


@dataclass(frozen=True)
class Transport:
    """−v T u, T the centred difference."""

    term: TransportTerm
    stencil: Stencil

    @property
    def axis(self) -> int:
        return self.term.axis

    @property
    def speed(self) -> sp.Expr:
        return self.term.speed


@dataclass(frozen=True)
class DiscreteFlux:
    """−κ Σ Kᵀ Φ: the flux term with the stencils that stand for each of its operators."""

    term: FluxTerm
    stencils: tuple[tuple[Stencil, ...], ...]
    local: bool
    viscous: bool = False
    """Is it the viscosity of a numerical flux for transport?"""
    bank: Bank | None = None
    """The filters that stand for D instead; Φ is then a function of one slot, taken channel by channel, or if it is not
    `local` and reads no data, of the norm over all channels."""

    @property
    def own(self) -> tuple[Stencil, ...]:
        return () if self.bank is not None else self.stencils[self.term.own]

    @property
    def joint(self) -> bool:
        """Does the diffusivity read all channels of a bank, or a mixture of them?"""
        return self.bank is not None and self.bank.joint

    @property
    def whole(self) -> bool:
        """Is it a bank of filters that read all fields of a system?"""
        return self.bank is not None and self.bank.inputs > 1


@dataclass(frozen=True)
class DiscreteMixed:
    """−Eᵀ c K u_k: an entry of a diffusion tensor off its diagonal, or cross-diffusion."""

    term: MixedTerm
    outer: Stencil
    inner: Stencil

    @property
    def meeting(self) -> Location:
        """Where E u and K u meet: on the same faces, or at the nodes."""
        return self.inner.target if self.inner.target == self.outer.target else (0,) * len(self.inner.target)


def _linear_waves(problem: Problem) -> Problem:
    """Conservation laws of fluxes that are linear in the fields as transport; others need a numerical flux."""
    found = list(problem.transport)
    for law in problem.laws:
        if law.advective:
            raise DiscretisationError(
                f"transport at the varying speed {law.flux} needs differences against the wind; use "
                f"FiniteVolume('upwind'), or FiniteVolume('rusanov', 'van-leer') for order 2"
            )
        for part in sp.Add.make_args(sp.expand(law.flux)):
            c, u = part.as_independent(Unknown, Data, *problem.places, as_Add=False)
            if u not in problem.unknowns:
                cure = "use FiniteVolume('rusanov')"
                if problem.staggered:
                    cure = (
                        f"beside staggered fields write factors of data outside, as in b*d(u, {problem.coordinates[0]})"
                    )
                raise DiscretisationError(
                    f"the conservation law with the flux {law.flux} needs a numerical flux; {cure}"
                )
            found.append(TransportTerm(law.axis, c, 1, law.component, problem.unknowns.index(u)))
    return replace(problem, transport=tuple(found), laws=())


def _check_staggered(problem: Problem) -> None:
    """What fields may have that are staggered: fluxes that read D u alone, and walls on the faces."""
    for term in problem.fluxes:
        if any(map(any, (problem.shifts[i] for i in term.fields))) and not term.local:
            raise DiscretisationError(
                f"the diffusivity {term.diffusivity} of a staggered field reads more than its own derivative; write it "
                f"as a function of that alone, or use fields on the nodes"
            )
    for m in problem.mixed:
        if any(problem.shifts[m.component]) or any(problem.shifts[m.of]):
            raise DiscretisationError(
                "diffusion tensors, mixed derivatives and cross-diffusion of staggered fields are not supported yet; "
                "write them as first derivatives of fields of their own"
            )
    if problem.features:
        raise DiscretisationError("smooth(…) beside staggered fields is not supported yet")


def _check_one_sided(problem: Problem, order: int) -> None:
    """One-sided closures serve fluxes of first derivatives, at orders above 2 those that read one alone, and
    transport."""
    if problem.staggered:
        raise DiscretisationError("closure='one-sided' is not for staggered fields; use closure='mirror'")
    names = tuple(map(str, problem.coordinates))
    for term in problem.fluxes:
        shown = show_operator(term.operator, names)
        if len(term.operator) > 1 or sum(term.operator[0][0]) > 1:
            raise DiscretisationError(
                f"closure='one-sided' serves fluxes of first derivatives, not of {shown}; use closure='mirror'"
            )
        if not term.local and order > 2:
            raise DiscretisationError(
                f"closure='one-sided' of order {order} serves fluxes that read {shown} and coordinates alone, not "
                f"{term.flux}; use FiniteDifference(2, 'one-sided'), or closure='mirror'"
            )
    for moved in problem.transport:
        x, u = problem.coordinates[moved.axis], problem.unknowns[moved.of]
        spreads = any(f.component == moved.of and f.operator[0][0][moved.axis] for f in problem.fluxes)
        if not isinstance(problem.sides[moved.of][moved.axis][0], Periodic) and (moved.order > 1 or not spreads):
            what = "dispersion" if moved.order > 1 else f"transport of {u.func} without its diffusion"
            raise BoundaryError(
                f"{what} along {x} does not fit one condition at every wall; set {x}: Periodic()"
                + ", or use FiniteVolume('rusanov')" * (moved.order == 1)
            )
    if problem.features:
        raise DiscretisationError("closure='one-sided' is not for smooth(…); use closure='mirror'")


def _shown(value: Any) -> str:
    return str(value) if isinstance(value, sp.Expr) else f"{value:g}"


def _check_planes(problem: Problem, fields: Fields) -> None:
    """The conditions of all fields at one end of an axis have to lie on one plane."""
    for a, x in enumerate(problem.coordinates):
        staggered = any(axes[a].shift for axes in fields)
        for end in (0, 1):
            sides = [axes[a].sides for axes in fields if not axes[a].shift]
            planes = {side[end].plane for side in sides if side is not None}
            if len(planes | ({"face"} if staggered and planes else set())) > 1:
                every = zip(problem.unknowns, problem.sides, strict=True)
                shown = ", ".join(f"{u.func}: {sides[a][end].text}" for u, sides in every)
                raise BoundaryError(
                    f"at one end of {x} ({shown}) the conditions lie on different planes: that of Dirichlet goes "
                    f"through nodes, those of the others along faces; use Grid(centering='cell'), where all lie on "
                    f"the faces"
                )


def _check_corners(axes: tuple[Axis, ...], fluxes: Sequence[DiscreteFlux], mixed: bool) -> None:
    """Where walls of two values meet u has no limit, and a gradient at the corner no meaning."""
    clash = next(
        (p for p in itertools.combinations(axes, 2) if all(a.held for a in p) and len(p[0].held | p[1].held) > 1),
        None,
    )
    several = mixed or any(len({a for m, _ in f.term.operator for a, n in enumerate(m) if n}) > 1 for f in fluxes)
    if clash is not None and (several or not all(flux.local or flux.term.linear for flux in fluxes)):
        names = " and ".join(axis.name for axis in clash)
        raise BoundaryError(
            f"Dirichlet walls of different values meet along {names}, and a diffusivity or an operator that couples "
            f"directions reads derivatives in that corner; give both one value, or one of them NoFlux() or Periodic()"
        )


def _check_varying(axes: tuple[Axis, ...], fluxes: Sequence[DiscreteFlux], problem: Problem) -> None:
    """Along a wall whose value varies in space derivatives of u are not 0, and have no parity about it."""
    names = tuple(a.name for a in axes)
    for axis in axes:
        value = next((v for v in axis.values if isinstance(v, sp.Expr) and v.free_symbols - {t}), None)
        what = "mixed derivatives and smoothed values" if problem.mixed or problem.features else ""
        for f in fluxes if value is not None else ():
            if any(sum(m) > 1 for m, _ in f.term.operator):
                what = show_operator(f.term.operator, names)
            elif (
                not f.local
                and f.term.diffusivity is not None
                and not f.term.linear
                and f.term.diffusivity.has(*(s for s, _ in f.term.slots))
            ):
                what = f"the diffusivity {f.term.diffusivity}, which couples directions"
        if value is not None and what:
            raise BoundaryError(
                f"the value {value} varies along a wall across {axis.name}, beside which {what} is not supported; give "
                f"a number, or an expression in loom.t alone"
            )


def _check_open(axes: tuple[Axis, ...], fluxes: Sequence[DiscreteFlux], order: int) -> None:
    """What Neumann and Robin conditions can be given to: fluxes of first derivatives, at order 2."""
    for a, axis in enumerate(axes):
        if not axis.open:
            continue
        let_in = any(side.mixed and side.mixed[1] for side in axis.sides or ())
        names = tuple(other.name for other in axes)
        for flux in fluxes:
            shown = show_operator(flux.term.operator, names)
            along = [orders for orders, _ in flux.term.operator if orders[a]]
            if along and not axis.one_sided and (order > 2 or len(flux.term.operator) > 1 or sum(along[0]) > 1):
                raise BoundaryError(
                    f"Neumann and Robin conditions along {axis.name} serve first derivatives at order 2, and not "
                    f"{shown} at order {order}; use NoFlux(), Dirichlet(…), Periodic(), or FiniteDifference(order=2)"
                )
            own = flux.term.slots[flux.term.own][0]
            if along and let_in and parity_of(flux.term.flux, {own: -1}) != -1:
                raise BoundaryError(
                    f"the flux {flux.term.flux} through a wall with a Neumann or Robin condition along {axis.name} "
                    f"has to be an odd function of {shown}"
                )


def _evenly(parity: Parity) -> Parity:
    """What has no parity, as a product with a coordinate, is continued evenly."""
    return tuple((low or 1, high or 1) for low, high in parity)


def _opened(e: sp.Expr, inside: dict[sp.Expr, sp.Symbol]) -> sp.Expr:
    """An expression with symbols for what stands in it of derivatives and smoothed values."""
    if isinstance(e, (sp.Derivative, Smoothed)):
        return inside.setdefault(e, sp.Symbol(f"s{len(inside)}", real=True))
    if not e.atoms(sp.Derivative, Smoothed):
        return e
    return e.func(*(_opened(a, inside) for a in e.args))


def _lagged(
    term: FluxTerm, own: sp.Symbol, value: str, known: str, names: dict[sp.Expr, str]
) -> tuple[sp.Expr, dict[sp.Expr, str], dict[sp.Symbol, str]]:
    """G(u)s where Φ = g·s, else the tangent Φ(s₀) + Φ'(s₀)(s − s₀)."""
    s0 = sp.Symbol("s0", real=True)
    if term.diffusivity is not None:
        e = term.diffusivity.xreplace({own: s0}) * own
    else:
        Phi = term.flux.xreplace({own: s0})
        e = Phi + sp.diff(Phi, s0) * (own - s0)
    return e, names, {own: value, s0: known}


def _read(term: FluxTerm) -> sp.Expr | None:
    """The diffusivity as a function of what it reads, whatever the order of its slots."""
    read = {s: sp.Symbol(f"{i}{operator}", real=True) for (s, operator), i in zip(term.slots, term.fields, strict=True)}
    return None if term.diffusivity is None else term.diffusivity.xreplace(read)


def _mean(source: Location, target: Location, axes: tuple[Axis, ...]) -> Stencil:
    """M: the mean of the neighbours along each axis in which the two differ."""
    return Stencil.build({(0,) * len(target): sp.S.One}, axes, 2, source=source, target=target)


class RightHandSide:
    """f on graph values: `f(u)`, `f.frozen(u)` and `f.split()`."""

    def __init__(
        self,
        system: SemiDiscrete,
        builder: Builder,
        data: Any,
        fluxes: tuple[DiscreteFlux, ...],
        transports: tuple[Transport, ...],
        parts: int,
        turn: tuple[int, ...] = (),
    ) -> None:
        self.system, self.builder, self.data, self.parts, self.turn = system, builder, data, parts, turn
        self.fluxes, self.transports = fluxes, transports
        self.laws = system.laws if parts == 1 else ()

    def __call__(self, u: Value) -> Value:
        v = self._ringed(u)
        return self._sum(v, v)

    def frozen(self, u: Value) -> Callable[[Value], Value]:
        """v ↦ −Σ κ K*G(u)K v + r(u): diffusivities and reactions stay at u. It is f(u) at v = u."""
        at = self._ringed(u)
        return lambda v: self._sum(self._ringed(v), at)

    def split(self) -> list[RightHandSide]:
        """One right-hand side per axis, of the flux terms along it and an equal share of the reaction.

        Raises `SchemeError` for a term whose operator mixes axes.
        """
        along: list[list[DiscreteFlux]] = [[] for _ in self.system.axes]
        for flux in self.fluxes:
            if flux.bank is not None:
                raise SchemeError(
                    f"the filters {flux.bank.label} mix axes and cannot be split along them; use SemiImplicit or "
                    f"BackwardEuler"
                )
            touched = {a for orders, _ in flux.term.operator for a, m in enumerate(orders) if m}
            if len(touched) != 1:
                names = tuple(axis.name for axis in self.system.axes)
                raise SchemeError(
                    f"the operator {show_operator(flux.term.operator, names)} mixes axes and cannot be split along "
                    f"them; use SemiImplicit or BackwardEuler"
                )
            along[touched.pop()].append(flux)
        if self.system.mixed:
            raise SchemeError(
                "diffusion tensors, mixed derivatives and cross-diffusion cannot be split along the axes; use "
                "SemiImplicit or BackwardEuler"
            )
        if self.laws:
            raise SchemeError(
                "a conservation law cannot be split along the axes; use SemiImplicit or an explicit scheme"
            )
        parts = self.parts * len(along)
        carried = [tuple(t for t in self.transports if t.axis == a) for a in range(len(along))]
        every = zip(along, carried, strict=True)
        return [RightHandSide(self.system, self.builder, self.data, tuple(f), t, parts) for f, t in every]

    def fields(self) -> list[RightHandSide]:
        """One right-hand side per field, or per turn of fields that do not read each other, with 0 for all others."""
        if any(flux.whole for flux in self.fluxes):
            raise SchemeError("filters that read all fields change all of them at once, and fields cannot take turns")
        if self.system.width == 1:
            return [self]
        parts = self.fluxes, self.transports, self.parts
        return [RightHandSide(self.system, self.builder, self.data, *parts, turn) for turn in self.system.turns]

    def _ringed(self, u: Value) -> Value:
        op = self.builder.graph.nodes[u.name]["op"]
        if isinstance(op, ops.Ghost) or (isinstance(op, ops.Input) and op.role in ("state", "data")):
            return u
        return self.builder.named(self.builder.add(self.system.ghost(u.time), u.name, hint="{0}_ring"), u.time)

    def _sum(self, u: Value, at: Value) -> Value:
        system, builder = self.system, self.builder
        builder.now = at.time
        names: dict[sp.Expr, str] = {**self.data, **system.components(builder, at)}
        names |= {feature: system.smoothed(builder, e, names) for feature, e in system.problem.features}
        whole = [flux for flux in self.fluxes if flux.whole]
        terms = [-f.term.kappa * v for f in whole for v in system._divergences(builder, f, u, at, names)]
        chosen = self.turn or range(system.width)
        rates = [self._rate(i, u, at, names) if i in chosen else None for i in range(system.width)]
        if any(rates) or not terms:
            filled = [r or 0 * system.component(builder, u, i) for i, r in enumerate(rates)]
            stack = ops.Stack(tuple(str(f.func) for f in system.problem.unknowns) if self.turn else ())
            terms += filled if len(rates) == 1 else [builder.value(stack, *(r.name for r in filled), hint="rate")]
        found = self._added(terms, "rate")
        share = self.parts * (len(system.turns) if self.turn else 1)
        rate = sp.Rational(1, share) if system.problem.time_order == 1 else sp.S.Zero
        return builder.named(found.name, rate)

    def _added(self, terms: list[Value], hint: str) -> Value:
        if len(terms) == 1:
            return terms[0]
        return self.builder.value(ops.Combination((sp.S.One,) * len(terms)), *(t.name for t in terms), hint=hint)

    def _rate(self, i: int, u: Value, at: Value, names: dict[sp.Expr, str]) -> Value | None:
        """The terms of the i-th equation alone; None if there are none."""
        system, builder = self.system, self.builder
        terms = []
        for flux in (flux for flux in self.fluxes if flux.term.component == i and not flux.whole):
            for v in system._divergences(builder, flux, u, at, names):
                if flux.term.weight != 1:
                    s = sp.Symbol("s", real=True)
                    weighted = system._pointwise(builder, flux.term.weight * s, names, {s: v.name}, "weighted", i)
                    v = builder.named(weighted)
                terms.append(-flux.term.kappa * v)
        terms += [-system._coupled(builder, m, u, names) for m in system.mixed if m.term.component == i]
        terms += [system._transported(builder, v, u, names) for v in self.transports if v.term.component == i]
        for law in (law for law in self.laws if law.law.component == i):
            read = explicit_symbols(sp.Tuple(law.law.flux, law.speed)) & set(system.problem.coordinates)
            places = {x: system.position(builder, x, law.where) for x in sorted(read, key=str)}
            terms.append(law.rate(builder, names, places, system.of(i)[0]))
        reaction = system.problem.reactions[i] / self.parts
        of = f"_{system.problem.unknowns[i].func}" * (system.width > 1)
        if reaction != 0:
            terms.append(builder.named(system._pointwise(builder, reaction, names, {}, f"reaction{of}", i)))
        if not terms:
            return None
        rate = self._added(terms, f"rate{of}")
        held = tuple(a for a, axis in enumerate(system.along(i)) if axis.holding)
        return builder.value(ops.Held(held), rate.name, hint=f"rate{of}_inside") if held else rate


@dataclass(frozen=True)
class SemiDiscrete:
    """du/dt = f(u) on a grid of any size."""

    problem: Problem
    grid: Grid
    axes: tuple[Axis, ...]
    fluxes: tuple[DiscreteFlux, ...]
    transports: tuple[Transport, ...]
    method: str
    laws: tuple[DiscreteLaw, ...] = ()
    mixed: tuple[DiscreteMixed, ...] = ()
    order: int = 2
    """Of means of values, for fields that are staggered against others."""
    fields: Fields = ()
    """The axes of every field, where their boundary conditions or places differ; `axes` are those of the first one
    then, or of the first one on the nodes."""
    _names: dict[Operator, str] = field(default_factory=dict, compare=False, repr=False)
    _graphs: dict[tuple[int | None, bool, int | None], nx.DiGraph] = field(
        init=False, default_factory=dict, compare=False, repr=False
    )

    @property
    def banks(self) -> tuple[Bank, ...]:
        """The filter banks in place of differences."""
        return tuple(flux.bank for flux in self.fluxes if flux.bank is not None)

    @property
    def width(self) -> int:
        """The number of fields, the channels of a state."""
        return len(self.problem.unknowns)

    @property
    def limits(self) -> tuple[int, ...]:
        """The largest sizes for which what is proved of coefficients that read coordinates holds; empty for all."""
        return self.grid.shape or () if self.problem.explicit - {t} else ()

    @property
    def linear(self) -> bool:
        """Is f linear in u, and the same at all times?"""
        linear = all(f.term.linear for f in self.fluxes) and all(m.term.linear for m in self.mixed)
        return self.problem.at_rest and not self.laws and linear and not self.problem.moving

    @cached_property
    def asymmetry(self) -> str:
        """Why the Jacobian of f is not symmetric; empty if it is."""
        if self.transports or self.laws:
            return "transport is skew"
        if self.one_sided:
            return "one-sided closures are not the adjoints of each other"
        if self.open and not all(flux.local or flux.term.linear for flux in self.fluxes):
            return "beside Neumann and Robin conditions a diffusivity that couples directions is no gradient"
        for (u, r), (v, q) in itertools.combinations(
            zip(self.problem.unknowns, self.problem.reactions, strict=True), 2
        ):
            if sp.simplify(sp.diff(r, v) - sp.diff(q, u)) != 0:
                return f"the reactions of {u.func} and {v.func} are not the gradient of one energy"
        for m in (m.term for m in self.mixed):
            if not m.linear:
                return f"the diffusion tensor has the entry {m.coefficient}, which moves with the state"
            if all(
                (m.component, m.outer) != (n.of, n.inner)
                or (m.of, m.inner) != (n.component, n.outer)
                or sp.expand(m.coefficient - n.coefficient) != 0
                for n in self.problem.mixed
            ):
                return f"the diffusion tensor has the entry {m.coefficient} and not its mirror image"
        for flux in self.fluxes:
            term, g = flux.term, flux.term.diffusivity
            if flux.bank is not None and flux.bank.mixed:
                return "the diffusivity of a channel reads a mixture of the other ones"
            if flux.local or g is None:
                continue
            if fields := g.atoms(Unknown):
                return f"the diffusivity {g} reads {min(str(f.func) for f in fields)}"
            own = term.slots[term.own][0]
            for (s, operator), i in zip(term.slots, term.fields, strict=True):
                if s == own or s not in g.free_symbols:
                    continue
                partner = any(
                    other.term.operator == operator
                    and other.term.component == i
                    and other.term.kappa == term.kappa
                    and _read(other.term) == _read(term)
                    for other in self.fluxes
                )
                curl = sp.expand_mul(sp.diff(g, s) * own - sp.diff(g, own) * s)
                if not partner or (curl != 0 and sp.simplify(curl) != 0):
                    return f"the fluxes that share the diffusivity {g} are not the gradient of one energy"
        return ""

    @property
    def ends(self) -> tuple[Axis, ...]:
        """All axes, of every field where they differ."""
        return tuple(itertools.chain(*self.fields)) or self.axes

    def along(self, i: int) -> tuple[Axis, ...]:
        """The axes with the boundary conditions of a field."""
        return self.fields[i] if self.fields else self.axes

    def of(self, i: int) -> tuple[Parity, Walls]:
        """The parity of a field, and its values on the boundary."""
        return symmetry(self.along(i))

    @property
    def parity(self) -> Parity:
        """Parity of the unknown, or of the first field."""
        return self.of(0)[0]

    @property
    def walls(self) -> Walls:
        """The values of the unknown on the boundary, or of the first field that has some."""
        return next((walls for i in range(len(self.fields) or 1) if (walls := self.of(i)[1])), ())

    @property
    def fixed(self) -> tuple[float, ...]:
        """The different values of the unknown on its walls, in order."""
        return tuple(sorted(frozenset().union(*(axis.fixed for axis in self.ends))))

    @property
    def level(self) -> float | None:
        """The value of all walls; None if they have several, or let something in."""
        if self.fed:
            return None
        return 0.0 if not self.fixed else self.fixed[0] if len(self.fixed) == 1 else None

    @property
    def fed(self) -> bool:
        """Does a Neumann condition let something in?"""
        return any(axis.fed for axis in self.ends)

    @property
    def halves(self) -> bool:
        """Does a value lie on a wall that leaves it free, and so count half in inner products?"""
        return any(axis.shift and axis.sides and axis.sides[1].parity > 0 for axis in self.ends)

    @property
    def one_sided(self) -> bool:
        """Are values beyond walls extrapolated?"""
        return any(axis.one_sided for axis in self.ends)

    @property
    def open(self) -> bool:
        """Is there a Neumann or a Robin condition?"""
        return any(axis.open for axis in self.ends)

    @property
    def homogeneous(self) -> SemiDiscrete:
        """The same system between walls of value 0, as directions and corrections see it."""
        if not self.walls:
            return self
        assert not self.fields
        return replace(self, axes=tuple(axis.homogeneous for axis in self.axes))

    def ghost(self, time: sp.Expr) -> ops.Ghost:
        """The ring of a state at some time."""
        fields = tuple(tuple(axis.at(time) for axis in axes) for axes in self.fields)
        return ops.Ghost(self.parity, at_time(self.walls, time), fields, time)

    def state(self, builder: Builder, name: str | None = None, time: sp.Expr = t) -> Value:
        name, ring = name or self.problem.state, self.ghost(time)
        op = ops.Input(name, "state", ring.parity, ring.walls, ring.fields)
        return builder.named(builder.add(op, hint=name), time)

    def component(self, builder: Builder, u: Value, i: int) -> Value:
        """The i-th field of a state: itself where there is but one."""
        if self.width == 1:
            return u
        name = str(self.problem.unknowns[i].func)
        hint = u.name.replace(FIELDS, name, 1) if FIELDS in u.name else f"{u.name}_{name}"
        return builder.value(ops.Component(i, name), u.name, hint=hint)

    def components(self, builder: Builder, u: Value) -> dict[sp.Expr, str]:
        """The fields of a state by what they stand for in expressions."""
        return {f: self.component(builder, u, i).name for i, f in enumerate(self.problem.unknowns)}

    def right_hand_side(self, builder: Builder) -> RightHandSide:
        """f as a function on graph values; data fields become inputs once."""
        even = tuple((1, 1) for _ in self.axes)
        inputs = {f: builder.add(ops.Input(str(f.func), "data", even), hint=str(f.func)) for f in self.problem.data}
        return RightHandSide(self, builder, inputs, self.fluxes, self.transports, 1)

    @cached_property
    def turns(self) -> tuple[tuple[int, ...], ...]:
        """The fields in their order, those together that do not read an earlier one of them."""
        found: list[list[int]] = []
        for i, r in enumerate(self.problem.reactions):
            own = [f.term for f in self.fluxes if f.term.component == i]
            read = {k for term in own for k in term.fields} | {
                v.term.of for v in self.transports if v.term.component == i
            }
            read |= {m.term.of for m in self.mixed if m.term.component == i}
            expressions = [r, *(e for term in own for e in (term.flux, term.weight))]
            expressions += [m.term.coefficient for m in self.mixed if m.term.component == i]
            expressions += [law.law.flux for law in self.laws if law.law.component == i]
            expressions += [e for _, e in self.problem.features]
            read |= {k for k, u in enumerate(self.problem.unknowns) if any(e.has(u) for e in expressions)}
            if found and not read & set(found[-1]):
                found[-1].append(i)
            else:
                found.append([i])
        return tuple(map(tuple, found))

    def graph(self, part: int | None = None, frozen: bool = False, turn: int | None = None) -> nx.DiGraph:
        """f(u), or with `frozen` f.frozen(at)(u), of one axis or of all, or of one turn of fields, as a graph for the
        NumPy reference."""
        if (part, frozen, turn) not in self._graphs:
            builder = Builder(self.axes)
            u = self.state(builder, time=NEW if frozen else t)
            f = self.right_hand_side(builder)
            f = f.split()[part] if part is not None else f.fields()[turn] if turn is not None else f
            at = self.state(builder, FROZEN) if frozen else u  # in f.frozen(at)(u) both have times of their own
            self._graphs[part, frozen, turn] = builder.finish((f.frozen(at)(u) if frozen else f(u)).name)
        return self._graphs[part, frozen, turn]

    def _divergences(
        self, builder: Builder, flux: DiscreteFlux, u: Value, at: Value, names: dict[sp.Expr, str]
    ) -> list[Value]:
        """κ-free divergences of one flux term: differences of u, diffusivities at `at`."""
        if flux.bank is not None:
            return [self._filtered(builder, flux, flux.bank, u, at, names)]
        term = flux.term
        own, operator = term.slots[term.own]

        field = "" if self.width == 1 else f"{self.problem.unknowns[term.component].func}_"
        values = self.differences(builder, u, flux, [term.own])[own]
        if flux.local:
            (s_value,) = values
            hint = f"flux_{field}{self._subscript(operator)}"
            if term.flux == own:
                fluxes = [s_value]
            elif at is u:
                fluxes = [self._pointwise(builder, term.flux, names, {own: s_value}, hint, term.component)]
            else:
                (known,) = self.differences(builder, at, flux, [term.own])[own]
                lagged = _lagged(term, own, s_value, known, names)
                fluxes = [self._pointwise(builder, *lagged, hint, term.component)]
        else:
            expression, nodal = self.averaged(builder, flux, self.differences(builder, at, flux))
            g = self._pointwise(builder, expression, names, nodal, "g")
            fluxes = []
            for i, (K, s_value) in enumerate(zip(flux.own, values, strict=True)):
                mean = self._average(builder, g, K.target, K.axes, back=True)
                product = ops.Flux(sp.Symbol("g") * sp.Symbol("s"), (sp.Symbol("g"), sp.Symbol("s")), "g·s")
                fluxes.append(builder.add(product, mean, s_value, hint=f"flux_{field}{self._subscript(operator, i)}"))
        return [
            builder.value(
                ops.AdjointStencil(part, f"K_{self._subscript(operator, i)}", self.of(term.component)[0]),
                v,
                hint=f"div_{field}{self._subscript(operator, i)}",
            )
            for i, (K, v) in enumerate(zip(flux.own, fluxes, strict=True))
            for part in K.parts.values()  # parts of different parity continue the flux differently
        ]

    def _filtered(
        self, builder: Builder, flux: DiscreteFlux, bank: Bank, u: Value, at: Value, names: dict[sp.Expr, str]
    ) -> Value:
        """Kᵀ Φ(K u), channel by channel, or KᵀGK u with one diffusivity G for all channels, taken at `at`."""
        term, label = flux.term, bank.label
        own, _ = term.slots[term.own]
        s_value, hint = self.filtered(builder, u, flux), f"flux_{label}"
        known = s_value if at is u else self.filtered(builder, at, flux)
        if flux.joint:
            expression, nodal = self.squared_channels(builder, flux, known)
            g = self._pointwise(builder, expression, names, nodal, "g")
            product = ops.Flux(sp.Symbol("g") * sp.Symbol("s"), (sp.Symbol("g"), sp.Symbol("s")), "g·s")
            v = builder.add(product, g, s_value, hint=hint)
        elif term.flux == own:
            v = s_value
        elif at is u:
            v = self._pointwise(builder, term.flux, names, {own: s_value}, hint)
        else:
            v = self._pointwise(builder, *_lagged(term, own, s_value, known, names), hint)
        return builder.value(ops.AdjointFilterBank(bank, self.parity), v, hint=f"div_{label}")

    def _coupled(self, builder: Builder, m: DiscreteMixed, u: Value, names: dict[sp.Expr, str]) -> Value:
        """Eᵀ c K u_k. Where E u and K u lie on different faces, they meet at the nodes, by means M and their
        transposes; on the same faces c comes to them, as a diffusivity does."""
        E = self._subscript(((m.term.outer, sp.S.One),))
        scale, c = m.term.coefficient.as_independent(*self.problem.places, Unknown, Data, as_Add=False)
        s = self._met(builder, m, m.term.of, m.term.inner, m.inner, u)
        if c != 1:
            g = self._pointwise(builder, c, names, {}, "g")
            g = self._average(builder, g, m.meeting, m.inner.axes, back=True)
            product = ops.Flux(sp.Symbol("g") * sp.Symbol("s"), sp.symbols("g s"), "g·s")
            s = builder.add(product, g, s, hint=f"flux_{E}")
        if m.meeting != m.outer.target:
            M = _mean(m.outer.target, m.meeting, m.outer.axes)
            along = "".join(a.name for a, j in zip(self.axes, m.outer.target, strict=True) if j)
            parity = m.outer.parity(self.of(m.term.component)[0])
            s = builder.add(ops.AdjointStencil(M, f"M_{along}", parity), s, hint="{0}_" + along)
        op = ops.AdjointStencil(m.outer, f"K_{E}", self.of(m.term.component)[0])
        v: Value = builder.value(op, s, hint=f"div_{E}") * scale
        return v

    def _met(self, builder: Builder, m: DiscreteMixed, i: int, orders: tuple[int, ...], K: Stencil, u: Value) -> str:
        """K u_i where it meets the other derivative of a coupling."""
        D = self._subscript(((orders, sp.S.One),))
        v = self.component(builder, u, i)
        s = builder.add(ops.Stencil(K, f"K_{D}", v.place.parity, v.place.walls), v.name, hint="{0}_" + D)
        return self._average(builder, s, m.meeting, K.axes, back=False)

    def coupling(self, builder: Builder, m: DiscreteMixed, u: Value, names: dict[sp.Expr, str]) -> tuple[sp.Expr, str]:
        """c (E u_i)(K u_k), the energy density of a coupling and its mirror image, with the constant factor of c."""
        term, slots = m.term, sp.symbols("a b g", real=True)
        scale, c = term.coefficient.as_independent(*self.problem.places, Unknown, Data, as_Add=False)
        ends = [(term.component, term.outer, m.outer), (term.of, term.inner, m.inner)]
        values = [self._met(builder, m, *end, u) for end in ends]
        if c != 1:
            g = self._pointwise(builder, c, names, {}, "g")
            values.append(self._average(builder, g, m.meeting, m.inner.axes, back=True))
        slots = slots[: len(values)]
        return scale, builder.add(ops.Flux(sp.Mul(*slots), slots, "e"), *values, hint="coupling")

    def smoothed(self, builder: Builder, e: sp.Expr, names: Mapping[sp.Expr, str]) -> str:
        """The value at the nodes of smooth(…), or of what stands in it: fields, data, and derivatives taken there."""
        if e in names:
            return names[e]
        if isinstance(e, sp.Derivative):
            v, orders = (
                self.smoothed(builder, e.expr, names),
                tuple(e.variables.count(x) for x in self.problem.coordinates),
            )
            place, D = builder.graph.nodes[v]["place"], self._subscript(((orders, sp.S.One),))
            K = Stencil.build({orders: sp.S.One}, self.axes)
            v = builder.add(ops.Stencil(K, f"K_{D}", _evenly(place.parity), place.walls), v, hint="{0}_" + D)
            return self._average(builder, v, (0,) * len(self.axes), self.axes, back=False)
        if isinstance(e, Smoothed):
            v = stem = self.smoothed(builder, e.args[0], names)
            for a, axis in enumerate(self.axes):
                op = Stencil.gaussian(a, e.args[1], self.axes)
                if len(op.taps()) > 1:
                    place, last = builder.graph.nodes[v]["place"], axis is self.axes[-1]
                    hint = f"{stem}_smooth" + f"_{axis.name}" * (not last)
                    v = builder.add(ops.Stencil(op, f"G_{axis.name}", _evenly(place.parity), place.walls), v, hint=hint)
            return v
        inside: dict[sp.Expr, sp.Symbol] = {}
        opened = _opened(e, inside)
        slots = {s: self.smoothed(builder, part, names) for part, s in inside.items()}
        return self._pointwise(builder, opened, dict(names), slots, "product")

    def filtered(self, builder: Builder, u: Value, flux: DiscreteFlux) -> str:
        """K u."""
        assert flux.bank is not None
        v = u if flux.whole else self.component(builder, u, flux.term.component)
        return builder.add(ops.FilterBank(flux.bank), v.name, hint="{0}_" + flux.bank.label)

    @staticmethod
    def squared_channels(builder: Builder, flux: DiscreteFlux, v: str) -> tuple[sp.Expr, dict[sp.Symbol, str]]:
        """g as a function of q = Σ_c (K_c u)², or of a mixture for every channel, and this."""
        s, q = sp.Symbol("s"), sp.Symbol("q", nonnegative=True)
        squared = builder.add(ops.Flux(s**2, (s,), "s²"), v, hint="{0}2")
        assert flux.term.diffusivity is not None and flux.bank is not None
        gathered = ops.ChannelMixture(flux.bank) if flux.bank.mixed else ops.ChannelSum()
        total = builder.add(gathered, squared, hint="q")
        return flux.term.diffusivity.xreplace({flux.term.slots[0][0]: sp.sqrt(q)}), {q: total}

    def differences(
        self, builder: Builder, u: Value, flux: DiscreteFlux, chosen: Sequence[int] | None = None
    ) -> dict[sp.Symbol, list[str]]:
        """K u for the slots of a flux term, all or the chosen ones."""
        found = {}
        for i in range(len(flux.term.slots)) if chosen is None else chosen:
            s, operator = flux.term.slots[i]
            v = self.component(builder, u, flux.term.fields[i])
            names = [self._subscript(operator, j) for j in range(len(flux.stencils[i]))]
            found[s] = [
                builder.add(ops.Stencil(K, f"K_{name}", v.place.parity, v.place.walls), v.name, hint="{0}_" + name)
                for K, name in zip(flux.stencils[i], names, strict=True)
            ]
        return found

    def _transported(self, builder: Builder, transport: Transport, u: Value, names: dict[sp.Expr, str]) -> Value:
        """−v T u."""
        axis, term = self.axes[transport.axis].name * transport.term.order, transport.term
        v = self.component(builder, u, term.of)
        op = ops.Stencil(transport.stencil, f"T_{axis}", v.place.parity, v.place.walls)
        moved = builder.value(op, v.name, hint="{0}_" + axis + "_centred" * (not transport.stencil.into))
        scale, speed = term.speed.as_independent(*self.problem.places, Data, as_Add=False)
        if speed != 1:
            s = sp.Symbol("s", real=True)
            hint = f"{moved.name}_scaled"
            moved = builder.named(self._pointwise(builder, speed * s, names, {s: moved.name}, hint, term.component))
        found: Value = -scale * moved
        return found

    def averaged(
        self, builder: Builder, flux: DiscreteFlux, values: dict[sp.Symbol, list[str]]
    ) -> tuple[sp.Expr, dict[sp.Symbol, str]]:
        """g in the averages of the squared differences that it reads, and these at the nodes; q is their sum if g reads
        nothing else."""
        expression, nodal = flux.term.diffusivity, dict[sp.Symbol, str]()
        assert expression is not None
        for (s, _), stencils in zip(flux.term.slots, flux.stencils, strict=True):
            if s not in expression.free_symbols:
                continue
            q = sp.Symbol(f"q{len(nodal)}", nonnegative=True)
            expression, nodal[q] = expression.xreplace({s: sp.sqrt(q)}), self.squares(builder, stencils, values[s])
        return self._sum_of_squares(builder, expression, nodal)

    def squares(self, builder: Builder, stencils: Sequence[Stencil], values: Sequence[str]) -> str:
        """M(Ku)² at the nodes, summed over the stencils of one operator."""
        s, found = sp.Symbol("s"), []
        for K, v in zip(stencils, values, strict=True):
            squared = builder.add(ops.Flux(s**2, (s,), "s²"), v, hint="{0}2")
            found.append(self._average(builder, squared, (0,) * len(K.target), K.axes, back=False))
        return found[0] if len(found) == 1 else builder.add(ops.Combination((sp.S.One,) * len(found)), *found, hint="q")

    @staticmethod
    def _sum_of_squares(
        builder: Builder, e: sp.Expr, nodal: dict[sp.Symbol, str]
    ) -> tuple[sp.Expr, dict[sp.Symbol, str]]:
        """Name q = |∇u|² if the diffusivity reads nothing else: g(q) is how the paper writes it."""
        q = sp.Symbol("q", nonnegative=True)
        if len(nodal) > 1:
            first = next(iter(nodal))
            merged = e.xreplace({first: q - sp.Add(*(s for s in nodal if s != first))})
            if not merged.free_symbols & set(nodal):
                total = builder.add(ops.Combination((sp.S.One,) * len(nodal)), *nodal.values(), hint="q")
                return merged, {q: total}
        return e, nodal

    @staticmethod
    def _average(builder: Builder, v: str, target: Location, axes: tuple[Axis, ...], back: bool) -> str:
        """M (faces → nodes) or Mᵀ (nodes → faces): the mean of the neighbours along each axis that differs, between the
        ends of the `axes` of a field."""
        source = builder.graph.nodes[v]["place"].location
        if source == target:
            return v
        M = _mean(source, target, axes)
        place = builder.graph.nodes[v]["place"]
        signed = any(p < 0 for ends in place.parity for p in ends) and not any(axis.open for axis in axes)
        even = place.parity if signed else tuple((-ONE_SIDED,) * 2 if axis.one_sided else (1, 1) for axis in axes)
        which = "".join(a.name for a, i, j in zip(axes, source, target, strict=True) if i != j)
        hint = "{0}_" + which if back else "{0}_mean"
        return builder.add(ops.Stencil(M, f"M_{which}ᵀ" if back else f"M_{which}", even), v, hint=hint)

    def _pointwise(
        self,
        builder: Builder,
        e: sp.Expr,
        names: dict[sp.Expr, str],
        slots: dict[sp.Symbol, str],
        hint: str,
        i: int = 0,
    ) -> str:
        """A Flux op for e, whose fields and data are read from the nodes, or where the i-th field is staggered by means
        from there."""
        arguments = dict(slots)
        for part in sorted(e.atoms(TensorEntry), key=sp.default_sort_key):
            name = f"T{''.join(str(i + 1) for i in part.args[:2])}"
            e = e.xreplace({part: sp.Symbol(name, real=True)})
            arguments[sp.Symbol(name, real=True)] = self._entry(builder, part, names)
        for f in sorted(e.atoms(Unknown, Data), key=str):
            symbol = sp.Symbol(str(f.func), real=True)
            while symbol in arguments:  # a slot, or what a step has found, may be called as the field is
                symbol = sp.Symbol(f"{symbol.name}′", real=True)
            e, arguments[symbol] = e.xreplace({f: symbol}), self._beside(builder, names[f], f, i)
        place = next((builder.graph.nodes[n]["place"].location for n in arguments.values()), (0,) * len(self.axes))
        for x in sorted(explicit_symbols(e) & set(self.problem.coordinates), key=str):
            arguments[x] = self.position(builder, x, place, i)
        e = e.xreplace({t: builder.now})
        used = {s: n for s, n in arguments.items() if s in e.free_symbols}
        alien = computable(e)
        if alien is not None:
            raise UnsupportedTermError(
                f"{alien} in {e} has no meaning on a grid; see the list of functions in the docs"
            )
        if e.is_Symbol and e in used:
            return str(used[e])
        if not used:  # constant: a value all the same, so that it has a place
            used = {sp.Symbol("u"): names[self.problem.unknowns[0]]}
        return builder.add(ops.Flux(e, tuple(used), hint), *used.values(), hint=hint)

    def _beside(self, builder: Builder, v: str, f: Any, i: int) -> str:
        """The value of a field, or of data, where the i-th field lies."""
        if not self.problem.staggered or isinstance(f, Feature) or shift_of(f) == self.problem.shifts[i]:
            return v
        into, place = self.along(i), builder.graph.nodes[v]["place"]
        axes = self.along(self.problem.unknowns.index(f)) if isinstance(f, Unknown) else self.axes
        op = Stencil.across((0,) * len(axes), axes, into, self.order)
        which = "".join(a.name for a, b in zip(axes, into, strict=True) if a.shift != b.shift)
        return builder.add(ops.Stencil(op, f"M_{which}", place.parity, place.walls), v, hint="{0}_mean")

    def position(self, builder: Builder, x: sp.Symbol, location: Location, i: int = 0) -> str:
        """The coordinate x where values of this location lie, of the i-th field."""
        fields = self.fields or (self.axes,)
        every = zip(self.along(i), *fields, strict=True)
        axes = tuple(
            own if own.shift else next((axis for axis in others if axis.open and not axis.shift), own)
            for own, *others in every
        )
        op = ops.Position(self.problem.coordinates.index(x), axes, location)
        return builder.add(op, hint=f"at_{x}")

    def _entry(self, builder: Builder, part: TensorEntry, names: dict[sp.Expr, str]) -> str:
        """An entry of a diffusion tensor, by the eigenvalues it shares with the others."""
        values, constant = dict[sp.Symbol, str](), dict[sp.Symbol, sp.Expr]()
        for symbol, e in part.steps():
            e = e.xreplace(constant)
            read = {s: n for s, n in values.items() if s in e.free_symbols}
            if not read and not e.atoms(Unknown, Data):
                constant[symbol] = e
            else:
                values[symbol] = self._pointwise(builder, e, names, read, symbol.name)
        return values.get(symbol) or self._pointwise(builder, constant[symbol], names, {}, symbol.name)

    def _subscript(self, operator: Operator, i: int = 0) -> str:
        """A short name for D: x, xx, xxyy, or D1, D2, … for sums."""
        if operator not in self._names:
            if len(operator) == 1:
                ((orders, _),) = operator
                name = "".join(a.name * m for a, m in zip(self.axes, orders, strict=True))
            else:
                name = f"D{1 + sum(n.startswith('D') for n in self._names.values())}"
            self._names[operator] = name
        return self._names[operator] + "_damp" * (i > 0)

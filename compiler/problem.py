"""PDE in, `Problem` out: the equation sorted into the terms the compiler understands.

    ∂ₜᵐ u = −Σ_c κ_c D_c* Φ_c  −  Σ_a v_a ∂_a u  +  Σ r(u, data)      (flux, transport and pointwise terms)

(m = 0 and 0 on the left for a steady problem), or a system of such equations, one for every field,

where D_c = Σ_m α_m ∂^m is a linear differential operator, D_c* = Σ_m (−1)^|m| α_m ∂^m its formal adjoint, and
Φ_c either a function of D_c u alone or g(…)·D_c u with a diffusivity g that also reads the other D's, u and
the data; the speeds v_a are constant. The flux form is primitive: nothing is expanded, and a term of any other form is
an error that quotes it.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sympy as sp

from .chain_rule import flux_form
from .errors import BoundaryError, DeclarationError, UnsupportedTermError, strict
from .fields import Data, Parameter, Unknown, expression, shift_of, space_of, t
from .grid import Boundary, Periodic
from .pointwise import computable
from .tensors import Feature, Smoothed

Order = tuple[int, ...]
Operator = tuple[tuple[Order, sp.Expr], ...]
"""D as ((multi-index, coefficient), …)."""

Sides = tuple[tuple[Boundary, Boundary], ...]
"""The boundary conditions at the low and the high end of every axis."""

Slot = tuple[int, Operator]
"""D of the field with this index."""

FIELDS = "fields"
"""The name of the state of a system, in which the fields are channels."""


@dataclass(frozen=True, init=False)
class PDE:
    """An equation (or a list of them) with its boundary conditions.

    `boundary` is mandatory: one condition for all sides, or `{x: (low, high), y: both}`; in a system perhaps one of
    these for every field, `{h: NoFlux(), m: {x: Dirichlet(0), y: NoFlux()}}`. `name` is what the emitted network is
    called.
    """

    equations: tuple[sp.Eq, ...]
    boundary: Any
    name: str | None

    @strict
    def __init__(self, equations: Any, boundary: Any = None, name: str | None = None) -> None:
        listed = tuple(equations) if isinstance(equations, (list, tuple)) else (equations,)
        for eq in listed:
            if eq in (True, False) or not isinstance(eq, sp.Eq):
                raise DeclarationError(f"PDE({eq}): not an equation; write Eq(loom.dt(u), right-hand side)")
        if not listed:
            raise DeclarationError("PDE([]): no equation")
        if name is not None and not (isinstance(name, str) and name.isprintable() and any(c.isalpha() for c in name)):
            raise DeclarationError(f"PDE(name={name!r}): give a short text")
        if boundary is None:
            raise BoundaryError(
                "the PDE has no boundary condition; pass boundary=NoFlux(), Periodic(), Dirichlet(0) or a dict per axis"
            )
        object.__setattr__(self, "equations", listed)
        object.__setattr__(self, "boundary", boundary)
        object.__setattr__(self, "name", name)

    def __hash__(self) -> int:
        return hash(self.equations)


@dataclass(frozen=True)
class FluxTerm:
    """−κ w D*Φ with Φ = `flux`, an expression in `slots` (the values of the operators), u, data and parameters.

    `own` is the index of D among the slots; `diffusivity` is Φ / (D u) where that division was exact; `weight` is w, an
    expression in data, in steady problems alone. In a system `of` says which field each slot is taken of, by its index.
    """

    operator: Operator
    kappa: sp.Expr
    flux: sp.Expr
    diffusivity: sp.Expr | None
    slots: tuple[tuple[sp.Symbol, Operator], ...]
    own: int = 0
    weight: sp.Expr = sp.S.One
    of: tuple[int, ...] = ()

    @property
    def fields(self) -> tuple[int, ...]:
        """The index of the field that each slot is taken of."""
        return self.of or (0,) * len(self.slots)

    @property
    def component(self) -> int:
        """The index of the equation it stands in, whose field D u is taken of."""
        return self.fields[self.own]

    @property
    def local(self) -> bool:
        """Does Φ read nothing but D u, parameters and coordinates, so that it can be taken where D u lies?"""
        others = {s for i, (s, _) in enumerate(self.slots) if i != self.own}
        return not self.flux.free_symbols & others and not self.flux.atoms(Unknown, Data)

    @property
    def linear(self) -> bool:
        return self.diffusivity is not None and not self.diffusivity.has(*[s for s, _ in self.slots], Unknown)


@dataclass(frozen=True)
class MixedTerm:
    """−E*(c D u_k) in the equation of u_i, where E = ∂^outer ≠ D = ∂^inner or k ≠ i: an entry of a diffusion tensor, or
    cross-diffusion. c = `coefficient` reads fields, data and parameters.
    """

    component: int
    outer: Order
    of: int
    inner: Order
    coefficient: sp.Expr

    @property
    def linear(self) -> bool:
        return not self.coefficient.has(Unknown)


@dataclass(frozen=True)
class Law:
    """−∂F along an axis in the equation of one field, F = `flux` an expression in fields, data and parameters; or, if
    `advective`, −a ∂u with a = `flux` the speed."""

    axis: int
    flux: sp.Expr
    component: int = 0
    advective: bool = False


@dataclass(frozen=True)
class TransportTerm:
    """−v ∂ᵐu_k along an axis in the equation of u_i, m = `order` odd: transport or dispersion. v = `speed` is constant
    or, for k ≠ i, an expression in coordinates, time and data."""

    axis: int
    speed: sp.Expr
    order: int = 1
    component: int = 0
    of: int = 0

    @property
    def varying(self) -> bool:
        return bool(self.speed.atoms(Data)) or bool(explicit_symbols(self.speed) - self.speed.atoms(Parameter))


@dataclass(frozen=True)
class Problem:
    """An equation, or a system of them, in canonical form."""

    pde: PDE
    unknowns: tuple[Unknown, ...]
    time_order: int
    coordinates: tuple[sp.Symbol, ...]
    fluxes: tuple[FluxTerm, ...]
    transport: tuple[TransportTerm, ...]
    reactions: tuple[sp.Expr, ...]
    """The pointwise terms of every equation."""
    boundary: Sides
    """Of all fields; of the first one where they differ."""
    parameters: tuple[Parameter, ...] = field(default=())
    data: tuple[Data, ...] = field(default=())
    laws: tuple[Law, ...] = ()
    """Conservation laws: nonlinear ones, and in a system every first derivative."""
    mixed: tuple[MixedTerm, ...] = ()
    features: tuple[tuple[Feature, Smoothed], ...] = ()
    """What stands for the smoothed values in the terms."""
    boundaries: tuple[Sides, ...] = ()
    """Of every field, where they differ."""

    @property
    def dimension(self) -> int:
        return len(self.coordinates)

    @property
    def unknown(self) -> Unknown:
        """The field, where there is but one."""
        (u,) = self.unknowns
        return u

    @property
    def pointwise(self) -> sp.Expr:
        """The pointwise terms, where there is but one equation."""
        (r,) = self.reactions
        return r

    @property
    def places(self) -> frozenset[sp.Symbol]:
        """The coordinates and time."""
        return frozenset({*self.coordinates, t})

    def _read(self, *expressions: sp.Expr) -> frozenset[sp.Symbol]:
        return frozenset().union(*map(explicit_symbols, expressions)) & self.places

    @property
    def _coefficients(self) -> frozenset[sp.Symbol]:
        """The coordinates, and time, that fluxes and coefficients read."""
        read = [e for f in self.fluxes for e in (f.flux, f.weight)] + [law.flux for law in self.laws]
        read += [v.speed for v in self.transport]
        return self._read(*read, *(m.coefficient for m in self.mixed), *(e for _, e in self.features))

    @property
    def explicit(self) -> frozenset[sp.Symbol]:
        """The coordinates, and time, that terms read themselves."""
        return self._read(*self.reactions) | self._coefficients

    @property
    def sides(self) -> tuple[Sides, ...]:
        """The boundary conditions of every field."""
        return self.boundaries or (self.boundary,) * len(self.unknowns)

    @property
    def shifts(self) -> tuple[tuple[int, ...], ...]:
        """Per field and axis by how many half cells its values lie above the nodes."""
        return tuple(map(shift_of, self.unknowns))

    @property
    def staggered(self) -> bool:
        """Does a field not lie on the nodes?"""
        return any(map(any, self.shifts))

    @property
    def timed(self) -> bool:
        """Does a term, or the value of a wall, read the time?"""
        return t in self.explicit or self.driven

    @property
    def driven(self) -> bool:
        """Does the value of a wall read the time?"""
        return any(t in explicit_symbols(v) for v in self.wall_values)

    @property
    def beside(self) -> tuple[Data, ...]:
        """The data that the values of walls read."""
        return tuple(f for f in self.data if any(v.has(f) for v in self.wall_values))

    @property
    def wall_values(self) -> list[sp.Expr]:
        """The values of walls that are expressions."""
        return _values(self.boundaries or (self.boundary,))

    def check_numbers(self, call: str, low: float, high: float) -> None:
        """Refuse parts of the terms that are numbers for the declared parameters, not 0 and of a size out of a range,
        that of the type that is computed in; `call` is what the user wrote."""
        terms = [e for f in self.fluxes for e in (f.kappa, f.weight, f.flux)] + [law.flux for law in self.laws]
        terms += [v.speed for v in self.transport] + [m.coefficient for m in self.mixed]
        terms += [*self.reactions, *self.wall_values, *(e for _, e in self.features)]
        values = {p: sp.Float(p.value) for p in self.parameters}
        for part in dict.fromkeys(part for e in terms for part in sp.preorder_traversal(e)):
            if not isinstance(part, sp.Expr) or part.free_symbols - values.keys() or part.atoms(Data, Unknown):
                continue
            value = part.xreplace(values).evalf()
            if value.is_Number and value.is_finite and value != 0 and not low <= abs(value) <= high:
                size = str(abs(value).evalf(3)).lower()
                shown = size if part.is_number else f"{part} = {size}"
                raise DeclarationError(
                    f"{call}: the PDE has the number {shown}, such as the square of a contrast, beyond {low:.1e} to "
                    f"{high:.1e}; use other units{', or torch.float64' * (high < sys.float_info.max)}"
                )

    @property
    def moving(self) -> bool:
        """Do the operators change with time?"""
        return t in self._coefficients

    @property
    def at_rest(self) -> bool:
        """Is there no pointwise term?"""
        return all(r == 0 for r in self.reactions)

    @property
    def coupled(self) -> bool:
        """Does a pointwise term read the field of another equation?"""
        return any(r.atoms(Unknown) - {u} for u, r in zip(self.unknowns, self.reactions, strict=True))

    @property
    def state(self) -> str:
        """What the state is called: by the name of its one field, or `fields` for all of them."""
        return str(self.unknown.func) if len(self.unknowns) == 1 else FIELDS


def canonical(pde: PDE) -> Problem:
    """Sort the equations into flux, transport and pointwise terms; an alien term raises `UnsupportedTermError`."""
    unknowns = _unknowns(pde)
    coordinates = space_of(sp.Tuple(*pde.equations))
    _check_names(pde.equations, coordinates)
    fluxes: tuple[FluxTerm, ...] = ()
    transport: tuple[TransportTerm, ...] = ()
    laws: tuple[Law, ...] = ()
    mixed: tuple[MixedTerm, ...] = ()
    rights, reactions, orders = [], [], []
    features: dict[sp.Expr, Feature] = {}
    for i, (u, equation) in enumerate(zip(unknowns, pde.equations, strict=True)):
        _check_symbols(equation, coordinates)
        order, right = _solve_for_time(equation, u)
        if order == 0 and t in explicit_symbols(right):
            raise DeclarationError(f"{equation} reads the time t, and has no time derivative")
        rights.append(right)
        right = _featured(right, coordinates, features)
        collector = _Collector(i, unknowns, coordinates)
        try:
            for term in sp.Add.make_args(right):
                collector.add(sp.S.One, (0,) * len(coordinates), term, term)
            own, pointwise = collector.finish()
        except UnsupportedTermError as error:
            form = flux_form(rights[-1], u, coordinates)
            hint = f". A divergence was multiplied out here: in flux form the right-hand side is {form}" * bool(form)
            raise UnsupportedTermError(f"{error}{hint}") from None
        mixed += tuple(MixedTerm(i, *key, c) for key, c in collector.mixed.items() if c != 0)
        laws += tuple(Law(axis, flux, i) for axis, flux in sorted(collector.laws.items()))
        laws += tuple(Law(axis, a, i, advective=True) for axis, a in sorted(collector.carried.items()))
        transport += tuple(
            TransportTerm(axis, v, m, i, k) for (axis, m, k), v in sorted(collector.speeds.items()) if v != 0
        )
        if len(unknowns) > 1 and order == 0:
            raise UnsupportedTermError(
                f"{equation} is steady, and in a system every equation has a time derivative; a steady system is one "
                f"step of BackwardEuler(1, tau=1e8) from 0, with dt of its field on the left of every equation"
            )
        fluxes += own
        reactions.append(pointwise)
        orders.append(order)
    time_order = orders[0]
    if len(set(orders)) > 1:
        raise UnsupportedTermError(
            f"the equations are of orders {', '.join(map(str, orders))} in time; a system needs one order, with "
            f"velocities as fields of their own"
        )
    if time_order == 0 and _sign(equation, fluxes) < 0:  # the sign of a diffusion, in which κ > 0
        fluxes = tuple(replace(f, kappa=-f.kappa) for f in fluxes)
        transport, reactions = tuple(replace(v, speed=-v.speed) for v in transport), [-r for r in reactions]
    weighted = next((f for f in fluxes if f.weight != 1), None)
    if weighted is not None and time_order:
        raise UnsupportedTermError(
            f"{weighted.weight} multiplies a divergence from outside, which is not in flux form −D*Φ(D u); put it "
            f"inside the outer derivative, as in div(({weighted.weight})*grad({u.func}))"
        )
    staggered = next((u for u in unknowns if any(shift_of(u))), None)
    if staggered is not None and time_order != 1:
        raise UnsupportedTermError(f"{staggered.func} is staggered, and its equation is not of first order in time")
    if (transport or laws) and time_order != 1:
        kind = "of second order in time" if time_order else "without time derivative"
        if time_order or laws:
            raise UnsupportedTermError(f"transport in an equation {kind} is not supported yet")
    if mixed and time_order == 0:
        term = mixed[0]
        raise UnsupportedTermError(
            f"{term.coefficient} couples derivatives along different axes or of different fields, which steady "
            f"problems cannot have yet"
        )
    used = [*rights, *(f.flux for f in fluxes)]
    boundaries = _boundary_per_field(pde.boundary, unknowns, coordinates)
    return Problem(
        pde=pde,
        unknowns=unknowns,
        time_order=time_order,
        coordinates=coordinates,
        fluxes=fluxes,
        transport=transport,
        reactions=tuple(reactions),
        boundary=boundaries[0],
        boundaries=boundaries if len(set(boundaries)) > 1 else (),
        parameters=_unique_parameters(used),
        laws=laws,
        mixed=mixed,
        features=tuple((feature, e) for e, feature in features.items()),
        data=tuple(sorted(set().union(*(e.atoms(Data) for e in (*rights, *_values(boundaries)))), key=str)),
    )


def _featured(e: sp.Expr, coordinates: tuple[sp.Symbol, ...], features: dict[sp.Expr, Feature]) -> sp.Expr:
    """An expression with a feature in place of every smoothed value."""
    if isinstance(e, Smoothed):
        if e not in features:
            name = f"smooth{len(features) + 1}"
            features[e] = sp.Function(name, bases=(Feature,), real=True)(*coordinates, t)
        return features[e]
    if not e.has(Smoothed):
        return e
    arguments = [_featured(a, coordinates, features) for a in e.args]
    keep = {"evaluate": False} if isinstance(e, sp.Derivative) else {}
    return e.func(*arguments, **keep)


def _unknowns(pde: PDE) -> tuple[Unknown, ...]:
    """The fields, in the order of the equations whose time derivatives are theirs."""
    every = set().union(*(equation.atoms(Unknown) for equation in pde.equations))
    if len(pde.equations) == 1 or len(every) != len(pde.equations):
        if len(every) == len(pde.equations):
            return (every.pop(),)
        names = ", ".join(sorted(str(u.func) for u in every)) or "none"
        raise DeclarationError(
            f"{len(pde.equations)} equation{'s' * (len(pde.equations) > 1)} for {len(every)} fields ({names}): "
            f"{'; '.join(map(str, pde.equations))}; every field, from loom.field, needs one equation"
        )
    found: list[Unknown] = []
    for equation in pde.equations:
        moving = {d.expr for d in equation.atoms(sp.Derivative) if t in d.variables and isinstance(d.expr, Unknown)}
        if len(moving) != 1 or moving & set(found):
            steady = (
                "; a steady system is one long step of implicit Euler: write dt(…) = … and BackwardEuler(1, tau=1e8)"
            )
            raise DeclarationError(
                f"{equation}: every equation of a system needs the time derivative of one field, its own"
                f"{steady * (not moving)}"
            )
        found.append(moving.pop())
    if len({u.args for u in found}) > 1:
        raise DeclarationError(f"the fields {found} live on different coordinates")
    return tuple(found)


def gradient_flow(density: Any, u: Any) -> sp.Eq:
    """∂ₜu = −δE/δu for E(u) = ∫ density dx, each variation kept in flux form.

    The density may contain u, other fields and their derivatives; −δE/δu = −Σ_m (−1)^|m| ∂^m (∂density / ∂(∂^m u)).
    """
    if not isinstance(u, Unknown):
        raise DeclarationError(f"gradient_flow(…, {u}): the second argument must be a field")
    density = density if isinstance(density, sp.MatrixBase) else expression(density)
    axes = space_of(u)
    if density.has(Smoothed):
        raise UnsupportedTermError(f"smooth(…) in the energy density {density}: its variation is not supported yet")
    if isinstance(density, sp.MatrixBase) or u not in density.atoms(Unknown):
        raise DeclarationError(f"gradient_flow({density}, {u}): the density must be a scalar expression of {u}")
    derivatives = sorted(density.atoms(sp.Derivative), key=sp.default_sort_key)
    own = [s for s in derivatives if s.expr == u]
    slots: dict[sp.Expr, sp.Symbol] = {s: sp.Dummy(f"s{i}", real=True) for i, s in enumerate(own)}
    for derivative in derivatives:
        if not isinstance(derivative.expr, Unknown):
            raise UnsupportedTermError(f"{derivative} in the energy density: only derivatives of fields may occur")
    slots[u] = sp.Dummy("s", real=True)
    opened = density.xreplace({k: v for k, v in slots.items() if k != u}).xreplace({u: slots[u]})
    back = {v: k for k, v in slots.items()}
    right = sp.S.Zero
    for value, slot in slots.items():
        variation = sp.diff(opened, slot).xreplace(back)
        order = _order(value, axes)
        sign = (-1) ** (sum(order) + 1)
        right += sign * _derivative(variation, axes, order)
    return sp.Eq(sp.Derivative(u, t, evaluate=False), right, evaluate=False)


class _Collector:
    """Gathers  c ∂^m [e]  term by term and pairs every outer operator with the D inside its flux."""

    def __init__(self, i: int, unknowns: tuple[Unknown, ...], coordinates: tuple[sp.Symbol, ...]) -> None:
        self.i, self.u, self.unknowns, self.x = i, unknowns[i], unknowns, coordinates
        self.pointwise: list[sp.Expr] = []
        self.speeds: dict[tuple[int, int, int], sp.Expr] = {}
        self.carried: dict[int, sp.Expr] = {}
        self.laws: dict[int, sp.Expr] = {}
        self.fluxes: dict[tuple[Any, ...], tuple[dict[Order, sp.Expr], FluxTerm, sp.Expr]] = {}
        self.mixed: dict[tuple[Order, int, Order], sp.Expr] = {}
        self.weight: sp.Expr = sp.S.One

    def add(self, c: sp.Expr, m: Order, e: sp.Expr, quoted: sp.Expr) -> None:
        coefficient, rest = e.as_independent(*self.x, t, as_Add=False) if e.is_Mul else (sp.S.One, e)
        c, e = c * coefficient, rest
        if e.is_Add and not any(m):
            for part in e.args:
                self.add(c, m, part, quoted)
        elif e.is_Mul and not any(m) and (inside := self._with_time_inside(e)) != e:
            self.add(c, m, inside, quoted)
        elif e.is_Mul and not any(m) and (weight := self._data_factor(e)) != 1:
            before, self.weight = self.weight, self.weight * weight
            self.add(c, m, e / weight, quoted)
            self.weight = before
        elif isinstance(e, sp.Derivative) and e.expr not in self.unknowns:
            self.add(c, _sum(m, self._order(e, quoted)), e.expr, quoted)
        elif not e.atoms(sp.Derivative):
            if not any(m):
                self.pointwise.append(c * e)
            elif e.atoms(Feature):
                raise UnsupportedTermError(
                    f"{quoted}: the derivative of a smoothed value is no flux; smooth(…) stands inside diffusivities, "
                    f"tensors and pointwise terms, with derivatives inside it, as in smooth(d(u, x), sigma)"
                )
            elif isinstance(e, Unknown):
                self._linear(c, m, e, quoted)
            elif sum(m) == 1 and e.atoms(Unknown) and self.weight == 1:
                self._law(m, -c * e)
            else:
                raise UnsupportedTermError(
                    f"{quoted}: the derivative of a pointwise function of the fields has no flux form here, unless it "
                    f"is a first derivative; for higher ones use the chain rule inside the flux, as in "
                    f"div(3*u**2*grad(u)) for laplacian(u**3)"
                )
        elif isinstance(e, sp.Derivative):
            self._linear(c, _sum(m, self._order(e, quoted)), e.expr, quoted)
        else:
            self._flux(c, m, e, quoted)

    def _with_time_inside(self, e: sp.Expr) -> sp.Expr:
        """c(t) ∂^m(…) as ∂^m(c(t) …): a function of time alone commutes with derivatives in space."""
        c, _ = self._data_factor(e).as_independent(*self.x, Data, as_Add=False)

        def moved(part: sp.Expr) -> sp.Expr:
            if part.is_Add:
                return sp.Add(*map(moved, part.args))
            derivative = next((f for f in sp.Mul.make_args(part) if isinstance(f, sp.Derivative)), None)
            if derivative is None:
                return c * part
            orders = _order(derivative, self.x)
            if not isinstance(derivative.expr, Unknown):
                within = sp.Add(*(c * term for term in sp.Add.make_args(derivative.expr)))
                found = _derivative(within, self.x, orders)
            elif all(n % 2 == 0 for n in orders):
                half = tuple(n // 2 for n in orders)
                found = _derivative(c * _derivative(derivative.expr, self.x, half), self.x, half)
            elif sum(orders) == 2:
                one, other = (_derivative(derivative.expr, self.x, m) for m in _units(orders))
                first, second = _units(orders)
                found = (_derivative(c * other, self.x, first) + _derivative(c * one, self.x, second)) / 2
            else:
                return c * part
            return part / derivative * found

        return moved(e / c) if c.has(t) else e

    def _data_factor(self, e: sp.Expr) -> sp.Expr:
        """The factor w, made of data, of a product w·D*Φ."""
        rest = [f for f in e.args if f.atoms(sp.Derivative)]
        divergence = len(rest) == 1 and (isinstance(rest[0], sp.Derivative) or rest[0].is_Add)
        others = [f for f in e.args if not f.atoms(sp.Derivative)]
        return sp.Mul(*others) if divergence and not any(f.atoms(Unknown) for f in others) else sp.S.One

    def finish(self) -> tuple[tuple[FluxTerm, ...], sp.Expr]:
        finished = []
        for outer, term, quoted in self._paired():
            kappas = {sp.cancel(-outer.get(m, 0) * (-1) ** sum(m) / a) for m, a in term.operator}
            if set(outer) - {m for m, _ in term.operator} or len(kappas) != 1:
                raise UnsupportedTermError(
                    f"{quoted}: the outer operator is not the adjoint of the inner one; a flux term reads "
                    f"−D*Φ(D u) with D = {_show(term.operator, self.x)}"
                )
            kappa = kappas.pop()
            if kappa != 0:
                finished.append(replace(term, kappa=kappa))
        for (m, k, n), c in list(self.mixed.items()):  # constant coefficients commute with derivatives
            mirror = self.mixed.get((n, k, m), sp.S.Zero)
            if not (c + mirror).has(*self.x, Unknown, Data):
                self.mixed[m, k, n] = self.mixed[n, k, m] = (c + mirror) / 2
        return tuple(finished), sp.Add(*self.pointwise)

    def _paired(self) -> list[tuple[dict[Order, sp.Expr], FluxTerm, sp.Expr]]:
        """Every flux with its outer operator. What is linear in a D of several terms and has not D* outside is taken
        apart, ∂ₓ(a∂ₓu + b∂ᵧu) into ∂ₓ(a∂ₓu) + ∂ₓ(b∂ᵧu)."""
        kept, self.fluxes = self.fluxes, {}
        for key, (outer, term, quoted) in kept.items():
            paired = len({sp.cancel(outer.get(m, 0) * (-1) ** sum(m) / a) for m, a in term.operator}) == 1
            paired = paired and not set(outer) - {m for m, _ in term.operator}
            g = term.diffusivity
            if paired or len(term.operator) == 1 or g is None or g.has(*[s for s, _ in term.slots]):
                self.fluxes[key] = outer, term, quoted
                continue
            for m, c in outer.items():
                for order, a in term.operator:
                    self._entry(c * a, m, term.component, order, g, quoted)
        return list(self.fluxes.values())

    def _entry(self, c: sp.Expr, m: Order, k: int, inner: Order, g: sp.Expr, quoted: sp.Expr) -> None:
        """c ∂^m(g ∂^inner u_k)."""
        if (m, k) == (inner, self.i):
            s = sp.Symbol("s", real=True)
            operator: Operator = ((inner, sp.S.One),)
            self._store(FluxTerm(operator, sp.S.One, g * s, g, ((s, operator),), of=(k,)), m, c, quoted)
            return
        if self.weight != 1:
            raise UnsupportedTermError(
                f"{quoted}: {self.weight} multiplies a divergence from outside; put it inside the outer derivative"
            )
        key = m, k, inner
        self.mixed[key] = self.mixed.get(key, sp.S.Zero) - c * (-1) ** sum(m) * g

    def _order(self, derivative: sp.Derivative, quoted: sp.Expr) -> Order:
        if t in derivative.variables:
            raise UnsupportedTermError(f"{quoted}: a time derivative on the right-hand side; solve for it first")
        return _order(derivative, self.x)

    def _linear(self, c: sp.Expr, m: Order, u: Unknown, quoted: sp.Expr) -> None:
        """c ∂_a u is transport with the speed −c, and c ∂^{2k} u = −κ D*D u with D = ∂^k."""
        if sum(m) == 1 and self.weight != 1:
            self._advection(m, c * self.weight, u, quoted)
            return
        if sum(m) == 1 and len(self.unknowns) > 1:
            self._law(m, -c * u)
            return
        k = self.unknowns.index(u)
        if sum(m) % 2:
            if self.weight != 1 or len([n for n in m if n]) > 1:
                raise UnsupportedTermError(
                    f"{quoted}: dispersion, a derivative of odd order, is along one axis and has a constant factor"
                )
            a = next(a for a, n in enumerate(m) if n)
            self.speeds[a, m[a], k] = self.speeds.get((a, m[a], k), sp.S.Zero) - c
            return
        half = tuple(n // 2 for n in m)
        if any(n % 2 for n in m):  # ∂_xy = (∂ₓ∂ᵧ + ∂ᵧ∂ₓ)/2
            odd = [a for a, n in enumerate(m) if n % 2]
            if len(odd) != 2 or sum(m) != 2:
                raise UnsupportedTermError(
                    f"{quoted}: mixed derivatives of more than second order are not supported yet"
                )
            x, y = (tuple(int(b == a) for b in range(len(m))) for a in odd)
            self._entry(c / 2, x, k, y, sp.S.One, quoted)
            self._entry(c / 2, y, k, x, sp.S.One, quoted)
            return
        if u != self.u:
            self._entry(c, half, k, half, sp.S.One, quoted)
            return
        s = sp.Symbol("s", real=True)
        operator: Operator = ((half, sp.S.One),)
        term = FluxTerm(operator, sp.S.One, s, sp.S.One, ((s, operator),), of=(self.i,))
        self._store(term, half, c, quoted)

    def _law(self, m: Order, flux: sp.Expr) -> None:
        """−∂F."""
        if flux.atoms(Feature):
            raise UnsupportedTermError("smooth(…) inside the flux of a conservation law is not supported yet")
        self.laws[m.index(1)] = self.laws.get(m.index(1), sp.S.Zero) + flux

    def _advection(self, m: Order, a: sp.Expr, u: Unknown, quoted: sp.Expr) -> None:
        """a ∂u, a speed that varies, or of another field a factor."""
        if u != self.u and not a.atoms(Unknown, Feature):
            key = m.index(1), 1, self.unknowns.index(u)
            self.speeds[key] = self.speeds.get(key, sp.S.Zero) - a
            return
        if u != self.u or a.has(self.u):
            raise UnsupportedTermError(
                f"{quoted}: transport of varying speed carries the field of its own equation, at a speed that does not "
                f"read it; in conservative form, d(F({self.u.func}), {self.x[m.index(1)]}), a flux may read all "
                f"fields. Factors of the derivatives of other fields read data, coordinates and time"
            )
        if a.atoms(Feature):
            raise UnsupportedTermError(f"{quoted}: smooth(…) in a speed is not supported yet")
        self.carried[m.index(1)] = self.carried.get(m.index(1), sp.S.Zero) - a

    def _flux(self, c: sp.Expr, m: Order, e: sp.Expr, quoted: sp.Expr) -> None:
        found: list[tuple[sp.Expr, int]] = []
        _linear_forms(e, self.unknowns, self.x, found)
        forms = {}
        for form, i in found:
            factor, operator = _normalised(_operator(form, self.unknowns[i], self.x))
            forms[form] = factor, (i, operator)
        slots = list(dict.fromkeys(slot for _, slot in forms.values()))
        own: Operator = ()
        if len(slots) == 1 and slots[0][0] == self.i:
            own = slots[0][1]
        elif len(slots) > 1 and e.is_Add:
            for part in e.args:
                self.add(c, m, part, quoted)
            return
        else:
            factors = [forms[f][1] for f in sp.Mul.make_args(e) if f in forms]
            own = next((operator for i, operator in factors if i == self.i and m in dict(operator)), ())
        if m not in dict(own):
            self._mixed(c, m, e, forms, quoted)
            return
        symbols = self._symbols((self.i, own), slots)
        flux = _replace(e, {form: factor * symbols[slot] for form, (factor, slot) in forms.items()})
        if flux.atoms(sp.Derivative):
            raise UnsupportedTermError(f"{quoted}: cannot separate the derivatives in the flux {e}")
        constant, flux = flux.as_independent(*symbols.values(), *self.x, t, Unknown, Data, as_Add=False)
        quotient = _quotient(flux, symbols[self.i, own])
        pairs = tuple((s, operator) for (_, operator), s in symbols.items())
        self._store(
            FluxTerm(own, sp.S.One, flux, quotient, pairs, of=tuple(i for i, _ in symbols)), m, c * constant, quoted
        )

    def _mixed(self, c: sp.Expr, m: Order, e: sp.Expr, forms: Mapping[sp.Expr, Any], quoted: sp.Expr) -> None:
        """c ∂^m(g D u_k) with a g that reads no derivatives."""
        linear = [f for f in sp.Mul.make_args(e) if f in forms]
        g = e / linear[0] if len(linear) == 1 else e
        if not any(m) and len(linear) == 1 and not g.atoms(sp.Derivative):
            factor, (k, operator) = forms[linear[0]]
            if all(sum(inner) == 1 for inner, _ in operator):
                for inner, a in operator:
                    self._advection(inner, c * factor * a * g, self.unknowns[k], quoted)
                return
        if g.atoms(sp.Derivative) or not any(m):
            raise UnsupportedTermError(
                f"{quoted}: not in flux form −D*Φ(D u), for there is no D u with a {_show(((m, sp.S.One),), self.x)} "
                f"in D inside the outer derivative; write diffusion as div(g*grad({self.u.func})) or "
                f"d(flux, {self.x[0]}), unexpanded. A coefficient of another derivative may read fields, data and "
                f"smooth(…), and no derivatives themselves; a "
                f"function of the gradient that is no divergence reads it at the nodes, as in "
                f"norm2(smooth(grad({self.u.func}), 0))"
            )
        factor, (k, operator) = forms[linear[0]]
        for inner, a in operator:
            self._entry(c * factor * a, m, k, inner, g, quoted)

    @staticmethod
    def _symbols(own: Slot, slots: Sequence[Slot]) -> dict[Slot, sp.Symbol]:
        """A symbol for the value of every operator, the term's own first."""
        ordered = [own, *sorted((s for s in slots if s != own), key=lambda s: (s[0], str(s[1])))]
        names = ["s"] if len(ordered) == 1 else [f"s{i}" for i in range(len(ordered))]
        return {slot: sp.Symbol(n, real=True) for slot, n in zip(ordered, names, strict=True)}

    def _store(self, term: FluxTerm, m: Order, c: sp.Expr, quoted: sp.Expr) -> None:
        term = replace(term, weight=self.weight)
        key = (term.operator, term.flux, term.slots, term.of, term.weight)
        outer, _, _ = self.fluxes.setdefault(key, ({}, term, quoted))
        outer[m] = outer.get(m, sp.S.Zero) + c


def _linear_forms(
    e: sp.Expr, unknowns: Sequence[Unknown], x: Sequence[sp.Symbol], found: list[tuple[sp.Expr, int]]
) -> None:
    """The largest subexpressions of `e` that are linear in the derivatives of one field, without repetition, each with
    the index of that field."""
    inside = [i for i, u in enumerate(unknowns) if e.has(u)]
    one = inside[0] if len(inside) == 1 else None
    if isinstance(e, sp.Derivative) or (e.is_Add and one is not None and _operator(e, unknowns[one], x, probing=True)):
        if one is None:
            what = "several fields at once" if inside else "no field"
            raise UnsupportedTermError(f"{e}: the derivative of {what}; a flux reads derivatives of single fields")
        if (e, one) not in found:
            found.append((e, one))
    else:
        for argument in e.args:
            if argument.atoms(sp.Derivative):
                _linear_forms(argument, unknowns, x, found)


def _operator(form: sp.Expr, u: Unknown, x: Sequence[sp.Symbol], probing: bool = False) -> Operator:
    """Σ α_m ∂^m u ↦ ((m, α_m), …); empty when probing something that is not of that form."""
    found: dict[Order, sp.Expr] = {}
    for term in sp.Add.make_args(form):
        coefficient, rest = term.as_independent(*x, t, as_Add=False)
        if not (rest == u or (isinstance(rest, sp.Derivative) and rest.expr == u and t not in rest.variables)):
            if probing:
                return ()
            raise UnsupportedTermError(f"{form}: {rest} is not a space derivative of {u}")
        order = _order(rest, x)
        found[order] = found.get(order, sp.S.Zero) + coefficient
    return tuple(sorted(found.items(), key=lambda item: item[0], reverse=True))


def _normalised(operator: Operator) -> tuple[sp.Expr, Operator]:
    """c·D with the leading coefficient of D equal to one."""
    leading = operator[0][1]
    return leading, tuple((m, sp.cancel(a / leading)) for m, a in operator)


def _quotient(flux: sp.Expr, s: sp.Symbol) -> sp.Expr | None:
    """Φ / s where s divides Φ exactly, else None."""
    quotients = []
    for part in sp.Add.make_args(flux):
        power = sp.Mul(*(f for f in sp.Mul.make_args(part) if f == s or (f.is_Pow and f.base == s)))
        if power == 1 or (not (power / s).as_base_exp()[1].is_nonnegative and power != s):
            return None
        quotients.append(part / s)
    return sp.Add(*quotients)


def _replace(e: sp.Expr, replaced: Mapping[sp.Expr, sp.Expr]) -> sp.Expr:
    if e in replaced:
        return replaced[e]
    return e.func(*(_replace(a, replaced) for a in e.args)) if e.atoms(sp.Derivative) and e.args else e


def _order(e: sp.Expr, x: Sequence[sp.Symbol]) -> Order:
    counts = dict(e.variable_count) if isinstance(e, sp.Derivative) else {}
    return tuple(int(counts.get(a, 0)) for a in x)


def _derivative(e: sp.Expr, x: Sequence[sp.Symbol], order: Order) -> sp.Expr:
    counts = [(a, n) for a, n in zip(x, order, strict=True) if n]
    return sp.Derivative(e, *counts, evaluate=False) if counts and e.atoms(Unknown, Data) else (e if not counts else 0)


def _units(orders: Order) -> list[Order]:
    """The first derivatives that make up a mixed one."""
    return [tuple(int(b == a) for b in range(len(orders))) for a, n in enumerate(orders) if n]


def _sum(a: Order, b: Order) -> Order:
    return tuple(i + j for i, j in zip(a, b, strict=True))


def _show(operator: Operator, x: Sequence[sp.Symbol]) -> str:
    parts = []
    for order, coefficient in operator:
        name = "".join(str(a) * n for a, n in zip(x, order, strict=True))
        parts.append((f"{coefficient}·" if coefficient != 1 else "") + (f"∂_{name}" if name else "1"))
    return " + ".join(parts)


def _solve_for_time(equation: sp.Eq, u: Unknown) -> tuple[int, sp.Expr]:
    """Write the equation as ∂ₜᵐ u = right-hand side; without a time derivative as 0 = right-hand side."""
    difference = sp.Add(equation.lhs, -equation.rhs)
    times = [d for d in difference.atoms(sp.Derivative) if d.expr == u and set(d.variables) == {t}]
    if not times:
        if not any(set(d.variables) - {t} for d in difference.atoms(sp.Derivative)):
            raise UnsupportedTermError(f"{equation} has no derivative at all: it is no differential equation")
        return 0, difference
    highest = max(times, key=lambda d: d.derivative_count)
    coefficient, rest = sp.S.Zero, []
    for term in sp.Add.make_args(difference):
        factor, found = term.as_independent(highest, as_Add=False)
        if found == highest and not factor.atoms(Unknown, Data):
            coefficient += factor
        else:
            rest.append(term)
    right = sp.Add(*(-term / coefficient for term in rest)) if coefficient != 0 else sp.nan
    leftover = [d for d in right.atoms(sp.Derivative) if t in d.variables]
    if coefficient == 0 or leftover:
        culprit = leftover[0] if leftover else highest
        raise UnsupportedTermError(f"{culprit} cannot be solved for; write the equation as dt({u.func}) = …")
    return int(highest.derivative_count), right


def _sign(equation: sp.Eq, fluxes: Sequence[FluxTerm]) -> int:
    """The one sign that κ has in all the fluxes of a steady problem, at the initial values of the parameters."""
    values = {p: sp.Float(p.value) for f in fluxes for p in f.kappa.free_symbols}
    signs = {int(sp.sign(f.kappa.xreplace(values))) for f in fluxes}
    if not signs:
        raise UnsupportedTermError(f"{equation} has no flux term −D*Φ(D u): nothing that smooths")
    if len(signs) > 1 or 0 in signs:
        raise UnsupportedTermError(
            f"the fluxes of {equation} have coefficients of both signs, or none, so that it is not elliptic; steady "
            f"problems need one sign"
        )
    return signs.pop()


def _check_symbols(equation: sp.Eq, coordinates: tuple[sp.Symbol, ...]) -> None:
    if not equation.lhs.is_finite and equation.has(sp.nan, sp.zoo, sp.oo):
        raise DeclarationError(f"{equation} contains a division by zero or an infinity")
    for s in sorted(equation.free_symbols, key=str):
        if s not in coordinates and s != t and not isinstance(s, Parameter):
            raise DeclarationError(
                f"unknown symbol {s} in {equation}; declare it: {s} = loom.parameter('{s}', value) or loom.data"
            )


def _check_names(equations: Sequence[sp.Eq], coordinates: tuple[sp.Symbol, ...]) -> None:
    """A coordinate, a field, a data field and a parameter must not share a name."""
    functions = {(str(f.func), type(f).__mro__[1].__name__) for e in equations for f in e.atoms(Unknown, Data)}
    parameters = {(p.name, "parameter") for e in equations for p in e.free_symbols if isinstance(p, Parameter)}
    names = [n for n, _ in functions | parameters] + [str(x) for x in coordinates] + [FIELDS] * (len(equations) > 1)
    names += ["t"] * any(t in explicit_symbols(side) for e in equations for side in e.args)
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise DeclarationError(f"the name {twice[0]!r} is given to two different things; rename one")


def explicit_symbols(e: sp.Basic) -> set[sp.Symbol]:
    """Symbols that stand in the expression itself, not as arguments of fields or variables of derivatives."""
    if isinstance(e, (Unknown, Data)):
        return set()
    if e.is_Symbol:
        return {e}
    arguments = (e.expr,) if isinstance(e, sp.Derivative) else e.args
    return set().union(*(explicit_symbols(a) for a in arguments))


def _unique_parameters(expressions: Iterable[sp.Expr]) -> tuple[Parameter, ...]:
    found = sorted({s for e in expressions for s in e.free_symbols if isinstance(s, Parameter)}, key=str)
    for a, b in itertools.pairwise(found):
        if a.name == b.name:
            raise DeclarationError(f"parameter {a.name} is declared twice, with values {a.value} and {b.value}")
    return tuple(found)


def _boundary_per_field(
    given: Any, unknowns: Sequence[Unknown], coordinates: tuple[sp.Symbol, ...]
) -> tuple[Sides, ...]:
    """What a dict {field: …} gives to every field, or one boundary to all of them."""
    names = [str(u.func) for u in unknowns]
    named = {called(key): value for key, value in given.items()} if isinstance(given, Mapping) else {}
    if isinstance(given, Mapping) and len(named) < len(given):
        raise BoundaryError(f"boundary={given!r}: a name is given twice")
    if not set(names) & set(named):
        return (_boundary_per_axis(given, coordinates),) * len(names)
    for name in named:
        if name not in names:
            raise BoundaryError(f"boundary for {name!r}, which is no field of this PDE; valid: {', '.join(names)}")
    for name in names:
        if name not in named:
            raise BoundaryError(f"no boundary condition for the field {name}; add {name}: NoFlux() or what holds there")
    found = []
    for name in names:
        try:
            found.append(_boundary_per_axis(named[name], coordinates))
        except BoundaryError as error:
            raise BoundaryError(f"of the field {name}: {error}") from None
    for x, *every in zip(coordinates, *found, strict=True):
        kinds = {isinstance(low, Periodic) for low, _ in every}
        if len(kinds) > 1:
            raise BoundaryError(f"boundary of {x}: Periodic for some fields only; an axis is periodic for all or none")
    return tuple(found)


def _values(boundaries: Iterable[Sides]) -> list[sp.Expr]:
    """The values of walls that are expressions."""
    values = (getattr(b, "value", 0) for sides in boundaries for pair in sides for b in pair)
    return [v for v in values if isinstance(v, sp.Expr)]


def _check_value(b: Boundary, axis: str, coordinates: tuple[sp.Symbol, ...]) -> None:
    """An expression along a wall reads the other coordinates and time, by functions that are known."""
    value = getattr(b, "value", 0)
    if not isinstance(value, sp.Expr):
        return
    allowed = {t, *(x for x in coordinates if str(x) != axis)}
    strange = [f for f in value.atoms(Unknown, Data, sp.Derivative) if not isinstance(f, Data) or f.args != coordinates]
    wrong = sorted(map(str, explicit_symbols(value) - allowed)) or sorted(map(str, strange))
    alien = wrong[0] if wrong else computable(value.xreplace(dict.fromkeys(value.atoms(Data), t)))
    if alien is not None:
        names = ", ".join(sorted(map(str, allowed)))
        raise BoundaryError(
            f"boundary of {axis}: the value {value} reads {alien}; it may read {names} and data over the coordinates"
        )


def called(key: Any) -> str:
    """What a field or a coordinate is called."""
    return str(key.func) if isinstance(key, Unknown) else str(key)


def _boundary_per_axis(given: Any, coordinates: tuple[sp.Symbol, ...]) -> Sides:
    if isinstance(given, Boundary):
        given = dict.fromkeys(coordinates, given)
    if not isinstance(given, Mapping):
        raise BoundaryError(f"boundary={given!r}: give a boundary condition or a dict {{coordinate: condition}}")
    named = {called(key): value for key, value in given.items()}
    if len(named) < len(given):
        raise BoundaryError(f"boundary={given!r}: a coordinate is given twice")
    names = [str(x) for x in coordinates]
    for name in named:
        if name not in names:
            raise BoundaryError(f"boundary for {name!r}, which is no coordinate of this PDE; valid: {', '.join(names)}")
    result = []
    for name in names:
        if name not in named:
            raise BoundaryError(f"no boundary condition for {name}; add {name}: NoFlux(), Periodic() or Dirichlet(0)")
        pair = named[name] if isinstance(named[name], (tuple, list)) else (named[name], named[name])
        if len(pair) != 2 or not all(isinstance(b, Boundary) for b in pair):
            raise BoundaryError(f"boundary of {name}: {named[name]!r} is not one condition or a pair (low, high)")
        if sum(isinstance(b, Periodic) for b in pair) == 1:
            raise BoundaryError(f"boundary of {name}: Periodic on one side only; a periodic axis has no other side")
        for b in pair:
            _check_value(b, name, coordinates)
        result.append((pair[0], pair[1]))
    return tuple(result)

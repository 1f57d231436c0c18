"""The grid, and where each boundary condition lies on it.

A position is counted in half cells: node i lies at 2i, the face i+½ at 2i+1. A boundary condition that is a
symmetry extends a value beyond its *mirror plane*, evenly or oddly:

    condition               plane at the low end        ghost values
    NoFlux                  −1  (the face −½)           even: u₋₁ = u₀
    Dirichlet(0), vertex    −2  (one node outside)      odd:  u₋₁ = 0, u₋₂ = −u₀
    Dirichlet(0), cell      −1  (the face −½)           odd:  u₋₁ = −u₀
    Periodic                none                        wraps around
    Neumann, Robin          −1  (the face −½)           open: u₋₁ = r·u₀ + s

The values of a staggered field lie on the faces i+½. Along that axis its positions are counted from the face ½, so the
wall on the face −½ lies at −2, the one on the face n−½ through its last value.

Between walls of another value g the *deviation* u − g is odd: u₋₁ = g, u₋₂ = 2g − u₀, or u₋₁ = 2g − u₀. Derivatives of
u, and directions in which it changes, have the parities of the table.

Neumann and Robin conditions a·u + b·∂u/∂n = v have r = (b/h − a/2)/(b/h + a/2) and s = v/(b/h + a/2): the mean of u₀
and u₋₁ is u on the face, their difference its derivative. The flux through the face is what this derivative makes it,
and nothing is known further out.

With `FiniteDifference(closure="one-sided")` nothing is mirrored: the unknown continues beyond every wall as the
polynomial through as many values as the order of accuracy says and the condition on the wall, and fluxes as the one
through their own values.

Every derivative flips the parity, products multiply it: so each value in the network has ghost values too,
and the transpose of a difference operator is again a difference operator. A point *on* a mirror plane
occurs once in the reflected picture and every other point twice, hence its quadrature weight ½.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from functools import cache
from numbers import Real
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
import scipy.sparse
import sympy as sp

from .errors import BoundaryError, DataError, DiscretisationError, strict
from .fields import Data, t
from .pointwise import evaluate
from .registry import Registry

Location = tuple[int, ...]
"""Per axis 0 on the nodes, 1 on the faces."""

Number = Any
"""A number, or an expression in the coordinates along a wall, the time and data."""

Walls = tuple[tuple[Number, Number], ...]
"""Per axis the value of the unknown on the low and the high mirror plane; empty where all are 0."""

Parity = tuple[tuple[int, int], ...]
"""Per axis, about the low and the high mirror plane: +1 even, −1 odd, 0 neither; +2 what continues as r·u₀ + s, −2 its
derivative. Periodic axes carry (1, 1)."""

OPEN = 2
"""The parity of the unknown beside Neumann and Robin conditions."""

ONE_SIDED = 3
"""The parity of the unknown where it is extrapolated through the condition on the wall; −3 is that of other values."""


class Spacing(sp.Symbol):  # type: ignore[misc]  # sympy is untyped
    """The spacing along an axis on whatever level of a multigrid method. No parameter can have its name."""

    def __new__(cls, axis: str) -> Spacing:
        symbol: Spacing = super().__new__(cls, f"h {axis}", positive=True)
        return symbol


class Boundary:
    """Base of the boundary conditions: each is a symmetry about a plane, which `side` places."""

    name: ClassVar[str]

    def side(self, centering: str) -> Side:
        """Where the plane lies on a grid with "vertex" or "cell" centring, and how u continues beyond it."""
        raise NotImplementedError

    @property
    def text(self) -> str:
        """What stands for it in a specification."""
        return self.name


BOUNDARIES: Registry[type[Boundary]] = Registry("boundary condition", BoundaryError)
B = TypeVar("B", bound=type[Boundary])


def boundary(name: str) -> Callable[[B], B]:
    """Register a boundary condition without arguments under the name that specifications use.

    Raises `BoundaryError` if the name is taken or the class is no `Boundary`.
    """

    def register(cls: B) -> B:
        BOUNDARIES.register(name, cls, Boundary)
        return cls

    return register


@boundary("no-flux")
@dataclass(frozen=True)
class NoFlux(Boundary):
    """No flux through the boundary, which lies on the outermost cell faces."""

    def side(self, centering: str) -> Side:
        return Side(plane="face", parity=1)


@dataclass(frozen=True)
class Mixed(Boundary):
    """Base of the conditions a·u + b·∂u/∂n = v on the outermost cell faces, n pointing outwards."""

    def coefficients(self) -> tuple[float, float, Number]:
        """(a, b, v)."""
        raise NotImplementedError

    def side(self, centering: str) -> Side:
        a, b, v = self.coefficients()
        if a == 0 and v == 0:
            return Side(plane="face", parity=1)
        return Side(plane="face", parity=OPEN, value=v, mixed=(a, b))

    @property
    def text(self) -> str:
        values = (getattr(self, f.name) for f in fields(self))
        return f"{self.name}({', '.join(_number(v) for v in values)})"


@boundary("neumann")
@dataclass(frozen=True)
class Neumann(Mixed):
    """∂u/∂n = value on the outermost cell faces, n pointing outwards; with 0 it is `NoFlux`. The value is a number, or
    an expression in the coordinates along the wall, `loom.t` and data."""

    value: Number = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", _value(self.value, f"Neumann({self.value!r})"))

    def coefficients(self) -> tuple[float, float, Number]:
        return 0.0, 1.0, self.value


@boundary("robin")
@dataclass(frozen=True)
class Robin(Mixed):
    """a·u + b·∂u/∂n = value on the outermost cell faces, n pointing outwards, with a ≥ 0 and b > 0, so that what flows
    out grows with u. The value is a number, or an expression in the coordinates along the wall, `loom.t` and data."""

    a: float
    b: float
    value: Number = 0

    def __post_init__(self) -> None:
        for name, checked in (("a", _real), ("b", _real), ("value", _value)):
            given = f"Robin(a={self.a!r}, b={self.b!r}, value={self.value!r})"
            object.__setattr__(self, name, checked(getattr(self, name), given))
        large = not isinstance(self.value, sp.Expr) and self.b > 0 and not abs(self.value) / self.b < 1e30
        if large or (self.b > 0 and not self.a / self.b < 1e30):
            raise BoundaryError(
                f"Robin(a={self.a!r}, b={self.b!r}, value={self.value!r}): a/b and value/b must be below 1e30; for "
                f"b = 0 use Dirichlet"
            )
        if not (self.a >= 0 and self.b > 0):
            raise BoundaryError(
                f"Robin(a={self.a!r}, b={self.b!r}, …): needs a ≥ 0 and b > 0, or the wall feeds what it should lose; "
                f"for b = 0 use Dirichlet"
            )

    def coefficients(self) -> tuple[float, float, Number]:
        return self.a, self.b, self.value


@boundary("periodic")
@dataclass(frozen=True)
class Periodic(Boundary):
    """The far ends of the axis are neighbours."""

    def side(self, centering: str) -> Side:
        raise AssertionError("a periodic axis has no sides")


@boundary("dirichlet")
@dataclass(frozen=True)
class Dirichlet(Boundary):
    """u = value on the boundary: one spacing outside the outermost node, or on the face of a cell-centred grid. The
    value is a number, or an expression in the coordinates along the wall, `loom.t` and data."""

    value: Number = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", _value(self.value, f"Dirichlet({self.value!r})"))

    @property
    def text(self) -> str:
        return f"dirichlet({_number(self.value)})"

    def side(self, centering: str) -> Side:
        return Side(plane="node" if centering == "vertex" else "face", parity=-1, value=self.value)


def _value(value: Any, given: str) -> Number:
    """A number, or an expression that is checked against the coordinates later."""
    if isinstance(value, sp.MatrixBase):
        raise BoundaryError(f"{given}: the value is a vector; give a scalar")
    if isinstance(value, sp.Expr) and not value.is_number:
        large = next((n for n in value.atoms(sp.Number) if not abs(n) < 10**30), None)
        if large is not None:
            raise BoundaryError(f"{given}: {large} must be finite and below 1e30")
        return value
    return _real(value, given)


def _real(value: Any, given: str) -> float:
    if not isinstance(value, (Real, sp.Number, sp.NumberSymbol)) or isinstance(value, bool):
        raise BoundaryError(f"{given}: the value must be a real number, or an expression in coordinates and loom.t")
    if not abs(float(value)) < 1e30:
        raise BoundaryError(f"{given}: the value must be finite and below 1e30")
    return float(value)


def _number(value: Number) -> str:
    if isinstance(value, sp.Expr):
        return str(value)
    return str(int(value)) if value == int(value) else repr(value)


@dataclass(frozen=True)
class Side:
    """One end of an axis: where the mirror plane lies, and the parity of the unknown, or of its deviation from `value`,
    about it. Beside an open side `mixed` is (a, b) and `value` v of a·u + b·∂u/∂n = v."""

    plane: Literal["face", "node", "value"]
    parity: int
    value: Number = 0.0
    mixed: tuple[float, float] | None = None
    closure: int = 0
    """Through how many values what lies beyond is extrapolated; 0 where it is mirrored."""

    def __post_init__(self) -> None:
        if self.mixed is not None:
            return
        if self.plane != "value" and (self.plane, self.parity) not in (("face", 1), ("face", -1), ("node", -1)):
            raise BoundaryError(
                f"Side({self.plane!r}, {self.parity!r}): valid are ('face', 1), ('face', −1) and ('node', −1); a plane "
                f"through nodes that are not unknowns has to be odd"
            )
        if self.value and self.parity > 0:
            raise BoundaryError(f"Side(…, value={self.value!r}): an even unknown has no value on the plane")

    def one_sided(self, order: int) -> Side:
        """The same condition, with values beyond it extrapolated."""
        a, b = self.mixed or ((1.0, 0.0) if self.parity < 0 else (0.0, 1.0))
        return replace(self, parity=ONE_SIDED, mixed=(a, b), closure=order)

    @property
    def depth(self) -> int:
        """Distance of the plane from the outermost value, in half cells; "value" are those of a staggered field, whose
        outermost one may lie on the plane."""
        return {"value": 0, "face": 1, "node": 2}[self.plane]


@dataclass(frozen=True)
class Axis:
    """One axis with its two ends; `sides is None` means periodic."""

    name: str
    spacing: Fraction
    sides: tuple[Side, Side] | None
    origin: float = 0.0
    shift: int = 0
    """By how many half cells the values of a field lie above the nodes."""

    @property
    def periodic(self) -> bool:
        return self.sides is None

    @property
    def parity(self) -> tuple[int, int]:
        """Parity of the unknown about the two planes."""
        return (1, 1) if self.sides is None else (self.sides[0].parity, self.sides[1].parity)

    def ghost(self, end: int) -> tuple[float, Number]:
        """r and s of the ghost value r·u₀ + s beyond an open side."""
        assert self.sides is not None
        a, b = self.sides[end].mixed or (0.0, 1.0)
        steep = b / float(self.spacing)
        return (steep - a / 2) / (steep + a / 2), self.sides[end].value / (steep + a / 2)

    @property
    def holding(self) -> bool:
        """Does a wall hold the outermost values of a staggered field?"""
        return self.sides is not None and self.sides[1].plane == "value" and self.sides[1].parity < 0

    def closed_by(self, order: int) -> Axis:
        """The same axis with one-sided closures of this order at its walls."""
        if self.sides is None:
            return self
        low, high = (side.one_sided(order) for side in self.sides)
        return replace(self, sides=(low, high))

    @property
    def one_sided(self) -> bool:
        """Are values beyond its ends extrapolated?"""
        return any(side.closure for side in self.sides or ())

    def beyond(self, end: int, location: int, steps: int, condition: bool) -> tuple[dict[int, Fraction], Fraction]:
        """What a value so many steps beyond the low or high end of the closed domain is extrapolated from: the weights
        of the values within, numbered from the wall inwards, and that of v in the condition a·u + b·∂u/∂n = v, if it is
        used; it stands for the value on the wall, where one lies."""
        assert self.sides is not None
        side = self.sides[end]
        start = Fraction(side.depth - abs(self.closed(location)[end]), 2)  # of the outermost value, in spacings
        first = int(condition and start == 0)
        mixed = side.mixed if condition else None
        weights, own = _extrapolated(mixed, self.spacing, start + first, side.closure, start - steps)
        return dict(enumerate(weights, first)), own

    @property
    def open(self) -> bool:
        """Is one of its ends an open side?"""
        return any(side.mixed for side in self.sides or ())

    @property
    def fed(self) -> bool:
        """Does a wall let something in, whatever u is, or hold it at values that vary?"""
        return any(side.mixed and side.mixed[0] == 0 for side in self.sides or ()) or self.varying

    @property
    def varying(self) -> bool:
        """Does a value vary along a wall, or in time?"""
        return any(isinstance(side.value, sp.Expr) for side in self.sides or ())

    def at(self, time: sp.Expr) -> Axis:
        """The same axis at some time."""
        if self.sides is None or not self.varying:
            return self
        low, high = (replace(side, value=_at(side.value, time)) for side in self.sides)
        return replace(self, sides=(low, high))

    @property
    def values(self) -> tuple[Number, Number]:
        """The values of the unknown on the two planes, or what an open side adds to its ghost value."""
        if self.sides is None:
            return 0.0, 0.0
        low, high = (
            self.ghost(i)[1] if side.mixed and not side.closure else side.value for i, side in enumerate(self.sides)
        )
        return low, high

    @property
    def fixed(self) -> frozenset[float]:
        """The numbers to which the ends draw the unknown: those it is held at, or v/a."""
        drawn = {s.value / s.mixed[0] for s in self.sides or () if s.mixed and s.mixed[0]}
        return frozenset(v for v in self.held | drawn if not isinstance(v, sp.Expr))

    @property
    def held(self) -> frozenset[Number]:
        """The values at those ends where the unknown has one."""
        return frozenset(s.value for s in self.sides or () if s.parity < 0 or (s.mixed and s.mixed[1] == 0))

    @property
    def homogeneous(self) -> Axis:
        """The same axis between walls of value 0."""
        if self.sides is None:
            return self
        low, high = (replace(side, value=0.0) for side in self.sides)
        return replace(self, sides=(low, high))

    def coordinate(self, position: int) -> float:
        """The coordinate at a position; the low end of the axis has that of the origin."""
        depth = self.shift if self.sides is None else self.sides[0].depth
        return self.origin + float(self.spacing) * (position + depth) / 2

    def closed(self, location: int) -> tuple[int, int]:
        """First position, and last position past node n−1, of the values on the domain with its planes."""
        if self.sides is None:
            return location, location
        low, high = (side.depth - (side.depth - location) % 2 for side in self.sides)
        return 0 if self.shift and not location else -low, high  # a staggered field is known on its low wall

    def positions(self, location: int, n: int) -> np.ndarray:
        low, high = self.closed(location)
        return np.arange(low, 2 * (n - 1) + high + 1, 2)

    def weights(self, location: int, n: int) -> np.ndarray:
        """½ on the mirror planes, 1 elsewhere: the inner product in which Kᵀ is the adjoint of K."""
        p = self.positions(location, n)
        if self.sides is None:
            return np.ones(len(p))
        low, high = -self.sides[0].depth, 2 * (n - 1) + self.sides[1].depth
        return np.where((p == low) | (p == high), 0.5, 1.0)

    def continued(
        self, positions: np.ndarray, location: int, n: int, parity: tuple[int, int]
    ) -> tuple[scipy.sparse.csr_array, np.ndarray]:
        """The matrix from the closed domain to positions that may lie beyond it, and the weights (positions, 2) of the
        values of both walls."""
        inside = self.positions(location, n)
        least = max((side.closure for side in self.sides or ()), default=0)
        if n < least:
            raise DataError(f"{n} nodes along {self.name}; its one-sided closures read {least}")
        found, walls = scipy.sparse.lil_array((len(positions), len(inside))), np.zeros((len(positions), 2))
        if not self.one_sided:
            folded, sign, _ = self.fold(positions, n, parity)
            found[np.arange(len(positions)), ((folded - inside[0]) // 2).clip(0)] = sign
            walls = np.stack([self.fold(positions, n, parity, unit)[2] for unit in ((1.0, 0.0), (0.0, 1.0))], 1)
            return found.tocsr(), walls
        for i, p in enumerate(positions):
            end = 0 if p < inside[0] else 1
            steps = (inside[0] - p if end == 0 else p - inside[-1]) // 2
            if steps <= 0:
                found[i, (p - inside[0]) // 2] = 1.0
                continue
            weights, own = self.beyond(end, location, int(steps), parity[end] == ONE_SIDED)
            for k, w in weights.items():
                found[i, k if end == 0 else len(inside) - 1 - k] = float(w)
            walls[i, end] = float(own)
        return found.tocsr(), walls

    def fold(
        self, positions: np.ndarray, n: int, parity: tuple[int, int], values: tuple[float, float] = (0.0, 0.0)
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ghost positions folded into the closed domain, with the sign each value takes and what is added to it."""
        p, sign, added = positions.copy(), np.ones(len(positions)), np.zeros(len(positions))
        if self.sides is None:
            return p % (2 * n), sign, added
        low, high = -self.sides[0].depth, 2 * (n - 1) + self.sides[1].depth
        while ((p < low) | (p > high)).any():
            ends = ((p < low, low, parity[0], values[0]), (p > high, high, parity[1], values[1]))
            for end, (outside, plane, side, value) in enumerate(ends):
                if abs(side) == OPEN:
                    far = outside & ((abs(p - plane) > 1) | (side < 0))
                    assert not far.any(), "nothing is known beyond an open side"
                    factor, shift = self.ghost(end)[0], value
                else:
                    factor, shift = float(side), (1 - side) * value
                added = np.where(outside, added + sign * shift, added)
                sign = np.where(outside, sign * factor, sign)
                p = np.where(outside, 2 * plane - p, p)
        for plane, side, value in ((low, parity[0], values[0]), (high, parity[1], values[1])):
            fixed = (p == plane) & (side == -1)
            added, sign = np.where(fixed, added + sign * value, added), np.where(fixed, 0.0, sign)
        return p, sign, added


@dataclass(frozen=True)
class Grid:
    """A uniform grid.

    `spacing` is one number or one per axis; `shape` is only needed where a size is (it is otherwise read off
    the input). `centering="vertex"` puts Dirichlet values on a node outside the grid, `"cell"` on the face;
    NoFlux lies on the face in both. `origin`, one number or one per axis, is the coordinate of the low end: of the
    wall, or on a periodic axis of the first node; equations that read x and y count from there.
    """

    spacing: Any = 1.0
    shape: tuple[int, ...] | None = None
    centering: str = "vertex"
    origin: Any = 0.0

    def __post_init__(self) -> None:
        if self.centering not in ("vertex", "cell"):
            raise DiscretisationError(f"Grid(centering={self.centering!r}): valid: 'vertex', 'cell'")
        spacings = self.spacing if isinstance(self.spacing, (tuple, list)) else (self.spacing,)
        if not spacings:
            raise DiscretisationError("Grid(spacing=()): give one spacing, or one per axis")
        for h in spacings:
            if isinstance(h, bool) or not isinstance(h, (int, float, Fraction)) or not 1e-30 < h < 1e30:
                raise DiscretisationError(
                    f"Grid(spacing={self.spacing!r}): every spacing must be a positive number between 1e-30 and 1e30"
                )
        for start in self.origin if isinstance(self.origin, (tuple, list)) else (self.origin,):
            if isinstance(start, bool) or not isinstance(start, (int, float, Fraction)) or not abs(float(start)) < 1e30:
                raise DiscretisationError(f"Grid(origin={self.origin!r}): a number below 1e30, or one per axis")
        sizes = self.shape if isinstance(self.shape, (tuple, list)) else (0,)
        if self.shape is not None and not all(isinstance(n, int) and n > 0 for n in sizes):
            raise DiscretisationError(f"Grid(shape={self.shape!r}): give one positive whole number per axis")

    def spacings(self, dimension: int) -> tuple[Fraction, ...]:
        """The spacing per axis, a decimal taken at its word: 0.1 is 1/10."""
        given = self.spacing if isinstance(self.spacing, (tuple, list)) else (self.spacing,) * dimension
        if len(given) != dimension:
            raise DiscretisationError(f"Grid(spacing={self.spacing!r}): {len(given)} spacings for {dimension} axes")
        if self.shape is not None and len(self.shape) != dimension:
            raise DiscretisationError(f"Grid(shape={self.shape!r}): {len(self.shape)} sizes for {dimension} axes")
        return tuple(exact(h) for h in given)

    def origins(self, dimension: int) -> tuple[float, ...]:
        """The coordinate of the low end of every axis."""
        given = self.origin if isinstance(self.origin, (tuple, list)) else (self.origin,) * dimension
        if len(given) != dimension:
            raise DiscretisationError(f"Grid(origin={self.origin!r}): {len(given)} numbers for {dimension} axes")
        return tuple(float(start) for start in given)


Grid.__init__ = strict(Grid.__init__)  # type: ignore[method-assign]


@cache
def _extrapolated(
    mixed: tuple[float, float] | None, h: Fraction, first: Fraction, count: int, at: Fraction
) -> tuple[list[Fraction], Fraction]:
    """The value at a distance `at` from the wall, in spacings, of the polynomial through `count` values from `first`
    inwards and a·p + b·∂p/∂n = v on the wall."""
    degree = count - (mixed is None)
    rows = [[(first + k) ** j for j in range(degree + 1)] for k in range(count)]
    if mixed is not None:
        a, b = map(exact, mixed)
        rows.append([a if j == 0 else -b / h if j == 1 else Fraction(0) for j in range(degree + 1)])
    M = sp.Matrix([[sp.Rational(e.numerator, e.denominator) for e in map(Fraction, row)] for row in rows])
    powers = sp.Matrix([sp.Rational(at.numerator, at.denominator) ** j for j in range(degree + 1)])
    weights = [Fraction(int(w.p), int(w.q)) for w in M.T.LUsolve(powers)]
    return weights[:count], weights[count] if mixed is not None else Fraction(0)


def _at(value: Number, time: sp.Expr) -> Number:
    return value.xreplace({t: time}) if isinstance(value, sp.Expr) else value


def at_time(walls: Walls, time: sp.Expr) -> Walls:
    """The walls at some time."""
    return tuple((_at(low, time), _at(high, time)) for low, high in walls)


def along_wall(
    value: Number, axes: tuple[Axis, ...], a: int, end: int, positions: Sequence[np.ndarray], scalars: Mapping[str, Any]
) -> np.ndarray:
    """The values of a wall across axis `a`, of size 1 along it, at positions along the other axes; of data, which are
    among the `scalars`, those at the nodes beside its low or its high end."""
    shape = tuple(1 if b == a else len(p) for b, p in enumerate(positions))
    if not isinstance(value, sp.Expr):
        return np.full((1, 1, *shape), value)
    slots = {}
    for f in sorted(value.atoms(Data), key=str):
        beside, name = scalars[str(f.func)], sp.Dummy(str(f.func))
        for b, (axis, p) in enumerate(zip(axes, positions, strict=True)):
            first, last = axis.closed(0)
            n = beside.shape[2 + b] - (last - first) // 2
            at = np.array([2 * (n - 1) if end else 0]) if b == a else axis.fold(p, n, (1, 1))[0]
            beside = beside.take((at - first) // 2, 2 + b)
        value, slots[name] = value.xreplace({f: name}), beside
    for b, (axis, p) in enumerate(zip(axes, positions, strict=True)):
        at = np.array([axis.coordinate(int(i)) for i in p])
        slots[sp.Symbol(axis.name, real=True)] = at.reshape((-1, *(1,) * (len(axes) - 1 - b)))
    found = np.asarray(evaluate(value, slots, scalars))
    found = found.reshape((1,) * (len(shape) + 2 - found.ndim) + found.shape)
    return np.broadcast_to(found, np.broadcast_shapes(found.shape, (1, 1, *shape)))


def symmetry(axes: tuple[Axis, ...]) -> tuple[Parity, Walls]:
    """The parity of an unknown about the planes of these axes, and its values on them; no values where all are 0."""
    walls = tuple(axis.values for axis in axes)
    return tuple(axis.parity for axis in axes), walls if any(any(v) for v in walls) else ()


def exact(number: Any) -> Fraction:
    """The decimal the user wrote, as a fraction.

    >>> exact(0.1)
    Fraction(1, 10)
    """
    return number if isinstance(number, Fraction) else Fraction(str(number))


def axes_of(names: tuple[str, ...], boundary: Any, grid: Grid, shift: Location = ()) -> tuple[Axis, ...]:
    """The axes of the grid with the boundary conditions placed on them, of a field that is staggered by `shift`."""

    def sides(name: str, pair: tuple[Boundary, Boundary], half: int) -> tuple[Side, Side] | None:
        if isinstance(pair[0], Periodic):
            return None
        if half:
            return _around(name, pair)
        return pair[0].side(grid.centering), pair[1].side(grid.centering)

    spacings, origins = grid.spacings(len(names)), grid.origins(len(names))
    every = zip(names, spacings, boundary, origins, shift or (0,) * len(names), strict=True)
    return tuple(Axis(name, h, sides(name, pair, half), start, half) for name, h, pair, start, half in every)


def _around(name: str, pair: tuple[Boundary, Boundary]) -> tuple[Side, Side]:
    """The walls of a field that is staggered along an axis: of n + 1 faces the first one is not stored."""
    low, high = pair
    if not isinstance(low, Dirichlet):
        raise BoundaryError(
            f"at the low end of {name} a field that is staggered along it needs Dirichlet(…), not {low.text}: its "
            f"value on the wall is not stored"
        )
    if not isinstance(high, (Dirichlet, NoFlux)):
        raise BoundaryError(
            f"at the high end of {name} a field that is staggered along it has Dirichlet(…), or NoFlux() where it is "
            f"free, not {high.text}"
        )
    if isinstance(high, Dirichlet) and isinstance(high.value, sp.Expr) and t in high.value.free_symbols:
        raise BoundaryError(
            f"at the high end of {name} the value {high.value} of a field that is staggered along it changes with "
            f"time, and the last values of its state lie there; let it move at the low end"
        )
    far = Side("value", -1, high.value) if isinstance(high, Dirichlet) else Side("value", 1)
    return Side("node", -1, low.value), far

"""The ops of the graph: one class each, with its shape rule and its NumPy meaning.

    K u          Stencil             nodes → faces, or an average from one to the other
    K* v         AdjointStencil      the exact transpose of a Stencil, boundary included
    Φ(s, …)      Flux                a pointwise nonlinearity
    Σ c_i v_i    Combination         a linear combination with scalar coefficients
    v            Ghost               a value on the nodes, continued beyond the boundary as the unknown is
    K u          FilterBank          C filters of the nodes, a value with C channels
    K* v         AdjointFilterBank   its exact transpose
    Σ_c v_c      ChannelSum          over the channels of a value
    Σ_d w_cd v_d ChannelMixture      for every channel one, w the trained weights of a bank
    u_i          Component           one field of a state with several
    v            Held                a rate, 0 where a wall holds a staggered field
    (v_1, …)     Stack               values as the channels of one
    R(v) = 0     Solve               the root of a residual: an implicit step
    u, f         Input               the state, an earlier state, a data field, the unknown of a solve
    R, P, …      Level               what a multigrid cycle is made of

A value has a `Place`: where it lies (location) and how it continues beyond the boundary (parity). Its array
holds the closed domain, mirror planes included. How an op is printed is the business of statements.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import sympy as sp

from . import stencil
from .bank import Bank
from .fields import t
from .grid import ONE_SIDED, OPEN, Axis, Location, Parity, Walls, symmetry
from .pointwise import evaluate, parity_of
from .solve import Solver


@dataclass(frozen=True)
class Place:
    """Where a value lies, and its parity about the mirror planes: between `walls`, that of its deviation from them."""

    location: Location
    parity: Parity
    walls: Walls = ()
    each: tuple[tuple[Parity, Walls], ...] = ()
    """Of every field of a state, where they differ; the state itself has no parity then."""

    @property
    def symmetry(self) -> Parity:
        """The parity of the value itself: none about a wall of another value than 0."""
        if not self.walls:
            return self.parity
        sides = zip(self.parity, self.walls, strict=True)
        return tuple((p[0] * (v[0] == 0), p[1] * (v[1] == 0)) for p, v in sides)


@dataclass(frozen=True)
class Context:
    """What the NumPy meaning of an op may look up: the number of nodes per axis and the scalars, of which the time may
    be one per sample."""

    axes: tuple[Axis, ...]
    shape: tuple[int, ...]
    scalars: Mapping[str, Any]


Fields = tuple[tuple[Axis, ...], ...]
"""The axes of every field, with its own boundary conditions; empty where all fields have the same."""


def _state(parity: Parity, walls: Walls, fields: Fields) -> Place:
    """Where a state lies whose fields continue alike, or each in its own way."""
    nodes = (0,) * len(parity)
    if len(fields) == 1:
        return Place(nodes, *symmetry(fields[0]))
    if fields:
        return Place(nodes, ((0, 0),) * len(parity), (), tuple(map(symmetry, fields)))
    return Place(nodes, parity, walls)


class Op:
    """Base: `place` is the shape rule, `numpy` the meaning, `hint` a readable name for the result."""

    kind: ClassVar[str]

    def place(self, arguments: Sequence[Place]) -> Place:
        raise NotImplementedError

    def numpy(self, arguments: Sequence[np.ndarray], context: Context) -> np.ndarray:
        raise NotImplementedError

    @property
    def scalars(self) -> frozenset[sp.Symbol]:
        """The parameters and step coefficients the op reads."""
        return frozenset()

    def text(self, names: Sequence[str]) -> str:
        raise NotImplementedError


@dataclass(frozen=True)
class Input(Op):
    """A value that is given: the state u or an earlier one (role "state"), a data field ("data"), what a step starts
    with ("initial"), the unknown of a solve ("unknown") or a direction in which its residual is linearised."""

    name: str
    role: str
    parity: Parity
    walls: Walls = ()
    fields: Fields = ()
    kind: ClassVar[str] = "input"

    def place(self, arguments: Sequence[Place]) -> Place:
        return _state(self.parity, self.walls, self.fields)

    def numpy(self, arguments: Sequence[np.ndarray], context: Context) -> np.ndarray:
        raise AssertionError("inputs are given, not computed")

    def text(self, names: Sequence[str]) -> str:
        return f"{self.role} {self.name}"


@dataclass(frozen=True)
class Position(Op):
    """The coordinate along an axis; beyond walls it is known no more than data are."""

    axis: int
    axes: tuple[Axis, ...]
    location: Location
    kind: ClassVar[str] = "coordinate"

    def place(self, arguments: Sequence[Place]) -> Place:
        known = ((1, 1) if axis.periodic or axis.open else (0, 0) for axis in self.axes)
        return Place(self.location, tuple(known))

    def numpy(self, arguments: Sequence[np.ndarray], context: Context) -> np.ndarray:
        axis, n, after = self.axes[self.axis], context.shape[self.axis], len(self.axes) - 1 - self.axis
        values = np.array([axis.coordinate(int(p)) for p in axis.positions(self.location[self.axis], n)])
        return np.broadcast_to(
            values.reshape((1, 1) + (1,) * self.axis + (-1,) + (1,) * after),
            (1, 1, *(len(a.positions(j, m)) for a, j, m in zip(self.axes, self.location, context.shape, strict=True))),
        )

    def text(self, names: Sequence[str]) -> str:
        return f"the coordinate {self.axes[self.axis].name}"


@dataclass(frozen=True)
class Linear(Op):
    """K or K*, for a K that acts on values of the given parity (how they continue beyond the boundary)."""

    K: stencil.Stencil
    label: str
    parity: Parity

    @property
    def scalars(self) -> frozenset[sp.Symbol]:
        return frozenset(s for p in self.K.products for s in p.coefficient.free_symbols)


@dataclass(frozen=True)
class Stencil(Linear):
    """K v, affine in v between walls of values other than 0."""

    walls: Walls = ()
    kind: ClassVar[str] = "stencil"

    def place(self, arguments: Sequence[Place]) -> Place:
        (v,) = arguments
        assert v.location == self.K.source, f"{self.label} reads {self.K.source}, given {v.location}"
        assert v.walls == self.walls, f"{self.label} is for walls {self.walls}, given {v.walls}"
        return Place(self.K.target, self.K.parity(self.parity))

    def numpy(self, arguments: Sequence[np.ndarray], context: Context) -> np.ndarray:
        return self.K.apply(arguments[0], context.shape, self.parity, context.scalars, self.walls)

    def text(self, names: Sequence[str]) -> str:
        return f"{self.label} {names[0]}"


@dataclass(frozen=True)
class AdjointStencil(Linear):
    """K* v = KᵀW v."""

    kind: ClassVar[str] = "adjoint stencil"

    def place(self, arguments: Sequence[Place]) -> Place:
        (v,) = arguments
        assert v.location == self.K.target, f"{self.label}* reads {self.K.target}, given {v.location}"
        return Place(self.K.source, self.parity)

    def numpy(self, arguments: Sequence[np.ndarray], context: Context) -> np.ndarray:
        return self.K.adjoint(arguments[0], context.shape, self.parity, context.scalars)

    def text(self, names: Sequence[str]) -> str:
        return f"{self.label}* {names[0]}"


@dataclass(frozen=True)
class FilterBank(Op):
    """K v: (B, 1, …), or all fields, to (B, C, …), all on the nodes."""

    bank: Bank
    kind: ClassVar[str] = "filter bank"

    def place(self, arguments: Sequence[Place]) -> Place:
        return Place((0,) * self.bank.dimension, tuple(((0, 0), (1, 1))[axis.periodic] for axis in self.bank.axes))

    def numpy(self, arguments: Sequence[np.ndarray], context: Context) -> np.ndarray:
        return self.bank.apply(arguments[0], context.shape)

    def text(self, names: Sequence[str]) -> str:
        return f"{self.bank.label} {names[0]}"


@dataclass(frozen=True)
class AdjointFilterBank(Op):
    """Kᵀ v: (B, C, …) to (B, 1, …), or to all fields."""

    bank: Bank
    parity: Parity
    kind: ClassVar[str] = "adjoint filter bank"

    def place(self, arguments: Sequence[Place]) -> Place:
        return Place((0,) * self.bank.dimension, self.parity)

    def numpy(self, arguments: Sequence[np.ndarray], context: Context) -> np.ndarray:
        return self.bank.adjoint(arguments[0], context.shape)

    def text(self, names: Sequence[str]) -> str:
        return f"{self.bank.label}* {names[0]}"


@dataclass(frozen=True)
class ChannelSum(Op):
    """Σ_c v_c: (B, C, …) to (B, 1, …)."""

    kind: ClassVar[str] = "channel sum"

    def place(self, arguments: Sequence[Place]) -> Place:
        return arguments[0]

    def numpy(self, arguments: Sequence[np.ndarray], context: Context) -> np.ndarray:
        total: np.ndarray = arguments[0].sum(1, keepdims=True)
        return total

    def text(self, names: Sequence[str]) -> str:
        return f"Σ_c {names[0]}"


@dataclass(frozen=True)
class ChannelMixture(Op):
    """(Σ_d w_cd v_d)_c, a mixture of the channels of a bank for each of them: (B, C, …) to (B, C, …)."""

    bank: Bank
    kind: ClassVar[str] = "channel mixture"

    def place(self, arguments: Sequence[Place]) -> Place:
        return arguments[0]

    def numpy(self, arguments: Sequence[np.ndarray], context: Context) -> np.ndarray:
        mixed: np.ndarray = np.einsum("cd,bd...->bc...", self.bank.mixture, arguments[0])
        return mixed

    def text(self, names: Sequence[str]) -> str:
        return f"mix_{self.bank.label} {names[0]}"


@dataclass(frozen=True)
class Component(Op):
    """The field of a state, (B, C, …) to (B, 1, …), that has this index and name."""

    index: int
    name: str
    kind: ClassVar[str] = "component"

    def place(self, arguments: Sequence[Place]) -> Place:
        (v,) = arguments
        return Place(v.location, *v.each[self.index]) if v.each else v

    def numpy(self, arguments: Sequence[np.ndarray], context: Context) -> np.ndarray:
        return arguments[0][:, self.index : self.index + 1]

    def text(self, names: Sequence[str]) -> str:
        return f"{self.name} of {names[0]}"


@dataclass(frozen=True)
class Held(Op):
    """A rate that vanishes where a wall holds the outermost values of a staggered field, along these axes."""

    along: tuple[int, ...]
    kind: ClassVar[str] = "held"

    def place(self, arguments: Sequence[Place]) -> Place:
        return arguments[0]

    def numpy(self, arguments: Sequence[np.ndarray], context: Context) -> np.ndarray:
        v, after = arguments[0].copy(), len(context.axes) - 1
        for a in self.along:
            np.moveaxis(v, a - after - 1, -1)[..., -1] = 0
        return v

    def text(self, names: Sequence[str]) -> str:
        return f"{names[0]}, 0 on the walls"


@dataclass(frozen=True)
class Stack(Op):
    """Values (B, 1, …) as the channels of one; `fields` names them where they are the fields of a state of which some
    stand still."""

    fields: tuple[str, ...] = ()
    kind: ClassVar[str] = "stack"

    def place(self, arguments: Sequence[Place]) -> Place:
        return Combination((sp.S.One,) * len(arguments)).place(arguments)

    def numpy(self, arguments: Sequence[np.ndarray], context: Context) -> np.ndarray:
        return np.concatenate(np.broadcast_arrays(*arguments), axis=1)

    def text(self, names: Sequence[str]) -> str:
        return f"({', '.join(names)})"


@dataclass(frozen=True)
class Flux(Op):
    """A pointwise expression of its arguments, which stand at `slots`."""

    expression: sp.Expr
    slots: tuple[sp.Symbol, ...]
    label: str
    kind: ClassVar[str] = "flux"

    def place(self, arguments: Sequence[Place]) -> Place:
        (location,) = {a.location for a in arguments}
        parities = zip(*(a.symmetry for a in arguments), strict=True)
        known = tuple(tuple(self._parity(side) for side in zip(*axis, strict=True)) for axis in parities)
        return Place(location, known)  # type: ignore[arg-type]

    def _parity(self, sides: tuple[int, ...]) -> int:
        """At one end. Beside an open side an odd function of a derivative is a flux through it, and nothing else has a
        parity."""
        signs = {s: (p > 0) - (p < 0) for s, p in zip(self.slots, sides, strict=True)}
        if ONE_SIDED in map(abs, sides):
            return -ONE_SIDED
        found = parity_of(self.expression, signs)
        if OPEN in map(abs, sides):
            return -OPEN if found < 0 and -OPEN in sides else 0
        return found

    def numpy(self, arguments: Sequence[np.ndarray], context: Context) -> np.ndarray:
        value = evaluate(self.expression, dict(zip(self.slots, arguments, strict=True)), context.scalars)
        return value if np.ndim(value) else np.full_like(arguments[0], value)

    @property
    def scalars(self) -> frozenset[sp.Symbol]:
        return frozenset(self.expression.free_symbols) - set(self.slots)

    def text(self, names: Sequence[str]) -> str:
        shown = self.expression.xreplace({s: sp.Symbol(n) for s, n in zip(self.slots, names, strict=True)})
        return f"{self.label} = {shown}"


@dataclass(frozen=True)
class Combination(Op):
    """Σ c_i v_i."""

    coefficients: tuple[sp.Expr, ...]
    kind: ClassVar[str] = "combination"

    def place(self, arguments: Sequence[Place]) -> Place:
        (location,) = {a.location for a in arguments}
        parities = {a.symmetry for a in arguments}
        parity = parities.pop() if len(parities) == 1 else tuple((0, 0) for _ in location)
        return Place(location, parity)

    def numpy(self, arguments: Sequence[np.ndarray], context: Context) -> np.ndarray:
        terms = zip(self.coefficients, arguments, strict=True)
        return sum((stencil.number(c, context.scalars) * v for c, v in terms), np.zeros(()))

    @property
    def scalars(self) -> frozenset[sp.Symbol]:
        return frozenset(s for c in self.coefficients for s in c.free_symbols)

    def text(self, names: Sequence[str]) -> str:
        return " + ".join(f"{c}·{n}" if c != 1 else n for c, n in zip(self.coefficients, names, strict=True))


@dataclass(frozen=True)
class Integral(Op):
    """The sum over the domain with its planes, which count half: one number per sample, with axes of length one."""

    location: Location
    kind: ClassVar[str] = "integral"

    def place(self, arguments: Sequence[Place]) -> Place:
        (v,) = arguments
        return Place((0,) * len(v.location), tuple((1, 1) for _ in v.location))

    def numpy(self, arguments: Sequence[np.ndarray], context: Context) -> np.ndarray:
        (v,) = arguments
        d = len(context.axes)
        for a, (axis, n) in enumerate(zip(context.axes, context.shape, strict=True)):
            weight = axis.weights(self.location[a], n)
            v = v * weight.reshape((-1,) + (1,) * (d - 1 - a))
        total: np.ndarray = v.sum(axis=tuple(range(-d, 0)), keepdims=True)
        return total

    def text(self, names: Sequence[str]) -> str:
        return f"Σ {names[0]}"


@dataclass(frozen=True)
class Ghost(Op):
    """A value on the nodes with ghost values beyond the boundary: what a stencil reads of an intermediate state."""

    parity: Parity
    walls: Walls = ()
    fields: Fields = ()
    time: sp.Expr = t
    """When the walls have their values."""
    kind: ClassVar[str] = "ghost ring"

    def place(self, arguments: Sequence[Place]) -> Place:
        return _state(self.parity, self.walls, self.fields)

    @property
    def homogeneous(self) -> Ghost:
        """That of a direction, which vanishes on the walls."""
        return Ghost(self.parity, (), tuple(tuple(a.homogeneous for a in axes) for axes in self.fields))

    @property
    def still(self) -> bool:
        """Are all walls 0?"""
        return not self.walls and all(axis == axis.homogeneous for axes in self.fields for axis in axes)

    @property
    def scalars(self) -> frozenset[sp.Symbol]:
        """Those of the time at which walls that move have their values."""
        ends = [*self.walls, *(axis.values for axes in self.fields for axis in axes)]
        moving = any(isinstance(v, sp.Expr) and v.free_symbols & self.time.free_symbols for pair in ends for v in pair)
        return frozenset(self.time.free_symbols) if moving else frozenset()

    def numpy(self, arguments: Sequence[np.ndarray], context: Context) -> np.ndarray:
        return arguments[0]

    def text(self, names: Sequence[str]) -> str:
        return f"{names[0]} with its ghost ring"


@dataclass(frozen=True)
class Solve(Op):
    """v with R(v) = 0. Arguments: R(v), v, the guess, a direction w, R'(v)w and perhaps its secant."""

    solver: Solver
    parity: Parity
    kind: ClassVar[str] = "solve"

    def place(self, arguments: Sequence[Place]) -> Place:
        return Place((0,) * len(self.parity), self.parity)

    def numpy(self, arguments: Sequence[np.ndarray], context: Context) -> np.ndarray:
        raise AssertionError("the reference runs the scheme itself, not its graph")

    def text(self, names: Sequence[str]) -> str:
        return f"{names[1]}: {names[0]} = 0, from {names[2]}"


@dataclass(frozen=True)
class Level(Op):
    """Base of the ops of a multigrid cycle, which the graph names and the templates of the cycle write."""

    label: str
    parity: Parity
    walls: Walls = ()

    def place(self, arguments: Sequence[Place]) -> Place:
        return Place((0,) * len(self.parity), self.parity, self.walls)

    def numpy(self, arguments: Sequence[np.ndarray], context: Context) -> np.ndarray:
        raise AssertionError("the reference runs the cycle itself, not its graph")

    def text(self, names: Sequence[str]) -> str:
        return f"{self.kind} of {', '.join(names)} ({self.label})"


class Smoother(Level):
    """Sweeps for A(u) = b from u. Arguments: u, b."""

    kind: ClassVar[str] = "smoother"


class Restriction(Level):
    """A value on the next coarser grid."""

    kind: ClassVar[str] = "restriction"


class Prolongation(Level):
    """A value on the next finer grid."""

    kind: ClassVar[str] = "prolongation"


class CoarseSolve(Level):
    """A(v) = c on the levels below, by a cycle from v or from 0. Arguments: v and c, or c."""

    kind: ClassVar[str] = "solve"

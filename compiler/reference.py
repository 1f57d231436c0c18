"""The oracle: the same scheme in plain NumPy, float64, with K as a sparse matrix and Kᵀ as its transpose.

It shares the semi-discrete system with the emitter and nothing else: no pass, no printer, no ghost ring.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import networkx as nx
import numpy as np

from .discretise import FROZEN, NEW, TAU, SemiDiscrete
from .errors import DataError
from .graph import run
from .grid import Axis, Walls, along_wall
from .ops import Context
from .problem import Problem
from .schemes import Scheme
from .solve import newton_krylov
from .tensors import given_tensors


class Reference:
    """`reference(u0, velocity=None, **data)`: arrays (B, C, *grid) → (B, C, *grid), with `t` for the time of u0 where
    the equation reads it.

    The velocity belongs to equations of second order in time. `fixed` holds the scheme's own scalars, such as α.
    """

    def __init__(
        self,
        system: SemiDiscrete,
        scheme: Scheme,
        tau: float,
        scalars: Mapping[str, float],
        fixed: Mapping[str, float] | None = None,
    ) -> None:
        self.system, self.scheme, self.tau = system, scheme, tau
        self.scalars = {**({TAU.name: tau} if system.transports else {}), **scalars}
        self.fixed = dict(fixed or {})

    def __call__(self, u0: Any, velocity: Any = None, **data: Any) -> np.ndarray:
        u = real(u0, "u")
        for i, field in enumerate(self.system.problem.unknowns):
            bounds = getattr(field.func, "bounds", None)
            if bounds is not None and u.ndim > 1 and not ((bounds[0] <= u[:, i]) & (u[:, i] <= bounds[1])).all():
                raise DataError(f"{field.func} leaves its declared bounds {bounds}")
        return self.states(u0, self.scheme.layers, velocity, **data)[0]

    def states(self, u0: Any, layers: int, velocity: Any = None, **data: Any) -> list[np.ndarray]:
        """The states after `layers` layers, newest first: as many as the scheme remembers."""
        timed = self.system.problem.timed
        now = real(data.pop("t", 0.0), "t") if timed else np.zeros(())
        if now.shape not in ((), np.shape(u0)[:1]):
            raise DataError(f"t has shape {now.shape}; give one time, or {len(u0)}")
        if not np.isfinite(now).all():
            raise DataError("t is not finite")
        now = now.reshape(-1, *(1,) * (np.ndim(u0) - 1))
        given = self._closed_data(data, np.shape(u0))
        u = self._closed(real(u0, "u"), {"t": now, **given})
        if any(n > most for n, most in zip(np.shape(u0)[2:], self.system.limits, strict=False)):
            raise DataError(
                f"u has shape {np.shape(u0)}, larger than Grid(shape={self.system.limits}), over which coefficients "
                f"are bounded"
            )
        started: tuple[np.ndarray, ...] = ()
        if self.system.problem.time_order == 2:
            start = np.zeros(np.shape(u0)) if velocity is None else real(velocity, "velocity")
            if start.shape != np.shape(u0):
                raise DataError(f"velocity has shape {start.shape}, u {np.shape(u0)}; give it one value per node")
            started = (closed(self.system.axes, start, odd=True, width=self.system.width),)
        elif velocity is not None:
            raise DataError("a velocity was given, but the equation is of first order in time")
        f = self.right_hand_side(u.shape[2:], given)
        if not timed:
            found = self.scheme.march(f, u, self.tau, layers, started, **self.fixed)
        else:
            begun = Timed(u, now), tuple(Timed(v, np.ones(())) for v in started)
            marched = self.scheme.march(f, begun[0], self.tau, layers, begun[1], **self.fixed)
            found = tuple(state.values for state in marched)
        return [s[nodes(self.system.axes, np.shape(u0)[2:])] for s in found]

    def rate(self, u: Any, **data: Any) -> np.ndarray:
        """f(u) on the nodes."""
        u0 = real(u, "u")
        given = self._closed_data(data, u0.shape)
        whole = self._closed(u0, given)
        f = self.right_hand_side(whole.shape[2:], given)
        rate: np.ndarray = f(whole)[nodes(self.system.axes, u0.shape[2:])]
        return rate

    def evaluate(self, graph: nx.DiGraph, u: Any, **data: Any) -> np.ndarray:
        """The integrals that a graph computes from u, shape (B,)."""
        u0 = real(u, "u")
        given = self._closed_data(data, u0.shape)
        whole = self._closed(u0, given)
        context = Context(self.system.axes, u0.shape[2:], {**self.scalars, **self._beside(given)})
        inputs = {self.system.problem.state: whole, **given}
        return run(graph, inputs, context).reshape(len(u0))

    def right_hand_side(self, closed_shape: tuple[int, ...], data: Mapping[str, np.ndarray]) -> _RightHandSide:
        shape = tuple(
            n - len(range(a.closed(0)[0], 0, 2)) - len(range(0, a.closed(0)[1], 2))
            for n, a in zip(closed_shape, self.system.axes, strict=True)
        )
        mask = np.zeros(closed_shape)
        mask[nodes(self.system.axes, shape)[2:]] = 1.0
        scalars = {**self.scalars, **self._beside(data)}
        return _RightHandSide(self, Context(self.system.axes, shape, scalars), data, mask)

    def _beside(self, data: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The data that walls read."""
        return {str(f.func): data[str(f.func)] for f in self.system.problem.beside}

    def _closed(self, u: np.ndarray, given: Mapping[str, Any]) -> np.ndarray:
        """A state between the walls, which read the time and data."""
        if not self.system.fields:
            return closed(self.system.axes, u, odd=True, walls=self.system.walls, width=self.system.width, given=given)
        channels = enumerate(np.split(u, u.shape[1], 1)) if u.ndim > 1 and u.shape[1] == self.system.width else ()
        each = [
            closed(self.system.along(i), one, odd=True, walls=self.system.of(i)[1], given=given) for i, one in channels
        ]
        return np.concatenate(each, 1) if each else closed(self.system.axes, u, odd=True, width=self.system.width)

    def _closed_data(self, data: Mapping[str, Any], shape: tuple[int, ...]) -> dict[str, np.ndarray]:
        given = checked(self.system.problem, data, shape)
        return {name: closed(self.system.axes, array, odd=False) for name, array in given.items()}


class Timed:
    """A state and its time, for which t' = 1 runs along: sums and multiples of both."""

    def __init__(self, values: np.ndarray, time: np.ndarray) -> None:
        self.values, self.time = values, time

    def __add__(self, other: Timed) -> Timed:
        return Timed(self.values + other.values, self.time + other.time)

    def __radd__(self, zero: int) -> Timed:
        return self

    def __mul__(self, scalar: Any) -> Timed:
        return Timed(float(scalar) * self.values, float(scalar) * self.time)

    __rmul__ = __mul__

    def __truediv__(self, scalar: Any) -> Timed:
        return self.__mul__(1 / scalar)

    def __neg__(self) -> Timed:
        return self * -1

    def __pos__(self) -> Timed:
        return self

    def __sub__(self, other: Timed) -> Timed:
        return self + -other

    def earlier(self, time: float) -> Timed:
        """The same values, so much earlier: what a multistep scheme starts from."""
        return Timed(self.values, self.time - time)

    def solve_for(self, residual: Callable[[Timed], Timed], solver: Any) -> Timed:
        """The time of the solution is where the residual of times vanishes."""
        zero = residual(Timed(self.values, np.zeros(()))).time
        time = -zero / (residual(Timed(self.values, np.ones(()))).time - zero)
        return Timed(newton_krylov(lambda v: residual(Timed(v, time)).values, self.values), time)


class _RightHandSide:
    """f on arrays over the closed domain; it vanishes on a plane where the unknown does."""

    def __init__(
        self,
        reference: Reference,
        context: Context,
        data: Mapping[str, np.ndarray],
        mask: np.ndarray,
        part: int | None = None,
        turn: int | None = None,
    ) -> None:
        self.reference, self.context, self.data, self.mask = reference, context, data, mask
        self.part, self.turn = part, turn
        self.name = reference.system.problem.state

    def __call__(self, u: Any) -> Any:
        return self._at(u, self.reference.system.graph(self.part, False, self.turn), {})

    def frozen(self, u: Any) -> Callable[[Any], Any]:
        graph = self.reference.system.graph(self.part, True, self.turn)
        return lambda v: self._at(v, graph, {FROZEN: u})

    def _at(self, u: Any, graph: nx.DiGraph, frozen: Mapping[str, Any]) -> Any:
        """The rate at u, and if that has a time at this time, or that of the frozen state."""
        if not isinstance(u, Timed):
            return run(graph, {self.name: u, **frozen, **self.data}, self.context) * self.mask
        now = next(iter(frozen.values()), u).time
        context = replace(self.context, scalars={**self.context.scalars, "t": now, NEW.name: u.time})
        states = {name: self._held(w) for name, w in {self.name: u, **frozen}.items()}
        share = len(self.reference.system.axes) if self.part is not None else 1
        share *= len(self.reference.system.turns) if self.turn is not None else 1
        rate = np.full((), 1 / share if self.reference.system.problem.time_order == 1 else 0.0)
        return Timed(run(graph, {**states, **self.data}, context) * self.mask, rate)

    def _held(self, u: Timed) -> np.ndarray:
        """A state with what walls on nodes hold it at by now."""
        if not self.reference.system.problem.driven:
            return u.values
        inside = nodes(self.context.axes, self.context.shape)
        return self.reference._closed(u.values[inside], {**self.data, "t": u.time})

    def split(self) -> list[_RightHandSide]:
        return [
            _RightHandSide(self.reference, self.context, self.data, self.mask, part)
            for part in range(len(self.reference.system.axes))
        ]

    def fields(self) -> list[_RightHandSide]:
        system, own = self.reference.system, (self.reference, self.context, self.data, self.mask, self.part)
        return [_RightHandSide(*own, turn) for turn in range(len(system.turns))] if system.width > 1 else [self]


def checked(problem: Problem, data: Mapping[str, Any], shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """The data fields of the problem as arrays that fit u of the given shape, within their declared bounds."""
    bounds = {str(f.func): None if hasattr(f.func, "tensor") else getattr(f.func, "bounds", None) for f in problem.data}
    if sorted(data) != sorted(bounds):
        raise DataError(f"data fields given: {sorted(data)}; the equation reads: {sorted(bounds)}")
    found = {name: real(value, f"data {name!r}") for name, value in data.items()}
    for name, array in found.items():
        if array.ndim != len(shape) or array.shape[0] not in (1, shape[0]) or array.shape[1:] != (1, *shape[2:]):
            raise DataError(f"data {name!r} has shape {array.shape}; expected ({shape[0]} or 1, 1, *{shape[2:]})")
        limits = bounds[name]
        if limits is not None and not ((limits[0] <= array) & (array <= limits[1])).all():
            raise DataError(f"data {name!r} leaves its declared bounds {limits}")
    for name, (matrix, low, high) in given_tensors(problem.data).items():
        rows = [[found[str(f.func)] for f in row] for row in matrix.tolist()]
        values = np.linalg.eigvalsh(np.stack([np.stack(np.broadcast_arrays(*row), -1) for row in rows], -1))
        slack = 64 * np.finfo(values.dtype).eps * max(abs(low), abs(high))
        if values.min() < low - slack or values.max() > high + slack:
            raise DataError(f"the eigenvalues of {name} leave their declared bounds ({low:g}, {high:g})")
    return found


def closed(
    axes: tuple[Axis, ...],
    u: np.ndarray,
    odd: bool,
    walls: Walls = (),
    width: int = 1,
    given: Mapping[str, Any] | None = None,
) -> np.ndarray:
    """Nodes → closed domain: an odd unknown has the value of a wall on a plane through values, data continue evenly.
    `given` are the time and the closed data that walls read."""
    d, sizes = len(axes), u.shape[2:]
    if u.ndim != d + 2 or u.shape[1] != width or 0 in u.shape:
        raise DataError(f"u has shape {u.shape}; expected (B, {width}, *grid) with {d} grid axes")
    for a, axis in enumerate(axes):
        low, high = axis.closed(0)
        pad = [(0, 0)] * u.ndim
        pad[2 + a] = (-low // 2, high // 2)
        if not odd:
            u = np.pad(u, pad, mode="edge")
            continue
        u = np.pad(u, pad)
        for end, value in enumerate(walls[a] if walls else (0.0, 0.0)):
            if pad[2 + a][end] or (end and axis.holding):
                every = enumerate(zip(axes, sizes, strict=True))
                positions = [b.positions(0, n) if i < a else 2 * np.arange(n) for i, (b, n) in every]
                at = [slice(None)] * u.ndim
                at[2 + a] = slice(-1, None) if end else slice(0, 1)
                u[tuple(at)] = along_wall(value, axes, a, end, positions, given or {})
    return u


def nodes(axes: tuple[Axis, ...], shape: tuple[int, ...]) -> tuple[slice, ...]:
    """The nodes in an array over the closed domain."""
    lows = [-axis.closed(0)[0] // 2 for axis in axes]
    return (slice(None), slice(None), *(slice(low, low + n) for low, n in zip(lows, shape, strict=True)))


def real(value: Any, what: str) -> np.ndarray:
    """A real array in double precision."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        raise DataError(f"{what} is not an array of numbers") from None
    if array.dtype.kind not in "fiub":
        raise DataError(f"{what} holds values of type {array.dtype}; give real numbers")
    return array.astype(np.float64)

"""The oracle of multigrid: the scheme's own `descend` on NumPy arrays, transfers as sparse matrices.

It shares the graphs of A with the emitter and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import networkx as nx
import numpy as np
import scipy.sparse

from .elliptic import DELTA, Elliptic
from .errors import ConvergenceError, DataError
from .graph import run
from .local_fourier import semi_iterate
from .ops import Context, Input
from .reference import checked, closed, nodes, real
from .stencil import number

NEWTON = 5
"""Newton steps on the coarsest grid of a nonlinear problem."""


class CycleReference:
    """`reference(u0, **data)`: arrays (B, 1, *grid) → (B, 1, *grid), after all cycles."""

    def __init__(self, problem: Elliptic, values: Mapping[str, float]) -> None:
        self.problem, self.values = problem, values

    def __call__(self, u0: Any, **data: Any) -> np.ndarray:
        return self.history(u0, **data)[-1]

    def history(self, u0: Any, **data: Any) -> list[np.ndarray]:
        """The iterates, the first guess included.

        Raises `DataError` for shapes that do not fit and for data a singular problem is not compatible with, and
        `ConvergenceError` where the cycles diverge.
        """
        u, given = real(u0, "u"), checked(self.problem.problem, data, np.shape(u0))
        level = Level(self, 0, self.problem.shapes(u.shape[2:]), given)
        b = self.source(u.shape, given)
        if self.problem.singular:
            mean = b.mean(axis=tuple(range(1, b.ndim)))
            if (abs(mean) > 1e-6 * np.sqrt((b**2).mean(axis=tuple(range(1, b.ndim)))) + 1e-300).any():
                raise DataError(f"the problem is singular, and its right-hand side has mean {mean}, not zero")
            b = b - mean.reshape(-1, *[1] * (b.ndim - 1))
        scheme = self.problem.scheme

        def size(v: np.ndarray) -> np.ndarray:
            norms: np.ndarray = np.linalg.norm((b - level.operator(v)).reshape(len(v), -1), axis=1)
            return norms

        guess, first = u, size(u)
        if scheme.first == "full":
            u = level.full(b, u)
        found = [u]
        for _ in range(scheme.cycles):
            u = level.cycle(u, b, scheme.cycle)
            if self.problem.singular:  # the mean is free: it stays that of the first guess
                u = u + (guess - u).mean(axis=tuple(range(1, u.ndim)), keepdims=True)
            if scheme.recombine:
                u = self._recombined(level, u, b, found[-scheme.recombine :])
            found.append(u)
            if scheme.tol is not None and (size(u) <= scheme.tol * first).all():
                break
        limit = 2 * first + 1e-8 * np.linalg.norm(b)
        if not (size(found[-1]) <= limit).all() and scheme.on_divergence == "error":
            raise ConvergenceError(f"the cycles diverge: ‖b − A(u)‖ went from {first.max():.3g} to {size(u).max():.3g}")
        return found

    @staticmethod
    def _recombined(level: Level, u: np.ndarray, b: np.ndarray, earlier: list[np.ndarray]) -> np.ndarray:
        """The affine combination of u and earlier iterates with the smallest residual, where that is smaller."""
        r = b - level.operator(u)
        others = [(v, b - level.operator(v)) for v in earlier]
        best = u.copy()
        for i in range(len(u)):
            D = np.stack([(s[i] - r[i]).ravel() for _, s in others], axis=1)
            gamma, *_ = np.linalg.lstsq(D, -r[i].ravel(), rcond=1e-12)
            best[i] = u[i] + sum(g * (v[i] - u[i]) for g, (v, _) in zip(gamma, others, strict=True))
        sizes = [((b - level.operator(v)) ** 2).sum(axis=tuple(range(1, v.ndim)), keepdims=True) for v in (best, u)]
        chosen: np.ndarray = np.where(sizes[0] < sizes[1], best, u)
        return chosen

    def source(self, shape: tuple[int, ...], data: Mapping[str, np.ndarray]) -> np.ndarray:
        graph = self.problem.right_hand_side
        if graph is None:
            b = np.full(shape, number(self.problem.source, self.values))
        else:
            b = self.evaluate(graph, {}, data, shape, self.problem.physical) + np.zeros(shape)
        if self.problem.walled is not None:
            zero = {str(self.problem.problem.unknown.func): np.zeros(shape)}
            b = b - self.evaluate(self.problem.walled, zero, data, shape, self.problem.physical)
        return b

    def evaluate(
        self,
        graph: nx.DiGraph,
        states: Mapping[str, np.ndarray],
        data: Mapping[str, np.ndarray],
        shape: tuple[int, ...],
        spacing: Sequence[float],
    ) -> np.ndarray:
        """A graph on arrays over the nodes."""
        axes = self.problem.axes
        scalars = {**self.values, **{h.name: s for h, s in zip(self.problem.spacings, spacing, strict=True)}}
        walls = {op.name: op.walls for _, op in graph.nodes(data="op") if isinstance(op, Input)}
        inputs = {name: closed(axes, v, odd=True, walls=walls.get(name, ())) for name, v in states.items()}
        inputs |= {name: closed(axes, v, odd=False) for name, v in data.items()}
        value: np.ndarray = run(graph, inputs, Context(axes, shape[2:], scalars))[nodes(axes, shape[2:])]
        return value


class Level:
    """One grid, and what `Multigrid.descend` calls."""

    def __init__(
        self, reference: CycleReference, index: int, shapes: Sequence[tuple[int, ...]], data: Mapping[str, np.ndarray]
    ) -> None:
        self.reference, self.index, self.shapes, self.data = reference, index, shapes, data
        self.problem, self.scheme = reference.problem, reference.problem.scheme
        self.shape = shapes[index]
        self.coarsest = index == len(shapes) - 1
        steps = [DELTA[kind] - 1 for kind in self.problem.kinds]
        sizes = zip(self.problem.physical, steps, shapes[0], self.shape, strict=True)
        self.spacing = [h * (n + e) / (m + e) for h, e, n, m in sizes]
        self._diagonal: np.ndarray | None = None
        self.matrix: np.ndarray | None = None
        """A of a Galerkin level."""

    @cached_property
    def below(self) -> Level:
        data = {name: self._along(v, self._average) for name, v in self.data.items()}
        level = Level(self.reference, self.index + 1, self.shapes, data)
        if self.scheme.coarse == "galerkin":
            R, P = self._kron(self._full_weighting), self._kron(self._interpolation)
            level.matrix = R @ self.dense(None) @ P
        return level

    # --- what the scheme calls ------------------------------------------------------------------------------

    def cycle(self, u: np.ndarray, b: np.ndarray, kind: str) -> np.ndarray:
        if self.coarsest:
            return self.direct(u, b)
        new: np.ndarray = self.scheme.descend(self, u, b, kind)
        return new

    def operator(self, u: np.ndarray) -> np.ndarray:
        if self.matrix is not None:
            return self._times(self.matrix, u)
        shape = (max([len(u), *(len(v) for v in self.data.values())]), *u.shape[1:])
        name = str(self.problem.problem.unknown.func)
        return self.reference.evaluate(self.problem.operator, {name: u}, self.data, shape, self.spacing)

    def smooth(self, u: np.ndarray, b: np.ndarray, sweeps: int) -> np.ndarray:
        if self.scheme.smoother != "red-black":
            return np.asarray(semi_iterate(self, self.index, u, b, sweeps))
        for _ in range(sweeps):
            for here in self._groups():
                u = np.where(here, u + (b - self.operator(u)) / self.diagonal(u), u)
        return u

    def _groups(self) -> list[Any]:
        """The nodes that are relaxed together: corner by corner, or for a nonlinear A colour by colour, where on a
        periodic axis with an odd number of nodes the last ones have colours of their own."""
        index = np.indices(self.shape)
        if self.problem.linear:
            corners = self.problem.corners
            return [np.all([i % 2 == k for i, k in zip(index, c, strict=True)], axis=0) for c in corners]
        colours = sum(index) % 2
        for a, (kind, n) in enumerate(zip(self.problem.kinds, self.shape, strict=True)):
            if kind == "periodic" and n % 2:
                colours = colours + 2 ** (a + 1) * (index[a] == n - 1)
        return [colours == k for k in np.unique(colours)]

    def inject(self, u: np.ndarray) -> np.ndarray:
        if self.problem.linear:
            return np.zeros((*u.shape[:2], *self.below.shape))
        return self._along(u, self._injection)

    def restrict(self, r: np.ndarray) -> np.ndarray:
        return self._along(r, self._full_weighting)

    def prolong(self, v: np.ndarray) -> np.ndarray:
        return self._along(v, self._interpolation)

    def right_hand_side(self, r: np.ndarray, w: np.ndarray) -> np.ndarray:
        return r if self.problem.linear else r + self.operator(w)

    def difference(self, v: np.ndarray, w: np.ndarray) -> np.ndarray:
        change: np.ndarray = v - w
        return change

    def correct(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        new: np.ndarray = u + v
        return new

    def full(self, b: np.ndarray, u: np.ndarray) -> np.ndarray:
        """The full multigrid start: solve on the coarsest grid, interpolate, one cycle, and so on."""
        if self.coarsest:
            return self.direct(u, b)
        below = self.below
        coarse = below.full(self._along(b, self._average), self._along(u, self._injection))
        return self.cycle(self.prolong(coarse), b, self.scheme.cycle)

    # --- matrices -----------------------------------------------------------------------------------------

    def dense(self, u: np.ndarray | None) -> np.ndarray:
        """A'(u) as a matrix, or several."""
        if self.matrix is not None:
            return self.matrix
        return self._dense(self.problem.operator if self.problem.linear else self.problem.tangent, u)

    def _dense(self, graph: nx.DiGraph, u: np.ndarray | None) -> np.ndarray:
        n, name = int(np.prod(self.shape)), str(self.problem.problem.unknown.func)
        basis = np.eye(n).reshape(n, 1, *self.shape)
        samples = max([1 if u is None else len(u), *(len(v) for v in self.data.values())])
        matrices = []
        for i in range(samples):
            data = {k: v[i % len(v)][None] for k, v in self.data.items()}
            states = (
                {name: basis}
                if u is None or self.problem.linear
                else {name: u[i % len(u)][None], self.problem.direction: basis}
            )
            image = self.reference.evaluate(graph, states, data, basis.shape, self.spacing)
            matrices.append((image + np.zeros(basis.shape)).reshape(n, n).T)
        return np.stack(matrices)

    def diagonal(self, u: np.ndarray) -> Any:
        """D: the diagonal of A, its diffusivities at u."""
        if self.problem.linear and self._diagonal is not None:
            return self._diagonal
        M = self.dense(u) if self.problem.linear else self._dense(self.problem.secant, u)
        self._diagonal = np.diagonal(M, axis1=1, axis2=2).reshape(-1, 1, *self.shape)
        return self._diagonal

    def direct(self, u: np.ndarray, b: np.ndarray) -> np.ndarray:
        for _ in range(1 if self.problem.linear else NEWTON):
            r = (b - self.operator(u)).reshape(len(u), -1, 1)
            M = self.dense(u)
            if self.problem.singular:
                M = M + (abs(M).max() or 1.0) / M.shape[-1]  # fixes the mean
            u = u + np.linalg.solve(np.broadcast_to(M, (len(r), *M.shape[1:])), r).reshape(u.shape)
        return u

    @staticmethod
    def _times(M: np.ndarray, u: np.ndarray) -> np.ndarray:
        product: np.ndarray = (M @ u.reshape(len(u), -1, 1)).reshape(u.shape)
        return product

    def _kron(self, matrix: Any) -> np.ndarray:
        total = np.eye(1)
        for a, n in enumerate(self.shape):
            total = np.kron(total, matrix(a).toarray() if a in self.problem.halved(self.index) else np.eye(n))
        return total

    def _along(self, v: np.ndarray, matrix: Any) -> np.ndarray:
        for a in self.problem.halved(self.index):
            moved = np.moveaxis(v, 2 + a, 0)
            M = matrix(a)
            v = np.moveaxis((M @ moved.reshape(len(moved), -1)).reshape(M.shape[0], *moved.shape[1:]), 0, 2 + a)
        return v

    def _interpolation(self, a: int) -> scipy.sparse.csr_array:
        """P along an axis: the interpolant of the coarse nodes, continued beyond the boundaries, at the fine ones."""
        return self._between(a, self.scheme.prolongation)

    def _full_weighting(self, a: int) -> scipy.sparse.csr_array:
        """R along an axis, Pᵀh/H for one of the two interpolations."""
        nests = self.shape[a] == 2 * self.shapes[self.index + 1][a]
        kind = "constant" if self.problem.restriction == "average" and nests else "linear"
        ratio = (self.shapes[self.index + 1][a] + self._excess(a)) / (self.shape[a] + self._excess(a))
        return scipy.sparse.csr_array(self._between(a, kind).T * ratio)

    def _average(self, a: int) -> scipy.sparse.csr_array:
        """How data reach the coarser grid: the restriction without boundaries, its weights adding up to one."""
        rows = self._between(a, "constant" if self.problem.kinds[a] == "cells" else "linear", sign=0).T.toarray()
        return scipy.sparse.csr_array(rows / rows.sum(1, keepdims=True))

    def _injection(self, a: int) -> scipy.sparse.csr_array:
        """R̂ along an axis: the value at the coarse node where there is one, else as data are averaged."""
        kind, m, n = self.problem.kinds[a], self.shapes[self.index + 1][a], self.shape[a]
        if kind == "cells" or n + self._excess(a) != 2 * (m + self._excess(a)):
            return self._average(a)
        rows = np.zeros((m, n))
        rows[np.arange(m), 2 * np.arange(m) + (kind == "nodes")] = 1
        return scipy.sparse.csr_array(rows)

    def _excess(self, a: int) -> float:
        return DELTA[self.problem.kinds[a]] - 1

    def _between(self, a: int, interpolation: str, sign: int = 1) -> scipy.sparse.csr_array:
        """Interpolation from m to n nodes. Beyond the boundary it takes mirror images, or with sign 0 nothing."""
        axis, m, n = self.problem.axes[a], self.shapes[self.index + 1][a], self.shape[a]
        ratio = (m + self._excess(a)) / (n + self._excess(a))
        low = 0.0 if axis.sides is None else axis.sides[0].depth / 2
        constant = interpolation == "constant" and self.problem.kinds[a] == "cells"
        P = np.zeros((n, m))
        for i in range(n):
            at = (i + low) * ratio - low
            left = int(np.floor(at + 1e-9))
            for k, w in ((left, 1 - (at - left)), (left + 1, at - left)):
                w = float(w > 0.5 or (w == 0.5 and k == left)) if constant else w
                folded, parity, _ = axis.fold(np.array([2 * k]), m, axis.parity if sign else (0, 0))
                j = int(folded[0]) // 2
                if abs(w) > 1e-9 and 0 <= j < m and parity[0]:
                    P[i, j] += w * parity[0]
        return scipy.sparse.csr_array(P)

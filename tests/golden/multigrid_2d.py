"""Poisson2d: the U-net that multigrid is for this PDE.

PDE          -∂xx u - ∂yy u = f
boundary     Dirichlet(0)
grid         h = 0.0625, 0.0625, vertex-centred
space        finite differences of order 2
cycle        6 V(2,2)-cycles, red-black smoother
scheme       correction scheme, A is linear
coarse grids rediscretised A, full-weighting restriction, linear prolongation
energy decrease unknown; –
smoothing factor unknown; estimate 0.396
two-grid factor unknown; estimate 0.0408
trained      nothing

Written by pdeloom 0.1.0; needs torch alone. Yours to read, edit and keep.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._C._functorch import get_unwrapped as _unwrapped
from torch._C._functorch import is_functorch_wrapped_tensor as _is_wrapped

__all__ = ["Poisson2d"]

CERTIFICATE = {
    "notion": "energy decrease",
    "status": "unknown",
    "norm": "A",
    "formula": "–",
    "assumptions": [],
    "notions": {
        "energy decrease": "unknown",
        "smoothing factor": "unknown",
        "two-grid factor": "unknown",
    },
    "factors": {
        "smoothing factor": 0.3958,
        "two-grid factor": 0.04076,
    },
}


class ConvergenceError(RuntimeError):
    """A solve that did not converge; `history` holds its relative residuals."""

    def __init__(self, message: str, history: list[float]) -> None:
        super().__init__(message)
        self.history = history


class Axis(NamedTuple):
    """Where the boundaries of an axis lie: `low` spacings below the first node, and
    `excess` more spacings from one to the other than nodes, minus one; how u continues."""

    kind: str
    low: float
    excess: float
    parity: tuple


AXES = (
    Axis("nodes", 1.0, 1.0, (0, 0)),
    Axis("nodes", 1.0, 1.0, (0, 0)),
)
# of the finest grid
SPACING = (0.0625, 0.0625)
# corners: a colour is every second node from them on
COLOURS = (((0, 0), (1, 1)), ((0, 1), (1, 0)))


class Grid(NamedTuple):
    """One grid of the pyramid: its size, its spacings, and what A is on it."""

    shape: tuple
    spacing: tuple
    scalars: dict
    data: dict
    halved: tuple
    tables: dict
    inverse: Any = None
    matrix: Any = None


def along(axis: int, start: Any = None, stop: Any = None, step: Any = None) -> tuple:
    """The index of a slice along one axis."""
    return (..., slice(start, stop, step), *[slice(None)] * (len(AXES) - 1 - axis))


def norm(r: Tensor) -> Tensor:
    """‖r‖ of every sample, shape (B, 1, …)."""
    return r.square().sum(dim=tuple(range(1, r.dim())), keepdim=True).sqrt()


def solve(M: Tensor, r: Tensor) -> Tensor:
    """M⁻¹ r, at least in single precision."""
    wide = torch.promote_types(r.dtype, torch.float32)
    v = torch.linalg.solve(M.to(wide), r.flatten(1)[..., None].to(wide))
    return v.to(r.dtype).reshape(r.shape)


def weave(even: Tensor, odd: Tensor, axis: int) -> Tensor:
    """Every second value from `even`, the others from `odd`."""
    n, at = odd.shape[axis - len(AXES)], even.dim() + axis - len(AXES)
    woven = torch.stack((even[along(axis, 0, n)], odd), dim=at + 1).flatten(at, at + 1)
    rest = even[along(axis, n)]
    return torch.cat((woven, rest), dim=at) if rest.shape[at] else woven


def shifted(v: Tensor, axis: int, by: int, edge: Tensor | None = None) -> Tensor:
    """The lower (−1) or upper (1) neighbours; beyond the boundary the image of `edge`."""
    kind, parity = AXES[axis].kind, AXES[axis].parity
    edge = v if edge is None or kind == "periodic" else edge
    first, last = edge[along(axis, 0, 1)], edge[along(axis, -1)]
    dim = axis - len(AXES)
    if by < 0:
        ghost = last if kind == "periodic" else parity[0] * first
        return torch.cat((ghost, v[along(axis, 0, -1)]), dim=dim)
    ghost = first if kind == "periodic" else parity[1] * last
    return torch.cat((v[along(axis, 1)], ghost), dim=dim)


@lru_cache(maxsize=64)
def between(fine: int, coarse: int, axis: int, constant: bool, mirror: bool) -> tuple:
    """Rows of the interpolation from `coarse` to `fine` nodes that do not nest."""
    kind, low, excess, parity = AXES[axis]
    rows = []
    for i in range(fine):
        at = (i + low) * (coarse + excess) / (fine + excess) - low
        left = int((at + 1e-9) // 1)
        right = at - left
        if constant and kind == "cells":
            right = float(right > 0.5)
        row = {}
        for k, w in ((left, 1 - right), (left + 1, right)):
            if kind == "periodic":
                k = k % coarse
            elif not 0 <= k < coarse:
                w *= (parity[1] if k > 0 else parity[0]) * mirror
                k = min(max(k, 0), coarse - 1)
            if abs(w) > 1e-9:
                row[k] = row.get(k, 0) + w
        rows.append(row)
    return tuple(rows)


def transposed(rows: tuple, n: int) -> list[dict]:
    """The columns of a sparse matrix with n columns."""
    columns: list[dict] = [{} for _ in range(n)]
    for i, row in enumerate(rows):
        for k, w in row.items():
            columns[k][i] = w
    return columns


def table(rows: Any, like: Tensor) -> tuple:
    """A sparse matrix as (indices, weights), one pair per entry of its fullest row."""
    most = max(len(row) for row in rows)
    filled = [[*row.items(), *[(0, 0.0)] * (most - len(row))] for row in rows]
    indices = torch.tensor([[k for k, _ in row] for row in filled], device=like.device)
    weights = torch.tensor([[w for _, w in row] for row in filled], dtype=torch.float64)
    weights = weights.to(like)
    return indices.unbind(1), weights.unbind(1)


def gather(v: Tensor, entries: tuple, axis: int) -> Tensor:
    """A sparse matrix applied along an axis."""
    dim = axis - len(AXES)
    shape = (-1, *[1] * (-1 - dim))
    terms = [v.index_select(dim, i) * w.reshape(shape) for i, w in zip(*entries)]
    return sum(terms[1:], terms[0])


class Level(nn.Module):
    """One level of the U-net: smoother and transfers, for its encoder and decoder."""

    def operator(self, grid: Grid, u: Tensor) -> Tensor:
        """A(u); `u` carries its ghost ring."""
        h_x, h_y = grid.spacing

        # Au = A u
        Au_1 = u[..., :-2, 1:-1] + u[..., 2:, 1:-1]
        Au_2 = u[..., 1:-1, :-2] + u[..., 1:-1, 2:]
        Au = (
            -(1 / h_x**2) * Au_1
            - (1 / h_y**2) * Au_2
            + (2 / h_y**2 + 2 / h_x**2) * u[..., 1:-1, 1:-1]
        )
        return Au

    @staticmethod
    def extend(u: Tensor) -> Tensor:
        """The ghost ring: Dirichlet(0)."""
        low_wall = torch.zeros_like(u[..., :1, :])
        high_wall = torch.zeros_like(u[..., -1:, :])
        u = torch.cat((low_wall, u, high_wall), dim=-2)
        low_wall = torch.zeros_like(u[..., :1])
        high_wall = torch.zeros_like(u[..., -1:])
        u = torch.cat((low_wall, u, high_wall), dim=-1)
        return u

    def residual(self, grid: Grid, u: Tensor, b: Tensor) -> Tensor:
        """b − A(u)."""
        h_x, h_y = grid.spacing
        r = torch.add(b, u[..., :-2, 1:-1] + u[..., 2:, 1:-1], alpha=1 / h_x**2)
        r.add_(u[..., 1:-1, :-2] + u[..., 1:-1, 2:], alpha=1 / h_y**2)
        r.add_(u[..., 1:-1, 1:-1], alpha=-2 / h_y**2 - 2 / h_x**2)
        return r

    def diagonal(self, grid: Grid, u: Tensor) -> float:
        """The diagonal of A, the same at every node."""
        h_x, h_y = grid.spacing
        return 2 / h_y**2 + 2 / h_x**2

    # --- the smoother: red–black Gauss–Seidel: the unknowns of one colour at a time

    def smooth(self, grid: Grid, u: Tensor, b: Tensor, sweeps: int) -> Tensor:
        """Sweeps for A(u) = b; `u` carries its ghost ring."""
        for _ in range(sweeps):
            for colour in COLOURS:
                values = [self.relax(grid, u, b, corner) for corner in colour]
                # in place, unless gradients need what was there
                u = u.clone() if torch.is_grad_enabled() else u
                for corner, value in zip(colour, values):
                    self.every(self.interior(u), corner).copy_(value)
        return u

    @staticmethod
    def every(v: Tensor, corner: tuple) -> Tensor:
        """Every second node, from a corner on."""
        return v[(..., *(slice(i, None, 2) for i in corner))]

    def relax(self, grid: Grid, u: Tensor, b: Tensor, corner: tuple) -> Tensor:
        """The equations at every second node solved for the values there."""
        v = u[(..., *(slice(i, None) for i in corner))]
        near = self.every(b, corner)
        h_x, h_y = grid.spacing
        near = torch.add(
            near, v[..., :-2:2, 1:-1:2] + v[..., 2::2, 1:-1:2], alpha=1 / h_x**2
        )
        near.add_(v[..., 1:-1:2, :-2:2] + v[..., 1:-1:2, 2::2], alpha=1 / h_y**2)
        new = near / (2 / h_y**2 + 2 / h_x**2)
        return new

    # --- the transfers

    def restrict(self, grid: Grid, r: Tensor) -> Tensor:
        """R r: the adjoint of linear interpolation."""
        outer = 0.25
        for axis in grid.halved:
            if axis in grid.tables:
                r = gather(r, grid.tables[axis]["restrict"], axis)
                continue
            even, odd = r[along(axis, 0, None, 2)], r[along(axis, 1, None, 2)]
            near = even[along(axis, 0, -1)] + even[along(axis, 1)]
            r = outer * near + (1 - 2 * outer) * odd
        return r

    def prolong(self, grid: Grid, v: Tensor) -> Tensor:
        """P v: linear interpolation of a value with its ghost ring."""
        for axis in reversed(range(len(AXES))):
            inner = v[along(axis, 1, -1)]
            if axis not in grid.halved:
                v = inner
            elif axis in grid.tables:
                v = gather(inner, grid.tables[axis]["prolong"], axis)
            else:
                middle = 0.5 * (v[along(axis, 0, -1)] + v[along(axis, 1)])
                v = weave(middle, inner, axis)
        return v

    def correct(self, u: Tensor, v: Tensor) -> Tensor:
        """u + v, for a correction v without ring."""
        u = u.clone() if torch.is_grad_enabled() else u
        self.interior(u).add_(v)
        return u

    @staticmethod
    def interior(u: Tensor) -> Tensor:
        """u without its ghost ring."""
        return u[..., 1:-1, 1:-1]


class Poisson2d(nn.Module):
    """Poisson2d: the U-net that multigrid is for this PDE.

    forward: (B, 1, X, Y) -> (B, 1, X, Y), any batch and grid size.
    """

    cycles = 6
    tolerance = None  # the relative residual to reach; None: all cycles run

    def __init__(
        self,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.levels = nn.ModuleList([Level()])  # the same on every grid
        residual = torch.zeros((), dtype=dtype, device=device)
        self.register_buffer("residual", residual, persistent=False)

    def forward(
        self,
        u: Tensor,
        f: Tensor,
        history: bool = False,
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        """The solution of A(u) = b from the first guess u. With `history`, also the residuals.

        They are ‖b − A(u)‖ relative to the first guess; `self.residual` is the largest at
        the end of the last forward pass.
        """
        self.check(u)
        if u.shape[0] == 0:
            return (u, []) if history else u
        if f.shape[0] not in (1, u.shape[0]):
            text = f"f has batch size {f.shape[0]}, u {u.shape[0]}"
            raise ValueError(f"{text}; give 1 or the same")
        if not isinstance(f, Tensor) or not f.is_floating_point():
            text = "f has type {}; give a tensor of floating point numbers"
            raise ValueError(text.format(getattr(f, "dtype", type(f))))
        if f.dim() != u.dim() or f.shape[1:] != u.shape[1:]:
            raise ValueError(f"f has shape {tuple(f.shape)}, u {tuple(u.shape)}")
        if not torch.compiler.is_compiling() and len(f) not in (1, len(u)):
            raise ValueError(f"f has a batch of {len(f)}, u of {len(u)}")
        if f.dtype != u.dtype:
            raise ValueError(f"f has type {f.dtype}, u {u.dtype}")
        grids = self.pyramid(u)
        b = f.expand_as(u)
        traced = torch.compiler.is_compiling() or any(
            _is_wrapped(given) for given in (u, b, *self.parameters())
        )
        v, residuals = self.run(grids, u, b, history, traced)
        return (v, residuals) if history else v

    def run(
        self, grids: list[Grid], u: Tensor, b: Tensor, history: bool, traced: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """The cycles, and the residuals where they are asked for or decide."""
        level = self.levels[0]
        state = level.extend(u.clone())
        first = norm(level.residual(grids[0], state, b))
        scale = torch.where(first == 0, 1, first)
        every = (history or self.tolerance is not None) and not traced
        last = first / scale
        residuals = [last]
        for _ in range(self.cycles):
            state = self.v_cycle(grids, 0, state, b)
            if every:
                last = norm(level.residual(grids[0], state, b)) / scale
                residuals.append(last)
                if self.tolerance is not None and bool((last <= self.tolerance).all()):
                    break
        if not every:
            last = norm(level.residual(grids[0], state, b)) / scale
            residuals.append(last)
        self.record(last)
        if not traced:
            D = level.diagonal(grids[0], state)
            size = (norm(b) + norm(D * level.interior(state))) / scale
            self.judge(last, [float(r.detach().max()) for r in residuals], size)
        return level.interior(state), [r.flatten() for r in residuals]

    def v_cycle(self, grids: list[Grid], l: int, u: Tensor, b: Tensor) -> Tensor:
        """One V-cycle for A(u) = b on level l and those below it."""
        if l == len(grids) - 1:
            return self.direct(grids[l], u, b)
        grid, level = grids[l], self.level(l)
        below = self.level(l + 1)

        # encoder: pre-smoothing; the residual goes down
        u = level.smooth(grid, u, b, 2)
        c = level.restrict(grid, level.residual(grid, u, b))
        # the levels below solve A(v) = c, from v = 0
        v = below.extend(torch.zeros_like(c))
        v = self.v_cycle(grids, l + 1, v, c)
        # decoder: what comes up is added to the skip connection u; post-smoothing
        u = level.correct(u, level.prolong(grid, v))
        return level.smooth(grid, u, b, 2)

    def direct(self, grid: Grid, u: Tensor, b: Tensor) -> Tensor:
        """A(u) = b on the coarsest grid, by elimination."""
        level = self.levels[-1]
        r = level.residual(grid, u, b)
        return u + level.extend(solve(grid.matrix, r))

    def matrix(self, grid: Grid, u: Tensor) -> Tensor:
        """A on the coarsest grid as matrices (B, n, n)."""
        level, like = self.levels[-1], self.levels[-1].interior(u)
        basis = torch.eye(like[0].numel(), dtype=u.dtype, device=u.device)
        columns = []
        for e in basis:
            w = level.extend(e.reshape(1, 1, *grid.shape))
            columns.append(level.operator(grid, w).flatten(1))
        M = torch.stack(columns, dim=-1)
        return M

    def level(self, l: int) -> Level:
        """The module of level l."""
        return self.levels[min(l, len(self.levels) - 1)]

    def pyramid(self, u: Tensor) -> list[Grid]:
        """The grids from the finest to the coarsest, with what A is on each of them."""
        scalars = {}
        data = {}
        shape, grids = tuple(u.shape[2:]), []
        while True:
            level = self.level(len(grids))
            spacing = tuple(
                h * (n + a.excess) / (m + a.excess)
                for h, n, m, a in zip(SPACING, u.shape[2:], shape, AXES)
            )
            halved = (0, 1)
            below, tables = list(shape), {}
            for axis in halved:
                up = AXES[axis].kind in ("cells", "periodic")
                below[axis] = (shape[axis] + up) // 2
            last = any(shape[axis] < 4 for axis in halved)
            halved = () if last else halved
            for axis in halved:
                excess, n, m = AXES[axis].excess, shape[axis], below[axis]
                if n + excess != 2 * (m + excess):
                    tables[axis] = self.tables(n, m, axis, u)
            ringed = data
            grid = Grid(shape, spacing, scalars, ringed, halved, tables)
            zero = level.extend(u.new_zeros((1, 1, *shape)))
            grid = grid._replace(inverse=1 / level.diagonal(grid, zero))
            if last:
                grids.append(grid._replace(matrix=self.matrix(grid, zero)))
                return self.accept(grids)
            grids.append(grid)
            shape = tuple(below)

    @staticmethod
    def accept(grids: list[Grid]) -> list[Grid]:
        """Refuse grids that cannot be coarsened as asked, or not far enough."""
        size = 1
        for n in grids[-1].shape:
            size *= n
        if size > 4096:
            text = f"a grid of {grids[0].shape} coarsens to {grids[-1].shape} only"
            cure = "an axis is too short"
            raise ValueError(f"{text}, too large to solve directly: {cure}")
        return grids

    @staticmethod
    def tables(n: int, m: int, axis: int, like: Tensor) -> dict:
        """The transfers along an axis from n to m nodes that do not nest."""
        excess = AXES[axis].excess
        ratio = (m + excess) / (n + excess)
        rows = between(n, m, axis, False, True)
        columns = transposed(between(n, m, axis, False, True), m)
        weighting = [{i: w * ratio for i, w in c.items()} for c in columns]
        columns = transposed(between(n, m, axis, True, False), m)
        means = [{i: w / sum(c.values()) for i, w in c.items()} for c in columns]
        return {
            "prolong": table(rows, like),
            "restrict": table(weighting, like),
            "average": table(means, like),
        }

    def record(self, last: Tensor) -> None:
        """Keep the largest relative residual."""
        worst = last.detach().amax()
        while not torch.compiler.is_compiling() and _is_wrapped(worst):
            worst = _unwrapped(worst)
        self.residual = worst.amax()

    def judge(self, last: Tensor, history: list[float], size: Tensor) -> None:
        """Refuse cycles that diverged or did not reach the tolerance, rounding apart."""
        with torch.no_grad():
            rounding = 64 * torch.finfo(last.dtype).eps * size
            wanted = 2.0 if self.tolerance is None else self.tolerance
            if bool(((last <= wanted) | (last <= rounding)).all()):
                return
        if self.tolerance is None or not history[-1] <= 2:
            text = f"the cycles diverge: the residual grew by {history[-1]:.3g}"
            if history[-1] != history[-1]:
                text = "a residual is no number: check u, the data, the diagonal of A"
            cure = "raise pre and post, use cycle='W', or pass on_divergence='accept'"
        else:
            text = f"{self.cycles} cycles reduce the residual to {history[-1]:.3g}"
            text, cure = f"{text}, not {self.tolerance}", "raise cycles or tol"
        raise ConvergenceError(f"{text}; {cure}", history)

    @staticmethod
    def check(u: Tensor) -> None:
        """Refuse values and shapes the network cannot mean."""
        if not isinstance(u, Tensor) or not u.is_floating_point():
            given = getattr(u, "dtype", type(u).__name__)
            raise ValueError(f"expected floating point numbers, got {given}")
        if u.dim() != 4 or u.shape[1] != 1 or 0 in u.shape[2:]:
            raise ValueError(f"expected shape (B, 1, X, Y), got {tuple(u.shape)}")

    def certificate(self) -> dict:
        """CERTIFICATE for the weights as they are now."""
        return dict(CERTIFICATE)

"""Local Fourier analysis: smoothing and two-grid factors of a multigrid cycle.

On an unbounded grid A, the smoother and the transfers map the span of the 2^d harmonics

    exp(i⟨θ + πα, x/h⟩),   θ ∈ (−π/2, π/2]^d,  α ∈ {0, 1}^d

into itself, so there they are 2^d × 2^d matrices and the scheme's own `descend` runs on them; the level below is
solved exactly. A half-sweep of red–black Gauss–Seidel couples α with α + (1, …, 1), because it is multiplication by
(1 ± (−1)^{Σ x/h})/2. (Trottenberg, Oosterlee, Schüller, Multigrid, 2001, chapter 4.)

The factors are estimates: they are maxima over sampled θ, for the coefficients frozen at one state, without boundaries.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from .elliptic import Elliptic
from .errors import SchemeError
from .graph import run
from .ops import Context

SAMPLES = {1: 128, 2: 32, 3: 12}
"""Frequencies per axis in (−π/2, π/2], by dimension; θ = 0 is left out."""


def factors(problem: Elliptic, level: int = 0) -> tuple[float, float]:
    """(μ, ρ): the smoothing factor per sweep, and the contraction of a two-grid cycle, from `level` to the next."""
    harmonics = Harmonics(problem, level)
    identity = np.broadcast_to(np.eye(harmonics.count), (len(harmonics.theta), harmonics.count, harmonics.count))
    scheme = problem.scheme
    sweeps = scheme.pre + scheme.post
    smoothed = harmonics.smooth(identity + 0j, 0, sweeps)
    high = harmonics.high[:, :, None]
    mu = float(_radius(smoothed * high)) ** (1 / sweeps)
    return mu, float(_radius(scheme.descend(harmonics, identity + 0j, 0, "V")))


def interval(problem: Elliptic, level: int) -> tuple[float, float]:
    """(low, high): the part of the spectrum of D⁻¹A on a level that its smoother must damp."""
    return _interval(problem, min(level, len(problem.semi)))


def relaxation(problem: Elliptic, level: int, k: int) -> tuple[float, float]:
    """a_k and ω of sweep k of  u_{k+1} = a_k (u_k + ω D⁻¹(b − A u_k)) + (1 − a_k) u_{k−1},  ω = 2/(low + high).

    Jacobi: a_k = 1. FSI: a_k = (4k + 2)/(2k + 3). Chebyshev: a_0 = 1, a_1 = 2/(2 − σ²), a_{k+1} = 1/(1 − σ²a_k/4),
    σ = (high − low)/(high + low) (Golub, Varga, Numer. Math. 3 (1961) 147–156, doi:10.1007/BF01386013).
    """
    scheme, (low, high) = problem.scheme, interval(problem, level)
    omega = 2 / (low + high) if scheme.damping == "auto" else float(scheme.damping)
    if scheme.smoother == "jacobi":
        return 1.0, omega
    if scheme.smoother == "fsi":
        return (4 * k + 2) / (2 * k + 3), omega
    sigma2, a = ((high - low) / (high + low)) ** 2, 1.0
    for i in range(k):
        a = 2 / (2 - sigma2) if i == 0 else 1 / (1 - sigma2 * a / 4)
    return a, omega


def semi_iterate(level: Any, index: int, u: Any, b: Any, sweeps: int) -> Any:
    """Sweeps of any smoother but red–black on a level that has `operator` and `diagonal`."""
    old = u
    for k in range(sweeps):
        a, omega = relaxation(level.problem, index, k)
        u, old = a * (u + omega * (b - level.operator(u)) / level.diagonal(u)) + (1 - a) * old, u
    return u


class Harmonics:
    """A level on its coupled harmonics, with the one below: what `Multigrid.descend` calls.

    Values have the shape (frequencies, harmonics, columns).
    """

    def __init__(self, problem: Elliptic, level: int) -> None:
        self.problem, self.scheme = problem, problem.scheme
        self.d, self.level = len(problem.axes), level
        self.halved = problem.halved(level)
        n = SAMPLES[self.d]
        ends = (0.01, np.pi / 2 - 1e-6)  # θ = 0 is no high frequency of anything, but a limit
        base = np.concatenate(((np.arange(n) + 0.5) * np.pi / n - np.pi / 2, ends, [-e for e in ends]))
        self.alpha = list(itertools.product((0, 1), repeat=self.d))
        self.count = len(self.alpha)
        grid = np.stack(np.meshgrid(*[base] * self.d, indexing="ij"), -1).reshape(-1, self.d)
        self.theta = grid[:, None, :] + np.pi * np.array(self.alpha)[None]
        spacing = spacing_of(problem, level)
        self.symbol, self.centre = symbol(problem, spacing, self.theta)
        across = [a for a in range(self.d) if a not in self.halved]
        self.kept = [i for i, alpha in enumerate(self.alpha) if not any(alpha[a] for a in self.halved)]
        """The harmonics that differ on the coarser grid."""
        self.into = [
            [i for i, alpha in enumerate(self.alpha) if all(alpha[a] == self.alpha[k][a] for a in across)]
            for k in self.kept
        ]
        self.high = np.array([float(any(alpha[a] for a in self.halved)) for alpha in self.alpha])[None]
        self.R, self.P = (self._transfers(what) for what in ("restriction", "prolongation"))
        self.below = _Exact(self)

    def operator(self, u: Any) -> Any:
        return self.symbol[:, :, None] * u

    def smooth(self, u: Any, b: Any, sweeps: int) -> Any:
        if self.scheme.smoother != "red-black":
            return semi_iterate(self, self.level, u, b, sweeps)
        for _ in range(sweeps):
            for sign in (1, -1):
                r = (b - self.operator(u)) / self.diagonal(u)
                u = u + (r + sign * r[:, ::-1]) / 2  # reversing the order of α is α + (1, …, 1)
        return u

    def diagonal(self, u: Any) -> float:
        return self.centre

    def inject(self, u: Any) -> Any:
        return np.zeros((len(u), len(self.kept), u.shape[2]), complex)

    def restrict(self, r: Any) -> Any:
        weighted = self.R[:, :, None] * r
        return np.stack([weighted[:, into].sum(1) for into in self.into], 1)

    def prolong(self, v: Any) -> Any:
        fine = np.zeros((len(v), self.count, v.shape[2]), complex)
        for k, into in enumerate(self.into):
            fine[:, into] = v[:, k : k + 1]
        return self.P[:, :, None] * fine

    def correct(self, u: Any, v: Any) -> Any:
        return u + v

    def _transfers(self, what: str) -> np.ndarray:
        """The symbols of the transfers along the halved axes; coarse cells lie half a fine cell off."""
        total = np.ones(self.theta.shape[:2], complex)
        for a in self.halved:
            theta = self.theta[:, :, a]
            if self.problem.kinds[a] == "cells":
                chosen = self.scheme.prolongation if what == "prolongation" else self.problem.restriction
                linear = chosen in ("linear", "full-weighting")
                value = (3 * np.cos(theta / 2) + np.cos(3 * theta / 2)) / 4 if linear else np.cos(theta / 2)
                aside = np.exp(0.5j * np.pi * np.array([alpha[a] for alpha in self.alpha]))[None]
                # the harmonic at the coarse centres, x/h = 2j + ½, relative to the one with α = 0
                total = total * value * (aside if what == "restriction" else aside.conj())
            else:
                total = total * (1 + np.cos(theta)) / 2
        return total


class _Exact:
    """The level below, solved exactly."""

    def __init__(self, fine: Harmonics) -> None:
        theta = fine.theta[:, fine.kept].copy()
        theta[:, :, list(fine.halved)] *= 2
        if fine.scheme.coarse == "galerkin" and fine.problem.linear:
            values = fine.R * fine.symbol * fine.P
            self.symbol = np.stack([values[:, into].sum(1) for into in fine.into], 1)
        else:
            self.symbol, _ = symbol(fine.problem, spacing_of(fine.problem, fine.level + 1), theta)

    def right_hand_side(self, r: Any, w: Any) -> Any:
        return r

    def cycle(self, v: Any, c: Any, kind: str) -> Any:
        return c / self.symbol[:, :, None]

    def difference(self, v: Any, w: Any) -> Any:
        return v - w


def spacing_of(problem: Elliptic, level: int) -> tuple[float, ...]:
    doubled = [sum(a in problem.halved(k) for k in range(level)) for a in range(len(problem.axes))]
    return tuple(h * 2**n for h, n in zip(problem.physical, doubled, strict=True))


def symbol(problem: Elliptic, spacing: Sequence[float], theta: np.ndarray) -> tuple[np.ndarray, float]:
    """Â(θ), and the tap at the centre: of A frozen at u = 0, data in the middle of their bounds or one."""
    taps = _taps(problem, tuple(spacing))
    total = np.zeros(theta.shape[:-1], complex)
    for offset, weight in taps.items():
        total = total + weight * np.exp(1j * (theta @ np.array(offset)))
    real = total.real if abs(total.imag).max() <= 1e-12 * abs(total).max() else total
    return real, taps[(0,) * len(spacing)]


@lru_cache(maxsize=256)
def _taps(problem: Elliptic, spacing: tuple[float, ...]) -> Mapping[tuple[int, ...], float]:
    """The response of the frozen operator to a single node, on a periodic grid."""
    d = len(spacing)
    free = problem.unbounded()
    graph = free.operator if problem.linear else free.secant
    n = 2 * max(max(map(abs, j)) for j in problem.reach) + 3
    shape, middle = (n,) * d, (n // 2,) * d
    delta = np.zeros((1, 1, *shape))
    delta[(0, 0, *middle)] = 1.0
    values = problem.values | {h.name: s for h, s in zip(problem.spacings, spacing, strict=True)}
    inputs = dict.fromkeys(problem.names, 0 * delta)
    inputs |= {str(f.func): np.full(delta.shape, _middle(f)) for f in problem.problem.data}
    name = str(problem.problem.unknown.func)
    inputs |= {name: delta} if problem.linear else {name: 0 * delta, problem.direction: delta}
    image = run(graph, inputs, Context(free.axes, shape, values))[0, 0]
    found = {
        tuple(m - int(i) for i, m in zip(index, middle, strict=True)): float(v) for index, v in np.ndenumerate(image)
    }
    return {j: v for j, v in found.items() if v != 0 or not any(j)}


def _middle(f: Any) -> float:
    bounds = getattr(f.func, "bounds", None)
    return 1.0 if bounds is None else float(bounds[0] + bounds[1]) / 2


@lru_cache(maxsize=256)
def _interval(problem: Elliptic, level: int) -> tuple[float, float]:
    d, halved = len(problem.axes), problem.halved(level)
    line = np.linspace(-np.pi, np.pi, {1: 257, 2: 65, 3: 33}[d])
    theta = np.stack(np.meshgrid(*[line] * d, indexing="ij"), -1).reshape(-1, d)
    values, centre = symbol(problem, spacing_of(problem, level), theta)
    high = (abs(theta[:, list(halved)]) >= np.pi / 2 - 1e-12).any(1)
    spectrum = values.real / centre
    low = float(spectrum[high].min())
    if not low > 0:
        raise SchemeError(
            f"smoother={problem.scheme.smoother!r} needs D⁻¹A to be positive at high frequencies, and it reaches down "
            f"to {low:.3g} there: a reaction of the wrong sign, or missing bounds of data; use smoother='red-black'"
        )
    return low, float(spectrum.max())


def _radius(matrices: np.ndarray) -> float:
    return float(abs(np.linalg.eigvals(matrices)).max())

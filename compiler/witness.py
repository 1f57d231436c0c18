"""Counter-examples: inputs on which the reference solution is seen to break a claim.

Every search returns a `Witness` that holds the inputs, or None. A search proves nothing by finding nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from .bounds import Bounds
from .discretise import SemiDiscrete
from .errors import ConvergenceError
from .reference import Reference
from .schemes import Scheme

_CLEARLY = 1e-9
"""A counter-example must miss by more than rounding."""


@dataclass(frozen=True)
class Witness:
    """Why a result holds: a proof sketch, or inputs on which the claim fails."""

    text: str
    inputs: tuple[np.ndarray, ...] = ()
    """Arrays (1, C, *grid) to run: one state, or a pair u, v for nonexpansiveness."""
    data: Mapping[str, np.ndarray] = field(default_factory=dict)
    """The data fields to run them with."""

    def __str__(self) -> str:
        return self.text


class Search:
    """Runs the scheme at one step size."""

    def __init__(self, system: SemiDiscrete, scheme: Scheme, bounds: Bounds, own: Mapping[str, float]) -> None:
        self.system, self.scheme, self.bounds, self.own = system, scheme, bounds, own
        self.solves = bool(scheme.structure.solves)
        self.level = system.level or 0.0  # states are deviations from it
        self.width = system.width
        # one long axis, the others just wide enough for the stencils
        self.least = max((side.closure for axis in system.ends for side in axis.sides or ()), default=0)
        self.shape = (32,) + (max(6, self.least),) * (system.problem.dimension - 1)
        if system.limits:
            self.shape = tuple(map(min, self.shape, system.limits))

    def run(self, u: np.ndarray, tau: float, cycles: int = 1) -> np.ndarray | None:
        """The state after `cycles` cycles (or steps); None where no data are known to serve or a solve fails.

        States are deviations from the value of the walls.
        """
        layers = self.scheme.cycle * cycles + self.scheme.starting_steps
        data = self.data(u.shape[2:])
        if data is None:
            return None
        reference = Reference(self.system, self.scheme, tau, self.bounds.values, self.own)
        try:
            return reference.states(u + self.level, layers, **data)[0] - self.level
        except ConvergenceError:
            return None

    def data(self, shape: tuple[int, ...]) -> dict[str, np.ndarray] | None:
        """Coefficients at their largest, what else the reaction reads at zero."""
        found = {}
        for f in self.system.problem.data:
            low, high = getattr(f.func, "bounds", None) or (0.0, 0.0)
            in_flux = any(flux.term.flux.has(f) for flux in self.system.fluxes)
            value = high if in_flux else 0.0
            if (mark := getattr(f.func, "tensor", None)) is not None:  # (name, is it on the diagonal?, …)
                value = high if mark[1] else 0.0
            if not low <= value <= high:
                return None
            found[str(f.func)] = np.full((1, 1, *shape), float(value))
        return found

    def _witness(self, text: str, *inputs: np.ndarray) -> Witness:
        return Witness(text, tuple(u + self.level for u in inputs), self.data(inputs[0].shape[2:]) or {})

    def _amplitudes(self) -> np.ndarray:
        """From tiny to huge; an implicit step is run on tiny ones only, for which its equation is almost linear."""
        h = float(min(axis.spacing for axis in self.system.axes))
        return h * (np.logspace(-6, -3, 2) if self.solves else np.logspace(-6, 4, 31))

    def _patterns(self) -> np.ndarray:
        """The fastest oscillations, bare and under a window, and a constant."""
        index = np.indices(self.shape)
        patterns = [(-1.0) ** index.sum(0)] + [(-1.0) ** index[a] for a in range(len(index))]
        window = np.sin(np.pi * (index[0] + 1) / (self.shape[0] + 1))
        patterns += [patterns[0] * window, patterns[1] * window, np.ones(self.shape)]
        return np.array(patterns)[:, None].repeat(self.width, 1)  # the same in every field

    @cache  # noqa: B019 (a search lives as long as one analysis)
    def _oscillations(self, tau: float) -> tuple[np.ndarray, np.ndarray | None]:
        """All patterns in all amplitudes, and what one step makes of them."""
        u = np.concatenate([p[None] * self._amplitudes().reshape(-1, *(1,) * p.ndim) for p in self._patterns()])
        return u, self.run(u, tau)

    @cache  # noqa: B019
    def blow_up(self, tau: float) -> Witness | None:
        """Many steps from a small oscillation: it must not grow a hundredfold."""
        u = 1e-1 * self._amplitudes()[0] * self._patterns()
        for cycles in (10,) if self.solves else (10, 40, 160):
            v = self.run(u, tau, cycles)
            if v is None:
                return None
            factor = np.sqrt((v**2).sum(tuple(range(1, v.ndim))) / (u**2).sum(tuple(range(1, u.ndim))))
            factor = np.where(np.isfinite(factor), factor, np.inf)
            k = int(factor.argmax())
            if factor[k] > 100:
                layers = cycles * self.scheme.cycle
                return self._witness(
                    f"an oscillation grows by the factor {factor[k]:.4g} in {layers} layers", u[k : k + 1]
                )
        return None

    def wave(self, tau: float, axis: int, theta: float) -> Witness | None:
        """A harmonic wave along one axis of 64 nodes: it must not grow in one cycle."""
        shape = [max(6, self.least)] * self.system.problem.dimension
        shape[axis] = 64
        u = np.cos(theta * np.indices(shape)[axis])[None, None].repeat(self.width, 1)
        v = self.run(u, tau)
        factor = 0.0 if v is None else float(np.linalg.norm(v) / np.linalg.norm(u))
        if not factor > 1 + _CLEARLY:
            return None
        return self._witness(f"the wave cos({theta:.4g} i) grows by the factor {factor:.6g} in one step", u)

    def growing_state(self, tau: float) -> Witness | None:
        """The fastest oscillations and constants, small and large: none of them may grow."""
        if self.solves:
            return None
        u, v = self._oscillations(tau)
        if v is None:
            return None
        axes = tuple(range(1, u.ndim))
        factor = np.sqrt((v**2).sum(axes) / (u**2).sum(axes))
        factor = np.where(np.isnan(factor), np.inf, factor)  # overflow
        k = int(factor.argmax())
        if not factor[k] > 1 + _CLEARLY:
            return None
        text = f"a state of amplitude {abs(u[k]).max():.3g} grows by the factor {factor[k]:.6g} in one step"
        return self._witness(text, u[k : k + 1])

    def rising_energy(self, tau: float, energy: Callable[..., np.ndarray]) -> Witness | None:
        """The energy of the fastest oscillations, small and large, must not rise."""
        if self.solves:
            return None
        (u, v), data = self._oscillations(tau), self.data(self.shape)
        if v is None or data is None or not np.isfinite(v).all():
            return None
        before, after = (energy(w + self.level, **data) for w in (u, v))
        rise = (after - before) / np.maximum(abs(before), 1e-300)
        rise = np.where(np.isnan(rise), np.inf, rise)  # overflow
        k = int(rise.argmax())
        if not rise[k] > _CLEARLY:
            return None
        text = f"the energy rises from {before[k]:.6g} to {after[k]:.6g} in one step"
        return self._witness(text, u[k : k + 1])

    def spreading_pair(self, tau: float) -> Witness | None:
        """Two ramps that differ by the Jacobian's fastest growing direction."""
        if self.solves:
            return None
        walls = any(side.parity < 0 for axis in self.system.ends for side in axis.sides or ())
        shape = (
            self.shape[0],
            *(max(6 if walls else 2, self.least) for _ in self.shape[1:]),
        )  # states that vary along one axis
        n, h, across = shape[0], float(self.system.axes[0].spacing), (1,) * (len(shape) - 1)
        x = np.arange(n) * h
        order = max((p.orders[0] for flux in self.system.fluxes for K in flux.own for p in K.products), default=1)
        profiles = [x**order / math.factorial(max(order, 1)), np.minimum(x, x[::-1])]
        steep = dict.fromkeys(c * at for at in self.bounds.steepest_at() for c in (1.0, 1.3))
        slopes = np.array([0.0, *(slope for slope in steep if slope for _ in profiles)])
        lines = np.array([0.0 * x, *(slope * profile for slope in steep if slope for profile in profiles)])

        every = np.ones((self.width, *shape))
        base = lines.reshape(-1, 1, n, *across) * every
        epsilon = (1e-6 * h * np.maximum(slopes, 1)).reshape(-1, *(1,) * every.ndim)
        bumps = np.eye(n).reshape(n, 1, n, *across) * every
        ends = [base[:, None] + sign * epsilon[:, None] * bumps for sign in (1, -1)]
        plus, minus = (self.run(u.reshape(-1, *every.shape), tau) for u in ends)
        if plus is None or minus is None:
            return None
        change = (plus - minus).reshape(ends[0].shape) / (2 * epsilon[:, None])
        known = np.isfinite(change).all(tuple(range(1, change.ndim)))
        if not known.any():
            return None
        middle = (slice(None), slice(None), 0, slice(None), *(s // 2 for s in shape[1:]))
        fastest = np.linalg.svd(change[known][middle].transpose(0, 2, 1))[2][:, 0]
        slopes, base, epsilon = slopes[known], base[known], epsilon[known]
        other = base + 100 * epsilon * fastest.reshape(-1, 1, n, *across) * every
        image = self.run(np.concatenate([base, other]), tau)
        assert image is not None
        axes = tuple(range(1, base.ndim))
        moved, apart = (((a - b) ** 2).sum(axes) for a, b in ((image[: len(base)], image[len(base) :]), (base, other)))
        factor = np.nan_to_num(np.sqrt(moved / apart))
        k = int(factor.argmax())
        if not factor[k] > 1 + _CLEARLY:
            return None
        text = (
            f"two states near a profile of slope {slopes[k]:.4g} move apart by the factor {factor[k]:.6g} in one step"
        )
        return self._witness(text, base[k : k + 1], other[k : k + 1])

    def overshoot(self, tau: float, interval: tuple[float, float] | None = None) -> Witness | None:
        """An impulse must not leave the interval between 0 and its height, or a given one."""
        impulse = np.zeros((1, self.width, *self.shape))
        middle: Any = (slice(None), slice(None), *(n // 2 for n in self.shape))
        impulse[middle] = 1.0
        if interval is None:
            u = impulse * self._amplitudes().reshape(-1, 1, *(1,) * len(self.shape))
        else:  # both ways, from one end to the other
            a, b = (end - self.level for end in interval)
            u = np.concatenate([a + (b - a) * impulse, b - (b - a) * impulse])
        v = self.run(u, tau)
        if v is None:
            return None
        axes = tuple(range(1, u.ndim))
        low, high = u.min(axes), u.max(axes)
        miss = np.maximum(low - v.min(axes), v.max(axes) - high) / (high - low)
        miss = np.where(np.isnan(miss), np.inf, miss)  # overflow
        k = int(miss.argmax())
        if not miss[k] > _CLEARLY:
            return None
        of = f", in deviations from the walls of {self.level:g}," if self.level else ","
        text = (
            f"a state between {low[k]:.3g} and {high[k]:.3g}{of} an impulse, goes to values between "
            f"{v[k].min():.3g} and {v[k].max():.3g}"
        )
        return self._witness(text, u[k : k + 1])

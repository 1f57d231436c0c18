"""Which stability holds, up to which step, and why: three-valued results with hypotheses and witnesses.

For  f(u) = −A(u)u,  A(u) = Σ_c κ_c K_c* G_c(u) K_c  and one step u − τA(u)u:

    norm decrease       0 ≤ G ≤ L          ⇒  0 ≤ A(u) ≤ ρ = Σ κ L ‖K‖²,  ‖u⁺‖ ≤ ‖u‖ for τ ≤ 2/ρ
    nonexpansive        0 ≤ Φ' ≤ L_Φ       ⇒  the same for the Jacobian,   ‖S(u)−S(v)‖ ≤ ‖u−v‖ for τ ≤ 2/ρ_Φ
    maximum principle   two-tap K, G ≥ 0   ⇒  I − τA(u) is nonnegative,    min u ≤ u⁺ ≤ max u for τ ≤ 1/max Aᵢᵢ

Proofs: numerics in docs/stability.md. The bounds hold for every grid size. "Refuted" always comes with an
input on which the network itself was seen to break the claim; what is neither proved nor refuted is unknown.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sympy as sp

from . import notation
from .discretise import DiscreteFlux, SemiDiscrete
from .errors import SchemeError, UnstableSchemeError, suggest
from .fields import Data, Parameter, Unknown
from .grid import exact
from .nonlinearity import Range, range_of
from .ops import parity_of
from .reference import Reference
from .schemes import Scheme
from .stencil import Polynomial, Stencil, fraction, number, rational, squared_norm

SAFETY = 0.9
"""tau="auto" takes the proved bound times this."""

_CLEARLY = 1e-9
"""A counter-example must miss by more than rounding."""


@dataclass(frozen=True)
class Witness:
    """Why a result holds: a proof sketch, or inputs on which the claim fails."""

    text: str
    inputs: tuple[np.ndarray, ...] = ()
    """Arrays (1, 1, *grid) to run: one state, or a pair u, v for nonexpansiveness."""

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Result:
    """One notion of stability for one scheme at one step size.

    `bound` is the largest τ for which the notion is proved (None where there is none); `formula` says how it
    came about; `norm` is the norm it speaks of.
    """

    notion: str
    status: str
    bound: float | None
    formula: str
    norm: str
    assumptions: tuple[str, ...]
    witness: Witness


@dataclass(frozen=True)
class Report:
    """All results, iterable; `tau_max` is the bound of the governing notion, `tau` the step in use."""

    results: tuple[Result, ...]
    governing: str
    tau: float
    spectral_bound: sp.Expr | None
    """ρ, the bound on the spectrum of A, as a function of what is trainable."""
    limit: sp.Expr | None
    """ρ·τ_max for the governing notion: 2 for explicit Euler."""
    warnings: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Result]:
        return iter(self.results)

    def __getitem__(self, notion: str) -> Result:
        for result in self.results:
            if result.notion == notion:
                return result
        raise SchemeError(f"no result for {notion!r}: {suggest(notion, [r.notion for r in self.results])}")

    @property
    def tau_max(self) -> float | None:
        return self[self.governing].bound

    def rows(self) -> list[tuple[str, ...]]:
        return [
            (r.notion, r.status, "–" if r.bound is None else f"{r.bound:.6g}", r.norm, r.formula) for r in self.results
        ]

    def __str__(self) -> str:
        header = ("notion", "status", "tau bound", "norm", "formula")
        rows = [header, *self.rows()]
        widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines.insert(1, "  ".join("-" * w for w in widths))
        lines.append(f"tau = {self.tau:.6g}; governed by {self.governing}")
        for r in self.results:
            lines.append(f"\n{r.notion}: {r.status}. {r.witness}")
            lines += [f"  assumes {a}" for a in r.assumptions]
        lines += [f"\nwarning: {w}" for w in self.warnings]
        return "\n".join(lines)


def analyse(
    system: SemiDiscrete,
    scheme: Scheme,
    trainable: frozenset[Parameter] = frozenset(),
    learned_stencils: bool = False,
    guarantee: str | None = None,
    allow: bool = False,
) -> Report:
    """Judge the scheme by every notion and choose or check τ by the governing one.

    Raises `UnstableSchemeError` when τ exceeds the bound, when the notion is refuted for every τ, or when
    tau="auto" has no bound to choose from; with `allow` the scheme passes and the report says so.
    """
    return _Analysis(system, scheme, trainable, learned_stencils).report(guarantee or scheme.governing, allow)


@dataclass(frozen=True)
class _Bound:
    """−growth ≤ A ≤ rho with the ranges it rests on; `rho` is None where no bound is known."""

    rho: sp.Expr | None
    low: float
    assumptions: tuple[str, ...]
    formula: str
    why_not: str = ""
    growth: float = 0.0
    """Σ κ·max(0, −inf Φ')·‖K‖²: how far the spectrum reaches below zero."""


class _Analysis:
    def __init__(self, system: SemiDiscrete, scheme: Scheme, trainable: frozenset[Parameter], learned: bool) -> None:
        self.system, self.scheme, self.trainable, self.learned = system, scheme, trainable, learned
        self.values = {p.name: p.value for p in system.problem.parameters}
        self.fixed = {
            p: sp.Rational(*exact(p.value).as_integer_ratio()) for p in system.problem.parameters if p not in trainable
        }

    # --- the three notions ------------------------------------------------------------------------------

    NOTIONS = ("norm decrease", "nonexpansive", "maximum principle")

    def report(self, governing: str, allow: bool) -> Report:
        if governing not in self.NOTIONS:
            raise SchemeError(f"guarantee={governing!r}: {suggest(str(governing), self.NOTIONS)}")
        bounds = {"norm decrease": self._spectrum(slopes=False), "nonexpansive": self._spectrum(slopes=True)}
        limits = {name: self._tau_bound(b) for name, b in bounds.items()}
        diagonal = self._diagonal()
        limits["maximum principle"] = self._one_evaluation(None if diagonal.rho is None else 1 / diagonal.rho)
        tau = self._choose(governing, limits[governing], bounds.get(governing, diagonal), allow)
        with np.errstate(all="ignore"):  # counter-examples are looked for where numbers overflow
            results = self._judge(bounds, limits, diagonal, tau)
        report = Report(results, governing, float(tau), bounds.get(governing, diagonal).rho, self._limit(governing))
        self._refuse(report, allow)
        warnings = [
            f"{r.notion} governs this scheme and is {r.status}: {r.witness}"
            for r in results
            if r.notion == governing and r.status != "proved"
        ]
        return Report(results, governing, float(tau), report.spectral_bound, report.limit, tuple(warnings))

    def _judge(
        self, bounds: dict[str, _Bound], limits: dict[str, sp.Expr | None], diagonal: _Bound, tau: Any
    ) -> tuple[Result, ...]:
        return (
            self._norm_decrease(bounds["norm decrease"], limits["norm decrease"], tau),
            self._nonexpansive(bounds["nonexpansive"], limits["nonexpansive"], tau),
            self._maximum_principle(diagonal, limits["maximum principle"], tau),
        )

    def _limit(self, governing: str) -> sp.Expr | None:
        return sp.S.One if governing == "maximum principle" else self._interval()

    def _interval(self) -> sp.Expr | None:
        """x with |R(−y)| ≤ 1 on [0, x], if the step is R(−τA(u))u with one operator A(u)."""
        return self.scheme.real_interval() if self.scheme.evaluations() is not None else None

    def _tau_bound(self, bound: _Bound) -> sp.Expr | None:
        x = self._interval()
        if bound.rho is None or bound.low < 0 or x is None:
            return None
        return sp.oo if bound.rho == 0 else x / bound.rho

    def _one_evaluation(self, bound: sp.Expr | None) -> sp.Expr | None:
        z = sp.Symbol("z")
        return bound if self.scheme.amplification(z) == 1 + z else None

    def _choose(self, governing: str, limit: sp.Expr | None, bound: _Bound, allow: bool) -> Any:
        if self.scheme.tau != "auto":
            return self.scheme.tau
        if limit is None or (not limit.is_finite and limit != sp.oo):
            raise UnstableSchemeError(
                f"tau='auto' needs a proved bound, but {governing} has none for this PDE "
                f"({bound.why_not or bound.formula}); give {type(self.scheme).__name__} a tau"
                + ("" if allow else " and pass unstable='allow' if it is refuted")
            )
        return 1.0 if limit == sp.oo else SAFETY * self._at_initial(limit)

    def _at_initial(self, e: sp.Expr) -> float:
        return number(e.xreplace(self._initial_norms()), self.values)

    def _initial_norms(self) -> dict[sp.Symbol, sp.Expr]:
        if not self.learned:
            return {}
        values = {p: sp.Rational(*exact(p.value).as_integer_ratio()) for p in self.system.problem.parameters}
        return {norm_symbol(label): _learned_norm(K).xreplace(values) for label, K in own_stencils(self.system)}

    def _refuse(self, report: Report, allow: bool) -> None:
        result = report[report.governing]
        if allow or result.status == "proved" or (result.status == "unknown" and result.bound is None):
            return
        if result.bound is None:
            raise UnstableSchemeError(
                f"{result.notion} is refuted for every tau: {result.witness}; "
                f"choose another diffusivity or guarantee, or pass unstable='allow'"
            )
        raise UnstableSchemeError(
            f"tau = {report.tau:.10g} exceeds {result.bound:.10g} = {result.formula}, the bound of {result.notion}; "
            f"lower tau, use tau='auto', or pass unstable='allow'"
        )

    def _within(self, tau: Any, limit: sp.Expr | None) -> bool:
        if limit is None:
            return False
        limit = limit.xreplace(self._initial_norms()).xreplace({p: sp.Float(p.value, 17) for p in self.trainable})
        if limit.is_Rational:
            return exact(tau) <= fraction(limit)
        return float(tau) <= float(limit)

    def _result(
        self, notion: str, norm: str, bound: _Bound, limit: sp.Expr | None, tau: Any, proof: str, broken: Witness | None
    ) -> Result:
        value = None if limit is None else self._at_initial(limit)
        if self._within(tau, limit):
            return Result(notion, "proved", value, bound.formula, norm, bound.assumptions, Witness(proof))
        if broken is not None:
            return Result(notion, "refuted", value, bound.formula, norm, (), broken)
        why = bound.why_not or f"tau = {float(tau):.6g} exceeds the proved bound, and no counter-example was found"
        if self._interval() is None:
            why = f"{type(self.scheme).__name__} evaluates f away from the current state; proved for linear f only"
        return Result(notion, "unknown", value, bound.formula, norm, bound.assumptions, Witness(why))

    def _norm_decrease(self, bound: _Bound, limit: sp.Expr | None, tau: Any) -> Result:
        proof = f"u⁺ = (I − τA(u))u with A symmetric and 0 ≤ A ≤ ρ, so ‖u⁺‖ ≤ ‖u‖ for τ ≤ {bound.formula}"
        broken = None if self._within(tau, limit) else self._growing_state(tau)
        return self._result("norm decrease", "L²", bound, limit, tau, proof, broken)

    def _nonexpansive(self, bound: _Bound, limit: sp.Expr | None, tau: Any) -> Result:
        proof = f"the Jacobian is I − τA' with 0 ≤ A' ≤ ρ, so distances do not grow for τ ≤ {bound.formula}"
        broken = None if self._within(tau, limit) else self._spreading_pair(tau)
        result = self._result("nonexpansive", "L²", bound, limit, tau, proof, broken)
        if result.status == "proved" or bound.rho is None or self._interval() is None:
            return result
        lipschitz = max(abs(1 - float(tau) * self._at_initial(bound.rho)), 1 + float(tau) * bound.growth)
        return replace(result, formula=f"Lipschitz constant ≤ {lipschitz:.6g}")

    def _maximum_principle(self, bound: _Bound, limit: sp.Expr | None, tau: Any) -> Result:
        proof = "I − τA(u) has no negative entry and rows that sum to at most one: new values average old ones"
        broken = None if self._within(tau, limit) else self._overshoot(tau)
        return self._result("maximum principle", "L∞", bound, limit, tau, proof, broken)

    # --- bounds -----------------------------------------------------------------------------------------

    def _spectrum(self, slopes: bool) -> _Bound:
        """ρ = Σ κ L ‖K‖² with L from the range of g, or of Φ' for the Jacobian."""
        what = "Φ'" if slopes else "g"
        assumptions: list[str] = []
        groups: dict[sp.Expr, list[Stencil]] = {}
        low, growth = math.inf, 0.0
        if self.system.problem.pointwise != 0:
            return _Bound(
                None,
                -math.inf,
                (),
                "–",
                f"the reaction term {self.system.problem.pointwise} is not covered by this notion yet",
            )
        for flux in self.system.fluxes:
            strength, lowest, text, why_not = self._strength(flux, slopes)
            low = min(low, lowest)
            if strength is None:
                return _Bound(None, low, (), "–", why_not)
            assumptions.append(text)
            groups.setdefault(strength, []).extend(flux.own)
            growth += max(0.0, -lowest) * self._at_initial(flux.term.kappa * self._joint_norm(list(flux.own))[0])
        rho, is_exact = sp.S.Zero, True
        for strength, members in groups.items():
            norm, sharp = self._joint_norm(members)
            rho, is_exact = rho + strength * norm, is_exact and sharp
        if not is_exact and not rho.free_symbols:
            rho = sp.Float(math.nextafter(float(rho), math.inf), 17)
        formula = f"{self._interval()}/(L‖K‖²), L‖K‖² = {_short(rho)}"
        norm_text = "‖K‖² is the supremum of |k̂|² over all frequencies, for every grid size"
        why_not = f"{what} takes the negative value {low:.6g}" if low < 0 else ""
        return _Bound(rho, low, (*dict.fromkeys(assumptions), norm_text), formula if low >= 0 else "–", why_not, growth)

    def _strength(self, flux: DiscreteFlux, slopes: bool) -> tuple[sp.Expr | None, float, str, str]:
        """κ·sup of g or Φ', its infimum, the hypothesis in words, and why there is none."""
        term = flux.term
        kappa = term.kappa.xreplace(self.fixed)
        if kappa.is_nonnegative is not True:
            sign = (
                "is negative: backward diffusion" if kappa.is_negative else "has no known sign; declare positive=True"
            )
            return None, -math.inf if kappa.is_negative else 0.0, "", f"the factor {term.kappa} {sign}"
        ranges, shown, why_not = self._ranges(flux, slopes)
        if not ranges:
            return None, 0.0, "", why_not
        low, high, strength = 1.0, 1.0, kappa
        for r in ranges:
            low, high = min(low * r.low, low * r.high, high * r.low), high * r.high
            top = r.symbolic_high if r.symbolic_high is not None else sp.Float(r.high, 17)
            strength = strength * top.xreplace(self.fixed)
        if not math.isfinite(high) or math.isnan(low):
            depends = " for every value of the trainable parameters" if self.trainable else ""
            return None, low if math.isfinite(low) else 0.0, "", f"no upper bound was found for {shown}{depends}"
        name = "Φ'" if slopes else "g"
        return strength, low, f"{low:.6g} ≤ {name} ≤ {_short(strength / kappa)} for {shown}", ""

    def _ranges(self, flux: DiscreteFlux, slopes: bool) -> tuple[list[Range], str, str]:
        """The diffusivity (or flux slope) as a product of factors in one variable each, with their ranges."""
        term = flux.term
        s = sp.Symbol("s", real=True)
        if flux.local:
            own = term.slots[term.own][0]
            Phi = term.flux.xreplace({own: s})
            slope = sp.diff(Phi, s)
            if slopes or term.diffusivity is None:
                if not slopes and Phi.xreplace({s: sp.S.Zero}) != 0:
                    return [], "", f"Φ(0) = {Phi.xreplace({s: sp.S.Zero})} is not zero"
                return [self._range(slope, s)], f"Φ = {notation.show(Phi)}", ""
            return [self._range(term.diffusivity.xreplace({own: s}), s)], f"g = {_shown(flux)}", ""
        g, others, weights = _radial(term.diffusivity, [slot for slot, _ in term.slots], s)
        if slopes and set(weights) - {1}:
            return [], "", f"the norm in {_shown(flux)} weighs its components, whose Jacobian is not covered yet"
        if g is None:
            return [], "", f"the diffusivity {_shown(flux)} is not a function of one norm times data"
        ranges = [self._range(g, s)]
        if slopes:  # the Jacobian has the eigenvalues g and Φ' = (g(s²)s)'
            ranges = [_union(ranges[0], self._range(sp.diff(g * s, s), s))]
        for factor in others:
            bounds = getattr(factor.func, "bounds", None)
            if not isinstance(factor, Data) or bounds is None:
                known = (
                    "has no declared bounds; use loom.data(…, bounds=(low, high))"
                    if isinstance(factor, Data)
                    else "varies with u"
                )
                return [], "", f"the coefficient {factor} {known}"
            ranges.append(
                Range(float(bounds[0]), float(bounds[1]), None, sp.Rational(*exact(bounds[1]).as_integer_ratio()))
            )
        return ranges, f"g = {_shown(flux)}", ""

    def _range(self, e: sp.Expr, s: sp.Symbol) -> Range:
        return range_of(e.xreplace(self.fixed), s, self.trainable, even=parity_of(e, {s: -1}) == 1)

    def _joint_norm(self, stencils: list[Stencil]) -> tuple[sp.Expr, bool]:
        """‖(K_1, …, K_n)‖², jointly where the kernels are fixed and of one parity each."""
        if self.learned:
            labels = {id(K): label for label, K in own_stencils(self.system)}
            return sp.Add(*(norm_symbol(labels[id(K)]) for K in stencils)), False
        joint, separate, sharp = Polynomial.zero(len(self.system.axes)), sp.S.Zero, True
        for K in stencils:
            if len(K.parts) == 1 and all(w.is_Rational for w in K.taps().values()):
                joint = joint + K.symbol_squared()
            else:
                K = Stencil(
                    tuple(type(p)(p.coefficient.xreplace(self.fixed), p.orders, p.taps) for p in K.products),
                    K.source,
                    K.target,
                    K.axes,
                )
                bound, _ = squared_norm(K)
                separate, sharp = separate + bound, False
        supremum, attained = joint.supremum()
        return rational(supremum) + separate, sharp and attained

    def _diagonal(self) -> _Bound:
        """max Aᵢᵢ for two-tap differences."""
        why_not, total, assumptions = "", sp.S.Zero, []
        if self.learned:
            return _Bound(None, 0.0, (), "–", "learned stencils are not bounded entry by entry")
        if self.system.problem.pointwise != 0:
            return _Bound(None, 0.0, (), "–", "reaction terms are not covered by this notion yet")
        for flux in self.system.fluxes:
            strength, low, text, why_not = self._strength(flux, slopes=False)
            taps = [list(K.taps().items()) for K in flux.own]
            if strength is None or low < 0:
                return _Bound(None, low, (), "–", why_not or f"g takes the negative value {low:.6g}")
            if len(taps) != 1 or len(taps[0]) != 2 or taps[0][0][1] != -taps[0][1][1]:
                return _Bound(
                    None, 0.0, (), "–", "the difference has more than two taps, so I − τA has negative entries"
                )
            (offset, weight), _ = taps[0]
            axis = self.system.axes[next(a for a, j in enumerate(offset) if j)]
            wall = axis.sides is not None and any(side.plane == "face" and side.parity < 0 for side in axis.sides)
            if wall:
                assumptions.append(f"at least two cells along {axis.name}")
            total += strength * weight**2 * (3 if wall else 2)
            assumptions.append(text)
        formula = "1/max Aᵢᵢ" + ("" if total.free_symbols else f" = {_short(1 / total) if total else 'no limit'}")
        return (
            _Bound(total, 0.0, tuple(dict.fromkeys(assumptions)), formula)
            if total != 0
            else _Bound(None, 0.0, (), "–", "no flux")
        )

    # --- counter-examples, run on the reference -----------------------------------------------------------

    def _one_step(self, u: np.ndarray, tau: Any) -> np.ndarray | None:
        if self.system.problem.data:
            return None
        one = type(self.scheme)(**{**self.scheme.__dict__, "steps": 1, "tau": float(tau)})
        return Reference(self.system, one, float(tau), self.values)(u)

    @property
    def _shape(self) -> tuple[int, ...]:
        """One long axis; the others just wide enough for the stencils."""
        return (32,) + (6,) * (self.system.problem.dimension - 1)

    def _amplitudes(self) -> np.ndarray:
        h = float(min(axis.spacing for axis in self.system.axes))
        return h * np.logspace(-6, 4, 61)

    def _growing_state(self, tau: Any) -> Witness | None:
        """The fastest oscillations, small and large: one of them must not grow."""
        index = np.indices(self._shape)
        patterns = [(-1.0) ** index.sum(0)] + [(-1.0) ** index[a] for a in range(len(index))]
        window = np.sin(np.pi * (index[0] + 1) / (self._shape[0] + 1))
        patterns += [patterns[0] * window, patterns[1] * window]
        u = np.concatenate([p[None, None] * self._amplitudes().reshape(-1, *(1,) * (p.ndim + 1)) for p in patterns])
        v = self._one_step(u, tau)
        if v is None:
            return None
        axes = tuple(range(1, u.ndim))
        factor = np.sqrt((v**2).sum(axes) / (u**2).sum(axes))
        k = int(np.nanargmax(factor))
        if not factor[k] > 1 + _CLEARLY:
            return None
        return Witness(
            f"an oscillation of amplitude {abs(u[k]).max():.3g} grows by the factor {factor[k]:.6g} in one step",
            (u[k : k + 1],),
        )

    def _spreading_pair(self, tau: Any) -> Witness | None:
        """Two ramps that differ by the Jacobian's fastest growing direction."""
        walls = any(side.parity < 0 for axis in self.system.axes for side in axis.sides or ())
        shape = (self._shape[0], *(6 if walls else 2 for _ in self._shape[1:]))  # states that vary along one axis
        slopes = [0.0]
        for flux in self.system.fluxes:
            ranges, _, _ = self._ranges(flux, slopes=True)
            slopes += [r.where_low * c for r in ranges if r.where_low for c in (1.0, 1.3)]
        n, h = shape[0], float(self.system.axes[0].spacing)
        x = np.arange(n) * h
        order = max((p.orders[0] for flux in self.system.fluxes for K in flux.own for p in K.products), default=1)
        best: tuple[float, Any] = (1 + _CLEARLY, None)
        bumps = np.eye(n).reshape(n, 1, n, *(1,) * (len(shape) - 1)) * np.ones(shape)
        for slope in dict.fromkeys(slopes):
            for profile in (x**order / math.factorial(max(order, 1)), np.minimum(x, x[::-1])):
                base = (slope * profile).reshape(1, 1, n, *(1,) * (len(shape) - 1)) * np.ones((1, 1, *shape))
                epsilon = 1e-6 * max(slope * h, h)
                plus, minus = self._one_step(base + epsilon * bumps, tau), self._one_step(base - epsilon * bumps, tau)
                if plus is None or minus is None or not (np.isfinite(plus).all() and np.isfinite(minus).all()):
                    continue
                middle = (slice(None), 0, slice(None), *(s // 2 for s in shape[1:]))
                jacobian = ((plus - minus) / (2 * epsilon))[middle]
                direction = np.linalg.svd(jacobian.T)[2][0].reshape(1, 1, n, *(1,) * (len(shape) - 1))
                other = base + 100 * epsilon * direction * np.ones((1, 1, *shape))
                image = self._one_step(np.concatenate([base, other]), tau)
                assert image is not None
                factor = float(np.linalg.norm(image[0] - image[1]) / np.linalg.norm(base - other))
                if factor > best[0]:
                    best = (factor, (slope, base, other))
        if best[1] is None:
            return None
        slope, base, other = best[1]
        return Witness(
            f"two states near a profile of slope {slope:.4g} move apart by the factor {best[0]:.6g} in one step",
            (base, other),
        )

    def _overshoot(self, tau: Any) -> Witness | None:
        """An impulse must not leave the interval between 0 and its height."""
        impulse = np.zeros((1, 1, *self._shape))
        impulse[(0, 0, *(n // 2 for n in self._shape))] = 1.0
        u = impulse * self._amplitudes().reshape(-1, 1, *(1,) * len(self._shape))
        v = self._one_step(u, tau)
        if v is None:
            return None
        axes = tuple(range(1, u.ndim))
        below = -v.min(axes) / u.max(axes)
        k = int(np.nanargmax(below))
        if not below[k] > _CLEARLY:
            return None
        return Witness(
            f"an impulse of height {u[k].max():.3g} leaves a value of {v[k].min():.3g}, below its minimum 0",
            (u[k : k + 1],),
        )


def own_stencils(system: SemiDiscrete) -> list[tuple[str, Stencil]]:
    """The stencils K of all flux terms, labelled as in the graph; equal ones appear once per flux."""
    found = []
    for flux in system.fluxes:
        for i, K in enumerate(flux.own):
            found.append((f"K_{system._subscript(flux.term.operator, i)}", K))
    return found


def norm_symbol(label: str) -> sp.Symbol:
    """‖K‖² of a learned stencil, a function of its weights that the emitted module evaluates."""
    return sp.Symbol(f"norm2_{label}", positive=True)


def _learned_norm(K: Stencil) -> sp.Expr:
    """(Σ|w|)²: what the emitted module computes for trainable taps."""
    return sp.Add(*(sp.Abs(o.weight) * o.l1 for o in K.orbits())) ** 2


def _shown(flux: DiscreteFlux) -> str:
    """g as the header writes it, with the derivatives in place of the slots."""
    axes = tuple(axis.name for axis in flux.own[0].axes)
    named = {s: sp.Symbol(f"({notation.show_operator(o, axes)} u)") for s, o in flux.term.slots}
    return notation.show((flux.term.flux if flux.term.diffusivity is None else flux.term.diffusivity).xreplace(named))


def _radial(
    g: sp.Expr, slots: list[sp.Symbol], s: sp.Symbol
) -> tuple[sp.Expr | None, list[sp.Expr], tuple[sp.Expr, ...]]:
    """g = h(s²)·∏ data with s² = Σ w·slot²: (h, data factors, weights w)."""
    others = [f for f in sp.Mul.make_args(g) if not f.has(*slots) and f.atoms(Data, Unknown)]
    rest = sp.Mul(*(f for f in sp.Mul.make_args(g) if f not in others))
    if rest.atoms(Data, Unknown):
        return None, [], ()
    used = [slot for slot in slots if slot in rest.free_symbols]
    squares = {slot: sp.Symbol(f"q{i}", nonnegative=True) for i, slot in enumerate(used)}
    opened = rest.xreplace({slot: sp.sqrt(q) for slot, q in squares.items()})
    weights: tuple[sp.Expr, ...] = ()
    if used:
        first, *further = squares.values()
        slope = sp.diff(opened, first)
        ratios = [sp.cancel(sp.diff(opened, q) / slope) for q in further]
        if not all(w.is_number and w.is_positive for w in ratios):
            return None, [], ()
        weights = (sp.S.One, *(sp.S.One if abs(float(w) - 1) < 1e-12 else w for w in ratios))
        rest = sp.Add(*(w * q for w, q in zip(weights[1:], further, strict=True)))
        opened = opened.xreplace({first: s**2 - rest})
        if opened.is_rational_function():
            opened = sp.cancel(opened)
        if opened.free_symbols & set(further):
            return None, [], ()
    return opened, others, weights


def _union(a: Range, b: Range) -> Range:
    low, high = (a if a.low < b.low else b), (a if a.high > b.high else b)
    return Range(low.low, high.high, low.symbolic_low, high.symbolic_high, low.where_low)


def _short(e: sp.Expr) -> str:
    if e.is_Rational and e.q > 10**6:
        return f"{float(e):.6g}"
    return f"{float(e):.6g}" if e.is_Float else str(e)

"""Which stability holds, up to which step, and why: three-valued results with hypotheses and witnesses.

For  f(u) = −A(u)u,  A(u) = Σ_c κ_c K_c* G_c(u) K_c  and a scheme whose amplification is stable for 0 ≤ y ≤ x:

    norm decrease       0 ≤ G ≤ L          ⇒  0 ≤ A(u) ≤ ρ = Σ κ L ‖K‖²,  ‖u⁺‖ ≤ ‖u‖ for τ ≤ x/ρ
    nonexpansive        0 ≤ Φ' ≤ L_Φ       ⇒  the same for the Jacobian,   ‖S(u)−S(v)‖ ≤ ‖u−v‖ for τ ≤ x/ρ_Φ
    maximum principle   two-tap K, G ≥ 0   ⇒  A(u) is an M-matrix,         min u ≤ u⁺ ≤ max u for τ ≤ c/max Aᵢᵢ
    power bounded       A frozen           ⇒  the states stay bounded for τᵐ ≤ x/ρ, m the order in time

The first two need a scheme that meets one operator A(w) per step, or a linear f; the last holds for every scheme, but
for nonlinear f it speaks of the frozen operator, so it is unknown for f itself. Where x = ∞ so is the bound.

Proofs: numerics in docs/stability.md. The bounds hold for every grid size. "Refuted" always comes with an
input on which the network itself was seen to break the claim; what is neither proved nor refuted is unknown.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import sympy as sp

from . import notation
from .discretise import DiscreteFlux, SemiDiscrete
from .errors import ConvergenceError, SchemeError, UnstableSchemeError, suggest
from .fields import Data, Parameter, Unknown
from .grid import exact
from .nonlinearity import Range, range_of
from .ops import parity_of
from .reference import Reference
from .schemes import Scheme
from .schemes.amplification import OneStep
from .schemes.base import POWER
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

    `bound` is the largest τ for which the notion is proved, under its assumptions (None where there is none, inf where
    every τ will do); `formula` says how it came about; `norm` is the norm it speaks of.
    """

    notion: str
    status: str
    bound: float | None
    formula: str
    norm: str
    assumptions: tuple[str, ...]
    witness: Witness


@dataclass(frozen=True)
class Operator:
    """What a solver wants to know of −f, at the initial parameters (None where no bound is known).

    `frozen` and `jacobian` are (lowest, highest) bounds on the spectra of A(u) and of −f'; `asymmetry` says why f' is
    not symmetric.
    """

    frozen: tuple[float, float] | None
    jacobian: tuple[float, float] | None
    asymmetry: str


@dataclass(frozen=True)
class Report:
    """All results, iterable; `tau_max` is the bound of the governing notion, `tau` the step in use."""

    results: tuple[Result, ...]
    governing: str
    tau: float
    spectral_bound: sp.Expr | None
    """ρ, the bound on the spectrum of A, as a function of what is trainable."""
    limit: sp.Expr | None
    """ρ·τ_maxᵐ for the governing notion, m the order in time: 2 for explicit Euler, ∞ without a limit."""
    relaxation: sp.Expr | None
    """The scheme's relaxation coefficient, a number or a part of ρ."""
    own: Mapping[str, float]
    """The value of the relaxation coefficient at the initial weights, by its name; empty without one."""
    operator: Operator
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
        self.own: dict[str, float] = {}
        self.fixed = {
            p: sp.Rational(*exact(p.value).as_integer_ratio()) for p in system.problem.parameters if p not in trainable
        }

    # --- the notions ------------------------------------------------------------------------------------

    NOTIONS = ("norm decrease", "nonexpansive", "maximum principle", POWER)

    def report(self, governing: str, allow: bool) -> Report:
        if governing not in self.NOTIONS:
            raise SchemeError(f"guarantee={governing!r}: {suggest(str(governing), self.NOTIONS)}")
        frozen, jacobian, diagonal = self._spectrum(slopes=False), self._spectrum(slopes=True), self._diagonal()
        bounds = {"norm decrease": frozen, "nonexpansive": jacobian, "maximum principle": diagonal, POWER: frozen}
        limits = {name: self._tau_bound(name, b) for name, b in bounds.items()}
        tau = self._choose(governing, limits[governing], bounds[governing], allow)
        relaxation = self._relaxation(frozen, allow)
        self.own = {} if relaxation is None else {str(self.scheme.relaxation): self._at_initial(relaxation)}
        with np.errstate(all="ignore"):  # counter-examples are looked for where numbers overflow
            judges = (self._norm_decrease, self._nonexpansive, self._maximum_principle, self._power_bounded)
            every = zip(self.NOTIONS, judges, strict=True)
            results = tuple(judge(bounds[name], limits[name], tau) for name, judge in every)
        rho, limit = bounds[governing].rho, self._limits[governing]
        operator = Operator(self._ends(frozen), self._ends(jacobian), self.system.asymmetry)
        report = Report(results, governing, float(tau), rho, limit, relaxation, self.own, operator)
        self._refuse(report, limits[governing], allow)
        warnings = tuple(
            f"{r.notion} governs this scheme and is {r.status}: {r.witness}"
            for r in results
            if r.notion == governing and r.status != "proved"
        )
        return replace(report, warnings=warnings)

    @cached_property
    def _limits(self) -> dict[str, sp.Expr | None]:
        """ρτᵐ up to which the scheme is stable in each sense, None where the sense does not apply to it."""
        dimension, linear = self.system.problem.dimension, self.system.linear
        seen = self.scheme.structured(dimension)
        factor = self.scheme.amplified(dimension if seen.parts else 1)
        end = sp.oo if self.scheme.relaxation else factor.real_interval().end
        if seen.parts and end == 0:  # no interval is known for several operators at once
            end = None
        alike = not seen.parts or factor.additive
        one_matrix = linear and isinstance(factor, OneStep)
        averages = factor.positivity() if linear or seen.one_operator else sp.S.Zero
        return {
            "norm decrease": end if alike and (seen.one_operator or one_matrix) else None,
            "nonexpansive": end if alike and (seen.one_evaluation or one_matrix) else None,
            "maximum principle": averages if averages != 0 and not self.scheme.cyclic else None,
            POWER: end,
        }

    def _tau_bound(self, notion: str, bound: _Bound) -> sp.Expr | None:
        x, order = self._limits[notion], self.system.problem.time_order
        if bound.rho is None or bound.low < 0 or x is None:
            return None
        return sp.oo if bound.rho == 0 or x == sp.oo else (x / bound.rho) ** sp.Rational(1, order)

    def _choose(self, governing: str, limit: sp.Expr | None, bound: _Bound, allow: bool) -> Any:
        if self.scheme.tau != "auto":
            return self.scheme.tau
        name = type(self.scheme).__name__
        if limit is None or (not limit.is_finite and limit != sp.oo):
            why = bound.why_not or (bound.formula if bound.rho is None else f"{name} evaluates f at several states")
            raise UnstableSchemeError(
                f"tau='auto' needs a proved bound, but {governing} has none for this PDE ({why}); give {name} a tau"
                + ("" if allow else " and pass unstable='allow' if it is refuted")
            )
        if limit != sp.oo:
            return SAFETY * self._at_initial(limit)
        if bound.rho in (None, 0):
            return 1.0
        return float((self.scheme.stride * 2 / self._at_initial(bound.rho)) ** (1 / self.system.problem.time_order))

    def _relaxation(self, frozen: _Bound, allow: bool) -> sp.Expr | None:
        """α: what the user gave, checked, or the smallest stable one, ρ/x."""
        name = self.scheme.relaxation
        if name is None:
            return None
        given, cls, part = getattr(self.scheme, name), type(self.scheme).__name__, self.scheme.interval.end
        if frozen.rho is None or frozen.low < 0:
            if given == "auto":
                raise UnstableSchemeError(
                    f"{cls}({name}='auto') needs a bound on the spectrum, and there is none for this PDE "
                    f"({frozen.why_not}); give {name} a number and pass unstable='allow'"
                )
            return sp.Float(given, 17)
        least = frozen.rho / part
        if given == "auto":
            return least if least != 0 else sp.S.One
        if least.free_symbols - set(self.system.problem.parameters) or least.free_symbols & self.trainable:
            raise SchemeError(f"{cls}({name}={given!r}): the bound {name} ≥ ρ/{part} moves in training; use 'auto'")
        if exact(given) < fraction(least) and not allow:
            raise UnstableSchemeError(
                f"{cls}({name}={given!r}) is below {self._at_initial(least):.10g} = ρ/{part}, ρ = "
                f"{_short(frozen.rho)}, and is not power bounded; raise {name}, use {name}='auto', or pass "
                f"unstable='allow'"
            )
        return sp.Rational(*exact(given).as_integer_ratio())

    def _ends(self, bound: _Bound) -> tuple[float, float] | None:
        return None if bound.rho is None else (-bound.growth, self._at_initial(bound.rho))

    def _at_initial(self, e: sp.Expr) -> float:
        return number(e.xreplace(self._initial_norms()), self.values)

    def _initial_norms(self) -> dict[sp.Symbol, sp.Expr]:
        if not self.learned:
            return {}
        values = {p: sp.Rational(*exact(p.value).as_integer_ratio()) for p in self.system.problem.parameters}
        return {norm_symbol(label): _learned_norm(K).xreplace(values) for label, K in own_stencils(self.system)}

    def _refuse(self, report: Report, limit: sp.Expr | None, allow: bool) -> None:
        result = report[report.governing]
        if allow or result.status == "proved":
            return
        if result.status == "unknown" and (result.bound is None or self._within(report.tau, limit)):
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
        if limit == sp.oo:
            return True
        open_ended = self.scheme.interval.open
        if limit.is_Rational:
            return exact(tau) < fraction(limit) if open_ended else exact(tau) <= fraction(limit)
        return float(tau) < float(limit) if open_ended else float(tau) <= float(limit)

    def _result(
        self, notion: str, norm: str, bound: _Bound, limit: sp.Expr | None, tau: Any, proof: str, broken: Witness | None
    ) -> Result:
        value = None if limit is None else math.inf if limit == sp.oo else self._at_initial(limit)
        assumptions, formula = bound.assumptions, self._formula(notion, bound)
        seen = self.scheme.structure
        if seen.solves:
            assumptions = (*assumptions, "every solve converges to its tolerance, beyond which nothing is claimed")
        if self._within(tau, limit) and not seen.exact:
            why = "a solve may stop before it has converged; proved for on_failure='error' without fixed iterations"
            return Result(notion, "unknown", value, formula, norm, assumptions, Witness(why))
        if self._within(tau, limit):
            return Result(notion, "proved", value, formula, norm, assumptions, Witness(proof))
        if broken is not None:
            return Result(notion, "refuted", value, formula, norm, (), broken)
        why = bound.why_not or f"tau = {float(tau):.6g} exceeds the proved bound, and no counter-example was found"
        if not bound.why_not and limit is None:
            why = f"{type(self.scheme).__name__} meets f at more than one state; proved for linear f only"
            if self.scheme.memory and not self.scheme.cyclic:
                why = f"{type(self.scheme).__name__} is a multistep scheme: it is power bounded at best"
        return Result(notion, "unknown", value, formula, norm, assumptions, Witness(why))

    def _formula(self, notion: str, bound: _Bound) -> str:
        x = self._limits[notion]
        if bound.rho is None or bound.low < 0 or x is None:
            return "–"
        if x == sp.oo:
            if self.scheme.relaxation:
                return f"every τ for {self.scheme.relaxation} ≥ ρ/{self.scheme.interval.end}, ρ = {_short(bound.rho)}"
            return "every τ"
        if notion == "maximum principle":
            return bound.formula if x == 1 else f"{_short(x)}/max Aᵢᵢ, max Aᵢᵢ = {_short(bound.rho)}"
        number = f"{_short(x)}/(L‖K‖²)"
        root = f"√({number})" if self.system.problem.time_order == 2 else number
        return f"{root}, L‖K‖² = {_short(bound.rho)}"

    def _norm_decrease(self, bound: _Bound, limit: sp.Expr | None, tau: Any) -> Result:
        step = "(I − τA(u))u" if self.scheme.euler else "R(−τA(w))u, |R| ≤ 1,"
        per = f" over a cycle of {self.scheme.cycle} layers" if self.scheme.cyclic else ""
        formula = self._formula("norm decrease", bound)
        proof = f"u⁺ = {step} with A symmetric and 0 ≤ A ≤ ρ, so ‖u⁺‖ ≤ ‖u‖{per} for {_up_to(formula)}"
        broken = None if self._within(tau, limit) else self._growing_state(tau)
        return self._result("norm decrease", "L²", bound, limit, tau, proof, broken)

    def _nonexpansive(self, bound: _Bound, limit: sp.Expr | None, tau: Any) -> Result:
        step = "I − τA'" if self.scheme.euler else "R(−τA')"
        formula = self._formula("nonexpansive", bound)
        proof = f"the Jacobian is {step} with 0 ≤ A' ≤ ρ, so distances do not grow for {_up_to(formula)}"
        broken = None if self._within(tau, limit) else self._spreading_pair(tau)
        result = self._result("nonexpansive", "L²", bound, limit, tau, proof, broken)
        if result.status == "proved" or bound.rho is None or not self.scheme.euler:
            return result
        lipschitz = max(abs(1 - float(tau) * self._at_initial(bound.rho)), 1 + float(tau) * bound.growth)
        return replace(result, formula=f"Lipschitz constant ≤ {lipschitz:.6g}")

    def _maximum_principle(self, bound: _Bound, limit: sp.Expr | None, tau: Any) -> Result:
        proof = (
            "I − τA(u) has no negative entry and rows that sum to at most one: new values average old ones"
            if self.scheme.euler
            else "A is an M-matrix, so its resolvents have no negative entry and rows that sum to at most one"
        )
        broken = None if self._within(tau, limit) else self._overshoot(tau)
        return self._result("maximum principle", "L∞", bound, limit, tau, proof, broken)

    def _power_bounded(self, bound: _Bound, limit: sp.Expr | None, tau: Any) -> Result:
        scheme, seen = self.scheme, self.scheme.structure
        what = "a cycle" if scheme.cyclic else "a step"
        roots = f"the amplification of {what} stays in the unit disc for 0 ≤ τλ ≤ {_short(scheme.interval.end)}"
        if scheme.relaxation:
            roots = f"the roots lie in the unit disc for every τ if λ ≤ {scheme.interval.end}{scheme.relaxation}"
        proof = f"{roots}, and the spectrum of A lies in [0, ρ]"
        within = self._within(tau, limit)
        result = self._result(POWER, "L²", bound, limit, tau, proof, None if within else self._blow_up(tau))
        notes = list(result.assumptions)
        if scheme.relaxation and self.own and result.status != "refuted":
            term = self.own[scheme.relaxation] * float(tau) ** 2
            notes.append(
                f"consistency: the scheme solves u_t + ατ²u_tt = f(u) with ατ² = {term:.4g}, and tends to the PDE only "
                f"for τ/h → 0"
            )
        if self.system.problem.time_order == 2 and result.status != "refuted":
            notes.append("off the kernel of A, where states grow linearly in time as in the PDE")
        commuting = not seen.parts or scheme.amplified(self.system.problem.dimension).additive
        commuting = commuting or all(f.local or f.term.diffusivity == 1 for f in self.system.fluxes)
        known = (self.system.linear and commuting) or self._within(tau, self._tau_bound("norm decrease", bound))
        if result.status == "proved" and not known:
            parts = "" if commuting else ", its parts commute"
            notes.append(f"A(u) is frozen: the same operator in every step{parts}")
            witness = Witness(f"proved for the frozen operator: {proof}; for the nonlinear f itself it is open")
            return replace(result, status="unknown", assumptions=tuple(notes), witness=witness)
        return replace(result, assumptions=tuple(notes))

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
        norm_text = "‖K‖² is the supremum of |k̂|² over all frequencies, for every grid size"
        why_not = f"{what} takes the negative value {low:.6g}" if low < 0 else ""
        return _Bound(rho, low, (*dict.fromkeys(assumptions), norm_text), "–", why_not, growth)

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

    def _run(self, u: np.ndarray, tau: Any, cycles: int = 1) -> np.ndarray | None:
        """The state after `cycles` cycles (or steps); None where data are needed or a solve fails."""
        if self.system.problem.data:
            return None
        layers = self.scheme.cycle * cycles + self.scheme.starting_steps
        try:
            return Reference(self.system, self.scheme, float(tau), self.values, self.own).states(u, layers)[0]
        except ConvergenceError:
            return None

    @property
    def _shape(self) -> tuple[int, ...]:
        """One long axis; the others just wide enough for the stencils."""
        return (32,) + (6,) * (self.system.problem.dimension - 1)

    def _amplitudes(self) -> np.ndarray:
        """From tiny to huge; an implicit step is run on tiny ones only, for which its equation is almost linear."""
        h = float(min(axis.spacing for axis in self.system.axes))
        return h * (np.logspace(-6, -3, 2) if self.scheme.structure.solves else np.logspace(-6, 4, 61))

    def _blow_up(self, tau: Any) -> Witness | None:
        """Many steps from a small oscillation: it must not grow a hundredfold."""
        u = 1e-1 * self._amplitudes()[0] * self._patterns()
        for cycles in (10,) if self.scheme.structure.solves else (10, 40, 160):
            v = self._run(u, tau, cycles)
            if v is None:
                return None
            factor = np.sqrt((v**2).sum(tuple(range(1, v.ndim))) / (u**2).sum(tuple(range(1, u.ndim))))
            factor = np.where(np.isfinite(factor), factor, np.inf)
            k = int(factor.argmax())
            if factor[k] > 100:
                return Witness(
                    f"an oscillation grows by the factor {factor[k]:.4g} in {cycles * self.scheme.cycle} layers",
                    (u[k : k + 1],),
                )
        return None

    def _patterns(self) -> np.ndarray:
        """The fastest oscillations, bare and under a window."""
        index = np.indices(self._shape)
        patterns = [(-1.0) ** index.sum(0)] + [(-1.0) ** index[a] for a in range(len(index))]
        window = np.sin(np.pi * (index[0] + 1) / (self._shape[0] + 1))
        patterns += [patterns[0] * window, patterns[1] * window]
        return np.array(patterns)[:, None]

    def _growing_state(self, tau: Any) -> Witness | None:
        """The fastest oscillations, small and large: one of them must not grow."""
        if self.scheme.structure.solves:
            return None
        u = np.concatenate([p[None] * self._amplitudes().reshape(-1, *(1,) * p.ndim) for p in self._patterns()])
        v = self._run(u, tau)
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
        if self.scheme.structure.solves:
            return None
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
                plus, minus = self._run(base + epsilon * bumps, tau), self._run(base - epsilon * bumps, tau)
                if plus is None or minus is None or not (np.isfinite(plus).all() and np.isfinite(minus).all()):
                    continue
                middle = (slice(None), 0, slice(None), *(s // 2 for s in shape[1:]))
                jacobian = ((plus - minus) / (2 * epsilon))[middle]
                direction = np.linalg.svd(jacobian.T)[2][0].reshape(1, 1, n, *(1,) * (len(shape) - 1))
                other = base + 100 * epsilon * direction * np.ones((1, 1, *shape))
                image = self._run(np.concatenate([base, other]), tau)
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
        v = self._run(u, tau)
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
    return [pair for flux in system.fluxes for pair in zip(labels(system, flux), flux.own, strict=True)]


def labels(system: SemiDiscrete, flux: DiscreteFlux) -> list[str]:
    """The names of a flux term's own stencils: K_x, K_y, …"""
    return [f"K_{system._subscript(flux.term.operator, i)}" for i in range(len(flux.own))]


def norm_symbol(label: str) -> sp.Symbol:
    """‖K‖² of a learned stencil, a function of its weights that the emitted module evaluates."""
    return sp.Symbol(f"norm2_{label}", positive=True)


def _learned_norm(K: Stencil) -> sp.Expr:
    """(Σ|w|)²: what the emitted module computes for trainable taps."""
    return sp.Add(*(sp.Abs(o.weight) * o.l1 for o in K.orbits())) ** 2


def _shown(flux: DiscreteFlux) -> str:
    """g as the header writes it."""
    term, axes = flux.term, tuple(axis.name for axis in flux.own[0].axes)
    return notation.show_term(term.flux if term.diffusivity is None else term.diffusivity, term.slots, axes, "u")


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


def _up_to(formula: str) -> str:
    return formula if formula.startswith("every") else f"τ ≤ {formula}"


def _short(e: sp.Expr) -> str:
    if e.is_Rational and e.q > 10**6:
        return f"{float(e):.6g}"
    return f"{float(e):.6g}" if e.is_Float else str(e)

"""Which stability holds, up to which step, and why: three-valued results with hypotheses and witnesses.

For  f(u) = −A(u)u − Tu + r(u),  A(u) = Σ_c κ_c K_c* G_c(u) K_c,  and a scheme whose amplification R is stable for
0 ≤ y ≤ x:

    norm decrease       0 ≤ G ≤ L          ⇒  0 ≤ A(u) ≤ ρ = Σ κ L ‖K‖²,  ‖u⁺‖ ≤ ‖u‖ for τ ≤ x/ρ
    nonexpansive        0 ≤ Φ' ≤ L_Φ       ⇒  the same for the Jacobian,   ‖S(u)−S(v)‖ ≤ ‖u−v‖ for τ ≤ x/ρ_Φ
    energy decrease     f = −∇E, Φ' ≤ L_Φ  ⇒  ∇²E ≤ ρ_Φ,                   E(u⁺) ≤ E(u) for τ ≤ 2/ρ_Φ (explicit)
    maximum principle   two-tap K, G ≥ 0   ⇒  A(u) is an M-matrix,         min u ≤ u⁺ ≤ max u for τ ≤ c/max Aᵢᵢ
    von Neumann         coefficients frozen ⇒ |R| ≤ 1, or roots in the unit disc, at every frequency: necessary only
    power bounded       A frozen           ⇒  the states stay bounded for τᵐ ≤ x/ρ, m the order in time
    CFL                 waves and transport ⇒ the same limit as a Courant number, cells crossed per step

The first two need a scheme that meets one operator A(w) per step, or a linear f. A reaction β(f − u) replaces ρ by
ρ + 2β, and norms are compared with max(‖u‖, ‖f‖). Where x = ∞ so is the bound. Between walls of one value g the norm is
that of u − g, between walls of several values it is not known to decrease, and the maximum principle counts the walls.

Proofs: docs/stability.md. The bounds hold for every grid size. "Refuted" always comes with an input on which the
network itself was seen to break the claim; what is neither proved nor refuted is unknown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache, cached_property, partial
from typing import Any, ClassVar

import numpy as np
import sympy as sp

from . import fourier, notation
from .bank import Bank
from .bounds import ONE_SIDED, Bound, Bounds, short
from .discretise import TAU, SemiDiscrete
from .energy import energy_of, why_no_energy
from .errors import SchemeError, UnstableSchemeError, suggest
from .fields import Parameter
from .grid import exact
from .schemes import Scheme
from .schemes.amplification import OneStep
from .schemes.base import POWER
from .schemes.forward_euler import ForwardEuler
from .stencil import fraction, rational
from .witness import Search, Witness

SAFETY = 0.9
"""tau="auto" takes the proved bound times this."""


@dataclass(frozen=True)
class Result:
    """One notion of stability for one scheme at one step size.

    `bound` is the largest τ for which the notion is proved, under its assumptions (None where there is none, inf where
    every τ will do), `symbolic` the same as an expression in trained parameters; `formula` says how it came about;
    `norm` is the norm it speaks of.
    """

    notion: str
    status: str
    bound: float | None
    formula: str
    norm: str
    assumptions: tuple[str, ...]
    witness: Witness
    symbolic: sp.Expr | None = None


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
class Claim:
    """What can be proved for one notion: it holds for τᵐ ≤ x/rate, m the order in time; `x` is None without a proof.

    `rate` is called `symbol` in formulas. Where the limit itself does not count it is `open`. `holds`, where given,
    decides for one τ exactly.
    """

    x: sp.Expr | None = None
    rate: sp.Expr | None = None
    proof: str = ""
    assumptions: tuple[str, ...] = ()
    why_not: str = ""
    symbol: str = "L‖K‖²"
    open: bool = False
    never: bool = False
    """Is it false for every τ > 0?"""
    holds: Callable[[float], bool] | None = None

    def limit(self, order: int) -> sp.Expr | None:
        if self.x is None or self.rate is None:
            return None
        unlimited = self.x == sp.oo or self.rate == 0
        return sp.oo if unlimited else (self.x / self.rate) ** sp.Rational(1, order)

    def formula(self, order: int) -> str:
        limit = self.limit(order)
        if limit is None:
            return "–"
        if limit == sp.oo:
            return "every τ"
        compound = any(mark in self.symbol for mark in "+‖")
        number = f"{short(self.x)}/({self.symbol})" if compound else f"{short(self.x)}/{self.symbol}"
        root = f"√({number})" if order == 2 else number
        return f"{root}, {self.symbol} = {short(self.rate)}"


@dataclass(frozen=True)
class Results:
    """Results by notion, iterable; one of them governs, and is warned of where it is not proved."""

    results: tuple[Result, ...]
    governing: str

    column: ClassVar[str] = "tau bound"
    digits: ClassVar[int] = 6

    def __iter__(self) -> Iterator[Result]:
        return iter(self.results)

    def __getitem__(self, notion: str) -> Result:
        for result in self.results:
            if result.notion == notion:
                return result
        raise SchemeError(f"no result for {notion!r}: {suggest(notion, [r.notion for r in self.results])}")

    def certificate(self) -> dict[str, Any]:
        """What an emitted module says of itself."""
        governing = self[self.governing]
        return {
            "notion": governing.notion,
            "status": governing.status,
            "norm": governing.norm,
            "formula": governing.formula,
            "assumptions": list(governing.assumptions),
            "notions": {r.notion: r.status for r in self},
        }

    @property
    def warnings(self) -> tuple[str, ...]:
        result = self[self.governing]
        if result.status == "proved":
            return ()
        return (f"{self.governing} governs this scheme and is {result.status}: {result.witness}",)

    def rows(self) -> list[tuple[str, ...]]:
        return [
            (r.notion, r.status, "–" if r.bound is None else f"{r.bound:.{self.digits}g}", r.norm, r.formula)
            for r in self.results
        ]

    def summary(self) -> list[str]:
        """Lines below the table."""
        return []

    def __str__(self) -> str:
        header = ("notion", "status", self.column, "norm", "formula")
        rows = [header, *self.rows()]
        widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines.insert(1, "  ".join("-" * w for w in widths))
        lines += self.summary()
        for r in self.results:
            lines.append(f"\n{r.notion}: {r.status}. {r.witness}")
            lines += [f"  assumes {a}" for a in r.assumptions]
        lines += [f"\nwarning: {w}" for w in self.warnings]
        return "\n".join(lines)


@dataclass(frozen=True)
class Report(Results):
    """The results for a time scheme; `tau_max` is the bound of the governing notion, `tau` the step in use."""

    tau: float
    claim: Claim
    """The governing one: its `rate` is a function of what is trained."""
    relaxation: sp.Expr | None
    """The scheme's relaxation coefficient, a number or a part of ρ."""
    own: Mapping[str, float]
    """The value of the relaxation coefficient at the initial weights, by its name; empty without one."""
    operator: Operator
    claims: Mapping[str, Claim]
    """What is proved, or governs, by notion."""
    norms: Mapping[sp.Symbol, tuple[Bank, sp.Expr]]
    """The symbols of ‖L^½K‖² in rates, for filters K and bounds L on the diffusivities of their channels."""

    @property
    def tau_max(self) -> float | None:
        return self[self.governing].bound

    def summary(self) -> list[str]:
        return [f"tau = {self.tau:.6g}; governed by {self.governing}"]


NORMS = {
    "norm decrease": "L²",
    "nonexpansive": "L²",
    "energy decrease": "E",
    "maximum principle": "L∞",
    "von Neumann": "L²",
    POWER: "L²",
    "CFL": "L²",
}


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
    if guarantee is not None and guarantee not in NORMS:
        raise SchemeError(f"guarantee={guarantee!r}: {suggest(str(guarantee), list(NORMS))}")
    return _Analysis(system, scheme, Bounds(system, trainable, learned_stencils)).report(guarantee, allow)


class _Analysis:
    def __init__(self, system: SemiDiscrete, scheme: Scheme, bounds: Bounds) -> None:
        self.system, self.scheme, self.bounds = system, scheme, bounds
        self.order = system.problem.time_order
        self.own: dict[str, float] = {}

    def report(self, guarantee: str | None, allow: bool) -> Report:
        governing = guarantee or self._governing()
        claim = self.claim(governing)
        tau = float(self._choose(governing, claim, allow))
        relaxation = self._relaxation(allow)
        if relaxation is not None:
            self.own = {str(self.scheme.relaxation): self.bounds.at_initial(relaxation)}
        with np.errstate(all="ignore"):  # counter-examples are looked for where numbers overflow
            results = tuple(self._judge(notion, tau) for notion in NORMS)
        jacobian = None if self.system.laws else self._ends(self.bounds.slopes)
        operator = Operator(self._ends(self.bounds.frozen), jacobian, self.system.asymmetry)
        kept = {r.notion: self.claim(r.notion) for r in results if r.status == "proved" or r.notion == governing}
        report = Report(
            results, governing, tau, claim, relaxation, self.own, operator, kept, self._norms(kept, relaxation)
        )
        self._refuse(report, allow)
        return report

    def _norms(self, claims: Mapping[str, Claim], relaxation: sp.Expr | None) -> dict[sp.Symbol, tuple[Bank, sp.Expr]]:
        """The norms of filters that what is proved reads, or the relaxation."""
        rates = [relaxation, *(c.rate for c in claims.values())]
        read = set().union(*(e.free_symbols for e in rates if e is not None))
        return {s: found for s, found in self.bounds.weighted.items() if s in read}

    def _governing(self) -> str:
        """Transport is governed by the CFL or von Neumann's condition, all else by the scheme's own notion; where that
        has no bound but the maximum principle has, as for many reactions, by the latter."""
        if self.system.laws:
            walls = any(law.axis.sides or law.law.advective for law in self.system.laws)
            return "maximum principle" if walls and self.claim("maximum principle").x is not None else "CFL"
        if self.system.transports:
            return "CFL" if self.claim("maximum principle").x is not None else "von Neumann"
        first = self.scheme.governing
        fed = bool(self.system.walls) or self.bounds.reaction.source or self.system.halves
        others = ["maximum principle"] + [POWER] * fed + ["von Neumann"] * self._perturbed
        bounded = [n for n in (first, *others) if self.claim(n).limit(self.order) is not None]
        settled = self.bounds.at_rest and self.system.level is not None and not self.system.halves
        return first if settled or not bounded else bounded[0]

    # --- what the scheme does -------------------------------------------------------------------------------

    @cached_property
    def _factor(self) -> Any:
        """The amplification, in one variable or, for a scheme that splits f, in one per axis."""
        dimension = self.system.problem.dimension
        return self.scheme.amplified(dimension if self.scheme.structured(dimension).parts else 1)

    @cached_property
    def _end(self) -> sp.Expr | None:
        """ρτᵐ up to which the roots stay in the unit disc; None where no interval is known."""
        if self.scheme.relaxation:
            return sp.oo
        end = self._factor.real_interval().end
        return None if end == 0 and self._parts else end

    @property
    def _parts(self) -> bool:
        return self.scheme.structured(self.system.problem.dimension).parts

    @property
    def _turns(self) -> bool:
        """Do the fields of a system take turns?"""
        return self.system.width > 1 and self.scheme.structured(self.system.problem.dimension).turns

    @property
    def _alike(self) -> bool:
        """Does a step need nothing of its parts but their own spectra?"""
        return not self._parts or self._factor.additive

    @property
    def _commuting(self) -> bool:
        return self._alike or self.bounds.uniform

    @property
    def _lagged(self) -> bool:
        """Is a step (I + τA(u))u⁺ = u + τr(u)?"""
        seen = self.scheme.structure
        return seen.frozen and seen.plain and not seen.parts and self._factor.resolvent and bool(seen.solves)

    @property
    def _tangent(self) -> sp.Expr | None:
        """The flux that a scheme with a frozen operator replaces by its tangent."""
        terms = [flux.term for flux in self.system.fluxes if self.scheme.structure.frozen]
        return next((term.flux for term in terms if term.diffusivity is None and not term.linear), None)

    @property
    def _resolvent(self) -> bool:
        """Is a step u⁺ − τf(u⁺) = u?"""
        seen = self.scheme.structure
        return seen.one_evaluation and seen.plain and bool(seen.solves) and self._factor.resolvent

    @property
    def _open(self) -> bool:
        return self.scheme.interval.open and self._end != sp.oo

    def _step_text(self) -> str:
        return "(I − τA(u))u" if self.scheme.euler else "R(−τA(w))u, |R| ≤ 1,"

    # --- the claims -----------------------------------------------------------------------------------------

    @cache  # noqa: B019 (one analysis per compilation)
    def claim(self, notion: str) -> Claim:
        if self.system.one_sided:
            return Claim(why_not=ONE_SIDED)
        if self._tangent is not None and notion != "von Neumann":
            return Claim(
                why_not=f"Φ = {notation.show(self._tangent)} is no g·s with g in closed form, so that what is frozen "
                f"is its tangent, which is not linear in u"
            )
        if self.system.halves and notion in ("norm decrease", "nonexpansive") and not self.system.transports:
            return Claim(why_not="values on a wall that leaves them free count half in the norm that decreases")
        if self._turns and (self.system.laws or not self.system.transports):
            return Claim(why_not="fields that take turns are covered for transport alone")
        if self.system.laws:
            return self._conservation(notion)
        return {
            "norm decrease": self._norm,
            "nonexpansive": self._distance,
            "energy decrease": self._energy,
            "maximum principle": self._averages,
            "von Neumann": self._frequencies,
            POWER: self._powers,
            "CFL": self._cfl,
        }[notion]()

    @property
    def _reaction_text(self) -> str:
        return ", ".join(notation.show(r) for r in self.system.problem.reactions if r != 0)

    def _meets_more(self) -> str:
        name = type(self.scheme).__name__
        if self.scheme.memory and not self.scheme.cyclic:
            return f"{name} is a multistep scheme: it is power bounded at best"
        return f"{name} meets f at more than one state; proved for linear f only"

    def _with_reaction(self, bound: Bound, linear_end: sp.Expr | None) -> Claim:
        """Norms and distances: the limit of R on the spectrum of A, and what a reaction makes of it."""
        r = self.bounds.reaction
        why_not = bound.why_not or r.why_not
        if bound.rate is None or bound.low < 0:
            return Claim(why_not=why_not)
        if (
            self.system.walls
            and bound is self.bounds.frozen
            and not (self.bounds.at_rest and self.system.level is not None)
        ):
            between = "a reaction" if self.system.level is not None else "walls of several values"
            return Claim(why_not=f"{between}, so that u tends to no constant")
        if self.bounds.at_rest:
            known = linear_end is not None
            return Claim(
                linear_end, bound.rate, assumptions=bound.assumptions, why_not="" if known else self._meets_more()
            )
        if r.undamped and bound is self.bounds.frozen:
            return Claim(why_not=f"the source in {self._reaction_text} is not damped everywhere, and norms may grow")
        assumptions = (*bound.assumptions, *r.assumptions)
        absorbing = r.steepest if r.affine or bound is self.bounds.slopes else r.absorbing
        if absorbing is None or (r.growth > 0 and bound is self.bounds.slopes):
            return Claim(why_not=why_not or f"the reaction {self._reaction_text} does not damp")
        if r.source and not r.uniform and bound is self.bounds.frozen:
            where = "in space or between fields"
            return Claim(why_not=f"β varies {where}, so that ‖u⁺‖² ≤ ‖u‖² + ‖f‖² is all that is known")
        twice = 2 if r.source else 1
        symbol = "ρ + 2β" if r.source else "ρ + β" if r.affine else "ρ + sup|r'|"
        if self.scheme.euler:
            return Claim(sp.Integer(2), bound.rate + twice * absorbing, assumptions=assumptions, symbol=symbol)
        if self._resolvent:
            return Claim(sp.oo, bound.rate, assumptions=assumptions)
        if self._lagged and bound is self.bounds.frozen and r.affine:  # the reaction stays explicit
            return Claim(sp.Integer(2 // twice), absorbing, assumptions=assumptions, symbol="β")
        if linear_end is not None and not r.source and self.scheme.structure.one_evaluation:
            return Claim(linear_end, bound.rate + absorbing, assumptions=assumptions, symbol=symbol)
        return Claim(why_not=f"a reaction in {type(self.scheme).__name__} is not covered by this notion")

    def _norm(self) -> Claim:
        if self.system.transports and self.system.walls:
            return Claim(why_not="walls whose values are not 0 drive the fields")
        if self.system.transports:
            return self._normal()
        one = self.scheme.structure.one_operator or (self.system.linear and isinstance(self._factor, OneStep))
        claim = self._with_reaction(self.bounds.frozen, self._end if self._alike and one else None)
        per = f" over a cycle of {self.scheme.cycle} layers" if self.scheme.cyclic else ""
        claim = replace(claim, open=self._open and one)
        proof = f"u⁺ = {self._step_text()} with A symmetric and 0 ≤ A ≤ ρ, so ‖u⁺‖ ≤ ‖u‖{per}"
        if self.system.walls:
            proof = f"{proof}, for the deviation of u from the walls"
        if self.bounds.reaction.source:
            proof = "−(1 − τβ)I ≤ I − τβ − τA ≤ (1 − τβ)I, so ‖u⁺‖ ≤ (1 − τβ)‖u‖ + τβ‖f‖ ≤ max(‖u‖, ‖f‖)"
            if not self.scheme.euler:
                proof = "‖u⁺‖ is at most a mean of ‖u‖ and ‖f‖ with the weights 1 and τβ"
        return replace(claim, proof=self._up_to(proof, claim))

    def _distance(self) -> Claim:
        if self.system.transports:
            return self._normal()
        if self.system.asymmetry:
            return Claim(why_not=f"the Jacobian of f is not symmetric: {self.system.asymmetry}")
        one = self.scheme.structure.one_evaluation or (self.system.linear and isinstance(self._factor, OneStep))
        claim = self._with_reaction(self.bounds.slopes, self._end if self._alike and one else None)
        step = "I − τA'" if self.scheme.euler else "R(−τA')"
        proof = f"the Jacobian is {step} with 0 ≤ A' ≤ ρ, so distances do not grow"
        if self.bounds.reaction.source and self.bounds.reaction.uniform:
            proof += ", in u and f jointly"
        if self._resolvent:
            proof = "a step is a resolvent, firmly nonexpansive: ‖S(u) − S(v)‖² ≤ ⟨S(u) − S(v), u − v⟩"
        return replace(claim, proof=self._up_to(proof, claim), open=self._open and one)

    def _normal(self) -> Claim:
        """Transport with constant coefficients on periodic axes: the step is a normal matrix, its norm max |R|."""
        claim = self._transport
        if self._turns:
            return Claim(why_not="a step of fields that take turns preserves another norm, which depends on τ")
        if claim.x is None or not isinstance(self._factor, OneStep):
            return replace(claim, x=None, why_not=claim.why_not or self._meets_more())
        if self.system.width > 1:
            if not self.bounds.skew.plain:
                return Claim(why_not="the norm that does not grow has weights, one for every field")
            return replace(claim, proof=f"S is skew, so the norm of a step is max |R|: {claim.proof}")
        return replace(
            claim, proof=f"T is skew, A symmetric, they commute, so the norm of a step is max |R|: {claim.proof}"
        )

    def _energy(self) -> Claim:
        bound, r = self.bounds.slopes, self.bounds.reaction
        reason = why_no_energy(self.system) or bound.why_not * (bound.rate is None)
        if reason:
            return Claim(why_not=reason)
        if self.order == 2:
            return Claim(why_not="in an equation of second order in time E is exchanged with kinetic energy")
        steep = r.steepest
        if steep is None or bound.rate is None:
            return Claim(why_not=r.why_not)
        assumptions = (*bound.assumptions, *r.assumptions)
        linear_reaction = "ρ" if self.bounds.at_rest else "ρ + sup(−r')"
        two = sp.Integer(2)
        proof = "E(u⁺) ≤ E(u) − τ(1 − τL/2)‖f‖² with ∇²E ≤ L"
        if self.scheme.euler:
            claim = Claim(two, bound.rate + steep, proof, assumptions, symbol=linear_reaction)
        elif self._resolvent:
            growth = bound.growth + r.growth
            proof = "E(u⁺) ≤ E(u) − (1/τ − μ/2)‖u⁺ − u‖² with ∇²E ≥ −μ"
            rate = sp.Float(math.nextafter(growth, math.inf), 17) if growth else sp.S.Zero
            if growth and (bound.rate.free_symbols or self.bounds.trainable):
                return Claim(why_not="E is not convex, and how far it is from that moves in training")
            claim = Claim(two, rate, proof, assumptions, symbol="μ")
        elif self._lagged and self.bounds.concave:
            proof = "E is concave in |Ku|², so its tangent ½⟨G(u)Kv, Kv⟩ lies above it, and the step lowers that"
            claim = Claim(two, steep, proof, (*assumptions, "g does not increase"), symbol="sup(−r')")
        elif (
            self.system.linear
            and self.bounds.at_rest
            and bound.low >= 0
            and isinstance(self._factor, OneStep)
            and (not self._parts or self.bounds.uniform)
        ):
            proof = "E = ½⟨Au, u⟩ and A commutes with R: E(u⁺) = ½⟨AR²u, u⟩ ≤ E(u)"
            claim = Claim(self._end, bound.rate, proof, assumptions)
        else:
            return Claim(why_not=f"no proof is known for {type(self.scheme).__name__} and this f")
        if r.interval is not None:  # the bound on r' holds there alone
            inside = self.claim("maximum principle")
            if inside.x is None or claim.rate is None or claim.x is None:
                return Claim(why_not=inside.why_not)
            if inside.x == sp.oo:
                return claim
            claim = replace(claim, x=sp.S.One, rate=sp.Max(claim.rate / claim.x, inside.rate / inside.x), symbol="max")
        return replace(claim, proof=self._up_to(claim.proof, claim))

    def _averages(self) -> Claim:
        bound, r = self.bounds.diagonal, self.bounds.reaction
        dimension = self.system.problem.dimension
        averages = self._factor.positivity() if isinstance(self._factor, OneStep) else sp.S.Zero
        seen = self.scheme.structured(dimension)
        if self.scheme.cyclic and not seen.one_operator and not self.system.linear:
            averages = sp.S.Zero
        if not (self.system.linear or seen.one_operator or (self.scheme.euler)):
            averages = sp.S.Zero
        if bound.rate is None:
            return Claim(why_not=bound.why_not)
        if self.system.fed:
            return Claim(why_not="a wall lets something in, or holds u at values that vary")
        if averages == 0 or (not self._alike and not self._factor.additive):
            return Claim(
                why_not=self._meets_more() if not isinstance(self._factor, OneStep) else "R(−τA) is no average"
            )
        if r.steepest is None:
            return Claim(why_not=r.why_not)
        if r.undamped:
            return Claim(why_not=f"the source in {self._reaction_text} is not damped everywhere, and values may grow")
        assumptions = (*bound.assumptions, *r.assumptions)
        proof = (
            "I − τA(u) has no negative entry and rows that sum to at most one: new values average old ones"
            if self.scheme.euler
            else "A is an M-matrix, so R(−τA) has no negative entry and rows that sum to at most one"
        )
        if self.system.transports and not self.bounds.at_rest:
            return Claim(why_not="transport together with a reaction is not covered by this notion")
        if self.system.transports:
            return self._monotone(averages, proof, assumptions)
        if self.bounds.at_rest:
            return Claim(
                averages, bound.rate, self._up_to(proof, Claim(averages, bound.rate)), assumptions, symbol="max Aᵢᵢ"
            )
        if not r.affine and r.interval is not None:
            outside = [v for v in self.system.fixed if not r.interval[0] <= v <= r.interval[1]]
            if outside:
                return Claim(why_not=f"the wall of value {outside[0]:g} lies outside the interval {r.interval}")
        within = "values stay between the extremes of u and f" if r.affine else "values stay in the interval"
        proof = f"u⁺ does not decrease in any value of u, so {within}"
        symbol = "(max Aᵢᵢ + β)" if r.affine else "(max Aᵢᵢ + sup(−r'))"
        if not r.affine and r.interval is None:
            return Claim(why_not="no interval was found that the solution cannot leave")
        if self.scheme.euler:
            return Claim(sp.S.One, bound.rate + r.steepest, proof, assumptions, symbol=symbol)
        if r.affine and self._lagged:
            return Claim(sp.S.One, r.steepest, proof, assumptions, symbol="β")
        if r.affine and seen.one_evaluation:
            return Claim(averages, bound.rate + r.steepest, proof, assumptions, symbol=symbol)
        return Claim(why_not=f"a reaction in {type(self.scheme).__name__} is not covered by this notion")

    def _monotone(self, averages: sp.Expr, proof: str, assumptions: tuple[str, ...]) -> Claim:
        """Transport: the off-diagonal entries of f are not negative."""
        rate = self.bounds.diagonal.rate
        assert rate is not None
        tvd = "; along one axis the total variation does not grow"
        if not rate.has(TAU):
            if not self.bounds.monotone():
                return Claim(why_not="the difference has entries of both signs off its diagonal")
            return Claim(averages, rate, proof + tvd, assumptions, symbol="max Aᵢᵢ")
        flows = []
        for t in self.system.transports:
            flows.append(sp.Abs(t.speed.xreplace(self.bounds.fixed)) / _rational(self.system.axes[t.axis].spacing))
        d = len(flows)
        most = d * sp.Max(*flows)  # Courant number 1/d per axis

        def holds(tau: float) -> bool:
            center = tau * self.bounds.at_initial(rate.xreplace({TAU: _rational(Fraction(tau))}))
            return self.bounds.monotone(tau) and center <= 1 + 1e-15

        if not holds(self.bounds.at_initial(1 / most) / 2):
            return Claim(why_not="the step has negative entries at Courant numbers below 1")
        symbol = f"{d} max|v|/h" if d > 1 else "|v|/h"
        return Claim(sp.S.One, most, proof + tvd, assumptions, symbol=symbol, holds=holds)

    def _frequencies(self) -> Claim:
        if self.system.transports:
            return self._transport
        claim = self._powers()
        if self._perturbed:
            bound = self.bounds.frozen
            if bound.rate is None or bound.low < 0 or self._end is None or self.scheme.relaxation:
                return Claim(why_not=bound.why_not or claim.why_not)
            proof = "|R| ≤ 1 at every frequency for the diffusion alone"
            claim = Claim(self._end, bound.rate, proof, bound.assumptions, open=self._open)
        if self.system.linear and self._commuting:
            return claim
        frozen = "coefficients frozen at constants: necessary for stability, not sufficient"
        return replace(claim, assumptions=(*claim.assumptions, frozen))

    @property
    def _perturbed(self) -> bool:
        """Does a reaction that is not β(f − u) change R by O(τ), as von Neumann's condition allows (Lax, Richtmyer,
        Commun. Pure Appl. Math. 9 (1956) 267–293, doi:10.1002/cpa.3160090206)?"""
        r = self.bounds.reaction
        return not self.bounds.at_rest and not (r.affine and r.growth == 0 and not r.why_not)

    def _powers(self) -> Claim:
        if self.system.transports:
            claim = self._transport
            commute = "T is skew, A symmetric, they commute, and " * (self.system.width == 1)
            return replace(claim, proof=f"{commute}{claim.proof}" if claim.proof else "")
        bound, r = self.bounds.frozen, self.bounds.reaction
        if bound.rate is None or bound.low < 0 or self._end is None:
            return Claim(
                why_not=bound.why_not or f"no interval is known for several operators in {type(self.scheme).__name__}"
            )
        what = "a cycle" if self.scheme.cyclic else "a step"
        proof = f"the amplification of {what} stays in the unit disc for 0 ≤ τλ ≤ {short(self._end)}"
        if self.scheme.relaxation:
            proof = (
                f"the roots lie in the unit disc for every τ if λ ≤ {self.scheme.interval.end}{self.scheme.relaxation}"
            )
        rate, assumptions, symbol = bound.rate, bound.assumptions, "L‖K‖²"
        if not self.bounds.at_rest:
            if r.steepest is None or r.growth > 0 or not r.affine:
                return Claim(why_not=r.why_not or f"the reaction {self._reaction_text} is not β(f − u)")
            if self._lagged:
                return self._norm()
            if self.scheme.relaxation or self.scheme.structure.frozen:
                return Claim(why_not="a reaction that stays explicit is not covered by this notion")
            rate, symbol = rate + r.steepest, "ρ + β"
            assumptions = (
                *assumptions,
                *r.assumptions,
                "a source stands still: the difference of two solutions is bounded",
            )
        if self.system.fed:
            still = "what a wall lets in stands still: the difference of two solutions is bounded"
            assumptions = (*assumptions, still)
        claim = Claim(self._end, rate, assumptions=assumptions, symbol=symbol, open=self._open)
        return replace(claim, proof=f"{proof}, and the spectrum of A lies in [0, ρ]")

    def _cfl(self) -> Claim:
        """The von Neumann limit of waves and transport as a Courant number."""
        if any(v.term.order > 1 for v in self.system.transports):
            return Claim(why_not="does not apply: the speed of dispersive waves grows with their frequency")
        if self.system.transports:
            claim = self._transport
            rate = claim.rate
            if claim.x is None or rate is None:
                return claim
            number = self.bounds.at_initial(claim.x * self.bounds.courant / rate) if not rate.has(TAU) else 1.0
            return replace(claim, proof=f"Courant number τΣ|v|/h ≤ {number:.6g}: {claim.proof}")
        if self.order == 1:
            return Claim(why_not="does not apply: diffusion has no finite speed of propagation")
        claim = self._powers()
        return replace(claim, proof=f"waves of speed √(κ sup g), none of which a step outruns: {claim.proof}")

    # --- transport ------------------------------------------------------------------------------------------

    @cached_property
    def _transport(self) -> Claim:
        """max |R(−τλ(θ))| ≤ 1 over all frequencies, for constant coefficients on periodic axes."""
        bounds, system = self.bounds, self.system
        if system.width > 1:
            skew = bounds.skew
            if skew.rate is None or self._parts:
                return Claim(why_not=skew.why_not or "split transport of several fields is not covered")
            preserved = "the norm" if skew.plain else "a weighted norm"
            still = ("what walls hold stands still: the difference of two solutions is bounded",) * bool(system.walls)
            assumptions = (*skew.assumptions, *still)
            if self._turns:
                if not skew.halves:
                    return Claim(why_not="the fields are not ordered in two groups that drive each other")
                try:
                    interval, trace = self.scheme.turned
                except SchemeError as error:
                    return Claim(why_not=str(error))
                shown = notation.show(trace.xreplace({sp.Symbol("z"): sp.Symbol("y")}))
                proof = (
                    f"a step has the eigenvalues e^{{±iφ}}, 2 cos φ = {shown}, y = τσ for every singular value σ of S"
                )
                return Claim(interval.end, skew.rate, proof, assumptions, symbol="‖S‖", open=interval.open)
            return self._skew(assumptions, f"{preserved} of the fields is preserved by u_t = −S u")
        if system.banks or not bounds.uniform or self._parts:
            return Claim(why_not="transport together with nonlinear, varying or split terms has no symbol")
        assumptions = ("constant coefficients, periodic along the transport",)
        if not system.fluxes:
            return self._skew(assumptions)
        R = self._factor
        if not isinstance(R, OneStep) or R.dimension > 1:
            return Claim(
                why_not="von Neumann's condition of a multistep scheme is not solved for transport with diffusion"
            )
        axes = {a for t in system.transports for a in [t.axis]}
        axes |= {a for f in system.fluxes for p in f.own[0].products for a, m in enumerate(p.orders) if m}
        if (
            len(axes) == 1
            and all(f.viscous for f in system.fluxes)
            and all(v.term.order == 1 for v in system.transports)
        ):
            x, sharp = fourier.limit(R, lambda tau: self._symbol(next(iter(axes)), tau, unit=True))
            sharp_text = "" if sharp else ", a number just below it"
            proof = f"|R| ≤ 1 at every frequency up to the Courant number {short(rational(x))}{sharp_text}"
            if x == 0:
                return Claim(why_not="|R| > 1 at some frequency for every τ > 0", never=True)
            return Claim(rational(x), bounds.courant, proof, assumptions, symbol="|v|/h")
        if len(axes) == 1 and not bounds.trainable:
            (a,) = axes
            x, _ = fourier.limit(R, lambda tau: self._symbol(a, tau))
            if x == 0:
                return Claim(why_not="|R| > 1 at some frequency for every τ > 0", never=True)
            proof = "|D|² − |N|² ≥ 0 for R = N/D, a polynomial in cos θ whose roots were isolated"
            return Claim(
                sp.S.One, 1 / rational(x), proof, assumptions, symbol="λ",
                holds=lambda tau: fourier.stable(R, self._symbol(a, Fraction(tau)), Fraction(tau)),
            )  # fmt: skip
        averages, diagonal = R.positivity(), bounds.diagonal.rate
        if averages != 0 and diagonal is not None and not diagonal.has(TAU) and bounds.monotone():
            proof = "I + τf has no negative entry and rows that sum to one, and R is a mean of its powers"
            return Claim(averages, diagonal, proof, assumptions, symbol="max Aᵢᵢ")
        if averages != 0 and diagonal is not None and diagonal.has(TAU):
            return self._monotone(averages, "no entry of the step is negative, its rows sum to one", assumptions)
        apart = all(  # is f a sum over axes, whatever τ is?
            len({a for p in f.own[0].products for a, m in enumerate(p.orders) if m}) == 1 and not f.term.kappa.has(TAU)
            for f in system.fluxes
        )
        if averages != 0 and apart and not bounds.trainable:
            # |1 − τΣλ_a| ≤ Σ p_a|1 − τλ_a/p_a|, p_a a partition of one
            limits = [fourier.limit(_EULER, partial(self._symbol, a))[0] for a in sorted(axes)]
            if all(limits):
                total = sp.Add(*(1 / rational(x) for x in limits))
                proof = "axis by axis |1 − τλ| ≤ 1, and R is a mean of powers of the mean of these"
                return Claim(averages, total, proof, assumptions, symbol="Σ 1/τ_a")
        return Claim(why_not="no bound is known for transport and diffusion along several axes with these differences")

    def _skew(self, assumptions: tuple[str, ...], why: str = "") -> Claim:
        """No diffusion: the spectrum is imaginary."""
        try:
            interval = self.scheme.amplified(1).imaginary_interval()
            end = interval.end
        except SchemeError as error:
            return Claim(why_not=str(error))
        if end == 0:
            return Claim(why_not="the spectrum is imaginary, and |R(iy)| > 1 for every small y > 0", never=True)
        proof = f"{why}; " * bool(why) + f"|R(iy)| ≤ 1, or roots in the unit disc, for 0 ≤ y ≤ {short(end)}"
        return Claim(
            end, self.bounds.carried, proof, assumptions, symbol="‖S‖" if why else "Σ|v|‖T‖", open=interval.open
        )

    def _symbol(self, axis: int, tau: Fraction, unit: bool = False) -> fourier.Symbol:
        """d and q along one axis; with `unit` for speed and spacing one, where τ is the Courant number."""
        fixed = {**self.bounds.fixed, TAU: rational(tau)}
        d, q = sp.Poly(0, fourier.X, domain="QQ"), sp.Poly(0, fourier.X, domain="QQ")
        speed, h = sp.S.One, sp.S.One
        for t in (t for t in self.system.transports if t.axis == axis):
            h = _rational(self.system.axes[axis].spacing)
            speed = sp.nsimplify(t.speed.xreplace(fixed), rational=True)
            q += fourier.centred(t.stencil, axis) * (h if unit else speed)
        for flux in self.system.fluxes:
            if any(p.orders[axis] for p in flux.own[0].products):
                kappa = flux.term.kappa
                if unit:  # κ = |v|hk(ν), and k is what remains at v = h = 1
                    at = {TAU: rational(tau) * h / sp.Abs(speed)} if speed.is_number else {}
                    kappa = flux.term.kappa.xreplace({**self.bounds.fixed, **at})
                    kappa = sp.simplify(kappa / (sp.Abs(speed) * h)) * h**2
                d += fourier.diffusive(flux.own[0], axis) * sp.Rational(kappa.xreplace(fixed))
        return d, q

    # --- conservation laws ----------------------------------------------------------------------------------

    @property
    def _reconstructed(self) -> bool:
        return any(law.reconstruction != "constant" for law in self.system.laws)

    def _conservation(self, notion: str) -> Claim:
        """With C, D ≥ 0 in u⁺ = u + C(u₊ − u) − D(u − u₋): C + D ≤ 1 at a face for the total variation (Harten, J.
        Comput. Phys. 49 (1983) 357–393, doi:10.1016/0021-9991(83)90136-5), at a node for the range. Strong-stability
        preserving steps are means of Euler steps."""
        bounds, dimension = self.bounds, self.system.problem.dimension
        if notion not in ("CFL", "maximum principle"):
            return Claim(why_not="conservation laws keep their range and variation, and no more is known of them")
        speeds, constant, assumptions, why_not = bounds.waves
        if self.system.transports:
            why_not = why_not or "dispersion beside a conservation law is not covered"
        carried = [law.law.advective for law in self.system.laws]
        sides = [side for law in self.system.laws for side in law.axis.sides or ()]
        if sides and notion == "CFL":
            why_not = why_not or "between walls the total variation grows with what they let in"
        conserved = (law for law in self.system.laws if not law.law.advective)
        if any(side.parity > 0 for law in conserved for side in law.axis.sides or ()):
            why_not = why_not or "values pile up at a wall without flux"
        if any((side.plane, side.parity) not in (("face", 1), ("node", -1)) for side in sides):
            why_not = why_not or "a value beyond a wall on a face, or an open one, is no mean of those before it"
        if self.system.fed:
            why_not = why_not or "a wall lets in values that vary, or whatever u is"
        box = getattr(self.system.problem.unknowns[0].func, "bounds", None)
        outside = [v for v in self.system.fixed if box is not None and not box[0] <= v <= box[1]]
        if outside:
            why_not = why_not or f"the wall of value {outside[0]:g} lies outside the declared range {box}"
        average = 1 if self.scheme.euler else self.scheme.ssp
        if not average:
            why_not = why_not or f"{type(self.scheme).__name__} is no mean of Euler steps"
        if not bounds.at_rest:
            why_not = why_not or "a reaction beside a conservation law is not covered"
        diagonal = bounds.diagonal.rate
        if diagonal is None:
            why_not = why_not or bounds.diagonal.why_not
        ranged = notion == "maximum principle"
        if ranged and self._reconstructed:
            why_not = why_not or "limited or weighted values at the faces may leave the range of their neighbours"
        if why_not or speeds is None or diagonal is None:
            return Claim(why_not=why_not)
        assumptions = (*assumptions, *(bounds.diagonal.assumptions if self.system.fluxes else ()))
        whole = dimension == 1 and not ranged  # the total variation, else the range
        factor = (2 if whole else 1) if all(carried) else 2 if any(carried) else 1 if constant or whole else 2
        speed = "|a|" if all(carried) else "|F'|"
        rate, symbol = factor * speeds + diagonal, f"{'2' * (factor > 1)}Σ sup{speed}/h"
        symbol += " + max Aᵢᵢ" * bool(self.system.fluxes)
        proof = "no value leaves the range of its neighbours"
        if not ranged and dimension == 1:
            proof = "the total variation does not grow (Harten's lemma)"
        if self._reconstructed:
            return Claim(
                sp.Rational(average, 2), rate, "half the step of constant reconstruction", assumptions, symbol=symbol
            )
        return Claim(sp.Integer(average), rate, proof, assumptions, symbol=symbol)

    # --- τ and α --------------------------------------------------------------------------------------------

    def _choose(self, governing: str, claim: Claim, allow: bool) -> Any:
        if self.scheme.tau != "auto":
            return self.scheme.tau
        name, limit = type(self.scheme).__name__, claim.limit(self.order)
        if limit is None:
            raise UnstableSchemeError(
                f"tau='auto' needs a proved bound, but {governing} has none for this PDE ({claim.why_not}); "
                f"give {name} a tau" + ("" if allow else " and pass unstable='allow' if it is refuted")
            )
        if limit != sp.oo:
            return SAFETY * self.bounds.at_initial(limit)
        rate = self.bounds.frozen.rate
        if rate in (None, 0):
            return 1.0
        return float((self.scheme.stride * 2 / self.bounds.at_initial(rate)) ** (1 / self.order))

    def _relaxation(self, allow: bool) -> sp.Expr | None:
        """α: what the user gave, checked, or the smallest stable one, ρ/x."""
        name = self.scheme.relaxation
        if name is None:
            return None
        frozen, given, cls, part = (
            self.bounds.frozen,
            getattr(self.scheme, name),
            type(self.scheme).__name__,
            self.scheme.interval.end,
        )
        if frozen.rate is None or frozen.low < 0:
            if given == "auto":
                raise UnstableSchemeError(
                    f"{cls}({name}='auto') needs a bound on the spectrum, and there is none for this PDE "
                    f"({frozen.why_not}); give {name} a number and pass unstable='allow'"
                )
            return sp.Float(given, 17)
        least = frozen.rate / part
        if given == "auto":
            return least if least != 0 else sp.S.One
        if least.free_symbols - set(self.system.problem.parameters) or least.free_symbols & self.bounds.trainable:
            raise SchemeError(f"{cls}({name}={given!r}): the bound {name} ≥ ρ/{part} moves in training; use 'auto'")
        if exact(given) < fraction(least) and not allow:
            raise UnstableSchemeError(
                f"{cls}({name}={given!r}) is below {self.bounds.at_initial(least):.10g} = ρ/{part}, ρ = "
                f"{short(frozen.rate)}, and is not power bounded; raise {name}, use {name}='auto', or pass "
                f"unstable='allow'"
            )
        return sp.Rational(*exact(given).as_integer_ratio())

    def _ends(self, bound: Bound) -> tuple[float, float] | None:
        """With the slope of the reaction."""
        r = self.bounds.reaction
        if bound.rate is None or r.steepest is None or bound.rate.has(TAU):
            return None
        return -bound.growth - r.growth, self.bounds.at_initial(bound.rate + r.steepest)

    def _refuse(self, report: Report, allow: bool) -> None:
        result = report[report.governing]
        if allow or result.status == "proved":
            return
        if result.status == "unknown" and (result.bound is None or self._within(report.tau, report.claim)):
            return
        if result.bound is None:
            never = report.claim.never
            if not self.system.laws:
                never = never or self._counterexample(report.governing, report.tau / 1000, report.claim) is not None
            when = "for every tau" if never else f"at tau = {report.tau:.10g}"
            raise UnstableSchemeError(
                f"{result.notion} is refuted {when}: {result.witness}; "
                f"choose another diffusivity, scheme or guarantee, or pass unstable='allow'"
            )
        digits = next((n for n in (10, 17) if f"{report.tau:.{n}g}" != f"{result.bound:.{n}g}"), 17)
        raise UnstableSchemeError(
            f"tau = {report.tau:.{digits}g} exceeds {result.bound:.{digits}g} = {result.formula}, the bound of "
            f"{result.notion}; lower tau, use tau='auto', or pass unstable='allow'"
        )

    # --- judgement ------------------------------------------------------------------------------------------

    def _within(self, tau: float, claim: Claim) -> bool:
        limit = claim.limit(self.order)
        if limit is None:
            return False
        if claim.holds is not None:
            return claim.holds(tau)
        limit = limit.xreplace(self.bounds.initial_norms)
        limit = limit.xreplace({p: sp.Float(p.value, 17) for p in self.bounds.trainable})
        if limit == sp.oo:
            return True
        if limit.is_Rational:
            return exact(tau) < fraction(limit) if claim.open else exact(tau) <= fraction(limit)
        return tau < float(limit) if claim.open else tau <= float(limit)

    def _judge(self, notion: str, tau: float) -> Result:
        claim = self.claim(notion)
        limit = claim.limit(self.order)
        value = None if limit is None else math.inf if limit == sp.oo else self.bounds.at_initial(limit)
        if value is not None and math.isfinite(value) and not claim.open:
            for _ in range(4):  # a bound is rounded down
                value = value if self._within(value, claim) else math.nextafter(value, 0)
        formula, assumptions = claim.formula(self.order), claim.assumptions
        if self.scheme.relaxation and notion in ("von Neumann", POWER) and limit is not None:
            formula = f"every τ for {self.scheme.relaxation} ≥ ρ/{self.scheme.interval.end}, ρ = {short(claim.rate)}"
        if self.scheme.structure.solves:
            assumptions = (*assumptions, "every solve converges to its tolerance, beyond which nothing is claimed")

        def result(status: str, witness: Witness, assumptions: tuple[str, ...] = assumptions) -> Result:
            return Result(notion, status, value, formula, NORMS[notion], assumptions, witness, limit)

        if self._within(tau, claim):
            if not self.scheme.structure.exact:
                why = "a solve may stop before it has converged; proved for on_failure='error' without fixed iterations"
                return result("unknown", Witness(why))
            return self._nonlinear(notion, result("proved", Witness(claim.proof)), tau)
        broken = self._counterexample(notion, tau, claim)
        if broken is not None:
            return self._lipschitz(result("refuted", broken, ()), tau)
        why = claim.why_not or f"tau = {tau:.6g} exceeds the proved bound, and no counter-example was found"
        return self._lipschitz(result("unknown", Witness(why)), tau)

    def _nonlinear(self, notion: str, result: Result, tau: float) -> Result:
        """Power boundedness is proved for the frozen operator; for nonlinear f it is open unless norms decrease. With
        a reaction von Neumann's condition is proved for the rest."""
        if self.system.laws and self._reconstructed:
            why = f"{result.witness} is usual; for reconstructed values nothing is proved"
            return replace(result, status="unknown", witness=Witness(why))
        if notion == "von Neumann" and self._perturbed:
            why = f"{result.witness}; the reaction adds O(τ) to R, and the growth that it brings is open"
            return replace(result, status="unknown", witness=Witness(why))
        if notion != POWER:
            return result
        notes = list(result.assumptions)
        if self.own:
            term = self.own[str(self.scheme.relaxation)] * tau**2
            notes.append(
                f"consistency: the scheme solves u_t + ατ²u_tt = f(u) with ατ² = {term:.4g}, and tends to the PDE only "
                f"for τ/h → 0"
            )
        if self.order == 2:
            notes.append("off the kernel of A, where states grow linearly in time as in the PDE")
        linear = all(flux.term.linear for flux in self.system.fluxes) and not self.system.problem.moving
        known = (linear and self._commuting) or self._within(tau, self.claim("norm decrease"))
        if known:
            return replace(result, assumptions=tuple(notes))
        parts = "" if self._commuting else ", its parts commute"
        notes.append(f"A(u) is frozen: the same operator in every step{parts}")
        witness = Witness(f"proved for the frozen operator: {result.witness}; for the nonlinear f itself it is open")
        return replace(result, status="unknown", assumptions=tuple(notes), witness=witness)

    def _lipschitz(self, result: Result, tau: float) -> Result:
        """Where distances may grow: by how much at most."""
        bound = self.bounds.slopes
        if result.notion != "nonexpansive" or bound.rate is None or not self.scheme.euler or self.system.transports:
            return result
        if not self.bounds.at_rest or self.system.laws or bound.rate.has(TAU):
            return result
        lipschitz = max(abs(1 - tau * self.bounds.at_initial(bound.rate)), 1 + tau * bound.growth)
        return replace(result, formula=f"Lipschitz constant ≤ {lipschitz:.6g}")

    def _counterexample(self, notion: str, tau: float, claim: Claim) -> Witness | None:
        """An input that breaks the claim, within the ranges that fields are declared to start in."""
        found = self._searched(notion, tau, claim)
        for i, field in enumerate(self.system.problem.unknowns):
            box = getattr(field.func, "bounds", None)
            if found is None or box is None:
                continue
            if any(u[:, i].min() < box[0] or u[:, i].max() > box[1] for u in found.inputs):
                return None
        return found

    def _searched(self, notion: str, tau: float, claim: Claim) -> Witness | None:
        search = self._search
        coupled = self.system.width > 1 and bool(self.system.transports)
        if search.solves and (self.system.one_sided or coupled):  # such solves take long, and rarely grow
            return None
        if self.system.laws:
            first, *others = self.system.problem.unknowns
            box = None if others else getattr(first.func, "bounds", None)
            proper = notion in ("maximum principle", "CFL") and box is not None and self.bounds.at_rest
            proper = proper and all(law.axis.periodic for law in self.system.laws)
            return search.overshoot(tau, box) if proper else None
        at_rest = not self.system.walls or (self.bounds.at_rest and self.system.level is not None)
        if not at_rest and notion != "nonexpansive":  # no state is known about which to search
            return None
        if self.system.transports and notion in ("norm decrease", "nonexpansive", "von Neumann", POWER, "CFL"):
            found = self._growing_wave(search, tau)
            return found if found is not None else search.blow_up(tau)
        if notion == "norm decrease":
            return search.growing_state(tau)
        if notion == "nonexpansive":
            return search.spreading_pair(tau)
        if notion == "energy decrease":
            energy = None if why_no_energy(self.system) else energy_of(self.system, self.bounds.values)
            return None if energy is None else search.rising_energy(tau, energy)
        if notion == "maximum principle":
            interval = self.bounds.reaction.interval
            if not self.bounds.at_rest and not self.bounds.reaction.affine and interval is None:
                return None
            return search.overshoot(tau, interval)
        if notion == "CFL" and self.order == 1:
            return None
        return search.blow_up(tau) if self.bounds.reaction.growth == 0 else None

    @cached_property
    def _search(self) -> Search:
        return Search(self.system, self.scheme, self.bounds, self.own)

    def _growing_wave(self, search: Search, tau: float) -> Witness | None:
        R = self._factor
        if not isinstance(R, OneStep) or R.dimension > 1 or not self.bounds.uniform:
            return None
        for t in self.system.transports if self.system.width == 1 else ():
            symbol = self._symbol(t.axis, Fraction(tau)) if not self.bounds.trainable else None
            theta = fourier.most_growing(R, symbol, tau)[0] if symbol else math.pi / 2
            found = search.wave(tau, t.axis, theta)
            if found is not None:
                return found
        return None

    def _up_to(self, proof: str, claim: Claim) -> str:
        formula = claim.formula(self.order)
        return (
            f"{proof} for {formula if formula.startswith('every') else f'τ ≤ {formula}'}" if formula != "–" else proof
        )


def _rational(value: Fraction) -> sp.Rational:
    return sp.Rational(value.numerator, value.denominator)


_EULER: Any = ForwardEuler(1).amplified()

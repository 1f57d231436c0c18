"""What is known of f(u) = −A(u)u − Tu + r(u), for every grid size and every value of what is trained.

    spectrum    0 ≤ G ≤ L        ⇒  0 ≤ A(u) ≤ ρ = Σ κ L ‖K‖²        (slopes: 0 ≤ Φ' ≤ L_Φ, the same for A')
    diagonal    two-tap K, G ≥ 0 ⇒  A(u) is an M-matrix with entries ≤ max Aᵢᵢ on its diagonal
    tensor      0 ≤ λ(T) ≤ L     ⇒  the same ρ with one L for all its entries
    reaction    r = β(f − u), or −R ≤ r' on an interval that the solution cannot leave
    transport   T is skew, its symbol i Σ v_a t_a(θ)

Upper ends are expressions in trained parameters and in the norms of trained stencils; lower ends and values at the
initial weights are numbers, rounded outwards.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import networkx as nx
import numpy as np
import sympy as sp

from . import notation
from .bank import Bank
from .conservation import jumps, slope_of
from .discretise import TAU, DiscreteFlux, SemiDiscrete
from .fields import Data, Parameter, Reading, Unknown, t
from .grid import exact
from .nonlinearity import Range, defined, range_of, range_on, union
from .pointwise import parity_of
from .problem import explicit_symbols
from .stencil import Polynomial, Stencil, number, rational, squared_norm
from .tensors import MU1, MU2, Feature, TensorEntry, given_tensors

ONE_SIDED = "nothing is proved of one-sided closures, which are not the adjoints of each other"


@dataclass(frozen=True)
class Bound:
    """low ≤ · ≤ rate, with the hypotheses it rests on; `rate` is None where no bound is known, and `why_not` says why.

    `growth` is Σ κ·max(0, −inf)·‖K‖², how far the spectrum reaches below zero.
    """

    rate: sp.Expr | None
    low: float = 0.0
    assumptions: tuple[str, ...] = ()
    why_not: str = ""
    growth: float = 0.0


@dataclass(frozen=True)
class Reaction:
    """r(u): `steepest` bounds −r' from above and `growth` r', `absorbing` bounds −r/u from above if that is ≥ 0.

    `affine` says r = β(f − u), `source` that βf ≠ 0, `undamped` that this may be so where β = 0, and `uniform` that β
    is the same at every node. The bounds of a nonlinear r hold on `interval`, which the solution of u' = r(u) cannot
    leave.
    """

    steepest: sp.Expr | None = sp.S.Zero
    growth: float = 0.0
    absorbing: sp.Expr | None = sp.S.Zero
    affine: bool = True
    source: bool = False
    undamped: bool = False
    uniform: bool = True
    interval: tuple[float, float] | None = None
    assumptions: tuple[str, ...] = ()
    why_not: str = ""


@dataclass(frozen=True)
class Skew:
    """Transport between fields: a bound on its spectrum, which is imaginary, and one on how many cells waves cross per
    unit of time; `plain` says that the norm it preserves is that of the state."""

    rate: sp.Expr | None = None
    courant: sp.Expr = sp.S.Zero
    plain: bool = False
    assumptions: tuple[str, ...] = ()
    why_not: str = ""
    halves: bool = False
    """Do the fields fall into two that take turns, each driven by the other alone?"""


class Bounds:
    """All that is known of one semi-discrete system."""

    def __init__(self, system: SemiDiscrete, trainable: frozenset[Parameter], learned: bool) -> None:
        self.system, self.trainable, self.learned = system, trainable, learned
        self.weighted: dict[sp.Symbol, tuple[Bank, sp.Expr]] = {}
        """Symbols of ‖L^½K‖² for a bank K; L is 1, or an expression in parameters that every channel has of its own."""
        self.values = {p.name: p.value for p in system.problem.parameters}
        self.fixed = {
            p: sp.Rational(*exact(p.value).as_integer_ratio()) for p in system.problem.parameters if p not in trainable
        }

    @cached_property
    def frozen(self) -> Bound:
        """Bounds on the spectrum of A(u)."""
        return self._spectrum(slopes=False)

    @cached_property
    def slopes(self) -> Bound:
        """Bounds on the spectrum of A', the symmetric part of −f' without the reaction."""
        return self._spectrum(slopes=True)

    @cached_property
    def diagonal(self) -> Bound:
        """max Aᵢᵢ for two-tap differences."""
        return self._diagonal()

    @cached_property
    def reaction(self) -> Reaction:
        return self._reaction()

    @property
    def at_rest(self) -> bool:
        """Is there no reaction?"""
        return self.system.problem.at_rest

    @cached_property
    def uniform(self) -> bool:
        """Is f linear with constant coefficients, and so diagonal in the basis of Fourier, sine or cosine?"""
        return (
            self.at_rest
            and not self.system.banks
            and not self.system.mixed
            and all(f.local and f.term.diffusivity == 1 for f in self.system.fluxes)
        )

    @cached_property
    def concave(self) -> bool:
        """Are the diffusivities not negative, and do they not increase with the squared slope?"""
        s = sp.Symbol("s", real=True)
        if any(not m.term.linear for m in self.system.mixed) or (self.system.mixed and self.frozen.low < 0):
            return False
        for flux in self.system.fluxes:
            term = flux.term
            ranges, *_ = self._ranges(flux, slopes=False)
            if term.diffusivity is None or not ranges or any(r.low < 0 for r in ranges):
                return False
            if term.linear:
                continue
            own = term.slots[term.own][0]
            g = term.diffusivity.xreplace({own: s})
            if not flux.local:
                g, _, weights = radial(term.diffusivity, [slot for slot, _ in term.slots], s)
                if g is None or set(weights) - {1}:
                    return False
            # dg/d(s²) = g'/(2s)
            if not self._range(sp.cancel(sp.diff(g, s) / s), s).high <= 0:
                return False
        return True

    def steepest_at(self) -> list[float]:
        """Slopes at which Φ' is close to its infimum."""
        ranges = [r for flux in self.system.fluxes for r in self._ranges(flux, slopes=True)[0]]
        return [r.where_low for r in ranges if r.where_low]

    def at_initial(self, e: sp.Expr) -> float:
        """The value of an expression at the initial weights."""
        return number(e.xreplace(self.initial_norms), self.values)

    @property
    def initial_norms(self) -> dict[sp.Symbol, sp.Expr]:
        values = {p: sp.Rational(*exact(p.value).as_integer_ratio()) for p in self.system.problem.parameters}
        found = {}
        if self.learned:
            found = {norm_symbol(label): _learned_norm(K).xreplace(values) for label, K in own_stencils(self.system)}
        for symbol, (bank, strength) in self.weighted.items():
            found[symbol] = (strength * _rational(bank.squared_norm(learned=True))).xreplace(values)  # as emitted
        return found

    # --- the spectrum -----------------------------------------------------------------------------------

    def _spectrum(self, slopes: bool) -> Bound:
        """ρ = Σ κ L ‖K‖² with L from the range of g, or of Φ' for the Jacobian."""
        if self.system.one_sided:
            return Bound(None, -math.inf, why_not=ONE_SIDED)
        what = "Φ'" if slopes else "g"
        assumptions: list[str] = []
        groups: list[dict[sp.Expr, list[Stencil]]] = [{} for _ in range(self.system.width)]
        rates, is_exact = [sp.S.Zero for _ in groups], True
        low, growth = math.inf, [0.0 for _ in groups]
        members: list[DiscreteFlux] = []
        if self.system.mixed:
            members, strength, lowest, text, why_not = self._tensor(slopes)
            coupled = {(m.term.component, m.term.outer): m.outer for m in self.system.mixed}
            coupled |= {(m.term.of, m.term.inner): m.inner for m in self.system.mixed}
            low = min(low, lowest)
            if strength is None:
                return Bound(None, low, why_not=why_not)
            assumptions.append(text)
            for i, group in enumerate(groups):
                own = [K for (j, _), K in coupled.items() if j == i]
                group.setdefault(strength, []).extend(own)
                growth[i] -= min(0.0, lowest) * self.at_initial(self._joint_norm(own)[0]) if own else 0.0
        for flux in (flux for flux in self.system.fluxes if flux not in members):
            own_fields = range(len(groups)) if flux.whole else (flux.term.component,)
            strength, lowest, text, why_not = self._strength(flux, slopes)
            low = min(low, lowest)
            if strength is None:
                return Bound(None, low, why_not=why_not)
            assumptions.append(text)
            if flux.bank is None:
                groups[flux.term.component].setdefault(strength, []).extend(flux.own)
            else:
                kappa = flux.term.kappa.xreplace(self.fixed)
                own = strength / kappa if strength.free_symbols & channelled(flux, self.trainable) else sp.S.One
                norm = self._bank_norm(flux.bank, own, slopes)
                is_exact = False
                for i in own_fields:
                    rates[i] += strength / own * norm
            for i in own_fields if lowest < 0 else ():
                growth[i] -= lowest * self.at_initial(flux.term.kappa * self._size(flux))
        for i, group in enumerate(groups):
            for strength, stencils in group.items():
                norm, sharp = self._joint_norm(stencils)
                rates[i], is_exact = rates[i] + strength * norm, is_exact and sharp
        rate = sp.Max(*rates)  # the fields of a system are blocks of A(u)
        if not is_exact and not rate.free_symbols:
            rate = sp.Float(math.nextafter(float(rate), math.inf), 17)
        if self.system.fluxes:
            assumptions.append("‖K‖² is the supremum of |k̂|² over all frequencies, for every grid size")
        why_not = f"{what} takes the negative value {low:.6g}" if low < 0 else ""
        return Bound(rate, min(low, 0.0) if low < 0 else 0.0, tuple(dict.fromkeys(assumptions)), why_not, max(growth))

    def _tensor(self, slopes: bool) -> tuple[list[DiscreteFlux], sp.Expr | None, float, str, str]:
        """The fluxes that are its diagonal, the largest and the lowest eigenvalue of the matrix T of all couplings with
        its indices (field, D), the hypothesis in words, and why there is none."""
        terms = [m.term for m in self.system.mixed]
        pairs = {key for m in terms for key in ((m.component, m.outer), (m.of, m.inner))}
        index = sorted(pairs, key=lambda key: (key[0], [-n for n in key[1]]))
        T = sp.zeros(len(index))
        members = []
        for m in terms:
            T[index.index((m.component, m.outer)), index.index((m.of, m.inner))] += m.coefficient
        for flux in self.system.fluxes:
            own, operator = flux.term.slots[flux.term.own]
            key = flux.term.component, operator[0][0]
            if len(operator) > 1 or key not in index:
                continue
            g = flux.term.diffusivity
            if g is None or own in g.free_symbols:
                why_not = f"the flux {flux.term.flux} on the diagonal of a diffusion tensor is not linear in"
                return [], None, 0.0, "", f"{why_not} its derivative"
            members.append(flux)
            T[index.index(key), index.index(key)] += flux.term.kappa * g
        T = T.xreplace(self.fixed).applyfunc(lambda e: sp.expand(e, deep=False))
        shown = f"T = {notation.show(T.tolist())}"
        if T != T.T:
            return [], None, 0.0, "", f"the couplings {shown} of derivatives are not symmetric"
        if slopes and T.atoms(Unknown):
            return [], None, 0.0, "", "the diffusion tensor moves with the state, and its Jacobian is not covered"
        low, highest = math.inf, list[sp.Expr]()
        for block in T.connected_components():
            part = T.extract(block, block)
            found = self._constant(part) or self._spectral(part) or self._given(part)
            if found is None:
                why_not = (
                    f"nothing is known of the eigenvalues of {shown}; make it of numbers, or by loom.tensor(…, "
                    f"bounds=…), loom.edge_enhancing or loom.coherence_enhancing"
                )
                return [], None, 0.0, "", why_not
            low, highest = min(low, found[0]), [*highest, found[1]]
        high = sp.Max(*highest)
        return members, high, low, f"{low:.6g} ≤ λ(T) ≤ {short(high)} for the eigenvalues of {shown}", ""

    def _constant(self, T: sp.Matrix) -> tuple[float, sp.Expr] | None:
        """The eigenvalues of a matrix of numbers, rounded outwards unless they are rational."""
        if not all(e.is_number for e in T):
            return None
        exactly = T.applyfunc(lambda e: e if e.is_Rational else _rational(float(e)))
        values = np.linalg.eigvalsh(np.array(exactly, dtype=np.float64))
        slack = 1e-13 * float(abs(values).max())
        low = 0.0 if exactly.is_positive_semidefinite else float(values[0]) - slack
        if low < 0 and exactly.is_positive_semidefinite is False:
            low = min(low, -5e-324)
        high = sp.nsimplify(float(values[-1]), rational=True, tolerance=1e-12)
        if not (exactly - high * sp.eye(T.rows)).is_negative_semidefinite:
            high = sp.Float(float(values[-1]) + slack, 17)
        return low, high

    def _spectral(self, T: sp.Matrix) -> tuple[float, sp.Expr] | None:
        """A tensor with the eigenvectors of a structure tensor, times a constant, and perhaps a constant more on its
        diagonal."""
        entries = T.atoms(TensorEntry)
        whole = {e.tensor for e in entries}
        if T.shape != (2, 2) or len(whole) != 1:
            return None
        by_index = {tuple(map(int, e.args[:2])): e for e in entries}
        if sorted(by_index) != [(0, 0), (0, 1), (1, 1)]:
            return None
        factor = sp.cancel(T[0, 1] / by_index[0, 1])
        more = {sp.expand(T[i, i] - factor * by_index[i, i], deep=False) for i in (0, 1)}
        known = set(self.system.problem.parameters)
        if len(more) > 1 or not all(e.is_nonnegative and e.free_symbols <= known for e in (factor, *more)):
            return None
        low, tops = math.inf, []
        for law in next(iter(by_index.values())).laws:
            one = _of_one(law.expr)
            if one.free_symbols - {_S, *self.system.problem.parameters}:
                return None
            found = self._range(one, _S)
            if not (math.isfinite(found.low) and math.isfinite(found.high)):
                return None
            low = min(low, found.low)
            top = law.expr if law.expr.is_number else found.symbolic_high
            tops.append(sp.Float(found.high, 17) if top is None else top)
        low *= 1.0 if low >= 0 else self.at_initial(factor)
        return low, more.pop() + factor * sp.Max(*(top.xreplace(self.fixed) for top in tops))

    def _given(self, T: sp.Matrix) -> tuple[float, sp.Expr] | None:
        """A tensor given at run time, times a constant."""
        given = given_tensors(T.atoms(Data))
        if len(given) != 1 or T.atoms(Unknown):
            return None
        ((rows, low, high),) = given.values()
        if rows.shape != T.shape:
            return None
        (factor, *others) = {sp.cancel(t / f) for t, f in zip(T, rows, strict=True)}
        if others or not factor.is_nonnegative or factor.free_symbols - set(self.system.problem.parameters):
            return None
        scale = 1.0 if low >= 0 else self.at_initial(factor)
        return low * scale, factor * sp.Rational(*exact(high).as_integer_ratio())

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
            low, high = _product((low, high), (r.low, r.high))
            top = r.symbolic_high if r.symbolic_high is not None else sp.Float(r.high, 17)
            strength = strength * top.xreplace(self.fixed)
        if sum(r.low < 0 for r in ranges) > 1:  # the product of two negative values may be the largest
            if (strength / kappa).free_symbols:
                return None, low, "", f"several factors of {shown} may be negative, and some of them are trained"
            strength = kappa * sp.Float(math.nextafter(high, math.inf), 17) if math.isfinite(high) else strength
        if strength.is_nonpositive:
            strength = sp.S.Zero
        if not math.isfinite(high) or math.isnan(low):
            depends = " for every value of the trainable parameters" if self.trainable else ""
            return None, low if math.isfinite(low) else 0.0, "", f"no upper bound was found for {shown}{depends}"
        name = "Φ'" if slopes else "g"
        return strength, low, f"{low:.6g} ≤ {name} ≤ {short(strength / kappa)} for {shown}", ""

    def _ranges(self, flux: DiscreteFlux, slopes: bool) -> tuple[list[Range], str, str]:
        """The diffusivity (or flux slope) as a product of factors in one variable each, with their ranges."""
        term = flux.term
        s = sp.Symbol("s", real=True)
        if flux.local:
            own = term.slots[term.own][0]
            Phi, diffusivity, places = term.flux.xreplace({own: s}), term.diffusivity, list[Range]()
            if explicit_symbols(Phi) & self.system.problem.places:
                place, Phi = Phi.as_independent(s, as_Add=False)
                diffusivity = None if diffusivity is None else sp.cancel(diffusivity / place)
                over = self._over_space(place)
                if over is None:
                    where = "declare it as loom.data(…, bounds=…), or give Grid(shape=…)"
                    return [], "", f"no bound was found for {notation.show(place)} wherever the grid may reach; {where}"
                places.append(over)
            slope = sp.diff(Phi, s)
            if slopes or diffusivity is None:
                if not slopes and Phi.xreplace({s: sp.S.Zero}) != 0:
                    return [], "", f"Φ(0) = {Phi.xreplace({s: sp.S.Zero})} is not zero"
                return [self._range(slope, s), *places], f"Φ = {notation.show(term.flux.xreplace({own: s}))}", ""
            slot = self._range(diffusivity.xreplace({own: s}), s)
            return [slot, *places], f"g = {shown_law(self.system, flux)}", ""
        assert term.diffusivity is not None
        if slopes and flux.bank is not None and flux.bank.mixed:
            return [], "", f"the diffusivity {shown_law(self.system, flux)} of a channel reads a mixture of all"
        features = sorted(term.diffusivity.atoms(Feature), key=str)
        if slopes and features:
            return [], "", f"the diffusivity {shown_law(self.system, flux)} reads smoothed values of the state"
        named = {f: sp.Symbol(str(f.func), real=True) for f in features}
        read = [*(slot for slot, _ in term.slots), *named.values()]
        factors = sp.Mul.make_args(term.diffusivity)
        of_space = [f for f in factors if explicit_symbols(f) & self.system.problem.places]
        g, others, weights = radial(sp.Mul(*(f for f in factors if f not in of_space)).xreplace(named), read, s)
        if slopes and set(weights) - {1}:
            return (
                [],
                "",
                f"the norm in {shown_law(self.system, flux)} weighs its components, whose Jacobian is not covered yet",
            )
        if g is None:
            why_not = f"the diffusivity {shown_law(self.system, flux)} is not a function of one norm times data"
            bare = term.flux.atoms(Data) and not term.flux.atoms(Unknown)
            return [], "", why_not + ", or reads data without positive bounds" * bool(bare)
        ranges = [self._range(g, s)]
        if slopes:  # the Jacobian has the eigenvalues g and Φ' = (g(s²)s)'
            ranges = [union(ranges[0], self._range(sp.diff(g * s, s), s))]
        for factor in of_space:
            extent = self._over_space(factor)
            if extent is None:
                return [], "", f"no bound was found for {notation.show(factor)} wherever the grid may reach"
            ranges.append(extent)
        for factor in others:
            declared, why_not = _declared(factor)
            if declared is None:
                return [], "", why_not
            ranges.append(declared)
        return ranges, f"g = {shown_law(self.system, flux)}", ""

    def _over_space(self, e: sp.Expr) -> Range | None:
        """The range of a function of one coordinate: over the grid, if its shape is declared, else over the line; or of
        a function of time, over all times."""
        e = e.xreplace(self.fixed)
        if len(e.free_symbols) != 1 or e.atoms(Data, Unknown):
            return None
        (x,) = e.free_symbols
        shape = None if x == t else self.system.grid.shape

        def on_the_line(part: sp.Expr) -> tuple[float, float]:
            found = range_of(part, x, frozenset(), even=parity_of(part, {x: -1}) == 1)
            return found.low, found.high

        if shape is None:
            low, high = on_the_line(e) if defined(e, x, on_the_line) else (-math.inf, math.inf)
        else:
            a = self.system.problem.coordinates.index(x)
            axis = self.system.axes[a]
            after = 2 if axis.sides is None else axis.sides[1].depth  # the last face of a periodic axis included
            low, high = range_on(e, x, axis.origin, axis.coordinate(2 * (shape[a] - 1) + after))
        return Range(low, high) if math.isfinite(low) and math.isfinite(high) else None

    def _range(self, e: sp.Expr, s: sp.Symbol) -> Range:
        """The range for every value of what is trained, and of the data that e reads."""
        moving = self.trainable | {p for p in e.free_symbols if isinstance(p, Reading)}

        def everywhere(part: sp.Expr) -> Range:
            return range_of(part, s, moving, even=parity_of(part, {s: -1}) == 1)

        e = e.xreplace(self.fixed)
        if not defined(e, s, lambda part: (everywhere(part).low, everywhere(part).high)):
            return Range(-math.inf, math.inf)
        found = everywhere(e)
        ends = [end for end in (found.symbolic_low, found.symbolic_high) if end is not None]
        if any(isinstance(p, Reading) for end in ends for p in end.free_symbols):  # data decide how large it is
            return Range(-math.inf, math.inf)
        return found

    def _size(self, flux: DiscreteFlux) -> sp.Expr:
        """‖K‖² of one flux term at the initial weights."""
        if flux.bank is not None:
            return _rational(flux.bank.squared_norm(self.learned))
        return self._joint_norm(list(flux.own))[0]

    def _bank_norm(self, bank: Bank, strength: sp.Expr, slopes: bool) -> sp.Expr:
        """‖L^½K‖²: a number, or its symbol where the filters or L are trained."""
        if not self.learned and strength == 1:
            return sp.Float(bank.squared_norm(), 17)
        symbol = norm_symbol(bank.label)
        if self.weighted.setdefault(symbol, (bank, strength))[1] != strength:
            symbol = sp.Symbol(f"slope_{symbol.name}", positive=True)
            self.weighted.setdefault(symbol, (bank, strength))
        return symbol

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

    # --- the diagonal -------------------------------------------------------------------------------------

    def _diagonal(self) -> Bound:
        if self.system.one_sided:
            return Bound(None, why_not=ONE_SIDED)
        totals, assumptions = [sp.S.Zero for _ in range(self.system.width)], []
        if self.system.mixed:
            return Bound(None, why_not="couplings of different derivatives have entries of both signs off the diagonal")
        if self.learned or self.system.banks:
            return Bound(None, why_not="learned stencils and filters are not bounded entry by entry")
        for flux in self.system.fluxes:
            strength, low, text, why_not = self._strength(flux, slopes=False)
            taps = [list(K.taps().items()) for K in flux.own]
            if strength is None or low < 0:
                return Bound(None, low, why_not=why_not or f"g takes the negative value {low:.6g}")
            if len(taps) != 1 or len(taps[0]) != 2 or taps[0][0][1] != -taps[0][1][1]:
                return Bound(None, why_not="the difference has more than two taps, so I − τA has negative entries")
            (offset, weight), (other, _) = taps[0]
            across = [a for a, j, k in zip(flux.own[0].axes, offset, other, strict=True) if j != k]
            if (len(across) > 1 or len(flux.own[0].parts) > 1) and not all(axis.periodic for axis in across):
                return Bound(None, why_not="beyond a wall the difference has images of either sign off the diagonal")
            axis = across[0]
            wall = any(side.plane == "face" and (side.parity < 0 or side.mixed) for side in axis.sides or ())
            if wall:
                assumptions.append(f"at least two cells along {axis.name}")
            totals[flux.term.component] += strength * weight**2 * (3 if wall else 2)
            assumptions.append(text)
        return Bound(sp.Max(*totals), assumptions=tuple(dict.fromkeys(assumptions)))

    # --- the reaction -------------------------------------------------------------------------------------

    def _reaction(self) -> Reaction:
        """That of every field; in a system they are known where none reads the field of another equation."""
        problem = self.system.problem
        found = [self._reaction_of(u, r) for u, r in zip(problem.unknowns, problem.reactions, strict=True)]
        first, *others = found
        if not others:
            return first
        if reason := next((r.why_not for r in found if r.why_not), ""):
            return replace(_unknown(reason), growth=max(r.growth for r in found))
        moving = [r for r, e in zip(found, problem.reactions, strict=True) if e != 0]
        if len({r.interval for r in moving}) > 1:
            return _unknown("the intervals that the fields cannot leave differ")
        return Reaction(
            sp.Max(*(r.steepest for r in found)),
            max(r.growth for r in found),
            None if any(r.absorbing is None for r in found) else sp.Max(*(r.absorbing for r in found)),
            all(r.affine for r in found),
            any(r.source for r in found),
            any(r.undamped for r in found),
            all(r.uniform for r in found) and len({r.steepest for r in found}) == 1,
            moving[0].interval if moving else None,
            tuple(text for r in found for text in r.assumptions),
        )

    def _reaction_of(self, u: sp.Expr, e: sp.Expr) -> Reaction:
        """r(u) of one field."""
        if e == 0:
            return Reaction()
        s = sp.Symbol("s", real=True)
        r = sp.expand(e.xreplace({u: s}))
        shown = f"r = {notation.show(e)}"
        if r.atoms(Unknown):
            return _unknown(f"the reaction {shown} reads another field")
        slope = sp.expand(sp.diff(r, s))
        if explicit_symbols(slope) & self.system.problem.places:
            return _unknown(f"the slope of the reaction {shown} varies in space or time")
        if s not in slope.free_symbols:
            return self._affine(-slope, sp.expand(r - slope * s), shown)
        if slope.atoms(Data) or slope.free_symbols & self.trainable:
            culprit = "data" if slope.atoms(Data) else "trained parameters"
            return _unknown(f"the slope of the reaction {shown} depends on {culprit}")
        r, slope = r.xreplace(self.fixed), slope.xreplace(self.fixed)
        everywhere = self._range(slope, s)
        quotient = sp.cancel(-r / s) if not r.atoms(Data) and r.xreplace({s: sp.S.Zero}) == 0 else None
        absorbing = None
        if quotient is not None:
            b = self._range(quotient, s)
            absorbing = _rational(b.high) if b.low >= 0 and math.isfinite(b.high) else None
        text = (f"{everywhere.low:.6g} ≤ r' ≤ {everywhere.high:.6g} for {shown}",)
        if everywhere.known:
            return Reaction(
                _rational(max(0.0, -everywhere.low)), max(0.0, everywhere.high), absorbing, False, assumptions=text
            )
        varies = r.atoms(Data) or explicit_symbols(r) & self.system.problem.places
        interval = None if varies else _invariant(r, s)
        if interval is None:
            return _unknown(f"r' is not bounded for {shown}, and no interval was found that the solution cannot leave")
        low, high = range_on(slope, s, *interval)
        a, b_ = interval
        text = (f"{a:.6g} ≤ u ≤ {b_:.6g} at the start, where {low:.6g} ≤ r' ≤ {high:.6g} for {shown}",)
        return Reaction(
            _rational(max(0.0, -low)), max(0.0, high), absorbing, False, interval=interval, assumptions=text
        )

    def _affine(self, beta: sp.Expr, rest: sp.Expr, shown: str) -> Reaction:
        """r = β(f − u) with βf = `rest`; where β may vanish, a `rest` that does not vanish with it is undamped."""
        beta, size, ends = beta.xreplace(self.fixed), sp.S.One, (sp.S.One, sp.S.One)
        for factor in sp.Mul.make_args(beta):
            if factor.atoms(Data):
                declared, why_not = _declared(factor)
                if declared is None:
                    return _unknown(why_not)
                ends = _product(ends, (_rational(declared.low), _rational(declared.high)))
            elif factor.is_nonnegative:
                size = size * factor
            elif factor.is_number:
                ends = _product(ends, (factor, factor))
            else:
                return _unknown(f"β in {shown} has no known sign; declare {factor} positive=True")
        low, high = ends
        if low < 0:
            reach = abs(float(size * low)) if beta.is_number else math.inf
            return replace(_unknown(f"the reaction {shown} grows with u"), growth=reach)
        undamped = rest != 0 and (beta == 0 or bool(low == 0 and sp.denom(sp.cancel(rest / beta)).atoms(Data)))
        text = (f"0 ≤ β ≤ {short(size * high)} for {shown}",)
        return Reaction(size * high, 0.0, size * high, True, rest != 0, undamped, not beta.atoms(Data), None, text)

    # --- transport ----------------------------------------------------------------------------------------

    @cached_property
    def skew(self) -> Skew:
        """Transport between the fields of a system, u_t = −S u with S_ik = c_i Σ_a A^a_ik T_a, c_i > 0 perhaps varying.
        If there is a D > 0 with D A^a = (D A^a)ᵀ, and the T of each pair are skew about the walls, the norm ⟨u, Dc⁻¹u⟩
        is preserved: the spectrum is imaginary, and B^a = LᵀA^aL⁻ᵀ with D = LLᵀ bounds it."""
        system = self.system
        if system.laws or system.fluxes or system.mixed or not self.at_rest:
            return Skew(why_not="transport in a system together with diffusion or reactions is not covered")
        factors: dict[int, sp.Expr] = {}
        speeds: dict[tuple[int, int], sp.Matrix] = {}
        norms: dict[tuple[int, int], sp.Matrix] = {}
        n = system.width
        for moved in system.transports:
            v, term = moved.speed.xreplace(self.fixed), moved.term
            if v == 0:
                continue
            v, c = v.as_independent(*system.problem.places, Data, as_Add=False)
            if factors.setdefault(term.component, c) != c:
                return Skew(why_not=f"the terms of one equation have the factors {factors[term.component]} and {c}")
            speeds.setdefault((term.axis, term.order), sp.zeros(n, n))[term.component, term.of] += v
            found = norms.setdefault((term.axis, term.order), sp.zeros(n, n))
            found[term.component, term.of] = squared_norm(moved.stencil)[0]
        pairs = tuple((i, k) for i in range(n) for k in range(n) if any(A[i, k] != 0 for A in speeds.values()))
        mirrors = (self._no_mirror(i, k, a) for (a, _), A in speeds.items() for i, k in pairs if A[i, k] != 0)
        why_not = next(filter(None, mirrors), "")
        D = None if why_not else self._symmetriser(list(speeds.values()), [factors.get(i, sp.S.One) for i in range(n)])
        if D is None:
            return Skew(
                why_not=why_not or "the system of first derivatives is not symmetric in any norm that was found"
            )
        size, texts = [sp.S.One] * n, list[str]()
        for i, c in factors.items():
            size[i], text, why_not = self._positive(c)
            if why_not:
                return Skew(why_not=why_not)
            texts += [text] * bool(text)
        cells = {(a, m): sp.ones(n, n) * sp.sympify(system.axes[a].spacing ** (-2 * m)) for a, m in speeds}
        rate, courant = (self._skew_norm(D, speeds, squares, size, pairs) for squares in (norms, cells))
        plain = not texts and not system.halves and all(c == 1 for c in factors.values()) and D[0, 0] * sp.eye(n) == D
        halves = len(system.turns) == 2 and all((i in system.turns[0]) != (k in system.turns[0]) for i, k in pairs)
        return Skew(rate, courant, plain, tuple(dict.fromkeys(texts)), halves=halves)

    def _symmetriser(self, speeds: list[sp.Matrix], factors: list[sp.Expr]) -> sp.Matrix | None:
        """D > 0 with D A symmetric for all A, which mixes only fields that lie and continue alike; of several the one
        next to the identity."""
        n, alike = len(factors), [(self.system.along(i), c) for i, c in enumerate(factors)]
        moving = any(A.free_symbols for A in speeds)
        basis = []
        for i, k in itertools.combinations_with_replacement(range(n), 2):
            if i == k or (alike[i] == alike[k] and not moving):
                E = sp.zeros(n, n)
                E[i, k] = E[k, i] = 1
                basis.append(E)
        columns = [sp.Matrix([e for A in speeds for e in E * A - (E * A).T]) for E in basis]
        null = sp.Matrix.hstack(*columns).nullspace(simplify=moving)
        if not null:
            return None
        N = sp.Matrix.hstack(*null)
        identity = sp.Matrix([int(E[0, 0] == 1 or E.trace() == 1) for E in basis])
        weights = N * (N.T * N).LUsolve(N.T * identity) if not moving else N * sp.ones(N.cols, 1)
        D = sum((w * E for w, E in zip(weights, basis, strict=True)), sp.zeros(n, n))
        if moving:
            D = D.applyfunc(sp.cancel)
            return D if all(D[i, i].is_positive for i in range(n)) else None
        return D if D.is_positive_definite else None

    def _skew_norm(
        self,
        D: sp.Matrix,
        speeds: Mapping[tuple[int, int], sp.Matrix],
        squares: Mapping[tuple[int, int], sp.Matrix],
        size: list[sp.Expr],
        pairs: tuple[tuple[int, int], ...],
    ) -> sp.Expr:
        """A bound on ‖S‖ in the norm of D, from those of the T_a of every pair, whose squares are given. Where the
        fields fall into two groups that drive each other ‖S‖² is the norm of a diagonal block of S²; then for fields
        that are not mixed 2‖S‖² ≤ Σ_ik ‖S_ik‖², with equality for rank 2."""
        n, two = len(size), nx.is_bipartite(groups := nx.Graph(pairs))
        if D.is_diagonal():
            entry = {
                (i, k): sum(
                    sp.sqrt(A[i, k] * A[k, i] * size[i] * size[k] * squares[key][i, k]) for key, A in speeds.items()
                )
                for i, k in pairs
            }
            total = sp.Add(*(e**2 for e in entry.values()))
            if any(e.free_symbols for e in entry.values()):
                return sp.sqrt(total / (1 + two))
            matrix = np.array([[float(entry.get((i, k), 0)) for k in range(n)] for i in range(n)])
            if two and np.linalg.matrix_rank(matrix) == 2:
                return sp.sqrt(total / 2)
        L = np.linalg.cholesky(np.array(D.tolist(), dtype=float))
        B = [L.T @ np.array(A.tolist(), dtype=float) @ np.linalg.inv(L.T) for A in speeds.values()]
        each = [np.sqrt(np.array(squares[key].tolist(), dtype=float)) for key in speeds]
        N, c = [float(w.max()) for w in each], np.sqrt(np.array(size, dtype=float))
        if not D.is_diagonal():  # what D mixes has entries where no field alone had one
            each = [np.full((n, n), w) for w in N]
        whole = sum(abs(b) * w for b, w in zip(B, each, strict=True)) * np.outer(c, c)
        found = [float(np.linalg.norm(whole, 2))]
        if two and all(s == 1 for s in size):
            square = sum(abs(a @ b) * v * w for (a, v), (b, w) in itertools.product(zip(B, N, strict=True), repeat=2))
            one = [i for i, colour in nx.bipartite.color(groups).items() if colour]
            other = [i for i in range(n) if i not in one]
            found += [float(np.linalg.norm(square[np.ix_(g, g)], 2)) ** 0.5 for g in (one, other)]
        return _rational(min(found) * (1 + 1e-12))

    def _no_mirror(self, i: int, k: int, axis: int) -> str:
        """Why T u_k in the equation of u_i and its mirror image are not adjoint about the walls."""
        unknowns, pairs = self.system.problem.unknowns, zip(self.system.along(i), self.system.along(k), strict=True)
        for a, (here, there) in enumerate(pairs):
            if here.periodic or (a != axis and here.sides == there.sides):
                continue
            opposite = a == axis and here.shift != there.shift and not (here.open or there.open)
            if not opposite or [p + q for p, q in zip(here.parity, there.parity, strict=True)] != [0, 0]:
                return (
                    f"at the walls across {here.name} {unknowns[i].func} and {unknowns[k].func} are not mirrored in "
                    f"opposite ways"
                )
        return ""

    def _positive(self, c: sp.Expr) -> tuple[sp.Expr, str, str]:
        """sup c of a positive factor that varies in space, the hypothesis in words, and why there is none."""
        if c == 1:
            return sp.S.One, "", ""
        high = sp.S.One
        for factor in sp.Mul.make_args(c):
            base, power = factor.as_base_exp()
            if explicit_symbols(factor) & {t}:
                return high, "", f"the factor {notation.show(c)} varies in time"
            if isinstance(base, Data):
                found, why_not = _declared(base)
                if found is not None and self.system.order > 2:
                    return high, "", f"means of {base} of order {self.system.order} may leave its declared range"
            else:
                found, why_not, power = self._over_space(factor), "", sp.S.One
            if found is None or not found.low > 0 or not power.is_number:
                unbounded = found is None and not factor.atoms(Data) and self.system.grid.shape is None
                cure, shown = "; give Grid(shape=…)" * unbounded, notation.show(factor)
                return high, "", why_not or f"no positive lower bound is known for the factor {shown}{cure}"
            high *= sp.Max(*(_rational(e) ** power for e in (found.low, found.high)))
        return high, f"0 < {notation.show(c)} ≤ {short(high)}", ""

    @cached_property
    def carried(self) -> sp.Expr:
        """Σ |v|·‖T‖, the bound on the spectrum of T."""
        if self.system.width > 1 and self.skew.rate is not None:
            return self.skew.rate
        terms = ((t.speed.xreplace(self.fixed), squared_norm(t.stencil)[0]) for t in self.system.transports)
        return sp.Add(*(sp.Abs(v) * sp.sqrt(norm) for v, norm in terms))

    @cached_property
    def waves(self) -> tuple[sp.Expr | None, bool, tuple[str, ...], str]:
        """Σ sup|F'|/h of conservation laws over the declared range of u; whether all speeds are constant; the
        hypotheses; and why nothing is known."""
        total, constant, assumptions = sp.S.Zero, True, []
        s = sp.Symbol("s", real=True)
        if self.system.width > 1:
            return None, False, (), "for systems of conservation laws nothing is proved"
        for discrete in self.system.laws:
            h = discrete.axis.spacing
            if discrete.law.advective:
                speed, text, why_not = self._speed(discrete.law.flux)
                if speed is None:
                    return None, False, (), why_not
                assumptions.append(text)
                total += speed * sp.Rational(h.denominator, h.numerator)
                continue
            (u,) = discrete.law.flux.atoms(Unknown)
            F = discrete.law.flux.xreplace({u: s, **self.fixed})
            slope = slope_of(F, s)
            shown = f"F = {notation.show(discrete.law.flux)}"
            if explicit_symbols(discrete.law.flux) & self.system.problem.places:
                return None, False, (), f"the wave speed of {shown} varies in space or time"
            if F.atoms(Data):  # also as a summand, whose derivative is a source
                return None, False, (), f"{shown} reads data"
            if slope.free_symbols & self.trainable:
                return None, False, (), f"the wave speed of {shown} depends on trained parameters"
            if jumps(sp.diff(F, s), s) != []:
                return None, False, (), f"{shown} is not known to be continuous, and no speed is that of a jump"
            speed = sp.Abs(slope)
            if s in slope.free_symbols:
                constant = False
                box = getattr(u.func, "bounds", None)
                if box is not None:
                    low, high = range_on(slope, s, *box)
                else:
                    everywhere = range_of(slope, s, frozenset(), even=parity_of(slope, {s: -1}) == 1)
                    low, high = everywhere.low, everywhere.high
                if not (math.isfinite(low) and math.isfinite(high)):
                    cure = f"; declare its range, loom.field({str(u.func)!r}, …, bounds=(low, high))" * (box is None)
                    where = f"every {u.func}" if box is None else f"{box[0]:.6g} ≤ {u.func} ≤ {box[1]:.6g}"
                    return None, False, (), f"no bound was found for the wave speed F' of {shown} for {where}{cure}"
                where = "" if box is None else f" for {box[0]:.6g} ≤ {u.func} ≤ {box[1]:.6g} at the start"
                bend = slope_of(slope, s)
                if box is not None and s in bend.free_symbols:
                    curved = range_on(bend, s, *box)
                else:
                    found = range_of(bend, s, frozenset())
                    curved = found.low, found.high
                kinks = jumps(sp.diff(F, s, 2), s)
                if kinks is None or min(curved[0], *kinks, 0) < 0 < max(curved[1], *kinks, 0):
                    why_not = f"{shown} is not convex, and waves between two states may be faster than at both of them"
                    return None, False, (), why_not
                assumptions.append(f"{low:.6g} ≤ F' ≤ {high:.6g}{where}, convex or concave {shown}")
                speed = _rational(max(abs(low), abs(high)))
            total += speed * sp.Rational(h.denominator, h.numerator)
        return total, constant, tuple(assumptions), ""

    def _speed(self, a: sp.Expr) -> tuple[sp.Expr | None, str, str]:
        """A bound on |a| of transport at a varying speed, the hypothesis in words, and why there is none."""
        total, shown = sp.S.Zero, notation.show(a)
        for part in sp.Add.make_args(a.xreplace(self.fixed)):
            size = sp.S.One
            for factor in sp.Mul.make_args(part):
                if explicit_symbols(factor) & self.system.problem.places:
                    found, why_not = self._over_space(factor), f"no bound was found for {notation.show(factor)}"
                    cure = "; give Grid(shape=…)" * (found is None and self.system.grid.shape is None)
                    why_not += f" wherever the grid may reach{cure}"
                elif factor.atoms(Data, Unknown):
                    found, why_not = _declared(factor)
                else:
                    size *= sp.Abs(factor)
                    continue
                if found is None:
                    return None, "", why_not
                size *= _rational(max(abs(found.low), abs(found.high)))
            total += size
        return total, f"|a| ≤ {short(total)} for the speed a = {shown}", ""

    @cached_property
    def courant(self) -> sp.Expr:
        """Σ |v|/h: how many cells a wave crosses per unit of time."""
        if self.system.width > 1 and self.skew.rate is not None:
            return self.skew.courant
        terms = ((t.speed.xreplace(self.fixed), self.system.axes[t.axis].spacing) for t in self.system.transports)
        return sp.Add(*(sp.Abs(v) * sp.Rational(h.denominator, h.numerator) for v, h in terms))

    def monotone(self, tau: Any = None) -> bool:
        """Has f no negative entry off its diagonal? Along each axis Σ κ inf g ≥ |v|h/2; a viscosity may depend on τ."""
        if any(sum(map(abs, o)) != 2 for t in self.system.transports for o in t.stencil.taps()):
            return False
        if any(v.term.component != v.term.of for v in self.system.transports):
            return False
        for moved in self.system.transports:
            h = sp.Rational(*self.system.axes[moved.axis].spacing.as_integer_ratio())
            own = [f for f in self.system.fluxes if f.term.component == moved.term.component]
            along = [f for f in own if [p.orders[moved.axis] for p in f.own[0].products] == [1]]
            least = [_rational(max(self._strength(f, slopes=False)[1], 0.0)) for f in along]
            kappa = sp.Add(*(f.term.kappa * low for f, low in zip(along, least, strict=True))).xreplace(self.fixed)
            margin = kappa - sp.Abs(moved.speed.xreplace(self.fixed)) * h / 2
            margin = margin if tau is None else margin.xreplace({TAU: _rational(tau)})
            if margin.is_nonnegative is not True:
                return False
        return True


_S = sp.Symbol("s", real=True)


def _product(a: tuple[Any, Any], b: tuple[Any, Any]) -> tuple[Any, Any]:
    """The range of a product of two that have these."""
    ends = [x * y for x in a for y in b]
    return (min(ends), max(ends)) if all(e == e for e in ends) else (-math.inf, math.inf)  # 0·∞ says nothing


def _of_one(law: sp.Expr) -> sp.Expr:
    """A law in μ₁ = s², or in μ₁ − μ₂ = s², the two of which diffusion tensors are made."""
    difference = law.xreplace({MU1: MU2 + _S**2})
    return difference if MU2 not in difference.free_symbols else law.xreplace({MU1: _S**2})


def own_stencils(system: SemiDiscrete) -> list[tuple[str, Stencil]]:
    """The stencils K of all flux terms, labelled as in the graph; equal ones appear once per flux."""
    fluxes = [flux for flux in system.fluxes if flux.bank is None]
    return [pair for flux in fluxes for pair in zip(labels(system, flux), flux.own, strict=True)]


def labels(system: SemiDiscrete, flux: DiscreteFlux) -> list[str]:
    """The names of a flux term's own stencils, K_x, K_y, …, or of its bank, K."""
    if flux.bank is not None:
        return [flux.bank.label]
    return [f"K_{system._subscript(flux.term.operator, i)}" for i in range(len(flux.own))]


def channelled(flux: DiscreteFlux, trainable: frozenset[Parameter]) -> frozenset[Parameter]:
    """The trained parameters that every channel of a bank has its own of."""
    if flux.bank is None or not flux.bank.own_fluxes:
        return frozenset()
    return frozenset(flux.term.flux.free_symbols & trainable)


def norm_symbol(label: str) -> sp.Symbol:
    """‖K‖² of a learned stencil, a function of its weights that the emitted module evaluates."""
    return sp.Symbol(f"norm2_{label}", positive=True)


def _learned_norm(K: Stencil) -> sp.Expr:
    """(Σ|w|)²: what the emitted module computes for trainable taps."""
    return sp.Add(*(sp.Abs(o.weight) * o.l1 for o in K.orbits())) ** 2


def shown_law(system: SemiDiscrete, flux: DiscreteFlux, e: sp.Expr | None = None) -> str:
    """Φ or g of a flux term, by default g, with what it reads in place of its slots: derivatives, or the values of
    filters."""
    term = flux.term
    e = e or (term.flux if term.diffusivity is None else term.diffusivity)
    if flux.bank is not None:
        u = system.problem.state
        name = f"‖{flux.bank.label} {u}‖" + "_c" * flux.bank.mixed if flux.joint else f"({flux.bank.label} {u})_c"
        return notation.show(e.xreplace({term.slots[0][0]: sp.Symbol(name)}))
    return notation.show_term(e, term, system.problem)


def radial(
    g: sp.Expr, slots: list[sp.Symbol], s: sp.Symbol
) -> tuple[sp.Expr | None, list[sp.Expr], tuple[sp.Expr, ...]]:
    """g = h(s²)·∏ data with s² = Σ w·slot²: (h, data factors, weights w). Positive data inside h are `Reading`s."""
    others = [f for f in sp.Mul.make_args(g) if not f.has(*slots) and f.atoms(Data, Unknown)]
    rest = sp.Mul(*(f for f in sp.Mul.make_args(g) if f not in others))
    inside = rest.atoms(Data)
    if shared := [f for f in others if f.atoms(Data) and f.atoms(Data) <= inside]:
        whole = sp.Mul(*shared, rest)
        at_rest = sp.cancel(whole.xreplace(dict.fromkeys(slots, sp.S.Zero)))
        if at_rest != 0 and not at_rest.has(sp.zoo, sp.nan):  # σ³/(σ² + s²) is σ times 1/(1 + s²/σ²)
            outside = [f for f in sp.Mul.make_args(at_rest) if f.atoms(Data)]
            rest, others = whole / sp.Mul(*outside), [f for f in others if f not in shared] + outside
    if rest.atoms(Unknown) or not all((getattr(f.func, "bounds", None) or (0,))[0] > 0 for f in inside):
        return None, [], ()
    rest = rest.xreplace({f: Reading.of(f) for f in inside})
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
            opened = sp.Add(*(sp.cancel(term) for term in sp.Add.make_args(opened)))
        if opened.free_symbols & set(further):
            return None, [], ()
    return opened, others, weights


def short(e: sp.Expr) -> str:
    """An expression for a table: its value where that reads better."""
    if e.is_Rational and e.q > 10**6:
        return f"{float(e):.6g}"
    if e.is_Float:
        return f"{float(e):.6g}"
    return str(e.xreplace({f: sp.Float(f"{float(f):.6g}", 6) for f in e.atoms(sp.Float)}))


def _rational(value: float) -> sp.Rational:
    """A double as the rational number that it is."""
    return sp.Rational(*float(value).as_integer_ratio())


def _unknown(why_not: str) -> Reaction:
    return Reaction(None, math.inf, None, False, why_not=why_not)


def _declared(factor: sp.Expr) -> tuple[Range | None, str]:
    """The declared bounds of a data field, or why there are none."""
    bounds = getattr(factor.func, "bounds", None)
    if not isinstance(factor, Data):
        return None, f"the coefficient {factor} varies with u"
    if bounds is None:
        return None, f"the coefficient {factor} has no declared bounds; use loom.data(…, bounds=(low, high))"
    return Range(float(bounds[0]), float(bounds[1]), None, sp.Rational(*exact(bounds[1]).as_integer_ratio())), ""


def _invariant(r: sp.Expr, s: sp.Symbol) -> tuple[float, float] | None:
    """The smallest and the largest zero of a polynomial r, at which it points inwards."""
    if not r.is_polynomial(s):
        return None
    zeros = [float(z) for z in sp.real_roots(sp.Poly(sp.nsimplify(r, rational=True), s))]
    if len(set(zeros)) < 2:
        return None
    ends = []
    for zero, sign in ((min(zeros), 1), (max(zeros), -1)):
        near = (zero, math.nextafter(zero, math.inf), math.nextafter(zero, -math.inf))
        inward = [z for z in near if sign * r.xreplace({s: _rational(z)}) >= 0]
        if not inward:
            return None
        ends.append(inward[0])
    return ends[0], ends[1]

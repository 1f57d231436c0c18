"""A scheme run on ℚ(z): its amplification, and the stability intervals that follow from it, in exact arithmetic.

For u' = λu, z = τλ, a one-step scheme (or a whole cycle that starts again from its newest state) multiplies u by a
rational function R(z); a multistep scheme has the characteristic polynomial Σ a_j(z) ξ^j. It is power bounded where
|R| ≤ 1, or where all roots lie in the closed unit disc. By Schur and Cohn the latter is a list of polynomial
inequalities in y (z = −y, or z = iy), obtained by the recursion

    a_j ← ā_m a_{j+1} − a_0 ā_{m−1−j},        |a_m|² − |a_0|² ≥ 0,

where a self-inversive polynomial (|a_m| = |a_0| for all y) is replaced by its derivative (Miller, J. Inst. Maths
Applics 8 (1971) 397–406, doi:10.1093/imamat/8.3.397). The interval ends where the first of them changes sign: its
roots are isolated exactly, and an irrational end is given by a rational number below it.

The theory speaks of simple roots on the circle; a double one there, as leapfrog has at the end of its interval, makes
the interval `open`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import sympy as sp
from sympy.polys.fields import FracElement, FracField
from sympy.polys.rings import PolyElement, PolyRing

from ..errors import SchemeError

_y = sp.Symbol("y")
_z = sp.Symbol("z")
_EPS = sp.Rational(1, 2**60)
_NOISE = 1e-13
"""Coefficients given as floats (cos² of FED) leave this much of a term that cancels."""


Fraction = tuple[PolyElement, PolyElement]


@dataclass(frozen=True)
class Interval:
    """[0, end] or, if `open`, [0, end)."""

    end: sp.Expr
    open: bool = False


class Eigenvalue:
    """f(u) = (z₁ + … + z_d) u: what a right-hand side is to a symbol."""

    def __init__(self, parts: Sequence[Any]) -> None:
        self.parts = parts

    def __call__(self, u: Any) -> Any:
        return sum(self.parts[1:], self.parts[0]) * u

    def frozen(self, u: Any) -> Eigenvalue:
        return self

    def split(self) -> list[Eigenvalue]:
        return [Eigenvalue([z]) for z in self.parts]

    def fields(self) -> list[Eigenvalue]:
        return [self]


def amplify(scheme: Any, dimension: int) -> OneStep | Recurrence:
    """Run the scheme on ℚ(z₁, …, z_d), with τ = 1.

    Raises `SchemeError` if the outcome does not depend on τλ alone (τ²λ for a scheme of second order in time), or if
    the step does not keep a constant state where f vanishes.
    """
    names = [f"z{i}" for i in range(dimension)] + ([scheme.relaxation] if scheme.relaxation else [])
    rational = bool(scheme.structure.solves or scheme.relaxation)  # polynomials need no common divisors: much faster
    K = FracField(names, sp.QQ) if rational else PolyRing(names, sp.QQ)

    def run(tau: int) -> list[Fraction]:
        """On z/τ and α/τ, so that every τ gives the same."""
        gens = [g * K(sp.QQ(1, tau**order)) for g in K.gens[:dimension]]
        own = dict(zip(names[dimension:], (g * K(sp.QQ(1, tau)) for g in K.gens[dimension:]), strict=True))
        f, one = Eigenvalue(gens), K.one
        if scheme.cyclic:
            return [_fraction(scheme.march(f, one, K(tau), scheme.cycle, **own)[0], K)]
        rows = []
        for i in range(scheme.memory + 1):
            states = [one if i == j else one * 0 for j in range(scheme.memory + 1)]
            rows.append(_fraction(scheme.step(f, states[0], K(tau), *states[1:], **own), K))
        return rows

    name, order = type(scheme).__name__, scheme.time_orders[0]
    try:
        rows = run(1)
        scaled = run(2)
    except (TypeError, AttributeError, ValueError, ZeroDivisionError, sp.SympifyError) as error:
        raise SchemeError(f"{name}.step is not made of f(u), +, -, scalar * u and loom.solve alone: {error}") from error
    if not all(_equal(a, b) for a, b in zip(rows, scaled, strict=True)):
        power = "tau²" if order == 2 else "tau"
        raise SchemeError(
            f"{name}.step must multiply f by {power} throughout: on u' = λu it is no function of τλ alone"
        )
    at_rest = {n: int(n == scheme.relaxation) for n in names}
    total = sum(float(N.as_expr().subs(at_rest) / D.as_expr().subs(at_rest)) for N, D in rows)
    if abs(total - 1) > 1e-9:
        raise SchemeError(f"{name}.step does not keep a constant state where f = 0: it multiplies it by {total:.6g}")
    return Recurrence(tuple(rows), dimension, scheme.relaxation) if len(rows) > 1 else OneStep(*rows[0], dimension)


class _Turning:
    """f of u' = −zv, v' = zu, or one field of it."""

    def __init__(self, moving: tuple[int, int] = (1, 1)) -> None:
        self.moving = moving

    def __call__(self, state: sp.Matrix) -> sp.Matrix:
        u, v = state
        return sp.Matrix([-_z * v * self.moving[0], _z * u * self.moving[1]])

    def frozen(self, state: sp.Matrix) -> _Turning:
        return self

    def fields(self) -> list[_Turning]:
        return [_Turning((1, 0)), _Turning((0, 1))]


def turned(scheme: Any) -> tuple[Interval, sp.Expr]:
    """A scheme whose fields take turns on u' = −σv, v' = σu: the z = τσ up to which the powers of its matrix M(z) are
    bounded, and the trace of M. With det M = 1 that is where |tr M| first becomes 2.

    Raises `SchemeError` where M is not known to be of this kind.
    """
    name = type(scheme).__name__
    if scheme.memory or scheme.cyclic or scheme.structure.solves:
        raise SchemeError(f"of fields that take turns only explicit one-step schemes are covered, not {name}")
    try:
        columns = [scheme.step(_Turning(), unit, sp.S.One) for unit in (sp.Matrix([1, 0]), sp.Matrix([0, 1]))]
        a, c, b, d = (sp.Poly(entry, _z, domain="QQ") for column in columns for entry in column)
    except (TypeError, AttributeError, ValueError) as error:
        raise SchemeError(f"{name}.step is not made of f.fields(), +, -, scalar * u alone: {error}") from error
    if a * d - b * c != 1 or [(p.nth(0), p.nth(1)) for p in (a, b, c, d)] != [(1, 0), (0, -1), (0, 1), (1, 0)]:
        raise SchemeError(
            f"a step of {name} does not preserve areas, or is not consistent, where two fields take turns"
        )
    room = 4 - (a + d) ** 2
    roots = room.quo(sp.Poly(_z ** min(n for (n,) in room.monoms()), _z)).sqf_part()
    return Interval(_sign_change(roots * (1 if roots.eval(0) > 0 else -1)).end, open=True), (a + d).as_expr()


def _equal(a: Fraction, b: Fraction) -> bool:
    scale = max(abs(float(c)) for c in (a[0] * b[1]).coeffs() or [1])
    return all(abs(float(c)) <= _NOISE * scale for c in (a[0] * b[1] - b[0] * a[1]).coeffs())


def _fraction(R: Any, K: Any) -> Fraction:
    R = K(R) if isinstance(R, (int, float)) else R
    return (R.numer, R.denom) if isinstance(R, FracElement) else (R, R.ring.one)


@dataclass(frozen=True)
class OneStep:
    """u⁺ = R(z) u, R = numerator / denominator."""

    numerator: PolyElement
    denominator: PolyElement
    dimension: int

    def expression(self, z: sp.Symbol) -> sp.Expr:
        e = sp.cancel(self._expr().xreplace(dict.fromkeys(self._gens()[: self.dimension], z)))
        return sp.expand(e) if e.is_polynomial(z) else e

    def polynomials(self) -> tuple[sp.Poly, sp.Poly]:
        """N and D in z."""
        z = sp.Symbol("z0")
        N, D = (sp.Poly(p.as_expr(), z, domain="QQ") for p in (self.numerator, self.denominator))
        return (N, D) if D.eval(0) > 0 else (-N, -D)

    @cache  # noqa: B019 (one of a scheme, which is kept)
    def real_interval(self) -> Interval:
        """|R(−y)| ≤ 1 on [0, x] from the sign changes of D − N, D + N and D, R = N/D."""
        if self.dimension > 1:
            return Interval(sp.oo if self.unconditional else sp.S.Zero)
        N, D = (p.compose(sp.Poly(-p.gen, p.gen)) for p in self.polynomials())
        return _first(D - N, D + N, D)

    @cache  # noqa: B019 (one of a scheme, which is kept)
    def imaginary_interval(self) -> Interval:
        N, D = self.polynomials()
        difference = sp.Poly(0, _y, domain="QQ")
        for p, sign in ((D, 1), (N, -1)):
            re, im = _on_imaginary_axis(p)
            difference += sign * (re * re + im * im)
        return _first(difference)

    @cached_property
    def additive(self) -> bool:
        """Is R a sum of functions of one zᵢ each? Then no two parts need to commute."""
        e, gens = self._expr(), self._gens()
        return all(sp.cancel(sp.diff(e, a, b)) == 0 for i, a in enumerate(gens) for b in gens[i + 1 :])

    @property
    def unconditional(self) -> bool:
        """|R| ≤ 1 for all zᵢ ≤ 0, if the coefficients of D ± N in xᵢ = −zᵢ are nonnegative."""
        gens = self._gens()
        N, D = (
            sp.Poly(p.as_expr().subs({g: -g for g in gens}, simultaneous=True), *gens)
            for p in (self.numerator, self.denominator)
        )
        if D.eval((0,) * len(gens)) < 0:
            N, D = -N, -D
        return all(c >= 0 for p in (D - N, D + N, D) for c in p.coeffs())

    @cache  # noqa: B019 (one of a scheme, which is kept)
    def positivity(self) -> sp.Expr:
        """The largest x so that R(−A) averages for every M-matrix A with diagonal ≤ x.

        (1 + az)/(1 − cz) is an explicit average for ax ≤ 1, then a resolvent; weighted means of resolvents in one part
        each average, too; and a polynomial does up to its radius of absolute monotonicity, the largest x with
        R(z) = Σ c_k (1 + z/x)^k, all c_k ≥ 0 (Kraaijevanger, BIT 31 (1991) 482–528, doi:10.1007/BF01933264)."""
        e, gens = self._expr(), self._gens()
        if len(gens) == 1:
            N, D = self.polynomials()
            if D.degree() == 0:
                return self._monotone(N.quo_ground(D.LC()))
            if N.degree() > 1 or D.degree() > 1 or N.nth(0) != D.nth(0) or N.nth(1) < 0 or D.nth(1) > 0:
                return sp.S.Zero
            return D.nth(0) / N.nth(1) if N.nth(1) else sp.oo
        total = sp.S.Zero
        for g in gens:
            mean = sp.apart(e.subs({h: 0 for h in gens if h != g}), g)
            N, D = sp.fraction(sp.together(sp.Add(*(t for t in sp.Add.make_args(mean) if g in t.free_symbols))))
            slope = sp.cancel(sp.diff(D, g) / D.subs(g, 0))
            if N.free_symbols or sp.degree(D, g) != 1 or not slope < 0 or not N / D.subs(g, 0) > 0:
                return sp.S.Zero
            total += N / D.subs(g, 0)
        return sp.oo if self.additive and total == 1 else sp.S.Zero

    @staticmethod
    def _monotone(R: sp.Poly) -> sp.Expr:
        """Where the first derivative of R(−y) becomes negative: each is a polynomial in y."""
        mirrored = sp.Poly(-R.gen, R.gen, domain="QQ")
        derivatives = [R]
        while derivatives[-1].degree() > 0:
            derivatives.append(derivatives[-1].diff())
        return _first(*(p.compose(mirrored) for p in derivatives)).end

    @property
    def euler(self) -> bool:
        """Is R = 1 + z?"""
        N, D = self.polynomials()
        return self.dimension == 1 and D.degree() == 0 and bool((N - D * sp.Poly(1 + N.gen, N.gen)).is_zero)

    @property
    def resolvent(self) -> bool:
        """Is R = 1/(1 − z)?"""
        N, D = self.polynomials()
        return self.dimension == 1 and N.degree() == 0 and bool((D - N * sp.Poly(1 - N.gen, N.gen)).is_zero)

    def _gens(self) -> list[sp.Symbol]:
        return [sp.Symbol(str(s)) for s in self.numerator.ring.symbols]

    def _expr(self) -> sp.Expr:
        return self.numerator.as_expr() / self.denominator.as_expr()


@dataclass(frozen=True)
class Recurrence:
    """u^{k+1} = Σ_j row[j] u^{k−j}."""

    row: tuple[Fraction, ...]
    dimension: int
    relaxation: str | None

    additive = False
    euler = False
    resolvent = False

    def positivity(self) -> sp.Expr:
        """A recurrence that extrapolates does not average."""
        return sp.S.Zero

    def expression(self, z: sp.Symbol) -> sp.Expr:
        """ξ^m − Σ_j row[j] ξ^{m−1−j}."""
        xi, m = sp.Symbol("xi"), len(self.row)
        terms = (N.as_expr() / D.as_expr() * xi ** (m - 1 - j) for j, (N, D) in enumerate(self.row))
        total = xi**m - sum(terms)
        return sp.expand(total.subs(sp.Symbol("z0"), z))

    def _coefficients(self, *gens: sp.Symbol) -> list[sp.Poly]:
        """a_0, …, a_m over a common denominator."""
        common = sp.lcm_list([D.as_expr() for _, D in self.row])
        row = [
            sp.Poly(sp.cancel(-N.as_expr() * common / D.as_expr()), *gens, domain="QQ") for N, D in reversed(self.row)
        ]
        return [*row, sp.Poly(common, *gens, domain="QQ")]

    def real_interval(self) -> Interval:
        z = sp.Symbol("z0")
        if self.dimension > 1:  # no criterion for several operators at once
            return Interval(sp.S.Zero)
        if self.relaxation is None:
            a = [(p.compose(sp.Poly(-z, z)), sp.Poly(0, z, domain="QQ")) for p in self._coefficients(z)]
            found = _first(*_schur_cohn(a))
            return Interval(found.end, self._double(found.end))
        # stable for every τ if λ/α ≤ x: with λ = ηα the inequalities must hold for all α > 0
        alpha, eta = sp.Symbol(self.relaxation), sp.Symbol("eta")
        zero = sp.Poly(0, eta, alpha, domain="QQ")
        b = [
            (sp.Poly(p.as_expr().subs(z, -eta * alpha), eta, alpha, domain="QQ"), zero)
            for p in self._coefficients(z, alpha)
        ]
        parts = []
        for inequality in _schur_cohn(b):
            by_power: dict[int, sp.Expr] = {}
            for (i, j), c in inequality.terms():
                by_power[j] = by_power.get(j, sp.S.Zero) + c * eta**i
            parts += [sp.Poly(e, eta, domain="QQ") for e in by_power.values()]
        return _first(*parts)

    def imaginary_interval(self) -> Interval:
        if self.relaxation is not None:
            raise SchemeError("the imaginary interval of a scheme with a relaxation coefficient depends on it")
        found = _first(*_schur_cohn([_on_imaginary_axis(p) for p in self._coefficients(sp.Symbol("z0"))]))
        return Interval(found.end, found.open or self._double(found.end, sp.I))

    def _double(self, end: sp.Expr, along: sp.Expr = sp.S.NegativeOne) -> bool:
        """Do two roots meet on the unit circle at the end of the interval?"""
        if end == sp.oo or end == 0:
            return False
        z = sp.Symbol("z0")
        numbers = [complex(p.as_expr().subs(z, along * end)) for p in reversed(self._coefficients(z))]
        roots = [r for r in np.roots(numbers) if abs(abs(r) - 1) < 1e-6]
        return any(abs(r - s) < 1e-5 for i, r in enumerate(roots) for s in roots[i + 1 :])


def _on_imaginary_axis(p: sp.Poly) -> tuple[sp.Poly, sp.Poly]:
    """Real and imaginary part of p(iy)."""
    parts = [sp.S.Zero, sp.S.Zero]
    for (n,), c in p.terms():
        parts[n % 2] += c * (-1) ** (n // 2) * _y**n
    return sp.Poly(parts[0], _y, domain="QQ"), sp.Poly(parts[1], _y, domain="QQ")


Complex = tuple[sp.Poly, sp.Poly]


def _schur_cohn(a: list[Complex]) -> list[sp.Poly]:
    """The inequalities under which Σ a_j ξ^j has its roots in the closed unit disc."""

    def times(p: Complex, q: Complex, conjugate: bool) -> Complex:
        s = -1 if conjugate else 1
        return p[0] * q[0] - s * p[1] * q[1], p[1] * q[0] + s * p[0] * q[1]

    found: list[sp.Poly] = []
    while len(a) > 1:
        m = len(a) - 1
        excess = a[m][0] ** 2 + a[m][1] ** 2 - a[0][0] ** 2 - a[0][1] ** 2
        if excess.is_zero:
            a = [(p * j, q * j) for j, (p, q) in enumerate(a)][1:]
            continue
        found.append(excess)
        following = []
        for j in range(m):
            p, q = times(a[j + 1], a[m], True), times(a[0], a[m - 1 - j], True)
            following.append((p[0] - q[0], p[1] - q[1]))
        a = following
    return found


def _first(*polynomials: sp.Poly) -> Interval:
    """Where, going up from y = 0, the first of the polynomials becomes negative."""
    best = Interval(sp.oo)
    for p in polynomials:
        found = _sign_change(p)
        if found.end < best.end:
            best = found
    return best


def _sign_change(p: sp.Poly) -> Interval:
    if p.is_zero:
        return Interval(sp.oo)
    order = sorted(n for (n,) in p.monoms())
    while len(order) > 1 and abs(p.nth(order[0])) < _NOISE:
        order = order[1:]
    lowest = order[0]
    if p.nth(lowest) < 0:
        return Interval(sp.S.Zero)
    if p.degree() == lowest:
        return Interval(sp.oo)
    reduced = sp.Poly({(n - lowest,): c for (n,), c in p.terms() if n >= lowest}, p.gen, domain="QQ")
    for (low, high), multiplicity in reduced.intervals(inf=0):
        if multiplicity % 2:
            return Interval(_bisect(reduced, sp.Rational(low), sp.Rational(high)))
    return Interval(sp.oo)


def _bisect(p: sp.Poly, low: sp.Rational, high: sp.Rational) -> sp.Rational:
    """A rational number below the one root in [low, high], closer than a double can tell."""
    sign = p.eval(low)
    while high - low > _EPS * high:
        middle = (low + high) / 2
        value = p.eval(middle)
        if value == 0:
            return middle
        low, high = (middle, high) if value * sign > 0 else (low, middle)
    return low

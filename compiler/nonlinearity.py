"""Diffusivities g(s²), and rigorous ranges of g and of the flux derivative Φ', Φ(s) = g(s²)s.

    range of g   → the Euclidean bound  0 ≤ g ≤ L          (norm decrease)
    range of Φ'  → the Lipschitz bound  0 ≤ Φ' ≤ L         (nonexpansiveness)

Two ways lead to a range, and both must agree: calculus (critical points by sympy; exact and symbolic in the
parameters) and interval branch and bound (see interval.py; an enclosure for |s| ≤ 10³²).
The enclosure is always computed; a symbolic value is used only where it lies inside it.
"""

from __future__ import annotations

import heapq
import inspect
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import sympy as sp
from mpmath.libmp import NoConvergence

from .errors import DeclarationError
from .fields import Parameter
from .interval import Interval, compile_interval
from .registry import Registry

_LARGEST, _FAR = 1e32, 1e12

# --- the named diffusivities ------------------------------------------------------------------------------

_r = sp.Symbol("r", nonnegative=True)  # r = s²


@dataclass(frozen=True)
class _Named:
    """g(r, *parameters) and the names of its parameters."""

    parameters: tuple[str, ...]
    build: Callable[..., sp.Expr]


DIFFUSIVITIES: Registry[_Named] = Registry("diffusivity", DeclarationError)
F = TypeVar("F", bound=Callable[..., Any])


def named_diffusivity(name: str) -> Callable[[F], F]:
    """Register g(r, *parameters), r = s², under a name that `diffusivity` and the text of a PDE know.

        @named_diffusivity("geman-mcclure")
        def geman_mcclure(r, lam):
            return 1 / (1 + r / lam**2) ** 2

    Raises `DeclarationError` if the name is taken or g is no sympy expression in r and its parameters.
    """

    def register(g: F) -> F:
        first, *wanted = inspect.signature(g).parameters
        symbols = [sp.Symbol(p, positive=True) for p in wanted]
        value = sp.sympify(g(_r, *symbols))
        if not isinstance(value, sp.Expr) or value.free_symbols - {_r, *symbols}:
            raise DeclarationError(
                f"diffusivity {name!r}: g({first}, …) = {value!r} must read nothing but its arguments"
            )
        DIFFUSIVITIES.add(name, _Named(tuple(wanted), lambda *p: sp.sympify(g(_r, *p))), g)
        return g

    return register


@named_diffusivity("linear")
def _linear(r: Any) -> Any:
    return sp.S.One


@named_diffusivity("charbonnier")
def _charbonnier(r: Any, lam: Any) -> Any:
    return 1 / sp.sqrt(1 + r / lam**2)


@named_diffusivity("huber")
def _huber(r: Any, lam: Any) -> Any:
    """min(1, λ/|s|), whose flux is the identity clamped to [−λ, λ]; the root never sees 0, where it has no slope."""
    return 1 / sp.sqrt(sp.Max(1, r / lam**2))


@named_diffusivity("perona-malik")
def _perona_malik(r: Any, lam: Any) -> Any:
    return 1 / (1 + r / lam**2)


@named_diffusivity("perona-malik-exponential")
def _perona_malik_exponential(r: Any, lam: Any) -> Any:
    return sp.exp(-r / (2 * lam**2))


@named_diffusivity("weickert")
def _weickert(r: Any, lam: Any) -> Any:
    """Weickert (1998), m = 4. Below r/λ² = ¼ the exponential is smaller than 10⁻³⁶⁸, so the clamp changes no
    double; it keeps the derivative finite at r = 0."""
    return 1 - sp.exp(-sp.Float("3.31488") / sp.Max(r / lam**2, sp.Rational(1, 4)) ** 4)


@named_diffusivity("regularised-tv")
def _regularised_tv(r: Any, eps: Any) -> Any:
    return 1 / sp.sqrt(r + eps**2)


@named_diffusivity("forward-and-backward")
def _forward_and_backward(r: Any, lam: Any, kappa: Any) -> Any:
    """Smolka (2002): positive for s < λ, negative beyond."""
    rate = sp.log(2) / (kappa**2 - 1) * r / lam**2
    return 2 * sp.exp(-(kappa**2) * rate) - sp.exp(-rate)


def diffusivity(name: str, *parameters: Any) -> sp.Lambda:
    """A named diffusivity as a function of r = s². Contrast parameters must be positive.

    >>> lam = Parameter("lam", 0.05, positive=True)
    >>> diffusivity("perona-malik", lam)(sp.Symbol("q"))
    1/(1 + q/lam**2)
    """
    named = DIFFUSIVITIES[name]
    wanted = named.parameters
    if len(parameters) != len(wanted):
        raise DeclarationError(f"diffusivity({name!r}) takes {len(wanted)} parameters {wanted}, got {len(parameters)}")
    for label, p in zip(wanted, parameters, strict=True):
        p = sp.sympify(p)
        least = 1 if label == "kappa" else 0
        value = p.value if isinstance(p, Parameter) else p
        if p.is_positive is not True or not value > least:
            raise DeclarationError(
                f"diffusivity({name!r}): {label} = {p} must be a number or parameter larger than {least}, "
                f"declared with positive=True"
            )
    return sp.Lambda(_r, named.build(*map(sp.sympify, parameters)))


@lru_cache(maxsize=256)
def recognise(g: sp.Expr, of: sp.Expr, parameters: tuple[Parameter, ...]) -> str | None:
    """The name of a diffusivity g(of), such as 'perona-malik'."""
    for name, named in DIFFUSIVITIES.items():
        wanted = named.parameters
        choices = [()] if not wanted else [(p,) for p in parameters if g.has(p)] if len(wanted) == 1 else []
        for chosen in choices:
            if g == named.build(*chosen).xreplace({_r: of}):
                return name
    return None


# --- ranges -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Range:
    """inf and sup of a function: a rigorous enclosure, and closed forms where calculus gave them."""

    low: float
    high: float
    symbolic_low: sp.Expr | None = None
    symbolic_high: sp.Expr | None = None
    where_low: float | None = None
    """A point at which the function comes close to its infimum."""

    @property
    def known(self) -> bool:
        return math.isfinite(self.low) and math.isfinite(self.high)


@lru_cache(maxsize=256)
def range_of(f: sp.Expr, s: sp.Symbol, trainable: frozenset[Parameter] = frozenset(), even: bool = True) -> Range:
    """The range of f(s) over s ≥ 0 (`even`) or all s, for fixed values of all but the trainable parameters.

    With trainable parameters only a closed form that holds for every value of them counts; an enclosure
    computed at one value proves nothing about the others, and the end it would bound comes back infinite.

    >>> lam, s = Parameter("lam", 0.1, positive=True), sp.Symbol("s", real=True)
    >>> flux_slope = range_of(sp.diff(diffusivity("perona-malik", lam)(s**2) * s, s), s)
    >>> flux_slope.symbolic_low, flux_slope.symbolic_high
    (-1/8, 1)
    """
    if len(groups := _groups(f, trainable)) > 1 and (found := _summed(groups, s, trainable, even)):
        return found
    if even and (pieces := _pieces(f, s)) is not None:
        return union(*(range_of(piece, s, trainable) for piece in pieces))
    given, f = f, _factored(f)
    smooth = not f.has(sp.Max, sp.Min, sp.Abs, sp.Piecewise, sp.Heaviside, sp.sign)
    slope = _factored(sp.diff(f, s)) if s in f.free_symbols and smooth else None
    values = {p: sp.Float(p.value, 17) for p in f.free_symbols if isinstance(p, Parameter)}
    numeric_slope = None if slope is None else slope.xreplace(values)
    high, _, high_beyond = _maximise(f.xreplace(values), numeric_slope, s, even)
    negative = None if numeric_slope is None else -numeric_slope
    low, where, low_beyond = _maximise(-f.xreplace(values), negative, s, even)
    closed = (None, None) if slope is None and s in f.free_symbols else _calculus(f, slope, s, even)

    slack = 2e-9 + 1e-7 * min(1.0, max(abs(low), abs(high)))  # the first is that of the enclosure

    def settled(exact: sp.Expr | None, enclosed: float, beyond: bool, side: int) -> tuple[float, sp.Expr | None]:
        if exact is not None:
            at = float(exact.xreplace(values))
            if math.isclose(at, enclosed, rel_tol=1e-5, abs_tol=slack):
                return at, exact
        return (enclosed if beyond and not _depends(given, s, trainable) else side * math.inf), None

    low, symbolic_low = settled(closed[0], -low, low_beyond, -1)
    high, symbolic_high = settled(closed[1], high, high_beyond, 1)
    found = Range(low, high, symbolic_low, symbolic_high, where)
    if not found.known and len(groups := _gathered(given, lambda term: _bases(term, s))) > 1:
        return _summed(groups, s, trainable, even) or found
    return found


def _pieces(f: sp.Expr, s: sp.Symbol) -> tuple[sp.Expr, sp.Expr] | None:
    """The two expressions that an even f is, below and above the one place where max(1, q) has a kink."""
    maxima, steps = f.atoms(sp.Max), f.atoms(sp.Heaviside)
    if len(maxima) != 1 or not steps:
        return None
    (kink,) = maxima
    others = [q for q in kink.args if q != 1]
    if len(others) != 1 or any(sp.expand(h.args[0] - others[0] + 1) != 0 for h in steps):
        return None
    x = sp.Symbol("x", positive=True)
    below = f.xreplace({kink: sp.S.One, **dict.fromkeys(steps, sp.S.Zero)})
    above = f.xreplace({kink: others[0], **dict.fromkeys(steps, sp.S.One)}).xreplace({s: x})
    return sp.expand(below), sp.powdenest(sp.expand(above)).xreplace({x: s})


def union(a: Range, b: Range) -> Range:
    """The range of a function that has one range here and another there."""
    low, high = (a if a.low <= b.low else b), (a if a.high >= b.high else b)
    return Range(low.low, high.high, low.symbolic_low, high.symbolic_high, low.where_low)


def _groups(f: sp.Expr, trainable: frozenset[Parameter]) -> list[sp.Expr]:
    """The terms of a sum, those with the same trainable parameters together."""
    if len(f.free_symbols & trainable) < 2:
        return [f]
    return _gathered(f, lambda term: frozenset(term.free_symbols & trainable))


def _bases(term: sp.Expr, s: sp.Symbol) -> frozenset[sp.Expr]:
    """The denominators of a term, without their powers."""
    return frozenset(p.base for p in term.atoms(sp.Pow) if p.exp.is_negative and p.base.has(s))


def _gathered(f: sp.Expr, key: Callable[[sp.Expr], frozenset[sp.Expr]]) -> list[sp.Expr]:
    groups: dict[frozenset[sp.Expr], sp.Expr] = {}
    for term in sp.Add.make_args(sp.expand_mul(f)):
        groups[key(term)] = groups.get(key(term), sp.S.Zero) + term
    return list(groups.values())


def _summed(groups: list[sp.Expr], s: sp.Symbol, trainable: frozenset[Parameter], even: bool) -> Range | None:
    """The sum of the ranges of terms whose trainable parameters are their own: an enclosure, attained where all are
    largest at one point, as mixtures of diffusivities are at 0. None where the range of a term is not known."""
    values = {p: sp.Float(p.value, 17) for p in trainable}
    ends: list[sp.Expr] = [sp.S.Zero, sp.S.Zero]
    where = []
    for group in groups:
        factor, rest = sp.factor_terms(group).as_independent(s, as_Add=False)
        r = range_of(rest, s, trainable, even)
        if not r.known or factor.is_real is not True:
            return None
        where.append(r.where_low)
        low = sp.Float(r.low, 17) if r.symbolic_low is None else r.symbolic_low
        high = sp.Float(r.high, 17) if r.symbolic_high is None else r.symbolic_high
        if factor.is_nonpositive:
            low, high, factor = -high, -low, -factor
        elif factor.is_nonnegative is not True:  # whatever its sign, the larger end in size bounds both
            widest = sp.Max(abs(low), abs(high))
            low, high, factor = -widest, widest, sp.Abs(factor)
        ends = [ends[0] + factor * low, ends[1] + factor * high]
    at = [float(e.xreplace(values)) for e in ends]
    return Range(at[0], at[1], ends[0], ends[1], next((w for w in where if w), None))


def range_on(f: sp.Expr, s: sp.Symbol, low: float, high: float) -> tuple[float, float]:
    """An enclosure of the range of f(s) on [low, high], (−inf, inf) where none was found."""
    if not defined(f, s, lambda part: range_on(part, s, low, high)):
        return -math.inf, math.inf
    smooth = not f.has(sp.Max, sp.Min, sp.Abs, sp.Piecewise, sp.Heaviside, sp.sign)
    slope = sp.diff(f, s) if smooth else None
    f, slope = _factored(f), None if slope is None else _factored(slope)
    top, _, _ = _maximise(f, slope, s, True, box=(low, high))
    bottom, _, _ = _maximise(-f, None if slope is None else -slope, s, True, box=(low, high))
    return -bottom, top


def defined(f: sp.Expr, s: sp.Symbol, ends: Callable[[sp.Expr], tuple[float, float]]) -> bool:
    """Are the roots, logarithms and arcs in f taken of what they have a meaning for? `ends` gives ranges."""
    for part in sp.preorder_traversal(f):
        if s not in part.free_symbols or part == f == s:
            continue
        if part.is_Pow and not part.exp.is_integer and not (part.base.is_nonnegative or ends(part.base)[0] >= 0):
            return False
        if isinstance(part, sp.log) and not (part.args[0].is_positive or ends(part.args[0])[0] > 0):
            return False
        if part.is_Function and any(_pole(p, s, ends) for a in part.args for p in sp.preorder_traversal(a)):
            return False
        if isinstance(part, (sp.asin, sp.acos)):
            low, high = ends(part.args[0])
            if not -1 <= low <= high <= 1:
                return False
    return True


def _pole(part: sp.Expr, s: sp.Symbol, ends: Callable[[sp.Expr], tuple[float, float]]) -> bool:
    """May a part be a division by zero, which a bounded function around it hides?"""
    if not (part.is_Pow and part.exp.is_negative and s in part.base.free_symbols):
        return False
    if part.base.is_positive:
        return False
    low, high = ends(part.base)
    return not (low > 0 or high < 0)


def _factored(f: sp.Expr) -> sp.Expr:
    """The form in which intervals overestimate least.

    To sympy exp(−10⁴s²/3) is the power 10⁴ of exp(−s²/3), of which factoring makes quotients that overflow, if it ends:
    every exponential stands as a symbol there.
    """
    if f.has(sp.Max, sp.Min) or not _tame(f):
        return f
    exponentials = {e: sp.Dummy(positive=True) for e in f.atoms(sp.exp)}
    back = {symbol: e for e, symbol in exponentials.items()}
    return sp.factor(sp.together(f.xreplace(exponentials))).xreplace(back)


def _tame(f: sp.Expr) -> bool:
    """Small enough for factoring, whose cost grows with the degree."""
    degree = 1
    for power in f.atoms(sp.Pow):
        degree *= max(1, abs(int(power.exp))) if power.exp.is_number else 1
    return degree <= 4096 and all(abs(p.exp) <= 16 for p in f.atoms(sp.Pow) if p.exp.is_number) and f.count_ops() <= 300


def _depends(f: sp.Expr, s: sp.Symbol, trainable: frozenset[Parameter]) -> bool:
    """May the range of f depend on the trainable parameters? Not if changes of scale s → λs remove them."""
    for scale in sorted(f.free_symbols & trainable, key=str):
        scaled = f.xreplace({s: scale * s})
        if scale.is_positive and scale not in scaled.free_symbols:
            f = scaled
    return bool(f.free_symbols & trainable)


def _calculus(f: sp.Expr, slope: sp.Expr | None, s: sp.Symbol, even: bool) -> tuple[sp.Expr | None, sp.Expr | None]:
    """inf and sup from the critical points, where f' factors into a polynomial in s and factors without zeros."""
    if slope is None:
        return f, f
    if not _tame(slope):
        return None, None
    x = sp.Symbol("x", positive=True)
    points = []
    try:
        for factor in sp.Mul.make_args(sp.numer(slope)):
            base = factor.base if factor.is_Pow else factor
            if s not in base.free_symbols or isinstance(base, sp.exp) or base.xreplace({s: x}).is_positive:
                continue
            if not base.is_polynomial(s):
                return None, None
            polynomial = sp.Poly(base, s)
            if sum((roots := sp.roots(polynomial)).values()) < polynomial.degree():
                return None, None  # some cannot be written down
            if polynomial.free_symbols_in_domain and any(root.count_ops() > 64 for root in roots):
                return None, None  # no sign of roots within roots of parameters is found in any time
            points += [root for root in roots if root.is_real is not False]
        ends = [f.xreplace({s: sp.S.Zero}), _limit(f.xreplace({s: x}), x)]
        if not even:
            ends.append(_limit(f.xreplace({s: -x}), x))
        candidates = set(ends + [sp.simplify(f.xreplace({s: p})) for p in points])
        if not all(c.is_finite and c.is_real for c in candidates):
            return None, None
    except (NotImplementedError, TypeError, ValueError, sp.PolynomialError, NoConvergence):
        return None, None

    def extreme(sign: int) -> sp.Expr | None:
        """The candidate that is the largest for every value of the parameters."""
        return next((c for c in candidates if all((sign * (c - b)).is_nonnegative for b in candidates)), None)

    return extreme(-1), extreme(1)


def _limit(g: sp.Expr, x: sp.Symbol) -> sp.Expr:
    """lim_{x→∞}, by the degree for rational functions and by sympy otherwise."""
    numerator, denominator = sp.fraction(g)
    if numerator.is_polynomial(x) and denominator.is_polynomial(x):
        a, b = sp.Poly(numerator, x), sp.Poly(denominator, x)
        if a.degree() < b.degree():
            return sp.S.Zero
        if a.degree() == b.degree():
            return a.LC() / b.LC()
    return sp.limit(g, x, sp.oo)


def _maximise(
    f: sp.Expr,
    slope: sp.Expr | None,
    s: sp.Symbol,
    even: bool,
    tolerance: float = 1e-9,
    budget: int = 600,
    box: Interval | None = None,
) -> tuple[float, float, bool]:
    """Branch and bound over |s| ≤ 10³², or over one box: (upper bound of f, a point where f comes close to it, does it
    hold beyond?).

    A box on which the slope has one sign is settled by its ends.
    """
    try:
        value = compile_interval(f, s)
        rise = None if slope is None else compile_interval(slope, s)
    except NotImplementedError:
        return math.inf, 0.0, False
    if s not in f.free_symbols:
        return value((0.0, 0.0))[1], 0.0, True
    cuts = [0.0, *(10.0**k for k in (-6, -3, -2, -1, 0, 1, 2, 4, 8, 16)), _LARGEST]
    boxes = list(itertools.pairwise(cuts))
    boxes += [] if even else [(-b, -a) for a, b in boxes]
    boxes = [box] if box else boxes
    heap: list[tuple[float, float, float]] = []
    best, where = -math.inf, 0.0

    def look(a: float, b: float) -> None:
        nonlocal best, where
        ends = [(p, value((p, p))) for p in (a, b)]
        for p, (low, _) in ends:
            if low > best:
                best, where = low, p
        bottom, top = value((a, b))
        if rise is not None and math.isfinite(bottom) and math.isfinite(top):  # no pole between the ends
            down, up = rise((a, b))
            if down >= 0 or up <= 0:
                top = min(top, max(high for _, (_, high) in ends))
        heapq.heappush(heap, (-top, a, b))

    for a, b in boxes:
        look(a, b)
    for _ in range(budget):
        top, a, b = heapq.heappop(heap)
        middle = _middle(a, b)
        if -top - best <= (tolerance if rise else 1e-4) * max(1.0, abs(best)) or not a < middle < b:
            break
        look(a, middle)
        look(middle, b)
    else:
        top = heap[0][0]
    bound = max(-top, best)
    # a function that is largest far out grows without bound, unless its tail is enclosed
    tails = [value((_LARGEST, math.inf))[1]] + ([] if even else [value((-math.inf, -_LARGEST))[1]])
    contained = max(tails) <= bound + 1e-9 * max(1.0, abs(bound))
    return max(bound, *tails) if contained else bound, where, contained or abs(where) < _FAR


def _middle(a: float, b: float) -> float:
    """Halving the exponent of wide boxes, the value of narrow ones."""
    if a > 0 and b / a > 4:
        return math.sqrt(a) * math.sqrt(b)
    if b < 0 and a / b > 4:
        return -math.sqrt(-a) * math.sqrt(-b)
    return a / 2 + b / 2

"""Right-hand sides whose divergences were multiplied out, put back into flux form.

    A u_xx + 2B u_xy + C u_yy + L(u, u_x, u_y, …)  =  ∂ₓF + ∂ᵧG + r(u)

with F_p = A, F_q = G_p = B, G_q = C for p = u_x, q = u_y, and L = F_u p + G_u q + …: the chain rule read backwards.
What it finds is verified by differentiating.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import sympy as sp
from sympy.integrals.manualintegrate import manualintegrate
from sympy.integrals.rationaltools import ratint
from sympy.polys.polyerrors import BasePolynomialError as PolynomialError

from .fields import Data, Parameter, Unknown, t

_WORDS = {
    sp.Abs: "abs", sp.Max: "max", sp.Min: "min", sp.sign: "sign", sp.exp: "exp", sp.log: "log", sp.sin: "sin",
    sp.cos: "cos", sp.tan: "tan", sp.tanh: "tanh", sp.sinh: "sinh", sp.cosh: "cosh", sp.atan: "atan", sp.asinh: "asinh",
}  # fmt: skip
"""The functions of the grammar that advice may contain."""

_SIZE = 400
"""Larger expressions than this many operations are left alone."""


def flux_form(right: sp.Expr, u: Unknown, x: Sequence[sp.Symbol]) -> str:
    """What to write in place of `right`, as text; empty if it is not found to be an expanded divergence."""
    try:
        return _flux_form(sp.nsimplify(right, rational=True), u, x)
    except (PolynomialError, NotImplementedError, ValueError, TypeError, ZeroDivisionError, RecursionError):
        return ""  # advice that sympy could not help to find


def _flux_form(right: sp.Expr, u: Unknown, x: Sequence[sp.Symbol]) -> str:
    fields = right.atoms(Unknown, Data) | {u}
    names = {f: sp.Symbol(str(f.func), real=True) for f in fields}
    first = {(f, a): sp.Symbol(f"d({f.func}, {a})", real=True) for f in fields for a in x}
    second = {(a, b): sp.Dummy() for i, a in enumerate(x) for b in x[i:]}
    if right.count_ops() > _SIZE:
        return ""
    opened = _opened(right.doit(), u, x, names, first, second)
    if opened is None or opened.free_symbols & set(x):
        return ""
    opened = sp.expand(opened)
    p = [first[u, a] for a in x]
    fluxes = []
    for i, a in enumerate(x):
        slope = opened.coeff(second[a, a])
        F = _integral(slope, p[i])
        if F is None:
            return ""
        fluxes.append(F)
    laws, rest = [], opened
    for F, a in zip(fluxes, x, strict=True):
        rest = rest - _total(F, a, u, names, first, second, x)
    rest = sp.simplify(rest)
    for i, a in enumerate(x):  # what remains of first derivatives is transport: h(u) u_x = ∂ₓ∫h
        h = sp.expand(rest).coeff(p[i])
        if h != 0:
            H = _integral(h, names[u])
            if H is None or h.free_symbols - {names[u], *_parameters(h)}:
                return ""
            laws.append(f"d({H}, {a})")
            rest = sp.simplify(rest - _total(H, a, u, names, first, second, x))
    if rest.free_symbols & ({*first.values(), *second.values()}):
        return ""
    if any(f.func not in _WORDS for F in (*fluxes, rest) for f in F.atoms(sp.Function)):
        return ""
    parts = [f"d({F}, {a})" for F, a in zip(fluxes, x, strict=True) if F != 0] + laws
    text = " + ".join([*parts, *([str(rest)] if rest != 0 else [])]).replace("+ -", "- ")
    for f, word in _WORDS.items():
        text = text.replace(f"{f.__name__}(", f"{word}(")
    return text if parts else ""


def _parameters(e: sp.Expr) -> set[sp.Symbol]:
    return {s for s in e.free_symbols if isinstance(s, Parameter)}


def _opened(
    e: sp.Expr,
    u: Unknown,
    x: Sequence[sp.Symbol],
    names: Mapping[sp.Expr, sp.Symbol],
    first: Mapping[tuple[sp.Expr, sp.Symbol], sp.Symbol],
    second: Mapping[tuple[sp.Symbol, sp.Symbol], sp.Symbol],
) -> sp.Expr | None:
    """Symbols for the field, its derivatives and those of data; None where others occur."""
    replaced = {}
    for D in e.atoms(sp.Derivative):
        counts = [b for a, n in D.variable_count for b in [a] * int(n)]
        if t in counts or D.expr not in names:
            return None
        if len(counts) == 1:
            replaced[D] = first[D.expr, counts[0]]
        elif len(counts) == 2 and D.expr == u:
            a, b = sorted(counts, key=list(x).index)
            replaced[D] = second[a, b]
        else:
            return None
    return e.xreplace(replaced).xreplace(names)


def _total(
    F: sp.Expr,
    a: sp.Symbol,
    u: Unknown,
    names: Mapping[sp.Expr, sp.Symbol],
    first: Mapping[tuple[sp.Expr, sp.Symbol], sp.Symbol],
    second: Mapping[tuple[sp.Symbol, sp.Symbol], sp.Symbol],
    x: Sequence[sp.Symbol],
) -> sp.Expr:
    """The derivative of F(u, p, …) along a, by the chain rule."""
    found = sp.Add(*(sp.diff(F, s) * first[f, a] for f, s in names.items()))
    for b in x:
        key = (a, b) if (a, b) in second else (b, a)
        found += sp.diff(F, first[u, b]) * second[key]
    return found


@lru_cache(maxsize=64)
def _integral(e: sp.Expr, s: sp.Symbol) -> sp.Expr | None:
    """∫₀ˢ e where a rule gives it."""
    if e == 0:
        return sp.S.Zero
    e = sp.factor(e)
    if e.is_rational_function(s):
        found = ratint(e, s)
    elif e.count_ops() <= 40:
        found = manualintegrate(e, s)
    else:
        return None
    if found.has(sp.Integral, sp.Piecewise) or found.has(sp.I):
        return None
    at_zero = found.xreplace({s: sp.S.Zero})
    return sp.factor(found - at_zero) if at_zero.is_finite else None

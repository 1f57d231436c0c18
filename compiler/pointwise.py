"""Pointwise expressions: their parity, and their NumPy meaning."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import sympy as sp

_EVEN = (sp.Abs, sp.cos, sp.cosh)
_ODD = (sp.sin, sp.tan, sp.tanh, sp.atan, sp.sinh, sp.asinh, sp.asin, sp.erf, sp.sign)


def parity_of(e: sp.Expr, of: Mapping[sp.Symbol, int]) -> int:
    """+1, −1 or 0: how e changes when its odd arguments change sign."""
    return _parity(e, frozenset(of.items()))


@lru_cache(maxsize=2**14)
def _parity(e: sp.Expr, of: frozenset[tuple[sp.Symbol, int]]) -> int:
    known: dict[sp.Expr, int] = dict(of)
    if e in known or not e.args:
        return known.get(e, 1)
    inner = [_parity(a, of) for a in e.args]
    if e.is_Mul:
        product = 1
        for p in inner:
            product *= p
        return product
    if e.is_Pow and e.exp.is_Integer:
        return int(inner[0] ** abs(int(e.exp)))
    if isinstance(e, _EVEN) and inner[0] != 0:
        return 1
    if isinstance(e, _ODD):
        return inner[0]
    if e.is_Add:
        return inner[0] if len(set(inner)) == 1 else 0
    return 1 if all(p == 1 for p in inner) else 0


def replaced(e: sp.Expr, by: Mapping[sp.Expr, sp.Expr]) -> sp.Expr:
    """e with parts replaced; unlike `xreplace` it does not compare the arguments of maxima again, which takes long."""
    if e in by:
        return by[e]
    arguments = [replaced(a, by) for a in e.args]
    if all(a is b for a, b in zip(arguments, e.args, strict=True)):
        return e
    return e.func(*arguments, **{"evaluate": False} if isinstance(e, (sp.Max, sp.Min)) else {})


_NUMPY: Mapping[Any, Callable[..., Any]] = {
    sp.exp: np.exp,
    sp.log: np.log,
    sp.sin: np.sin,
    sp.cos: np.cos,
    sp.tan: np.tan,
    sp.tanh: np.tanh,
    sp.sinh: np.sinh,
    sp.cosh: np.cosh,
    sp.atan: np.arctan,
    sp.asin: np.arcsin,
    sp.acos: np.arccos,
    sp.asinh: np.arcsinh,
    sp.Abs: np.abs,
    sp.sign: np.sign,
    sp.Heaviside: lambda x, half=0.5: np.heaviside(x, half),
    sp.Max: lambda *xs: _pairwise(np.maximum, xs),
    sp.Min: lambda *xs: _pairwise(np.minimum, xs),
}


def _pairwise(f: Callable[..., Any], xs: Sequence[Any]) -> Any:
    result = xs[0]
    for x in xs[1:]:
        result = f(result, x)
    return result


def evaluate(e: sp.Expr, slots: Mapping[sp.Symbol, np.ndarray], scalars: Mapping[str, float]) -> Any:
    """The value of an expression on arrays, by walking it."""
    if e.is_Symbol:
        return slots[e] if e in slots else scalars[e.name]
    if e.is_number:
        return float(e)
    arguments = [evaluate(a, slots, scalars) for a in e.args]
    if e.is_Add:
        return sum(arguments[1:], arguments[0])
    if e.is_Mul:
        return _pairwise(np.multiply, arguments)
    if e.is_Pow:
        with np.errstate(over="ignore"):
            return np.power(arguments[0], arguments[1])
    if e.func in _NUMPY:
        return _NUMPY[e.func](*arguments)
    raise AssertionError(f"{e.func} has no NumPy meaning; it should have been refused by the front end")


def computable(e: sp.Expr) -> sp.Expr | None:
    """The first subexpression that no backend knows, or None."""
    for sub in sp.preorder_traversal(e):
        known = sub.is_Symbol or sub.is_number or sub.is_Add or sub.is_Mul or sub.is_Pow or sub.func in _NUMPY
        if not known or sub is sp.zoo or sub is sp.nan or sub.has(sp.I):
            return sub
    return None

"""Interval arithmetic on doubles, rounded outwards: the rigorous half of every range in the project.

An interval is a pair (low, high) that contains every value of the expression on the box. Sums are rounded only
where they are inexact (TwoSum), products and quotients by one unit in the last place, library functions by
four. A high end of inf means "no bound found", and 0·inf = 0 since every quantity is finite.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

import sympy as sp

Interval = tuple[float, float]
_INF = math.inf
_MOST = sys.float_info.max


def compile_interval(e: sp.Expr, s: sp.Symbol | None) -> Callable[[Interval], Interval]:
    """The natural interval extension of `e` as a function of s.

    >>> x = sp.Symbol("x")
    >>> low, high = compile_interval(x**2 - 1, x)((-1.0, 2.0))
    >>> low, 3 <= high < 3 + 1e-14
    (-1.0, True)
    """
    if e == s:
        return lambda x: x
    if s is None or s not in e.free_symbols:
        if e.is_Rational:
            constant = _divide(_exact(int(e.p)), _exact(int(e.q)))
            return lambda x: constant
        if e.is_Float or e.is_NumberSymbol:
            v = float(e)
            near = (v, v) if e.is_Float else _wide(v, v, 1)
            return lambda x: near
    parts = [compile_interval(a, s) for a in e.args]
    if e.is_Add:
        return lambda x: _fold(_add, [p(x) for p in parts])
    if e.is_Mul:
        return lambda x: _fold(_multiply, [p(x) for p in parts])
    if e.is_Pow:
        base, exponent = parts
        if e.exp.is_Rational and abs(e.exp.p) <= 64 and e.exp.q in (1, 2):
            p, q = int(e.exp.p), int(e.exp.q)
            return lambda x: _rational_power(base(x), p, q)
        return lambda x: _exp(_multiply(exponent(x), _log(base(x))))
    if e.func in _FUNCTIONS:
        function = _FUNCTIONS[e.func]
        return lambda x: function(*(p(x) for p in parts))
    raise NotImplementedError(f"no interval rule for {e.func}")


def _exact(n: int) -> Interval:
    if abs(n) > _MOST:
        return (_MOST, _INF) if n > 0 else (-_INF, -_MOST)
    v = float(n)
    return (v, v) if int(v) == n else _wide(v, v, 1)


def _wide(low: float, high: float, ulps: int) -> Interval:
    for _ in range(ulps):
        low, high = math.nextafter(low, -_INF), math.nextafter(high, _INF)
    return low, high


def _fold(f: Callable[[Interval, Interval], Interval], values: list[Interval]) -> Interval:
    result = values[0]
    for value in values[1:]:
        result = f(result, value)
    return result


def _two_sum(a: float, b: float) -> tuple[float, bool]:
    s = a + b
    if math.isinf(s):
        return s, math.isinf(a) or math.isinf(b)
    t = s - a
    return s, (a - (s - t)) + (b - t) == 0


def _add(a: Interval, b: Interval) -> Interval:
    (low, exact_low), (high, exact_high) = _two_sum(a[0], b[0]), _two_sum(a[1], b[1])
    return (
        low if exact_low and low != _INF else math.nextafter(low, -_INF),
        high if exact_high and high != -_INF else math.nextafter(high, _INF),
    )


def _times(x: float, y: float) -> float:
    return 0.0 if x == 0 or y == 0 else x * y


def _multiply(a: Interval, b: Interval) -> Interval:
    if a == (1.0, 1.0):
        return b
    if b == (1.0, 1.0):
        return a
    if a == (-1.0, -1.0):
        return -b[1], -b[0]
    if b == (-1.0, -1.0):
        return -a[1], -a[0]
    products = [_times(x, y) for x in a for y in b]
    low, high = _wide(min(products), max(products), 1)
    if a == b == (-1.0, -1.0) or (a[0] >= 0 and b[0] >= 0) or (a[1] <= 0 and b[1] <= 0):
        low = max(low, 0.0)
    elif (a[0] >= 0 and b[1] <= 0) or (a[1] <= 0 and b[0] >= 0):
        high = min(high, 0.0)
    return low, high


def _divide(a: Interval, b: Interval) -> Interval:
    if b == (1.0, 1.0):
        return a
    return _multiply(a, _reciprocal(b))


def _reciprocal(b: Interval) -> Interval:
    if b[0] <= 0 <= b[1]:
        if b[0] == 0 < b[1]:
            return max(0.0, math.nextafter(1 / b[1], 0.0)), _INF
        if b[1] == 0 > b[0]:
            return -_INF, min(0.0, math.nextafter(1 / b[0], 0.0))
        return -_INF, _INF
    if b[0] == b[1] and math.frexp(b[0])[0] in (0.5, -0.5):
        return 1 / b[0], 1 / b[0]
    low, high = _wide(1 / b[1], 1 / b[0], 1)
    return (max(low, 0.0), high) if b[0] > 0 else (low, min(high, 0.0))


def _rational_power(x: Interval, p: int, q: int) -> Interval:
    if q == 2:
        if x[0] < 0:
            x = (0.0, max(x[1], 0.0))
        low, high = _wide(math.sqrt(x[0]), math.sqrt(x[1]), 1)
        x = (max(low, 0.0), high)
    n = abs(p)
    if n % 2 == 0 and x[0] < 0 < x[1]:
        power = (0.0, _int_power((0.0, max(-x[0], x[1])), n)[1])
    elif n % 2 == 0 and x[1] <= 0:
        power = _int_power((-x[1], -x[0]), n)
    elif x[0] >= 0:
        power = _int_power(x, n)
    else:
        power = (
            -_int_power((abs(x[0]),) * 2, n)[1] if x[0] < 0 else 0.0,
            math.copysign(1, x[1]) * _int_power((abs(x[1]),) * 2, n)[x[1] > 0],
        )
    return power if p >= 0 else _reciprocal(power)


def _int_power(x: Interval, n: int) -> Interval:
    """x ≥ 0."""
    result = (1.0, 1.0)
    for _ in range(n):
        result = _multiply(result, x)
    return result


def _exp(x: Interval) -> Interval:
    def at(v: float) -> float:
        return 0.0 if v < -745.2 else _INF if v > 709.7 else math.exp(v)

    low, high = _wide(at(x[0]), at(x[1]), 4)
    if x[1] <= 0:
        high = min(high, 1.0)
    if x[0] >= 0:
        low = max(low, 1.0)
    return max(low, 0.0), high


def _log(x: Interval) -> Interval:
    low = math.log(x[0]) if x[0] > 0 else -_INF
    high = math.log(x[1]) if 0 < x[1] < _INF else _INF
    return _wide(low, high, 4)


def _increasing(f: Callable[[float], float], low: float = -_INF, high: float = _INF) -> Callable[[Interval], Interval]:
    def bounded(x: Interval) -> Interval:
        a, b = _wide(f(x[0]), f(x[1]), 4)  # all of these vanish at zero, and only there
        a, b = (max(a, 0.0) if x[0] >= 0 else a), (min(b, 0.0) if x[1] <= 0 else b)
        return max(a, low), min(b, high)

    return bounded


def _abs(x: Interval) -> Interval:
    if x[0] >= 0:
        return x
    return (-x[1], -x[0]) if x[1] <= 0 else (0.0, max(-x[0], x[1]))


def _cosine(x: Interval) -> Interval:
    if not (abs(x[0]) < 1e8 and abs(x[1]) < 1e8) or x[1] - x[0] >= 2 * math.pi:
        return -1.0, 1.0
    low, high = sorted((math.cos(x[0]), math.cos(x[1])))
    first, last = math.ceil(x[0] / math.pi - 1e-6), math.floor(x[1] / math.pi + 1e-6)
    for k in range(first, last + 1):
        low, high = (low, 1.0) if k % 2 == 0 else (-1.0, high)
    low, high = _wide(low, high, 4)
    return max(low, -1.0), min(high, 1.0)


def _sinh(v: float) -> float:
    return math.copysign(_INF, v) if abs(v) > 709 else math.sinh(v)


def _cosh(x: Interval) -> Interval:
    a = _abs(x)
    half = (0.5, 0.5)
    return _multiply(half, _add(_exp(a), _exp((-a[1], -a[0]))))


_FUNCTIONS: dict[type, Callable[..., Interval]] = {
    sp.exp: _exp,
    sp.log: _log,
    sp.Abs: _abs,
    sp.cos: _cosine,
    sp.sin: lambda x: _cosine(_add(x, _wide(-math.pi / 2, -math.pi / 2, 1))),
    sp.tanh: _increasing(math.tanh, -1.0, 1.0),
    sp.atan: _increasing(math.atan),
    sp.sinh: _increasing(_sinh),
    sp.asinh: _increasing(math.asinh),
    sp.erf: _increasing(math.erf, -1.0, 1.0),
    sp.cosh: _cosh,
    sp.Max: lambda *xs: (max(x[0] for x in xs), max(x[1] for x in xs)),
    sp.Min: lambda *xs: (min(x[0] for x in xs), min(x[1] for x in xs)),
    sp.sign: lambda x: (float((x[0] > 0) - (x[0] < 0)), float((x[1] > 0) - (x[1] < 0))),
    sp.Heaviside: lambda x, *_: (float(x[0] > 0), float(x[1] >= 0)),
}

"""Von Neumann analysis of transport and diffusion along periodic axes: is |R(−τλ(θ))| ≤ 1 for every frequency θ?

With x = cos θ the symbol of −f is λ = d(x) + i sin θ q(x), where d and q are polynomials: d of the diffusive part, q of
the centred difference. For R = N/D then |D|² − |N|² is a polynomial in x with rational coefficients, and its sign on
[−1, 1] is decided exactly, by isolating its roots.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import sympy as sp

from .schemes.amplification import OneStep
from .stencil import Stencil, fraction, rational

X = sp.Symbol("x")
_ONE = sp.Poly(1, X, domain="QQ")
Symbol = tuple[sp.Poly, sp.Poly]
"""d and q."""


def diffusive(K: Stencil, axis: int) -> sp.Poly:
    """|k̂|² as a polynomial in x."""
    terms = K.symbol_squared().terms
    return sp.Poly({(powers[axis],): rational(c) for powers, c in terms.items()} or {(0,): 0}, X, domain="QQ")


def centred(T: Stencil, axis: int) -> sp.Poly:
    """q with t̂ = i sin θ q(x) = i Σ 2w_j sin jθ."""
    total = sp.Poly(0, X, domain="QQ")
    for offset, w in T.taps().items():
        j = offset[axis] // 2
        if j > 0:
            total += 2 * rational(fraction(w)) * sp.Poly(sp.chebyshevu(j - 1, X), X, domain="QQ")
    return total


def stable(R: OneStep, symbol: Symbol, tau: Fraction) -> bool:
    """Is |R(−τλ)| ≤ 1 for every θ? Decided exactly."""
    d, q = (p * -rational(tau) for p in symbol)
    excess = _modulus(R, d, q)
    if excess.is_zero:
        return True
    if excess.eval(1) < 0 or excess.eval(-1) < 0:
        return False
    for factor, multiplicity in excess.sqf_list()[1]:
        inside = factor.count_roots(-1, 1) - sum(factor.eval(end) == 0 for end in (-1, 1))
        if multiplicity % 2 and inside:
            return False
    return bool(
        next(excess.eval(p) > 0 for p in map(sp.Rational, ("1/3", "1/5", "1/7", "2/7", "3/7")) if excess.eval(p))
    )


def _modulus(R: OneStep, d: sp.Poly, q: sp.Poly) -> sp.Poly:
    """|D|² − |N|² at z = d + i sin θ q."""
    sine = _ONE - sp.Poly(X**2, X, domain="QQ")
    total = sp.Poly(0, X, domain="QQ")
    for p, sign in zip(R.polynomials(), (-1, 1), strict=True):
        re, im = sp.Poly(0, X, domain="QQ"), sp.Poly(0, X, domain="QQ")
        for c in p.all_coeffs():  # Horner
            re, im = re * d - sine * im * q + c, re * q + im * d
        total += sign * (re * re + sine * im * im)
    return total


def limit(R: OneStep, symbol: Callable[[Fraction], Symbol]) -> tuple[Fraction, bool]:
    """The largest τ ≤ 2³⁰ that is stable together with its halves, and whether it is exact and not a number below it.

    `symbol` gives d and q, which may depend on τ.
    """
    low, high = Fraction(0), Fraction(1)
    for k in range(-30, 31):
        high = Fraction(2) ** k
        if not stable(R, symbol(high), high):
            break
        low = high
    else:
        return high, True
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if stable(R, symbol(middle), middle) else (low, middle)
    nice = high.limit_denominator(1000)
    if low == 0:
        return low, True
    if low <= nice <= high and stable(R, symbol(nice), nice):
        return nice, True
    return low, False


def most_growing(R: OneStep, symbol: Symbol, tau: float) -> tuple[float, float]:
    """The frequency of 64 at which |R| is largest, and |R| there."""
    theta = 2 * np.pi * np.arange(64) / 64
    d, q = (np.polyval([float(c) for c in p.all_coeffs()], np.cos(theta)) for p in symbol)
    z = -tau * (d + 1j * np.sin(theta) * q)
    N, D = (np.polyval([float(c) for c in p.all_coeffs()], z) for p in R.polynomials())
    size = np.abs(N / D)
    k = int(size.argmax())
    return float(theta[k]), float(size[k])

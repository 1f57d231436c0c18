"""Conservation laws ∂ₜu = −∂ₓF(u): values at the faces from both sides, and the numerical flux between them.

    F̂ = (F(u₋) + F(u₊))/2 − max(|F'(u₋)|, |F'(u₊)|)/2 · (u₊ − u₋)                                    (Rusanov)

(Rusanov, USSR Comput. Math. Math. Phys. 1 (1962) 304–320, doi:10.1016/0041-5553(62)90062-9). u₋ and u₊ are the values
of the neighbours ("constant"), those of limited slopes (van Leer, J. Comput. Phys. 32 (1979) 101–136,
doi:10.1016/0021-9991(79)90145-1), or of weighted parabolas (Jiang, Shu, J. Comput. Phys. 126 (1996) 202–228,
doi:10.1006/jcph.1996.0130).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import sympy as sp

from . import ops
from .errors import UnsupportedTermError
from .fields import Data, Unknown, t
from .graph import Builder, Value
from .grid import Axis, Location, Parity
from .pointwise import replaced
from .problem import Law
from .stencil import Product, Stencil

RECONSTRUCTIONS = ("constant", "minmod", "van-leer", "mc", "weno5")
_TINY = sp.Float(1e-30)


def _same_sign(a: sp.Expr, b: sp.Expr) -> sp.Expr:
    """±1 where a and b have one sign, else 0."""
    return (sp.sign(a) + sp.sign(b)) / 2


def limited(kind: str, a: sp.Expr, b: sp.Expr) -> sp.Expr:
    """The slope between the differences a and b to the left and to the right: 0 where they differ in sign."""
    low, high = sp.Abs(a), sp.Abs(b)
    size = {
        "minmod": sp.Min(low, high, evaluate=False),  # nothing is known of which is smaller, and to ask takes long
        "mc": sp.Min(2 * low, 2 * high, (low + high) / 2, evaluate=False),
        "van-leer": 2 * low * high / (low + high + _TINY),
    }[kind]
    return _same_sign(a, b) * size


def weighted(v: list[sp.Symbol]) -> sp.Expr:
    """u₋ at a face from five values, two beyond the neighbour on its far side, in the direction of the face."""
    a, b, c, d, e = v
    parabolas = ((2 * a - 7 * b + 11 * c) / 6, (-b + 5 * c + 2 * d) / 6, (2 * c + 5 * d - e) / 6)
    smooth = (
        sp.Rational(13, 12) * (a - 2 * b + c) ** 2 + (a - 4 * b + 3 * c) ** 2 / 4,
        sp.Rational(13, 12) * (b - 2 * c + d) ** 2 + (b - d) ** 2 / 4,
        sp.Rational(13, 12) * (c - 2 * d + e) ** 2 + (3 * c - 4 * d + e) ** 2 / 4,
    )
    weights = [w / (sp.Float(1e-6) + s) ** 2 for w, s in zip((0.1, 0.6, 0.3), smooth, strict=True)]
    total = sp.Add(*weights)
    return sp.Add(*(w * p for w, p in zip(weights, parabolas, strict=True))) / total


def slope_of(F: sp.Expr, s: sp.Symbol) -> sp.Expr:
    """dF/ds of a real variable; at a jump of sign(s) as to its left or right."""
    return sp.diff(F, s).replace(sp.DiracDelta, lambda *_: sp.S.Zero)


def jumps(slope: sp.Expr, s: sp.Symbol) -> list[float] | None:
    """The jumps of a function with this derivative, by its impulses; None where they are not known, as for impulses
    whose places are no roots of linear functions."""
    slope, found = sp.expand(slope), list[float]()
    for impulse in sorted(slope.atoms(sp.DiracDelta), key=str):
        where, height = impulse.args[0], slope.coeff(impulse)
        slope = sp.expand(slope - height * impulse)
        if len(impulse.args) > 1 or slope.has(impulse) or not where.is_polynomial(s) or sp.degree(where, s) != 1:
            return None
        a, b = sp.Poly(where, s).all_coeffs()
        height = height.subs(s, -b / a) / abs(a)
        if not (height.is_number and height.is_finite):
            return None
        found += [float(height)] if height != 0 else []
    return found


def wave_speed(fluxes: dict[sp.Expr, sp.Expr]) -> sp.Expr | None:
    """The largest eigenvalue of ∂F/∂u in absolute value; None where its characteristic polynomial has factors of more
    than second degree.

    Raises `UnsupportedTermError` where eigenvalues are not real.
    """
    names = {u: sp.Dummy(str(u.func), real=True) for u in fluxes}
    back = {s: u for u, s in names.items()}
    J = sp.Matrix([[slope_of(F.xreplace(names), s) for s in back] for F in fluxes.values()])
    if len(back) == 1:
        return sp.Abs(J[0, 0].xreplace(back))
    c = sp.Dummy("c", real=True)
    p = sp.numer(sp.together(sp.Add(*(a * c**k for k, a in enumerate(reversed(J.charpoly().all_coeffs()))))))
    several = len(back) > 2  # decimals are taken at their word, or nothing factors
    parts = sp.Mul.make_args(sp.factor(sp.nsimplify(p, rational=True))) if several else [p]
    factors = [sp.Poly(factor, c).all_coeffs() for factor in parts]
    middles = dict[sp.Expr, sp.Expr]()  # c = middle ± √spread
    for a, *rest in (f for f in factors if len(f) > 1):
        if len(rest) > 2:
            return None
        middle = sp.simplify(-rest[0] / (len(rest) * a))
        spread = sp.simplify(middle**2 - rest[1] / a) if len(rest) == 2 else sp.S.Zero
        if spread.is_negative:
            raise UnsupportedTermError(
                f"the equations of {', '.join(str(u.func) for u in fluxes)} have no real wave speeds: they are not "
                f"hyperbolic, and no step is stable"
            )
        middles[middle] = sp.Max(middles.get(middle, 0), spread)
    speeds = [sp.Abs(middle) + sp.sqrt(sp.Max(spread, 0)) for middle, spread in middles.items()]
    return sp.Max(*speeds).xreplace(back)


@dataclass(frozen=True)
class DiscreteLaw:
    """−∂ₐF by finite volumes along a periodic axis."""

    law: Law
    speed: sp.Expr
    """The largest wave speed along the axis, of all laws together."""
    field: sp.Expr
    """The one that is conserved."""
    reconstruction: str
    axes: tuple[Axis, ...]
    label: str

    @property
    def axis(self) -> Axis:
        return self.axes[self.law.axis]

    @property
    def faces(self) -> Location:
        """Where F̂ lies."""
        return tuple(int(a is self.axis) for a in self.axes)

    @property
    def where(self) -> Location:
        """Where coefficients are read: on the faces, or a speed at the nodes."""
        return (0,) * len(self.axes) if self.law.advective else self.faces

    def rate(
        self, builder: Builder, names: dict[sp.Expr, str], coordinates: dict[sp.Symbol, str], parity: Parity
    ) -> Value:
        """K* F̂ ≈ −∂F; `coordinates` are those that F reads, at the faces."""
        if self.law.advective:
            return self._carried(builder, names, coordinates)
        e, slots = self.law.flux, dict(coordinates)
        ends: list[tuple[sp.Expr, sp.Expr]] = []
        x = self.axis.name
        for f in sorted(sp.Tuple(e, self.speed, self.field).atoms(Unknown, Data), key=str):
            pair = sp.symbols(f"{f.func}_low {f.func}_high", real=True)
            values = self._ends(builder, names[f], isinstance(f, Unknown))
            slots |= dict(zip(pair, values, strict=True))
            ends.append((f, pair))
        low, high = ({f: pair[i] for f, pair in ends} for i in (0, 1))
        fastest = sp.Max(replaced(self.speed, low), replaced(self.speed, high))
        F = (replaced(e, low) + replaced(e, high)) / 2 - fastest / 2 * (high[self.field] - low[self.field])
        F = replaced(F, {t: builder.now})
        used = {s: n for s, n in slots.items() if s in F.free_symbols}
        flux = builder.add(ops.Flux(F, tuple(used), self.label), *used.values(), hint=self.label)
        K = Stencil.build({self.faces: sp.S.One}, self.axes)
        return builder.value(ops.AdjointStencil(K, f"K_{x}", parity), flux, hint=self.label.replace("F", "inflow", 1))

    def _carried(self, builder: Builder, names: dict[sp.Expr, str], coordinates: dict[sp.Symbol, str]) -> Value:
        """−max(a, 0) δ⁻u − min(a, 0) δ⁺u, with the differences of the values at the faces as the wind meets them."""
        a, slots = self.law.flux, dict(coordinates)
        for f in sorted(a.atoms(Unknown, Data), key=str):
            s = sp.Symbol(f"{f.func}_here", real=True)
            a, slots[s] = a.xreplace({f: s}), names[f]
        a = a.xreplace({t: builder.now})
        used, faces = {p: n for p, n in slots.items() if p in a.free_symbols}, self.faces
        K = Stencil.build({faces: sp.S.One}, self.axes, 2, source=faces, target=self.where)
        behind, ahead = sp.symbols("behind ahead", real=True)
        known = tuple((1, 1) if axis.periodic else (0, 0) for axis in self.axes)  # values of neighbours have no parity
        for s, v in zip((behind, ahead), self._ends(builder, names[self.field], True), strict=True):
            op = ops.Stencil(K, f"D_{self.axis.name}", known)
            used[s] = builder.add(op, v, hint=f"{{0}}_{self.axis.name}")
        e = -sp.Max(a, 0) * behind - sp.Min(a, 0) * ahead
        return builder.value(ops.Flux(e, tuple(used), self.label), *used.values(), hint=self.label)

    def _ends(self, builder: Builder, u: str, reconstructed: bool) -> tuple[str, str]:
        """Values at the faces, from the low and from the high side."""
        kind = self.reconstruction if reconstructed else "constant"
        if kind == "constant":
            return self._shifted(builder, u, -1), self._shifted(builder, u, 1)
        reach = 5 if kind == "weno5" else 3
        found = []
        for side, name in ((1, "low"), (-1, "high")):  # the high side is the low one reflected
            symbols = list(sp.symbols(f"v0:{reach}", real=True))
            offsets = [side * (2 * i - reach) for i in range(len(symbols))]
            if kind == "weno5":
                e = weighted(symbols)
            else:
                a, b, c = symbols
                e = b + limited(kind, b - a, c - b) / 2
            values = [self._shifted(builder, u, j) for j in offsets]
            found.append(builder.add(ops.Flux(e, tuple(symbols), f"u_{name}"), *values, hint=f"{{0}}_{name}"))
        return found[0], found[1]

    def _shifted(self, builder: Builder, u: str, offset: int) -> str:
        """The nodes at a distance of so many half cells from the faces, as values at the faces."""
        here, one = ((0, Fraction(1)),), ((offset, Fraction(1)),)
        none = (0,) * len(self.axes)
        taps = tuple(one if a is self.axis else here for a in self.axes)
        S = Stencil((Product(sp.S.One, none, taps),), none, self.faces, self.axes)
        place = builder.graph.nodes[u]["place"]
        side, cells = "low" if offset < 0 else "high", (abs(offset) + 1) // 2
        hint = f"{{0}}_{side}" + f"{cells}" * (cells > 1)
        return builder.add(ops.Stencil(S, f"S_{self.axis.name}", place.parity, place.walls), u, hint=hint)

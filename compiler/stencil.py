"""K: a linear difference operator with its boundary treatment, its exact adjoint, its symbol and its norm.

    K = Σ_m α_m ∏_a S_{m_a},      S_m u(x) ≈ ∂ₓᵐ u(x) = h⁻ᵐ Σ_j w_j u(x + j h/2)

The weights w are derived in exact rational arithmetic for the derivative order, the accuracy order and the
place where the value lies (Fornberg, Math. Comp. 51 (1988) 699–706, doi:10.1090/S0025-5718-1988-0935077-0).

Values beyond the boundary follow from the mirror planes (see grid.py), so K is a matrix; `apply` and `adjoint`
are that matrix and its transpose in the inner product with weight ½ on the planes (only there different from
the plain one, and only where a value on a plane does not vanish):  ⟨K u, v⟩_W = ⟨u, K* v⟩,  K* = KᵀW.

If every part is even or odd about the planes, K restricts a periodic operator to a symmetric subspace, hence
‖W^½ K‖² ≤ sup_ξ |k̂(ξ)|², and the supremum of that trigonometric polynomial is taken exactly, by its Bernstein
coefficients in the variables cos θ.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property, lru_cache
from typing import Any

import numpy as np
import scipy.sparse
import sympy as sp

from .errors import DiscretisationError
from .grid import Axis, Location, Parity, Walls, along_wall, exact

Taps = tuple[tuple[int, Fraction], ...]
"""(offset in half cells, weight), for h = 1."""


MAX_ORDER = 8

MAX_REACH = 128
"""So many nodes away a Gaussian may read."""

ACCURACIES = (2, 4, 6, 8)


@cache
def derive(order: int, location: int, accuracy: int) -> Taps:
    """The shortest symmetric stencil for ∂ᵐ at distance `location` half cells from the nodes.

    >>> [(j, str(w)) for j, w in derive(1, 1, 4)]
    [(-3, '1/24'), (-1, '-9/8'), (1, '9/8'), (3, '-1/24')]
    """
    if order > MAX_ORDER:
        raise DiscretisationError(
            f"a derivative of order {order} inside a flux; stencils are derived up to {MAX_ORDER}"
        )
    if order == 0 and location == 0:
        return ((0, Fraction(1)),)
    count = order + 1 if (order + location) % 2 == 0 else order + 2
    count += accuracy - 2
    offsets = range(-(count - 1), count, 2)
    points = [sp.Rational(j, 2) for j in offsets]
    weights = sp.finite_diff_weights(order, points, 0)[order][-1]
    return tuple((j, Fraction(int(w.p), int(w.q))) for j, w in zip(offsets, weights, strict=True) if w != 0)


@dataclass(frozen=True)
class Product:
    """α ∏_a S_{m_a}: one derivative, a product of one-dimensional stencils."""

    coefficient: sp.Expr
    orders: tuple[int, ...]
    taps: tuple[Taps, ...]


@dataclass(frozen=True)
class Orbit:
    """One weight of a learned stencil, and the signed taps it multiplies."""

    weight: sp.Expr
    pattern: tuple[tuple[tuple[int, ...], int], ...]

    @property
    def l1(self) -> int:
        return sum(abs(c) for _, c in self.pattern)


@dataclass(frozen=True)
class Stencil:
    """The operator K from values at `source` to values at `target` on the given axes, or between two fields that are
    staggered against each other from the nodes of one to those of the other, whose axes are `into`."""

    products: tuple[Product, ...]
    source: Location
    target: Location
    axes: tuple[Axis, ...]
    into: tuple[Axis, ...] = ()

    @classmethod
    def build(
        cls,
        derivative: Mapping[tuple[int, ...], sp.Expr],
        axes: tuple[Axis, ...],
        accuracy: int = 2,
        source: Location | None = None,
        target: Location | None = None,
    ) -> Stencil:
        """Discretise Σ_m α_m ∂^m. Without `target`, the value lies where its highest derivative along each axis
        has its narrowest stencil: odd orders on the faces, even ones on the nodes."""
        source = source or (0,) * len(axes)
        if target is None:
            highest = [max(m[a] for m in derivative) for a in range(len(axes))]
            target = tuple((s + m) % 2 for s, m in zip(source, highest, strict=True))
        products = []
        for orders, coefficient in sorted(derivative.items(), reverse=True):
            shift = tuple((b - a) % 2 for a, b in zip(source, target, strict=True))
            taps = tuple(derive(m, j, accuracy) for m, j in zip(orders, shift, strict=True))
            products.append(Product(sp.sympify(coefficient), orders, taps))
        return cls(tuple(products), source, target, axes)

    @classmethod
    def across(cls, orders: tuple[int, ...], axes: tuple[Axis, ...], into: tuple[Axis, ...], accuracy: int) -> Stencil:
        """The derivative ∂^orders of one field where the values of another lie."""
        taps = []
        for m, here, there in zip(orders, axes, into, strict=True):
            shift = there.shift - here.shift
            taps.append(tuple((j + shift, w) for j, w in derive(m, abs(shift), accuracy)))
        nodes = (0,) * len(axes)
        return cls((Product(sp.S.One, orders, tuple(taps)),), nodes, nodes, axes, into)

    @classmethod
    def of(cls, taps: Mapping[tuple[int, ...], sp.Expr], axes: tuple[Axis, ...]) -> Stencil:
        """The stencil with the given taps from the nodes to the nodes, even in every axis; offsets in half cells."""
        even, nodes = (0,) * len(axes), (0,) * len(axes)
        products = (Product(w, even, tuple(((i, Fraction(1)),) for i in j)) for j, w in sorted(taps.items()))
        return cls(tuple(products), nodes, nodes, axes)

    @classmethod
    def gaussian(cls, a: int, sigma: sp.Expr, axes: tuple[Axis, ...]) -> Stencil:
        """The mean along an axis with the weights of a Gaussian of standard deviation `sigma`, cut off at 3 sigma; they
        are rounded to multiples of 2⁻¹⁶ and sum to one."""
        width = float(sigma) / float(axes[a].spacing)
        reach = math.ceil(3 * width)
        if reach > MAX_REACH:
            raise DiscretisationError(
                f"smooth(…, {float(sigma):g}) along {axes[a].name} reaches over {reach} nodes of spacing "
                f"{float(axes[a].spacing):g}; the limit is {MAX_REACH}"
            )
        shape = [math.exp(-((j / width) ** 2) / 2) for j in range(1, reach + 1)]
        whole = 2**16
        side = [round(whole * w / (1 + 2 * sum(shape))) for w in shape]
        weights = {0: whole - 2 * sum(side), **{s * j: w for j, w in enumerate(side, 1) if w for s in (-1, 1)}}
        line = tuple((2 * j, Fraction(w, whole)) for j, w in sorted(weights.items()))
        nodes, here = (0,) * len(axes), ((0, Fraction(1)),)
        taps = tuple(line if b == a else here for b in range(len(axes)))
        return cls((Product(sp.S.One, nodes, taps),), nodes, nodes, axes)

    @property
    def dimension(self) -> int:
        return len(self.axes)

    @property
    def radius(self) -> tuple[int, ...]:
        """Largest offset along each axis, in half cells."""
        return tuple(max(abs(j) for p in self.products for j, _ in p.taps[a]) for a in range(self.dimension))

    def scale(self, product: Product) -> sp.Expr:
        """α ∏ h_a^{−m_a}."""
        powers = [axis.spacing**-m for axis, m in zip(self.axes, product.orders, strict=True)]
        number = math.prod(powers, start=Fraction(1))
        return product.coefficient * sp.Rational(number.numerator, number.denominator)

    @cached_property
    def parts(self) -> dict[tuple[int, ...], Stencil]:
        """K split by the parity of its derivatives: (m_a mod 2)_a ↦ part."""
        groups: dict[tuple[int, ...], list[Product]] = {}
        for product in self.products:
            groups.setdefault(tuple(m % 2 for m in product.orders), []).append(product)
        if len(groups) == 1:
            return dict.fromkeys(groups, self)
        return {key: Stencil(tuple(group), self.source, self.target, self.axes) for key, group in groups.items()}

    @property
    def flips(self) -> tuple[int, ...] | None:
        """Per axis 1 if K turns even into odd, 0 if it keeps parity; None if its parts disagree."""
        return next(iter(self.parts)) if len(self.parts) == 1 else None

    def parity(self, of: Parity) -> Parity:
        """The parity of K v for a value v of the given parity."""
        if self.flips is None or self.into:
            return tuple((1, 1) if axis.periodic else (0, 0) for axis in self.axes)
        return tuple(
            (1, 1) if axis.periodic else (low * (-1) ** m, high * (-1) ** m)
            for (low, high), m, axis in zip(of, self.flips, self.axes, strict=True)
        )

    def taps(self) -> dict[tuple[int, ...], sp.Expr]:
        """All taps of the multi-dimensional kernel with their weights, offsets in half cells."""
        kernel: dict[tuple[int, ...], sp.Expr] = {}
        for product in self.products:
            scale = self.scale(product)
            for combination in itertools.product(*product.taps):
                offset = tuple(j for j, _ in combination)
                weight = math.prod((w for _, w in combination), start=Fraction(1))
                kernel[offset] = kernel.get(offset, 0) + scale * sp.Rational(weight.numerator, weight.denominator)
        return {offset: weight for offset, weight in sorted(kernel.items()) if weight != 0}

    def orbits(self) -> list[Orbit]:
        """The kernel as Σ_g w_g · pattern_g, one free weight per orbit of taps under reflection of the axes.

        A pattern keeps the parity of its part, and where the part has no term of order zero its taps sum to
        zero: so for any weights constants are annihilated and K* stays the adjoint at the boundary.
        """
        found = []
        for flips, part in self.parts.items():
            kernel, centre = part.taps(), (0,) * self.dimension
            zero_sum = not any(flips) and all(any(p.orders) for p in part.products)
            for key in sorted({tuple(map(abs, j)) for j in kernel}):
                if zero_sum and key == centre:
                    continue
                members = [j for j in kernel if tuple(map(abs, j)) == key]
                signs = {
                    j: math.prod(1 if i >= 0 else (-1) ** m for i, m in zip(j, flips, strict=True)) for j in members
                }
                pattern = {**signs, centre: -len(members)} if zero_sum else signs
                found.append(Orbit(kernel[max(members)], tuple(sorted(pattern.items()))))
        return found

    # --- the matrix -------------------------------------------------------------------------------------

    def apply(
        self,
        u: np.ndarray,
        shape: tuple[int, ...],
        parity: Parity,
        values: Mapping[str, float],
        walls: Walls = (),
    ) -> np.ndarray:
        """K u; `u` holds the closed domain in its last axes, `shape` counts the nodes."""
        found = self._found.get((shape, parity, bool(walls)))
        if found is None:
            found = [self._discrete(p, shape, parity, bool(walls)) for p in self.products]
            self._found[shape, parity, bool(walls)] = found
        parts = []
        for scale, (K, lifts) in zip(self._scales, found, strict=True):
            part = K @ u
            for a, end, positions, lift in lifts:
                if walls[a][end] != 0:
                    part = part + lift @ along_wall(walls[a][end], self.axes, a, end, positions, values)
            parts.append(part * number(scale, values))
        return sum(parts[1:], parts[0])

    def _discrete(
        self, p: Product, shape: tuple[int, ...], parity: Parity, walls: bool
    ) -> tuple[Kronecker, list[tuple[int, int, list[np.ndarray], Kronecker]]]:
        """The matrix of a derivative, and with `walls` for every axis and end what the values there add to K u: where
        they are read, and their matrix. u is continued along one axis after the other: values of a wall are known
        beyond the ends of the axes before, and continued along the ones behind it."""
        matrices, lifts = [self._matrix(a, p.taps[a], n, parity[a]) for a, n in enumerate(shape)], []
        for (a, n), end in itertools.product(enumerate(shape) if walls else (), (0, 1)):
            into = (self.into or self.axes)[a]
            offsets = _offsets(self.axes[a], into, p.taps[a], self.source[a], self.target[a], n, parity[a])[:, end]
            if not offsets.any():
                continue
            positions, along = list[np.ndarray](), list[scipy.sparse.csr_array]()
            for b, m in enumerate(shape):
                rows = (self.into or self.axes)[b].positions(self.target[b], m)
                if b < a:
                    reach = [j for j, _ in p.taps[b]]
                    positions.append(np.arange(rows[0] + min(reach), rows[-1] + max(reach) + 1, 2))
                    along.append(_spread(p.taps[b], len(rows), len(positions[b])))
                else:
                    positions.append(self.axes[b].positions(self.source[b], m))
                    along.append(matrices[b] if b > a else scipy.sparse.csr_array(offsets[:, None]))
            lifts.append((a, end, positions, Kronecker(along)))
        return Kronecker(matrices), lifts

    def adjoint(self, v: np.ndarray, shape: tuple[int, ...], parity: Parity, values: Mapping[str, float]) -> np.ndarray:
        """K* v = KᵀW v, for K acting on values of the given parity; beside open sides the reflected stencil, which
        reads the flux through the boundary as it is."""
        found = self._transposes.get((shape, parity))
        if found is None:
            found = self._transposes[shape, parity] = [
                Kronecker([self._transposed(a, p.taps[a], n, parity) for a, n in enumerate(shape)])
                for p in self.products
            ]
        parts = [K @ v * number(scale, values) for scale, K in zip(self._scales, found, strict=True)]
        return sum(parts[1:], parts[0])

    @cached_property
    def _scales(self) -> list[sp.Expr]:
        return [self.scale(p) for p in self.products]

    @cached_property
    def _found(self) -> dict[Any, list[tuple[Kronecker, list[tuple[int, int, list[np.ndarray], Kronecker]]]]]:
        """What `_discrete` says of every derivative, by its arguments."""
        return {}

    @cached_property
    def _transposes(self) -> dict[Any, list[Kronecker]]:
        return {}

    def _matrix(self, a: int, taps: Taps, n: int, parity: tuple[int, int]) -> scipy.sparse.csr_array:
        into = (self.into or self.axes)[a]
        return _difference_matrix(self.axes[a], into, taps, self.source[a], self.target[a], n, parity)

    def _transposed(self, a: int, taps: Taps, n: int, parity: Parity) -> scipy.sparse.csr_array:
        axis = self.axes[a]
        if not axis.open:  # ⟨·,·⟩ = Σ over the nodes, each once
            into, out = (
                scipy.sparse.diags_array(axis.weights(at[a], n) ** s) for at, s in ((self.target, 1), (self.source, -1))
            )
            return out @ self._matrix(a, taps, n, parity[a]).T @ into
        reflected = tuple((-offset, weight) for offset, weight in taps)
        flux = self.parity(parity)[a]
        return _difference_matrix(axis, axis, reflected, self.target[a], self.source[a], n, flux)

    # --- the symbol and the norm ------------------------------------------------------------------------

    def symbol_squared(self) -> Polynomial:
        """|k̂(θ)|² as a polynomial in c_a = cos θ_a, for numeric coefficients and one parity."""
        kernel = [(j, fraction(w)) for j, w in self.taps().items()]
        total = Polynomial.zero(self.dimension)
        for (i, v), (j, w) in itertools.product(kernel, repeat=2):
            total = total + Polynomial.cosines(tuple(abs(x - y) // 2 for x, y in zip(i, j, strict=True))) * (v * w)
        return total


class Kronecker:
    """⨂_a M_a on the last axes of arrays, a factor for every axis along which it is not the identity."""

    def __init__(self, along: Sequence[scipy.sparse.csr_array]) -> None:
        sizes = [m.shape[1] for m in along]
        self.factors = []
        for a, m in enumerate(along):
            if not _is_identity(m):
                self.factors.append(_between(m, math.prod(sizes[:a]), math.prod(sizes[a + 1 :])))
            sizes[a] = m.shape[0]
        self.sizes = sizes

    def __matmul__(self, u: np.ndarray) -> np.ndarray:
        lead = u.shape[: u.ndim - len(self.sizes)]
        columns = u.reshape(math.prod(lead), -1).T
        for factor in self.factors:
            columns = factor @ columns
        return columns.T.reshape(*lead, *self.sizes)


def _is_identity(m: scipy.sparse.csr_array) -> bool:
    n = m.shape[0]
    return bool(m.shape == (n, n) and m.nnz == n and (m.indices == np.arange(n)).all() and (m.data == 1).all())


def _between(m: scipy.sparse.csr_array, before: int, after: int) -> scipy.sparse.csr_array:
    """I ⊗ m ⊗ I, in a quarter of the time of `scipy.sparse.kron`."""
    m, b, a = m.tocoo(), np.arange(before)[:, None, None], np.arange(after)
    rows, columns = ((b * n + at[:, None]) * after + a for n, at in zip(m.shape, m.coords, strict=True))
    entries = np.broadcast_to(m.data[:, None], rows.shape)
    shape = tuple(before * n * after for n in m.shape)
    return scipy.sparse.csr_array((entries.ravel(), (rows.ravel(), columns.ravel())), shape=shape)


@lru_cache(maxsize=4096)
def _difference_matrix(
    axis: Axis, into: Axis, taps: Taps, source: int, target: int, n: int, parity: tuple[int, int]
) -> scipy.sparse.csr_array:
    """The matrix of a one-dimensional stencil on values of the given parity."""
    rows = into.positions(target, n)
    parts = [axis.continued(rows + offset, source, n, parity)[0] * float(weight) for offset, weight in taps]
    return sum(parts[1:], parts[0])


def _spread(taps: Taps, rows: int, columns: int) -> scipy.sparse.csr_array:
    """The matrix of a one-dimensional stencil on values known as far as it reads."""
    matrix, first = scipy.sparse.csr_array((rows, columns)), min(j for j, _ in taps)
    for offset, weight in taps:
        at = np.arange(rows) + (offset - first) // 2
        entries = (np.full(rows, float(weight)), (np.arange(rows), at))
        matrix = matrix + scipy.sparse.csr_array(entries, shape=matrix.shape)
    return matrix


@lru_cache(maxsize=4096)
def _offsets(
    axis: Axis, into: Axis, taps: Taps, source: int, target: int, n: int, parity: tuple[int, int]
) -> np.ndarray:
    """What walls of value 1, the low and the high one, add to a one-dimensional stencil."""
    rows = into.positions(target, n)
    terms = [float(w) * axis.continued(rows + offset, source, n, parity)[1] for offset, w in taps]
    total: np.ndarray = np.sum(terms, axis=0)
    return total


def squared_norm(stencil: Stencil) -> tuple[sp.Expr, bool]:
    """A bound on ‖W^½K‖² for every grid size, and whether it is the exact supremum.

    Parts of different parity (D = α₁∂ₓ + α₂∂ₓₓ) and symbolic coefficients are joined by the triangle inequality.
    """
    pure = list(stencil.parts.values())
    numeric = all(not w.free_symbols for w in stencil.taps().values())
    if numeric and (len(pure) == 1 or (stencil.dimension == 1 and stencil.axes[0].periodic)):
        bound, is_exact = stencil.symbol_squared().supremum()
        return rational(bound), is_exact
    norms = []
    for product in stencil.products:
        single = Stencil(
            (Product(sp.S.One, product.orders, product.taps),), stencil.source, stencil.target, stencil.axes
        )
        norms.append(sp.Abs(product.coefficient) * sp.sqrt(rational(single.symbol_squared().supremum()[0])))
    return sp.Add(*norms) ** 2, False


def rational(value: Fraction) -> sp.Rational:
    return sp.Rational(value.numerator, value.denominator)


def fraction(value: sp.Expr) -> Fraction:
    return Fraction(int(value.p), int(value.q)) if value.is_Rational else exact(float(value))


def number(expression: sp.Expr, values: Mapping[str, float]) -> float:
    """The value of a scalar expression for given parameter values, in double precision."""
    if expression.is_Rational:
        return int(expression.p) / int(expression.q)
    return float(expression.xreplace({s: sp.Float(values[s.name], 17) for s in expression.free_symbols}).evalf(17))


@dataclass(frozen=True)
class Polynomial:
    """A polynomial on [−1, 1]^d with rational coefficients: {powers: coefficient}."""

    terms: Mapping[tuple[int, ...], Fraction]
    dimension: int

    @classmethod
    def zero(cls, dimension: int) -> Polynomial:
        return cls({}, dimension)

    @classmethod
    def cosines(cls, multiples: tuple[int, ...]) -> Polynomial:
        """∏ cos(j_a θ_a) = ∏ T_{j_a}(c_a)."""
        factors = [_chebyshev(j) for j in multiples]
        terms = {}
        for powers in itertools.product(*(range(len(f)) for f in factors)):
            coefficient = math.prod(f[p] for f, p in zip(factors, powers, strict=True))
            if coefficient:
                terms[powers] = Fraction(coefficient)
        return cls(terms, len(multiples))

    def __add__(self, other: Polynomial) -> Polynomial:
        terms = dict(self.terms)
        for powers, c in other.terms.items():
            terms[powers] = terms.get(powers, Fraction(0)) + c
        return Polynomial({p: c for p, c in terms.items() if c}, self.dimension)

    def __mul__(self, scalar: Fraction) -> Polynomial:
        return Polynomial({p: c * scalar for p, c in self.terms.items()}, self.dimension)

    def supremum(self, tolerance: float = 1e-9) -> tuple[Fraction, bool]:
        """An upper bound of the maximum on [−1, 1]^d, and whether it is attained (then it is the maximum).

        The largest Bernstein coefficient bounds a polynomial; one at a vertex is a value of it. Boxes are
        halved until the bound is within `tolerance` of a value, relative, or their number runs out.
        """
        total, is_exact = Fraction(0), True
        for part in self._additive():
            bound, attained = part._box_supremum(tolerance)
            total, is_exact = total + bound, is_exact and attained
        return total, is_exact

    def _additive(self) -> list[Polynomial]:
        """Split P(c₁,…,c_d) into sums over disjoint groups of variables, which are maximised one by one."""
        groups: list[set[int]] = []
        for powers in self.terms:
            used = {a for a, p in enumerate(powers) if p}
            touching = [g for g in groups if g & used]
            groups = [g for g in groups if not g & used] + [used.union(*touching)]
        parts = []
        for group in (g for g in groups if g):
            keep = sorted(group)
            inside = {p: c for p, c in self.terms.items() if any(p) and {a for a, q in enumerate(p) if q} <= group}
            parts.append(Polynomial({tuple(p[a] for a in keep): c for p, c in inside.items()}, len(keep)))
        constant = self.terms.get((0,) * self.dimension, Fraction(0))
        return [*parts, Polynomial({(): constant}, 0)]

    def _box_supremum(self, tolerance: float) -> tuple[Fraction, bool]:
        if not self.dimension:
            return self.terms[()], True
        degrees = [max(p[a] for p in self.terms) for a in range(self.dimension)]
        array = np.full([m + 1 for m in degrees], Fraction(0), dtype=object)
        for powers, c in self.terms.items():
            array[powers] += c
        for a, degree in enumerate(degrees):
            array = _along_axis(array, a, _to_bernstein(degree))
        best, count = max(_vertices(array)), itertools.count()
        heap = [(-array.max(), next(count), array)]
        for _ in range(_SUBDIVISIONS):
            bound = -heap[0][0]
            if bound <= best:
                return best, True
            if bound - best <= Fraction(tolerance) * abs(bound):
                break
            _, _, top = heapq.heappop(heap)
            for half in _halves(top, _steepest(top)):
                best = max(best, *_vertices(half))
                heapq.heappush(heap, (-half.max(), next(count), half))
        return -heap[0][0], False


_SUBDIVISIONS = 200


@cache
def _chebyshev(n: int) -> tuple[int, ...]:
    if n < 2:
        return ((1,), (0, 1))[n]
    a, b = _chebyshev(n - 1), _chebyshev(n - 2)
    twice = (0, *(2 * x for x in a))
    return tuple(x - y for x, y in itertools.zip_longest(twice, b, fillvalue=0))


@cache
def _to_bernstein(degree: int) -> np.ndarray:
    """The matrix from powers of c on [−1, 1] to Bernstein coefficients on [0, 1]."""
    shift = np.full((degree + 1, degree + 1), Fraction(0), dtype=object)  # c = 2x − 1
    for p in range(degree + 1):
        for q in range(p + 1):
            shift[q, p] += Fraction(math.comb(p, q) * 2**q * (-1) ** (p - q))
    basis = np.full((degree + 1, degree + 1), Fraction(0), dtype=object)
    for i in range(degree + 1):
        for q in range(i + 1):
            basis[i, q] = Fraction(math.comb(i, q), math.comb(degree, q))
    product: np.ndarray = basis @ shift
    return product


def _along_axis(array: np.ndarray, a: int, matrix: np.ndarray) -> np.ndarray:
    return np.moveaxis(np.tensordot(matrix, array, axes=(1, a)), 0, a)


def _steepest(array: np.ndarray) -> int:
    """The axis along which the coefficients change most: the one to halve."""
    changes = [abs(np.diff(array, axis=a)).max() if n > 1 else 0 for a, n in enumerate(array.shape)]
    return changes.index(max(changes))


def _vertices(array: np.ndarray) -> list[Fraction]:
    return [array[corner] for corner in itertools.product((0, -1), repeat=array.ndim)]


def _halves(array: np.ndarray, a: int) -> tuple[np.ndarray, np.ndarray]:
    """De Casteljau at ½ along one axis."""
    row = np.moveaxis(array, a, 0).copy()
    left, right = [row[0]], [row[-1]]
    while len(row) > 1:
        row = (row[:-1] + row[1:]) * Fraction(1, 2)
        left.append(row[0])
        right.insert(0, row[-1])
    return np.moveaxis(np.array(left), 0, a), np.moveaxis(np.array(right), 0, a)

"""K and its adjoint as matrices: adjointness, consistency, norms."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

import pdeloom as loom
from pdeloom.compiler.grid import axes_of
from pdeloom.compiler.stencil import Polynomial, Stencil, derive, squared_norm

CONDITIONS = {
    "no-flux": (loom.NoFlux(), loom.NoFlux()),
    "dirichlet": (loom.Dirichlet(0), loom.Dirichlet(0)),
    "periodic": (loom.Periodic(), loom.Periodic()),
    "mixed": (loom.Dirichlet(0), loom.NoFlux()),
}
DERIVATIVES = {
    "x": {1: {(1,): 1}, 2: {(1, 0): 1}, 3: {(1, 0, 0): 1}},
    "xx": {1: {(2,): 1}, 2: {(2, 0): 1}, 3: {(2, 0, 0): 1}},
    "xxx": {1: {(3,): 1}},
    "laplacian": {2: {(2, 0): 1, (0, 2): 1}, 3: {(2, 0, 0): 1, (0, 2, 0): 1, (0, 0, 2): 1}},
    "xy": {2: {(1, 1): 1}, 3: {(0, 1, 1): 1}},
    "xx + 1/3 x": {1: {(2,): 1, (1,): sp.Rational(1, 3)}},
    "x + 1/2": {1: {(1,): 1, (0,): sp.Rational(1, 2)}},
}
CASES = [
    (condition, derivative, dimension, order, centering)
    for condition, (derivative, by_dimension), order, centering in itertools.product(
        CONDITIONS, DERIVATIVES.items(), (2, 4), ("vertex", "cell")
    )
    for dimension in by_dimension
]


def build(condition, derivative, dimension, order, centering, h=(0.5, 0.25, 2.0)):
    names = ("x", "y", "z")[:dimension]
    grid = loom.Grid(h[:dimension], centering=centering)
    axes = axes_of(names, (CONDITIONS[condition],) * dimension, grid)
    K = Stencil.build(DERIVATIVES[derivative][dimension], axes, order)
    return K, axes


def weights(axes, location, shape):
    w = np.ones(1)
    for axis, half, n in zip(axes, location, shape, strict=True):
        w = np.multiply.outer(w, axis.weights(half, n))
    return w[0]


def nodes(axes, shape):
    return tuple(slice(-a.closed(0)[0] // 2, -a.closed(0)[0] // 2 + n) for a, n in zip(axes, shape, strict=True))


def random_state(axes, shape, rng):
    u = np.zeros([len(a.positions(0, n)) for a, n in zip(axes, shape, strict=True)])
    u[nodes(axes, shape)] = rng.normal(size=shape)
    return u


def matrix(K, axes, shape):
    """K W^½ as a dense matrix on the nodes."""
    parity, w = tuple(a.parity for a in axes), np.sqrt(weights(axes, K.target, shape))
    columns = []
    for i in range(int(np.prod(shape))):
        e = np.zeros([len(a.positions(0, n)) for a, n in zip(axes, shape, strict=True)])
        e[nodes(axes, shape)] = np.eye(int(np.prod(shape)))[i].reshape(shape)
        columns.append((K.apply(e, shape, parity, {}) * w).ravel())
    return np.array(columns).T


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("small", [False, True])
def test_adjoint(case, small):
    """⟨Ku, v⟩ = ⟨u, K*v⟩ to 1e-12 ‖K‖ ‖u‖ ‖v‖, also on grids smaller than the stencil."""
    K, axes = build(*case)
    shape = ((2, 3, 2) if small else (9, 8, 7))[: len(axes)]
    rng = np.random.default_rng(0)
    parity = tuple(a.parity for a in axes)
    u = random_state(axes, shape, rng)
    Ku = K.apply(u, shape, parity, {})
    v = rng.normal(size=Ku.shape)
    w = weights(axes, K.target, shape)
    left = (Ku * v * w).sum()
    right = (u * K.adjoint(v, shape, parity, {}))[nodes(axes, shape)].sum()
    norm = float(squared_norm(K)[0]) ** 0.5
    assert abs(left - right) <= 1e-12 * norm * np.linalg.norm(u) * np.linalg.norm(v)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_norm_bound_holds_and_is_tight(case):
    K, axes = build(*case)
    shape = (24, 7, 5)[: len(axes)] if len(axes) < 3 else (6, 5, 4)
    true = np.linalg.norm(matrix(K, axes, shape), 2) ** 2
    bound, _ = squared_norm(K)
    assert true <= float(bound) * (1 + 1e-12)
    if len(axes) == 1 and len(K.parts) == 1:
        assert true >= 0.95 * float(bound)


def test_forward_difference_norm_has_the_known_closed_form():
    """‖K‖² = 4cos²(π/2N)/h² under reflection."""
    K, axes = build("no-flux", "x", 1, 2, "vertex", h=(0.5,))
    for n in (4, 9, 30):
        assert np.linalg.norm(matrix(K, axes, (n,)), 2) ** 2 == pytest.approx(16 * np.cos(np.pi / (2 * n)) ** 2)
    assert squared_norm(K) == (16, True)


@pytest.mark.parametrize("order", [2, 4])
@pytest.mark.parametrize("m", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("location", [0, 1])
def test_stencils_are_exact_on_polynomials(m, location, order):
    """Σ w_j (j/2)^p = p! δ_{pm} for all p < m + order."""
    taps = derive(m, location, order)
    for p in range(m + order if (m, location) != (0, 0) else 1):
        moment = sum(w * Fraction(j, 2) ** p for j, w in taps)
        assert moment == (sp.factorial(m) if p == m else 0)


def test_dirichlet_order_needs_the_odd_extension():
    """−u'' = π² sin(πx) with zeros at 0 and 1: order 4 up to the boundary, which zero padding does not give."""
    errors = []
    for n in (20, 40):
        h = Fraction(1, n + 1)
        axes = axes_of(("x",), (CONDITIONS["dirichlet"],), loom.Grid(h))
        K = Stencil.build({(1,): 1}, axes, 4)
        grid = np.arange(0, n + 2) * float(h)
        u = np.sin(np.pi * grid)
        parity = (axes[0].parity,)
        second = K.adjoint(K.apply(u, (n,), parity, {}), (n,), parity, {})
        errors.append(abs(second - np.pi**2 * u)[1:-1].max())
    assert np.log2(errors[0] / errors[1]) > 3.8


def test_cell_centred_dirichlet_has_the_weight_on_the_wall():
    """K*K has corner 3 in 1-D (the plain KᵀK would have 5)."""
    K, axes = build("dirichlet", "x", 1, 2, "cell", h=(1.0,))
    e = np.zeros(6)
    e[0] = 1
    parity = (axes[0].parity,)
    assert K.adjoint(K.apply(e, (6,), parity, {}), (6,), parity, {})[:2] == pytest.approx([3, -1])


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.tuples(st.integers(0, 4), st.integers(0, 3)), st.integers(-9, 9), min_size=1, max_size=8))
def test_polynomial_supremum_is_a_tight_bound(terms):
    """The Bernstein bound against a fine sample of [−1, 1]²."""
    p = Polynomial({k: Fraction(v) for k, v in terms.items() if v}, 2)
    bound, _ = p.supremum()
    c = np.linspace(-1, 1, 201)
    sample = sum(float(v) * np.multiply.outer(c**i, c**j) for (i, j), v in p.terms.items()) + np.zeros((201, 201))
    assert sample.max() <= float(bound) + 1e-9
    assert float(bound) <= sample.max() + 0.02 * (1 + abs(sample).max())


@pytest.mark.parametrize("derivative", [{(9,): 1}, {(1000,): 1}])
def test_absurd_derivative_orders_are_refused(derivative):
    axes = axes_of(("x",), (CONDITIONS["no-flux"],), loom.Grid())
    with pytest.raises(loom.DiscretisationError, match="up to 8"):
        Stencil.build(derivative, axes)

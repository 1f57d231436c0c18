"""Multigrid: the emitted U-net is the method, the method contracts as its Fourier analysis says, and it solves the PDE."""

from __future__ import annotations

import ast
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import multigrids as mg
import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import sympy as sp
import torch
import zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy import Eq

import pdeloom as loom
from pdeloom.compiler.cycle_reference import Level
from pdeloom.compiler.local_fourier import factors

GOLDEN = Path(__file__).parent / "golden"


def tensors(data):
    return {name: torch.from_numpy(v) for name, v in data.items()}


def contraction(net, shape, cycles=25, **data):
    """‖M v‖/‖v‖ after many steps of the power method, M one cycle for a right-hand side of zero."""
    assert net.scheme.cycles == 1
    u, sampled = mg.sample(net, shape, batch=1)
    fields, v = tensors({**sampled, "f": 0 * u, **data}), torch.from_numpy(u)
    module, size = net.module(torch.float64), torch.ones(())
    with torch.no_grad():
        for _ in range(cycles):
            v, before = v / size, size
            v = module(v - v.mean() * net.compiled.elliptic.singular, **fields)
            size = v.norm()
    return float(before * size) ** 0.5  # over two cycles: the largest eigenvalues may be a pair ±λ


# --- the emitted network is the method ------------------------------------------------------------------------


@pytest.mark.parametrize("case", mg.VARIANTS + mg.TRAINED, ids=str)
def test_module_equals_reference(case):
    name, kind, n, options = case
    net = mg.network(name, kind, n, **options)
    u, data = mg.sample(net, (n,) * zoo.dimension(name))
    with torch.no_grad():
        new = net.module(torch.float64)(torch.from_numpy(u), **tensors(data)).numpy()
    reference = net.reference(u, **data)
    rounding = 1e-10 if "biharmonic" in name else 1e-8 if "recombine" in options else 1e-12
    np.testing.assert_allclose(new, reference, rtol=0, atol=rounding * abs(reference).max())
    assert net.architecture == "U-net"


@settings(max_examples=25, deadline=None)
@given(st.integers(4, 21), st.integers(4, 21), st.sampled_from(["no-flux", "dirichlet", "periodic", "mixed"]))
def test_any_size(n, m, kind):
    net = mg.network("helmholtz 2d", kind, cycles=2)
    u, data = mg.sample(net, (n, m), batch=1)
    with torch.no_grad():
        new, history = net.module(torch.float64)(torch.from_numpy(u), **tensors(data), history=True)
    np.testing.assert_allclose(new.numpy(), net.reference(u, **data), rtol=0, atol=1e-12 * abs(u).max())
    assert float(history[-1]) < 0.08


@pytest.mark.parametrize("kind", ["no-flux", "dirichlet", "periodic", "mixed"])
@pytest.mark.parametrize("centering", ["vertex", "cell"])
@pytest.mark.parametrize("n", [16, 17, 22])
def test_restriction_is_the_adjoint_of_prolongation(n, centering, kind):
    """⟨R r, v⟩ H = ⟨r, P v⟩ h for the transfers of the emitted module, whatever the size."""
    net = mg.network("helmholtz 2d", kind, centering=centering, cycles=1, restriction="full-weighting")
    module = net.module(torch.float64)
    u, _ = mg.sample(net, (n, n), batch=1)
    grid, below, *_ = module.pyramid(torch.from_numpy(u))
    level = module.levels[0]
    rng = torch.Generator().manual_seed(0)
    r = torch.randn(1, 1, n, n, generator=rng, dtype=torch.float64)
    v = torch.randn(1, 1, *below.shape, generator=rng, dtype=torch.float64)
    volume = np.prod([H / h for h, H in zip(grid.spacing, below.spacing, strict=True)])
    left = (level.restrict(grid, r) * v).sum() * volume
    right = (r * level.prolong(grid, level.extend(v))).sum()
    torch.testing.assert_close(left, right)


@pytest.mark.parametrize("kind", ["no-flux", "dirichlet", "periodic"])
def test_taps_are_the_operator(kind):
    """What the combs see is A: applied as taps and as declared it gives the same."""
    net = mg.network("coefficient 2d", kind, 14)
    module = net.module(torch.float64)
    u, data = mg.sample(net, (14, 11))
    grid = module.pyramid(torch.from_numpy(u), torch.from_numpy(data["a"]))[0]
    level, v = module.levels[0], torch.from_numpy(u)
    torch.testing.assert_close(level.operator(grid, level.extend(v)), level.equation(grid, level.extend_comb(v)))


# --- how fast it is -------------------------------------------------------------------------------------------

FACTORS = [
    ("poisson 2d", {"smoother": "red-black"}),
    ("poisson 2d", {"smoother": "red-black", "pre": 1, "post": 1}),
    ("poisson 2d", {"smoother": "jacobi"}),
    ("poisson 2d", {"smoother": "chebyshev"}),
    ("poisson 2d", {"smoother": "fsi", "pre": 3, "post": 0}),
    ("poisson 2d", {"coarse": "galerkin"}),
    ("anisotropic 2d", {}),
    ("biharmonic 2d", {"smoother": "chebyshev", "pre": 3, "post": 3}),
    ("poisson 1d", {"smoother": "jacobi", "pre": 1, "post": 1}),
    ("poisson 3d", {}),
]


@pytest.mark.parametrize("case", FACTORS, ids=str)
def test_fourier_analysis_predicts_the_contraction(case):
    """Two grids, periodic as the analysis is: the measured contraction is the predicted one, within 10 %."""
    name, options = case
    d = zoo.dimension(name)
    n = {1: 128, 2: 32, 3: 16}[d]
    net = mg.network(name, "periodic", n, cycles=1, levels=2, on_divergence="accept", **options)
    _, predicted = factors(net.compiled.elliptic)
    assert contraction(net, (n,) * d) == pytest.approx(predicted, rel=0.1)


def test_textbook_factors():
    """Trottenberg, Oosterlee, Schüller, chapter 4: ω-Jacobi 4/5 has μ = 3/5, red–black V(1,0) ρ = 1/4."""
    jacobi = mg.network("poisson 2d", "periodic", 16, smoother="jacobi", damping=0.8, pre=1, post=0).compiled.elliptic
    assert factors(jacobi)[0] == pytest.approx(0.6, abs=2e-3)
    red_black = mg.network("poisson 2d", "periodic", 16, pre=1, post=0).compiled.elliptic
    assert factors(red_black) == pytest.approx((0.25, 0.25), abs=2e-3)


@pytest.mark.parametrize("kind", ["no-flux", "dirichlet", "periodic"])
def test_the_contraction_does_not_depend_on_the_grid(kind):
    """31² to 255² (docs: 1023²); red–black V(2,2) at most 0.06, and 0.09 about faces."""
    net = mg.network("poisson 2d", kind, cycles=1)
    sizes = [31, 63, 127, 255] if kind == "dirichlet" else [32, 64, 128, 256]
    found = [contraction(net, (n, n), cycles=12) for n in sizes]
    assert max(found) < (0.09 if kind == "no-flux" else 0.06)
    assert max(found) < 1.25 * min(found)


def test_semi_coarsening_follows_the_strong_coupling():
    problem = mg.network("anisotropic 2d", "dirichlet").compiled.elliptic
    assert problem.semi == ((1,), (1,), (1,)) and problem.shapes((15, 127))[:4] == [
        (15, 127),
        (15, 63),
        (15, 31),
        (15, 15),
    ]
    net = mg.network("anisotropic 2d", "dirichlet", cycles=1)
    assert contraction(net, (15, 127)) < 0.12


def test_jumps_of_1000():
    """A disc of a = 1000 in surroundings of a = 1: one mode is slow, and iterates recombined are rid of it."""
    n = 63
    i, j = np.indices((n, n)) / n - 0.5
    a = torch.from_numpy(np.where(i**2 + j**2 < 0.09, 1000.0, 1.0))[None, None]
    for kind in ("dirichlet", "no-flux"):
        for recombine, cycles in ((0, 12), (8, 22)):
            net = mg.network("coefficient 2d", kind, n, cycles=cycles, recombine=recombine)
            u, data = mg.sample(net, (n, n), batch=1)
            _, history = net.module(torch.float64)(torch.from_numpy(u), **{**tensors(data), "a": a}, history=True)
            assert (float(history[-1]) < 1e-10) == bool(recombine)


def test_full_multigrid_reaches_the_discretisation_error_at_once():
    """One F-cycle after the full start: the algebraic error is below that of the discretisation."""
    n, u = 63, sp.sin(sp.pi * mg.x) * sp.sin(sp.pi * mg.y)
    net = mg.network("poisson 2d", "dirichlet", n, cycles=1, cycle="F", first="full", h=1 / (n + 1))
    i = (np.arange(n) + 1) / (n + 1)
    exact = np.outer(np.sin(np.pi * i), np.sin(np.pi * i))[None, None]
    f = 2 * np.pi**2 * exact
    assert sp.simplify(-sp.diff(u, mg.x, 2) - sp.diff(u, mg.y, 2) - 2 * sp.pi**2 * u) == 0
    new = net.module(torch.float64)(torch.from_numpy(0 * f), f=torch.from_numpy(f)).numpy()
    h2 = (np.pi / (n + 1)) ** 2 / 12
    assert abs(new - exact).max() == pytest.approx(h2, rel=0.05)


# --- it solves the PDE ------------------------------------------------------------------------------------------


def laplacian_1d(n, h, kind):
    """The second difference as a sparse matrix, written down independently of the compiler."""
    T = scipy.sparse.diags_array([np.ones(n - 1), np.full(n, -2.0), np.ones(n - 1)], offsets=[-1, 0, 1]).tolil()
    if kind == "no-flux":
        T[0, 0] = T[-1, -1] = -1
    elif kind == "periodic":
        T[0, -1] = T[-1, 0] = 1
    elif kind == "cell":
        T[0, 0] = T[-1, -1] = -3
    return T.tocsr() / h**2


@pytest.mark.parametrize("kind", ["dirichlet", "cell", "no-flux", "periodic"])
def test_against_scipy(kind):
    """u − κΔu = f, solved by SciPy from a matrix of our own: the same to 1e-9."""
    n, m, h = 24, 19, 0.1
    centering = "cell" if kind == "cell" else "vertex"
    net = mg.network("helmholtz 2d", "dirichlet" if kind == "cell" else kind, h=h, cycles=12, centering=centering)
    u, data = mg.sample(net, (n, m), batch=1)
    with torch.no_grad():
        new = net.module(torch.float64)(torch.from_numpy(u), **tensors(data)).numpy()[0, 0]
    eye = scipy.sparse.eye_array
    L = scipy.sparse.kron(laplacian_1d(n, h, kind), eye(m)) + scipy.sparse.kron(eye(n), laplacian_1d(m, h, kind))
    exact = scipy.sparse.linalg.spsolve((eye(n * m) - 2.0 * L).tocsc(), data["f"].ravel()).reshape(n, m)
    np.testing.assert_allclose(new, exact, rtol=0, atol=1e-9 * abs(exact).max())


def test_variable_coefficients_against_scipy():
    n, h = 20, 0.05
    net = mg.network("coefficient 2d", "dirichlet", h=h, cycles=14)
    u, data = mg.sample(net, (n, n), batch=1)
    with torch.no_grad():
        new = net.module(torch.float64)(torch.from_numpy(u), **tensors(data)).numpy()[0, 0]
    a = np.pad(data["a"][0, 0], 1, mode="edge")
    rows, columns, values = [], [], []
    for i, j in itertools.product(range(n), range(n)):
        for p, q in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            w = (a[i + 1, j + 1] + a[i + 1 + p, j + 1 + q]) / 2 / h**2
            rows += [i * n + j]
            columns += [i * n + j]
            values += [w]
            if 0 <= i + p < n and 0 <= j + q < n:
                rows, columns, values = [*rows, i * n + j], [*columns, (i + p) * n + j + q], [*values, -w]
    M = scipy.sparse.csc_array((values, (rows, columns)))
    exact = scipy.sparse.linalg.spsolve(M, data["f"].ravel()).reshape(n, n)
    np.testing.assert_allclose(new, exact, rtol=0, atol=1e-9 * abs(exact).max())


@pytest.mark.parametrize(
    ("name", "kind"), [("charbonnier 2d", "no-flux"), ("bratu 2d", "dirichlet"), ("inpainting 2d", "no-flux")]
)
def test_the_residual_vanishes(name, kind):
    """Where no matrix is at hand: the fixed point satisfies the equation as the time stepper's f discretises it."""
    net = mg.network(name, kind, 16, cycles=40, tol=1e-9)
    u, data = mg.sample(net, (16, 16), batch=1)
    with torch.no_grad():
        new = net.module(torch.float64)(torch.from_numpy(u), **tensors(data)).numpy()
    equation = mg.EQUATIONS[name]
    if name == "inpainting 2d":
        known, (v,) = data["c"] == 1, new[:, 0]
        np.testing.assert_allclose(new[known], data["f"][known], atol=1e-8)
        p = np.pad(v, 1, mode="edge")
        laplacian = p[2:, 1:-1] + p[:-2, 1:-1] + p[1:-1, 2:] + p[1:-1, :-2] - 4 * v
        assert abs(laplacian[~known[0, 0]]).max() < 1e-6
        return
    rate = Eq(loom.dt(mg.U), equation.rhs - equation.lhs)
    flow = loom.compile(
        loom.PDE(rate, boundary=zoo.boundary(name, kind)),
        grid=net.grid,
        scheme=loom.ForwardEuler(1, 1e-9),
        unstable="allow",
    )
    assert abs(flow.reference.rate(new, **data)).max() < 1e-6 * abs(flow.reference.rate(u, **data)).max()


def test_order_of_accuracy():
    """A manufactured solution between cell-centred Dirichlet walls: second order."""
    errors = []
    for n in (16, 32, 64):
        net = mg.network("helmholtz 2d", "dirichlet", h=1 / n, cycles=10, centering="cell")
        i = (np.arange(n) + 0.5) / n
        exact = np.outer(np.sin(np.pi * i), np.sin(2 * np.pi * i))[None, None]
        new = net.module(torch.float64)(
            torch.zeros(1, 1, n, n, dtype=torch.float64), f=torch.from_numpy((1 + 10 * np.pi**2) * exact)
        )
        errors.append(abs(new.numpy() - exact).max())
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert (abs(orders - 2) < 0.1).all()


# --- singular problems, bad input -------------------------------------------------------------------------------


def test_singular_problems():
    """The mean of u stays that of the first guess; a right-hand side without mean zero has no solution."""
    for name, kind in (("poisson 2d", "no-flux"), ("poisson 2d", "periodic"), ("coefficient 2d", "no-flux")):
        net = mg.network(name, kind, 16, cycles=12, tol=1e-8)
        u, data = mg.sample(net, (16, 16))
        module = net.module(torch.float64)
        new = module(torch.from_numpy(u + 3), **tensors(data))
        np.testing.assert_allclose(new.mean((1, 2, 3)).numpy(), (u + 3).mean((1, 2, 3)), rtol=1e-12)
        wrong = {**data, "f": data["f"] + 0.1}
        with pytest.raises(ValueError, match=r"singular.*mean 0\.1|singular.*has 0\.1"):
            module(torch.from_numpy(u), **tensors(wrong))
        with pytest.raises(loom.DataError, match="singular"):
            net.reference(u, **wrong)


def test_divergence_is_an_error_with_its_history():
    weak = loom.PDE(Eq(0.2 * mg.C * (mg.U - mg.F), (1 - mg.C) * loom.laplacian(mg.U)), boundary=loom.NoFlux())
    options = {"cycles": 10}
    net = loom.compile(weak, scheme=loom.Multigrid(**options))
    u, data = mg.sample(net, (32, 32), batch=1)
    diverging = net.module(torch.float64)
    with pytest.raises(RuntimeError, match=r"diverge.*on_divergence") as error:
        diverging(torch.from_numpy(u), **tensors(data))
    assert error.value.history[-1] > 2
    accepting = loom.compile(weak, scheme=loom.Multigrid(**options, on_divergence="accept")).module(torch.float64)
    assert accepting(torch.from_numpy(u), **tensors(data)).isfinite().all() and accepting.residual > 2
    with pytest.raises(RuntimeError, match="raise cycles or tol") as error:
        mg.network("poisson 2d", "dirichlet", cycles=2, tol=1e-9).module()(
            torch.ones(1, 1, 15, 15), f=torch.ones(1, 1, 15, 15)
        )
    assert len(error.value.history) == 3


def test_a_solution_as_first_guess_is_no_divergence():
    net = mg.network("poisson 2d", "dirichlet", 31, cycles=12)
    u, data = mg.sample(net, (31, 31))
    module = net.module(torch.float64)
    for _ in range(3):
        u = module(torch.as_tensor(u), **tensors(data))
    zero = torch.zeros(1, 1, 31, 31, dtype=torch.float64)
    assert not module(zero, f=zero).any()


@pytest.mark.parametrize("name", ["b", "r", "v", "w", "h_x", "near", "omega", "level"])
def test_parameters_and_data_may_be_named_like_locals(name):
    p, q = loom.parameter(name, 2.0, positive=True), loom.data(name, mg.x, mg.y)
    for equation in (Eq(p * mg.U - p * loom.laplacian(mg.U), mg.F), Eq(mg.U - loom.div(q * loom.grad(mg.U)), mg.F)):
        pde = loom.PDE(equation, boundary=loom.NoFlux())
        net = loom.compile(pde, grid=loom.Grid(0.1), scheme=loom.Multigrid(2))
        u, data = mg.sample(net, (7, 8))
        data = {k: abs(v) + 0.1 for k, v in data.items()}
        new = net.module(torch.float64)(torch.from_numpy(u), **tensors(data)).numpy()
        np.testing.assert_allclose(new, net.reference(u, **data), rtol=0, atol=1e-12)
    with pytest.raises(loom.DeclarationError, match="rename it"):
        grid = loom.data("grid", mg.x, mg.y)
        loom.compile(loom.PDE(Eq(-loom.laplacian(mg.U), grid), boundary=loom.Dirichlet(0)), scheme=loom.Multigrid(1))


def test_unusual_equations():
    """An axis without derivatives, a constant right-hand side, an unknown called w, one node, no sample."""
    w = loom.field("w", mg.x, mg.y)
    for equation, shape in (
        (Eq(mg.U - loom.d(mg.U, mg.x, 2), mg.F), (9, 8)),
        (Eq(mg.U**3 - loom.laplacian(mg.U), 1), (9, 8)),
        (Eq(w**3 - loom.laplacian(w), 1), (9, 8)),
        (Eq(-loom.laplacian(mg.U), mg.F), (1, 1)),
    ):
        pde = loom.PDE(equation, boundary=loom.Dirichlet(0))
        net = loom.compile(pde, grid=loom.Grid(0.1), scheme=loom.Multigrid(2))
        u, data = mg.sample(net, shape)
        new = net.module(torch.float64)(torch.from_numpy(u), **tensors(data)).numpy()
        np.testing.assert_allclose(new, net.reference(u, **data), rtol=0, atol=1e-12)
    module = mg.network("poisson 2d", "dirichlet").module()
    assert module(torch.zeros(0, 1, 9, 9), f=torch.zeros(1, 1, 9, 9)).shape == (0, 1, 9, 9)
    with pytest.raises(ValueError, match="batch size 3, u 1"):
        module(torch.zeros(1, 1, 9, 9), f=torch.zeros(3, 1, 9, 9))
    with pytest.raises(RuntimeError, match="no number"):
        module(torch.full((1, 1, 9, 9), float("nan")), f=torch.zeros(1, 1, 9, 9))


WRONG = {
    "a time derivative": (Eq(loom.dt(mg.U), loom.laplacian(mg.U)), {}, {}, "schemes that can"),
    "a vanishing reaction": (
        Eq(loom.parameter("k", 0.0) * mg.U - loom.laplacian(mg.U), mg.F),
        {},
        {},
        "vanishes for the initial values",
    ),
    "no flux": (Eq(mg.U, mg.F), {}, {}, "no derivative"),
    "a first derivative": (Eq(loom.laplacian(mg.U) + loom.d(mg.U, mg.x), mg.F), {}, {}, "first derivative"),
    "both signs": (Eq(loom.d(mg.U, mg.x, 2) - loom.d(mg.U, mg.y, 2), mg.F), {}, {}, "both signs"),
    "a wide operator": (Eq(loom.laplacian(loom.laplacian(mg.U)), mg.F), {}, {}, "chebyshev"),
    "a nonlinear product": (mg.EQUATIONS["charbonnier 2d"], {"coarse": "galerkin"}, {}, "linear A"),
    "an average of nodes": (mg.EQUATIONS["poisson 2d"], {"restriction": "average"}, {}, "axes of cells"),
    "no smoothing": (mg.EQUATIONS["poisson 2d"], {"pre": 0, "post": 0}, {}, "without smoothing"),
    "a damping": (mg.EQUATIONS["poisson 2d"], {"damping": 0.5}, {}, "only 'jacobi'"),
    "an unknown cycle": (mg.EQUATIONS["poisson 2d"], {"cycle": "X"}, {}, "V, W, F"),
    "a tolerance": (mg.EQUATIONS["poisson 2d"], {"tol": 2.0}, {}, "1e-15"),
    "an unknown weight": (mg.EQUATIONS["poisson 2d"], {}, {"trainable": ["tau"]}, "smoother"),
    "a varying speed": (
        Eq(mg.C * (loom.laplacian(mg.U) + loom.d(mg.U, mg.x)), mg.F),
        {},
        {},
        "without time derivative",
    ),
    "an unknown guarantee": (mg.EQUATIONS["poisson 2d"], {}, {"guarantee": "maximum principle"}, "energy decrease"),
    "a wide product": (
        mg.EQUATIONS["poisson 2d"],
        {"coarse": "galerkin", "smoother": "jacobi"},
        {"space": loom.FiniteDifference(order=4)},
        "next neighbours",
    ),
    "an indefinite smoother": (
        Eq(-5 * mg.U - loom.laplacian(mg.U), mg.F),
        {"smoother": "jacobi"},
        {},
        "positive at high frequencies",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_work_is_refused(case):
    equation, options, given, words = WRONG[case]
    with pytest.raises(loom.PdeloomError, match=words):
        loom.compile(
            loom.PDE(equation, boundary=loom.Dirichlet(0)), scheme=loom.Multigrid(**{"cycles": 2, **options}), **given
        )


def test_where_galerkin_products_would_reach_too_far():
    with pytest.raises(loom.SchemeError, match="all on nodes or all on faces"):
        mg.network("poisson 2d", "mixed", coarse="galerkin")
    with pytest.raises(loom.SchemeError, match="restriction='average'"):
        mg.network("poisson 2d", "no-flux", coarse="galerkin", restriction="full-weighting")
    u = torch.zeros(1, 1, 18, 18, dtype=torch.float64)
    with pytest.raises(ValueError, match="halve exactly"):
        mg.network("poisson 2d", "no-flux", coarse="galerkin").module(dtype=torch.float64)(u, f=u)


def test_galerkin_products_on_cells_know_of_jumps():
    """A disc of a thousandfold coefficient: means and linear interpolation, without recombined iterates."""
    n = 32
    i, j = np.indices((n, n)) / n - 0.5
    a = torch.from_numpy(np.where(i**2 + j**2 < 0.09, 1000.0, 1.0))[None, None]
    f = torch.randn(1, 1, n, n, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    f, zero = f - f.mean(), torch.zeros(1, 1, n, n, dtype=torch.float64)
    residuals = {}
    for coarse in ("galerkin", "rediscretised"):
        net = mg.network("coefficient 2d", "no-flux", coarse=coarse, cycles=20, on_divergence="accept")
        residuals[coarse] = float(net.module(dtype=torch.float64)(zero, f=f, a=a, history=True)[1][-1])
    assert residuals["galerkin"] < 1e-8 and residuals["galerkin"] < 1e-3 * residuals["rediscretised"]


def test_a_guarantee_that_does_not_hold_is_a_warning():
    poisson = loom.PDE(mg.EQUATIONS["poisson 2d"], boundary=loom.Dirichlet(0))
    net = loom.compile(poisson, scheme=loom.Multigrid(2), guarantee="energy decrease")
    assert net.stability["energy decrease"].status == "unknown"
    assert "energy decrease" in net.stability.warnings[0]


@pytest.mark.parametrize("kind", ["no-flux", "periodic", "cell", "walls"])
@pytest.mark.parametrize("name", ["helmholtz 2d", "charbonnier 2d"])
def test_grids_stay_wider_than_their_ghost_rings(name, kind):
    """At order 4 the ring has up to five nodes: coarsening ends before a grid is narrower."""
    sides = loom.Dirichlet(0) if kind == "cell" else zoo.boundary(name, kind)
    net = loom.compile(
        loom.PDE(mg.EQUATIONS[name], boundary=sides),
        grid=loom.Grid(1.0, centering="cell" if kind == "cell" else "vertex"),
        space=loom.FiniteDifference(4),
        scheme=loom.Multigrid(1, smoother="chebyshev"),
    )
    for shape in ((5, 8), (11, 12), (16, 17)):
        u, data = mg.sample(net, shape, batch=1)
        new = net.module(torch.float64)(torch.from_numpy(u), **tensors(data)).detach().numpy()
        np.testing.assert_allclose(new, net.reference(u, **data), rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match=r"narrower than its ghost ring.*at least"):
        net.module()(torch.zeros(1, 1, 2, 9), f=torch.zeros(1, 1, 2, 9))


def by_multigrid(scheme, cycles, equation):
    return loom.compile(zoo.pde(equation), scheme=scheme(1, tau=1.0, solver=loom.Multigrid(cycles)))


@pytest.mark.parametrize("scheme", [loom.SemiImplicit, loom.BackwardEuler])
def test_steps_by_multigrid_say_what_is_left(scheme):
    def residual(cycles):
        net = by_multigrid(scheme, cycles, "perona-malik 2d")
        module = net.module(torch.float64)
        module(zoo.sample(net)[0])
        return float(module.residual)

    assert 1 > residual(1) > 10 * residual(4) > 0


def test_steps_by_multigrid_can_be_exported(tmp_path):
    module = by_multigrid(loom.SemiImplicit, 1, "perona-malik 1d").module(torch.float64)
    u = torch.rand(1, 1, 12, dtype=torch.float64)
    path = loom.export(module, (u,), tmp_path / "net.pt2")
    torch.testing.assert_close(torch.export.load(path).module()(u), module(u))


def test_options_that_the_inner_cycles_would_ignore():
    cycles = loom.Multigrid(2)
    with pytest.raises(loom.SchemeError, match="Multigrid, a class"):
        loom.SemiImplicit(1, tau=1.0, solver=loom.Multigrid)
    with pytest.raises(loom.SchemeError, match="options of their own"):
        loom.Solver("multigrid", cycles=cycles, tol=1e-8)
    heat = loom.PDE(Eq(loom.dt(mg.U), loom.laplacian(mg.U)), boundary=loom.NoFlux())
    with pytest.raises(loom.SchemeError, match=r"trainable.*stencil"):
        loom.compile(heat, scheme=loom.SemiImplicit(1, tau=1.0, solver=cycles), trainable=["stencil"])


def test_grids_that_cannot_be_coarsened():
    module = mg.network("poisson 2d", "dirichlet", levels=5).module()
    with pytest.raises(ValueError, match="4 levels, not 5"):
        module(torch.zeros(1, 1, 31, 31), f=torch.zeros(1, 1, 31, 31))
    module = mg.network("poisson 2d", "dirichlet", levels=1).module()
    with pytest.raises(ValueError, match="too large to solve directly"):
        module(torch.zeros(1, 1, 65, 65), f=torch.zeros(1, 1, 65, 65))
    module = mg.network("coefficient 2d", "periodic", coarse="galerkin").module()
    with pytest.raises(ValueError, match="halve exactly"):
        module(torch.zeros(1, 1, 9, 16), a=torch.ones(1, 1, 9, 16), f=torch.zeros(1, 1, 9, 16))


# --- inside implicit steps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["no-flux", "dirichlet", "mixed"])
@pytest.mark.parametrize("name", ["heat 2d", "perona-malik 2d", "coefficient 2d", "perona-malik 1d", "separable 2d"])
def test_semi_implicit_steps_by_multigrid(name, kind):
    """The coefficients of a step go to the coarser grids with the old state; the reference solves exactly."""
    cycles = loom.Multigrid(12, tol=1e-9, post=1)
    net = loom.compile(zoo.pde(name, kind), scheme=loom.SemiImplicit(2, tau=3.0, solver=cycles))
    assert net.architecture == "U-net" and "multigrid cycles" in net.source
    assert net.stability["norm decrease"].status == "proved"
    u, data = zoo.sample(net)
    with torch.no_grad():
        new = net.module(torch.float64)(u, **data).numpy()
    reference = net.reference(u.numpy(), **{k: v.numpy() for k, v in data.items()})
    np.testing.assert_allclose(new, reference, rtol=0, atol=1e-8 * abs(reference).max())


def test_other_implicit_steps_by_multigrid(tmp_path):
    """Crank–Nicolson and implicit Euler, by FAS where they are nonlinear; trained and saved."""
    for scheme in (loom.BackwardEuler, loom.CrankNicolson):
        net = loom.compile(zoo.pde("reaction 2d"), scheme=scheme(2, tau=2.0, solver=loom.Multigrid(12, tol=1e-9)))
        u, data = zoo.sample(net)
        new = net.module(torch.float64)(u, **data).numpy()
        reference = net.reference(u.numpy(), **{k: v.numpy() for k, v in data.items()})
        np.testing.assert_allclose(new, reference, rtol=0, atol=1e-8)
    for scheme in (loom.SemiImplicit, loom.BackwardEuler):
        _check_trained_steps(scheme(1, tau=1.0, solver=loom.Multigrid(2)), tmp_path / scheme.name)


NONLINEAR = ["perona-malik 1d", "perona-malik 2d", "coefficient and g 2d", "reaction 2d"]


@pytest.mark.parametrize("scheme", [loom.BackwardEuler, loom.CrankNicolson])
@pytest.mark.parametrize(("name", "kind"), [(n, k) for i, n in enumerate(NONLINEAR) for k in zoo.KINDS[i % 2 :: 2]])
def test_nonlinear_implicit_steps_by_full_approximation(name, kind, scheme):
    """v − τf(v) = …, solved by FAS to a tolerance; the reference solves by Newton's method."""
    cycles = loom.Multigrid(25, tol=1e-9)
    net = loom.compile(zoo.pde(name, kind), scheme=scheme(2, tau=0.5, solver=cycles), unstable="allow")
    u, data = zoo.sample(net)
    with torch.no_grad():
        new = net.module(torch.float64)(u, **data).numpy()
    reference = net.reference(u.numpy(), **{k: v.numpy() for k, v in data.items()})
    np.testing.assert_allclose(new, reference, rtol=0, atol=1e-8)


def _check_trained_steps(scheme, folder):
    net = loom.compile(zoo.pde("perona-malik 2d"), scheme=scheme, trainable=["lam", "tau"])
    assert net.stability["norm decrease"].status == "unknown", "two cycles are no solve"
    module = net.module(torch.float64)
    u, _ = zoo.sample(net)
    weights = dict(module.named_parameters())
    loaded = loom.load(net.save(folder / "net", module))
    assert loaded.scheme == net.scheme
    again = loaded.module(torch.float64)
    torch.testing.assert_close(again(u), module(u))
    u = u[:1, :, :5, :6].clone().requires_grad_()

    def run(u, *values):
        return torch.func.functional_call(module, dict(zip(weights, values, strict=True)), (u,))

    values = [w.detach().clone().requires_grad_() for w in weights.values()]
    assert torch.autograd.gradcheck(run, [u, *values], atol=1e-6, rtol=1e-4, fast_mode=True)
    path = folder / "net" / "net.py"
    for command in (["format", "--check", "--isolated"], ["check", "--isolated"]):
        done = subprocess.run([sys.executable, "-m", "ruff", *command, str(path)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:]


# --- as a torch module ------------------------------------------------------------------------------------------

GRADIENTS = [
    ("poisson 2d", "dirichlet", {}),
    ("coefficient 2d", "no-flux", {"trainable": ["smoother", "transfer", "coarse"]}),
    ("helmholtz 2d", "periodic", {"trainable": ["smoother", "kappa"]}),
    ("charbonnier 2d", "no-flux", {"trainable": ["lam"]}),
]


@pytest.mark.parametrize("gradient", ["unrolled", "implicit"])
@pytest.mark.parametrize("case", GRADIENTS, ids=str)
def test_gradients(case, gradient):
    """In the guess, the data and the weights; through the cycles, or through the equation they have solved."""
    name, kind, options = case
    net = mg.network(name, kind, gradient=gradient, cycles=1 if gradient == "unrolled" else 25, **options)
    module = net.module(torch.float64)
    u, data = mg.sample(net, (6, 5), batch=1)
    names, weights = list(data), dict(module.named_parameters())

    def run(u, *rest):
        fields = dict(zip(names, rest, strict=False))
        if net.compiled.elliptic.singular:
            fields["f"] = fields["f"] - fields["f"].mean()
        here = dict(zip(weights, rest[len(names) :], strict=True))
        return torch.func.functional_call(module, here, (u,), fields)

    inputs = [torch.from_numpy(v) for v in (u, *data.values())] + [w.detach().clone() for w in weights.values()]
    inputs = [v.requires_grad_() for v in inputs]
    assert torch.autograd.gradcheck(run, inputs, atol=1e-6, rtol=1e-4, fast_mode=True, nondet_tol=1e-10)


def test_implicit_gradients_are_those_of_many_cycles():
    results = []
    for gradient in ("unrolled", "implicit"):
        net = mg.network("helmholtz 2d", "no-flux", cycles=16, gradient=gradient, trainable=["kappa", "smoother"])
        module = net.module(torch.float64)
        u, data = mg.sample(net, (12, 12))
        (module(torch.from_numpy(u), **tensors(data)) ** 2).sum().backward()
        results.append(module.log_kappa.grad)
        worst = max(
            float(p.grad.abs().max()) for n, p in module.named_parameters() if "logit" in n and p.grad is not None
        )
        assert worst < 1e-9, "the solution does not depend on the smoother"
    torch.testing.assert_close(results[0], results[1], rtol=1e-8, atol=0)


def test_compile_export_vmap_and_low_precision():
    net = mg.network("helmholtz 2d", "no-flux", cycles=1, h=1.0, trainable=["smoother"])
    module = net.module(torch.float64)
    u, data = mg.sample(net, (6, 6))
    u, f = torch.from_numpy(u), torch.from_numpy(data["f"])
    with torch.no_grad():
        expected = module(u, f=f)
        program = torch.export.export(module, (u,), {"f": f})
        torch.testing.assert_close(program.module()(u, f=f), expected)
        compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(u, f=f), expected)
        each = torch.vmap(lambda v, w: module(v[None], f=w[None])[0])(u, f)
        torch.testing.assert_close(each, expected)
        for dtype, atol in ((torch.float32, 1e-5), (torch.bfloat16, 0.1)):
            low = net.module(dtype)(u.to(dtype), f=f.to(dtype))
            assert low.dtype == dtype
            torch.testing.assert_close(low.double(), expected, rtol=0, atol=atol * float(expected.abs().max()))


def test_trained_on_small_grids_it_runs_on_large_ones():
    """A few steps of training on 16² make three cycles better there and at 64²; the fixed point stays the solution."""
    net = mg.network(
        "coefficient 2d", "no-flux", 16, cycles=2, trainable=["smoother", "transfer", "coarse"], shared=True
    )
    module = net.module(torch.float64)

    def loss(n, seed):
        u, data = mg.sample(net, (n, n), seed=seed, batch=4)
        data["a"] = np.exp(1.5 * np.log(data["a"]))
        _, history = module(torch.from_numpy(u), **tensors(data), history=True)
        return history[-1].log().mean()

    before = [loss(n, 99).item() for n in (16, 64)]
    optimiser = torch.optim.Adam(module.parameters(), lr=0.02)
    for step in range(25):
        optimiser.zero_grad()
        loss(16, step).backward()
        optimiser.step()
    after = [loss(n, 99).item() for n in (16, 64)]
    assert after[0] < before[0] - 0.1 and after[1] < before[1]
    u, data = mg.sample(net, (16, 16), batch=1)
    state = torch.from_numpy(u)
    for _ in range(12):
        state = module(state, **tensors(data))
    classical = mg.network("coefficient 2d", "no-flux", 16, cycles=24).module(torch.float64)
    torch.testing.assert_close(state, classical(torch.from_numpy(u), **tensors(data)), rtol=0, atol=1e-9)


def test_galerkin_decreases_the_energy():
    """What the report proves, seen: ‖u − u*‖_A falls in every cycle, with positive coefficients of any kind."""
    net = mg.network("coefficient 2d", "dirichlet", 15, coarse="galerkin", cycles=6, pre=1, post=0)
    assert net.stability["energy decrease"].status == "proved"
    assert net.stability["energy decrease"].assumptions == ("a > 0 at every node",)
    assert net.stability["two-grid factor"].status == "unknown"
    for options in ({"trainable": ["transfer"]}, {"recombine": 2}):
        other = mg.network("coefficient 2d", "dirichlet", 15, coarse="galerkin", **options)
        assert other.stability["energy decrease"].status == "unknown"
    u, data = mg.sample(net, (15, 15), batch=1)
    data["a"] = data["a"] ** 6
    states = net.reference.history(u, **data)
    level = Level(net.reference, 0, net.compiled.elliptic.shapes((15, 15)), data)
    M = level.dense(None)[0]
    exact = np.linalg.solve(M, data["f"].ravel())
    energies = [(s.ravel() - exact) @ M @ (s.ravel() - exact) for s in states]
    assert all(b < a for a, b in itertools.pairwise(energies))


def test_the_energy_on_cells_is_proved_for_adjoint_transfers_alone():
    """Means are the adjoint of constant interpolation, and of no other."""
    options = {"coarse": "galerkin", "centering": "cell", "cycles": 6}
    assert mg.network("coefficient 2d", "dirichlet", 16, **options).stability["energy decrease"].status == "unknown"
    net = mg.network("coefficient 2d", "dirichlet", 16, prolongation="constant", **options)
    assert net.stability["energy decrease"].status == "proved"
    u, data = mg.sample(net, (16, 16), batch=1)
    states = net.reference.history(u, **data)
    level = Level(net.reference, 0, net.compiled.elliptic.shapes((16, 16)), data)
    M = level.dense(None)[0]
    exact = np.linalg.solve(M, data["f"].ravel())
    energies = [(s.ravel() - exact) @ M @ (s.ravel() - exact) for s in states]
    assert all(b < a for a, b in itertools.pairwise(energies))


def test_the_documented_example_runs():
    """The code of docs/multigrid.md, as it stands there."""
    text = (Path(__file__).parents[1] / "docs" / "multigrid.md").read_text(encoding="utf-8")
    names: dict = {}
    exec(re.search(r"```python\n(.*?)```", text, re.S).group(1), names)  # the project's own page
    assert names["solution"].shape == (1, 1, 63, 63) and names["net"].architecture == "U-net"
    n = 63
    L = laplacian_1d(n, 1 / 64, "dirichlet")
    eye = scipy.sparse.eye_array(n)
    exact = scipy.sparse.linalg.spsolve(
        -(scipy.sparse.kron(L, eye) + scipy.sparse.kron(eye, L)).tocsc(), np.ones(n * n)
    )
    np.testing.assert_allclose(names["solution"].numpy().ravel(), exact, rtol=0, atol=1e-9)


# --- the text ---------------------------------------------------------------------------------------------------


def test_golden_file():
    """What a reader will see. PDELOOM_GOLDEN=write renews the file."""
    source = mg.network("poisson 2d", "dirichlet", 15, h=1 / 16, cycles=6).source
    file = GOLDEN / "multigrid_2d.py"
    if os.environ.get("PDELOOM_GOLDEN") == "write":
        file.write_text(source, encoding="utf-8")
    assert source == file.read_text(encoding="utf-8")


def test_every_emitted_file_is_formatted_clean_and_needs_torch_alone(tmp_path):
    for i, (name, kind, n, options) in enumerate(mg.VARIANTS + mg.TRAINED):
        source = mg.network(name, kind, n, **options).source
        (tmp_path / f"net_{i}.py").write_text(source, encoding="utf-8")
        tree = ast.parse(source)
        imported = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
        imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert imported <= {"torch", "torch._C._functorch", "functools", "itertools", "typing"}
    for command in (["format", "--check", "--isolated"], ["check", "--isolated"]):
        done = subprocess.run([sys.executable, "-m", "ruff", *command, str(tmp_path)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


@pytest.mark.parametrize("name", ["helmholtz 2d", "charbonnier 2d"])
def test_the_graph_is_that_of_a_cycle(name):
    """Smoother, restriction, solve, prolongation, in this order; A in between as stencils and fluxes."""
    graph = mg.network(name, "no-flux", cycle="W", cycles=1).graph
    kinds = [node["op"].kind for node in graph.nodes.values()]
    order = [k for k in kinds if k in ("smoother", "restriction", "solve", "prolongation")]
    linear = name.startswith("helmholtz")
    assert order == ["smoother", *["restriction"] * (1 if linear else 2), "solve", "solve", "prolongation", "smoother"]
    assert ("flux" in kinds) != linear and {"stencil", "combination"} <= set(kinds)
    assert "restriction" in mg.network(name, "no-flux").dump("cycle")


def test_round_trip_report_and_explanation(tmp_path):
    net = mg.network("charbonnier 2d", "no-flux", 16, trainable=["lam", "smoother"])
    module = net.module(torch.float64)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.1)
    net.save(tmp_path / "net", module)
    again = loom.load(tmp_path / "net").module(torch.float64)
    assert all(
        torch.equal(a, b) for a, b in zip(module.state_dict().values(), again.state_dict().values(), strict=True)
    )
    page = net.report(tmp_path / "r.html", module).read_text(encoding="utf-8")
    assert "two-grid factor" in page and "full approximation scheme" in page
    assert "restrict, the downsampling" in net.explain() and "U-net" in repr(net)
    assert "estimate" in str(net.stability)

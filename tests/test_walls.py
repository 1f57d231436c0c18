"""Walls of values other than 0: the schemes, their certificates and multigrid, against matrices and closed forms."""

from __future__ import annotations

import multigrids as mg
import numpy as np
import pytest
import scipy.linalg
import sympy as sp
import torch
import zoo
from sympy import Eq

import pdeloom as loom

D, x, y, U, V, X = loom.Dirichlet, zoo.x, zoo.y, zoo.U, zoo.V, zoo.X
LOW, HIGH = 1.0, -0.5
"""The values of zoo.walls."""


def compiled(equation, boundary, scheme=None, centering="vertex", h=0.5, order=2, **options):
    return loom.compile(
        loom.PDE(equation, boundary=boundary),
        grid=loom.Grid(h, centering=centering),
        space=loom.FiniteDifference(order),
        scheme=scheme or loom.ForwardEuler(3, tau=1e-3),
        **options,
    )


def second_difference(n, h, centering):
    """(A, b) with u'' ≈ A u + b between walls of values LOW and HIGH, written down by hand."""
    A = (np.diag(np.full(n, -2.0)) + np.diag(np.ones(n - 1), 1) + np.diag(np.ones(n - 1), -1)) / h**2
    b, factor = np.zeros(n), 1.0
    if centering == "cell":
        A[0, 0] = A[-1, -1] = -3 / h**2
        factor = 2.0
    b[0], b[-1] = factor * LOW / h**2, factor * HIGH / h**2
    return A, b


@pytest.mark.parametrize(("order", "centering"), [(2, "vertex"), (4, "cell")])
@pytest.mark.parametrize("name", [n for n in zoo.EQUATIONS if n not in zoo._ALIKE])
def test_module_equals_reference(name, order, centering):
    net = compiled(zoo.EQUATIONS[name], zoo.walls(name), centering=centering, order=order, unstable="allow")
    u, data = zoo.sample(net)
    with torch.no_grad():
        new = net.module(torch.float64)(u, **data).numpy()
    reference = net.reference(u.numpy(), **{k: v.numpy() for k, v in data.items()})
    np.testing.assert_allclose(new, reference, rtol=0, atol=1e-12)


@pytest.mark.parametrize("centering", ["vertex", "cell"])
@pytest.mark.parametrize("scheme", [loom.ForwardEuler(400, tau=0.01), loom.RungeKutta(4, 80, tau=0.05)], ids=str)
def test_heat_between_walls_against_expm(scheme, centering):
    n, h, t = 12, 0.5, 4.0
    net = compiled(Eq(loom.dt(V), loom.laplacian(V)), {X: (D(LOW), D(HIGH))}, scheme, centering, h)
    A, b = second_difference(n, h, centering)
    u0 = np.random.default_rng(0).random(n)
    rest = np.linalg.solve(A, -b)
    exact = rest + scipy.linalg.expm(t * A) @ (u0 - rest)
    new = net.module(torch.float64)(torch.from_numpy(u0)[None, None])[0, 0].numpy()
    np.testing.assert_allclose(new, exact, atol=1e-3 if scheme.euler else 1e-6)


@pytest.mark.parametrize("centering", ["vertex", "cell"])
@pytest.mark.parametrize("name", ["heat 2d", "perona-malik 2d", "separable 2d"])
@pytest.mark.parametrize("order", [2, 4])
def test_the_straight_line_between_the_walls_is_at_rest(name, order, centering):
    """∇u is constant, and so is any flux: rounding is all that moves."""
    n = 9
    net = compiled(zoo.EQUATIONS[name], zoo.walls(name), centering=centering, order=order, unstable="allow")
    at = (np.arange(n) + 1) / (n + 1) if centering == "vertex" else (np.arange(n) + 0.5) / n
    line = torch.from_numpy(LOW + (HIGH - LOW) * at)[None, None, :, None].expand(1, 1, n, 6)
    with torch.no_grad():
        torch.testing.assert_close(net.module(torch.float64)(line), line, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("order", "centering"), [(2, "vertex"), (2, "cell"), (4, "vertex"), (4, "cell")])
def test_order_of_accuracy(order, centering):
    """f of 1 − 1.5s + sin πs, whose second derivative vanishes on the walls, as the odd continuation has it."""
    errors = []
    for n in (16, 32, 64):
        h = 1 / (n + 1) if centering == "vertex" else 1 / n
        net = compiled(Eq(loom.dt(V), loom.laplacian(V)), {X: (D(LOW), D(HIGH))}, None, centering, h, order,
                       unstable="allow")  # fmt: skip
        at = h * (np.arange(n) + (1 if centering == "vertex" else 0.5))
        u = (LOW + (HIGH - LOW) * at + np.sin(np.pi * at))[None, None]
        errors.append(abs(net.reference.rate(u) + np.pi**2 * np.sin(np.pi * at)).max())
    assert abs(np.log2(np.array(errors[:-1]) / errors[1:]) - order).max() < 0.2


def test_the_rate_is_the_gradient_of_the_energy_between_the_walls():
    for name in ("perona-malik 2d", "separable 2d", "heat 2d"):
        net = compiled(zoo.EQUATIONS[name], zoo.walls(name), centering="cell")
        u, _ = zoo.sample(net, batch=1, requires_grad=True)
        (slope,) = torch.autograd.grad(net.module(torch.float64).energy(u).sum(), u)
        rate = net.reference.rate(u.detach().numpy())
        np.testing.assert_allclose(-slope.numpy() / 0.5**2, rate, rtol=0, atol=1e-12)


# --- what is proved -------------------------------------------------------------------------------------------


def test_norms_are_those_of_the_deviation_from_one_wall():
    net = compiled(zoo.EQUATIONS["perona-malik 2d"], D(2), loom.ForwardEuler(4))
    assert (
        net.stability["norm decrease"].status == "proved" and "deviation" in net.stability["norm decrease"].witness.text
    )
    u = torch.rand(3, 1, 8, 9, dtype=torch.float64)
    new = net.module(torch.float64)(u)
    assert ((new - 2).flatten(1).norm(dim=1) < (u - 2).flatten(1).norm(dim=1)).all()
    over = compiled(zoo.EQUATIONS["perona-malik 2d"], D(2), loom.ForwardEuler(1, tau=0.2), unstable="allow")
    result = over.stability["norm decrease"]
    assert result.status == "refuted"
    (u,) = result.witness.inputs
    assert np.linalg.norm(over.reference(u) - 2) > np.linalg.norm(u - 2)
    assert "deviations from the walls of 2" in str(over.stability["maximum principle"].witness)


def test_walls_of_several_values_are_governed_by_the_maximum_principle():
    net = compiled(zoo.EQUATIONS["perona-malik 2d"], zoo.walls("perona-malik 2d"), loom.ForwardEuler(300))
    assert net.stability.governing == "maximum principle" and net.stability["maximum principle"].status == "proved"
    assert (
        net.stability["norm decrease"].status == "unknown" and "several" in net.stability["norm decrease"].witness.text
    )
    new = net.module(torch.float64)(torch.full((1, 1, 8, 9), 0.25, dtype=torch.float64))
    assert HIGH <= new.min() < 0 and 0.5 < new.max() <= LOW
    with pytest.raises(loom.UnstableSchemeError, match="maximum principle"):
        compiled(zoo.EQUATIONS["heat 2d"], zoo.walls("heat 2d"), loom.ForwardEuler(1, tau=0.2))


def test_nothing_is_refuted_by_a_search_that_ignores_the_walls():
    """A source and a wall pull to different values: norms and extremes are then open beyond the bounds."""
    damped = Eq(loom.dt(U), loom.laplacian(U) + loom.data("f", x, y) - U)
    net = compiled(damped, D(1), loom.ForwardEuler(1, tau=0.2), order=4, unstable="allow")
    assert {net.stability[n].status for n in ("norm decrease", "maximum principle")} == {"unknown"}


def test_an_interval_that_the_walls_leave_is_no_interval():
    allen_cahn = Eq(loom.dt(U), loom.laplacian(U) + U - U**3)
    inside, outside = (compiled(allen_cahn, D(v), loom.ForwardEuler(1, tau=0.01), unstable="allow") for v in (0.5, 3))
    assert inside.stability["maximum principle"].status == "proved"
    assert "value 3" in outside.stability["maximum principle"].witness.text


# --- gradients, solves, multigrid -----------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", [loom.SemiImplicit(2, tau=1.0), loom.BackwardEuler(2, tau=0.2)], ids=str)
def test_gradients_through_implicit_steps(scheme):
    net = compiled(zoo.EQUATIONS["perona-malik 2d"], zoo.walls("perona-malik 2d"), scheme, trainable=["lam"])
    module = net.module(torch.float64)
    u = torch.rand(1, 1, 5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(module, (u,), atol=1e-6, fast_mode=True)
    np.testing.assert_allclose(module(u).detach().numpy(), net.reference(u.detach().numpy()), atol=1e-8)


CASES = [
    (name, boundary, centering, options)
    for name in ("poisson 1d", "poisson 3d", "anisotropic 2d", "helmholtz 2d", "coefficient 2d", "charbonnier 2d")
    for boundary, centering, options in (
        ("walls", "vertex", {}),
        ("walls", "cell", {"smoother": "jacobi"}),
        ("one", "vertex", {"recombine": 1, "gradient": "implicit"}),
    )
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_multigrid_equals_its_reference(case):
    name, boundary, centering, options = case
    sides = zoo.walls(name) if boundary == "walls" else D(1.5)
    n = 7 if "3d" in name else 13
    h = 1.0 if name.startswith("charbonnier") else 1 / n
    net = compiled(mg.EQUATIONS[name], sides, loom.Multigrid(3, **options), centering, h)
    u, data = mg.sample(net, (n,) * zoo.dimension(name))
    tensors = {k: torch.from_numpy(v) for k, v in data.items()}
    with torch.no_grad():
        new, history = net.module(torch.float64)(torch.from_numpy(u), **tensors, history=True)
    reference = net.reference(u, **data)
    np.testing.assert_allclose(new.numpy(), reference, rtol=0, atol=1e-9 * abs(reference).max())
    assert history[-1].max() < 0.02


@pytest.mark.parametrize("centering", ["vertex", "cell"])
def test_poisson_between_walls_against_a_matrix(centering):
    """−u_xx − u_yy = 1 between walls of two values along x, no flux along y; and its solution at rest in time."""
    n, m, h = 14, 10, 0.1
    sides = {x: (D(LOW), D(HIGH)), y: loom.NoFlux()}
    net = compiled(Eq(-loom.laplacian(U), 1), sides, loom.Multigrid(14, tol=1e-9), centering, h)
    A, b = second_difference(n, h, centering)
    T = np.diag(np.full(m, -2.0)) + np.diag(np.ones(m - 1), 1) + np.diag(np.ones(m - 1), -1)
    T[0, 0] = T[-1, -1] = -1
    L = np.kron(A, np.eye(m)) + np.kron(np.eye(n), T / h**2)
    exact = np.linalg.solve(L, -1 - np.repeat(b, m)).reshape(n, m)
    new = net.module(torch.float64)(torch.zeros(1, 1, n, m, dtype=torch.float64))
    np.testing.assert_allclose(new[0, 0].numpy(), exact, rtol=0, atol=1e-8)
    flow = compiled(Eq(loom.dt(U), loom.laplacian(U) + 1), sides, None, centering, h, unstable="allow")
    assert abs(flow.reference.rate(new.numpy())).max() < 1e-5


@pytest.mark.parametrize("name", ["heat 2d", "perona-malik 2d"])
def test_semi_implicit_steps_by_multigrid(name):
    scheme = loom.SemiImplicit(2, tau=3.0, solver=loom.Multigrid(12, tol=1e-9))
    net = compiled(zoo.EQUATIONS[name], zoo.walls(name), scheme, "cell")
    u, _ = zoo.sample(net)
    with torch.no_grad():
        new = net.module(torch.float64)(u).numpy()
    np.testing.assert_allclose(new, net.reference(u.numpy()), rtol=0, atol=1e-8)


# --- the language ---------------------------------------------------------------------------------------------


def test_walls_in_text_and_in_a_saved_network(tmp_path):
    pde = loom.parse(
        "dt(u) = laplacian(u)", coordinates=["x"], fields=["u"], boundary={"x": ["dirichlet(1.25)", "dirichlet(-3)"]}
    )
    net = loom.compile(pde, scheme=loom.ForwardEuler(2))
    assert "Dirichlet(1.25) / Dirichlet(-3)" in net.source
    again = loom.load(net.save(tmp_path / "net", net.module(torch.float64)))
    u = torch.rand(1, 1, 9, dtype=torch.float64)
    torch.testing.assert_close(again.module(torch.float64)(u), net.module(torch.float64)(u))


@pytest.mark.parametrize("value", ["1", True, float("nan"), float("inf"), sp.Symbol("a"), None])
def test_a_wall_needs_a_number(value):
    with pytest.raises(loom.BoundaryError, match="must be"):
        D(value)


def test_a_wall_may_be_any_real_number():
    assert D(sp.Rational(1, 4)) == D(0.25) == D(np.float32(0.25)) and D(sp.pi).value == np.pi
    for text in ("dirichlet(1/3)", "dirichlet(", "dirichlet(x)"):
        with pytest.raises(loom.BoundaryError, match="decimal number"):
            loom.parse("dt(u) = laplacian(u)", coordinates=["x"], fields=["u"], boundary=text)


def test_two_values_in_one_corner():
    sides = {x: D(0), y: D(1)}
    with pytest.raises(loom.BoundaryError, match="meet along x and y"):
        compiled(zoo.EQUATIONS["perona-malik 2d"], sides)
    for name in ("heat 2d", "separable 2d", "coefficient 2d"):
        net = compiled(zoo.EQUATIONS[name], sides)
        u, data = zoo.sample(net)
        with torch.no_grad():
            new = net.module(torch.float64)(u, **data).numpy()
        wanted = net.reference(u.numpy(), **{k: v.numpy() for k, v in data.items()})
        np.testing.assert_allclose(new, wanted, rtol=0, atol=1e-12)
    with pytest.raises(loom.SchemeError, match="first='full'"):
        compiled(mg.EQUATIONS["poisson 2d"], D(1), loom.Multigrid(2, first="full"))

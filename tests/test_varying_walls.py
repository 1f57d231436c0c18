"""Walls whose values vary along them or in time: against matrices, closed forms and the reference."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.integrate
import sympy as sp
import torch
import zoo
from sympy import Eq, cos, exp, sin

import pdeloom as loom
from pdeloom.compiler.parse import unparse_boundary

x, y = loom.coordinates("x y")
u, v = loom.field("u", x, y), loom.field("v", x, y)
z = loom.coordinates("z")
w = loom.field("w", z)
t, D, NO, lap = loom.t, loom.Dirichlet, loom.NoFlux(), loom.laplacian

EQUATIONS = {
    "heat": lap(u),
    "perona-malik": loom.div(loom.grad(u) / (1 + loom.norm2(loom.grad(u)))),
    "porous": loom.div((1 + u**2) * loom.grad(u)),
    "fourth order": -lap(lap(u)),
}
WALLS = {
    "space": {x: (D(sin(y)), D(1)), y: (D(x * (1 + x)), NO)},
    "time": {x: D(sin(3 * t)), y: NO},
    "both": {x: (D(sin(3 * t) * cos(y)), loom.Neumann(t * y)), y: (loom.Robin(1, 2, sin(x - t)), D(x * t))},
    "periodic": {x: (D(sin(3 * t) * cos(y)), D(0)), y: loom.Periodic()},
}
SCHEMES = {
    "euler": loom.ForwardEuler(3, tau=1e-3),
    "runge-kutta": loom.RungeKutta(4, 2, tau=1e-3),
    "adams-bashforth": loom.AdamsBashforth(3, tau=1e-3),
    "rkl": loom.RKL(2, 4, 2, tau=1e-3),
    "fed": loom.FED(2, 3, tau=1e-4),
    "implicit": loom.BackwardEuler(2, tau=0.1),
    "crank-nicolson": loom.CrankNicolson(2, tau=0.1),
    "semi-implicit": loom.SemiImplicit(2, tau=0.1),
    "aos": loom.AOS(2, tau=0.1),
    "du fort-frankel": loom.DuFortFrankel(3, tau=1e-3, alpha=50.0),
}


def compiled(right, boundary, scheme, field=u, **options):
    pde = loom.PDE(Eq(loom.dt(field), right), boundary=boundary)
    return loom.compile(pde, scheme=scheme, unstable="allow", **{"grid": loom.Grid(0.3), **options})


def agree(net, state, tolerance=1e-8, times=None):
    given = {"t": np.asarray(times)} if net.compiled.problem.timed else {}
    with torch.no_grad():
        new = net.module(torch.float64)(torch.from_numpy(state), **{k: torch.from_numpy(v) for k, v in given.items()})
    expected = net.reference(state, **given)
    np.testing.assert_allclose(new.numpy(), expected, rtol=tolerance, atol=tolerance)
    return expected


@pytest.mark.parametrize(
    ("walls", "scheme", "centering"),
    [(w, s, ("vertex", "cell")[(i + j) % 2]) for i, s in enumerate(SCHEMES) for j, w in enumerate(WALLS)],
)
def test_the_module_is_the_reference(walls, scheme, centering):
    state = np.random.default_rng(0).uniform(0, 1, (2, 1, 9, 8))
    solves = SCHEMES[scheme].structure.solves > 0
    for name, right in EQUATIONS.items():
        if solves and name in ("perona-malik", "fourth order"):  # slow, and in explicit steps as well
            continue
        try:
            net = compiled(right, WALLS[walls], SCHEMES[scheme], grid=loom.Grid(0.3, centering=centering))
        except (loom.BoundaryError, loom.SchemeError):
            assert name != "heat"
            continue
        agree(net, state, times=[0.4, 1.5])


@pytest.mark.parametrize("order", [2, 4])
@pytest.mark.parametrize("walls", ["space", "time", "periodic"])
def test_at_order_four(walls, order):
    net = compiled(EQUATIONS["heat"], WALLS[walls], SCHEMES["euler"], space=loom.FiniteDifference(order))
    agree(net, np.random.default_rng(0).uniform(0, 1, (2, 1, 9, 8)), 1e-13, [0.4, 1.5])


def test_it_is_the_matrix_with_the_values_beside():
    """Between nodes of values a(y) and b: u_xx + u_yy with these in place of what is missing."""
    n, m, h, tau = 6, 5, 0.5, 0.01
    net = compiled(
        lap(u), {x: (D(1 + y**2), D(3)), y: loom.Periodic()}, loom.ForwardEuler(1, tau=tau), grid=loom.Grid(h)
    )
    state = np.random.default_rng(0).normal(size=(n, m))
    at = h * np.arange(m)
    wide = np.concatenate([(1 + at**2)[None], state, np.full((1, m), 3.0)])
    rate = wide[2:] - 2 * state + wide[:-2] + np.roll(state, 1, 1) - 2 * state + np.roll(state, -1, 1)
    np.testing.assert_allclose(net.reference(state[None, None])[0, 0], state + tau * rate / h**2, atol=1e-13)


@pytest.mark.parametrize(
    ("boundary", "centering"),
    [
        ((D(exp(-t)), D(exp(-t) * cos(1))), "vertex"),
        ((D(exp(-t)), D(exp(-t) * cos(1))), "cell"),
        ((loom.Neumann(0), loom.Neumann(-exp(-t) * sin(1))), "cell"),
        ((loom.Robin(1, 1, exp(-t)), D(exp(-t) * cos(1))), "cell"),
    ],
    ids=str,
)
def test_a_manufactured_solution_of_second_order(boundary, centering):
    """w = e^{−t} cos z solves the heat equation between its own values; all of them are functions of time."""
    errors = []
    for n in (10, 20):
        h = 1 / (n + 1) if centering == "vertex" else 1 / n
        at = h * (np.arange(n) + (1 if centering == "vertex" else 0.5))
        steps = 1600
        net = compiled(
            lap(w), {z: boundary}, loom.RungeKutta(2, steps, tau=0.5 / steps), w, grid=loom.Grid(h, centering=centering)
        )
        start = torch.from_numpy(np.exp(-0.2) * np.cos(at))[None, None]
        found = net.module(torch.float64)(start, t=0.2)[0, 0].numpy()
        errors.append(abs(found - np.exp(-0.7) * np.cos(at)).max())
    assert np.log2(errors[0] / errors[1]) > 1.85


@pytest.mark.parametrize(
    ("scheme", "order"), [("heun", 2), ("adams-bashforth", 2), ("crank-nicolson", 2), ("implicit", 1)]
)
def test_orders_in_time_against_scipy(scheme, order):
    """Two nodes between walls of values sin 3t and t: an equation of two unknowns."""

    def rate(s, q):
        return np.array([np.sin(3 * s) - 2 * q[0] + q[1], q[0] - 2 * q[1] + s])

    exact = scipy.integrate.solve_ivp(rate, (0.3, 1.3), [0.5, -0.2], rtol=1e-12, atol=1e-12).y[:, -1]
    made = {
        "heun": loom.Heun, "adams-bashforth": loom.AdamsBashforth, "crank-nicolson": loom.CrankNicolson,
        "implicit": loom.BackwardEuler,
    }[scheme]  # fmt: skip
    errors = []
    for n in (20, 40):
        net = compiled(lap(w), {z: (D(sin(3 * t)), D(t))}, made(n, tau=1 / n), w, grid=loom.Grid(1.0))
        start = torch.tensor([[[0.5, -0.2]]], dtype=torch.float64)
        errors.append(abs(net.module(torch.float64)(start, t=0.3)[0, 0].detach().numpy() - exact).max())
    assert np.log2(errors[0] / errors[1]) > order - 0.2


def test_a_wave_is_driven_by_its_end():
    """w_tt = w_zz, driven by sin 5t at one end: d'Alembert's sin 5(t − z) until it meets the other end."""
    n, L = 400, 2.0
    h, steps = L / (n + 1), 500
    pde = loom.PDE(Eq(loom.dt(w, 2), lap(w)), boundary={z: (D(sin(5 * t)), D(0))})
    net = loom.compile(pde, scheme=loom.Leapfrog(steps, tau=1.5 / steps), grid=loom.Grid(h))
    found = net.module(torch.float64)(torch.zeros(1, 1, n, dtype=torch.float64))[0, 0].numpy()
    at = h * np.arange(1, n + 1)
    np.testing.assert_allclose(found, np.where(at < 1.5, np.sin(5 * np.maximum(1.5 - at, 0)), 0), atol=0.03)


def test_inflow_that_changes_with_time():
    """w_t = −w_z at Courant number 1: what was let in at the wall moves by a node in every step."""
    n, h = 12, 0.1
    net = compiled(
        -loom.d(w, z), {z: (D(sin(4 * t)), NO)}, loom.ForwardEuler(8, tau=h), w,
        grid=loom.Grid(h), space=loom.FiniteVolume("rusanov"),
    )  # fmt: skip
    found = agree(net, np.zeros((1, 1, n)), 1e-12, 0.7)[0, 0]
    let_in = np.sin(4 * (0.7 + h * np.arange(8)))[::-1]
    np.testing.assert_allclose(found[:8], let_in, atol=1e-12)
    assert not found[8:].any()
    assert {net.stability[n].status for n in ("maximum principle", "CFL")} == {"unknown"}


def test_systems_with_values_of_their_own():
    boundary = {u: {x: D(sin(t)), y: NO}, v: {x: (D(cos(y)), NO), y: D(t)}}
    pde = loom.PDE([Eq(loom.dt(u), lap(u) + v), Eq(loom.dt(v), 0.5 * lap(v) - u)], boundary=boundary)
    for scheme in (SCHEMES["runge-kutta"], SCHEMES["implicit"], SCHEMES["adams-bashforth"]):
        net = loom.compile(pde, grid=loom.Grid(0.3, centering="cell"), scheme=scheme, unstable="allow")
        agree(net, np.random.default_rng(0).uniform(0, 1, (2, 2, 9, 8)), 1e-8, [0.4, 1.5])


def test_what_is_proved():
    """Distances do not grow, for the walls are the same for both; norms, energies and ranges are not claimed."""
    net = compiled(lap(u), WALLS["both"], loom.ForwardEuler(2), grid=loom.Grid(0.3, centering="cell"))
    assert net.stability["nonexpansive"].status == "proved"
    assert {net.stability[n].status for n in ("norm decrease", "energy decrease", "maximum principle")} == {"unknown"}
    g, tight = np.random.default_rng(0), net.stability["nonexpansive"].bound
    step = compiled(lap(u), WALLS["both"], loom.ForwardEuler(1, tau=tight), grid=loom.Grid(0.3, centering="cell"))
    for _ in range(10):
        a, b = g.normal(size=(2, 1, 1, 7, 6))
        moved = step.reference(a, t=0.3) - step.reference(b, t=0.3)
        assert np.linalg.norm(moved) <= np.linalg.norm(a - b) * (1 + 1e-12)


def test_an_energy_between_walls_that_vary_in_space():
    net = compiled(lap(u), WALLS["space"], loom.ForwardEuler(1, tau=1e-3), grid=loom.Grid(0.5, centering="cell"))
    zoo.energy_falls_along_its_gradient(net)


def test_gradients_compiling_and_saving(tmp_path):
    net = compiled(lap(u), WALLS["both"], loom.Heun(2, tau=0.01), trainable=["tau"])
    module = net.module(torch.float64)
    state = torch.rand(1, 1, 5, 4, dtype=torch.float64, requires_grad=True)
    when = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s, at: module(s, t=at), (state, when))
    expected = module(state, t=0.4)
    torch.testing.assert_close(torch.compile(module, fullgraph=True, backend="eager")(state, t=0.4), expected)
    net.save(tmp_path / "net", module)
    again = loom.load(tmp_path / "net")
    torch.testing.assert_close(again.module(torch.float64)(state, t=0.4), expected)


f, c = loom.data("f", x, y), loom.data("c", x, y, bounds=(0.5, 1))
GIVEN = {
    "both ends": {x: D(f), y: NO},
    "all kinds": {x: (D(f * sin(t)), loom.Neumann(f)), y: (loom.Robin(1, 2, f + x), D(f**2))},
    "across y": {x: NO, y: (D(f), D(1))},
    "periodic": {x: D(f), y: loom.Periodic()},
}


@pytest.mark.parametrize("centering", ["vertex", "cell"])
@pytest.mark.parametrize("walls", GIVEN)
def test_values_that_are_given_as_data(walls, centering):
    g = np.random.default_rng(0)
    state, values = (
        g.uniform(0, 1, (2, 1, 9, 8)),
        {"f": g.uniform(0, 1, (2, 1, 9, 8)), "c": g.uniform(0.5, 1, (1, 1, 9, 8))},
    )
    for right in (lap(u), loom.div(c * loom.grad(u)) + c):
        for scheme in ("euler", "adams-bashforth", "implicit"):
            net = compiled(right, GIVEN[walls], SCHEMES[scheme], grid=loom.Grid(0.3, centering=centering))
            problem = net.compiled.problem
            given = {str(d.func): values[str(d.func)] for d in problem.data}
            given |= {"t": np.array([0.4, 1.5])} if problem.timed else {}
            with torch.no_grad():
                new = net.module(torch.float64)(
                    torch.from_numpy(state), **{key: torch.from_numpy(v) for key, v in given.items()}
                )
            np.testing.assert_allclose(new.numpy(), net.reference(state, **given), rtol=1e-8, atol=1e-8)


def test_data_beside_a_wall_are_its_values(tmp_path):
    """The values of f beside a wall, and none of the others, with exact gradients."""
    n, m, h, tau = 5, 4, 0.5, 0.01
    net = compiled(lap(u), {x: (D(f), D(0)), y: loom.Periodic()}, loom.ForwardEuler(1, tau=tau), grid=loom.Grid(h))
    g = np.random.default_rng(0)
    state, values = g.normal(size=(2, 1, 1, n, m))
    module, given = net.module(torch.float64), torch.from_numpy(values).requires_grad_()
    moved = module(torch.from_numpy(state), f=given)
    plain = compiled(lap(u), {x: D(0), y: loom.Periodic()}, loom.ForwardEuler(1, tau=tau), grid=loom.Grid(h)).reference(
        state
    )
    plain[..., 0, :] += tau / h**2 * values[..., 0, :]
    np.testing.assert_allclose(moved.detach().numpy(), plain, atol=1e-14)
    (gradient,) = torch.autograd.grad(moved.sum(), given)
    assert torch.equal(gradient[..., 1:, :], torch.zeros(1, 1, n - 1, m, dtype=torch.float64))
    torch.testing.assert_close(gradient[..., 0, :], torch.full((1, 1, m), tau / h**2, dtype=torch.float64))
    net.save(tmp_path / "net", module)
    again = loom.load(tmp_path / "net").module(torch.float64)
    torch.testing.assert_close(again(torch.from_numpy(state), f=given), moved)
    assert "Dirichlet(f) / Dirichlet(0)" in net.source


def test_in_text():
    given = {"x": ["dirichlet(sin(3*t)*cos(y))", "neumann(t*y)"], "y": ["robin(1, 2, exp(-x))", "dirichlet(pi)"]}
    words = {"coordinates": ["x", "y"], "fields": ["u"]}
    pde = loom.parse("dt(u) = laplacian(u)", boundary=given, **words)
    shown = unparse_boundary(pde)
    again = loom.parse("dt(u) = laplacian(u)", boundary=shown, **words)
    for one, other in zip(pde.boundary.values(), again.boundary.values(), strict=True):
        assert one == other
    assert pde.boundary[x][0].value == sin(3 * t) * cos(y) and pde.boundary[y][1].value == np.pi


ERRORS = {
    "its own axis": (lambda: compiled(lap(u), {x: D(x), y: NO}, SCHEMES["euler"]), "reads x; it may read t, y"),
    "a stranger": (lambda: compiled(lap(u), {x: D(sp.Symbol("q")), y: NO}, SCHEMES["euler"]), "reads q"),
    "the field": (lambda: compiled(lap(u), {x: D(u), y: NO}, SCHEMES["euler"]), "reads "),
    "data of another plane": (lambda: compiled(lap(u), {x: D(loom.data("f", x)), y: NO}, SCHEMES["euler"]), "reads f"),
    "no function of ours": (lambda: compiled(lap(u), {x: D(sp.gamma(y)), y: NO}, SCHEMES["euler"]), "reads gamma"),
    "couples directions": (
        lambda: compiled(EQUATIONS["perona-malik"], WALLS["periodic"], SCHEMES["euler"]), "couples directions",
    ),
    "second derivatives": (
        lambda: compiled(EQUATIONS["fourth order"], WALLS["periodic"], SCHEMES["euler"]), "varies along a wall",
    ),
    "mixed derivatives": (
        lambda: compiled(lap(u) + loom.d(loom.d(u, x), y), {x: D(sin(y)), y: NO}, SCHEMES["euler"]), "mixed derivatives",
    ),
    "multigrid": (
        lambda: compiled(lap(u), {x: D(sin(y)), y: NO}, loom.BackwardEuler(1, tau=0.1, solver=loom.Multigrid(2))),
        "multigrid",
    ),
    "steady": (
        lambda: loom.compile(loom.PDE(Eq(-lap(u), 1), boundary={x: D(sin(y)), y: NO}), scheme=loom.Multigrid(2)),
        "multigrid",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS)
def test_errors_name_the_culprit(case):
    make, match = ERRORS[case]
    with pytest.raises(loom.BoundaryError, match=match):
        make()


@pytest.mark.parametrize(
    "text", ["dirichlet(q)", "dirichlet(sin(y)", "dirichlet()", "robin(1, y, 2)", "neumann(grad(u))"]
)
def test_wrong_text(text):
    with pytest.raises(loom.BoundaryError):
        loom.compile(
            loom.parse(
                "dt(u) = laplacian(u)", coordinates=["x", "y"], fields=["u"], boundary={"x": text, "y": "no-flux"}
            ),
            scheme=SCHEMES["euler"],
        )


def test_walls_that_are_not_finite():
    """sqrt(y − 1) along a wall that begins at 0."""
    net = compiled(lap(u), {x: D(sp.sqrt(y - 1)), y: NO}, loom.ForwardEuler(2, tau=1e-3))
    with pytest.raises(ValueError, match="value of a wall is not finite"):
        net.module()(torch.zeros(1, 1, 6, 8))
    whole = compiled(lap(u), {x: D(sp.sqrt(y + 1)), y: NO}, loom.AdamsBashforth(3, tau=1e-3))
    agree(whole, np.random.default_rng(0).uniform(0, 1, (2, 1, 6, 8)), 1e-12)
    module = whole.module(torch.float64)
    state = torch.rand(2, 1, 6, 8, dtype=torch.float64)
    torch.testing.assert_close(torch.compile(module, fullgraph=True, backend="eager")(state), module(state))
    torch.testing.assert_close(torch.vmap(lambda s: module(s[None])[0])(state), module(state))

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


@pytest.mark.parametrize("value", ["1", True, float("nan"), float("inf"), None])
def test_a_wall_needs_a_number(value):
    with pytest.raises(loom.BoundaryError, match="must be"):
        D(value)


def test_a_wall_may_be_any_real_number():
    assert D(sp.Rational(1, 4)) == D(0.25) == D(np.float32(0.25)) and D(sp.pi).value == np.pi
    for text in ("dirichlet(", "dirichlet()", "dirichlet(q)"):
        with pytest.raises(loom.BoundaryError, match=r"write what it needs, such as|unknown name"):
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


# --- Neumann and Robin conditions ----------------------------------------------------------------------------------

N, R = loom.Neumann, loom.Robin
OPEN = {
    "neumann": {x: (N(0.5), N(-1.0)), y: loom.NoFlux()},
    "robin": {x: (R(1.0, 2.0, 0.7), R(0.5, 0.1)), y: R(1.0, 1.0, 0.7)},
    "with others": {x: (loom.Dirichlet(1), N(0.5)), y: loom.Periodic()},
}
OPEN_SCHEMES = {
    "explicit": loom.ForwardEuler(3, tau=0.02),
    "rk": loom.RungeKutta(4, 2, tau=0.02),
    "implicit": loom.BackwardEuler(2, tau=0.1),
    "semi-implicit": loom.SemiImplicit(2, tau=0.1),
    "aos": loom.AOS(2, tau=0.1),
}


@pytest.mark.parametrize("scheme", OPEN_SCHEMES)
@pytest.mark.parametrize("kind", OPEN)
def test_module_equals_reference_beside_open_sides(kind, scheme):
    for name in ("perona-malik 2d", "separable 2d", "porous 2d", "coefficient and g 2d", "reaction 2d"):
        net = compiled(zoo.EQUATIONS[name], OPEN[kind], OPEN_SCHEMES[scheme], unstable="allow")
        u, data = zoo.sample(net)
        with torch.no_grad():
            new = net.module(torch.float64)(u, **data).numpy()
        reference = net.reference(u.numpy(), **{k: v.numpy() for k, v in data.items()})
        np.testing.assert_allclose(new, reference, rtol=0, atol=1e-12 if scheme in ("explicit", "rk") else 1e-8)


def test_heat_beside_open_sides_against_matrices_and_its_rest():
    """u'' with ∂u/∂n = ½ on the left and u + 2∂u/∂n = 0.7 on the right, written by hand; it comes to rest at a line."""
    n, h = 10, 0.25
    A, c = second_difference(n, h, "vertex")[0], np.zeros(n)
    r, s = (2 / h - 0.5) / (2 / h + 0.5), 0.7 / (2 / h + 0.5)
    A[0, 0] += 1 / h**2
    A[-1, -1] += r / h**2
    c[0], c[-1] = 0.5 * h / h**2, s / h**2
    net = compiled(Eq(loom.dt(V), loom.laplacian(V)), {X: (N(0.5), R(1, 2, 0.7))}, loom.BackwardEuler(1, tau=1e6), h=h)
    u0 = np.random.default_rng(0).random(n)
    np.testing.assert_allclose(net.compiled.reference().rate(u0[None, None])[0, 0], A @ u0 + c, atol=1e-12)
    rest = net.module(torch.float64)(torch.from_numpy(u0[None, None])).detach().numpy()[0, 0]
    nodes = (np.arange(n) + 0.5) * h
    line = -0.5 * (nodes - n * h) + (0.7 + 2 * 0.5)  # slope −½, and u + 2u' = 0.7 at the right end
    np.testing.assert_allclose(rest, line, atol=1e-4)


def test_what_flows_in_is_what_is_gained():
    net = compiled(zoo.EQUATIONS["perona-malik 2d"], {x: (N(0.5), loom.NoFlux()), y: loom.NoFlux()}, h=0.5)
    u, _ = zoo.sample(net)
    reference = net.compiled.reference()
    gained = reference.rate(u.numpy()).sum((1, 2, 3)) * 0.25
    inflow = []
    for w in u.numpy()[:, 0]:  # Φ = g·½ on every face of the wall, g from the squares around the first node
        ringed = np.pad(w, 1, mode="edge")
        ringed[0, 1:-1] = w[0] + 0.5 * 0.5
        dx, dy = np.diff(ringed[:, 1:-1], axis=0) / 0.5, np.diff(ringed[1:-1], axis=1) / 0.5
        q = (dx[:-1] ** 2 + dx[1:] ** 2 + dy[:, :-1] ** 2 + dy[:, 1:] ** 2) / 2
        inflow.append((0.5 * 0.5 / (1 + q[0] / float(zoo.LAM.value) ** 2)).sum())
    np.testing.assert_allclose(gained, inflow, atol=1e-12)


@pytest.mark.parametrize("flux", ["linear", "tanh"])
def test_open_sides_are_of_second_order(flux):
    """u = e^(−t) cos(x + ½) on [0, 1] with a source; Neumann on the left, Robin on the right, values from the solution
    at t = 0, where the rate is compared: its truncation error inside, and the error of a steady state, are O(h²)."""
    law = sp.tanh if flux == "tanh" else lambda s: s
    s = sp.Symbol("s")
    exact = sp.cos(s + sp.Rational(1, 2))
    source = sp.lambdify(s, -sp.diff(law(sp.diff(exact, s)), s) + exact, "numpy")
    value, slope = sp.lambdify(s, exact, "numpy"), sp.lambdify(s, sp.diff(exact, s), "numpy")
    f, errors = loom.data("f", X), []
    for n in (16, 32):
        h = 1 / n
        ends = {X: (N(float(-slope(0.0))), R(2.0, 1.0, float(2 * value(1.0) + slope(1.0))))}
        equation = Eq(loom.dt(V), loom.d(law(loom.d(V, X)), X) - V + f)
        scheme = loom.BackwardEuler(6, tau=20.0)
        net = loom.compile(loom.PDE(equation, boundary=ends), grid=loom.Grid(sp.Rational(1, n).p / n), scheme=scheme)
        nodes = torch.from_numpy((np.arange(n) + 0.5) * h)[None, None]
        data = torch.from_numpy(np.asarray(source(nodes.numpy())))
        found = net.module(torch.float64)(torch.zeros_like(nodes), f=data).detach().numpy()
        errors.append(abs(found - value(nodes.numpy())).max())
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.15)


@pytest.mark.parametrize("name", ["perona-malik 2d", "charbonnier 2d", "separable 2d"])
def test_what_is_proved_beside_open_sides_holds(name):
    """Random states: norms of u − v/a, distances and ranges, at the largest step for which they are proved."""
    ends = {x: (R(1.0, 0.3, 0.5), R(4.0, 0.5, 2.0)), y: loom.NoFlux()}
    report = compiled(zoo.EQUATIONS[name], ends).stability
    proved = {r.notion: r.bound for r in report if r.status == "proved"}
    assert {"norm decrease", "maximum principle"} <= set(proved) and "energy decrease" not in proved
    assert ("nonexpansive" in proved) == (name == "separable 2d" and report["nonexpansive"].status == "proved")
    rng = np.random.default_rng(0)
    u = 0.5 + rng.standard_normal((40, 1, 6, 5)) * 10.0 ** rng.uniform(-3, 1, (40, 1, 1, 1))
    for notion, bound in proved.items():
        net = compiled(zoo.EQUATIONS[name], ends, loom.ForwardEuler(1, tau=bound), unstable="allow")
        new = net.reference(u)
        if notion == "norm decrease":
            before, after = (np.sqrt(((w - 0.5) ** 2).sum((1, 2, 3))) for w in (u, new))
            assert (after <= before * (1 + 1e-12)).all()
        if notion == "maximum principle":
            high, low = np.maximum(u.max((1, 2, 3)), 0.5), np.minimum(u.min((1, 2, 3)), 0.5)
            assert (new.max((1, 2, 3)) <= high + 1e-12).all() and (new.min((1, 2, 3)) >= low - 1e-12).all()


def test_a_wall_that_feeds_proves_no_norm():
    net = compiled(Eq(loom.dt(V), loom.laplacian(V)), {X: (N(0.5), loom.NoFlux())}, loom.ForwardEuler(1))
    status = {r.notion: r.status for r in net.stability}
    assert status["norm decrease"] == status["maximum principle"] == "unknown" and status["nonexpansive"] == "proved"
    assert net.stability.governing == "power bounded"
    assert any("difference of two solutions" in a for a in net.stability["power bounded"].assumptions)
    closed = [compiled(Eq(loom.dt(V), loom.laplacian(V)), b).source for b in (N(0), loom.NoFlux())]
    assert closed[0].replace("Neumann(0)", "no flux") == closed[1]


def test_open_sides_in_text_and_files(tmp_path):
    ends = {x: (R(1.0, 2.0, 0.7), N(-0.25)), y: loom.Periodic()}
    net = compiled(zoo.EQUATIONS["perona-malik 2d"], ends)
    again = loom.load(net.save(tmp_path))
    assert again.net.source == net.source and "x: Robin(1, 2, 0.7) / Neumann(-0.25)" in net.source
    for text in ("robin(1, 2)", "neumann()", "neumann(a)", "robin(1,2,3,4)"):
        with pytest.raises(loom.BoundaryError, match=r"write what it needs, such as|unknown name|unexpected"):
            loom.parse("dt(u) = d(u, x, 2)", coordinates=["x"], fields=["u"], boundary=text)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: R(-1, 1), "a ≥ 0 and b > 0"),
        (lambda: R(1, 0, 2), "use Dirichlet"),
        (lambda: R(0, 1e-300, 1e10), "below 1e30"),
        (lambda: N("1"), "real number"),
        (lambda: N(float("inf")), "finite"),
        (lambda: compiled(zoo.EQUATIONS["fourth order 1d"], N(1.0)), "first derivatives"),
        (lambda: compiled(zoo.EQUATIONS["heat 1d"], R(1, 1), order=4), "order=2"),
        (lambda: compiled(zoo.EQUATIONS["one-sided flux 1d"], N(1.0)), "odd function"),
        (lambda: loom.compile(loom.PDE(Eq(-loom.laplacian(U), zoo.A), boundary=R(1, 1)), scheme=loom.Multigrid(1)), "multigrid"),
        (lambda: loom.compile(loom.PDE(zoo.EQUATIONS["heat 2d"], boundary=N(1)), space=loom.FilterBank(4), scheme=loom.ForwardEuler(1)), "FilterBank"),
    ],
)  # fmt: skip
def test_open_sides_that_cannot_be(make, words):
    with pytest.raises(loom.BoundaryError, match=words):
        make()


def test_open_sides_are_those_of_py_pde():
    peer = pytest.importorskip("pde")
    u0 = np.random.default_rng(2).random((8, 7))
    field = peer.ScalarField(peer.CartesianGrid([[0, 4], [0, 3.5]], [8, 7]), u0)
    bc = {
        "x-": {"derivative": 0.5}, "x+": {"type": "mixed", "value": 2.0, "const": 0.7}, "y-": {"value": 1.0},
        "y+": {"derivative": 0},
    }  # fmt: skip
    equation = peer.DiffusionPDE(0.5, bc=bc)
    wanted = equation.solve(field, t_range=1, dt=0.05, tracker=None, backend="numpy", solver="explicit").data
    ends = {x: (N(0.5), R(2.0, 1.0, 0.7)), y: (loom.Dirichlet(1), loom.NoFlux())}
    heat = Eq(loom.dt(U), loom.laplacian(U) / 2)
    net = compiled(heat, ends, loom.ForwardEuler(20, tau=0.05), centering="cell", unstable="allow")
    np.testing.assert_allclose(net.reference(u0[None, None])[0, 0], wanted, atol=1e-12)

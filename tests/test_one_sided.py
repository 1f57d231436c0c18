"""One-sided closures: polynomials that are met exactly, measured orders, matrices and refusals."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp
import torch
from scipy.integrate import solve_ivp
from sympy import Eq, cos, sin

import pdeloom as loom

x, y = loom.coordinates("x y")
u, v, f = loom.field("u", x, y), loom.field("v", x, y), loom.data("f", x, y)
z = loom.coordinates("z")
w, s = loom.field("w", z), loom.data("s", z)
N, D, P, t = loom.NoFlux(), loom.Dirichlet, loom.Periodic(), loom.t
Q = loom.field("q", z, staggered=z)
g = loom.diffusivity("perona-malik", 0.5)
HEAT = Eq(loom.dt(u), loom.laplacian(u) + f)


def compiled(equations, boundary, order=4, scheme=None, h=0.5, centering="cell", **options):
    return loom.compile(
        loom.PDE(equations, boundary=boundary),
        space=loom.FiniteDifference(order, "one-sided"),
        scheme=scheme or loom.RungeKutta(3, 2, tau=1e-3),
        grid=loom.Grid(spacing=h, centering=centering),
        **{"unstable": "allow", **options},
    )


CASES = {
    "walls of 0": (HEAT, D(0), "cell"),
    "no flux": (HEAT, N, "vertex"),
    "values that vary": (HEAT, {x: (D(1), D(f)), y: (D(sin(t) * cos(x)), loom.Robin(1, 2, f))}, "cell"),
    "nodes": (HEAT, {x: (D(1), D(f)), y: (D(sin(t) * cos(x)), N)}, "vertex"),
    "periodic across": (HEAT, {x: P, y: (D(sin(t) * cos(x)), loom.Robin(1, 2, f))}, "cell"),
    "nonlinear": (
        Eq(loom.dt(u), loom.d(g(loom.d(u, x) ** 2) * loom.d(u, x), x) + loom.d((1 + y) * loom.d(u, y), y) - u**3),
        {x: (D(1), N), y: loom.Neumann(2)}, "cell",
    ),
    "transport": (Eq(loom.dt(u), loom.laplacian(u) - 2 * loom.d(u, y)), {x: (D(1), N), y: loom.Neumann(2)}, "cell"),
    "a system": (
        [Eq(loom.dt(u), loom.laplacian(u) - v * u - loom.d(v, x)), Eq(loom.dt(v), loom.laplacian(v) + u)],
        {u: N, v: loom.Robin(1, 1, 2)},
        "cell",
    ),
}  # fmt: skip


@pytest.mark.parametrize("order", [2, 4, 6, 8])
@pytest.mark.parametrize("case", CASES)
def test_the_module_is_the_reference(case, order):
    equations, boundary, centering = CASES[case]
    net = compiled(equations, boundary, order, centering=centering)
    draw = np.random.default_rng(0).standard_normal
    state = draw((2, net.compiled.system.width, 9, 10))
    data = {str(q.func): draw((2, 1, 9, 10)) for q in net.compiled.problem.data}
    times = {"t": 0.3} if net.compiled.problem.timed else {}
    given = {k: torch.from_numpy(e) for k, e in data.items()}
    with torch.no_grad():
        new = net.module(torch.float64)(torch.from_numpy(state), **given, **times)
    np.testing.assert_allclose(new, net.reference(state, **data, **times), rtol=0, atol=1e-12)
    assert "proved" not in {result.status for result in net.stability}


NODAL = {
    "isotropic": (loom.div(g(loom.norm2(loom.grad(u))) * loom.grad(u)) + f, 0.5),
    "of the field": (loom.div((1 + u**2 + f) * loom.grad(u)), f),
    "given": (loom.d(f * loom.d(u, x), x) + loom.d(u, y, 2) + loom.d(u, x), f),
    "a tensor": (loom.div(sp.Matrix([[2 + f, u], [u, 3]]) * loom.grad(u)), 0.5),
}


@pytest.mark.parametrize("walls", ["alike", "mixed"])
@pytest.mark.parametrize("centering", ["cell", "vertex"])
@pytest.mark.parametrize("name", NODAL)
def test_coefficients_on_the_nodes_at_order_2(name, centering, walls):
    right, value = NODAL[name]
    far = loom.Neumann(-1) if centering == "vertex" else D(0)
    boundary = {x: (loom.Neumann(2), far), y: (loom.Robin(1, 2, value), far if name == "a tensor" else N)}
    boundary = D(1) if walls == "alike" else boundary
    net = compiled(Eq(loom.dt(u), right), boundary, 2, centering=centering)
    draw = np.random.default_rng(0).standard_normal
    state, given = draw((2, 1, 7, 6)), draw((2, 1, 7, 6))
    with torch.no_grad():
        new = net.module(torch.float64)(torch.from_numpy(state), f=torch.from_numpy(given))
    np.testing.assert_allclose(new, net.reference(state, f=given), rtol=0, atol=1e-12)
    assert "proved" not in {result.status for result in net.stability}


@pytest.mark.parametrize(
    "scheme", [loom.BackwardEuler(2, tau=0.1), loom.AOS(2, tau=0.1), loom.CrankNicolson(1, tau=0.1)]
)
@pytest.mark.parametrize("order", [2, 4])
def test_implicit_steps(scheme, order):
    net = compiled(HEAT, {x: (D(1), N), y: loom.Neumann(2)}, order, scheme)
    state, given = np.random.default_rng(1).standard_normal((2, 2, 1, 9, 8))
    with torch.no_grad():
        new = net.module(torch.float64)(torch.from_numpy(state), f=torch.from_numpy(given))
    np.testing.assert_allclose(new, net.reference(state, f=given), rtol=0, atol=1e-7)


def _posed(exact, kinds, order, n, centering="cell", a=1 + z**2):
    """The matrix and the right-hand side of 0 = ∂(a ∂w) − ∂w − w + s, whose solution is `exact`, and this."""
    slope = sp.diff(exact, z)
    made = []
    for kind, end, out in zip(kinds, (0, 1), (-1, 1), strict=True):
        value, flow = (float(e.subs(z, end)) for e in (exact, out * slope))
        made.append({"D": D(value), "N": loom.Neumann(flow), "R": loom.Robin(2.0, 0.5, 2 * value + 0.5 * flow)}[kind])
    on_nodes = centering == "vertex" and kinds == "DD"
    h = 1 / (n + on_nodes)
    at = h * (np.arange(n) + (1 if on_nodes else 0.5))
    right = loom.d(a * loom.d(w, z), z) - loom.d(w, z) - w
    source = sp.lambdify(z, -(sp.diff(a * slope, z) - slope - exact))(at) + np.zeros(n)
    net = compiled(Eq(loom.dt(w), right + s), {z: tuple(made)}, order, loom.ForwardEuler(1, tau=1e-6), h, centering)

    def rate(e):
        return net.reference.rate(e[None, None], s=source[None, None])[0, 0]

    zero = rate(np.zeros(n))
    A = np.stack([rate(e) - zero for e in np.eye(n)], 1)
    return A, -zero, sp.lambdify(z, exact)(at) + np.zeros(n)


WALLS = [("DD", "vertex"), ("DN", "cell"), ("RD", "cell"), ("NR", "vertex")]


@pytest.mark.parametrize("order", [2, 4, 6, 8])
@pytest.mark.parametrize(("kinds", "centering"), WALLS)
def test_polynomials_of_the_degree_of_the_order_are_exact(kinds, centering, order):
    exact = sum((k - 2.5) * z**k / 2**k for k in range(order)) if order > 2 else 3 * z - 1
    A, right, truth = _posed(exact, kinds, order, 12, centering, a=sp.Integer(1))
    np.testing.assert_allclose(A @ truth, right, atol=1e-9 * abs(A).max())
    np.testing.assert_allclose(np.linalg.solve(A, right), truth, atol=1e-9)


@pytest.mark.parametrize("order", [2, 4, 6])
@pytest.mark.parametrize(("kinds", "centering"), WALLS)
def test_the_order_for_solutions_without_symmetry(kinds, centering, order):
    exact, errors = sp.exp(z) * sin(2 * z + 1) + z**3, []
    for n in (24, 48):
        A, right, truth = _posed(exact, kinds, order, n, centering)
        errors.append(np.sqrt(((np.linalg.solve(A, right) - truth) ** 2).mean()))
        assert np.linalg.eigvals(A).real.max() < 0  # stable for small steps on these grids
    assert np.log2(errors[0] / errors[1]) > order - 0.2


def test_in_time_it_is_what_scipy_finds():
    """Boundary layers of transport and diffusion, started from a step."""
    n = 40
    net = compiled(
        Eq(loom.dt(w), loom.d(w, z, 2) / 20 - loom.d(w, z)),
        {z: (D(1), D(0))},
        4,
        loom.RungeKutta(4, 500, tau=2e-4),
        1 / n,
    )
    start = np.where(np.arange(n) < n // 2, 1.0, 0.0)
    found = solve_ivp(lambda _, e: net.reference.rate(e[None, None])[0, 0], (0, 0.1), start, rtol=1e-10, atol=1e-12)
    with torch.no_grad():
        new = net.module(torch.float64)(torch.from_numpy(start[None, None]))[0, 0]
    np.testing.assert_allclose(new, found.y[:, -1], atol=1e-7)


def test_a_specification_keeps_the_closure(tmp_path):
    net = compiled(HEAT, N)
    net.save(tmp_path, net.module())
    assert 'closure = "one-sided"' in (tmp_path / "spec.toml").read_text(encoding="utf-8")
    assert loom.load(tmp_path).net.space == loom.FiniteDifference(4, "one-sided")


BAD = {
    "first derivatives": lambda: compiled(Eq(loom.dt(u), -loom.d(u, x, 4) - loom.d(u, y, 4)), D(0)),
    "coordinates alone": lambda: compiled(Eq(loom.dt(u), loom.div((1 + u**2) * loom.grad(u))), D(0)),
    "have order 2, not 4": lambda: compiled(Eq(loom.dt(u), loom.laplacian(u) + loom.d(loom.d(u, y), x)), D(0)),
    "lets something flow": lambda: compiled(Eq(loom.dt(u), loom.laplacian(u) + loom.d(loom.d(u, y), x)), N, 2),
    "has to be an odd function": lambda: compiled(Eq(loom.dt(w), loom.d(sp.exp(loom.d(w, z)), z)), N, 2),
    "did you mean 'one-sided'": lambda: loom.FiniteDifference(4, "onesided"),
    "nothing is proved of one-sided": lambda: compiled(HEAT, D(0), scheme=loom.ForwardEuler(2)),
    "use solver='bicgstab'": lambda: compiled(HEAT, D(1), scheme=loom.BackwardEuler(2, tau=0.1, solver="cg")),
    "under multigrid": lambda: compiled(HEAT, D(1), scheme=loom.BackwardEuler(2, tau=0.1, solver=loom.Multigrid(3))),
    "its one-sided closures read 4": lambda: compiled(HEAT, D(1)).reference(
        np.zeros((1, 1, 3, 9)), f=np.zeros((1, 1, 3, 9))
    ),
    "dispersion along z does not fit": lambda: compiled(Eq(loom.dt(w), loom.d(w, z, 2) - loom.d(w, z, 3)), D(0)),
    "transport of w without its diffusion": lambda: compiled(Eq(loom.dt(w), -loom.d(w, z)), {z: (D(1), D(0))}),
    "walls of different values meet along x and y": lambda: compiled(
        Eq(loom.dt(u), loom.div(g(loom.norm2(loom.grad(u))) * loom.grad(u))), {x: D(1), y: D(0)}, 2
    ),
    "walls of different values meet along": lambda: compiled(
        Eq(loom.dt(u), loom.laplacian(u) + loom.d(loom.d(u, y), x)), {x: D(1), y: D(0)}, 2
    ),
    "staggered": lambda: compiled([Eq(loom.dt(w), loom.d(Q, z)), Eq(loom.dt(Q), loom.d(w, z))], P),
}


@pytest.mark.parametrize("text", BAD)
def test_bad_input(text):
    with pytest.raises(loom.PdeloomError, match=text):
        BAD[text]()


def test_small_grids_are_refused_by_the_module():
    module = compiled(HEAT, D(1)).module()
    with pytest.raises(ValueError, match="3 nodes, fewer than 4"):
        module(torch.zeros(1, 1, 3, 9), f=torch.zeros(1, 1, 3, 9))

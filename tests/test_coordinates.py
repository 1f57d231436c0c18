"""Equations that read x and y themselves, on grids with an origin."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp
import torch
from sympy import Eq

import pdeloom as loom

x, y = loom.coordinates("x y")
u, f = loom.field("u", x, y), loom.data("f", x, y)
ORIGIN = (1.0, -2.0)
TERMS = {
    "coefficient": loom.div((1 + x**2 / 10) * loom.grad(u)) + sp.sin(x) * y,
    "coefficient and g": loom.div((1 + sp.sin(x) / 2) * loom.grad(u) / (1 + loom.norm2(loom.grad(u)))),
    "another axis": loom.d((1 + y**2) * sp.tanh(loom.d(u, x)), x) + loom.laplacian(u),
    "reaction": loom.laplacian(u) + x * y - u,
}
BOUNDARIES = {
    "no flux": loom.NoFlux(),
    "periodic": loom.Periodic(),
    "wall": loom.Dirichlet(0.3),
    "neumann": loom.Neumann(0.2),
    "mixed": {x: (loom.Robin(1, 1, 0.2), loom.Dirichlet(0)), y: loom.NoFlux()},
}
SCHEMES = {
    "explicit": loom.ForwardEuler(2, tau=0.01),
    "semi-implicit": loom.SemiImplicit(1, tau=0.1),
    "skips": loom.FSI(1, 3, tau=0.005),
}


def compiled(right, boundary=BOUNDARIES["no flux"], scheme=SCHEMES["explicit"], order=2, centering="vertex", **options):
    return loom.compile(
        loom.PDE(Eq(loom.dt(u), right), boundary=boundary),
        grid=loom.Grid(spacing=(0.5, 0.25), centering=centering, origin=ORIGIN),
        space=loom.FiniteDifference(order=order), scheme=scheme, **{"unstable": "allow", **options},
    )  # fmt: skip


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize(("bc", "centering"), [*((bc, "vertex") for bc in BOUNDARIES), ("wall", "cell")])
def test_the_module_is_the_reference(name, bc, centering):
    start = np.random.default_rng(0).standard_normal((2, 1, 9, 11))
    cases = [(2, scheme) for scheme in SCHEMES.values()]
    for order, scheme in cases + [(4, SCHEMES["explicit"])] * (bc not in ("neumann", "mixed")):
        net = compiled(TERMS[name], BOUNDARIES[bc], scheme, order, centering)
        found = net.module(dtype=torch.float64)(torch.tensor(start)).detach().numpy()
        assert abs(found - net.reference(start)).max() < 1e-8


@pytest.mark.parametrize(
    ("bc", "centering", "first"),
    [("no flux", "vertex", 0.5), ("periodic", "vertex", 0.0), ("wall", "vertex", 1.0), ("wall", "cell", 0.5)],
)
def test_where_the_nodes_lie(bc, centering, first):
    """A source x·y against the same numbers given as data."""
    net = compiled(loom.laplacian(u) + x * y, BOUNDARIES[bc], centering=centering)
    other = compiled(loom.laplacian(u) + f, BOUNDARIES[bc], centering=centering)
    X = ORIGIN[0] + 0.5 * (np.arange(6) + first)
    Y = ORIGIN[1] + 0.25 * (np.arange(7) + first)
    start, given = np.zeros((1, 1, 6, 7)), np.multiply.outer(X, Y)[None, None]
    assert abs(net.reference.rate(start) - other.reference.rate(start, f=given)).max() < 1e-12


def test_the_bound_knows_how_far_the_grid_reaches():
    """1 + x² on [0, 2] is at most 5: the step is bounded by it, and at the bound norms do not grow."""
    right = loom.div((1 + x**2) * loom.grad(u))

    def on(tau="auto", **grid):
        return loom.compile(loom.PDE(Eq(loom.dt(u), right), boundary=loom.NoFlux()),
                            grid=loom.Grid(spacing=0.125, **grid), scheme=loom.ForwardEuler(4, tau=tau))  # fmt: skip

    with pytest.raises(loom.UnstableSchemeError, match=r"Grid\(shape=…\)"):
        on()
    bound = on(shape=(16, 16)).stability.tau_max
    assert bound == pytest.approx(2 / (8 * 64 * 5), rel=1e-9)
    net = on(tau=bound, shape=(16, 16))
    assert net.stability["norm decrease"].status == net.stability["nonexpansive"].status == "proved"
    board = (-1.0) ** np.indices((16, 16)).sum(0)[None, None]
    assert np.linalg.norm(net.reference(board)) <= np.linalg.norm(board)
    with pytest.raises(loom.UnstableSchemeError, match="exceeds"):
        on(tau=1.2 * bound, shape=(16, 16))
    wide = np.ones((1, 1, 16, 17))
    with pytest.raises(ValueError, match="17 nodes, more than the 16 of Grid"):
        net.module()(torch.from_numpy(wide).float())
    with pytest.raises(loom.DataError, match="larger than Grid"):
        net.reference(wide)
    moved = on(shape=(16, 16), origin=(1.0, 0.0)).stability.tau_max
    assert moved == pytest.approx(2 / (8 * 64 * 10), rel=1e-9)


@pytest.mark.parametrize("coefficient", [sp.sqrt(x - 1), sp.log(x - 1) + 5, 2 + sp.asin(x), 1 / (x - 1) + 3])
def test_a_coefficient_that_is_not_defined_everywhere_is_not_certified(coefficient):
    net = loom.compile(loom.PDE(Eq(loom.dt(u), loom.div(coefficient * loom.grad(u))), boundary=loom.NoFlux()),
                       grid=loom.Grid(shape=(12, 12)), scheme=loom.ForwardEuler(1, tau=0.01), unstable="allow")  # fmt: skip
    assert all(result.status != "proved" for result in net.stability)
    fine = loom.compile(loom.PDE(Eq(loom.dt(u), loom.div(sp.sqrt(x + 1) * loom.grad(u))), boundary=loom.NoFlux()),
                        grid=loom.Grid(shape=(8, 8)), scheme=loom.ForwardEuler(1))  # fmt: skip
    assert fine.stability.tau_max == pytest.approx(2 / (8 * 3))


def test_a_steep_coefficient_is_bounded_in_bounded_time():
    """exp(−10⁴(x − 7/2)²) once was factored as a polynomial of degree 70,000."""
    right = loom.div((1 + 100 * sp.exp(-10000 * (x - sp.Rational(7, 2)) ** 2)) * loom.grad(u))
    net = loom.compile(loom.PDE(Eq(loom.dt(u), right), boundary=loom.NoFlux()), grid=loom.Grid(shape=(12, 12)),
                       scheme=loom.ForwardEuler(1))  # fmt: skip
    assert net.stability.tau_max == pytest.approx(2 / (8 * 101), rel=1e-3)


@pytest.mark.parametrize(
    ("walls", "peak", "top"),
    [
        ((loom.Dirichlet(0), loom.NoFlux()), 0.0, 10.0),  # on the low wall, a node outside
        ((loom.NoFlux(), loom.Dirichlet(0)), 8.5, 10.0),  # on the high wall
        ((loom.Periodic(), loom.Periodic()), 7.5, 10.0),  # on the last face of a periodic axis
    ],
)
def test_the_bound_reaches_every_place_a_coefficient_is_read(walls, peak, top):
    """A sharp peak of height 10 at the very end of the axis of eight nodes, with h = 1."""
    narrow = 1 + 9 * sp.exp(-400 * (x - sp.nsimplify(peak)) ** 2)
    net = loom.compile(
        loom.PDE(Eq(loom.dt(u), loom.div(narrow * loom.grad(u))), boundary={x: walls, y: loom.Periodic()}),
        grid=loom.Grid(shape=(8, 8)), scheme=loom.ForwardEuler(1),
    )  # fmt: skip
    assert 2 / net.stability.tau_max == pytest.approx(8 * top, rel=1e-3)


def test_slopes_know_the_coefficient_too():
    """The Jacobian of div((1 + x²)g(|∇u|²)∇u) is below the bound of distances, and close to it at flat states."""
    right = loom.div((1 + x**2) * loom.grad(u) / sp.sqrt(1 + loom.norm2(loom.grad(u))))
    net = loom.compile(loom.PDE(Eq(loom.dt(u), right), boundary=loom.NoFlux()),
                       grid=loom.Grid(spacing=0.5, shape=(6, 6)), scheme=loom.ForwardEuler(1))  # fmt: skip
    result = net.stability["nonexpansive"]
    assert result.status == "proved"
    e, eps = np.eye(36).reshape(36, 1, 6, 6), 1e-6
    J = (net.reference.rate(eps * e) - net.reference.rate(-eps * e)).reshape(36, 36) / (2 * eps)
    assert 0.5 * 2 / result.bound < -np.linalg.eigvalsh(J).min() <= 2 / result.bound


def test_f_is_the_gradient_of_its_energy():
    net = compiled(loom.div((1 + x**2 / 10) * loom.grad(u)) - x**2 * u, BOUNDARIES["wall"])
    state = torch.tensor(np.random.default_rng(0).standard_normal((1, 1, 6, 7)), requires_grad=True)
    (slope,) = torch.autograd.grad(net.module(dtype=torch.float64).energy(state).sum(), state)
    assert abs(slope.numpy() + 0.125 * net.reference.rate(state.detach().numpy())).max() < 1e-12


def test_a_source_that_nothing_damps_lets_norms_grow():
    """The claim max(‖u‖, ‖f‖) is of β(f − u) with β > 0; with β = 0 it said nothing, and was called proved."""
    for right, given in ((loom.laplacian(u) + x**2, {}), (loom.laplacian(u) + f, {"f": np.ones((1, 1, 8, 8))})):
        net = compiled(right, scheme=loom.ForwardEuler(50, tau=0.01))
        assert net.stability["norm decrease"].status != "proved" != net.stability["maximum principle"].status
        assert net.stability["nonexpansive"].status == net.stability["power bounded"].status == "proved"
        assert abs(net.reference(np.zeros((1, 1, 8, 8)), **given)).max() > 0.4


def test_a_wave_of_varying_speed():
    """u_t = −∂ₓ((2 + cos 2πx)u): mass is kept, and the module is the reference."""
    z = loom.coordinates("z")
    w = loom.field("w", z)
    net = loom.compile(
        loom.PDE(Eq(loom.dt(w), -loom.d((2 + sp.cos(2 * sp.pi * z)) * w, z)), boundary=loom.Periodic()),
        grid=loom.Grid(spacing=1 / 32), space=loom.FiniteVolume("rusanov", "minmod"),
        scheme=loom.RungeKutta(2, 40, tau=0.005), unstable="allow",
    )  # fmt: skip
    start = np.exp(-50 * (np.arange(32) / 32 - 0.5) ** 2)[None, None]
    out = net.module(dtype=torch.float64)(torch.tensor(start)).numpy()
    assert abs(out - net.reference(start)).max() < 1e-12
    assert out.sum() == pytest.approx(start.sum(), rel=1e-12)
    assert abs(out - start).max() > 0.1


def test_text_files_and_exports(tmp_path):
    pde = loom.parse("dt(u) = div((1 + x**2/10)*grad(u)) + sin(x)*y", coordinates=["x", "y"], fields=["u"],
                     boundary="no-flux")  # fmt: skip
    assert pde.equations == loom.PDE(Eq(loom.dt(u), TERMS["coefficient"]), boundary=loom.NoFlux()).equations
    net = compiled(TERMS["coefficient"])
    net.save(tmp_path / "net")
    start = torch.rand(2, 1, 9, 10)
    again = loom.load(tmp_path / "net")
    assert torch.equal(again.module()(start), net.module()(start))
    assert again.net.grid.origin == list(ORIGIN) or tuple(again.net.grid.origin) == ORIGIN
    half = net.module(dtype=torch.bfloat16)(start.bfloat16())
    assert abs(half.float() - net.module()(start)).max() < 0.05
    exported = torch.export.export(net.module(), (start,))
    assert torch.allclose(exported.module()(start), net.module()(start), atol=1e-6)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: loom.Grid(origin="0"), loom.DiscretisationError, "a number below"),
        (
            lambda: loom.compile(loom.PDE(Eq(loom.dt(u), loom.laplacian(u)), boundary=loom.NoFlux()),
                                 grid=loom.Grid(origin=(1.0,)), scheme=loom.ForwardEuler(1)),
            loom.DiscretisationError, "1 numbers for 2 axes",
        ),
        (
            lambda: loom.compile(loom.PDE(Eq(loom.laplacian(u), x), boundary=loom.Dirichlet(0)), scheme=loom.Multigrid(3)),
            loom.UnsupportedTermError, "reads x itself under multigrid",
        ),
        (
            lambda: loom.compile(loom.PDE(Eq(loom.dt(u), TERMS["coefficient"]), boundary=loom.NoFlux()),
                                 space=loom.FilterBank(8, 3), scheme=loom.ForwardEuler(1)),
            loom.UnsupportedTermError, "reads coordinates or time has no filters",
        ),
        (lambda: compiled(x * loom.d(u, x)), loom.DiscretisationError, "needs differences against the wind"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()

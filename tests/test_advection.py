"""Transport at varying speeds, and dispersion: against exact solutions, matrices and bounds that are attained."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sympy import Eq, cos, sin

import pdeloom as loom

x, y = loom.coordinates("x y")
u, v = loom.field("u", x, y), loom.field("v", x, y)
a, b = loom.data("a", x, y, bounds=(-1, 2)), loom.data("b", x, y)
z = loom.coordinates("z")
w, c = loom.field("w", z), loom.data("c", z, bounds=(-1, 1))
t, D = loom.t, loom.Dirichlet
UPWIND = loom.FiniteVolume("upwind")
SPACES = [UPWIND, *(loom.FiniteVolume("rusanov", r) for r in ("constant", "minmod", "van-leer", "weno5"))]


def compiled(right, boundary=None, scheme=None, space=UPWIND, grid=None, field=u, **options):
    return loom.compile(
        loom.PDE(Eq(loom.dt(field), right), boundary=boundary or loom.Periodic()),
        space=space,
        scheme=scheme or loom.ForwardEuler(3, tau=0.02),
        grid=grid or loom.Grid(0.3),
        **options,
    )


def agree(net, state, **given):
    with torch.no_grad():
        new = net.module(torch.float64)(torch.from_numpy(state), **{k: torch.from_numpy(d) for k, d in given.items()})
    np.testing.assert_allclose(new.numpy(), net.reference(state, **given), rtol=0, atol=1e-12)
    return new.numpy()


@pytest.mark.parametrize(
    "boundary", [loom.Periodic(), loom.NoFlux(), {x: D(1), y: loom.NoFlux()}, {x: D(-1), y: loom.Periodic()}], ids=str
)
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_the_module_is_the_reference(space, boundary):
    g = np.random.default_rng(0)
    net = compiled(-a * loom.d(u, x) - (b + 0.5) * loom.d(u, y), boundary, space=space, unstable="allow")
    agree(net, g.uniform(0, 1, (2, 1, 9, 8)), a=g.uniform(-1, 2, (2, 1, 9, 8)), b=g.uniform(-1, 1, (1, 1, 9, 8)))


def test_it_is_the_matrix_of_differences_against_the_wind():
    n, h, tau = 12, 0.3, 0.05
    g = np.random.default_rng(1)
    speeds, state = g.uniform(-1, 1, n), g.uniform(0, 1, n)
    A = np.zeros((n, n))
    for i, s in enumerate(speeds):
        A[i, i] -= abs(s) / h
        A[i, (i - 1) % n if s > 0 else (i + 1) % n] += abs(s) / h
    net = compiled(-c * loom.d(w, z), field=w, scheme=loom.ForwardEuler(1, tau=tau))
    moved = net.reference(state[None, None], c=speeds[None, None])[0, 0]
    np.testing.assert_allclose(moved, state + tau * A @ state, atol=1e-14)


def test_at_courant_number_one_values_move_by_a_cell():
    net = compiled(-c * loom.d(w, z), field=w, grid=loom.Grid(0.5), scheme=loom.ForwardEuler(3, tau=0.5))
    assert net.stability["maximum principle"].status == "proved" and net.stability["maximum principle"].bound == 0.5
    state = np.random.default_rng(0).uniform(0, 1, (1, 1, 20))
    np.testing.assert_allclose(net.reference(state, c=np.ones((1, 1, 20))), np.roll(state, 3, -1), atol=1e-14)
    over = compiled(
        -c * loom.d(w, z), field=w, grid=loom.Grid(0.5), scheme=loom.ForwardEuler(1, tau=0.51), unstable="allow"
    )
    step = (np.arange(20) > 9).astype(float)[None, None]
    assert over.stability["maximum principle"].status != "proved"
    assert over.reference(step, c=np.ones((1, 1, 20))).min() < 0


@pytest.mark.parametrize("boundary", [loom.Periodic(), loom.NoFlux(), {x: D(1), y: loom.NoFlux()}], ids=str)
def test_no_new_extrema_at_the_bound(boundary):
    """Random data of extreme speeds, with diffusion beside."""
    net = compiled(-a * loom.d(u, x) - 0.5 * a * loom.d(u, y) + 0.1 * loom.laplacian(u), boundary, loom.ForwardEuler(4))
    result = net.stability["maximum principle"]
    assert net.stability.governing == "maximum principle" and result.status == "proved"
    assert result.bound == pytest.approx(1 / (3 / 0.3 + 0.4 / 0.09))
    tight = compiled(
        -a * loom.d(u, x) - 0.5 * a * loom.d(u, y) + 0.1 * loom.laplacian(u),
        boundary,
        loom.ForwardEuler(4, tau=result.bound * (1 - 1e-12)),
    )
    g = np.random.default_rng(0)
    for _ in range(20):
        state, speeds = g.integers(0, 2, (1, 1, 9, 8)).astype(float), g.choice([-1.0, 2.0], (1, 1, 9, 8))
        moved = tight.reference(state, a=speeds)
        assert moved.min() >= -1e-12 and moved.max() <= 1 + 1e-12


@pytest.mark.parametrize(("space", "order"), [(UPWIND, 0.8), (loom.FiniteVolume("rusanov", "van-leer"), 1.7)], ids=str)
def test_a_wind_that_varies_in_space_against_characteristics(space, order):
    """u_t + (2 + sin z) u_z = 0: u(z, t) = u₀(ζ) with the foot ζ of the characteristic."""
    import scipy.integrate

    errors, T = [], 1.0
    for n in (64, 128):
        at = np.arange(n) * 2 * np.pi / n
        foot = scipy.integrate.solve_ivp(lambda s, q: -(2 + np.sin(q)), (0, T), at, rtol=1e-10, atol=1e-10).y[:, -1]
        grid = loom.Grid(2 * np.pi / n, shape=(n,))
        steps = 4 * n
        net = compiled(
            -(2 + sin(z)) * loom.d(w, z), field=w, space=space, grid=grid,
            scheme=loom.RungeKutta(2, steps, tau=T / steps), unstable="allow",
        )  # fmt: skip
        found = net.module(torch.float64)(torch.from_numpy(np.sin(at))[None, None])[0, 0].numpy()
        errors.append(abs(found - np.sin(foot)).mean())
    assert np.log2(errors[0] / errors[1]) > order


def test_a_wind_that_turns_with_time():
    """u_t = −cos(t) u_z comes back after a period, and is half a turn away in between."""
    n, steps = 64, 400
    at = np.arange(n) * 2 * np.pi / n
    net = compiled(
        -cos(t) * loom.d(w, z), field=w, space=loom.FiniteVolume("rusanov", "weno5"), grid=loom.Grid(2 * np.pi / n),
        scheme=loom.RungeKutta(3, steps, tau=np.pi / 2 / steps), unstable="allow",
    )  # fmt: skip
    there = net.module(torch.float64)(torch.from_numpy(np.sin(at))[None, None])
    np.testing.assert_allclose(there[0, 0].numpy(), np.sin(at - 1), atol=2e-4)
    back = net.module(torch.float64)(there, t=np.pi / 2)
    np.testing.assert_allclose(back[0, 0].numpy(), np.sin(at), atol=4e-4)
    assert net.stability["maximum principle"].status == "unknown"  # weighted values


def test_a_rotation():
    """A bump is carried round a quarter turn by the wind (−y, x)."""
    n, steps = 48, 120
    grid = loom.Grid(2 / n, shape=(n, n), origin=-1.0)
    net = compiled(
        y * loom.d(u, x) - x * loom.d(u, y), loom.NoFlux(), loom.RungeKutta(2, steps, tau=np.pi / 2 / steps),
        loom.FiniteVolume("rusanov", "mc"), grid, unstable="allow",
    )  # fmt: skip
    at = -1 + (np.arange(n) + 0.5) * 2 / n
    X, Y = np.meshgrid(at, at, indexing="ij")
    state, turned = (np.exp(-((X - p) ** 2 + (Y - q) ** 2) / 0.04) for p, q in ((0.4, 0.0), (0.0, 0.4)))
    moved = agree(net, state[None, None])[0, 0]
    assert abs(moved - turned).max() < 0.12 and moved.sum() == pytest.approx(turned.sum(), rel=1e-3)
    bounded = compiled(y * loom.d(u, x) - x * loom.d(u, y), loom.NoFlux(), loom.ForwardEuler(2), grid=grid)
    assert bounded.stability["maximum principle"].bound == pytest.approx((2 / n) / 2)


def test_a_field_that_carries_another():
    """The concentration u in the wind v, which diffuses."""
    pde = loom.PDE(
        [Eq(loom.dt(u), -v * loom.d(u, x) + 0.1 * loom.laplacian(u)), Eq(loom.dt(v), loom.laplacian(v))],
        boundary=loom.NoFlux(),
    )
    net = loom.compile(pde, space=UPWIND, scheme=loom.ForwardEuler(3, tau=0.01), grid=loom.Grid(0.5), unstable="allow")
    agree(net, np.random.default_rng(0).normal(size=(2, 2, 7, 8)))
    assert "differences against the wind" in net.explain()
    assert str(loom.lift(net.module())).count("read back exactly") == 1


# --- dispersion -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("order", "close"), [(2, 1.9), (4, 3.8)])
def test_airy_waves(order, close):
    """w_t = −w_zzz: sin(3z) moves at the speed −9."""
    errors = []
    for n in (32, 64):
        at, steps = np.arange(n) * 2 * np.pi / n, 4000
        net = compiled(
            -loom.d(w, z, 3), field=w, space=loom.FiniteDifference(order), grid=loom.Grid(2 * np.pi / n),
            scheme=loom.RungeKutta(4, steps, tau=0.02 / steps),
        )  # fmt: skip
        found = net.module(torch.float64)(torch.from_numpy(np.sin(3 * at))[None, None])[0, 0].numpy()
        errors.append(abs(found - np.sin(3 * at + 27 * 0.02)).max())
    assert np.log2(errors[0] / errors[1]) > close


def test_the_step_of_dispersion_is_bounded_by_the_imaginary_interval():
    """τ‖T‖ ≤ 2√2 for the classical Runge–Kutta method, and nothing for Euler's."""
    net = compiled(
        -loom.d(w, z, 3), field=w, space=loom.FiniteDifference(), grid=loom.Grid(1.0), scheme=loom.RungeKutta(4, 2)
    )
    result = net.stability["von Neumann"]
    theta = np.linspace(0, np.pi, 10001)
    norm = (2 * np.sin(theta) * (1 - np.cos(theta))).max()
    assert result.status == "proved" and result.bound == pytest.approx(2 * np.sqrt(2) / norm, rel=1e-6)
    assert net.stability["CFL"].status == "unknown"
    with pytest.raises(loom.UnstableSchemeError):
        compiled(-loom.d(w, z, 3), field=w, space=loom.FiniteDifference(), scheme=loom.ForwardEuler(2))


def test_the_soliton_of_korteweg_and_de_vries():
    """w_t = −6ww_z − w_zzz: (k/2) sech²(√k (z − kt)/2) keeps its shape and moves at the speed k."""
    n, L, k, T, steps = 160, 32.0, 1.0, 3.0, 600
    net = compiled(
        -loom.d(3 * w**2, z) - loom.d(w, z, 3), field=w, space=loom.FiniteVolume("rusanov", "weno5"),
        grid=loom.Grid(L / n), scheme=loom.RungeKutta(4, steps, tau=T / steps), unstable="allow",
    )  # fmt: skip
    at = np.arange(n) * L / n

    def soliton(centre):
        return k / 2 / np.cosh(np.sqrt(k) / 2 * (at - centre)) ** 2

    module = net.module(torch.float64)
    with torch.no_grad():
        found = module(torch.from_numpy(soliton(14))[None, None])[0, 0].numpy()
    assert abs(found - soliton(14 + k * T)).max() < 0.02
    assert found.sum() == pytest.approx(soliton(14).sum(), rel=1e-12)
    assert net.stability["CFL"].status == "unknown" and net.stability["maximum principle"].status == "unknown"


def test_dispersion_in_a_system():
    """Boussinesq waves: h_t = −v_x, v_t = −h_x + h_xxx/3, each field read by the other equation."""
    p, q = loom.field("p", z), loom.field("q", z)
    pde = loom.PDE(
        [Eq(loom.dt(p), -loom.d(q, z)), Eq(loom.dt(q), -loom.d(p, z) + loom.d(p, z, 3) / 3)], boundary=loom.Periodic()
    )
    net = loom.compile(
        pde, space=loom.FiniteVolume("rusanov", "mc"), scheme=loom.RungeKutta(4, 5, tau=0.01), grid=loom.Grid(0.5),
        unstable="allow",
    )  # fmt: skip
    agree(net, np.random.default_rng(0).normal(size=(2, 2, 16)))
    assert {r.status for r in net.stability} <= {"unknown", "refuted"}


# --- what is refused --------------------------------------------------------------------------------------------------

ERRORS = {
    "centred": (lambda: compiled(-a * loom.d(u, x), space=loom.FiniteDifference()), "FiniteVolume\\('upwind'\\)"),
    "lax-wendroff": (lambda: compiled(-a * loom.d(u, x), space=loom.FiniteVolume("lax-wendroff")), "use FiniteVolume\\('upwind'\\)"),
    "a law in upwind": (lambda: compiled(-loom.d(u**2, x) - a * loom.d(u, y)), "use FiniteVolume\\('rusanov'\\)"),
    "its own speed": (lambda: compiled(-(u * a) * loom.d(u, x)), "does not read it; in conservative form"),
    "an unbounded speed": (lambda: compiled(-b * loom.d(u, x), scheme=loom.ForwardEuler(1)), "no declared bounds"),
    "a speed without a range": (
        lambda: compiled(-x * loom.d(u, x), loom.NoFlux(), loom.ForwardEuler(1)), "give Grid\\(shape=…\\)",
    ),
    "dispersion between walls": (
        lambda: compiled(-loom.d(w, z, 3), loom.NoFlux(), field=w, space=loom.FiniteDifference()), "dispersion along z needs",
    ),
    "varying dispersion": (
        lambda: compiled(-a * loom.d(u, x, 3), space=loom.FiniteDifference()), "dispersion, .* constant factor",
    ),
    "mixed dispersion": (
        lambda: compiled(-loom.d(loom.d(u, x, 2), y), space=loom.FiniteDifference()), "dispersion, .* along one axis",
    ),
    "implicit by multigrid": (
        lambda: compiled(-a * loom.d(u, x), loom.NoFlux(), loom.BackwardEuler(1, tau=0.1, solver=loom.Multigrid(2))),
        "first derivative under multigrid",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS)
def test_errors_name_the_culprit(case):
    make, match = ERRORS[case]
    with pytest.raises(loom.PdeloomError, match=match):
        make()


def test_in_text_and_saved(tmp_path):
    pde = loom.parse(
        "dt(u) = -a*d(u, x) - d(u, y)", coordinates=["x", "y"], fields=["u"], boundary="no-flux", data={"a": [-1, 1]}
    )
    net = loom.compile(pde, space=UPWIND, scheme=loom.ForwardEuler(2))
    net.save(tmp_path / "net", net.module())
    state, speeds = torch.rand(1, 1, 6, 7), torch.rand(1, 1, 6, 7)
    with torch.no_grad():
        loaded = loom.load(tmp_path / "net").module()
        assert torch.equal(loaded(state, a=speeds), net.module()(state, a=speeds))

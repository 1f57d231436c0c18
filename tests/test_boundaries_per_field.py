"""Boundary conditions that differ between the fields of a system: against hand-made matrices and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.optimize
import sympy as sp
import torch
import zoo
from sympy import Eq

import pdeloom as loom
from pdeloom.compiler.conservation import wave_speed
from pdeloom.compiler.parse import unparse, unparse_boundary

x, y = loom.coordinates("x y")
u, v = loom.field("u", x, y), loom.field("v", x, y)
lap, grad, div = loom.laplacian, loom.grad, loom.div
q = loom.norm2(grad(u)) + loom.norm2(grad(v))
NO, D = loom.NoFlux(), loom.Dirichlet

SYSTEMS = {
    "linear": [lap(u), 0.5 * lap(v) + u],
    "reaction": [lap(u) + u * v, div(grad(v) / (1 + u**2)) - v],
    "joint": [div(grad(u) / (1 + q)), div(grad(v) / (1 + q))],
    "fourth order": [-lap(lap(u)), lap(v)],
    "cross": [lap(u) + 0.1 * lap(v), 0.5 * lap(v) + 0.1 * lap(u) + 0.4 * loom.d(loom.d(u, x), y)],
}
BOUNDARIES = {
    "one wall": {u: NO, v: {x: (D(0.5), NO), y: D(0.5)}},
    "values": {u: D(1), v: {x: (D(0.5), D(0)), y: D(2)}},
    "open": {u: NO, v: {x: loom.Neumann(0.3), y: loom.Robin(1, 2, 0.3)}},
}
SCHEMES = {
    "euler": loom.ForwardEuler(3, tau=1e-4),
    "runge-kutta": loom.RungeKutta(3, 2, tau=1e-4),
    "fsi": loom.FSI(1, 3, tau=1e-4),
    "implicit": loom.BackwardEuler(2, tau=1e-3),
    "semi-implicit": loom.SemiImplicit(2, tau=1e-3),
}
REFUSED = {
    ("reaction", "values"),
    *((n, b) for n in ("joint", "cross") for b in ("values", "open")),
    ("fourth order", "open"),
}


def system(rights, boundary):
    return loom.PDE([Eq(loom.dt(f), r) for f, r in zip((u, v), rights, strict=True)], boundary=boundary)


def agree(net, state, tolerance=1e-12, **given):
    with torch.no_grad():
        new = net.module(torch.float64)(torch.from_numpy(state), **given).numpy()
    reference = net.reference(state)
    np.testing.assert_allclose(new, reference, rtol=0, atol=tolerance * abs(reference).max())
    return new


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("name", SYSTEMS)
def test_the_module_is_the_reference(name, boundary, scheme):
    pde, grid = system(SYSTEMS[name], BOUNDARIES[boundary]), loom.Grid(0.2, centering="cell")

    def compiled():
        return loom.compile(pde, grid=grid, scheme=SCHEMES[scheme], unstable="allow")

    if (name, boundary) in REFUSED:
        with pytest.raises(loom.BoundaryError):
            compiled()
        return
    state = np.random.default_rng(0).uniform(0, 1, (2, 2, 9, 8))
    agree(compiled(), state, 1e-8 if "implicit" in scheme else 1e-12)


@pytest.mark.parametrize("order", [2, 4])
def test_nodes_on_the_walls_have_the_values_of_their_field(order):
    net = loom.compile(
        system(SYSTEMS["linear"], BOUNDARIES["values"]),
        space=loom.FiniteDifference(order),
        scheme=SCHEMES["euler"],
        grid=loom.Grid(0.2),
        unstable="allow",
    )
    agree(net, np.random.default_rng(0).uniform(0, 1, (2, 2, 9, 8)))


def second_difference(n, sign):
    """h²∂ₓₓ with mirror images of this sign beyond both faces."""
    A = np.diag(np.full(n, -2.0)) + np.diag(np.ones(n - 1), 1) + np.diag(np.ones(n - 1), -1)
    A[0, 0] = A[-1, -1] = -2 + sign
    return A


def test_every_field_has_its_own_operator():
    """f is (A₁u, A₂v + u), with the matrices written down by hand."""
    n, m, h = 7, 5, 0.5
    pde = system([lap(u), lap(v) + u], {u: {x: NO, y: D(0)}, v: {x: (D(2), D(2)), y: NO}})
    net = loom.compile(pde, grid=loom.Grid(h, centering="cell"), scheme=loom.ForwardEuler(1, tau=0.01))
    a, b = np.random.default_rng(0).normal(size=(2, n, m))
    moved = net.reference(np.stack([a, b])[None])[0]
    Au = (second_difference(n, 1) @ a + a @ second_difference(m, -1)) / h**2
    Av = (second_difference(n, -1) @ (b - 2) + (b - 2) @ second_difference(m, 1)) / h**2
    np.testing.assert_allclose(moved, [a + 0.01 * Au, b + 0.01 * (Av + a)], atol=1e-13)


def test_the_energy_is_the_one_of_every_fields_walls():
    """f is minus the gradient of E, in the planes through the faces too."""
    net = loom.compile(
        system(SYSTEMS["joint"], BOUNDARIES["one wall"]),
        grid=loom.Grid(0.5, centering="cell"),
        scheme=loom.ForwardEuler(1, tau=1e-3),
    )
    zoo.energy_falls_along_its_gradient(net)


def test_bounds_are_proved_for_the_walls_of_each_field():
    """The diagonal of A beside a face of value 0 is 3/h², beside one without flux 1/h²."""
    grid, scheme = loom.Grid(1.0, centering="cell"), loom.ForwardEuler(1)
    one = loom.compile(system([lap(u), lap(v)], {u: NO, v: {x: D(0), y: NO}}), grid=grid, scheme=scheme)
    none = loom.compile(system([lap(u), lap(v)], NO), grid=grid, scheme=scheme)
    found = [n.stability["maximum principle"].bound for n in (one, none)]
    assert found == pytest.approx([1 / 5, 1 / 4])


def test_text_and_specifications(tmp_path):
    given = {"u": "no-flux", "v": {"x": ["dirichlet(0.5)", "no-flux"], "y": "robin(1, 2, 0.3)"}}
    words = {"coordinates": ["x", "y"], "fields": ["u", "v"]}
    pde = loom.parse(["dt(u) = laplacian(u) - v", "dt(v) = laplacian(v)"], boundary=given, **words)
    assert unparse_boundary(pde) == given
    again = loom.parse([unparse(e) for e in pde.equations], boundary=unparse_boundary(pde), **words)
    grid, scheme = loom.Grid(0.5, centering="cell"), loom.ForwardEuler(2, tau=0.01)
    nets = [loom.compile(p, grid=grid, scheme=scheme) for p in (pde, again)]
    state = torch.rand(1, 2, 6, 7)
    assert torch.equal(nets[0].module()(state), nets[1].module()(state))
    nets[0].save(tmp_path / "net", nets[0].module())
    with torch.no_grad():
        assert torch.equal(loom.load(tmp_path / "net").module()(state), nets[0].module()(state))
    assert "u no flux, v x: Dirichlet(0.5) / no flux; y: Robin(1, 2, 0.3)" in nets[0].source


ERRORS = {
    "a field without a condition": ({u: NO}, "no boundary condition for the field v"),
    "no field": ({u: NO, v: NO, "w": NO}, "'w', which is no field"),
    "an axis beside fields": ({u: NO, v: NO, x: NO}, "'x', which is no field"),
    "an axis is missing": ({u: NO, v: {x: D(0)}}, "of the field v: no boundary condition for y"),
    "an axis too many": ({u: NO, v: {x: D(0), y: D(0), "z": D(0)}}, "of the field v: .*'z'"),
    "no condition": ({u: NO, v: 3}, "of the field v: boundary=3"),
    "periodic for one": ({u: NO, v: {x: loom.Periodic(), y: NO}}, "periodic for all or none"),
    "periodic on one side": ({u: NO, v: {x: (loom.Periodic(), NO), y: NO}}, "of the field v: .*one side only"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_name_the_culprit(case):
    boundary, match = ERRORS[case]
    with pytest.raises(loom.BoundaryError, match=match):
        loom.compile(system(SYSTEMS["linear"], boundary), scheme=loom.ForwardEuler(1), grid=loom.Grid(centering="cell"))


def test_conditions_lie_on_one_plane():
    with pytest.raises(loom.BoundaryError, match=r"u: no-flux, v: dirichlet\(0\).*centering='cell'"):
        loom.compile(system(SYSTEMS["linear"], {u: NO, v: D(0)}), scheme=loom.ForwardEuler(1))


def test_filters_have_one_boundary():
    with pytest.raises(loom.BoundaryError, match="differ between fields"):
        loom.compile(
            system([lap(u), lap(v)], {u: NO, v: D(0)}),
            space=loom.FilterBank(4, 3),
            scheme=loom.ForwardEuler(1),
            grid=loom.Grid(centering="cell"),
        )


# --- conservation laws between walls ----------------------------------------------------------------------------------

z = loom.coordinates("z")
h, m = loom.field("h", z), loom.field("m", z)
WATER = [Eq(loom.dt(h), -loom.d(m, z)), Eq(loom.dt(m), -loom.d(m**2 / h + h**2 / 2, z))]


@pytest.mark.parametrize("reconstruction", ["constant", "minmod", "weno5"])
def test_water_between_walls(reconstruction):
    """Nothing flows through them, to rounding; the water comes to rest where it can and is never pushed by a wall."""
    net = loom.compile(
        loom.PDE(WATER, boundary={h: NO, m: D(0)}),
        space=loom.FiniteVolume("rusanov", reconstruction),
        grid=loom.Grid(0.1, centering="cell"),
        scheme=loom.RungeKutta(3, 8, tau=0.05),
        unstable="allow",
    )
    g = np.random.default_rng(0)
    state = np.stack([1 + g.uniform(0, 1, (2, 40)), 0.1 * g.normal(size=(2, 40))], 1)
    moved = agree(net, state)
    np.testing.assert_allclose(moved[:, 0].sum(-1), state[:, 0].sum(-1), rtol=1e-13)
    still = np.stack([np.full((1, 40), 1.7), np.zeros((1, 40))], 1)
    np.testing.assert_allclose(agree(net, still), still, atol=1e-13)
    mirrored = np.stack([state[:, 0, ::-1], -state[:, 1, ::-1]], 1)
    back = agree(net, mirrored)
    np.testing.assert_allclose(back, np.stack([moved[:, 0, ::-1], -moved[:, 1, ::-1]], 1), atol=1e-12)


def test_a_standing_wave_of_shallow_water():
    """A small seiche h = 1 + ε cos(πz/L) between walls has the frequency π/L: after half a period it is upside down."""
    n, L, epsilon, steps = 40, 1.0, 1e-4, 120
    net = loom.compile(
        loom.PDE(WATER, boundary={h: NO, m: D(0)}),
        space=loom.FiniteVolume("rusanov", "weno5"),
        grid=loom.Grid(L / n, centering="cell"),
        scheme=loom.RungeKutta(3, steps, tau=1 / steps),
        unstable="allow",
    )
    wave = epsilon * np.cos(np.pi * (np.arange(n) + 0.5) / n)
    state = np.stack([1 + wave, 0 * wave])[None]
    with torch.no_grad():
        moved = net.module(torch.float64)(torch.from_numpy(state)).numpy()
    np.testing.assert_allclose(moved[0, 0] - 1, -wave, atol=2e-3 * epsilon)


def test_sods_shock_tube():
    """The Euler equations of a gas: plateaus and front against the exact solution of the Riemann problem."""
    r, E = loom.field("r", z), loom.field("E", z)
    gamma = 1.4
    p = (gamma - 1) * (E - m**2 / (2 * r))
    pde = loom.PDE(
        [
            Eq(loom.dt(r), -loom.d(m, z)),
            Eq(loom.dt(m), -loom.d(m**2 / r + p, z)),
            Eq(loom.dt(E), -loom.d(m / r * (E + p), z)),
        ],
        boundary={r: NO, m: D(0), E: NO},
    )
    n, t, steps = 400, 0.2, 400
    net = loom.compile(
        pde,
        space=loom.FiniteVolume("rusanov", "minmod"),
        grid=loom.Grid(1 / n, centering="cell"),
        scheme=loom.RungeKutta(2, steps, tau=t / steps),
        unstable="allow",
    )
    at = (np.arange(n) + 0.5) / n
    density, pressure = np.where(at < 0.5, 1.0, 0.125), np.where(at < 0.5, 1.0, 0.1)
    state = np.stack([density, 0 * at, pressure / (gamma - 1)])[None]
    with torch.no_grad():
        R, M, W = net.module(torch.float64)(torch.from_numpy(state))[0].numpy()
    speed, pressure = M / R, (gamma - 1) * (W - M**2 / (2 * R))

    def jump(p1):  # the speed behind the shock less that behind the rarefaction
        shock = (p1 - 0.1) * math.sqrt(2 / ((gamma + 1) * 0.125) / (p1 + 0.1 * (gamma - 1) / (gamma + 1)))
        return shock - 2 * math.sqrt(gamma) / (gamma - 1) * (1 - p1 ** ((gamma - 1) / (2 * gamma)))

    p1 = scipy.optimize.brentq(jump, 0.1, 1)
    u1 = 2 * math.sqrt(gamma) / (gamma - 1) * (1 - p1 ** ((gamma - 1) / (2 * gamma)))
    left, ratio = p1 ** (1 / gamma), (gamma - 1) / (gamma + 1)
    right = 0.125 * (p1 / 0.1 + ratio) / (1 + ratio * p1 / 0.1)
    front = 0.5 + t * u1 * right / (right - 0.125)
    contact = 0.5 + t * u1
    plateau = (at > contact + 0.03) & (at < front - 0.03)
    np.testing.assert_allclose(
        [R[plateau].mean(), speed[plateau].mean(), pressure[plateau].mean()], [right, u1, p1], rtol=2e-3
    )
    behind = (at > contact - 0.06) & (at < contact - 0.03)
    np.testing.assert_allclose(R[behind].mean(), left, rtol=5e-3)
    assert abs(at[pressure > (p1 + 0.1) / 2].max() - front) < 3 / n
    np.testing.assert_allclose([R.sum(), W.sum()], [density.sum(), state[0, 2].sum()], rtol=1e-13)


def test_water_in_a_basin():
    """Two axes: momentum along a wall slips, momentum into it is reflected; a square basin keeps its symmetries."""
    depth, a, b = (loom.field(name, x, y) for name in ("h", "a", "b"))
    pde = loom.PDE(
        [
            Eq(loom.dt(depth), -loom.d(a, x) - loom.d(b, y)),
            Eq(loom.dt(a), -loom.d(a**2 / depth + depth**2 / 2, x) - loom.d(a * b / depth, y)),
            Eq(loom.dt(b), -loom.d(a * b / depth, x) - loom.d(b**2 / depth + depth**2 / 2, y)),
        ],
        boundary={depth: NO, a: {x: D(0), y: NO}, b: {x: NO, y: D(0)}},
    )
    net = loom.compile(
        pde,
        space=loom.FiniteVolume("rusanov", "van-leer"),
        grid=loom.Grid(0.1, centering="cell"),
        scheme=loom.RungeKutta(2, 30, tau=0.02),
        unstable="allow",
    )
    state = np.zeros((1, 3, 16, 16))
    state[0, 0] = 1.0
    state[0, 0, 4:7, 3:9] = 1.6
    moved = agree(net, state)
    np.testing.assert_allclose(moved[0, 0].sum(), state[0, 0].sum(), rtol=1e-13)
    turned = agree(net, np.ascontiguousarray(state.transpose(0, 1, 3, 2)[:, [0, 2, 1]]))
    np.testing.assert_allclose(turned, moved.transpose(0, 1, 3, 2)[:, [0, 2, 1]], atol=1e-12)


def test_the_fastest_wave():
    """Of shallow water in two axes and of a gas: |m/h| + √h and |u| + √(γp/ρ)."""
    n, r, E = (loom.field(name, z) for name in ("n", "r", "E"))
    p = sp.Rational(2, 5) * (E - m**2 / (2 * r))
    water = wave_speed({h: m, m: m**2 / h + h**2 / 2, n: m * n / h})
    gas = wave_speed({r: m, m: m**2 / r + p, E: m / r * (E + p)})
    at = {h: 2.0, m: -3.0, n: 0.7, r: 0.5, E: 11.0}
    pressure = 0.4 * (11 - 9 / (2 * 0.5))
    assert float(water.xreplace(at)) == pytest.approx(1.5 + math.sqrt(2))
    assert float(gas.xreplace(at)) == pytest.approx(6 + math.sqrt(1.4 * pressure / 0.5))
    assert wave_speed({h: m**3 + n, m: h, n: m * h * n}) is None


def test_laws_of_several_fields_have_no_open_walls():
    with pytest.raises(loom.BoundaryError, match="no Neumann or Robin"):
        loom.compile(
            loom.PDE(WATER, boundary={h: loom.Neumann(1), m: D(0)}),
            space=loom.FiniteVolume("rusanov"),
            grid=loom.Grid(centering="cell"),
            scheme=loom.ForwardEuler(1, tau=0.1),
        )

"""Staggered fields, and fields that take turns: against matrices, closed forms, Yee's loops and leapfrog."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import sympy as sp
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from sympy import Eq, Rational, cos, sin, sqrt

import pdeloom as loom
from pdeloom.compiler.fields import shift_of

x, y = loom.coordinates("x y")
p, v, w = loom.field("p", x, y), loom.field("v", x, y, staggered=x), loom.field("w", x, y, staggered=y)
b = loom.data("b", x, y, bounds=(0.5, 2))
z = loom.coordinates("z")
q, s = loom.field("q", z), loom.field("s", z, staggered=z)
d, dt, t, N, D, P = loom.d, loom.dt, loom.t, loom.NoFlux(), loom.Dirichlet, loom.Periodic()

RIGID = {p: N, v: {x: D(0), y: N}, w: {x: N, y: D(0)}}
FREE = {p: {x: (N, D(0)), y: N}, v: {x: (D(0), N), y: N}, w: {x: (N, D(0)), y: D(0)}}
DRIVEN = {p: {x: (N, D(0.3)), y: N}, v: {x: (D(sin(t)), N), y: N}, w: {x: N, y: (D(0.4), D(-1.5))}}
TUBE = {f: {x: P, y: D(0) if f == w else N} for f in (p, v, w)}
SOUND = [Eq(dt(p), -(d(v, x) + d(w, y))), Eq(dt(v), -b * d(p, x)), Eq(dt(w), -b * d(p, y))]
ROOM = [Eq(dt(p), -2 * (d(v, x) + d(w, y))), Eq(dt(v), -d(p, x)), Eq(dt(w), -d(p, y))]
MORE = [
    Eq(dt(p), -(d(v, x) + d(w, y)) + Rational(1, 10) * loom.laplacian(p) - v * w + x),
    Eq(dt(v), -b * d(p, x) + d((1 + x) * d(v, x), x) + p * w - y * v),
    Eq(dt(w), -b * d(p, y) / (2 + cos(x)) - p**3 + b),
]

vx, vy = loom.field("vx", x, y, staggered=x), loom.field("vy", x, y, staggered=y)
sxx, syy, sxy = loom.field("sxx", x, y), loom.field("syy", x, y), loom.field("sxy", x, y, staggered=(x, y))
lam, mu = 2, Rational(3, 2)
ELASTIC = [
    Eq(dt(vx), d(sxx, x) + d(sxy, y)),
    Eq(dt(vy), d(sxy, x) + d(syy, y)),
    Eq(dt(sxx), (lam + 2 * mu) * d(vx, x) + lam * d(vy, y)),
    Eq(dt(syy), lam * d(vx, x) + (lam + 2 * mu) * d(vy, y)),
    Eq(dt(sxy), mu * (d(vx, y) + d(vy, x))),
]
YEE = [Eq(dt(q), -d(s, z)), Eq(dt(s), -d(q, z))]
SYSTEMS = {"sound": SOUND, "more": MORE, "elastic": ELASTIC}


def compiled(equations, boundary=P, scheme=None, order=2, h=0.4, centering="cell", shape=None, **options):
    return loom.compile(
        loom.PDE(equations, boundary=boundary),
        space=loom.FiniteDifference(order),
        scheme=scheme or loom.RungeKutta(4, 2, tau=0.05),
        grid=loom.Grid(spacing=h, centering=centering, shape=shape),
        **{"unstable": "allow", **options},
    )


def agree(net, shape=(7, 6), seed=0, **times):
    g = np.random.default_rng(seed)
    state = g.standard_normal((2, net.compiled.system.width, *shape))
    data = {str(f.func): g.uniform(0.5, 2, (2, 1, *shape)) for f in net.compiled.problem.data}
    with torch.no_grad():
        given = {k: torch.from_numpy(a) for k, a in data.items()}
        new = net.module(torch.float64)(torch.from_numpy(state), **given, **times)
    expected = net.reference(state, **data, **times)
    tolerance = 1e-7 if net.scheme.structure.solves else 1e-12
    np.testing.assert_allclose(new.numpy(), expected, rtol=0, atol=tolerance)
    return expected


def matrix(net, shape, **data):
    units = np.eye(net.compiled.system.width * int(np.prod(shape)))
    rates = [net.reference.rate(e.reshape(1, -1, *shape), **data).ravel() for e in units]
    return np.stack(rates, 1)


@pytest.mark.parametrize("order", [2, 4])
@pytest.mark.parametrize(
    "boundary", [P, TUBE, RIGID, FREE, DRIVEN], ids=["periodic", "tube", "rigid", "free", "driven"]
)
@pytest.mark.parametrize("system", ["sound", "more"])
def test_the_module_is_the_reference(system, boundary, order):
    net = compiled(SYSTEMS[system], boundary, order=order)
    agree(net, **({"t": 0.7} if boundary is DRIVEN else {}))


@pytest.mark.parametrize(
    "scheme", [loom.SymplecticEuler(3, tau=0.05), loom.BackwardEuler(2, tau=0.05), loom.Heun(2, tau=0.01)]
)
@pytest.mark.parametrize("boundary", [P, RIGID], ids=["periodic", "rigid"])
def test_by_other_schemes(boundary, scheme):
    agree(compiled(SOUND, boundary, scheme))


def test_elastic_waves():
    walls = {
        vx: {x: D(0), y: N}, vy: {x: N, y: D(0)}, sxx: N, syy: N, sxy: D(0),
    }  # fmt: skip
    for boundary in (P, walls):
        net = compiled(ELASTIC, boundary, loom.SymplecticEuler(3), unstable="refuse")
        agree(net)
        A = matrix(net, (6, 5))
        assert abs(np.linalg.eigvals(A).real).max() < 1e-12
        bound = 2 / net.stability["power bounded"].bound
        assert 0.8 * bound < abs(np.linalg.eigvals(A)).max() <= bound
    whole = abs(np.linalg.eigvals(matrix(compiled(ELASTIC), (6, 6)))).max()  # even: its highest frequency is there
    assert whole == pytest.approx(
        2 / compiled(ELASTIC, scheme=loom.SymplecticEuler(1)).stability["CFL"].bound, rel=1e-9
    )


def test_the_rate_is_that_of_independent_matrices():
    n, m, h, k = 6, 5, 0.4, 0.7
    net = compiled(ROOM, RIGID, h=(h, k))
    up = (np.eye(n, k=1) - np.eye(n)) / h
    up[-1] = 0  # the wall
    across = (np.eye(m, k=1) - np.eye(m)) / k
    across[-1] = 0
    X, Y = np.kron(up, np.eye(m)), np.kron(np.eye(n), across)
    zero = np.zeros((n * m, n * m))
    expected = np.block([[zero, 2 * X.T, 2 * Y.T], [-X, zero, zero], [-Y, zero, zero]])
    found = matrix(net, (n, m))
    np.testing.assert_allclose(found, expected, atol=1e-13)


@pytest.mark.parametrize("order", [2, 4, 6, 8])
def test_standing_waves_have_the_order_asked_for(order):
    """p = cos πx cos πy between rigid walls, with p_x and p_y on the faces."""
    errors = []
    for n in (10, 20):
        h = 1 / n
        net = compiled(ROOM, RIGID, order=order, h=h)
        nodes, faces = (np.arange(n) + 0.5) * h, (np.arange(n) + 1) * h
        c, sn = (lambda at: np.cos(np.pi * at)), (lambda at: np.sin(np.pi * at))
        state = [np.outer(c(nodes), c(nodes)), np.outer(sn(faces), c(nodes)), np.outer(c(nodes), sn(faces))]
        exact = [-4 * np.pi * state[0], np.pi * state[1], np.pi * state[2]]
        errors.append(abs(net.reference.rate(np.array(state)[None])[0] - exact).max())
    assert np.log2(errors[0] / errors[1]) > order - 0.15


@pytest.mark.parametrize("order", [2, 4])
@pytest.mark.parametrize("boundary", [P, RIGID, FREE], ids=["periodic", "rigid", "free"])
def test_a_weighted_norm_is_preserved_and_the_bound_holds(boundary, order):
    net = compiled(ROOM, boundary, loom.RungeKutta(4, 1), order, (0.4, 0.3), unstable="refuse")
    A, n = matrix(net, (6, 5)), 30
    assert abs(np.linalg.eigvals(A).real).max() < 1e-12
    weights = np.repeat([0.5, 1.0, 1.0], n).reshape(3, 6, 5)  # |p|²/2 + |v|² + |w|²
    weights[1, -1] *= 0.5 if boundary is FREE else 1  # on the wall
    energy = np.diag(weights.ravel())
    np.testing.assert_allclose(energy @ A, -(energy @ A).T, atol=1e-13)
    bound = float(2 * np.sqrt(2) / net.stability["von Neumann"].bound)
    assert 0.85 * bound < abs(np.linalg.eigvals(A)).max() <= bound * (1 + 1e-12)


@pytest.mark.parametrize("order", [2, 4])
@pytest.mark.parametrize("turned", [False, True])
def test_short_and_wide_differences_in_one_equation(order, turned):
    """Sound in a wind: the short difference between the fields has twice the norm of the wide one of each."""
    waves = [Eq(dt(q), -d(s, z) - 3 * d(q, z)), Eq(dt(s), -d(q, z) - 3 * d(s, z))]
    net = compiled(waves[::-1] if turned else waves, scheme=loom.RungeKutta(4, 1), order=order)
    radius = abs(np.linalg.eigvals(matrix(net, (24,)))).max()
    bound = 2 * np.sqrt(2) / net.stability["norm decrease"].bound
    assert 0.6 * bound < radius <= bound


def test_walls_that_move_make_norms_grow():
    net = compiled(YEE, {q: N, s: {z: (D(1), D(0))}}, loom.RungeKutta(4, 10))
    assert net.stability["norm decrease"].status != "proved" and net.stability["nonexpansive"].status == "proved"
    assert abs(net.reference(np.zeros((1, 2, 6)))).max() > 1


def test_coefficients_within_their_bounds():
    net = compiled(SOUND, RIGID, loom.SymplecticEuler(1))
    result = net.stability["power bounded"]
    assert result.status == "proved" and result.assumptions == ("0 < b ≤ 2",)
    assert result.bound == pytest.approx(2 / (sqrt(2) * sqrt(2) * 2 / 0.4), rel=1e-12)
    given = np.random.default_rng(0).uniform(0.5, 2, (1, 1, 6, 5))
    values = np.linalg.eigvals(matrix(net, (6, 5), b=given))
    assert abs(values.real).max() < 1e-12 and abs(values).max() <= 2 / result.bound
    assert net.stability["norm decrease"].status == "unknown"
    c = loom.data("c", x, y)
    blind = [SOUND[0], Eq(dt(v), -c * d(p, x)), Eq(dt(w), -c * d(p, y))]
    assert "no declared bounds" in compiled(blind).stability["power bounded"].witness.text
    unlike = [SOUND[0], SOUND[1], Eq(dt(w), d(p, y))]
    assert "symmetric" in compiled(unlike).stability["power bounded"].witness.text
    wide = compiled(SOUND, order=4)
    assert "order 4" in wide.stability["power bounded"].witness.text


@pytest.mark.parametrize("scheme", [loom.SymplecticEuler, lambda steps, tau: loom.RungeKutta(4, steps, tau=tau)])
def test_the_bound_is_sharp(scheme):
    """On an even periodic grid the wave of the highest frequency is on it."""
    state = np.random.default_rng(0).standard_normal((1, 2, 8))
    bound = compiled(YEE, scheme=scheme(1, "auto")).stability["power bounded"].bound
    for factor, stable in ((0.999, True), (1.02, False)):
        net = compiled(YEE, scheme=scheme(600, factor * bound))
        grown = abs(net.reference(state)).max() / abs(state).max()
        assert (grown < 100) == stable
        assert (net.stability["power bounded"].status == "proved") == stable


def test_forward_euler_is_refused():
    with pytest.raises(loom.UnstableSchemeError, match="imaginary"):
        compiled(SOUND, scheme=loom.ForwardEuler(5), unstable="refuse")
    assert compiled(YEE, scheme=loom.ForwardEuler(5, tau=0.1)).stability["von Neumann"].status == "refuted"


def test_fields_that_take_turns_are_yees_scheme():
    n, h, tau, steps = 9, 0.4, 0.3, 20
    g = np.random.default_rng(2)
    e, f = g.standard_normal(n), g.standard_normal(n)
    net = compiled(YEE, {q: N, s: D(0)}, loom.SymplecticEuler(steps, tau=tau))
    new = net.reference(np.stack([e, f])[None])[0]
    f[-1] = 0
    for _ in range(steps):
        for i in range(n):
            e[i] -= tau / h * (f[i] - (f[i - 1] if i else 0))
        for i in range(n - 1):
            f[i] -= tau / h * (e[i + 1] - e[i])
    np.testing.assert_allclose(new, [e, f], atol=1e-13)


def test_they_are_leapfrog_of_the_wave_equation():
    waves = loom.compile(
        loom.PDE(Eq(dt(p, 2), loom.laplacian(p)), boundary=N),
        scheme=loom.Leapfrog(1, tau=0.1),
        grid=loom.Grid(0.4, centering="cell"),
    )
    plain = [Eq(dt(p), -(d(v, x) + d(w, y))), Eq(dt(v), -d(p, x)), Eq(dt(w), -d(p, y))]
    net = compiled(plain, RIGID, loom.SymplecticEuler(1, tau=0.1))
    states = [np.random.default_rng(3).standard_normal((1, 3, 7, 6))]
    for _ in range(5):
        states.append(net.reference(states[-1]))
    laplacian = waves.reference.rate
    for old, now, new in zip(states, states[1:], states[2:], strict=False):
        second = (new - 2 * now + old)[:, :1] / 0.1**2
        np.testing.assert_allclose(second, laplacian(now[:, :1]), atol=1e-11)


def test_turns_can_be_undone():
    """The equations in turned order with turned signs are the inverse of a step."""
    there = compiled(YEE, {q: N, s: D(0)}, loom.SymplecticEuler(7, tau=0.2))
    back = compiled([Eq(e.lhs, -e.rhs) for e in YEE[::-1]], {q: N, s: D(0)}, loom.SymplecticEuler(7, tau=0.2))
    state = np.random.default_rng(0).standard_normal((1, 2, 8))
    state[:, 1, -1] = 0  # the wall
    np.testing.assert_allclose(back.reference(there.reference(state)[:, ::-1])[:, ::-1], state, atol=1e-13)


@dataclass(frozen=True)
class Strang(loom.Scheme):
    """Half steps of all fields in their order, and back."""

    steps: int
    tau: float | str = "auto"

    def step(self, f, u, tau):
        turns = f.fields()
        for turn in [*turns, *reversed(turns)]:
            u = u + tau / 2 * turn(u)
        return u


@dataclass(frozen=True)
class Twice(Strang):
    """Two steps of symplectic Euler in one, the second of them thrice as large."""

    def step(self, f, u, tau):
        for part in (1, 3):
            for turn in f.fields():
                u = u + part * tau / 4 * turn(u)
        return u


@dataclass(frozen=True)
class Together(Strang):
    """All fields at once, which is explicit Euler."""

    def step(self, f, u, tau):
        first, *others = (turn(u) for turn in f.fields())
        return u + tau * sum(others, first)


def test_what_is_proved_of_turns_follows_from_the_scheme():
    state = np.random.default_rng(0).standard_normal((1, 2, 8))
    for scheme, end in ((loom.SymplecticEuler, 2), (Strang, 2), (Twice, None)):
        bound = compiled(YEE, scheme=scheme(1)).stability["power bounded"].bound
        assert end is None or bound == pytest.approx(end / 5, rel=1e-12)
        assert abs(compiled(YEE, scheme=scheme(900, tau=0.999 * bound)).reference(state)).max() < 100
        assert abs(compiled(YEE, scheme=scheme(900, tau=1.05 * bound)).reference(state)).max() > 100
    assert compiled(YEE, scheme=Together(1, tau=0.1)).stability["power bounded"].status == "refuted"


def test_turns_of_reactions():
    """An oscillator, whose orbit closes, and predators, for whom nothing is proved."""
    oscillator = [Eq(dt(q), -3 * d(s, z) + s), Eq(dt(s), -3 * d(q, z) - q)]
    net = compiled(oscillator, scheme=loom.SymplecticEuler(1, tau=0.1))
    assert net.stability["power bounded"].status == "unknown"
    r = loom.field("r", z)
    hunt = [Eq(dt(q), q * (1 - r) + d(q, z, 2)), Eq(dt(r), r * (q - 1) + d(r, z, 2))]
    net = compiled(hunt, N, loom.SymplecticEuler(4, tau=0.02))
    agree(net, (8,))
    assert "proved" not in {result.status for result in net.stability}
    u = np.random.default_rng(0).uniform(0.5, 1.5, (2, 8))
    new = net.reference(u[None])[0]
    prey, hunters = u
    for _ in range(4):
        prey = prey + 0.02 * (prey * (1 - hunters) + np.diff(np.pad(prey, 1, "edge"), 2) / 0.16)
        hunters = hunters + 0.02 * (hunters * (prey - 1) + np.diff(np.pad(hunters, 1, "edge"), 2) / 0.16)
    np.testing.assert_allclose(new, [prey, hunters], atol=1e-13)


def test_one_field_alone_takes_an_euler_step():
    heat = Eq(dt(q), d(q, z, 2))
    one, other = (
        loom.compile(loom.PDE(heat, boundary=N), scheme=scheme)
        for scheme in (loom.SymplecticEuler(3), loom.ForwardEuler(3))
    )
    state = np.random.default_rng(0).standard_normal((1, 1, 8))
    np.testing.assert_allclose(one.reference(state), other.reference(state), atol=1e-14)


def test_values_on_the_far_wall_are_the_walls():
    net = compiled(YEE, {q: N, s: {z: (D(0.2), D(-0.7))}})
    state = np.random.default_rng(0).standard_normal((1, 2, 8))
    other = state.copy()
    other[:, 1, -1] = 5
    for begun in (state, other):
        with torch.no_grad():
            new = net.module(torch.float64)(torch.from_numpy(begun)).numpy()
        np.testing.assert_allclose(new, net.reference(state), atol=1e-13)
        assert (new[:, 1, -1] == -0.7).all()


def test_text_and_saved_networks(tmp_path):
    pde = loom.parse(
        ["dt(q) = -d(s, z)", "dt(s) = -d(q, z)"],
        coordinates=["z"], fields=["q", "s"], staggered={"s": "z"}, boundary={"q": "no-flux", "s": "dirichlet(0)"},
    )  # fmt: skip
    assert pde.equations == tuple(YEE) and [shift_of(u) for u in (q, s)] == [(0,), (1,)]
    net = compiled(SOUND, RIGID, loom.SymplecticEuler(2, tau=0.05))
    module = net.module()
    net.save(tmp_path, module)
    again = loom.load(tmp_path).module()
    state, given = torch.randn(1, 3, 6, 5), torch.rand(1, 1, 6, 5) + 0.5
    assert torch.equal(again(state, b=given), module(state, b=given))
    for wrong in ({"r": "z"}, {"s": "x"}, ["s"], "s", {"s": 3}):
        with pytest.raises(loom.DeclarationError, match="staggered"):
            loom.parse("dt(q) = d(q, z, 2)", coordinates=["z"], fields=["q", "s"], staggered=wrong, boundary="no-flux")


def test_trained_speeds():
    c = loom.parameter("c", 2.0, positive=True)
    waves = [Eq(dt(q), -c * d(s, z)), Eq(dt(s), -d(q, z))]
    for shared in (True, False):
        net = compiled(waves, scheme=loom.SymplecticEuler(3), trainable=[c, "tau"], shared=shared, unstable="refuse")
        module = net.module(torch.float64)
        assert module.certificate()["status"] == "proved"
        with torch.no_grad():
            module.log_c.add_(1.5)
        found = module.certificate()
        assert found["status"] == "proved" and max(found["tau"]) < min(found["tau_max"])
        assert found["tau_max"][0] == pytest.approx(0.4 / np.sqrt(2 * np.exp(1.5)), rel=1e-6)
        if not shared:
            with torch.no_grad():
                module.log_c[0].add_(0.1)
            assert module.certificate()["status"] == "unknown"
    state = torch.randn(1, 2, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(module, (state,))


BAD = [
    (lambda: loom.field("a", x, y, staggered=z), loom.DeclarationError, "one of the coordinates x, y"),
    (lambda: loom.field("a", x, y, staggered=(x, x)), loom.DeclarationError, "staggered"),
    (lambda: compiled(YEE, {q: N, s: N}), loom.BoundaryError, "low end of z"),
    (lambda: compiled(YEE, {q: N, s: {z: (D(0), loom.Robin(1, 1, 0))}}), loom.BoundaryError, "high end of z"),
    (lambda: compiled(YEE, {q: N, s: {z: (D(0), D(sin(t)))}}), loom.BoundaryError, "changes with time"),
    (lambda: compiled(YEE, {q: D(0), s: D(0)}, centering="vertex"), loom.BoundaryError, "centering='cell'"),
    (lambda: compiled([Eq(dt(q), -d(q, z)), YEE[1]], {q: N, s: D(0)}), loom.BoundaryError, "periodic axis"),
    (
        lambda: loom.compile(
            loom.PDE(YEE, boundary=P), space=loom.FiniteVolume("rusanov"), scheme=loom.ForwardEuler(1, tau=0.1)
        ),
        loom.DiscretisationError,
        "s is staggered",
    ),
    (
        lambda: loom.compile(
            loom.PDE([Eq(dt(p), -b * d(sxx, x)), Eq(dt(sxx), -d(p, x))], boundary=P),
            space=loom.FiniteVolume("rusanov"), scheme=loom.ForwardEuler(1, tau=0.1),
        ),
        loom.DiscretisationError,
        "no conservation law",
    ),
    (lambda: compiled([Eq(dt(q), d(q, z, 2)), Eq(dt(s), d((1 + q**2) * d(s, z), z))]), loom.DiscretisationError, "more than its own"),
    (lambda: compiled([Eq(dt(q), d(q, z, 2)), Eq(dt(s), d(s, z, 2) + d(q, z, 2))]), loom.DiscretisationError, "cross-diffusion of staggered"),
    (lambda: loom.compile(loom.PDE(Eq(dt(s, 2), d(s, z, 2)), boundary=P), scheme=loom.Leapfrog(1)), loom.UnsupportedTermError, "first order in time"),
]  # fmt: skip


@pytest.mark.parametrize("make, error, text", BAD, ids=[text for *_, text in BAD])
def test_bad_input(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_coefficients_as_functions_of_the_coordinates_lie_on_the_faces():
    n, h = 7, 0.4
    net = compiled(
        [Eq(dt(q), -d(s, z)), Eq(dt(s), -(2 + sin(z)) * d(q, z))], {q: N, s: D(0)}, loom.SymplecticEuler(1), shape=(n,)
    )
    state = np.random.default_rng(0).standard_normal((1, 2, n))
    rate = net.reference.rate(state)[0, 1]
    at = h * np.arange(1, n)
    np.testing.assert_allclose(rate[:-1], -(2 + np.sin(at)) * np.diff(state[0, 0]) / h, atol=1e-13)
    assert rate[-1] == 0
    assert net.stability["power bounded"].status == "proved"
    around = compiled([YEE[0], Eq(dt(s), -(2 + sin(z)) * d(q, z))])
    found = around.reference.rate(state)[0, 1]
    turned = -(2 + np.sin(h * (np.arange(n) + 0.5))) * (np.roll(state[0, 0], -1) - state[0, 0]) / h
    np.testing.assert_allclose(found, turned, atol=1e-13)


@settings(max_examples=40, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(st.data())
def test_what_is_proved_of_random_systems_is_true(draw):
    """Speeds, places and walls at random, symmetric ones often: the spectrum, and the norm of a step."""
    n = draw.draw(st.integers(2, 3), "fields")
    fields = [
        loom.field(f"a{i}", z, staggered=z if draw.draw(st.booleans(), f"staggered {i}") else ()) for i in range(n)
    ]
    speeds = np.array(draw.draw(st.lists(st.integers(-2, 2), min_size=n * n, max_size=n * n), "speeds")).reshape(n, n)
    scales = draw.draw(st.lists(st.integers(1, 3), min_size=n, max_size=n), "scales")
    if draw.draw(st.booleans(), "symmetric"):
        speeds = np.diag(scales) @ (np.tril(speeds) + np.tril(speeds, -1).T)
    walls = draw.draw(st.sampled_from(["periodic", "rigid", "free"]), "walls")
    boundary = P
    if walls != "periodic":
        far = {"rigid": (N, D(0)), "free": (D(0), N)}[walls]
        boundary = {u: {z: (D(0), far[1])} if shift_of(u)[0] else {z: (N, far[0])} for u in fields}
    order = draw.draw(st.sampled_from([2, 4]), "order")
    scheme = draw.draw(
        st.sampled_from([loom.RungeKutta(4, 1), loom.SymplecticEuler(1), loom.RungeKutta(3, 1)]), "scheme"
    )
    equations = [
        Eq(dt(u), sum((int(v) * d(other, z) for v, other in zip(row, fields, strict=True)), start=sp.S.Zero))
        for u, row in zip(fields, speeds, strict=True)
    ]
    try:
        net = compiled(equations, boundary, scheme, order, unstable="refuse")
    except loom.PdeloomError:
        return
    A, result = matrix(net, (8,)), net.stability["power bounded"]
    if result.status == "proved":
        values = np.linalg.eigvals(A)
        end = {"RungeKutta": 2.8285 if scheme.accuracy == 4 else 1.7321, "SymplecticEuler": 2}[type(scheme).__name__]
        assert abs(values.real).max() < 1e-6
        assert abs(values).max() <= end / result.bound * (1 + 1e-9)
        units = np.eye(8 * n)
        step = np.stack([net.reference(e.reshape(1, n, 8)).ravel() for e in units], 1)
        assert abs(np.linalg.matrix_power(step, 4000)).max() < 1e3
        if net.stability["norm decrease"].status == "proved":
            assert np.linalg.norm(step, 2) <= 1 + 1e-12


@pytest.mark.parametrize("order", [2, 4])
@pytest.mark.parametrize("walls", [D(0), D(0.7), (D(0.2), D(-0.7)), (D(1), N)], ids=["0", "0.7", "two values", "free"])
@pytest.mark.parametrize("several", [False, True])
def test_diffusion_of_a_staggered_field_between_walls(several, walls, order):
    """Alone, and beside a field on the nodes; on a free wall a value counts half, and plain norms may grow."""
    equations = [Eq(dt(s), d(s, z, 2)), Eq(dt(q), d(q, z, 2))][: 1 + several]
    net = compiled(
        equations, {s: {z: walls}, q: N} if several else {z: walls}, loom.ForwardEuler(1), order, unstable="refuse"
    )
    state = agree(net, (8,))
    low = walls[0].value if isinstance(walls, tuple) else walls.value
    if order == 2:
        h, tau = 0.4, net.stability.tau
        u = np.random.default_rng(0).standard_normal((2, 1 + several, 8))[:, 0]
        ring = np.concatenate([np.full((2, 1), low), u], 1)
        inner = u[:, :-2] + tau / h**2 * np.diff(ring[:, :-1], 2, axis=1)
        np.testing.assert_allclose(state[:, 0, :-2], inner, atol=1e-12)
    proved = [notion for notion in ("norm decrease", "nonexpansive") if net.stability[notion].status == "proved"]
    if walls == (D(1), N):
        assert not proved
    elif walls == D(0):
        assert proved == ["norm decrease", "nonexpansive"]
        step = np.stack([net.reference(e.reshape(1, 1 + several, 8)).ravel() for e in np.eye(8 * (1 + several))], 1)
        assert np.linalg.norm(step, 2) <= 1 + 1e-12


def test_differences_within_and_between_fields_along_one_axis():
    a, r = loom.field("a", z, staggered=z), loom.field("r", z)
    three = [Eq(dt(q), -d(a, z) - d(r, z)), Eq(dt(a), -d(q, z)), Eq(dt(r), -d(q, z))]
    net = compiled(three, scheme=loom.RungeKutta(4, 1), h=1.0)
    radius = abs(np.linalg.eigvals(matrix(net, (8,)))).max()
    assert radius <= 2 * np.sqrt(2) / net.stability["power bounded"].bound * (1 + 1e-12)
    none = loom.parameter("none", 0.0)
    still = compiled([Eq(dt(q), -none * d(a, z)), Eq(dt(a), -none * d(q, z))], scheme=loom.RungeKutta(4, 1, tau=0.1))
    assert "Grid" not in still.stability["power bounded"].witness.text
    with pytest.raises(loom.SchemeError, match="skew"):
        compiled(YEE, scheme=loom.SemiImplicit(1, tau=0.1, solver="cg"))
    with pytest.raises(loom.DiscretisationError, match="outside"):
        compiled([Eq(dt(q), -d(loom.data("k", z) * s, z)), YEE[1]])


@pytest.mark.parametrize("tau", [1, 10, 100])
def test_implicit_steps_of_waves_far_beyond_the_speed_of_explicit_ones(tau):
    """I − τf has its spectrum on a line beside the imaginary axis, where BiCGStab of degree one diverged."""
    net = compiled(ROOM, RIGID, loom.BackwardEuler(1, tau=float(tau)), h=1.0)
    shape = (12, 11)
    state = np.random.default_rng(0).standard_normal((1, 3, *shape))
    state[:, 1, -1], state[:, 2, :, -1] = 0, 0  # the values on the walls
    new, log = net.module(torch.float64)(torch.from_numpy(state), history=True)
    f = matrix(net, shape)
    exact = np.linalg.solve(np.eye(len(f)) - tau * f, state.ravel())
    np.testing.assert_allclose(new.numpy().ravel(), exact, rtol=0, atol=1e-8)
    assert len(log[0]) < 150

"""Equations that read the time: every stage of a scheme stands at its own, against closed forms and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.integrate
import sympy as sp
import torch
from sympy import Eq, cos, sin

import pdeloom as loom
from pdeloom.compiler.parse import unparse

x, y = loom.coordinates("x y")
u, v, f = loom.field("u", x, y), loom.field("v", x, y), loom.data("f", x, y)
t, lap, grad, div = loom.t, loom.laplacian, loom.grad, loom.div

EQUATIONS = {
    "source": lap(u) + sin(3 * t) * cos(x),
    "coefficient": div((1 + 0.5 * sin(2 * t)) * grad(u)),
    "in space and time": div((1.5 + 0.5 * sin(2 * t - x)) * grad(u)),
    "reaction": lap(u) - (1 + t) * u + t,
    "perona-malik": div(grad(u) * (1 + 0.5 * cos(t)) / (1 + loom.norm2(grad(u)))),
}
SCHEMES = {
    "euler": (loom.ForwardEuler, {}, 1),
    "heun": (loom.Heun, {}, 2),
    "runge-kutta 3": (lambda **k: loom.RungeKutta(3, **k), {}, 3),
    "runge-kutta 4": (lambda **k: loom.RungeKutta(4, **k), {}, 4),
    "adams-bashforth": (loom.AdamsBashforth, {}, 2),
    "rkl": (lambda **k: loom.RKL(2, 5, **k), {}, 2),
    "rkl frozen": (lambda **k: loom.RKL(2, 5, freeze="cycle", **k), {}, 1),
    "rkc": (lambda **k: loom.RKC(4, **k), {}, 2),
    "backward euler": (loom.BackwardEuler, {}, 1),
    "crank-nicolson": (loom.CrankNicolson, {}, 2),
    "theta": (lambda **k: loom.ThetaScheme(theta=0.7, **k), {}, 1),
    "semi-implicit": (loom.SemiImplicit, {}, 1),
    "aos": (loom.AOS, {}, 1),
    "adi": (loom.ADI, {}, 1),
    "du fort-frankel": (lambda **k: loom.DuFortFrankel(alpha=50.0, **k), {}, None),
}


def compiled(right, scheme, boundary=None, order=1, **options):
    equation = Eq(loom.dt(u, order), right)
    return loom.compile(
        loom.PDE(equation, boundary=boundary or loom.NoFlux()), scheme=scheme, unstable="allow", **options
    )


@pytest.mark.parametrize(
    ("name", "scheme"),
    [(n, s) for i, s in enumerate([*SCHEMES, "fed"]) for j, n in enumerate(EQUATIONS) if (i + j) % 2 == 0],
)
def test_the_module_is_the_reference_at_any_time(name, scheme):
    made = loom.FED(2, 3, tau=0.01) if scheme == "fed" else SCHEMES[scheme][0](steps=3, tau=0.01)
    net = compiled(EQUATIONS[name], made, grid=loom.Grid(0.3))
    state, times = np.random.default_rng(0).uniform(0, 1, (2, 1, 9, 8)), np.array([0.4, 1.5])
    with torch.no_grad():
        new = net.module(torch.float64)(torch.from_numpy(state), t=torch.from_numpy(times)).numpy()
    reference = net.reference(state, t=times)
    np.testing.assert_allclose(new, reference, rtol=0, atol=1e-8)
    for i in range(2):
        np.testing.assert_allclose(net.reference(state[i : i + 1], t=times[i]), reference[i : i + 1], atol=1e-9)
    assert abs(reference[:1] - net.reference(state[:1], t=1.5)).max() > 1e-6


@pytest.mark.parametrize("name", [n for n in SCHEMES if SCHEMES[n][2]])
def test_orders_in_time_against_scipy(name):
    """States that are constant in space: u' = −(1 + t)u² + sin(5t), from the time 0.3."""
    right = lap(u) - (1 + t) * u**2 + sin(5 * t)
    exact = scipy.integrate.solve_ivp(
        lambda s, w: -(1 + s) * w**2 + np.sin(5 * s), (0.3, 1.3), [0.7], rtol=1e-12, atol=1e-12
    ).y[0, -1]
    make, options, order = SCHEMES[name]
    errors = []
    for n in (20, 40):
        net = compiled(right, make(steps=n, tau=1 / n, **options))
        with torch.no_grad():
            new = net.module(torch.float64)(torch.full((1, 1, 3, 3), 0.7, dtype=torch.float64), t=0.3)
        assert new.std() < 1e-9
        errors.append(abs(float(new.mean()) - exact))
    assert np.log2(errors[0] / errors[1]) > order - 0.25
    assert errors[1] < 0.03


def test_fed_advances_by_its_own_steps():
    """The steps of a cycle differ; they add up to τ(n² + n)/3, and so does the integral of the source 1 + t."""
    net = compiled(lap(u) * 1e-9 + 1 + t, loom.FED(3, 4, tau=0.1))
    done = 3 * 0.1 * (16 + 4) / 3
    new = net.reference(np.zeros((1, 1, 3, 3)), t=0.5)[0, 0, 1, 1]
    steps = 0.1 * np.tile(net.scheme.schedule()["c"], 3)
    times = 0.5 + np.concatenate([[0], np.cumsum(steps)[:-1]])
    assert steps.sum() == pytest.approx(done)
    assert new == pytest.approx((steps * (1 + times)).sum())


def test_a_driven_wave():
    """u_tt = Δu + cos(2t), at rest at the start: the mean is (1 − cos 2t)/4, to second order."""
    errors = []
    for n in (20, 40):
        net = compiled(lap(u) + cos(2 * t), loom.Leapfrog(n, tau=1 / n), order=2, grid=loom.Grid(1.0))
        state = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
        errors.append(abs(float(net.module(torch.float64)(state).mean()) - (1 - np.cos(2)) / 4))
    assert np.log2(errors[0] / errors[1]) > 1.9


def test_a_manufactured_solution_in_space_and_time():
    """u = e^{−t} cos x with the diffusivity 1 + sin²t: the source is worked out by sympy; order 2 in space."""
    z = loom.coordinates("z")
    w = loom.field("w", z)
    exact, g = sp.exp(-t) * cos(z), 1 + sin(t) ** 2
    source = sp.diff(exact, t) - sp.diff(g * sp.diff(exact, z), z)
    errors = []
    for n in (10, 20):
        net = loom.compile(
            loom.PDE(Eq(loom.dt(w), loom.d(g * loom.d(w, z), z) + source), boundary=loom.NoFlux()),
            grid=loom.Grid(np.pi / n, centering="cell"),
            scheme=loom.RungeKutta(4, 200, tau=1 / 200),
            unstable="allow",
        )
        at = (np.arange(n) + 0.5) * np.pi / n
        start = np.cos(at) * np.exp(-0.5)
        errors.append(abs(net.reference(start[None, None], t=0.5)[0, 0] - np.cos(at) * np.exp(-1.5)).max())
    assert np.log2(errors[0] / errors[1]) > 1.9


def test_systems_laws_and_couplings():
    state = np.random.default_rng(0).uniform(0.5, 1, (2, 2, 8, 9))
    for rights, space in (
        ([lap(u) + sin(t) * v, t * u], None),
        ([lap(u) + loom.d(sin(t) * loom.d(v, x), y), lap(v)], None),
        ([-loom.d(u * v * sin(t), x), -loom.d(v**2 * cos(t) * x, y)], loom.FiniteVolume("rusanov", "mc")),
    ):
        net = loom.compile(
            loom.PDE([Eq(loom.dt(w), r) for w, r in zip((u, v), rights, strict=True)], boundary=loom.Periodic()),
            scheme=loom.RungeKutta(2, 3, tau=0.05),
            unstable="allow",
            **({"space": space} if space else {}),
        )
        with torch.no_grad():
            new = net.module(torch.float64)(torch.from_numpy(state), t=0.4).numpy()
        np.testing.assert_allclose(new, net.reference(state, t=0.4), atol=1e-13)


@pytest.mark.parametrize(
    ("outside", "inside"),
    [
        (sin(t) * lap(u), div(sin(t) * grad(u))),
        (2 * cos(t) * loom.d(u, x, 2) + lap(u), loom.d(2 * cos(t) * loom.d(u, x), x) + lap(u)),
        (t * div(grad(u) / (1 + loom.norm2(grad(u)))), div(t * grad(u) / (1 + loom.norm2(grad(u))))),
        (
            sin(t) * loom.d(loom.d(u, x), y) + lap(u),
            (loom.d(sin(t) * loom.d(u, x), y) + loom.d(sin(t) * loom.d(u, y), x)) / 2 + lap(u),
        ),
        (-cos(t) * lap(lap(u)), -lap(cos(t) * lap(u))),
    ],
)
def test_a_function_of_time_commutes_with_derivatives(outside, inside):
    state = np.random.default_rng(0).uniform(0, 1, (1, 1, 9, 8))
    one, other = (
        compiled(r, loom.Heun(2, tau=1e-3), grid=loom.Grid(0.3)).reference(state, t=0.4) for r in (outside, inside)
    )
    np.testing.assert_allclose(one, other, rtol=1e-13)


def test_what_is_proved():
    """Norms, with the largest coefficient that any time has; no energy, and no matrix that is the same in every step."""
    net = compiled(EQUATIONS["coefficient"], loom.ForwardEuler(2))
    assert {net.stability[n].status for n in ("norm decrease", "nonexpansive", "maximum principle")} == {"proved"}
    assert net.stability["norm decrease"].bound == pytest.approx(2 / (1.5 * 8))
    assert "energy would change" in str(net.stability["energy decrease"].witness)
    assert compiled(EQUATIONS["perona-malik"], loom.ForwardEuler(2)).stability["norm decrease"].status == "proved"
    for scheme in (loom.RungeKutta(3, 2, tau=0.01), loom.DuFortFrankel(2, tau=0.01), loom.CrankNicolson(2, tau=0.01)):
        found = compiled(EQUATIONS["coefficient"], scheme).stability
        assert {found[n].status for n in ("norm decrease", "power bounded")} == {"unknown"}
    with pytest.raises(loom.UnstableSchemeError, match="no bound was found for 1 \\+ t"):
        loom.compile(
            loom.PDE(Eq(loom.dt(u), div((1 + t**2) * grad(u))), boundary=loom.NoFlux()), scheme=loom.ForwardEuler(1)
        )


def test_an_oscillating_wave_speed_is_not_called_bounded():
    """Every operator is stable at its own time, and together they may resonate (Mathieu)."""
    z = loom.coordinates("z")
    w = loom.field("w", z)
    speed = 1 + 0.9 * cos(2 * t)
    net = loom.compile(
        loom.PDE(Eq(loom.dt(w, 2), loom.d(speed * loom.d(w, z), z)), boundary=loom.Periodic()),
        grid=loom.Grid(2 * np.pi / 32),
        scheme=loom.Leapfrog(600, tau=0.1),
    )
    assert net.stability["power bounded"].status == "unknown"
    start = np.cos(np.arange(32) * 2 * np.pi / 32)[None, None]
    assert abs(net.reference(start)).max() > 100


def test_training_compiling_mapping_and_saving(tmp_path):
    lam = loom.parameter("lam", 0.5, positive=True)
    net = compiled(lap(u) + lam * sin(3 * t) * f, loom.Heun(3, tau=0.1), trainable=[lam, "tau"])
    module = net.module(torch.float64)
    state, data = torch.rand(2, 1, 6, 7, dtype=torch.float64), torch.rand(2, 1, 6, 7, dtype=torch.float64)
    times = torch.tensor([0.3, 0.9], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s, d, when: module(s, f=d, t=when), (state.requires_grad_(), data, times))
    expected = module(state, f=data, t=times)
    compiled_module = torch.compile(module, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled_module(state, f=data, t=times), expected)
    mapped = torch.vmap(lambda s, d, when: module(s[None], f=d[None], t=when)[0])(state, data, times)
    torch.testing.assert_close(mapped, expected)
    net.save(tmp_path / "net", module)
    loaded = loom.load(tmp_path / "net").module().double()
    torch.testing.assert_close(loaded(state, f=data, t=times), expected, rtol=1e-6, atol=1e-6)
    exported = torch.export.export(module, (state.detach(),), {"f": data, "t": times.detach()})
    torch.testing.assert_close(exported.module()(state, f=data, t=times.detach()), expected)


def test_in_text():
    words = {"coordinates": ["x", "y"], "fields": ["u"], "boundary": "no-flux"}
    pde = loom.parse("dt(u) = laplacian(u) + sin(3*t)*cos(x)", **words)
    assert pde.equations[0].rhs == EQUATIONS["source"]
    assert loom.parse(unparse(pde.equations[0]), **words).equations == pde.equations
    net = loom.compile(pde, scheme=loom.Heun(1, tau=0.01))
    assert "read back exactly" in str(loom.lift(net.module()))


ERRORS = {
    "steady": (lambda: loom.PDE(Eq(-lap(u), sin(t)), boundary=loom.Periodic()), loom.Multigrid(2), "no time derivative"),
    "times data outside a divergence": (
        lambda: loom.PDE(Eq(loom.dt(u), sin(t) * f * lap(u)), boundary=loom.NoFlux()),
        loom.ForwardEuler(1), "inside the outer derivative",
    ),
    "times dispersion": (
        lambda: loom.PDE(Eq(loom.dt(u), sin(t) * loom.d(u, x, 3)), boundary=loom.Periodic()),
        loom.ForwardEuler(1), "a constant factor",
    ),
    "fsi": (
        lambda: loom.PDE(Eq(loom.dt(u), lap(u) + t), boundary=loom.NoFlux()), loom.FSI(1, 3, tau=0.1), "FSI.*reads t",
    ),
    "frozen fed": (
        lambda: loom.PDE(Eq(loom.dt(u), lap(u) + t), boundary=loom.NoFlux()),
        loom.FED(1, 3, tau=0.1, freeze="cycle"), "FED.*reads t",
    ),
    "multigrid": (
        lambda: loom.PDE(Eq(loom.dt(u), lap(u) + t), boundary=loom.NoFlux()),
        loom.BackwardEuler(1, tau=0.1, solver=loom.Multigrid(2)), "reads t itself under multigrid",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS)
def test_errors_name_the_culprit(case):
    make, scheme, match = ERRORS[case]
    with pytest.raises(loom.PdeloomError, match=match):
        loom.compile(make(), scheme=scheme, unstable="allow")


def test_wrong_times():
    net = compiled(EQUATIONS["source"], loom.ForwardEuler(1, tau=0.01))
    state = np.zeros((2, 1, 5, 5))
    for wrong in (np.zeros(3), np.zeros((1, 2))):
        with pytest.raises(loom.DataError, match="give one time, or 2"):
            net.reference(state, t=wrong)
        with pytest.raises(ValueError, match="give one time, or 2"):
            net.module(torch.float64)(torch.from_numpy(state), t=torch.from_numpy(wrong))
    with pytest.raises(loom.DataError):
        net.reference(state, t="now")
    with pytest.raises(loom.DataError, match="data fields given: \\['t'\\]"):
        compiled(lap(u), loom.ForwardEuler(1, tau=0.01)).reference(state, t=1.0)


def test_a_trained_step_in_every_layer_has_no_multiples():
    with pytest.raises(loom.SchemeError, match="shared=True"):
        compiled(EQUATIONS["source"], loom.AdamsBashforth(2, tau=0.01), trainable=["tau"])
    assert compiled(EQUATIONS["source"], loom.AdamsBashforth(2, tau=0.01), trainable=["tau"], shared=True)

"""Conservation laws by finite volumes: against closed forms, SciPy, and what is proved of them."""

import numpy as np
import pytest
import sympy as sp
import torch
import zoo
from scipy.integrate import quad, solve_ivp
from sympy import Eq

import pdeloom as loom
from pdeloom.compiler.conservation import RECONSTRUCTIONS

X = loom.coordinates("x")
U = loom.field("u", X, bounds=(-1, 2))
BURGERS = Eq(loom.dt(U), -loom.d(U**2 / 2, X))
PLANE = loom.coordinates("x y")
W = loom.field("w", *PLANE, bounds=(0, 1))
EQUATIONS = {
    "burgers": BURGERS,
    "viscous burgers": Eq(loom.dt(U), -loom.d(U**2 / 2, X) + 0.05 * loom.laplacian(U)),
    "traffic": Eq(loom.dt(U), -loom.d(U * (1 - U), X)),
    "buckley-leverett": Eq(loom.dt(U), -loom.d(U**2 / (U**2 + (1 - U) ** 2 / 2), X)),
    "varying speed": Eq(loom.dt(U), -loom.d(loom.data("a", X) * U, X)),
    "plane": Eq(loom.dt(W), -loom.d(W**2 / 2, PLANE[0]) - loom.d(sp.exp(-W), PLANE[1])),
}


def compiled(equation, scheme=None, h=1.0, reconstruction="constant", boundary=None, **options):
    return loom.compile(
        loom.PDE(
            EQUATIONS.get(equation, equation) if isinstance(equation, str) else equation,
            boundary=boundary or loom.Periodic(),
        ),
        grid=loom.Grid(h),
        space=loom.FiniteVolume("rusanov", reconstruction),
        scheme=scheme or loom.ForwardEuler(3, tau=0.05),
        **options,
    )


def sample(net, seed=0, size=11):
    rng = np.random.default_rng(seed)
    shape = (size, 7)[: net.compiled.problem.dimension]
    data = {str(f.func): torch.from_numpy(rng.uniform(-1, 1, (1, 1, *shape))) for f in net.compiled.problem.data}
    return torch.from_numpy(rng.uniform(0, 1, (2, 1, *shape))), data


def steps(u, net, times):
    module = net.module(torch.float64)
    for _ in range(times):
        u = module(u)
    return u


@pytest.mark.parametrize("reconstruction", RECONSTRUCTIONS)
@pytest.mark.parametrize("name", EQUATIONS)
def test_the_module_is_the_reference(name, reconstruction):
    net = compiled(name, loom.RungeKutta(3, 2, tau=0.05), 0.5, reconstruction, unstable="allow")
    u, data = sample(net)
    expected = torch.from_numpy(net.reference(u.numpy(), **{k: v.numpy() for k, v in data.items()}))
    found = net.module(torch.float64)(u, **data)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)
    dims = tuple(range(2, u.dim()))
    torch.testing.assert_close(found.sum(dims), u.sum(dims), rtol=0, atol=1e-12)  # what is conserved


def test_implicit_steps_and_other_boundaries_across():
    net = compiled("viscous burgers", loom.BackwardEuler(2, tau=0.3), 0.5, unstable="allow")
    u, _ = sample(net)
    expected = torch.from_numpy(net.reference(u.numpy()))
    torch.testing.assert_close(net.module(torch.float64)(u), expected, rtol=0, atol=1e-7)
    x, y = PLANE
    along = Eq(loom.dt(W), -loom.d(W**2 / 2, x) + loom.laplacian(W))
    for other in (loom.NoFlux(), loom.Dirichlet(0.5), loom.Robin(1, 1, 0.5)):
        net = compiled(along, boundary={x: loom.Periodic(), y: other}, reconstruction="mc", unstable="allow")
        u, _ = sample(net)
        expected = torch.from_numpy(net.reference(u.numpy()))
        torch.testing.assert_close(net.module(torch.float64)(u), expected, rtol=0, atol=1e-13)


def test_rusanov_against_scipy():
    """The flux written with NumPy here, marched by solve_ivp."""
    n, h = 24, 0.25

    def rate(_, u):
        low, high = u, np.roll(u, -1)
        flux = (low**2 + high**2) / 4 - np.maximum(abs(low), abs(high)) / 2 * (high - low)
        return -(flux - np.roll(flux, 1)) / h

    u0 = np.sin(2 * np.pi * np.arange(n) / n)
    exact = solve_ivp(rate, (0, 0.5), u0, rtol=1e-11, atol=1e-12).y[:, -1]
    net = compiled("burgers", loom.RungeKutta(4, 200, tau=0.0025), h, unstable="allow")
    np.testing.assert_allclose(net.reference(u0[None, None])[0, 0], exact, atol=1e-7)


@pytest.mark.parametrize("reconstruction", RECONSTRUCTIONS)
def test_the_shock_of_burgers_has_its_speed(reconstruction):
    """Between 1 and 0 it travels at (1 + 0)/2; the rarefaction of the period lies far behind."""
    n, h, tau = 400, 0.01, 0.004
    u0 = torch.zeros(1, 1, n, dtype=torch.float64)
    u0[..., 100:200] = 1.0
    net = compiled("burgers", loom.RungeKutta(3, 100, tau=tau), h, reconstruction, unstable="allow")
    found = net.module(torch.float64)(u0)[0, 0]
    after = torch.arange(n)[150:]
    where = float(after[(found[150:] < 0.5)][0]) * h  # the first cell beyond the shock
    assert where == pytest.approx(2.0 + 0.5 * 100 * tau, abs=2 * h)
    rest = (torch.arange(n, dtype=torch.float64) + 0.5) * h - 1.0  # u = (x − 1)/t in the rarefaction
    fan = slice(110, 130)
    error = (found[fan] - rest[fan] / (100 * tau)).abs().max()
    assert error < (0.06 if reconstruction == "constant" else 0.01)


def test_viscous_burgers_against_cole_hopf():
    """u = −2ν φ'/φ with φ from the heat equation: ∫ exp(−(x − y)²/4νt − ∫₀ʸ u₀/2ν) dy."""
    nu, t = 0.05, 0.5
    primitive = lambda y: (1 - np.cos(2 * np.pi * y)) / (2 * np.pi)  # of u₀ = sin 2πy  # noqa: E731

    def exact(x):
        weight = lambda y: np.exp(-((x - y) ** 2) / (4 * nu * t) - primitive(y) / (2 * nu))  # noqa: E731
        ends = (x - 1.5, x + 1.5)
        above = quad(lambda y: (x - y) / t * weight(y), *ends, limit=200)[0]
        return above / quad(weight, *ends, limit=200)[0]

    errors = []
    for n in (50, 100):
        h = 1 / n
        nodes = (np.arange(n) + 0.5) * h
        count = 8 * n
        net = compiled("viscous burgers", loom.RungeKutta(3, count, tau=t / count), h, "van-leer", unstable="allow")
        found = net.reference(np.sin(2 * np.pi * nodes)[None, None])[0, 0]
        errors.append(np.mean([abs(f - exact(x)) for f, x in zip(found, nodes, strict=True)]))
    assert errors[1] < 2e-3 and np.log2(errors[0] / errors[1]) > 1.6


def test_a_square_wave_has_no_new_extrema():
    n, h = 50, 0.02
    u0 = torch.zeros(1, 1, n, dtype=torch.float64)
    u0[..., 10:25] = 1.0
    field = loom.field("u", X)
    advection = Eq(loom.dt(field), -1.0 * loom.d(field, X))
    errors = {}
    for reconstruction in ("constant", "minmod", "van-leer", "mc"):
        net = compiled(advection, loom.RungeKutta(2, 100, tau=0.01), h, reconstruction, unstable="allow")
        found = net.module(torch.float64)(u0)
        assert found.min() >= -1e-12 and found.max() <= 1 + 1e-12
        total = (found - found.roll(1, -1)).abs().sum()
        assert total <= 2 + 1e-12
        errors[reconstruction] = float((found - u0).abs().sum() * h)  # one period
    assert errors["constant"] > errors["minmod"] > errors["van-leer"] and errors["mc"] < 0.5 * errors["constant"]


@pytest.mark.parametrize(("reconstruction", "order"), [("constant", 1), ("van-leer", 1.7), ("weno5", 4.8)])
def test_the_order_in_space(reconstruction, order):
    """Cell means of sin⁴ carried once around a period, by small steps of RK4."""
    errors = []

    def mean(a, b):
        whole = [3 * e / 8 - np.sin(2 * e) / 4 + np.sin(4 * e) / 32 for e in (a, b)]
        return (whole[1] - whole[0]) / (b - a)

    field = loom.field("u", X)
    for n in (32, 64):
        h, count = 1 / n, 8 * n
        edges = np.pi * np.arange(n + 1) / n
        u0 = mean(edges[:-1], edges[1:])
        scheme = loom.RungeKutta(4, count, tau=1 / count)
        net = compiled(Eq(loom.dt(field), -1.0 * loom.d(field, X)), scheme, h, reconstruction, unstable="allow")
        errors.append(abs(net.reference(u0[None, None])[0, 0] - u0).mean())
    assert np.log2(errors[0] / errors[1]) > order - 0.35


H, Q = loom.field("h", X), loom.field("q", X)
SHALLOW = [Eq(loom.dt(H), -loom.d(Q, X)), Eq(loom.dt(Q), -loom.d(Q**2 / H + H**2 / 2, X))]


@pytest.mark.parametrize(("reconstruction", "close"), [("constant", 0.02), ("minmod", 0.006), ("mc", 0.004)])
def test_a_dam_break_in_shallow_water(reconstruction, close):
    """Against Stoker's solution for gravity 1 and depths 1 and ¼: a rarefaction, a plateau and a shock."""
    n, h, t, left, right = 400, 0.01, 0.5, 1.0, 0.25
    plateau = float(sp.nsolve(
        2 * (sp.sqrt(left) - sp.sqrt(sp.Symbol("m")))
        - (sp.Symbol("m") - right) * sp.sqrt((sp.Symbol("m") + right) / (2 * sp.Symbol("m") * right)),
        sp.Symbol("m"), 0.5,
    ))  # fmt: skip
    speed = 2 * (left**0.5 - plateau**0.5)
    shock = plateau * speed / (plateau - right)
    x = (np.arange(n) + 0.5) * h - 2.0  # the dam at 0; the other one, of the period, is far away
    fan = (2 * left**0.5 - x / t) ** 2 / 9
    depth = np.select(
        [x < -(left**0.5) * t, x < (speed - plateau**0.5) * t, x < shock * t], [left, fan, plateau], right
    )
    start = np.stack([np.where(x < 0, left, right), np.zeros(n)])[None]
    scheme = loom.RungeKutta(3, 200, tau=t / 200)
    net = compiled(SHALLOW, scheme, h, reconstruction, unstable="allow")
    found = net.module(torch.float64)(torch.from_numpy(start)).numpy()[0, 0]
    inside = abs(x) < 1
    assert abs(found - depth)[inside].mean() < close
    np.testing.assert_allclose(net.reference(start)[0, 0], found, atol=1e-12)
    assert found.sum() == pytest.approx(start[0, 0].sum(), rel=1e-12)


def test_systems_of_laws_say_what_is_not_known():
    with pytest.raises(loom.UnstableSchemeError, match="nothing is proved"):
        compiled(SHALLOW, loom.ForwardEuler(1))
    net = compiled(SHALLOW, loom.ForwardEuler(1, tau=0.1))
    assert net.stability.governing == "CFL" and net.stability.warnings and "F_q_x" in net.explain()
    acoustic = [Eq(loom.dt(H), -loom.d(Q, X) - 0.5 * loom.d(H, X)), Eq(loom.dt(Q), -4 * loom.d(H, X))]
    system = compiled(acoustic, loom.ForwardEuler(1, tau=0.1)).compiled.system
    assert float(system.laws[0].speed) == pytest.approx(0.25 + np.sqrt(0.25**2 + 4))  # eigenvalues of [[½, 1], [4, 0]]
    three = [loom.field(name, X) for name in "abc"]
    with pytest.raises(loom.UnsupportedTermError, match="more than second degree"):
        a, b, c = three
        compiled([Eq(loom.dt(u), -loom.d(F, X)) for u, F in zip(three, (b**3 + c, a, a * b * c), strict=True)])


# --- what is proved -------------------------------------------------------------------------------------------


def test_the_step_is_bounded_by_the_wave_speed_of_the_declared_range():
    report = compiled("burgers", loom.ForwardEuler(1), 0.5).stability
    assert report.governing == "CFL" and report["CFL"].status == "proved"
    assert report["CFL"].bound == pytest.approx(0.5 / 2) and report["maximum principle"].bound == pytest.approx(0.5 / 4)
    assert "−1 ≤ F' ≤ 2" in str(report).replace("-", "−") and "Harten" in str(report["CFL"].witness)
    assert compiled("burgers", loom.RungeKutta(3, 1), 0.5).stability["CFL"].bound == pytest.approx(0.25)
    with pytest.raises(loom.UnstableSchemeError, match=r"exceeds 0\.25"):
        compiled("burgers", loom.ForwardEuler(1, tau=0.3), 0.5)
    viscous = compiled("viscous burgers", loom.ForwardEuler(1), 0.5).stability["CFL"]
    assert viscous.bound == pytest.approx(1 / (2 / 0.5 + 2 * 0.05 / 0.25))
    plane = compiled("plane", loom.ForwardEuler(1)).stability
    assert plane["CFL"].bound == pytest.approx(1 / 4)  # 2·(1 + 1) for |F'| ≤ 1 along both axes
    with pytest.raises(loom.UnstableSchemeError, match="declare its range"):
        free = loom.field("u", X)
        compiled(Eq(loom.dt(free), -loom.d(free**2 / 2, X)), loom.ForwardEuler(1))
    for scheme in (loom.RungeKutta(4, 1), loom.ForwardEuler(1)):
        report = compiled("burgers", type(scheme)(**{**vars(scheme), "tau": 0.1}), 0.5, "mc").stability
        assert {r.status for r in report} <= {"unknown", "refuted"} and report.warnings


def test_a_flux_that_is_not_convex_is_not_certified():
    """|ΔF/Δu| exceeds |F'| at both ends: the range is left at the step that convexity would allow."""
    report = compiled("buckley-leverett", loom.ForwardEuler(1, tau=0.1)).stability
    assert report["CFL"].status != "proved" and "not convex" in str(report["CFL"].witness)
    with pytest.raises(loom.UnstableSchemeError, match="not convex"):
        compiled("buckley-leverett", loom.ForwardEuler(1))


@pytest.mark.parametrize("name", ["burgers", "viscous burgers", "traffic", "plane"])
def test_variation_and_range_of_random_states(name):
    """At the largest steps that are proved; states of jumps, where the bounds are tight."""
    report = compiled(name, loom.ForwardEuler(1)).stability
    rng = np.random.default_rng(0)
    low, high = (0, 1) if name == "plane" else (-1, 2)
    shape = (60, 1, 9, 6)[: 3 + (name == "plane")]
    u = np.where(rng.random(shape) < 0.5, rng.choice([low, high], shape), rng.uniform(low, high, shape))
    axes = tuple(range(1, u.ndim))
    for scheme in (loom.ForwardEuler, lambda n, tau: loom.RungeKutta(3, n, tau=tau), loom.Heun):
        net = compiled(name, scheme(1, tau=report["maximum principle"].bound * (1 - 1e-12)))
        v = net.reference(u)
        assert (v.max(axes) <= u.max(axes) + 1e-12).all() and (v.min(axes) >= u.min(axes) - 1e-12).all()
        if name == "plane":
            continue
        v = compiled(name, scheme(1, tau=report["CFL"].bound * (1 - 1e-12))).reference(u)
        variation = [abs(np.diff(w, axis=-1, append=w[..., :1])).sum(axes) for w in (u, v)]
        assert (variation[1] <= variation[0] + 1e-12).all()


def test_fluxes_with_kinks_and_speeds_that_overflow():
    kinked = compiled(Eq(loom.dt(U), -loom.d(sp.Abs(U) * U, X)), loom.ForwardEuler(2, tau=0.05))
    assert kinked.compiled.system.laws[0].speed == 2 * sp.Abs(U) or kinked.stability["CFL"].status == "unknown"
    u, _ = sample(kinked)
    expected = torch.from_numpy(kinked.reference(u.numpy()))
    torch.testing.assert_close(kinked.module(torch.float64)(u), expected, rtol=0, atol=1e-13)
    wide = loom.field("u", X, bounds=(-100, 100))
    for scheme in (loom.RungeKutta(4, 1, tau=0.001), loom.ForwardEuler(1, tau=1.0)):
        report = compiled(Eq(loom.dt(wide), -loom.d(wide**4, X)), scheme, unstable="allow").stability
        assert report["CFL"].status in ("refuted", "unknown")
    narrow = loom.field("u", X, bounds=(-1, 1))
    with pytest.raises(loom.UnstableSchemeError, match=r"refuted at tau = 10000\b"):
        compiled(Eq(loom.dt(narrow), -loom.d(narrow**3, X)), loom.ForwardEuler(1, tau=1e4))


def test_a_step_equal_to_its_printed_bound_is_accepted():
    for equation in (EQUATIONS["traffic"], Eq(loom.dt(U), -loom.d(sp.cosh(U / 20), X))):
        for h in (0.1, 0.3, 0.5):
            bound = compiled(equation, loom.ForwardEuler(1), h).stability["CFL"].bound
            compiled(equation, loom.ForwardEuler(1, tau=bound), h)


def test_a_declared_range_is_no_obstacle_elsewhere(tmp_path):
    """Witnesses and the energies of the report keep within it, or are not looked for."""
    g = loom.diffusivity("perona-malik", 0.1)
    pde = loom.PDE(Eq(loom.dt(W), loom.div(g(loom.norm2(loom.grad(W))) * loom.grad(W))), boundary=loom.NoFlux())
    net = loom.compile(pde, scheme=loom.ForwardEuler(2))
    assert net.stability["norm decrease"].status == "proved" and net.stability["nonexpansive"].status != "proved"
    for result in net.stability:
        assert all(u.min() >= 0 and u.max() <= 1 for u in result.witness.inputs)
    net.report(tmp_path / "r.html")


WALLS = {
    "values": (loom.Dirichlet(1), loom.Dirichlet(-0.5)),
    "inflow into a wall": (loom.Dirichlet(1), loom.NoFlux()),
    "closed": loom.NoFlux(),
}


@pytest.mark.parametrize("reconstruction", RECONSTRUCTIONS)
@pytest.mark.parametrize("walls", WALLS)
def test_between_walls_the_module_is_the_reference(walls, reconstruction):
    for name in ("burgers", "viscous burgers", "varying speed"):
        net = compiled(name, loom.RungeKutta(3, 2, tau=0.05), 0.5, reconstruction, {X: WALLS[walls]}, unstable="allow")
        u, data = sample(net)
        expected = torch.from_numpy(net.reference(u.numpy(), **{k: v.numpy() for k, v in data.items()}))
        found = net.module(torch.float64)(u, **data)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)
        if walls == "closed":
            torch.testing.assert_close(found.sum(2), u.sum(2), rtol=0, atol=1e-12)


def test_what_flows_in_travels_with_the_wave():
    """At the Courant number 1 Rusanov's flux is exact for u_t = −u_x: after k steps k cells have the wall's value, and
    the value of the wall at the outlet is never seen."""
    walls = {X: (loom.Dirichlet(1), loom.Dirichlet(-1))}
    net = compiled(Eq(loom.dt(U), -loom.d(U, X)), loom.ForwardEuler(4, tau=0.5), 0.5, boundary=walls, unstable="allow")
    found = net.module(torch.float64)(torch.zeros(1, 1, 9, dtype=torch.float64))
    assert found[0, 0].tolist() == [1.0] * 4 + [0.0] * 5


def test_a_shock_stands_between_walls_and_no_value_leaves_their_range():
    """Burgers between 1 and −1: an even number of nodes holds the steady shock exactly in their middle."""
    walls = {X: (loom.Dirichlet(1), loom.Dirichlet(-1))}
    bound = compiled("burgers", loom.ForwardEuler(1, tau="auto"), 0.1, boundary=walls).stability.tau_max
    net = compiled("burgers", loom.ForwardEuler(400, tau=bound), 0.1, boundary=walls)
    assert net.stability.governing == "maximum principle"
    assert net.stability["maximum principle"].status == "proved" != net.stability["CFL"].status
    ramp = np.linspace(0.9, -0.9, 20)[None, None]
    steady = net.reference(ramp)
    assert (
        abs(np.abs(steady) - 1)[..., [0, 1, 2, -3, -2, -1]].max() < 1e-6
        and abs(steady + steady[..., ::-1]).max() < 1e-9
    )
    one = compiled("burgers", loom.ForwardEuler(1, tau=bound), 0.1, boundary=walls)
    wild = np.random.default_rng(0).choice([-1.0, 2.0], (64, 1, 13))
    after = one.reference(wild)
    assert after.min() >= -1 - 1e-12 and after.max() <= 2 + 1e-12


@pytest.mark.parametrize("F", [1 / (U - 0.5), sp.sqrt(U + 0.5), sp.log(U + 0.5)])
def test_a_pole_within_the_declared_range_has_no_bound(F):
    """F' has one sign on both sides of the pole, and no bound between the ends of the range."""
    net = compiled(Eq(loom.dt(U), -loom.d(F, X)), unstable="allow")
    assert all(result.status != "proved" for result in net.stability)


def test_what_is_not_known_between_walls():
    outside = {X: (loom.Dirichlet(3), loom.Dirichlet(0))}
    closed = {X: loom.NoFlux()}
    for walls, words in ((outside, "outside the declared range"), (closed, "pile up")):
        net = compiled("burgers", boundary=walls, unstable="allow")
        result = net.stability["maximum principle"]
        assert result.status == "unknown" and words in str(result.witness)
        with pytest.raises(loom.UnstableSchemeError, match="needs a proved bound"):
            compiled("burgers", loom.ForwardEuler(1), boundary=walls)


def test_networks_that_train_and_are_saved(tmp_path):
    speed = loom.parameter("c", 0.5, positive=True)
    equation = Eq(loom.dt(U), -loom.d(speed * U**2, X))
    net = compiled(equation, loom.ForwardEuler(4, tau=0.1), reconstruction="van-leer", trainable=[speed], shared=True)
    truth = compiled(Eq(loom.dt(U), -loom.d(0.8 * U**2, X)), loom.ForwardEuler(4, tau=0.1), reconstruction="van-leer")
    u, _ = sample(net)
    target = torch.from_numpy(truth.reference(u.numpy()))
    module = net.module(torch.float64)
    zoo.fitted(module, u, target)
    assert float(module.log_c.detach().exp()) == pytest.approx(0.8, rel=1e-4)
    again = loom.load(net.save(tmp_path, module))
    torch.testing.assert_close(again.module(torch.float64)(u), module(u).detach(), rtol=0, atol=1e-6)
    assert "bounds" in (tmp_path / "spec.toml").read_text() or "-1" in (tmp_path / "spec.toml").read_text()
    assert "numerical flux" in net.explain() and "div F_x" in net.source
    assert loom.lift(module).equations[0].rhs.has(sp.Derivative)
    torch.testing.assert_close(
        torch.compile(module, fullgraph=True, backend="aot_eager")(u), module(u), rtol=0, atol=1e-12
    )


ERRORS = {
    "differences": (
        lambda: loom.compile(loom.PDE(BURGERS, boundary=loom.Periodic()), scheme=loom.ForwardEuler(1)),
        loom.DiscretisationError, "rusanov",
    ),
    "upwind": (
        lambda: loom.compile(loom.PDE(BURGERS, boundary=loom.Periodic()), space=loom.FiniteVolume("upwind"), scheme=loom.ForwardEuler(1)),
        loom.DiscretisationError, "constant speeds",
    ),
    "walls": (lambda: compiled("burgers", boundary=loom.Neumann(1)), loom.BoundaryError, "has walls NoFlux"),
    "walls on faces": (
        lambda: loom.compile(
            loom.PDE(BURGERS, boundary=loom.Dirichlet(0)), grid=loom.Grid(centering="cell"),
            space=loom.FiniteVolume("rusanov"), scheme=loom.ForwardEuler(1, tau=0.1),
        ),
        loom.BoundaryError, "centering='vertex'",
    ),
    "reconstruction": (lambda: loom.FiniteVolume("rusanov", "weno"), loom.DiscretisationError, "did you mean"),
    "of another flux": (lambda: loom.FiniteVolume("upwind", "mc"), loom.DiscretisationError, "'rusanov' alone"),
    "second derivative": (
        lambda: compiled(Eq(loom.dt(U), loom.d(U**3, X, 2))), loom.UnsupportedTermError, "div\\(3\\*u\\*\\*2",
    ),
    "order in time": (
        lambda: compiled(Eq(loom.dt(U, 2), -loom.d(U**2, X)), loom.Leapfrog(1)), loom.UnsupportedTermError, "second order",
    ),
    "axes": (lambda: compiled("plane", loom.ADI(1, tau=0.1)), loom.SchemeError, "split"),
    "range": (lambda: compiled("burgers").module()(torch.full((1, 1, 5), 3.0)), ValueError, "declared bounds"),
    "range of the reference": (lambda: compiled("burgers").reference(np.full((1, 1, 5), 3.0)), loom.DataError, "bounds"),
    "no waves": (
        lambda: compiled([Eq(loom.dt(H), -loom.d(Q, X)), Eq(loom.dt(Q), loom.d(H, X))]),
        loom.UnsupportedTermError, "not hyperbolic",
    ),
    "bad range": (lambda: loom.field("u", X, bounds=(2, 1)), loom.DeclarationError, "lowest, highest"),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS)
def test_errors_name_the_culprit(case):
    make, kind, text = ERRORS[case]
    with pytest.raises(kind, match=text):
        make()

"""Every scheme by its own file: intervals against the literature, and one suite through which all of them go."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
import sympy as sp
import torch
import zoo
from sympy import Eq

import pdeloom as loom
from pdeloom.compiler.nonlinearity import DIFFUSIVITIES
from pdeloom.compiler.reference import Reference

ROOT = Path(__file__).parents[1]

Z = sp.Symbol("z")


# --- intervals ------------------------------------------------------------------------------------------------

RKL1 = {s: s**2 + s for s in (1, 2, 3, 10, 24)}  # Meyer, Balsara, Aslam 2014, eq. 10
RKL2 = {s: sp.Rational(s**2 + s - 2, 2) for s in (2, 3, 5, 7)}  # eq. 18


def real_root(*coefficients):
    """The one real root of a polynomial, highest power first."""
    (root,) = [z.real for z in np.roots(coefficients) if abs(z.imag) < 1e-9]
    return root


INTERVALS = {
    "forward Euler": (loom.ForwardEuler(1), 2),
    "Heun": (loom.Heun(1), 2),
    "SSP-RK2": (loom.RungeKutta(2, 1), 2),
    "SSP-RK3": (loom.RungeKutta(3, 1), -real_root(1 / 6, 1 / 2, 1, 2)),  # R(z) = −1: 2.5127
    "RK4": (loom.RungeKutta(4, 1), -real_root(1 / 24, 1 / 6, 1 / 2, 1)),  # (R(z) − 1)/z = 0: 2.7853
    "Adams–Bashforth 2": (loom.AdamsBashforth(3), 1),
    "leapfrog": (loom.Leapfrog(3), 4),
    "backward Euler": (loom.BackwardEuler(1), math.inf),
    "Crank–Nicolson": (loom.CrankNicolson(1), math.inf),
    "θ = 1/4": (loom.ThetaScheme(1, theta=0.25), 4),  # 2/(1 − 2θ)
    "θ = 3/4": (loom.ThetaScheme(1, theta=0.75), math.inf),
    "AOS": (loom.AOS(1), math.inf),
    "ADI": (loom.ADI(1), math.inf),
    **{f"RKL1({s})": (loom.RKL(1, s, 1), x) for s, x in RKL1.items()},
}


@pytest.mark.parametrize("name", INTERVALS)
def test_real_intervals_of_the_literature(name):
    scheme, x = INTERVALS[name]
    found = scheme.real_interval()
    assert float(found) == pytest.approx(x, rel=1e-9)
    assert float(found) <= x * (1 + 1e-14), "never beyond"


IMAGINARY = {
    "RK4": (loom.RungeKutta(4, 1), 2 * math.sqrt(2)),
    "SSP-RK3": (loom.RungeKutta(3, 1), math.sqrt(3)),
    "forward Euler": (loom.ForwardEuler(1), 0),
    "Heun": (loom.Heun(1), 0),
    "Adams–Bashforth 2": (loom.AdamsBashforth(3), 0),
    "Crank–Nicolson": (loom.CrankNicolson(1), math.inf),
}


@pytest.mark.parametrize("name", IMAGINARY)
def test_imaginary_intervals_of_the_literature(name):
    scheme, x = IMAGINARY[name]
    assert float(scheme.imaginary_interval()) == pytest.approx(x, rel=1e-9)


@pytest.mark.parametrize("n", [1, 2, 5, 10, 25])
@pytest.mark.parametrize("cls", [loom.FED, loom.FSI])
def test_a_cycle_is_the_box_filter_and_covers_quadratic_time(cls, n):
    """The cycle polynomial of FED and FSI is that of the box filter of length 2n + 1: explicit steps of size τ with
    |1 − τλ| ≤ 1 up to τλ = 4·½; the time it covers is τ(n² + n)/3 (Hafner et al. 2016, eq. 8)."""
    R = sp.Poly(cls(1, n).amplification(Z), Z)
    assert float(R.nth(0)) == pytest.approx(1)
    assert float(R.nth(1)) == pytest.approx((n**2 + n) / 3)
    theta = np.linspace(0.1, 3, 7)  # τλ = 1 − cos θ… the box filter at frequency θ
    box = sum(np.cos(j * theta) for j in range(-n, n + 1)) / (2 * n + 1)
    at = [float(R.eval(-(1 - math.cos(t)))) for t in theta]
    np.testing.assert_allclose(at, box, atol=1e-9)
    assert float(cls(1, n).real_interval()) >= 2


@pytest.mark.parametrize("n", [5, 20, 60])
def test_the_order_of_the_fed_steps_keeps_every_layer_tame(n):
    """What enters at a layer is multiplied by all later factors: ascending steps let it grow beyond all bounds."""
    c = np.array(loom.FED(1, n).schedule()["c"])
    y = np.linspace(0, 2, 400)

    def growth(c):
        factors = 1 - c[:, None] * y
        after = np.abs(np.cumprod(factors[::-1], axis=0)).max()
        return max(after, np.abs(np.cumprod(factors, axis=0)).max())

    assert growth(c) < 10 * n
    assert n < 20 or growth(np.sort(c)) > 1e8
    np.testing.assert_allclose(np.sort(c), 1 / (2 * np.cos(np.pi * (2 * np.arange(n) + 1) / (4 * n + 2)) ** 2))


@pytest.mark.parametrize("s", RKL2)
def test_rkl2_reaches_at_least_the_interval_of_its_paper(s):
    """(s² + s − 2)/2 is sufficient; for odd s the end, where |R| = 1, lies a little further out."""
    scheme = loom.RKL(2, s, 1)
    assert RKL2[s] <= scheme.real_interval() <= RKL2[s] * (1 if s == 2 else 1.2)


def test_rkc_reaches_its_interval():
    for s in (10, 20):  # Sommeijer, Shampine, Verwer 1998, eq. 2.7: β ≈ ⅔(s² − 1)(1 − 2/15·2/13)
        beta = 2 / 3 * (s**2 - 1) * (1 - 2 / 15 * 2 / 13)
        assert float(loom.RKC(s, 1).real_interval()) == pytest.approx(beta, rel=0.02)


@pytest.mark.parametrize("name", zoo.SCHEMES)
def test_just_beyond_its_interval_the_linear_scheme_blows_up(name):
    """The interval against the scheme itself: on u' = λu (2nd order: u'' = λu) and NumPy numbers."""
    scheme = zoo.scheme(name, layers=3)
    x = float(scheme.real_interval())
    if scheme.relaxation:  # x bounds λ/α: stable for every τ up to it, unstable beyond for a large one
        for factor, stable in ((0.999, True), (1.01, False)):
            growth = _growth(scheme, 1e3, factor * x, alpha=1.0)
            assert (growth < 10) == stable
        return
    count = 4 if scheme.structure.solves else 9
    for y in (np.linspace(0.05, 0.999, count) * x) if math.isfinite(x) else np.logspace(-2, 4, count):
        assert _growth(scheme, 1.0, y) < 1e3, f"z = −{y}"
    if math.isfinite(x):
        assert _growth(scheme, 1.0, 1.02 * x) > 1e3


def _growth(scheme, tau, lam, **fixed):
    """The largest |u| over many cycles from u = 1, λ < 0."""
    order = scheme.time_orders[0]
    lam = lam if order == 1 else lam / tau**2 if tau != 1 else lam

    class F:
        def __call__(self, u):
            return -lam * u

        def frozen(self, u):
            return self

        def split(self):
            return [self]

        fields = split

    u, start = np.ones(1), (np.zeros(1),) if order == 2 else ()
    layers = (100 if scheme.structure.solves else 2000) * scheme.cycle
    end = np.abs(scheme.march(F(), u, tau, layers, start, **fixed)[0]).max()
    return end if np.isfinite(end) else np.inf


def test_stability_functions_are_what_the_books_say():
    assert loom.ForwardEuler(1).amplification(Z) == 1 + Z
    assert sp.expand(loom.Heun(1).amplification(Z) - (1 + Z + Z**2 / 2)) == 0
    for order in (2, 3, 4):
        taylor = sum(Z**j / math.factorial(j) for j in range(order + 1))
        assert sp.expand(sp.nsimplify(loom.RungeKutta(order, 1).amplification(Z)) - taylor) == 0
    assert sp.simplify(loom.BackwardEuler(1).amplification(Z) - 1 / (1 - Z)) == 0
    assert sp.simplify(loom.CrankNicolson(1).amplification(Z) - (1 + Z / 2) / (1 - Z / 2)) == 0
    xi = sp.Symbol("xi")
    assert sp.expand(loom.AdamsBashforth(3).amplification(Z) - (xi**2 - (1 + 3 * Z / 2) * xi + Z / 2)) == 0


# --- order in time --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", zoo.SCHEMES)
def test_order_in_time_on_a_nonlinear_equation(name):
    """Against SciPy's solve_ivp on the same semi-discrete system; the measured order is the scheme's."""
    u0 = 0.5 + 0.3 * np.cos(np.pi * (np.arange(8) + 0.5) / 8)[None, None]
    scheme, errors = zoo.SCHEMES[name], []
    n = scheme.cycle
    time = 0.32 * ((n**2 + n) / 3 if scheme.cyclic else 1)
    for halving in (1, 2, 4):
        net = zoo.march(name, "perona-malik 1d", layers=8 * halving, tau=0.04 / halving)
        exact = _exact(net.reference, u0, time, second=net.compiled.problem.time_order == 2)
        errors.append(np.abs(net.reference(u0) - exact).max())
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    wanted = zoo.SCHEMES[name].accuracy
    if zoo.SCHEMES[name].structure.frozen:
        wanted = 1  # the frozen operator is of first order for nonlinear equations
    assert orders[-1] == pytest.approx(wanted, abs=0.3), (orders, errors)


def _exact(reference, u0, time, second=False):
    shape = u0.shape

    def rate(t, y):
        if not second:
            return reference.rate(y.reshape(shape)).ravel()
        u, v = np.split(y, 2)
        return np.concatenate([v, reference.rate(u.reshape(shape)).ravel()])

    y0 = u0.ravel() if not second else np.concatenate([u0.ravel(), np.zeros(u0.size)])
    done = scipy.integrate.solve_ivp(rate, (0, time), y0, method="DOP853", rtol=1e-12, atol=1e-13)
    return done.y[: u0.size, -1].reshape(shape)


def test_the_heat_equation_against_the_matrix_exponential():
    """Crank–Nicolson and RK4 at small τ against scipy.linalg.expm of the matrix that the reference applies."""
    net = zoo.march("crank-nicolson", "heat 1d", layers=64, tau=1 / 256, h=1.0)
    eye = np.eye(12)[:, None]
    A = net.reference.rate(eye)[:, 0].T
    u0 = np.random.default_rng(0).random((1, 1, 12))
    exact = scipy.linalg.expm(A / 4) @ u0[0, 0]
    assert np.abs(net.reference(u0)[0, 0] - exact).max() < 5e-5
    four = zoo.march("runge-kutta 4", "heat 1d", layers=64, tau=1 / 256, h=1.0)
    assert np.abs(four.reference(u0)[0, 0] - exact).max() < 1e-10


# --- the matrix: every scheme × every equation; boundaries in turn -----------------------------------------------

KINDS = list(zoo.KINDS)
ONE_OF_A_KIND = sorted(e for e in zoo.EQUATIONS if e.split()[0] == "perona-malik" or e.split()[0] not in DIFFUSIVITIES)
PAIRS = [
    (scheme, equation, KINDS[(i + j) % len(KINDS)])
    for i, scheme in enumerate(zoo.SCHEMES)
    for j, equation in enumerate(ONE_OF_A_KIND)
]


@pytest.mark.parametrize(("scheme", "equation", "kind"), PAIRS)
def test_module_and_reference_agree(scheme, equation, kind):
    """To 1e-12 for explicit schemes, to the tolerance for implicit ones; a certificate is there."""
    try:
        alpha = {"alpha": 20.0} if zoo.SCHEMES[scheme].relaxation else {}
        net = zoo.march(scheme, equation, kind, tau=0.01, layers=2, **alpha)
    except loom.SchemeError as error:
        assert zoo.SCHEMES[scheme].structure.parts and "mixes axes" in str(error)
        return
    u, data = zoo.sample(net)
    module = net.module(torch.float64)
    with torch.no_grad():
        found = module(u, **data).numpy()
    wanted = net.reference(u.numpy(), **{k: v.numpy() for k, v in data.items()})
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-8 if scheme in zoo.IMPLICIT else 1e-12)
    assert module.certificate()["notion"] == net.stability.governing


def test_every_scheme_meets_every_boundary_and_dimension():
    for scheme in zoo.SCHEMES:
        met = [(kind, zoo.dimension(e)) for s, e, kind in PAIRS if s == scheme]
        assert {k for k, _ in met} == set(KINDS) and {d for _, d in met} == {1, 2, 3}


@pytest.mark.parametrize("scheme", zoo.SCHEMES)
def test_the_mean_is_kept(scheme):
    net = zoo.march(scheme, "separable 2d", tau=0.1, layers=4)
    u, _ = zoo.sample(net)
    with torch.no_grad():
        new = net.module(torch.float64)(u)
    assert (new - u).abs().max() > 1e-3
    torch.testing.assert_close(new.mean(dim=(1, 2, 3)), u.mean(dim=(1, 2, 3)), rtol=0, atol=1e-9)


@pytest.mark.parametrize("scheme", zoo.SCHEMES)
def test_gradients_of_state_parameters_and_data(scheme):
    """gradcheck in float64 through two layers, for u, λ and the coefficient a."""
    equation = "coefficient and g 2d"
    net = zoo.march(scheme, equation, tau=0.05, layers=1 if scheme in zoo.IMPLICIT else 2, trainable=("lam",))
    module = net.module(torch.float64)
    u, data = zoo.sample(net, batch=1, requires_grad=True)
    names, weights = zip(*((n, p.detach().clone().requires_grad_()) for n, p in module.named_parameters()), strict=True)

    def run(u, a, *weights):
        return torch.func.functional_call(module, dict(zip(names, weights, strict=True)), (u,), {"a": a})

    def plain(u, a, *weights):  # functional_call wraps tensors; a solve wants to see them bare
        for n, w in zip(names, weights, strict=True):
            del module._parameters[n]
            setattr(module, n, w)
        try:
            return module(u, a=a)
        finally:
            for n, w in zip(names, weights, strict=True):
                delattr(module, n)
                module.register_parameter(n, torch.nn.Parameter(w.detach()))

    assert torch.autograd.gradcheck(
        plain if scheme in zoo.IMPLICIT else run, (u, data["a"], *weights), atol=1e-6, fast_mode=True
    )


def short(scheme):
    """Two iterations for nonlinear solves, so that the traced graph stays small."""
    return {"solver": loom.Solver(iterations=2)} if scheme in NEWTON else {}


NEWTON = ("backward-euler", "crank-nicolson", "theta-scheme")


TRACED = [n for n in zoo.SCHEMES if n not in ("theta-scheme", "crank-nicolson")]  # implicit Euler with another θ


@pytest.mark.parametrize("scheme", TRACED)
def test_export(scheme):
    net = zoo.march(scheme, "perona-malik 1d", tau=0.05, layers=1, **short(scheme))
    module = net.module(torch.float64)
    u, _ = zoo.sample(net)
    program = torch.export.export(module, (u,))
    with torch.no_grad():
        torch.testing.assert_close(program.module()(u), module(u), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("scheme", TRACED)
def test_compile_without_graph_breaks(scheme):
    net = zoo.march(scheme, "perona-malik 1d", tau=0.05, layers=1, **short(scheme))
    module = net.module(torch.float64)
    u, _ = zoo.sample(net)
    with torch.no_grad():
        compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(u), module(u), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("scheme", zoo.SCHEMES)
def test_vmap_and_low_precision(scheme):
    net = zoo.march(scheme, "perona-malik 1d", tau=0.05, layers=2)
    u, _ = zoo.sample(net, batch=3)
    with torch.no_grad():
        module = net.module(torch.float64)
        each = torch.vmap(lambda v: module(v[None])[0])(u)
        torch.testing.assert_close(each, module(u), rtol=1e-8, atol=1e-8)
        for dtype, atol in ((torch.float32, 1e-4), (torch.bfloat16, 0.1)):
            low = net.module(dtype)(u.to(dtype))
            assert low.dtype == dtype
            torch.testing.assert_close(low.double(), module(u), rtol=0, atol=atol)


# --- what the scheme says of itself ------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", zoo.SCHEMES)
def test_tau_auto_is_stable_and_the_report_says_why(scheme):
    """tau="auto" for Perona–Malik: many layers from white noise stay bounded."""
    pde = loom.PDE(zoo.in_time(scheme, zoo.EQUATIONS["separable 2d"]), boundary=loom.NoFlux())
    net = loom.compile(pde, scheme=zoo.scheme(scheme, layers=40 if scheme in zoo.EXPLICIT else 4))
    governing = net.stability[net.stability.governing]
    assert net.stability.tau > 0 and governing.status in ("proved", "unknown")
    assert governing.bound is not None and net.stability.tau <= governing.bound
    u, _ = zoo.sample(net)
    with torch.no_grad():
        new = net.module(torch.float64)(u)
    assert new.abs().max() < (100 if net.compiled.problem.time_order == 2 else 1.5) * u.abs().max()


def test_architectures():
    found = {name: s.architecture for name, s in zoo.SCHEMES.items()}
    assert {found[n] for n in zoo.IMPLICIT} == {"RNN"}
    assert {n for n, a in found.items() if a == "ResNet with long skips"} == {
        "adams-bashforth 2",
        "du-fort-frankel",
        "fsi",
        "leapfrog",
    }


@pytest.mark.parametrize("scheme", zoo.SCHEMES)
def test_explain_maps_blocks_to_terms(scheme):
    net = zoo.march(scheme, "perona-malik 2d" if not zoo.SCHEMES[scheme].structure.parts else "separable 2d", tau=0.05)
    text = net.explain()
    assert net.architecture in text
    assert zoo.SCHEMES[scheme].formula.split("=")[0].strip() in text
    for label in ("K_x", "g", "tau"):
        assert label in text, text


def test_du_fort_frankel_chooses_alpha_and_reports_its_price():
    net = loom.compile(zoo.pde("heat 2d"), grid=loom.Grid(0.5), scheme=loom.DuFortFrankel(10, tau=0.3))
    rho = float(net.stability.claim.rate)
    assert float(net.stability.relaxation) == pytest.approx(rho / 4)
    result = net.stability["power bounded"]
    assert result.status == "proved" and result.bound == math.inf
    assert any("τ/h → 0" in a for a in result.assumptions)
    assert net.stability["norm decrease"].status != "proved", "power boundedness is all there is"


def test_the_acceleration_page_is_what_its_script_finds():
    """All but the milliseconds; Du Fort–Frankel solves u_t + ατ²u_tt = f, wrong where τ/h is fixed, at every h."""
    script = zoo.example("acceleration")
    page = (ROOT / "docs" / "acceleration.md").read_text(encoding="utf-8")
    assert "\n".join([*script.n_squared(), "", *script.stable_and_wrong()]) in page
    coarse, *_, fine = script.wrong_answers()
    assert fine[1] > 0.5 * coarse[1], "inconsistent: no convergence"
    assert fine[2] < coarse[2] / 8, "consistent: second order in h"
    signal, _ = script.problems()
    exact = signal.exact()
    for name in ("FSI", "RKL1"):
        run = script.first(script.runs(signal, name, exact))
        assert f"| {name} | {run.layers} | {run.evaluations} | {run.error:.2%} |" in page


def test_a_trained_alpha_follows_the_bound_of_the_frozen_operator():
    """Du Fort–Frankel's α = ρ/4 is an expression of the weights: here of κ, through ρ = 4κ."""
    kappa = loom.parameter("kappa", 0.7, positive=True)
    pde = loom.PDE(Eq(loom.dt(zoo.V), kappa * loom.laplacian(zoo.V)), boundary=loom.NoFlux())
    for notion in ("power bounded", "maximum principle"):
        net = loom.compile(pde, scheme=loom.DuFortFrankel(4, tau=0.3), trainable=[kappa], guarantee=notion)
        module = net.module(torch.float64)
        u, _ = zoo.sample(net)
        with torch.no_grad():
            assert float(module.alpha(0)) == pytest.approx(0.7, rel=1e-12)
            np.testing.assert_allclose(module(u).numpy(), net.reference(u.numpy()), atol=1e-13)
            module.log_kappa += math.log(2)
            assert float(module.alpha(0)) == pytest.approx(1.4, rel=1e-12)


def test_second_order_in_time_is_the_wave_equation():
    """Leapfrog against d'Alembert: a standing wave cos(πx)cos(πt), of order 2; and an initial velocity."""
    errors = []
    for n in (16, 32, 64):
        h = 1 / n
        pde = loom.PDE(zoo.in_time("leapfrog", zoo.EQUATIONS["heat 1d"]), boundary=loom.NoFlux())
        net = loom.compile(pde, grid=loom.Grid(h), scheme=loom.Leapfrog(n, tau=0.5 * h))
        wave = np.cos(np.pi * (np.arange(n) + 0.5) / n)[None, None]
        still = net.module(torch.float64)(torch.from_numpy(wave)).numpy() - math.cos(np.pi / 2) * wave
        moving = net.module(torch.float64)(torch.zeros(1, 1, n, dtype=torch.float64), torch.from_numpy(np.pi * wave))
        errors.append(max(np.abs(still).max(), np.abs(moving.numpy() - math.sin(np.pi / 2) * wave).max()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.2)
    assert math.log2(errors[1] / errors[2]) == pytest.approx(2, abs=0.2)


def test_aos_and_semi_implicit_keep_the_maximum_principle_for_every_tau():
    for name in ("aos", "semi-implicit", "backward-euler"):
        net = zoo.march(name, "separable 2d", tau=50.0, layers=2)
        assert net.stability["maximum principle"].status == "proved", name
        u, _ = zoo.sample(net)
        with torch.no_grad():
            new = net.module(torch.float64)(u)
        assert u.min() - 1e-9 <= new.min() and new.max() <= u.max() + 1e-9
    net = zoo.march("crank-nicolson", "heat 1d", tau=50.0)
    assert net.stability["maximum principle"].status == "refuted"


def test_norms_decrease_over_a_cycle_where_it_is_proved():
    for name in zoo.SCHEMES:
        if zoo.SCHEMES[name].time_orders != (1,):
            continue
        net = loom.compile(zoo.pde("heat 2d"), scheme=zoo.scheme(name, layers=3))
        if net.stability["norm decrease"].status != "proved":
            continue
        u, _ = zoo.sample(net)
        u = u - 0.5
        with torch.no_grad():
            new = net.module(torch.float64)(u)
        assert (new.norm() <= u.norm() * (1 + 1e-9)).all(), name


# --- training -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", zoo.SCHEMES)
def test_weights_of_every_scheme_train_and_the_certificate_is_recomputed(scheme):
    trainable = ("lam", "tau")
    net = zoo.march(scheme, "separable 2d", trainable=trainable, layers=3, h=1.0, shared=True)
    module = net.module(torch.float64)
    before = module.certificate()
    u, _ = zoo.sample(net)
    optimiser = torch.optim.Adam(module.parameters(), lr=0.2)
    for _ in range(3):
        optimiser.zero_grad()
        loss = (module(u) - u.mean()).pow(2).mean()
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())
        assert any(p.grad.abs().max() > 0 for p in module.parameters())
        optimiser.step()
    after = module.certificate()
    assert after["status"] == before["status"] == net.stability[net.stability.governing].status
    assert all(t <= b for t, b in zip(after["tau"], after["tau_max"], strict=True))
    assert after["tau"] != before["tau"]


def test_one_set_of_weights_per_cycle():
    net = loom.compile(zoo.pde("perona-malik 2d"), scheme=loom.FSI(cycles=3, length=5), trainable=["lam", "tau"])
    assert {n: tuple(p.shape) for n, p in net.module().named_parameters()} == {"log_lam": (3,), "logit_tau": (3,)}
    free = loom.compile(zoo.pde("perona-malik 2d"), scheme=loom.AdamsBashforth(5), trainable=["lam", "tau"])
    module = free.module()
    assert {n: tuple(p.shape) for n, p in module.named_parameters()} == {"log_lam": (5,), "logit_tau": ()}
    with torch.no_grad():
        module.log_lam[2] += 1
    assert module.certificate()["status"] == "unknown", "a multistep scheme with different operators has no proof"


def test_fsi_with_shared_weights_over_60_layers_trains_at_default_settings(tmp_path):
    """A naive version diverged; here the weights start from the numerical scheme and stay within its bounds."""
    net = loom.compile(
        zoo.pde("perona-malik 2d"),
        scheme=loom.FSI(cycles=2, length=30),
        trainable=["lam", "tau", "stencil"],
        shared=True,
    )
    images = [np.random.default_rng(i).random((40, 40)).astype(np.float32) for i in range(2)]
    fitted = loom.fit(net.module(), images, out=tmp_path, steps=25, batch=2, patch=32)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert fitted.certificate["status"] == net.stability[net.stability.governing].status
    assert lines and all("nan" not in line.lower() for line in lines)
    assert all(p.isfinite().all() for p in fitted.module.parameters())


# --- bad input --------------------------------------------------------------------------------------------------

X, V = zoo.X, zoo.V
WRONG = {
    "no steps": (lambda: loom.Heun(0), "steps from 1"),
    "negative steps": (lambda: loom.RungeKutta(4, -1), "steps from 1"),
    "a cycle of length 0": (lambda: loom.FED(2, 0), "length from 1"),
    "no cycles": (lambda: loom.FSI(0, 3), "cycles from 1"),
    "no stages": (lambda: loom.RKL(1, 0, 1), "stages from 1"),
    "one stage for order 2": (lambda: loom.RKL(2, 1, 1), "2 stages or more"),
    "an order there is not": (lambda: loom.RungeKutta(5, 1), "2, 3, 4"),
    "theta out of range": (lambda: loom.ThetaScheme(1, theta=1.5), r"\(0, 1\]"),
    "tau zero": (lambda: loom.BackwardEuler(1, tau=0), "positive"),
    "tau not a number": (lambda: loom.FSI(1, 3, tau=float("nan")), "positive"),
    "alpha under its bound": (
        lambda: loom.compile(zoo.pde("heat 1d"), scheme=loom.DuFortFrankel(2, tau=0.1, alpha=0.5)),
        "raise alpha",
    ),
    "alpha negative": (lambda: loom.DuFortFrankel(2, alpha=-1.0), "alpha"),
    "first order scheme, second order equation": (
        lambda: loom.compile(
            loom.PDE(Eq(loom.dt(V, 2), loom.laplacian(V)), boundary=loom.NoFlux()), scheme=loom.Heun(2)
        ),
        "leapfrog",
    ),
    "second order scheme, first order equation": (
        lambda: loom.compile(zoo.pde("heat 1d"), scheme=loom.Leapfrog(2)),
        "forward-euler",
    ),
    "tau over the bound": (
        lambda: loom.compile(zoo.pde("heat 1d"), scheme=loom.RungeKutta(4, 2, tau=0.7)),
        "lower tau",
    ),
    "axes that mix": (lambda: loom.compile(zoo.pde("biharmonic 2d"), scheme=loom.AOS(2)), "SemiImplicit"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_schemes_are_refused_with_the_cure(case):
    attempt, cure = WRONG[case]
    with pytest.raises(loom.PdeloomError, match=cure):
        attempt()


def test_parameters_may_be_named_like_a_schemes_own_coefficients():
    for name, scheme in (("a", loom.FSI(1, 3)), ("c", loom.FED(1, 3)), ("alpha", loom.DuFortFrankel(3, tau=0.05))):
        p = loom.parameter(name, 0.7, positive=True)
        pde = loom.PDE(Eq(loom.dt(V), p * loom.laplacian(V)), boundary=loom.NoFlux())
        net = loom.compile(pde, scheme=scheme, trainable=[p])
        u, _ = zoo.sample(net)
        with torch.no_grad():
            np.testing.assert_allclose(net.module(torch.float64)(u).numpy(), net.reference(u.numpy()), atol=1e-12)


def test_the_reference_needs_its_velocity_only_where_there_is_one():
    net = zoo.march("forward-euler", "heat 1d", tau=0.01)
    assert isinstance(net.reference, Reference)
    with pytest.raises(loom.DataError, match="first order in time"):
        net.reference(np.zeros((1, 1, 8)), velocity=np.zeros((1, 1, 8)))
    wave = zoo.march("leapfrog", "heat 1d", tau=0.01)
    with pytest.raises(loom.DataError, match="velocity has shape"):
        wave.reference(np.zeros((2, 1, 8)), velocity=np.zeros((1, 1, 8)))


# --- peers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scheme", "solver", "atol"),
    [
        ("forward-euler", {"solver": "explicit", "scheme": "euler"}, 1e-12),
        ("runge-kutta 4", {"solver": "explicit", "scheme": "rk"}, 1e-12),
        ("backward-euler", {"solver": "implicit", "maxiter": 10_000, "maxerror": 1e-12}, 1e-8),
        ("crank-nicolson", {"solver": "crank-nicolson", "maxiter": 10_000, "maxerror": 1e-12}, 1e-8),
    ],
)
def test_the_heat_equation_against_py_pde(scheme, solver, atol):
    """The same scheme in the best known PDE package for Python, where it is installed (pip install 'pdeloom[bench]')."""
    peer = pytest.importorskip("pde")
    rng = np.random.default_rng(1)
    u0, tau = rng.random((8, 7)), 0.05
    field = peer.ScalarField(peer.CartesianGrid([[0, 4], [0, 3.5]], [8, 7]), u0)
    equation = peer.DiffusionPDE(0.5, bc={"derivative": 0})
    wanted = equation.solve(field, t_range=20 * tau, dt=tau, tracker=None, backend="numpy", **solver).data
    found = zoo.march(scheme, "heat 2d", tau=tau, layers=20).reference(u0[None, None])[0, 0]
    np.testing.assert_allclose(found, wanted, atol=atol)


def test_weights_that_differ_cost_a_multistep_scheme_its_certificate():
    g = loom.parameter("g", 1.0, positive=True)
    pde = loom.PDE(Eq(loom.dt(V, 2), g * loom.laplacian(V)), boundary=loom.NoFlux())
    module = loom.compile(pde, scheme=loom.Leapfrog(3), trainable=[g]).module()
    assert module.certificate()["status"] == "proved" and "reason" not in module.certificate()
    with torch.no_grad():
        module.log_g[1] -= 0.1
    assert module.certificate()["status"] == "unknown"
    assert module.certificate()["reason"] == "the weights differ from step to step"


def test_an_open_interval_excludes_its_end_in_training_too():
    """At τ²ρ = 4 leapfrog grows linearly: no weight reaches it, and the report names the kernel of A."""
    pde = loom.PDE(Eq(loom.dt(V, 2), loom.laplacian(V)), boundary=loom.Periodic())
    with pytest.raises(loom.UnstableSchemeError):
        loom.compile(pde, scheme=loom.Leapfrog(10, tau=1.0))
    module = loom.compile(pde, scheme=loom.Leapfrog(2000), trainable=["tau"]).module(torch.float64)
    with torch.no_grad():
        module.logit_tau.fill_(60.0)
        velocity = ((-1.0) ** torch.arange(16, dtype=torch.float64))[None, None]
        grown = module(torch.zeros_like(velocity), velocity).norm() / velocity.norm()
    assert module.certificate()["status"] == "proved" and grown < 100
    with pytest.raises(ValueError, match="velocity has shape"):
        module(torch.zeros(1, 1, 16), torch.zeros(3, 1, 16))

"""Certificates: what must come out, that it is true far out in weight space, and that a bound 5 % too generous is caught."""

from __future__ import annotations

import dataclasses
import json
import math
import zipfile
from fractions import Fraction

import numpy as np
import pytest
import scipy.integrate
import sympy as sp
import torch
import zoo
from sympy import Eq

import pdeloom as loom
from pdeloom.compiler import fourier
from pdeloom.compiler.energy import _antiderivative, _chain_rule, energy_of

X, V, U = zoo.X, zoo.V, zoo.U
S = sp.Symbol("s", real=True)
LAM = sp.Symbol("lam", positive=True)
F = loom.data("f", zoo.x, zoo.y)
SPEED = loom.parameter("c", 0.7)
CARRIED = Eq(loom.dt(V), -SPEED * loom.d(V, X))
FISHER = Eq(loom.dt(V), loom.laplacian(V) + V * (1 - V))
NOTIONS = [
    "norm decrease",
    "nonexpansive",
    "energy decrease",
    "maximum principle",
    "von Neumann",
    "power bounded",
    "CFL",
]
P, R, Q = "proved", "refuted", "unknown"


def compiled(eq, scheme, kind=None, **options):
    options.setdefault("unstable", "allow")
    return loom.compile(loom.PDE(eq, boundary=kind or loom.NoFlux()), scheme=scheme, **options)


# --- the table ------------------------------------------------------------------------------------------------

FE, PERIODIC = loom.ForwardEuler, loom.Periodic()
# name: (equation, scheme, options, statuses in the order of NOTIONS, governing, its bound)
TABLE = {
    "Perona–Malik": (zoo.EQUATIONS["perona-malik 2d"], FE(1), {}, (P, R, P, P, P, P, Q), "norm decrease", 1 / 4),
    "Charbonnier": (zoo.EQUATIONS["charbonnier 2d"], FE(1), {}, (P, P, P, P, P, P, Q), "norm decrease", 1 / 4),
    "heat": (zoo.EQUATIONS["heat 1d"], FE(1), {}, (P, P, P, P, P, P, Q), "norm decrease", 1 / 2),
    "centred transport": (CARRIED, FE(1, tau=0.5), {"kind": PERIODIC}, (R, R, Q, R, R, R, R), "von Neumann", None),
    "upwind": (
        CARRIED, FE(1), {"kind": PERIODIC, "space": loom.FiniteVolume("upwind")}, (P, P, Q, P, P, P, P), "CFL", 1 / 0.7,
    ),
    "Lax–Friedrichs": (
        CARRIED, FE(1), {"kind": PERIODIC, "space": loom.FiniteVolume("lax-friedrichs")}, (P, P, Q, P, P, P, P), "CFL",
        1 / 0.7,
    ),
    "Lax–Wendroff": (
        CARRIED, FE(1), {"kind": PERIODIC, "space": loom.FiniteVolume("lax-wendroff")}, (P, P, Q, R, P, P, P),
        "von Neumann", 1 / 0.7,
    ),
    "transport by RK4": (
        CARRIED, loom.RungeKutta(4, 1), {"kind": PERIODIC}, (P, P, Q, R, P, P, P), "von Neumann", 2 * math.sqrt(2) / 0.7,
    ),
    "waves by leapfrog": (
        zoo.in_time("leapfrog", zoo.EQUATIONS["heat 1d"]), loom.Leapfrog(1), {}, (Q, Q, Q, Q, P, P, P), "power bounded", 1.0,
    ),
    "backward Euler, convex": (
        zoo.EQUATIONS["charbonnier 2d"], loom.BackwardEuler(1), {}, (P, P, P, P, P, P, Q), "norm decrease", math.inf,
    ),
    "backward Euler, nonconvex": (
        zoo.EQUATIONS["perona-malik 2d"], loom.BackwardEuler(1, tau=1.0), {}, (P, Q, P, P, P, P, Q), "norm decrease",
        math.inf,
    ),
    "semi-implicit": (
        zoo.EQUATIONS["perona-malik 2d"], loom.SemiImplicit(1), {}, (P, Q, P, P, P, P, Q), "norm decrease", math.inf,
    ),
    "Du Fort–Frankel, linear": (
        zoo.EQUATIONS["heat 1d"], loom.DuFortFrankel(1, tau=5.0), {}, (R, R, R, R, P, P, Q), "power bounded", math.inf,
    ),
    "Du Fort–Frankel, nonlinear": (
        zoo.EQUATIONS["charbonnier 2d"], loom.DuFortFrankel(1, tau=5.0), {}, (R, Q, R, R, P, Q, Q), "power bounded",
        math.inf,
    ),
    "FED": (zoo.EQUATIONS["perona-malik 1d"], loom.FED(1, 4), {}, (R, R, R, R, P, Q, Q), "power bounded", 0.5),
    "FED, frozen cycles": (
        zoo.EQUATIONS["perona-malik 1d"], loom.FED(1, 4, freeze="cycle"), {}, (P, R, Q, Q, P, P, Q), "norm decrease", 0.5,
    ),
    "FSI, frozen cycles": (
        zoo.EQUATIONS["perona-malik 1d"], loom.FSI(1, 4, freeze="cycle"), {}, (P, R, Q, Q, P, P, Q), "norm decrease", 0.5,
    ),
    "RKL, frozen stages": (
        zoo.EQUATIONS["perona-malik 1d"], loom.RKL(1, 4, 1, freeze="cycle"), {}, (P, R, Q, R, P, P, Q), "norm decrease", 5.0,
    ),
    "Fisher": (FISHER, FE(1), {}, (R, R, P, P, Q, Q, Q), "maximum principle", 1 / 3),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_the_table_of_what_must_come_out(name):
    eq, scheme, options, statuses, governing, bound = TABLE[name]
    net = compiled(eq, scheme, **options)
    found = {r.notion: r.status for r in net.stability}
    assert found == dict(zip(NOTIONS, statuses, strict=True))
    assert net.stability.governing == governing
    if bound is None:
        assert net.stability.tau_max is None
    else:  # derived ends of cycles lie up to 12 % above 2
        assert bound * (1 - 1e-12) <= net.stability.tau_max <= bound * (1.12 if scheme.cyclic else 1 + 1e-12)
    for r in net.stability:
        assert str(r.witness) and (r.status != P or r.bound is not None)
        if r.status == R:
            assert r.witness.inputs, "a refutation comes with an input to run"


def test_centred_transport_by_forward_euler_is_refused_for_every_tau():
    with pytest.raises(loom.UnstableSchemeError, match="refuted for every tau"):
        compiled(CARRIED, FE(1, tau=1e-3), PERIODIC, unstable="refuse")
    with pytest.raises(loom.UnstableSchemeError, match="tau='auto' needs a proved bound"):
        compiled(CARRIED, FE(1), PERIODIC, unstable="refuse")
    with pytest.raises(loom.UnstableSchemeError, match="the bound of CFL"):
        compiled(CARRIED, FE(1, tau=1.5), PERIODIC, space=loom.FiniteVolume("upwind"), unstable="refuse")


def broken(net, notion):
    """Does the emitted network break the claim on the witness?"""
    w = net.stability[notion].witness
    module = net.module(torch.float64)
    data = {k: torch.from_numpy(v) for k, v in w.data.items()}
    with torch.no_grad():
        old = [torch.from_numpy(u) for u in w.inputs]
        new = [module(u, **data) for u in old]
    if notion == "nonexpansive" and len(old) == 2:
        return (new[0] - new[1]).norm() > (old[0] - old[1]).norm()
    if notion == "maximum principle":
        return new[0].min() < old[0].min() - 1e-12 or new[0].max() > old[0].max() + 1e-12
    if notion == "energy decrease":
        return module.energy(new[0], **data) > module.energy(old[0], **data)
    return new[0].norm() > old[0].norm()


@pytest.mark.parametrize(
    "net",
    [
        lambda: compiled(zoo.EQUATIONS["perona-malik 2d"], FE(1, tau=0.6)),
        lambda: compiled(zoo.EQUATIONS["charbonnier 2d"], FE(1, tau=0.6)),
        lambda: compiled(CARRIED, FE(1, tau=0.5), PERIODIC),
        lambda: compiled(CARRIED, FE(1, tau=1.5), PERIODIC, space=loom.FiniteVolume("upwind")),
        lambda: compiled(FISHER, FE(1, tau=0.6)),
    ],
)
def test_every_counter_example_can_be_run(net):
    net = net()
    refuted = [r.notion for r in net.stability if r.status == R]
    assert refuted and all(broken(net, notion) for notion in refuted)


# --- transport ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flux", ["upwind", "lax-friedrichs", "lax-wendroff", None])
@pytest.mark.parametrize("diffusion", [0, 0.2])
@pytest.mark.parametrize("scheme", [FE(1), loom.Heun(1), loom.RungeKutta(3, 1)])
def test_the_von_neumann_limit_is_that_of_the_sampled_symbol(flux, diffusion, scheme):
    eq = Eq(loom.dt(V), -SPEED * loom.d(V, X) + diffusion * loom.d(V, X, 2))
    space = loom.FiniteVolume(flux) if flux else loom.FiniteDifference()
    if flux in ("lax-friedrichs", "lax-wendroff") and not scheme.euler:
        with pytest.raises(loom.SchemeError, match="explicit Euler"):
            compiled(eq, scheme, PERIODIC, space=space)
        return
    scheme = dataclasses.replace(scheme, tau=0.1)
    bound = compiled(eq, scheme, PERIODIC, space=space).stability["von Neumann"].bound
    theta, R = 2 * np.pi * np.arange(4096) / 4096, scheme.amplification(sp.Symbol("z"))
    value = sp.lambdify(sp.Symbol("z"), R, "numpy")

    def growth(tau):
        nu = {"upwind": 0.35, "lax-friedrichs": 0.5 / tau, "lax-wendroff": 0.245 * tau, None: 0}[flux] + diffusion
        return np.abs(value(-tau * (0.7j * np.sin(theta) + nu * (2 - 2 * np.cos(theta))))).max()

    if bound is None:
        assert growth(1e-3) > 1
    else:
        assert growth(bound * (1 - 1e-9)) <= 1 + 1e-12 and growth(bound * 1.001) > 1 + 1e-9


def test_transport_of_second_order_and_upwind_converge():
    """A wave carried around once, by the emitted network: order 2 for Lax–Wendroff, 1 for upwind."""
    for flux, order in (("lax-wendroff", 2), ("upwind", 1)):
        errors = []
        for n in (64, 128):
            scheme = FE(2 * n, tau=1 / (2 * n) / 0.7)
            net = compiled(CARRIED, scheme, PERIODIC, space=loom.FiniteVolume(flux), grid=loom.Grid(1 / n))
            u = torch.sin(2 * torch.pi * torch.arange(n, dtype=torch.float64) / n)[None, None]
            errors.append(float((net.module(torch.float64)(u) - u).norm() / u.norm()))
        assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.15)


def test_a_trained_speed_stays_within_its_courant_number():
    net = compiled(
        CARRIED, FE(3), PERIODIC, space=loom.FiniteVolume("upwind"), trainable=["c", "tau"], unstable="refuse"
    )
    module = net.module(torch.float64)
    for value in (-30.0, -0.1, 1e-3, 5.0):
        with torch.no_grad():
            module.raw_c.fill_(value)
            module.logit_tau.fill_(8.0)
            certificate = module.certificate()
            assert certificate["status"] == P and max(certificate["tau"]) * abs(value) <= 1
            u = torch.rand(1, 1, 40, dtype=torch.float64)
            new = module(u)
        assert new.min() >= u.min() - 1e-12 and new.max() <= u.max() + 1e-12 and new.norm() <= u.norm() * (1 + 1e-12)


def test_transport_is_saved_and_checked_from_a_file(tmp_path):
    net = compiled(CARRIED, FE(3), PERIODIC, space=loom.FiniteVolume("lax-wendroff"))
    saved = loom.load(net.save(tmp_path / "net"))
    assert saved.net.source == net.source and saved.certificate["notions"]["CFL"] == P
    assert 'method = "finite-volume"' in (tmp_path / "net" / "spec.toml").read_text(encoding="utf-8")
    u = torch.rand(2, 1, 16, dtype=torch.float64)
    with torch.no_grad():
        np.testing.assert_allclose(net.module(torch.float64)(u).numpy(), net.reference(u.numpy()), atol=1e-14)


def test_transport_declared_wrongly_is_refused():
    with pytest.raises(loom.DiscretisationError, match="transport, and the PDE has none"):
        compiled(zoo.EQUATIONS["heat 1d"], FE(1), space=loom.FiniteVolume())
    with pytest.raises(loom.DiscretisationError, match="did you mean"):
        loom.FiniteVolume("upwnd")
    with pytest.raises(loom.BoundaryError, match="periodic axis"):
        compiled(CARRIED, FE(1))
    with pytest.raises(loom.UnsupportedTermError, match="second order in time"):
        compiled(Eq(loom.dt(V, 2), loom.d(V, X)), loom.Leapfrog(1), PERIODIC)


# --- reactions ------------------------------------------------------------------------------------------------

BETA = loom.parameter("beta", 0.5, positive=True)


def restoring(name, beta=BETA):
    return Eq(loom.dt(U), zoo.EQUATIONS[name].rhs + beta * (F - U))


def test_the_data_term_has_the_bound_that_norms_need():
    """τ(ρ + 2β) ≤ 2: proved at the bound, and under the weaker τ(ρ + β) ≤ 2 the norm exceeds max(‖u‖, ‖f‖)."""
    net = compiled(restoring("perona-malik 2d"), FE(1))
    assert net.stability["norm decrease"].bound == pytest.approx(2 / 9, rel=1e-15)
    assert net.stability["maximum principle"].bound == pytest.approx(1 / 4.5, rel=1e-15)
    assert net.stability["energy decrease"].bound == pytest.approx(2 / 8.5, rel=1e-15)
    generator = torch.Generator().manual_seed(0)
    at_bound = compiled(restoring("perona-malik 2d"), FE(1, tau=2 / 9)).module(torch.float64)
    beyond = compiled(restoring("heat 2d", sp.Float(1.5)), FE(1, tau=2 / 5.5)).module(torch.float64)
    board = (-1.0) ** torch.tensor(np.indices((32, 32)).sum(0), dtype=torch.float64)[None, None]
    with torch.no_grad():
        for amplitude in (1e-4, 1e-2, 1.0, 1e2):
            u, f = (amplitude * torch.randn(4, 1, 9, 8, generator=generator, dtype=torch.float64) for _ in range(2))
            largest = torch.maximum(u.flatten(1).norm(dim=1), f.flatten(1).norm(dim=1))
            assert (at_bound(u, f=f).flatten(1).norm(dim=1) <= largest * (1 + 1e-12)).all()
        assert beyond(board, f=-board).norm() > 1.4 * board.norm()


@pytest.mark.parametrize(
    "integrand",
    [
        S / (1 + S**2 / LAM**2) ** 2,
        S / (-1 - S**2),
        1 / (LAM + S),
        S / sp.sqrt(LAM + S**2),
        S * sp.exp(-(S**2) / LAM),
        S**3 / (1 + S**4),
        -1.5 * S / (2.5 * S**2 + 0.5),
    ],
    ids=str,
)
def test_integrals_by_the_chain_rule(integrand):
    """From zero on, against quadrature; the rule serves them all, and nothing else is tried."""
    assert _chain_rule(integrand, S) is not None
    found = _antiderivative(integrand, S).subs(LAM, 0.3)
    for end in (0.2, 1.7):
        wanted = scipy.integrate.quad(sp.lambdify(S, integrand.subs(LAM, 0.3)), 0, end)[0]
        assert float(found.subs(S, end)) == pytest.approx(wanted, rel=1e-9)


def test_distances_need_a_symmetric_jacobian():
    """Fluxes that share a diffusivity and differ in their factors: the norm of the Jacobian reaches 1.025 at 2/ρ."""
    q = loom.norm2(loom.grad(zoo.U))
    g = loom.diffusivity("charbonnier", 0.3)(q)
    fluxes = [a * loom.d(g * loom.d(zoo.U, x), x) for a, x in ((1, zoo.x), (50, zoo.y))]
    report = compiled(Eq(loom.dt(zoo.U), sum(fluxes)), FE(1)).stability
    assert report["norm decrease"].status == P and report["nonexpansive"].status != P
    assert "not symmetric" in str(report["nonexpansive"].witness)


def test_reactions_have_bounds_of_their_own():
    fisher = compiled(FISHER, FE(1)).stability
    assert fisher["maximum principle"].bound == pytest.approx(1 / 3) and "0 ≤ u ≤ 1" in str(fisher)
    allen_cahn = compiled(Eq(loom.dt(V), loom.laplacian(V) + V - V**3), FE(1)).stability
    assert allen_cahn["maximum principle"].bound == pytest.approx(1 / 4)
    assert allen_cahn["energy decrease"].bound == pytest.approx(1 / 4)
    growing = compiled(Eq(loom.dt(V), loom.laplacian(V) + V), FE(1, tau=0.1)).stability
    assert growing["norm decrease"].status == R and growing["maximum principle"].status != P
    weight = loom.data("weight", zoo.x, zoo.y, bounds=(0, 3))
    net = compiled(restoring("heat 2d", weight), FE(1, tau=0.1))
    assert net.stability["norm decrease"].status == Q and "varies in space" in str(
        net.stability["norm decrease"].witness
    )
    assert net.stability["maximum principle"].bound == pytest.approx(1 / 5)
    implicit = compiled(restoring("charbonnier 2d"), loom.BackwardEuler(1)).stability
    assert implicit["norm decrease"].bound == implicit["nonexpansive"].bound == math.inf
    lagged = compiled(restoring("charbonnier 2d"), loom.SemiImplicit(1)).stability
    assert lagged["norm decrease"].bound == pytest.approx(1 / 0.5), "the data term stays explicit"


def test_fisher_and_allen_cahn_stay_in_their_interval():
    generator = torch.Generator().manual_seed(1)
    for eq, (a, b) in ((FISHER, (0, 1)), (Eq(loom.dt(V), loom.laplacian(V) + V - V**3), (-1, 1))):
        tau = compiled(eq, FE(1)).stability["maximum principle"].bound
        module = compiled(eq, FE(20, tau=tau)).module(torch.float64)
        with torch.no_grad():
            new = module(a + (b - a) * torch.rand(16, 1, 24, generator=generator, dtype=torch.float64).round())
        assert a <= new.min() and new.max() <= b


# --- energies -------------------------------------------------------------------------------------------------

WITHOUT = {"weickert 2d", "porous 2d"}


@pytest.mark.parametrize("kind", ["no-flux", "dirichlet", "cell", "periodic", "mixed"])
@pytest.mark.parametrize("name", sorted(set(zoo.EQUATIONS) - WITHOUT - {"forward-and-backward 2d"}))
def test_f_is_minus_the_gradient_of_the_energy(name, kind):
    centering, kind = ("cell", "dirichlet") if kind == "cell" else ("vertex", kind)
    net = zoo.network(name, kind, centering=centering)
    system = net.compiled.system
    E = energy_of(system, {p.name: p.value for p in system.problem.parameters})
    u, data = zoo.sample(net, batch=2)
    arrays = {k: v.numpy() for k, v in data.items()}
    direction, eps = np.random.default_rng(0).standard_normal(u.shape), 1e-6
    slope = (E(u.numpy() + eps * direction, **arrays) - E(u.numpy() - eps * direction, **arrays)) / (2 * eps)
    volume = math.prod(float(axis.spacing) for axis in system.axes)
    rate = net.reference.rate(u.numpy(), **arrays)
    np.testing.assert_allclose(slope, -volume * (rate * direction).sum(tuple(range(1, u.dim()))), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(net.module(torch.float64).energy(u, **data).numpy(), E(u.numpy(), **arrays), rtol=1e-12)


@pytest.mark.parametrize("scheme", [FE(25), loom.SemiImplicit(25, tau=3.0), loom.BackwardEuler(25, tau=1.0)])
def test_the_energy_decreases_where_that_is_proved(scheme):
    net = compiled(zoo.EQUATIONS["perona-malik 2d"], scheme, grid=loom.Grid(1.0))
    assert net.stability["energy decrease"].status == P
    module = net.module(torch.float64)
    u = 3 * torch.randn(2, 1, 9, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    energies, state = [module.energy(u)], module.extend(u)
    with torch.no_grad():
        for k in range(25):
            state = module.step(state, k)
            ring = tuple((n - m) // 2 for n, m in zip(state.shape[2:], u.shape[2:], strict=True))
            inner = state[:, :, ring[0] : ring[0] + 9, ring[1] : ring[1] + 8]
            energies.append(module.energy(inner))
    values = torch.stack(energies)
    assert (values[1:] <= values[:-1] * (1 + 1e-12)).all() and (values[-1] < 0.97 * values[0]).all()


def test_the_report_plots_the_energy(tmp_path):
    from pdeloom.runtime.report import energies

    for scheme in (FE(10), loom.FSI(3, 4), loom.SemiImplicit(2, tau=3.0)):
        net = compiled(zoo.EQUATIONS["perona-malik 2d"], scheme)
        values = [E for _, E in energies(net)]
        assert values[0] > values[-1] and (scheme.cyclic or values == sorted(values, reverse=True))
    page = net.report(tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<h2>Energy</h2>" in page and page.count("<svg") == 3 and "its decrease is\nproved" in page
    net = compiled(restoring("charbonnier 2d"), FE(2))
    assert len(energies(net)) == 3
    assert "<h2>Energy</h2>" not in zoo.network("porous 2d").report(tmp_path / "p.html").read_text(encoding="utf-8")


def test_where_there_is_no_energy_the_report_says_so():
    assert "reads u" in str(compiled(zoo.EQUATIONS["porous 2d"], FE(1, tau=0.01)).stability["energy decrease"].witness)
    assert not hasattr(zoo.network("porous 2d").module(), "energy")
    weickert = compiled(zoo.EQUATIONS["weickert 2d"], FE(1))
    assert weickert.stability["energy decrease"].status == P, "proved without a closed form"


# --- every reachable weight -----------------------------------------------------------------------------------

KINDS = {"no-flux": loom.NoFlux(), "dirichlet": loom.Dirichlet(0), "periodic": PERIODIC}


def network(kind, name, tau="auto", trainable=("lam", "tau"), dimension=1):
    u = (V, U)[dimension - 1]
    lam = loom.parameter("lam", 0.3, positive=True)
    eq = Eq(loom.dt(u), zoo.isotropic(loom.diffusivity(name, lam), u))
    return compiled(eq, FE(1, tau=tau), KINDS[kind], trainable=list(trainable))


def step_norm(module, u):
    """The exact spectral norm of the Jacobian of a step at u."""
    J = torch.func.jacrev(module)(u).reshape(u.numel(), u.numel())
    return float(torch.linalg.svdvals(J.detach())[0])


def critical_states(module, shape, slope):
    """u = 0, where the frozen operator is largest, and the ramp where the slope of Perona–Malik's flux is smallest."""
    ramp = torch.arange(shape[-1], dtype=torch.float64).expand(1, 1, *shape)
    return [torch.zeros(1, 1, *shape, dtype=torch.float64), slope * ramp]


def violation(module, name, shape):
    """By how much the claims fail at the critical states: at most rounding if the bound is right."""
    with torch.no_grad():
        lam = float(module.get_lam(0)) if hasattr(module, "get_lam") else 0.3
    zero, ramp = critical_states(module, shape, math.sqrt(3) * lam)
    states = [zero] if name == "perona-malik" else [zero, ramp]
    return max(step_norm(module, u) for u in states) - 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["perona-malik", "charbonnier"])
def test_jacobians_of_a_hundred_nets_far_out(kind, name):
    net = network(kind, name, trainable=("lam", "tau", "stencil"))
    assert net.stability["norm decrease"].status == P
    generator = torch.Generator().manual_seed(0)
    for trial in range(40):
        module = net.module(torch.float64)
        with torch.no_grad():
            for p in module.parameters():
                p += (0.3, 2.0, 8.0)[trial % 3] * torch.randn(p.shape, generator=generator, dtype=p.dtype)
        assert module.certificate()["notions"]["norm decrease"] == P
        assert violation(module, name, (24,)) <= 1e-6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dimension", [1, 2])
def test_a_bound_five_per_cent_too_generous_is_caught(kind, dimension):
    """The same check fails at 1.05 τ_max and holds at τ_max, for every boundary."""
    shape = {1: (24,), 2: (14, 14)}[dimension]
    for name in ("perona-malik", "charbonnier"):
        tau_max = network(kind, name, trainable=(), dimension=dimension).stability.tau_max
        right = network(kind, name, tau_max, (), dimension).module(torch.float64)
        mutant = network(kind, name, 1.05 * tau_max, (), dimension).module(torch.float64)
        assert violation(right, name, shape) <= 1e-6 < 1e-2 < violation(mutant, name, shape)


def test_the_certificate_holds_at_every_step_of_wild_training():
    """Ten times the default rate, 500 steps: finite, certified, and norms do not grow."""
    net = compiled(zoo.EQUATIONS["perona-malik 1d"], FE(3), trainable=["lam", "tau", "stencil"])
    module = net.module(torch.float64)
    optimiser = torch.optim.Adam(module.parameters(), lr=0.5)
    generator = torch.Generator().manual_seed(0)
    probe = 10.0 ** torch.linspace(-4, 3, 8, dtype=torch.float64)[:, None, None] * torch.randn(
        8, 1, 20, dtype=torch.float64, generator=generator
    )
    for step in range(500):
        clean = torch.randn(8, 1, 20, dtype=torch.float64, generator=generator).cumsum(2)
        noisy = clean + torch.randn(clean.shape, dtype=torch.float64, generator=generator)
        loss = (module(noisy) - clean).pow(2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % 25 == 0:
            with torch.no_grad():
                assert module.certificate()["status"] == P and torch.isfinite(loss)
                assert (module(probe).flatten(1).norm(dim=1) <= probe.flatten(1).norm(dim=1) * (1 + 1e-9)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_adversarial_ascent_finds_no_violation(kind):
    net = network(kind, "charbonnier", trainable=("lam", "tau"))
    generator = torch.Generator().manual_seed(0)
    module = net.module(torch.float64)
    with torch.no_grad():
        module.logit_tau.fill_(9.0)
    u = torch.randn(32, 1, 16, dtype=torch.float64, generator=generator, requires_grad=True)
    v = torch.randn(32, 1, 16, dtype=torch.float64, generator=generator, requires_grad=True)
    optimiser = torch.optim.Adam([u, v], lr=0.1)
    worst = 0.0
    for _ in range(100):
        gain = module(u).flatten(1).norm(dim=1) / u.flatten(1).norm(dim=1)
        distance = (module(u) - module(v)).flatten(1).norm(dim=1) / (u - v).flatten(1).norm(dim=1)
        worst = max(worst, float(gain.detach().max()), float(distance.detach().max()))
        optimiser.zero_grad()
        (-gain.sum() - distance.sum()).backward()
        optimiser.step()
    assert 0.9 < worst <= 1 + 1e-6


# --- the certificate as data ----------------------------------------------------------------------------------


def test_all_notions_are_recomputed_from_the_weights():
    net = network("no-flux", "charbonnier", trainable=("lam", "tau", "stencil"))
    module = net.module(torch.float64)
    before = module.certificate()["notions"]
    assert {n for n, s in before.items() if s == P} == {
        "norm decrease", "nonexpansive", "energy decrease", "von Neumann", "power bounded",
    }  # fmt: skip
    with torch.no_grad():
        module.K_x.fill_(float("nan"))
    assert set(module.certificate()["notions"].values()) == {Q}


def test_an_exported_network_carries_its_certificate(tmp_path):
    module = network("no-flux", "perona-malik").module()
    path = loom.export(module, (torch.rand(1, 1, 12),), tmp_path / "net.pt2")
    assert loom.exported_certificate(path)["status"] == P
    assert torch.export.load(path).module()(torch.rand(1, 1, 12)).shape == (1, 1, 12)
    edited = tmp_path / "edited.pt2"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(edited, "w") as new:
        for name in old.namelist():
            raw = old.read(name)
            new.writestr(name, bytes([raw[0] ^ 1]) + raw[1:] if name.endswith("weights/weight_0") else raw)
    with pytest.raises(loom.CheckpointError, match="stale"):
        loom.exported_certificate(edited)
    with pytest.raises(loom.CheckpointError, match="no certificate"):
        loom.exported_certificate(tmp_path / "nothing.pt2")
    with pytest.raises(loom.CheckpointError, match="not a module"):
        loom.export(torch.nn.Linear(2, 2), (torch.rand(2),), path)


def test_a_checkpoint_with_another_certificate_is_refused(tmp_path):
    from pdeloom.runtime.checkpoint import read_checkpoint, write_checkpoint

    module = network("no-flux", "perona-malik").module()
    optimiser = torch.optim.Adam(module.parameters())
    certificate = json.loads(json.dumps(module.certificate()))
    write_checkpoint(tmp_path / "good", module, optimiser, {"certificate": certificate})
    read_checkpoint(tmp_path / "good", module)
    with torch.no_grad():
        module.logit_tau -= 1
    write_checkpoint(tmp_path / "bad", module, optimiser, {"certificate": certificate})
    with pytest.raises(loom.CheckpointError, match="does not hold"):
        read_checkpoint(tmp_path / "bad", module)


# --- exact von Neumann analysis -------------------------------------------------------------------------------


def test_the_exact_test_decides_touching_polynomials():
    """Upwind at Courant number one touches |R| = 1 at every frequency, a hair beyond it does not."""
    R = FE(1).amplified()
    one = sp.Poly(1, fourier.X, domain="QQ")
    two_sided = sp.Poly(1 - fourier.X, fourier.X, domain="QQ")
    assert fourier.stable(R, (two_sided, one), Fraction(1))
    assert not fourier.stable(R, (two_sided, one), Fraction(1) + Fraction(1, 10**12))
    assert fourier.limit(R, lambda tau: (two_sided, one)) == (1, True)
    assert not fourier.stable(R, (0 * one, one), Fraction(1, 10**6)), "centred, for any τ"

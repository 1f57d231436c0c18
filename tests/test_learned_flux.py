"""Learned fluxes: mixtures in closed form, whose bounds hold for every weight and follow the training."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp
import torch
import zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy import Eq

import pdeloom as loom
from pdeloom.compiler.nonlinearity import range_of

x, y, U = zoo.x, zoo.y, zoo.U


KINDS, MONOTONE = ["rational", "gaussian", "charbonnier", "spline"], ("charbonnier", "spline")
LOWEST = {"rational": -1 / 8, "gaussian": -2 * np.exp(-1.5), "charbonnier": 0, "spline": 0}
"""inf Φ' for Σa = 1."""


def isotropic(g):
    return Eq(loom.dt(U), loom.div(g(loom.norm2(loom.grad(U))) * loom.grad(U)))


def separable(g):
    return Eq(loom.dt(U), sum(loom.d(g(loom.d(U, a) ** 2) * loom.d(U, a), a) for a in (x, y)))


def network(equation, g, steps=3, **options):
    options.setdefault("trainable", [g, "tau"])
    return loom.compile(loom.PDE(equation(g), boundary=loom.NoFlux()), scheme=loom.ForwardEuler(steps), **options)


def disturbed(net, seed=0, size=1.0):
    """A module with random weights."""
    module = net.module(torch.float64)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(size * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return module


def test_it_starts_as_the_diffusivity_it_is_given():
    r = sp.Symbol("r", nonnegative=True)
    for start in (("perona-malik", 0.07), ("charbonnier", 0.2), ("regularised-tv", 0.1)):
        wanted = loom.diffusivity(*start)
        for kind in ("rational", "charbonnier"):
            g = loom.learned_flux("flux", kind, 6, wanted)
            initial = g(r).xreplace({p: sp.Float(p.value) for p in g.parameters})
            s = np.logspace(-3, 1, 41)
            deviation = [abs(float((initial - wanted(r)).xreplace({r: sp.Float(v**2)}))) for v in s]
            assert max(deviation) <= 1.1 * g.error * float(wanted(0)), "the error is what it says"
    assert loom.learned_flux(start=loom.diffusivity("perona-malik", 0.07)).error < 0.006
    lam = loom.parameter("lam", 0.07, positive=True)
    assert loom.learned_flux(start=loom.diffusivity("perona-malik", lam)).error < 0.006


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(KINDS), st.integers(2, 5), st.integers(0, 99))
def test_ranges_hold_for_every_weight(kind, terms, seed):
    """0 ≤ g ≤ Σa, and Φ' between inf Φ'·Σa and Σa: as expressions in the weights."""
    g, s = loom.learned_flux(kind=kind, terms=terms), sp.Symbol("s", real=True)
    trained = frozenset(g.parameters)
    total = sp.Add(*g.weights)
    of_g, of_slope = range_of(g(s**2), s, trained), range_of(sp.diff(g(s**2) * s, s), s, trained)
    ends = (
        (of_g.symbolic_low, 0),
        (of_g.symbolic_high, 1),
        (of_slope.symbolic_high, 1),
        (of_slope.symbolic_low, LOWEST[kind]),
    )
    for found, part in ends:  # numbers from branch and bound are a little larger than what they enclose
        assert all(abs(float(c)) < 1e-8 for c in sp.Poly(found - part * total, *g.weights).coeffs())
    rng = np.random.default_rng(seed)
    values = {p: sp.Float(10 ** rng.uniform(-2, 2)) for p in g.parameters}
    slope = sp.lambdify(s, sp.diff(g(s**2) * s, s).xreplace(values), [{"Heaviside": np.heaviside}, "numpy"])
    found = slope(np.logspace(-4, 4, 4001))
    low, high = (float(e.xreplace(values)) for e in (of_slope.symbolic_low, of_slope.symbolic_high))
    assert low - 1e-9 * high <= found.min() and found.max() <= high * (1 + 1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("equation", [isotropic, separable], ids=["isotropic", "separable"])
def test_the_certificate_survives_any_weights(equation, kind):
    g = loom.learned_flux(kind=kind, terms=4)
    net = network(equation, g)
    assert net.stability["norm decrease"].status == net.stability["energy decrease"].status == "proved"
    assert (net.stability["nonexpansive"].status == "proved") == (kind in MONOTONE)
    generator = torch.Generator().manual_seed(3)
    for seed in range(5):
        module = disturbed(net, seed, size=2.0)
        certificate = module.certificate()
        assert all(t <= m for t, m in zip(certificate["tau"], certificate["tau_max"], strict=True))
        u, v = torch.randn(2, 4, 1, 8, 9, dtype=torch.float64, generator=generator)
        with torch.no_grad():
            new, other = module(u), module(v)
            assert (new.flatten(1).norm(dim=1) <= u.flatten(1).norm(dim=1) + 1e-12).all()
            if kind in MONOTONE:
                assert ((new - other).flatten(1).norm(dim=1) <= (u - v).flatten(1).norm(dim=1) + 1e-12).all()


@pytest.mark.parametrize("kind", ["rational", "charbonnier"])
@pytest.mark.parametrize("equation", [isotropic, separable], ids=["isotropic", "separable"])
def test_module_reference_energy_and_gradients(equation, kind):
    g = loom.learned_flux("phi", kind, 3)
    net = network(equation, g, steps=2)
    u, _ = zoo.sample(net, batch=1, requires_grad=True)
    module = net.module(torch.float64)
    np.testing.assert_allclose(module(u).detach().numpy(), net.reference(u.detach().numpy()), rtol=0, atol=1e-13)
    (slope,) = torch.autograd.grad(module.energy(u).sum(), u)
    np.testing.assert_allclose(-slope.numpy(), net.reference.rate(u.detach().numpy()), rtol=0, atol=1e-10)
    names, values = zip(*((n, p.detach().clone().requires_grad_()) for n, p in module.named_parameters()), strict=True)

    def run(u, *values):
        return torch.func.functional_call(module, dict(zip(names, values, strict=True)), (u,))

    assert torch.autograd.gradcheck(run, (u[..., :5, :4].detach().requires_grad_(), *values), atol=1e-6, fast_mode=True)


@pytest.mark.parametrize("kind", KINDS)
def test_free_weights_keep_the_proof_of_energies_alone(kind):
    g = loom.learned_flux(kind=kind, terms=3, sign="free")
    assert not any(p.is_positive for p in g.weights)
    with pytest.raises(loom.UnstableSchemeError, match="negative"):
        network(isotropic, g)
    net = network(isotropic, g, guarantee="energy decrease")
    assert net.stability["norm decrease"].status == "unknown"
    for seed in range(3):
        module = disturbed(net, seed)
        assert module.certificate()["status"] == "proved"
        u = torch.randn(4, 1, 8, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        np.testing.assert_allclose(net.module(torch.float64)(u).detach(), net.reference(u.numpy()), rtol=0, atol=1e-13)
        before, state = module.energy(u, 0), module.step(module.extend(u), 0)
        after = module.energy(state[..., 2:-2, 2:-2], 0)
        assert (after <= before + 1e-12 * before.abs()).all()


def test_one_free_term_is_refused():
    with pytest.raises(loom.DeclarationError, match="take more"):
        loom.learned_flux(terms=1, sign="free")


def test_free_splines_are_piecewise_linear():
    """Any odd polygon that is constant at its ends, such as one that rises and falls."""
    g, s = loom.learned_flux(kind="spline", terms=3, sign="free"), sp.Symbol("s", real=True)
    knots = [p.value for p in g.contrasts]
    values = {p: sp.Float(v) for p, v in zip(g.weights, (3.0, -5.0, 2.0), strict=True)}
    values |= {p: sp.Float(p.value) for p in g.contrasts}
    flux = sp.lambdify(s, (g(s**2) * s).xreplace(values), "numpy")
    points = np.array([0.0, *knots, 10 * knots[-1]])
    slopes = np.diff(flux(points)) / np.diff(points)
    np.testing.assert_allclose(slopes, [0.0, -3.0, 2.0, 0.0], atol=1e-12)
    between = np.linspace(-2 * knots[-1], 2 * knots[-1], 1001)
    expected = np.sign(between) * np.interp(abs(between), points, flux(points))
    np.testing.assert_allclose(flux(between), expected, atol=1e-12)


def test_it_learns_a_flux_it_was_not_told():
    """One step of Weickert's diffusion, from pairs of states: the flux is recovered where the slopes are."""
    truth = loom.compile(
        loom.PDE(isotropic(loom.diffusivity("weickert", 0.5)), boundary=loom.NoFlux()), scheme=loom.ForwardEuler(1, 0.1)
    ).module(torch.float64)
    g = loom.learned_flux(terms=6, start=loom.diffusivity("charbonnier", 1.0))
    net = network(isotropic, g, steps=1, trainable=["flux"])
    module = net.module(torch.float64)
    assert abs(net.stability.tau - 0.9 * net.stability.tau_max) < 1e-12
    generator = torch.Generator().manual_seed(0)
    u = 0.5 * torch.randn(8, 1, 12, 12, dtype=torch.float64, generator=generator)
    change = (truth(u) - u).detach() / 0.1
    optimiser = torch.optim.Adam(module.parameters(), lr=0.05)
    losses = []
    for _ in range(150):
        tau = module.certificate()["tau"][0]
        loss = ((module(u) - u) / tau - change).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.parametrize("kind", ["rational", "charbonnier"])
def test_a_mixture_that_is_not_trained_is_bounded_as_well(kind):
    net = network(isotropic, loom.learned_flux("a", kind, 3, loom.diffusivity("charbonnier", 0.3)), trainable=["tau"])
    assert net.stability["norm decrease"].status == net.stability["energy decrease"].status == "proved"
    assert (net.stability["nonexpansive"].status == "proved") == (kind in MONOTONE)


def test_saved_and_shared(tmp_path):
    g = loom.learned_flux(terms=3)
    for options in ({}, {"shared": True}):
        net = network(isotropic, g, **options)
        module = disturbed(net)
        again = loom.load(net.save(tmp_path / str(len(options)), module)).module(torch.float64)
        u, _ = zoo.sample(net)
        torch.testing.assert_close(again(u), module(u))
    by_word = network(isotropic, g, trainable=["flux", "tau"])
    assert by_word.source == network(isotropic, g).source == network(isotropic, g, trainable=["flux", "tau"]).source
    named = loom.learned_flux("phi", terms=2)
    assert network(isotropic, named, trainable=["phi"]).source == network(isotropic, named, trainable=[named]).source
    assert len(dict(by_word.module().named_parameters())) == 7


def test_compile_and_export():
    net = network(isotropic, loom.learned_flux(terms=3))
    module, (u, _) = net.module(torch.float64), zoo.sample(net)
    with torch.no_grad():
        expected = module(u)
        compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(u), expected)
        torch.testing.assert_close(torch.export.export(module, (u,)).module()(u), expected)


WRONG = {
    "kind": (lambda: loom.learned_flux(kind="ratonal"), "did you mean 'rational'"),
    "terms": (lambda: loom.learned_flux(terms=0), "from 1 to 32"),
    "name": (lambda: loom.learned_flux("2x"), "not a usable name"),
    "negative": (lambda: loom.learned_flux(start=loom.diffusivity("forward-and-backward", 0.1, 2)), "g ≥ 0"),
    "no function": (lambda: loom.learned_flux(start=3), "function of s²"),
    "other symbols": (lambda: loom.learned_flux(start=lambda r: r * sp.Symbol("c")), "s² = r alone"),
    "complex": (lambda: loom.learned_flux(start=lambda r: sp.I * r), "no real function"),
    "zero": (lambda: loom.learned_flux(start=lambda r: 0 * r), "zero everywhere"),
    "not called": (lambda: loom.learned_flux("g") * loom.laplacian(U), r"g\(loom.norm2"),
    "not called, in a flux": (lambda: loom.div(loom.learned_flux("g") * loom.grad(U)), r"g\(loom.norm2"),
    "too far": (lambda: loom.learned_flux(start=loom.diffusivity("linear")), "wrong by"),
    "unknown keyword": (lambda: loom.learned_flux(term=3), "terms"),
    "not in the PDE": (
        lambda: network(isotropic, loom.diffusivity("linear"), trainable=["flux"]),
        "no loom.learned_flux",
    ),
    "another flux": (
        lambda: network(isotropic, loom.learned_flux("a"), trainable=[loom.learned_flux("b")]),
        "trainable=",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_work_is_refused(case):
    call, words = WRONG[case]
    with pytest.raises(loom.PdeloomError, match=words):
        call()


def test_the_flux_of_huber_is_a_clamp():
    """Not a root of squares, which overflow: beyond 1e19 in single precision they gave a flux of 0."""
    g, s = loom.learned_flux("g", "spline", 3, loom.diffusivity("huber", 0.1)), sp.Symbol("s", real=True)
    networks = {
        "learned": network(separable, g),
        "fixed": network(separable, loom.diffusivity("huber", 0.1), trainable=["tau"]),
        "filters": network(isotropic, g, space=loom.FilterBank(4, 3, own_fluxes=True)),
        "norms": network(isotropic, g),
    }
    for name, net in networks.items():
        step = net.source.split("def step")[1].split("return self.extend")[0]
        assert (", -1, 1)" in step, "torch.sqrt" in step) == (name != "norms", name == "norms")
        u = torch.randn(2, 1, 6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        np.testing.assert_allclose(
            net.module(torch.float64)(u).detach().numpy(), net.reference(u.numpy()), atol=1e-14, err_msg=name
        )
    module = disturbed(networks["learned"], size=0.3)
    assert torch.autograd.gradcheck(module, u.requires_grad_())
    large = torch.zeros(1, 1, 4, 4)
    large[0, 0, 1, 1] = 1e25
    single = network(separable, g, steps=1).module()
    most = 4 * single.tau(0).item() * sum(p.value for p in g.parameters[:3]) * float(g.contrasts[-1].value)
    change = (single(large) - large).abs()
    change[0, 0, 1, 1] = 0  # where rounding is larger
    assert 0 < change.max() < most
    assert sp.diff(g(s**2) * s, s).has(sp.Heaviside), "slopes of the law itself are not touched"

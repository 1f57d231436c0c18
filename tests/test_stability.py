"""What is proved must hold, what is refuted must be seen to fail, and nothing else may be claimed."""

from __future__ import annotations

import re

import numpy as np
import pytest
import sympy as sp
import torch
import zoo
from sympy import Eq

import pdeloom as loom
from pdeloom.compiler.interval import compile_interval
from pdeloom.compiler.nonlinearity import DIFFUSIVITIES, range_of

s = sp.Symbol("s", real=True)


def compiled(eq, tau="auto", steps=1, order=2, boundary=None, h=1.0, **options):
    pde = loom.PDE(eq, boundary=boundary or loom.NoFlux())
    return loom.compile(
        pde, grid=loom.Grid(h), space=loom.FiniteDifference(order), scheme=loom.ForwardEuler(steps, tau), **options
    )


def statuses(net):
    return {r.notion: r.status for r in net.stability}


TABLE = {  # numerics §1: sup g, inf Φ', sup Φ'
    "linear": (1, 1, 1),
    "charbonnier": (1, 0, 1),
    "perona-malik": (1, -1 / 8, 1),
    "perona-malik-exponential": (1, -2 * np.exp(-1.5), 1),
    "weickert": (1, -2.335, 1),
    "regularised-tv": (5, 0, 5),
}


@pytest.mark.parametrize("name", TABLE)
def test_ranges_of_the_named_diffusivities(name):
    g = zoo.diffusivity(name)(s**2)
    sup, low, high = TABLE[name]
    assert range_of(g, s).high == pytest.approx(sup, rel=1e-9)
    slope = range_of(sp.diff(g * s, s), s)
    assert slope.low == pytest.approx(low, abs=1e-3)
    assert slope.high == pytest.approx(high, rel=1e-9)


def test_symbolic_ranges():
    slope = range_of(sp.diff(zoo.diffusivity("perona-malik")(s**2) * s, s), s)
    assert (slope.symbolic_low, slope.symbolic_high) == (-sp.Rational(1, 8), 1)
    eps = loom.parameter("eps", 0.2, positive=True)
    assert range_of(loom.diffusivity("regularised-tv", eps)(s**2), s, frozenset([eps])).symbolic_high == 1 / eps


@pytest.mark.parametrize("name", DIFFUSIVITIES)
def test_enclosures_hold_everywhere(name):
    g = zoo.diffusivity(name)(s**2)
    values = {p: p.value for p in g.free_symbols if hasattr(p, "value")}
    for f in (g, sp.diff(g * s, s)):
        enclosure = range_of(f, s)
        sample = sp.lambdify(s, f.xreplace(values), "numpy")(np.logspace(-8, 4, 4001)) + np.zeros(4001)
        assert enclosure.low - 1e-12 <= np.nanmin(sample) and np.nanmax(sample) <= enclosure.high + 1e-12


@pytest.mark.parametrize(
    "text", ["sin(s)*exp(-s**2)", "tanh(s) - s/3", "abs(s - 1)/(1 + s**4)", "max(s, 1/2)**3", "log(1+s**2)", "cos(3*s)"]
)
def test_interval_extensions_enclose(text):
    f = sp.sympify(text, locals={"s": s, "max": sp.Max, "abs": sp.Abs})
    extension, sample = compile_interval(f, s), sp.lambdify(s, f, "numpy")
    rng = np.random.default_rng(0)
    for _ in range(200):
        a, b = np.sort(rng.uniform(-5, 5, 2))
        low, high = extension((float(a), float(b)))
        values = sample(np.linspace(a, b, 50))
        assert low <= values.min() and values.max() <= high


def test_perona_malik_is_norm_decreasing_and_not_nonexpansive():
    net = compiled(zoo.EQUATIONS["perona-malik 2d"])
    assert statuses(net) == {
        "norm decrease": "proved",
        "nonexpansive": "refuted",
        "energy decrease": "proved",
        "maximum principle": "proved",
        "von Neumann": "proved",
        "power bounded": "proved",
        "CFL": "unknown",
    }
    assert net.stability.tau_max == 0.25
    result = net.stability["nonexpansive"]
    u, v = result.witness.inputs
    before, after = np.linalg.norm(u - v), np.linalg.norm(net.reference(u) - net.reference(v))
    assert after > (1 + 1e-6) * before, "the witness pair must move apart"


def test_the_ramp_of_slope_sqrt3_lambda():
    """1-D: two states near it move apart by nearly 1 + τ‖K‖²/8 = 1.25 at τ_max, and by no more."""
    net = compiled(zoo.EQUATIONS["perona-malik 1d"], tau=0.5)
    u, v = net.stability["nonexpansive"].witness.inputs
    factor = np.linalg.norm(net.reference(u) - net.reference(v)) / np.linalg.norm(u - v)
    assert 1.24 < factor <= 1.25
    assert "1.25" in net.stability["nonexpansive"].formula


@pytest.mark.parametrize("name", ["charbonnier 2d", "regularised-tv 2d", "heat 2d", "odd flux 1d"])
def test_monotone_fluxes_are_nonexpansive(name):
    assert statuses(compiled(zoo.EQUATIONS[name]))["nonexpansive"] == "proved"


def test_forward_and_backward_is_refused_with_a_witness():
    eq = zoo.EQUATIONS["forward-and-backward 2d"]
    with pytest.raises(loom.UnstableSchemeError, match=r"negative|refuted|bound"):
        compiled(eq)
    with pytest.raises(loom.UnstableSchemeError, match="refuted for every tau"):
        compiled(eq, tau=0.01)
    net = compiled(eq, tau=0.01, unstable="allow")
    (u,) = net.stability["norm decrease"].witness.inputs
    assert np.linalg.norm(net.reference(u)) > np.linalg.norm(u)
    assert net.stability.warnings


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("h", [1.0, 0.1])
def test_heat_bounds_are_the_textbook_ones(d, h):
    """τ ≤ h²/(2d), in the Euclidean and in the maximum norm; equality is accepted, one step beyond refused."""
    eq = Eq(loom.dt((zoo.V, zoo.U, zoo.W)[d - 1]), loom.laplacian((zoo.V, zoo.U, zoo.W)[d - 1]))
    net = compiled(eq, h=h)
    limit = sp.Rational(str(h)) ** 2 / (2 * d)
    assert net.stability.tau_max == pytest.approx(float(limit), rel=1e-15)
    assert net.stability["maximum principle"].bound == pytest.approx(float(limit), rel=1e-15)
    if d < 3:
        compiled(eq, tau=float(limit), h=h)
    with pytest.raises(loom.UnstableSchemeError, match="exceeds"):
        compiled(eq, tau=float(limit) * 1.001, h=h)
    with pytest.raises(loom.UnstableSchemeError, match="exceeds") as caught:
        compiled(eq, tau=float(limit) * (1 + 1e-14), h=h)
    given, bound = re.findall(r"\d[\d.e-]+", str(caught.value))[:2]
    assert given != bound


def test_blow_up_just_beyond_the_bound():
    eq = zoo.EQUATIONS["heat 2d"]  # factor ½: the bound is 0.5
    board = ((-1.0) ** np.indices((64, 64)).sum(0))[None, None]
    tame = compiled(eq, tau=0.5, steps=200).reference(board)
    wild = compiled(eq, tau=0.505, steps=200, unstable="allow").reference(board)
    assert np.linalg.norm(tame) <= np.linalg.norm(board)
    assert np.linalg.norm(wild) > 5 * np.linalg.norm(board)


def test_over_the_bound_it_is_refuted_by_a_state_that_grows():
    net = compiled(zoo.EQUATIONS["perona-malik 2d"], tau=0.3, unstable="allow")
    result = net.stability["norm decrease"]
    assert result.status == "refuted"
    assert np.linalg.norm(net.reference(result.witness.inputs[0])) > np.linalg.norm(result.witness.inputs[0])


@pytest.mark.parametrize("name", ["heat 2d", "fourth order 1d", "biharmonic 2d"])
def test_longer_stencils_break_the_maximum_principle(name):
    net = compiled(zoo.EQUATIONS[name], order=4)
    result = net.stability["maximum principle"]
    assert result.status == "refuted"
    (u,) = result.witness.inputs
    assert net.reference(u).min() < u.min() - 1e-9


def test_unknown_is_unknown():
    unbounded = Eq(loom.dt(zoo.U), loom.div(loom.data("c", zoo.x, zoo.y) * loom.grad(zoo.U)))
    net = compiled(unbounded, tau=0.01)
    assert statuses(net)["norm decrease"] == "unknown"
    assert net.stability.tau_max is None and net.stability.warnings
    with pytest.raises(loom.UnstableSchemeError, match="bounds="):
        compiled(unbounded)


def test_backward_diffusion_is_refuted():
    with pytest.raises(loom.UnstableSchemeError, match="refuted"):
        compiled(Eq(loom.dt(zoo.U), -loom.laplacian(zoo.U)), tau=0.01)


def test_guarantee_chooses_the_governing_notion():
    with pytest.raises(loom.UnstableSchemeError, match="nonexpansive"):
        compiled(zoo.EQUATIONS["perona-malik 2d"], guarantee="nonexpansive")
    net = compiled(zoo.EQUATIONS["charbonnier 2d"], guarantee="maximum principle")
    assert net.stability.governing == "maximum principle"


PROVED = [n for n in zoo.DIFFUSIONS if n not in ("forward-and-backward 2d", "one-sided flux 1d", "porous 2d")]


@pytest.mark.parametrize("order", [2, 4])
@pytest.mark.parametrize("kind", ["no-flux", "dirichlet", "periodic", "mixed"])
@pytest.mark.parametrize("name", PROVED)
def test_the_exact_spectrum_respects_the_bound(name, kind, order):
    """At u = 0 and at rough states the frozen step has norm ≤ 1 at τ_max, and a bound 5 % too generous would fail
    where it is exact: the largest eigenvalue of A comes within 8 % of ρ on a small grid."""
    net = zoo.network(name, kind, order, tau="auto")
    tau_max = net.stability.tau_max
    shape = (1, 1, *{1: (14,), 2: (14, 10), 3: (8, 6, 5)}[zoo.dimension(name)])
    n = int(np.prod(shape))
    u = 1e-7 * np.eye(n).reshape(n, *shape[1:])
    data = {str(f.func): np.full(shape, 2.0) for f in net.compiled.problem.data}
    A = -net.reference.rate(u, **data).reshape(n, n) / 1e-7  # linearised at zero, where g is largest
    largest = np.linalg.eigvalsh((A + A.T) / 2).max()
    assert largest * tau_max <= 2 * (1 + 1e-6)
    if order == 2 and name.startswith(("heat", "perona", "separable", "charbonnier")):
        assert largest * tau_max * 1.08 > 2


@pytest.mark.parametrize("trainable", [["lam", "tau"], ["lam", "tau", "stencil"], ["eps", "tau", "stencil"]])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("kind", ["no-flux", "dirichlet", "periodic"])
def test_every_reachable_weight_is_stable(trainable, shared, kind):
    """Random weights far out: the certificate stays proved, and the norm does not grow."""
    name = "regularised-tv 2d" if "eps" in trainable else "perona-malik 2d"
    net = zoo.network(name, kind, tau="auto", steps=4, trainable=trainable, shared=shared)
    generator = torch.Generator().manual_seed(0)
    for spread in (1.0, 3.0, 6.0):
        module = net.module(dtype=torch.float64)
        with torch.no_grad():
            for p in module.parameters():
                p += spread * torch.randn(p.shape, generator=generator, dtype=p.dtype)
        assert module.certificate()["status"] == "proved"
        u = (
            torch.randn(8, 1, 12, 9, generator=generator, dtype=torch.float64)
            * 10.0 ** torch.linspace(-4, 2, 8)[:, None, None, None]
        )
        out = module(u)
        assert (out.flatten(1).norm(dim=1) <= u.flatten(1).norm(dim=1) * (1 + 1e-12)).all()


def test_a_poisoned_weight_is_not_certified():
    net = zoo.network("perona-malik 2d", tau="auto", trainable=["lam", "tau"])
    module = net.module()
    with torch.no_grad():
        module.logit_tau[0] = float("nan")
    assert module.certificate()["status"] == "unknown"


def test_a_trained_tau_cannot_start_on_its_bound():
    with pytest.raises(loom.SchemeError, match="at or above its bound"):
        compiled(zoo.EQUATIONS["perona-malik 2d"], tau=0.25, trainable=["tau"])


def test_a_bound_that_holds_at_one_value_only_is_not_claimed_for_training():
    """g = p/(1 + s²) has sup p, which calculus finds; tanh(p + s²/(1+s²)) has none in closed form."""
    p = loom.parameter("p", 0.5, positive=True)
    r = sp.Symbol("r")
    known = sp.Lambda(r, p / (1 + r))
    net = compiled(Eq(loom.dt(zoo.U), zoo.isotropic(known, zoo.U)), trainable=[p, "tau"])
    assert net.module().certificate()["status"] == "proved"
    odd = sp.Lambda(r, sp.tanh(p + sp.sin(r) ** 2))
    with pytest.raises(loom.UnstableSchemeError, match="no upper bound was found"):
        compiled(Eq(loom.dt(zoo.U), zoo.isotropic(odd, zoo.U)), trainable=[p, "tau"])


UNBOUNDED = {
    "s²": lambda r: r,
    "1 + s²": lambda r: 1 + r,
    "√(s²)": sp.sqrt,
    "log": lambda r: sp.log(1 + r),
    "quartic": lambda r: r**2 + r,
    "a pole": lambda r: 3 + 1 / (r - 4),
}


@pytest.mark.parametrize("name", UNBOUNDED)
def test_a_diffusivity_without_bound_is_never_proved(name):
    r = sp.Symbol("r")
    eq = Eq(loom.dt(zoo.V), zoo.isotropic(sp.Lambda(r, UNBOUNDED[name](r)), zoo.V))
    with pytest.raises(loom.UnstableSchemeError, match="no upper bound"):
        compiled(eq)
    assert compiled(eq, tau=0.01, unstable="allow").stability["norm decrease"].status != "proved"


BOUNDED = {
    "compact": (lambda r: sp.Max(0, 1 - r), 1.0),
    "tanh": (sp.tanh, 1.0),
    "saturating": (lambda r: r / (1 + r), 1.0),
    "logistic": (lambda r: 2 / (sp.exp(r) + 1), 1.0),
}


@pytest.mark.parametrize("name", BOUNDED)
def test_own_bounded_diffusivities_are_proved(name):
    r = sp.Symbol("r")
    g, sup = BOUNDED[name]
    net = compiled(Eq(loom.dt(zoo.V), zoo.isotropic(sp.Lambda(r, g(r)), zoo.V)))
    assert net.stability.tau_max == pytest.approx(0.5 / sup, rel=1e-3)
    assert net.stability.tau_max <= 0.5 / sup * (1 + 1e-12)


@pytest.mark.parametrize("spoil", ["zero", "huge", "tiny", "inf", "nan"])
def test_certificates_stay_truthful_far_out(spoil):
    """Either the output is finite and no larger than the input, or the certificate is withdrawn."""
    net = zoo.network("perona-malik 2d", tau="auto", trainable=["lam", "tau", "stencil"])
    values = {"zero": 0.0, "huge": 50.0, "tiny": -50.0, "inf": float("inf"), "nan": float("nan")}
    for dtype in (torch.float32, torch.float64):
        module = net.module(dtype=dtype)
        with torch.no_grad():
            for p in module.parameters():
                p.fill_(values[spoil])
        u = torch.rand(2, 1, 9, 8, dtype=dtype)
        certificate = module.certificate()
        if certificate["status"] == "proved":
            out = module(u)
            assert torch.isfinite(out).all() and out.norm() <= u.norm() * (1 + 1e-5)
        else:
            assert spoil in ("inf", "nan")
        assert certificate["notions"]["norm decrease"] == certificate["status"]

"""Any PDE in text: it compiles to a network that is its reference, or is refused by a typed error that helps."""

from __future__ import annotations

import contextlib
import re

import numpy as np
import pytest
import sympy as sp
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sympy import Eq

import pdeloom as loom
from pdeloom.compiler.chain_rule import flux_form
from pdeloom.compiler.parse import unparse

x, y = loom.coordinates("x y")
u, a = loom.field("u", x, y), loom.data("a", x, y, bounds=(0.1, 1))
lam = loom.parameter("lam", 0.4, positive=True)
SLOW = settings(
    deadline=None, max_examples=10, derandomize=True, report_multiple_bugs=False,
    phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck),
)  # fmt: skip

# --- sentences --------------------------------------------------------------------------------------------------------

FIELDS = ("u", "v")
VALUES = ["u", "v", "lam", "a", "2", "0.5", "1", "t"]
pointwise = st.recursive(
    st.sampled_from(VALUES),
    lambda e: st.one_of(
        st.tuples(e, st.sampled_from("+-*"), e).map(lambda t: f"({t[0]}{t[1]}{t[2]})"),
        st.tuples(st.sampled_from(["tanh", "abs", "sin"]), e).map(lambda t: f"{t[0]}({t[1]})"),
        e.map(lambda t: f"1/(1 + ({t})**2)"),
    ),
    max_leaves=4,
)
field = st.sampled_from(FIELDS)
diffusivity = st.sampled_from(
    [
        "1", "0.3", "lam", "a", "1/(1 + norm2(grad(u))/lam**2)", "exp(-norm2(grad(v)))", "1/(1 + u**2)",
        "1/sqrt(1 + norm2(grad(u)) + norm2(grad(v)))", "1/(1 + norm2(smooth(grad(u), 0.5)))", "a/(1 + norm2(grad(u)))",
    ]
)  # fmt: skip
terms = st.one_of(
    st.tuples(diffusivity, field).map(lambda t: f"div(({t[0]})*grad({t[1]}))"),
    st.tuples(st.sampled_from(["", "-0.01*"]), field).map(lambda t: f"{t[0]}laplacian({t[1]})"),
    field.map(lambda f: f"-0.02*laplacian(laplacian({f}))"),
    st.tuples(st.sampled_from(["0.1", "lam"]), field).map(lambda t: f"{t[0]}*d(d({t[1]}, x), y)"),
    st.tuples(pointwise, st.sampled_from("xy")).map(lambda t: f"-d({t[0]}, {t[1]})"),
    field.map(lambda f: f"d(d({f}, x)/(1 + d({f}, x)**2), x)"),
    pointwise,
    pointwise.map(lambda e: f"0.1*(a - {e})"),
)
right_hand_sides = st.lists(terms, min_size=1, max_size=3).map(" + ".join)
boundaries = st.sampled_from(
    [
        "no-flux", "periodic", "dirichlet(0)", "dirichlet(0.5)", "neumann(0.1)",
        {"x": "periodic", "y": ["dirichlet(0)", "robin(1, 2, 0.3)"]}, {"x": ["dirichlet(1)", "no-flux"], "y": "no-flux"},
        {"u": "no-flux", "v": {"x": "dirichlet(0.5)", "y": ["no-flux", "robin(1, 2, 0.3)"]}},
    ]
)  # fmt: skip
spaces = st.sampled_from(
    [loom.FiniteDifference(), loom.FiniteDifference(order=4), loom.FiniteVolume("rusanov", "minmod")]
)
schemes = st.sampled_from(
    [
        lambda tau: loom.ForwardEuler(2, tau=tau),
        lambda tau: loom.RungeKutta(3, 1, tau=tau),
        lambda tau: loom.FSI(1, 2, tau=tau),
        lambda tau: loom.SemiImplicit(1, tau=tau),
    ]
)


OPTIONS = {
    "coordinates": ["x", "y"], "fields": ["u", "v"], "data": {"a": [0.1, 1]},
    "parameters": {"lam": {"value": 0.4, "positive": True}},
}  # fmt: skip


def agrees(rights, boundary, space, scheme):
    """Text → PDE → text → PDE, then module = reference."""
    options = {**OPTIONS, "boundary": boundary}
    pde = loom.parse([f"dt({f}) = {r}" for f, r in zip(FIELDS, rights, strict=True)], **options)
    assert loom.parse([unparse(e) for e in pde.equations], **options).equations == pde.equations
    trained = ["lam"] * ("lam" in str(rights))
    grid = loom.Grid(centering="cell" if isinstance(boundary, dict) else "vertex")
    net = loom.compile(pde, space=space, grid=grid, scheme=scheme(0.01), trainable=trained, unstable="allow")
    rng = np.random.default_rng(0)
    start = rng.uniform(0, 1, (1, 2, 11, 12))
    data = {"a": rng.uniform(0.1, 1, (1, 1, 11, 12))} if net.compiled.problem.data else {}
    expected = net.reference(start, **data)
    module = net.module(dtype=torch.float64)
    found = module(torch.tensor(start), **{k: torch.tensor(v) for k, v in data.items()}).detach().numpy()
    size = max(1.0, abs(expected).max()) if np.isfinite(expected).all() else np.inf
    assert size == np.inf or abs(found - expected).max() <= 1e-8 * size


@pytest.mark.parametrize(
    ("rights", "boundary", "space"),
    [
        (("div(lam*grad(u)) + 0.1*(a - v)", "div((1/(1 + u**2))*grad(v))"), "dirichlet(0.5)", loom.FiniteDifference()),
        (("div((a)*grad(u)) + 0.1*d(d(v, x), y)", "laplacian(v) + tanh(u)"), "no-flux", loom.FiniteDifference()),
        (("-d(u*v, x) + 0.1*laplacian(u)", "-d(v**2, x)"), "periodic", loom.FiniteVolume("rusanov", "minmod")),
        (("laplacian(u)", "d(d(v, x)/(1 + d(v, x)**2), x) + u"), "neumann(0.1)", loom.FiniteDifference()),
        (("1/(1 + sin(0.5)**2)", "laplacian(v)"), "periodic", loom.FiniteDifference()),
        (("lam", "x"), "no-flux", loom.FiniteDifference()),
        (("x", "y"), "periodic", loom.FiniteDifference()),
    ],
)
@pytest.mark.parametrize("scheme", [loom.ForwardEuler, loom.CrankNicolson])
def test_systems_of_text_are_networks(rights, boundary, space, scheme):
    agrees(rights, boundary, space, lambda tau: scheme(2, tau=tau))


@SLOW
@given(st.tuples(right_hand_sides, right_hand_sides), boundaries, spaces, schemes)
def test_any_system_is_a_network_or_refused(rights, boundary, space, scheme):
    """In bounded time; whatever is refused is refused in words."""
    with contextlib.suppress(loom.PdeloomError):
        agrees(rights, boundary, space, scheme)


# --- divergences that were multiplied out -----------------------------------------------------------------------------


def refused(right, field=u):
    with pytest.raises(loom.UnsupportedTermError) as caught:
        loom.compile(loom.PDE(Eq(loom.dt(field), right), boundary=loom.Periodic()), scheme=loom.ForwardEuler(1))
    return str(caught.value)


def advised(right):
    """The right-hand side that the error advises."""
    found = re.search(r"in flux form the right-hand side is (.*)$", refused(right))
    assert found, refused(right)
    return loom.parse(f"dt(u) = {found[1]}", coordinates=["x", "y"], fields=["u"], boundary="periodic",
                      parameters={"lam": {"value": 0.4, "positive": True}}, data={"a": [0.1, 1]})  # fmt: skip


p, q = sp.symbols("p q", real=True)
FLUXES = {
    "perona-malik": lambda s: 1 / (1 + s / lam**2),
    "minimal surfaces": lambda s: 1 / sp.sqrt(1 + s),
    "porous medium": lambda s: 3 * u**2,
    "exponential of u": lambda s: sp.exp(-u),
    "a coefficient": lambda s: a,
    "coefficient and slope": lambda s: a / (1 + s),
}


@pytest.mark.parametrize("name", FLUXES)
def test_a_divergence_multiplied_out_is_recognised(name):
    g = FLUXES[name](sp.diff(u, x) ** 2 + sp.diff(u, y) ** 2)
    right = sp.expand(sum(sp.diff(g * sp.diff(u, b), b) for b in (x, y)).doit() + u - u**3)
    pde = advised(right)
    assert sp.simplify(pde.equations[0].rhs.doit() - right) == 0
    again = loom.compile(pde, scheme=loom.ForwardEuler(1, tau=0.01), unstable="allow")
    asked = sp.Add(*(loom.d(g * loom.d(u, b), b) for b in (x, y))) + u - u**3
    direct = loom.compile(
        loom.PDE(Eq(loom.dt(u), asked), boundary=loom.Periodic()),
        scheme=loom.ForwardEuler(1, tau=0.01),
        unstable="allow",
    )
    start = np.random.default_rng(0).uniform(0, 1, (1, 1, 8, 9))
    data = {"a": np.random.default_rng(1).uniform(0.1, 1, (1, 1, 8, 9))} if "coefficient" in name else {}
    assert abs(again.reference(start, **data) - direct.reference(start, **data)).max() < 1e-12


def test_transport_of_a_nonlinear_speed_is_recognised():
    assert refused(-u * sp.diff(u, x) + loom.laplacian(u)).endswith("d(d(u, x), x) + d(d(u, y), y) + d(-u**2/2, x)")
    burgers = advised(-u * sp.diff(u, x))
    net = loom.compile(
        burgers, space=loom.FiniteVolume("rusanov"), scheme=loom.ForwardEuler(1, tau=0.1), unstable="allow"
    )
    assert len(net.compiled.problem.laws) == 1


@pytest.mark.parametrize(
    "right", [u * loom.laplacian(u), loom.norm2(loom.grad(u)) + loom.laplacian(u), sp.diff(u, x, 2) * sp.diff(u, y)]
)
def test_what_is_no_divergence_is_not_taken_for_one(right):
    assert "multiplied out" not in refused(right)


def test_advice_is_of_this_equation_or_not_given():
    """With coordinates the chain rule has more terms; functions that text does not know are no advice; floats are
    taken as decimals."""
    for right in (x * (u * sp.diff(u, x, 2) + sp.diff(u, x) ** 2), sp.expand(sp.diff(sp.exp(u**2) * sp.diff(u, x), x))):
        form = flux_form(right.doit(), u, (x, y))
        assert "erf" not in form and "*x" not in form
    assert flux_form(x * (1 + 3 * sp.diff(u, x) ** 2) * sp.diff(u, x, 2), u, (x, y)) == ""
    assert "abs(u)" in flux_form(sp.diff(sp.Abs(u) * sp.diff(u, x), x).doit(), u, (x, y))
    slope = sum(sp.diff(u, b) ** 2 for b in (x, y))
    regularised = sum(sp.diff(sp.diff(u, b) / sp.sqrt(slope + 1e-3), b) for b in (x, y)).doit()
    assert "sqrt" in flux_form(regularised, u, (x, y))


@settings(deadline=None, max_examples=20)
@given(
    st.lists(st.integers(-3, 3), min_size=2, max_size=4),
    st.lists(st.integers(-3, 3), min_size=1, max_size=3),
)
def test_random_fluxes_of_one_axis_are_recovered(slopes, values):
    """∂ₓΦ(uₓ, u) for polynomials Φ: the flux form differentiates to what was given."""
    w = loom.field("w", x)
    D = sp.Derivative(w, x)
    Phi = sum(c * D ** (k + 1) for k, c in enumerate(slopes)) * sum(c * w**k for k, c in enumerate(values))
    right = sp.expand(sp.diff(Phi, x).doit())
    form = flux_form(right, w, (x,))
    if right == 0 or not form:
        assert right == 0
        return
    pde = loom.parse(f"dt(w) = {form}", coordinates=["x"], fields=["w"], boundary="periodic")
    assert sp.expand(pde.equations[0].rhs.doit() - right) == 0

"""The front end: declarations, canonical form, text, and every way to say no."""

from __future__ import annotations

import contextlib

import pytest
import sympy as sp
import zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy import Eq, Lambda, Symbol

import pdeloom as loom
from pdeloom.compiler.parse import unparse
from pdeloom.compiler.problem import canonical

SETTINGS = {
    "coordinates": ["x", "y"],
    "fields": ["u"],
    "boundary": "no-flux",
    "data": ["f"],
    "parameters": {"lam": {"value": 0.1, "positive": True}},
}


def flux_form(eq):
    problem = canonical(loom.PDE(eq, boundary=loom.NoFlux()))
    return {(f.operator, f.kappa, f.flux) for f in problem.fluxes}, problem.pointwise


def test_a_gradient_flow_is_the_diffusion_it_derives():
    """δE/δu of ½λ² log(1 + |∇u|²/λ²) is Perona–Malik."""
    density = zoo.LAM**2 / 2 * sp.log(1 + loom.norm2(loom.grad(zoo.U)) / zoo.LAM**2)
    assert flux_form(loom.gradient_flow(density, zoo.U)) == flux_form(zoo.EQUATIONS["perona-malik 2d"])


def test_equal_ways_of_writing_give_the_same_terms():
    u, x, y = zoo.U, zoo.x, zoo.y
    heat = flux_form(Eq(loom.dt(u), loom.laplacian(u)))
    for right in (u.diff(x, 2) + u.diff(y, 2), loom.div(loom.grad(u)), loom.d(loom.d(u, x), x) + loom.d(u, y, 2)):
        assert flux_form(Eq(loom.dt(u), right)) == heat
    assert flux_form(Eq(2 * loom.dt(u), 2 * loom.laplacian(u))) == heat
    assert flux_form(Eq(loom.dt(u) - loom.laplacian(u), 0)) == heat
    r = Symbol("r")
    own = Lambda(r, 1 / (1 + r / zoo.LAM**2))
    assert flux_form(Eq(loom.dt(u), zoo.isotropic(own, u))) == flux_form(zoo.EQUATIONS["perona-malik 2d"])


def test_kappa_and_reaction_are_kept():
    terms, pointwise = flux_form(Eq(loom.dt(zoo.V), 3 * zoo.ALPHA * loom.laplacian(zoo.V) - zoo.V**3))
    assert [kappa for _, kappa, _ in terms] == [3 * zoo.ALPHA]
    assert pointwise == -(zoo.V**3)


u, x, y, lam = zoo.U, zoo.x, zoo.y, zoo.LAM
WRONG = {
    "no boundary": (lambda: loom.PDE(Eq(loom.dt(u), loom.laplacian(u))), loom.BoundaryError, "no boundary condition"),
    "boundary of one axis missing": (lambda: loom.compile(loom.PDE(Eq(loom.dt(u), loom.laplacian(u)), {x: loom.NoFlux()}), scheme=loom.ForwardEuler(1)), loom.BoundaryError, "no boundary condition for y"),
    "boundary of a stranger": (lambda: loom.compile(loom.PDE(Eq(loom.dt(u), loom.laplacian(u)), {x: loom.NoFlux(), y: loom.NoFlux(), Symbol("z"): loom.NoFlux()}), scheme=loom.ForwardEuler(1)), loom.BoundaryError, "no coordinate"),
    "half periodic": (lambda: loom.compile(loom.PDE(Eq(loom.dt(u), loom.laplacian(u)), {x: (loom.Periodic(), loom.NoFlux()), y: loom.NoFlux()}), scheme=loom.ForwardEuler(1)), loom.BoundaryError, "one side only"),
    "dirichlet value": (lambda: loom.Dirichlet("1"), loom.BoundaryError, "must be a real number"),
    "unknown symbol": (lambda: zoo_compile(loom.laplacian(u) * Symbol("mu")), loom.DeclarationError, "unknown symbol mu"),
    "transport": (lambda: zoo_compile(loom.d(u, x)), loom.BoundaryError, "periodic axis"),
    "dispersion": (lambda: zoo_compile(loom.d(u, x, 3)), loom.BoundaryError, "periodic axis"),
    "not in flux form": (lambda: zoo_compile(u * loom.laplacian(u)), loom.UnsupportedTermError, "not in flux form"),
    "cross diffusion": (lambda: zoo_compile(loom.d(loom.d(u, y)**3, x)), loom.UnsupportedTermError, "not in flux form"),
    "a coordinate outside a divergence": (lambda: zoo_compile(x * loom.laplacian(u)), loom.UnsupportedTermError, "inside the outer derivative"),
    "porous medium as a laplacian": (lambda: zoo_compile(loom.laplacian(u**3)), loom.UnsupportedTermError, "div"),
    "no time derivative": (lambda: loom.compile(loom.PDE(Eq(loom.laplacian(u), 1), loom.NoFlux()), scheme=loom.ForwardEuler(1)), loom.SchemeError, "schemes that can: multigrid"),
    "second order in time": (lambda: loom.compile(loom.PDE(Eq(loom.dt(u, 2), loom.laplacian(u)), loom.NoFlux()), scheme=loom.ForwardEuler(1)), loom.SchemeError, "order 2"),
    "two fields": (lambda: zoo_compile(loom.laplacian(u) + loom.field("w", x, y)), loom.DeclarationError, "2 fields"),
    "a system": (lambda: loom.compile(loom.PDE([Eq(loom.dt(u), u), Eq(loom.dt(u), u)], loom.NoFlux()), scheme=loom.ForwardEuler(1)), loom.DeclarationError, "2 equations for 1 fields"),
    "not an equation": (lambda: loom.PDE(loom.laplacian(u), boundary=loom.NoFlux()), loom.DeclarationError, "not an equation"),
    "parameter twice": (lambda: zoo_compile(lam * loom.laplacian(u) + loom.parameter("lam", 0.7, positive=True) * u), loom.DeclarationError, "twice"),
    "parameter not positive": (lambda: loom.parameter("mu", -1, positive=True), loom.DeclarationError, "not positive"),
    "parameter not a number": (lambda: loom.parameter("mu", "much"), loom.DeclarationError, "not a number"),
    "parameter not finite": (lambda: loom.parameter("mu", float("nan")), loom.DeclarationError, "not finite"),
    "parameter assumption": (lambda: loom.parameter("mu", 1, prime=True), loom.DeclarationError, "prime"),
    "bad name": (lambda: loom.field("my field", x), loom.DeclarationError, "not a usable name"),
    "four coordinates": (lambda: loom.coordinates("a b c d"), loom.DeclarationError, "one to three"),
    "time of an expression": (lambda: loom.dt(u**2), loom.DeclarationError, "only a field"),
    "third order in time": (lambda: loom.dt(u, 3), loom.DeclarationError, "1 or 2"),
    "fractional derivative": (lambda: loom.d(u, x, 0.5), loom.DeclarationError, "whole number"),
    "derivative along a parameter": (lambda: loom.d(u, lam), loom.DeclarationError, "coordinate"),
    "divergence of a scalar": (lambda: loom.div(u), loom.DeclarationError, "one per coordinate"),
    "gradient of a number": (lambda: loom.grad(sp.Integer(3)), loom.DeclarationError, "no field"),
    "unknown diffusivity": (lambda: loom.diffusivity("perona-malk", lam), loom.DeclarationError, "did you mean 'perona-malik'"),
    "diffusivity without contrast": (lambda: loom.diffusivity("perona-malik"), loom.DeclarationError, "takes 1"),
    "contrast of unknown sign": (lambda: loom.diffusivity("perona-malik", zoo.ALPHA), loom.DeclarationError, "positive=True"),
    "data bounds reversed": (lambda: loom.data("a", x, bounds=(2, 1)), loom.DeclarationError, "lowest"),
    "spacing": (lambda: loom.Grid(-1), loom.DiscretisationError, "positive"),
    "spacing per axis": (lambda: loom.compile(zoo.pde("heat 2d"), grid=loom.Grid((1, 1, 1)), scheme=loom.ForwardEuler(1)), loom.DiscretisationError, "3 spacings for 2"),
    "centering": (lambda: loom.Grid(1, centering="middle"), loom.DiscretisationError, "vertex"),
    "accuracy": (lambda: loom.FiniteDifference(3), loom.DiscretisationError, "2, 4"),
    "no steps": (lambda: loom.ForwardEuler(0), loom.SchemeError, "from 1 to"),
    "negative tau": (lambda: loom.ForwardEuler(1, -0.1), loom.SchemeError, "positive"),
    "unknown scheme keyword": (lambda: loom.ForwardEuler(1, stepsize=0.1), loom.UnknownKeywordError, "steps, tau"),
    "unknown compile keyword": (lambda: loom.compile(zoo.pde("heat 2d"), skheme=1), loom.UnknownKeywordError, "did you mean 'scheme'"),
    "no scheme": (lambda: loom.compile(zoo.pde("heat 2d")), loom.SchemeError, "ForwardEuler"),
    "unknown trainable": (lambda: zoo_compile(loom.laplacian(u), trainable=["lamda"]), loom.DeclarationError, "lamda"),
    "unknown guarantee": (lambda: zoo_compile(loom.laplacian(u), guarantee="nonexpanding"), loom.SchemeError, "nonexpansive"),
    "unknown function": (lambda: zoo_compile(sp.Function("h")(u)), loom.UnsupportedTermError, "no meaning on a grid"),
    "order in the other direction": (lambda: zoo_compile(loom.d(loom.d(u, x, 2) ** 3, x)), loom.UnsupportedTermError, "not in flux form"),
}  # fmt: skip


def zoo_compile(right, **options):
    return loom.compile(
        loom.PDE(Eq(loom.dt(u), right), boundary=loom.NoFlux()), scheme=loom.ForwardEuler(1, 1e-3), **options
    )


@pytest.mark.parametrize("name", WRONG)
def test_every_error_is_typed_and_names_the_cure(name):
    call, kind, words = WRONG[name]
    with pytest.raises(kind, match=words) as caught:
        call()
    assert isinstance(caught.value, loom.PdeloomError)


# --- text -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in zoo.EQUATIONS if zoo.dimension(n) == 2])
def test_round_trip_through_text(name):
    equation = zoo.EQUATIONS[name]
    parameters = {p.name: p for p in equation.free_symbols if hasattr(p, "value")}
    text = unparse(equation)
    read = loom.parse(text, ["x", "y"], ["u"], "no-flux", parameters, {"a": (0, 2)})
    assert read.equations == (equation,)
    assert unparse(read.equations[0]) == text


HOSTILE = {
    "code": "__import__('os').system('true')",
    "attribute": "dt(u) = u.__class__",
    "lambda": "dt(u) = (lambda: u)()",
    "unknown name": "dt(u) = lamm*u",
    "unknown function": "dt(u) = foo(u)",
    "unbalanced": "dt(u) = (u",
    "rest": "dt(u) = u) + 1",
    "empty": "",
    "no right side": "dt(u) =",
    "deep parentheses": "dt(u) = " + "(" * 5000 + "u" + ")" * 5000,
    "deep signs": "dt(u) = " + "-" * 9000 + "u",
    "deep powers": "dt(u) = " + "2**" * 300 + "u",
    "long": "dt(u) = u" + "+u" * 10_000,
    "huge power": "dt(u) = 9**9**9**9",
    "nested powers": "dt(u) = (u**64)**64",
    "huge number": "dt(u) = 1e999*u",
    "tower": "dt(u) = exp(exp(exp(100)))*u",
    "zero": "dt(u) = u/0",
    "hidden zero": "dt(u) = u/(lam - lam)",
    "complex": "dt(u) = sqrt(-1)*u",
    "pole": "dt(u) = log(0)*u",
    "vector": "dt(u) = grad(u)",
    "mixed": "dt(u) = grad(u) + 1",
    "power of a vector": "dt(u) = norm2(grad(u)**2)",
    "arity": "dt(u) = d(u)",
    "two equals": "dt(u) == u",
    "null": "dt(u) = u\x00",
    "unicode": "dt(u) = Δu",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_a_typed_error(name):
    with pytest.raises(loom.PdeloomError) as caught:
        canonical(loom.parse(HOSTILE[name], **SETTINGS))
    assert len(str(caught.value)) < 600


def test_absurd_orders_in_text_are_refused():
    with pytest.raises(loom.DiscretisationError, match="up to 8"):
        loom.compile(loom.parse("dt(u) = d(u, x, 1000)", **SETTINGS), scheme=loom.ForwardEuler(1, 0.1))


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="dtulaxyfm()+-*/^=.,0123456789 gradivnorm2expsqrt", max_size=60))
def test_any_text_is_a_pde_or_a_typed_error(text):
    with contextlib.suppress(loom.PdeloomError):
        canonical(loom.parse("dt(u) = " + text, **SETTINGS))


expressions = st.recursive(
    st.sampled_from(["u", "lam", "f", "2", "0.5", "norm2(grad(u))", "d(u, x)", "pi"]),
    lambda e: st.one_of(
        st.tuples(e, st.sampled_from("+-*/"), e).map(lambda t: f"({t[0]}){t[1]}({t[2]})"),
        st.tuples(st.sampled_from(["exp", "tanh", "abs", "laplacian", "sqrt"]), e).map(lambda t: f"{t[0]}({t[1]})"),
        e.map(lambda t: f"({t})**2"),
        e.map(lambda t: f"div(({t})*grad(u))"),
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(expressions)
def test_any_sentence_of_the_grammar_round_trips_or_is_refused(text):
    try:
        pde = loom.parse(f"dt(u) = {text}", **SETTINGS)
    except loom.PdeloomError:
        return
    again = loom.parse(unparse(pde.equations[0]), **SETTINGS)
    assert again.equations == pde.equations


@pytest.mark.parametrize(
    "text", ["no-flux", "periodic", "dirichlet(0)", {"x": ["dirichlet(0)", "no-flux"], "y": "periodic"}]
)
def test_boundaries_from_text(text):
    pde = loom.parse("dt(u) = laplacian(u)", **{**SETTINGS, "boundary": text})
    assert len(canonical(pde).boundary) == 2


def test_a_misspelt_boundary_lists_the_valid_ones():
    with pytest.raises(loom.BoundaryError, match="no-flux"):
        loom.parse("dt(u) = laplacian(u)", **{**SETTINGS, "boundary": "noflux"})

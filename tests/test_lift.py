"""Trained networks read back as PDEs: exact for parameters and fluxes, by moments for stencils."""

from __future__ import annotations

import copy

import multigrids as mg
import numpy as np
import pytest
import sympy as sp
import torch
import zoo
from sympy import Eq

import pdeloom as loom
from pdeloom.compiler.lift import Moments


def disturbed(net, size=0.3):
    module = net.module(torch.float64)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(size * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return module


def plain(equation):
    """Parameters as the numbers they start with."""
    values = {p: sp.Float(p.value, 15) for p in equation.free_symbols if isinstance(p, type(mg.KAPPA))}
    return Eq(equation.lhs, equation.rhs.xreplace(values), evaluate=False)


@pytest.mark.parametrize(
    "name", ["perona-malik 2d", "reaction 2d", "coefficient and g 2d", "heat 3d", "mixed operator 1d"]
)
def test_an_untrained_network_is_the_equation_it_was_declared_as(name):
    trainable = [p for p in ("lam",) if "lam" in str(zoo.EQUATIONS[name])]
    read = loom.lift(zoo.network(name, trainable=trainable).module(torch.float64))
    assert read.order is None and len(read.equations) == 3 and read.tau == (1e-3,) * 3
    for equation in read.equations:
        difference = plain(equation).rhs - plain(zoo.EQUATIONS[name]).rhs
        assert difference == 0 or sp.simplify(difference) == 0
        assert equation.lhs == zoo.EQUATIONS[name].lhs


@pytest.mark.parametrize("shared", [False, True])
def test_trained_parameters_stand_in_the_equation_of_their_layer(shared):
    g = loom.learned_flux(terms=2)
    equation = Eq(loom.dt(zoo.U), loom.div(g(loom.norm2(loom.grad(zoo.U))) * loom.grad(zoo.U)))
    pde = loom.PDE(equation, boundary=loom.NoFlux())
    net = loom.compile(pde, scheme=loom.ForwardEuler(2), trainable=[g, "tau"], shared=shared)
    module = disturbed(net)
    read = loom.lift(module)
    assert len(read.equations) == (1 if shared else 2)
    for k, (read_back, tau) in enumerate(zip(read.equations, read.tau, strict=True)):
        assert not read_back.free_symbols & set(g.parameters)
        again = loom.compile(loom.PDE(read_back, boundary=loom.NoFlux()), scheme=loom.ForwardEuler(1, tau))
        u, _ = zoo.sample(net)
        with torch.no_grad():
            ringed = module.extend(u)
            stepped = module.step(ringed, k)[..., 2:-2, 2:-2]
            torch.testing.assert_close(again.module(torch.float64)(u), stepped, rtol=0, atol=1e-12)
    assert "layer 0" in str(read) and "exactly" in str(read)
    torch.testing.assert_close(loom.lift(copy.deepcopy(module)).tau, read.tau)


def test_moments_of_stencils():
    """Untrained they are the derivative up to the accuracy of the scheme; trained, what the layer does to polynomials."""
    net = zoo.network("heat 1d", order=4, h=0.5, trainable=["stencil"], tau="auto")
    x, u = zoo.X, zoo.V
    read = loom.lift(net.module(torch.float64), order=4)
    right = read.equations[0].rhs.doit()
    assert abs(float(right.coeff(sp.Derivative(u, (x, 2)))) - 1) < 1e-12
    assert right.coeff(sp.Derivative(u, (x, 4))) == 0, "order 4: no h² term"
    module = disturbed(net, 0.1)
    right = loom.lift(module, order=8).equations[1].rhs.doit()
    # a layer on u = p(x), away from the walls: u + τ f(u), derivatives of p in closed form
    n = 24
    at = (torch.arange(n, dtype=torch.float64) - n / 2) * 0.5
    for polynomial in (x**2, x**3, x**4, x**5):
        values = torch.tensor([float(polynomial.subs(x, float(a))) for a in at], dtype=torch.float64)[None, None]
        with torch.no_grad():
            width = module.extend(values).shape[-1] - n
            new = module.step(module.extend(values), 1)[..., width // 2 : -(width // 2)]
            rate = ((new - values) / module.tau(1))[0, 0, n // 2]
        expected = right.subs(u, polynomial).doit().subs(x, float(at[n // 2]))
        assert float(rate) == pytest.approx(float(expected), abs=1e-9)


def test_the_misfit_of_moments():
    """The symbol of a difference, 2 sin(ξh/2)/h, beside its Taylor polynomial, at ξh = 2π/16."""
    net = zoo.network("heat 1d", h=0.5, trainable=["stencil"], tau="auto")
    xi = np.pi / 8
    for order, polynomial in ((1, xi), (4, xi - xi**3 / 24), (6, xi - xi**3 / 24 + xi**5 / 1920)):
        read = loom.lift(net.module(torch.float64), order=order)
        assert read.misfit == pytest.approx(abs(2 * np.sin(xi / 2) - polynomial) / 2)
    assert f"miss by up to {read.misfit:.2g}" in str(read)
    assert loom.lift(zoo.network("heat 1d").module()).misfit == 0
    bank = loom.compile(zoo.pde("heat 2d"), space=loom.FilterBank(4, 5, init="dct"), scheme=loom.ForwardEuler(1))
    misfits = [loom.lift(bank.module(), order=order).misfit for order in (2, 4, 6, 8)]
    assert misfits == sorted(misfits, reverse=True) and 1e-6 < misfits[-1] < 1e-2 < misfits[0]
    shipped = loom.pretrained("denoiser-norm-stable-25").module()
    kernels = np.stack([shipped.K(k).detach().double().numpy() for k in range(shipped.steps)])
    at = np.indices((7, 7)).reshape(2, -1).T - 3
    for order, said in ((4, 0.17), (6, 0.02), (8, 0.0015)):  # docs/filters.md
        read = Moments(order)
        for kernel in kernels.reshape(-1, 49):
            read.of(at, kernel, [1.0, 1.0])
        assert read.misfit == pytest.approx(said, rel=0.03)


def test_a_steady_problem_is_read_back_too():
    net = mg.network("helmholtz 2d", "no-flux", trainable=["kappa", "smoother"])
    module = disturbed(net)
    read = loom.lift(module)
    (value,) = (v["kappa"] for v in read.values)
    assert value == pytest.approx(float(module.log_kappa.detach().exp())) and not read.tau
    assert not read.equations[0].has(mg.KAPPA)


def test_what_cannot_be_read_back():
    with pytest.raises(loom.DeclarationError, match=r"net\.module"):
        loom.lift(torch.nn.Linear(1, 1))
    with pytest.raises(loom.DeclarationError, match="1 to 8"):
        loom.lift(zoo.network("heat 1d").module(), order=0)

"""Filter banks: networks against the reference, transposes, norms, the finite differences they start as, training."""

import re
from pathlib import Path

import numpy as np
import pytest
import sympy as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.linalg import LinearOperator, svds
from sympy import Eq

import pdeloom as loom
from pdeloom.compiler.bank import ROWS, cosines
from pdeloom.compiler.emit_bank import CACHE
from pdeloom.compiler.errors import (
    BoundaryError,
    DiscretisationError,
    SchemeError,
    UnstableSchemeError,
    UnsupportedTermError,
)
from pdeloom.compiler.filter_bank import FilterBank
from pdeloom.compiler.grid import Grid
from pdeloom.compiler.problem import canonical

NO_FLUX, PERIODIC = loom.NoFlux(), loom.Periodic()
LAM = loom.parameter("lam", 0.3, positive=True)
BETA = loom.parameter("beta", 0.2, positive=True)
X = loom.coordinates("x y z")


def equation(kind="separable", dimension=2, boundary=NO_FLUX, law="perona-malik", reaction=False, g=None):
    axes = loom.coordinates(" ".join("xyz"[:dimension]))
    axes = axes if isinstance(axes, tuple) else (axes,)
    u = loom.field("u", *axes)
    g = g or loom.diffusivity(law, *([] if law == "linear" else [LAM]))
    if kind == "separable":
        right = sum(loom.d(g(loom.d(u, x) ** 2) * loom.d(u, x), x) for x in axes)
    else:
        right = loom.div(g(loom.norm2(loom.grad(u))) * loom.grad(u))
    if reaction:
        right += BETA * (loom.data("f", *axes) - u)
    return loom.PDE(Eq(loom.dt(u), right), boundary=boundary)


def network(pde, scheme=None, trainable=(), channels=8, size=5, **options):
    keywords = {k: options.pop(k) for k in ("unstable", "guarantee", "shared", "grid") if k in options}
    space = loom.FilterBank(channels, size, **options)
    return loom.compile(pde, space=space, scheme=scheme or loom.ForwardEuler(3), trainable=list(trainable), **keywords)


def state(shape=(2, 1, 9, 8), seed=0, scale=1.0):
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def shaken(module, size=0.5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p += size * torch.randn(p.shape, generator=generator, dtype=p.dtype)
    return module


def bank(boundary=NO_FLUX, dimension=2, channels=8, size=5, **options):
    system = FilterBank(channels, size, **options).discretise(
        canonical(equation(dimension=dimension, boundary=boundary)), Grid()
    )
    return system.banks[0]


# --- the network is the scheme ------------------------------------------------------------------------------

SCHEMES = {
    "explicit": loom.ForwardEuler(3),
    "fed": loom.FED(cycles=2, length=3),
    "fsi": loom.FSI(cycles=1, length=4),
    "du fort-frankel": loom.DuFortFrankel(3),
    "rkl": loom.RKL(order=2, stages=3, steps=1),
    "rk": loom.RungeKutta(3, steps=2),
    "semi-implicit": loom.SemiImplicit(2, tau=1.0),
    "implicit": loom.BackwardEuler(2, tau=0.5),
    "theta": loom.CrankNicolson(2, tau=0.5),
}


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_the_module_is_the_reference(scheme):
    reaction = scheme in ("explicit", "rk", "semi-implicit", "implicit", "theta")
    net = network(equation("isotropic", reaction=reaction), SCHEMES[scheme])
    u, data = state(scale=0.2), {"f": state(seed=1, scale=0.2)} if reaction else {}
    expected = net.reference(u.numpy(), **{name: f.numpy() for name, f in data.items()})
    difference = net.module(dtype=torch.float64)(u, **data) - torch.from_numpy(expected)
    assert difference.abs().max() < (1e-12 if not SCHEMES[scheme].structure.solves else 1e-8)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("scheme", ["fed", "fsi", "du fort-frankel", "semi-implicit"])
def test_trained_filters_in_cycles_recurrences_and_solves(scheme, shared):
    net = network(equation(), SCHEMES[scheme], ["stencil", "lam"], 4, 3, symmetric=True, own_fluxes=True, shared=shared)
    module, u = net.module(dtype=torch.float64), state(scale=0.2)
    difference = module(u).detach() - torch.from_numpy(net.reference(u.numpy()))
    assert difference.abs().max() < (1e-12 if not SCHEMES[scheme].structure.solves else 1e-8)
    module(u).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())
    assert module.certificate()["status"] == net.stability[net.stability.governing].status


def test_a_relaxation_follows_trained_filters_beside_a_reaction():
    net = network(equation(reaction=True), loom.DuFortFrankel(3, tau=0.2), ["stencil"], 4, 3, symmetric=True)
    u, f = state(scale=0.2), state(seed=1, scale=0.2)
    expected = torch.from_numpy(net.reference(u.numpy(), f=f.numpy()))
    torch.testing.assert_close(net.module(dtype=torch.float64)(u, f=f), expected, rtol=0, atol=1e-12)


OPTIONS = {
    "derivatives": {},
    "symmetric": {"symmetric": True},
    "dct": {"init": "dct"},
    "orthonormal": {"init": "orthonormal", "seed": 3},
    "joint": {"joint": True},
    "many": {"channels": 30, "size": 3},
    "many symmetric": {"channels": 30, "size": 3, "symmetric": True, "init": "dct"},
    "symmetric dct": {"symmetric": True, "init": "dct", "own_fluxes": True},
    "reflected": {"symmetric": "reflected", "init": "dct", "own_fluxes": True},
    "reflected orthonormal": {"symmetric": "reflected", "init": "orthonormal"},
    "many reflected": {"channels": 48, "size": 3, "symmetric": "reflected", "init": "dct", "joint": True},
}


@pytest.mark.parametrize("boundary", [NO_FLUX, PERIODIC, "mixed"], ids=str)
@pytest.mark.parametrize("options", OPTIONS)
def test_every_kind_of_bank_is_the_reference(options, boundary):
    x, y = loom.coordinates("x y")
    boundary = {x: NO_FLUX, y: PERIODIC} if boundary == "mixed" else boundary
    plain = {k: v for k, v in OPTIONS[options].items() if k != "own_fluxes"}
    net = network(equation("isotropic", boundary=boundary), **plain, grid=loom.Grid((1.0, 0.5)))
    u = state()
    found = net.module(dtype=torch.float64)(u)
    assert (found - torch.from_numpy(net.reference(u.numpy()))).abs().max() < 1e-13
    trained = network(
        equation("isotropic", boundary=boundary), trainable=["stencil", "lam", "tau"], **OPTIONS[options],
        grid=loom.Grid((1.0, 0.5)),
    )  # fmt: skip
    found = trained.module(dtype=torch.float64)(u).detach()
    assert (found - torch.from_numpy(trained.reference(u.numpy()))).abs().max() < 1e-13


@pytest.mark.parametrize("dimension", [1, 3])
def test_other_dimensions(dimension):
    net = network(equation(dimension=dimension), channels=6, size=3, trainable=["stencil"])
    u = state((2, 1, *(7, 6, 5)[:dimension]))
    found = net.module(dtype=torch.float64)(u).detach()
    assert (found - torch.from_numpy(net.reference(u.numpy()))).abs().max() < 1e-13


@pytest.mark.parametrize("law", ["linear", "perona-malik", "charbonnier"])
@pytest.mark.parametrize("boundary", [NO_FLUX, PERIODIC], ids=str)
def test_a_bank_of_derivatives_is_the_finite_difference_scheme(boundary, law):
    pde = equation(law=law, boundary=boundary)
    net = network(pde, channels=2, size=5)
    plain = loom.compile(pde, scheme=loom.ForwardEuler(3, tau=net.stability.tau))
    u = state()
    assert (net.module(dtype=torch.float64)(u) - plain.module(dtype=torch.float64)(u)).abs().max() < 1e-13
    assert net.stability.tau_max == pytest.approx(plain.stability.tau_max, rel=3e-4)
    assert net.stability.tau_max <= plain.stability.tau_max


def test_parts_of_derivatives_have_the_same_normal_operator():
    """Even and odd parts: KᵀK is the finite-difference Laplacian, no longer one filter per derivative."""
    pde = equation(law="linear")
    net = network(pde, channels=4, size=3, symmetric=True)
    plain = loom.compile(pde, scheme=loom.ForwardEuler(3, tau=net.stability.tau))
    u = state()
    assert (net.module(dtype=torch.float64)(u) - plain.module(dtype=torch.float64)(u)).abs().max() < 1e-13


def test_second_derivatives_and_several_laws():
    """laplacian(u) is the flux Φ = id of its own bank, ∂xx[∂xx u] a bank of second differences."""
    x, y = loom.coordinates("x y")
    u = loom.field("u", x, y)
    g = loom.diffusivity("charbonnier", LAM)
    right = loom.div(g(loom.norm2(loom.grad(u))) * loom.grad(u)) + sp.Rational(1, 10) * loom.laplacian(u)
    right -= sp.Rational(1, 50) * loom.d(loom.d(u, x, 2), x, 2)
    net = network(loom.PDE(Eq(loom.dt(u), right), boundary=NO_FLUX), channels=4)
    assert [b.label for b in net.compiled.system.banks] == ["K1", "K2", "K3"]
    v = state()
    assert (net.module(dtype=torch.float64)(v) - torch.from_numpy(net.reference(v.numpy()))).abs().max() < 1e-13


# --- transposes and norms -----------------------------------------------------------------------------------


@settings(max_examples=10, deadline=None)
@given(
    st.sampled_from([(1, 5), (1, 7), (2, 3), (2, 5), (3, 3)]),
    st.tuples(*[st.sampled_from([NO_FLUX, PERIODIC])] * 3),
    st.sampled_from([False, True, "reflected", "turned"]),
    st.integers(0, 10**6),
)
def test_the_transpose_is_exact(shape, sides, symmetric, seed):
    dimension, size = shape
    axes = loom.coordinates(" ".join("xyz"[:dimension]))
    axes = axes if isinstance(axes, tuple) else (axes,)
    pde = equation(dimension=dimension, boundary=dict(zip(axes, sides, strict=False)))
    channels = 48 if dimension == 3 and symmetric == "turned" else 8
    net = network(pde, channels=channels, size=size, init="orthonormal", symmetric=symmetric, trainable=["stencil"])
    module = shaken(net.module(dtype=torch.float64), seed=seed)
    rng = np.random.default_rng(seed)
    grid = tuple(int(n) for n in rng.integers(size // 2, 9, dimension))  # as small as a ring allows
    u, v = state((1, 1, *grid), seed), state((1, channels, *grid), seed + 1)
    K, emitted = module.K(0).detach(), {"convolve": torch.conv1d, "transpose": torch.conv_transpose1d}
    emitted |= type(module).step.__globals__
    Ku, Kv = emitted["convolve"](module.extend(u), K), module.fold(emitted["transpose"](v, K))
    assert float((Ku * v).sum()) == pytest.approx(float((u * Kv).sum()), abs=1e-12 * float(Ku.norm() * v.norm() + 1))


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("inputs", [1, 3])
def test_rows_as_channels_are_the_convolutions_of_torch_and_so_are_their_gradients(dimension, inputs):
    size = 5 if dimension < 3 else 3
    emitted = type(network(equation(dimension=dimension), size=size).module()).step.__globals__
    plain = [getattr(torch, f"conv{dimension}d"), getattr(torch, f"conv_transpose{dimension}d")]
    kernel = state((4, inputs, *[size] * dimension), seed=1).requires_grad_()
    of = [state((2, inputs, 9, 8, 7)[: 2 + dimension]), state((2, 4, 5, 4, 6)[: 2 + dimension])]
    for name, convolution, v in zip(("convolve", "transpose"), plain, of, strict=True):
        v.requires_grad_()
        ours, theirs = emitted[name](v, kernel), convolution(v, kernel)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
        given = state(ours.shape, seed=2)
        for a, b in zip(*(torch.autograd.grad(out, (v, kernel), given) for out in (ours, theirs)), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


BY_ROWS = {
    "isotropic": ({}, loom.ForwardEuler(2, tau=0.1)),
    "learned mixture": ({"joint": "learned", "own_fluxes": True}, loom.ForwardEuler(2, tau=0.1)),
    "implicit": ({}, loom.BackwardEuler(1, tau=0.1)),
}


@pytest.mark.parametrize("kind", BY_ROWS)
@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_fluxes_by_rows_are_fluxes_and_so_are_their_gradients(kind, dimension, monkeypatch):
    """`sigma` has one sample for the whole batch."""
    options, scheme = BY_ROWS[kind]
    sigma, learned = loom.data("sigma", *X[:dimension], bounds=(0.05, 1)), loom.learned_flux("g", terms=2)
    pde = equation("isotropic", dimension, g=lambda q: learned(q / sigma**2))
    net = network(pde, scheme, ["flux", "stencil"], size=3, init="dct", unstable="allow", **options)
    assert CACHE == 2**18 and net.source.count("2**18") == 1
    names, module = {"__name__": "rows"}, shaken(net.module(dtype=torch.float64), 0.1)
    exec(net.source.replace("2**18", "10"), names)
    rows = names[names["__all__"][0]](dtype=torch.float64)
    rows.load_state_dict(module.state_dict())
    grid = (6, 7, 5)[:dimension]
    u, data = state((2, 1, *grid), scale=0.1), {"sigma": state((1, 1, *grid), seed=1).abs().clamp(0.05, 1)}
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    calls, splits = [], torch.Tensor.split
    monkeypatch.setattr(torch.Tensor, "split", lambda v, size, dim: calls.append(dim) or splits(v, size, dim))
    given = state((2, 1, *grid), seed=2)
    one, other = (torch.autograd.grad((m(u, **data) * given).sum(), [*m.parameters()]) for m in (module, rows))
    assert set(calls) == {2}
    torch.testing.assert_close(rows(u, **data), module(u, **data), rtol=0, atol=1e-12)
    torch.testing.assert_close(other, one, rtol=1e-9, atol=1e-12)


def true_norm(module, grid, k=0):
    K, d = module.K(k).detach(), len(grid)
    convolve, transposed = getattr(torch, f"conv{d}d"), getattr(torch, f"conv_transpose{d}d")

    def product(x):
        u = torch.from_numpy(np.asarray(x, dtype=float)).reshape(1, 1, *grid)
        return module.fold(transposed(convolve(module.extend(u), K), K)).numpy().ravel()

    n = int(np.prod(grid))
    return float(svds(LinearOperator((n, n), matvec=product, rmatvec=product), k=1, tol=1e-8)[1][0])


@pytest.mark.parametrize("boundary", [NO_FLUX, PERIODIC], ids=str)
@pytest.mark.parametrize("symmetric", [True, False, "reflected", "turned"])
def test_the_norm_is_a_bound_and_sharp_where_it_is_said_to_be(boundary, symmetric):
    net = network(equation(boundary=boundary), channels=8, symmetric=symmetric, init="dct", trainable=["stencil"])
    for seed in range(3):
        module = shaken(net.module(dtype=torch.float64), seed=seed)
        norm, bound = true_norm(module, (32, 32)), float(module.norm2_K(0).detach())
        assert norm <= bound
        sharp = symmetric or boundary is PERIODIC
        assert bound <= norm * (1.1 if sharp else 4.0)
        even = symmetric is True and boundary is NO_FLUX
        other = loom.bank_norm(module.K(0).detach(), "even" if even else "periodic")
        if sharp:  # the same theorem with other samples; beside walls ρ of a reflected bank is that of periodic axes
            assert bound == pytest.approx(float(other) ** 2, rel=2e-2)


@pytest.mark.parametrize("options", OPTIONS)
def test_the_bank_starts_below_the_norm_of_the_derivative(options):
    options = {k: v for k, v in OPTIONS[options].items() if k not in ("joint", "own_fluxes")}
    for boundary in (NO_FLUX, PERIODIC):
        b = bank(boundary, **options)
        matrix = b.apply(np.eye(100).reshape(100, 1, 10, 10), (10, 10)).reshape(100, -1)
        assert np.linalg.norm(matrix, 2) ** 2 <= min(8.0, b.squared_norm()) * (1 + 1e-12)
        assert b.squared_norm() <= 8.0 * 1.001
        assert abs(b.kernels.reshape(b.channels, -1).sum(1)).max() < 1e-12


def test_symmetric_filters_are_even_or_odd_and_the_net_commutes_with_reflections():
    net = network(equation(), symmetric=True, trainable=["stencil", "lam", "tau"], own_fluxes=True)
    module = shaken(net.module(dtype=torch.float64))
    kernels = module.K(1).detach()
    for a in (2, 3):
        flipped = kernels.flip(a)
        either = torch.minimum((kernels - flipped).abs().amax((1, 2, 3)), (kernels + flipped).abs().amax((1, 2, 3)))
        assert either.max() < 1e-14
    u = state()
    with torch.no_grad():
        for dims in ((2,), (3,), (2, 3)):
            assert (module(u.flip(dims)) - module(u).flip(dims)).abs().max() < 1e-13


@pytest.mark.parametrize("dimension", [1, 2, 3])
@pytest.mark.parametrize("joint", [False, "learned"])
def test_reflected_banks_have_the_reflections_of_every_filter(dimension, joint):
    """One by one and in order, with the same flux; what a reflection reads are the reflections of what the filter
    reads; the net commutes with them. All for any weights, and on axes of both kinds."""
    axes = "xyz"[:dimension]
    boundary = dict(zip(loom.coordinates("x y z"), (NO_FLUX, PERIODIC, NO_FLUX), strict=True))
    boundary = {x: b for x, b in boundary.items() if str(x) in axes}
    pde = equation("isotropic", dimension, boundary, g=M)
    net = network(pde, channels=16, size=3, trainable=["flux", "stencil"], own_fluxes=True, joint=joint, **REFLECTED)
    module, copies = shaken(net.module(torch.float64)), 2**dimension
    filters = module.weights_K.shape[1]
    assert filters * copies == 16 and module.log_m_a1.shape == (3, filters)
    kernels = module.K(1).detach().reshape(filters, *(2,) * dimension, *(3,) * dimension)
    for a in range(dimension):  # the index of a reflection flips with the taps
        torch.testing.assert_close(kernels.flip(1 + a), kernels.flip(1 + dimension + a), rtol=0, atol=0)
    assert (kernels - kernels.flip(1)).abs().max() > 0.01, "filters of any shape"
    for p in net.compiled.training.parameters:
        own = getattr(module, f"get_{p}")(1).detach().reshape(filters, copies)
        assert (own == own[:, :1]).all() and (own[0] != own[1]).all()
    u = state((2, 1, *(7, 6, 5)[:dimension]))
    with torch.no_grad():
        for a in range(dimension):
            assert (module(u.flip(2 + a)) - module(u).flip(2 + a)).abs().max() < 1e-13
        if joint:
            mix = module.mix_K(1).reshape(filters, *(2,) * dimension, filters, *(2,) * dimension)
            for a in range(dimension):
                assert (mix.flip(1 + a) == mix.flip(2 + dimension + a)).all()


@pytest.mark.parametrize("boundary", [NO_FLUX, PERIODIC], ids=str)
@pytest.mark.parametrize(("dimension", "joint"), [(1, False), (2, False), (2, "learned"), (3, "learned")])
def test_turned_banks_commute_with_every_symmetry_of_the_cube(dimension, joint, boundary):
    """Each filter brings its images, with one flux, and what they read of each other is turned with them. The net is
    the reference, and commutes with reflections and with exchanges of the axes, for any weights."""
    copies = {1: 2, 2: 8, 3: 48}[dimension]
    options = {"symmetric": "turned", "init": "dct", "own_fluxes": True, "joint": joint}
    pde = equation("isotropic", dimension, boundary, g=M)
    net = network(pde, channels=2 * copies, size=3, trainable=["flux", "stencil"], **options)
    module, u = net.module(torch.float64), state((2, 1, *(6, 6, 6)[:dimension]))
    assert (module(u).detach() - torch.from_numpy(net.reference(u.numpy()))).abs().max() < 1e-13
    shaken(module)
    assert module.weights_K.shape[1] == 2 and module.log_m_a1.shape == (3, 2)
    kernels = module.K(1).detach().reshape(2, copies, -1)
    assert all(len(torch.unique(own.round(decimals=9), dim=0)) == copies for own in kernels), "filters of any shape"
    assert (kernels.sort(2).values - kernels[:, :1].sort(2).values).abs().max() < 1e-14
    with torch.no_grad():
        for a in range(2, 2 + dimension):
            assert (module(u.flip(a)) - module(u).flip(a)).abs().max() < 1e-13
            assert (module(u.transpose(2, a)) - module(u).transpose(2, a)).abs().max() < 1e-13


def test_reflected_banks_of_several_fields():
    """Colour: all filters read all fields. The network is the reference, its bound on the norm is sharp, and norms do
    not grow for any weights."""
    x, y = loom.coordinates("x y")
    fields = [loom.field(name, x, y) for name in "abc"]
    g = loom.diffusivity("perona-malik", LAM)
    pde = loom.PDE([Eq(loom.dt(u), loom.div(g(loom.norm2(loom.grad(u))) * loom.grad(u))) for u in fields], NO_FLUX)
    net = network(pde, trainable=["stencil", LAM], channels=12, size=3, own_fluxes=True, **REFLECTED)
    module, u = net.module(torch.float64), state((2, 3, 9, 8))
    assert module.weights_K.shape == (3, 3, 3, 8)
    np.testing.assert_allclose(module(u).detach().numpy(), net.reference(u.numpy()), rtol=0, atol=1e-12)
    shaken(module)
    K, shape = module.K(0).detach(), (1, 3, 24, 24)

    def product(v):
        v = torch.from_numpy(np.asarray(v, dtype=float)).reshape(shape)
        return module.fold(torch.conv_transpose2d(torch.conv2d(module.extend(v), K), K)).numpy().ravel()

    n = int(np.prod(shape))
    norm = svds(LinearOperator((n, n), matvec=product, rmatvec=product), k=1, tol=1e-8)[1][0]
    bound = float(module.norm2_K(0).detach())
    assert norm <= bound <= 1.15 * norm
    with torch.no_grad():
        assert (module(u).flatten(1).norm(dim=1) <= u.flatten(1).norm(dim=1)).all()


def test_means_are_kept_and_constants_are_at_rest():
    module = shaken(network(equation(), trainable=["stencil", "tau"]).module(dtype=torch.float64))
    u = state()
    with torch.no_grad():
        assert (module(u).mean((1, 2, 3)) - u.mean((1, 2, 3))).abs().max() < 1e-14
        assert (module(torch.full_like(u, 0.7)) - 0.7).abs().max() < 1e-14


# --- certificates -------------------------------------------------------------------------------------------

G = loom.learned_flux("g", terms=3)
M = loom.learned_flux("m", kind="charbonnier", terms=2, start=loom.diffusivity("charbonnier", 0.1))


LEARNED = {"joint": "learned", "symmetric": True, "own_fluxes": True}
REFLECTED = {"symmetric": "reflected", "init": "dct"}


@pytest.mark.parametrize("options", [{}, {"symmetric": True, "own_fluxes": True}, {"joint": True}, LEARNED, LEARNED | REFLECTED],
                         ids=str)  # fmt: skip
def test_norms_decrease_for_any_weights(options):
    pde = equation("isotropic", g=G, reaction=True)
    net = network(pde, trainable=["flux", BETA, "stencil", "tau"], **options)
    assert net.stability["norm decrease"].status == "proved"
    for seed in range(3):
        module = shaken(net.module(dtype=torch.float64), 1.0, seed)
        certificate = module.certificate()
        assert certificate["status"] == "proved"
        assert all(t <= limit for t, limit in zip(certificate["tau"], certificate["tau_max"], strict=True))
        scales = torch.logspace(-3, 3, 24, dtype=torch.float64).reshape(-1, 1, 1, 1)
        u = state((24, 1, 16, 15), seed) * scales
        with torch.no_grad():
            new = module(u, f=torch.zeros_like(u))
        assert (new.flatten(1).norm(dim=1) <= u.flatten(1).norm(dim=1) * (1 + 1e-12)).all()


@pytest.mark.parametrize("boundary", [NO_FLUX, PERIODIC], ids=str)
@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_learned_mixtures(dimension, boundary):
    """−KᵀG K u + β(f − u), G_c = g_c(Σ_d w_cd (K_d u)²), written out again for shaken weights; Kᵀ by autograd."""
    net = network(equation("isotropic", dimension, boundary, reaction=True, g=G), loom.ForwardEuler(2),
                  ["flux", BETA, "stencil", "tau"], 7, 3, joint="learned", own_fluxes=True)  # fmt: skip
    shape = (2, 1, *(6, 5, 4)[:dimension])
    u, f = state(shape, 1, 0.3), state(shape, 2, 0.3)
    expected = net.reference(u.numpy(), f=f.numpy())
    fresh = net.module(torch.float64)
    np.testing.assert_allclose(fresh(u, f=f).detach().numpy(), expected, atol=1e-12)
    module = shaken(fresh)
    convolve = (torch.conv1d, torch.conv2d, torch.conv3d)[dimension - 1]
    v = u.clone()
    for k in range(2):
        weights = module.log_mix_K[k].detach().exp()
        with torch.enable_grad():
            w = v.clone().requires_grad_()
            s = convolve(module.extend(w), module.K(k).detach())
            q = torch.einsum("cd,bd...->bc...", weights, s.detach() ** 2)
            at = {
                name: getattr(module, f"get_{name}")(k).detach()
                for name in ("g_a1", "g_a2", "g_a3", "g_l1", "g_l2", "g_l3")
            }
            g = sum(at[f"g_a{j}"] / (1 + q / at[f"g_l{j}"] ** 2) for j in (1, 2, 3))
            (flow,) = torch.autograd.grad(s, w, g * s.detach())
        v = v + module.tau(k).detach() * (module.get_beta(k).detach() * (f - v) - flow)
    torch.testing.assert_close(module(u, f=f).detach(), v, rtol=0, atol=1e-12)


@pytest.mark.parametrize("scheme", ["fsi", "du fort-frankel", "rk", "semi-implicit", "implicit"])
def test_learned_mixtures_in_recurrences_and_solves(scheme):
    net = network(equation(), SCHEMES[scheme], ["stencil", "lam"], 4, 3, symmetric=True, joint="learned", shared=True)
    module, u = net.module(dtype=torch.float64), state(scale=0.2)
    difference = module(u).detach() - torch.from_numpy(net.reference(u.numpy()))
    assert difference.abs().max() < (1e-12 if not SCHEMES[scheme].structure.solves else 1e-8)
    module(u).square().sum().backward()
    assert net.source.count("mix_K = self.mix_K(k)") == net.source.count(" K = self.K(k)")  # once for all stages
    assert module.log_mix_K.shape == (4, 4) and module.log_mix_K.grad.abs().max() > 0
    assert module.certificate()["status"] == net.stability[net.stability.governing].status


def test_one_term_of_a_noise_level():
    """σ²/(σ² + q/λ²) is g(q/σ²), however it is written."""
    sigma = loom.data("sigma", *X[:2], bounds=(0.05, 1))
    g = loom.diffusivity("perona-malik", 0.1)
    for law in (lambda q: g(q / sigma**2), lambda q: sigma**2 / (sigma**2 + q)):
        pde = equation("isotropic", g=law)
        for space in (loom.FilterBank(8, 3, init="dct"), loom.FiniteDifference()):
            net = loom.compile(pde, space=space, scheme=loom.ForwardEuler(1))
            assert net.stability["norm decrease"].status == "proved"
    outside = network(equation("isotropic", g=lambda q: sigma * g(q / sigma**2)), loom.ForwardEuler(1))
    assert outside.stability["norm decrease"].status == "proved"


def test_what_is_not_known_of_learned_mixtures(tmp_path):
    """No energy, no bound on distances; nothing without training. Saved, and read back with what they mix."""
    with pytest.raises(SchemeError, match=r"stencil.*in trainable"):
        network(equation(), joint="learned")
    for notion in ("nonexpansive", "energy decrease"):
        with pytest.raises(UnstableSchemeError, match="mixture of"):
            network(equation(g=M), trainable=["stencil"], joint="learned", guarantee=notion)
    net = network(equation(dimension=1), trainable=["stencil", LAM], channels=3, size=3, joint="learned")
    module = shaken(net.module(torch.float64))
    assert not hasattr(module, "energy")
    again = loom.load(net.save(tmp_path, module))
    assert 'joint = "learned"' in (tmp_path / "spec.toml").read_text() and again.net.source == net.source
    (equation_of_step, *_), (x,) = loom.lift(module, order=1).equations, net.compiled.system.problem.coordinates
    K, w = module.K(0).detach()[:, 0], module.mix_K(0).detach()[..., 0]
    slope = (K @ torch.tensor([-1.0, 0, 1], dtype=torch.float64)).numpy()  # K_c u = slope_c u_x
    right = equation_of_step.rhs.subs(net.compiled.system.problem.unknowns[0], x**2 / 2).doit()
    lam = float(module.get_lam(0).detach())
    q = w.numpy() @ slope**2 * 0.7**2
    expected = (slope**2 * (1 / (1 + q / lam**2) - 2 * q / lam**2 / (1 + q / lam**2) ** 2)).sum()  # (g u_x)_x at 0.7
    assert float(right.subs(x, 0.7)) == pytest.approx(expected, rel=1e-9)


def test_own_fluxes_are_bounded_channel_by_channel():
    """‖L^½K‖² with the bound L_c of every channel is the norm of A at its largest, and not max L times ‖K‖²."""
    net = network(equation(g=M), trainable=["flux", "stencil"], symmetric=True, own_fluxes=True)
    module = shaken(net.module(dtype=torch.float64), 1.0)
    with torch.no_grad():
        L = module.get_m_a1(0) + module.get_m_a2(0)
        K = module.K(0) * L.sqrt().reshape(-1, 1, 1, 1)
        assert float(module.norm2_K(0)) == pytest.approx(float(loom.bank_norm(K, "even")) ** 2, rel=2e-2)
        assert float(module.norm2_K(0)) < 0.95 * float(L.max() * loom.bank_norm(module.K(0), "even") ** 2)


@pytest.mark.parametrize("options", [{"symmetric": True}, REFLECTED], ids=str)
def test_monotone_fluxes_keep_distances(options):
    net = network(equation(g=M), trainable=["flux", "stencil", "tau"], own_fluxes=True, guarantee="nonexpansive",
                  **options)  # fmt: skip
    assert net.stability["nonexpansive"].status == "proved"
    module = shaken(net.module(dtype=torch.float64), 1.0)
    assert module.certificate()["status"] == "proved"
    u = state((12, 1, 12, 12)) * torch.logspace(-2, 2, 12, dtype=torch.float64).reshape(-1, 1, 1, 1)
    v = u + 0.1 * state((12, 1, 12, 12), 5)
    with torch.no_grad():
        assert ((module(u) - module(v)).flatten(1).norm(dim=1) <= (u - v).flatten(1).norm(dim=1) * (1 + 1e-12)).all()


@pytest.mark.parametrize("options", [{}, {"joint": True}, REFLECTED], ids=str)
def test_the_energy_falls_and_its_gradient_is_the_right_hand_side(options):
    net = network(equation("isotropic"), loom.ForwardEuler(1), **options)
    module = net.module(dtype=torch.float64)
    u = state(scale=0.5).requires_grad_()
    (gradient,) = torch.autograd.grad(module.energy(u).sum(), u)
    step = (module(u) - u) / net.stability.tau
    assert (gradient + step).abs().max() < 1e-12 * gradient.abs().max() + 1e-13
    assert (module.energy(module(u)) < module.energy(u)).all()


def test_the_maximum_principle_is_not_claimed():
    report = network(equation()).stability
    assert report["maximum principle"].status != "proved"
    assert report["nonexpansive"].status == "refuted"


# --- training, saving, reading back --------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"channels": 3, "init": "orthonormal"}, {"channels": 4, **REFLECTED}], ids=str)
def test_gradients(options):
    pde = equation("isotropic", g=G, reaction=True)
    net = network(pde, loom.ForwardEuler(1), ["flux", BETA, "stencil", "tau"], size=3, own_fluxes=True, **options)
    module = shaken(net.module(dtype=torch.float64), 0.1)
    names = [n for n, _ in module.named_parameters()]
    u, f = state((1, 1, 4, 4)).requires_grad_(), state((1, 1, 4, 4), 1)

    def run(u, *weights):
        return torch.func.functional_call(module, dict(zip(names, weights, strict=True)), (u,), {"f": f})

    assert torch.autograd.gradcheck(run, (u, *(p.detach().clone().requires_grad_() for p in module.parameters())))


def test_weights_are_those_that_matter():
    """Zero-mean filters of 5 × 5 taps have 24 weights; even or odd ones 6 or 8, 4 if odd twice."""
    one = network(equation(), trainable=["stencil"], shared=True, init="dct", channels=8).module()
    assert [tuple(p.shape) for p in one.parameters()] == [(8, 24)]
    reflected = network(equation(), trainable=["stencil"], channels=32, **REFLECTED).module()
    assert [tuple(p.shape) for p in reflected.parameters()] == [(3, 8, 24)]
    many = network(equation(), trainable=["stencil"], init="dct", channels=8, symmetric=True).module()
    shapes = {n.removeprefix("weights_K_"): tuple(p.shape) for n, p in many.named_parameters()}
    assert {n: s[2] for n, s in shapes.items()} == {"even_even": 8, "even_odd": 6, "odd_even": 6, "odd_odd": 4}
    assert sum(s[1] for s in shapes.values()) == 8
    assert not list(network(equation()).module().parameters())


@pytest.mark.parametrize("options", [{"symmetric": True}, {"joint": "learned", **REFLECTED}], ids=str)
def test_compile_export_and_functional_transforms(options):
    net = network(equation(), channels=4, size=3, trainable=["stencil", "lam", "tau"], **options)
    module = net.module(dtype=torch.float64)
    u = state((2, 1, 8, 8))
    plain = module(u).detach()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    assert (compiled(u).detach() - plain).abs().max() < 1e-14
    exported = torch.export.export(module, (u,))
    assert (exported.module()(u).detach() - plain).abs().max() < 1e-14
    jacobian = torch.func.jvp(module, (u,), (u,))[1].detach()
    step = 1e-6
    assert (jacobian - (module(u + step * u) - module(u - step * u)).detach() / (2 * step)).abs().max() < 1e-8


@pytest.mark.parametrize("options", [{"symmetric": True}, REFLECTED], ids=str)
def test_saving_and_reading_back(options, tmp_path):
    net = network(equation("isotropic", g=G), trainable=["flux", "stencil", "tau"], own_fluxes=True, **options)
    module = shaken(net.module(dtype=torch.float64), 0.3)
    net.save(tmp_path / "net", module)
    loaded = loom.load(tmp_path / "net")
    u = state()
    assert (loaded.module(dtype=torch.float64)(u) - module(u)).abs().max() < 1e-14
    assert loaded.net.source == net.source


def test_lift_reads_filters_as_operators():
    """A network of derivatives is its own equation; a polynomial tells whether moments are right."""
    x, y = loom.coordinates("x y")
    net = network(equation(law="linear"), loom.ForwardEuler(1), channels=2, size=3)
    lifted = loom.lift(net.module(dtype=torch.float64), order=2)
    u = loom.field("u", x, y)
    right = lifted.equations[0].rhs.subs(u, x**2 + 3 * y**2).doit()
    assert float(right) == pytest.approx(8.0)
    net = network(
        equation(g=M), loom.ForwardEuler(2), trainable=["flux", "stencil"], channels=4, size=3, own_fluxes=True
    )
    lifted = loom.lift(shaken(net.module(dtype=torch.float64), 0.2), order=2)
    assert len(lifted.equations) == 2
    assert len(lifted.values[0]["m_a1"]) == 4
    assert lifted.order == 2


def test_the_specification_says_it_all(tmp_path):
    pde = loom.PDE(equation().equations[0], boundary=NO_FLUX, name="Learned filters")
    net = network(pde, trainable=["stencil", "lam"], symmetric=True, init="dct", own_fluxes=True)
    net.save(tmp_path / "a")
    text = (tmp_path / "a" / "spec.toml").read_text()
    assert 'method = "filter-bank"' in text and "channels = 8" in text
    assert loom.load(tmp_path / "a").net.source == net.source


def test_the_page_in_the_docs_is_true(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[1] / "docs" / "filters.md").read_text(encoding="utf-8")
    code, expected = re.search(r"```python\n(.*?)```\n+```text\n(.*?)```", text, flags=re.DOTALL).groups()
    exec(code, {})
    assert capsys.readouterr().out == expected


def test_turned_filters_need_one_spacing():
    with pytest.raises(DiscretisationError, match=r"spacings 1, 1/2 differ.*symmetric='reflected'"):
        network(equation(), channels=8, symmetric="turned", init="dct", grid=loom.Grid((1.0, 0.5)))


# --- bad input ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"channels": 0}, "channels=0"),
        ({"channels": 1}, "D has 2 components"),
        ({"channels": 3, "symmetric": True}, "even and odd"),
        ({"channels": 8, "size": 4}, "use 5"),
        ({"channels": 8, "size": 2.5}, "whole number"),
        ({"channels": 8, "init": "gabor"}, "gabor"),
        ({"channels": 8, "symmetric": "yes"}, "True or False, or \"reflected\", or \"turned\""),
        ({"channels": 12, "symmetric": "turned", "init": "dct"}, "8 images"),
        ({"channels": 8, "symmetric": "turned", "init": "derivatives"}, "use init='dct'"),
        ({"channels": 6, "symmetric": "reflected", "init": "dct"}, "a multiple of that"),
        ({"channels": 8, "symmetric": "reflected"}, "use init='dct'"),
        ({"channels": 8, "joint": True, "own_fluxes": True}, "one for all"),
        ({"channels": 8, "joint": "yes"}, "True or False, or \"learned\""),
        ({"channels": 8, "own_fluxes": "learned"}, "True or False$"),
        ({"channels": 10**6}, "from 1 to 4096"),
    ],
    ids=str,
)  # fmt: skip
def test_banks_that_cannot_be(options, words):
    with pytest.raises(DiscretisationError, match=words):
        network(equation(), **options)


def test_what_filters_cannot_serve():
    x, y = loom.coordinates("x y")
    u = loom.field("u", x, y)
    with pytest.raises(BoundaryError, match="Dirichlet"):
        network(equation(boundary=loom.Dirichlet(0)))
    with pytest.raises(SchemeError, match="mix axes"):
        network(equation(), loom.AOS(2, tau=1.0))
    with pytest.raises(SchemeError, match="every spacing"):
        network(equation(), loom.SemiImplicit(2, tau=1.0, solver=loom.Multigrid(2)))
    with pytest.raises(UnsupportedTermError, match="first derivative"):
        network(loom.PDE(Eq(loom.dt(u), loom.laplacian(u) + loom.d(u, x)), boundary=PERIODIC))
    with pytest.raises(UnsupportedTermError, match="no D"):
        network(loom.PDE(Eq(loom.dt(u), -u), boundary=PERIODIC))
    g = loom.diffusivity("perona-malik", LAM)
    skew = g(loom.d(u, x) ** 2 + 2 * loom.d(u, y) ** 2)
    with pytest.raises(UnsupportedTermError, match="one filter"):
        network(loom.PDE(Eq(loom.dt(u), loom.div(skew * loom.grad(u))), boundary=NO_FLUX))
    with pytest.raises(DiscretisationError, match="outside the flux"):
        network(
            loom.PDE(Eq(loom.dt(u), loom.div(g(loom.norm2(loom.grad(u))) * loom.grad(u)) - LAM * u), boundary=NO_FLUX),
            own_fluxes=True,
        )


def test_fluxes_of_their_own_have_to_be_trained():
    with pytest.raises(SchemeError, match="nothing of their own"):
        network(equation(), trainable=["stencil"], own_fluxes=True)


def test_numbers_of_numpy_are_numbers():
    assert loom.FilterBank(np.int64(4), np.int32(3)) == loom.FilterBank(4, 3)


def test_too_small_grids_are_refused():
    module = network(equation(), size=7).module()
    with pytest.raises(ValueError, match="fewer than 3"):
        module(torch.zeros(1, 1, 2, 9))
    with pytest.raises(ValueError, match=r"u has type torch\.float64, the filters have torch\.float32"):
        module(state())


def test_cosines_are_orthonormal():
    for size, d in ((3, 1), (5, 2), (3, 3)):
        basis = cosines(size, (None,) * d)
        assert abs(basis @ basis.T - np.eye(size**d)).max() < 1e-14


# --- filters of several fields ---------------------------------------------------------------------------------


def colours(count=3, boundary=NO_FLUX, reaction=False):
    """Colour diffusion: all channels of an image in one diffusivity."""
    axes = loom.coordinates("x y")
    fields = [loom.field(name, *axes) for name in ("red", "green", "blue", "near", "far", "warm")[:count]]
    g = loom.diffusivity("perona-malik", LAM)(sum(loom.norm2(loom.grad(u)) for u in fields))
    own = [BETA * (loom.data(f"f_{u.func}", *axes) - u) if reaction else 0 for u in fields]
    return loom.PDE(
        [Eq(loom.dt(u), loom.div(g * loom.grad(u)) + r) for u, r in zip(fields, own, strict=True)], boundary=boundary
    )


COLOURED = {
    "derivatives": {"channels": 9},
    "dct": {"init": "dct"},
    "symmetric dct": {"init": "dct", "symmetric": True},
    "orthonormal": {"init": "orthonormal", "joint": True},
    "own fluxes": {"init": "dct", "own_fluxes": True, "symmetric": True},
    "learned": {"init": "dct", "joint": "learned", "own_fluxes": True, "symmetric": True},
}


@pytest.mark.parametrize("boundary", [NO_FLUX, PERIODIC], ids=str)
@pytest.mark.parametrize("options", COLOURED)
def test_filters_of_a_colour_image(options, boundary):
    """The network is the reference, its transpose exact, its norm below the certified one, for shaken weights too."""
    net = network(
        colours(boundary=boundary), trainable=["stencil", "tau", LAM], size=3, **{"channels": 14, **COLOURED[options]}
    )
    u = state((2, 3, 7, 6), scale=0.2)
    expected = torch.from_numpy(net.reference(u.numpy()))
    torch.testing.assert_close(net.module(dtype=torch.float64)(u).detach(), expected, rtol=0, atol=1e-12)
    bank = net.compiled.system.banks[0]
    assert bank.inputs == 3 and bank.kernels.shape == (bank.channels, 3, 3, 3)
    columns = bank.apply(np.eye(126).reshape(126, 3, 7, 6), (7, 6)).reshape(126, -1).T
    rows = bank.adjoint(np.eye(len(columns)).reshape(-1, bank.channels, 7, 6), (7, 6)).reshape(len(columns), -1)
    np.testing.assert_allclose(rows, columns, atol=1e-12)
    norm, bound = np.linalg.norm(columns, 2) ** 2, bank.squared_norm()
    assert norm <= bound * (1 + 1e-9) and bound <= 8 * 1.003  # ‖K‖ ≤ ‖D‖
    module = shaken(net.module(dtype=torch.float64))
    for k in range(3):
        K = module.K(k).detach().double()
        ringed = torch.eye(126, dtype=torch.float64).reshape(126, 3, 7, 6)
        out = torch.nn.functional.conv2d(module.extend(ringed), K).reshape(126, -1)
        tight = float(torch.linalg.matrix_norm(out, 2)) ** 2
        certified = float(module.rho(k).detach())  # sup g = 1
        assert tight <= certified * (1 + 1e-9)
        if bank.symmetric or boundary == PERIODIC:
            assert certified <= 1.45 * tight  # a small grid does not reach the supremum over all
    assert module.certificate()["status"] == "proved"
    assert (module(u).flatten(1).norm(dim=1) <= u.flatten(1).norm(dim=1)).all()


def test_filters_of_many_fields_are_convolutions_as_they_stand():
    net = network(colours(ROWS), channels=12, size=3, scheme=loom.ForwardEuler(2))
    u = state((1, ROWS, 6, 5), scale=0.2)
    expected = torch.from_numpy(net.reference(u.numpy()))
    torch.testing.assert_close(net.module(dtype=torch.float64)(u).detach(), expected, rtol=0, atol=1e-12)
    assert "nn.functional.conv_transpose2d(" in net.source and "convolve" not in net.source


def test_colours_start_as_the_diffusion_they_replace_and_are_lifted():
    pde = colours(2)
    net = network(pde, channels=4, size=3, joint=True)
    plain = loom.compile(pde, scheme=loom.ForwardEuler(3, tau=net.stability.tau))
    u = state((1, 2, 8, 8), scale=1e-3)  # so small that g is 1, wherever it is taken
    torch.testing.assert_close(net.module(torch.float64)(u), plain.module(torch.float64)(u), rtol=0, atol=1e-7)
    red, green = loom.lift(net.module(torch.float64), order=1).equations[0]
    assert str(red.lhs.expr.func) == "red" and "green" in str(red.rhs) and "green" in str(green.rhs)


def test_a_colour_denoiser_with_data_trains_and_is_saved(tmp_path):
    options = {"size": 3, "init": "dct", "symmetric": True, "scheme": loom.ForwardEuler(1)}
    net = network(colours(reaction=True), trainable=["stencil", BETA, "tau"], **options)
    module, u = net.module(), state((1, 3, 6, 6), scale=0.2).float()
    data = {f"f_{name}": u[:, i : i + 1] for i, name in enumerate(("red", "green", "blue"))}
    module(u, **data).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())
    assert module.certificate()["status"] == "proved"
    again = loom.load(net.save(tmp_path, module)).module()
    torch.testing.assert_close(again(u, **data), module(u, **data), rtol=0, atol=1e-6)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(u, **data), module(u, **data), rtol=0, atol=1e-6)


def test_fields_of_different_laws_have_banks_of_their_own():
    x, y = loom.coordinates("x y")
    u, v = loom.field("u", x, y), loom.field("v", x, y)
    g = loom.diffusivity("perona-malik", LAM)
    first = Eq(loom.dt(u), loom.div(g(loom.norm2(loom.grad(u))) * loom.grad(u)) + v - u)
    net = network(
        loom.PDE([first, Eq(loom.dt(v), 2 * loom.laplacian(v))], boundary=NO_FLUX),
        unstable="allow",
        scheme=loom.ForwardEuler(2, tau=0.05),
    )
    assert [bank.inputs for bank in net.compiled.system.banks] == [1, 1]
    w = state((2, 2, 7, 6))
    expected = torch.from_numpy(net.reference(w.numpy()))
    torch.testing.assert_close(net.module(torch.float64)(w), expected, rtol=0, atol=1e-12)
    with pytest.raises(DiscretisationError, match="of which read one field"):
        network(colours(3), channels=5, size=3)

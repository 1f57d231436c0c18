"""Diffusion tensors, mixed derivatives, cross-diffusion and smoothed values."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from sympy import Eq

import pdeloom as loom
from pdeloom.compiler.parse import unparse

x, y = loom.coordinates("x y")
u, v = loom.field("u", x, y), loom.field("v", x, y)
g = loom.diffusivity("perona-malik", 0.1)
J = loom.structure_tensor(u, 0.5, 1)
BOUNDARIES = {"no-flux": loom.NoFlux(), "periodic": loom.Periodic(), "dirichlet": loom.Dirichlet(0)}
GRIDS = [("no-flux", "vertex"), ("periodic", "vertex"), ("dirichlet", "vertex"), ("dirichlet", "cell")]
T = loom.tensor("T", x, y, bounds=(0, 1))
TENSORS = {
    "edges and more": sp.Rational(1, 10) * sp.eye(2) + loom.edge_enhancing(J, g) / 2,
    "edges": loom.edge_enhancing(J, g),
    "coherence": loom.coherence_enhancing(J, 0.01),
    "constant": sp.Matrix([[2, 1], [1, 3]]),
    "given": T,
}
CROSS = [
    Eq(loom.dt(u), loom.laplacian(u) + loom.laplacian(v) / 2),
    Eq(loom.dt(v), loom.laplacian(u) / 2 + loom.laplacian(v)),
]


def anisotropic(D, **options):
    return loom.PDE(Eq(loom.dt(u), loom.div(D * loom.grad(u))), **options)


def rank_one(rng, shape):
    """w wᵀ at every node, |w| = 1: eigenvalues 0 and 1."""
    angle = rng.uniform(0, np.pi, (1, 1, *shape))
    c, s = np.cos(angle), np.sin(angle)
    return {"T_xx": c * c, "T_xy": c * s, "T_yy": s * s}


def data_for(name, rng, shape):
    return rank_one(rng, shape) if name == "given" else {}


def tensors(data):
    return {k: torch.tensor(a) for k, a in data.items()}


def compiled(pde, bc, centering="vertex", **options):
    return loom.compile(
        loom.PDE(pde, boundary=BOUNDARIES[bc]) if not isinstance(pde, loom.PDE) else pde,
        grid=loom.Grid(spacing=(1.0, 0.5), centering=centering),
        **{"scheme": loom.ForwardEuler(steps=3), **options},
    )


def matrix(net, shape, width=1, **data):
    """−f as a dense matrix."""
    n = width * shape[0] * shape[1]
    basis = np.eye(n).reshape(n, width, *shape)
    return -net.reference.rate(basis, **data).reshape(n, n).T


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize(("bc", "centering"), GRIDS)
def test_the_module_is_the_reference_and_norms_do_not_grow_at_the_bound(name, bc, centering):
    pde = anisotropic(TENSORS[name], boundary=BOUNDARIES[bc])
    rng = np.random.default_rng(0)
    shape = (14, 17)
    tau = compiled(pde, bc, centering).stability.tau_max
    net = compiled(pde, bc, centering, scheme=loom.ForwardEuler(steps=3, tau=tau))
    assert net.stability["norm decrease"].status == "proved"
    data = data_for(name, rng, shape)
    for scale in (1e-3, 0.3, 30.0):
        u0 = scale * rng.choice([-1.0, 1.0], (2, 1, *shape))
        new = net.module(dtype=torch.float64)(torch.tensor(u0), **tensors(data)).detach().numpy()
        assert abs(new - net.reference(u0, **data)).max() < 1e-12 * scale
        assert np.linalg.norm(new) <= np.linalg.norm(u0) * (1 + 1e-12)
    if name == "given":
        assert net.stability["nonexpansive"].status == net.stability["energy decrease"].status == "proved"


@pytest.mark.parametrize("name", ["constant", "given", "cross"])
@pytest.mark.parametrize(("bc", "centering"), GRIDS)
def test_the_operator_is_symmetric_within_its_bound_and_the_gradient_of_its_energy(name, bc, centering):
    shape, rng = (5, 6), np.random.default_rng(1)
    width = 2 if name == "cross" else 1
    pde = CROSS if name == "cross" else Eq(loom.dt(u), loom.div(TENSORS[name] * loom.grad(u)))
    net = compiled(pde, bc, centering)
    data = data_for(name, rng, shape)
    A = matrix(net, shape, width, **data)
    assert abs(A - A.T).max() < 1e-12
    values = np.linalg.eigvalsh(A)
    assert values[0] > -1e-12 and values[-1] <= 2 / net.stability.tau_max * (1 + 1e-12)
    module = net.module(dtype=torch.float64)
    state = torch.tensor(rng.standard_normal((1, width, *shape)), requires_grad=True)
    (slope,) = torch.autograd.grad(module.energy(state, **tensors(data)).sum(), state)
    f = net.reference.rate(state.detach().numpy(), **data)
    assert abs(slope.numpy() + 0.5 * f).max() < 1e-12  # the volume of a cell is ½


def test_the_bound_of_cross_diffusion_is_attained():
    """On a periodic axis of even length the fastest wave is the checkerboard."""
    cross = compiled(CROSS, "periodic")
    top = np.linalg.eigvalsh(matrix(cross, (6, 6), 2))[-1]
    assert top == pytest.approx(2 / cross.stability.tau_max, rel=1e-12)


@pytest.mark.parametrize("bc", BOUNDARIES)
def test_mixed_derivatives_are_of_order_two(bc):
    """f(u) against div(D∇u) in closed form, D of numbers and of data."""
    wave = {"no-flux": sp.cos, "dirichlet": sp.sin, "periodic": sp.cos}[bc]
    turn = 2 * sp.pi if bc == "periodic" else sp.pi
    shape_of_u = wave(turn * x) * wave(turn * y)
    a, b, c = 2 + sp.cos(turn * x), sp.sin(turn * x) * sp.sin(turn * y) / 2, 1 + sp.cos(turn * y) / 2
    errors = []
    for n in (16, 32, 64):
        h = 1 / (n + 1) if bc == "dirichlet" else 1 / n
        offset = {"no-flux": 0.5, "dirichlet": 1.0, "periodic": 0.0}[bc]
        nodes = np.meshgrid(*[(np.arange(n) + offset) * h] * 2, indexing="ij")
        given_T = loom.tensor("T", x, y, bounds=(0, 4))
        pde = loom.PDE(Eq(loom.dt(u), loom.div(given_T * loom.grad(u))), boundary=BOUNDARIES[bc])
        net = loom.compile(pde, grid=loom.Grid(spacing=h), scheme=loom.ForwardEuler(1))
        gradient = sp.Matrix([a * sp.diff(shape_of_u, x) + b * sp.diff(shape_of_u, y),
                              b * sp.diff(shape_of_u, x) + c * sp.diff(shape_of_u, y)])  # fmt: skip

        def sampled(e, nodes=nodes):
            return np.broadcast_to(sp.lambdify((x, y), e)(*nodes), nodes[0].shape)[None, None].copy()

        exact = sampled(sp.diff(gradient[0], x) + sp.diff(gradient[1], y))
        data = {"T_xx": sampled(a), "T_xy": sampled(b), "T_yy": sampled(c)}
        error = abs(net.reference.rate(sampled(shape_of_u), **data) - exact)[0, 0]
        if bc == "dirichlet":  # on a wall through nodes data have their edge value, which is of first order
            error = error[1:-1, 1:-1]
        errors.append(error.max())
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert (orders > 1.85).all(), (errors, orders)


def test_a_mixed_derivative_is_an_entry_of_a_tensor():
    mixed = compiled(Eq(loom.dt(u), loom.laplacian(u) + sp.Derivative(u, x, y)), "no-flux")
    tensor = compiled(
        Eq(loom.dt(u), loom.div(sp.Matrix([[1, sp.Rational(1, 2)], [sp.Rational(1, 2), 1]]) * loom.grad(u))), "no-flux"
    )
    A, B = (matrix(net, (5, 6)) for net in (mixed, tensor))
    assert abs(A - B).max() < 1e-14
    assert mixed.stability.tau_max == tensor.stability.tau_max


def test_the_rotated_gaussian():
    """An anisotropic Gaussian solves u_t = div(D∇u) on the plane; its covariance grows by 2tD."""
    D = np.array([[1.0, 0.6], [0.6, 0.5]])
    net = loom.compile(
        loom.PDE(Eq(loom.dt(u), loom.div(sp.Matrix(2, 2, [1, sp.Rational(3, 5), sp.Rational(3, 5), sp.Rational(1, 2)])
                                         * loom.grad(u))), boundary=loom.NoFlux()),
        grid=loom.Grid(spacing=0.125), scheme=loom.RungeKutta(order=4, steps=200, tau=0.0025),
    )  # fmt: skip
    n = 96
    points = np.stack(np.meshgrid(*[(np.arange(n) - n / 2 + 0.5) * 0.125] * 2, indexing="ij"), -1)

    def density(time):
        S = np.eye(2) * 0.5 + 2 * time * D
        return np.exp(-0.5 * np.einsum("...i,ij,...j", points, np.linalg.inv(S), points)) / np.sqrt(np.linalg.det(S))

    new = net.reference(density(0.0)[None, None])[0, 0]
    assert abs(new - density(0.5)).max() < 6e-3


def test_smoothed_values_are_gaussian_convolutions():
    """Against SciPy's reflecting filter, whose weights are not rounded to 2⁻¹⁶."""
    net = compiled(Eq(loom.dt(u), loom.laplacian(u) + loom.smooth(u, 1.5)), "no-flux", unstable="allow",
                   scheme=loom.ForwardEuler(1, tau=1e-3))  # fmt: skip
    plain = compiled(Eq(loom.dt(u), loom.laplacian(u)), "no-flux")
    u0 = np.random.default_rng(0).standard_normal((1, 1, 24, 21))
    found = net.reference.rate(u0) - plain.reference.rate(u0)
    expected = gaussian_filter(u0[0, 0], (1.5, 3.0), mode="reflect", radius=(5, 9))
    assert abs(found[0, 0] - expected).max() < 1e-4


def test_regularised_perona_malik_is_certified():
    """Catté, Lions, Morel, Coll, SIAM J. Numer. Anal. 29 (1992) 182–193: g reads the smoothed gradient."""
    pde = loom.PDE(
        Eq(loom.dt(u), loom.div(g(loom.norm2(loom.smooth(loom.grad(u), 1))) * loom.grad(u))), boundary=loom.NoFlux()
    )
    net = loom.compile(pde, scheme=loom.ForwardEuler(4))
    assert net.stability.tau_max == pytest.approx(0.25)
    assert net.stability["norm decrease"].status == "proved"
    assert net.stability["nonexpansive"].status == "unknown"
    u0 = np.random.default_rng(0).standard_normal((1, 1, 16, 16))
    out = net.module(dtype=torch.float64)(torch.tensor(u0)).numpy()
    assert abs(out - net.reference(u0)).max() < 1e-13


def test_edges_stay_while_noise_goes_and_lines_are_completed():
    """What the two are for. EED smooths along an edge and not across; CED closes gaps in lines."""
    rng = np.random.default_rng(0)
    step = np.where(np.arange(32)[:, None] + 0 * np.arange(32) < 16, 0.0, 1.0)
    noisy = step + 0.1 * rng.standard_normal(step.shape)
    net = loom.compile(
        anisotropic(loom.edge_enhancing(loom.structure_tensor(u, 1.5), loom.diffusivity("perona-malik", 0.03)),
                    boundary=loom.NoFlux()), scheme=loom.ForwardEuler(30))  # fmt: skip
    out = net.reference(noisy[None, None])[0, 0]
    flat = loom.compile(
        loom.PDE(Eq(loom.dt(u), loom.laplacian(u)), boundary=loom.NoFlux()), scheme=loom.ForwardEuler(30)
    ).reference(noisy[None, None])[0, 0]
    assert np.sqrt(((out - step) ** 2).mean()) < 0.05 < 0.1 < np.sqrt(((flat - step) ** 2).mean())
    lines = np.cos(np.pi * (np.arange(64)[:, None] + np.arange(64)) / 6)
    gap = lines.copy()
    gap[29:35, 29:35] = 0
    closing = loom.compile(
        anisotropic(loom.coherence_enhancing(loom.structure_tensor(u, 1, 5), 1e-6), boundary=loom.NoFlux()),
        scheme=loom.ForwardEuler(40),
    )
    closed = closing.reference(gap[None, None])[0, 0]
    before, after = (np.linalg.norm((a - lines)[29:35, 29:35]) for a in (gap, closed))
    assert after < 0.5 * before


@pytest.mark.parametrize(
    "scheme", [loom.SemiImplicit(2, tau=1.0), loom.FED(1, 5), loom.FSI(1, 4), loom.DuFortFrankel(4)]
)
def test_other_schemes_take_tensors(scheme):
    net = compiled(Eq(loom.dt(u), loom.div(TENSORS["edges"] * loom.grad(u))), "no-flux", scheme=scheme)
    u0 = np.random.default_rng(0).uniform(0, 1, (1, 1, 13, 14))
    out = net.module(dtype=torch.float64)(torch.tensor(u0)).detach().numpy()
    assert abs(out - net.reference(u0)).max() < 1e-8


def test_gradients_are_finite_where_nothing_varies():
    """A constant image has no direction; √0 must not make NaN."""
    for name in ("edges", "coherence"):
        net = compiled(Eq(loom.dt(u), loom.div(TENSORS[name] * loom.grad(u))), "no-flux")
        flat = torch.full((1, 1, 14, 14), 0.5, requires_grad=True)
        net.module()(flat).square().sum().backward()
        assert torch.isfinite(flat.grad).all()


def test_gradcheck():
    net = compiled(Eq(loom.dt(u), loom.div(TENSORS["edges"] * loom.grad(u))), "no-flux",
                   scheme=loom.ForwardEuler(1))  # fmt: skip
    state = torch.tensor(np.random.default_rng(0).standard_normal((1, 1, 10, 11)), requires_grad=True)
    assert torch.autograd.gradcheck(net.module(dtype=torch.float64), (state,))


def test_parameters_of_tensors_are_trained_within_their_certificate():
    lam = loom.parameter("lam", 0.1, positive=True)
    D = loom.edge_enhancing(loom.structure_tensor(u, 1), loom.diffusivity("perona-malik", lam))
    net = compiled(Eq(loom.dt(u), loom.div(D * loom.grad(u))), "no-flux", trainable=[lam, "tau"])
    module = net.module()
    with torch.no_grad():
        for p in module.parameters():
            p.add_(3 * torch.randn_like(p))
    assert module.certificate()["status"] == "proved"
    noise = torch.randn(2, 1, 14, 14)
    assert module(noise).norm() <= noise.norm() * (1 + 1e-6)


@settings(deadline=None, max_examples=10)
@given(st.lists(st.floats(-3, 3), min_size=3, max_size=3))
def test_constant_tensors_are_judged_by_their_eigenvalues(entries):
    a, b, c = map(sp.nsimplify, entries)
    M = np.array([[entries[0], entries[1]], [entries[1], entries[2]]])
    if 0 in (a, c):
        return
    pde = anisotropic(sp.Matrix([[a, b], [b, c]]), boundary=loom.Periodic())
    net = loom.compile(pde, scheme=loom.ForwardEuler(1, tau=1e-3), unstable="allow")
    low, high = np.linalg.eigvalsh(M)
    status = net.stability["norm decrease"].status
    if low > 1e-9:
        assert net.stability["norm decrease"].bound <= 2 / (4 * (entries[0] + entries[2])) * (1 + 1e-9)
        assert status == "proved" and high > 0
    if low < -1e-9:
        assert status != "proved"


def test_one_tensor_for_all_channels():
    D = loom.edge_enhancing(loom.structure_tensor(u, 1) + loom.structure_tensor(v, 1), g)
    pde = [Eq(loom.dt(w), loom.div(D * loom.grad(w))) for w in (u, v)]
    net = compiled(pde, "no-flux")
    assert net.stability["norm decrease"].status == "proved"
    u0 = np.random.default_rng(0).uniform(0, 1, (2, 2, 12, 13))
    out = net.module(dtype=torch.float64)(torch.tensor(u0)).detach().numpy()
    assert abs(out - net.reference(u0)).max() < 1e-13


def test_three_dimensions():
    z = loom.coordinates("x y z")[2]
    w = loom.field("w", x, y, z)
    D = loom.tensor("D", x, y, z, bounds=(0.5, 2))
    net = loom.compile(
        loom.PDE(Eq(loom.dt(w), loom.div(D * loom.grad(w))), boundary=loom.NoFlux()), scheme=loom.ForwardEuler(2)
    )
    assert 2 / net.stability.tau_max == pytest.approx(2 * 12)
    rng = np.random.default_rng(0)
    q = np.linalg.qr(rng.standard_normal((5, 6, 7, 3, 3)))[0]
    full = q @ (rng.uniform(0.5, 2, (5, 6, 7, 3, 1)) * np.swapaxes(q, -1, -2))
    data = {
        f"D_{a}{b}": full[None, None, ..., i, j] for i, a in enumerate("xyz") for j, b in enumerate("xyz") if i <= j
    }
    u0 = rng.standard_normal((1, 1, 5, 6, 7))
    out = net.module(dtype=torch.float64)(torch.tensor(u0), **tensors(data)).numpy()
    assert abs(out - net.reference(u0, **data)).max() < 1e-13


def test_cross_diffusion_between_fields():
    """Not symmetric, it has no norm; its von Neumann status is not claimed either, and a step has to be given."""
    one_sided = [Eq(loom.dt(u), loom.laplacian(u) + loom.laplacian(v)), Eq(loom.dt(v), loom.laplacian(v))]
    with pytest.raises(loom.UnstableSchemeError, match=r"not symmetric"):
        compiled(one_sided, "no-flux")
    net = compiled(one_sided, "no-flux", scheme=loom.ForwardEuler(2, tau=0.05))
    u0 = np.random.default_rng(0).standard_normal((1, 2, 7, 8))
    out = net.module(dtype=torch.float64)(torch.tensor(u0)).numpy()
    assert abs(out - net.reference(u0)).max() < 1e-13
    assert net.stability["norm decrease"].status != "proved"


def test_tensors_in_text():
    text = "dt(u) = div(coherence_enhancing(structure_tensor(u, 1, 2), 0.01) * grad(u))"
    options = {"coordinates": ["x", "y"], "fields": ["u"], "boundary": "no-flux"}
    read = loom.parse(text, **options)
    assert (
        read.equations
        == anisotropic(loom.coherence_enhancing(loom.structure_tensor(u, 1, 2), 0.01), boundary=loom.NoFlux()).equations
    )
    again = loom.parse(unparse(read.equations[0]), **options)
    assert again.equations == read.equations


def test_saved_and_loaded(tmp_path):
    net = compiled(Eq(loom.dt(u), loom.div(TENSORS["edges"] * loom.grad(u))), "no-flux")
    net.save(tmp_path / "net")
    noise = torch.rand(1, 1, 14, 14)
    assert torch.equal(loom.load(tmp_path / "net").module()(noise), net.module()(noise))
    given_net = compiled(Eq(loom.dt(u), loom.div(T * loom.grad(u))), "no-flux")
    given_net.save(tmp_path / "given")
    module = loom.load(tmp_path / "given").module()
    data = {k: torch.tensor(a).float() for k, a in rank_one(np.random.default_rng(0), (14, 14)).items()}
    assert torch.equal(module(noise, **data), given_net.module()(noise, **data))
    with pytest.raises(ValueError, match="eigenvalues of T leave"):
        module(noise, **{**data, "T_xy": -0.5 + 0 * data["T_xy"]})


def test_a_given_tensor_is_checked():
    net = compiled(Eq(loom.dt(u), loom.div(T * loom.grad(u))), "no-flux")
    data = rank_one(np.random.default_rng(0), (8, 8))
    bad = {**data, "T_xy": 0.5 * np.ones((1, 1, 8, 8)), "T_xx": 0.1 * np.ones((1, 1, 8, 8))}
    u0 = np.ones((1, 1, 8, 8))
    with pytest.raises(ValueError, match=r"the eigenvalues of T leave their declared bounds \[0, 1\]"):
        net.module(dtype=torch.float64)(torch.tensor(u0), **tensors(bad))
    with pytest.raises(loom.DataError, match="the eigenvalues of T leave"):
        net.reference(u0, **bad)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: loom.smooth(u, -1), loom.DeclarationError, "a number from 0 on"),
        (lambda: loom.smooth(u, "1"), loom.DeclarationError, "a number from 0 on"),
        (lambda: loom.structure_tensor(u**2), loom.DeclarationError, "must be a field"),
        (lambda: loom.edge_enhancing(sp.eye(3), g), loom.DeclarationError, "structure tensor of two dimensions"),
        (lambda: loom.coherence_enhancing(J, -1), loom.DeclarationError, "a positive number"),
        (lambda: loom.coherence_enhancing(J, 1, 2), loom.DeclarationError, "at most 1"),
        (lambda: loom.tensor("T", x, bounds=(0, 1)), loom.DeclarationError, "at least two coordinates"),
        (lambda: loom.tensor("T", x, y, bounds=(1, 0)), loom.DeclarationError, "lowest, highest"),
        (
            lambda: compiled(Eq(loom.dt(u), loom.d(loom.d(u, y) ** 3, x)), "no-flux"),
            loom.UnsupportedTermError,
            "may read fields, data and smooth",
        ),
        (
            lambda: compiled(anisotropic(T, boundary=loom.NoFlux()), "", space=loom.FiniteDifference(order=4)),
            loom.DiscretisationError,
            "have order 2, not 4",
        ),
        (
            lambda: compiled(anisotropic(T, boundary=loom.NoFlux()), "", space=loom.FilterBank(8, 3)),
            loom.UnsupportedTermError,
            "have no filters",
        ),
        (
            lambda: compiled(anisotropic(T, boundary=loom.Neumann(1)), ""),
            loom.BoundaryError,
            "beside Neumann and Robin",
        ),
        (
            lambda: compiled(anisotropic(T, boundary={x: (loom.Dirichlet(0), loom.Dirichlet(1)), y: loom.NoFlux()}), ""),
            loom.BoundaryError,
            "give all one value",
        ),
        (
            lambda: compiled(anisotropic(T, boundary=loom.NoFlux()), "", scheme=loom.AOS(1)),
            loom.SchemeError,
            "cannot be split along the axes",
        ),
        (
            lambda: compiled(anisotropic(T, boundary=loom.NoFlux()), "", trainable=["stencil"]),
            loom.SchemeError,
            "cannot be trained yet",
        ),
        (
            lambda: compiled(
                anisotropic(T, boundary=loom.NoFlux()), "", scheme=loom.BackwardEuler(1, solver=loom.Multigrid(4))
            ),
            loom.UnsupportedTermError,
            "under multigrid",
        ),
        (
            lambda: compiled(anisotropic(sp.Matrix([[1, 2], [2, 1]]), boundary=loom.NoFlux()), ""),
            loom.UnstableSchemeError,
            "negative value -1|refuted",
        ),
        (
            lambda: compiled(Eq(loom.dt(u), loom.laplacian(u) + loom.smooth(u, 1000)), "no-flux"),
            loom.DiscretisationError,
            "the limit is 128",
        ),
        (
            lambda: loom.compile(
                loom.PDE(Eq(loom.div(sp.Matrix([[2, 1], [1, 2]]) * loom.grad(u)), u), boundary=loom.NoFlux()),
                scheme=loom.Multigrid(4),
            ),
            loom.UnsupportedTermError,
            "steady problems cannot have",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()


# --- what a reviewer found ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "right",
    [
        loom.div(loom.smooth(loom.grad(u), 1)),
        loom.d(loom.smooth(u, 1), x),
        loom.laplacian(loom.smooth(u, 1)),
        loom.d(loom.d(loom.smooth(u, 1), y), x),
    ],
)
@pytest.mark.parametrize("space", [loom.FiniteDifference(), loom.FiniteVolume("upwind"), loom.FiniteVolume("rusanov")])
def test_the_derivative_of_a_smoothed_value_is_refused(right, space):
    """It was compiled as the derivative of u itself."""
    with pytest.raises(loom.UnsupportedTermError, match="derivative of a smoothed value"):
        compiled(Eq(loom.dt(u), right), "periodic", space=space, scheme=loom.ForwardEuler(1, tau=0.1))


INDEFINITE = {
    "mixed alone": Eq(loom.dt(u), loom.d(loom.d(u, y), x)),
    "crossed alone": [Eq(loom.dt(u), loom.laplacian(v)), Eq(loom.dt(v), loom.laplacian(u))],
    "other directions": [
        Eq(loom.dt(u), loom.d(u, x, 2) / 10 + loom.d(v, y, 2)),
        Eq(loom.dt(v), loom.d(v, x, 2) / 10 + loom.d(u, y, 2)),
    ],
    "with fourth order": Eq(loom.dt(u), -loom.d(u, x, 4) / 100 + loom.d(loom.d(u, y), x)),
    "indefinite": Eq(loom.dt(u), loom.div(sp.Matrix([[1, 2], [2, 1]]) * loom.grad(u))),
}


@pytest.mark.parametrize("scheme", [loom.ForwardEuler, loom.SemiImplicit, loom.BackwardEuler])
@pytest.mark.parametrize("name", INDEFINITE)
def test_the_energy_of_an_indefinite_tensor_falls_within_the_bound(name, scheme):
    """E = ½⟨Au, u⟩ for the dense A, on all eigenvectors, at the bound that is claimed."""
    width = 2 if isinstance(INDEFINITE[name], list) else 1
    net = compiled(INDEFINITE[name], "periodic", scheme=scheme(1, tau=1e-3), unstable="allow")
    A = matrix(net, (8, 8), width)
    values = np.linalg.eigvalsh(A)
    assert values[0] < -0.1
    bound = net.stability["energy decrease"].bound
    if bound is None:
        return
    tau = bound if np.isfinite(bound) else 10.0
    factors = 1 - tau * values if scheme is loom.ForwardEuler else 1 / (1 + tau * values)
    assert (values * factors**2 <= values + 1e-9).all()
    assert scheme is loom.ForwardEuler or np.isfinite(bound)


@pytest.mark.parametrize("amplitude", [1e-6, 1.0, 1e8, 1e15])
def test_no_amplitude_overflows(amplitude):
    for name in ("edges", "coherence"):
        net = compiled(Eq(loom.dt(u), loom.div(TENSORS[name] * loom.grad(u))), "no-flux")
        state = amplitude * torch.randn(1, 1, 14, 14, generator=torch.Generator().manual_seed(0))
        state.requires_grad_()
        out = net.module()(state)
        assert torch.isfinite(out).all() and out.norm() <= state.norm() * (1 + 1e-5)
        (out / amplitude).square().sum().backward()
        assert torch.isfinite(state.grad).all()


def test_narrow_and_large_bounds_hold_what_they_bound():
    for low, high, dtype in ((1, 1, torch.float64), (0.1, 0.1, torch.float32), (1000, 1000.1, torch.float32)):
        R = loom.tensor("R", x, y, bounds=(low, high))
        net = compiled(Eq(loom.dt(u), loom.div(R * loom.grad(u))), "no-flux")
        w = rank_one(np.random.default_rng(0), (8, 9))
        data = {
            "R_xx": low + (high - low) * w["T_xx"],
            "R_xy": (high - low) * w["T_xy"],
            "R_yy": low + (high - low) * w["T_yy"],
        }
        start = np.random.default_rng(1).standard_normal((1, 1, 8, 9))
        net.module(dtype=dtype)(
            torch.tensor(start).to(dtype), **{k: torch.tensor(a).to(dtype) for k, a in data.items()}
        )
        net.reference(start, **data)


def test_coefficients_that_read_coordinates():
    for D in (x**2 * T, sp.Matrix([[1, x], [x, 1]]), sp.exp(x / 10) * sp.eye(2) + sp.Matrix([[0, x], [x, 0]])):
        net = compiled(Eq(loom.dt(u), loom.div(D * loom.grad(u))), "no-flux", scheme=loom.ForwardEuler(1, tau=1e-3),
                       unstable="allow")  # fmt: skip
        data = rank_one(np.random.default_rng(0), (8, 9)) if net.compiled.problem.data else {}
        start = np.random.default_rng(1).standard_normal((1, 1, 8, 9))
        found = net.module(dtype=torch.float64)(torch.tensor(start), **tensors(data)).numpy()
        assert abs(found - net.reference(start, **data)).max() < 1e-12
        assert net.stability["norm decrease"].status != "proved"


def test_laws_of_tensors_are_functions_of_their_eigenvalues():
    for law in (u**2, loom.data("f", x, y), (1 + x**2) / (1 + sp.Symbol("mu1"))):
        with pytest.raises(loom.DeclarationError, match="functions of mu1, mu2 and parameters"):
            loom.edge_enhancing(J, law)
    options = {"coordinates": ["x", "y"], "fields": ["u"], "boundary": "no-flux"}
    pde = loom.parse("dt(u) = div(edge_enhancing(structure_tensor(u, 1), 1/(1 + mu2))*grad(u))", **options)
    with pytest.raises(loom.UnstableSchemeError, match="nothing is known of the eigenvalues"):
        loom.compile(pde, scheme=loom.ForwardEuler(1))
    loom.compile(pde, scheme=loom.ForwardEuler(1, tau=0.01), unstable="allow")
    with pytest.raises(loom.PdeloomError):
        loom.parse("dt(u) = tensor_entry(0, 1, mu1, u, u, u, u)", **options)
    constant = loom.parse("dt(u) = laplacian(u) + tensor_entry(0, 1, 1, 1, u, u, u)", **options)
    loom.compile(constant, scheme=loom.ForwardEuler(1, tau=0.01), unstable="allow")


def test_functions_of_a_given_tensor_are_searched_with_admissible_ones():
    for D in (T * T, loom.edge_enhancing(T, 1 / (1 + sp.Symbol("mu1", nonnegative=True)))):
        net = compiled(Eq(loom.dt(u), loom.div(D * loom.grad(u))), "no-flux", scheme=loom.ForwardEuler(1, tau=0.01),
                       unstable="allow")  # fmt: skip
        assert net.stability["norm decrease"].status != "refuted"


def test_a_zero_on_the_diagonal_is_symmetric():
    net = compiled(Eq(loom.dt(u), loom.div(sp.Matrix([[0, 1], [1, 1]]) * loom.grad(u))), "periodic",
                   scheme=loom.ForwardEuler(1, tau=0.01), unstable="allow")  # fmt: skip
    A = matrix(net, (6, 7))
    assert abs(A - A.T).max() < 1e-12 and "mirror" not in str(net.stability)


def test_the_variation_of_a_smoothed_density_is_refused():
    with pytest.raises(loom.UnsupportedTermError, match="smooth"):
        loom.gradient_flow(loom.smooth(u, 1) ** 2 / 2 + loom.norm2(loom.grad(u)) / 2, u)


@pytest.mark.parametrize("name", ["T12", "half", "cosine", "lam1", "smooth1", "s0", "product"])
def test_no_field_is_mistaken_for_what_a_step_finds(name):
    """Data that are called as the compiler calls its own values, against the same data under another name."""

    def rate(called):
        a = loom.data(called, x, y, bounds=(0.1, 1))
        D = loom.edge_enhancing(loom.structure_tensor(u, 0.5), g)
        right = loom.div(D * loom.grad(u)) + loom.smooth(a * loom.d(u, x), 1) * a + a * (1 - u)
        net = compiled(Eq(loom.dt(u), right), "no-flux", scheme=loom.ForwardEuler(1, tau=0.01), unstable="allow")
        rng = np.random.default_rng(0)
        start, given_a = rng.standard_normal((1, 1, 10, 12)), {called: rng.uniform(0.1, 1, (1, 1, 10, 12))}
        found = net.module(dtype=torch.float64)(torch.tensor(start), **tensors(given_a)).numpy()
        assert abs(found - net.reference(start, **given_a)).max() < 1e-12
        return found

    assert abs(rate(name) - rate("other")).max() < 1e-12
